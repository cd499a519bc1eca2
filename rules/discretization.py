"""Discretizations of dh/dt = A h + B u with a diagonal A: two expressions in the step Δ and the transition A.

The decay Ā and the input factor B̄/B of each state.  A is exact (an expression in the state's index), so sympy finds the
profile of both along the states: zero-order hold gives B̄ ~ 1/n where A ~ n, Euler's is flat.  A new one is one line at
the end of this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import sympy as sp

from scalecalc.asymptotics import N, U, V, n
from scalecalc.errors import UnknownName, UnsupportedScale
from scalecalc.expand import expand
from scalecalc.indexed import Indexed
from scalecalc.memory import FAR, ONE, Entries, between
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, register, spread
from scalecalc.rules.complex import conjugate
from scalecalc.scale import FREE
from scalecalc.term import Term
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

Delta = sp.Symbol("Delta", positive=True)
A = sp.Symbol("A", negative=True)
STEPS = 24  # values of a random step, at which its decay is bounded


class Discretization(Rule):
    """A discretization's profile along the states is that of its two expressions at the exact transition."""

    def __init__(self, name: str, decay: sp.Expr, factor: sp.Expr, source: str):
        self.name, self.parts, self.source = name, {"A": decay, "B": factor}, source

    @property
    def words(self) -> str:
        return f"Decay {self.parts['A']}, input factor {self.parts['B']}: their profiles at the exact transition."

    def _expression(self, op: Op) -> sp.Expr:
        return _derivative(self.parts[op.params["part"]], op.params["order"])

    def entries(self, op: Op, *inputs: Entries | None) -> Entries | None:
        """Of the decay, whose modulus is 1 + Δ Re A to first order in a small step (a scheme is consistent)."""
        step, transition = inputs
        if op.params["part"] != "A" or any(op.params["order"]) or step is None or transition is None or not transition.values:
            return None
        turn, random = transition.turn, step.low < step.high
        scale = step.scale * transition.scale
        if scale == ONE:
            ends = [min(max(end, -FAR), FAR) for end in (step.low, step.high)]
            steps = [ends[0] + (ends[1] - ends[0]) * k / STEPS for k in range(STEPS + 1)] if random else ends[:1]
            at = sp.lambdify((Delta, A), self._expression(op), "cmath")
            return between([abs(complex(at(d, a))) for d in steps for a in transition.values], turn, random)
        if FREE.order(scale, ONE) != -1 or step.low <= 0:
            return None
        if transition.uneven and len({round(a.real, 12) for a in transition.values}) > 1:
            raise UnsupportedScale(
                f"with a step of {step.scale} the states at {op.where} remember for ever shorter times, from the first to "
                "the last of an axis that grows: their sums over time have no law here. Hold the number of states "
                "(--fix N_x=16), or take a transition whose states decay alike."
            )
        decays = all(a.real < 0 for a in transition.values)
        return Entries(1.0, 1.0, gap=scale if decays else None)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        step, transition = values
        label = transition.labels[-1] if transition.labels else ""
        known = step.exact is not None and not step.exact.has(U, V)  # a random step is generic, its phases too
        f = Indexed(self._expression(op), (Delta, A), (step.exact if known else None, transition.exact), label)
        out = expand(f, labels, values, algebra)
        return replace(out, terms=tuple(map(_both_sides, out.terms))) if transition.exact.has(N) else out

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        part, (i, j) = output.op.params["part"], output.op.params["order"]
        step, transition = inputs
        return [
            g * conjugate(_record(self.name, step, transition, part, (i + 1, j))),
            g * conjugate(_record(self.name, step, transition, part, (i, j + 1))),
        ]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        import torch

        step, transition = spread(axes, op.axes, *tensors)
        expression = self._expression(op)
        if not expression.free_symbols:
            return torch.full_like(step * transition, float(expression))
        value = _numeric(expression)(step, transition)
        return value.expand(torch.broadcast_shapes(step.shape, transition.shape))

    def latex(self, op: Op, *names: str) -> str:
        step, transition = (sp.Symbol(name) for name in names)
        return sp.latex(self._expression(op).subs([(Delta, step), (A, transition)], simultaneous=True))

    def sample(self, program: Program) -> Tensor:
        from scalecalc.rules.elementwise import absolute, negative

        # a step that stays away from 0: states up to 1/step are not decayed yet, and M must be larger than that
        step = absolute(program.input("x", "batch N")) + program.index("least", "", sp.Rational(1, 2))
        decay, factor = discretize(self.name, step, program.index("A", "M", -(n + 1)))
        return decay + negative(factor)  # the sum of both is 1 in the first state, whatever the step


def _both_sides(t: Term) -> Term:
    """What is assumed where the transition's smallest entries lie inside the axis (S4D-Inv's, about n = N/2)."""
    assumption = (
        "entries on either side of the transition's smallest add up: an upper bound, since they may be of opposite sign and "
        "cancel (a logarithm of the width, where they fall like 1/n)"
    )
    if t.why is None:
        return t
    return replace(t, why=replace(t.why, assumption="; ".join(filter(None, (t.why.assumption, assumption)))))


@cache
def _derivative(expression: sp.Expr, order: tuple[int, int]) -> sp.Expr:
    return sp.simplify(sp.diff(expression, Delta, order[0], A, order[1])) if any(order) else expression


@cache
def _numeric(expression: sp.Expr) -> Any:
    import torch

    return sp.lambdify((Delta, A), expression, modules=[{"exp": torch.exp, "expm1": torch.expm1}, "math"])


def _record(scheme: str, step: Tensor, transition: Tensor, part: str, order: tuple[int, int]) -> Tensor:
    axes = step.program.union(step, transition)
    name = {"A": "decay", "B": "factor"}[part] + "".join(f"_{s}" * k for s, k in zip(("Δ", "A"), order, strict=True))
    return step.program.record(scheme, (step, transition), axes, name=name, part=part, order=order)


def discretize(scheme: str, step: Tensor, transition: Tensor) -> tuple[Tensor, Tensor]:
    """The decay Ā and the input factor B̄/B.  Axes: those of the step and of the transition.

    Raises:
        UnknownName: no such scheme.
    """
    if scheme not in SCHEMES:
        raise UnknownName("discretization", scheme, SCHEMES)
    return _record(scheme, step, transition, "A", (0, 0)), _record(scheme, step, transition, "B", (0, 0))


SCHEMES: list[str] = []


def discretization(name: str, decay: Any, factor: Any, source: str) -> None:
    """Register a scheme: Ā and B̄/B as expressions in ``Delta`` and ``A`` of this module."""
    register("rule", name, Discretization(name, sp.sympify(decay, strict=True), sp.sympify(factor, strict=True), source))
    SCHEMES.append(name)


S4 = "Gu, Goel & Ré 2022, arXiv 2111.00396"
MAMBA = "Gu & Dao 2023, arXiv 2312.00752"
_hold = sp.exp(Delta * A)

discretization("zoh", _hold, (_hold - 1) / A, f"{MAMBA}, eq. 4")
discretization("euler", 1 + Delta * A, Delta, "explicit Euler method")
discretization("bilinear", (1 + Delta * A / 2) / (1 - Delta * A / 2), Delta / (1 - Delta * A / 2), f"{S4}, eq. 3")
discretization("mamba", _hold, Delta, f"{MAMBA}, reference implementation: zero-order hold for A, Euler for B")
