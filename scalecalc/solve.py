"""Solving for a parameterization: how inits, rates, decays and ε must scale so that every layer is stable and learns.

Every size is affine in the exponents of the unknown inits and rates (:mod:`scalecalc.claims`), so that what is wanted is a
linear program, solved exactly (:mod:`scalecalc.linear`).  What is wanted, in this order; each goal is taken as far as it
goes and then kept:

1. what ``require`` says;
2. hard bounds: every feature and the output, every argument of a function that saturates, and every contribution of every
   update to every feature stay O(1);
3. inits, from the input up: each as large as the features allow.  (A weight that only the output depends on waits.)
4. updates, from the output down: each weight moves the first feature it reaches as much as the bounds allow, Θ(1) at
   best.
5. inits of the weights that only the output depends on: as large as is compatible with all that.  This is where a readout
   becomes smaller than its fan-in alone would have it.
6. what is left: weight decays and ε.

All this for the first step.  Later steps keep the inits and solve for the rates again, with what updates do together
bounded, too.  A weight's gradient is made by the weights above it and may grow once those have moved; where two rates then
share a bound it is that of the lower weight that gives way.

Which terms lead depends on the answer, so the network is derived again at each answer until it repeats.  The last
derivation is the proof: no bound is broken there, and each goal comes with the bounds that it cannot pass.

Calculus: Yang & Hu 2021 (arXiv 2011.14522) for matrix products; Everett et al. 2024 (arXiv 2407.05872) solve a linear
program like this one with alignments that they assume, ``alignment`` takes theirs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product
from typing import Any

from scalecalc.claims import (
    QUANTITIES,
    Claim,
    claims,
    derive_at,
    formal,
    guess,
    nearest,
    output_of,
    unknown,
    unknowns_in,
)
from scalecalc.derive import Derivation, interpret, table_of
from scalecalc.desiderata import Requirement, is_stable_only, parse_requirements
from scalecalc.errors import Contradiction, InputError
from scalecalc.linear import Certificate, Constraint, InexactError, Infeasible, System
from scalecalc.model import Model, resolve
from scalecalc.parameterization import Parameterization
from scalecalc.scale import Point, Regime, Scale
from scalecalc.table import Table, WeightScaling

ONE = Scale.one()
MOST_ROUNDS = 12


@dataclass(frozen=True)
class Bound:
    """What a weight's init or rate cannot pass.

    Args:
        quantity: ``init``, ``lr``, ``weight_decay`` or ``epsilon``.
        value: what it is.
        rows: the rows that bind it, in words; none where nothing does.
    """

    weight: str
    quantity: str
    value: Scale
    rows: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Solution(Parameterization):
    """A solved parameterization: the exponents (those of the steady state), what binds each, and what each weight does.

    Args:
        bounds: per weight and quantity, what binds it.
        first: the same, if only the first step had to be stable; equal to this one where that makes no difference.
        fates: per weight ``learning``, ``lazy`` or ``idle``.
        regime: how the dims were taken to grow against each other.
        model: the model as it was asked for.
        excess: features that the requirements keep above order one, and by how much.
        table: the Θ table under this parameterization.
    """

    bounds: Mapping[tuple[str, str], Bound] = field(default_factory=dict[tuple[str, str], Bound])
    first: Parameterization | None = None
    fates: Mapping[str, str] = field(default_factory=dict[str, str])
    regime: Regime = Regime()
    model: str = ""
    excess: Mapping[str, Scale] = field(default_factory=dict[str, Scale])
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    derived: Table | None = None


def solve(
    model: str,
    *,
    optimizer: str | None = None,
    regime: str = "proportional",
    steps: int = 2,
    require: Sequence[str] = (),
    parameterization: str | Parameterization | None = None,
    loss: str = "linear",
    fix: Mapping[str, int] | None = None,
    **options: Any,
) -> Solution:
    """Solve for the parameterization that keeps every layer stable and learning.

    >>> p = solve("mlp", optimizer="adam")
    >>> p["W_2"].lr, p["W_out"].init, p.fates["W_in"]
    (Θ(N^(-1)), Θ(N^(-1)), 'learning')

    Args:
        steps: 1 for the first step only, 2 for all steps.
        require: what must hold beside, or instead of, the default: see :func:`scalecalc.desiderata.parse_requirements`.
        parameterization: its inits and multipliers are kept, only rates are solved for.

    Raises:
        Contradiction: the requirements cannot be met; its message names the smallest set of rows that contradict.
        UnknownName, InputError: see :func:`scalecalc.derive`.
    """
    start = time.perf_counter()
    resolved = resolve(
        model, parameterization=parameterization or unscaled, optimizer=optimizer, loss=loss, options=options, fix=fix
    )
    wanted = parse_requirements(require, resolved.program)
    held = resolved.scalings if parameterization is not None else None
    how = Regime.parse(regime, resolved.program.dims)
    learns = not is_stable_only(require)
    early = Problem(formal(resolved, held), how, 1, wanted, learns)
    first = answer = early.solve()
    if steps > 1:  # the same inits; rates may have to be smaller once other weights have moved
        after = Problem(formal(resolved, _scalings(early.model, first.values)), how, steps, wanted, learns)
        answer = after.solve(start=first.values)
    name = f"solved from {resolved.parameterization}" if held else "solved"
    scalings = _scalings(early.model, {**first.values, **answer.values})
    axes = {w: tuple(label.rstrip("'") if resolved.program.grows(label) else "" for label in weight.axes)
            for w, weight in resolved.program.weights.items()}  # fmt: skip
    common: Any = {"optimizer": resolved.optimizer, "dims": resolved.program.dims, "axes": axes}
    derived = table_of(interpret(replace(resolved, scalings=scalings, parameterization=name), how, steps=steps))
    return Solution(
        name,
        scalings=scalings,
        **common,
        bounds={**_bounds(first), **_bounds(answer)},
        first=Parameterization(f"{name}, first step", scalings=_scalings(early.model, first.values), **common),
        fates=_fates(answer),
        regime=how,
        model=resolved.name,
        excess=answer.excess,
        seconds=time.perf_counter() - start,
        options={"loss": loss, "steps": steps, "require": list(require)},
        derived=derived,
    )


def unscaled(weight: Any, optimizer: str) -> WeightScaling:
    """Nothing scales: what a solve starts from."""
    return WeightScaling(ONE, ONE, ONE)


@dataclass(frozen=True)
class Answer:
    """Where a solve ended: the unknowns' values, a certificate per goal, and the derivation at that point."""

    values: Mapping[str, Scale]
    certificates: Mapping[str, Certificate]
    excess: Mapping[str, Scale]
    found: Derivation
    claims: Sequence[Claim] = ()
    settled: bool = True


