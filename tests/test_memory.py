"""Sequences that grow: what a decay is known to be, and sums over T steps as derived and in numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import sympy as sp

import scalecalc as sc
from scalecalc import interpreter, rulebook
from scalecalc.errors import InputError, ProgramError, UnsupportedScale
from scalecalc.measure.interpret import Setting, draw_leaves, rms, run
from scalecalc.memory import Entries, between, entries, exact, image
from scalecalc.model import resolve
from scalecalc.program import Program, Tensor, growing
from scalecalc.scale import FREE, Scale
from scalecalc.value import Algebra

rulebook.load()

from scalecalc.asymptotics import U, V, n  # noqa: E402
from scalecalc.rules.complex import conjugate, real  # noqa: E402
from scalecalc.rules.discretization import discretize  # noqa: E402
from scalecalc.rules.elementwise import relu, sigmoid, tanh  # noqa: E402
from scalecalc.rules.recurrence import recurrence  # noqa: E402
from scalecalc.rules.reduction import dot, total  # noqa: E402

HALF, SLOW = Fraction(1, 2), Scale.of("T", -1)
STATES = 48  # over which rare angles are averaged
KINDS = ("constant", "none", "near", "turning", "ring", "gated")


def decay_of(p: Program, kind: str) -> Tensor:
    """A decay that forgets in a few steps, never, or in T steps; the same while it turns, by one angle or many; random."""
    if kind in ("constant", "none"):
        return p.index("a", "", sp.Rational(1, 2) if kind == "constant" else sp.Integer(1))
    if kind == "gated":
        return sigmoid(p.input("gate", "batch T state"))
    modulus, _ = discretize("zoh", p.index("step", "", sp.Integer(1), scale=SLOW), p.index("A", "state", -(1 + U)))
    if kind == "near":
        return modulus
    return modulus * p.index("turn", "state", sp.exp(2 * sp.pi * sp.I * (V if kind == "ring" else sp.Rational(1, 7))))


def sums(kind: str, drive: str) -> tuple[Program, dict[str, int]]:
    """States of a recurrence driven by x, drawn anew at each step, or by relu x, which has a mean; and sums over time."""
    p = Program("sums", dims=("T",), fixed={"batch": 4, "state": STATES})
    x, c = p.input("x", "batch T"), p.input("c", "batch T")
    v, a = tanh(x) if drive == "odd" else relu(x), decay_of(p, kind)
    h = recurrence(a, v + total(p.index("zero", "state", sp.Integer(0)), ["state"]), "T")
    back = recurrence(conjugate(a), c, "T", reverse=True)
    found = {
        "h": h,
        "Σ h": total(real(h), ["T"]),
        "Σ h x": dot(real(h), x, "T"),
        "Σ h c": dot(real(h), c, "T"),
        "Σ g h̄": dot(back, conjugate(h), "T"),  # the gradient of the decay
        "Σ g relu x": dot(real(back), relu(x), "T"),
        "twice": recurrence(a, h, "T"),
    }
    return p, {name: tensor.index for name, tensor in found.items()}


def derived(p: Program, where: dict[str, int]) -> dict[str, Fraction]:
    values = interpreter.run(p, Algebra(), {}, list(where.values()))
    out: dict[str, Fraction] = {}
    for name, i in where.items():
        value = values[i]
        assert value is not None
        (size,) = FREE.leading(t.rms(value.labels) for t in value.terms)
        out[name] = size.power("T")
    return out


def measured(p: Program, where: dict[str, int], widths: tuple[int, int], seeds: int) -> dict[str, float]:
    logs: list[dict[str, float]] = []
    for T in widths:
        leaves = draw_leaves(p, Setting({"T": T}, seeds, T), {}, [True] * len(p.ops))
        values = run(p, leaves, list(where.values()))
        logs.append({name: math.log(float(rms(values[i]).square().mean().sqrt())) for name, i in where.items()})
    return {name: (logs[1][name] - logs[0][name]) / math.log(widths[1] / widths[0]) for name in where}


@pytest.mark.parametrize("drive", ["odd", "alike"])
@pytest.mark.parametrize("kind", KINDS)
def test_sums_over_a_growing_sequence_are_as_derived(kind: str, drive: str) -> None:
    p, where = sums(kind, drive)
    wanted, found = derived(p, where), measured(p, where, (64, 512), 12)
    for name, power in wanted.items():
        assert abs(found[name] - float(power)) < 0.25, (name, power, found[name])


@pytest.mark.parametrize(("activation", "power"), [("tanh", -HALF), ("gelu", 0)])
def test_states_whose_timescale_is_the_sequence_sum_all_of_it(activation: str, power: Fraction) -> None:
    """HiPPO's timescale: the input factor is Δ = 1/T, the sum over T steps T^(1/2), or T where the input has a mean."""
    options = {"grow": "time", "step": "time^(-1)", "activation": activation}
    table = sc.derive("s4d", fix={"N_u": 8, "N_x": 4}, optimizer="sgd", **options)
    assert table["h", "init"].terms == (Scale.of("time", power),)


