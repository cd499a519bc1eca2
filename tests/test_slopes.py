"""The intervals of the slopes cover as often as they say, heavy tails and free constants included; each claim can fail."""

import itertools
import math
import time

import numpy as np
import pytest
from scipy import special, stats

from scalecalc.errors import InputError, MeasureError
from scalecalc.measure.slopes import Cell, fit
from scalecalc.scale import Scale
from scalecalc.verdict import judge

WIDTHS = 2 ** np.arange(4, 11)
ONE, LOG = Scale.one(), Scale.log("N")
RATIO = Scale.of("M", "1/2") * Scale.of("N", "-1/2")
GRID = list(itertools.product([32, 128, 512], [32, 128, 512]))
CONTRAST = (np.arange(5) - 2) / (10 * math.log(2))  # the slope over the first five widths
PRODUCT = 3 * 0.6351814227307391  # −mean of log|z₁z₂z₃|


def heavy(rng, *shape):
    """log|z₁z₂z₃|, centred: an entry that shares three random scalars."""
    return np.log(np.abs(rng.standard_normal((3, *shape)))).sum(0) + PRODUCT


def line(size, rng, seeds=400, scatter=0.15, widths=WIDTHS):
    return [Cell({"N": int(n)}, np.log(size(float(n))) + scatter * rng.standard_normal(seeds)) for n in widths]


def square(size, rng, seeds=400, scatter=0.15):
    return [Cell({"M": m, "N": n}, np.log(size(m, n)) + scatter * rng.standard_normal(seeds)) for m, n in GRID]


def too_many(trials, alpha):
    """As many misses as an interval of error alpha has once in 10⁵ runs of the test."""
    return stats.binom.isf(1e-5, trials, alpha)


def misses(samples, widths, alpha, slope=0.0):
    """How many data sets, each a list of (trials, seeds) arrays of logs per width, miss the true slope."""
    count = 0
    for trial in range(len(samples[0])):
        e = fit([Cell({"N": int(n)}, v[trial]) for n, v in zip(widths, samples, strict=True)], [ONE], alpha).slopes["N"]
        count += not e.low <= slope <= e.high
    return count


def reference_misses(samples, widths, alpha, weigh):
    """The same by the book: weighted regression of the means, Welch–Satterthwaite; weights from estimated variances."""
    x, n = np.log(widths), np.array([v.shape[1] for v in samples])
    mean = np.stack([v.mean(1) for v in samples], 1)
    var = np.stack([v.var(1, ddof=1) for v in samples], 1) / n
    weight = 1 / var if weigh else np.ones_like(var)
    away = x - (weight * x).sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    a = weight * away / (weight * away**2).sum(1, keepdims=True)
    total = (a * a * var).sum(1)
    freedom = total**2 / ((a * a * var) ** 2 / (n - 1)).sum(1)
    return (np.abs((a * mean).sum(1)) > -special.stdtrit(freedom, alpha / 2) * np.sqrt(total)).sum()


def test_two_widths_without_skewness_give_welchs_interval():
    narrow, wide = np.linspace(-1, 1, 12), np.linspace(-1.5, 1.5, 40)
    found = fit([Cell({"N": 1}, narrow), Cell({"N": 3}, wide + 1)], [ONE], 0.01)
    welch = stats.ttest_ind(wide + 1, narrow, equal_var=False).confidence_interval(0.99)
    for slope in (found.slopes["N"], found.excess["N"]):
        assert np.allclose(np.array([slope.low, slope.high]) * math.log(3), welch, rtol=1e-9)


def test_mean_of_logs_covers_under_heavy_tails_and_estimated_weights_do_not():
    rng, trials = np.random.default_rng(1), 3000
    samples = [heavy(rng, trials, 16) for _ in range(5)]
    found = misses(samples, WIDTHS[:5], 0.01)
    assert trials * 0.01 / 4 < found < too_many(trials, 0.01)  # nor far too long
    assert reference_misses(samples, WIDTHS[:5], 0.01, weigh=True) > too_many(trials, 0.01)


