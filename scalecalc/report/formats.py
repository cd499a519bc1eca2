"""The formats a Table can be asked for in, by name; a new printer is one line here.

>>> format_for("rows.csv"), format_for("rows"), format_for(None)
('csv', 'table', 'table')
"""

from __future__ import annotations

from pathlib import Path

from scalecalc.errors import UnknownName
from scalecalc.table import Table

FORMATS = ("table", "csv", "markdown", "json", "latex")
_SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".markdown": "markdown", ".tex": "latex"}


def format_for(path: str | Path | None) -> str:
    """The format that a file's name asks for; a table for a person if it asks for none."""
    return _SUFFIXES.get(Path(path).suffix.lower(), "table") if path is not None else "table"


def render(table: Table, format: str, *, width: int = 80, color: bool = False) -> str:
    """The table in one of :data:`FORMATS`; width and colour are for a person's table only.

    Raises:
        UnknownName: no such format.
    """
    match format:
        case "table":
            from scalecalc.report.terminal import to_terminal

            return to_terminal(table, width=width, color=color)
        case "csv":
            from scalecalc.report.frame import to_csv

            return to_csv(table)
        case "markdown":
            from scalecalc.report.markdown import to_markdown

            return to_markdown(table)
        case "json":
            from scalecalc.report.json import to_json

            return to_json(table)
        case "latex":
            from scalecalc.report.latex import to_latex

            return to_latex(table)
        case _:
            raise UnknownName("format", format, FORMATS)
