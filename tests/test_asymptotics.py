"""What sympy says of functions: parity, degree, Taylor orders, behaviour at infinity, singular derivatives, profiles."""

from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

from scalecalc.asymptotics import Function, OneVariable, X, growth, is_zero, n, profile_of, x
from scalecalc.errors import UnsupportedScale
from scalecalc.indexed import Indexed
from scalecalc.rule import registry
from scalecalc.term import DECAYING, FLAT, Profile

F = Fraction
DELTA, A = sp.Symbol("Delta", positive=True), sp.Symbol("A", negative=True)


def function(name, order=0):
    """A registered elementwise function, or one of its derivatives."""
    return registry("rule")[name].derivative(order)


def falling(power, log=0):
    return Profile(F(power), F(log))


# ---------------------------------------------------------------------- functions of one variable


@pytest.mark.parametrize(
    ("name", "parities"),
    [
        ("identity", ["odd", "even"]),
        ("tanh", ["odd", "even", "odd", "even"]),
        ("sigmoid", ["none", "even", "odd", "even"]),
        ("relu", ["none", "none", "even", "odd"]),
        ("silu", ["none", "none", "even", "odd"]),
        ("gelu", ["none", "none", "even", "odd"]),
        ("softplus", ["none", "none", "even", "odd"]),
        ("square", ["even", "odd", "even"]),
        ("absolute", ["even", "odd", "even", "odd"]),
        ("sign", ["odd", "even", "odd"]),
        ("exp", ["none", "none", "none"]),
    ],
)
def test_parity_of_a_function_and_its_derivatives(name, parities):
    """By hand: f, f′, f″, … ; deltas and their derivatives included."""
    assert [function(name, k).parity for k in range(len(parities))] == parities


@pytest.mark.parametrize(
    ("name", "order", "singular", "homogeneous"),
    [("relu", 0, 0, 1), ("relu", 1, 0, 0), ("relu", 2, 1, -1), ("relu", 3, 2, -2), ("absolute", 2, 1, -1),
     ("sign", 1, 1, -1), ("sign", 2, 2, -2), ("square", 0, 0, 2), ("square", 1, 0, 1), ("identity", 1, 0, 0),
     ("tanh", 0, 0, None), ("softplus", 0, 0, None), ("gelu", 2, 0, None)],
)  # fmt: skip
def test_singularities_and_homogeneity(name, order, singular, homogeneous):
    """relu″ is a delta, of degree −1 and not zero; homogeneous functions keep their degree through derivatives."""
    f = function(name, order)
    assert (f.singular, f.homogeneous) == (singular, homogeneous)
    assert not f.zero


@pytest.mark.parametrize(("name", "order"), [("identity", 2), ("square", 3), ("negative", 2)])
def test_polynomials_end(name, order):
    """Enough derivatives of a polynomial are zero, and one less is not."""
    assert function(name, order).zero
    assert not function(name, order - 1).zero


@pytest.mark.parametrize(
    ("expression", "degree"), [(x**3 - x, 3), (sp.Integer(2), 0), (x, 1), (sp.Max(0, x), None), (sp.tanh(x), None)]
)
def test_degree_of_a_polynomial(expression, degree):
    """The degree, and None for what is no polynomial (relu is one on either side only)."""
    assert Function.of(expression).degree == degree


@pytest.mark.parametrize(
    ("name", "order", "taylor"),
    [("tanh", 0, (1,)), ("tanh", 1, (0, 2)), ("sigmoid", 0, (0, 1)), ("silu", 0, (1, 2)), ("gelu", 0, (1, 2)),
     ("softplus", 0, (0, 1, 2)), ("exp", 0, (0, 1, 2)), ("square", 0, (2,))],
)  # fmt: skip
def test_taylor_orders(name, order, taylor):
    """Orders with a coefficient that is not zero; sigmoid − 1/2 is odd, so it has no second order."""
    assert function(name, order).taylor == taylor


@pytest.mark.parametrize("name", ["relu", "absolute", "sign"])
def test_no_taylor_series_at_a_kink(name):
    """A function with a kink at 0 has no expansion there, and says so."""
    with pytest.raises(UnsupportedScale, match="not smooth at 0"):
        _ = function(name).taylor


