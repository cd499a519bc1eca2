"""Which constraints of a linear program can bind a goal, kept up to date as unknowns are replaced.

An unknown that no row bounds from below can be made as small as it takes, last of all, and keeps every row that it is in:
these can be left out, and then another unknown may be bounded from below no more.  What is left when nothing falls any longer
are the *live* rows.  In a chain of layers a goal has few of them, and one replaced unknown changes few: what had fallen
because of it is taken up again, and falls again if there is another reason.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from fractions import Fraction

Row = dict[str, Fraction]


class Peeling:
    """Rows by position, each the powers of its unknowns; ``held`` never falls.

    >>> rows = Peeling("goal")
    >>> one = Fraction(1)
    >>> rows.change({0: {"goal": one, "a": -one}, 1: {"a": one}, 2: {"a": one, "b": one}})
    >>> rows.above("a"), rows.live
    ([1], [0, 1])
    """

    def __init__(self, held: str):
        self._held = {held}
        self.rows: dict[int, Row] = {}
        self.equal: set[int] = set()
        self.where: dict[str, set[int]] = {}
        self._below: dict[str, int] = {}  # live rows that bound an unknown from below
        self._supports: dict[int, tuple[str, ...]] = {}  # row → the unknowns that it bounds from below
        self._reason: dict[int, str] = {}  # row that is left out → a fallen unknown in it
        self._because: dict[str, set[int]] = {}  # the same by unknown, with some that have another reason by now
        self._fallen: dict[str, int] = {}  # and how many fell before; none but these made it fall
        self._falls = 0
        self.stale: set[str] = set()  # unknowns with a row that changed, came or went; for a reader to empty

    @property
    def live(self) -> list[int]:
        """The rows that are left, in order."""
        return sorted(self.rows.keys() - self._reason.keys())

    def is_live(self, row: int) -> bool:
        return row in self.rows and row not in self._reason

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
                    self._leave(i, queue)
                self.stale.update(old)
                for u in old:
                    self.where[u].discard(i)
                self.equal.discard(i)
                del self._supports[i]
        self.equal.update(i for i in equal if rows.get(i) is not None)
        up: list[str] = []
        for i, row in rows.items():
            if row is not None:
                self.rows[i] = row
                self.stale.update(row)
                self._supports[i] = tuple(row) if i in self.equal else tuple(u for u, e in row.items() if e.numerator < 0)
                for u in row:
                    self.where.setdefault(u, set()).add(i)
                    self._below.setdefault(u, 0)
                up += self._join(i)
                queue += row
        touched = self._revive(up, queue)
        self._settle([*touched, *(i for i, row in rows.items() if row is not None)], queue)

    def drop(self, name: str) -> list[int]:
        """Take an unknown out of all rows; the rows that have none left are taken away, and named."""
        queue: list[str] = []
        back = self._revive([name], queue)
        empty: list[int] = []
        for i in sorted(self.where.pop(name, ())):
            row = self.rows[i]
            if self._supports[i] and name in self._supports[i]:
                self._supports[i] = tuple(u for u in self._supports[i] if u != name)
            del row[name]
            self.stale.update(row)
            if not row:
                empty.append(i)
                del self.rows[i], self._supports[i]
                self._reason.pop(i, None)
                self.equal.discard(i)
        self._settle((i for i in back if i in self.rows), [u for u in queue if u != name])
        return empty

    @contextmanager
    def holding(self, name: str) -> Generator[None]:
        """Meanwhile an unknown does not fall."""
        self._held.add(name)
        queue: list[str] = []
        self._settle(self._revive([name], queue), queue)
        try:
            yield
        finally:
            self._held.discard(name)
            self._settle((), [name])

    def _join(self, i: int) -> list[str]:
        """A row is live; the fallen unknowns that it bounds from below."""
        for u in self._supports[i]:
            self._below[u] += 1
        return [u for u in self._supports[i] if u in self._fallen]

    def _leave(self, i: int, queue: list[str]) -> None:
        self.stale.update(self.rows.get(i, ()))
        for u in self._supports[i]:
            self._below[u] -= 1
            if not self._below[u]:
                queue.append(u)

    def _revive(self, up: list[str], queue: list[str]) -> list[int]:
        """Unknowns that may not have to fall, and all that fell because of them; the rows that are back."""
        back: list[int] = []
        while up:
            u = up.pop()
            if u in self._fallen:
                del self._fallen[u]
                queue.append(u)
                for i in self._because.pop(u, set()):
                    if self._reason.get(i) != u:
                        continue
                    soonest = min((self._fallen[v] for v in self._supports[i] if v in self._fallen), default=self._falls)
                    other = next((v for v in self.rows[i] if self._fallen.get(v, soonest) < soonest), None)
                    if other is not None:  # it fell before any that fell because of this row
                        self._left_out(i, other)
                        continue
                    del self._reason[i]
                    self.stale.update(self.rows[i])
                    back.append(i)
                    up += self._join(i)
        return back

    def _left_out(self, i: int, reason: str) -> None:
        self._reason[i] = reason
        self._because.setdefault(reason, set()).add(i)

    def _settle(self, touched: Iterable[int], queue: list[str]) -> None:
        for i in touched:
            reason = next((u for u in self.rows[i] if u in self._fallen), None)
            if reason is not None and i not in self._reason:
                self._left_out(i, reason)
                self._leave(i, queue)
        while queue:
            u = queue.pop()
            if u in self._held or u in self._fallen or self._below.get(u):
                continue
            self._fallen[u] = self._falls
            self._falls += 1
            for i in self.where.get(u, ()):
                if i not in self._reason:
                    self._left_out(i, u)
                    self._leave(i, queue)


__all__ = ["Peeling", "Row"]
