"""What the rules for products share: Σ_over a·b with axes matched by label.

Not a rule file: its name starts with an underscore.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import TYPE_CHECKING

from scalecalc.memory import Entries
from scalecalc.program import Op, Tensor
from scalecalc.rule import Rule
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch


def contract(a: Tensor, b: Tensor, over: Sequence[str], *, rule: str = "contraction", name: str = "") -> Tensor:
    """Record Σ_over a·b; every summed axis must be in both."""
    axes = tuple(label for label in a.program.union(a, b) if label not in over)
    return a.program.record(rule, (a, b), axes, name=name, over=tuple(over))


class Product(Rule):
    """Σ_over a·b: sizes multiply, profiles add, then each sum by its law."""

    nameless = True

    def degrees(self, op: Op, *values: Value) -> Sequence[float]:
        return 1, 1

    def entries(self, op: Op, *inputs: Entries | None) -> Entries | None:
        a, b = inputs
        return a * b if a is not None and b is not None and not op.params["over"] else None

    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        a, b = values
        growing = [label for label in op.params["over"] if label in a.labels or label in b.labels]
        return algebra.contract(labels, a, b, growing)

    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        a, b = inputs
        return [_gradient(g, b, a), _gradient(g, a, b)]

    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        import torch

        letter = {label: ascii_letters[i + 1] for i, label in enumerate(dict.fromkeys([*axes[0], *axes[1]]))}
        sides = ",".join("a" + "".join(letter[label] for label in own) for own in axes)
        dtype = torch.promote_types(tensors[0].dtype, tensors[1].dtype)
        return torch.einsum(f"{sides}->a{''.join(letter[label] for label in op.axes)}", *(t.to(dtype) for t in tensors))

    def latex(self, op: Op, *names: str) -> str:
        product = r"\,".join(names)
        return rf"\sum_{{{','.join(op.params['over'])}}} {product}" if op.params["over"] else product


def _gradient(g: Tensor, other: Tensor, of: Tensor) -> Tensor:
    """g·other summed over the axes that ``of`` does not have."""
    from scalecalc.rules.complex import conjugate

    over = [label for label in other.axes if label in g.axes and label not in of.axes]
    return contract(g, conjugate(other), over)
