"""Sign descent and Lion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalecalc.optimizer import Numbers, Optimizer, Trained
from scalecalc.rule import optimizer
from scalecalc.rules.optimizers._normalised import sign as sign_of
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

BETA_1, BETA_2 = 0.9, 0.99


class Lion(Optimizer):
    """The update is the sign of the gradient, or of an average of gradients: entries of size one, the gradient's parity.

    The average c = β₁ m + (1 − β₁) g with m ← β₂ m + (1 − β₂) g is a sum of the gradients so far with weights that no width
    enters, so that what a later one gained counts in it as it does in that gradient (``_normalised.py``).

    Args:
        beta_1, beta_2: of the average; 0 and 0 for the sign of the last gradient alone.
    """

    smooth = False
    scale_free = True
    decay = "decoupled"

    def __init__(self, beta_1: float = BETA_1, beta_2: float = BETA_2):
        self.beta_1, self.beta_2 = beta_1, beta_2

    def law(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        return sign_of(algebra, gradient)

    def torch(self, gradients: Sequence[torch.Tensor], weight: Numbers) -> torch.Tensor:
        *earlier, last = gradients
        memory = last.new_zeros(last.shape)
        for g in earlier:
            memory = self.beta_2 * memory + (1 - self.beta_2) * g
        return (self.beta_1 * memory + (1 - self.beta_1) * last).sign()


@optimizer("lion", "Chen et al. 2023, arXiv 2302.06675, program 1")
def lion() -> Optimizer:
    """Lion: the sign of an average of gradients; at the first step that of the gradient."""
    return Lion()


@optimizer("sign", "Bernstein et al. 2018, arXiv 1802.04434, alg. 1")
def sign() -> Optimizer:
    """Sign descent: the gradient's sign times the rate."""
    return Lion(0.0, 0.0)
