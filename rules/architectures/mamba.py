"""The Mamba block as its reference implementation builds it."""

from __future__ import annotations

from functools import reduce
from operator import add

from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.architectures._selective import RANK, gated, selective
from scalecalc.rules.elementwise import silu
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm
from scalecalc.rules.recurrence import delay
from scalecalc.rules.reduction import dot, rename
from scalecalc.rules.view import part, windows

TIMES, TAPS = 2, 2


@architecture(
    "mamba",
    "Gu & Dao 2023, arXiv 2312.00752, sec. 3.4 and the reference implementation (mamba_simple.py)",
    parameterization="mup",
    optimizer="adam",
    widths={"N_u": [64, 192, 512], "N_x": [16, 48, 128]},
)
def mamba(discretization: str = "mamba", transition: str = "mamba", step: str = "mamba", residual: bool = True) -> Program:
    """Mamba block: norm, two projections, causal depthwise convolution, selective states, skip, gate, projection, residual.

    Its table is that of the bare selective layer with a norm before it and a skip beside it: convolution, gate and the rank
    of Δ are of fixed size and change no exponent.  What differs from the mup habit is every power of N_x, for the reference
    mixes zero-order hold for A with Euler's method for B, under which the structured transition pays for nothing.  Watch the
    skip, the residual and the small initial step (10⁻³ to 10⁻¹): they hide the states at every width that a laptop reaches,
    and slopes measured there are those of the skip.  ``mamba:step=low_rank,residual=no`` can be measured.

    Options: ``discretization``, ``transition`` and ``step`` as in s6; ``residual``: the block's input is normed, and added
    to its output.
    """
    fixed = {"batch": 4, "time": TIMES, "t": TIMES, "tap": TAPS, "in": 16, "out": 4, "rank": RANK}
    p = Program("mamba", dims=("N_u", "N_x"), fixed=fixed)
    u = p.feature("u", matmul(p.weight("W_in", "N_u in"), p.input("x", "batch time in")))
    a = rmsnorm(u, "N_u") if residual else u
    o = p.feature("o", mixed(p, a, discretization, transition, step))
    u = p.feature("u1", u + o) if residual else o
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), rmsnorm(u, "N_u") if residual else u))
    p.end(f)
    return p


def mixed(p: Program, a: Tensor, discretization: str, transition: str, step: str, blocks: str = "") -> Tensor:
    """What a block makes of its input behind the norm (the reference implementation's Mamba module): (batch, time, N_u).

    ``blocks``: the axis that counts the blocks, if there are many with weights of their own.
    """
    into = p.weight("W_v", f"{blocks} N_u' N_u", stacked=blocks)
    x = p.feature("v", rename(matmul(into, a), {"N_u'": "N_u"}))
    x = silu(p.feature("c", _causal(p.weight("K", f"{blocks} N_u tap", stacked=blocks), x)))
    y = p.feature("y", selective(p, x, discretization, transition, step, skip=True, blocks=blocks))
    return matmul(p.weight("W_o", f"{blocks} N_u N_u'", "branch" if blocks else "", stacked=blocks), gated(p, y, a, blocks))


def _causal(kernel: Tensor, x: Tensor) -> Tensor:
    """Depthwise convolution over time, of the present and earlier entries."""
    if x.program.grows("time"):  # the same sum, tap by tap, of a sequence delayed
        taps = [part(kernel, "tap", "", k, k + 1) * delay(x, TAPS - 1 - k) for k in range(TAPS)]
        return reduce(add, taps)
    return rename(dot(kernel, windows(x, "time", "t", "tap", TAPS - 1), "tap"), {"t": "time"})
