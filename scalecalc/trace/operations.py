"""What each operation of torch is in a program.  A new one is one function here, under the names that torch gives it.

A function gets the recorder, the node (for sizes and places) and the node's arguments, tensors as
:class:`~scalecalc.trace.recorder.Traced`; it returns a traced tensor, or a list of them.  What it cannot do it refuses
(:class:`~scalecalc.trace.recorder.Refusal`), and an operation that is not here is refused by name: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from scalecalc.program import Tensor
from scalecalc.trace.axes import axes_at, inserted, picked, resized, sliced
from scalecalc.trace.constants import Constant, traced
from scalecalc.trace.graph import Node, Varying
from scalecalc.trace.handlers import Handler, rules, torch_op
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.signs import HUGE, alike, constant_of, decays_by, less_maximum
from scalecalc.trace.traced import Axis, Block, Refusal, Traced, number

# ------------------------------------------------------------------ entry by entry

FUNCTIONS = {
    "relu.default": "relu", "tanh.default": "tanh", "sigmoid.default": "sigmoid", "silu.default": "silu",
    "neg.default": "negative", "abs.default": "absolute", "square.default": "square", "sign.default": "sign",
    "cos.default": "cos", "sin.default": "sin", "erf.default": "erf", "log_sigmoid.default": "log_sigmoid",
    "expm1.default": "expm1", "sinh.default": "sinh", "cosh.default": "cosh", "atan.default": "atan",
}  # fmt: skip


def applied(rec: Recorder, x: Traced, name: str) -> Traced:
    """A registered function of each entry."""
    rule = rules("elementwise").registry("rule")[name]
    function = rules("elementwise").activation(name)
    return entry_by_entry(rec, x, function, float(rule.expression.subs(rules("elementwise").x, 0)))


def entry_by_entry(rec: Recorder, x: Traced, function: Callable[[Tensor], Tensor], at_zero: float) -> Traced:
    """A function of each entry, and its value where there is nothing."""

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


@torch_op("leaky_relu.default")
def leaky_relu(rec: Recorder, node: Node, x: Traced, slope: float = 0.01) -> Traced:
    rules("elementwise").leaky_relu(slope)
    return applied(rec, x, f"leaky_relu({slope:g})")


@torch_op("elu.default")
def elu(rec: Recorder, node: Node, x: Traced, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Traced:
    if input_scale != 1:
        raise Refusal("an elu with a scale of its input")
    rules("elementwise").elu(alpha)
    out = applied(rec, x, f"elu({alpha:g})")
    return out if scale == 1 else mul(rec, node, out, scale)


SELU = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017, arXiv 1706.02515, eq. 14
SELU_MEAN = "selu's mean vanishes where its argument is standard normal; what is derived from it is an upper bound there."


@torch_op("selu.default")
def selu(rec: Recorder, node: Node, x: Traced) -> Traced:
    if SELU_MEAN not in rec.program.remarks:
        rec.program.remarks.append(SELU_MEAN)
    return elu(rec, node, x, *SELU)


@torch_op("celu.default")
def celu(rec: Recorder, node: Node, x: Traced, alpha: float = 1) -> Traced:
    rules("elementwise").celu(alpha)
    return applied(rec, x, f"celu({alpha:g})")


@torch_op("glu.default")
def glu(rec: Recorder, node: Node, x: Traced, dim: int = -1) -> Traced:
    axis = dim % len(x.axes)
    size = x.axes[axis].size
    half = tuple(s // 2 for s in size)
    value, gate = sliced(rec, x, axis, tuple(0 for _ in size), half), sliced(rec, x, axis, half, size)
    return mul(rec, node, value, applied(rec, gate, "sigmoid"))


@torch_op("softplus.default")
def softplus(rec: Recorder, node: Node, x: Traced, beta: float = 1, threshold: float = 20) -> Traced:
    if beta == 1:
        return applied(rec, x, "softplus")
    return mul(rec, node, applied(rec, mul(rec, node, x, beta), "softplus"), 1 / beta)


@torch_op("exp.default")
def exp(rec: Recorder, node: Node, x: Traced) -> Traced:
    """An exponential, of −∞ zero; of what is never positive, and of a positive step times an exact vector, it is a decay."""

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        if block.tensor is None:
            return replace(rec.constant(1.0), labels=block.labels)
        if (number := constant_of(rec, block)) is not None and number <= -HUGE:
            return Block(None, block.labels)
        sides = _step_and_transition(rec, block.tensor)
        if sides is not None:
            return Block(rules("discretization").discretize("mamba", *sides)[0], block.labels)
        by = decays_by(rec, block, x.keep)
        found = rules("elementwise").exp(block.tensor) if by is None else rules("positive").decay(by)
        return Block(found, block.labels)

    whole = rec.each([replace(x, keep=None)], make)
    if x.keep is None:
        return whole
    return mul(rec, node, whole, traced(rec, Constant(tuple(x.keep.double() for _ in rec.settings.all))))


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
        varies = transition.axes and program.grows(transition.axes[-1]) and exact(rec, transition)
        if varies and _past_renames(rec, step).op.rule in POSITIVE and not exact(rec, step):
            return step, transition
    return None


def _past_renames(rec: Recorder, tensor: Tensor) -> Tensor:
    while tensor.op.rule in ("rename", "view", "part"):
        tensor = rec.program.tensor(tensor.op.inputs[0])
    return tensor


def exact(rec: Recorder, tensor: Tensor) -> bool:
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


@torch_op("add.Tensor", "add.Scalar", raw=True)
def add(rec: Recorder, node: Node, x: Any, y: Any, alpha: float = 1) -> Traced:
    from scalecalc.trace.attention import added, barred

    for one, other in ((x, y), (y, x)):
        if isinstance(other, Constant) and barred(other) and alpha == 1:
            return added(rec, node, traced(rec, one), other)
    x, y = traced(rec, x), traced(rec, y)

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        a, b = blocks
        if a.tensor is None or b.tensor is None:
            return Block((a if b.tensor is None else b).tensor, _either(a, b))
        for one in (a, b):
            if (found := constant_of(rec, one)) is not None and abs(found) >= HUGE:
                return Block(one.tensor, (None,) * len(labels))
        return Block(a.tensor + b.tensor, labels)

    x, y = operand(rec, x), operand(rec, y)
    keep = next((v.keep for v in (x, y) if v.keep is not None), None)
    return replace(rec.each([x, y if alpha == 1 else mul(rec, node, y, alpha)], make), keep=keep)


def _either(a: Block, b: Block) -> Any:
    return (a if b.tensor is None else b).labels


@torch_op("sub.Tensor", "sub.Scalar")
def sub(rec: Recorder, node: Node, x: Any, y: Any, alpha: float = 1) -> Traced:
    from scalecalc.trace.normalisation import centred

    if alpha == 1 and (found := centred(rec, x, y)) is not None:
        return found
    if alpha == 1 and isinstance(x, Traced) and isinstance(y, Traced) and (found := _from_maximum(rec, x, y)) is not None:
        return found
    y = mul(rec, node, y, -1.0 * alpha) if not isinstance(y, Traced) or alpha != 1 else applied(rec, y, "negative")
    return add(rec, node, x, y)


def _from_maximum(rec: Recorder, x: Traced, y: Traced) -> Traced | None:
    """x − y where y is x itself, or the larger of x and another; None where it is neither."""
    if x.sizes != y.sizes or len(x.blocks) != 1 or len(y.blocks) != 1:
        return None
    a, b = x.only, y.only
    if a.tensor is None or b.tensor is None or a.labels != b.labels:
        return None
    same = alike(rec, a.tensor, b.tensor)
    found = None if same else less_maximum(rec, a.tensor, b.tensor)
    block = Block(None, (None,) * len(y.axes)) if same else Block(found, b.labels)
    return Traced(y.axes, {(0,) * len(y.axes): block}) if same or found is not None else None


@torch_op("rsub.Scalar", "rsub.Tensor")
def rsub(rec: Recorder, node: Node, x: Any, y: Any, alpha: float = 1) -> Traced:
    return sub(rec, node, y, x, alpha)


@torch_op("mul.Tensor", "mul.Scalar")
def mul(rec: Recorder, node: Node, x: Any, y: Any) -> Traced:
    from scalecalc.trace.normalisation import norm_of

    if isinstance(x, Traced) and isinstance(y, Traced) and (found := norm_of(rec, x, y)) is not None:
        return found

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        a, b = blocks
        if a.tensor is None or b.tensor is None:
            return Block(None, (None,) * len(labels))
        return Block(a.tensor * b.tensor, labels)

    return rec.each([operand(rec, x), operand(rec, y)], make)


@torch_op("div.Tensor", "div.Scalar")
def div(rec: Recorder, node: Node, x: Any, y: Any) -> Traced:
    from scalecalc.trace.normalisation import inverse_of

    if isinstance(y, Traced):
        return mul(rec, node, x, inverse_of(rec, y))
    inverse = Varying(1 / v for v in y) if isinstance(y, Varying) else 1 / float(y)
    return mul(rec, node, x, inverse)


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
    """Operand by operand; a letter is summed over once no later one has it."""
    sides, _, out = equation.replace(" ", "").partition("->")
    letters = sides.split(",")
    if "->" not in equation:
        out = "..." * ("..." in sides) + "".join(sorted(c for c in set(sides) - {",", "."} if sides.count(c) == 1))
    if "..." in sides:
        spare = [c for c in "ABCDEFGH" if c not in sides + out]
        wide = [len(x.axes) - len(own.replace("...", "")) for own, x in zip(letters, operands, strict=True)]
        most = max(wide)
        letters = [own.replace("...", "".join(spare[most - n : most])) for own, n in zip(letters, wide, strict=True)]
        out = out.replace("...", "".join(spare[:most]))
    if any(len(set(own)) < len(own) for own in letters):
        raise Refusal(f"a diagonal in the einsum {equation!r}")
    whole, own = operands[0], letters[0]
    for k, (x, other) in enumerate(zip(operands[1:], letters[1:], strict=True)):
        later = out + "".join(letters[k + 2 :])
        kept = "".join(c for c in dict.fromkeys(own + other) if c in later)
        kept = out if k == len(operands) - 2 else kept
        whole, own = rec.contract((whole, x), (own, other), kept), kept
    if len(operands) > 1:
        return whole
    gone = [k for k, c in enumerate(own) if c not in out]
    rest = "".join(c for c in own if c in out)
    return picked(rec.summed(whole, gone) if gone else whole, [rest.index(c) for c in out])


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


# ------------------------------------------------------------------ what changes no number


@torch_op(
    "clone.default", "contiguous.default", "alias.default", "lift_fresh_copy.default", "_to_copy.default",
    "to.dtype", "to.dtype_layout", "to.device", "to.other", "_assert_scalar.default", "type_as.default", "expand_as.default",
    "resolve_conj.default", "resolve_neg.default",
)  # fmt: skip
def same(rec: Recorder, node: Node, x: Traced, *others: Any, **more: Any) -> Traced:
    return resized(x, node.shapes[0]) if "expand" in node.target else x


@torch_op("dropout.default", "native_dropout.default", "dropout_.default")
def dropout(rec: Recorder, node: Node, x: Traced, p: float, train: bool) -> Traced:
    if p and train:
        raise Refusal(f"dropout with p = {p} in training mode, which is random: return module.eval(), or build it with p = 0")
    return x


@torch_op("detach.default")
def detach(rec: Recorder, node: Node, x: Traced) -> Traced:
    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        return block if block.tensor is None else Block(rules("view").stop(block.tensor), block.labels)

    return rec.each([x], make)


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
