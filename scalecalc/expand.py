"""A function of a sum of terms, entry by entry (hard case W1).

Let the leading terms of the argument be x_1 … x_k and the others r.  Then

    φ(x + r) = φ(x_1 + … + x_k)  +  φ′(x)·r  +  ½ φ″(x)·r·r  + …

and φ of the leading terms has, for every subset S of them, a part that is odd in exactly those in S: its parity is the
symmetric difference of theirs.  An odd φ gives odd |S| only, an even φ even |S| only, a polynomial |S| up to its degree.
φ′ and φ″ are treated the same way; φ″ counts even where it is a delta (relu).

The size follows from how φ behaves at the size of its argument: homogeneous functions keep it at any size; otherwise an
argument of order one gives order one, a small argument (or one that falls along an axis) is Taylor expanded, a large one
takes φ's behaviour at infinity.

A tagged term, what an update contributes, is expanded around the initial argument whatever its size: its first order in
the update is φ′(x)·r, its second ½ φ″(x)·r·r, and a table keeps the orders apart by their tags.  Where the second outgrows
the first the rate is too large, and the table says so; their sum would be neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Protocol

from scalecalc.scale import Scale
from scalecalc.term import (
    EVEN,
    FLAT,
    Profiles,
    Term,
    falls_below,
    multiply_patterns,
    multiply_terms,
    pattern,
    simplify,
)
from scalecalc.value import Algebra, Value

ONE = Scale.one()
MOST_LEADING = 8
Argument = tuple[int, Term]  # which argument of the function, and one term of it


@dataclass(frozen=True)
class Local:
    """How a function behaves at a given size of argument: φ ~ |x|^degree with a parity.

    ``most``: the largest subset of leading terms it mixes (a polynomial's degree).  ``profiles``: what it adds along axes
    of its own (a discretization's transition index).
    """

    degree: Fraction
    parity: str = "none"
    most: int | None = None
    profiles: Profiles = ()


class Expandable(Protocol):
    """A function of one or several arguments, as the expansion needs it."""

    @property
    def zero(self) -> bool: ...

    @property
    def taylor(self) -> tuple[int, ...]: ...

    def partial(self, argument: int) -> Expandable: ...

    def local(self, size: str) -> Local | None:
        """``size``: ``one`` or ``large``; None if it vanishes there faster than any power."""
        ...

    @property
    def homogeneous(self) -> Fraction | None: ...


def leading(terms: Sequence[Term], algebra: Algebra) -> list[Term]:
    """The terms that no other exceeds at every index."""
    out: list[Term] = []
    for t in terms:
        below = (o for o in terms if o is not t and falls_below(t, o, algebra.regime))
        if all(falls_below(o, t, algebra.regime) for o in below):
            out.append(t)
    return out


def apply(f: Expandable, leads: Sequence[Term], algebra: Algebra, law: str, known: bool = False) -> list[Term]:
    """f of leading terms of like size: one term per allowed subset.

    No leads: f(0), unless the argument is ``known`` exactly, when f says itself what comes out.
    """
    if f.zero:
        return []
    if not leads:
        if known:
            return _subsets(f.local("one"), ONE, (), (), algebra, law)
        here = f.local("one")
        present = 0 in f.taylor if f.homogeneous is None else f.homogeneous == 0 and here is not None and here.parity != "odd"
        return [Term(ONE, EVEN, (), algebra.step(law))] if present else []
    out: list[Term] = []
    for own in _alike(leads, algebra):
        out += _at(f, own[0].size, own[0].pattern.profiles, own, algebra, law)
    return out


def _alike(leads: Sequence[Term], algebra: Algebra) -> list[list[Term]]:
    """Leading terms that lead together: of one size in the regime, and of one profile.

    Leads of different profile lead at different indices, and leads of incomparable size on different paths to infinity;
    each such group leads alone.  Where two of them tie the product of their parities would count as well: a regime in
    which they tie has them in one group.
    """
    groups: list[list[Term]] = []
    for t in leads:
        for own in groups:
            if own[0].pattern.profiles == t.pattern.profiles and algebra.regime.order(own[0].size, t.size) == 0:
                own.append(t)
                break
        else:
            groups.append([t])
    return groups


def _at(
    f: Expandable, size: Scale, profiles: Profiles, leads: Sequence[Term], algebra: Algebra, law: str
) -> list[Term]:
    if f.homogeneous is not None:
        return _subsets(f.local("one"), size, profiles, leads, algebra, law)
    order = algebra.regime.order(size, ONE)
    falls = any(p != FLAT and p.bounded_by(FLAT) for _, p in profiles)
    grows = any(not p.bounded_by(FLAT) for _, p in profiles)
    out: list[Term] = []
    if order == 0 and not falls and not grows:
        out += _subsets(f.local("one"), ONE, (), leads, algebra, law)
    # Where it may be small or large, small is a perturbation and was expanded as one; taking the lead, it is large.
    if order == -1 or falls or (order is None and not any(t.tag for t in leads)):
        out += _taylor(f, [replace(t, size=size) for t in leads], algebra, law)
    if order in (1, None) or grows:
        out += _subsets(f.local("large"), size, profiles, leads, algebra, law)
    return out


def _subsets(
    local: Local | None, size: Scale, profiles: Profiles, leads: Sequence[Term], algebra: Algebra, law: str
) -> list[Term]:
    if local is None:
        return []
    tag = min((t.tag for t in leads), key=len, default=())
    own = tuple((label, p**local.degree) for label, p in profiles) + local.profiles
    base = pattern(own)
    step = algebra.step(law, *leads)
    most = len(leads) if local.most is None else min(local.most, len(leads))
    found: dict[tuple[Scale, object], Term] = {}
    for k in range(most + 1):
        if (local.parity == "odd" and k % 2 == 0) or (local.parity == "even" and k % 2 == 1):
            continue
        for subset in combinations(leads[:MOST_LEADING], k):
            parts = ((ONE, base),)
            for t in subset:
                flat = pattern((), t.pattern.odd)
                parts = tuple((s * r, q) for s, p in parts for r, q in multiply_patterns(p, flat))
            for relative, one in parts:
                t = Term(size**local.degree * relative, one, tag, step)
                found.setdefault((t.size, one), t)
    return list(found.values())


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
    if leads or known:
        out += _perturb(f, leads, rest, [], algebra, known)
    for position, group in enumerate(tagged.values()):
        if leads or known:
            others = list(tagged.values())[position + 1 :] if algebra.limits.distinct > 1 else []
            out += _perturb(f, leads, group, [*rest, *(a for other in others for a in other)], algebra, known)
        else:  # exactly zero at initialisation: the update is all there is
            heads = leading([t for _, t in group], algebra)
            law = "entry by entry; there is nothing but the update"
            after = [(i, t) for i, t in group if not any(t is o for o in heads)]
            found = apply(f, heads, algebra, law) + _perturb(f, heads, after, [], algebra, False)
            out += [t for t in found if t.tag]
    return algebra.value(labels, out)


def _perturb(
    f: Expandable,
    leads: Sequence[Term],
    small: Sequence[Argument],
    beside: Sequence[Argument],
    algebra: Algebra,
    known: bool,
) -> list[Term]:
    """First and second order in the terms ``small`` (second order also with ``beside``), around the leading ones."""
    out: list[Term] = []
    law = "entry by entry: φ′ times the smaller term"
    by: dict[int, list[Term]] = {}
    near: dict[int, list[Term]] = {}
    for group, found in ((small, by), (beside, near)):
        for i, t in group:
            found.setdefault(i, []).append(t)
    for i, terms in by.items():
        out += _times(apply(f.partial(i), leads, algebra, law, known), terms, algebra, law)
    law = "entry by entry: φ″ times two smaller terms"
    for i, j in sorted({(i, j) for i in by for j in (*by, *near)}):
        second = f.partial(i).partial(j) if not f.partial(i).zero else f.partial(i)
        if second.zero:
            continue
        others = near.get(j, []) + (by.get(j, []) if i <= j else [])
        squares = simplify(_times(by[i], others, algebra, law), algebra.regime, algebra.margin)
        out += _times(apply(second, leads, algebra, law, known), squares, algebra, law)
    return out


def _times(a: Sequence[Term], b: Sequence[Term], algebra: Algebra, law: str) -> list[Term]:
    return [p for s in a for t in b for p in multiply_terms(s, t, algebra.step(law, s, t), algebra.limits)]
