"""Transitions: their profiles under every discretization, against numbers; s6 with each; one of a user's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import scalecalc as sc
from scalecalc import rule as rules
from scalecalc import rulebook
from scalecalc.asymptotics import N, OneVariable, U, V, n, profile_of
from scalecalc.derive import notes, resolve
from scalecalc.errors import InputError, UnknownName, UnsupportedScale
from scalecalc.expand import expand
from scalecalc.indexed import Indexed, Part, angle, localized
from scalecalc.interpreter import harmonics, run
from scalecalc.profile import Profile
from scalecalc.program import Program
from scalecalc.rows import assumptions
from scalecalc.rule import find, registry
from scalecalc.scale import FREE, Scale
from scalecalc.term import Limits, Term, atom, pattern
from scalecalc.testing import assert_agrees
from scalecalc.value import Algebra, Value

rulebook.load()
discretization = import_module("scalecalc.rules.discretization")
transition = import_module("scalecalc.rules.transition")
conjugate = import_module("scalecalc.rules.complex").conjugate
recurrence = import_module("scalecalc.rules.recurrence").recurrence
DELTA, A = discretization.Delta, discretization.A
STEP = 0.7310585  # of no special value
NAMES = sorted(registry("transition"))
SCHEMES = ["zoh", "euler", "bilinear", "mamba"]


def parts(scheme: str, part: str, name: str, step: sp.Expr | None = None, power: int = 1) -> tuple[Part, ...]:
    expression = registry("rule")[scheme].parts[part] ** power
    return Indexed(expression, (DELTA, A), (step, registry("transition")[name].expression), "S").parts


def values(name: str, width: int, seed: int = 0) -> np.ndarray:
    """A_n as numbers."""
    rng = np.random.default_rng(seed)
    call = sp.lambdify((n, N, U, V), registry("transition")[name].expression, "numpy")
    index = np.arange(width, dtype=float)
    return call(index, width, rng.random(width), rng.random(width)) + 0 * index


def discretized(scheme: str, part: str, a: np.ndarray, step: float = STEP) -> np.ndarray:
    call = sp.lambdify((DELTA, A), registry("rule")[scheme].parts[part], "numpy")
    return call(step, a) + 0 * a


def profile(part: Part) -> Profile:
    return profile_of(part.expression) * part.turn


def largest(scales: list[Scale]) -> Scale:
    (found,) = FREE.leading(scales)
    return found


def slope(sizes: list[float], widths: list[int]) -> float:
    return float(np.polyfit(np.log(widths), np.log(sizes), 1)[0])


def exponent(scale: Scale, widths: list[int]) -> float:
    """The slope that a derived size has at these widths, its logarithm counted."""
    sizes = [float(np.log(w)) ** float(scale.log_power("S")) * w ** float(scale.power("S")) for w in widths]
    return slope(sizes, widths)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("part", ["A", "B"])
def test_sums_of_a_discretized_transition(scheme: str, part: str, name: str) -> None:
    """Σ|f|² and |Σ f| over the states, derived from sympy's profiles, against the numbers themselves."""
    found = [profile(p) for p in parts(scheme, part, name)]
    widths = [2**k for k in range(9, 15)]
    seeds = range(16 if name == "lru" else 1)
    norms = [np.mean([np.sum(np.abs(discretized(scheme, part, values(name, w, s))) ** 2) for s in seeds]) for w in widths]
    derived = largest([p.norm("S") for p in found])
    if name == "s4d_inv" and scheme == "euler" and part == "A":
        # the states of largest |A|, N²/n at the start, outweigh the bulk: but this decay is refused as it explodes anyway
        assert derived.power("S") >= 1
        return
    assert slope(list(np.sqrt(norms)), widths) == pytest.approx(exponent(derived, widths), abs=0.06)
    sums = [
        np.sqrt(np.mean([abs(np.sum(discretized(scheme, part, values(name, w, s)))) ** 2 for s in seeds])) for w in widths
    ]
    derived = largest([p.sum("S") for p in found])
    if name == "s4d_inv" and scheme == "bilinear":
        # odd about n = N/2, where these entries are largest: what is left of the 1/n on either side cancels, below the bound
        assert slope(sums, widths) < exponent(derived, widths) + 0.12
    elif not (name == "s4d_inv" and scheme in ("zoh", "mamba")):  # a single sum over curved phases goes up and down
        assert slope(sums, widths) == pytest.approx(exponent(derived, widths), abs=0.12)


