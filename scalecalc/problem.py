"""One network with unknown scalings, and what is wanted of it: goals and bounds as a linear program, solved to a fixed point.

What is wanted and in which order is said in :mod:`scalecalc.solve`; here it is put into formal sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product

from scalecalc.chain import INIT, PATH
from scalecalc.claims import (
    QUANTITIES,
    Claim,
    by_row,
    claims,
    derive_at,
    guess,
    made_by,
    nearest,
    output_of,
    unknown,
    unknowns_in,
)
from scalecalc.cuts import is_sum
from scalecalc.derive import Derivation
from scalecalc.desiderata import Requirement
from scalecalc.errors import Contradiction, InputError
from scalecalc.linear import Certificate, Constraint, Infeasible, System
from scalecalc.model import Model
from scalecalc.scale import Regime, Scale

ONE = Scale.one()
MOST_ROUNDS = 12
FREE = "no size grows with it: it stays where the search begins"
KEPT = "only the product with other inits is bounded: it keeps the size of what it multiplies"
MOST_RAISED = 4  # times that an init is raised in search of a bound


@dataclass(frozen=True)
class Answer:
    """Where a solve ended: the unknowns' values, a certificate per goal, and the derivation at that point."""

    values: Mapping[str, Scale]
    certificates: Mapping[str, Certificate]
    excess: Mapping[str, Scale]
    found: Derivation
    claims: Sequence[Claim] = ()
    notes: tuple[str, ...] = ()
    settled: bool = True
    free: tuple[str, ...] = ()  # inits that no size grows with


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
    _answers: dict[object, Answer] = field(default_factory=dict[object, Answer], init=False, repr=False, compare=False)

    def solve(self, start: Mapping[str, Scale] | None = None) -> Answer:
        """Derive, solve, and again at the answer, until it repeats.

        An init that nothing bounds is too small to be seen: what it makes is hidden by what it is added to.  It is raised
        until it is seen, and then is as large as that.  (It was taken for one that nothing depends on, and given as 1, with
        rates that were solved for where it was small: N^(1/2) too large for W_in of linear attention.)  One that no size
        bounds however large it is (before a norm, say) stays where the search began, and is held there: its rate is as large
        against it as the update against the feature.  (It was left open, and the rate with it: 1 for a matrix before a norm
        under Adam, not 1/N.)

        Raises:
            Contradiction: what is wanted cannot be had.
        """
        usual = guess(self.model)
        point = {**usual, **(start or {})}
        seen: list[Mapping[str, Scale]] = []
        raised, free = 0, ()
        while True:
            answer = self._answer(derive_at(self.model, point, self.regime, self.steps), free)
            unseen = _unbounded(answer)
            if unseen and raised < MOST_RAISED:
                raised += 1
                point = {**point, **answer.values, **{u: point[u] / usual[u] for u in unseen}}
                continue
            if any(u not in free for u in unseen):
                free = (*free, *unseen)
                point = {**point, **answer.values, **{u: usual[u] for u in unseen}}
                continue
            answer = replace(answer, values={**answer.values, **{u: point[u] for u in unseen}})
            if all(point[u] is v for u, v in answer.values.items()):
                return answer
            if answer.values in seen or len(seen) == MOST_ROUNDS:
                return replace(answer, settled=False)
            seen.append(answer.values)
            point = {**point, **answer.values}

    def at(self, answer: Answer) -> Answer:
        """The same sizes that were derived for an answer, solved again (in another regime)."""
        return self._answer(answer.found, answer.free)

    def _answer(self, found: Derivation, free: tuple[str, ...]) -> Answer:
        if self.regime.kind != "free":
            return self._along(found, self.regime, free)
        # Bounded however the dims grow is bounded in each dim by itself.
        out: list[Answer] = []
        for dim in self.model.program.dims:
            rates = tuple((d, Fraction(int(d == dim))) for d in self.model.program.dims)
            out.append(self._along(found, Regime("path", rates=rates, text=f"{dim} alone"), free, only=dim))
        values: dict[str, Scale] = {}
        excess: dict[str, Scale] = {}
        for one in out:
            values = {u: values.get(u, ONE) * v for u, v in one.values.items()}
            excess = {u: excess.get(u, ONE) * one.excess.get(u, ONE) for u in {*excess, *one.excess}}
        return replace(out[0], values=values, excess=excess, settled=all(one.settled for one in out))

    def _along(self, found: Derivation, regime: Regime, free: tuple[str, ...], only: str = "") -> Answer:
        every = claims(found, {r.feature for r in self.wanted if r.statistic == "entry"})
        if only:
            every = [replace(c, size=_in_dim(c.size, only, self.model.program.dims)) for c in every]
        error: Contradiction | None = None
        for equalities in self._choices(found, every, only):
            try:
                answer = self._with(equalities, found, every, regime, free)
            except Infeasible as contradicted:
                error = error or self._contradiction(contradicted)
                continue
            if error is not None:  # the nearest weight cannot, another one can
                made = "; ".join(c.origin.label for c in equalities if c.origin.tag)
                names = "; ".join(f"{label} {wanted}" for label, _, wanted in error.rows)
                note = f"met by {made}. By a weight nearer to the feature it cannot be: these contradict each other: {names}."
                answer = replace(answer, notes=(note,))
            return answer
        assert error is not None
        raise error

    def _with(
        self,
        equalities: Sequence[Constraint],
        found: Derivation,
        every: Sequence[Claim],
        regime: Regime,
        free: tuple[str, ...],
        kept: Sequence[str] = (),
    ) -> Answer:
        """``kept``: inits that stay where the search begins, of those of which only the product is bounded."""
        inits, goals = self._ordered(found, every)
        asked = tuple(equalities), tuple(every), tuple(goals), regime, free, tuple(kept)
        if asked not in self._answers:  # the last derivation mostly asks for what the one before it asked for
            self._answers[asked] = self._solved(equalities, found, every, regime, free, kept, inits, goals)
        return replace(self._answers[asked], found=found)

    def _ordered(self, found: Derivation, every: Sequence[Claim]) -> tuple[dict[str, Scale], list[tuple[str, Scale]]]:
        """The formal inits, as features need them, and the goals."""
        first = _first(every)
        inits = self._inits(unknowns_in((c.size for c in every), self.model.program.dims))
        inits = dict(sorted(inits.items(), key=lambda one: first.get(one[0], len(every))))
        return inits, self._goals(found, every, inits)

    def _solved(
        self,
        equalities: Sequence[Constraint],
        found: Derivation,
        every: Sequence[Claim],
        regime: Regime,
        free: tuple[str, ...],
        kept: Sequence[str],
        inits: Mapping[str, Scale],
        goals: Sequence[tuple[str, Scale]],
    ) -> Answer:
        program, dims = self.model.program, self.model.program.dims
        names = unknowns_in((c.size for c in every), dims)
        other = [f for f in program.features if self.wanted and not any(r.feature == f for r in self.wanted)]
        excess = {f: f"excess {f}" for f in other}
        every = [replace(c, required=r.text) if (r := self._asked(c)) is not None else c for c in every]
        rows = [Constraint(c.size / self._bound(c) / (Scale.of(excess[c.row]) if c.row in excess else ONE), c) for c in every]
        rows += [Constraint(Scale.of(u, -1), Claim("excess", f, (), ONE)) for f, u in excess.items()]
        first, usual = _first(every), guess(self.model)
        rows += [Constraint(inits[u] / usual[u], Claim("argument", KEPT, (), ONE)) for u in kept]
        rows += [Constraint(inits[u] / usual[u], Claim("argument", FREE, (), ONE)) for u in free if u in inits]
        system = System([*names, *excess.values()], [*rows, *equalities], regime)
        certificates: dict[str, Certificate] = {}
        for u in excess.values():  # a feature is no larger than what is required makes it
            certificates[u] = system.maximize(Scale.of(u, -1))
        for label, goal in goals:
            for u in filter(is_sum, unknowns_in([goal], dims)):  # what others have done by now, and no larger
                system.maximize(Scale.of(u, -1))
            certificates[label] = system.maximize(goal)
            if label in inits and label in first and certificates[label].value is None and label not in kept:
                return self._with(equalities, found, every, regime, free, (*kept, label))
        wanted = [u for u in names if u.split()[0] in QUANTITIES]
        if any(unknowns_in([system.value(Scale.of(u))], dims) for u in wanted):
            for u in filter(is_sum, names):
                system.maximize(Scale.of(u, -1))
        solved = system.solution()
        assert not system.violated()
        over = {f: solved[u] for f, u in excess.items() if u in solved and solved[u] is not ONE}
        values = {u: solved[u] for u in wanted if u in solved}
        for u, init in inits.items():
            if u not in values and not unknowns_in([size := system.value(init)], dims):
                values[u] = size
        left = [u for u in wanted if u not in values and u in certificates and certificates[u].value is not None]
        return Answer(values, certificates, over, found, every, settled=not left, free=free)

    # ------------------------------------------------------------------ goals

    def _goals(self, found: Derivation, every: Sequence[Claim], inits: Mapping[str, Scale]) -> list[tuple[str, Scale]]:
        """Formal scales to be made large, in order, with the unknown or the weight that each is for."""
        program, near, output = self.model.program, nearest(found), output_of(self.model.program)
        names = unknowns_in((c.size for c in every), program.dims)
        order = [op.name for op in program.ops if op.rule == "weight"]
        last = [w for w in order if near.get(w, output) == output] if self.learns else []
        goals = [(u, init) for u, init in inits.items() if u.split(maxsplit=1)[1] not in last]
        depth = {w: program.features[near[w]] for w in order if w in near}
        place, changed = {w: k for k, w in enumerate(order)}, by_row(every)
        for w in sorted(depth, key=lambda w: (w not in last, -depth[w], place[w])):
            own = made_by(w, near[w], changed.get(near[w], ()))
            if own:
                goals.append((unknown("lr", w), _largest(own, found.algebra.regime).size))
        goals += [(u, init) for u, init in inits.items() if u.split(maxsplit=1)[1] in last]
        done = {u for _, g in goals for u, _ in g.powers}
        rest = [u for u in names if u not in done and u.split()[0] in QUANTITIES]
        return goals + [(u, Scale.of(u)) for u in sorted(rest, key=lambda u: QUANTITIES.index(u.split()[0]))]

    def _inits(self, names: Sequence[str]) -> dict[str, Scale]:
        """The formal inits that are bounded by something, in order."""
        program, known = self.model.program, {*names, *self.model.program.dims}
        order = [op.name for op in program.ops if op.rule == "weight"]
        formal = {unknown("init", w): self.model.scalings[w].init for w in order}
        found = {u: s for u, s in formal.items() if unknowns_in([s], program.dims)}
        return {u: s for u, s in found.items() if known.issuperset(d for d, _ in s.powers)}

    # ------------------------------------------------------------------ requirements

    def _bound(self, c: Claim) -> Scale:
        """What a row may come to: what is required of it, else order one, or the feature's own required size."""
        own = self._asked(c)
        if own is not None:
            return own.scale
        if c.kind == "update":
            initial = [r.scale for r in self.wanted if r.feature == c.row and r.kind == "init"]
            if initial and self._order(initial[0]) == 1:
                return initial[0]
        return ONE

    def _contradiction(self, error: Infeasible) -> Contradiction:
        rows = [(c, y) for c, y in error.multipliers if c.origin.kind != "excess"]
        listed = [(c.origin.name, y, self._wanted(c)) for c, y in rows]
        return Contradiction(self.model.name, listed, _product(error), _clash(rows, _product(error)))

    def _wanted(self, c: Constraint) -> str:
        """What a row has to be, in words."""
        claim: Claim = c.origin
        if c.equal:
            return f"= {claim.size / c.size}, required"
        asked = self._asked(claim)
        return f"= {asked.scale}, required" if asked is not None else f"at most {self._bound(claim)}"

    def _asked(self, c: Claim) -> Requirement | None:
        """The requirement of a row, if there is one."""
        if not self.wanted:
            return None
        own = (r for r in self.wanted if r.feature == c.row and r.kind == c.kind and r.by in ("", *c.tag[:1]))
        return next(own, None)

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
                mine = made_by(tag[0], r.feature, every) if tag else own
                if mine:
                    lead = _largest(mine, found.algebra.regime)
                    options.append([Constraint(lead.size / scale, replace(lead, required=r.text), equal=True)])
            if not options:
                by = " and ".join(tag[0] for tag in _tags_of(found, own)) or "no weight"
                who = f"{r.by} does not change {r.feature}" if r.by else f"{r.feature} has no update"
                raise InputError(f"--require {r.text!r}: {who}; it is changed by {by}.")
            lists.append(options)
        return [[c for option in chosen for c in option] for chosen in product(*lists)] or [[]]


