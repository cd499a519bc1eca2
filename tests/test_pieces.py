"""Solutions that depend on how two dims grow against each other: piece by piece, exactly, and as min and max."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from cases import S
from hypothesis import given
from hypothesis import strategies as st

from scalecalc.derive import derive
from scalecalc.parameterization import Parameterization
from scalecalc.pieces import Piece, formula, path, pieces
from scalecalc.scale import Regime, Scale
from scalecalc.solution import Solution
from scalecalc.solve import solve

F, ONE = Fraction, Scale.one()
DIMS = ("N", "M")
TWO = '''
from scalecalc.program import Program
from scalecalc.rules.elementwise import activation
from scalecalc.rules.matmul import matmul

def two() -> Program:
    """in → N → M → out."""
    p = Program("two", dims=("N", "M"), fixed={"batch": 4, "in": 8, "out": 8})
    h = p.feature("h1", matmul(p.weight("W_in", "N in"), p.input("x", "batch in")))
    h = p.feature("h2", matmul(p.weight("W_mid", "M N"), activation("relu")(h)))
    p.end(p.feature("f", matmul(p.weight("W_out", "out M"), activation("relu")(h))))
    return p
'''


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("two") / "two.py"
    file.write_text(TWO, encoding="utf-8")
    return f"{file}:two"


def text(found: Solution, weight: str, quantity: str = "lr") -> str:
    own = found.pieces.get((weight, quantity))
    return formula(own, DIMS) if own else str(getattr(found[weight], quantity))


# ---------------------------------------------------------------------- a chain of two widths

CLASSES = {
    "adam": ("min(M^(1/2) N^(-1/2), 1)", "N^(-1)", "M^(-1)"),
    "sgd": ("min(M, N)", "M N^(-1)", "M^(-1)"),
    "muon": ("min(M^(1/2) N^(-1/2), 1)", "min(M^(1/2) N^(-1/2), 1)", "M^(-1/2)"),
}


@pytest.mark.parametrize("optimizer", CLASSES)
def test_rates_of_a_chain_of_two_widths(two: str, optimizer: str) -> None:
    """min(1, (fo/fi)^(1/2)) of the spectral condition (Yang, Simon & Bernstein 2023), as the rate of the weight before.

    An update of W_in came back through W_midᵀ and is aligned with its rows: where M is below N it moves h2 by (N/M)^(1/2) of
    what it moves h1.  Either the init of W_mid pays, which is the published choice, or the rate of W_in, which leaves h2 at
    Θ(1) from the start.  Adam's and SGD's rates for W_mid are those published, 1/fi and fo/fi; a Muon whose shape factor is
    max(1, fo/fi)^(1/2) is left min(1, (fo/fi)^(1/2)).
    """
    found = solve(two, optimizer=optimizer, regime="free")
    assert tuple(text(found, w) for w in ("W_in", "W_mid", "W_out")) == CLASSES[optimizer]
    assert [text(found, w, "init") for w in ("W_in", "W_mid", "W_out")] == ["1", "N^(-1/2)", "M^(-1)"]
    for (_, _), own in found.pieces.items():
        assert [(p.low, p.high) for p in own] == [(F(0), F(1)), (F(1), None)]


SHRINK = {"M=N^1/2": "M^1/2 N^-1/2", "M=N^2": "1", "M>N": "1", "N>M": "M^1/2 N^-1/2", "free": "M^1/2 N^-1/2"}


@pytest.mark.parametrize("regime", SHRINK)
def test_the_spectral_parameterization_in_every_regime(two: str, regime: str) -> None:
    """σ = fi^(−1/2) min(1, (fo/fi)^(1/2)), by the regime; the free one, which has no order, takes the input as wider."""
    table = derive(two, optimizer="adam", regime=regime, parameterization="spectral")
    assert table.parameterization["W_mid"].init is S("N^-1/2") * S(SHRINK[regime])


def test_the_init_pays_or_the_rate_of_the_weight_before(two: str) -> None:
    """With the spectral init at M = N^(1/2) the rate of W_in is one, as published; with the largest one (M/N)^(1/2)."""
    how, options = path(DIMS, F(1, 2)), {"optimizer": "adam", "regime": "M=N^1/2"}
    published = solve(two, parameterization="spectral", **options)
    assert how.order(published["W_in"].lr, ONE) == 0
    assert how.order(solve(two, **options)["W_in"].lr, S("M^1/2 N^-1/2")) == 0
    assert published.derived is not None
    assert how.order(published.derived["h2"].terms[0], S("M^1/2 N^-1/2")) == 0


def test_along_every_path_the_pieces_are_the_solution(two: str) -> None:
    """Solved anew along paths away from the breakpoint, each exponent is that of its piece."""
    free = solve(two, optimizer="sgd", regime="free")
    for rho in (F(1, 3), F(3, 2)):
        there = solve(two, optimizer="sgd", regime=f"M=N^{rho}")
        how = path(DIMS, rho)
        for weight in there:
            own = free.pieces.get((weight, "lr"))
            piece = next(p.scale for p in own if p.low < rho and (p.high is None or rho < p.high)) if own else free[weight].lr
            assert how.order(piece, there[weight].lr) == 0


def test_at_a_breakpoint_both_pieces_are_shown(two: str) -> None:
    """The proportional path lies on it: one rate as a scale, and the two formulas that meet there."""
    found = solve(two, optimizer="adam")
    assert text(found, "W_in") == "min(M^(1/2) N^(-1/2), 1)"
    assert Regime.parse("proportional").order(found["W_in"].lr, ONE) == 0
    assert "W_in, rate: M^(1/2) N^(-1/2) for M below N, 1 for M above N." in " ".join(str(found).split())


# ---------------------------------------------------------------------- pieces of known functions

exponents = st.fractions(min_value=-2, max_value=2, max_denominator=4)
monomials = st.builds(lambda a, b: Scale({"N": a, "M": b}), exponents, exponents)


@given(st.lists(monomials, min_size=1, max_size=3))
def test_the_least_of_several_monomials_is_found_with_its_breakpoints(scales: list[Scale]) -> None:
    """min over monomials is concave in ρ: each piece is the least throughout, and neighbours are equal where they meet."""

    def least(rho: Fraction) -> dict[str, Scale]:
        best = scales[0]
        for s in scales[1:]:
            if path(DIMS, rho).order(s, best) == -1:
                best = s
        return {"x": best}

    found = pieces(DIMS, least)["x"]
    assert found[0].low == 0
    assert found[-1].high is None
    for a, b in pairwise(found):
        assert a.high == b.low
        assert path(DIMS, b.low).order(a.scale, b.scale) == 0
    for p in found:
        middle = p.low + 1 if p.high is None else (p.low + p.high) / 2
        assert path(DIMS, middle).order(p.scale, least(middle)["x"]) == 0


def test_formulas() -> None:
    n, m = S("N"), S("M")
    assert formula([Piece(F(0), None, n)], DIMS) == "N"
    assert formula([Piece(F(0), F(1), m), Piece(F(1), None, n)], DIMS) == "min(M, N)"
    assert formula([Piece(F(0), F(1), n), Piece(F(1), None, m)], DIMS) == "max(N, M)"
    three = [Piece(F(0), F(1), n), Piece(F(1), F(2), m), Piece(F(2), None, n**2)]
    assert formula(three, DIMS) == "N for M below N^1; M for M between N^1 and N^2; N^2 for M above N^2"


def test_a_file_of_the_solution_has_the_pieces(two: str, tmp_path: Path) -> None:
    import json

    from scalecalc.report.solution import to_json

    found = json.loads(to_json(solve(two, optimizer="adam", regime="free")))
    own = found["parameterization"]["W_in"]["pieces"]["lr"]
    assert own == [
        {"rho": ["0", "1"], "theta": {"M": "1/2", "N": "-1/2"}, "log": {}},
        {"rho": ["1", "inf"], "theta": {}, "log": {}},
    ]
    assert isinstance(solve(two, optimizer="adam"), Parameterization)
