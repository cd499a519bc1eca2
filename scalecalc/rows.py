"""The rows of the Θ table, read off a derivation: weights, sizes at initialisation, gradients, updates, alignments.

Which rows there are is decided here; what is in them was found by :mod:`scalecalc.derive`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scalecalc.optimizer import DECAY
from scalecalc.program import Program
from scalecalc.scale import Regime, Scale, commuting
from scalecalc.steps import MOST_ORDER
from scalecalc.table import Grounds, Row
from scalecalc.term import Step, Term, dim_of
from scalecalc.value import Value

if TYPE_CHECKING:
    from scalecalc.derive import Derivation

ONE = Scale.one()
ALIGNED = ("matmul", "contraction")


def _row(found: Derivation, name: str, kind: str, step: int, value: Value, klass: str = "", **more: Any) -> Row:
    regime = found.algebra.regime
    terms = regime.leading(value.sizes())
    entry = regime.leading(value.sizes(statistic="entry"))
    lead = next((t for t in value.terms if t.rms(value.labels) in terms), None)
    why = f"{lead.why.rule}: {lead.why.law}" if lead is not None and lead.why is not None else "exactly zero"
    profiles = "; ".join(f"{dim_of(label)}: {p.words()}" for label, p in lead.pattern.profiles) if lead else ""
    return Row(
        name,
        kind,
        step,
        terms,
        klass=klass or (_size_class(regime, terms) if kind == "init" else ""),
        entry=entry,
        profile=profiles,
        subleading=subleading(regime, terms, value.sizes()),
        why=why,
        assumptions=assumptions(lead),
        commutes=_commutes(found, value.sizes()),
        derivation=_grounds(regime, value),
        **more,
    )


def _commutes(found: Derivation, sizes: Sequence[Scale]) -> bool | None:
    """In the free regime alone does the value still hold every term that an order of the limits might leave."""
    dims = found.model.program.dims
    return commuting(sizes, dims) if found.algebra.regime.kind == "free" and len(dims) > 1 else None


def _grounds(regime: Regime, value: Value) -> Grounds:
    """A leading term of each leading size, with the derivation that it carries."""
    first: dict[Scale, Term] = {}
    for t in value.terms:
        first.setdefault(t.rms(value.labels), t)
    return Grounds(tuple(first[size] for size in regime.leading(first)), value.labels)


def subleading(regime: Regime, terms: Sequence[Scale], sizes: Sequence[Scale]) -> tuple[Scale, ...]:
    """The two next levels below the leading terms: corrections to scaling, with exponents that are derived, too."""
    out: list[Scale] = []
    level = tuple(terms)
    for _ in range(2):
        rest = [s for s in sizes if s not in out and s not in terms and any(regime.order(s, t) == -1 for t in level)]
        level = regime.leading(rest)
        out += level
    return tuple(out)


def assumptions(term: Term | None) -> tuple[str, ...]:
    """Every assumption that a term's derivation made."""
    return tuple(dict.fromkeys(step.assumption for step in _steps(term) if step.assumption))


def decayed(term: Term) -> bool:
    """Is a contribution of an update made by its weight decay, where that is apart from the gradient?"""
    return any(DECAY in step.law for step in _steps(term))


def _steps(term: Term | None) -> Iterator[Step]:
    """Every step of a term's derivation."""
    seen: set[int] = set()
    stack = [term] if term is not None else []
    while stack:
        t = stack.pop()
        if id(t) in seen or t.why is None:
            continue
        seen.add(id(t))
        yield t.why
        stack += t.why.parents


def _size_class(regime: Regime, terms: Sequence[Scale]) -> str:
    orders = [regime.order(t, ONE) for t in terms]
    if any(order in (1, None) for order in orders):
        return "exploding"
    return "stable" if 0 in orders else "vanishing"


def _update_class(regime: Regime, terms: Sequence[Scale], init: Sequence[Scale]) -> str:
    """Exploding above both 1 and the initial size, lazy below both, learning between."""
    bounds = [ONE, *regime.leading(init)]
    if any(all(regime.order(t, b) not in (-1, 0) for b in bounds) for t in terms):
        return "exploding"
    return "learning" if any(any(regime.order(b, t) in (-1, 0) for b in bounds) for t in terms) else "lazy"


