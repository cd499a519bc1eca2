"""Every registered optimizer, clipped ones too: the updates that its law derives against those that its torch code makes.

A row passes if its slope in every dim is known to 0.06 or better and lies within 1/4 of the derived one, half way to the next
exponent; five standard errors and more lie between, so that a false alarm is rarer than 1 in 10⁶.  A false law is off by
1/2 in some row, and is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
import torch

from scalecalc.derive import Model, derive, interpret, resolve, table_of
from scalecalc.errors import InputError
from scalecalc.measure.contributions import Plan, measure
from scalecalc.measure.interpret import Setting
from scalecalc.measure.slopes import Cell, fit
from scalecalc.rule import find, registry
from scalecalc.scale import Regime, Scale
from scalecalc.solve import solve
from scalecalc.table import Row
from scalecalc.value import Algebra, Value

HALF, N = Fraction(1, 2), Scale.of("N")
ERROR = 1e-6
CLIPPED = ("sgd:clip=yes", "adam:clip=yes", "muon:clip=yes")
DECAYING = tuple(f"{name}:decay={kind}" for name in ("sgd", "momentum", "nesterov") for kind in ("coupled", "decoupled"))
EVERY = (*sorted(registry("optimizer")), *CLIPPED)
WIDE = [({"N": n}, seeds) for n, seeds in ((32, 128), (96, 64), (288, 48))]
STATES = [({"N_u": u, "N_x": x}, 64) for u, x in ((32, 16), (128, 16), (32, 64), (64, 128))]
GRIDS = {"mlp": ("mlp", WIDE), "s6": ("s6:step=fixed", STATES)}


def model_of(name: str, optimizer: str) -> Model:
    return resolve(GRIDS[name][0], optimizer=optimizer)


def derived(model: Model) -> list[Row]:
    """The updates of the first step by one weight.  (Of an embedding before a selection several terms lead, at any width.)"""
    rows = table_of(interpret(model, Regime(), corrections=True)).rows
    updates = [row for row in rows if row.kind == "update" and len(row.tag) == 1]
    return [row for row in updates if "W_B" not in model.scalings or row.tag[0] in ("W_B", "W_C")]


@cache
def measured(name: str, optimizer: str) -> dict[Any, list[Cell]]:
    model = model_of(name, optimizer)
    plan, out = Plan(model, tuple(derived(model))), dict[Any, list[Cell]]()
    for number, (widths, seeds) in enumerate(GRIDS[name][1]):
        size = 16 if name == "mlp" else 32
        parts = [measure(plan, Setting(widths, size, 1000 * number + k)) for k in range(-(-seeds // size))]
        for key in parts[0]:
            out.setdefault(key, []).append(Cell(widths, torch.cat([part[key] for part in parts]).numpy()))
    return out


def off(rows: list[Row], cells: Mapping[Any, list[Cell]]) -> list[str]:
    """The rows whose measured slopes are not the derived ones, in words."""
    out: list[str] = []
    for row in rows:
        found = fit(cells[row.key], row.terms, ERROR, corrections=row.subleading)
        for dim, excess in found.excess.items():
            single = len(row.terms) == 1  # of several terms a few widths do not tell the constants
            near = abs(excess.slope) < 0.25 if single else excess.low < 0.25 and excess.high > -0.25
            good = near and (found.error[dim] < 0.06 or not single)
            if not good:
                out.append(f"{row.label}: {row.formula()}, off in {dim} by {excess.slope:.2f} ± {found.error[dim]:.2f}")
    return out


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", EVERY)
def test_updates_of_a_perceptron_are_as_derived(optimizer: str) -> None:
    assert not off(derived(model_of("mlp", optimizer)), measured("mlp", optimizer))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adafactor", "muon_spectral"])
def test_updates_of_a_selection_are_as_derived(optimizer: str) -> None:
    """Gradients that fall along the states: Adafactor divides that out, Muon keeps it."""
    assert not off(derived(model_of("s6", optimizer)), measured("s6", optimizer))


# ---------------------------------------------------------------- false laws


def gradient_itself(self: Any, algebra: Algebra, gradient: Value, *weight: Any) -> Value:
    return gradient


def without_the_weight(self: Any, algebra: Algebra, gradient: Value, weight: Any) -> Value:
    """Adafactor without the factor of the weight's size."""
    return find("optimizer", "adam").make().law(algebra, gradient, weight)


def entries_of_size_one(self: Any, algebra: Algebra, gradient: Value, weight: Any) -> Value:
    """Muon without its shape: as Adam."""
    return without_the_weight(self, algebra, gradient, weight)


def no_clipping(self: Any, algebra: Algebra, gradients: Mapping[str, Value]) -> Mapping[str, Value]:
    return gradients


