"""Torch's operations along one axis of fixed size that take, move or sum entries: each is a product with a table of 0 and 1.

And writes in place, which torch has made functions of the whole: a tensor put together anew from what was and what is
written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from scalecalc.trace.axes import cat, inserted, picked, resized, sliced
from scalecalc.trace.constants import Constant, traced
from scalecalc.trace.graph import Node
from scalecalc.trace.handlers import torch_op
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.sizes import Sizes
from scalecalc.trace.traced import Refusal, Traced


def mapped(rec: Recorder, x: Traced, axis: int, table: torch.Tensor, what: str) -> Traced:
    """Σ_s table[t, s] x[…, s, …] along an axis of fixed size."""
    if rec.grows(x.axes[axis].size):
        raise Refusal(f"{what} along an axis that grows")
    letters = "abcdefgh"[: len(x.axes)]
    out = letters.replace(letters[axis], "t")
    known = traced(rec, Constant(tuple(table.double() for _ in rec.settings.all)))
    return rec.contract((known, x), ("t" + letters[axis], letters), out)


def _size(x: Traced, axis: int) -> int:
    return x.axes[axis].size[0]


@torch_op("flip.default")
def flip(rec: Recorder, node: Node, x: Traced, dims: Sequence[int]) -> Traced:
    for d in dims:
        x = mapped(rec, x, d % len(x.axes), torch.eye(_size(x, d % len(x.axes))).flip(0), "flip")
    return x


@torch_op("roll.default")
def roll(rec: Recorder, node: Node, x: Traced, shifts: Sequence[int], dims: Sequence[int] = ()) -> Traced:
    if not dims:
        raise Refusal("roll without an axis")
    for shift, d in zip(shifts, dims, strict=True):
        x = mapped(rec, x, d % len(x.axes), torch.eye(_size(x, d % len(x.axes))).roll(shift, 0), "roll")
    return x


@torch_op("cumsum.default")
def cumsum(rec: Recorder, node: Node, x: Traced, dim: int, dtype: Any = None) -> Traced:
    axis = dim % len(x.axes)
    return mapped(rec, x, axis, torch.ones(_size(x, axis), _size(x, axis)).tril(), "a cumulative sum")


@torch_op("pad.default", "constant_pad_nd.default")
def pad(rec: Recorder, node: Node, x: Traced, by: Sequence[int], mode: str = "constant", value: Any = None) -> Traced:
    if mode != "constant" or value:
        raise Refusal("padding with anything but zeros")
    for k in range(len(by) // 2):
        axis, before, after = len(x.axes) - 1 - k, by[2 * k], by[2 * k + 1]
        if before or after:
            size = _size(x, axis)
            long = torch.zeros(max(before, 0) + size + max(after, 0), size)
            long[max(before, 0) : max(before, 0) + size] = torch.eye(size)
            table = long[max(-before, 0) : long.shape[0] - max(-after, 0)]  # less than nothing cuts off
            x = mapped(rec, x, axis, table, "padding")
    return x


@torch_op("index_select.default", raw=True)
def index_select(rec: Recorder, node: Node, x: Any, dim: int, index: Any) -> Traced:
    if not isinstance(index, Constant):
        raise Refusal("an index that depends on data")
    x = traced(rec, x)
    axis = dim % len(x.axes)
    return mapped(rec, x, axis, torch.eye(_size(x, axis))[index.one], "an index")


@torch_op("index.Tensor", raw=True)
def index(rec: Recorder, node: Node, x: Any, indices: Sequence[Any]) -> Traced:
    """By lists of positions, or tables of them (a bias for every distance): each is a product with a table of 0 and 1."""
    known = [(k, i) for k, i in enumerate(indices) if i is not None]
    if not all(isinstance(i, Constant) for _, i in known):
        raise Refusal("an index that depends on data: which entries are taken then has no one law")
    if any(i.one.dtype == torch.bool and (len(known) > 1 or i.one.dim() > 1) for _, i in known):
        raise Refusal("an index by a mask of several axes; multiply by it")
    x = traced(rec, x)
    places = [i.one.nonzero()[:, 0] if i.one.dtype == torch.bool else i.one for _, i in known]
    if len(known) == 1 and places[0].dim() == 1:
        return mapped(rec, x, known[0][0], torch.eye(_size(x, known[0][0]))[places[0]], "an index")
    if any(rec.grows(x.axes[k].size) for k, _ in known):
        raise Refusal("an index along an axis that grows")
    axes = [k for k, _ in known]
    together = axes == list(range(axes[0], axes[0] + len(axes)))
    own, new = "abcdefgh"[: len(x.axes)], "tuvw"[: max(p.dim() for p in places)]
    out = [c for k, c in enumerate(own) if k not in axes]
    at = axes[0] if together else 0
    kept = "".join([*out[:at], *new, *out[at:]])
    letters = own
    for k, p in zip(axes, torch.broadcast_tensors(*places), strict=True):
        size = x.axes[letters.index(own[k])].size[0]
        table = traced(rec, Constant(tuple(torch.eye(size, dtype=torch.float64)[p] for _ in rec.settings.all)))
        after = new + "".join(c for c in letters if c not in new + own[k])
        x, letters = rec.contract((table, x), (new + own[k], letters), after), after
    return picked(x, [letters.index(c) for c in kept])


@torch_op("gather.default", raw=True)
def gather(rec: Recorder, node: Node, x: Any, dim: int, index: Any, sparse_grad: bool = False) -> Traced:
    """Positions along one axis, the same everywhere along the others."""
    if not isinstance(index, Constant):
        raise Refusal("an index that depends on data: which entries are taken then has no one law")
    x = traced(rec, x)
    axis = dim % len(x.axes)
    lines = [v.movedim(axis, -1).reshape(-1, v.shape[axis]) for v in index.values]
    if not all(bool((own == lines[0][0]).all()) for own in lines):
        raise Refusal("an index that is another one along the other axes")
    return mapped(rec, x, axis, torch.eye(_size(x, axis))[lines[0][0]], "an index")


# ------------------------------------------------------------------ writes in place


@torch_op("copy.default", "copy_.default")
def copy(rec: Recorder, node: Node, x: Traced, source: Traced, *more: Any) -> Traced:
    return resized(source, node.shapes[0])


def _written(rec: Recorder, node: Node, x: Traced, source: Traced, axis: int, start: Sizes, stop: Sizes) -> Traced:
    """x with what is written at [start:stop] of an axis."""
    nothing, size = tuple(0 for _ in start), x.axes[axis].size
    parts = [sliced(rec, x, axis, a, b) for a, b in ((nothing, start), (stop, size)) if a != b]
    parts.insert(1 if any(start) else 0, source)
    return cat(rec, node, parts, axis)


@torch_op("select_scatter.default")
def select_scatter(rec: Recorder, node: Node, x: Traced, source: Traced, dim: int, index: Any) -> Traced:
    axis = dim % len(x.axes)
    first = tuple(int(i + s if i < 0 else i) for i, s in zip(_each(index, x), x.axes[axis].size, strict=True))
    return _written(rec, node, x, inserted(source, axis, len(first)), axis, first, tuple(i + 1 for i in first))


@torch_op("slice_scatter.default")
def slice_scatter(
    rec: Recorder, node: Node, x: Traced, source: Traced, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Traced:
    axis = dim % len(x.axes)
    size = x.axes[axis].size
    if step != 1:
        raise Refusal("a write to a slice with a step")
    first = _each(0 if start is None else start, x)
    last = size if end is None else _each(end, x)
    ends = [
        tuple(int(min(max(v + s if v < 0 else v, 0), s)) for v, s in zip(own, size, strict=True)) for own in (first, last)
    ]
    first, last = ends
    return _written(rec, node, x, source, axis, first, last)


def _each(value: Any, x: Traced) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * len(x.axes[0].size)
