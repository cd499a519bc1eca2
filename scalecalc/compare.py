"""Parameterizations side by side: the same model derived under each, and what becomes of every feature.

A feature *learns* if some weight's update moves it by Θ(1), or by as much as it is large, and none by more; it *explodes*
if some update does; it is *lazy* if none moves it.  These are the classes of the update rows (see README.md), taken
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalecalc.errors import InputError
from scalecalc.request import is_file
from scalecalc.table import Row, Table

if TYPE_CHECKING:
    import pandas

Key = tuple[str, str, int, tuple[str, ...]]


@dataclass(frozen=True)
class Fate:
    """What one parameterization does to the features, in the order of the program.

    Args:
        learns, lazy, explodes: the features by what the updates do to them; each is in one of the three.
        by: the weights whose updates make them explode; ``W_in+W_in`` where only its second order does.
        grows, shrinks: the features whose initial size does.
        unsettled: those of the first two of which later steps say more that did not settle.
    """

    learns: tuple[str, ...]
    lazy: tuple[str, ...]
    explodes: tuple[str, ...]
    by: tuple[str, ...]
    grows: tuple[str, ...]
    shrinks: tuple[str, ...]
    unsettled: tuple[str, ...] = ()

    @staticmethod
    def of(table: Table) -> Fate:
        updates: dict[str, list[Row]] = {}
        for row in table:
            if row.kind == "update":
                updates.setdefault(row.row, []).append(row)
        found: dict[str, list[str]] = {"learning": [], "lazy": [], "exploding": []}
        for name, rows in updates.items():
            classes = {row.klass for row in rows}
            found[next((k for k in ("exploding", "learning") if k in classes), "lazy")].append(name)
        weights = list(table.parameterization)
        bad = {r.tag for rows in updates.values() for r in rows if r.klass == "exploding"}
        tags = sorted(bad, key=lambda tag: (len(tag), [weights.index(w) if w in weights else len(weights) for w in tag]))
        initial = {k: tuple(r.row for r in table if r.kind == "init" and r.klass == k) for k in ("exploding", "vanishing")}
        return Fate(
            tuple(found["learning"]),
            tuple(found["lazy"]),
            tuple(found["exploding"]),
            tuple("+".join(tag) for tag in tags if not any((weight,) in tags for weight in tag if len(tag) > 1)),
            initial["exploding"],
            initial["vanishing"],
            tuple(k for k in (*found["learning"], *found["lazy"]) if any(r.klass == "unsettled" for r in updates[k])),
        )

    def word(self, feature: str) -> str:
        """``learns``, ``lazy`` or ``explodes``; empty for a feature that no weight moves."""
        return next((k for k in ("learns", "lazy", "explodes") if feature in getattr(self, k)), "")

    def words(self) -> str:
        """One sentence: ``y and f explode, by W_in; every other feature learns; at initialisation B grows``."""
        parts: list[str] = []
        if self.explodes:
            parts.append(f"{_verb(self.explodes, 'explode')}, by {_and(self.by)}")
        if self.lazy:
            parts.append(f"{_verb(self.lazy, 'is lazy', 'are lazy')}")
        if self.learns:
            every = "every other feature learns" if parts else "every feature learns"
            parts.append(every if len(self.learns) > 2 or not parts else _verb(self.learns, "learn"))
        else:
            parts.append("no feature learns")
        if self.unsettled:
            parts.append(f"{_verb(self.unsettled, 'is', 'are')} unsettled in later steps")
        if self.grows:
            parts.append(f"at initialisation {_verb(self.grows, 'grow')}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Comparison:
    """The tables of one model under several parameterizations, by their names.  ``str`` of it is the printed text."""

    model: str
    tables: Mapping[str, Table]

    @property
    def fates(self) -> dict[str, Fate]:
        return {name: Fate.of(table) for name, table in self.tables.items()}

    def keys(self, kind: str) -> list[Key]:
        """The rows of one kind that any of the tables has, in the order of the program.

        Of the rows of second order in an update those are left out whose first order explodes wherever they do.
        """
        out: list[Key] = []
        for table in self.tables.values():
            before = -1
            for key in (row.key for row in table if row.kind == kind):
                if key not in out:
                    out.insert(before + 1, key)
                before = out.index(key)
        return [key for key in out if len(key[3]) < 2 or any(self._adds(name, key) for name in self.tables)]

    def _adds(self, name: str, key: Key) -> bool:
        """Does a row of several weights say more than the rows of each of them?"""
        row = self.row(name, key)
        alone = [self.row(name, (*key[:3], (weight,))) for weight in key[3]]
        return row is not None and not any(first is not None and first.klass == row.klass for first in alone)

    def row(self, name: str, key: Key) -> Row | None:
        """A row of one of the tables; None if it has none (a second order that does not outgrow the first)."""
        return next((row for row in self.tables[name] if row.key == key), None)

    def __str__(self) -> str:
        from scalecalc.report.comparison import to_terminal

        return to_terminal(self, width=100)

    __repr__ = __str__

    def to_pandas(self) -> pandas.DataFrame:
        """The tables' frames, one below the other; the column ``parameterization`` tells them apart."""
        import pandas

        return pandas.concat([table.to_pandas() for table in self.tables.values()], ignore_index=True)

    def to_csv(self, path: str | Path | None = None) -> str:
        return self._write("csv", path)

    def to_markdown(self, path: str | Path | None = None) -> str:
        return self._write("markdown", path)

    def to_json(self, path: str | Path | None = None) -> str:
        return self._write("json", path)

    def to_latex(self, path: str | Path | None = None, standalone: bool = False) -> str:
        """As booktabs tables: a fragment to ``\\input``, or a whole document; see :meth:`Table.to_latex`."""
        from scalecalc.report.comparison import to_latex
        from scalecalc.report.output import write

        return write(to_latex(self, standalone=standalone), path)

    def _write(self, format: str, path: str | Path | None) -> str:
        from scalecalc.report.comparison import render
        from scalecalc.report.output import write

        return write(render(self, format), path)


def compare(model: str, *parameterizations: str, optimizer: str | None = None, **asked: Any) -> Comparison:
    """Derive a model under several parameterizations.

    >>> found = compare("mlp", "mup", "ntp", optimizer="sgd")
    >>> print(found.fates["mup"].words(), "|", found.fates["ntp"].words())
    every feature learns | h1 and h2 are lazy; f learns

    Args:
        model: as for :func:`scalecalc.derive`.
        parameterizations: registered names, or TOML or JSON files.
        optimizer: one for all of them.
        asked: whatever else :func:`scalecalc.derive` takes.

    Raises:
        InputError: no parameterization, or one twice; and what :func:`scalecalc.derive` raises.
    """
    from scalecalc.derive import derive

    if not parameterizations:
        raise InputError("name the parameterizations to compare: compare('s6', 'sp', 'mup').")
    names = titles(parameterizations)
    tables = {
        name: derive(model, parameterization=scheme, optimizer=optimizer, **asked)
        for name, scheme in zip(names, parameterizations, strict=True)
    }
    return Comparison(model, tables)


def titles(parameterizations: Sequence[str]) -> list[str]:
    """What the parameterizations are called in the report: their names; of a file its name without folder and suffix.

    Raises:
        InputError: two of them would have one name.
    """
    names = [Path(scheme).stem if is_file(scheme) else scheme for scheme in parameterizations]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"the parameterization {twice!r} is given twice; files are told apart by their names.")
    return names


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _verb(names: Sequence[str], verb: str, plural: str | None = None) -> str:
    one = len(names) == 1
    return f"{_and(names)} {(verb if plural else verb + 's') if one else (plural or verb)}"
