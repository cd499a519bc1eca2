"""What μP by fan-in and fan-out does not see in a selective state space layer, and the tracer does.

A product with few outputs behaves like a readout; A_log is N × X and no matrix of a product; the step's bias is drawn about
a mean; and the skip D·u is of order one, whatever becomes of the branch beside it.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scalecalc.derive import derive
from scalecalc.measure.verify import verify
from scalecalc.model import TorchModule
from scalecalc.table import Table
from scalecalc.testing import assert_agrees

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")]


class Selective(nn.Module):
    def __init__(self, N: int, X: int):
        super().__init__()
        self.inp, self.out = nn.Linear(8, N, bias=False), nn.Linear(N, 2, bias=False)
        self.B, self.C = nn.Linear(N, X, bias=False), nn.Linear(N, X, bias=False)
        self.A_log = nn.Parameter(torch.arange(1.0, X + 1).log().repeat(N, 1))
        self.D, self.step = nn.Parameter(torch.ones(N)), nn.Parameter(torch.rand(N) - 1)
        self.branch, self.y = nn.Identity(), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, step = self.inp(x).relu(), F.softplus(self.step)[:, None]
        decay, h, ys = torch.exp(step * -torch.exp(self.A_log)), 0, []
        for t in range(x.shape[1]):
            h = decay * h + step * self.B(u[:, t])[:, None] * u[:, t, :, None]
            ys.append((h * self.C(u[:, t])[:, None]).sum(-1))
        return self.out(self.y(self.branch(torch.stack(ys, 1)) + self.D * u))


def make(N: int = 16, X: int = 4) -> nn.Module:
    return Selective(N, X)


def example_inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randn(2, 2, 8),)


def update(table: Table, row: str, weight: str) -> str:
    return table[row, "update", weight].formula()


def test_few_states() -> None:
    """Under μP the branch falls like 1/N, which the sum with the skip does not show; every row is measured as well."""
    model = TorchModule(make, example_inputs)
    table = verify(model, parameterization="mup", optimizer="adam", fix={"X": 4}, budget=8, dims={"N": [32, 64, 128]})
    roles = {w: s.role for w, s in table.parameterization.items()}
    assert (roles["B.weight"], roles["C.weight"], roles["A_log"], roles["step"]) == ("readout", "readout", "vector", "vector")
    assert (table["branch", "init"].formula(), table["y", "init"].formula()) == ("N^(-1)", "1")
    assert {update(table, "branch", w) for w in ("B.weight", "C.weight")} == {"N^(-1/2)"}
    assert {update(table, "branch", w) for w in ("A_log", "step", "inp.weight")} == {"N^(-1)"}
    assert (update(table, "y", "inp.weight"), update(table, "y", "D")) == ("1", "1")
    assert_agrees(table)


def test_many_states() -> None:
    """B and C are square now: Euler's input factor leaves the sum over states to nobody, and what is upstream of B is fed
    back through it, of rank one."""
    table = derive(TorchModule(make, example_inputs), parameterization="mup", optimizer="adam")
    assert {table.parameterization[w].role for w in ("B.weight", "C.weight")} == {"hidden"}
    assert {str(table.parameterization[w].lr) for w in ("A_log", "step", "D")} == {"1"}
    assert table["branch", "init"].formula() == "X^(1/2)"
    assert update(table, "branch", "A_log") == "1"  # elementwise: decaying in the states, so that their number is paid for
    assert update(table, "branch", "step") == "X^(1/2)"
    assert {update(table, "branch", w) for w in ("B.weight", "C.weight")} == {"X"}
    assert update(table, "branch", "inp.weight") == "N^(1/2) X^(1/2)"
