"""Which parameter is which weight: by name, never by shape, role or an attribute hung on it.

A name is that of ``named_parameters()``, without what wrappers put into it (DDP, FSDP, torch.compile, activation
checkpointing), so that one mapping serves the model before and after it is wrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from scalecalc import globs
from scalecalc.errors import InputError, UnknownName
from scalecalc.parameterization import Parameterization

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
Target = str | tuple[str, Sequence[str]] | None
Names = Mapping[str, Target]
MOST = 8  # names that a message lists


@dataclass(frozen=True)
class Place:
    """One parameter of a model and the weight that it is.

    Args:
        names: all its names, more than one if it is tied.
        weight: in the parameterization; None for one that is left as it is.
        axes: the dim of each of the parameter's own axes, ``""`` for one that does not grow.
    """

    names: tuple[str, ...]
    parameter: nn.Parameter
    weight: str | None
    axes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0]


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every name of every parameter, wrappers left out; a tied one is there under each of its names.

    Raises:
        InputError: a parameter without a shape yet (a lazy module).
    """
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)  # their one child is called module
    children = {f"{path}.module".lstrip(".") for path, module in model.named_modules() if isinstance(module, parallel)}
    out: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parts = name.split(".")
        paths = [".".join(parts[: i + 1]) for i in range(len(parts))]
        clean = ".".join(p for p, path in zip(parts, paths, strict=True) if p not in WRAPPERS and path not in children)
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(f"{clean} has no shape yet; run the model once on an example, so that lazy modules get theirs.")
        out[clean] = parameter
    return out


def together(known: Mapping[str, nn.Parameter]) -> dict[int, list[str]]:
    """All names of each parameter, by its identity."""
    out: dict[int, list[str]] = {}
    for name, parameter in known.items():
        out.setdefault(id(parameter), []).append(name)
    return out


def places(model: nn.Module, parameterization: Parameterization, names: Names | None) -> list[Place]:
    """Every parameter with its weight, in the model's order; frozen ones that nobody mentions are left out.

    Args:
        names: parameter name or shell pattern → weight, or (weight, the dims of the parameter's axes) where these are not
            in the weight's order, or None to leave a parameter as it is.  The most specific wins.  A parameter that none
            matches is the weight of its own name.

    Raises:
        InputError: a pattern that matches nothing, a parameter that is no weight, tied parameters that are two weights,
            axes that are not the weight's.
        UnknownName: no such weight.
    """
    given, known = names or {}, named(model)
    if without := globs.idle(given, known):
        raise InputError(f"names: {', '.join(without)} matches no parameter; the parameters: {listed(known)}.")
    out: list[Place] = []
    unmentioned: list[str] = []
    for own in together(known).values():
        parameter = known[own[0]]
        targets = {name: target for name in own for target in _targets(name, given, parameterization)}
        if not targets:
            unmentioned += [own[0]] if parameter.requires_grad else []
            continue
        weights = {name: _weight(name, target, parameterization) for name, target in targets.items() if target is not None}
        if not weights:
            out.append(Place(tuple(own), parameter, None))
            continue
        _check_tied(weights, parameterization)
        weight, axes = next(iter(weights.values()))
        out.append(Place(tuple(own), parameter, weight, axes))
    if unmentioned:
        raise InputError(
            f"the parameterization does not mention {listed(unmentioned)}. Say in names= which weight of it each is "
            f"({', '.join(parameterization)}), or None to leave it as it is, at the base rate: "
            f"names={{{unmentioned[0]!r}: None}}. Shell patterns will do."
        )
    return out


def _targets(name: str, given: Names, parameterization: Parameterization) -> list[Target]:
    """What a name is mapped to; nothing if it is not mentioned."""
    key = globs.chosen(given, name)
    if key is not None:
        return [given[key]]
    return [name] if name in parameterization else []


def _weight(name: str, target: Target, parameterization: Parameterization) -> tuple[str, tuple[str, ...]]:
    weight, axes = target if isinstance(target, tuple) else (target, None)
    if not isinstance(weight, str) or weight not in parameterization:
        raise UnknownName(f"weight for {name}", str(weight), parameterization)
    own = parameterization.axes.get(weight, ())
    if axes is None:
        return weight, own
    if isinstance(axes, str) or sorted(filter(None, axes)) != sorted(filter(None, own)):
        raise InputError(
            f"names: {name} is said to have the axes {axes!r}, but the dims of {weight} are {', '.join(filter(None, own))}. "
            f'Give one per axis of the parameter, "" for an axis that does not grow.'
        )
    return weight, tuple(axes)


def _check_tied(weights: Mapping[str, tuple[str, tuple[str, ...]]], parameterization: Parameterization) -> None:
    """One parameter under several names must be one weight, or several that scale alike."""
    (first, (weight, axes)), *others = weights.items()
    for name, (other, its) in others:
        a, b = parameterization[weight], parameterization[other]
        same = (a.init, a.multiplier, a.lr, a.weight_decay, a.epsilon) == (
            b.init, b.multiplier, b.lr, b.weight_decay, b.epsilon,
        )  # fmt: skip
        if not same:
            raise InputError(
                f"{first} and {name} are one parameter (tied), but as {weight} and {other} they would scale differently. "
                "Untie them; or map both to one weight and put what is left, a multiplier, into the model."
            )
        if sorted(axes) != sorted(its):
            raise InputError(f"{first} and {name} are one parameter, but the axes of {weight} and {other} differ.")


def listed(names: Sequence[str] | Mapping[str, torch.Tensor]) -> str:
    every = list(names)
    return ", ".join(every[:MOST]) + (f" and {len(every) - MOST} more" if len(every) > MOST else "") or "none"
