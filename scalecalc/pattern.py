"""How the entries of a contribution vary along its axes, and the two laws that compose patterns: product and sum.

This is where alignment is decided: whether a sum over n entries is √n or n large.

Conventions
-----------
*Labels.*  A growing axis has a label: the name of its dim and any number of primes.  ``N_u`` and ``N_u'`` are two axes of
one dim (the two sides of a square weight).  Axes of fixed size (batch, time) do not appear here at all.

*Profile.*  Entries along an axis fall like index^(−p) (log index)^b, or exponentially.  p = 0: all alike.

*Atom.*  A factor W[·, ·] of a random tensor W with independent centred entries.  Each slot is either free (a label: the
axis of the present tensor) or bound (a :class:`Source`: the vector that W was multiplied with and summed over).
``h = W x`` is the atom W[m; x]: free in its row, bound in its column to the source x.  A term is odd under the flip of
each of its atoms, independently for every index; that is what makes a sum over that index a central-limit sum.

The two laws (calculus of Tensor Programs: Yang 2020, arXiv 2009.10685, with exponents and profiles kept)
----------------------------------------------------------------------------------------------------------
*Sum over an axis.*  No atom is free there: law of large numbers, Σ n^(−p).  Otherwise: central limit, (Σ n^(−2p))^(1/2),
and what stood beside the atom becomes the source of its bound slot.

*Product.*  Sizes multiply, profiles add, tags unite.  Two occurrences of one random tensor are paired or not (Wick):
unpaired, both atoms stay; paired, both vanish and their slots are identified:

- free with the same free label: nothing more;
- free ℓ with bound s: the source moves to ℓ, divided by its norm (so W Wᵀ g contains g: back-reaction);
- bound s with bound t: a factor ⟨s, t⟩ / (‖s‖ ‖t‖), itself by these two laws (so W a and W b are as aligned as a and b);
- free with another free label: a single diagonal, never leading, left out.

Identical atoms always pair; what the square fluctuates about its mean is never larger than the mean (it would have to be
kept if a centring removed the mean).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from scalecalc.profile import FLAT, HERE, ONE, Profile, Profiles, dim_of
from scalecalc.scale import FREE, Scale


class _Interned:
    """Equal values are one object, so that equality and hashing cost nothing however deep sources nest."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Pattern(_Interned):
    """How a term's entries vary: profiles (flat ones left out) and the atoms it is odd in.  Interned: use :func:`pattern`."""

    __slots__ = ("_free", "odd", "profiles")
    profiles: Profiles
    odd: frozenset[Atom]
    _free: dict[str, frozenset[Atom]]

    def profile(self, label: str) -> Profile:
        for name, profile in self.profiles:
            if name == label:
                return profile
        return FLAT

    def odd_on(self, label: str) -> frozenset[Atom]:
        """The atoms that are free on this axis."""
        if label not in self._free:
            self._free[label] = frozenset(a for a in self.odd if label in a.slots)
        return self._free[label]

    def __repr__(self) -> str:
        atoms = " ".join(sorted(repr(a) for a in self.odd))
        profiles = ", ".join(f"{label}: {p.words()}" for label, p in self.profiles)
        return f"<{atoms or 'even'}{'; ' + profiles if profiles else ''}>"


class Atom(_Interned):
    """One random tensor with its slots, each a free label or a bound :class:`Source`.  Interned: use :func:`atom`."""

    __slots__ = ("labels", "slots", "tensor")
    tensor: str
    slots: tuple[str | Source, ...]
    labels: frozenset[str]

    def __repr__(self) -> str:
        return f"{self.tensor}[{','.join(s if isinstance(s, str) else '·' for s in self.slots)}]"


class Source(_Interned):
    """What a bound slot was summed with: the leading patterns of that vector, on the label ``dim•``.  Interned."""

    __slots__ = ("label", "patterns")
    label: str
    patterns: frozenset[Pattern]

    def norm(self, one: Pattern) -> Scale:
        return one.profile(self.label).norm(dim_of(self.label))


_TABLE: dict[Any, Any] = {}


def pattern(profiles: Iterable[tuple[str, Profile]] = (), odd: Iterable[Atom] = ()) -> Pattern:
    clean = tuple(sorted((label, p) for label, p in profiles if p != FLAT))
    atoms = odd if isinstance(odd, frozenset) else frozenset(odd)
    key = ("pattern", clean, atoms)
    found = _TABLE.get(key)
    if found is None:
        found = Pattern()
        found.profiles, found.odd, found._free = clean, atoms, {}
        _TABLE[key] = found
    return found


def atom(tensor: str, slots: Sequence[str | Source]) -> Atom:
    key = ("atom", tensor, tuple(slots))
    found = _TABLE.get(key)
    if found is None:
        found = Atom()
        found.tensor, found.slots = tensor, tuple(slots)
        found.labels = frozenset(s for s in slots if isinstance(s, str))
        _TABLE[key] = found
    return found


