"""Later steps, measured: against real training, and against what is derived.

Tolerances: five standard errors and more lie between an exponent that is right and 1/4, half way to the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize

from scalecalc.derive import Model, interpret, resolve, table_of
from scalecalc.measure.contributions import Plan, measure
from scalecalc.measure.interpret import Setting, draw_leaves, rms, run
from scalecalc.measure.slopes import Cell, fit
from scalecalc.measure.training import Training, joined, kinked
from scalecalc.optimizer import Numbers, Optimizer
from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import _REGISTRY, find, parameterization
from scalecalc.scale import FREE, Scale
from scalecalc.table import Row, Table, WeightScaling

U, X, ONE = Scale.of("N_u"), Scale.of("N_x"), Scale.one()
HALF = Fraction(1, 2)
ERROR = 1e-6
ONCE = Numbers([])


def update(name: str, tag: str) -> Row:
    return Row(name, "update", 2, (), tag=tuple(tag.split("+")))


# ---------------------------------------------------------------- against real training


def trained(model: Model, setting: Setting, wanted: int, rates: Mapping[str, torch.Tensor], steps: int) -> torch.Tensor:
    """A feature after real training of some weights, each at a prefactor per seed times its rate."""
    program = model.program
    position = program.leaves("weight")
    gradients = {w: program.gradients[i] for w, i in position.items() if w in rates or model.update.joint}
    values = draw_leaves(program, setting, model.scalings, program.live([wanted, *gradients.values()]))
    optimizer = Training(Plan(model, ()), setting, values, {})
    history: dict[str, list[torch.Tensor]] = {w: [] for w in rates}
    weights: dict[str, list[torch.Tensor]] = {w: [] for w in rates}
    for _ in range(steps):
        found = run(program, values, list(gradients.values()))
        seen = joined(model, {w: found[i] for w, i in gradients.items()}, setting.widths)
        values = dict(values)
        for w in rates:
            history[w].append(seen[w])
            weights[w].append(values[position[w]])
            change = optimizer.update(w, *history[w], weights=weights[w])
            values[position[w]] = values[position[w]] - change * rates[w].reshape(-1, *[1] * (change.dim() - 1))
    return run(program, values, [wanted])[wanted]


def with_decay() -> Optimizer:
    """Gradient descent with decoupled weight decay: the smoothest optimizer that answers to the weight itself."""
    made = find("optimizer", "momentum").make()
    made.decay = "decoupled"
    return made


@pytest.mark.parametrize(
    ("tag", "feature", "optimizer"),
    [
        ("W_B+W_out", "y", "sgd"),
        ("W_Delta+W_in", "f", "sgd"),
        ("W_C+W_Delta", "y", "sgd"),
        ("W_in+W_in", "u", "sgd"),
        ("W_B+W_out", "y", "nesterov"),
        ("W_C+W_Delta", "y", "sgd:clip=yes"),
        ("W_in+W_in", "u", "momentum:clip=yes"),
        ("W_in+W_in", "u", "decay"),
        ("W_Delta+W_in", "f", "decay"),
    ],
)
def test_an_order_is_the_second_derivative_of_two_training_steps(tag: str, feature: str, optimizer: str) -> None:
    model = resolve("s6", optimizer="momentum" if optimizer == "decay" else optimizer)
    if optimizer == "decay":
        scalings = {w: replace(s, weight_decay=ONE) for w, s in model.scalings.items()}
        model = replace(model, update=with_decay(), scalings=scalings)
    if model.update.joint:  # so far above one that all seeds are clipped
        scalings = {w: replace(s, init=s.init if w != "W_out" else ONE) for w, s in model.scalings.items()}
        model = replace(model, scalings=scalings)
    setting = Setting({"N_u": 6, "N_x": 3}, 5, 1)
    row = update(feature, tag)
    measured = measure(Plan(model, (row,)), setting)[row.key].exp()
    wanted, (w, v) = model.program.features[feature], tag.split("+")
    h = torch.full((5,), 1e-4, dtype=torch.float64)

    def f(a: float, b: float) -> torch.Tensor:
        rates = {w: a * h, v: b * h} if w != v else {w: (a + b) / 2 * h}
        return trained(model, setting, wanted, rates, 2)

    second = (f(1, 1) - f(1, -1) - f(-1, 1) + f(-1, -1)) / (2 if w == v else 4)
    torch.testing.assert_close(rms(second) / h**2, measured, rtol=2e-3, atol=0)


def test_gradients_and_their_sums_are_derivatives_of_the_moved_network() -> None:
    model = resolve("s6:step=fixed", optimizer="sgd")
    setting = Setting({"N_u": 6, "N_x": 3}, 5, 2)
    program = model.program
    sums = Plan(model, ()).sums
    name = "⟨dy, h⟩"
    (position,) = (i for i, (other, _) in sums.items() if other == name)
    rows = (Row("W_B", "gradient", 2, (), tag=("W_out",)), Row(name, "alignment", 2, (), tag=("W_out",)))
    measured = measure(Plan(model, rows), setting)
    h, wanted = 1e-5, [program.gradients[program.leaves("weight")["W_B"]], position, *program.ops[position].inputs]
    readout = program.leaves("weight")["W_out"]
    leaves = draw_leaves(program, setting, model.scalings, program.live([*wanted, program.gradients[readout]]))
    start = run(program, leaves, [*wanted, program.gradients[readout]])
    move = h * Training(Plan(model, ()), setting, leaves, {}).update("W_out", start[program.gradients[readout]])
    after = run(program, {**leaves, readout: leaves[readout] + move}, wanted)
    gradient, total, dy, states = (after[i] - start[i] for i in wanted)
    torch.testing.assert_close(measured[rows[0].key].exp(), rms(gradient) / h, rtol=1e-3, atol=0)
    assert float(states.abs().max()) == 0  # the readout is behind them
    cosine = rms(total) / (rms(dy) * rms(start[wanted[3]]) * setting.widths["N_u"])
    torch.testing.assert_close(measured[rows[1].key].exp(), cosine, rtol=1e-3, atol=0)


def test_adam_takes_its_moments_over_all_steps() -> None:
    adam = find("optimizer", "adam").make()
    g = torch.tensor([[1.0, -2.0, 0.0, 3.0]], dtype=torch.float64)
    later = torch.tensor([[-3.0, 2.0, 0.0, 0.3]], dtype=torch.float64)
    parameter = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    reference = torch.optim.Adam([parameter], lr=1.0, eps=0.0)
    for gradient, expected in ((g, adam.torch([g], ONCE)), (later, adam.torch([g, later], ONCE))):
        before = parameter.detach().clone()
        parameter.grad = torch.where(gradient[0] == 0, 1e-300, gradient[0])  # torch divides 0 by 0
        reference.step()
        moved = (before - parameter.detach())[gradient[0] != 0]
        torch.testing.assert_close(moved, expected[0][gradient[0] != 0])
    assert float(adam.torch([g, later], ONCE)[0, 2]) == 0


def test_a_kink_is_seen() -> None:
    assert kinked(resolve("mlp").program)
    assert not kinked(resolve("mlp:activation=tanh").program)


# ---------------------------------------------------------------- slopes


@cache
def long_run() -> Model:
    """One S6 layer at the published rates for an aligned signal, G = 1."""
    mup, name = find("parameterization", "mup").make, "aligned"

    @parameterization(name, "this test")
    def chosen(weight: Weight, optimizer: str) -> WeightScaling:
        """The long-run rates of the selection weights."""
        if weight.role == "selection_B":
            return scaling((X / U) ** HALF, X / U)
        return scaling((X * U) ** -HALF, (X * U) ** -1) if weight.role == "selection_C" else mup(weight, optimizer)

    try:
        return resolve("s6:step=fixed", parameterization=name, optimizer="sgd")
    finally:
        del _REGISTRY["parameterization"][name]


def cells(model: Model, rows: Sequence[Row], grid: Sequence[Mapping[str, int]], seeds: int) -> dict[Any, list[Cell]]:
    out: dict[Any, list[Cell]] = {row.key: [] for row in rows}
    for number, widths in enumerate(grid):
        parts = [measure(Plan(model, tuple(rows)), Setting(widths, n, s)) for n, s in batches(widths, seeds, number)]
        for key in out:
            out[key].append(Cell(widths, torch.cat([part[key] for part in parts]).numpy()))
    return out


def batches(widths: Mapping[str, int], seeds: int, number: int) -> list[tuple[int, int]]:
    """Seeds in batches that fit the cache, each with a generator seed of its own."""
    size = min(seeds, max(8, 40_000 // (widths["N_u"] * widths["N_x"])))
    return [(size, 1000 * number + k) for k in range(-(-seeds // size))]


def assert_slopes(row: Row, found: Sequence[Cell]) -> None:
    """Every dim's slope is the derived one, to within less than 1/4, and precisely enough known."""
    result = fit(found, row.terms, ERROR)
    for dim, excess in result.excess.items():
        assert result.error[dim] < 0.05, (row.label, dim)
        assert abs(excess.slope) < 0.25, (row.label, dim, excess)