def test_curved_phases_add_up_like_random_ones() -> None:
    """Σ exp(ΔA_n) of S4D-Inv: N^(1/2), in the mean square over steps."""
    (part,) = parts("zoh", "A", "s4d_inv")
    assert part.turn.scattered
    assert str(profile(part).sum("S")) == "S^(1/2)"
    widths, steps = [2**k for k in range(12, 17, 2)], np.linspace(0.5, 1.5, 100)
    sums = [np.sqrt(np.mean([abs(np.exp(s * values("s4d_inv", w)).sum()) ** 2 for s in steps])) for w in widths]
    assert slope(sums, widths) == pytest.approx(0.5, abs=0.06)


# ---------------------------------------------------------------------- phases (hard case W7)


def test_a_growing_vector_that_turns() -> None:
    """Σ n e^(iπnΔ) ~ N: not 1, and not N²."""
    turning = Profile(Fraction(-1), phase=Fraction(1))
    assert str(turning.sum("N")) == "N"
    widths = [2**k for k in range(8, 17)]
    index = np.arange(widths[-1])
    sums = [abs((index[:w] * np.exp(1j * np.pi * index[:w] * STEP)).sum()) for w in widths]
    assert slope(sums, widths) == pytest.approx(1, abs=0.1)


def test_the_input_factor_of_s4d_lin_has_a_part_that_does_not_turn() -> None:
    """(e^(ΔA) − 1)/A: the −1/A adds up to log N, i times; its real part converges, and e^(ΔA)/A does, too."""
    found = {(bool(p.turn.phase), p.turn.imaginary): profile(p) for p in parts("zoh", "B", "s4d_lin")}
    assert {key: str(p.sum("N")) for key, p in found.items()} == {
        (True, False): "1", (False, False): "1", (False, True): "log N",
    }  # fmt: skip
    widths = [2**k for k in range(6, 19, 3)]
    sums = [discretized("zoh", "B", values("s4d_lin", w)).sum() for w in widths]
    growth = np.diff([abs(s.imag) for s in sums]) / np.diff(np.log(widths))
    assert growth == pytest.approx(np.full(len(growth), 1 / np.pi), rel=0.05)
    assert np.abs(np.diff([s.real for s in sums])).max() < 0.02


@pytest.mark.parametrize(("step", "lag", "resonant"), [("2/3", 3, True), ("2/3", 2, False), ("1", 2, True), ("1", 1, False)])
def test_resonance(step: str, lag: int, resonant: bool) -> None:
    """kΔ an even integer: the k-th power of the decay does not turn any more, and its sum is N."""
    (one,) = parts("zoh", "A", "s4d_lin", sp.Rational(step))
    power = profile(one)
    for _ in range(lag - 1):
        power = power * profile(one)
    assert str(power.sum("N")) == ("N" if resonant else "1")
    widths = [2**k for k in range(8, 15)]
    sums = [abs((discretized("zoh", "A", values("s4d_lin", w), float(Fraction(step))) ** lag).sum()) + 1 for w in widths]
    assert slope(sums, widths) == pytest.approx(1 if resonant else 0, abs=0.05)


def test_a_resonant_step_is_said() -> None:
    """S4D-Lin at Δ = 1 turns by half a turn per state: its square, which the second time step has, does not turn."""
    (note,) = (each for each in sc.derive("s6", transition="s4d_lin", step="fixed").notes if "Resonance" in each)
    assert "Δ = 1 the power 2 of the decay does not turn along N_x" in note
    for options in ({"transition": "mamba", "step": "fixed"}, {"transition": "lru", "step": "fixed"}):
        assert not any("Resonance" in each for each in sc.derive("s6", **options).notes)
    assert not any("Resonance" in each for each in notes(resolve("s6", options={"transition": "s4d_lin"})))


