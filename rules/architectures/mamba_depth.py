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
)
def mamba_depth(
    branch: str = "L^(-1)", discretization: str = "zoh", transition: str = "mamba", step: str = "mamba"
) -> Program:
    """TODO."""
    fixed = {"batch": 4, "time": TIMES, "t": TIMES, "tap": TAPS, "in": 16, "out": 4, "rank": RANK}
    p = Program("mamba_depth", dims=("N_u", "N_x", "L"), fixed=fixed)
    u = p.feature("u", matmul(p.weight("W_in", "N_u in"), p.input("x", "batch time in")))
    e = p.feature("e", layers(u, p.index("blocks", "L", sp.Integer(1)), "L"))
    o = p.feature("o", multiplied(p, branch)(mixed(p, rmsnorm(e, "N_u"), discretization, transition, step, "L")))
    v = p.feature("u1", residual_sum(e, o))
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), rmsnorm(v, "N_u")))
    p.end(f)
    return p
