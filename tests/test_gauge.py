"""Gauges: shifts that change how a parameterization is written and nothing else, derived from the optimizer's law."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache

import pytest
from cases import S
from hypothesis import given, settings
from hypothesis import strategies as st

from scalecalc.derive import derive
from scalecalc.equivalence import difference, equivalent
from scalecalc.errors import InputError
from scalecalc.gauge import at_point, chosen, known_gradients, own_shifts, parse_gauge, plain, values_of
from scalecalc.model import Model, resolve
from scalecalc.parameterization import Parameterization
from scalecalc.rule import find
from scalecalc.scale import Regime, Scale
from scalecalc.solve import solve
from scalecalc.symmetry import Shift
from scalecalc.value import Algebra

ONE, N = Scale.one(), Scale.of("N")
FREE = Regime()
Q = Fraction


@cache
def mlp(optimizer: str = "adam", parameterization: str = "mup") -> Model:
    return resolve("mlp", parameterization=parameterization, optimizer=optimizer)


@cache
def own(optimizer: str = "adam") -> dict[str, Shift]:
    return own_shifts(mlp(optimizer), known_gradients(mlp(optimizer), FREE), FREE)


# ---------------------------------------------------------------------- what goes along, by the law


# Powers of θ of the rate, the decay and ε, for m → mθ.  Tensor Programs V, lemma J.1: SGD η/θ², Adam η/θ and ε θ.
ALONG = {
    "sgd": (-2, None, None), "momentum": (-2, None, None), "adam": (-1, None, 1), "sign": (-1, 1, None),
    "adamw": (-1, 1, 1),  # decoupled: ηλ stays
    "adam_l2": (-1, 2, 1),  # coupled: λw stays beside the gradient
    "sgd:decay=coupled": (-2, 2, None),
    "momentum:decay=decoupled": (-2, 2, None),
    "nesterov:decay=independent": (-2, None, None),
    "adamw_independent": (-1, None, 1),  # λ alone stays
    "adafactor": (0, 0, -1),  # the step is relative to the weight, and so is ε₂, its least size
    "muon": (-1, 1, None), "shampoo": (-1, 1, None),
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ALONG)
def test_what_goes_along_by_the_law_of_the_optimizer(optimizer: str) -> None:
    rate, decay, epsilon = ALONG[optimizer]
    wanted = {"multiplier": 1, "init": -1, "lr": rate, "weight_decay": decay or 0, "epsilon": epsilon or 0}
    for weight, shift in own(optimizer).items():
        assert dict(shift.powers) == {f"{q} {weight}": e for q, e in wanted.items() if e}


def test_a_fixed_epsilon_leaves_no_gauge() -> None:
    """With ε of order one it matters how large a gradient is, and so how it is written: no shift leaves training alone."""
    model = mlp("adam_eps")
    assert own_shifts(model, known_gradients(model, FREE), FREE) == {}
    assert not equivalent("mlp", "mup", "mup_table8", optimizer="adam_eps")
    with pytest.raises(InputError, match="no shift of its multiplier, init and rate leaves training by this optimizer alone"):
        solve("mlp", optimizer="adam_eps", gauge="init = 1", steps=1)


def test_clipping_by_the_global_norm_leaves_no_gauge_to_one_weight() -> None:
    """How one weight's gradient is written changes the norm, and with it every other weight's step."""
    assert own("sgd:clip=yes") == {}
    with pytest.raises(InputError, match="no shift of its multiplier, init and rate leaves training by this optimizer alone"):
        solve("mlp", optimizer="sgd:clip=yes", gauge="init = 1", steps=1)


def test_formal_gradients_are_taken_at_a_point() -> None:
    gradients = known_gradients(mlp(), FREE)
    formal = {w: Algebra().scale(v, Scale.of("q"), "times q") for w, v in gradients.items()}
    found = {w: {t.size for t in v.terms} for w, v in at_point(formal, {"q": N**-1}).items()}
    assert found == {w: {t.size / N for t in v.terms} for w, v in gradients.items()}


# ---------------------------------------------------------------------- the algebra of shifts

powers = st.fractions(min_value=-2, max_value=2, max_denominator=4)
thetas = st.fixed_dictionaries({w: powers.map(lambda e: Scale.of("N", e)) for w in ("W_in", "W_2", "W_out")})


def shifted(values: dict[str, Scale], theta: dict[str, Scale], optimizer: str) -> dict[str, Scale]:
    out = dict(values)
    for weight, own_theta in theta.items():
        out = own(optimizer)[weight].moved(out, own_theta)
    return out


@given(thetas, thetas, st.sampled_from(["sgd", "adam"]))
@settings(max_examples=60)
def test_shifts_compose(a: dict[str, Scale], b: dict[str, Scale], optimizer: str) -> None:
    start = values_of(mlp(optimizer).scalings, mlp(optimizer).program)
    both = {w: a[w] * b[w] for w in a}
    assert shifted(shifted(start, a, optimizer), b, optimizer) == shifted(start, both, optimizer)
    assert shifted(shifted(start, a, optimizer), {w: t**-1 for w, t in a.items()}, optimizer) == start
    assert plain(shifted(start, a, optimizer), own(optimizer)) == plain(start, own(optimizer))


@given(thetas, st.sampled_from(["sgd", "adam"]), st.sampled_from(["mup", "sp"]))
@settings(max_examples=6)
def test_a_shift_changes_no_row_of_the_table(theta: dict[str, Scale], optimizer: str, name: str) -> None:
    """Features, their updates in two steps, and the effective weights m·w: all sizes and all classes stay as they are."""
    model = mlp(optimizer, name)
    values = shifted(values_of(model.scalings, model.program), theta, optimizer)
    moved = dict(model.scalings)
    for unknown, value in values.items():
        quantity, weight = unknown.split(maxsplit=1)
        moved[weight] = replace(moved[weight], **{quantity: value})
    other = Parameterization("shifted", optimizer, ("N",), moved)
    tables = [derive("mlp", parameterization=p, optimizer=optimizer, steps=2) for p in (name, other)]
    a, b = ({row.key: (row.terms, row.klass) for row in t if row.kind != "gradient"} for t in tables)
    assert a == b
    assert equivalent("mlp", name, other, optimizer=optimizer)


NAMES = ["mup", "mup_table9", "mfp", "sp", "ntp"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_equivalence_is_an_equivalence_relation(optimizer: str) -> None:
    related = {(a, b): bool(equivalent("mlp", a, b, optimizer=optimizer)) for a in NAMES for b in NAMES}
    assert all(related[a, a] for a in NAMES)
    assert all(related[a, b] == related[b, a] for a in NAMES for b in NAMES)
    assert all(related[a, c] for a in NAMES for b in NAMES for c in NAMES if related[a, b] and related[b, c])
    assert {b for b in NAMES if related["mup", b]} == {"mup", "mup_table9", "mfp"}
    assert [b for b in NAMES if related["sp", b]] == ["sp"]


# ---------------------------------------------------------------------- published tables

TP5 = {  # Tensor Programs V: init variance, multiplier, SGD rate, Adam rate; order input, hidden, output; fi = fo = N
    "mup": ("1, N^-1, N^-2", "1, 1, 1", "N, 1, N^-1", "1, N^-1, N^-1"),
    "mup_table8": ("1, N^-1, 1", "1, 1, N^-1", "N, 1, N", "1, N^-1, 1"),
    "mup_table9": ("N^-1, N^-1, N^-1", "N^1/2, 1, N^-1/2", "1, 1, 1", "N^-1/2, N^-1, N^-1/2"),
}


@pytest.mark.parametrize("name", TP5)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_tables_of_tensor_programs_v_are_one_solution_in_three_gauges(name: str, optimizer: str) -> None:
    """The solver, asked for a table's multipliers, gives that table's variances and rates; and says which it is."""
    variance, multiplier, sgd, adam = ([S(size) for size in text.split(", ")] for text in TP5[name])
    found = solve("mlp", optimizer=optimizer, gauge=f"like {name}")
    weights = ("W_in", "W_2", "W_out")
    assert [found[w].init ** 2 for w in weights] == variance
    assert [found[w].multiplier for w in weights] == multiplier
    assert [found[w].lr for w in weights] == (sgd if optimizer == "sgd" else adam)
    same = [m.name for m in found.matches if m.found.exact]
    assert name in same
    assert {m.name for m in found.matches if not m.found.exact} >= set(TP5) - {name}
    for other in TP5:
        assert equivalent("mlp", name, other, optimizer=optimizer)


def test_unit_variance_is_mean_field_and_a_rate_of_one_is_one_rate_for_all() -> None:
    assert solve("mlp", optimizer="sgd", gauge="init = 1").matches[0].name == "mfp"
    found = solve("mlp", optimizer="sgd", gauge="rate = 1")
    assert {s.lr for s in found.scalings.values()} == {ONE}
    assert found.matches[0].name == "mup_table9"


def test_b_against_c_is_a_gauge_of_the_s6_layer() -> None:
    """published.md: (B, C) → (κB, C/κ) is a freedom; its table fixes it by ‖x‖₂ = Θ(√N_x), h = 1 in rms."""
    a = solve("s6:step=fixed", optimizer="sgd", steps=1)
    b = solve("s6:step=fixed", optimizer="sgd", steps=1, gauge="h = 1")
    assert a["W_B"].init is S("N_u^-1/2")
    assert b["W_B"].init is S("N_x^1/2 N_u^-1/2")
    found = equivalent("s6:step=fixed", a, b, steps=1)
    assert found
    assert [theta for _, theta in found.shared] == [S("N_x^1/2")]
    assert not found.own


def test_kept_inits_are_rewritten_too() -> None:
    """Standard parameterization with its rates solved for, in a unit-variance gauge: NTK's inits and multipliers."""
    found, ntp = solve("mlp", parameterization="sp", optimizer="sgd", gauge="init = 1"), mlp("sgd", "ntp").scalings
    written = [{w: (s.init, s.multiplier) for w, s in scalings.items()} for scalings in (found.scalings, ntp)]
    assert written[0] == written[1]
    assert equivalent("mlp", found, solve("mlp", parameterization="sp", optimizer="sgd"))


