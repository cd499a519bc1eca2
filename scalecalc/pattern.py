"""How the entries of a contribution vary along its axes: what a term carries beside its size.

Conventions
-----------
*Labels.*  A growing axis has a label: the name of its dim and any number of primes.  ``N_u`` and ``N_u'`` are two axes of
one dim (the two sides of a square weight).  Axes of fixed size (batch, time) do not appear here at all.

*Profile.*  Entries along an axis fall like index^(−p) (log index)^b, or exponentially.  p = 0: all alike.  They may be there
in a window of indices only, outside which other terms tell what is there (hard case W5).

*Atom.*  A factor W[·, ·] of a random tensor W with independent centred entries.  Each slot is either free (a label: the
axis of the present tensor) or bound (a :class:`Source`: the vector that W was multiplied with and summed over).
``h = W x`` is the atom W[m; x]: free in its row, bound in its column to the source x.

*Knot.*  Several atoms that share summed indices and have free labels of their own: V[m, k] W[k, n], a product of two
matrices, or Σ_d q[h, d] k[h, d], a score per head.  The summed indices stay what they are, one index each, so that a later
factor q[h, d] is resolved together with k[h, d] (hard case W3).  What hangs on one atom alone is its source, not a knot,
also where it hangs on it by several indices.

*Blocks.*  Of a tensor that is there once per repeated block, W[l, m, n], an atom shares its block l with what it is
multiplied with: W[l, m; x_l].  So what hangs on it alone but for l is its source all the same, in which the index that
stands in the atom's own slot is called ``L••`` (:data:`OWN`).  A block is written then as a network without blocks is, and
W_l a + W_l b_l is one vector.  (Road not taken: knots, W[l, m, k] b[l, k].  Of one atom with the source 1 + silu(c_l) they
made two, of products of such atoms 2^n, and what only differs in a number per block was as many things: a Mamba block's
gradients had 100 leading terms where outside a stack they have eight, and did not come to an end.)

*Fluctuation.*  The square of an atom is its mean, 1, and what is centred beside it.  The second never leads, unless a
centring (LayerNorm, softmax) removes the first, so that it is kept only in programs that centre (hard case W4).

*Mask.*  Where a term is exactly zero, for want of a sign or of a small enough argument, it hides nothing that it stands
beside, and its mean is smaller than its root-mean-square (hard case W5).

*Diagonal.*  Labels that stand for one index: W Wᵀ has a part that lives on the diagonal m = m′ alone.

A term is odd under the flip of each of its atoms, independently for every index; that is what makes a sum over that index
a central-limit sum.  The two laws, product and sum, are in :mod:`scalecalc.wick`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any

from scalecalc.profile import FLAT, HALF, HERE, Profile, Profiles, dim_of
from scalecalc.reads import MADE, note
from scalecalc.scale import Scale

ONE = Scale.one()
_serial = count()


class _Interned:
    """Equal values are one object, so that equality and hashing cost nothing however deep sources nest.

    A set of them has no order that two runs have alike.  Where that would show, they are taken by their serial numbers.
    """

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Pattern(_Interned):
    """How a term's entries vary.  Interned: use :func:`pattern`.

    ``profiles`` by label, flat ones left out; ``odd``: what it is odd in; ``same``: classes of labels that stand for one
    index (the first of a class, alphabetically, carries profile and atoms); ``masks``: where it is exactly zero.
    """

    __slots__ = ("_free", "_held", "frame", "labels", "masks", "odd", "places", "profiles", "same", "serial", "shape")
    frame: Frame
    shape: Shape
    labels: frozenset[str]  # the axes along which it is odd
    places: frozenset[tuple[str, str]]  # of all that it is odd in
    serial: int
    profiles: Profiles
    masks: frozenset[Mask]
    odd: frozenset[Atom | Knot]
    same: frozenset[frozenset[str]]
    _free: dict[str, frozenset[Atom | Knot]]
    _held: frozenset[Held] | None

    def profile(self, label: str) -> Profile:
        for name, profile in self.profiles:
            if name == label:
                return profile
        return FLAT

    def odd_on(self, label: str) -> frozenset[Atom | Knot]:
        """The atoms and knots that are free on this axis."""
        if label not in self._free:
            self._free[label] = frozenset(a for a in self.odd if label in a.labels)
        return self._free[label]

    @property
    def held(self) -> frozenset[Held]:
        """Per place, by what it is odd there."""
        if self._held is None:
            self._held = frozenset([(p, frozenset([a for a in self.odd if p in a.places])) for p in self.places])
        return self._held

    def diagonal(self, label: str) -> frozenset[str]:
        """The labels that stand for one index with this one; empty if it stands alone."""
        return next((c for c in self.same if label in c), frozenset[str]())

    def __repr__(self) -> str:
        atoms = " ".join(sorted(repr(a) for a in self.odd))
        parts = [atoms or "even"]
        parts += [f"{label}: {p.words()}" for label, p in self.profiles]
        parts += ["=".join(sorted(c)) for c in self.same]
        parts += [f"on {mask.density} of the entries" for mask in self.masks]
        return f"<{'; '.join(parts)}>"


Slot = Any  # str: a free label; Source: bound; int: an index bound within a knot


def _word(slot: Slot) -> str:
    return "·" if isinstance(slot, Source) else str(slot)


class Atom(_Interned):
    """One random tensor with its slots, each a free label or a bound :class:`Source`.  Interned: use :func:`atom`."""

    __slots__ = ("labels", "places", "serial", "slots", "tensor")
    tensor: str
    slots: tuple[str | Source, ...]
    labels: frozenset[str]
    places: frozenset[tuple[str, str]]  # which tensor is free on which axis, but for that of its block
    serial: int

    @property
    def tensors(self) -> tuple[str, ...]:
        """The random tensors it is made of, with repetition."""
        return (self.tensor,)

    def __repr__(self) -> str:
        return f"{name_of(self.tensor)}[{','.join(map(_word, self.slots))}]"


class Knot(_Interned):
    """Atoms that share summed indices.  Interned: use :func:`knot`.

    ``atoms``: (tensor, slots); an int in a slot is the position of a summed index in ``indices``, which holds the dim and
    the profile of each.
    """

    __slots__ = ("atoms", "indices", "labels", "places", "serial")
    atoms: tuple[tuple[str, tuple[Slot, ...]], ...]
    indices: tuple[tuple[str, Profile], ...]
    labels: frozenset[str]
    places: frozenset[tuple[str, str]]
    serial: int

    @property
    def tensors(self) -> tuple[str, ...]:
        return tuple(tensor for tensor, _ in self.atoms)

    def __repr__(self) -> str:
        return "(" + " ".join(f"{name_of(tensor)}[{','.join(map(_word, slots))}]" for tensor, slots in self.atoms) + ")"


class Shape(_Interned):
    """Profiles and diagonals alone: many patterns share one, and whether one bounds another depends on nothing else."""

    __slots__ = ("profiles", "same", "windowed")
    profiles: dict[str, Profile]
    same: frozenset[frozenset[str]]
    windowed: bool

    def profile(self, label: str) -> Profile:
        return self.profiles.get(label, FLAT)


class Frame(_Interned):
    """All of a pattern but what it is odd in: profiles, diagonals and masks; and the patterns that have it."""

    __slots__ = ("masks", "patterns", "profiles", "same", "shape")
    masks: frozenset[Mask]
    patterns: dict[frozenset[Atom | Knot], Pattern]
    profiles: Profiles
    same: frozenset[frozenset[str]]
    shape: Shape


class Mask(_Interned):
    """A part of the entries, outside which a term is exactly zero: where relu′(x) or a saturated tanh′(x) is not.

    ``of``: the leading patterns of x, whose signs and sizes decide; ``density``: the share of the entries.  Interned: use
    :func:`mask`.
    """

    __slots__ = ("density", "labels", "of")
    of: frozenset[Pattern]
    density: Scale
    labels: frozenset[str]


class Source(_Interned):
    """What a bound slot was summed with: the leading patterns of that vector, on the label ``dim•``.  Interned.

    Slots may be bound together, to what has an axis for each of them: W[m; x] with x of the axes heads × size of a head.
    Each of these slots has a source then, all of the same patterns and ``labels``, its own ``label`` being one of these.
    """

    __slots__ = ("label", "labels", "own", "patterns", "serial")
    label: str
    labels: tuple[str, ...]
    own: str  # what the index in its atom's own slot for blocks is called in it; empty if it is the same for all blocks
    patterns: frozenset[Pattern]
    serial: int

    @property
    def joint(self) -> bool:
        return len(self.labels) > 1

    def norm(self, one: Pattern) -> Scale:
        out = one.profile(self.label).norm(dim_of(self.label)) * share(one.masks) ** HALF
        for label in self.labels if self.joint else ():
            if label != self.label:
                out = out * one.profile(label).norm(dim_of(label))
        return out


Held = tuple[tuple[str, str], frozenset[Atom | Knot]]
BLOCK = "‖"  # between the name of a tensor that is there once per block and the slot that counts the blocks
OWN = HERE + HERE


def stacked(name: str, slot: int) -> str:
    """The name, as an atom's tensor, of what is there once per block.

    >>> block_slot(stacked("W_o", 0)), name_of(stacked("W_o", 0)), block_slot("W_o")
    (0, 'W_o', None)
    """
    return f"{name}{BLOCK}{slot}"


@cache
def block_slot(tensor: str) -> int | None:
    """The slot that counts the blocks."""
    _, found, slot = str(tensor).rpartition(BLOCK)
    return int(slot) if found else None


def name_of(tensor: str) -> str:
    """An atom's tensor as a reader knows it."""
    return tensor.partition(BLOCK)[0]


