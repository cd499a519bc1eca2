"""Softmax over an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sympy as sp

from scalecalc.asymptotics import Function, OneSided, OneVariable, X
from scalecalc.errors import ProgramError
from scalecalc.expand import expand
from scalecalc.pattern import EVEN
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule, spread
from scalecalc.rules.norm import centred
from scalecalc.value import ONES, Algebra, Direction, Value

if TYPE_CHECKING:
    import torch

SOURCE = "Bridle 1990, Neurocomputing, p. 227"
EXP = OneVariable(Function(sp.exp(X), sp.exp(-X)))
RECIPROCAL = OneSided(Function(1 / X, sp.Integer(0)))


def softmax(x: Tensor, over: str, keep: Any = None, along: Sequence[str] = ()) -> Tensor:
    """exp(x) / Σ exp(x) over an axis.

    ``keep``: a mask, nested sequences of truth values along the axes ``along`` of fixed size; the others are left out.
    """
    for label in along:
        if x.program.grows(label):
            raise ProgramError(
                f"the mask of the softmax in {x.program.name} is a table along {', '.join(along)}, and {label} grows: no "
                "size says which of its places are kept. Give it a fixed size."
            )
    more = {"keep": keep, "along": tuple(along)} if along else {}
    return x.program.record("softmax", (x,), x.axes, over=over, **more)


def _moved(algebra: Algebra, p: Value, change: Value, over: str) -> Value:
    """(diag p − p pᵀ) times a change of the logits, whose common part is without effect; the result sums to 0.

    Along an axis that does not grow no law says what is common, and all of the change is kept.
    """
    if over not in p.labels:
        return algebra.multiply(p.labels, p, change)
    kept = centred(algebra, change, over)
    rest = tuple(label for label in p.labels if label != over)
    inner = algebra.contract(rest, p, kept, [over])
    found = algebra.add(p.labels, algebra.multiply(p.labels, p, kept), algebra.multiply(p.labels, p, inner))
    return centred(algebra, found, over)


def _even(raised: Value) -> Value:
    """The sum of a few exponentials, by which they are divided: its mean.

    What else is in it is odd in some of the logits' leading terms, and every product of those stands in the exponential
    already.  With a score per head, of which four lead, these products of products took minutes.
    """
    even = raised.only(lambda t: t.pattern is EVEN)
    return even if even.terms else raised


@rule("softmax", SOURCE)
class Softmax(Rule):
    """Softmax of logits of order one is 1/N each; what the logits have in common is without effect, now and in an update."""

    def centred(self, op: Op) -> Sequence[str]:
        return (op.params["over"],)

    def saturates(self, op: Op) -> bool:
        return True

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        over = op.params["over"]
        grows = over in labels
        x = centred(algebra, values[0], over) if grows else values[0]
        raised = expand(EXP, labels, [x.only(lambda t: not t.tag)], algebra)
        rest = tuple(label for label in labels if label != over)
        whole = algebra.sum(raised, over) if grows else _even(raised)
        p = algebra.multiply(labels, raised, expand(RECIPROCAL, rest, [whole], algebra))
        change = x.only(lambda t: bool(t.tag))
        if not change.terms:
            return p
        second = _moved(algebra, p, algebra.multiply(x.labels, change, change), over)
        return algebra.add(labels, p, _moved(algebra, p, change, over), second)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        over = output.op.params["over"]
        return [output.program.record("softmax_backward", (output, g), output.axes, over=over)]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        import torch

        (x,), dim = tensors, 1 + axes[0].index(op.params["over"])
        if "keep" in op.params:
            kept = torch.tensor(op.params["keep"], dtype=torch.bool, device=x.device)[None]
            (kept,) = spread([op.params["along"]], axes[0], kept)
            x = x.masked_fill(~kept, -torch.inf)
        return x.softmax(dim)

    def latex(self, op: Op, *names: str) -> str:
        return rf"\operatorname{{softmax}}_{{{op.params['over']}}}({names[0]})"

    def sample(self, program: Program) -> Tensor:
        return softmax(program.input("x", "batch N"), "N")


@rule("softmax_backward", SOURCE + ", its Jacobian: diag(p) − p pᵀ")
class SoftmaxBackward(Rule):
    """The gradient behind a softmax sums to zero exactly: what the gradient has in common along the axis is removed."""

    def centred(self, op: Op) -> Sequence[str]:
        return (op.params["over"],)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        p, g = values
        found = _moved(algebra, p, g, op.params["over"])
        perp = frozenset({(ONES, op.params["over"])}) if op.params["over"] in labels else frozenset[Direction]()
        return replace(found, labels=labels, perp=perp)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        raise ProgramError("the second derivative of a softmax is not recorded; no optimizer here needs it.")

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        p, g = spread(axes, op.axes, *tensors)
        return p * (g - (p * g).sum(dim=1 + op.axes.index(op.params["over"]), keepdim=True))

    def latex(self, op: Op, *names: str) -> str:
        p, g = names
        return rf"{p}\,({g} - \sum_{{{op.params['over']}}} {p}\,{g})"

    def sample(self, program: Program) -> Tensor:
        p = softmax(program.input("x", "batch N"), "N")
        return program.record("softmax_backward", (p, program.input("g", "batch N")), p.axes, over="N")
