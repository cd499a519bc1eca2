"""A tensor's abstract value, and the operations on whole values that rules are written in.

A :class:`Value` is a finite sum of :class:`~scalecalc.term.Term` on given growing axes.  No terms: exactly zero.  Beside
the terms it may carry four exact facts that terms cannot express:

- ``exact``: the value is this sympy expression in the index, nothing random (a transition, a constant);
- ``ray``: (tensor, axis) pairs: along that axis it is proportional to that tensor, by factors constant there;
- ``perp``: (tensor, axis) pairs: along that axis it is exactly orthogonal to that tensor (the backward of a norm; hard
  case W4), or to constants (:data:`ONES`; what was centred);
- ``multiples``: what weight decay does to it: it shrinks, each of its entries by the same factor.  Kept apart from the
  terms as long as what is made of it shrinks in proportion, because a norm returns the same for it (:meth:`Algebra.whole`
  puts it among them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scalecalc.inner import inner
from scalecalc.pattern import name_of, parts_of
from scalecalc.reads import noted
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.term import (
    EVEN,
    FLAT,
    HALF,
    Limits,
    Pattern,
    Profile,
    Step,
    Term,
    count,
    dim_of,
    pattern,
    products,
    relabel,
    simplify,
    sum_pattern,
)
from scalecalc.wick import met_in_blocks

if TYPE_CHECKING:
    from scalecalc.alignment import Alignment
    from scalecalc.alike import Alike

ONE = Scale.one()
Direction = tuple[int, str]  # position of a tensor in its program, and an axis
FEW_PAIRS = 400  # of terms, whose products are summed as they are; of more those that cannot lead are left out before
PLACE = "\0"  # in an assumption: where it is made
ONES = -1  # in place of a position: the direction of what is constant along the axis


@dataclass(frozen=True)
class Value:
    """Terms of a tensor on its growing axes.  ``labels`` in the tensor's order; ``terms`` simplified."""

    labels: tuple[str, ...]
    terms: tuple[Term, ...]
    exact: Any = None
    ray: frozenset[Direction] = frozenset()
    perp: frozenset[Direction] = frozenset()
    multiples: tuple[Term, ...] = ()

    def sizes(self, tag: tuple[str, ...] | None = None, statistic: str = "rms") -> list[Scale]:
        """Sizes of all terms (of one set of weights: a tag's degrees not told apart), as rms or as entry at small index."""
        own = [t for t in self.terms if tag is None or tuple(sorted(set(t.tag))) == tag]
        if statistic == "rms":
            return [t.rms(self.labels) for t in own]
        return [t.size for t in own if not t.pattern.shape.windowed or all(p.low is None for _, p in t.pattern.profiles)]

    def only(self, keep: Callable[[Term], bool]) -> Value:
        return replace(self, terms=tuple(t for t in self.terms if keep(t)), exact=None)

    @property
    def untagged(self) -> Value:
        return self.only(lambda t: not t.tag)


