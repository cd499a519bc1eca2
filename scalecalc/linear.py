"""Linear programs in exponents, solved exactly.

A size such as N_u^(1/2) · "init W_B" · "lr W_B"² is affine in the exponents of the unknown scales, so that "this size stays
bounded" is a linear constraint on them and "this scale as large as possible" a linear objective.  The right-hand sides are
scales themselves: powers and logarithms, compared in a regime.  So an optimum is a scale, exact, and comes with a
certificate that is checked in exact arithmetic: non-negative rational multipliers of the constraints whose product is the
objective (linear programming duality; Farkas' lemma where there is no solution).

A :class:`System` is solved goal by goal: each is made as large as it can be, and kept there.  One unknown that nothing else
trades against is bounded by a single constraint, found by comparison; anything else is put to scipy's HiGHS in floating
point, which proposes the multipliers, and exact arithmetic verifies them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from scalecalc.errors import ScalecalcError
from scalecalc.scale import Point, Regime, Scale

ONE = Scale.one()
ZERO = Fraction(0)
TINY = 1e-4  # the weight of a logarithm, or of the next dim in order, in the floating-point proposal
SMALL = 1e-7


class InexactError(ScalecalcError):
    """The floating-point proposal could not be verified: an error of scalecalc's own."""


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
        self._solved: dict[str, Scale] = {}  # unknown → formal scale in unknowns that are solved later
        self._rows: list[tuple[Scale, Constraint]] = self._reduced((c.size, c) for c in self.given)

    # ------------------------------------------------------------------ goals

    def maximize(self, goal: Scale) -> Certificate:
        """Make a formal scale as large as possible and keep it there.

        Raises:
            Infeasible: the constraints contradict each other.
        """
        left = self._now(goal)
        if not self._free(left):
            return Certificate(goal, left, ())
        certificate = self._by_comparison(goal, left) or self._by_program(goal, left)
        if certificate.value is not None:
            self._fix(left, certificate.value)
        return certificate

    def require(self, size: Scale) -> None:
        """From now on a size is of order one exactly."""
        left = self._now(size)
        if self._free(left):
            self._fix(left, ONE)

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
        """Of constraints that differ by a known factor only the tightest; those without unknowns are checked and left out."""
        best: dict[tuple[object, bool], tuple[Scale, Constraint]] = {}
        for size, c in rows:
            free = self._free(size)
            if not free:
                order = self.regime.order(size, ONE)
                if order not in (-1, 0) or (c.equal and order != 0):
                    raise Infeasible(self._farkas() or [(c, Fraction(1))])
                continue
            key = (tuple(sorted(free.items())), c.equal)
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
        from scipy.optimize import linprog  # pyright: ignore[reportUnknownVariableType]

        names, a, b, equal = self._arrays([size for size, _ in self._rows], [c.equal for _, c in self._rows])
        free = self._free(left)
        c = [-float(free.get(name, ZERO)) for name in names]
        if not set(free) <= set(names):
            return Certificate(goal, None, ())
        found = linprog(
            c,
            A_ub=a[~equal] if (~equal).any() else None, b_ub=b[~equal] if (~equal).any() else None,
            A_eq=a[equal] if equal.any() else None, b_eq=b[equal] if equal.any() else None,
            bounds=(None, None), method="highs",
        )  # fmt: skip
        if found.status == 2:
            raise Infeasible(self._farkas() or [])
        if found.status == 3:
            return Certificate(goal, None, ())
        if found.status != 0:
            raise InexactError(f"the linear program of {goal} could not be solved: {found.message}")
        import numpy as np

        weights = np.zeros(len(self._rows))
        if (~equal).any():
            weights[~equal] = -found.ineqlin.marginals
        if equal.any():
            weights[equal] = -found.eqlin.marginals
        support = [i for i, w in enumerate(weights) if abs(w) > SMALL]
        exact = _combination([self._free(self._rows[i][0]) for i in support], free)
        if exact is None or any(y < 0 and not self._rows[i][1].equal for i, y in zip(support, exact, strict=True)):
            raise InexactError(f"the multipliers of {goal} could not be verified.")
        value = self._known(left)
        for i, y in zip(support, exact, strict=True):
            value = value / self._known(self._rows[i][0]) ** y
        kept = tuple((self._rows[i][1], y) for i, y in zip(support, exact, strict=True) if y)
        return Certificate(goal, value, kept)

    def _arrays(self, sizes: Sequence[Scale], equal: Sequence[bool]) -> tuple[list[str], Any, Any, Any]:
        import numpy as np

        rows = [self._free(size) for size in sizes]
        names = [u for u in self.unknowns if any(u in row for row in rows)]
        place = {name: j for j, name in enumerate(names)}
        a = np.zeros((len(rows), len(names)))
        for i, row in enumerate(rows):
            for name, e in row.items():
                a[i, place[name]] = float(e)
        b = np.array([-self._number(self._known(size)) for size in sizes], dtype=float)
        return names, a, b, np.array(equal, dtype=bool)

    def _number(self, size: Scale) -> float:
        """A known scale as one number, for the proposal: its key with weights that fall fast."""
        return float(sum(float(part) * TINY**i for i, part in enumerate(self.regime.key(size))))

    def _farkas(self) -> list[tuple[Constraint, Fraction]] | None:
        """An irreducible set of the given constraints that contradict each other, with multipliers, verified exactly."""
        rows = list(self.given)
        found = self._ray(rows)
        if found is None:
            return None
        rows = [c for c, _ in found]
        for c in list(rows):  # drop what is not needed for the contradiction
            fewer = [other for other in rows if other is not c]
            smaller = self._ray(fewer)
            if smaller is not None:
                rows, found = [other for other, _ in smaller], smaller
        return found

    def _ray(self, rows: Sequence[Constraint]) -> list[tuple[Constraint, Fraction]] | None:
        """Multipliers whose combination of these constraints has no unknowns and says that a scale above one is bounded."""
        import numpy as np
        from scipy.optimize import linprog  # pyright: ignore[reportUnknownVariableType]

        if not rows:
            return None
        names, a, b, equal = self._arrays([c.size for c in rows], [c.equal for c in rows])
        m = len(rows)
        # minimise Σ|y| with yᵀA = 0 and yᵀb ≤ −1; equalities have y of either sign, written as a difference
        both = np.vstack([a, -a[equal]])
        right = np.concatenate([b, -b[equal]])
        found = linprog(
            np.ones(len(both)), A_ub=right[None, :], b_ub=[-1.0],
            A_eq=both.T if len(names) else None, b_eq=np.zeros(len(names)) if len(names) else None,
            bounds=(0, None), method="highs",
        )  # fmt: skip
        if found.status != 0:
            return None
        y: Any = np.array(found.x[:m])
        y[equal] -= found.x[m:]
        support = [i for i in range(m) if abs(y[i]) > SMALL]
        first, *others = support
        sign = 1 if y[first] > 0 else -1
        wanted = {name: -sign * e for name, e in self._free(rows[first].size).items()}
        exact = _combination([self._free(rows[i].size) for i in others], wanted)
        if exact is None:
            return None
        multipliers = [(rows[first], Fraction(sign)), *((rows[i], y) for i, y in zip(others, exact, strict=True))]
        total = ONE
        for c, e in multipliers:
            if e < 0 and not c.equal:
                return None
            total = total * c.size**e
        return multipliers if not self._free(total) and self.regime.order(total, ONE) == 1 else None


def _combination(rows: Sequence[Mapping[str, Fraction]], goal: Mapping[str, Fraction]) -> list[Fraction] | None:
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


__all__ = ["Certificate", "Constraint", "InexactError", "Infeasible", "System"]
