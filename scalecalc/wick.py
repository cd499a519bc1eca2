"""The two laws that compose patterns: product and sum.  This is where alignment is decided: √n or n.

*Sum over an axis.*  No atom is free there: law of large numbers, Σ n^(−p).  Otherwise: central limit, (Σ n^(−2p))^(1/2),
and the index stays bound: what stood beside a lone atom becomes the source of its slot, several atoms become a knot.

*Product.*  Sizes multiply, profiles add (windows intersect), tags unite.
Two occurrences of one random tensor that agree in one slot are
paired or not (Wick 1950; Isserlis 1918): unpaired, both atoms stay; paired, both vanish and their other slots become one
index each:

- free label and bound index: the index is resolved, what else was summed there is free now (W Wᵀ g contains g:
  back-reaction);
- two bound indices: one sum is left (so W a and W b are as aligned as a and b: ⟨a, b⟩ / ‖a‖ ‖b‖);
- two free labels: the part on the diagonal (W Wᵀ contains the identity).

Atoms that meet at an index which has just become one may pair in turn.  Atoms that agree in no slot need not be paired: by
Cauchy-Schwarz the pairing of each with its mirror image in the second moment leaves at least as many free sums.  Identical
atoms always pair; what the square fluctuates about its mean is never larger than the mean, and is kept only if a centring
may remove the mean.  An atom with no free label left, directly or through what it is bound to, is a scalar: it
shares one sign over the whole tensor, so no later sum over a growing axis can notice it, and it is dropped.

The laws are those of the calculus of Gaussian matrices behind Tensor Programs (Yang 2020, arXiv 2009.10685), with
exponents and profiles kept, and with weights that are themselves products.

A mask that leaves few entries of a summed axis (a token's row of a vocabulary) goes into the source like a profile, and out
of it again where the index is free.  (Dropped there, it left root-mean-squares right and entries V^(1/2) too small.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, product

from scalecalc.pattern import (
    EVEN,
    NO_MASKS,
    OWN,
    Atom,
    Knot,
    Mask,
    Pattern,
    Slot,
    Source,
    Weighted,
    atom,
    block_slot,
    fluctuation,
    joined,
    knot,
    moved_mask,
    parts_of,
    pattern,
    relabel,
    serial,
    share,
    source,
    sparse,
    within,
    without_repeats,
)
from scalecalc.profile import FLAT, HALF, HERE, ONE, Profile, dim_of
from scalecalc.reads import OPENED, note, noted, noted_cosine
from scalecalc.scale import FREE, Scale

Index = str | int  # a free label, or a summed index
Pair = tuple[int, int]
MOST_NESTED = 20  # cosines within cosines, some ten calls each


class _Graph:
    """A product opened up: atoms by number, summed indices by number, sums not yet divided by their norms."""

    def __init__(self) -> None:
        self.size = ONE
        self.profiles: dict[Index, Profile] = {}
        self.dims: dict[int, str] = {}
        self.atoms: dict[int, tuple[str, tuple[Slot, ...]]] = {}
        self.same: list[frozenset[str]] = []
        self.masks: dict[Index, frozenset[Mask]] = {}  # of indices that few entries are left of, on their dim•
        self.next = 0
        self.empty = False  # two windows that do not overlap: nothing is there
        self.blocks = False  # do atoms meet in their block alone?

    def copy(self) -> _Graph:
        new = _Graph()
        new.size, new.next, new.same, new.empty = self.size, self.next, list(self.same), self.empty
        new.profiles, new.dims, new.atoms = dict(self.profiles), dict(self.dims), dict(self.atoms)
        new.masks, new.blocks = dict(self.masks), self.blocks
        return new

    def number(self) -> int:
        self.next += 1
        return self.next

    def index(self, dim: str, profile: Profile, masks: frozenset[Mask] = NO_MASKS) -> int:
        """A new summed index; the term's size counts it by its norm, the graph's does not."""
        i = self.number()
        self.dims[i], self.profiles[i] = dim, profile
        if masks:
            self.masks[i] = masks
        self.size = self.size / self.norm(i)
        return i

    def norm(self, i: int) -> Scale:
        """What a central-limit sum over an index counts."""
        return self.profiles[i].norm(self.dims[i]) * share(self.masks.get(i, ())) ** HALF

    def put(self, things: Iterable[Atom | Knot], here: Mapping[str, Index] | None = None) -> list[int]:
        """Open atoms and knots; the labels ``here`` become indices.  Returns their numbers."""
        out: list[int] = []
        for thing in things:
            inner: dict[Slot, Slot] = dict(here or {})
            if isinstance(thing, Atom):
                parts: Sequence[tuple[str, tuple[Slot, ...]]] = [(thing.tensor, thing.slots)]
            else:
                parts = thing.atoms
                inner.update({k: self.index(dim, p) for k, (dim, p) in enumerate(thing.indices)})
            for tensor, slots in parts:
                out.append(self.number())
                self.atoms[out[-1]] = tensor, tuple(inner.get(s, s) for s in slots)
        return out

    def at(self, index: Index) -> list[int]:
        return [k for k, (_, slots) in self.atoms.items() if index in slots]

    def become(self, old: Index, new: Index) -> None:
        """Two indices are one from here on, the second."""
        both = self.profiles[new] = self.profiles.get(new, FLAT) * self.profiles.pop(old, FLAT)
        self.empty = self.empty or both.empty
        if old in self.masks:
            self.masks[new] = self.masks.get(new, NO_MASKS) | self.masks.pop(old)
        if isinstance(old, int):
            del self.dims[old]
        for k in self.at(old):
            tensor, slots = self.atoms[k]
            self.atoms[k] = tensor, tuple(new if s == old else s for s in slots)

    def meet(self, s: Index, t: Index) -> tuple[Index, list[Pair]]:
        """Make two indices one.  Returns it, and the pairs of atoms of one tensor that meet by it in one slot."""
        if isinstance(s, str) and isinstance(t, str):
            classes = [next((c for c in self.same if x in c), frozenset({x})) for x in (s, t)]
            both = classes[0] | classes[1]
            self.same = [c for c in self.same if not c & both] + [both]
            (now, gone), left, right = sorted(map(min, classes)), self.at(min(classes[0])), self.at(min(classes[1]))
        else:
            now, gone = (s, t) if isinstance(t, int) else (t, s)
            left, right = self.at(s), self.at(t)
        if gone != now:
            self.become(gone, now)
        return now, [(i, j) for i in left for j in right if i != j and now in self.shared(i, j)]

    def shared(self, i: int, j: int) -> set[Slot]:
        """What two atoms of one tensor have alike in one slot each; nothing if they are of different tensors."""
        (a, s), (b, t) = self.atoms[i], self.atoms[j]
        if a != b:
            return set()
        at = None if self.blocks else block_slot(a)
        return {x for k, (x, y) in enumerate(zip(s, t, strict=True)) if x == y and k != at}


def _open(g: _Graph, s: Slot, block: Index | None = None) -> Iterator[tuple[_Graph, Index, list[Pair]]]:
    """A slot as an index: a source is opened, one graph per pattern that it may have."""
    if not isinstance(s, Source):
        yield g, s, []
        return
    for new, indices, pairs in _opened(g, s, block):
        yield new, indices[s.label], pairs


def _opened(g: _Graph, s: Source, block: Index | None = None) -> Iterator[tuple[_Graph, dict[str, int], list[Pair]]]:
    """Every axis of a source as an index, and what meets by it in its atom's block, whose index is ``block``."""
    note(OPENED, s)
    for one in sorted(s.patterns, key=serial):
        new = g.copy() if len(s.patterns) > 1 else g
        indices = {label: new.index(dim_of(label), one.profile(label), _few(one, label)) for label in s.labels}
        if not s.own:
            new.put(one.odd, indices)
            yield new, indices, []
            continue
        assert block is not None, "a source that differs from block to block, of an atom without any"
        fresh = new.put(sorted(one.odd, key=serial), {**indices, s.own: block})
        yield new, indices, [(i, j) for i in fresh for j in new.atoms if j not in fresh and block in new.shared(i, j)]


