"""Torch's pooling and windows over axes of fixed size: means are products with a table, maxima the largest of a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from scalecalc.trace.along import mapped
from scalecalc.trace.axes import axes_at, inserted
from scalecalc.trace.convolution import by_table, tap_table
from scalecalc.trace.graph import Node
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.traced import Block, Refusal, Traced


@torch_op("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def mean_pool(
    rec: Recorder, node: Node, x: Traced, window: Any, stride: Any = (), padding: Any = 0, ceil: bool = False,
    count_padding: bool = True, divisor: int | None = None,
) -> Traced:  # fmt: skip
    if divisor is not None:
        raise Refusal("a mean over a window with a divisor of its own")
    for axis, (k, step, before) in _windows(node, x, window, stride, padding).items():
        size = x.axes[axis].size[0]
        table = tap_table(node.shapes[0][axis][0], k, before, step, size).sum(1)
        x = mapped(rec, x, axis, table / (k if count_padding else table.sum(1, keepdim=True)), "pooling")
    return x


@torch_op("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default")
def adaptive(rec: Recorder, node: Node, x: Traced, sizes: Any) -> Traced:
    for axis, (out,) in enumerate(zip(node.shapes[0], strict=True)):
        size = x.axes[axis].size
        if out == size:
            continue
        if rec.grows(size) or rec.grows(out):
            raise Refusal("pooling along an axis that grows")
        table = torch.zeros(out[0], size[0])
        for t in range(out[0]):
            first, last = t * size[0] // out[0], -(-(t + 1) * size[0] // out[0])
            table[t, first:last] = 1 / (last - first)
        x = mapped(rec, x, axis, table, "pooling")
    return x


@torch_op("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def max_pool(
    rec: Recorder, node: Node, x: Traced, window: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil: bool = False,
) -> Traced:  # fmt: skip
    out, taps = x, list[int]()
    for axis, (k, step, before) in _windows(node, x, window, stride, padding).items():
        if before or _each(dilation, 1) != [1]:
            raise Refusal("a maximum over windows with padding or dilation")
        out = by_table(rec, out, axis, node.shapes[0][axis][0], k, 0, step)
        taps.append(len(out.axes) - 1)
    return _largest(rec, out, taps)


@torch_op("amax.default")
def amax(rec: Recorder, node: Node, x: Traced, dims: Any = None, keepdim: bool = False) -> Traced:
    over = axes_at(x, dims)
    out = _largest(rec, x, over)
    for k in sorted(over) if keepdim else ():
        out = inserted(out, k, len(rec.settings.all))
    return out


@torch_op("unfold.default")
def unfold(rec: Recorder, node: Node, x: Traced, dim: int, size: int, step: int) -> Traced:
    axis = dim % len(x.axes)
    return by_table(rec, x, axis, node.shapes[0][axis][0], size, 0, step)


def _largest(rec: Recorder, x: Traced, over: Sequence[int]) -> Traced:
    """The largest entry over some axes of fixed size, which are gone."""
    if any(rec.grows(x.axes[k].size) for k in over):
        raise Refusal("a maximum over an axis that grows: it follows the entries' tails, and no size says what those are")
    if any(len(x.axes[k].pieces) > 1 for k in over):
        raise Refusal("a maximum over an axis that is put together from pieces")
    kept = [k for k in range(len(x.axes)) if k not in over]
    blocks: dict[tuple[int, ...], Block] = {}
    for index, block in x.blocks.items():
        labels = rec.flat(block.labels[k] for k in over)
        tensor = rules("pooling").largest(block.tensor, labels) if block.tensor is not None and labels else block.tensor
        blocks[tuple(index[k] for k in kept)] = Block(tensor, tuple(block.labels[k] for k in kept))
    return Traced(tuple(x.axes[k] for k in kept), blocks)


def _each(value: Any, n: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(v, tuple) for v in values):
        raise Refusal("a window whose size grows")
    return [int(v) for v in (values * n if len(values) == 1 else values)]


def _windows(node: Node, x: Traced, window: Any, stride: Any, padding: Any) -> dict[int, tuple[int, int, int]]:
    """By axis: the size of a window, the step between two, and how far the first begins before the axis."""
    n = int(node.target.split(".")[1].split("pool")[1][0])
    sizes = _each(window, n)
    each = zip(sizes, _each(stride, n) if stride else sizes, _each(padding, n), strict=True)
    return {len(x.axes) - n + k: found for k, found in enumerate(each)}


