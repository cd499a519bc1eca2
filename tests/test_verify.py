"""The main job on small widths: verdicts, effort, interruption, resumption, bad requests."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scalecalc.errors import InputError, MeasureError
from scalecalc.measure import effort as module
from scalecalc.measure.contributions import Plan, measure
from scalecalc.measure.interpret import Setting
from scalecalc.measure.verify import Interrupted, verify
from scalecalc.model import parameterize, resolve
from scalecalc.scale import Scale
from scalecalc.table import Table

SMALL: dict[str, Any] = {"dims": {"N": [32, 64, 128]}, "seeds": 64}


@pytest.fixture(scope="module")
def table() -> Table:
    return verify("mlp", **SMALL)


def test_nothing_that_was_measured_contradicts_the_rules(table: Table) -> None:
    assert table.counts()["disagrees"] == 0
    assert all(row.verdict for row in table)
    assert all(row.measured and set(row.measured) == {"N"} for row in table)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("parameterization", ["sp", "ntp", "mfp", "mup"])
def test_the_control_is_confirmed_under_every_parameterization(parameterization: str, optimizer: str) -> None:
    found = verify("mlp", parameterization=parameterization, optimizer=optimizer, budget=20.0)
    assert found.counts()["disagrees"] == 0
    assert found.counts()["agrees"] >= 0.9 * len(found)


@pytest.mark.slow
def test_the_logarithm_is_seen_not_taken_for_a_power() -> None:
    """Under Adam y moves by log N_x through W_B; measured over widths where a constant would be refuted."""
    dims = {"N_u": [32, 96], "N_x": [16, 64, 256, 1024]}
    found = verify("s6:step=fixed", optimizer="adam", dims=dims, seeds=256)
    row = found["y", "update", "W_B"]
    assert row.theta is not None
    assert str(row.theta) == "log N_x"
    assert row.verdict != "disagrees"
    assert row.measured is not None
    assert row.measured["N_x"].low > 0.02


def test_seeds_are_reproducible_and_fresh_at_every_width() -> None:
    one, two = (verify("mlp:depth=1", **SMALL, seed=3) for _ in range(2))
    other = verify("mlp:depth=1", **SMALL, seed=4)
    slopes = [[row.measured["N"].slope for row in t if row.measured] for t in (one, two, other)]
    assert slopes[0] == slopes[1] != slopes[2]


def test_first_order_is_linear_in_the_update_and_the_second_quadratic() -> None:
    """Ten times the rate: the first order grows tenfold, and no prefactor of ours changes either."""
    from scalecalc.derive import interpret, resolve, table_of
    from scalecalc.scale import FREE, Scale

    model = resolve("mlp:activation=tanh", parameterization="mup", optimizer="sgd")
    plan = Plan(model, table_of(interpret(model, FREE)).rows)
    setting = Setting({"N": 16}, 8, 0)
    before = measure(plan, setting)
    faster = {w: replace(s, lr=s.lr * Scale.of("N", 1)) for w, s in model.scalings.items()}
    after = measure(replace(plan, model=replace(model, scalings=faster)), setting)
    for key, logs in before.items():
        if key[1] == "update":
            torch.testing.assert_close(after[key], logs + math.log(16), rtol=1e-4, atol=1e-4)


def test_interruption_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, true, calls = tmp_path / "kept.npz", module.draw, []

    def draw(*args: Any, **more: Any) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        true(*args, **more)

    monkeypatch.setattr(module, "draw", draw)
    with pytest.raises(Interrupted) as stop:
        verify("mlp:depth=1", dims=SMALL["dims"], budget=30.0, resume=file)
    assert stop.value.exit_status == 130
    assert all(row.verdict for row in stop.value.table)
    monkeypatch.setattr(module, "draw", true)
    again = verify("mlp:depth=1", dims=SMALL["dims"], seeds=module.PILOT, resume=file)
    drawn = again.options["seeds"]
    assert drawn == stop.value.table.options["seeds"], "nothing is measured twice"
    assert min(drawn.values()) >= module.PILOT


def test_resume_refuses_the_samples_of_another_run(tmp_path: Path) -> None:
    file = tmp_path / "kept.npz"
    verify("mlp:depth=1", **SMALL, resume=file)
    with pytest.raises(InputError, match=r"samples of another run \(it differs in .*optimizer"):
        verify("mlp:depth=1", **SMALL, optimizer="sgd", resume=file)
    (tmp_path / "text").write_text("not samples")
    with pytest.raises(InputError, match="no file of samples"):
        verify("mlp:depth=1", **SMALL, resume=tmp_path / "text")


def test_resume_tells_a_decay_from_an_epsilon(tmp_path: Path) -> None:
    """Of one size: a decay without an ε is not an ε without a decay."""
    usual, run = resolve("mlp:depth=1", optimizer="adam"), {**SMALL, "optimizer": "adam", "resume": tmp_path / "kept.npz"}
    first, second = (
        replace(parameterize("mlp:depth=1", "mup", optimizer="adam"), scalings={
            w: replace(s, **{quantity: Scale.of("N", -1)}) for w, s in usual.scalings.items()
        })
        for quantity in ("weight_decay", "epsilon")
    )  # fmt: skip
    verify("mlp:depth=1", parameterization=first, **run)
    with pytest.raises(InputError, match="samples of another run \\(it differs in scalings"):
        verify("mlp:depth=1", parameterization=second, **run)


def test_a_non_finite_measurement_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(plan: Plan, setting: Setting) -> dict[Any, torch.Tensor]:
        found = measure(plan, setting)
        if setting.widths["N"] == 128:
            found = {key: torch.full_like(v, math.nan) if key[0] == "f" else v for key, v in found.items()}
        return found

    monkeypatch.setattr(module, "measure", overflowing)
    found = verify("mlp:depth=1", **SMALL)
    row = found["f", "init"]
    assert row.verdict == "inconclusive"
    assert "not finite at N=128" in row.settle or "finite" in row.settle
    assert found["h1", "init"].verdict is not None


@pytest.mark.parametrize(("stages", "verdict"), [(("first",), "inconclusive"), (("first", "again"), "disagrees")])
def test_disagreement_is_confirmed_on_fresh_seeds(
    stages: tuple[str, ...], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong measurement in the first stage alone is not believed; in both it is."""
    true = module._batch

    def shifted(run: Any, plan: Plan, k: int, batch: int, size: int, stage: str) -> Any:
        k, batch, found = true(run, plan, k, batch, size, stage)
        lift = np.log(run.cells[k]["N"]) * (stage in stages)
        return k, batch, {key: v + lift if key[:2] == ("h1", "init") else v for key, v in found.items()}

    monkeypatch.setattr(module, "_batch", shifted)
    row = verify("mlp:depth=1", **SMALL)["h1", "init"]
    assert row.verdict == verdict, row.settle


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"dims": {"N_x": [8, 16]}}, InputError, "no growing dim 'N_x'; its dims: N"),
        ({"dims": {"N": [64]}}, InputError, "at least two widths"),
        ({"dims": {"N": [2**19, 2**20]}}, MeasureError, "GiB"),
        ({"regime": "N_u>N_x"}, InputError, "The model's dims: N"),
        ({"device": "cuda:7"}, InputError, "--device cuda:7"),
    ],
)
def test_bad_requests_say_what_to_do(more: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        verify("mlp", **{**SMALL, **more})


SQUARED = """
import sympy as sp
from scalecalc.program import Program
from scalecalc.rules.elementwise import square
from scalecalc.rules.matmul import matmul

def net():
    p = Program("net", dims=("N",), fixed={"batch": 4, "in": 8, "out": 4})
    h = p.feature("h", matmul(p.weight("W", "N in", init=sp.Integer(0)), p.input("x", "batch in")))
    y = p.feature("y", square(h))
    p.end(matmul(p.weight("V", "out N"), h + y))
    return p
"""


def test_a_feature_that_is_exactly_zero_at_first(tmp_path: Path) -> None:
    """W = 0: the square of h moves in second order alone, which has no initial size to be relative to."""
    file = tmp_path / "squared.py"
    file.write_text(SQUARED)
    found = verify(f"{file}:net", parameterization="sp", optimizer="sgd", dims={"N": [32, 128, 512]}, seeds=2000)
    rows = {row.tag: row for row in found if row.kind == "update" and row.row == "y"}
    assert rows[("W",)].terms == ()
    assert rows[("W", "W")].formula() == "N^(-1)"
    assert {row.verdict for row in rows.values()} == {"agrees"}
