"""Torch's comparisons, bounds and choices between two tensors: steps, and what relu makes of a difference.

A comparison is a step of 0 and 1 with no gradient.  A bound on one side is a relu, one on both sides a function of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scalecalc.trace.axes import cat, inserted, resized, sliced
from scalecalc.trace.graph import Node
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.normalisation import NEGLIGIBLE
from scalecalc.trace.operations import add, applied, entry_by_entry, mul, operand, rsub, sub
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.signs import AT_LEAST_ZERO, HUGE, constant_of, signs
from scalecalc.trace.traced import Refusal, Traced


def _step(rec: Recorder, node: Node, x: Any, y: Any) -> Traced:
    """1 where x > y, else 0."""
    return applied(rec, x if isinstance(y, (int, float)) and y == 0 else sub(rec, node, operand(rec, x), y), "step")


@torch_op("gt.Scalar", "gt.Tensor")
def greater(rec: Recorder, node: Node, x: Traced, y: Any) -> Traced:
    return _step(rec, node, x, y)


@torch_op("lt.Scalar", "lt.Tensor")
def less(rec: Recorder, node: Node, x: Traced, y: Any) -> Traced:
    return _step(rec, node, y, x)


@torch_op("le.Scalar", "le.Tensor", "ge.Scalar", "ge.Tensor")
def at_most(rec: Recorder, node: Node, x: Traced, y: Any) -> Traced:
    other = greater if ".le." in node.target else less
    return opposite(rec, node, other(rec, node, x, y))


@torch_op("logical_not.default", "bitwise_not.default")
def opposite(rec: Recorder, node: Node, x: Traced) -> Traced:
    return rsub(rec, node, x, 1.0)


@torch_op("logical_and.default", "bitwise_and.Tensor")
def both(rec: Recorder, node: Node, x: Traced, y: Traced) -> Traced:
    return mul(rec, node, x, y)


def chosen(rec: Recorder, node: Node, condition: Traced, x: Any, y: Any) -> Traced:
    """x where the condition, of 0 and 1, is 1, else y."""
    sides = mul(rec, node, condition, x), mul(rec, node, opposite(rec, node, condition), y)
    return add(rec, node, *sides)


@torch_op("maximum.default", "max.other")
def larger(rec: Recorder, node: Node, x: Traced, y: Traced) -> Traced:
    """x + relu(y − x); of −∞ (in the guise of a huge number) and another it is the other."""
    for one, other in ((x, y), (y, x)):
        if all((found := constant_of(rec, b)) is not None and found <= -HUGE for b in one.blocks.values()):
            return resized(other, node.shapes[0])
    return add(rec, node, x, applied(rec, sub(rec, node, y, x), "relu"))


@torch_op("minimum.default", "min.other")
def smaller(rec: Recorder, node: Node, x: Traced, y: Traced) -> Traced:
    return sub(rec, node, x, applied(rec, sub(rec, node, x, y), "relu"))


@torch_op("clamp.default", "hardtanh.default", "clamp_min.default", "clamp_max.default")
def clamp(rec: Recorder, node: Node, x: Traced, least: Any = None, most: Any = None) -> Traced:
    if "clamp_max" in node.target:
        least, most = None, least
    elif "hardtanh" in node.target:
        least, most = -1.0 if least is None else least, 1.0 if most is None else most
    least, most = (None if bound in (float("-inf"), float("inf")) else bound for bound in (least, most))
    if not all(bound is None or isinstance(bound, (int, float)) for bound in (least, most)):
        raise Refusal("a bound that depends on the widths")
    if least is not None and _far_below(rec, x, least):
        least = None
    if least is not None and most is not None:
        return clipped(rec, x, least, most)
    if least is not None:
        above = applied(rec, x if least == 0 else sub(rec, node, x, least), "relu")
        return above if least == 0 else add(rec, node, above, least)
    if most is not None:
        return rsub(rec, node, applied(rec, rsub(rec, node, x, most), "relu"), most)
    return x


def clipped(rec: Recorder, x: Traced, least: float, most: float) -> Traced:
    """min(max(x, least), most), entry by entry."""
    return entry_by_entry(rec, x, rules("clip").clip(float(least), float(most)), min(max(0.0, least), most))


@torch_op("relu6.default")
def relu6(rec: Recorder, node: Node, x: Traced) -> Traced:
    return clipped(rec, x, 0, 6)


@torch_op("hardsigmoid.default")
def hardsigmoid(rec: Recorder, node: Node, x: Traced) -> Traced:
    """clip(x/6 + 1/2, 0, 1); torch has 1/6 of its gradient in single precision."""
    rec.single = True
    return clipped(rec, add(rec, node, mul(rec, node, x, 1 / 6), 0.5), 0, 1)


@torch_op("hardswish.default")
def hardswish(rec: Recorder, node: Node, x: Traced) -> Traced:
    """Howard et al. 2019, arXiv 1905.02244, sec. 5.2."""
    return mul(rec, node, x, hardsigmoid(rec, node, x))


def _far_below(rec: Recorder, x: Traced, least: float) -> bool:
    """Is it a bound far below what is positive, against division by zero?  No number of order one feels it."""
    known = all(b.tensor is not None and signs(rec, b.tensor) <= AT_LEAST_ZERO for b in x.blocks.values())
    if least < 0 or least > NEGLIGIBLE or not known:
        return False
    text = f"the bound {least:g} that something positive is kept above is taken to be negligible."
    if least and text not in rec.program.remarks:
        rec.program.remarks.append(text)
    return True


@torch_op("repeat.default")
def repeat(rec: Recorder, node: Node, x: Traced, by: Sequence[Any]) -> Traced:
    """The whole of a tensor so many times along each axis, one after the other."""
    for _ in range(len(by) - len(x.axes)):
        x = inserted(x, 0, len(rec.settings.all))
    for axis, count in enumerate(by):
        if x.axes[axis].one:
            sizes = [a.size for a in x.axes]
            sizes[axis] = node.shapes[0][axis]
            x = resized(x, sizes)
        elif isinstance(count, tuple):
            raise Refusal("a tensor repeated a growing number of times")
        elif count != 1:
            x = cat(rec, node, [x] * int(count), axis)
    return x


@torch_op("cumprod.default")
def cumprod(rec: Recorder, node: Node, x: Traced, dim: int, dtype: Any = None) -> Traced:
    """Entry by entry along an axis of fixed size."""
    axis = dim % len(x.axes)
    size = x.axes[axis].size
    if rec.grows(size):
        raise Refusal("a cumulative product along an axis that grows")
    at = [tuple(t for _ in size) for t in range(size[0] + 1)]
    parts = [sliced(rec, x, axis, at[t], at[t + 1]) for t in range(size[0])]
    for t in range(1, len(parts)):
        parts[t] = mul(rec, node, parts[t - 1], parts[t])
    return cat(rec, node, parts, axis) if len(parts) > 1 else x


