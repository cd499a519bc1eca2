"""Does the learning rate transfer?  Statistics of the runs of one sweep, and a verdict for each parameterization.

For each parameterization, each group of weights whose rate was swept, and each line of settings along one growing dim: the
drift of the best rate in log₂ per doubling of width, with an interval.  The verdict is an equivalence test, as everywhere:

- *transfers*: the whole interval lies within ±tolerance, along every line;
- *does not*: along some line it lies wholly outside;
- *undecided*: anything else, with what would settle it.

The intervals of one parameterization hold together with probability 1 − alpha (Bonferroni over its lines and groups), so
that one that transfers is told that it does not, or one that does not is told that it does, in at most that share of sweeps.
A curve of one seed says nothing of its noise; its parameterization stays undecided.

The best rate and its interval are found in :mod:`scalecalc.transfer.optimum`, the drift in
:mod:`scalecalc.transfer.drift`, the loss at the best rate in :mod:`scalecalc.transfer.trend`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scalecalc.errors import InputError
from scalecalc.table import Slope
from scalecalc.transfer.curves import Curve, Line, Setting, curves, lines
from scalecalc.transfer.drift import Stable, drift, stable, stable_drift, weights
from scalecalc.transfer.drift import error as rate_error
from scalecalc.transfer.optimum import DRAWS, Best, Drawn, Means, draw, means, noises, shifts
from scalecalc.transfer.records import Job
from scalecalc.transfer.trend import Loss, Trend, losses, trend

if TYPE_CHECKING:
    import pandas

TRANSFERS, NOT, UNDECIDED = "transfers", "does not", "undecided"
TOLERANCE, ALPHA = 0.1, 0.05
MANY = 16.0  # times as many seeds: finer rates, or more widths, are the better advice


@dataclass(frozen=True)
class Width:
    """One curve and what was found of it: the best rate, the edge of stability, the loss at the best rate."""

    curve: Curve
    best: Best
    stable: Stable
    loss: Loss

    @property
    def headroom(self) -> float:
        """log₂ of the largest stable rate over the best."""
        return self.stable.low - self.best.rate


@dataclass(frozen=True)
class Axis:
    """One growing dim, the others held fixed, for one parameterization and one group of weights.

    ``settle``: of an undecided axis what would settle it.
    """

    parameterization: str
    group: str
    dim: str
    others: Setting
    points: tuple[Width, ...]
    drift: Slope
    stable_drift: Slope
    trend: Trend
    verdict: str
    settle: str = ""

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(point.curve.widths[self.dim] for point in self.points)

    @property
    def words(self) -> str:
        """``N_u at N_x = 16``, ``N_u, rate of W_B alone``."""
        at = f" at {', '.join(f'{dim} = {n}' for dim, n in self.others)}" if self.others else ""
        return f"{self.dim}{at}" + (f", rate of {self.group} alone" if self.group else "")


@dataclass(frozen=True)
class Fate:
    """The verdict on one parameterization, over all of its axes."""

    parameterization: str
    verdict: str
    axes: tuple[Axis, ...]
    points: tuple[Width, ...]

    def words(self) -> str:
        """A sentence without its subject: ``transfers: best rate moves by −0.01 ±0.04 per doubling of N``."""
        if not self.axes:
            return "undecided: one width only"
        told = [axis for axis in self.axes if axis.verdict == self.verdict]
        parts = [f"{axis.words}: {slope_words(axis.drift)} per doubling" for axis in told]
        said = {TRANSFERS: "the best rate transfers", NOT: "the best rate does not transfer", UNDECIDED: "undecided"}
        return f"{said[self.verdict]} ({'; '.join(parts)})"


@dataclass(frozen=True)
class Comparison:
    """Parameterizations at one setting of the widths that all of them have, the best loss first.

    ``told``: those whose loss is higher than the best one's beyond noise (simultaneously).
    """

    widths: Setting
    losses: tuple[tuple[str, Loss], ...]
    told: frozenset[str]

    def words(self) -> str:
        """Which is best, and which cannot be told from it."""
        at = ", ".join(f"{dim} = {n}" for dim, n in self.widths)
        (name, best), *rest = self.losses
        tied = [other for other, _ in rest if other not in self.told]
        worse = [f"{other} by {loss.value - best.value:.3g}" for other, loss in rest if other in self.told]
        out = f"At {at} the lowest loss is {name}'s, {best.words()}"
        if tied:
            out += f"; noise does not tell it from {_and(tied)}'s"
        if worse:
            out += f"; worse: {_and(worse)}"
        return out + "."


@dataclass(frozen=True)
class Summary:
    """All that one sweep says.  ``alpha``: the error that a parameterization's intervals have together."""

    fates: tuple[Fate, ...]
    jobs: tuple[Job, ...]
    tolerance: float = TOLERANCE
    alpha: float = ALPHA
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(axis for fate in self.fates for axis in fate.axes)

    def __getitem__(self, parameterization: str) -> Fate:
        """The fate of one parameterization.

        Raises:
            KeyError: it was not swept.
        """
        return {fate.parameterization: fate for fate in self.fates}[parameterization]

    def exit_status(self, *, require: bool = False, strict: bool = False) -> int:
        """0; if transfer is required, 1 where some parameterization's rate does not transfer; if strict, 3 where one is
        undecided.
        """
        found = {fate.verdict for fate in self.fates}
        if require and NOT in found:
            return 1
        return 3 if strict and UNDECIDED in found else 0

    def words(self) -> str:
        """The verdict in one sentence: ``The best rate transfers under mup; it does not under sp.``"""
        by = {v: [f.parameterization for f in self.fates if f.verdict == v] for v in (TRANSFERS, NOT, UNDECIDED)}
        parts: list[str] = []
        if by[TRANSFERS]:
            parts.append(f"The best rate transfers under {_and(by[TRANSFERS])}")
        if by[NOT]:
            parts.append(f"{'it does not' if parts else 'The best rate does not transfer'} under {_and(by[NOT])}")
        if by[UNDECIDED]:
            names = _and(by[UNDECIDED])
            parts.append(f"{names} {'is' if len(by[UNDECIDED]) == 1 else 'are'} undecided" if parts else
                         f"Whether the best rate transfers under {names} is undecided")  # fmt: skip
        return "; ".join(parts) + "." if parts else "There are no runs."

    def counts(self) -> dict[str, int]:
        """How many runs ended how."""
        found = Counter(job.status for job in self.jobs)
        return {status: found[status] for status in ("done", "diverged", "dominated", "failed") if found[status]}

    def to_frame(self) -> pandas.DataFrame:
        """A tidy pandas frame: a line per quantity, see :mod:`scalecalc.transfer.frame`."""
        from scalecalc.transfer.frame import to_frame

        return to_frame(self)

    def to_text(self, *, width: int = 80, color: bool = False) -> str:
        """For a terminal."""
        from scalecalc.transfer.report import to_terminal

        return to_terminal(self, width=width, color=color)


