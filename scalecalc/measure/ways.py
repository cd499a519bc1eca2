"""By way of one tensor: a row that other terms hide is measured along the way that its leading term takes.

The derivation makes a term of an update step by step, and so says which tensors the weight's change passes through: large
ones (a layer's channels) and small ones (a gate's one number per token).  What comes through the smallest of them is told
apart by moving that tensor as the weight moves it, and holding all that does not depend on it.  Where the derivation knows
of smaller terms, and the measured slopes are no larger than the derived ones, this shows whether the leading term has the
derived exponent at widths at which the others are still larger.  A DeltaNet head's write strength, say, moves its second
error by Θ(1), forty times less than the values do, by Θ(N^(−1/2)): the sum shows the latter up to 10⁴ channels.

A tensor can move a row by much and the others take it back: norms do that to what is parallel.  So what comes by the way
has to be there in the whole: its inner product with the rest must not be the negative of its own square.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from scalecalc.measure.again import farther, place
from scalecalc.measure.assess import assess
from scalecalc.measure.contributions import FIRST_ORDER, Key, Plan, or_one, relative, second_step
from scalecalc.measure.effort import LARGEST_RUN, Run, batch_size, free_memory, memory, setting_of
from scalecalc.measure.interpret import Setting, draw_leaves, numbers, rms, run
from scalecalc.measure.slopes import Cell, point
from scalecalc.measure.training import along, joined
from scalecalc.program import Program
from scalecalc.table import Point, Row
from scalecalc.term import Term
from scalecalc.verdict import Doubt, Judgement

SEEDS = (32, 128, 512)  # per setting, until the rows of a way are decided
FARTHER = 2  # times the largest widths
PART = 1.0  # of the budget: all ways together take no longer
SURE = 4.0  # standard errors by which what comes by a way has to be there in the whole
SHORT = 4.0  # times as many seeds, where nothing better is known
TAKEN_BACK = Doubt("too few seeds tell whether other terms take back what comes", times=SHORT)


@dataclass(frozen=True)
class Way:
    """A tensor that a row's leading term comes by.

    Args:
        position: in the program.
        mixed: the term is a product of two changes (second order), of which one comes by this way and one does not.
    """

    position: int
    mixed: bool


@dataclass(frozen=True)
class ByWay:
    """What was measured along a way: the tensor's name, the samples, and the verdict by them."""

    name: str
    points: tuple[Point, ...]
    judgement: Judgement

    def __str__(self) -> str:
        return f"by way of {self.name} alone"


def by_way(asked: Run) -> dict[Key, ByWay]:
    """Measure every row that others may hide along its leading term's way; where that agrees its verdict is that one."""
    program, widest = asked.plan.model.program, max(asked.cells[: asked.common], key=lambda c: math.prod(c.values()))
    groups = dict[tuple[str, int], dict[Key, tuple[Row, Way]]]()
    for row in asked.plan.rows:
        way = narrowest(program, row, widest) if below(asked, row) else None
        if way is not None:
            groups.setdefault((row.tag[0], way.position), {})[row.key] = row, way
    out, until = dict[Key, ByWay](), time.perf_counter() + PART * asked.budget
    for (_, position), group in groups.items():
        if time.perf_counter() > until:
            break
        name = program.ops[position].name
        asked.progress.say(f"{len(group)} rows by way of {name}")
        for key, (judgement, points) in _along(asked, group, until).items():
            if judgement.verdict == "agrees":
                out[key] = ByWay(name, points, judgement)
                asked.judged[key] = judgement
            elif asked.judged[key].verdict == "disagrees" and nearer(asked, key, judgement):
                asked.judged[key] = _open(asked.judged[key], judgement, name)
    return out


def below(run: Run, row: Row) -> bool:
    """Is a row measured smaller than derived, by slopes that a smaller term would give, and in no dim larger?"""
    found, claim, limit = run.judged.get(row.key), run.claims[row.key], run.limit(row)
    if row.kind != "update" or row.step > 1 or found is None or found.verdict == "agrees" or len(claim.terms) != 1:
        return False
    off = {d: (s, float(claim.terms[0].power(d))) for d, s in found.slopes.items()}
    if not off or any(s.high > power + limit for s, power in off.values()):
        return False
    known = any(all(s.low - limit <= float(t.power(d)) for d, s in found.slopes.items()) for t in claim.corrections)
    return known and any(s.slope < power - limit for s, power in off.values())


# ------------------------------------------------------------------ the way


