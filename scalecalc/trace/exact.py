"""Numbers that are a function of the index along an axis: which, if it is one that is known, verified to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import sympy as sp
import torch

from scalecalc.asymptotics import N, n

ROUNDING = 2e-6  # of single precision, through a logarithm and back
PROFILES: Sequence[sp.Expr] = (n, sp.log(n + 1), 1 / (n + 1), sp.sqrt(n + 1), 1 / sp.sqrt(n + 1), (n + 1) ** 2, 2**-n)


def same_along(v: torch.Tensor, axis: int) -> bool:
    first = v.narrow(axis, 0, 1)
    return bool(((v - first).abs() <= ROUNDING * first.abs()).all())


def number(value: float) -> sp.Expr:
    near = Fraction(value).limit_denominator(1000)
    if abs(float(near) - value) <= ROUNDING * abs(value):
        return sp.Rational(near.numerator, near.denominator)
    return sp.Float(value, 8)


def function_of_index(lines: Sequence[torch.Tensor]) -> sp.Expr | None:
    """The expression in n (and N, the length) that lines of several lengths are, to rounding; None if there is none."""
    found = (_fitted(profile, lines) for profile in PROFILES)
    return next((f for f in found if f is not None), None) or _geometric(lines)


def _fitted(profile: sp.Expr, lines: Sequence[torch.Tensor]) -> sp.Expr | None:
    """a · profile + b, with the numbers that the first line gives, if it is every line to rounding."""
    f = sp.lambdify(n, profile, "math")
    if max(map(len, lines)) < 3 or min(map(len, lines)) < 2:
        return None
    y0, y1 = float(lines[0][0]), float(lines[0][1])
    f0, f1 = float(f(0)), float(f(1))
    a = (y1 - y0) / (f1 - f0)
    a, b = number(a), number(y0 - float(a) * f0)
    for line in lines:
        size = float(line.abs().max())
        for k in range(len(line)):
            if abs(float(a) * f(k) + float(b) - float(line[k])) > ROUNDING * max(size, 1e-30):
                return None
    return a * profile + b


def _geometric(lines: Sequence[torch.Tensor]) -> sp.Expr | None:
    """a · exp(−b · n/N), N the length of the axis, with the numbers that the longest line gives, if it is every line."""
    line = max(lines, key=len)
    if max(map(len, lines)) < 3 or min(map(len, lines)) < 2 or not all(bool((own > 0).all()) for own in lines):
        return None
    a, b = float(line[0]), float((line[0] / line[-1]).log()) * len(line) / (len(line) - 1)
    for own in lines:
        index = torch.arange(len(own), dtype=torch.float64)
        if float((a * torch.exp(-b * index / len(own)) / own - 1).abs().max()) > 10 * ROUNDING:
            return None
    return number(a) * sp.exp(-number(b) * n / N)
