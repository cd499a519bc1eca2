"""The abstract value of a tensor: a finite sum of terms.

A :class:`Term` is one contribution to a tensor: the typical size of an entry (a :class:`~scalecalc.scale.Scale`), a
:class:`~scalecalc.pattern.Pattern` that says how entries vary along the growing axes, and a tag: the weights whose
updates it is multilinear in.  Terms that are alike merge to the largest, and what can never lead is dropped
(:func:`simplify`), so that they stay few however deep the network is.

The conventions are those of :mod:`scalecalc.pattern`, the laws of product and sum those of :mod:`scalecalc.wick`; their
names are at hand here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from typing import Any

from scalecalc.pattern import (
    EVEN,
    Atom,
    Knot,
    Mask,
    Pattern,
    Shape,
    Source,
    Weighted,
    atom,
    fluctuation,
    mask,
    pattern,
    relabel,
    source,
)
from scalecalc.profile import DECAYING, FLAT, HALF, HERE, ONE, Profile, Profiles, count, dim_of
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.wick import multiply_patterns, sum_pattern

__all__ = [
    "DECAYING",
    "EVEN",
    "FLAT",
    "HALF",
    "HERE",
    "ONE",
    "Atom",
    "Knot",
    "Limits",
    "Mask",
    "Pattern",
    "Profile",
    "Profiles",
    "Source",
    "Step",
    "Term",
    "Weighted",
    "atom",
    "count",
    "dim_of",
    "falls_below",
    "fluctuation",
    "kind_of",
    "mask",
    "multiply_patterns",
    "multiply_terms",
    "pattern",
    "relabel",
    "simplify",
    "source",
    "sum_pattern",
]

MOST_CORRECTIONS = 200  # terms per tag, beyond which corrections to scaling are left out
MOST_TERMS = 240  # per tag, beyond which only leading sizes are kept
CUT = f"of more than {MOST_TERMS} terms only those of the largest sizes are followed; what is left out could lead later"
SUM = "Δ"  # the name of an unknown begins so, and what is in a tag, if it stands for several weights (:mod:`scalecalc.cuts`)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a derivation: which rule made a term from which terms, by which law, assuming what."""

    rule: str
    law: str
    at: str = ""
    parents: tuple[Term, ...] = ()
    assumption: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """One contribution to a tensor: size of an entry at small index, pattern, tag (a sorted multiset of weights)."""

    size: Scale
    pattern: Pattern = EVEN
    tag: tuple[str, ...] = ()
    why: Step | None = field(default=None, compare=False, repr=False)

    def rms(self, labels: Iterable[str]) -> Scale:
        """Size of the root-mean-square over all entries of a tensor with these labels."""
        out = self.size
        for label in labels:
            dim, together = dim_of(label), self.pattern.diagonal(label)
            out = out / Scale.of(dim, HALF)
            if not together or label == min(together):  # along a diagonal only one index counts
                out = out * self.pattern.profile(label).norm(dim)
        for where in self.pattern.masks:
            out = out * where.density**HALF
        return out


@dataclass(frozen=True)
class Limits:
    """What is kept (hard case W10): in a tag, how often one weight may occur, how many different ones, how many in all;
    and the dims along which something is centred, where squares fluctuate about their means (hard case W4); and the
    highest phase that anything in the program may have, up to which the harmonics of a function count (hard case W7).
    """

    degree: int = 2
    distinct: int = 1
    total: int | None = None
    centred: frozenset[str] = frozenset()
    harmonics: int = 1

    def join(self, a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...] | None:
        """The union of two tags, or None if it is beyond the limits."""
        if not b:
            return a
        if not a:
            return b
        both = tuple(sorted(a + b))
        if self.total is not None and len(both) > self.total:
            return None
        return both if len(set(both)) <= self.distinct and len(both) <= self.degree * len(set(both)) else None


def multiply_terms(a: Term, b: Term, why: Step, limits: Limits) -> list[Term]:
    tag = limits.join(a.tag, b.tag)
    if tag is None:
        return []
    size = a.size * b.size
    product = multiply_patterns(a.pattern, b.pattern, limits.centred)
    return [Term(size * factor, one, tag, why) for factor, one in product]


def falls_below(a: Term, b: Term, regime: Regime) -> bool:
    """Is a smaller than b, or equal to it, at every index where a is (sizes compared in the regime)?"""
    if a.pattern.shape is b.pattern.shape:
        return regime.order(a.size, b.size) in (-1, 0)
    excess = _excess(a.pattern.shape, b.pattern.shape)
    return excess is not None and regime.order(a.size * excess, b.size) in (-1, 0)


