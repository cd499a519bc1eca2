r"""Settings, and how fast each learns: time constants as Θ in N, σ and η, derived from which parameters there are.

One mode of pole a, frozen, in N states: the loss depends on the weights through the gain W alone,

    L(W) = const − σ W + ½ η W²,   W = ∏_layers Σ_i c_i b_i   (tied: N c b),

and the gradient flow τ θ̇ = −∂L/∂θ moves it by

    τ Ẇ = S (σ − η W),   S = Σ_θ (∂W/∂θ)²   over the trained parameters θ.

A setting says what θ is: whether the states share their b and c (tied), whether c is frozen at 1, and whether b = c at the
start (which the flow then keeps: b² − c² is conserved).  sympy differentiates W, eliminates b and c in favour of W, and what
is left is one equation Ẇ = F(W).  Its rate at the end is −F′(σ/η), the time to the half-rise ∫ dW/F.  Nothing is looked up.

To debug: ``print(derive_setting(SETTINGS["tied_balanced"]).flow)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp

from scalecalc.errors import UnknownName
from scalecalc.scale import Scale, fraction
from scalecalc.table import Row

N, SIGMA, ETA, TAU, W, G = sp.symbols("N sigma eta tau W G", positive=True)
_B, _C = sp.symbols("b c", positive=True)
GAIN = "G"  # the dim of what is left to gain: final over initial total gain, W*/W_0
DIMS = ("N", "sigma", "eta", GAIN)


@dataclass(frozen=True)
class Setting:
    """Which parameters are trained, and where they begin.

    Args:
        tied: the states share one b and one c, so that each gets N times the gradient of one state.
        frozen: c stays 1; b begins at a small value.
        per_mode: the initial gain of each state is fixed, that of all is N times as large; else that of all is fixed.
        layers: linear SSMs in a row, all alike.
        words: in one line.
    """

    name: str
    tied: bool
    frozen: bool
    per_mode: bool
    layers: int = 1
    words: str = ""


def _all() -> dict[str, Setting]:
    found = (
        Setting("tied_balanced", True, False, True, words="one shared b = c, each state's initial gain fixed"),
        Setting("tied_balanced_total", True, False, False, words="one shared b = c, total initial gain fixed"),
        Setting("tied_frozen", True, True, True, words="one shared b, c = 1 frozen"),
        Setting("untied_balanced", False, False, True, words="b_i = c_i, each state's initial gain fixed"),
        Setting("untied_balanced_total", False, False, False, words="b_i = c_i, total initial gain fixed"),
        Setting("untied_frozen", False, True, True, words="b_i of their own, c_i = 1 frozen"),
        Setting(
            "tied_balanced_two", True, False, False, 2, "two layers, one shared b = c in both, total initial gain fixed"
        ),
        Setting("untied_balanced_two", False, False, False, 2, "two layers, b_i = c_i, total initial gain fixed"),
    )
    return {one.name: one for one in found}


SETTINGS = _all()


def setting(name: str) -> Setting:
    """A setting by name.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in SETTINGS:
        raise UnknownName("setting", name, SETTINGS)
    return SETTINGS[name]


@dataclass(frozen=True)
class Derived:
    """What follows from a setting; expressions of sympy in N, sigma, eta, tau, W and G = W*/W_0.

    Args:
        speed: S, as it comes from differentiating, in b and c.
        flow: F(W) = S(W)(σ − ηW)/τ.
        rate: −F′(σ/η), of the last stage; its inverse is the time constant.
        half: time from W_0 to half of σ/η, exact.
        constant: the time constant τ/rate as a scale in N, sigma, eta.
        rise: the half-rise as a scale in N, sigma, eta and G as G → ∞.
        initial: W_0 as a multiple of N: 1 where each state's is fixed, else 0.
    """

    setting: Setting
    speed: Any
    flow: Any
    rate: Any
    half: Any
    constant: Scale
    rise: Scale
    initial: int


@cache
def derive_setting(one: Setting) -> Derived:
    """Differentiate, eliminate, linearise and integrate one setting."""
    speed = _speed(one)
    gain = _gain(one)
    b = sp.Pow(W / gain.coeff(_monomial(one)), sp.Rational(1, 1 if one.frozen else 2 * one.layers))
    start = {_C: 1, _B: b} if one.frozen else {_C: b, _B: b}
    flow = sp.simplify(speed.subs(start, simultaneous=True)) * (SIGMA - ETA * W) / TAU
    rate = sp.powsimp(sp.simplify(-sp.diff(flow, W).subs(W, SIGMA / ETA)), force=True)
    half = _time(flow, rate)
    rise = _scale(1 / rate) * _log_or_power(sp.simplify(half * rate))
    return Derived(one, speed, flow, rate, half, _scale(1 / rate), rise, int(one.per_mode))


def _gain(one: Setting) -> Any:
    """W in terms of b and c where all states are alike."""
    found = N * _B * _C
    return sp.expand(found**one.layers)


def _monomial(one: Setting) -> Any:
    return (_B * _C) ** one.layers


