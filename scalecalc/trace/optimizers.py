"""How a module is trained, read off the optimizer that was built with it: the law by its class, and per parameter the rate,
weight decay and ε as powers of the widths, from its parameter groups at several widths.

Somebody's existing scaling, from mup or by hand, is so checked as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from scalecalc.errors import InputError
from scalecalc.scale import Scale
from scalecalc.trace.graph import set_up
from scalecalc.trace.sizes import Settings


@dataclass(frozen=True)
class Rate:
    """One parameter's rate, decay and ε.  None: no decay; an ε that no width changes, which is taken to be negligible."""

    lr: Scale
    weight_decay: Scale | None
    epsilon: Scale | None


@dataclass(frozen=True)
class Training:
    """The registered optimizer, and every trained parameter's rate; others are constants."""

    optimizer: str
    rates: Mapping[str, Rate]


def read(factory: Callable[..., Any], settings: Settings, options: Mapping[str, Any]) -> Training | None:
    """What the factory's optimizer does; None if it returns none.

    Raises:
        InputError: an optimizer that has no law here, or a rate that is no product of powers of the widths.
    """
    found: list[dict[str, dict[str, Any]]] = []
    optimizer: torch.optim.Optimizer | None = None
    for widths in settings.all:
        module, optimizer = set_up(factory, widths, options)
        if optimizer is None:
            return None
        names = {id(p): name for name, p in module.named_parameters()}
        groups: dict[str, dict[str, Any]] = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                if id(p) not in names:
                    raise InputError("the optimizer trains a tensor that is no parameter of the module.")
                groups[names[id(p)]] = group
        found.append(groups)
    assert optimizer is not None
    decays = any(group.get("weight_decay") for groups in found for group in groups.values())
    rates = {name: _rate(name, [groups[name] for groups in found], settings) for name in found[0]}
    return Training(_law(optimizer, decays), rates)


def _law(optimizer: torch.optim.Optimizer, decays: bool) -> str:
    """The registered name of torch's optimizer, as it is set."""
    group = optimizer.param_groups[0]
    kind = type(optimizer)
    if kind is torch.optim.SGD:
        name = "nesterov" if group["nesterov"] else "momentum" if group["momentum"] else "sgd"
        return f"{name}:decay=coupled" if decays else name
    if kind is torch.optim.AdamW:
        return "adamw" if decays else "adam"
    if kind is torch.optim.Adam:
        coupled = not group.get("decoupled_weight_decay")
        return ("adam_l2" if coupled else "adamw") if decays else "adam"
    if kind is torch.optim.Adafactor:
        return "adafactor"
    raise InputError(
        f"the optimizer {kind.__name__} is not read off; give the module alone, and --optimizer with --parameterization."
    )


def _rate(name: str, groups: list[dict[str, Any]], settings: Settings) -> Rate:
    def scale(key: str) -> Scale | None:
        values = [float(group.get(key) or 0.0) for group in groups]
        if not any(values):
            return None
        form = settings.form(values)
        if form is None:
            raise InputError(
                f"the {key} of {name} is no product of powers of the widths: {settings.words(values)}. Give it in a "
                "parameterization file."
            )
        return form.scale

    rate, epsilon = scale("lr"), scale("eps")
    if rate is None:
        raise InputError(f"the rate of {name} is 0; leave it out of the optimizer.")
    return Rate(rate, scale("weight_decay"), epsilon if epsilon is not None and epsilon.dims else None)