@dataclass(frozen=True)
class Algebra:
    """Products and sums of values, with the regime in which sizes are compared and the tags that are kept.

    ``margin``: how far below the leading ones terms are kept, as corrections to scaling.  ``at`` is the place in the
    program that a derivation names, ``place`` its position there; ``rule`` the rule that is speaking.  ``alignment``: a
    policy that may give a sum another law than the derived one.  ``alike``: what was
    derived before that differs in names alone.
    """

    regime: Regime = FREE
    limits: Limits = Limits()
    margin: Scale = ONE
    rule: str = ""
    at: str = ""
    place: int = -1
    alignment: Alignment | None = None
    alike: Alike | None = None

    def step(self, law: str, *parents: Term, assumption: str = "") -> Step | None:
        """A step of a derivation as a reader is told it; of formal sizes, at a point, nobody is told any."""
        return Step(self.rule, law, self.at, parents, assumption) if self.regime.point is None else None

    def value(self, labels: Sequence[str], terms: Iterable[Term], exact: Any = None) -> Value:
        return Value(tuple(labels), simplify(terms, self.regime, self.margin), exact)

    def whole(self, value: Value) -> Value:
        """A value with its multiples among its terms: each of them times what there was before any update."""
        if not value.multiples:
            return value
        made = [
            Term(t.size * m.size, t.pattern, m.tag, m.why and replace(m.why, at=self.at, parents=(t,)))
            for m in value.multiples
            for t in value.terms
            if not t.tag
        ]
        return replace(value, terms=simplify((*value.terms, *made), self.regime, self.margin), multiples=())

    def add(self, labels: Sequence[str], *values: Value) -> Value:
        """The sum of tensors: all their terms."""
        alone = [v for v in values if v.terms]
        if len(alone) == 1 and set(alone[0].labels) == set(labels):
            return replace(alone[0], labels=tuple(labels))
        return self.value(labels, (t for v in values for t in v.terms))

    def multiply(self, labels: Sequence[str], a: Value, b: Value, law: str = "sizes multiply, profiles add") -> Value:
        """The broadcast product of two values."""
        out = self.value(labels, products(a.terms, b.terms, self.limits, lambda x, y: self.step(law, x, y)))
        # a factor constant along an axis changes no direction there
        ray = {d for v, w in ((a, b), (b, a)) for d in v.ray if d[1] not in w.labels}
        perp = {d for v, w in ((a, b), (b, a)) for d in v.perp if d[1] not in w.labels}
        return replace(out, ray=frozenset(ray), perp=frozenset(perp)) if ray or perp else out

    def sum(self, value: Value, over: str) -> Value:
        """The sum over one growing axis: law of large numbers or central limit, term by term; 0 of what was centred."""
        left = [label for label in value.labels if label != over]
        return Value(tuple(left), ()) if (ONES, over) in value.perp else self.value(left, self._summed(value.terms, over))

    def _summed(self, terms: Iterable[Term], over: str) -> Iterator[Term]:
        for t in terms:
            for size, one in met_in_blocks(t.pattern, over):
                factor, rest, law, assumption = _sum_law(one, over)
                if assumption:
                    assumption = assumption.replace(PLACE, self.at)
                yield Term(t.size * size * factor, rest, t.tag, self.step(law, t, assumption=assumption))

    def contract(self, labels: Sequence[str], a: Value, b: Value, over: Sequence[str]) -> Value:
        """Σ_over a·b; exactly zero where one is orthogonal to the other's direction."""
        constant = any((ONES, label) in v.perp and label not in w.labels for v, w in ((a, b), (b, a)) for label in over)
        if constant or any(label in over for _, label in (a.perp & b.ray) | (b.perp & a.ray)):
            return Value(tuple(labels), ())
        if self.alignment is not None and over and self.alignment.covers(self.place):
            return self._aligned(self.alignment, labels, a, b, over)
        if not over:
            return self.multiply(labels, a, b)
        if len(a.terms) * len(b.terms) > FEW_PAIRS:
            if not labels and set(over) >= {*a.labels, *b.labels}:
                return self.value((), self._inner(a, b, over))
            out = self.multiply([*labels, *over], a, b)
            for label in over:
                out = self.sum(out, label)
            return Value(tuple(labels), out.terms)
        law = "sizes multiply, profiles add"
        terms: Iterable[Term] = products(a.terms, b.terms, self.limits, lambda x, y: self.step(law, x, y))
        for label in over:
            terms = self._summed(terms, label)
        return self.value(labels, terms)

    def _inner(self, a: Value, b: Value, over: Sequence[str]) -> Iterator[Term]:
        """The same where no axis is left."""

        def summed(x: Term, y: Term, size: Scale, one: Pattern, tag: tuple[str, ...]) -> Iterator[Term]:
            terms: Iterable[Term] = [Term(size, one, tag, self.step("sizes multiply, profiles add", x, y))]
            for label in over:
                terms = self._summed(terms, label)
            yield from terms

        return inner(a.terms, b.terms, over, self.limits, self.regime, self.margin, summed)

    def _aligned(self, policy: Alignment, labels: Sequence[str], a: Value, b: Value, over: Sequence[str]) -> Value:
        """Σ_over a·b with the cosines that a policy has: ‖a‖ ‖b‖ times the cosine, with the patterns that are derived."""
        derived = replace(self, alignment=None)
        terms: list[Term] = []
        for x in a.terms:
            for y in b.terms:
                own = derived.contract(labels, replace(a, terms=(x,)), replace(b, terms=(y,)), over)
                law = policy.cosine(self.place, x.tag, y.tag, over)
                if law is None:
                    terms += own.terms
                    continue
                size = x.size * y.size * law[0]
                for t, label in ((t, label) for t in (x, y) for label in over):
                    size = size * t.pattern.profile(label).norm(dim_of(label))
                why = self.step(f"sum over {', '.join(map(dim_of, over))}: cosine {law[0]}", x, y, assumption=law[1])
                terms += [Term(size, t.pattern, t.tag, why) for t in own.terms]
        whole = derived.contract(labels, replace(a, terms=()), replace(b, terms=()), over)
        return replace(self.value(labels, terms), ray=whole.ray, perp=whole.perp)

    def scale(self, value: Value, by: Scale, law: str) -> Value:
        return replace(
            value, terms=tuple(Term(t.size * by, t.pattern, t.tag, self.step(law, t)) for t in value.terms), exact=None
        )

    def rename(self, value: Value, names: Mapping[str, str]) -> Value:
        out = list(value.terms)
        moves = [(old, new) for old, new in names.items() if old != new]
        if {old for old, _ in moves} & {new for _, new in moves}:  # labels that change places go through others
            aside = {old: dim_of(old) + "'" * (9 + i) for i, (old, _) in enumerate(moves)}
            moves = [*aside.items(), *((aside[old], new) for old, new in moves)]
        for old, new in moves:
            out = [Term(t.size, relabel(t.pattern, old, new), t.tag, t.why) for t in out]
        labels = tuple(names.get(label, label) for label in value.labels)
        ray, perp = (frozenset((i, names.get(label, label)) for i, label in d) for d in (value.ray, value.perp))
        return Value(labels, tuple(out), value.exact, ray, perp)

    def norm(self, value: Value, over: Sequence[str]) -> tuple[Scale, ...]:
        """Leading sizes of the Euclidean norm over some axes (root-mean-square over the others)."""
        root = count(over) ** HALF
        return self.regime.leading(t.rms(value.labels) * root for t in value.terms)

    def flat(self, labels: Sequence[str], size: Scale = ONE, law: str = "a constant") -> Value:
        return Value(tuple(labels), (Term(size, EVEN, (), self.step(law)),))


