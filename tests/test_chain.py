"""Inits told by paths: they telescope, and say the same."""

from __future__ import annotations

from fractions import Fraction

import pytest

from scalecalc import chain, claims
from scalecalc.claims import derive_at, everywhere, formal, guess, unknown
from scalecalc.model import resolve
from scalecalc.scale import Point, Regime, Scale
from scalecalc.solve import solve, unscaled
from scalecalc.symmetry import Span

MODELS = ["mlp:depth=4", "s6", "lti"]


@pytest.mark.parametrize("model", MODELS)
def test_inits_and_paths_determine_each_other(model: str) -> None:
    program = resolve(model, parameterization=unscaled).program
    on = chain.before(program)
    assert on
    values = {unknown("init", w): Scale.of(program.dims[0], Fraction(k, 3)) for k, w in enumerate(program.weights)}
    at = Point(chain.with_paths(values, on))
    for w in program.weights:
        assert at(chain.init(w, on)) is values[f"init {w}"]
        assert chain.in_inits(chain.init(w, on), on) is Scale.of(f"init {w}")


def test_sizes_of_a_deep_network_are_short() -> None:
    longest: list[int] = []
    for depth in (12, 16):
        model = formal(resolve(f"mlp:depth={depth}", parameterization=unscaled, optimizer="sgd"))
        found = derive_at(model, guess(model), Regime.parse("proportional"), 1)
        sizes = [t.size for i in model.program.features.values() for t in found.values[i].terms]
        assert max(len(s.powers) for s in sizes) == 2  # a power of N, and the path
        longest.append(max(len(c.size.powers) for c in claims.claims(found)))
    assert longest[0] == longest[1]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_solution_is_the_same_by_paths_and_by_inits(monkeypatch, model: str, optimizer: str) -> None:
    plain = solve(model, optimizer=optimizer)
    monkeypatch.setattr(claims, "MOST_IN_PAIRS", 0)
    deep = solve(model, optimizer=optimizer)
    assert dict(deep.scalings) == dict(plain.scalings)
    assert deep.fates == plain.fates
    names = [u for shift in (*plain.group, *deep.group) for u, _ in shift.powers]
    for shifts in ((plain.group, deep.group), (deep.group, plain.group)):
        vectors = [dict(s.powers) for s in shifts[1]]
        for one in shifts[0]:
            assert not Span(vectors, dict.fromkeys(names)).rest(dict(one.powers)), one


def test_a_point_is_told_anew() -> None:
    """Paths that an earlier point had are not taken over."""
    program = resolve("mlp:depth=3", parameterization=unscaled).program
    ones = {f"init {w}": Scale.one() for w in program.weights}
    first = everywhere(program, ones)
    assert everywhere(program, {**first, "init W_in": Scale.of("N")})["path W_3"] is Scale.of("N")
