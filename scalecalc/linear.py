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
        self._parts: dict[Scale, tuple[dict[str, Fraction], Scale, Scale]] = {}
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
        name = max(free, key=lambda u: (abs(free[u]) == 1, self.unknowns.index(u)))
        power = free[name]
        rest = size / Scale.of(name, power)
        self._solved[name] = (value / rest) ** (1 / power)
        self._rows = self._reduced((self._now(size) if name in self._free(size) else size, c) for size, c in self._rows)

    def _reduced(self, rows: Iterable[tuple[Scale, Constraint]]) -> list[tuple[Scale, Constraint]]:
        """Of constraints that differ by a known factor only the tightest; those without unknowns are checked and left out.

        Equalities that differ by a known factor contradict each other, and both stay.
        """
        best: dict[tuple[bool, Scale], tuple[Scale, Constraint]] = {}
        for size, c in rows:
            free, unknown, known = self._split(size)
            if not free:
                order = self.regime.order(size, ONE)
                if order not in (-1, 0) or (c.equal and order != 0):
                    raise Infeasible(self._contradiction())
                continue
            key = c.equal, size if c.equal else unknown
            if key not in best or self.regime.order(known, self._known(best[key][0])) == 1:
                best[key] = (size, c)
        return list(best.values())

    # ------------------------------------------------------------------ one unknown, by comparison

    def _by_comparison(self, goal: Scale, left: Scale) -> Certificate | None:
        """The smallest of the bounds, if all else that they depend on can be made as small, or as large, as it takes."""
        if any(c.equal for _, c in self._rows):
            return None
        free, _, known = self._split(left)
        for name in reversed(free):
            found = Comparison(self._in_terms_of(left, name), self.regime).largest(GOAL)
            if found is not None:
                value, multipliers = found
                return Certificate(goal, value and known * value, tuple(multipliers.items()))
        return None

    def _in_terms_of(self, goal: Scale, name: str) -> list[Formal]:
        """The constraints with a goal's unknown part in place of one of its unknowns."""
        free, _, _ = self._split(goal)
        out: list[Formal] = []
        for size, c in self._rows:
            own, _, known = self._split(size)
            if name in own:
                t = own[name] / free[name]
                own = {u: e for u in {**own, **free} if (e := own.get(u, ZERO) - t * free.get(u, ZERO))}
                own[GOAL] = t
            out.append((own, known, c))
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


Formal = tuple[Mapping[str, Fraction], Scale, Constraint]  # the unknowns' powers, what is known, and what it was
Top = tuple[Scale | None, dict[Constraint, Fraction]]  # a largest value (None: without bound), and its multipliers


def _binding(rows: Sequence[Formal]) -> list[Formal]:
    """The rows that can bind the goal.

    An unknown that no row bounds from below can be made as small as it takes, last of all, and keeps every row that it is in:
    these can be left out, and then another unknown may be bounded from below no more.
    """
    where: dict[str, list[int]] = {}
    below: dict[str, int] = {}
    for i, (own, _, _) in enumerate(rows):
        for u, e in own.items():
            where.setdefault(u, []).append(i)
            below[u] = below.get(u, 0) + (e < 0)
    kept = [True] * len(rows)
    falling = [u for u, n in below.items() if n == 0 and u != GOAL]
    while falling:
        for i in where[falling.pop()]:
            if kept[i]:
                kept[i] = False
                for u, e in rows[i][0].items():
                    if e < 0:
                        below[u] -= 1
                        if below[u] == 0 and u != GOAL:
                            falling.append(u)
    return [row for row, keep in zip(rows, kept, strict=True) if keep]


class Comparison:
    """The largest value of an unknown where every bound is a bound on one unknown by others that may be large.

    If every constraint has one unknown in the numerator at most, all can be as large as they can be at once (the constraints
    are closed under maxima), and one unknown's largest value follows from those of the ones in the denominators of its
    bounds.  A constraint with more of them is left out, and has to hold where all are as large as they can be without it.
    """

    def __init__(self, rows: Sequence[Formal], regime: Regime):
        self.regime = regime
        self.above: dict[str, list[Formal]] = {}
        for row in _binding(rows):
            for u, e in row[0].items():
                if e > 0:
                    self.above.setdefault(u, []).append(row)
        self.known: dict[str, Top | None] = {}
        self.left_out: dict[Constraint, Formal] = {}

    def largest(self, name: str) -> Top | None:
        """The largest value and its multipliers; None if it takes a linear program."""
        found, checked = self._top(name), 0
        while found is not None and checked < len(self.left_out):
            own, size, _ = list(self.left_out.values())[checked]
            tops = {u: self._top(u) for u in own}
            if None in tops.values() or any(own[u] > 0 and top and top[0] is None for u, top in tops.items()):
                return None
            if all(top and top[0] is not None for top in tops.values()):  # else one in the denominator is without bound
                for u, top in tops.items():
                    size = size * (top and top[0] or ONE) ** own[u]
                if self.regime.order(size, ONE) not in (-1, 0):
                    return None
            checked += 1
        return found

    def _top(self, name: str) -> Top | None:
        if name not in self.known:
            self.known[name] = None  # what is asked again meanwhile goes in a circle
            self.known[name] = self._from_bounds(name)
        return self.known[name]

    def _from_bounds(self, name: str) -> Top | None:
        best: Scale | None = None
        why: dict[Constraint, Fraction] = {}
        for own, known, c in self.above.get(name, ()):
            if any(e > 0 and u != name for u, e in own.items()):
                self.left_out[c] = own, known, c
                continue
            value, others = ONE / known, list[tuple[Fraction, dict[Constraint, Fraction]]]()
            for u, e in own.items():
                if u != name:
                    other = self._top(u)
                    if other is None:
                        return None
                    if other[0] is None:
                        break
                    value = value * other[0] ** -e
                    others.append((-e, other[1]))
            else:
                power = own[name]
                value = value ** (1 / power)
                if best is None or self.regime.order(value, best) == -1:
                    best, why = value, {c: 1 / power}
                    for e, multipliers in others:
                        for d, y in multipliers.items():
                            why[d] = why.get(d, ZERO) + e * y / power
        return best, why


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
