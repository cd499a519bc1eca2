"""The solver against search: no point of a rational grid is better than what it found, on small random programs.

The search shares nothing with the solver but the engine and what is wanted (said once more below, in :func:`worth` and
:func:`allowed`): no unknowns, no formal sizes, no linear programs.  Every point is derived by itself, with exponents that are
numbers.  The first step alone, so that a point costs milliseconds.

Which points: around the solution one unknown or two at a time; for every goal its unknown made larger while all that matters
less gives way, by much; and anywhere.  A point is looked at only as far as it takes to see that it is no better or not
allowed: its inits, then the sizes at initialisation, then what single updates do, and what two do together last.  Each of
these leaves out less than the one after it, so that nothing that would fail the whole is passed over
(``test_a_point_is_given_up_for_no_other_reason``).  A failure prints a program as a list of layers: add it to
:func:`test_small_programs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from importlib import import_module
from itertools import takewhile
from random import Random

import pytest
from cases import dot, matmul, relu, square, start, tanh
from hypothesis import event, given, settings
from hypothesis import strategies as st

from scalecalc import steps as training
from scalecalc.backward import record_backward
from scalecalc.claims import formal, unknown
from scalecalc.derive import initial_weights, run
from scalecalc.model import Model
from scalecalc.parameterization import assign
from scalecalc.problem import Answer, Problem
from scalecalc.program import Program, Tensor
from scalecalc.rule import find
from scalecalc.scale import Regime, Scale
from scalecalc.solve import unscaled
from scalecalc.table import WeightScaling
from scalecalc.term import Limits
from scalecalc.value import Algebra, Value

identity = import_module("scalecalc.rules.elementwise").identity
FUNCTIONS = {"identity": identity, "relu": relu, "tanh": tanh, "square": square}
SINGLE, PAIRS = Limits(degree=1, distinct=1, total=1), Limits(degree=2, distinct=2, total=2)
ONE, QUARTER, HALF = Scale.one(), Fraction(1, 4), Fraction(1, 2)
NONE = Fraction(-1000)  # the exponent of what is exactly zero
Point = Mapping[str, Fraction]  # unknown → its exponent along the path

# ---------------------------------------------------------------------- programs


def recorded(layers: Sequence[str], optimizer: str) -> Model:
    """``["embed tanh", "square relu", "wide", "tied", "gate", "residual", "product"]``: a kind, and the function after it."""
    p = Program(" | ".join(layers), ("N", "M"), {"in": 8, "out": 8, "batch": 4})
    h, square_weight = p.input("x", "batch in"), None
    for k, layer in enumerate(layers):
        kind, function = layer.split()
        if kind == "embed":
            h = p.feature("h0", matmul(p.weight("W_in", "N in"), h))
        elif kind == "tied" and square_weight is not None:
            h = p.feature(f"h{k}", matmul(square_weight, h))
        elif kind == "product":
            B, C = (p.feature(f"{n}{k}", matmul(weight(p, f"W_{n}{k}", h, other=True), h)) for n in "BC")
            h = p.feature(f"h{k}", dot(C, B * h, along(B)))
        elif kind == "gate":
            w, v = (p.feature(f"{n}{k}", matmul(weight(p, f"W_{n}{k}", h), h)) for n in "wv")
            h = p.feature(f"h{k}", w * tanh(v))
        else:
            W = weight(p, f"W_{k}", h, other=kind == "wide")
            square_weight = None if kind == "wide" else W
            out = matmul(W, h)
            if kind == "residual":
                out = out + import_module("scalecalc.rules.reduction").rename(h, {along(h): along(out)})
            h = p.feature(f"h{k}", out)
        h = FUNCTIONS[function](h)
    f = p.feature("f", matmul(p.weight("W_out", f"out {along(h)}"), h))
    p.end(f)
    used = {label.rstrip("'") for w in p.weights.values() for label in w.axes}
    p.dims = tuple(d for d in p.dims if d in used)
    record_backward(p, start(f, "linear"))
    update = find("optimizer", optimizer).make()
    return Model(p.name, p, "", assign(unscaled, p.weights, optimizer), optimizer, update, "", {})


def along(x: Tensor) -> str:
    """The growing axis of an activation."""
    return x.program.growing(x.axes)[-1]


def weight(p: Program, name: str, x: Tensor, other: bool = False) -> Tensor:
    """A weight from x's growing axis to one of the same dim, or of the other."""
    label = along(x)
    dim = label.rstrip("'")
    out = ("M" if dim == "N" else "N") if other else dim + "'" if label == dim else dim
    return p.weight(name, f"{out} {label}")


# ---------------------------------------------------------------------- what is wanted, in exponents that are numbers


