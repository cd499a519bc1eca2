"""How rates go with the batch: signal and noise of a step, and what many steps make of them.

A gradient that is a mean over a batch has a part that all samples share, and one that is independent from sample to sample
and falls like batch^(−1/2).  Both have the same size at the noise scale (McCandlish et al. 2018, arXiv 1812.06162), a dim of
its own here, ``noise``: the loss ``noisy`` gives each sample's output the gradient noise^(−1/2) c + ξ_b (``rules/loss.py``).
That is all that is put in.  Backwards, and through the optimizer's law, the two parts stay apart by the power of ``noise``
that they have, so that a step's signal and noise are read off the derivation.

Steps see samples of their own.  So over steps the signal adds up, and the noise, odd in each step's samples, to a root: the
law of every sum, over an axis of steps.  A number of samples is samples/batch steps.  The rate for which as many samples
move the weights as far, along the signal, whatever the batch, is the rule: batch for a step that is linear in the gradient
(SGD), batch^(1/2) where the noise, which leads, divides it (Adam).  That the noise in the weights is then the same, too, is
found, not asked for.  Beyond the noise scale the signal leads, a step cannot be longer for a cleaner gradient, and no rule
holds.

The rules as published: Goyal et al. 2017, arXiv 1706.02677 (linear, SGD); Malladi et al. 2022, arXiv 2205.10287 (root, Adam).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from scalecalc.errors import UnsupportedScale
from scalecalc.scale import Regime, Scale
from scalecalc.term import EVEN, atom, pattern, sum_pattern
from scalecalc.value import Value

if TYPE_CHECKING:
    from scalecalc.model import Model

NOISE, STEPS, HALF = "noise", "steps", Fraction(1, 2)
LOSS = "noisy"


@dataclass(frozen=True)
class BatchRule:
    """What a growing batch does to one weight.

    Args:
        signal, noise: of one step, at a rate of one, as powers of the batch (and the noise scale).
        rate: the power of the batch with which as many samples move the weight as far.
        left: the power of the batch that the noise of all these steps then has; 0: the weight's noise stays what it is.
    """

    batch: str
    signal: Scale
    noise: Scale
    rate: Fraction
    left: Fraction


def batch_rules(model: Model) -> dict[str, BatchRule]:
    """The rule of every weight, where the noise leads: below the noise scale.

    Args:
        model: resolved with ``loss="noisy"`` and a batch that grows.

    Raises:
        UnsupportedScale: a weight's step has no signal, or no noise, that a power of the batch says.
    """
    from scalecalc.derive import interpret

    batch = _batch(model)
    found = interpret(model, Regime.parse(f"{NOISE}>{batch}", model.program.dims), corrections=True)
    return {name: _rule(name, value, batch, found.algebra.regime) for name, value in found.updates.items()}


def _batch(model: Model) -> str:
    program = model.program
    assert program.loss is not None
    weights = {label for weight in program.weights.values() for label in weight.axes}
    return next(label for label in program.growing(program.ops[program.loss].axes) if label not in weights)


def _rule(name: str, update: Value, batch: str, regime: Regime) -> BatchRule:
    sizes = [t.size for t in update.terms]
    parts = [regime.leading(s for s in sizes if bool(s.power(NOISE)) is shared) for shared in (True, False)]
    if any(len(part) != 1 for part in parts):
        raise UnsupportedScale(
            f"the step of {name} has no signal and noise that are each of one size: what samples share in it cancels, or "
            "the optimizer mixes them. Nothing is derived of its rate."
        )
    (signal,), (noise,) = parts
    along, _, _ = sum_pattern(EVEN, STEPS)
    across, _, _ = sum_pattern(pattern((), [atom("samples of a step", [STEPS])]), STEPS)
    rate = along.power(STEPS) - signal.power(batch)  # steps = samples/batch
    left = noise.power(batch) - across.power(STEPS) + rate
    return BatchRule(batch, signal, noise, rate, left)


def notes(model: Model) -> tuple[str, ...]:
    """The rules in sentences, for a table's notes; none of a model with another loss."""
    if model.loss != LOSS:
        return ()
    try:
        rules = batch_rules(model)
    except UnsupportedScale as error:
        return (str(error),)
    return tuple(_words(weights, rules[weights[0]]) for weights in _alike(rules))


def _alike(rules: Mapping[str, BatchRule]) -> list[list[str]]:
    groups: dict[tuple[Fraction, Fraction], list[str]] = {}
    for name, rule in rules.items():
        groups.setdefault((rule.rate, rule.left), []).append(name)
    return list(groups.values())


def _words(weights: list[str], rule: BatchRule) -> str:
    b = rule.batch
    rate, left = Scale.of(b, rule.rate), Scale.of(b, rule.left)
    signal, noise = (Scale.of(b, part.power(b)) for part in (rule.signal, rule.noise))
    stays = "stays what it is" if not rule.left else f"goes like {left}"
    return (
        f"Up to a {b} of the noise scale a step of {', '.join(weights)} has a signal that goes like {signal} and a noise "
        f"that goes like {noise}. For as many samples to move it as far its rate goes like {rate}; its noise then {stays}."
    )


__all__ = ["BatchRule", "batch_rules", "notes"]
