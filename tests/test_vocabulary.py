"""A vocabulary that grows: rows that tokens read, as derived and in numbers."""

from __future__ import annotations

import math

import pytest
from cases import S, derived

import scalecalc as sc
from scalecalc.measure.interpret import Setting, draw_leaves, rms, run
from scalecalc.program import Program, Tensor
from scalecalc.rules.matmul import matmul
from scalecalc.rules.reduction import dot
from scalecalc.rules.token import token
from scalecalc.scale import Scale

ONE = Scale.one()
MODEL = "embedding:grow=vocabulary"
WIDTHS = {"N": [32, 64, 128], "vocabulary": [32, 128, 512]}


def rows() -> dict[str, tuple[Tensor, tuple[Scale, ...]]]:
    """What tokens make of a table, and its sizes: 1/V of the rows is read, and two tokens are alike once in V."""
    p = Program("rows", dims=("N", "V"), fixed={"batch": 16})
    here, there = (token(p.input(name, "batch V"), "V") for name in ("x", "y"))
    table = p.input("E", "N V")
    one, other = matmul(table, here), matmul(table, there)
    back = dot(one, table, "N")  # the token's own logit is N, and all others N^(1/2)
    return {
        "token": (here, (S("V^-1/2"),)),
        "read": (one, (ONE,)),
        "the same": (dot(here, here, "V"), (ONE,)),
        "two tokens": (dot(here, there, "V"), (S("V^-1/2"),)),
        "read twice": (dot(one, one, "N"), (S("N"),)),
        "logit of the token": (dot(back, here, "V"), (S("N"),)),
        "logit of another": (dot(back, there, "V"), (S("N^1/2"), S("N V^-1/2"))),  # or the tokens are alike
        "two rows": (dot(one, other, "N"), (S("N^1/2"), S("N V^-1/2"))),
    }


ALL = rows()


@pytest.mark.parametrize("name", ALL)
def test_rows_that_tokens_read(name: str) -> None:
    tensor, sizes = ALL[name]
    assert derived(tensor) == set(sizes)


def test_rows_that_tokens_read_in_numbers() -> None:
    """Each of one size on its own; those of two on a path where the first leads, V = N², and one where the second does."""
    p = ALL["token"][0].program
    where = {name: tensor.index for name, (tensor, _) in ALL.items()}
    found: dict[tuple[int, int], dict[str, float]] = {}
    for n, v in ((16, 16), (64, 16), (16, 256), (256, 16), (512, 16), (32, 1024)):
        leaves = draw_leaves(p, Setting({"N": n, "V": v}, 200 if v < 1000 else 40, n + v), {}, [True] * len(p.ops))
        values = run(p, leaves, list(where.values()))
        found[n, v] = {name: math.log(float(rms(values[i]).square().mean().sqrt()) + 1e-9) for name, i in where.items()}
    for name, (_, sizes) in ALL.items():
        ways = (((16, 16), (64, 16)), ((16, 16), (16, 256))) if len(sizes) == 1 else (((16, 256), (32, 1024)),)
        for size, (a, b) in [(sizes[0], way) for way in ways] + [(s, ((256, 16), (512, 16))) for s in sizes[1:]]:
            wanted = size.at({"N": b[0], "V": b[1]}) / size.at({"N": a[0], "V": a[1]})
            grown = found[b][name] - found[a][name]
            assert abs(grown - math.log(wanted)) < 0.15 * max(math.log(b[0] / a[0]), math.log(b[1] / a[1])), (name, size)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_vocabulary_drops_out_of_the_solution(optimizer: str) -> None:
    """mup's table for an embedding and a readout: each token reads one row, and the loss sees one logit."""
    found = sc.solve("embedding:tied=no,grow=vocabulary", loss="cross_entropy", optimizer=optimizer, regime="free")
    assert not [key for key in found.pieces if key[1] != "epsilon"]
    rates = {"sgd": (S("N"), ONE, S("N^-1")), "adam": (ONE, S("N^-1"), S("N^-1"))}[optimizer]
    assert tuple(found[w].lr for w in ("E", "W", "W_out")) == rates
    assert tuple(found[w].init for w in ("E", "W", "W_out")) == (ONE, S("N^-1/2"), S("N^-1"))


def test_gradients_of_rows_that_are_not_read_are_zero() -> None:
    """Adam divides by each row's own gradient, and what is zero stays: the table moves as far at any vocabulary."""
    table = sc.derive("embedding:tied=no,grow=vocabulary", loss="cross_entropy", optimizer="adam")
    row = table["E", "gradient"]
    assert row.terms == (S("N^-1/2 vocabulary^-1/2"),)
    assert row.entry == (S("N^-1/2"),)
    assert table["u", "update", "E"].terms == (ONE,)
    assert set(table["f", "update", "E"].terms) == {ONE, S("N^1/2 vocabulary^-1/2")}
    assert table["f", "update", "E"].entry == (S("N^1/2"),)


@pytest.mark.slow
def test_a_growing_vocabulary_is_measured() -> None:
    table = sc.verify(
        "embedding:tied=no,grow=vocabulary", loss="cross_entropy", optimizer="adam", dims=WIDTHS, budget=6, seed=2
    )
    counts = table.counts()
    assert not counts.get("disagrees")
    assert counts["agrees"] >= 12
