"""What a module computes from numbers alone: positions, masks, tables of sines.  It is computed, and stands as numbers.

A tensor that depends on no parameter and on no data of the module is a :class:`Constant`: its operations are run by torch,
at every setting, and need no rule.  Integer and boolean inputs are such numbers, too (but for indices of an embedding, which
are data).  Where a constant meets something that is none it becomes a table of a program's, a single number with a power of
the widths, or along an axis that grows a function of the index (the frequencies of a rotary embedding).  If it is none of
these (their product with the positions) the operation that it comes from is recorded, with its own constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scalecalc.trace.exact import function_of_index
from scalecalc.trace.graph import Node, Varying
from scalecalc.trace.handlers import TABLE
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.sizes import Sizes
from scalecalc.trace.traced import Axis, Block, Placed, Refusal, Traced

LARGEST = 10_000  # numbers in a table
ROUNDING = 1e-6  # of single precision, in which many modules keep their constants


@dataclass(frozen=True, eq=False)
class Constant:
    """Its values at every setting, and what it was made by: a node with its arguments."""

    values: tuple[torch.Tensor, ...]
    made: tuple[Node, Sequence[Any], Mapping[str, Any]] | None = None

    @property
    def shape(self) -> tuple[Sizes, ...]:
        return tuple(tuple(sizes) for sizes in zip(*(v.shape for v in self.values), strict=True))

    @property
    def one(self) -> torch.Tensor:
        """The values, where no width changes them.

        Raises:
            Refusal: one does.
        """
        if any(v.shape != self.values[0].shape or not torch.equal(v, self.values[0]) for v in self.values[1:]):
            raise Refusal("a table of numbers that depend on the widths")
        return self.values[0]


def _operation(target: str) -> Any:
    """The operation of torch behind a node's name; None if there is none that can be run as it is."""
    found: Any = torch.ops
    for part in target.split("."):
        found = getattr(found, part, None)
    return found


def foldable(node: Node) -> bool:
    """May its result be computed if its arguments are constants?"""
    operation = _operation(node.target)
    if operation is None or not node.target.startswith("aten."):
        return False
    return bool(node.shapes) and torch.Tag.nondeterministic_seeded not in operation.tags


def folded(node: Node, args: Sequence[Any], kwargs: Mapping[str, Any], settings: int) -> Constant | list[Constant]:
    """A node's result from constants."""
    operation, found = _operation(node.target), list[Any]()
    for k in range(settings):
        found.append(operation(*_at(args, k), **_at(dict(kwargs), k)))
    if isinstance(found[0], torch.Tensor):
        return Constant(tuple(found), (node, args, kwargs))
    return [Constant(tuple(parts)) for parts in zip(*found, strict=True)]


def _at(value: Any, k: int) -> Any:
    """An argument at the k-th setting."""
    if isinstance(value, Constant):
        return value.values[k]
    if isinstance(value, Varying):
        return value[k]
    if isinstance(value, dict):
        return {key: _at(v, k) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_at(v, k) for v in value]
    return value


def anywhere(value: Any) -> Iterable[Any]:
    """Everything in nested arguments."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)) and not isinstance(value, Varying):
        for v in value:
            yield from anywhere(v)
    else:
        yield value


def traced(rec: Recorder, value: Any) -> Any:
    """Constants among nested arguments as tensors of the program."""
    if isinstance(value, Constant):
        key = "table", id(value)
        if key not in rec.kept:
            rec.kept[key] = value, _traced(rec, value)
        return rec.kept[key][1]
    if isinstance(value, dict):
        return {k: traced(rec, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and not isinstance(value, Varying):
        return type(value)(traced(rec, v) for v in value)
    return value


def _traced(rec: Recorder, constant: Constant) -> Traced:
    if constant.values[0].is_complex():
        raise Refusal("complex numbers; write them as two real ones")
    values = [v.to(torch.float64) for v in constant.values]
    axes = tuple(Axis((size,)) for size in constant.shape)
    place = (0,) * len(axes)
    if any(v.numel() == 0 for v in values):
        return Traced(axes, {place: Block(None, (None,) * len(axes))})
    if any(not bool(v.isfinite().all()) for v in values):
        raise Refusal("infinite numbers that are no mask of a softmax")
    largest = [float(v.abs().max()) or 1.0 for v in values]
    if all(bool((v - v.reshape(-1)[0]).abs().max() == 0) for v in values):
        block = rec.constant(tuple(float(v.reshape(-1)[0]) for v in values))
        return Traced(axes, {place: Block(block.tensor, (None,) * len(axes))})
    if any(map(rec.grows, constant.shape)):
        return _growing(rec, constant, values, axes)
    first = values[0]
    sizes = [s / largest[0] for s in largest]
    if any(float((v / s - first).abs().max()) > ROUNDING * largest[0] for v, s in zip(values, sizes, strict=True)):
        raise Refusal("a table of numbers that depend on the widths by more than a common factor")
    if first.numel() > LARGEST:
        raise Refusal(f"a table of more than {LARGEST} numbers")
    kept, labels = first, list[str | None]()
    for k, size in enumerate(constant.shape):
        alike = bool((first - first.narrow(k, 0, 1)).abs().max() == 0)
        labels.append(None if alike else rec.label(size, labels))
        kept = kept.narrow(k, 0, 1) if alike else kept
    shape = [s for s, label in zip(kept.shape, labels, strict=True) if label is not None]
    name = f"table {len(rec.kept)}"
    tensor = rec.program.table(name, " ".join(filter(None, labels)), _tuples(kept.reshape(shape).tolist()))
    out = Traced(axes, {place: Block(tensor, tuple(labels))})
    if any(abs(s - 1) > ROUNDING for s in sizes):
        out = Traced(axes, {place: rec.scaled(out.only, tuple(sizes))})
    return out


def _growing(rec: Recorder, constant: Constant, values: Sequence[torch.Tensor], axes: Sequence[Axis]) -> Traced:
    """A function of the index along the one axis that it varies along, or what made it."""
    rec.single |= any(v.dtype == torch.float32 for v in constant.values)
    varying = [k for k in range(len(axes)) if any(not _same_along(v, k) for v in values)]
    if len(varying) == 1 and rec.grows(axes[varying[0]].size):
        (k,) = varying
        lines = [v.movedim(k, -1).reshape(-1, v.shape[k])[0] for v in values]
        expression = function_of_index(lines)
        label = rec.label(axes[k].size)
        if expression is not None and label is not None and label not in rec.unfit:
            tensor = rec.program.index(f"table {len(rec.kept)}", label, expression)
            rec.placed.append(Placed(tensor.index, "", (), (), tuple(lines)))
            labels = tuple(label if j == k else None for j in range(len(axes)))
            return Traced(tuple(axes), {(0,) * len(axes): Block(tensor, labels)})
    if constant.made is None:
        raise Refusal("a table of numbers along a growing axis that are no function of the index that is known")
    node, args, kwargs = constant.made
    if node.target not in TABLE or not anywhere_constant((args, kwargs)):
        raise Refusal(f"numbers along a growing axis that are no function of the index that is known, by {node.target}")
    kwargs = {k: v for k, v in kwargs.items() if k not in ("device", "layout", "pin_memory", "memory_format")}
    return TABLE[node.target](rec, node, *traced(rec, list(args)), **traced(rec, kwargs))


def anywhere_constant(value: Any) -> bool:
    return any(isinstance(v, Constant) for v in anywhere(value))


def _same_along(v: torch.Tensor, axis: int) -> bool:
    return bool((v - v.narrow(axis, 0, 1)).abs().max() == 0)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
