"""Optimizers: the law of an update against its torch code, where the gradient's size decides."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from scalecalc.derive import derive, resolve
from scalecalc.errors import UnsupportedScale
from scalecalc.measure.verify import verify
from scalecalc.model import optimizer_of
from scalecalc.optimizer import Numbers, Trained
from scalecalc.parameterization import Parameterization
from scalecalc.program import Weight
from scalecalc.rule import find
from scalecalc.scale import Regime, Scale
from scalecalc.table import WeightScaling
from scalecalc.term import Profile, Term, atom, pattern
from scalecalc.value import Algebra, Value

N, ONE, HALF = Scale.of("N"), Scale.one(), Fraction(1, 2)
TAG = ("V",)


def law(name: str, gradient: Value, regime: Regime | None = None, epsilon: Scale | None = None) -> Value:
    """The law of a vector's update."""
    value = Value(("N",), (Term(ONE, pattern((), [atom("W", ("N",))])),))
    weight = Trained(Weight("W", ("N",), ONE, N, "vector"), value, WeightScaling(ONE, ONE, ONE, epsilon=epsilon))
    return find("optimizer", name).make().law(Algebra(regime or Regime()), gradient, weight)


def updates(name: str, *gradients: torch.Tensor) -> torch.Tensor:
    return find("optimizer", name).make().torch(gradients, Numbers([]))


def term(size: Scale, tensor: str, tag: tuple[str, ...] = (), power: int = 0) -> Term:
    profiles = [("N", Profile(Fraction(power)))] if power else []
    return Term(size, pattern(profiles, [atom(tensor, ("N",))]), tag)


def sizes(value: Value, tag: tuple[str, ...] = ()) -> set[Scale]:
    return set(Regime().leading(t.size for t in value.terms if t.tag == tag))


def slope(measure: object) -> float:
    widths = np.array([2.0**k for k in range(8, 17, 2)])
    return float(np.polyfit(np.log(widths), [np.log(measure(int(n))) for n in widths], 1)[0])  # type: ignore[operator]


@pytest.mark.parametrize(
    ("gain", "expected"), [(N**-HALF, N**-HALF), (ONE, ONE), (N**HALF, ONE)], ids=["smaller", "alike", "larger"]
)
def test_adam_divides_a_gain_by_the_first_gradient_until_it_takes_over(gain: Scale, expected: Scale) -> None:
    """A gain along δ changes the second update along δ by min(1, gain/g): derived, and by torch's two steps."""
    first = N**-1
    value = Value(("N",), (term(first, "g"), term(first * gain, "δ", TAG)))
    out = law("adam", value)
    assert sizes(out) == {ONE}
    assert sizes(out, TAG) == {expected}
    assert all({a.tensor for a in t.pattern.odd} == {"δ"} for t in out.terms if t.tag == TAG)

    def along(n: int) -> float:
        g, delta = torch.randn(2, 400, 4096, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) / n
        later = g + gain.at({"N": n}) * delta
        both = updates("adam", g, later), updates("adam", g, g)
        return float(((both[0] - both[1]) * delta * n).mean().abs())

    # the mean of |δ/g| over entries diverges logarithmically: a little less than a power where the gain is smaller
    assert abs(slope(along) - float(expected.power("N"))) < 0.12


def test_a_gain_that_takes_over_along_the_index() -> None:
    """g falls like 1/n and the gain is flat: smaller at first, larger at the last of N entries."""
    for size, expected in ((N ** -Fraction(3, 2), N ** -Fraction(3, 2)), (N**-HALF, ONE)):
        value = Value(("N",), (term(ONE, "g", power=1), term(size, "δ", TAG)))
        out = law("adam", value)
        assert sizes(out, TAG) == {expected}


@pytest.mark.parametrize("size", [N**-1, ONE, N], ids=str)
def test_an_epsilon_of_order_one_makes_an_sgd_of_adam(size: Scale) -> None:
    expected = size if size <= ONE else ONE
    out = law("adam_eps", Value(("N",), (term(size, "g"),)))
    assert sizes(out) == {expected}

    def entry(n: int) -> float:
        g = torch.randn(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) * size.at({"N": n})
        return float(updates("adam_eps", g).abs().mean())

    assert abs(slope(entry) - float(expected.power("N"))) < 0.05


