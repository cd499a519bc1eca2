"""What holds frequency by frequency: the loss, its gradient flow, the network that it is, and what else enters σ and η."""

from __future__ import annotations

from typing import Any

import sympy as sp

from scalecalc.dynamics.derivation import Derivation, Line, T, define, proved
from scalecalc.dynamics.settings import ETA, SIGMA, TAU, N, W


def loss() -> Derivation:
    """The squared loss by frequency, and what a circular convolution does instead of the linear one."""
    a, b, c, z = sp.symbols("a b c z")
    r, m, p, size = sp.symbols("r m P L", positive=True)
    first = 5
    geometric = sum((a * z) ** j for j in range(first)) * (1 - a * z)
    tail = sum(r ** (p + j) for j in range(first)) * (1 - r)
    periodic = (1 - a**first * z**first).subs(z**first, 1) / (1 - a * z) / (1 - a**first)
    bound = sp.Abs(b) * sp.Abs(c) * m * r ** (T + 1 + p) / ((1 - r) * (1 - r**size))
    return Derivation(
        "loss",
        "The loss by frequency, and the error of the circular convolution",
        (
            define(
                "One state, x_t = a x_(t−1) + b u_t, y_t = c x_t. Its impulse response",
                sp.Symbol("K_j"),
                c * b * a ** sp.Symbol("j"),
            ),
            proved(
                f"A geometric sum telescopes (here L = {first}): (1 − a z) Σ_(j<L) (a z)^j",
                sp.Symbol("(1 − a z) Σ (a z)^j"),
                1 - a**first * z**first,
                sp.expand(geometric) - (1 - a**first * z**first),
            ),
            proved(
                "Periodic inputs meet K_j and its repetitions, Σ_m a^(j+mL) = a^j/(1 − a^L), |a| < 1. At z = "
                "e^(−iω_k) z^L is 1, and "
                "the response is that of the endless recursion, exactly",
                sp.Symbol("D_k"),
                1 / (1 - a * z),
                periodic - 1 / (1 - a * z),
            ),
            _parseval(2),
            _parseval(3),
            _wrapped(3),
            _wrapped(5),
            define(
                "So the outputs differ at time t by what the state held at the end. Where the last P inputs are "
                "zero and the others at most m, "
                "|x_(L−1)| ≤ |b| m Σ_(j≥P) r^j / (1 − r^L), r = |a|"
            ),
            proved(
                f"that sum is r^P/(1 − r): (1 − r) Σ_(j=P)^(P+n−1) r^j (here n = {first}, any P)",
                sp.Symbol("(1 − r) Σ r^j"),
                r**p - r ** (p + first),
                sp.expand(tail) - (r**p - r ** (p + first)),
            ),
            define(
                "hence a bound that falls like |a|^P: for an impulse at 0, P = L − 1, like |a|^L",
                sp.Symbol("max |e_t|"),
                bound,
            ),
            define(
                "Inputs that do not end in zeros (P = 0) leave an error in the first 1/(1 − |a|) samples, and in "
                "the loss per sample a part of "
                "order 1/L. No exponential bound holds there, and none is claimed."
            ),
        ),
    )


def _parseval(size: int) -> Line:
    """Σ_t (y_t − (K∗u)_t)² = Σ_k |Y_k − H_k U_k|², every entry a symbol."""
    a, g = sp.symbols("a g")
    u, y = sp.symbols(f"u:{size}", real=True), sp.symbols(f"y:{size}", real=True)
    kernel = [g * a**j / (1 - a**size) for j in range(size)]
    fitted = [sum(kernel[j] * u[(t - j) % size] for j in range(size)) for t in range(size)]
    left = sum((y[t] - fitted[t]) ** 2 for t in range(size))
    turn = [sp.expand_complex(sp.exp(-2 * sp.pi * sp.I * k / size)) for k in range(size)]

    def transform(x: Any, sign: int = 1) -> list[Any]:
        return [sum(turn[sign * k * t % size] * x[t] for t in range(size)) for k in range(size)]

    def error(sign: int) -> list[Any]:
        pairs = zip(transform(y, sign), transform(u, sign), range(size), strict=True)
        return [q - g / (1 - a * turn[sign * k % size]) * v for q, v, k in pairs]

    right = sum(x * conj for x, conj in zip(error(1), error(-1), strict=True)) / size
    return proved(
        f"The loss by frequency (Parseval; here L = {size}, every sample a symbol): Σ_t (y_t − ŷ_t)²",
        sp.Symbol("Σ_k|Y_k − H_k U_k|²/L"),
        sp.Symbol("Σ_t(y_t − ŷ_t)²"),
        sp.radsimp(sp.together(left - right)),
    )


