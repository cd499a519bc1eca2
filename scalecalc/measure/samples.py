"""The samples of one verification, in memory and, if asked for, in a file that a later run resumes from."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalecalc.errors import InputError
from scalecalc.measure.contributions import Key

Array = NDArray[np.float64]


@dataclass
class Samples:
    """Logarithms per seed, by stage (``first`` or ``again``, the fresh seeds), cell and row."""

    identity: Mapping[str, Any]
    file: Path | None = None
    found: dict[tuple[str, str, Key], list[Array]] = field(default_factory=dict[tuple[str, str, Key], list[Array]])
    batches: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    @staticmethod
    def open(file: str | Path | None, identity: Mapping[str, Any]) -> Samples:
        """Empty, or what a file holds.

        Raises:
            InputError: the file is no such file, or belongs to another model, parameterization, seed or set of widths.
        """
        samples = Samples(identity, Path(file) if file is not None else None)
        if samples.file is None or not samples.file.exists() or samples.file.stat().st_size == 0:
            return samples
        try:
            with np.load(samples.file, allow_pickle=False) as stored:
                head = json.loads(str(stored["head"]))
                arrays = {name: stored[name] for name in stored.files if name != "head"}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"--resume {file}: this is no file of samples; name another one.") from error
        differing = [key for key in identity if head["identity"].get(key) != json.loads(json.dumps(identity[key]))]
        if differing:
            raise InputError(
                f"--resume {file} holds samples of another run (it differs in {', '.join(differing)}); name another file."
            )
        for position, (stage, cell, row, kind, step, tag) in enumerate(head["rows"]):
            samples.found[stage, cell, (row, kind, step, tuple(tag))] = [arrays[f"a{position}"]]
        samples.batches = {(stage, cell): count for stage, cell, count in head["batches"]}
        return samples

    def get(self, stage: str, cell: str, key: Key) -> Array:
        parts = self.found.get((stage, cell, key), [])
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        return parts[0] if parts else np.empty(0)

    def add(self, stage: str, cell: str, batch: int, found: Mapping[Key, Array]) -> None:
        for key, logs in found.items():
            self.found.setdefault((stage, cell, key), []).append(logs)
        self.batches[stage, cell] = max(self.batches.get((stage, cell), 0), batch + 1)

    def next_batch(self, stage: str, cell: str) -> int:
        """The number of the next batch of seeds: no batch is ever drawn twice."""
        return self.batches.get((stage, cell), 0)

    def count(self, stage: str, cell: str) -> int:
        """The most seeds that any row has in a cell."""
        return max((sum(map(len, v)) for (s, c, _), v in self.found.items() if s == stage and c == cell), default=0)

    def has(self, stage: str, cell: str, key: Key) -> bool:
        return bool(self.found.get((stage, cell, key)))

    def save(self) -> None:
        """Write everything to the file, if there is one; the old file stays until the new one is whole."""
        if self.file is None:
            return
        keys = list(self.found)
        rows = [[stage, cell, *key[:3], list(key[3])] for stage, cell, key in keys]
        head = {"identity": dict(self.identity), "rows": rows, "batches": [[*k, n] for k, n in self.batches.items()]}
        part = self.file.with_name(self.file.name + ".part")
        arrays = {f"a{i}": self.get(*key) for i, key in enumerate(keys)}
        with part.open("wb") as out:
            np.savez_compressed(out, head=np.array(json.dumps(head)), **arrays)
        part.replace(self.file)
