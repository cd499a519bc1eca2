"""A comparison in every format: the sections of a Table with a column per parameterization."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from scalecalc._version import __version__
from scalecalc.compare import Comparison, Key
from scalecalc.report.formats import choose
from scalecalc.report.layout import MORE, PLAIN, TITLES, Section, Writer
from scalecalc.scale import Scale
from scalecalc.table import Row, WeightScaling

if TYPE_CHECKING:
    from scalecalc.dossier import Made

ABSENT = "–"
NOTE = (
    f"{ABSENT}: of higher order in the updates, which does not outgrow the lower ones there. Higher orders are listed where "
    "none of these explodes already; the formats csv and json have all rows."
)


def render(found: Comparison, format: str, *, width: int = 80, color: bool = False) -> str:
    """The comparison in one of :data:`scalecalc.report.formats.FORMATS`.

    Raises:
        UnknownName: no such format.
    """
    return choose(format, {
        "table": lambda: to_terminal(found, width=width, color=color),
        "csv": lambda: to_csv(found),
        "markdown": lambda: to_markdown(found),
        "json": lambda: to_json(found),
        "latex": lambda: to_latex(found),
    })  # fmt: skip


def heading(found: Comparison) -> str:
    """What is compared, and what all have in common."""
    table = next(iter(found.tables.values()))
    return (
        f"{found.model}: parameterizations {', '.join(found.tables)}, optimizer {table.optimizer}, "
        f"regime {table.regime.text}, growing {', '.join(table.dims) or 'nothing'}"
    )


def verdicts(found: Comparison) -> list[str]:
    """A sentence per parameterization."""
    return [f"{name}: {fate.words()}." for name, fate in found.fates.items()]


def sections(found: Comparison, *, stacked: bool = False, write: Writer = PLAIN) -> list[Section]:
    """Weights, initial sizes, updates, features; ``stacked`` puts the class below the size."""
    names = tuple(write.text(name) for name in found.tables)
    gap = "\n" if stacked else " "
    out = [Section("Weights", ("weight", *names), tuple(_weights(found, write)))]
    for kind in ("init", "update"):
        keys = found.keys(kind)
        if kind == "update":
            tags = list(dict.fromkeys(tag for *_, tag in keys))
            keys = sorted(keys, key=lambda key: tags.index(key[3]))
        steps = {step for _, _, step, _ in keys}
        lead: dict[str, Callable[[Key], str]] = {"row": lambda key: write.name(key[0])}
        if kind == "update":
            lead["by"] = lambda key: write.name("+".join(key[3]))
        if len(steps) > 1:
            lead["step"] = lambda key: str(key[2])
        rows = tuple(
            (*(cell(key) for cell in lead.values()), *(_size(found.row(name, key), gap, write) for name in found.tables))
            for key in keys
        )
        breaks = frozenset(i for i in range(1, len(keys)) if keys[i][3] != keys[i - 1][3])
        title = TITLES[kind] + (f", step {min(steps)}" if steps and len(steps) == 1 and steps != {0} else "") + ", rms"
        out.append(Section(title, (*lead, *names), rows, breaks, frozenset(lead), len(lead)))
    fates = found.fates.values()
    features = dict.fromkeys(key[0] for key in found.keys("update"))
    fate = tuple((write.name(name), *(one.word(name) for one in fates)) for name in features)
    out.append(Section("Features, by what the updates do to them", ("row", *names), fate))
    return [section for section in out if section.rows]


def _size(row: Row | None, gap: str, write: Writer) -> str:
    if row is None:
        return write.text(ABSENT)
    formula = write.formula(row.terms)
    return f"{formula.replace(', ', ',' + gap)}{gap}{row.klass}".rstrip()


def _weights(found: Comparison, write: Writer) -> list[tuple[str, ...]]:
    names = dict.fromkeys(weight for table in found.tables.values() for weight in table.parameterization)
    scalings = [table.parameterization for table in found.tables.values()]
    return [(write.name(weight), *(_scaling(own.get(weight), write) for own in scalings)) for weight in names]


def _scaling(scaling: WeightScaling | None, write: Writer) -> str:
    if scaling is None:
        return write.text(ABSENT)
    multiplier = [] if scaling.multiplier == Scale.one() else [f"multiplier {write.size(scaling.multiplier)}"]
    given, init = scaling.given(), write.formula(()) if scaling.zero else write.size(scaling.init)
    more = [f"{write.text(title)} {write.size(given[q])}" for q, title in MORE.items() if q in given]
    return "\n".join([f"init {init}", *multiplier, f"rate {write.size(scaling.lr)}", *more])


def closing(found: Comparison) -> list[str]:
    """What stands below the sections."""
    absent = any(ABSENT in row for section in sections(found) for row in section.rows)
    return [*verdicts(found), *notes(found), *(["", NOTE] if absent else [])]


def notes(found: Comparison) -> list[str]:
    """What must be known of the tables: once where it is true of all of them, else with the parameterization."""
    tables = found.tables.values()
    common = [note for note in next(iter(tables)).notes if all(note in table.notes for table in tables)]
    own = [f"{name}: {note}" for name, table in found.tables.items() for note in table.notes if note not in common]
    return [*common, *own]


def to_terminal(found: Comparison, *, width: int = 80, color: bool = False) -> str:
    """For a person, at most ``width`` columns wide."""
    from scalecalc.report.terminal import draw

    pairs = zip(sections(found), sections(found, stacked=True), strict=True)
    return draw(heading(found), pairs, closing(found), width=width, color=color)


def to_markdown(found: Comparison) -> str:
    """As GitHub-flavoured Markdown."""
    from scalecalc.report.markdown import document

    return document(heading(found), sections(found), closing(found))


def to_csv(found: Comparison, made: Made | None = None) -> str:
    """The tables' CSV one below the other; the column ``parameterization`` tells them apart."""
    from scalecalc.report.frame import to_csv as table_csv

    head, *_ = texts = [table_csv(table, None if i else made) for i, table in enumerate(found.tables.values())]
    return head + "".join(text.partition("\n")[2] for text in texts[1:])


def to_json(found: Comparison, made: Made | None = None) -> str:
    """One object: per parameterization the verdict, in words and as lists, and the whole table."""
    from scalecalc.report.json import SCHEMA, plain, to_object

    data = {
        **({} if made is None else {"made": made.__dict__}),
        "schema": SCHEMA,
        "command": "compare",
        "version": __version__,
        "model": found.model,
        "parameterizations": {
            name: {"verdict": fate.words(), **fate.__dict__, "table": to_object(found.tables[name])}
            for name, fate in found.fates.items()
        },
    }
    return json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_latex(found: Comparison, *, standalone: bool = False) -> str:
    """As booktabs tables; see :mod:`scalecalc.report.latex`."""
    from scalecalc.report.latex import comparison

    return comparison(found, standalone=standalone)
