"""Shampoo and SOAP: preconditioned by the second moments of the gradient's rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from scalecalc.optimizer import Numbers, Optimizer, Trained
from scalecalc.rule import optimizer
from scalecalc.rules.optimizers._normalised import sign
from scalecalc.rules.optimizers._spectral import as_matrix, orthogonal, reduced
from scalecalc.term import HALF, Term
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

BETA_1, BETA_2 = 0.95, 0.95
MIXED = "the gain has a part between the first gradient's own directions"
NEGLIGIBLE = 1e-10  # relative to the largest: an eigenvalue that rounding has made


class Shampoo(Optimizer):
    """From zero memory U Vᵀ, the gradient's factor pairs over their norm; later gains in new directions are promoted.

    L^(−1/4) G R^(−1/4) with L = Σ G Gᵀ and R = Σ Gᵀ G is U Vᵀ at the first step (ε → 0, as a pseudoinverse).  At the second,
    a gain δd ⊗ x in a direction of its own meets a memory that knows only δd there: L^(−1/4) is δ^(−1/2) in that direction,
    and the update gains (δ/|g|)^(1/2), where Adam's gains δ/|g|.  δd ⊗ δx, new on both sides, comes out of size one, whatever
    δ.  A gain along old directions counts as δ/|g|; a gain of first order has one new side at most, of second order two,
    and as many are taken, an upper bound.

    SOAP is Adam in the eigenbasis of L and R, in which the first gradient is diagonal: Adam's sign of it is U Vᵀ as well.
    At the second step an entry of the rotated gradient that was zero before has no memory but itself, and is divided by its
    own size however small it is: such a gain comes out of size one.  So it is for new directions on both sides (aligned with
    the gain, since Σ sign(z) z = Σ |z| over its entries z), and for the entries off the diagonal between old ones, which any
    gain makes: the update then mixes the old pairs d ⊗ x among each other by order one.  Of δd ⊗ x itself, new on one side,
    that is an upper bound: with equal memories of mean and moments, as in the paper, L's eigenvectors turn with the mean, and
    what is left of it in new directions is measured to fall below one.

    Vectors get Adam's update.

    Args:
        promoted: 1/2 for Shampoo, 1 for SOAP: a gain of relative size r, of order k, counts as r^(1 − k promoted), at most 1.
        mixes: does a gain mix the old pairs?
    """

    smooth = False
    scale_free = True
    family = "shampoo"
    decay = "decoupled"

    def __init__(
        self, promoted: Fraction, update: Callable[[Sequence[torch.Tensor]], torch.Tensor], mixes: bool = False
    ):
        self.promoted, self.small, self.mixes = promoted, update, mixes

    def law(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        if len(weight.weight.axes) < 2:
            return sign(algebra, gradient)
        first = gradient.untagged
        parts = [orthogonal(algebra, first, weight, exact=True)]
        for tag in sorted({t.tag for t in gradient.terms if t.tag}):
            own = Value(gradient.labels, tuple(replace(t, tag=()) for t in gradient.terms if t.tag == tag))
            parts.append(self._gained(algebra, orthogonal(algebra, own, weight), own, first, tag))
            if self.mixes:
                law = "old pairs, mixed by a gain off the diagonal"
                mixed = (Term(t.size, t.pattern, tag, algebra.step(law, t, assumption=MIXED)) for t in parts[0].terms)
                parts.append(Value(own.labels, tuple(mixed)))
        return algebra.add(gradient.labels, *parts)

    def _gained(self, algebra: Algebra, unit: Value, own: Value, first: Value, tag: tuple[str, ...]) -> Value:
        """A gain's own U Vᵀ, smaller by the power of δ/|g| that it has not been promoted by."""
        size, before = (algebra.norm(v, v.labels) for v in (own, first))
        ratio = size[0] / before[0] if size and before else None
        smaller = ratio is not None and algebra.regime.order(ratio, ratio / ratio) == -1
        power = max(Fraction(0), 1 - len(tag) * self.promoted)
        by = ratio**power if ratio is not None and smaller else None
        law, assumption = "a gain in a direction of its own, promoted", "what the gradient gains is in a direction of its own"
        terms = (
            Term(t.size if by is None else t.size * by, t.pattern, tag, algebra.step(law, t, assumption=assumption))
            for t in unit.terms
        )
        return Value(unit.labels, tuple(terms))

    def torch(self, gradients: Sequence[torch.Tensor], weight: Numbers) -> torch.Tensor:
        last = gradients[-1]
        if last.dim() < 3:
            return last.sign()
        rows, columns, small = reduced([as_matrix(g) for g in gradients])
        return (rows @ self.small(small) @ columns.mT).reshape(last.shape)


def _shampoo(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    left, right = _moments(gradients)
    return _power(left, -0.25) @ gradients[-1] @ _power(right, -0.25)


def _soap(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Vyas et al., alg. 3: the moments L and R, the basis by eigh at first and a step of the power method later."""
    import torch

    left = right = first = second = gradients[0].new_zeros(())
    bases: list[torch.Tensor] = []
    rotated = gradients[0]
    for step, g in enumerate(gradients, 1):
        left, right = (BETA_2 * m + (1 - BETA_2) * x @ x.mT for m, x in ((left, g), (right, g.mT)))
        if step == 1:
            bases = [torch.linalg.eigh(m).eigenvectors.flip(-1) for m in (left, right)]
        else:
            bases = [torch.linalg.qr(m @ q).Q for m, q in zip((left, right), bases, strict=True)]
        rotated = bases[0].mT @ g @ bases[1]
        largest = rotated.abs().amax((-2, -1), keepdim=True)
        rotated = torch.where(rotated.abs() > NEGLIGIBLE * largest, rotated, torch.zeros_like(rotated))
        first = BETA_1 * first + (1 - BETA_1) * g
        second = BETA_2 * second + (1 - BETA_2) * rotated.square()
    steps = len(gradients)
    mean = bases[0].mT @ first @ bases[1] / (1 - BETA_1**steps)
    root = (second / (1 - BETA_2**steps)).sqrt()
    update = torch.where(root > 0, mean / root, torch.zeros_like(root))
    return bases[0] @ update @ bases[1].mT


def _moments(gradients: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    first, *others = gradients
    left, right = first @ first.mT, first.mT @ first
    for g in others:
        left, right = left + g @ g.mT, right + g.mT @ g
    return left, right


def _power(x: torch.Tensor, power: float) -> torch.Tensor:
    """A power of a symmetric matrix on its range."""
    import torch

    values, vectors = torch.linalg.eigh(x)
    kept = values > NEGLIGIBLE * values.amax(dim=-1, keepdim=True)
    scaled = torch.where(kept, values.clamp(min=1e-300) ** power, torch.zeros_like(values))
    return vectors * scaled.unsqueeze(-2) @ vectors.mT


@optimizer("shampoo", "Gupta, Koren & Singer 2018, arXiv 1802.09568, alg. 1 with ε → 0")
def shampoo() -> Optimizer:
    """Shampoo: at the first step the gradient with all its singular values one."""
    return Shampoo(HALF, _shampoo)


@optimizer("soap", "Vyas et al. 2024, arXiv 2409.11321, alg. 3 with ε → 0 and a basis that is new at every step")
def soap() -> Optimizer:
    """SOAP: Adam in Shampoo's eigenbasis; at the first step the gradient with all its singular values one."""
    return Shampoo(Fraction(1), _soap, mixes=True)
