"""Multilayer perceptron."""

from __future__ import annotations

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.dropout import dropout as dropped
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul

RATE = 0.5


@architecture(
    "mlp",
    "Everett et al. 2024, arXiv 2407.05872, sec. 3: embedding, hidden, readout",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [64, 128, 256, 512, 1024]},
)
def mlp(depth: int = 2, activation: str = "relu", dropout: bool = False) -> Program:
    """Multilayer perceptron of one width N: embedding, ``depth`` − 1 hidden layers, readout.

    Its table is the one everybody copies.  It differs in nothing from the mup habit: it is here as the control, every row of
    which is known.  Watch the readout, whose output vanishes as N^(-1/2) initially and is learned by order one.

    Options: ``depth``, ``activation``; ``dropout`` of every other feature behind each activation.
    """
    p = Program("mlp", dims=("N",), fixed={"batch": 4, "in": 8, "out": 8})
    h = p.feature("h1", matmul(p.weight("W_in", "N in"), p.input("x", "batch in")))
    for layer in range(2, depth + 1):
        h = dropped(function(activation)(h), RATE * dropout)
        h = p.feature(f"h{layer}", matmul(p.weight(f"W_{layer}", "N N'"), h))
    f = p.feature("f", matmul(p.weight("W_out", "out N"), dropped(function(activation)(h), RATE * dropout)))
    p.end(f)
    return p
