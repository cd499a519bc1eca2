"""Largest values, kept from goal to goal, are those that are found from nothing."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import event, given, settings
from hypothesis import strategies as st

from scalecalc.extremes import Extremes
from scalecalc.linear import GOAL, Constraint, Infeasible, System
from scalecalc.scale import Regime, Scale

NAMES = ("a", "b", "c", "d", "e", "f")
POWERS = st.sampled_from([1, 1, 1, 2])
ROWS = st.tuples(
    st.dictionaries(st.sampled_from(NAMES), POWERS, min_size=1, max_size=2),  # numerators
    st.one_of(st.none(), st.sampled_from(NAMES)),  # a denominator
    st.integers(-2, 2).map(lambda n: Fraction(n, 2)),
)


def size(row) -> Scale:
    above, below, power = row
    out = Scale.of("N", power)
    for u, e in above.items():
        out = out * Scale.of(u, e)
    return out / Scale.of(below) if below and below not in above else out


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(ROWS, min_size=4, max_size=14), st.lists(st.sets(st.sampled_from(NAMES), min_size=1, max_size=2)))
def test_what_is_kept_is_what_would_be_found(rows, goals) -> None:
    regime = Regime.parse("proportional")
    system = System(NAMES, [Constraint(size(row), i) for i, row in enumerate(rows)], regime)
    for goal in goals:
        wanted = Scale.one()
        for u in sorted(goal):
            wanted = wanted * Scale.of(u)
        try:
            system.maximize(wanted)
        except Infeasible:
            event("infeasible")
            return
        peeling = system._peeling
        for name in [u for u in NAMES if u in peeling.where and u not in system.solution()]:
            with peeling.holding(name):
                kept = system._extremes.largest(name)
                stale, peeling.stale = peeling.stale, set(peeling.where) - {GOAL}
                new = Extremes(peeling, system._worth, regime).largest(name)
                peeling.stale |= stale
            event("compared" if new else "takes a linear program")
            assert kept == new


def test_a_chain_is_not_gone_through_again_for_every_goal(monkeypatch) -> None:
    """s1 ≤ s2 ≤ … ≤ 1, and a rate for each: what is asked grows with the length of the chain, not with its square."""
    asked: list[str] = []
    bounds = Extremes._from_bounds
    monkeypatch.setattr(Extremes, "_from_bounds", lambda self, name: asked.append(name) or bounds(self, name))
    counts: list[int] = []
    for length in (20, 40):
        asked.clear()
        s, lr = [Scale.of(f"s{k}") for k in range(length)], [Scale.of(f"lr{k}") for k in range(length)]
        sizes = [lower / upper for lower, upper in pairwise(s)] + [r / t for r, t in zip(lr, s, strict=True)] + s[-1:]
        names = [f"{n}{k}" for n in ("lr", "s") for k in range(length)]
        system = System(names, [Constraint(size, None) for size in sizes], Regime())
        assert all(system.maximize(r).value is Scale.one() for r in reversed(lr))
        counts.append(len(asked))
    assert counts[1] < 2.5 * counts[0]
