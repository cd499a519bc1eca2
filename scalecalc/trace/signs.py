"""Of which sign a tensor of a program is, by how it is made: what a root, a reciprocal and an exponential have to know.

A sign is kept as the set of those that an entry may have.  Two facts go beyond one operation at a time:

- *differences of cumulated sums*: s_i − s_j is Σ_k (T_ik − T_jk) x_k, s the sums of x by a table T.  Where a mask leaves only
  the i ≥ j of a cumulative sum, what is left of that table has one sign, and so has the difference if x has (the decays of
  Mamba-2, Dao & Gu 2024, arXiv 2405.21060, sec. 6).
- *differences from a maximum*: x − max(x, y) is −relu(y − x), which is never positive.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from scalecalc.asymptotics import N
from scalecalc.program import Op, Tensor
from scalecalc.trace.handlers import rules
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.traced import Block

Signs = frozenset[int]
POSITIVE, AT_LEAST_ZERO, AT_MOST_ZERO, ANY = (frozenset(s) for s in ((1,), (0, 1), (-1, 0), (-1, 0, 1)))
LARGEST = 10_000  # numbers in a table

OF_EVERYTHING = {
    **dict.fromkeys(("exp", "decay", "softplus", "sigmoid", "softmax", "cosh"), POSITIVE),
    **dict.fromkeys(("reciprocal", "root", "reciprocal_root"), POSITIVE),
    **dict.fromkeys(("square", "absolute", "relu", "step"), AT_LEAST_ZERO),
    "log_sigmoid": frozenset({-1}), "log1p": AT_LEAST_ZERO,
}  # fmt: skip
KEPT = ("rename", "view", "part", "broadcast", "stop", "rmsnorm", "identity", "tanh", "erf", "sinh", "atan", "expm1", "sign")


def signs(rec: Recorder, tensor: Tensor) -> Signs:
    """The signs that an entry may have.  (A sum over an axis of what is never negative vanishes only if all of it does.)"""
    key = "signs", tensor.index
    if key not in rec.kept:
        rec.kept[key] = _signs(rec, tensor)
    return rec.kept[key]


def _signs(rec: Recorder, tensor: Tensor) -> Signs:
    op, inner = tensor.op, [rec.program.tensor(i) for i in tensor.op.inputs]
    if op.rule == "index":
        return _of_numbers(rec, op)
    if op.params.get("order"):
        return ANY
    if op.rule in OF_EVERYTHING:
        return OF_EVERYTHING[op.rule]
    if op.rule in KEPT:
        return signs(rec, inner[0])
    if op.rule == "negative":
        return frozenset(-s for s in signs(rec, inner[0]))
    if op.rule == "sum":
        return _summed(signs(rec, inner[0]))
    if op.rule == "add":
        if any(_less_its_largest(rec, *pair) for pair in (inner, inner[::-1])):
            return AT_MOST_ZERO
        if any(_one_less(rec, *pair) for pair in (inner, inner[::-1])):
            return POSITIVE
        own = [signs(rec, t) for t in inner]
        found = frozenset[int]().union(*own)
        if {-1, 1} <= found:
            return ANY
        return found if all(0 in s for s in own) else found - {0}
    if op.rule == "contraction":
        a, b = (signs(rec, t) for t in inner)
        found = AT_LEAST_ZERO if inner[0].index == inner[1].index else frozenset(s * t for s in a for t in b)
        return _summed(found) if op.params["over"] and not _empty_row(op, inner) else found
    return ANY


HUGE = 1e30  # and beyond: nothing that is added to it makes a difference, and an exponential of its negative is zero


def constant_of(rec: Recorder, block: Block) -> float | None:
    """The number that a block is everywhere, at every width."""
    return None if block.tensor is None else _constant(rec, block.tensor)


def _constant(rec: Recorder, tensor: Tensor) -> float | None:
    op = tensor.op
    if op.axes or "scale" in op.params:
        return None
    if op.rule == "index":
        return float(op.params["expression"]) if "expression" in op.params else None
    if op.rule not in ("contraction", "negative"):
        return None
    found = [_constant(rec, rec.program.tensor(i)) for i in op.inputs]
    known = [number for number in found if number is not None]
    return None if len(known) < len(found) else math.prod(known) * (-1 if op.rule == "negative" else 1)


def less_maximum(rec: Recorder, a: Tensor, b: Tensor) -> Tensor | None:
    """a − b as −relu(y − a), if b is the larger of a and y; else None."""
    op = b.op
    if op.rule != "add" or len(op.inputs) != 2:
        return None
    x, bent = (rec.program.tensor(i) for i in op.inputs)
    if bent.op.rule != "relu" or bent.op.params["order"]:
        return None
    between = rec.program.tensor(bent.op.inputs[0])  # y − x
    if between.op.rule != "add" or len(between.op.inputs) != 2:
        return None
    y, less = (rec.program.tensor(i) for i in between.op.inputs)
    if less.op.rule != "negative" or less.op.inputs[0] != x.index:
        return None
    negative, relu = (getattr(rules("elementwise"), name) for name in ("negative", "relu"))
    if alike(rec, a, x):
        return negative(bent)
    return negative(relu(negative(between))) if alike(rec, a, y) else None


def alike(rec: Recorder, a: Tensor, b: Tensor, depth: int = 8) -> bool:
    """Are two tensors the same, or made in the same way of the same, within so many operations?"""
    if a.index == b.index:
        return True
    if not depth or not a.op.inputs or (a.op.rule, a.op.axes, a.op.params) != (b.op.rule, b.op.axes, b.op.params):
        return False
    pairs = zip(a.op.inputs, b.op.inputs, strict=True) if len(a.op.inputs) == len(b.op.inputs) else ()
    return bool(b.op.inputs) and all(alike(rec, rec.program.tensor(i), rec.program.tensor(j), depth - 1) for i, j in pairs)


def _less_its_largest(rec: Recorder, x: Tensor, other: Tensor) -> bool:
    """x − max(x), over some axes?"""
    if other.op.rule != "negative":
        return False
    most = _past_stops(rec, rec.program.tensor(other.op.inputs[0]))
    return most.op.rule == "largest" and _past_stops(rec, rec.program.tensor(most.op.inputs[0])).index == x.index


def _one_less(rec: Recorder, one: Tensor, other: Tensor) -> bool:
    """1 less what lies between zero and one (a decay by what is positive, a sigmoid), neither included."""
    number = _constant(rec, one)
    if number is None or number < 1 or other.op.rule != "negative":
        return False
    less = rec.program.tensor(other.op.inputs[0])
    decays = less.op.rule == "decay" and signs(rec, rec.program.tensor(less.op.inputs[0])) == POSITIVE
    return not less.op.params.get("order") and (decays or less.op.rule == "sigmoid")


def _past_stops(rec: Recorder, tensor: Tensor) -> Tensor:
    while tensor.op.rule == "stop":
        tensor = rec.program.tensor(tensor.op.inputs[0])
    return tensor


def _summed(own: Signs) -> Signs:
    return ANY if {-1, 1} <= own else own - {0} or own


def _empty_row(op: Op, inner: Sequence[Tensor]) -> bool:
    """Is an entry the sum of nothing, for a table that is zero all along the axis?"""
    over = op.params["over"]
    tables = [(t, table) for t in inner if (table := _table(t)) is not None and set(over) <= set(t.axes)]
    return any(bool((table.abs().sum([t.axes.index(label) for label in over]) == 0).any()) for t, table in tables)


def _table(tensor: Tensor) -> torch.Tensor | None:
    """The numbers of a table; what a weight starts as is none."""
    values = tensor.op.params.get("values") if tensor.op.rule == "index" else None
    return None if values is None else torch.tensor(values, dtype=torch.float64)


def _of_numbers(rec: Recorder, op: Op) -> Signs:
    expression, values = op.params.get("expression"), op.params.get("values")
    if values is not None:
        return frozenset(int(s) for s in torch.tensor(values, dtype=torch.float64).sign().unique())
    if expression.free_symbols == {N}:
        found = {_sign(expression.subs(N, s)) for s in rec.sizes[op.axes[-1]]}
        return found.pop() if len(found) == 1 else ANY
    return _sign(expression)


def _sign(number: object) -> Signs:
    known = {"is_positive": 1, "is_negative": -1, "is_zero": 0}
    return next((frozenset({s}) for name, s in known.items() if not _free(number) and getattr(number, name)), ANY)


def _free(number: object) -> bool:
    return bool(getattr(number, "free_symbols", True))


# ------------------------------------------------------------------ what an exponential is the decay by


def decays_by(rec: Recorder, block: Block, keep: torch.Tensor | None = None) -> Tensor | None:
    """A tensor y that is never negative, where the block's entries (those that are kept) are −y; None if none is known."""
    tensor = block.tensor
    assert tensor is not None
    if signs(rec, tensor) <= AT_MOST_ZERO:
        behind = tensor.op.rule == "negative"
        return rec.program.tensor(tensor.op.inputs[0]) if behind else rules("elementwise").negative(tensor)
    form = _form(rec, tensor)
    if form is None:
        return None
    source = signs(rec, form.source)
    table = form.table if keep is None else _within(form, keep, block)
    sign = -1 if source <= AT_MOST_ZERO else 1 if source <= AT_LEAST_ZERO else 0
    if not sign or table is None or table.numel() > LARGEST or bool((sign * table > 0).any()):
        return None
    return _product(rec, replace(form, table=-table))


