"""Scalings that the calculus was attacked with and that it survived, each derived by the engine and measured in torch.

Derived sizes are compared exactly.  Measured is the slope of the mean of log rms, over independent seeds, from one width to
another, eight times as large; expected there is the slope of the derived size between these very widths, which for a
logarithm is neither 0 nor 1/2.  The tolerance is 0.12 for corrections to scaling and four standard errors; these are
asserted to stay below 0.03, so that it is under a quarter, where exponents differ by 1/2.

Unless a test says otherwise W_B and W_C are initialised with entries N_u^(-1/2), the readout with 1/N_u, all else by mup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import sympy as sp
from cases import S, dot, matmul, start, tanh, total

from scalecalc.asymptotics import n
from scalecalc.backward import record_backward
from scalecalc.derive import Model, interpret, resolve, table_of
from scalecalc.parameterization import assign, scaling
from scalecalc.program import Program, Tensor
from scalecalc.rule import find
from scalecalc.scale import FREE, Scale
from scalecalc.table import Row, Table, WeightScaling

discretize = import_module("scalecalc.rules.discretization").discretize
eigenvalues = import_module("scalecalc.rules.transition").eigenvalues
recurrence = import_module("scalecalc.rules.recurrence").recurrence
exp, negative, silu = (getattr(import_module("scalecalc.rules.elementwise"), f) for f in ("exp", "negative", "silu"))

ONE, ERROR, NUMBERS = Scale.one(), 0.03, 2**21  # numbers held at once: fewer seeds of a batch at large widths
Path = Sequence[Mapping[str, int]]


# ---------------------------------------------------------------------- models


def recorded(
    make: Callable[[Program], Tensor], dims: str, optimizer: str, scalings: Mapping[str, WeightScaling]
) -> Model:
    """A program of these dims that ends in what ``make`` returns; what has no scaling given has that of mup."""
    p = Program(make.__name__, tuple(dims.split()), {"in": 4, "out": 1, "batch": 2, "time": 2})
    p.end(p.feature("f", make(p)))
    record_backward(p, start(p.tensor(p.features["f"]), "linear"))
    given = {**assign(find("parameterization", "mup").make, p.weights, optimizer), **scalings}
    return Model(make.__name__, p, "given", given, optimizer, find("optimizer", optimizer).make(), "linear", {})


def s6(options: str, optimizer: str, selection: Sequence[str] = (), parameterization: str = "mup") -> Model:
    """The layer of the architectures, with (σ_B, σ_C, η_B, η_C) for its selection weights, of few samples."""
    model = resolve(f"s6:{options}", parameterization=parameterization, optimizer=optimizer)
    model.program.fixed.update({"batch": 2, "in": 8, "out": 1})
    if not selection:
        return model
    b, c, rate_b, rate_c = map(S, selection)
    return replace(model, scalings={**model.scalings, "W_B": scaling(b, rate_b), "W_C": scaling(c, rate_c)})


def tabulated(model: Model) -> Table:
    return table_of(interpret(model, FREE))


UNIT = ("N_u^-1/2", "N_u^-1/2")
SGD, ADAM = (*UNIT, "N_u^-1/2", "N_u^-1/2"), (*UNIT, "N_u^-1", "N_u^-1")


# ---------------------------------------------------------------------- measuring


def path(dim: str, first: int, last: int, **rest: int) -> Path:
    """Two widths of one dim, the other dims at one width."""
    return [{dim: width, **rest} for width in (first, last)]


def slopes(
    model: Model, rows: Sequence[Row], widths: Path, error: float = ERROR, most: int = 6000
) -> list[tuple[float, float, float]]:
    """Per row the slope from one end of a path to the other: measured, its standard error, that of the derived size.

    Seeds are drawn until the standard error is small enough, ``most`` at a width at the outside.
    """
    from scalecalc.measure.contributions import Plan, measure
    from scalecalc.measure.interpret import Setting, elements

    plan, far = Plan(model, tuple(rows)), float(np.log(max(widths[1][dim] / widths[0][dim] for dim in widths[0])))
    means, errors = np.zeros((2, len(rows))), np.ones((2, len(rows)))
    for k, at in enumerate(widths):
        batch, logs = max(4, min(200, NUMBERS // elements(model.program, at))), np.empty((len(rows), 0))
        while logs.shape[1] < most and (logs.shape[1] < 40 or errors[k].max() > 0.6 * error * far):
            found = measure(plan, Setting(at, batch, 100_000 * k + logs.shape[1]))
            logs = np.concatenate([logs, np.stack([found[row.key].numpy() for row in rows])], axis=1)
            means[k], errors[k] = logs.mean(1), logs.std(1, ddof=1) / logs.shape[1] ** 0.5
    derived = [np.diff([np.log(max(s.at(at) for s in row.terms)) for at in widths])[0] / far for row in rows]
    measured, found = (means[1] - means[0]) / far, np.hypot(*errors) / far
    return list(zip(measured.tolist(), found.tolist(), derived, strict=True))


def misses(model: Model, rows: Sequence[Row], widths: Path, most: float = ERROR) -> list[str]:
    """The rows whose measured slope on a path is not that of their derived size."""
    wrong: list[str] = []
    for row, (slope, error, expected) in zip(rows, slopes(model, rows, widths, most), strict=True):
        assert error < most, f"{row.label}: ± {error:.3f}, too few seeds to tell exponents apart"
        if abs(slope - expected) > 0.12 + 4 * error:
            wrong.append(f"{row.label}: {row.formula()}, here {expected:.2f}, measured {slope:.2f} ± {error:.3f}")
    return wrong


def agrees(model: Model, rows: Sequence[Row], widths: Path) -> None:
    """Every row's measured slope on a path is that of its derived size."""
    wrong = misses(model, rows, widths)
    assert not wrong, "; ".join(wrong)


