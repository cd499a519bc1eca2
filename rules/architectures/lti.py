"""One linear time-invariant state space layer with dense input and output maps."""

from __future__ import annotations

import sympy as sp

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.complex import real
from scalecalc.rules.discretization import discretize
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.recurrence import recurrence
from scalecalc.rules.transition import eigenvalues


@architecture(
    "lti",
    "Smith, Warrington & Linderman 2023, arXiv 2208.04933 (S5), eq. 1-3, with a diagonal transition",
    parameterization="mup",
    optimizer="sgd",
    widths={"N_u": [64, 192, 512], "N_x": [16, 48, 128]},
)
def lti(
    discretization: str = "zoh", transition: str = "mamba", skip: bool = False, activation: str = "tanh"
) -> Program:
    """Linear time-invariant layer: h_t = Ā h_{t−1} + B̄ (W_B u_t), y_t = W_C h_t, one bank of N_x states for all channels.

    Its table is mup's but for what the transition does to the sum over the states, B and C being ordinary matrices here.
    What differs from the mup habit is W_C: under zero-order hold the states fall like 1/n, it sees finitely many of them, and
    its fan-in is effectively finite.  Watch the step: where N_x Δ is not large the states are flat and mup's own table holds.

    Options: ``discretization``, ``transition`` and ``activation`` as in s6; ``skip`` adds D·u to y, D = 1 per channel.
    """
    p = Program("lti", dims=("N_u", "N_x"), fixed={"batch": 8, "time": 2, "in": 32, "out": 4})
    x = p.input("x", "batch time in")
    u = p.feature("u", function(activation)(matmul(p.weight("W_in", "N_u in"), x)))
    v = p.feature("v", matmul(p.weight("W_B", "N_x N_u"), u))
    decay, factor = discretize(discretization, p.index("Delta", "", sp.Integer(1)), eigenvalues(p, transition, "N_x"))
    h = p.feature("h", recurrence(decay, factor * v))
    y = matmul(p.weight("W_C", "N_u N_x"), real(h))
    if skip:
        y = y + p.weight("D", "N_u", init=sp.Integer(1)) * u
    y = p.feature("y", y)
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), y))
    p.end(f)
    return p
