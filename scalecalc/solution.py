"""What a solve returns: a parameterization that knows why it is what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from scalecalc.parameterization import Parameterization
from scalecalc.pieces import Piece
from scalecalc.scale import Regime, Scale
from scalecalc.sectors import Sector
from scalecalc.table import Table

if TYPE_CHECKING:
    from scalecalc.symmetry import Shift


@dataclass(frozen=True)
class Bound:
    """What a weight's init or rate cannot pass.

    Args:
        quantity: ``init``, ``lr``, ``weight_decay`` or ``epsilon``.
        value: what it is.
        rows: the rows that bind it, in words; none where nothing does.
        ties: other rows, each of which alone would hold it at the same value.
    """

    weight: str
    quantity: str
    value: Scale
    rows: tuple[str, ...]
    ties: tuple[str, ...] = ()


NAMES = {"multiplier": "multiplier", "init": "init", "lr": "rate", "weight_decay": "weight decay", "epsilon": "ε"}


@dataclass(frozen=True)
class Equivalence:
    """How two parameterizations of one model differ; true if only by gauge.

    Args:
        own: per weight the θ that takes the first one's multiplier to the second's, where that is not one.
        shared: shifts over several weights, each with its θ.
        differs: weight → quantity → (the first one's scale, the second's), in the gauge in which multipliers are one;
            empty if they are equivalent.
    """

    own: Mapping[str, Scale] = field(default_factory=dict[str, Scale])
    shared: tuple[tuple[Shift, Scale], ...] = ()
    differs: Mapping[str, Mapping[str, tuple[Scale, Scale]]] = field(
        default_factory=dict[str, Mapping[str, tuple[Scale, Scale]]]
    )

    def __bool__(self) -> bool:
        return not self.differs

    @property
    def exact(self) -> bool:
        """Are they the same as written, gauge and all?"""
        return not (self.own or self.shared or self.differs)

    @property
    def count(self) -> int:
        """How many quantities differ."""
        return sum(map(len, self.differs.values()))

    def __str__(self) -> str:
        parts = [f"{w}: multiplier · {theta}" for w, theta in self.own.items()]
        parts += [f"{shift}, with θ = {theta}" for shift, theta in self.shared]
        for w, own in self.differs.items():
            parts += [f"{w}: {NAMES[q]} {a}, there {b}" for q, (a, b) in own.items()]
        return "; ".join(parts) or "the same"


@dataclass(frozen=True)
class Match:
    """A registered parameterization that a solution is, or nearly is.

    ``along``: the path on which they agree, where they are not the same monomials.
    """

    name: str
    source: str
    found: Equivalence
    along: str = ""


@dataclass(frozen=True, eq=False)
class Solution(Parameterization):
    """A solved parameterization: the exponents, those of the long run, with what binds each and what each weight does.

    Args:
        model: the model as it was asked for.
        regime: how the dims were taken to grow against each other.
        first: the same, if only the first step had to be stable; equal to this one where that makes no difference.
        bounds: per weight and quantity, what binds it.
        fates: per weight ``learning`` (the first feature it reaches moves by Θ(1), or by as much as it is large), ``learning
            further on`` (a later one does), ``lazy`` (none does) or ``idle`` (nothing depends on it).
        excess: features that the requirements keep above order one, and by how much.
        group: the shifts over several weights that leave output and training alone.
        matches: the registered parameterizations that this is, or else the one that it nearly is.
        first_matches: the same for ``first``, if its rates are others.
        pieces: exponents that depend on the growth ratio ρ (N_x = N_u^ρ), by pieces; with more dims by sectors of paths.
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
    matches: tuple[Match, ...] = ()
    first_matches: tuple[Match, ...] = ()
    pieces: Mapping[tuple[str, str], Sequence[Piece | Sector]] = field(
        default_factory=dict[tuple[str, str], "Sequence[Piece | Sector]"]
    )
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
