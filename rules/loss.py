"""The loss, as the gradient that it starts the backward pass with.

The default is a fixed random linear functional of the output: dL/df is then Θ(1) whatever the output's size, so that the
gradients' exponents are those of the network and not those of the loss.  With mse, logistic loss and cross-entropy dL/df
depends on the output; with mse an output that grows makes it grow.
"""

from __future__ import annotations

from collections.abc import Callable

from scalecalc.errors import InputError, UnknownName
from scalecalc.program import Tensor
from scalecalc.rules.elementwise import negative, sigmoid
from scalecalc.rules.softmax import softmax
from scalecalc.rules.token import token


def linear(output: Tensor) -> Tensor:
    """L = Σ c·f with fixed standard normal c: dL/df = c."""
    return output.program.input("loss c", " ".join(output.axes))


def mse(output: Tensor) -> Tensor:
    """L = ½ Σ (f − y)² with fixed standard normal targets y: dL/df = f − y."""
    return output + negative(output.program.input("loss target", " ".join(output.axes)))


def logistic(output: Tensor) -> Tensor:
    """L = Σ log(1 + e^f) − y f with fixed normal soft targets y: dL/df = σ(f) − y."""
    return sigmoid(output) + negative(output.program.input("loss target", " ".join(output.axes)))


def cross_entropy(output: Tensor) -> Tensor:
    """L = −Σ log softmax(f)_y, the classes y drawn uniformly: dL/df = softmax(f) − onehot(y).

    Classes are the last axis of the output that a weight has too (a token's or an image's place is none).

    Raises:
        InputError: there is none.
    """
    p = output.program
    over = [label for label in output.axes if any(label in weight.axes for weight in p.weights.values())]
    if not over:
        raise InputError(f"cross-entropy needs classes: an axis that {output.name} has from a weight; choose another loss.")
    target = token(p.input("loss target", " ".join(output.axes)), over[-1])
    return softmax(output, over[-1]) + negative(target)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": linear, "mse": mse, "logistic": logistic, "cross_entropy": cross_entropy,
}  # fmt: skip


def start(output: Tensor, loss: str) -> Tensor:
    """Record dL/df.

    Raises:
        UnknownName: no such loss.
    """
    if loss not in LOSSES:
        raise UnknownName("loss", loss, LOSSES)
    return LOSSES[loss](output)
