"""Formal sizes: what they come to at a point is what is derived there, and they are affine in the exponents."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalecalc.claims import claims, derive_at, formal, guess, nearest, output_of, unknown
from scalecalc.derive import derive
from scalecalc.model import resolve
from scalecalc.parameterization import Parameterization
from scalecalc.scale import Point, Regime, Scale
from scalecalc.solve import solve, unscaled
from scalecalc.table import WeightScaling

ONE = Scale.one()
FREE = Regime()
powers = st.fractions(min_value=-1, max_value=1, max_denominator=4)


def point(inits: dict[str, Fraction], rates: dict[str, Fraction]) -> dict[str, Scale]:
    out = {unknown("init", w): Scale.of("N", e) for w, e in inits.items()}
    out |= {unknown("lr", w): Scale.of("N", e) for w, e in rates.items()}
    for quantity in ("weight_decay", "epsilon"):
        out |= {unknown(quantity, w): Scale.of("N", -9) for w in inits}
    return out


WEIGHTS = ("W_in", "W_2", "W_out")
each = st.fixed_dictionaries(dict.fromkeys(WEIGHTS, powers))


@given(each, each, st.sampled_from(["sgd", "adam"]))
@settings(max_examples=12)
def test_at_a_point_formal_sizes_are_the_derived_ones(
    inits: dict[str, Fraction], rates: dict[str, Fraction], optimizer: str
) -> None:
    """Wherever the unknowns stand: features and single updates of a linear chain, formally and plainly derived."""
    model, here = resolve("mlp:activation=identity", parameterization=unscaled, optimizer=optimizer), point(inits, rates)
    found = claims(derive_at(formal(model), here, FREE, 1))
    at = Point(here)
    scalings = {w: WeightScaling(here[unknown("init", w)], ONE, here[unknown("lr", w)]) for w in WEIGHTS}
    p = Parameterization("p", optimizer, ("N",), scalings)
    table = derive("mlp:activation=identity", parameterization=p, optimizer=optimizer)
    for row in table:
        if row.kind in ("init", "update") and len(row.tag) < 2:
            own = {at(c.size) for c in found if (c.kind, c.row, c.tag, c.step) == (row.kind, row.row, row.tag, row.step)}
            assert set(FREE.leading(own)) == set(row.terms), row.label


@pytest.mark.parametrize("name", ["mlp", "s6:step=fixed"])
def test_sizes_are_monomials_in_the_unknowns_with_the_degrees_of_their_tags(name: str) -> None:
    """The rate of a weight occurs in an update by it once, and in nothing that it has no part in (SGD)."""
    model, solution = resolve(name, parameterization=unscaled, optimizer="sgd"), solve(name, optimizer="sgd", steps=1)
    here = guess(model) | {unknown(q, w): getattr(s, q) for w, s in solution.scalings.items() for q in ("init", "lr")}
    found = claims(derive_at(formal(model), here, Regime.parse("proportional"), 1))
    rates = {unknown("lr", w): w for w in model.program.weights}
    assert any(len(c.tag) == 2 for c in found)
    for c in found:
        degrees = {rates[u]: e for u, e in c.size.powers if u in rates}
        assert degrees == dict(Counter(c.tag)), c.label


def test_labels_and_places() -> None:
    model = resolve("s6:step=fixed", parameterization=unscaled, optimizer="sgd")
    found = derive_at(formal(model), guess(model), Regime.parse("proportional"), 1)
    assert output_of(model.program) == "f"
    assert nearest(found) == {"W_in": "u", "W_B": "B", "W_C": "C", "W_out": "f"}
    labels = {c.label for c in claims(found)}
    assert {"h, init", "y, update by W_B", "argument of u"} <= labels
    entries = {c.row for c in claims(found, ["h"]) if c.statistic == "entry"}
    assert entries == {"h"}


def test_what_is_held_is_no_unknown() -> None:
    given = resolve("mlp", parameterization="ntp", optimizer="sgd")
    model = formal(given, given.scalings)
    assert model.scalings["W_2"].init is ONE
    assert model.scalings["W_2"].multiplier is Scale.of("N", Fraction(-1, 2))
    assert model.scalings["W_2"].lr is Scale.of("lr W_2")
