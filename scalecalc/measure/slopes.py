r"""Slopes with intervals from sizes sampled at several widths: what a derived Θ is compared with.

The idea: at each width setting k (a *cell*) independent seeds give v = log(RMS of the tensor); their mean m_k estimates

    m_k = const + f_k(ν) + Σ_d e_d log N_d

with f the log of the derived size, ν its free constants and e_d the *excess* slopes, 0 if the derivation is right.

**The mean of logs, not the log of a mean.**  An entry such as y = z₁z₂z₃ u shares a random scalar over all channels:
|y| has heavy tails and its mean square hangs on the largest few seeds, so that 1 % intervals of log RMS miss 11 % of the
time at 16 seeds per width, 4 % at 64, and unequal seeds make a slope of the bias (−0.09 for 512 to 16 seeds).  log|y|
has exponential tails at worst: 1 % is 1 %, and the scatter is no larger.  Both have one slope as long as the law of v
minus its mean does not change with width; where it does, the drift shows it.

**Ordinary least squares.**  e = a·(m − f) with contrasts a that depend on the widths alone; each cell brings its own
variance, Var = Σ a_k² s_k²/n_k, and the t quantile has Welch–Satterthwaite's degrees of freedom.  The road not taken is
weighting by estimated variances: at 16 seeds per cell its 1 % intervals missed 1.7 to 9 % of the time, its 0.01 % ones
up to 150 times too often, because a cell whose scatter happens to come out small also gets the weight; and the slope
that a curved truth is projected on would depend on the noise.  Three guards keep the tails right:

- a cell's variance is at least a quarter of the pooled one, against few seeds that happen to lie close;
- Hall's cubic transform of t allows for skewness, which cancels between the two ends of a balanced design but not where
  one noisy cell dominates (log of |Gaussian|, scatter ∝ N^(−1/2), 64 seeds, α = 10⁻⁴: missed 3.5 α without it, 1.5 α
  with it); the interval is never shorter than the plain one;
- rounding of the sums is added, so that a deterministic tensor gets a short interval, not none.

**Free constants.**  A log factor is (r + log N)^b with r the ratio of two constants (0.577 for Σ 1/n); incomparable
terms and known corrections add as size² = Σ c_i² θ_i².  These ν are nearly collinear with e at affordable widths, may
sit on a bound, and drop out where a term vanishes.  But for given ν the model is linear.  So keep, at error α/2, the set
of ν that a score test does not reject (constants.py); take, at α/2, the interval of e for each; report the hull.  It
covers with probability ≥ 1 − α wherever ν lies.  The other form of a log, (N^e − 1)/e with free e, has no e when the
truth is a constant, the very case to be refuted.

Bounds keep a claim refutable: −½ log N_min ≤ r ≤ 10, and at the centre a correction is at most the leading size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from scalecalc.errors import InputError, MeasureError
from scalecalc.measure.constants import Size, admitted
from scalecalc.scale import Scale
from scalecalc.table import Point, Slope
from scalecalc.verdict import Drift, Fit, LogFactor, Unusable

__all__ = ["Cell", "Drift", "Fit", "LogFactor", "Unusable", "fit", "point"]

Array = NDArray[np.float64]
_FLOOR = 0.25  # a cell's variance is at least this part of the pooled one


@dataclass(frozen=True, eq=False)
class Cell:
    """One width setting: the width ≥ 1 of each dim (the same dims in every cell) and, of shape (seeds,), the natural log
    of the statistic, one per independent seed; −inf, +inf and nan may occur.
    """

    widths: Mapping[str, int]
    logs: Array


def point(widths: Mapping[str, int], logs: Array) -> Point:
    """The mean and its error of the logs at one setting, of two or more."""
    return Point(dict(widths), float(logs.mean()), float(logs.std(ddof=1) / math.sqrt(len(logs))), len(logs))


@dataclass(frozen=True)
class _Samples:
    """Per cell: log widths (K, D) and, of the logs, mean, variance of the mean, its third moment and seeds − 1 (K,)."""

    x: Array
    mean: Array
    variance: Array
    third: Array
    freedom: Array

    @staticmethod
    def of(x: Array, logs: Sequence[Array]) -> _Samples:
        n = np.array([len(v) for v in logs], float)
        mean = np.array([v.mean() for v in logs])
        away = [v - c for v, c in zip(logs, mean, strict=True)]
        variance = np.array([a @ a for a in away]) / (n - 1)
        third = np.array([(a * a) @ a for a in away]) * n / ((n - 1) * np.maximum(n - 2, 1))
        pooled = ((n - 1) @ variance) / (n - 1).sum()
        return _Samples(x, mean, np.maximum(variance, _FLOOR * pooled) / n, third / n**2, n - 1)

    def spread(self, contrasts: Array) -> tuple[Array, Array]:
        """Standard error (G,) and degrees of freedom (G,) of contrasts (G, K) of the cell means."""
        parts = contrasts**2 * self.variance
        total = parts.sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            freedom = total**2 / (parts**2 / self.freedom).sum(-1)
        return np.sqrt(total), np.where(total > 0, freedom, 1e9)

    def interval(self, contrasts: Array, alpha: float) -> tuple[Array, Array]:
        """Ends (G,), (G,) of the intervals of contrasts (G, K) of the cell means; Hall's transform, never shorter."""
        error, freedom = self.spread(contrasts)
        t = -special.stdtrit(freedom, alpha / 2)
        skew = (contrasts**3 @ self.third) / np.where(error > 0, error, 1) ** 3
        shifted = np.stack([t, -t]) - skew / 6
        root = np.cbrt(1 + skew * shifted)
        below, above = 3 * shifted / (root**2 + root + 1)  # = 3 (root - 1) / skew, without the division
        rounding = 1e-12 * (np.abs(contrasts) @ (1 + np.abs(self.mean)))
        middle = contrasts @ self.mean
        return middle - error * np.maximum(t, below) - rounding, middle + error * np.maximum(t, -above) + rounding


