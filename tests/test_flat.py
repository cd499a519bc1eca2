"""On real torch networks a solved parameterization keeps what features do in training as large at every width."""

from __future__ import annotations

import math

import pytest
from movement import derived, slopes

STEPS = 10


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_perceptron_moves_alike_at_every_width(optimizer: str) -> None:
    """Every feature at every step; with the standard parameterization the same statistic says that they do not."""
    widths = [64, 128, 256, 512]  # up to 2048 and with twice the seeds no slope is above 0.04: benchmarks/flatness.py
    solved, standard = (slopes("mlp", optimizer, widths, seeds=4, steps=STEPS, standard=s) for s in (False, True))
    assert set(derived("mlp", optimizer).values()) == {0}
    for feature, every in solved.items():
        assert max(abs(slope.mean) for slope in every) < 0.15, feature
    assert all(max(abs(every[k].mean) for every in standard.values()) > 0.4 for k in range(STEPS))
    assert max(every[0].mean for every in standard.values()) > 0.7


@pytest.mark.slow
def test_all_of_a_selective_layer_can_be_made_to_move_alike() -> None:
    """Required to, features that would move less move by order one, too."""
    every = slopes("s6_all", "adam", [64, 128, 256], seeds=4, steps=5, standard=False)
    expected = derived("s6_all", "adam")
    assert [feature for feature, power in expected.items() if power] == ["h"]  # entries fall along the states
    for feature, found in every.items():
        assert all(abs(slope.mean - expected[feature]) < 0.3 for slope in found[1:]), feature


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_selective_layer_moves_alike_at_every_width(optimizer: str) -> None:
    """What is derived to be flat is; nothing explodes; with the standard parameterization the output does."""
    widths = [64, 128, 256]
    solved = slopes("s6", optimizer, widths, seeds=6, steps=STEPS, standard=False)
    standard = slopes("s6", optimizer, widths, seeds=6, steps=3, standard=True)
    flat = [feature for feature, power in derived("s6", optimizer).items() if power == 0]
    assert {"Delta", "y", "f"} <= set(flat)
    for feature, every in solved.items():
        assert max(slope.mean for slope in every) < 0.35, feature
    for feature in ("Delta", "y", "f"):  # at the first steps contributions that fall with width are still the larger ones
        assert abs(solved[feature][-1].mean) < 0.2, feature
    assert max(s.mean if math.isfinite(s.mean) else math.inf for f in ("y", "f") for s in standard[f]) > 0.6
