"""Operations on whole values: sums by term, contractions, exact zeros, directions and norms."""

from fractions import Fraction

import pytest

from scalecalc.scale import Regime, Scale
from scalecalc.term import EVEN, Knot, Profile, Term, atom, pattern
from scalecalc.value import Algebra, Value

F, ONE, N, M = Fraction, Scale.one(), Scale.of("N"), Scale.of("M")
FREE = Algebra()
X, Y = (pattern(odd=[atom(name, ["N"])]) for name in "xy")
INVERSE = pattern([("N", Profile(F(1)))])


def on_n(*terms, **facts):
    return Value(("N",), terms, **facts)


def found(value):
    return {(t.size, t.pattern, t.tag) for t in value.terms}


def test_a_sum_over_an_axis_takes_each_term_by_its_own_law():
    """An even term grows by N, an odd one of another tag by N^(1/2); the large one says what it assumes."""
    out = FREE.sum(on_n(Term(ONE), Term(ONE, X, ("W",))), "N")
    assert found(out) == {(N, EVEN, ()), (N ** F(1, 2), EVEN, ("W",))}
    assert out.labels == ()
    assumed = {t.tag: bool(t.why.assumption) for t in out.terms}
    assert assumed == {(): True, ("W",): False}


@pytest.mark.parametrize(
    ("a", "b", "size"), [(X, X, N), (X, Y, N ** F(1, 2)), (X, EVEN, N ** F(1, 2)), (INVERSE, EVEN, Scale.log("N"))]
)
def test_contraction(a, b, size):
    """⟨a, b⟩: aligned with itself, incoherent with what is independent, a log where the entries fall like 1/n."""
    out = FREE.contract((), on_n(Term(ONE, a)), on_n(Term(ONE, b)), ["N"])
    assert found(out) == {(size, EVEN, ())}


def test_adding_keeps_all_that_may_lead():
    """Terms of different parity stay, equal ones merge, an exact zero adds nothing."""
    zero = on_n()
    a, b = on_n(Term(ONE, X)), on_n(Term(N ** F(1, 4)), Term(ONE, X))
    assert found(FREE.add(("N",), a, b)) == {(ONE, X, ()), (N ** F(1, 4), EVEN, ())}
    assert FREE.add(("N",), zero, a).terms == a.terms
    assert FREE.add(("N",), zero, zero).terms == ()
    assert FREE.multiply(("N",), a, zero).terms == ()


def test_orthogonal_is_exactly_zero():
    """What is orthogonal to a tensor along an axis contracts with it to nothing, on that axis only."""
    ray, perp = on_n(Term(ONE), ray=frozenset({(3, "N")})), on_n(Term(ONE), perp=frozenset({(3, "N")}))
    assert FREE.contract((), ray, perp, ["N"]).terms == ()
    assert FREE.contract((), perp, ray, ["N"]).terms == ()
    assert FREE.contract((), perp, on_n(Term(ONE), ray=frozenset({(4, "N")})), ["N"]).terms
    assert FREE.multiply(("N",), perp, ray).terms


def test_directions_survive_what_is_constant_along_the_axis():
    """A factor without the axis keeps the direction; one that varies along it does not; renaming renames it."""
    perp = on_n(Term(ONE), perp=frozenset({(3, "N")}))
    scalar = Value(("M",), (Term(ONE),))
    assert FREE.multiply(("N", "M"), perp, scalar).perp == {(3, "N")}
    assert FREE.multiply(("N",), perp, on_n(Term(ONE, X))).perp == set()
    assert FREE.rename(perp, {"N": "N'"}).perp == {(3, "N'")}


def test_sizes():
    """By tag (degrees together), as the entry at small index or as the root-mean-square."""
    value = on_n(Term(ONE, INVERSE), Term(M, X, ("W",)), Term(N, X, ("W", "W")))
    assert value.sizes(()) == [N ** F(-1, 2)]
    assert value.sizes((), "entry") == [ONE]
    assert value.sizes(("W",)) == [M, N]
    assert value.untagged.sizes() == [N ** F(-1, 2)]


def test_norm():
    """Euclidean over some axes, root-mean-square over the others; 1/n has a norm of order one."""
    value = Value(("N", "M"), (Term(ONE, INVERSE),))
    assert FREE.norm(value, ["N"]) == (ONE,)
    assert FREE.norm(value, ["M"]) == (M ** F(1, 2) * N ** F(-1, 2),)


def test_scaling_and_renaming():
    """A factor changes sizes alone; a new label moves atoms and profiles and can be taken back."""
    value = on_n(Term(ONE, X), Term(M, INVERSE))
    assert found(FREE.scale(value, N, "by hand")) == {(N, X, ()), (M * N, INVERSE, ())}
    there = FREE.rename(value, {"N": "N'"})
    assert there.labels == ("N'",)
    assert all(not t.pattern.odd_on("N") for t in there.terms)
    assert FREE.rename(there, {"N'": "N"}).terms == value.terms


def test_one_sum_binds_several_tensors_together() -> None:
    """Σ_n a_nm b_nm is one knot per m: a later product with a and b resolves both by one index (hard case W3)."""
    algebra, labels = Algebra(at="here"), ("N", "M")
    a, b = (Value(labels, (Term(ONE, pattern((), [atom(name, labels)])),)) for name in "ab")
    scores = algebra.contract(("M",), a, b, ["N"])
    (term,) = scores.terms
    (bound,) = term.pattern.odd
    assert isinstance(bound, Knot)
    assert bound.labels == {"M"}
    back = algebra.contract(("N",), scores, algebra.multiply(labels, a, b), ["M"])
    assert set(Regime().leading(back.sizes())) == {M, (N * M) ** F(1, 2)}
