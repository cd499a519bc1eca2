"""Muon: the gradient orthogonalised by Newton and Schulz's iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scalecalc.optimizer import Numbers, Optimizer, Trained
from scalecalc.rule import optimizer
from scalecalc.rules.optimizers._normalised import in_parts, sign
from scalecalc.rules.optimizers._spectral import as_matrix, orthogonal, reduced
from scalecalc.scale import Scale
from scalecalc.term import HALF
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

MOMENTUM, STEPS, EPSILON = 0.95, 5, 1e-7
ROUNDING = 1e-10  # relative to the largest singular value
A, B, C = 3.4445, -4.7750, 2.0315
ONE = Scale.one()


class Muon(Optimizer):
    """The gradient's factor pairs over their norm, so that its singular values are one, times a factor of the shape.

    See ``_spectral.py`` for what that does to a gradient of several terms, and for what five steps of the iteration and an
    exact orthogonalisation differ in: by no exponent as the widths grow, except where a smaller pair of directions is there
    for itself; five steps promote it by a constant, the exact one to singular value one.  Vectors and scalars, which have no
    singular values, get Adam's update, as in practice.

    Args:
        shape: the sizes whose sum is the factor, from fan-in and fan-out.
        number: the factor from the numbers of outputs and inputs.
        family: see :class:`scalecalc.optimizer.Optimizer`.
        exact: orthogonalised by the singular value decomposition instead of five steps of the iteration.
    """

    smooth = False
    scale_free = True
    decay = "decoupled"

    def __init__(
        self,
        shape: Callable[[Scale, Scale], Sequence[Scale]],
        number: Callable[[int, int], float],
        family: str,
        exact: bool = False,
    ):
        self.shape, self.number, self.family, self.exact = shape, number, family, exact

    def law(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        if len(weight.weight.axes) < 2:
            return sign(algebra, gradient)
        unit = in_parts(algebra, gradient, lambda part: orthogonal(algebra, part, weight, self.exact))
        factors = algebra.regime.leading(self.shape(weight.weight.fan_in, weight.weight.fan_out))
        scaled = [algebra.scale(unit, f, f"shape factor {f}") for f in factors]
        return algebra.add(gradient.labels, *scaled)

    def torch(self, gradients: Sequence[torch.Tensor], weight: Numbers) -> torch.Tensor:
        last = gradients[-1]
        memory = last.new_zeros(last.shape)
        for g in gradients:
            memory = MOMENTUM * memory + (1 - MOMENTUM) * g
        mixed = (1 - MOMENTUM) * last + MOMENTUM * memory
        if last.dim() < 3:
            return mixed.sign()
        matrix = as_matrix(mixed)
        rows, columns, (small,) = reduced([matrix])  # the iteration commutes with rotations, and small matrices are cheap
        done = polar(small) if self.exact else newton_schulz(small)
        return self.number(*matrix.shape[1:]) * (rows @ done @ columns.mT).reshape(last.shape)


def newton_schulz(x: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """U S′ Vᵀ with S′ near one, of matrices (…, rows, columns): the quintic iteration s ← a s + b s³ + c s⁵."""
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=EPSILON)
    for _ in range(steps):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x if wide else x.mT


def polar(x: torch.Tensor) -> torch.Tensor:
    """U Vᵀ of matrices (…, rows, columns), exactly; what rounding has made is left out."""
    import torch

    u, s, v = torch.linalg.svd(x, full_matrices=False)
    return (u * (s > ROUNDING * s.amax(-1, keepdim=True)).to(x.dtype).unsqueeze(-2)) @ v


JORDAN = "Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks, kellerjordan.github.io/posts/muon"


@optimizer("muon", JORDAN + ", as torch.optim.Muon")
def muon(exact: bool = False) -> Optimizer:
    """Muon: singular values one, times max(1, fan-out/fan-in)^(1/2)."""
    return Muon(
        lambda fi, fo: (ONE, (fo / fi) ** HALF), lambda rows, columns: max(1.0, rows / columns) ** 0.5, "muon", exact
    )


@optimizer("muon_rms", 'Liu et al. 2025, arXiv 2502.16982, eq. 4, as torch.optim.Muon with "match_rms_adamw"')
def muon_rms(exact: bool = False) -> Optimizer:
    """Muon with the entries of AdamW: singular values one, times 0.2 max(fan-out, fan-in)^(1/2)."""
    return Muon(lambda fi, fo: (fi**HALF, fo**HALF), lambda rows, columns: 0.2 * max(rows, columns) ** 0.5, "muon_rms", exact)


@optimizer("muon_spectral", "Yang, Simon & Bernstein 2023, arXiv 2310.17813; Bernstein & Newhouse 2024, arXiv 2409.20325")
def muon_spectral(exact: bool = False) -> Optimizer:
    """Muon by the spectral condition: singular values one, times (fan-out/fan-in)^(1/2)."""
    return Muon(lambda fi, fo: ((fo / fi) ** HALF,), lambda rows, columns: (rows / columns) ** 0.5, "muon_spectral", exact)
