"""Rows of steps two and later: what a second step adds because weights have moved, order by order.

With every weight W trained at ε_W times its rate, the network after two steps is a series in the ε (see
``scalecalc.steps``), and a row is one coefficient of it.  They are taken one derivative at a time, as the engine does:

- D_V of any quantity of the backward pass: its central difference with V moved by ±b times its first update;
- D_V ΔW, what W's second update gains from V: the central difference of the optimizer's second step from both gradients;
- the coefficient of ε_W ε_V in a feature: the mixed second difference of the forward pass at the moved weights
  W₀ + s h_W 2ΔW + s t h_W h_V D_V ΔW and V₀ + t h_V 2ΔV + s t h_W h_V D_W ΔV with signs s and t.  This is the second
  derivative of two-step training by the chain rule, for the price of forward passes.

How far to move: where everything is smooth, so little that a thousandth of the features changes, since the next orders may
be larger by N^(1/2) each.  A kink (relu) is felt by the entries that cross it, so it takes a step that makes some cross.
The same holds for an optimizer that divides by the gradient's size (Adam): how its update answers to a part δ that the
gradient g gained is h(δ/|g|), and the entries with |g| < b|δ| see it saturate.  An infinitesimal b asks for the mean of
1/|g| over the entries, which diverges, and for a rate of one no gradient is left unsaturated where δ outgrows it: neither
is the claim, which is about a rate of order one.  So b is :data:`FINITE` there, less only where some feature explodes; the
derivative in W's own direction stays small.  Exponents do not depend on b, but how soon they show does: y's order
(W_B, W_out) under Adam, derived to be flat in N_u, has slopes of .36 and .26 for b = 0.1 (N_u from 32 to 128, and to 512),
.22 and .09 for 0.3, .05 and −.02 for 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from scalecalc.backward import rule_of
from scalecalc.measure.hidden import rms_of
from scalecalc.measure.interpret import Setting, rms, run
from scalecalc.measure.tiles import observe_together, tiling
from scalecalc.model import Model
from scalecalc.program import Program
from scalecalc.table import Row

if TYPE_CHECKING:
    from scalecalc.measure.contributions import Key, Plan

SMALL = 1e-3
KINKED = 0.05
FINITE = 1.0
TINY = 1e-6

HALVES = ((0.5, -0.5), (0.5, 0.5))  # of what is found at +b and −b: half their difference, and their mean
Sizes = dict[int, list[torch.Tensor]]  # the root-mean-squares of both, by position


def kinked(program: Program) -> bool:
    """Does the program apply a function with a kink or a jump, whose derivatives are felt by crossing it only?"""
    elementwise = import_module("scalecalc.rules.elementwise").Elementwise
    rules = [(rule_of(program, i), op) for i, op in enumerate(program.ops) if op.inputs]
    return any(rule.derivative(op.params["order"] + 2).singular for rule, op in rules if isinstance(rule, elementwise))


def joined(model: Model, gradients: Mapping[str, torch.Tensor], widths: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """What the optimizer makes of the effective gradients of all weights together (clipping by their norm)."""
    if not model.update.joint or not gradients:
        return dict(gradients)
    by = {name: model.scalings[name].multiplier.at(widths) for name in gradients}
    found = model.update.together_torch({name: by[name] * g for name, g in gradients.items()})
    return {name: g / by[name] for name, g in found.items()}


def along(x: torch.Tensor, by: torch.Tensor | float) -> torch.Tensor:
    """A tensor of shape (seeds, …) times a number per seed."""
    return x * by if isinstance(by, float) else x * by.reshape(-1, *[1] * (x.dim() - 1))


@dataclass
class Training:
    """One batch of seeds in training.

    Args:
        known: leaves of the initial network, by position, and its features, unless they can be had without their states.
        first: per weight, its gradient at the first step.
        step: how far features may move.
    """

    plan: Plan
    setting: Setting
    known: Mapping[int, torch.Tensor]
    first: Mapping[str, torch.Tensor]
    finite: float = FINITE
    step: float = 0.0
    sensitivity: dict[tuple[str, float], torch.Tensor] = field(default_factory=dict[tuple[str, float], torch.Tensor])

    def __post_init__(self) -> None:
        self.step = self.step or (KINKED if kinked(self.plan.model.program) else SMALL)

    @cached_property
    def forward(self) -> Program:
        return self.plan.forward(self.setting)

    @cached_property
    def features(self) -> Mapping[int, Any]:
        """Those of the initial network: tensors, or what norms are found from."""
        wanted = list(self.plan.model.program.features.values())
        whole = self.forward is self.plan.model.program
        return {i: self.known[i] for i in wanted} if whole else self.at({}, wanted)

    def update(
        self, name: str, *gradients: torch.Tensor, weights: Sequence[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """The last of the optimizer's updates of an effective weight, at its rate, by all gradients so far.

        ``weights``: the effective weight at every step so far; the initial one at all of them, unless given.
        """
        model, start = self.plan.model, self.known[self.plan.weights[name]]
        values = [start] * len(gradients) if weights is None else weights
        direction, factor = model.update.change(gradients, values, model.scalings[name], self.setting.widths)
        return factor * direction

    def twice(self, name: str) -> torch.Tensor:
        """The sum of the first two updates, where nothing has moved in between."""
        first = self.first[name]
        return self.update(name, first) + self.update(name, first, first)

    def moved(self, moves: Mapping[str, torch.Tensor]) -> dict[int, torch.Tensor]:
        """The leaves, with weights moved by so much."""
        given = {i: value for i, value in self.known.items() if not self.plan.model.program.ops[i].inputs}
        for name, by in moves.items():
            position = self.plan.weights[name]
            given[position] = given[position] + by
        return given

    def at(self, moves: Mapping[str, torch.Tensor], wanted: Sequence[int]) -> dict[int, Any]:
        """Features with weights moved by so much."""
        return run(self.forward, self.moved(moves), wanted)

    def relative(self, name: str, least: float = 0.0) -> torch.Tensor:
        """The largest change of a feature per unit of ε, relative to its own size or ``least``, shape (seeds,)."""
        if (name, least) not in self.sensitivity:
            program = self.plan.model.program
            reach = program.reaches(name)
            features = [i for i in program.features.values() if i in reach]
            update = self.update(name, self.first[name])
            start = self.known[self.plan.weights[name]]
            size, reference = rms(update), rms(start)
            one = torch.ones_like(size)
            tiny = TINY * torch.where(reference > 0, reference, one) / torch.where(size > 0, size, one)
            after = self.at({name: along(update, tiny)}, features)
            ratios = [one * 0]
            for i in features:
                before = rms_of([self.features[i]], [1.0]).clamp(min=least)
                change = rms_of([after[i], self.features[i]], [1.0, -1.0])
                ratios.append(torch.where(before > 0, change / tiny / before, one * 0))
            largest = torch.stack(ratios).amax(dim=0)
            self.sensitivity[name, least] = torch.where(largest > 0, largest, one)
        return self.sensitivity[name, least]

    def gradients(
        self, name: str, wanted: Sequence[str], sized: Iterable[int], far: bool
    ) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]], Sizes]:
        """With a weight moved by ±b: the gradients of the wanted weights, and how large the two halves of all else are.

        Returns b (seeds,), what was found at +b and at −b, and the sizes of :data:`HALVES` at the sized positions.
        """
        relative = self.relative(name, least=1.0).clamp(min=1.0) if far else self.relative(name)
        b = (self.finite if far else self.step) / relative
        update = self.update(name, self.first[name])
        positions = {w: self.plan.gradients[w] for w in wanted}
        given = [self.moved({name: along(update, sign * b)}) for sign in (1.0, -1.0)]
        program = self.plan.model.program
        cut = None if self.forward is program else tiling(self.forward)
        values, sizes = observe_together(program, given, list(positions.values()), sized, HALVES, cut)
        return b, [{w: x[i] for w, i in positions.items()} for x in values], sizes


def later(plan: Plan, training: Training) -> dict[Key, torch.Tensor]:
    """Natural logarithm of every row of a second step: tensors of shape (seeds,) by row key."""
    rows = [r for r in plan.rows if r.step > 1]
    smooth, joint = plan.model.update.smooth, plan.model.update.joint
    every = [name for name in plan.weights if name in plan.gradients] if joint else []
    pairs = list(dict.fromkeys(r.tag for r in rows if r.kind == "update"))
    single = [r for r in rows if r.kind != "update"]
    partners: dict[str, list[str]] = {}
    for w, v in pairs:
        partners.setdefault(v, []).append(w)
        if w != v:
            partners.setdefault(w, []).append(v)
    out: dict[Key, torch.Tensor] = {}
    gains: dict[tuple[str, str], torch.Tensor] = {}
    for v in dict.fromkeys([*(r.tag[0] for r in single), *partners]):
        own = [r for r in single if r.tag == (v,)]
        moved_by_v = partners.get(v, []) if smooth else []
        wanted = list(dict.fromkeys([*moved_by_v, *(every if moved_by_v else [])]))
        if own or moved_by_v:
            names = {r.row for r in own if r.kind == "alignment"}
            summed = {s[0]: i for i, s in plan.sums.items() if s[0] in names}
            sized = {plan.gradients[r.row] for r in own if r.kind == "gradient"} | set(summed.values())
            sized |= {j for i in summed.values() for j in plan.model.program.ops[i].inputs}
            b, found, sizes = training.gradients(v, wanted, sized, False)
            for r in own:
                if r.kind == "gradient":
                    out[r.key] = (sizes[plan.gradients[r.row]][0] / b).log()
                elif r.kind == "alignment":
                    out[r.key] = _cosine(plan, training.setting, summed[r.row], sizes).log()
            both = [joined(plan.model, values, training.setting.widths) for values in found] if moved_by_v else []
            gains.update({(w, v): _gain(training, w, v, b, both) for w in moved_by_v})
        if not smooth and v in partners:
            b, found, _ = training.gradients(v, every or partners[v], (), True)
            both = [joined(plan.model, values, training.setting.widths) for values in found]
            gains.update({(w, v): _gain(training, w, v, b, both) for w in partners[v]})
    for tag in pairs:
        out.update(_pair(plan, training, tag, [r for r in rows if r.kind == "update" and r.tag == tag], gains))
    return out


def _gain(
    training: Training, name: str, by: str, b: torch.Tensor, found: Sequence[Mapping[str, torch.Tensor]]
) -> torch.Tensor:
    """D_V of the second update of a weight, V having moved by ±b; of its own, the weight itself has moved as well."""
    start = training.known[training.plan.weights[name]]
    moved = along(training.update(by, training.first[by]), b) if name == by else None
    ends: list[torch.Tensor] = []
    for sign, values in zip((1.0, -1.0), found, strict=True):
        weights = [start, start if moved is None else start + sign * moved]
        ends.append(training.update(name, training.first[name], values[name], weights=weights))
    return along(ends[0] - ends[1], 1 / (2 * b))


def _cosine(plan: Plan, setting: Setting, i: int, sizes: Sizes) -> torch.Tensor:
    """D_V of a sum Σ a·b over the norms of what it is made of: (‖D_V a‖² ‖b‖² + ‖a‖² ‖D_V b‖²)^(1/2)."""
    program, over = plan.model.program, plan.sums[i][1]
    summed = [[label for label in program.ops[j].axes if label in over] for j in program.ops[i].inputs]
    a, b = (
        [size * math.prod(setting.shape(program, labels)) ** 0.5 for size in sizes[j]]
        for j, labels in zip(program.ops[i].inputs, summed, strict=True)
    )
    return sizes[i][0] / ((a[0] * b[1]).square() + (a[1] * b[0]).square()).sqrt()


def _pair(
    plan: Plan,
    training: Training,
    tag: tuple[str, ...],
    rows: Sequence[Row],
    gains: Mapping[tuple[str, str], torch.Tensor],
) -> dict[Key, torch.Tensor]:
    """The coefficient of ε_W ε_V after two steps, by the mixed central difference."""
    w, v = tag
    wanted = {r.row: plan.model.program.features[r.row] for r in rows}
    steps = {name: training.step / training.relative(name) for name in tag}
    twice = {name: along(training.twice(name), steps[name]) for name in tag}
    second = steps[w] * steps[v]

    if w == v:
        change = along(gains[w, w], second)
        ways = [(1.0, {w: twice[w] + change}), (1.0, {w: change - twice[w]})]
        scale = 2 * second
    else:
        own, other = along(gains[w, v], second), along(gains[v, w], second)
        signs = [(s, t) for s in (1.0, -1.0) for t in (1.0, -1.0)]
        ways = [(s * t, {w: s * twice[w] + s * t * own, v: t * twice[v] + s * t * other}) for s, t in signs]
        scale = 4 * second
    found = [(sign, training.at(move, list(wanted.values()))) for sign, move in ways]
    found += [(-2.0, training.features)] if w == v else []
    coefficients = [sign for sign, _ in found]
    return {r.key: (rms_of([x[wanted[r.row]] for _, x in found], coefficients) / scale).log() for r in rows}
