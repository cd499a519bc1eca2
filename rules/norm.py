"""Normalisation over an axis, or over several together (groups of channels over an image, channels over a batch).

Over one growing axis what is removed is removed exactly, and the law knows it; over several together only the sizes are
known, and products with what was removed are upper bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

import sympy as sp

from scalecalc.asymptotics import Function, OneSided, X
from scalecalc.errors import ProgramError
from scalecalc.expand import expand
from scalecalc.pattern import Pattern
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule, spread
from scalecalc.rules.view import view
from scalecalc.term import FLAT, count, dim_of
from scalecalc.value import ONES, Algebra, Value

if TYPE_CHECKING:
    import torch

CENTRE = "Ba, Kiros & Hinton 2016, arXiv 1607.06450, eq. 3"
SOURCE = "Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4"
RSQRT = OneSided(Function(X ** sp.Rational(-1, 2), sp.Integer(0)))
MOST_SAMPLED = 4  # leading terms of a mean square over axes that do not grow: two terms' squares and their product, say

Over = str | tuple[str, ...]  # one axis, or several together


def rmsnorm(x: Tensor, over: Over, eps: float = 0.0) -> Tensor:
    """x / (mean over axes of x² + ε)^(1/2).  The law takes ε to be smaller than the mean square, which must not vanish."""
    return x.program.record("rmsnorm", (x,), x.axes, over=over, eps=eps)


def _all(over: Over) -> tuple[str, ...]:
    return (over,) if isinstance(over, str) else over


def _places(axes: Sequence[str], over: Over) -> list[int]:
    """Where the axes stand behind that of the seeds."""
    return [1 + axes.index(label) for label in _all(over)]


def _name(over: Over) -> str:
    return ",".join(_all(over))


def _reciprocal(algebra: Algebra, x: Value, over: Over) -> Value:
    """1/rms(x): the mean square is a sum with a mean, so this scalar is as large as x is small."""
    grows = [label for label in _all(over) if label in x.labels]
    rest = tuple(label for label in x.labels if label not in grows)
    if not grows:  # axes that do not grow: some entries' mean
        return expand(RSQRT, rest, [_few(algebra, algebra.multiply(rest, x, x))], algebra)
    square = algebra.contract(rest, x, x, grows)
    mean = algebra.scale(square, count(grows) ** -1, "mean square")
    return expand(RSQRT, rest, [mean], algebra)


def _few(algebra: Algebra, square: Value) -> Value:
    """The mean square over axes that do not grow: of many leading terms what is odd in two of them is left out.

    A mean over few entries is as random as they are, and its reciprocal has a part for every set of products of two terms:
    behind a depthwise convolution of a gated branch, with biases, seven leading terms made five hundred, and a Conformer
    block did not come to an end.  Multiplied by x these parts are odd in three terms or more.  They have no mean beside
    anything but their like, which the next function makes of x itself.
    """
    heads = [t for t in square.terms if not t.tag]
    even = [t for t in heads if not t.pattern.odd]
    if len(heads) <= MOST_SAMPLED or not even:
        return square
    assumption = f"the mean square at {algebra.at} is over few entries; what it has of products of two terms is left out"
    step = algebra.step("mean square", assumption=assumption)
    marked = {id(t): replace(t, why=step and replace(step, parents=t.why.parents if t.why else ())) for t in even}
    return replace(square, terms=tuple(marked.get(id(t), t) for t in square.terms if t.tag or id(t) in marked))


def layernorm(x: Tensor, over: Over) -> Tensor:
    """x less its mean over an axis, divided by the root-mean-square of what is left (no gain, no bias, no ε)."""
    return rmsnorm(centre(x, over), over)


def groupnorm(x: Tensor, over: str, groups: int, places: Sequence[str] = ()) -> Tensor:
    """Layernorm within each of a fixed number of groups of features, together with axes of fixed size (an image's rows).

    A group of an axis that grows is an axis that grows, so that this is views around :func:`layernorm`.
    """
    p = x.program
    inner, whole = _label(p, over, Fraction(1, groups)), _label(p, over, Fraction(prod(map(p.size, places)), groups))
    number = f"{groups}_groups"
    p.fixed[number] = groups
    split = view(x, (over,), (number, inner))
    normed = layernorm(view(split, (*places, inner), (whole,)) if places else split, whole if places else inner)
    normed = view(normed, (whole,), (*places, inner)) if places else normed
    return view(normed, (number, inner), (over,))


def _label(p: Program, like: str, multiple: Fraction) -> str:
    """A label for an axis that is a multiple as long; of so many primes that nothing else in a program has it."""
    multiple *= Fraction(p.multiples.get(like, 1))
    label = dim_of(like) + 4 * "'"
    while p.multiples.get(label, multiple) != multiple:
        label += "'"
    p.multiples[label] = multiple
    return label


def centre(x: Tensor, over: Over) -> Tensor:
    """x less its mean over an axis, or over several together."""
    return x.program.record("centre", (x,), x.axes, over=over)


def centred(algebra: Algebra, x: Value, over: str) -> Value:
    """What is left of a value without its mean over an axis: everything but the terms that are constant there.

    Where a term has a mean and a part that fluctuates about it, the second is a term of its own.
    """
    if over not in x.labels:
        return Value(x.labels, (), perp=frozenset({(ONES, over)}))

    return replace(x.only(lambda t: _varies(t.pattern, over)), ray=frozenset(), perp=frozenset({(ONES, over)}))


def _varies(one: Pattern, over: str) -> bool:
    """Is it other than the same everywhere along an axis?"""
    return bool(one.odd_on(over)) or one.profile(over) != FLAT or bool(one.diagonal(over))


@rule("centre", CENTRE)
class Centre(Rule):
    """The mean is removed exactly: what is left sums to zero, against whatever is constant there."""

    def centred(self, op: Op) -> Sequence[str]:
        return _all(op.params["over"])

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        over = _all(op.params["over"])
        if len(over) == 1 and over[0] in labels:
            return centred(algebra, values[0], over[0])
        if not all(label in labels for label in over):  # what is alike along an axis that does not grow, no law says
            return algebra.add(labels, values[0])
        kept = values[0].only(lambda t: any(_varies(t.pattern, label) for label in over))
        return replace(kept, ray=frozenset(), perp=frozenset())

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [centre(g, output.op.params["over"])]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        (x,) = tensors
        return x - x.mean(dim=_places(axes[0], op.params["over"]), keepdim=True)

    def latex(self, op: Op, *names: str) -> str:
        return rf"{names[0]} - \frac{{1}}{{N}} \sum_{{{_name(op.params['over'])}}} {names[0]}"

    def sample(self, program: Program) -> Tensor:
        return centre(program.input("x", "batch N") * program.input("z", "batch N"), "N")


@rule("rmsnorm", SOURCE)
class RMSNorm(Rule):
    """Normalisation divides by a law-of-large-numbers scalar: size one, direction and parity kept."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (0,)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        (x,) = values
        return algebra.multiply(labels, x, _reciprocal(algebra, x, op.params["over"]))

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        (x,) = inputs
        p = output.op.params
        return [x.program.record("rmsnorm_backward", (x, g), x.axes, over=p["over"], eps=p.get("eps", 0.0))]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        (x,) = tensors
        mean = x.square().mean(dim=_places(axes[0], op.params["over"]), keepdim=True)
        return x * (mean + op.params.get("eps", 0.0)).rsqrt()

    def latex(self, op: Op, *names: str) -> str:
        return rf"{names[0]} / \operatorname{{rms}}_{{{_name(op.params['over'])}}}({names[0]})"

    def sample(self, program: Program) -> Tensor:
        return rmsnorm(program.input("x", "batch N"), "N")


@rule("rmsnorm_backward", SOURCE + ", its Jacobian: (I − x̂ x̂ᵀ/N) / rms(x)")
class RMSNormBackward(Rule):
    """The gradient behind a norm is projected: exactly orthogonal to the norm's input."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return -1, 1

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        x, g = values
        over = _all(op.params["over"])
        grows = [label for label in over if label in labels]
        rest = tuple(label for label in labels if label not in grows)
        r = _reciprocal(algebra, x, over)
        kept = algebra.multiply(labels, g, r)
        if grows:
            inner = algebra.scale(algebra.contract(rest, g, x, grows), count(grows) ** -1, "⟨g, x⟩ / N")
        else:
            inner = algebra.multiply(rest, g, x)
        cube = algebra.multiply(r.labels, algebra.multiply(r.labels, r, r), r)
        along = algebra.multiply(labels, x, algebra.multiply(rest, inner, cube))
        perp = frozenset(d for d in x.ray if over == (d[1],))
        return replace(algebra.value(labels, kept.terms + along.terms), perp=perp)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        raise ProgramError("the second derivative of a norm is not recorded; no optimizer here needs it.")

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        x, g = spread(axes, op.axes, *tensors)
        dim = _places(op.axes, op.params["over"])
        r = (x.square().mean(dim=dim, keepdim=True) + op.params.get("eps", 0.0)).rsqrt()
        return g * r - x * (g * x).mean(dim=dim, keepdim=True) * r**3

    def latex(self, op: Op, *names: str) -> str:
        return rf"(I - \hat x \hat x^\top / N)\,{names[1]} / \operatorname{{rms}}({names[0]})"

    def sample(self, program: Program) -> Tensor:
        x = program.input("x", "batch N")
        return program.record("rmsnorm_backward", (x, program.input("g", "batch N")), x.axes, over="N", eps=0.0)
