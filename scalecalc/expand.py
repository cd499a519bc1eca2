"""A function of a sum of terms, entry by entry (hard case W1).

Let the leading terms of the argument be x_1 … x_k and the others r.  Then

    φ(x + r) = φ(x_1 + … + x_k)  +  φ′(x)·r  +  ½ φ″(x)·r·r  + …

and φ of the leading terms has, for every subset S of them, a part that is odd in exactly those in S: its parity is the
symmetric difference of theirs.  An odd φ gives odd |S| only, an even φ even |S| only, a polynomial |S| up to its degree.
φ′ and φ″ are treated the same way; φ″ counts even where it is a delta (relu).

The size follows from how φ behaves at the size of its argument: homogeneous functions keep it at any size; otherwise an
argument of order one gives order one, a small argument (or one that falls along an axis) is Taylor expanded, a large one
takes φ's behaviour at infinity.  Where terms lead at different indices, or pass from small to large along an axis, all this
is done window by window (:mod:`scalecalc.window`).

A tagged term, what an update contributes, is expanded around the initial argument whatever its size: its first order in
the update is φ′(x)·r, its second ½ φ″(x)·r·r, and a table keeps the orders apart by their tags.  Where the second outgrows
the first the rate is too large, and the table says so; their sum would be neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Protocol

from scalecalc import window
from scalecalc.mixture import Local, subsets
from scalecalc.scale import ZERO, Scale
from scalecalc.term import (
    EVEN,
    Mask,
    Pattern,
    Profiles,
    Step,
    Term,
    mask,
    multiply_terms,
    pattern,
    products,
    simplify,
)
from scalecalc.value import Algebra, Value

ONE = Scale.one()
Argument = tuple[int, Term]  # which argument of the function, and one term of it
Derivative = tuple[tuple[int, ...], Fraction]  # by which arguments, and how it is a jump


class Expandable(Protocol):
    """A function of one or several arguments, as the expansion needs it."""

    @property
    def zero(self) -> bool: ...

    @property
    def taylor(self) -> tuple[int, ...]: ...

    def partial(self, argument: int) -> Expandable: ...

    def local(self, size: str) -> tuple[Local, ...]:
        """Its parts at ``size`` ``one`` or ``large``; none if it vanishes there faster than any power."""
        ...

    @property
    def homogeneous(self) -> Fraction | None: ...

    @property
    def half(self) -> bool:
        """Is it exactly zero for one sign of its argument?"""
        ...

    @property
    def vanishes(self) -> bool:
        """Is it zero where its argument is?"""
        ...

    @property
    def breaks(self) -> bool:
        """Has it no derivative at 0 and no scale of its own?"""
        ...


def leading(terms: Sequence[Term], algebra: Algebra) -> list[Term]:
    """The terms that no other exceeds at every index."""
    return window.leading(terms, algebra.regime)


def apply(
    f: Expandable, leads: Sequence[Term], algebra: Algebra, law: str, known: bool = False, jump: Fraction = ZERO
) -> list[Term]:
    """f of leading terms of like size: one term per allowed subset.

    No leads: f(0), unless the argument is ``known`` exactly, when f says itself what comes out.  ``jump``: f is a
    derivative of a function that looks like its limit to what it is multiplied with, so that where it is local it falls with
    this power of the argument: of a sign's derivatives (tanh) their order, of a ramp's (gelu) one less.
    """
    if f.zero:
        return []
    if not leads:
        if known:
            return subsets(f.local("one"), ONE, (), (), algebra, law)
        flat = f.homogeneous == 0 and any(part.parity != "odd" for part in f.local("one"))
        present = 0 in f.taylor if f.homogeneous is None else flat
        return [Term(ONE, EVEN, (), algebra.step(law))] if present else []
    masks = frozenset[Mask].intersection(*(t.pattern.masks for t in leads)) if f.vanishes else frozenset[Mask]()
    if f.half:
        masks |= {mask([t.pattern for t in leads], ONE)}
    groups = _alike(leads, algebra)
    apart = _apart(groups, algebra)
    out: list[Term] = []
    for own in groups:
        found = _at(f, own[0].size, tuple(window.moduli(own[0]).items()), own, algebra, law, jump)
        assumption = apart or _both_sides(f, own[0], algebra)
        if assumption:
            found = [replace(t, why=t.why and _assuming(t.why, assumption)) for t in found]
        out += [Term(t.size, _masked(t.pattern, masks), t.tag, t.why) for t in found] if masks else found
    return out


def _assuming(why: Step, assumption: str) -> Step:
    return replace(why, assumption="; ".join(filter(None, (why.assumption, assumption))))


def _masked(one: Pattern, masks: frozenset[Mask]) -> Pattern:
    """A pattern that is exactly zero elsewhere, too."""
    return one if masks <= one.masks else pattern(one.profiles, one.odd, one.same, one.masks | masks)


def _apart(groups: Sequence[Sequence[Term]], algebra: Algebra) -> str:
    """What is assumed where leading terms do not lead together.  (A diagonal leads on the diagonal, exactly.)"""
    kinds = {(g[0].size, tuple(window.moduli(g[0]).items())) for g in groups if not g[0].pattern.same}
    if len(kinds) < 2:
        return ""
    sizes = ", ".join(sorted({str(size) for size, _ in kinds}))
    return (
        f"several terms lead the argument at {algebra.at} (of sizes {sizes}), each at other indices or on other paths; "
        "each is taken to lead everywhere, an upper bound"
    )


def _both_sides(f: Expandable, lead: Term, algebra: Algebra) -> str:
    """What is assumed where a leading term is small at some indices, large at others, and no window tells them apart."""
    if f.homogeneous is not None or not {-1, 1} <= {algebra.regime.order(v, ONE) for v in window.values(lead)}:
        return ""
    return (
        f"the argument at {algebra.at} (of size {lead.size} at small index) is large at some indices and small at others; "
        "it is counted as either everywhere, an upper bound"
    )


def _alike(leads: Sequence[Term], algebra: Algebra) -> list[list[Term]]:
    """Leading terms that lead together: of one size in the regime, and of one profile.

    Leads of different profile lead at different indices, and leads of incomparable size on different paths to infinity;
    each such group leads alone.  Where two of them tie the product of their parities would count as well: a regime in
    which they tie has them in one group.
    """
    groups: list[list[Term]] = []
    for t in leads:
        for own in groups:
            first = own[0].pattern
            alike = window.moduli(own[0]) == window.moduli(t) and first.same == t.pattern.same
            if alike and algebra.regime.order(own[0].size, t.size) == 0:
                own.append(t)
                break
        else:
            groups.append([t])
    return groups


def _at(
    f: Expandable, size: Scale, profiles: Profiles, leads: Sequence[Term], algebra: Algebra, law: str, jump: Fraction
) -> list[Term]:
    if f.homogeneous is not None:
        return subsets(f.local("one"), size, profiles, leads, algebra, law)
    orders = {algebra.regime.order(v, ONE) for v in window.values(leads[0])}
    decays = any(p.decaying for _, p in profiles)
    out: list[Term] = []
    if orders == {0} and not decays:
        out += subsets(f.local("one"), ONE, (), leads, algebra, law)
    # Where it may be small or large, small is a perturbation and was expanded as one; taking the lead, it is large.
    if -1 in orders or decays or (None in orders and not any(t.tag for t in leads)):
        out += _taylor(f, [replace(t, size=size) for t in leads], algebra, law)
    if orders & {1, None}:
        large = f.local("large")
        if jump:
            large = [replace(part, degree=-jump, local=False) if part.local else part for part in large]
        out += subsets(large, size, profiles, leads, algebra, law)
    return out


def _taylor(f: Expandable, leads: Sequence[Term], algebra: Algebra, law: str) -> list[Term]:
    out: list[Term] = []
    for k in f.taylor:
        powers = [Term(ONE, EVEN, (), algebra.step(law))]
        for _ in range(k):
            powers = [p for a in powers for b in leads for p in multiply_terms(a, b, algebra.step(law, b), algebra.limits)]
        out += powers
    return out


def expand(f: Expandable, labels: Sequence[str], arguments: Sequence[Value], algebra: Algebra) -> Value:
    """φ(arguments), entry by entry.  An argument that is ``exact`` has no leading terms of its own: φ knows it."""
    return algebra.value(labels, _by_window(f, arguments, algebra, frozenset()))


def _by_window(f: Expandable, arguments: Sequence[Value], algebra: Algebra, done: frozenset[str]) -> list[Term]:
    """The expansion window by window, along one axis after the other, where what leads changes along it."""
    random = [t for v in arguments if v.exact is None for t in v.terms]
    heads = [t for t in random if not t.tag]
    if not heads and len({tuple(sorted(set(t.tag))) for t in random}) > 1 and algebra.limits.distinct == 1:
        # exactly zero at initialisation: each weight's update is alone, and leads where it does
        groups = {tag: None for t in random for tag in [tuple(sorted(set(t.tag)))]}
        each = [[v.only(lambda t, g=g: tuple(sorted(set(t.tag))) == g) for v in arguments] for g in groups]
        return [t for one in each for t in _by_window(f, one, algebra, done)]
    found = window.cuts(heads or random, f.homogeneous is None, algebra.regime, done)
    if not found:
        return _expand(f, arguments, algebra)
    out: list[Term] = []
    for here in found:
        inside = [v if v.exact is not None else replace(v, terms=_restricted(v.terms, here)) for v in arguments]
        terms = _by_window(f, inside, algebra, done | {here.label})
        out += [s for t in terms if (s := window.clipped(t, here)) is not None]
    return out


def _restricted(terms: Sequence[Term], here: window.Window) -> tuple[Term, ...]:
    return tuple(s for t in terms if (s := window.restricted(t, here)) is not None)


def _expand(f: Expandable, arguments: Sequence[Value], algebra: Algebra) -> list[Term]:
    leads: list[Term] = []
    rest: list[Argument] = []
    tagged: dict[tuple[str, ...], list[Argument]] = {}
    initial: list[list[Term]] = []
    for i, value in enumerate(arguments):
        untagged = [t for t in value.terms if not t.tag]
        initial.append(untagged if value.exact is not None else leading(untagged, algebra))
        if value.exact is None:
            leads += initial[i]
        rest += [(i, t) for t in untagged if not any(t is o for o in initial[i])]
        for t in value.terms:
            if t.tag:
                tagged.setdefault(tuple(sorted(set(t.tag))), []).append((i, t))
    known = all(v.exact is not None for v in arguments)
    out = apply(f, leads, algebra, "entry by entry, at the leading terms", known)
    around = _Around(leads, algebra, known)
    if leads or known:
        out += _perturb(f, around, rest, [])
    if f.breaks and leads and all(t.pattern.masks for t in leads):
        # Where all that leads is exactly zero, f sees what is left (sign(relu z + v/N) is sign v for half of the entries).
        seen = [t for _, t in rest if all(lead.pattern.masks - t.pattern.masks for lead in leads)]
        out += apply(f, leading(seen, algebra), algebra, "entry by entry, where the leading terms are zero")
    for position, group in enumerate(tagged.values()):
        if leads or known:
            others = list(tagged.values())[position + 1 :] if algebra.limits.distinct > 1 else []
            out += _perturb(f, around, group, [*rest, *(a for other in others for a in other)])
        else:  # exactly zero at initialisation: the update is all there is
            heads = leading([t for _, t in group], algebra)
            law = "entry by entry; there is nothing but the update"
            after = [(i, t) for i, t in group if not any(t is o for o in heads)]
            found = apply(f, heads, algebra, law) + _perturb(f, _Around(heads, algebra, False), after, [])
            out += [t for t in found if t.tag]
    return out


@dataclass
class _Around:
    """The leading terms that a function is expanded around, and its derivatives there, each made once."""

    leads: Sequence[Term]
    algebra: Algebra
    known: bool
    _made: dict[Derivative, list[Term]] = field(default_factory=dict[Derivative, list[Term]])

    def derivative(self, f: Expandable, by: tuple[int, ...], jump: Fraction) -> list[Term]:
        """A derivative ``by`` these arguments at the leading terms; ``jump``: see :func:`apply`."""
        if (by, jump) not in self._made:
            law = f"φ{'′' if len(by) == 1 else '″'} at the leading terms"
            self._made[by, jump] = apply(f, self.leads, self.algebra, law, self.known, jump)
        return self._made[by, jump]


def _perturb(f: Expandable, around: _Around, small: Sequence[Argument], beside: Sequence[Argument]) -> list[Term]:
    """First and second order in the terms ``small`` (second order also with ``beside``), around the leading ones."""
    leads, algebra = around.leads, around.algebra
    out: list[Term] = []
    law = "entry by entry: φ′ times the smaller term"
    by: dict[int, list[Term]] = {}
    near: dict[int, list[Term]] = {}
    for group, found in ((small, by), (beside, near)):
        for i, t in group:
            found.setdefault(i, []).append(t)
    for i, terms in by.items():
        for jump, some in _above(f, 1, terms, algebra):
            out += _times(around.derivative(f.partial(i), (i,), jump), some, algebra, law, _typical(f, leads, algebra))
    law = "entry by entry: φ″ times two smaller terms"
    for i, j in sorted({(i, j) for i in by for j in (*by, *near)}):
        second = f.partial(i).partial(j) if not f.partial(i).zero else f.partial(i)
        if second.zero:
            continue
        others = near.get(j, []) + (by.get(j, []) if i <= j else [])
        squared = len(by[i]) if i == j else 0
        squares = simplify(_times(by[i], others, algebra, law, squared=squared), algebra.regime, algebra.margin)
        for jump, some in _above(f, 2, squares, algebra):
            out += _times(around.derivative(second, (i, j), jump), some, algebra, law)
    return out


def _above(f: Expandable, order: int, terms: Sequence[Term], algebra: Algebra) -> list[tuple[Fraction, list[Term]]]:
    """Smaller terms that are larger than one themselves, to which a function with a scale of its own looks like its limit,
    and by which power of the argument its derivative of an order falls then.

    That power was the order, as of a jump, for a ramp, too: the second order of an update in gelu of a large argument came
    out smaller by that argument.
    """
    if f.homogeneous is not None:
        return [(ZERO, list(terms))]
    sides: tuple[list[Term], list[Term]] = [], []
    for t in terms:
        sides[1 in {algebra.regime.order(v, ONE) for v in window.values(t)}].append(t)
    grows = max((part.degree for part in f.local("large") if not part.local), default=ZERO) if sides[1] else ZERO
    return [(jump, some) for jump, some in zip((ZERO, order - max(grows, ZERO)), sides, strict=True) if some]


def _times(
    a: Sequence[Term], b: Sequence[Term], algebra: Algebra, law: str, assumption: str = "", squared: int = 0
) -> list[Term]:
    return list(products(a, b, algebra.limits, lambda s, t: algebra.step(law, s, t, assumption=assumption), squared))


def _typical(f: Expandable, leads: Sequence[Term], algebra: Algebra) -> str:
    """What is assumed of a term under a jump whose leading argument is a product, c_m a_n.

    The jump is passed at a share r/|c_m| of the n, which for a generic c_m is that of r, its typical size.  But 1/|c| of a
    single number has no second moment: at the share r of the m where c is as small as r, all n pass together, and the
    root-mean-square over m is r^(1/2).  A gradient that is a sum over three samples or more has no such m.  That number is
    no width, and atoms do not have it; so the typical entry is what is said, and that it is one.
    """
    if not f.breaks or f.homogeneous != 0:
        return ""
    for t in leads:
        labels = frozenset[str]().union(*(a.labels for a in t.pattern.odd))
        if any(a.labels < labels for a in t.pattern.odd):
            return (
                f"no factor of the leading term at {algebra.at} is as small as the term beside it, but at single entries "
                "(it is a sum over three samples or more)"
            )
    return ""
