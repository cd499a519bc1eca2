"""How the entries of a contribution vary along one axis, and what sums over that axis give.

A sum of entries that turn nearly cancels, so a profile has a phase beside its modulus (hard case W7).  A contribution may
be there at some indices only, between two that grow with the width (hard case W5): a profile has a window then.

Labels: a growing axis has a label, the name of its dim and any number of primes.  ``N_u`` and ``N_u'`` are two axes of one
dim (the two sides of a square weight).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache

from scalecalc.scale import ZERO, Scale

HERE = "•"  # in a source, the label of the axis that was summed: its dim and this mark
HALF = Fraction(1, 2)
ONE = Scale.one()


def dim_of(label: str) -> str:
    """The dim of a label: ``N_u`` for ``N_u``, ``N_u'`` and ``N_u•``."""
    return label.rstrip("'" + HERE)


def count(labels: Iterable[str]) -> Scale:
    """The number of entries along some axes, ∏ N over their dims."""
    out = ONE
    for label in labels:
        out = out * Scale.of(dim_of(label))
    return out


@dataclass(frozen=True, slots=True)
class Bound:
    """An index that grows with the widths, such as N^(1/2): where a window begins or ends.

    ``key``: what it is compared by, powers and logs in turn.  Along one axis, in one regime, indices between the first
    and the last are totally ordered (:func:`scalecalc.window.bound`); scales are not, and the product of two profiles
    knows no regime.
    """

    key: tuple[Fraction, ...]
    scale: Scale


