"""The two laws of terms, sums and products, and that simplifying between them never loses what leads."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalecalc.scale import Regime, Scale
from scalecalc.term import (
    DECAYING,
    EVEN,
    FLAT,
    Limits,
    Profile,
    Step,
    Term,
    atom,
    dim_of,
    multiply_patterns,
    multiply_terms,
    pattern,
    products,
    relabel,
    simplify,
    source,
    sum_pattern,
)

F, ONE = Fraction, Scale.one()
N, M = Scale.of("N"), Scale.of("M")
WHY = Step("test", "by hand")


def falling(power, log=0):
    return Profile(F(power), F(log))


# ---------------------------------------------------------------------- profiles

POWERS = ["-2", "-1", "-1/2", "-1/4", "0", "1/8", "1/4", "3/8", "1/2", "5/8", "3/4", "1", "3/2", "2", "3"]
LOGS = [("0", "1"), ("0", "-1/2"), ("1/2", "1"), ("1/2", "1/2"), ("1", "1"), ("1", "1/2"), ("1", "-1/2"), ("2", "1"),
        ("2", "-1"), ("-1", "2"), ("1", "-2")]  # fmt: skip


def entries(profile, count):
    """index^(−p) (log index)^b, from index 2 on so that every logarithm is positive."""
    n = np.arange(2.0, count + 2)
    if profile.decaying:
        return np.exp(-n)
    return n ** -float(profile.power) * np.log(n) ** float(profile.log)


def mismatch(profile, derived, numeric):
    """By how much the numeric sum's slope between N = 10³ and 10⁶ differs from that of the derived Θ.

    A wrong power of 1/4 is a mismatch of 0.25, a wrong power of a log one of log 2 / log 10³ = 0.10.
    """
    few, many = 10**3, 10**6
    ratio = [numeric(entries(profile, k)) / derived.at({"N": float(k)}) for k in (few, many)]
    return abs(math.log(ratio[1] / ratio[0])) / math.log(many / few)


@pytest.mark.parametrize(
    "profile", [*(falling(p) for p in POWERS), *(falling(*pb) for pb in LOGS), DECAYING], ids=lambda p: p.words()
)
def test_sum_of_a_profile(profile):
    """Law of large numbers: Σ n^(−p) (log n)^b is of the derived size, against a numeric sum."""
    assert mismatch(profile, profile.sum("N"), np.sum) < 0.05


@pytest.mark.parametrize(
    "profile",
    [*(falling(p) for p in POWERS), *(falling(p, b) for p, b in LOGS), DECAYING],
    ids=lambda p: p.words(),
)
def test_norm_of_a_profile(profile):
    """Central limit: (Σ profile²)^(1/2) is of the derived size, against a numeric sum."""
    assert mismatch(profile, profile.norm("N"), np.linalg.norm) < 0.05


def test_the_numeric_sum_tells_a_log():
    """The comparison above fails for a wrong power and for a missing log."""
    assert mismatch(falling(1), ONE, np.sum) > 0.05
    assert mismatch(falling("1/2"), ONE, np.linalg.norm) > 0.05
    assert mismatch(falling("1/2"), Scale.of("N", "3/4"), np.sum) > 0.05


profiles = st.one_of(
    st.just(DECAYING),
    st.builds(Profile, st.sampled_from([F(k, 2) for k in range(-2, 5)]), st.sampled_from([F(-1), F(0), F(1)])),
)


@given(profiles, profiles, profiles)
def test_profiles_multiply_and_compare(a, b, c):
    """A commutative product with FLAT as unit; "falls at least as fast" is a total preorder that a factor keeps."""
    assert a * b == b * a
    assert (a * b) * c == a * (b * c)
    assert a * FLAT == a
    assert a**2 == a * a
    assert a.bounded_by(b) or b.bounded_by(a)
    assert not (a.bounded_by(b) and b.bounded_by(c)) or a.bounded_by(c)
    assert not a.bounded_by(b) or (a * c).bounded_by(b * c)
    assert not a.bounded_by(b) or a.sum("N") <= b.sum("N")


# ---------------------------------------------------------------------- atoms used below

X, Y = pattern(odd=[atom("x", ["N"])]), pattern(odd=[atom("y", ["N"])])
G = pattern(odd=[atom("g", ["M"])])
W = pattern(odd=[atom("W", ["M", "N"])])


def after(matrix, vector, label):
    """The pattern of matrix · vector, summed over the label."""
    ((_, product),) = multiply_patterns(matrix, vector)
    return sum_pattern(product, label)[1]


WX, WY, WTG = after(W, X, "N"), after(W, Y, "N"), after(W, G, "M")
ONES = after(W, EVEN, "N")
INVERSE = pattern([("N", falling(1))])
DIAGONAL = pattern(same=[frozenset({"N", "N'"})])


# ---------------------------------------------------------------------- sums


@pytest.mark.parametrize(
    ("one", "factor", "rest", "large"),
    [
        (EVEN, N, EVEN, True),
        (G, N, G, True),
        (INVERSE, Scale.log("N"), EVEN, True),
        (X, N ** F(1, 2), EVEN, False),
        (pattern([("N", falling(1))], X.odd), ONE, EVEN, False),
        (pattern([("N", falling("1/2"))], X.odd), Scale.log("N", "1/2"), EVEN, False),
        (pattern([("M", falling(1))], X.odd), N ** F(1, 2), pattern([("M", falling(1))]), False),
        (pattern(odd=X.odd | G.odd), N ** F(1, 2), G, False),
    ],
)
def test_which_law_a_sum_takes(one, factor, rest, large):
    """Odd along the axis: central limit; otherwise, whatever it is along others: law of large numbers."""
    assert sum_pattern(one, "N") == (factor, rest, large)


def test_a_summed_matrix_remembers_its_source():
    """W x is odd in the rows of W, and W x and W y are not the same atom."""
    (wx,), (wy,) = WX.odd, WY.odd
    assert wx.labels == {"M"}
    assert wx is not wy
    assert wx.slots[1] is source("N•", [relabel(X, "N", "N•")])
    assert after(W, X, "N") is WX


def test_slots_that_are_bound_together():
    """W of what has two growing axes, heads × size of a head: a source on both axes, and W x + W y is W (x + y)."""
    V, axes = pattern(odd=[atom("V", ["K", "N", "M"])]), ("N", "M")

    def times(one):
        (_, product), = multiply_patterns(V, one)
        for label in axes:
            _, product, large = sum_pattern(product, label)
            assert not large
        return product

    x, y = (pattern(odd=[atom(name, axes)]) for name in "xy")
    (vx,) = times(x).odd
    labels = ("N•", "M•")
    assert vx.slots == ("K", *(source(here, [relabel(relabel(x, "N", "N•"), "M", "M•")], labels) for here in labels))
    assert vx.slots[1].norm(EVEN) == (N * M) ** F(1, 2)
    assert set(multiply_patterns(times(x), times(x))) == {(ONE, EVEN)}
    cosine = (N * M) ** F(-1, 2)
    both = pattern(odd=times(x).odd | times(y).odd)
    assert set(multiply_patterns(times(x), times(y))) == {(ONE, both), (cosine, EVEN)}
    assert set(multiply_patterns(times(x), V)) == {(ONE, pattern(odd=V.odd | times(x).odd)), (cosine, x)}
    (united,) = simplify([Term(ONE, times(x)), Term(ONE, times(y))])
    assert set(multiply_patterns(united.pattern, V)) >= {(cosine, x), (cosine, y)}
    # r s has one of its axes from each: two sources, and each meets what is bound together
    rows = pattern(odd=[atom("r", ["N"]), atom("s", ["M"])])
    assert [s.labels for (a,) in [times(rows).odd] for s in a.slots[1:]] == [("N•",), ("M•",)]
    apart = pattern(odd=times(rows).odd | times(x).odd)
    assert set(multiply_patterns(times(rows), times(x))) == {(ONE, apart), (cosine, EVEN)}


# ---------------------------------------------------------------------- products

WICK = [
    (X, X, {(ONE, EVEN)}),
    (X, Y, {(ONE, pattern(odd=X.odd | Y.odd))}),
    (WX, WX, {(ONE, EVEN)}),
    (W, W, {(ONE, EVEN)}),
    # one matrix, two sources: both stay, or both go and leave ⟨x, y⟩ / ‖x‖ ‖y‖ = N^(−1/2)
    (WX, WY, {(ONE, pattern(odd=WX.odd | WY.odd)), (N ** F(-1, 2), EVEN)}),
    (WX, ONES, {(ONE, pattern(odd=WX.odd | ONES.odd)), (N ** F(-1, 2), EVEN)}),
    # back-reaction: W meets Wᵀ g again and returns g, relative to ‖g‖ = M^(1/2)
    (W, WTG, {(ONE, pattern(odd=W.odd | WTG.odd)), (M ** F(-1, 2), G)}),
    # tied weights: Wᵀ meets W x
    (W, WX, {(ONE, pattern(odd=W.odd | WX.odd)), (N ** F(-1, 2), X)}),
    # W Wᵀ: what is off the diagonal, and the identity
    (W, relabel(W, "N", "N'"), {(ONE, pattern(odd=W.odd | relabel(W, "N", "N'").odd)), (ONE, DIAGONAL)}),
]


@pytest.mark.parametrize(("a", "b", "parts"), WICK)
def test_products_pair_what_is_one_matrix(a, b, parts):
    """Hard case W2: equal sources cancel, different sources leave their alignment, W Wᵀ g returns g."""
    assert set(multiply_patterns(a, b)) == parts
    assert set(multiply_patterns(b, a)) == parts


def test_sources_that_share_a_mean_are_aligned():
    """W x and W y with x and y both around a common mean are as aligned as x and y: of order one."""
    a, b = (after(W, pattern([("N", p)]), "N") for p in (FLAT, falling("1/4")))
    assert (ONE, EVEN) in multiply_patterns(a, b)


def test_the_alignment_of_sources_counts_their_profiles():
    """1 and 1/n: ⟨1, 1/n⟩ / ‖1‖ ‖1/n‖ = log N / N^(1/2)."""
    product = multiply_patterns(ONES, after(W, INVERSE, "N"))
    assert (Scale.log("N") * N ** F(-1, 2), EVEN) in product


def test_recurrent_weights_return_what_came_two_steps_ago():
    """A square W with two labels of one dim: W W x is unpaired, Wᵀ W x contains x, whatever the labels are called."""
    square = pattern(odd=[atom("R", ["N", "N'"])])
    x = pattern(odd=[atom("x", ["N'"])])
    rx = after(square, x, "N'")
    again = multiply_patterns(square, relabel(rx, "N", "N'"))
    assert {one for size, one in again if size is not ONE} == set()
    assert (N ** F(-1, 2), x) in multiply_patterns(square, rx)


ATOMS = [a for p in (X, Y, G, W, WX, WY, WTG, ONES) for a in p.odd]
patterns = st.builds(
    lambda on_n, on_m, odd: pattern([("N", on_n), ("M", on_m)], odd),
    st.sampled_from([FLAT, falling("1/2"), falling(1), DECAYING]),
    st.sampled_from([FLAT, falling(1)]),
    st.sets(st.sampled_from(ATOMS), max_size=3),
)


@given(patterns, patterns)
def test_products_commute(a, b):
    """Whatever is paired with whatever."""
    assert set(multiply_patterns(a, b)) == set(multiply_patterns(b, a))


@given(st.lists(patterns, max_size=6), st.lists(patterns, max_size=2))
@settings(max_examples=30)
def test_of_a_square_every_pair_is_multiplied_once(own, beside):
    """Beside other factors, too."""
    a, more = ([Term(N**-k, one, ("W",)) for k, one in enumerate(some)] for some in (own, beside))
    once, twice = (list(products(a, more + a, Limits(), lambda *_: WHY, squared)) for squared in (len(a), 0))
    assert len(once) == len(twice)
    assert set(once) == set(twice)


@given(patterns)
def test_the_square_of_a_pattern_is_even(a):
    """Identical atoms always cancel, profiles double; the even pattern is the unit."""
    assert multiply_patterns(a, a) == ((ONE, pattern([(label, p**2) for label, p in a.profiles])),)
    assert multiply_patterns(a, EVEN) == multiply_patterns(EVEN, a) == ((ONE, a),)


@given(patterns, patterns)
def test_no_product_is_larger_than_its_factors(a, b):
    """Cauchy-Schwarz: every part of a product is at most of relative size one at every index."""
    for size, one in multiply_patterns(a, b):
        total = size * one.profile("N").norm("N") * one.profile("M").norm("M")
        flat = a.profile("N") * b.profile("N"), a.profile("M") * b.profile("M")
        assert total <= flat[0].norm("N") * flat[1].norm("M")


# ---------------------------------------------------------------------- renaming


@given(patterns)
def test_renaming_there_and_back(a):
    """A new label takes the profile and the free slots; sources keep theirs."""
    b = relabel(a, "N", "N'")
    assert relabel(b, "N'", "N") is a
    assert b.profile("N'") == a.profile("N")
    assert not b.odd_on("N")
    assert len(b.odd_on("N'")) == len(a.odd_on("N"))
    assert sum_pattern(b, "N'") == sum_pattern(a, "N")


def test_labels_belong_to_dims():
    """Primes and the mark of a summed axis do not change the dim."""
    assert [dim_of(label) for label in ("N_u", "N_u'", "N_u''", "N_u•")] == ["N_u"] * 4


# ---------------------------------------------------------------------- terms


def test_rms_of_a_term():
    """The root-mean-square over an axis counts the profile: 1/n is N^(−1/2) in the mean."""
    assert Term(ONE, INVERSE).rms(["N", "M"]) is N ** F(-1, 2)
    assert Term(M, pattern([("N", falling("1/2"))])).rms(["N"]) is M * N ** F(-1, 2) * Scale.log("N", "1/2")
    assert Term(M, X).rms(["N"]) is M


@pytest.mark.parametrize(
    ("limits", "a", "b", "joined"),
    [
        (Limits(), (), ("B",), ("B",)),
        (Limits(), ("B",), (), ("B",)),
        (Limits(), ("B",), ("B",), ("B", "B")),
        (Limits(), ("B", "B"), ("B",), None),
        (Limits(), ("B",), ("C",), None),
        (Limits(degree=1), ("B",), ("B",), None),
        (Limits(degree=1, distinct=2), ("C",), ("B",), ("B", "C")),
        (Limits(degree=1, distinct=2), ("B", "C"), ("A",), None),
    ],
)
def test_limits_of_tags(limits, a, b, joined):
    """A tag is a sorted multiset: so many of one weight, so many different ones; what is beyond is left out."""
    assert limits.join(a, b) == joined
    found = multiply_terms(Term(N, X, a), Term(M, Y, b), WHY, limits)
    assert [(t.size, t.tag) for t in found] == ([] if joined is None else [(N * M, joined)])


# ---------------------------------------------------------------------- simplify


def test_alike_terms_merge_to_the_largest():
    """Equal pattern and tag: only the largest sizes stay; another tag is another sum."""
    terms = [Term(ONE, X), Term(N, X), Term(M, X), Term(ONE, X, ("B",))]
    assert {(t.size, t.tag) for t in simplify(terms)} == {(N, ()), (M, ()), (ONE, ("B",))}
    assert [(t.size, t.tag) for t in simplify(terms, Regime.parse("N>M"))] == [(N, ()), (ONE, ("B",))]


def test_what_alignment_can_bring_forward_stays():
    """An odd term below an even one by less than N^(1/2) stays, by as much or more it goes (hard case W10)."""
    assert len(simplify([Term(N ** F(1, 4), X), Term(ONE)])) == 2
    assert len(simplify([Term(N ** F(1, 2), X), Term(ONE)])) == 1
    assert len(simplify([Term(N ** F(1, 2), X), Term(ONE)], margin=N ** F(1, 2))) == 2
    assert len(simplify([Term(N, INVERSE), Term(ONE)])) == 2


def test_sources_of_one_matrix_unite():
    """W x + W y is one vector W (x + y): as aligned with W x as with W y."""
    (both,) = simplify([Term(ONE, WX), Term(ONE, WY)])
    for one in (WX, WY):
        assert (ONE, EVEN) in multiply_patterns(both.pattern, one)
    assert len(simplify([Term(ONE, WX), Term(N, WY)])) == 2


sizes = st.builds(lambda a, b: Scale({"N": F(a, 2), "M": F(b, 2)}), st.integers(-2, 2), st.integers(-2, 2))
sums_of_terms = st.lists(st.builds(Term, sizes, patterns), min_size=1, max_size=4)


def contracted(factors, regime, simple):
    """Leading sizes of Σ over N and M of the product of sums of terms; simplified after every operation, or never."""

    def tidy(terms):
        return simplify(terms, regime) if simple else tuple(terms)

    out = tidy([Term(ONE)])
    for factor in factors:
        out = tidy(p for a in out for b in tidy(factor) for p in multiply_terms(a, b, WHY, Limits()))
    for label in ("N", "M"):
        found = [(t.size, *sum_pattern(t.pattern, label)) for t in out]
        out = tidy(Term(size * factor, rest) for size, factor, rest, _ in found)
    return regime.leading(t.size for t in out)


@settings(max_examples=400)
@given(st.lists(sums_of_terms, min_size=2, max_size=3), st.sampled_from(["free", "proportional", "N>M", "M>N"]))
def test_simplifying_never_drops_what_leads(factors, text):
    """The leading sizes of a contraction are the same whether its operands are simplified between or not."""
    regime = Regime.parse(text)
    simple, full = (contracted(factors, regime, simple) for simple in (True, False))
    assert len(simple) == len(full)
    assert all(any(regime.order(s, t) == 0 for t in full) for s in simple)


@given(sums_of_terms, st.sampled_from(["free", "proportional"]))
def test_simplifying_twice_changes_nothing(terms, text):
    """What is left is simple; none of the leading sizes is lost."""
    regime = Regime.parse(text)
    once = simplify(terms, regime)
    assert set(simplify(once, regime)) == set(once)
    assert not any(a.pattern is b.pattern and a.size is b.size for a, b in combinations(once, 2))


def test_of_too_many_terms_each_parity_keeps_its_largest() -> None:
    """A law of large numbers makes up for N^(1/2): what is even stays beside hundreds of terms that are larger and odd."""
    small = Term(Scale.of("N", F(-3, 4)))
    many = [Term(Scale.of("N", -1) * Scale.of("M", F(k, 200)), pattern((), [atom("W", ["N"])])) for k in range(150)]
    more = [Term(Scale.of("N", F(-1, 2)) * Scale.of("K", F(-k, 200)) * Scale.of("M", F(k, 200)),
                 pattern((), [atom("V", ["N"])])) for k in range(150)]  # fmt: skip
    assert small in simplify([small, *many, *more])