def narrowest(program: Program, row: Row, widths: Mapping[str, int]) -> Way | None:
    """The smallest tensor, at these widths, between an update's weight and its row; None if the derivation shows none."""
    if row.derivation is None or len(row.derivation.terms) != 1:
        return None
    (term,), own = row.derivation.terms, program.features[row.row]
    count = Counter(op.name for op in program.ops)
    places = {op.name: i for i, op in enumerate(program.ops) if count[op.name] == 1}
    passed = dict.fromkeys(places[t.why.at] for t in _back(term) if t.why and t.why.at in places)
    weight = places.get(row.tag[0])
    between = program.before(own) - {own, weight}  # (the gradient is no part of the way)
    inner = [i for i in passed if i in between and _around(program, weight, i, own)]
    if not inner:
        return None
    position = min(inner, key=lambda i: numbers(program, i, widths))  # of equal ones the nearest to the row
    others = any(not _moved(t) for t in _back(term, program.ops[position].name))
    return Way(position, mixed=others)


def _around(program: Program, weight: int | None, position: int, row: int) -> bool:
    """Does anything come from a weight to a row by other ways?  Else nothing is told apart."""
    reached = {weight}
    for _ in range(2 if program.loops else 1):  # what a repeated block makes enters it again
        for i in range(len(program.ops)):
            if i != position and any(j in reached for j in program.needs(i)):
                reached.add(i)
    return row in reached


def _back(term: Term, until: str | None = None) -> Iterator[Term]:
    """The terms that carry the change, from the row's back to the weight's; not beyond an operation."""
    seen, ahead = set[int](), [term]
    while ahead:
        t = ahead.pop(0)
        if id(t) not in seen and not (until is not None and t.why and t.why.at == until):
            seen.add(id(t))
            yield t
            ahead += _moved(t)


def _moved(term: Term) -> list[Term]:
    return [p for p in term.why.parents if p.tag] if term.why else []


# ------------------------------------------------------------------ along it


@dataclass(frozen=True)
class Sample:
    """Per seed: the log of what comes by the way, and its inner product with the rest over its own square."""

    logs: NDArray[np.float64]
    rest: NDArray[np.float64]


def _along(
    asked: Run, group: Mapping[Key, tuple[Row, Way]], until: float
) -> dict[Key, tuple[Judgement, tuple[Point, ...]]]:
    """Verdict and samples of the rows that are not refuted along the way, at larger widths if they can be had."""
    out, left = dict[Key, tuple[Judgement, tuple[Point, ...]]](), dict(group)
    settings = _settings(asked, [row for row, _ in group.values()])
    drawn = {k: list[dict[Key, Sample]]() for k in settings}
    widest, spent = max(settings, key=lambda k: math.prod(asked.cells[k].values())), 0.0
    for times, count in enumerate(SEEDS):
        began = time.perf_counter()
        if not left or began + spent * count / SEEDS[max(0, times - 1)] > until:
            break
        jobs = [job for k in settings for job in _batches(asked, k, count, len(drawn[k]))]
        with ThreadPoolExecutor(asked.workers) as pool:
            found = list(pool.map(lambda job: _sample(asked, list(left.values()), *job), jobs))
        spent = time.perf_counter() - began
        for (k, _, _), sample in zip(jobs, found, strict=True):
            drawn[k].append(sample)
        for key, (row, _) in list(left.items()):
            logs = {k: np.concatenate([s[key].logs for s in parts]) for k, parts in drawn.items()}
            cells = [Cell(asked.frame.place(asked.cells[k]), own) for k, own in logs.items()]
            judged, _ = assess(cells, asked.claims[key], asked.alpha, asked.limit(row))
            whole = remains(np.concatenate([s[key].rest for s in drawn[widest]]))
            if judged.verdict == "disagrees" or whole is False:  # it is not that other terms are larger
                del left[key]
                out.pop(key, None)
                continue
            if judged.verdict == "agrees" and whole:
                del left[key]
            elif judged.verdict == "agrees":
                judged = Judgement("inconclusive", str(TAKEN_BACK), judged.slopes, (), TAKEN_BACK)
            out[key] = judged, tuple(point(asked.cells[k], own) for k, own in logs.items())
    return out


def nearer(asked: Run, key: Key, along: Judgement) -> bool:
    """Are the slopes along the way nearer to the derived ones than to those of all that comes?"""
    (term,), total = asked.claims[key].terms, asked.judged[key].slopes
    middle = {d: (s.slope + float(term.power(d))) / 2 for d, s in total.items() if s.slope < float(term.power(d))}
    return all(along.slopes[d].slope > m for d, m in middle.items() if d in along.slopes)


def _open(total: Judgement, along: Judgement, name: str) -> Judgement:
    """A row that is refuted, but not along its leading term's way: nothing is said until that is decided."""
    doubt = along.doubt or Doubt("it is not decided yet", times=SHORT)
    doubt = replace(doubt, reason=f"other terms are larger, and by way of {name} alone {doubt.reason}")
    return Judgement("inconclusive", str(doubt), total.slopes, (), doubt)


