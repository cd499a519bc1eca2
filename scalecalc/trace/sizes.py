"""Which axis is which growing dim: sizes at several width settings, compared.

The module is traced at a base setting and once more for every dim, with that dim alone doubled.  A number that belongs to
the trace (the size of an axis, a factor in the code) is then one number per setting, a :data:`Sizes`, and how it changes says
what it is made of: c · ∏ dim^power, with powers that are read off one dim at a time.  Equal sizes are never taken for one
another, since no axis is recognised by its size.

>>> known = Settings({"N": 8, "M": 8}, ({"N": 8, "M": 8}, {"N": 16, "M": 8}, {"N": 8, "M": 16}))
>>> known.form((32, 64, 32)), known.form((8, 8, 8)), known.form((9, 17, 9)) is None
(Form(coefficient=Fraction(4, 1), powers=(('N', Fraction(1, 1)),)), Form(coefficient=Fraction(8, 1), powers=()), True)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from scalecalc.scale import Scale

Sizes = tuple[int, ...]
FINEST = 4  # the largest denominator of a power
ROUNDING = 1e-9
WHOLE = 10_000  # a coefficient with a smaller denominator is taken for exact


@dataclass(frozen=True)
class Form:
    """coefficient · ∏ dim^power.  A coefficient that is no small fraction is the nearest binary one."""

    coefficient: Fraction
    powers: tuple[tuple[str, Fraction], ...]

    @property
    def scale(self) -> Scale:
        return Scale(dict(self.powers))

    @property
    def dim(self) -> str | None:
        """The dim that it is a constant multiple of, if it is of one."""
        return self.powers[0][0] if len(self.powers) == 1 and self.powers[0][1] == 1 else None


@dataclass(frozen=True)
class Settings:
    """The widths that a module is traced at: the base, then one setting per dim with that dim doubled."""

    base: Mapping[str, int]
    all: tuple[Mapping[str, int], ...]

    @staticmethod
    def around(base: Mapping[str, int]) -> Settings:
        return Settings(dict(base), (dict(base), *({**base, dim: 2 * width} for dim, width in base.items())))

    def form(self, values: Sequence[float]) -> Form | None:
        """What a number is made of; None if it is no product of powers of the dims."""
        first = values[0]
        if any(not math.isfinite(v) for v in values):
            return None
        if all(v == first for v in values):
            return Form(_fraction(first), ())
        if any(v * first <= 0 for v in values):
            return None
        powers: list[tuple[str, Fraction]] = []
        coefficient = float(first)
        for dim, value in zip(self.base, values[1:], strict=True):
            exact = math.log2(value / first)
            power = Fraction(exact).limit_denominator(FINEST)
            if abs(exact - power) > ROUNDING:
                return None
            if power:
                powers.append((dim, power))
                coefficient /= self.base[dim] ** float(power)
        return Form(_fraction(coefficient), tuple(powers))

    def factors(self, size: Sizes) -> tuple[Sizes, ...]:
        """Sizes that are each a width, the last one times a constant, and make this one together: itself, if none do."""
        form = self.form(size)
        if form is None or not form.powers or form.dim is not None:
            return (size,)
        if any(power.denominator != 1 or power < 1 for _, power in form.powers):
            return (size,)
        dims = [dim for dim, power in form.powers for _ in range(int(power))]
        widths = [tuple(setting[dim] for setting in self.all) for dim in dims]
        rest = times(*widths[:-1])
        found = (*widths[:-1], tuple(s // r for s, r in zip(size, rest, strict=True)))
        return found if times(*found) == size else (size,)

    def words(self, values: Sequence[float]) -> str:
        """The number at every setting, for messages: ``17 at N=8, 33 at N=16``."""
        return ", ".join(
            f"{value} at " + " ".join(f"{d}={w}" for d, w in setting.items())
            for value, setting in zip(values, self.all, strict=True)
        )


def _fraction(value: float) -> Fraction:
    exact = Fraction(value)
    near = exact.limit_denominator(WHOLE)
    return near if abs(float(near) - value) <= 4e-16 * abs(value) else exact


def times(*sizes: Sequence[int]) -> Sizes:
    """The product, setting by setting."""
    return tuple(map(math.prod, zip(*sizes, strict=True)))


def plus(a: Sequence[int], b: Sequence[int]) -> Sizes:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def minus(a: Sequence[int], b: Sequence[int]) -> Sizes:
    return tuple(x - y for x, y in zip(a, b, strict=True))
