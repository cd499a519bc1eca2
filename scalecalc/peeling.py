"""Which constraints of a linear program can bind a goal, kept up to date as unknowns are replaced.

An unknown that no row bounds from below can be made as small as it takes, last of all, and keeps every row that it is in:
these can be left out, and then another unknown may be bounded from below no more.  What is left when nothing falls any longer
are the *live* rows.  In a chain of layers a goal has few of them, and one replaced unknown changes few: what had fallen
because of it is taken up again, and falls again if there is another reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

Row = Mapping[str, Fraction]


class Peeling:
    """Rows by position, each the powers of its unknowns; ``held`` never falls.

    >>> rows = Peeling("goal")
    >>> rows.change({0: {"goal": Fraction(1), "a": Fraction(-1)}, 1: {"a": Fraction(1)}, 2: {"a": Fraction(1), "b": Fraction(1)}})
    >>> rows.above("a"), rows.live
    ([1], [0, 1])
    """

    def __init__(self, held: str):
        self.held = held
        self.rows: dict[int, Row] = {}
        self.equal: set[int] = set()
        self.where: dict[str, set[int]] = {}
        self._below: dict[str, int] = {}  # live rows that bound an unknown from below
        self._reason: dict[int, str] = {}  # row that is left out → the fallen unknown in it
        self._fallen: set[str] = set()

    @property
    def live(self) -> list[int]:
        """The rows that are left, in order."""
        return [i for i in sorted(self.rows) if i not in self._reason]

    def above(self, name: str) -> list[int]:
        """The live rows that bound an unknown from above, in order."""
        return sorted(i for i in self.where.get(name, ()) if i not in self._reason and self.rows[i][name].numerator > 0)

    def change(self, rows: Mapping[int, Row | None], equal: Iterable[int] = ()) -> None:
        """Put rows in place of others at the same positions, or take them away; ``equal``: those that are equalities."""
        queue: list[str] = []
        for i in rows:
            old = self.rows.pop(i, None)
            if old is not None:
                if self._reason.pop(i, None) is None:
                    self._leave(i, old, queue)
                for u in old:
                    self.where[u].discard(i)
                self.equal.discard(i)
        self.equal.update(i for i in equal if rows.get(i) is not None)
        up: list[str] = []
        for i, row in rows.items():
            if row is not None:
                self.rows[i] = row
                for u in row:
                    self.where.setdefault(u, set()).add(i)
                    self._below.setdefault(u, 0)
                up += self._join(i, row)
                queue += row
        touched = self._revive(up, queue)
        self._settle([*touched, *(i for i, row in rows.items() if row is not None)], queue)

    def _supports(self, i: int, row: Row) -> Iterable[str]:
        return row if i in self.equal else [u for u, e in row.items() if e.numerator < 0]

    def _join(self, i: int, row: Row) -> list[str]:
        """A row is live; the fallen unknowns that it bounds from below."""
        supported = list(self._supports(i, row))
        for u in supported:
            self._below[u] += 1
        return [u for u in supported if u in self._fallen]

    def _leave(self, i: int, row: Row, queue: list[str]) -> None:
        for u in self._supports(i, row):
            self._below[u] -= 1
            if not self._below[u]:
                queue.append(u)

    def _revive(self, up: list[str], queue: list[str]) -> list[int]:
        """Unknowns that may not have to fall, and all that fell because of them; the rows that are back."""
        back: list[int] = []
        while up:
            u = up.pop()
            if u in self._fallen:
                self._fallen.discard(u)
                queue.append(u)
                for i in [i for i in self.where[u] if self._reason.get(i) == u]:
                    del self._reason[i]
                    back.append(i)
                    up += self._join(i, self.rows[i])
        return back

    def _settle(self, touched: Iterable[int], queue: list[str]) -> None:
        for i in touched:
            reason = next((u for u in self.rows[i] if u in self._fallen), None)
            if reason is not None and i not in self._reason:
                self._reason[i] = reason
                self._leave(i, self.rows[i], queue)
        while queue:
            u = queue.pop()
            if u == self.held or u in self._fallen or self._below.get(u):
                continue
            self._fallen.add(u)
            for i in self.where.get(u, ()):
                if i not in self._reason:
                    self._reason[i] = u
                    self._leave(i, self.rows[i], queue)


__all__ = ["Peeling", "Row"]
