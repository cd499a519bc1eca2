"""Where the asymptotics along the states begin (hard case W8), and a dim held at one width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import scalecalc as sc
from scalecalc.crossover import Crossover, crossovers, typical, unless_a_minimum, unless_too_narrow
from scalecalc.errors import InputError
from scalecalc.model import resolve
from scalecalc.program import Program
from scalecalc.rule import registry
from scalecalc.scale import Scale
from scalecalc.table import Row, Slope

registry("rule")  # so that rule files can be imported


def found(widths: list[int], **options: object) -> dict[str, Crossover]:
    return {c.name: c for c in crossovers(resolve("s6", options=options).program, {"N_x": widths})}


def test_mambas_steps_begin_late() -> None:
    """Δ from 10⁻³ to 10⁻¹: the decay e^(−nΔ) falls faster than 1/n from n = 1/Δ on, between 10 and 1000."""
    decay, factor = found([16, 4096], step="mamba").values()
    assert decay.index == pytest.approx((10, 1000), rel=0.01)
    assert decay.step == pytest.approx(0.01, rel=1e-3)
    # 1/n within 0.1: nΔ e^(−nΔ) / (1 − e^(−nΔ)) = 0.1 at nΔ = 3.6
    assert factor.index == pytest.approx((36, 3615), rel=0.1)
    assert "N_x = 16 is below the crossover of the input factor" in factor.note([16, 4096])
    assert factor.note([4096]) == ""


def test_the_local_slope_is_that_of_numbers() -> None:
    """Of the root of Σ_n B̄_n² at Δ = 0.01: nearly N^(1/2) at 16, flat at 4096."""
    slopes = found([16, 256, 4096], step="mamba")["the input factor"].slopes
    for width, slope in slopes.items():
        n = np.arange(2 * width) + 1
        sums = np.cumsum(((1 - np.exp(-0.01 * n)) / n) ** 2)
        low, high = round(width / 2**0.5), round(width * 2**0.5)
        assert slope == pytest.approx(0.5 * np.log(sums[high - 1] / sums[low - 1]) / np.log(high / low), abs=0.01)
    assert slopes[16] > 0.4
    assert slopes[4096] < 0.05


def test_steps_of_order_one_begin_at_once() -> None:
    assert all(c.note([16]) == "" for c in found([16]).values())
    assert all(c.note([16]) == "" for c in found([16], discretization="mamba", transition="constant").values())


@pytest.mark.parametrize("transition", ["s4d_lin", "s4d_inv"])
def test_what_turns_has_its_crossover_where_its_modulus_has(transition: str) -> None:
    """|e^(ΔA) − 1| / |A| is flat up to |A| ~ 1/Δ, which S4D-Lin reaches at n = 1/(πΔ)."""
    low, high = found([16], step="mamba", transition=transition)["the input factor"].index
    assert 1 < low < 1000 < high < 100_000
    assert high / low == pytest.approx(100, rel=0.6)


def test_the_median_of_a_step() -> None:
    p = resolve("s6").program
    step = next(op.inputs[0] for op in p.ops if op.rule == "zoh")
    assert typical(p, step, 0.5) == pytest.approx(np.log(1 + np.e))
    q = Program("q", dims=("N",))
    x = q.input("x", "N")
    assert typical(q, (x * x).index, 0.5) is None  # a product of activations has no median that is known


def test_a_row_that_rests_on_late_asymptotics_is_not_refuted() -> None:
    measured = {"N_x": Slope(0.3, 0.25, 0.35)}
    row = Row("y", "init", 0, (Scale.one(),), verdict="disagrees", settle="N_x: 0.3.", measured=measured)
    found = unless_too_narrow(row, "N_x = 16 is below the crossover.", 0.6)
    assert (found.verdict, found.settle) == ("inconclusive", "N_x: 0.3. But N_x = 16 is below the crossover.")
    assert unless_too_narrow(row, "", 0.6) == row
    assert unless_too_narrow(row, "late", 0.2) == row  # off by more than late asymptotics explain
    assert unless_too_narrow(replace(row, verdict="agrees"), "late", 0.6) == replace(row, verdict="agrees")


def test_a_size_that_stands_for_the_smaller_of_two_is_not_refuted_by_the_other() -> None:
    words = ("rank min(E, N), which is no power: E is taken, an upper bound",)
    for slope, verdict in ((0.03, "inconclusive"), (-0.5, "disagrees")):  # derived 1/2: off by the other's 1/2, and by more
        measured = {"E": Slope(slope, slope - 0.05, slope + 0.05)}
        row = Row("y", "update", 1, (Scale.of("E", "1/2"),), ("W",), verdict="disagrees", measured=measured)
        assert unless_a_minimum(row) == row
        assert unless_a_minimum(replace(row, assumptions=words)).verdict == verdict


# ---------------------------------------------------------------------- a dim held fixed


def test_a_dim_held_fixed_is_in_no_exponent() -> None:
    held, free = sc.derive("s6", fix={"N_x": 16}, step="mamba"), sc.derive("s6", step="mamba")
    assert held.dims == ("N_u",)
    assert not any("N_x" in t.dims for row in held for t in row.terms)
    for row in held:
        if row.kind in ("init", "weight"):
            assert row.terms[0].power("N_u") == free[row.row, row.kind].terms[0].power("N_u")
    assert held.notes[0] == "N_x is held at 16; no size has an exponent in it."
    assert "below the crossover of the input factor" in " ".join(held.notes)
    assert not any("crossover" in note or "held" in note for note in free.notes)


def test_roles_when_a_dim_is_held() -> None:
    """A weight whose growing side is held fixed becomes what is left: W_in of no growing axis is a vector."""
    weights = resolve("s6", fix={"N_u": 64}).program.weights
    assert {name: w.role for name, w in weights.items()} == {
        "W_in": "vector", "W_B": "selection_B", "W_C": "selection_C", "W_Delta": "vector", "W_out": "vector",
    }  # fmt: skip
    assert (str(weights["W_B"].fan_in), str(weights["W_B"].fan_out)) == ("1", "N_x")


@pytest.mark.parametrize(
    ("fix", "message"),
    [({"N_y": 3}, "no growing dim 'N_y'"), ({"N_x": 0}, "above zero"), ({"N_x": 3, "N_u": 4}, "leave one to grow")],
)
def test_what_cannot_be_held(fix: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sc.derive("s6", fix=fix)


@pytest.mark.slow
@pytest.mark.parametrize("transition", ["mamba", "s4d_lin"])
def test_a_model_with_a_dim_held_is_measured(transition: str) -> None:
    table = sc.verify("s6", fix={"N_x": 12}, dims={"N_u": [32, 96, 288]}, seeds=128, step="fixed", transition=transition)
    assert table.counts()["disagrees"] == 0
    assert table.counts()["agrees"] >= 10


@pytest.mark.slow
def test_widths_below_the_crossover_refute_nothing() -> None:
    """With mamba's steps the slopes in N_x are not the derived ones below N_x ~ 1000: no verdict, and a note says why."""
    table = sc.verify("s6", step="mamba", dims={"N_u": [32, 64], "N_x": [8, 16, 32]}, seeds=200)
    assert table.counts()["disagrees"] == 0
    assert any("is below the crossover" in row.settle or "did not confirm it" in row.settle for row in table)
    assert any("is below the crossover" in note for note in table.notes)