def _pool(cells: Sequence[Cell], zero_level: float) -> tuple[list[Mapping[str, int]], list[Array], list[Unusable]]:
    """Cells of equal widths together; their finite samples, and a count of the others."""
    together: dict[tuple[tuple[str, int], ...], list[Array]] = {}
    for cell in cells:
        if set(cell.widths) != set(cells[0].widths) or any(n < 1 for n in cell.widths.values()):
            raise InputError(f"a cell needs the dims of the first, {dict(cells[0].widths)}; got {dict(cell.widths)}.")
        together.setdefault(tuple(sorted(cell.widths.items())), []).append(np.asarray(cell.logs, float).ravel())
    widths, logs, unusable = [], [], []
    for key, several in together.items():
        if len(every := np.concatenate(several)) < 2:
            raise MeasureError(f"one seed at {dict(key)} says nothing about the scatter; measure two at least.")
        zeros, bad = every <= zero_level, ~(every < math.inf)
        if zeros.any() or bad.any():
            unusable.append(Unusable(dict(key), int(zeros.sum()), int(bad.sum()), len(every)))
        widths.append(dict(key))
        logs.append(every[~zeros & ~bad])
    return widths, logs, unusable


def fit(
    cells: Sequence[Cell], terms: Sequence[Scale], alpha: float, *,
    corrections: Sequence[Scale] = (), generic: bool = False, slow: Mapping[str, float] | None = None,
    zero_level: float = -math.inf,
) -> Fit:  # fmt: skip
    """Fit one row: total slopes, excess over the derived size, drift, and which parts of the derivation show.

    Args:
        cells: the samples; cells of equal widths are pooled.  Dims that do not vary or are not mentioned are constants.
        terms: the derived scales, none for an exact zero.
        alpha: two-sided error of one interval, in (0, 1).
        corrections: smaller scales that the derivation knows of, added to size² with nonnegative coefficients.
        generic: allow a relative correction N^(-1/2) of either sign in every dim, too: what stands beside a sum that
            obeys the law of large numbers, and shows as a slope up to 1/4 off where there are two small widths.
        slow: a power of 1/N, relative to size², by which another such correction falls in a dim.
        zero_level: natural log of the size up to which a sample counts as zero (rounding).

    Raises:
        InputError: cells with different dims, no samples, or an alpha outside (0, 1).
        MeasureError: the widths do not tell the slopes apart, or a cell has one seed only.
    """
    if not cells or not 0 < alpha < 1 or any(np.size(cell.logs) == 0 for cell in cells):
        raise InputError(f"a fit needs cells with samples and an alpha in (0, 1); got {len(cells)} cells, {alpha=}.")
    widths, logs, unusable = _pool(cells, zero_level)
    zero = not any(len(v) for v in logs) and not any(u.undefined for u in unusable)
    dims = [d for d in sorted(widths[0]) if len({w[d] for w in widths}) > 1]
    use = [k for k, v in enumerate(logs) if len(v) > 1]
    x = np.log([[w[d] for d in dims] for w in widths])
    design = np.column_stack([np.ones(len(use)), x[use]])
    if not dims or not use or np.linalg.matrix_rank(design) <= len(dims):
        if unusable or not terms:  # not enough finite cells: nothing but the counts to report
            return Fit(alpha, {}, {}, {}, {}, {}, unusable=tuple(unusable), zero=zero)
        apart = f"{len(widths)} width settings do not tell the slopes in {', '.join(dims) or 'any dim'} apart"
        raise MeasureError(f"{apart}; measure at two widths of each dim or more, not all in one proportion.")
    samples = _Samples.of(x[use], [logs[k] for k in use])
    return replace(_fit(samples, dims, terms, corrections, alpha, generic, slow or {}), unusable=tuple(unusable), zero=zero)


