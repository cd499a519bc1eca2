"""Real-gated linear recurrent unit (Griffin)."""

from __future__ import annotations

import sympy as sp

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import exp, gelu, negative, sigmoid, square
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm
from scalecalc.rules.positive import root
from scalecalc.rules.recurrence import recurrence

POWER = 8


@architecture(
    "rglru",
    "De et al. 2024, arXiv 2402.19427 (Griffin), sec. 2.4",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [64, 128, 256, 512]},
)
def rglru(gate: bool = True, residual: bool = True) -> Program:
    """Real-gated linear recurrent unit of width N: h_t = a_t h_{t−1} + (1 − a_t²)^(1/2) (i_t x_t), a_t = a^(8 r_t).

    Its table is mup's: there is one state per channel, so that no sum over states is left that a transition could pay for.
    What differs from the habit is Λ, a vector, which has an embedding's rate.  Watch decays near one: the factor
    (1 − a²)^(1/2) is steep there, and a step that is harmless elsewhere moves such a channel far, at any width.

    Options: ``gate``: the output is multiplied by gelu(W_g u), ``residual``: the layer's input is normed, and added to its
    output.  Λ is such that a = 0.95 in all channels initially.
    """
    p = Program("rglru", dims=("N",), fixed={"batch": 4, "time": 2, "in": 8, "out": 8})
    u = p.feature("u", matmul(p.weight("W_in", "N in"), p.input("x", "batch time in")))
    n = rmsnorm(u, "N") if residual else u
    x = p.feature("x1", matmul(p.weight("W_x", "N N'"), n))
    r, i = (sigmoid(p.feature(name, matmul(p.weight(f"W_{name}", "N N'"), x))) for name in ("r", "i"))
    # log a = −exp(Λ) in place of −softplus(−Λ): the same function of another parameter
    rate = exp(p.weight("Lambda", "N", init=sp.log(sp.Rational(1, 20))))
    a = exp(negative(p.index("c", "", sp.Integer(POWER)) * (rate * r)))
    scale = root(p.index("one", "", sp.Integer(1)) + negative(square(a)))
    y = p.feature("h", recurrence(a, scale * (i * x)))
    if gate:
        y = y * gelu(p.feature("g", matmul(p.weight("W_g", "N N'"), n)))
    o = matmul(p.weight("W_o", "N N'"), y)
    u = p.feature("u1", u + o if residual else o)
    f = p.feature("f", matmul(p.weight("W_out", "out N"), rmsnorm(u, "N") if residual else u))
    p.end(f)
    return p
