"""DeltaNet: a matrix state that is corrected towards each value at its key."""

from __future__ import annotations

import sympy as sp

from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import exp, negative, sigmoid, softplus
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm
from scalecalc.rules.reduction import dot, rename
from scalecalc.rules.view import part
from scalecalc.scale import Scale

TIMES = 2
FORGETS = (
    "the state forgets what it holds along a key only when that key comes near again, after about N steps of random keys, "
    "which is neither a fixed number of them nor all. linear_attention, with a decay, has a length that can grow"
)


@architecture(
    "deltanet",
    "Schlag, Irie & Schmidhuber 2021, arXiv 2102.11174; Yang et al. 2024, arXiv 2406.06484 (normalised keys); gated: Yang, "
    "Kautz & Hatamizadeh 2024, arXiv 2412.06464, eq. 10",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [32, 64, 128, 256]},
)
def deltanet(norm: bool = True, gated: bool = False, residual: bool = False) -> Program:
    """DeltaNet head of width N over two steps: S_t = S_{t−1} + β_t (v_t − S_{t−1} k_t) ⊗ k_t, o_t = S_t q_t, |k| = |q| = 1.

    Its table is linear attention's with a scale of 1/d, since unit keys and queries have entries of N^(-1/2) each: o vanishes
    as N^(-1/2) until queries and keys have learned to align, and the norm behind the head divides by that.  What differs from
    the habit is W_beta, a readout of the layer's input for all its looking like a vector: with a vector's size and rate its
    argument grows like N^(1/2).  Watch a head without the norm: nothing in it learns under SGD at mup's rates.

    Options: ``norm``: o is divided by its root-mean-square; ``gated``: S_{t−1} is first multiplied by α_t, the exponential of
    −softplus(W_alpha u) (gated DeltaNet); ``residual``: the head's projected output is added to its input.
    """
    p = Program("deltanet", dims=("N",), fixed={"batch": 4, "time": TIMES, "in": 16, "out": 8, "head": 1})
    p.unrolled("time", FORGETS)
    x = p.input("x", "batch time in")
    embed = p.weight("W_in", "N in")
    weights = {name: p.weight(f"W_{name}", f"{to} N") for name, to in (("q", "N'"), ("k", "N'"), ("v", "N''"))}
    strength, forget = p.weight("W_beta", "head N"), p.weight("W_alpha", "head N") if gated else None
    unit = p.index("unit", "", sp.Integer(1), scale=Scale.of("N", "-1/2"))
    state: Tensor | None = None
    for t in range(TIMES):
        u = p.feature(f"u{t + 1}", matmul(embed, part(x, "time", "", t, t + 1)))
        a = rmsnorm(u, "N")
        q, k, v = (matmul(weights[name], a) for name in "qkv")
        k, v = rmsnorm(p.feature(f"k{t + 1}", k), "N'") * unit, p.feature(f"v{t + 1}", v)
        if state is not None:
            if forget is not None:
                state = part(exp(negative(softplus(matmul(forget, a)))), "head", "", 0, 1) * state
            v = p.feature(f"e{t + 1}", v + negative(dot(state, k, "N'")))
        write = part(sigmoid(matmul(strength, a)), "head", "", 0, 1) * (v * k)
        state = write if state is None else state + write
        if t == TIMES - 1:
            q = rmsnorm(p.feature("q", q), "N'") * unit
            o = p.feature("o", dot(state, q, "N'"))
            o = rmsnorm(o, "N''") if norm else o
            y = rename(matmul(p.weight("W_o", "N' N''"), o), {"N'": "N"})
            y = p.feature("y", u + y if residual else y)
            p.end(p.feature("f", matmul(p.weight("W_out", "out N"), y)))
    return p