_TABLE: dict[Any, Any] = {}
NO_CLASSES = frozenset[frozenset[str]]()
NO_MASKS = frozenset[Mask]()


def serial(one: Pattern | Atom | Knot | Source) -> int:
    """When it was made: an order that every run has alike."""
    return one.serial


def pattern(
    profiles: Iterable[tuple[str, Profile]] = (),
    odd: Iterable[Atom | Knot] = (),
    same: Iterable[frozenset[str]] = (),
    masks: Iterable[Mask] = (),
) -> Pattern:
    clean = tuple(sorted((label, p) for label, p in profiles if p != FLAT)) if profiles else ()
    atoms = odd if isinstance(odd, frozenset) else frozenset(odd)
    classes = frozenset(c for c in same if len(c) > 1) if same else NO_CLASSES
    return within(_frame(clean, classes, frozenset(masks)), atoms)


def within(frame: Frame, odd: frozenset[Atom | Knot]) -> Pattern:
    """The pattern of a frame that is odd in these."""
    found = frame.patterns.get(odd)
    if found is None:
        found = frame.patterns[odd] = Pattern()
        found.frame, found.odd, found._free, found._held = frame, odd, {}, None
        found.profiles, found.same, found.masks, found.shape = frame.profiles, frame.same, frame.masks, frame.shape
        found.serial = next(_serial)
        found.labels = frozenset[str]().union(*(a.labels for a in odd))
        found.places = frozenset[tuple[str, str]]().union(*(a.places for a in odd))
    return found