def derived(model: Model, steps: int = 2) -> Table:
    return table_of(interpret(model, FREE, steps=steps))


GRID = [{"N_u": u, "N_x": 16} for u in (24, 96, 384)] + [{"N_u": 48, "N_x": x} for x in (16, 48, 144)]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["zoh", "mamba"])
def test_what_selection_gains_from_the_readout(scheme: str) -> None:
    """y by W_B and W_C once W_out has moved, their gradients, and G itself: derived, and measured."""
    model = resolve(f"s6:step=fixed,discretization={scheme}", optimizer="sgd")
    wanted = {("y", "W_B"), ("y", "W_C"), ("W_B", ""), ("W_C", ""), ("⟨dy, h⟩", ""), ("⟨dfactor·B·u, u⟩", "")}
    rows = [r for r in derived(model) if r.step == 2 and "W_out" in r.tag and (r.row, r.tag[0] * (len(r.tag) > 1)) in wanted]
    assert len(rows) >= 4
    found = cells(model, rows, GRID, 192)
    for row in rows:
        assert_slopes(row, found[row.key])


@pytest.mark.slow
def test_adam_saturates_where_sgd_does_not() -> None:
    """Gradients gain N_u^(1/2) under both; under Adam the update stays as it was."""
    grid = [{"N_u": u, "N_x": 8} for u in (64, 256, 1024)]
    rows = (update("y", "W_B+W_out"), Row("W_B", "gradient", 2, (), tag=("W_out",)))
    for optimizer, size in (("sgd", U**HALF), ("adam", ONE)):
        model = resolve("s6:step=fixed", optimizer=optimizer)
        found = cells(model, rows, grid, 256)
        assert_slopes(Row("y", "update", 2, (size,)), found[rows[0].key])
        assert_slopes(Row("W_B", "gradient", 2, (ONE,)), found[rows[1].key])


