"""All that is said about one model under one parameterization: what ``scalecalc report`` writes.

A dossier is made here and printed by :mod:`scalecalc.report.folder`: the table, derived or measured; the forward pass as a
diagram; the derivation as one document; and how it was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalecalc._version import __version__
from scalecalc.errors import InputError
from scalecalc.table import Row, Table

if TYPE_CHECKING:
    from scalecalc.compare import Comparison
    from scalecalc.flow import Flow
    from scalecalc.model import TorchModule
    from scalecalc.proof import Proof

SOLVED = "solved"  # in place of a parameterization's name: the one that solve finds
MEASURING = ("seeds", "budget", "tolerance", "device", "dtype", "seed")


@dataclass(frozen=True)
class Made:
    """How a report was made; every file opens with it.

    Args:
        command: as one would type it.
        version: of scalecalc.
        seed: of everything random; None where nothing was measured.
        measured: when it was measured, as YYYY-MM-DD; empty where nothing was.
        by: by which command it was measured, where that was another one.
    """

    command: str = ""
    version: str = __version__
    seed: int | None = None
    measured: str = ""
    by: str = ""

    def line(self) -> str:
        """One line, for the head of a file."""
        return ", ".join(filter(None, (self.command, f"scalecalc {self.version}", self.seeds, self.when)))

    @property
    def seeds(self) -> str:
        return "nothing random" if self.seed is None else f"seed {self.seed}"

    @property
    def when(self) -> str:
        return f"measured {self.measured}{f' by {self.by}' if self.by else ''}" if self.measured else ""


@dataclass(frozen=True)
class Dossier:
    """One model under one parameterization.

    ``flow`` and ``proof`` are None for a table that was read from a file; ``stopped``: measuring was interrupted.
    """

    table: Table
    made: Made = Made()
    flow: Flow | None = None
    proof: Proof | None = None
    stopped: bool = False


@dataclass(frozen=True)
class Collection:
    """One model under several parameterizations, by their names."""

    comparison: Comparison
    dossiers: Mapping[str, Dossier]
    made: Made = field(default_factory=Made)


def dossier(
    model: str | TorchModule,
    *,
    parameterization: Any = None,
    optimizer: str | None = None,
    measure: bool = False,
    measuring: Mapping[str, Any] | None = None,
    measured: str | Path | None = None,
    made: Made | None = None,
    steps: int = 1,
    regime: str = "free",
    **asked: Any,
) -> Dossier:
    """Derive a model, and measure it if asked; with its diagram and its proof.

    Args:
        parameterization: as for :func:`scalecalc.derive`, or ``solved`` (with all dims in proportion, if no regime is given).
        measure: whether to; ``measuring`` are then arguments of :func:`scalecalc.verify`: budget, dims, seeds, seed.
        measured: a JSON file with what was measured before, of the same table.
        asked: what else :func:`scalecalc.derive` takes.

    Raises:
        ScalecalcError: as :func:`scalecalc.derive`, :func:`scalecalc.solve` and :func:`scalecalc.verify`.
        InputError: ``measured`` is no such file, or of another table.
    """
    from scalecalc.derive import interpret, resolve, table_of
    from scalecalc.flow import flow_of
    from scalecalc.proof import equations_of, proof_of
    from scalecalc.scale import Regime

    if parameterization == SOLVED:
        from scalecalc.solve import solve

        if not isinstance(model, str):
            raise InputError("a torch module in a variable cannot be solved for; put its factory into a file: file.py:name.")
        along = {} if regime == "free" else {"regime": regime}  # else its own usual one, all dims in proportion
        parameterization = solve(model, optimizer=optimizer, **along, **asked)
    how = {"parameterization": parameterization, "optimizer": optimizer, "regime": regime}
    taken = {k: v for k, v in asked.items() if k != "alignment"}
    found = resolve(model, **how, **{k: v for k, v in asked.items() if k in ("loss", "fix", "alignment")},
                    options={k: v for k, v in asked.items() if k not in ("loss", "fix", "alignment")})  # fmt: skip
    derivation = interpret(found, Regime.parse(regime, found.program.dims), steps=steps)
    table = replace(table_of(derivation), command="report")
    flow, proof, stopped = flow_of(derivation), proof_of(table, equations_of(found.program)), False
    made = made or Made()
    if measure:
        from scalecalc.measure.verify import Interrupted, verify

        try:
            table = verify(model, steps=steps, **how, **taken, **(measuring or {}))
        except Interrupted as stop:
            table, stopped = stop.table, True
        table = replace(table, command="report")
    elif measured is not None:
        table, before = _joined(table, measured)
        made = replace(made, seed=before.seed, measured=before.measured, by=before.by or before.command)
    return Dossier(table, made, flow, proof, stopped)


def _joined(table: Table, file: str | Path) -> tuple[Table, Made]:
    """The table with what a file says was measured; and how that was made."""
    from scalecalc.report.json import read_json

    try:
        text = Path(file).read_text(encoding="utf-8")
        old = read_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(file)!r} cannot be read: {error}.") from error
    for what in ("model", "parameterization_name", "optimizer", "dims"):
        if getattr(old, what) != getattr(table, what):
            raise InputError(
                f"{str(file)!r} is of another table: its {what.partition('_')[0]} is {getattr(old, what)!r}, "
                f"here it is {getattr(table, what)!r}."
            )
    known = {row.key: row for row in old}
    rows: list[Row] = []
    for row in table:
        before = known.get(row.key)
        if before is not None and before.verdict is not None:
            if before.terms != row.terms:
                raise InputError(
                    f"{row.label} was Θ({before.formula()}) when {str(file)!r} was measured, and is Θ({row.formula()}) now; "
                    "measure again."
                )
            row = row.with_measurement(before.measured or {}, before.verdict, before.settle, before.points)
        rows.append(row)
    about: dict[str, Any] = json.loads(text).get("made") or {"seed": old.options.get("seed"), "measured": ""}
    done = replace(table, rows=tuple(rows), options={**old.options, **table.options}, notes=old.notes, seconds=old.seconds)
    return done, Made(about.get("command", ""), seed=about["seed"], measured=about["measured"], by=about.get("by", ""))


def made(command: str, seed: int | None = None) -> Made:
    """By a command now; with a seed if it measures."""
    return Made(command, seed=seed, measured="" if seed is None else date.today().isoformat())


def collection(dossiers: Mapping[str, Dossier], made: Made) -> Collection:
    """Several dossiers of one model, with their tables side by side."""
    from scalecalc.compare import Comparison

    tables = {name: one.table for name, one in dossiers.items()}
    return Collection(Comparison(next(iter(tables.values())).model, tables), dossiers, made)


def names(parameterizations: Sequence[str]) -> list[str]:
    """What they are called: see :func:`scalecalc.compare.titles`."""
    from scalecalc.compare import titles

    return titles(parameterizations)
