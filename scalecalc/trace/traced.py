"""A tensor of a module while it is traced: axes by position, cut into pieces, each piece a tensor of the program."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import torch

from scalecalc.program import Tensor
from scalecalc.trace.sizes import Settings, Sizes, minus, plus, times

Labels = tuple[str | None, ...]
MOST_PIECES = 64
ONES = "1"  # in place of a leaf: 1, whatever the program would draw


class Refusal(Exception):
    """One operation cannot be traced; collected, and told with all the others."""


class Restart(Exception):
    """A leaf is to be recorded in more pieces than before."""


class Cut(NamedTuple):
    """A place where an axis is cut: at a position of it, or (``outer`` not 1) at one of each of so many equal stretches.

    The stretches make up the part of the axis from ``start`` on that is ``length`` long; a plain cut has none.
    """

    outer: Sizes
    at: Sizes
    start: Sizes
    length: Sizes

    @staticmethod
    def plain(at: Sizes) -> Cut:
        nothing = tuple(0 for _ in at)
        return Cut(tuple(1 for _ in at), at, nothing, nothing)


class Part(NamedTuple):
    """A piece of an axis: of its part from ``base`` on, ``length`` long, in each of ``outer`` stretches start to stop."""

    base: Sizes
    length: Sizes
    outer: Sizes
    start: Sizes
    stop: Sizes

    def of(self, value: torch.Tensor, axis: int, setting: int) -> torch.Tensor:
        """That part of a tensor."""
        base, length, outer, start, stop = (own[setting] for own in self)
        return stretch(value.narrow(axis, base, length), axis, outer, start, stop)

    @property
    def nested(self) -> bool:
        return any(n != 1 for n in self.outer)

    @property
    def first(self) -> Sizes:
        """Where it begins on the axis; where its stretches do, if there are several."""
        return self.base if self.nested else plus(self.base, self.start)

    @property
    def last(self) -> Sizes:
        return plus(self.base, self.length) if self.nested else plus(self.base, self.stop)

    def within(self, other: Part) -> bool:
        """Does it lie in another piece of the same axis?"""
        if self[:3] == other[:3] and self.nested:
            return self.start >= other.start and self.stop <= other.stop
        return not other.nested and self.first >= other.first and self.last <= other.last


def stretch(value: torch.Tensor, axis: int, outer: int, start: int, stop: int) -> torch.Tensor:
    if outer == 1:
        return value.narrow(axis, start, stop - start)
    return value.unflatten(axis, (outer, -1)).narrow(axis + 1, start, stop - start).flatten(axis, axis + 1)


@dataclass(frozen=True)
class Origin:
    """Position p on an axis is position p · stride + offset of an axis of a leaf.

    With ``outer`` not 1 it is that in each of so many stretches of the leaf's axis from ``start`` on, ``length`` long.
    """

    leaf: str
    axis: int
    stride: tuple[Fraction, ...]
    offset: Sizes
    outer: Sizes
    start: Sizes = ()
    length: Sizes = ()

    @property
    def whole(self) -> bool:
        """Are the positions the leaf's own?"""
        return all(s == 1 for s in self.stride) and not any(self.offset)

    @property
    def nested(self) -> bool:
        return any(n != 1 for n in self.outer)


class Segment(NamedTuple):
    """A part of an axis: ``outer`` equal stretches, every one in the same pieces."""

    start: Sizes
    outer: Sizes
    pieces: tuple[Sizes, ...]

    @property
    def length(self) -> Sizes:
        total = self.pieces[0]
        for piece in self.pieces[1:]:
            total = plus(total, piece)
        return times(total, self.outer)


