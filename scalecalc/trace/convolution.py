"""Torch's convolutions over a sequence of fixed length: windows of it, contracted with the taps."""

from __future__ import annotations

from typing import Any

from scalecalc.trace.axes import inserted, picked
from scalecalc.trace.graph import Node
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.operations import add
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.sizes import Sizes
from scalecalc.trace.traced import Axis, Block, Refusal, Traced


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

