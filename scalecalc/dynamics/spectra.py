r"""Sufficient statistics of a linear SSM's squared loss: spectra, and from them σ and η per frequency and in total.

A diagonal SSM x_t = A x_(t−1) + B u_t, y_t = C x_t has the frequency response H_k = Σ_i C_·i B_i· / (1 − a_i e^(−iω_k)), and
its squared loss per sample sees the data only through three spectra (with the unitary DFT, averaged over sequences and time):

    S_uu[k] = ⟨U_k U_k*⟩,  S_yu[k] = ⟨Y_k U_k*⟩,  ⟨|y|²⟩.

With D_k = 1/(1 − a e^(−iω_k)) a mode with pole a has σ_k = Re(conj(D_k) S_yu[k]) and η_k = |D_k|² S_uu[k]; their totals are
σ and η.  σ is in units of [y][u], η of [u]², the gain of a mode, σ/η, of [y]/[u].

That product is a circular convolution.  The recursion from a zero state is linear; what differs is derived and bounded in
:mod:`scalecalc.dynamics.theory` (``loss``), and :class:`Moments` has the same statistics of the linear one, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
NEGLIGIBLE = 1e-12  # |a|^T of the taps that are left out
MOST_TAPS = 4096


@dataclass(frozen=True, eq=False)
class Sequences:
    """Input and output sequences, real.

    Args:
        inputs: of shape (sequences, time, inputs).
        outputs: of shape (sequences, time, outputs).
        name: where they are from, for messages.
    """

    inputs: Array
    outputs: Array
    name: str = "data"

    @property
    def samples(self) -> int:
        return self.inputs.shape[0] * self.inputs.shape[1]

    @property
    def length(self) -> int:
        return self.inputs.shape[1]


@dataclass(frozen=True, eq=False)
class Spectra:
    """What the squared loss in the frequency domain depends on.

    Args:
        omega: frequencies in radians per sample, (K,), from 0 to π.
        weight: how often each counts, (K,): twice where its negative is left out.
        uu: spectrum of the inputs, (K, inputs, inputs), Hermitian.
        yu: cross-spectrum, (K, outputs, inputs).
        yy: mean square of the outputs, summed over them.
        length: of the sequences, in samples; inf where the spectra are those of a process.
        samples: how many the averages are over; inf likewise.
    """

    omega: Array
    weight: Array
    uu: Complex
    yu: Complex
    yy: float
    length: float = math.inf
    samples: float = math.inf

    @property
    def channels(self) -> tuple[int, int]:
        """How many inputs and outputs."""
        return self.uu.shape[-1], self.yu.shape[-2]

    def resolvent(self, pole: complex, layers: int = 1) -> Complex:
        """D_k = 1/(1 − a e^(−iω_k)), (K,); of several layers in a row with the same pole its power."""
        return (1 - pole * np.exp(-1j * self.omega)) ** -layers

    def sigma_k(self, pole: complex, layers: int = 1) -> Array:
        """σ per frequency, weight included, (K, outputs, inputs)."""
        return self.weight[:, None, None] * (np.conj(self.resolvent(pole, layers))[:, None, None] * self.yu).real

    def eta_k(self, pole: complex, layers: int = 1) -> Array:
        """η per frequency, weight included, (K, inputs, inputs)."""
        return self.weight[:, None, None] * (np.abs(self.resolvent(pole, layers)) ** 2)[:, None, None] * self.uu.real

    def sigma(self, pole: complex, layers: int = 1) -> Array:
        """σ, (outputs, inputs): covariance of the outputs with what the mode makes of the inputs."""
        return self.sigma_k(pole, layers).sum(0)

    def eta(self, pole: complex, layers: int = 1) -> Array:
        """η, (inputs, inputs): covariance of what the mode makes of the inputs."""
        return self.eta_k(pole, layers).sum(0)

    def compressed(self, taps: int) -> Spectra:
        """The same statistics, for poles with a negligible |a|^taps, on about 2·taps frequencies.

        σ = Σ_j a^j r_yu(j) and η = Σ_j a^|j| r_uu(j)/(1 − a²) ask for covariances up to a lag alone, and these are had from
        any grid of frequencies that is fine enough for them.
        """
        size = 2 * taps
        if not math.isfinite(self.length) or size >= self.length:
            return self
        length = int(self.length)
        uu, yu = (np.fft.irfft(s * length, n=length, axis=0) for s in (self.uu, self.yu))
        kept = [np.concatenate([c[:taps], np.zeros_like(c[:1]), c[length - taps + 1 :]]) for c in (uu, yu)]
        new_uu, new_yu = (np.fft.rfft(c, axis=0) / size for c in kept)
        weight = _weights(size)
        return Spectra(
            2 * np.pi * np.arange(len(weight)) / size, weight, new_uu, new_yu, self.yy, self.length, self.samples
        )


def spectra(data: Sequences) -> Spectra:
    """The spectra of sequences; time O(n log n), memory a few times the data's."""
    count, length, _ = data.inputs.shape
    u, y = (np.fft.rfft(x, axis=1, norm="ortho") for x in (data.inputs, data.outputs))
    scale = count * length
    uu = np.einsum("skp,skq->kpq", u, np.conj(u)) / scale
    yu = np.einsum("skp,skq->kpq", y, np.conj(u)) / scale
    omega = 2 * np.pi * np.arange(u.shape[1]) / length
    return Spectra(omega, _weights(length), uu, yu, float(np.sum(data.outputs**2) / scale), length, scale)


