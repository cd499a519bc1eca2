"""One selective state space layer between an embedding and a readout."""

from __future__ import annotations

import sympy as sp

from scalecalc.asymptotics import n
from scalecalc.errors import InputError
from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.discretization import discretize
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.recurrence import recurrence
from scalecalc.rules.reduction import dot
from scalecalc.rules.selection import select, select_step


@architecture(
    "s6",
    "Gu & Dao 2023, arXiv 2312.00752, alg. 2 and eq. 1-4",
    parameterization="mup_ssm",
    optimizer="sgd",
    widths={"N_u": [64, 192, 512], "N_x": [16, 48, 128]},
)
def s6(
    discretization: str = "zoh", step: str = "selective", skip: bool = False, activation: str = "tanh"
) -> Program:
    """Selective state space layer, N_u channels and N_x states per channel, transition A_n = −(n + 1).

    The structured transition pays for the sum over states where the discretization divides by it (zero-order hold);
    what differs from the mup habit is every power of N_x.  Watch the skip: it hides the states at small width.
    """
    p = Program("s6", dims=("N_u", "N_x"), fixed={"batch": 8, "time": 2, "in": 32, "out": 4})
    x = p.input("x", "batch time in")
    u = p.feature("u", function(activation)(matmul(p.weight("W_in", "N_u in"), x)))
    transition = p.index("A", "N_x", -(n + 1))
    if step == "selective":
        delta = select_step(p.weight("W_Delta", "N_u N_u'"), u, "Delta")
    elif step == "fixed":
        delta = p.index("Delta", "", sp.Integer(1))
    else:
        raise InputError(f"step={step!r} is neither selective nor fixed.")
    B = select(p.weight("W_B", "N_x N_u", role="selection_B"), u, "B")
    C = select(p.weight("W_C", "N_x N_u", role="selection_C"), u, "C")
    decay, factor = discretize(discretization, delta, transition)
    h = p.feature("h", recurrence(decay, (factor * B) * u))
    y = dot(C, h, "N_x")
    if skip:
        y = y + p.weight("D", "N_u", init=sp.Integer(1)) * u
    y = p.feature("y", y)
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), y))
    p.end(f)
    return p
