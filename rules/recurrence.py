"""Linear recurrences, h_t = a_t h_(t−1) + v_t, and the delay their backward needs.

Over a fixed number of steps a few lags say everything, and so they do over a growing number T where the decay stays away
from one.  A decay that is as near to one as 1/T, or one, remembers the whole sequence (:mod:`scalecalc.memory`): then
h_t = v_t + Σ_(s<t) a^(t−s) v_s is one more sum, over T terms of like size, by the law of every sum: T^(1/2) where v is odd in
what is drawn anew at each step, T where it is not.  What has been summed is the same for neighbouring steps, and a later sum
over T of it is one of like terms again.  With a decay that turns at every step equal terms cancel, and so does what has been
summed, against whatever does not turn.

A change δa of the decay acts through the same sum: δh_t = a δh_(t−1) + δa h_(t−1), T times as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from scalecalc.errors import UnsupportedScale
from scalecalc.memory import Entries, pole
from scalecalc.profile import HALF, Profile
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule, spread
from scalecalc.rules.complex import conjugate
from scalecalc.scale import Scale
from scalecalc.term import FLAT, Term, dim_of, pattern
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

LAGS = 3
SAME_DECAY = ("delay", "conjugate", "rename", "broadcast")  # through which the backward pass reads it
MOST_ROUNDS = 8  # a change of the decay acts once more in each; their number is bounded by that of the tags
ONE = Scale.one()


def recurrence(decay: Tensor, drive: Tensor, over: str = "time", *, reverse: bool = False) -> Tensor:
    """h_t = decay_t · h_{t−1} + drive_t from h = 0; reversed: h_t = decay_t h_{t+1} + …

    Raises:
        UnsupportedScale: the axis grows, and nothing says how long the recurrence remembers.
    """
    p = drive.program
    axes = p.union(drive, decay)
    lags = min(LAGS, p.fixed.get(over, LAGS + 1) - 1)
    more = {"pole": pole(p, decay.index, over), "phase": _phase(decay)} if p.grows(over) else {}
    return p.record("recurrence", (decay, drive), axes, over=over, reverse=reverse, lags=lags, **more)


def _phase(decay: Tensor) -> Fraction:
    """How fast a decay turns: a phase of its own, since two recurrences' angles have nothing to do with each other."""
    while decay.op.rule in SAME_DECAY:
        decay = decay.program.tensor(decay.op.inputs[0])
    return 1 + Fraction(decay.index, 10**4)


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
        if "pole" in op.params and _remembers(algebra, op):
            return _whole(algebra, op, labels, decay, drive)
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


def _remembers(algebra: Algebra, op: Op) -> bool:
    """Is the whole of a growing sequence summed, and not the last few steps?

    Raises:
        UnsupportedScale: it is neither.
    """
    over, gap = op.params["over"], op.params["pole"].gap
    regime = replace(algebra.regime, point=None)
    if gap is not None and regime.order(gap, ONE) == 0:
        return False
    if gap is None or regime.order(gap * Scale.of(dim_of(over)), ONE) in (-1, 0):
        return True
    raise UnsupportedScale(
        f"the recurrence at {op.where} remembers the last {ONE / gap} of {dim_of(over)} steps, which is neither a fixed "
        f"number of them nor all: what is summed so is alike over part of the sequence, and has no law here. Let the decay "
        f"be 1 − 1/{dim_of(over)}, or a constant."
    )


def _whole(algebra: Algebra, op: Op, labels: tuple[str, ...], decay: Value, drive: Value) -> Value:
    """The whole sequence summed: T^(1/2) or T times as large, and alike from one step to the next."""
    over, turn = op.params["over"], op.params["pole"].turn
    initial, changes = decay.untagged, decay.only(lambda t: bool(t.tag))

    def since(value: Value) -> Value:
        """What is left of a sequence at a later step, all steps together."""
        one = Profile(phase=op.params["phase"], scattered=turn == "scattered") if turn else FLAT
        forth, back = (
            Value((over,), (Term(ONE, pattern([(over, p)] if turn else []), (), algebra.step("turned at every step")),))
            for p in (one.conjugate, one)
        )
        begun = algebra.multiply(labels, initial, value, "the decay, at the latest step")
        summed = algebra.sum(algebra.multiply(labels, begun, forth) if turn else replace(begun, labels=labels), over)
        turned = algebra.multiply(labels, summed, back).terms if turn else summed.terms
        return Value(labels, (*turned, *(_resonant(algebra, begun, over) if turn == "scattered" else ())))

    out = first = algebra.value(labels, drive.terms + since(drive).terms)
    for _ in range(MOST_ROUNDS if changes.terms else 0):
        moved = algebra.multiply(labels, changes, out, "what has changed of the decay, times the state")
        more = algebra.value(labels, first.terms + moved.terms + since(moved).terms)
        if set(more.terms) == set(out.terms):
            break
        out = more
    return Value(labels, out.terms)


def _resonant(algebra: Algebra, begun: Value, over: str) -> Iterator[Term]:
    """What equal summands come to: v/(1 − a), alike at all steps, and by Parseval T^(1/2) in the mean square over angles.

    Summed over time again it is T^(3/2), and not T, as the product of two root-mean-squares would have it.
    """
    T = dim_of(over)
    law = f"sum over {T} of equal summands that turn by random angles: 1/(1 − a), in the mean square over them"
    rare = f"root-mean-square over the angles at {algebra.at}: most states stay of order one, and one in {T} comes to {T}"
    for t in begun.terms:
        if not t.pattern.odd_on(over) and t.pattern.profile(over) == FLAT:
            size = t.size * Scale.of(dim_of(over), HALF)
            yield Term(size, t.pattern, t.tag, algebra.step(law, t, assumption=rare))


@rule("delay", "definition")
class Delay(Rule):
    """A delayed sequence has the sequence's sizes."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def entries(self, op: Op, *inputs: Entries | None) -> Entries | None:
        return inputs[0]

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