def test_a_gradient_that_falls_below_epsilon_along_an_axis() -> None:
    """g = N/n²: a sign up to n = N^(1/2), an SGD's from there on; Σ_n g/(|g| + ε) is N^(1/2), and so is Σ g from there."""
    falling = Term(N, pattern([("N", Profile(Fraction(2)))]))
    algebra = Algebra()
    out = law("adam_eps", Value(("N",), (falling,)))
    assert sorted((t.size, t.pattern.profile("N").words()) for t in out.terms if t.size is ONE) == [
        (ONE, "flat, up to n = N^(1/2)")
    ]
    assert [t.pattern.profile("N").words() for t in out.terms if t.size is N] == ["n^(-2), from n = N^(1/2) on"]
    assert sizes(algebra.sum(out, "N")) == {N**HALF}

    def summed(n: int) -> float:
        g = n / torch.arange(1, n + 1, dtype=torch.float64) ** 2
        return float(updates("adam_eps", g).sum())

    assert abs(slope(summed) - 0.5) < 0.02


def test_a_gradient_on_both_sides_of_epsilon_is_an_error_that_says_what_to_do() -> None:
    mixed = Value(("N", "M"), (Term(N * Scale.of("M", -1), pattern((), [atom("g", ("N", "M"))])),))
    with pytest.raises(UnsupportedScale, match="--regime that says how the widths grow"):
        law("adam_eps", mixed)
    assert sizes(law("adam_eps", mixed, Regime.parse("N>M"))) == {ONE}
    curved = pattern([("N", Profile(Fraction(1))), ("M", Profile(Fraction(1)))], [atom("g", ("N", "M"))])
    with pytest.raises(UnsupportedScale, match="below it for others"):  # on either side of the curve n m = N
        law("adam_eps", Value(("N", "M"), (Term(N, curved),)), Regime.parse("proportional"))


@pytest.mark.slow
def test_selection_under_a_fixed_epsilon() -> None:
    """s6 with a readout so large that dB, which falls like 1/n, passes ε at n = N_x^(1/2): derived and measured."""
    usual = resolve("s6", parameterization="mup_ssm", optimizer="adam_eps", fix={"N_u": 8})
    scalings = dict(usual.scalings)
    scalings["W_out"] = replace(scalings["W_out"], init=Scale.of("N_x"))
    large = Parameterization("large readout", "adam_eps", usual.program.dims, scalings)
    table = verify("s6", parameterization=large, fix={"N_u": 8}, dims={"N_x": [64, 256, 1024, 4096]}, budget=20)
    moved = table["B", "update", "W_B"]
    assert moved.formula() == "N_x^(1/4)"  # N_x^(1/2) for a sign everywhere, 1 for an SGD above ε, too
    assert "up to n = N_x^(1/2)" in moved.profile
    for row in ("B", "h"):
        assert table[row, "update", "W_B"].verdict == "agrees"
    assert table.counts()["disagrees"] == 0


def test_mup_rates_for_adam_are_lazy_with_an_epsilon_of_order_one() -> None:
    """Hidden gradients are 1/N, far below ε; the readout's are of its order.  At rate 1/N an SGD moves features by 1/N."""
    scaled, fixed = (derive("mlp", parameterization="mup", optimizer=name) for name in ("adam", "adam_eps"))
    assert set(scaled["h2", "update", "W_2"].terms) == {ONE}
    assert set(fixed["h2", "update", "W_2"].terms) == {N**-1}
    assert fixed["h2", "update", "W_2"].klass == "lazy"
    assert set(fixed["f", "update", "W_out"].terms) == {ONE}


# ---------------------------------------------------------------- matrices

M = Scale.of("M")


def matrix_law(name: str, *terms: Term, margin: Scale = ONE) -> Value:
    """The law of an N × M matrix whose entries are of size 1/M; ``margin``: how far below what leads terms are kept."""
    labels = ("N", "M")
    value = Value(labels, (Term(M**-1, pattern((), [atom("W", labels)])),))
    weight = Trained(Weight("W", labels, M, N, "hidden"), value, WeightScaling(ONE, ONE, ONE))
    return optimizer_of(name).law(Algebra(margin=margin), Value(labels, terms), weight)


def pair(size: Scale, d: str = "d", x: str = "x", tag: tuple[str, ...] = (), power: int = 0) -> Term:
    """A factor pair d ⊗ x; d falls like index^(−power)."""
    profiles = [("N", Profile(Fraction(power)))] if power else []
    return Term(size, pattern(profiles, [atom(d, ("N",)), atom(x, ("M",))]), tag)


