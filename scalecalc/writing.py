"""Patterns and sources written without names: with numbers for what is named, in order of appearance.

What is named in a pattern are the random tensors and the sources.  A source is a name here, too, whatever is in it: written
out, no two layers of a network would be alike, since sources nest as deep as it is.  What is in one can be written likewise,
one level of it (:func:`contents`).

    W_7[m; a] V[a; m]  and  W_6[m; b] V[b; m]    are both    0[m; 1] 2[1; m]    of (W_7, a, V) and (W_6, b, V)

A writing can be read again, and says all that there is but for the names.  A pattern may have several, which differ in the
order of what stands side by side in it; two that were made in one way have it in one order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from scalecalc.pattern import Atom, Knot, Mask, Pattern, Source, atom, knot, mask, pattern, serial, source
from scalecalc.scale import Scale

ONE = Scale.one()


class Writing(NamedTuple):
    """A thing with its names left out, as the number of its outline, and the names in order of appearance."""

    outline: int
    things: tuple[Any, ...]


class Unwritable(Exception):
    """It cannot be told without names: it has sizes within it, such as the ends of a window, or slots bound together."""


_NUMBERS: dict[Any, int] = {}  # outlines are long, and hashed often; their numbers are not
_OUTLINES: list[Any] = []
_WRITTEN: dict[Pattern | Source, Writing | None] = {}
_READ: dict[Writing, Any] = {}


def number_of(outline: Any) -> int:
    """The number that stands for an outline, one for all that are equal."""
    number = _NUMBERS.setdefault(outline, len(_OUTLINES))
    if number == len(_OUTLINES):
        _OUTLINES.append(outline)
    return number


def outline_of(number: int) -> Any:
    return _OUTLINES[number]


def written(one: Pattern) -> Writing:
    """A pattern.

    Raises:
        Unwritable: it has windows, masks of another density than one, or slots that are bound together.
    """
    if one not in _WRITTEN:
        _WRITTEN[one] = _Writer().all_of(one)
    return _told(_WRITTEN[one])


def contents(of: Source) -> Writing:
    """What is in a source, but for what is in the sources there; see :func:`written`."""
    if of not in _WRITTEN:
        place = {one: written(one).outline for one in of.patterns}
        _WRITTEN[of] = _Writer().all_of(*sorted(of.patterns, key=lambda one: (place[one], one.serial)), label=of.label)
    return _told(_WRITTEN[of])


def _told(writing: Writing | None) -> Writing:
    if writing is None:
        raise Unwritable
    return writing


class _Writer:
    """Writes one thing: numbers are given as names come up."""

    def __init__(self) -> None:
        self.things: dict[Any, int] = {}

    def all_of(self, *patterns: Pattern, label: str = "") -> Writing | None:
        """One pattern, or those in a source with this label."""
        try:
            inside = tuple([self.pattern(one) for one in patterns])
        except Unwritable:
            return None
        return Writing(number_of((label, inside) if label else inside[0]), tuple(self.things))

    def pattern(self, one: Pattern) -> Any:
        if one.shape.windowed:
            raise Unwritable
        odd = tuple(map(self.odd, sorted(one.odd, key=_place)))
        return one.profiles, odd, one.same, tuple(map(self.mask, sorted(one.masks, key=_place_of_mask)))

    def odd(self, a: Atom | Knot) -> Any:
        if isinstance(a, Atom):
            return self.number(a.tensor), tuple(map(self.slot, a.slots))
        if any(p.windowed for _, p in a.indices):
            raise Unwritable
        return a.indices, tuple([(self.number(tensor), tuple(map(self.slot, slots))) for tensor, slots in a.atoms])

    def mask(self, m: Mask) -> Any:
        if m.density is not ONE:
            raise Unwritable
        return tuple(map(self.pattern, sorted(m.of, key=serial)))

    def slot(self, slot: Any) -> Any:
        if not isinstance(slot, Source):
            return slot
        if slot.joint:
            raise Unwritable
        return self.number(slot), slot.label

    def number(self, thing: str | Source) -> int:
        return self.things.setdefault(thing, len(self.things))


def _place(a: Atom | Knot) -> Any:
    """In which order is written what stands side by side: by anything but names; of what differs in these alone the elder."""
    if isinstance(a, Atom):
        return 0, tuple(s if isinstance(s, str) else f"={s.label}" for s in a.slots), a.serial
    return 1, tuple(sorted(a.labels)), a.serial


def _place_of_mask(m: Mask) -> int:
    return min(map(serial, m.of), default=0)


def read_pattern(writing: Writing) -> Pattern:
    """The pattern of this writing; from now on it is written so."""
    one = _READ.get(writing)
    if one is None:
        one = _READ[writing] = _pattern(_OUTLINES[writing.outline], writing.things)
        _WRITTEN.setdefault(one, writing)
    return one


def read_source(writing: Writing) -> Source:
    """The source of these contents; likewise."""
    one = _READ.get(writing)
    if one is None:
        label, patterns = _OUTLINES[writing.outline]
        one = _READ[writing] = source(label, [_pattern(one, writing.things) for one in patterns])
        _WRITTEN.setdefault(one, writing)
    return one


def _pattern(outline: Any, things: Sequence[Any]) -> Pattern:
    profiles, odd, same, masks = outline
    return pattern(profiles, [_odd(a, things) for a in odd], same, [_mask(patterns, things) for patterns in masks])


def _odd(outline: Any, things: Sequence[Any]) -> Atom | Knot:
    first, rest = outline
    if isinstance(first, int):
        return atom(things[first], _slots(rest, things))
    return knot([(things[t], _slots(slots, things)) for t, slots in rest], dict(zip(range(len(first)), first, strict=True)))


def _slots(slots: Iterable[Any], things: Sequence[Any]) -> list[Any]:
    return [things[s[0]] if isinstance(s, tuple) else s for s in slots]


def _mask(patterns: Iterable[Any], things: Sequence[Any]) -> Mask:
    return mask([_pattern(one, things) for one in patterns], ONE)


__all__ = ["Unwritable", "Writing", "contents", "number_of", "outline_of", "read_pattern", "read_source", "written"]
