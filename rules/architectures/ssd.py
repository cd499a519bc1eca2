"""Mamba-2: heads with a scalar decay each (state space duality)."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp

from scalecalc.asymptotics import U
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.discretization import discretize
from scalecalc.rules.elementwise import silu
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm
from scalecalc.rules.recurrence import recurrence
from scalecalc.rules.reduction import dot
from scalecalc.rules.selection import select, select_step
from scalecalc.rules.view import view

WIDTH = 8


@architecture(
    "ssd",
    "Dao & Gu 2024, arXiv 2405.21060 (Mamba-2), sec. 7",
    parameterization="mup",
    optimizer="adam",
    widths={"N_u": [32, 96, 256], "N_x": [16, 48, 128]},
)
def ssd(norm: bool = True, gate: bool = True, skip: bool = True, residual: bool = True) -> Program:
    """Mamba-2 layer: N_u/8 heads of width 8, each with one decay for all its N_x states; B and C are common to all heads.

    Its table is linear attention's, C and B being queries and keys: their contraction over N_x is N_x^(1/2) initially and N_x
    once both have learned, nothing in the transition paying for it.  What differs from the mup habit, and from mamba's own
    table, is every power of N_x: B̄ = ΔB is flat along the states.  Watch the norm behind the gate: it divides y by what the
    sum over states has grown to, and the skip's part of it vanishes as N_x^(-1/2).

    Options: ``norm`` of the gated y; ``gate``: y is multiplied by silu(W_z u) before the norm; ``skip``: D per head;
    ``residual``: the layer's input is normed, and added to its output.
    """
    fixed = {"batch": 4, "time": 2, "in": 16, "out": 4, "p": WIDTH}
    p = Program("ssd", dims=("N_u", "N_x"), fixed=fixed)
    p.multiples["N_u''"] = Fraction(1, WIDTH)
    u = p.feature("u", matmul(p.weight("W_in", "N_u in"), p.input("x", "batch time in")))
    a = rmsnorm(u, "N_u") if residual else u
    v = p.feature("v", silu(matmul(p.weight("W_v", "N_u'' p N_u"), a)))
    B = select(p.weight("W_B", "N_x N_u"), a, "B")
    C = select(p.weight("W_C", "N_x N_u"), a, "C")
    h = recurrence(*_driven(p, a, B * v))
    y = p.feature("y", dot(C, h, "N_x"))
    if skip:
        y = y + p.weight("D", "N_u''", init=sp.Integer(1)) * v
    y = view(y, ("N_u''", "p"), ("N_u'",))
    if gate:
        y = y * silu(p.feature("z", matmul(p.weight("W_z", "N_u' N_u"), a)))
    if norm:
        y = rmsnorm(y, "N_u'")
    o = p.feature("o", matmul(p.weight("W_o", "N_u N_u'"), y))
    u = p.feature("u1", u + o) if residual else o
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), rmsnorm(u, "N_u") if residual else u))
    p.end(f)
    return p


def _driven(p: Program, a: Tensor, drive: Tensor) -> tuple[Tensor, Tensor]:
    """Decay exp(ΔA) and drive Δ·drive: Δ per head and time, A per head, −16 to −1 uniformly."""
    step = select_step(p.weight("W_Delta", "N_u'' N_u"), a, "Delta")
    decay, factor = discretize("mamba", step, p.index("A", "N_u''", -1 - 15 * U))
    return decay, factor * drive
