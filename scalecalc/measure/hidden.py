"""Recurrences of a program that are measured without storing their states.

A selective recurrence, discretized, driven by B·u and read out by C, is replaced by the fused scan
(:mod:`scalecalc.measure.scan`): the program keeps its positions, but the readout y is computed from u, Δ, A, B and C at once,
and the states h are a :class:`Hidden`: what they are computed from.  Their norm, and that of a difference of several h, is
found when it is asked for, in one pass over all of them.

This serves passes that ask for sizes alone: the forward passes at moved weights, which are most of what a verification does.
A pass that measures every sum of the backward pass, too, needs the tensors in between and runs operation by operation.

What is recognised: decay and input factor of one discretization at one step and transition, their product with anything
that has either states or channels, and one sum over the states.  All else (an exponential written by hand, states that are
read out twice) runs as the rules have it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from scalecalc.measure.scan import combination, inputs, selective_scan
from scalecalc.measure.scan.build import NoCompiler, compiler
from scalecalc.measure.scan.operator import announce, has, without_triton
from scalecalc.program import Op, Program
from scalecalc.rule import spread

LEAST = 200_000  # states in one batch of seeds from which the fused scan is worth being compiled


@dataclass(frozen=True)
class Scan:
    """Where a fused scan gets what it takes.

    Args:
        u, B: positions whose product they are; ``delta``, ``A``, ``C`` one position each.
        batch: axes of the sequences, ``time``, ``channel`` and ``state`` the other ones.
    """

    discretization: str
    u: tuple[int, ...]
    delta: int
    A: int
    B: tuple[int, ...]
    C: int
    batch: tuple[str, ...]
    time: str
    channel: str
    state: str

    @property
    def inputs(self) -> tuple[int, ...]:
        return (*self.u, self.delta, self.A, *self.B, self.C)

    def tensors(self, axes: Sequence[tuple[str, ...]], given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """u, delta, A, B, C with the seeds first: (seeds, batch, time, …); A (seeds, states), a fixed delta (seeds,)."""
        at = iter(zip(axes, given, strict=True))
        rows = (*self.batch, self.time)

        def product(count: int, last: str) -> torch.Tensor:
            out: torch.Tensor | None = None
            for _ in range(count):
                own, value = next(at)
                (value,) = spread([own], (*rows, last), value)
                out = value if out is None else out * value
            assert out is not None
            return out

        u = product(len(self.u), self.channel)
        own, delta = next(at)
        delta = spread([own], (*rows, self.channel), delta)[0] if own else delta
        _, A = next(at)
        B, C = product(len(self.B), self.state), product(1, self.state)
        seeds = u.shape[0]
        sizes = torch.broadcast_shapes(*(t.shape[1:-1] for t in (u, B, C)), *((delta.shape[1:-1],) if own else ()))
        flat = (seeds, math.prod(sizes[:-1]), sizes[-1])
        width = max(u.shape[-1], delta.shape[-1] if own else 1)
        u, B, C = (
            t.expand(seeds, *sizes, last).reshape(*flat, last)
            for t, last in ((u, width), (B, B.shape[-1]), (C, C.shape[-1]))
        )
        return [u, delta.expand(seeds, *sizes, width).reshape(*flat, width) if own else delta, A, B, C]


@dataclass(frozen=True)
class Hidden:
    """States that are not stored: what they are computed from."""

    scan: Scan
    tensors: tuple[torch.Tensor, ...]

    def batches(self) -> list[tuple[torch.Tensor, ...]]:
        """Inputs of :func:`selective_scan`: all seeds as one batch, or seed by seed where the transition differs."""
        u, delta, A, B, C = self.tensors
        alike = bool(torch.equal(A, A[:1].expand_as(A))) and (delta.dim() > 1 or bool((delta == delta[0]).all()))
        if alike:
            u, B, C = (t.flatten(0, 1) for t in (u, B, C))
            return [(u, delta.flatten(0, 1) if delta.dim() > 1 else delta[0], A[0], B, C)]
        return list(zip(*self.tensors, strict=True))

    def readout(self) -> torch.Tensor:
        """y, (seeds, batch, time, channels)."""
        y = [selective_scan(*x, discretization=self.scan.discretization) for x in self.batches()]
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
    for members in zip(*(h.batches() for h in hidden), strict=True):
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
    """The program with its recurrences fused where they can be, at the same positions; itself if there are none."""
    length = program.forward_length or len(program.ops)
    found = {h: scan for h, scan in ((i, _scan(program, i)) for i in range(length)) if scan is not None}
    if not found:
        return program
    ops = list(program.ops)
    for h, (scan, y) in found.items():
        ops[h] = replace(ops[h], inputs=scan.inputs, params={"hidden": scan})
        ops[y] = replace(ops[y], inputs=scan.inputs, params={"readout": scan})
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
    labels = (*scan.batch, scan.time, scan.channel)
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
    decay = program.ops[op.inputs[0]]
    if decay.rule not in inputs.SCHEMES or decay.params != {"part": "A", "order": (0, 0)}:
        return None
    delta, A = decay.inputs
    factors = _factors(program, op.inputs[1])
    weight = [i for i in factors if program.ops[i].rule == decay.rule and program.ops[i].params["part"] == "B"]
    if len(weight) != 1 or program.ops[weight[0]].inputs != decay.inputs or program.ops[weight[0]].params["order"] != (0, 0):
        return None
    y, C = _readout(program, h)
    if y is None or C is None or len(program.ops[A].axes) != 1:
        return None
    state, time = program.ops[A].axes[0], op.params["over"]
    rest = [i for i in factors if i not in weight]
    B, u = ([i for i in rest if (state in program.ops[i].axes) is with_state] for with_state in (True, False))
    shared = {label for i in (*B, C) for label in program.ops[i].axes}
    own = {label for label in op.axes if label not in shared and label != time}
    channels = {label for label in own if program.grows(label)} or own  # a dim that is held fixed does not grow
    if len(channels) != 1 or not B or not u or program.ops[y].params["over"] != (state,):
        return None
    (channel,) = channels
    batch = tuple(label for label in op.axes if label not in (channel, state, time))
    if channel not in {a for i in u for a in program.ops[i].axes}:
        return None
    if state in program.ops[delta].axes or any(program.ops[i].complex for i in (*u, delta)):
        return None
    return Scan(decay.rule, tuple(u), delta, A, tuple(B), C, batch, time, channel, state), y


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
