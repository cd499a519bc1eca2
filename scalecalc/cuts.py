"""Deep networks: what reaches a feature, or comes back to it, is summed up there by a few sizes of its own.

With L weights a feature high up has a term for each weight below it and for each pair of them, L³ in all.  To bound them they
need not be told apart that far.  At every feature the terms of alike pattern become one, of a size that is a new unknown s,
with s ≥ each of theirs; only that one is carried on.  A bound further up is a bound on s, and by s on each of them: the
largest rates are the same, and which weight binds is still read off (its row is the one that bounds s from below).  The work
is linear in depth.

What is given up: where alike terms differ in what was summed within them (their sources), each is taken to be as large as the
largest.  So a rate solved for with cuts is never too large, and may be too small where a large term and a small one of like
pattern have different fates.  Shallow networks are solved without (:data:`scalecalc.claims.MOST_IN_PAIRS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scalecalc.program import Program
from scalecalc.scale import Regime, Scale
from scalecalc.term import Term, kind_of, simplify
from scalecalc.value import Value

Bounded = tuple[str, tuple[str, ...], Scale]  # where, the weights, a size that may not exceed one
MARK = "Δ"  # an unknown's name begins so, as does the tag of what is carried on


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
            tag = (f"{MARK}{self.at[position]}",) * len(own[0].tag)
            size = self._size(self.at[position], own)
            out += [replace(t, size=size, tag=tag) for t in own]
        return replace(value, terms=simplify(out, self.regime))

    def _size(self, name: str, terms: Sequence[Term]) -> Scale:
        """One size for all: theirs, if they have one, or else an unknown that each of them is bounded by."""
        sizes = {t.size: t for t in terms}
        if len(sizes) == 1:
            return terms[0].size
        unknown = f"{MARK} {name} {len(self.bounds)}"
        point = self.regime.point
        assert point is not None, "sums need a point at which sizes are compared"
        point.unknowns[unknown] = point(self.regime.leading(sizes)[0])
        self.bounds += [(name, t.tag, size / Scale.of(unknown)) for size, t in sizes.items()]
        return Scale.of(unknown)


def is_sum(unknown: str) -> bool:
    """Is it the name of a sum, or its tag?"""
    return unknown.startswith(MARK)


__all__ = ["MARK", "Bounded", "Cuts", "is_sum"]
