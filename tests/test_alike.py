"""What differs in names alone is derived once, and as it would be derived anew; and what forgets a check is noticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from test_solve_oracle import recorded

from scalecalc import alike, writing
from scalecalc.alike import Alike
from scalecalc.claims import Claim, claims, derive_at, formal, guess
from scalecalc.model import Model, resolve
from scalecalc.pattern import EVEN, Pattern, Source, atom, knot, mask, pattern, source
from scalecalc.profile import Bound, Profile
from scalecalc.scale import Point, Regime, Scale
from scalecalc.solve import unscaled
from scalecalc.term import FLAT, Limits, Term
from scalecalc.value import Algebra, Value

ONE, N = Scale.one(), Scale.of("N")
PROPORTIONAL = Regime.parse("proportional")

# ---------------------------------------------------------------------- one operation


def noise(*tensors: str) -> Source:
    """Vectors of independent entries, one per tensor, as a source."""
    return source("N•", [pattern((), [atom(name, ("N•",))]) for name in tensors])


def of(size: Scale, labels: Sequence[str], *odd: Any, tag: str = "") -> Value:
    return Value(tuple(labels), (Term(size, pattern((), odd), tuple(tag)),))


def matrix(name: str) -> Value:
    return of(ONE, "MN", atom(name, ("M", "N")))


def after(name: str, within: Source) -> Value:
    """What a matrix made of a vector."""
    return of(ONE, "M", atom(name, ("M", within)))


def asked(pairs: Sequence[tuple[Sequence[Value], dict[str, Scale]]], law: Callable[..., Value]) -> tuple[Alike, list[bool]]:
    """Values of one writing, given to one law one after the other: is each answer what the law makes of them?"""
    point = Point({u: at for _, unknowns in pairs for u, at in unknowns.items()})
    algebra, once = Algebra(replace(PROPORTIONAL, point=point), Limits(2, 2, 2)), Alike(point)
    right: list[bool] = []
    for values, _ in pairs:
        found = once.once("law", values, lambda values=values: law(algebra, *values))
        right.append(found == law(algebra, *values))
    return once, right


def contract(algebra: Algebra, a: Value, b: Value) -> Value:
    return algebra.contract([label for label in a.labels + b.labels if label != "M"], a, b, ["M"])


def product_after_sum(algebra: Algebra, w: Value, x: Value, y: Value) -> Value:
    return algebra.multiply(("M",), algebra.contract(("M",), w, x, ["N"]), y)


def added(algebra: Algebra, a: Value, b: Value) -> Value:
    return algebra.add(a.labels, a, b)


def twice(x: Value) -> Value:
    """Two terms, so that it pays to look."""
    return replace(x, terms=(*x.terms, Term(N**-2, pattern((), [atom("Z", x.labels)]))))


def sizes(a: str, b: str) -> list[Value]:
    return [twice(of(Scale.of(u), "MN", atom("W", ("M", "N")))) for u in (a, b)]


def counted(self: Any, here: Any) -> bool:
    """A source that is made is new, whatever there is."""
    here.things.append(writing.read_source(writing.Writing(self.outline, here.at(self.things))))
    return True


# Each time two sets of values that are written alike, of which a law makes something else; and the check that tells.
UNLIKE: dict[str, tuple[list[tuple[list[Value], dict[str, Scale]]], Callable[..., Value], Any, Any]] = {
    "what is in a source": (
        [([matrix(w), twice(after(w, s))], {}) for w, s in [("W", noise("V")), ("U", source("N•", [EVEN]))]],
        contract, alike._Contents, None,
    ),
    "the cosine of two": (
        [([twice(after("W", noise("V"))), after("W", other)], {}) for other in (noise("T"), noise("V", "T"))],
        contract, alike._Cosine, None,
    ),
    "whether a source that is made is there": (
        [([matrix("W"), twice(of(ONE, "N", atom("V", "N"))), after("W", t)], {}) for t in (noise("V", "T"), noise("V"))],
        product_after_sum, alike._Made, counted,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNLIKE)
def test_what_a_law_looked_at_is_looked_at_again(monkeypatch, name) -> None:
    pairs, law, check, forgets = UNLIKE[name]
    once, right = asked(pairs, law)
    assert all(right)
    assert (once.found, once.missed) == (0, 2)

    real = check.__call__
    monkeypatch.setattr(check, "__call__", forgets or (lambda self, here: real(self, here) or True))
    once, right = asked(pairs, law)
    assert (once.found, once.missed) == (1, 1)
    assert right == [True, False]  # without the check another's result is taken


def test_sizes_are_told_apart_by_what_they_come_to(monkeypatch) -> None:
    pairs = [(sizes("a", "b"), {"a": N, "b": ONE}), (sizes("c", "d"), {"c": ONE, "d": N})]
    once, right = asked(pairs, added)
    assert all(right)
    assert (once.found, once.missed) == (0, 2)

    outline = alike.number_of
    monkeypatch.setattr(alike, "number_of", lambda o: outline((ONE, *o[1:]) if isinstance(o[0], Scale) else o))
    once, right = asked(pairs, added)
    assert once.found == 1
    assert right != [True, True]


@pytest.mark.parametrize(
    ("pair", "law"),
    [
        ([[matrix(w), twice(after(w, noise(v)))] for w, v in ("AB", "CD")], contract),
        ([[twice(after(w, noise(v))), after(w, noise(v, "T"))] for w, v in ("AB", "CD")], contract),
        ([[matrix(w), twice(of(ONE, "N", atom(v, "N"))), after(w, noise("T"))] for w, v in ("AB", "CD")], product_after_sum),
        ([[twice(of(ONE, "M", atom(w, "M"), tag=w)), of(N, "M", atom(v, "M"), tag=v)] for w, v in ("AB", "CD")], contract),
    ],
)
def test_other_names_are_read_off(pair, law) -> None:
    once, right = asked([(values, {}) for values in pair], law)
    assert all(right)
    assert (once.found, once.missed) == (1, 1)


def test_two_things_are_one_or_not_at_both() -> None:
    pairs = [([twice(after(w, noise("V"))), after(v, noise("V"))], {}) for w, v in ("WW", "WU")]
    once, right = asked(pairs, contract)
    assert all(right)
    assert once.found == 0


def test_names_in_a_result_come_from_the_arguments() -> None:
    """A law that names a tensor of its own cannot be looked up, and is not."""
    once, right = asked([([twice(matrix(w))], {}) for w in "WV"], lambda algebra, x: of(ONE, "M", atom("X", "M")))
    assert all(right)
    assert once.found == 0


def test_nothing_is_looked_up_without_a_point() -> None:
    once = Alike(None)
    for w in "WV":
        once.once("law", [twice(matrix(w))], lambda: matrix("W"))
    assert (once.found, once.missed) == (0, 0)


# ---------------------------------------------------------------------- writing

LOW = Bound((N.power("N"),), N)
PATTERNS: list[Pattern] = [
    EVEN,
    pattern([("N", Profile())], [atom("W", ("N", noise("V"))), atom("W", ("N", noise("T"))), atom("V", ("M",))]),
    pattern((), [knot([("W", ("N", 0)), ("V", (0, "M"))], {0: ("N", FLAT)})], [frozenset({"N", "N'"})]),
    pattern((), [atom("W", ("N",))], (), [mask([pattern((), [atom("U", ("N", noise("V", "T")))])], ONE)]),
]


@pytest.mark.parametrize("one", PATTERNS, ids=repr)
def test_a_pattern_is_read_as_it_was_written(one) -> None:
    assert writing.read_pattern(writing.written(one)) is one
    within = source("N•", [one, pattern((), [atom("A", ("N•",))])])
    assert writing.read_source(writing.contents(within)) is within


@pytest.mark.parametrize(
    "one",
    [
        pattern([("N", Profile(low=LOW))]),
        pattern((), [atom("W", ("N",))], (), [mask([EVEN], N**-1)]),
        pattern((), [knot([("W", ("N", 0)), ("V", (0, "M"))], {0: ("N", Profile(low=LOW))})]),
    ],
    ids=["window", "mask", "knot"],
)
def test_sizes_within_a_pattern_are_not_written(one) -> None:
    with pytest.raises(writing.Unwritable):
        writing.written(one)


# ---------------------------------------------------------------------- whole derivations


def derived(monkeypatch: pytest.MonkeyPatch, model: Model, steps: int, look_up: bool) -> tuple[list[Claim], Alike]:
    """What a derivation at a point claims, with or without looking up."""
    made: list[Alike] = []

    def make(point: Point | None) -> Alike:
        made.append(Alike(point if look_up else None))
        return made[-1]

    monkeypatch.setattr(import_module("scalecalc.derive"), "Alike", make)
    found = claims(derive_at(model, guess(model), PROPORTIONAL, steps))
    return found, made[0]


def model_of(name: str, optimizer: str) -> Model:
    return formal(resolve(name, optimizer=optimizer, parameterization=unscaled))


@pytest.mark.parametrize(
    ("name", "optimizer", "steps"),
    [("mlp:depth=11", "adam", 2), ("mlp:depth=11", "sgd", 1), ("mlp:depth=10,activation=tanh", "adam", 1)],
)
def test_a_deep_network_is_derived_as_without(monkeypatch, name, optimizer, steps) -> None:
    model = model_of(name, optimizer)
    (with_it, used), (without, unused) = (derived(monkeypatch, model, steps, look_up) for look_up in (True, False))
    assert with_it == without
    assert used.found >= 5
    assert unused.found == 0


def test_what_has_to_be_derived_does_not_grow_with_depth(monkeypatch) -> None:
    missed = [derived(monkeypatch, model_of(f"mlp:depth={depth}", "adam"), 1, True)[1].missed for depth in (20, 40)]
    assert missed[0] == missed[1]


@pytest.mark.parametrize(("layer", "optimizer"), [("square tanh", "sgd"), ("square relu", "adam")])
def test_layers_in_a_row_are_derived_as_without(monkeypatch, layer, optimizer) -> None:
    monkeypatch.setattr("scalecalc.claims.MOST_IN_PAIRS", 0)
    model = formal(recorded(["embed tanh", "square relu", *[layer] * 6, "square tanh"], optimizer))
    (with_it, used), (without, _) = (derived(monkeypatch, model, 1, look_up) for look_up in (True, False))
    assert with_it == without
    assert used.found
