"""Means that are removed exactly (hard case W4): norms, LayerNorm and softmax, derived and measured."""

from __future__ import annotations

from importlib import import_module
from itertools import combinations

import numpy as np
import pytest
import sympy as sp
from cases import ONE, agrees, derived, dot, matmul, normal, relu, rms, start, total, trained

from scalecalc.backward import record_backward
from scalecalc.derive import Model, interpret, table_of
from scalecalc.parameterization import assign
from scalecalc.program import Program, Tensor
from scalecalc.rule import find
from scalecalc.scale import FREE, Scale
from scalecalc.table import WeightScaling
from scalecalc.term import Step, Term, atom, fluctuation, fluctuations, pattern, simplify
from scalecalc.value import Algebra, Value

norm = import_module("scalecalc.rules.norm")
softmax = import_module("scalecalc.rules.softmax").softmax
N, M, E = (Scale.of(dim) for dim in "NME")


def two() -> tuple[Tensor, Tensor]:
    p = Program("two", dims=("N",))
    return p.input("z", "N"), p.input("other", "N")


def layernorm(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(1, keepdims=True))


@pytest.mark.slow
@pytest.mark.parametrize(("alike", "expected"), [(False, "N^(1/2)"), (True, "N")])
def test_layernorm_keeps_what_varies(alike: bool, expected: str) -> None:
    """⟨LN(relu z), relu z′⟩: relu has a mean, LN removes it; what is left is aligned with its own z only."""
    z, other = two()
    sizes = derived(dot(norm.layernorm(relu(z), "N"), relu(z if alike else other), "N"))
    assert {str(s) for s in sizes} == {expected}

    def measure(rng: np.random.Generator, N: int) -> np.ndarray:
        a, b = np.maximum(normal(rng, 2, 400, N), 0)
        return (layernorm(a) * (a if alike else b)).sum(1)

    agrees(sizes, measure, {"N": 64}, {"N": 1})


def test_without_a_norm_the_means_meet() -> None:
    """⟨relu z, relu z′⟩ is N: what LayerNorm takes away."""
    z, other = two()
    assert derived(dot(relu(z), relu(other), "N")) == {N}


@pytest.mark.parametrize("make", [norm.centre, norm.layernorm])
def test_what_is_centred_sums_to_zero(make) -> None:
    """Exactly zero, also against what is constant along the axis."""
    z, _ = two()
    assert derived(total(make(relu(z), "N"), ["N"])) == set()
    assert derived(dot(make(relu(z), "N"), z.program.input("scalar", ""), "N")) == set()


def test_the_gradient_behind_a_norm_is_orthogonal_to_its_input() -> None:
    """RMSNorm with y = norm(u): ⟨du, u⟩ is 0, not a central-limit sum."""
    p = Program("norm", dims=("N",))
    u = p.input("u", "N")
    out = norm.rmsnorm(u, "N")
    back = p.record("rmsnorm_backward", (u, p.input("g", "N")), ("N",), over="N")
    assert derived(dot(back, u, "N")) == set()
    assert derived(dot(back, p.input("other", "N"), "N")) != set()
    assert derived(dot(out, u, "N")) == {N}


def mixture() -> Tensor:
    """Soft mixture of experts relu(v_e), a router on h, one output: tags of the router alone."""
    p = Program("mixture", dims=("N", "M", "E"))
    h, v = p.input("h", "N"), p.input("v", "E M")
    p.feature("y", dot(softmax(matmul(p.weight("W_r", "E N"), h), "E"), relu(v), "E"))
    return dot(p.input("c", "M"), p.tensor(p.features["y"]), "M")


def routed(rng: np.random.Generator, M: int, E: int) -> np.ndarray:
    """Root-mean-square of the first order of y in a sign step of the router (of its logits: rate 1/N)."""
    seeds = 100
    v, s, c = np.maximum(normal(rng, seeds, E, M), 0), normal(rng, seeds, E), normal(rng, seeds, M)
    p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    g = np.einsum("sm,sem->se", c, v)
    step = np.sign(p * (g - (p * g).sum(1, keepdims=True)))
    moved = p * (step - (p * step).sum(1, keepdims=True))
    return rms(np.einsum("se,sem->sm", moved, v))


