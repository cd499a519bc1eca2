r"""Gradient flow in the frequency domain, by scipy's ODE solvers: every case, also those that have no closed form.

With M_k = S_yu[k] − H_k S_uu[k], the cross-spectrum of the error and the inputs, and g_i = ⟨e z_i*⟩ = Σ_k conj(D_ik) M_k for
the signal z_i = D_i u of a state,

    τ ḃ_i = c_i* g_i,   τ ċ_i = g_i b_i*,   τ ȧ_i = (c_i b_i)* Σ_k conj(e^(−iω_k) D_ik²) M_k.

Poles may be complex; then b and c are too, and the output is Re Σ c_i x_i, as if each had its conjugate beside it.  States
of equal frozen poles are added up before anything is done per frequency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalecalc.dynamics.spectra import Spectra, taps
from scalecalc.errors import MeasureError

Array = NDArray[np.float64]
TOLERANCES = {"rtol": 1e-9, "atol": 1e-12}


@dataclass(frozen=True, eq=False)
class System:
    """Weights of one layer.

    Args:
        a: poles, (N,), within the unit circle.
        b: (N, inputs).
        c: (outputs, N).
    """

    a: NDArray[Any]
    b: NDArray[Any]
    c: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A solution at given times: a (times, N), b (times, N, inputs), c (times, outputs, N), loss per sample (times,)."""

    time: Array
    a: NDArray[Any]
    b: NDArray[Any]
    c: NDArray[Any]
    loss: Array

    @property
    def gains(self) -> NDArray[Any]:
        """c_i b_i per state, (times, N, outputs, inputs)."""
        return np.einsum("tqn,tnp->tnqp", self.c, self.b)

    @property
    def gain(self) -> NDArray[Any]:
        """W = C B, (times, outputs, inputs): the gain of all states, where their poles are equal."""
        return self.gains.sum(1)


def integrate(
    found: Spectra, start: System, time: Array, *, learn: str = "bc", method: str = "RK45", gain: float = 1.0
) -> Trajectory:
    """Integrate the gradient flow, τ = 1.

    Args:
        time: rising, from 0.
        learn: which of ``b``, ``c`` and ``a`` move.
        gain: what the inputs are multiplied by in the recursion: (e^(λΔ) − 1)/λ of a zero-order hold.

    Raises:
        MeasureError: a pole reached the unit circle, or the solver gave up.
    """
    from scipy.integrate import solve_ivp

    n, p = start.b.shape
    q = start.c.shape[0]
    kind = np.result_type(start.a, start.b, start.c, float)
    small = found.compressed(4096 if "a" in learn else max(taps(complex(x)) for x in np.unique(start.a)))
    shift = np.exp(-1j * small.omega)
    poles, group = (start.a, None) if "a" in learn else np.unique(start.a, return_inverse=True)

    def split(state: Array) -> tuple[NDArray[Any], ...]:
        z = state.view(kind)
        return z[:n], z[n : n + n * p].reshape(n, p), z[n + n * p :].reshape(q, n)

    def response(a: NDArray[Any], gains: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        d = gain / (1 - a[:, None] * shift)
        mirrored = d if np.isrealobj(a) else gain / (1 - np.conj(a)[:, None] * shift)
        h = (np.einsum("nk,nqp->kqp", d, gains) + np.einsum("nk,nqp->kqp", mirrored, np.conj(gains))) / 2
        return d, mirrored, h

    def correlated(d: NDArray[Any], mirrored: NDArray[Any], error: NDArray[Any]) -> NDArray[Any]:
        both = np.einsum("k,nk,kqp->nqp", small.weight, np.conj(d), error)
        both = both + np.einsum("k,nk,kqp->nqp", small.weight, mirrored, np.conj(error))
        return both.real / 2 if kind == np.float64 else both / 2

    frozen = response(poles, np.zeros((len(poles), q, p)))[:2] if "a" not in learn else None

    def change(_: float, state: Array) -> Array:
        a, b, c = split(state)
        gains = np.einsum("qn,np->nqp", c, b)
        if group is not None:
            summed = np.zeros((len(poles), q, p), kind)
            np.add.at(summed, group, gains)
            assert frozen is not None
            d, mirrored = frozen
            h = (np.einsum("nk,nqp->kqp", d, summed) + np.einsum("nk,nqp->kqp", mirrored, np.conj(summed))) / 2
        else:
            if np.abs(a).max() >= 1:
                raise MeasureError(
                    "a pole reached the unit circle while it was learnt; begin further inside, or freeze A."
                )
            d, mirrored, h = response(a, gains)
        error = small.yu - h @ small.uu
        g = correlated(d, mirrored, error)
        da = np.zeros(n, kind)
        if "a" in learn:
            slope = correlated(shift * d**2 / gain, shift * mirrored**2 / gain, error)
            da = np.einsum("nqp,nqp->n", np.conj(gains), slope)
        g = g if group is None else g[group]
        db = np.einsum("qn,nqp->np", np.conj(c), g) if "b" in learn else np.zeros((n, p), kind)
        dc = np.einsum("nqp,np->qn", g, np.conj(b)) if "c" in learn else np.zeros((q, n), kind)
        return np.concatenate([da.astype(kind), db.astype(kind).ravel(), dc.astype(kind).ravel()]).view(float)

    first = np.concatenate([x.astype(kind).ravel() for x in (start.a, start.b, start.c)]).view(float)
    solved = solve_ivp(change, (float(time[0]), float(time[-1])), first, t_eval=time, method=method, **TOLERANCES)
    if not solved.success:
        raise MeasureError(f"the gradient flow could not be integrated: {solved.message}")
    states = [split(np.ascontiguousarray(s)) for s in solved.y.T]
    a, b, c = (np.stack(x) for x in zip(*states, strict=True))
    loss = np.array(
        [_loss(small, response(x, np.einsum("qn,np->nqp", z, y))[2]) for x, y, z in zip(a, b, c, strict=True)]
    )
    return Trajectory(time, a, b, c, loss)


def _loss(found: Spectra, h: NDArray[Any]) -> float:
    """½ Σ_k |Y_k − H_k U_k|², per sample."""
    cross = np.einsum("k,kqp,kqp->", found.weight, np.conj(h), found.yu).real
    square = np.einsum("k,kqp,kpr,kqr->", found.weight, h, found.uu, np.conj(h)).real
    return float(found.yy - 2 * cross + square) / 2