@dataclass(frozen=True)
class _Form:
    """Σ_k table[…, k] source[k]: ``along`` the labels of the table's other axes, ``over`` that of the sum in the source."""

    source: Tensor
    over: str
    along: tuple[str, ...]
    table: torch.Tensor


def _form(rec: Recorder, tensor: Tensor) -> _Form | None:
    """A tensor as the sums of another by one table, through slices, differences and further sums."""
    op, inner = tensor.op, [rec.program.tensor(i) for i in tensor.op.inputs]
    if op.rule == "contraction":
        return _contracted(rec, op, inner)
    forms = [_form(rec, t) for t in inner] if op.rule in ("rename", "part", "negative", "add") else [None]
    if any(form is None for form in forms):
        return None
    first, *more = (form for form in forms if form is not None)
    if op.rule == "negative":
        return replace(first, table=-first.table)
    if op.rule == "rename":
        names = {a: b for a, b in op.params["names"].items() if a in inner[0].axes}
        own = tuple(names.get(label, label) for label in first.along)
        return replace(first, along=own) if set(names) <= set(first.along) else None
    if op.rule == "part":
        p = op.params
        if p["axis"] not in first.along:
            return None
        k = first.along.index(p["axis"])
        table = first.table.narrow(k, p["start"], p["stop"] - p["start"])
        rest = (*first.along[:k], *([p["to"]] if p["to"] else []), *first.along[k + 1 :])
        return replace(first, along=rest, table=table if p["to"] else table.squeeze(k))
    if len(more) != 1 or (more[0].source.index, more[0].over) != (first.source.index, first.over):
        return None
    along = tuple(dict.fromkeys((*first.along, *more[0].along)))
    return replace(first, along=along, table=sum(_laid(f, along) for f in (first, *more)))


