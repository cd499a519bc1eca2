"""What the laws of optimizers that divide by the gradient's singular values have in common.  No rule file.

The gradient of a matrix is a sum of factor pairs dh ⊗ x: D Xᵀ with one column per sample, position and use.  Their number r
is Θ(1).  As long as the columns of D are not parallel at leading order, nor those of X, all r singular values are of the
order of the Frobenius norm.  U Vᵀ is then D M Xᵀ with an r × r matrix M of size one over that norm: the gradient's own factor
pairs over its norm, with their profiles and parities (no entry is divided by its own size, as Adam does it).

A smaller term of a pair, (d + d′) ⊗ x, changes D and X and not their number: it is not promoted.  A pair of its own that is
smaller throughout (a second use of the weight, with a smaller signal), of singular value r beside one, is, and by how much
depends on what is run:

- k steps of Newton and Schulz's iteration, whose slope at 0 is 3.44^k, make min(1, 485 r) of it for k = 5: a constant, so
  that at last nothing is promoted.  But a pair of r = N^(-1/2) shows as one of singular value one up to N = 485², at every
  width in use.
- An exact U Vᵀ (a singular value decomposition, or as many steps as it takes) makes one of it, whatever r is.

The law follows either: the first by default, the second with ``exact``.  Which pairs are whose is told by patterns: a smaller
term with the rows or the columns of a leading one belongs to it, and so does d′ ⊗ x′ where d′ ⊗ x and d ⊗ x′ are there and
the sizes multiply; any other is a pair of its own.  (Two uses whose columns look alike are so taken for one, and a pair that
was dropped from the gradient as negligible is not brought back: ``exact`` is no upper bound there.)  Both are recorded
assumptions.

A term that is odd in something with both an output and an input axis (a random matrix, a sum over an axis of another dim) is
no factor pair: its Frobenius norm is R^(1/2) times its spectral norm, R its rank, and U Vᵀ has R singular values one.
(There the exact result is taken, which Newton and Schulz's iteration gives up to R = 485².)  R is the product, over what
hangs together, of the smaller of its output and its input axes: of stacked experts d[n] h[e,m], rows (e, n) and columns m,
h is a matrix of rank min(E, M) and d one of rank 1.  (It was the smaller side of the whole, M there: updates N^(1/2) too
large for fewer experts than features.)  Where neither of two dims bounds the other, min(E, M) is no power, and one of them is
taken, an upper bound; a regime that orders them has the rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scalecalc.expand import expand, leading
from scalecalc.optimizer import Trained
from scalecalc.rules.optimizers._normalised import RSQRT, square
from scalecalc.scale import Scale
from scalecalc.term import HALF, Term, count
from scalecalc.value import Algebra, Value
from scalecalc.words import NO_POWER

if TYPE_CHECKING:
    import torch

PAIRS = (
    "the factor pairs that lead span all directions of the gradient; a smaller pair for itself would be promoted, by the "
    "constant of five Newton-Schulz steps (485 at most), no power of a width"
)
OWN = "a smaller factor pair has the rows or columns of one that leads, or directions for itself: then it comes out alike"
FULL = "all singular values of a full matrix are alike"
SKETCH = 64  # gradients of a rank up to this are reduced to matrices of that side, exactly


def sides(weight: Trained) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The growing axes of a matrix's rows (outputs) and of its columns (inputs)."""
    grows = weight.value.labels
    axes = weight.weight.axes
    return tuple(a for a in axes[:-1] if a in grows), tuple(a for a in axes[-1:] if a in grows)


def orthogonal(algebra: Algebra, part: Value, weight: Trained, exact: bool = False) -> Value:
    """U Vᵀ of a gradient: its factor pairs over their norm; what is no factor pair over its own.

    ``exact``: smaller pairs with directions for themselves over their own norms, too.
    """
    rows, columns = sides(weight)
    alone = _alone(part, rows, columns, algebra) if exact else []
    if alone:
        rest = orthogonal(algebra, replace(part, terms=tuple(t for t in part.terms if t not in alone)), weight)
        own = [replace(part, terms=(t,)) for t in alone]
        promoted = [_over(algebra, one, norm(algebra, _untagged(one)), OWN) for one in own]
        return algebra.add(part.labels, rest, *promoted)
    pairs = part.only(lambda t: not _both(t, rows, columns))
    if len(pairs.terms) == len(part.terms):
        return _over(algebra, part, norm(algebra, part), PAIRS)
    ranks: dict[tuple[Scale, str], list[Term]] = {}
    for t in part.terms:
        if _both(t, rows, columns):
            ranks.setdefault(_rank(t, rows, columns, algebra), []).append(t)
    wholes = [replace(part, terms=tuple(terms)) for terms in ranks.values()]
    spectral = [
        algebra.scale(norm(algebra, whole), rank**HALF, f"over the spectral norm: rank {rank}")
        for whole, (rank, _) in zip(wholes, ranks, strict=True)
    ]

    def over(one: Value, own: Value, *assumptions: str) -> Value:
        """Over its own norm, or a larger one beside it."""
        for other in spectral:
            own = other if _larger(other, own, algebra) else own
        return _over(algebra, one, own, "; ".join(filter(None, assumptions)))

    done = [over(whole, s, FULL, bound) for whole, s, (_, bound) in zip(wholes, spectral, ranks, strict=True)]
    rest = [over(pairs, norm(algebra, pairs), PAIRS)] if pairs.terms else []
    return algebra.add(part.labels, *done, *rest)


