"""What one mode does: conserved quantities, closed forms, rates, and where closed forms end."""

from __future__ import annotations

from typing import Any

import sympy as sp

from scalecalc.dynamics.derivation import Derivation, Line, T, define, proved
from scalecalc.dynamics.poles import GAIN, XI, ZETA, last_stage
from scalecalc.dynamics.settings import ETA, SETTINGS, SIGMA, TAU, N, W, derive_setting, published


def conserved() -> Derivation:
    """What the flow keeps."""
    b, c, g = sp.symbols("b c g", real=True)
    b1, b2, c1, c2 = sp.symbols("b_1 b_2 c_1 c_2", real=True)
    plus, minus = (b1 + c1) ** 2 + (b2 + c2) ** 2, (b1 - c1) ** 2 + (b2 - c2) ** 2
    change = {b1: c1 * g, b2: c2 * g, c1: b1 * g, c2: b2 * g}

    def rate(expression: Any, moves: dict[Any, Any]) -> Any:
        return sum(sp.diff(expression, x) * v for x, v in moves.items())

    return Derivation(
        "conserved",
        "Conserved quantities",
        (
            define(
                "Whatever the error is, τ b' = c g and τ c' = b g of each state, with the same g; also while its "
                "pole is learnt",
                sp.Symbol("g"),
                sp.Symbol("Re Σ_k conj(D_k U_k) e_k"),
            ),
            proved(
                "b² − c² of every state is conserved",
                sp.Symbol("d(b² − c²)/dt"),
                sp.Integer(0),
                rate(b**2 - c**2, {b: c * g, c: b * g}),
            ),
            proved(
                "so b = c stays b = c", sp.Symbol("d(b − c)/dt at b = c"), sp.Integer(0), (c * g - b * g).subs(c, b)
            ),
            proved(
                "of states with one pole also b_i b_j − c_i c_j",
                sp.Symbol("d(b_1 b_2 − c_1 c_2)/dt"),
                sp.Integer(0),
                rate(b1 * b2 - c1 * c2, change),
            ),
            proved("and κ² = |b + c|² |b − c|²", sp.Symbol("d(κ²)/dt"), sp.Integer(0), rate(plus * minus, change)),
            proved(
                "by which the speed of W = b·c is known from W alone: (|b|² + |c|²)² = κ² + 4W²",
                sp.Symbol("(|b|² + |c|²)²"),
                sp.Symbol("κ² + 4W²"),
                (b1**2 + b2**2 + c1**2 + c2**2) ** 2 - plus * minus - 4 * (b1 * c1 + b2 * c2) ** 2,
            ),
            proved(
                "which is W' itself: τ W' = (|b|² + |c|²) g",
                sp.Symbol("τ W'"),
                sp.Symbol("g √(κ² + 4W²)"),
                rate(b1 * c1 + b2 * c2, change) - (b1**2 + b2**2 + c1**2 + c2**2) * g,
            ),
        ),
    )


def sigmoid() -> Derivation:
    """Balanced modes: the logistic equation and its solution."""
    w = sp.Function("w")
    start = sp.Symbol("w_0", positive=True)
    rhs = 2 * w(T) * (SIGMA - ETA * w(T)) / TAU
    solved = _logistic(w, rhs, start)
    closed = (SIGMA / ETA) / (1 + (SIGMA / (ETA * start) - 1) * sp.exp(-2 * SIGMA * T / TAU))
    return Derivation(
        "sigmoid",
        "Balanced modes learn along a sigmoid",
        (
            define(
                "b = c at the start, hence always: w = b c = b², and τ w' = 2b·τ b'",
                sp.Symbol("τ w'"),
                2 * sp.Symbol("w") * (SIGMA - ETA * sp.Symbol("w")),
            ),
            define("solved by sympy's dsolve from w(0) = w_0", sp.Symbol("w(t)"), sp.simplify(solved)),
            proved("the same as the published form", sp.Symbol("w(t)"), closed, sp.simplify(solved - closed)),
            proved(
                "put into the equation",
                sp.Symbol("w' − 2w(σ − ηw)/τ"),
                sp.Integer(0),
                sp.diff(closed, T) - 2 * closed * (SIGMA - ETA * closed) / TAU,
            ),
            proved("w(0)", sp.Symbol("w(0)"), start, closed.subs(T, 0) - start),
        ),
    )


def _logistic(w: Any, rhs: Any, start: Any) -> Any:
    """dsolve, as the Bernoulli equation that it is; the constant from the start."""
    solved = sp.dsolve(sp.Eq(w(T).diff(T), rhs), w(T), hint="Bernoulli").rhs
    constant = next(iter(solved.free_symbols - {T, SIGMA, ETA, TAU}))
    return solved.subs(constant, sp.solve(solved.subs(T, 0) - start, constant)[0])