def _wrapped(size: int) -> Line:
    """Circular minus linear convolution, every sample a symbol."""
    a, b, c = sp.symbols("a b c")
    u = sp.symbols(f"u:{size}")
    last = b * sum(a**j * u[size - 1 - j] for j in range(size)) / (1 - a**size)
    worst = sp.Integer(0)
    for t in range(size):
        linear = sum(c * b * a**j * u[t - j] for j in range(t + 1))
        circular = sum(c * b * a**j / (1 - a**size) * u[(t - j) % size] for j in range(size))
        worst += sp.Symbol(f"q{t}") * sp.simplify(circular - linear - c * a ** (t + 1) * last)
    return proved(
        f"Circular minus linear output is exactly c a^(t+1) x_(L−1), x_(L−1) that of the periodic orbit (here L = "
        f"{size}, all t)",
        sp.Symbol("ŷ°_t − ŷ_t"),
        c * a ** (T + 1) * sp.Symbol("x_(L−1)"),
        worst,
    )


def flow() -> Derivation:
    """The gradient flow of b, c and a."""
    b1, b2, c1, c2, a1, a2 = sp.symbols("b_1 b_2 c_1 c_2 a_1 a_2", real=True)
    omega, ur, ui, yr, yi = sp.symbols("omega u_r u_i y_r y_i", real=True)
    z = sp.exp(-sp.I * omega)
    u, y = ur + sp.I * ui, yr + sp.I * yi
    d1, d2 = 1 / (1 - a1 * z), 1 / (1 - a2 * z)
    e = y - (c1 * b1 * d1 + c2 * b2 * d2) * u
    value = e * sp.conjugate(e) / 2

    def same(theta: Any, claimed: Any) -> Any:
        return _rational(-sp.diff(value, theta) - (claimed + sp.conjugate(claimed)) / 2, omega)

    bar = sp.conjugate
    return Derivation(
        "flow",
        "Gradient flow in the frequency domain",
        (
            define(
                "One frequency of two states, e = Y − H U, H = c_1 b_1 D_1 + c_2 b_2 D_2; the loss is the sum of "
                "½|e|² over all",
                sp.Symbol("D_i"),
                1 / (1 - sp.Symbol("a_i") * sp.exp(-sp.I * omega)),
            ),
            proved(
                "τ db_1/dt = −∂L/∂b_1",
                sp.Symbol("τ b_1'"),
                sp.Symbol("c_1 Re Σ_k conj(D_1k U_k) e_k"),
                same(b1, c1 * bar(d1 * u) * e),
            ),
            proved(
                "τ dc_1/dt = −∂L/∂c_1",
                sp.Symbol("τ c_1'"),
                sp.Symbol("b_1 Re Σ_k conj(D_1k U_k) e_k"),
                same(c1, b1 * bar(d1 * u) * e),
            ),
            proved(
                "τ da_1/dt = −∂L/∂a_1",
                sp.Symbol("τ a_1'"),
                sp.Symbol("b_1 c_1 Re Σ_k conj(e^(−iω_k) D_1k² U_k) e_k"),
                same(a1, b1 * c1 * bar(z * d1**2 * u) * e),
            ),
            define(
                "One state, or states of one pole, with a frozen: only σ and η are left",
                sp.Symbol("τ b'"),
                sp.Symbol("c") * (SIGMA - ETA * W),
            ),
            define("σ = Re Σ_k conj(D_k U_k) Y_k, η = Σ_k |D_k U_k|², W = Σ_i c_i b_i; τ c' the same with b for c."),
        ),
    )


def _rational(expression: Any, omega: Any) -> Any:
    """Zero or not, of what is rational in e^(−iω): with q in its place, whose conjugate is 1/q."""
    q = sp.Symbol("q")
    plain = expression.replace(sp.conjugate, lambda x: x.xreplace({sp.I: -sp.I}))
    plain = sp.expand(plain.subs(sp.exp(-sp.I * omega), q).subs(sp.exp(sp.I * omega), 1 / q))
    return sp.simplify(sp.together(plain))