def _larger(spectral: Value, own: Value, algebra: Algebra) -> bool:
    """Is a spectral norm larger than another?  Both are given by what divides by them."""
    first, second = (algebra.regime.leading(v.sizes(())) for v in (own, spectral))
    return bool(first and second) and algebra.regime.order(first[0], second[0]) == 1


def _rank(t: Term, rows: Sequence[str], columns: Sequence[str], algebra: Algebra) -> tuple[Scale, str]:
    """The rank of what is no factor pair, and what is assumed if that is no power of the dims."""
    parts = [frozenset({label}) for label in (*rows, *columns)]
    for thing in (*(a.labels for a in t.pattern.odd), *t.pattern.same):
        linked = [p for p in parts if p & thing]
        parts = [p for p in parts if not p & thing] + [frozenset[str]().union(*linked)]
    rank, bounds = Scale.one(), list[str]()
    for own in parts:
        high, wide = (count([label for label in side if label in own]) for side in (rows, columns))
        order = algebra.regime.order(high, wide)
        rank = rank * (wide if order == 1 else high)
        if order is None:
            bounds.append(f"rank min({high}, {wide}), {NO_POWER}: {high} is taken, an upper bound")
    return rank, "; ".join(bounds)


def _alone(part: Value, rows: Sequence[str], columns: Sequence[str], algebra: Algebra) -> list[Term]:
    """The smaller factor pairs that are no part of a leading one."""
    pairs = [t for t in part.terms if not _both(t, rows, columns)]
    heads = leading([t for t in pairs if not t.tag], algebra) or leading(pairs, algebra)
    sides_of = {id(t): (_side(t, rows), _side(t, columns)) for t in pairs}
    known: dict[tuple[object, object], list[Scale]] = {}
    for t in pairs:
        known.setdefault(sides_of[id(t)], []).append(t.size)

    def belongs(t: Term) -> bool:
        d, x = sides_of[id(t)]
        for head in heads:
            own = sides_of[id(head)]
            if d == own[0] or x == own[1]:
                return True
            if any(a * b == t.size * head.size for a in known.get((d, own[1]), ()) for b in known.get((own[0], x), ())):
                return True
        return False

    return [t for t in pairs if not belongs(t)]


def _side(t: Term, axes: Sequence[str]) -> object:
    """What a factor pair is along its rows, or its columns."""
    return frozenset(a for a in t.pattern.odd if a.labels & set(axes)), tuple(p for p in t.pattern.profiles if p[0] in axes)


def _untagged(value: Value) -> Value:
    return replace(value, terms=tuple(replace(t, tag=()) for t in value.terms))


def norm(algebra: Algebra, value: Value) -> Value:
    """One over the Frobenius norm, with what gains change in it."""
    return expand(RSQRT, (), [square(algebra, value, list(value.labels))], algebra)


def _over(algebra: Algebra, value: Value, by: Value, assumption: str) -> Value:
    law = "orthogonalised: over the Frobenius norm"
    out = algebra.multiply(value.labels, value, by, law)
    return Value(
        out.labels,
        tuple(Term(t.size, t.pattern, t.tag, algebra.step(law, t, assumption=assumption)) for t in out.terms),
    )


def _both(t: Term, rows: Sequence[str], columns: Sequence[str]) -> bool:
    """Is it odd in something, or on a diagonal, that has an output and an input axis?"""
    things = [*(a.labels for a in t.pattern.odd), *t.pattern.same]
    return any(own & set(rows) and own & set(columns) for own in things)


# ------------------------------------------------------------------ numbers


def as_matrix(x: torch.Tensor) -> torch.Tensor:
    """(seeds, outputs, inputs): all output axes as rows."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def reduced(gradients: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Q, P and small matrices with gradient = Q small Pᵀ, Q and P with orthonormal columns, for all gradients at once.

    Exact: where the rank of the gradients together exceeds :data:`SKETCH` nothing is reduced.
    """
    import torch

    both = torch.cat(list(gradients), dim=2), torch.cat([g.mT for g in gradients], dim=2)
    bases: list[torch.Tensor] = []
    for x in both:
        seeds, side, other = x.shape
        basis = torch.eye(side, dtype=x.dtype, device=x.device).expand(seeds, side, side)
        if side > SKETCH and other > 0:
            generator = torch.Generator(device=x.device).manual_seed(0)
            draw = torch.randn((other, SKETCH), generator=generator, dtype=x.dtype, device=x.device)
            range_, _ = torch.linalg.qr(x @ draw)
            left = x - range_ @ (range_.mT @ x)
            if bool((left.square().sum((1, 2)) <= 1e-20 * x.square().sum((1, 2))).all()):
                basis = range_
        bases.append(basis)
    rows, columns = bases
    return rows, columns, [rows.mT @ g @ columns for g in gradients]
