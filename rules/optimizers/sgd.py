"""Stochastic gradient descent, plain and with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalecalc.optimizer import Numbers, Optimizer, Trained
from scalecalc.rule import optimizer
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

MOMENTUM = 0.9


class SGD(Optimizer):
    """The update is the gradient: a sum of factor pairs dh ⊗ x, as aligned with later inputs as x is with them.

    Momentum changes no exponent: it is a sum of the gradients so far with weights that no width enters, and the first
    of them is part of all.

    Args:
        momentum: μ in b ← μ b + g, as torch.optim.SGD has it (no dampening).
        nesterov: the update is g + μ b instead of b.
    """

    family = "sgd"

    def __init__(self, momentum: float = 0.0, nesterov: bool = False):
        self.momentum, self.nesterov = momentum, nesterov

    def law(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        return gradient

    def torch(self, gradients: Sequence[torch.Tensor], weight: Numbers) -> torch.Tensor:
        first, *later = gradients
        buffer = first
        for g in later:
            buffer = self.momentum * buffer + g if self.momentum else g
        return gradients[-1] + self.momentum * buffer if self.nesterov else buffer


@optimizer("sgd", "Robbins & Monro 1951; factor pairs: Yang & Hu 2021, arXiv 2011.14522")
def sgd() -> Optimizer:
    """Gradient descent: the update is the gradient times the rate."""
    return SGD()


@optimizer("momentum", "Polyak 1964; Sutskever et al. 2013, as torch.optim.SGD with momentum")
def momentum() -> Optimizer:
    """Gradient descent with momentum: a running sum of gradients; its exponents are those of gradient descent."""
    return SGD(MOMENTUM)


@optimizer("nesterov", "Nesterov 1983; Sutskever et al. 2013, as torch.optim.SGD with nesterov=True")
def nesterov() -> Optimizer:
    """Gradient descent with Nesterov's momentum: the gradient and a running sum of gradients."""
    return SGD(MOMENTUM, nesterov=True)