LARGE = [
    ("tanh", 0, {"odd": 0}), ("sigmoid", 0, {"even": 0, "odd": 0}), ("relu", 0, {"even": 1, "odd": 1}),
    ("softplus", 0, {"even": 1, "odd": 1}), ("silu", 0, {"even": 1, "odd": 1}), ("gelu", 0, {"even": 1, "odd": 1}),
    ("softplus", 1, {"even": 0, "odd": 0}), ("square", 0, {"even": 2}), ("absolute", 0, {"even": 1}),
    ("identity", 0, {"odd": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "order", "degrees"), LARGE)
def test_large_arguments(name, order, degrees):
    """The even and the odd part of f(λx) ~ λ^degree each, against numbers at λ = 10² and 6·10²."""
    f = function(name, order)
    assert dict(f.large) == degrees
    at = {side: sp.lambdify(X, half, "scipy") for side, half in ((1, f.plus), (-1, f.minus))}
    for parity, sign in (("even", 1), ("odd", -1)):
        size = [abs(at[1](z) + sign * at[-1](z)) for z in (1e2, 6e2)]
        if parity in degrees:
            assert np.log(size[1] / size[0]) / np.log(6) == pytest.approx(degrees[parity], abs=0.02)
        else:
            assert max(size) < 1e-9


@pytest.mark.parametrize(
    ("name", "even", "odd"),
    [("sigmoid", 0, None), ("relu", None, 1), ("gelu", None, 1), ("silu", None, 1), ("softplus", None, 1),
     ("tanh", "absent", None), ("square", 2, "absent")],
)  # fmt: skip
def test_how_many_factors_each_part_mixes(name, even, odd):
    """Sigmoid less its constant is odd, and what is odd in a rectifier is linear: these mix no pairs, no triples."""
    most = {part.parity: part.most for part in OneVariable(function(name)).local("one")}
    assert (most.get("even", "absent"), most.get("odd", "absent")) == (even, odd)


@pytest.mark.parametrize(("name", "order"), [("tanh", 1), ("sigmoid", 1), ("softplus", 2), ("gelu", 2), ("silu", 2)])
def test_a_bump_acts_through_its_integral(name, order):
    """tanh′ of a large argument λz counts where z ~ 1/λ: over a normal z its mean is 1/λ, and that of its square, too."""
    f = function(name, order)
    assert dict(f.large)["even"] is None
    z = np.linspace(1e-6, 5, 2_000_001)
    half = sp.lambdify(X, f.plus, "scipy")
    for power in (1, 2):
        means = [np.mean(half(width * z) ** power * np.exp(-(z**2) / 2)) for width in (10.0, 40.0)]
        assert np.log(means[0] / means[1]) / np.log(4) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("expression", [sp.exp(x), sp.sinh(x), sp.exp(-x), x * sp.exp(x**2)])
def test_overflow(expression):
    """A function that outgrows every power has no size at a growing argument; on which side does not matter."""
    with pytest.raises(UnsupportedScale, match="overflow"):
        _ = Function.of(expression).large


@pytest.mark.parametrize(
    ("expression", "to", "power"),
    [
        (n**3, sp.oo, F(3)),
        (sp.sqrt(n) / (1 + n), sp.oo, F(-1, 2)),
        (sp.log(1 + n), sp.oo, F(0)),
        (sp.sin(n) / n**2, 0, F(-1)),
        (sp.Integer(7), sp.oo, F(0)),
        (sp.exp(-n), sp.oo, "negligible"),
        (sp.exp(n) / n, sp.oo, "overflow"),
    ],
)
def test_growth(expression, to, power):
    """The power of the leading term, at infinity and at zero."""
    assert growth(expression, n, to) == power


def test_no_power_law():
    """What oscillates has no power, and the message shows the function."""
    with pytest.raises(UnsupportedScale, match=r"no power law in sin\(n\)"):
        growth(sp.sin(n), n)


# ---------------------------------------------------------------------- profiles


@pytest.mark.parametrize(
    ("expression", "profile"),
    [
        (-(n + 1), falling(-1)),
        (sp.log(n + 1) / (n + 2), falling(1, 1)),
        (1 / (n * sp.sqrt(sp.log(n))), falling(1, "-1/2")),
        (sp.sqrt(n**2 + 1), falling(-1)),
        (2 + sp.exp(-n), FLAT),
        (sp.exp(-sp.sqrt(n)), DECAYING),
        (n**5 * sp.exp(-DELTA * n), DECAYING),
    ],
)
def test_profiles(expression, profile):
    """Powers, powers of logs, exponential decay."""
    assert profile_of(expression) == profile


@pytest.mark.parametrize("expression", [sp.exp(n), sp.exp(n) / n**3])
def test_no_profile(expression):
    """An exponentially growing vector has no profile."""
    with pytest.raises(UnsupportedScale, match="faster than any power"):
        profile_of(expression)


DISCRETIZED = [
    ("zoh", "A", DECAYING), ("zoh", "B", falling(1)),
    ("euler", "A", falling(-1)), ("euler", "B", FLAT),
    ("bilinear", "A", FLAT), ("bilinear", "B", falling(1)),
    ("mamba", "A", DECAYING), ("mamba", "B", FLAT),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "part", "profile"), DISCRETIZED)
def test_profiles_of_the_discretizations(scheme, part, profile):
    """Decay and input factor along the states n of A = −(n + 1), and the same from numbers at two indices."""
    expression = registry("rule")[scheme].parts[part].subs(sp.Symbol("A", negative=True), -(n + 1))
    assert profile_of(expression) == profile
    few, many = (abs(float(expression.subs({DELTA: 0.7, n: k}))) for k in (10**3, 10**5))
    if profile.decaying:
        assert many <= few < 1e-100
    else:
        assert np.log10(few / many) / 2 == pytest.approx(float(profile.power), abs=0.01)


