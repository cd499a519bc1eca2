"""Runs that were never made: losses from surfaces whose best rate is known, for tests and for trying out the report.

A surface is loss(r) = floor + gain·N^(−power) + depth·g(r − best(N)), g(d) = d²(1 + skew·d): steeper to the right of the
best rate, up to one from which on runs diverge, and straight far to the left.  ``best`` and the edge move by ``drift`` per
doubling of width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scalecalc.transfer.records import Job


@dataclass(frozen=True)
class Surface:
    """Losses of one parameterization.

    Args:
        best: log₂ of the best rate at the narrowest width; ``drift``: by how much it moves per doubling.
        edge: from which distance right of the best rate on runs diverge; ``edge_drift``: by how much more that moves.
        depth: the loss one octave from the best; ``skew``: cubic part of it per octave; ``noise``: a run's own, relative.
        common: relative, what a seed adds at every rate; ``sway``: by how many octaves a seed moves the best rate.
    """

    best: float = -6.0
    drift: float = 0.0
    edge: float = 2.6
    edge_drift: float = 0.0
    floor: float = 1.6
    gain: float = 2.0
    power: float = 0.25
    depth: float = 0.04
    skew: float = 0.3
    noise: float = 0.002
    common: float = 0.005
    sway: float = 0.0

    def optimum(self, doublings: float) -> float:
        """log₂ of the best rate that many doublings from the narrowest width."""
        return self.best + self.drift * doublings

    def loss(self, rate: float, width: int, doublings: float, moved: float = 0.0) -> float:
        """The loss that seeds scatter about."""
        d = rate - self.optimum(doublings) - moved
        bowl = d * d * (1 + self.skew * d) if d > -1 / (1.5 * self.skew or 1e-9) else _tail(d, self.skew)
        return self.floor + self.gain * width**-self.power + self.depth * bowl


def _tail(d: float, skew: float) -> float:
    """d²(1 + skew·d) to the left of its maximum, continued straight so that it does not fall again."""
    at = -1 / (1.5 * skew)
    return at * at * (1 + skew * at) + 0.2 * (at - d)


MUP = Surface()
SP = Surface(best=-5.0, drift=-0.9, edge_drift=-0.1, power=0.15)


def jobs(
    surfaces: dict[str, Surface],
    widths: Iterable[dict[str, int]],
    rates: Sequence[float],
    seeds: int = 2,
    *,
    group: str = "",
    seed: int = 0,
    dominated: float = math.inf,
    along: Callable[[dict[str, int]], float] | None = None,
    steps: int = 200,
) -> list[Job]:
    """The runs of a sweep over surfaces by the name of their parameterization.

    Args:
        dominated: runs whose loss is above this many times the lowest of their curve are stopped early.
        along: how many doublings a setting of the widths is from the narrowest; else by the product of the widths.
        seed: of all noise.
    """
    random = np.random.default_rng(seed)
    settings = list(widths)
    narrowest = min(math.prod(one.values()) for one in settings)
    out: list[Job] = []
    for name, surface in surfaces.items():
        for setting in settings:
            size = math.prod(setting.values())
            doublings = along(setting) if along else math.log2(size / narrowest)
            lowest = min(surface.loss(rate, size, doublings) for rate in rates)
            for k in range(seeds):
                common, sway = surface.common * random.standard_normal(), surface.sway * random.standard_normal()
                for rate in rates:
                    loss = surface.loss(rate, size, doublings, sway) * (1 + common + surface.noise * random.standard_normal())
                    far = rate - surface.optimum(doublings) - surface.edge - surface.edge_drift * doublings
                    status = "diverged" if far + 0.1 * random.standard_normal() > 0 else "done"
                    status = "dominated" if status == "done" and loss > dominated * lowest else status
                    curve = _curve(loss, steps, status != "done", random)
                    out.append(Job(
                        key=f"{name}/{setting}/{group}/{rate}/{k}", sweep="synthetic", parameterization=name,
                        dims=dict(setting), group=group, log2_rate=float(rate), seed=k, status=status,
                        loss=loss if status == "done" else None,
                        curve=curve, seconds=1e-3 * size, why="" if status == "done" else status,
                        versions={"torch": "none"},
                    ))  # fmt: skip
    return out


def _curve(loss: float, steps: int, stopped: bool, random: np.random.Generator) -> tuple[tuple[int, float], ...]:
    """A training curve that ends near the loss, thinned to forty points."""
    last = steps // 4 if stopped else steps
    at = sorted({int(s) for s in np.geomspace(1, last, 40)})
    return tuple((s, loss + 3.0 * (s**-0.7 - steps**-0.7) * (1 + 0.02 * random.standard_normal())) for s in at)
