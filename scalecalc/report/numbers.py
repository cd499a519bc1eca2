"""The numbers of a parameterization at base and at the target, in every format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from scalecalc._version import __version__
from scalecalc.numbers import QUANTITIES, Numbers
from scalecalc.report.formats import choose, to_csv
from scalecalc.report.layout import PLAIN, Section, Writer
from scalecalc.solution import Solution

HEADINGS = {"std": "init std", "multiplier": "multiplier", "lr": "rate", "weight_decay": "decay", "epsilon": "ε"}
COLUMNS = (
    "weight", "quantity", "exponents", "base", "target", "optimizer", "parameterization", "base_widths", "target_widths"
)  # fmt: skip


def render(found: Numbers, format: str, *, width: int = 80, color: bool = False) -> str:
    """The numbers in one of :data:`scalecalc.report.formats.FORMATS`.

    Raises:
        UnknownName: no such format.
    """
    from scalecalc.report import latex, markdown, terminal

    title, pairs = heading(found), [(section(found), section(found, stacked=True))]
    return choose(format, {
        "table": lambda: terminal.draw(title, pairs, found.notes, width=width, color=color),
        "csv": lambda: to_csv(COLUMNS, records(found)),
        "markdown": lambda: markdown.document(title, [section(found)], found.notes, titled=False),
        "json": lambda: _json(found),
        "latex": lambda: latex.numbers(found),
    })  # fmt: skip


def heading(found: Numbers) -> str:
    """Which parameterization, from which widths to which."""
    p = found.parameterization
    model = f"{p.model}: " if isinstance(p, Solution) else ""
    return f"{model}parameterization {p.name}, optimizer {p.optimizer}, base {_widths(found, 0)}, target {_widths(found, 1)}"


def _widths(found: Numbers, which: int) -> str:
    given = (found.growth.base, found.growth.target)[which]
    return ", ".join(f"{dim}={width}" for dim, width in given.items()) or "as it is"


def shown(found: Numbers) -> list[str]:
    """The quantities that there is something to say of."""
    values = [*found.base.values(), *found.target.values()]
    always = ("std", "lr")
    return [q for q in QUANTITIES if q in always or any(getattr(v, q) not in (None, 1.0) for v in values)]


def number(value: float | None) -> str:
    """Four digits; empty where there is none.

    >>> number(1.875e-05), number(0.0625), number(1.0), number(None)
    ('1.875e-05', '0.0625', '1', '')
    """
    return "" if value is None else f"{value:.4g}"


def section(found: Numbers, *, stacked: bool = False, write: Writer = PLAIN) -> Section:
    """A column for the base and one for the target per quantity; ``stacked``: both in one, a line each."""
    quantities = shown(found)
    columns = ["weight"]
    for q in quantities:
        columns += [write.text(HEADINGS[q])] if stacked else [write.text(HEADINGS[q]), write.text("at target")]
    rows: list[tuple[str, ...]] = []
    for weight in found:
        cells = [write.name(weight)]
        for q in quantities:
            ends = [write.text(_shown(q, getattr(side[weight], q))) for side in (found.base, found.target)]
            cells += ["\n".join(ends)] if stacked else ends
        rows.append(tuple(cells))
    return Section("At base, and at the target", tuple(columns), tuple(rows), tight=frozenset({"weight"}))


def _shown(quantity: str, value: float | None) -> str:
    return "exact" if quantity == "std" and value is None else number(value)


def records(found: Numbers) -> Iterator[dict[str, Any]]:
    """One line per weight and quantity; numbers that read back bit for bit."""
    common = {
        "optimizer": found.parameterization.optimizer,
        "parameterization": found.parameterization.name,
        "base_widths": _widths(found, 0),
        "target_widths": _widths(found, 1),
    }
    for weight, scaling in found.parameterization.items():
        for quantity, of in QUANTITIES.items():
            before, after = (getattr(side[weight], quantity) for side in (found.base, found.target))
            scale = getattr(scaling, of)
            if before is None and quantity != "std":
                continue
            exponents = str(scale) if scale is not None and before is not None else ""
            yield {"weight": weight, "quantity": quantity, "exponents": exponents, "base": before, "target": after, **common}


def _json(found: Numbers) -> str:
    from scalecalc.report.json import SCHEMA, plain
    from scalecalc.report.solution import scales

    p = found.parameterization
    data = {
        "schema": SCHEMA,
        "command": "solve",
        "version": __version__,
        "model": p.model if isinstance(p, Solution) else "",
        "optimizer": p.optimizer,
        "parameterization_name": p.name,
        "base": dict(found.growth.base),
        "target": dict(found.growth.target),
        "parameterization": {weight: scales(scaling) for weight, scaling in p.items()},
        "numbers": {
            weight: {q: [getattr(found.base[weight], q), getattr(found.target[weight], q)] for q in QUANTITIES}
            for weight in found
        },
        "notes": list(found.notes),
    }
    return json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
