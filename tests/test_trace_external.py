"""Modules that nobody here wrote, from their own code: what theory expects of them, and what is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import external
import pytest
import torch
from torch import nn

from scalecalc.derive import derive
from scalecalc.measure.verify import verify
from scalecalc.model import TorchModule
from scalecalc.table import Table
from scalecalc.testing import assert_agrees

# what torch.export and transformers warn of themselves
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")]


def batch(*shape: int | str) -> Callable[..., tuple[torch.Tensor, ...]]:
    def example_inputs(**dims: int) -> tuple[torch.Tensor, ...]:
        return (torch.randn([dims[s] if isinstance(s, str) else s for s in shape]),)

    return example_inputs


def updates(table: Table, row: str) -> dict[str, str]:
    """What the first update of each weight does to a row, to first order."""
    own = (r for r in table if r.row == row and r.kind == "update" and r.step == 1 and len(r.tag) == 1)
    return {r.tag[0]: r.formula() for r in own}


def test_llama_with_more_heads() -> None:
    """Heads of fixed size, two queries to a key: mup keeps everything of order one, and nothing is lazy."""

    model = TorchModule(external.llama_heads, external.llama_heads_inputs)
    table = verify(model, parameterization="mup", optimizer="adam", budget=12, dims={"H": [8, 16, 32]})
    halves = [f"self_attn.{w}_proj.weight.{k}" for w in "qk" for k in (0, 1)]  # of every head, by a rotary embedding
    whole = [f"{w}_proj.weight" for w in ("self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down")]
    roles = {w: s.role for w, s in table.parameterization.items() if "weight" in w and "norm" not in w}
    assert roles == {f"layer.{w}": "hidden" for w in (*halves, *whole)}
    assert {r.formula() for r in table if r.kind == "init"} == {"1"}
    assert set(updates(table, "layer").values()) == {"1"}
    assert_agrees(table)
    assert table.counts()["agrees"] > 60


def test_llama_with_larger_heads() -> None:
    """The halves of a rotary embedding cut every head; scores divided by d^(1/2) grow once queries or keys have moved.

    That is what mup's 1/d is for (Yang et al. 2022, arXiv 2203.03466, definition 4.1).
    """

    model = TorchModule(external.llama, external.example_inputs)
    table = derive(model, parameterization="mup", optimizer="adam")
    found = updates(table, "layer.self_attn.o_proj")
    halves = {f"layer.self_attn.{w}_proj.weight.{k}": "N^(1/2)" for w in "qk" for k in (0, 1)}
    assert {w: size for w, size in found.items() if w in halves} == halves
    assert found["layer.self_attn.v_proj.weight"] == "1"
    assert {r.formula() for r in table if r.kind == "init"} == {"1"}


def test_mamba() -> None:
    """With few states the products with B and C have a finite fan-out: as readouts they are too small to learn."""

    model = TorchModule(external.mixer, external.mixer_inputs)
    table = verify(model, parameterization="mup", fix={"X": 8}, budget=12, dims={"N": [32, 64, 128]})
    roles = {w: s.role for w, s in table.parameterization.items()}
    assert (roles["x_proj.weight.0"], roles["x_proj.weight.1"], roles["x_proj.weight.2"]) == ("hidden", "readout", "readout")
    found = updates(table, "out_proj")
    assert {found[w] for w in ("in_proj.weight.0", "in_proj.weight.1", "out_proj.weight", "D", "conv1d.weight")} == {"1"}
    assert {found[f"x_proj.weight.{k}"] for k in (1, 2)} == {"N^(-1/2)"}
    assert {found[w] for w in ("A_log", "dt_proj.weight", "dt_proj.bias")} == {"N^(-1)"}  # behind B·C, both of N^(-1/2)
    assert_agrees(table)


def test_mambapy_measured() -> None:
    """With steps Δ of order one, which puts the decay's crossover below the states that there are."""
    model = f"{external.__file__}:mambapy:steps=4"
    table = verify(model, parameterization="mup", optimizer="adam", fix={"X": 16}, seeds=450, dims={"N": [32, 64, 128]})
    assert_agrees(table)
    assert table.counts()["agrees"] > 40


