"""Numbers at the target from numbers at base: only ratios count."""

from __future__ import annotations

import csv
import io
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scalecalc as sc
from scalecalc import cli
from scalecalc.errors import InputError
from scalecalc.numbers import Growth, numbers
from scalecalc.parameterization import Parameterization
from scalecalc.report.numbers import render
from scalecalc.scale import Regime, Scale
from scalecalc.solution import Solution
from scalecalc.table import WeightScaling

ONE = Scale.one()
N, U, X = Scale.of("N"), Scale.of("N_u"), Scale.of("N_x")
HALF = Fraction(1, 2)


def mlp(**more: object) -> Parameterization:
    scalings = {
        "W_in": WeightScaling(ONE, ONE, ONE),
        "W_2": WeightScaling(N**-HALF, ONE, N**-1, weight_decay=N, epsilon=N**-1),
        "W_out": WeightScaling(ONE, N**-1, ONE, weight_decay=ONE, epsilon=N**-1),
        "gain": WeightScaling(ONE, ONE, ONE),
    }
    axes = {"W_in": ("N", ""), "W_2": ("N", "N"), "W_out": ("", "N"), "gain": ("N",)}
    return Parameterization("mine", "adamw", ("N",), scalings, axes, frozenset({"gain"}))


def test_by_hand() -> None:
    found = numbers(mlp(), base={"N": 64}, target={"N": 1024}, lr=0.01, std={"W_in": 0.5})
    assert found.base["W_2"].std == 1 / 8
    assert found["W_2"].std == 1 / 32
    assert found["W_2"].lr == 0.01 / 16
    assert found["W_in"] == found.base["W_in"]
    assert found["W_in"].std == 0.5
    assert (found.base["W_out"].multiplier, found["W_out"].multiplier) == (1.0, 1 / 16)
    assert found["W_out"].std == found.base["W_out"].std == 1 / 8
    assert found["gain"].std is None  # exact entries have no size to scale
    assert found["W_2"].weight_decay is None is found["W_2"].epsilon


def test_decay_and_epsilon() -> None:
    decay = {"W_2": 0.1, "W_*": 0.2, "*": 0.0}
    with pytest.raises(InputError, match="does not say how weight decay scales"):
        numbers(mlp(), base={"N": 64}, target={"N": 1024}, lr=0.01, weight_decay=decay)  # W_in has no such exponent
    decay["W_in"] = 0.0
    found = numbers(mlp(), base={"N": 64}, target={"N": 1024}, lr=0.01, weight_decay=decay)
    assert found["W_2"].weight_decay == pytest.approx(1.6)
    assert found["W_out"].weight_decay == 0.2
    assert found["gain"].weight_decay == 0.0
    with pytest.raises(InputError, match=r"does not say how ε scales.*eps=1e-08"):
        numbers(mlp(), base={"N": 64}, target={"N": 1024}, lr=0.01, eps=1e-8)


@given(
    st.integers(2, 4096), st.integers(2, 4096), st.integers(2, 4096),
    st.fractions(-2, 2, max_denominator=6), st.fractions(-2, 2, max_denominator=6), st.floats(1e-6, 1e3),
)  # fmt: skip
def test_growing_twice_is_growing_once(a: int, b: int, c: int, power: Fraction, log: Fraction, lr: float) -> None:
    p = Parameterization("p", "sgd", ("N",), {"W": WeightScaling(ONE, ONE, N**power * Scale.log("N") ** log)}, {})
    first = numbers(p, base={"N": a}, target={"N": b}, lr=lr, std=1.0)
    then = numbers(p, base={"N": b}, target={"N": c}, lr=first["W"].lr, std=1.0)
    whole = numbers(p, base={"N": a}, target={"N": c}, lr=lr, std=1.0)
    assert math.isclose(then["W"].lr, whole["W"].lr, rel_tol=1e-12)
    assert math.isclose(whole["W"].lr, lr * p["W"].lr.at({"N": c}) / p["W"].lr.at({"N": a}), rel_tol=1e-9)


@given(st.integers(1, 4096), st.fractions(-2, 2, max_denominator=6), st.floats(1e-9, 1e9))
def test_base_is_base_to_the_bit(width: int, power: Fraction, lr: float) -> None:
    p = Parameterization("p", "sgd", ("N",), {"W": WeightScaling(N**power, N, N**power * Scale.log("N"))}, {})
    found = numbers(p, base={"N": width}, target={}, lr=lr, std=0.3)
    assert found["W"] == found.base["W"]
    assert found["W"].lr == lr


def test_logs_are_ratios_of_logs() -> None:
    growth = Growth({"N": 16}, {"N": 256})
    assert growth.factor(Scale.log("N", -1)) == 0.5
    with pytest.raises(InputError, match="log 1 is 0"):
        Growth({"N": 1}, {"N": 256}).factor(Scale.log("N"))
    with pytest.raises(InputError, match="the width itself is needed"):
        Growth({}, {}, {"N": Fraction(2)}).factor(Scale.log("N"))