def expect(table: Table, sizes: Mapping[tuple[str, ...], str]) -> list[Row]:
    """The rows of these names, whose sizes are exactly these."""
    rows = [table[key] for key in sizes]
    assert {row.label: set(row.terms) for row in rows} == {
        row.label: {S(text)} for row, text in zip(rows, sizes.values(), strict=True)
    }
    return rows


@pytest.mark.slow
def test_a_wrong_exponent_fails():
    """Measuring rejects a size that is off by the square root of either width, or takes its logarithm for 1."""
    model = s6("step=fixed", "sgd", SGD)
    row = tabulated(model)["y", "update", "W_B"]
    for widths in (path("N_u", 32, 256, N_x=8), path("N_x", 16, 128, N_u=32)):
        dim = next(iter(widths[0]))
        rows = [replace(row, terms=(Scale.of(dim, wrong),)) for wrong in ("0", "-1/2", "1/2")]
        assert len(misses(model, rows, widths)) == 2
    model = s6("step=fixed", "adam", ADAM)
    row = tabulated(model)["y", "update", "W_B"]
    wrong = [replace(row, terms=(Scale.of("N_x", power),)) for power in ("0", "1/2")]
    assert len(misses(model, [row, *wrong], path("N_x", 16, 128, N_u=32), 0.014)) == 2


# ---------------------------------------------------------------------- attention scores


def attention(p: Program) -> Tensor:
    """Σ_t s_t v_t with raw scores s_t = (W_q u_0)·(W_k u_t); what a score's gradient sees is ⟨dy, v_t⟩."""
    W_in = p.weight("W_in", "N in")
    u, first = tanh(matmul(W_in, p.input("x", "time in"))), tanh(matmul(W_in, p.input("x_0", "in")))
    q, k = matmul(p.weight("W_q", "d N"), first), matmul(p.weight("W_k", "d N"), u)
    s = p.feature("s", dot(q, k, "d"))
    return matmul(p.weight("W_out", "out N'"), total(s * matmul(p.weight("W_v", "N' N"), u), ["time"]))


# Per optimizer and power of 1/d in the scores: their size at initialisation, and what W_q and W_k change in them.
SCORES = {
    ("adam", 0): ("d^1/2", "d"),
    ("sgd", 0): ("d^1/2", "N^1/2 d"),
    ("adam", 1): ("d^-1/2", "1"),
}


