"""Optimizers as update laws, and as torch code.

An optimizer sees raw weights w and their gradients; the network uses m·w (:mod:`scalecalc.parameterization`).  A law is one
local fact: the update of one weight at a rate of one, from its gradient and, where it needs them, from the weight itself,
its shape and its scaling.  What is common to all is here: the chain rule through the multiplier, weight decay, and gradients
that are treated together (clipping by their global norm).

Weight decay, with a rate η and a decay λ:

- coupled (L2): λ·w is added to the gradient, and goes through the law;
- decoupled, as torch.optim.AdamW does it: w loses η·λ·w beside the update;
- independent: w loses λ·w, whatever the rate.

Where the law is linear in the gradient (SGD, with momentum or without) coupled decay is no other thing than decoupled decay,
up to momentum's constant: both are bound by η·λ, and neither can hide the gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scalecalc import duration
from scalecalc.errors import InputError
from scalecalc.expand import leading
from scalecalc.program import Weight
from scalecalc.scale import Regime, Scale
from scalecalc.table import WeightScaling
from scalecalc.term import EVEN, Term, dim_of
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

ONE = Scale.one()
DECAY = "weight decay"  # in the words of every step of a derivation that is one
DECAYS = ("coupled", "decoupled", "independent")


@dataclass(frozen=True)
class Trained:
    """A weight as its optimizer sees it.

    Args:
        weight: name and axes, output axes first.
        value: the raw weight w, without the multiplier, as it is when its gradient is taken.
        scaling: its rate, decay and ε.
        steps: how many steps an update is the sum of (:mod:`scalecalc.duration`).
    """

    weight: Weight
    value: Value
    scaling: WeightScaling
    steps: Scale = ONE


@dataclass(frozen=True)
class Numbers:
    """The same in numbers.

    Args:
        values: the raw weight at every step so far, of shape (seeds, *axes); the last is the present one.
        rate, decay, epsilon: η, λ and ε; 0 where there is none.
    """

    values: Sequence[torch.Tensor]
    rate: float = 1.0
    decay: float = 0.0
    epsilon: float = 0.0


class Optimizer(ABC):
    """The update of a weight from zero memory, as a law on values and as torch code.

    ``law`` receives the gradient's value, ``torch`` the numbers of all gradients so far with a leading seed axis; both
    return the update's direction and size at a rate of one, without the sign and without weight decay.

    - ``smooth``: is the update a smooth function of the gradient wherever that is small (SGD), or does it answer to the
      gradient's relative change (Adam)?  It decides how a second step is measured (``scalecalc.measure.training``).
    - ``family``: whose published rates apply to it: ``sgd``, ``adam`` (entries of size one), ``adafactor`` (relative to the
      weight) or ``muon`` (spectral norm one).  Parameterizations are told this name.
    - ``decay``: ``coupled``, ``decoupled`` or ``independent`` if it has weight decay; ``usual_decay`` is the λ of a model
      whose parameterization gives none (None: no decay).
    - ``linear``: is the law linear in the gradient, so that coupled decay stays apart from it?
    - ``damped``: has it an ε that a parameterization may scale?
    - ``scale_free``: does an update not depend on the size of the gradients, if all are multiplied by one number?
    - ``joint``: are gradients of all weights treated together?
    - ``nameless``: does the law make no use of the weight's name, nor of its place?  Equal layers are then derived once.
    """

    smooth: bool = True
    family: str = "adam"
    decay: str = ""
    usual_decay: Scale | None = None
    linear: bool = False
    damped: bool = False
    scale_free: bool = False
    joint: bool = False
    nameless: bool = False

    @abstractmethod
    def law(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        """Size and patterns of the update for a rate of one.

        The gradient's untagged terms are the first gradient, the same at every step; tagged ones are what a later one
        gained since.
        """

    @abstractmethod
    def torch(self, gradients: Sequence[torch.Tensor], weight: Numbers) -> torch.Tensor:
        """The last update for a rate of one, from the gradients of all steps so far, the last one last."""

    def together(self, algebra: Algebra, gradients: Mapping[str, Value]) -> Mapping[str, Value]:
        """What is done to the raw gradients of all weights before each goes its way."""
        return gradients

    def together_torch(self, gradients: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The same in numbers."""
        return gradients

    def limits(self, algebra: Algebra, gradient: Value, weight: Trained) -> Mapping[str, Scale]:
        """What has to stay bounded for decay and ε to leave the update what it is, in words.

        A solver takes λ and ε as large as these allow.  Decay removes at most the weight that is there (η·λ ≤ 1); where it
        is coupled and the law not linear, λ·w is at most the gradient's size, or the law answers to the weight instead.
        """
        lam, rate = weight.scaling.weight_decay, weight.scaling.lr
        if lam is None:
            return {}
        who = "a step removes" if weight.steps is ONE else "all steps remove"
        if self.decay == "decoupled" or (self.decay == "coupled" and self.linear):
            return {f"rate · decay: {who} no more than there is": rate * lam * weight.steps}
        if self.decay == "independent":
            return {f"decay: {who} no more than there is": lam * weight.steps}
        if self.decay != "coupled":
            return {}
        sizes = algebra.regime.leading(t.size for t in weight.value.terms if not t.tag)
        below = smallest(gradient, algebra)
        return {"decay · weight: no larger than the gradient": lam * sizes[0] / below[0]} if sizes and below else {}

    @property
    def apart(self) -> bool:
        """Can what weight decay does be told from what the gradient does?  (It is no learning.)"""
        return self.decay in ("decoupled", "independent") or (self.decay == "coupled" and self.linear)

    # ------------------------------------------------------------------ common to all

    def update(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        """The change of the effective weight m·w by a raw gradient, with decay.

        While λ is solved for there is none: a bound of its own (:meth:`limits`) keeps it from mattering.
        """
        s, lam = weight.scaling, self.decay_of(weight.scaling) if algebra.regime.point is None else None
        labels = gradient.labels
        if lam is not None and not self.apart:
            gradient = algebra.add(labels, gradient, algebra.scale(weight.value, lam, f"coupled {DECAY} {lam}"))
        raw = self.law(algebra, gradient, weight)
        out = algebra.scale(raw, s.lr * s.multiplier, f"rate {s.lr}, multiplier {s.multiplier}")
        out = duration.summed(algebra, out, weight.steps)
        if lam is None or not self.apart:
            return out
        by = (lam if self.decay == "independent" else lam * s.lr) * weight.steps
        words = f"{self.decay} {DECAY} {by}"
        if algebra.regime.order(by, ONE) not in (-1, 0):  # more than there is
            return algebra.add(labels, out, algebra.scale(weight.value, by * s.multiplier, words))
        lost = algebra.scale(weight.value.only(lambda t: bool(t.tag)), by * s.multiplier, words)
        shrunk = Term(by, EVEN, (), algebra.step(words))
        return replace(algebra.add(labels, out, lost), multiples=(shrunk,))

    def decay_of(self, scaling: WeightScaling) -> Scale | None:
        """λ, if there is any."""
        return scaling.weight_decay if self.decay else None

    def change(
        self,
        gradients: Sequence[torch.Tensor],
        weights: Sequence[torch.Tensor],
        scaling: WeightScaling,
        widths: Mapping[str, int],
    ) -> tuple[torch.Tensor, float]:
        """The last change of an effective weight in numbers: a tensor, and the factor that makes it the change.

        Kept apart because large tensors need not be multiplied where only the direction is wanted.

        Args:
            gradients, weights: effective ones at every step so far, of shape (seeds, *axes).
        """
        m, lam = scaling.multiplier.at(widths), self.decay_of(scaling)
        rate = scaling.lr.at(widths)
        decay = lam.at(widths) if lam is not None else 0.0
        raw = list(weights) if m == 1 else [w / m for w in weights]
        own = list(gradients) if m == 1 else [m * g for g in gradients]
        numbers = Numbers(raw, rate, decay, scaling.epsilon.at(widths) if self.damped and scaling.epsilon else 0.0)
        if decay and self.decay == "coupled":
            own = [g + decay * w for g, w in zip(own, raw, strict=True)]
        out = self.torch(own, numbers)
        if decay and self.decay in ("decoupled", "independent"):
            out = out + (decay if self.decay == "decoupled" else decay / rate) * raw[-1]
        return out, rate * m


def decay_named(text: str) -> str:
    """The ``decay`` option of an optimizer: ``no``, or one of :data:`DECAYS`.

    Raises:
        InputError: neither.
    """
    if text not in ("no", *DECAYS):
        raise InputError(f"decay={text[:40]} is no kind of weight decay; write no, {', '.join(DECAYS[:-1])} or {DECAYS[-1]}.")
    return "" if text == "no" else text


def smallest(gradient: Value, algebra: Algebra) -> tuple[Scale, ...]:
    """The size of the first gradient where it is smallest: its leading terms at the last index.

    ε is compared with every entry, so that it must not exceed the smallest of those that count.  (An exponentially falling
    profile is not followed to its end.)
    """
    heads = leading([t for t in gradient.terms if not t.tag], algebra)
    out: list[Scale] = []
    for t in heads:
        size = t.size
        for label in gradient.labels:
            size = size * t.pattern.profile(label).ends(dim_of(label))[1]
        out.append(size)
    return algebra.regime.leading(out)


def larger(a: Scale, b: Scale, regime: Regime) -> bool:
    """Is a larger than b somewhere, as far as the regime tells?"""
    below = (-1, 0) if regime.point is None else (-1,)  # where unknowns make it tie, it stays so as they go on
    return regime.order(a, b) not in below
