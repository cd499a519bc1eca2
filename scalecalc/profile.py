"""How the entries of a contribution vary along one axis, and what sums over that axis give.

A sum of entries that turn nearly cancels, so a profile has a phase beside its modulus (hard case W7).

Labels: a growing axis has a label, the name of its dim and any number of primes.  ``N_u`` and ``N_u'`` are two axes of one
dim (the two sides of a square weight).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from scalecalc.scale import ZERO, Scale

HERE = "•"  # in a source, the label of the axis that was summed: its dim and this mark
HALF = Fraction(1, 2)
ONE = Scale.one()


def dim_of(label: str) -> str:
    """The dim of a label: ``N_u`` for ``N_u``, ``N_u'`` and ``N_u•``."""
    return label.rstrip("'" + HERE)


@dataclass(frozen=True, slots=True)
class Profile:
    """How entries vary along one axis: index^(−power) · (log index)^log, or exponentially falling; times a phase.

    phase: k where the entries turn as the k-th power of the transition's exponential does, e^(ikφ); products add it and
        conjugation negates it.  Only whether it is zero decides a sum.
    scattered: the angles φ are as good as independent from one index to the next, instead of proportional to the index.
    period: at a resonance, the power at which it ceases to turn; 0 if there is none.
    imaginary: i times something real (or that with signs).  Where the entries turn both parts are there, and the flag is off.
    """

    power: Fraction = ZERO
    log: Fraction = ZERO
    decaying: bool = False
    phase: Fraction = field(default=ZERO, repr=False)
    scattered: bool = field(default=False, repr=False)
    imaginary: bool = field(default=False, repr=False)
    period: int = field(default=0, repr=False)

    @property
    def modulus(self) -> Profile:
        """The same without its phase."""
        if not self.phase and not self.imaginary:
            return self
        return Profile(self.power, self.log, self.decaying)

    @property
    def straight(self) -> bool:
        """Is the phase 0 or half a turn, so that real stays real?"""
        return not self.phase or bool(self.period) and 2 * self.phase % self.period == 0

    @property
    def turn(self) -> Profile:
        """The phase alone."""
        return Profile(ZERO, ZERO, False, self.phase, self.scattered, self.imaginary, self.period)

    @property
    def conjugate(self) -> Profile:
        return replace(self, phase=-self.phase % self.period if self.period else -self.phase) if self.phase else self

    def __mul__(self, other: Profile) -> Profile:
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
            return DECAYING if p > 0 else FLAT
        return Profile(self.power * p, self.log * p)

    def sum(self, dim: str) -> Scale:
        """Θ of Σ_{n=1}^{N} of the profile (law of large numbers).

        What turns evenly with the index cancels up to its ends, max(1, N^(−power)) (Abel summation); scattered phases
        leave the root of the sum of squares.

        >>> print(Profile(Fraction(1)).sum("N_x"), "|", Profile(Fraction(1, 2)).sum("N_x"), "|", DECAYING.sum("N_x"))
        log N_x | N_x^(1/2) | 1
        >>> print(Profile(phase=Fraction(1)).sum("N_x"), "|", Profile(Fraction(-1), phase=Fraction(1)).sum("N_x"))
        1 | N_x
        """
        if self.phase and self.scattered:
            return self.norm(dim)
        if self.decaying or self.power > 1:
            return ONE
        if self.phase:
            grows = self.power < 0 or (self.power == 0 and self.log > 0)
            return Scale({dim: -self.power}, {dim: self.log}) if grows else ONE
        if self.power < 1:
            return Scale({dim: 1 - self.power}, {dim: self.log})
        return Scale((), {dim: self.log + 1}) if self.log > -1 else ONE

    def norm(self, dim: str) -> Scale:
        """Θ of (Σ_{n=1}^{N} |profile|²)^(1/2) (central limit, and the Euclidean norm)."""
        return (self**2).sum(dim) ** HALF

    def bounded_by(self, other: Profile) -> bool:
        """Do these entries fall at least as fast as the other's, index by index, and turn alike?"""
        if self.imaginary != other.imaginary:
            return False
        if self.decaying:
            return True
        if other.decaying or self.phase != other.phase:
            return False
        return (self.power, -self.log) >= (other.power, -other.log)

    def words(self) -> str:
        turning = ("random phases" if self.scattered else "turning with the index") if self.phase else ""
        if self.decaying:
            return "falls exponentially"
        power = f"^({-self.power})" if self.power not in (0, -1) else ("" if self.power else "^0")
        parts = ([f"n{power}"] if self.power else []) + ([f"(log n)^({self.log})"] if self.log else [])
        return ", ".join(filter(None, (" ".join(parts) or "flat", turning)))


FLAT = Profile()
DECAYING = Profile(decaying=True)

Profiles = tuple[tuple[str, Profile], ...]