def scores(optimizer: str, power: int) -> tuple[Model, list[Row]]:
    """Scores over d^power, which is a multiplier of W_q: W_k sees it as W_q does."""
    root, rate = Scale.of("N", "-1/2"), Scale.of("N", -1) if optimizer == "adam" else ONE
    scalings = {"W_q": scaling(root, rate, Scale.of("d", -power)), "W_k": scaling(root, rate)}
    model = recorded(attention, "N d", optimizer, scalings)
    init, moved = SCORES[optimizer, power]
    sizes = {("s", "init"): init, ("s", "update", "W_q"): moved, ("s", "update", "W_k"): moved}
    return model, expect(tabulated(model), sizes)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "power"), SCORES)
@pytest.mark.parametrize("dim", ["N", "d"])
def test_scores_behind_a_random_readout(optimizer: str, power: int, dim: str) -> None:
    """Raw logits d^(1/2); after Adam d, after SGD (rate 1) N^(1/2) more, as ⟨dy, v⟩ is incoherent; with 1/d: 1."""
    model, rows = scores(optimizer, power)
    agrees(model, rows, path("N", 32, 256, d=8) if dim == "N" else path("d", 32, 256, N=16))


# ---------------------------------------------------------------------- the selective layer under SGD


@pytest.mark.parametrize("name", ["W_B", "W_C"])
@pytest.mark.slow
def test_zero_order_hold_has_paid_for_the_states(name: str) -> None:
    """η = N_u^(-1/2): in y 1, no power of N_x; in f N_u^(-1/2), as u is incoherent with the readout; dW N_x^(-1/2) as rms."""
    model = s6("step=fixed", "sgd", SGD)
    rows = expect(
        tabulated(model),
        {
            ("y", "update", name): "1",
            ("f", "update", name): "N_u^-1/2",
            (name, "gradient"): "N_u^-1/2 N_x^-1/2",
        },
    )
    agrees(model, rows, path("N_x", 16, 128, N_u=32))
    agrees(model, rows, path("N_u", 32, 256, N_x=8))


@pytest.mark.slow
def test_the_input_factor_of_the_reference_implementation_pays_nothing() -> None:
    """Zero-order hold for A, Euler for B: N_x^(1/2) in y at initialisation and in what comes back to u, N_x in f by W_out.

    W_B and W_C change y by N_x at rates that have no power of N_x, hence by N_x^(1/2), as much as y is, at N_x^(-1/2).
    """
    model = s6("step=fixed,discretization=mamba", "sgd", (*UNIT, "N_u^-1/2 N_x^-1/2", "N_u^-1/2 N_x^-1/2"))
    rows = expect(
        tabulated(model),
        {
            ("y", "init"): "N_x^1/2",
            ("u", "gradient"): "N_u^-1 N_x^1/2",
            ("u", "update", "W_in"): "N_x^1/2",
            ("y", "update", "W_B"): "N_x^1/2",
            ("y", "update", "W_C"): "N_x^1/2",
            ("f", "update", "W_out"): "N_x",
        },
    )
    agrees(model, rows, path("N_x", 16, 128, N_u=32))


# ---------------------------------------------------------------------- under Adam


def gate(p: Program) -> Tensor:
    """(s + u) silu(z) with s = Σ_n C_n B_n u and z of the data itself, every rate 1/N_u."""
    x = p.input("x", "batch in")
    u = p.feature("u", tanh(matmul(p.weight("W_in", "N_u in"), x)))
    s = dot(matmul(p.weight("W_C", "N_x N_u"), u), matmul(p.weight("W_B", "N_x N_u"), u), "N_x") * u
    y = (s + u) * silu(matmul(p.weight("W_z", "N_u in"), x))
    return matmul(p.weight("W_out", "out N_u"), p.feature("y", y))


