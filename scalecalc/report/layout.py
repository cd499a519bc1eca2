"""What the printed tables have in common: a Table cut into titled sections of plain text cells.

The terminal and Markdown printers differ only in how they draw a :class:`Section`.  Order: the parameterization, then
rows by kind (weight, init, gradient, update, alignment), updates by the weights that moved.  What is the same in every
row of a section (the step, the statistic) goes into its title instead of a column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from scalecalc.scale import Scale
from scalecalc.table import KINDS, Row, Slope, Table

SYMBOLS = {"agrees": "✓ agrees", "disagrees": "✗ disagrees", "inconclusive": "? inconclusive"}
TITLES = {
    "weight": "Weights",
    "init": "Activations at initialisation",
    "gradient": "Gradients",
    "update": "Updates, by the weights that moved",
    "alignment": "Alignments",
}
# What a parameterization says of a weight, in the words of every printer; the last two only where they are given.
QUANTITIES = {"init": "init", "multiplier": "multiplier", "lr": "rate", "weight_decay": "decay", "epsilon": "ε"}
MORE = {q: QUANTITIES[q] for q in ("weight_decay", "epsilon")}


@dataclass(frozen=True)
class Section:
    """A titled table of text.

    Args:
        title: what the rows are, with whatever they all share.
        columns: the headings.
        rows: a cell per heading; a cell may have several lines.
        breaks: indices of the rows that open a new group.
        tight: headings of the columns that must not be folded.
        lead: how many columns say what a row is; a table too wide for its page repeats them in every part.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    breaks: frozenset[int] = frozenset()
    tight: frozenset[str] = frozenset()
    lead: int = 1


@dataclass(frozen=True)
class Writer:
    """How a printer writes what stands in a cell; the default is plain text.

    Args:
        text: words.
        name: the name of a row, of a weight, of several with plus signs between them.
        size: one scale.
        most: several sizes of which none dominates.
        slope: a measured slope.
        theta: the heading of the derived sizes.
        verdicts: verdict → what is shown.
    """

    text: Callable[[str], str] = str
    name: Callable[[str], str] = str
    size: Callable[[Scale], str] = str
    most: Callable[[Sequence[str]], str] = lambda sizes: f"max({', '.join(sizes)})"
    slope: Callable[[Slope], str] = lambda value: slope(value)
    theta: str = "Θ"
    verdicts: Mapping[str, str] = field(default_factory=lambda: SYMBOLS)

    def formula(self, sizes: Sequence[Scale]) -> str:
        """What :meth:`Row.formula` says."""
        if not sizes:
            return self.text("0")
        return self.size(sizes[0]) if len(sizes) == 1 else self.most([self.size(size) for size in sizes])


PLAIN = Writer()


def heading(table: Table) -> str:
    """The line that opens every report: what the rows are rows of."""
    name = table.parameterization_name or "none"
    return (
        f"{table.model}: parameterization {name}, optimizer {table.optimizer}, regime {table.regime.text}, "
        f"growing {', '.join(table.dims) or 'nothing'}"
    )


def sections(table: Table, *, stacked: bool = False, write: Writer = PLAIN) -> list[Section]:
    """The table's sections; ``stacked`` puts the slopes of all dims into one column, a line each."""
    out = [_parameterization(table, write)] if table.parameterization else []
    return out + [_rows(table, kind, rows, stacked, write) for kind, rows in by_kind(table)]


def by_kind(table: Table) -> list[tuple[str, list[Row]]]:
    """The rows of every kind that there is, updates together that are by the same weights."""
    out: list[tuple[str, list[Row]]] = []
    for kind in (*KINDS, *dict.fromkeys(r.kind for r in table if r.kind not in KINDS)):
        rows = [row for row in table if row.kind == kind]
        if kind == "update":
            tags = list(dict.fromkeys(row.tag for row in rows))
            rows.sort(key=lambda row: tags.index(row.tag))
        if rows:
            out.append((kind, rows))
    return out


def more_of(table: Table) -> dict[str, str]:
    """Of weight decay and ε what is given for any weight, with its heading."""
    given = {q for scaling in table.parameterization.values() for q in scaling.given()}
    return {q: word for q, word in MORE.items() if q in given}


