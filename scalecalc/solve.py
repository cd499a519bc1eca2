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
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

from scalecalc import duration
from scalecalc.chain import PATH, before, in_inits
from scalecalc.claims import (
    Claim,
    by_row,
    everywhere,
    formal,
    gradients,
    is_deep,
    made_by,
    nearest,
    output_of,
    unknown,
    unknowns_in,
)
from scalecalc.cuts import share, shares, values_of_sums
from scalecalc.derive import interpret, table_of
from scalecalc.desiderata import is_stable_only, parse_requirements
from scalecalc.equivalence import Match, recognised
from scalecalc.errors import Contradiction
from scalecalc.garbage import uncollected
from scalecalc.gauge import Choice, at_point, chosen, own_shifts, parse_gauge, values_of
from scalecalc.model import Model, axes_of, exact_in, resolve
from scalecalc.parameterization import Parameterization
from scalecalc.pieces import Piece, path, pieces
from scalecalc.problem import Answer, Problem
from scalecalc.program import Weight
from scalecalc.scale import Point, Regime, Scale
from scalecalc.sectors import Sector, neighbours, sectors
from scalecalc.solution import Bound, Solution
from scalecalc.symmetry import Shift, shifts
from scalecalc.table import Table, WeightScaling

ONE = Scale.one()
NEAR = Fraction(1, 97)  # how far from a path its neighbours are
UNCONFIRMED = (
    "the exponents change with how the dims grow against each other in more ways than were found: further paths do not "
    "confirm all of the formulas. Solve along the path that you mean (--regime)."
)


