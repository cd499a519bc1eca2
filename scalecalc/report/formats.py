"""The formats a Table can be asked for in, by name; a new printer is one line here.

>>> format_for("rows.csv"), format_for("rows"), format_for(None)
('csv', 'table', 'table')
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scalecalc.errors import UnknownName
from scalecalc.table import Table

FORMATS = ("table", "csv", "markdown", "json", "latex")
_SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".markdown": "markdown", ".tex": "latex"}


def format_for(path: str | Path | None) -> str:
    """The format that a file's name asks for; a table for a person if it asks for none."""
    return _SUFFIXES.get(Path(path).suffix.lower(), "table") if path is not None else "table"


def choose(format: str, printers: Mapping[str, Callable[[], str]]) -> str:
    """What the printer of a format prints; a thing has a printer for each of :data:`FORMATS`.

    Raises:
        UnknownName: no such format.
    """
    if format not in printers:
        raise UnknownName("format", format, FORMATS)
    return printers[format]()


def to_csv(columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    """Records below a line of columns; None is an empty cell.

    A name that a spreadsheet would take for a formula gets an apostrophe in front, which :func:`unguarded` takes away.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: guarded(value) for key, value in record.items()} for record in records)
    return buffer.getvalue()


_FORMULA = re.compile(r"[=+\-@\t\r']")
_NUMBER = re.compile(r"[+-]?\d+(/\d+)?")


def guarded(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay as they are.

    >>> guarded("=1+1"), guarded("-1/2"), guarded("'tis"), guarded("y"), unguarded(guarded("@x"))
    ("'=1+1", '-1/2', "''tis", 'y', '@x')
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def unguarded(value: str) -> str:
    """The inverse of :func:`guarded`."""
    return value[1:] if value[:1] == "'" and _FORMULA.match(value[1:]) else value


def render(table: Table, format: str, *, width: int = 80, color: bool = False) -> str:
    """The table in one of :data:`FORMATS`; width and colour are for a person's table only.

    Raises:
        UnknownName: no such format.
    """
    from scalecalc.report.terminal import to_terminal

    return choose(format, {
        "table": lambda: to_terminal(table, width=width, color=color),
        "csv": table.to_csv, "markdown": table.to_markdown, "json": table.to_json, "latex": table.to_latex,
    })  # fmt: skip
