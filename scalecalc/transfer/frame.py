"""A sweep as tidy data: a line per quantity for CSV and pandas, every run as a line of its own, and JSON.

``summary.csv`` begins with lines of the kind ``made``: how it was made, by name (``quantity``) and value (``note``).  Then
by ``kind``: ``verdict``, a line per parameterization; ``drift`` of the best and of the largest stable rate, in octaves per
doubling of ``dim``, along every line of settings; ``width``, for each curve the best and the largest stable rate as log₂, and
the loss at the best that was tried.  ``low`` and ``high`` are the interval; an empty cell is an end that nothing is known of.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast, get_args

from scalecalc._version import __version__
from scalecalc.dossier import Made
from scalecalc.errors import InputError
from scalecalc.report import formats
from scalecalc.report.json import plain
from scalecalc.table import Slope
from scalecalc.transfer.analysis import Axis, Summary, Width
from scalecalc.transfer.records import Job, Status

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
COLUMNS = (
    "kind", "parameterization", "group", "dim", "widths", "quantity", "value", "low", "high", "verdict", "note",
)  # fmt: skip
RUNS = ("parameterization", "group", "widths", "log2_rate", "seed", "status", "loss", "seconds", "why", "key")


def to_frame(found: Summary) -> pandas.DataFrame:
    """Verdicts, drifts and widths as a pandas frame; unknown ends are nan."""
    import pandas

    frame = pandas.DataFrame(list(records(found)), columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(("value", "low", "high"), float))


def runs_frame(found: Summary) -> pandas.DataFrame:
    """Every run as a line of a pandas frame."""
    import pandas

    return pandas.DataFrame(list(_runs(found)), columns=list(RUNS))


def to_csv(found: Summary, made: Made | None = None) -> str:
    """Verdicts, drifts and widths; with how they were ``made``."""
    return formats.to_csv(COLUMNS, [*_made(made), *records(found)])


def runs_csv(found: Summary, made: Made | None = None) -> str:
    """Every run; of how they were ``made`` a line each, its name in the column ``key`` and its value in ``why``."""
    head = [{"key": line["quantity"], "why": line["note"], "status": "made"} for line in _made(made)]
    if made is not None:
        about = {"sweep": {job.sweep for job in found.jobs}, "packages": {_packages(job) for job in found.jobs}}
        head += [{"key": name, "why": "; ".join(sorted(of)), "status": "made"} for name, of in about.items()]
    return formats.to_csv(RUNS, [*head, *_runs(found)])


def _packages(job: Job) -> str:
    return ", ".join(f"{name} {version}" for name, version in job.versions.items())


def read_runs(text: str) -> tuple[list[Job], dict[str, str]]:
    """The runs of a ``runs.csv``, without their training curves, and how they were made, by name.

    Raises:
        InputError: the text is no such CSV.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or any(name not in rows[0] for name in RUNS):
        raise InputError("this is no runs.csv that scalecalc transfer -o wrote.")
    plain = [{name: formats.unguarded(row[name]) for name in RUNS} for row in rows]
    about = {row["key"]: row["why"] for row in plain if row["status"] == "made"}
    try:
        return [_read(row, about.get("sweep", "")) for row in plain if row["status"] != "made"], about
    except (ValueError, KeyError) as error:
        raise InputError(f"this is no runs.csv that scalecalc transfer -o wrote: {error}.") from error


def _read(row: Mapping[str, str], sweep: str) -> Job:
    widths = {dim: int(n) for dim, _, n in (part.partition("=") for part in row["widths"].split())}
    if row["status"] not in get_args(Status):
        raise ValueError(f"a run that is {row['status']!r}")
    return Job(
        row["key"], sweep, row["parameterization"], widths, row["group"], float(row["log2_rate"]), int(row["seed"]),
        cast("Status", row["status"]), float(row["loss"]) if row["loss"] else None, (), float(row["seconds"]), row["why"],
    )  # fmt: skip


