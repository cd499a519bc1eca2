"""Optimizers' torch code, step by step against the implementations that users run, or against the papers' algorithms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power

from scalecalc.model import optimizer_of
from scalecalc.optimizer import Numbers, Optimizer
from scalecalc.rule import registry
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

SEEDS, STEPS, RATE, DECAY, EPSILON = 3, 3, 2.0**-4, 2.0**-3, 2.0**-2
N = Scale.of("N")
HALF = {"N": 2}  # a width at which powers of N are powers of two: rates and decays come to the numbers above
SHAPES = [(5, 4), (4, 6), (3, 3), (7,)]
MATRICES = SHAPES[:3]
Reference = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


def scaling(optimizer: Optimizer, epsilon: bool = False) -> WeightScaling:
    decay = N**-3 if optimizer.decay else None
    return WeightScaling(Scale.one(), Scale.one(), N**-4, "", decay, N**-2 if epsilon else None)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ours(name: str, start: torch.Tensor, gradients: Sequence[torch.Tensor], epsilon: bool = False) -> list[torch.Tensor]:
    """The weights after every step."""
    optimizer, weights = optimizer_of(name), [start]
    for k in range(len(gradients)):
        change, factor = optimizer.change(gradients[: k + 1], weights, scaling(optimizer, epsilon), HALF)
        weights.append(weights[-1] - factor * change)
    return weights[1:]


def theirs(make: Reference, start: torch.Tensor, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The same by a torch optimizer, every seed by itself."""
    parameters = [row.clone().requires_grad_() for row in start]
    optimizers, out = [make([p]) for p in parameters], []
    for g in gradients:
        for p, row, optimizer in zip(parameters, g, optimizers, strict=True):
            p.grad = row.clone()
            optimizer.step()
        out.append(torch.stack([p.detach().clone() for p in parameters]))
    return out


T = torch.optim


