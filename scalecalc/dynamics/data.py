"""Input and output sequences, or their covariances, from a user's file; everything that may be wrong with it is said.

========  ===========================================================================================
``.csv``  columns ``u`` and ``y`` (or ``u1, u2, …, y1, …``), a line per sample; a column ``sequence``, if
          there are several, tells them apart.  Without a heading: two columns, input and output.
          Columns ``lag, uu, yu`` (and ``yy`` at lag 0) are covariances ⟨u_t u_(t−lag)⟩, ⟨y_t u_(t−lag)⟩.
``.npy``  (time, 2): input and output; (sequences, time, 2): several of them.
``.npz``  ``u`` and ``y``, each (time,), (sequences, time) or (sequences, time, channels); or the covariances
          ``uu`` and ``yu``, each (lags,) or (lags, channels, channels), and ``yy``.
========  ===========================================================================================
"""

from __future__ import annotations

import csv
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalecalc.dynamics.spectra import Sequences, Spectra, process, spectra
from scalecalc.errors import InputError

Array = NDArray[np.float64]
SHORTEST = 16
FORMS = (
    "a CSV with columns u and y (u1, u2, … and a column sequence for several), a .npy of shape (time, 2) or "
    "(sequences, time, 2), or a .npz with u and y, or with the covariances uu, yu and yy by lag"
)
_COLUMN = re.compile(r"(u|y)_?(\d*)", re.IGNORECASE)


def read(path: str | Path) -> Sequences | Spectra:
    """What a file holds: sequences, or the spectra of the covariances in it.

    Raises:
        InputError: no such file, none of the forms above, or numbers in it that cannot be data.
    """
    file = Path(path)
    if file.is_dir():
        raise InputError(f"the data {str(path)!r} is a folder; name a file: {FORMS}.")
    if not file.is_file():
        raise InputError(f"there is no file {str(path)!r} (of the data).")
    readers = {".csv": _csv, ".npy": _npy, ".npz": _npz}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"{str(path)!r} is of no form that is read here: {FORMS}.")
    try:
        return reader(file)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error


def statistics(data: Sequences | Spectra) -> Spectra:
    """The spectra, whichever of the two a file held."""
    return data if isinstance(data, Spectra) else spectra(data)


def sequences(inputs: Any, outputs: Any, name: str = "the data") -> Sequences:
    """Sequences from arrays of shape (time,), (sequences, time) or (sequences, time, channels), checked.

    Raises:
        InputError: shapes that do not match, too few samples, what is not finite, inputs that are all zero.
    """
    u, y = (_real(x, f"{what} of {name}") for what, x in (("inputs", inputs), ("outputs", outputs)))
    if u.ndim > 3 or y.ndim > 3 or not u.ndim or not y.ndim:
        raise InputError(
            f"{name}: inputs of shape {u.shape} and outputs of shape {y.shape}; write (time,), (sequences, time) or "
            "(sequences, time, channels)."
        )
    u, y = (x[None, :, None] if x.ndim == 1 else x[:, :, None] if x.ndim == 2 else x for x in (u, y))
    if u.shape[:2] != y.shape[:2]:
        raise InputError(
            f"{name}: inputs are {u.shape[0]} × {u.shape[1]} (sequences × time), outputs {y.shape[0]} × "
            f"{y.shape[1]}; they "
            "must be as many and as long."
        )
    if u.shape[1] < SHORTEST:
        raise InputError(f"{name} has sequences of {u.shape[1]} samples; at least {SHORTEST} are needed.")
    for what, x in (("inputs", u), ("outputs", y)):
        if not np.isfinite(x).all():
            s, t, c = map(int, np.argwhere(~np.isfinite(x))[0])
            where = f"sample {t + 1}" + (f" of sequence {s + 1}" if len(x) > 1 else "")
            channel = f", channel {c + 1}" if x.shape[2] > 1 else ""
            raise InputError(
                f"{name}: the {what} have {x[s, t, c]} at {where}{channel}; leave such samples out, or fill them in."
            )
        if not x.any():
            raise InputError(f"{name}: the {what} are all zero, and nothing can be learnt from them.")
        if np.abs(x).max() > 1e100 or np.sqrt(np.mean(x**2)) < 1e-100:
            raise InputError(f"{name}: the {what} are of size {np.abs(x).max():.3g}; choose other units.")
    return Sequences(np.ascontiguousarray(u), np.ascontiguousarray(y), name)