def all_rows(found: Derivation) -> tuple[Row, ...]:
    """Every row of a derivation's table."""
    first = (*weights(found), *init(found), *gradients(found), *updates(found), *alignments(found))
    return (*first, *later_gradients(found), *later_updates(found), *later_alignments(found))


def weights(found: Derivation) -> list[Row]:
    return [
        _row(found, name, "weight", 0, value)
        for name, value in found.weights.items()
    ]


def init(found: Derivation) -> list[Row]:
    return [
        _row(found, name, "init", 0, value)
        for name, i in found.model.program.features.items()
        if (value := found.values[i]) is not None
    ]


def gradients(found: Derivation) -> list[Row]:
    program = found.model.program
    named = {**program.features, **{op.name: i for i, op in enumerate(program.ops) if op.rule == "weight"}}
    return [
        _row(found, name, "gradient", 1, value)
        for name, i in named.items()
        if i in program.gradients and (value := found.values[program.gradients[i]]) is not None
    ]


def updates(found: Derivation) -> list[Row]:
    program, regime = found.model.program, found.algebra.regime
    out: list[Row] = []
    for weight in found.updates:
        reach = program.reaches(weight)
        for name, i in program.features.items():
            value, init = found.updated[i], found.values[i]
            if i not in reach or value is None or init is None:
                continue
            first = value.only(lambda t, w=weight: t.tag == (w,))
            sizes = regime.leading(first.sizes())
            klass = _update_class(regime, sizes, init.sizes())
            if klass == "learning" and found.model.update.apart:  # what decay changes is no learning
                learned = first.only(lambda t: not decayed(t)).sizes()
                klass = _update_class(regime, regime.leading(learned), init.sizes())
            out.append(_row(found, name, "update", 1, first, klass, tag=(weight,)))
            second = value.only(lambda t, w=weight: t.tag == (w, w))
            if outgrows(regime, second.sizes(), sizes):
                klass = _update_class(regime, regime.leading(second.sizes()), init.sizes())
                out.append(_row(found, name, "update", 1, second, klass, tag=(weight, weight)))
    return out


def alignments(found: Derivation) -> list[Row]:
    program, algebra = found.model.program, found.algebra
    out: list[Row] = []
    for i, name, over in sums(program, found.values):
        op, value = program.ops[i], found.values[i]
        a, b = (found.values[j] for j in op.inputs)
        assert a is not None and b is not None and value is not None
        sizes = algebra.regime.leading(value.sizes())
        bounds = [x * y for x in algebra.norm(a, over) for y in algebra.norm(b, over)]
        if len(bounds) != 1:
            continue
        terms = algebra.regime.leading(s / bounds[0] for s in sizes)
        row = _row(found, name, "alignment", 1 if op.backward else 0, value, "aligned" if ONE in terms else "incoherent")
        sides = tuple((program.ops[j].name, _grounds(algebra.regime, v)) for j, v in zip(op.inputs, (a, b), strict=True))
        grounds = replace(_grounds(algebra.regime, value), over=over, sides=sides)
        out.append(replace(_cosine(row, terms, bounds[0]), derivation=grounds))
    return out


def _cosine(row: Row, terms: tuple[Scale, ...], bound: Scale) -> Row:
    """The row of a sum as one of its cosine: sizes over the product of norms."""
    below = tuple(s / bound for s in row.subleading)
    return replace(row, terms=terms, statistic="cosine", entry=(), profile="", subleading=below)


def sums(program: Program, live: Sequence[object]) -> list[tuple[int, str, tuple[str, ...]]]:
    """The live sums over growing axes: position, a name of its own, the growing axes summed over."""
    out: list[tuple[int, str, tuple[str, ...]]] = []
    used: dict[str, int] = {}
    for i, op in enumerate(program.ops):
        over = program.growing(op.params.get("over", ())) if op.rule in ALIGNED else ()
        if not over or not live[i]:
            continue
        a, b = (program.ops[j].name for j in op.inputs)
        name = f"⟨{a}, {b}⟩"
        used[name] = used.get(name, 0) + 1
        out.append((i, name if used[name] == 1 else f"{name} {used[name]}", over))
    return out


