"""Derive, measure, judge: the main job.

The program that was derived is run in torch on a grid of widths with many seeds.  Effort goes where it is needed: in each
round the rows that have no verdict yet are measured again, at the widths that decide their slopes, until all are decided
or the budget is spent.  Every look at the data has its share of the family-wise error, so looking often is paid for.  A
row that disagrees is measured once more on fresh seeds before it is said.

Runs are independent per (width, seed) and go to a pool of threads, one torch thread each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scalecalc.derive import Model, interpret, resolve, table_of
from scalecalc.errors import InputError, MeasureError, ScalecalcError
from scalecalc.measure.assess import Claim, assess
from scalecalc.measure.contributions import Key, Plan, measure
from scalecalc.measure.interpret import Setting, elements
from scalecalc.measure.progress import Progress
from scalecalc.measure.samples import Samples
from scalecalc.measure.slopes import Cell
from scalecalc.scale import FREE, Regime
from scalecalc.table import Row, Table
from scalecalc.verdict import Judgement, confirm

FAMILY_ERROR = 1e-4
ROUNDS = (0.12, 0.2, 0.3, 0.38)  # shares of the budget, after the pilot
PILOT = 64
WITHIN_REACH = 20.0  # rows that would take more than so many times the seeds are left as they are after some rounds
CHUNK = 7_000_000  # numbers that one batch of seeds holds: enough to pay for the calls, not too many for the cache
TOLERANCE = {"weight": 0.05, "init": 0.05, "alignment": 0.05, "gradient": 0.1, "update": 0.1}
LARGEST_RUN = 0.5  # share of the free memory that the runs side by side may take


class Interrupted(ScalecalcError):
    """Stopped by the user; ``table`` holds every verdict that was reached."""

    exit_status = 130

    def __init__(self, table: Table):
        super().__init__("interrupted")
        self.table = table


@dataclass
class Run:
    """One verification under way: what is measured, how, and what has been found."""

    plan: Plan
    cells: tuple[dict[str, int], ...]
    seed: int
    budget: float
    tolerance: float | None
    device: str
    dtype: torch.dtype
    workers: int
    progress: Progress
    alpha: float
    samples: Samples
    judged: dict[Key, Judgement] = field(default_factory=dict[Key, Judgement])
    need: dict[Key, float] = field(default_factory=dict[Key, float])
    cost: dict[tuple[int, frozenset[Key]], float] = field(default_factory=dict[tuple[int, frozenset[Key]], float])

    def limit(self, row: Row) -> float:
        return TOLERANCE[row.kind] if self.tolerance is None else self.tolerance


def verify(
    model: str,
    *,
    parameterization: str | None = None,
    optimizer: str | None = None,
    regime: str = "free",
    dims: Mapping[str, Sequence[int]] | None = None,
    seeds: int | None = None,
    budget: float = 120.0,
    tolerance: float | None = None,
    loss: str = "linear",
    device: str = "cpu",
    dtype: str = "float64",
    seed: int = 0,
    resume: str | Path | None = None,
    progress: bool = False,
    **options: Any,
) -> Table:
    """Derive a model's table, measure every row at growing widths and judge it.

    Args:
        dims: widths per growing dim, at least two each; the model's own where none are given.
        seeds: a fixed number of seeds per width, instead of as many as the budget allows.
        budget: seconds to measure.
        tolerance: how far from the derived exponent still agrees; 0.05 for sizes at initialisation and alignments,
            0.1 for gradients and updates, unless given.
        resume: a file that keeps the samples; what it holds already is not measured again.

    Raises:
        InputError: unknown dim, fewer than two widths, a regime other than free, an unfit resume file.
        MeasureError: a width that does not fit into the memory.
        Interrupted: Ctrl-C; carries the table as far as it got.
    """
    start = time.perf_counter()
    if Regime.parse(regime) != FREE:
        raise InputError(f"verify measures how sizes grow in each dim by itself; leave out --regime {regime}.")
    resolved = resolve(model, parameterization=parameterization, optimizer=optimizer, loss=loss, options=options)
    table = replace(table_of(interpret(resolved, FREE, corrections=True)), command="verify")
    widths = _widths(resolved, dims)
    cells = grid(widths)
    run = Run(
        plan=Plan(resolved, table.rows),
        cells=cells,
        seed=seed,
        budget=budget,
        tolerance=tolerance,
        device=_device(device),
        dtype=getattr(torch, dtype),
        workers=max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1),
        progress=Progress(progress, budget),
        alpha=FAMILY_ERROR / (max(1, len(table.rows)) * len(widths) * (len(ROUNDS) + 2)),
        samples=Samples.open(resume, _identity(resolved, widths, seed, dtype)),
    )
    _check_memory(run)
    stopped = False
    with run.progress, _one_torch_thread():
        try:
            _rounds(run, seeds)
            _confirm(run)
        except KeyboardInterrupt:
            stopped = True
            _look(run, [r for r in run.plan.rows if r.key not in run.judged], final=True)
        run.samples.save()
    done = _filled(table, run, widths, time.perf_counter() - start)
    if stopped:
        raise Interrupted(done)
    return done


def _filled(table: Table, run: Run, widths: Mapping[str, Sequence[int]], seconds: float) -> Table:
    rows = tuple(
        row.with_measurement(found.slopes, found.verdict, found.settle)
        if (found := run.judged.get(row.key)) is not None
        else row
        for row in table.rows
    )
    options = {
        **table.options,
        "dims": {dim: list(ws) for dim, ws in widths.items()},
        "seed": run.seed,
        "budget": run.budget,
        "tolerance": run.tolerance,
        "seeds": {_cell_text(c): run.samples.count("first", k) for k, c in enumerate(run.cells)},
    }
    return replace(table, rows=rows, options=options, seconds=seconds)


def _cell_text(cell: Mapping[str, int]) -> str:
    return " ".join(f"{dim}={width}" for dim, width in cell.items())


def _widths(model: Model, dims: Mapping[str, Sequence[int]] | None) -> dict[str, list[int]]:
    known = model.program.dims
    for dim, widths in (dims or {}).items():
        if dim not in known:
            raise InputError(f"{model.name} has no growing dim {dim!r}; its dims: {', '.join(known)}.")
        if len(set(widths)) < 2:
            raise InputError(f"--dims {dim} needs at least two widths to measure a slope; got {list(widths)}.")
    return {dim: sorted(set((dims or {}).get(dim, model.widths[dim]))) for dim in known}


def grid(widths: Mapping[str, Sequence[int]]) -> tuple[dict[str, int], ...]:
    """Width settings: every combination below the diagonal, so that no setting is large in all dims at once.

    >>> len(grid({"N": [1, 2, 4]})), len(grid({"N": [1, 2, 4], "M": [1, 2, 4]}))
    (3, 6)
    """
    levels = [range(len(ws)) for ws in widths.values()]
    chosen = [
        level
        for level in product(*levels)
        if sum(i / (len(ws) - 1) for i, ws in zip(level, widths.values(), strict=True)) <= 1 + 1e-9
    ]
    return tuple({d: ws[i] for i, (d, ws) in zip(level, widths.items(), strict=True)} for level in chosen)


def _device(name: str) -> str:
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: torch cannot use it here ({str(error).splitlines()[0]}); use cpu.") from error
    return name


def _check_memory(run: Run) -> None:
    try:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return
    for cell in run.cells:
        need = 8 * 2 * elements(run.plan.model.program, cell) * run.workers
        if run.device == "cpu" and need > LARGEST_RUN * free:
            raise MeasureError(
                f"measuring at {_cell_text(cell)} would take about {need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are "
                "free; give smaller widths with --dims."
            )


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _identity(model: Model, widths: Mapping[str, Sequence[int]], seed: int, dtype: str) -> dict[str, Any]:
    """What samples in a resume file must have been drawn for."""
    return {
        "model": model.name,
        "parameterization": model.parameterization,
        "scalings": {w: [str(s.init), str(s.multiplier), str(s.lr)] for w, s in model.scalings.items()},
        "optimizer": model.optimizer,
        "loss": model.loss,
        "widths": {dim: list(ws) for dim, ws in widths.items()},
        "seed": seed,
        "dtype": dtype,
    }


# ------------------------------------------------------------------ effort


def _rounds(run: Run, seeds: int | None) -> None:
    rows = list(run.plan.rows)
    if seeds is not None:
        _draw(run, rows, dict.fromkeys(range(len(run.cells)), seeds), "first")
        _look(run, rows, final=True)
        return
    _draw(run, rows, dict.fromkeys(range(len(run.cells)), PILOT), "first")
    for number, share in enumerate(ROUNDS):
        rows = _look(run, rows, final=False)
        left = run.budget - run.progress.elapsed
        within_reach = [r for r in rows if number < _patience(r) or run.need[r.key] <= WITHIN_REACH]
        if not within_reach or left <= 0:
            break
        run.progress.say(f"{len(rows)} of {len(run.plan.rows)} rows undecided")
        part = left * share / sum(ROUNDS[number:])
        for group in _groups(within_reach):
            time_of = part * len(group) / len(within_reach)
            if group:
                _draw(run, group, _allocate(run, group, time_of), "first", time_of)
    _look(run, rows, final=True)


def _patience(row: Row) -> int:
    """Rounds for which a row is measured whatever it seems to take: several terms or orders seldom get nearer."""
    return 1 if len(row.terms) > 1 or len(row.tag) > 1 else 2


def _groups(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows of the forward pass alone, which is cheap, and the others."""
    forward = [r for r in rows if r.kind in ("weight", "init") or (r.kind == "alignment" and r.step == 0)]
    return forward, [r for r in rows if r not in forward]


