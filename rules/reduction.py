"""Products of activations, sums over an axis, broadcasting, and sums of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scalecalc.memory import Entries
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule, spread
from scalecalc.rules._product import Product, contract
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

PROFILES = "calculus of sums: Σ n^(−p) = N^(1−p), log N, 1 for p < 1, = 1, > 1 (integral test)"


def total(x: Tensor, over: Sequence[str], *, name: str = "") -> Tensor:
    """The sum of x over some axes."""
    axes = tuple(label for label in x.axes if label not in over)
    return x.program.record("sum", (x,), axes, name=name, over=tuple(over))


def broadcast(x: Tensor, like: Tensor) -> Tensor:
    """x repeated along the axes of ``like`` that it does not have."""
    return x.program.record("broadcast", (x, like), like.axes)


def rename(x: Tensor, names: Mapping[str, str]) -> Tensor:
    """The same tensor with axes renamed (``{"N_u": "N_u'"}``)."""
    return x.program.record("rename", (x,), tuple(names.get(label, label) for label in x.axes), names=dict(names))


def dot(a: Tensor, b: Tensor, over: str, *, name: str = "") -> Tensor:
    """Σ a·b over one or more axes (a string of labels), the others matched by label."""
    return contract(a, b, over.split(), name=name)


@rule("contraction", PROFILES)
class Contraction(Product):
    """Σ a·b over an axis is √N large where the product is odd in some random matrix there, N large where it is not."""

    def sample(self, program: Program) -> Tensor:
        return dot(program.input("x", "batch N M"), program.input("z", "batch N M"), "N")


@rule("sum", PROFILES)
class Sum(Rule):
    """A sum over an axis: law of large numbers for even summands, central limit for odd ones."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        out = values[0]
        for label in op.params["over"]:
            if label in out.labels:
                out = algebra.sum(out, label)
        return Value(labels, out.terms)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [broadcast(g, inputs[0])]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        return tensors[0].sum(dim=[1 + axes[0].index(label) for label in op.params["over"]])

    def latex(self, op: Op, *names: str) -> str:
        return rf"\sum_{{{','.join(op.params['over'])}}} {names[0]}"

    def sample(self, program: Program) -> Tensor:
        return total(program.input("x", "batch N M"), ["N"])


@rule("broadcast", "definition")
class Broadcast(Rule):
    """A tensor repeated along an axis keeps its size there."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return 1, 0

    def entries(self, op: Op, *inputs: Entries | None) -> Entries | None:
        return inputs[0]

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        return Value(labels, values[0].terms)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [g, None]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        x, like = spread(axes, op.axes, *tensors)
        return x.expand_as(like)

    def latex(self, op: Op, *names: str) -> str:
        return names[0]

    def sample(self, program: Program) -> Tensor:
        return broadcast(program.input("x", "batch N"), program.input("z", "batch M N"))


@rule("rename", "definition")
class Rename(Rule):
    """The same tensor: only the labels of its axes change."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return (1,)

    def entries(self, op: Op, *inputs: Entries | None) -> Entries | None:
        return inputs[0]

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        return algebra.rename(values[0], op.params["names"])

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [rename(g, {new: old for old, new in output.op.params["names"].items()})]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        return tensors[0]

    def latex(self, op: Op, *names: str) -> str:
        return names[0]

    def sample(self, program: Program) -> Tensor:
        return rename(program.input("x", "batch N"), {"N": "N'"})


@rule("add", "definition")
class Add(Rule):
    """A sum of tensors is as large as its largest term."""

    def degrees(self, op: Op, *values: Value) -> Sequence[float] | None:
        return None if sum(any(not t.tag for t in v.terms) for v in values) > 1 else [1 for _ in values]

    def entries(self, op: Op, *inputs: Entries | None) -> Entries | None:
        a, b, *more = inputs
        return a + b if a is not None and b is not None and not more else None

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        return algebra.add(labels, *values)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        return [g for _ in inputs]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        out = spread(axes, op.axes, *tensors)
        result = out[0]
        for other in out[1:]:
            result = result + other
        return result

    def latex(self, op: Op, *names: str) -> str:
        return " + ".join(names)

    def sample(self, program: Program) -> Tensor:
        return program.input("x", "batch N M") + program.input("z", "batch N")