def _fit(
    samples: _Samples, dims: Sequence[str], terms: Sequence[Scale], corrections: Sequence[Scale], alpha: float,
    generic: bool, slow: Mapping[str, float],
) -> Fit:  # fmt: skip
    one, none = np.ones((len(samples.x), 1)), np.zeros((1, len(samples.x)))
    rows = np.linalg.pinv(np.hstack([one, samples.x]))[1:]
    bends = {d: bend for j, d in enumerate(dims) if (bend := _bend(samples.x, j)) is not None}
    aims = np.concatenate([rows, *bends.values()])
    loose = [(j, p) for j, d in enumerate(dims) for p in (1.0, slow.get(d)) if p] if generic else []
    model = Size(terms or [Scale.one()], corrections if terms else (), dims, samples.x, loose)
    level = alpha / 2 if model.free else alpha
    kept, crossed = admitted(model, samples, np.hstack([one, samples.x]), aims, alpha / 2)
    size = model(kept)

    def around(row: Array, sizes: Array, level: float) -> Slope:
        low, high = samples.interval(row[None], level)
        slope = sizes @ row
        return Slope(float(row @ samples.mean - slope[0]), float(low[0] - slope.max()), float(high[0] - slope.min()))

    logs: dict[str, LogFactor] = {}
    for i, j in enumerate(model.log_dims if len(model.terms) == 1 else ()):
        power, bend = float(model.log_powers[0, i]), bends.get(dims[j])
        if power:
            sign, flattest = math.copysign(1, power), kept.copy()
            flattest[:, i] = 1
            change = None if bend is None else around(sign * bend[2], model.powers[:1], alpha)
            logs[dims[j]] = LogFactor(power, around(sign * rows[j], model(flattest), level), change, crossed[i])
    shares: dict[Scale, Slope] = {}
    if len(model.terms) > 1 and not generic:
        parts = model.parts(admitted(model, samples, one, rows, alpha)[0])
        share = np.exp(parts - np.logaddexp.reduce(parts, axis=1)[:, None]).max(-1)
        shares = {s: Slope(*map(float, (v[0], v.min(), v.max()))) for s, v in zip(model.terms, share.T, strict=False)}
    return Fit(
        alpha,
        slopes={d: around(row, none, alpha) for d, row in zip(dims, rows, strict=True)},
        excess={d: around(row, size, level) for d, row in zip(dims, rows, strict=True)},
        drift={d: Drift(*(around(row, size, level) for row in bend)) for d, bend in bends.items()},
        freedom=dict(zip(dims, map(float, samples.spread(rows)[1]), strict=True)),
        error=dict(zip(dims, map(float, samples.spread(rows)[0]), strict=True)),
        logs=logs,
        shares=shares,
    )


def _bend(x: Array, j: int) -> Array | None:
    """Contrasts (3, K) for the slope in dim j below its middle width, above it, and their difference, if they exist."""
    values = np.unique(x[:, j])
    design = np.column_stack([np.ones(len(x)), x, np.maximum(x[:, j] - values[len(values) // 2], 0)])
    rows = np.linalg.pinv(design)
    full = len(values) > 2 and np.linalg.matrix_rank(design) == len(rows)
    return np.stack([rows[1 + j], rows[1 + j] + rows[-1], rows[-1]]) if full else None
