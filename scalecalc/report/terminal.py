"""A Table for a person at a terminal: sections drawn by rich, the verdict in one sentence at the end.

Widths: each section shows a column of slopes per dim if that fits, else one column with a line per dim; what still does
not fit is folded, never cut off.  Without ``color`` the text holds no escape codes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from scalecalc.report.layout import Section, heading, sections
from scalecalc.report.summary import details, summary
from scalecalc.table import Table

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {
    "✓ agrees": "green",
    "✗ disagrees": "bold red",
    "? inconclusive": "yellow",
    "✓ transfers": "green",
    "✗ does not": "bold red",
    "? undecided": "yellow",
    "exploding": "red",
    "vanishing": "yellow",
    "learning": "green",
    "explodes": "red",
    "learns": "green",
}


def to_terminal(table: Table, *, width: int = 80, color: bool = False) -> str:
    """The whole table as text, at most ``width`` columns wide."""
    pairs = zip(sections(table), sections(table, stacked=True), strict=True)
    closing = [summary(table), *details(table), *table.notes]
    return draw(heading(table), pairs, closing, width=width, color=color)


def draw(
    title: str, pairs: Iterable[tuple[Section, Section]], closing: Sequence[str], *, width: int = 80, color: bool = False
) -> str:
    """Sections as text: the first of each pair if it fits, else the second; the first closing line is set off."""
    from rich.console import Console
    from rich.text import Text

    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=width,
        height=100,
        force_terminal=color,
        color_system="standard" if color else None,
        legacy_windows=False,
        _environ={},
    )
    console.print(Text(title))
    for wide, stacked in pairs:
        drawn = _draw(wide)
        # Measured with room to spare: rich never reports more than the room there is.
        if console.measure(drawn, options=console.options.update(width=10 * width)).maximum > width:
            drawn = _draw(stacked)
        console.print(Text("\n" + wide.title, style="bold"))
        console.print(drawn)
    for index, line in enumerate(closing):
        console.print(Text("\n" + line, style="bold") if index == 0 else Text(line))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _draw(section: Section):
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in section.columns:
        grid.add_column(Text(column), overflow="fold", no_wrap=column in section.tight)
    for index, row in enumerate(section.rows):
        if index in section.breaks:
            grid.add_section()
        grid.add_row(*(_cell(cell) for cell in row))
    return grid


def _cell(cell: str) -> Text:
    """The cell's text, in colour where it is, or ends in, a class or a verdict."""
    from rich.text import Text

    found = next((word for word in _STYLES if cell == word or cell.endswith((f" {word}", f"\n{word}"))), None)
    text = Text(cell)
    if found is not None:
        text.stylize(_STYLES[found], len(cell) - len(found))
    return text
