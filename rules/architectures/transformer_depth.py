"""Pre-norm transformer whose depth grows."""

from __future__ import annotations

import sympy as sp

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.architectures.residual_depth import multiplied
from scalecalc.rules.architectures.transformer import FIXED, Block, heads
from scalecalc.rules.depth import layers, own, residual_sum
from scalecalc.rules.matmul import matmul


@architecture(
    "transformer_depth",
    "Xiong et al. 2020, arXiv 2002.04745 (pre-norm); depth: Dey et al. 2025, arXiv 2505.01618 (CompleteP)",
    parameterization="completep",
    optimizer="adam",
    widths={"N": [32, 128], "L": [4, 8, 16, 32, 64]},
)
def transformer_depth(
    branch: str = "1",
    scale: str = "1/d",
    growing: str = "width",
    norm: str = "rms",
    qk_norm: bool = False,
    glu: bool = False,
    kv: str = "own",
    rotary: bool = False,
    activation: str = "gelu",
) -> Program:
    """Pre-norm transformer of width N and depth L, both growing: L blocks, recorded once, a norm and a readout.

    A block adds attention and then a feed-forward layer, each behind a norm, to what enters it, h, and each times the branch
    multiplier; every block has matrices of its own.  A row of an update is what those of all blocks change together.

    Its table is mup's, and free of L but for what a single block adds, if branches are multiplied by 1/L (CompleteP) or by
    L^(-1/2) (depth-mup).  What differs between the two is what one block's own update does: of order one within the block
    under CompleteP, L^(-1/2) under depth-mup.  Watch branches that are not multiplied: h grows along the blocks, gradients
    fall along them by a power that depends on the functions in a block, and no table of powers says how large they are.
    CompleteP's ε is N^(1/2) larger than the first gradients of W_q and W_k, and makes them lazy at the first step.

    Options: ``branch`` (the multiplier, a power of L: ``L^(-1/2)``; the same as one of W_o and W_2), the others as those of
    ``transformer``.
    """
    p = Program("transformer_depth", dims=("N", "L"), fixed=FIXED.copy())
    block = Block(p, *heads(p, growing, kv), scale, norm, qk_norm, glu, kv, rotary, activation, "L")
    x = p.input("x", "batch t in")
    u = p.feature("u", matmul(p.weight("W_in", "N in"), x))
    times = multiplied(p, branch)
    h = p.feature("h", layers(u, p.index("blocks", "L", sp.Integer(1)), "L"))
    a = p.feature("a", times(block.attention(h)))
    y = p.feature("y", a + times(block.feedforward(p.feature("h1", h + own(a, h)))))
    v = p.feature("e", residual_sum(h, y))
    f = p.feature("f", matmul(p.weight("W_out", "out N"), block.normed(v)))
    p.end(f)
    return p
