"""The gauge group of a network: shifts of inits and rates, over several weights, that leave its function and training alone.

B and C of an S6 layer, or q and k of attention, enter the output only through their product: (W_B, W_C) → (κ W_B, W_C/κ),
with rates to match, changes what B and C are and nothing that comes out.  With formal sizes such a shift is a direction in
the exponents of the unknowns along which no size of the output changes, at initialisation or by any update: a null vector
of the output's exponents, found exactly.  (The gauge of one weight, init against multiplier and rate, is in
:mod:`scalecalc.gauge`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

from scalecalc.chain import INIT, PATH, shift_of_inits
from scalecalc.claims import Claim, unknown, unknowns_in
from scalecalc.cuts import is_sum, summed
from scalecalc.errors import InputError
from scalecalc.scale import Scale

ZERO = Fraction(0)


@dataclass(frozen=True)
class Shift:
    """One generator: every unknown is multiplied by θ to its power.

    >>> print(Shift((("init W_B", Fraction(1)), ("init W_C", Fraction(-1)))))
    init W_B · θ, init W_C · θ^(-1)
    """

    powers: tuple[tuple[str, Fraction], ...]

    @property
    def weights(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(u.split(maxsplit=1)[1] for u, _ in self.powers))

    def of(self, size: Scale) -> Fraction:
        """The power of θ that a formal size gains."""
        mine = dict(self.powers)
        return sum((e * mine.get(name, Fraction(0)) for name, e in size.powers), Fraction(0))

    def moved(self, values: Mapping[str, Scale], theta: Scale) -> dict[str, Scale]:
        """The unknowns' values, shifted."""
        mine = dict(self.powers)
        return {u: v * theta ** mine[u] if u in mine else v for u, v in values.items()}

    def __str__(self) -> str:
        return ", ".join(f"{u} · θ" + ("" if e == 1 else f"^({e})") for u, e in self.powers)


def shifts(
    claims: Sequence[Claim], output: str, dims: Sequence[str], before: Mapping[str, str] | None = None
) -> tuple[Shift, ...]:
    """Generators of the group that leaves every size of the output as it is, with as few unknowns each as there can be.

    Unknowns that the output does not depend on (a weight that is idle) are left out.  ``before``: where inits are told by
    paths, the weight that comes before each (:func:`scalecalc.chain.before`).
    """
    parts: dict[str, list[Scale]] = {}  # what the output is summed up by moves with what is summed
    for c in claims:
        if c.kind == "sum":
            name, size = summed((c.row, c.tag, c.size))
            parts.setdefault(name, []).append(size)
    seen = [c.size for c in claims if c.row == output and c.kind in ("init", "update")]
    reached = unknowns_in(seen, dims)
    for name in reached:
        seen += parts.get(name, ())
        reached += [u for u in unknowns_in(parts.get(name, ()), dims) if u not in reached]
    # Decays and ε move with the rates and gradients that they are compared with.
    seen += [c.size for c in claims if c.kind == "optimizer" and unknown("lr", c.tag[0]) in reached]
    names = unknowns_in(seen, dims)
    own = [u for u in names if not is_sum(u)]
    sums = [u for u in reversed(names) if is_sum(u)]  # these are eliminated first
    rows = [{u: e for u, e in size.powers if u not in dims} for size in dict.fromkeys(seen)]
    by_paths = bool(before) and any(u.startswith(PATH) for u in own)
    # Rates told by paths are short, paths told by rates as long as the network is deep.
    first = sorted(own, key=lambda u: by_paths and u.startswith(PATH))
    basis = [{u: e for u in own if (e := v.get(u))} for v in null_space(rows, [*sums, *first])]
    if before and by_paths:
        own = [INIT + u.removeprefix(PATH) if u.startswith(PATH) else u for u in own]
        known = frozenset(own)  # an init that no size depends on, as of what is hidden, shifts as it likes
        every = _reduced([{u: e for u, e in shift_of_inits(v, before).items() if u in known} for v in basis], own)
        basis = [v for v in every if len(v) > 1]  # no size depends on what shifts alone
    found = (Shift(tuple((u, v[u]) for u in own if v.get(u))) for v in basis)
    return tuple(shift for shift in found if shift.powers)


class Span:
    """What rational vectors span, as reduced rows: each has its first name to itself.

    >>> half = Fraction(1, 2)
    >>> Span([{"a": half, "b": half}, {"b": half}], "abc").rest({"a": half, "c": half})
    {'c': Fraction(1, 2)}

    Args:
        names: in the order in which they are taken as first names.
    """

    def __init__(self, vectors: Iterable[Mapping[str, Fraction]], names: Iterable[str]):
        self.place = {u: k for k, u in enumerate(names)}
        self.rows: dict[str, dict[str, Fraction]] = {}
        self._where: dict[str, set[str]] = {}  # name → first names of the rows that have it, too
        for vector in vectors:
            self._add(self.rest(vector))

    def rest(self, vector: Mapping[str, Fraction]) -> dict[str, Fraction]:
        """A vector but for what is spanned: nothing if it lies in the span."""
        out = {u: _plain(e) for u, e in vector.items() if e}
        for first in [u for u in out if u in self.rows]:
            _subtract(out, self.rows[first], out[first])
        return out

    def _add(self, row: dict[str, Fraction]) -> None:
        if not row:
            return
        first = min(row, key=self.place.__getitem__)
        by = row[first]
        row = self.rows[first] = row if by == 1 else {u: _plain(Fraction(e) / by) for u, e in row.items()}
        for other in self._where.pop(first, ()):
            its = self.rows[other]
            _subtract(its, row, its[first])
            for u in row:
                mine = self._where.setdefault(u, set())
                (mine.add if u in its else mine.discard)(other)
        self._where.pop(first, None)
        for u in row:
            if u != first:
                self._where.setdefault(u, set()).add(first)


