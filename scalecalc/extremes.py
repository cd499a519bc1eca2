"""The largest value of an unknown by comparing bounds, where that is enough: no linear program is solved here.

If every constraint has one unknown in the numerator at most, all unknowns can be as large as they can be at once; if every
one has one in the denominator at most, all can be as small.  Networks mostly give such constraints, in chains as long as
they are deep.  Where neither holds, :mod:`scalecalc.linear` takes the simplex method.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from fractions import Fraction

from scalecalc.least import Least
from scalecalc.peeling import Peeling
from scalecalc.scale import Regime, Scale

ONE = Scale.one()
ZERO = Fraction(0)

Why = tuple[int, Fraction, list[tuple[str, Fraction]]]  # a row, the unknown's power in it, and those of the others
Top = tuple[Scale | None, Why | None]  # a largest value, and the row that bounds it; None: without bound


class Extremes:
    """The largest value of an unknown where every bound is a bound on one unknown by others that may be large.

    If every constraint has one unknown in the numerator at most, all can be as large as they can be at once (the constraints
    are closed under maxima), and one unknown's largest value follows from those of the ones in the denominators of its
    bounds.  A constraint with more of them is left out, and has to hold where all are as large as they can be without it.

    What was found is kept from one goal to the next, until a row that it rests on changes.
    """

    def __init__(self, peeling: Peeling, worth: Callable[[int], Scale], regime: Regime):
        self.peeling, self.worth, self.regime = peeling, worth, regime
        self._least = Least(peeling, worth, regime)
        self._known: dict[str, Top | None] = {}
        self._doubtful: set[str] = set()  # largest values that rest on what has changed
        self._moved: set[str] = set()  # and those that came to something else
        self._left_out: dict[str, list[int]] = {}  # unknown → the rows that were left out for it
        self._users: dict[str, set[str]] = {}  # unknown → those whose largest value rests on its own
        self._holding: set[str] = set()  # unknowns for which, and for all that they rest on, rows that were left out hold
        self._resting: dict[str, set[str]] = {}  # unknown → those of _holding that rest on it

    def largest(self, name: str) -> tuple[Scale | None, dict[int, Fraction]] | None:
        """The largest value and its multipliers; None if it takes a linear program."""
        self._refresh()
        found = self._top(name)
        if found is None:
            return None
        if self._holds_at_tops(name) or (found[0] is not None and self._least.allows(name, found[0])):
            return found[0], self._multipliers(name)
        return None

    def _refresh(self) -> None:
        """Find again what rests on rows that have changed, as far as it comes to something else."""
        stale, self.peeling.stale = self.peeling.stale, set()
        self._least.forget(stale)
        self._doubtful = {u for u in stale if u in self._known}
        while self._doubtful:
            u = next(iter(self._doubtful))
            if u in self.peeling.where:
                self._top(u)
            else:
                self._doubtful.discard(u)
                del self._known[u], self._left_out[u]
        stale |= self._moved
        self._moved.clear()
        while stale:
            u = stale.pop()
            self._holding.discard(u)
            stale.update(self._resting.pop(u, ()))

    def _multipliers(self, name: str) -> dict[int, Fraction]:
        """Of the rows that bound an unknown, with those that bound the others in them."""
        order: dict[str, None] = {}
        todo = [(name, False)]
        while todo:  # those that it rests on come before it
            u, seen = todo.pop()
            top = self._known[u]
            if seen:
                order[u] = None
            elif u not in order and top is not None and top[1] is not None:
                todo += [(u, True), *((v, False) for v, _ in top[1][2])]
        out: dict[int, Fraction] = {}
        times = {name: Fraction(1)}
        for u in reversed(order):
            top = self._known[u]
            if top is not None and top[1] is not None:
                row, power, others = top[1]
                out[row] = out.get(row, ZERO) + times[u] / power
                for v, e in others:
                    times[v] = times.get(v, ZERO) + e * times[u] / power
        return out

    def _holds_at_tops(self, name: str) -> bool:
        """Do the constraints that were left out hold where all are as large as they can be?"""
        met, todo = {name: None}, [name]
        rests: list[tuple[str, str]] = []
        while todo:
            u = todo.pop()
            if u in self._holding:
                continue
            if not all(map(self._holds, self._left_out[u])):
                return False
            rows = (self.peeling.rows[i] for i in self.peeling.above(u))
            others = dict.fromkeys(v for row in rows for v in row if v in self._known)
            rests += [(v, u) for v in others]
            todo += [v for v in others if v not in met]
            met.update(others)
        for v, u in rests:
            self._resting.setdefault(v, set()).add(u)
        self._holding.update(met)
        return True

    def _holds(self, row: int) -> bool:
        own, size = self.peeling.rows[row], self.worth(row)
        tops = {u: self._top(u) for u in own}
        if None in tops.values() or any(own[u] > 0 and top and top[0] is None for u, top in tops.items()):
            return False
        if any(top and top[0] is None for top in tops.values()):
            return True  # one in the denominator is without bound
        for u, top in tops.items():
            size = size * (top and top[0] or ONE) ** own[u]
        return self.regime.order(size, ONE) in (-1, 0)

    def _top(self, name: str) -> Top | None:
        """By depth first, without recursion: chains are as long as networks are deep."""
        stack: list[tuple[str, Generator[str, None, Top | None], Top | None]] = []

        def begin(u: str) -> None:
            stack.append((u, self._from_bounds(u), self._known.get(u)))
            self._known[u] = None  # what is asked again meanwhile goes in a circle
            self._doubtful.discard(u)

        if name not in self._known or name in self._doubtful:
            begin(name)
        while stack:
            here, asking, before = stack[-1]
            try:
                other = next(asking)
            except StopIteration as end:
                stack.pop()
                self._known[here] = end.value
                self._doubtful.discard(here)  # what it asked for was found meanwhile, for it to read
                if _value(before) is not _value(end.value):
                    self._changed(here)
                continue
            self._users.setdefault(other, set()).add(here)
            if other not in self._known or other in self._doubtful:
                begin(other)
        return self._known[name]

    def _changed(self, name: str) -> None:
        self._moved.add(name)
        self._doubtful.update(u for u in self._users.get(name, ()) if u in self._known)

    def _from_bounds(self, name: str) -> Generator[str, None, Top | None]:
        """The smallest bound; yields every other unknown whose largest value it needs."""
        left_out = self._left_out[name] = []
        best: Scale | None = None
        why: Why | None = None
        for i in self.peeling.above(name):
            own = self.peeling.rows[i]
            if any(e.numerator > 0 and u != name for u, e in own.items()):
                left_out.append(i)
                continue
            value, others = ONE / self.worth(i), list[tuple[str, Fraction]]()
            for u, e in own.items():
                if u != name:
                    yield u
                    other = self._known[u]
                    if other is None:
                        return None
                    if other[0] is None:
                        break
                    value = value * other[0] ** -e
                    others.append((u, -e))
            else:
                power = own[name]
                value = value if power == 1 else value ** (1 / power)
                if best is None or self.regime.order(value, best) == -1:
                    best, why = value, (i, power, others)
        return best, why


def _value(top: Top | None) -> Scale | bool | None:
    """False: it takes a linear program; None: it is without bound."""
    return False if top is None else top[0]


__all__ = ["Extremes"]
