"""Residual multilayer perceptron whose depth grows."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from scalecalc.desiderata import parse_scale
from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.architectures.residual import normalised
from scalecalc.rules.depth import layers, residual_sum
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul

MATRICES = 2


@architecture(
    "residual_depth",
    "He et al. 2016, arXiv 1603.05027; depth: Yang et al. 2023, arXiv 2310.02244 (Tensor Programs VI)",
    parameterization="depth_mup",
    optimizer="adam",
    widths={"N": [64, 128], "L": [4, 8, 16, 32, 64]},
)
def residual_depth(
    branch: str = "1", matrices: int = MATRICES, activation: str = "tanh", norm: str = "none", bias: bool = False,
    gain: bool = False,
) -> Program:  # fmt: skip
    """Residual multilayer perceptron of width N and depth L, both growing: L blocks, recorded once, and a readout.

    A block adds W_2 φ(W_1 h) to what enters it (or φ(W_1 h), with one matrix), times the branch multiplier.  Every block
    has matrices of its own; a row of an update is what those of all blocks change together, h what enters each of them.

    Its table under depth-mup or CompleteP is mup's, and free of L but for what a single block adds.  What differs from the
    habit is that a branch is multiplied by a power of L at all, and that under Adam rates fall with L^(−1/2) where it is
    L^(−1/2) and not where it is 1/L.  Watch branches that are not multiplied: with tanh h grows like L^(1/2) and the gradient
    exponentially in L^(1/2); with relu h grows exponentially in L, and with one matrix in L^(1/2) even behind L^(−1/2). Such
    rows are left out of the table, and a note says so. What is left is L^(1/2) only from a depth of hundreds on, since tanh
    has to saturate first: slopes of h are .37, .49, .55, .56 from L = 4 to 64, as in mean field, which goes on with .55, .54,
    .52, .51 to 1024.

    Options: ``branch`` (the multiplier, a power of L: ``L^(-1/2)``; with two matrices the same as a multiplier of W_2),
    ``matrices`` per block (1 or 2), ``activation``, ``norm`` (before each branch: see ``residual``), ``bias`` (of W_1, zero
    initially), ``gain`` (of every block's norm, one initially).
    """
    p = Program("residual_depth", dims=("N", "L"), fixed={"batch": 4, "in": 8, "out": 8})
    if not 1 <= matrices <= MATRICES:
        raise InputError(f"residual_depth:matrices={matrices}: a block has one matrix or two.")
    u = p.feature("u", matmul(p.weight("W_in", "N in"), p.input("x", "batch in")))
    inner = p.weight("W_1", "L N N'", stacked="L")
    h = p.feature("h", layers(u, inner, "L"))
    a = normalised(p, norm, h)
    z = matmul(inner, p.weight("g", "L N", init=sp.Integer(1), stacked="L") * a if gain else a)
    z = z + p.weight("b", "L N", init=sp.Integer(0), stacked="L") if bias else z
    y = function(activation)(p.feature("z", z))
    if matrices == MATRICES:
        y = matmul(p.weight("W_2", "L N N'", "branch", stacked="L"), y)
    v = p.feature("v", residual_sum(h, p.feature("y", multiplied(p, branch)(y))))
    f = p.feature("f", matmul(p.weight("W_out", "out N"), normalised(p, norm, v)))
    p.end(f)
    return p


def multiplied(p: Program, branch: str) -> Callable[[Tensor], Tensor]:
    """What multiplies a branch by a power of L, as typed (none for 1)."""
    scale = parse_scale(branch, ("L",))
    if not scale.dims:
        return lambda y: y
    by = p.index("s", "", 1, scale=scale)
    return lambda y: y * by