@uncollected()
def solve(
    model: str,
    *,
    optimizer: str | None = None,
    regime: str = "proportional",
    steps: int = 2,
    require: Sequence[str] = (),
    gauge: str = "",
    parameterization: str | Parameterization | None = None,
    loss: str = "linear",
    fix: Mapping[str, int] | None = None,
    alignment: str = "derived",
    **options: Any,
) -> Solution:
    """Solve for the parameterization that keeps every layer stable and learning.

    >>> p = solve("mlp", optimizer="adam")
    >>> p["W_2"].lr, p["W_out"].init, p.fates["W_in"]
    (Θ(N^(-1)), Θ(N^(-1)), 'learning')

    Args:
        regime: the path along which sizes are compared.  ``free``: rates that hold however the dims grow, and beside them
            the whole answer by pieces, as a function of how the dims grow against each other.
        steps: 1 for the first step only, 2 for all steps.
        require: what must hold beside the default: see :func:`scalecalc.desiderata.parse_requirements`; ``stable`` asks
            for no weight to learn, only for the largest inits and then the largest rates that are stable.
        gauge: which of the equivalent solutions, see :func:`scalecalc.gauge.parse_gauge`: ``init = 1`` for unit variances,
            ``like mup_table8``, ``h = 1`` for the one in which a feature has that size initially.  By default multipliers are
            one, or those that the parameterization has.
        parameterization: its inits and multipliers are kept, only rates are solved for.
        alignment: see :func:`scalecalc.derive`.

    Raises:
        Contradiction: the requirements cannot be met; its message names the smallest set of rows that contradict.
        UnknownName, InputError: see :func:`scalecalc.derive`.
    """
    start = time.perf_counter()
    resolved = resolve(
        model, parameterization=parameterization or unscaled, optimizer=optimizer, loss=loss, options=options, fix=fix,
        alignment=alignment, regime=regime,
    )  # fmt: skip
    program = resolved.program
    parse_requirements(require, program)
    held = resolved.scalings if parameterization is not None else None
    choices = parse_gauge(gauge, resolved) if gauge else ()
    asked = _Asked(resolved, held, steps, tuple(require))
    how = Regime.parse(regime, program.dims)
    found = asked.along(how)
    written = asked.written(found, choices)
    by_pieces: Mapping[tuple[str, str], Sequence[Piece | Sector]] = {}
    confirmed, fates = True, [_fates(found.last)]

    def along(way: Regime) -> dict[str, Scale]:
        one = asked.along(way, found.values)
        fates.append(_fates(one.last))
        return written(one.values)

    # Where the inits are kept some other path may have no solution; then there is nothing to set beside this one.
    with suppress(Contradiction):
        if len(program.dims) == 2 and how.kind == "free":
            every = pieces(program.dims, lambda rho: along(path(program.dims, rho)))
            by_pieces = {_place(u): p for u, p in every.items() if len(p) > 1}
        elif len(program.dims) == 2 and how.kind == "path":
            by_pieces = asked.beside(found, how, written)
        elif len(program.dims) > 2 and how.kind == "free":
            ways, confirmed = sectors(program.dims, along)
            by_pieces = {_place(u): p for u, p in ways.items() if len(p) > 1}
        elif len(program.dims) > 2 and how.kind == "path":
            by_pieces = asked.around(found, how, written)
    values, early = written(found.values), written(found.first.values)
    name = f"solved, inits of {resolved.parameterization}" if held else "solved"
    scalings, before = (_scalings(asked.problem(how, 1).model, v) for v in (values, early))
    known = resolved.alignment.notes() if resolved.alignment is not None else ()
    differs = any(scalings[w].lr is not before[w].lr for w in scalings)
    axes = axes_of(program)
    after = replace(resolved, scalings=scalings, parameterization=name)
    return Solution(
        name, resolved.optimizer, program.dims, scalings, axes, exact_in(program),
        model=resolved.name,
        regime=how,
        first=Parameterization(f"{name}, first step", resolved.optimizer, program.dims, before, axes),
        bounds={**_bounds(found.first, early), **_bounds(found.last, values)},
        fates=_agreed(fates) if by_pieces else fates[0],
        excess=found.last.excess,
        group=written.group,
        own=written.own,
        matches=written.matches(scalings, how, steps),
        first_matches=written.matches(before, how, 1) if differs else (),
        pieces=by_pieces,
        table=partial(_table, after, how, steps),
        notes=(*_notes(found, how, confirmed), *duration.notes(program), *known),
        options={"loss": loss, "steps": steps, "require": list(require), "gauge": gauge, "alignment": alignment},
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def _table(model: Model, regime: Regime, steps: int) -> Table:
    return table_of(interpret(model, regime, steps=steps))


def unscaled(weight: Weight, optimizer: str) -> WeightScaling:
    """Nothing scales: what a solve starts from."""
    return WeightScaling(ONE, ONE, ONE)


@dataclass(frozen=True)
class _Found:
    """The answers for the first step and for all steps; ``values`` has the inits of the first, the rates of the last."""

    first: Answer
    last: Answer

    @property
    def values(self) -> dict[str, Scale]:
        return {**self.first.values, **self.last.values}


@dataclass(frozen=True)
class _Asked:
    """What was asked for; it can be solved along any path."""

    model: Model
    held: Mapping[str, WeightScaling] | None
    steps: int
    require: tuple[str, ...]

    def written(self, found: _Found, choices: Sequence[Choice]) -> _Written:
        first, program = found.first.found, self.model.program
        point = everywhere(program, {**(first.algebra.regime.point or Point({})).unknowns, **found.first.values})
        own = own_shifts(self.model, at_point(gradients(first), point), replace(first.algebra.regime, point=None))
        on = before(program)
        group = shifts(found.first.claims, output_of(program), program.dims, on)
        held = values_of(self.held or {}, program)
        kept = {u: v for u, v in held.items() if u.startswith(("multiplier ", "init "))}
        sizes = [replace(c, size=in_inits(c.size, on)) for c in found.first.claims if choices and c.kind == "init"]
        return _Written(self.model, choices, own, group, sizes, kept)

    def problem(self, regime: Regime, steps: int, held: Mapping[str, WeightScaling] | None = None) -> Problem:
        wanted = parse_requirements(self.require, self.model.program)
        return Problem(formal(self.model, held or self.held), regime, steps, wanted, not is_stable_only(self.require))

    def along(self, regime: Regime, start: Mapping[str, Scale] | None = None) -> _Found:
        early = self.problem(regime, 1)
        first = last = early.solve(start)
        if self.steps > 1:  # the same inits; rates may have to be smaller once other weights have moved
            last = self.problem(regime, self.steps, _scalings(early.model, first.values)).solve(first.values)
        return _Found(first, last)

    def beside(self, found: _Found, how: Regime, written: _Written) -> dict[tuple[str, str], tuple[Piece, ...]]:
        """Where a path lies on a breakpoint: the two pieces that meet there, from the sizes derived on it."""
        dims = self.model.program.dims
        rates = {**dict.fromkeys(dims, Fraction(1)), **dict(how.rates)}
        rho = rates[dims[1]] / rates[dims[0]]
        low, high = (written(self.near(found, path(dims, other))) for other in (rho * (1 - NEAR), rho * (1 + NEAR)))
        return {
            _place(u): (Piece(Fraction(0), rho, low[u]), Piece(rho, None, high[u]))
            for u in low
            if u in high and low[u] is not high[u]
        }

    def around(self, found: _Found, how: Regime, written: _Written) -> dict[tuple[str, str], tuple[Sector, ...]]:
        """The same with more dims than two: what meets on the path, from all sides."""
        ways = [(way, written(self.near(found, way))) for way in neighbours(self.model.program.dims, how, NEAR)]
        out: dict[tuple[str, str], tuple[Sector, ...]] = {}
        for u in ways[0][1]:
            scales = dict.fromkeys(values[u] for _, values in ways if u in values)
            if len(scales) > 1:
                out[_place(u)] = tuple(Sector(s, tuple(way for way, v in ways if v.get(u) is s)) for s in scales)
        return out

    def near(self, found: _Found, regime: Regime) -> Mapping[str, Scale]:
        """What was derived along one path, solved again along a neighbour."""
        first = self.problem(regime, 1).at(found.first)
        if found.last is found.first:
            return first.values
        model = self.problem(regime, 1).model
        last = self.problem(regime, self.steps, _scalings(model, first.values)).at(found.last)
        return {**first.values, **last.values}


@dataclass(frozen=True)
class _Written:
    """A solution as it is written: in the gauge that was asked for, and by the name that it has if it has one.

    Args:
        own, group: the shifts of each weight, and those over several.
        claims: the initial sizes at the solution.
        kept: inits and multipliers of the parameterization that is kept, if one is.
    """

    model: Model
    choices: Sequence[Choice]
    own: Mapping[str, Shift]
    group: tuple[Shift, ...]
    claims: Sequence[Claim]
    kept: Mapping[str, Scale]

    def __call__(self, values: Mapping[str, Scale]) -> dict[str, Scale]:
        given = {**self.kept, **values}
        return chosen(given, self.choices, self.own, self.group, self.claims) if self.choices else given

    def matches(self, scalings: Mapping[str, WeightScaling], how: Regime, steps: int) -> tuple[Match, ...]:
        values = values_of(scalings, self.model.program)
        return recognised(self.model, values, self.own, self.group, how, steps)


def _place(unknown_name: str) -> tuple[str, str]:
    quantity, weight = unknown_name.split(maxsplit=1)
    return weight, quantity


def _agreed(fates: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """What each weight does with the pieces of every path, where all paths say the same; else with what holds on all."""
    usual, *others = fates
    same = {w: {one[w] for one in others} for w in usual}
    return {w: min(same[w]) if len(same[w]) == 1 else fate for w, fate in usual.items()}


def _notes(found: _Found, how: Regime, confirmed: bool) -> list[str]:
    out: list[str] = []
    if not (found.first.settled and found.last.settled):
        out.append(
            "the terms that lead at the solution are not those that it was solved for, and they did not settle; check the "
            "table under this parameterization (scalecalc verify) before relying on it."
        )
    for feature, size in found.last.excess.items():
        out.append(f"{feature} is of size {size} initially, as what is required of other features makes it.")
    out += found.first.notes
    if how.kind == "free":
        out.append("regime free: every rate holds however the dims grow; for a given path a larger one may (see the pieces).")
    if not confirmed:
        out.append(UNCONFIRMED)
    return out


def _scalings(model: Model, values: Mapping[str, Scale]) -> dict[str, WeightScaling]:
    """The formal scalings with the unknowns' values; what nothing depends on does not scale."""

    def known(quantity: str, name: str) -> Scale:
        own = getattr(model.scalings[name], quantity)
        return values.get(unknown(quantity, name), ONE if unknowns_in([own], model.program.dims) else own)

    out: dict[str, WeightScaling] = {}
    for name, s in model.scalings.items():
        first = (known(q, name) for q in ("init", "multiplier", "lr"))
        own = {q: values.get(unknown(q, name)) for q in ("weight_decay", "epsilon")}
        out[name] = WeightScaling(*first, s.role, **own)
    return out


def _bounds(answer: Answer, values: Mapping[str, Scale]) -> dict[tuple[str, str], Bound]:
    out: dict[tuple[str, str], Bound] = {}
    tied = _ties(answer)
    for u, certificate in answer.certificates.items():
        weight, quantity = _place(u)
        if quantity == "excess":
            continue
        every = [c.origin for c, y in certificate.multipliers if y]
        here = (u, PATH + weight)
        own = [c.origin for c, y in certificate.multipliers if y and any(name in here for name, _ in c.size.powers)]
        rows: list[str] = []
        own, ties = (tied[u][:1], tied[u][1:]) if tied.get(u) else (own, [])
        for claim in own or every:  # the others say where its partners stand
            # A feature may be as large as a requirement makes it: then that is what binds.
            behind = answer.certificates[f"excess {claim.row}"].multipliers if claim.row in answer.excess else ()
            required = [c.origin.label for c, y in behind if y and c.origin.required]
            rows += required if claim.kind == "init" and required else [claim.label]
        names = tuple(dict.fromkeys(claim.label for claim in ties if claim.label not in rows))
        out[weight, quantity] = Bound(weight, quantity, values.get(u, ONE), tuple(dict.fromkeys(rows)), names)
    return out


def _ties(answer: Answer) -> dict[str, list[Claim]]:
    """Per goal the rows each of which alone holds it where it is, the first steps and the fewest updates first.

    Such a row is at its bound and grows with the goal's unknown, where what was fixed before stands as it does, and what else
    is in it would stand where it does without that unknown.  Not looked for where something is required, nor in deep
    networks, whose rows are many.
    """
    program = answer.found.model.program
    if answer.excess or any(c.required for c in answer.claims) or is_deep(program):
        return {}
    at, regime = _point(answer), replace(answer.found.algebra.regime, point=None)
    tight = sorted((c for c in answer.claims if regime.order(at(c.size), ONE) == 0), key=lambda c: (c.step, len(c.tag)))
    known: dict[str, Scale] = {}
    out: dict[str, list[Claim]] = {}

    def free(size: Scale) -> dict[str, Fraction]:
        return {name: power for name, power in size.powers if name not in program.dims}

    for label, certificate in answer.certificates.items():
        left = Point(known)(certificate.goal)
        goal = free(left)
        if not goal or certificate.value is None:
            continue
        name = label if label in goal else next(iter(goal))
        bound_without = {
            u for u, other in answer.certificates.items()
            if u == name or (other.multipliers and all(row.size.power(name) == 0 for row, _ in other.multipliers))
        }  # fmt: skip
        rest = [(c, free(Point(known)(c.size))) for c in tight]
        out[label] = [
            c for c, own in rest if own.get(name, 0) > 0 and own.keys() <= bound_without and min(own.values()) > 0
        ]
        fixed = (certificate.value / (left / Scale.of(name, goal[name]))) ** (1 / goal[name])
        known = {**{u: Point({name: fixed})(s) for u, s in known.items()}, name: fixed}
    return out


def _point(answer: Answer) -> Point:
    """The solution, with what it makes of the sums of updates."""
    regime = replace(answer.found.algebra.regime, point=None)
    values = everywhere(answer.found.model.program, answer.values)
    return Point({**values, **values_of_sums(answer.found.sums, values, regime)})


def _fates(answer: Answer) -> dict[str, str]:
    """Learning if the first feature a weight reaches moves by its own updates; idle if nothing depends on it.

    A feature moves if it changes by order one, or by as much as it is large: as in the table of updates.
    """
    found, near = answer.found, nearest(answer.found)
    regime, at = replace(found.algebra.regime, point=None), _point(answer)
    sizes: dict[str, list[Scale]] = {}
    for c in answer.claims:
        if c.kind == "init":
            sizes.setdefault(c.row, []).append(at(c.size))
    out: dict[str, str] = {}

    def moves(c: Claim, share: Scale = ONE) -> bool:
        return any(regime.order(at(c.size) * share, bound) in (0, 1) for bound in (ONE, *sizes.get(c.row, ())))

    updates = [c for c in answer.claims if c.kind == "update"]
    changed = by_row(answer.claims)
    for weight in found.model.program.weights:
        near_to = near.get(weight, "")
        if any(map(moves, made_by(weight, near_to, changed.get(near_to, ())))):
            out[weight] = "learning"
            continue
        mine = shares(weight, found.sums, at, regime)
        own = [(c, part) for c in updates if (part := share(weight, c.tag, c.size, mine, regime)) is not None]
        out[weight] = "learning further on" if any(moves(*one) for one in own) else "lazy" if own else "idle"
    return out
