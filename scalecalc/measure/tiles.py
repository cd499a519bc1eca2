"""Passes that need every tensor of a recurrence, a few channels at a time, so that no tensor of states is ever whole.

The tensors that have channels, states and time (call them large) are computed for some channels, used, and let go.  What
leaves them is small: sums over the states have channels and are put together, sums over the channels are added up, and of a
large tensor itself only the root-mean-square is asked for.  A backward pass needs small tensors that the forward pass gives,
so that there are several sweeps over the tiles; each computes anew what it needs of the earlier ones.  Tiles are as large as
a cache, so that this is no slower than the whole at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import torch

from scalecalc.backward import rule_of
from scalecalc.measure.hidden import Scan
from scalecalc.measure.interpret import elements, numbers, rms, run
from scalecalc.program import Program

TILE = 300_000  # numbers of a large tensor that are there at once
ALONG = ("contraction", "matmul", "sum", "add", "recurrence", "delay", "real", "conjugate", "broadcast")


@dataclass(frozen=True)
class Tiling:
    """How a program with one fused recurrence is cut: along the recurrence's channels."""

    program: Program
    scan: Scan

    @cached_property
    def large(self) -> frozenset[int]:
        wanted = {self.scan.channel, self.scan.state, self.scan.time}
        return frozenset(i for i, op in enumerate(self.program.ops) if op.inputs and wanted <= set(op.axes))

    @cached_property
    def works(self) -> bool:
        """Does every operation on a large tensor act on each channel by itself, or add them up?"""
        elementwise = import_module("scalecalc.rules.elementwise").Elementwise
        discretization = import_module("scalecalc.rules.discretization").Discretization
        for i, op in enumerate(self.program.ops):
            if i in self.large or any(j in self.large for j in op.inputs):
                known = op.rule in ALONG or isinstance(rule_of(self.program, i), elementwise | discretization)
                if not known or op.params.get("over") == self.scan.channel:
                    return False
                summed = self.scan.channel not in op.axes
                if summed and self.scan.channel not in op.params.get("over", ()):
                    return False
        return True

    def cut(self, i: int, x: torch.Tensor, start: int, count: int) -> torch.Tensor:
        axes = self.program.ops[i].axes
        channel = self.scan.channel
        return x.narrow(1 + axes.index(channel), start, count) if channel in axes else x


def tiling(fused: Program) -> Tiling | None:
    """The tiling of a program that :func:`~scalecalc.measure.hidden.without_states` gave, if it can be cut."""
    scans: list[Scan] = [op.params["hidden"] for op in fused.ops if "hidden" in op.params]
    return Tiling(fused, scans[0]) if len(scans) == 1 else None


