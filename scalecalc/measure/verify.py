"""Derive, measure, judge: the main job.

The program that was derived is run in torch at growing widths with many seeds, as the regime wants it (paths.py), with
effort where it is needed (effort.py), and every row gets a verdict with what would settle it if nothing has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scalecalc import duration
from scalecalc.crossover import crossovers, unless_a_minimum, unless_too_narrow
from scalecalc.derive import Derivation, Model, interpret, notes, resolve, table_of
from scalecalc.errors import InputError, MeasureError, ScalecalcError, UnsupportedScale
from scalecalc.measure.again import confirm_all, excuse_second_orders
from scalecalc.measure.contributions import Key, Plan
from scalecalc.measure.effort import (
    LARGEST_RUN,
    LOOKS,
    Run,
    cell_text,
    free_memory,
    look,
    memory,
    rounds,
)  # fmt: skip
from scalecalc.measure.paths import Frame, defaults
from scalecalc.measure.prefactors import Elsewhere, elsewhere
from scalecalc.measure.progress import Progress
from scalecalc.measure.samples import Samples
from scalecalc.measure.slopes import point
from scalecalc.measure.threads import one_torch_thread
from scalecalc.measure.ways import ByWay, by_way
from scalecalc.model import TorchModule
from scalecalc.parameterization import Parameterization
from scalecalc.published import contradicted
from scalecalc.rows import notes as later_notes
from scalecalc.saturation import saturating, slowest
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.table import Point, Row, Table
from scalecalc.verdict import Judgement

FAMILY_ERROR = 1e-4
MEASURED_ORDER = 2
BUDGETS = (15, 30, 60, 120, 240, 600, 1200, 3600)  # that a row's hint rounds up to


class Interrupted(ScalecalcError):
    """Stopped by the user; ``table`` holds every verdict that was reached."""

    exit_status = 130

    def __init__(self, table: Table):
        super().__init__("interrupted")
        self.table = table


def verify(
    model: str | TorchModule,
    *,
    parameterization: str | Parameterization | None = None,
    optimizer: str | None = None,
    steps: int = 1,
    regime: str = "free",
    dims: Mapping[str, Sequence[int]] | None = None,
    seeds: int | None = None,
    budget: float = 120.0,
    tolerance: float | None = None,
    loss: str = "linear",
    fix: Mapping[str, int] | None = None,
    device: str = "cpu",
    dtype: str = "float64",
    seed: int = 0,
    resume: str | Path | None = None,
    progress: bool = False,
    derived: Callable[[Table], None] | None = None,
    **options: Any,
) -> Table:
    """Derive a model's table, measure every row at growing widths and judge it.

    Args:
        steps: optimizer steps, see :func:`scalecalc.derive.derive`; contributions of three updates are not measured.
        dims: widths per growing dim, at least two each; the model's own where none are given.
        fix: widths of dims held fixed.
        seeds: a fixed number of seeds per width, instead of as many as the budget allows.
        budget: seconds to measure.
        tolerance: how far from the derived exponent still agrees; 0.05 for sizes at initialisation and alignments,
            0.1 for gradients and updates, unless given.
        regime: how the dims grow against each other; measured as scalecalc.measure.paths says.
        resume: a file that keeps the samples; what it holds already is not measured again.
        derived: is called with the table as it was derived, before anything is measured.

    Raises:
        InputError: unknown dim, fewer than two widths, an unknown regime, an unfit resume file.
        MeasureError: a width that does not fit into the memory.
        Interrupted: Ctrl-C; carries the table as far as it got.
    """
    start = time.perf_counter()
    resolved = resolve(
        model, parameterization=parameterization, optimizer=optimizer, loss=loss, options=options, fix=fix, regime=regime
    )
    duration.check_measured(resolved.program)
    asked = Regime.parse(regime, resolved.program.dims)
    found = interpret(resolved, asked, corrections=True, steps=steps)
    table = replace(table_of(found), command="verify")
    if derived is not None:
        derived(table)
    # (a regime may be what lets blocks of three dims be derived at all; it is its own table then)
    free = table if asked == FREE or resolved.program.loops else _free(resolved, steps)
    frame = Frame(asked, _widths(resolved, asked, dims))
    same = {row.key: row for row in free}
    measured = tuple(row for row in table.rows if len(row.tag) <= MEASURED_ORDER)
    routes = {row.key: frame.paths(row) for row in measured}
    tests = sum(1 + len(r or ()) for r in routes.values()) * len(frame.dims) * LOOKS
    plan = Plan(resolved, measured)
    slow = _slow(found, plan, frame)
    run = Run(
        plan=plan,
        frame=frame,
        claims={row.key: replace(frame.claim(row, same.get(row.key)), slow=slow.get(row.key, {})) for row in measured},
        routes=routes,
        seed=seed,
        budget=budget,
        tolerance=tolerance,
        device=_device(device),
        dtype=getattr(torch, dtype),
        progress=Progress(progress, budget),
        samples=Samples.open(resume, _identity(resolved, frame.widths, seed, dtype)),
        alpha=FAMILY_ERROR / max(1, tests),
        workers=max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1),
        cells=list(frame.settings()),
        common=len(frame.settings()),
    )
    _check_memory(run)
    stopped, others = False, dict[Key, ByWay | Elsewhere]()
    with run.progress, one_torch_thread(), full_precision():
        try:
            rounds(run, seeds)
            confirm_all(run)
            others |= by_way(run)
            others |= elsewhere(run)
            if found.algebra.margin == Scale.one():
                excuse_second_orders(run)
        except KeyboardInterrupt:
            stopped = True
            look(run, [r for r in run.plan.rows if r.key not in run.judged], final=True)
        run.samples.save()
    done = _filled(table, run, others, seeds, time.perf_counter() - start, later_notes(found))
    if stopped:
        raise Interrupted(done)
    return done


def _slow(found: Derivation, plan: Plan, frame: Frame) -> dict[Key, dict[str, float]]:
    """Row → the dims in which its corrections fall slowly, since a function that it rests on saturates (saturation.py)."""
    out: dict[Key, dict[str, float]] = {}
    for i, sizes in saturating(found).items():
        after, powers = plan.model.program.after(i), slowest([frame.project(s) for s in sizes], frame.dims)
        for row in plan.rows if powers else ():
            if plan.rests_on(row) & after:
                own = out.setdefault(row.key, {})
                own.update((dim, min(power, own.get(dim, power))) for dim, power in powers.items())
    return out


def _free(model: Model, steps: int) -> tuple[Row, ...] | Table:
    """The table however the dims grow, where there is one: it knows of more corrections than that of a regime."""
    try:
        return table_of(interpret(model, FREE, corrections=True, steps=steps))
    except UnsupportedScale:
        return ()


def _filled(
    table: Table, run: Run, others: Mapping[Key, ByWay | Elsewhere], seeds: int | None, seconds: float, later: Sequence[str]
) -> Table:
    program, widths = run.plan.model.program, run.frame.widths
    late = [c for c in crossovers(program, widths) if c.note(widths[c.dim])]
    hints = dict[Key, int | None]()
    rows: list[Row] = []
    for row in table.rows:
        found = run.judged.get(row.key)
        if found is not None:
            settle, hints[row.key] = _settle(run, row, found, seeds)
            row = unless_a_minimum(row.with_measurement(found.slopes, found.verdict, settle, _points(run, row, others)))
            for c in reversed(late):
                if run.plan.rests_on(row) & program.after(c.position):
                    row = unless_too_narrow(row, c.note(widths[c.dim]), c.excused(widths[c.dim]))
        rows.append(row)
    options = {
        **table.options,
        "dims": {dim: list(ws) for dim, ws in run.frame.widths.items()},
        "seed": run.seed,
        "budget": run.budget,
        "tolerance": run.tolerance,
        "seeds": {cell_text(c): n for c in run.cells if (n := run.samples.count("first", cell_text(c)))},
    }
    wanted = [budget for budget in hints.values() if budget is not None]
    settled = "1 row" if len(wanted) == 1 else f"{len(wanted)} rows"
    more = [f"{settled} may be settled by --budget {max(wanted)}, or less."] if wanted else []
    done = replace(table, rows=tuple(rows), options=options, seconds=seconds)
    hidden = [row for row in rows if row.key in others]
    moved = [f"{row.label}: measured {others[row.key]}; else a smaller term hides it." for row in hidden]
    return replace(done, notes=(*notes(run.plan.model, widths), *later, *contradicted(done), *moved, *more))


def _points(run: Run, row: Row, others: Mapping[Key, ByWay | Elsewhere]) -> list[Point]:
    """Per setting that has them, the mean and the error of a row's samples, those left out that have no logarithm."""
    if row.key in others:
        return [*others[row.key].points]
    out: list[Point] = []
    for k, cell in enumerate(run.cells):
        logs = run.get("first", k, row.key)
        logs = logs[np.isfinite(logs)]
        if len(logs) > 1:
            out.append(point(cell, logs))
    return out


