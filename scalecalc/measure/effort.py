"""Effort goes where it is needed: rounds of measuring and judging, until all rows are decided or the budget is spent.

In each round the rows that have no verdict yet are measured again, at the settings that decide their slopes.  Every look
at the data has its share of the family-wise error, so looking often is paid for.  Rows that the common settings cannot
decide (several terms, a correction that hides the leading one) go on along paths of their own, where the other rows are
not measured.  A row that disagrees is measured once more before it is said (again.py).

Runs are independent per (setting, seed) and go to a pool of threads, one torch thread each.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from math import log

import numpy as np
import torch

from scalecalc.measure.assess import Claim, assess
from scalecalc.measure.contributions import Key, Plan, measure
from scalecalc.measure.interpret import Setting, elements
from scalecalc.measure.paths import Frame, Path, along
from scalecalc.measure.progress import Progress
from scalecalc.measure.samples import Samples
from scalecalc.measure.slopes import Cell
from scalecalc.table import Row
from scalecalc.verdict import Doubt, Judgement, combine

ROUNDS = (0.12, 0.2, 0.3, 0.38)  # shares of the budget, after the pilot
LOOKS = len(ROUNDS) + 2  # at the data of one row, the last one and the one on fresh seeds included
PILOT, LEAST = 64, 32  # seeds of the first look, as many of them as its share of the budget pays for
PILOT_SHARE = 0.25
SPARE = (3.0, 1.5)  # times the time that is left, in the first round and later: rows that take more are left as they are
SHORT = 0.03  # seconds that such a batch has to take, or a larger one is timed
TRIAL = 32  # seeds of the batch, at most, by which it is timed what measuring some rows in a cell takes
WITHIN_REACH = 20.0  # rows that would take more than so many times the seeds are left as they are after some rounds
CHUNK = 7_000_000  # numbers that one batch of seeds holds: enough to pay for the calls, not too many for the cache
TOLERANCE = {"weight": 0.05, "init": 0.05, "alignment": 0.05, "gradient": 0.1, "update": 0.1}
LARGEST_RUN = 0.5  # share of the free memory that the runs side by side may take
ON_PATHS = 0.25  # share of a round's time that goes to paths while seeds still settle other rows
PATH_SEEDS = 150  # a path goes no further than where a third of its time pays for so many seeds
LONGEST = 16  # doublings of a path
STAGES = ("first", "again", "prefactors", "ways")  # each draws numbers of its own
FEWEST = 16  # seeds of a path's setting from which it counts: one with two, where time ran out, makes every interval infinite


@dataclass
class Run:
    """One verification under way: what is measured, how, and what has been found.

    Args:
        frame: the regime's settings and slopes.
        claims: what is held against a row's settings; ``routes`` the paths of a row, None where a term leads nowhere.
        cells: every setting measured; the first ``common`` ones are those of all rows, the others belong to paths.
        need: about how many times the seeds a verdict would take.
        walked: the places of a path's settings among the cells; ``reach`` how many doublings long it is.
        closed, stuck: paths of rows that agree there, and those that more seeds would not make agree.
    seen: per row and stage, the samples that it was judged by and what came out: judging takes as long as measuring.
    """

    plan: Plan
    frame: Frame
    claims: Mapping[Key, Claim]
    routes: Mapping[Key, tuple[Path, ...] | None]
    seed: int
    budget: float
    tolerance: float | None
    device: str
    dtype: torch.dtype
    progress: Progress
    samples: Samples
    alpha: float
    workers: int = 1
    cells: list[dict[str, int]] = field(default_factory=list[dict[str, int]])
    common: int = 0
    walked: dict[tuple[str, ...], tuple[int, ...]] = field(default_factory=dict[tuple[str, ...], tuple[int, ...]])
    reach: dict[tuple[str, ...], int] = field(default_factory=dict[tuple[str, ...], int])
    stuck: set[tuple[Key, tuple[str, ...]]] = field(default_factory=set[tuple[Key, tuple[str, ...]]])
    judged: dict[Key, Judgement] = field(default_factory=dict[Key, Judgement])
    need: dict[Key, float] = field(default_factory=dict[Key, float])
    closed: set[tuple[Key, tuple[str, ...]]] = field(default_factory=set[tuple[Key, tuple[str, ...]]])
    seen: dict[tuple[Key, str], tuple[object, Judgement | None]] = field(
        default_factory=dict[tuple[Key, str], tuple[object, Judgement | None]]
    )
    cost: dict[tuple[int, frozenset[Key]], float] = field(default_factory=dict[tuple[int, frozenset[Key]], float])

    def limit(self, row: Row) -> float:
        return TOLERANCE[row.kind] if self.tolerance is None else self.tolerance

    def name(self, k: int) -> str:
        return cell_text(self.cells[k])

    def get(self, stage: str, k: int, key: Key) -> np.ndarray:
        return self.samples.get(stage, self.name(k), key)


def cell_text(cell: Mapping[str, int]) -> str:
    return " ".join(f"{dim}={width}" for dim, width in cell.items())


def free_memory(device: str = "cpu") -> float:
    """Bytes of a device; infinite where the system does not tell."""
    on = torch.device(device)
    if on.type == "cuda":
        return torch.cuda.mem_get_info(on)[0]
    if on.type != "cpu":
        return math.inf
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return math.inf


def memory(run: Run, cell: Mapping[str, int]) -> float:
    """Bytes that measuring at a setting takes, on all workers at once."""
    return 8 * 2 * run.plan.held(Setting(cell, 1, 0, run.device)) * run.workers


# ------------------------------------------------------------------ rounds


def rounds(run: Run, seeds: int | None) -> None:
    """Measure and judge all rows, with as many seeds per setting as are given or as the budget allows."""
    rows = list(run.plan.rows)
    common = dict.fromkeys(range(run.common), seeds or _pilot(run))
    draw(run, rows, common, "first")
    if seeds is not None:
        look(run, rows, final=True)
        return
    for number, share in enumerate(ROUNDS):
        rows = look(run, rows, final=False)
        left = run.budget - run.progress.elapsed
        on_paths = [r for r in rows if number and _walks(run, r)]
        on_grid = _on_grid(run, [r for r in rows if r not in on_paths], number, left)
        if left <= 0 or not (on_paths or on_grid):
            break
        run.progress.say(f"{len(rows)} of {len(run.plan.rows)} rows undecided")
        part = left * share / sum(ROUNDS[number:])
        walking = part * (ON_PATHS if on_grid else 1) if on_paths else 0.0
        for group in _groups(on_grid):
            time_of = (part - walking) * len(group) / len(on_grid) if group else 0.0
            if group:
                draw(run, group, _allocate(run, group, range(run.common), time_of), "first", time_of)
        _walk(run, on_paths, walking, left * (ON_PATHS if on_grid else 1))
    look(run, rows, final=True)


def _pilot(run: Run) -> int:
    """Seeds per common setting for the first look."""
    each = sum(_cost(run, run.plan.rows, k) for k in range(run.common)) / run.workers
    return max(LEAST, min(PILOT, int(PILOT_SHARE * run.budget / each)))


def _on_grid(run: Run, rows: Sequence[Row], number: int, seconds: float) -> list[Row]:
    """The rows that more seeds at the common settings may decide in the time that is left.

    Measuring rows that need more keeps those from being decided that need less.  What a row needs is known roughly, and
    better after a round, so that the first one goes to those that need a few times as much as can be had.
    """
    rows = [r for r in rows if number < _patience(r) or run.need[r.key] <= WITHIN_REACH]
    if not rows:
        return []

    def takes(row: Row) -> float:
        """Seconds until it is decided, with the least rows beside it that have been measured with it."""
        whole = 0.0
        for k in range(run.common):
            known = [cost for (j, keys), cost in run.cost.items() if j == k and row.key in keys]
            whole += min(known, default=0.0) * len(run.get("first", k, row.key))
        return (run.need[row.key] - 1) * whole / run.workers

    least = {r.key: takes(r) for r in rows}
    return [r for r in rows if least[r.key] <= SPARE[min(number, 1)] * seconds] or [min(rows, key=lambda r: least[r.key])]


def _patience(row: Row) -> int:
    """Rounds for which a row is measured whatever it seems to take: several terms or orders seldom get nearer."""
    return 1 if len(row.terms) > 1 or len(row.tag) > 1 else 2


def _groups(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows of the forward pass alone, which is cheap, and the others."""
    forward = [r for r in rows if r.kind in ("weight", "init") or (r.kind == "alignment" and r.step == 0)]
    return forward, [r for r in rows if r not in forward]


