"""The smallest values of unknowns, kept up to date, and whether a goal's value is compatible with them.

If every constraint has one unknown in the denominator at most (a sum is no smaller than each of its parts), all can be as
small as they can be at once: each is the largest of the bounds that the constraints which it divides put on it.  A goal's
value is possible if the constraints that bound nothing from below hold where all is as small as that value lets it be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from scalecalc.peeling import Peeling
from scalecalc.scale import Regime, Scale

ONE = Scale.one()
MOST_TURNS = 50  # per unknown; where a smallest value has not been found by then, some go in a circle


class Least:
    """The smallest values by live rows; an unknown without one (it goes in a circle, or rests on a goal) has none."""

    def __init__(self, peeling: Peeling, worth: Callable[[int], Scale], regime: Regime):
        self.peeling, self.worth, self.regime = peeling, worth, regime
        self._values: dict[str, Scale] = {}
        self._stale: set[str] = set()
        self._open: set[int] = set()  # rows that have not been seen to hold, where all is as small as it can be
        self._several: set[int] = set()  # rows with more than one unknown in the denominator

    def forget(self, stale: Iterable[str]) -> None:
        """Rows of these unknowns have changed, come or gone."""
        self._stale.update(stale)

    def allows(self, goal: str, value: Scale) -> bool:
        """Do all live rows hold at a goal's value, where the others are as small as they can be?"""
        live = self.peeling.is_live
        if not self._refreshed() or any(map(live, self._several)) or self._below(goal):
            return False
        raised, touched = {goal: value}, set[int]()
        if not self._raise(raised, touched):
            return False
        for i in [i for i in self._open if live(i)]:
            missing = [u for u, e in self.peeling.rows[i].items() if e.numerator > 0 and u not in self._values]
            if any(u not in raised for u in missing):
                return False  # in a circle
            if not missing and i not in touched:
                if not self._holds(i, {}):
                    return False
                self._open.discard(i)
        return all(self._holds(i, raised) for i in touched)

    def _raise(self, raised: dict[str, Scale], touched: set[int]) -> bool:
        """What a goal's value makes larger; the rows that it touches and that bound nothing from below."""
        todo = list(raised)
        for turn in count():
            if not todo:
                return True
            if turn > MOST_TURNS * (len(self._values) + 1):
                return False
            for i in self._above(todo.pop()):
                below = next((u for u, e in self.peeling.rows[i].items() if e.numerator < 0), None)
                if below is None:
                    touched.add(i)
                elif (bound := self._bound(i, below, raised)) is not None:
                    now = raised.get(below, self._values.get(below))
                    if now is None or self.regime.order(bound, now) == 1:
                        raised[below] = bound
                        todo.append(below)
        return False

    def _refreshed(self) -> bool:
        """Find again what has changed, and all that follows from it; False if that does not come to an end."""
        todo, self._stale = self._stale, set()
        for u in todo:
            for i in self.peeling.where.get(u, ()):
                self._open.add(i)
                several = sum(e.numerator < 0 for e in self.peeling.rows[i].values()) > 1
                (self._several.add if several else self._several.discard)(i)
        self._open &= self.peeling.rows.keys()
        self._several &= self.peeling.rows.keys()
        order: list[str] = []  # what others rest on is found before them, last in here
        for turn in count():
            if not order:
                if not todo:
                    return True
                order.append(todo.pop())
            if turn > MOST_TURNS * (len(self._values) + len(todo) + 1):
                self._stale = {*todo, *order, *self._values}
                self._values.clear()
                return False
            below = self._below(order[-1])
            first = next((v for i in below for v in self.peeling.rows[i] if v in todo), None)
            if first is not None:
                todo.discard(first)
                order.append(first)
                continue
            u = order.pop()
            bounds = [b for i in below if (b := self._bound(i, u, {})) is not None]
            best = self.regime.leading(bounds)[0] if bounds else None
            if best is not self._values.get(u):
                if best is None:
                    del self._values[u]
                else:
                    self._values[u] = best
                for i in self._above(u):
                    self._open.add(i)
                    todo.update(v for v, e in self.peeling.rows[i].items() if e.numerator < 0 and v not in order)
        return False

    def _below(self, name: str) -> list[int]:
        """The live rows that bound an unknown from below."""
        return [i for i in self.peeling.where.get(name, ()) if self._is(i, name, -1)]

    def _above(self, name: str) -> list[int]:
        return [i for i in self.peeling.where.get(name, ()) if self._is(i, name, 1)]

    def _is(self, i: int, name: str, sign: int) -> bool:
        return self.peeling.is_live(i) and self.peeling.rows[i][name].numerator * sign > 0

    def _bound(self, i: int, name: str, raised: dict[str, Scale]) -> Scale | None:
        """What a row says that an unknown is no smaller than; nothing where another one in it can be as small as it likes."""
        size = self.worth(i)
        for u, e in self.peeling.rows[i].items():
            if u != name:
                value = raised.get(u) or self._values.get(u)
                if value is None:
                    return None
                size = size * (value if e == 1 else value**e)
        power = -self.peeling.rows[i][name]
        return size if power == 1 else size ** (1 / power)

    def _holds(self, i: int, raised: dict[str, Scale]) -> bool:
        size = self.worth(i)
        for u, e in self.peeling.rows[i].items():
            if e.numerator < 0:
                return True
            size = size * (raised.get(u) or self._values[u]) ** e
        return self.regime.order(size, ONE) in (-1, 0)


__all__ = ["Least"]
