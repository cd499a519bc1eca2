"""A module with norms over groups of channels and over the batch, measured row by row."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scalecalc.measure.verify import verify
from scalecalc.model import TorchModule
from scalecalc.testing import assert_agrees

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")]


class Normed(nn.Module):
    def __init__(self, N: int):
        super().__init__()
        self.inp, self.hid, self.out = (nn.Linear(i, o, bias=False) for i, o in ((8, N), (N, N), (N, 2)))
        self.groups, self.batch = nn.GroupNorm(4, N, affine=False), nn.BatchNorm1d(N, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.batch(self.hid(self.groups(self.inp(x)).relu())).relu())


def make(N: int = 32) -> nn.Module:
    return Normed(N)


def example_inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randn(4, 8),)


def test_group_and_batch_norm() -> None:
    """What is upstream of the hidden matrix is fed back through it, and adds up in the output."""
    table = verify(TorchModule(make, example_inputs), optimizer="adam", budget=5, dims={"N": [64, 128, 256]})
    assert table["out", "update", "inp.weight"].formula() == "N^(1/2)"
    assert table["hid", "update", "inp.weight"].formula() == "1"
    assert_agrees(table)
