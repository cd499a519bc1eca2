"""The best rate of one curve, with what is not known of it.

The losses (their logs, where all are positive) are averaged over the seeds of each rate.  Near the lowest mean a parabola
in log₂ rate is fitted, through the lowest and its neighbours, and through all that noise cannot tell from it; a cubic,
through one more, shows by how much the parabola errs on a curve that is steeper on one side.  Four cases:

=========  =====================================================================================================
inside     the lowest rate has higher ones on both sides: the minimum of the fit
cliff      its neighbour diverged or was dominated: the best lies anywhere between the other neighbour and that
above      it is the largest rate that was tried: the best is larger than its neighbour, nothing more is known
below      it is the smallest: the best is smaller than its neighbour
=========  =====================================================================================================

The last two are bounds, not values.  What is not known is carried as draws of the best rate, of which a bound makes an
infinite end.  Draws have the noise of the means, Student's t by the degrees of freedom of its estimate, and the cubic's
misfit.  A flat minimum makes draws that leave the window; so it widens the interval by itself, up to a bound.

Noise is what is left of the losses after the mean of each rate and of each seed, since a seed that is worse at every rate
moves no minimum; where curves move to the side as a whole with their seed, this residue is smooth along the rate, and the
draws are widened by how much (:func:`shifts`).  Few seeds estimate noise badly, so that the estimates of a
parameterization's curves lend each other up to :data:`LENT` degrees of freedom (moderated variances: Smyth 2004,
Statistical Applications in Genetics and Molecular Biology 3).

Tried: the parabola alone, which has less noise.  Losses are steeper towards large rates, and over the wide window that a
noisy curve needs it then errs by half an octave; its interval holds the best rate in four cases of five instead of nineteen
of twenty.  Half the gap between the two is kept as a standard error of the cubic that curves of one parameterization share,
since they err to the same side, and a third as one of each curve alone.  With half of it for each alone, intervals of the
drift were twice as wide and held it always.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scalecalc.transfer.curves import Curve

Array = NDArray[np.float64]
DRAWS = 8000
LENT = 4.0
TIED = 2.0  # standard errors of a difference below which two rates cannot be told apart
UNSEEN = 1 / 4  # of the spacing of rates: by how much a parabola without a cubic to correct it errs (one standard error)
ROUGH = 1 / 32  # by how much a cubic through rates an octave apart errs at least; coarser rates hide more of the curve
TINY = 1e-7  # of a log loss: noise below which ties are broken at random


@dataclass(frozen=True)
class Means:
    """One curve's mean log losses by rate, free of what seeds have in common over the rates.

    ``rest``: residues, seeds × rates, nan where a run is missing; ``freedom``: of their sum of squares ``squares``.
    ``noise``: the standard deviation of one run about its mean, once known (:func:`noises`), with ``degrees`` of freedom.
    """

    curve: Curve
    x: Array
    y: Array
    counts: Array
    rest: Array
    squares: float
    freedom: int
    noise: float = math.nan
    degrees: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything is known of the noise."""
        return self.degrees > 0


@dataclass(frozen=True)
class Best:
    """The best rate of a curve, as log₂.

    Args:
        kind: inside, cliff, above, below; or none, where no rate can be fitted.
        rate: the estimate; of a bound, the lowest rate that was tried.
        low, high: its interval at the level asked for; infinite ends of bounds.
        tried: the tried rate of the lowest mean loss.
        noise, misfit: the parts of its standard error that more seeds, and that finer rates, would remove.
    """

    kind: str
    rate: float = math.nan
    low: float = -math.inf
    high: float = math.inf
    tried: float = math.nan
    noise: float = math.nan
    misfit: float = math.nan


@dataclass(frozen=True)
class Drawn:
    """Draws of a best rate: each between two ends, which differ where it is a bound."""

    best: Best
    low: Array
    high: Array


