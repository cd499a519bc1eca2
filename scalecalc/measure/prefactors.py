"""Other prefactors: a row that is refuted with those of one is measured with others before that is said.

No exponent depends on the prefactors of the initial weights, but the width from which on the leading term leads does.
Under Adam, say, one head's keys move by what is coherent among N channels' signs, a part that softmax's small derivative
makes a few per mille of the rest: N^(−1/2) is measured up to 10⁵ channels, however many seeds there are.  With larger
values and queries the same sum is Θ(1) at a hundred.

So where the derivation knows of a smaller term, and the slopes are what that one would give, prefactors are looked for with
which the leading one shows: up the gradient of how near the slopes come to the derived ones, with the same random
numbers everywhere, so that little noise is left in differences.  What is found is measured on fresh seeds, there and
further on: a mixture of two other terms that happens to have the derived slope at the one does not have it at the other.
And where there is no such term, none is found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalecalc.measure.assess import assess
from scalecalc.measure.contributions import Key, Plan, measure
from scalecalc.measure.effort import Run, batch_size, setting_of
from scalecalc.measure.slopes import Cell, point
from scalecalc.table import Point, Row
from scalecalc.verdict import Doubt, Judgement

Array = NDArray[np.float64]
SEEDS = 32  # per setting, while looking for prefactors
APART = math.log(4)  # between prefactors that are compared
STRIDES = (0.5, 1.0, 2.0, 4.0, 6.0)  # doublings of the weight that matters most, in one step
MOST = 10 * math.log(2)  # of a prefactor's logarithm
STEPS = 6  # up the gradient
GAIN = 0.01  # that a step has to bring the slopes nearer to go on
SHOWS = 1.5  # times the tolerance that slopes may be off by: farther, and it is not what is derived that shows
NEAR = 0.25  # part of the tolerance within which there is nothing left to look for
MOST_IN_VAIN = 3  # rows in a row that are looked into and show nowhere: then it is not for the prefactors
EXACT = ("values", "expression", "init")  # of weights that are not drawn
ENOUGH = 400  # seeds per setting that decide, at most


@dataclass(frozen=True)
class Elsewhere:
    """What was measured with other prefactors: those, the samples, and the verdict by them."""

    prefactors: Mapping[str, float]
    points: tuple[Point, ...]
    judgement: Judgement

    def __str__(self) -> str:
        return "with " + ", ".join(f"{name} × {factor:.3g}" for name, factor in self.prefactors.items())


def elsewhere(run: Run) -> dict[Key, Elsewhere]:
    """Measure every row that is refuted and may be hidden with other prefactors; its verdict is then that one."""
    out: dict[Key, Elsewhere] = {}
    # Later features first: more ways lead there, so that something is found sooner, and what one row shows at helps others.
    left, vain = [_Search(run, r) for r in reversed(run.plan.rows) if hidden(run, r)], 0
    while left and vain < min(MOST_IN_VAIN, len(left)):
        run.progress.say(f"{len(left)} rows disagree; with other prefactors")
        search = left.pop(0)
        found = search.found([e.prefactors for e in out.values()])
        if found is None:
            left.append(search)
        else:
            out[search.row.key] = found
            run.judged[search.row.key] = found.judgement
        vain = vain + 1 if found is None else 0
    return out


def hidden(run: Run, row: Row) -> bool:
    """Is a row refuted by slopes that one of its derived smaller terms would give, or a smaller one that is not kept?"""
    found, claim, limit = run.judged.get(row.key), run.claims[row.key], run.limit(row)
    if found is None or found.verdict != "disagrees" or len(claim.terms) != 1 or row.step > 1:
        return False
    return any(all(s.low - limit <= float(t.power(d)) for d, s in found.slopes.items()) for t in claim.corrections)


class _Search:
    """The prefactors of one row's weights, as logarithms in their order."""

    def __init__(self, run: Run, row: Row):
        self.run, self.row = run, row
        self.plan = Plan(run.plan.model, (row,))
        given = {w: run.plan.model.program.ops[i].params for w, i in self.plan.weights.items()}
        self.weights = [w for w, params in given.items() if all(params.get(key) is None for key in EXACT)]
        self.corners = self._corners()
        self.tried: dict[tuple[float, ...], float] = {}

    def _corners(self) -> list[int]:
        """The smallest of the common settings, and for each dim one at which it is larger: the largest of all are dear."""
        run = self.run
        places = [run.frame.place(run.cells[k]) for k in range(run.common)]
        size = [math.prod(run.cells[k].values()) for k in range(run.common)]
        first = min(range(run.common), key=size.__getitem__)
        out = [first]
        for dim in run.frame.dims:
            larger = sorted((k for k in range(run.common) if places[k][dim] > places[first][dim]), key=size.__getitem__)
            alone = [k for k in larger if all(places[k][d] == places[first][d] for d in run.frame.dims if d != dim)] or larger
            out.append(alone[max(0, len(alone) - 2)])
        return out

    def found(self, known: Sequence[Mapping[str, float]]) -> Elsewhere | None:
        """Prefactors at which the row is not refuted, if there are any; ``known``: some that other rows have shown at."""
        begin = np.zeros(len(self.weights))
        guesses = [begin, *(np.log([k.get(w, 1.0) for w in self.weights]) for k in known)]
        away = self._away(guesses)
        at, now, way = self._climb(guesses[int(np.argmin(away))])
        return self._judged(at, way) if now <= SHOWS * self.run.limit(self.row) else None

    def _climb(self, at: Array) -> tuple[Array, float, Array]:
        """To where the slopes are nearest to the derived ones, how far from them that is, and the last direction."""
        (now,), way = self._away([at]), np.zeros(len(at))
        for _ in range(STEPS):
            if now <= NEAR * self.run.limit(self.row):
                break
            unit = np.eye(len(at)) * APART
            sides = self._away([*(at + unit), *(at - unit)])
            slope = sides[len(at) :] - sides[: len(at)]
            if not np.isfinite(slope).all() or not slope.any():
                break
            direction = slope / np.abs(slope).max() * math.log(2)
            ahead = [np.clip(at + n * direction, -MOST, MOST) for n in STRIDES]
            there = self._away(ahead)
            best = int(np.argmin(there))
            if not now - there[best] > GAIN:
                break
            at, now, way = ahead[best], there[best], direction
        return at, float(now), way

    def _away(self, points: Sequence[Array]) -> Array:
        """How far the slopes between the corners are from the derived ones, the farthest of the dims."""
        jobs = [(tuple(p), k) for p in points for k in self.corners if tuple(p) not in self.tried]
        with ThreadPoolExecutor(self.run.workers) as pool:
            sizes = dict(zip(jobs, pool.map(lambda job: self._mean(*job), jobs), strict=True))
        run, term = self.run, self.run.claims[self.row.key].terms[0]
        places = [run.frame.place(run.cells[k]) for k in self.corners]
        for p in points:
            if tuple(p) in self.tried:
                continue
            logs = [sizes[tuple(p), k] - math.log(term.at(place)) for k, place in zip(self.corners, places, strict=True)]
            slopes = [
                (log - logs[0]) / math.log(place[d] / places[0][d])
                for d, log, place in zip(run.frame.dims, logs[1:], places[1:], strict=True)
            ]
            self.tried[tuple(p)] = max(map(abs, slopes)) if np.isfinite(slopes).all() else math.inf
        return np.array([self.tried[tuple(p)] for p in points])

    def _mean(self, at: Sequence[float], k: int) -> float:
        return float(self._sample(at, k, SEEDS, 0).mean())

    def _sample(self, at: Sequence[float], k: int, seeds: int, batch: int) -> Array:
        """Logs of a row's statistic; the same random numbers for all prefactors."""
        factors = dict(zip(self.weights, np.exp(at), strict=True))
        setting = setting_of(self.run, k, seeds, "prefactors", batch, factors)
        return measure(self.plan, setting)[self.row.key].numpy()

    def _judged(self, at: Array, way: Array) -> Elsewhere | None:
        """The verdict on fresh seeds, here and further on; None where the row is refuted here, too."""
        run, claim = self.run, self.run.claims[self.row.key]
        alpha, limit = run.alpha, run.limit(self.row)
        here = self._cells(at, 1)
        judged, _ = assess(here, claim, alpha, limit)
        if judged.verdict == "disagrees":
            return None
        if judged.verdict == "agrees":
            further = np.clip(at + (way if way.any() else np.sign(at) * math.log(2)), -MOST, MOST)
            again, _ = assess(self._cells(further, 2), claim, alpha, limit)
            if again.verdict != "agrees":
                doubt = Doubt("it agrees with some prefactors and not with others", wider=tuple(run.frame.dims))
                judged = Judgement("inconclusive", str(doubt), judged.slopes, (), doubt)
        factors = {w: float(f) for w, f in zip(self.weights, np.exp(at), strict=True) if abs(math.log(f)) > 0.1}
        points = tuple(point(run.cells[k], c.logs) for k, c in enumerate(here))
        return Elsewhere(factors, points, judged)

    def _cells(self, at: Array, first: int) -> list[Cell]:
        run = self.run
        jobs = list[tuple[int, int, int]]()
        for k in range(run.common):
            wanted = max(SEEDS, min(ENOUGH, len(run.get("first", k, self.row.key))))
            size = batch_size(run, k)
            batches = max(1, -(-wanted // size))
            jobs += [(k, -(-wanted // batches), 1000 * first + b) for b in range(batches)]
        with ThreadPoolExecutor(run.workers) as pool:
            found = list(pool.map(lambda job: self._sample(tuple(at), *job), jobs))
        logs = {k: [x for (j, _, _), x in zip(jobs, found, strict=True) if j == k] for k in range(run.common)}
        return [Cell(run.frame.place(run.cells[k]), np.concatenate(parts)) for k, parts in logs.items()]


__all__ = ["Elsewhere", "elsewhere", "hidden"]
