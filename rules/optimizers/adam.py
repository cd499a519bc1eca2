"""Adam from zero memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sympy as sp

from scalecalc import window
from scalecalc.asymptotics import Function, OneVariable, X
from scalecalc.errors import UnsupportedScale
from scalecalc.expand import expand, leading
from scalecalc.parameterization import Optimizer
from scalecalc.rule import optimizer
from scalecalc.scale import Regime, Scale
from scalecalc.term import Profile, Term, dim_of
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

BETA_1, BETA_2 = 0.9, 0.999
SIGN = OneVariable(Function(X / X, -sp.Integer(1)))
SOFT = OneVariable(Function(X / sp.sqrt(X**2 + 1), -X / sp.sqrt(X**2 + 1)))  # like g/(|g| + 1) at every size, and smooth


class Adam(Optimizer):
    """Every entry is divided by its own size: the update is flat and of size one, its parity that of the gradient.

    From zero memory the first step is g/(|g| + ε).  With ε = 0, or scaled with the gradient, this is the gradient's sign.
    So the law is that of the sign function, entry by entry: terms that lead at every index come out flat, the others
    divided by what leads where they stand.  With an ``epsilon`` of order one it is a size of its own: a gradient above it
    gives its sign, one below it g/ε, and Adam is an SGD.  Which of the two is decided by the gradient's size, index by index:
    a gradient that falls below ε along an axis is a sign up to the index where it does, and an SGD's from there on.

    Later steps need no other law.  Step k takes m̂/√v̂ of the gradients g_1 … g_k, which is odd, homogeneous of degree 0
    and bounded; it divides by the largest of them (hard case W5), and that is never smaller than the first, which every
    later one has as its untagged part.  A part δ that a gradient has gained since is therefore treated as any smaller
    term of sign(g_1 + δ) is: where it is smaller than g_1 it counts as δ/|g_1|.  Where it is larger it has taken over,
    and the update is its sign: the update stays of size one, and a rate that holds at the first step holds at all.
    Two sizes that do not bound each other give min(1, δ/|g_1|), which is no monomial: 1 is taken, an upper bound.
    """

    smooth = False

    def __init__(self, epsilon: float = 0.0):
        self.epsilon = epsilon

    def law(self, algebra: Algebra, gradient: Value) -> Value:
        initial = [t for t in gradient.terms if not t.tag]
        heads = leading(initial, algebra)
        function, bar = SIGN, heads
        if self.epsilon:
            function, bar = SOFT, [*heads, Term(Scale.one())]
            _check_sides(heads, algebra)
        groups: dict[tuple[str, ...], list[Term]] = {}
        for t in gradient.terms:
            if t.tag:
                groups.setdefault(t.tag, []).append(t)
        over = [tag for tag, own in groups.items() if heads and _takes_over(own, bar, gradient.labels, algebra)]
        below = [t for t in gradient.terms if t.tag not in over]
        parts = [Value(gradient.labels, tuple(below)), *(Value(gradient.labels, tuple(groups[tag])) for tag in over)]
        return algebra.add(gradient.labels, *(expand(function, gradient.labels, [part], algebra) for part in parts))

    def torch(self, gradient: torch.Tensor, earlier: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        if not earlier:
            return gradient / (gradient.abs() + self.epsilon) if self.epsilon else gradient.sign()
        import torch

        first, second = torch.zeros_like(gradient), torch.zeros_like(gradient)
        for g in (*earlier, gradient):
            first, second = BETA_1 * first + (1 - BETA_1) * g, BETA_2 * second + (1 - BETA_2) * g.square()
        steps = len(earlier) + 1
        root = (second / (1 - BETA_2**steps)).sqrt()
        return torch.where(root > 0, first / (1 - BETA_1**steps) / (root + self.epsilon), torch.zeros_like(root))


def _takes_over(own: Sequence[Term], heads: Sequence[Term], labels: Sequence[str], algebra: Algebra) -> bool:
    """Does some gained term exceed every leading term of the first gradient, at the first index or at the last?"""
    return any(all(_exceeds(t, head, labels, algebra.regime) for head in heads) for t in leading(own, algebra))


def _exceeds(t: Term, head: Term, labels: Sequence[str], regime: Regime) -> bool:
    below = (-1, 0) if regime.point is None else (-1,)  # where unknowns make it tie, it stays of size one as they go on
    return any(regime.order(ratio, Scale.one()) not in below for ratio in _ratios(t, head, labels))


def _ratios(t: Term, head: Term, labels: Sequence[str]) -> tuple[Scale, Scale]:
    """How large t is relative to the other term, at the first index and at the last."""
    last = t.size / head.size
    for label in labels:
        mine, its = t.pattern.profile(label), head.pattern.profile(label)
        last = last * _last(mine, dim_of(label)) / _last(its, dim_of(label))
    return t.size / head.size, last


def _check_sides(heads: Sequence[Term], algebra: Algebra) -> None:
    """Is each leading term of the gradient on one side of ε within each window of indices that it is cut into?

    Raises:
        UnsupportedScale: one is not; then neither law holds for the whole of it.
    """
    regime = algebra.regime
    cells = window.cuts(heads, True, regime)
    inside = [[s for t in heads if (s := window.restricted(t, here)) is not None] for here in cells] if cells else [heads]
    for t in (t for cell in inside for t in window.leading(cell, regime)):
        orders = {regime.order(value, Scale.one()) for value in window.values(t)}
        falls = any(p.decaying for _, p in t.pattern.profiles)
        if None in orders or {-1, 1} <= orders or (falls and 1 in orders):
            raise UnsupportedScale(
                f"the gradient at {algebra.at} ({t.size} at small index) lies above Adam's ε for some widths or indices and "
                "below it for others, and nothing says for which. Use adam (ε scaled with the gradient), or a --regime that "
                "says how the widths grow against each other."
            )


def _last(profile: Profile, dim: str) -> Scale:
    """A profile's value at the last index, one at the first; an exponentially falling one is not followed that far."""
    return Scale.one() if profile.decaying else Scale({dim: -profile.power}, {dim: profile.log})


@optimizer("adam", "Kingma & Ba 2015, arXiv 1412.6980, alg. 1 from zero memory with ε = 0")
def adam() -> Optimizer:
    """Adam: at the first step the gradient's sign times the rate."""
    return Adam()


@optimizer("adam_eps", "Kingma & Ba 2015, arXiv 1412.6980, alg. 1 from zero memory with ε = Θ(1)")
def adam_eps() -> Optimizer:
    """Adam with an ε that is not scaled with the gradient: an SGD for every weight whose gradient falls below it."""
    return Adam(epsilon=1.0)
