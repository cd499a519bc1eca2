"""Parameterizations of one model side by side, as papers print them: what each weight's init, multiplier and rates are.

A :class:`Beside` is a record that :mod:`scalecalc.report.beside` prints: a block per parameterization, a column per class of
weights, a rate per optimizer (Yang et al. 2022, arXiv 2203.03466, tables 3, 8, 9; Everett et al. 2024, arXiv 2407.05872,
table 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scalecalc.compare import titles
from scalecalc.parameterization import Parameterization
from scalecalc.pieces import formula
from scalecalc.solution import NAMES, Solution
from scalecalc.table import WeightScaling

Column = tuple[tuple[str, ...], str]  # weights that are alike in everything, and their role


@dataclass(frozen=True)
class Beside:
    """Parameterizations of one model, each for several optimizers.

    Args:
        model: as it was asked for.
        dims: the growing dims.
        blocks: parameterization → optimizer → the scalings.
        notes: what a reader must know.
    """

    model: str
    dims: tuple[str, ...]
    blocks: Mapping[str, Mapping[str, Mapping[str, WeightScaling]]]
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[Column]:
        """The weights, those together that have the same role and the same scalings everywhere."""
        every = [scalings for block in self.blocks.values() for scalings in block.values()]
        found: dict[tuple[Any, ...], list[str]] = {}
        for weight in every[0]:
            found.setdefault(tuple(scalings[weight] for scalings in every), []).append(weight)
        return [(tuple(weights), key[0].role) for key, weights in found.items()]

    def __str__(self) -> str:
        from scalecalc.report.beside import render

        return render(self, "table", width=120)


def beside(
    model: str,
    solved: Mapping[str, Parameterization],
    parameterizations: Sequence[str],
    *,
    options: Mapping[str, Any] | None = None,
    fix: Mapping[str, int] | None = None,
    regime: str = "free",
) -> Beside:
    """Put solutions beside registered parameterizations.

    Args:
        solved: optimizer → solution; the others are shown for the same optimizers.
        parameterizations: registered names, TOML or JSON files.
        regime: for those that compare two dims.

    Raises:
        InputError: a parameterization twice, or one that does not fit the model.
    """
    from scalecalc.model import resolve

    first = next(iter(solved.values()))
    names = titles(parameterizations)
    blocks: dict[str, Mapping[str, Mapping[str, WeightScaling]]] = {
        first.name: {optimizer: one.scalings for optimizer, one in solved.items()}
    }
    for name, scheme in zip(names, parameterizations, strict=True):
        blocks[name] = {
            o: resolve(model, parameterization=scheme, optimizer=o, options=options, fix=fix, regime=regime).scalings
            for o in solved
        }
    notes: list[str] = []
    for optimizer, one in solved.items():
        by_ratio = one.pieces.items() if isinstance(one, Solution) else ()
        words = [f"{NAMES[quantity]} of {weight} {formula(p, one.dims)}" for (weight, quantity), p in by_ratio]
        if words:
            notes.append(f"{one.name}, {optimizer}, by how the dims grow against each other: {'; '.join(words)}.")
    return Beside(model, first.dims, blocks, tuple(notes))
