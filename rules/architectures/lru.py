"""Linear recurrent unit."""

from __future__ import annotations

import sympy as sp

from scalecalc.asymptotics import U, V
from scalecalc.desiderata import parse_scale
from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.complex import conjugate, real
from scalecalc.rules.discretization import discretize
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.elementwise import negative
from scalecalc.rules.matmul import matmul
from scalecalc.rules.positive import root
from scalecalc.rules.recurrence import recurrence
from scalecalc.rules.transition import eigenvalues


@architecture(
    "lru",
    "Orvieto et al. 2023, arXiv 2303.06349",
    parameterization="mup",
    optimizer="adam",
    widths={"N_u": [64, 192, 512], "N_x": [32, 96, 256]},
)
def lru(normalised: bool = True, transition: str = "lru", gap: str = "1", activation: str = "gelu") -> Program:
    """Linear recurrent unit: h_t = λ h_{t−1} + γ ⊙ (B u_t), y = Re(C h) + D u, λ on a ring, γ_n = (1 − |λ_n|²)^(1/2).

    Its table is mup's for an ordinary network whose hidden layer has N_x features: the states are alike, whatever their λ,
    since ring and γ do not depend on the index.  What differs from a state space layer is that there is nothing to pay for,
    the sum over states being an ordinary fan-in; γ is of order one and changes no exponent, only how a long memory (|λ| near
    one) compares with a short one.  Watch γ where the ring closes in on the unit circle as the sequence grows
    (``lru:grow=time,gap=time^(-1)``): the states then are a sum over the whole sequence, T^(1/2) large whether what enters is
    alike at all times or not (random phases), and γ, T^(−1/2), is what keeps them of order one.

    Options: ``normalised`` (with γ); ``transition``: ``lru`` or any other of s6's; ``gap``: how far the ring is from the unit
    circle, a power of an axis that grows (log |λ| is uniform between minus once and twice that then); ``activation``.
    """
    p = Program("lru", dims=("N_u", "N_x"), fixed={"batch": 4, "time": 2, "in": 16, "out": 4})
    x = p.input("x", "batch time in")
    u = p.feature("u", function(activation)(matmul(p.weight("W_in", "N_u in"), x)))
    if parse_scale(gap, p.dims).dims:
        decay, left = _thin(p, gap, transition)
    else:
        decay, _ = discretize("zoh", p.index("Delta", "", sp.Integer(1)), eigenvalues(p, transition, "N_x"))
        left = None
    drive = p.feature("v", matmul(p.weight("B", "N_x N_u"), u))
    if normalised and left is None:
        square = real(decay * conjugate(decay))
        left = p.index("one", "", sp.Integer(1)) + negative(square)
    if normalised and left is not None:
        drive = root(left) * drive
    h = p.feature("h", recurrence(decay, drive))
    y = p.feature("y", matmul(p.weight("C", "N_u N_x"), real(h)))
    s = y + p.weight("D", "N_u", init=sp.Integer(1)) * u
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), function(activation)(s)))
    p.end(f)
    return p


def _thin(p: Program, gap: str, transition: str) -> tuple[Tensor, Tensor]:
    """λ on a ring as near to the unit circle as a power of an axis, with random phases; and 1 − |λ|²."""
    if transition != "lru":
        raise InputError(f"lru:gap={gap} has a ring of its own, and transition={transition} is another; give one of them.")
    rate = p.index("rate", "N_x", -(1 + U))
    steps = [p.index(f"step {k}", "", sp.Integer(k), scale=parse_scale(gap, p.dims)) for k in (1, 2)]
    modulus, _ = discretize("zoh", steps[0], rate)
    _, square = discretize("zoh", steps[1], rate)  # (|λ|² − 1) / rate, in which nothing cancels
    return modulus * p.index("turn", "N_x", sp.exp(2 * sp.pi * sp.I * V)), negative(square * rate)
