"""A tensor of a module while it is traced: axes by position, cut into pieces, each piece a tensor of the program."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import torch

from scalecalc.program import Tensor
from scalecalc.trace.sizes import Settings, Sizes, plus, times

Labels = tuple[str | None, ...]
MOST_PIECES = 64
ONES = "1"  # in place of a leaf: 1, whatever the program would draw


class Refusal(Exception):
    """One operation cannot be traced; collected, and told with all the others."""


class Restart(Exception):
    """A leaf is to be recorded in more pieces than before."""


class Cut(NamedTuple):
    """A place where an axis is cut: in each of ``outer`` equal stretches, at this position."""

    outer: Sizes
    at: Sizes


class Part(NamedTuple):
    """A part of an axis: in each of ``outer`` equal stretches, from start to stop."""

    outer: Sizes
    start: Sizes
    stop: Sizes

    def of(self, value: torch.Tensor, axis: int, setting: int) -> torch.Tensor:
        """That part of a tensor."""
        outer, start, stop = self.outer[setting], self.start[setting], self.stop[setting]
        return stretch(value, axis, outer, start, stop)


def stretch(value: torch.Tensor, axis: int, outer: int, start: int, stop: int) -> torch.Tensor:
    if outer == 1:
        return value.narrow(axis, start, stop - start)
    return value.unflatten(axis, (outer, -1)).narrow(axis + 1, start, stop - start).flatten(axis, axis + 1)


@dataclass(frozen=True)
class Origin:
    """Position p on an axis is position p · stride + offset in each of ``outer`` equal stretches of an axis of a leaf."""

    leaf: str
    axis: int
    stride: tuple[Fraction, ...]
    offset: Sizes
    outer: Sizes

    @property
    def whole(self) -> bool:
        """Are the positions the leaf's own?"""
        return all(s == 1 for s in self.stride) and not any(self.offset)


@dataclass(frozen=True)
class Axis:
    """One axis: the sizes of its pieces in order, and the leaves' axes that it comes from.

    With ``outer`` the axis is that many equal stretches, every one in the same pieces; a piece is its part of all of them
    (the halves of every head, where heads were not yet told apart).
    """

    pieces: tuple[Sizes, ...]
    origins: frozenset[Origin] = frozenset()
    outer: Sizes = ()

    @property
    def stretches(self) -> Sizes:
        return self.outer or tuple(1 for _ in self.pieces[0])

    @property
    def parts(self) -> tuple[Sizes, ...]:
        """The number of entries in each piece."""
        return tuple(times(p, self.outer) for p in self.pieces) if self.outer else self.pieces

    @property
    def period(self) -> Sizes:
        """The size of one stretch."""
        total = self.pieces[0]
        for piece in self.pieces[1:]:
            total = plus(total, piece)
        return total

    @property
    def size(self) -> Sizes:
        return times(self.period, self.outer) if self.outer else self.period

    @property
    def one(self) -> bool:
        return all(s == 1 for s in self.size)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where its pieces begin, but for the first."""
        return tuple(Cut(self.stretches, at) for at in itertools.accumulate(self.pieces[:-1], plus))

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

    def inner(self, outer: Sizes) -> frozenset[Origin]:
        """Where the inner axis comes from if this one is read as that many stretches."""
        one = tuple(1 for _ in outer)
        return frozenset(replace(o, outer=outer) for o in self.origins if o.whole and o.outer == one)


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
    """A leaf of the program, and which part of which of the module's leaves it stands for, per axis."""

    index: int
    leaf: str
    parts: tuple[Part, ...]
    order: tuple[int, ...]  # of the leaf's axes that have labels, in the program's order


def number(sizes: Sequence[Sizes], settings: Settings) -> Sizes:
    """How many entries there are."""
    return times(tuple(1 for _ in settings.all), *sizes)
