"""Clipping by the global norm, around any optimizer.  No rule file: ``--optimizer NAME:clip=yes`` makes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scalecalc.errors import UnsupportedScale
from scalecalc.expand import expand
from scalecalc.optimizer import Numbers, Optimizer, Trained
from scalecalc.rules.optimizers._normalised import RSQRT, square
from scalecalc.scale import Scale
from scalecalc.term import HALF
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

ONE = Scale.one()
LARGEST, EPSILON = 1.0, 1e-6  # the largest norm, and what torch adds to the norm


class Clipped(Optimizer):
    """All gradients are divided by their norm together, where that is larger than one.

    The norm of all raw gradients together is the largest of their Frobenius norms; a scalar, that no pattern of a gradient
    notices.  What the gradients have gained at later steps changes it by its part along them.  An update that does not
    depend on the gradient's size (Adam, Lion, Muon) is not changed by it at the first step.

    min(1, 1/norm) is no monomial where it depends on how the dims grow which gradient makes the norm, or whether it is above
    one; that is an error, unless the update does not depend on the gradient's size.

    Raises:
        UnsupportedScale: it depends on how the dims grow.

    Args:
        inner: the optimizer that the clipped gradients go to.
    """

    joint = True

    def __init__(self, inner: Optimizer):
        self.inner = inner
        self.smooth, self.family, self.linear, self.damped = inner.smooth, inner.family, inner.linear, inner.damped
        self.decay, self.usual_decay, self.scale_free = inner.decay, inner.usual_decay, inner.scale_free

    def law(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        return self.inner.law(algebra, gradient, weight)

    def torch(self, gradients: Sequence[torch.Tensor], weight: Numbers) -> torch.Tensor:
        return self.inner.torch(gradients, weight)

    def limits(self, algebra: Algebra, gradient: Value, weight: Trained) -> Mapping[str, Scale]:
        return self.inner.limits(algebra, gradient, weight)

    def together(self, algebra: Algebra, gradients: Mapping[str, Value]) -> Mapping[str, Value]:
        here = replace(algebra, rule="clip", at="all gradients")
        total = here.add((), *(square(here, g, list(g.labels)) for g in gradients.values()))
        sizes = algebra.regime.leading([*total.untagged.sizes(), ONE])
        if any(algebra.regime.order(a, b) is None for a in sizes for b in sizes):
            if self.scale_free:
                return gradients
            raise UnsupportedScale(
                f"the norm of all gradients together, max({', '.join(str(s**HALF) for s in sizes)}), depends on how the dims "
                "grow, and no power of them says by how much gradients are clipped. Give a --regime, such as proportional."
            )
        if ONE in sizes:
            return gradients
        by = expand(RSQRT, (), [total], here)
        return {w: here.multiply(g.labels, g, by, "clipped: over the norm of all gradients") for w, g in gradients.items()}

    def together_torch(self, gradients: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        squares = [g.abs().square().reshape(g.shape[0], -1).sum(1) for g in gradients.values()]
        by = (LARGEST / (sum(squares[1:], squares[0]).sqrt() + EPSILON)).clamp(max=1.0)
        return {w: g * by.reshape(-1, *[1] * (g.dim() - 1)) for w, g in gradients.items()}
