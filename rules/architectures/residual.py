"""Residual multilayer perceptron."""

from __future__ import annotations

from functools import partial

import sympy as sp

from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import groupnorm, layernorm, rmsnorm

NORMS = ("rms", "layer", "group", "none")
GROUPS = 2


@architecture(
    "residual",
    "He et al. 2016, arXiv 1603.05027 (identity paths); pre-norm: Xiong et al. 2020, arXiv 2002.04745",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [64, 128, 256, 512]},
)
def residual(norm: str = "rms", bias: bool = True, gain: bool = False, depth: int = 2, activation: str = "relu") -> Program:
    """Residual multilayer perceptron of width N: ``depth`` blocks u + W_2 φ(W_1 norm(u) + b_1) + b_2, a norm, a readout.

    Its table is mup's: a norm divides by a number of order one, and what it removes of a gradient is the part along its own
    input.  What differs from the habit is the biases under SGD, whose rate is N as an embedding's is, since theirs is a
    gradient of 1/N in each entry.  Watch what is upstream of a norm: a u that grows is divided by itself, so that a rate too
    large shows in u alone and not behind the norm.

    Options: ``norm`` (``rms``; ``layer``; ``group``, 2 of them: Wu & He 2018, arXiv 1803.08494; or ``none``), ``bias`` (of
    every layer but the readout, zero initially), ``gain`` (of every norm, one initially), ``depth``, ``activation``.
    """
    p = Program("residual", dims=("N",), fixed={"batch": 4, "in": 8, "out": 8})
    u = p.feature("u", _biased(p, bias, "b_in", matmul(p.weight("W_in", "N in"), p.input("x", "batch in"))))
    for block in range(1, depth + 1):
        a = normalised(p, norm, u, f"g_{block}" if gain else "")
        z = p.feature(f"z{block}", _biased(p, bias, f"b_{block}1", matmul(p.weight(f"W_{block}1", "N N'"), a)))
        y = matmul(p.weight(f"W_{block}2", "N N'"), function(activation)(z))
        u = p.feature(f"u{block}", u + _biased(p, bias, f"b_{block}2", y))
    f = p.feature("f", matmul(p.weight("W_out", "out N"), normalised(p, norm, u, "g_out" if gain else "")))
    p.end(f)
    return p


def normalised(p: Program, norm: str, x: Tensor, gain: str = "", over: str = "N") -> Tensor:
    """A tensor behind a norm, with a trained gain of that name unless it is empty."""
    if norm not in NORMS:
        raise InputError(f"norm={norm!r} is none of {', '.join(NORMS)}.")
    if norm == "none":
        return x
    out = {"rms": rmsnorm, "layer": layernorm, "group": partial(groupnorm, groups=GROUPS)}[norm](x, over)
    return p.weight(gain, over, init=sp.Integer(1)) * out if gain else out


def _biased(p: Program, bias: bool, name: str, x: Tensor) -> Tensor:
    return x + p.weight(name, "N", init=sp.Integer(0)) if bias else x
