"""Optimizer steps two and later: what an update gains because other weights have moved.

Train every weight at a rate ε_W times its own.  After k steps the network is a series in the ε, and a tag is an order of
that series: (W,) is what is linear in W's updates, (W, V) what is linear in W's and in V's.  At the first step every
gradient is that of the initial network, so an update is of order one; at the second the gradients have moved, so updates
of order two appear; step k brings order k.  That is why steps need not be told apart in a tag, and why few steps suffice:
the part of order m is the same at every step from the m-th on, since it follows from the orders below it by the same
equations.

The best-known effect: before the readout has moved, the signal dy that it sends back is odd in it, and ⟨dy, u⟩ is
incoherent.  Its update is c ⊗ y, so dy gains a part along y, of order (W_out,), and ⟨dy, u⟩ a coherent one.  Whatever
learns through that sum has an update of order (W, W_out) that may outgrow the first: a rate that was read off the first
step is then too large, and the table says so.

Each step is one more run of the same program by the same rules, with W = W₀ + ΔW.  ΔW is kept as one pruned set of terms
(hard case W10).  Orders two are derived from two steps on; orders three from three steps on, if there are few enough
terms (:data:`AFFORDABLE`; deep networks have too many), else ``Later.order`` says that they were left out.  Terms
of a higher order are kept only where they can still outgrow every lower order that they contain
(:func:`scalecalc.term.simplify`).

To debug: print ``Later.updates["W"].terms`` of the weight whose row is wrong, by tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from scalecalc import duration
from scalecalc.interpreter import harmonics, run
from scalecalc.model import Model
from scalecalc.optimizer import Optimizer, Trained
from scalecalc.scale import Scale
from scalecalc.term import Limits, Term, simplify
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    from scalecalc.cuts import Cuts

ONE = Scale.one()
MOST_STEPS = 4
MOST_ORDER = 3
AFFORDABLE = 800  # terms in one pass with updates of order one; with order three a pass has some ten times as many


@dataclass(frozen=True)
class Later:
    """Training after the first step.

    Args:
        step: the step whose gradients and features these are.
        order: the longest tag that was derived.
        repeated: did the updates repeat, with all their sizes and patterns, after at most :data:`MOST_STEPS` steps?
        values: the value of every operation while step ``step`` takes its gradients; tags up to ``order`` − 1.
        updates: the sum of all updates so far of every weight, tags up to ``order``.
        updated: the value of every operation of the forward pass after that step.
    """

    step: int
    order: int
    repeated: bool
    values: Sequence[Value | None]
    updates: Mapping[str, Value]
    updated: Sequence[Value | None]


def moved(weights: Mapping[str, Value], updates: Mapping[str, Value], order: int) -> dict[str, Value]:
    """W₀ + ΔW, with the updates' terms up to an order."""
    return {
        name: replace(
            value,
            terms=value.terms + tuple(t for t in updates[name].terms if len(t.tag) <= order),
            multiples=updates[name].multiples,
        )
        if name in updates
        else value
        for name, value in weights.items()
    }


def step(
    model: Model, algebra: Algebra, weights: Mapping[str, Value], gradients: Mapping[str, Value]
) -> dict[str, Value]:
    """The optimizer's updates by the gradients' values: every term's tag gains the weight that it moves.

    Args:
        weights: the effective weights where the gradients were taken.
        gradients: those of the effective weights.
    """
    out: dict[str, Value] = {}
    limits = replace(algebra.limits, harmonics=harmonics(model.program))
    here = replace(algebra, limits=limits, rule=model.optimizer.partition(":")[0])
    for name, gradient in model.update.together(here, raw_gradients(model, here, gradients)).items():
        own = replace(here, at=f"d{name}")
        weight = trained(model, own, name, own.whole(weights[name]))
        law = partial(_updated, model.update, own, gradient, weight)
        if own.alike is None or not model.update.nameless:
            out[name] = law()
            continue
        one, s = weight.weight, weight.scaling
        told = (model.update, one.axes, one.fan_in, one.fan_out, one.role, one.stacked, one.copies, limits, algebra.margin)
        out[name] = own.alike.once(told, [gradient, weight.value], law, [s.init, s.multiplier, s.lr], [name])
    return out


def _updated(optimizer: Optimizer, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
    update, name = optimizer.update(algebra, gradient, weight), weight.weight.name
    terms = (replace(t, tag=tuple(sorted((name, *t.tag)))) for t in update.terms)
    # Only the orders are new, so there is nothing to simplify in a first update.
    kept = tuple(terms) if not any(t.tag for t in update.terms) else simplify(terms, algebra.regime, algebra.margin)
    multiples = tuple(replace(m, tag=(name,)) for m in update.multiples)
    return replace(update, terms=kept, labels=weight.value.labels, multiples=multiples)


def raw_gradients(model: Model, algebra: Algebra, gradients: Mapping[str, Value]) -> dict[str, Value]:
    """The gradients of raw weights, from those of the effective ones."""
    chain = "chain rule through the multiplier"
    return {
        w: replace(algebra, at=f"d{w}").scale(g, model.scalings[w].multiplier, chain) for w, g in gradients.items()
    }


def trained(model: Model, algebra: Algebra, name: str, value: Value) -> Trained:
    """An effective weight as its optimizer sees it."""
    s = model.scalings[name]
    raw = value if s.multiplier is ONE else algebra.scale(value, ONE / s.multiplier, "without its multiplier")
    return Trained(model.program.weights[name], raw, s, duration.number(model.program))


def train(
    model: Model,
    algebra: Algebra,
    weights: Mapping[str, Value],
    updates: Mapping[str, Value],
    steps: int,
    watched: Sequence[int] = (),
    cuts: Cuts | None = None,
) -> Later:
    """The second and later steps, until updates repeat.

    Args:
        weights: the values of the initial weights.
        updates: those of the first step's updates, tags (W,).
        steps: how many steps to take, at least 2; their number is the order too, as far as that is derived.
        cuts: where updates are summed up.
        watched: positions of further operations that are wanted at the last step.
    """
    program = model.program
    order = min(steps, MOST_ORDER)
    gradients = {w: program.gradients[i] for w, i in program.leaves("weight").items() if w in updates}
    values: Sequence[Value | None] = ()
    before: tuple[int, frozenset[tuple[str, Term]]] | None = None
    taken, repeated = 1, False
    for k in range(2, MOST_STEPS + 1):
        kept = min(k, order) - 1
        now = kept, frozenset((w, t) for w, v in updates.items() for t in v.terms if len(t.tag) <= kept)
        if now == before:  # the same weights give the same gradients
            repeated = True
            break
        here = replace(algebra, limits=Limits(degree=kept, distinct=kept, total=kept))
        values = run(program, here, moved(weights, updates, kept), [*gradients.values(), *watched], cuts)
        found = {w: value for w, i in gradients.items() if (value := values[i]) is not None}
        updates, before, taken = step(model, here, moved(weights, updates, kept), found), now, k
        if sum(len(v.terms) for v in values if v is not None) > AFFORDABLE:
            order = min(order, k)
    here = replace(algebra, limits=Limits(degree=order, distinct=order, total=order))
    features = list(program.features.values())
    return Later(taken, order, repeated, values, updates, run(program, here, moved(weights, updates, order), features, cuts))