# ---------------------------------------------------------------------- what is typed


def test_the_last_that_names_a_weight_holds() -> None:
    model = mlp("sgd")
    choices = parse_gauge("init = 1, multiplier of W_o* = N^(-1/2), rate of W_in = N^2", model)
    values = chosen(values_of(model.scalings, model.program), choices, own("sgd"))
    assert values["init W_2"] is ONE
    assert values["multiplier W_out"] is N ** Q(-1, 2)
    assert values["lr W_in"] is N**2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not understood; write 'multiplier = 1'"),
        ("init", "is not understood; write"),
        ("init = 2", "'2' is no size in N; write 1"),
        ("init = 1,", "is not understood"),
        ("multiplier of W_9 = 1", "no weight of mlp 'W_9'; did you mean 'W_2'"),
        ("like mup_table7", "no parameterization 'mup_table7'; did you mean 'mup_table"),
        ("like", "is not understood"),
        ("foo = 1", "no feature of mlp 'foo'"),
        ("update h1 = 1", "a gauge is chosen by initial sizes, not by updates"),
        ("h1 = __import__", "is no size in N"),
        ("x" * 5000, "is not understood"),
    ],
)
def test_what_is_no_gauge_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_gauge(text, mlp())
    assert message in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_rate_that_no_gauge_changes() -> None:
    model = mlp("adafactor")
    shifts = own_shifts(model, known_gradients(model, FREE), FREE)
    with pytest.raises(InputError, match="it is the same in every gauge"):
        chosen(values_of(model.scalings, model.program), parse_gauge("rate = 1", model), shifts)


