"""Rates as the batch grows: derived from signal and noise of a step, and trained with torch's own optimizers."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

import scalecalc as sc
from scalecalc.batch import batch_rules
from scalecalc.errors import InputError
from scalecalc.model import resolve
from scalecalc.scale import Scale

HALF = Fraction(1, 2)
SAMPLES, SIGNAL, COPIES = 2048, 0.04, 2000


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 1), ("momentum", 1), ("adam", HALF), ("lion", HALF), ("muon", HALF)])
def test_rates_go_with_the_batch_as_signal_and_noise_say(optimizer: str, rate: Fraction) -> None:
    rules = batch_rules(resolve("mlp:grow=batch", optimizer=optimizer, loss="noisy", fix={"N": 16}))
    assert set(rules) == {"W_in", "W_2", "W_out"}
    for rule in rules.values():
        assert (rule.rate, rule.left) == (rate, 0)


def test_a_gradient_is_signal_or_noise_with_the_batch_on_either_side_of_the_noise_scale() -> None:
    table = sc.derive("mlp:grow=batch", optimizer="sgd", loss="noisy", fix={"N": 16})
    assert set(table["W_2", "gradient"].terms) == {Scale.of("batch", -HALF), Scale.of("noise", -HALF)}
    assert any("its rate goes like batch; its noise then stays what it is" in note for note in table.notes)


def moved(optimizer: str, batch: int, rate: float) -> tuple[float, float]:
    """By how much many weights of a linear loss move in mean, and about it, over as many samples."""
    torch.manual_seed(batch)
    w = torch.zeros(COPIES, requires_grad=True)
    kinds = {"sgd": torch.optim.SGD, "adam": lambda p, lr: torch.optim.Adam(p, lr, betas=(0.5, 0.9))}
    trained = kinds[optimizer]([w], lr=rate)
    for _ in range(SAMPLES // batch):
        w.grad = SIGNAL + torch.randn(COPIES) / math.sqrt(batch)
        trained.step()
    return -float(w.detach().mean()), float(w.detach().std())


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 1.0), ("adam", 0.5)])
def test_training_on_as_many_samples_is_the_same_at_every_batch_with_the_derived_rate(optimizer: str, rate: float) -> None:
    derived, other = (
        [moved(optimizer, batch, 1e-3 * batch**power) for batch in (8, 64)] for power in (rate, 1.5 - rate)
    )
    for part in (0, 1):  # signal, noise
        assert abs(math.log2(derived[1][part] / derived[0][part])) < 0.3
        assert abs(math.log2(other[1][part] / other[0][part])) > 1.1  # the other optimizer's rule


def test_noise_needs_a_batch_that_grows() -> None:
    with pytest.raises(InputError, match="mlp:grow=batch"):
        resolve("mlp", loss="noisy")