def _few(one: Pattern, label: str) -> frozenset[Mask]:
    """The masks along an axis of a source, on dim•."""
    own = dim_of(label) + HERE
    return frozenset(m if label == own else moved_mask(m, label, own) for m in sparse(one, label)) if one.masks else NO_MASKS


Slots = tuple[Slot, ...]


def _joints(slots: Slots) -> list[tuple[int, ...]]:
    """The positions of slots that are bound together, set by set."""
    found: dict[tuple[object, ...], list[int]] = {}
    for k, s in enumerate(slots):
        if isinstance(s, Source) and s.joint:
            found.setdefault((s.labels, s.patterns), []).append(k)
    return [tuple(at) for at in found.values()]


def _apart(g: _Graph, tensor: str, s: Slots, t: Slots) -> Iterator[tuple[_Graph, Slots, Slots, list[Pair]]]:
    """The slots of two atoms that are paired, with none bound together: opened, or gone (None) where both atoms have them."""
    left, right = _joints(s), _joints(t)
    found: list[tuple[_Graph, Slots, Slots, list[Pair]]] = [(g, s, t, [])]
    for at in (*left, *(at for at in right if at not in left)):
        after: list[tuple[_Graph, Slots, Slots, list[Pair]]] = []
        for graph, own, its, pairs in found:
            a, b = own[at[0]], its[at[0]]
            if at in left and at in right and _number(a, b) and a.labels == b.labels:  # nothing else hangs on their indices
                cosines = cosine(a, b) if a is not b else (ONE,)
                for size in cosines:
                    new = graph.copy() if len(cosines) > 1 else graph
                    new.size = new.size * size
                    gone = dict.fromkeys(at)
                    after.append((new, _put_in(own, gone), _put_in(its, gone), pairs))
                continue
            for one, mine, met in _opened(graph, a, _block(tensor, own)) if at in left else [(graph, {}, [])]:
                for two, other, more in _opened(one, b, _block(tensor, its)) if at in right else [(one, {}, [])]:
                    now = _put_in(own, {k: mine[own[k].label] for k in at}) if at in left else own
                    then = _put_in(its, {k: other[its[k].label] for k in at}) if at in right else its
                    after.append((two, now, then, pairs + met + more))
        found = after
    yield from found