def test_an_encoder_layer_measured() -> None:
    """As torch builds it and with one rate for all: scores move like N^(3/2), all else like N."""
    table = verify(f"{external.__file__}:encoder", optimizer="adam", seeds=300, dims={"N": [16, 32, 64]})
    found = updates(table, "norm2")
    halves = {f"self_attn.in_proj_{w}": "N^(3/2)" for w in ("weight.0", "weight.1")}
    assert {w: size for w, size in found.items() if w in halves} == halves
    assert {found[f"linear{k}.weight"] for k in (1, 2)} == {"N"}
    assert_agrees(table)
    assert table.counts()["agrees"] > 90


class Selection(nn.Module):
    """What of mamba's block it takes for an update of its input to come back through B: y = u Σ_n B_n C_n."""

    def __init__(self, N: int, X: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(N))
        self.B, self.C, self.out = (nn.Linear(N, k, bias=False) for k in (X, X, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = torch.tanh(self.gain * x)
        return self.out(u * (self.B(u) * self.C(u)).sum(-1, keepdim=True))


def test_an_update_of_the_input_comes_back_through_B() -> None:
    """The gradient that reaches u through Wᵀ_B is along C, so that B moves along C, and the sum over the states is coherent.

    W_B sign(Wᵀ_B dB) has a part N^(1/2) X^(-1/2) along dB, beside entries of order one that are not.  Mamba's mixer has that
    row with a smaller constant: with 16 states, as built, the update of the output by the convolution has slopes of .19 and
    .36 between N = 64, 256 and 1024, and its square is .96 + .0049 N within the errors, up to N = 2048.
    """

    def make(N: int = 32, X: int = 8) -> nn.Module:
        return Selection(N, X)

    table = verify(
        TorchModule(make, batch(2, "N")), optimizer="adam", dims={"N": [256, 1024, 4096], "X": [4, 16, 64]}, seeds=500
    )
    row = table["out", "update", "gain"]
    assert (row.formula(), row.verdict) == ("N^(1/2) X^(1/2)", "agrees"), row.settle
    assert [str(s) for s in row.subleading] == ["X^(1/2)"]
    assert_agrees(table)


def test_multihead_attention() -> None:
    """The module by itself, on queries, keys and values; a mask that is an argument is one."""

    model = TorchModule(external.attention, external.example_inputs)
    table = verify(model, parameterization="mup", optimizer="adam", budget=10, dims={"N": [32, 64, 128]})
    assert updates(table, "attend") == {
        "attend.in_proj_weight.0": "N^(1/2)", "attend.in_proj_bias.0": "N^(1/2)", "attend.in_proj_weight.1": "N^(1/2)",
        "attend.in_proj_weight.2": "1", "attend.in_proj_bias.2": "1", "attend.out_proj.weight": "1",
        "attend.out_proj.bias": "1",
    }  # fmt: skip
    assert_agrees(table)


def test_multihead_attention_of_three_inputs() -> None:
    def make(N: int = 16) -> nn.Module:
        return nn.MultiheadAttention(N, 2)

    def example_inputs(N: int) -> tuple[Any, ...]:
        return tuple(torch.randn(3, 2, N) for _ in range(3))

    table = derive(TorchModule(make, example_inputs), parameterization="mup", optimizer="sgd")
    assert {s.role for w, s in table.parameterization.items() if "weight" in w} == {"hidden"}
    assert table["output", "init"].formula() == "1"


def test_two_blocks() -> None:
    """All that is upstream of the second block's scores moves them like N^(1/2), and by Adam every weight the output alike.

    Where terms were too many, what the gain of a norm or the matrix before a relu does came out N^(1/2) too small.
    """

    def make(N: int = 16) -> nn.Module:
        blocks = (nn.TransformerEncoderLayer(N, 2, 4 * N, dropout=0.0, batch_first=True) for _ in range(2))
        return nn.Sequential(nn.Linear(8, N), *blocks, nn.Linear(N, 2))

    table = derive(TorchModule(make, batch(2, 3, 8)), parameterization="mup", optimizer="adam")
    found = updates(table, "2.self_attn")
    assert {size for w, size in found.items() if w[0] in "01"} == {"N^(1/2)"}
    assert set(updates(table, "3").values()) == {"1"}
