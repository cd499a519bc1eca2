"""Functions applied entry by entry.  A new one is one line at the end of this file: its name and its sympy expression.

Parity, growth, Taylor orders and derivatives are read off the expression by sympy; the law is hard case W1 (see
``scalecalc.expand``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import sympy as sp

from scalecalc.asymptotics import INFINITE, Function, OneVariable, X, growth, is_zero, n, x
from scalecalc.errors import UnknownName, UnsupportedScale
from scalecalc.expand import expand
from scalecalc.indexed import Indexed
from scalecalc.memory import Entries, image
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, register, registry
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

_ARGUMENT = sp.Symbol("argument", real=True)


class Elementwise(Rule):
    """A function of each entry: parts odd in every subset of the leading terms that its parity allows."""

    def __init__(self, name: str, expression: sp.Expr, source: str):
        self.name, self.expression, self.source = name, expression, source

    @property
    def words(self) -> str:
        return f"{self.expression}, entry by entry: parts odd in every subset of the leading terms that its parity allows."

    def derivative(self, order: int) -> Function:
        f = _function(self.expression)
        for _ in range(order):
            f = f.derivative
        return f

    nameless = True

    def saturates(self, op: Op) -> bool:
        return OneVariable(self.derivative(op.params["order"])).homogeneous is None

    def degrees(self, op: Op, *values: Value) -> Sequence[float] | None:
        degree = OneVariable(self.derivative(op.params["order"])).homogeneous
        return None if degree is None else (float(degree),)

    def entries(self, op: Op, *inputs: Entries | None) -> Entries | None:
        (of,) = inputs
        return image(_real(self.derivative(op.params["order"])), of) if of is not None else None

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        (value,) = values
        f = self.derivative(op.params["order"])
        if value.exact is None:
            return expand(OneVariable(f), labels, values, algebra)
        # The argument is known exactly: compose, and let sympy find the profile of the composition.
        side = f.plus.subs(X, _ARGUMENT) if _positive(value.exact) else f.minus.subs(X, -_ARGUMENT)
        label = labels[-1] if labels and value.exact.has(n) else ""  # the index runs along the last axis
        out = expand(Indexed(side, (_ARGUMENT,), (value.exact,), label), labels, values, algebra)
        return Value(out.labels, out.terms, side.subs(_ARGUMENT, value.exact))

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        order = output.op.params["order"] + 1
        derivative = self.derivative(order)
        if is_zero(derivative.plus) and is_zero(derivative.minus):
            return [None]  # at most a delta: seen by what moves the argument, not by a gradient
        return [g * _record(self.name, inputs[0], order)]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        import torch

        plus, minus = _numeric(self.derivative(op.params["order"]))
        (value,) = tensors
        size = value.abs()
        return torch.where(value > 0, plus(size), minus(size))

    def latex(self, op: Op, *names: str) -> str:
        return rf"\operatorname{{{self.name}}}{chr(39) * op.params['order']}\left({names[0]}\right)"

    def sample(self, program: Program) -> Tensor:
        argument = program.input("x", "batch N") + program.input("z", "batch N")
        if _overflows(self.expression):
            argument = argument * program.index("scale", "", sp.Rational(1, 4))  # its tail is too heavy to be measured
        return _record(self.name, argument, 0)


@cache
def _function(expression: sp.Expr) -> Function:
    return Function.of(expression)


def _overflows(expression: sp.Expr) -> bool:
    """Does it grow faster than any power on either side?  (A sine does not, though it follows no power either.)"""
    try:
        return INFINITE in (growth(expression.subs(x, X), X), growth(expression.subs(x, -X), X))
    except UnsupportedScale:
        return False


def _positive(expression: sp.Expr) -> bool:
    return bool(sp.limit(expression, n, sp.oo) > 0)


@cache
def _real(f: Function) -> Callable[[float], float]:
    """The function of a number."""
    plus, minus = (sp.lambdify(X, half, "math") for half in (f.plus, f.minus))
    return lambda value: float(plus(value) if value > 0 else minus(-value))


@cache
def _numeric(f: Function) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Both half-lines as functions of torch tensors."""
    import torch

    names = {"exp": torch.exp, "erf": torch.erf, "log": torch.log, "tanh": torch.tanh, "sqrt": torch.sqrt}
    names |= {"cos": torch.cos, "sin": torch.sin, "tan": torch.tan, "atan": torch.atan}
    names |= {"sinh": torch.sinh, "cosh": torch.cosh}

    def half(expression: sp.Expr) -> Callable[[Any], Any]:
        # constants as numbers: torch's functions take tensors only (gelu has sqrt(2))
        numeric = expression.replace(lambda e: e.is_number and not e.is_Rational, lambda e: e.evalf(17))
        call = sp.lambdify(X, numeric, modules=[names, "math"])
        return lambda t: call(t) if expression.has(X) else torch.full_like(t, float(expression))

    return half(f.plus), half(f.minus)


