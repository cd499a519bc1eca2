"""The selective scan as one reads it in a paper: a loop over time in float64, differentiable as often as wanted.

It is what every other backend is held against, so it is written to be read and to be right at any size of Δ·A; it stores the
state at every step and takes no care to be fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import torch

from scalecalc.measure.scan.inputs import Inputs


@dataclass(frozen=True)
class Scanned:
    """y (batch, time, channels) and the states after every step, (batch, time, channels, states)."""

    y: torch.Tensor
    h: torch.Tensor


def hold(delta: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """(exp(ΔA) − 1)/A, and Δ at A = 0: by its series where |ΔA| < 1/2, since the difference cancels there.

    Elsewhere not as Δ times a function of ΔA, whose derivative by Δ would be a difference, too: it is exp(ΔA).
    """
    z = delta * A
    small = z.abs() < 0.5
    near = torch.where(small, z, torch.zeros_like(z))
    series = torch.full_like(z, 1 / factorial(22))
    for k in reversed(range(21)):
        series = series * near + 1 / factorial(k + 1)
    return torch.where(small, delta * series, (z.exp() - 1) / torch.where(small, torch.ones_like(z), A))


def discretize(scheme: str, delta: torch.Tensor, A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The decay Ā and the input factor B̄/B."""
    z = delta * A
    if scheme == "zoh":
        return z.exp(), hold(delta, A)
    if scheme == "mamba":
        return z.exp(), delta * torch.ones_like(z)
    if scheme == "euler":
        return 1 + z, delta * torch.ones_like(z)
    return (2 + z) / (2 - z), 2 * delta / (2 - z)


def scan(x: Inputs) -> Scanned:
    """h_t = Ā_t h_{t−1} + B̄_t u_t and y_t = Re Σ_n C_t h_t + D u_t, in double precision, in the precision given back."""
    u, delta, A, B, C, D, h0 = (None if t is None else _double(t) for t in x.tensors)
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    batch, time, channels = u.shape
    if delta.dim() == 1:
        delta = delta.expand(batch, time, channels)
    B, C = (t[:, :, None, :] if t.dim() == 3 else t.expand(batch, time, *t.shape[:-1], t.shape[-1]) for t in (B, C))
    B, C = (t if t.dim() == 4 else t[:, :, None, :] for t in (B, C))
    h = A.new_zeros(batch, channels, x.states) if h0 is None else h0
    states: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    for t in range(time):
        decay, factor = discretize(x.discretization, delta[:, t, :, None], A)
        h = decay * h + factor * B[:, t] * u[:, t, :, None]
        y = (C[:, t] * h).sum(-1)
        y = y.real if y.is_complex() else y
        states.append(h)
        outputs.append(y if D is None else y + D * u[:, t])
    return Scanned(torch.stack(outputs, 1).to(u_dtype := x.tensors[0].dtype), _back(torch.stack(states, 1), u_dtype))


def squares(x: Sequence[torch.Tensor], coefficients: Sequence[float]) -> list[torch.Tensor]:
    """|h|² of every member and of Σ c_k h_k (where there are several), (batch, time, channels, states), in float64."""
    members = [_double(h) for h in x]
    if len(members) > 1:
        members.append(torch.stack([c * h for c, h in zip(coefficients, members, strict=True)]).sum(0))
    return [h.abs().square() for h in members]


def _double(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _back(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype.to_complex() if x.is_complex() else dtype)