def unbalanced() -> Derivation:
    """Any start: a Riccati equation with constant coefficients."""
    p, q, x = sp.symbols("P Q x", positive=True)
    theta = sp.Symbol("theta")
    root = sp.sqrt(4 * SIGMA**2 + ETA**2 * p * q)
    high, low = (2 * SIGMA + root) / (ETA * p), (2 * SIGMA - root) / (ETA * p)
    h, s, mu = sp.symbols(
        "x_+ x_- mu"
    )  # the roots, first as symbols: what is used of them is their sum and their product
    gone = sp.exp(-mu * T / TAU)
    closed = (h * (1 - s) - s * (1 - h) * gone) / ((1 - s) - (1 - h) * gone)
    right = -(ETA * p / (2 * TAU)) * (x - h) * (x - s)
    rest = sp.diff(closed, T) - right.subs(x, closed)
    rest = sp.simplify(rest.subs(mu, ETA * p * (h - s) / 2))
    gain = (p * sp.exp(2 * theta) - q * sp.exp(-2 * theta)) / 4
    flowing = sp.expand(2 * x * (SIGMA - ETA * (p * x - q / x) / 4))
    kappa = sp.Symbol("kappa", positive=True)
    rate = sp.sqrt(4 * SIGMA**2 + ETA**2 * kappa**2)
    return Derivation(
        "unbalanced",
        "Any start of one mode: the general closed form",
        (
            define(
                "(b + c)' = (b + c) g and (b − c)' = −(b − c) g: with θ = ∫ g, P = |b + c|², Q = |b − c|² at the start",
                sp.Symbol("W"),
                gain,
            ),
            proved(
                "x = e^(2θ) obeys a Riccati equation with constant coefficients",
                sp.Symbol("τ x'"),
                flowing,
                2 * x * (SIGMA - ETA * gain.subs(sp.exp(2 * theta), x).subs(sp.exp(-2 * theta), 1 / x)) - flowing,
            ),
            proved(
                "its fixed points x_+ and x_- are the roots of ηP x² − 4σ x − ηQ",
                sp.Symbol("x_±"),
                sp.Symbol("(2σ ± √(4σ² + η² P Q))/(ηP)"),
                (flowing + (ETA * p / 2) * (x - high) * (x - low)),
            ),
            proved("its solution from x(0) = 1 (put into the equation)", sp.Symbol("x(t)"), closed, rest),
            proved("with the rate μ = ηP(x_+ − x_-)/2", sp.Symbol("μ"), root, ETA * p * (high - low) / 2 - root),
            proved(
                "which depends on the start by what is conserved alone, κ² = P Q; balanced, κ = 0",
                sp.Symbol("μ(κ = 0)"),
                2 * SIGMA,
                rate.subs(kappa, 0) - 2 * SIGMA,
            ),
            proved(
                "far from balance it is that of a frozen c, |c|² = κ",
                sp.Symbol("lim μ/κ"),
                ETA,
                sp.limit(rate / kappa, kappa, sp.oo) - ETA,
            ),
            define(
                "The two published constants are its two limits: 1/(2σ) and 1/(ηκ), equal where ηκ = 2σ. N tied "
                "states run N times as fast, "
                "with κ = N |b² − c²|: 1/(2Nσ) and 1/(N²η|b² − c²|)."
            ),
        ),
    )


def settings() -> Derivation:
    """Every setting's flow, rate and time constant."""
    lines = [
        define("τ W' = S (σ − ηW) with S = Σ_θ (∂W/∂θ)² over the trained parameters; rate −F'(σ/η); G = σ/(η W_0)")
    ]
    for one in SETTINGS.values():
        found = derive_setting(one)
        lines.append(define(f"{one.name}: {one.words}. S =", sp.Symbol("S"), found.speed))
        lines.append(define("W' = F(W)", sp.Symbol("W'"), found.flow))
        lines.append(
            proved(
                "rate at the end",
                sp.Symbol("rate"),
                found.rate,
                -sp.diff(found.flow, W).subs(W, SIGMA / ETA) - found.rate,
            )
        )
        lines.append(
            define(
                f"half-rise; time constant Θ({found.constant}), published: {published(found.constant)}; half-rise "
                f"Θ({found.rise})",
                sp.Symbol("t_½"),
                found.half,
            )
        )
    return Derivation("settings", "Time constants, setting by setting", tuple(lines))