def _record(name: str, tensor: Tensor, order: int) -> Tensor:
    called = f"{name}{'′' * order}({tensor.name})" if order else ""  # else a derivative would have its function's name
    return tensor.program.record(name, (tensor,), tensor.axes, name=called if len(called) <= 24 else "", order=order)


def elementwise(name: str, expression: Any, source: str = "definition") -> Callable[[Tensor], Tensor]:
    """Register a function of one variable, given in the symbol ``scalecalc.asymptotics.x``; returns its recorder."""
    register("rule", name, Elementwise(name, sp.sympify(expression, strict=True), source))
    return lambda tensor: _record(name, tensor, 0)


identity = elementwise("identity", x)
relu = elementwise("relu", sp.Max(0, x))
tanh = elementwise("tanh", sp.tanh(x))
sigmoid = elementwise("sigmoid", 1 / (1 + sp.exp(-x)))
softplus = elementwise("softplus", sp.log(1 + sp.exp(x)))
silu = elementwise("silu", x / (1 + sp.exp(-x)), "Hendrycks & Gimpel 2016, arXiv 1606.08415")
gelu = elementwise("gelu", x * (1 + sp.erf(x / sp.sqrt(2))) / 2, "Hendrycks & Gimpel 2016, arXiv 1606.08415, erf form")
gelu_tanh = elementwise(
    "gelu_tanh",
    x * (1 + sp.tanh(sp.sqrt(2 / sp.pi) * (x + sp.Rational(44715, 1000000) * x**3))) / 2,
    "Hendrycks & Gimpel 2016, arXiv 1606.08415, tanh form",
)
exp = elementwise("exp", sp.exp(x))
square = elementwise("square", x**2)
absolute = elementwise("absolute", sp.Abs(x))
sign = elementwise("sign", sp.sign(x))
negative = elementwise("negative", -x)
cos = elementwise("cos", sp.cos(x))
sin = elementwise("sin", sp.sin(x))
erf = elementwise("erf", sp.erf(x))
log_sigmoid = elementwise("log_sigmoid", -sp.log(1 + sp.exp(-x)))
step = elementwise("step", (1 + sp.sign(x)) / 2)
expm1 = elementwise("expm1", sp.exp(x) - 1)
sinh = elementwise("sinh", sp.sinh(x))
cosh = elementwise("cosh", sp.cosh(x))
atan = elementwise("atan", sp.atan(x))


def leaky_relu(slope: float) -> Callable[[Tensor], Tensor]:
    """max(0, x) + slope · min(0, x)."""
    return _family(f"leaky_relu({slope:g})", sp.Max(0, x) + sp.nsimplify(slope, rational=True) * sp.Min(0, x))


def elu(alpha: float) -> Callable[[Tensor], Tensor]:
    """x for x > 0, else alpha · (exp(x) − 1).

    selu is a multiple of one whose mean vanishes for standard normal arguments: for these alone its sums are smaller than
    those of the others, and what is derived is an upper bound.
    """
    return _family(f"elu({alpha:g})", sp.Max(0, x) + sp.nsimplify(alpha, rational=True) * (sp.exp(sp.Min(0, x)) - 1))


def celu(alpha: float) -> Callable[[Tensor], Tensor]:
    """x for x > 0, else alpha · (exp(x / alpha) − 1)  (Barron 2017, arXiv 1704.07483)."""
    a = sp.nsimplify(alpha, rational=True)
    return _family(f"celu({alpha:g})", sp.Max(0, x) + a * (sp.exp(sp.Min(0, x) / a) - 1))


def _family(name: str, expression: sp.Expr) -> Callable[[Tensor], Tensor]:
    """One of a family of functions, registered when it is first used."""
    if name not in registry("rule"):
        elementwise(name, expression)
    return lambda tensor: _record(name, tensor, 0)


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The recorder of a registered function, by name.

    Raises:
        UnknownName: nothing of that name, or no function of each entry.
    """
    known = {key for key, value in registry("rule").items() if isinstance(value, Elementwise)}
    if name not in known:
        raise UnknownName("activation", name, known)
    return lambda tensor: _record(name, tensor, 0)