class Search:
    """One program on one path: exponents in, what comes of them out."""

    def __init__(self, model: Model, regime: Regime):
        self.model, self.regime = model, regime
        self.dim = model.program.dims[0]
        self.known: dict[object, dict[tuple[str, tuple[str, ...]], Fraction]] = {}
        self.largest: dict[object, Fraction] = {}
        self.before: dict[object, dict[str, Value]] = {}

    def exponent(self, size: Scale) -> Fraction:
        return self.regime.key(size)[0]

    def scale(self, exponent: Fraction) -> Scale:
        """A scale of this exponent on the path; which one does not matter there."""
        return Scale.of(self.dim, exponent / self.exponent(Scale.of(self.dim)))

    def at(self, point: Point) -> Model:
        return replace(
            self.model,
            scalings={
                w: WeightScaling(self.scale(point[unknown("init", w)]), ONE, self.scale(point[unknown("lr", w)]), s.role)
                for w, s in self.model.scalings.items()
            },
        )

    def initial(self, point: Point) -> Fraction:
        """The exponent of the largest feature."""
        key = self.inits(point)
        if key not in self.largest:
            model, algebra = self.at(point), Algebra(self.regime)
            features = list(model.program.features.values())
            values = run(model.program, algebra, initial_weights(model, algebra), features)
            sizes = [self.exponent(s) for i in features if (value := values[i]) is not None for s in value.sizes()]
            self.largest[key] = max(sizes)
        return self.largest[key]

    def inits(self, point: Point) -> tuple[Fraction, ...]:
        return tuple(point[unknown("init", w)] for w in self.model.program.weights)

    def gradients(self, point: Point) -> dict[str, Value]:
        """Those of the initial network; rates do not enter."""
        key, program = self.inits(point), self.model.program
        if key not in self.before:
            model, algebra = self.at(point), Algebra(self.regime)
            places = {w: program.gradients[i] for w, i in program.leaves("weight").items() if i in program.gradients}
            values = run(program, algebra, initial_weights(model, algebra), list(places.values()))
            self.before[key] = {w: value for w, i in places.items() if (value := values[i]) is not None}
        return self.before[key]

    def updates(self, point: Point, limits: Limits = PAIRS) -> dict[tuple[str, tuple[str, ...]], Fraction]:
        """Feature and tag → the exponent of what the updates do."""
        key = limits, tuple(sorted(point.items()))
        if key not in self.known:
            model, algebra = self.at(point), Algebra(self.regime, limits)
            weights, sizes = initial_weights(model, algebra), dict[tuple[str, tuple[str, ...]], Fraction]()
            moved = training.moved(weights, training.step(model, algebra, weights, self.gradients(point)), 1)
            updated = run(model.program, algebra, moved, list(model.program.features.values()))
            for name, i in self.model.program.features.items():
                after = updated[i]
                assert after is not None
                for t in after.terms:
                    if t.tag:
                        size = self.exponent(t.rms(after.labels))
                        sizes[name, t.tag] = max(size, sizes.get((name, t.tag), NONE))
            self.known[key] = sizes
        return self.known[key]

    def allowed(self, point: Point, limits: Limits = PAIRS) -> bool:
        """Every feature, and whatever one or two updates change in it, stays of order one."""
        return self.initial(point) <= 0 and max(self.updates(point, limits).values(), default=NONE) <= 0

    def better(self, point: Point, best: Sequence[Fraction]) -> bool:
        """Is it allowed and worth more?  Asked in the order of what it costs to say no."""
        inits = [point[unknown(what, w)] for what, w in takewhile(lambda goal: goal[0] == "init", self.goals)]
        if inits < list(best[: len(inits)]) or not self.allowed(point, SINGLE):
            return False
        return self.worth(point, SINGLE) > best and self.allowed(point)

    @cached_property
    def nearest(self) -> dict[str, str]:
        """Weight → the first feature that depends on it, the output if there is no other."""
        program = self.model.program
        order = sorted(program.features.items(), key=lambda item: (item[0] == "f", item[1]))
        return {w: next((f for f, i in order if i in program.reaches(w)), "f") for w in program.weights}

    @cached_property
    def goals(self) -> list[tuple[str, str]]:
        """(what, weight), the most important first."""
        program, near = self.model.program, self.nearest
        weights = list(program.weights)
        up = [w for w in weights if near[w] != "f"]
        last = [w for w in weights if near[w] == "f"]
        down = sorted(up, key=lambda w: -program.features[near[w]])
        return [*(("init", w) for w in up), *(("lr", w) for w in [*last, *down]), *(("init", w) for w in last)]

    def worth(self, point: Point, limits: Limits = PAIRS) -> list[Fraction]:
        """Inits, and updates of the nearest features, in the order of the goals."""
        updates, near = self.updates(point, limits), self.nearest
        return [
            point[unknown("init", w)] if what == "init" else updates.get((near[w], (w,)), NONE) for what, w in self.goals
        ]


# ---------------------------------------------------------------------- points


