"""A disagreement has to hold at larger widths, on fresh seeds, before it is said.

An exponent is a claim about widths without end, and small ones may contradict it by what dies out (a softmax over eight
experts is none over a thousand).  So the grid that refutes a row only makes verify spend more on it: the smallest widths go,
twice the largest or four times come, and the row is refuted there or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scalecalc.measure.assess import assess
from scalecalc.measure.effort import (
    LARGEST_RUN,
    Run,
    cells_of,
    draw,
    free_memory,
    memory,
)  # fmt: skip
from scalecalc.measure.interpret import elements
from scalecalc.measure.paths import Widths
from scalecalc.table import Row
from scalecalc.verdict import Doubt, Judgement, confirm

FARTHER = (4, 2)  # times the largest widths,
DEARER = 2.0  # if that takes no more than so many times the numbers that the first measurement took of all rows,
FEW_ROWS = 8  # of so many rows at most (where more disagree it is seldom for want of width, and they take longer),
FEWER = 2  # for this part of its seeds


def confirm_all(run: Run) -> None:
    """Every row that disagrees again, at larger widths."""
    rows = [r for r in run.plan.rows if r.key in run.judged and run.judged[r.key].verdict == "disagrees"]
    if not rows:
        return
    run.progress.say(f"{len(rows)} rows disagree; again, on fresh seeds")
    groups = dict[tuple[str, ...], list[Row]]()
    for row in rows:
        groups.setdefault(_missed(run, row), []).append(row)
    for dims, group in groups.items():
        at = _draw_farther(run, group, dims)
        widest = ", ".join(f"{d} up to {max(run.cells[k][d] for k in at)}" for d in dims)
        for row in group:
            found, _ = assess(cells_of(run, row, "again", at), run.claims[row.key], run.alpha, run.limit(row))
            run.judged[row.key] = confirm(run.judged[row.key], found, widest)


def _missed(run: Run, row: Row) -> tuple[str, ...]:
    """The dims in which a row disagrees; none where it is a zero that is none, or the other way round."""
    words = {word for miss in run.judged[row.key].misses for word in miss.split()}
    return tuple(d for d in run.frame.dims if d in words)


def excuse_second_orders(run: Run) -> None:
    """Second orders that are refuted where the derivation keeps of them what can exceed the first order, and no more.

    What is left out may be larger than what is kept at any width that is measured (in a stack of normed blocks with 1/L the
    norm behind the last one moves f by N^(−1/2), and the blocks by L^(−5/2) N^(1/2)).  A slope that the first order's terms
    bound refutes nothing then.
    """
    first = {(row.row, row.step, row.tag): row for row in run.plan.rows if row.kind == "update"}
    for row in run.plan.rows:
        found, bound = run.judged.get(row.key), first.get((row.row, row.step, row.tag[:1]))
        if len(row.tag) < 2 or bound is None or found is None or found.verdict != "disagrees":
            continue
        terms, limit = run.claims[bound.key].terms, run.limit(row)
        if terms and all(s.low <= max(float(t.power(d)) for t in terms) + limit for d, s in found.slopes.items()):
            reason = "terms of second order no larger than the first order's are not followed, and hide what is derived"
            doubt = Doubt(reason, wider=tuple(run.frame.dims))
            run.judged[row.key] = Judgement("inconclusive", str(doubt), found.slopes, (), doubt)


# ------------------------------------------------------------------ larger widths


def farther(run: Run, dims: Sequence[str], times: int) -> tuple[Widths, ...]:
    """The settings with the lower third of some dims' widths left out, and larger ones, up to so many times the largest."""
    frame = run.frame
    more = range(1, times.bit_length())
    longer = {d: [*ws, *(max(ws) * 2**k for k in more)] for d, ws in frame.widths.items() if d in dims}
    upper = {d: ws[len(frame.widths[d]) // 3 :] for d, ws in longer.items()}
    if frame.regime.kind == "path":  # the others grow with the first from its smallest width on
        settings = replace(frame, widths={**frame.widths, **longer}).settings()
        return tuple(c for c in settings if all(c[d] in ws for d, ws in upper.items()))
    return replace(frame, widths={**frame.widths, **upper}).settings()


def _draw_farther(run: Run, rows: Sequence[Row], dims: Sequence[str]) -> tuple[int, ...]:
    """Fresh seeds at larger widths, as many as the rows were refuted with or half of them; the settings' places.

    Fewer would leave open what the first measurement refuted, for want of seeds alone.  Where not even twice the widths can
    be had for that, the same ones serve.
    """
    program, free, common = run.plan.model.program, free_memory(run.device), range(run.common)
    counts = {k: max(len(run.get("first", k, r.key)) for r in rows) for k in common}
    spent, most = sum(elements(program, run.cells[k]) * n for k, n in counts.items()), max(counts.values())
    for times in FARTHER if dims and len(rows) <= FEW_ROWS else ():
        settings = farther(run, dims, times)
        seeds = min(most, int(DEARER * spent / sum(elements(program, cell) for cell in settings)))
        if seeds >= most / FEWER and all(memory(run, c) <= LARGEST_RUN * free for c in settings):
            at = tuple(place(run, cell) for cell in settings)
            _draw_once(run, rows, dict.fromkeys(at, seeds), "again")
            return at
    _draw_once(run, rows, counts, "again")
    return tuple(common)


def place(run: Run, cell: Widths) -> int:
    if cell not in run.cells:
        run.cells.append(cell)
    return run.cells.index(cell)


def _draw_once(run: Run, rows: Sequence[Row], counts: Mapping[int, int], stage: str) -> None:
    """Measure those of the rows that a file of samples does not have in this stage yet."""
    lacking = [r for r in rows if any(len(run.get(stage, k, r.key)) < n for k, n in counts.items())]
    if lacking:
        draw(run, lacking, counts, stage)
