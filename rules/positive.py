"""Powers of what is positive: roots and reciprocals, of a sum of squares or of exponentials, say.

Their argument has a mean that is as large as it is itself, about which they are expanded.  Of an argument of either sign they
have no law: a reciprocal then has no second moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import sympy as sp

from scalecalc import window
from scalecalc.asymptotics import Function, OneSided, X, x
from scalecalc.expand import Local, expand
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import register, registry
from scalecalc.rules.elementwise import Elementwise, _record, square
from scalecalc.scale import Scale
from scalecalc.term import Step
from scalecalc.value import Algebra, Value


class _OfPositive(Elementwise):
    """A function that knows one half-line alone, expanded there."""

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        (value,) = values
        if value.exact is not None:
            return super().law(algebra, op, labels, *values)
        return expand(OneSided(self.derivative(op.params["order"])), labels, values, algebra)


class Power(_OfPositive):
    """A power of each entry, which is positive: size and profile to that power."""

    @property
    def words(self) -> str:
        return f"{self.expression} of positive entries: the size to that power, what varies about the mean to first order."

    def derivative(self, order: int) -> Function:
        return Function(_derivative(self.expression, order), sp.Integer(0))

    def sample(self, program: Program) -> Tensor:
        argument = square(program.input("x", "batch N")) + program.index("one", "", sp.Integer(1))
        return _record(self.name, argument, 0)


@cache
def _derivative(expression: sp.Expr, order: int) -> sp.Expr:
    return sp.diff(expression.subs(x, X), X, order)


def power(name: str, exponent: str) -> Callable[[Tensor], Tensor]:
    """Register x to a power for x > 0; returns its recorder."""
    register("rule", name, Power(name, x ** sp.Rational(exponent), "definition"))
    return lambda tensor: _record(name, tensor, 0)


class _Bounded(OneSided):
    """exp(−x) and its derivatives: no more than of order one, however large the argument."""

    def partial(self, argument: int) -> _Bounded:
        return _Bounded(self.function.derivative)

    def local(self, size: str) -> tuple[Local, ...]:
        return super().local("one")


class Decay(Elementwise):
    """exp(−x) of what is never negative: of order one while x is, and never more.

    Of a large argument the law is an upper bound.  A softplus of one is zero for half of the entries and large for the
    others, and the decay is of order one at as many; what is large everywhere leaves less.
    """

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        (value,) = values
        if value.exact is not None:
            return super().law(algebra, op, labels, *values)
        found = expand(_Bounded(self.derivative(op.params["order"])), labels, values, algebra)
        if not any(algebra.regime.order(v, Scale.one()) == 1 for t in value.terms for v in window.values(t)):
            return found
        text = f"the decay at {algebra.at} is by something large and is taken to be of order one, an upper bound"
        return replace(found, terms=tuple(replace(t, why=_noted(t.why, text)) for t in found.terms))

    def sample(self, program: Program) -> Tensor:
        return _record(self.name, square(program.input("x", "batch N")), 0)


def _noted(why: Step | None, text: str) -> Step | None:
    return why and replace(why, assumption="; ".join(filter(None, (why.assumption, text))))


register("rule", "decay", Decay("decay", sp.exp(-x), "definition"))


def decay(tensor: Tensor) -> Tensor:
    """exp(−x) entry by entry, of x ≥ 0."""
    return _record("decay", tensor, 0)


class Log1p(_OfPositive):
    """log(1 + x) of what is never negative: as large as x where that is small, else of order one, but for a logarithm."""

    def sample(self, program: Program) -> Tensor:
        return _record(self.name, square(program.input("x", "batch N")), 0)


def family(exponent: float) -> Callable[[Tensor], Tensor]:
    """x to a power for x > 0, registered when it is first used."""
    name = f"power({exponent:g})"
    if name not in registry("rule"):
        register("rule", name, Power(name, x ** sp.nsimplify(exponent, rational=True), "definition"))
    return lambda tensor: _record(name, tensor, 0)


def log1p(tensor: Tensor) -> Tensor:
    """log(1 + x) entry by entry, of x ≥ 0."""
    return _record("log1p", tensor, 0)


def log(tensor: Tensor) -> Tensor:
    """log(x) entry by entry, of x > 0."""
    return _record("log", tensor, 0)


register("rule", "log1p", Log1p("log1p", sp.log(1 + x), "definition"))
register("rule", "log", Power("log", sp.log(x), "definition"))
reciprocal = power("reciprocal", "-1")
root = power("root", "1/2")
reciprocal_root = power("reciprocal_root", "-1/2")
