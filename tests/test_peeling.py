"""Rows that can bind a goal: what is kept up to date is what leaving rows out from scratch leaves."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from scalecalc.peeling import Peeling, Row

NAMES = ["goal", "a", "b", "c", "d"]
ROWS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([1, 1, -1, 2]).map(Fraction), min_size=1, max_size=3)


def left(rows: dict[int, Row], equal: Iterable[int], *held: str) -> list[int]:
    """Leave out rows with an unknown that nothing bounds from below, until there are none."""
    kept = dict(rows)
    while True:
        below = {u for i, row in kept.items() for u, e in row.items() if e < 0 or i in equal} | {*held}
        after = {i: row for i, row in kept.items() if row.keys() <= below}
        if len(after) == len(kept):
            return sorted(kept)
        kept = after


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(ROWS, st.sampled_from([False, False, False, True])), max_size=8),
    st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), ROWS)), max_size=4),
    st.lists(st.sampled_from(NAMES[1:]), unique=True, max_size=3),
)
def test_what_is_left_is_what_leaving_out_from_scratch_leaves(given_rows, changes, dropped) -> None:
    rows = {i: dict(row) for i, (row, _) in enumerate(given_rows)}
    equal = {i for i, (_, same) in enumerate(given_rows) if same}
    peeling = Peeling("goal")
    peeling.change({i: dict(row) for i, row in rows.items()}, equal)
    assert peeling.live == left(rows, equal, "goal")
    for i, row in changes:
        peeling.change({i: dict(row) if row else None})
        rows.pop(i, None)
        equal.discard(i)
        if row:
            rows[i] = dict(row)
        assert peeling.live == left(rows, equal, "goal")
    for name in NAMES[1:]:
        with peeling.holding(name):
            assert peeling.live == left(rows, equal, "goal", name)
            assert peeling.above(name) == [i for i in peeling.live if rows[i].get(name, 0) > 0]
        assert peeling.live == left(rows, equal, "goal")
    for name in dropped:
        empty = peeling.drop(name)
        for row in rows.values():
            row.pop(name, None)
        assert sorted(empty) == sorted(i for i, row in rows.items() if not row)
        rows = {i: row for i, row in rows.items() if row}
        assert peeling.live == left(rows, equal, "goal")
