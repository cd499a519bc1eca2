"""A progress bar on standard error while measuring; silent where nobody looks."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """Time spent against the budget, and what is going on.  A context manager."""

    def __init__(self, shown: bool, budget: float):
        self.budget, self._began, self._bar, self._task = budget, time.perf_counter(), None, None
        self._shown = shown and sys.stderr.isatty()

    def __enter__(self) -> Progress:
        self._began = time.perf_counter()
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("measuring", total=self.budget)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._began

    def say(self, text: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text)

    def advance(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=min(self.budget, self.elapsed))