def drawn(n: int, d: int = 0, x: int = 1, power: int = 0) -> torch.Tensor:
    """The same in numbers, four pairs (samples) of each; ``d`` and ``x`` tell vectors apart."""
    left, right = (
        torch.randn(8, n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1000 * n + k)) for k in (d, x)
    )
    return (left / torch.arange(1, n + 1, dtype=torch.float64)[:, None] ** power) @ right.mT


def rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())


def matrix_slope(measure: object, widths: tuple[int, ...] = (32, 64, 128)) -> float:
    """Along N = M."""
    return float(np.polyfit(np.log(widths), [np.log(measure(n)) for n in widths], 1)[0])  # type: ignore[operator]


def proportional(value: Value, tag: tuple[str, ...] = ()) -> set[Fraction]:
    """Powers along N = M of the leading root-mean-squares."""
    found = Regime.parse("proportional").leading(t.rms(value.labels) for t in value.terms if t.tag == tag)
    return {s.power("N") + s.power("M") for s in found}


@pytest.mark.parametrize("name", ["muon_spectral", "shampoo", "soap", "adafactor", "adam"])
@pytest.mark.parametrize("power", [0, 1])
def test_profiles_are_kept_by_singular_values_and_divided_out_by_entries(name: str, power: int) -> None:
    """Entry at the first index over root-mean-square: N^(1/2) where d falls like 1/n, 1 where it is flat or made so."""
    out = matrix_law(name, pair(N**-1, power=power))
    kept = power if name in ("muon_spectral", "shampoo", "soap") else 0
    assert {t.pattern.profile("N").power for t in out.terms} == {kept}
    expected = Fraction(-1) if name not in ("adam", "adafactor") else Fraction(0) if name == "adam" else Fraction(-1)
    assert proportional(out) == {expected}

    def size(n: int, first: bool = False) -> float:
        weights = torch.randn(8, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) / n
        update = find("optimizer", name).make().torch([drawn(n, power=power)], Numbers([weights]))
        return rms(update[:, :1]) / rms(update) if first else rms(update)

    assert abs(matrix_slope(size) - float(expected)) < 0.1
    assert abs(matrix_slope(lambda n: size(n, True)) - kept / 2) < 0.15


SMALLER = {  # beside a pair of size one: what is there, and which term of it is asked for
    "a pair of its own": ([pair(N**-HALF, "d2", "x2")], 2),
    "on one side": ([pair(N**-HALF, "d2", "x")], 1),
    "of second order": ([pair(N**-HALF, "d2", "x"), pair(N**-HALF, "d", "x2"), pair(N**-1, "d2", "x2")], 2),
}
STEP = 1e-4  # so small a pair that five steps of the iteration are linear in it


@pytest.mark.parametrize(
    ("name", "case", "expected"),
    [
        ("muon_spectral", "a pair of its own", Fraction(-3, 2)),
        ("muon_spectral:exact=yes", "a pair of its own", Fraction(-1)),
        ("muon_spectral", "on one side", Fraction(-3, 2)),
        ("muon_spectral:exact=yes", "on one side", Fraction(-3, 2)),
        ("muon_spectral", "of second order", Fraction(-2)),
        ("muon_spectral:exact=yes", "of second order", Fraction(-2)),
    ],
)
def test_a_smaller_pair_is_promoted_exactly_or_by_a_constant(name: str, case: str, expected: Fraction) -> None:
    """r = N^(-1/2) beside one: U Vᵀ makes singular value one of a pair of its own, five steps of the iteration a constant
    times r; what changes a pair that is there is promoted by neither.
    """
    smaller, new = SMALLER[case]
    out = matrix_law(name, pair(ONE), *smaller, margin=(N * M) ** 2)
    sides = [sum("2" in a.tensor for a in t.pattern.odd) for t in out.terms]
    terms = tuple(t for t, k in zip(out.terms, sides, strict=True) if k == new)
    assert proportional(Value(out.labels, terms)) == {expected}

    def changed(n: int) -> float:
        made, r = optimizer_of(name), STEP * n**-0.5
        rows, columns = drawn_sides(n)
        d, x, d2, x2 = rows[0], columns[0], rows[1], columns[1]
        if case == "a pair of its own":
            parts = [(d, x), (r * d2, x2)]
        else:
            parts = [(d + r * d2, x + r * x2 if case == "of second order" else x)]
        g = sum(a @ b.mT for a, b in parts)
        update = made.torch([g], Numbers([]))
        if case == "of second order":  # what is along δd and δx, orthogonal to all else
            q, p = (torch.linalg.qr(torch.cat(both, 2)).Q[:, :, both[0].shape[2] :] for both in ((d, d2), (x, x2)))
            return rms(q @ (q.mT @ update @ p) @ p.mT)
        return rms(update - made.torch([d @ x.mT], Numbers([])))

    assert abs(matrix_slope(changed) - float(expected)) < 0.15


