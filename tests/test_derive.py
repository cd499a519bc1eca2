"""Derived tables against published and hand-checked results.  Every expected exponent stands here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest

from scalecalc.derive import derive, resolve
from scalecalc.errors import InputError, UnknownName
from scalecalc.parameterization import scaling
from scalecalc.program import Weight
from scalecalc.rule import _REGISTRY, find, parameterization
from scalecalc.scale import Scale
from scalecalc.table import Table, WeightScaling

ONE, HALF = Scale.one(), Fraction(1, 2)


def S(text: str) -> Scale:
    """``"N_u^-1/2 N_x"`` or ``"log N_x"`` as a Scale."""
    out, words = ONE, text.replace("log ", "log:").split()
    for word in words:
        if word == "1":
            continue
        base, _, power = word.partition("^")
        out = out * (Scale.log(base[4:], power or 1) if base.startswith("log:") else Scale.of(base, power or 1))
    return out


def sizes(table: Table, name: str, kind: str = "init", tag: str = "") -> set[Scale]:
    return set((table[name, kind, tag] if tag else table[name, kind]).terms)


# ---------------------------------------------------------------- mlp, the control


# Per parameterization and optimizer: size of f; of the update of h2 by W_in and by W_2; of f by W_in, W_2 and W_out.
# Sizes: Everett et al. 2024, arXiv 2407.05872, table 1 (initialisation); Yang & Hu 2021, arXiv 2011.14522, and Tensor
# Programs V, app. J for the updates at one global or the tabulated rate.
MLP = {
    ("sp", "sgd"): ("1", "N^-1/2", "N^1/2", "1", "N", "N"),
    ("ntp", "sgd"): ("1", "N^-1/2", "N^-1/2", "1", "1", "1"),
    ("mfp", "sgd"): ("N^-1/2", "1", "1", "1", "1", "1"),
    ("mup", "sgd"): ("N^-1/2", "1", "1", "1", "1", "1"),
    ("sp", "adam"): ("1", "1", "N", "N^1/2", "N^3/2", "N"),
    ("ntp", "adam"): ("1", "1", "1", "N^1/2", "N^1/2", "1"),
    ("mfp", "adam"): ("N^-1/2", "1", "1", "1", "1", "1"),
    ("mup", "adam"): ("N^-1/2", "1", "1", "1", "1", "1"),
}


@pytest.mark.parametrize("case", MLP, ids="-".join)
def test_mlp_sizes_and_update_contributions(case: tuple[str, str]) -> None:
    table = derive("mlp", parameterization=case[0], optimizer=case[1])
    f, h_in, h_2, f_in, f_2, f_out = map(S, MLP[case])
    assert sizes(table, "h1") == sizes(table, "h2") == {ONE}
    assert sizes(table, "f") == {f}
    assert sizes(table, "h2", "update", "W_in") == {h_in}
    assert sizes(table, "h2", "update", "W_2") == {h_2}
    assert sizes(table, "f", "update", "W_in") == {f_in}
    assert sizes(table, "f", "update", "W_2") == {f_2}
    assert sizes(table, "f", "update", "W_out") == {f_out}


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu", "identity", "softplus", "sigmoid"])
def test_mup_is_maximal_whatever_the_activation(activation: str) -> None:
    table = derive(f"mlp:depth=4,activation={activation}", parameterization="mup", optimizer="adam")
    updates = [r for r in table if r.kind == "update" and len(r.tag) == 1]
    assert len(updates) == 4 + 3 + 2 + 1 + 5
    assert all(r.terms == (ONE,) and r.klass == "learning" for r in updates)


def test_alignment_of_every_sum_is_derived() -> None:
    """The random matrices sum incoherently at initialisation; the reason is in the row."""
    table = derive("mlp", parameterization="mup", optimizer="sgd")
    rows = [r for r in table if r.kind == "alignment"]
    assert rows
    assert all(r.terms == (S("N^-1/2"),) for r in rows)
    assert "central limit (odd in W_2)" in table["⟨W_2, relu(h1)⟩", "alignment"].why


def test_means_are_assumed_openly() -> None:
    table = derive("mlp", parameterization="mup", optimizer="sgd")
    assert any("has a mean" in a for a in table["h2", "update", "W_2"].assumptions)


# ---------------------------------------------------------------- s6


@pytest.fixture
def selection(request: pytest.FixtureRequest) -> Iterator[str]:
    """A parameterization for W_B and W_C of (σ_B, σ_C, η_B, η_C); mup for the rest."""
    sigma_b, sigma_c, eta_b, eta_c = map(S, request.param)
    mup = find("parameterization", "mup").make
    name = "selection under test"

    @parameterization(name, "this test")
    def chosen(weight: Weight, optimizer: str) -> WeightScaling:
        """Given sizes and rates for the selection weights."""
        if weight.role == "selection_B":
            return scaling(sigma_b, eta_b)
        return scaling(sigma_c, eta_c) if weight.role == "selection_C" else mup(weight, optimizer)

    yield name
    del _REGISTRY["parameterization"][name]


UNIT = ("N_u^-1/2", "N_u^-1/2")
WORKED = pytest.mark.parametrize("selection", [(*UNIT, "N_u^-1/2", "N_u^-1/2")], indirect=True)
WORKED_ADAM = pytest.mark.parametrize("selection", [(*UNIT, "N_u^-1", "N_u^-1")], indirect=True)


@WORKED
@pytest.mark.parametrize("step", ["selective", "fixed"])
def test_zero_order_hold_under_sgd(selection: str, step: str) -> None:
    """The structured transition has paid for the sum over states: no power of N_x in y, nor in its updates."""
    table = derive(f"s6:step={step}", parameterization=selection, optimizer="sgd")
    h = table["h", "init"]
    assert (h.entry, set(h.terms), h.profile) == ((ONE,), {S("N_x^-1/2")}, "N_x: n^(-1)")
    assert sizes(table, "y") == {ONE}
    for name in "BC":
        assert sizes(table, name, "gradient") == {S("N_u^-1/2 N_x^-1/2")}
        assert sizes(table, "y", "update", f"W_{name}") == {ONE}


@WORKED_ADAM
@pytest.mark.parametrize("step", ["selective", "fixed"])
def test_zero_order_hold_under_adam_has_a_logarithm(selection: str, step: str) -> None:
    table = derive(f"s6:step={step}", parameterization=selection, optimizer="adam")
    assert sizes(table, "y", "update", "W_B") == sizes(table, "y", "update", "W_C") == {S("log N_x")}


@WORKED
@pytest.mark.parametrize("scheme", ["mamba"])
def test_euler_input_under_sgd(selection: str, scheme: str) -> None:
    """The reference implementation's mix does not divide by n, so every sum over states must be paid for."""
    table = derive(f"s6:discretization={scheme}", parameterization=selection, optimizer="sgd")
    assert sizes(table, "h") == {ONE}
    assert sizes(table, "y") == {S("N_x^1/2")}
    assert sizes(table, "B", "gradient") == sizes(table, "C", "gradient") == {S("N_u^-1/2")}
    assert sizes(table, "y", "update", "W_B") == {S("N_x")}


