"""Linear programs in exponents, solved exactly.

A size such as N_u^(1/2) · "init W_B" · "lr W_B"² is affine in the exponents of the unknown scales, so that "this size stays
bounded" is a linear constraint on them and "this scale as large as possible" a linear objective.  The right-hand sides are
scales themselves: powers and logarithms, compared in a regime.  So an optimum is a scale, exact, and comes with a
certificate: non-negative rational multipliers of the constraints whose product is the objective (linear programming duality;
Farkas' lemma where there is no solution).

A :class:`System` is solved goal by goal: each is made as large as it can be, and kept there.  One unknown that nothing else
trades against is bounded by a single constraint, found by comparison; anything else takes the simplex method in exact
arithmetic (:mod:`scalecalc.simplex`), which scipy's HiGHS tells where to start if the program is large.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from scalecalc.extremes import Extremes
from scalecalc.peeling import Peeling, Row
from scalecalc.scale import Point, Regime, Scale
from scalecalc.simplex import contradiction, maximum

ONE = Scale.one()
ZERO = Fraction(0)
GOAL = "goal"  # in place of an unknown
LARGE = 2000  # constraints times unknowns from which a floating-point proposal pays
TINY = 1e-4  # the weight of a logarithm, or of the next dim in order, in the floating-point proposal
SMALL = 1e-7


@dataclass(frozen=True)
class Constraint:
    """``size`` stays bounded: it is at most of order one (of order one exactly, where ``equal``).

    ``origin``: what it stands for, handed back in certificates.
    """

    size: Scale
    origin: Any
    equal: bool = False


@dataclass(frozen=True)
class Certificate:
    """The constraints that bind a goal, with their multipliers: goal · ∏ size^(−multiplier) is a known scale.

    ``value``: the goal's optimum.  No multipliers: the goal is unbounded (``value`` is None then).
    """

    goal: Scale
    value: Scale | None
    multipliers: tuple[tuple[Constraint, Fraction], ...]


class Infeasible(Exception):
    """No solution.  ``multipliers``: the sizes of these constraints, to these powers, give a known scale above one."""

    def __init__(self, multipliers: Sequence[tuple[Constraint, Fraction]]):
        super().__init__("no solution")
        self.multipliers = tuple(multipliers)


class System:
    """Constraints on unknown scales, and the goals reached so far.

    >>> lr = Scale.of("lr W")
    >>> system = System(["lr W"], [Constraint(Scale.of("N") * lr, "y by W"), Constraint(lr, "u by W")], Regime())
    >>> system.maximize(lr).value, system.solution()
    (Θ(N^(-1)), {'lr W': Θ(N^(-1))})

    Args:
        unknowns: their names; every other name in a size is a growing dim.
        regime: how known scales are compared; it must compare any two (no ``free`` regime with several dims).
    """

    def __init__(self, unknowns: Iterable[str], constraints: Iterable[Constraint], regime: Regime):
        self.unknowns = list(dict.fromkeys(unknowns))
        self.regime = regime
        self.given = list(constraints)
        self._names = frozenset(self.unknowns)
        self._order = {u: k for k, u in enumerate(self.unknowns)}
        self._parts: dict[Scale, tuple[dict[str, Fraction], Scale, Scale]] = {}
        self._feasible = False  # known to be
        self._solved: dict[str, Scale] = {}  # unknown → formal scale in unknowns that are not
        self._within: dict[str, set[str]] = {}  # unknown → the solved ones that depend on it
        self._rows: dict[int, tuple[Scale, Constraint]] = {}  # by position; as the goals so far leave them
        self._place: dict[tuple[bool, Scale], int] = {}  # what a row has of unknowns → its position
        self._worths: dict[int, Scale] = {}  # what is known in a row
        self._peeling = Peeling(GOAL)
        self._extremes = Extremes(self._peeling, self._worth, regime)
        self._put((i, c.size, c) for i, c in enumerate(self.given))

    # ------------------------------------------------------------------ goals

    def maximize(self, goal: Scale) -> Certificate:
        """Make a formal scale as large as possible and keep it there.

        Raises:
            Infeasible: the constraints contradict each other.
        """
        self._check()
        left = self._now(goal)
        if not self._free(left):
            return Certificate(goal, left, ())
        certificate = self._by_comparison(goal, left) or self._by_program(goal, left)
        if certificate.value is not None:
            self._fix(left, certificate.value)
        return certificate

    def value(self, size: Scale) -> Scale:
        """What a formal size comes to; unknowns that no goal has fixed are left in it."""
        return self._now(size)

    def solution(self) -> dict[str, Scale]:
        """The unknowns that are fixed."""
        found = {name: self._now(Scale.of(name)) for name in self.unknowns}
        return {name: value for name, value in found.items() if not self._free(value)}

    def violated(self) -> list[Constraint]:
        """The constraints that the solution so far breaks, exactly: none, unless something went wrong."""
        out: list[Constraint] = []
        solved = self.solution()
        for c in self.given:
            free, _, left = self._split(c.size)
            if all(u in solved for u in free):
                for u, e in free.items():
                    left = left * solved[u] ** e
                if (order := self.regime.order(left, ONE)) != 0 and (c.equal or order != -1):
                    out.append(c)
        return out

    # ------------------------------------------------------------------ substitution

    def _now(self, size: Scale) -> Scale:
        found = {name: self._solved[name] for name, _ in size.powers if name in self._solved}
        return Point(found)(size) if found else size

    def _split(self, size: Scale) -> tuple[dict[str, Fraction], Scale, Scale]:
        """The powers of the unknowns; the same as a scale; and what is known."""
        found = self._parts.get(size)
        if found is None:
            unknown = tuple((d, e) for d, e in size.powers if d in self._names)
            known = Scale(tuple((d, e) for d, e in size.powers if d not in self._names), size.logs)
            found = self._parts[size] = dict(unknown), Scale(unknown), known
        return found

    def _free(self, size: Scale) -> dict[str, Fraction]:
        return self._split(size)[0]

    def _known(self, size: Scale) -> Scale:
        return self._split(size)[2]

    def _fix(self, size: Scale, value: Scale) -> None:
        """One unknown of a formal size, by the others."""
        free = self._free(size)
        name = max(free, key=lambda u: (abs(free[u]) == 1, self._order[u]))
        power = free[name]
        rest = size / Scale.of(name, power)
        found = self._solved[name] = (value / rest) ** (1 / power)
        one = Point({name: found})
        others = self._within.pop(name, set())
        for other in others:
            self._solved[other] = one(self._solved[other])
        for u in self._free(found):
            self._within.setdefault(u, set()).update(others, [name])
        touched = sorted(self._peeling.where.get(name, ()))
        for i in touched:
            self._worths.pop(i, None)
        if self._free(found):
            self._put((i, one(self._now(self._rows[i][0])), self._rows[i][1]) for i in touched)
            return
        for i in self._peeling.drop(name):  # sizes have as many unknowns as a network has layers: only powers are updated
            self._known_to_hold(self._worth(i), self._rows[i][1])
            del self._place[self._key(*self._rows.pop(i))]

    def _worth(self, i: int) -> Scale:
        """What is known in a row, by now."""
        found = self._worths.get(i)
        if found is None:
            free, _, found = self._split(self._rows[i][0])
            for u, e in free.items():
                if u in self._solved:
                    found = found * self._solved[u] ** e
            self._worths[i] = found
        return found

    def _known_to_hold(self, size: Scale, c: Constraint) -> None:
        order = self.regime.order(size, ONE)
        if order not in (-1, 0) or (c.equal and order != 0):
            raise Infeasible(self._contradiction())

    def _put(self, rows: Iterable[tuple[int, Scale, Constraint]]) -> None:
        """Put rows at their positions, in place of what was there.

        Of constraints that differ by a known factor only the tightest is kept, at the first's position; those without
        unknowns are checked and left out.  Equalities that differ by a known factor contradict each other, and both stay.
        """
        groups: dict[tuple[bool, Scale], list[tuple[int, Scale, Constraint]]] = {}
        changed: dict[int, Row | None] = {}
        for i, size, c in rows:
            if i in self._rows:
                del self._place[self._key(*self._rows.pop(i))]
                changed[i] = None
            if self._free(size):
                groups.setdefault(self._key(size, c), []).append((i, size, c))
                continue
            self._known_to_hold(size, c)
        for key, own in groups.items():
            if key in self._place:
                i = self._place.pop(key)
                own.append((i, *self._rows.pop(i)))
                changed[i] = None
            own.sort(key=lambda row: row[0])
            first, best, why = own[0]
            for _, size, c in own[1:]:
                if self.regime.order(self._known(size), self._known(best)) == 1:
                    best, why = size, c
            self._place[key], self._rows[first], changed[first] = first, (best, why), dict(self._free(best))
            self._worths.pop(first, None)
        self._peeling.change(changed, [i for i in changed if i in self._rows and self._rows[i][1].equal])

    def _key(self, size: Scale, c: Constraint) -> tuple[bool, Scale]:
        return c.equal, size if c.equal else self._split(size)[1]

    # ------------------------------------------------------------------ one unknown, by comparison

    def _by_comparison(self, goal: Scale, left: Scale) -> Certificate | None:
        """The smallest of the bounds, if all else that they depend on can be made as small, or as large, as it takes."""
        if self._peeling.equal:
            return None
        free, _, known = self._split(left)
        for name, e in free.items():
            if len(free) == 1 and e > 0:
                with self._peeling.holding(name):
                    found = self._extremes.largest(name)
                if found is None:
                    return None
                value, multipliers = found
                why = tuple((self._rows[i][1], y * e) for i, y in multipliers.items())
                return Certificate(goal, value and known * value**e, why)
        for name in sorted(free, key=lambda u: len(self._peeling.where.get(u, ()))):  # few rows are changed
            with self._in_terms_of(free, name):
                found = self._extremes.largest(GOAL)
            if found is not None:
                value, multipliers = found
                why = tuple((self._rows[i][1], y) for i, y in multipliers.items())
                return Certificate(goal, value and known * value, why)
        return None

    @contextmanager
    def _in_terms_of(self, free: Mapping[str, Fraction], name: str) -> Generator[None]:
        """Meanwhile a goal's unknown part stands in place of one of its unknowns."""
        before = {i: self._peeling.rows[i] for i in sorted(self._peeling.where.get(name, ()))}
        equal = [i for i in before if i in self._peeling.equal]
        after: dict[int, Row] = {}
        for i, row in before.items():
            t = row[name] / free[name]
            own = {u: e for u, e in row.items() if u not in free}
            own |= {u: e for u, f in free.items() if u != name and (e := row.get(u, ZERO) - t * f)}
            after[i] = {**own, GOAL: t}
        self._peeling.change(after, equal)
        try:
            yield
        finally:
            self._peeling.change(before, equal)

    # ------------------------------------------------------------------ by linear programming

    def _by_program(self, goal: Scale, left: Scale) -> Certificate:
        free, _, known = self._split(left)
        best: dict[tuple[bool, Scale, Scale], tuple[Row, Scale, Constraint]] = {}
        with self._in_terms_of(free, next(iter(free))):
            for i in self._peeling.live:
                row, size, c = self._peeling.rows[i], self._worth(i), self._rows[i][1]
                key = c.equal, Scale(row), size if c.equal else ONE
                if key not in best or self.regime.order(size, best[key][1]) == 1:
                    best[key] = row, size, c
        live = list(best.values())
        rows, bounds = [row for row, _, _ in live], [self._bound(size) for _, size, _ in live]
        equal = [c.equal for _, _, c in live]
        one = {GOAL: Fraction(1)}
        hint = proposal(rows, bounds, equal, one) if len(rows) * len(self.unknowns) > LARGE else ()
        found = maximum(rows, bounds, equal, one, hint)
        if found.kind == "infeasible":
            raise Infeasible(self._contradiction())
        self._feasible = True
        if found.kind == "unbounded":
            return Certificate(goal, None, ())
        value = known
        for i, y in found.multipliers.items():
            value = value / live[i][1] ** y
        return Certificate(goal, value, tuple((live[i][2], y) for i, y in found.multipliers.items()))

    def _bound(self, size: Scale) -> tuple[Fraction, ...]:
        """What the unknowns' part of a size may come to, in the coordinates that known scales are compared by."""
        return tuple(-part for part in self.regime.key(self._known(size)))

    def _contradiction(self) -> list[tuple[Constraint, Fraction]]:
        """An irreducible set of the given constraints that contradict each other, with multipliers."""
        sizes = [c.size for c in self.given]
        found = contradiction(
            [self._free(size) for size in sizes], [self._bound(size) for size in sizes], [c.equal for c in self.given]
        )
        assert found is not None, "goals reached so far are kept where they can be reached"
        return [(self.given[i], y) for i, y in found.multipliers.items()]

    def _check(self) -> None:
        """Is there a solution at all?

        Raises:
            Infeasible: there is none.
        """
        if self._feasible:
            return
        live = self._peeling.live
        rows, bounds = [self._peeling.rows[i] for i in live], [self._bound(self._worth(i)) for i in live]
        if live and contradiction(rows, bounds, [i in self._peeling.equal for i in live]):
            raise Infeasible(self._contradiction())
        self._feasible = True


