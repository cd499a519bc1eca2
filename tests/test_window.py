"""Windows of indices: their sums, their order, and functions of terms that lead at different indices."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalecalc.asymptotics import OneVariable
from scalecalc.expand import expand
from scalecalc.optimizer import Trained
from scalecalc.profile import Bound, Profile
from scalecalc.program import Weight
from scalecalc.rule import find, registry
from scalecalc.scale import Point, Regime, Scale
from scalecalc.table import WeightScaling
from scalecalc.term import Term, atom, falls_below, pattern
from scalecalc.value import Algebra, Value
from scalecalc.window import bound, cuts, leading, restricted

F, N, ONE = Fraction, Scale.of("N"), Scale.one()
WIDTHS = 1e10, 1e14  # for sums that are done on a logarithmic grid
HALVES = st.sampled_from([F(0), F(1, 2), F(1), F(3, 2), F(2)])
INDEX = st.sampled_from([F(k, 4) for k in range(5)])
ENDS = st.tuples(INDEX, INDEX).map(sorted).filter(lambda ends: ends[0] < ends[1])


def at(power: Fraction) -> Bound | None:
    """The index N^power; None at either end."""
    return Bound((power, F(0)), N**power) if 0 < power < 1 else None


def total(entries, width: float) -> float:
    """Σ_{n=1}^{N} of a smooth function of n, by the trapezoidal rule in log n."""
    n = np.geomspace(1, width, 4000)
    y = entries(n) * n
    return float(((y[1:] + y[:-1]) / 2 * np.diff(np.log(n))).sum())


def power(measure) -> float:
    low, high = (measure(width) for width in WIDTHS)
    return float(np.log(high / low) / np.log(WIDTHS[1] / WIDTHS[0]))


# ---------------------------------------------------------------------- profiles


@given(HALVES, ENDS)
def test_the_sum_over_a_window(p: Fraction, ends: list[Fraction]) -> None:
    low, high = ends
    found = Profile(p, low=at(low), high=at(high)).sum("N")
    measured = power(lambda w: total(lambda n: n ** -float(p) * (n >= w ** float(low)) * (n <= w ** float(high)), w))
    assert abs(measured - float(found.power("N"))) < 0.01 + 0.05 * bool(found.logs)
    assert bool(found.logs) == (p == 1)


def test_windows_intersect() -> None:
    early, late = Profile(F(1), high=at(F(1, 2))), Profile(low=at(F(1, 4)))
    both = early * late
    assert (both.low, both.high, both.power) == (at(F(1, 4)), at(F(1, 2)), 1)
    assert not both.empty
    assert (early * Profile(low=at(F(3, 4)))).empty
    assert both.words() == "n^(-1), from n = N^(1/4) up to n = N^(1/2)"
    assert (Profile(decaying=True) * late).empty  # e^(−n) from N^(1/4) on is below every power


@given(st.tuples(HALVES, HALVES, ENDS), st.tuples(HALVES, HALVES, ENDS))
def test_falling_below_is_at_every_index(one, other) -> None:
    """Said of a term exactly if it is nowhere larger, and there only where the other is."""

    def made(size, p, ends):
        low, high = ends
        return Term(N**-size, pattern([("N", Profile(p, low=at(low), high=at(high)))])), (size, p, low, high)

    (s, (size, p, low, high)), (t, (bar, q, first, last)) = made(*one), made(*other)
    inside = first <= low and high <= last
    assert falls_below(s, t, Regime()) == (inside and all(-size - p * k <= -bar - q * k for k in (low, high)))


def test_where_an_index_lies() -> None:
    M = Scale.of("M")
    assert bound(M ** F(1, 2), "N", Regime()) is None  # before the last of N, or beyond it
    assert bound(N * M, "N", Regime()) == bound(N, "N", Regime())
    assert bound(M**-1, "N", Regime()) == bound(ONE, "N", Regime())
    middle = bound(M ** F(1, 2), "N", Regime.parse("proportional"))
    assert middle is not None
    assert middle.scale == M ** F(1, 2)
    formal = Regime(point=Point({"init W": N ** F(-1, 2)}))
    found = bound(Scale.of("init W") ** -1, "N", formal)
    assert found is not None
    assert (found.key, found.scale) == ((F(1, 2), F(0)), Scale.of("init W", -1))


@given(HALVES, HALVES)
def test_what_turns_is_as_large_as_what_does_not(p: Fraction, q: Fraction) -> None:
    """Phases tell apart what sums make of terms, not which of them leads at an index."""
    turning, still = (Term(ONE, pattern([("N", Profile(power, phase=phase))])) for power, phase in ((p, F(1)), (q, F(0))))
    found = leading([turning, still], Regime())
    assert found == [t for t, own, other in ((turning, p, q), (still, q, p)) if own <= other]


# ---------------------------------------------------------------------- functions


@settings(max_examples=60)
@given(st.lists(st.tuples(HALVES, HALVES), min_size=2, max_size=3), st.sampled_from(["sign", "relu", "tanh", "adam_eps"]))
def test_a_function_of_terms_that_lead_at_different_indices(kinds, name: str) -> None:
    """Σ_n φ(Σ_i x_i) x_j, x_i = N^(1 − s_i) n^(−p_i) z_i: its mean is known for Gaussian z (Stein), and so is its noise."""
    scales = [(N ** (1 - size), p) for size, p in kinds]
    x = [Term(s, pattern([("N", Profile(p))], [atom(f"z{i}", ["N"])])) for i, (s, p) in enumerate(scales)]
    algebra = Algebra()
    value = algebra.value(("N",), x)
    if name == "adam_eps":
        weight = Trained(Weight("W", ("N",), ONE, N, "vector"), value, WeightScaling(ONE, ONE, ONE))
        out = find("optimizer", name).make().law(algebra, value, weight)
    else:
        out = expand(OneVariable(registry("rule")[name].derivative(0)), ("N",), [value], algebra)
    for j, own in enumerate(x):
        product = algebra.multiply(("N",), out, Value(("N",), (own,)))
        found = max(algebra.sum(product, "N").sizes(), key=lambda s: (s.power("N"), s.log_power("N")))

        def summed(width: float, j: int = j) -> float:
            sizes = [(width ** float(s.power("N")), float(p)) for s, p in scales]

            def rms(n):
                return np.sqrt(sum((s * n**-p) ** 2 for s, p in sizes))

            def own_size(n):
                return sizes[j][0] * n ** -sizes[j][1]

            slope = {"sign": lambda r: 1 / r, "relu": lambda r: 0.5 + 0 * r}.get(name, lambda r: 1 / (1 + r))  # E φ′
            root = {"sign": lambda r: 1 + 0 * r, "relu": lambda r: r}.get(name, lambda r: r / (1 + r))  # (E φ²)^(1/2)
            mean = total(lambda n: own_size(n) ** 2 * slope(rms(n)), width)
            return mean + total(lambda n: (own_size(n) * root(rms(n))) ** 2, width) ** 0.5

        allowed = 0.02 + 0.06 * abs(float(found.log_power("N")))
        assert abs(power(summed) - float(found.power("N"))) < allowed, (found, power(summed))


def test_terms_are_cut_where_they_cross_and_nowhere_else() -> None:
    steep = Term(ONE, pattern([("N", Profile(F(2)))], [atom("a", ["N"])]))
    flat = Term(N**-1, pattern((), [atom("b", ["N"])]))
    never = Term(N**-2, pattern((), [atom("c", ["N"])]))
    found = cuts([steep, flat, never], levels=False, regime=Regime())
    half = at(F(1, 2))
    assert [(w.low, w.high) for w in found] == [(None, half), (half, None), (half, half)]
    assert cuts([flat, never], levels=True, regime=Regime()) == []
    about = restricted(steep, found[2])
    assert about is not None
    assert (about.size, about.pattern.profile("N").power) == (N**-1, 0)
    assert restricted(about, found[0]) is None  # what is there about one index is not there up to it


@pytest.mark.parametrize("limit", ["N", "M"])
def test_cuts_in_a_formal_scale(limit: str) -> None:
    """At a point unknowns are compared by what they come to, and stay what they are."""
    regime = Regime.parse("proportional")
    regime = Regime(regime.kind, rates=regime.rates, text=regime.text, point=Point({"lr W": Scale.of(limit, "-1")}))
    steep = Term(ONE, pattern([("N", Profile(F(2)))], [atom("a", ["N"])]))
    flat = Term(Scale.of("lr W"), pattern((), [atom("b", ["N"])]))
    first, second, _ = cuts([steep, flat], levels=False, regime=regime)
    assert first.high == second.low
    assert first.high is not None
    assert first.high.scale == Scale.of("lr W", "-1/2")