def _number(a: Source, b: Source) -> bool:
    """Do two sources make a number, one for all blocks?"""
    return a is b or not (a.own or b.own)


def _block(tensor: str, slots: Slots) -> Index | None:
    """The index of the block that an atom is in; None if it is of no block, or that index is bound."""
    at = block_slot(tensor)
    return slots[at] if at is not None and isinstance(slots[at], (str, int)) else None


def _put_in(slots: Slots, places: Mapping[int, Slot]) -> Slots:
    return tuple(places.get(k, s) for k, s in enumerate(slots))


def _paired(g: _Graph, i: int, j: int) -> Iterator[tuple[_Graph, list[Pair]]]:
    """Both atoms vanish, and their slots become one index each."""
    g = g.copy()
    (tensor, s), (_, t) = g.atoms.pop(i), g.atoms.pop(j)
    for graph, own, its, pairs in _apart(g, tensor, s, t):
        for one, more in _joined(graph, tensor, own, its):
            yield one, pairs + more


def _joined(g: _Graph, tensor: str, s: Slots, t: Slots) -> Iterator[tuple[_Graph, list[Pair]]]:
    """The slots of two atoms become one index each, the block's first, which others depend on."""
    at = block_slot(tensor)
    order = range(len(s)) if at is None else (at, *(k for k in range(len(s)) if k != at))
    found: list[tuple[_Graph, list[Pair], dict[Slot, Slot], Slot]] = [(g, [], {}, None)]
    for k in order:
        after: list[tuple[_Graph, list[Pair], dict[Slot, Slot], Slot]] = []
        for graph, pairs, names, block in found:
            x, y = names.get(s[k], s[k]), names.get(t[k], t[k])
            if x is y or (not isinstance(x, Source) and x == y):
                after.append((graph, pairs, names, x if k == at else block))
                continue
            if isinstance(x, Source) and isinstance(y, Source) and _number(x, y):  # nothing else hangs on their index
                cosines = cosine(x, y)
                for size in cosines:
                    new = graph.copy() if len(cosines) > 1 else graph
                    new.size = new.size * size
                    after.append((new, pairs, names, block))
                continue
            for one, left, met in _open(graph, x, block):
                for two, right, beside in _open(one, y, block):
                    now, more = two.meet(left, right)
                    known = {a: now if v in (left, right) else v for a, v in {**names, left: left, right: right}.items()}
                    after.append((two, pairs + met + beside + more, known, now if k == at else block))
        found = after
    yield from ((graph, pairs) for graph, pairs, _, _ in found)