def decaying(part: float, make: Reference) -> Reference:
    """SGDW (Loshchilov & Hutter 2019, arXiv 1711.05101, alg. 1): every weight loses a part of itself beside torch's step."""

    def made(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        optimizer = make(parameters)

        def lose(*_: Any) -> None:
            for p in parameters:
                p.data.mul_(1 - part)

        optimizer.register_step_pre_hook(lose)
        return optimizer

    return made


TORCH: dict[str, tuple[Reference, bool, list[tuple[int, ...]]]] = {
    "sgd": (lambda p: T.SGD(p, RATE), False, SHAPES),
    "momentum": (lambda p: T.SGD(p, RATE, momentum=0.9), False, SHAPES),
    "nesterov": (lambda p: T.SGD(p, RATE, momentum=0.9, nesterov=True), False, SHAPES),
    "sgd:decay=coupled": (lambda p: T.SGD(p, RATE, weight_decay=DECAY), False, SHAPES),
    "momentum:decay=coupled": (lambda p: T.SGD(p, RATE, momentum=0.9, weight_decay=DECAY), False, SHAPES),
    "nesterov:decay=coupled": (
        lambda p: T.SGD(p, RATE, momentum=0.9, nesterov=True, weight_decay=DECAY), False, SHAPES,
    ),
    "sgd:decay=decoupled": (decaying(RATE * DECAY, lambda p: T.SGD(p, RATE)), False, SHAPES),
    "momentum:decay=decoupled": (decaying(RATE * DECAY, lambda p: T.SGD(p, RATE, momentum=0.9)), False, SHAPES),
    "nesterov:decay=independent": (decaying(DECAY, lambda p: T.SGD(p, RATE, momentum=0.9, nesterov=True)), False, SHAPES),
    "adam": (lambda p: T.Adam(p, RATE, eps=0.0), False, SHAPES),
    "adam with ε": (lambda p: T.Adam(p, RATE, eps=EPSILON), True, SHAPES),
    "adam_eps": (lambda p: T.Adam(p, RATE, eps=1.0), False, SHAPES),
    "adam_l2": (lambda p: T.Adam(p, RATE, eps=0.0, weight_decay=DECAY), False, SHAPES),
    "adamw": (lambda p: T.AdamW(p, RATE, eps=0.0, weight_decay=DECAY), False, SHAPES),
    "adamw with ε": (lambda p: T.AdamW(p, RATE, eps=EPSILON, weight_decay=DECAY), True, SHAPES),
    "adamw_independent": (lambda p: T.AdamW(p, RATE, eps=0.0, weight_decay=DECAY / RATE), False, SHAPES),
    "adafactor": (lambda p: T.Adafactor(p, RATE, eps=(0.0, 0.0), weight_decay=DECAY), False, SHAPES),
    "adafactor with ε": (lambda p: T.Adafactor(p, RATE, eps=(0.0, EPSILON), weight_decay=DECAY), True, SHAPES),
    "muon": (lambda p: T.Muon(p, RATE, weight_decay=DECAY), False, MATRICES),
    "muon_rms": (lambda p: T.Muon(p, RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"), False, MATRICES),
}
PAPERS = ("lion", "sign", "shampoo", "soap", "muon_spectral")


def test_no_optimizer_is_left_out() -> None:
    assert {name.split()[0].partition(":")[0] for name in TORCH} | set(PAPERS) == set(registry("optimizer"))


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, (_, _, shapes) in TORCH.items() for shape in shapes])
def test_every_step_is_torchs(name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps on random gradients, with decay and ε, to rounding."""
    make, epsilon, _ = TORCH[name]
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # Muon rounds its matrices; not here
    start = 0.3 * drawn(SEEDS, *shape)
    gradients = [drawn(SEEDS, *shape, seed=k) * 3.0**-k for k in range(1, STEPS + 1)]
    found, expected = ours(name.split()[0], start, gradients, epsilon), theirs(make, start, gradients)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "nesterov:decay=coupled", "adamw with ε", "adam_l2", "adafactor", "muon"])
def test_the_raw_weight_is_what_the_optimizer_sees(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a multiplier m = 2 the network's weight is 2 w: the chain rule gives w twice the gradient."""
    make, epsilon, _ = TORCH[name]
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    start, gradients = drawn(SEEDS, 5, 4), [drawn(SEEDS, 5, 4, seed=k) for k in (1, 2, 3)]
    expected = theirs(make, start, [2 * g for g in gradients])
    optimizer, weights = optimizer_of(name.split()[0]), [2 * start]
    given = replace(scaling(optimizer, epsilon), multiplier=N)
    for k in range(len(gradients)):
        change, factor = optimizer.change(gradients[: k + 1], weights, given, HALF)
        weights.append(weights[-1] - factor * change)
        torch.testing.assert_close(weights[-1], 2 * expected[k], rtol=1e-10, atol=1e-12)


def test_muon_as_torch_rounds_it() -> None:
    """Without that, torch's differs by bfloat16's rounding and no more."""
    start, gradients = drawn(SEEDS, 5, 4), [drawn(SEEDS, 5, 4, seed=k) for k in (1, 2)]
    found, expected = (f[-1] - start for f in (ours("muon", start, gradients), theirs(TORCH["muon"][0], start, gradients)))
    assert float((found - expected).abs().max()) < 0.05 * RATE


@pytest.mark.parametrize("name", ["sgd", "adam", "momentum", "momentum:decay=coupled"])
def test_gradients_are_clipped_as_torch_clips_them(name: str) -> None:
    """By the norm of all together, and only where that is above one."""
    optimizer = optimizer_of(name + (",clip=yes" if ":" in name else ":clip=yes"))
    start = {"V": drawn(SEEDS, 5, 4), "W": drawn(SEEDS, 6, seed=1)}
    sizes = (3.0, 0.05, 1.0)
    gradients = [{w: s * drawn(*x.shape, seed=7 * k + len(w)) for w, x in start.items()} for k, s in enumerate(sizes)]
    seen: list[dict[str, torch.Tensor]] = []
    weights = {w: [x] for w, x in start.items()}
    parameters = [[start[w][s].clone().requires_grad_() for w in start] for s in range(SEEDS)]
    references = [TORCH[name][0](p) for p in parameters]
    for g in gradients:
        seen.append(dict(optimizer.together_torch(g)))
        for w, history in weights.items():
            change, factor = optimizer.change([x[w] for x in seen], history, scaling(optimizer), HALF)
            history.append(history[-1] - factor * change)
        for s, (own, reference) in enumerate(zip(parameters, references, strict=True)):
            for p, w in zip(own, start, strict=True):
                p.grad = g[w][s].clone()
            torch.nn.utils.clip_grad_norm_(own, 1.0)
            reference.step()
            for p, w in zip(own, start, strict=True):
                torch.testing.assert_close(weights[w][-1][s], p.detach(), rtol=1e-10, atol=1e-12)
    norms = [sum(float(x[0].square().sum()) for x in g.values()) ** 0.5 for g in gradients]
    assert max(norms) > 1 > min(norms)


# ---------------------------------------------------------------- by the papers


def lion(gradients: Sequence[np.ndarray]) -> np.ndarray:
    """Chen et al. 2023, program 1, β 0.9 and 0.99."""
    momentum, update = np.zeros_like(gradients[0]), None
    for g in gradients:
        update = np.sign(momentum * 0.9 + g * 0.1)
        momentum = momentum * 0.99 + g * 0.01
    assert update is not None
    return update


def orthogonal(g: np.ndarray) -> np.ndarray:
    u, s, v = np.linalg.svd(g, full_matrices=False)
    return u[:, s > 1e-9] @ v[s > 1e-9]


def shampoo(gradients: Sequence[np.ndarray]) -> np.ndarray:
    """Gupta et al. 2018, algorithm 1 with a small ε."""
    if len(gradients) == 1:
        return orthogonal(gradients[0])
    left, right = (sum(x @ x.T for x in xs) for xs in (gradients, [g.T for g in gradients]))
    return fractional_matrix_power(left, -0.25) @ gradients[-1] @ fractional_matrix_power(right, -0.25)


def soap(gradients: Sequence[np.ndarray]) -> np.ndarray:
    """Vyas et al. 2024, algorithms 3 and 4: eigenvectors at first, then the QR of L Q; β of 0.95."""
    left = right = mean = square = 0.0
    bases: list[np.ndarray] = []
    update = np.zeros(())
    for t, g in enumerate(gradients, 1):
        left, right = 0.95 * left + 0.05 * g @ g.T, 0.95 * right + 0.05 * g.T @ g
        moments = (left, right)
        bases = [np.linalg.eigh(m)[1] for m in moments] if t == 1 else [
            np.linalg.qr(m @ q)[0] for m, q in zip(moments, bases, strict=True)
        ]  # fmt: skip
        if t == 1:
            bases = [q[:, ::-1] for q in bases]
        a, b = bases
        turned = a.T @ g @ b
        turned = np.where(abs(turned) > 1e-10 * abs(turned).max(), turned, 0)
        mean, square = 0.95 * mean + 0.05 * g, 0.95 * square + 0.05 * turned**2
        with np.errstate(invalid="ignore", divide="ignore"):
            step = (a.T @ mean @ b / (1 - 0.95**t)) / np.sqrt(square / (1 - 0.95**t))
        update = a @ np.nan_to_num(step, posinf=0, neginf=0) @ b.T
    return update


@pytest.mark.parametrize("reference", [lion, shampoo, soap])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("shape", [(5, 4), (3, 4), (3, 3)])  # at most one direction is empty, or SOAP's basis is not unique
def test_every_step_is_the_papers(reference: Any, steps: int, shape: tuple[int, ...]) -> None:
    gradients = [drawn(SEEDS, *shape, seed=k) * 2.0**-k for k in range(1, steps + 1)]
    found = optimizer_of(reference.__name__).torch(gradients, Numbers(gradients))
    for seed in range(SEEDS):
        expected = reference([g[seed].numpy() for g in gradients])
        np.testing.assert_allclose(found[seed].numpy(), expected, rtol=1e-6, atol=1e-6)


def test_sign_descent_forgets() -> None:
    g, later = drawn(SEEDS, 4, 3), drawn(SEEDS, 4, 3, seed=1)
    assert torch.equal(optimizer_of("sign").torch([g, later], Numbers([])), later.sign())


@pytest.mark.parametrize("name", ["shampoo", "soap"])
@pytest.mark.parametrize("rank", [1, 6])
def test_a_large_gradient_of_low_rank_is_orthogonalised_exactly(name: str, rank: int) -> None:
    """Wider than what is reduced to small matrices, with a profile along its rows."""
    rows = drawn(2, 150, rank) / torch.arange(1, 151, dtype=torch.float64)[:, None]
    g = rows @ drawn(2, rank, 90, seed=1)
    found = optimizer_of(name).torch([g], Numbers([]))
    for seed in range(2):
        np.testing.assert_allclose(found[seed].numpy(), orthogonal(g[seed].numpy()), atol=1e-7)


@pytest.mark.parametrize("name", ["muon", "muon_spectral", "muon_rms"])
def test_muon_makes_singular_values_of_order_one_times_its_factor(name: str) -> None:
    rows, columns = 24, 96
    g = drawn(1, rows, 4) @ drawn(1, 4, columns, seed=1)
    found = torch.linalg.svdvals(optimizer_of(name).torch([g], Numbers([]))[0])
    factor = {"muon": 1.0, "muon_spectral": 0.5, "muon_rms": 0.2 * columns**0.5}[name]
    assert found[:4].min() > 0.6 * factor
    assert found[0] < 1.3 * factor
    assert found[4] < 1e-9


@pytest.mark.parametrize("name", sorted({*PAPERS, *(name.split()[0] for name in TORCH)}))
def test_seeds_do_not_see_each_other(name: str) -> None:
    gradients = [drawn(SEEDS, 5, 4, seed=k) for k in (1, 2)]
    weights = [drawn(SEEDS, 5, 4, seed=3)] * 2
    optimizer = optimizer_of(name)
    whole = optimizer.torch(gradients, Numbers(weights))
    alone = optimizer.torch([g[1:2] for g in gradients], Numbers([w[1:2] for w in weights]))
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-7, atol=1e-9)
