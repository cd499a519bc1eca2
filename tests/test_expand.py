"""Functions of sums of terms, entry by entry (hard case W1): which parts come out, of which size, parity and tag."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import sympy as sp

from scalecalc.asymptotics import Function, OneVariable, n, x
from scalecalc.errors import UnsupportedScale
from scalecalc.expand import expand, leading
from scalecalc.indexed import Indexed
from scalecalc.rule import registry
from scalecalc.scale import Regime, Scale
from scalecalc.term import DECAYING, EVEN, FLAT, Profile, Term, atom, pattern
from scalecalc.value import Algebra, Value

F, ONE, N = Fraction, Scale.one(), Scale.of("N")
FREE = Algebra()
INVERSE = ("N", Profile(F(1)))


def odd(names, *profiles):
    """A pattern odd in one independent vector per letter."""
    return pattern(profiles, [atom(name, ["N"]) for name in names])


def applied(name, *terms, algebra=FREE):
    """The terms of φ(Σ terms) as a set of (size, parity, tag), masks aside."""
    return {(t.size, bare(t.pattern), t.tag) for t in applied_to(name, *terms, algebra=algebra)}


def applied_to(name, *terms, algebra=FREE):
    function = OneVariable(registry("rule")[name].derivative(0)) if isinstance(name, str) else name
    return expand(function, ("N",), [Value(("N",), terms)], algebra).terms


def bare(one):
    return pattern(one.profiles, one.odd, one.same)


def initial(*parts):
    return {(size, odd(names), ()) for size, names in parts}


# ---------------------------------------------------------------------- subsets

SUBSETS = {  # which numbers of odd factors a part may have, of three leading terms
    "tanh": (1, 3), "identity": (1,), "relu": (0, 1, 2), "gelu": (0, 1, 2), "softplus": (0, 1, 2), "sigmoid": (0, 1, 3),
    "absolute": (0, 2), "square": (0, 2), "sign": (1, 3),
}  # fmt: skip


@pytest.mark.parametrize("many", [1, 2, 3])
@pytest.mark.parametrize("name", SUBSETS)
def test_one_part_per_subset_of_the_leading_terms(name, many):
    """Odd functions: odd subsets; even ones: even subsets; a polynomial part: up to its degree; others: all."""
    names = "abc"[:many]
    expected = {"".join(s) for k in SUBSETS[name] for s in combinations(names, k)}
    found = applied(name, *(Term(ONE, odd(c)) for c in names))
    assert found == initial(*((ONE, s) for s in expected))


@pytest.mark.parametrize("name", SUBSETS)
def test_the_subsets_are_those_of_numbers(name):
    """The mean of φ(a+b+c) times the signs of k of them is zero where no such part is derived, and not where one is."""
    rule, rng, half_line = registry("rule")[name], np.random.default_rng(3), sp.Symbol("X", positive=True)
    f = rule.derivative(0)
    plus, minus = (sp.lambdify(half_line, half, "scipy") for half in (f.plus, f.minus))
    a = rng.standard_normal((3, 200_000)) * np.array([[0.8], [1.0], [1.2]])
    total = a.sum(0)
    values = np.where(total > 0, plus(np.abs(total)), minus(np.abs(total)))
    for k in range(4):
        product = values * np.sign(a[:k]).prod(0)
        off = abs(product.mean()) / (product.std() / product.size**0.5)
        if k not in SUBSETS[name]:
            assert off < 5
        else:
            assert off > 8


def test_at_most_eight_independent_leading_terms_are_mixed():
    """Nine leading terms do not make 2⁸ even parts (and nine linear ones)."""
    assert len(applied("relu", *(Term(ONE, odd(c)) for c in "abcdefghi"))) == 2**7 + 9


# ---------------------------------------------------------------------- sizes

HALF, BIG = N ** F(-1, 2), N ** F(1, 2)


@pytest.mark.parametrize(
    ("name", "size", "parts"),
    [
        ("relu", HALF, [(HALF, ""), (HALF, "a")]),
        ("relu", BIG, [(BIG, ""), (BIG, "a")]),
        ("absolute", HALF, [(HALF, "")]),
        ("square", HALF, [(HALF**2, "")]),
        ("square", BIG, [(N, "")]),
        ("sign", HALF, [(ONE, "a")]),
        ("tanh", HALF, [(HALF, "a")]),
        ("tanh", BIG, [(ONE, "a")]),
        ("silu", N ** F(-1, 4), [(N ** F(-1, 4), "a"), (HALF, "")]),
        ("silu", BIG, [(BIG, ""), (BIG, "a")]),
        ("sigmoid", HALF, [(ONE, "")]),
        ("sigmoid", N ** F(-1, 4), [(ONE, ""), (N ** F(-1, 4), "a")]),
        ("sigmoid", BIG, [(ONE, ""), (ONE, "a")]),
        ("exp", N ** F(-1, 4), [(ONE, ""), (N ** F(-1, 4), "a")]),
    ],
)
def test_sizes_follow_the_argument(name, size, parts):
    """Homogeneous functions keep their degree; else Taylor for small arguments, the behaviour at ∞ for large ones.

    What no alignment can bring forward is dropped: the part odd in a below N^(−1/2) times the even part.
    """
    assert applied(name, Term(size, odd("a"))) == initial(*parts)


def test_an_argument_that_falls_along_the_axis():
    """tanh of 1/n entries is 1/n again, |x| too; the constant of a sigmoid is flat."""
    argument = Term(ONE, odd("a", INVERSE))
    assert applied("tanh", argument) == {(ONE, odd("a", INVERSE), ())}
    assert applied("absolute", argument) == {(ONE, odd("", INVERSE), ())}
    assert (ONE, EVEN, ()) in applied("sigmoid", argument)


def test_an_argument_that_grows_along_the_axis():
    """tanh of entries that grow like n is a sign; relu keeps the growth."""
    argument = Term(ONE, odd("a", ("N", Profile(F(-1)))))
    assert {p.profile("N") for _, p, _ in applied("relu", argument)} == {Profile(F(-1))}
    assert (ONE, odd("a"), ()) in applied("tanh", argument)


def test_overflow():
    """exp of an argument that grows with the width has no size; of one that shrinks it has."""
    with pytest.raises(UnsupportedScale, match="overflow"):
        applied("exp", Term(BIG, odd("a")))


def test_a_size_that_no_regime_fixes():
    """M/N is neither small nor large when both grow freely: tanh is then bounded by both of its laws."""
    ratio = Scale.of("M") / N
    assert {s for s, _, _ in applied("tanh", Term(ratio, odd("a")))} == {ONE, ratio}
    fixed = {r: Algebra(Regime.parse(r)) for r in ("M>N", "N>M")}
    assert applied("tanh", Term(ratio, odd("a")), algebra=fixed["M>N"]) == initial((ONE, "a"))
    assert applied("tanh", Term(ratio, odd("a")), algebra=fixed["N>M"]) == initial((ratio, "a"))


@pytest.mark.parametrize(
    ("name", "parts"), [("relu", []), ("tanh", []), ("square", []), ("sigmoid", [(ONE, "")]), ("exp", [(ONE, "")])]
)
def test_of_an_exact_zero(name, parts):
    """φ(0)."""
    assert applied(name) == initial(*parts)


# ---------------------------------------------------------------------- updates


def of_tag(found, *tag):
    return {(size, one) for size, one, t in found if t == tag}


DELTA = N ** F(-1, 4)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("relu", [(DELTA, "d"), (DELTA, "ad")], [(DELTA**2, "")]),
        ("tanh", [(DELTA, "d")], [(DELTA**2, "a")]),
        ("square", [(DELTA, "ad")], [(DELTA**2, "")]),
        ("identity", [(DELTA, "d")], []),
    ],
)
def test_first_and_second_order_in_an_update(name, first, second):
    """φ′·δ with tag (W) and ½φ″·δ² with tag (W, W); relu″ counts, and φ′ and φ″ have parities of their own."""
    found = applied(name, Term(ONE, odd("a")), Term(DELTA, odd("d"), ("W",)))
    assert of_tag(found, "W") == {(s, odd(names)) for s, names in first}
    assert of_tag(found, "W", "W") == {(s, odd(names)) for s, names in second}


def test_two_updates_do_not_mix_beyond_the_limits():
    """With one weight per tag there is no part with two."""
    found = applied("square", Term(ONE, odd("a")), Term(ONE, odd("d"), ("W",)), Term(ONE, odd("e"), ("V",)))
    assert {tag for _, _, tag in found} == {(), ("W",), ("W", "W"), ("V",), ("V", "V")}


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("relu", [(BIG, "d"), (BIG, "ad")], [(N, "")]),
        ("square", [(BIG, "ad")], [(N, "")]),
        ("identity", [(BIG, "d")], []),
        ("absolute", [(BIG, "ad")], [(N, "")]),
    ],
)
def test_orders_of_an_update_are_kept_apart_whatever_its_size(name, first, second):
    """φ′(x) δ and φ″(x) δ²: where δ exceeds x the second outgrows the first, which is how a table shows it."""
    found = applied(name, Term(ONE, odd("a")), Term(BIG, odd("d"), ("W",)))
    for tag, parts in ((("W",), first), (("W", "W"), second)):
        here = of_tag(found, *tag)
        assert here >= {(s, odd(names)) for s, names in parts}
        assert {size for size, _ in here} == {s for s, _ in parts}


def test_an_update_of_zero():
    """A zero argument that moves: φ(δ), tagged."""
    assert of_tag(applied("relu", Term(ONE, odd("d"), ("W",))), "W") == {(ONE, EVEN), (ONE, odd("d"))}


def test_a_smaller_initial_term():
    """It enters by φ′ and φ″ as an update does, without a tag: relu′ is even and odd in what leads."""
    found = applied("relu", Term(ONE, odd("a")), Term(DELTA, odd("b")))
    assert (DELTA, odd("b"), ()) in found
    assert (DELTA, odd("ab"), ()) in found


# ---------------------------------------------------------------------- leading terms


def test_leading_terms():
    """Those that no other exceeds at every index: sizes that cannot be compared and profiles that cross both lead."""
    one, big, other = Term(ONE, odd("a")), Term(N, odd("b")), Term(Scale.of("M"), odd("c"))
    steep = Term(ONE, odd("d", INVERSE))
    assert leading([one, big, other], FREE) == [big, other]
    assert leading([one, steep], FREE) == [one]
    crossing = Term(N**F(1, 2), odd("d", INVERSE))
    assert leading([one, crossing], FREE) == [one, crossing]
    above = Term(N, odd("d", INVERSE))  # as large at the last index, larger before
    assert leading([one, above], FREE) == [above]
    assert leading([one, Term(ONE, odd("e"))], FREE) == [one, Term(ONE, odd("e"))]


def test_exact_arguments():
    """A function of the index alone has its profile and no parity; of an index and a random step, both profiles.

    What is even and decays in both is below what is even and falls like 1/n, at every index.
    """
    s, a = sp.Symbol("s", positive=True), sp.Symbol("a", negative=True)
    hold = Indexed((sp.exp(s * a) - 1) / a, (s, a), (None, -(n + 1)), "S")
    step, transition = Value(("N",), (Term(ONE, odd("b")), Term(ONE))), Value(("S",), (Term(ONE),), -(n + 1))
    out = expand(hold, ("N", "S"), [step, transition], FREE)
    assert {(bool(t.pattern.odd), t.pattern.profile("S")) for t in out.terms} == {
        (False, Profile(F(1))), (True, DECAYING),
    }  # fmt: skip
    assert {t.pattern.profile("N") for t in out.terms} == {FLAT}
    assert {a.tensor for t in out.terms for a in t.pattern.odd} == {"b"}


def test_a_zero_function():
    """Nothing comes out of 0, exactly."""
    assert applied(OneVariable(Function.of(x - x)), Term(ONE, odd("a"))) == set()


def test_too_many_leading_terms_are_said():
    """Of twelve independent terms not all 2¹¹ odd products are made; each alone is, and the derivation says so."""
    many = [Term(ONE, odd(f"z{k}")) for k in range(12)]
    f = OneVariable(registry("rule")["sign"].derivative(0))
    found = expand(f, ("N",), [Value(("N",), tuple(many))], Algebra(at="here"))
    assert {t.pattern for t in many} <= {t.pattern for t in found.terms}
    assert all("of the 12 leading terms at here only products of the first 8 matter" in t.why.assumption for t in found.terms)
    few = expand(f, ("N",), [Value(("N",), tuple(many[:8]))], Algebra())
    assert len(few.terms) == 2**7
    assert not any(t.why.assumption for t in few.terms)


def test_terms_that_differ_in_phase_alone_have_few_products():
    """However many there are: their products are one symmetry, and the phases that the program may have."""
    own = odd("x").odd
    turning = [Term(ONE, pattern([("N", Profile(phase=F(k)))], own)) for k in range(-6, 7)]
    found = expand(OneVariable(registry("rule")["sign"].derivative(0)), ("N",), [Value(("N",), tuple(turning))], Algebra())
    assert {t.pattern.odd for t in found.terms} == {own}
    assert not any(t.why.assumption for t in found.terms)