def means(curve: Curve) -> Means:
    """Mean log losses of the rates that can be fitted; over what is near the lowest, seeds and rates in two ways."""
    cells = curve.fitting
    x = np.array([cell.rate for cell in cells], float)
    if not cells:
        return Means(curve, x, x, x, x[:, None], 0.0, 0)
    seeds = sorted({seed for cell in cells for seed in cell.losses})
    raw = np.array([[cell.losses.get(seed, math.nan) for cell in cells] for seed in seeds], float)
    values = np.log(raw) if np.nanmin(raw) > 0 else raw
    present = ~np.isnan(values)
    counts = present.sum(0).astype(float)
    rates, _ = _two_way(values, present)
    # Noise grows towards divergence and where training has hardly begun: that near the lowest counts.
    at = int(np.argmin(rates))
    near = (np.abs(np.arange(len(x)) - at) <= 2) | (np.abs(x - x[at]) <= 1)
    inner = values[:, near]
    fitted = _two_way(inner, present[:, near])
    rest = np.where(present[:, near], inner - fitted[0][None, :] - fitted[1][:, None], math.nan)
    used = int(present[:, near].any(1).sum())
    freedom = int(present[:, near].sum()) - int(near.sum()) - (used - 1)
    out = np.full(values.shape, math.nan)
    out[:, near] = rest
    return Means(curve, x, rates, counts, out, float(np.nansum(rest**2)), max(0, freedom))