def _first(every: Sequence[Claim]) -> dict[str, int]:
    """Init → where among the claims is the first initial size that depends on it."""
    out: dict[str, int] = {}
    for k, claim in enumerate(every):
        for name, e in claim.size.powers if claim.kind in ("init", "argument") else ():
            if e > 0 and name.startswith((INIT, PATH)):
                out.setdefault(INIT + name.removeprefix(PATH).removeprefix(INIT), k)
    return out


def _unbounded(answer: Answer) -> list[str]:
    """The inits that sizes depend on and that nothing bounds."""
    return [u for u, c in answer.certificates.items() if u.startswith(INIT) and u not in answer.values and c.value is None]


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


def _clash(rows: Sequence[tuple[Constraint, Fraction]], product: Scale) -> str:
    """One rate, or init, about which two of the rows disagree while the others hold: by how much."""
    for u in sorted(unknowns_in((c.size for c, _ in rows), ()), key=lambda u: not u.startswith("lr ")):
        pulls = [(c, y * c.size.power(u)) for c, y in rows if c.size.power(u)]
        if u.split()[0] in QUANTITIES and len(pulls) == 2:
            (low, power), (high, _) = sorted(pulls, key=lambda pull: -pull[1])
            quantity, weight = u.split(maxsplit=1)
            names = [c.origin.name for c in (high, low)]
            word = {"lr": "rate"}.get(quantity, quantity)
            ratio = product ** (1 / power)
            return f"The {word} of {weight} that “{names[0]}” asks for is {ratio} times what “{names[1]}” allows."
    return ""


def _product(error: Infeasible) -> Scale:
    out = ONE
    for c, y in error.multipliers:
        out = out * c.size**y
    return out
