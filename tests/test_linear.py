"""Exact linear programs: against elimination (Fourier 1826, Motzkin 1936), with their certificates checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from scalecalc import linear
from scalecalc.linear import Certificate, Constraint, Infeasible, System
from scalecalc.scale import Regime, Scale
from scalecalc.simplex import Vector, maximum

N, ONE, HALF = Scale.of("N"), Scale.one(), Fraction(1, 2)
UNKNOWNS = ("a", "b", "c")
PROPORTIONAL = Regime.parse("proportional")
REGIMES = [PROPORTIONAL, Regime.parse("N>M"), Regime.parse("M=N^1/2")]
Inequality = tuple[dict[str, Fraction], Vector]  # Σ coefficient · unknown ≤ bound


# ---------------------------------------------------------------------- elimination


def eliminated(rows: Sequence[Inequality], name: str) -> list[Inequality]:
    """What the rows say of the other unknowns: every upper bound of this one is above every lower bound."""
    out = {(tuple(sorted(row.items())), b) for row, b in rows if not row.get(name)}
    for above, b in ((r, b) for r, b in rows if r.get(name, 0) > 0):
        for below, c in ((r, c) for r, c in rows if r.get(name, 0) < 0):
            s, t = 1 / above[name], -1 / below[name]
            both = {u: s * above.get(u, Fraction(0)) + t * below.get(u, Fraction(0)) for u in {*above, *below}}
            kept = {u: e for u, e in both.items() if e}
            out.add((tuple(sorted(kept.items())), tuple(s * p + t * q for p, q in zip(b, c, strict=True))))
    return tightest([(dict(row), b) for row, b in out])


def tightest(rows: Sequence[Inequality]) -> list[Inequality]:
    """Rows in whole multiples of one another: only the tightest."""
    best: dict[tuple[tuple[str, Fraction], ...], Vector] = {}
    for row, b in rows:
        first = abs(next((row[u] for u in sorted(row)), Fraction(1)))
        key = tuple((u, row[u] / first) for u in sorted(row))
        best[key] = min(best.get(key, tuple(x / first for x in b)), tuple(x / first for x in b))
    return [(dict(key), b) for key, b in best.items()]


def by_elimination(rows: Sequence[Inequality], goal: Mapping[str, Fraction]) -> tuple[str, Vector | None]:
    zero = tuple(Fraction(0) for _ in rows[0][1]) if rows else (Fraction(0),) * 2
    left: list[Inequality] = [
        *rows,
        ({"goal": Fraction(1), **{u: -e for u, e in goal.items()}}, zero),
        ({"goal": Fraction(-1), **goal}, zero),
    ]
    for name in UNKNOWNS:
        left = eliminated(left, name)
    above = [tuple(x / row["goal"] for x in b) for row, b in left if row.get("goal", 0) > 0]
    below = [tuple(x / row["goal"] for x in b) for row, b in left if row.get("goal", 0) < 0]
    if any(b < zero for row, b in left if not row) or (above and below and min(above) < max(below)):
        return "infeasible", None
    return ("optimal", min(above)) if above else ("unbounded", None)


def inequalities(constraints: Sequence[Constraint], regime: Regime) -> list[Inequality]:
    out: list[Inequality] = []
    for c in constraints:
        row = {u: e for u, e in c.size.powers if u in UNKNOWNS}
        bound = tuple(-x for x in regime.key(known(c.size)))
        out.append((row, bound))
        if c.equal:
            out.append(({u: -e for u, e in row.items()}, tuple(-x for x in bound)))
    return out


def known(size: Scale) -> Scale:
    return Scale(tuple((d, e) for d, e in size.powers if d not in UNKNOWNS), size.logs)


# ---------------------------------------------------------------------- what is true of every answer


def proven(found: Certificate, regime: Regime) -> None:
    """Non-negative multipliers of constraints whose product is the goal over its value."""
    assert found.value is not None
    product = found.goal
    for c, y in found.multipliers:
        assert y > 0 or (c.equal and y)
        product = product / c.size**y
    assert regime.order(product, found.value) == 0


def contradictory(error: Infeasible, regime: Regime) -> None:
    """A product of bounded sizes that is above one, and no longer if any constraint is left out."""
    product = ONE
    for c, y in error.multipliers:
        assert y > 0 or (c.equal and y)
        product = product * c.size**y
    assert known(product) is product
    assert regime.order(product, ONE) == 1
    rows = [c for c, _ in error.multipliers]
    for c in rows:
        fewer = inequalities([o for o in rows if o is not c], regime)
        assert by_elimination(fewer, {})[0] == "unbounded" or by_elimination(fewer, {})[1] is not None


# ---------------------------------------------------------------------- random programs

EXPONENTS = st.sampled_from([Fraction(0), Fraction(0), Fraction(1), Fraction(1), Fraction(-1), Fraction(2), HALF, -HALF])


@st.composite
def sizes(draw, logs: bool = True) -> Scale:
    powers = {u: draw(EXPONENTS) for u in (*UNKNOWNS, "N", "M")}
    return Scale(powers, {"N": draw(EXPONENTS)} if logs else {})


CONSTRAINTS = st.builds(Constraint, sizes(), st.integers(), st.sampled_from([False, False, False, True]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(CONSTRAINTS, max_size=6), st.lists(sizes(), min_size=1, max_size=3), st.sampled_from(REGIMES), st.booleans())
def test_goals_one_after_the_other_are_those_of_elimination(constraints, goals, regime, proposed) -> None:
    rows = inequalities(constraints, regime)
    large, linear.LARGE = linear.LARGE, 0 if proposed else linear.LARGE
    try:
        system = System(UNKNOWNS, constraints, regime)
        for goal in goals:
            free = {u: e for u, e in goal.powers if u in UNKNOWNS}
            kind, best = by_elimination(rows, free)
            event(kind)
            found = system.maximize(goal)
            assert kind == ("unbounded" if found.value is None else "optimal")
            if found.value is not None and best is not None:
                assert regime.key(found.value / known(goal)) == best
                proven_of(found, constraints, rows, regime)
                rows += [(free, best), ({u: -e for u, e in free.items()}, tuple(-x for x in best))]
        assert not system.violated()
    except Infeasible as error:
        assert by_elimination(rows, {})[0] == "infeasible"
        contradictory(error, regime)
    finally:
        linear.LARGE = large


def proven_of(found: Certificate, constraints: Sequence[Constraint], rows: list[Inequality], regime: Regime) -> None:
    """A first goal's certificate is of the constraints alone; later ones take goals that were reached as given, too."""
    if len(rows) == len(inequalities(constraints, regime)):
        proven(found, regime)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(CONSTRAINTS, min_size=1, max_size=6), sizes(), st.lists(st.integers(0, 5), max_size=6))
