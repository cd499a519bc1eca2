"""What the laws of optimizers that divide by the gradient's own size have in common.  No rule file.

Memory.  Step k divides by something that the gradients g_1 … g_k make together and that is never smaller than what g_1
alone would make (hard case W5).  Later gradients have the first as their untagged part.  A part δ that was gained since is
therefore a smaller term of g_1 + δ as long as it is smaller than g_1, and counts as δ/|g_1|.  Where it is larger it has taken
over, and the update is that of δ alone: it stays as large as the first was, and a rate that holds at the first step holds
at all.  Two sizes that do not bound each other give min(1, δ/|g_1|), which is no monomial: 1 is taken, an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sympy as sp

from scalecalc.asymptotics import Function, OneVariable, X
from scalecalc.expand import expand, leading
from scalecalc.optimizer import larger
from scalecalc.scale import Scale
from scalecalc.term import Term, dim_of
from scalecalc.value import Algebra, Value

ONE = Scale.one()
SIGN = OneVariable(Function(X / X, -sp.Integer(1)))
RSQRT = OneVariable(Function(X ** sp.Rational(-1, 2), sp.Integer(0)))
SQRT = OneVariable(Function(X ** sp.Rational(1, 2), sp.Integer(0)))


def in_parts(algebra: Algebra, gradient: Value, law: Callable[[Value], Value], floor: Sequence[Term] = ()) -> Value:
    """A law of degree 0 applied to the gradient, and apart from it to what later gains have taken over.

    ``floor``: what the first gradient is never taken to be smaller than.
    """
    bar = [*leading([t for t in gradient.terms if not t.tag], algebra), *floor]
    groups: dict[tuple[str, ...], list[Term]] = {}
    for t in gradient.terms:
        if t.tag:
            groups.setdefault(t.tag, []).append(t)
    over = [tag for tag, own in groups.items() if len(bar) > len(floor) and takes_over(own, bar, gradient.labels, algebra)]
    below = [t for t in gradient.terms if t.tag not in over]
    parts = [Value(gradient.labels, tuple(below)), *(Value(gradient.labels, tuple(groups[tag])) for tag in over)]
    return algebra.add(gradient.labels, *map(law, parts))


def takes_over(own: Sequence[Term], heads: Sequence[Term], labels: Sequence[str], algebra: Algebra) -> bool:
    """Does some gained term exceed every leading term of the first gradient, at the first index or at the last?"""
    return any(
        all(any(larger(r, ONE, algebra.regime) for r in ratios(t, head, labels)) for head in heads)
        for t in leading(own, algebra)
    )


def ratios(t: Term, head: Term, labels: Sequence[str]) -> tuple[Scale, Scale]:
    """How large t is relative to the other term, at the first index and at the last."""
    begin = end = t.size / head.size
    for label in labels:
        mine, its = (one.pattern.profile(label).ends(dim_of(label)) for one in (t, head))
        begin, end = begin * mine[0] / its[0], end * mine[1] / its[1]
    return begin, end


def square(algebra: Algebra, x: Value, over: Sequence[str]) -> Value:
    """Σ x² over some axes: its leading terms, and gains, against all of it."""
    heads = leading([t for t in x.terms if not t.tag], algebra)
    some = Value(x.labels, (*heads, *(t for t in x.terms if t.tag)))
    return algebra.contract([label for label in x.labels if label not in over], some, x, over)


def sign(algebra: Algebra, gradient: Value) -> Value:
    """Every entry divided by its own size: flat and of size one, with the gradient's parity."""
    return in_parts(algebra, gradient, lambda part: expand(SIGN, part.labels, [part], algebra))
