"""The networks that are trained, each beside the program whose exponents it is scaled by.

A network's parameters have the names of the program's weights; blocks beyond the first are the same weights again, since a
depth that does not grow changes no exponent.  Nothing is scaled here: entries start as at the base width, by fan-in, and
rates, inits and multipliers come from :mod:`scalecalc.torch`.

Norms are without gains, as in the programs, so that every parameter is a weight whose exponent was derived.  The byte
embedding is the program's embedding, a matrix product with a one-hot vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from scalecalc.errors import InputError, UnknownName
from scalecalc.request import parse_model

Names = Mapping[str, Any]
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh}
YES = ("yes", "true", "on", "1")


@dataclass(frozen=True)
class Network:
    """How one model is built, and what it is to the calculus.

    Args:
        program: what is derived, with its options.
        build: the module from widths, numbers of inputs and outputs.
        reads: ``text`` or ``examples``.
        names: parameter → weight, with the dims of its axes where they differ; None: traced, and found by ``names_of``.
        dims: widths to train at, unless told otherwise; the first of each is the base.
        batches: the model's own data, from seed and batch size; None: those that ``reads`` says.
        digest: of a user's file.
    """

    program: str
    build: Callable[[Mapping[str, int], int, int], nn.Module]
    reads: str
    names: Names | None = field(default_factory=dict[str, Any])
    dims: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    batches: Callable[..., Any] | None = None
    digest: str = ""


def network(text: str) -> Network:
    """The network of a MODEL as typed.

    Raises:
        UnknownName: there is none of that name, or it has no such option.
        InputError: an option with a value that it cannot take.
    """
    request = parse_model(text)
    if request.file is not None:
        from scalecalc.transfer.own import own

        return own(text)
    if request.name not in KNOWN:
        known = [*KNOWN, "path/to/file.py:factory"]
        raise UnknownName("model to train", request.name, known)
    make, takes = KNOWN[request.name]
    for option, value in request.options.items():
        if option not in takes:
            raise UnknownName(f"option of {request.name} that can be trained", option, takes)
        if option in ("depth", "heads") and not (value.isdecimal() and 1 <= int(value) <= 100):
            raise InputError(f"{request.name}:{option}={value} is no whole number from 1 to 100.")
    return make(dict(request.options))


def names_of(net: Network, model: nn.Module, axes: Mapping[str, tuple[str, ...]]) -> Names:
    """Parameter → weight.  Of a traced model a weight has its parameter's name, less axes of one entry, and what has no
    effect is no weight.

    Args:
        axes: the dims of every weight's axes, as the parameterization has them.
    """
    if net.names is not None:
        return net.names
    out: dict[str, Any] = {}
    for name, parameter in model.named_parameters():
        own = list(axes.get(name, ()))
        if name in axes and len(own) < parameter.ndim:
            filled = ["" if size == 1 else own.pop(0) if own else "" for size in parameter.shape]
            out[name] = (name, tuple(filled))
        else:
            out[name] = name if name in axes else None
    return out


def weight(*shape: int, fan_in: int) -> nn.Parameter:
    """Independent normal entries of variance 1/fan-in."""
    return nn.Parameter(torch.randn(shape) / math.sqrt(fan_in))


def readout(outputs: int, width: int, zero: bool) -> nn.Parameter:
    """As any weight; or zero, so that no width begins with an output of its own (Yang et al. 2022, arXiv 2203.03466, D.2).

    Under μP the output at initialisation falls as N^−1/2: at the base it is as large as the targets, and what is spent on
    unlearning it shrinks with the width.  Rates do not depend on it.
    """
    return nn.Parameter(torch.zeros(outputs, width)) if zero else weight(outputs, width, fan_in=width)


def _zero(options: dict[str, str]) -> bool:
    """Takes the option ``readout`` away, which is the training's and not the program's."""
    found = options.pop("readout", "random")
    if found not in ("random", "zero"):
        raise InputError(f"readout={found} is neither random nor zero.")
    return found == "zero"


def _typed(name: str, options: Mapping[str, str]) -> str:
    return f"{name}:{','.join(f'{k}={v}' for k, v in options.items())}" if options else name


def rmsnorm(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=1e-12)


# mlp


class MLP(nn.Module):
    """The program's: embedding, depth − 1 hidden layers, readout, no biases, a function before every matrix but the first."""

    def __init__(
        self, N: int, inputs: int, outputs: int, depth: int = 2, zero: bool = False, activation: str = "relu"
    ):
        super().__init__()
        self.depth, self.activation = depth, ACTIVATIONS[activation]
        self.W_in = weight(N, inputs, fan_in=inputs)
        for layer in range(2, depth + 1):
            setattr(self, f"W_{layer}", weight(N, N, fan_in=N))
        self.W_out = readout(outputs, N, zero)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x @ self.W_in.T
        for layer in range(2, self.depth + 1):
            h = self.activation(h) @ getattr(self, f"W_{layer}").T
        return self.activation(h) @ self.W_out.T


