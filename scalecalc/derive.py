"""From a program and its rules to the Θ table.

Four passes, all by the same interpreter and the same rules:

1. forward at initialisation: every operation's value;
2. backward: the recorded gradient operations;
3. the optimizer's law turns each weight's gradient into the value of its update ΔW;
4. forward again with W = W₀ + ΔW, the update's terms tagged with the weight: what each weight's own update contributes
   to each feature is read off by tag.

To debug: ``Derivation.values`` has the value of every operation at initialisation, ``updated`` after the step; print
their terms.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from scalecalc import backward
from scalecalc.errors import InputError
from scalecalc.model import Model, resolve
from scalecalc.program import Program
from scalecalc.scale import Regime, Scale, commuting
from scalecalc.table import Row, Table
from scalecalc.term import Limits, Term, atom, dim_of, pattern
from scalecalc.value import Algebra, Value, exact_value

ONE = Scale.one()
ALIGNED = ("matmul", "contraction")
CORRECTIONS = Fraction(1, 2)  # terms smaller by no more than this power of a width are kept as corrections to scaling


@dataclass(frozen=True)
class Derivation:
    """What the engine found, operation by operation; the table is read off it."""

    model: Model
    algebra: Algebra
    values: Sequence[Value | None]
    updates: Mapping[str, Value]
    updated: Sequence[Value | None]


def run(program: Program, algebra: Algebra, weights: Mapping[str, Value], wanted: Sequence[int]) -> list[Value | None]:
    """The scale interpreter: the value of every operation that the wanted ones need, in order."""
    live = program.live(wanted)
    out: list[Value | None] = []
    for i, op in enumerate(program.ops):
        if not live[i]:
            out.append(None)
            continue
        labels = program.growing(op.axes)
        here = replace(algebra, rule=op.rule, at=op.name)
        if op.rule == "weight":
            value = replace(weights[op.name], labels=labels)
        elif op.rule == "input":
            odd = [atom(f"input {i}", labels)] if labels else []
            value = Value(labels, (Term(ONE, pattern((), odd), (), here.step("independent standard normal entries")),))
        elif op.rule == "index":
            value = _exact(labels, op.params["expression"], here)
        else:
            inputs = [v for j in op.inputs if (v := out[j]) is not None]
            value = backward.rule_of(program, i).law(here, op, labels, *inputs)
        own = frozenset((i, label) for label in labels)
        out.append(replace(value, ray=value.ray | own))
    return out


def _exact(labels: Sequence[str], expression: Any, algebra: Algebra) -> Value:
    from scalecalc.asymptotics import profile_of

    profiles = {labels[-1]: profile_of(expression)} if labels else {}
    return exact_value(labels, profiles, expression, algebra.step(f"exact: {expression}"))


def initial_weights(model: Model, algebra: Algebra) -> dict[str, Value]:
    """The effective weights m·w at initialisation: one atom each, free in every growing axis."""
    out: dict[str, Value] = {}
    for op in model.program.ops:
        if op.rule != "weight":
            continue
        labels = model.program.growing(op.axes)
        scaling = model.scalings[op.name]
        here = replace(algebra, rule="weight", at=op.name)
        if op.params["init"] is not None:
            out[op.name] = _exact(labels, op.params["init"], here)
            continue
        size = scaling.init * scaling.multiplier
        law = f"independent centred entries of size {scaling.init}, multiplier {scaling.multiplier}"
        odd = [atom(op.name, labels)] if labels else []
        out[op.name] = Value(labels, (Term(size, pattern((), odd), (), here.step(law)),))
    return out


def interpret(model: Model, regime: Regime, limits: Limits | None = None, corrections: bool = False) -> Derivation:
    """All four passes.  ``corrections``: keep smaller terms, too, which a fit at affordable widths has to know."""
    program = model.program
    margin = Scale(dict.fromkeys(program.dims, CORRECTIONS)) if corrections else ONE
    algebra = Algebra(regime, limits or Limits(), margin)
    weights = initial_weights(model, algebra)
    features = list(program.features.values())
    positions = {op.name: i for i, op in enumerate(program.ops) if op.rule == "weight"}
    wanted = features + [program.gradients[i] for i in [*features, *positions.values()] if i in program.gradients]
    values = run(program, algebra, weights, wanted)
    updates: dict[str, Value] = {}
    for name, position in positions.items():
        if position not in program.gradients:
            continue
        gradient = values[program.gradients[position]]
        assert gradient is not None
        here = replace(algebra, rule=model.optimizer, at=f"d{name}")
        step = model.update.update(here, gradient, model.scalings[name])
        updates[name] = replace(step, terms=tuple(replace(t, tag=(name,)) for t in step.terms), labels=weights[name].labels)
    moved = {
        name: replace(value, terms=value.terms + updates[name].terms) if name in updates else value
        for name, value in weights.items()
    }
    return Derivation(model, algebra, values, updates, run(program, algebra, moved, features))


def derive(
    model: str,
    *,
    parameterization: str | None = None,
    optimizer: str | None = None,
    steps: int = 1,
    regime: str = "free",
    loss: str = "linear",
    **options: Any,
) -> Table:
    """Derive the Θ table of a model: initial sizes, gradients, alignments and what each weight's update contributes.

    >>> table = derive("mlp", parameterization="mup", optimizer="adam")
    >>> print(table["h2", "update", "W_in"].formula(), table["f", "init"].formula())
    1 N^(-1/2)

    Raises:
        UnknownName, InputError: see :func:`resolve`; a regime with a dim that the model does not have.
    """
    start = time.perf_counter()
    if steps != 1:
        raise InputError(f"steps={steps}: this version derives one optimizer step; use --steps 1.")
    resolved = resolve(model, parameterization=parameterization, optimizer=optimizer, loss=loss, options=options)
    found = interpret(resolved, Regime.parse(regime, resolved.program.dims))
    return table_of(found, time.perf_counter() - start)


def table_of(found: Derivation, seconds: float = 0.0) -> Table:
    """Read the table off a derivation."""
    model = found.model
    return Table(
        model=model.name,
        rows=(*_weights(found), *_init(found), *_gradients(found), *_updates(found), *_alignments(found)),
        dims=model.program.dims,
        options={"loss": model.loss, "steps": 1, "regime": found.algebra.regime.text},
        parameterization=model.scalings,
        parameterization_name=model.parameterization,
        optimizer=model.optimizer,
        regime=found.algebra.regime,
        seconds=seconds,
    )


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
        subleading=_subleading(regime, terms, value.sizes()),
        why=why,
        assumptions=_assumptions(lead),
        commutes=_commutes(found, value.sizes()),
        derivation=lead,
        **more,
    )


def _commutes(found: Derivation, sizes: Sequence[Scale]) -> bool | None:
    """In the free regime alone does the value still hold every term that an order of the limits might leave."""
    dims = found.model.program.dims
    return commuting(sizes, dims) if found.algebra.regime.kind == "free" and len(dims) > 1 else None


def _subleading(regime: Regime, terms: Sequence[Scale], sizes: Sequence[Scale]) -> tuple[Scale, ...]:
    """The two next levels below the leading terms: corrections to scaling, with exponents that are derived, too."""
    out: list[Scale] = []
    level = tuple(terms)
    for _ in range(2):
        rest = [s for s in sizes if s not in out and s not in terms and any(regime.order(s, t) == -1 for t in level)]
        level = regime.leading(rest)
        out += level
    return tuple(out)


def _assumptions(term: Term | None) -> tuple[str, ...]:
    """Every assumption that a term's derivation made."""
    out: dict[str, None] = {}
    seen: set[int] = set()
    stack = [term] if term is not None else []
    while stack:
        t = stack.pop()
        if id(t) in seen or t.why is None:
            continue
        seen.add(id(t))
        if t.why.assumption:
            out[t.why.assumption] = None
        stack += t.why.parents
    return tuple(out)


