"""Blocks repeated along a growing axis: sizes of h_(l+1) = h_l + f(h_l; W_l) for l = 0 … L − 1, at no cost in L.

The blocks' weights are one tensor with the axis L, whose atoms are independent along it as along any other.  Let all that
enters a block, h_l, be of one size for all l.  Then h = h_0 + Σ_l f(h; W_l) is an equation between values, and the sum is
one over the axis L by the law of every sum: √L where f is odd in what block l has of its own, L where it is not, as with
updates, which all follow the one gradient that the skip path carries to every block.  It is solved by running one block
on its own result, from h = h_0, until sizes and patterns repeat.  (Patterns but for what was summed within them: in that
the earlier blocks are seen one within the other, each time one deeper.)  Where a branch is smaller than L^(−1/2) what has
passed through k blocks is smaller than what has passed through k − 1, by a power, and as much so in all that is made of the
two; it is followed through two blocks then.  L is a symbol throughout.

Along the axis of the blocks, within them as in what enters them and in their weights' gradients, only the largest terms of
each kind are kept, a kind being a tag and a pattern but for what was summed within: of W (a + b) with b smaller by a power
the part W b is left out, of the same parity and of the same tag as W a.  (They were kept within blocks.  A norm's gain then
had eight gradients for one, W_1ᵀ of what came through one block, two, three; products of two and three of these, with all
ways to pair their matrices, did not end under Adam.  What is given up is a small part that is aligned with something where
the large one is not.)

Where sizes do not repeat, but each time are larger by one factor r, a block regenerates what it is given, and h is no power
of L: like the product of L factors 1 + r/L if it adds up alike, e^(c r), and if not like the root of the product of L
factors 1 + r²/L, e^(c r²) (hard case W6: relu and a branch of L^(−1/2), r = L^(1/2), e^(c √L) with c = 1/√(2π); tanh and a
branch of 1, whose gradient grows by e^(c √L): Yang & Schoenholz 2017, arXiv 1712.08969).  That is a verdict and no size: what
depends on it has no value, and the table's notes say why.

That layers are alike is not so where h grows along them by a power of L: what is of another size at the first layers than at
the last may be summed at either end.  At initialisation the last ones count, unless the block adds less to a larger h,
which is looked at.  Backwards, from the last layer to the first, nothing is derived then but exponential growth, which
rests on the last layers alone.

(The power that is not derived, for blocks behind norms, h_(l+1) = h_l + f(ĥ_l) with |ĥ_l| = 1 per entry.  Weights are drawn
anew in every block, so that |h_l|² = |h_0|² + v l with v = E |f|².  The Jacobian is that of f over |h_l|, and backwards
|g_l|² = |g_(l+1)|² (1 + χ/|h_l|²) with χ = E |J_fᵀ ε|², |ε| = 1 per entry: a product of factors 1 + c/l, c = χ/v, which is
(L/l)^c.  So |g_l|² |h_l|^(2c) is the same at all layers, as measured.  Any gain of the block's last matrix cancels in c, and
for φ homogeneous of degree p any gain: c = p²/(2p − 1) of W_2 φ(W_1 ĥ).  Of others, tanh and gelu, and of attention, c is a
real number that depends on the prefactors of inits, E φ′(z)² E z² / E φ(z)² of W_2 φ(W_1 ĥ), so that no exponent is said.)

What a part of a block sees of the block's own earlier parts (``own`` in ``rules/depth.py``) is left out of sizes.  Take a
block of two parts, y_l = a_l(h) + m_l(h + a_l(h)).  What enters it is a sum over all blocks before of a_k and m_k, and m_l
sees one term more, a_l.  Blocks are drawn alike, so that whatever this one adds, by its size or by being aligned with other
weights of block l (W_1 W_o W_v h in what m_l sees, W_oᵀ W_1ᵀ in what comes back to a_l), a_k adds likewise in m_l for every
k < l: pairs of parts of two blocks, of which there are L times as many, and their sum is larger by L^(1/2) at least.  No row
tells one block from the others.  (Road not taken: to follow it all the same.  Its atoms share the block's index with those
that it meets in the block, and sums over blocks make knots of four matrices of that; their products in the mean square of the
norm behind the blocks took minutes.)  It is a correction of L^(−1/2) that no table knows, so that none are kept beside it.

To debug: ``settle`` with a breakpoint at ``now``; the sizes of each round are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from scalecalc.pattern import Knot, Pattern, Source
from scalecalc.program import Program
from scalecalc.scale import Scale
from scalecalc.term import sum_pattern
from scalecalc.value import Algebra, Value

ONE = Scale.one()
MOST_ROUNDS = 8  # tags join round by round, up to three of them
SURE = 3  # rounds with one factor, from which growth is taken to go on
FORMAL_ROUNDS = 3  # where unknowns are solved for: what grows is bounded by them, and what is bounded has shown its kinds


@dataclass
class Verdicts:
    """What was found of repeated blocks that no size says.

    Args:
        words: sentences for a table's notes.
        grown: what enters these blocks (a position) grows along them by a power of their number.
    """

    words: list[str] = field(default_factory=list[str])
    grown: set[int] = field(default_factory=set[int])

    def say(self, text: str) -> None:
        if text not in self.words:
            self.words.append(text)


def inside(program: Program, start: int) -> list[int]:
    """Positions of the operations that are repeated, in order: those on the way from what enters a block to what it adds."""
    end = program.loops[start].increment
    found, needed = {start}, program.before(end)
    for i in range(start + 1, end + 1):
        if i in needed and any(j in found for j in program.ops[i].inputs):
            found.add(i)
    return sorted(found - {start})


def left_out(program: Program, position: int) -> bool:
    """Is it what a part of a repeated block sees of the block's own earlier parts, one of a number of terms that grows?"""
    op = program.ops[position]
    return bool(program.loops) and op.rule == "own" and program.grows(op.params["over"])