FALSE: dict[str, tuple[str, Callable[..., Any]]] = {
    **{name: ("law", gradient_itself) for name in registry("optimizer") if registry("optimizer")[name].make().scale_free},
    "adafactor": ("law", without_the_weight),
    "muon": ("law", entries_of_size_one),
    "muon_rms": ("law", entries_of_size_one),
    "muon_spectral": ("law", entries_of_size_one),
    "sgd:clip=yes": ("together", no_clipping),
}


def falsified(self: Any, algebra: Algebra, gradient: Value, weight: Any) -> Value:
    """An SGD whose update is N^(1/2) times the gradient."""
    return algebra.scale(gradient, N**HALF, "false")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", EVERY)
def test_a_false_law_is_found(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement is the same; what is derived from a false law is not what was measured."""
    cells, model = measured("mlp", optimizer), model_of("mlp", optimizer)
    method, law = FALSE.get(optimizer, ("law", falsified))
    monkeypatch.setattr(type(model.update), method, law)
    assert off(derived(model), cells)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adafactor", "muon", "sgd:clip=yes"])
def test_updates_behind_a_multiplier_are_as_derived(optimizer: str) -> None:
    """Neural tangent: w is of size one and the network uses w/N^(1/2)."""
    model = resolve("mlp", parameterization="ntp", optimizer=optimizer)
    rows = [row for row in derived(model) if row.tag != ("W_in",)]
    assert not off(rows, cells_of(model, rows))


# ---------------------------------------------------------------- decay and ε


def cells_of(model: Model, rows: list[Row]) -> dict[Any, list[Cell]]:
    plan, out = Plan(model, tuple(rows)), dict[Any, list[Cell]]()
    for number, (widths, seeds) in enumerate(WIDE):
        found = measure(plan, Setting(widths, seeds, number))
        for key, logs in found.items():
            out.setdefault(key, []).append(Cell(widths, logs.numpy()))
    return out


def scaled(optimizer: str, **more: Scale) -> tuple[Model, list[Row]]:
    """A perceptron with decays or ε given to all its weights; the rows of W_2's update."""
    model = resolve("mlp", optimizer=optimizer)
    model = replace(model, scalings={w: replace(s, **more) for w, s in model.scalings.items()})
    return model, [row for row in derived(model) if row.tag == ("W_2",)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "decay", "size"),
    [
        ("adamw", N**2, N),
        ("adamw", N ** Fraction(1, 2), Scale.one()),
        ("adamw_independent", N, N),
        ("lion", N**2, N),
        ("muon", N, N),
        ("adam_l2", N, N**-HALF),
        ("adam_l2", N**-1, Scale.one()),
        ("sgd:decay=coupled", N, N),
        ("sgd:decay=coupled", N**-HALF, Scale.one()),
        ("momentum:decay=coupled", N, N),
        ("nesterov:decay=decoupled", N, N),
        ("momentum:decay=independent,clip=yes", N, N),
    ],
)
def test_weight_decay_is_as_derived(optimizer: str, decay: Scale, size: Scale) -> None:
    """η λ W where it is decoupled, λ W where it is independent; coupled, the sign of W once λ W outgrows the gradient.

    Under SGD, whose rate is 1 for W_2, coupled and decoupled alike are η λ W.
    """
    model, rows = scaled(optimizer, weight_decay=decay)
    assert {row.terms for row in rows if row.row == "h2"} == {(size,)}
    cells = cells_of(model, rows)
    assert not off(rows, cells)
    _, others = scaled(optimizer, weight_decay=N**-4 if size != Scale.one() else N**4)
    assert off(others, cells)


@pytest.mark.slow
def test_decay_before_a_norm_is_without_effect_behind_it() -> None:
    """W_in's decay shrinks u, and a norm returns the same for that; beside the norm u has shrunk.

    What is left behind it is the gradient's update, N^(−1/2) at this rate.  (Derived as a change like any other it was
    of order one there.)
    """
    model = resolve("residual:depth=1", optimizer="adamw_independent")
    slow = replace(model.scalings["W_in"], lr=N**-HALF, weight_decay=Scale.one())
    model = replace(model, scalings={**model.scalings, "W_in": slow})
    rows = [row for row in derived(model) if row.tag == ("W_in",)]
    found = {row.row: row.terms for row in rows}
    assert found["u"] == found["u1"] == (Scale.one(),)
    assert found["z1"] == (N**-HALF,)
    assert not off(rows, cells_of(model, rows))


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "size"), [(N**-2, Scale.one()), (N**-HALF, N**-HALF), (N, N**-2)])
def test_epsilon_is_as_derived(epsilon: Scale, size: Scale) -> None:
    """Hidden gradients are 1/N: below that ε changes nothing, above it Adam's update is g/ε."""
    model, rows = scaled("adam", epsilon=epsilon)
    assert {row.terms for row in rows if row.row == "h2"} == {(size,)}
    cells = cells_of(model, rows)
    assert not off(rows, cells)
    assert off(scaled("adam", epsilon=N**2)[1], cells)


