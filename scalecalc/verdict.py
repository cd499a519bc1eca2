"""Derived size against measured slopes: agrees, disagrees or inconclusive.

The idea is equivalence testing.  The excess e_d is the slope in dim d that is left once the derived size has been
divided out, known up to an interval; the tolerance says how far from 0 still counts as the derived exponent.

- *agrees*: every interval lies wholly within ±tolerance.  A wide interval never agrees.
- *disagrees*: some interval lies wholly outside ±tolerance.  Repeat it on fresh seeds first (:func:`confirm`).
- *inconclusive*: anything else, with what would settle it.

Exponents are claims about infinite width, so the local slope has a say.  If the whole range passes but the upper half
of the widths alone does not, or if the range fails but the local slope heads for the derived one and would get there
within :data:`STRETCHES` more stretches of widths as long as half of those measured, the answer is: measure at larger
widths.  (Without that reach, the slightest correction to N^(1/2) would excuse it from refuting a constant.)

A log factor must show: "log N" whose constant may be anything is a constant, too.  It is missing, and the row
disagrees, if the slope lies below that of the flattest log allowed; it is seen if the slope lies above.  Likewise a row
of several terms agrees only if each of them shows.

This file holds the record of what was measured, too, and needs neither numpy nor torch to be imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from scalecalc.errors import InputError
from scalecalc.scale import Scale
from scalecalc.table import Slope

VISIBLE = 0.1  # a term is needed if it makes up more than this part of size² somewhere
TOO_MANY = 1000.0  # times as many seeds: larger widths are the better advice
STRETCHES = 3  # how many more half ranges of widths a drifting slope may take to reach the tolerance


@dataclass(frozen=True)
class Drift:
    """Local excess slopes over the lower and the upper half of the widths, and upper minus lower."""

    lower: Slope
    upper: Slope
    change: Slope


@dataclass(frozen=True)
class LogFactor:
    """Whether a derived (log N)^b shows in a dim.

    Args:
        power: b.
        surplus: slope found beyond that of the flattest log allowed, counted in the log's direction: wholly above 0 the
            log is seen, wholly below 0 it is missing.
        change: drift of the slope that is left once the powers alone are divided out, counted the same way.
        misfit: the curve bends significantly more, or less, than any allowed constant beside the log explains.
    """

    power: float
    surplus: Slope
    change: Slope | None
    misfit: bool


@dataclass(frozen=True)
class Unusable:
    """Samples of a cell without a logarithm: ``zeros`` (−inf, or up to the zero level), ``undefined`` (+inf, nan)."""

    widths: Mapping[str, int]
    zeros: int
    undefined: int
    seeds: int


@dataclass(frozen=True)
class Fit:
    """What the samples say about one row; every interval has two-sided error ``alpha``.

    Args:
        slopes: per varying dim, the total measured slope of log size in log N.
        excess: per varying dim, the slope that remains after the derived size has been divided out.
        drift: per dim with three widths or more, whether the excess changes with width.
        error: per dim, the standard error of the total slope.
        freedom: per dim, its Welch–Satterthwaite degrees of freedom.
        logs: per varying dim in which the only term has a log factor.
        shares: per term, if there are several: the largest part of size² that it makes up in any cell, with an interval
            that takes the derived exponents for granted.
        unusable: the cells with samples that have no logarithm; the numbers above leave those samples out.
        zero: every sample is zero.
    """

    alpha: float
    slopes: Mapping[str, Slope]
    excess: Mapping[str, Slope]
    drift: Mapping[str, Drift]
    error: Mapping[str, float]
    freedom: Mapping[str, float]
    logs: Mapping[str, LogFactor] = field(default_factory=dict[str, LogFactor])
    shares: Mapping[Scale, Slope] = field(default_factory=dict[Scale, Slope])
    unusable: tuple[Unusable, ...] = ()
    zero: bool = False

    @property
    def unneeded(self) -> tuple[Scale, ...]:
        """The terms that may make up less than a tenth of size² in every cell: the measurement does not need them."""
        return tuple(term for term, share in self.shares.items() if not share.low > VISIBLE)


@dataclass(frozen=True)
class Doubt:
    """Why a row that does not disagree does not agree either.

    Args:
        reason: in words.
        times: about how many times as many seeds would remove it; inf if seeds do not.
        wider: the dims of which larger widths would.
    """

    reason: str
    times: float = math.inf
    wider: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.times < TOO_MANY:
            return f"{self.reason}: about {self.times:.2g} times as many seeds."
        return f"{self.reason}: larger widths{' of ' if self.wider else ''}{', '.join(self.wider)}."


@dataclass(frozen=True)
class Judgement:
    """The verdict on one row.

    Args:
        verdict: ``agrees``, ``disagrees`` or ``inconclusive``.
        settle: what would settle an inconclusive row, or by what a disagreeing one misses; empty if it agrees.
        slopes: per dim, the total measured slope with its interval.
        misses: what a disagreeing row fails by, to be found again on fresh seeds: ``N_u above``, ``log N_x missing``.
        doubt: the same as ``settle``, of an inconclusive row, in its parts.
    """

    verdict: str
    settle: str
    slopes: Mapping[str, Slope]
    misses: tuple[str, ...] = ()
    doubt: Doubt | None = None


def judge(fit: Fit, terms: Sequence[Scale], tolerance: float) -> Judgement:
    """Verdict on a row whose derived scales are ``terms`` (none: exactly zero), excess slopes within ±``tolerance``.

    Raises:
        InputError: the tolerance is not positive.
    """
    if not tolerance > 0:
        raise InputError(f"the tolerance of a slope must be positive, got {tolerance}.")

    def say(verdict: str, settle: str = "", misses: Sequence[str] = ()) -> Judgement:
        return Judgement(verdict, settle, fit.slopes, tuple(misses))

    undefined = any(u.undefined for u in fit.unusable)
    if not terms and fit.zero:
        return say("agrees")
    if not terms and not undefined:
        return say("disagrees", "the size is derived to be exactly zero, and it is not.", ["not zero"])
    if terms and fit.zero:
        return say("disagrees", "every sample is exactly zero, the derived size is not.", ["zero"])
    if fit.unusable:
        return say("inconclusive", _not_finite(fit.unusable, undefined))
    misses = {**_missing_logs(fit), **_outside(fit, tolerance)}
    if misses:
        return say("disagrees", " ".join(misses.values()), list(misses))
    doubt = _doubt(fit, tolerance)
    return say("agrees") if doubt is None else Judgement("inconclusive", str(doubt), fit.slopes, (), doubt)


def confirm(first: Judgement, again: Judgement, widest: str = "") -> Judgement:
    """What to report after a disagreement has been measured again on fresh seeds.

    A disagreement stands only if the second measurement disagrees by something that the first disagreed by; otherwise
    the row is inconclusive.  A first judgement that does not disagree needs no confirmation and is returned as it is.
    ``widest``: how far the second went, in words.
    """
    if first.verdict != "disagrees":
        return first
    found = again.verdict == "disagrees" and [miss for miss in first.misses if miss in again.misses]
    if found:
        return Judgement("disagrees", again.settle, again.slopes, tuple(found))
    where = f" at {widest}" if widest else ""
    doubt = Doubt(f"the first measurement disagreed, fresh seeds{where} did not confirm it", 2.0)
    return Judgement("inconclusive", str(doubt), again.slopes, (), doubt)


def combine(
    joint: Judgement, paths: Mapping[str, Judgement], several: bool, missing: Sequence[str] = ()
) -> Judgement:
    """One verdict from all settings of a row together and from the paths on which one of its terms leads.

    Args:
        joint: by all settings, with every term at any ratio.
        paths: per term, by the settings where it leads, against that term alone; with the slopes that it is to show.
        several: the row has several terms.  It agrees only if all settings together and each path do.  A single term,
            which a correction hides at small widths, agrees if either does and the other does not contradict.
        missing: terms whose path has not been measured.

    A path alone never refutes: where it is too short, another term is what it shows.
    """
    if joint.verdict == "disagrees":
        return joint
    slopes = {**joint.slopes, **{dim: s for path in paths.values() for dim, s in path.slopes.items()}}
    open_paths = {term: path for term, path in paths.items() if path.verdict != "agrees"}
    if several and not missing and not open_paths and joint.verdict == "agrees":
        return Judgement("agrees", "", slopes)
    if not several and (joint.verdict == "agrees" or (paths and not open_paths)):
        return Judgement("agrees", "", slopes)
    if missing:
        doubt = Doubt(f"the term {missing[0]} is not measured where it leads", 2.0)
    elif open_paths and several:
        term, path = next(iter(open_paths.items()))
        old = path.doubt or Doubt("the slope is not that of the term", math.inf)
        doubt = replace(old, reason=f"where {term} leads, {old.reason}")
    else:
        doubt = min((j.doubt for j in (joint, *open_paths.values()) if j.doubt), key=lambda d: d.times, default=None)
    return Judgement("inconclusive", str(doubt) if doubt else joint.settle, slopes, (), doubt)


def seeds_needed(fit: Fit, tolerance: float) -> float:
    """About how many times as many seeds would fit every excess interval into ±``tolerance``, its centre staying put.

    At most 1 if the intervals fit already; inf if a centre lies outside, or if there is nothing finite to go by.
    Degrees of freedom that grow with the seeds are taken into account.  An overestimate where a free constant's bound
    rather than the noise ends the interval.
    """
    return max((_times(fit, dim, tolerance, inside=True) for dim in fit.excess), default=math.inf)


def _times(fit: Fit, dim: str, tolerance: float, inside: bool) -> float:
    """Times as many seeds until the interval of ``dim`` lies wholly inside, or else wholly outside, ±tolerance."""
    e = fit.excess[dim]
    if (abs(e.slope) < tolerance) != inside or abs(e.slope) == tolerance:
        return math.inf
    if inside:
        ratio = max((e.high - e.slope) / (tolerance - e.slope), (e.slope - e.low) / (tolerance + e.slope))
    else:
        ratio = (e.high - e.slope if e.slope < 0 else e.slope - e.low) / (abs(e.slope) - tolerance)
    if ratio <= 1:
        return ratio**2
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]  # scipy ships none

    def shrinks(times: float) -> float:
        now, then = (float(stdtrit(fit.freedom[dim] * m, fit.alpha / 2)) for m in (1, times))
        return then / now / math.sqrt(times)

    few, many = 1.0, ratio**2  # t quantiles only fall, so that ratio² is enough
    while many > 1.01 * few:
        middle = math.sqrt(few * many)
        few, many = (few, middle) if shrinks(middle) * ratio <= 1 else (middle, many)
    return many


def _not_finite(unusable: Sequence[Unusable], undefined: bool) -> str:
    places: list[str] = []
    for u in unusable:
        counts = [f"{n} {word}" for n, word in ((u.zeros, "zero"), (u.undefined, "infinite or undefined")) if n]
        widths = ", ".join(f"{d}={n}" for d, n in u.widths.items())
        places.append(f"{widths} ({' and '.join(counts)} of {u.seeds} seeds)")
    more = f" and {len(places) - 3} more settings" if len(places) > 3 else ""
    advice = "use smaller prefactors or a higher precision" if undefined else "leave these widths out"
    return f"the measurement is not finite at {'; '.join(places[:3])}{more}; {advice}."


def _missing_logs(fit: Fit) -> dict[str, str]:
    out: dict[str, str] = {}
    for dim, log in fit.logs.items():
        coming = log.change is not None and log.change.low > 0
        if coming and log.change is not None and log.surplus.slope + STRETCHES * log.change.slope > 0:
            continue
        if log.surplus.high < 0:
            short = f"the slope in {dim} lies {_range(log.surplus, -1)} short of the least that it would add"
            out[f"log {dim} missing"] = f"the factor {_log(dim, log)} does not show: {short}."
    return out


def _outside(fit: Fit, tolerance: float) -> dict[str, str]:
    out: dict[str, str] = {}
    for dim, e in fit.excess.items():
        if _beyond(e, tolerance) and not _drifts_home(fit, dim, tolerance):
            side, word = ("above", "more") if e.low > 0 else ("below", "less")
            off = _range(e, 1 if e.low > 0 else -1)
            out[f"{dim} {side}"] = f"the slope in {dim} is {off} {word} than derived (tolerance {tolerance:g})."
    return out


def _doubt(fit: Fit, tolerance: float) -> Doubt | None:
    """The first reason why a row that does not disagree does not agree either; None if it does."""
    for term in fit.unneeded:
        return Doubt(f"the term {term} does not show ({fit.shares[term].high:.0%} of size² at most)", wider=_dims(term))
    for dim, log in fit.logs.items():
        if log.misfit:
            return Doubt(f"the size does not bend in {dim} as {_log(dim, log)} does", wider=(dim,))
        if log.surplus.high < 0:
            return Doubt(f"the factor {_log(dim, log)} begins to show only at the upper widths", wider=(dim,))
        if not log.surplus.low > 0:
            return Doubt(f"{_log(dim, log)} does not stand out from a constant beside it", wider=(dim,))
    for dim, e in fit.excess.items():
        drift = fit.drift.get(dim)
        if drift is not None and (_beyond(e, tolerance) or (_within(e, tolerance) and _beyond(drift.upper, tolerance))):
            below, above = drift.lower.slope, drift.upper.slope
            words = f"the slope in {dim} still drifts with width (off by {below:.2f} below, {above:.2f} above the middle)"
            return Doubt(words, wider=(dim,))
    wide = {dim: e for dim, e in fit.excess.items() if not _within(e, tolerance)}
    times = {d: min(_times(fit, d, tolerance, inside=inside) for inside in (True, False)) for d in wide}
    for dim in sorted(wide, key=lambda d: -times[d]):
        e = wide[dim]
        return Doubt(f"the slope in {dim} is off by {e.low:.2f} to {e.high:.2f}", times[dim], (dim,))
    return None if fit.excess else Doubt("too few width settings with finite samples")


def _dims(term: Scale) -> tuple[str, ...]:
    return tuple(sorted(d for d in term.dims if term.power(d) > 0 or term.log_power(d) > 0))


def _drifts_home(fit: Fit, dim: str, tolerance: float) -> bool:
    """Does the local slope significantly approach the derived one, fast enough to get there in a few more stretches?"""
    if dim not in fit.drift:
        return False
    e, drift = fit.excess[dim], fit.drift[dim]
    toward = drift.change.high < 0 if e.slope > 0 else drift.change.low > 0
    return toward and abs(drift.upper.slope) - STRETCHES * abs(drift.change.slope) <= tolerance


def _within(slope: Slope, tolerance: float) -> bool:
    return -tolerance <= slope.low and slope.high <= tolerance


def _beyond(slope: Slope, tolerance: float) -> bool:
    return slope.low > tolerance or slope.high < -tolerance


def _range(slope: Slope, sign: int) -> str:
    low, high = sorted((sign * slope.low, sign * slope.high))
    return f"{sign * slope.slope:.3f} ({low:.3f} to {high:.3f})"


def _log(dim: str, log: LogFactor) -> str:
    return f"log {dim}" if log.power == 1 else f"(log {dim})^{log.power:g}"