def _two_way(values: Array, present: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Rates' means and seeds' effects (of mean zero) by least squares."""
    seeds, rates = values.shape
    rows, columns = np.nonzero(present)
    design = np.zeros((len(rows) + 1, rates + seeds))
    design[np.arange(len(rows)), columns] = 1
    design[np.arange(len(rows)), rates + rows] = 1
    design[-1, rates:] = 1
    found: Array = np.linalg.lstsq(design, np.append(values[present], 0.0), rcond=None)[0].astype(np.float64)
    return found[:rates], found[rates:]


def noises(all_means: Sequence[Means]) -> list[Means]:
    """The noise of each of a parameterization's curves, moderated by that of the others."""
    squares, freedom = sum(m.squares for m in all_means), sum(m.freedom for m in all_means)
    if not freedom:
        return list(all_means)
    out: list[Means] = []
    for m in all_means:
        lent = min(LENT, freedom - m.freedom)
        degrees = m.freedom + lent
        variance = (m.squares + lent * squares / freedom) / degrees
        out.append(replace(m, noise=max(math.sqrt(variance), TINY), degrees=degrees))
    return out


@dataclass(frozen=True)
class Fit:
    """The parabola and the cubic about the lowest mean: each a window of rates and the matrix that fits it."""

    at: int
    square: tuple[slice, Array]
    cubic: tuple[slice, Array] | None


def fit(m: Means) -> Fit | None:
    """The windows about the lowest mean; None where it has no neighbour to both sides.  There must be a mean."""
    at, (first, last) = int(np.argmin(m.y)), _tied(m)
    if at in (0, len(m.x) - 1):
        return None
    window = slice(max(0, first - 1), min(len(m.x), last + 2))
    more = _longer(m, window)
    cubic = (more, _matrix(m, more, at, 3)) if more is not None else None
    return Fit(at, (window, _matrix(m, window, at, 2)), cubic)


def _tied(m: Means) -> tuple[int, int]:
    """The stretch of rates about the lowest that noise cannot tell from it."""
    at = int(np.argmin(m.y))
    error = 0.0 if not m.known else m.noise
    reach = [TIED * error * math.sqrt(1 / a + 1 / m.counts[at]) for a in m.counts]
    tied = m.y - m.y[at] <= np.maximum(reach, 10 * TINY if m.known else 1e-12)
    first = last = at
    while first > 0 and tied[first - 1]:
        first -= 1
    while last < len(tied) - 1 and tied[last + 1]:
        last += 1
    return first, last


def _longer(m: Means, window: slice) -> slice | None:
    """The window for a cubic: at least four rates, the lower neighbour added; of two sides one may soar."""
    if window.stop - window.start >= 4:
        return window
    left = m.y[window.start - 1] if window.start > 0 else math.inf
    right = m.y[window.stop] if window.stop < len(m.y) else math.inf
    if math.isinf(min(left, right)):
        return None
    return slice(window.start - 1, window.stop) if left <= right else slice(window.start, window.stop + 1)


def _matrix(m: Means, window: slice, at: int, degree: int) -> Array:
    """What takes the means of a window to the coefficients of a polynomial in the rate, counted from rate ``at``."""
    weights = np.sqrt(m.counts[window])
    powers = np.vander(m.x[window] - m.x[at], degree + 1, increasing=True)
    return np.linalg.pinv(powers * weights[:, None]) * weights[None, :]


def vertices(found: Fit, m: Means, y: Array) -> tuple[Array, Array]:
    """Where the parabola and the cubic of every draw of the means (draws × rates) have their minimum.

    A parabola that opens downwards has its minimum at an end of the window, past which an infinite value points.  Of a
    cubic without a minimum between the lowest rate's neighbours, the parabola's is taken.
    """
    window, matrix = found.square
    c = y[:, window] @ matrix.T
    with np.errstate(all="ignore"):
        square = -c[:, 1] / (2 * c[:, 2])
        ends = m.x[window] - m.x[found.at]
        falling = c[:, 1] * (ends[-1] - ends[0]) + c[:, 2] * (ends[-1] ** 2 - ends[0] ** 2) < 0
        square = np.where(c[:, 2] > 0, square, np.where(falling, math.inf, -math.inf))
        if found.cubic is None:
            return square, square
        window, matrix = found.cubic
        c = y[:, window] @ matrix.T
        root = np.sqrt(c[:, 2] ** 2 - 3 * c[:, 3] * c[:, 1])
        cubic = -c[:, 1] / (c[:, 2] + root)  # that of the two at which the second derivative, 2·root, is positive
    low, high = m.x[window][0] - m.x[found.at], m.x[window][-1] - m.x[found.at]
    return square, np.where((cubic > low) & (cubic < high), cubic, square)


def shifts(all_means: Sequence[Means]) -> float:
    """By what factor the minimum's variance between seeds exceeds that of independent noise, over a parameterization.

    One at least; one, too, where the seeds are too few to tell.
    """
    seen = expected = 0.0
    for m in all_means:
        found = fit(m) if m.known and len(m.x) else None
        if found is None:
            continue
        slope = _slope(found, m)
        usable = ~np.isnan(m.rest[:, slope != 0]).any(1)
        if usable.sum() < 2:
            continue
        moved = np.nan_to_num(m.rest[usable]) @ slope
        seen += float(moved @ moved)
        expected += (int(usable.sum()) - 1) * float(slope @ slope) * m.noise**2
    return max(1.0, seen / expected) if expected > 0 else 1.0


def _slope(found: Fit, m: Means) -> Array:
    """By how much the parabola's minimum moves with each mean."""
    window, matrix = found.square
    c = matrix @ m.y[window]
    out = np.zeros(len(m.x))
    if c[2] > 0:
        out[window] = -matrix[1] / (2 * c[2]) + c[1] * matrix[2] / (2 * c[2] ** 2)
    return out


def draw(
    m: Means, random: np.random.Generator, alpha: float, widened: float = 1.0, draws: int = DRAWS, skew: Array | None = None
) -> Drawn:
    """The best rate and its draws.

    Args:
        alpha: the two-sided error of the interval.
        widened: :func:`shifts`.
        skew: standard normal draws of what the fits of several curves share: all err alike if the curves are alike.
    """
    if not len(m.x):
        return _nothing(m, draws)
    found = fit(m)
    low, high = _walls(m)
    at = int(np.argmin(m.y))
    if found is None:
        return _bound(m, random, alpha, at, low, high, draws)
    spread = (m.noise if m.known else 0.0) * math.sqrt(widened)
    chi = random.chisquare(m.degrees, draws) / m.degrees if m.known else np.ones(draws)
    y = m.y + spread * random.standard_normal((draws, len(m.x))) / np.sqrt(m.counts) / np.sqrt(chi)[:, None]
    square, cubic = (float(v[0]) for v in vertices(found, m, m.y[None, :]))
    squares, cubics = vertices(found, m, y)
    x = m.x[at] + np.where(np.isfinite(squares) & np.isfinite(cubics), cubics, squares)
    window, gap = m.x[found.square[0]], cubic - square if math.isfinite(square) else 0.0
    spacing = float(window[-1] - window[0]) / (len(window) - 1)
    own = max(abs(gap) / 3, ROUGH * spacing**2) if gap else spacing * UNSEEN
    shared = 0.5 * float(np.clip(gap, -spacing, spacing))
    inner = x[np.isfinite(x)]
    noise = float(np.std(np.clip(inner, window[0], window[-1]))) if len(inner) else math.inf
    x = x + own * random.standard_normal(draws) + shared * (random.standard_normal(draws) if skew is None else skew)
    rate = m.x[at] + (cubic if math.isfinite(square) else 0.0)
    ends = _ends(m, x, window, low, high, random)
    rate = float(np.clip(rate, window[0], window[-1]))
    return _drawn(Best("inside", rate, tried=float(m.x[at]), noise=noise, misfit=math.hypot(own, shared)), *ends, alpha)


def _ends(
    m: Means, x: Array, window: Array, low: float, high: float, random: np.random.Generator
) -> tuple[Array, Array]:
    """Draws that leave the window: bounds at an edge of what was tried, up to a wall, else the window's end."""
    lower, upper = x.copy(), x.copy()
    above, below = x > window[-1], x < window[0]
    if window[-1] < m.x[-1]:
        lower[above] = upper[above] = window[-1]
    elif math.isinf(high):
        lower[above], upper[above] = m.x[-2], math.inf
    else:
        lower[above] = upper[above] = random.uniform(window[-1], high, int(above.sum()))
    if window[0] > m.x[0]:
        lower[below] = upper[below] = window[0]
    elif math.isinf(low):
        lower[below], upper[below] = -math.inf, m.x[1]
    else:
        lower[below] = upper[below] = random.uniform(low, window[0], int(below.sum()))
    return lower, upper


def _bound(
    m: Means, random: np.random.Generator, alpha: float, at: int, low: float, high: float, draws: int
) -> Drawn:
    """The lowest mean has none beside it on one side, or on both."""
    first, last = _tied(m)
    left = float(m.x[first - 1]) if first > 0 else low
    right = float(m.x[last + 1]) if last < len(m.x) - 1 else high
    tried = float(m.x[at])
    if math.isfinite(left) and math.isfinite(right):
        x = random.triangular(left, tried, right, draws)
        return _drawn(Best("cliff", tried, tried=tried, noise=0.0, misfit=float(np.std(x))), x, x, alpha)
    kind = "none" if math.isinf(left) and math.isinf(right) else "above" if math.isinf(right) else "below"
    best = Best(kind, tried, tried=tried, noise=0.0, misfit=math.inf)
    return _drawn(best, np.full(draws, left), np.full(draws, right), alpha)


def _nothing(m: Means, draws: int) -> Drawn:
    low, high = -math.inf, math.inf
    return Drawn(Best("none", misfit=math.inf, noise=0.0), np.full(draws, low), np.full(draws, high))


def _drawn(best: Best, low: Array, high: Array, alpha: float) -> Drawn:
    with np.errstate(all="ignore"):
        ends = quantile(low, alpha / 2), quantile(high, 1 - alpha / 2)
    return Drawn(replace(best, low=min(ends[0], best.rate), high=max(ends[1], best.rate)), low, high)


def quantile(values: Array, share: float) -> float:
    """An order statistic, which infinite values may be: the outer one of the two next to the share."""
    ordered = np.sort(values)
    place = share * (len(ordered) - 1)
    return float(ordered[math.floor(place) if share < 0.5 else math.ceil(place)])


def _walls(m: Means) -> tuple[float, float]:
    """The next rates beyond those fitted that are known to be worse; infinite where nothing is known."""
    bounds = [cell.rate for cell in m.curve.cells if cell.bounds]
    low = max((rate for rate in bounds if rate < m.x[0]), default=-math.inf)
    high = min((rate for rate in bounds if rate > m.x[-1]), default=math.inf)
    return low, high