def _look(run: Run, rows: Sequence[Row], final: bool) -> list[Row]:
    """Judge; returns the rows that are still open (only disagreement and agreement close a row before the end)."""
    still: list[Row] = []
    for row in rows:
        found = _judge(run, row, "first")
        if found is not None and (final or found.verdict != "inconclusive"):
            run.judged[row.key] = found
        if found is None or found.verdict == "inconclusive":
            still.append(row)
    return still


def _judge(run: Run, row: Row, stage: str) -> Judgement | None:
    """The verdict by the samples so far, None while a cell has none; notes how many times the seeds it would take."""
    cells = [
        Cell(cell, logs)
        for k, cell in enumerate(run.cells)
        if len(logs := run.samples.get(stage, k, row.key)) > 1
    ]
    if len(cells) < len(run.cells):
        return None
    claim = Claim(row.terms, row.subleading)
    judged, run.need[row.key] = assess(cells, claim, run.alpha, run.limit(row))
    return judged


def _confirm(run: Run) -> None:
    """Fresh seeds for every row that disagrees, as many as it was refuted with."""
    rows = [r for r in run.plan.rows if r.key in run.judged and run.judged[r.key].verdict == "disagrees"]
    if not rows:
        return
    run.progress.say(f"{len(rows)} rows disagree; again, on fresh seeds")
    counts = {k: max(len(run.samples.get("first", k, r.key)) for r in rows) for k in range(len(run.cells))}
    _draw(run, rows, counts, "again")
    for row in rows:
        again = _judge(run, row, "again")
        if again is not None:
            run.judged[row.key] = confirm(run.judged[row.key], again)


