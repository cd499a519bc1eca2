"""Where to measure what: width settings in each regime, and paths on which one term of a row leads.

A :class:`Frame` belongs to a regime.  It chooses the settings, says in which dims slopes are taken there, and turns a row
into the claims that are held against the settings.

- free: every dim by itself, on a grid below the diagonal.  A row of several terms, none of which dominates, has a slope
  between theirs on such a grid, whatever the exponents are.  So it is measured along a :class:`Path` per term as well:
  the dims in which the term gains most on all others grow, the others stay small, and there the slope has to be that
  term's.  The same path shows a single term that a correction hides at small widths.
- path (``proportional``, ``N_x=N_u^1/2``): the dims grow together, and there is one slope, of the total exponent, in the
  dim that the others are powers of.
- ordered (``N_u>N_x``): each dim grows with those before it at their largest and those after it at their smallest.
  What leads in another order is a rival here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product

from scalecalc.measure.assess import Claim
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.table import Row

Widths = dict[str, int]
LEVELS = 4  # settings along a path, each twice as wide as the one before
NARROW = 2  # a dim that is to stay small has this part of its smallest width
LEAST = 4  # and is no smaller than this
SIDE = 4  # how much a path's dims that stay small are varied


@dataclass(frozen=True)
class Path:
    """Where a term leads: the dims that grow; and what is held against the settings there."""

    grows: tuple[str, ...]
    claim: Claim


@dataclass(frozen=True)
class Frame:
    """A regime's way of measuring: the dims of the program, and widths per dim."""

    regime: Regime
    widths: Mapping[str, Sequence[int]]

    @property
    def dims(self) -> tuple[str, ...]:
        """The dims in which slopes are taken."""
        return (self._base,) if self.regime.kind == "path" else tuple(self.widths)

    @property
    def _base(self) -> str:
        """The dim of a path that the others are powers of: the first of rate 1, or else the first."""
        rates = dict(self.regime.rates)
        named = [d for d in self.widths if d in rates] or list(self.widths)
        return next((d for d in named if rates.get(d, Fraction(1)) == 1), named[0])

    def rate(self, dim: str) -> Fraction:
        """The power of the base dim as which a dim grows along a path."""
        rates = dict(self.regime.rates)
        return rates.get(dim, Fraction(1)) / rates.get(self._base, Fraction(1))

    def settings(self) -> tuple[Widths, ...]:
        """The width settings of all rows."""
        if self.regime.kind == "path":
            base = self.widths[self._base]
            return tuple(
                {
                    d: n if d == self._base else max(1, round(min(ws) * (n / min(base)) ** float(self.rate(d))))
                    for d, ws in self.widths.items()
                }
                for n in base
            )
        if self.regime.kind == "ordered":
            return self._ordered()
        return grid(self.widths)

    def _ordered(self) -> tuple[Widths, ...]:
        order = [*self.regime.order_of, *(d for d in self.widths if d not in self.regime.order_of)]
        out: list[Widths] = []
        for i, dim in enumerate(order):
            for n in self.widths[dim]:
                cell = {d: (max if d in order[:i] else min)(self.widths[d]) for d in order} | {dim: n}
                out += [cell] if cell not in out else []
        return tuple({d: cell[d] for d in self.widths} for cell in out)

    def project(self, scale: Scale) -> Scale:
        """A scale in the dims in which slopes are taken."""
        if self.regime.kind != "path":
            return scale
        power, log = Fraction(0), Fraction(0)
        for dim, e in scale.powers:
            power += e * self.rate(dim)
        for _, e in scale.logs:
            log += e
        return Scale.of(self._base, power) * Scale.log(self._base, log)

    def place(self, cell: Mapping[str, int]) -> Widths:
        """A setting in the dims in which slopes are taken."""
        return {d: cell[d] for d in self.dims}

    def claim(self, row: Row, free: Row | None) -> Claim:
        """What is held against all settings; ``free`` is the same row in the free regime, if it is there, too."""
        others = [*row.subleading, *((*free.terms, *free.subleading) if free is not None else ())]
        others = [s for s in dict.fromkeys(others) if s not in row.terms]
        terms = tuple(dict.fromkeys(self.project(t) for t in row.terms))
        if self.regime.kind == "free" or not terms:
            return Claim(terms, row.subleading)
        if self.regime.kind == "path":
            below = dict.fromkeys(self.project(s) for s in others)
            return Claim(terms, tuple(s for s in below if FREE.order(s, terms[0]) == -1)[:2])
        rivals = tuple(s for s in others if not s <= terms[0])
        return Claim(terms, tuple(s for s in others if s <= terms[0])[:2], rivals[:2])

    def paths(self, row: Row) -> tuple[Path, ...] | None:
        """A path per term, none where they would show nothing new, None where some term leads nowhere."""
        if self.regime.kind != "free" or not row.terms:
            return ()
        out: list[Path] = []
        for term in row.terms:
            rivals = tuple(t for t in row.terms if t != term)
            grows = lead(term, rivals or row.subleading, tuple(self.widths))
            if grows is None and rivals:
                return None
            if grows is not None:
                out.append(Path(grows, Claim((term,), (*rivals, *row.subleading)[:3])))
        return tuple(out)