def test_the_normalisation_of_a_ring_near_the_unit_circle_keeps_its_states() -> None:
    table = sc.derive("lru:grow=time,gap=time^(-1),normalised=yes", fix={"N_u": 8, "N_x": 4}, optimizer="sgd")
    assert table["h", "init"].terms == (Scale.one(),)
    assert any("root-mean-square over the angles" in text for text in table["h", "init"].assumptions)


def test_without_it_they_are_a_sum_over_the_sequence() -> None:
    """And gelu″ of an argument of T^(1/2), times the square of a change of T^(3/2): measured 2.5 ± 0.2; 2 was derived."""
    table = sc.derive("lru:grow=time,gap=time^(-1),normalised=no", fix={"N_u": 8, "N_x": 4}, optimizer="sgd")
    assert table["h", "init"].terms == (Scale.of("time", HALF),)
    assert table["f", "update", "C+C"].terms == (Scale.of("time", Fraction(5, 2)),)


@pytest.mark.slow
def test_long_memories_are_measured() -> None:
    model = "s4d:grow=time,step=time^(-1),activation=tanh"
    table = sc.verify(model, fix={"N_u": 4, "N_x": 2}, optimizer="sgd", dims={"time": [16, 64, 256]}, budget=4)
    counts = table.counts()
    assert not counts.get("disagrees")
    assert counts["agrees"] >= 5
    assert table["h", "init"].verdict == "agrees"


# ---------------------------------------------------------------------- what a decay is known to be


def known(p: Program, x: Tensor) -> Entries:
    found = entries(p, x.index)
    assert found is not None
    return found


def test_bounds_follow_what_a_decay_is_made_of() -> None:
    p = Program("demo", dims=("N", "T"), fixed={"batch": 2})
    x = p.input("x", "batch N")
    assert known(p, sigmoid(x)).gap == Scale.one()
    assert known(p, tanh(sigmoid(x))).most == pytest.approx(math.tanh(1))
    assert known(p, sigmoid(x) * p.index("two", "", sp.Integer(2))).gap is None  # it may exceed one
    assert known(p, x).most == math.inf
    modulus, factor = discretize("bilinear", p.index("step", "", sp.Integer(3), scale=SLOW), p.index("A", "N", -(1 + U)))
    assert known(p, modulus) == Entries(1.0, 1.0, gap=SLOW)
    assert known(p, factor).most == math.inf  # nobody asks


def test_the_gap_of_a_product_is_the_larger_one() -> None:
    near, never = Entries(1.0, 1.0, gap=Scale.of("T", -1)), Entries(1.0, 1.0)
    half = between([0.5])
    assert (near * never).gap == SLOW
    assert (near * half).gap == Scale.one()
    assert (never * never).gap is None
    assert (exact(sp.exp(2 * sp.pi * sp.I * V)) * near).turn == "scattered"
    assert exact(sp.exp(sp.I * n)).turn == "even"


