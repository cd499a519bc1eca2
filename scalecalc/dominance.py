"""Which terms can never lead beside others: no later sum or product can bring them in front.

A sum over an axis counts N^(1/2) at least and N at most, so that per axis one term can gain N^(1/2) on another, and only
where what the two are odd in along that axis differs; a profile adds what it lacks at its worst index.  A term is hidden by
another that is larger than all it can ever gain on it.

Terms may be thousands, with hundreds of patterns, and pairs of them millions.  But what a term can gain on another follows
from the axes on which the two agree, from their shapes and their masks.  So the others are looked up: for every set of
axes those that agree there, of which the largest decide (:class:`Tops`).  That they may agree on more axes does no harm,
since they are met again with the larger set, and hide more there.

To debug: ``gain``, ``excess`` and ``reach`` are the law of one pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from scalecalc.pattern import Atom, Knot, Mask, Pattern, Shape
from scalecalc.profile import HALF, ONE, count, dim_of
from scalecalc.scale import Regime, Scale

if TYPE_CHECKING:
    from scalecalc.term import Term

SUM = "Δ"  # the name of an unknown begins so, and what is in a tag, if it stands for several weights (:mod:`scalecalc.cuts`)
FEW = 6  # terms, up to which they are compared one by one
Labels = tuple[str, ...]
Odd = tuple[frozenset[Atom | Knot], ...]  # what a pattern is odd in, along each of some axes
Front = list[tuple[Scale, set[Scale]]]  # sizes that no other exceeds, and how those that come to each depend on the unknowns
Kinds = dict[tuple[Shape, frozenset[Mask]], Front]
Above = dict[Scale, set[Scale]]
NO_PARTS = set[Scale]()


def is_sum(name: str) -> bool:
    """Is it the name of a sum's unknown, or in the tag of what is carried on of it?"""
    return name.startswith(SUM)


def own(t: Term, regime: Regime) -> Scale:
    """The unknowns in a term's size, if its tag stands for several weights: of these none hides another.

    Where one weight's part is the smaller one at a point, its rate would have no bound there; it could grow until it hides
    the others.  So only those that depend on the unknowns in the same way are compared.
    """
    return regime.point.part(t.size) if regime.point is not None and _summed(t.tag) else ONE


@cache
def _summed(tag: tuple[str, ...]) -> bool:
    return any(map(is_sum, tag))


# ------------------------------------------------------------------ one pair


@cache
def gain(a: Pattern, b: Pattern) -> Scale:
    """By how much sums can bring a forward against b: N^(1/2) per axis where they differ.

    A part on a diagonal of k labels, against one that is spread over all of them: N for the one sum that is aligned there
    at best, over N^(k/2) for the k that the other makes at least.
    """
    out = _diagonals(a)
    differ = frozenset[str]().union(*(x.labels for x in a.odd ^ b.odd)) - frozenset[str]().union(*a.same)
    return out * _root(differ) if differ else out


@cache
def _diagonals(one: Pattern) -> Scale:
    out = ONE
    for together in one.same:
        out = out * Scale.of(dim_of(min(together)), 1 - len(together) * HALF)
    return out


@cache
def _root(labels: frozenset[str]) -> Scale:
    """∏ N^(1/2) over the dims of some labels."""
    return count(labels) ** HALF


@cache
def excess(a: Shape, b: Shape) -> Scale | None:
    """The largest ratio of a's entries to b's at any index, for alike sizes at the first; None if there is none."""
    if a is b:
        return ONE
    if not all(any(narrow >= wide for narrow in a.same) for wide in b.same):
        return None
    out = ONE
    for label in {*a.profiles, *b.profiles}:
        ratio = a.profile(label).excess(b.profile(label), dim_of(label))
        if ratio is None:
            return None
        out = out * ratio
    return out


@cache
def narrower(a: Shape, b: Shape) -> bool:
    """Are a's entries no larger than b's, relative to the first, and somewhere smaller by a power?

    Then of two alike terms the first cannot lead, wherever they tie, and they do not hide each other.  (Only where they
    differ in what they are odd in ties were decided: what decays from step to step of a recurrence stood beside what comes
    in anew, so that each sum over the states was two numbers.)
    """
    return a is not b and excess(a, b) is ONE and excess(b, a) is not ONE


@cache
def faster(a: Shape, b: Shape) -> bool:
    """Do a's profiles fall at least as fast as b's, along every axis, and is a's diagonal no wider?"""
    if a is b:
        return True
    if not all(any(narrow >= wide for narrow in a.same) for wide in b.same):
        return False
    return all(a.profile(label).bounded_by(b.profile(label)) for label in {*a.profiles, *b.profiles})


@cache
def reach(a: Pattern, b: Pattern) -> Scale | None:
    """The most that sums and profiles can bring a pattern forward against another; None if without limit."""
    if not b.masks <= a.masks:
        return None  # the other is exactly zero where this one is not
    most = excess(a.shape, b.shape)
    return None if most is None else gain(a, b) * most


# ------------------------------------------------------------------ one term against many