def test_a_users_own_parameterization_is_recognised(tmp_path: object) -> None:
    """What stands in the registry is compared, whoever put it there; a rule that fails on this model is passed over."""
    from scalecalc.rule import _REGISTRY, parameterization
    from scalecalc.table import WeightScaling as W

    assert find("parameterization", "mup")
    try:

        @parameterization("mine", "a user")
        def mine(weight: object, optimizer: str) -> W:
            """Mine."""
            scales = {"W_in": (ONE, ONE), "W_2": (N**2, N ** Q(-5, 2)), "W_out": (ONE, N**-1)}[weight.name]  # type: ignore[attr-defined]
            return W(scales[1], scales[0], N**-3 if scales[0] is not ONE else N**-1 if weight.name == "W_out" else ONE)  # type: ignore[attr-defined]

        @parameterization("broken", "a user")
        def broken(weight: object, optimizer: str) -> W:
            """Fails."""
            raise KeyError("only for my model")

        matches = {m.name: m.found for m in solve("mlp", optimizer="adam").matches}
    finally:
        for name in ("mine", "broken"):
            _REGISTRY["parameterization"].pop(name, None)
    assert matches["mine"]
    assert dict(matches["mine"].own) == {"W_2": N**2}
    assert "broken" not in matches


def test_without_shifts_all_that_differs_is_listed_however_much_it_is() -> None:
    """Nothing explains any of it.  (Every set of quantities was tried, 2^30 of them.)"""
    weights = [f"W_{k}" for k in range(30)]
    first, second = ({f"init {w}": size for w in weights} for size in (ONE, N))
    found = difference(first, second, weights, {}, (), FREE)
    assert list(found.differs) == weights
    assert not found.shared