def _real(x: Any, what: str) -> Array:
    found = np.asarray(x)
    if found.dtype.kind not in "fiub":
        raise InputError(f"the {what} are of type {found.dtype}; real numbers are needed.")
    return found.astype(float)


def _csv(file: Path) -> Sequences | Spectra:
    name = repr(str(file))
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            sample = text.read(65536)
            text.seek(0)
            delimiter = next((d for d in ",;\t" if d in sample.partition("\n")[0]), ",")
            lines = [line for line in csv.reader(text, delimiter=delimiter) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} is no CSV in UTF-8: {error}.") from error
    if not lines:
        raise InputError(f"{name} is empty; write {FORMS}.")
    head = [cell.strip() for cell in lines[0]]
    if all(_is_number(cell) for cell in head):
        if len(head) != 2:
            raise InputError(
                f"{name} has {len(head)} columns and no heading; write two, input and output, or name them u1, …, y1."
            )
        head, first = ["u", "y"], 0
    else:
        first = 1
    lowered = [cell.lower() for cell in head]
    if len(set(lowered)) < len(lowered):
        raise InputError(f"{name} has a column twice: {', '.join(head)}.")
    table = _numbers(lines[first:], len(head), first, name)
    columns = dict(zip(lowered, table.T, strict=True))
    if {"lag", "uu", "yu"} <= set(columns):
        return _covariances_by_lag(columns, name)
    groups: dict[str, list[tuple[int, str]]] = {"u": [], "y": []}
    for column in columns:
        match = _COLUMN.fullmatch(column)
        if match is not None:
            groups[match[1]].append((int(match[2] or 0), column))
        elif column not in ("sequence", "t", "time"):
            raise InputError(f"{name} has a column {column!r}; its columns may be u, y (u1, y1, …), sequence and t.")
    if not groups["u"] or not groups["y"]:
        raise InputError(f"{name} has the columns {', '.join(head)}; it must have u and y, or u1, …, y1, ….")
    u, y = (np.stack([columns[c] for _, c in sorted(group)], axis=1) for group in groups.values())
    if "sequence" not in columns:
        return sequences(u[None], y[None], name)
    labels, starts, counts = np.unique(columns["sequence"], return_index=True, return_counts=True)
    if len(set(counts)) > 1:
        raise InputError(
            f"{name}: sequences of {counts.min()} to {counts.max()} samples; they must be equally long: cut them to "
            f"{counts.min()}."
        )
    if any((columns["sequence"][s : s + c] != label).any() for label, s, c in zip(labels, starts, counts, strict=True)):
        raise InputError(
            f"{name}: the samples of a sequence must stand together; sort the lines by the column sequence."
        )
    rows = np.concatenate([np.arange(s, s + c) for s, c in zip(starts, counts, strict=True)])
    shape = len(labels), int(counts[0])
    return sequences(u[rows].reshape(*shape, -1), y[rows].reshape(*shape, -1), name)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(lines: list[list[str]], columns: int, skipped: int, name: str) -> Array:
    if not lines:
        raise InputError(f"{name} has a heading and no samples below it.")
    try:
        return np.array(lines, dtype=float).reshape(len(lines), columns)
    except ValueError:
        pass
    for number, line in enumerate(lines, skipped + 1):
        if len(line) != columns:
            raise InputError(f"{name}, line {number}, has {len(line)} columns, the first has {columns}.")
        for cell in line:
            if not _is_number(cell):
                raise InputError(f"{name}, line {number}: {cell[:40]!r} is no number.")
    raise InputError(f"{name} does not read as a table of numbers.")


