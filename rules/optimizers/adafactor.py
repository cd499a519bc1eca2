"""Adafactor from zero memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scalecalc.expand import expand
from scalecalc.optimizer import Numbers, Optimizer, Trained
from scalecalc.rule import optimizer
from scalecalc.rules.optimizers._normalised import RSQRT, SQRT, in_parts, sign, square
from scalecalc.scale import Scale
from scalecalc.term import count
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

ONE = Scale.one()
DECAY, THRESHOLD, FLOOR = -0.8, 1.0, 1e-3


class Adafactor(Optimizer):
    """The gradient over its rows' and columns' root-mean-squares, times the weight's own root-mean-square.

    The second moment of a matrix is r_i c_j / mean r, with r and c the mean squares of rows and columns.  So entries become
    of size one, and profiles along both axes are divided out; the signs stay the gradient's own (the division is linear in
    it), where Adam's sign mixes them.  Vectors are divided entry by entry.  The clipping of the update's root-mean-square at
    1 changes no exponent.

    The rate is relative: it is multiplied by max(ε₂, RMS(w)).  ε₂ is this optimizer's ε; at the usual fixed 10⁻³ it rules
    wherever a weight is smaller, and Adafactor is an Adam there.  By default it is scaled with the weight, and only a weight
    that starts at zero falls back on it.  Memory: ``_normalised.py``.
    """

    smooth = False
    scale_free = True
    family = "adafactor"
    decay = "decoupled"
    damped = True

    def law(self, algebra: Algebra, gradient: Value, weight: Trained) -> Value:
        if len(weight.weight.axes) < 2:
            unit = sign(algebra, gradient)
        else:
            unit = in_parts(algebra, gradient, lambda part: _factored(algebra, part, weight.weight.axes[-2:]))
        w, floor = weight.value, weight.scaling.epsilon if algebra.regime.point is None else None
        size = _root(algebra, _mean_square(algebra, w, list(w.labels))) if w.terms else algebra.flat((), ONE, "ε₂")
        if floor is not None and w.terms:
            size = algebra.add((), size, algebra.flat((), floor, f"ε₂ = {floor}"))
        return algebra.multiply(gradient.labels, unit, size, "times the weight's root-mean-square")

    def limits(self, algebra: Algebra, gradient: Value, weight: Trained) -> Mapping[str, Scale]:
        out = dict(super().limits(algebra, gradient, weight))
        own = weight.value.untagged
        sizes = algebra.regime.leading(own.sizes())
        if weight.scaling.epsilon is not None and sizes:
            out["ε₂: no larger than the weight"] = weight.scaling.epsilon / sizes[0]
        return out

    def torch(self, gradients: Sequence[torch.Tensor], weight: Numbers) -> torch.Tensor:
        import torch

        last, now = gradients[-1], weight.values[-1]
        inner = tuple(range(1, last.dim()))
        row = column = whole = torch.zeros_like(last)
        for step, g in enumerate(gradients, 1):
            by = float(step) ** DECAY
            square = g.square()
            if last.dim() > 2:
                row = row[..., :1] + by * (square.mean(-1, keepdim=True) - row[..., :1])
                column = column[..., :1, :] + by * (square.mean(-2, keepdim=True) - column[..., :1, :])
            else:
                whole = whole + by * (square - whole)
        mean = row @ column / row.mean(-2, keepdim=True) if last.dim() > 2 else whole
        update = torch.where(mean > 0, last * mean.rsqrt(), torch.zeros_like(last))
        size = now.square().mean(inner, keepdim=True).sqrt() if inner else now.abs()
        size = torch.where(size > 0, size, torch.full_like(size, FLOOR)).clamp(min=weight.epsilon)
        much = update.square().mean(inner, keepdim=True).sqrt() if inner else update.abs()
        return size * update / (much / THRESHOLD).clamp(min=1.0)


def _mean_square(algebra: Algebra, x: Value, over: Sequence[str]) -> Value:
    """The mean over some axes of x²."""
    return algebra.scale(square(algebra, x, over), ONE / count(over), "mean square")


def _root(algebra: Algebra, square: Value) -> Value:
    return expand(SQRT, square.labels, [square], algebra)


def _factored(algebra: Algebra, part: Value, axes: Sequence[str]) -> Value:
    """The gradient over (r c / mean r)^(1/2)."""
    rows, columns = ([label for label in part.labels if label == axis] for axis in axes)
    by_row, by_column = _mean_square(algebra, part, columns), _mean_square(algebra, part, rows)
    mean = algebra.scale(_sum(algebra, by_row, rows), ONE / count(rows), "mean of rows")
    out = algebra.multiply(part.labels, part, expand(RSQRT, by_row.labels, [by_row], algebra), "over the row's size")
    out = algebra.multiply(part.labels, out, expand(RSQRT, by_column.labels, [by_column], algebra), "over the column's size")
    return algebra.multiply(part.labels, out, _root(algebra, mean), "times the whole's size")


def _sum(algebra: Algebra, value: Value, over: Sequence[str]) -> Value:
    for label in over:
        value = algebra.sum(value, label)
    return value


@optimizer("adafactor", "Shazeer & Stern 2018, arXiv 1804.04235, alg. 4, as torch.optim.Adafactor with ε₂ → 0")
def adafactor() -> Optimizer:
    """Adafactor: entries of the weight's own size, from a factored second moment."""
    return Adafactor()
