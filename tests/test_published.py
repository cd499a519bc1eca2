"""Published scalings: derived under the parameterization that they belong to, and measured where that says something new.

Sources: "On feature learning in structured state space models" (NeurIPS 2024), below: the SSM paper, its table of the S6
layer reconstructed from what it states; Everett et al. 2024 (arXiv 2407.05872), tables 1 and 2, full alignment.

What is derived and measured here contradicts them in three places:

- The SSM paper scales the selection weights and leaves the others at mup.  Under that y moves by N_u^(1/2) with a weight
  upstream of the layer, in the first step (``test_upstream_of_the_layer_the_published_scaling_explodes``).
- Its rates for W_B and W_C with N_u^(-1/2), G = |⟨dL/dy, u⟩| at initialisation, are too large by N_u^(1/2) from the second
  step on, when the readout has moved (``test_the_rate_at_initialisation_explodes_at_the_second_step``); 1/N_u is not.
- Everett et al. take the readout to be incoherent with what an update changes in its input (their ω = 1/2).  It is
  coherent, since that update came back through the readout (ω = 1): at the rates that they call the largest stable ones
  the output of SP and NTK moves by N^(1/2) with every weight before the readout
  (``test_the_readout_is_coherent_with_the_updates_before_it``).  Hidden layers agree, and so do muP and MFP.

Two more places are no contradiction once what the source assumes is said:

- G = 1 in the long run holds where one step moves the readout by entries of the size N_u^(-1/2) G_0, G_0 being G at the
  first step over that size: G is η_out N_u |y|, whatever η_out is.  Under Euler's method with y = N_x^(-1/2) that is
  N_x^(-1/2) at mup's rate 1/N_u and 1 at N_x^(1/2)/N_u; at the largest stable rate, N_x/N_u, it is N_x^(1/2), and the output
  then learns, which at the smaller ones it does not (``test_the_signal_of_the_long_run_is_as_large_as_the_readout_s_rate``).
- mup's readout of entries 1/N_u is needed where updates of the layer are coherent with it.  With a fixed step y is one scalar
  times u, and those of W_B and W_C are not: entries N_u^(-1/2) are stable, f = Θ(1) from the start.  With a selective step
  f explodes with W_Delta there (``test_a_fixed_step_allows_a_readout_by_its_fan_in_alone``).

What is expected stands here in exponents; derived sizes are compared exactly, measured ones as in ``test_survived``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from cases import S
from test_survived import ONE, agrees, expect, misses, path, s6, slopes, tabulated

from scalecalc.derive import Model, interpret, resolve, table_of
from scalecalc.parameterization import scaling
from scalecalc.scale import FREE, Scale
from scalecalc.solve import solve
from scalecalc.table import Row

HALF = Fraction(1, 2)
U, X = Scale.of("N_u"), Scale.of("N_x")

# ---------------------------------------------------------------------- the S6 layer of the SSM paper

# Sums of the p-th powers of the input factors g_n: (1 − e^(−n))/n under zero-order hold, flat under Euler's method.
SUMS = {"zoh": {1: Scale.log("N_x"), 2: ONE, 4: ONE}, "mamba": {1: X, 2: X, 4: X}, "euler": {1: X, 2: X, 4: X}}
OPTIONS = {"zoh": "", "mamba": ",discretization=mamba", "euler": ",discretization=euler,transition=-1/2"}
SIGNAL = U**-HALF  # G while the readout is random

# (σ_B, σ_C, η_B, η_C) per optimizer; G = N_u^(-1/2) put in.
TARGETS = ("N_x^1/2 N_u^-1/2", "N_x^-1/2 N_u^-1/2")
SETTINGS = {
    "targets, sgd": (*TARGETS, "N_x N_u^-1/2", "N_x^-1 N_u^-1/2"),
    "targets, adam": (*TARGETS, "N_x^1/2 N_u^-1", "N_x^-1/2 N_u^-1"),
    "readout-like, sgd": ("N_u^-1/2", "N_x^-1 N_u^-1/2", "N_x N_u^-1/2", "N_x^-1 N_u^-1/2"),
    "readout-like, adam": ("N_u^-1/2", "N_x^-1 N_u^-1/2", "N_u^-1", "N_x^-1 N_u^-1"),
    "spectral, sgd": ("N_x^1/2 N_u^-1", "N_x^1/2 N_u^-1", "N_x N_u^-1", "N_x N_u^-1"),
    "spectral, adam": ("N_x^1/2 N_u^-1", "N_x^1/2 N_u^-1", "N_u^-1", "N_u^-1"),
}


def published(scheme: str, optimizer: str, setting: Sequence[str]) -> dict[tuple[str, ...], Scale]:
    """The paper's formulas; the norm ‖x‖₂ of a channel's states is N_x^(1/2) times the rms of h."""
    sigma_b, sigma_c, rate_b, rate_c = map(S, setting)
    b, c, sums = sigma_b * U**HALF, sigma_c * U**HALF, SUMS[scheme]
    out = {("h", "init"): b * sums[2] ** HALF / X**HALF, ("y", "init"): b * c * sums[2] ** HALF}
    if optimizer == "sgd":
        out["h", "update", "W_B"] = rate_b * U * c * sums[4] ** HALF * SIGNAL / X**HALF
        out["y", "update", "W_B"] = rate_b * U * c * c * sums[2] * SIGNAL
        out["y", "update", "W_C"] = rate_c * U * b * b * sums[2] * SIGNAL
    else:
        out["y", "update", "W_B"] = rate_b * U * c * sums[1]
        out["y", "update", "W_C"] = rate_c * U * b * sums[1]
    return out


@pytest.mark.parametrize("scheme", SUMS)
@pytest.mark.parametrize("name", SETTINGS)
def test_the_formulas_of_the_ssm_paper(scheme: str, name: str) -> None:
    """‖x‖₂ = B S₂^(1/2), y = B C S₂^(1/2); Δx = η N_u C S₄^(1/2) G, Δy = η_B N_u C² S₂ G, η_C N_u B² S₂ G; Adam: S₁."""
    optimizer = name.split()[1]
    table = tabulated(s6("step=fixed" + OPTIONS[scheme], optimizer, SETTINGS[name]))
    wanted = published(scheme, optimizer, SETTINGS[name])
    assert {key: set(table[key].terms) for key in wanted} == {key: {size} for key, size in wanted.items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("name", "setting"), [("mup_ssm", "targets"), ("spectral", "spectral")])
def test_the_registered_parameterizations_are_these(name: str, setting: str, optimizer: str) -> None:
    """mup_ssm and spectral give W_B and W_C the very scales of the table."""
    scalings = resolve("s6", parameterization=name, optimizer=optimizer).scalings
    b, c, rate_b, rate_c = map(S, SETTINGS[f"{setting}, {optimizer}"])
    assert [scalings[w].init for w in ("W_B", "W_C")] == [b, c]
    assert [scalings[w].lr for w in ("W_B", "W_C")] == [rate_b, rate_c]


# Exponents of N_x of ‖x‖₂, y, ‖Δx‖₂, Δy by W_B and by W_C, SGD, one step.
# SSM paper, measured by hand at N_x = 32 … 256: .51, −.01, .49, .00, .00 and .51, .99, 1.50, 2.00, 2.00.
STATES = {"targets": ("1/2", "0", "1/2", "0", "0"), "spectral": ("1/2", "1", "3/2", "2", "2")}
# Those of N_u: targets keep all of them; what is spectral in B and C is too small by N_u^(1/2) each.
CHANNELS = {"targets": ("0", "0", "0", "0", "0"), "spectral": ("-1/2", "-1", "-1", "-3/2", "-3/2")}
NAMES = [("h", "init"), ("y", "init"), ("h", "update", "W_B"), ("y", "update", "W_B"), ("y", "update", "W_C")]


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
def test_the_first_step_under_zero_order_hold(name: str) -> None:
    """The paper's scaling reaches its targets; the spectral heuristic explodes in N_x and is lazy in N_u."""
    parameterization = {"targets": "mup_ssm", "spectral": "spectral"}[name]
    model = s6("step=fixed", "sgd", parameterization=parameterization)
    rows = [tabulated(model)[key] for key in NAMES]
    for row, of_x, of_u in zip(rows, STATES[name], CHANNELS[name], strict=True):
        norm = HALF if row.row == "h" else 0
        assert row.theta is not None
        assert (row.theta.power("N_x") + norm, row.theta.power("N_u")) == (Fraction(of_x), Fraction(of_u)), row.label
    agrees(model, rows, path("N_x", 32, 256, N_u=32))
    agrees(model, rows, path("N_u", 32, 256, N_x=16))


