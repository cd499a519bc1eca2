"""The torch interpreter: runs a program on numbers, many independent seeds at once.

Every tensor has a leading axis of seeds, then the axes of the program in order.  Forward and backward operations are run
alike, from the rules' torch code, so whatever the table claims of an operation can be measured on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from scalecalc.backward import rule_of
from scalecalc.errors import MeasureError
from scalecalc.measure.hidden import evaluate as evaluate_hidden
from scalecalc.program import Program
from scalecalc.repeat import inside
from scalecalc.rule import spread
from scalecalc.table import WeightScaling


@dataclass(frozen=True)
class Setting:
    """Where and how numbers are made.

    Args:
        widths: size of every growing dim.
        seeds: independent copies in one batch, the leading axis.
        seed: of the generator; a setting with another seed or other widths draws afresh.
        prefactors: by which some weights are larger initially, by name; they change no exponent.
    """

    widths: Mapping[str, int]
    seeds: int
    seed: int
    device: str = "cpu"
    dtype: torch.dtype = torch.float64
    prefactors: Mapping[str, float] = field(default_factory=dict[str, float])

    def shape(self, program: Program, axes: Sequence[str]) -> tuple[int, ...]:
        """Sizes of the axes; labels of one dim have one size."""
        return tuple(program.width(a, self.widths) for a in axes)


def draw_leaves(
    program: Program, setting: Setting, scalings: Mapping[str, WeightScaling], live: Sequence[bool]
) -> dict[int, torch.Tensor]:
    """Inputs, exact vectors and effective initial weights m·w, by position."""
    generator = torch.Generator(device=setting.device).manual_seed(setting.seed)
    out: dict[int, torch.Tensor] = {}
    for i, op in enumerate(program.ops):
        shape = setting.shape(program, op.axes)
        if op.rule not in ("input", "weight", "index") or not live[i]:
            continue
        if "values" in op.params:
            given = torch.tensor(op.params["values"], dtype=setting.dtype, device=setting.device)
            out[i] = given.expand(setting.seeds, *shape)
            if "scale" in op.params:
                out[i] = out[i] * op.params["scale"].at(setting.widths)
            continue
        init = op.params.get("expression", op.params.get("init"))
        if init is not None:
            out[i] = _exact(init, shape, setting, generator)
            if "scale" in op.params:
                out[i] = out[i] * op.params["scale"].at(setting.widths)
            continue
        # drawn in single precision, which is several times faster, and computed with in the precision asked for
        values = torch.randn((setting.seeds, *shape), generator=generator, device=setting.device).to(setting.dtype)
        if op.params.get("orthogonal"):
            values = _orthogonal(values)
        if op.rule == "weight":
            scaling = scalings[op.name]
            size = (scaling.init * scaling.multiplier).at(setting.widths)
            # constants do not change exponents; 1/sqrt of the fixed fan-in keeps preactivations of order one
            # (that of one block: with the blocks' axis taken for its output a held width made preactivations N^(1/2) smaller,
            # and what passes through W_1 from block to block hid behind an update's direct part up to a depth of 500)
            fixed, stacked = 1.0, program.weights[op.name].stacked
            for label in [label for label in op.axes if label not in stacked][1:]:
                fixed *= 1.0 if program.grows(label) else program.size(label)
            values *= size / fixed**0.5 * setting.prefactors.get(op.name, 1.0)
        out[i] = values
    return out


def _orthogonal(values: torch.Tensor) -> torch.Tensor:
    """Matrices with orthogonal rows, or columns where these are fewer, and entries of order one."""
    wide = values.shape[-1] > values.shape[-2]
    tall = values.mT if wide else values
    q = torch.linalg.qr(tall).Q * tall.shape[-2] ** 0.5
    return q.mT if wide else q


def _exact(
    expression: object, shape: tuple[int, ...], setting: Setting, generator: torch.Generator
) -> torch.Tensor:
    """An exact vector along the last axis, alike along the others; a random one (with U or V) drawn anew per seed."""
    import sympy as sp

    from scalecalc.asymptotics import N, U, V, n

    given = sp.sympify(expression, strict=True)
    dtype = setting.dtype.to_complex() if given.has(sp.I) else setting.dtype
    if not shape:
        constant = torch.tensor(complex(given) if given.has(sp.I) else float(given), dtype=dtype, device=setting.device)
        return constant.expand(setting.seeds)
    # constants as numbers: torch's functions take tensors only
    numeric = given.replace(lambda e: e.is_number and not e.is_Rational, lambda e: e.evalf(17))
    names = {"exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt}
    call = sp.lambdify((n, N, U, V), numeric, modules=[names, "math"])
    index = torch.arange(shape[-1], dtype=setting.dtype, device=setting.device)
    drawn = (
        torch.rand((setting.seeds, shape[-1]), generator=generator, device=setting.device, dtype=setting.dtype)
        if given.has(symbol)
        else None
        for symbol in (U, V)
    )
    values = torch.as_tensor(call(index, shape[-1], *drawn), dtype=dtype, device=setting.device)
    values = values.expand((setting.seeds, shape[-1]))
    return values.reshape(setting.seeds, *[1] * (len(shape) - 1), shape[-1]).expand(setting.seeds, *shape)


def run(
    program: Program,
    given: Mapping[int, torch.Tensor],
    wanted: Sequence[int],
    watch: Callable[[int, torch.Tensor, Sequence[torch.Tensor]], None] | None = None,
) -> dict[int, Any]:
    """The wanted tensors, by position.  Everything else is freed after its last use.

    Of a program that :func:`~scalecalc.measure.hidden.without_states` gave, the states are no tensors, but ``Hidden``.

    Args:
        given: tensors of shape (seeds, *axes) by position: all leaves, and any results that are known already.
        watch: called with position, result and inputs of every operation that is run.

    Raises:
        MeasureError: out of memory, with what to do.
    """
    live = program.live(wanted, given)
    last: dict[int, int] = {}
    for i in range(len(program.ops)):
        if live[i]:
            last.update(dict.fromkeys(program.ops[i].inputs, i))
    keep, values = set(wanted), dict[int, Any]()
    repeated = [start for start in program.loops if live[start] and start not in given]
    blocks = {i: start for start in repeated for i in inside(program, start)}
    # of what is made in a block that alone is put together along the blocks' axis
    used = ((i, j) for i, op in enumerate(program.ops) if live[i] for j in op.inputs)
    outlives = keep | {j for i, j in used if blocks.get(i) != blocks.get(j)}

    def let_go(i: int) -> None:
        if i in given:
            return
        if watch is not None:
            watch(i, values[i], [values[j] for j in program.ops[i].inputs])
        for j in set(program.ops[i].inputs):
            if last[j] == i and j not in keep:
                values.pop(j, None)

    for i in range(len(program.ops)):
        if live[i]:
            if i not in values and i not in blocks:
                _evaluate(program, i, values, given)
                if i in repeated:
                    _repeat(program, i, values, given, outlives if watch is None else range(len(program.ops)))
            let_go(i)
    return {i: values[i] for i in wanted}


def _evaluate(program: Program, i: int, values: dict[int, Any], given: Mapping[int, Any]) -> None:
    """Fills in one value.  (Within :func:`run` it referred to itself: a cycle on which all tensors waited.)"""
    values[i] = given[i] if i in given else _apply(program, i, [values[j] for j in program.ops[i].inputs])


def _apply(program: Program, i: int, inputs: Sequence[Any]) -> Any:
    op = program.ops[i]
    axes = [program.ops[j].axes for j in op.inputs]
    try:
        fused = "hidden" in op.params or "readout" in op.params
        return evaluate_hidden(op, axes, inputs) if fused else rule_of(program, i).torch(op, axes, *inputs)
    except RuntimeError as error:
        if "memory" in str(error).lower() or "alloc" in str(error).lower():
            raise MeasureError(
                f"not enough memory for {op.name} ({' '.join(op.axes)}); measure at smaller widths (--dims)."
            ) from error
        raise


def _repeat(
    program: Program, start: int, values: dict[int, Any], given: Mapping[int, Any], outlives: Container[int]
) -> None:
    """Repeated blocks, one after the other: fills in, along their axis, what enters each and what of it outlives it.

    ``values[start]`` is what enters the first, along the axis; each block is run on slices of length one.
    """
    loop, block = program.loops[start], inside(program, start)
    ops = program.ops
    outside = {j for i in block for j in ops[i].inputs if j not in block and j != start}
    needed = program.live(outside, {*given, *values})  # what is known needs nothing (a step of which its decay is made)
    for i in range(start + 1, loop.increment):
        if needed[i] and i not in values and i not in block:
            _evaluate(program, i, values, given)
    count = values[start].shape[1 + ops[start].axes.index(loop.over)]
    now = _block(program, start, loop.over, values[start], 0)
    found: dict[int, list[torch.Tensor]] = {i: [now] * 0 for i in (start, *block) if i in outlives}
    for k in reversed(range(count)) if loop.reverse else range(count):
        here = {j: _block(program, j, loop.over, values[j], k) for j in outside} | {start: now}
        for i in block:
            if i in given:
                here[i] = _block(program, i, loop.over, given[i], k)
            else:
                here[i] = _apply(program, i, [here[j] for j in ops[i].inputs])
        for i, parts in found.items():
            parts.append(here[i])
        (added,) = spread([ops[loop.increment].axes], ops[start].axes, here[loop.increment])
        now = now + added
    for i, parts in found.items():
        if loop.over in ops[i].axes:
            values[i] = torch.cat(parts[::-1] if loop.reverse else parts, 1 + ops[i].axes.index(loop.over))


def _block(program: Program, i: int, over: str, x: torch.Tensor, k: int) -> torch.Tensor:
    """A tensor for one block: a slice of length one of what has an axis of blocks."""
    axes = program.ops[i].axes
    return x.narrow(1 + axes.index(over), k, 1) if over in axes else x


def rms(x: torch.Tensor) -> torch.Tensor:
    """Root-mean-square over everything but the seeds, of complex numbers that of their moduli: shape (seeds,).

    Added up in double precision, whatever the numbers have.
    """
    count = math.prod(x.shape[1:])
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    sums = torch.linalg.vector_norm(x.reshape(x.shape[0], -1), dim=1, dtype=torch.float64)
    return sums.div_(count**0.5).to(x.dtype)


def numbers(program: Program, position: int, widths: Mapping[str, int]) -> int:
    """How many numbers the tensor at a position has per seed."""
    return math.prod(program.width(label, widths) for label in program.ops[position].axes)


def elements(program: Program, widths: Mapping[str, int]) -> int:
    """Numbers per seed that one run holds at its peak, roughly: the largest tensors, counted with their likes."""
    sizes = [1, *(numbers(program, i, widths) for i in range(len(program.ops)))]
    return sum(s for s in sizes if s * 4 >= max(sizes))
