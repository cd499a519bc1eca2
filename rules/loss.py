"""The loss, as the gradient that it starts the backward pass with.

The default is a fixed random linear functional of the output: dL/df is then Θ(1) whatever the output's size, so that the
gradients' exponents are those of the network and not those of the loss.  With mse, logistic loss and cross-entropy dL/df
depends on the output; with mse an output that grows makes it grow.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import sympy as sp

from scalecalc.errors import InputError, UnknownName
from scalecalc.program import Program, Tensor
from scalecalc.rules.elementwise import negative, sigmoid
from scalecalc.rules.softmax import softmax
from scalecalc.rules.token import token
from scalecalc.scale import Scale


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


NOISE = "noise"  # the dim that the noise scale is
SHARED, OWN = "loss signal", "loss noise"


def noisy(output: Tensor) -> Tensor:
    """L = mean over the batch of Σ (noise^(−1/2) c + ξ_b)·f, c alike and ξ independent for all samples.

    A mean of signal and noise: ``noise`` is a dim of its own, the batch at which the noise of the mean is as large as its
    signal (McCandlish et al. 2018, arXiv 1812.06162, the noise scale).  See :mod:`scalecalc.batch`.
    """
    p = output.program
    samples = _samples(output)
    own = p.input(OWN, " ".join(output.axes))
    shared = p.input(SHARED, " ".join(label for label in output.axes if label not in samples))
    signal = p.index("signal size", "", 1, scale=Scale.of(NOISE, "-1/2"))
    grow, size = p.count(samples), prod(p.size(label) for label in samples if not p.grows(label))
    return (shared * signal + own) * p.index("1/samples", "", sp.Rational(1, size), scale=grow**-1)


def _samples(output: Tensor) -> tuple[str, ...]:
    """The axes of an output that no weight has: they count samples (and times, and places)."""
    known = {label for weight in output.program.weights.values() for label in weight.axes}
    return tuple(label for label in output.axes if label not in known)


def prepare(program: Program, loss: str) -> None:
    """The dims that a loss brings with it.

    Raises:
        InputError: the loss is a mean over a batch that does not grow.
    """
    if loss != "noisy" or program.loss is None:
        return
    if not program.growing(_samples(program.tensor(program.loss))):
        raise InputError(f"the loss 'noisy' is about a growing batch: write {program.name}:grow=batch.")
    program.dims = (*program.dims, NOISE)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": linear, "mse": mse, "logistic": logistic, "cross_entropy": cross_entropy,
    "noisy": noisy,
}  # fmt: skip


def start(output: Tensor, loss: str) -> Tensor:
    """Record dL/df.

    Raises:
        UnknownName: no such loss.
    """
    if loss not in LOSSES:
        raise UnknownName("loss", loss, LOSSES)
    return LOSSES[loss](output)