def _allocate(run: Run, rows: Sequence[Row], seconds: float) -> dict[int, int]:
    """Seeds per cell: proportional to leverage over the root of the cost (Neyman), filling the time."""
    x = np.array([[log(c[d]) for d in c] for c in run.cells])
    contrasts = np.linalg.pinv(np.hstack([np.ones((len(x), 1)), x]))[1:]
    leverage = np.sqrt((contrasts**2).sum(0))
    leverage = np.maximum(leverage, 0.2 * leverage.max())
    cost = np.array([_cost(run, rows, k) for k in range(len(run.cells))])
    share = leverage / np.sqrt(cost)
    counts = seconds * run.workers * share / (share @ cost)
    return {k: max(2, int(n)) for k, n in enumerate(counts)}


def _cost(run: Run, rows: Sequence[Row], k: int) -> float:
    """Seconds per seed of measuring these rows in a cell, by one small batch if it has not been timed yet."""
    key = (k, frozenset(r.key for r in rows))
    if key not in run.cost:
        size = _batch_size(run, k)
        began = time.perf_counter()
        measure(run.plan.only(rows), Setting(run.cells[k], size, 0, run.device, run.dtype))
        run.cost[key] = (time.perf_counter() - began) / size
    return run.cost[key]


def _batch_size(run: Run, k: int) -> int:
    return max(1, min(256, CHUNK // max(1, elements(run.plan.model.program, run.cells[k]))))


def _draw(run: Run, rows: Sequence[Row], counts: Mapping[int, int], stage: str, seconds: float | None = None) -> None:
    """Measure the rows with so many more seeds per cell, in batches; stops early when the time is up.

    Batches come in an order in which every cell advances alike, so that stopping early costs no cell all its seeds.
    """
    plan = run.plan.only(rows)
    jobs: list[tuple[float, int, int, int]] = []
    for k, count in counts.items():
        have = min((len(run.samples.get(stage, k, r.key)) for r in rows), default=0) if stage == "first" else 0
        wanted = count if seconds is not None else count - have
        size = _batch_size(run, k)
        first = run.samples.next_batch(stage, k)
        batches = -(-wanted // size) if wanted > 0 else 0
        if wanted > 0 and batches:
            size = -(-wanted // batches)
        jobs += [((b + 1) / batches, k, first + b, size) for b in range(batches)]
    jobs.sort()
    began = time.perf_counter()
    pool = ThreadPoolExecutor(run.workers)
    try:
        futures = {pool.submit(_batch, run, plan, k, batch, size, stage): k for _, k, batch, size in jobs}
        for future in as_completed(futures):
            if future.cancelled():
                continue
            k, batch, found = future.result()
            run.samples.add(stage, k, batch, found)
            run.progress.advance()
            if seconds is not None and time.perf_counter() - began > 1.3 * seconds:
                for other in futures:
                    other.cancel()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    run.samples.save()


def _batch(
    run: Run, plan: Plan, k: int, batch: int, size: int, stage: str
) -> tuple[int, int, dict[Key, np.ndarray]]:
    entropy = np.random.SeedSequence([run.seed, ("first", "again").index(stage), k, batch])
    setting = Setting(run.cells[k], size, int(entropy.generate_state(1, np.uint64)[0] >> 1), run.device, run.dtype)
    found = measure(plan, setting)
    return k, batch, {key: v.numpy() for key, v in found.items()}
