"""The gauge of one weight: init against multiplier and rate; and which of the equivalent solutions is wanted.

The network uses m·w.  A larger multiplier m → mθ with a smaller init σ → σ/θ is the same network, and the
same training if the rate goes along: by what power of θ follows from the optimizer's law, which is asked for its update with
formal sizes.  SGD's is linear in the gradient, m·g, and acts through another m: η → η/θ².  Adam's does not answer to the
gradient's size: η/θ.  Adafactor's step is proportional to the weight: η stays.  Weight decay and ε, if the law has any, go
along by the same reasoning: nothing here knows an optimizer by name.

(The gauge of several weights is in :mod:`scalecalc.symmetry`; whether two parameterizations differ by gauge alone, in
:mod:`scalecalc.equivalence`.)

Sources: Yang & Hu 2021, arXiv 2011.14522 (abc-parameterizations and their symmetry); Yang et al. 2022, arXiv 2203.03466,
lemma J.1 (the same for Adam, with ε).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from scalecalc.claims import Claim, unknown
from scalecalc.desiderata import is_requirement, parse_requirements, parse_scale
from scalecalc.errors import InputError, UnknownName
from scalecalc.interpreter import initial_weights, run, weight_atom
from scalecalc.model import Model, exact_in
from scalecalc.optimizer import Trained
from scalecalc.parameterization import assign
from scalecalc.program import Program
from scalecalc.rule import find
from scalecalc.scale import Point, Regime, Scale
from scalecalc.symmetry import Shift, fixed_by, null_space
from scalecalc.table import WeightScaling
from scalecalc.term import Limits, Term, pattern
from scalecalc.value import Algebra, Value

ONE = Scale.one()
QUANTITIES = ("multiplier", "init", "lr", "weight_decay", "epsilon")
WORDS = {"multiplier": "multiplier", "init": "init", "rate": "lr"}
FORMS = (
    "write 'multiplier = 1', 'init = 1' or 'rate = 1' for every weight, 'multiplier of W_out = N^(-1)' for one (or for all "
    "that match a pattern), 'like mup_table8' for the multipliers of a registered parameterization, and 'h = 1' for the size "
    "of a feature; several divided by commas, of which the last that names a weight holds"
)
_WEIGHT = re.compile(r"(multiplier|init|rate)(?:\s+of\s+(\S+))?\s*=\s*(.+)")
FAR = 4  # a power of the widths that is clear of any size

# ---------------------------------------------------------------------- values


def values_of(scalings: Mapping[str, WeightScaling], program: Program) -> dict[str, Scale]:
    """Every quantity that a parameterization gives, by the name that it has as an unknown: ``lr W_B``."""
    exact = {unknown("init", w) for w in exact_in(program)}
    given = ((unknown(q, w), getattr(s, q)) for w, s in scalings.items() for q in QUANTITIES)
    return {name: scale for name, scale in given if scale is not None and name not in exact}


# ---------------------------------------------------------------------- the gauge of one weight


def own_shifts(model: Model, gradients: Mapping[str, Value], regime: Regime) -> dict[str, Shift]:
    """Per weight the shift of its multiplier by θ and of all else that has to go along, as the optimizer's law has it.

    Args:
        gradients: values of known size (at a solution); which sizes these are makes no difference to the result, but the law
            of an optimizer may answer to their patterns.

    A weight is left out if no shift leaves its training alone: under Adam with an ε of order one it matters how large a
    gradient is, and where gradients are clipped by their global norm it matters to all others.
    """
    algebra, width = Algebra(regime, rule=model.optimizer), Scale(dict.fromkeys(model.program.dims, Fraction(FAR)))
    for grown in (ONE, width):
        alone = {w: algebra.scale(g, grown, "of another size") for w, g in gradients.items()}
        if any(own.terms != alone[w].terms for w, own in model.update.together(algebra, alone).items()):
            return {}  # clipped by a norm of all gradients, no weight can be shifted by itself
    found = {w: _own_shift(model, w, gradients.get(w), regime) for w in model.program.weights}
    return {w: shift for w, shift in found.items() if shift is not None}


def _own_shift(model: Model, weight: str, gradient: Value | None, regime: Regime) -> Shift | None:
    names = {q: unknown(q, weight) for q in QUANTITIES}
    multiplier, init, rate, decay, epsilon = (Scale.of(names[q]) for q in QUANTITIES)
    asked = WeightScaling(init, multiplier, rate, "", decay, epsilon)
    sizes = [] if weight in exact_in(model.program) else [init * multiplier]
    algebra = Algebra(
        replace(regime, point=Point(dict.fromkeys(names.values(), ONE))), Limits(), rule=model.optimizer, at=f"d{weight}"
    )
    for one in _of_several_sizes(gradient, model.program.dims):
        value = Value(one.labels, (Term(init, pattern((), [weight_atom(model.program, weight)] if one.labels else [])),))
        own = Trained(model.program.weights[weight], value, asked)
        raw = algebra.scale(one, multiplier, "chain rule through the multiplier")
        sizes += [t.size for t in model.update.update(algebra, raw, own).terms]
        sizes += model.update.limits(algebra, raw, own).values()  # decay and ε have to stay where they are, too
    known = [q for q in QUANTITIES if any(name == names[q] for size in sizes for name, _ in size.powers)]
    rows = [{u: e for u, e in size.powers if u in names.values()} for size in sizes]
    basis = [v for v in null_space(rows, [names[q] for q in known]) if v.get(names["multiplier"])]
    if len(basis) != 1:
        return None
    power = basis[0][names["multiplier"]]
    return Shift(tuple((names[q], basis[0][names[q]] / power) for q in known if basis[0].get(names[q])))


def _of_several_sizes(gradient: Value | None, dims: Sequence[str]) -> Iterable[Value]:
    """A gradient far below, at and far above its size: a law that answers to it shows, one that does not repeats."""
    if gradient is None or not gradient.terms:
        return
    width = Scale(dict.fromkeys(dims, Fraction(1)))
    for grown in (width**-FAR, ONE, width**FAR):
        yield Value(gradient.labels, tuple(Term(t.size * grown, t.pattern, t.tag, t.why) for t in gradient.terms))


def known_gradients(model: Model, regime: Regime) -> dict[str, Value]:
    """The values of the gradients of a model with known scalings, at initialisation."""
    algebra, program = Algebra(regime), model.program
    places = {w: program.gradients[i] for w, i in program.leaves("weight").items() if i in program.gradients}
    values = run(program, algebra, initial_weights(model, algebra), list(places.values()))
    return {w: value for w, i in places.items() if (value := values[i]) is not None}


def at_point(gradients: Mapping[str, Value], point: Mapping[str, Scale]) -> dict[str, Value]:
    """Formal values, with the unknowns where they stand."""
    at = Point(point)
    return {
        w: replace(v, terms=tuple(Term(at(t.size), t.pattern, t.tag, t.why) for t in v.terms)) for w, v in gradients.items()
    }


# ---------------------------------------------------------------------- which gauge is wanted


@dataclass(frozen=True)
class Choice:
    """One part of what ``--gauge`` asks for.

    Args:
        quantity: ``multiplier``, ``init`` or ``lr``, of the weights that match ``pattern``; or ``feature``.
        scale: what it is to be, or what each weight is to have.
        text: as it was typed.
    """

    quantity: str
    pattern: str
    scale: Scale | Mapping[str, Scale]
    text: str


def parse_gauge(text: str, model: Model) -> tuple[Choice, ...]:
    """``"h = 1, init = 1"``, ``"like mup_table8"``, ``"multiplier of W_out = N^(-1)"``.

    Raises:
        InputError: none of these forms; a weight, a feature or a parameterization that there is not.
    """
    out: list[Choice] = []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            raise InputError(f"--gauge {text[:80]!r} is not understood; {FORMS}.")
        program, match = model.program, _WEIGHT.fullmatch(part) if len(part) < 200 else None
        word, _, name = part.partition(" ")
        if word == "like" and name:
            scalings = assign(find("parameterization", name.strip()).make, program.weights, model.update)
            out.append(Choice("multiplier", "*", {w: s.multiplier for w, s in scalings.items()}, part))
        elif match is not None:
            pattern = match[2] or "*"
            if not fnmatch.filter(program.weights, pattern):
                raise UnknownName(f"weight of {program.name}", pattern, program.weights)
            out.append(Choice(WORDS[match[1]], pattern, parse_scale(match[3], program.dims), part))
        else:
            out.append(_feature(part, program))
    return tuple(out)


def _feature(part: str, program: Program) -> Choice:
    if not is_requirement(part):
        raise InputError(f"--gauge {part[:80]!r} is not understood; {FORMS}.")
    (wanted,) = parse_requirements([part], program)
    if wanted.kind != "init":
        raise InputError(f"--gauge {part!r}: a gauge is chosen by initial sizes, not by updates; {FORMS}.")
    return Choice("feature", wanted.feature, wanted.scale, part)


def chosen(
    values: Mapping[str, Scale],
    choices: Sequence[Choice],
    own: Mapping[str, Shift],
    group: Sequence[Shift] = (),
    known: Sequence[Claim] = (),
) -> dict[str, Scale]:
    """The same parameterization in the gauge that is wanted: first the shifts over several weights, then those of each.

    Raises:
        InputError: no shift does that.
    """
    features = [c for c in choices if c.quantity == "feature"]
    wanted = [(next(k for k in known if k.kind == "init" and k.row == c.pattern), c.scale) for c in features]
    out = fixed_by(group, known, values, wanted) if wanted else dict(values)  # pyright: ignore[reportArgumentType]
    for c in (c for c in choices if c.quantity != "feature"):
        matching = fnmatch.filter(own, c.pattern)
        movable = [w for w in matching if unknown(c.quantity, w) in dict(own[w].powers)]
        if not movable:
            why = (
                "no shift of its multiplier, init and rate leaves training by this optimizer alone" if not matching
                else "it is the same in every gauge"
            )  # fmt: skip
            raise InputError(f"--gauge {c.text!r}: {'of any weight' if c.pattern == '*' else c.pattern}, {why}.")
        for weight in movable:
            out.update(_fixed(out, own[weight], weight, c))
    return out


def _fixed(values: Mapping[str, Scale], shift: Shift, weight: str, c: Choice) -> dict[str, Scale]:
    """What changes of one weight, in the gauge in which one of its quantities has a given scale."""
    name = unknown(c.quantity, weight)
    scale = c.scale[weight] if isinstance(c.scale, Mapping) else c.scale
    theta = (scale / values.get(name, ONE)) ** (1 / dict(shift.powers)[name])
    given = {u: ONE for u, _ in shift.powers if u.split()[0] in QUANTITIES[:3]}
    return shift.moved({**given, **{u: values[u] for u, _ in shift.powers if u in values}}, theta)


def plain(values: Mapping[str, Scale], own: Mapping[str, Shift]) -> dict[str, Scale]:
    """Every weight that has a gauge in the one in which its multiplier is one."""
    if not own:
        return dict(values)
    return chosen(values, [Choice("multiplier", "*", ONE, "multiplier = 1")], own)