def test_a_solved_decay_and_epsilon_change_nothing_and_larger_ones_do() -> None:
    """CompleteP's table (arXiv 2505.01618): decay m_N at a hidden rate 1/m_N, ε as the gradient."""
    p = solve("mlp", optimizer="adamw")
    hidden = p["W_2"]
    assert (hidden.lr, hidden.weight_decay, hidden.epsilon) == (N**-1, N, N**-1)
    assert (p["W_in"].weight_decay, p["W_out"].weight_decay) == (Scale.one(), N)
    table = derive("mlp", parameterization=p, optimizer="adamw")
    assert {row.klass for row in table if row.kind == "update"} == {"learning"}
    larger = {
        "exploding": replace(hidden, weight_decay=N**2),
        "lazy": replace(hidden, epsilon=N**-HALF),  # though decay moves h2 as much as before
    }
    for klass, one in larger.items():
        other = derive("mlp", parameterization=replace(p, scalings={**p.scalings, "W_2": one}), optimizer="adamw")
        assert other["h2", "update", "W_2"].klass == klass


@pytest.mark.parametrize("optimizer", DECAYING)
def test_the_decay_of_gradient_descent_scales_like_one_over_the_rate(optimizer: str) -> None:
    """η λ = 1 for every weight, coupled or not; what decay alone moves is no learning, and a λ for all explodes."""
    p = solve("mlp", optimizer=optimizer)
    assert [s.weight_decay for s in p.scalings.values()] == [N**-1, Scale.one(), N]
    assert {p.bounds[w, "weight_decay"].rows for w in p.scalings} == {
        (f"{w}, rate · decay: a step removes no more than there is",) for w in p.scalings
    }
    rates = {"W_in": 1, "W_2": 0, "W_out": -1}
    still = {w: replace(s, lr=N ** (rates[w] - 1), weight_decay=N ** (1 - rates[w])) for w, s in p.scalings.items()}
    table = derive("mlp", parameterization=replace(p, scalings=still), optimizer=optimizer)
    for feature, weight in (("h1", "W_in"), ("h2", "W_2")):
        row = table[feature, "update", weight]
        assert (row.formula(), row.klass) == ("1", "lazy")
    usual = derive("mlp", optimizer=optimizer)  # one λ for all, where mup's rate for the embedding is N
    assert (usual["h1", "update", "W_in"].formula(), usual["h1", "update", "W_in"].klass) == ("N", "exploding")


def test_a_kind_of_decay_that_there_is_not_is_an_error() -> None:
    with pytest.raises(InputError, match="write no, coupled, decoupled or independent"):
        solve("mlp", optimizer="sgd:decay=l2")


RATES = {  # of the embedding, the hidden weight and the readout, at inits 1, N^(-1/2) and N^(-1)
    ("sgd", "momentum", "nesterov", *DECAYING): (1, 0, -1),  # Yang et al. 2022, arXiv 2203.03466, table 3
    ("adam", "adamw", "adam_l2", "adamw_independent", "lion", "sign", "adam:clip=yes"): (0, -1, -1),  # ibid.
    ("adafactor",): (0, -HALF, 0),  # Everett et al. 2024, arXiv 2407.05872, muP with Adafactor
    ("muon_spectral",): (0, 0, 0),  # Yang, Simon & Bernstein 2023, arXiv 2310.17813: the shape factor is all there is
    ("muon", "muon:clip=yes", "muon:exact=yes"): (0, 0, -HALF),  # max(1, fo/fi)^(1/2) lacks what a readout needs
    ("muon_rms",): (0, -HALF, -1),
    ("shampoo", "soap"): (HALF, 0, -HALF),
    ("sgd:clip=yes",): (3 * HALF, HALF, -HALF),  # the norm that clips is N^(1/2)
}


@pytest.mark.parametrize(("optimizer", "powers"), [(name, powers) for names, powers in RATES.items() for name in names])
def test_solved_rates_are_the_published_ones(optimizer: str, powers: tuple[Fraction | int, ...]) -> None:
    """And the preset's for the optimizer's family, unless gradients are clipped; all weights learn, nothing explodes."""
    found = solve("mlp", optimizer=optimizer)
    assert tuple(s.lr for s in found.scalings.values()) == tuple(N**p for p in powers)
    assert tuple(s.init for s in found.scalings.values()) == (Scale.one(), N**-HALF, N**-1)
    assert set(found.fates.values()) == {"learning"}
    table = derive("mlp", parameterization=found, optimizer=optimizer, steps=2)
    assert not [row.label for row in table if row.klass in ("exploding", "lazy", "unsettled")]
    if optimizer != "sgd:clip=yes":
        assert [s.lr for s in resolve("mlp", optimizer=optimizer).scalings.values()] == [N**p for p in powers]


def test_every_optimizer_has_a_rate_to_compare_with() -> None:
    assert {name for names in RATES for name in names} >= set(registry("optimizer")) - {"adam_eps"}
