"""The gauge group of a network: which shifts over several weights leave the output alone, found and used exactly."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import pytest
from cases import S
from hypothesis import given, settings
from hypothesis import strategies as st

from scalecalc.claims import Claim, claims, derive_at, formal, output_of, unknown
from scalecalc.derive import derive
from scalecalc.equivalence import equivalent
from scalecalc.errors import InputError
from scalecalc.model import resolve
from scalecalc.parameterization import Parameterization
from scalecalc.scale import Point, Regime, Scale
from scalecalc.solve import solve, unscaled
from scalecalc.symmetry import Shift, combination, fixed_by, null_space, shifts
from scalecalc.table import WeightScaling

F, ONE = Fraction, Scale.one()
LAYER = "s6:step=fixed"


@cache
def found(model: str, optimizer: str, steps: int = 1):
    """Claims and group at the solution."""
    solution = solve(model, optimizer=optimizer, steps=steps)
    program = resolve(model, parameterization=unscaled, optimizer=optimizer)
    values = {unknown(q, w): getattr(s, q) for w, s in solution.scalings.items() for q in ("init", "lr")}
    every = claims(derive_at(formal(program), values, Regime.parse("proportional"), steps))
    return solution, values, every, shifts(every, output_of(program.program), program.program.dims)


# ---------------------------------------------------------------------- the group


@pytest.mark.parametrize(("optimizer", "power"), [("sgd", 2), ("adam", 1)])
def test_b_against_c(optimizer: str, power: int) -> None:
    """(W_B, W_C) → (κ W_B, W_C/κ): the rates go along by the optimizer's law, and all of B and C's other sizes with them."""
    _, _, every, group = found(LAYER, optimizer)
    wanted = Shift((("init W_B", F(1)), ("init W_C", F(-1)), ("lr W_B", F(power)), ("lr W_C", F(-power))))
    for c in every:
        if c.row in ("y", "f"):
            assert wanted.of(c.size) == 0
    y = {c.tag: wanted.of(c.size) for c in every if c.row == "B"}
    assert y[()] == y["W_B",] == 1
    along = ("weight_decay", "epsilon")  # they go along, as the optimizer's law wants it
    vectors = [{u: e for u, e in shift.powers if not u.startswith(along)} for shift in group]
    assert combination(vectors, dict(wanted.powers))


def test_every_generator_leaves_every_size_of_the_output_alone() -> None:
    for model, optimizer in (("mlp:depth=3", "adam"), (LAYER, "sgd")):
        _, _, every, group = found(model, optimizer)
        assert group
        for shift in group:
            assert all(shift.of(c.size) == 0 for c in every if c.row == "f")
            assert any(shift.of(c.size) for c in every if c.row != "f")  # and some feature not


@pytest.mark.parametrize("theta", ["N_x^1/2", "N_u^-1/3", "log N_x"])
def test_a_shifted_solution_has_the_same_output_derived_anew(theta: str) -> None:
    """Any θ, not only small ones, as long as no function that saturates has its argument moved."""
    solution, values, _, group = found(LAYER, "sgd")
    shift = next(s for s in group if s.weights == ("W_B", "W_C"))
    moved = shift.moved(values, S(theta))
    scalings = {w: WeightScaling(moved[unknown("init", w)], ONE, moved[unknown("lr", w)]) for w in solution}
    other = Parameterization("shifted", "sgd", solution.dims, scalings)
    tables = [derive(LAYER, parameterization=p, optimizer="sgd", steps=2) for p in (solution, other)]
    rows = [{r.key: (r.terms, r.klass) for r in t if r.row in ("f", "y") and r.kind in ("init", "update")} for t in tables]
    assert rows[0] == rows[1]
    assert tables[0]["B"].terms != tables[1]["B"].terms
    assert equivalent(LAYER, solution, other, steps=1)


# ---------------------------------------------------------------------- choosing a member


def claim(row: str, size: Scale) -> Claim:
    return Claim("init", row, (), size)


A, B, C = (Scale.of(f"init {w}") for w in "ABC")
GROUP = (Shift((("init A", F(1)), ("init B", F(-1)))), Shift((("init B", F(1)), ("init C", F(-1)))))
VALUES = {f"init {w}": ONE for w in "ABC"}
powers = st.fractions(min_value=-2, max_value=2, max_denominator=3)


@given(powers, powers)
def test_features_get_the_sizes_asked_for_and_the_product_stays(a: Fraction, b: Fraction) -> None:
    wanted = [(claim("a", A**2), Scale.of("N", a)), (claim("ab", A * B), Scale.of("N", b))]
    moved = fixed_by(GROUP, [], VALUES, wanted)
    at = Point(moved)
    assert all(at(c.size) is scale for c, scale in wanted)
    assert at(A * B * C) is ONE


def test_what_no_shift_changes_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match=r"no shift of inits and rates that leaves the output alone gives abc the size N\."):
        fixed_by(GROUP, [], VALUES, [(claim("abc", A * B * C), Scale.of("N"))])
    wanted = [(claim("a", A), Scale.of("N")), (claim("ab", A * B), ONE), (claim("b", B), ONE)]
    with pytest.raises(InputError, match="gives b the size"):  # a and the product of a and b say what b is
        fixed_by(GROUP, [], VALUES, wanted)
    assert fixed_by(GROUP, [], VALUES, [(claim("abc", A * B * C), ONE)]) == VALUES


# ---------------------------------------------------------------------- exact linear algebra

rationals = st.fractions(min_value=-3, max_value=3, max_denominator=3)
rows = st.lists(st.dictionaries(st.sampled_from("uvwxy"), rationals, max_size=4), max_size=4)


@given(rows)
@settings(max_examples=50)
def test_the_null_space_is_orthogonal_and_complete(matrix: list[dict[str, Fraction]]) -> None:
    names = sorted({u for row in matrix for u in row})
    basis = null_space(matrix, names)
    assert all(sum(row.get(u, F(0)) * v.get(u, F(0)) for u in names) == 0 for row in matrix for v in basis)
    if names and matrix:
        import sympy

        assert len(basis) == len(names) - sympy.Matrix([[row.get(u, F(0)) for u in names] for row in matrix]).rank()


@settings(max_examples=50)
@given(rows, st.lists(rationals, min_size=4, max_size=4))
def test_a_combination_is_found_if_there_is_one(matrix: list[dict[str, Fraction]], y: list[Fraction]) -> None:
    names = sorted({u for row in matrix for u in row})
    goal = {u: sum((e * row.get(u, F(0)) for e, row in zip(y, matrix, strict=False)), F(0)) for u in names}
    found = combination(matrix, goal)
    assert found is not None
    assert {u: sum((e * row.get(u, F(0)) for e, row in zip(found, matrix, strict=True)), F(0)) for u in names} == goal
    assert combination(matrix, {**goal, "another": F(1)}) is None


def test_an_init_that_no_size_depends_on_is_in_no_shift() -> None:
    """As that of a skip D behind W, whose product is hidden beside another: with W's path its own would have to shift."""
    claims = [Claim("init", "f", (), Scale.of("path W") * Scale.of("path C"))]
    (found,) = shifts(claims, "f", ("N",), {"D": "W"})
    assert str(found) == "init C · θ, init W · θ^(-1)"
