"""Stack of Mamba blocks whose depth grows."""

from __future__ import annotations

import sympy as sp

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.architectures._selective import RANK
from scalecalc.rules.architectures.mamba import TAPS, TIMES, mixed
from scalecalc.rules.architectures.residual_depth import multiplied
from scalecalc.rules.depth import layers, residual_sum
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm


@architecture(
    "mamba_depth",
    "Gu & Dao 2023, arXiv 2312.00752, sec. 3.4 and the reference implementation (mamba_simple.py); depth: Dey et al. 2025, "
    "arXiv 2505.01618 (CompleteP)",
    parameterization="mup_ssm",
    optimizer="adam",
    widths={"N_u": [32, 64, 128], "N_x": [16, 32, 64], "L": [4, 8, 16]},
    along_paths=True,
)
def mamba_depth(
    branch: str = "L^(-1)", discretization: str = "zoh", transition: str = "mamba", step: str = "mamba"
) -> Program:
    """Stack of L Mamba blocks with N_u channels and N_x states, all three growing, as the reference implementation has them.

    A block, recorded once, adds W_o (y silu(z)), times the branch multiplier, to what enters it, e: norm, two projections,
    causal depthwise convolution, selective states with a low-rank step and its bias, skip, gate, projection.  Every block
    has weights of its own; a row of an update is what those of all blocks change together.

    Its table is that of one block with zero-order hold, and free of L but for what a single block adds, if branches are
    multiplied by 1/L and trained by Adam.  What differs from the mup habit is what W_B, W_C and W_down move, which has the
    sign of one number per block, so that blocks add up to L^(1/2) and not to L.  Watch what comes back to the convolution by
    way of B and C: an update of K or W_v moves the states by N_u^(1/2) under mup_ssm, in one block as in a stack, and hidden
    behind the skip and the small initial step at every width that a laptop reaches.

    Options: ``branch`` (the multiplier, a power of L), ``discretization``, ``transition`` and ``step`` as in mamba.  Along a
    path (``--regime proportional``) it takes seconds to derive.  With all three dims growing freely it is refused, since no
    end has been seen; nor has one with branches of L^(-1/2) or of that size (Euler's method, ``discretization=mamba``), where
    what has passed through two blocks is followed.
    """
    fixed = {"batch": 4, "time": TIMES, "t": TIMES, "tap": TAPS, "in": 16, "out": 4, "rank": RANK}
    p = Program("mamba_depth", dims=("N_u", "N_x", "L"), fixed=fixed)
    u = p.feature("u", matmul(p.weight("W_in", "N_u in"), p.input("x", "batch time in")))
    e = p.feature("e", layers(u, p.index("blocks", "L", sp.Integer(1)), "L"))
    o = p.feature("o", multiplied(p, branch)(mixed(p, rmsnorm(e, "N_u"), discretization, transition, step, "L")))
    v = p.feature("u1", residual_sum(e, o))
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), rmsnorm(v, "N_u")))
    p.end(f)
    return p
