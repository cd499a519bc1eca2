"""What a solver asks of a network, as formal sizes: every size that has to stay bounded, with the row it stands for.

A network is derived with formal inits and rates (``"init W_B"``, ``"lr W_B"``, …: :func:`formal`), at a point that says
where they stand.  The terms that lead there are monomials in the dims and the unknowns, and each is a :class:`Claim`.

Weight decay is no learning, and is left out of the updates there: decoupled or independent decay that removes no more than
the weight it acts on (a claim of its own) changes no feature by more than that weight makes of it; coupled decay below the
gradient changes no update's size.  Likewise an ε below the gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from scalecalc import backward, chain
from scalecalc.cuts import SUM, Cuts, divides, is_sum
from scalecalc.derive import Derivation, interpret
from scalecalc.model import Model
from scalecalc.program import Program
from scalecalc.scale import Point, Regime, Scale
from scalecalc.steps import raw_gradients, trained
from scalecalc.table import WeightScaling
from scalecalc.term import Limits
from scalecalc.value import Value

ONE = Scale.one()
HALF = Fraction(1, 2)
MOST_IN_PAIRS = 8  # weights; with more of them updates are summed up at every feature
QUANTITIES = ("init", "lr", "weight_decay", "epsilon")


def unknown(quantity: str, weight: str) -> str:
    """The name of an unknown: ``init W_B``, ``lr W_B``, ``weight_decay W_B``, ``epsilon W_B``."""
    return f"{quantity} {weight}"


@dataclass(frozen=True)
class Claim:
    """One leading term of one row.

    Args:
        kind: ``init`` (of a feature), ``argument`` (of a function that saturates or overflows), ``update``, ``sum`` (a size
            over that by which it is summed up, :mod:`scalecalc.cuts`) or ``optimizer`` (what weight decay and ε must not
            exceed).
        row: the feature's name, or in words what it is a size of.
        tag: the weights whose updates make it.
        size: its formal size, root-mean-square or ``entry`` (at small index).
        step: the first step at which it is complete.
        required: the requirement in words, if there is one of this row.
    """

    kind: str
    row: str
    tag: tuple[str, ...]
    size: Scale
    step: int = 0
    statistic: str = "rms"
    required: str = ""

    @property
    def label(self) -> str:
        """In words: ``y, update by W_B``."""
        return self.name + (f" (required: {self.required})" if self.required else "")

    @property
    def name(self) -> str:
        """The row without what is required of it."""
        if self.kind == "update":
            return f"{self.row}, update by {by(self.tag)}" + (f", step {self.step}" if self.step > 1 else "")
        if self.kind == "optimizer":
            return f"{self.tag[0]}, {self.row}"
        return f"{self.row}, {self.kind}" if self.kind == "init" else self.row


def by(tag: Sequence[str]) -> str:
    """A tag in words, sums as what they sum up."""
    return "+".join(f"all that moves {name.removeprefix(SUM)}" if is_sum(name) else name for name in tag)


def formal(model: Model, held: Mapping[str, WeightScaling] | None = None) -> Model:
    """The same model with unknown inits and rates; ``held``: inits and multipliers that are given.

    With many weights inits are told by paths (:mod:`scalecalc.chain`).
    """
    on = chain.before(model.program) if held is None and is_deep(model.program) else None
    scalings: dict[str, WeightScaling] = {}
    for name, weight in model.program.weights.items():
        own = (held or {}).get(name)
        scalings[name] = WeightScaling(
            own.init if own else Scale.of(unknown("init", name)) if on is None else chain.init(name, on),
            own.multiplier if own else ONE,
            Scale.of(unknown("lr", name)),
            weight.role,
            Scale.of(unknown("weight_decay", name)) if model.update.decay else None,
            Scale.of(unknown("epsilon", name)) if model.update.damped else None,
        )
    return replace(model, scalings=scalings)


def guess(model: Model) -> dict[str, Scale]:
    """Where the search starts: inits fan-in^(−1/2), rates that disturb nothing.

    The last weight of a branch that is repeated is such that all blocks together disturb nothing, whether they align or not.
    (At L^(−1/2), where what they add is as large as what they are given, all that passes through any number of blocks ties,
    and a derivation with a gain took minutes.)
    """
    out: dict[str, Scale] = {}
    for name, weight in model.program.weights.items():
        entries = weight.fan_in * weight.fan_out * weight.copies
        out[unknown("init", name)] = weight.fan_in**-HALF / (weight.copies if weight.role == "branch" else ONE)
        out[unknown("lr", name)] = entries**-2
        out[unknown("weight_decay", name)] = ONE
        out[unknown("epsilon", name)] = entries**-2
    return out


def derive_at(model: Model, point: Mapping[str, Scale], regime: Regime, steps: int) -> Derivation:
    """A formal model derived with its unknowns at a point, with what pairs of updates do together.

    With many weights updates are summed up at every feature (:mod:`scalecalc.cuts`), where that is sound.
    """
    pairs = Limits(degree=2, distinct=2, total=2)
    comparable = regime.kind != "free" or len(model.program.dims) == 1  # one size is the largest
    here = replace(regime, point=Point(everywhere(model.program, point)))
    if comparable and is_deep(model.program):
        found = interpret(model, here, pairs, steps=steps, cuts=Cuts.of(model.program, here))
        if not divides(found):
            return found
        here = replace(regime, point=Point(everywhere(model.program, point)))  # without the sums
    return interpret(model, here, pairs, steps=steps)


def is_deep(program: Program) -> bool:
    return len(program.weights) > MOST_IN_PAIRS


def everywhere(program: Program, point: Mapping[str, Scale]) -> dict[str, Scale]:
    """A point given by inits, with all else that formal sizes of inits are told by."""
    return chain.with_paths(point, chain.before(program))


def claims(found: Derivation, entries: Iterable[str] = ()) -> list[Claim]:
    """Every leading formal size.  ``entries``: the features of which the entry at small index is meant, not the rms.

    Of logits over a vocabulary that grows it always is.  The loss sees the one of the token that comes next, which a
    root-mean-square over all does not: it would let that one grow like vocabulary^(1/2).
    """
    program, regime = found.model.program, found.algebra.regime
    entries = {*entries, *_logits(program)}
    out: list[Claim] = []
    for name, i in program.features.items():
        value, entry = found.values[i], name in entries
        if value is not None:
            out += _claims(regime, "init", name, (), value, 0, entry)
    out += _arguments(found)
    for name, i in program.features.items():
        for step, passed in ((1, found.updated), (2, found.later.updated if found.later else ())):
            value = passed[i] if passed else None
            for tag in _tags(value):
                own = value.only(lambda t, tag=tag: t.tag == tag) if value else None
                if own is not None and (step == 1 or len(tag) > 1):
                    out += _claims(regime, "update", name, tag, own, step, name in entries)
    for name, tag, size in found.sums:
        out.append(Claim("sum", f"{name}, update by {by(tag)}", tag, size))
    return list(dict.fromkeys([*out, *_limits(found)]))


def _logits(program: Program) -> set[str]:
    """The features that have an axis along which tokens are drawn, and which grows."""
    over = {op.params["over"] for op in program.ops if op.rule == "token" and program.grows(op.params["over"])}
    return {name for name, i in program.features.items() if over.intersection(program.ops[i].axes)}


def _limits(found: Derivation) -> list[Claim]:
    """What weight decay and ε must not exceed, as the optimizer says (:meth:`scalecalc.optimizer.Optimizer.limits`)."""
    model, out = found.model, list[Claim]()
    raw = raw_gradients(model, found.algebra, gradients(found))
    for name, gradient in model.update.together(found.algebra, raw).items():
        weight = trained(model, found.algebra, name, found.weights[name])
        limits = model.update.limits(found.algebra, gradient, weight)
        out += [Claim("optimizer", text, (name,), size) for text, size in limits.items()]
    return out


def gradients(found: Derivation) -> dict[str, Value]:
    """The first gradient of every effective weight that has one."""
    program = found.model.program
    every = {w: found.values[program.gradients[i]] for w, i in program.leaves("weight").items() if i in program.gradients}
    return {w: value for w, value in every.items() if value is not None}


def _tags(value: Value | None) -> list[tuple[str, ...]]:
    return sorted({t.tag for t in value.terms if t.tag}, key=lambda tag: (len(tag), tag)) if value else []


def _claims(
    regime: Regime, kind: str, row: str, tag: tuple[str, ...], value: Value, step: int, entry: bool = False
) -> list[Claim]:
    statistic = "entry" if entry else "rms"
    groups: dict[Scale, list[Scale]] = {}
    for s in value.sizes(statistic=statistic):  # the smaller one of two sums is a bound, too
        own = regime.point.part(s) if regime.point is not None and any(map(is_sum, tag)) else ONE
        groups.setdefault(own, []).append(s)
    sizes = sorted((s for own in groups.values() for s in regime.leading(own)), key=lambda s: (s.powers, s.logs))
    return [Claim(kind, row, tag, s, step, statistic) for s in sizes]


def _arguments(found: Derivation) -> list[Claim]:
    """The arguments of functions that saturate or overflow where their argument is large."""
    program, out = found.model.program, list[Claim]()
    for i, op in enumerate(program.ops):
        if op.backward or found.values[i] is None or not op.inputs or not backward.rule_of(program, i).saturates(op):
            continue
        for j in op.inputs:
            value = found.values[j]
            if value is not None and value.exact is None and j not in program.features.values():
                out += _claims(found.algebra.regime, "argument", f"argument of {op.name}", (), value.untagged, 0)
    return out


def nearest(found: Derivation) -> dict[str, str]:
    """Weight → the first feature that its own update changes, the output only if there is no other."""
    program = found.model.program
    output = next((name for name, i in program.features.items() if i == program.loss), "")
    out: dict[str, str] = {}
    for name, i in sorted(program.features.items(), key=lambda item: (item[0] == output, item[1])):
        value = found.updated[i]
        for tag in _tags(value):
            if len(tag) == 1:
                out.setdefault(tag[0], name)
    return out


def made_by(weight: str, feature: str, every: Sequence[Claim]) -> list[Claim]:
    """What the weight's own updates change in a feature: the first one, and what later ones gained as others moved.

    A contribution W+V in a feature that V does not reach is W's update by a gradient that V has changed; where V reaches
    the feature it is the joint effect of both, and neither's own.
    """
    reached = {c.tag[0] for c in every if c.kind == "update" and c.row == feature and len(c.tag) == 1}
    own: list[Claim] = []
    for c in every:
        if c.kind == "update" and c.row == feature and weight in c.tag:
            others = [v for v in c.tag if v != weight]
            if c.tag == (weight,) or (others and not reached & set(others)):
                own.append(c)
    return own


def by_row(every: Iterable[Claim]) -> dict[str, list[Claim]]:
    """Feature → the claims of its updates, of which :func:`made_by` needs no others."""
    out: dict[str, list[Claim]] = {}
    for c in every:
        if c.kind == "update":
            out.setdefault(c.row, []).append(c)
    return out


def output_of(program: Program) -> str:
    """The name of the feature that is the network's output; empty if the output is no feature."""
    return next((name for name, i in program.features.items() if i == program.loss), "")


def unknowns_in(sizes: Iterable[Scale], dims: Sequence[str]) -> list[str]:
    """The names in formal sizes that are no dims, in order of appearance."""
    return list(dict.fromkeys(name for size in sizes for name, _ in size.powers if name not in dims))
