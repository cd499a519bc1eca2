"""Soft mixture of experts."""

from __future__ import annotations

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm
from scalecalc.rules.reduction import dot, rename
from scalecalc.rules.softmax import softmax

EXPERTS = 4


@architecture(
    "moe",
    "Jacobs et al. 1991, Adaptive mixtures of local experts; Shazeer et al. 2017, arXiv 1701.06538, with all experts kept",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [32, 64, 128, 256]},
)
def moe(norm: bool = True, activation: str = "gelu") -> Program:
    """Soft mixture of 4 experts on a residual: u + Σ_e p_e W_2[e] φ(W_1[e] u), p = softmax(W_r u), all of width N.

    Its table is the residual multilayer perceptron's, the experts being of fixed number and the router a readout of the
    layer's input.  What differs from the habit is that router: mup's readout makes it an even mixture initially, its logits
    being N^(-1/2), and moves them by order one.  Watch a router with a hidden layer's size N^(-1/2): it favours one from
    the start.

    Options: ``norm`` before router, experts and readout; ``activation``.
    """
    p = Program("moe", dims=("N",), fixed={"batch": 4, "in": 8, "out": 8, "E": EXPERTS})
    u = p.feature("u", matmul(p.weight("W_in", "N in"), p.input("x", "batch in")))
    a = rmsnorm(u, "N") if norm else u
    logits = p.feature("logits", matmul(p.weight("W_r", "E N"), a))
    z = p.feature("z", matmul(p.weight("W_1", "E N' N"), a))
    y = p.feature("y", matmul(p.weight("W_2", "E N'' N'"), function(activation)(z)))
    mixed = p.feature("m", rename(dot(softmax(logits, "E"), y, "E"), {"N''": "N"}))
    u = p.feature("u1", u + mixed)
    f = p.feature("f", matmul(p.weight("W_out", "out N"), rmsnorm(u, "N") if norm else u))
    p.end(f)
    return p