@noted_cosine
def cosine(a: Source, b: Source) -> tuple[Scale, ...]:
    """⟨a, b⟩ / ‖a‖ ‖b‖ of what two slots were summed with: its leading sizes.

    By the same two laws, and once per pair: in graphs the ways to pair what is within sources within sources multiply.
    Sources nest as deep as a network, and Python's calls do not: of what lies too deep the cosines are taken first.
    """
    while True:
        try:
            return _cosine(a, b)
        except _Deeper as below:
            if _nested:
                raise
            cosine(*below.pair)


class _Deeper(Exception):
    """The cosine of a pair is wanted within more cosines than calls may nest."""

    def __init__(self, a: Source, b: Source):
        self.pair = a, b


_nested: list[tuple[Source, Source]] = []  # of which pairs the cosines are being taken, one within the other


def _cosine(a: Source, b: Source) -> tuple[Scale, ...]:
    if len(_nested) == MOST_NESTED:
        raise _Deeper(a, b)
    found: list[Scale] = []
    _nested.append((a, b))
    try:
        alike = a.patterns & b.patterns
        for p, q in chain(zip(alike, alike, strict=True), product(a.patterns, b.patterns)):
            norms = a.norm(p) * b.norm(q)
            for size, one in _product(p, q):
                for label in a.labels:
                    factor, one, _ = sum_pattern(one, label)
                    size = size * factor
                found.append(size / norms)
            if found and found[-1] is ONE:  # more it cannot be
                break
    finally:
        _nested.pop()
    return FREE.leading(found)


def _resolve(g: _Graph, pairs: Sequence[Pair]) -> Iterator[tuple[Scale, Pattern]]:
    """Every way to pair or not to pair what meets."""
    open_pairs = [(i, j) for i, j in pairs if i in g.atoms and j in g.atoms]
    for i, j in open_pairs:
        if g.atoms[i] == g.atoms[j]:
            g = g.copy()
            del g.atoms[i], g.atoms[j]
            yield from _resolve(g, open_pairs)
            return
    if not open_pairs:
        if not g.empty:
            yield _close(g)
        return
    (i, j), *rest = open_pairs
    yield from _resolve(g, rest)
    for new, more in _paired(g, i, j):
        yield from _resolve(new, list(dict.fromkeys(rest + more)))


Placed = dict[int, tuple[str, tuple[Slot, ...]]]


def _close(g: _Graph) -> tuple[Scale, Pattern]:
    """Back to a pattern: sums weighted by their law, what hangs on one atom folded into its source, scalars dropped."""
    odd = frozenset[Atom | Knot]()
    if not g.dims:  # nothing is summed: every atom is by itself, and without a free label a scalar
        for tensor, slots in g.atoms.values():
            if any(isinstance(s, str) for s in slots):
                odd ^= {atom(tensor, slots)}
        return g.size, _placed(g, odd)
    size = g.size
    left = set(g.dims)
    for part in _connected(g.atoms, g.dims):
        atoms = {k: g.atoms[k] for k in part}
        inner = {i for i in g.dims if any(i in slots for _, slots in atoms.values())}
        left -= inner
        weight, things = _folded(g, atoms, inner)
        size, odd = size * weight, odd ^ things
    for i in left:
        size = size * _met(g.profiles[i], g.dims[i], g.masks.get(i, NO_MASKS))
    return size, _placed(g, odd)


def _met(profile: Profile, dim: str, few: frozenset[Mask]) -> Scale:
    """A law-of-large-numbers sum over the entries that masks leave.

    Of several masks, tokens drawn independently, one entry is left once in so many draws, and none otherwise: the
    root-mean-square over draws is the root of the mean.
    """
    return profile.norm(dim) * share(few) ** HALF if len(few) > 1 else profile.sum(dim) * share(few)


def _placed(g: _Graph, odd: frozenset[Atom | Knot]) -> Pattern:
    profiles = [(label, p) for label, p in g.profiles.items() if isinstance(label, str)]
    free = [(label, m) for label, own in g.masks.items() if isinstance(label, str) for m in own] if g.masks else ()
    return pattern(profiles, odd, g.same, [moved_mask(m, dim_of(label) + HERE, label) for label, m in free])


