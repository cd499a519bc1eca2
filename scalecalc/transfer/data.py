"""What a model is trained on: text as bytes, the handwritten digits, arrays of the user's, a task with a known answer.

Text is never loaded as a whole: windows of bytes are read where they lie, from one file or from all files of a folder.  What
batch a step gets depends on the seed alone, so that runs at other widths and rates see the same data in the same order
(common random numbers: most of the noise between two rates cancels).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from scalecalc.errors import InputError

BYTES = 256
HELD_OUT = 10  # one in so many examples, or the last part of each file, is for validation
WHOLE = 1 << 24  # bytes of a file that its digest covers from either end


@dataclass(frozen=True)
class Examples:
    """Rows of features with a class each (integers), or with a vector to be regressed on (floats)."""

    x: np.ndarray
    y: np.ndarray

    @property
    def features(self) -> int:
        return self.x.shape[1]

    @property
    def outputs(self) -> int:
        return int(self.y.max()) + 1 if self.y.dtype.kind in "iu" else self.y.shape[1]

    def batches(self, seed: int, batch: int, length: int = 0, valid: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Drawn without replacement, epoch by epoch."""
        rng = np.random.default_rng([seed, valid])
        every = np.arange(len(self.x))
        own = every[(every % HELD_OUT == 0) == valid]
        batch = min(batch, len(own))
        while True:
            order = rng.permutation(own)
            for i in range(0, len(order) - batch + 1, batch):
                rows = order[i : i + batch]
                yield self.x[rows], self.y[rows]


@dataclass(frozen=True)
class Text:
    """Bytes of files that lie one behind the other, or of one text that is in memory."""

    files: tuple[Path, ...]
    sizes: tuple[int, ...]
    text: bytes = b""

    features = outputs = BYTES

    def batches(self, seed: int, batch: int, length: int, valid: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Windows of bytes at random places, and the bytes that follow each: (batch, length) both."""
        rng = np.random.default_rng([seed, valid])
        spans = [_span(size, valid) for size in self.sizes]
        room = np.array([max(stop - start - length, 0) for start, stop in spans])
        if not room.sum():
            raise InputError(f"the text is too short for windows of {length} bytes; give more, or a smaller --length.")
        ends = np.cumsum(room)
        # as a memory map: the operating system reads what is asked for and no more
        maps = [np.memmap(f, np.uint8, "r") if f.stat().st_size else None for f in self.files]
        maps = maps or [np.frombuffer(self.text, np.uint8)]
        while True:
            drawn = rng.integers(0, ends[-1], batch)
            which = np.searchsorted(ends, drawn, side="right")
            starts = drawn - (ends - room)[which] + np.array([spans[i][0] for i in which])
            pieces = [cast("np.ndarray", maps[i])[s : s + length + 1] for i, s in zip(which, starts, strict=True)]
            rows = np.stack(pieces).astype(np.int64)
            yield rows[:, :-1], rows[:, 1:]


def _span(size: int, valid: bool) -> tuple[int, int]:
    cut = size - size // HELD_OUT
    return (cut, size) if valid else (0, cut)


Data = Examples | Text


def read(name: str, kind: str) -> tuple[Data, str]:
    """The data of that name, and its digest.

    Args:
        name: a file or a folder; ``digits``; ``teacher``; "" for what goes with the kind.
        kind: what the model reads, ``text`` or ``examples``.

    Raises:
        InputError: there is no such file, it is of another kind, or a package is missing.
    """
    if kind == "text":
        if not name:
            return (data := _topics()), hashlib.sha256(data.text).hexdigest()[:20]
        files = _files(name)
        data = Text(files, tuple(f.stat().st_size for f in files))
        return data, _text_digest(data)
    if name in ("", "digits"):
        return _digits(), "digits"
    if name == "teacher":
        return _teacher(), "teacher"
    return _arrays(Path(name))


def _files(name: str) -> tuple[Path, ...]:
    path = Path(name)
    if path.is_file():
        files = (path,)
    elif path.is_dir():
        files = tuple(sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith(".")))
    else:
        raise InputError(f"there is no file or folder {name!r} with text to train on (--data).")
    if not any(f.stat().st_size for f in files):
        raise InputError(f"--data {name}: there is no text in it.")
    return tuple(f.resolve() for f in files)


@cache
def _topics() -> Text:
    """The topics of Python's ``help()``, some 500 kB of English with code, which ship as a module."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[key] for key in sorted(topics)).encode()
    return Text((), (len(text),), text)


def _text_digest(data: Text) -> str:
    """Of sizes and contents; of a large file its beginning and its end."""
    out = hashlib.sha256()
    for file, size in zip(data.files, data.sizes, strict=True):
        out.update(f"{size} ".encode())
        with file.open("rb") as stream:
            out.update(stream.read(WHOLE))
            if size > 2 * WHOLE:
                stream.seek(-WHOLE, 2)
            out.update(stream.read(WHOLE))
    return out.hexdigest()[:20]


@cache
def _digits() -> Examples:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError("--data digits needs scikit-learn: pip install scikit-learn.") from error
    found: Any = load_digits()
    x = found.data.astype(np.float32) / 16.0
    return Examples((x - x.mean()) / x.std(), found.target.astype(np.int64))


@cache
def _teacher(features: int = 16, outputs: int = 4, rows: int = 4096) -> Examples:
    """A linear teacher without noise: the least loss is zero, and what reaches it is known."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, features)).astype(np.float32)
    return Examples(x, (x @ rng.standard_normal((features, outputs)) / features**0.5).astype(np.float32))


def _arrays(path: Path) -> tuple[Examples, str]:
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r} (--data); or name digits or teacher.")
    try:
        with np.load(path) as found:
            x, y = np.asarray(found["x"], np.float32), np.asarray(found["y"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"--data {path}: no .npz file with the arrays x (rows × features) and y ({error}).") from error
    if x.ndim != 2 or len(x) != len(y) or len(x) < 2 * HELD_OUT:
        raise InputError(f"--data {path}: x is {x.shape}, y {y.shape}; x has a row per example, y as many, at least 20.")
    y = y.astype(np.int64) if y.dtype.kind in "iu" else y.astype(np.float32).reshape(len(y), -1)
    return Examples(x, y), hashlib.sha256(path.read_bytes()).hexdigest()[:20]
