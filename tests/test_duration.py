"""A number of steps that grows: what T updates come to, as derived and as torch's own optimizers make it."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import pytest
import torch
from cases import S

import scalecalc as sc
from scalecalc.errors import InputError, UnsupportedScale
from scalecalc.pieces import formula
from scalecalc.scale import Regime

HALF = Fraction(1, 2)
MODEL, FEW, MANY = "mlp:grow=batch+steps", "batch=s,steps=s,noise=s^3", "batch=s,steps=s^2,noise=s^2"
ROW = {"fix": {"N": 16}, "loss": "noisy"}


def power(optimizer: str, regime: str) -> Fraction:
    """How h2 moves with the steps alone, along a path: by the power of steps in its leading term."""
    table = sc.derive(MODEL, optimizer=optimizer, regime=regime, **ROW)
    (term,) = table["h2", "update", "W_2"].terms
    return term.power("steps")


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "lion", "muon"])
def test_noise_adds_up_to_a_root_until_as_many_samples_are_seen_as_the_noise_scale(optimizer: str) -> None:
    assert power(optimizer, FEW) == HALF  # steps · batch = s², the noise scale s³
    assert power(optimizer, MANY) == 1


def test_without_noise_every_step_is_alike() -> None:
    table = sc.derive("mlp:grow=steps", optimizer="adam", fix={"N": 16})
    assert table["h2", "update", "W_2"].terms == (S("steps"),)
    assert any("keep their direction" in text for text in table["h2", "update", "W_2"].assumptions)
    assert any("noise that is drawn anew at each" in note for note in table.notes)


def test_the_rate_of_a_run_as_a_function_of_batch_steps_and_noise_scale() -> None:
    found = sc.solve(MODEL, optimizer="adamw", regime="free", steps=1, **ROW)
    text = {q: formula(found.pieces["W_2", q], found.dims) for q in ("lr", "weight_decay")}
    assert text["lr"] == "max(min(steps^(-1/2), batch^(-1/2) noise^(1/2) steps^(-1)), steps^(-1))"
    for path, rate in ((FEW, "steps^-1/2"), (MANY, "batch^-1/2 noise^1/2 steps^-1")):
        there = sc.solve(MODEL, optimizer="adamw", regime=path, steps=1, **ROW)
        how = Regime.parse(path, there.dims)
        assert how.order(there["W_2"].lr, S(rate)) == 0
        assert there["W_2"].weight_decay is not None
        assert how.order(there["W_2"].weight_decay * there["W_2"].lr * S("steps"), S("1")) == 0
    assert set(found.fates.values()) == {"learning"}


def test_contributions_of_several_updates_are_refused() -> None:
    with pytest.raises(UnsupportedScale, match="--steps 1"):
        sc.solve(MODEL, optimizer="adam", **ROW)


def test_verify_takes_one_step() -> None:
    with pytest.raises(InputError, match="--fix steps=1"):
        sc.verify("mlp:grow=steps", optimizer="adam", budget=1)


# ---------------------------------------------------------------------- trained

RUNS, WIDTH, BATCH, RATE = 200, 8, 4, 1e-4


def trained(kind: str, steps: int, noise: float) -> float:
    """How far a run moves the second layer of a perceptron, in log₂, with noise of its own at every step."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, shared = draw(RUNS, BATCH, 4), draw(RUNS, 1, 1)
    h = torch.relu(x @ draw(RUNS, 4, WIDTH) / 2)
    w = (draw(RUNS, WIDTH, WIDTH) / math.sqrt(WIDTH)).requires_grad_()
    out, before = draw(RUNS, WIDTH, 1) / WIDTH, (h @ w).detach()
    make = {"sgd": lambda p: torch.optim.SGD(p, RATE), "adam": lambda p: torch.optim.Adam(p, RATE, betas=(0.5, 0.9))}
    trainer = make[kind]([w])
    for _ in range(steps):
        c = shared / math.sqrt(noise) + draw(RUNS, BATCH, 1)
        trainer.zero_grad()
        ((torch.relu(h @ w) @ out) * c).mean(1).sum().backward()
        trainer.step()
    return math.log2(float((h @ w - before).detach().square().mean().sqrt()))


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize(("noise", "slope"), [(1e6, 0.5), (0.02, 1.0)])
def test_a_run_of_torchs_optimizer_moves_as_far_as_derived(kind: str, noise: float, slope: float) -> None:
    """steps · batch far below the noise scale, and far above it: slopes .5 and 1 over 16 to 128 steps."""
    found = (trained(kind, 128, noise) - trained(kind, 16, noise)) / 3
    assert abs(found - slope) < 0.12