def _folded(g: _Graph, atoms: Placed, inner: set[int]) -> tuple[Scale, frozenset[Atom | Knot]]:
    """Atoms that hang together, as at most one atom or knot, and the sums within it."""
    size = ONE
    if not any(isinstance(s, str) for _, slots in atoms.values() for s in slots):
        for i in inner:  # a scalar
            size = size * g.norm(i)
        return size, frozenset()
    atoms, inner = dict(atoms), set(inner)
    number = all(s == _block(tensor, slots) for tensor, slots in atoms.values() for s in slots if isinstance(s, str))
    for k in list(atoms):
        if k not in atoms or not any(isinstance(s, str) for s in atoms[k][1]):
            continue
        for i in {s for s in atoms[k][1] if isinstance(s, int)}:
            tensor, slots = atoms[k]
            if i not in slots:
                continue
            block = _block(tensor, slots)
            beyond, shared = _beyond(atoms, k, i), None
            if beyond is None and block not in (None, i) and (
                _enters(atoms, k, i) if number else any(isinstance(s, str) and s != block for s in slots)
            ):
                beyond, shared = _beyond(atoms, k, i, block), block
            if beyond is None:
                continue
            found, by = beyond
            if any(slots.count(e) > 1 for e in by):
                continue
            labels = _labels([g.dims[e] for e in by])
            here: dict[Slot, Slot] = dict(zip(by, labels, strict=True))
            if shared is not None:
                here[shared] = dim_of(shared if isinstance(shared, str) else g.dims[shared]) + OWN
            weight, things = ONE, frozenset[Atom | Knot]()
            hanging = {j: (t, tuple(here.get(s, s) for s in own)) for j in found for t, own in [atoms.pop(j)]}
            within = {s for _, own in hanging.values() for s in own if isinstance(s, int)}
            for part in _connected(hanging, within):
                some = {j: hanging[j] for j in part}
                own_inner = set[int](s for _, own in some.values() for s in own if isinstance(s, int))
                more, odd = _folded(g, some, own_inner)
                weight, things = weight * more, things ^ odd
            summed = dict(zip(by, labels, strict=True))
            few = [moved_mask(m, g.dims[e] + HERE, label) for e, label in summed.items() for m in g.masks.get(e, ())]
            one = pattern([(label, g.profiles[e]) for e, label in summed.items()], things, (), few)
            if block in by:
                atoms[k] = tensor, _bound_together(slots, by, labels, one, labels[by.index(block)])
            else:
                bound: dict[Slot, Slot] = {e: source(label, [one], labels) for e, label in summed.items()}
                atoms[k] = tensor, tuple(bound.get(s, s) for s in slots)
            size = size * weight
            for e in by:
                size = size * g.norm(e)
            inner -= within.union(by)
    for i in inner:
        size = size * g.norm(i)
    if len(atoms) == 1 and not inner:
        return size, frozenset({atom(*next(iter(atoms.values())))})
    return size, frozenset({knot(list(atoms.values()), {i: (g.dims[i], g.profiles[i]) for i in inner})})


def _bound_together(slots: Slots, by: Sequence[int], labels: tuple[str, ...], one: Pattern, block: str) -> Slots:
    """Slots of an atom whose block is summed over: what other slots were bound to in each block is bound with it now."""
    patterns, names = [one], dict[Slot, str](zip(by, labels, strict=True))
    for s in dict.fromkeys(s for s in slots if isinstance(s, Source) and s.own):
        if s in names:
            continue
        taken = [dim_of(label) for label in labels]
        new = [dim_of(x) + HERE + "'" * (taken.count(dim_of(x)) + sum(map(dim_of(x).__eq__, map(dim_of, s.labels[:k]))))
               for k, x in enumerate(s.labels)]
        own: list[Pattern] = []
        for p in sorted(s.patterns, key=serial):
            for old, now in reversed(list(zip((s.own, *s.labels), (block, *new), strict=True))):
                p = relabel(p, old, now) if old != now else p
            own.append(p)
        names.update((t, now) for t in slots if isinstance(t, Source) and t.labels == s.labels and t.patterns == s.patterns
                     for old, now in zip(s.labels, new, strict=True) if old == t.label)
        labels = (*labels, *new)
        patterns = [
            pattern([*a.profiles, *b.profiles], a.odd ^ b.odd, a.same | b.same, a.masks | b.masks)
            for a in patterns
            for b in own
        ]
    return tuple(source(names[s], patterns, labels) if s in names else s for s in slots)