def _frame(profiles: Profiles, same: frozenset[frozenset[str]], masks: frozenset[Mask]) -> Frame:
    key = ("frame", profiles, same, masks)
    found = _TABLE.get(key)
    if found is None:
        found = _TABLE[key] = Frame()
        found.profiles, found.same, found.masks, found.patterns = profiles, same, masks, {}
        found.shape = _shape(profiles, same)
    return found


@cache
def joined(a: Frame, b: Frame) -> Frame | None:
    """The frame of a product, neither factor with a diagonal: profiles multiply; None if it is nowhere."""
    profiles = dict(a.profiles or b.profiles)
    for label, p in b.profiles if a.profiles else ():
        profiles[label] = profiles.get(label, FLAT) * p
    if (a.shape.windowed or b.shape.windowed) and any(p.empty for p in profiles.values()):
        return None
    return pattern(profiles.items(), masks=a.masks | b.masks).frame


def _shape(profiles: Profiles, same: frozenset[frozenset[str]]) -> Shape:
    key = ("shape", profiles, same)
    found = _TABLE.get(key)
    if found is None:
        found = _TABLE[key] = Shape()
        found.profiles, found.same = dict(profiles), same
        found.windowed = any(p.windowed for _, p in profiles)
    return found


def atom(tensor: str, slots: Sequence[str | Source]) -> Atom:
    key = ("atom", tensor, tuple(slots))
    found = _TABLE.get(key)
    if found is None:
        found = Atom()
        found.tensor, found.slots, found.serial = tensor, tuple(slots), next(_serial)
        found.labels = frozenset(s for s in slots if isinstance(s, str))
        found.places = _places(tensor, found.slots)
        _TABLE[key] = found
    return found


