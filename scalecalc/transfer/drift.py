"""How the best rate and the largest stable rate move with the width: log₂ of a rate per doubling.

The drift is the slope of a line through the best rates, each weighted by how well it is known.  Its interval comes from
the slopes of the draws (:mod:`scalecalc.transfer.optimum`); of a draw that is a bound, both ends count, the lower for the
lower end of the interval and the upper for the upper.  So a best rate at the edge of what was tried leaves one end of the
drift open, and the other may decide all the same.  Where best rates scatter about the line by more than they should, the
interval is wider by the same factor (Birge's ratio, as the Particle Data Group does): either their errors are too small, or
the line is none.

The edge of stability is known to lie between a rate at which no run diverged and one from which on every run did.  No law of
chance is assumed between them: the drift's interval is the range of slopes through any edges within.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalecalc.table import Slope
from scalecalc.transfer.curves import Curve
from scalecalc.transfer.optimum import Drawn, quantile

LEAST = 0.05  # octaves: no best rate counts as known better than this, in the weights


@dataclass(frozen=True)
class Stable:
    """The edge of stability of one curve, as log₂ of rates.

    Args:
        low: the largest rate up to which no run diverged; minus infinity if the smallest tried did.
        high: the smallest rate from which on every run diverged; infinite if none does.
    """

    low: float
    high: float

    @property
    def found(self) -> bool:
        """Whether both sides were seen."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def stable(curve: Curve) -> Stable:
    """The edge of one curve; runs that were stopped as dominated, or failed, do not tell."""
    cells = [cell for cell in curve.cells if cell.informative]
    first = next((cell.rate for cell in cells if cell.diverged), math.inf)
    low = max((cell.rate for cell in cells if cell.rate < first), default=-math.inf)
    high = math.inf
    for cell in reversed(cells):
        if cell.losses:
            break
        high = cell.rate
    return Stable(low, high)


def weights(x: Sequence[float], errors: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients that take values at ``x`` to the slope of the weighted line through them."""
    w = 1 / np.square(np.maximum(errors, LEAST))
    centred = np.array(x, float) - float(np.average(x, weights=w))
    return w * centred / float(w @ centred**2)


def drift(widths: Sequence[int], drawn: Sequence[Drawn], alpha: float) -> Slope:
    """The drift of the best rate, with an interval of two-sided error ``alpha``; infinite ends where bounds leave them open.

    The slope itself is that through the estimates, of bounds through the rates at the edge.
    """
    x = [math.log2(n) for n in widths]
    known = [d for d in drawn if d.best.kind != "none"]
    if len(known) < 2:
        return Slope(math.nan, -math.inf, math.inf)
    x = [one for one, d in zip(x, drawn, strict=True) if d.best.kind != "none"]
    errors = [error(d) for d in known]
    c = weights(x, errors)
    low = sum((k * (d.low if k > 0 else d.high) for k, d in zip(c, known, strict=True) if abs(k) > 1e-12), np.zeros(1))
    high = sum((k * (d.high if k > 0 else d.low) for k, d in zip(c, known, strict=True) if abs(k) > 1e-12), np.zeros(1))
    rates = np.array([d.best.rate for d in known])
    slope = float(c @ rates)
    ends = quantile(low, alpha / 2), quantile(high, 1 - alpha / 2)
    factor = birge(x, rates, errors) if all(d.best.kind == "inside" for d in known) else 1.0
    return Slope(slope, min(slope, slope + factor * (ends[0] - slope)), max(slope, slope + factor * (ends[1] - slope)))


def error(drawn: Drawn) -> float:
    """A best rate's standard error, for weights; of a bound, the distance to the rate that bounds it."""
    best = drawn.best
    if best.kind in ("inside", "cliff"):
        return math.hypot(best.noise, best.misfit)
    return next((abs(best.rate - end) for end in (best.low, best.high) if math.isfinite(end) and end != best.rate), 1.0)


def birge(x: Sequence[float], rates: NDArray[np.float64], errors: Sequence[float]) -> float:
    """By what factor values scatter about their line more than their errors say; one at least."""
    if len(x) < 3:
        return 1.0
    e = np.maximum(errors, 1e-9)
    w = 1 / e**2
    slope = float(weights(x, np.maximum(e, LEAST)) @ rates)
    middle = float(np.average(rates - slope * np.array(x), weights=w))
    left = (rates - middle - slope * np.array(x)) / e
    return max(1.0, math.sqrt(float(left @ left) / (len(x) - 2)))


def stable_drift(widths: Sequence[int], edges: Sequence[Stable]) -> Slope:
    """The drift of the largest stable rate: that of the edges' middles, and its range over all edges that they can be."""
    x = np.array([math.log2(n) for n in widths])
    c = (x - x.mean()) / float((x - x.mean()) @ (x - x.mean()))
    low = sum(k * (e.low if k > 0 else e.high) for k, e in zip(c, edges, strict=True) if k)
    high = sum(k * (e.high if k > 0 else e.low) for k, e in zip(c, edges, strict=True) if k)
    middles = [(e.low + e.high) / 2 if e.found else e.low if math.isfinite(e.low) else e.high for e in edges]
    if not all(map(math.isfinite, middles)):
        return Slope(math.nan, float(low), float(high))
    return Slope(float(c @ np.array(middles)), float(low), float(high))
