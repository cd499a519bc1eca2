"""Torch's norms, softmax and attention: what divides by something of the whole axis.

A mean square that a norm is written out with is known again by what it was recorded as, and so is what stands in a mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import sympy as sp

from scalecalc.asymptotics import N
from scalecalc.program import Tensor
from scalecalc.trace.axes import axes_at, inserted, regrouped
from scalecalc.trace.graph import Node, Varying
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.operations import add, applied, mul, sub, total
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.signs import AT_LEAST_ZERO, POSITIVE, signs
from scalecalc.trace.sizes import Sizes
from scalecalc.trace.traced import Block, Refusal, Traced, number


@torch_op("layer_norm.default")
def layer_norm(
    rec: Recorder, node: Node, x: Traced, shape: Sequence[Any], weight: Any = None, bias: Any = None,
    eps: float = 1e-5, cudnn: bool = True,
) -> Traced:  # fmt: skip
    out = normed(rec, x, range(len(x.axes) - len(shape), len(x.axes)), eps, centred=True)
    return _affine(rec, node, out, weight, bias)


@torch_op("rms_norm.default")
def rms_norm(
    rec: Recorder, node: Node, x: Traced, shape: Sequence[Any], weight: Any = None, eps: float | None = None
) -> Traced:
    eps = 2.220446049250313e-16 if eps is None else eps
    out = normed(rec, x, range(len(x.axes) - len(shape), len(x.axes)), eps, centred=False)
    return _affine(rec, node, out, weight, None)


@torch_op("group_norm.default")
def group_norm(
    rec: Recorder, node: Node, x: Traced, groups: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    cudnn: bool = True,
) -> Traced:  # fmt: skip
    """Groups of channels are an axis of their own, and each is normalised over its channels and all positions."""
    channels = x.axes[1].size
    count = groups if isinstance(groups, tuple) else (groups,) * len(channels)
    size = tuple(c // int(g) for c, g in zip(channels, count, strict=True))
    wide = regrouped(rec, x, 1, 1, [tuple(map(int, count)), size])
    out = regrouped(rec, normed(rec, wide, range(2, len(wide.axes)), eps, centred=True), 1, 2, [channels])
    return _affine(rec, node, out, *_per_channel(rec, x, weight, bias))


@torch_op("instance_norm.default")
def instance_norm(
    rec: Recorder, node: Node, x: Traced, weight: Any, bias: Any, mean: Any, variance: Any, own: bool, momentum: float,
    eps: float, cudnn: bool = True,
) -> Traced:  # fmt: skip
    if not own:
        return _by_running(rec, node, x, weight, bias, mean, variance, eps)
    return _affine(rec, node, normed(rec, x, range(2, len(x.axes)), eps, centred=True), *_per_channel(rec, x, weight, bias))


@torch_op("batch_norm.default", "native_batch_norm.default", "_native_batch_norm_legit_functional.default")
@torch_op("_native_batch_norm_legit.default")
def batch_norm(
    rec: Recorder, node: Node, x: Traced, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float,
    eps: float, *more: Any,
) -> Any:  # fmt: skip
    """Each channel over the batch and all positions; what is kept for evaluation comes out beside it and is nobody's."""
    if training:
        over = [k for k in range(len(x.axes)) if k != 1]
        out = _affine(rec, node, normed(rec, x, over, eps, centred=True), *_per_channel(rec, x, weight, bias))
    else:
        out = _by_running(rec, node, x, weight, bias, mean, variance, eps)
    return out if len(node.shapes) == 1 else [out]


@torch_op("_native_batch_norm_legit.no_stats")
def batch_norm_unkept(
    rec: Recorder, node: Node, x: Traced, weight: Any, bias: Any, training: bool, momentum: float, eps: float
) -> Any:
    return batch_norm(rec, node, x, weight, bias, None, None, training, momentum, eps)


