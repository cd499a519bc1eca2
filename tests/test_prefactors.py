"""Rows that hide at prefactors of one are found where they show, and nowhere if there is nothing: sizes from formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from scalecalc.measure import effort, prefactors
from scalecalc.measure import verify as module
from scalecalc.measure.contributions import Key, Plan
from scalecalc.measure.interpret import Setting
from scalecalc.measure.prefactors import Elsewhere
from scalecalc.table import Row, Table

KEY: Key = ("h2", "update", 1, ("W_in",))  # derived Θ(1), and a smaller term N^(−1/2) is known
Formula = Callable[[int, Callable[[str], float]], float]  # of N and of every weight's prefactor


def verified(monkeypatch: pytest.MonkeyPatch, formula: Formula, scatter: float = 0.2) -> Table:
    """The whole of verify for one row and a plain one."""

    def measure(plan: Plan, setting: Setting) -> dict[Key, torch.Tensor]:
        rng = np.random.default_rng(setting.seed)

        def factors(name: str) -> float:
            return setting.prefactors.get(name, 1.0)

        sizes = {key: formula(setting.widths["N"], factors) if key == KEY else 1.0 for key in plan.keys}
        return {key: torch.as_tensor(math.log(s) + scatter * rng.standard_normal(setting.seeds)) for key, s in sizes.items()}

    true = module.table_of
    kept = {KEY, ("h1", "init", 0, ())}
    monkeypatch.setattr(
        module, "table_of", lambda found: replace(t := true(found), rows=tuple(r for r in t if r.key in kept))
    )
    monkeypatch.setattr(effort, "measure", measure)
    monkeypatch.setattr(prefactors, "measure", measure)
    return module.verify("mlp", optimizer="adam", seeds=200, dims={"N": [64, 128, 256, 512]})


def row(table: Table) -> Row:
    return next(r for r in table if r.key == KEY)


def told(table: Table) -> list[str]:
    return [note for note in table.notes if "measured with" in note]


def both(large: float, small: float) -> float:
    return math.hypot(large, small)


def test_a_hidden_term_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of the other at prefactors of one; W_2 and W_out matter, W_in makes both larger alike."""
    table = verified(monkeypatch, lambda n, f: f("W_in") * both(0.001 * f("W_2") * f("W_out"), n**-0.5))
    assert row(table).verdict == "agrees"
    (note,) = told(table)
    assert "W_2 ×" in note
    assert "W_out ×" in note
    assert "W_in" not in note.split("measured")[1]
    assert abs(row(table).measured["N"].slope) < 0.1  # type: ignore[index]
    assert all(abs(p.log - q.log) < 0.2 for p, q in zip(row(table).points, row(table).points[1:], strict=False))


def test_a_term_that_is_not_there_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    table = verified(monkeypatch, lambda n, f: f("W_2") * f("W_in") ** 2 / f("W_out") * n**-0.5)
    assert row(table).verdict == "disagrees"
    assert not told(table)


@pytest.mark.parametrize("true", [1 / 8, 1 / 4, 1 / 2])
def test_a_mixture_is_not_taken_for_a_term(true: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truth: a larger power, hidden behind N^(−1/2).  On the way to it the slope is 0, as derived, for some prefactors.

    N^(1/4) bends too much there to be taken for 0, N^(1/8) does not.
    """

    def size(n: int, f: Callable[[str], float]) -> float:
        return both(0.001 * f("W_out") * n**true, n**-0.5)

    assert row(verified(monkeypatch, size, scatter=0.1)).verdict != "agrees"


def test_only_rows_that_may_hide_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What grows faster than derived does not hide behind anything smaller."""
    monkeypatch.setattr(prefactors._Search, "found", None)
    assert row(verified(monkeypatch, lambda n, f: n**0.5)).verdict == "disagrees"


def test_words() -> None:
    found = Elsewhere({"W_q": 64.0, "W_out": 0.25}, (), None)  # type: ignore[arg-type]
    assert str(found) == "with W_q × 64, W_out × 0.25"


def test_prefactors_multiply_what_is_drawn() -> None:
    from scalecalc.derive import resolve
    from scalecalc.measure.interpret import draw_leaves

    model = resolve("mlp", optimizer="sgd")
    program = model.program

    def drawn(factors: Mapping[str, float]) -> list[torch.Tensor]:
        setting = Setting({"N": 8}, 2, 0, prefactors=factors)
        return [*draw_leaves(program, setting, model.scalings, program.live(range(len(program.ops)))).values()]
    (before, after) = drawn({}), drawn({"W_2": 4.0})
    assert [round(float((b / a).mean()), 6) for a, b in zip(before, after, strict=True)].count(4.0) == 1