@pytest.mark.slow
def test_an_intermediate_slope_is_two_terms() -> None:
    """|⟨dy, u⟩| in training drifts from N_u^(-1/2) to 1 (published: −.54, −.30, −.10 at steps 0, 4, 12).

    In between it is the sum of both, each is needed, and neither alone agrees; a wrong exponent is found out.
    """
    model, steps = long_run(), (0, 4, 12)
    program = model.program
    y, u = program.features["y"], program.features["u"]
    weights = {w: program.leaves("weight")[w] for w in ("W_B", "W_C", "W_out")}
    assert program.ops[program.gradients[y]].axes == ("batch", "time", "N_u")
    assert program.ops[u].axes == ("N_u", "batch", "time")
    prefactor, found = 0.02, {k: list[Cell]() for k in steps}
    for number, width in enumerate((32, 64, 128, 256, 512)):
        widths = {"N_u": width, "N_x": 16}
        wanted = [u, program.gradients[y], *(program.gradients[i] for i in weights.values())]
        logs: dict[int, list[torch.Tensor]] = {k: [] for k in steps}
        for seeds, seed in batches(widths, 128, number):
            setting = Setting(widths, seeds, seed)
            values = draw_leaves(program, setting, model.scalings, program.live(wanted))
            optimizer = Training(Plan(model, ()), setting, values, {})
            for k in range(max(steps) + 1):
                now = run(program, values, wanted)
                if k in steps:
                    signal = rms(torch.einsum("sbtu,subt->sbt", now[program.gradients[y]], now[u]))
                    logs[k].append(signal.log())
                values = dict(values)
                for w, i in weights.items():
                    values[i] = values[i] - prefactor * optimizer.update(w, now[program.gradients[i]])
        for k in steps:
            found[k].append(Cell({"N_u": width}, torch.cat(logs[k]).numpy()))
    first, aligned = U**-HALF, ONE
    slopes = [fit(found[k], [first], 1e-3).slopes["N_u"].slope for k in steps]
    assert abs(slopes[0] + 0.5) < 0.05
    assert slopes[0] + 0.1 < slopes[1] < slopes[2] - 0.1
    assert slopes[2] < -0.05  # still between the two
    for k in steps[1:]:
        both = fit(found[k], [first, aligned], 1e-3)
        assert both.unneeded == ()
        assert both.excess["N_u"].low < 0 < both.excess["N_u"].high
    assert sum(misfit(found[k], [first, aligned]) for k in steps[1:]) < LIKELY
    for wrong in ([first], [aligned], [first, U], [U**-1, aligned]):
        assert sum(misfit(found[k], wrong) for k in steps[1:]) > 2 * LIKELY


LIKELY = 40.0  # χ² of twice five cells and two constants lies above it with probability 5e-7


def misfit(found: Sequence[Cell], terms: Sequence[Scale]) -> float:
    """χ² of the cells' mean logs about the best sum of squares of the terms."""
    means = np.array([cell.logs.mean() for cell in found])
    errors = np.array([cell.logs.std(ddof=1) / len(cell.logs) ** 0.5 for cell in found])
    sizes = np.log([[term.at(cell.widths) for term in terms] for cell in found])

    def away(constants: np.ndarray) -> np.ndarray:
        return (np.logaddexp.reduce(2 * (sizes + constants), axis=1) / 2 - means) / errors

    starts = ([0.0] * len(terms), means[0] - sizes[0], means[-1] - sizes[-1])
    return min(float(2 * optimize.least_squares(away, start).cost) for start in starts)
