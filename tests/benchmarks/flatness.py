"""Do features move as much at every width?  A solved parameterization on plain torch networks, against torch's defaults.

    python tests/benchmarks/flatness.py                          # both networks, sgd and adam, widths 64 … 2048
    python tests/benchmarks/flatness.py mlp --widths 64:512 --seeds 8 --steps 10

The networks are those of ``tests/nets.py``.  At the base width (64 channels; 16 states, a quarter of the channels at every
width) both parameterizations are torch's own initial weights and one rate.  At wider ones "solved" is what
``scalecalc.torch`` makes of the base, "standard" is torch's own initial weights and the same rate again.

Printed, for every feature: the slope of log RMS(feature after k steps − before) in log width over the three largest widths,
its standard error over seeds, the largest and the least over the steps k, and the exponent that is derived.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

import scalecalc as sc
from scalecalc.request import parse_dims
from scalecalc.solution import Solution

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from nets import MLP_NAMES, S6_NAMES, Perceptron, Selective

MODELS = {"mlp": "mlp:depth=3", "s6": "s6"}
NAMES = {"mlp": MLP_NAMES, "s6": S6_NAMES}
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
RATES = {("mlp", "sgd"): 0.2, ("mlp", "adam"): 0.005, ("s6", "sgd"): 0.1, ("s6", "adam"): 0.005}
FIT = 3  # widths that a slope is taken over


@cache
def solved(which: str, optimizer: str) -> Solution:
    return sc.solve(MODELS[which], optimizer=optimizer)


def build(which: str, width: int, seed: int) -> nn.Module:
    torch.manual_seed(1000 * seed + width)
    return Perceptron(width) if which == "mlp" else Selective(width, width // 4)


def updates(
    which: str, optimizer: str, width: int, *, base: int, seed: int, steps: int, standard: bool, lr: float | None = None
) -> dict[str, list[float]]:
    """Per feature log RMS(after k steps − before), k = 1 … steps."""
    model, small = build(which, width, seed), build(which, base, seed)
    lr = lr or RATES[which, optimizer]
    p, names = solved(which, optimizer), NAMES[which]
    if standard:
        trained = OPTIMIZERS[optimizer]([q for q in model.parameters() if q.requires_grad], lr=lr)
    else:
        sc.torch.initialize(model, p, base=small, names=names)
        trained = OPTIMIZERS[optimizer](sc.torch.param_groups(model, p, base=small, lr=lr, names=names))
    generator = torch.Generator().manual_seed(seed)  # the data are the same at every width
    x = torch.randn(*((8, 16) if which == "mlp" else (8, 2, 16)), generator=generator)
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
    lr: float | None = None,
    fit: int = FIT,
) -> dict[str, list[Slope]]:
    """Per feature and step the slope in log width, fitted for each seed over the largest widths."""
    base = min(widths)
    used = sorted(widths)[-fit:]
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


def derived(which: str, optimizer: str) -> dict[str, str]:
    """Per feature the largest derived update, along the path on which all dims grow alike."""
    p = solved(which, optimizer)
    assert p.derived is not None
    out: dict[str, str] = {}
    for row in p.derived:
        if row.kind == "update":
            for term in row.terms:
                old = out.get(row.row)
                total = sum((term.power(d) for d in p.dims), start=term.power("") * 0)
                if old is None or total > max_of(old):
                    out[row.row] = str(total)
    return out


def max_of(text: str) -> float:
    top, _, bottom = text.partition("/")
    return int(top) / int(bottom or 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["mlp", "s6"], choices=["mlp", "s6"])
    parser.add_argument("--widths", default="64:2048")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    widths = parse_dims([f"N={given.widths}"])["N"]
    torch.set_default_dtype(torch.float32)
    for which in given.networks:
        for optimizer in OPTIMIZERS:
            expected = derived(which, optimizer)
            for standard in (False, True):
                found = slopes(which, optimizer, widths, seeds=given.seeds, steps=given.steps, standard=standard)
                print(f"\n{which}, {optimizer}, {'standard' if standard else 'solved'}, widths {sorted(widths)[-FIT:]}")
                for feature, every in found.items():
                    low, high = min(every, key=lambda s: s.mean), max(every, key=lambda s: s.mean)
                    last = every[-1]
                    ends = [f"step {k} {s.mean:+.3f} ±{s.error:.3f}" for k, s in ((1, every[0]), (given.steps, last))]
                    claim = "" if standard else f"derived {expected[feature]}"
                    print(f"  {feature:6} {'   '.join(ends)}   all steps {low.mean:+.3f} … {high.mean:+.3f}   {claim}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
