"""The project's own selective scan, one operation of torch, as the discretization and the recurrence that a program has.

Its kernel never stores the states; the recurrence is what has a law, and what is measured where a row needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scalecalc.program import Tensor
from scalecalc.trace.axes import inserted, select
from scalecalc.trace.graph import Node
from scalecalc.trace.handlers import rules, torch_op
from scalecalc.trace.operations import add, exact, mul
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.traced import Block, Refusal, Traced


@torch_op("scalecalc.selective_scan.default")
def selective_scan(
    rec: Recorder, node: Node, u: Traced, delta: Traced, A: Traced, B: Traced, C: Traced, D: Traced | None, h0: Any,
    discretization: str, *more: Any,
) -> list[Traced]:  # fmt: skip
    """y = Σ_n C h + D u and the last state, of h_t = Ā_t h_{t−1} + B̄_t u_t from zero."""
    if h0 is not None:
        raise Refusal("a selective scan that begins at a given state")
    if u.axes[1].one:
        raise Refusal("a selective scan of a single step; give the example inputs more")
    delta = _spread(rec, delta, {1: [2], 3: [0, 1, 2]})
    A = _spread(rec, A, {1: [3], 2: [2, 3]})
    B, C = (_spread(rec, x, {1: [3], 2: [2, 3], 3: [0, 1, 3]}) for x in (B, C))
    decay, factor = (
        rec.each([delta, A], lambda blocks, labels, k=k: Block(_discretized(rec, discretization, blocks)[k], labels))
        for k in (0, 1)
    )
    drive = mul(rec, node, mul(rec, node, factor, B), _spread(rec, u, {3: [0, 1, 2]}))
    h = rec.each([decay, drive], lambda blocks, labels: _recurrence(rec, blocks, labels))
    y = rec.contract((C, h), ("btcn", "btcn"), "btc")
    y = y if D is None else add(rec, node, y, mul(rec, node, D, u))
    return [y, select(rec, node, h, 1, -1)]


def _spread(rec: Recorder, x: Traced, places: dict[int, list[int]]) -> Traced:
    """On the four axes batch, time, channel and state; ``places``: where those of x are, by their number."""
    own = places.get(len(x.axes), [])
    for k in range(4):
        x = x if k in own else inserted(x, k, len(rec.settings.all))
    return x


def _discretized(rec: Recorder, scheme: str, blocks: Sequence[Block]) -> tuple[Tensor, Tensor]:
    step, transition = (b.tensor for b in blocks)
    if step is None or transition is None or not transition.axes or not exact(rec, transition):
        raise Refusal("a selective scan whose A is no exact function of the state's index (from every seed the same)")
    return rules("discretization").discretize(scheme, step, transition)


def _recurrence(rec: Recorder, blocks: Sequence[Block], labels: Any) -> Block:
    decay, drive = (b.tensor for b in blocks)
    if labels[1] is None or decay is None or drive is None:
        raise Refusal("a selective scan of what is the same at all times")
    return Block(rules("recurrence").recurrence(decay, drive, labels[1]), labels)