def _speed(one: Setting) -> Any:
    """S = Σ (∂W/∂θ)², every parameter differentiated for itself, then all states set alike."""
    i, j = sp.symbols("i j", integer=True, positive=True)
    size = sp.Symbol("N", integer=True, positive=True)
    bs, cs = ([sp.IndexedBase(f"{x}_{layer}") for layer in range(one.layers)] for x in "bc")
    tied = [sp.symbols(f"b_{layer} c_{layer}", positive=True) for layer in range(one.layers)]
    if one.tied:
        gain = sp.prod([size * b * c for b, c in tied])
        trained = [b for b, _ in tied] + ([] if one.frozen else [c for _, c in tied])
        squares = [sp.diff(gain, theta) ** 2 for theta in trained]
    else:
        sums = [sp.Sum(c[i] * b[i], (i, 1, size)) for b, c in zip(bs, cs, strict=True)]
        squares = []
        for layer, (b, c) in enumerate(zip(bs, cs, strict=True)):
            others = sp.prod([s for k, s in enumerate(sums) if k != layer])
            for theta in (b,) if one.frozen else (b, c):
                own = sp.diff(sums[layer], theta[j]).doit()  # Σ_i δ_ij … picks the state j
                own = next(value for value, _ in own.args if value != 0) if isinstance(own, sp.Piecewise) else own
                squares.append(sp.Sum((own * others) ** 2, (j, 1, size)))
    alike = {**{b: _B for b, _ in tied}, **{c: _C for _, c in tied}}
    total = sum(squares).replace(
        lambda e: isinstance(e, sp.Indexed), lambda e: _B if str(e.base).startswith("b") else _C
    )
    return sp.simplify(total.doit().subs(alike).subs(size, N))


def _time(flow: Any, rate: Any) -> Any:
    """∫ dW/F from σ/(ηG) to σ/(2η).

    With W = (σ/η) x² and time in units of 1/rate nothing is left but a rational function of x.
    """
    x = sp.Symbol("x", positive=True)
    integrand = sp.factor(
        sp.powsimp(sp.simplify(rate * 2 * x * SIGMA / ETA / flow.subs(W, SIGMA / ETA * x**2)), force=True)
    )
    assert integrand.free_symbols == {x}
    return _primitive(integrand, x) / rate


@cache
def _primitive(integrand: Any, x: Any) -> Any:
    found = sp.integrate(sp.apart(integrand, x), x)
    assert sp.simplify(sp.diff(found, x) - integrand) == 0
    # On (0, 1), where log(x − 1) is log(1 − x) and a constant.
    real = found.replace(sp.log, lambda arg: sp.log(-arg if arg.subs(x, sp.Rational(1, 2)) < 0 else arg))
    return sp.simplify(
        sp.logcombine(sp.expand_log(real.subs(x, 1 / sp.sqrt(2)) - real.subs(x, 1 / sp.sqrt(G)), force=True))
    )


def _scale(monomial: Any) -> Scale:
    """A monomial in N, sigma and eta as a Scale; constants and τ are left out."""
    powers = sp.powsimp(sp.expand_power_base(sp.simplify(monomial), force=True), force=True).as_powers_dict()
    found = Scale.one()
    for base, power in powers.items():
        if base in (N, SIGMA, ETA):
            found = found * Scale.of(str(base), fraction(str(power)))
        elif base != TAU and not base.is_number:
            raise ValueError(f"{monomial} is no monomial in N, sigma and eta")
    return found


@cache
def _log_or_power(time: Any) -> Scale:
    """How a half-rise in units of the time constant grows with G → ∞: a power of G, a log, or not at all."""
    for power, log in ((0, 0), (0, 1), (sp.Rational(1, 2), 0), (1, 0)):
        found = sp.limit(time / (G**power * sp.log(G) ** log), G, sp.oo)
        if found.is_finite and found != 0:
            return Scale.of(GAIN, fraction(str(power))) * (Scale.log(GAIN, 1) if log else Scale.one())
    raise ValueError(f"{time} grows in a way that has no scale")


def derived_rows(one: Setting) -> tuple[Row, Row]:
    """The two rows of a setting before anything is measured."""
    derived = derive_setting(one)
    why = f"Ẇ = {derived.flow}"
    return (
        Row(
            one.name,
            "time constant",
            0,
            (derived.constant,),
            statistic="1/rate",
            klass=published(derived.constant),
            why=why,
        ),
        Row(one.name, "half-rise", 0, (derived.rise,), statistic="time", why=f"t = {derived.half}"),
    )


# Only ever compared with; nothing is derived from them.
PUBLISHED = {
    "O(τ/(Nσ))": Scale.of("N", -1) * Scale.of("sigma", -1),
    "O(τ/(N²η))": Scale.of("N", -2) * Scale.of("eta", -1),
}


def published(constant: Scale) -> str:
    """Which of the two time constants of arXiv 2407.07279 it is."""
    return next((name for name, scale in PUBLISHED.items() if scale == constant), "neither")
