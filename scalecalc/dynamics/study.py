"""One set of data and several settings: statistics, curves, verdicts; and what is to be said beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scalecalc.dynamics import convergence, experiments, synthetic
from scalecalc.dynamics import data as files
from scalecalc.dynamics.experiments import Lengths, Stages
from scalecalc.dynamics.settings import setting
from scalecalc.dynamics.spectra import Moments, Sequences, Spectra, dominant, moments, taps
from scalecalc.errors import InputError
from scalecalc.scale import Scale
from scalecalc.table import Table

Array = NDArray[np.float64]
WIDE = 420  # taps × inputs of a moment matrix, beyond which taps below 10⁻⁶ are left out


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the data say about the mode.

    Args:
        pole: of all states; ``fitted`` if it was chosen as the one that explains most.
        sigma, eta: (outputs, inputs), (inputs, inputs).
        circular: largest relative difference of σ and η between circular and linear convolution.
        explained: part of the outputs' mean square that the mode explains at its best gain.
        spread: standard error of σ by the noise that is left, relative.
        left, right: combinations of outputs and of inputs that the settings are trained on, those of the largest mode.
    """

    pole: float
    fitted: bool
    sigma: Array
    eta: Array
    circular: float
    explained: float
    spread: float
    left: Array
    right: Array


@dataclass(frozen=True, eq=False)
class Study:
    """All of it; ``learned`` has the curves, a record per setting.

    ``projected``: the spectra of the one pair of directions that settings are trained on; ``stages`` and ``lengths``: None
    unless asked for.
    """

    table: Table
    name: str
    spectra: Spectra
    statistics: Statistics
    learned: tuple[convergence.Learned, ...]
    projected: Spectra
    stages: Stages | None = None
    lengths: Lengths | None = None


def study(
    data: Sequences | Spectra | str | Path | None,
    derived: Table,
    states: Sequence[int],
    *,
    pole: float | None,
    seeds: int,
    seed: int,
    tolerance: float,
    step: float | None,
    color: float,
    noise: float,
    curves: bool,
    beyond: bool,
    progress: Callable[[str], None],
) -> Study:
    """See :func:`scalecalc.dynamics.measure`."""
    if data is None:
        given = synthetic.DEFAULT_POLE if pole is None else pole
        data = synthetic.teacher(pole=given, color=color, noise=noise, seed=seed)
        pole = given
    elif isinstance(data, (str, Path)):
        progress("reading")
        data = files.read(data)
    name = data.name if isinstance(data, Sequences) else "covariances"
    progress("spectra")
    found = files.statistics(data)
    about, form = describe(data, found, pole)
    one = _projected(found, about)
    learned: list[convergence.Learned] = []
    chosen = [setting(key) for key in derived.options["settings"]]
    for each in chosen:
        progress(each.name)
        learned.append(
            convergence.learn(
                each,
                form,
                one,
                about.pole,
                states,
                seeds=seeds,
                seed=seed,
                tolerance=tolerance,
                step=step or convergence.STEP,
                share=len(chosen),
            )
        )
    rows = [each.rows[k] for k in (0, 1) for each in learned]
    side, bounded = None, None
    if curves or beyond:
        progress("stages")
        side = experiments.stages(one, _longer(data, about))
    if beyond:
        progress("finite length, finite steps, learned poles")
        bounded = experiments.lengths(about.pole, tolerance)
        few = list(states) if len(states) >= 4 else [4, 16, 64, 256]
        teacher = moments(synthetic.teacher(pole=about.pole, seed=seed), taps(about.pole, 4096))
        rows += experiments.largest_steps(form, about.pole, few, tolerance)
        rows += [
            *experiments.steps(form, about.pole, tolerance),
            *experiments.learned_pole(teacher, about.pole, tolerance),
        ]
        rows += bounded.rows
    notes = (
        *_about(name, found, about),
        *derived.notes,
        *_raw(learned),
        *_errors(learned),
        *(BEYOND if beyond else ()),
    )
    options = {
        **derived.options, "states": list(states), "pole": about.pole, "seeds": seeds, "seed": seed, "tolerance": tolerance,
        "sigma": about.sigma.tolist(), "eta": about.eta.tolist(), "data": name,
    }  # fmt: skip
    dims = (*derived.dims, *(dim for dim in ("K", "R", "L") if any(dim in t.dims for row in rows for t in row.terms)))
    table = replace(derived, rows=tuple(rows), notes=notes, options=options, dims=dims)
    return Study(table, name, found, about, tuple(learned), one, side, bounded)


BEYOND = (
    "K: steps per time constant; the departure is the largest distance of gradient descent from the closed form. R "
    "= |a|^(−P), P the "
    "zeros at the end of the inputs; L: their length where they do not end in zeros. The largest step is the one "
    "at which a run near "
    "the optimum still comes nearer. Learned poles have no closed form; their last stage is derived (--explain "
    "learned), and measured "
    "with a teacher of the same pole.",
)


