"""Adam from zero memory, with ε and weight decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import sympy as sp

from scalecalc import window
from scalecalc.asymptotics import Function, OneVariable, X
from scalecalc.errors import UnsupportedScale
from scalecalc.expand import expand, leading
from scalecalc.optimizer import Numbers, Optimizer, Trained, smallest
from scalecalc.rule import optimizer
from scalecalc.rules.optimizers._normalised import in_parts, sign
from scalecalc.scale import Scale
from scalecalc.term import Term
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

ONE = Scale.one()
BETA_1, BETA_2 = 0.9, 0.999
SOFT = OneVariable(Function(X / sp.sqrt(X**2 + 1), -X / sp.sqrt(X**2 + 1)))  # like g/(|g| + 1) at every size, and smooth


class Adam(Optimizer):
    """Every entry is divided by its own size: the update is flat and of size one, its parity that of the gradient.

    From zero memory the first step is g/(|g| + ε).  With ε = 0, or scaled with the gradient, this is the gradient's sign.
    So the law is that of the sign function, entry by entry: terms that lead at every index come out flat, the others
    divided by what leads where they stand.  An ε above the gradient is a size of its own: the update is g/ε, and Adam an
    SGD.  Which of the two is decided by the gradient's size, index by index: a gradient that falls below ε along an axis is
    a sign up to the index where it does, and an SGD's from there on.

    Later steps need no other law (``_normalised.py``): m̂/√v̂ of g_1 … g_k is odd, homogeneous of degree 0 and bounded.

    ε must be no larger than the smallest entries of the gradient, those at the last index where it falls along an axis:
    above that the update is no longer flat.  That is the bound a solver takes; ε then scales like the gradient.

    Args:
        epsilon: ε, if a parameterization gives none; None: 0, or scaled with the gradient.
        decay: see :mod:`scalecalc.optimizer`.
        usual_decay: λ, if a parameterization gives none.
    """

    smooth = False
    nameless = True

    def __init__(self, epsilon: Scale | None = None, decay: str = "", usual_decay: Scale | None = None):
        self.epsilon, self.decay, self.usual_decay = epsilon, decay, usual_decay
        self.damped = self.scale_free = epsilon is None

    def law(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        epsilon = self._epsilon(weight, algebra)
        if epsilon is None:
            return sign(algebra, gradient)
        relative = algebra.scale(gradient, ONE / epsilon, f"over ε = {epsilon}")
        if not _below(relative, epsilon, algebra):
            return sign(algebra, gradient)
        floor = [Term(ONE)]
        return in_parts(algebra, relative, lambda part: expand(SOFT, part.labels, [part], algebra), floor)

    def _epsilon(self, weight: Trained, algebra: Algebra) -> Scale | None:
        """ε, if it is one to reckon with; a solver keeps it below the gradient by a bound of its own (``limits``)."""
        given = weight.scaling.epsilon if self.damped and algebra.regime.point is None else None
        return given or self.epsilon

    def limits(self, algebra: Algebra, gradient: Value, weight: Trained) -> Mapping[str, Scale]:
        out = dict(super().limits(algebra, gradient, weight))
        epsilon = weight.scaling.epsilon
        if self.damped and epsilon is not None:
            for size in smallest(gradient, algebra)[:1]:
                out["ε: no larger than the smallest entries of the gradient"] = epsilon / size
        return out

    def torch(self, gradients: Sequence[torch.Tensor], weight: Numbers) -> torch.Tensor:
        import torch

        *earlier, gradient = gradients
        epsilon = weight.epsilon or (1.0 if self.epsilon is not None else 0.0)
        if not earlier:
            return gradient / (gradient.abs() + epsilon) if epsilon else gradient.sign()
        first, second = torch.zeros_like(gradient), torch.zeros_like(gradient)
        for g in gradients:
            first, second = BETA_1 * first + (1 - BETA_1) * g, BETA_2 * second + (1 - BETA_2) * g.square()
        steps = len(gradients)
        root = (second / (1 - BETA_2**steps)).sqrt()
        return torch.where(root > 0, first / (1 - BETA_1**steps) / (root + epsilon), torch.zeros_like(root))


def _below(relative: Value, epsilon: Scale, algebra: Algebra) -> bool:
    """Does the gradient, relative to ε, lie below it somewhere?  Asked within each window of indices that it is cut into.

    Raises:
        UnsupportedScale: a leading term of it lies above in part; then neither law holds for the whole of it.
    """
    regime, found = algebra.regime, set[int | None]()
    heads = leading([t for t in relative.terms if not t.tag], algebra)
    cells = window.cuts(heads, True, regime)
    inside = [[s for t in heads if (s := window.restricted(t, here)) is not None] for here in cells] if cells else [heads]
    for cell in inside:
        top = window.leading(cell, regime)
        every = [{regime.order(value, ONE) for value in window.values(t)} for t in top]
        falls = [any(p.decaying for _, p in t.pattern.profiles) for t in top]
        # What lies above throughout carries the sum, wherever the others lie.
        above = any(orders <= {0, 1} and not fall for orders, fall in zip(every, falls, strict=True))
        for t, orders, fall in zip(top, every, falls, strict=True):
            if not above and (None in orders or {-1, 1} <= orders or (fall and 1 in orders)):
                raise UnsupportedScale(
                    f"the gradient at {algebra.at} ({t.size * epsilon} at small index) lies above Adam's ε ({epsilon}) for "
                    "some widths or indices and below it for others, and nothing says for which. Use adam (ε scaled with the "
                    "gradient), or a --regime that says how the widths grow against each other."
                )
            found |= {1} if above else orders
    return -1 in found


@optimizer("adam", "Kingma & Ba 2015, arXiv 1412.6980, alg. 1 from zero memory with ε = 0")
def adam() -> Optimizer:
    """Adam: at the first step the gradient's sign times the rate."""
    return Adam()


@optimizer("adam_eps", "Kingma & Ba 2015, arXiv 1412.6980, alg. 1 from zero memory with ε = Θ(1)")
def adam_eps() -> Optimizer:
    """Adam with an ε that is not scaled with the gradient: an SGD for every weight whose gradient falls below it."""
    return Adam(epsilon=ONE)


@optimizer("adam_l2", "torch.optim.Adam with weight_decay; Loshchilov & Hutter 2019, arXiv 1711.05101, alg. 2")
def adam_l2() -> Optimizer:
    """Adam with L2 (coupled decay): λ·w goes through the division, which leaves its sign where it outgrows the gradient."""
    return Adam(decay="coupled", usual_decay=ONE)


@optimizer("adamw", "Loshchilov & Hutter 2019, arXiv 1711.05101, alg. 2, as torch.optim.AdamW: η·λ·w")
def adamw() -> Optimizer:
    """AdamW: Adam, and the weight loses η·λ of itself at every step (λ = Θ(1) where no parameterization gives it)."""
    return Adam(decay="decoupled", usual_decay=ONE)


@optimizer("adamw_independent", "Wortsman et al. 2023, arXiv 2309.14322, sec. 3.2.2; Loshchilov & Hutter 2019, eq. 12")
def adamw_independent() -> Optimizer:
    """Adam with independent decay: the weight loses λ of itself at every step, whatever the rate (λ = Θ(1) by default)."""
    return Adam(decay="independent", usual_decay=ONE)