def around(search: Search, solution: Point, seed: int, most: int) -> Iterator[Point]:
    """The points to try, no more than a number of each kind."""
    random, goals = Random(seed), [unknown(what, w) for what, w in search.goals]
    for k, u in enumerate(goals):  # more of one thing, while all that matters less gives way
        yield {**solution, u: solution[u] + QUARTER, **{v: solution[v] - 2 for v in goals[k + 1 :]}}
        yield {**solution, u: solution[u] + QUARTER}
    pairs = [(k, j) for k in range(len(goals)) for j in range(len(goals)) if k != j]
    steps = [(QUARTER, -QUARTER), (QUARTER, -HALF), (HALF, -QUARTER), (QUARTER, QUARTER)]
    for k, j in random.sample(pairs, min(most, len(pairs))):
        a, b = random.choice(steps)
        yield {**solution, goals[k]: solution[goals[k]] + a, goals[j]: solution[goals[j]] + b}
    for _ in range(most):
        yield {u: random.choice([solution[u] + HALF * n for n in (-2, -1, 0, 0, 1, 2)]) for u in goals}


def solved(model: Model, regime: Regime) -> tuple[Search, Answer, Point]:
    answer = Problem(formal(model), regime, 1).solve()
    search = Search(model, regime)
    names = [unknown(q, w) for w in model.program.weights for q in ("init", "lr")]
    return search, answer, {u: search.exponent(answer.values.get(u, ONE)) for u in names}


def check(layers: Sequence[str], optimizer: str, path: str, seed: int = 0, most: int = 4) -> Answer:
    model = recorded(layers, optimizer)
    search, answer, solution = solved(model, Regime.parse(path if len(model.program.dims) > 1 else "proportional"))
    assert search.allowed(solution), f"broken by {search.updates(solution)}"
    best = search.worth(solution)
    for point in around(search, solution, seed, most):
        if search.better(point, best):
            moved = {u: str(e) for u, e in point.items() if e != solution[u]}
            pytest.fail(f"{moved} is better: {search.goals}, {search.worth(point)} against {best}")
    return answer


# ---------------------------------------------------------------------- tests

PLAIN, RICH = ["square", "wide", "tied"], ["gate", "residual", "product"]


def layer(kinds: Sequence[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda kind, function: f"{kind} {function}", st.sampled_from(kinds), st.sampled_from(sorted(FUNCTIONS)))


HIDDEN = st.one_of(
    st.lists(layer(PLAIN), max_size=2), st.tuples(layer(RICH)).map(list), st.tuples(layer(["wide"]), layer(RICH)).map(list)
)
PROGRAMS = st.builds(lambda function, more: [f"embed {function}", *more], st.sampled_from(sorted(FUNCTIONS)), HIDDEN)
PATHS = ["proportional", "M=N^1/2", "M=N^2"]


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True)
@given(PROGRAMS, st.sampled_from(["sgd", "adam"]), st.sampled_from(PATHS), st.integers(0, 99))
def test_nothing_on_the_grid_is_better(layers, optimizer, path, seed) -> None:
    answer = check(layers, optimizer, path, seed, most=2)
    event("settled" if answer.settled else "not settled")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("layers", "path"),
    [
        (["embed relu"], "proportional"),
        (["embed relu", "square relu"], "proportional"),
        (["embed tanh", "wide square"], "M=N^2"),
        (["embed identity", "product identity"], "M=N^1/2"),
    ],
    ids=lambda x: " | ".join(x) if isinstance(x, list) else x,
)
def test_small_programs(layers, path, optimizer) -> None:
    assert check(layers, optimizer, path).settled


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("layers", [["embed relu", "square tanh"], ["embed tanh", "wide relu"]], ids=" | ".join)
def test_the_search_sees_every_exponent_that_is_not_the_best(layers, optimizer) -> None:
    """A quarter more is not allowed, from a quarter less there is something better: of every unknown."""
    search, _, solution = solved(recorded(layers, optimizer), Regime.parse("proportional"))
    for u in solution:
        assert not search.allowed({**solution, u: solution[u] + QUARTER}), u
        less = {**solution, u: solution[u] - QUARTER}
        better = (p for p in around(search, less, 0, 0) if search.better(p, search.worth(less)))
        assert next(better, None) is not None, u


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("layers", [["embed relu", "square tanh"], ["embed tanh", "product relu"]], ids=" | ".join)
def test_a_point_is_given_up_for_no_other_reason(layers, optimizer) -> None:
    """Worth and permission by themselves, of all two updates do, against the short cuts: from the solution and below it."""
    search, _, solution = solved(recorded(layers, optimizer), Regime.parse("proportional"))
    seen = set[bool]()
    for shift in (Fraction(0), QUARTER, HALF):
        centre = {u: e - shift for u, e in solution.items()}
        best = search.worth(centre)
        for point in around(search, centre, 1, 6):
            plainly = search.allowed(point) and search.worth(point) > best
            assert search.better(point, best) == plainly
            seen.add(plainly)
    assert seen == {False, True}
