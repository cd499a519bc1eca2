"""A Table as one JSON object, for scripts.

Exponents are exact rationals as strings (``"-1/2"``); a dim that is absent has exponent 0.  The output is valid JSON
whatever was measured: numbers that JSON cannot write become the strings ``"nan"``, ``"inf"`` and ``"-inf"``, which
Python's ``float`` reads back, so that a diverged measurement is reported and not dropped.  Keys are only ever added;
``schema`` changes if one must change its meaning.
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from scalecalc._version import __version__
from scalecalc.errors import InputError
from scalecalc.scale import Regime, Scale
from scalecalc.table import Point, Row, Slope, Table, WeightScaling

if TYPE_CHECKING:
    from scalecalc.dossier import Made

SCHEMA = 1
ENDS = ("slope", "low", "high")


def to_json(table: Table, made: Made | None = None) -> str:
    """The whole table as one JSON object; a report's begins with how it was ``made``."""
    how = {} if made is None else {"made": {**asdict(made)}}
    return json.dumps(plain({**how, **to_object(table)}), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(text: str) -> Table:
    """The table that :func:`to_json` wrote; its rows carry no derivation.

    Raises:
        InputError: the text is no such JSON.
    """
    try:
        found = json.loads(text)
        if found["schema"] != SCHEMA:
            raise InputError(f"this table is of schema {found['schema']}, and schema {SCHEMA} is what this version reads.")
        return Table(
            model=found["model"],
            rows=tuple(map(_row, found["rows"])),
            dims=tuple(found["dims"]),
            command=found["command"],
            options=found["options"],
            parameterization={name: _scaling(own) for name, own in found["parameterization"].items()},
            parameterization_name=found["parameterization_name"],
            optimizer=found["optimizer"],
            regime=Regime.parse(found["regime"], found["dims"]),
            seconds=float(found["seconds"]),
            notes=tuple(found["notes"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"this is no table that scalecalc wrote as JSON: {type(error).__name__}: {error}") from error


def _scaling(own: Mapping[str, Any]) -> WeightScaling:
    sizes = {q: p for q, p in own.items() if q not in ("role", "zero") and not q.endswith("_log")}
    scales = {q: Scale.from_strings(p, own.get(f"{q}_log")) for q, p in sizes.items()}
    return WeightScaling(**scales, role=own.get("role", ""), zero=own.get("zero", False))


def _row(own: Mapping[str, Any]) -> Row:
    measured = own["measured"]
    points = tuple(Point(p["widths"], float(p["log"]), float(p["error"]), p["seeds"]) for p in own.get("points", ()))
    return Row(
        row=own["row"], kind=own["kind"], step=own["step"], terms=_scales(own["terms"]), tag=tuple(own["tag"]),
        statistic=own["statistic"], klass=own["class"], entry=_scales(own["entry"]), profile=own["profile"],
        subleading=_scales(own.get("subleading", ())), why=own["why"], assumptions=tuple(own["assumptions"]),
        measured=None if measured is None else {d: Slope(*(float(s[k]) for k in ENDS)) for d, s in measured.items()},
        verdict=own["verdict"], settle=own["settle"], commutes=own["commutes"], points=points,
    )  # fmt: skip


def _scales(found: Iterable[Mapping[str, Any]]) -> tuple[Scale, ...]:
    return tuple(Scale.from_strings(one["theta"], one["log"]) for one in found)


def to_object(table: Table) -> dict[str, Any]:
    """The object that :func:`to_json` writes, before numbers are made safe."""
    return {
        "schema": SCHEMA,
        "command": table.command,
        "version": __version__,
        "model": table.model,
        "options": dict(table.options),
        "dims": list(table.dims),
        "optimizer": table.optimizer,
        "regime": table.regime.text,
        "parameterization_name": table.parameterization_name,
        "parameterization": {name: _weight(scaling) for name, scaling in table.parameterization.items()},
        "rows": [row_object(row) for row in table],
        "counts": table.counts(),
        "notes": list(table.notes),
        "seconds": table.seconds,
    }


def _weight(scaling: WeightScaling) -> dict[str, Any]:
    out: dict[str, Any] = {"role": scaling.role} if scaling.role else {}
    out |= {"zero": True} if scaling.zero else {}
    for key, scale in scaling.given().items():
        powers, logs = scale.strings()
        out[key] = powers
        if logs or key == "lr":
            out[f"{key}_log"] = logs
    return out


def row_object(row: Row) -> dict[str, Any]:
    theta, log = row.theta.strings() if row.theta is not None else (None, {})
    measured = row.measured
    return {
        "row": row.row,
        "kind": row.kind,
        "step": row.step,
        "tag": list(row.tag),
        "statistic": row.statistic,
        "theta": theta,
        "log": log,
        "terms": [_scale(term) for term in row.terms],
        "entry": [_scale(term) for term in row.entry],
        "subleading": [_scale(term) for term in row.subleading],
        "profile": row.profile,
        "class": row.klass,
        "measured": None
        if measured is None
        else {dim: {"slope": s.slope, "low": s.low, "high": s.high} for dim, s in measured.items()},
        "verdict": row.verdict,
        "why": row.why,
        "assumptions": list(row.assumptions),
        "settle": row.settle,
        "commutes": row.commutes,
        **({"points": [asdict(point) for point in row.points]} if row.points else {}),
    }


def _scale(scale: Scale) -> dict[str, dict[str, str]]:
    powers, logs = scale.strings()
    return {"theta": powers, "log": logs}


def plain(value: Any) -> Any:
    """Only what JSON can write; anything it has no form for becomes its text."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, Fraction):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    return str(value)
