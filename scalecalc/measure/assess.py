"""From the cells of one row to its verdict: which fits are tried, and which of them may say what.

Three fits, from the strictest to the most lenient, each with its own right:

1. *plain*: the leading terms alone.  May say that the row agrees.
2. *corrected*: with the smaller terms that the derivation knows, each at most as large as the leading one at the centre
   of the cells.  May say that the row agrees.
3. *excused*: also with terms that are larger than the leading one in some part of the cells (rivals, in an ordered
   limit that is not reached yet) at any ratio, and with a generic correction N^(−1/2) in every dim (and a larger one, of
   what is not saturated yet).  It alone may say
   that the row disagrees: what can be explained by widths that are too small is no refutation.

An agreement has two chances to be wrong, so that each is given half the error; a disagreement has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from scalecalc.measure.slopes import Cell, fit
from scalecalc.scale import Scale
from scalecalc.verdict import Doubt, Judgement, judge, seeds_needed


@dataclass(frozen=True)
class Claim:
    """What is held against the cells.

    Args:
        terms: the leading scales; none for an exact zero.
        corrections: smaller scales.
        rivals: scales that lead elsewhere and are not to lead here.
        slow: dims in which what the row rests on comes near its limit more slowly than 1/N, relative to size², and by which
            power (:mod:`scalecalc.saturation`).
    """

    terms: tuple[Scale, ...]
    corrections: tuple[Scale, ...] = ()
    rivals: tuple[Scale, ...] = ()
    slow: Mapping[str, float] = field(default_factory=dict[str, float])


def assess(cells: Sequence[Cell], claim: Claim, alpha: float, tolerance: float) -> tuple[Judgement, float]:
    """The verdict, and about how many times as many seeds a conclusive one would take."""
    known = (*claim.rivals, *claim.corrections)
    share = alpha / 2 if known else alpha
    found = fit(cells, claim.terms, share)
    plain = judge(found, claim.terms, tolerance)
    need = seeds_needed(found, tolerance)
    if plain.verdict == "agrees":
        return plain, need
    best = plain
    if known and _narrow(plain, tolerance):
        found = fit(cells, claim.terms, share, corrections=known)
        best = judge(found, claim.terms, tolerance)
        need = min(need, seeds_needed(found, tolerance))
        if best.verdict == "agrees":
            return best, need
    if best.verdict == "disagrees" and claim.terms:
        every = (*claim.terms, *claim.rivals)
        found = fit(cells, every, alpha, corrections=claim.corrections, generic=True, slow=claim.slow)
        excused = judge(found, every, tolerance)
        if excused.verdict != "disagrees":
            dims = dict.fromkeys(miss.replace("log ", "").split()[0] for miss in best.misses)
            doubt = Doubt(f"the slope in {', '.join(dims)} is off, but no more than at small widths", wider=tuple(dims))
            return Judgement("inconclusive", str(doubt), plain.slopes, (), doubt), math.inf
        best = replace(best, misses=tuple(m for m in best.misses if m in excused.misses) or excused.misses)
    nearer = min((j.doubt for j in (plain, best) if j.doubt is not None), key=lambda d: d.times, default=None)
    if best.verdict == "inconclusive" and nearer is not None:
        best = replace(best, doubt=nearer, settle=str(nearer))
    return replace(best, slopes=plain.slopes), need


def _narrow(found: Judgement, tolerance: float) -> bool:
    """Could the row agree once corrections are allowed for?  They only ever widen an interval."""
    return all(s.high - s.low <= 2 * tolerance for s in found.slopes.values())