def test_any_hint_leads_to_the_same_optimum(constraints, goal, hint) -> None:
    rows = [{u: e for u, e in c.size.powers if u in UNKNOWNS} for c in constraints]
    bounds = [tuple(-x for x in PROPORTIONAL.key(known(c.size))) for c in constraints]
    free, equal = {u: e for u, e in goal.powers if u in UNKNOWNS}, [c.equal for c in constraints]
    plain, told = (maximum(rows, bounds, equal, free, h) for h in ((), [i for i in hint if i < len(rows)]))
    assert plain.kind == told.kind
    if plain.kind == "optimal":
        totals = [[sum(y * bounds[i][k] for i, y in f.multipliers.items()) for k in range(2)] for f in (plain, told)]
        assert totals[0] == totals[1]


# ---------------------------------------------------------------------- cases


def bounded(*texts: tuple[Scale, str]) -> list[Constraint]:
    return [Constraint(size, name) for size, name in texts]


A, B, C = map(Scale.of, UNKNOWNS)


def test_where_the_simplex_method_goes_in_circles_without_a_rule() -> None:
    """Beale 1955: every basis is degenerate, and the steepest column leads back to the first after six."""
    quarter, x, y, z, w = Fraction(1, 4), *map(Scale.of, "xyzw")
    rows = bounded(
        (x**quarter / y**60 / z ** Fraction(1, 25) * w**9, "1"), (x**HALF / y**90 / z ** Fraction(1, 50) * w**3, "2"),
        (z / N, "3"), (x**-1, "x"), (y**-1, "y"), (z**-1, "z"), (w**-1, "w"),
    )  # fmt: skip
    found = System("xyzw", rows, PROPORTIONAL).maximize(x ** Fraction(3, 4) / y**150 * z ** Fraction(1, 50) / w**6)
    assert found.value is N ** Fraction(1, 20)
    proven(found, PROPORTIONAL)


