"""Inner products of many terms come to what all their pairs come to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from scalecalc import value as values
from scalecalc.derive import interpret, resolve
from scalecalc.inner import inner
from scalecalc.pattern import Pattern
from scalecalc.scale import Regime, Scale
from scalecalc.term import Term, sum_pattern
from scalecalc.value import Algebra, Value

HALF = Scale.of("N", "1/2")


def large(name: str, **options: object) -> tuple[Algebra, list[Value]]:
    """The largest values of a forward pass with updates, on one axis."""
    model = resolve(name, optimizer="adam", options=options)
    found = interpret(model, Regime())
    limits = replace(found.algebra.limits, centred=frozenset({"N"}))
    some = [v for v in found.updated if v is not None and len(v.labels) == 1]
    return replace(found.algebra, limits=limits), sorted(some, key=lambda v: len(v.terms))[-3:]


@pytest.mark.parametrize("margin", [Scale.one(), HALF])
def test_what_is_left_out_cannot_lead(margin: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    algebra, some = large("transformer")
    algebra = replace(algebra, margin=margin)
    for v in some:
        monkeypatch.setattr(values, "FEW_PAIRS", 0)
        few = algebra.contract((), v, v, v.labels)
        monkeypatch.setattr(values, "FEW_PAIRS", 10**9)
        all_pairs = algebra.contract((), v, v, v.labels)
        assert {(t.size, t.pattern, t.tag) for t in few.terms} == {(t.size, t.pattern, t.tag) for t in all_pairs.terms}


def test_few_pairs_are_multiplied_out() -> None:
    algebra, some = large("transformer")
    v, pairs = some[-1], set[tuple[Term, Term]]()

    def summed(x: Term, y: Term, size: Scale, one: Pattern, tag: tuple[str, ...]) -> Iterator[Term]:
        pairs.add((x, y))
        factor, rest, _ = sum_pattern(one, v.labels[0])
        yield Term(size * factor, rest, tag)

    list(inner(v.terms, v.terms, v.labels, algebra.limits, Regime(), Scale.one(), summed))
    whole = sum(algebra.limits.join(x.tag, y.tag) is not None for x in v.terms for y in v.terms)
    assert 0 < len(pairs) < whole / 4


def test_a_norm_leaves_no_mask() -> None:
    """Its argument is positive, so that nothing is exactly zero."""
    _, some = large("transformer")
    assert not any(m for v in some for t in v.terms for m in t.pattern.masks if not m.labels)
