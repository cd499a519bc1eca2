"""A Table as GitHub-flavoured Markdown: the terminal's sections, sizes as code so that ``_`` and ``^`` survive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from scalecalc.report.layout import Section, heading, sections
from scalecalc.report.summary import details, summary
from scalecalc.table import Table

# An underscore inside a word (N_u) is no emphasis and stays as it is.
_SPECIAL = re.compile(r"[\\`*<\[]|(?<!\w)_|_(?!\w)")
_CODE = {"row", "by", "weight", "init", "multiplier", "rate", "first-step rate", "decay", "ε", "Θ"}


def to_markdown(table: Table) -> str:
    """The whole table as Markdown."""
    parts = [escape(heading(table))]
    for section in sections(table):
        parts += [f"### {escape(section.title)}", draw(section)]
    parts.append(f"**{summary(table)}**")
    listed = [f"- {escape(line)}" for line in (*details(table), *table.notes)]
    parts += ["\n".join(listed)] if listed else []
    return "\n\n".join(parts) + "\n"


def document(title: str, parts: Iterable[Section], closing: Sequence[str], *, titled: bool = True) -> str:
    """A heading, sections (with their titles, if there are several) and a list of what is to be said of them."""
    out = [escape(title)]
    for section in parts:
        out += [f"### {escape(section.title)}", draw(section)] if titled else [draw(section)]
    listed = "\n".join(f"- {escape(line)}" for line in closing if line)
    return "\n\n".join([*out, *([listed] if listed else [])]) + "\n"


def draw(section: Section) -> str:
    """One section as a pipe table."""
    # tabulate rather than DataFrame.to_markdown: the same output without half a second for importing pandas.
    from tabulate import tabulate

    rows = [[_cell(cell, column) for cell, column in zip(row, section.columns, strict=True)] for row in section.rows]
    return tabulate(rows, headers=[escape(c) for c in section.columns], tablefmt="pipe", disable_numparse=True)


def _cell(cell: str, column: str) -> str:
    lines = [f"`{line}`" if column in _CODE else escape(line) for line in cell.split("\n") if line]
    return "<br>".join(lines).replace("|", "\\|")  # a pipe ends a cell, even inside code


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\g<0>", text)
