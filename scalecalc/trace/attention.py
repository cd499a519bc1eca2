"""Torch's softmax and attention, with masks.

A mask is a constant: what it leaves out of a softmax stays with the scores (``Traced.keep``) until that comes, whether it was
added as −∞ (or as a number so negative that its exponential is zero), filled in or chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from scalecalc.trace.axes import repeated
from scalecalc.trace.choices import chosen
from scalecalc.trace.constants import Constant, traced
from scalecalc.trace.graph import Node, Varying
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.normalisation import over
from scalecalc.trace.operations import add, mul
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.traced import Block, Refusal, Traced

BARRED = -1e4  # and below: nothing is left of its exponential


def barred(value: Any) -> bool:
    """Does a number or a table of numbers leave entries out of a softmax?"""
    if isinstance(value, Constant):
        return any(v.is_floating_point() and bool((v <= BARRED).any()) for v in value.values)
    return isinstance(value, (int, float)) and value <= BARRED


def masked(x: Traced, keep: torch.Tensor) -> Traced:
    """Scores of which a softmax leaves some out."""
    return replace(x, keep=keep if x.keep is None else x.keep & keep)


def added(rec: Recorder, node: Node, x: Traced, mask: Constant) -> Traced:
    """Scores and an additive mask."""
    values = mask.one
    keep = values > BARRED
    rest = Constant(tuple(values.where(keep, 0.0) for _ in mask.values))
    return masked(add(rec, node, x, rest) if bool((rest.one != 0).any()) else x, keep)


@torch_op("masked_fill.Scalar", "masked_fill.Tensor", raw=True)
def masked_fill(rec: Recorder, node: Node, x: Any, mask: Any, value: Any) -> Traced:
    if isinstance(value, Constant) and value.values[0].numel() == 1:
        value = float(value.one)
    if not isinstance(mask, Constant):
        if barred(value) or not isinstance(value, (int, float)):
            raise Refusal("a mask that depends on data and leaves entries out of a softmax, or fills in other than a number")
        return chosen(rec, node, mask, value, traced(rec, x))
    x, keep = traced(rec, x), ~mask.one.bool()
    if barred(value):
        return masked(x, keep)
    kept = mul(rec, node, x, traced(rec, Constant(tuple(keep.double() for _ in mask.values))))
    if not isinstance(value, (int, float)) or value == 0:
        return kept if value == 0 else _no_number(value)
    return add(rec, node, kept, traced(rec, Constant(tuple(value * (~keep).double() for _ in mask.values))))


def _no_number(value: Any) -> Traced:
    raise Refusal(f"a mask that fills in {type(value).__name__}")


@torch_op("where.self", "where.ScalarOther", "where.ScalarSelf", raw=True)
def where(rec: Recorder, node: Node, condition: Any, x: Any, y: Any) -> Traced:
    if not isinstance(condition, Constant):
        return chosen(rec, node, condition, *(traced(rec, side) for side in (x, y)))
    kept = condition.one.bool()
    for one, other, keep in ((x, y, kept), (y, x, ~kept)):
        if isinstance(one, Traced) and (barred(other) and not isinstance(other, Constant) or _everywhere(other)):
            return masked(one, keep)
    if barred(x) or barred(y):
        raise Refusal("a choice between scores and a mask that is −∞ only in part")
    sides = []
    for one, keep in ((x, kept), (y, ~kept)):
        table = traced(rec, Constant(tuple(keep.double() for _ in condition.values)))
        sides.append(mul(rec, node, traced(rec, one), table))
    return add(rec, node, *sides)


def _everywhere(value: Any) -> bool:
    return isinstance(value, Constant) and all(bool((v <= BARRED).all()) for v in value.values)


@torch_op("tril.default", "triu.default")
def triangle(rec: Recorder, node: Node, x: Traced, diagonal: int = 0) -> Traced:
    """One side of the diagonal of the last two axes, of fixed size."""
    sizes = [a.size for a in x.axes[-2:]]
    if any(map(rec.grows, sizes)):
        raise Refusal("a triangle of axes that grow")
    full = torch.ones([s[0] for s in sizes], dtype=torch.float64)
    side = full.tril(diagonal) if "tril" in node.target else full.triu(diagonal)
    return mul(rec, node, x, traced(rec, Constant(tuple(side for _ in rec.settings.all))))


@torch_op("softmax.int", "_softmax.default", "_safe_softmax.default")
def softmax(rec: Recorder, node: Node, x: Traced, dim: int, dtype: Any = None) -> Traced:
    return _softmaxed(rec, x, dim % len(x.axes))


def _softmaxed(rec: Recorder, x: Traced, axis: int) -> Traced:
    keep = x.keep if x.keep is not None and not bool(x.keep.all()) else None
    varies: list[int] = []
    if keep is not None:
        keep = keep.reshape((1,) * (len(x.axes) - keep.dim()) + tuple(keep.shape))
        varies = [k for k in range(keep.dim()) if not torch.equal(keep, keep.narrow(k, 0, 1).expand_as(keep))]
        if any(rec.grows(x.axes[k].size) or len(x.axes[k].pieces) > 1 for k in varies):
            raise Refusal("a mask along an axis that grows")
        for k in range(keep.dim()):
            keep = keep if k in varies else keep.narrow(k, 0, 1)
        x = Traced(x.axes, {i: _with_labels(rec, b, varies, sizes) for i, b, sizes in rec.walk(x)})
    label = over(rec, x, axis, "a softmax")

    def make(blocks: Sequence[Block], labels: Any) -> Block:
        (block,) = blocks
        assert block.tensor is not None
        if keep is None:
            return Block(rules("softmax").softmax(block.tensor, label), block.labels)
        along = [block.labels[k] for k in varies]
        values = keep.reshape([keep.shape[k] for k in varies]).tolist()
        return Block(rules("softmax").softmax(block.tensor, label, _tuples(values), along), block.labels)

    return rec.each([x], make)


def _with_labels(rec: Recorder, block: Block, axes: Sequence[int], sizes: Sequence[Any]) -> Block:
    for k in axes:
        block = rec.own(block, k, sizes[k])
    return block


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@torch_op("scaled_dot_product_attention.default", raw=True)
def attention(
    rec: Recorder, node: Node, q: Traced, k: Traced, v: Traced, mask: Any = None, dropout: float = 0.0,
    causal: bool = False, scale: Any = None, enable_gqa: bool = False,
) -> Traced:  # fmt: skip
    if dropout:
        raise Refusal(
            f"attention with dropout {dropout} in training mode, which is random: return module.eval(), or build it with 0"
        )
    q, k, v = (traced(rec, x) for x in (q, k, v))
    if enable_gqa and len(q.axes) > 2:
        by = [tuple(a // b for a, b in zip(q.axes[-3].size, x.axes[-3].size, strict=True)) for x in (k, v)]
        k, v = (repeated(rec, x, len(x.axes) - 3, n) for x, n in zip((k, v), by, strict=True))
    batch = "abcdefgh"[: len(q.axes) - 2]
    scores = rec.contract((q, k), (batch + "qd", batch + "kd"), batch + "qk")
    by_width = Varying(d**-0.5 for d in q.axes[-1].size) if scale is None else scale
    scores = mul(rec, node, scores, by_width)
    if causal:
        sizes = [a.size for a in scores.axes[-2:]]
        if any(map(rec.grows, sizes)):
            raise Refusal("a causal softmax over a sequence that grows")
        scores = masked(scores, torch.ones([s[0] for s in sizes], dtype=torch.bool).tril())
    if isinstance(mask, Constant):
        truth = mask.values[0].dtype == torch.bool
        scores = masked(scores, mask.one) if truth else add(rec, node, scores, mask)
    elif mask is not None:
        scores = add(rec, node, scores, mask)
    return rec.contract((_softmaxed(rec, scores, len(batch) + 1), v), (batch + "qk", batch + "kd"), batch + "qd")
