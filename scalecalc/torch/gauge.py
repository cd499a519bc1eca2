"""Multipliers moved into init and rate: a network that uses m·w is trained by what trains one that uses W = m·w itself.

By what powers of m is the gauge of the weight under its optimizer, which is derived from the optimizer's law
(:mod:`scalecalc.gauge`): the init m·σ always; the rate η·m² for SGD, η·m for Adam; ε and weight decay to match.

The roads not taken: a parametrization (torch.nn.utils.parametrize) renames the parameter in state dicts and
named_parameters, and such a module cannot be pickled; a forward hook misses ``self.proj.weight @ x``; a subclass or a buffer
for m must be carried through FSDP, torch.compile and every checkpoint.  Nothing has to be carried here.
"""

from __future__ import annotations

from dataclasses import fields, replace

from scalecalc.errors import InputError
from scalecalc.model import optimizer_of
from scalecalc.parameterization import Parameterization
from scalecalc.scale import Scale

ONE = Scale.one()
INSTEAD = "Take a parameterization without multipliers; scalecalc solve gives one unless a --gauge asks for them."


def without_multipliers(parameterization: Parameterization) -> Parameterization:
    """The same training with every multiplier one.

    Raises:
        InputError: there are multipliers that cannot be moved: by the optimizer's law training depends on them (Adam with an
            ε of order one), gradients are clipped by their norm over all weights, or initial entries are exact.
    """
    moving = {w: s for w, s in parameterization.items() if s.multiplier is not ONE}
    if not moving:
        return parameterization
    optimizer = optimizer_of(parameterization.optimizer)
    if optimizer.joint:
        raise InputError(f"under {parameterization.optimizer} multipliers change the norm that is clipped by. {INSTEAD}")
    scalings = dict(parameterization.scalings)
    for name, s in moving.items():
        shift = parameterization.own.get(name)
        if shift is None or name in parameterization.exact:
            raise InputError(
                f"the multiplier of {name} cannot be moved into its init and rate under {parameterization.optimizer}"
                f"{', since its initial entries are exact' if name in parameterization.exact else ''}. {INSTEAD}"
            )
        powers = {unknown.split(maxsplit=1)[0]: e for unknown, e in shift.powers}
        theta = s.multiplier ** (-1 / powers["multiplier"])
        if s.weight_decay is not None and not optimizer.decay:
            raise InputError(f"{name} has a multiplier and a weight decay, of which {parameterization.optimizer} has none.")
        known = {f.name: value for f in fields(s) if isinstance(value := getattr(s, f.name), Scale)}
        moved = {q: value * theta ** powers.get(q, 0) for q, value in known.items()}
        scalings[name] = replace(s, **{**moved, "multiplier": ONE})
    return replace(parameterization, scalings=scalings)
