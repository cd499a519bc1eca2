"""The abstract value of a tensor: a finite sum of terms.

A :class:`Term` is one contribution to a tensor: the typical size of an entry (a :class:`~scalecalc.scale.Scale`), a
:class:`~scalecalc.pattern.Pattern` that says how entries vary along the growing axes, and a tag: the weights whose
updates it is multilinear in.  Terms that are alike merge to the largest, and what can never lead is dropped
(:func:`simplify`), so that they stay few however deep the network is.

The conventions are those of :mod:`scalecalc.pattern`, the laws of product and sum those of :mod:`scalecalc.wick`; their
names are at hand here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import Any

from scalecalc.dominance import SUM, Tops, exceeded, excess, is_sum, own, tops
from scalecalc.pattern import (
    EVEN,
    Atom,
    Knot,
    Mask,
    Pattern,
    Source,
    Weighted,
    atom,
    fluctuation,
    fluctuations,
    mask,
    pattern,
    relabel,
    source,
)
from scalecalc.profile import DECAYING, FLAT, HALF, HERE, ONE, Profile, Profiles, count, dim_of
from scalecalc.reads import OPENED, note
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.wick import multiply_patterns, sum_pattern

__all__ = [
    "DECAYING",
    "EVEN",
    "FLAT",
    "HALF",
    "HERE",
    "ONE",
    "SUM",
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
    "fluctuations",
    "is_sum",
    "kind_of",
    "mask",
    "multiply_patterns",
    "multiply_terms",
    "pattern",
    "products",
    "relabel",
    "simplify",
    "source",
    "sum_pattern",
]

MOST_CORRECTIONS = 200  # terms per tag, beyond which corrections to scaling are left out
MOST_TERMS = 240  # per tag, beyond which only leading sizes are kept
MOST_KEPT = 2 * MOST_TERMS  # of what is odd in different tensors
CUT = f"of more than {MOST_TERMS} terms only those of the largest sizes are followed; what is left out could lead later"


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


def multiply_terms(a: Term, b: Term, why: Step | None, limits: Limits) -> list[Term]:
    tag = limits.join(a.tag, b.tag)
    if tag is None:
        return []
    size = a.size * b.size
    product = multiply_patterns(a.pattern, b.pattern, limits.centred)
    return [Term(size * factor, one, tag, why) for factor, one in product]


def products(
    a: Iterable[Term], b: Sequence[Term], limits: Limits, why: Callable[[Term, Term], Step | None], squared: int = 0
) -> Iterator[Term]:
    """The products of all terms of one tensor with those of another, where their tags may be joined; of equal ones the first.

    There may be millions of pairs and hundreds of products, so nothing is made before it is known to be new.

    Args:
        squared: so many terms there are in a, and they are the last ones in b: of these every pair is multiplied once.
    """
    made: dict[tuple[str, ...], set[tuple[Scale, Pattern]]] = {}
    beside: dict[tuple[str, ...], list[tuple[int, Term, tuple[str, ...]]]] = {}
    tags = dict.fromkeys(y.tag for y in b)
    for i, x in enumerate(a):
        if x.tag not in beside:
            joined = {tag: both for tag in tags if (both := limits.join(x.tag, tag)) is not None}
            made.update((both, set()) for both in joined.values() if both not in made)
            first = len(b) - squared
            beside[x.tag] = [(k - first, y, joined[y.tag]) for k, y in enumerate(b) if y.tag in joined]
        found: dict[Pattern, Weighted] = {}
        for k, y, tag in beside[x.tag]:
            if 0 <= k < i:
                continue
            product = found.get(y.pattern)
            if product is None:
                product = found[y.pattern] = multiply_patterns(x.pattern, y.pattern, limits.centred)
            size, known, step = x.size * y.size, made[tag], None
            for factor, one in product:
                new = size * factor, one
                if new not in known:
                    known.add(new)
                    step = step or why(x, y)
                    yield Term(*new, tag, step)


def falls_below(a: Term, b: Term, regime: Regime) -> bool:
    """Is a smaller than b, or equal to it, at every index where a is (sizes compared in the regime)?"""
    if a.pattern.shape is b.pattern.shape:
        return regime.order(a.size, b.size) in (-1, 0)
    most = excess(a.pattern.shape, b.pattern.shape)
    return most is not None and regime.order(a.size * most, b.size) in (-1, 0)


class _Alike:
    """The largest of terms of one tag and pattern.

    At a point many sizes come to one value, so that a term is compared with what sizes come to, not with every size.
    """

    __slots__ = ("sizes", "terms")

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self.sizes: dict[Scale, set[Scale]] = {}  # what sizes come to → those that do

    def add(self, t: Term, regime: Regime, margin: Scale) -> None:
        value = t.size if regime.point is None else regime.point(t.size)
        if not self.sizes:
            self.sizes[value], self.terms = {t.size}, [t]
            return
        if t.size in self.sizes.get(value, ()):
            return
        most, smaller = value * margin, set[Scale]()
        for other in self.sizes:
            if other is not value:
                if regime.compare(most, other) == -1 or (regime.point is None and regime.compare(value, other) == 0):
                    return
                if regime.compare(other * margin, value) == -1:
                    smaller.add(other)
        if smaller:
            gone = set[Scale]().union(*map(self.sizes.pop, smaller))
            self.terms = [s for s in self.terms if s.size not in gone]
        self.sizes.setdefault(value, set()).add(t.size)
        self.terms.append(t)


def simplify(terms: Iterable[Term], regime: Regime = FREE, margin: Scale = ONE) -> tuple[Term, ...]:
    """Merge what is alike, unite sources, drop what can never lead (hard cases W2 and W10).

    ``margin`` keeps more: smaller terms that a fit at affordable widths has to know as corrections to scaling.
    """
    alike: dict[tuple[tuple[str, ...], Pattern, Scale], _Alike] = {}
    for t in terms:
        key = t.tag, t.pattern, own(t, regime)
        same = alike.get(key)
        if same is None:
            same = alike[key] = _Alike()
        same.add(t, regime, margin)
    merged = _unite_sources([t for same in alike.values() for t in same.terms])
    by_tag: dict[tuple[str, ...], list[Term]] = {}
    for t in merged:
        by_tag.setdefault(t.tag, []).append(t)
    hiding = {tag: tops(group, regime, margin) for tag, group in by_tag.items()}
    out: list[Term] = []
    for tag, group in by_tag.items():
        left = [t for t in group if not hiding[tag].hide(t)]
        if len(tag) > 1:
            # A higher order counts only where it can outgrow, for one of its weights, every lower order with that weight.
            parts = [part for part in _contained(tag) if part in hiding]
            lower = [[hiding[part] for part in parts if weight in part] for weight in dict.fromkeys(tag)]
            left = [t for t in left if not all(any(one.hide(t) for one in with_weight) for with_weight in lower)]
        if len(left) > MOST_CORRECTIONS and margin is not ONE:  # what may lead stays
            left = _leading_and_the_next(left, regime)
        out += _most(left, regime) if len(left) > MOST_TERMS else left
    return tuple(out)


def _leading_and_the_next(terms: list[Term], regime: Regime) -> list[Term]:
    """What may lead, and of the others the largest: one of each size, that which is odd in the least (its sums lose least).

    All others were dropped; but what stands beside a back-reaction N^(1/2) times as large (an update of mamba's input that
    comes back through W_B) is all that one sees of the row up to N = 256, and a fit that is not told of it stays open.  One
    of every size, small ones too, made the derivation of ssd 20 times as long.
    """
    strict = Tops(terms, regime, ONE)
    hidden = [strict.hide(t) for t in terms]
    rest = [t for t, below in zip(terms, hidden, strict=True) if below]
    seen = {t.size for t, below in zip(terms, hidden, strict=True) if not below}
    largest = Tops(rest, regime, ONE)
    first: dict[Scale, Term] = {}
    for t in sorted(rest, key=lambda t: len(t.pattern.odd)):
        if t.size not in seen and not largest.hide(t):
            first.setdefault(t.size, t)
    also = {id(t) for t in first.values()}
    return [t for t, below in zip(terms, hidden, strict=True) if not below or id(t) in also]


@cache
def _contained(tag: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The shorter tags within a tag, each of one weight at least."""
    return tuple({part for k in range(1, len(tag)) for part in combinations(tag, k)})


