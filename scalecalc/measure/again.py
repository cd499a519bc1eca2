"""A disagreement has to hold elsewhere, too, before it is said: on fresh seeds, at larger widths, for other constants.

An exponent is a claim about widths without end, and about every choice of constants.  Small widths may contradict it by
what dies out (a softmax over eight experts is none over a thousand).  So the grid that refutes a row only makes verify
spend more on it: the lower half of the widths goes, twice and four times the largest come, and the row is refuted there or
not at all.

Where a smaller term that the derivation knows is all that shows, larger widths may be out of reach: beside c N^(-1/2) a term
of order one with c = 1/100 shows at N = 10⁴ (an update of W_in that aligns with one head's keys through a softmax of small
slope).  To excuse whatever looks like a known smaller term would make verify blind to the error that a derivation is most
likely to make, a mean taken for one that is zero.  But such a term grows with what it is made of: some weights larger
initially bring it to the front, and no choice of weights brings to the front a term that is not there.  So these are
searched, one after the other and then together, on the same numbers; what was found is measured on fresh ones; and the row
is refuted unless the derived slope shows there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

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
from scalecalc.measure.slopes import fit
from scalecalc.table import Row
from scalecalc.verdict import Doubt, Judgement, confirm, judge

SHARE = 0.25  # of the budget, for each of both: larger widths, and other constants
FARTHER = (4, 2)  # times the largest widths, if there is time
TIMES = 4.0  # by which a weight is larger, or smaller, where constants are searched
TRIED = 32  # seeds per setting of that search
MOVES = 0.02  # by how much a slope has to come nearer for a weight to be one that helps
NEARER = 0.1  # and for all of them together
KNOWN = 3  # smaller terms that a slope is explained by, the largest first


def confirm_all(run: Run) -> None:
    """Every row that disagrees again, at larger widths; and with other constants, if smaller terms explain what shows."""
    rows = [r for r in run.plan.rows if r.key in run.judged and run.judged[r.key].verdict == "disagrees"]
    if not rows:
        return
    run.progress.say(f"{len(rows)} rows disagree; again, on fresh seeds")
    places = dict[tuple[str, ...], tuple[int, ...]]()
    for row in rows:
        places.setdefault(_missed(run, row), ())
    for dims in places:
        own = [r for r in rows if _missed(run, r) == dims]
        places[dims] = at = _draw_farther(run, own, dims)
        widest = ", ".join(f"{d} up to {max(run.cells[k][d] for k in at)}" for d in dims)
        for row in own:
            found, _ = assess(cells_of(run, row, "again", at), run.claims[row.key], run.alpha, run.limit(row))
            run.judged[row.key] = confirm(run.judged[row.key], found, widest)
    for dims, at in places.items():
        own = [r for r in rows if _missed(run, r) == dims and run.judged[r.key].verdict == "disagrees"]
        for row in own:
            if _smaller_terms_explain(run, row, at):
                run.judged[row.key] = _with_other_constants(run, row, own, dims, at)


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


def _draw_farther(run: Run, rows: Sequence[Row], dims: Sequence[str]) -> tuple[int, ...]:
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
        seeds = min(wanted, int(SHARE * run.budget / each))
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

    def best(self) -> tuple[dict[str, float], float]:
        """The constants that bring the slope nearest to the derived one, and by how much nearer."""
        program, natural = self.run.plan.model.program, self.off({})
        gains = {
            name: natural - self.off({name: TIMES})
            for name, i in self.run.plan.weights.items()
            if all(program.ops[i].params.get(given) is None for given in ("init", "values"))
        }
        helpful = {name: 1 if gain > 0 else -1 for name, gain in gains.items() if abs(gain) > MOVES}
        tried = [{name: TIMES ** (power * sign) for name, sign in helpful.items()} for power in (1, 2)]
        tried += [{name: TIMES ** (2 * sign)} for name, sign in helpful.items() if gains[name] == max(gains.values())]
        found = min(tried, key=self.off, default={})
        return found, natural - self.off(found)


def _stage(run: Run, word: str, constants: Mapping[str, float]) -> str:
    stage = " ".join([word, *(f"{name}={by:g}" for name, by in sorted(constants.items()))])
    run.constants[stage] = constants
    return stage


def _with_other_constants(
    run: Run, row: Row, rows: Sequence[Row], dims: tuple[str, ...], at: Sequence[int]
) -> Judgement:
    """The verdict on a row whose slope smaller terms explain, by weights with which the leading one shows, if any do."""
    run.progress.say(f"{row.label}: other constants")
    before = run.judged[row.key]
    constants, nearer = _Search(run, row, rows, dims).best()
    if not nearer > NEARER:
        return before
    stage = _stage(run, "constants", constants)
    _draw_once(run, rows, {k: len(run.get("again", k, row.key)) for k in at}, stage)
    found, _ = assess(cells_of(run, row, stage, at), run.claims[row.key], run.alpha, run.limit(row))
    if found.verdict == "disagrees":
        return before
    shown = ", ".join(f"{s.slope:.2f} ({s.low:.2f} to {s.high:.2f})" for d, s in found.slopes.items() if d in dims)
    made = " and ".join(f"{name} {by:g} times" for name, by in constants.items())
    slopes = f"the slope in {', '.join(dims)} is {shown}"
    words = f"what shows is a smaller term that is known; with {made} its initial size {slopes}"
    doubt = Doubt(words, wider=tuple(dims))
    return Judgement("inconclusive", str(doubt), before.slopes, (), doubt)