class Tops:
    """Terms of one tag, and which other terms one of them hides for good.

    For good: no sum or product can ever bring that one above it, or as a correction within ``margin`` of it.
    """

    def __init__(self, terms: Sequence[Term], regime: Regime, margin: Scale):
        self.regime, self.margin = regime, margin
        self.groups: dict[Scale, _Group] = {}  # by what may be compared (:func:`own`)
        for t in terms:
            part = own(t, regime)
            if part not in self.groups:
                self.groups[part] = _Group(regime, margin)
            self.groups[part].terms.append(t)

    def hide(self, t: Term, part: Scale | None = None) -> bool:
        """Can a term never come above one of these other terms?  ``part``: its :func:`own`, if that is known."""
        group = self.groups.get(own(t, self.regime) if part is None else part)
        return group is not None and group.hides(t)


class Among:
    """:class:`Tops` of terms without unknowns, looked up once for all that are these times a common factor.

    The updates of a weight, of the bias beside it and of what is in front of it are mostly alike but for a factor.
    """

    def __init__(self, terms: Sequence[Term], regime: Regime, margin: Scale):
        self._unit = terms[0].size
        self._group = _alike(tuple([(t.size / self._unit, t.pattern) for t in terms]), regime, margin)
        self._known = self._group.known

    def hide(self, t: Term) -> bool:
        key = t.size / self._unit, t.pattern
        found = self._known.get(key)
        return self._group.hides(_Bare(*key)) if found is None else found


def tops(terms: Sequence[Term], regime: Regime, margin: Scale) -> Tops | Among:
    """What terms of one tag hide."""
    if regime.point is not None or len(terms) <= FEW or any(_wide(t.pattern) for t in terms):
        return Tops(terms, regime, margin)
    return Among(terms, regime, margin)


class _Bare(NamedTuple):
    """All that counts of a term."""

    size: Scale
    pattern: Pattern


@lru_cache(maxsize=256)
def _alike(terms: tuple[tuple[Scale, Pattern], ...], regime: Regime, margin: Scale) -> _Group:
    group = _Group(regime, margin)
    group.terms += [_Bare(*t) for t in terms]
    return group


def _wide(one: Pattern) -> bool:
    """Has it a diagonal of three labels or more?  There a sum loses, and a term might be thought to hide itself."""
    return any(len(together) > 2 for together in one.same)


