"""Adam, first step from zero memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sympy as sp

from scalecalc.asymptotics import Function, OneVariable, X
from scalecalc.expand import expand
from scalecalc.parameterization import Optimizer
from scalecalc.rule import optimizer
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

SIGN = OneVariable(Function(X / X, -sp.Integer(1)))


class Adam(Optimizer):
    """Every entry is divided by its own size: the update is flat and of size one, its parity that of the gradient.

    From zero memory the first step is the gradient's sign (ε = 0, or ε scaled with the gradient; an ε that the gradient
    falls below makes Adam an SGD and is another law).  So the law is that of the sign function, entry by entry: terms
    that lead at every index come out flat, the others divided by what leads where they stand.
    """

    def law(self, algebra: Algebra, gradient: Value) -> Value:
        return expand(SIGN, gradient.labels, [gradient], algebra)

    def torch(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.sign()


@optimizer("adam", "Kingma & Ba 2015, arXiv 1412.6980, alg. 1 at t = 1 with ε = 0")
def adam() -> Optimizer:
    """Adam's first step: the gradient's sign times the rate."""
    return Adam()
