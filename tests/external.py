"""Modules that nobody here wrote, as a user names them on a command line: ``scalecalc verify tests/external.py:mambapy``.

Widths are the positional arguments, X the number of states.  All is computed and initialised by the packages' own code:
mambapy, torch, transformers (from a small config, without weights).
"""

from __future__ import annotations

import torch
from torch import nn


def mambapy(N: int = 32, X: int = 8, *, steps: float = 0.1, skip: float = 1.0) -> nn.Module:
    """A block of mamba; ``steps`` is the largest initial Δ, the smallest a hundredth of it, and ``skip`` what D starts as."""
    from mambapy.mamba import MambaBlock, MambaConfig

    sizes = {"dt_min": steps / 100, "dt_max": steps, "pscan": False}
    return _skipping(MambaBlock(MambaConfig(d_model=N, n_layers=1, d_state=X, **sizes)), skip)


def mixer(N: int = 32, X: int = 8, *, steps: float = 0.1, skip: float = 1.0) -> nn.Module:
    """The same from transformers."""
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    sizes = {"state_size": X, "time_step_rank": N // 16, "time_step_min": steps / 100, "time_step_max": steps}
    return _skipping(MambaMixer(MambaConfig(num_hidden_layers=1, vocab_size=16, hidden_size=N, **sizes), 0), skip)


def _skipping(block: nn.Module, skip: float) -> nn.Module:
    with torch.no_grad():
        block.D.mul_(skip)
    return block


def encoder(N: int = 16) -> nn.Module:
    return nn.TransformerEncoderLayer(N, 2, 4 * N, dropout=0.0, batch_first=True)


class Attention(nn.Module):
    """``nn.MultiheadAttention`` of a sequence to itself, with a causal mask."""

    def __init__(self, N: int):
        super().__init__()
        self.attend = nn.MultiheadAttention(N, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.attend(x, x, x, attn_mask=mask, need_weights=False)[0]


def attention(N: int = 16) -> nn.Module:
    return Attention(N)


class Decoder(nn.Module):
    """One layer of Llama with the positions it needs, as a user of the library puts them together."""

    def __init__(self, **sizes: int):
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

        super().__init__()
        config = LlamaConfig(num_hidden_layers=1, vocab_size=16, attn_implementation="sdpa", **sizes)
        self.rotary, self.layer = LlamaRotaryEmbedding(config), LlamaDecoderLayer(config, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(x.shape[1])[None]
        return self.layer(x, position_embeddings=self.rotary(x, positions))


def llama(N: int = 32) -> nn.Module:
    """Four heads that grow."""
    return Decoder(hidden_size=N, intermediate_size=4 * N, num_attention_heads=4, num_key_value_heads=2)


def llama_heads(H: int = 4) -> nn.Module:
    """More and more heads of size 8, two queries to a key."""
    sizes = {"hidden_size": 8 * H, "intermediate_size": 16 * H, "head_dim": 8}
    return Decoder(num_attention_heads=H, num_key_value_heads=H // 2, **sizes)


def example_inputs(N: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(2, 3, N),)


def mambapy_inputs(N: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(2, 2, N),)


mixer_inputs = mambapy_inputs


def llama_heads_inputs(H: int) -> tuple[torch.Tensor, ...]:
    return example_inputs(8 * H)
