"""What one term hides of another is the same looked up among many as compared pair by pair."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalecalc import dominance
from scalecalc.dominance import FEW, Tops, exceeded, faster, own, tops
from scalecalc.pattern import EVEN, Mask, Pattern, atom, mask, pattern
from scalecalc.profile import Profile
from scalecalc.scale import Point, Regime, Scale
from scalecalc.term import MOST_CORRECTIONS, SUM, Term, simplify

ONE = Scale.one()
AXES = ("N", "N'", "M")
ATOMS = [atom(name, axes) for name, axes in [("x", "N"), ("y", "N"), ("z", ["N'"]), ("W", ["M", "N"]), ("V", ["N", "N'"])]]
MASKS = [frozenset[Mask](), frozenset({mask([EVEN], ONE)}), frozenset({mask([pattern(odd=ATOMS[:1])], ONE)})]
RATE = Scale.of("lr W")
REGIMES = [
    Regime(),
    Regime.parse("proportional"),
    Regime.parse("N>M"),
    Regime("path", point=Point({"lr W": Scale.of("N", -1)})),
    Regime("path", point=Point({"lr W": Scale.of("M", Fraction(1, 2))})),
]
powers = st.sampled_from([Fraction(k, 2) for k in range(-3, 4)])
sizes = st.builds(
    lambda n, m, lr: Scale.of("N", n) * Scale.of("M", m) * RATE**lr, powers, powers, st.sampled_from([0, 0, 0, 1])
)
falling = st.builds(Profile, st.sampled_from([Fraction(1, 2), Fraction(1)]))
profiles = st.dictionaries(st.sampled_from(AXES), falling, max_size=1)
patterns = st.builds(
    lambda own, odd, same, masks: pattern(own.items(), odd, [frozenset(same)], masks),
    profiles,
    st.sets(st.sampled_from(ATOMS)),
    st.sampled_from([(), (), ("N", "N'"), AXES]),
    st.sampled_from(MASKS),
)


@given(
    st.lists(st.tuples(sizes, patterns), min_size=FEW + 1, max_size=25),
    st.sampled_from(REGIMES),
    st.sampled_from([ONE, Scale.of("N", "1/2")]),
    st.sampled_from([(), ("W",), (f"{SUM}h",)]),
)
@settings(max_examples=300, deadline=None)
def test_looked_up_as_one_by_one(
    rows: list[tuple[Scale, Pattern]], regime: Regime, margin: Scale, tag: tuple[str, ...]
) -> None:
    every = [Term(size, one, tag) for size, one in rows]
    alone = Tops(every, regime, margin)
    one_by_one = [alone.groups[dominance.own(t, regime)]._hides_one_by_one(t) for t in every]
    assert [alone.hide(t) for t in every] == one_by_one
    larger = [Term(t.size * Scale.of("M"), t.pattern, tag) for t in every]  # alike but for a factor
    assert [tops(larger, regime, margin).hide(t) for t in larger] == one_by_one


@pytest.mark.parametrize("margin", [ONE, Scale.of("N", "1/2")])
def test_a_larger_term_hides_as_far_as_it_cannot_be_gained_on(margin: Scale) -> None:
    """Odd along one axis more, a term can gain N^(1/2) on another, and is hidden by what is larger by more than that."""
    x, y = pattern(odd=ATOMS[:1]), pattern(odd=ATOMS[1:2])
    fill = [Term(Scale.of("N", -k), x) for k in range(10, 10 + FEW)]
    for power, hidden in [(Fraction(1, 4), False), (Fraction(3, 4), margin is ONE), (Fraction(5, 4), True)]:
        beside = Tops([*fill, Term(Scale.of("N", power), x)], Regime(), margin)
        assert beside.hide(Term(ONE, y)) == hidden


def test_a_falsified_gain_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above can fail."""
    monkeypatch.setattr(dominance, "_root", lambda labels: ONE)
    fill = [Term(Scale.of("N", -k), EVEN) for k in range(FEW)]
    beside = Tops([*fill, Term(Scale.of("N", "1/4"), pattern(odd=ATOMS[:1]))], Regime(), ONE)
    assert beside.hide(Term(ONE, pattern(odd=ATOMS[1:2])))


@given(
    st.lists(st.tuples(sizes, patterns), max_size=25),
    st.sampled_from(REGIMES),
    st.lists(st.sampled_from([(), ("W",), (f"{SUM}h",)]), min_size=25, max_size=25),
)
@settings(max_examples=200, deadline=None)
def test_exceeded_as_pair_by_pair(rows: list[tuple[Scale, Pattern]], regime: Regime, tags: list[tuple[str, ...]]) -> None:
    every = [Term(size, one, tag) for (size, one), tag in zip(rows, tags, strict=False)]
    pairs = [
        any(
            own(t, regime) is own(o, regime)
            and regime.order(t.size, o.size) == -1
            and faster(t.pattern.shape, o.pattern.shape)
            for o in every
        )
        for t in every
    ]
    assert list(exceeded(every, regime)) == pairs


@given(st.lists(sizes, max_size=12), st.sampled_from(REGIMES), st.sampled_from([ONE, Scale.of("N", "1/2")]))
@settings(max_examples=200, deadline=None)
def test_of_alike_terms_those_are_left_that_no_other_exceeds(found: list[Scale], regime: Regime, margin: Scale) -> None:
    """Of one tag and pattern, compared one by one; those that tie at a point only are told apart."""
    left: list[Scale] = []
    for size in found:
        tie = [s for s in left if s is size or (regime.point is None and regime.order(size, s) == 0)]
        if not tie and not any(regime.order(size * margin, s) == -1 for s in left):
            left = [s for s in left if regime.order(s * margin, size) != -1] + [size]
    assert [t.size for t in simplify((Term(size, EVEN, ("W",)) for size in found), regime, margin)] == left


def test_of_too_many_corrections_one_of_each_size_stays() -> None:
    """All went, and rows that are mostly correction at affordable widths stayed open for want of it."""
    margin = Scale.of("N", "1/2")
    odd = [atom(f"x{k}", "N") for k in range(MOST_CORRECTIONS + 1)]
    few = Term(ONE, pattern(odd=[odd[0]]), ("W",))
    many = [Term(ONE, pattern(odd=[a, atom("y", "N"), atom("z", "N")]), ("W",)) for a in odd]
    lead = Term(margin, EVEN, ("W",))
    assert set(simplify([lead, *many, few], margin=margin)) == {lead, few}
    assert set(simplify([lead, *many, few])) == {lead}