def number(value: float) -> str:
    """Two decimals, no negative zero; ``nan`` and ``inf`` as they are.

    >>> number(-0.494), number(-0.001), number(float("inf"))
    ('-0.49', '0.00', 'inf')
    """
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def slope(value: Slope) -> str:
    """A slope with the wider half of its interval.

    >>> slope(Slope(-0.494, -0.52, -0.47)), slope(Slope(0.5, 0.499, 0.501)), slope(Slope(float("nan"), 0.0, 0.0))
    ('-0.49 ±0.03', '0.50 ±<0.01', 'nan')
    """
    if not math.isfinite(value.slope):
        return number(value.slope)
    half = max(value.high - value.slope, value.slope - value.low)
    if not (math.isfinite(value.low) and math.isfinite(value.high)):
        return f"{number(value.slope)} ±inf"
    return f"{number(value.slope)} ±" + ("<0.01" if 0 < half < 0.005 else number(half))


def tag(row: Row) -> str:
    return "+".join(row.tag)


def theta(row: Row, write: Writer = PLAIN) -> str:
    """The derived size, with what an entry at small index is where that differs, and whether the limits commute."""
    lines = [write.formula(row.terms)]
    if row.entry and row.entry != row.terms:
        lines.append(f"{write.text('entry ')}{write.formula(row.entry)}")
    if row.commutes is False:
        lines.append(write.text("limits do not commute"))
    return "\n".join(lines)


def _parameterization(table: Table, write: Writer) -> Section:
    scalings = table.parameterization.items()
    more = more_of(table)
    columns = ("weight", "role", "init", "multiplier", "rate", *map(write.text, more.values()))
    rows = tuple(
        (
            write.name(name),
            write.text(s.role),
            write.formula(()) if s.zero else write.size(s.init),
            *(write.size(one) for one in (s.multiplier, s.lr)),
            *(write.size(s.given()[q]) if q in s.given() else "" for q in more),
        )
        for name, s in scalings
    )
    if not any(s.role for _, s in scalings):
        columns, rows = columns[:1] + columns[2:], tuple(row[:1] + row[2:] for row in rows)
    return Section(
        f"Parameterization {table.parameterization_name}".rstrip() + f" for {table.optimizer}", columns, rows
    )


def _rows(table: Table, kind: str, rows: list[Row], stacked: bool, write: Writer) -> Section:
    title = [TITLES.get(kind, kind)]
    columns: dict[str, Callable[[Row], str]] = {"row": lambda row: write.name(row.row)}
    tight: set[str] = set()
    if any(row.tag for row in rows):
        columns["by"] = lambda row: write.name(tag(row))
    steps, statistics = {row.step for row in rows}, {row.statistic for row in rows}
    if len(steps) > 1:
        columns["step"] = lambda row: str(row.step)
    elif steps != {0}:
        title.append(f"step {min(steps)}")
    if len(statistics) > 1:
        columns["of"] = lambda row: row.statistic
    else:
        title.append(min(statistics))
    lead = len(columns)
    columns[write.theta] = lambda row: theta(row, write)
    if any(row.measured is not None or row.verdict is not None for row in rows):
        if stacked:
            columns["measured"] = lambda row: "\n".join(
                f"{write.name(d)} {write.slope(s)}" for d, s in (row.measured or {}).items()
            )
            tight.add("measured")
        else:
            for dim in measured_dims(table):
                columns[write.name(dim)] = lambda row, dim=dim: (
                    write.slope(row.measured[dim]) if dim in (row.measured or {}) else ""
                )
                tight.add(write.name(dim))
        columns["verdict"] = lambda row: write.verdicts.get(row.verdict or "", row.verdict or "not judged")
        tight.add("verdict")
    if any(row.klass for row in rows):
        columns["class"] = lambda row: row.klass
    breaks = frozenset(i for i in range(1, len(rows)) if rows[i].tag != rows[i - 1].tag)
    if 2 * len(breaks) >= len(rows):  # groups of one row each need no gaps between them
        breaks = frozenset()
    cells = tuple(tuple(cell(row) for cell in columns.values()) for row in rows)
    return Section(", ".join(title), tuple(columns), cells, breaks, frozenset(tight), lead)


def measured_dims(table: Table) -> list[str]:
    """The dims along which any row was measured."""
    measured = dict.fromkeys(dim for row in table for dim in row.measured or {})
    return [d for d in table.dims if d in measured] + [d for d in measured if d not in table.dims]