def _mlp(options: dict[str, str]) -> Network:
    zero, depth, activation = _zero(options), int(options.get("depth", 2)), options.get("activation", "relu")
    if activation not in ACTIVATIONS:
        raise UnknownName("activation that can be trained with", activation, ACTIVATIONS)
    return Network(
        _typed("mlp", options), lambda dims, i, o: MLP(dims["N"], i, o, depth, zero, activation), "examples",
        dims={"N": (64, 128, 256, 512, 1024)},
    )  # fmt: skip


# A selective state space layer as a byte-level language model


class S6Block(nn.Module):
    """u + gate(S6(norm u)): Δ = softplus(W_Delta a + 1), B = W_B a, C = W_C a, as the program ``s6`` has them."""

    def __init__(self, N_u: int, N_x: int, options: Mapping[str, str], transition: Callable[[int], torch.Tensor]):
        super().__init__()
        self.W_Delta = weight(N_u, N_u, fan_in=N_u)
        self.W_B, self.W_C = weight(N_x, N_u, fan_in=N_u), weight(N_x, N_u, fan_in=N_u)
        self.D = nn.Parameter(torch.ones(N_u)) if options.get("skip", "no").lower() in YES else None
        self.W_z = weight(N_u, N_u, fan_in=N_u) if options.get("gate", "no").lower() in YES else None
        self.discretization = options.get("discretization", "zoh")
        self.register_buffer("A", transition(N_x), persistent=False)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        from scalecalc.measure.scan import selective_scan

        a = rmsnorm(u)
        delta = F.softplus(a @ self.W_Delta.T + 1.0)
        B, C = a @ self.W_B.T, a @ self.W_C.T
        y = selective_scan(a, delta, self.A, B, C, D=self.D, discretization=self.discretization)
        if self.W_z is not None:
            y = y * F.silu(a @ self.W_z.T)
        return u + y


class LanguageModel(nn.Module):
    """Embedding of bytes, blocks, a norm, readout: (batch, length) → (batch, length, bytes)."""

    def __init__(self, width: int, inputs: int, outputs: int, blocks: list[nn.Module], zero: bool = False):
        super().__init__()
        self.W_in = nn.Parameter(torch.randn(width, inputs))  # a one-hot input: of fan-in one
        self.blocks = nn.ModuleList(blocks)
        self.W_out = readout(outputs, width, zero)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        u = F.embedding(tokens, self.W_in.T)
        for block in self.blocks:
            u = block(u)
        return rmsnorm(u) @ self.W_out.T


