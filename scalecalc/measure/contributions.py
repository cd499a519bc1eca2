"""One batch of seeds at one width setting: every quantity that the table claims, as a logarithm per seed.

Updates are measured by tag.  The contribution of one weight's own update, to first order in it, is
(f(W + εΔW) − f(W)) / ε with an ε so small that nothing of higher order shows (the exponent does not depend on a rate's
prefactor); the second order is (f(W + εΔW) + f(W − εΔW) − 2 f(W)) / ε² with an ε that moves the features by a few
per cent.  Totals would mix terms of different exponents, and they do not converge at widths one can afford.

Rows of a second step are measured by ``scalecalc.measure.training``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from scalecalc.derive import Model, sums
from scalecalc.measure.hidden import FEW, LEAST, rms_of, states, without_states, works_here
from scalecalc.measure.interpret import Setting, draw_leaves, rms, run
from scalecalc.measure.tiles import held, observe, tiling
from scalecalc.measure.training import Training, joined, later
from scalecalc.program import Program
from scalecalc.table import Row

Key = tuple[str, str, int, tuple[str, ...]]
FIRST_ORDER = 1e-6
SECOND_ORDER = 0.05
PARTS = 8  # of an axis


@dataclass(frozen=True)
class Plan:
    """The rows of a model's table that are to be measured."""

    model: Model
    rows: tuple[Row, ...]

    @cached_property
    def keys(self) -> frozenset[Key]:
        return frozenset(row.key for row in self.rows)

    @cached_property
    def weights(self) -> dict[str, int]:
        return {op.name: i for i, op in enumerate(self.model.program.ops) if op.rule == "weight"}

    @cached_property
    def gradients(self) -> dict[str, int]:
        """Name of a feature or weight → position of its gradient."""
        program = self.model.program
        named = {**program.features, **self.weights}
        return {name: program.gradients[i] for name, i in named.items() if i in program.gradients}

    @cached_property
    def sums(self) -> dict[int, tuple[str, tuple[str, ...]]]:
        """Position of a sum over growing axes → its name in the table and the axes."""
        program = self.model.program
        live = program.live([*program.features.values(), *self.gradients.values()])
        return {i: (name, over) for i, name, over in sums(program, live)}

    def rests_on(self, row: Row) -> set[int]:
        """The operations that a row's claim is read off: a tensor or a sum; for an update also the weight's gradient."""
        if row.kind == "alignment":
            return {i for i, (name, _) in self.sums.items() if name == row.row}
        if row.kind == "update":
            return {self.model.program.features[row.row], self.gradients[row.tag[0]]}
        return {_position(self, row)}

    @cached_property
    def without_states(self) -> Program:
        return without_states(self.model.program)

    @cached_property
    def unstored(self) -> frozenset[int]:
        """States that a fused scan does not store, and of which sizes as a whole alone are known then."""
        return frozenset(i for i, op in enumerate(self.without_states.ops) if "hidden" in op.params)

    def forward(self, setting: Setting) -> Program:
        """The program for forward passes alone: with fused scans where there are so many states that they pay."""
        fused = self.without_states
        each = states(fused, setting.widths)
        if fused is self.model.program or each < FEW or each * setting.seeds < LEAST:
            return self.model.program
        return fused if works_here(setting.device, fused) else self.model.program

    def held(self, setting: Setting) -> int:
        """Numbers per seed that measuring holds at its peak, roughly."""
        forward, program = self.forward(setting), self.model.program
        cut = None if forward is program else tiling(forward)
        side_by_side = 2 if cut is not None and any(row.step > 1 for row in self.rows) else 1
        return side_by_side * held(program, setting.widths, cut)

    def of(self, *kinds: str) -> list[Row]:
        return [r for r in self.rows if r.kind in kinds]

    def only(self, rows: Iterable[Row]) -> Plan:
        """The plan of some rows, made once: what it knows of its program takes longer than a small measurement."""
        some = tuple(rows)
        return self._parts.setdefault(tuple(map(id, some)), Plan(self.model, some))

    @cached_property
    def _parts(self) -> dict[tuple[int, ...], Plan]:
        return {}


