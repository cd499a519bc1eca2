"""Inner products: sums over every axis that is left, of which the largest size alone is asked for.

The square of a norm is one: after a sign with many leading terms an update has hundreds of terms of like size, so that
there are half a million pairs, and of what they come to one size is left.  A pair can come to no more than it does where
all its entries are alike in sign, and to no more than a central-limit sum where nothing in it can pair.  So a pair is only
multiplied out where that exceeds what was found before.

Roads not taken: pairs sorted by what they can come to (the first ones found are nearly always the largest, and of equal
ones the first is the one that a derivation tells); the same for sums that leave an axis (there a smaller term of another
parity counts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from scalecalc.dominance import own
from scalecalc.pattern import EVEN, Pattern, Shape
from scalecalc.profile import ONE, dim_of
from scalecalc.scale import Regime, Scale
from scalecalc.term import Limits, Term, fluctuation
from scalecalc.wick import may_meet, multiply_patterns

Over = tuple[str, ...]
Key = tuple[tuple[str, ...], Scale]  # a tag, and the unknowns within which sizes are compared


class _Largest:
    """The largest sizes found so far, and whether something of at most a size would be dropped beside them."""

    def __init__(self, regime: Regime, margin: Scale):
        self.regime, self.margin = regime, margin
        self.sizes: dict[Key, list[Scale]] = {}

    def _key(self, size: Scale, tag: tuple[str, ...]) -> Key:
        return tag, own(Term(size, EVEN, tag), self.regime) if self.regime.point is not None else ONE

    def add(self, t: Term) -> None:
        if t.pattern is EVEN:
            known = self.sizes.setdefault(self._key(t.size, t.tag), [])
            if t.size not in known:
                known[:] = [s for s in known if self.regime.order(s, t.size) != -1] + [t.size]

    def exceeds(self, size: Scale, tag: tuple[str, ...]) -> bool:
        """As in :func:`scalecalc.term.simplify`: alike, or smaller by more than the margin."""
        alike = self.regime.point is None
        for s in self.sizes.get(self._key(size, tag), ()):
            if s is size or self.regime.order(size * self.margin, s) == -1 or (alike and self.regime.order(size, s) == 0):
                return True
        return False


def inner(
    a: Iterable[Term],
    b: Sequence[Term],
    over: Sequence[str],
    limits: Limits,
    regime: Regime,
    margin: Scale,
    summed: Callable[[Term, Term, Scale, Pattern, tuple[str, ...]], Iterator[Term]],
) -> Iterator[Term]:
    """The terms of Σ_over a·b that may lead, ``over`` all axes that either has.

    ``summed``: of a pair, the size and pattern of its product and its tag, what its sums come to.
    """
    labels = tuple(over)
    largest = _Largest(regime, margin)
    groups: dict[tuple[tuple[str, ...], Scale, Shape, bool], list[Term]] = {}
    for y in b:
        groups.setdefault((y.tag, y.size, y.pattern.shape, _stays(y.pattern, labels)), []).append(y)
    for x in a:
        masked = _stays(x.pattern, labels)
        for (own_tag, size, shape, stays), ys in groups.items():
            tag = limits.join(x.tag, own_tag)
            if tag is None:
                continue
            size = x.size * size
            whole = masked or stays
            if not whole and largest.exceeds(size * _most(x.pattern.shape, shape, labels, frozenset()), tag):
                continue
            for y in ys:
                odd = _unpaired(x.pattern, y.pattern, labels, limits.centred)
                if not whole and largest.exceeds(size * _most(x.pattern.shape, shape, labels, odd), tag):
                    continue
                for factor, one in multiply_patterns(x.pattern, y.pattern, limits.centred):
                    for t in summed(x, y, size * factor, one, tag):
                        largest.add(t)
                        yield t


@cache
def _most(a: Shape, b: Shape, over: Over, odd: frozenset[str]) -> Scale:
    """The most that the sums of a product come to: central-limit ones along the axes ``odd``, else of entries all alike."""
    out = ONE
    for label in over:
        both = (a.profile(label) * b.profile(label)).modulus
        out = out * (both.norm(dim_of(label)) if label in odd else both.sum(dim_of(label)))
    return out


@cache
def _stays(one: Pattern, over: Over) -> bool:
    """Is it exactly zero somewhere, for reasons that no sum over these axes forgets?"""
    return any(m.labels.isdisjoint(over) for m in one.masks)


def _unpaired(a: Pattern, b: Pattern, over: Over, centred: frozenset[str]) -> frozenset[str]:
    """The axes along which a product is odd for certain, since nothing in it can pair."""
    if a.same or b.same:
        return frozenset()
    if may_meet(a, b):
        return frozenset()
    differ = a.odd ^ b.odd
    if centred and any(fluctuation(x) in differ for x in a.odd & b.odd):
        return frozenset()  # a square and what it fluctuates by
    return frozenset(label for x in differ for label in x.labels)
