"""What tests of small programs share: a size derived by the engine, the same quantity measured with a few lines of numpy.

A case is a small program, whose value at one operation (of one tag) is derived, and an experiment that draws the same
quantity at given widths.  Derived and measured exponents are compared along paths on which the dims grow as powers of
one width, each width with fresh seeds.

The tolerance is five standard errors of the fitted slope, and 0.1 for corrections to scaling; with standard errors below
0.03 (asserted) the tolerance is under 1/4: a wrong exponent, 1/2 away, fails, and a right one fails once in 10⁶.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from importlib import import_module

import numpy as np

from scalecalc.backward import record_backward
from scalecalc.derive import Model, interpret, run
from scalecalc.program import Tensor
from scalecalc.rule import find
from scalecalc.rulebook import load
from scalecalc.scale import Regime, Scale
from scalecalc.table import WeightScaling
from scalecalc.term import Term, atom, pattern
from scalecalc.value import Algebra, Value

load()
matmul = import_module("scalecalc.rules.matmul").matmul
dot, total = (getattr(import_module("scalecalc.rules.reduction"), name) for name in ("dot", "total"))
relu, tanh, square = (
    getattr(import_module("scalecalc.rules.elementwise"), name) for name in ("relu", "tanh", "square")
)
start = import_module("scalecalc.rules.loss").start

F, ONE = Fraction, Scale.one()
Experiment = Callable[..., np.ndarray]


# ---------------------------------------------------------------------- deriving


def S(text: str) -> Scale:
    """``"N_u^-1/2 N_x"`` or ``"log N_x"`` as a Scale."""
    out = ONE
    for word in text.replace("log ", "log:").split():
        base, _, power = word.partition("^")
        if word != "1":
            out = out * (Scale.log(base[4:], power or 1) if base.startswith("log:") else Scale.of(base, power or 1))
    return out


def derived(tensor: Tensor, weights: Mapping[str, Scale] | None = None, tag: tuple[str, ...] = ()) -> set[Scale]:
    """Leading sizes (root-mean-square) of a tensor, its weights random with entries of the given sizes.

    A weight called δ is an update: it starts at zero and has a tag, δ.
    """
    program, values = tensor.program, {}
    for name, weight in program.weights.items():
        size = (weights or {}).get(name, ONE)
        labels = program.growing(weight.axes)
        term = Term(size, pattern((), [atom(name, labels)]), ("δ",) if name == "δ" else ())
        values[name] = Value(labels, (term,))
    value = run(program, Algebra(), values, [tensor.index])[tensor.index]
    assert value is not None
    return set(Regime().leading(value.sizes(tag)))


def trained(
    tensor: Tensor, optimizer: str, scalings: Mapping[str, WeightScaling], of: Tensor | None = None
) -> dict[tuple[str, ...], set[Scale]]:
    """Leading sizes of a tensor (or of another) after one step on a linear functional of it, by tag, degrees told apart."""
    program = tensor.program
    seen = of or tensor
    program.features["y"] = seen.index
    program.end(tensor)
    record_backward(program, start(tensor, "linear"))
    update = find("optimizer", optimizer).make()
    found = interpret(Model("", program, "", scalings, optimizer, update, "linear", {}), Regime())
    value = found.updated[seen.index]
    assert value is not None
    tags = {t.tag for t in value.terms}
    return {tag: set(Regime().leading(t.rms(value.labels) for t in value.terms if t.tag == tag)) for tag in tags}


# ---------------------------------------------------------------------- measuring


def fitted(
    measure: Experiment, base: Mapping[str, int], rates: Mapping[str, float], steps: int = 5
) -> tuple[float, float]:
    """Slope of the mean of log|q| over the seeds, per doubling of the path's width, and its standard error."""
    means, errors = [], []
    for step in range(steps):
        widths = {dim: round(size * 2 ** (rates.get(dim, 0) * step)) for dim, size in base.items()}
        logs = np.log(np.abs(measure(np.random.default_rng((7, step)), **widths)))
        means.append(logs.mean())
        errors.append(logs.std(ddof=1) / len(logs) ** 0.5)
    weights = np.arange(steps) - (steps - 1) / 2
    weights /= (weights**2).sum() * np.log(2)
    return float(weights @ means), float(np.linalg.norm(weights * errors))


def agrees(
    sizes: set[Scale], measure: Experiment, base: Mapping[str, int], rates: Mapping[str, float], steps: int = 5
) -> None:
    """The measured slope along a path is that of the largest derived size there."""
    assert sizes
    slope, error = fitted(measure, base, rates, steps)
    assert error < 0.03, "too few seeds to tell exponents apart"
    expected = max(sum(float(s.power(dim)) * rate for dim, rate in rates.items()) for s in sizes)
    assert abs(slope - expected) < 0.1 + 5 * error, f"measured {slope:.3f} ± {error:.3f}, derived {expected:g}"


def rms(x: np.ndarray) -> np.ndarray:
    """Per seed (the first axis)."""
    return np.sqrt(np.square(x.reshape(len(x), -1)).mean(1))


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


