"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalecalc.parameterization import Optimizer
from scalecalc.rule import optimizer
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch


class SGD(Optimizer):
    """The update is the gradient: a sum of factor pairs dh ⊗ x, as aligned with later inputs as x is with them."""

    def law(self, algebra: Algebra, gradient: Value) -> Value:
        return gradient

    def torch(self, gradient: torch.Tensor, earlier: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        return gradient


@optimizer("sgd", "Robbins & Monro 1951; factor pairs: Yang & Hu 2021, arXiv 2011.14522")
def sgd() -> Optimizer:
    """Gradient descent: the update is the gradient times the rate."""
    return SGD()