def settle(
    program: Program,
    start: int,
    entering: Value,
    algebra: Algebra,
    block: Callable[[Value], Value | None],
    verdicts: Verdicts,
) -> Value | None:
    """What enters the blocks, such that it is what enters the first and what all of them add.

    Args:
        start: the position of what enters them.
        entering: what enters the first of them, along their axis.
        block: what a block adds to what it is given.

    Returns:
        None if that is no power of the widths; ``verdicts`` says why.
    """
    loop, name = program.loops[start], program.ops[start].name
    labels, formal = entering.labels, algebra.regime.point is not None
    now, before, first = entering, None, None
    growth: list[tuple[Scale, bool]] = []
    changes: list[Sizes] = []
    for _ in range(FORMAL_ROUNDS if formal else MOST_ROUNDS):
        added = block(now)
        if added is None:
            return None
        first = first or added
        summed = algebra.sum(added, loop.over) if loop.over in added.labels else added
        both = algebra.add(labels, replace(entering, exact=None), replace(summed, labels=labels))
        after = Value(labels, largest(both, algebra).terms)
        changes.append(_changed(now, after, algebra))
        if not changes[-1] or _fades(changes, algebra):
            return _alike(program, start, entering, now, first, added, algebra, verdicts)
        growth.append(_growth(now, after, added, loop.over, algebra))
        now, before = after, now
        if not formal and len(growth) >= SURE and len({*growth[-SURE:]}) == 1 and growth[-1][0] is not ONE:
            factor, aligned = growth[-1]
            verdicts.say(_exponential(program, start, factor if aligned else factor**2, factor, aligned))
            return None
    if formal:
        return before or now  # that it does not grow is bounded by its first rounds
    verdicts.say(f"The sizes of {name} do not repeat from block to block in {MOST_ROUNDS} rounds; nothing is derived of it.")
    return None


Tag = tuple[str, ...]
Sizes = dict[Tag, list[Scale]]


def _changed(before: Value, after: Value, algebra: Algebra) -> Sizes:
    """The sizes of all kinds of terms that are new or of another size, by tag; the kind is all but what was summed within."""
    old, new = _sizes(before, algebra), _sizes(after, algebra)
    out: Sizes = {}
    for (tag, kind), sizes in new.items():
        if old.get((tag, kind)) != sizes:
            out.setdefault(tag, []).extend(sizes)
    return out


def _fades(changes: Sequence[Sizes], algebra: Algebra) -> bool:
    """Are the last changes smaller than those before by powers?  What is to come is smaller still."""
    plain = replace(algebra.regime, point=None)

    def below(now: Sizes, last: Sizes) -> bool:
        return all(any(plain.order(s, t) == -1 for t in last.get(tag, ())) for tag, sizes in now.items() for s in sizes)

    return len(changes) > 1 and below(changes[-1], changes[-2])


