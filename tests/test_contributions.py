"""How far a step goes that measures a second order."""

from __future__ import annotations

import torch

from scalecalc.measure.contributions import SECOND_ORDER, relative, second_step


def test_a_step_is_small_where_a_feature_moves_most() -> None:
    """Entries 1/n that all move alike: the last of them by their whole size, the feature as a whole by 1 %."""
    n = torch.arange(1, 1025, dtype=torch.float64)
    before = (1 / n).expand(3, 2, -1)
    moved = relative(before + 1 / 1024, before)
    whole = (1024**-0.5 / (1 / n).square().sum().sqrt()) * torch.ones(3)
    assert (moved > 20 * whole).all()
    assert torch.allclose(moved, torch.full((3,), 0.94, dtype=torch.float64), atol=0.02)
    assert torch.allclose(second_step({7: moved}, None), SECOND_ORDER / moved)
    assert torch.allclose(relative(2 * before, before), torch.ones(3, dtype=torch.float64))


def test_the_output_alone_holds_no_step() -> None:
    moves = {1: torch.tensor([0.1]), 2: torch.tensor([5.0])}
    assert torch.allclose(second_step(moves, loss=2), torch.tensor([SECOND_ORDER / 0.1]))
    assert torch.allclose(second_step({2: moves[2]}, loss=2), torch.tensor([SECOND_ORDER / 5.0]))
    assert torch.allclose(second_step({1: torch.zeros(1)}, None), torch.tensor([SECOND_ORDER]))
