"""A Table as tidy data: one line per exponent, for CSV and pandas.

A line is the exponent of one dim in one term of one row, with the row's measured slope in that dim beside it.  Every
term has a line for every dim, so ``frame[frame.dim == "N_u"]`` misses nothing; a quantity that is exactly zero has
lines without a term, and a table without dims has lines without a dim.  ``of`` says what the exponent belongs to: the
row's size (``theta``), an entry at small index where that differs (``entry``), smaller terms (``subleading``), or, in
lines of the kind ``parameterization``, a weight's ``init``, ``multiplier``, ``lr``, ``weight_decay`` or ``epsilon``.

CSV is exact: rationals as ``p/q``, floats so that they read back bit for bit, ``nan`` and ``inf`` for what diverged,
empty for what was not measured.  The CSV of a report begins with lines of the kind ``table``: what holds of the whole table,
by name (``row``) and value (``why``).  :func:`read_csv` is then the inverse of :func:`to_csv`, but for the points that slopes
were fitted to, which the JSON has; :func:`from_csv` reads the rows alone.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from scalecalc.errors import InputError
from scalecalc.report import formats
from scalecalc.scale import Regime, Scale, fraction
from scalecalc.table import Row, Slope, Table, WeightScaling

if TYPE_CHECKING:
    import pandas

    from scalecalc.dossier import Made

ROW_COLUMNS = ("index", "row", "kind", "step", "tag", "statistic")
EXPONENT_COLUMNS = ("of", "term", "dim", "power", "log_power")
RESULT_COLUMNS = ("class", "slope", "low", "high", "verdict", "settle", "profile", "why", "assumptions", "commutes")
TABLE_COLUMNS = ("model", "parameterization", "optimizer", "regime")
COLUMNS = ROW_COLUMNS + EXPONENT_COLUMNS + RESULT_COLUMNS + TABLE_COLUMNS


def to_frame(table: Table) -> pandas.DataFrame:
    """The table as a pandas frame: exponents are exact ``Fraction`` objects (``astype(float)`` works), slopes floats."""
    import pandas

    lines = list(_lines(table))
    frame = pandas.DataFrame(lines, columns=list(COLUMNS))
    for column in ("power", "log_power"):
        exact = [None if line[column] is None else fraction(line[column]) for line in lines]
        frame[column] = pandas.Series(exact, dtype=object)
    return frame.astype(dict.fromkeys(("slope", "low", "high"), float))


def to_csv(table: Table, made: Made | None = None) -> str:
    """The table as CSV; with how it was ``made``, as a report has it."""
    return formats.to_csv(COLUMNS, [*(_head(table, made) if made is not None else ()), *_lines(table)])


def _head(table: Table, made: Made) -> Iterator[dict[str, Any]]:
    """What holds of the whole table, a line each; how it was made comes first."""
    from scalecalc.report.json import plain

    about = {
        "made by": made.command, "version": made.version, "seed": "" if made.seed is None else str(made.seed),
        "measured": made.measured, "command": table.command, "seconds": repr(table.seconds),
        "dims": json.dumps(table.dims), "options": json.dumps(plain(table.options), ensure_ascii=False),
        "notes": json.dumps(table.notes, ensure_ascii=False),
    }  # fmt: skip
    for key, value in about.items():
        yield {"row": key, "kind": "table", "step": 0, "why": value, **_common(table)}


def read_csv(text: str) -> Table:
    """The table that :func:`to_csv` wrote: all of it but the points, if it is a report's, else what its columns say.

    Raises:
        InputError: the text is no such CSV.
    """
    rows = from_csv(text)
    lines = [_unguarded(line) for line in csv.DictReader(io.StringIO(text, newline=""))]
    about = {line["row"]: line["why"] for line in lines if line["kind"] == "table"}
    exponents = [line for line in lines if line["kind"] != "table"]
    last = lines[-1] if lines else dict.fromkeys(COLUMNS, "")
    weights: dict[str, dict[str, Any]] = {}
    for line in exponents:
        if line["kind"] == "parameterization":
            own = weights.setdefault(line["row"], {"role": line["class"]})
            powers, logs = own.setdefault(line["of"], ({}, {}))
            if line["dim"]:
                powers[line["dim"]], logs[line["dim"]] = line["power"], line["log_power"]
    try:
        named = dict.fromkeys(line["dim"] for line in exponents if line["dim"])
        dims = tuple(json.loads(about["dims"])) if "dims" in about else tuple(named)
        return Table(
            model=last["model"],
            rows=tuple(rows),
            dims=dims,
            command=about.get("command", "derive"),
            options=json.loads(about.get("options", "{}")),
            parameterization={w: _scaling(own) for w, own in weights.items()},
            parameterization_name=last["parameterization"],
            optimizer=last["optimizer"],
            regime=Regime.parse(last["regime"] or "free", dims),
            seconds=float(about.get("seconds", 0)),
            notes=tuple(json.loads(about.get("notes", "[]"))),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"this CSV does not read as a table: {error}") from error


def _scaling(own: Mapping[str, Any]) -> WeightScaling:
    return WeightScaling(role=own["role"], **{of: Scale.from_strings(*s) for of, s in own.items() if of != "role"})


def _unguarded(line: Mapping[str, str]) -> dict[str, str]:
    return {key: formats.unguarded(value) for key, value in line.items()}


def from_csv(text: str) -> list[Row]:
    """The rows that :func:`to_csv` wrote.

    Raises:
        InputError: the text is no such CSV; the message names the line.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise InputError(f"this is no table of scalecalc's: the columns {', '.join(sorted(missing))} are missing.")
    try:
        lines = [_unguarded(line) for line in reader if line["kind"] not in ("parameterization", "table")]
        return [_read(list(group)) for _, group in groupby(lines, key=lambda line: line["index"])]
    except (ValueError, TypeError, AttributeError, csv.Error, InputError) as error:
        raise InputError(f"line {reader.line_num} or before of the CSV does not read as a row: {error}") from error