def _settings(asked: Run, rows: Sequence[Row]) -> list[int]:
    """Places of the settings that rows are measured at: larger ones in the dims in which one is smaller than derived."""
    off = set[str]()
    for row in rows:
        (term,), limit = asked.claims[row.key].terms, asked.limit(row)
        off |= {d for d, s in asked.judged[row.key].slopes.items() if s.slope < float(term.power(d)) - limit}
    settings = farther(asked, [d for d in asked.frame.dims if d in off], FARTHER)
    if all(memory(asked, c) <= LARGEST_RUN * free_memory(asked.device) for c in settings):
        return [place(asked, c) for c in settings]
    return list(range(asked.common))


def remains(rest: NDArray[np.float64]) -> bool | None:
    """Is what comes by a way there in the whole, and not taken back by the rest?  None if too few seeds tell.

    Args:
        rest: per seed, the inner product of the rest with it, over its own square: −1 where the rest takes it back.
    """
    error = rest.std(ddof=1) / math.sqrt(len(rest))
    if not np.isfinite(error):
        return False
    above = rest.mean() + 0.5
    return None if abs(above) < SURE * error else bool(above > 0)


def _batches(asked: Run, k: int, count: int, first: int) -> list[tuple[int, int, int]]:
    """Setting, seeds and number of each batch."""
    size = batch_size(asked, k)
    batches = max(1, -(-count // size))
    return [(k, -(-count // batches), first + b) for b in range(batches)]


def _sample(asked: Run, group: Sequence[tuple[Row, Way]], k: int, seeds: int, batch: int) -> dict[Key, Sample]:
    return contributions(asked.plan, group, setting_of(asked, k, seeds, "ways", batch))


def contributions(plan: Plan, group: Sequence[tuple[Row, Way]], setting: Setting) -> dict[Key, Sample]:
    """What comes by one way to rows of one weight's updates, first and second order."""
    program, (row, way) = plan.model.program, group[0]
    name, through = row.tag[0], way.position
    weight, wanted = plan.weights[name], {r.row: program.features[r.row] for r, _ in group}
    trained = [n for n in plan.weights if n in plan.gradients] if plan.model.update.joint else [name]
    kept = [weight, through, *wanted.values(), *(plan.gradients[n] for n in trained)]
    leaves = draw_leaves(program, setting, plan.model.scalings, program.live(kept))
    initial = run(program, leaves, kept)
    first = joined(plan.model, {n: initial[plan.gradients[n]] for n in trained}, setting.widths)
    delta, factor = plan.model.update.change([first[name]], [initial[weight]], plan.model.scalings[name], setting.widths)

    def moved(step: torch.Tensor, held: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        there = {**leaves, weight: initial[weight] + along(delta, step), **held}
        return run(program, there, [through, *wanted.values()])

    def whole(step: torch.Tensor) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
        """All of it, and what comes by the way alone."""
        everything = moved(step, {})
        return everything, run(program, {**leaves, through: everything[through]}, list(wanted.values()))

    small = FIRST_ORDER * or_one(rms(initial[weight])) / or_one(rms(delta))
    everything, alone = whole(small)
    out = dict[Key, Sample]()
    for r, _ in group:
        if len(r.tag) == 1:
            i = wanted[r.row]
            out[r.key] = _sized(alone[i] - initial[i], everything[i] - alone[i], factor / small)
    if any(len(r.tag) > 1 for r, _ in group):
        step = second_step({i: relative(everything[i], initial[i]) / small for i in wanted.values()}, program.loss)
        steps = [(by, *whole(by)) for by in (step, -step)]
        rests = [moved(by, {through: initial[through]}) for by in (step, -step)] if any(w.mixed for _, w in group) else []
        for r, w in group:
            if len(r.tag) > 1:
                i = wanted[r.row]
                all_ = sum(e[i] for _, e, _ in steps) - 2 * initial[i]
                own = sum(a[i] for _, _, a in steps) - 2 * initial[i]
                own = all_ - own - (sum(x[i] for x in rests) - 2 * initial[i]) if w.mixed else own
                out[r.key] = _sized(own, all_ - own, (factor / step) ** 2)
    return out


def _sized(own: torch.Tensor, rest: torch.Tensor, by: torch.Tensor) -> Sample:
    axes = tuple(range(1, own.dim()))
    square = (own.conj() * own).real.sum(axes) if axes else (own.conj() * own).real
    with_rest = (own.conj() * rest).real.sum(axes) if axes else (own.conj() * rest).real
    logs, ratio = (rms(own) * by.abs()).log(), with_rest / square
    return Sample(logs.to("cpu", torch.float64).numpy(), ratio.to("cpu", torch.float64).numpy())


__all__ = ["ByWay", "Way", "below", "by_way", "contributions", "narrowest", "remains"]
