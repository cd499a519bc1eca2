"""What each operation of torch is in a program.  A new one is one function here, under the names that torch gives it.

A function gets the recorder, the node (for sizes and places) and the node's arguments, tensors as
:class:`~scalecalc.trace.recorder.Traced`; it returns a traced tensor, or a list of them.  What it cannot do it refuses
(:class:`~scalecalc.trace.recorder.Refusal`), and an operation that is not here is refused by name: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scalecalc.program import Tensor
from scalecalc.trace.axes import axes_at, inserted, picked, resized
from scalecalc.trace.graph import Node, Varying
from scalecalc.trace.handlers import Handler, rules, torch_op
from scalecalc.trace.recorder import Axis, Block, Recorder, Refusal, Traced, number
from scalecalc.trace.sizes import Sizes

# ------------------------------------------------------------------ entry by entry

FUNCTIONS = {
    "relu.default": "relu", "tanh.default": "tanh", "sigmoid.default": "sigmoid", "silu.default": "silu",
    "neg.default": "negative", "abs.default": "absolute", "square.default": "square", "sign.default": "sign",
}  # fmt: skip


def applied(rec: Recorder, x: Traced, name: str) -> Traced:
    """A registered function of each entry."""
    rule = rules("elementwise").registry("rule")[name]
    function = rules("elementwise").activation(name)
    at_zero = float(rule.expression.subs(rules("elementwise").x, 0))

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        if block.tensor is None:
            return replace(rec.constant(at_zero), labels=block.labels)
        return Block(function(block.tensor), block.labels)

    return rec.each([x], make)


def _function(name: str) -> Handler:
    def handler(rec: Recorder, node: Node, x: Traced) -> Traced:
        return applied(rec, x, name)

    return handler


for _torch, _name in FUNCTIONS.items():
    torch_op(_torch)(_function(_name))


@torch_op("gelu.default")
def gelu(rec: Recorder, node: Node, x: Traced, approximate: str = "none") -> Traced:
    return applied(rec, x, "gelu" if approximate == "none" else "gelu_tanh")


@torch_op("softplus.default")
def softplus(rec: Recorder, node: Node, x: Traced, beta: float = 1, threshold: float = 20) -> Traced:
    if beta != 1:
        raise Refusal("softplus with another beta than 1")
    return applied(rec, x, "softplus")


@torch_op("exp.default")
def exp(rec: Recorder, node: Node, x: Traced) -> Traced:
    """An exponential; of a positive step times an exact vector it is the decay of a discretization."""

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        if block.tensor is None:
            return replace(rec.constant(1.0), labels=block.labels)
        sides = _step_and_transition(rec, block.tensor)
        if sides is None:
            return Block(rules("elementwise").exp(block.tensor), block.labels)
        return Block(rules("discretization").discretize("mamba", *sides)[0], block.labels)

    return rec.each([x], make)


POSITIVE = ("softplus", "sigmoid", "exp", "square", "absolute")


def _step_and_transition(rec: Recorder, tensor: Tensor) -> tuple[Tensor, Tensor] | None:
    """Δ and A where a tensor is Δ · A with a positive Δ and an exact A that varies along a growing axis."""
    program, op = rec.program, _past_renames(rec, tensor).op
    if op.rule != "contraction" or op.params["over"]:
        return None
    if _past_renames(rec, tensor).index != tensor.index:
        return None
    pairs = [[program.tensor(i) for i in order] for order in (op.inputs, op.inputs[::-1])]
    for step, transition in pairs:
        varies = transition.axes and program.grows(transition.axes[-1]) and _exact(rec, transition)
        if varies and _past_renames(rec, step).op.rule in POSITIVE and not _exact(rec, step):
            return step, transition
    return None


def _past_renames(rec: Recorder, tensor: Tensor) -> Tensor:
    while tensor.op.rule in ("rename", "view", "part"):
        tensor = rec.program.tensor(tensor.op.inputs[0])
    return tensor


def _exact(rec: Recorder, tensor: Tensor) -> bool:
    """Is it a function of nothing but exact vectors, one of which varies with the index?"""
    from scalecalc.asymptotics import n

    found = False
    stack = [tensor]
    while stack:
        op = stack.pop().op
        exact = op.params.get("expression", op.params.get("init"))
        if not op.inputs and exact is None:
            return False
        found |= exact is not None and exact.has(n)
        stack += [rec.program.tensor(i) for i in op.inputs]
    return found


# ------------------------------------------------------------------ sums and products


def operand(rec: Recorder, value: Any) -> Traced:
    """An argument as a tensor: it may be a number."""
    if isinstance(value, Traced):
        return value
    if isinstance(value, Varying | int | float):
        return Traced((), {(): rec.constant(value if isinstance(value, tuple) else float(value))})
    raise Refusal(f"an argument {value!r}")


@torch_op("add.Tensor", "add.Scalar")
def add(rec: Recorder, node: Node, x: Any, y: Any, alpha: float = 1) -> Traced:
    def make(blocks: Sequence[Block], labels: Any) -> Block:
        a, b = blocks
        if a.tensor is None or b.tensor is None:
            return Block((a if b.tensor is None else b).tensor, _either(a, b))
        return Block(a.tensor + b.tensor, labels)

    y = operand(rec, y)
    return rec.each([operand(rec, x), y if alpha == 1 else mul(rec, node, y, alpha)], make)


def _either(a: Block, b: Block) -> Any:
    return (a if b.tensor is None else b).labels


@torch_op("sub.Tensor", "sub.Scalar")
def sub(rec: Recorder, node: Node, x: Any, y: Any, alpha: float = 1) -> Traced:
    y = mul(rec, node, y, -1.0 * alpha) if not isinstance(y, Traced) or alpha != 1 else applied(rec, y, "negative")
    return add(rec, node, x, y)


@torch_op("rsub.Scalar", "rsub.Tensor")
def rsub(rec: Recorder, node: Node, x: Any, y: Any, alpha: float = 1) -> Traced:
    return sub(rec, node, y, x, alpha)


@torch_op("mul.Tensor", "mul.Scalar")
def mul(rec: Recorder, node: Node, x: Any, y: Any) -> Traced:
    if isinstance(x, Traced) and isinstance(y, Traced) and (found := _norm_of(rec, x, y)) is not None:
        return found

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        a, b = blocks
        if a.tensor is None or b.tensor is None:
            return Block(None, (None,) * len(labels))
        return Block(a.tensor * b.tensor, labels)

    return rec.each([operand(rec, x), operand(rec, y)], make)


@torch_op("div.Tensor", "div.Scalar")
def div(rec: Recorder, node: Node, x: Any, y: Any) -> Traced:
    if isinstance(y, Traced):
        raise Refusal("division by a tensor")
    inverse = Varying(1 / v for v in y) if isinstance(y, Varying) else 1 / float(y)
    return mul(rec, node, x, inverse)


@torch_op("pow.Tensor_Scalar")
def power(rec: Recorder, node: Node, x: Traced, exponent: float) -> Traced:
    if exponent != 2:
        raise Refusal(f"the power {exponent}; only squares have a rule")
    return applied(rec, x, "square")


@torch_op("linear.default")
def linear(rec: Recorder, node: Node, x: Traced, weight: Traced, bias: Traced | None = None) -> Traced:
    batch = "abcdefgh"[: len(x.axes) - 1]
    out = rec.contract((weight, x), ("oi", batch + "i"), batch + "o")
    return out if bias is None else add(rec, node, out, bias)


@torch_op("addmm.default")
def addmm(rec: Recorder, node: Node, bias: Traced, a: Traced, b: Traced) -> Traced:
    return add(rec, node, bias, matmul(rec, node, a, b))


@torch_op("matmul.default", "mm.default", "bmm.default", "mv.default", "dot.default")
def matmul(rec: Recorder, node: Node, a: Traced, b: Traced) -> Traced:
    left, right = "ij"[2 - len(a.axes) :] if len(a.axes) < 2 else "ij", "jk" if len(b.axes) > 1 else "j"
    batch_a, batch_b = max(len(a.axes) - 2, 0), max(len(b.axes) - 2, 0)
    batch = "abcdefgh"[: max(batch_a, batch_b)]
    first, second = batch[len(batch) - batch_a :] + left, batch[len(batch) - batch_b :] + right
    return rec.contract((a, b), (first, second), batch + left.replace("j", "") + right.replace("j", ""))


@torch_op("einsum.default")
def einsum(rec: Recorder, node: Node, equation: str, operands: Sequence[Traced], path: Any = None) -> Traced:
    sides, _, out = equation.replace(" ", "").partition("->")
    letters = sides.split(",")
    if "." in equation or len(letters) != 2 or not out and "->" not in equation:
        raise Refusal(f"the einsum {equation!r}: two operands, no ellipsis, and an explicit result are known")
    if any(len(set(own)) < len(own) for own in letters):
        raise Refusal(f"a diagonal in the einsum {equation!r}")
    a, b = operands
    return rec.contract((a, b), (letters[0], letters[1]), out)


def _kept(x: Traced, out: Traced, over: Sequence[int], settings: int) -> Traced:
    """The summed axes put back, of size one."""
    for k in sorted(over):
        out = inserted(out, k, settings)
    return out


@torch_op("sum.default", "sum.dim_IntList")
def total(rec: Recorder, node: Node, x: Traced, dims: Any = None, keepdim: bool = False, **more: Any) -> Traced:
    over = axes_at(x, dims)
    out = rec.summed(x, over)
    return _kept(x, out, over, len(rec.settings.all)) if keepdim else out


@torch_op("mean.default", "mean.dim")
def mean(rec: Recorder, node: Node, x: Traced, dims: Any = None, keepdim: bool = False, **more: Any) -> Traced:
    count = number([x.axes[k].size for k in axes_at(x, dims)], rec.settings)
    out = total(rec, node, x, dims, keepdim)
    return mul(rec, node, out, Varying(1 / c for c in count))


# ------------------------------------------------------------------ norms and attention


@torch_op("layer_norm.default")
def layer_norm(
    rec: Recorder, node: Node, x: Traced, shape: Sequence[Any], weight: Any = None, bias: Any = None,
    eps: float = 1e-5, cudnn: bool = True,
) -> Traced:  # fmt: skip
    return _normed(rec, node, x, shape, weight, bias, eps, centred=True)


@torch_op("rms_norm.default")
def rms_norm(
    rec: Recorder, node: Node, x: Traced, shape: Sequence[Any], weight: Any = None, eps: float | None = None
) -> Traced:
    return _normed(rec, node, x, shape, weight, None, 2.220446049250313e-16 if eps is None else eps, centred=False)


def _normed(
    rec: Recorder, node: Node, x: Traced, shape: Sequence[Any], weight: Any, bias: Any, eps: float, centred: bool
) -> Traced:
    label = _over(rec, x, len(x.axes) - 1, "a norm")
    if len(shape) != 1:
        raise Refusal("a norm over several axes")
    norm = rules("norm")

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        assert block.tensor is not None
        inner = norm.centre(block.tensor, label) if centred else block.tensor
        return Block(norm.rmsnorm(inner, label, eps), block.labels)

    out = rec.each([x], make)
    out = out if weight is None else mul(rec, node, out, weight)
    return out if bias is None else add(rec, node, out, bias)


def _over(rec: Recorder, x: Traced, axis: int, what: str) -> str:
    """The one label of an axis that something is normalised over."""
    labels = {b.labels[axis] for b in x.blocks.values()}
    if len(x.axes[axis].pieces) > 1:
        raise Refusal(f"{what} over an axis that is put together from pieces")
    if len(labels) != 1 or None in labels or any(b.tensor is None for b in x.blocks.values()):
        raise Refusal(f"{what} of a tensor that is the same everywhere along the axis")
    (label,) = labels
    assert label is not None
    return label


@torch_op("rsqrt.default")
def rsqrt(rec: Recorder, node: Node, x: Traced) -> Traced:
    """Of a mean square and an ε it is what a norm divides by; of anything else it has no rule."""
    source = _mean_square(rec, x)
    if source is None:
        raise Refusal("rsqrt of anything but the mean square over the last axis, with an ε")
    return replace(x, norm=source)


def _mean_square(rec: Recorder, x: Traced) -> tuple[Tensor, str, float] | None:
    """(y, axis, ε) where a tensor is mean(y²) + ε over one axis."""
    if len(x.blocks) != 1 or x.only.tensor is None:
        return None
    program, tensor, eps = rec.program, x.only.tensor, 0.0
    if tensor.op.rule == "add":
        constant = next((i for i in tensor.op.inputs if program.ops[i].rule == "index"), None)
        if constant is None or program.ops[constant].axes or "scale" in program.ops[constant].params:
            return None
        eps = float(program.ops[constant].params["expression"])
        (tensor,) = (program.tensor(i) for i in tensor.op.inputs if i != constant)
    if tensor.op.rule != "contraction" or tensor.op.params["over"]:
        return None
    total, by = (program.tensor(i) for i in tensor.op.inputs)
    if total.op.rule != "sum" or len(total.op.params["over"]) != 1 or by.op.rule != "index" or by.axes:
        return None
    square, label = program.tensor(total.op.inputs[0]), total.op.params["over"][0]
    size = rec.sizes[label]
    mean = rec.constants.get(_inverse(rec, size))
    if mean is None or mean.index != by.index or square.op.rule != "square" or square.op.params["order"]:
        return None
    return program.tensor(square.op.inputs[0]), label, eps


def _inverse(rec: Recorder, size: Sizes) -> Any:
    """What the constant 1/size is kept under."""
    form = rec.settings.form([1 / s for s in size])
    return None if form is None else (form.coefficient, form.powers)


def _norm_of(rec: Recorder, a: Traced, b: Traced) -> Traced | None:
    """x · rsqrt(mean(x²) + ε) as a norm of x; None if it is no such product."""
    for x, r in ((a, b), (b, a)):
        if r.norm is not None and len(x.blocks) == 1 and x.only.tensor is not None:
            y, label, eps = r.norm
            if x.only.tensor.index != y.index or label not in x.only.labels:
                raise Refusal("rsqrt of a mean square that multiplies anything else than what it is of")
            return Traced(x.axes, {(0,) * len(x.axes): Block(rules("norm").rmsnorm(y, label, eps), x.only.labels)})
    return None


@torch_op("softmax.int", "_softmax.default")
def softmax(rec: Recorder, node: Node, x: Traced, dim: int, dtype: Any = None) -> Traced:
    return _softmaxed(rec, x, dim % len(x.axes))


def _softmaxed(rec: Recorder, x: Traced, axis: int, causal: int | None = None) -> Traced:
    label = _over(rec, x, axis, "a softmax")
    rows = "" if causal is None else _over(rec, x, causal, "a causal softmax")
    if rows and (rec.program.grows(rows) or rec.program.grows(label)):
        raise Refusal("a causal softmax over a sequence that grows")

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        assert block.tensor is not None
        return Block(rules("softmax").softmax(block.tensor, label, rows), block.labels)

    return rec.each([x], make)


@torch_op("scaled_dot_product_attention.default")
def attention(
    rec: Recorder, node: Node, q: Traced, k: Traced, v: Traced, mask: Any = None, dropout: float = 0.0,
    causal: bool = False, scale: Any = None, enable_gqa: bool = False,
) -> Traced:  # fmt: skip
    if mask is not None or dropout or enable_gqa:
        raise Refusal("attention with a mask other than is_causal, with dropout or grouped heads")
    batch = "abcdefgh"[: len(q.axes) - 2]
    scores = rec.contract((q, k), (batch + "qd", batch + "kd"), batch + "qk")
    by = Varying(d**-0.5 for d in q.axes[-1].size) if scale is None else scale
    p = _softmaxed(rec, mul(rec, node, scores, by), len(batch) + 1, len(batch) if causal else None)
    return rec.contract((p, v), (batch + "qk", batch + "kd"), batch + "qd")


# ------------------------------------------------------------------ what changes no number


@torch_op(
    "clone.default", "contiguous.default", "alias.default", "lift_fresh_copy.default", "_to_copy.default",
    "to.dtype", "to.dtype_layout", "_assert_scalar.default", "type_as.default", "expand_as.default",
)  # fmt: skip
def same(rec: Recorder, node: Node, x: Traced, *others: Any, **more: Any) -> Traced:
    return resized(x, node.shapes[0]) if "expand" in node.target else x


@torch_op("dropout.default", "native_dropout.default", "dropout_.default")
def dropout(rec: Recorder, node: Node, x: Traced, p: float, train: bool) -> Traced:
    if p and train:
        raise Refusal(f"dropout with p = {p} in training mode, which is random: return module.eval(), or build it with p = 0")
    return x


@torch_op("zeros.default", "zeros_like.default", "new_zeros.default")
def zeros(rec: Recorder, node: Node, *others: Any, **more: Any) -> Traced:
    return _constant(rec, node, 0.0)


@torch_op("ones.default", "ones_like.default", "new_ones.default")
def ones(rec: Recorder, node: Node, *others: Any, **more: Any) -> Traced:
    return _constant(rec, node, 1.0)


@torch_op("full.default", "full_like.default")
def full(rec: Recorder, node: Node, shape: Any, value: Any, **more: Any) -> Traced:
    return _constant(rec, node, value)


def _constant(rec: Recorder, node: Node, value: Any) -> Traced:
    axes = tuple(Axis((size,)) for size in node.shapes[0])
    block = rec.constant(value if isinstance(value, tuple) else float(value))
    return Traced(axes, {(0,) * len(axes): Block(block.tensor, (None,) * len(axes))})


# ------------------------------------------------------------------ convolution


@torch_op("conv1d.default", "conv1d.padding")
def conv1d(
    rec: Recorder, node: Node, x: Traced, weight: Traced, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: Any = 1,
) -> Traced:  # fmt: skip
    """A convolution over a sequence of fixed length: windows of it, contracted with the taps."""
    first = [v[0] if isinstance(v, list) else v for v in (stride, padding, dilation)]
    if first[0] != 1 or first[2] != 1 or not isinstance(first[1], int):
        raise Refusal("a convolution with a stride, a dilation or a named padding")
    depthwise = weight.axes[1].one and not all(g == 1 for g in (groups if isinstance(groups, tuple) else (groups,)))
    channels = groups if isinstance(groups, tuple) else (groups,) * len(rec.settings.all)
    if depthwise and not tuple(map(int, channels)) == x.axes[1].size == weight.axes[0].size:
        raise Refusal("a convolution with groups of several channels")
    if not depthwise and any(g != 1 for g in channels):
        raise Refusal("a convolution with groups of several channels")
    wide = _windowed(rec, x, 2, node.shapes[0][2], weight.axes[2].size, first[1])
    if depthwise:
        out = rec.contract((picked(weight, [0, 2]), wide), ("ck", "bctk"), "bct")
    else:
        out = rec.contract((weight, wide), ("ock", "bctk"), "bot")
    return out if bias is None else add(rec, node, out, inserted(bias, 1, len(rec.settings.all)))


def _windowed(rec: Recorder, x: Traced, axis: int, steps: Sizes, taps: Sizes, before: int) -> Traced:
    if rec.grows(x.axes[axis].size) or len(x.axes[axis].pieces) > 1:
        raise Refusal("a convolution along an axis that grows, or that is put together from pieces")
    blocks: dict[tuple[int, ...], Block] = {}
    for index, block, sizes in rec.walk(x):
        own = rec.own(block, axis, sizes[axis])
        label = own.labels[axis]
        if own.tensor is None or label is None:
            raise Refusal("a convolution of zeros, or of a single step")
        out = rec.label(steps, own.labels)
        tap = rec.label(taps, [*own.labels, out])
        if out is None or tap is None:
            raise Refusal("a convolution with a single tap or result")
        tensor = rules("view").windows(own.tensor, label, out, tap, before)
        blocks[(*index, 0)] = Block(tensor, (*own.labels[:axis], out, *own.labels[axis + 1 :], tap))
    return Traced((*x.axes[:axis], Axis((steps,)), *x.axes[axis + 1 :], Axis((taps,))), blocks)

