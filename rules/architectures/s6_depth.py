"""Stack of selective state space blocks whose depth grows."""

from __future__ import annotations

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.architectures._selective import gated, selective
from scalecalc.rules.architectures.residual_depth import multiplied
from scalecalc.rules.depth import layers, residual_sum
from scalecalc.rules.elementwise import silu
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm

TIMES = 2


@architecture(
    "s6_depth",
    "Gu & Dao 2023, arXiv 2312.00752, alg. 2 and sec. 3.4; depth: Dey et al. 2025, arXiv 2505.01618 (CompleteP)",
    parameterization="mup_ssm",
    optimizer="adam",
    widths={"N_u": [32, 64, 128], "N_x": [16, 32, 64], "L": [4, 8, 16]},
)
def s6_depth(
    branch: str = "L^(-1)", discretization: str = "zoh", transition: str = "mamba", step: str = "fixed",
    skip: bool = False, gate: bool = False,
) -> Program:  # fmt: skip
    """Stack of L selective layers with N_u channels and N_x states, all three growing: norm, S6, a projection, a residual.

    A block adds W_o y, times the branch multiplier, to what enters it, e; y is the S6 layer's output at silu(norm(e)), and
    every block has weights of its own.  Of a Mamba block (``mamba_depth``) the projection before and the convolution are left
    out.

    Its table is the single layer's, and free of L but for what a single block adds, if branches are multiplied by 1/L and
    trained by Adam.  What differs from a residual perceptron is that the powers of N_x, which the first block sees no less
    than the last, have to leave y of order one, or what enters the blocks is not alike for all of them.  Watch Euler's method
    (``discretization=mamba``) under mup_ssm: y is N_x^(1/2) there, and gradients are not derived.

    Options: ``branch`` (the multiplier, a power of L), ``discretization``, ``transition``, ``step`` and ``skip`` as in s6;
    ``gate``: y is multiplied by silu(W_z norm(e)).  With all three dims growing freely it takes seconds to derive, too, but
    for a gate and a step that is selective, which want a path (``--regime proportional``).
    """
    p = Program("s6_depth", dims=("N_u", "N_x", "L"), fixed={"batch": 4, "time": TIMES, "in": 16, "out": 4, "rank": 4})
    x = p.input("x", "batch time in")
    u = p.feature("u", matmul(p.weight("W_in", "N_u in"), x))
    last = p.weight("W_o", "L N_u N_u'", "branch", stacked="L")
    e = p.feature("e", layers(u, last, "L"))
    a = rmsnorm(e, "N_u")
    y = p.feature("y", selective(p, silu(a), discretization, transition, step, skip, blocks="L"))
    o = p.feature("o", multiplied(p, branch)(matmul(last, gated(p, y, a, "L") if gate else y)))
    v = p.feature("v", residual_sum(e, o))
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), rmsnorm(v, "N_u")))
    p.end(f)
    return p
