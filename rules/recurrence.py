"""Linear recurrences over a fixed number of steps, and the delay their backward needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalecalc.errors import UnsupportedScale
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule, spread
from scalecalc.rules.complex import conjugate
from scalecalc.term import FLAT
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

LAGS = 3


def recurrence(decay: Tensor, drive: Tensor, over: str = "time", *, reverse: bool = False) -> Tensor:
    """h_t = decay_t · h_{t−1} + drive_t from h = 0, along an axis of fixed length; reversed: h_t = decay_t h_{t+1} + …"""
    axes = drive.program.union(drive, decay)
    lags = min(LAGS, drive.program.fixed.get(over, LAGS + 1) - 1)
    return drive.program.record("recurrence", (decay, drive), axes, over=over, reverse=reverse, lags=lags)


def delay(x: Tensor, by: int, over: str = "time") -> Tensor:
    """x_{t−by}, zero where that is before the first or after the last step."""
    return x.program.record("delay", (x,), x.axes, by=by, over=over) if over in x.axes else x


@rule("recurrence", "definition, unrolled: h_t = Σ_k (decay_t … decay_{t−k+1}) drive_{t−k}")
class Recurrence(Rule):
    """Unrolled: lag 0 carries no decay, lag k the decay's k-th power; over Θ(1) steps a few lags say everything."""

    def lags(self, op: Op) -> int:
        return op.params["lags"]

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        decay, drive = values
        if any(not algebra.regime.bounded(t.size) for t in decay.terms if not t.tag):
            raise UnsupportedScale(f"the recurrence at {op.where} multiplies by a decay that grows with width: it explodes.")
        if any(not p.modulus.bounded_by(FLAT) for t in decay.terms for _, p in t.pattern.profiles if not t.tag):
            raise UnsupportedScale(
                f"the recurrence at {op.where} multiplies by a decay that grows along the states: it explodes. "
                "Use a discretization that is stable for this transition (zoh, bilinear)."
            )
        out = drive
        for _ in range(op.params["lags"]):
            lagged = algebra.multiply(labels, decay, out, "one more lag: times the decay")
            more = algebra.value(labels, drive.terms + lagged.terms)
            if set(more.terms) == set(out.terms):
                break
            out = more
        return Value(labels, out.terms)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        decay, _ = inputs
        over, back = output.op.params["over"], output.op.params["reverse"]
        adjoint = recurrence(delay(conjugate(decay), 1 if back else -1, over), g, over, reverse=not back)
        return [adjoint * delay(conjugate(output), -1 if back else 1, over), adjoint]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        import torch

        over = op.params["over"]
        dim = 1 + op.axes.index(over)
        decay, drive = spread(axes, op.axes, *tensors)
        steps = range(max(decay.shape[dim], drive.shape[dim]))  # either may be the same at all times
        decays, drives = (x.unbind(dim) if x.shape[dim] > 1 else x.unbind(dim) * len(steps) for x in (decay, drive))
        h, found = None, {}
        for t in reversed(steps) if op.params["reverse"] else steps:
            now = drives[t]
            h = now.expand(torch.broadcast_shapes(now.shape, decays[t].shape)) if h is None else decays[t] * h + now
            found[t] = h
        return torch.stack([found[t] for t in steps], dim)

    def latex(self, op: Op, *names: str) -> str:
        before = "t+1" if op.params["reverse"] else "t-1"
        return rf"h_t,\; h_t = {names[0]}\,h_{{{before}}} + {names[1]}"

    def sample(self, program: Program) -> Tensor:
        from scalecalc.rules.elementwise import sigmoid

        # data that are alike from one time to the next, as the engine takes all data to be
        drive = program.input("z", "batch time N M") + program.input("c", "batch N M")
        return recurrence(sigmoid(program.input("x", "batch time N")), drive)


@rule("delay", "definition")
class Delay(Rule):
    """A delayed sequence has the sequence's sizes."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        return Value(labels, values[0].terms)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [delay(g, -output.op.params["by"], output.op.params["over"])]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        import torch

        (x,) = tensors
        dim, by = 1 + op.axes.index(op.params["over"]), op.params["by"]
        steps = x.shape[dim]
        kept = x.narrow(dim, max(0, -by), steps - abs(by))
        gap = torch.zeros_like(x.narrow(dim, 0, abs(by)))
        return torch.cat([gap, kept] if by > 0 else [kept, gap], dim)

    def latex(self, op: Op, *names: str) -> str:
        return rf"{names[0]}_{{t{-op.params['by']:+d}}}"

    def sample(self, program: Program) -> Tensor:
        # data that are alike from one time to the next, as the engine takes all data to be
        return delay(program.input("x", "batch N") * program.input("c", "time"), 1)
