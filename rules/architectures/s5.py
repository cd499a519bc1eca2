"""S5: one diagonal bank of complex states for all channels."""

from __future__ import annotations

import sympy as sp

from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.complex import real
from scalecalc.rules.discretization import discretize
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.elementwise import exp
from scalecalc.rules.matmul import matmul
from scalecalc.rules.recurrence import recurrence
from scalecalc.rules.transition import eigenvalues


@architecture(
    "s5",
    "Smith, Warrington & Linderman 2023, arXiv 2208.04933 (S5), sec. 3 and appendix B",
    parameterization="mup",
    optimizer="adam",
    widths={"N_u": [64, 192, 512], "N_x": [16, 48, 128]},
)
def s5(transition: str = "s4d_lin", discretization: str = "zoh", step: str = "fixed", activation: str = "gelu") -> Program:
    """S5 layer: h_t = Λ̄ h_{t−1} + B̄ u_t with complex B and C, y = Re(C h) + D u, a step per state, then φ and a readout.

    Its table is that of two ordinary matrices with a filter between them: under zero-order hold the states fall like 1/n, so
    that C reads finitely many of them.  What differs from the mup habit is therefore C, whose fan-in is effectively finite:
    with mup's size y vanishes as N_x^(-1/2).  Watch the steps where they are trained, one per state: the phase of the n-th
    state turns n times as far as its step moves, so that the second order of their update grows with the number of states.

    Options: ``transition`` (s4d_lin stands for the eigenvalues of HiPPO-N, s4d_inv, or any other of s6's);
    ``discretization``; ``step``: Δ is ``fixed`` at 0.7, or ``trained`` per state from there; ``activation``.
    """
    if step not in ("fixed", "trained"):
        raise InputError(f"step={step!r} is none of fixed, trained.")
    p = Program("s5", dims=("N_u", "N_x"), fixed={"batch": 4, "time": 2, "in": 16, "out": 4})
    u = p.feature("u", function(activation)(matmul(p.weight("W_in", "N_u in"), p.input("x", "batch time in"))))
    i = p.index("i", "", sp.I)
    v = matmul(p.weight("B_re", "N_x N_u"), u) + i * matmul(p.weight("B_im", "N_x N_u"), u)
    decay, factor = discretize(discretization, _step(p, step), eigenvalues(p, transition, "N_x"))
    h = p.feature("h", recurrence(decay, factor * v))
    # Re(C h) = C_re Re h − C_im Im h, and −Im h = Re(i h)
    y = matmul(p.weight("C_re", "N_u N_x"), real(h)) + matmul(p.weight("C_im", "N_u N_x"), real(i * h))
    y = p.feature("y", y)
    s = p.feature("s", function(activation)(y + p.weight("D", "N_u", init=sp.Integer(1)) * u))
    p.end(p.feature("f", matmul(p.weight("W_out", "out N_u"), s)))
    return p


def _step(p: Program, kind: str) -> Tensor:
    if kind == "fixed":
        return p.index("Delta", "", sp.Rational(7, 10))
    return exp(p.weight("log_Delta", "N_x", init=sp.log(sp.Rational(7, 10))))
