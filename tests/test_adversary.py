"""Programs written to break the calculus, derived by the engine and measured by the torch interpreter.

Each runs its forward pass, its backward pass and one optimizer step at growing widths, with fresh seeds, and every row of
its table (activations, gradients, first-order updates) is compared: the slope of the mean of log rms along a path on which
one dim grows.  The other dims stand at a small width, where the largest derived size is that of the path.

The tolerance is four standard errors, and 0.15 for corrections to scaling; with standard errors below 0.05 (asserted) it
is under 0.35, where exponents differ by 1/2.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
import sympy as sp
from cases import ONE, agrees, derived, dot, fitted, matmul, normal, relu, rms, start, tanh

from scalecalc.asymptotics import OneVariable
from scalecalc.backward import record_backward
from scalecalc.derive import Model, interpret, table_of
from scalecalc.expand import expand
from scalecalc.parameterization import assign
from scalecalc.program import Program, Tensor
from scalecalc.rule import find, registry
from scalecalc.scale import Regime, Scale
from scalecalc.table import Row
from scalecalc.term import Term, atom, pattern
from scalecalc.value import Algebra, Value

rename = import_module("scalecalc.rules.reduction").rename
rmsnorm = import_module("scalecalc.rules.norm").rmsnorm
sigmoid, sign = (getattr(import_module("scalecalc.rules.elementwise"), name) for name in ("sigmoid", "sign"))

Architecture = Callable[[Program], Tensor]
STEPS, SEEDS, ERROR = 4, 1000, 0.06  # widths; the most seeds of each, and the error of a mean that suffices
NUMBERS = 2**22  # held at once, which is fewer seeds of a batch at large widths


def recorded(make: Architecture, dims: str, optimizer: str) -> Model:
    """A program of these dims, ended by ``make``'s result, with its backward pass, under mup."""
    p = Program(make.__name__, tuple(dims.split()), {"in": 8, "out": 8, "batch": 4})
    out = make(p)
    p.feature("y", out)
    p.end(out)
    record_backward(p, start(out, "linear"))
    scalings = assign(find("parameterization", "mup").make, p.weights, optimizer)
    return Model(make.__name__, p, "mup", scalings, optimizer, find("optimizer", optimizer).make(), "linear", {})


