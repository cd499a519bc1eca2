"""Multipliers moved into init and rate: a network that uses m·w is trained by what trains one that uses W = m·w itself.

The gradient of w is m times that of W, and an update that is homogeneous of degree d in its gradient (SGD: 1; Adam, sign
descent, Muon: 0) moves W by m · η · m^d as much as it would move it alone.  So the same training has no multiplier, the
init m·σ and the rate η·m^(1+d), and ε, which is compared with gradients, is ε/m.

The roads not taken: a parametrization (torch.nn.utils.parametrize) renames the parameter in state dicts and
named_parameters, and such a module cannot be pickled; a forward hook misses ``self.proj.weight @ x``; a subclass or a buffer
for m must be carried through FSDP, torch.compile and every checkpoint.  Nothing has to be carried here.

What is not the same: the global norm of gradients, if it is clipped, is that of the gauge without multipliers.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch

from scalecalc.errors import InputError
from scalecalc.parameterization import Parameterization
from scalecalc.rule import find
from scalecalc.scale import Scale

ONE = Scale.one()


def without_multipliers(parameterization: Parameterization) -> Parameterization:
    """The same training with every multiplier one.

    Raises:
        InputError: there are multipliers that cannot be moved: the optimizer's update is no power of the gradient's scale,
            the weight's initial entries are exact, or its decay is not known to be of either kind.
    """
    moving = {w: s for w, s in parameterization.items() if s.multiplier is not ONE}
    if not moving:
        return parameterization
    if fixed := sorted(parameterization.exact & set(moving)):
        raise InputError(f"{', '.join(fixed)} has exact initial entries, so that its multiplier cannot be moved into them.")
    degree = degree_of(parameterization.optimizer)
    scalings = dict(parameterization.scalings)
    for name, s in moving.items():
        m = s.multiplier
        if s.weight_decay is not None and degree != 1:
            raise InputError(
                f"{name} has a multiplier and a weight decay: moving the multiplier into init and rate changes what the "
                "decay does. Take a parameterization without multipliers (scalecalc solve gives one)."
            )
        scalings[name] = replace(
            s,
            init=s.init * m,
            multiplier=ONE,
            lr=s.lr * m ** (1 + degree),
            weight_decay=s.weight_decay / m**2 if s.weight_decay is not None else None,
            epsilon=s.epsilon / m if s.epsilon is not None else None,
        )
    return replace(parameterization, scalings=scalings)


def degree_of(optimizer: str) -> Fraction:
    """The degree in which a registered optimizer's update is homogeneous in the gradients, found by scaling some.

    Raises:
        InputError: it is not homogeneous, as with an ε of order one.
    """
    update = find("optimizer", optimizer).make()
    generator = torch.Generator().manual_seed(0)
    early, late = (torch.randn(2, 6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    for degree in (Fraction(0), Fraction(1)):
        alike = True
        for m in (4.0, 1 / 64):
            for earlier in ([], [early]):
                one = update.torch(late, earlier)
                scaled = update.torch(m * late, [m * g for g in earlier])
                alike = alike and torch.allclose(scaled, m ** float(degree) * one, rtol=1e-9, atol=0.0)
        if alike:
            return degree
    raise InputError(
        f"the update of {optimizer} is no power of the gradient's scale, so that a multiplier cannot be moved into init and "
        "rate. Take a parameterization without multipliers (scalecalc solve gives one)."
    )