@pytest.mark.parametrize(
    ("scheme", "part", "by", "profile"),
    [("zoh", "B", DELTA, DECAYING), ("zoh", "B", A, falling(2)), ("bilinear", "B", DELTA, falling(2)),
     ("bilinear", "A", A, falling(2)), ("mamba", "B", DELTA, FLAT), ("euler", "A", DELTA, falling(-1))],
)  # fmt: skip
def test_profiles_of_the_backward(scheme, part, by, profile):
    """d/dΔ turns zero-order hold's 1/n into a decay, d/dA into 1/n²."""
    expression = sp.diff(registry("rule")[scheme].parts[part], by).subs(A, -(n + 1))
    assert profile_of(expression) == profile


# ---------------------------------------------------------------------- functions of an index


def zoh_factor():
    return Indexed((sp.exp(DELTA * A) - 1) / A, (DELTA, A), (None, -(n + 1)), "S")


def test_an_indexed_function_adds_its_profile():
    """A random step Δ of order one and an exact transition: 1/n along the states, at order one and at large Δ.

    The limit does not depend on Δ, so that what varies with Δ falls exponentially, and is gone at large Δ.
    """
    constant, varying = zoh_factor().local("one")
    assert (constant.least, constant.most, constant.degree, constant.profiles) == (0, 0, 0, (("S", falling(1)),))
    assert (varying.least, varying.most, varying.profiles) == (1, None, (("S", DECAYING),))
    (large,) = zoh_factor().local("large")
    assert (large.most, large.degree, large.profiles) == (0, 0, (("S", falling(1)),))


@pytest.mark.parametrize(("part", "power"), [("A", 1), ("B", 2)])
def test_what_varies_with_the_step_falls_faster(part, power):
    """Bilinear: (f(Δ₁, n) − f(Δ₂, n)) / 2, the part that is odd in what made the step, by numbers."""
    f = Indexed(registry("rule")["bilinear"].parts[part], (DELTA, A), (None, -(n + 1)), "S")
    assert {part.least: part.profiles for part in f.local("one")}[1] == (("S", falling(power)),)
    call = sp.lambdify((DELTA, n), f.expression.subs(A, -(n + 1)))
    few, many = (abs(call(0.7, k) - call(1.3, k)) for k in (1e3, 1e5))
    assert np.log10(few / many) / 2 == pytest.approx(power, abs=0.01)


def test_an_indexed_function_that_vanishes():
    """Its derivative by Δ falls faster than any power where Δ is large, and exponentially along the states else."""
    slope = zoh_factor().partial(0)
    assert slope.local("large") == ()
    assert {part.profiles for part in slope.local("one")} == {(("S", DECAYING),)}
    assert not slope.zero
    assert Indexed(DELTA, (DELTA, A), (None, -n), "S").partial(1).zero


def test_a_vanishing_step_has_no_law():
    """Index and step do not separate then: an error that says what to do."""
    with pytest.raises(UnsupportedScale, match="step size stays of order one"):
        _ = zoh_factor().taylor


def test_what_an_expansion_reads():
    """Homogeneous functions have one law at every size; others one at order one, one at infinity."""
    relu, tanh = (OneVariable(function(name)) for name in ("relu", "tanh"))
    assert relu.local("one") == relu.local("large")
    assert [(part.degree, part.parity) for part in tanh.local("one")] == [(0, "odd")]
    assert [(part.degree, part.local) for part in tanh.partial(0).local("large")] == [(0, True)]
    assert is_zero(sp.sin(x) ** 2 + sp.cos(x) ** 2 - 1)


def test_a_pole_is_no_jump():
    """1/x on one side and nothing on the other: every derivative stays a power, none gains a delta function."""
    f = Function(1 / X, sp.Integer(0))
    assert [f.homogeneous, f.derivative.homogeneous, f.derivative.derivative.homogeneous] == [-1, -2, -3]
    assert Function.of(sp.Max(0, x)).derivative.derivative.singular == 1


@pytest.mark.parametrize("order", [0, 1, 2])
def test_gelu_by_tanh_is_as_large_as_gelu(order):
    """Its derivatives took sympy minutes: tanh of a polynomial is one at infinity, but for what no power is small beside."""
    tanh, erf = function("gelu_tanh", order), function("gelu", order)
    assert tanh.large == erf.large
    assert growth(X**2 * (2 + sp.tanh(X**3 - X)), X) == 2
    assert growth(X * (1 - sp.tanh(X)), X) == "negligible"


@pytest.mark.parametrize(("name", "parity"), [("sin", "odd"), ("cos", "even")])
def test_a_sine_is_of_order_one_however_large_its_argument(name, parity):
    assert function(name).large == ((parity, 0),)
    assert function(name, 2).large == ((parity, 0),)