@WORKED_ADAM
def test_euler_input_under_adam(selection: str) -> None:
    table = derive("s6:discretization=mamba", parameterization=selection, optimizer="adam")
    assert sizes(table, "y", "update", "W_B") == {S("N_x")}


# The published S6 table, first step (G = N_u^(-1/2)), zero-order hold: y; the norm of x = h per channel, as RMS · N_x^(1/2);
# what W_B and W_C change in y; what W_B changes in x.
PUBLISHED = {
    "targets": (
        ("N_x^1/2 N_u^-1/2", "N_x^-1/2 N_u^-1/2", "N_x N_u^-1/2", "N_x^-1 N_u^-1/2"),
        ("1", "N_x^1/2", "1", "1", "N_x^1/2"),
    ),
    "spectral": (
        ("N_x^1/2 N_u^-1", "N_x^1/2 N_u^-1", "N_x N_u^-1", "N_x N_u^-1"),
        ("N_x N_u^-1", "N_x^1/2 N_u^-1/2", "N_x^2 N_u^-3/2", "N_x^2 N_u^-3/2", "N_x^3/2 N_u^-1"),
    ),
}


@pytest.mark.parametrize(
    ("selection", "expected"), PUBLISHED.values(), ids=list(PUBLISHED), indirect=["selection"]
)
def test_published_first_step_sgd(selection: str, expected: tuple[str, ...]) -> None:
    table = derive("s6:step=fixed", parameterization=selection, optimizer="sgd")
    y, x, y_b, y_c, x_b = map(S, expected)
    assert sizes(table, "y") == {y}
    assert sizes(table, "h") == {x / S("N_x^1/2")}
    assert sizes(table, "y", "update", "W_B") == {y_b}
    assert sizes(table, "y", "update", "W_C") == {y_c}
    assert sizes(table, "h", "update", "W_B") == {x_b / S("N_x^1/2")}


