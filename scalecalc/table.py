"""The one record that every command prints and every report reads.

A :class:`Table` is a tuple of :class:`Row`, each one exponent claim: derived, perhaps measured, perhaps judged.
Nothing here computes; ``derive`` and ``measure`` fill it, ``report`` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scalecalc.errors import UnknownName
from scalecalc.scale import Regime, Scale

if TYPE_CHECKING:
    from pathlib import Path

    import pandas

KINDS = ("weight", "init", "gradient", "update", "alignment")


@dataclass(frozen=True)
class Slope:
    """A measured exponent in one dim with its simultaneous confidence interval."""

    slope: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One claim: the size of one tensor (or one sum's alignment), at one step, for one tag.

    Args:
        row: the tensor's name; for an alignment the sum's name, for a gradient the tensor that it is the gradient of.
        kind: ``weight`` (a weight at initialisation), ``init``, ``gradient``, ``update`` or ``alignment``.
        step: 0 for initialisation, k after (or, for a gradient, during) the k-th optimizer step.
        tag: the weights whose own updates make this contribution; empty unless ``kind`` is ``update``.
        statistic: ``entry`` (at small index), ``rms`` over all entries, ``norm``, or ``cosine`` (alignments).
        terms: the derived scales that no other exceeds in the regime asked for; one where a term dominates, none if
            the quantity is exactly zero.
        klass: stable, vanishing, exploding (init, gradient, weight, alignment), lazy, learning, exploding (update).
        entry: the scales of an entry at small index, where they differ from the statistic's.
        profile: in words, how entries fall along each axis; empty if all are alike.
        subleading: smaller terms that the derivation knows of, largest first: corrections to scaling for the fit.
        why: the last step of the derivation in words, with the assumptions it rests on.
        measured: per dim, slope and interval, once measured.
        verdict: agrees, disagrees or inconclusive, once judged.
        settle: what would settle an inconclusive row, or by what a disagreeing row misses.
        commutes: whether the dims may go to infinity in any order with the same leading term; None where there is one
            dim only, or none grows.
    """

    row: str
    kind: str
    step: int
    terms: tuple[Scale, ...]
    tag: tuple[str, ...] = ()
    statistic: str = "rms"
    klass: str = ""
    entry: tuple[Scale, ...] = ()
    profile: str = ""
    subleading: tuple[Scale, ...] = ()
    why: str = ""
    assumptions: tuple[str, ...] = ()
    measured: Mapping[str, Slope] | None = None
    verdict: str | None = None
    settle: str = ""
    commutes: bool | None = None
    derivation: Any = field(default=None, compare=False, repr=False)

    @property
    def theta(self) -> Scale | None:
        """The one dominating scale, or None if several stand (or none: an exact zero)."""
        return self.terms[0] if len(self.terms) == 1 else None

    @property
    def key(self) -> tuple[str, str, int, tuple[str, ...]]:
        """What identifies a row within a table."""
        return (self.row, self.kind, self.step, self.tag)

    @property
    def label(self) -> str:
        """The row in words, for messages: ``y, update by W_B, step 1``."""
        tag = f" by {'+'.join(self.tag)}" if self.tag else ""
        return f"{self.row}, {self.kind}{tag}" + (f", step {self.step}" if self.step else "")

    def formula(self) -> str:
        """The size as text: ``N_x^(-1/2)``, ``max(1, N_x N_u^(-1))`` or ``0``."""
        if not self.terms:
            return "0"
        return str(self.terms[0]) if len(self.terms) == 1 else f"max({', '.join(str(t) for t in self.terms)})"

    def with_measurement(self, measured: Mapping[str, Slope], verdict: str, settle: str = "") -> Row:
        return replace(self, measured=dict(measured), verdict=verdict, settle=settle)


@dataclass(frozen=True)
class WeightScaling:
    """One weight's line in a parameterization table: exponents of its initial entries, multiplier and rate."""

    init: Scale
    multiplier: Scale
    lr: Scale
    role: str = ""


@dataclass(frozen=True)
class Table:
    """All rows of one model under one parameterization and optimizer, in the order of the program."""

    model: str
    rows: tuple[Row, ...]
    dims: tuple[str, ...]
    command: str = "derive"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    parameterization: Mapping[str, WeightScaling] = field(default_factory=dict[str, WeightScaling])
    parameterization_name: str = ""
    optimizer: str = "sgd"
    regime: Regime = Regime()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    equations: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[str, str] | tuple[str, str, str] | str) -> Row:
        """``table["y", "init"]``, ``table["y", "update", "W_B"]``; a lone name is its init row.

        Raises:
            UnknownName: no such row.
        """
        name, kind, tag = (key, "init", None) if isinstance(key, str) else (*key, None)[:3]
        for row in self.rows:
            if row.row == name and row.kind == kind and (tag is None or row.tag == (tag,)):
                return row
        raise UnknownName("row", " ".join(filter(None, (name, kind, tag))), {r.label for r in self.rows})

    def counts(self) -> dict[str, int]:
        """How many rows got which verdict."""
        out = {"agrees": 0, "disagrees": 0, "inconclusive": 0}
        for row in self.rows:
            if row.verdict is not None:
                out[row.verdict] += 1
        return out

    @property
    def exit_status(self) -> int:
        """0, or 1 if some row disagrees (interface: exit status)."""
        return 1 if self.counts()["disagrees"] else 0

    def to_pandas(self) -> pandas.DataFrame:
        from scalecalc.report.frame import to_frame

        return to_frame(self)

    def to_csv(self, path: str | Path | None = None) -> str:
        from scalecalc.report.frame import to_csv
        from scalecalc.report.output import write

        return write(to_csv(self), path)

    def to_markdown(self, path: str | Path | None = None) -> str:
        from scalecalc.report.markdown import to_markdown
        from scalecalc.report.output import write

        return write(to_markdown(self), path)

    def to_json(self, path: str | Path | None = None) -> str:
        from scalecalc.report.json import to_json
        from scalecalc.report.output import write

        return write(to_json(self), path)
