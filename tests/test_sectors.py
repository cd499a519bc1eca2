"""Solutions that depend on how three dims grow against each other: sectors of paths, and their formulas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import pytest
from cases import S
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pieces import TWO

from scalecalc.report.solution import render
from scalecalc.scale import Regime, Scale
from scalecalc.sectors import formula, neighbours, path, sectors
from scalecalc.solution import Solution
from scalecalc.solve import solve

F = Fraction
DIMS = ("N", "L", "B")
PATHS = [path(DIMS, tuple(map(F, way))) for way in ((1, 1, 1), (1, 2, 3), (7, 1, 2), (3, 8, 1), (1, 9, 9), (20, 3, 20))]


def least(scales: list[Scale], how: Regime, sign: int = -1) -> Scale:
    best = scales[0]
    for s in scales[1:]:
        best = s if how.order(s, best) == sign else best
    return best


exponents = st.fractions(min_value=-2, max_value=2, max_denominator=2)
monomials = st.builds(lambda a, b, c: Scale({"N": a, "L": b, "B": c}), exponents, exponents, exponents)


@settings(max_examples=25)
@given(st.lists(monomials, min_size=1, max_size=2), st.sampled_from([-1, 1]))
def test_of_two_monomials_both_are_found_where_both_lead_on_some_path(scales: list[Scale], sign: int) -> None:
    found, settled = sectors(DIMS, lambda how: {"x": least(scales, how, sign)})
    assert settled
    for sector in found["x"]:
        for how in sector.along:
            assert how.order(least(scales, how, sign), sector.scale) == 0
    shown = {s.scale for s in found["x"]}
    assert all(any(how.order(least(scales, how, sign), s) == 0 for s in shown) for how in PATHS)


def test_a_maximum_of_minima_is_read_off_the_paths() -> None:
    """max(min(N, L), B/N): three monomials, six kinds of paths."""

    def value(how: Regime) -> Mapping[str, Scale]:
        return {"x": least([least([S("N"), S("L")], how), S("B N^-1")], how, 1), "y": S("N^-1")}

    found, settled = sectors(DIMS, value)
    assert settled
    assert formula(found["x"]) == "max(B N^(-1), min(N, L))"
    assert formula(found["y"]) == "N^(-1)"


def test_what_jumps_has_no_formula_and_says_so() -> None:
    found, settled = sectors(DIMS, lambda how: {"x": S("N^2") if how.order(S("N"), S("L")) == 1 else S("B")})
    assert not settled
    assert formula(found["x"]) in ("N^2 or B", "B or N^2")


def test_neighbours_lie_on_every_side_of_a_path() -> None:
    ways = neighbours(DIMS, Regime.parse("proportional"), F(1, 97))
    for a in DIMS:
        for b in DIMS:
            if a != b:
                assert {how.order(Scale.of(a), Scale.of(b)) for how in ways} == {-1, 1}


# ---------------------------------------------------------------------- solved


@pytest.fixture(scope="module")
def free() -> Solution:
    """Width, batch and noise scale: ε follows the gradient, whose noise leads below the noise scale."""
    return solve("mlp:grow=batch", loss="noisy", optimizer="adam", regime="free", steps=1)


def test_the_answer_as_a_function_of_how_three_dims_grow(free: Solution) -> None:
    own = {q: formula([p for p in pieces if not hasattr(p, "low")]) for q, pieces in free.pieces.items()}  # type: ignore[misc]
    assert own["W_out", "epsilon"] == "max(batch^(-1/2), noise^(-1/2))"
    assert own["W_2", "epsilon"] == "max(N^(-1) batch^(-1/2), N^(-1) noise^(-1/2))"
    assert ("W_2", "lr") not in free.pieces
    assert free["W_2"].lr is S("N^-1")


ALONG = [("N=s,batch=s,noise=s^3", "batch^-1/2"), ("batch=N^2,noise=N", "noise^-1/2")]


@pytest.mark.parametrize(("regime", "epsilon"), ALONG)
def test_along_a_path_it_is_the_piece_of_that_path(regime: str, epsilon: str) -> None:
    found = solve("mlp:grow=batch", loss="noisy", optimizer="adam", regime=regime, steps=1)
    assert found["W_out"].epsilon is S(epsilon)
    assert not found.pieces


def test_on_a_path_where_pieces_meet_they_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(TWO, encoding="utf-8")
    found = solve(f"{file}:two", grow="batch", optimizer="adam", steps=1)
    assert found.dims == ("N", "M", "batch")
    assert "min(M^(1/2) N^(-1/2), 1)" in str(found)


def test_every_format_has_the_sectors(free: Solution) -> None:
    assert "for example along N=s" in " ".join(render(free, "table").split())
    own = json.loads(render(free, "json"))["parameterization"]["W_out"]["pieces"]["epsilon"]
    assert {tuple(p["theta"].items()) for p in own} == {(("batch", "-1/2"),), (("noise", "-1/2"),)}
    assert all(set(way) == {"N", "batch", "noise"} for p in own for way in p["along"])
    assert any(",epsilon,,,,batch,-1/2," in line and "noise=s" in line for line in render(free, "csv").splitlines())
    assert "max" in render(free, "latex")