def test_a_dim_that_is_not_given_stays() -> None:
    p = Parameterization("p", "sgd", ("N_u", "N_x"), {"W": WeightScaling(ONE, ONE, U * X)}, {})
    assert numbers(p, base={"N_u": 4}, target={"N_u": 8}, lr=1.0, std=1.0)["W"].lr == 2.0
    assert numbers(p, base={"N_u": 4, "N_x": 4}, target={"N_x": 8}, lr=1.0, std=1.0)["W"].lr == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": {"M": 64}}, "base: there is no growing dim 'M'; the dims: N"),
        ({"target": {"M": 64}}, "target: there is no growing dim 'M'"),
        ({"base": {}}, "N: given at the target but not at base"),
        ({"base": {"N": 0}}, "base: N is a whole number above zero, not 0"),
        ({"target": {"N": 64.0}}, "not 64.0"),
        ({"base": {"N": True}}, "not True"),
        ({"lr": 0.0}, "lr is a number above zero"),
        ({"lr": float("nan")}, "lr is a finite number"),
        ({"lr": "1e-3"}, "lr is a finite number"),
        ({"lr": {"W_in": 1.0}}, "lr: nothing is given for W_2"),
        ({"lr": {"*": 1.0, "V_*": 1.0}}, "lr: V_\\* matches no weight; the weights: W_in, W_2, W_out, gain"),
        ({"std": -1.0}, "std is a number above zero"),
        ({"weight_decay": -0.1}, "weight_decay is a number not below zero"),
        ({"target": {}, "base": {}}, "the initial std of W_2 is N\\^\\(-1/2\\) unless given"),
    ],
)
def test_what_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        numbers(mlp(), **{"base": {"N": 64}, "target": {"N": 128}, "lr": 0.1, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("regime", "target", "note"),
    [
        ("proportional", {"N_u": 512, "N_x": 32}, None),
        ("proportional", {"N_u": 1024, "N_x": 63}, None),
        ("proportional", {"N_u": 512}, "solve with --fix N_x=16"),
        ("proportional", {"N_u": 1024, "N_x": 32}, "N_u 4-fold, N_x 2-fold: solve with --regime N_x=N_u^1/2"),
        ("N_x=N_u^1/2", {"N_u": 1024, "N_x": 32}, None),
        ("free", {"N_u": 1024}, None),
        ("proportional", {}, None),
    ],
)
def test_widths_that_grow_in_another_way_are_remarked(regime: str, target: dict[str, int], note: str | None) -> None:
    p = Solution("p", "sgd", ("N_u", "N_x"), {"W": WeightScaling(ONE, ONE, U)}, {}, regime=Regime.parse(regime))
    found = numbers(p, base={"N_u": 256, "N_x": 16}, target=target, lr=1.0, std=1.0)
    assert (note is None) == (found.notes == ())
    assert note is None or note in found.notes[0]


def test_every_format() -> None:
    found = numbers(mlp(), base={"N": 64}, target={"N": 1024}, lr=0.01)
    for format in ("table", "markdown", "latex"):
        text = render(found, format)
        assert "0.000625" in text
        assert "multiplier" in text
        assert "exact" in text
    assert "The fan-in of W_in does not grow" in render(found, "table", width=200)
    lines = list(csv.DictReader(io.StringIO(render(found, "csv"))))
    assert {(r["weight"], r["quantity"]): float(r["target"]) for r in lines if r["quantity"] == "lr"} == {
        (w, "lr"): v.lr for w, v in found.items()
    }
    data = json.loads(render(found, "json"))
    assert data["numbers"]["W_2"]["std"] == [0.125, 0.03125]
    assert data["numbers"]["gain"]["std"] == [None, None]
    assert data["parameterization"]["W_2"]["lr"] == {"N": "-1"}
    frame = found.to_pandas()
    assert set(frame.quantity) == {"std", "multiplier", "lr"}


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["solve", "mlp", "--base", "N=256", "--target", "N=4096", "--lr", "3e-4", "--lr", "W_out=1e-3"]
    assert cli.main([*arguments, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    found = sc.numbers(sc.solve("mlp"), base={"N": 256}, target={"N": 4096}, lr={"*": 3e-4, "W_out": 1e-3})
    assert {w: v["lr"][1] for w, v in data["numbers"].items()} == {w: v.lr for w, v in found.items()}
    assert found["W_2"].lr == 3e-4 / 16
    assert cli.main(arguments) == 0
    assert "1.875e-05" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base", "N=256"], "--target and --lr must be given, too"),
        (["--lr", "0.1"], "--base and --target must be given, too"),
        (["--base", "N", "--target", "N=4", "--lr", "1"], "--base 'N' is malformed; write --base N_x=16"),
        (["--base", "N=4", "--target", "N=8", "--lr", "x"], "--lr 'x' is malformed"),
        (["--base", "N=4", "--target", "N=8", "--lr", "1", "--std", "-1"], "--std '-1' is malformed"),
        (["--base", "N=4", "--target", "N=8", "--lr", "1", "--lr", "2"], "--lr gives all weights twice"),
        (["--base", "N=4", "--target", "M=8", "--lr", "1"], "there is no growing dim 'M'"),
    ],
)
def test_the_command_line_refuses(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["solve", "mlp", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_published_parameterization_by_name() -> None:
    p = sc.parameterize("mlp", "mup", optimizer="sgd")
    assert p.axes == {"W_in": ("N", ""), "W_2": ("N", "N"), "W_out": ("", "N")}
    assert p["W_out"].lr is N**-1
    assert sc.parameterize("s6", "mup", skip=True).exact == {"D"}
    assert sc.solve("s6", step="fixed", skip=True, steps=1).exact == {"D"}