def _walks(run: Run, row: Row) -> bool:
    """Does a row go on along its paths?  If it has several terms, or if seeds do not help it where it is."""
    return bool(run.routes[row.key]) and (len(row.terms) > 1 or run.need[row.key] > WITHIN_REACH or len(row.tag) > 1)


def _walk(run: Run, rows: Sequence[Row], seconds: float, ahead: float) -> None:
    """Measure rows along those of their paths that do not agree yet."""
    by_path: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        for path in run.routes[row.key] or ():
            if (row.key, path.grows) not in run.closed:
                by_path.setdefault(path.grows, []).append(row)
    for grows, group in by_path.items():
        time_of = seconds / len(by_path)
        if grows not in run.walked or any((row.key, grows) in run.stuck for row in group):
            laid = _lay(run, group, grows, ahead / len(by_path))
            if laid is None:
                continue
            run.walked[grows] = laid
        draw(run, group, _allocate(run, group, run.walked[grows], time_of), "first", time_of)


def _lay(run: Run, rows: Sequence[Row], grows: tuple[str, ...], seconds: float) -> tuple[int, ...] | None:
    """Choose how far a path goes, by memory and by what a seed takes; returns its settings' places among the cells.

    None where the time does not pay for :data:`LEAST` seeds on the shortest path.

    A path on which seeds no longer help goes on to twice the widths if they can be had for a third as many seeds: a
    setting with a handful of them would only make the interval wide.
    """
    program, free = run.plan.model.program, free_memory(run.device)
    largest = max(range(run.common), key=lambda k: elements(program, run.cells[k]))
    rate = _cost(run, rows, largest) / elements(program, run.cells[largest])

    def affordable(cell: Mapping[str, int], seeds: float = PATH_SEEDS) -> bool:
        return rate * elements(program, cell) * seeds / run.workers <= seconds / 3

    def fits(cell: Mapping[str, int]) -> bool:
        return memory(run, cell) <= LARGEST_RUN * free

    before, last = run.reach.get(grows, 0), 2
    shortest = sum(rate * elements(program, cell) for cell in along(grows, run.frame.widths, last))
    if not before and shortest * LEAST / run.workers > seconds:
        return None
    while last < LONGEST:
        cells = along(grows, run.frame.widths, last + 1)
        if not all(map(fits, cells)) or not all(affordable(c, PATH_SEEDS / (3 if last <= before else 1)) for c in cells):
            break
        last += 1
    run.reach[grows] = last = max(before, last)
    out: list[int] = []
    for cell in along(grows, run.frame.widths, last):
        if cell not in run.cells:
            run.cells.append(cell)
        out.append(run.cells.index(cell))
    return tuple(out)