def _contracted(rec: Recorder, op: Op, inner: Sequence[Tensor]) -> _Form | None:
    """A product with a table, entry by entry or summed over one axis."""
    for known, other in (inner, inner[::-1]):
        if (table := _table(known)) is None:
            continue
        form = _form(rec, other)
        if not op.params["over"]:
            if form is None or not set(known.axes) <= set(form.along):
                return None
            return replace(form, table=form.table * _laid(_Form(other, "", known.axes, table[..., None]), form.along))
        if len(op.params["over"]) > 1 or op.params["over"][0] not in known.axes:
            return None
        (over,) = op.params["over"]
        rest = tuple(label for label in known.axes if label != over)
        table = table.movedim(known.axes.index(over), -1)
        if form is None or over not in form.along:
            return _Form(other, over, rest, table)
        along = tuple(dict.fromkeys((*rest, *(label for label in form.along if label != over))))
        letter = dict(zip(dict.fromkeys((*rest, *form.along)), string.ascii_lowercase, strict=False))
        left, right, out = ("".join(letter[label] for label in own) for own in ((*rest, over), form.along, along))
        return replace(form, along=along, table=torch.einsum(f"{left},{right}Z->{out}Z", table, form.table))
    return None


def _laid(form: _Form, along: Sequence[str]) -> torch.Tensor:
    """A form's table on these axes, of size one where it has none."""
    table = form.table.permute(*(form.along.index(label) for label in along if label in form.along), -1)
    for k, label in enumerate(along):
        table = table if label in form.along else table.unsqueeze(k)
    return table


def _within(form: _Form, keep: torch.Tensor, block: Block) -> torch.Tensor | None:
    """The table with zeros for what a mask leaves out; None if the mask varies along other axes."""
    keep = keep.reshape((1,) * (len(block.labels) - keep.dim()) + tuple(keep.shape))
    order = [block.labels.index(label) if label in block.labels else -1 for label in form.along]
    varies = {k for k in range(keep.dim()) if keep.shape[k] > 1}
    if -1 in order or not varies <= set(order):
        return None
    own = keep.permute(*order, *(k for k in range(keep.dim()) if k not in order)).reshape([keep.shape[k] for k in order])
    return form.table.where(own.unsqueeze(-1), 0.0)


def _product(rec: Recorder, form: _Form) -> Tensor:
    """The sums by a table, recorded."""
    source, fresh = form.source, dict[str, str]()
    for label in form.along:
        if label in source.axes:
            used = [*source.axes, *form.along, *fresh.values()]
            fresh[label] = rec.label(rec.sizes[label], used) or label
    labels = [fresh.get(label, label) for label in form.along]
    name = f"sums {len(rec.program.ops)}"
    table = rec.program.table(name, " ".join((*labels, form.over)), _tuples(form.table.tolist()))
    axes = tuple(label for label in rec.program.union(table, source) if label != form.over)
    found = rec.program.record("contraction", (table, source), axes, over=(form.over,))
    back = {new: old for old, new in fresh.items()}
    if not back:
        return found
    return rec.program.record("rename", (found,), tuple(back.get(label, label) for label in axes), names=back)


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, Iterable) else value
