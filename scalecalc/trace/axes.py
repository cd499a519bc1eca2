"""Torch's operations on the axes of a tensor: their order and number, pieces of them, axes split and merged.

What all operations have in common is said in :mod:`scalecalc.trace.operations`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scalecalc.program import Tensor
from scalecalc.trace.graph import Node
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.sizes import Sizes, minus, plus, times
from scalecalc.trace.traced import Axis, Block, Cut, Origin, Refusal, Traced

# ------------------------------------------------------------------ the order and number of axes


def axes_at(x: Traced, dims: Any) -> list[int]:
    if dims is None or dims == []:
        return list(range(len(x.axes)))
    return [d % len(x.axes) for d in (dims if isinstance(dims, list) else [dims])]


def picked(x: Traced, order: Sequence[int]) -> Traced:
    return Traced(
        tuple(x.axes[k] for k in order),
        {
            tuple(index[k] for k in order): Block(b.tensor, tuple(b.labels[k] for k in order))
            for index, b in x.blocks.items()
        },
    )


def inserted(x: Traced, at: int, settings: int) -> Traced:
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
    return picked(x, [k % len(x.axes) for k in order])


@torch_op("transpose.int")
def transpose(rec: Recorder, node: Node, x: Traced, a: int, b: int) -> Traced:
    order = list(range(len(x.axes)))
    a, b = a % len(order), b % len(order)
    order[a], order[b] = b, a
    return picked(x, order)


@torch_op("t.default", "numpy_T.default", "mT.default", "adjoint.default")
def flipped(rec: Recorder, node: Node, x: Traced) -> Traced:
    return x if len(x.axes) < 2 else transpose(rec, node, x, -2, -1)


@torch_op("unsqueeze.default")
def unsqueeze(rec: Recorder, node: Node, x: Traced, dim: int) -> Traced:
    return inserted(x, dim % (len(x.axes) + 1), len(rec.settings.all))


@torch_op("squeeze.default", "squeeze.dim", "squeeze.dims", "squeeze_.dims")
def squeeze(rec: Recorder, node: Node, x: Traced, dims: Any = None) -> Traced:
    return picked(x, [k for k in range(len(x.axes)) if k not in axes_at(x, dims) or not x.axes[k].one])


def resized(x: Traced, sizes: Sequence[Sizes]) -> Traced:
    """Repeated along axes of size one, and along new ones in front."""
    for _ in range(len(sizes) - len(x.axes)):
        x = inserted(x, 0, len(sizes[0]))
    axes = tuple(Axis((size,)) if a.one else a for a, size in zip(x.axes, sizes, strict=True))
    return replace(x, axes=axes)


@torch_op("expand.default", "broadcast_to.default")
def expand(rec: Recorder, node: Node, x: Traced, *others: Any, **more: Any) -> Traced:
    return resized(x, node.shapes[0])


def repeated(rec: Recorder, x: Traced, axis: int, by: Sizes) -> Traced:
    """Every entry along an axis so many times, one after the other."""
    if all(n == 1 for n in by):
        return x
    wide = inserted(x, axis + 1, len(rec.settings.all))
    sizes = [a.size for a in wide.axes]
    sizes[axis + 1] = by
    return regrouped(rec, resized(wide, sizes), axis, 2, [times(x.axes[axis].size, by)])


@torch_op("repeat_interleave.self_int")
def repeat_interleave(rec: Recorder, node: Node, x: Traced, by: Any, dim: int | None = None, **more: Any) -> Traced:
    if dim is None:
        raise Refusal("repeat_interleave without an axis")
    return repeated(rec, x, dim % len(x.axes), by if isinstance(by, tuple) else (by,) * len(rec.settings.all))


# ------------------------------------------------------------------ pieces


def sliced(rec: Recorder, x: Traced, axis: int, start: Sizes, stop: Sizes) -> Traced:
    """A contiguous piece of an axis."""
    own = x.axes[axis]
    whole = not any(start) and stop == own.size
    if whole:
        return x
    if len(own.pieces) == 1 and not rec.grows(own.size) and not rec.leafs(own):
        blocks = {i: rec.part(b, axis, start, stop) for i, b in x.blocks.items()}
        return Traced((*x.axes[:axis], own.moved(start, (minus(stop, start),)), *x.axes[axis + 1 :]), blocks)
    x = rec.refined(x, axis, [Cut.plain(start), Cut.plain(stop)])
    inside, kept = x.axes[axis].between(start, stop)
    blocks = {
        (*i[:axis], inside.index(i[axis]), *i[axis + 1 :]): b for i, b in x.blocks.items() if i[axis] in inside
    }
    return Traced((*x.axes[:axis], kept, *x.axes[axis + 1 :]), blocks)


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
    return picked(one, [k for k in range(len(x.axes)) if k != axis])


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
    if len(xs) == 1:
        return xs[0]
    axis = dim % len(xs[0].axes)
    wide = list(xs)
    for k in range(len(xs[0].axes)):
        cuts = rec.common([x.axes[k] for x in wide]) if k != axis else []
        if cuts:
            wide = [rec.refined(x, k, cuts) for x in wide]
    if any(x.axes[axis].runs for x in wide):
        raise Refusal("a concatenation along an axis that is cut inside its parts (heads)")
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
    starts = [tuple(0 for _ in own.size), *(c.at for c in own.cuts)]
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
        axes, {i: rec.added(own_, [a.parts[j] for a, j in zip(axes, i, strict=True)]) for i, own_ in parts.items()}
    )


@torch_op("stack.default")
def stack(rec: Recorder, node: Node, xs: Sequence[Traced], dim: int = 0) -> Traced:
    axis = dim % (len(xs[0].axes) + 1)
    return cat(rec, node, [inserted(x, axis, len(rec.settings.all)) for x in xs], axis)


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
        out = regrouped(rec, out, at, width, after)
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


def regrouped(rec: Recorder, x: Traced, at: int, width: int, after: Sequence[Sizes]) -> Traced:
    """``width`` axes from position ``at`` on become axes of the sizes ``after``."""
    own = x.axes[at : at + width]
    if not after or not width:
        new = tuple(Axis((size,)) for size in after)
        head = [(*i[:at], *(0 for _ in after), *i[at + width :]) for i in x.blocks]
        blocks = [
            Block(b.tensor, (*b.labels[:at], *(None for _ in after), *b.labels[at + width :])) for b in x.blocks.values()
        ]
        return Traced((*x.axes[:at], *new, *x.axes[at + width :]), dict(zip(head, blocks, strict=True)))
    new, cut_before, places = _new_axes(rec, own, after)
    blocks: dict[tuple[int, ...], Block] = {}
    for index, block, sizes in rec.walk(x):
        there = places[index[at + cut_before]]
        wanted = [a.parts[k] for k, a in zip(there, new, strict=True)]
        place = (*index[:at], *there, *index[at + width :])
        blocks[place] = _reshaped(rec, block, at, sizes[at : at + width], wanted)
    return Traced((*x.axes[:at], *new, *x.axes[at + width :]), blocks)


Places = list[tuple[int, ...]]


def _new_axes(rec: Recorder, own: Sequence[Axis], after: Sequence[Sizes]) -> tuple[Sequence[Axis], int, Places]:
    """The axes that some are reshaped into, which of the old ones is in pieces, and where on the new ones these are."""
    pieces = [k for k, a in enumerate(own) if len(a.pieces) > 1]
    refusal = Refusal("a reshape of an axis that is put together from pieces")
    if len(own) == 1 and own[0].runs:
        found = _split_within(own[0], after)
        if found is None:
            raise refusal
        return found[0], 0, found[1]
    if len(own) == 1:  # split: pieces of the axis are pieces of its first part
        rest = times(*after[1:])
        if any(p % r for piece in own[0].pieces for p, r in zip(piece, rest, strict=True)):
            raise refusal
        parts = tuple(tuple(p // r for p, r in zip(piece, rest, strict=True)) for piece in own[0].pieces)
        first = own[0].scaled(rest, parts, up=True)
        others = [Axis((size,), _inside(own[0], after, k)) for k, size in enumerate(after) if k]
        return (first, *others), 0, _along(0, len(parts), len(after))
    if len(after) == 1 and pieces in ([], [0]):
        inner = times(*(a.size for a in own[1:]))
        merged = own[0].scaled(inner, tuple(times(p, inner) for p in own[0].pieces), up=False)
        return (merged,), 0, _along(0, len(merged.pieces), 1)
    if len(after) == 1 and len(own) == 2 and not own[0].runs and not own[1].runs:
        stretches = own[0].size
        merged = Axis(own[1].pieces, own[1].merged(stretches), ((len(own[1].pieces), stretches),))
        return (merged,), 1, _along(0, len(merged.pieces), 1)
    if pieces:
        raise refusal
    return tuple(Axis((size,)) for size in after), 0, _along(0, 1, len(after))


def _along(axis: int, count: int, axes: int) -> Places:
    """So many pieces along one of some axes."""
    return [tuple(k if n == axis else 0 for n in range(axes)) for k in range(count)]


def _inside(own: Axis, after: Sequence[Sizes], k: int) -> frozenset[Origin]:
    """Where the k-th of the axes that one is split into comes from."""
    one = tuple(1 for _ in after[0])
    return own.inner(times(one, *after[:k]), times(one, *after[k + 1 :]))


def _split_within(own: Axis, after: Sequence[Sizes]) -> tuple[Sequence[Axis], Places] | None:
    """The same of an axis of equal stretches in pieces: those of the axis that a stretch begins with, and of the last one.

    Of heads × (queries, keys, values) × size the three are pieces, and so may be parts of every one of the three.
    """
    one = tuple(1 for _ in after[0])
    at = next((k for k in range(1, len(after)) if times(one, *after[:k]) == own.outer), None)
    if at is None:
        return None
    rest = times(one, *after[at + 1 :])
    runs: list[list[Sizes]] = [[]]  # the pieces, run by run of whole steps of the axis
    for piece in own.pieces:
        runs[-1].append(piece)
        length = functools.reduce(plus, runs[-1])
        if all(n % r == 0 for n, r in zip(length, rest, strict=True)):
            runs.append([])
    if runs.pop():
        return None
    last = runs[0] if len(runs[0]) > 1 else []
    if any(run != last for run in runs) if last else any(len(run) > 1 for run in runs):
        return None
    steps = tuple(tuple(n // r for n, r in zip(functools.reduce(plus, run), rest, strict=True)) for run in runs)
    if last and (any(step != one for step in steps) or at != len(after) - 2):
        return None
    axes = [Axis((size,), _inside(own, after, k) if k > at else frozenset()) for k, size in enumerate(after)]
    axes[at] = Axis(steps, _inside(own, after, at))
    if last:
        axes[-1] = Axis(tuple(last), _inside(own, after, len(after) - 1))
    places = list[tuple[int, ...]]()
    for k, run in enumerate(runs):
        for j in range(len(run)):
            places.append(tuple(k if n == at else j if n == len(after) - 1 else 0 for n in range(len(after))))
    return axes, places


def _reshaped(rec: Recorder, block: Block, at: int, before: Sequence[Sizes], after: Sequence[Sizes]) -> Block:
    head, tail = block.labels[:at], block.labels[at + len(before) :]
    group = block.labels[at : at + len(before)]
    if block.tensor is None or all(label is None for label in group):
        return Block(block.tensor, (*head, *(None for _ in after), *tail))
    for k, size in enumerate(before):
        block = rec.own(block, at + k, size)
    wide = [size for size in after if any(s != 1 for s in size)]
    own = rec.flat(block.labels[at : at + len(before)])
    tensor, labels = _viewed(rec, block, own, [*head, *tail], before, wide)
    left = iter(labels)
    return Block(tensor, (*head, *(next(left) if any(s != 1 for s in size) else None for size in after), *tail))


def _viewed(
    rec: Recorder, block: Block, own: Sequence[str], others: Sequence[str | None], before: Sequence[Sizes],
    after: Sequence[Sizes],
) -> tuple[Tensor | None, list[str]]:  # fmt: skip
    """A tensor whose axes ``own``, as long as ``before`` together, become such of the sizes ``after``; their labels."""
    wanted = [factor for size in after for factor in rec.factored(size)]
    tensor, new = block.tensor, list[str]()
    assert tensor is not None
    runs = _groups([rec.sizes[label] for label in own], wanted)
    left = list(own)
    for sizes, targets in runs:
        group, left = left[: len(sizes)], left[len(sizes) :]
        if sizes == targets:
            new += group
            continue
        growing = [sum(map(rec.grows, side)) for side in (sizes, targets)]
        if growing[0] != growing[1] or growing[0] > 1:
            _refactor(rec, before, after)
        into = list[str]()
        for size in targets:
            label = rec.label(size, [*rec.flat(others), *own, *new, *into])
            into += [label] if label is not None else []
        tensor = rules("view").view(tensor, group, into)
        new += into
    ends = list[str]()
    for size in after:
        count = len(rec.factored(size))
        ends.append(rec.composed(new[:count]))
        new = new[count:]
    return tensor, ends


def _refactor(rec: Recorder, before: Sequence[Sizes], after: Sequence[Sizes]) -> None:
    """Have an axis that is split, or merged, be the product of what it is split into, or merged from."""
    for one, other in ((before, after), (after, before)):
        for whole, parts in _groups(list(one), list(other)):
            own = [factor for size in parts for factor in rec.factored(size)]
            if len(whole) == 1 and len(parts) > 1 and sum(map(rec.grows, own)) > 1:
                factors, rest = list[Sizes](), tuple(1 for _ in whole[0])
                for size in own:
                    rest = times(rest, size)
                    if rec.grows(size):
                        factors.append(rest)
                        rest = tuple(1 for _ in rest)
                factors[-1] = times(factors[-1], rest)
                if tuple(factors) != rec.factored(whole[0]):
                    rec.refactor(whole[0], factors)
    raise Refusal(
        "a reshape between axes whose growing dims do not come in the same order before and after; of an axis that is split "
        "one part has to be fixed (hold the number of heads or the size of a head with --fix)"
    )
