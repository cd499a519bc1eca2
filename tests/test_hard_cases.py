"""Cases that simpler calculi get wrong, each derived by the engine and measured with a few lines of numpy (see cases.py)."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from cases import (
    ONE,
    F,
    agrees,
    derived,
    dot,
    interpret,
    matmul,
    normal,
    relu,
    rms,
    square,
    start,
    tanh,
    total,
    trained,
)

from scalecalc.backward import record_backward
from scalecalc.derive import Model, resolve
from scalecalc.derive import interpret as all_passes
from scalecalc.program import Program, Tensor
from scalecalc.rule import find
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.table import WeightScaling


def test_a_wrong_exponent_fails():
    """The comparison tells 1 from 1/2 and from 3/4, in either direction."""

    def measure(rng, N):
        return N * np.exp(0.3 * rng.standard_normal(400))

    agrees({Scale.of("N")}, measure, {"N": 64}, {"N": 1})
    for wrong in ("1/2", "3/4", "5/4", "3/2"):
        with pytest.raises(AssertionError, match="derived"):
            agrees({Scale.of("N", wrong)}, measure, {"N": 64}, {"N": 1})


# ---------------------------------------------------------------------- W1: elementwise functions


def vectors(*names: str) -> tuple[Program, list[Tensor]]:
    p = Program("vectors", dims=("N",))
    return p, [p.input(name, "N") for name in names]


def relu_moves(rng, N, power=0.0, seeds=300):
    """Σ relu(h + δ) − relu(h) with δ = ±N^power independent of h."""
    h, sign = normal(rng, seeds, N), np.where(rng.random((seeds, N), dtype=np.float32) < 0.5, -1, 1)
    delta = sign * np.float32(N) ** power
    return (np.maximum(h + delta, 0) - np.maximum(h, 0)).sum(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("power", "expected", "widths"), [(0, {"N"}, 2**8), (F(-1, 4), {"N^(1/2)"}, 2**11)], ids=["as-large", "smaller"]
)
def test_relu_of_an_independent_update(power, expected, widths):
    """Σ relu(h+δ) − relu(h): δ is odd, but relu″ is a delta, so the second order has a mean; N and N^(1/2), not less."""
    p, (h,) = vectors("h")
    out = total(relu(h + p.weight("δ", "N")), ["N"])
    sizes = derived(out, {"δ": Scale.of("N", power)}, ("δ",))
    assert {str(s) for s in sizes} == expected
    agrees(sizes, lambda rng, N: relu_moves(rng, N, float(power)), {"N": widths}, {"N": 1})


def relu_ab(rng, N):
    a, b = normal(rng, 2, 300, N)
    return (np.maximum(a + b, 0) * a * b).sum(1)


def tanh_abc(rng, N):
    a, b, c = normal(rng, 3, 300, N)
    return (np.tanh(a + b + c) * a * b * c).sum(1)


def tanh_ab(rng, N):
    a, b = normal(rng, 2, 2000, N)
    return (np.tanh(a + b) * a * b).sum(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "names", "measure", "expected"),
    [(relu, "ab", relu_ab, "N"), (tanh, "abc", tanh_abc, "N"), (tanh, "ab", tanh_ab, "N^(1/2)")],
)
def test_a_function_of_several_odd_terms(function, names, measure, expected):
    """Σ φ(a+b) a b: φ mixes its arguments, every subset of them that its parity allows."""
    _, tensors = vectors(*names)
    argument, product = tensors[0], tensors[0]
    for t in tensors[1:]:
        argument, product = argument + t, product * t
    sizes = derived(dot(function(argument), product, "N"))
    assert {str(s) for s in sizes} == {expected}
    agrees(sizes, measure, {"N": 256}, {"N": 1})


# ---------------------------------------------------------------------- W2: one matrix, several uses

UNIT = {"W": Scale.of("N", "-1/2")}  # a square matrix that keeps sizes


def square_matrix() -> tuple[Tensor, Tensor, Tensor]:
    p = Program("shared", dims=("N",))
    return p.weight("W", "N N'"), p.input("a", "N'"), p.input("b", "N'")


def draw(rng, N):
    """W, a and b for as many seeds as fit into 64 MiB, at most 400."""
    seeds = min(400, 2**24 // N**2)
    return normal(rng, seeds, N, N) / np.float32(N**0.5), normal(rng, seeds, N), normal(rng, seeds, N)


def times(W, x):
    return np.einsum("smn,sn->sm", W, x)


def inner(x, y):
    return np.einsum("sn,sn->s", x, y)


def w_ab(rng, N, function=None):
    """⟨φ(Wa), φ(Wb)⟩; a Gaussian W needs no matrix: Wa and Wb are jointly normal, with the covariance of a and b."""
    seeds = 1500
    a, b, z, w = normal(rng, 4, seeds, N)
    length = np.linalg.norm(a, axis=1, keepdims=True)
    along = (inner(a, b)[:, None] / length) / N**0.5
    beside = np.sqrt(np.square(b).mean(1, keepdims=True) - along**2)
    wa, wb = z * length / N**0.5, z * along + w * beside
    return inner(wa, wb) if function is None else inner(function(wa), function(wb))


def w_recurrent(rng, N):
    """⟨W relu(h), W relu(W relu(h))⟩ with h = W a."""
    W, a, _ = draw(rng, N)
    second = times(W, np.maximum(times(W, a), 0))
    return inner(second, times(W, np.maximum(second, 0)))


def w_transposed(rng, N):
    """⟨a, Wᵀ W a⟩."""
    W, a, _ = draw(rng, N)
    return inner(times(W, a), times(W, a))


def w_twice(rng, N):
    """⟨a, W W a⟩: nothing returns without a transpose."""
    W, a, _ = draw(rng, N)
    return inner(a, times(W, times(W, a)))


def w_back(rng, N):
    """⟨b, W relu(Wᵀ b)⟩: the matrix returns b through a nonlinearity."""
    W, _, b = draw(rng, N)
    return inner(b, times(W, np.maximum(np.einsum("smn,sm->sn", W, b), 0)))


def two_products(function):
    W, a, b = square_matrix()
    return dot(function(matmul(W, a)), function(matmul(W, b)), "N")


def recurrent():
    W, a, _ = square_matrix()
    second = matmul(W, relu(matmul(W, a)))
    return dot(second, matmul(W, relu(second)), "N")


def transposed():
    W, a, _ = square_matrix()
    return dot(a, dot(W, matmul(W, a), "N"), "N'")


def twice():
    W, a, _ = square_matrix()
    p = a.program
    return dot(p.record("rename", (a,), ("N",), names={"N'": "N"}), matmul(W, matmul(W, a)), "N")


def back():
    W, _, _ = square_matrix()
    b = W.program.input("g", "N")
    return dot(b, matmul(W, relu(dot(W, b, "N"))), "N")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "measure", "expected", "base"),
    [
        (lambda: two_products(lambda x: x), w_ab, "N^(1/2)", 64),
        (lambda: two_products(tanh), lambda rng, N: w_ab(rng, N, np.tanh), "N^(1/2)", 64),
        (recurrent, w_recurrent, "N", 32),
        (transposed, w_transposed, "N", 32),
        (twice, w_twice, "N^(1/2)", 16),
        (back, w_back, "N", 32),
    ],
    ids=["⟨Wa,Wb⟩", "⟨tanh Wa,tanh Wb⟩", "relu-recurrence", "⟨a,WᵀWa⟩", "⟨a,WWa⟩", "⟨b,W relu(Wᵀb)⟩"],
)
def test_one_matrix_used_twice(make, measure, expected, base):
    """Two uses are as aligned as what they are applied to; a transpose returns what it was applied to."""
    sizes = derived(make(), UNIT)
    assert {str(s) for s in sizes} == {expected}
    agrees(sizes, measure, {"N": base}, {"N": 1})


def tied(rng, N, M, along):
    """WᵀWx with W of M rows: its part along x, or the rest."""
    W, x = normal(rng, 48, M, N) / np.float32(N**0.5), normal(rng, 48, N)
    y = np.einsum("smn,sm->sn", W, times(W, x))
    part = inner(x, y) / inner(x, x)
    return part if along else rms(y - part[:, None] * x)


@pytest.mark.slow
@pytest.mark.parametrize("rates", [{"M": 1.0}, {"N": 1.0}, {"M": 1.0, "N": 0.5}], ids=str)
def test_tied_weights(rates):
    """Wᵀ W x is M/N times x and (M/N)^(1/2) beside it: two sizes, each needed, none bounding the other."""
    p = Program("tied", dims=("N", "M"))
    W, x = p.weight("W", "M N"), p.input("x", "N")
    y = dot(W, matmul(W, x), "M")
    sizes = derived(y, UNIT)
    ratio = Scale.of("M") / Scale.of("N")
    assert sizes == {ratio, ratio ** F(1, 2)}
    base = {"M": 32, "N": 32}
    agrees({ratio}, lambda rng, N, M: tied(rng, N, M, True), base, rates, 4)
    agrees({ratio ** F(1, 2)}, lambda rng, N, M: tied(rng, N, M, False), base, rates, 4)


# ---------------------------------------------------------------------- W3: a summed index stays correlated


def outer_experiment(rng, E, M):
    """Root-mean-square over m of Σ_e S_e X[e,m] with S_e = Σ_m d_m X[e,m]."""
    X, d = normal(rng, 48, E, M), normal(rng, 48, M)
    return rms(np.einsum("se,sem->sm", np.einsum("sem,sm->se", X, d), X))


@pytest.mark.slow
@pytest.mark.parametrize(
    "rates", [{"E": 1}, {"M": 1}, {"E": 1, "M": 1}, {"E": 0.5, "M": 1}, {"E": 1, "M": 0.5}], ids=str
)
def test_a_sum_that_meets_its_own_summands(rates):
    """Σ_e S_e X[e,m]: S_e remembers the X it was summed from, and returns d (size E) beside the noise (E M)^(1/2)."""
    p = Program("summed", dims=("E", "M"))
    X, d = p.input("X", "E M"), p.input("d", "M")
    sizes = derived(dot(dot(X, d, "M"), X, "E"))
    assert {str(s) for s in sizes} == {"E", "E^(1/2) M^(1/2)"}
    base = (
        {"E": 16, "M": 256} if rates == {"M": 1} else {"E": 256, "M": 16} if rates == {"E": 1} else {"E": 32, "M": 32}
    )
    agrees(sizes, outer_experiment, base, rates)


def heads_experiment(rng, H, d):
    """Root-mean-square over d of Σ_h c_h q_hd k_hd with c_h = Σ_d q_hd k_hd."""
    q, k = normal(rng, 2, 400, H, d)
    return rms((np.einsum("shd,shd->sh", q, k)[..., None] * q * k).sum(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "rates",
    [
        {"H": 1},
        {"d": 1},
        {"H": 1, "d": 1},
    ],
    ids=str,
)
def test_a_score_that_meets_its_own_factors(rates):
    """Σ_h c_h q_hd k_hd with c_h = q_h·k_h: H from the diagonal, (H d)^(1/2) from the rest; never H d^(1/2)."""
    p = Program("heads", dims=("H", "d"))
    q, k = p.input("q", "H d"), p.input("k", "H d")
    base = {"H": 64, "d": 4} if rates == {"H": 1} else {"H": 4, "d": 64} if rates == {"d": 1} else {"H": 32, "d": 32}
    agrees(derived(total(dot(q, k, "d") * (q * k), ["H"])), heads_experiment, base, rates, 4)


# ---------------------------------------------------------------------- attention scores, W9


def score(power: int = 1) -> Tensor:
    """Σ_d (W_q x)_d (W_k x')_d of one pair of positions, squared if power is 2."""
    p = Program("score", dims=("N", "d"))
    q = matmul(p.weight("W_q", "d N"), p.input("x", "N"))
    s = dot(q, matmul(p.weight("W_k", "d N"), p.input("x'", "N")), "d")
    return s if power == 1 else square(s)


def score_experiment(rng, N, d, optimizer, part, power=1, temper=0.0):
    """A part of the score: at initialisation, or moved by a step on W_q (its first degree, or all).

    Rates are 1/N; ``temper``: the power of d that the score is multiplied by.
    """
    seeds = 1000
    W_q, W_k = normal(rng, 2, seeds, d, N) / np.float32(N**0.5)
    x, other, c = normal(rng, seeds, N), normal(rng, seeds, N), normal(rng, seeds)
    k = times(W_k, other) * np.float32(d**temper)
    s = inner(times(W_q, x), k)
    if part == "init":
        return s
    g = (c if power == 1 else 2 * c * s)[:, None, None] * k[:, :, None] * x[:, None, :]
    moved = inner(times(-(np.sign(g) if optimizer == "adam" else g) / N, x), k)
    return {"first": moved if power == 1 else 2 * s * moved, "total": 2 * s * moved + moved**2}[part]


ROOT, RATE = Scale.of("N", "-1/2"), Scale.of("N", -1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "part", "expected"),
    [("sgd", "init", "d^(1/2)"), ("sgd", "first", "d"), ("adam", "first", "d")],
)
@pytest.mark.parametrize("dim", ["d", "N"])
def test_raw_scores(optimizer, part, expected, dim):
    """Raw logits q·k: d^(1/2) at initialisation, d once W_q has moved along k; no power of N at a rate 1/N."""
    scalings = {name: WeightScaling(ROOT, ONE, RATE) for name in ("W_q", "W_k")}
    sizes = trained(score(), optimizer, scalings)[() if part == "init" else ("W_q",)]
    assert {str(s) for s in sizes} == {expected}
    base = {"N": 8, "d": 64} if dim == "d" else {"N": 64, "d": 8}
    agrees(sizes, lambda rng, N, d: score_experiment(rng, N, d, optimizer, part), base, {dim: 1}, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "expected"), [("first", "d^(1/2)"), ("total", "d")], ids=["degree-1", "total"]
)
def test_degrees_of_an_update(part, expected):
    """The square of logits with 1/√d under Adam: degree 1 in ΔW_q moves it by d^(1/2), degree 2 by d, and outgrows it."""
    scalings = {
        "W_q": WeightScaling(ROOT, ONE, RATE),
        "W_k": WeightScaling(ROOT * Scale.of("d", "-1/2"), ONE, RATE),
    }
    found = trained(score(2), "adam", scalings)
    assert found[()] == {ONE}
    agrees(
        {Scale.of("d", 1 if part == "total" else "1/2")},
        lambda rng, N, d: score_experiment(rng, N, d, "adam", part, 2, -0.5),
        {"N": 8, "d": 64},
        {"d": 1},
        4,
    )
    sizes = found[("W_q",)] if part == "first" else set().union(*(found[tag] for tag in found if set(tag) == {"W_q"}))
    assert str(max(sizes, key=lambda s: s.power("d"))) == expected


