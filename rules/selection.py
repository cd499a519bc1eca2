"""Selection: weights of the recurrence that are computed from its own input (Gu & Dao 2023, arXiv 2312.00752, alg. 2).

A selected quantity is a matrix product whose result is then used as a weight.  The calculus needs no rule for that: the
product's value has its parity and its source, and whatever multiplies it later is paired with it like any other factor.
(The ansatz of Tensor Programs knows matrices and vectors, not vectors that serve as matrices; here lies the difference.)
"""

from __future__ import annotations

import sympy as sp

from scalecalc.program import Tensor
from scalecalc.rules.elementwise import softplus
from scalecalc.rules.matmul import matmul


def select(weight: Tensor, u: Tensor, name: str) -> Tensor:
    """B_t = W_B u_t or C_t = W_C u_t, as a named feature."""
    return u.program.feature(name, matmul(weight, u))


def select_step(weight: Tensor, u: Tensor, name: str, bias: Tensor | None = None) -> Tensor:
    """Δ_t = softplus(W_Δ u_t + bias), the bias 1 unless given: of order one however large the widths.

    The constant does not change an exponent; with it the states' asymptotics (index times step ≫ 1) begin at once.
    """
    shift = u.program.index("step shift", "", sp.Integer(1)) if bias is None else bias
    return u.program.feature(name, softplus(matmul(weight, u) + shift))