@dataclass
class Sweeps:
    """One pass under way.

    Args:
        small: tensors that are whole, by position; ``sizes`` the root-mean-squares found, shape (seeds,).
    """

    tiling: Tiling
    program: Program
    small: dict[int, torch.Tensor]
    sized: frozenset[int]
    sizes: dict[int, torch.Tensor] = field(default_factory=dict[int, torch.Tensor])

    def run(self, live: Sequence[bool], tile: int) -> None:
        """All live operations: small ones as soon as they can be, large ones in sweeps."""
        todo = [i for i, op in enumerate(self.program.ops) if live[i] and i not in self.small and op.inputs]
        large = self.tiling.large
        while True:
            for i in [i for i in todo if i not in large]:
                op = self.program.ops[i]
                if all(j in self.small for j in op.inputs):
                    axes = [self.program.ops[j].axes for j in op.inputs]
                    self._keep(i, rule_of(self.program, i).torch(op, axes, *(self.small[j] for j in op.inputs)))
            todo = [i for i in todo if i not in self.small and i not in self.sizes]
            ready = self._ready(todo)
            ends = [i for i in todo if i in ready and (i not in large or i in self.sized)]
            if not ends:
                return
            self._sweep(ends, tile)
            todo = [i for i in todo if i not in self.small and i not in self.sizes]

    def _keep(self, i: int, value: torch.Tensor) -> None:
        self.small[i] = value
        if i in self.sized:
            self.sizes[i] = rms(value)

    def _ready(self, todo: Iterable[int]) -> set[int]:
        """What can be computed from the small tensors that are there, through large ones alone."""
        large, todo, out = self.tiling.large, set(todo), set[int]()
        for i, op in enumerate(self.program.ops):
            if (i in large or i in todo) and all(j in self.small or (j in large and j in out) for j in op.inputs):
                out.add(i)
        return out

    def _sweep(self, ends: Sequence[int], tile: int) -> None:
        program, large, channel = self.program, self.tiling.large, self.tiling.scan.channel
        needed, stack = set[int](), list(ends)
        while stack:
            i = stack.pop()
            if i not in needed:
                needed.add(i)
                stack += [j for j in program.ops[i].inputs if j in large]
        order = sorted(needed)
        last = {j: i for i in order for j in program.ops[i].inputs if j in large}
        width, whole = self._width(order), self._numbers(order)
        count = max(1, min(width, tile * width // max(1, whole)))
        parts: dict[int, list[torch.Tensor]] = {i: [] for i in ends}
        for start in range(0, width, count):
            here: dict[int, torch.Tensor] = {}
            many = min(count, width - start)
            for i in order:
                op = program.ops[i]
                given = [here[j] if j in large else self.tiling.cut(j, self.small[j], start, many) for j in op.inputs]
                value = rule_of(program, i).torch(op, [program.ops[j].axes for j in op.inputs], *given)
                if i in parts and i in large:
                    parts[i] = [_squares(value) + (parts[i][0] if parts[i] else 0)]
                elif i in parts:
                    parts[i] = [value + parts[i][0]] if parts[i] and channel not in op.axes else [*parts[i], value]
                if i in large:
                    here[i] = value
                for j in op.inputs:
                    if last.get(j) == i and j in here:
                        del here[j]
        for i, found in parts.items():
            if i in large:
                self.sizes[i] = (found[0] / self._numbers([i])).sqrt()
            else:
                axes = program.ops[i].axes
                self._keep(i, torch.cat(found, 1 + axes.index(channel)) if channel in axes else found[0])

    def _sizes_of(self, i: int) -> dict[str, int]:
        known = {}
        for j, x in self.small.items():
            known.update(zip(self.program.ops[j].axes, x.shape[1:], strict=True))
        return {label: known[label] for label in self.program.ops[i].axes}

    def _width(self, order: Sequence[int]) -> int:
        large = next(i for i in order if i in self.tiling.large)
        return self._sizes_of(large)[self.tiling.scan.channel]

    def _numbers(self, order: Sequence[int]) -> int:
        """Of one large tensor per seed times the seeds where a tile is cut, per seed where a mean is taken."""
        large = next(i for i in order if i in self.tiling.large)
        out = 1
        for size in self._sizes_of(large).values():
            out *= size
        return out


def held(program: Program, widths: Mapping[str, int], cut: Tiling | None) -> int:
    """Numbers per seed that a pass holds at its peak, roughly: the largest tensors that are ever whole, with their likes."""
    if cut is None or not cut.works:
        return elements(program, widths)
    sizes = [numbers(program, i, widths) for i in range(len(program.ops)) if i not in cut.large]
    return sum(s for s in sizes if s * 4 >= max(sizes)) + TILE * len(cut.large)


def _squares(x: torch.Tensor) -> torch.Tensor:
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    return x.reshape(x.shape[0], -1).square().sum(1, dtype=torch.float64)


def observe(
    program: Program, given: Mapping[int, torch.Tensor], kept: Sequence[int], sized: Iterable[int], cut: Tiling | None
) -> tuple[dict[int, Any], dict[int, torch.Tensor]]:
    """The tensors kept and the root-mean-squares of the sized ones, by position; in tiles where a tiling is given.

    A large tensor that is to be kept is computed whole, and everything with it.
    """
    sized = frozenset(sized)
    wanted = [*kept, *sized]
    if cut is None or not cut.works or any(i in cut.large for i in kept):
        sizes: dict[int, torch.Tensor] = {i: rms(given[i]) for i in sized if i in given}

        def watch(i: int, result: torch.Tensor, _: Sequence[torch.Tensor]) -> None:
            if i in sized:
                sizes[i] = rms(result)

        inner = {j for i in sized for j in program.ops[i].inputs}  # seen on the way
        return run(program, given, [*kept, *(i for i in sized if i not in sizes and i not in inner)], watch), sizes
    sweeps = Sweeps(cut, program, dict(given), sized, {i: rms(given[i]) for i in sized if i in given})
    seeds = next(iter(given.values())).shape[0]
    sweeps.run(program.live(wanted, given), max(1, TILE // seeds))
    return {i: sweeps.small[i] for i in kept}, sweeps.sizes