# ------------------------------------------------------------------ judging


def look(run: Run, rows: Iterable[Row], final: bool) -> list[Row]:
    """Judge; returns the rows that are still open (only disagreement and agreement close a row before the end)."""
    still: list[Row] = []
    for row in rows:
        found = _judge(run, row, "first")
        if found is not None and (final or found.verdict != "inconclusive"):
            run.judged[row.key] = found
        if found is None or found.verdict == "inconclusive":
            still.append(row)
    return still


def cells_of(run: Run, row: Row, stage: str, places: Iterable[int]) -> list[Cell]:
    found = ((run.cells[k], run.get(stage, k, row.key), 2 if k < run.common else FEWEST) for k in places)
    return [Cell(run.frame.place(cell), logs) for cell, logs, fewest in found if len(logs) >= fewest]


def _judge(run: Run, row: Row, stage: str) -> Judgement | None:
    """The verdict by the samples so far; the one before where there are no more of them."""
    counts = [len(run.get(stage, k, row.key)) for k in range(len(run.cells))]
    samples = counts, dict(run.walked)
    before = run.seen.get((row.key, stage))
    if before is None or before[0] != samples:
        before = run.seen[row.key, stage] = samples, _judged(run, row, stage)
    return before[1]


def _judged(run: Run, row: Row, stage: str) -> Judgement | None:
    """The verdict by the samples so far, None while a common setting has none; notes the seeds it would take."""
    if len(cells_of(run, row, stage, range(run.common))) < run.common:
        return None
    claim, routes, limit = run.claims[row.key], run.routes[row.key], run.limit(row)
    joint, need = assess(cells_of(run, row, stage, range(len(run.cells))), claim, run.alpha, limit)
    run.need[row.key] = need
    found, missing = dict[str, Judgement](), list[str]()
    for path in routes or ():
        walked, term = run.walked.get(path.grows, ()), str(path.claim.terms[0])
        cells = cells_of(run, row, stage, walked)
        if not walked or len(cells) < len(walked):
            missing.append(term)
            continue
        judged, _ = assess(cells, path.claim, run.alpha, limit)
        found[term] = replace(judged, slopes={d: s for d, s in judged.slopes.items() if d in path.grows})
        if stage == "first":
            here, helps = (row.key, path.grows), judged.doubt is not None and judged.doubt.times <= WITHIN_REACH
            (run.closed.add if judged.verdict == "agrees" else run.closed.discard)(here)
            (run.stuck.discard if judged.verdict == "agrees" or helps else run.stuck.add)(here)
    several = len(claim.terms) > 1
    if routes is None and joint.verdict != "disagrees":
        doubt = Doubt("some term never leads while some dims grow and the others stay small; another --regime")
        return Judgement("inconclusive", doubt.reason, joint.slopes, (), doubt)
    return combine(joint, found, several, missing) if several or found else joint


