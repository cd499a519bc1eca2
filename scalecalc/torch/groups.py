"""Parameter groups for a torch optimizer: every parameter at the rate, weight decay and ε of its weight."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from scalecalc import globs
from scalecalc.errors import InputError
from scalecalc.numbers import Given, Growth, Values, checked, off_path, scaled
from scalecalc.parameterization import Parameterization
from scalecalc.torch.gauge import without_multipliers
from scalecalc.torch.names import Names, Place, listed, places
from scalecalc.torch.shapes import Base, growth


def param_groups(
    model: nn.Module,
    parameterization: Parameterization,
    *,
    base: Base,
    lr: Given,
    weight_decay: Given | None = None,
    eps: Given | None = None,
    names: Names | None = None,
    widths: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for ``torch.optim.Adam``, ``SGD``, ``AdamW``, ``Muon``, or any other optimizer.

    Each group has ``params``, ``lr`` and ``param_names``, and ``weight_decay`` and ``eps`` if they are given here; all else
    is the optimizer's.  Parameters with equal numbers and as many axes share a group (so that the matrices, for Muon, are
    ``[g for g in groups if g["params"][0].ndim == 2]``).  At base width every number is as given.  Frozen parameters are
    left out.

    Args:
        parameterization: solved for the optimizer that the groups are for.
        base: the model at the width that the numbers were tuned at (on the meta device, too), or the widths there.
        lr: the rate at base: one number, or one per parameter (names or shell patterns, ``"*"`` for the others).
        weight_decay: at base, likewise; as the optimizer takes it.
        eps: the optimizer's ε at base, likewise.
        names: which parameter is which weight: ``{"layers.*.weight": "W_2", "*.bias": None}``.  None leaves it as it is, at
            the base numbers.  ``("W_in", ("", "N"))`` names the dims of a parameter whose axes are not in the weight's
            order, as in ``nn.Embedding``.  By default a parameter is the weight of its own name.
        widths: of the model, if they cannot be read off its shapes; with widths at base only.

    Warns:
        UserWarning: the dims grow in another way than the exponents were solved for.

    Raises:
        InputError: a parameter that is no weight, a pattern that matches none, contradictory shapes, tied parameters that
            would scale differently, a number that is none, or one that the parameterization does not scale.
        UnknownName: no such weight.
    """
    placed = places(model, parameterization, names)
    grown = growth(model, parameterization, placed, base, widths)
    for note in off_path(parameterization, grown):
        warnings.warn(note, stacklevel=2)
    given = {"lr": lr, "weight_decay": weight_decay, "eps": eps}
    check_patterns(given, placed)
    free = without_multipliers(parameterization)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for place, values in settings(placed, free, grown, given):
        key = (values.lr, values.weight_decay, values.epsilon, place.parameter.ndim)
        if key not in groups:
            numbers = {"lr": values.lr, "weight_decay": values.weight_decay, "eps": values.epsilon}
            taken = {name: number for name, number in numbers.items() if number is not None}
            groups[key] = {"params": [], **taken, "param_names": []}
        groups[key]["params"].append(place.parameter)
        groups[key]["param_names"].append(place.name)
    return list(groups.values())


def settings(
    placed: Sequence[Place], parameterization: Parameterization, grown: Growth, given: Mapping[str, Given | None]
) -> Iterator[tuple[Place, Values]]:
    """Every trainable parameter with its numbers."""
    for place in placed:
        if not place.parameter.requires_grad:
            continue
        lr = number_for(place, "lr", given["lr"])
        assert lr is not None
        values = Values(
            None, 1.0, lr, number_for(place, "weight_decay", given["weight_decay"]), number_for(place, "eps", given["eps"])
        )
        if place.weight is not None:
            values = scaled(values, parameterization[place.weight], grown)
        yield place, values


def check_patterns(given: Mapping[str, Given | None], placed: Sequence[Place]) -> None:
    known = [name for place in placed for name in place.names]
    for quantity, value in given.items():
        if isinstance(value, Mapping) and (without := globs.idle(value, known)):
            raise InputError(f"{quantity}: {', '.join(without)} matches no parameter; the parameters: {listed(known)}.")


def number_for(place: Place, quantity: str, given: Given | None) -> float | None:
    """The number at base of one parameter.

    Raises:
        InputError: it is none, or nothing is given for this parameter.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        return checked(quantity, given)
    key = next((key for name in place.names if (key := globs.chosen(given, name)) is not None), None)
    if key is None:
        raise InputError(f"{quantity}: nothing is given for {place.name}; add it, or '*' for all others.")
    return checked(quantity, given[key])
