"""Pooling over axes of fixed size (an image's places): the mean is a sum, the maximum a function of them all.

The largest of finitely many entries that are alike behaves as a function of one of them that is homogeneous, and neither odd
nor even: the largest of x is not the largest of −x with its sign changed, and its mean is as large as it is.  Its gradient
goes to one place, as a factor of order one that depends on the entries' signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

import sympy as sp

from scalecalc.asymptotics import Function, OneVariable, x
from scalecalc.errors import ProgramError, UnsupportedScale
from scalecalc.expand import expand
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule, spread
from scalecalc.rules.reduction import total
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

LIKE = Function.of(sp.Max(0, x) + sp.Min(0, x) / 2)  # relu would be zero for half of the arguments, a maximum never is


def mean(x: Tensor, over: Sequence[str]) -> Tensor:
    """The mean over axes of fixed size."""
    p = x.program
    return total(x, over) * p.index(f"mean {len(p.ops)}", "", sp.Rational(Fraction(1, prod(map(p.size, over)))))


def largest(x: Tensor, over: Sequence[str]) -> Tensor:
    """The largest entry over axes of fixed size."""
    return x.program.record("largest", (x,), tuple(label for label in x.axes if label not in over), over=tuple(over))


def _fixed(op: Op, value: Value) -> None:
    for label in op.params["over"]:
        if label in value.labels:
            raise UnsupportedScale(
                f"the maximum at {op.where} is over {label}, which grows: the largest of N entries follows their tails, "
                "(2 log N)^(1/2) for normal ones, and no size says what those are.  Pool over an axis of fixed size."
            )


@rule("largest", "Riesenhuber & Poggio 1999, Nature Neuroscience 2, p. 1019")
class Largest(Rule):
    """The largest of finitely many entries is as large as one of them, and has a mean."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        _fixed(op, values[0])
        return expand(OneVariable(LIKE), labels, values, algebra)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        (x,) = inputs
        return [x.program.record("largest_backward", (x, g), x.axes, over=output.op.params["over"])]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        return tensors[0].amax([1 + axes[0].index(label) for label in op.params["over"]])

    def latex(self, op: Op, *names: str) -> str:
        return rf"\max_{{{','.join(op.params['over'])}}} {names[0]}"

    def sample(self, program: Program) -> Tensor:
        return largest(program.input("x", "batch time N"), ["time"])


@rule("largest_backward", "its derivative: one at the largest entry, else zero")
class LargestBackward(Rule):
    """The gradient goes to the largest entry alone: as large there as it was, and zero elsewhere."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return 0, 1

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        x, g = values
        _fixed(op, x)
        return algebra.multiply(labels, g, expand(OneVariable(LIKE.derivative), x.labels, [x], algebra))

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        raise ProgramError("the second derivative of a maximum is not recorded; no optimizer here needs it.")

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        x, g = spread(axes, op.axes, *tensors)
        dims = [1 + op.axes.index(label) for label in op.params["over"]]
        first = x == x.amax(dims, keepdim=True)
        return g * first / first.sum(dims, keepdim=True)  # equal entries share it, as with torch.amax

    def latex(self, op: Op, *names: str) -> str:
        return rf"{names[1]}\,[{names[0]} = \max {names[0]}]"

    def sample(self, program: Program) -> Tensor:
        x = program.input("x", "batch time N")
        return program.record("largest_backward", (x, program.input("g", "batch N")), x.axes, over=("time",))
