"""A disagreement has to hold elsewhere, too, before it is said: on fresh seeds, at larger widths, for other constants.

An exponent is a claim about widths without end, and about every choice of constants.  Small widths may contradict it by
what dies out (a softmax over eight experts is none over a thousand).  So the grid that refutes a row only makes verify
spend more on it: the smallest widths go, twice the largest or four times come, and the row is refuted there or not at all.

Where a smaller term that the derivation knows is all that shows, larger widths may be out of reach: beside c N^(-1/2) a term
of order one with c = 1/100 shows at N = 10⁴ (an update of W_in that aligns with one head's keys through a softmax of small
slope).  To excuse whatever looks like a known smaller term would make verify blind to the error that a derivation is most
likely to make, a mean taken for one that is zero.  But such a term grows with what it is made of: some weights larger
initially bring it to the front, and no choice of weights brings to the front a term that is not there.  So these are
searched, one after the other, larger and smaller, and then together, on the same numbers; what was found is measured on
fresh ones; and the row is refuted unless the derived slope may be what shows there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

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
from scalecalc.measure.slopes import fit
from scalecalc.table import Row
from scalecalc.verdict import Doubt, Judgement, confirm, judge

FARTHER = (4, 2)  # times the largest widths,
DEARER = 3.0  # if that takes no more than so many times the numbers that the first measurement took of all rows,
FEW_ROWS = 8  # of so many rows at most (where more disagree it is seldom for want of width, and they take longer),
FEWER = 2  # for this part of its seeds
TIMES = 4.0  # by which a weight is larger, or smaller, where constants are searched
TRIED = 16  # seeds per setting of that search
MOST = 4  # rows whose constants are searched
MOVES = 0.02  # by how much a slope has to come nearer for a weight to be one that helps
NEARER = 0.1  # and for all of them together
KNOWN = 3  # smaller terms that a slope is explained by, the largest first


def confirm_all(run: Run) -> None:
    """Every row that disagrees again, at larger widths; and with other constants, if smaller terms explain what shows."""
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
        left = [r for r in group if run.judged[r.key].verdict == "disagrees" and _smaller_terms_explain(run, r, at)][:MOST]
        known = list[dict[str, float]]()
        for row in left:
            run.judged[row.key] = _with_other_constants(_Search(run, row, left, dims), at, known)


def _missed(run: Run, row: Row) -> tuple[str, ...]:
    """The dims in which a row disagrees; none where it is a zero that is none, or the other way round."""
    words = {word for miss in run.judged[row.key].misses for word in miss.split()}
    return tuple(d for d in run.frame.dims if d in words)


# ------------------------------------------------------------------ larger widths


def _farther(run: Run, dims: Sequence[str], times: int) -> tuple[Widths, ...]:
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
        settings = _farther(run, dims, times)
        seeds = min(most, int(DEARER * spent / sum(elements(program, cell) for cell in settings)))
        if seeds >= most / FEWER and all(memory(run, c) <= LARGEST_RUN * free for c in settings):
            at = tuple(_place(run, cell) for cell in settings)
            _draw_once(run, rows, dict.fromkeys(at, seeds), "again")
            return at
    _draw_once(run, rows, counts, "again")
    return tuple(common)


def _place(run: Run, cell: Widths) -> int:
    if cell not in run.cells:
        run.cells.append(cell)
    return run.cells.index(cell)


def _draw_once(run: Run, rows: Sequence[Row], counts: Mapping[int, int], stage: str) -> None:
    """Measure those of the rows that a file of samples does not have in this stage yet."""
    lacking = [r for r in rows if any(len(run.get(stage, k, r.key)) < n for k, n in counts.items())]
    if lacking:
        draw(run, lacking, counts, stage)


# ------------------------------------------------------------------ other constants


def _smaller_terms_explain(run: Run, row: Row, at: Sequence[int]) -> bool:
    """Is the slope no contradiction if smaller terms that the derivation knows may be as much larger as they like?"""
    claim = run.claims[row.key]
    known = (*claim.rivals, *claim.corrections)[:KNOWN]
    if len(claim.terms) != 1 or not known or not _missed(run, row) or row.step > 1:
        return False
    every = (*claim.terms, *known)
    found = fit(cells_of(run, row, "again", at), every, run.alpha, generic=True)
    return judge(found, every, run.limit(row)).verdict != "disagrees"


@dataclass(frozen=True)
class _Search:
    """By how much the slopes of a row are off, for one choice of constants after the other, on the same numbers."""

    run: Run
    row: Row
    rows: Sequence[Row]
    dims: tuple[str, ...]

    @cached_property
    def places(self) -> list[int]:
        """The settings that it takes, the largest left out where the others tell the slopes."""
        run = self.run
        size = [elements(run.plan.model.program, run.cells[k]) for k in range(run.common)]
        few = [k for k in range(run.common) if size[k] < max(size)]
        x = [[1.0, *np.log([*run.frame.place(run.cells[k]).values()])] for k in few]
        told = len(few) > len(run.frame.dims) and np.linalg.matrix_rank(np.array(x)) > len(run.frame.dims)
        return few if told else list(range(run.common))

    def off(self, constants: Mapping[str, float]) -> float:
        run, places = self.run, self.places
        stage = _stage(run, "search", constants)
        _draw_once(run, self.rows, dict.fromkeys(places, TRIED), stage)
        cells = cells_of(run, self.row, stage, places)
        size = [float(np.mean(c.logs)) for c in cells]
        (term,) = run.claims[self.row.key].terms
        derived = [float(np.log(term.at(c.widths))) for c in cells]
        x = np.log([list(c.widths.values()) for c in cells])
        slopes = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), np.subtract(size, derived), rcond=None)[0]
        off = [abs(float(s)) for d, s in zip(run.frame.dims, slopes, strict=False) if d in self.dims]
        return sum(off) if np.isfinite(off).all() else np.inf

    def best(self) -> dict[str, float]:
        """The constants that bring the slope nearest to the derived one."""
        program, natural = self.run.plan.model.program, self.off({})
        drawn = [
            name
            for name, i in self.run.plan.weights.items()
            if all(program.ops[i].params.get(given) is None for given in ("init", "values"))
        ]
        gains = {name: {way: natural - self.off({name: TIMES**way}) for way in (1, -1)} for name in drawn}
        ways = {name: max(own, key=lambda way: own[way]) for name, own in gains.items() if max(own.values()) > MOVES}
        strongest = max(ways, key=lambda name: gains[name][ways[name]], default="")
        tried = [{name: TIMES ** (power * way) for name, way in ways.items()} for power in (1, 2)]
        tried += [{strongest: TIMES ** (2 * ways[strongest])}] if strongest else []
        return min(tried, key=self.off, default={})


def _stage(run: Run, word: str, constants: Mapping[str, float]) -> str:
    stage = " ".join([word, *(f"{name}={by:g}" for name, by in sorted(constants.items()))])
    run.constants[stage] = constants
    return stage


def _with_other_constants(search: _Search, at: Sequence[int], known: list[dict[str, float]]) -> Judgement:
    """The verdict on a row whose slope smaller terms explain, by weights with which the leading one shows, if any do.

    ``known``: what was found for other rows, which often serves; what is found is added.
    """
    run, row, dims = search.run, search.row, search.dims
    run.progress.say(f"{row.label}: other constants")
    before, natural = run.judged[row.key], search.off({})
    constants = min(known, key=search.off, default={})
    if not natural - search.off(constants) > natural / 2:
        constants = search.best()
    if not natural - search.off(constants) > NEARER:
        return before
    known += [constants] if constants not in known else []
    stage = _stage(run, "constants", constants)
    _draw_once(run, search.rows, {k: len(run.get("again", k, row.key)) for k in at}, stage)
    found, _ = assess(cells_of(run, row, stage, at), run.claims[row.key], run.alpha, run.limit(row))
    if found.verdict == "disagrees":
        return before
    shown = ", ".join(f"{s.slope:.2f} ({s.low:.2f} to {s.high:.2f})" for d, s in found.slopes.items() if d in dims)
    made = " and ".join(f"{name} {by:g} times" for name, by in constants.items())
    slopes = f"the slope in {', '.join(dims)} is {shown}"
    doubt = Doubt(f"what shows is a smaller term that is known; with {made} its initial size {slopes}", wider=tuple(dims))
    return Judgement("inconclusive", str(doubt), before.slopes, (), doubt)
