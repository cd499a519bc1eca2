"""Finished runs as curves: for each parameterization, group and setting of the widths, the loss against the rate.

A cell is one rate of a curve with all of its seeds.  What a cell can say:

- every run finished: its losses, and it can be the best;
- a run diverged: its expected loss is infinite, it cannot be the best, and it bounds the best from one side;
- a run was stopped as dominated: worse than another rate, but by an unknown amount.  The other seeds of the cell are then
  the luckier ones, so that their mean would be too low: the cell bounds, too, and is no part of a fit;
- runs that failed for another reason say nothing; a cell of nothing else is one that was never tried.

A run that claims to be done without a finite loss has diverged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scalecalc.errors import InputError
from scalecalc.transfer.records import Job

Setting = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Cell:
    """One rate: seed → final loss of the runs that finished, and how many ended otherwise."""

    rate: float
    losses: Mapping[int, float]
    diverged: int = 0
    dominated: int = 0
    failed: int = 0
    jobs: tuple[Job, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether its mean loss is one that can be compared."""
        return bool(self.losses) and not self.diverged and not self.dominated

    @property
    def bounds(self) -> bool:
        """Whether it is known to be worse than the best, without a number."""
        return self.diverged + self.dominated > 0

    @property
    def informative(self) -> int:
        """How many runs tell whether this rate is stable."""
        return len(self.losses) + self.diverged

    @property
    def mean(self) -> float:
        return sum(self.losses.values()) / len(self.losses) if self.losses else math.nan


@dataclass(frozen=True)
class Curve:
    """Loss against rate at one setting of the widths; cells by ascending rate."""

    parameterization: str
    group: str
    widths: Mapping[str, int]
    cells: tuple[Cell, ...]

    @property
    def fitting(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.fits)

    @property
    def seeds(self) -> int:
        """The most seeds that any rate has."""
        return max((len(cell.losses) for cell in self.cells), default=0)

    @property
    def words(self) -> str:
        """``N_u = 256, N_x = 16``."""
        return ", ".join(f"{dim} = {n}" for dim, n in self.widths.items())


@dataclass(frozen=True)
class Line:
    """Curves that differ in one dim only, narrowest first."""

    parameterization: str
    group: str
    dim: str
    others: Setting
    curves: tuple[Curve, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(curve.widths[self.dim] for curve in self.curves)


def finite(job: Job) -> bool:
    """Whether it finished with a loss that is a number."""
    return job.status == "done" and job.loss is not None and math.isfinite(job.loss)


def curves(jobs: Iterable[Job]) -> list[Curve]:
    """Every curve, in the order in which parameterizations and groups first appear, then by widths.

    Of two records of one run the one that says more counts: a run that was repeated after a failure.

    Raises:
        InputError: the jobs are of several sweeps, which cannot be compared.
    """
    listed = list(jobs)
    sweeps = {job.sweep for job in listed}
    if len(sweeps) > 1:
        raise InputError(
            f"these runs are of {len(sweeps)} sweeps ({', '.join(sorted(sweeps))}), whose models, data or steps differ; "
            "give those of one."
        )
    kept: dict[tuple[object, ...], Job] = {}
    for job in listed:
        key = (job.parameterization, job.group, tuple(sorted(job.dims.items())), job.log2_rate, job.seed)
        if key not in kept or kept[key].status == "failed":
            kept[key] = job
    found: dict[tuple[str, str], dict[Setting, dict[float, list[Job]]]] = {}
    for job in kept.values():
        settings = found.setdefault((job.parameterization, job.group), {})
        settings.setdefault(tuple(job.dims.items()), {}).setdefault(job.log2_rate, []).append(job)
    order = {name: i for i, name in enumerate(dict.fromkeys(job.parameterization for job in listed))}
    out: list[Curve] = []
    for (name, group), settings in sorted(found.items(), key=lambda item: (order[item[0][0]], item[0][1] != "", item[0][1])):
        for setting, rates in sorted(settings.items(), key=lambda item: tuple(n for _, n in item[0])):
            cells = tuple(_cell(rate, own) for rate, own in sorted(rates.items()))
            out.append(Curve(name, group, dict(setting), cells))
    return out


def _cell(rate: float, jobs: Sequence[Job]) -> Cell:
    ordered = sorted(jobs, key=lambda job: job.seed)
    losses = {job.seed: float(job.loss) for job in ordered if finite(job) and job.loss is not None}
    count = {status: sum(job.status == status for job in ordered) for status in ("dominated", "failed")}
    diverged = len(ordered) - len(losses) - count["dominated"] - count["failed"]
    return Cell(rate, losses, diverged, count["dominated"], count["failed"], tuple(ordered))


def lines(found: Sequence[Curve]) -> list[Line]:
    """Every line of two curves or more along one dim; a parameterization of one width only has none."""
    out: list[Line] = []
    for name, group in dict.fromkeys((curve.parameterization, curve.group) for curve in found):
        own = [curve for curve in found if (curve.parameterization, curve.group) == (name, group)]
        for dim in dict.fromkeys(dim for curve in own for dim in curve.widths):
            by_others: dict[Setting, list[Curve]] = {}
            for curve in own:
                if dim in curve.widths:
                    others = tuple((d, n) for d, n in curve.widths.items() if d != dim)
                    by_others.setdefault(others, []).append(curve)
            for others, along in sorted(by_others.items()):
                if len(along) > 1:
                    along.sort(key=lambda curve: curve.widths[dim])
                    out.append(Line(name, group, dim, others, tuple(along)))
    return out
