"""Is wider better?  The loss at the best rate that was tried, against the width.

The standard deviation between seeds is that of each curve's best rate, moderated by those of the parameterization's other
curves (:mod:`scalecalc.transfer.optimum`), in units of the loss.  Between neighbouring widths the loss rises, or falls, where
the interval of the difference leaves zero out; the intervals of one line hold together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scalecalc.table import Slope
from scalecalc.transfer.curves import Curve
from scalecalc.transfer.optimum import LENT


@dataclass(frozen=True)
class Loss:
    """A mean loss over ``seeds`` at log₂ rate ``rate``, its standard error, and the degrees of freedom of that."""

    value: float
    error: float
    degrees: float
    rate: float
    seeds: int

    def minus(self, other: Loss, alpha: float) -> Slope:
        """The difference with its interval (Welch's); without seeds to tell, an infinite one."""
        difference, variances = self.value - other.value, (self.error**2, other.error**2)
        if not self.degrees or not other.degrees or not math.isfinite(difference):
            return Slope(difference, -math.inf, math.inf)
        if not sum(variances):
            return Slope(difference, difference, difference)
        freedom = sum(variances) ** 2 / (variances[0] ** 2 / self.degrees + variances[1] ** 2 / other.degrees)
        half = _t(alpha, freedom) * math.sqrt(sum(variances))
        return Slope(difference, difference - half, difference + half)

    def interval(self, alpha: float) -> tuple[float, float]:
        half = _t(alpha, self.degrees) * self.error if self.degrees else math.inf
        return self.value - half, self.value + half

    def words(self) -> str:
        """``1.432 ±0.004``: two digits of the standard error."""
        if not math.isfinite(self.value):
            return "none"
        if not self.degrees or not self.error:
            return f"{self.value:.4g}"
        digits = min(8, max(0, 1 - math.floor(math.log10(self.error))))
        return f"{self.value:.{digits}f} ±{self.error:.{digits}f}"


@dataclass(frozen=True)
class Trend:
    """How the loss goes with the width.

    Args:
        word: falls, rises, turns (falls and rises beyond noise), level (no difference beyond noise), or unknown.
        steps: between neighbouring widths, the difference with its interval.
        rises: the pairs of widths between which the loss rises beyond noise.
    """

    word: str
    steps: tuple[Slope, ...]
    rises: tuple[tuple[int, int], ...]

    @property
    def monotone(self) -> bool:
        """Wider is better, or not worse beyond noise."""
        return self.word in ("falls", "level")

    def words(self) -> str:
        where = ", ".join(f"{a} to {b}" for a, b in self.rises)
        said = f"rises from {where}"
        return {"turns": said, "rises": said, "level": "level within noise"}.get(self.word, self.word)


def losses(found: Sequence[Curve]) -> list[Loss]:
    """Each curve's lowest mean loss, with the noise of all."""
    best = [min(curve.fitting, key=lambda cell: cell.mean, default=None) for curve in found]
    squares, freedoms = [0.0] * len(best), [0] * len(best)
    for i, cell in enumerate(best):
        if cell is not None:
            squares[i] = sum((value - cell.mean) ** 2 for value in cell.losses.values())
            freedoms[i] = len(cell.losses) - 1
    total, freedom = sum(squares), sum(freedoms)
    out: list[Loss] = []
    for cell, square, own in zip(best, squares, freedoms, strict=True):
        if cell is None:
            out.append(Loss(math.nan, math.nan, 0.0, math.nan, 0))
            continue
        lent = min(LENT, freedom - own)
        variance = (square + lent * total / freedom) / (own + lent) if freedom else 0.0
        seeds = len(cell.losses)
        out.append(Loss(cell.mean, math.sqrt(variance / seeds), own + lent if freedom else 0.0, cell.rate, seeds))
    return out


def trend(widths: Sequence[int], values: Sequence[Loss], alpha: float) -> Trend:
    """Over neighbouring widths, narrowest first, with simultaneous two-sided error ``alpha``."""
    known = [(n, loss) for n, loss in zip(widths, values, strict=True) if math.isfinite(loss.value)]
    if len(known) < 2:
        return Trend("unknown", (), ())
    level = alpha / (len(known) - 1)
    steps = tuple(b.minus(a, level) for (_, a), (_, b) in pairwise(known))
    rises = tuple((m, n) for ((m, _), (n, _)), step in zip(pairwise(known), steps, strict=True) if step.low > 0)
    whole = known[-1][1].minus(known[0][1], level)
    falls = whole.high < 0 or any(step.high < 0 for step in steps)
    word = ("turns" if falls else "rises") if rises else "falls" if falls else "rises" if whole.low > 0 else "level"
    if word == "rises" and not rises:
        rises = ((known[0][0], known[-1][0]),)
    return Trend("unknown" if not all(loss.degrees for _, loss in known) else word, steps, rises)


def _t(alpha: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - alpha / 2, freedom))