@pytest.mark.parametrize(
    "selection", [("N_x^1/2 N_u^-1/2", "N_x^-1/2 N_u^-1/2", "N_x^1/2 N_u^-1", "N_x^-1/2 N_u^-1")], indirect=True
)
def test_published_first_step_adam(selection: str) -> None:
    """Adam's published rates hold up to a logarithm, as stated."""
    table = derive("s6:step=fixed", parameterization=selection, optimizer="adam")
    assert sizes(table, "y", "update", "W_B") == sizes(table, "y", "update", "W_C") == {S("log N_x")}


def test_the_presets_are_the_published_ones() -> None:
    table = resolve("s6", parameterization="mup_ssm", optimizer="sgd").scalings
    assert (table["W_B"].init, table["W_B"].lr) == (S("N_x^1/2 N_u^-1/2"), S("N_x N_u^-1/2"))
    assert (table["W_C"].init, table["W_C"].lr) == (S("N_x^-1/2 N_u^-1/2"), S("N_x^-1 N_u^-1/2"))
    spectral = resolve("s6", parameterization="spectral", optimizer="sgd").scalings
    assert (spectral["W_B"].init, spectral["W_B"].lr) == (S("N_x^1/2 N_u^-1"), S("N_x N_u^-1"))


def test_alignment_of_the_signal_with_the_channels() -> None:
    """G = ⟨dL/dy, u⟩ is incoherent while the readout is random (published: N_u^(-1/2) at step 0)."""
    table = derive("s6:step=fixed", parameterization="mup_ssm", optimizer="sgd")
    row = table["⟨dy, h⟩", "alignment"]
    assert row.terms == (S("N_u^-1/2"),)
    assert row.klass == "incoherent"


@WORKED_ADAM
def test_upstream_of_the_layer_an_update_meets_a_finite_fan_out(selection: str) -> None:
    """sign(du) aligns with W_Bᵀ dB, whose effective rank is one under the 1/n profile: N_u^(1/2) in y at rate 1."""
    table = derive("s6:step=fixed", parameterization=selection, optimizer="adam")
    row = table["y", "update", "W_in"]
    assert set(row.terms) == {S("N_u^1/2")}
    assert row.klass == "exploding"


@WORKED
def test_skip_adds_its_own_term_and_hides_nothing(selection: str) -> None:
    with_skip = derive("s6:skip=yes,step=fixed", parameterization=selection, optimizer="sgd")
    without = derive("s6:step=fixed", parameterization=selection, optimizer="sgd")
    assert sizes(with_skip, "y", "update", "W_B") == sizes(without, "y", "update", "W_B")
    assert sizes(with_skip, "y") == {ONE}
    assert sizes(with_skip, "y", "update", "D") == {ONE}


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("model", "more", "error", "words"),
    [
        ("s7", {}, UnknownName, "no model 's7'; did you mean 's6'"),
        ("mlp:width=3", {}, UnknownName, "no option of mlp 'width'"),
        ("mlp:depth=x", {}, InputError, "depth=x is no whole number"),
        ("mlp:depth=0", {}, InputError, "between 1 and 10000"),
        ("mlp:activation=rleu", {}, UnknownName, "did you mean 'relu'"),
        ("s6:discretization=zho", {}, UnknownName, "did you mean 'zoh'"),
        ("s6:skip=perhaps", {}, InputError, "neither yes nor no"),
        ("s6:step=lowrank", {}, InputError, "is none of selective, low_rank, fixed, mamba"),
        ("mlp", {"optimizer": "adamm"}, UnknownName, "did you mean 'adam'"),
        ("mlp", {"parameterization": "mupp"}, UnknownName, "did you mean 'mup'"),
        ("mlp", {"regime": "N_u>N_x"}, InputError, "The model's dims: N"),
        ("mlp", {"steps": 0}, InputError, "one optimizer step at least"),
        ("mlp", {"loss": "hinge"}, UnknownName, "no loss 'hinge'"),
    ],
)
def test_bad_requests_say_what_to_do(model: str, more: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(")):
        derive(model, **more)  # type: ignore[arg-type]


def test_where_the_limits_do_not_commute() -> None:
    table = derive("s6")
    assert {row.label for row in table if row.commutes is False} == {f"{x}, update by W_in, step 1" for x in "BC"}
    assert {row.commutes for row in derive("mlp")} == {None}, "one dim has one limit"
    assert {row.commutes for row in derive("s6", regime="N_u>N_x")} == {None}
