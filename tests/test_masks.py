"""Entries that are exactly zero, and leading terms that do not lead everywhere (hard case W5), derived and measured."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from cases import F, agrees, derived, dot, normal, relu, rms, total

from scalecalc.asymptotics import OneVariable, n
from scalecalc.expand import expand
from scalecalc.program import Program, Tensor
from scalecalc.rule import registry
from scalecalc.rules.elementwise import sign
from scalecalc.rules.reduction import rename
from scalecalc.scale import Regime, Scale
from scalecalc.term import Profile, Term, atom, pattern
from scalecalc.value import Algebra, Value

N, ROOT = Scale.of("N"), Scale.of("N", "1/2")


def vectors(*names: str) -> list[Tensor]:
    p = Program("vectors", dims=("N",))
    return [p.input(name, "N") for name in names]


# ---------------------------------------------------------------------- exact zeros


def promoted(rng: np.random.Generator, N: int, own: bool) -> np.ndarray:
    """Σ sign(relu z + v/N)·v, or with relu′(z) v/N, which is zero where relu z is."""
    z, v = normal(rng, 2, 400, N)
    small = v * (z > 0) if own else v
    return (np.sign(np.maximum(z, 0) + small / N) * v).sum(1)


@pytest.mark.slow
@pytest.mark.parametrize(("own", "expected"), [(False, N), (True, ROOT)], ids=["another's zeros", "its own zeros"])
def test_exact_zeros_promote_the_next_term(own: bool, expected: Scale) -> None:
    """sign(relu z + v/N) is sign v where relu z is zero, unless v is zero there, too."""
    (z,) = vectors("z")
    v = z.program.weight("v", "N")
    small = v * z.program.record("relu", (z,), z.axes, order=1) if own else v
    out = sign(relu(z) + small)
    sizes = derived(dot(out, v, "N"), {"v": Scale.of("N", -1)})
    assert sizes == {expected / N}
    agrees({s * N for s in sizes}, lambda rng, N: promoted(rng, N, own), {"N": 256}, {"N": 1})


def test_a_mask_goes_where_its_function_is_zero() -> None:
    """relu and its derivative vanish at the same entries; a product with either does; exp of them does not; a sum ends it."""
    algebra = Algebra()
    x = Value(("N",), (Term(Scale.one(), pattern((), [atom("x", ["N"])])),))
    rule = registry("rule")["relu"]
    first, slope = (expand(OneVariable(rule.derivative(k)), ("N",), [x], algebra) for k in (0, 1))
    (where,) = {m for t in first.terms for m in t.pattern.masks}
    assert {m for t in slope.terms for m in t.pattern.masks} == {where}
    assert {t.pattern.masks for t in algebra.multiply(("N",), first, slope).terms} == {frozenset({where})}
    raised = expand(OneVariable(registry("rule")["exp"].derivative(0)), ("N",), [first], algebra)
    assert {t.pattern.masks for t in raised.terms} == {frozenset()}
    assert {t.pattern.masks for t in algebra.sum(first, "N").terms} == {frozenset()}
    (moved,) = {m for t in algebra.rename(first, {"N": "N'"}).terms for m in t.pattern.masks}
    assert moved.labels == {"N'"}


# ---------------------------------------------------------------------- saturated functions


def saturated(rng: np.random.Generator, N: int, what: str) -> np.ndarray:
    z, w = normal(rng, 2, 400, N)
    slope = 1 / np.cosh(np.minimum(np.abs(z) * N**0.5, 30)) ** 2
    if what == "rms":
        return rms(slope)
    return {"mean": slope, "noise": w * slope, "square": slope**2}[what].sum(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "expected"), [("rms", "-1/4"), ("mean", "1/2"), ("noise", "1/4"), ("square", "1/2")]
)
def test_the_slope_of_a_saturated_function(what: str, expected: str) -> None:
    """tanh′ at arguments of size N^(1/2): of order one at a share N^(−1/2) of the entries, and nothing elsewhere."""
    (w,) = vectors("w")
    z = w.program.weight("z", "N")
    slope = w.program.record("tanh", (z,), z.axes, order=1)
    out = {
        "rms": slope,
        "mean": total(slope, ["N"]),
        "noise": dot(slope, w, "N"),
        "square": dot(slope, slope, "N"),
    }[what]
    sizes = derived(out, {"z": ROOT})
    assert sizes == {Scale.of("N", expected)}
    agrees(sizes, lambda rng, N: saturated(rng, N, what), {"N": 1024}, {"N": 1})


# ---------------------------------------------------------------------- Adam


def experts(rng: np.random.Generator, E: int, N: int) -> np.ndarray:
    """sign(Σ_e dh_e x_e)·x_1, root-mean-square over eight rows of the matrix."""
    seeds = max(100, min(1000, 2**24 // (E * N)))
    dh, x = normal(rng, seeds, 8, E), normal(rng, seeds, E, N)
    return rms(np.einsum("smn,sn->sm", np.sign(np.einsum("sme,sen->smn", dh, x)), x[:, 0]))


@pytest.mark.slow
@pytest.mark.parametrize("rates", [{"E": 1.0, "N": 1.0}, {"E": 0.5, "N": 1.0}, {"E": 1.0, "N": 0.5}], ids=str)
def test_adam_divides_the_sum_not_each_part(rates: dict[str, float]) -> None:
    """A gradient that is a sum over experts: one expert's input is aligned with it by E^(−1/2), not by 1."""
    p = Program("experts", dims=("E", "M", "N"))
    dh, x = p.input("dh", "E M"), p.input("x", "E N")
    sizes = derived(dot(sign(dot(dh, x, "E")), rename(x, {"E": "E'"}), "N"))
    assert sizes == {N * Scale.of("E", "-1/2"), ROOT}
    agrees(sizes, experts, {"E": 16, "N": 64} if rates["N"] == 1 else {"E": 512, "N": 16}, rates, 4)