@dataclass(frozen=True)
class Axis:
    """One axis: the sizes of its pieces in order, and the leaves' axes that it comes from.

    ``runs`` (none: all are plain) says of how many pieces each segment has, and of how many equal stretches it is made; a
    piece is its part of all of these (the halves of every head, where heads were not yet told apart).
    """

    pieces: tuple[Sizes, ...]
    origins: frozenset[Origin] = frozenset()
    runs: tuple[tuple[int, Sizes], ...] = ()

    @staticmethod
    def cut(size: Sizes, cuts: Iterable[Cut], origins: frozenset[Origin]) -> Axis:
        """An axis of this size with these cuts.

        Raises:
            Refusal: they do not fit into each other, or lie in another order at other widths.
        """
        nothing, one = tuple(0 for _ in size), tuple(1 for _ in size)
        inside: dict[tuple[Sizes, Sizes, Sizes], list[Sizes]] = {}
        for c in _within_alike(c for c in cuts if c.outer != one):
            inside.setdefault((c.start, c.length, c.outer), []).append(c.at)
        ends = {nothing, size, *(c.at for c in cuts if c.outer == one)}
        ends |= {end for start, length, _ in inside for end in (start, plus(start, length))}
        pieces, runs = list[Sizes](), list[tuple[int, Sizes]]()
        for start, stop in itertools.pairwise(_ordered(ends)):
            own = [(key, at) for key, at in inside.items() if not (stop <= key[0] or plus(key[0], key[1]) <= start)]
            if not own:
                pieces.append(minus(stop, start))
                runs.append((1, one))
                continue
            ((begin, length, outer), at), *more = own
            if more or (begin, length) != (start, minus(stop, start)):
                raise Refusal(CROSSED)
            period = tuple(n // o for n, o in zip(length, outer, strict=True))
            places = _ordered({nothing, period, *at})
            pieces += [minus(b, a) for a, b in itertools.pairwise(places)]
            runs.append((len(places) - 1, outer))
        return Axis(tuple(pieces), origins, tuple(runs) if inside else ())

    @property
    def segments(self) -> Iterator[Segment]:
        one, start, at = tuple(1 for _ in self.pieces[0]), tuple(0 for _ in self.pieces[0]), 0
        for count, outer in self.runs or ((len(self.pieces), one),):
            found = Segment(start, outer, self.pieces[at : at + count])
            yield found
            start, at = plus(start, found.length), at + count

    @property
    def places(self) -> list[Part]:
        """Every piece as a part of the axis."""
        out = list[Part]()
        for s in self.segments:
            ends = [tuple(0 for _ in s.start), *itertools.accumulate(s.pieces, plus)]
            out += [Part(s.start, s.length, s.outer, a, b) for a, b in itertools.pairwise(ends)]
        return out

    @property
    def outer(self) -> Sizes:
        """The number of stretches, if the whole axis is cut in equal ones; else nothing."""
        return self.runs[0][1] if len(self.runs) == 1 else ()

    @property
    def parts(self) -> tuple[Sizes, ...]:
        """The number of entries in each piece."""
        return tuple(times(piece, s.outer) for s in self.segments for piece in s.pieces)

    @property
    def size(self) -> Sizes:
        *_, last = self.segments
        return plus(last.start, last.length)

    @property
    def one(self) -> bool:
        return all(s == 1 for s in self.size)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where its pieces begin, but for the first."""
        out = list[Cut]()
        for k, p in enumerate(self.places):
            if p.nested and any(p.start):
                out.append(Cut(p.outer, p.start, p.base, p.length))
            elif k:
                out.append(Cut.plain(p.first))
        return tuple(out)

    def between(self, start: Sizes, stop: Sizes) -> tuple[list[int], Axis]:
        """The pieces from one place to another, by number, and the axis that they make."""
        inside = [k for k, p in enumerate(self.places) if p.first >= start and p.last <= stop]
        runs = list[tuple[int, Sizes]]()
        for s in self.segments if self.runs else ():
            if s.start >= start and plus(s.start, s.length) <= stop:
                runs.append((len(s.pieces), s.outer))
        pieces = tuple(self.pieces[k] for k in inside)
        plain = all(n == 1 for _, outer in runs for n in outer)
        return inside, replace(self.moved(start, pieces), runs=() if plain else tuple(runs))

    def moved(self, by: Sizes, pieces: tuple[Sizes, ...]) -> Axis:
        """The axis of a slice that begins at a position."""
        shift = [
            replace(o, offset=tuple(int(f + s * b) for f, s, b in zip(o.offset, o.stride, by, strict=True)))
            for o in self.origins
        ]
        return Axis(pieces, frozenset(shift))

    def scaled(self, by: Sizes, pieces: tuple[Sizes, ...], up: bool) -> Axis:
        """The outer axis of a view (one step is ``by`` here); with ``up`` False the axis that it is the outer one of."""
        shift = [
            replace(o, stride=tuple(s * b if up else s / b for s, b in zip(o.stride, by, strict=True)))
            for o in self.origins
        ]
        return Axis(pieces, frozenset(shift))

    def inner(self, outer: Sizes, step: Sizes = ()) -> frozenset[Origin]:
        """Where an inner axis comes from if this one is read as that many stretches, of steps of so many entries."""
        nothing, step = tuple(0 for _ in outer), step or tuple(1 for _ in outer)
        return frozenset(
            replace(o, stride=tuple(map(Fraction, step)), outer=outer, offset=nothing, start=o.offset, length=self.size)
            for o in self.origins
            if all(s == 1 for s in o.stride) and not o.nested
        )

    def merged(self, outer: Sizes) -> frozenset[Origin]:
        """Where the axis comes from that so many stretches, this one in each, make together."""
        one = tuple(1 for _ in outer)
        return frozenset(
            replace(o, outer=one, offset=o.start, start=(), length=())
            for o in self.origins
            if o.whole and o.outer == outer and o.length == times(self.size, outer)
        )


def _within_alike(cuts: Iterable[Cut]) -> list[Cut]:
    """Cuts within stretches of one part of an axis, those of shorter stretches as cuts of the longest that they make up.

    Heads × (queries, keys, values) × size, cut in three within every head and in halves within every one of the three.
    """
    groups: dict[tuple[Sizes, Sizes], list[Cut]] = {}
    for c in sorted(cuts):
        groups.setdefault((c.start, c.length), []).append(c)
    out = list[Cut]()
    for own in groups.values():
        longest = min(c.outer for c in own)
        for c in own:
            times_each = {b // a if b % a == 0 else 0 for a, b in zip(longest, c.outer, strict=True)}
            many = times_each.pop()
            if times_each or not many:
                out.append(c)
                continue
            period = tuple(n // o for n, o in zip(c.length, c.outer, strict=True))
            # every stretch begins a cut of its own, as does the place within it
            for k in range(many):
                begin = tuple(k * p for p in period)
                out += [c._replace(outer=longest, at=at) for at in {begin, plus(begin, c.at)} if any(at)]
    return sorted(set(out))


CROSSED = (
    "an axis that is cut in two ways that do not fit into each other: across parts (heads) and inside them, or in parts of "
    "different sizes"
)


def _ordered(ends: Iterable[Sizes]) -> list[Sizes]:
    out = sorted(ends)
    for a, b in itertools.pairwise(out):
        if any(x >= y for x, y in zip(a, b, strict=True)):
            raise Refusal("pieces that overlap in one order at some widths and in another at others")
    return out


@dataclass(frozen=True)
class Block:
    """One piece of a tensor: a program tensor (None: zero) and, per axis, its label there."""

    tensor: Tensor | None
    labels: Labels


@dataclass(frozen=True)
class Traced:
    """A tensor of the module: axes by position, and its blocks by the numbers of their pieces.

    ``norm``: it is the root, or the reciprocal root, of the mean (or the sum) of y² over an axis and an ε, and as a factor of
    y a norm: (y, axis, ε, whether it is the mean, which).
    ``keep``: the entries that are not −∞, which a softmax leaves out.
    """

    axes: tuple[Axis, ...]
    blocks: Mapping[tuple[int, ...], Block]
    norm: tuple[Tensor, str, float, bool, str] | None = None
    keep: torch.Tensor | None = None

    @property
    def sizes(self) -> tuple[Sizes, ...]:
        return tuple(a.size for a in self.axes)

    @property
    def only(self) -> Block:
        """The single block."""
        (block,) = self.blocks.values()
        return block


@dataclass
class Placed:
    """A leaf of the program, and which part of which of the module's leaves it stands for, per axis; or its ``values``."""

    index: int
    leaf: str
    parts: tuple[Part, ...]
    order: tuple[int, ...]  # of the leaf's axes that have labels, in the program's order
    values: tuple[torch.Tensor, ...] = ()


def number(sizes: Sequence[Sizes], settings: Settings) -> Sizes:
    """How many entries there are."""
    return times(tuple(1 for _ in settings.all), *sizes)
