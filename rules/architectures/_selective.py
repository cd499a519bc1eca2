"""What the selective layers share: steps, selection, states, skip and gate between u and y.

Not a rule file: its name starts with an underscore.
"""

from __future__ import annotations

import sympy as sp

from scalecalc.asymptotics import U
from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rules.complex import real
from scalecalc.rules.discretization import discretize
from scalecalc.rules.elementwise import silu
from scalecalc.rules.matmul import matmul
from scalecalc.rules.recurrence import recurrence
from scalecalc.rules.reduction import dot
from scalecalc.rules.selection import select, select_step
from scalecalc.rules.transition import eigenvalues

STEPS = ("selective", "low_rank", "fixed", "mamba")
RANK = 4


def selective(
    p: Program, u: Tensor, discretization: str, transition: str, step: str, skip: bool = False, state: str = "h"
) -> Tensor:
    """Selective states of u (batch, time, N_u), read by C, and with ``skip`` D·u beside them: (batch, time, N_u).

    Delta, B, C and the states, by the name ``state``, are features; ``step`` is one of :data:`STEPS`.
    """
    with p.within("selection"):
        delta = _step(p, step, u)
        B = select(p.weight("W_B", "N_x N_u", role="selection_B"), u, "B")
        C = select(p.weight("W_C", "N_x N_u", role="selection_C"), u, "C")
    with p.within("discretization"):
        decay, factor = discretize(discretization, delta, eigenvalues(p, transition, "N_x"))
        factor = factor * B
    with p.within("recurrence"):
        h = p.feature(state, recurrence(decay, factor * u))
        y = dot(C, real(h), "N_x")
    return y + p.weight("D", "N_u", init=sp.Integer(1)) * u if skip else y


def gated(p: Program, y: Tensor, u: Tensor) -> Tensor:
    """y · silu(z), z = W_z u a feature."""
    return y * silu(p.feature("z", matmul(p.weight("W_z", "N_u N_u'"), u)))


def _step(p: Program, kind: str, u: Tensor) -> Tensor:
    """The step Δ: (batch, time, N_u), or without axes where it is fixed."""
    if kind == "fixed":
        return p.index("Delta", "", sp.Integer(1))
    if kind == "selective":
        return select_step(p.weight("W_Delta", "N_u N_u'"), u, "Delta")
    if kind in ("low_rank", "mamba"):
        low = matmul(p.weight("W_down", "rank N_u"), u)
        bias = None
        if kind == "mamba":
            # softplus of the bias alone is the step wanted: its inverse is log(e^Δ − 1)
            wanted = sp.exp(sp.log(sp.Rational(1, 1000)) + U * sp.log(100))
            bias = p.index("step bias", "N_u", sp.log(sp.exp(wanted) - 1))
        return select_step(p.weight("W_up", "N_u rank"), low, "Delta", bias)
    raise InputError(f"step={kind!r} is none of {', '.join(STEPS)}.")
