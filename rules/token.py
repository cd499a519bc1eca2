"""Tokens: integers that choose a row of a table, as one-hot vectors.

Over a vocabulary of V that grows, a token is one entry of V: a mask that leaves a share 1/V, which what is read, and what is
sent back to the rows that were read, carries on (:class:`~scalecalc.pattern.Mask`).  Sums over V of what one token leaves are
of one term, whatever their law; two tokens, drawn independently, are alike once in V, which the root-mean-square sees as
V^(−1/2).  Tokens are drawn uniformly here: frequencies that fall like a power of the rank have no law.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule
from scalecalc.scale import Scale
from scalecalc.term import Term, atom, dim_of, mask, pattern
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch


def token(x: Tensor, over: str) -> Tensor:
    """One-hot vectors along an axis: of independent normal data, tokens drawn uniformly from as many."""
    return x.program.record("token", (x,), x.axes, over=over)


@rule("token", "definition: 1 where the entry is the largest, else 0")
class Token(Rule):
    """A one-hot vector has one entry of order one, among as many as there are tokens; no gradient passes it."""

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        over = op.params["over"]
        if over not in labels:
            return algebra.flat(labels, law="one of a fixed number of tokens")
        read = mask([pattern((), [atom(f"token {algebra.place}", [over])])], Scale.of(dim_of(over), -1))
        law = f"one of {dim_of(over)} tokens: one entry of order one, all others zero"
        return Value(labels, (Term(Scale.one(), pattern(masks=[read]), (), algebra.step(law)),))

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [None]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        (x,), dim = tensors, 1 + axes[0].index(op.params["over"])
        return (x == x.amax(dim=dim, keepdim=True)).to(x.dtype)

    def latex(self, op: Op, *names: str) -> str:
        return rf"\operatorname{{onehot}}_{{{op.params['over']}}}({names[0]})"

    def sample(self, program: Program) -> Tensor:
        return token(program.input("x", "batch time"), "time") * program.input("z", "N")
