"""How long a job takes and how much memory it needs: guessed from the network's parameters, corrected by what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from scalecalc.errors import InputError
from scalecalc.transfer.config import Setup
from scalecalc.transfer.data import BYTES
from scalecalc.transfer.networks import network
from scalecalc.transfer.records import Job

PROCESS = 400e6  # bytes: Python with torch
COPIES = 5  # of the parameters: themselves, gradients, two moments, and what an optimizer makes in passing
KEPT = 30  # numbers kept per position and channel for the backward pass
STEP = 3e7  # operations that take as long as what a step costs whatever its size
SPEED = 3e9  # operations per second of one thread: a first guess


@cache
def parameters(model: str, dims: tuple[tuple[str, int], ...]) -> int:
    """How many there are, of a network that is not built."""
    import torch

    net = network(model)
    with torch.device("meta"):
        made = net.build(dict(dims), BYTES, BYTES)
    return sum(p.numel() for p in made.parameters())


def memory(setup: Setup) -> float:
    """Bytes that a process that trains this job needs, roughly."""
    return PROCESS + 4 * (COPIES * _size(setup) + KEPT * _positions(setup) * max(setup.dims.values()))


def _size(setup: Setup) -> int:
    return parameters(setup.sweep.model, tuple(sorted(setup.dims.items())))


def _positions(setup: Setup) -> int:
    text = network(setup.sweep.model).reads == "text"
    return setup.sweep.batch * (setup.sweep.length if text else 1)


def operations(setup: Setup) -> float:
    """Of the whole job: six per parameter and position, and what a step costs in any case."""
    return setup.sweep.steps * (6.0 * _size(setup) * _positions(setup) + STEP)


class Estimate:
    """Seconds that jobs take: the mean of those of the same widths that have ended, else in proportion to operations."""

    def __init__(self, setups: Sequence[Setup], workers: int = 1):
        self.setups = {s.key: s for s in setups}
        self.workers = workers
        self.ended: dict[str, Job] = {}
        self._seen: dict[str, list[float]] = {}
        self._speeds: list[float] = []

    def add(self, job: Job) -> None:
        setup = self.setups[job.key]
        self.ended[job.key] = job
        if job.status == "done":
            self._seen.setdefault(_widths(setup), []).append(job.seconds)
            self._speeds.append(operations(setup) / max(job.seconds, 1e-9))

    def seconds(self, setup: Setup) -> float:
        if seen := self._seen.get(_widths(setup)):
            return sum(seen) / len(seen)
        speed = sum(self._speeds) / len(self._speeds) if self._speeds else SPEED
        return operations(setup) / speed

    @property
    def left(self) -> float:
        """Seconds till all have ended."""
        return sum(self.seconds(s) for key, s in self.setups.items() if key not in self.ended) / self.workers


def _widths(setup: Setup) -> str:
    return repr(sorted(setup.dims.items()))


def workers(setups: Sequence[Setup], asked: int | None, cores: int, free: float) -> int:
    """As many processes as there are cores, and as the largest jobs fit into the free memory together.

    Raises:
        InputError: the largest alone does not fit.
    """
    needs = sorted((memory(s) for s in {_widths(s): s for s in setups}.values()), reverse=True)
    if not needs:
        return 1
    if needs[0] > free:
        raise InputError(
            f"the widest job needs about {needs[0] / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; leave out the largest "
            "widths, or take a smaller --batch."
        )
    fit = max(1, int(free / needs[0]))
    return max(1, min(asked or cores, fit, len(setups)))