@pytest.mark.parametrize(
    ("name", "harmonic", "known", "size"),
    [("sign", 3, 3, "N"), ("sign", 3, 2, "N^(1/2)"), ("tanh", 3, 3, "N"), ("relu", 2, 2, "N"), ("relu", 3, 3, "N^(1/2)"),
     ("square", 2, 2, "N"), ("square", 4, 4, "N^(1/2)")],
)  # fmt: skip
def test_harmonics_of_a_function_of_what_turns(name: str, harmonic: int, known: int, size: str) -> None:
    """Σ_n φ(x_n cos θ_n) y_n cos kθ_n, y_n = x_n for odd k: N where φ(cos θ) has the k-th harmonic, else √N.

    ``known``: the highest that the program says there may be; what is not followed beyond it is the reason for that.
    """
    algebra = Algebra(limits=Limits(harmonics=known))
    own = [atom("x", ["N"])]
    cosine = [Term(Scale.one(), pattern([("N", Profile(phase=Fraction(k)))], own)) for k in (1, -1)]
    out = expand(OneVariable(registry("rule")[name].derivative(0)), ("N",), [Value(("N",), tuple(cosine))], algebra)
    odd = own if harmonic % 2 else []
    other = [Term(Scale.one(), pattern([("N", Profile(phase=Fraction(k * harmonic)))], odd)) for k in (1, -1)]
    found = algebra.sum(algebra.multiply(("N",), out, Value(("N",), tuple(other))), "N")
    if size == "N^(1/2)" and known == harmonic:
        assert largest(found.sizes()).power("N") <= Fraction(1, 2)
    else:
        assert str(largest(found.sizes())) == ("N" if known == harmonic else "1")
    widths = [2**k for k in range(8, 15)]
    function = {"sign": np.sign, "tanh": np.tanh, "relu": lambda v: np.maximum(v, 0), "square": np.square}[name]
    sums = []
    for w in widths:
        x, theta = np.random.default_rng(w).standard_normal((400, w)), np.pi * STEP * np.arange(w)
        every = function(x * np.cos(theta)) * (x if harmonic % 2 else 1) * np.cos(harmonic * theta)
        sums.append(float(np.sqrt((every.sum(1) ** 2).mean())))
    if known == harmonic:
        assert slope(sums, widths) == pytest.approx(1 if size == "N" else 0.5, abs=0.06)


def test_how_fast_anything_in_a_program_may_turn() -> None:
    """An input factor's phase, and one per lag: 2 over two time steps, 4 over many (three lags are followed)."""
    for time, most in ((2, 2), (3, 3), (9, 4)):
        p = Program("states", dims=("N",), fixed={"time": time})
        assert harmonics(p) == 1
        recurrence(p.input("a", "time N"), p.input("b", "time N"))
        assert harmonics(p) == most
    assert harmonics(resolve("s6", options={"transition": "s4d_lin"}).program) == 2


def test_steps_that_are_random_over_the_channels_are_taken_for_their_mean() -> None:
    """Σ_u exp(Δ_u A_n): N_u is derived, N_u^(1/2) true of all but the first n; the derivation says that it is a bound."""
    p = Program("states", dims=("N_u", "N_x"))
    step = import_module("scalecalc.rules.elementwise").softplus(p.input("z", "N_u"))
    decay, _ = discretization.discretize("zoh", step, transition.eigenvalues(p, "s4d_lin", "N_x"))
    out = import_module("scalecalc.rules.reduction").total(decay, ["N_u"])
    value = run(p, Algebra(), {}, [out.index])[out.index]
    assert value is not None
    bounds = [t for t in value.terms if "random there" in " ".join(assumptions(t))]
    assert {str(t.size) for t in bounds} == {"N_u"}
    widths = [2**k for k in range(6, 13)]
    sums = []
    for w in widths:
        steps = np.log1p(np.exp(np.random.default_rng(w).standard_normal((200, w))))
        sums.append(np.sqrt(np.mean([abs(np.exp(steps * (-0.5 + 1j * np.pi * n)).sum(1)) ** 2 for n in range(40, 48)])))
    assert slope(sums, widths) == pytest.approx(0.5, abs=0.06)


def test_what_lies_on_either_side_of_the_smallest_entries_is_a_bound_that_is_said() -> None:
    """S4D-Inv under the bilinear rule is odd about n = N/2: one logarithm too many (see the sums above)."""
    for name, said in (("s4d_inv", True), ("s4d_lin", False)):
        row = sc.derive("s6", transition=name, step="fixed", discretization="bilinear")["y", "init"]
        assert any("either side" in each for each in row.assumptions) == said