# ------------------------------------------------------------------ seeds


def _allocate(run: Run, rows: Sequence[Row], places: Iterable[int], seconds: float) -> dict[int, int]:
    """Seeds per cell: proportional to leverage over the root of the cost (Neyman), filling the time."""
    places = list(places)
    x = np.array([[log(n) for n in run.frame.place(run.cells[k]).values()] for k in places])
    contrasts = np.linalg.pinv(np.hstack([np.ones((len(x), 1)), x]))[1:]
    leverage = np.sqrt((contrasts**2).sum(0))
    leverage = np.maximum(leverage, 0.2 * leverage.max())
    cost = np.array([_cost(run, rows, k) for k in places])
    share = leverage / np.sqrt(cost)
    counts = seconds * run.workers * share / (share @ cost)
    return {k: max(2, int(n)) for k, n in zip(places, counts, strict=True)}


def _cost(run: Run, rows: Sequence[Row], k: int) -> float:
    """Seconds per seed of measuring these rows in a cell; what is drawn to time it is kept."""
    plan = run.plan.only(rows)
    if (k, plan.keys) not in run.cost:
        size, most = min(TRIAL, batch_size(run, k)), batch_size(run, k)
        while True:
            batch = run.samples.next_batch("first", run.name(k))
            _, _, found = _batch(run, plan, k, batch, size, "first")
            run.samples.add("first", run.name(k), batch, found)
            if size == most or run.cost[k, plan.keys] * size > SHORT:
                break
            size = min(8 * size, most)  # so short a batch is all calls, and more seeds cost next to nothing
    return run.cost[k, plan.keys]


def batch_size(run: Run, k: int) -> int:
    return max(1, min(256, CHUNK // max(1, elements(run.plan.model.program, run.cells[k]))))


def draw(run: Run, rows: Sequence[Row], counts: Mapping[int, int], stage: str, seconds: float | None = None) -> None:
    """Measure the rows with so many more seeds per cell, in batches; stops early when the time is up.

    Batches come in an order in which every cell advances alike, so that stopping early costs no cell all its seeds.
    """
    plan = run.plan.only(rows)
    jobs: list[tuple[float, int, int, int]] = []
    for k, count in counts.items():
        have = min((len(run.get(stage, k, r.key)) for r in rows), default=0) if stage == "first" else 0
        wanted = count if seconds is not None else count - have
        size = batch_size(run, k)
        first = run.samples.next_batch(stage, run.name(k))
        batches = -(-wanted // size) if wanted > 0 else 0
        if wanted > 0 and batches:
            size = -(-wanted // batches)
        jobs += [((b + 1) / batches, k, first + b, size) for b in range(batches)]
    jobs.sort()
    began, late = time.perf_counter(), False
    pool = ThreadPoolExecutor(run.workers)
    try:
        futures = {pool.submit(_batch, run, plan, k, batch, size, stage): k for _, k, batch, size in jobs}
        for future in as_completed(futures):
            if future.cancelled():
                continue
            k, batch, found = future.result()
            run.samples.add(stage, run.name(k), batch, found)
            run.progress.advance()
            if not late and seconds is not None and time.perf_counter() - began > 1.3 * seconds:
                late = True
                for other in futures:
                    other.cancel()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    run.samples.save()


def setting_of(
    run: Run, k: int, seeds: int, stage: str, batch: int, prefactors: Mapping[str, float] | None = None
) -> Setting:
    """A batch of seeds at one setting; its random numbers depend on the widths, not on what else is measured."""
    entropy = np.random.SeedSequence([run.seed, STAGES.index(stage), *run.cells[k].values(), batch])
    seed = int(entropy.generate_state(1, np.uint64)[0] >> 1)
    return Setting(run.cells[k], seeds, seed, run.device, run.dtype, prefactors or {})


def _batch(
    run: Run, plan: Plan, k: int, batch: int, size: int, stage: str
) -> tuple[int, int, dict[Key, np.ndarray]]:
    setting = setting_of(run, k, size, stage, batch)
    began = time.perf_counter()
    found = measure(plan, setting)
    run.cost[k, plan.keys] = (time.perf_counter() - began) / size
    return k, batch, {key: v.numpy() for key, v in found.items()}