# ---------------------------------------------------------------------- shared weights under SGD


def recurrence_experiment(rng, N, rate):
    """By how much one step on W moves h₃ in h_{t+1} = tanh(W h_t), with a readout of entries 1/N."""
    W, x, readout = draw(rng, N)
    h = [x]
    for _ in range(3):
        h.append(np.tanh(times(W, h[-1])))
    g, factors = readout / N, []
    for t in (3, 2, 1):
        g = g * (1 - h[t] ** 2)
        factors.append((g, h[t - 1]))
        g = np.einsum("smn,sm->sn", W, g)
    new = x
    for _ in range(3):
        step = sum(d * inner(before, new)[:, None] for d, before in factors)
        new = np.tanh(times(W, new) - rate * step)
    return rms(new - h[3])


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "expected"), [("0", "1"), ("-1/2", "N^(-1/2)")])
def test_a_shared_weight_under_sgd(rate, expected):
    """Three uses of one W under mup: every update is as aligned with later inputs as they are alike, so h moves by 1."""
    p = Program("recurrent", dims=("N",), fixed={"out": 1})
    h, W = p.input("x", "N"), p.weight("W", "N N'")
    for _ in range(3):
        h = tanh(matmul(W, h))
    f = matmul(p.weight("W_out", "out N"), h)
    scalings = {
        "W": WeightScaling(ROOT, ONE, Scale.of("N", rate)),
        "W_out": WeightScaling(Scale.of("N", -1), ONE, Scale.of("N", -1)),
    }
    sizes = trained(f, "sgd", scalings, of=h)["W",]
    assert {str(s) for s in sizes} == {expected}
    agrees(sizes, lambda rng, N: recurrence_experiment(rng, N, 0.2 * N ** float(F(rate))), {"N": 32}, {"N": 1})


