"""How initialisation, multiplier and rate of every weight scale with the widths.

abc-parameterization (Yang & Hu 2021, arXiv 2011.14522): the network uses m·w, with entries of w initialised at size σ and
trained at rate η; m, σ and η are Θ monomials in the weight's fan-in and fan-out.  Only m·σ and what one step changes in
m·w can be seen from outside; the rest is gauge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scalecalc.optimizer import Optimizer
from scalecalc.program import Weight
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.table import WeightScaling

if TYPE_CHECKING:
    from scalecalc.symmetry import Shift

__all__ = ["Optimizer", "Parameterization", "ScalingRule", "assign", "scaling"]

ScalingRule = Callable[[Weight, str], WeightScaling]


@dataclass(frozen=True, eq=False)
class Parameterization(Mapping[str, WeightScaling]):
    """How every weight of a model scales with its widths: what a solve returns, and what a model can be set up by.

    >>> from scalecalc.scale import FREE, Regime, Scale
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
        own: per weight the shift of its multiplier, with init and rate to match, that leaves everything alone.
    """

    name: str
    optimizer: str
    dims: tuple[str, ...]
    scalings: Mapping[str, WeightScaling]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    exact: frozenset[str] = frozenset()
    own: Mapping[str, Shift] = field(default_factory=dict[str, "Shift"])

    def __getitem__(self, weight: str) -> WeightScaling:
        return self.scalings[weight]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scalings)

    def __len__(self) -> int:
        return len(self.scalings)


def assign(
    rule: ScalingRule, weights: Mapping[str, Weight], optimizer: str | Optimizer, regime: Regime = FREE
) -> dict[str, WeightScaling]:
    """The scaling of every weight of a program under a parameterization.

    Args:
        optimizer: the family whose rates are meant; or an optimizer, and decays and ε are what it makes of published ones.
    """
    family = optimizer if isinstance(optimizer, str) else optimizer.family
    made = {name: rule(replace(weight, regime=regime), family) for name, weight in weights.items()}
    return made if isinstance(optimizer, str) else {name: _kept(s, optimizer) for name, s in made.items()}


def _kept(s: WeightScaling, optimizer: Optimizer) -> WeightScaling:
    """Published decays are decoupled: an independent one is their η·λ, and a coupled one is something else."""
    kinds = {"decoupled": s.weight_decay, "independent": s.weight_decay and s.weight_decay * s.lr}
    return replace(s, weight_decay=kinds.get(optimizer.decay), epsilon=s.epsilon if optimizer.damped else None)


def scaling(init: Scale, lr: Scale, multiplier: Scale | None = None, role: str = "") -> WeightScaling:
    return WeightScaling(init, multiplier or Scale.one(), lr, role)