@pytest.mark.slow
def test_a_gate_under_adam() -> None:
    """Every rate 1/N_u: what selects is coherent over its N_u channels, what embeds sees finitely many data."""
    rate = S("N_u^-1")
    embedding, selection = scaling(ONE, rate), scaling(S("N_u^-1/2"), rate)
    scalings = {"W_in": embedding, "W_z": embedding, "W_B": selection, "W_C": selection}
    model = recorded(gate, "N_u N_x", "adam", scalings)
    sizes = {
        ("y", "init"): "N_x^1/2",
        ("y", "update", "W_B"): "N_x",
        ("y", "update", "W_C"): "N_x",
        ("y", "update", "W_z"): "N_u^-1 N_x^1/2",
        ("y", "update", "W_in"): "N_u^-1/2 N_x^1/2",
    }
    rows = expect(tabulated(model), sizes)
    agrees(model, rows, path("N_x", 64, 512, N_u=16))  # beside s stands u, of size 1
    agrees(model, rows, path("N_u", 32, 256, N_x=16))


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "size"), [("zoh", "1"), ("mamba", "N_x^1/2")])
def test_a_selective_step_under_adam(scheme: str, size: str) -> None:
    """W_Delta at mup's rate 1/N_u: no power of N_x under zero-order hold, N_x^(1/2) with Euler's input factor."""
    model = s6(f"discretization={scheme}", "adam", ADAM)
    rows = expect(tabulated(model), {("y", "update", "W_Delta"): size, ("Delta", "update", "W_Delta"): "1"})
    agrees(model, rows, path("N_x", 16, 128, N_u=32))


def trainable(logarithm: bool, p: Program) -> Tensor:
    """A zero-order-hold layer of one step in time whose transition is trained: A itself, or A = −exp(A_log)."""
    u = p.feature("u", tanh(matmul(p.weight("W_in", "N_u in"), p.input("x", "batch in"))))
    B, C = matmul(p.weight("W_B", "N_x N_u"), u), matmul(p.weight("W_C", "N_x N_u"), u)
    A = p.weight("A_log", "N_x", init=sp.log(n + 1)) if logarithm else p.weight("A", "N_x", init=-(n + 1))
    _, factor = discretize("zoh", p.index("Delta", "", sp.Integer(1)), negative(exp(A)) if logarithm else A)
    return matmul(p.weight("W_out", "out N_u"), p.feature("y", dot(C, factor * B, "N_x") * u))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("A", "1"), ("A_log", "log N_x")])
def test_a_trained_transition_under_adam(name: str, size: str) -> None:
    """∂B̄/∂A falls like 1/n², and like 1/n by A_log: signs make the first sum to 1, the second to log N_x."""

    def layer(p: Program) -> Tensor:
        return trainable(name == "A_log", p)

    model = recorded(layer, "N_u N_x", "adam", {name: scaling(ONE, ONE)})
    (row,) = expect(tabulated(model), {("y", "update", name): size})
    ((slope, error, _),) = slopes(model, [row], path("N_x", 64, 1024, N_u=16), 0.012)
    if size == "1":
        assert abs(slope) + 4 * error < 0.1
    else:
        assert 0.12 < slope - 4 * error < slope + 4 * error < 0.32  # log log 1024 − log log 64 over log 16: 0.18


# ---------------------------------------------------------------------- a fan-out that is finite in effect


def upstream(p: Program) -> Tensor:
    """A hidden weight W in front of a zero-order-hold layer with the transition −(n + 1)."""
    u = tanh(matmul(p.weight("W_in", "N_u in"), p.input("x", "batch time in")))
    u = p.feature("u", tanh(matmul(p.weight("W", "N_u' N_u"), u)))
    B, C = matmul(p.weight("W_B", "N_x N_u'"), u), matmul(p.weight("W_C", "N_x N_u'"), u)
    decay, factor = discretize("zoh", p.index("Delta", "", sp.Integer(1)), eigenvalues(p, "mamba", "N_x"))
    y = p.feature("y", dot(C, recurrence(decay, (factor * B) * u), "N_x"))
    return matmul(p.weight("W_out", "out N_u'"), y)


@pytest.mark.slow
def test_a_weight_upstream_of_the_layer_explodes_under_adam() -> None:
    """Rate 1/N_u for W: y moves by N_u^(1/2) at the first step, in any number of states.

    sign(du) aligns with W_Bᵀ dB, whose effective rank is 1 under the 1/n profile: it is a readout's gradient.
    """
    model = recorded(upstream, "N_u N_x", "adam", {})
    assert model.scalings["W"].lr == S("N_u^-1")
    rows = expect(tabulated(model), {("y", "update", "W"): "N_u^1/2", ("u", "update", "W"): "1"})
    assert rows[0].klass == "exploding"
    agrees(model, rows, path("N_u", 32, 256, N_x=16))
    agrees(model, rows, path("N_x", 16, 128, N_u=32))