def _longer(data: Sequences | Spectra, about: Statistics) -> Moments:
    """Moments with as many taps as the resonators of the stages need."""
    if not isinstance(data, Sequences):
        return _moments(data, 512).projected(about.left, about.right)
    return moments(data, min(512, data.length)).projected(about.left, about.right)


def describe(data: Sequences | Spectra, found: Spectra, pole: float | None) -> tuple[Statistics, Moments]:
    """The statistics of the mode, and the moments by which gradient descent runs, of its largest pair of directions."""
    fitted = pole is None
    at = dominant(found) if pole is None else pole
    sigma, eta = found.sigma(at), found.eta(at)
    left, values, right = np.linalg.svd(sigma @ _power(eta, -0.5))
    direction = _power(eta, -0.5) @ right[0]
    direction /= np.linalg.norm(direction)
    scale = np.sign(float(left[:, 0] @ sigma @ direction)) or 1.0
    count = taps(at, found.length)
    width = found.channels[0]
    if count * width > WIDE:
        count = min(count, max(math.ceil(math.log(1e-6) / math.log(max(abs(at), 1e-9))), WIDE // width))
    form = moments(data, count) if isinstance(data, Sequences) else _moments(data, count)
    linear = form.sigma(at), form.eta(at)
    circular = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip((sigma, eta), linear, strict=True))
    explained = float(np.sum(values**2) / found.yy)
    residual = max(found.yy - float(np.sum(values**2)), 0.0)
    spread = math.sqrt(residual * float(np.trace(eta)) / found.samples) / max(
        float(values[0]) * math.sqrt(np.trace(eta)), 1e-300
    )
    about = Statistics(at, fitted, sigma, eta, circular, explained, spread, scale * left[:, 0], direction)
    return about, form.projected(about.left, about.right)


def _moments(found: Spectra, count: int) -> Moments:
    """Moments of a process: its covariances."""
    size = 2 * (len(found.omega) - 1)
    uu, yu = (np.fft.irfft(s * size, n=size, axis=0) for s in (found.uu, found.yu))
    count = min(count, size // 2)
    lags = np.arange(count)
    gram = uu[(lags[None, :] - lags[:, None]) % size]  # E u_(t−j) u_(t−l)ᵀ at lag l − j
    return Moments(np.einsum("jop->ojp", yu[:count]), np.einsum("jlpq->jplq", gram), found.yy)


def _projected(found: Spectra, about: Statistics) -> Spectra:
    """Spectra of one pair of directions."""
    uu = np.einsum("p,kpq,q->k", about.right, found.uu, about.right)[:, None, None]
    yu = np.einsum("o,kop,p->k", about.left, found.yu, about.right)[:, None, None]
    return replace(found, uu=uu, yu=yu)


def _power(matrix: Array, power: float) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    if values[0] <= 1e-12 * values[-1]:
        raise InputError("the inputs are linearly dependent (their η has no inverse); leave out a channel.")
    return (vectors * values**power) @ vectors.T


def _about(name: str, found: Spectra, about: Statistics) -> tuple[str, ...]:
    inputs, outputs = found.channels
    size = f"{found.samples:g} samples" if math.isfinite(found.samples) else "a process"
    shape = f", {inputs} inputs and {outputs} outputs" if inputs * outputs > 1 else ""
    how = "the pole that explains most" if about.fitted else "as given"
    sigma = float(about.left @ about.sigma @ about.right)
    eta = float(about.right @ about.eta @ about.right)
    lines = [
        f"Data: {name}, {size}{shape}. Pole {about.pole:.4g} ({how}); σ = {sigma:.4g}, η = {eta:.4g}, gain to learn "
        f"σ/η = "
        f"{sigma / eta:.4g}; the mode explains {about.explained:.1%} of the outputs' mean square."
    ]
    if math.isfinite(found.samples):
        lines.append(
            f"Circular instead of linear convolution changes σ and η by {about.circular:.1e}; by what the mode "
            f"leaves over "
            f"σ is known to {about.spread:.1e}."
        )
    if inputs * outputs > 1:
        lines.append("Settings are trained on the pair of input and output directions with the largest gain.")
    return tuple(lines)


def _raw(learned: Sequence[convergence.Learned]) -> tuple[str, ...]:
    said: list[str] = []
    for each in learned:
        if each.setting.per_mode and each.derived.rise.log_power("G"):
            measured, derived = each.raw
            said.append(
                f"{each.setting.name}: with each state's initial gain fixed the half-rise goes like "
                f"N^({measured:.2f}) over "
                f"these N, derived {derived:.2f}: {_power_of(each.derived.constant)} and the log of G = G_1/N."
            )
    return tuple(said)


def _power_of(scale: Scale) -> str:
    return f"N^({scale.power('N')})"


def _errors(learned: Sequence[convergence.Learned]) -> tuple[str, ...]:
    worst = max(learned, key=lambda each: each.error)
    return (
        f"Closed form against gradient descent: at most {worst.error:.2%} of the final gain ({worst.setting.name}), "
        f"at a step "
        f"of {worst.step:g} of the inverse of the rate at the end.",
    )