def lead(term: Scale, others: Iterable[Scale], dims: Sequence[str]) -> tuple[str, ...] | None:
    """The dims that should grow, the others staying small, for a term to gain most on all others; None if it gains none.

    >>> U, X = Scale.of("N_u", "1/2"), Scale.of("N_x", "1/2")
    >>> lead(U, [X], ["N_u", "N_x"]), lead(X, [U], ["N_u", "N_x"]), lead(U, [U * X], ["N_u", "N_x"])
    (('N_u',), ('N_x',), None)
    >>> lead(Scale.log("N_x"), [Scale.one()], ["N_u", "N_x"])
    ('N_x',)
    """
    ratios = [term / other for other in others]
    best, chosen = (Fraction(0), Fraction(0)), None
    for count in range(1, len(dims) + 1):  # the fewer dims the cheaper
        for grows in combinations(dims, count):
            gains = [(_total(r.power, grows), _total(r.log_power, grows)) for r in ratios]
            if gains and min(gains) > best:
                best, chosen = min(gains), grows
    return chosen


def _total(power: Callable[[str], Fraction], dims: Iterable[str]) -> Fraction:
    return sum((power(d) for d in dims), Fraction(0))


def grid(widths: Mapping[str, Sequence[int]]) -> tuple[Widths, ...]:
    """Width settings: every combination below the diagonal, so that no setting is large in all dims at once.

    >>> len(grid({"N": [1, 2, 4]})), len(grid({"N": [1, 2, 4], "M": [1, 2, 4]}))
    (3, 6)
    """
    levels = [range(len(ws)) for ws in widths.values()]
    chosen = [
        level
        for level in product(*levels)
        if sum(i / (len(ws) - 1) for i, ws in zip(level, widths.values(), strict=True)) <= 1 + 1e-9
    ]
    return tuple({d: ws[i] for i, (d, ws) in zip(level, widths.items(), strict=True)} for level in chosen)


def narrow(widths: Sequence[int]) -> int:
    """The width of a dim that is to stay small."""
    return min(min(widths), max(LEAST, min(widths) // NARROW))


def along(path: Sequence[str], widths: Mapping[str, Sequence[int]], last: int) -> tuple[Widths, ...]:
    """The settings of a path whose last one has 2^last times the narrow widths in the dims that grow.

    Each other dim is varied at the last setting, so that its exponent is measured where the term leads; and where several
    dims grow, one after the other is left behind there, so that their slopes are told apart.

    >>> [tuple(c.values()) for c in along(["N"], {"N": [64, 128], "M": [16, 32]}, 7)]
    [(512, 8), (1024, 8), (2048, 8), (4096, 8), (4096, 32)]
    >>> [tuple(c.values()) for c in along(["N", "M"], {"N": [64, 128], "M": [16, 32]}, 3)]
    [(32, 8), (64, 16), (128, 32), (256, 64), (256, 32)]
    """
    small = {d: narrow(ws) for d, ws in widths.items()}
    cells = [
        small | {d: small[d] * 2**level for d in path} for level in range(max(0, last - LEVELS + 1), last + 1)
    ]
    side = [cells[-1] | {d: small[d] * SIDE} for d in widths if d not in path]
    side += [cells[-1] | {d: cells[-1][d] // 2} for d in path[1:]]
    return (*cells, *side)


def defaults(regime: Regime, widths: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """The widths of a model as a regime needs them.

    Where the dims grow together, a setting that is large in all of them is dear, so that they stop at four times the
    smallest.  In an ordered regime the first dim goes further and the others start lower.
    """
    if regime.kind == "path":
        return {d: [min(ws), 2 * min(ws), 4 * min(ws)] for d, ws in widths.items()}
    if regime.kind == "free":
        return {d: list(ws) for d, ws in widths.items()}
    first = regime.order_of[0]
    small = {d: sorted({max(LEAST, n // NARROW) for n in ws}) for d, ws in widths.items()}
    return {d: [*ws, 2 * max(ws)] if d == first else small[d] for d, ws in widths.items()}