def _s6(options: dict[str, str]) -> Network:
    depth, zero = int(options.pop("depth", 1)), _zero(options)
    program = {**options, "norm": "yes", "residual": "yes", "activation": "identity"}
    transition = _transition(options.get("transition", "mamba"))

    def build(dims: Mapping[str, int], inputs: int, outputs: int) -> nn.Module:
        blocks = [S6Block(dims["N_u"], dims["N_x"], options, transition) for _ in range(depth)]
        return LanguageModel(dims["N_u"], inputs, outputs, blocks, zero)  # pyright: ignore[reportArgumentType]

    extra = (w for w, option in (("D", "skip"), ("W_z", "gate")) if options.get(option, "no").lower() in YES)
    names = {f"blocks.*.{w}": w for w in ("W_Delta", "W_B", "W_C", *extra)}
    return Network(_typed("s6", program), build, "text", names, {"N_u": (64, 128, 256, 512), "N_x": (16,)})


def _transition(text: str) -> Callable[[int], torch.Tensor]:
    """A_n of a registered transition or an expression in n, as real numbers."""

    def values(states: int) -> torch.Tensor:
        import sympy as sp

        from scalecalc.asymptotics import N, n
        from scalecalc.rule import registry
        from scalecalc.rules.transition import transition_of

        registry("transition")  # loads the rules
        expression = transition_of(text)
        at = [sp.N(expression.subs({n: i, N: states})) for i in range(states)]
        if not all(value.is_real for value in at):
            raise InputError(f"the transition {text} is random or complex; training takes a real one in n, as mamba's.")
        return torch.tensor([float(value) for value in at])

    return values


# A transformer as a byte-level language model


class TransformerBlock(nn.Module):
    """u + W_o attention(norm u), then u + W_2 gelu(W_1 norm u); logits over d, rotary positions, as the program has them."""

    def __init__(self, N: int, heads: int):
        super().__init__()
        for name in ("W_q", "W_k", "W_v", "W_o", "W_1", "W_2"):
            setattr(self, name, weight(N, N, fan_in=N))
        self.heads = heads

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        batch, time, N = u.shape
        d = N // self.heads
        a = rmsnorm(u)
        q, k, v = ((a @ w.T).view(batch, time, self.heads, d).transpose(1, 2) for w in (self.W_q, self.W_k, self.W_v))
        q, k = _rotated(q), _rotated(k)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0 / d)
        u = u + o.transpose(1, 2).reshape(batch, time, N) @ self.W_o.T
        return u + F.gelu(rmsnorm(u) @ self.W_1.T) @ self.W_2.T


def _rotated(x: torch.Tensor) -> torch.Tensor:
    """Pairs of features turned by angles that grow with time (Su et al. 2021, arXiv 2104.09864)."""
    time, half = x.shape[-2], x.shape[-1] // 2
    angles = torch.arange(time)[:, None] * 10000.0 ** (-torch.arange(half) / half)
    c, s = torch.cos(angles).to(x), torch.sin(angles).to(x)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * c - second * s, first * s + second * c], -1)


def _transformer(options: dict[str, str]) -> Network:
    depth, zero = int(options.pop("depth", 1)), _zero(options)
    heads = 2  # the program's: heads grow wider, and are of a fixed number

    def build(dims: Mapping[str, int], inputs: int, outputs: int) -> nn.Module:
        if dims["N"] % (2 * heads):
            raise InputError(f"transformer: N={dims['N']} is no multiple of {2 * heads}; heads have pairs of features.")
        return LanguageModel(dims["N"], inputs, outputs, [TransformerBlock(dims["N"], heads) for _ in range(depth)], zero)

    wide = {f"blocks.*.{w}": (w, ("N", "N")) for w in ("W_q", "W_k", "W_v", "W_o")}  # the heads' axes as one
    names = {**wide, **{f"blocks.*.{w}": w for w in ("W_1", "W_2")}}
    return Network("transformer:rotary=yes", build, "text", names, {"N": (64, 128, 256, 512)})


KNOWN: dict[str, tuple[Callable[[dict[str, str]], Network], tuple[str, ...]]] = {
    "mlp": (_mlp, ("depth", "readout", "activation")),
    "s6": (_s6, ("depth", "readout", "discretization", "transition", "skip", "gate")),
    "transformer": (_transformer, ("depth", "readout")),
}