def test_log_of_rms_does_not_cover():
    """The delta method on ½ log mean y²: a few seeds carry the mean square, and the scatter looks too small."""
    rng, trials, seeds = np.random.default_rng(2), 3000, 16
    squares = [np.exp(2 * heavy(rng, trials, seeds)) for _ in range(5)]
    mean = np.stack([v.mean(1) for v in squares], 1)
    var = np.stack([v.var(1, ddof=1) for v in squares], 1) / seeds / (2 * mean) ** 2
    a = CONTRAST
    total = (a * a * var).sum(1)
    t = -special.stdtrit(total**2 / ((a * a * var) ** 2 / (seeds - 1)).sum(1), 0.01 / 2)
    assert (np.abs((a * np.log(mean) / 2).sum(1)) > t * np.sqrt(total)).sum() > 3 * too_many(trials, 0.01)
    assert misses([np.log(v) / 2 for v in squares], WIDTHS[:5], 0.01) < too_many(trials, 0.01)


@pytest.mark.parametrize("statistic", ["log of rms", "mean of logs"])
def test_percentile_bootstrap_over_few_seeds_does_not_cover(statistic):
    rng, trials, seeds = np.random.default_rng(3), 800, 5
    logs = heavy(rng, trials, 5, seeds)
    missed = 0
    for v in logs:
        again = np.take_along_axis(v[None], rng.integers(0, seeds, (1500, 5, seeds)), 2)
        value = np.log(np.exp(2 * again).mean(2)) / 2 if statistic == "log of rms" else again.mean(2)
        low, high = np.quantile(value @ CONTRAST, [0.005, 0.995])
        missed += not low <= 0 <= high
    assert missed > too_many(trials, 0.01)
    assert misses(list(logs.swapaxes(0, 1)), WIDTHS[:5], 0.01) < too_many(trials, 0.01)


def test_few_seeds_that_lie_close_do_not_make_a_short_interval():
    rng, trials, seeds = np.random.default_rng(4), 2000, (256, 128, 64, 32, 16, 8, 4)
    samples = [rng.standard_exponential((trials, n)) - 1 for n in seeds]
    assert misses(samples, WIDTHS, 0.01) < too_many(trials, 0.01)
    assert reference_misses(samples, WIDTHS, 0.01, weigh=False) > 2 * too_many(trials, 0.01)  # without the floor


@pytest.mark.slow
def test_skewness_is_allowed_for_where_one_noisy_cell_dominates():
    rng, trials = np.random.default_rng(5), 5000
    samples = [2.0 ** (-k / 2) * (rng.standard_exponential((trials, 16)) - 1) for k in range(7)]
    assert misses(samples, WIDTHS, 0.01) < 0.019 * trials  # 0.0124, measured on 100 000
    assert reference_misses(samples, WIDTHS, 0.01, weigh=False) > 0.019 * trials