def test_conjugate_pairs_add_up() -> None:
    """A phase and its conjugate are flat together: Σ z conj(z) ~ N; with itself it turns twice as fast."""
    (part,) = parts("zoh", "A", "s4d_lin")
    one = profile(part)
    assert (str((one * one.conjugate).sum("N")), str((one * one).sum("N"))) == ("N", "1")


def test_a_conjugate_is_made_from_its_own_term() -> None:
    """Not from all terms of the tensor, whose steps and assumptions would then be this one's, too."""
    p = Program("pair", dims=("N",))
    z = p.input("x", "N") * p.index("A", "N", 1 + sp.I / (n + 1))
    algebra = Algebra(rule="conjugate")
    terms = tuple(Term(Scale.one(), pattern([("N", Profile(Fraction(k), phase=Fraction(k)))])) for k in (1, 2))
    out = find("rule", "conjugate").law(algebra, conjugate(z).op, ("N",), Value(("N",), terms))
    assert [t.why.parents for t in out.terms] == [(t,) for t in terms]


def test_random_phases() -> None:
    """The ring: zero mean where λ itself is summed (Δ = 1), √N; a mean for a step of no special value, N."""
    exact, generic = ([profile(p) for p in parts("zoh", "A", "lru", step)] for step in (sp.Integer(1), None))
    assert (str(largest([p.sum("N") for p in exact])), str(largest([p.sum("N") for p in generic]))) == ("N^(1/2)", "N")
    widths = [2**k for k in range(6, 13)]
    for step, power in ((1.0, 0.5), (STEP, 1.0)):
        sums = [
            np.sqrt(np.mean([abs(np.exp(step * values("lru", w, s)).sum()) ** 2 for s in range(200)])) for w in widths
        ]
        assert slope(sums, widths) == pytest.approx(power, abs=0.07)


@pytest.mark.parametrize(
    ("expression", "kind"),
    [(-(n + 1), "none"), (-1 + sp.I / (n + 1), "none"), (-1 + 2 * sp.I * n + sp.I / (n + 1), "even"),
     (-1 + sp.I * n**2, "scattered"), (-1 + sp.I * V, "scattered")],
)  # fmt: skip
def test_kinds_of_angle(expression: sp.Expr, kind: str) -> None:
    assert angle(expression)[0] == kind


def test_what_has_no_law_says_so() -> None:
    with pytest.raises(UnsupportedScale, match="turn ever slower"):
        angle(-1 + sp.I * sp.sqrt(n))
    with pytest.raises(UnsupportedScale, match="depend on the width at every index"):
        localized(-(n + 1) * N)


# ---------------------------------------------------------------------- what a user types