def step() -> Derivation:
    """A finite learning rate."""
    rho, mu = sp.symbols("rho mu", positive=True)
    lines = [
        define(
            "Near σ/η a step ε/τ multiplies what is left by 1 − εμ/τ, μ the rate: stable while |1 − εμ| < 1",
            sp.Symbol("ε_max"),
            2 / mu,
        ),
        proved("at the bound", sp.Symbol("1 − ε_max μ"), sp.Integer(-1), 1 - (2 / mu) * mu + 1),
    ]
    for name in ("tied_balanced", "tied_frozen", "untied_balanced", "untied_frozen"):
        lines.append(
            define(
                f"{name}: largest stable step",
                sp.Symbol("ε_max"),
                sp.simplify(2 / (derive_setting(SETTINGS[name]).rate * TAU)),
            )
        )
    slow = sp.log(1 - rho) / rho
    lines.append(
        proved(
            "Below it gradient descent lags or leads the flow at first order: its rate at the end is −log(1 − ρ)/ρ "
            "times μ, ρ = εμ",
            sp.Symbol("−log(1 − ρ)/ρ"),
            1 + rho / 2,
            sp.series(-slow, rho, 0, 2).removeO() - 1 - rho / 2,
        )
    )
    lines.append(
        define(
            "and Euler's method has a global error of first order in ε, wherever F is smooth: half the step, half "
            "the error",
            sp.Symbol("W_n − W(nε)"),
            sp.Symbol("O(ε)"),
        )
    )
    return Derivation(
        "step", "A finite learning rate: the largest stable step, and the departure from the flow", tuple(lines)
    )


def learned() -> Derivation:
    """A learned pole: no closed form, but the last stage is linear."""
    expected = GAIN**2 * (XI - ZETA**2 / ETA)
    lines: list[Line] = [
        define(
            "With a learned, no closed form exists: the response is not linear in what moves. The flow is integrated. Near "
            "the optimum (w, a) of one mode, balanced and all states alike, the loss is ½(η δW² + 2ζ w δW δa + ξ w² δa²), "
            "with η = ⟨z²⟩, ζ = ⟨z z'⟩, ξ = ⟨z'²⟩, z' = dz/da"
        ),
    ]
    for name, found in (("tied", last_stage(True)), ("untied", last_stage(False))):
        lines += [
            define(f"{name}: W moves by S = {found.speeds[0]}, the mean pole by", sp.Symbol("Σ share²"), found.speeds[1]),
            define("product of the two rates at the end", sp.Symbol("μ_1 μ_2"), sp.factor(found.matrix.det())),
            define("their sum", sp.Symbol("μ_1 + μ_2"), found.matrix.trace()),
            proved(
                f"so that for many states the slower, times N^{found.power}, tends to a constant; the time constant is "
                f"Θ({found.constant})",
                sp.Symbol("lim"),
                expected,
                found.limit - expected,
            ),
        ]
    lines.append(
        define(
            "More tied states learn W faster, but not the pole. Of untied ones each has an N-th of the gain, and its pole an "
            "N-th of the gradient: the pole is learnt N times as slowly."
        )
    )
    return Derivation("learned", "A learned pole", tuple(lines))


def stack() -> Derivation:
    """Layers in a row."""
    v = sp.Symbol("v", positive=True)
    one = SETTINGS["tied_balanced_two"]
    found = derive_setting(one)
    implicit = (-1 / v + sp.atanh(v * sp.sqrt(ETA / SIGMA)) * sp.sqrt(ETA / SIGMA)) * TAU / (2 * N * SIGMA)
    rest = sp.diff(implicit, v) * found.flow.subs(W, v**2) / (2 * v) - 1
    return Derivation(
        "stack",
        "Layers in a row: a deeper linear network",
        (
            define(
                "Two layers of one pole: H_k = W D_k² with W = (C_2 B_2)(C_1 B_1), a linear network of four "
                "factors; σ and η are those of D_k²",
                sp.Symbol("S"),
                found.speed,
            ),
            define("tied and balanced", sp.Symbol("W'"), found.flow),
            proved(
                "its solution is elementary for t(W), v = √W; W(t) is found from it numerically",
                sp.Symbol("t(v) − t(v_0)"),
                implicit,
                rest,
            ),
            define(
                "The plateau is longer than a sigmoid's: the half-rise grows like G^(1/2), not like log G",
                sp.Symbol("t_½"),
                found.half,
            ),
            define(
                "Where poles differ between layers, or inputs are not white, or there are three layers or more: no "
                "closed form is known here; the flow "
                "is integrated (scalecalc.dynamics.stack)."
            ),
        ),
    )
