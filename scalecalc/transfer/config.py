"""What a sweep and a job are, exactly, and the hashes that tell them apart.

A hash is one of everything that the numbers depend on, the exponents themselves and a digest of the data included: a rule
that has changed, or a file that was edited, makes other jobs.  What the numbers do not depend on (workers, budget) is not in
it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalecalc.parameterization import Parameterization

CODE = 2  # of the training code: counts up when the same config trains to other numbers


def digest(config: Mapping[str, Any]) -> str:
    """A short hash of a config; equal configs have equal ones, in whatever order they were written."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Sweep:
    """What all jobs of a sweep share.

    Args:
        model: as typed: ``mlp:depth=3``, ``s6:gate=yes``, ``path/to/file.py:factory``.
        base: the widths at which every parameterization is the same network, trained at the rate itself.
        data: as typed; "" for the model's own.
        data_digest: of what is in it.
        optimizer: a registered one that can be trained with.
        steps, batch, length: optimizer steps, sequences (or examples) per step, bytes per sequence.
        schedule: of the rate: ``constant``, or ``cosine`` to zero behind a linear warm-up over the first tenth.
        weight_decay: at base.
        final: ``train``, the mean training loss over the last tenth of the steps; ``valid``, the loss on what was held out.
    """

    model: str
    base: Mapping[str, int]
    data: str
    data_digest: str
    optimizer: str
    steps: int
    batch: int
    length: int
    schedule: str = "constant"
    weight_decay: float | None = None
    final: str = "train"
    model_digest: str = ""

    @cached_property
    def config(self) -> dict[str, Any]:
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "base": dict(self.base), "code": CODE}

    @cached_property
    def hash(self) -> str:
        return digest(self.config)


@dataclass(frozen=True)
class Setup:
    """One job: everything that a worker needs to train it.

    Args:
        scheme: the parameterization, with its exponents.
        group: the name of the weights whose rate is swept; "" for all.
        members: their names in the parameterization.
        log2_others: the rate of the others, where there is a group.
    """

    sweep: Sweep
    scheme: Parameterization
    dims: Mapping[str, int]
    log2_rate: float
    seed: int
    group: str = ""
    members: tuple[str, ...] = ()
    log2_others: float | None = None
    bar: tuple[tuple[int, float], ...] = field(default=(), compare=False)

    @cached_property
    def config(self) -> dict[str, Any]:
        own = {
            "parameterization": self.scheme.name, "exponents": exponents(self.scheme), "dims": dict(self.dims),
            "log2_rate": self.log2_rate, "seed": self.seed,
        }  # fmt: skip
        if self.group:
            own |= {"group": self.group, "members": sorted(self.members), "log2_others": self.log2_others}
        return {"sweep": self.sweep.hash, **own}

    @cached_property
    def key(self) -> str:
        return digest(self.config)

    def __str__(self) -> str:
        widths = " ".join(f"{dim}={width}" for dim, width in self.dims.items())
        group = f" {self.group}" if self.group else ""
        return f"{self.scheme.name} {widths}{group} rate 2^{self.log2_rate:g} seed {self.seed}"


def exponents(scheme: Parameterization) -> dict[str, dict[str, str]]:
    """What a parameterization says of every weight, as text."""
    quantities = ("init", "multiplier", "lr", "weight_decay", "epsilon")
    return {
        weight: {q: str(value) for q in quantities if (value := getattr(s, q)) is not None} for weight, s in scheme.items()
    }