def network() -> Derivation:
    """States of one pole are the hidden units of a two-layer linear network."""
    n, inputs, outputs = 2, 2, 2
    b = sp.Matrix(n, inputs, sp.symbols("b:4", real=True))
    c = sp.Matrix(outputs, n, sp.symbols("c:4", real=True))
    s = sp.Matrix(outputs, inputs, sp.symbols("s:4", real=True))
    h = sp.Matrix(2, 2, [*sp.symbols("h11 h12", real=True), sp.Symbol("h12", real=True), sp.Symbol("h22", real=True)])
    product = c * b
    value = (product * h * product.T).trace() / 2 - (product * s.T).trace()
    error = s - product * h
    db, dc = c.T * error, error * b.T
    diff_b = sum(sp.expand(-sp.diff(value, b[i]) - db[i]) ** 2 for i in range(4))
    diff_c = sum(sp.expand(-sp.diff(value, c[i]) - dc[i]) ** 2 for i in range(4))
    moved = sp.expand(db * b.T + b * db.T - (c.T * dc + dc.T * c))
    return Derivation(
        "network",
        "N states of one pole are a two-layer linear network with N hidden units",
        (
            define(
                "H_k = C D_k B = D_k W with W = C B (outputs × inputs): with Σ = Re Σ_k conj(D_k) Y_k U_k* and H = "
                "Σ_k |D_k|² U_k U_k* the loss is "
                "that of a linear network that maps inputs of covariance H by B and then by C",
                sp.Symbol("L"),
                sp.Symbol("const − tr(W Σᵀ) + ½ tr(W H Wᵀ)"),
            ),
            proved(
                "τ B' = Cᵀ(Σ − C B H), every entry a symbol, N = 2",
                sp.Symbol("τ B'"),
                sp.Symbol("Cᵀ(Σ − C B H)"),
                diff_b,
            ),
            proved("τ C' = (Σ − C B H) Bᵀ", sp.Symbol("τ C'"), sp.Symbol("(Σ − C B H) Bᵀ"), diff_c),
            proved(
                "B Bᵀ − Cᵀ C is conserved",
                sp.Symbol("d(B Bᵀ − CᵀC)/dt"),
                sp.Integer(0),
                sum(sp.expand(x) ** 2 for x in moved),
            ),
            define(
                "Where H = η·1 (white inputs), the singular directions of Σ decouple: each is one mode with its "
                "singular value for σ. Larger "
                "ones are learnt first, in stages. Where it is not, they do not decouple, and the flow is integrated."
            ),
        ),
    )


def zoh() -> Derivation:
    """Continuous time with a step Δ."""
    lam, delta, s = sp.symbols("lambda Delta s", real=True, nonzero=True)
    held = sp.integrate(sp.exp(lam * s), (s, 0, delta))
    gain = (sp.exp(lam * delta) - 1) / lam
    held = sp.simplify(held)
    return Derivation(
        "zoh",
        "Continuous time: a zero-order hold with step Δ",
        (
            proved("dx/dt = λx + b u, u held for Δ: a = e^(λΔ), and b enters times", sp.Symbol("g"), gain, held - gain),
            define(
                "so a mode's signal is g times that of the discrete one, and its statistics",
                sp.Symbol("(σ, η)"),
                sp.Tuple(gain * SIGMA, gain**2 * ETA),
            ),
            proved(
                "g tends to Δ: for Δ → 0", sp.Symbol("lim g/Δ"), sp.Integer(1), sp.limit(gain / delta, delta, 0) - 1
            ),
            define("balanced: the time constant of N tied states", sp.Symbol("τ/(2Nσ)"), TAU / (2 * N * gain * SIGMA)),
            define("frozen c", sp.Symbol("τ/(N²η)"), TAU / (N**2 * gain**2 * ETA)),
            proved(
                "learned λ: da/dλ, by the chain rule",
                sp.Symbol("da/dλ"),
                delta * sp.exp(lam * delta),
                sp.diff(sp.exp(lam * delta), lam) - delta * sp.exp(lam * delta),
            ),
            proved(
                "learned Δ",
                sp.Symbol("da/dΔ"),
                lam * sp.exp(lam * delta),
                sp.diff(sp.exp(lam * delta), delta) - lam * sp.exp(lam * delta),
            ),
        ),
    )


def noise() -> Derivation:
    """Noise in the outputs."""
    s, n = sp.symbols("s n", positive=True)
    z, e = sp.symbols("z e")
    return Derivation(
        "noise",
        "Noise in the outputs",
        (
            proved(
                "y = w z + e with e uncorrelated with the inputs: σ = ⟨z y⟩ is w η + ⟨z e⟩",
                sp.Symbol("σ − wη"),
                sp.Symbol("⟨z e⟩"),
                sp.expand(z * (W * z + e)) - W * z**2 - z * e,
            ),
            define(
                "of mean 0: neither the rates nor the mean of the end depend on the noise; over n samples of white "
                "noise of variance s² the standard "
                "error of σ is",
                sp.Symbol("se(σ)"),
                sp.sqrt(s**2 * ETA / n),
            ),
            define("so the gain that is learnt scatters by", sp.Symbol("se(σ/η)"), s / sp.sqrt(ETA * n)),
        ),
    )