def measure(plan: Plan, setting: Setting) -> dict[Key, torch.Tensor]:
    """Natural logarithm of every row's statistic: tensors of shape (seeds,) by row key.

    A quantity that is exactly zero gives −inf, an overflow inf or nan; nothing is dropped here.
    """
    whole, plan = plan, plan.only(r for r in plan.rows if r.step < 2)
    program = plan.model.program
    movers = {name for r in whole.rows if r.step > 1 for name in r.tag}
    moving = {r.tag[0] for r in plan.of("update")}
    forward = plan.forward(setting)
    reuse = _boundaries(plan, forward, moving)
    joint = plan.model.update.joint and bool(moving or movers)
    others = [name for name in plan.weights if name in plan.gradients] if joint else []
    cosines = {r.row for r in plan.of("alignment")}
    watched = {name: i for i, (name, _) in plan.sums.items() if name in cosines}
    tensors = {r.key: _position(plan, r) for r in plan.of("weight", "init", "gradient")}
    kept = [
        *(i for name in moving for i in (plan.weights[name], plan.gradients[name], *reuse[name])),
        *(program.features[r.row] for r in plan.of("update") if forward is program),
        *(plan.gradients[name] for name in others),
        *(i for name in movers for i in (plan.weights[name], plan.gradients[name])),
        *(program.features.values() if movers and forward is program else ()),
    ]
    out: dict[Key, torch.Tensor] = {}
    factors = {j for i in watched.values() for j in program.ops[i].inputs}
    leaves = draw_leaves(program, setting, plan.model.scalings, program.live([*kept, *tensors.values(), *watched.values()]))
    sized = {*tensors.values(), *watched.values(), *factors}
    cut = tiling(forward) if forward is not program else None
    values, sizes = observe(program, leaves, kept, sized, cut)
    for row in plan.rows:
        if row.key in tensors:
            out[row.key] = sizes[tensors[row.key]].log()
        elif row.kind == "alignment":
            out[row.key] = _cosine(plan, setting, watched[row.row], sizes).log()
    trained = dict.fromkeys([*others, *sorted(moving), *sorted(movers)])
    first = joined(plan.model, {name: values[plan.gradients[name]] for name in trained}, setting.widths)
    updates = {
        name: plan.model.update.change(
            [first[name]], [values[plan.weights[name]]], plan.model.scalings[name], setting.widths
        )
        for name in moving
    }
    out.update(_contributions(plan, forward, {**leaves, **values}, reuse, updates))
    if movers:
        out.update(later(whole, Training(whole, setting, {**leaves, **values}, first)))
    return {key: value.to("cpu", torch.float64) for key, value in out.items()}


def _position(plan: Plan, row: Row) -> int:
    """Where in the program the tensor of a weight, init or gradient row is."""
    if row.kind == "gradient":
        return plan.gradients[row.row]
    return plan.weights[row.row] if row.kind == "weight" else plan.model.program.features[row.row]


