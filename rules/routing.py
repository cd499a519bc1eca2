"""Hard routing: which of a fixed number of experts a token goes to.

The choice passes no gradient, and none of its rows: a row of an update is what moves as the rates do, and a choice jumps or
stays.  A step that moves logits by δ beside the distance s between them sends a share min(1, δ/s) of the tokens elsewhere.

A number of experts that grows has no law here.  Of what belongs to experts then all but 1/E is exactly zero for a token: its
square is itself, its sum one, its root-mean-square E^(-1/2); no profile and no parity has all three, and a sign, which leaves
zeros alone, is as sparse again, so that an optimizer's rule per entry does not hold either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sympy as sp

from scalecalc.asymptotics import Function, OneVariable, x
from scalecalc.errors import UnsupportedScale
from scalecalc.expand import expand
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

SIDE = OneVariable(Function.of((3 + sp.sign(x)) / 2))  # of order one, neither odd nor even, whatever its argument's size


def choice(logits: Tensor, over: str) -> Tensor:
    """1 for the expert with the largest logit, 0 for the others."""
    return logits.program.record("choice", (logits,), logits.axes, over=over)


@rule("choice", "Fedus, Zoph & Shazeer 2021, arXiv 2101.03961, eq. 1 and 2 (top-1)")
class Choice(Rule):
    """The chosen one of a fixed number of experts: of order one however large the logits, and no gradient passes."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (0,)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        if op.params["over"] in values[0].labels:
            raise UnsupportedScale(
                f"the choice at {op.where} is among a number of experts that grows: all but one of {op.params['over']} are "
                "zero for a token, and sums and signs of what is so sparse have no law here. "
                "Give the experts a fixed number, or mix all of them (a softmax)."
            )
        return expand(SIDE, labels, [values[0].only(lambda t: not t.tag)], algebra)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [None]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        (logits,), dim = tensors, 1 + axes[0].index(op.params["over"])
        return (logits == logits.amax(dim=dim, keepdim=True)).to(logits.dtype)

    def latex(self, op: Op, *names: str) -> str:
        return rf"[{op.params['over']} = \operatorname{{argmax}}\,{names[0]}]"

    def sample(self, program: Program) -> Tensor:
        return choice(program.input("x", "batch time N"), "time")