def _places(tensor: str, slots: Sequence[Slot]) -> frozenset[tuple[str, str]]:
    at = block_slot(tensor)
    return frozenset((tensor, s) for k, s in enumerate(slots) if isinstance(s, str) and k != at)


def parts_of(a: Atom | Knot) -> Sequence[tuple[str, tuple[Slot, ...]]]:
    """Tensors and slots of an atom or of those in a knot."""
    return a.atoms if isinstance(a, Knot) else [(a.tensor, a.slots)]


def knot(atoms: Sequence[tuple[str, Sequence[Slot]]], indices: Mapping[int, tuple[str, Profile]]) -> Knot:
    """Atoms with shared summed indices, whatever these are numbered: equal up to renumbering is one object.

    Indices are told apart by what stands around them, round by round; a tie that is left is a symmetry, or at worst two
    objects for one knot.
    """
    colour: dict[int, Any] = {i: (dim, str(p.words())) for i, (dim, p) in indices.items()}

    def seen(slots: Sequence[Slot], at: int | None = None) -> tuple[str, ...]:
        return tuple(
            "*" if s == at and not isinstance(s, str) else f"={s.serial}" if isinstance(s, Source)
            else s if isinstance(s, str) else f"#{rank[colour[s]]}" for s in slots
        )  # fmt: skip

    told_apart = 0
    while len(set(colour.values())) > told_apart:  # else another round tells nothing more apart
        rank = {c: k for k, c in enumerate(sorted(set(colour.values())))}
        told_apart = len(rank)
        colour = {
            i: (rank[c], tuple(sorted((tensor, *seen(slots, i)) for tensor, slots in atoms if i in slots)))
            for i, c in colour.items()
        }
    rank = {c: k for k, c in enumerate(sorted(set(colour.values())))}
    order = sorted(atoms, key=lambda a: (a[0], seen(a[1])))
    names: dict[int, int] = {}
    for _, slots in order:
        for s in sorted({s for s in slots if isinstance(s, int)}, key=lambda s: (rank[colour[s]], slots.index(s))):
            names.setdefault(s, len(names))
    placed = [(tensor, tuple(names[s] if isinstance(s, int) else s for s in slots)) for tensor, slots in order]
    key = ("knot", tuple(placed), tuple(indices[i] for i in names))
    found = _TABLE.get(key)
    if found is None:
        found = Knot()
        found.atoms, found.indices, found.serial = key[1], key[2], next(_serial)
        found.places = frozenset[tuple[str, str]]().union(*(_places(tensor, slots) for tensor, slots in placed))
        found.labels = frozenset(s for _, slots in placed for s in slots if isinstance(s, str))
        _TABLE[key] = found
    return found


_FLUCTUATIONS: dict[object, str] = {}


@cache
def fluctuation(of: Atom | Knot) -> Atom:
    """What the square of an atom has beside its mean: centred, independent wherever the atom is, even in all it is made of.

    An atom of its own, named after the square; the same one whatever the labels are called.
    """
    if isinstance(of, Atom):
        labels = [s for s in of.slots if isinstance(s, str)]
        key: object = (of.tensor, tuple(None if isinstance(s, str) else s for s in of.slots))
    else:
        labels = sorted(of.labels)
        bare = pattern((), [of])
        for k, label in enumerate(labels):
            bare = relabel(bare, label, f"{dim_of(label)}{HERE}{k}")
        key = bare
    name = _FLUCTUATIONS.get(key)
    if name is None:
        tensors = [of.tensor] if isinstance(of, Atom) else [tensor for tensor, _ in of.atoms]
        stem, taken = f"({' '.join(map(name_of, tensors))})²", set(map(name_of, _FLUCTUATIONS.values()))
        name = next(n for k in count() if (n := stem + "*" * k) not in taken)
        if isinstance(of, Atom) and (slot := block_slot(of.tensor)) is not None and of.slots[slot] in labels:
            name = stacked(name, sum(isinstance(s, str) for s in of.slots[:slot]))  # there once per block, too
        _FLUCTUATIONS[key] = name
    return atom(name, labels)


