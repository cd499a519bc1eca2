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


Parts = Sequence[float]  # per network that goes through side by side, its part in a sum of their tensors


@dataclass
class Sweeps:
    """One pass under way, of one network or of several side by side that differ in what they are given.

    Args:
        small: per network, tensors that are whole, by position; one object where networks have the same.
        sums: what the networks' tensors are added up to; ``sizes`` the root-mean-squares found, per sum, shape (seeds,).
    """

    tiling: Tiling
    program: Program
    small: list[dict[int, torch.Tensor]]
    sized: frozenset[int]
    sums: Sequence[Parts]
    sizes: dict[int, list[torch.Tensor]] = field(default_factory=dict[int, list[torch.Tensor]])

    def run(self, live: Sequence[bool], tile: int) -> None:
        """All live operations: small ones as soon as they can be, large ones in sweeps."""
        known = self.small[0]
        todo = [i for i, op in enumerate(self.program.ops) if live[i] and i not in known and op.inputs]
        large = self.tiling.large
        while True:
            for i in [i for i in todo if i not in large]:
                if all(j in known for j in self.program.ops[i].inputs):
                    self._keep(i, self._apply(i, [[x[j] for x in self.small] for j in self.program.ops[i].inputs]))
            todo = [i for i in todo if i not in known and i not in self.sizes]
            ready = self._ready(todo)
            ends = [i for i in todo if i in ready and (i not in large or i in self.sized)]
            if not ends:
                return
            self._sweep(ends, tile)
            todo = [i for i in todo if i not in known and i not in self.sizes]

    def _apply(self, i: int, inputs: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
        """An operation on every network's tensors; once if they are the same."""
        op, members = self.program.ops[i], list(zip(*inputs, strict=True))
        axes, law = [self.program.ops[j].axes for j in op.inputs], rule_of(self.program, i).torch
        if all(x is first for values in inputs for first in values[:1] for x in values):
            return [law(op, axes, *members[0])] * len(members)
        return [law(op, axes, *given) for given in members]

    def _keep(self, i: int, values: Sequence[torch.Tensor]) -> None:
        for known, value in zip(self.small, values, strict=True):
            known[i] = value
        if i in self.sized:
            self.sizes[i] = [rms(added(values, parts)) for parts in self.sums]

    def _ready(self, todo: Iterable[int]) -> set[int]:
        """What can be computed from the small tensors that are there, through large ones alone."""
        large, todo, out = self.tiling.large, set(todo), set[int]()
        for i, op in enumerate(self.program.ops):
            if (i in large or i in todo) and all(j in self.small[0] or (j in large and j in out) for j in op.inputs):
                out.add(i)
        return out

    def _cut(self, j: int, start: int, count: int) -> list[torch.Tensor]:
        whole = [x[j] for x in self.small]
        cuts = {id(x): self.tiling.cut(j, x, start, count) for x in whole}
        return [cuts[id(x)] for x in whole]

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
        parts: dict[int, list[list[torch.Tensor]]] = {i: [] for i in ends}  # of small ones per network, of large ones per sum
        for start in range(0, width, count):
            here: dict[int, list[torch.Tensor]] = {}
            many = min(count, width - start)
            for i in order:
                op = program.ops[i]
                values = self._apply(i, [here[j] if j in large else self._cut(j, start, many) for j in op.inputs])
                if i in parts:
                    new = [_squares(added(values, of)) for of in self.sums] if i in large else values
                    parts[i].append(new)
                    if len(parts[i]) > 1 and (i in large or channel not in op.axes):
                        parts[i] = [[x + y for x, y in zip(*parts[i], strict=True)]]
                if i in large:
                    here[i] = values
                for j in op.inputs:
                    if last.get(j) == i and j in here:
                        del here[j]
        for i, found in parts.items():
            if i in large:
                self.sizes[i] = [(squares / self._numbers([i])).sqrt() for squares in found[0]]
            else:
                axes = program.ops[i].axes
                self._keep(i, [_joined(x, axes, channel) for x in zip(*found, strict=True)])

    def _sizes_of(self, i: int) -> dict[str, int]:
        known = {}
        for j, x in self.small[0].items():
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


def added(values: Sequence[torch.Tensor], parts: Parts) -> torch.Tensor:
    """Σ c x."""
    return values[0] if list(parts) == [1.0] else sum(c * x for c, x in zip(parts, values, strict=True))  # type: ignore[return-value]


def _joined(parts: Sequence[torch.Tensor], axes: tuple[str, ...], channel: str) -> torch.Tensor:
    return torch.cat(list(parts), 1 + axes.index(channel)) if channel in axes else parts[0]


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
    if in_tiles(cut, kept):
        (found,), sizes = observe_together(program, [given], kept, sized, [[1.0]], cut)
        return found, {i: size for i, (size,) in sizes.items()}
    sizes = {i: rms(given[i]) for i in sized if i in given}

    def watch(i: int, result: torch.Tensor, _: Sequence[torch.Tensor]) -> None:
        if i in sized:
            sizes[i] = rms(result)

    inner = {j for i in sized for j in program.ops[i].inputs}  # seen on the way
    return run(program, given, [*kept, *(i for i in sized if i not in sizes and i not in inner)], watch), sizes


def in_tiles(cut: Tiling | None, kept: Iterable[int]) -> bool:
    return cut is not None and cut.works and not any(i in cut.large for i in kept)


def observe_together(
    program: Program,
    given: Sequence[Mapping[int, torch.Tensor]],
    kept: Sequence[int],
    sized: Iterable[int],
    sums: Sequence[Parts],
    cut: Tiling | None,
) -> tuple[list[dict[int, torch.Tensor]], dict[int, list[torch.Tensor]]]:
    """Of networks that differ in what they are given: the tensors kept of each, and the sizes of sums of their tensors.

    Args:
        sums: what is added up of the networks' tensors at a sized position, such as (1, −1) for the difference of two.
    """
    sized = frozenset(sized)
    wanted = [*kept, *sized]
    if cut is None or not in_tiles(cut, kept):
        found = [run(program, x, wanted) for x in given]
        return found, {i: [rms(added([x[i] for x in found], parts)) for parts in sums] for i in sized}
    sweeps = Sweeps(cut, program, [dict(x) for x in given], sized, sums)
    for i in sized:
        if all(i in x for x in given):
            sweeps.sizes[i] = [rms(added([x[i] for x in given], parts)) for parts in sums]
    seeds = next(iter(given[0].values())).shape[0]
    sweeps.run(program.live(wanted, given[0]), max(1, TILE // seeds))
    return [{i: x[i] for i in kept} for x in sweeps.small], sweeps.sizes