# ------------------------------------------------------------------ steps after the first


def outgrows(regime: Regime, sizes: Iterable[Scale], bounds: Iterable[Scale]) -> bool:
    """Is some size not bounded by any of the bounds?  (An incomparable one is not: somewhere it is larger.)"""
    bounds = regime.leading(bounds)
    return any(all(regime.order(s, b) not in (-1, 0) for b in bounds) for s in regime.leading(sizes))


def _orders(value: Value) -> dict[tuple[str, ...], Value]:
    """A value's terms by tag, the shorter tags first."""
    tags = sorted({t.tag for t in value.terms}, key=lambda tag: (len(tag), tag))
    return {tag: value.only(lambda t, tag=tag: t.tag == tag) for tag in tags}


def _news(found: Derivation, feature: int) -> dict[tuple[str, ...], Value]:
    """The higher orders of a feature that outgrow all the lower ones they contain: what the first step does not show.

    An order that contains an exploding one is left out, since that one is what has to be mended.  The second order of the
    first step is known already, and bounds that of later steps.
    """
    regime, later, init, first = found.algebra.regime, found.later, found.values[feature], found.updated[feature]
    value = later and later.updated[feature]
    if not value or init is None or first is None:
        return {}
    orders = {tag: one.sizes() for tag, one in _orders(value).items()}
    explode = [t for t in orders if t and _update_class(regime, regime.leading(orders[t]), init.sizes()) == "exploding"]
    out: dict[tuple[str, ...], Value] = {}
    for tag, sizes in orders.items():
        parts = [other for other in orders if len(other) < len(tag) and _within(other, tag)]
        lower = [s for part in parts for s in orders[part]]
        if len(tag) == 2 and len(set(tag)) == 1:
            lower += first.only(lambda t, tag=tag: t.tag == tag).sizes()
        if len(tag) > 1 and not any(part in explode for part in parts) and outgrows(regime, sizes, lower):
            out[tag] = value.only(lambda t, tag=tag: t.tag == tag)
    return out


def _within(part: tuple[str, ...], tag: tuple[str, ...]) -> bool:
    return not Counter(part) - Counter(tag)


def later_updates(found: Derivation) -> list[Row]:
    """What a feature gains from several updates together, where that outgrows what each of them gives.

    The step of a row is the first at which it is complete: its order.
    """
    program, regime, later = found.model.program, found.algebra.regime, found.later
    out: list[Row] = []
    for name, i in program.features.items():
        init = found.values[i]
        for tag, value in _news(found, i).items():
            assert later is not None and init is not None
            klass = _update_class(regime, regime.leading(value.sizes()), init.sizes())
            if klass != "exploding" and not (later.repeated and len(tag) < MOST_ORDER):
                klass = "unsettled"
            out.append(_row(found, name, "update", len(tag), value, klass, tag=tag))
    return sorted(out, key=lambda row: (len(row.tag), row.tag))


def later_gradients(found: Derivation) -> list[Row]:
    """What a weight's gradient gains once a weight has moved, where that outgrows the gradient of the initial network."""
    program, regime, later = found.model.program, found.algebra.regime, found.later
    out: list[Row] = []
    for name, i in program.leaves("weight").items():
        value = later and i in program.gradients and later.values[program.gradients[i]]
        if not value:
            continue
        orders = _orders(value)
        initial = orders[()].sizes() if () in orders else []
        for tag, one in orders.items():
            if len(tag) == 1 and outgrows(regime, one.sizes(), initial):
                out.append(_row(found, name, "gradient", 2, one, tag=tag))
    return sorted(out, key=lambda row: row.tag)


