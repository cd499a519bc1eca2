"""Initial weights of the size that they should have: those of the base model, scaled.

Every parameter is multiplied by one number, so that its root-mean-square is that of the same parameter of the base model
times the parameterization's ratio.  Whatever the model's own code does with width (torch's layers draw entries of size
fan-in^(−1/2)) is measured and so corrected for; what it draws from, uniform, orthogonal or else, is kept.
"""

from __future__ import annotations

import torch
from torch import nn

from scalecalc.errors import InputError
from scalecalc.parameterization import Parameterization
from scalecalc.torch.gauge import without_multipliers
from scalecalc.torch.names import Names, named, places
from scalecalc.torch.shapes import growth


@torch.no_grad()
def initialize(model: nn.Module, parameterization: Parameterization, *, base: nn.Module, names: Names | None = None) -> None:
    """Scale the initial weights of a model, in place, to what the parameterization makes of those of its base.

    Nothing happens at base width, to the bit, and nothing the second time.  Parameters that are all zero or all alike
    (biases, gains), those whose entries the architecture gives exactly, and those that ``names`` leaves as they are, are
    never changed; frozen ones that are mapped are scaled like others.  The size of base weights is measured, with a relative
    error of about (2n)^(−1/2) for n entries.

    Call it before training, and before FullyShardedDataParallel (fully_shard may come first).

    Args:
        base: the model at base width, freshly initialised by the same code.
        names: see :func:`scalecalc.torch.param_groups`.

    Raises:
        InputError: as :func:`scalecalc.torch.param_groups`; weights on the meta device; a parameter that is zero or
            constant in one of the two models only, or not finite.
    """
    if not isinstance(base, nn.Module):
        raise InputError("initialize measures the weights of the base model: give a model as base=, not its widths.")
    placed = places(model, parameterization, names)
    grown = growth(model, parameterization, placed, base)
    if all(grown.ratio(dim) == 1 for dim in parameterization.dims):
        return
    free, its = without_multipliers(parameterization), named(base)
    todo: list[tuple[nn.Parameter, float]] = []
    for place in placed:
        if place.weight is None or place.weight in parameterization.exact:
            continue
        before = its[next(name for name in place.names if name in its)]
        size, now = (_size(place.name, p, of) for p, of in ((before, "the base model"), (place.parameter, "the model")))
        if (size is None) != (now is None):
            which = "the base model" if size is None else "the model"
            raise InputError(f"{place.name} is constant in {which} only; build both by the same code, untrained.")
        if size is None or now is None:
            continue
        factor = size * grown.factor(free[place.weight].init) / now
        if abs(factor - 1.0) > torch.finfo(place.parameter.dtype).eps:  # what rounding alone does: done already
            todo.append((place.parameter, factor))
    for parameter, factor in todo:  # after all checks: a model is changed as a whole or not at all
        parameter.mul_(factor)


def _size(name: str, parameter: torch.Tensor, of: str) -> float | None:
    """The root-mean-square about zero, which a factor scales exactly; None for entries that are all alike.

    Raises:
        InputError: there are no entries on the meta device; some are not finite.
    """
    if parameter.is_meta:
        raise InputError(f"{name} of {of} is on the meta device and has no entries to measure; build it on a real one first.")
    if parameter.numel() == 0:
        return None
    if not parameter.is_floating_point() and not parameter.is_complex():
        raise InputError(f"{name} of {of} has entries of {parameter.dtype}, which cannot be scaled.")
    least, most = rms(parameter - _first(parameter)), rms(parameter)
    if not most < float("inf"):
        raise InputError(f"{name} of {of} has entries that are not finite.")
    return most if least > 0 else None


def _first(parameter: torch.Tensor) -> torch.Tensor:
    return parameter[(slice(0, 1),) * parameter.ndim]


def rms(tensor: torch.Tensor) -> float:
    """Root-mean-square of the entries, of sharded tensors, too."""
    precise = torch.float32 if tensor.device.type == "mps" else torch.float64  # mps has no doubles
    mean = tensor.detach().abs().to(precise).square().mean()
    whole = getattr(mean, "full_tensor", None)  # a DTensor's mean is one of partial means
    return float(whole() if whole is not None else mean) ** 0.5
