r"""Gradient flow of layers in a row, whose poles may differ from layer to layer: no closed form is known, scipy integrates.

With H_l = Σ_i c_li b_li D_li the response of layer l, H = Π_l H_l that of the stack, P_l = Π_(m≠l) H_m what the other layers
do, and M_k = S_yu[k] − H_k S_uu[k] (see :mod:`scalecalc.dynamics.flow`),

    τ ḃ_li = c_li g_li,   τ ċ_li = b_li g_li,   g_li = Re Σ_k conj(D_lik P_lk) M_k,

so that b² − c² is conserved for every state of every layer, as in one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalecalc.dynamics.flow import TOLERANCES, Array
from scalecalc.dynamics.spectra import Spectra, taps
from scalecalc.errors import InputError, MeasureError

Complex = NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of one channel: poles a, frozen, and weights b and c; each (states,), real."""

    a: Array
    b: Array
    c: Array


@dataclass(frozen=True, eq=False)
class Path:
    """A solution at given times: for each layer b and c, (times, states); loss per sample (times,)."""

    time: Array
    b: tuple[Array, ...]
    c: tuple[Array, ...]
    loss: Array


def integrate(found: Spectra, layers: Sequence[Layer], time: Array, *, method: str = "RK45") -> Path:
    """Integrate the gradient flow of the stack, τ = 1.

    Args:
        found: statistics of sequences with one input and one output.
        layers: from the input to the output.
        time: rising, from 0.

    Raises:
        InputError: no layers, several channels, shapes that differ, or a pole not within the unit circle.
        MeasureError: the solver gave up.
    """
    from scipy.integrate import solve_ivp

    _checked(found, layers)
    small = found.compressed(sum(max(taps(complex(x)) for x in layer.a) for layer in layers))
    turn = np.exp(-1j * small.omega)
    each = [1 / (1 - layer.a[:, None] * turn) for layer in layers]
    ends = np.cumsum([len(layer.a) for layer in layers for _ in range(2)])[:-1]
    yu, uu, weight = small.yu[:, 0, 0], small.uu[:, 0, 0].real, small.weight

    def split(state: Array) -> tuple[list[Array], list[Array]]:
        parts = np.split(state, ends)
        return parts[::2], parts[1::2]

    def responses(b: Sequence[Array], c: Sequence[Array]) -> Complex:
        return np.stack([(y * x) @ d for x, y, d in zip(b, c, each, strict=True)])

    def change(_: float, state: Array) -> Array:
        b, c = split(state)
        h = responses(b, c)
        error = weight * (yu - h.prod(0) * uu)
        out: list[Array] = []
        for i, d in enumerate(each):
            others = np.delete(h, i, axis=0).prod(0)
            g = (np.conj(d * others) @ error).real
            out += [c[i] * g, b[i] * g]
        return np.concatenate(out)

    def loss(state: Array) -> float:
        h = responses(*split(state)).prod(0)
        return float(small.yy - 2 * (weight * (np.conj(h) * yu).real).sum() + (weight * np.abs(h) ** 2 * uu).sum()) / 2

    first = np.concatenate([x for layer in layers for x in (layer.b, layer.c)])
    solved = solve_ivp(change, (float(time[0]), float(time[-1])), first, t_eval=time, method=method, **TOLERANCES)
    if not solved.success:
        raise MeasureError(f"the gradient flow of the stack could not be integrated: {solved.message}")
    b, c = zip(*(split(state) for state in solved.y.T), strict=True)
    gathered = [tuple(np.stack(x) for x in zip(*its, strict=True)) for its in (b, c)]
    return Path(time, gathered[0], gathered[1], np.array([loss(state) for state in solved.y.T]))


def _checked(found: Spectra, layers: Sequence[Layer]) -> None:
    if not layers:
        raise InputError("a stack has one layer at least.")
    if found.channels != (1, 1):
        raise InputError(f"a stack has one channel, and the data have (inputs, outputs) = {found.channels}.")
    for number, layer in enumerate(layers, 1):
        shapes = {np.shape(x) for x in (layer.a, layer.b, layer.c)}
        if len(shapes) != 1 or len(shapes.pop()) != 1:
            raise InputError(f"layer {number}: a, b and c must be vectors of one length.")
        if not np.abs(layer.a).max() < 1:
            raise InputError(f"layer {number}: its poles must lie within the unit circle.")


__all__ = ["Layer", "Path", "integrate"]