@pytest.mark.slow
@pytest.mark.parametrize("rates", [{"E": 1.0, "M": 1.0}, {"E": 1.0, "M": 0.5}, {"E": 0.5, "M": 1.0}], ids=str)
def test_a_router_moves_what_differs_between_experts(rates: dict[str, float]) -> None:
    """Adam on the router: the softmax takes away what all experts have in common; max(E^(−1/2), M^(−1/2)) is left, not 1."""
    scalings = {"W_r": WeightScaling(Scale.of("N", "-1/2"), ONE, ONE / N)}
    out = mixture()
    program = out.program
    y = program.tensor(program.features.pop("y"))
    sizes = trained(out, "adam", scalings, of=y)["W_r",]
    assert sizes == {Scale.of("E", "-1/2"), Scale.of("M", "-1/2")}
    agrees(sizes, lambda rng, E, M: routed(rng, M, E), {"E": 32, "M": 32}, rates, 4)


def test_logits_in_common_are_without_effect() -> None:
    """A change that all logits share changes nothing, exactly."""
    p = Program("softmax", dims=("E",))
    s = p.input("s", "E")
    shared = p.weight("δ", "")
    assert derived(softmax(s + shared, "E"), tag=("δ",)) == set()
    own = p.weight("η", "E")
    assert derived(softmax(s + own, "E")) == {ONE / E}


def test_corrections_never_cost_a_leading_term() -> None:
    """Behind a LayerNorm, with a random bias: kept corrections make many terms, of which none that may lead is left out."""
    gelu = import_module("scalecalc.rules.elementwise").activation("gelu")
    p = Program("biased", dims=("N",), fixed={"batch": 4, "in": 8, "out": 4})
    x = matmul(p.weight("W_in", "N in"), p.input("x", "batch in"))
    h = norm.layernorm(x, "N") + p.weight("beta", "N", init=sp.Integer(0))
    up = matmul(p.weight("W_up", "N N'"), h) + p.weight("b_up", "N")
    down = matmul(p.weight("W_down", "N N'"), gelu(up))
    p.end(p.feature("f", matmul(p.weight("W_out", "out N"), down)))
    record_backward(p, start(p.tensor(p.features["f"]), "linear"))
    scalings = assign(find("parameterization", "mup").make, p.weights, "adam")
    model = Model("biased", p, "mup", scalings, "adam", find("optimizer", "adam").make(), "linear", {})
    tables = [table_of(interpret(model, FREE, corrections=kept)) for kept in (False, True)]
    assert {str(t["f", "update", "beta"].theta) for t in tables} == {"1"}
    assert {r.key: r.terms for r in tables[0]} == {r.key: r.terms for r in tables[1]}


@pytest.mark.parametrize(("count", "left_out"), [(2, False), (7, True)])
def test_few_entries_are_divided_by_their_mean(count: int, left_out: bool) -> None:
    """Over a few samples, of many leading terms: products of two of them in the mean square are left out, and it is said."""
    p = Program("few", dims=("N",), fixed={"batch": 4})
    y = norm.rmsnorm(p.input("x", "batch N"), "batch")
    leads = [Term(ONE, pattern((), [atom(f"x {k}", ("N",))])) for k in range(count)]
    found = norm.RMSNorm().law(Algebra(), y.op, ("N",), Value(("N",), tuple(leads)))
    odd = {len(t.pattern.odd) for t in found.terms}
    assert odd == {1}  # of two, x (x y) is y
    assert any("few entries" in words for t in found.terms for words in _assumed(t)) == left_out


@pytest.mark.parametrize(("count", "left_out"), [(4, False), (9, True)])
def test_what_fluctuates_in_two_squares_at_once(count: int, left_out: bool) -> None:
    """(1 + f)(1 + g) with many squares: beside f and g their product is left out, alone it stays, and it is said."""
    squares = [fluctuation(atom(f"W {k}", ("N",))) for k in range(8)]
    few = [subset for size in range(3) for subset in combinations(squares, size)]
    why = Step("test", "by hand")
    own = [Term(ONE, pattern((), [atom(f"x {k}", ("N",)), *f]), (), why) for k in range(count) for f in few]
    alone = Term(ONE, pattern((), squares[:2]), (), why)
    kept = simplify([*own, alone])
    twice = [t for t in kept if len(fluctuations(t.pattern)) == 2]
    assert len(twice) == (1 if left_out else 1 + 28 * count)
    assert alone in twice
    assert len(kept) - len(twice) == 9 * count
    assert {bool(t.why and t.why.assumption) for t in kept} == {left_out}


def _assumed(t: Term) -> list[str]:
    return [] if t.why is None else [t.why.assumption, *(words for parent in t.why.parents for words in _assumed(parent))]
