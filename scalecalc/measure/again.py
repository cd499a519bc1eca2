"""A disagreement has to hold at larger widths, on fresh seeds, before it is said.

An exponent is a claim about widths without end, and small ones may contradict it by what dies out (a softmax over eight
experts is none over a thousand).  So the grid that refutes a row only makes verify spend more on it: the lower half of the
widths goes, twice and four times the largest come, and the row is refuted there or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scalecalc.measure.assess import assess
from scalecalc.measure.effort import (
    LARGEST_RUN,
    LEAST,
    Run,
    cells_of,
    cost_of,
    draw,
    free_memory,
    memory,
)  # fmt: skip
from scalecalc.measure.interpret import elements
from scalecalc.measure.paths import Widths
from scalecalc.table import Row
from scalecalc.verdict import confirm

SHARE = 0.25  # of the budget, or of the time that so many seeds have taken, for larger widths: beyond it
FARTHER = (4, 2)  # times the largest widths, if there is time


def confirm_all(run: Run, seeds: int | None) -> None:
    """Every row that disagrees again, at larger widths; ``seeds``: a fixed number of them instead of a budget."""
    rows = [r for r in run.plan.rows if r.key in run.judged and run.judged[r.key].verdict == "disagrees"]
    if not rows:
        return
    run.progress.say(f"{len(rows)} rows disagree; again, on fresh seeds")
    seconds = SHARE * (run.budget if seeds is None else run.progress.elapsed)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(_missed(run, row), []).append(row)
    for dims, own in groups.items():
        at = _draw_farther(run, own, dims, seconds)
        widest = ", ".join(f"{d} up to {max(run.cells[k][d] for k in at)}" for d in dims)
        for row in own:
            found, _ = assess(cells_of(run, row, "again", at), run.claims[row.key], run.alpha, run.limit(row))
            run.judged[row.key] = confirm(run.judged[row.key], found, widest)


def _missed(run: Run, row: Row) -> tuple[str, ...]:
    """The dims in which a row disagrees; none where it is a zero that is none, or the other way round."""
    words = {word for miss in run.judged[row.key].misses for word in miss.split()}
    return tuple(d for d in run.frame.dims if d in words)


# ------------------------------------------------------------------ larger widths


def _farther(run: Run, dims: Sequence[str], times: int) -> tuple[Widths, ...]:
    """The settings with the lower half of some dims' widths left out, and larger ones, up to so many times the largest."""
    frame = run.frame
    more = range(1, times.bit_length())
    longer = {d: [*ws, *(max(ws) * 2**k for k in more)] for d, ws in frame.widths.items() if d in dims}
    upper = {d: ws[len(frame.widths[d]) // 2 :] for d, ws in longer.items()}
    if frame.regime.kind == "path":  # the others grow with the first from its smallest width on
        settings = replace(frame, widths={**frame.widths, **longer}).settings()
        return tuple(c for c in settings if all(c[d] in ws for d, ws in upper.items()))
    return replace(frame, widths={**frame.widths, **upper}).settings()


def _draw_farther(run: Run, rows: Sequence[Row], dims: Sequence[str], seconds: float) -> tuple[int, ...]:
    """Fresh seeds at larger widths, as many as the rows were refuted with or as there is time for; the settings' places.

    Where there is time for neither twice the widths, the same ones serve.
    """
    program, free = run.plan.model.program, free_memory(run.device)
    wanted = max(len(run.get("first", k, r.key)) for r in rows for k in range(run.common))
    largest = max(range(run.common), key=lambda k: elements(program, run.cells[k]))
    rate = cost_of(run, rows, largest) / elements(program, run.cells[largest])
    for times in FARTHER if dims else ():
        settings = _farther(run, dims, times)
        each = sum(rate * elements(program, cell) for cell in settings) / run.workers
        seeds = min(wanted, int(seconds / each))
        if seeds >= min(wanted, LEAST) and all(memory(run, c) <= LARGEST_RUN * free for c in settings):
            at = tuple(_place(run, cell) for cell in settings)
            _draw_once(run, rows, dict.fromkeys(at, seeds), "again")
            return at
    at = tuple(range(run.common))
    _draw_once(run, rows, {k: max(len(run.get("first", k, r.key)) for r in rows) for k in at}, "again")
    return at


def _place(run: Run, cell: Widths) -> int:
    if cell not in run.cells:
        run.cells.append(cell)
    return run.cells.index(cell)


def _draw_once(run: Run, rows: Sequence[Row], counts: Mapping[int, int], stage: str) -> None:
    """Measure those of the rows that a file of samples does not have in this stage yet."""
    draw(run, [r for r in rows if any(len(run.get(stage, k, r.key)) < n for k, n in counts.items())], counts, stage)
