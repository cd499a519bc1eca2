"""Torch's convolutions over axes of fixed length: windows of each, contracted with the taps.

With groups the channels are two axes, the group and the channel in it; a group of one channel is a product entry by entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from scalecalc.trace.axes import inserted, picked, regrouped
from scalecalc.trace.constants import Constant, traced
from scalecalc.trace.graph import Node
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.operations import add
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.sizes import Sizes
from scalecalc.trace.traced import Axis, Block, Refusal, Traced


@torch_op("conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding", "conv3d.default", "conv3d.padding")
def convolution(
    rec: Recorder, node: Node, x: Traced, weight: Traced, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: Any = 1,
) -> Traced:  # fmt: skip
    """x (batch, channel, positions) with weight (channel, channel of a group, taps)."""
    n = len(weight.axes) - 2
    steps, gaps = _each(stride, n), _each(dilation, n)
    taps = [a.size[0] for a in weight.axes[2:]]
    if any(len(set(a.size)) > 1 for a in weight.axes[2:]):
        raise Refusal("a convolution whose number of taps grows")
    before = _padding(padding, taps, gaps)
    letters = [("tuv"[k], "klm"[k]) for k in range(n)]
    own, out, kept = "bc" + "xyz"[:n], "bc" + "xyz"[:n], [0, 1]
    for k in range(n):
        size, axis = node.shapes[0][2 + k], own.index("xyz"[k])
        if (taps[k], steps[k], before[k]) == (1, 1, 0):
            continue
        x = _windowed(rec, x, axis, size, taps[k], before[k], steps[k], gaps[k])
        position, tap = letters[k]
        own = own.replace("xyz"[k], position) + tap
        out = out.replace("xyz"[k], position)
        kept.append(2 + k)
    one = [k for k in range(2, len(weight.axes)) if k not in kept]
    if any(not weight.axes[k].one for k in one):
        raise Refusal("a convolution with several taps and no window")
    matrix = picked(weight, kept)
    found = _contracted(rec, x, matrix, own, out, groups)
    if bias is None:
        return found
    for _ in range(n):
        bias = inserted(bias, len(bias.axes), len(rec.settings.all))
    return add(rec, node, found, bias)


def _contracted(rec: Recorder, x: Traced, weight: Traced, own: str, out: str, groups: Any) -> Traced:
    """Windows with the weights: ``own`` and ``out`` name the axes of x and of the result, c a channel."""
    taps = own[len(out) :]
    count = groups if isinstance(groups, tuple) else (groups,) * len(rec.settings.all)
    if all(g == 1 for g in count):
        return rec.contract((weight, x), ("oc" + taps, own), out.replace("c", "o"))
    if tuple(map(int, count)) == x.axes[1].size == weight.axes[0].size:
        kept = [k for k in range(len(weight.axes)) if k != 1]
        return rec.contract((picked(weight, kept), x), ("c" + taps, own), out)
    inside = tuple(c // int(g) for c, g in zip(x.axes[1].size, count, strict=True))
    outside = tuple(o // int(g) for o, g in zip(weight.axes[0].size, count, strict=True))
    count = tuple(map(int, count))
    wide, matrix = regrouped(rec, x, 1, 1, [count, inside]), regrouped(rec, weight, 0, 1, [count, outside])
    whole = rec.contract((matrix, wide), ("goc" + taps, own.replace("c", "gc")), out.replace("c", "go"))
    return regrouped(rec, whole, 1, 2, [weight.axes[0].size])


def _each(value: Any, n: int) -> list[int]:
    """A number per axis of positions."""
    values = value if isinstance(value, list) else [value] * n
    found = [int(v) for v in (values * n if len(values) == 1 else values) if not isinstance(v, tuple)]
    if len(found) != n:
        raise Refusal("a convolution whose stride, padding or dilation grows")
    return found


def _padding(padding: Any, taps: Sequence[int], gaps: Sequence[int]) -> list[int]:
    if isinstance(padding, str):
        return [d * (k - 1) // 2 if padding == "same" else 0 for k, d in zip(taps, gaps, strict=True)]
    return _each(padding, len(taps))


def _windowed(rec: Recorder, x: Traced, axis: int, out: Sizes, taps: int, before: int, step: int, gap: int) -> Traced:
    """x[…, t·step + k·gap − before, …] with the tap k as a last axis; zero outside."""
    if rec.grows(x.axes[axis].size) or len(x.axes[axis].pieces) > 1:
        raise Refusal("a convolution along an axis that grows, or that is put together from pieces")
    if step > 1 or gap > 1 or taps == 1 or out[0] == 1 or x.axes[axis].one:
        return by_table(rec, x, axis, out[0], taps, before, step, gap)
    blocks: dict[tuple[int, ...], Block] = {}
    for index, block, sizes in rec.walk(x):
        own = rec.own(block, axis, sizes[axis])
        label = own.labels[axis]
        if own.tensor is None or label is None:
            raise Refusal("a convolution of zeros")
        positions = rec.label(out, own.labels)
        tap = rec.label(tuple(taps for _ in out), [*own.labels, positions])
        assert positions is not None and tap is not None
        tensor = rules("view").windows(own.tensor, label, positions, tap, before)
        blocks[(*index, 0)] = Block(tensor, (*own.labels[:axis], positions, *own.labels[axis + 1 :], tap))
    tap_axis = Axis((tuple(taps for _ in out),))
    return Traced((*x.axes[:axis], Axis((out,)), *x.axes[axis + 1 :], tap_axis), blocks)


def by_table(rec: Recorder, x: Traced, axis: int, out: int, taps: int, before: int, step: int, gap: int = 1) -> Traced:
    """The same as a product with a table of 0 and 1."""
    if rec.grows(x.axes[axis].size):
        raise Refusal("a window along an axis that grows")
    letters = "abcdefgh"[: len(x.axes)]
    table = tap_table(out, taps, before, step, x.axes[axis].size[0], gap)
    known = traced(rec, Constant(tuple(table for _ in rec.settings.all)))
    into = letters.replace(letters[axis], "t") + "k"
    return rec.contract((known, x), ("tk" + letters[axis], letters), into)


def tap_table(out: int, taps: int, before: int, step: int, size: int, gap: int = 1) -> torch.Tensor:
    """table[t, k, s] = 1 where the tap k of window t is at the position s = t·step + k·gap − before."""
    table = torch.zeros(out, taps, size, dtype=torch.float64)
    for t in range(out):
        for k in range(taps):
            position = t * step + k * gap - before
            if 0 <= position < size:
                table[t, k, position] = 1
    return table
