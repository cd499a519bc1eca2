"""Steps two and later, derived.  Every expected exponent stands here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cases import S

from scalecalc.derive import Derivation, derive, interpret, resolve
from scalecalc.interpreter import run
from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rows import steady_classes
from scalecalc.rule import _REGISTRY, find, parameterization
from scalecalc.scale import FREE, Scale
from scalecalc.steps import MOST_ORDER, MOST_STEPS, moved
from scalecalc.table import Row, Table, WeightScaling
from scalecalc.term import Limits

ONE = Scale.one()


def rows(table: Table, name: str, kind: str, tag: str, step: int) -> list[Row]:
    parts = tuple(sorted(tag.split("+"))) if tag else ()
    return [r for r in table if (r.row, r.kind, r.tag, r.step) == (name, kind, parts, step)]


def size(table: Table, name: str, kind: str, tag: str, step: int) -> set[Scale]:
    (row,) = rows(table, name, kind, tag, step)
    return set(row.terms)


def order(found: Derivation, feature: str, tag: str) -> set[Scale]:
    """Leading sizes of one order of a feature after the last step, listed in the table or not."""
    assert found.later is not None
    value = found.later.updated[found.model.program.features[feature]]
    assert value is not None
    return set(FREE.leading(value.only(lambda t: t.tag == tuple(sorted(tag.split("+")))).sizes()))


def gradient(found: Derivation, weight: str, tag: str = "") -> tuple[Scale, ...]:
    """Leading sizes of the part of a weight's gradient with a tag, at the last step."""
    assert found.later is not None
    program = found.model.program
    value = found.later.values[program.gradients[program.leaves("weight")[weight]]]
    assert value is not None
    return FREE.leading(value.only(lambda t: t.tag == ((tag,) if tag else ())).sizes())


@pytest.fixture
def selection(request: pytest.FixtureRequest) -> Iterator[str]:
    """A parameterization for W_B and W_C of (σ_B, σ_C, η_B, η_C); mup for the rest."""
    sigma_b, sigma_c, eta_b, eta_c = map(S, request.param)
    mup, name = find("parameterization", "mup").make, "selection in training"

    @parameterization(name, "this test")
    def chosen(weight: Weight, optimizer: str) -> WeightScaling:
        """Given sizes and rates for the selection weights."""
        if weight.role == "selection_B":
            return scaling(sigma_b, eta_b)
        return scaling(sigma_c, eta_c) if weight.role == "selection_C" else mup(weight, optimizer)

    yield name
    del _REGISTRY["parameterization"][name]


UNIT = ("N_u^-1/2", "N_u^-1/2")
TARGETS = ("N_x^1/2 N_u^-1/2", "N_x^-1/2 N_u^-1/2")


# ---------------------------------------------------------------- the signal that the readout sends back


def test_the_signal_aligns_once_the_readout_has_moved() -> None:
    """⟨dy, u⟩: N_u^(-1/2) at the first step, 1 by W_out at the second (calculus, worked example; published: G)."""
    table = derive("s6:step=fixed", optimizer="sgd", steps=2)
    for name in ("⟨dy, h⟩", "⟨dfactor·B·u, u⟩"):
        assert size(table, name, "alignment", "", 1) == {S("N_u^-1/2")}
        assert size(table, name, "alignment", "W_out", 2) == {ONE}
        (row,) = rows(table, name, "alignment", "W_out", 2)
        assert row.klass == "aligned"


def test_behind_a_norm_the_signal_never_aligns(tmp_path: Path) -> None:
    """RMSNorm with y ∝ u: ⟨dy, u⟩ is exactly zero, moved readout or not."""
    file = tmp_path / "normed.py"
    file.write_text(
        "from scalecalc.program import Program\n"
        "from scalecalc.rules.elementwise import tanh\n"
        "from scalecalc.rules.matmul import matmul\n"
        "from scalecalc.rules.norm import rmsnorm\n"
        "def normed(norm: bool = True):\n"
        "    p = Program('normed', dims=('N',), fixed={'in': 4, 'out': 2})\n"
        "    u = p.feature('u', tanh(matmul(p.weight('W_in', 'N in'), p.input('x', 'in'))))\n"
        "    c = p.feature('c', matmul(p.weight('W_c', 'out N'), u))\n"
        "    y = p.feature('y', p.weight('s', '') * u)\n"
        "    y = rmsnorm(y, 'N') if norm else y\n"
        "    p.end(p.feature('f', matmul(p.weight('W_out', 'out N'), y)))\n"
        "    return p\n"
    )
    with_norm, without = (
        interpret(resolve(f"{file}:normed", options={"norm": norm}), FREE, steps=2) for norm in ("yes", "no")
    )
    assert gradient(with_norm, "s") == gradient(with_norm, "s", "W_out") == ()
    assert gradient(without, "s", "W_out")[0] / gradient(without, "s")[0] == S("N^1/2")