def verdicts(jobs: Iterable[Job], tolerance: float = TOLERANCE, *, alpha: float = ALPHA, draws: int = DRAWS) -> Summary:
    """What the runs of one sweep say.

    Args:
        tolerance: a drift within ± this many octaves of the rate per doubling of width is none.
        alpha: the probability that any interval of a parameterization misses.
        draws: of every best rate; their seed is fixed, so that the same runs give the same report.

    Raises:
        InputError: there are no runs, they are of several sweeps, or tolerance or alpha is no positive number.
    """
    listed = tuple(jobs)
    if not listed:
        raise InputError("there are no runs to judge; run a sweep first.")
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise InputError(f"a tolerance of {tolerance} leaves no room for agreement; give a positive number of octaves.")
    if not 0 < alpha < 1:
        raise InputError(f"an error of {alpha} is no probability; give a number between 0 and 1.")
    every = curves(listed)
    random = np.random.default_rng(0)
    names = list(dict.fromkeys(curve.parameterization for curve in every))
    fates = tuple(_fate(name, every, tolerance, alpha, random, draws) for name in names)
    return Summary(fates, listed, tolerance, alpha, _compared(fates, alpha), tuple(_notes(every)))


def _fate(
    name: str, every: Sequence[Curve], tolerance: float, alpha: float, random: np.random.Generator, draws: int
) -> Fate:
    own = [curve for curve in every if curve.parameterization == name]
    along = lines(own)
    level = alpha / max(1, len(along))
    found: dict[int, tuple[Means, Drawn, Width]] = {}
    for group in dict.fromkeys(curve.group for curve in own):
        of = [curve for curve in own if curve.group == group]
        known = noises([means(curve) for curve in of])
        widened, skew = shifts(known), random.standard_normal(draws)
        for curve, m, loss in zip(of, known, losses(of), strict=True):
            # The interval of a single width is that of a reader who looks at one; the drift's is simultaneous.
            drawn = draw(m, random, alpha, widened, draws, skew)
            found[id(curve)] = m, drawn, Width(curve, drawn.best, stable(curve), loss)
    axes = tuple(_axis(line, [found[id(curve)] for curve in line.curves], tolerance, level) for line in along)
    verdict = NOT if any(axis.verdict == NOT for axis in axes) else TRANSFERS
    if not axes or (verdict != NOT and any(axis.verdict == UNDECIDED for axis in axes)):
        verdict = UNDECIDED
    return Fate(name, verdict, axes, tuple(width for _, _, width in found.values()))


