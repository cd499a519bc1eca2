"""How much wider a model is than its base, read off the shapes of its parameters through the axes of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from torch import nn

from scalecalc.errors import InputError
from scalecalc.numbers import Growth, widths
from scalecalc.parameterization import Parameterization
from scalecalc.torch.names import Place, named

Base = nn.Module | Mapping[str, int]


def growth(
    model: nn.Module,
    parameterization: Parameterization,
    placed: Sequence[Place],
    base: Base,
    target: Mapping[str, int] | None = None,
) -> Growth:
    """The ratio of every dim between model and base.

    Args:
        base: the model at base width (on the meta device, too), or the widths there.
        target: the model's widths, where they cannot be read off its shapes; only with widths at base.

    Raises:
        InputError: shapes that contradict each other or the axes of the weights; a dim that nothing shows.
    """
    used = {place.weight: place for place in placed if place.weight is not None}
    if isinstance(base, nn.Module):
        if target is not None:
            raise InputError("widths= goes with widths at base: base={'N': 256}, widths={'N': 4096}.")
        _whole(model)
        found = _compared(placed, named(base))
    else:
        before, after = widths(parameterization.dims, base, target or {})
        if target is None:
            _whole(model)
            after = _read(placed, before)
        found = Growth(before, after)
    known = {*found.base, *found.ratios}
    for weight, place in used.items():
        s = parameterization[weight]
        scales = (s.init, s.multiplier, s.lr, s.weight_decay, s.epsilon)
        missing = sorted({dim for scale in scales if scale is not None for dim in scale.dims} - known)
        if missing:
            raise InputError(
                f"{place.name} ({weight}) scales with {', '.join(missing)}, of which nothing is known here: no parameter "
                f"that is mapped has such an axis, or base= does not give its width. Give the widths as numbers: "
                f"base={{{missing[0]!r}: …}}, widths={{{missing[0]!r}: …}}."
            )
    return found


def _whole(model: nn.Module) -> None:
    """Are the shapes those of whole parameters?

    Raises:
        InputError: FSDP has cut them into flat pieces.
    """
    import torch.distributed as dist

    if not dist.is_available():
        return
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

    for module in model.modules():
        if isinstance(module, FullyShardedDataParallel) and module.sharding_strategy != ShardingStrategy.NO_SHARD:
            raise InputError(
                "FullyShardedDataParallel has cut the parameters into flat pieces that have no axes. Give the widths as "
                "numbers (base={'N': 256}, widths={'N': 4096}), or call this before wrapping, or use fully_shard."
            )


def _axes(place: Place, shape: Sequence[int]) -> tuple[str, ...]:
    if len(shape) != len(place.axes):
        shown = ", ".join(repr(dim) for dim in place.axes) or "unknown"
        raise InputError(
            f"{place.name} has {len(shape)} axes {tuple(shape)}, but {place.weight} of the parameterization has the dims "
            f"({shown}). If it is that weight, name the dims of its own axes: names={{{place.name!r}: ({place.weight!r}, "
            f'("N", "", …))}}, "" for an axis that does not grow.'
        )
    return place.axes


def _compared(placed: Sequence[Place], base: Mapping[str, nn.Parameter]) -> Growth:
    ratios: dict[str, tuple[Fraction, str]] = {}
    seen: dict[str, set[tuple[int, int]]] = {}
    for place in placed:
        if place.weight is None:
            continue
        name = next((n for n in place.names if n in base), None)
        if name is None:
            raise InputError(f"the base model has no parameter {place.name}; build both by the same code.")
        before, after = tuple(base[name].shape), tuple(place.parameter.shape)
        if len(before) != len(after):
            raise InputError(f"{name} has the shape {before} at base and {after} in the model; build both by the same code.")
        for axis, (dim, b, t) in enumerate(zip(_axes(place, after), before, after, strict=True)):
            where = f"axis {axis} of {name}, {b} at base and {t} here"
            if not dim:
                if b != t:
                    raise InputError(
                        f"{where}: but this axis of {place.weight} does not grow. Is {name} another weight, or are its axes "
                        f"in another order (names={{{name!r}: ({place.weight!r}, (…))}})?"
                    )
                continue
            ratio, first = ratios.setdefault(dim, (Fraction(t, b) if b else Fraction(1), where))
            if not b or ratio != Fraction(t, b):
                raise InputError(f"{dim} grows {_fold(ratio)} by {first}, but not by {where}. Both are said to be {dim}.")
            seen.setdefault(dim, set()).add((b, t))
    plain = {dim: next(iter(pairs)) for dim, pairs in seen.items() if len(pairs) == 1}
    return Growth(
        {dim: b for dim, (b, _) in plain.items()},
        {dim: t for dim, (_, t) in plain.items()},
        {dim: ratio for dim, (ratio, _) in ratios.items()},
    )


def _fold(ratio: Fraction) -> str:
    return f"{float(ratio):g}-fold"


def _read(placed: Sequence[Place], base: Mapping[str, int]) -> dict[str, int]:
    """The widths of a model, an axis of each dim being as long as the dim is wide."""
    found: dict[str, tuple[int, str]] = {}
    for place in placed:
        if place.weight is None:
            continue
        for axis, (dim, size) in enumerate(zip(_axes(place, place.parameter.shape), place.parameter.shape, strict=True)):
            if not dim:
                continue
            where = f"axis {axis} of {place.name}"
            width, first = found.setdefault(dim, (size, where))
            if width != size:
                raise InputError(
                    f"{first} has {width} entries and {where} has {size}, so that neither need be the width {dim}. Give a "
                    f"model as base=, or the widths of this one, too: widths={{{dim!r}: …}}."
                )
            if dim not in base:
                raise InputError(f"base= does not say how wide {dim} is there ({where}).")
    return {**base, **{dim: width for dim, (width, _) in found.items()}}