@dataclass(frozen=True)
class Problem:
    """One network with unknown scalings, and what is wanted of it.

    ``learns``: weights are to move their features (goals 4 and 5), else only as much as stability allows.
    """

    model: Model
    regime: Regime
    steps: int
    wanted: Sequence[Requirement] = ()
    learns: bool = True

    def solve(self, steps: int | None = None, start: Mapping[str, Scale] | None = None) -> Answer:
        """Derive, solve, and again at the answer, until it repeats.

        Raises:
            Contradiction: what is wanted cannot be had.
        """
        steps = steps or self.steps
        point = {**guess(self.model), **(start or {})}
        seen: list[Mapping[str, Scale]] = []
        while True:
            answer = self._answer(derive_at(self.model, point, self.regime, steps))
            if all(point[u] is v for u, v in answer.values.items()):
                return answer
            if answer.values in seen or len(seen) == MOST_ROUNDS:
                return replace(answer, settled=False)
            seen.append(answer.values)
            point = {**point, **answer.values}

    def _answer(self, found: Derivation) -> Answer:
        if self.regime.kind != "free":
            return self._along(found, self.regime)
        # Bounded however the dims grow is bounded in each dim by itself.
        out: list[Answer] = []
        for dim in self.model.program.dims:
            rates = tuple((d, Fraction(int(d == dim))) for d in self.model.program.dims)
            out.append(self._along(found, Regime("path", rates=rates, text=f"{dim} alone"), only=dim))
        values: dict[str, Scale] = {}
        excess: dict[str, Scale] = {}
        for one in out:
            values = {u: values.get(u, ONE) * v for u, v in one.values.items()}
            excess = {u: excess.get(u, ONE) * one.excess.get(u, ONE) for u in {*excess, *one.excess}}
        return replace(out[0], values=values, excess=excess)

    def _along(self, found: Derivation, regime: Regime, only: str = "") -> Answer:
        every = claims(found, {r.feature for r in self.wanted if r.statistic == "entry"})
        if only:
            every = [replace(c, size=_in_dim(c.size, only, self.model.program.dims)) for c in every]
        error: Infeasible | None = None
        for equalities in self._choices(found, every, only):
            try:
                return self._with(equalities, found, every, regime)
            except Infeasible as contradicted:
                error = error or contradicted
        assert error is not None
        raise Contradiction(self.model.name, [(c.origin.label, y) for c, y in error.multipliers], _product(error))

    def _with(
        self, equalities: Sequence[Constraint], found: Derivation, every: Sequence[Claim], regime: Regime
    ) -> Answer:
        program, dims = self.model.program, self.model.program.dims
        names = unknowns_in((c.size for c in every), dims)
        free = [f for f in program.features if self.wanted and not any(r.feature == f for r in self.wanted)]
        excess = {f: f"excess {f}" for f in free}
        rows = [Constraint(c.size / self._bound(c) / (Scale.of(excess[c.row]) if c.row in excess else ONE), c) for c in every]
        rows += [Constraint(Scale.of(u, -1), Claim("excess", f, (), ONE)) for f, u in excess.items()]
        system = System([*names, *excess.values()], [*rows, *equalities], regime)
        certificates: dict[str, Certificate] = {}
        for u in excess.values():  # a feature is no larger than what is required makes it
            system.maximize(Scale.of(u, -1))
        for label, goal in self._goals(found, every):
            certificates[label] = system.maximize(goal)
        solved = system.solution()
        broken = system.violated()
        if broken:
            raise InexactError(f"the solution breaks {broken[0].origin.label}.")
        over = {f: solved[u] for f, u in excess.items() if u in solved and solved[u] is not ONE}
        return Answer({u: solved[u] for u in names if u in solved}, certificates, over, found, every)

    # ------------------------------------------------------------------ goals

    def _goals(self, found: Derivation, every: Sequence[Claim]) -> list[tuple[str, Scale]]:
        """Formal scales to be made large, in order, with the unknown or the weight that each is for."""
        program, near, output = self.model.program, nearest(found), output_of(self.model.program)
        names = unknowns_in((c.size for c in every), program.dims)
        order = [op.name for op in program.ops if op.rule == "weight"]
        last = [w for w in order if near.get(w, output) == output] if self.learns else []
        inits = {w: unknown("init", w) for w in order if unknown("init", w) in names}
        goals = [(inits[w], Scale.of(inits[w])) for w in inits if w not in last]
        depth = {w: program.features[near[w]] for w in order if w in near}
        for w in sorted(depth, key=lambda w: (w not in last, -depth[w], order.index(w))):
            own = [c for c in every if c.kind == "update" and c.row == near[w] and c.tag == (w,)]
            if own:
                goals.append((unknown("lr", w), _largest(own, found.algebra.regime).size))
        goals += [(inits[w], Scale.of(inits[w])) for w in inits if w in last]
        done = {u for _, g in goals for u, _ in g.powers}
        rest = sorted((u for u in names if u not in done), key=lambda u: QUANTITIES.index(u.split()[0]))
        return goals + [(u, Scale.of(u)) for u in rest]

    # ------------------------------------------------------------------ requirements

    def _bound(self, c: Claim) -> Scale:
        """What a row may come to: what is required of it, else order one, or the feature's own required size."""
        own = [r for r in self.wanted if r.feature == c.row and r.kind == c.kind and r.by in ("", *c.tag[:1])]
        if own:
            return own[0].scale
        if c.kind == "update":
            initial = [r.scale for r in self.wanted if r.feature == c.row and r.kind == "init"]
            if initial and self._order(initial[0]) == 1:
                return initial[0]
        return ONE

    def _order(self, s: Scale) -> int | None:
        return self.regime.order(s, ONE)

    def _choices(self, found: Derivation, every: Sequence[Claim], only: str) -> list[list[Constraint]]:
        """The equalities that are required; for an update that any weight may make one choice per weight, nearest first."""
        lists: list[list[list[Constraint]]] = []
        for r in self.wanted:
            own = [c for c in every if c.kind == r.kind and c.row == r.feature]
            tags = [(r.by,)] if r.by else _tags_of(found, own) if r.kind == "update" else [()]
            options: list[list[Constraint]] = []
            scale = _in_dim(r.scale, only, self.model.program.dims) if only else r.scale
            for tag in tags:
                mine = [c for c in own if c.tag == tag]
                if mine:
                    lead = _largest(mine, found.algebra.regime)
                    options.append([Constraint(lead.size / scale, replace(lead, required=r.text), equal=True)])
            if not options:
                raise InputError(f"--require {r.text!r}: {r.feature} has no such update; nothing changes it.")
            lists.append(options)
        return [[c for option in chosen for c in option] for chosen in product(*lists)] or [[]]