def _lines(table: Table) -> Iterator[Mapping[str, Any]]:
    common = _common(table)
    blank = dict.fromkeys(COLUMNS)
    for name, scaling in table.parameterization.items():
        for of, scale in scaling.given().items():
            row = {"row": name, "kind": "parameterization", "of": of, "step": 0, "class": scaling.role}
            for exponent in _exponents((scale,), (*table.dims, *sorted(scale.dims - set(table.dims)))):
                yield {**blank, **row, **exponent, **common}
    for index, row in enumerate(table):
        measured = row.measured or {}
        about = {
            "index": index,
            "row": row.row,
            "kind": row.kind,
            "step": row.step,
            "tag": "+".join(row.tag),
            "statistic": row.statistic,
            "class": row.klass,
            "verdict": row.verdict,
            "settle": row.settle,
            "profile": row.profile,
            "why": row.why,
            "assumptions": json.dumps(row.assumptions, ensure_ascii=False) if row.assumptions else "",
            "commutes": {True: "yes", False: "no", None: ""}[row.commutes],
        }
        used = {dim for scale in row.terms + row.entry + row.subleading for dim in scale.dims} | set(measured)
        dims = (*table.dims, *sorted(used - set(table.dims)))
        for of, scales in (("theta", row.terms), ("entry", row.entry), ("subleading", row.subleading)):
            if of != "theta" and not scales:
                continue
            for exponent in _exponents(scales, dims):
                slope = measured.get(exponent["dim"])
                found = {"slope": slope.slope, "low": slope.low, "high": slope.high} if slope else {}
                yield {**blank, **about, "of": of, **exponent, **found, **common}


def _common(table: Table) -> dict[str, str]:
    """What every line has."""
    return {
        "model": table.model,
        "parameterization": table.parameterization_name,
        "optimizer": table.optimizer,
        "regime": table.regime.text,
    }


def _exponents(scales: tuple[Scale, ...], dims: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for term, scale in enumerate(scales) if scales else [(None, None)]:
        for dim in dims or ("",):
            power, log_power = (None, None) if scale is None else (str(scale.power(dim)), str(scale.log_power(dim)))
            yield {"term": term, "dim": dim, "power": power, "log_power": log_power}


def _read(lines: list[dict[str, str]]) -> Row:
    first = lines[0]
    scales: dict[tuple[str, int], tuple[dict[str, str], dict[str, str]]] = {}
    measured: dict[str, Slope] = {}
    for line in lines:
        if line["term"]:
            powers, logs = scales.setdefault((line["of"], int(line["term"])), ({}, {}))
            if line["dim"]:
                powers[line["dim"]], logs[line["dim"]] = line["power"], line["log_power"]
        if line["slope"]:
            measured[line["dim"]] = Slope(float(line["slope"]), float(line["low"]), float(line["high"]))
    return Row(
        row=first["row"],
        kind=first["kind"],
        step=int(first["step"]),
        terms=tuple(Scale.from_strings(*scale) for (of, _), scale in scales.items() if of == "theta"),
        tag=tuple(first["tag"].split("+")) if first["tag"] else (),
        statistic=first["statistic"],
        klass=first["class"],
        entry=tuple(Scale.from_strings(*scale) for (of, _), scale in scales.items() if of == "entry"),
        profile=first["profile"],
        why=first["why"],
        assumptions=tuple(json.loads(first["assumptions"])) if first["assumptions"] else (),
        measured=measured if measured or first["verdict"] else None,
        verdict=first["verdict"] or None,
        settle=first["settle"],
        subleading=tuple(Scale.from_strings(*scale) for (of, _), scale in scales.items() if of == "subleading"),
        commutes={"yes": True, "no": False}.get(first["commutes"]),
    )
