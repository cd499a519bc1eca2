"""Optimizers: the law of an update against its torch code, where the gradient's size decides."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from scalecalc.derive import derive
from scalecalc.errors import UnsupportedScale
from scalecalc.optimizer import Numbers, Trained
from scalecalc.program import Weight
from scalecalc.rule import find
from scalecalc.scale import Regime, Scale
from scalecalc.table import WeightScaling
from scalecalc.term import Profile, Term, atom, pattern
from scalecalc.value import Algebra, Value

N, ONE, HALF = Scale.of("N"), Scale.one(), Fraction(1, 2)
TAG = ("V",)


def law(name: str, gradient: Value, regime: Regime | None = None, epsilon: Scale | None = None) -> Value:
    """The law of a vector's update."""
    value = Value(("N",), (Term(ONE, pattern((), [atom("W", ("N",))])),))
    weight = Trained(Weight("W", ("N",), ONE, N, "vector"), value, WeightScaling(ONE, ONE, ONE, epsilon=epsilon))
    return find("optimizer", name).make().law(Algebra(regime or Regime()), gradient, weight)


def updates(name: str, *gradients: torch.Tensor) -> torch.Tensor:
    return find("optimizer", name).make().torch(gradients, Numbers([]))


def term(size: Scale, tensor: str, tag: tuple[str, ...] = (), power: int = 0) -> Term:
    profiles = [("N", Profile(Fraction(power)))] if power else []
    return Term(size, pattern(profiles, [atom(tensor, ("N",))]), tag)


def sizes(value: Value, tag: tuple[str, ...] = ()) -> set[Scale]:
    return set(Regime().leading(t.size for t in value.terms if t.tag == tag))


def slope(measure: object) -> float:
    widths = np.array([2.0**k for k in range(8, 17, 2)])
    return float(np.polyfit(np.log(widths), [np.log(measure(int(n))) for n in widths], 1)[0])  # type: ignore[operator]


@pytest.mark.parametrize(
    ("gain", "expected"), [(N**-HALF, N**-HALF), (ONE, ONE), (N**HALF, ONE)], ids=["smaller", "alike", "larger"]
)
def test_adam_divides_a_gain_by_the_first_gradient_until_it_takes_over(gain: Scale, expected: Scale) -> None:
    """A gain along δ changes the second update along δ by min(1, gain/g): derived, and by torch's two steps."""
    first = N**-1
    value = Value(("N",), (term(first, "g"), term(first * gain, "δ", TAG)))
    out = law("adam", value)
    assert sizes(out) == {ONE}
    assert sizes(out, TAG) == {expected}
    assert all({a.tensor for a in t.pattern.odd} == {"δ"} for t in out.terms if t.tag == TAG)

    def along(n: int) -> float:
        g, delta = torch.randn(2, 400, 4096, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) / n
        later = g + gain.at({"N": n}) * delta
        both = updates("adam", g, later), updates("adam", g, g)
        return float(((both[0] - both[1]) * delta * n).mean().abs())

    # the mean of |δ/g| over entries diverges logarithmically: a little less than a power where the gain is smaller
    assert abs(slope(along) - float(expected.power("N"))) < 0.12


def test_a_gain_that_takes_over_along_the_index() -> None:
    """g falls like 1/n and the gain is flat: smaller at first, larger at the last of N entries."""
    for size, expected in ((N ** -Fraction(3, 2), N ** -Fraction(3, 2)), (N**-HALF, ONE)):
        value = Value(("N",), (term(ONE, "g", power=1), term(size, "δ", TAG)))
        out = law("adam", value)
        assert sizes(out, TAG) == {expected}


@pytest.mark.parametrize("size", [N**-1, ONE, N], ids=str)
def test_an_epsilon_of_order_one_makes_an_sgd_of_adam(size: Scale) -> None:
    expected = size if size <= ONE else ONE
    out = law("adam_eps", Value(("N",), (term(size, "g"),)))
    assert sizes(out) == {expected}

    def entry(n: int) -> float:
        g = torch.randn(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) * size.at({"N": n})
        return float(updates("adam_eps", g).abs().mean())

    assert abs(slope(entry) - float(expected.power("N"))) < 0.05


def test_a_gradient_on_both_sides_of_epsilon_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UnsupportedScale, match="--regime in which it stays on one side"):
        law("adam_eps", Value(("N",), (term(N**HALF, "g", power=1),)))
    mixed = Value(("N", "M"), (Term(N * Scale.of("M", -1), pattern((), [atom("g", ("N", "M"))])),))
    with pytest.raises(UnsupportedScale, match="below it for others"):
        law("adam_eps", mixed)
    assert sizes(law("adam_eps", mixed, Regime.parse("N>M"))) == {ONE}


def test_mup_rates_for_adam_are_lazy_with_an_epsilon_of_order_one() -> None:
    """Hidden gradients are 1/N, far below ε; the readout's are of its order.  At rate 1/N an SGD moves features by 1/N."""
    scaled, fixed = (derive("mlp", parameterization="mup", optimizer=name) for name in ("adam", "adam_eps"))
    assert set(scaled["h2", "update", "W_2"].terms) == {ONE}
    assert set(fixed["h2", "update", "W_2"].terms) == {N**-1}
    assert fixed["h2", "update", "W_2"].klass == "lazy"
    assert set(fixed["f", "update", "W_out"].terms) == {ONE}
