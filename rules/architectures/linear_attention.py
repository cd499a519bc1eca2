"""Linear attention with a decaying matrix state: retention, gated linear attention."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp

from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import sigmoid, silu
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm
from scalecalc.rules.recurrence import recurrence
from scalecalc.rules.reduction import dot, rename
from scalecalc.scale import Scale

DECAYS = ("gated", "fixed", "none")
SCALES = {"1/d": Fraction(-1), "1/sqrt(d)": Fraction(-1, 2), "1": Fraction(0)}
RANK = 4


@architecture(
    "linear_attention",
    "Sun et al. 2023, arXiv 2307.08621 (retention); Yang et al. 2023, arXiv 2312.06635 (gated linear attention)",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [32, 64, 128, 256]},
)
def linear_attention(decay: str = "gated", scale: str = "1/d", norm: bool = True, gate: bool = True) -> Program:
    """Block of one head whose state is a matrix: S_t = a_t S_{t−1} + k_t ⊗ v_t, o_t = S_tᵀ q_t, of width N, on a residual.

    Its table is attention's without the softmax: o is q·k times v, so that the scale decides.  What differs from the habit
    is the norm behind the head, with which every scale is one forward pass: o moves by N^(1/2) times what it was as soon as q
    and k have learned to align, and 1/d does not mend that, it only makes o small initially.  Watch a block without the norm:
    there 1/d is the one scale that holds.

    Options:

    - ``decay``: ``gated`` per key feature, the 16th root of a sigmoid of W_up W_down u of rank 4 (gated linear attention);
      ``fixed`` at 31/32 (retention, its first head); ``none`` (linear attention).
    - ``scale``: ``1/d``, ``1/sqrt(d)`` or ``1``.
    - ``norm``: the head's output is divided by its root-mean-square; ``gate``: it is multiplied by silu(W_g u).
    """
    if decay not in DECAYS or scale not in SCALES:
        raise InputError(f"linear_attention has decays {', '.join(DECAYS)} and scales {', '.join(SCALES)}.")
    p = Program("linear_attention", dims=("N",), fixed={"batch": 2, "time": 2, "in": 16, "out": 8, "rank": RANK})
    u = p.feature("u", matmul(p.weight("W_in", "N in"), p.input("x", "batch time in")))
    a = rmsnorm(u, "N")
    q, k, v = (p.feature(n, matmul(p.weight(f"W_{n}", f"{to} N"), a)) for n, to in (("q", "N'"), ("k", "N'"), ("v", "N''")))
    k = k * p.index("scale", "", sp.Integer(1), scale=Scale.of("N", SCALES[scale]))
    state = recurrence(_decay(p, decay, a), k * v)
    o = p.feature("o", dot(state, q, "N'"))
    if norm:
        o = rmsnorm(o, "N''")
    if gate:
        o = o * silu(p.feature("g", matmul(p.weight("W_g", "N'' N"), a)))
    u = p.feature("u1", u + rename(matmul(p.weight("W_o", "N' N''"), o), {"N'": "N"}))
    f = p.feature("f", matmul(p.weight("W_out", "out N"), rmsnorm(u, "N")))
    p.end(f)
    return p


def _decay(p: Program, kind: str, a: Tensor) -> Tensor:
    """The decay a: (batch, time, N') where it is gated, else a constant."""
    if kind != "gated":
        return p.index("decay", "", sp.Rational(31, 32) if kind == "fixed" else sp.Integer(1))
    low = matmul(p.weight("W_down", "rank N"), a)
    return p.feature("a", sigmoid(p.feature("l", matmul(p.weight("W_up", "N' rank"), low))))