def _in_dim(size: Scale, dim: str, dims: Sequence[str]) -> Scale:
    """The part of a formal size that grows with one dim."""
    return Scale(
        tuple((d, e) for d, e in size.powers if d == dim or d not in dims), tuple((d, e) for d, e in size.logs if d == dim)
    )


def _largest(found: Sequence[Claim], regime: Regime) -> Claim:
    best = found[0]
    for c in found[1:]:
        if regime.order(c.size, best.size) == 1:
            best = c
    return best


def _tags_of(found: Derivation, own: Sequence[Claim]) -> list[tuple[str, ...]]:
    """The single weights that move a feature, the nearest to it first."""
    position = found.model.program.leaves("weight")
    near = nearest(found)
    features = found.model.program.features
    tags = {c.tag for c in own if len(c.tag) == 1}
    return sorted(tags, key=lambda tag: (-features[near[tag[0]]], position[tag[0]]))


def _product(error: Infeasible) -> Scale:
    out = ONE
    for c, y in error.multipliers:
        out = out * c.size**y
    return out


def _scalings(model: Model, values: Mapping[str, Scale]) -> dict[str, WeightScaling]:
    """The formal scalings with the unknowns' values; what nothing depends on does not scale."""
    at = Point({**{u: ONE for s in model.scalings.values() for u in _names(s, model)}, **values})
    out: dict[str, WeightScaling] = {}
    for name, s in model.scalings.items():
        own = {q: values.get(unknown(q, name)) for q in ("weight_decay", "epsilon")}
        out[name] = WeightScaling(at(s.init), s.multiplier, at(s.lr), s.role, **own)
    return out


