"""Scales are an abelian group with a compatible order in every regime; what the user types is understood or refused."""

import math
import pickle
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scalecalc.errors import InputError
from scalecalc.scale import Regime, Scale, commuting, fraction

DIMS = ("N_u", "N_x", "L")
ONE = Scale.one()
exponents = st.dictionaries(
    st.sampled_from(DIMS), st.fractions(min_value=-3, max_value=3, max_denominator=6), max_size=len(DIMS)
)
scales = st.builds(Scale, exponents, exponents)
TOTAL = ("N_u>N_x>L", "N_x>N_u", "N_x=N_u^1/2", "N_x=N_u^2", "proportional")
regimes = st.sampled_from(("free", *TOTAL)).map(Regime.parse)
total_regimes = st.sampled_from(TOTAL).map(Regime.parse)


# ---------------------------------------------------------------------- the group


@given(scales, scales, scales)
def test_an_abelian_group(a, b, c):
    """Product: associative, commutative, with a unit and inverses."""
    assert a * (b * c) is (a * b) * c
    assert a * b is b * a
    assert a * ONE is a
    assert a * a**-1 is ONE
    assert a / b is a * b**-1


@given(scales, scales, st.integers(-4, 4), st.integers(1, 5))
def test_powers_are_exact(a, b, p, q):
    """A q-th root of a q-th power is the scale itself; powers distribute over products."""
    assert (a ** Fraction(p, q)) ** q is a**p
    assert (a * b) ** Fraction(p, q) is a ** Fraction(p, q) * b ** Fraction(p, q)


@given(scales)
def test_equal_scales_are_one_object(a):
    """Interned, whatever order or zeros it is built with, and also after pickling."""
    padded = {**dict.fromkeys(reversed(DIMS), Fraction(0)), **dict(reversed(a.powers))}
    assert Scale(padded, dict(reversed(a.logs))) is a
    assert pickle.loads(pickle.dumps(a)) is a
    assert Scale.from_strings(*a.strings()) is a


@given(scales, scales)
def test_reading_the_exponents(a, b):
    """power and log_power add up in a product; dims are those with an exponent."""
    for dim in DIMS:
        assert (a * b).power(dim) == a.power(dim) + b.power(dim)
        assert (a * b).log_power(dim) == a.log_power(dim) + b.log_power(dim)
    assert a.dims == {d for d in DIMS if a.power(d) or a.log_power(d)}


@pytest.mark.parametrize(
    ("scale", "text", "latex"),
    [
        (ONE, "1", "1"),
        (Scale.of("N", 2), "N^2", "N^{2}"),
        (Scale.of("N_u", "-1/2") * Scale.of("N_x"), "N_u^(-1/2) N_x", r"N_{u}^{-1/2}\,N_{x}"),
        (Scale.log("N_x", "1/2"), "(log N_x)^(1/2)", r"(\log N_{x})^{1/2}"),
        (Scale.of("N", -1) * Scale.log("N"), "N^(-1) log N", r"N^{-1}\,\log N"),
    ],
)
def test_as_text(scale, text, latex):
    """As text, in a repr and in LaTeX."""
    assert (str(scale), repr(scale), scale.latex()) == (text, f"Θ({text})", latex)


# ---------------------------------------------------------------------- the order


@given(scales, scales, scales)
def test_a_partial_order(a, b, c):
    """s = O(t): reflexive, antisymmetric, transitive."""
    assert a <= a
    assert not (a <= b and b <= a) or a is b
    assert not (a <= b and b <= c) or a <= c
    assert (a < b) == (b > a) == (a <= b and a is not b)
    assert (a >= b) == (b <= a)


@given(scales, scales, scales)
def test_the_order_is_compatible_with_products(a, b, c):
    """A common factor changes no comparison; inverses turn it round."""
    assert (a <= b) == (a * c <= b * c) == (b**-1 <= a**-1)


@given(regimes, scales, scales, scales)
def test_every_regime_orders_and_multiplies(regime, a, b, c):
    """Antisymmetric, unchanged by a common factor, transitive, and never against the free order."""
    order = regime.order(a, b)
    assert regime.order(b, a) == (None if order is None else -order)
    assert regime.order(a * c, b * c) == order
    if order is not None and order == regime.order(b, c):
        assert regime.order(a, c) == order
    if a <= b:
        assert order in (-1, 0)
    assert regime.bounded(a / b) == (order in (-1, 0))


@given(total_regimes, scales, scales)
def test_outside_free_every_pair_is_ordered(regime, a, b):
    """Total, with a tie exactly where what is compared is equal."""
    order = regime.order(a, b)
    assert order in (-1, 0, 1)
    assert (order == 0) == (regime.key(a) == regime.key(b))


@given(scales, scales)
def test_free_is_tied_with_itself_only(a, b):
    """In the free regime two scales are of one order only if they are one scale."""
    assert (Regime().order(a, b) == 0) == (a is b)


@pytest.mark.parametrize(
    ("regime", "a", "b", "order"),
    [
        ("free", Scale.of("N_u"), Scale.of("N_x"), None),
        ("free", Scale.log("N_u", 9), Scale.of("N_u", "1/9"), -1),
        ("free", Scale.of("N_u", "1/9"), Scale.log("N_x"), None),
        ("N_u>N_x", Scale.of("N_u", "1/9"), Scale.of("N_x", 9), 1),
        ("N_u>N_x", Scale.log("N_u"), Scale.of("N_x", 9), 1),
        ("N_x>N_u", Scale.of("N_u", "1/9"), Scale.of("N_x", 9), -1),
        ("N_u>N_x", Scale.of("N_x"), Scale.of("L", 5), 1),
        ("proportional", Scale.of("N_u"), Scale.of("N_x"), 0),
        ("proportional", Scale.of("N_u") * Scale.log("N_u"), Scale.of("N_x"), 1),
        ("N_x=N_u^1/2", Scale.of("N_x", 2), Scale.of("N_u"), 0),
        ("N_x=N_u^1/2", Scale.of("N_x"), Scale.of("N_u"), -1),
        ("N_x=N_u^3/2", Scale.of("N_x"), Scale.of("N_u"), 1),
    ],
)
def test_known_comparisons(regime, a, b, order):
    """By hand: logs below every power, the first dim of an order above all powers of the next, a path substitutes."""
    assert Regime.parse(regime).order(a, b) == order