def _settle(run: Run, row: Row, found: Judgement, seeds: int | None) -> tuple[str, int | None]:
    """What a row that does not agree misses, or one sentence on what would settle it; and a budget that might."""
    doubt = found.doubt
    if found.verdict != "inconclusive" or doubt is None:
        return found.settle, None
    limit = run.limit(row)
    power = any(s.low > limit or s.high < -limit for s in found.slopes.values())
    note = " Excludes Θ(1)." if power else ""
    budget = next((b for b in BUDGETS if b >= max(1.5, doubt.times) * run.budget), None)
    if seeds is not None and len(row.terms) > 1 and run.routes[row.key]:
        return f"{doubt.reason}: --budget 240 instead of --seeds, which keeps to the widths of all rows.{note}", None
    if seeds is not None and doubt.times <= BUDGETS[-1]:
        return f"{doubt.reason}: --seeds {int(seeds * max(1.5, doubt.times)) + 1}.{note}", None
    if budget is not None:
        return f"{doubt.reason}: --budget {budget}.{note}", budget
    reached = {
        d: max(c[d] for c in run.cells if run.samples.has("first", cell_text(c), row.key))
        for d in (doubt.wider or run.frame.widths)
        if d in run.frame.widths
    }
    widths = " and ".join(f"{d} up to {4 * n}" for d, n in reached.items())
    return f"{doubt.reason}: widths of {widths}.{note}", None