def _size_class(regime: Regime, terms: Sequence[Scale]) -> str:
    orders = [regime.order(t, ONE) for t in terms]
    if any(order in (1, None) for order in orders):
        return "exploding"
    return "stable" if 0 in orders else "vanishing"


def _update_class(regime: Regime, terms: Sequence[Scale], init: Sequence[Scale]) -> str:
    """Exploding above both 1 and the initial size, lazy below both, learning between."""
    bounds = [ONE, *init]
    if any(all(regime.order(t, b) not in (-1, 0) for b in bounds) for t in terms):
        return "exploding"
    return "learning" if any(any(regime.order(b, t) in (-1, 0) for b in bounds) for t in terms) else "lazy"


def _weights(found: Derivation) -> list[Row]:
    return [
        _row(found, name, "weight", 0, value)
        for name, value in initial_weights(found.model, found.algebra).items()
    ]


def _init(found: Derivation) -> list[Row]:
    return [
        _row(found, name, "init", 0, value)
        for name, i in found.model.program.features.items()
        if (value := found.values[i]) is not None
    ]


def _gradients(found: Derivation) -> list[Row]:
    program = found.model.program
    named = {**program.features, **{op.name: i for i, op in enumerate(program.ops) if op.rule == "weight"}}
    return [
        _row(found, name, "gradient", 1, value)
        for name, i in named.items()
        if i in program.gradients and (value := found.values[program.gradients[i]]) is not None
    ]


def _updates(found: Derivation) -> list[Row]:
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
            out.append(_row(found, name, "update", 1, first, klass, tag=(weight,)))
            second = value.only(lambda t, w=weight: t.tag == (w, w))
            if any(all(regime.order(t, s) not in (-1, 0) for s in sizes) for t in regime.leading(second.sizes())):
                klass = _update_class(regime, regime.leading(second.sizes()), init.sizes())
                out.append(_row(found, name, "update", 1, second, klass, tag=(weight, weight)))
    return out


def _alignments(found: Derivation) -> list[Row]:
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
        ratio = [s / bounds[0] for s in sizes]
        row = _row(found, name, "alignment", 1 if op.backward else 0, value, "aligned" if ONE in ratio else "incoherent")
        below = tuple(s / bounds[0] for s in row.subleading)
        terms = algebra.regime.leading(ratio)
        out.append(replace(row, terms=terms, statistic="cosine", entry=(), profile="", subleading=below))
    return out


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


__all__ = ["Derivation", "Model", "derive", "interpret", "resolve", "run", "table_of"]