@pytest.mark.parametrize("text", ["-(n+1)^2", "-1/2+I*pi*n", "mamba"])
def test_a_transition_by_name_or_expression(text: str) -> None:
    assert transition.transition_of(text).has(n)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [("mambo", UnknownName, "did you mean 'mamba'"), ("n+1", InputError, "positive real part"), ("-n", InputError, "is zero"),
     ("-(n-3)^2", InputError, "is zero at n = 3"), ("-(200-n)", InputError, "is zero at n = 200"),
     ("-(200.5-n)", InputError, "positive real part 0.5 at n = 201"),
     ("-1/n", InputError, "not finite at n = 0"),
     ("-(n+", InputError, "cannot be read"), ("sin(n)", InputError, "not understood")],
)  # fmt: skip
def test_a_transition_that_is_none(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sc.derive("s6", transition=text)


FILE = """
import sympy as sp
from scalecalc.asymptotics import n
from scalecalc.rules.discretization import A, Delta, discretization
from scalecalc.rules.transition import transition

transition("mine", -sp.sqrt(n + 1), "mine")
discretization("implicit", 1 / (1 - Delta * A), Delta / (1 - Delta * A), "implicit Euler method")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    modules, known = set(sys.modules), {kind: dict(registry(kind)) for kind in rules.KINDS}
    schemes = list(discretization.SCHEMES)
    (tmp_path / "mine.py").write_text(FILE)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if name.startswith("scalecalc_rules_"):
            del sys.modules[name]
    rulebook._loaded.discard(tmp_path.resolve())
    discretization.SCHEMES[:] = schemes
    for kind, entries in known.items():
        rules._REGISTRY[kind].clear()
        rules._REGISTRY[kind].update(entries)


def test_a_users_file_adds_both(folder: Path) -> None:
    """1/(1 + Δ√n) falls like n^(−1/2): Σ f² ~ log N_x."""
    rulebook.load(folder)
    row = sc.derive("s6", transition="mine", discretization="implicit")["y", "init"]
    assert row.formula() == "(log N_x)^(1/2)"
    assert registry("transition")["mine"].words == "A_n = -sqrt(n + 1)"


# ---------------------------------------------------------------------- s6


@pytest.mark.parametrize("name", ["mamba", "s4d_real", "s4d_lin", "s4d_inv"])
def test_euler_explodes_with_a_growing_transition(name: str) -> None:
    with pytest.raises(UnsupportedScale, match="it explodes"):
        sc.derive("s6", transition=name, discretization="euler", step="fixed")


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"transition": "constant", "discretization": "euler"}, "N_x^(1/2)"),
        ({"transition": "constant"}, "N_x^(1/2)"),
        ({"transition": "s4d_lin", "step": "fixed"}, "1"),
        ({"transition": "s4d_lin", "step": "fixed", "discretization": "mamba"}, "N_x^(1/2)"),
        ({"transition": "s4d_inv", "step": "fixed"}, "1"),
        ({"transition": "lru", "step": "fixed"}, "N_x^(1/2)"),
        ({"transition": "-(n+1)^(1/4)", "step": "fixed"}, "N_x^(1/4)"),
        ({"transition": "-(n+1)^2", "step": "low_rank"}, "1"),
    ],
)
def test_y_at_initialisation(options: dict[str, str], size: str) -> None:
    """(Σ |B̄_n|²)^(1/2), by the profile of the input factor alone."""
    assert sc.derive("s6", **options)["y", "init"].formula() == size


@pytest.mark.parametrize("options", [{"gate": True}, {"residual": True}, {"skip": True, "gate": True}, {"step": "mamba"}])
def test_options_change_no_size_of_the_states(options: dict[str, object]) -> None:
    table = sc.derive("s6", **options)
    assert (table["h", "init"].formula(), table["y", "init"].formula()) == ("1", "1")
    assert ("z" in {row.row for row in table}) == bool(options.get("gate"))


VARIANTS = [
    {"discretization": "bilinear"},
    {"discretization": "mamba", "transition": "s4d_lin", "step": "fixed"},
    {"transition": "constant", "discretization": "euler"},
    {"transition": "s4d_lin", "step": "fixed", "gate": True},
    {"transition": "s4d_inv", "step": "fixed", "residual": True},
    {"transition": "lru", "step": "fixed"},
    {"transition": "-(n+1)^2", "step": "low_rank", "skip": True},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: ",".join(f"{k}={v}" for k, v in o.items()))
def test_variants_agree_with_what_is_measured(options: dict[str, object]) -> None:
    """No row disagrees, at a number of seeds that leaves no slope free."""
    table = sc.verify("s6", dims={"N_u": [32, 64, 128], "N_x": [16, 40, 100]}, seeds=128, **options)
    assert_agrees(table)
    assert table.counts()["agrees"] >= 5


def test_half_turns_keep_real_numbers_real() -> None:
    """Δ = 1: S4D-Lin's e^(iπn) is a sign, so that Re B̄ falls like 1/n² and Σ |Re B̄| converges; at other Δ it is log N.

    Under Adam that sum is what the update of W_B makes of y.
    """
    half, generic = (
        [profile(p) for p in parts("zoh", "B", "s4d_lin", step) if not (p.turn.straight and p.turn.imaginary)]
        for step in (sp.Integer(1), sp.Rational(7, 10))
    )
    assert {str(p.modulus.sum("N")) for p in half} == {"1"}
    assert largest([p.modulus.sum("N") for p in generic]) == Scale.log("N")
    widths = [2**k for k in range(6, 19, 3)]
    for step, rate in ((1.0, 0.0), (0.7, 2 / np.pi**2 * np.exp(-0.35))):
        sums = [np.abs(discretized("zoh", "B", values("s4d_lin", w), step).real).sum() for w in widths]
        assert np.diff(sums)[1:] / np.diff(np.log(widths))[1:] == pytest.approx(np.full(len(widths) - 2, rate), abs=0.01)
    table = sc.derive("s6", transition="s4d_lin", step="fixed", optimizer="adam")
    assert table["y", "update", "W_B"].formula() == "1"