def later_alignments(found: Derivation) -> list[Row]:
    """The sums of the backward pass that add up once another weight has moved, where they did not before.

    The tagged part of Σ a·b over the norms of the parts it is made of, ‖a‖·‖b‖ with the tag in one of the two.
    """
    program, algebra, later = found.model.program, found.algebra, found.later
    if later is None:
        return []
    out: list[Row] = []
    initial = {row.row: row for row in alignments(found)}
    for i, name, over in sums(program, later.values):
        a, b = (later.values[j] for j in program.ops[i].inputs)
        value = later.values[i]
        if not program.ops[i].backward or value is None or a is None or b is None or name not in initial:
            continue
        sides, whole = (_orders(a), _orders(b)), _orders(value)
        for tag in (t for t in whole if len(t) == 1):
            parts = [(sides[0].get(s), sides[1].get(t)) for s, t in ((tag, ()), ((), tag))]
            norms = [(algebra.norm(v, over), algebra.norm(w, over)) for v, w in parts if v is not None and w is not None]
            bounds = algebra.regime.leading([x * y for v, w in norms for x in v for y in w])
            sizes = algebra.regime.leading(whole[tag].sizes())
            if len(bounds) != 1 or outgrows(algebra.regime, whole[()].sizes() if () in whole else [], sizes):
                continue
            terms = algebra.regime.leading([s / bounds[0] for s in sizes])
            if ONE not in terms or ONE in initial[name].terms:
                continue
            row = _row(found, name, "alignment", 2, whole[tag], "aligned", tag=tag)
            out.append(_cosine(row, terms, bounds[0]))
    return out


def steady_classes(found: Derivation) -> dict[tuple[str, str], tuple[str, str]]:
    """Feature and weight → class at the first step, and from then on.

    The first is that of the weight's own update; the later one that of the largest of all orders with the weight, without
    those that explode already by their other weights.  ``unsettled`` if the last order that was derived changes the class,
    other than to exploding: the next might do so again.
    """
    program, regime, later = found.model.program, found.algebra.regime, found.later
    out: dict[tuple[str, str], tuple[str, str]] = {}
    for name, i in program.features.items():
        init, value, then = found.values[i], found.updated[i], later and later.updated[i]
        if init is None or value is None:
            continue
        orders = {tag: one.sizes() for tag, one in _orders(then or value).items() if tag}
        explode = [t for t in orders if _update_class(regime, regime.leading(orders[t]), init.sizes()) == "exploding"]
        for weight in found.updates:
            if i not in program.reaches(weight):
                continue
            others = [tag for tag in explode if weight not in tag]
            own = {t: s for t, s in orders.items() if weight in t and not any(_within(o, t) for o in others)}
            last = later.order if later is not None else 1
            first, before, steady = (_class_up_to(regime, own, init, most) for most in (1, max(1, last - 1), last))
            unsettled = steady != "exploding" and last == MOST_ORDER and before != steady
            out[name, weight] = first, "unsettled" if unsettled or (later and not later.repeated) else steady
    return out


def _class_up_to(regime: Regime, orders: Mapping[tuple[str, ...], list[Scale]], init: Value, most: int) -> str:
    sizes = [s for tag, own in orders.items() if len(tag) <= most for s in own]
    return _update_class(regime, regime.leading(sizes), init.sizes())


def notes(found: Derivation) -> tuple[str, ...]:
    """What no row says, and what a reader of the first step's rows would get wrong."""
    later = found.later
    if later is None:
        return found.verdicts
    changed: dict[str, dict[str, list[str]]] = {}
    for (feature, weight), (first, then) in steady_classes(found).items():
        if first != then:
            changed.setdefault(then, {}).setdefault(weight, []).append(f"{feature} ({first} at step 1)")
    out: list[str] = []
    for klass, cases in changed.items():
        words = "; ".join(f"{weight} in {', '.join(which)}" for weight, which in cases.items())
        out.append(f"From step 2 on {klass}: {words}.")
    if not out:
        out.append(f"No class changes after step 1; sizes repeat from step {later.step} on.")
    if not later.repeated:
        out.append(f"Sizes and patterns have not repeated after {later.step} steps.")
    if later.order < MOST_ORDER:
        out.append("Contributions of three updates together are not derived.")
    return (*found.verdicts, *out)