def to_json(found: Summary, made: Made | None = None) -> str:
    """One object: how it was made, the verdicts with all that they rest on, and every run with its curve."""
    data = {
        **({} if made is None else {"made": made.__dict__}),
        "schema": SCHEMA,
        "command": "transfer",
        "version": __version__,
        "words": found.words(),
        "tolerance": found.tolerance,
        "alpha": found.alpha,
        "notes": found.notes,
        "comparison": _comparison(found),
        "parameterizations": {
            fate.parameterization: {
                "verdict": fate.verdict,
                "words": fate.words(),
                "axes": [_axis(axis) for axis in fate.axes],
                "widths": [_width(point) for point in fate.points],
            }
            for fate in found.fates
        },
        "runs": [job.__dict__ for job in found.jobs],
    }
    return json.dumps(plain(_bare(data)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _bare(value: Any) -> Any:
    """Null for what is no number; the texts that plain has for it could be names."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _bare(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return [_bare(item) for item in value] if isinstance(value, (list, tuple)) else value  # pyright: ignore[reportUnknownVariableType]


def records(found: Summary) -> Iterator[dict[str, Any]]:
    """The lines of the frame as mappings."""
    for fate in found.fates:
        yield {"kind": "verdict", "parameterization": fate.parameterization, "verdict": fate.verdict, "note": fate.words()}
    for axis in found.axes:
        about = {
            "kind": "drift", "parameterization": axis.parameterization, "group": axis.group, "dim": axis.dim,
            "widths": _setting(dict(axis.others)),
        }  # fmt: skip
        yield {**about, "quantity": "best rate", **_slope(axis.drift), "verdict": axis.verdict, "note": axis.settle}
        yield {**about, "quantity": "largest stable rate", **_slope(axis.stable_drift)}
        yield {**about, "quantity": "loss", "verdict": axis.trend.word, "note": axis.trend.words()}
    for fate in found.fates:
        for point in fate.points:
            curve, best, edge = point.curve, point.best, point.stable
            about = {
                "kind": "width", "parameterization": curve.parameterization, "group": curve.group,
                "widths": _setting(curve.widths),
            }  # fmt: skip
            yield {**about, "quantity": "best rate", **_slope(Slope(best.rate, best.low, best.high)), "note": best.kind}
            yield {**about, "quantity": "largest stable rate", **_slope(Slope(edge.low, edge.low, edge.high))}
            low, high = point.loss.interval(found.alpha)
            yield {**about, "quantity": "loss", **_slope(Slope(point.loss.value, low, high))}


def _made(made: Made | None) -> Iterator[dict[str, Any]]:
    if made is not None:
        about = {"command": made.command, "version": made.version, "seeds": made.seeds, "when": made.when}
        for name, value in about.items():
            yield {"kind": "made", "quantity": name, "note": value}


def _runs(found: Summary) -> Iterator[dict[str, Any]]:
    for job in found.jobs:
        yield {
            "parameterization": job.parameterization, "group": job.group, "widths": _setting(job.dims),
            "log2_rate": job.log2_rate, "seed": job.seed, "status": job.status, "loss": job.loss, "seconds": job.seconds,
            "why": job.why, "key": job.key,
        }  # fmt: skip


def _setting(widths: Mapping[str, int]) -> str:
    return " ".join(f"{dim}={n}" for dim, n in widths.items())


def _slope(value: Slope) -> dict[str, float | None]:
    ends = {"value": value.slope, "low": value.low, "high": value.high}
    return {name: end if math.isfinite(end) else None for name, end in ends.items()}


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "group": axis.group, "dim": axis.dim, "others": dict(axis.others), "widths": axis.widths, "verdict": axis.verdict,
        "settle": axis.settle, "drift": axis.drift.__dict__, "stable_drift": axis.stable_drift.__dict__,
        "loss": {"trend": axis.trend.word, "steps": [step.__dict__ for step in axis.trend.steps]},
    }  # fmt: skip


def _width(point: Width) -> dict[str, Any]:
    cells = [
        {
            "log2_rate": cell.rate, "losses": {str(seed): loss for seed, loss in cell.losses.items()},
            "diverged": cell.diverged, "dominated": cell.dominated, "failed": cell.failed,
        }
        for cell in point.curve.cells
    ]  # fmt: skip
    return {
        "group": point.curve.group, "widths": dict(point.curve.widths), "best": point.best.__dict__,
        "stable": point.stable.__dict__, "loss": point.loss.__dict__, "cells": cells,
    }  # fmt: skip


def _comparison(found: Summary) -> dict[str, Any] | None:
    one = found.comparison
    if one is None:
        return None
    losses = {name: loss.__dict__ for name, loss in one.losses}
    return {"widths": dict(one.widths), "losses": losses, "worse": sorted(one.told), "words": one.words()}