def process(uu: Array, yu: Array, yy: float) -> Spectra:
    """The spectra of a process from its covariances at lags 0 … T − 1, zero beyond.

    Args:
        uu: E u_t u_(t−j)ᵀ, (T, inputs, inputs); those at negative lags are their transposes.
        yu: E y_t u_(t−j)ᵀ, (T, outputs, inputs); outputs do not depend on later inputs, so that there are no others.
        yy: E |y_t|².
    """
    taps = len(uu)
    size = 2 * taps
    gap = np.zeros_like(uu[:1])
    both = np.concatenate([uu, gap, np.swapaxes(uu[:0:-1], 1, 2)])
    one = np.concatenate([yu, np.zeros((size - taps, *yu.shape[1:]))])
    weight = _weights(size)
    grid = 2 * np.pi * np.arange(len(weight)) / size
    return Spectra(grid, weight, np.fft.rfft(both, axis=0) / size, np.fft.rfft(one, axis=0) / size, yy)


def _weights(length: int) -> Array:
    weight = np.full(length // 2 + 1, 2.0)
    weight[0] = 1
    if length % 2 == 0:
        weight[-1] = 1
    return weight


def taps(pole: complex, length: float = math.inf) -> int:
    """How many taps a^j of an impulse response are worth keeping: |a|^T < 10⁻¹², at most those that the data have."""
    size = abs(pole)
    needed = 2 if size < 1e-6 else math.ceil(math.log(NEGLIGIBLE) / math.log(size))
    return int(min(max(needed, 2), MOST_TAPS, length))


@dataclass(frozen=True, eq=False)
class Moments:
    """The same sufficient statistics in the time domain: of the linear convolution from a zero state, with T taps, exactly.

    The loss per sample of an impulse response K_0 … K_(T−1) is ½(yy − 2 Σ K_j·cross_j + Σ K_j gram_(jl) K_lᵀ).

    Args:
        cross: ⟨y_t u_(t−j)ᵀ⟩, (outputs, T, inputs).
        gram: ⟨u_(t−j) u_(t−l)ᵀ⟩, (T, inputs, T, inputs); no Toeplitz matrix, since sequences begin.
        yy: ⟨|y|²⟩.
    """

    cross: Array
    gram: Array
    yy: float

    def _powers(self, pole: float, layers: int) -> Array:
        j = np.arange(self.cross.shape[1])
        return pole**j if layers == 1 else (j + 1) * pole**j

    def sigma(self, pole: float, layers: int = 1) -> Array:
        return np.einsum("ojp,j->op", self.cross, self._powers(pole, layers))

    def eta(self, pole: float, layers: int = 1) -> Array:
        powers = self._powers(pole, layers)
        return np.einsum("jplq,j,l->pq", self.gram, powers, powers)

    def scaled(self, u: float, y: float) -> Moments:
        """As if the inputs had been multiplied by ``u`` and the outputs by ``y``."""
        return Moments(self.cross * (u * y), self.gram * u**2, self.yy * y**2)

    def projected(self, left: Array, right: Array) -> Moments:
        """Of one combination of the outputs, ``left`` (outputs,), and of the inputs, ``right`` (inputs,)."""
        cross = np.einsum("o,ojp,p->j", left, self.cross, right)[None, :, None]
        gram = np.einsum("p,jplq,q->jl", right, self.gram, right)[:, None, :, None]
        return Moments(cross, gram, self.yy)


def moments(data: Sequences, taps: int) -> Moments:
    """Statistics of the linear convolution; time O(n log n + T²), since neighbouring windows share all but their ends.

    Args:
        taps: T, at most the length of a sequence.
    """
    u, y = data.inputs, data.outputs
    count, length, width = u.shape
    scale = count * length
    size = 1 << (length + taps).bit_length()
    fu = np.fft.rfft(u, n=size, axis=1)
    fy = np.fft.rfft(y, n=size, axis=1)
    auto = np.fft.irfft(np.einsum("skp,skq->kpq", np.conj(fu), fu), n=size, axis=0)[:taps]  # Σ_m u_m u_(m+d)ᵀ
    cross = np.fft.irfft(np.einsum("skp,skq->kpq", fy, np.conj(fu)), n=size, axis=0)[:taps]
    tail = u[:, ::-1][:, :taps]  # tail_j = u_(L−1−j)
    gram = np.empty((taps, width, taps, width))
    gram[0] = np.einsum("dpq->qdp", auto)
    for j in range(1, taps):
        gram[j, :, 0] = gram[0, :, j].T
        edge = np.einsum("sp,slq->plq", tail[:, j - 1], tail[:, : taps - 1])
        gram[j, :, 1:] = gram[j - 1, :, :-1] - edge
    return Moments(np.einsum("jop->ojp", cross) / scale, gram / scale, float(np.sum(y**2) / scale))


def dominant(found: Spectra) -> float:
    """The real pole of the single mode that explains most of the outputs: the largest tr(σᵀσ η⁻¹), by grid and section.

    What a fit leaves over is, per sample, ½(⟨|y|²⟩ − tr(σᵀσ η⁻¹)).
    """
    from scipy.optimize import minimize_scalar

    lags = min(1024, int(found.length) // 2 if math.isfinite(found.length) else 1024)  # enough to choose by
    small = found.compressed(max(lags, 8))

    def left(pole: float) -> float:
        sigma, eta = small.sigma(pole), small.eta(pole)
        return -float(np.trace(sigma @ np.linalg.solve(eta, sigma.T)))

    grid = np.concatenate([-(1 - np.geomspace(1e-2, 1, 24)), 1 - np.geomspace(1, 1e-2, 24)])
    best = int(np.argmin([left(a) for a in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(minimize_scalar(left, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x)
