"""From a program and its rules to the Θ table.

Four passes, all by the same interpreter and the same rules:

1. forward at initialisation: every operation's value;
2. backward: the recorded gradient operations;
3. the optimizer's law turns each weight's gradient into the value of its update ΔW;
4. forward again with W = W₀ + ΔW, the update's terms tagged with the weight: what each weight's own update contributes
   to each feature is read off by tag.

More steps are the same passes again (:mod:`scalecalc.steps`).

To debug: ``Derivation.values`` has the value of every operation at initialisation, ``updated`` after the step; print
their terms.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from scalecalc import batch, duration, rows
from scalecalc import steps as training
from scalecalc.alike import Alike
from scalecalc.errors import InputError
from scalecalc.garbage import uncollected
from scalecalc.interpreter import exact_leaf, initial_weights, run
from scalecalc.model import Model, TorchModule, resolve
from scalecalc.parameterization import Parameterization
from scalecalc.published import contradicted
from scalecalc.repeat import Verdicts, left_out
from scalecalc.rows import sums
from scalecalc.scale import Regime, Scale
from scalecalc.steps import Later
from scalecalc.table import Table, WeightScaling
from scalecalc.term import Limits
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    from scalecalc.cuts import Bounded, Cuts

ONE = Scale.one()
MOST_REPEATED = 2  # dims up to which corrections are followed through repeated blocks
CORRECTIONS = Fraction(1, 2)  # terms smaller by no more than this power of a width are kept as corrections to scaling


@dataclass(frozen=True)
class Derivation:
    """What the engine found, operation by operation; the table is read off it.

    Args:
        values: the value of every operation at initialisation, backward pass included.
        updates: every weight's first update.
        updated: the value of every operation of the forward pass after the first step.
        weights: the initial weights.
        later: the steps after the first, if they were asked for.
        sums: bounds from below on the sizes by which updates are summed up, where they are.
        verdicts: what is no power of the widths, in sentences; it has no value.
    """

    model: Model
    algebra: Algebra
    values: Sequence[Value | None]
    updates: Mapping[str, Value]
    updated: Sequence[Value | None]
    weights: Mapping[str, Value]
    later: Later | None = None
    sums: tuple[Bounded, ...] = ()
    verdicts: tuple[str, ...] = ()


@uncollected()
def interpret(
    model: Model,
    regime: Regime,
    limits: Limits | None = None,
    corrections: bool = False,
    steps: int = 1,
    cuts: Cuts | None = None,
) -> Derivation:
    """All passes.

    Args:
        corrections: keep smaller terms, too, which a fit at affordable widths has to know.
        cuts: where a deep network's updates are summed up (:mod:`scalecalc.cuts`); order two is all there is then.
    """
    program = model.program
    duration.check_order(program, steps)
    if program.loops and (len(program.dims) > MOST_REPEATED or any(left_out(program, i) for i in range(len(program.ops)))):
        corrections = False  # too many terms to follow through blocks, or some are left out anyway
    margin = Scale(dict.fromkeys(program.dims, CORRECTIONS)) if corrections else ONE
    alike = Alike(regime.point) if cuts is not None and model.alignment is None else None
    algebra = Algebra(regime, limits or Limits(), margin, alignment=model.alignment, alike=alike)
    weights = initial_weights(model, algebra)
    features = list(program.features.values())
    positions = program.leaves("weight")
    wanted = features + [program.gradients[i] for i in [*features, *positions.values()] if i in program.gradients]
    verdicts = Verdicts()
    values = run(program, algebra, weights, wanted, verdicts=verdicts)
    gradients = {
        name: value
        for name, i in positions.items()
        if i in program.gradients and (value := values[program.gradients[i]]) is not None
    }
    updates = training.step(model, algebra, weights, gradients)
    updated = run(program, algebra, training.moved(weights, updates, 1), features, cuts, verdicts)
    later = training.train(model, algebra, weights, updates, steps, wanted, cuts) if steps > 1 and updates else None
    return Derivation(
        model, algebra, values, updates, updated, weights, later, tuple(cuts.bounds) if cuts else (), tuple(verdicts.words)
    )


def derive(
    model: str | TorchModule,
    *,
    parameterization: str | Parameterization | None = None,
    optimizer: str | None = None,
    steps: int = 1,
    regime: str = "free",
    loss: str = "linear",
    fix: Mapping[str, int] | None = None,
    alignment: str = "derived",
    **options: Any,
) -> Table:
    """Derive the Θ table of a model: initial sizes, gradients, alignments and what each weight's update contributes.

    >>> table = derive("mlp", parameterization="mup", optimizer="adam")
    >>> print(table["h2", "update", "W_in"].formula(), table["f", "init"].formula())
    1 N^(-1/2)

    Args:
        fix: widths of dims held fixed (``{"N_x": 16}``); the table has no exponents in these, and a note where the
            asymptotics in them would not hold at that width.
        steps: optimizer steps.  From 2 on the table also has what is new at the second step, once other weights have
            moved; from 3 on what is new at the third, if it is larger still.
        alignment: ``derived``, or what sums are assumed or were measured to be: ``full``, ``none`` or the JSON file of a
            verify run (see :mod:`scalecalc.alignment`).

    Raises:
        UnknownName, InputError: see :func:`resolve`; a regime with a dim that the model does not have; no steps.
    """
    start = time.perf_counter()
    if steps < 1:
        raise InputError(f"steps={steps}: a table needs one optimizer step at least.")
    resolved = resolve(
        model, parameterization=parameterization, optimizer=optimizer, loss=loss, options=options, fix=fix,
        alignment=alignment, regime=regime,
    )  # fmt: skip
    found = interpret(resolved, Regime.parse(regime, resolved.program.dims), steps=steps)
    return table_of(found, time.perf_counter() - start)


def table_of(found: Derivation, seconds: float = 0.0) -> Table:
    """Read the table off a derivation."""
    model = found.model
    table = Table(
        model=model.name,
        rows=rows.all_rows(found),
        dims=model.program.dims,
        options={
            "loss": model.loss,
            "steps": found.later.step if found.later is not None else 1,
            "regime": found.algebra.regime.text,
            **({"alignment": model.alignment.text} if model.alignment is not None else {}),
        },
        parameterization=_as_started(model),
        parameterization_name=model.parameterization,
        optimizer=model.optimizer,
        regime=found.algebra.regime,
        seconds=seconds,
        notes=(*notes(model), *rows.notes(found), *batch.notes(model)),
    )
    return replace(table, notes=(*table.notes, *contradicted(table)))


def _as_started(model: Model) -> dict[str, WeightScaling]:
    """The weights' scalings, with the sizes that exact initial entries have."""
    out = dict(model.scalings)
    for op in model.program.ops:
        if op.rule == "weight" and (op.params["init"] is not None or "values" in op.params):
            size = op.params.get("scale", out[op.name].init)
            out[op.name] = replace(out[op.name], init=size, zero=op.params["init"] == 0)
    return out


def notes(model: Model, widths: Mapping[str, Sequence[int]] | None = None) -> tuple[str, ...]:
    """What a reader must know: dims held fixed, resonant steps, and widths at which the asymptotics do not hold yet."""
    from scalecalc.crossover import crossovers
    from scalecalc.resonance import resonances

    held = {dim: [width] for dim, width in model.fix.items()}
    where = {**held, **(widths or {})}
    found = [f"{dim} is held at {width}; no size has an exponent in it." for dim, width in model.fix.items()]
    found += model.program.remarks
    found += duration.notes(model.program)
    found += resonances(model.program)
    found += model.alignment.notes() if model.alignment is not None else ()
    found += filter(None, (c.note(where[c.dim]) for c in (crossovers(model.program, where) if where else ())))
    return tuple(found)


__all__ = [
    "CORRECTIONS",
    "Derivation",
    "Model",
    "derive",
    "exact_leaf",
    "initial_weights",
    "interpret",
    "notes",
    "resolve",
    "run",
    "sums",
    "table_of",
]
