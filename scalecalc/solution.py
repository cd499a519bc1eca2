"""What a solve returns: a parameterization that knows why it is what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from scalecalc.parameterization import Parameterization
from scalecalc.pieces import Piece
from scalecalc.scale import Regime, Scale
from scalecalc.symmetry import Shift
from scalecalc.table import Table


@dataclass(frozen=True)
class Bound:
    """What a weight's init or rate cannot pass.

    Args:
        quantity: ``init``, ``lr``, ``weight_decay`` or ``epsilon``.
        value: what it is.
        rows: the rows that bind it, in words; none where nothing does.
    """

    weight: str
    quantity: str
    value: Scale
    rows: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Solution(Parameterization):
    """A solved parameterization: the exponents, those of the long run, with what binds each and what each weight does.

    Args:
        model: the model as it was asked for.
        regime: how the dims were taken to grow against each other.
        first: the same, if only the first step had to be stable; equal to this one where that makes no difference.
        bounds: per weight and quantity, what binds it.
        fates: per weight ``learning`` (the first feature it reaches moves by Θ(1)), ``learning further on`` (a later one
            does), ``lazy`` (none does) or ``idle`` (nothing depends on it).
        excess: features that the requirements keep above order one, and by how much.
        group: the shifts over several weights that leave output and training alone.
        pieces: exponents that depend on the growth ratio ρ (N_x = N_u^ρ), by pieces.
        table: derives the Θ table under this parameterization (see :attr:`derived`).
        notes: what a reader must know.
        options: what else was asked for.
    """

    model: str = ""
    regime: Regime = Regime()
    first: Parameterization | None = None
    bounds: Mapping[tuple[str, str], Bound] = field(default_factory=dict[tuple[str, str], Bound])
    fates: Mapping[str, str] = field(default_factory=dict[str, str])
    excess: Mapping[str, Scale] = field(default_factory=dict[str, Scale])
    group: tuple[Shift, ...] = ()
    pieces: Mapping[tuple[str, str], Sequence[Piece]] = field(default_factory=dict[tuple[str, str], Sequence[Piece]])
    table: Callable[[], Table] | None = None
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 0.0

    @cached_property
    def derived(self) -> Table | None:
        """The Θ table under this parameterization, derived when it is first asked for: its rows grow as the depth squared."""
        return self.table() if self.table else None

    def __str__(self) -> str:
        from scalecalc.report.solution import to_terminal

        return to_terminal(self, width=120)
