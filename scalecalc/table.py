"""The one record that every command prints and every report reads.

A :class:`Table` is a tuple of :class:`Row`, each one exponent claim: derived, perhaps measured, perhaps judged.
Nothing here computes; ``derive`` and ``measure`` fill it, ``report`` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scalecalc.errors import InputError, UnknownRow
from scalecalc.scale import Regime, Scale

if TYPE_CHECKING:
    from pathlib import Path

    import pandas

    from scalecalc.explain import Explanation
    from scalecalc.term import Term

KINDS = ("weight", "init", "gradient", "update", "alignment")
ORDER = ("init", "weight", "alignment", "gradient", "update")  # what a name alone is taken to mean


@dataclass(frozen=True)
class Slope:
    """A measured exponent in one dim with its simultaneous confidence interval."""

    slope: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """What was measured at one width setting: over independent seeds, the mean of the natural log of the size, its standard
    error, and how many seeds there were.
    """

    widths: Mapping[str, int]
    log: float
    error: float
    seeds: int


@dataclass(frozen=True)
class Grounds:
    """What a row was read off: terms that carry their derivation.

    Args:
        terms: one leading term per leading size.
        labels: the growing axes of the tensor that they are terms of.
        over: for an alignment, the growing axes of the sum.
        sides: for an alignment, both factors of the summand by name.
    """

    terms: tuple[Term, ...]
    labels: tuple[str, ...]
    over: tuple[str, ...] = ()
    sides: tuple[tuple[str, Grounds], ...] = ()


@dataclass(frozen=True)
class Row:
    """One claim: the size of one tensor (or one sum's alignment), at one step, for one tag.

    Args:
        row: the tensor's name; for an alignment the sum's name, for a gradient the tensor that it is the gradient of.
        kind: ``weight`` (a weight at initialisation), ``init``, ``gradient``, ``update`` or ``alignment``.
        step: 0 for initialisation, k after (or, for a gradient, during) the k-th optimizer step.
        tag: the weights whose own updates make this contribution: of an update always, of a gradient or an alignment
            where it is what those gain from a weight that has moved.
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
        derivation: the terms behind the row; None for a row that was read from a file.
        commutes: whether the dims may go to infinity in any order with the same leading term; None where there is one
            dim only, or none grows.
        points: what the slopes were fitted to, a point per width setting.
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
    points: tuple[Point, ...] = ()
    derivation: Grounds | None = field(default=None, compare=False, repr=False)

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

    def with_measurement(
        self, measured: Mapping[str, Slope], verdict: str, settle: str = "", points: Sequence[Point] = ()
    ) -> Row:
        return replace(self, measured=dict(measured), verdict=verdict, settle=settle, points=tuple(points))


@dataclass(frozen=True)
class WeightScaling:
    """One weight's line in a parameterization table: exponents of its initial entries, multiplier and rate.

    ``weight_decay`` and ``epsilon``: those of the optimizer's weight decay and ε for this weight, as the optimizer takes
    them; None where it has none, or none was given.  ``zero``: its initial entries are exactly zero, and ``init`` is no size.
    """

    init: Scale
    multiplier: Scale
    lr: Scale
    role: str = ""
    weight_decay: Scale | None = None
    epsilon: Scale | None = None
    zero: bool = False

    def given(self) -> dict[str, Scale]:
        """What there is of it, by name: init, multiplier, lr, and weight_decay and epsilon where they are given."""
        every = {"init": self.init, "multiplier": self.multiplier, "lr": self.lr}
        more = {"weight_decay": self.weight_decay, "epsilon": self.epsilon}
        return {**every, **{name: scale for name, scale in more.items() if scale is not None}}


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

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[str, str] | tuple[str, str, str] | str) -> Row:
        """``table["y", "init"]``, ``table["y", "update", "W_B"]``; a lone name is its init row.

        A tag of several weights is written with plus signs, in any order: ``"W_in+W_in"``, ``"W_out+W_B"``.

        Raises:
            UnknownName: no such row.
        """
        name, kind, *tag = (key, "init") if isinstance(key, str) else key
        return self._rows(name, kind, tag[0] if tag else None, None)[0]

    def find(self, row: str, kind: str | None = None, tag: str | None = None, step: int | None = None) -> Row:
        """The one row that is meant; without a kind the update, if a tag is given, else the first kind that has it.

        Raises:
            UnknownName: no such row; the message has those of similar names.
            InputError: several rows are meant (updates by several weights, or of several steps).
        """
        found = self._rows(row, kind or ("update" if tag else None), tag, step)
        found = [other for other in found if other.kind == found[0].kind]
        if len(found) > 1:
            tags = list(dict.fromkeys("+".join(other.tag) for other in found))
            missing = f"tag ({', '.join(tags)})" if len(tags) > 1 else f"step ({', '.join(str(o.step) for o in found)})"
            raise InputError(f"{row} has {len(found)} {found[0].kind} rows; say which {missing}.")
        return found[0]

    def _rows(self, name: str, kind: str | None, tag: str | None, step: int | None) -> list[Row]:
        """The rows of this name, by kind; never none."""
        wanted = None if tag is None else sorted(part.strip() for part in tag.split("+"))
        found = [
            row
            for row in self.rows
            if _plain(row.row) == _plain(name)
            and kind in (None, row.kind)
            and (wanted is None or sorted(row.tag) == wanted)
            and step in (None, row.step)
        ]
        if not found:
            which = " ".join(filter(None, (kind, f"by {tag}" if tag else "")))
            asked = ", ".join(filter(None, (name, which, f"step {step}" if step is not None else "")))
            raise UnknownRow(asked, name, {row.label: row.row for row in self.rows})
        return sorted(found, key=lambda row: ORDER.index(row.kind) if row.kind in ORDER else len(ORDER))

    def explain(
        self, row: str, kind: str | None = None, tag: str | None = None, step: int | None = None
    ) -> Explanation:
        """The derivation of one entry, rule by rule; printing it shows it (see also its ``to_markdown``, ``to_json``).

        Args:
            row, kind, tag, step: which entry, see :meth:`find`: ``explain("y", tag="W_B")``, ``explain("W_B", "gradient")``.

        Raises:
            UnknownName, InputError: no such row, or several.
            InputError: the row was read from a file, which keeps no derivation.
        """
        from scalecalc.explain import explain

        return explain(self, self.find(row, kind, tag, step))

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

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from scalecalc.report.site import fragment

        return fragment(self)

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

    def to_latex(self, path: str | Path | None = None, standalone: bool = False) -> str:
        r"""As booktabs tables: a fragment to ``\input`` (its preamble needs ``\usepackage{booktabs}``), or a whole document.

        Raises:
            InputError: the file cannot be written.
        """
        from scalecalc.report.latex import to_latex
        from scalecalc.report.output import write

        return write(to_latex(self, standalone=standalone), path)

    def to_json(self, path: str | Path | None = None) -> str:
        from scalecalc.report.json import to_json
        from scalecalc.report.output import write

        return write(to_json(self), path)


def _plain(name: str) -> str:
    """A row's name as it may be typed: the angles of a sum's name are hard to type, and its blanks say nothing."""
    return "".join(character for character in name if character not in "⟨⟩<> ")