def fluctuations(one: Pattern) -> frozenset[Atom | Knot]:
    """What it is odd in that squares fluctuate by."""
    names = set(_FLUCTUATIONS.values())
    return frozenset(a for a in one.odd if isinstance(a, Atom) and a.tensor in names) if names else frozenset()


def without_repeats(odd: frozenset[Atom | Knot]) -> frozenset[Atom | Knot]:
    """x (x² − 1) has the parity of x and a part along x: the fluctuation beside its own atom says nothing new."""
    return odd - {fluctuation(a) for a in odd} if _FLUCTUATIONS else odd


def mask(of: Iterable[Pattern], density: Scale) -> Mask:
    key = ("mask", frozenset(of), density)
    found = _TABLE.get(key)
    if found is None:
        found = Mask()
        found.of, found.density = key[1], density
        labels = [label for one in found.of for a in one.odd for label in a.labels]
        found.labels = frozenset(labels).union(label for one in found.of for label, _ in one.profiles)
        _TABLE[key] = found
    return found


def sparse(one: Pattern, label: str) -> frozenset[Mask]:
    """The masks along one axis that leave a vanishing share of it: a token's one row of many."""
    here = frozenset({label})
    return frozenset(m for m in one.masks if m.density is not ONE and m.labels == here) if one.masks else NO_MASKS


def share(masks: Iterable[Mask]) -> Scale:
    """The part of the entries that masks leave, drawn independently."""
    out = ONE
    for m in masks:
        out = out * m.density
    return out


def moved_mask(m: Mask, old: str, new: str) -> Mask:
    """A mask along another axis."""
    return mask([relabel(p, old, new) for p in sorted(m.of, key=serial)], m.density)


def source(label: str, patterns: Iterable[Pattern], labels: tuple[str, ...] = ()) -> Source:
    key = ("source", label, frozenset(patterns), labels or (label,))
    found = _TABLE.get(key)
    if found is None:
        found = Source()
        found.label, found.patterns, found.labels, found.serial = label, key[2], key[3], next(_serial)
        found.own = next((x for one in found.patterns for x in sorted(one.labels) if x.endswith(OWN)), "")
        _TABLE[key] = found
    note(MADE, found)
    return found


EVEN = pattern()
Weighted = tuple[tuple[Scale, Pattern], ...]


@cache
def relabel(one: Pattern, old: str, new: str) -> Pattern:
    """The same pattern with one axis renamed."""

    def swap(label: Slot) -> Slot:
        return new if label == old else label

    def renamed(a: Atom | Knot) -> Atom | Knot:
        if old not in a.labels:
            return a
        if isinstance(a, Atom):
            return atom(a.tensor, [swap(s) for s in a.slots])
        return knot([(tensor, [swap(s) for s in slots]) for tensor, slots in a.atoms], dict(enumerate(a.indices)))

    together = one.diagonal(old)
    if together:
        renamed_class = frozenset(map(swap, together))
        bare = pattern(one.profiles, one.odd, one.same - {together}, one.masks)
        carried = relabel(bare, min(together), min(renamed_class)) if min(together) != min(renamed_class) else bare
        return pattern(carried.profiles, carried.odd, carried.same | {renamed_class}, carried.masks)
    masks = [
        moved_mask(m, old, new) if old in m.labels else m
        for m in one.masks
    ]
    odd = frozenset([renamed(a) for a in sorted(one.odd, key=serial)])
    return pattern([(swap(label), p) for label, p in one.profiles], odd, one.same, masks)


__all__ = [
    "EVEN", "HERE", "OWN", "Atom", "Knot", "Mask", "Pattern", "Shape", "Source", "Weighted", "atom", "block_slot",
    "fluctuation", "fluctuations", "knot", "mask", "name_of", "parts_of", "pattern", "relabel", "source", "stacked",
    "without_repeats",
]  # fmt: skip
