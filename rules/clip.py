"""Bounds on both sides (clamp, hardtanh, relu6, hardsigmoid): linear between two numbers, constant beyond them.

The corners are away from zero, so that no half-line's expression says all about them.  Near zero it is what it is there:
linear, a relu if one bound is zero, or constant; of large arguments it looks like a step.  Its derivative is of order one
where the argument is, and nothing where that is large; the second is so at the corners alone, which finitely many entries
in N are near.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import sympy as sp

from scalecalc.asymptotics import Function, OneVariable, X, x
from scalecalc.expand import Local, expand
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import register, registry
from scalecalc.rules.elementwise import Elementwise, _record
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

ZERO = Fraction(0)


@dataclass(frozen=True)
class Bent(OneVariable):
    """A bound on both sides, or its derivative of an order, as an expansion reads it.

    ``near``: what it is about zero.
    """

    near: OneVariable
    low: float
    high: float
    order: int = 0

    @property
    def zero(self) -> bool:
        return False

    @property
    def taylor(self) -> tuple[int, ...]:
        return () if self.near.zero else self.near.taylor

    @property
    def homogeneous(self) -> Fraction | None:
        return None

    def partial(self, argument: int) -> Bent:
        return Bent(self.function.derivative, self.near.partial(0), self.low, self.high, self.order + 1)

    @property
    def _parities(self) -> tuple[str, ...]:
        if self.low == -self.high:
            return ("odd",) if self.order % 2 == 0 else ("even",)
        return "even", "odd"

    def local(self, size: str) -> tuple[Local, ...]:
        """A step at large arguments, of both parities unless the bounds are opposite; a derivative is local there."""
        far = size == "large" and self.order > 0
        return tuple(Local(ZERO, parity, local=far) for parity in self._parities)

    @property
    def half(self) -> bool:
        return self.low == 0 or self.high == 0

    @property
    def vanishes(self) -> bool:
        return self.order == 0 and self.low <= 0 <= self.high

    @property
    def breaks(self) -> bool:
        return False


class Clip(Elementwise):
    """min(max(x, low), high): as a function of its argument's leading terms; a step where that is large."""

    def __init__(self, name: str, low: float, high: float):
        least, most = (sp.nsimplify(bound, rational=True) for bound in (low, high))
        super().__init__(name, sp.Min(sp.Max(x, least), most), "definition")
        self.low, self.high = low, high

    def derivative(self, order: int) -> Function:
        """About zero; beyond the corners :class:`Bent` knows it."""
        at_zero = sp.nsimplify(min(max(0, self.low), self.high), rational=True)
        up, down = self.low <= 0 < self.high, self.low < 0 <= self.high
        f = Function(at_zero + (X if up else 0), at_zero - (X if down else 0))
        for _ in range(order):
            f = f.derivative
        return f

    def saturates(self, op: Op) -> bool:
        return True

    def degrees(self, op: Op, *values: Value) -> Sequence[float] | None:
        return None

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        (value,) = values
        order = op.params["order"]
        f = self.derivative(order)
        if value.exact is not None and not value.exact.free_symbols:
            number = min(max(float(value.exact), self.low), self.high)
            return algebra.flat(labels, law=f"a constant within bounds: {number:g}")
        value = replace(value, exact=None)
        return expand(Bent(f, OneVariable(f), self.low, self.high, order), labels, [value], algebra)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [g * _record(self.name, inputs[0], 1)] if output.op.params["order"] == 0 else [None]

    def entries(self, op: Op, *inputs: Any) -> Any:
        return None

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        (value,) = tensors
        if op.params["order"] == 0:
            return value.clamp(self.low, self.high)
        return ((value >= self.low) & (value <= self.high)).to(value.dtype)

    def sample(self, program: Program) -> Tensor:
        return _record(self.name, program.input("x", "batch N") + program.input("z", "batch N"), 0)


def clip(low: float, high: float) -> Callable[[Tensor], Tensor]:
    """min(max(x, low), high), registered when it is first used."""
    name = f"clip({low:g}, {high:g})"
    if name not in registry("rule"):
        register("rule", name, Clip(name, low, high))
    return lambda tensor: _record(name, tensor, 0)


clip(-1, 1)
clip(0, 6)