def _axis(line: Line, found: Sequence[tuple[Means, Drawn, Width]], tolerance: float, alpha: float) -> Axis:
    drawn, points = [d for _, d, _ in found], tuple(width for _, _, width in found)
    slope = drift(line.widths, drawn, alpha)
    axis = Axis(
        line.parameterization, line.group, line.dim, line.others, points, slope,
        stable_drift(line.widths, [point.stable for point in points]), trend(line.widths, [p.loss for p in points], alpha),
        UNDECIDED,
    )  # fmt: skip
    if any(not m.known for m, _, _ in found):
        return replace(axis, settle="a second seed: of one seed nothing is known of the noise")
    if -tolerance <= slope.low and slope.high <= tolerance:
        return replace(axis, verdict=TRANSFERS)
    if slope.low > tolerance or slope.high < -tolerance:
        return replace(axis, verdict=NOT)
    return replace(axis, settle=_settle(axis, drawn, tolerance))


def _settle(axis: Axis, drawn: Sequence[Drawn], tolerance: float) -> str:
    """What would settle an undecided axis: other rates where bounds leave it open, else what makes most of its error."""
    beyond = [advice for end in (-1, 0) if (advice := _beyond(axis, end))]
    if beyond:
        return "; ".join(beyond)
    empty = [str(n) for n, d in zip(axis.widths, drawn, strict=True) if d.best.kind == "none"]
    if empty:
        return f"more rates at {axis.dim} = {', '.join(empty)}: no best rate can be read off"
    cliffs = [f"{n}" for n, d in zip(axis.widths, drawn, strict=True) if d.best.kind == "cliff"]
    c = np.square(weights([math.log2(n) for n in axis.widths], [rate_error(d) for d in drawn]))
    noise = float(sum(k * d.best.noise**2 for k, d in zip(c, drawn, strict=True)))
    misfit = float(sum(k * d.best.misfit**2 for k, d in zip(c, drawn, strict=True)))
    if cliffs and misfit > noise:
        return f"finer rates at {axis.dim} = {', '.join(cliffs)}: the best lies next to the first that diverges"
    if not axis.drift.low < axis.drift.slope < axis.drift.high:
        return "finer rates near the best"
    off = abs(abs(axis.drift.slope) - tolerance)
    half = (axis.drift.high - axis.drift.low) / 2
    if misfit > noise:
        return "finer rates near the best: the curve between those tried is most of the error"
    times = (half / off) ** 2 if off else math.inf
    seeds = max(point.curve.seeds for point in axis.points)
    if times > MANY:
        return f"larger widths, or runs with less noise: of such runs it would take more than {math.ceil(seeds * MANY)} seeds"
    return f"about {math.ceil(seeds * max(times, 1.3))} seeds instead of {seeds}, or larger widths"