def _most(terms: list[Term], regime: Regime) -> list[Term]:
    """Too many terms (incomparable sizes multiply): keep those that nothing exceeds, whatever its parity, and say so.

    It was 60, and silent, with corrections among them: a law of large numbers N with a summand N^(−1/2) times smaller than
    another's was left out before its sum (an update behind a layer norm, with a random bias, came out N^(1/2) too small).
    It happened again at 240 (two norms, one of them over the batch): what is odd in the same tensors is compared first, of
    which no sum brings one before another, and only if that is not enough all with all.  Overtones go before either: the
    hundred of what is the sign of a turning gradient left no room for the part along the gradient itself, and an update
    came out N^(1/2) too small likewise.  So does what fluctuates in several squares at once, of which every product with
    another square made one more: the hundreds of them are what a Conformer block did not come to an end for.
    """
    kept = _without_overtones(terms)
    if len(kept) > MOST_TERMS:
        kept = _fluctuating_once(kept)
    if len(kept) > MOST_TERMS:
        alike: dict[Any, list[Term]] = {}
        for t in kept:
            alike.setdefault(_atoms(t.pattern), []).append(t)
        same = [t for own in alike.values() for t, below in zip(own, exceeded(own, regime), strict=True) if not below]
        kept = same if len(same) <= MOST_KEPT else _simplest(kept, regime)
    if len(kept) == len(terms):
        return kept
    return [replace(t, why=replace(t.why, assumption=t.why.assumption or CUT)) if t.why is not None else t for t in kept]