def test_a_logarithm_decides_where_powers_tie() -> None:
    rows = bounded((A * B * N, "power"), (A * B * N * Scale.log("N"), "logarithm"), (B**-1, "b"))
    found = System(UNKNOWNS, rows, PROPORTIONAL).maximize(A)
    assert found.value is N**-1 / Scale.log("N")
    assert [c.origin for c, _ in found.multipliers] == ["logarithm", "b"]


def test_a_logarithm_never_outweighs_a_power_however_high_it_is() -> None:
    rows = bounded((A * B * Scale.log("N", 100_000), "logarithm"), (A * B * N ** Fraction(1, 100), "power"), (B**-1, "b"))
    assert System(UNKNOWNS, rows, PROPORTIONAL).maximize(A).value is N ** -Fraction(1, 100)


def test_bounds_that_all_tie() -> None:
    rows = bounded(*((A**i * B**j * C**k, f"{i}{j}{k}") for i in range(3) for j in range(3) for k in range(3) if i + j + k))
    system = System(UNKNOWNS, rows, PROPORTIONAL)
    for goal in (A * B, A, C):
        assert system.maximize(goal).value is ONE
    assert system.solution() == dict.fromkeys(UNKNOWNS, ONE)


def test_unknowns_that_only_their_product_bounds() -> None:
    system = System(UNKNOWNS, bounded((A * B * N, "both"), (A**-1 * C, "c over a")), PROPORTIONAL)
    assert system.maximize(A).value is None
    assert system.maximize(A * B).value is N**-1
    assert system.maximize(B * C).value is N**-1
    assert system.solution() == {}


@pytest.mark.parametrize("goal", [A, B, C, A * B])
def test_a_contradiction_is_found_whatever_the_goal_is(goal) -> None:
    """No goal of its own meets a contradiction that lies elsewhere, and it is found nevertheless."""
    rows = bounded((A * N, "a is small"), (A**-1, "a is large"), (B, "b"), (B * C, "b c"))
    with pytest.raises(Infeasible) as error:
        System(UNKNOWNS, rows, PROPORTIONAL).maximize(goal)
    assert {c.origin for c, _ in error.value.multipliers} == {"a is small", "a is large"}
    contradictory(error.value, PROPORTIONAL)


def test_equalities_that_contradict_each_other() -> None:
    rows = [Constraint(A * B, 1, True), Constraint(B * C * N, 2, True), Constraint(A / C, 3, True), Constraint(A, 4)]
    with pytest.raises(Infeasible) as error:
        System(UNKNOWNS, rows, PROPORTIONAL).maximize(A)
    assert {c.origin for c, _ in error.value.multipliers} == {1, 2, 3}
    contradictory(error.value, PROPORTIONAL)


def test_a_known_size_above_one_contradicts_itself() -> None:
    with pytest.raises(Infeasible) as error:
        System(UNKNOWNS, bounded((N, "known"), (A, "a")), PROPORTIONAL)
    assert error.value.multipliers == ((Constraint(N, "known"), Fraction(1)),)
