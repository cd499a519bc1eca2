"""The simplex method in exact arithmetic: multipliers that prove a bound, a direction without bound, or a contradiction.

The largest goal·x with rows·x ≤ bounds (or = where equal) is the smallest bounds·y with Σ y_i row_i = goal and y_i ≥ 0 (of
either sign for equalities): linear programming duality.  The second is solved here, because y is what a certificate is made
of.  Entries of rows and goals are rationals.  Bounds are vectors of rationals compared lexicographically: powers first,
then logarithms.  That is an ordered vector space, all that the method needs, so no small number stands in for a logarithm.

Bland's rule (1977) keeps it from going round in circles where bounds tie, and in exponents they tie all the time.  A
floating-point method may say which multipliers it believes in (``hint``); these are tried first, the result is exact anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")
Vector = tuple[Fraction, ...]
Row = dict[int, Fraction]
ZERO, ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class Outcome:
    """How a linear program ended.

    Args:
        kind: ``optimal``; ``unbounded``; or ``infeasible``.
        multipliers: constraint → multiplier, those that are not 0.  Where it is optimal Σ y_i row_i is the goal, and
            Σ y_i bound_i its largest value; where it is infeasible Σ y_i row_i is 0 and Σ y_i bound_i below 0.
    """

    kind: str
    multipliers: Mapping[int, Fraction]


def maximum(
    rows: Sequence[Mapping[str, Fraction]],
    bounds: Sequence[Vector],
    equal: Sequence[bool],
    goal: Mapping[str, Fraction],
    hint: Iterable[int] = (),
) -> Outcome:
    """The largest goal·x with rows·x ≤ bounds, by its multipliers.  Where nothing bounds it the constraints are checked, too.

    >>> half = Fraction(1, 2)
    >>> found = maximum([{"a": ONE, "b": ONE}, {"b": -ONE}], [(half,), (ZERO,)], [False, False], {"a": ONE})
    >>> found.kind, {i: str(y) for i, y in found.multipliers.items()}
    ('optimal', {0: '1', 1: '1'})
    """
    tableau = _Tableau(rows, bounds, equal, goal)
    if not tableau.start(hint):  # no multipliers make the goal: nothing bounds it, unless there is no solution at all
        found = contradiction(rows, bounds, equal)
        return found or Outcome("unbounded", {})
    return tableau.finish()


def contradiction(rows: Sequence[Mapping[str, Fraction]], bounds: Sequence[Vector], equal: Sequence[bool]) -> Outcome | None:
    """Multipliers of constraints that contradict each other; None if there is a solution.

    They are an extreme ray, so that no constraint can be left out (Gleeson & Ryan 1990).
    """
    tableau = _Tableau(rows, bounds, equal, {})
    tableau.start(())
    found = tableau.finish()
    return found if found.kind == "infeasible" else None


class _Tableau:
    """Multipliers y ≥ 0, one row per unknown; an equality has two columns, one for each sign."""

    def __init__(
        self, rows: Sequence[Mapping[str, Fraction]], bounds: Sequence[Vector], equal: Sequence[bool],
        goal: Mapping[str, Fraction],
    ):  # fmt: skip
        self.count = len(rows)
        names = list(dict.fromkeys([*(u for row in rows for u in row), *goal]))
        place = {u: j for j, u in enumerate(names)}
        sign = [-1 if goal.get(u, ZERO) < 0 else 1 for u in names]
        self.rows: list[Row] = [{} for _ in names]
        self.right = [abs(goal.get(u, ZERO)) for u in names]
        self.base = [-1 - j for j in range(len(names))]  # negative: artificial, not to come back once it has left
        levels = max(map(len, bounds), default=0)
        self.costs: list[Row] = [{} for _ in range(levels)]
        for i, row in enumerate(rows):
            for column, way in ((i, 1), (self.count + i, -1))[: 2 if equal[i] else 1]:
                for u, e in row.items():
                    if e:
                        self.rows[place[u]][column] = way * sign[place[u]] * e
                for cost, part in zip(self.costs, bounds[i], strict=True):
                    if part:
                        cost[column] = way * part

    def start(self, hint: Iterable[int]) -> bool:
        """Reach multipliers that make the goal; False if there are none."""
        total: Row = {}
        for row in self.rows:
            for column, e in row.items():
                total[column] = total.get(column, ZERO) - e
        costs = [{k: e for k, e in total.items() if e}]
        for i in hint:
            for column in (i, self.count + i):
                if costs[0].get(column, ZERO) < 0:
                    self._enter(column, costs)
        while any(self.right) and (column := self._improving(costs)) is not None:
            self._enter(column, costs)
        if any(b < 0 and right for b, right in zip(self.base, self.right, strict=True)):
            return False
        for k in reversed(range(len(self.rows))):  # artificial ones at zero leave, too, or their rows say nothing new
            if self.base[k] < 0:
                column = min(self.rows[k], default=None)
                if column is None:
                    del self.rows[k], self.right[k], self.base[k]
                else:
                    self._pivot(k, column, [])
        return True

    def finish(self) -> Outcome:
        """From multipliers that make the goal to those with the smallest bound."""
        while (column := self._improving(self.costs)) is not None:
            if not self._enter(column, self.costs):
                ray = {column: ONE, **{b: -row[column] for b, row in zip(self.base, self.rows, strict=True) if column in row}}
                return Outcome("infeasible", self._multipliers(ray))
        return Outcome("optimal", self._multipliers(dict(zip(self.base, self.right, strict=True))))

    def _multipliers(self, values: Mapping[int, Fraction]) -> dict[int, Fraction]:
        out: dict[int, Fraction] = {}
        for column, y in values.items():
            way, i = (1, column) if column < self.count else (-1, column - self.count)
            out[i] = out.get(i, ZERO) + way * y
        return {i: y for i, y in sorted(out.items()) if y}

    def _improving(self, costs: Sequence[Row]) -> int | None:
        """The first column (Bland) that makes the bound smaller."""
        found = (k for k in {k for cost in costs for k in cost} if next((c[k] for c in costs if k in c), ZERO) < 0)
        return min(found, default=None)

    def _enter(self, column: int, costs: list[Row]) -> bool:
        """Take a column into the base; False if nothing stops it from growing for ever."""
        entries = [(k, row[column]) for k, row in enumerate(self.rows) if row.get(column, ZERO) > 0]
        stops = [(self.right[k] / e, self.base[k], k) for k, e in entries]
        if not stops:
            return False
        self._pivot(min(stops)[2], column, costs)
        return True

    def _pivot(self, k: int, column: int, costs: list[Row]) -> None:
        every = self.costs if costs is self.costs else [*self.costs, *costs]
        by = self.rows[k][column]
        row = self.rows[k] = {j: e / by for j, e in self.rows[k].items()}
        self.right[k] /= by
        self.base[k] = column
        for i, other in enumerate(self.rows):
            if i != k and (e := other.get(column)):
                subtract(other, row, e)
                self.right[i] -= e * self.right[k]
        for cost in every:
            if e := cost.get(column):
                subtract(cost, row, e)


def subtract(row: dict[T, Fraction], other: Mapping[T, Fraction], times: Fraction) -> None:
    """row − times · other, in place; what comes to nothing is left out."""
    for j, e in other.items():
        left = row.get(j, ZERO) - times * e
        if left:
            row[j] = left
        else:
            row.pop(j, None)


__all__ = ["Outcome", "contradiction", "maximum", "subtract"]