# ---------------------------------------------------------------- the worked example, and the published one

# What W_B changes in y at the first step, and once the readout has moved.  G goes from N_u^(-1/2) to 1; where y is
# N_x^(1/2) at initialisation, the readout's update c ⊗ y and what it adds to dy are as much larger, too.
WORKED = {"zoh": ("1", "N_u^1/2"), "mamba": ("N_x", "N_u^1/2 N_x^3/2")}


@pytest.mark.parametrize("selection", [(*UNIT, "N_u^-1/2", "N_u^-1/2")], indirect=True)
@pytest.mark.parametrize("scheme", WORKED)
def test_rates_read_off_the_first_step_blow_up_at_the_second(selection: str, scheme: str) -> None:
    model = resolve(f"s6:step=fixed,discretization={scheme}", parameterization=selection, optimizer="sgd")
    found = interpret(model, FREE, steps=2)
    first, then = map(S, WORKED[scheme])
    for name in ("W_B", "W_C"):
        assert order(found, "y", name) == {first}
        assert order(found, "y", f"{name}+W_out") == {then}
        assert gradient(found, name, "W_out")[0] / gradient(found, name)[0] == then / first


@pytest.mark.parametrize("selection", [(*UNIT, "N_u^-1/2", "N_u^-1/2")], indirect=True)
def test_the_table_says_that_a_rate_is_too_large_from_the_second_step_on(selection: str) -> None:
    table = derive("s6:step=fixed", parameterization=selection, optimizer="sgd", steps=2)
    (row,) = rows(table, "y", "update", "W_B+W_out", 2)
    assert (row.terms, row.klass) == ((S("N_u^1/2"),), "exploding")
    assert rows(table, "y", "update", "W_B", 1)[0].klass == "learning"
    assert size(table, "W_B", "gradient", "W_out", 2) == {S("N_x^-1/2")}
    assert table.notes[0].startswith("From step 2 on exploding: ")
    assert "W_B in B (lazy at step 1), h (learning at step 1), y (learning at step 1)" in table.notes[0]


@pytest.mark.parametrize("selection", [(*UNIT, "N_u^-1", "N_u^-1")], indirect=True)
@pytest.mark.parametrize(("scheme", "size_of_y"), [("zoh", "log N_x"), ("mamba", "N_x")])
def test_adam_stays_at_the_size_of_its_first_step(selection: str, scheme: str, size_of_y: str) -> None:
    """The gradient's gain exceeds the first gradient, and the update is its sign: no new row, and no new class."""
    model = resolve(f"s6:step=fixed,discretization={scheme}", parameterization=selection, optimizer="adam")
    found = interpret(model, FREE, steps=2)
    for name in ("W_B", "W_C"):
        assert order(found, "y", name) == order(found, "y", f"{name}+W_out") == {S(size_of_y)}
        assert gradient(found, name, "W_out")[0] / gradient(found, name)[0] == S("N_u^1/2")


@pytest.mark.parametrize("selection", [(*TARGETS, "N_x N_u^-1", "N_x^-1 N_u^-1")], indirect=True)
def test_the_published_rate_of_the_long_run(selection: str) -> None:
    """η = N_x/(N_u G) with G = 1: lazy at the first step, and what is asked for once the readout has moved."""
    model = resolve("s6:step=fixed", parameterization=selection, optimizer="sgd")
    found = interpret(model, FREE, steps=2)
    for feature, weight in (("y", "W_B"), ("y", "W_C"), ("h", "W_B")):  # the norm N_x^(1/2) of x is 1 as rms
        assert order(found, feature, weight) == {S("N_u^-1/2")}
        assert order(found, feature, f"{weight}+W_out") == {ONE}


# ---------------------------------------------------------------- what stays as it is


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("parameterization", ["mup", "mfp"])
def test_a_perceptron_is_settled_at_its_first_step(optimizer: str, parameterization: str) -> None:
    table = derive("mlp", parameterization=parameterization, optimizer=optimizer, steps=3)
    assert [r for r in table if r.step > 1 and r.kind == "update"] == []
    assert table.notes == ("No class changes after step 1; sizes repeat from step 3 on.",)
    found = interpret(resolve("mlp", parameterization=parameterization, optimizer=optimizer), FREE, steps=3)
    later = found.later
    assert later is not None
    assert (later.order, later.repeated) == (MOST_ORDER, True)
    for name, i in found.model.program.features.items():
        value = later.updated[i]
        assert value is not None
        assert all(FREE.order(s, ONE) in (-1, 0) for t in value.terms if t.tag for s in [t.rms(value.labels)]), name


