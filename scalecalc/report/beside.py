"""Parameterizations side by side in every format, laid out as papers print them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scalecalc._version import __version__
from scalecalc.beside import Beside
from scalecalc.report.formats import choose, to_csv
from scalecalc.report.layout import MORE, PLAIN, QUANTITIES, Section, Writer
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

ONE = Scale.one()
COLUMNS = ("parameterization", "optimizer", "weight", "role", "quantity", "dim", "power", "log_power", "model")
MOST_NAMES = 3  # weights that a heading lists; of more it names the first and the last


def render(found: Beside, format: str, *, width: int = 80, color: bool = False) -> str:
    """The table in one of :data:`scalecalc.report.formats.FORMATS`.

    Raises:
        UnknownName: no such format.
    """
    from scalecalc.report import latex, markdown, terminal

    title = heading(found)
    return choose(format, {
        "table": lambda: terminal.draw(title, [(section(found),) * 2], found.notes, width=width, color=color),
        "csv": lambda: to_csv(COLUMNS, _records(found)),
        "markdown": lambda: markdown.document(title, [section(found)], found.notes, titled=False),
        "json": lambda: _json(found),
        "latex": lambda: latex.beside(found),
    })  # fmt: skip


def heading(found: Beside) -> str:
    """Which parameterizations, of what."""
    optimizers = next(iter(found.blocks.values()))
    growing = ", ".join(found.dims) or "nothing"
    return f"{found.model}: {', '.join(found.blocks)}, rates for {', '.join(optimizers)}, growing {growing}"


def section(found: Beside, *, write: Writer = PLAIN) -> Section:
    """A block per parameterization: init variance, multiplier, and the rate of each optimizer; a column per weight."""
    columns = found.columns
    names = [_names(weights, write) for weights, _ in columns]
    rows: list[tuple[str, ...]] = [("", "", *(write.text(role) for _, role in columns))]
    breaks: list[int] = []
    for name, block in found.blocks.items():
        breaks.append(len(rows))
        label = write.text(name)
        for words, scales in _lines(block, [weights[0] for weights, _ in columns]):
            rows.append((label, write.text(words), *(write.size(scale) for scale in scales)))
            label = ""
    tight = frozenset({"parameterization", "quantity"})
    return Section("Parameterizations", ("parameterization", "quantity", *names), tuple(rows), frozenset(breaks), tight, 2)


def _names(weights: Sequence[str], write: Writer) -> str:
    if len(weights) <= MOST_NAMES:
        return ", ".join(map(write.name, weights))
    return f"{write.name(weights[0])} {write.text('…')} {write.name(weights[-1])}"


def _lines(
    block: Mapping[str, Mapping[str, WeightScaling]], weights: Sequence[str]
) -> Iterator[tuple[str, list[Scale]]]:
    """Quantity and its scales; once for all optimizers where they agree."""

    def each(word: str, one: Any) -> Iterator[tuple[str, list[Scale]]]:
        found = {optimizer: [one(scalings[w]) for w in weights] for optimizer, scalings in block.items()}
        alike = all(scales == next(iter(found.values())) for scales in found.values())
        for optimizer, scales in list(found.items())[: 1 if alike else None]:
            if any(scale is not None for scale in scales):
                yield word if alike else f"{word}, {optimizer}", [ONE if scale is None else scale for scale in scales]

    yield from each("init variance", lambda s: s.init**2)
    yield from each("multiplier", lambda s: s.multiplier)
    for optimizer, scalings in block.items():
        yield f"{optimizer} rate", [scalings[w].lr for w in weights]
    for quantity, word in MORE.items():
        for optimizer, scalings in block.items():
            scales = [getattr(scalings[w], quantity) for w in weights]
            if any(scale is not None for scale in scales):
                yield f"{optimizer} {word}", [ONE if scale is None else scale for scale in scales]


def _records(found: Beside) -> Iterator[dict[str, Any]]:
    for name, block in found.blocks.items():
        for optimizer, scalings in block.items():
            about = {"parameterization": name, "optimizer": optimizer, "model": found.model}
            for weight, s in scalings.items():
                for quantity in QUANTITIES:
                    scale = getattr(s, quantity)
                    for dim in found.dims if scale is not None else ():
                        powers = {"dim": dim, "power": scale.power(dim), "log_power": scale.log_power(dim)}
                        yield {**about, "weight": weight, "role": s.role, "quantity": quantity, **powers}


def _json(found: Beside) -> str:
    """One object: parameterization → optimizer → weight, each in the shape that ``--parameterization FILE`` reads."""
    from scalecalc.report.json import SCHEMA, plain
    from scalecalc.report.solution import scales

    data = {
        "schema": SCHEMA,
        "command": "solve",
        "version": __version__,
        "model": found.model,
        "dims": list(found.dims),
        "parameterizations": {
            name: {o: {w: scales(s) for w, s in scalings.items()} for o, scalings in block.items()}
            for name, block in found.blocks.items()
        },
        "notes": list(found.notes),
    }
    return json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