# ---------------------------------------------------------------------- W10: cost


def largest_sums(model: str, optimizer: str, **options: object) -> tuple[int, int]:
    """The most terms of any operation: at initialisation, and of one tag after a step."""
    found = interpret(resolve(model, optimizer=optimizer, options=options), Regime())
    init = max(len(v.terms) for v in found.values if v is not None)
    tags = ([t.tag for t in v.terms] for v in found.updated if v is not None)
    return init, max(each.count(tag) for each in tags for tag in each)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_terms_do_not_grow_with_depth(activation, optimizer):
    """Ten layers have as many terms per operation and tag as four: what can never lead is dropped on the way."""
    four, ten = (largest_sums("mlp", optimizer, depth=depth, activation=activation) for depth in (4, 10))
    assert ten == four
    assert max(four) <= 8


def test_terms_of_a_selective_layer_stay_few():
    """Selection multiplies several sums of terms; at most a few dozen stay of any tag, none of them cut."""
    assert max(largest_sums("s6", "sgd")) <= 80


def test_terms_of_heads_and_their_size_stay_few():
    """Matrices between heads × size, with biases: W a + W b stays one term, and scores have one (they had four, of 144)."""
    p = Program("attention", dims=("H", "D"), fixed={"in": 8, "time": 3, "time'": 3})
    x = matmul(p.weight("W_in", "H D in"), p.input("x", "time in")) + p.weight("b_in", "H D")
    h = p.record("rename", (x,), ("H'", "D'", "time"), names={"H": "H'", "D": "D'"})
    q, k, v = (p.record("matmul", (p.weight(f"W_{n}", "H D H' D'"), h), ("H", "D", "time"), over=("H'", "D'")) for n in "qkv")
    k, v = (p.record("rename", (t,), ("H", "D", "time'"), names={"time": "time'"}) for t in (k, v))
    scores = dot(q, k, "D") * p.index("1/√D", "", sp.Integer(1), Scale.of("D", F(-1, 2)))
    s = p.record("softmax", (scores,), scores.axes, over="time'")
    y = p.record("contraction", (s, v), ("H", "D", "time"), over=("time'",))
    p.end(p.feature("f", p.record("contraction", (p.weight("W_out", "H D"), y), ("time",), over=("H", "D"))))
    record_backward(p, start(p.tensor(p.features["f"]), "linear"))
    fan_in = Scale({"H": F(-1, 2), "D": F(-1, 2)})
    scalings = {name: WeightScaling(fan_in if len(w.axes) == 4 else ONE, ONE, ONE) for name, w in p.weights.items()}
    model = Model("attention", p, "", scalings, "adam", find("optimizer", "adam").make(), "linear", {})
    found = all_passes(model, FREE)
    assert len(found.values[p.gradients[x.index]].terms) <= 6