@noted
def _sum_law(one: Pattern, over: str) -> tuple[Scale, Pattern, str, str]:
    """The factor of a sum over an axis and what is left of the pattern; the law in words, and what it assumes."""
    factor, rest, large = sum_pattern(one, over)
    if not large:
        parts = [part for a in one.odd_on(over) for part in parts_of(a)]
        odd = ", ".join(sorted({name_of(tensor) for tensor, slots in parts if over in slots}))
        return factor, rest, f"sum over {dim_of(over)}: central limit (odd in {odd}), {factor}", ""
    assumption = f"the summand has a mean that no symmetry removes (sum over {dim_of(over)} at {PLACE})"
    turning = [dim_of(label) for label, p in one.profiles if p.phase and label != over]
    if turning:
        assumption += (
            f"; it turns along {turning[0]}, all alike over {dim_of(over)}: an upper bound, since steps that are "
            "random there have a mean that falls with the index"
        )
    return factor, rest, f"sum over {dim_of(over)}: law of large numbers, {factor}", assumption


def exact_value(labels: Sequence[str], profiles: Mapping[str, Profile], expression: Any, why: Step | None) -> Value:
    """The value of an exact expression in the index."""
    one = pattern([(label, p) for label, p in profiles.items() if p != FLAT])
    return Value(tuple(labels), (Term(ONE, one, (), why),), expression)
