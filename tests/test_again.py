"""What it takes to refute a row: larger widths.  Sizes are made up from a formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scalecalc.measure import effort, prefactors
from scalecalc.measure import verify as module
from scalecalc.measure.again import excuse_second_orders
from scalecalc.measure.assess import Claim
from scalecalc.measure.contributions import Plan
from scalecalc.measure.interpret import Setting
from scalecalc.scale import Scale
from scalecalc.table import Row, Slope
from scalecalc.verdict import Judgement

KEY = ("h2", "update", 1, ("W_in",))  # derived 1, with N^(-1/2) beside it
Formula = Callable[[int], float]


def judged(monkeypatch: pytest.MonkeyPatch, formula: Formula, **more: Any) -> tuple[Row, set[int]]:
    """h2 by W_in through the whole of verify, and the widths at which it was measured."""
    widths, true = set[int](), module.table_of

    def measure(plan: Plan, setting: Setting) -> dict[Any, torch.Tensor]:
        widths.add(setting.widths["N"])
        noise = 0.2 * np.random.default_rng(setting.seed).standard_normal(setting.seeds)
        size = math.log(formula(setting.widths["N"]))
        return {row.key: torch.as_tensor(size + noise) for row in plan.rows}

    monkeypatch.setattr(
        module, "table_of", lambda found: replace(t := true(found), rows=tuple(r for r in t if r.key == KEY))
    )
    monkeypatch.setattr(effort, "measure", measure)
    monkeypatch.setattr(prefactors, "measure", measure)
    return module.verify("mlp", seeds=400, **more)[KEY[0], "update", "W_in"], widths


def test_what_dies_out_at_larger_widths_refutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """N^(-0.9) up to 256, and a constant from there on."""
    found, widths = judged(monkeypatch, lambda n: min(n, 256) ** -0.9, dims={"N": [32, 64, 128, 256]})
    assert found.verdict == "inconclusive"
    assert "fresh seeds at N up to" in found.settle
    assert max(widths) > 256


@pytest.mark.parametrize("times", [1, 4])
def test_what_stays_refutes(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another exponent, of no term that is known."""
    found, _ = judged(monkeypatch, lambda n: n ** (0.5 * times), dims={"N": [32, 64, 128, 256]})
    assert found.verdict == "disagrees"


@pytest.mark.parametrize(("power", "verdict"), [(-0.5, "inconclusive"), (0.4, "disagrees")])
def test_a_second_order_that_the_first_order_bounds_is_not_refuted(power: float, verdict: str) -> None:
    """Where only what can exceed the first order is followed, N^(-1/2) says nothing against N^(1/2)."""
    terms = {("W",): Scale.one(), ("W", "W"): Scale.of("N", "1/2")}
    rows = [Row("f", "update", 1, (size,), tag) for tag, size in terms.items()]
    judgement = Judgement("disagrees", "", {"N": Slope(power, power - 0.05, power + 0.05)}, ("N",), None)
    run: Any = SimpleNamespace(
        plan=SimpleNamespace(rows=rows),
        judged={rows[1].key: judgement},
        claims={row.key: Claim(row.terms) for row in rows},
        limit=lambda row: 0.1,
        frame=SimpleNamespace(dims=("N",)),
    )
    excuse_second_orders(run)
    assert run.judged[rows[1].key].verdict == verdict
    assert ("not followed" in run.judged[rows[1].key].settle) == (verdict == "inconclusive")
