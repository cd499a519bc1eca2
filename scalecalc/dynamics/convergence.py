"""Every setting trained by gradient descent at growing N, and its times held against the derived Θ.

Two times are read off a run, neither with the theory's help.  The *time constant*: the squared gradient falls like
e^(−2t/T) at the end.  The *half-rise*: when the gain passes half of what it ends at.  Both are fitted in N, and with the data
in other units in σ and η, and in G, the final over the initial gain; verdicts are those of :mod:`scalecalc.verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalecalc.dynamics import closed
from scalecalc.dynamics.settings import ETA, SIGMA, TAU, Derived, N, Setting, derive_setting, derived_rows
from scalecalc.dynamics.spectra import Moments, Spectra
from scalecalc.errors import MeasureError
from scalecalc.measure.assess import Claim, assess
from scalecalc.measure.slopes import Cell
from scalecalc.scale import Scale
from scalecalc.table import Point, Row

Array = NDArray[np.float64]
STEP = 0.04  # of the rate that is stable at the end: twice that is half as exact and half as long
FAMILY_ERROR = 1e-4
TOLERANCE = 0.05
JITTER = 0.002  # the times have a scatter to be judged by, and no more than that
FACTORS = (4, 16)  # of σ and of η
SMALL = 2**8  # least initial gain that is still small: G at the largest N
TAIL = 12.0  # time constants after the half-rise


@dataclass(frozen=True, eq=False)
class Learned:
    """One setting: what was derived, measured and drawn.

    Args:
        rows: of the table: time constant and half-rise.
        states: N of each curve.
        time, gain: of gradient descent, (curves, records), all states alike at the start.
        predicted: closed form at the same times.
        error: largest |gain − predicted| over the final gain.
        raw: slope of the half-rise in log N as the runs have it, G changing along where each state's gain is fixed; and
            that of the derived formula at the same N.
        step: the rate times the derived rate at the end.
    """

    setting: Setting
    derived: Derived
    rows: tuple[Row, ...]
    states: tuple[int, ...]
    time: Array
    gain: Array
    predicted: Array
    final: float
    error: float
    raw: tuple[float, float]
    step: float


@dataclass(frozen=True)
class Run:
    """One run: N, factors of σ and η, and G."""

    states: int
    sigma: int = 1
    eta: int = 1
    gain: int = SMALL


def runs(one: Setting, states: Sequence[int]) -> list[Run]:
    """The runs of a setting: along N, then σ, η and G each for itself at a middle N."""
    layered = one.layers > 1
    base = 2**6 if layered else SMALL
    top = max(states)

    def gain(n: int) -> int:
        # Where each state's gain is fixed, N times as many states leave an N-th to gain.
        return max(round(base * top / n), 2) if one.per_mode else base

    middle = sorted(states)[len(states) // 2]
    found = [Run(n, gain=gain(n)) for n in sorted(states)]
    found += [Run(middle, sigma=f, gain=gain(middle)) for f in FACTORS]
    found += [Run(middle, eta=f, gain=gain(middle)) for f in FACTORS]
    return found + [Run(middle, gain=gain(middle) * f) for f in ((4, 16, 64) if not layered else ())]


def learn(
    one: Setting,
    found: Moments,
    spectra: Spectra,
    pole: float,
    states: Sequence[int],
    *,
    seeds: int = 4,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    step: float = STEP,
    share: int = 1,
) -> Learned:
    """Train a setting at every N, read off its times and judge them.

    Args:
        found: moments of the data, one input and one output, by which gradient descent runs.
        spectra: of the same data, by which the curves are predicted.
        states: N's, two at least.
        seeds: runs per N, from the second on with initial weights spread by a fifth of a per cent.
        share: how many settings share the error.

    Raises:
        MeasureError: σ is not positive, or a run did not converge.
    """
    from scalecalc.dynamics.descent import train

    derived = derive_setting(one)
    sigma, eta = float(spectra.sigma(pole, one.layers)[0, 0]), float(spectra.eta(pole, one.layers)[0, 0])
    if not sigma > 0:
        raise MeasureError(
            f"σ is {sigma:.3g}: the outputs do not follow this mode (pole {pole:g}); turn their sign, or choose "
            f"another."
        )
    plan = runs(one, states)
    every = [run for run in plan for _ in range(seeds)]
    n, s, e, g = (np.array([getattr(run, key) for run in every], float) for key in ("states", "sigma", "eta", "gain"))
    final = (sigma * s) / (eta * e)
    rate = numbers(derived.rate, n, sigma * s, eta * e, g)
    half = numbers(derived.half, n, sigma * s, eta * e, g) * rate
    steps = math.ceil((float(half.max()) + TAIL) / step)
    random = np.random.default_rng(seed)
    jitter = np.exp(JITTER / one.layers * random.standard_normal((len(every), int(n.max()))))
    jitter[::seeds] = 1
    curves = train(
        one, found, pole, n.astype(int), final / g, step / rate, steps, u=np.sqrt(e), y=s / np.sqrt(e), jitter=jitter
    )
    gains = curves.gain[:, :, 0, 0]
    if not np.isfinite(gains).all():
        raise MeasureError(f"{one.name}: gradient descent diverged at {step:g} of the derived rate.")
    constants = [_constant(t, slope) for t, slope in zip(curves.time, curves.slope, strict=True)]
    rises = [_rise(t, w) for t, w in zip(curves.time, gains, strict=True)]
    shown = [i * seeds for i in range(len(set(states)))]
    predicted = np.stack([closed.gain(one, curves.time[i], sigma, eta, final[i] / g[i], int(n[i])) for i in shown])
    alpha = FAMILY_ERROR / (2 * share)
    rows = (
        _row(one, derived, "time constant", every, constants, (derived.constant,), alpha, tolerance),
        _row(one, derived, "half-rise", every, rises, (derived.rise,), alpha, tolerance),
    )
    first = [rises[i] for i in shown]
    raw = _slope(n[shown], first), _slope(n[shown], list(half[shown] / rate[shown]))
    limit = sigma / eta
    error = float(np.abs(gains[shown] - predicted).max() / limit)
    return Learned(
        one,
        derived,
        rows,
        tuple(int(n[i]) for i in shown),
        curves.time[shown],
        gains[shown],
        predicted,
        limit,
        error,
        raw,
        step,
    )


def _row(
    one: Setting,
    derived: Derived,
    kind: str,
    every: Sequence[Run],
    times: Sequence[float],
    terms: tuple[Scale, ...],
    alpha: float,
    tolerance: float,
) -> Row:
    row = next(r for r in derived_rows(one) if r.kind == kind)
    together: dict[tuple[tuple[str, int], ...], list[float]] = {}
    constant = kind == "time constant"
    for run, value in zip(every, times, strict=True):
        widths = {"N": run.states, "sigma": run.sigma, "eta": run.eta}
        widths |= {} if constant else {"G": run.gain}
        together.setdefault(tuple(widths.items()), []).append(math.log(value))
    cells = [Cell(dict(widths), np.array(logs)) for widths, logs in together.items()]
    judgement, _ = assess(cells, Claim(terms), alpha, tolerance)
    points = tuple(
        Point(dict(widths), float(np.mean(logs)), float(np.std(logs, ddof=1) / math.sqrt(len(logs))), len(logs))
        for widths, logs in together.items()
    )
    return row.with_measurement(judgement.slopes, judgement.verdict, judgement.settle, points)


def numbers(expression: object, n: Array, sigma: Array, eta: Array, gain: Array) -> Array:
    import sympy as sp

    from scalecalc.dynamics.settings import G

    found = sp.lambdify((N, SIGMA, ETA, G), sp.sympify(expression, strict=True).subs(TAU, 1), "numpy")(n, sigma, eta, gain)
    return np.broadcast_to(np.asarray(found, float), n.shape)


def _constant(t: Array, slope: Array) -> float:
    """The time constant that the squared gradient falls with, between 10⁻³ and 10⁻⁷ of its largest."""
    top = int(np.argmax(slope))
    level = slope[top:] / slope[top]
    inside = np.flatnonzero((level < 1e-3) & (level > 1e-7)) + top
    if len(inside) < 8:
        raise MeasureError("gradient descent did not converge within the steps that the derived rate asks for.")
    return -2 / float(np.polyfit(t[inside], np.log(slope[inside]), 1)[0])


def _rise(t: Array, w: Array) -> float:
    """When the gain passes half of what it ends at, between two records by a straight line."""
    half = w[-1] / 2
    after = int(np.argmax(w >= half))
    if after == 0:
        raise MeasureError("the gain begins above half of what it ends at; begin with a smaller one.")
    return float(np.interp(half, w[after - 1 : after + 1], t[after - 1 : after + 1]))


def _slope(n: Array, times: Sequence[float]) -> float:
    return float(np.polyfit(np.log(n), np.log(times), 1)[0])
