"""The largest value of an unknown by comparing bounds, where that is enough: no linear program is solved here.

If every constraint has one unknown in the numerator at most, all unknowns can be as large as they can be at once; if every
one has one in the denominator at most, all can be as small.  Networks mostly give such constraints, in chains as long as
they are deep.  Where neither holds, :mod:`scalecalc.linear` takes the simplex method.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from fractions import Fraction

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
    """

    def __init__(self, peeling: Peeling, worth: Callable[[int], Scale], regime: Regime):
        self.peeling, self.worth, self.regime = peeling, worth, regime
        self.known: dict[str, Top | None] = {}
        self.left_out: dict[int, None] = {}
        self.order: list[str] = []  # in which largest values were found

    def largest(self, name: str) -> tuple[Scale | None, dict[int, Fraction]] | None:
        """The largest value and its multipliers; None if it takes a linear program."""
        found = self._top(name)
        if found is None:
            return None
        if self._holds_at_tops() or (found[0] is not None and self._holds_at_least(name, found[0])):
            return found[0], self._multipliers(name)
        return None

    def _multipliers(self, name: str) -> dict[int, Fraction]:
        """Of the rows that bound an unknown, with those that bound the others in them."""
        out: dict[int, Fraction] = {}
        times = {name: Fraction(1)}
        for u in reversed(self.order):
            top = self.known[u]
            if u in times and top is not None and top[1] is not None:
                row, power, others = top[1]
                out[row] = out.get(row, ZERO) + times[u] / power
                for v, e in others:
                    times[v] = times.get(v, ZERO) + e * times[u] / power
        return out

    def _holds_at_tops(self) -> bool:
        """Do the constraints that were left out hold where all are as large as they can be?"""
        checked = 0
        while checked < len(self.left_out):
            row = list(self.left_out)[checked]
            own, size = self.peeling.rows[row], self.worth(row)
            tops = {u: self._top(u) for u in own}
            if None in tops.values() or any(own[u] > 0 and top and top[0] is None for u, top in tops.items()):
                return False
            if all(top and top[0] is not None for top in tops.values()):  # else one in the denominator is without bound
                for u, top in tops.items():
                    size = size * (top and top[0] or ONE) ** own[u]
                if self.regime.order(size, ONE) not in (-1, 0):
                    return False
            checked += 1
        return True

    def _holds_at_least(self, name: str, value: Scale) -> bool:
        """Do all constraints hold at a goal's value where the others are as small as they can be?

        If every constraint has one unknown in the denominator at most (a sum is no smaller than each of its parts), all can
        be as small as they can be at once.
        """
        live = self.peeling.live
        least: dict[str, Scale] = {name: value}
        waiting: dict[str, int] = {}  # unknown → bounds from below that are not known yet
        uses: dict[str, list[int]] = {}
        missing: dict[int, int] = {}
        for i in live:
            row = self.peeling.rows[i]
            below = [u for u, e in row.items() if e.numerator < 0]
            if len(below) > 1 or (below and below[0] == name):
                return False
            for u in below:
                waiting[u] = waiting.get(u, 0) + 1
            others = [u for u in row if u not in below]
            missing[i] = len(others)
            for u in others:
                uses.setdefault(u, []).append(i)
        ready = [i for i in live if not missing[i]]
        done: list[str] = [name]
        passed = 0
        while ready or done:
            while done:
                for i in uses.get(done.pop(), ()):
                    missing[i] -= 1
                    if not missing[i]:
                        ready.append(i)
            while ready:
                i = ready.pop()
                passed += 1
                size, at = self.worth(i), None
                for u, e in self.peeling.rows[i].items():
                    if e.numerator < 0:
                        at = u, -e
                    else:
                        size = size * least[u] ** e
                if at is None:
                    if self.regime.order(size, ONE) not in (-1, 0):
                        return False
                    continue
                u, power = at
                size = size ** (1 / power)
                if u not in least or self.regime.order(size, least[u]) == 1:
                    least[u] = size
                waiting[u] -= 1
                if not waiting[u]:
                    done.append(u)
        return passed == len(live)  # else some go in a circle

    def _top(self, name: str) -> Top | None:
        """By depth first, without recursion: chains are as long as networks are deep."""
        stack = [] if name in self.known else [(name, self._from_bounds(name))]
        self.known.setdefault(name, None)  # what is asked again meanwhile goes in a circle
        while stack:
            here, asking = stack[-1]
            try:
                other = next(asking)
            except StopIteration as end:
                self.known[here] = end.value
                self.order.append(here)
                stack.pop()
                continue
            if other not in self.known:
                self.known[other] = None
                stack.append((other, self._from_bounds(other)))
        return self.known[name]

    def _from_bounds(self, name: str) -> Generator[str, None, Top | None]:
        """The smallest bound; yields every other unknown whose largest value it needs."""
        best: Scale | None = None
        why: Why | None = None
        for i in self.peeling.above(name):
            own = self.peeling.rows[i]
            if any(e.numerator > 0 and u != name for u, e in own.items()):
                self.left_out[i] = None
                continue
            value, others = ONE / self.worth(i), list[tuple[str, Fraction]]()
            for u, e in own.items():
                if u != name:
                    if u not in self.known:
                        yield u
                    other = self.known[u]
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


__all__ = ["Extremes"]