def source(label: str, patterns: Iterable[Pattern]) -> Source:
    key = ("source", label, frozenset(patterns))
    found = _TABLE.get(key)
    if found is None:
        found = Source()
        found.label, found.patterns = label, key[2]
        _TABLE[key] = found
    return found


EVEN = pattern()
Weighted = tuple[tuple[Scale, Pattern], ...]


@cache
def relabel(one: Pattern, old: str, new: str) -> Pattern:
    """The same pattern with one axis renamed."""
    profiles = [(new if label == old else label, p) for label, p in one.profiles]
    atoms = frozenset(
        atom(a.tensor, [new if s == old else s for s in a.slots]) if old in a.labels else a for a in one.odd
    )
    return pattern(profiles, atoms)


@cache
def sum_pattern(one: Pattern, label: str) -> tuple[Scale, Pattern, bool]:
    """Sum over an axis: factor, remaining pattern, and whether the law of large numbers was used.

    Central-limit otherwise.  An atom with no free slot left is a scalar and is dropped: it shares one sign over the
    whole tensor, so no later sum over a growing axis can notice it.
    """
    dim, profile, here = dim_of(label), one.profile(label), dim_of(label) + HERE
    rest = [(name, p) for name, p in one.profiles if name != label]
    odd = one.odd_on(label)
    if not odd:
        return profile.sum(dim), pattern(rest, one.odd), True
    kept = [a for a in one.odd if a not in odd]
    for a in odd:
        beside = relabel(pattern([(label, profile)], odd - {a}), label, here)
        bound = atom(a.tensor, [source(here, [beside]) if s == label else s for s in a.slots])
        if bound.labels:
            kept.append(bound)
    return profile.norm(dim), pattern(rest, frozenset(kept)), False


def _pairings(left: Sequence[Atom], right: Sequence[Atom]) -> list[tuple[tuple[Atom, Atom], ...]]:
    """Every way to pair atoms of the left with atoms of the right, the empty way first."""
    if not left:
        return [()]
    first, rest = left[0], left[1:]
    ways = _pairings(rest, right)
    for other in right:
        if other.tensor == first.tensor and _can_pair(first, other):
            ways = ways + [((first, other), *way) for way in _pairings(rest, [r for r in right if r is not other])]
    return ways


def _can_pair(a: Atom, b: Atom) -> bool:
    return all(not (isinstance(s, str) and isinstance(t, str) and s != t) for s, t in zip(a.slots, b.slots, strict=True))


@cache
def multiply_patterns(a: Pattern, b: Pattern) -> Weighted:
    """The product of two patterns as a sum of (relative size, pattern), by the pairing rule of this module."""
    if b is EVEN:
        return ((ONE, a),)
    if a is EVEN:
        return ((ONE, b),)
    profiles = dict(a.profiles)
    for label, p in b.profiles:
        profiles[label] = profiles.get(label, FLAT) * p
    only_a, only_b = sorted(a.odd - b.odd, key=repr), sorted(b.odd - a.odd, key=repr)
    out: list[tuple[Scale, Pattern]] = []
    for pairs in _pairings(only_a, only_b):
        gone = {x for pair in pairs for x in pair}
        base = pattern(profiles.items(), frozenset(x for x in (*only_a, *only_b) if x not in gone))
        found: Weighted = ((ONE, base),)
        for x, y in pairs:
            for s, t in zip(x.slots, y.slots, strict=True):
                found = _times(found, _identify(s, t))
        out.extend(found)
    return _strongest(out)


def _identify(s: str | Source, t: str | Source) -> Weighted:
    """What pairing two slots leaves behind."""
    if isinstance(s, str) and isinstance(t, str):
        return ((ONE, EVEN),)
    if isinstance(s, Source) and isinstance(t, Source):
        return _overlap(s, t)
    label, bound = (s, t) if isinstance(s, str) else (t, s)
    assert isinstance(label, str) and isinstance(bound, Source)
    return tuple((ONE / bound.norm(p), relabel(p, bound.label, label)) for p in bound.patterns)


@cache
def _overlap(s: Source, t: Source) -> Weighted:
    """⟨s, t⟩ / (‖s‖ ‖t‖), by the product and the sum law."""
    if s is t:
        return ((ONE, EVEN),)
    out: list[tuple[Scale, Pattern]] = []
    for p in s.patterns:
        for q in t.patterns:
            for size, product in multiply_patterns(p, q):
                factor, rest, _ = sum_pattern(product, s.label)
                out.append((size * factor / s.norm(p) / t.norm(q), rest))
    return _strongest(out)


def _times(a: Weighted, b: Weighted) -> Weighted:
    return _strongest((s * t * u, r) for s, p in a for t, q in b for u, r in multiply_patterns(p, q))


def _strongest(found: Iterable[tuple[Scale, Pattern]]) -> Weighted:
    best: dict[Pattern, list[Scale]] = {}
    for size, one in found:
        best.setdefault(one, []).append(size)
    return tuple((size, one) for one, sizes in best.items() for size in FREE.leading(sizes))
