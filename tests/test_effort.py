"""Where effort goes, and what it takes for a row of several terms: sizes made up from a formula, so that nothing is slow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scalecalc.measure import effort
from scalecalc.measure.assess import assess as true
from scalecalc.measure.contributions import Plan
from scalecalc.measure.interpret import Setting
from scalecalc.measure.paths import grid
from scalecalc.measure.verify import FAMILY_ERROR, verify
from scalecalc.table import Row, Table

KEY = ("B", "update", 1, ("W_in",))
Formula = Callable[[Mapping[str, int]], float]


def made_up(special: Mapping[Any, Formula], scatter: float = 0.3) -> Callable[[Plan, Setting], dict[Any, torch.Tensor]]:
    """Sizes as derived, with all constants one, but for the rows given."""

    def size(row: Row, widths: Mapping[str, int]) -> float:
        formula = special.get(row.key)
        return formula(widths) if formula else math.sqrt(sum(t.at(widths) ** 2 for t in row.terms))

    def measure(plan: Plan, setting: Setting) -> dict[Any, torch.Tensor]:
        rng = np.random.default_rng(setting.seed)
        return {
            row.key: torch.as_tensor(math.log(size(row, setting.widths)) + scatter * rng.standard_normal(setting.seeds))
            for row in plan.rows
        }

    return measure


def run(monkeypatch: pytest.MonkeyPatch, formula: Formula, regime: str = "free", **more: Any) -> Table:
    """Only the row B by W_in and a plain one, through the whole of verify."""
    from scalecalc.measure import verify as module

    true = module.table_of
    monkeypatch.setattr(
        module, "table_of", lambda found: replace(t := true(found), rows=tuple(r for r in t if r.key == KEY or r.row == "u"))
    )
    monkeypatch.setattr(effort, "measure", made_up({KEY: formula}))
    monkeypatch.setattr(effort, "LONGEST", 9)
    return verify("s6", regime=regime, **({"budget": 4.0} | more))


def row(table: Table) -> Row:
    return next(r for r in table if r.key == KEY)


def two_terms(u: float, x: float) -> Formula:
    return lambda n: math.sqrt(u * n["N_u"] + x * n["N_x"])


@pytest.mark.slow
def test_a_row_of_two_terms_agrees_where_each_shows_on_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    found = row(run(monkeypatch, two_terms(1, 7), budget=10.0))
    assert found.verdict == "agrees", found.settle
    assert found.measured is not None
    assert all(found.measured[d].slope == pytest.approx(0.5, abs=0.07) for d in ("N_u", "N_x"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "formula",
    [
        lambda n: (n["N_u"] * n["N_x"]) ** 0.25,  # between the two
        two_terms(1, 0),  # a term that is not there
        two_terms(0, 1),
        lambda n: math.sqrt(n["N_u"] ** 1.5 + n["N_x"]),  # another exponent
        lambda n: math.sqrt(n["N_u"] * n["N_x"] ** 0.5 + n["N_x"]),  # seen only where the other dim is varied on a path
    ],
)
def test_it_does_not_agree_otherwise(formula: Formula, monkeypatch: pytest.MonkeyPatch) -> None:
    found = row(run(monkeypatch, formula))
    assert found.verdict in ("inconclusive", "disagrees")
    assert found.settle


def test_without_its_paths_a_row_of_several_terms_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed number of seeds measures the settings asked for and no others."""
    found = run(monkeypatch, two_terms(1, 7), seeds=600)
    assert row(found).verdict == "inconclusive"
    assert "is not measured where it leads: --budget 240 instead of --seeds" in row(found).settle
    assert found["u", "init"].verdict == "agrees"
    assert set(found.options["seeds"]) == {effort.cell_text(cell) for cell in grid(found.options["dims"])}


@pytest.mark.parametrize(
    ("regime", "formula", "verdict", "dims"),
    [
        ("proportional", two_terms(1, 7), "agrees", {"N_u"}),
        ("proportional", lambda n: float(n["N_u"]), "disagrees", {"N_u"}),
        ("N_x=N_u^1/2", two_terms(1, 0.1), "agrees", {"N_u"}),
        ("N_u>N_x", two_terms(1, 0.1), "agrees", {"N_u", "N_x"}),
        ("N_u>N_x", two_terms(1, 400), "inconclusive", {"N_u", "N_x"}),  # not N_u ≫ N_x yet
        ("N_x>N_u", two_terms(0.1, 1), "agrees", {"N_u", "N_x"}),
    ],
)
def test_regimes(
    regime: str, formula: Formula, verdict: str, dims: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = row(run(monkeypatch, formula, regime, seeds=4000))
    assert found.verdict == verdict, found.settle
    assert set(found.measured or ()) == dims


def test_every_look_at_every_row_and_path_has_its_share_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []

    def assess(cells: Any, claim: Any, alpha: float, limit: float) -> Any:
        shares.append(alpha)
        return true(cells, claim, alpha, limit)

    monkeypatch.setattr(effort, "assess", assess)
    table = run(monkeypatch, two_terms(1, 7), seeds=100)
    intervals = sum(1 + (2 if len(r.terms) > 1 else 1 if r.subleading else 0) for r in table) * 2
    assert shares
    assert all(share == pytest.approx(FAMILY_ERROR / (intervals * effort.LOOKS)) for share in shares)


class Named:
    """A row by its key alone."""

    def __init__(self, key: str):
        self.key, self.terms, self.tag = key, ("1",), ()


def test_what_is_drawn_to_time_rows_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, made = dict[str, int](), made_up({})

    def measure(plan: Plan, setting: Setting) -> dict[Any, torch.Tensor]:
        cell = effort.cell_text(setting.widths)
        drawn[cell] = drawn.get(cell, 0) + setting.seeds
        return made(plan, setting)

    monkeypatch.setattr(effort, "measure", measure)
    monkeypatch.setattr(effort, "ROUNDS", ())
    table = verify("mlp:depth=1", budget=1.0)
    assert table.options["seeds"] == drawn
    assert min(drawn.values()) >= effort.PILOT


def test_rows_out_of_reach_do_not_keep_others_from_being_decided() -> None:
    """Seeds go to the rows that the time left decides; where it decides none, to the one that is nearest."""

    known: Any = SimpleNamespace(
        cost={(0, frozenset({"near", "far"})): 0.01},
        common=1,
        workers=1,
        need={"near": 3.0, "far": 15.0},
        get=lambda *_: [0.0] * 100,
    )
    rows: Any = [Named("near"), Named("far")]

    def chosen(seconds: float, number: int = 1) -> list[str]:
        return [r.key for r in effort._on_grid(known, rows, number, seconds)]

    assert chosen(100.0) == ["near", "far"]
    assert chosen(2.0) == ["near"]
    assert chosen(0.01) == ["near"]
    assert chosen(5.0, number=0) == ["near", "far"]  # what a row needs is known roughly at first


def test_a_setting_of_a_path_with_a_handful_of_seeds_does_not_count() -> None:
    """Two seeds on a path, where the time ran out, made the interval by all settings ten million wide."""
    counts = [2, 2, effort.FEWEST - 1, effort.FEWEST]
    run: Any = SimpleNamespace(
        common=1,
        cells=[{"N": 2**k} for k in range(4)],
        frame=SimpleNamespace(place=dict),
        get=lambda _, k, key: np.zeros(counts[k]),
    )
    found = effort.cells_of(run, SimpleNamespace(key=KEY), "first", range(4))  # type: ignore[arg-type]
    assert [len(cell.logs) for cell in found] == [2, effort.FEWEST]
