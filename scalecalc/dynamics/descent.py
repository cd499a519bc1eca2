"""Gradient descent by torch's autograd, in the time domain: what the derived curves are held against.

The loss is that of the impulse response K_t = Σ_i C_·i a_i^t B_i· convolved with the inputs, from a zero state: linear, not
circular, and no statistic of the theory enters.  Of K it is a quadratic form whose coefficients are moments of the data
(:func:`scalecalc.dynamics.spectra.moments`, exact), which makes a step independent of how long the sequences are; the tests
hold it against the recursion x_t = A x_(t−1) + B u_t run step by step.

Many runs go side by side along a first axis: widths, seeds, data in other units.  A state that a run does not have begins
at b = c = 0, where its gradient vanishes, and stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scalecalc.dynamics.settings import Setting
from scalecalc.dynamics.spectra import Moments
from scalecalc.measure.threads import one_torch_thread

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curves:
    """What gradient descent did.

    Args:
        time: steps × rate, (runs, records).
        gain: W, (runs, records, outputs, inputs); of layers in a row their product.
        loss: per sample, (runs, records).
        slope: squared norm of the gradient, (runs, records).
        weights: final parameters by name.
    """

    time: Array
    gain: Array
    loss: Array
    slope: Array
    weights: Mapping[str, Array]


def impulse(c: torch.Tensor, powers: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """K = Σ_i c_i a_i^t b_i, (runs, outputs, T, inputs).

    Args:
        c: (runs, outputs, N).
        powers: a_i^t, (T,) for one pole everywhere, (N, T) or (runs, N, T); complex ones give the real part.
        b: (runs, N, inputs).
    """
    if powers.ndim == 1:  # the same pole everywhere
        return torch.einsum("rqp,t->rqtp", torch.einsum("rqn,rnp->rqp", c, b), powers)
    product = torch.einsum("rqn,rnt,rnp->rqtp" if powers.ndim == 3 else "rqn,nt,rnp->rqtp", c, powers, b)
    return product.real if product.is_complex() else product


def chained(kernels: Sequence[torch.Tensor]) -> torch.Tensor:
    """The impulse response of single-channel layers in a row: their convolution, cut at T taps."""
    if len(kernels) == 1:
        return kernels[0]
    taps = kernels[0].shape[2]
    spectrum: Any = 1.0
    for kernel in kernels:
        spectrum = spectrum * torch.fft.rfft(kernel, n=2 * taps, dim=2)
    return torch.fft.irfft(spectrum, n=2 * taps, dim=2)[:, :, :taps]


class Loss:
    """Squared loss per sample as a function of the impulse response, a row per run."""

    def __init__(self, found: Moments, u: Array | None = None, y: Array | None = None):
        """``u``, ``y``: factors of the inputs and the outputs of each run, (runs,)."""
        outputs, taps, inputs = found.cross.shape
        self.cross = torch.as_tensor(found.cross.reshape(1, outputs, taps * inputs))
        self.gram = torch.as_tensor(found.gram.reshape(taps * inputs, taps * inputs))
        one = np.ones(1)
        self.u = torch.as_tensor(one if u is None else u)[:, None, None]
        self.y = torch.as_tensor(one if y is None else y)[:, None, None]
        self.yy = found.yy

    def __call__(self, kernel: torch.Tensor) -> torch.Tensor:
        """(runs, outputs, T, inputs) → (runs,)."""
        k = kernel.flatten(2) * self.u
        # As one matrix: a batch of thin products takes several times as long.
        fitted = ((k.flatten(0, 1) @ self.gram).reshape(k.shape) * k).sum((1, 2)) - 2 * (k * self.cross * self.y).sum((1, 2))
        return (self.yy * self.y[:, 0, 0] ** 2 + fitted) / 2


def descend(
    kernel: Callable[..., torch.Tensor],
    weights: Mapping[str, Array],
    loss: Callable[[torch.Tensor], torch.Tensor],
    rate: Array,
    steps: int,
    *,
    gain: Callable[..., torch.Tensor],
    record: int = 1,
) -> Curves:
    """Plain gradient descent, θ ← θ − rate · ∂L/∂θ.

    Args:
        kernel: from the weights, by name, to the impulse responses, (runs, outputs, T, inputs).
        weights: what is trained, by name, each (runs, …); complex ones move against the gradient in both their parts.
        rate: of each run, (runs,), or one for all.
        gain: from the weights to W, (runs, outputs, inputs).
        record: every how many steps.
    """
    # A copy: torch would write into the caller's arrays.
    trained = {name: torch.tensor(value, requires_grad=True) for name, value in weights.items()}
    runs = next(iter(trained.values())).shape[0]
    rates = torch.as_tensor(np.broadcast_to(np.asarray(rate, float), (runs,)).copy())
    gains: list[Array] = []
    losses: list[Array] = []
    slopes: list[Array] = []
    at: list[int] = []
    with one_torch_thread():
        for step in range(steps + 1):
            value = loss(kernel(**trained))
            found = torch.autograd.grad(value.sum(), list(trained.values()))
            with torch.no_grad():
                if step % record == 0:
                    at.append(step)
                    gains.append(gain(**trained).numpy().copy())
                    losses.append(value.numpy().copy())
                    slopes.append(sum((g.abs() ** 2).flatten(1).sum(1) for g in found).numpy().copy())  # type: ignore[union-attr]
                for theta, g in zip(trained.values(), found, strict=True):
                    theta -= rates.reshape(-1, *[1] * (theta.ndim - 1)) * g
    time = np.asarray(at)[None, :] * rates.numpy()[:, None]
    final = {name: value.detach().numpy() for name, value in trained.items()}
    return Curves(time, np.stack(gains, 1), np.stack(losses, 1), np.stack(slopes, 1), final)


def train(
    one: Setting,
    found: Moments,
    pole: float,
    states: Array,
    start: Array,
    rate: Array,
    steps: int,
    *,
    u: Array | None = None,
    y: Array | None = None,
    jitter: Array | None = None,
    record: int = 1,
) -> Curves:
    """Runs of one setting side by side, one input and one output, all poles equal and frozen.

    Args:
        states: N of each run, (runs,).
        start: W₀, the initial gain of all states of a run together, (runs,).
        rate: (runs,).
        u, y: factors of the data, see :class:`Loss`.
        jitter: factors of the initial b (and c) of each state, (runs, largest N); 1 where not given.
    """
    most, taps = int(states.max()), found.cross.shape[1]
    there = np.arange(most)[None] < states[:, None]
    each = (start / states.astype(float) ** one.layers) ** (1 / (1 if one.frozen else 2 * one.layers))
    if one.frozen and one.layers > 1:
        raise ValueError("no setting of several layers has a frozen c")
    b = np.where(there, each[:, None] * (1 if jitter is None else jitter[:, :most]), 0.0)
    b = b[:, :1] if one.tied else b
    mask = torch.as_tensor(there.astype(float))
    powers = torch.as_tensor(pole ** np.arange(taps, dtype=float))
    weights = {f"b{k}": b for k in range(one.layers)}
    weights |= {} if one.frozen else {f"c{k}": b for k in range(one.layers)}

    def layer(k: int, given: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        c = given.get(f"c{k}", torch.ones(1, 1, dtype=torch.float64))
        return c * mask, given[f"b{k}"] * mask

    def kernel(**given: torch.Tensor) -> torch.Tensor:
        parts = [layer(k, given) for k in range(one.layers)]
        return chained([impulse(c[:, None, :], powers, b[:, :, None]) for c, b in parts])

    def gain(**given: torch.Tensor) -> torch.Tensor:
        parts = [layer(k, given) for k in range(one.layers)]
        return torch.stack([(c * b).sum(1) for c, b in parts]).prod(0)[:, None, None]

    return descend(kernel, weights, Loss(found, u, y), rate, steps, gain=gain, record=record)