def drawn_sides(n: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two sets of four vectors of rows and of columns."""
    a, b, c, e = (
        torch.randn(8, n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1000 * n + k)) for k in range(4)
    )
    return [a, b], [c, e]


@pytest.mark.parametrize("name", ["muon", "muon_rms", "muon_spectral"])
def test_five_steps_and_exact_differ_by_a_constant_where_nothing_is_smaller(name: str) -> None:
    """Derived alike, term by term; measured singular values within those of the iteration, 0.68 to 1.13."""
    both = [matrix_law(f"{name}{option}", pair(ONE), pair(ONE, "d2", "x2")) for option in ("", ":exact=yes")]
    assert {(t.size, t.pattern) for t in both[0].terms} == {(t.size, t.pattern) for t in both[1].terms}
    made = [optimizer_of(f"{name}{option}").torch([drawn(48)], Numbers([])) for option in ("", ":exact=yes")]
    values = [torch.linalg.svdvals(update)[:, :4] for update in made]
    assert 0.6 < float((values[0] / values[1]).min()) < float((values[0] / values[1]).max()) < 1.3
    assert float(values[1].std()) < 1e-6 * float(values[1].mean())


def whole(size: Scale) -> Term:
    """A random matrix: no factor pair."""
    return Term(size, pattern((), [atom("R", ("N", "M"))]))


@pytest.mark.parametrize(
    ("spike", "expected_pair", "expected_whole"),
    [(ONE, Fraction(-1), Fraction(-1, 2)), (N**-1, Fraction(-3, 2), Fraction(-1, 2))],
    ids=["above", "below"],
)
def test_a_matrix_of_full_rank_is_orthogonalised_by_itself(
    spike: Scale, expected_pair: Fraction, expected_whole: Fraction
) -> None:
    """R has norm N^(1/2): a pair of norm N beside it has its own singular value one; one of norm 1 counts as 1/N^(1/2)."""
    out = matrix_law("muon_spectral", pair(spike), whole(ONE))
    found = {len(t.pattern.odd): t.rms(out.labels).power("N") + t.rms(out.labels).power("M") for t in out.terms}
    assert found == {2: expected_pair, 1: expected_whole}

    def parts(n: int) -> tuple[float, float]:
        generator = torch.Generator().manual_seed(n)
        d, x = torch.randn(2, 16, n, dtype=torch.float64, generator=generator)
        noise = torch.randn(16, n, n, dtype=torch.float64, generator=generator)
        g = spike.at({"N": n}) * torch.einsum("si,sj->sij", d, x) + noise
        update = find("optimizer", "muon_spectral").make().torch([g], Numbers([]))
        without = find("optimizer", "muon_spectral").make().torch([noise], Numbers([]))
        along = torch.einsum("sij,si,sj->s", update - without, d, x) / (n * n)
        return float(along.abs().mean()), rms(update)

    assert abs(matrix_slope(lambda n: parts(n)[0]) - float(expected_pair)) < 0.2
    assert abs(matrix_slope(lambda n: parts(n)[1]) - float(expected_whole)) < 0.1


@pytest.mark.parametrize(
    ("regime", "rank"), [("M>E", Scale.of("E")), ("E>M", M), ("E=M^1/2, N=M", Scale.of("E"))], ids=["few", "many", "path"]
)
def test_the_rank_of_stacked_matrices_is_that_of_what_hangs_together(regime: str, rank: Scale) -> None:
    """G[e,n,m] = d[n] h[e,m], rows (e,n): d is of rank 1, and h, of E × M, has the rank; the sum of squares of U Vᵀ is it."""
    labels = ("E", "N", "M")
    g = Value(labels, (Term(ONE, pattern((), [atom("d", ("N",)), atom("h", ("E", "M"))])),))
    weight = Trained(Weight("W", labels, M, N, "hidden"), g, WeightScaling(ONE, ONE, ONE))
    algebra = Algebra(Regime.parse(regime, ("E", "M", "N")))
    made = optimizer_of("muon_spectral")
    (out,) = made.law(algebra, g, weight).terms
    assert algebra.regime.order(out.rms(labels), (rank / (Scale.of("E") * M * M)) ** HALF) == 0  # by (fo/fi)^(1/2), too

    e, n, m = (4, 8, 64) if rank != M else (64, 8, 4)
    d, h = (torch.randn(8, *s, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) for s in ((n,), (e, m)))
    update = made.torch([torch.einsum("sn,sem->senm", d, h)], Numbers([])) / (e * n / m) ** 0.5
    assert 0.5 < float(update.square().sum((1, 2, 3)).mean()) / rank.at({"E": e, "M": m}) < 1.3


@pytest.mark.parametrize(
    ("name", "sides", "expected"),
    [
        ("muon_spectral", 1, Fraction(-2)),
        ("shampoo", 1, Fraction(-3, 2)),
        ("shampoo", 2, Fraction(-1)),
        ("soap", 1, Fraction(-1)),
        ("soap", 2, Fraction(-1)),
    ],
)
def test_a_gain_in_a_direction_of_its_own_is_promoted_by_a_memory_of_directions(
    name: str, sides: int, expected: Fraction
) -> None:
    """A gain of relative size r = 1/N, new on one side or on both, changes the second update by r, r^(1/2) or 1 times it."""
    new = pair(N**-1, "δd", "δx" if sides == 2 else "x", TAG * sides)
    out = matrix_law(name, pair(ONE), new)
    assert proportional(out, TAG * sides) == {expected}

    def gained(n: int) -> float:
        first, more = drawn(n), drawn(n, 2, 3 if sides == 2 else 1)
        made = find("optimizer", name).make()
        both = [made.torch([first, first + s / n * more], Numbers([])) for s in (1, -1)]
        # the median of the seeds: where SOAP's basis turns, an entry may be divided by the size of another's memory
        return float((both[0] - both[1]).square().mean((1, 2)).sqrt().median())

    assert abs(matrix_slope(gained) - float(expected)) < 0.2


def second_steps(name: str, n: int, sides: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The first gradient, the direction of a gain of relative size 1/N, and what the gain's sign changes in step two."""
    first, more = drawn(n), drawn(n, 2, 3 if sides == 2 else 1)
    plus, minus = (optimizer_of(name).torch([first, first + s / n * more], Numbers([])) for s in (1, -1))
    return first, more, plus - minus


@pytest.mark.parametrize(("name", "sides"), [("shampoo", 1), ("shampoo", 2), ("soap", 2)])
def test_what_is_promoted_is_aligned_with_the_gain(name: str, sides: int) -> None:
    """In the law the gain's own atoms; measured a cosine that does not fall.  SOAP: Σ sign(z) z = Σ |z| over entries z."""
    new = pair(N**-1, "δd", "δx" if sides == 2 else "x", TAG * sides)
    assert new.pattern.odd in {t.pattern.odd for t in matrix_law(name, pair(ONE), new).terms if t.tag}

    def cosine(n: int) -> float:
        _, more, change = second_steps(name, n, sides)
        norms = (change.square().sum((1, 2)) * more.square().sum((1, 2))).sqrt()
        return float(((change * more).sum((1, 2)) / norms).median())

    assert min(cosine(n) for n in (32, 64, 128, 256)) > 0.6


def test_soap_mixes_old_directions_whatever_the_size_of_a_gain() -> None:
    """A gain new on one side: the change is of size one along the old pairs, off the diagonal, and not along the gain."""
    terms = matrix_law("soap", pair(ONE), pair(N**-1, "δd", "x", TAG)).terms
    assert {frozenset(a.tensor for a in t.pattern.odd) for t in terms if t.tag == TAG} == {
        frozenset({"d", "x"}), frozenset({"δd", "x"}),
    }  # fmt: skip

    def along_old(n: int) -> float:
        first, _, change = second_steps("soap", n, 1)
        u, _, v = torch.linalg.svd(first, full_matrices=False)
        return float((u[:, :, :4].mT @ change @ v[:, :4].mT).square().sum((1, 2)).sqrt().median()) / n

    def along_gain(n: int) -> float:
        _, more, change = second_steps("soap", n, 1)
        return float(((change * more).sum((1, 2)) / more.square().sum((1, 2)).sqrt()).median()) / n

    assert abs(matrix_slope(along_old) + 1) < 0.1
    assert matrix_slope(along_gain, (64, 128, 256)) < -1.25
