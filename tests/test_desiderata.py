"""What a solve can be asked for, as text: forms, sizes, and one clear error for everything else."""

from __future__ import annotations

import pytest
from cases import S
from hypothesis import given
from hypothesis import strategies as st

from scalecalc.desiderata import Requirement, is_stable_only, parse_requirements, parse_scale
from scalecalc.errors import InputError
from scalecalc.model import resolve
from scalecalc.scale import Scale
from scalecalc.solve import solve, unscaled

ONE = Scale.one()
PROGRAM = resolve("s6", parameterization=unscaled).program


def test_forms() -> None:
    asked = "rms h = 1, update y by W_B = N_x^-1/2, entry B = N_u, update C=log N_x"
    assert [(r.kind, r.feature, r.by, r.statistic, r.scale) for r in parse_requirements([asked, " y=1 "], PROGRAM)] == [
        ("init", "h", "", "rms", ONE),
        ("update", "y", "W_B", "rms", S("N_x^-1/2")),
        ("init", "B", "", "entry", S("N_u")),
        ("update", "C", "", "rms", Scale.log("N_x")),
        ("init", "y", "", "rms", ONE),
    ]


def test_a_norm_is_the_rms_times_the_root_of_the_entries() -> None:
    """h has N_u · N_x entries, B has N_x."""
    h, b = parse_requirements(["norm h = 1", "norm B = N_x^(1/2)"], PROGRAM)
    assert (h.statistic, h.scale) == ("rms", S("N_u^-1/2 N_x^-1/2"))
    assert b.scale is ONE


def test_stable_may_stand_beside_others() -> None:
    assert is_stable_only(["h = 1", "stable"])
    assert not is_stable_only(["h = 1"])
    assert len(parse_requirements(["stable, h = 1"], PROGRAM)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h", "'h' is not understood; write 'h = 1'"),
        ("h = ", "is not understood"),
        ("q = 1", "no feature of s6 'q'"),
        ("update h by W_Q = 1", "no weight of s6 'W_Q'; did you mean"),
        ("h by W_B = 1", "only an update is made by a weight"),
        ("h = 0.5", "'0.5' is no size in N_u, N_x; write 1, N_x^(1/2), N_u^-1 N_x or log N_x"),
        ("h = N_y", "'N_y' is no size"),
        ("h = N_x^(1/0)", "is no exponent"),
        ("h = N_x^x", "is no size"),
        ("h = 1, h = N_x", "asks twice for the init of h"),
        ("h = " + "N_x " * 100, "is not understood"),
    ],
)
def test_what_is_no_requirement(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_requirements([text], PROGRAM)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


exponents = st.fractions(min_value=-3, max_value=3, max_denominator=6)


@given(exponents, exponents, exponents)
def test_what_is_printed_reads_back(a: object, b: object, c: object) -> None:
    scale = Scale.of("N_u", a) * Scale.of("N_x", b) * Scale.log("N_x", c)  # type: ignore[arg-type]
    text = str(scale)
    if "(log" not in text:  # printed as (log N_x)^(1/2), which nobody has to type
        assert parse_scale(text, ("N_u", "N_x")) is scale
    assert parse_scale("1 / N_u · N_x", ("N_u", "N_x")) is S("N_u^-1 N_x")


def test_a_requirement_is_met_exactly_by_the_solution() -> None:
    """Initial sizes and updates asked for are what is derived at the solution; what is not asked for may be larger."""
    found = solve("mlp", optimizer="sgd", steps=1, require=["h1 = N^(1/2)", "update h2 by W_2 = N^(-1/4)", "f = N^-1"])
    assert found.derived is not None
    assert set(found.derived["h1"].terms) == {S("N^1/2")}
    assert set(found.derived["f"].terms) == {S("N^-1")}
    assert set(found.derived["h2", "update", "W_2"].terms) == {S("N^-1/4")}
    assert found.bounds["W_in", "init"].rows == ("h1, init (required: h1 = N^(1/2))",)


def test_an_update_that_any_weight_may_make_is_made_by_the_nearest_that_can() -> None:
    found = solve("mlp", optimizer="sgd", steps=1, require=["update h2 = 1"])
    assert found.derived is not None
    assert set(found.derived["h2", "update", "W_2"].terms) == {ONE}
    assert isinstance(Requirement("init", "h", ONE), Requirement)
