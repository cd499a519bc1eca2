"""Beyond one mode of a frozen pole: finite length, finite step, learned poles, stages; each measured against what is derived.

Rows are in dims of their own: R = |a|^(−P), P the zeros at the end of the inputs; L, the length; K, steps per time constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalecalc.dynamics import closed, flow
from scalecalc.dynamics.convergence import FAMILY_ERROR, numbers
from scalecalc.dynamics.poles import GAIN, XI, ZETA, last_stage
from scalecalc.dynamics.settings import ETA, SETTINGS, N, derive_setting, published
from scalecalc.dynamics.spectra import Moments, Spectra
from scalecalc.measure.assess import Claim, assess
from scalecalc.measure.slopes import Cell
from scalecalc.scale import Scale
from scalecalc.table import Point, Row

Array = NDArray[np.float64]
SEEDS = 64
ALPHA = FAMILY_ERROR / 10


def judged(row: Row, cells: Sequence[Cell], tolerance: float, corrections: tuple[Scale, ...] = ()) -> Row:
    """A row with the verdict that its cells give."""
    judgement, _ = assess(cells, Claim(row.terms, corrections), ALPHA, tolerance)
    points = tuple(
        Point(dict(c.widths), float(c.logs.mean()), float(c.logs.std(ddof=1) / math.sqrt(len(c.logs))), len(c.logs))
        for c in cells
    )
    return row.with_measurement(judgement.slopes, judgement.verdict, judgement.settle, points)


@dataclass(frozen=True, eq=False)
class Lengths:
    """Circular against linear convolution.

    Args:
        zeros: at the end of the inputs, P.
        worst: largest error of the output, (P's, seeds).
        bound: the derived one, (P's,).
        rows: verdicts on both laws.
    """

    zeros: Array
    worst: Array
    bound: Array
    rows: tuple[Row, ...]


def lengths(pole: float, tolerance: float, *, length: int = 256, seed: int = 0) -> Lengths:
    """Convolve circularly, as the DFT does, and by the recursion, and compare."""
    from scipy.signal import lfilter

    random = np.random.default_rng(seed)
    size = abs(pole)
    most = max(int(math.log(1e-9) / math.log(size)), 8)
    zeros = np.unique(np.linspace(4, min(most, length - 8), 8).astype(int))
    worst = np.empty((len(zeros), SEEDS))

    def differ(u: Array) -> Array:
        n = u.shape[-1]
        omega = 2 * np.pi * np.arange(n // 2 + 1) / n
        circular = np.fft.irfft(np.fft.rfft(u) / (1 - pole * np.exp(-1j * omega)), n=n)
        return circular - np.asarray(lfilter([1.0], [1, -pole], u))

    for i, p in enumerate(zeros):
        for s in range(SEEDS):
            u = random.uniform(-1, 1, length)
            u[length - p - 1] = 1  # the last input, and the largest
            u[length - p :] = 0
            worst[i, s] = np.abs(differ(u)).max()
    bound = size ** (zeros + 1.0) / ((1 - size) * (1 - size**length))
    cells = [Cell({"R": size ** -float(p)}, np.log(w)) for p, w in zip(zeros, worst, strict=True)]  # type: ignore[dict-item]
    row = Row("output, P zeros at the end", "finite length", 0, (Scale.of("R", -1),), statistic="largest error")
    first = judged(row, cells, 2 * tolerance)
    sizes = [128, 256, 512, 1024]
    squares = [np.mean(differ(random.standard_normal((2048, n))) ** 2, axis=1).reshape(128, 16).mean(1) for n in sizes]
    cells = [Cell({"L": n}, np.log(v)) for n, v in zip(sizes, squares, strict=True)]
    row = Row("loss, inputs to the end", "finite length", 0, (Scale.of("L", -1),), statistic="mean square")
    second = judged(row, cells, 4 * tolerance)
    return Lengths(zeros.astype(float), worst, bound, (first, second))


def steps(found: Moments, pole: float, tolerance: float, *, states: int = 8) -> tuple[Row, ...]:
    """Departure of gradient descent from the flow: largest distance of the curves, at K steps per time constant.

    The curve is the closed form for the very σ and η of the moments, so that the step alone is between them.
    """
    from scalecalc.dynamics.descent import train

    out: list[Row] = []
    counts = [10, 20, 40, 80]
    for name in ("tied_balanced", "tied_frozen"):
        one = SETTINGS[name]
        sigma, eta = float(found.sigma(pole)[0, 0]), float(found.eta(pole)[0, 0])
        rate = float(numbers(derive_setting(one).rate, *map(np.array, ([float(states)], [sigma], [eta], [64.0])))[0])
        start = sigma / eta / np.array([63.9, 64.0, 64.1])
        cells: list[Cell] = []
        for k in counts:
            n = np.full(len(start), states)
            curves = train(one, found, pole, n, start, np.full(len(start), 1 / (k * rate)), 14 * k)
            ideal = np.stack(
                [closed.gain(one, curves.time[i], sigma, eta, start[i], states) for i in range(len(start))]
            )
            away = np.abs(curves.gain[:, :, 0, 0] - ideal).max(1) / (sigma / eta)
            cells.append(Cell({"K": k}, np.log(away)))
        out.append(judged(Row(name, "departure", 0, (Scale.of("K", -1),), statistic="from the flow"), cells, tolerance))
    return tuple(out)


def largest_steps(found: Moments, pole: float, states: Sequence[int], tolerance: float) -> tuple[Row, ...]:
    """The largest step at which a run near the optimum still comes nearer, by trying them side by side."""
    from scalecalc.dynamics.descent import train

    out: list[Row] = []
    ratios = np.linspace(1.9, 2.1, 41)
    for name in ("tied_balanced", "tied_frozen", "untied_balanced", "untied_frozen"):
        one = SETTINGS[name]
        sigma, eta = float(found.sigma(pole)[0, 0]), float(found.eta(pole)[0, 0])
        n = np.repeat(np.array(states, float), len(ratios))
        rate = numbers(derive_setting(one).rate, n, np.full_like(n, sigma), np.full_like(n, eta), np.full_like(n, 1.0))
        tried = np.tile(ratios, len(states)) / rate
        curves = train(one, found, pole, n.astype(int), np.full_like(n, (1 - 1e-6) * sigma / eta), tried, 120)
        with np.errstate(invalid="ignore"):
            stable = curves.slope[:, -1] < curves.slope[:, 0]
        table, sizes = stable.reshape(len(states), -1), tried.reshape(len(states), -1)
        cells: list[Cell] = []
        for k, width in enumerate(states):
            # It lies between two that were tried.  Where none, or all, are stable, it was not found: the row must not agree.
            last = int(table[k].sum()) - 1
            found_it = 0 <= last < len(ratios) - 1 and table[k, : last + 1].all()
            cells.append(Cell({"N": width}, np.log(sizes[k, last : last + 2]) if found_it else np.full(2, np.nan)))
        row = Row(name, "largest step", 0, (derive_setting(one).constant,), statistic="stable")
        out.append(judged(row, cells, 2 * tolerance))
    return tuple(out)


def learned_pole(found: Moments, pole: float, tolerance: float) -> tuple[Row, ...]:
    """The last stage with the poles learnt too: states tied or not, from near the optimum of one mode.

    The data have to be a mode's own, since the last stage is derived where nothing is left over.
    """
    import torch

    from scalecalc.dynamics.descent import Loss, descend, impulse

    taps = min(found.cross.shape[1], math.ceil(math.log(1e-7) / math.log(abs(pole))))
    found = Moments(found.cross[:, :taps], found.gram[:taps, :, :taps], found.yy)
    sigma, eta = float(found.sigma(pole)[0, 0]), float(found.eta(pole)[0, 0])
    gain, j = sigma / eta, np.arange(taps)
    slopes = j * pole ** np.maximum(j - 1, 0)
    form = found.gram[:, 0, :, 0]
    zeta, xi = float(pole**j @ form @ slopes), float(slopes @ form @ slopes)
    out: list[Row] = []
    exponents = torch.arange(taps, dtype=torch.float64)
    for name, tied in (("tied", True), ("untied", False)):
        stage = last_stage(tied)
        widths = [64, 128, 256, 512] if tied else [32, 64, 128, 256]
        cells: list[Cell] = []
        for n in widths:
            values = {N: n, GAIN: gain, ETA: eta, ZETA: zeta, XI: xi}
            rates = np.linalg.eigvals(np.array(stage.matrix.subs(values), float)).real
            random = np.random.default_rng(n)
            seeds, count = 3, 1 if tied else n
            b = np.full((seeds, count), math.sqrt(gain / n))
            a = pole + 1e-4 * (1 + 0.3 * random.standard_normal((seeds, 1))) * np.ones((seeds, count))

            def kernel(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, n: int = n) -> torch.Tensor:
                powers = a[:, :, None] ** exponents
                one = (1, n) if a.shape[1] == 1 else (1, 1)
                return impulse(c.repeat(one)[:, None], powers.repeat(1, one[1], 1), b.repeat(one)[:, :, None])

            def total(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, n: int = n) -> torch.Tensor:
                return ((b * c).sum(1) * (n if a.shape[1] == 1 else 1))[:, None, None]

            lr = 0.9 / float(rates.max())
            last = math.ceil(7 / (float(rates.min()) * lr))
            curves = descend(kernel, {"a": a, "b": b, "c": b}, Loss(found), np.full(seeds, lr), last, gain=total)
            middle = len(curves.time[0]) // 2
            constant = [
                -2 / np.polyfit(t[middle:], np.log(v[middle:]), 1)[0]
                for t, v in zip(curves.time, curves.slope, strict=True)
            ]
            cells.append(Cell({"N": n}, np.log(constant)))
        klass = published(stage.constant)
        row = Row(f"{name}, poles learnt", "time constant", 0, (stage.constant,), statistic="1/rate", klass=klass)
        out.append(judged(row, cells, tolerance, (stage.constant / Scale.of("N"),)))
    return tuple(out)


@dataclass(frozen=True, eq=False)
class Stages:
    """Resonant modes learnt side by side.

    Args:
        poles: (modes,), complex.
        sigma, eta: of each mode: |⟨y z*⟩| and ½⟨|z|²⟩.
        time: (times,).
        descent, flow, alone: gain |w| of each mode, (times, modes): by gradient descent, by the flow, and by the sigmoid
            that it would follow if it overlapped with no other.
        loss: by gradient descent, (times,).
        overlap: largest |⟨z_i z_j*⟩|/√(⟨|z_i|²⟩⟨|z_j|²⟩).
    """

    poles: NDArray[np.complex128]
    sigma: Array
    eta: Array
    time: Array
    descent: Array
    flow: Array
    alone: Array
    loss: Array
    overlap: float


def stages(spectra: Spectra, form: Moments, *, radius: float = 0.95, modes: int = 4) -> Stages:
    """Train b and c of resonators at several frequencies, balanced, from one small gain each."""
    import torch

    from scalecalc.dynamics.descent import Loss, descend, impulse

    taps = form.cross.shape[1]
    poles = radius * np.exp(1j * np.pi * (np.arange(modes) + 0.5) / modes)
    powers = poles[:, None] ** np.arange(taps)
    gram = powers @ form.gram[:, 0, :, 0] @ powers.conj().T  # ⟨z_i z_j*⟩
    cross = powers.conj() @ form.cross[0, :, 0]  # ⟨y z_i*⟩
    sigma, eta = np.abs(cross), np.diag(gram).real / 2
    scale = np.sqrt(np.diag(gram).real)
    overlap = float((np.abs(gram / np.outer(scale, scale)) - np.eye(modes)).max())
    small = float((sigma / eta).min()) / 300
    b = np.full((1, modes, 1), math.sqrt(small), complex)
    c = (math.sqrt(small) * np.exp(1j * np.angle(cross)))[None, None]
    lr = 0.04 / float(2 * sigma.max())
    count = min(math.ceil((math.log(float((sigma / eta).max()) / small) + 8) / (2 * float(sigma.min()) * lr)), 6000)
    matrix = torch.as_tensor(powers)
    record = max(count // 300, 1)
    curves = descend(
        lambda b, c: impulse(c, matrix, b), {"b": b, "c": c}, Loss(form), np.array([lr]), count,
        gain=lambda b, c: (c[:, 0] * b[:, :, 0]).abs()[:, :, None], record=record,
    )  # fmt: skip
    time = curves.time[0]
    solved = flow.integrate(spectra, flow.System(poles, b[0], c[0]), time)
    alone = np.stack([closed.sigmoid(time, s, e, small) for s, e in zip(sigma, eta, strict=True)], 1)
    return Stages(
        poles,
        sigma,
        eta,
        time,
        curves.gain[0, :, :, 0],
        np.abs(solved.gains[:, :, 0, 0]),
        alone,
        curves.loss[0],
        overlap,
    )