@dataclass(frozen=True, slots=True)
class Profile:
    """How entries vary along one axis: index^(−power) · (log index)^log, or exponentially falling; times a phase.

    phase: k where the entries turn as the k-th power of the transition's exponential does, e^(ikφ); products add it and
        conjugation negates it.  Only whether it is zero decides a sum.
    scattered: the angles φ are as good as independent from one index to the next, instead of proportional to the index.
    period: at a resonance, the power at which it ceases to turn; 0 if there is none.
    imaginary: i times something real (or that with signs).  Where the entries turn both parts are there, and the flag is off.
    low, high: the window of indices in which the entries are there at all; None is the first and the last index.  A size is
        still that at index 1, extrapolated: entries at n are size · n^(−power) within the window.
    """

    power: Fraction = ZERO
    log: Fraction = ZERO
    decaying: bool = False
    phase: Fraction = field(default=ZERO, repr=False)
    scattered: bool = field(default=False, repr=False)
    imaginary: bool = field(default=False, repr=False)
    period: int = field(default=0, repr=False)
    low: Bound | None = field(default=None, repr=False)
    high: Bound | None = field(default=None, repr=False)

    def __hash__(self) -> int:
        """By integers, which are hashed ten times as fast as a Fraction."""
        turn = self.phase.as_integer_ratio(), self.scattered, self.imaginary, self.period
        return hash((self.power.as_integer_ratio(), self.log.as_integer_ratio(), self.decaying, turn, self.low, self.high))

    @property
    def modulus(self) -> Profile:
        """The same without its phase."""
        if not self.phase and not self.imaginary:
            return self
        return Profile(self.power, self.log, self.decaying, low=self.low, high=self.high)

    @property
    def windowed(self) -> bool:
        return self.low is not None or self.high is not None

    @property
    def empty(self) -> bool:
        """Is it nowhere: does its window end before it begins, or begin where an exponential is below every power?"""
        if self.low is None:
            return False
        if self.decaying and any(self.low.key[::2]):
            return True
        return self.high is not None and self.low.key > self.high.key

    def within(self, low: Bound | None, high: Bound | None) -> Profile:
        """The same in the part of its window that lies in another."""
        if self.low is not None and (low is None or low.key <= self.low.key):
            low = self.low
        if self.high is not None and (high is None or high.key >= self.high.key):
            high = self.high
        return self if low is self.low and high is self.high else replace(self, low=low, high=high)

    def covers(self, other: Profile) -> bool:
        """Is it there wherever the other is?"""
        if self.low is not None and (other.low is None or other.low.key < self.low.key):
            return False
        return self.high is None or (other.high is not None and other.high.key <= self.high.key)

    @property
    def straight(self) -> bool:
        """Is the phase 0 or half a turn, so that real stays real?"""
        return not self.phase or bool(self.period) and 2 * self.phase % self.period == 0

    @property
    def turn(self) -> Profile:
        """The phase alone."""
        return Profile(ZERO, ZERO, False, self.phase, self.scattered, self.imaginary, self.period)

    def ends(self, dim: str) -> tuple[Scale, Scale]:
        """Its values at the first and at the last index of its window; an exponential is not followed that far."""
        begin, end = self._at(self.low.scale if self.low else ONE, dim), ONE
        if not self.decaying:
            end = self._at(self.high.scale if self.high else Scale.of(dim), dim)
        return begin, end

    def _at(self, index: Scale, dim: str) -> Scale:
        """Its value at an index.  The logarithm of an index is that of the dim, or less where the regime has one of no power
        of it."""
        return index**-self.power * (Scale.log(dim, self.log) if self.log and index.powers else ONE)

    @property
    def conjugate(self) -> Profile:
        return replace(self, phase=-self.phase % self.period if self.period else -self.phase) if self.phase else self

    def __mul__(self, other: Profile) -> Profile:
        if self.low is not None or self.high is not None or other.low is not None or other.high is not None:
            bare = replace(self, low=None, high=None) * replace(other, low=None, high=None)
            return bare.within(self.low, self.high).within(other.low, other.high)
        if self.decaying or other.decaying:
            return Profile(decaying=True, imaginary=self.imaginary != other.imaginary)
        phase, period = self.phase + other.phase, self.period or other.period
        phase = phase % period if period else phase
        scattered = bool(phase) and (self.scattered or other.scattered)
        straight = not phase or bool(period) and 2 * phase % period == 0
        imaginary = straight and self.imaginary != other.imaginary
        period = period if phase else 0
        return Profile(self.power + other.power, self.log + other.log, False, phase, scattered, imaginary, period)

    def __pow__(self, power: Fraction | int) -> Profile:
        """The power of the modulus."""
        p = Fraction(power)
        if self.decaying:
            return (DECAYING if p > 0 else FLAT).within(self.low, self.high)
        return Profile(self.power * p, self.log * p, low=self.low, high=self.high)

    def sum(self, dim: str) -> Scale:
        """Θ of Σ_{n=1}^{N} of the profile (law of large numbers).

        What turns evenly with the index cancels up to its ends, max(1, N^(−power)) (Abel summation); scattered phases
        leave the root of the sum of squares.

        >>> print(Profile(Fraction(1)).sum("N_x"), "|", Profile(Fraction(1, 2)).sum("N_x"), "|", DECAYING.sum("N_x"))
        log N_x | N_x^(1/2) | 1
        >>> print(Profile(phase=Fraction(1)).sum("N_x"), "|", Profile(Fraction(-1), phase=Fraction(1)).sum("N_x"))
        1 | N_x
        >>> root = Bound((HALF,), Scale.of("N_x", HALF))
        >>> print(Profile(high=root).sum("N_x"), "|", Profile(Fraction(2), low=root).sum("N_x"))
        N_x^(1/2) | N_x^(-1/2)
        """
        if self.phase and self.scattered:
            return self.norm(dim)
        if self.low is not None or self.high is not None:
            return self._windowed_sum(dim)
        if self.decaying or self.power > 1:
            return ONE
        if self.phase:
            grows = self.power < 0 or (self.power == 0 and self.log > 0)
            return Scale({dim: -self.power}, {dim: self.log}) if grows else ONE
        if self.power < 1:
            return Scale({dim: 1 - self.power}, {dim: self.log})
        return Scale((), {dim: self.log + 1}) if self.log > -1 else ONE

    def _windowed_sum(self, dim: str) -> Scale:
        """The same over a window [L, H]: H^(1−power), a logarithm, or L^(1−power); in power 1 the log of H/L is that of N."""
        begin, end = (bound.scale if bound else other for bound, other in ((self.low, ONE), (self.high, Scale.of(dim))))
        first, last = self.ends(dim)
        if self.decaying:
            return first
        if self.phase:
            return last if self.power < 0 or (self.power == 0 and self.log > 0) else first
        if self.power != 1:
            return last * end if self.power < 1 else first * begin
        if self.low is not None and self.high is not None and self.low.key == self.high.key:
            return last * end
        if self.log < -1:
            return first * begin * (Scale.log(dim) if begin.powers else ONE)
        return Scale.log(dim, self.log + 1) if end.powers else ONE

    def norm(self, dim: str) -> Scale:
        """Θ of (Σ_{n=1}^{N} |profile|²)^(1/2) (central limit, and the Euclidean norm)."""
        if self is FLAT:  # most are
            return _flat_norm(dim)
        return (self**2).sum(dim) ** HALF

    def bounded_by(self, other: Profile) -> bool:
        """Do these entries fall at least as fast as the other's, index by index, and turn alike?"""
        if self.imaginary != other.imaginary or not other.covers(self):
            return False
        if self.decaying:
            return True
        if other.decaying or self.phase != other.phase:
            return False
        return (self.power, -self.log) >= (other.power, -other.log)

    def excess(self, other: Profile, dim: str) -> Scale | None:
        """The largest ratio of these entries to the other's within the window; None where it has no bound but infinity."""
        if self.imaginary != other.imaginary or not other.covers(self):
            return None
        if self.decaying:
            return ONE
        if other.decaying or self.phase != other.phase:
            return None
        ratio = replace(self.modulus, power=self.power - other.power, log=self.log - other.log)
        first, last = ratio.ends(dim)
        return first if (ratio.power, -ratio.log) >= (ZERO, ZERO) else last

    def words(self) -> str:
        turning = ("random phases" if self.scattered else "turning with the index") if self.phase else ""
        where = f"from n = {self.low.scale} " if self.low else ""
        where += f"up to n = {self.high.scale}" if self.high else "on" if self.low else ""
        if self.low is not None and self.low == self.high:
            where = f"about n = {self.low.scale}"
        power = f"^({-self.power})" if self.power not in (0, -1) else ("" if self.power else "^0")
        parts = ([f"n{power}"] if self.power else []) + ([f"(log n)^({self.log})"] if self.log else [])
        bare = "falls exponentially" if self.decaying else " ".join(parts) or "flat"
        return ", ".join(filter(None, (bare, "" if self.decaying else turning, where)))


FLAT = Profile()


@cache
def _flat_norm(dim: str) -> Scale:
    return Scale.of(dim, HALF)


DECAYING = Profile(decaying=True)

Profiles = tuple[tuple[str, Profile], ...]
