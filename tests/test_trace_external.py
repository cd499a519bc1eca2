"""Modules that nobody here wrote, from their own code: what theory expects of them, and what is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


class Decoder(nn.Module):
    """One layer of a transformer with the positions it needs, as a user of the library puts them together."""

    def __init__(self, **sizes: int):
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

        super().__init__()
        config = LlamaConfig(num_hidden_layers=1, vocab_size=16, attn_implementation="sdpa", **sizes)
        self.rotary, self.layer = LlamaRotaryEmbedding(config), LlamaDecoderLayer(config, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(x.shape[1])[None]
        return self.layer(x, position_embeddings=self.rotary(x, positions))


def test_llama_with_more_heads() -> None:
    """Heads of fixed size, two queries to a key: mup keeps everything of order one, and nothing is lazy."""

    def make(H: int = 4) -> nn.Module:
        sizes = {"hidden_size": 8 * H, "intermediate_size": 16 * H, "head_dim": 8}
        return Decoder(num_attention_heads=H, num_key_value_heads=H // 2, **sizes)

    def example_inputs(H: int) -> tuple[torch.Tensor, ...]:
        return (torch.randn(2, 3, 8 * H),)

    model = TorchModule(make, example_inputs)
    table = verify(model, parameterization="mup", optimizer="adam", budget=12, dims={"H": [8, 16, 32]})
    assert {w: s.role for w, s in table.parameterization.items() if "weight" in w and "norm" not in w} == {
        f"layer.{w}_proj.weight": "hidden"
        for w in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down")
    }
    assert {r.formula() for r in table if r.kind == "init"} == {"1"}
    assert set(updates(table, "layer").values()) == {"1"}
    assert_agrees(table)
    assert table.counts()["agrees"] > 60


def test_llama_with_larger_heads() -> None:
    """The halves of a rotary embedding cut every head; scores divided by d^(1/2) grow once queries or keys have moved.

    That is what mup's 1/d is for (Yang et al. 2022, arXiv 2203.03466, definition 4.1).
    """

    def make(N: int = 32) -> nn.Module:
        return Decoder(hidden_size=N, intermediate_size=4 * N, num_attention_heads=4, num_key_value_heads=2)

    table = derive(TorchModule(make, batch(2, 3, "N")), parameterization="mup", optimizer="adam")
    found = updates(table, "layer.self_attn.o_proj")
    halves = {f"layer.self_attn.{w}_proj.weight.{k}": "N^(1/2)" for w in "qk" for k in (0, 1)}
    assert {w: size for w, size in found.items() if w in halves} == halves
    assert found["layer.self_attn.v_proj.weight"] == "1"
    assert {r.formula() for r in table if r.kind == "init"} == {"1"}


def test_mamba() -> None:
    """With few states the products with B and C have a finite fan-out: as readouts they are too small to learn."""

    def make(N: int = 32, X: int = 8) -> nn.Module:
        from transformers import MambaConfig
        from transformers.models.mamba.modeling_mamba import MambaMixer

        sizes = {"hidden_size": N, "state_size": X, "time_step_rank": N // 16}
        return MambaMixer(MambaConfig(num_hidden_layers=1, vocab_size=16, **sizes), 0)

    model = TorchModule(make, batch(2, 2, "N"))
    table = verify(model, parameterization="mup", fix={"X": 8}, budget=12, dims={"N": [32, 64, 128]})
    roles = {w: s.role for w, s in table.parameterization.items()}
    assert (roles["x_proj.weight.0"], roles["x_proj.weight.1"], roles["x_proj.weight.2"]) == ("hidden", "readout", "readout")
    found = updates(table, "out_proj")
    assert {found[w] for w in ("in_proj.weight.0", "in_proj.weight.1", "out_proj.weight", "D", "conv1d.weight")} == {"1"}
    assert {found[f"x_proj.weight.{k}"] for k in (1, 2)} == {"N^(-1/2)"}
    assert {found[w] for w in ("A_log", "dt_proj.weight", "dt_proj.bias")} == {"N^(-1)"}  # behind B·C, both of N^(-1/2)
    assert_agrees(table)


def test_multihead_attention() -> None:
    """The module by itself, on queries, keys and values; a mask that is an argument is one."""

    class Attention(nn.Module):
        def __init__(self, N: int):
            super().__init__()
            self.attend = nn.MultiheadAttention(N, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
            return self.attend(x, x, x, attn_mask=mask, need_weights=False)[0]

    def make(N: int = 16) -> nn.Module:
        return Attention(N)

    model = TorchModule(make, batch(2, 3, "N"))
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
