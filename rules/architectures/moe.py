"""Mixture of experts: soft, or each token to one of them."""

from __future__ import annotations

import sympy as sp

from scalecalc.errors import InputError
from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm
from scalecalc.rules.reduction import dot, rename
from scalecalc.rules.routing import choice
from scalecalc.rules.softmax import softmax

EXPERTS = 4
REROUTED = (
    "a token's choice of an expert moves by no rate and stands in no row.  A step that moves the logits by more than they "
    "differ, as mup's readout does (1 beside N^(-1/2)), sends most tokens to another expert."
)


@architecture(
    "moe",
    "Jacobs et al. 1991, Adaptive mixtures of local experts; Shazeer et al. 2017, arXiv 1701.06538, with all experts kept; "
    "top-1: Fedus, Zoph & Shazeer 2021, arXiv 2101.03961",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [32, 64, 128, 256], "E": [8, 24, 64]},
)
def moe(routing: str = "soft", growing: str = "width", norm: bool = True, activation: str = "gelu") -> Program:
    """Mixture of experts on a residual: u + Σ_e p_e W_2[e] φ(W_1[e] u), p = softmax(W_r u), all of width N.

    Its table is the residual multilayer perceptron's where the experts are of fixed number, the router being a readout of the
    layer's input.  What differs from the habit is that router: mup's readout makes it an even mixture initially, its logits
    being N^(-1/2), and moves them by order one, so that with top-1 routing the first step sends most tokens to another
    expert.  Watch a soft mixture of a growing number of experts: the mean of E independent experts vanishes as E^(-1/2).

    Options: ``routing``: ``soft``, or ``top1``: the expert with the largest p alone, times its p; ``growing``: the ``width``
    (of 4 experts), or ``experts`` as well, a dim E (a soft mixture only, see rules/routing.py; logits are divided by 4 then,
    so that no expert has most of the mixture); ``norm`` before router, experts and readout; ``activation``.
    """
    if routing not in ("soft", "top1") or growing not in ("width", "experts"):
        raise InputError(f"moe has routing=soft or top1 and growing=width or experts, not {routing} and {growing}.")
    p = Program("moe", dims=("N",), fixed={"batch": 4, "in": 8, "out": 8})
    if growing == "experts":
        p.dims = ("N", "E")
    else:
        p.fixed["E"] = EXPERTS
    u = p.feature("u", matmul(p.weight("W_in", "N in"), p.input("x", "batch in")))
    a = rmsnorm(u, "N") if norm else u
    logits = matmul(p.weight("W_r", "E N"), a)
    if growing == "experts":  # else one of fewer than e^9 experts has most of Σ exp(3 · logit), which second orders are
        logits = logits * p.index("temperature", "", sp.Rational(1, 4))
    logits = p.feature("logits", logits)
    z = p.feature("z", matmul(p.weight("W_1", "E N' N"), a))
    y = p.feature("y", matmul(p.weight("W_2", "E N'' N'"), function(activation)(z)))
    share = softmax(logits, "E")
    if routing == "top1":
        p.remarks.append(REROUTED)
        share = share * choice(logits, "E")
    mixed = p.feature("m", rename(dot(share, y, "E"), {"N''": "N"}))
    u = p.feature("u1", u + mixed)
    f = p.feature("f", matmul(p.weight("W_out", "out N"), rmsnorm(u, "N") if norm else u))
    p.end(f)
    return p
