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
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from scalecalc._version import __version__
from scalecalc.scale import Scale
from scalecalc.table import Row, Table, WeightScaling

SCHEMA = 1


def to_json(table: Table) -> str:
    """The whole table as one JSON object."""
    return json.dumps(plain(to_object(table)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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
    out: dict[str, Any] = {}
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