def slopes(model: Model, rows: tuple[Row, ...], dim: str, base: int, rest: int) -> dict[Row, tuple[float, float]]:
    """Per row the slope of the mean of log rms in one dim, which doubles from ``base``, and its standard error.

    Seeds are drawn until the errors are small; a scalar needs a hundred times as many as a wide activation.
    """
    from scalecalc.measure.contributions import Plan, measure
    from scalecalc.measure.interpret import Setting, elements

    plan, weights = Plan(model, rows), (np.arange(STEPS) - (STEPS - 1) / 2) / np.log(2)
    weights /= (np.arange(STEPS) - (STEPS - 1) / 2) @ (np.arange(STEPS) - (STEPS - 1) / 2)
    means, squares = np.zeros((len(rows), STEPS)), np.ones((len(rows), STEPS))
    for step in range(STEPS):
        widths = {d: base * 2**step if d == dim else rest for d in model.program.dims}
        seeds, logs = max(8, min(100, NUMBERS // elements(model.program, widths))), np.empty((len(rows), 0))
        while logs.shape[1] < SEEDS and (logs.shape[1] < 40 or squares[:, step].max() ** 0.5 > ERROR):
            found = measure(plan, Setting(widths, seeds, 1000 * step + logs.shape[1]))
            logs = np.concatenate([logs, np.stack([found[row.key].numpy() for row in rows])], axis=1)
            means[:, step], squares[:, step] = logs.mean(1), logs.var(1, ddof=1) / logs.shape[1]
    return dict(zip(rows, zip(means @ weights, (squares @ weights**2) ** 0.5, strict=True), strict=True))


def rows_of(model: Model) -> tuple[Row, ...]:
    """The rows of a model's table that are not exactly zero; updates to first order."""
    table = table_of(interpret(model, Regime()))
    return tuple(r for r in table.rows if r.kind in ("init", "gradient", "update") and r.terms and len(r.tag) < 2)


def check(make: Architecture, dims: str, optimizer: str, base: int = 32, rest: int = 8) -> None:
    """Every row's measured slopes in every dim are the derived ones."""
    model = recorded(make, dims, optimizer)
    rows = rows_of(model)
    wrong: list[str] = []
    for dim in model.program.dims:
        for row, (slope, error) in slopes(model, rows, dim, base, rest).items():
            assert error < 0.05, f"{row.row}: too few seeds to tell exponents apart"
            expected = float(max(s.power(dim) for s in row.terms))
            if abs(slope - expected) > 0.15 + 4 * error:
                wrong.append(f"{row.kind} {row.row} {row.tag} in {dim}: {row.formula()}, measured {slope:.2f} ± {error:.2f}")
    assert not wrong, "; ".join(wrong)


# ---------------------------------------------------------------------- architectures


def embedded(p: Program, function: Callable[[Tensor], Tensor] = relu, name: str = "x") -> Tensor:
    """φ(W_in x) of a few samples; several inputs share W_in."""
    known = [i for i, op in enumerate(p.ops) if op.name == "W_in"]
    W = p.tensor(known[0]) if known else p.weight("W_in", "N in")
    return function(matmul(W, p.input(name, "batch in")))


def readout(p: Program, h: Tensor) -> Tensor:
    return matmul(p.weight("W_out", f"out {h.axes[-1]}"), h)


def gate(p: Program) -> Tensor:
    """Wu ∘ σ(Vu): a product of two preactivations of one vector."""
    u = embedded(p)
    return readout(p, p.feature("h", matmul(p.weight("W", "N' N"), u) * sigmoid(matmul(p.weight("V", "N' N"), u))))


def gated_by_itself(p: Program) -> Tensor:
    """a ∘ tanh(a): two functions of one preactivation, odd times odd."""
    a = matmul(p.weight("W", "N' N"), embedded(p))
    return readout(p, p.feature("h", a * tanh(a)))


def twice(p: Program) -> Tensor:
    """tanh(W tanh(W u)): an update seen through the weight that made it."""
    W = p.weight("W", "N N'")
    h = p.feature("h1", tanh(matmul(W, embedded(p, tanh))))
    return readout(p, p.feature("h2", tanh(matmul(W, h))))


def there_and_back(p: Program) -> Tensor:
    """Wᵀ tanh(W tanh(h)): tied weights, with what they return."""
    W, h = p.weight("W", "N N'"), embedded(p, tanh)
    h = p.feature("h1", tanh(matmul(W, h)))
    return readout(p, p.feature("h2", dot(W, h, "N")))


def orders(p: Program) -> Tensor:
    """⟨A B x, B A x⟩: two matrices in either order."""
    A, B, x = p.weight("A", "N N'"), p.weight("B", "N N'"), p.input("x", "batch N")
    return dot(p.feature("ab", matmul(A, matmul(B, x))), p.feature("ba", matmul(B, matmul(A, x))), "N")


def norm_of_a_sum(p: Program) -> Tensor:
    """⟨rmsnorm(u + W u), u⟩: a norm of a sum meets a summand."""
    u = embedded(p)
    return dot(p.feature("h", rmsnorm(u + matmul(p.weight("W", "N N'"), u), "N")), u, "N")


def residual(p: Program) -> Tensor:
    """h + W tanh(h), twice with one W."""
    W, h = p.weight("W", "N N'"), embedded(p, lambda x: x)
    for name in ("h1", "h2"):
        h = p.feature(name, h + matmul(W, tanh(h)))
    return readout(p, h)


def entrywise_weights(p: Program) -> Tensor:
    """(W ∘ V) u: a weight that is the product of two, entry by entry."""
    W, V = p.weight("W", "N' N"), p.weight("V", "N' N")
    return readout(p, tanh(p.feature("h", matmul(W * V, embedded(p)))))


def low_rank(p: Program) -> Tensor:
    """W u + B A u with A and B of a width of their own."""
    u = embedded(p, tanh)
    a = matmul(p.weight("B", "N' M"), matmul(p.weight("A", "M N"), u))
    return readout(p, tanh(p.feature("h", matmul(p.weight("W", "N' N"), u) + a)))


def energy(p: Program) -> Tensor:
    """Σ h tanh(h) with h = W u: the readout is what it reads, and sees its own gradient."""
    h = matmul(p.weight("W", "N N'"), embedded(p, tanh))
    return dot(p.feature("h", h), tanh(h), "N")


def scores_with_one_weight(p: Program) -> Tensor:
    """(W u)·(W v): a symmetric bilinear form; its two uses are updated alike."""
    W = p.weight("W", "M N")
    u, v = embedded(p, tanh), embedded(p, tanh, "z")
    return dot(p.feature("q", matmul(W, u)), p.feature("k", matmul(W, v)), "M")


def linear_attention(p: Program) -> Tensor:
    """Σ_t v_t (k_t·q) with keys and values of the same T vectors."""
    x, q = p.input("x", "T N"), p.input("q", "N")
    k, v, query = (matmul(p.weight(f"W_{name}", "N' N"), each) for name, each in zip("kvq", (x, x, q), strict=True))
    return dot(p.feature("s", dot(k, query, "N'")), v, "T")


def experts(p: Program) -> Tensor:
    """Σ_e of experts with a three-index weight, all of one input."""
    h = relu(dot(p.weight("W", "E N' N"), embedded(p, tanh), "N"))
    return dot(p.weight("W_out", "E N'"), p.feature("h", h), "E N'")


def biases(p: Program) -> Tensor:
    """Biases under an optimizer: vectors, whose gradient is no pair of factors."""
    u = tanh(matmul(p.weight("W_in", "N in"), p.input("x", "batch in")) + p.weight("b", "N"))
    return readout(p, p.feature("h", tanh(matmul(p.weight("W", "N' N"), u) + p.weight("c", "N'"))))


def large_batch(p: Program) -> Tensor:
    """A growing batch of low-dimensional data: the gradient of W is a sum over all of it."""
    u = relu(matmul(p.weight("W_in", "N in"), p.input("x", "B in")))
    return readout(p, p.feature("h", relu(matmul(p.weight("W", "N' N"), u))))


def both_sides(p: Program) -> Tensor:
    """tanh(V X Vᵀ): one weight on both sides of a matrix."""
    V, X = p.weight("V", "N'' N"), p.input("X", "N N'")
    return tanh(p.feature("Y", dot(dot(V, X, "N"), rename(V, {"N": "N'", "N''": "N'''"}), "N'")))


ARCHITECTURES = [
    (gate, "N"), (gated_by_itself, "N"), (twice, "N"), (there_and_back, "N"), (orders, "N"), (norm_of_a_sum, "N"),
    (residual, "N"), (entrywise_weights, "N"), (low_rank, "N M"), (energy, "N"), (scores_with_one_weight, "N M"),
    (linear_attention, "N T"), (experts, "N E"), (biases, "N"), (large_batch, "N B"), (both_sides, "N"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("make", "dims"), ARCHITECTURES, ids=lambda x: getattr(x, "__name__", ""))
def test_every_row_is_measured(make, dims, optimizer):
    rest = 2 if make is low_rank else 8  # (N/M)^(1/2) beside 1: the larger leads early only where M is very small
    check(make, dims, optimizer, {both_sides: 8, experts: 16}.get(make, 32), rest)


# ---------------------------------------------------------------------- laws that were wrong, and one that is


def leaves(dims: str, **axes: str) -> dict[str, Tensor]:
    p = Program("small", dims=tuple(dims.split()))
    return {name: (p.weight if name.isupper() else p.input)(name, own) for name, own in axes.items()}


def second_under_a_sign(rng, M, N, samples):
    """What D adds to Σ_n sign(Σ_b c_bm a_bn + ε D_m b_n) b_n with ε = M^(-1/2), root-mean-square over m."""
    seeds = min(1000, 2**24 // (M * N))
    c, a = normal(rng, seeds, M, samples), normal(rng, seeds, samples, N)
    d, b = normal(rng, seeds, M, 1) * np.float32(M**-0.5), normal(rng, seeds, 1, N)
    return rms(((np.sign(c @ a + d * b) - np.sign(c @ a)) * b).sum(2))


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 4])
def test_the_second_term_under_a_sign(samples):
    """The part along D is ε N for a sum over samples, as derived; of one sample 1/|c| has no second moment: ε^(1/2) N.

    The engine does not count samples; it says that it takes the typical entry.
    """
    t = leaves("M N", c="M", D="M", a="N", b="N")
    moved = sign(t["c"] * t["a"] + t["D"] * t["b"])
    sizes = derived(dot(moved, t["b"], "N"), {"D": Scale.of("M", "-1/2")})
    along = Scale.of("M", "-1/2") * Scale.of("N")
    assert along in sizes
    slope, error = fitted(
        lambda rng, M, N: second_under_a_sign(rng, M, N, samples), {"M": 16, "N": 64}, {"M": 1, "N": 2}, 4
    )
    assert error < 0.02
    assert abs(slope - {1: 7 / 4, 4: 3 / 2}[samples]) < 0.06  # N goes with M²


@pytest.mark.parametrize("product", [True, False])
def test_a_typical_entry_under_a_sign_is_an_assumption_that_is_said(product):
    """Where one factor may be small everything that it multiplies passes together; an entry of a vector passes alone."""
    algebra = Algebra(at="here")
    lead = Term(ONE, pattern((), [atom("a", ["N"]), *([atom("c", ["M"])] if product else [])]))
    small = Term(Scale.of("N", "-1/4"), pattern((), [atom("D", ["N"])]))
    f = OneVariable(registry("rule")["sign"].derivative(0))
    found = expand(f, ("M", "N"), [Value(("M", "N"), (lead, small))], algebra)
    (beside,) = (t for t in found.terms if t.size == small.size)
    assert ("three samples" in beside.why.assumption) == product


def test_a_weight_that_starts_at_zero():
    """W_out = 0: the output is exactly zero, and so is every gradient upstream of it."""
    p = Program("zero", ("N",))
    h, W = p.input("h", "N"), p.weight("W", "N", init=sp.Integer(0))
    p.feature("f", dot(W, h, "N"))
    p.end(p.tensor(p.features["f"]))
    record_backward(p, start(p.tensor(p.loss or 0), "linear"))
    scalings = assign(find("parameterization", "mup").make, p.weights, "sgd")
    model = Model("zero", p, "mup", scalings, "sgd", find("optimizer", "sgd").make(), "linear", {})
    assert table_of(interpret(model, Regime()))["f", "init"].terms == ()


def gram(function, part):
    def measure(rng, T, d):
        X = normal(rng, 60, T, d) * np.float32(d**-0.25)
        K = function(np.einsum("std,sud->stu", X, X))
        return rms(K) if part == "rms" else rms(np.einsum("stu,su->st", K, normal(rng, 60, T)))

    return measure


@pytest.mark.slow
@pytest.mark.parametrize("part", ["rms", "times v"])
def test_a_function_of_a_gram_matrix(part):
    """relu(X Xᵀ), X of size d^(-1/4): 1 off the diagonal and d^(1/2) on it."""
    t = leaves("T d", X="T d", v="T'")
    K = relu(dot(t["X"], rename(t["X"], {"T": "T'"}), "d"))
    sizes = derived(K if part == "rms" else dot(K, t["v"], "T'"), {"X": Scale.of("d", "-1/4")})
    agrees(sizes, gram(lambda x: np.maximum(x, 0), part), {"T": 16, "d": 16}, {"T": 1, "d": 1}, 4)
