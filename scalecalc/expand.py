"""A function of a sum of terms, entry by entry (hard case W1).

Let the leading terms of the argument be x_1 … x_k and the others r.  Then

    φ(x + r) = φ(x_1 + … + x_k)  +  φ′(x)·r  +  ½ φ″(x)·r·r  + …

and φ of the leading terms has, for every subset S of them, a part that is odd in exactly those in S: its parity is the
symmetric difference of theirs.  An odd φ gives odd |S| only, an even φ even |S| only, a polynomial |S| up to its degree.
φ′ and φ″ are treated the same way; φ″ counts even where it is a delta (relu).

The size follows from how φ behaves at the size of its argument: homogeneous functions keep it at any size; otherwise an
argument of order one gives order one, a small argument (or one that falls along an axis) is Taylor expanded, a large one
takes φ's behaviour at infinity.

A tagged term as large as the initial argument is still expanded around it (the parities are the same, and so is the
size).  One that exceeds it takes the lead: φ(x + r) − φ(x) is then φ(r) and its own expansion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Protocol

from scalecalc.scale import Scale
from scalecalc.term import EVEN, FLAT, Profiles, Term, falls_below, multiply_patterns, multiply_terms, pattern
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
    groups: dict[tuple[Scale, Profiles], list[Term]] = {}
    for t in leads:
        groups.setdefault((t.size, t.pattern.profiles), []).append(t)
    out: list[Term] = []
    for (size, profiles), own in groups.items():
        # Leads of different size or profile lead at different indices or widths: each in turn sets the size.
        alone = {o.pattern for o in own}
        others = [t for t in leads if t.pattern not in alone]
        out += _at(f, size, profiles, own + others, algebra, law)
    return out


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
    if order in (-1, None) or falls:
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
    for group in tagged.values():
        mild = [(i, t) for i, t in group if initial[i] and not all(_exceeds(t, o, algebra) for o in initial[i])]
        wild = [t for i, t in group if not any(falls_below(t, o, algebra.regime) for o in initial[i])]
        out += _perturb(f, leads, mild, rest, algebra, known)
        if wild:
            heads = leading(wild, algebra)
            law = "entry by entry; the update exceeds the initial argument and takes the lead"
            after = [(i, o) for i, t in group if t in heads for o in initial[i]]
            found = apply(f, heads, algebra, law) + _perturb(f, heads, after, [], algebra, False)
            out += [t if t.tag else replace(t, tag=heads[0].tag) for t in found]
    return algebra.value(labels, out)


def _exceeds(t: Term, other: Term, algebra: Algebra) -> bool:
    return falls_below(other, t, algebra.regime) and not falls_below(t, other, algebra.regime)


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
    for i, r in small:
        for d in apply(f.partial(i), leads, algebra, law, known):
            out += multiply_terms(d, r, algebra.step(law, d, r), algebra.limits)
    law = "entry by entry: φ″ times two smaller terms"
    for (i, r), (j, s) in _pairs(small, beside):
        if f.partial(i).zero or algebra.limits.join(r.tag, s.tag) is None:
            continue
        squares = multiply_terms(r, s, algebra.step(law, r, s), algebra.limits)
        for d in apply(f.partial(i).partial(j), leads, algebra, law, known):
            out += [p for q in squares for p in multiply_terms(d, q, algebra.step(law, d, r, s), algebra.limits)]
    return out


def _pairs(small: Sequence[Argument], beside: Sequence[Argument]) -> Iterable[tuple[Argument, Argument]]:
    for k, a in enumerate(small):
        for b in small[k:]:
            yield a, b
        for b in beside:
            yield a, b
