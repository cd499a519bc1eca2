"""Recurrences of a program that are measured without storing their states.

A selective recurrence, discretized, driven by B·u and read out by C, is replaced by the fused scan
(:mod:`scalecalc.measure.scan`): the program keeps its positions, but the readout y is computed from u, Δ, A, B and C at once,
and the states h are a :class:`Hidden`: what they are computed from.  Their norm, and that of a difference of several h, is
found when it is asked for, in one pass over all of them.

This serves passes that ask for sizes alone: the forward passes at moved weights, which are most of what a verification does.
A pass that measures every sum of the backward pass, too, needs the tensors in between and runs operation by operation.

What is recognised: decay and input factor of one discretization at one step and transition, or a decay that does not depend
on time; their product with anything that has either states or channels; and one sum over the states.  These are selective
layers (s6, Mamba, Mamba-2), banks of states per channel (S4D), and linear attention with a fixed decay or none, whose keys'
features are the states and whose values' are the channels.  All else (a decay of every token that is no exp(ΔA), as gated
linear attention's; states that are read out twice) runs as the rules have it.  So does one bank of states for all channels
(lti, s5, lru, rglru): its h is no larger than the drive that it is made of, and there is nothing to save.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import mul

import torch

from scalecalc.measure.scan import combination, inputs, selective_scan
from scalecalc.measure.scan.build import NoCompiler, compiler
from scalecalc.measure.scan.operator import announce, has, without_triton
from scalecalc.program import Op, Program
from scalecalc.rule import spread

FEW = 8_000  # states of one seed up to which a call per seed takes longer than the states (ssd, 4096: six times as long)
LEAST = 200_000  # states in one batch of seeds from which the fused scan is worth being compiled


@dataclass(frozen=True)
class Scan:
    """Where a fused scan gets what it takes.

    Args:
        u, B: positions whose product they are, B = 1 if there are none; ``delta``, ``A``, ``C`` one position each.  Without a
            ``delta``, ``A`` is a decay itself, which Euler's method has at a step of 1 and the transition A − 1.
        batch: axes of the sequences; ``time``; ``channels``, a growing one first if there is any; ``state``.
    """

    discretization: str
    u: tuple[int, ...]
    delta: int | None
    A: int
    B: tuple[int, ...]
    C: int
    batch: tuple[str, ...]
    time: str
    channels: tuple[str, ...]
    state: str

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the states are made of; the readout takes ``C`` as well."""
        return (*self.u, *self._step, self.A, *self.B)

    @property
    def _step(self) -> tuple[int, ...]:
        return () if self.delta is None else (self.delta,)

    @property
    def channel(self) -> str:
        """The axis that tiles are cut along."""
        return self.channels[0]

    def fits(self, program: Program) -> bool:
        """Has everything the axes that the scan wants there?"""
        rows, channels, state = {*self.batch, self.time}, set(self.channels), {self.state}

        def axes(*positions: int) -> set[str]:
            return {label for i in positions for label in program.ops[i].axes}

        factors = all(axes(*of) <= rows | state or axes(*of) <= channels | state for of in (self.B, (self.C,)))
        real = not any(program.ops[i].complex for i in (*self.u, *self._step))
        mine = axes(self.A) <= channels | state and axes(*self._step, *self.u) <= rows | channels
        return bool(self.channels and self.u) and factors and real and mine and self.state in axes(self.C)

    def tensors(self, axes: Sequence[tuple[str, ...]], given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """u, delta, A, B, C as :func:`selective_scan` has them, the seeds first; C = 1 where it is not given."""
        sizes = {label: x.shape[1 + own.index(label)] for own, x in zip(axes, given, strict=True) for label in own}
        at, seeds = iter(zip(axes, given, strict=True)), given[0].shape[0]
        rows, channels, state = (*self.batch, self.time), self.channels, (self.state,)
        many = math.prod(sizes[label] for label in self.batch), sizes[self.time]

        def product(count: int, *kinds: tuple[tuple[str, ...], tuple[int, ...]]) -> torch.Tensor:
            """The product of the next tensors, in the shape of the first kind whose axes are all that they have."""
            factors = [next(at) for _ in range(count)]
            found = {label for own, _ in factors for label in own}
            labels, shape = next(kind for kind in kinds if found <= set(kind[0]))
            values = [spread([own], labels, value)[0] for own, value in factors]
            out = reduce(mul, values) if values else given[0].new_ones((seeds, *(1 for _ in labels)))
            return out.expand(seeds, *(sizes[label] for label in labels)).reshape(seeds, *shape)

        width, length = math.prod(sizes[label] for label in channels), sizes[self.state]
        token = ((*rows, *state), (*many, length)), ((*channels, *state), (width, length))
        u = product(len(self.u), ((*rows, *channels), (*many, width)))
        delta = product(len(self._step), ((), ()), (channels, (width,)), ((*rows, *channels), (*many, width)))
        A = product(1, (channels, (width, 1)), (state, (length,)), token[1])
        A = A - 1 if self.delta is None else A
        counts = len(self.B), len(given) - len(self.inputs)
        return [u, delta, A, *(product(count, (state, (length,)), *token) for count in counts)]


@dataclass(frozen=True)
class Hidden:
    """States that are not stored: what they are computed from."""

    scan: Scan
    tensors: tuple[torch.Tensor, ...]

    @cached_property
    def alike(self) -> bool:
        """Have all seeds the same of what has no batch and time?"""
        return all(bool(torch.equal(t, t[:1].expand_as(t))) for t in self.tensors if t.dim() < 4)

    def batches(self, together: bool) -> list[tuple[torch.Tensor, ...]]:
        """Inputs of :func:`selective_scan`: all seeds as one batch, if they are alike, or seed by seed."""
        if together:
            return [tuple(t.flatten(0, 1) if t.dim() == 4 else t[0] for t in self.tensors)]
        return list(zip(*self.tensors, strict=True))

    def readout(self) -> torch.Tensor:
        """y, (seeds, batch, time, channels)."""
        y = [selective_scan(*x, discretization=self.scan.discretization) for x in self.batches(self.alike)]
        return torch.cat(y).reshape(self.tensors[0].shape)


def rms_of(values: Sequence[torch.Tensor | Hidden], coefficients: Sequence[float]) -> torch.Tensor:
    """Root-mean-square of Σ c x over everything but the seeds, shape (seeds,)."""
    from scalecalc.measure.interpret import rms

    tensors, hidden = list[torch.Tensor](), list[Hidden]()
    for x in values:
        (hidden if isinstance(x, Hidden) else tensors).append(x)  # type: ignore[arg-type]
    if not hidden:
        return rms(sum(c * x for c, x in zip(coefficients, tensors, strict=True)))  # type: ignore[arg-type]
    positions = list[torch.Tensor]()
    scheme, seeds = hidden[0].scan.discretization, hidden[0].tensors[0].shape[0]
    together = all(h.alike for h in hidden)
    for members in zip(*(h.batches(together) for h in hidden), strict=True):
        if len(members) == 1:
            norms = selective_scan(*members[0], discretization=scheme, norms=("position",))[1]
            positions.append(abs(coefficients[0]) * norms.position)
        else:
            found = combination(members, coefficients, scheme)[1][-1].position
            assert found is not None
            positions.append(found)
    return torch.cat(positions).reshape(seeds, -1).square().mean(1).sqrt()


# ------------------------------------------------------------------ recognised in a program


def without_states(program: Program) -> Program:
    """The program with its recurrences fused where they can be, at the same positions; itself if there are none.

    Within repeated blocks they are not: tiles know no blocks, and what a readout's update behind a stack contributes came out
    as e^9 times too large.
    """
    if program.loops:
        return program
    length = program.forward_length or len(program.ops)
    found = {h: scan for h, scan in ((i, _scan(program, i)) for i in range(length)) if scan is not None}
    if not found:
        return program
    ops = list(program.ops)
    for h, (scan, y) in found.items():
        ops[h] = replace(ops[h], inputs=scan.inputs, params={"hidden": scan})
        ops[y] = replace(ops[y], inputs=(*scan.inputs, scan.C), params={"readout": scan})
    out = program.copy()
    out.ops = ops
    return out


def states(program: Program, widths: Mapping[str, int]) -> int:
    """How many numbers the states that need not be stored would take per seed."""
    sizes = (math.prod(program.width(a, widths) for a in op.axes) for op in program.ops if "hidden" in op.params)
    return max(sizes, default=0)


def works_here(device: str, program: Program) -> bool:
    """Can a program's fused scans run on a device?  Says so, once, where they could but for something that is missing."""
    on = torch.device(device)
    complex_ = any(program.ops[op.params["hidden"].A].complex for op in program.ops if "hidden" in op.params)
    missing = ""
    if on.type == "cuda":
        missing = without_triton(on)
    elif on.type != "cpu":
        return False
    else:
        try:
            compiler()
        except NoCompiler as error:
            missing = "" if has("numba") and not complex_ else str(error)
    if missing:
        announce("the states of recurrences are kept in memory, which is slower", missing)
    return not missing


def evaluate(op: Op, axes: Sequence[tuple[str, ...]], given: Sequence[torch.Tensor]) -> torch.Tensor | Hidden:
    """A fused operation of :func:`without_states` on numbers."""
    scan: Scan = op.params.get("hidden") or op.params["readout"]
    hidden = Hidden(scan, tuple(scan.tensors(axes, given)))
    if "hidden" in op.params:
        return hidden
    y = hidden.readout()
    labels = (*scan.batch, scan.time, *scan.channels)
    sizes = {label: own.shape[1 + a.index(label)] for a, own in zip(axes, given, strict=True) for label in a}
    y = y.reshape(y.shape[0], *(sizes[label] for label in labels))
    return y.permute(0, *(1 + labels.index(label) for label in op.axes))


def _factors(program: Program, i: int) -> list[int]:
    """Positions whose product a position is."""
    op = program.ops[i]
    if op.rule == "contraction" and not op.params["over"]:
        return [f for j in op.inputs for f in _factors(program, j)]
    return [i]


def _scan(program: Program, h: int) -> tuple[Scan, int] | None:
    """The scan whose states are at a position and the position of its readout, if it is one."""
    op = program.ops[h]
    if op.rule != "recurrence" or op.params["reverse"]:
        return None
    decay, time = program.ops[op.inputs[0]], op.params["over"]
    factors = _factors(program, op.inputs[1])
    if time not in decay.axes and decay.rule not in inputs.SCHEMES:
        scheme, delta, A, weight = "euler", None, op.inputs[0], []
    elif decay.rule in inputs.SCHEMES and decay.params == {"part": "A", "order": (0, 0)}:
        scheme, (delta, A) = decay.rule, decay.inputs
        weight = [i for i in factors if program.ops[i].rule == scheme and program.ops[i].params["part"] == "B"]
        if len(weight) != 1:
            return None
        factor = program.ops[weight[0]]
        if factor.inputs != decay.inputs or factor.params["order"] != (0, 0):
            return None
    else:
        return None
    y, C = _readout(program, h)
    if y is None or C is None or len(program.ops[y].params["over"]) != 1:
        return None
    (state,) = program.ops[y].params["over"]
    rest = [i for i in factors if i not in weight]
    B, u = ([i for i in rest if (state in program.ops[i].axes) is with_state] for with_state in (True, False))
    shared = {label for i in (*B, C) if time in program.ops[i].axes for label in program.ops[i].axes}
    own = {label for i in (A, *B, C) if time not in program.ops[i].axes for label in program.ops[i].axes}
    channels = [
        label
        for label in op.axes
        if label not in (state, time) and label not in shared and (label in own or shared or program.grows(label))
    ]
    batch = tuple(label for label in op.axes if label not in (*channels, state, time))
    channels.sort(key=lambda label: not program.grows(label))
    scan = Scan(scheme, tuple(u), delta, A, tuple(B), C, batch, time, tuple(channels), state)
    return (scan, y) if scan.fits(program) else None


def _readout(program: Program, h: int) -> tuple[int | None, int | None]:
    """The one product with the states, or their real part, in the forward pass, and its other factor."""
    length = program.forward_length or len(program.ops)

    def users(i: int) -> list[int]:
        return [k for k in range(length) if i in program.ops[k].inputs]

    after = users(h)
    if len(after) == 1 and program.ops[after[0]].rule == "real":
        h, after = after[0], users(after[0])
    if len(after) != 1 or program.ops[after[0]].rule not in ("contraction", "matmul") or program.ops[after[0]].complex:
        return None, None
    other: Iterable[int] = [i for i in program.ops[after[0]].inputs if i != h]
    return after[0], next(iter(other), None)
