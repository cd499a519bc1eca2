"""A solution as a function of how three dims or more grow against each other: piecewise monomial in the path's powers.

Along a path N = s^a, L = s^b, batch = s^c a solved exponent is linear in (a, b, c) for as long as the same rows bind it, so
that the paths for which it is one monomial fill a sector of all paths.  Two monomials can only change places where they are
of one size, which along the straight line between two paths is at one point, found exactly; so paths between are solved for
until neighbours differ by such a change alone.

What is continuous and made of finitely many linear pieces is a maximum of minima of them (Ovchinnikov 2002, Beiträge zur
Algebra und Geometrie 43, 297): at each path that was solved for, the least of the monomials that are not below its own.  So
every answer is a formula, which further paths must confirm; one that jumps is a list of the paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, permutations
from math import gcd, lcm

from scalecalc.scale import Regime, Scale

F = Fraction
Solve = Callable[[Regime], Mapping[str, Scale]]
Direction = tuple[Fraction, ...]  # the power of each dim, in the order of the dims
Known = Mapping[Direction, Mapping[str, Scale]]
FAR, MIDDLE, LEVEL = 9, F(5, 2), F(33, 32)  # how far apart neighbouring dims' powers are on the first paths
CLOSE = F(1, 97)
CHECKS = 6  # paths more that must confirm a formula
MOST_SOLVED = 64


@dataclass(frozen=True)
class Sector:
    """A scale, and the paths along which it was found."""

    scale: Scale
    along: tuple[Regime, ...]


def path(dims: Sequence[str], direction: Direction) -> Regime:
    """Each dim grows like s to its power."""
    whole = lcm(*(p.denominator for p in direction))
    common = gcd(*(int(p * whole) for p in direction))
    text = ", ".join(f"{d}={_power(p * whole / common)}" for d, p in zip(dims, direction, strict=True))
    return Regime("path", rates=tuple(sorted(zip(dims, direction, strict=True))), text=text)


def _power(p: Fraction) -> str:
    return "s" if p == 1 else f"s^{p}"


def sectors(dims: Sequence[str], solve: Solve) -> tuple[dict[str, tuple[Sector, ...]], bool]:
    """Every unknown by the sectors of the paths, for any number of dims; and has every path tried confirmed them?"""
    known = {d: dict(solve(path(dims, d))) for d in _starts(len(dims))}
    settled = False
    while not settled and len(known) < MOST_SOLVED:
        told = _read(known)
        fresh = [d for d in dict.fromkeys((*_between(known, dims), *_checks(len(dims), len(known)))) if d not in known]
        known |= {d: dict(solve(path(dims, d))) for d in fresh}
        settled = all(_confirmed(points, fresh, known, u, dims) for u, points in told.items())
    return {u: tuple(_found(own, dims)) for u, own in _read(known).items()}, settled


def neighbours(dims: Sequence[str], how: Regime, near: Fraction) -> list[Regime]:
    """Paths close to one, on every side of it: with the dims in turn a little faster, and in turn a little slower."""
    rates = {**dict.fromkeys(dims, F(1)), **dict(how.rates)}
    out: list[Regime] = []
    for turn in range(len(dims)):
        for sign in (1, -1):
            shifts = {d: 1 + sign * near / MIDDLE ** ((k - turn) % len(dims)) for k, d in enumerate(dims)}
            out.append(path(dims, tuple(rates[d] * shifts[d] for d in dims)))
    return out


def _starts(count: int) -> Iterable[Direction]:
    """Paths on which the dims are in every order, far apart and less far; and one on which they are nearly level."""
    orders = list(permutations(range(count))) if count <= 3 else [
        tuple((turn + sign * k) % count for k in range(count)) for turn in range(count) for sign in (1, -1)
    ]
    for apart in (FAR, MIDDLE):
        for order in orders:
            yield _normal(tuple(F(apart) ** k for k in order))
    yield _normal(tuple(LEVEL**k for k in range(count)))


def _checks(count: int, known: int) -> Iterable[Direction]:
    """Paths that nothing speaks for: powers between 1 and 97, by a sequence that does not repeat."""
    for k in range(known, known + CHECKS):
        yield _normal(tuple(F(1 + (k * k * 7919 + j * 104729 + k * j * j * 1299709) % 97) for j in range(count)))


def _between(known: Known, dims: Sequence[str]) -> list[Direction]:
    """Both sides of each change between the nearest paths that differ."""
    kinds: dict[tuple[tuple[str, Scale], ...], list[Direction]] = {}
    for direction, values in known.items():
        kinds.setdefault(tuple(sorted(values.items(), key=lambda item: item[0])), []).append(direction)
    out: list[Direction] = []
    for one, other in combinations(kinds.values(), 2):
        a, b = min(((a, b) for a in one for b in other), key=lambda pair: _distance(*pair))
        cuts = {c for u in known[a] if u in known[b] and (c := _crossing(known[a][u], known[b][u], a, b, dims)) is not None}
        for c in sorted(cuts)[:1]:
            out += [_mixed(a, b, c * (1 - CLOSE)), _mixed(a, b, c + CLOSE * (1 - c))]
    return [_normal(d) for d in out]


def _normal(direction: Direction) -> Direction:
    total = sum(direction)
    return tuple(p / total for p in direction)


def _distance(a: Direction, b: Direction) -> Fraction:
    return sum(((p - q) ** 2 for p, q in zip(a, b, strict=True)), F(0))


def _mixed(a: Direction, b: Direction, share: Fraction) -> Direction:
    return tuple(p + share * (q - p) for p, q in zip(a, b, strict=True))


def _crossing(x: Scale, y: Scale, a: Direction, b: Direction, dims: Sequence[str]) -> Fraction | None:
    """Where on the way from a to b two scales are equal in power."""
    powers = [(x / y).power(d) for d in dims]
    begin, end = (sum((e * p for e, p in zip(powers, way, strict=True)), F(0)) for way in (a, b))
    return begin / (begin - end) if begin * end < 0 else None


Points = list[tuple[Direction, Scale]]


def _read(known: Known) -> dict[str, Points]:
    out: dict[str, Points] = {}
    for direction, values in known.items():
        for unknown, scale in values.items():
            out.setdefault(unknown, []).append((direction, scale))
    return out


def _found(points: Points, dims: Sequence[str]) -> Iterable[Sector]:
    for scale in dict.fromkeys(s for _, s in points):
        yield Sector(scale, tuple(path(dims, d) for d, s in points if s is scale))


def _confirmed(points: Points, fresh: Iterable[Direction], known: Known, unknown: str, dims: Sequence[str]) -> bool:
    """Is there a formula for the paths that were solved for, and does it tell what was found along further ones?"""
    found = tuple(_found(points, dims))
    groups = bounds(found)
    more = ((path(dims, d), known[d][unknown]) for d in fresh)
    return _says(groups, found) and all(how.order(_value(groups, how), scale) == 0 for how, scale in more)


def _says(groups: Sequence[Sequence[Scale]], found: Iterable[Sector]) -> bool:
    return all(how.order(_value(groups, how), s.scale) == 0 for s in found for how in s.along)


def bounds(found: Sequence[Sector]) -> list[tuple[Scale, ...]]:
    """Minima whose maximum the scale is: per path the monomials that are not below its own, the fewest that say as much."""
    scales = [s.scale for s in found]
    groups = {
        frozenset(i for i, other in enumerate(scales) if how.order(other, s.scale) != -1) for s in found for how in s.along
    }
    groups = {frozenset(i for i in g if not any(scales[o] < scales[i] for o in g)) for g in groups}  # below it on every path
    least = [g for g in groups if not any(o < g for o in groups)]  # a minimum over more is no larger
    return [tuple(scales[i] for i in sorted(g)) for g in sorted(least, key=sorted)]


def _value(groups: Iterable[Sequence[Scale]], how: Regime) -> Scale:
    def largest(scales: Iterable[Scale], sign: int) -> Scale:
        first, *rest = scales
        for s in rest:
            first = s if how.order(s, first) == sign else first
        return first

    return largest([largest(group, -1) for group in groups], 1)


def formula(found: Sequence[Sector]) -> str:
    """As text: a monomial, a minimum or maximum of monomials, a maximum of minima; of one that jumps, what there is.

    >>> N, L = Scale.of("N"), Scale.of("L")
    >>> near, far = (path(("N", "L", "B"), (F(a), F(1), F(1))) for a in (1, 3))
    >>> formula([Sector(L, (far,)), Sector(N * L**-1, (near,))])
    'min(L, L^(-1) N)'
    """
    groups = bounds(found)
    if not _says(groups, found):
        return " or ".join(str(s.scale) for s in found)
    words = [str(g[0]) if len(g) == 1 else f"min({', '.join(map(str, g))})" for g in groups]
    return words[0] if len(words) == 1 else f"max({', '.join(words)})"


__all__ = ["Sector", "bounds", "formula", "neighbours", "path", "sectors"]
