"""What differs in names alone is derived once: of a chain of equal layers, one layer.

A law knows names by their being equal, and by nothing else.  So where two operations differ in names alone (W_7 for W_6,
``lr W_7`` for ``lr W_6``) so do their results.  An operation's arguments are written with numbers for names, in order of
appearance; what was derived of the same writing before is looked up, and read with the names that stand there now.

Three things are names:

- the random tensors in patterns and the weights in tags;
- the unknowns in sizes.  A size is written as what it comes to at the point, and the powers of its unknowns, each relative to
  where it stands.  (Written as it is, N^(k/2) times the product of k inits would not be alike at any two layers.)  Products,
  powers and comparisons are the same in either writing;
- the sources in patterns (:mod:`scalecalc.writing`), whatever is in them.

Where a law did look into a source the result rests on what is there.  So what it looked at is noted
(:mod:`scalecalc.reads`), and kept with the result as *checks*, to be made again, in order, before the result is used: an
opened source has to contain the same, written with numbers again; the cosine of two has to be the same; a source that was
made has to be another than all that there are, and where it was one of those, that one has to contain the same.  All that is
met gets the next number, and a thing that has a number keeps it: so two things are one at one place if and only if they are
at the other.

What cannot be told so is derived anew: squares that fluctuate about their means (tensors that are named after others),
windows of indices (their ends are sizes), results that are exact.  And a law may use none but what it is given as its
values: a rule or an optimizer promises that by ``nameless``.

Texts have names in them, and nobody reads those of formal sizes: so at a point no derivation records its steps, and only
there is anything looked up.

To debug: ``Alike(None)`` finds nothing; ``found`` and ``missed`` count.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, NamedTuple

from scalecalc.pattern import Pattern, Source, block_slot
from scalecalc.reads import COSINE, MADE, Log, listening
from scalecalc.scale import Point, Scale
from scalecalc.term import Term, is_sum
from scalecalc.value import ONES, Direction, Value
from scalecalc.wick import cosine
from scalecalc.writing import Unwritable, Writing, contents, number_of, outline_of, read_pattern, read_source, written

Numbers = tuple[int, ...]
Directions = tuple[tuple[int, str], ...]
Check = Callable[["_Numbering"], bool]
MOST_KEPT = 8  # results of one writing: those that differ in what was looked at
INTEGERS = {k: Fraction(k) for k in range(-2, 3)}
FEW = 1  # pairs of terms, up to which an operation is as quickly done as looked up


class Result(NamedTuple):
    """What a law made, of things with numbers.

    Args:
        checks: what has to hold for it to be so.
        outline, things: its terms.
    """

    checks: tuple[Check, ...]
    labels: tuple[str, ...]
    outline: int
    things: Numbers
    ray: Directions
    perp: Directions


class _Numbering:
    """Things with their numbers, in order of appearance: names, sources, and the positions of tensors."""

    def __init__(self, things: Iterable[Any] = ()) -> None:
        self.things = list(things)
        self.number = {thing: i for i, thing in enumerate(self.things)}

    def of(self, things: Iterable[Any]) -> Numbers:
        out: list[int] = []
        for thing in things:
            number = self.number.get(thing)
            if number is None:
                number = self.number[thing] = len(self.things)
                self.things.append(thing)
            out.append(number)
        return tuple(out)

    def known(self, things: Iterable[Any]) -> Numbers:
        """The same where nothing may be new.

        Raises:
            Unwritable: something is.
        """
        try:
            return tuple([self.number[thing] for thing in things])
        except KeyError:
            raise Unwritable from None

    def at(self, numbers: Numbers) -> tuple[Any, ...]:
        return tuple([self.things[i] for i in numbers])

    def kinds(self) -> Hashable:
        """What a law may ask of a thing beside whether it is another; and in which order names sort."""
        names = [i for i, thing in enumerate(self.things) if isinstance(thing, str)]
        return tuple([_kind(thing) for thing in self.things]), tuple(sorted(names, key=self.things.__getitem__))


def _kind(thing: str | int | Source) -> Hashable:
    if isinstance(thing, str):
        return is_sum(thing), block_slot(thing)
    return thing.label if isinstance(thing, Source) else None


class Alike:
    """The operations of one derivation, each kind of them derived once.

    Args:
        point: where unknowns stand; None: nothing is looked up.
    """

    def __init__(self, point: Point | None):
        self.found, self.missed = 0, 0
        self._point = point
        self._results: dict[Hashable, list[Result]] = {}
        self._sizes: dict[Scale, Writing] = {}
        self._read: dict[Writing, Scale] = {}
        self._terms: dict[int, tuple[tuple[Term, ...], Writing]] = {}  # by identity, which is kept by keeping them

    def once(
        self,
        told: Hashable,
        values: Sequence[Value],
        law: Callable[[], Value],
        sizes: Sequence[Scale] = (),
        names: Sequence[str] = (),
    ) -> Value:
        """What a law makes of values: derived, or read off where it was derived with other names.

        Args:
            told: all else that the law is told, without names.
            values, sizes, names: all that it is told with names.
        """
        if self._point is None or _quick(values):
            return law()
        here = _Numbering()
        try:
            own = [self._value(v, here) for v in values], [self._size(s, here) for s in sizes], here.of(names)
            kept = self._results.setdefault((told, tuple(own[0]), tuple(own[1]), own[2], here.kinds()), [])
        except (Unwritable, TypeError):  # TypeError: something that cannot be hashed
            return law()
        for result in kept:
            value = self._again(result, here)
            if value is not None:
                self.found += 1
                return value
        self.missed += 1
        with listening() as log:
            value = law()
        if len(kept) < MOST_KEPT:
            with suppress(Unwritable):
                kept.append(self._result(value, here, log))
        return value

    # -------------------------------------------------------------- arguments

    def _value(self, value: Value, here: _Numbering) -> Hashable:
        terms = self._written_terms(value.terms)
        directions = [tuple(sorted(_direction(d, here.of) for d in sorted(some))) for some in (value.ray, value.perp)]
        return value.labels, value.exact, terms.outline, here.of(terms.things), *directions

    def _size(self, size: Scale, here: _Numbering) -> Hashable:
        one = self._written(size)
        return one.outline, here.of(one.things)

    def _written_terms(self, terms: tuple[Term, ...]) -> Writing:
        """Per term the outline of its size and its unknowns, that of its pattern and what is named there, and its tag."""
        found = self._terms.get(id(terms))
        if found is None:
            here = _Numbering()
            out: list[tuple[int, Numbers, int, Numbers, Numbers]] = []
            for t in terms:
                size, one = self._written(t.size), written(t.pattern)
                out.append((size.outline, here.of(size.things), one.outline, here.of(one.things), here.of(t.tag)))
            found = self._terms[id(terms)] = terms, Writing(number_of(tuple(out)), tuple(here.things))
        return found[1]

    def _written(self, size: Scale) -> Writing:
        """What it comes to at the point, and the powers of unknowns relative to where they stand."""
        found = self._sizes.get(size)
        if found is None:
            assert self._point is not None
            own = [(u, e) for u, e in size.powers if u in self._point.unknowns]
            powers = tuple([e.as_integer_ratio() for _, e in own])
            found = self._sizes[size] = Writing(number_of((self._point(size), powers)), tuple([u for u, _ in own]))
        return found

    # -------------------------------------------------------------- results

    def _result(self, value: Value, here: _Numbering, log: Log) -> Result:
        """What a law made, with the checks that it takes to use it elsewhere."""
        if value.exact is not None:
            raise Unwritable
        checks, terms = _checks(log, here), self._written_terms(value.terms)
        ray, perp = (tuple([_direction(d, here.known) for d in some]) for some in (value.ray, value.perp))
        return Result(tuple(checks), value.labels, terms.outline, here.known(terms.things), ray, perp)

    def _again(self, result: Result, here: _Numbering) -> Value | None:
        """The result with the names that stand here; None if a check fails."""
        if result.checks:
            here = _Numbering(here.things)
            if not all(check(here) for check in result.checks):
                return None
        terms = self._read_terms(Writing(result.outline, here.at(result.things)))
        ray, perp = (
            frozenset([(here.things[i] if i != ONES else ONES, label) for i, label in some])
            for some in (result.ray, result.perp)
        )
        return Value(result.labels, terms, None, ray, perp)

    def _read_terms(self, writing: Writing) -> tuple[Term, ...]:
        sizes: dict[tuple[int, Numbers], Scale] = {}
        patterns: dict[tuple[int, Numbers], Pattern] = {}
        here, out = writing.things, list[Term]()
        for size, unknowns, outline, things, tag in outline_of(writing.outline):
            own, one = sizes.get((size, unknowns)), patterns.get((outline, things))
            if own is None:
                own = sizes[size, unknowns] = self._read_size(Writing(size, tuple([here[i] for i in unknowns])))
            if one is None:
                one = patterns[outline, things] = read_pattern(Writing(outline, tuple([here[i] for i in things])))
            out.append(Term(own, one, tuple(sorted([here[i] for i in tag]))))
        terms = tuple(out)
        self._terms[id(terms)] = terms, writing
        return terms

    def _read_size(self, writing: Writing) -> Scale:
        found = self._read.get(writing)
        if found is None:
            assert self._point is not None
            value, ratios = outline_of(writing.outline)
            rest, powers = value, list[tuple[str, Fraction]]()
            for u, (p, q) in zip(writing.things, ratios, strict=True):
                power = INTEGERS[p] if q == 1 and p in INTEGERS else Fraction(p, q)
                rest = rest / self._point.unknowns[u] ** power
                powers.append((u, power))
            found = self._read[writing] = Scale(tuple(sorted([*powers, *rest.powers])), rest.logs)
            self._point.tell(found, value)
            self._sizes[found] = writing
        return found


def _direction(of: Direction, number: Callable[[Iterable[Any]], Numbers]) -> tuple[int, str]:
    return (ONES if of[0] == ONES else number(of[:1])[0]), of[1]


def _quick(values: Sequence[Value]) -> bool:
    pairs = len(values[0].terms) if len(values) == 1 else 1
    for v in values:
        pairs *= len(v.terms)
    return pairs <= FEW


# ------------------------------------------------------------------ checks


def _checks(log: Log, here: _Numbering) -> list[Check]:
    """What has to hold elsewhere for a law to see the same; all that it met gets its number.

    Raises:
        Unwritable: it met something that it cannot have been shown.
    """
    out: list[Check] = []
    seen = set[Source]()
    for (kind, *of), value in log.items():
        if kind == COSINE:
            out.append(_Cosine(here.known(of), value))
            continue
        (one,) = of
        if one in seen:
            continue
        seen.add(one)
        if kind == MADE and one not in here.number:
            inside = contents(one)
            out.append(_Made(inside.outline, here.known(inside.things)))
            here.of(of)
        else:
            (number,), inside = here.known(of), contents(one)
            out.append(_Contents(number, inside.outline, here.of(inside.things)))
    return out


class _Cosine(NamedTuple):
    """The cosine of two sources is this."""

    of: Numbers
    value: Any

    def __call__(self, here: _Numbering) -> bool:
        return cosine(*here.at(self.of)) == self.value


class _Contents(NamedTuple):
    """A source contains this; what comes up in it for the first time has the next numbers."""

    source: int
    outline: int
    things: Numbers

    def __call__(self, here: _Numbering) -> bool:
        try:
            inside = contents(here.things[self.source])
        except Unwritable:
            return False
        return inside.outline == self.outline and here.of(inside.things) == self.things


class _Made(NamedTuple):
    """A source of these contents is none of those that there are; it has the next number."""

    outline: int
    things: Numbers

    def __call__(self, here: _Numbering) -> bool:
        new = read_source(Writing(self.outline, here.at(self.things)))
        known = new in here.number
        here.of([new])
        return not known


__all__ = ["Alike"]
