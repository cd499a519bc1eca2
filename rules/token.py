"""Tokens: integers that choose a row of a table, as one-hot vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalecalc.errors import UnsupportedScale
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch


def token(x: Tensor, over: str) -> Tensor:
    """One-hot vectors along a fixed axis: of independent normal data, tokens drawn uniformly from as many."""
    return x.program.record("token", (x,), x.axes, over=over)


@rule("token", "definition: 1 where the entry is the largest, else 0")
class Token(Rule):
    """A one-hot vector over a fixed vocabulary has entries of order one, which no gradient passes."""

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        if op.params["over"] in labels:
            raise UnsupportedScale(
                f"the tokens at {op.where} are of a vocabulary that grows: most of its rows are never seen, and a "
                "root-mean-square over them says nothing.  Give the vocabulary a fixed size."
            )
        return algebra.flat(labels, law="one of a fixed number of tokens")

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [None]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        (x,), dim = tensors, 1 + axes[0].index(op.params["over"])
        return (x == x.amax(dim=dim, keepdim=True)).to(x.dtype)

    def latex(self, op: Op, *names: str) -> str:
        return rf"\operatorname{{onehot}}_{{{op.params['over']}}}({names[0]})"

    def sample(self, program: Program) -> Tensor:
        return token(program.input("x", "batch time"), "time") * program.input("z", "N")