READOUT_LIKE = """
[W_B]
init = {N_u = "-1/2"}
lr = {N_x = "1", N_u = "-1/2"}
[W_C]
init = {N_x = "-1", N_u = "-1/2"}
lr = {N_x = "-1", N_u = "-1/2"}
[W_in]
lr = {N_u = "1"}
[W_out]
init = {N_u = "-1"}
lr = {N_u = "-1"}
"""


@pytest.mark.slow
def test_the_readout_like_scaling_under_the_reference_implementation(tmp_path: Path) -> None:
    """B flat along the states, C like 1/N_x: Δx and Δy are 1 and y starts at N_x^(-1/2), the price of both."""
    (file := tmp_path / "readout_like.toml").write_text(READOUT_LIKE)
    model = s6("step=fixed,discretization=mamba", "sgd", parameterization=str(file))
    sizes = dict(zip(NAMES, ("1", "N_x^-1/2", "1", "1", "1"), strict=True))
    agrees(model, expect(tabulated(model), sizes), path("N_x", 32, 256, N_u=32))


@pytest.mark.slow
def test_the_logarithm_under_adam() -> None:
    """Adam's published rates hold up to log N_x, as stated; sign descent measured by hand: +.22."""
    model = s6("step=fixed", "adam", parameterization="mup_ssm")
    rows = expect(tabulated(model), {("y", "update", "W_B"): "log N_x", ("y", "update", "W_C"): "log N_x"})
    widths = path("N_x", 32, 256, N_u=32)
    agrees(model, rows, widths)
    for slope, error, _ in slopes(model, rows, widths, 0.02):
        assert 0.12 < slope - 3 * error < slope + 3 * error < 0.35