@cache
def _gain(a: Pattern, b: Pattern) -> Scale:
    """By how much sums can bring a forward against b: N^(1/2) per axis where they differ.

    A part on a diagonal of k labels, against one that is spread over all of them: N for the one sum that is aligned there
    at best, over N^(k/2) for the k that the other makes at least.
    """
    gain = ONE
    for together in a.same:
        label = min(together)
        gain = gain * Scale.of(dim_of(label), 1 - len(together) * HALF)
    differ = frozenset[str]().union(*(x.labels for x in a.odd ^ b.odd)) - frozenset[str]().union(*a.same)
    return gain * _root(differ) if differ else gain


@cache
def _root(labels: frozenset[str]) -> Scale:
    """∏ N^(1/2) over the dims of some labels."""
    return count(labels) ** HALF


def _faster(a: Pattern, b: Pattern) -> bool:
    """Do a's profiles fall at least as fast as b's, along every axis, and is a's diagonal no wider?"""
    return a.shape is b.shape or _within(a.shape, b.shape)


@cache
def _excess(a: Shape, b: Shape) -> Scale | None:
    """The largest ratio of a's entries to b's at any index, for alike sizes at the first; None if there is none."""
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
def _within(a: Shape, b: Shape) -> bool:
    if not all(any(narrow >= wide for narrow in a.same) for wide in b.same):
        return False
    return all(a.profile(label).bounded_by(b.profile(label)) for label in {*a.profiles, *b.profiles})


def simplify(terms: Iterable[Term], regime: Regime = FREE, margin: Scale = ONE) -> tuple[Term, ...]:
    """Merge what is alike, unite sources, drop what can never lead (hard cases W2 and W10).

    ``margin`` keeps more: smaller terms that a fit at affordable widths has to know as corrections to scaling.
    """
    alike: dict[tuple[tuple[str, ...], Pattern, Scale], list[Term]] = {}
    for t in terms:
        same = alike.setdefault((t.tag, t.pattern, _own(t, regime)), [])
        if any(regime.same(t.size, s.size) or regime.order(t.size * margin, s.size) == -1 for s in same):
            continue
        same[:] = [s for s in same if regime.order(s.size * margin, t.size) != -1] + [t]
    merged = _unite_sources([t for same in alike.values() for t in same])
    by_tag: dict[tuple[str, ...], list[Term]] = {}
    for t in merged:
        by_tag.setdefault(t.tag, []).append(t)
    tops = {tag: _Tops(group, regime, margin) for tag, group in by_tag.items()}
    out: list[Term] = []
    for tag, group in by_tag.items():
        left = [t for t in group if not tops[tag].hide(t)]
        if len(tag) > 1:
            # A higher order counts only where it can outgrow, for one of its weights, every lower order with that weight.
            parts = [part for part in _contained(tag) if part in tops]
            lower = [[tops[part] for part in parts if weight in part] for weight in dict.fromkeys(tag)]
            left = [t for t in left if not all(any(one.hide(t) for one in own) for own in lower)]
        if len(left) > MOST_CORRECTIONS and margin is not ONE:  # what may lead stays
            strict = _Tops(left, regime, ONE)
            left = [t for t in left if not strict.hide(t)]
        out += _most(left, regime) if len(left) > MOST_TERMS else left
    return tuple(out)


def _own(t: Term, regime: Regime) -> Scale:
    """The unknowns in a term's size, if its tag stands for several weights: of these none hides another.

    Where one weight's part is the smaller one at a point, its rate would have no bound there; it could grow until it hides
    the others.  So only those that depend on the unknowns in the same way are compared.
    """
    return regime.point.part(t.size) if regime.point is not None and _summed(t.tag) else ONE


@cache
def _summed(tag: tuple[str, ...]) -> bool:
    return any(map(is_sum, tag))


def is_sum(name: str) -> bool:
    """Is it the name of a sum's unknown, or in the tag of what is carried on of it?"""
    return name.startswith(SUM)


