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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from scalecalc.scale import Point, Regime, Scale
from scalecalc.simplex import contradiction, maximum

ONE = Scale.one()
ZERO = Fraction(0)
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
        self._feasible = False  # known to be
        self._solved: dict[str, Scale] = {}  # unknown → formal scale in unknowns that are solved later
        self._rows: list[tuple[Scale, Constraint]] = self._reduced((c.size, c) for c in self.given)

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
        for c in self.given:
            left = self._now(c.size)
            if not self._free(left) and (order := self.regime.order(left, ONE)) != 0 and (c.equal or order != -1):
                out.append(c)
        return out

    # ------------------------------------------------------------------ substitution

    def _now(self, size: Scale) -> Scale:
        while any(name in self._solved for name, _ in size.powers):
            size = Point({name: self._solved[name] for name, _ in size.powers if name in self._solved})(size)
        return size

    def _free(self, size: Scale) -> dict[str, Fraction]:
        names = set(self.unknowns)
        return {name: e for name, e in size.powers if name in names}

    def _fix(self, size: Scale, value: Scale) -> None:
        """One unknown of a formal size, by the others."""
        free = self._free(size)
        name = max(free, key=lambda u: (abs(free[u]) == 1, self.unknowns.index(u)))
        power = free[name]
        rest = size / Scale.of(name, power)
        self._solved[name] = (value / rest) ** (1 / power)
        self._rows = self._reduced((self._now(size), c) for size, c in self._rows)

    def _known(self, size: Scale) -> Scale:
        names = set(self.unknowns)
        return Scale(tuple((d, e) for d, e in size.powers if d not in names), size.logs)

    def _reduced(self, rows: Iterable[tuple[Scale, Constraint]]) -> list[tuple[Scale, Constraint]]:
        """Of constraints that differ by a known factor only the tightest; those without unknowns are checked and left out.

        Equalities that differ by a known factor contradict each other, and both stay.
        """
        best: dict[object, tuple[Scale, Constraint]] = {}
        for size, c in rows:
            free = self._free(size)
            if not free:
                order = self.regime.order(size, ONE)
                if order not in (-1, 0) or (c.equal and order != 0):
                    raise Infeasible(self._contradiction())
                continue
            key = size if c.equal else tuple(free.items())
            if key not in best or self.regime.order(self._known(size), self._known(best[key][0])) == 1:
                best[key] = (size, c)
        return list(best.values())

    # ------------------------------------------------------------------ one unknown, by comparison

    def _by_comparison(self, goal: Scale, left: Scale) -> Certificate | None:
        """The smallest of the bounds, if all else that they depend on can be made as small as it takes."""
        free = self._free(left)
        if len(free) != 1 or any(c.equal for _, c in self._rows):
            return None
        (name, power), down = next(iter(free.items())), self._falling()
        bounds: list[tuple[Scale, Fraction, Constraint]] = []
        for size, c in self._rows:
            own = self._free(size)
            if name not in own:
                continue
            others = [v for v in own if v != name]
            if own[name] * power < 0:
                return None
            if not others:
                bounds.append((self._known(size) ** (-1 / own[name]), own[name], c))
            elif not any(v in down for v in others):
                return None
        if not bounds:
            return Certificate(goal, None, ())
        best = bounds[0]
        for other in bounds[1:]:
            if self.regime.order(other[0], best[0]) == -1:
                best = other
        value = self._known(left) * best[0] ** power
        return Certificate(goal, value, ((best[2], power / best[1]),))

    def _falling(self) -> set[str]:
        """The unknowns that can be made as small as one likes, since no constraint bounds them from below."""
        out = {name for name in self.unknowns if name not in self._solved}
        for size, _ in self._rows:
            out -= {name for name, e in self._free(size).items() if e < 0}
        return out

    # ------------------------------------------------------------------ by linear programming

    def _by_program(self, goal: Scale, left: Scale) -> Certificate:
        rows = [self._free(size) for size, _ in self._rows]
        bounds = [self._bound(size) for size, _ in self._rows]
        equal = [c.equal for _, c in self._rows]
        free = self._free(left)
        hint = proposal(rows, bounds, equal, free) if len(rows) * len(self.unknowns) > LARGE else ()
        found = maximum(rows, bounds, equal, free, hint)
        if found.kind == "infeasible":
            raise Infeasible(self._contradiction())
        self._feasible = True
        if found.kind == "unbounded":
            return Certificate(goal, None, ())
        value = self._known(left)
        for i, y in found.multipliers.items():
            value = value / self._known(self._rows[i][0]) ** y
        return Certificate(goal, value, tuple((self._rows[i][1], y) for i, y in found.multipliers.items()))

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
        rows: list[tuple[dict[str, Fraction], bool]] = [(self._free(size), c.equal) for size, c in self._rows]
        while rows:  # what can be made as small as one likes keeps what it is in; then the others matter no more
            rising = {u for row, equal in rows for u, e in row.items() if e < 0 or equal}
            kept = [(row, equal) for row, equal in rows if not row.keys() - rising]
            if len(kept) == len(rows):
                break
            rows = kept
        if rows:
            sizes = [size for size, _ in self._rows]
            bounds, equal = [self._bound(size) for size in sizes], [c.equal for _, c in self._rows]
            if contradiction([self._free(size) for size in sizes], bounds, equal):
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
