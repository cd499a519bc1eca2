r"""Poles that are learnt: no closed form, but a last stage that is linear, and so a time constant as Θ in N.

Near the optimum (w, a) of one mode, all states balanced and alike, the loss is ½(η δW² + 2ζw δW δa + ξw² δa²), with η = ⟨z²⟩,
ζ = ⟨z z'⟩, ξ = ⟨z'²⟩ and z' = dz/da.  W moves with the speed S that its parameters give it.  The response sees of the poles
their mean, weighted by the states' gains: it moves with Σ_i (share of state i)².
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp

from scalecalc.dynamics.settings import ETA, SETTINGS, SIGMA, TAU, N, W, derive_setting
from scalecalc.scale import Scale

GAIN, ZETA, XI = sp.symbols("w zeta xi", positive=True)


@dataclass(frozen=True)
class LastStage:
    """Expressions of sympy in N, w, eta, zeta and xi.

    Args:
        speeds: of W and of the mean pole.
        matrix: −d(δW, δa)/dt.
        power: k for which N^k times the slower rate has a limit above 0.
        limit: that limit.
        constant: the time constant.
    """

    speeds: tuple[Any, Any]
    matrix: Any
    power: int
    limit: Any
    constant: Scale


@cache
def last_stage(tied: bool) -> LastStage:
    """Of states that share one pole, b and c, or have their own, balanced and alike."""
    found = derive_setting(SETTINGS["tied_balanced" if tied else "untied_balanced"])
    first = sp.simplify(found.flow * TAU / (SIGMA - ETA * W)).subs(W, GAIN)
    count, i = sp.Symbol("N", positive=True, integer=True), sp.Symbol("i", positive=True, integer=True)
    second = sp.Integer(1) if tied else sp.Sum((1 / count) ** 2, (i, 1, count)).doit().subs(count, N)
    hessian = sp.Matrix([[ETA, ZETA * GAIN], [ZETA * GAIN, XI * GAIN**2]])
    matrix = sp.diag(first, second) * hessian
    slower = sp.simplify(matrix.det() / matrix.trace())  # the product over the sum, where one is much the slower
    for power in range(-3, 4):
        limit = sp.simplify(sp.limit(N**power * slower, N, sp.oo))
        if limit.is_finite and limit != 0:
            return LastStage((first, second), matrix, power, limit, Scale.of("N", power))
    raise ValueError(f"{slower} has no power of N")