def test_two_dims_at_once_with_unequal_seeds():
    rng = np.random.default_rng(6)
    cells = [
        Cell({"M": m, "N": n}, 0.5 * np.log(m) - 0.25 * np.log(n) + 0.15 * rng.standard_normal(64 * 512 // n))
        for m, n in GRID
    ]
    found = fit(cells, [Scale.of("M", "1/2")], 1e-7)
    assert found.slopes["M"].low < 0.5 < found.slopes["M"].high
    assert found.slopes["N"].low < -0.25 < found.slopes["N"].high
    assert found.excess["M"].low < 0 < found.excess["M"].high < 0.05
    assert found.excess["N"].high < -0.2
    shorter = fit(cells, [Scale.of("M", "1/2")], 1e-2).excess["N"]
    assert found.excess["N"].low < shorter.low < shorter.high < found.excess["N"].high


def test_equal_widths_are_pooled_and_fixed_dims_are_constants():
    rng = np.random.default_rng(7)
    whole = [Cell({"N": c.widths["N"], "K": 4}, c.logs) for c in line(lambda n: n, rng)]
    halves = [Cell(c.widths, part) for c in whole for part in np.split(c.logs, 2)]
    terms = [Scale.of("N") * Scale.of("K", 3)]
    assert fit(whole, terms, 0.01) == fit(halves, terms, 0.01)
    assert list(fit(whole, terms, 0.01).slopes) == ["N"]


def test_a_deterministic_row_has_a_short_interval_around_the_truth():
    rng = np.random.default_rng(0)
    plain = fit(line(lambda n: n**0.5, rng, scatter=0), [Scale.of("N", "1/2")], 1e-7)
    assert -1e-9 < plain.excess["N"].low <= 0 <= plain.excess["N"].high < 1e-9
    log = fit(line(lambda n: np.log(n) + 0.577, rng, scatter=0), [LOG], 1e-7)
    assert -1e-4 < log.excess["N"].low <= log.excess["N"].high < 1e-4
    both = fit(square(lambda m, n: math.sqrt(1 + m / n), rng, scatter=0), [ONE, RATIO], 1e-7)
    assert -1e-4 < both.excess["N"].low <= both.excess["N"].high < 1e-4
    assert judge(both, [ONE, RATIO], 0.05).verdict == "agrees"
    wrong = fit(line(lambda n: n**0.5, rng, scatter=0), [ONE], 1e-7)
    assert judge(wrong, [ONE], 0.05).verdict == "disagrees"


def test_drift_of_a_slow_correction_is_seen():
    found = fit(line(lambda n: 1 + 8 / n, np.random.default_rng(8), seeds=2000), [ONE], 1e-7).drift["N"]
    assert found.lower.high < found.upper.low
    assert found.change.low > 0
    none = fit(line(lambda n: n**0.3, np.random.default_rng(8), seeds=2000), [ONE], 1e-7).drift["N"]
    assert none.change.low < 0 < none.change.high
    assert not fit(line(lambda n: n, np.random.default_rng(8), widths=(16, 64)), [ONE], 1e-7).drift


def test_a_log_beside_a_large_constant_is_neither_confirmed_nor_refuted():
    found = fit(line(lambda n: np.log(n) + 10, np.random.default_rng(9), seeds=1200), [LOG], 1e-7)
    judged = judge(found, [LOG], 0.1)
    assert judged.verdict == "inconclusive"
    assert "log N does not stand out from a constant" in judged.settle


def test_a_curve_that_no_constant_beside_the_log_explains():
    straight = fit(line(lambda n: n**0.5, np.random.default_rng(9), seeds=10000), [LOG], 1e-7)
    assert straight.logs["N"].misfit
    bent = fit(line(lambda n: np.log(n) + 0.577, np.random.default_rng(9), seeds=10000), [LOG], 1e-7)
    assert not bent.logs["N"].misfit


def test_a_log_in_the_denominator_and_beside_a_power():
    rng = np.random.default_rng(10)
    terms = [Scale.of("N", "1/2") * Scale.log("N", -1)]
    found = fit(line(lambda n: n**0.5 / (1 + np.log(n)), rng, seeds=1200), terms, 1e-7)
    assert judge(found, terms, 0.1).verdict == "agrees"
    flat = fit(line(lambda n: n**0.5, rng, seeds=1200), terms, 1e-7)
    assert judge(flat, terms, 0.1).misses == ("log N missing",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "terms"),
    [
        *[(lambda rng, r=r: line(lambda n: np.log(n) + r, rng, 50), [LOG]) for r in (-1, 0.577, 10)],
        *[(lambda rng, c=c: square(lambda m, n: math.sqrt(1 + c * m / n), rng, 50), [ONE, RATIO]) for c in (0, 1, 1e4)],
    ],
)
def test_intervals_beside_free_constants_cover_at_the_bounds_too(make, terms):
    rng, trials, missed = np.random.default_rng(11), 250, 0
    for _ in range(trials):
        excess = fit(make(rng), terms, 0.05).excess.values()
        missed += any(not e.low <= 0 <= e.high for e in excess)
    assert missed < too_many(trials, 0.05 * len(excess))


@pytest.mark.parametrize(
    ("size", "terms", "verdict", "unneeded"),
    [
        (lambda m, n: math.sqrt(1 + m / n), [ONE, RATIO], "agrees", ()),
        (lambda m, n: math.sqrt(1 + m / n), [ONE], "disagrees", ()),
        (lambda m, n: math.sqrt(1 + m / n), [RATIO], "disagrees", ()),
        (lambda m, n: math.sqrt(1 + (m / n) ** 2), [ONE, RATIO], "disagrees", ()),  # a term missing
        (lambda m, n: 1.0, [ONE, RATIO], "inconclusive", (RATIO,)),
        (lambda m, n: math.sqrt(m / n), [ONE, RATIO], "inconclusive", (ONE,)),
    ],
)
def test_several_terms_are_each_shown_to_be_needed_and_none_to_be_missing(size, terms, verdict, unneeded):
    found = fit(square(size, np.random.default_rng(12), seeds=1000), terms, 1e-7)
    judged = judge(found, terms, 0.1)
    assert (judged.verdict, found.unneeded) == (verdict, unneeded)
    assert all(share.low <= share.slope <= share.high for share in found.shares.values())


def test_three_terms():
    terms = [ONE, RATIO, RATIO**-1]
    cells = square(lambda m, n: math.sqrt(1 + m / n + n / m), np.random.default_rng(13), seeds=3000)
    found = fit(cells, terms, 1e-7)
    assert judge(found, terms, 0.1).verdict == "agrees"
    assert not found.unneeded


def test_a_known_correction_helps_the_right_exponent_and_saves_no_wrong_one():
    small = [Scale.of("N", "-1/2")]

    def verdict(size, corrections=small):
        cells = line(size, np.random.default_rng(14), seeds=4000)
        return judge(fit(cells, [ONE], 1e-7, corrections=corrections), [ONE], 0.1).verdict

    assert verdict(lambda n: math.sqrt(1 + 50 / n)) == "agrees"
    assert verdict(lambda n: math.sqrt(1 + 50 / n), ()) == "inconclusive"  # it drifts towards the derived slope
    assert verdict(lambda n: n**-0.5) == "disagrees"
    assert verdict(lambda n: n**0.25) == "disagrees"
    assert verdict(lambda n: n**0.25 * math.sqrt(1 + 50 / n)) == "disagrees"


def test_samples_without_a_logarithm_are_counted():
    cells = line(lambda n: 1.0, np.random.default_rng(15), seeds=50)
    cells[2].logs[:3] = -math.inf
    cells[4].logs[:2] = math.nan, math.inf
    found = fit(cells, [ONE], 1e-7)
    assert [(u.widths["N"], u.zeros, u.undefined, u.seeds) for u in found.unusable] == [(64, 3, 0, 50), (256, 0, 2, 50)]
    assert not found.zero
    assert judge(found, [ONE], 0.5).verdict == "inconclusive"
    cells[4].logs[:] = math.nan
    assert fit(cells, [ONE], 1e-7).unusable[1].undefined == 50
    assert not fit([Cell({"N": n}, np.full(3, math.nan)) for n in (2, 4)], [ONE], 1e-7).slopes


def test_zeros_are_judged_against_the_level_of_rounding():
    none = [Cell({"N": int(n)}, np.full(5, -math.inf)) for n in WIDTHS]
    rounding = [Cell({"N": int(n)}, np.full(5, math.log(1e-17))) for n in WIDTHS]
    assert fit(none, [], 0.01).zero
    assert not fit(rounding, [], 0.01).zero
    assert fit(rounding, [], 0.01, zero_level=math.log(1e-14)).zero
    assert not fit([*none[1:], rounding[0]], [], 0.01).zero
    assert not fit([*none[1:], Cell({"N": 16}, np.full(5, math.nan))], [], 0.01).zero
    assert fit(none, [ONE], 0.01).zero


@pytest.mark.parametrize(
    ("cells", "alpha", "error", "words"),
    [
        ([], 0.01, InputError, "0 cells"),
        ([Cell({"N": 2}, np.zeros(0))], 0.01, InputError, "cells with samples"),
        ([Cell({"N": 2}, np.zeros(3))], 1.0, InputError, "alpha=1.0"),
        ([Cell({"N": 2}, np.zeros(3)), Cell({"M": 2}, np.zeros(3))], 0.01, InputError, "dims of the first"),
        ([Cell({"N": 0}, np.zeros(3))], 0.01, InputError, "'N': 0"),
        ([Cell({"N": 2}, np.zeros(3))], 0.01, MeasureError, "any dim"),
        ([Cell({"N": 2}, np.zeros(3)), Cell({"N": 4}, np.zeros(1))], 0.01, MeasureError, "one seed at {'N': 4}"),
        ([Cell({"N": n, "M": n}, np.zeros(3)) for n in (2, 4, 8)], 0.01, MeasureError, "slopes in M, N apart"),
    ],
)
def test_what_cannot_be_fitted_says_why(cells, alpha, error, words):
    with pytest.raises(error) as caught:
        fit(cells, [ONE], alpha)
    assert words in str(caught.value)


def test_a_hundred_plain_rows_take_a_moment():
    cells = line(lambda n: n, np.random.default_rng(16), seeds=2000, widths=2 ** np.arange(2, 12))
    start = time.process_time()
    for _ in range(100):
        fit(cells, [Scale.of("N")], 1e-7)
    assert time.process_time() - start < 2
