"""What each operation of torch is in a program.  A new one is one function here, under the names that torch gives it.

A function gets the recorder, the node (for sizes and places) and the node's arguments, tensors as
:class:`~scalecalc.trace.recorder.Traced`; it returns a traced tensor, or a list of them.  What it cannot do it refuses
(:class:`~scalecalc.trace.recorder.Refusal`), and an operation that is not here is refused by name: nothing is guessed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from scalecalc.program import Tensor
from scalecalc.trace.graph import Node, Varying
from scalecalc.trace.recorder import Axis, Block, Recorder, Refusal, Traced, number
from scalecalc.trace.sizes import Sizes, minus, plus, times

Handler = Callable[..., Any]
TABLE: dict[str, Handler] = {}


def torch_op(*names: str) -> Callable[[Handler], Handler]:
    """Register what torch calls ``aten.NAME``."""

    def decorate(function: Handler) -> Handler:
        TABLE.update({name if "." not in name or name == "getitem" else f"aten.{name}": function for name in names})
        return function

    return decorate


def rules(module: str) -> Any:
    """A module of rules; by its name, since in a checkout the folder is mounted while running."""
    return importlib.import_module(f"scalecalc.rules.{module}")


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


def _axes(x: Traced, dims: Any) -> list[int]:
    if dims is None or dims == []:
        return list(range(len(x.axes)))
    return [d % len(x.axes) for d in (dims if isinstance(dims, list) else [dims])]


def _kept(x: Traced, out: Traced, over: Sequence[int], settings: int) -> Traced:
    """The summed axes put back, of size one."""
    for k in sorted(over):
        out = _inserted(out, k, settings)
    return out


@torch_op("sum.default", "sum.dim_IntList")
def total(rec: Recorder, node: Node, x: Traced, dims: Any = None, keepdim: bool = False, **more: Any) -> Traced:
    over = _axes(x, dims)
    out = rec.summed(x, over)
    return _kept(x, out, over, len(rec.settings.all)) if keepdim else out


@torch_op("mean.default", "mean.dim")
def mean(rec: Recorder, node: Node, x: Traced, dims: Any = None, keepdim: bool = False, **more: Any) -> Traced:
    count = number([x.axes[k].size for k in _axes(x, dims)], rec.settings)
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
    return _resized(x, node.shapes[0]) if "expand" in node.target else x


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


# ------------------------------------------------------------------ the order and number of axes


def _picked(x: Traced, order: Sequence[int]) -> Traced:
    return Traced(
        tuple(x.axes[k] for k in order),
        {
            tuple(index[k] for k in order): Block(b.tensor, tuple(b.labels[k] for k in order))
            for index, b in x.blocks.items()
        },
    )


def _inserted(x: Traced, at: int, settings: int) -> Traced:
    one = Axis((tuple(1 for _ in range(settings)),))
    return Traced(
        (*x.axes[:at], one, *x.axes[at:]),
        {
            (*i[:at], 0, *i[at:]): Block(b.tensor, (*b.labels[:at], None, *b.labels[at:]))
            for i, b in x.blocks.items()
        },
    )


@torch_op("permute.default")
def permute(rec: Recorder, node: Node, x: Traced, order: Sequence[int]) -> Traced:
    return _picked(x, [k % len(x.axes) for k in order])


@torch_op("transpose.int")
def transpose(rec: Recorder, node: Node, x: Traced, a: int, b: int) -> Traced:
    order = list(range(len(x.axes)))
    a, b = a % len(order), b % len(order)
    order[a], order[b] = b, a
    return _picked(x, order)


@torch_op("t.default", "numpy_T.default", "mT.default", "adjoint.default")
def flipped(rec: Recorder, node: Node, x: Traced) -> Traced:
    return x if len(x.axes) < 2 else transpose(rec, node, x, -2, -1)


@torch_op("unsqueeze.default")
def unsqueeze(rec: Recorder, node: Node, x: Traced, dim: int) -> Traced:
    return _inserted(x, dim % (len(x.axes) + 1), len(rec.settings.all))


@torch_op("squeeze.default", "squeeze.dim", "squeeze.dims")
def squeeze(rec: Recorder, node: Node, x: Traced, dims: Any = None) -> Traced:
    return _picked(x, [k for k in range(len(x.axes)) if k not in _axes(x, dims) or not x.axes[k].one])


def _resized(x: Traced, sizes: Sequence[Sizes]) -> Traced:
    """Repeated along axes of size one, and along new ones in front."""
    for _ in range(len(sizes) - len(x.axes)):
        x = _inserted(x, 0, len(sizes[0]))
    axes = tuple(Axis((size,)) if a.one else a for a, size in zip(x.axes, sizes, strict=True))
    return Traced(axes, x.blocks)


@torch_op("expand.default", "broadcast_to.default")
def expand(rec: Recorder, node: Node, x: Traced, *others: Any, **more: Any) -> Traced:
    return _resized(x, node.shapes[0])


# ------------------------------------------------------------------ pieces


def sliced(rec: Recorder, x: Traced, axis: int, start: Sizes, stop: Sizes) -> Traced:
    """A contiguous piece of an axis."""
    own = x.axes[axis]
    whole = not any(start) and stop == own.size
    if whole:
        return x
    parameters = any(o.leaf in rec.parameters for o in own.origins)
    if len(own.pieces) == 1 and not rec.grows(own.size) and not parameters:
        blocks = {i: rec.part(b, axis, start, stop) for i, b in x.blocks.items()}
        return Traced((*x.axes[:axis], own.moved(start, (minus(stop, start),)), *x.axes[axis + 1 :]), blocks)
    x = rec.refined(x, axis, [start, stop])
    own = x.axes[axis]
    begins = [tuple(0 for _ in own.size), *own.cuts]
    inside = [k for k, (b, p) in enumerate(zip(begins, own.pieces, strict=True)) if b >= start and plus(b, p) <= stop]
    axes = (*x.axes[:axis], own.moved(start, tuple(own.pieces[k] for k in inside)), *x.axes[axis + 1 :])
    blocks = {
        (*i[:axis], inside.index(i[axis]), *i[axis + 1 :]): b for i, b in x.blocks.items() if i[axis] in inside
    }
    return Traced(axes, blocks)


def _position(value: Any, size: Sizes) -> Sizes:
    values = value if isinstance(value, tuple) else (value,) * len(size)
    return tuple(int(min(max(v + s if v < 0 else v, 0), s)) for v, s in zip(values, size, strict=True))


@torch_op("slice.Tensor")
def slice_(
    rec: Recorder, node: Node, x: Traced, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Traced:
    axis = dim % len(x.axes)
    size = x.axes[axis].size
    first = _position(0 if start is None else start, size)
    last = size if end is None else _position(end, size)
    if step != 1 and (first, last) != (size, size):
        raise Refusal("a slice with a step")
    return sliced(rec, x, axis, first, last)


@torch_op("narrow.default")
def narrow(rec: Recorder, node: Node, x: Traced, dim: int, start: Any, length: Any) -> Traced:
    axis = dim % len(x.axes)
    first = _position(start, x.axes[axis].size)
    lengths = length if isinstance(length, tuple) else (length,) * len(first)
    return sliced(rec, x, axis, first, plus(first, tuple(map(int, lengths))))


@torch_op("select.int")
def select(rec: Recorder, node: Node, x: Traced, dim: int, index: Any) -> Traced:
    axis = dim % len(x.axes)
    size = x.axes[axis].size
    indices = index if isinstance(index, tuple) else (index,) * len(size)
    first = tuple(int(i + s if i < 0 else i) for i, s in zip(indices, size, strict=True))
    one = sliced(rec, x, axis, first, tuple(i + 1 for i in first))
    return _picked(one, [k for k in range(len(x.axes)) if k != axis])


@torch_op("split.Tensor", "chunk.default", "unsafe_split.Tensor")
@torch_op("split_with_sizes.default", "tensor_split.sections")
def split(rec: Recorder, node: Node, x: Traced, sizes: Any, dim: int = 0) -> list[Traced]:
    axis = dim % len(x.axes)
    start, out = tuple(0 for _ in rec.settings.all), list[Traced]()
    for shape in node.shapes:
        stop = plus(start, shape[axis])
        out.append(sliced(rec, x, axis, start, stop))
        start = stop
    return out


@torch_op("unbind.int")
def unbind(rec: Recorder, node: Node, x: Traced, dim: int = 0) -> list[Traced]:
    return [select(rec, node, x, dim % len(x.axes), i) for i in range(len(node.shapes))]


@torch_op("getitem")
def getitem(rec: Recorder, node: Node, x: Sequence[Traced], index: int) -> Traced:
    return x[index]


@torch_op("cat.default")
def cat(rec: Recorder, node: Node, xs: Sequence[Traced], dim: int = 0) -> Traced:
    xs = [x for x in xs if len(x.axes) > 1 or any(x.axes[0].size)]
    axis = dim % len(xs[0].axes)
    wide = list(xs)
    for k in range(len(xs[0].axes)):
        cuts = sorted({c for x in wide for c in x.axes[k].cuts})
        if k != axis and cuts:
            wide = [rec.refined(x, k, cuts) for x in wide]
    pieces = tuple(p for x in wide for p in x.axes[axis].pieces)
    blocks: dict[tuple[int, ...], Block] = {}
    before = 0
    for x in wide:
        blocks.update({(*i[:axis], before + i[axis], *i[axis + 1 :]): b for i, b in x.blocks.items()})
        before += len(x.axes[axis].pieces)
    axes = (*wide[0].axes[:axis], Axis(pieces), *wide[0].axes[axis + 1 :])
    out = Traced(axes, blocks)
    return out if rec.grows(Axis(pieces).size) else _in_one(rec, out, axis)


def _in_one(rec: Recorder, x: Traced, axis: int) -> Traced:
    """The pieces of a fixed axis put into one tensor."""
    own = x.axes[axis]
    padded = rules("view").padded
    starts = [tuple(0 for _ in own.size), *own.cuts]
    parts: dict[tuple[int, ...], list[Block]] = {}
    for index, block in x.blocks.items():
        found = block
        if block.tensor is not None:
            label = rec.label(own.size, [name for k, name in enumerate(block.labels) if k != axis])
            assert label is not None
            was = block.labels[axis]
            if was is None and any(s != 1 for s in own.pieces[index[axis]]):
                block = rec.own(block, axis, own.pieces[index[axis]])
                was = block.labels[axis]
            assert block.tensor is not None
            if was == label:
                spare = rec.label(own.pieces[index[axis]], [*block.labels, label])
                block = rec.renamed(block, (*block.labels[:axis], spare, *block.labels[axis + 1 :]))
                was = spare
                assert block.tensor is not None
            order = (*(a for a in block.tensor.axes if a != was), label)
            tensor = padded(block.tensor, was or "", label, starts[index[axis]][0], order)
            found = Block(tensor, (*block.labels[:axis], label, *block.labels[axis + 1 :]))
        parts.setdefault((*index[:axis], 0, *index[axis + 1 :]), []).append(found)
    axes = (*x.axes[:axis], Axis((own.size,)), *x.axes[axis + 1 :])
    return Traced(
        axes, {i: rec.added(own_, [a.pieces[j] for a, j in zip(axes, i, strict=True)]) for i, own_ in parts.items()}
    )


@torch_op("stack.default")
def stack(rec: Recorder, node: Node, xs: Sequence[Traced], dim: int = 0) -> Traced:
    axis = dim % (len(xs[0].axes) + 1)
    return cat(rec, node, [_inserted(x, axis, len(rec.settings.all)) for x in xs], axis)


# ------------------------------------------------------------------ axes split and merged


@torch_op("view.default", "reshape.default", "_unsafe_view.default", "unflatten.int", "flatten.using_ints")
def view(rec: Recorder, node: Node, x: Traced, *others: Any) -> Traced:
    """Axes split and merged, group by group: as few adjacent axes as have the same number of entries before and after."""
    out = x
    at = 0  # the axis of ``out`` that comes next
    for before, after in _groups(x.sizes, node.shapes[0]):
        width = len(before)
        if before == after:
            at += width
            continue
        out = _regrouped(rec, out, at, width, after)
        at += len(after)
    return out


def _groups(before: Sequence[Sizes], after: Sequence[Sizes]) -> list[tuple[list[Sizes], list[Sizes]]]:
    out: list[tuple[list[Sizes], list[Sizes]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = list(before[i : i + 1]), list(after[j : j + 1])
        i, j = i + len(left), j + len(right)
        if (not left or not right) and all(s == 1 for own in (left, right) for size in own for s in size):
            out.append((left, right))
            continue
        if left and right and left != right:  # an axis of size one stands alone
            if all(s == 1 for s in left[0]):
                out.append((left, []))
                j -= 1
                continue
            if all(s == 1 for s in right[0]):
                out.append(([], right))
                i -= 1
                continue
        while times(*left) != times(*right):
            if min(times(*left), times(*right)) == times(*left) and i < len(before):
                left.append(before[i])
                i += 1
            elif j < len(after):
                right.append(after[j])
                j += 1
            else:
                raise Refusal("a reshape that does not split or merge axes in the same way at all widths")
        out.append((left, right))
    return out


def _regrouped(rec: Recorder, x: Traced, at: int, width: int, after: Sequence[Sizes]) -> Traced:
    """``width`` axes from position ``at`` on become axes of the sizes ``after``."""
    own = x.axes[at : at + width]
    one = tuple(1 for _ in rec.settings.all)
    if not after or not width:
        new = tuple(Axis((size,)) for size in after)
        head = [(*i[:at], *(0 for _ in after), *i[at + width :]) for i in x.blocks]
        blocks = [
            Block(b.tensor, (*b.labels[:at], *(None for _ in after), *b.labels[at + width :])) for b in x.blocks.values()
        ]
        return Traced((*x.axes[:at], *new, *x.axes[at + width :]), dict(zip(head, blocks, strict=True)))
    if any(len(a.pieces) > 1 for a in own[1:]) or (len(own) > 1 and len(after) > 1 and len(own[0].pieces) > 1):
        raise Refusal("a reshape of an axis that is put together from pieces")
    rest = times(one, *after[1:]) if len(own) == 1 else one
    inner = times(one, *(a.size for a in own[1:])) if len(after) == 1 else one
    if len(own) == 1:  # split: pieces of the axis are pieces of its first part
        if any(p % r for piece in own[0].pieces for p, r in zip(piece, rest, strict=True)):
            raise Refusal("a reshape of an axis that is put together from pieces")
        pieces = tuple(tuple(p // r for p, r in zip(piece, rest, strict=True)) for piece in own[0].pieces)
        new = (own[0].scaled(rest, pieces, up=True), *(Axis((size,)) for size in after[1:]))
    elif len(after) == 1:
        new = (own[0].scaled(inner, tuple(times(p, inner) for p in own[0].pieces), up=False),)
    else:
        new = tuple(Axis((size,)) for size in after)
    blocks: dict[tuple[int, ...], Block] = {}
    for index, block, sizes in rec.walk(x):
        k = index[at]
        wanted = [a.pieces[k if n == 0 and len(a.pieces) > 1 else 0] for n, a in enumerate(new)]
        place = (*index[:at], k if len(new[0].pieces) > 1 else 0, *(0 for _ in new[1:]), *index[at + width :])
        blocks[place] = _reshaped(rec, block, at, sizes[at : at + width], wanted)
    return Traced((*x.axes[:at], *new, *x.axes[at + width :]), blocks)


def _reshaped(rec: Recorder, block: Block, at: int, before: Sequence[Sizes], after: Sequence[Sizes]) -> Block:
    head, tail = block.labels[:at], block.labels[at + len(before) :]
    group = block.labels[at : at + len(before)]
    if block.tensor is None or all(label is None for label in group):
        return Block(block.tensor, (*head, *(None for _ in after), *tail))
    for k, size in enumerate(before):
        block = rec.own(block, at + k, size)
    group = [label for label in block.labels[at : at + len(before)] if label is not None]
    wide = [size for size in after if any(s != 1 for s in size)]
    if len(group) == 1 and wide == [rec.sizes[group[0]]]:
        left = iter(group)
        return Block(block.tensor, (*head, *(next(left) if any(s != 1 for s in z) else None for z in after), *tail))
    growing = [sum(map(rec.grows, own)) for own in ([rec.sizes[label] for label in group], after)]
    if growing[0] != growing[1] or growing[0] > 1:
        raise Refusal(
            "a reshape between one growing axis and several; of an axis that is split one part has to be fixed "
            "(hold the number of heads or the size of a head with --fix)"
        )
    labels: list[str | None] = []
    used = [*head, *tail, *group]
    for size in after:
        labels.append(rec.label(size, [*used, *labels]))
    assert block.tensor is not None
    tensor = rules("view").view(block.tensor, group, [label for label in labels if label is not None])
    return Block(tensor, (*head, *labels, *tail))


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
        out = rec.contract((_picked(weight, [0, 2]), wide), ("ck", "bctk"), "bct")
    else:
        out = rec.contract((weight, wide), ("ock", "bctk"), "bot")
    return out if bias is None else add(rec, node, out, _inserted(bias, 1, len(rec.settings.all)))


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

