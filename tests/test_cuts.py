"""Deep networks: updates summed up at every feature give the rates, the bounds and the fates that they give one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_solve_oracle import PATHS, PROGRAMS, recorded

from scalecalc import claims
from scalecalc.cuts import Cuts, divides, shares, summed, values_of_sums
from scalecalc.derive import interpret
from scalecalc.model import Model, resolve
from scalecalc.problem import Answer, Problem
from scalecalc.scale import Point, Regime, Scale
from scalecalc.solution import Solution
from scalecalc.solve import _fates, solve, unscaled
from scalecalc.term import Limits

N, ONE = Scale.of("N"), Scale.one()


def compared(monkeypatch: pytest.MonkeyPatch, model: str, optimizer: str) -> tuple[Solution, Solution]:
    """A solution with cuts, and one without."""
    out: list[Solution] = []
    for most in (0, 99):
        monkeypatch.setattr(claims, "MOST_IN_PAIRS", most)
        out.append(solve(model, optimizer=optimizer))
    return out[0], out[1]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "model",
    [
        "mlp:depth=3",
        "mlp:depth=3,activation=tanh",
        pytest.param("mlp:depth=4", marks=pytest.mark.slow),
        pytest.param("mlp:depth=6", marks=pytest.mark.slow),
    ],
)
def test_the_solution_is_that_without_cuts(monkeypatch, model, optimizer) -> None:
    cut, whole = compared(monkeypatch, model, optimizer)
    assert dict(cut) == dict(whole)
    assert dict(cut.first or {}) == dict(whole.first or {})
    assert cut.fates == whole.fates
    assert cut.bounds.keys() == whole.bounds.keys()
    for place, bound in whole.bounds.items():
        if place != ("W_out", "init"):
            assert cut.bounds[place].value is bound.value
            assert {*cut.bounds[place].rows} <= {*bound.rows, *bound.ties}  # where updates are cut no ties are looked for
    assert cut.bounds["W_out", "init"].rows[0].startswith(("f, init", "f, update by all that moves h"))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_deep_network_is_scaled_as_a_shallow_one(optimizer) -> None:
    deep, shallow = solve("mlp:depth=16", optimizer=optimizer), solve("mlp:depth=3", optimizer=optimizer)
    assert not deep.notes
    for w in deep:
        assert deep[w] == shallow[w if w in shallow else "W_2"]
    assert {deep.fates[w] for w in deep} == {"learning"}
    assert deep.bounds["W_9", "lr"].rows == ("h9, update by W_9",)


# ---------------------------------------------------------------------- random networks


def both(monkeypatch: pytest.MonkeyPatch, layers: Sequence[str], optimizer: str, path: str, steps: int) -> list[Answer]:
    """A small network solved with cuts, and without."""
    model = recorded(layers, optimizer)
    regime = Regime.parse(path if len(model.program.dims) > 1 else "proportional")
    out: list[Answer] = []
    for most in (0, 99):
        monkeypatch.setattr(claims, "MOST_IN_PAIRS", most)
        out.append(Problem(claims.formal(model), regime, steps).solve())
    assert not out[1].found.sums
    return out


def agree(cut: Answer, whole: Answer, regime: Regime) -> None:
    assert (cut.settled, whole.settled) == (True, True)
    assert cut.values.keys() == whole.values.keys()
    for u, value in whole.values.items():
        assert regime.order(cut.values[u], value) == 0, u
    assert _fates(cut) == _fates(whole)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("layers", "path"),
    [
        # Beside each other's larger part of one pattern neither of W_in and W_1 had a bound, by turns.
        (["embed tanh", "wide relu", "product tanh"], "M=N^2"),
        (["embed relu", "tied relu", "wide tanh"], "M=N^1/2"),
        (["embed relu", "square tanh"], "proportional"),
    ],
    ids=lambda x: " | ".join(x) if isinstance(x, list) else x,
)
def test_sums_hide_no_weight(monkeypatch, layers, path, optimizer) -> None:
    cut, whole = both(monkeypatch, layers, optimizer, path, 1)
    agree(cut, whole, replace(whole.found.algebra.regime, point=None))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PROGRAMS, st.sampled_from(["sgd", "adam"]), st.sampled_from(PATHS), st.sampled_from([1, 1, 2]))
def test_random_networks_are_scaled_as_without_cuts(monkeypatch, layers, optimizer, path, steps) -> None:
    cut, whole = both(monkeypatch, layers, optimizer, path, steps)
    agree(cut, whole, replace(whole.found.algebra.regime, point=None))


# ---------------------------------------------------------------------- where sums are unsound, and what they come to


def at_guess(optimizer: str) -> tuple[Model, dict[str, Scale], Regime]:
    model = resolve("mlp:depth=2", parameterization=unscaled, optimizer=optimizer, options={}, regime="proportional")
    formal = claims.formal(model)
    rates = {claims.unknown("lr", w): ONE for w in model.program.weights}
    return formal, {**claims.guess(formal), **rates}, Regime.parse("proportional")


@pytest.mark.parametrize(("optimizer", "unsound"), [("sgd", False), ("adam", False), ("shampoo", True)])
def test_a_network_in_which_sums_divide_is_derived_without(monkeypatch, optimizer, unsound) -> None:
    """Shampoo divides by what the gradients have gained; a sum that is made larger would make its updates smaller."""
    model, point, regime = at_guess(optimizer)
    here = replace(regime, point=Point(point))
    found = interpret(model, here, Limits(2, 2, 2), steps=2, cuts=Cuts.of(model.program, here))
    assert divides(found) is unsound
    monkeypatch.setattr(claims, "MOST_IN_PAIRS", 0)
    assert bool(claims.derive_at(model, point, regime, 2).sums) is not unsound


def test_a_sum_comes_to_its_largest_part_and_a_weight_to_its_share() -> None:
    one, two = Scale.of("Δ h 0"), Scale.of("Δ g 2")
    a, b = Scale.of("lr a"), Scale.of("lr b")
    sums = [("h", ("a",), a / one), ("h", ("b",), N * b / one), ("g", ("Δh",), N * one / two), ("g", ("c",), N / two)]
    values = {"lr a": N**-1, "lr b": N**-1}
    assert summed(sums[2]) == ("Δ g 2", N * one / two)
    found = values_of_sums(sums, values, Regime.parse("proportional"))
    assert found == {"Δ h 0": ONE, "Δ g 2": N}
    at = Point({**values, **found})
    assert shares("a", sums, at, Regime.parse("proportional")) == {"Δ h 0": N**-1, "Δ g 2": N**-1}
    assert shares("b", sums, at, Regime.parse("proportional")) == {"Δ h 0": ONE, "Δ g 2": ONE}
