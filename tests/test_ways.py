"""What comes by way of one tensor: found in the derivation, told apart by moving that tensor alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import scalecalc as sc
from scalecalc.derive import Model, derive, resolve
from scalecalc.measure import verify as module
from scalecalc.measure.contributions import Plan, measure
from scalecalc.measure.interpret import Setting
from scalecalc.measure.ways import ByWay, Way, contributions, narrowest, remains
from scalecalc.program import Program
from scalecalc.rule import registry
from scalecalc.scale import Scale
from scalecalc.table import Grounds, Row, Table
from scalecalc.term import Step, Term

registry("rule")  # so that rule files can be imported
from scalecalc.rules.matmul import matmul  # noqa: E402

SETTING = Setting({"N": 32}, 64, 0)
GATED = f"{__file__}:gated"


def gated() -> Program:
    """y = s u with one number s per token: a change of u reaches y by way of s, and around it."""
    p = Program("demo", dims=("N",), fixed={"batch": 3, "in": 5, "one": 1})
    u = p.feature("u", matmul(p.weight("W", "N in"), p.input("x", "batch in")))
    s = p.feature("s", matmul(p.weight("V", "one N"), u))
    p.end(p.feature("y", s * u))
    return p


def found() -> tuple[Model, Table]:
    return resolve(GATED, optimizer="adam", parameterization="mup"), derive(GATED, optimizer="adam", parameterization="mup")


def row_of(table: Table, label: str) -> Row:
    return next(r for r in table if r.label == label)


def second(row: Row) -> Row:
    """A claim of second order, derived as s times u, both moved."""

    def made(at: str, *parents: Term) -> Term:
        tag = tuple(name for t in parents for name in t.tag) or ("W",)
        return Term(Scale.one(), tag=tag, why=Step("", "", at, parents))

    u = made("u", made("dW"))
    return replace(row, tag=("W", "W"), derivation=Grounds((made("y", made("s", u), u),), ("N",)))


def test_the_narrowest_place_is_found() -> None:
    model, table = found()
    program, once = model.program, row_of(table, "y, update by W, step 1")
    ways = [narrowest(program, r, {"N": 64}) for r in (once, second(once))]
    assert ways == [Way(program.features["s"], mixed=False), Way(program.features["s"], mixed=True)]
    assert narrowest(program, row_of(table, "s, update by W, step 1"), {"N": 64}) is None  # nothing goes around what u is


def test_what_comes_by_way_of_a_gate_of_a_real_model() -> None:
    p = sc.solve("deltanet", optimizer="adam", steps=1)
    model = resolve("deltanet", optimizer="adam", parameterization=p)
    row = row_of(derive("deltanet", optimizer="adam", parameterization=p), "e2, update by W_in, step 1")
    way = narrowest(model.program, row, {"N": 256})
    assert way is not None
    assert model.program.ops[way.position].inputs[0] == next(
        i for i, op in enumerate(model.program.ops) if op.name == "W_beta"
    )


def test_the_parts_of_a_product() -> None:
    """s u is bilinear: to second order all of it is one change by way of s times one around it."""
    model, table = found()
    once = row_of(table, "y, update by W, step 1")
    rows = [once, second(once)]
    group = [(r, narrowest(model.program, r, SETTING.widths)) for r in rows]
    parts = contributions(Plan(model, tuple(rows)), group, SETTING)  # type: ignore[arg-type]
    whole = measure(Plan(model, tuple(rows)), SETTING)
    one, two = (parts[r.key] for r in rows)
    # another step and the same random numbers: alike but for what is of higher order
    np.testing.assert_allclose(two.logs, whole[rows[1].key].numpy(), atol=1e-3)
    np.testing.assert_allclose(two.rest, 0, atol=1e-3)
    # of first order: |total|² = |own|² (1 + 2 rest) + |rest|², so that nothing of it may be larger than the two together
    assert (one.logs < whole[rows[0].key].numpy() + math.log(50)).all()
    assert np.abs(one.rest).max() < 50
    assert remains(one.rest) is not False


def test_what_is_taken_back_does_not_remain() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(200)
    assert remains(0.3 * noise) is True
    assert remains(-1 + 0.3 * noise) is False
    assert remains(-0.5 + 0.3 * noise) is None
    assert remains(np.array([np.nan, 1.0])) is False


@pytest.mark.parametrize(("power", "verdict"), [("0", "inconclusive agrees"), ("1/2", "disagrees")])
@pytest.mark.slow
def test_a_hidden_row_is_not_refuted_and_a_wrong_one_is(
    power: str, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DeltaNet's second error moves by Θ(1) by way of one gate, and measured as N^(−1/2) by all ways together."""
    p, true = sc.solve("deltanet", optimizer="adam", steps=1), module.table_of

    def claimed(found: object) -> Table:
        table = true(found)  # type: ignore[arg-type]
        row = replace(row_of(table, "e2, update by W_in, step 1"), terms=(Scale.of("N", power),))
        return replace(table, rows=(row,))

    monkeypatch.setattr(module, "table_of", claimed)
    table = sc.verify(
        "deltanet", optimizer="adam", parameterization=p, dims={"N": [64, 128, 256]}, seeds=100, budget=30, progress=False
    )
    assert table.rows[0].verdict in verdict.split(), table.rows[0].settle


def test_words() -> None:
    assert str(ByWay("B", (), None)) == "by way of B alone"  # type: ignore[arg-type]