def _names(s: WeightScaling, model: Model) -> list[str]:
    return unknowns_in((s.init, s.lr), model.program.dims)


def _bounds(answer: Answer) -> dict[tuple[str, str], Bound]:
    out: dict[tuple[str, str], Bound] = {}
    for u, certificate in answer.certificates.items():
        quantity, weight = u.split(maxsplit=1)
        rows = tuple(dict.fromkeys(c.origin.label for c, y in certificate.multipliers if y))
        out[weight, quantity] = Bound(weight, quantity, answer.values.get(u, ONE), rows)
    return out


def _fates(answer: Answer) -> dict[str, str]:
    """Learning if the first feature a weight reaches moves by its own updates as much as order one; idle if nothing does."""
    at, regime, near = Point(answer.values), answer.found.algebra.regime, nearest(answer.found)
    out: dict[str, str] = {}
    for weight in answer.found.model.program.weights:
        own = [c for c in answer.claims if c.kind == "update" and weight in c.tag]
        mine = [c for c in own if c.row == near.get(weight) and c.tag == (weight,)]
        if any(regime.order(at(c.size), ONE) in (0, 1) for c in mine):
            out[weight] = "learning"
        elif any(regime.order(at(c.size), ONE) in (0, 1) for c in own):
            out[weight] = "learning further on"
        else:
            out[weight] = "lazy" if own else "idle"
    return out