def _beyond(atoms: Placed, k: int, i: int, block: Index | None = None) -> tuple[set[int], tuple[int, ...]] | None:
    """The atoms that hang on atom k alone, by index i, and all indices by which they do; None if they have free labels.

    By several indices they were a knot with k, however many terms there were: for a matrix whose input has two growing axes,
    heads × size of a head, W a and W b were never W (a + b), and their products multiplied.

    Args:
        block: an index of k that they may share with it.
    """
    found, edge = set[int](), {i}
    while edge:
        new = {j for j, (_, slots) in atoms.items() if j != k and j not in found and any(e in slots for e in edge)}
        found |= new
        edge = {s for j in new for s in atoms[j][1] if isinstance(s, int) and s != block} - edge
        if any(isinstance(s, str) and s != block for j in new for s in atoms[j][1]):
            return None
    by = {s for j in found for s in atoms[j][1] if isinstance(s, int) and s != block} | {i}
    return found, tuple(dict.fromkeys(s for s in atoms[k][1] if isinstance(s, int) and s in by))


def _enters(atoms: Placed, k: int, i: int) -> bool:
    """Is an index the input of atom k, and of no other?

    Where nothing but their block is left of atoms, a number per block, none is the one that others hang on.  But
    g W_o x, if x is a product of several, is W_o[l; g, x] and not those, whatever they are.
    """

    def taken(j: int) -> bool:
        tensor, slots = atoms[j]
        return slots[-1] == i and len(slots) > 1 + (block_slot(tensor) is not None)

    return [j for j in atoms if taken(j)] == [k]


def _labels(dims: Sequence[str]) -> tuple[str, ...]:
    """The labels of a source's axes, of these dims."""
    return tuple(dim + HERE + "'" * dims[:k].count(dim) for k, dim in enumerate(dims))


def _connected(atoms: Placed, indices: Iterable[int]) -> list[list[int]]:
    """Atoms that hang together by summed indices."""
    group = {k: {k} for k in atoms}
    for i in indices:
        here = [k for k, (_, slots) in atoms.items() if i in slots]
        for k in here[1:]:
            if group[k] is not group[here[0]]:
                group[here[0]] |= group[k]
                for other in group[k]:
                    group[other] = group[here[0]]
    return [sorted(g) for g in {id(g): g for g in group.values()}.values()]


@noted
def sum_pattern(one: Pattern, label: str) -> tuple[Scale, Pattern, bool]:
    """Sum over an axis: factor, remaining pattern, and whether the law of large numbers was used.

    Central-limit otherwise.  A mask leaves its share of the entries.  Along a diagonal there is one index only, and nothing
    to sum.
    """
    together = one.diagonal(label)
    if together:
        rest = together - {label}
        bare = pattern(one.profiles, one.odd, one.same - {together}, one.masks)
        moved = relabel(bare, label, min(rest)) if label == min(together) else bare
        return ONE, pattern(moved.profiles, moved.odd, moved.same | {rest}, moved.masks), True
    dim, profile = dim_of(label), one.profile(label)
    rest_profiles = [(name, p) for name, p in one.profiles if name != label]
    odd = one.odd_on(label)
    masks = frozenset(m for m in one.masks if label not in m.labels)
    few = sparse(one, label)
    left = share(one.masks - masks - few)
    if not odd:
        return _met(profile, dim, few) * left, pattern(rest_profiles, one.odd, one.same, masks), True
    size, closed = _summed(odd, label, profile, frozenset(moved_mask(m, label, dim + HERE) for m in few))
    return size * left**HALF, pattern(rest_profiles, (one.odd - odd) ^ closed, one.same, masks), False


@noted
def met_in_blocks(one: Pattern, label: str) -> Weighted:
    """What a pattern is before a sum over blocks: atoms of one tensor that have nothing alike but their block pair or not.

    Within a block they agree in no slot, so that nothing is lost before by leaving them as they are; but W_o[l, m; x]
    W_o[l; g, x] has a mean over blocks, along g.  (They paired in every product, which made N^(−1/2) smaller terms by the
    hundred, none of which could lead before the sum.)
    """
    tensors = [tensor for a in one.odd_on(label) for tensor, slots in parts_of(a) if _block(tensor, slots) == label]
    if len(set(tensors)) == len(tensors) or one.diagonal(label):
        return ((ONE, one),)
    g = _Graph()
    g.blocks = True
    g.profiles.update(one.profiles)
    g.same = list(one.same)
    put = g.put(sorted(one.odd, key=serial))
    pairs = [(i, j) for i, j in combinations(put, 2) if label in g.shared(i, j)]
    found = _resolve(g, pairs)
    return _strongest((size, pattern(p.profiles, p.odd, p.same, p.masks | one.masks)) for size, p in found)