def _cosine(plan: Plan, setting: Setting, i: int, sizes: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """rms of the sum over rms of ‖a‖·‖b‖ along the summed growing axes.

    The product of norms is averaged over whatever else the two share or do not share, as the derivation does it.
    """
    program, over = plan.model.program, plan.sums[i][1]
    out = sizes[i]
    for j in program.ops[i].inputs:
        summed = setting.shape(program, [label for label in program.ops[j].axes if label in over])
        out = out / (sizes[j] * math.prod(summed) ** 0.5)
    return out


def _boundaries(plan: Plan, program: Program, moving: Iterable[str]) -> dict[str, list[int]]:
    """Per weight: results that do not depend on it and that the forward pass from it needs."""
    live = program.live(program.features[r.row] for r in plan.of("update"))
    out: dict[str, list[int]] = {}
    for name in moving:
        after, position = program.reaches(name), plan.weights[name]
        needed = {j for i in after if live[i] for j in program.needs(i)}
        out[name] = sorted(needed - after | {position})
    return out


def _contributions(
    plan: Plan,
    program: Program,
    known: Mapping[int, torch.Tensor],
    reuse: Mapping[str, Sequence[int]],
    updates: Mapping[str, tuple[torch.Tensor, float]],
) -> dict[Key, torch.Tensor]:
    out = dict[Key, torch.Tensor]()
    features: dict[int, Any] = {program.features[r.row]: known.get(program.features[r.row]) for r in plan.of("update")}
    if program is not plan.model.program:  # one code for all that is subtracted from each other
        leaves = {i: x for i, x in known.items() if not program.ops[i].inputs}
        features = run(program, leaves, list(features))
    for name, (delta, factor) in updates.items():
        rows = [r for r in plan.rows if r.kind == "update" and set(r.tag) == {name}]
        if not rows:
            continue
        position = plan.weights[name]
        start = known[position]
        fixed = {i: known[i] for i in reuse[name]}
        wanted = {r.row: program.features[r.row] for r in rows}
        initial = {row: features[i] for row, i in wanted.items()}

        def moved(
            step: torch.Tensor, position=position, start=start, delta=delta, fixed=fixed, wanted=wanted
        ) -> dict[str, Any]:
            by = step.reshape(-1, *[1] * (delta.dim() - 1))
            found = run(program, {**fixed, position: torch.addcmul(start, by, delta)}, list(wanted.values()))
            return {row: found[i] for row, i in wanted.items()}

        size = rms(delta)
        step = FIRST_ORDER * or_one(rms(start)) / or_one(size)
        after = moved(step)
        first = {row: rms_of([after[row], initial[row]], [1.0, -1.0]) / step for row in wanted}
        if any(len(r.tag) == 1 and not r.terms for r in rows):  # exactly zero: then the second order must not be seen, either
            before = moved(-step)
            none = {r.row for r in rows if len(r.tag) == 1 and not r.terms}
            first |= {row: rms_of([after[row], before[row]], [1.0, -1.0]) / (2 * step) for row in none}
        for r in rows:
            if len(r.tag) == 1:
                out[r.key] = (first[r.row] * factor).log()
        if any(len(r.tag) > 1 for r in rows):
            moves = {
                i: first[row] / or_one(rms_of([initial[row]], [1.0])) if i in plan.unstored
                else relative(after[row], initial[row]) / step
                for row, i in wanted.items()
            }  # fmt: skip
            step = second_step(moves, program.loss)
            up, down = moved(step), moved(-step)
            for r in rows:
                if len(r.tag) == 2:
                    second = rms_of([up[r.row], down[r.row], initial[r.row]], [1.0, 1.0, -2.0])
                    out[r.key] = (second * (factor / step) ** 2).log()
    return out


def relative(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """How far a feature moves, over its size, per seed: as a whole, or in that part of the indices where it is most.

    The parts count where an update grows along an axis and the feature does not: of states that turn the faster the higher
    their index is (S5 with a step per state) a step that moves all of them by 5 % turns the last ones by an angle of order
    one, and second orders came out N^(1/2) too small.
    """
    difference = after - before
    moves = [rms(difference) / or_one(rms(before))]
    for axis in range(1, before.dim()):
        if before.shape[axis] >= 2 * PARTS:
            part = torch.arange(before.shape[axis], device=before.device) * PARTS // before.shape[axis]
            own, moved = (
                x.abs().square().sum([d for d in range(1, x.dim()) if d != axis]) for x in (before, difference)
            )
            sums = [torch.zeros_like(own[:, :PARTS]).index_add_(1, part, x) for x in (own, moved)]
            moves.append((sums[1] / or_one(sums[0])).sqrt().amax(1))
    return torch.stack(moves).amax(0)


def second_step(moves: Mapping[int, torch.Tensor], loss: int | None) -> torch.Tensor:
    """A step that moves features by a few per cent, from what a step of one would move them by, by position.

    How far the output moves does not count, since nothing is a function of it: where it explodes a step that held it would
    move a preactivation by so little that next to no entry crossed a kink.
    """
    inner = [i for i in moves if i != loss] or list(moves)
    return SECOND_ORDER / or_one(torch.stack([moves[i] for i in inner]).amax(dim=0))


def or_one(size: torch.Tensor) -> torch.Tensor:
    """A size to divide by: 1 for what is exactly zero at initialisation, or does not move."""
    return torch.where(size > 0, size, torch.ones_like(size))
