"""What runs say of a sweep: on surfaces whose best rate is known, and on runs that ended otherwise than by finishing."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from scalecalc.errors import InputError
from scalecalc.transfer import analysis, drift, optimum
from scalecalc.transfer.analysis import NOT, TRANSFERS, UNDECIDED, Summary, verdicts
from scalecalc.transfer.curves import curves
from scalecalc.transfer.records import Job
from scalecalc.transfer.synthetic import MUP, SP, Surface, jobs

WIDTHS = [{"N": n} for n in (64, 128, 256, 512, 1024)]
RATES = list(np.arange(-11.0, -1.0))
FEW = 1000


def sweep(surface: Surface, rates: list[float] = RATES, seeds: int = 2, **more: object) -> Summary:
    return verdicts(jobs({"p": surface}, WIDTHS, rates, seeds, **more), draws=FEW)  # type: ignore[arg-type]


def runs(losses: dict[float, list[float | str | None]], width: int = 64) -> list[Job]:
    """Runs of one width by rate: a loss per seed, or the status of a run that has none."""
    return [
        Job(f"{width}/{rate}/{seed}", "s", "p", {"N": width}, "", rate, seed,
            "done" if isinstance(one, float) else str(one), one if isinstance(one, float) else None)  # type: ignore[arg-type]
        for rate, column in losses.items() for seed, one in enumerate(column)
    ]  # fmt: skip


def bowl(rate: float, best: float, seed: int = 0) -> float:
    return 1.0 + 0.05 * (rate - best) ** 2 + 0.001 * math.sin(50 * rate + 9 * seed) + 0.01 * seed


def two(best: tuple[float, float], rates: list[float], **changed: list[float | str | None]) -> list[Job]:
    out: list[Job] = []
    for width, at in zip((64, 256), best, strict=True):
        column: dict[float, list[float | str | None]] = {r: [bowl(r, at, s) for s in (0, 1)] for r in rates}
        column |= {float(r): v for r, v in changed.items()}
        out += runs(column, width)
    return out


# ------------------------------------------------------------------ verdicts


def test_one_that_transfers_and_one_that_does_not() -> None:
    found = verdicts(jobs({"mup": MUP, "sp": SP}, WIDTHS, RATES), draws=FEW)
    assert found.words() == "The best rate transfers under mup; it does not under sp."
    mup, sp = found["mup"].axes[0], found["sp"].axes[0]
    assert mup.drift.low <= 0 <= mup.drift.high
    assert sp.drift.low <= SP.drift <= sp.drift.high
    assert (mup.trend.word, sp.trend.word) == ("falls", "falls")
    assert mup.stable_drift.low <= 0 <= mup.stable_drift.high
    assert sp.stable_drift.low <= SP.drift + SP.edge_drift <= sp.stable_drift.high
    for k, point in enumerate(sp.points):
        assert point.best.low <= SP.optimum(k) <= point.best.high
    assert (found.exit_status(), found.exit_status(require=True), found.exit_status(strict=True)) == (0, 1, 0)
    assert found.comparison is not None
    assert found.comparison.widths == (("N", 1024),)
    assert found.comparison.words().startswith("At N = 1024 the lowest loss is mup's")
    assert found.comparison.told == {"sp"}
    assert verdicts(found.jobs, draws=FEW) == found  # the draws' seed is fixed


def test_the_tolerance_decides() -> None:
    made = jobs({"p": Surface(drift=0.2, noise=1e-4)}, WIDTHS, RATES)
    assert [verdicts(made, t, draws=FEW)["p"].verdict for t in (0.1, 0.2, 0.35)] == [NOT, UNDECIDED, TRANSFERS]


def test_each_axis_has_a_verdict_and_all_have_to_transfer() -> None:
    widths = [{"N_u": n, "N_x": 16} for n in (64, 128, 256, 512)] + [{"N_u": 128, "N_x": n} for n in (32, 64)]
    both = jobs({"p": Surface(drift=-0.8, noise=5e-4)}, widths, RATES, along=lambda d: math.log2(d["N_x"] / 16))
    found = verdicts(both + [replace(job, group="W_B") for job in both], 0.15, draws=FEW)
    assert [axis.words for axis in found.axes] == [
        "N_u at N_x = 16", "N_x at N_u = 128", "N_u at N_x = 16, rate of W_B alone", "N_x at N_u = 128, rate of W_B alone",
    ]  # fmt: skip
    assert [axis.verdict for axis in found.axes] == [TRANSFERS, NOT] * 2
    assert found["p"].verdict == NOT
    assert found["p"].words().startswith("the best rate does not transfer (N_x at N_u = 128: −0.")
    alone = verdicts([job for job in both if job.dims == widths[0]])
    assert (alone["p"].verdict, alone["p"].words()) == (UNDECIDED, "undecided: one width only")


def test_one_seed_is_not_enough() -> None:
    found = sweep(MUP, seeds=1)
    assert found["p"].verdict == UNDECIDED
    assert "second seed" in found.axes[0].settle
    assert found.exit_status(strict=True) == 3
    assert found.axes[0].trend.word == "unknown"


def test_bad_input() -> None:
    made = jobs({"p": MUP}, WIDTHS[:2], RATES)
    with pytest.raises(InputError, match="no runs"):
        verdicts([])
    with pytest.raises(InputError, match="2 sweeps"):
        verdicts([*made, replace(made[0], sweep="other")])
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="tolerance"):
            verdicts(made, wrong)
    with pytest.raises(InputError, match="probability"):
        verdicts(made, alpha=1.0)


# ------------------------------------------------------------------ bounds


def test_a_best_rate_at_the_edge_is_a_bound() -> None:
    low, high = list(np.arange(-4.0, 1.0)), list(np.arange(-9.0, -5.0))
    below, above = verdicts(two((-6.0, -6.0), low)).axes[0], verdicts(two((-5.0, -5.0), high)).axes[0]
    assert [(p.best.kind, p.best.low, p.best.high) for p in below.points] == [("below", -math.inf, -3.0)] * 2
    assert [(p.best.kind, p.best.low, p.best.high) for p in above.points] == [("above", -7.0, math.inf)] * 2
    assert (below.verdict, above.verdict) == (UNDECIDED, UNDECIDED)
    assert "rates smaller than 2^−4 at N = 64, 256: the best is the smallest" in below.settle
    assert "rates larger than 2^−6" in above.settle
    assert analysis.slope_words(above.drift) == "unknown"


def test_a_bound_may_decide_all_the_same() -> None:
    fell = verdicts(two((-4.0, -10.0), list(np.arange(-8.0, -1.0)))).axes[0]
    assert fell.points[1].best.kind == "below"
    assert fell.verdict == NOT
    assert math.isinf(fell.drift.low)
    assert fell.drift.high < -1
    assert analysis.slope_words(fell.drift).startswith("at most −1.")


@pytest.mark.parametrize("lost", ["diverged", "dominated"])
def test_beside_what_is_known_to_be_worse_the_best_lies_anywhere_between(lost: str) -> None:
    rates = list(np.arange(-9.0, -5.0))
    axis = verdicts(two((-5.5, -5.5), rates, **{"-5": [lost, lost]})).axes[0]
    for point in axis.points:
        assert point.best.kind == "cliff"
        assert -7 <= point.best.low < -6 < point.best.high <= -5
    assert axis.verdict == UNDECIDED
    assert "finer rates" in axis.settle
    # One seed that is lost takes the rate out of the fit, too: the other may be the luckier one.
    some = verdicts(two((-5.5, -5.5), rates, **{"-5": [0.5, lost]})).axes[0]
    assert some.points[0].best.tried == -6


def test_failed_runs_are_missing_and_repeated_ones_count_once() -> None:
    rates = list(np.arange(-9.0, -2.0))
    whole = two((-6.0, -6.0), rates)
    failed = [replace(job, status="failed", loss=None, why="out of memory") for job in whole if job.log2_rate == -8]
    kept = [job for job in whole if job.log2_rate != -8]
    assert verdicts([*kept, *failed], draws=FEW).axes[0].drift == verdicts(kept, draws=FEW).axes[0].drift
    again = verdicts([*kept, *failed, *(job for job in whole if job.log2_rate == -8)], draws=FEW)
    assert again.axes[0].drift == verdicts(whole, draws=FEW).axes[0].drift
    assert "4 runs failed" in verdicts([*kept, *failed]).notes[0]
    nothing = [replace(job, status="failed", loss=None) if job.dims["N"] == 256 else job for job in whole]
    axis = verdicts(nothing).axes[0]
    assert axis.points[1].best.kind == "none"
    assert "more rates at N = 256" in axis.settle


def test_a_loss_that_is_no_number_has_diverged() -> None:
    (curve,) = curves(runs({-1.0: [1.0, 1.0], 0.0: [math.nan, 1.0], 1.0: [math.inf, math.inf]}))
    assert [cell.diverged for cell in curve.cells] == [0, 1, 2]
    assert drift.stable(curve) == drift.Stable(-1.0, 1.0)


# ------------------------------------------------------------------ the best rate


def best_of(columns: dict[float, list[float | str | None]]) -> optimum.Best:
    (m,) = optimum.noises([optimum.means(c) for c in curves(runs(columns))])
    return optimum.draw(m, np.random.default_rng(0), 0.05).best


def test_a_cubic_is_found_exactly_and_a_parabola_whatever_the_spacing() -> None:
    for skew, rates in ((0.1, range(-10, -2)), (0.0, [-9, -7.5, -6.2, -5.8, -4, -3])):
        true = -6.3
        column = {float(r): [math.exp(0.05 * (d := r - true) ** 2 * (1 + skew * d))] * 2 for r in rates}
        best = best_of(column)
        assert best.rate == pytest.approx(true, abs=1e-6)
        assert best.low < true < best.high


def test_flat_minima_and_ties_widen_the_interval() -> None:
    noise = [0.01 * math.sin(37 * k) for k in range(40)]

    def with_depth(depth: float) -> optimum.Best:
        rates = range(-9, -2)
        return best_of({float(r): [1 + depth * (r + 6) ** 2 + noise[2 * i + s] for s in (0, 1)] for i, r in enumerate(rates)})

    steep, flat = with_depth(0.1), with_depth(0.0003)
    assert steep.high - steep.low < 1.2
    assert flat.high - flat.low > 4
    same = best_of({float(r): [1.0, 1.0] for r in range(-4, 1)})
    assert (same.low, same.high) == (-math.inf, math.inf)
    tied = best_of({-3.0: [1.2, 1.21], -2.0: [1.0, 1.01], -1.0: [1.0, 1.01], 0.0: [1.2, 1.21]})
    assert tied.rate == pytest.approx(-1.5)


def test_what_a_seed_adds_at_every_rate_is_no_noise() -> None:
    column = {float(r): [bowl(r, -6) for _ in range(3)] for r in range(-9, -2)}
    moved = {r: [one + k for k, one in enumerate(values)] for r, values in column.items()}
    logs = {r: [math.exp(v) for v in values] for r, values in moved.items()}
    (m,) = (optimum.means(c) for c in curves(runs(logs)))
    assert m.squares == pytest.approx(0, abs=1e-20)
    missing = {**logs, -6.0: [*logs[-6.0][:2], "failed"]}  # the seed that is missing is the worst
    (n,) = (optimum.means(c) for c in curves(runs(missing)))
    assert n.y == pytest.approx(m.y)


def test_curves_that_move_as_a_whole_with_their_seed_are_seen() -> None:
    def factor(surface: Surface) -> float:
        made = jobs({"p": surface}, WIDTHS, list(np.arange(-8.0, -4.0, 0.25)), 4)  # fine: many tie with the best
        return optimum.shifts(optimum.noises([optimum.means(c) for c in curves(made)]))

    assert factor(Surface(noise=1e-4, sway=0.3)) > 1.5 > factor(Surface(sway=0.0))


# ------------------------------------------------------------------ stability, loss


def test_the_edge_of_stability_is_a_range_and_so_is_its_drift() -> None:
    made: list[Job] = []
    for width, first in ((64, -2.0), (256, -4.0)):
        made += runs({r: [1.0 if r < first else "diverged"] * 2 for r in np.arange(-8.0, 0.0)}, width)
    axis = verdicts(made).axes[0]
    assert [p.stable for p in axis.points] == [drift.Stable(-3.0, -2.0), drift.Stable(-5.0, -4.0)]
    assert (axis.stable_drift.slope, axis.stable_drift.low, axis.stable_drift.high) == pytest.approx((-1.0, -1.5, -0.5))
    (mixed,) = curves(runs({-2.0: [1.0, 1.0], -1.0: [1.0, "diverged"], 0.0: ["dominated"] * 2, 1.0: ["diverged"] * 2}))
    assert drift.stable(mixed) == drift.Stable(-2.0, 1.0)
    (all_stable,) = curves(runs({-2.0: [1.0, 1.0], 0.0: ["dominated"] * 2}))
    assert drift.stable(all_stable) == drift.Stable(-2.0, math.inf)


@pytest.mark.parametrize(("power", "gain", "word"), [(0.25, 2.0, "falls"), (0.0, 0.0, "level"), (-0.1, 0.5, "rises")])
def test_whether_wider_is_better(power: float, gain: float, word: str) -> None:
    trend = sweep(Surface(power=power, gain=gain), seeds=3).axes[0].trend
    assert trend.word == word
    assert trend.monotone == (word != "rises")


def test_a_loss_that_rises_in_between_is_seen() -> None:
    made = sweep(Surface(common=0.001), seeds=3).jobs
    worse = [replace(j, loss=j.loss + 0.3) if j.dims["N"] == 512 and j.loss is not None else j for j in made]
    axis = verdicts(worse, draws=FEW).axes[0]
    assert axis.trend.word == "turns"
    assert axis.trend.words() == "rises from 256 to 512"


def test_advice_fits_what_is_missing() -> None:
    noisy = sweep(Surface(noise=0.01, drift=0.0))
    assert noisy["p"].verdict == UNDECIDED
    assert "seeds" in noisy.axes[0].settle
    coarse = verdicts(jobs({"p": MUP}, WIDTHS[:2], RATES[::2]), draws=FEW)
    assert "finer rates" in coarse.axes[0].settle


# ------------------------------------------------------------------ error rates


@pytest.mark.slow
@pytest.mark.parametrize(
    ("surface", "seeds"),
    [(Surface(), 2), (Surface(noise=0.01, skew=0.2), 3), (Surface(sway=0.15), 4), (Surface(edge=0.6), 2)],
)
def test_intervals_hold_what_they_say(surface: Surface, seeds: int) -> None:
    """Over fifty sweeps, each with its own place between the rates that are tried."""
    widths = drifts = 0
    for k in range(50):
        best = -6.0 + float(np.random.default_rng(k).uniform(-0.5, 0.5))
        one = replace(surface, best=best, drift=(-0.4, 0.0)[k % 2])
        axis = sweep(one, seeds=seeds, seed=k).axes[0]
        drifts += axis.drift.low <= one.drift <= axis.drift.high
        widths += sum(p.best.low <= one.optimum(i) <= p.best.high for i, p in enumerate(axis.points))
    assert drifts >= 42  # fewer than 42 of 50 at 95 %: one in a thousand
    assert widths >= 225  # of 250


@pytest.mark.slow
def test_wrong_verdicts_are_rare_at_the_tolerance_itself() -> None:
    """Just outside it nothing may be told to transfer, just inside it nothing not to; far off both are told."""
    told: dict[float, Counter[str]] = {}
    for value in (-0.11, 0.09, 0.0, -0.4):
        told[value] = Counter(
            sweep(Surface(drift=value, best=-6 + 0.1 * (k % 7)), seed=100 + k)["p"].verdict for k in range(40)
        )
    assert told[-0.11][TRANSFERS] <= 6
    assert told[0.09][NOT] <= 6
    assert told[0.0][TRANSFERS] >= 25
    assert told[-0.4] == {NOT: 40}