class _Tops:
    """Terms, of which only the largest of each pattern can hide another term for good.

    For good: no sum or product can ever bring that one above it, or as a correction within ``margin`` of it.
    """

    def __init__(self, terms: Sequence[Term], regime: Regime, margin: Scale):
        self.regime, self.margin = regime, margin
        self.value: Callable[[Scale], Scale] = regime.point or (lambda size: size)
        self.tops: dict[Scale, dict[Pattern, dict[Scale, list[Term]]]] = {}  # by pattern, and what their sizes come to
        for t in terms:
            own, value = self.tops.setdefault(_own(t, regime), {}).setdefault(t.pattern, {}), self.value(t.size)
            if value not in own:
                orders = {v: regime.order(value, v) for v in own}
                if -1 in orders.values():
                    continue
                for v in [v for v, order in orders.items() if order == 1]:
                    del own[v]
            own.setdefault(value, []).append(t)
        self.values = {part: {v for own in tops.values() for v in own} for part, tops in self.tops.items()}

    def hide(self, t: Term) -> bool:
        """Can a term never come above one of these other terms?"""
        begin, part = self.value(t.size) * self.margin, _own(t, self.regime)
        flat = not (t.pattern.profiles or t.pattern.same)  # then it can only be brought forward
        if flat and not any(self.regime.order(begin, value) == -1 for value in self.values.get(part, ())):
            return False
        for other, own in self.tops.get(part, {}).items():
            reach = _reach(t.pattern, other)
            if reach is None:
                continue
            most = begin * reach
            for value, terms in own.items():
                order = self.regime.order(most, value)
                if order == -1 and any(o is not t for o in terms):
                    return True
                # At the margin, or alike, or alike at this point only, it is not hidden.
                if order == 0 and self.margin is ONE and _gain(t.pattern, other) is not ONE:
                    size = t.size * reach
                    if any(o is not t and self.regime.always(size, o.size) for o in terms):
                        return True
        return False


@cache
def _reach(a: Pattern, b: Pattern) -> Scale | None:
    """The most that sums and profiles can bring a pattern forward against another; None if without limit."""
    if not b.masks <= a.masks:
        return None  # the other is exactly zero where this one is not
    excess = ONE if a.shape is b.shape else _excess(a.shape, b.shape)
    return None if excess is None else _gain(a, b) * excess


@cache
def _contained(tag: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The shorter tags within a tag, each of one weight at least."""
    return tuple({part for k in range(1, len(tag)) for part in combinations(tag, k)})


def _most(terms: list[Term], regime: Regime) -> list[Term]:
    """Too many terms (incomparable sizes multiply): keep those that nothing exceeds, whatever its parity, and say so.

    It was 60, and silent, with corrections among them: a law of large numbers N with a summand N^(−1/2) times smaller than
    another's was left out before its sum (an update behind a layer norm, with a random bias, came out N^(1/2) too small).
    """

    def exceeds(o: Term, t: Term) -> bool:
        return (
            regime.order(t.size, o.size) == -1 and _faster(t.pattern, o.pattern) and _own(t, regime) is _own(o, regime)
        )

    kept = [t for t in terms if not any(exceeds(o, t) for o in terms)]
    if len(kept) == len(terms):
        return kept
    return [replace(t, why=replace(t.why, assumption=t.why.assumption or CUT)) if t.why is not None else t for t in kept]


def _erased(a: Atom | Knot) -> object:
    """What is left of an atom if its sources are left out."""
    return a if isinstance(a, Knot) else (a.tensor, tuple(s if isinstance(s, str) else s.label for s in a.slots))


@cache
def kind_of(one: Pattern) -> object:
    """A pattern but for its sources: what patterns have alike that may be united."""
    return one.profiles, one.same, one.masks, frozenset(_erased(a) for a in one.odd), len(one.odd)


def _unite_sources(terms: list[Term]) -> list[Term]:
    """W a + W b is one vector W (a + b): terms that differ only in the source of one atom become one term."""
    groups: dict[Any, list[Term]] = {}
    for t in terms:
        groups.setdefault((t.size, t.tag, kind_of(t.pattern)), []).append(t)
    out: list[Term] = []
    for group in groups.values():
        while len(group) > 1:
            t = group.pop()
            for i, other in enumerate(group):
                united = _united(t.pattern, other.pattern)
                if united is not None:
                    group[i] = replace(other, pattern=united)
                    break
            else:
                out.append(t)
        out += group
    return out


def _united(a: Pattern, b: Pattern) -> Pattern | None:
    only_a, only_b = a.odd - b.odd, b.odd - a.odd
    if len(only_a) != 1 or len(only_b) != 1:
        return a if a is b else None
    (x,), (y,) = only_a, only_b
    if isinstance(x, Knot) or isinstance(y, Knot) or _erased(x) != _erased(y):
        return None
    slots: list[str | Source] = []
    for s, t in zip(x.slots, y.slots, strict=True):
        if isinstance(s, Source) and isinstance(t, Source) and s is not t:
            slots.append(source(s.label, s.patterns | t.patterns))
        else:
            slots.append(s)
    return pattern(a.profiles, (a.odd & b.odd) | {atom(x.tensor, slots)}, a.same, a.masks)