def _plain(e: Fraction) -> Fraction:
    """The same number, an int where it is whole: most are, and Python adds ints faster."""
    return e.numerator if e.denominator == 1 else e  # pyright: ignore[reportReturnType]


def _subtract(row: dict[str, Fraction], other: Mapping[str, Fraction], times: Fraction) -> None:
    """As :func:`scalecalc.simplex.subtract`, and whole numbers stay ints."""
    for u, e in other.items():
        left = row.get(u, 0) - times * e
        if left:
            row[u] = left if isinstance(left, int) else _plain(left)
        else:
            row.pop(u, None)


def null_space(rows: Iterable[Mapping[str, Fraction]], names: Sequence[str]) -> list[dict[str, Fraction]]:
    """A basis in whole numbers, the first entry of each positive."""
    known = frozenset(names)
    span = Span(({u: e for u, e in row.items() if u in known} for row in rows), names)
    free: dict[str, dict[str, Fraction]] = {u: {u: Fraction(1)} for u in names if u not in span.rows}
    for first in names:
        for u, e in span.rows.get(first, {}).items():
            if u != first:
                free[u][first] = -e
    return [_whole(vector, span.place) for vector in free.values()]


def _whole(vector: Mapping[str, Fraction], place: Mapping[str, int]) -> dict[str, Fraction]:
    """A multiple in whole numbers, the first entry positive."""
    whole = lcm(*(e.denominator for e in vector.values()))
    entries = {u: int(vector[u] * whole) for u in sorted(vector, key=place.__getitem__)}
    common = gcd(*entries.values()) * (1 if next(iter(entries.values())) > 0 else -1)
    return {u: Fraction(e // common) for u, e in entries.items()}


def _reduced(basis: Sequence[Mapping[str, Fraction]], names: Sequence[str]) -> list[dict[str, Fraction]]:
    """The basis that :func:`null_space` would give: each vector has to itself one of the last names."""
    span = Span(basis, names[::-1])
    place = {u: k for k, u in enumerate(names)}
    return [_whole(span.rows[u], place) for u in names if u in span.rows]


def fixed_by(
    group: Sequence[Shift], claims: Sequence[Claim], values: Mapping[str, Scale], wanted: Sequence[tuple[Claim, Scale]]
) -> dict[str, Scale]:
    """The member of a gauge class in which given rows have given sizes.

    Args:
        wanted: claims, as formal sizes, and what each is to come to.

    Raises:
        InputError: no shift of the group changes such a row, or they cannot all be had.
    """
    found = dict(values)
    left = list(group)
    for claim, scale in wanted:
        now = _value(claim.size, found)
        movers = [s for s in left if s.of(claim.size)]
        if now is scale:
            left = _without(left, claim.size)
            continue
        if not movers:
            raise InputError(
                f"--gauge: no shift of inits and rates that leaves the output alone gives {claim.row} the size {scale}."
            )
        theta = (scale / now) ** (1 / movers[0].of(claim.size))
        found = movers[0].moved(found, theta)
        left = _without(left, claim.size)
    return found


def _without(group: Sequence[Shift], size: Scale) -> list[Shift]:
    """The subgroup that leaves one more size alone."""
    movers = [s for s in group if s.of(size)]
    if not movers:
        return list(group)
    first, out = movers[0], [s for s in group if not s.of(size)]
    for other in movers[1:]:
        ratio = other.of(size) / first.of(size)
        mine, its = dict(other.powers), dict(first.powers)
        mixed = {u: mine.get(u, Fraction(0)) - ratio * its.get(u, Fraction(0)) for u in {**mine, **its}}
        out.append(Shift(tuple((u, e) for u, e in mixed.items() if e)))
    return out


def _value(size: Scale, values: Mapping[str, Scale]) -> Scale:
    out = Scale(tuple((d, e) for d, e in size.powers if d not in values), size.logs)
    for name, e in size.powers:
        if name in values:
            out = out * values[name] ** e
    return out


def combination(rows: Sequence[Mapping[str, Fraction]], goal: Mapping[str, Fraction]) -> list[Fraction] | None:
    """Exact y with Σ y_i row_i = goal, by elimination; None if there is none.  Rows that are not needed get 0."""
    pivots: list[tuple[str, dict[str, Fraction], dict[int, Fraction]]] = []

    def reduce(row: dict[str, Fraction], by: dict[int, Fraction]) -> None:
        for name, pivot, made in pivots:
            e = row.get(name, ZERO)
            if e:
                for other, f in pivot.items():
                    row[other] = row.get(other, ZERO) - e * f
                for i, f in made.items():
                    by[i] = by.get(i, ZERO) - e * f

    for i, given in enumerate(rows):
        row, by = dict(given), {i: Fraction(1)}
        reduce(row, by)
        name = next((u for u, e in row.items() if e), None)
        if name is not None:
            e = row[name]
            pivots.append((name, {u: f / e for u, f in row.items() if f}, {j: f / e for j, f in by.items() if f}))
    left: dict[str, Fraction] = dict(goal)
    by: dict[int, Fraction] = {}
    reduce(left, by)
    if any(left.values()):
        return None
    return [-by.get(i, ZERO) for i in range(len(rows))]
