r"""Closed forms of the gain W(t) of one mode, in NumPy; sympy verifies each in :mod:`scalecalc.dynamics.theory`.

σ and η: the mode's statistics.  τ is 1: time is the number of steps times the rate.  Where no closed form exists (learned
poles, modes that overlap, inputs that are not white), :mod:`scalecalc.dynamics.flow` integrates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scalecalc.dynamics.settings import Setting

Array = NDArray[np.float64]


def sigmoid(t: Array, sigma: float, eta: float, start: float, states: int = 1) -> Array:
    """Balanced: W(t) = (σ/η) / (1 + (σ/(η W₀) − 1) e^(−2Mσt)), M = N where the states are tied, else 1 (eq. of the paper).

    Args:
        t: times, any shape.
        start: W₀, of the sign of σ.
        states: M.
    """
    return (sigma / eta) / (1 + (sigma / (eta * start) - 1) * np.exp(-2 * states * abs(sigma) * t))


def exponential(t: Array, sigma: float, eta: float, start: float, multiple: float) -> Array:
    """c frozen: W(t) = σ/η + (W₀ − σ/η) e^(−Mηt), M = N² where the states are tied, else N = |c|²."""
    return sigma / eta + (start - sigma / eta) * np.exp(-multiple * eta * t)


def unbalanced(t: Array, sigma: float, eta: float, b: Array, c: Array, states: int = 1) -> Array:
    """Any start of one mode: W = (P x − Q/x)/4 with P = |b + c|², Q = |b − c|² and x = e^(2θ) solving a Riccati equation.

    With μ = M √(4σ² + η² P Q) and x± the roots of ηP x² − 4σ x − ηQ = 0,
    x(t) = (x₊(1 − x₋) − x₋(1 − x₊) e^(−μt)) / ((1 − x₋) − (1 − x₊) e^(−μt)).
    P Q is conserved: 0 where balanced (then a sigmoid), |b|⁴ or |c|⁴ where one of the two is zero.

    Args:
        b, c: initial weights of the states, (N,); of tied states their common ones, scaled by √N each, with M = N.
        states: M, as for :func:`sigmoid`.
    """
    p, q = float(np.sum((b + c) ** 2)), float(np.sum((b - c) ** 2))
    if p == 0:  # b = −c: the mirror image
        return -unbalanced(t, -sigma, eta, b, -c, states)
    root = np.sqrt(4 * sigma**2 + eta**2 * p * q)
    high, low = (2 * sigma + root) / (eta * p), (2 * sigma - root) / (eta * p)
    if q == 0 and sigma > 0:
        low = 0.0
    gone = np.exp(-states * root * t)
    x = (high * (1 - low) - low * (1 - high) * gone) / ((1 - low) - (1 - high) * gone)
    return (p * x - (q / x if q else 0.0)) / 4


def two_layers(t: Array, sigma: float, eta: float, start: float, states: int = 1) -> Array:
    """Two layers, balanced: t(W) is elementary, W(t) is not; found from it by interpolation on a fine grid.

    Ẇ = 4M W^(3/2)(σ − ηW) gives 2Mσ t = [−1/v + r artanh(r v)] with v = √W and r = √(η/σ), between W₀ and W.
    """
    top = np.sqrt(sigma / eta)
    near = np.concatenate([np.geomspace(np.sqrt(start), top / 2, 4000), top * (1 - np.geomspace(0.5, 1e-14, 8000)[1:])])
    near = near[near >= np.sqrt(start)]

    def passed(v: Array) -> Array:
        return (-1 / v + np.arctanh(v / top) / top) / (2 * states * sigma)

    times = passed(near) - passed(near[:1])
    return np.interp(t, times, near) ** 2


def gain(one: Setting, t: Array, sigma: float, eta: float, start: float, states: int) -> Array:
    """W(t) of a setting, all states alike.

    Args:
        start: W₀, the initial gain of all states together, above 0.
        states: N.
    """
    multiple = states if one.tied else 1
    if one.frozen:
        return exponential(t, sigma, eta, start, multiple * states)
    if one.layers == 1:
        return sigmoid(t, sigma, eta, start, multiple)
    return two_layers(t, sigma, eta, start, multiple)
