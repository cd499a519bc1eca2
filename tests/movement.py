"""How much features move in training, width by width: a solved parameterization on a plain torch network, or none.

At the base width, the smallest, both are the network's own initial weights and given rates.  At wider ones "solved" is what
``scalecalc.torch`` makes of the base; "standard" is the network's own initial weights and the same rates again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import torch
from nets import MLP_NAMES, S6_NAMES, Perceptron, Selective
from torch import nn

import scalecalc as sc
from scalecalc.numbers import Given
from scalecalc.solution import Solution

MODELS = {"mlp": "mlp:depth=3", "s6": "s6", "s6_all": "s6"}
NAMES = {"mlp": MLP_NAMES, "s6": S6_NAMES, "s6_all": S6_NAMES}
REQUIRED = {"s6_all": ("update u = 1", "update B = 1", "update C = 1")}  # can be met with adam, not with sgd
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
RATES: dict[tuple[str, str], Given] = {  # at base: about the best there in ten steps
    ("mlp", "sgd"): 0.2, ("mlp", "adam"): 0.01, ("s6", "sgd"): {"*": 0.1, "step.weight": 1.0}, ("s6", "adam"): 0.01,
    ("s6_all", "adam"): 0.01,
}  # fmt: skip


@cache
def solved(which: str, optimizer: str) -> Solution:
    return sc.solve(MODELS[which], optimizer=optimizer, require=REQUIRED.get(which, ()))


def build(which: str, width: int, seed: int) -> nn.Module:
    torch.manual_seed(1000 * seed + width)
    return Perceptron(width) if which == "mlp" else Selective(width, width // 8)


def updates(
    which: str, optimizer: str, width: int, *, base: int, seed: int, steps: int, standard: bool, lr: Given | None = None
) -> dict[str, list[float]]:
    """Per feature log RMS(after k steps − before), k = 1 … steps."""
    model, small = build(which, width, seed), build(which, base, seed)
    lr = lr or RATES[which, optimizer]
    p, names = solved(which, optimizer), NAMES[which]
    if not standard:
        sc.torch.initialize(model, p, base=small, names=names)
    # with itself as base nothing scales: the same rates at every width
    groups = sc.torch.param_groups(model, p, base=model if standard else small, lr=lr, names=names)
    trained = OPTIMIZERS[optimizer](groups)
    generator = torch.Generator().manual_seed(seed)  # the data are the same at every width
    x = torch.randn(*((8, 16) if which == "mlp" else (4, 2, 16)), generator=generator)
    target = torch.randn(*x.shape[:-1], 4, generator=generator)
    with torch.no_grad():
        start = model.features(x)
    out: dict[str, list[float]] = {name: [] for name in start}
    for _ in range(steps):
        trained.zero_grad()
        nn.functional.mse_loss(model(x), target).backward()
        trained.step()
        with torch.no_grad():
            for name, now in model.features(x).items():
                out[name].append(float((now - start[name]).double().square().mean().sqrt().log()))
    return out


@dataclass(frozen=True)
class Slope:
    """Of one feature at one step: mean over seeds and its standard error."""

    mean: float
    error: float


def slopes(
    which: str,
    optimizer: str,
    widths: Sequence[int],
    *,
    seeds: int,
    steps: int,
    standard: bool,
    lr: Given | None = None,
) -> dict[str, list[Slope]]:
    """Per feature and step the slope in log width, fitted for each seed."""
    base, used = min(widths), sorted(widths)
    found = {
        (seed, width): updates(
            which, optimizer, width, base=base, seed=seed, steps=steps, standard=standard, lr=lr
        )
        for seed in range(seeds)
        for width in used
    }
    logs = torch.tensor([math.log(w) for w in used], dtype=torch.float64)
    along = (logs - logs.mean()) / (logs - logs.mean()).square().sum()
    out: dict[str, list[Slope]] = {}
    for feature in found[0, used[0]]:
        values = torch.tensor([[found[s, w][feature] for w in used] for s in range(seeds)], dtype=torch.float64)
        each = (values * along[None, :, None]).sum(1)  # seeds, steps
        error = each.std(0) / seeds**0.5
        out[feature] = [Slope(float(m), float(e)) for m, e in zip(each.mean(0), error, strict=True)]
    return out


def derived(which: str, optimizer: str) -> dict[str, Fraction]:
    """Per feature the exponent of its largest derived update, along the path on which all dims grow alike."""
    p = solved(which, optimizer)
    assert p.derived is not None
    out: dict[str, Fraction] = {}
    for row in p.derived:
        for term in row.terms if row.kind == "update" else ():
            power = sum((term.power(dim) for dim in p.dims), Fraction(0))
            out[row.row] = max(out.get(row.row, power), power)
    return out
