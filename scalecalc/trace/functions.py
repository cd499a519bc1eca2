"""Torch's functions that are written with others here: logarithms, products of three, similarities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scalecalc.trace.axes import axes_at
from scalecalc.trace.graph import Node, Varying
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.normalisation import NEGLIGIBLE, normed, raised
from scalecalc.trace.operations import add, applied, exp, mul, sub, total
from scalecalc.trace.pooling import amax
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.signs import AT_LEAST_ZERO, signs
from scalecalc.trace.traced import Block, Refusal, Traced


@torch_op("log.default")
def log(rec: Recorder, node: Node, x: Traced) -> Traced:
    return raised(rec, x, "log")


@torch_op("log2.default", "log10.default")
def log_to_base(rec: Recorder, node: Node, x: Traced) -> Traced:
    return mul(rec, node, log(rec, node, x), 1 / math.log(2 if "log2" in node.target else 10))


@torch_op("log1p.default")
def log1p(rec: Recorder, node: Node, x: Traced) -> Traced:
    """Of what is never negative; else as the logarithm of a sum, which has to be positive."""
    if not all(b.tensor is not None and signs(rec, b.tensor) <= AT_LEAST_ZERO for b in x.blocks.values()):
        return log(rec, node, add(rec, node, x, 1.0))
    function = rules("positive").log1p

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        assert block.tensor is not None
        return Block(function(block.tensor), block.labels)

    return rec.each([x], make)


@torch_op("exp2.default")
def exp2(rec: Recorder, node: Node, x: Traced) -> Traced:
    return exp(rec, node, mul(rec, node, x, math.log(2)))


@torch_op("logsumexp.default")
def logsumexp(rec: Recorder, node: Node, x: Traced, dims: Any, keepdim: bool = False) -> Traced:
    if any(rec.grows(x.axes[k].size) for k in axes_at(x, dims)):
        raise Refusal("a logarithm of a sum over an axis that grows, which grows as the logarithm of the width does")
    most = amax(rec, node, x, dims, True)
    rest = log(rec, node, total(rec, node, exp(rec, node, sub(rec, node, x, most)), dims, keepdim))
    return add(rec, node, rest, most if keepdim else amax(rec, node, x, dims))


@torch_op("log_softmax.int", "_log_softmax.default")
def log_softmax(rec: Recorder, node: Node, x: Traced, dim: int, dtype: Any = None) -> Traced:
    return sub(rec, node, x, logsumexp(rec, node, x, [dim], True))


@torch_op("nan_to_num.default")
def nan_to_num(rec: Recorder, node: Node, x: Traced, *others: Any, **more: Any) -> Traced:
    return x  # all numbers here are finite


@torch_op("hypot.default")
def hypot(rec: Recorder, node: Node, x: Traced, y: Traced) -> Traced:
    return raised(rec, add(rec, node, applied(rec, x, "square"), applied(rec, y, "square")), "root")


@torch_op("rrelu.default")
def rrelu(
    rec: Recorder, node: Node, x: Traced, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *more: Any
) -> Traced:
    if training:
        raise Refusal("rrelu in training mode, which is random: return module.eval()")
    slope = (lower + upper) / 2
    rules("elementwise").leaky_relu(slope)
    return applied(rec, x, f"leaky_relu({slope:g})")


@torch_op("cosine_similarity.default")
def cosine_similarity(rec: Recorder, node: Node, x: Traced, y: Traced, dim: int = 1, eps: float = 1e-8) -> Traced:
    """The mean of the product of both, each over its root-mean-square."""
    if eps > NEGLIGIBLE:
        raise Refusal(f"a cosine similarity with an ε of {eps:g}, which is not small")
    sides = [normed(rec, z, [dim % len(z.axes)], 0.0, centred=False) for z in (x, y)]
    size = x.axes[dim % len(x.axes)].size
    return mul(rec, node, total(rec, node, mul(rec, node, *sides), [dim]), Varying(1 / s for s in size))


@torch_op("bilinear.default")
def bilinear(rec: Recorder, node: Node, x: Traced, y: Traced, weight: Traced, bias: Traced | None = None) -> Traced:
    batch = "abcdefgh"[: len(x.axes) - 1]
    half = rec.contract((weight, x), ("oij", batch + "i"), batch + "oj")
    out = rec.contract((half, y), (batch + "oj", batch + "j"), batch + "o")
    return out if bias is None else add(rec, node, out, bias)