@given(regimes, st.lists(scales, min_size=1, max_size=6))
def test_leading_are_the_undominated(regime, many):
    """Exactly those that no other exceeds (one stands for all that tie); the order of the list does not matter."""
    found = regime.leading(many)
    undominated = {s for s in many if not any(regime.order(s, t) == -1 for t in many)}
    assert found
    assert set(found) <= undominated
    assert all(any(regime.order(s, t) == 0 for t in found) for s in undominated)
    assert not any(regime.order(s, t) == 0 for s in found for t in found if s is not t)
    assert set(regime.leading(found)) == set(found)


@given(scales, scales, st.sampled_from(TOTAL))
def test_the_order_is_that_of_large_widths(a, b, text):
    """At huge widths that grow as the regime says, the larger scale has the larger value."""
    regime, ratio = Regime.parse(text), Scale(dict((a / b).powers))
    assume(all(e.denominator <= 6 for _, e in ratio.powers))
    if regime.kind == "ordered":  # a sixth of the first dim's bits outweighs six times all bits of the next
        dims = (*regime.order_of, *sorted({*DIMS} - {*regime.order_of}))
        bits = {dim: 100.0 / 50**i for i, dim in enumerate(dims)}
    else:
        bits = {dim: 20.0 * float(dict(regime.rates).get(dim, 1)) for dim in DIMS}
    value = math.log2(ratio.at({dim: 2.0**b for dim, b in bits.items()}))
    assert (value > 1e-6) - (value < -1e-6) == regime.order(ratio, ONE)


@given(scales)
def test_value_at_widths(a):
    """``at`` multiplies the powers and logs of the widths: doubling a width's logarithm squares its power."""
    narrow, wide = dict.fromkeys(DIMS, 16.0), dict.fromkeys(DIMS, 256.0)
    powers = sum((a.power(d) for d in DIMS), Fraction(0))
    logs = sum((a.log_power(d) for d in DIMS), Fraction(0))
    assert math.isclose(a.at(wide) / a.at(narrow), 16.0 ** float(powers) * 2.0 ** float(logs), rel_tol=1e-9)


# ---------------------------------------------------------------------- what the user types


@pytest.mark.parametrize(
    ("text", "value"),
    [("1/2", Fraction(1, 2)), (" -3 ", Fraction(-3)), ("(-1/2)", Fraction(-1, 2)), ("+4/6", Fraction(2, 3)), (2, 2)],
)
def test_exponents(text, value):
    """Whole numbers and fractions, with a sign or in brackets."""
    assert fraction(text) == value


@pytest.mark.parametrize("text", ["", "a", "0.5", "1/0", "1//2", "1/-2", "1/2/3", "1e3", "√2", "1234567", 0.5, None])
def test_no_exponents(text):
    """Anything else is refused and quoted, floats and division by zero included."""
    with pytest.raises(InputError, match="exponent") as caught:
        fraction(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("free", "free"), ("proportional", "path"), ("N_u>N_x", "ordered"), (" N_u > N_x ", "ordered"),
     ("N_x=N_u^1/2", "path"), ("N_x = N_u", "path"), ("N_x=N_u^(3/2)", "path")],
)  # fmt: skip
def test_regimes(text, kind):
    """Every form; what it was written as is kept and understood again."""
    regime = Regime.parse(text, ("N_u", "N_x"))
    assert regime.kind == kind
    assert Regime.parse(regime.text) == regime


@pytest.mark.parametrize(
    "text",
    ["", "wide", "N_u", "N_u>", ">N_x", "N_u>N_u", "N_u>N_z", "N_u=N_x^0", "N_u=N_x^-1", "N_u=N_x^x", "N_u=N_u^2",
     "N_u=N_x=L", "N_u<N_x", "2>N_u"],
)  # fmt: skip
def test_no_regimes(text):
    """A misspelt regime, one of unknown or repeated dims, and one in which a dim does not grow."""
    with pytest.raises(InputError):
        Regime.parse(text, ("N_u", "N_x"))


def test_a_wrong_regime_names_the_dims():
    """The message shows the forms and the model's own dims."""
    with pytest.raises(InputError, match=r"'N>M' is no regime; .*N_u>N_x.* The model's dims: A, B\."):
        Regime.parse("N>M", ("B", "A"))


# ---------------------------------------------------------------------- limits


@given(st.lists(scales, min_size=1, max_size=3))
def test_limits_commute_where_one_scale_bounds_all_others(several: list[Scale]) -> None:
    orders = [Regime.parse(text) for text in ("N_u>N_x", "N_x>N_u")]
    two = [Scale({d: e for d, e in s.powers if d != "L"}, {d: e for d, e in s.logs if d != "L"}) for s in several]
    assert commuting(two, ("N_u", "N_x")) == (len({order.leading(two) for order in orders}) == 1)
    if len(Regime().leading(two)) == 1:
        assert commuting(two, ("N_u", "N_x"))


def test_limits_that_do_not_commute() -> None:
    assert not commuting([Scale.of("N_u"), Scale.of("N_x")], ("N_u", "N_x"))
    assert commuting([Scale.of("N_u"), Scale.one()], ("N_u", "N_x"))
