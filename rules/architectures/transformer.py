"""A pre-norm transformer block between an embedding and a readout."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp

from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import layernorm, rmsnorm
from scalecalc.rules.reduction import dot, rename
from scalecalc.rules.softmax import softmax
from scalecalc.scale import Scale

TIMES, HEADS, WIDTH = 4, 2, 16
CAUSAL = tuple(tuple(s <= t for s in range(TIMES)) for t in range(TIMES))


@architecture(
    "transformer",
    "Vaswani et al. 2017, arXiv 1706.03762; pre-norm: Xiong et al. 2020, arXiv 2002.04745",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [64, 128, 256, 512]},
)
def transformer(
    scale: str = "1/d",
    growing: str = "width",
    norm: str = "rms",
    qk_norm: bool = False,
    glu: bool = False,
    groups: bool = False,
    activation: str = "gelu",
) -> Program:
    """Pre-norm transformer block of width N: causal attention and a feed-forward layer, each behind a norm, on a residual.

    Its table is mup's where each head grows wider, and then only with logits of 1/d: q and k align with each other once they
    have learned, so that their product is a sum of d terms of one sign.  Where heads of fixed width grow in number, 1/√d and
    1/d are the same table.  Watch the logits initially: with 1/d they vanish, and with them the gradients of q and k.

    Options:

    - ``scale``: of the logits, ``1/d`` (muP) or ``1/sqrt(d)``.
    - ``growing``: ``width`` of each of 2 heads, or the number of ``heads``, each 16 wide.
    - ``norm``: ``rms`` or ``layer``.
    - ``qk_norm``: q and k are divided by their root-mean-square (Henry et al. 2020, arXiv 2010.04245).
    - ``glu``: the feed-forward layer is gated (Shazeer 2020, arXiv 2002.05202).
    - ``groups``: one head of keys and values for all heads (Shazeer 2019, arXiv 1911.02150; Ainslie et al. 2023,
      arXiv 2305.13245).
    - ``activation``: of the feed-forward layer, or of its gate.
    """
    for value, allowed in ((scale, ("1/d", "1/sqrt(d)")), (growing, ("width", "heads")), (norm, ("rms", "layer"))):
        if value not in allowed:
            raise InputError(f"transformer has no {value!r}; choose {' or '.join(map(repr, allowed))}.")
    p = Program("transformer", dims=("N",), fixed={"batch": 4, "t": TIMES, "s": TIMES, "in": 16, "out": 8})
    head, d = _heads(p, growing)
    normed = layernorm if norm == "layer" else rmsnorm
    x = p.input("x", "batch t in")
    u = p.feature("u", matmul(p.weight("W_in", "N in"), x))
    a = normed(u, "N")
    mine, shared = f"{head} {d} N", f"{d} N" if groups else f"{head} {d} N"
    q, k = matmul(p.weight("W_q", mine), a), matmul(p.weight("W_k", shared), a)
    v = p.feature("v", matmul(p.weight("W_v", shared), rename(a, {"t": "s"})))
    if qk_norm:
        q, k = rmsnorm(q, d), rmsnorm(k, d)
    q, k = p.feature("q", q), p.feature("k", rename(k, {"t": "s"}))
    power = Fraction(-1) if scale == "1/d" else Fraction(-1, 2)
    logits = p.feature("logits", dot(q, k, d) * _constant(p, d, power))
    o = p.feature("o", dot(softmax(logits, "s", keep=CAUSAL, along=("t", "s")), v, "s"))
    u = p.feature("u1", u + rename(_project(p, o, head, d), {"N'": "N"}))
    a = normed(u, "N")
    z = function(activation)(p.feature("z", matmul(p.weight("W_1", "N' N"), a)))
    if glu:
        z = z * matmul(p.weight("W_3", "N' N"), a)
    u = p.feature("u2", u + matmul(p.weight("W_2", "N N'"), z))
    f = p.feature("f", matmul(p.weight("W_out", "out N"), normed(u, "N")))
    p.end(f)
    return p


def _heads(p: Program, growing: str) -> tuple[str, str]:
    """The axes of the heads and of what each is wide."""
    size = HEADS if growing == "width" else WIDTH
    p.multiples["N''"] = Fraction(1, size)
    p.fixed["head" if growing == "width" else "d"] = size
    return ("head", "N''") if growing == "width" else ("N''", "d")


def _constant(p: Program, d: str, power: Fraction) -> Tensor:
    size = Scale.of("N", power) if p.grows(d) else None
    number = sp.Integer(HEADS if p.grows(d) else WIDTH) ** sp.Rational(power)
    return p.index("scale", "", 1 / number if p.grows(d) else number, scale=size)


def _project(p: Program, o: Tensor, head: str, d: str) -> Tensor:
    inner = f"{head} {d}" if p.grows(d) else f"{d} {head}"
    return dot(p.weight("W_o", f"N' {inner}"), o, inner)
