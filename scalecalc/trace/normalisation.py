"""Torch's norms, softmax and attention: what divides by something of the whole axis.

A mean square that a norm is written out with is known again by what it was recorded as, and so is what stands in a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scalecalc.program import Tensor
from scalecalc.trace.graph import Node
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.operations import add, mul
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.sizes import Sizes
from scalecalc.trace.traced import Block, Refusal, Traced


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
    label = over(rec, x, len(x.axes) - 1, "a norm")
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


def over(rec: Recorder, x: Traced, axis: int, what: str) -> str:
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


def norm_of(rec: Recorder, a: Traced, b: Traced) -> Traced | None:
    """x · rsqrt(mean(x²) + ε) as a norm of x; None if it is no such product."""
    for x, r in ((a, b), (b, a)):
        if r.norm is not None and len(x.blocks) == 1 and x.only.tensor is not None:
            y, label, eps = r.norm
            if x.only.tensor.index != y.index or label not in x.only.labels:
                raise Refusal("rsqrt of a mean square that multiplies anything else than what it is of")
            return Traced(x.axes, {(0,) * len(x.axes): Block(rules("norm").rmsnorm(y, label, eps), x.only.labels)})
    return None
