"""Stochastic gradient descent, plain and with momentum, with and without weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalecalc.optimizer import Numbers, Optimizer, Trained, decay_named
from scalecalc.rule import optimizer
from scalecalc.scale import Scale
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

MOMENTUM = 0.9


class SGD(Optimizer):
    """The update is the gradient: a sum of factor pairs dh ⊗ x, as aligned with later inputs as x is with them.

    Momentum changes no exponent: it is a sum of the gradients so far with weights that no width enters, and the first
    of them is part of all.

    Weight decay: coupled (L2: λ·w is added to the gradient and goes through the momentum, as torch.optim.SGD has it) or
    decoupled (Loshchilov & Hutter's SGDW) w loses a part η·λ at every step, up to the constant 1/(1 − μ).  So λ has to scale
    like one over the rate: under the maximal update parameterization like 1/fan-out, 1 and fan-in for embedding, hidden and
    readout.  One λ for all removes fan-out times too much from the embedding.

    Args:
        momentum: μ in b ← μ b + g, as torch.optim.SGD has it (no dampening).
        nesterov: the update is g + μ b instead of b.
        decay: ``no``, ``coupled``, ``decoupled`` or ``independent``, see :mod:`scalecalc.optimizer`; λ = Θ(1) where no
            parameterization gives it.
    """

    family = "sgd"
    linear = True
    nameless = True

    def __init__(self, momentum: float = 0.0, nesterov: bool = False, decay: str = "no"):
        self.momentum, self.nesterov, self.decay = momentum, nesterov, decay_named(decay)
        self.usual_decay = Scale.one() if self.decay else None

    def law(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        return gradient

    def torch(self, gradients: Sequence[torch.Tensor], weight: Numbers) -> torch.Tensor:
        first, *later = gradients
        buffer = first
        for g in later:
            buffer = self.momentum * buffer + g if self.momentum else g
        return gradients[-1] + self.momentum * buffer if self.nesterov else buffer


@optimizer("sgd", "Robbins & Monro 1951; factor pairs: Yang & Hu 2021, arXiv 2011.14522")
def sgd(decay: str = "no") -> Optimizer:
    """Gradient descent: the update is the gradient times the rate."""
    return SGD(decay=decay)


@optimizer("momentum", "Polyak 1964; Sutskever et al. 2013, as torch.optim.SGD with momentum")
def momentum(decay: str = "no") -> Optimizer:
    """Gradient descent with momentum: a running sum of gradients; its exponents are those of gradient descent."""
    return SGD(MOMENTUM, decay=decay)


@optimizer("nesterov", "Nesterov 1983; Sutskever et al. 2013, as torch.optim.SGD with nesterov=True")
def nesterov(decay: str = "no") -> Optimizer:
    """Gradient descent with Nesterov's momentum: the gradient and a running sum of gradients."""
    return SGD(MOMENTUM, nesterov=True, decay=decay)