@torch_op("_native_batch_norm_legit_no_training.default")
def batch_norm_kept(
    rec: Recorder, node: Node, x: Traced, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> list[Traced]:
    return [_by_running(rec, node, x, weight, bias, mean, variance, eps)]


@torch_op("_weight_norm.default", "_weight_norm_interface.default")
def weight_norm(rec: Recorder, node: Node, v: Traced, g: Traced, dim: int = 0) -> Any:
    """g v/‖v‖, the norm over all axes but one (Salimans & Kingma 2016, arXiv 1602.07868, eq. 2)."""
    axes = [k for k in range(len(v.axes)) if k != dim % len(v.axes)]
    count = number([v.axes[k].size for k in axes], rec.settings)
    unit = mul(rec, node, normed(rec, v, axes, 0.0, centred=False), Varying(c**-0.5 for c in count))
    out = mul(rec, node, unit, g)
    return out if len(node.shapes) == 1 else [out]


def _per_channel(rec: Recorder, x: Traced, *vectors: Any) -> list[Any]:
    """Vectors over the channels, laid beside the axes of x (batch, channel, positions)."""
    out = list(vectors)
    for _ in range(len(x.axes) - 2):
        out = [v if v is None else inserted(v, len(v.axes), len(rec.settings.all)) for v in out]
    return out


def _affine(rec: Recorder, node: Node, x: Traced, weight: Any, bias: Any) -> Traced:
    out = x if weight is None else mul(rec, node, x, weight)
    return out if bias is None else add(rec, node, out, bias)


def _by_running(
    rec: Recorder, node: Node, x: Traced, weight: Any, bias: Any, mean: Any, variance: Any, eps: float
) -> Traced:
    """A norm in evaluation mode, by the mean and the variance that are kept."""
    mean, variance, weight, bias = _per_channel(rec, x, mean, variance, weight, bias)
    out = mul(rec, node, sub(rec, node, x, mean), raised(rec, add(rec, node, variance, eps), "reciprocal_root"))
    return _affine(rec, node, out, weight, bias)


def normed(rec: Recorder, x: Traced, axes: Iterable[int], eps: float, centred: bool) -> Traced:
    """x over the root of its mean square over some axes together, with ``centred`` less its mean there before."""
    axes = [k for k in axes if not x.axes[k].one]
    known = [k for k in axes if any(b.labels[k] is not None for b in x.blocks.values())]
    labels = [over(rec, x, k, "a norm") for k in known or axes]
    if not labels:
        raise Refusal("a norm of single entries")
    labels = rec.flat(labels)
    norm, group = rules("norm"), labels[0] if len(labels) == 1 else tuple(labels)

    def make(blocks: Sequence[Block], _: Any) -> Block:
        (block,) = blocks
        assert block.tensor is not None
        inner = norm.centre(block.tensor, group) if centred else block.tensor
        return Block(norm.rmsnorm(inner, group, eps), block.labels)

    return rec.each([x], make)


def over(rec: Recorder, x: Traced, axis: int, what: str) -> str:
    """The one label of an axis that something is normalised over."""
    labels = {b.labels[axis] for b in x.blocks.values()}
    if len(x.axes[axis].pieces) > 1:
        rec.keep_whole(x.axes[axis])
        raise Refusal(f"{what} over an axis that is put together from pieces")
    if len(labels) != 1 or None in labels or any(b.tensor is None for b in x.blocks.values()):
        raise Refusal(f"{what} of a tensor that is the same everywhere along the axis")
    (label,) = labels
    assert label is not None
    return label


@torch_op("rsqrt.default")
def rsqrt(rec: Recorder, node: Node, x: Traced) -> Traced:
    return raised(rec, x, "reciprocal_root", _mean_square(rec, x))


@torch_op("sqrt.default")
def sqrt(rec: Recorder, node: Node, x: Traced) -> Traced:
    return raised(rec, x, "root", _mean_square(rec, x))


@torch_op("reciprocal.default")
def reciprocal(rec: Recorder, node: Node, x: Traced) -> Traced:
    return inverse_of(rec, x)


@torch_op("pow.Tensor_Scalar")
def power(rec: Recorder, node: Node, x: Traced, exponent: float) -> Traced:
    """Squares; of what is positive also roots and reciprocals."""
    if exponent == 2:
        return applied(rec, x, "square")
    known = {0.5: sqrt, -0.5: rsqrt, -1: reciprocal}
    if exponent == 1:
        return x
    if exponent in (3, 4):
        return mul(rec, node, applied(rec, x, "square"), x if exponent == 3 else applied(rec, x, "square"))
    if exponent not in known:
        return _positive_power(rec, x, exponent)
    return known[exponent](rec, node, x)


def _starts_positive(rec: Recorder, tensor: Tensor) -> bool:
    """Is it a parameter that starts at one positive number (a temperature)?  It is taken to stay positive, with a remark."""
    while tensor.op.rule in ("rename", "part"):
        tensor = rec.program.tensor(tensor.op.inputs[0])
    init = tensor.op.params.get("init") if tensor.op.rule == "weight" else None
    if init is None or not init.is_number or not init > 0:
        return False
    text = f"{tensor.name}, which something is divided by, is taken to stay positive."
    if text not in rec.program.remarks:
        rec.program.remarks.append(text)
    return True


def _positive_power(rec: Recorder, x: Traced, exponent: float) -> Traced:
    function, fit = rules("positive").family(exponent), AT_LEAST_ZERO if exponent > 1 else POSITIVE

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        if block.tensor is None or not signs(rec, block.tensor) <= fit:
            raise Refusal(f"the power {exponent:g} of what may be negative; 2, 3 and 4 have a rule")
        return Block(function(block.tensor), block.labels)

    return rec.each([x], make)


@torch_op("linalg_vector_norm.default", "norm.ScalarOpt_dim")
def vector_norm(
    rec: Recorder, node: Node, x: Traced, order: Any = 2, dims: Any = None, keepdim: bool = False, **more: Any
) -> Traced:
    if order not in (2, None):
        raise Refusal(f"the vector norm of order {order}; that of order 2 has a rule")
    squares = total(rec, node, applied(rec, x, "square"), dims, keepdim)
    return raised(rec, squares, "root", _mean_square(rec, squares))


@torch_op("var.correction", "var.dim", "std.correction", "std.dim")
def variance(
    rec: Recorder, node: Node, x: Traced, dims: Any = None, unbiased: bool = True, keepdim: bool = False, **more: Any
) -> Traced:
    axes = axes_at(x, dims)
    if len(axes) != 1:
        raise Refusal("a variance over several axes")
    correction = more.get("correction", 1 if unbiased else 0)
    size = x.axes[axes[0]].size
    label = over(rec, x, axes[0], "a variance")
    squares = applied(rec, rec.each([x], lambda blocks, _: _centred_block(rec, blocks[0], label)), "square")
    if correction and rec.grows(size):
        squares = mul(rec, node, squares, _unbiased(rec, x, axes[0], label, correction))
        correction = 0
    out = total(rec, node, squares, axes, keepdim)
    out = mul(rec, node, out, Varying(1 / (s - (correction or 0)) for s in size))
    return raised(rec, out, "root", _mean_square(rec, out)) if "std" in node.target else out


def _unbiased(rec: Recorder, x: Traced, axis: int, label: str, correction: float) -> Traced:
    """N/(N − c), the same everywhere along an axis of N entries."""
    if label in rec.products:
        raise Refusal("an unbiased variance over a product of growing dims; correction=0 has a rule")
    key = "unbiased", label, correction
    if key not in rec.kept:
        factor = 1 / (1 - sp.Rational(Fraction(correction)) / N)
        rec.kept[key] = rec.program.index(f"unbiased along {label}", label, factor)
    axes = (x.axes[axis], *x.axes[axis + 1 :])
    return Traced(axes, {(0,) * len(axes): Block(rec.kept[key], (label, *(None for _ in axes[1:])))})


def _centred_block(rec: Recorder, block: Block, label: str) -> Block:
    """The same without its mean; one operation for all that need it."""
    assert block.tensor is not None
    key = "centre", block.tensor.index, label
    if key not in rec.kept:
        rec.kept[key] = rules("norm").centre(block.tensor, label)
    return Block(rec.kept[key], block.labels)


def centred(rec: Recorder, x: Any, y: Any) -> Traced | None:
    """x − y if y is the mean of x over one axis: a mean removed, and exactly; None if it is not."""
    if not isinstance(x, Traced) or not isinstance(y, Traced) or len(x.blocks) != 1 or len(y.blocks) != 1:
        return None
    whole, label = _mean(rec, y.only.tensor)
    if whole is None or x.only.tensor is None or whole.index != x.only.tensor.index or label not in x.only.labels:
        return None
    return Traced(x.axes, {(0,) * len(x.axes): _centred_block(rec, x.only, label)})


def _mean(rec: Recorder, tensor: Tensor | None) -> tuple[Tensor | None, str]:
    """(z, axis) where a tensor is the mean of z over one axis."""
    program = rec.program
    if tensor is None or tensor.op.rule != "contraction" or tensor.op.params["over"]:
        return None, ""
    whole, by = (program.tensor(i) for i in tensor.op.inputs)
    if whole.op.rule != "sum" or len(whole.op.params["over"]) != 1 or by.op.rule != "index" or by.axes:
        return None, ""
    label = whole.op.params["over"][0]
    mean = rec.constants.get(_inverse(rec, rec.sizes[label]))
    if mean is None or mean.index != by.index:
        return None, ""
    return program.tensor(whole.op.inputs[0]), label


def raised(rec: Recorder, x: Traced, name: str, norm: tuple[Tensor, str, float, bool] | None = None) -> Traced:
    """A power of what is positive, entry by entry; ``norm``: of what mean square it is one, if it is."""
    function = getattr(rules("positive"), name)

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        if block.tensor is None or (signs(rec, block.tensor) != POSITIVE and not _starts_positive(rec, block.tensor)):
            raise Refusal("a root or a reciprocal (a division) of a tensor that may be zero or negative")
        return Block(function(block.tensor), block.labels)

    return replace(rec.each([x], make), norm=(*norm, name) if norm is not None else None)


def inverse_of(rec: Recorder, x: Traced) -> Traced:
    """1/x, of a root the reciprocal root."""
    if x.norm is not None and x.norm[-1] == "root":
        y, label, eps, whole, _ = x.norm
        return replace(raised(rec, x, "reciprocal"), norm=(y, label, eps, whole, "reciprocal_root"))
    whole = x.only.tensor if len(x.blocks) == 1 else None
    found = raised(rec, x, "reciprocal")
    if whole is not None and whole.op.rule == "sum" and len(whole.op.params["over"]) == 1:
        y = rec.program.tensor(whole.op.inputs[0])
        if y.op.rule in ("exp", "decay") and not y.op.params["order"]:
            return replace(found, norm=(y, whole.op.params["over"][0], 0.0, True, "softmax"))
    return found


NEGLIGIBLE = 1e-5


def _mean_square(rec: Recorder, x: Traced) -> tuple[Tensor, str, float, bool] | None:
    """(y, axis, ε, whether it is the mean) where a tensor is the mean or the sum of y² over one axis, and an ε."""
    if len(x.blocks) != 1 or x.only.tensor is None:
        return None
    program, tensor, eps = rec.program, x.only.tensor, 0.0
    if tensor.op.rule == "add":
        constant = next((i for i in tensor.op.inputs if program.ops[i].rule == "index"), None)
        if constant is None or program.ops[constant].axes or "scale" in program.ops[constant].params:
            return None
        eps = float(program.ops[constant].params["expression"])
        (tensor,) = (program.tensor(i) for i in tensor.op.inputs if i != constant)
    square, label = _mean(rec, tensor)
    mean = square is not None
    if square is None and tensor.op.rule == "sum" and len(tensor.op.params["over"]) == 1 and not eps:
        square, label = program.tensor(tensor.op.inputs[0]), tensor.op.params["over"][0]
    if square is None or square.op.rule != "square" or square.op.params["order"]:
        return None
    return program.tensor(square.op.inputs[0]), label, eps, mean


def _inverse(rec: Recorder, size: Sizes) -> Any:
    """What the constant 1/size is kept under."""
    form = rec.settings.form([1 / s for s in size])
    return None if form is None else (form.coefficient, form.powers)


def norm_of(rec: Recorder, a: Traced, b: Traced) -> Traced | None:
    """x · (mean(x²) + ε)^(−1/2) as a norm of x, and exp(z) / Σ exp(z) as a softmax; None if it is no such product."""
    for x, r in ((a, b), (b, a)):
        if r.norm is None or r.norm[-1] == "root" or len(x.blocks) != 1 or x.only.tensor is None:
            continue
        y, label, eps, mean, which = r.norm
        if x.only.tensor.index != y.index or label not in x.only.labels:
            continue
        if which == "softmax":
            scores = rec.program.tensor(y.op.inputs[0])
            scores = rules("elementwise").negative(scores) if y.op.rule == "decay" else scores
            return Traced(x.axes, {(0,) * len(x.axes): Block(rules("softmax").softmax(scores, label), x.only.labels)})
        if which == "reciprocal_root":
            block = Block(rules("norm").rmsnorm(y, label, eps), x.only.labels)
            return Traced(x.axes, {(0,) * len(x.axes): block if mean else rec.scaled(block, _root(rec.sizes[label]))})
    return None


def _root(size: Sizes) -> tuple[float, ...]:
    return tuple(s**-0.5 for s in size)