def proposal(
    rows: Sequence[Mapping[str, Fraction]],
    bounds: Sequence[tuple[Fraction, ...]],
    equal: Sequence[bool],
    goal: Mapping[str, Fraction],
) -> list[int]:
    """The constraints that HiGHS, in floating point, believes to bind a goal: where the exact method is to start.

    Huangfu & Hall 2018.  Nothing rests on it.
    """
    import numpy as np
    from scipy.optimize import linprog  # pyright: ignore[reportUnknownVariableType]

    names = list(dict.fromkeys(u for row in rows for u in row))
    if not set(goal) <= set(names):
        return []
    place = {name: j for j, name in enumerate(names)}
    a = np.zeros((len(rows), len(names)))
    for i, row in enumerate(rows):
        for name, e in row.items():
            a[i, place[name]] = float(e)
    b = np.array([sum(float(part) * TINY**k for k, part in enumerate(bound)) for bound in bounds])
    same = np.array(equal, dtype=bool)
    found = linprog(
        [-float(goal.get(name, ZERO)) for name in names],
        A_ub=a[~same] if (~same).any() else None, b_ub=b[~same] if (~same).any() else None,
        A_eq=a[same] if same.any() else None, b_eq=b[same] if same.any() else None,
        bounds=(None, None), method="highs",
    )  # fmt: skip
    if found.status != 0:
        return []
    weights = np.zeros(len(rows))
    if (~same).any():
        weights[~same] = found.ineqlin.marginals
    if same.any():
        weights[same] = found.eqlin.marginals
    return [i for i, w in enumerate(weights) if abs(w) > SMALL]


__all__ = ["Certificate", "Constraint", "Infeasible", "System", "proposal"]