def largest(value: Value, algebra: Algebra) -> Value:
    """Of each kind of terms the largest: of W a + W b, with a smaller b that has passed through more blocks, W a."""
    if value.exact is not None:
        return value
    most = _sizes(value, algebra)
    return replace(value, terms=tuple(t for t in value.terms if _at(t.size, algebra) in most[t.tag, _kind(t.pattern)]))


def _at(size: Scale, algebra: Algebra) -> Scale:
    return algebra.regime.point(size) if algebra.regime.point is not None else size


def _sizes(value: Value, algebra: Algebra) -> dict[tuple[Tag, object], frozenset[Scale]]:
    regime = algebra.regime
    found: dict[tuple[Tag, object], list[Scale]] = {}
    for t in value.terms:
        found.setdefault((t.tag, _kind(t.pattern)), []).append(_at(t.size, algebra))
    return {kind: frozenset(replace(regime, point=None).leading(sizes)) for kind, sizes in found.items()}


@cache
def _kind(one: Pattern) -> object:
    parts = [(a.tensors, [_bare(s) for _, s in a.atoms] if isinstance(a, Knot) else _bare(a.slots)) for a in one.odd]
    odd = sorted(map(str, parts))
    masks = frozenset((m.density, m.labels) for m in one.masks)
    return one.shape, masks, tuple(odd)


def _bare(slots: Sequence[object]) -> list[object]:
    return [s.label if isinstance(s, Source) else s for s in slots]


def _growth(before: Value, after: Value, added: Value, over: str, algebra: Algebra) -> tuple[Scale, bool]:
    """By how much the largest size of the lowest order has grown, and whether by an aligned sum; 1 where nothing is told."""
    for tag in sorted({t.tag for t in after.terms}, key=lambda tag: (len(tag), tag)):
        sizes = [algebra.regime.leading(t.size for t in v.terms if t.tag == tag) for v in (before, after)]
        if any(len(s) != 1 for s in sizes):
            continue
        (old,), (new,) = sizes
        if algebra.regime.order(new, old) == 1:
            made = [(t.size, sum_pattern(t.pattern, over)) for t in added.terms if t.tag == tag]
            return new / old, any(aligned for size, (times, _, aligned) in made if size * times is new)
    return ONE, False


def _exponential(program: Program, start: int, rate: Scale, factor: Scale, aligned: bool) -> str:
    loop, name = program.loops[start], program.ops[start].name
    what = "is the same for all blocks and adds up" if aligned else "is independent from block to block"
    return (
        f"{name} grows exponentially, like e^(c {rate}): {'from the last block down' if loop.reverse else 'block by block'} "
        f"it gains in proportion to itself, and what it gains {what} (all blocks together {factor} times of what there is). "
        "Nothing that depends on it is a power of the widths, and none of it has a row. Branches have to be smaller."
    )


def _alike(
    program: Program, start: int, entering: Value, now: Value, first: Value, last: Value, algebra: Algebra, verdicts: Verdicts
) -> Value | None:
    """The value, if what the layers have not alike does no harm."""
    loop, name, regime = program.loops[start], program.ops[start].name, algebra.regime
    if regime.point is not None:
        return now
    if loop.reverse and verdicts.grown:
        verdicts.say(
            "What enters the blocks grows from the first to the last, so that gradients are not alike at all layers: behind "
            "norms their squares fall along them like l^(-c), where c is a block's squared Jacobian over what it adds, "
            "squared, and no count of dims (1 of relu, 1.2 of tanh at arguments of size 1, 2.6 at 4). Sums over the layers "
            f"in {name} have no law here: gradients and updates are not derived. Branches that are smaller leave the layers "
            "alike."
        )
        return None
    sizes = [regime.leading(t.size for t in v.terms if not t.tag) for v in (entering, now)]
    if all(any(regime.order(s, t) in (-1, 0) for t in sizes[0]) for s in sizes[1]):
        return now
    verdicts.grown.add(start)
    adds = [regime.leading(t.size for t in v.terms if not t.tag) for v in (first, last)]
    if not all(any(regime.order(s, t) in (-1, 0) for t in adds[1]) for s in adds[0]):
        verdicts.say(
            f"{name} grows along the blocks, and the larger it is the less they add to it: how the sum over all of them "
            "grows is not derived."
        )
        return None
    return now


__all__ = ["Verdicts", "inside", "largest", "left_out", "settle"]
