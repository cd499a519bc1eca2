"""A linear state space layer with a dense transition."""

from __future__ import annotations

import sympy as sp

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.view import part

TIMES = 3
FORGETS = (
    "the eigenvalues of a matrix of independent entries fill a disc, up to its edge, so that what is summed over a long "
    "sequence depends on a constant at which nothing forgets. lti, s4d and lru have diagonal transitions of known decay"
)


@architecture(
    "dense_ssm",
    "Gu et al. 2021, arXiv 2110.13985 (linear state space layers), with a transition of independent entries: Orvieto et al. "
    "2023, arXiv 2303.06349, sec. 3.1",
    parameterization="mup",
    optimizer="adam",
    widths={"N_u": [32, 96, 256], "N_x": [32, 96, 256]},
)
def dense_ssm(skip: bool = True, activation: str = "gelu") -> Program:
    """Dense linear state space layer over three steps: h_t = A h_{t−1} + B u_t, y = C h + D u, A with independent entries.

    Its table is a linear recurrent network's: A of size N_x^(-1/2) keeps the states' size, and as one matrix at all times it
    has mup's rate for a hidden layer.  What differs from a diagonal transition is that nothing is paid for: all states are
    alike, C is an ordinary matrix, and A must be scaled where a diagonal must not.  Watch the length: eigenvalues fill the
    unit disc at every width, and long sequences need them inside of it, by a constant that no width enters.

    Options: ``skip`` (D = 1 per channel); ``activation`` of the embedding and before the readout.
    """
    p = Program("dense_ssm", dims=("N_u", "N_x"), fixed={"batch": 4, "time": TIMES, "in": 16, "out": 4})
    p.unrolled("time", FORGETS)
    x = p.input("x", "batch time in")
    embed, A, B = p.weight("W_in", "N_u in"), p.weight("A", "N_x N_x'"), p.weight("B", "N_x N_u")
    u = [function(activation)(matmul(embed, part(x, "time", "", t, t + 1))) for t in range(TIMES)]
    h = p.feature("h1", matmul(B, p.feature("u1", u[0])))
    for t in range(1, TIMES):
        h = p.feature(f"h{t + 1}", matmul(A, h) + matmul(B, p.feature(f"u{t + 1}", u[t])))
    y = p.feature("y", matmul(p.weight("C", "N_u N_x"), h))
    s = y + p.weight("D", "N_u", init=sp.Integer(1)) * u[-1] if skip else y
    p.end(p.feature("f", matmul(p.weight("W_out", "out N_u"), function(activation)(s))))
    return p
