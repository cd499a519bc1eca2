"""Deep networks: updates summed up at every feature give the rates, the bounds and the fates that they give one by one."""

from __future__ import annotations

import pytest

from scalecalc import claims
from scalecalc.scale import Scale
from scalecalc.solution import Solution
from scalecalc.solve import solve

N, ONE = Scale.of("N"), Scale.one()


def summed(monkeypatch: pytest.MonkeyPatch, model: str, optimizer: str) -> tuple[Solution, Solution]:
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
    cut, whole = summed(monkeypatch, model, optimizer)
    assert dict(cut) == dict(whole)
    assert dict(cut.first or {}) == dict(whole.first or {})
    assert cut.fates == whole.fates
    assert cut.bounds.keys() == whole.bounds.keys()
    for place, bound in whole.bounds.items():
        if place != ("W_out", "init"):
            assert cut.bounds[place] == bound
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
