"""How initialisation, multiplier and rate of every weight scale with the widths, and optimizers as update laws.

abc-parameterization (Yang & Hu 2021, arXiv 2011.14522): the network uses m·w, with entries of w initialised at size σ and
trained at rate η; m, σ and η are Θ monomials in the weight's fan-in and fan-out.  Only m·σ and what one step changes in
m·w can be seen from outside; the rest is gauge.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalecalc.program import Weight
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

ScalingRule = Callable[[Weight, str], WeightScaling]


@dataclass(frozen=True, eq=False)
class Parameterization(Mapping[str, WeightScaling]):
    """How every weight of a model scales with its widths: what a solve returns, and what a model can be set up by.

    >>> from scalecalc.scale import Scale
    >>> p = Parameterization("mine", "adam", ("N",), {"W": WeightScaling(Scale.one(), Scale.one(), Scale.of("N", -1))})
    >>> p["W"].lr
    Θ(N^(-1))

    Args:
        name: what it is called in tables.
        optimizer: the registered optimizer whose rates these are.
        dims: the growing dims.
        scalings: per weight, in the order of the program.
        axes: per weight, the dim of each of its axes, outputs first; ``""`` for an axis that does not grow.
        exact: the weights whose initial entries are given exactly (a gain of one) and have no size to scale.
    """

    name: str
    optimizer: str
    dims: tuple[str, ...]
    scalings: Mapping[str, WeightScaling]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    exact: frozenset[str] = frozenset()

    def __getitem__(self, weight: str) -> WeightScaling:
        return self.scalings[weight]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scalings)

    def __len__(self) -> int:
        return len(self.scalings)


class Optimizer(ABC):
    """The update of a weight from zero memory, as a law on values and as torch code.

    ``law`` receives the gradient's value, ``torch`` the gradients' numbers with a leading seed axis; both return the
    update's direction and size without the rate and without the sign.

    ``smooth``: is the update a smooth function of the gradient wherever that is small (SGD), or does it answer to the
    gradient's relative change (Adam)?  It decides how a second step is measured (``scalecalc.measure.training``).
    """

    smooth: bool = True

    @abstractmethod
    def law(self, algebra: Algebra, gradient: Value) -> Value:
        """Size and patterns of the update for a rate of one.

        The gradient's untagged terms are the first gradient, the same at every step; tagged ones are what a later one
        gained since.
        """

    @abstractmethod
    def torch(self, gradient: torch.Tensor, earlier: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """The update for a rate of one, ``earlier`` the gradients of the steps before."""

    def update(self, algebra: Algebra, gradient: Value, scaling: WeightScaling) -> Value:
        """The change of the effective weight m·w: the chain rule gives one m, the use of w another."""
        m = scaling.multiplier
        raw = self.law(algebra, algebra.scale(gradient, m, "chain rule through the multiplier"))
        return algebra.scale(raw, scaling.lr * m, f"rate {scaling.lr}, multiplier {m}")


def assign(rule: ScalingRule, weights: Mapping[str, Weight], optimizer: str) -> dict[str, WeightScaling]:
    """The scaling of every weight of a program under a parameterization."""
    return {name: rule(weight, optimizer) for name, weight in weights.items()}


def scaling(init: Scale, lr: Scale, multiplier: Scale | None = None, role: str = "") -> WeightScaling:
    return WeightScaling(init, multiplier or Scale.one(), lr, role)