def _summed(
    odd: frozenset[Atom | Knot], label: str, profile: Profile, few: frozenset[Mask]
) -> tuple[Scale, frozenset[Atom | Knot]]:
    """A central-limit sum over an axis of what is odd there; ``few``: masks that leave few entries of it, on dim•."""
    dim = dim_of(label)
    first = next(iter(odd))
    if len(odd) == 1 and isinstance(first, Atom) and first.slots.count(label) == 1 and not _in_block(first, label):
        # mostly; as below, at once
        norm = profile.norm(dim) * share(few) ** HALF
        if len(first.labels) == 1:
            return norm, frozenset()
        bound = source(dim + HERE, [pattern([(dim + HERE, profile)], masks=few)])
        return norm, frozenset({atom(first.tensor, [bound if s == label else s for s in first.slots])})
    g = _Graph()
    i = g.index(dim, profile, few)
    g.size = ONE
    g.put(sorted(odd, key=serial), {label: i})
    size, closed = _close(g)
    return size, closed.odd


def _in_block(a: Atom, label: str) -> bool:
    """Is it the atom's own block, which other slots of it depend on?"""
    return _block(a.tensor, a.slots) == label and any(isinstance(s, Source) and s.own for s in a.slots)


def multiply_patterns(a: Pattern, b: Pattern, centred: frozenset[str] = frozenset()) -> Weighted:
    """The product of two patterns as a sum of (relative size, pattern), by the pairing rule of this module.

    ``centred``: dims along which a square is its mean and, in a part of its own, what fluctuates about it.
    """
    if b is EVEN:
        return ((ONE, a),)
    if a is EVEN:
        return ((ONE, b),)
    return _centred(a, b, centred) if centred else _product(a, b)


@noted
def _centred(a: Pattern, b: Pattern, centred: frozenset[str]) -> Weighted:
    found = _product(a, b)
    squares = sorted(a.odd & b.odd, key=serial)
    moving = [fluctuation(x) for x in squares if centred & set(map(dim_of, x.labels))]
    parts = [(size, one, own) for size, one in found for own in [frozenset[Atom | Knot](), *(frozenset({x}) for x in moving)]]
    return _strongest(
        (size, pattern(one.profiles, without_repeats(one.odd ^ own), one.same, one.masks)) for size, one, own in parts
    )


def _product(a: Pattern, b: Pattern) -> Weighted:
    if a.same or b.same or may_meet(a, b):
        return _paired_product(a, b)
    frame = joined(a.frame, b.frame)  # nothing pairs: so quick that it is not kept
    return ((ONE, within(frame, a.odd ^ b.odd)),) if frame is not None else ()


@noted
def _paired_product(a: Pattern, b: Pattern) -> Weighted:
    profiles = dict(a.profiles or b.profiles)
    for label, p in b.profiles if a.profiles else ():
        profiles[label] = profiles.get(label, FLAT) * p
    if (a.shape.windowed or b.shape.windowed) and any(p.empty for p in profiles.values()):
        return ()
    g = _Graph()
    g.profiles.update(profiles)
    left, right = g.put(sorted(a.odd - b.odd, key=serial)), g.put(sorted(b.odd - a.odd, key=serial))
    pairs = [(i, j) for i in left for j in right if any(isinstance(x, str) for x in g.shared(i, j))]
    for together in (*a.same, *b.same):
        first, *others = sorted(together)
        for label in others:
            pairs += g.meet(label, first)[1]
    masks = a.masks | b.masks
    found = _resolve(g, pairs)
    return _strongest(
        (size, pattern(p.profiles, p.odd, p.same, masks | p.masks) if masks else p) for size, p in found
    )


def may_meet(a: Pattern, b: Pattern) -> bool:
    """Is one tensor free on one axis in both, by what the other is not odd in?"""
    places = a.places & b.places
    if not places or len(a.held & b.held) == len(places):
        return False
    mine = dict(a.held)
    return any(p in places and not (own <= mine[p] or own >= mine[p]) for p, own in b.held)


def _strongest(found: Iterable[tuple[Scale, Pattern]]) -> Weighted:
    best: dict[Pattern, list[Scale]] = {}
    for size, one in found:
        best.setdefault(one, []).append(size)
    return tuple((size, one) for one, sizes in best.items() for size in FREE.leading(sizes))


__all__ = ["cosine", "met_in_blocks", "multiply_patterns", "sum_pattern"]
