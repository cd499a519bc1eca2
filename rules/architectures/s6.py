"""One selective state space layer between an embedding and a readout."""

from __future__ import annotations

import sympy as sp

from scalecalc.asymptotics import U
from scalecalc.errors import InputError
from scalecalc.program import Program, Tensor
from scalecalc.rule import architecture
from scalecalc.rules.complex import real
from scalecalc.rules.discretization import discretize
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.elementwise import silu
from scalecalc.rules.matmul import matmul
from scalecalc.rules.recurrence import recurrence
from scalecalc.rules.reduction import dot
from scalecalc.rules.selection import select, select_step
from scalecalc.rules.transition import eigenvalues

STEPS = ("selective", "low_rank", "fixed", "mamba")
RANK = 4


@architecture(
    "s6",
    "Gu & Dao 2023, arXiv 2312.00752, alg. 2 and eq. 1-4",
    parameterization="mup_ssm",
    optimizer="sgd",
    widths={"N_u": [64, 192, 512], "N_x": [16, 48, 128]},
)
def s6(
    discretization: str = "zoh",
    transition: str = "mamba",
    step: str = "selective",
    skip: bool = False,
    residual: bool = False,
    gate: bool = False,
    activation: str = "tanh",
) -> Program:
    """Selective state space layer, N_u channels and N_x states per channel, transition A_n = −(n + 1).

    The structured transition pays for the sum over states where the discretization divides by it (zero-order hold);
    what differs from the mup habit is every power of N_x.  Watch the skip: it hides the states at small width.

    Options, after a colon (``s6:transition=s4d_lin,step=fixed``):

    - ``discretization``: a registered one (zoh, euler, bilinear, mamba).  Euler's method is refused where the transition
      grows with n, since it explodes there.
    - ``transition``: a registered one (mamba, s4d_real, s4d_lin, s4d_inv, lru, constant) or an expression in n such as
      ``-(n+1)^2``.  Complex ones make complex states, of which y takes the real part.
    - ``step``: ``selective`` computes Δ from u by a square W_Delta; ``low_rank`` by W_up W_down with 4 channels between,
      as mamba's dt_proj(x_proj); ``fixed`` is Δ = 1 everywhere; ``mamba`` is low_rank with a bias per channel by which Δ
      starts log-uniform on [10⁻³, 10⁻¹], as the reference implementation sets it.
    - ``skip``: adds D·u to y, D = 1 per channel.
    - ``residual``: adds the layer's input u to its output, after the gate.
    - ``gate``: multiplies y by silu(z), z = W_z u, as mamba's gate.
    - ``activation``: of the embedding.
    """
    p = Program("s6", dims=("N_u", "N_x"), fixed={"batch": 8, "time": 2, "in": 32, "out": 4, "rank": RANK})
    x = p.input("x", "batch time in")
    u = p.feature("u", function(activation)(matmul(p.weight("W_in", "N_u in"), x)))
    delta = _step(p, step, u)
    B = select(p.weight("W_B", "N_x N_u", role="selection_B"), u, "B")
    C = select(p.weight("W_C", "N_x N_u", role="selection_C"), u, "C")
    decay, factor = discretize(discretization, delta, eigenvalues(p, transition, "N_x"))
    h = p.feature("h", recurrence(decay, (factor * B) * u))
    y = dot(C, real(h), "N_x")
    if skip:
        y = y + p.weight("D", "N_u", init=sp.Integer(1)) * u
    if gate:
        z = p.feature("z", matmul(p.weight("W_z", "N_u N_u'"), u))
        y = y * silu(z)
    if residual:
        y = y + u
    y = p.feature("y", y)
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), y))
    p.end(f)
    return p


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
