"""Where each regime measures, what it claims there, and where a term leads."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from scalecalc.measure.paths import Frame, along, defaults, grid, lead, narrow
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.table import Row

U, X, ONE = Scale.of("N_u", "1/2"), Scale.of("N_x", "1/2"), Scale.one()
WIDTHS = {"N_u": [64, 192, 512], "N_x": [16, 48, 128]}


def frame(regime: str, widths: dict[str, list[int]] | None = None) -> Frame:
    return Frame(Regime.parse(regime), widths or WIDTHS)


def test_the_grid_stays_below_the_diagonal() -> None:
    cells = grid({"N": [1, 2, 4], "M": [10, 20, 40]})
    assert {(c["N"], c["M"]) for c in cells} == {(1, 10), (1, 20), (1, 40), (2, 10), (2, 20), (4, 10)}


@pytest.mark.parametrize(
    ("regime", "expected"),
    [
        ("proportional", [(64, 16), (192, 48), (512, 128)]),
        ("N_x=N_u^1/2", [(64, 16), (192, 28), (512, 45)]),
        ("N_u=N_x^2", [(64, 16), (576, 48), (4096, 128)]),
        ("N_u>N_x", [(64, 16), (192, 16), (512, 16), (512, 48), (512, 128)]),
        ("N_x>N_u", [(64, 16), (64, 48), (64, 128), (192, 128), (512, 128)]),
    ],
)
def test_settings(regime: str, expected: list[tuple[int, int]]) -> None:
    assert [(c["N_u"], c["N_x"]) for c in frame(regime).settings()] == expected


@pytest.mark.parametrize(
    ("regime", "dims", "power"),
    [("proportional", ("N_u",), 0), ("N_x=N_u^1/2", ("N_u",), "1/4"), ("N_u=N_x^2", ("N_x",), "1/2")],
)
def test_a_path_has_one_slope_the_total_exponent(regime: str, dims: tuple[str, ...], power: str) -> None:
    along_it = frame(regime)
    assert along_it.dims == dims
    assert along_it.project(U / X) == Scale.of(dims[0], Fraction(power))
    assert along_it.project(Scale.log("N_x")) == Scale.log(dims[0])
    assert set(along_it.place({"N_u": 64, "N_x": 16})) == set(dims)


def test_claims() -> None:
    several = Row("B", "update", 1, (U, X), subleading=(ONE,))
    ordered, other = Row("B", "update", 1, (U,), subleading=(X, ONE)), Row("B", "update", 1, (X,), subleading=(U, ONE))
    assert frame("free").claim(several, several).terms == (U, X)
    first = frame("N_u>N_x").claim(ordered, several)
    assert (first.terms, first.rivals, first.corrections) == ((U,), (X,), (ONE,))
    second = frame("N_x>N_u").claim(other, several)
    assert (second.terms, second.rivals) == ((X,), (U,))
    same = frame("proportional").claim(Row("B", "update", 1, (U,), subleading=(ONE,)), several)
    assert (same.terms, same.corrections, same.rivals) == ((Scale.of("N_u", "1/2"),), (ONE,), ())


def test_a_term_leads_where_it_gains_on_every_other() -> None:
    dims = ("N_u", "N_x")
    middle = (U * X) ** Fraction(3, 2)
    assert lead(middle, [U**2, X**2], dims) == dims, "a product leads where both grow"
    assert lead((U * X) ** Fraction(1, 2), [U**2, X**2], dims) is None, "and nowhere, if it is too small"
    assert lead(U, [ONE], dims) == ("N_u",)
    assert lead(ONE, [], dims) is None


def test_paths_of_rows() -> None:
    paths = frame("free").paths(Row("B", "update", 1, (U, X), subleading=(ONE,)))
    assert paths is not None
    assert [(p.grows, p.claim.terms, p.claim.corrections) for p in paths] == [
        (("N_u",), (U,), (X, ONE)),
        (("N_x",), (X,), (U, ONE)),
    ]
    assert [p.grows for p in frame("free").paths(Row("h", "update", 1, (U,), subleading=(ONE,))) or ()] == [("N_u",)]
    assert frame("free").paths(Row("h", "init", 0, (ONE,))) == ()
    assert frame("free").paths(Row("h", "init", 0, ())) == ()
    assert frame("proportional").paths(Row("B", "update", 1, (U,), subleading=(ONE,))) == ()
    hidden = Row("B", "update", 1, (U**2, X**2, (U * X) ** Fraction(1, 2)))
    assert frame("free").paths(hidden) is None


def test_a_path_goes_where_the_others_stay_small() -> None:
    cells = along(("N_u",), WIDTHS, 6)
    assert narrow(WIDTHS["N_u"]) == 32
    assert [tuple(c.values()) for c in cells] == [(256, 8), (512, 8), (1024, 8), (2048, 8), (2048, 32)]
    assert narrow([2, 4]) == 2, "never wider than the smallest width asked for"


@pytest.mark.parametrize("regime", ["free", "proportional", "N_u>N_x", "N_x>N_u"])
def test_default_widths_suffice_for_a_slope_and_its_drift(regime: str) -> None:
    asked = Regime.parse(regime)
    found = Frame(asked, defaults(asked, WIDTHS))
    cells = [found.place(c) for c in found.settings()]
    for dim in found.dims:
        assert len({c[dim] for c in cells}) >= 3
    if asked.kind == "ordered":
        first, second = asked.order_of
        assert min(c[first] / c[second] for c in found.settings() if c[second] > min(found.widths[second])) >= (
            max(found.widths[first]) / max(found.widths[second])
        )
    assert asked != FREE or found.widths == WIDTHS


@pytest.mark.parametrize("grows", [("N_u",), ("N_x",), ("N_u", "N_x")])
def test_a_path_tells_the_slopes_of_all_dims_apart(grows: tuple[str, ...]) -> None:
    """Where all dims grew in one proportion there was no slope to be had, and a row that leads only there stopped the run."""
    cells = along(grows, WIDTHS, 2)
    x = np.log([[cell[d] for d in WIDTHS] for cell in cells])
    assert np.linalg.matrix_rank(np.column_stack([np.ones(len(x)), x])) == 1 + len(WIDTHS)
