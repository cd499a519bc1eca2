"""A solution as a function of how two dims grow against each other: piecewise monomial along the paths N_x = N_u^ρ.

Along each path a solved exponent is the least of several that are linear in ρ, so the whole answer is piecewise linear with
rational breakpoints, found exactly: two neighbouring pieces are lines in ρ, and they change where they cross.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from scalecalc import sectors
from scalecalc.scale import Regime, Scale
from scalecalc.sectors import Sector

F = Fraction
ONE = Scale.one()
SAMPLES = (F(1, 9), F(2, 5), F(7, 9), F(9, 7), F(5, 2), F(9))  # away from the ratios at which exponents tend to change
CLOSE = F(1, 97)
MOST_DEPTH = 6


@dataclass(frozen=True)
class Piece:
    """A scale, for ``low`` < ρ < ``high`` (None: without end)."""

    low: Fraction
    high: Fraction | None
    scale: Scale


def path(dims: Sequence[str], rho: Fraction) -> Regime:
    """The second dim grows like the first to the power ρ."""
    return Regime("path", rates=((dims[0], F(1)), (dims[1], rho)), text=f"{dims[1]}={dims[0]}^{rho}")


def pieces(dims: Sequence[str], solve: Callable[[Fraction], Mapping[str, Scale]]) -> dict[str, tuple[Piece, ...]]:
    """Every unknown by pieces, for two dims; ``solve``: the solution along the path of a given ρ."""
    known = {rho: dict(solve(rho)) for rho in SAMPLES}

    def refine(low: Fraction, high: Fraction, depth: int) -> None:
        if known[low] == known[high] or depth == 0:
            return
        between = sorted({c for u in known[low] if (c := _crossing(known[low][u], known[high].get(u, ONE), dims))})
        inside = [c for c in between if low < c < high]
        rho = inside[len(inside) // 2] if inside else (low + high) / 2
        for side in (rho - CLOSE * (rho - low), rho + CLOSE * (high - rho)):
            known[side] = dict(solve(side))
        refine(low, rho - CLOSE * (rho - low), depth - 1)
        refine(rho + CLOSE * (high - rho), high, depth - 1)

    for low, high in pairwise(SAMPLES):
        refine(low, high, MOST_DEPTH)
    order = sorted(known)
    return {u: _joined([(rho, known[rho][u]) for rho in order if u in known[rho]], dims) for u in known[order[0]]}


def _crossing(a: Scale, b: Scale, dims: Sequence[str]) -> Fraction | None:
    """The ρ at which two scales are equal in power along the path."""
    first, second = (a.power(d) - b.power(d) for d in dims)
    return -first / second if second and -first / second > 0 else None


def _joined(found: Sequence[tuple[Fraction, Scale]], dims: Sequence[str]) -> tuple[Piece, ...]:
    out: list[Piece] = []
    for i, (rho, scale) in enumerate(found):
        if out and out[-1].scale is scale:
            continue
        low = F(0)
        if out:
            cross = _crossing(out[-1].scale, scale, dims)
            low = cross if cross is not None and found[i - 1][0] <= cross <= rho else (found[i - 1][0] + rho) / 2
            out[-1] = Piece(out[-1].low, low, out[-1].scale)
        out.append(Piece(low, None, scale))
    return tuple(out)


def formula(pieces: Sequence[Piece | Sector], dims: Sequence[str]) -> str:
    """As text: a monomial, min(…) or max(…) of monomials, or case by case.

    >>> U, X = Scale.of("N_u"), Scale.of("N_x")
    >>> formula([Piece(F(0), F(1), X), Piece(F(1), None, U)], ("N_u", "N_x"))
    'min(N_x, N_u)'
    """
    found = [p for p in pieces if isinstance(p, Piece)]
    if not found:
        return sectors.formula([p for p in pieces if isinstance(p, Sector)])
    scales = list(dict.fromkeys(p.scale for p in found))
    if len(scales) == 1:
        return str(scales[0])
    for word, sign in (("min", -1), ("max", 1)):
        if all(_extreme(p, scales, dims, sign) for p in found):
            return f"{word}({', '.join(map(str, scales))})"
    a, b = dims
    cases = [f"{p.scale} for {b} between {a}^{p.low} and {a}^{p.high}" for p in found[1:-1]]
    first, last = found[0], found[-1]
    return "; ".join([f"{first.scale} for {b} below {a}^{first.high}", *cases, f"{last.scale} for {b} above {a}^{last.low}"])


def _extreme(piece: Piece, scales: Sequence[Scale], dims: Sequence[str], sign: int) -> bool:
    """Is the piece's scale the least (or largest) of all, throughout the piece?"""
    ends = [piece.low, piece.high if piece.high is not None else piece.low + 10**6]
    return all(path(dims, max(rho, F(1, 10**6))).order(s, piece.scale) in (0, -sign) for rho in ends for s in scales)
