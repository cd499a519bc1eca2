"""The time-invariant layer with dense input and output maps: solved, held against what is published, and measured.

Published (with the SSM paper's targets, at initialisation): σ_B = (N_x/N_u)^(1/2), σ_C = N_x^(-1/2), SGD rates
η_B = N_x/N_u^(1/2) and η_C = N_u/N_x.  Once the readout has moved the sum ⟨dy, W_C ·⟩ that W_B learns from is coherent, and
what holds then is η_B = N_x/N_u, smaller by N_u^(1/2).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import S
from test_survived import agrees, path, tabulated

from scalecalc.derive import Model, resolve
from scalecalc.solution import Solution
from scalecalc.solve import solve

TARGETS = ["rms h = 1", "rms y = 1"]
INITS = {"W_B": "N_x^1/2 N_u^-1/2", "W_C": "N_x^-1/2"}


def solved(optimizer: str, steps: int = 2) -> Solution:
    return solve("lti", optimizer=optimizer, steps=steps, require=TARGETS)


def model(p: Solution) -> Model:
    found = resolve("lti", parameterization=p)
    found.program.fixed.update({"batch": 2, "in": 8, "out": 1})
    return found


def test_the_published_scaling_is_that_of_the_first_step() -> None:
    p = solved("sgd")
    assert p.first is not None
    assert {w: p[w].init for w in INITS} == {w: S(size) for w, size in INITS.items()}
    assert (p.first["W_B"].lr, p.first["W_C"].lr) == (S("N_x N_u^-1/2"), S("N_u N_x^-1"))


def test_in_the_long_run_the_rate_of_the_input_map_is_smaller() -> None:
    p = solved("sgd")
    assert (p["W_B"].lr, p["W_C"].lr) == (S("N_x N_u^-1"), S("N_u N_x^-1"))
    (row,) = p.bounds["W_B", "lr"].rows
    assert row in ("h, update by W_B+W_out, step 2", "h, update by W_B+W_C, step 2")  # alike
    assert p.fates["W_B"] == p.fates["W_C"] == "learning"


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_row_at_the_first_step(optimizer: str) -> None:
    """Features, and what the two maps' updates change in them, along either dim."""
    p = solved(optimizer, steps=1)
    found = model(p)
    table = tabulated(found)
    rows = [table[f, "init"] for f in ("v", "h", "y")] + [table["h", "update", "W_B"], table["y", "update", "W_C"]]
    for row in rows[1:]:
        assert row.formula() == "1", row.label
    agrees(found, rows, path("N_x", 32, 256, N_u=64))
    agrees(found, rows, path("N_u", 64, 512, N_x=32))


@pytest.mark.slow
def test_mup_keeps_the_states_too_small() -> None:
    """What it is derived to miss by, N_x^(-1/2) in h and in y, is measured: a row that is no constant can be told."""
    found = replace(resolve("lti", parameterization="mup", optimizer="sgd"))
    found.program.fixed.update({"batch": 2, "in": 8, "out": 1})
    table = tabulated(found)
    rows = [table["h", "init"], table["y", "init"]]
    assert [row.formula() for row in rows] == ["N_x^(-1/2)", "N_x^(-1/2)"]
    agrees(found, rows, path("N_x", 32, 256, N_u=32))