def _beyond(axis: Axis, end: int) -> str:
    """Advice to try rates beyond the largest (``end`` −1) or the smallest (0), where the best is open to it; or nothing."""
    where, infinite = ("larger", math.inf) if end else ("smaller", -math.inf)
    open_ = [
        (n, p) for n, p in zip(axis.widths, axis.points, strict=True)
        if (p.best.high if end else p.best.low) == infinite and p.best.kind != "none"
    ]  # fmt: skip
    if not open_:
        return ""
    rate = (min if end else max)(p.curve.fitting[end].rate for _, p in open_)
    there = all(p.best.tried == p.curve.fitting[end].rate for _, p in open_)
    why = f"the best is the {where[:-1]}st that was tried" if there else "the best may lie beyond those that were tried"
    return f"rates {where} than {rate_words(rate)} at {axis.dim} = {', '.join(str(n) for n, _ in open_)}: {why}"


def _compared(fates: Sequence[Fate], alpha: float) -> Comparison | None:
    """At the largest setting that every parameterization has a finite loss for, under one rate for all weights."""
    known = [
        {tuple(w.curve.widths.items()): w.loss for w in fate.points if not w.curve.group and math.isfinite(w.loss.value)}
        for fate in fates
    ]
    common = [setting for setting in known[0] if all(setting in one for one in known)]
    if len(fates) < 2 or not common:
        return None
    largest = max(common, key=lambda setting: (math.prod(n for _, n in setting), setting))
    ranked = [(fate.parameterization, one[largest]) for fate, one in zip(fates, known, strict=True)]
    ranked.sort(key=lambda item: item[1].value)
    best = ranked[0][1]
    told = frozenset(name for name, loss in ranked[1:] if best.minus(loss, alpha / (len(ranked) - 1)).high < 0)
    return Comparison(largest, tuple(ranked), told)


def _notes(every: Sequence[Curve]) -> list[str]:
    """What a reader must know of runs that did not simply finish."""
    out: list[str] = []
    failed = sum(cell.failed for curve in every for cell in curve.cells)
    if failed:
        out.append(f"{failed} run{'s' if failed > 1 else ''} failed and count as never made.")
    stopped = sum(cell.dominated for curve in every for cell in curve.cells)
    if stopped:
        runs = f"{stopped} run{'s were' if stopped > 1 else ' was'}"
        out.append(f"{runs} stopped early as dominated: known to be worse, and no part of a fit.")
    few = min((curve.seeds for curve in every if curve.fitting), default=0)
    if few == 2:
        out.append("Two seeds: intervals are wide for that; those of neighbouring widths help each other's noise.")
    return out


def slope_words(slope: Slope) -> str:
    """``−0.02 [−0.06, 0.03]``, ``at most −0.4``, ``unknown``.

    >>> slope_words(Slope(-0.02, -0.06, 0.03)), slope_words(Slope(-0.7, -math.inf, -0.4))
    ('−0.02 [−0.06, 0.03]', 'at most −0.40')
    """
    if math.isinf(slope.low) and math.isinf(slope.high):
        return "unknown"
    if math.isinf(slope.low):
        return f"at most {number(slope.high)}"
    if math.isinf(slope.high):
        return f"at least {number(slope.low)}"
    return f"{number(slope.slope)} [{number(slope.low)}, {number(slope.high)}]"


def rate_words(log2: float) -> str:
    """``2^−7``, ``2^−6.5``."""
    return f"2^{number(log2, 1).removesuffix('.0')}" if math.isfinite(log2) else "unknown"


def number(value: float, digits: int = 2) -> str:
    """With a minus sign, and no negative zero.

    >>> number(-0.001), number(-1.25)
    ('0.00', '−1.25')
    """
    text = f"{value:.{digits}f}"
    return (text[1:] if float(text) == 0 and text[0] == "-" else text).replace("-", "−")


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