def _simplest(terms: list[Term], regime: Regime) -> list[Term]:
    """Those that nothing exceeds, and of the others those that are odd in the least, as many as are kept."""
    below = list(exceeded(terms, regime))
    room = MOST_KEPT - below.count(False)
    smaller = sorted((i for i, b in enumerate(below) if b), key=lambda i: len(terms[i].pattern.odd))[: max(room, 0)]
    also = set(smaller)
    return [t for i, t in enumerate(terms) if not below[i] or i in also]


def _without_overtones(terms: list[Term]) -> list[Term]:
    """Of terms that differ in how fast they turn alone the slowest, whose sums and products are as large as the others'."""
    slowest: dict[object, Fraction] = {}
    found: list[tuple[Term, object, Fraction]] = []
    for t in terms:
        speed, still = _turning(t.pattern)
        kind = t.size, t.tag, still
        slowest[kind] = min(speed, slowest.get(kind, speed))
        found.append((t, kind, speed))
    return [t for t, kind, speed in found if speed == slowest[kind]]


def _fluctuating_once(terms: list[Term]) -> list[Term]:
    """Without what fluctuates in several squares at once, where a term is there that fluctuates in one of them alone.

    (1 + f)(1 + g) less its mean is f + g + f g.  The last leads only beside a product of two things that were each centred.
    """
    own = {id(t): fluctuations(t.pattern) for t in terms}
    kinds = {(t.size, t.tag, t.pattern.shape, t.pattern.masks, t.pattern.odd) for t in terms if len(own[id(t)]) == 1}

    def less(t: Term) -> bool:
        rest = t.pattern.odd - own[id(t)]
        return any((t.size, t.tag, t.pattern.shape, t.pattern.masks, rest | {f}) in kinds for f in own[id(t)])

    return [t for t in terms if len(own[id(t)]) < 2 or not less(t)]


@cache
def _turning(one: Pattern) -> tuple[Fraction, int]:
    """How fast a pattern turns, and all else of it, as a number."""
    speeds = (min(p.phase, p.period - p.phase) if p.period else abs(p.phase) for _, p in one.profiles)
    still = tuple((label, p.modulus, p.imaginary, p.scattered, bool(p.phase)) for label, p in one.profiles)
    return sum(speeds, Fraction(0)), _KINDS.setdefault((still, one.odd, one.same, one.masks), len(_KINDS))


@cache
def _atoms(one: Pattern) -> frozenset[object]:
    """The atoms of a pattern but for their sources."""
    return frozenset(_erased(a) for a in one.odd if not isinstance(a, Knot))


_KINDS: dict[object, int] = {}


def _erased(a: Atom | Knot) -> object:
    """What is left of an atom if its sources are left out."""
    return a if isinstance(a, Knot) else (a.tensor, tuple(s if isinstance(s, str) else s.label for s in a.slots))


@cache
def kind_of(one: Pattern) -> int:
    """A pattern but for its sources, as a number: what patterns have alike that may be united."""
    kind = one.shape, one.masks, frozenset(_erased(a) for a in one.odd), len(one.odd)
    return _KINDS.setdefault(kind, len(_KINDS))


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
                    group[i] = Term(other.size, united, other.tag, other.why)
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
            if s.labels != t.labels:
                return None
            note(OPENED, s)
            note(OPENED, t)
            slots.append(source(s.label, s.patterns | t.patterns, s.labels))
        else:
            slots.append(s)
    return pattern(a.profiles, (a.odd & b.odd) | {atom(x.tensor, slots)}, a.same, a.masks)