# ---------------------------------------------------------------------- where it goes wrong


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_upstream_of_the_layer_the_published_scaling_explodes(optimizer: str) -> None:
    """All selection weights as published, the others at mup: u moves by 1, and y by N_u^(1/2), with W_in."""
    model = s6("step=fixed", optimizer, parameterization="mup_ssm")
    rows = expect(tabulated(model), {("u", "update", "W_in"): "1", ("y", "update", "W_in"): "N_u^1/2"})
    assert rows[1].klass == "exploding"
    agrees(model, rows, path("N_u", 32, 256, N_x=16))
    assert len(misses(model, [Row("y", "update", 1, (ONE,), tag=("W_in",))], path("N_u", 32, 256, N_x=16))) == 1


@pytest.mark.slow
def test_the_rate_at_initialisation_explodes_at_the_second_step() -> None:
    """Rates with N_u^(-1/2): y moves by N_u^(1/2) once the readout has moved, too; with 1/N_u by 1."""
    for rates, later in (("N_u^-1/2", "N_u^1/2"), ("N_u^-1", "1")):
        model = s6("step=fixed", "sgd", (*TARGETS, f"N_x {rates}", f"N_x^-1 {rates}"))
        found = interpret(model, FREE, steps=2)
        assert found.later is not None
        value = found.later.updated[model.program.features["y"]]
        assert value is not None
        rows = [Row("y", "update", 2, (S(later),), tag=(weight, "W_out")) for weight in ("W_B", "W_C")]
        for row in rows:
            assert set(FREE.leading(value.sizes(row.tag))) == {S(later)}
        (note,) = [note for note in table_of(found).notes if note.startswith("From step 2 on exploding: ")]
        assert ("W_B in" in note, "W_C in" in note) == (later != "1", later != "1"), note
        agrees(model, rows, path("N_u", 24, 192, N_x=6))


