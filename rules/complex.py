"""Between complex and real numbers: states may be complex (their transition is), inputs and outputs are real.

Gradients follow torch's convention: for a real loss L and a complex z = x + iy, the gradient is ∂L/∂x + i ∂L/∂y, so that a
holomorphic f passes g · conj(f′) back, and a real tensor gets the real part of what arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import sympy as sp

from scalecalc.asymptotics import n
from scalecalc.interpreter import imaginary
from scalecalc.memory import Entries
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule
from scalecalc.term import Pattern, pattern
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch


def real(z: Tensor) -> Tensor:
    """The real part; a tensor that is real already is returned as it is."""
    return z.program.record("real", (z,), z.axes, complex=False) if z.complex else z


def conjugate(z: Tensor) -> Tensor:
    """The complex conjugate; a real tensor is returned as it is."""
    return z.program.record("conjugate", (z,), z.axes) if z.complex else z


def conjugated(one: Pattern) -> Pattern:
    return pattern([(label, p.conjugate) for label, p in one.profiles], one.odd, one.same, one.masks)


@rule("real", "definition: (z + conj z) / 2")
class Real(Rule):
    """The real part of what turns turns both ways; a part that is imaginary throughout is gone."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        terms = []
        for t in values[0].terms:
            if not imaginary(t):
                step = algebra.step("the real part", t)
                terms += [replace(t, pattern=q, why=step) for q in dict.fromkeys((t.pattern, conjugated(t.pattern)))]
        return algebra.value(labels, terms)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [g]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        return tensors[0].real

    def latex(self, op: Op, *names: str) -> str:
        return rf"\operatorname{{Re}}\left({names[0]}\right)"

    def sample(self, program: Program) -> Tensor:
        return real(_sample(program))


@rule("conjugate", "definition")
class Conjugate(Rule):
    """The conjugate turns the other way."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def entries(self, op: Op, *inputs: Entries | None) -> Entries | None:
        return inputs[0]

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        terms = [
            replace(t, pattern=conjugated(t.pattern), why=algebra.step("the conjugate", t)) for t in values[0].terms
        ]
        return algebra.value(labels, terms)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [conjugate(g)]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        return tensors[0].conj().resolve_conj()

    def latex(self, op: Op, *names: str) -> str:
        return rf"\overline{{{names[0]}}}"

    def sample(self, program: Program) -> Tensor:
        return conjugate(_sample(program))


def _sample(program: Program) -> Tensor:
    return program.input("x", "batch N M") * program.index("A", "M", 1 + sp.I / (n + 1))