def _widths(model: Model, regime: Regime, dims: Mapping[str, Sequence[int]] | None) -> dict[str, list[int]]:
    known = model.program.dims
    for dim, widths in (dims or {}).items():
        if dim in model.fix:
            raise InputError(f"{dim} is held at {model.fix[dim]} by --fix; give it widths with --dims, or hold it, not both.")
        if dim not in known:
            raise InputError(f"{model.name} has no growing dim {dim!r}; its dims: {', '.join(known)}.")
        if len(set(widths)) < 2:
            raise InputError(f"--dims {dim} needs at least two widths to measure a slope; got {list(widths)}.")
    usual = defaults(regime, {dim: model.widths[dim] for dim in known})
    return {dim: sorted(set((dims or {}).get(dim, usual[dim]))) for dim in known}


def _device(name: str) -> str:
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: torch cannot use it here ({str(error).splitlines()[0]}); use cpu.") from error
    return name


def _check_memory(run: Run) -> None:
    for cell in run.cells:
        need, free = memory(run, cell), free_memory(run.device)
        if need > LARGEST_RUN * free:
            raise MeasureError(
                f"measuring at {cell_text(cell)} would take about {need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are "
                "free; give smaller widths with --dims."
            )


@contextmanager
def full_precision() -> Generator[None]:
    """Products on a GPU in the precision asked for: TF32, which keeps ten bits, is off meanwhile."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [s.allow_tf32 for s in switches]
    try:
        for s in switches:
            s.allow_tf32 = False
        yield
    finally:
        for s, was in zip(switches, before, strict=True):
            s.allow_tf32 = was


def _identity(model: Model, widths: Mapping[str, Sequence[int]], seed: int, dtype: str) -> dict[str, Any]:
    """What samples in a resume file must have been drawn for."""
    return {
        "model": model.name,
        "parameterization": model.parameterization,
        "scalings": {
            w: [None if x is None else str(x) for x in (s.init, s.multiplier, s.lr, s.weight_decay, s.epsilon)]
            for w, s in model.scalings.items()
        },
        "optimizer": model.optimizer,
        "loss": model.loss,
        **({"fix": dict(model.fix)} if model.fix else {}),
        "widths": {dim: list(ws) for dim, ws in widths.items()},
        "seed": seed,
        "dtype": dtype,
    }
