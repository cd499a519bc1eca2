"""How dims grow against each other, as it is written: joint paths, and what is no regime."""

from __future__ import annotations

from fractions import Fraction

import pytest

from scalecalc.errors import InputError
from scalecalc.measure.paths import Frame
from scalecalc.scale import Regime, Scale

F = Fraction
DIMS = ("N", "L", "batch")
N, L, B = (Scale.of(d) for d in DIMS)


SAME = ["N=s^2, L=s, batch=s^4", "L=N^1/2,batch=N^2", "N=L^2,batch=N^2", "batch=L^4, N=batch^1/2", "N=s,L=s^1/2,batch=s^2"]


@pytest.mark.parametrize("text", SAME)
def test_a_path_is_one_however_it_is_written(text: str) -> None:
    how = Regime.parse(text, DIMS)
    assert how.kind == "path"
    assert how.order(N**2, L**4) == how.order(L**4, B) == 0
    assert how.order(N * L, B) == -1
    rates = dict(how.rates)
    assert set(rates) == set(DIMS)
    assert rates["N"] / rates["L"] == 2
    assert rates["batch"] / rates["N"] == 2
    assert Regime.parse(how.text, DIMS) == how  # it reads back from a table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L=N^1/2", r"does not say how batch grows: add batch=N\^… to it, or hold a dim at one width .--fix batch=64"),
        ("L=s", "does not say how N and batch grow"),
        ("L=N,batch=s", "dims must be powers of one and the same"),
        ("L=N,N=L", "dims must be powers of one and the same"),
        ("L=N,L=N^2", "is no regime"),
        ("L=N,depth=N,batch=N", "is no regime"),
        ("L=N,batch=", "is no regime"),
        ("L=N^-1,batch=N", "must be positive"),
        ("L=N^0,batch=N", "must be positive"),
        ("L=N,batch=s^2,s=batch", "is no regime|powers of one"),
        ("N>M", "is no regime"),
    ],
)
def test_what_is_no_path_is_said(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Regime.parse(text, DIMS)


def test_a_misspelt_dim_is_not_taken_for_how_far_one_is_along_the_path() -> None:
    with pytest.raises(InputError, match="does not say how N_u grows"):
        Regime.parse("N_x=N_v^1/2", ("N_u", "N_x"))


def test_along_a_path_of_three_dims_widths_grow_together_and_one_slope_is_taken() -> None:
    frame = Frame(Regime.parse("N=s^2, L=s, batch=s^3", DIMS), {"N": [16, 32], "L": [4, 8], "batch": [2, 4]})
    assert frame.settings() == ({"N": 16, "L": 4, "batch": 2}, {"N": 64, "L": 8, "batch": 16})
    assert frame.dims == ("L",)
    assert frame.project(N * B**F(1, 3)) == L**3