def crossing(rng: np.random.Generator, N: int) -> np.ndarray:
    """Σ_n sign(a_n n^(−2) + b_n/N) a_n: a leads up to the index N^(1/2)."""
    a, b = normal(rng, 2, 400, N)
    return (np.sign(a / np.arange(1.0, N + 1) ** 2 + b / N) * a).sum(1)


@pytest.mark.slow
def test_leads_at_different_indices_lead_in_windows() -> None:
    """sign(a_n n^(−2) + b_n/N)·a summed is N^(1/2): a leads up to n = N^(1/2), b from there on."""
    p = Program("crossing", dims=("N",))
    a, small = p.input("a", "N"), p.weight("b", "N")
    moved = sign(a * p.index("f", "N", 1 / (n + 1) ** sp.Integer(2)) + small)
    sizes = derived(dot(moved, a, "N"), {"b": Scale.of("N", -1)})
    assert sizes == {ROOT}
    agrees(sizes, crossing, {"N": 4096}, {"N": 1})


def test_where_the_regime_does_not_say_which_leads_it_is_a_bound_that_is_said() -> None:
    """b/M beside a n^(−2): it leads from n = M^(1/2) on, which may be beyond N or not."""
    steep = Term(Scale.one(), pattern([("N", Profile(F(2)))], [atom("a", ["N"])]))
    value = Value(("N",), (steep, Term(Scale.of("M", -1), pattern((), [atom("b", ["N"])]))))
    f = OneVariable(registry("rule")["sign"].derivative(0))
    found = expand(f, ("N",), [value], Algebra(at="here"))
    assert found.terms
    assert all("an upper bound" in t.why.assumption for t in found.terms)
    known = expand(f, ("N",), [value], Algebra(Regime.parse("N=M^1/4"), at="here"))
    assert not any(t.why.assumption for t in known.terms)
    assert all(a.tensor == "a" for t in known.terms if t.size is Scale.one() for a in t.pattern.odd)