def _covariances_by_lag(columns: dict[str, Array], name: str) -> Spectra:
    if not (columns["lag"] == np.arange(len(columns["lag"]))).all():
        raise InputError(f"{name}: the lags must be 0, 1, 2, … line by line.")
    yy = float(columns["yy"][0]) if "yy" in columns else None
    return covariances(columns["uu"], columns["yu"], yy, name)


def covariances(uu: Any, yu: Any, yy: float | None = None, name: str = "the covariances") -> Spectra:
    """Spectra from covariances by lag, checked; see :func:`scalecalc.dynamics.spectra.process`.

    Args:
        uu, yu: (lags,), or (lags, inputs, inputs) and (lags, outputs, inputs).
        yy: mean square of the outputs; what the inputs explain of it where it is not given.

    Raises:
        InputError: shapes that do not match, what is not finite, or a spectrum of the inputs that is negative.
    """
    both = [_real(x, f"{what} of {name}") for what, x in (("covariances uu", uu), ("covariances yu", yu))]
    u, y = (x[:, None, None] if x.ndim == 1 else x for x in both)
    if (
        u.ndim != 3
        or y.ndim != 3
        or len(u) != len(y)
        or u.shape[1] != u.shape[2]
        or y.shape[2] != u.shape[1]
        or not len(u)
    ):
        raise InputError(
            f"{name}: uu of shape {u.shape} and yu of shape {y.shape}; write (lags,), or (lags, channels, inputs)."
        )
    if not (np.isfinite(u).all() and np.isfinite(y).all()):
        raise InputError(f"{name}: not all of them are finite.")
    found = process(u, y, 0.0 if yy is None else float(yy))
    power = np.linalg.eigvalsh(found.uu)
    if power.min() < -1e-6 * max(power.max(), 1e-300) or power.max() <= 0:
        raise InputError(
            f"{name}: at some frequency the spectrum of the inputs is negative ({power.min():.3g}), so that uu are no "
            "covariances; taper them, or give more lags."
        )
    if yy is None:
        explained = np.einsum(
            "kop,kpq,koq->k", found.yu, np.linalg.pinv(found.uu, hermitian=True), np.conj(found.yu)
        ).real
        found = process(u, y, float((found.weight * explained).sum()))
    return found


def _npy(file: Path) -> Sequences:
    name = repr(str(file))
    array = _load(file, name)
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or array.shape[-1] != 2:
        shape = getattr(array, "shape", None)
        raise InputError(f"{name} has the shape {shape}; write (time, 2) or (sequences, time, 2), input and output.")
    array = array[None] if array.ndim == 2 else array
    return sequences(array[..., :1], array[..., 1:], name)


def _npz(file: Path) -> Sequences | Spectra:
    name = repr(str(file))
    found = _load(file, name)
    keys = set(found.files) if hasattr(found, "files") else set()
    if {"u", "y"} <= keys:
        return sequences(_entry(found, "u", name), _entry(found, "y", name), name)
    if {"uu", "yu"} <= keys:
        yy = float(np.sum(_real(_entry(found, "yy", name), f"yy of {name}"))) if "yy" in keys else None
        return covariances(_entry(found, "uu", name), _entry(found, "yu", name), yy, name)
    raise InputError(f"{name} holds {', '.join(sorted(keys)) or 'nothing'}; it must hold u and y, or uu, yu and yy.")


def _load(file: Path, name: str) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{name} is no array that NumPy wrote, or holds objects instead of numbers: {error}."
        ) from error


def _entry(found: Any, key: str, name: str) -> Any:
    try:
        return found[key]
    except (ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{name}: {key} does not read as an array of numbers: {error}.") from error