LONG_RUN = [("N_u^-1", "N_x^-1/2", "N_x^-1"), ("N_x^1/2 N_u^-1", "1", "N_x^-1/2"), ("N_x N_u^-1", "N_x^1/2", "1")]


@pytest.mark.parametrize(("rate", "signal", "moved"), [*LONG_RUN[:2], pytest.param(*LONG_RUN[2], marks=pytest.mark.slow)])
def test_the_signal_of_the_long_run_is_as_large_as_the_readout_s_rate(rate: str, signal: str, moved: str) -> None:
    """Euler's method, readout-like: y by W_B once W_out has moved is η_B N_u C² S₂ G = G at η_B = N_x/N_u; f by W_out.

    Measured at the largest stable rate of the readout; what is measured is a coefficient of the rates, so that the others
    differ from it by the power of η_out that is put in.
    """
    setting = ("N_u^-1/2", "N_x^-1 N_u^-1/2", "N_x N_u^-1", "N_x^-1 N_u^-1")
    model = s6("step=fixed,discretization=mamba", "sgd", setting)
    model = replace(model, scalings={**model.scalings, "W_out": replace(model.scalings["W_out"], lr=S(rate))})
    found = interpret(model, FREE, steps=2)
    assert found.later is not None
    value = found.later.updated[model.program.features["y"]]
    assert value is not None
    row = Row("y", "update", 2, (S(signal),), tag=("W_B", "W_out"))
    assert set(FREE.leading(value.sizes(row.tag))) == {S(signal)}
    rows = [row, *expect(tabulated(model), {("f", "update", "W_out"): moved})]
    if rate == LONG_RUN[2][0]:
        wrong = [replace(row, terms=(S(size),)) for size in ("1", "N_x")]
        found = misses(model, [*rows, *wrong], path("N_x", 16, 128, N_u=16))
        assert len(found) == 2, found
        assert all(miss.startswith(f"{row.label}: ") for miss in found)


@pytest.mark.slow
def test_a_fixed_step_allows_a_readout_by_its_fan_in_alone() -> None:
    """σ_out = N_u^(-1/2), solved for: f is Θ(1) and moves by Θ(1) with every weight.  A selective step needs 1/N_u."""
    solved = {name: solve(name, optimizer="sgd") for name in ("s6:step=fixed", "s6")}
    assert [found["W_out"].init for found in solved.values()] == [S("N_u^-1/2"), S("N_u^-1")]
    model = resolve("s6:step=fixed", parameterization=solved["s6:step=fixed"])
    weights = ("W_in", "W_B", "W_C", "W_out")
    rows = expect(tabulated(model), {("f", "init"): "1", **{("f", "update", w): "1" for w in weights}})
    agrees(model, rows, path("N_u", 32, 256, N_x=8))
    model = resolve("s6", parameterization=solved["s6"])
    assert set(tabulated(model)["f", "update", "W_Delta"].terms) == {ONE}
    large = replace(model.scalings["W_out"], init=S("N_u^-1/2"))
    model = replace(model, scalings={**model.scalings, "W_out": large})  # the update is itself of the size of the readout
    agrees(model, expect(tabulated(model), {("f", "update", "W_Delta"): "N_u"}), path("N_u", 32, 256, N_x=8))


# ---------------------------------------------------------------------- Everett et al., the perceptron

