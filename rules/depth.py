"""Blocks that are repeated along a growing axis: h_(l+1) = h_l + f(h_l; W_l), l = 0 … L − 1, recorded once.

    W = p.weight("W", "L N N'", stacked="L")      # a matrix of its own for every block
    h = layers(h_0, W, "L")                       # what enters each block, along L
    h_L = residual_sum(h, matmul(W, tanh(h)))

A block of several parts, each of which sees what those before it have added, says so by :func:`own`:

    h_1 = h + own(attention(h), h)
    y = attention(h) + feedforward(h_1)

How sizes follow is in :mod:`scalecalc.repeat`.  Backwards the same happens from the last block to the first: the gradient
at the output of block l is that of h_L and what all blocks above it add, g_(l−1) = g_l + J_lᵀ g_l.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scalecalc.errors import ProgramError
from scalecalc.program import Loop, Op, Program, Tensor
from scalecalc.rule import Rule, rule, spread
from scalecalc.rules.reduction import broadcast, total
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

OWN = (
    "Of what a part of a block sees the block's own earlier parts have added one of L such terms; sizes leave it out beside "
    "what all blocks add, measurements do not."
)
SOURCE = "He et al. 2016, arXiv 1603.05027, eq. 4: the sum of all residual functions"


def layers(x: Tensor, like: Tensor, over: str, *, reverse: bool = False) -> Tensor:
    """What enters each of the blocks that are counted by the axis ``over`` of ``like``, the first of which x enters.

    Until :func:`residual_sum` says what a block adds, that is x for all of them.
    """
    return x.program.record("layers", (x, like), (*x.axes, over), over=over, reverse=reverse)


def residual_sum(h: Tensor, y: Tensor, over: str = "") -> Tensor:
    """What leaves the last block, h_0 + Σ_l y_l, where block l adds y_l to what enters it.

    Args:
        h: what enters the blocks, as :func:`layers` gave it; or any tensor without the axis ``over``, which no block sees.
        y: what each block adds.

    Raises:
        ProgramError: y does not depend on h, or has other axes; or there are repeated blocks within these.
    """
    p, loop = h.program, h.op.rule == "layers" and h.index not in h.program.loops
    over = h.op.params["over"] if loop else over
    start = p.tensor(h.op.inputs[0]) if loop else h
    if set(y.axes) != {*start.axes, over}:
        raise ProgramError(
            f"each block of {p.name} adds {y.name} ({' '.join(y.axes)}) to {start.name} ({' '.join(start.axes)}): it must "
            f"have the same axes and {over or 'the one'}, which counts the blocks."
        )
    if loop:
        inside = p.after(h.index)
        if y.index not in inside:
            raise ProgramError(f"{y.name}, which the blocks of {p.name} add, does not depend on what enters them, {h.name}.")
        if any(other in inside and p.loops[other].increment in p.before(y.index) for other in p.loops):
            raise ProgramError(f"the repeated blocks of {p.name} have repeated blocks within them, which is not supported.")
        p.loops[h.index] = Loop(over, y.index, h.op.params["reverse"])
    return p.record("residual_sum", (start, y), start.axes, over=over)


def own(y: Tensor, h: Tensor) -> Tensor:
    """What a block itself has added so far, as a later part of the same block sees it: y, along the axes of h.

    Sizes leave it out, gradients' too, and why is in :mod:`scalecalc.repeat`.

    Args:
        h: what enters the blocks.

    Raises:
        ProgramError: h is something else, or y is no part of a block.
    """
    p = y.program
    start = p.ops[h.index]
    over = start.params["over"] if start.rule == "layers" else ""
    if over not in y.axes:
        raise ProgramError(f"{h.name} is not what enters the repeated blocks of {p.name}, or {y.name} has no axis of blocks.")
    if OWN not in p.remarks:
        p.remarks.append(OWN)
    return p.record("own", (y,), y.axes, over=over)


def _open(p: Program, index: int, slot: int) -> Tensor | None:
    """What enters the blocks that are in the loop of an increment (slot 1), or that run over blocks backwards (slot 0)."""
    if slot:
        found = [i for i, loop in p.loops.items() if loop.increment == index and not p.ops[i].backward]
    else:
        found = [i for i, op in enumerate(p.ops) if op.rule == "layers" and op.backward and op.inputs[1] == index]
    return p.tensor(found[0]) if found else None


@rule("layers", SOURCE)
class Layers(Rule):
    """What enters the blocks: of one size for all, found by running one block on its own result until sizes repeat."""

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        return Value(labels, values[0].terms)  # and what other blocks add: scalecalc.repeat

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        p = output.program
        back = _open(p, output.index, 0)
        if back is None:
            return [total(g, [output.op.params["over"]]), None]
        # what passes block l itself adds to what reaches its output is the gradient of what enters it
        p.ops[g.index] = replace(p.ops[g.index], name=f"d{output.name} by blocks")
        whole = back + g
        p.ops[whole.index] = replace(whole.op, name=f"d{output.name}")
        p.gradients[output.index] = whole.index
        return [residual_sum(back, g), None]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        (x,) = spread(axes[:1], op.axes, tensors[0])
        sizes = list(x.shape)
        sizes[1 + op.axes.index(op.params["over"])] = tensors[1].shape[1 + axes[1].index(op.params["over"])]
        return x.expand(sizes)

    def latex(self, op: Op, *names: str) -> str:
        return rf"{names[0]} + \sum_{{k {'>' if op.params['reverse'] else '<'} l}} y_k"

    def sample(self, program: Program) -> Tensor:
        return layers(program.input("x", "batch N"), program.input("z", "batch M"), "M")


@rule("residual_sum", SOURCE)
class ResidualSum(Rule):
    """What all blocks add: L where they add alike, √L where it is odd in what each block has of its own."""

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        start, increment = values
        over = op.params["over"]
        return algebra.add(labels, start, algebra.sum(increment, over) if over in increment.labels else increment)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        over = output.op.params["over"]
        h = _open(output.program, inputs[1].index, 1)
        if h is None:
            return [g, broadcast(g, inputs[1])]
        return [None, layers(g, h, over, reverse=not h.op.params["reverse"])]  # the blocks' gradient ends with that of h_0

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        start, increment = tensors
        (start,) = spread(axes[:1], op.axes, start)
        own = tuple(label for label in axes[1] if label != op.params["over"])
        summed = increment.sum(1 + axes[1].index(op.params["over"]))
        return start + spread([own], op.axes, summed)[0]

    def latex(self, op: Op, *names: str) -> str:
        return rf"{names[0]} + \sum_{{{op.params['over']}}} {names[1]}"

    def sample(self, program: Program) -> Tensor:
        return residual_sum(program.input("x", "batch N"), program.input("z", "batch N M"), "M")


@rule("own", SOURCE)
class Own(Rule):
    """The same tensor; within repeated blocks it is one of L terms that are alike, and left out beside their sum."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        return Value(labels, values[0].terms)  # where it is left out: scalecalc.repeat

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [g.program.record("own", (g,), g.axes, over=output.op.params["over"])]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        return tensors[0]

    def latex(self, op: Op, *names: str) -> str:
        return names[0]

    def sample(self, program: Program) -> Tensor:
        return program.record("own", (program.input("x", "batch N M"),), ("batch", "N", "M"), over="M")
