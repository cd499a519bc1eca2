"""One selective state space layer between an embedding and a readout."""

from __future__ import annotations

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.architectures._selective import RANK, gated, selective
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm


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
    norm: bool = False,
    activation: str = "tanh",
) -> Program:
    """Selective state space layer, N_u channels and N_x states per channel, transition A_n = −(n + 1).

    Its table is mup's in N_u, while in N_x the structured transition pays for the sum over states where the discretization
    divides by it (zero-order hold).  What differs from the mup habit is every power of N_x.  Watch the skip: it hides the
    states at small width.

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
    - ``norm``: the layer's input, and what the readout reads, are divided by their root-mean-square, as in a language model.
    - ``activation``: of the embedding.
    """
    p = Program("s6", dims=("N_u", "N_x"), fixed={"batch": 8, "time": 2, "in": 32, "out": 4, "rank": RANK})
    x = p.input("x", "batch time in")
    u = p.feature("u", function(activation)(matmul(p.weight("W_in", "N_u in"), x)))
    a = rmsnorm(u, "N_u") if norm else u
    y = selective(p, a, discretization, transition, step, skip)
    if gate:
        y = gated(p, y, a)
    if residual:
        y = y + u
    y = p.feature("y", y)
    f = p.feature("f", matmul(p.weight("W_out", "out N_u"), rmsnorm(y, "N_u") if norm else y))
    p.end(f)
    return p