def test_a_function_of_what_is_small_is_its_first_order() -> None:
    small = Entries(0.5, 1.0, scale=SLOW)
    assert image(lambda x: math.exp(-x), small).gap == SLOW
    assert image(lambda x: math.exp(x), small).gap is None  # above one
    assert image(math.sin, small).scale == SLOW
    assert image(math.log, small) is None


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("s4d:grow=time,step=time^(-1)", "do not separate|remember for ever shorter"),  # states of all timescales
        ("lru:grow=time,gap=time^(-1/2)", "neither a fixed number of them nor all"),
        ("lti:grow=time,transition=-(n+1)/8,discretization=euler", "may exceed one"),
    ],
)
def test_what_has_no_law_is_said(model: str, message: str) -> None:
    with pytest.raises(UnsupportedScale, match=message):
        sc.derive(model)


def test_a_decay_of_which_nothing_is_known_is_refused() -> None:
    p = Program("demo", dims=("T",), fixed={"batch": 2})
    x = p.input("x", "batch T")
    with pytest.raises(UnsupportedScale, match="explodes"):
        recurrence(x, x, "T")


# ---------------------------------------------------------------------- axes that are declared as growing


def test_an_axis_of_fixed_size_is_declared_as_growing() -> None:
    p = resolve("s6:grow=time+batch").program
    assert p.dims == ("N_u", "N_x", "batch", "time") or p.dims == ("N_u", "N_x", "time", "batch")
    assert "time" not in p.fixed
    assert "time" in resolve("s6").program.fixed  # and not for good


def test_an_axis_that_there_is_not_cannot_grow() -> None:
    with pytest.raises(InputError, match="declares no axis 'tme' of fixed size"):
        resolve("s6:grow=tme")
    with pytest.raises(InputError, match="options of its own"):
        resolve("moe:grow=E")


@pytest.mark.parametrize("model", ["transformer:grow=t", "transformer:grow=s"])
def test_a_mask_is_of_fixed_size(model: str) -> None:
    with pytest.raises(ProgramError, match="size says which of its places are kept"):
        sc.derive(model)


@pytest.mark.slow
def test_a_batch_that_grows_is_measured() -> None:
    dims = {"batch": [8, 32, 128]}
    table = sc.verify("mlp:grow=batch", fix={"N": 16}, optimizer="sgd", dims=dims, budget=3)
    assert not table.counts().get("disagrees")
    row = table["W_out", "gradient"]
    assert row.terms == (Scale.of("batch", HALF),)
    assert abs(row.measured["batch"].slope - 0.5) < 0.2


@pytest.mark.parametrize(
    ("model", "message"),
    [("gru", "rglru gates"), ("lstm", "rglru gates"), ("dense_ssm", "lti, s4d and lru"), ("deltanet", "linear_attention")],
)
def test_recurrences_that_are_written_out_say_why_their_length_does_not_grow(model: str, message: str) -> None:
    with pytest.raises(ProgramError, match=f"{model} is written out over a fixed number of steps, and time grows.*{message}"):
        sc.derive(f"{model}:grow=time")


def test_a_convolution_along_a_sequence_that_grows_is_the_one_along_a_fixed_one() -> None:
    """Tap by tap, of delayed sequences: every row that has no time in it is the same."""
    options = {"optimizer": "adam", "fix": {"N_u": 8}, "step": "low_rank", "residual": "no"}
    fixed, grown = sc.derive("mamba", **options), sc.derive("mamba", grow="time", **options)
    for name in ("u", "v", "c", "Delta", "h", "y", "o", "f"):
        assert fixed[name, "init"].terms == grown[name, "init"].terms
    assert grown["K", "gradient"].terms == tuple(t * Scale.of("time", HALF) for t in fixed["K", "gradient"].terms)


def test_a_program_that_needs_the_size_of_an_axis_that_grows_is_refused() -> None:
    with growing(["in"]):
        p = Program("demo", dims=("N",), fixed={"in": 4})
    with pytest.raises(ProgramError, match="which grows here"):
        p.size("in")