SHARED = """
from scalecalc.program import Program
from scalecalc.rules.elementwise import relu
from scalecalc.rules.matmul import matmul
from scalecalc.rules.reduction import rename

def shared(uses: int = 3):
    p = Program("shared", dims=("N",), fixed={"batch": 4, "in": 8, "out": 4})
    h = relu(matmul(p.weight("W_in", "N in"), p.input("x", "batch in")))
    W = p.weight("W", "N N'")
    for k in range(uses):
        h = p.feature(f"h{k}", relu(matmul(W, h)))
    p.end(p.feature("f", matmul(p.weight("W_out", "out N"), h)))
    return p
"""


def test_a_weight_shared_over_time_is_settled_too(tmp_path: Path) -> None:
    file = tmp_path / "shared.py"
    file.write_text(SHARED)
    table = derive(f"{file}:shared", parameterization="mup", optimizer="sgd", steps=2)
    assert [r for r in table if r.step > 1 and r.kind == "update"] == []
    assert size(table, "h2", "update", "W", 1) == {ONE}


# ---------------------------------------------------------------- what is listed, and what it is called


def test_more_steps_than_orders_change_nothing() -> None:
    two, three, many = (derive("s6:step=fixed", optimizer="sgd", steps=k) for k in (2, MOST_ORDER, 9))
    assert three.rows == many.rows
    assert set(two.rows) <= set(three.rows)
    assert (two.options["steps"], three.options["steps"]) == (2, 3)
    assert "Contributions of three updates together are not derived." in two.notes
    assert [r for r in derive("s6:step=fixed", optimizer="sgd") if r.step > 1] == []


def test_an_order_that_contains_an_exploding_one_is_not_listed() -> None:
    """W_in moves y by N_u^(1/2) on its own: what it does to y together with others says nothing of them."""
    table = derive("s6:step=fixed", optimizer="sgd", steps=2)
    assert rows(table, "y", "update", "W_in", 1)[0].klass == "exploding"
    assert not [r for r in table if r.row == "y" and r.step == 2 and "W_in" in r.tag]
    assert [r for r in table if r.row == "u" and r.step == 2 and "W_in" in r.tag]


@pytest.mark.parametrize("selection", [(*TARGETS, "N_x N_u^-1", "N_x^-1 N_u^-1")], indirect=True)
def test_the_class_is_that_of_the_steady_state(selection: str) -> None:
    model = resolve("s6:step=fixed", parameterization=selection, optimizer="sgd")
    classes = steady_classes(interpret(model, FREE, steps=2))
    assert classes["y", "W_B"] == classes["f", "W_B"] == ("lazy", "learning")


@pytest.mark.parametrize("selection", [(*TARGETS, "N_x N_u^-3/2", "N_x^-1 N_u^-1")], indirect=True)
def test_a_class_that_the_last_order_changes_is_unsettled(selection: str) -> None:
    model = resolve("s6:step=fixed", parameterization=selection, optimizer="sgd")
    found = interpret(model, FREE, steps=3)
    assert steady_classes(found)["f", "W_B"] == ("lazy", "unsettled")
    assert found.later is not None
    never = replace(found, later=replace(found.later, repeated=False))
    assert {then for _, then in steady_classes(never).values()} == {"unsettled"}


def test_deep_networks_say_that_the_third_order_is_left_out() -> None:
    later = interpret(resolve("mlp:depth=8", optimizer="sgd"), FREE, steps=MOST_STEPS).later
    assert later is not None
    assert later.order == 2


# ---------------------------------------------------------------- the pieces


def test_tags_have_a_length_limit() -> None:
    limits = Limits(degree=2, distinct=2, total=2)
    assert limits.join(("A",), ("B",)) == ("A", "B")
    assert limits.join(("A",), ("A",)) == ("A", "A")
    assert limits.join(("A", "B"), ("B",)) is None
    assert Limits(degree=2, distinct=2).join(("A", "B"), ("B",)) == ("A", "B", "B")


def test_each_step_is_one_more_run_at_the_moved_weights() -> None:
    """The second step's gradients are those of the program run by hand with W₀ + ΔW."""
    model = resolve("mlp", optimizer="sgd")
    found = interpret(model, FREE, steps=2)
    assert found.later is not None
    algebra = replace(found.algebra, limits=Limits(1, 1, 1))
    wanted = [model.program.gradients[i] for i in model.program.leaves("weight").values()]
    by_hand = run(model.program, algebra, moved(found.weights, found.updates, 1), wanted)
    for i in wanted:
        assert by_hand[i] == found.later.values[i]