class _Group:
    """The terms that may be compared, and what was looked up of them."""

    def __init__(self, regime: Regime, margin: Scale):
        self.regime, self.margin = regime, margin
        self.terms: list[Term | _Bare] = []
        self.known: dict[tuple[Scale, Pattern], bool] = {}
        self._values: list[tuple[Term | _Bare, Scale]] = []
        # Of a pattern, what hides terms that are smaller, as far as it is known, and what has still to be looked for.
        self._above: dict[Pattern, tuple[Above, Iterator[tuple[Scale, set[Scale]]]]] = {}
        self._agree: dict[frozenset[str], Any] = {}
        self._fronts: dict[Labels, dict[Odd, Kinds]] = {}
        self._labels: Labels | None = None
        self._front: Front | None = None
        self._shapes: set[Shape] | None = None

    def hides(self, t: Term | _Bare) -> bool:
        if len(self.terms) <= FEW or _wide(t.pattern):
            return self._hides_one_by_one(t)
        key = t.size, t.pattern
        if key not in self.known:
            self.known[key] = self._looked_up(t)
        return self.known[key]

    def _looked_up(self, t: Term | _Bare) -> bool:
        one, begin = t.pattern, self.value(t.size) * self.margin
        if not (one.shape.windowed or one.same):
            orders = {self.regime.compare(begin, v) for v, _ in self.front}
            tie = 0 in orders and self.margin is ONE and any(narrower(one.shape, shape) for shape in self.shapes)
            if -1 not in orders and not tie:
                return False  # it can only be brought forward: sizes are those at the first index
        part = self.regime.point.part(t.size) if self.regime.point is not None else ONE
        if one not in self._above:
            self._above[one] = {}, self._beside(one)
        known, more = self._above[one]
        return any(self._below(begin, part, *found) for found in known.items()) or any(
            self._below(begin, part, *found) for found in self._kept(known, more)
        )

    def _below(self, begin: Scale, part: Scale, value: Scale, parts: set[Scale]) -> bool:
        order = self.regime.compare(begin, value)
        # At the margin, or alike, or alike at this point only, it is not hidden.
        return order == -1 or order == 0 and self.margin is ONE and part in parts

    def _kept(self, known: Above, more: Iterator[tuple[Scale, set[Scale]]]) -> Iterator[tuple[Scale, set[Scale]]]:
        """Sizes as they are found, and kept for the next who asks: all, or the largest where any two can be compared."""
        free = self.regime.kind == "free"
        for value, parts in more:
            if value in known and parts <= known[value]:
                continue
            order = None if free or not known else self.regime.compare(value, next(iter(known)))
            if order == -1:
                continue
            if order == 1:
                known.clear()
            known.setdefault(next(iter(known)) if order == 0 else value, set()).update(parts)
            yield value, parts

    def _beside(self, one: Pattern) -> Iterator[tuple[Scale, set[Scale]]]:
        """What hides a term of a pattern below it: sizes, over the most it can gain there; at it those of these parts, too.

        Patterns that do not differ may be alike then, for all unknowns, and do not hide each other.  Where the most axes
        agree the least is gained, so that what is hidden is mostly found to be at once.
        """
        aligned = frozenset[str]().union(*one.same)
        alone = one.labels.difference(self.labels, aligned)  # where it is odd, and none of the others is
        axes, ways = self._ways(aligned)
        odd = [one.odd_on(label) for label in axes]
        for agree, front, others in ways:
            kinds = front.get(tuple([odd[k] for k in agree]))
            if kinds is None:
                continue
            gained = _root(alone | others if alone else others)
            for (shape, masks), sizes in kinds.items():
                if masks and not masks <= one.masks:
                    continue
                most = excess(one.shape, shape)
                if most is not None:
                    most = gained * most
                    told = gained is not ONE or narrower(one.shape, shape)
                    yield from ((v / most, parts if told else NO_PARTS) for v, parts in sizes)

    def _ways(self, aligned: frozenset[str]) -> tuple[Labels, list[tuple[tuple[int, ...], dict[Odd, Kinds], frozenset[str]]]]:
        """The axes that a pattern and others may agree on, and the ways to: on which, by what, and on which not."""
        if aligned not in self._agree:
            axes = tuple(label for label in self.labels if label not in aligned)
            ways = [way for k in range(len(axes), -1, -1) for way in combinations(range(len(axes)), k)]
            self._agree[aligned] = axes, [
                (way, self._agreeing(tuple(axes[k] for k in way)), frozenset(axes).difference(axes[k] for k in way))
                for way in ways
            ]
        return self._agree[aligned]

    def _hides_one_by_one(self, t: Term | _Bare) -> bool:
        if len(self._values) != len(self.terms):
            self._values = [(o, self.value(o.size)) for o in self.terms]
        begin, one = self.value(t.size) * self.margin, t.pattern
        for o, value in self._values:
            most = reach(one, o.pattern) if o is not t else None
            if most is None:
                continue
            order = self.regime.compare(begin * most, value)
            if order == -1:
                return True
            told = gain(one, o.pattern) is not ONE or narrower(one.shape, o.pattern.shape)
            tie = order == 0 and self.margin is ONE and told
            if tie and self.regime.always(t.size * most, o.size):
                return True
        return False

    def value(self, size: Scale) -> Scale:
        return self.regime.point(size) if self.regime.point is not None else size

    @property
    def labels(self) -> Labels:
        """The axes along which any of the terms is odd."""
        if self._labels is None:
            self._labels = tuple(sorted(frozenset[str]().union(*(t.pattern.labels for t in self.terms))))
        return self._labels

    @property
    def shapes(self) -> set[Shape]:
        if self._shapes is None:
            self._shapes = {t.pattern.shape for t in self.terms}
        return self._shapes

    @property
    def front(self) -> Front:
        """The largest sizes of all."""
        if self._front is None:
            self._front = []
            for t in self.terms:
                self._add(self._front, t)
        return self._front

    def _agreeing(self, axes: Labels) -> dict[Odd, Kinds]:
        """The largest sizes by what a pattern is odd in along some axes, and by shape and masks."""
        if axes not in self._fronts:
            found = self._fronts[axes] = {}
            for t in self.terms:
                one = t.pattern
                kinds = found.setdefault(tuple(map(one.odd_on, axes)), {})
                self._add(kinds.setdefault((one.shape, one.masks), []), t)
        return self._fronts[axes]

    def _add(self, front: Front, t: Term | _Bare) -> None:
        value = self.value(t.size)
        part = self.regime.point.part(t.size) if self.regime.point is not None else ONE
        for v, parts in front:
            if v is value:
                parts.add(part)
                return
        orders = [self.regime.compare(value, v) for v, _ in front]
        if -1 not in orders:
            front[:] = [known for known, order in zip(front, orders, strict=True) if order != 1] + [(value, {part})]


def exceeded(terms: Sequence[Term], regime: Regime) -> Iterator[bool]:
    """Whether each term has another that is larger at every index where it is, whatever either is odd in."""
    kinds = {(own(t, regime), t.pattern.shape, t.size): False for t in terms}
    fronts: dict[Scale, dict[Shape, tuple[Scale, ...]]] = {}
    for part, shape, size in kinds:
        front = fronts.setdefault(part, {}).setdefault(shape, ())
        if not any(regime.order(size, known) in (-1, 0) for known in front):
            fronts[part][shape] = (*(known for known in front if regime.order(known, size) != -1), size)
    for part, shape, size in kinds:
        kinds[part, shape, size] = any(
            any(regime.order(size, other) == -1 for other in front) and faster(shape, wider)
            for wider, front in fronts[part].items()
        )
    for t in terms:
        yield kinds[own(t, regime), t.pattern.shape, t.size]