# Tables 1 and 2: initial entries, multipliers and the largest stable rates of embedding, hidden and readout, powers of N.
# Rates for full alignment under SGD and Adam.  (Table 1 gives variances: entries are their square roots.)
EVERETT: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "sp": (("0", "-1/2", "-1/2"), ("0", "0", "0"), ("1/2", "-1/2", "-1"), ("0", "-1", "-1")),
    "ntk": (("0", "0", "0"), ("0", "-1/2", "-1/2"), ("1/2", "1/2", "0"), ("0", "-1/2", "-1/2")),
    "mup": (("-1/2", "-1/2", "-1/2"), ("1/2", "0", "-1/2"), ("0", "0", "0"), ("-1/2", "-1", "-1/2")),
    "mfp": (("0", "0", "0"), ("0", "-1/2", "-1"), ("1", "1", "1"), ("0", "-1/2", "0")),
}
WEIGHTS = ("W_in", "W_2", "W_out")
FEATURE = {"W_in": "h1", "W_2": "h2", "W_out": "f"}  # what a weight makes


def everett(name: str, optimizer: str) -> Model:
    """The perceptron with a parameterization's largest stable rates."""
    inits, multipliers, sgd, adam = EVERETT[name]
    rates = sgd if optimizer == "sgd" else adam
    powers = zip(WEIGHTS, inits, rates, multipliers, strict=True)
    scalings = {w: scaling(*(Scale.of("N", power) for power in of)) for w, *of in powers}
    return replace(resolve("mlp", parameterization="mup", optimizer=optimizer), scalings=scalings)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", EVERETT)
def test_the_largest_stable_rates(name: str, optimizer: str) -> None:
    """Every weight moves what it makes by exactly 1, so that no larger rate is stable, and no hidden feature by more.

    In muP and MFP nothing moves by more than 1, and the output by 1 with every weight.
    """
    rows = [r for r in tabulated(everett(name, optimizer)) if r.kind == "update" and len(r.tag) == 1]
    sizes = {(r.row, r.tag[0]): r.theta for r in rows}
    assert len(sizes) == 6
    for weight in WEIGHTS:
        assert sizes[FEATURE[weight], weight] == ONE
    assert sizes["h2", "W_in"] == ONE
    coherent = ONE if name in ("mup", "mfp") else Scale.of("N", "1/2")  # ω = 1; the source has ω = 1/2: 1
    assert [sizes["f", w] for w in ("W_in", "W_2")] == [coherent, coherent]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_readout_is_coherent_with_the_updates_before_it(optimizer: str) -> None:
    """SP: f moves by N^(1/2) with W_in and with W_2, where both move h2 by 1."""
    model = everett("sp", optimizer)
    sizes = {("h2", "update", "W_in"): "1", ("h2", "update", "W_2"): "1"}
    sizes |= {("f", "update", w): "N^1/2" for w in ("W_in", "W_2")}
    agrees(model, expect(tabulated(model), sizes), path("N", 64, 512))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("depth", [2, 4])
def test_under_mup_every_feature_learns(optimizer: str, depth: int) -> None:
    """muP, tables 1 and 2: every weight moves every feature after it by exactly 1."""
    table = tabulated(resolve(f"mlp:depth={depth}", parameterization="mup", optimizer=optimizer))
    rows = [r for r in table if r.kind == "update" and len(r.tag) == 1]
    assert {(r.formula(), r.klass) for r in rows} == {("1", "learning")}
    assert {r.row for r in rows} == {*(f"h{k + 1}" for k in range(depth)), "f"}


@pytest.mark.slow
def test_standard_parameterization_under_adam_at_one_over_n() -> None:
    """One rate 1/N for all: hidden layers are stable, as stated, and W_in is lazy; f moves by N^(1/2) with W_2."""
    model = resolve("mlp", parameterization="sp", optimizer="adam")
    model = replace(model, scalings={w: replace(s, lr=Scale.of("N", -1)) for w, s in model.scalings.items()})
    sizes = {
        ("h1", "update", "W_in"): "N^-1",
        ("h2", "update", "W_in"): "N^-1",
        ("h2", "update", "W_2"): "1",
        ("f", "update", "W_in"): "N^-1/2",
        ("f", "update", "W_2"): "N^1/2",
        ("f", "update", "W_out"): "1",
    }
    agrees(model, expect(tabulated(model), sizes), path("N", 64, 512))
