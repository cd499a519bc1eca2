"""Where dominance changes along an index (hard case W5).

Leading terms of unlike profiles lead at different indices: beside b/N, a n^(−2) leads up to n = N^(1/2), and b from there
on.  A function that is not the same at every size of its argument changes its behaviour where the argument passes one:
Adam with an ε of its own, where the gradient passes ε.  So an axis is cut where two leads cross, where a lead crosses one,
and where windows end; what is applied entry by entry is then applied window by window (:mod:`scalecalc.expand`), to terms
of which one size and one profile lead throughout.  About an index where two leads tie, both lead together: a window of
that one index, Θ(n) entries, is added for the products of their parities.

An index is a monomial in the widths, found from sizes that are monomials: s n^(−p) = s′ n^(−p′) at n = (s/s′)^(1/(p − p′)).
Indices are compared in the regime.  Where it does not decide (N_u^(1/2) beside the last of N_x, in the free regime), or
where leads are unlike along two axes, so that they cross on a curve, there is no cut: then every lead is taken to lead
everywhere, which is an upper bound, and recorded as an assumption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import combinations, pairwise

from scalecalc.profile import FLAT, ONE, Bound, Profile, dim_of
from scalecalc.scale import Regime, Scale
from scalecalc.term import Pattern, Term, falls_below, pattern

Key = tuple[Fraction, ...]


@dataclass(frozen=True)
class Window:
    """Indices along an axis, from ``low`` to ``high`` (None: the first, the last)."""

    label: str
    low: Bound | None
    high: Bound | None

    @property
    def point(self) -> bool:
        return self.low is not None and self.low == self.high


def bound(index: Scale, dim: str, regime: Regime) -> Bound | None:
    """An index along an axis of this dim, at most the last one and at least the first.

    None: the regime does not decide where it lies.  In the free regime the powers of the dim itself are totally ordered,
    and so is what lies beyond either end; elsewhere all scales are.
    """
    last = Scale.of(dim)
    at, end = (regime.point(s) if regime.point is not None else s for s in (index, last))
    if regime.kind != "free":
        keys = [regime.key(s) for s in (ONE, at, end)]
    elif at.dims <= {dim}:
        keys = [(s.power(dim), s.log_power(dim)) for s in (ONE, at, end)]
    elif at <= ONE:
        return Bound((Fraction(0), Fraction(0)), ONE)
    elif at >= end:
        return Bound((Fraction(1), Fraction(0)), last)
    else:
        return None
    return min(max(Bound(keys[0], ONE), Bound(keys[1], index), key=_key), Bound(keys[2], last), key=_key)


def _key(at: Bound) -> Key:
    return at.key


def leading(terms: Sequence[Term], regime: Regime) -> list[Term]:
    """The terms that no other exceeds at every index; what turns with the index is as large there as what does not.

    Phases were compared as well, as they are where a term hides another for good (a sum may bring forward what does not
    turn).  Beside states that turn and fall like 1/n their 1/n² that does not was then taken to lead, and sign's derivatives
    there, which grow like n², made Adam's update of S4D-Lin's C too large by N_x.
    """
    still = [replace(t, pattern=_still(t.pattern)) if _turns(t.pattern) else t for t in terms]
    out: list[Term] = []
    for i, (t, own) in enumerate(zip(terms, still, strict=True)):
        below = (o for j, o in enumerate(still) if j != i and falls_below(own, o, regime))
        if all(falls_below(o, own, regime) for o in below):
            out.append(t)
    return out


def _turns(one: Pattern) -> bool:
    return any(p.phase or p.imaginary for _, p in one.profiles)


@cache
def _still(one: Pattern) -> Pattern:
    """A pattern without its phases."""
    return pattern([(label, p.modulus) for label, p in one.profiles], one.odd, one.same, one.masks)


def moduli(t: Term) -> dict[str, Profile]:
    """What turns with the index has the size of what does not; the phases go with the parities."""
    return {label: p.modulus for label, p in t.pattern.profiles if p.modulus != FLAT}


def uneven(leads: Sequence[Term], levels: bool) -> bool:
    """May leads differ in where they lead, or (``levels``) in where they pass one?  Cheap: most never do."""
    first = leads[0].pattern.shape
    if any(t.pattern.shape is not first for t in leads):
        return True
    return first.windowed or (levels and bool(first.profiles))


def cuts(terms: Sequence[Term], levels: bool, regime: Regime, done: frozenset[str] = frozenset()) -> list[Window]:
    """The windows along one axis in which the same terms lead throughout, on the same side of one; none if that is all of it.

    ``terms``: those that may lead; ``done``: axes that are cut already.
    """
    if not terms or not uneven(terms, levels):
        return []
    leads = leading(terms, regime)
    for label in sorted({label for t in leads for label in moduli(t)} - done):
        found = _along(label, leads, levels, regime)
        if len(found) > 1:
            return found
    return []


def _along(label: str, leads: Sequence[Term], levels: bool, regime: Regime) -> list[Window]:
    marks = _marks(label, leads, levels, regime)
    if not marks:
        return []
    ends: list[Bound | None] = [None, *marks, None]
    out: list[Window] = []
    last: object = None
    for low, high in pairwise(ends):
        here = Window(label, low, high)
        state = _state(here, leads, levels, regime)
        if out and state == last:
            out[-1] = replace(out[-1], high=high)
        else:
            out.append(here)
        last = state
    abouts = [Window(label, w.low, w.low) for w in out[1:]]
    return out + [here for here in abouts if _tie(here, leads, regime)] if len(out) > 1 else []


def _marks(label: str, leads: Sequence[Term], levels: bool, regime: Regime) -> list[Bound]:
    """Where windows end, two leads cross or one crosses one, within the axis."""
    dim = dim_of(label)
    found: dict[Key, Bound] = {}
    first, last = bound(ONE, dim, regime), bound(Scale.of(dim), dim, regime)
    assert first is not None and last is not None

    def add(at: Bound | None) -> None:
        if at is not None and first.key < at.key < last.key:
            found.setdefault(at.key, at)

    for t in leads:
        own = t.pattern.profile(label)
        add(own.low)
        add(own.high)
        if levels and set(moduli(t)) == {label} and own.power and not own.log and not own.decaying:
            add(bound(t.size ** (1 / own.power), dim, regime))
    for s, t in combinations(leads, 2):
        p, q = s.pattern.profile(label), t.pattern.profile(label)
        others = ({k: v for k, v in moduli(x).items() if k != label} for x in (s, t))
        if p.power == q.power or p.log != q.log or p.decaying or q.decaying or s.pattern.same != t.pattern.same:
            continue
        if next(others) == next(others):
            add(bound((s.size / t.size) ** (1 / (p.power - q.power)), dim, regime))
    return sorted(found.values(), key=_key)


def _state(here: Window, terms: Sequence[Term], levels: bool, regime: Regime) -> object:
    """What leads in a window, and on which sides of one it is."""
    inside = [(k, cut) for k, t in enumerate(terms) if (cut := restricted(t, here)) is not None]
    leads = leading([cut for _, cut in inside], regime)
    sides = [{regime.order(v, ONE) for v in values(t)} - {0} for t in leads] if levels else []
    return [k for k, cut in inside if any(cut is lead for lead in leads)], sides


def _tie(here: Window, terms: Sequence[Term], regime: Regime) -> bool:
    """Do terms lead together about an index that are unlike beside it?"""
    inside = [(t, cut) for t in terms if (cut := restricted(t, here)) is not None]
    leads = leading([cut for _, cut in inside], regime)
    return len({t.pattern.profile(here.label).modulus for t, cut in inside if any(cut is lead for lead in leads)}) > 1


def values(t: Term) -> Iterator[Scale]:
    """Its sizes at the corners of its window: the smallest and the largest are among them."""
    out = [t.size]
    for label, p in t.pattern.profiles:
        if p.modulus != FLAT:
            out = [s * end for s in out for end in dict.fromkeys(p.ends(dim_of(label)))]
    yield from out


def restricted(t: Term, here: Window) -> Term | None:
    """A term within a window; None where it is not there.  About one index its profile is flat, its size that index's."""
    own = t.pattern.profile(here.label)
    own_low, own_high = own.low, own.high
    if here.low is not None and own_high is not None and not here.point and own_high.key <= here.low.key:
        return None
    if here.high is not None and own_low is not None and not here.point and own_low.key >= here.high.key:
        return None
    now, size = own.within(here.low, here.high), t.size
    if now.empty:
        return None
    if here.point and not own.decaying:
        size = size * now.ends(dim_of(here.label))[0]
        now = replace(now, power=Fraction(0), log=Fraction(0), low=here.low, high=here.high)
    if now is own:
        return t
    one = t.pattern
    profiles = [(label, p) for label, p in one.profiles if label != here.label]
    return replace(t, size=size, pattern=pattern([*profiles, (here.label, now)], one.odd, one.same, one.masks))


def clipped(t: Term, here: Window) -> Term | None:
    """What was made within a window is there only."""
    own = t.pattern.profile(here.label)
    now = own.within(here.low, here.high)
    if now.empty:
        return None
    if now is own:
        return t
    one = t.pattern
    profiles = [(label, p) for label, p in one.profiles if label != here.label]
    return replace(t, pattern=pattern([*profiles, (here.label, now)], one.odd, one.same, one.masks))
