"""How the entries of a contribution vary along one axis, and what sums over that axis give.

Labels: a growing axis has a label, the name of its dim and any number of primes.  ``N_u`` and ``N_u'`` are two axes of one
dim (the two sides of a square weight).
"""

from __future__ import annotations

from dataclasses import dataclass
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
    """How entries vary along one axis: index^(−power) · (log index)^log, or exponentially falling."""

    power: Fraction = ZERO
    log: Fraction = ZERO
    decaying: bool = False

    def __mul__(self, other: Profile) -> Profile:
        if self.decaying or other.decaying:
            return DECAYING
        return Profile(self.power + other.power, self.log + other.log)

    def __pow__(self, power: Fraction | int) -> Profile:
        p = Fraction(power)
        if self.decaying:
            return DECAYING if p > 0 else FLAT
        return Profile(self.power * p, self.log * p)

    def sum(self, dim: str) -> Scale:
        """Θ of Σ_{n=1}^{N} of the profile (law of large numbers).

        >>> print(Profile(Fraction(1)).sum("N_x"), "|", Profile(Fraction(1, 2)).sum("N_x"), "|", DECAYING.sum("N_x"))
        log N_x | N_x^(1/2) | 1
        """
        if self.decaying or self.power > 1:
            return ONE
        if self.power < 1:
            return Scale({dim: 1 - self.power}, {dim: self.log})
        return Scale((), {dim: self.log + 1}) if self.log > -1 else ONE

    def norm(self, dim: str) -> Scale:
        """Θ of (Σ_{n=1}^{N} profile²)^(1/2) (central limit, and the Euclidean norm)."""
        return (self**2).sum(dim) ** HALF

    def bounded_by(self, other: Profile) -> bool:
        """Do these entries fall at least as fast as the other's, index by index?"""
        if self.decaying:
            return True
        return not other.decaying and (self.power, -self.log) >= (other.power, -other.log)

    def words(self) -> str:
        if self.decaying:
            return "falls exponentially"
        power = f"^({-self.power})" if self.power not in (0, -1) else ("" if self.power else "^0")
        parts = ([f"n{power}"] if self.power else []) + ([f"(log n)^({self.log})"] if self.log else [])
        return " ".join(parts) or "flat"


FLAT = Profile()
DECAYING = Profile(decaying=True)

Profiles = tuple[tuple[str, Profile], ...]
