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
    p: Program, u: Tensor, discretization: str, transition: str, step: str, skip: bool = False, state: str = "h",
    blocks: str = "",
) -> Tensor:  # fmt: skip
    """Selective states of u (batch, time, N_u), read by C, and with ``skip`` D·u beside them: (batch, time, N_u).

    Delta, B, C and the states, by the name ``state``, are features; ``step`` is one of :data:`STEPS`; ``blocks``: the axis
    that counts the blocks, if there are many with weights of their own.
    """
    with p.within("selection"):
        delta = _step(p, step, u, blocks)
        B = select(p.weight("W_B", f"{blocks} N_x N_u", role="selection_B", stacked=blocks), u, "B")
        C = select(p.weight("W_C", f"{blocks} N_x N_u", role="selection_C", stacked=blocks), u, "C")
    with p.within("discretization"):
        decay, factor = discretize(discretization, delta, eigenvalues(p, transition, "N_x"))
        factor = factor * B
    with p.within("recurrence"):
        h = p.feature(state, recurrence(decay, factor * u))
        y = dot(C, real(h), "N_x")
    return y + p.weight("D", f"{blocks} N_u", init=sp.Integer(1), stacked=blocks) * u if skip else y


def gated(p: Program, y: Tensor, u: Tensor, blocks: str = "") -> Tensor:
    """y · silu(z), z = W_z u a feature."""
    return y * silu(p.feature("z", matmul(p.weight("W_z", f"{blocks} N_u N_u'", stacked=blocks), u)))


def _step(p: Program, kind: str, u: Tensor, blocks: str) -> Tensor:
    """The step Δ: (batch, time, N_u), or without axes where it is fixed."""
    if kind == "fixed":
        return p.index("Delta", "", sp.Integer(1))
    if kind == "selective":
        return select_step(p.weight("W_Delta", f"{blocks} N_u N_u'", stacked=blocks), u, "Delta")
    if kind in ("low_rank", "mamba"):
        low = matmul(p.weight("W_down", f"{blocks} rank N_u", stacked=blocks), u)
        bias = None
        if kind == "mamba":
            # softplus of the bias alone is the step wanted: its inverse is log(e^Δ − 1)
            wanted = sp.exp(sp.log(sp.Rational(1, 1000)) + U * sp.log(100))
            bias = p.index("step bias", f"{blocks} N_u", sp.log(sp.exp(wanted) - 1))
        return select_step(p.weight("W_up", f"{blocks} N_u rank", stacked=blocks), low, "Delta", bias)
    raise InputError(f"step={kind!r} is none of {', '.join(STEPS)}.")
