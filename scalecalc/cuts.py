"""Deep networks: what reaches a feature, or comes back to it, is summed up there by a few sizes of its own.

With L weights a feature high up has a term for each weight below it and for each pair of them, L³ in all.  To bound them they
need not be told apart that far.  At every feature the terms of alike pattern become one, of a size that is a new unknown s,
with s ≥ each of theirs; only that one is carried on.  A bound further up is a bound on s, and by s on each of them: the
largest rates are the same, and which weight binds is still read off (its row is the one that bounds s from below).  The work
is linear in depth.

What is given up: where alike terms differ in what was summed within them (their sources), each is taken to be as large as the
largest.  So a rate solved for with cuts is never too large, and may be too small where a large term and a small one of like
pattern have different fates.  (In random small networks none was; the tests look for one.)  Shallow networks
are solved without (:data:`scalecalc.claims.MOST_IN_PAIRS`).

No part of a sum hides another that depends on other unknowns, however small it is where the network is derived: the weight
that makes it would have no bound there.  (Where smaller parts were dropped, two weights took turns at having none, and the
solution did not settle.)

A goal with a sum in it is taken once the sum is as small as what has been fixed by then makes it.  (It was not, at first:
the rate stayed in terms of the sum, had no value, and that of the first step was kept, N_u^(1/2) too large for s6 under SGD.)

All this holds as long as what is bounded grows with s.  A size that s divides (where an optimizer divides by what
gradients have gained, as Shampoo's law does) would be small where s is made large, and s has no bound from above of its own:
such a network is derived without cuts (:func:`divides`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scalecalc.program import Program
from scalecalc.scale import Point, Regime, Scale
from scalecalc.term import SUM, Term, is_sum, kind_of, simplify
from scalecalc.value import Value

if TYPE_CHECKING:
    from scalecalc.derive import Derivation

Alike = tuple[str, int, frozenset[Scale]]  # where, by how many weights, of which sizes
Bounded = tuple[str, tuple[str, ...], Scale]  # where, the weights, a size that may not exceed one


@dataclass
class Cuts:
    """Where a derivation sums up, and the bounds that its new unknowns have from below.

    Args:
        regime: at a point, which learns where the new unknowns stand.
        at: position of an operation → its name.
    """

    regime: Regime
    at: Mapping[int, str]
    bounds: list[Bounded] = field(default_factory=list[Bounded])
    _made: dict[Alike, Scale] = field(default_factory=dict[Alike, Scale])

    @staticmethod
    def of(program: Program, regime: Regime) -> Cuts:
        """At every feature but the output, and at the gradient of each."""
        inner = {i: name for name, i in program.features.items() if i != program.loss}
        back = {program.gradients[i]: f"d{name}" for i, name in inner.items() if i in program.gradients}
        return Cuts(regime, {**inner, **back})

    def cut(self, position: int, value: Value) -> Value:
        """What is carried on of a value."""
        groups: dict[Any, list[Term]] = {}
        for t in value.terms:
            if t.tag:
                groups.setdefault((len(t.tag), kind_of(t.pattern)), []).append(t)
        if position not in self.at or not groups:
            return value
        out: list[Term] = [t for t in value.terms if not t.tag]
        for own in groups.values():
            tag = (f"{SUM}{self.at[position]}",) * len(own[0].tag)
            size = self._size(self.at[position], own)
            out += [Term(size, t.pattern, tag, t.why) for t in own]
        return replace(value, terms=simplify(out, self.regime))

    def _size(self, name: str, terms: Sequence[Term]) -> Scale:
        """One size for all: theirs, if they have one, or else an unknown that each of them is bounded by.

        Terms of another pattern, of the same sizes, come to the same.
        """
        sizes = {t.size: t for t in terms}
        if len(sizes) == 1:
            return terms[0].size
        alike = name, len(terms[0].tag), frozenset(sizes)
        if alike in self._made:
            return self._made[alike]
        unknown = f"{SUM} {name} {len(self.bounds)}"
        point = self.regime.point
        assert point is not None, "sums need a point at which sizes are compared"
        point.unknowns[unknown] = point(self.regime.leading(sizes)[0])
        self.bounds += [(name, t.tag, size / Scale.of(unknown)) for size, t in sizes.items()]
        return self._made.setdefault(alike, Scale.of(unknown))


def divides(found: Derivation) -> bool:
    """Does a sum's unknown divide anything that is bounded, other than what it sums up?"""
    features = found.model.program.features.values()
    passes = [found.updated, *([found.later.updated] if found.later else [])]
    sizes = {t.size for passed in passes for i in features if (value := passed[i]) is not None for t in value.terms}
    if any(e < 0 and is_sum(u) for size in sizes for u, e in size.powers):
        return True
    return any(e < -(u == unknown) and is_sum(u) for unknown, size in map(summed, found.sums) for u, e in size.powers)


def summed(bound: Bounded) -> tuple[str, Scale]:
    """The unknown that a bound is on, the last that was made of those in it, and the bound."""
    size = bound[2]
    names = (u for u, e in size.powers if is_sum(u) and e < 0)
    return max(names, key=lambda u: int(u.rsplit(maxsplit=1)[1])), size


def values_of_sums(sums: Sequence[Bounded], values: Mapping[str, Scale], regime: Regime) -> dict[str, Scale]:
    """What the sums' unknowns come to, each the largest of what it sums up, where the others stand at given values."""
    out: dict[str, Scale] = {}
    parts: dict[str, list[Scale]] = {}
    for unknown, size in map(summed, sums):
        parts.setdefault(unknown, []).append(size * Scale.of(unknown))
    plain = replace(regime, point=None)
    for unknown, sizes in parts.items():  # those within a sum were made before it
        at = Point({**values, **{u: out[u] for size in sizes for u, _ in size.powers if u in out}})
        out[unknown] = plain.leading(map(at, sizes))[0]
    return out


def shares(weight: str, sums: Sequence[Bounded], at: Point, regime: Regime) -> dict[str, Scale]:
    """Sum → what a weight's updates make of it, relative to all of it; ``at``: where all unknowns stand."""
    out: dict[str, Scale] = {}
    for name, size in map(summed, sums):
        mine = share(weight, (), size * Scale.of(name), out, regime)
        if mine is not None:
            mine = mine * at(size)
            out[name] = regime.leading([mine, out.get(name, mine)])[0]
    return out


def share(weight: str, tag: Sequence[str], size: Scale, known: Mapping[str, Scale], regime: Regime) -> Scale | None:
    """What a weight's updates make of a size, by its rate or by the sums in it; None if they are not in it."""
    names = [u for u, e in size.powers if e > 0]
    if weight in tag or f"lr {weight}" in names:
        return Scale.one()
    parts = [known[u] for u in names if u in known]
    return regime.leading(parts)[0] if parts else None


__all__ = ["SUM", "Bounded", "Cuts", "divides", "is_sum", "share", "shares", "summed", "values_of_sums"]
