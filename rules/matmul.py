"""Products of a weight matrix with activations."""

from __future__ import annotations

from scalecalc.errors import ProgramError
from scalecalc.program import Program, Tensor
from scalecalc.rule import rule
from scalecalc.rules._product import Product, contract
from scalecalc.rules.reduction import rename
from scalecalc.term import dim_of


def matmul(weight: Tensor, x: Tensor, *, name: str = "") -> Tensor:
    """``W @ x``: contract the weight's last axis with the axis of x of the same label, or of the same dim.

    Raises:
        ProgramError: x has no such axis.
    """
    inner = weight.axes[-1]
    if inner not in x.axes:
        same = [label for label in x.axes if dim_of(label) == dim_of(inner)]
        if len(same) != 1:
            raise ProgramError(
                f"{weight.name} ({' '.join(weight.axes)}) cannot be applied to {x.name} ({' '.join(x.axes)}): "
                f"no single axis of {x.name} matches {inner}."
            )
        x = rename(x, {same[0]: inner})
    return contract(weight, x, (inner,), rule="matmul", name=name)


@rule("matmul", "Yang 2020, arXiv 2009.10685 (Tensor Programs III), master theorem: W x = Z + the part along earlier Wᵀ")
class Matmul(Product):
    """A random matrix sums its input by the central limit; where the input came out of Wᵀ g, it also returns g.

    An initial weight is an atom free in row and column, so W x is odd in row flips with source x (size σ ‖x‖), and an x
    that contains Wᵀ g pairs with it: E[W Wᵀ] g, aligned, of size σ² · fan-in · |g| (back-reaction; tied weights and
    weights shared over time are the same case, since the symmetry belongs to the matrix and not to its use).  An update
    ΔW is an ordinary value, a sum of factor pairs dh ⊗ x, so ΔW x' = dh ⟨x, x'⟩ and its alignment is that sum's.
    """

    def sample(self, program: Program) -> Tensor:
        x = program.input("x", "batch M")
        return matmul(program.weight("W", "N M"), x)
