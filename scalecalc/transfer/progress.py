"""What is going on: a bar with an estimate of what is left on a terminal, a line per finished run in a log."""

from __future__ import annotations

import math
import sys
from typing import Any

import click

from scalecalc.transfer.cost import Estimate
from scalecalc.transfer.records import Job


class Progress:
    """On standard error.  A context manager."""

    def __init__(self, shown: bool):
        self.shown, self._bar, self._task, self._of, self._ended = shown, None, None, 0, 0

    def __enter__(self) -> Progress:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, of: int, ended: int) -> None:
        """A stage with so many jobs, of which some have ended before."""
        self._of, self._ended = of, ended
        if self._bar is not None:
            self._task = self._bar.add_task("", total=of, completed=ended)

    def said(self, job: Job, estimate: Estimate) -> None:
        """A job has ended."""
        self._ended += 1
        text = f"{words(job)}; about {duration(estimate.left)} left"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._ended, description=text)
        elif self.shown:
            click.echo(f"[{self._ended}/{self._of}] {text}", err=True)


def words(job: Job) -> str:
    widths = " ".join(f"{dim}={width}" for dim, width in job.dims.items())
    group = f" {job.group}" if job.group else ""
    came = f"loss {job.loss:.4g}" if job.loss is not None else f"{job.status}: {job.why}"
    return f"{job.parameterization} {widths}{group} rate 2^{job.log2_rate:g} seed {job.seed} {came} in {job.seconds:.1f} s"


def duration(seconds: float) -> str:
    """``42 s``, ``7 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
