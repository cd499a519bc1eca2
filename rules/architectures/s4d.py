"""Diagonal state space layer with one bank of states per channel."""

from __future__ import annotations

import sympy as sp

from scalecalc.desiderata import parse_scale
from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.complex import real
from scalecalc.rules.discretization import discretize
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.elementwise import exp
from scalecalc.rules.matmul import matmul
from scalecalc.rules.recurrence import recurrence
from scalecalc.rules.reduction import dot
from scalecalc.rules.transition import eigenvalues


@architecture(
    "s4d",
    "Gu, Gupta, Goel & Ré 2022, arXiv 2206.11893",
    parameterization="mup",
    optimizer="adam",
    widths={"N_u": [32, 96, 256], "N_x": [16, 48, 128]},
)
def s4d(
    transition: str = "s4d_lin",
    discretization: str = "zoh",
    train_B: bool = False,
    step: str = "fixed",
    activation: str = "gelu",
) -> Program:
    """S4D layer: every channel has N_x states of its own, y = Re Σ_n C_n h_n + D u, then a mixing matrix and a readout.

    Its table is set by the sum over a channel's states: B is one and no random matrix, so that the states of a channel are
    one signal seen through N_x filters, and only C makes their sum random.  What differs from the mup habit is C, which has
    shape (N_u, N_x) but mixes no channels: under zero-order hold states fall like 1/n and its fan-in is effectively finite,
    so that with mup's size y vanishes as N_x^(-1/2), and with mup's rate C moves it by log N_x / N_x.  Watch the skip D,
    which hides both.

    Options: ``transition`` (s4d_lin, s4d_inv, s4d_real or any other of s6's), ``discretization``; ``train_B``: B of shape
    (N_u, N_x) is trained, one initially; ``step``: Δ is ``fixed`` at 0.7, or ``trained`` per channel from there, or 0.7 times
    a power of an axis that grows (``s4d:grow=time,step=time^(-1)``: the states' timescale is the sequence's length);
    ``activation``.  C is real: its imaginary part would read the states' imaginary parts likewise.
    """
    p = Program("s4d", dims=("N_u", "N_x"), fixed={"batch": 4, "time": 2, "in": 16, "out": 4})
    x = p.input("x", "batch time in")
    u = p.feature("u", function(activation)(matmul(p.weight("W_in", "N_u in"), x)))
    decay, factor = discretize(discretization, _step(p, step), eigenvalues(p, transition, "N_x"))
    drive = factor * u
    if train_B:
        drive = p.weight("B", "N_u N_x", init=sp.Integer(1)) * drive
    h = p.feature("h", recurrence(decay, drive))
    y = p.feature("y", dot(p.weight("C", "N_u N_x"), real(h), "N_x"))
    s = p.feature("s", function(activation)(y + p.weight("D", "N_u", init=sp.Integer(1)) * u))
    z = p.feature("z", matmul(p.weight("W_mix", "N_u N_u'"), s))
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), function(activation)(z)))
    p.end(f)
    return p


def _step(p: Program, kind: str) -> Tensor:
    if kind not in ("fixed", "trained"):
        try:
            scale = parse_scale(kind, p.dims)
        except InputError as error:
            raise InputError(f"step={kind!r} is neither fixed nor trained, nor a power of what grows: {error}") from error
        return p.index("Delta", "", sp.Rational(7, 10), scale=scale)
    if kind == "fixed":  # no multiple of it up to the 19th turns S4D-Lin's states by whole turns
        return p.index("Delta", "", sp.Rational(7, 10))
    return exp(p.weight("log_Delta", "N_u", init=sp.log(sp.Rational(7, 10))))
