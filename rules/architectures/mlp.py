"""Multilayer perceptron."""

from __future__ import annotations

from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.elementwise import activation as function
from scalecalc.rules.matmul import matmul


@architecture(
    "mlp",
    "Everett et al. 2024, arXiv 2407.05872, sec. 3: embedding, hidden, readout",
    parameterization="mup",
    optimizer="adam",
    widths={"N": [64, 128, 256, 512, 1024]},
)
def mlp(depth: int = 2, activation: str = "relu") -> Program:
    """Multilayer perceptron of one width N: embedding, ``depth`` − 1 hidden layers, readout.

    Its table is the one everybody copies.  It is here as the control: every row is known.
    """
    p = Program("mlp", dims=("N",), fixed={"batch": 4, "in": 8, "out": 8})
    h = p.feature("h1", matmul(p.weight("W_in", "N in"), p.input("x", "batch in")))
    for layer in range(2, depth + 1):
        h = function(activation)(h)
        h = p.feature(f"h{layer}", matmul(p.weight(f"W_{layer}", "N N'"), h))
    f = p.feature("f", matmul(p.weight("W_out", "out N"), function(activation)(h)))
    p.end(f)
    return p
