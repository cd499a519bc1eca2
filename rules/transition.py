"""Transitions: the eigenvalues A_n of dh/dt = A h + B u, exact expressions in the state's index.  A new one is one line.

``n`` is the index from 0, ``N`` the number of states, ``U`` and ``V`` are independent and uniform on [0, 1] for every
state.  How entries, decays and input factors vary along the states is found by sympy (``scalecalc.indexed``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from scalecalc.asymptotics import N, U, V, n
from scalecalc.errors import InputError, UnknownName
from scalecalc.expression import parse_expression
from scalecalc.program import Program, Tensor
from scalecalc.rule import register, registry

pi = sp.pi
STATES = 512  # that a transition as typed is tried at
ROUNDING = 1e-12


@dataclass(frozen=True)
class Transition:
    """One transition: its name, A_n, and where it is from."""

    name: str
    expression: sp.Expr
    source: str

    @property
    def words(self) -> str:
        return f"A_n = {self.expression}"


def transition(name: str, expression: Any, source: str) -> None:
    """Register a transition, an expression in ``n``, ``N``, ``U`` and ``V`` of ``scalecalc.asymptotics``."""
    register("transition", name, Transition(name, sp.sympify(expression, strict=True), source))


def transition_of(text: str) -> sp.Expr:
    """A registered transition by name, or an expression as typed (``-(n+1)^2``).

    Raises:
        UnknownName: a name that is not registered.
        InputError: an expression that cannot be read, or whose states grow or stand still (the real part must not be
            positive and no entry zero or infinite, at the first :data:`STATES` of them).
    """
    known = registry("transition")
    if text in known:
        return known[text].expression
    if text.isidentifier() and text not in ("n", "N", "U", "V", "I", "pi"):
        raise UnknownName("transition", text, known)
    expression = parse_expression(text)
    at = sp.lambdify((n, N, U, V), expression, "cmath")
    for state in range(STATES):
        try:
            value = complex(at(state, STATES, 1 / 3, 2 / 7))
        except (ValueError, ArithmeticError) as error:
            raise InputError(f"the transition {text} is not finite at n = {state}; write -(n+1), say.") from error
        if value.real > ROUNDING * abs(value) or value == 0:
            what = "is zero" if value == 0 else f"has the positive real part {value.real:.3g}"
            raise InputError(f"the transition {text} {what} at n = {state}: that state does not decay; write -(n+1), say.")
    return expression


def eigenvalues(program: Program, text: str, axis: str, name: str = "A") -> Tensor:
    """Record A_n along an axis: a registered transition or an expression as typed."""
    return program.index(name, axis, transition_of(text))


def ring(low: Any, high: Any) -> sp.Expr:
    """log λ with |λ|² uniform on [low², high²] and a uniform phase, so that zero-order hold over Δ = 1 gives λ."""
    low, high = (sp.sympify(bound, strict=True) for bound in (low, high))
    return sp.log(low**2 + (high**2 - low**2) * U) / 2 + 2 * sp.I * pi * V


S4D = "Gu, Gupta, Goel & Ré 2022, arXiv 2206.11893"
HALF = sp.Rational(1, 2)

transition("mamba", -(n + 1), "Gu & Dao 2023, arXiv 2312.00752, sec. 3.6: S4D-Real")
transition("s4d_real", -(n + 1), f"{S4D}, sec. 4.1")
transition("s4d_lin", -HALF + sp.I * pi * n, f"{S4D}, eq. 9")
transition("s4d_inv", -HALF + sp.I * N / pi * (N / (2 * n + 1) - 1), f"{S4D}, eq. 8")
transition("lru", ring(sp.Rational(9, 10), sp.Rational(999, 1000)), "Orvieto et al. 2023, arXiv 2303.06349, lemma 3.2")
transition("constant", sp.Integer(-1), "Dao & Gu 2024, arXiv 2405.21060: one scalar for all states")
