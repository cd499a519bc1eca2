"""Verdicts by equivalence: what each needs, what excuses it, and the words that go with it."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from scalecalc.errors import InputError
from scalecalc.measure.slopes import Cell, fit
from scalecalc.scale import Scale
from scalecalc.table import Slope
from scalecalc.verdict import (
    Doubt,
    Drift,
    Fit,
    Judgement,
    LogFactor,
    Unusable,
    combine,
    confirm,
    judge,
    seeds_needed,
)

ONE, LOG = Scale.one(), Scale.log("N")
AROUND = Slope(0.0, -0.02, 0.02)


def interval(low, high):
    return Slope((low + high) / 2, low, high)


def measured(low, high, **more):
    """A fit with one dim whose excess lies in [low, high]; the total slope is 1 more."""
    total = {"N": interval(1 + low, 1 + high)}
    return replace(Fit(1e-7, total, {"N": interval(low, high)}, {}, {"N": (high - low) / 10.6}, {"N": 1e6}), **more)


def drifting(lower, upper, noise=0.01):
    change = interval(upper - lower - noise, upper - lower + noise)
    return {"N": Drift(interval(lower - noise, lower + noise), interval(upper - noise, upper + noise), change)}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.1, 0.1, "agrees"),
        (0.01, 0.09, "agrees"),  # excludes 0, but lies within the tolerance
        (-0.11, 0.05, "inconclusive"),
        (-0.05, 0.11, "inconclusive"),
        (-5, 5, "inconclusive"),
        (0.05, 0.5, "inconclusive"),
        (0.11, 0.5, "disagrees"),
        (-0.5, -0.11, "disagrees"),
    ],
)
def test_the_whole_interval_decides(low, high, verdict):
    judged = judge(measured(low, high), [ONE], 0.1)
    assert judged.verdict == verdict
    assert judged.slopes["N"].low == 1 + low
    assert bool(judged.settle) == (verdict != "agrees")


def test_every_dim_must_agree_and_one_may_refute():
    two = measured(-0.01, 0.01)
    wide = replace(two, excess={"M": interval(-0.3, 0.3), **two.excess}, freedom={"M": 1e6, "N": 1e6})
    assert judge(wide, [ONE], 0.1).verdict == "inconclusive"
    off = replace(wide, excess={**wide.excess, "N": interval(0.3, 0.4)})
    assert judge(off, [ONE], 0.1).misses == ("N above",)
    assert (
        judge(off, [ONE], 0.1).settle == "the slope in N is 0.350 (0.300 to 0.400) more than derived (tolerance 0.1)."
    )


def test_words_for_more_seeds():
    judged = judge(measured(-0.2, 0.2), [ONE], 0.1)
    assert judged.settle == "the slope in N is off by -0.20 to 0.20: about 4 times as many seeds."
    assert judged.doubt is not None
    assert judged.doubt.times == pytest.approx(4, rel=0.02)
    assert judged.doubt.wider == ("N",)
    assert "about 9 times as many" in judge(measured(-0.1, 0.5), [ONE], 0.1).settle  # on its way to a disagreement
    assert judge(measured(-0.1, 0.301), [ONE], 0.1).settle.endswith("off by -0.10 to 0.30: larger widths of N.")


def test_seeds_needed():
    assert seeds_needed(measured(-0.2, 0.2), 0.1) == pytest.approx(4, rel=0.02)
    assert seeds_needed(measured(-0.15, 0.25), 0.1) == pytest.approx(16, rel=0.02)
    assert seeds_needed(measured(-0.05, 0.05), 0.1) == pytest.approx(0.25)
    assert seeds_needed(measured(0.05, 0.3), 0.1) == math.inf
    assert seeds_needed(measured(0, 0), 0.1) == 0
    assert seeds_needed(replace(measured(0, 0), excess={}), 0.1) == math.inf
    few = replace(measured(-0.2, 0.2), freedom={"N": 10.0})  # the t quantile falls as seeds come in
    assert 1.5 < seeds_needed(few, 0.1) < 2.5


def test_a_slope_that_still_drifts_is_not_confirmed():
    leaving = measured(-0.05, 0.09, drift=drifting(-0.1, 0.15))
    judged = judge(leaving, [ONE], 0.1)
    assert judged.verdict == "inconclusive"
    assert judged.settle == (
        "the slope in N still drifts with width (off by -0.10 below, 0.15 above the middle): larger widths of N."
    )
    assert judge(measured(-0.05, 0.09, drift=drifting(-0.05, 0.09)), [ONE], 0.1).verdict == "agrees"


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [
        (0.30, 0.20, "inconclusive"),  # 0.1 per stretch towards 0.1
        (0.40, 0.10, "inconclusive"),
        (0.20, 0.30, "disagrees"),  # away
        (0.25, 0.25, "disagrees"),
        (0.26, 0.255, "disagrees"),  # not significantly
        (0.52, 0.48, "disagrees"),  # towards, but not within reach
    ],
)
def test_a_drift_towards_the_derived_slope_excuses_a_miss_only_within_reach(lower, upper, verdict):
    middle = (lower + upper) / 2
    for sign in (1, -1):
        ends = sorted((sign * (middle - 0.02), sign * (middle + 0.02)))
        fit = measured(*ends, drift=drifting(sign * lower, sign * upper))
        assert judge(fit, [ONE], 0.1).verdict == verdict


def test_a_log_must_show():
    def logs(surplus, change=None, misfit=False):
        return {"N": LogFactor(1.0, surplus, change, misfit)}

    seen, missing, unclear = interval(0.05, 0.1), interval(-0.07, -0.05), interval(-0.05, 0.05)
    assert judge(measured(-0.02, 0.02, logs=logs(seen)), [LOG], 0.1).verdict == "agrees"
    gone = judge(measured(-0.02, 0.02, logs=logs(missing)), [LOG], 0.1)
    assert (gone.verdict, gone.misses) == ("disagrees", ("log N missing",))
    assert "0.060 (0.050 to 0.070) short of the least" in gone.settle
    assert judge(measured(-0.02, 0.02, logs=logs(unclear)), [LOG], 0.1).verdict == "inconclusive"
    bent = judge(measured(-0.02, 0.02, logs=logs(seen, misfit=True)), [LOG], 0.1)
    assert bent.settle == "the size does not bend in N as log N does: larger widths of N."
    coming = judge(measured(-0.02, 0.02, logs=logs(missing, change=interval(0.02, 0.04))), [LOG], 0.1)
    assert (coming.verdict, "only at the upper widths" in coming.settle) == ("inconclusive", True)
    slow = judge(measured(-0.02, 0.02, logs=logs(missing, change=interval(0.001, 0.002))), [LOG], 0.1)
    assert slow.verdict == "disagrees"


SIZES = {
    "log": lambda n: np.log(n) + 0.577,
    "log, bare": lambda n: 3 * np.log(n),
    "constant": lambda n: 1.0,
    "N^(1/4)": lambda n: n**0.25,
    "N^(1/2)": lambda n: n**0.5,
    "N^(-1/4)": lambda n: n**-0.25,
}


@pytest.mark.parametrize(
    ("truth", "claim", "tolerance", "verdicts"),
    [
        ("log", LOG, 0.1, "agrees"),
        ("log", LOG, 0.05, "agrees"),
        ("log, bare", LOG, 0.1, "agrees"),
        *[("constant", LOG, tolerance, "disagrees") for tolerance in (0.05, 0.1)],
        *[("N^(1/4)", LOG, tolerance, "disagrees") for tolerance in (0.05, 0.1)],
        *[("N^(1/2)", LOG, tolerance, "disagrees") for tolerance in (0.05, 0.1)],
        *[("N^(-1/4)", LOG, tolerance, "disagrees") for tolerance in (0.05, 0.1)],
        *[(name, ONE, tolerance, "not agrees") for tolerance in (0.05, 0.1) for name in ("log", "log, bare")],
        *[("N^(1/4)", ONE, tolerance, "disagrees") for tolerance in (0.05, 0.1)],
        ("constant", ONE, 0.05, "agrees"),
        ("N^(1/4)", Scale.of("N", "1/4"), 0.05, "agrees"),
    ],
)
def test_a_log_is_told_from_a_constant_and_from_a_power(truth, claim, tolerance, verdicts):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        cells = [
            Cell({"N": n}, np.log(SIZES[truth](n)) + 0.15 * rng.standard_normal(2500)) for n in 2 ** np.arange(4, 11)
        ]
        verdict = judge(fit(cells, [claim], 1e-7), [claim], tolerance).verdict
        assert verdict == verdicts if verdicts != "not agrees" else verdict != "agrees"


def test_a_term_that_does_not_show_is_named():
    hidden = Scale.of("N", "1/2")
    shares = {ONE: interval(0.9, 1), hidden: interval(0, 0.18)}
    judged = judge(measured(-0.02, 0.02, shares=shares), [ONE, hidden], 0.1)
    assert judged.verdict == "inconclusive"
    assert judged.settle == "the term N^(1/2) does not show (18% of size² at most): larger widths of N."
    both = {ONE: interval(0.9, 1), hidden: interval(0.2, 0.3)}
    assert judge(measured(-0.02, 0.02, shares=both), [ONE, hidden], 0.1).verdict == "agrees"


def test_what_is_not_finite_is_said():
    bad = (Unusable({"M": 8, "N": 1024}, 0, 2, 100), Unusable({"M": 8, "N": 16}, 3, 0, 100))
    judged = judge(measured(-0.02, 0.02, unusable=bad), [ONE], 0.1)
    assert judged.verdict == "inconclusive"
    assert judged.settle == (
        "the measurement is not finite at M=8, N=1024 (2 infinite or undefined of 100 seeds); M=8, N=16 (3 zero of 100 "
        "seeds); use smaller prefactors or a higher precision."
    )
    assert "leave these widths out" in judge(measured(0.5, 0.6, unusable=bad[1:]), [ONE], 0.1).settle
    assert "and 2 more settings" in judge(measured(0.5, 0.6, unusable=bad[1:] * 5), [ONE], 0.1).settle


def test_exact_zeros():
    zero, other = replace(measured(0, 0), zero=True), measured(0, 0)
    assert judge(zero, [], 0.1).verdict == "agrees"
    assert judge(other, [], 0.1).verdict == "disagrees"
    assert judge(zero, [ONE], 0.1).verdict == "disagrees"
    overflow = replace(other, unusable=(Unusable({"N": 4}, 3, 1, 4),))
    assert judge(overflow, [], 0.1).verdict == "inconclusive"
    some = replace(other, unusable=(Unusable({"N": 4}, 3, 0, 4),))
    assert judge(some, [], 0.1).verdict == "disagrees"


def test_a_disagreement_counts_once_fresh_seeds_repeat_it():
    above, below = (judge(measured(*ends), [ONE], 0.1) for ends in ((0.2, 0.3), (-0.3, -0.2)))
    fine, wide = (judge(measured(*ends), [ONE], 0.1) for ends in ((-0.02, 0.02), (-0.2, 0.2)))
    again = judge(measured(0.15, 0.35), [ONE], 0.1)
    assert confirm(above, again) == again
    for other in (below, fine, wide):
        unsure = confirm(above, other)
        assert unsure.verdict == "inconclusive"
        assert "did not confirm" in unsure.settle
        assert not unsure.misses
    assert confirm(fine, above) is fine
    assert confirm(Judgement("disagrees", "", {}, ("N above", "M above")), again).misses == ("N above",)


AGREES, REFUTED = Judgement("agrees", "", {"N": AROUND}), Judgement("disagrees", "off", {}, ("N above",))
UNSURE = Judgement("inconclusive", "", {"N": interval(0.2, 0.3)}, (), Doubt("the slope is wide", 3.0))


@pytest.mark.parametrize(
    ("joint", "paths", "missing", "several", "one"),
    [
        (AGREES, {"A": AGREES, "B": AGREES}, (), "agrees", "agrees"),
        (AGREES, {"A": AGREES, "B": UNSURE}, (), "inconclusive", "agrees"),
        (AGREES, {"A": AGREES}, ("B",), "inconclusive", "agrees"),  # a term that was not measured where it leads
        (AGREES, {}, ("A", "B"), "inconclusive", "agrees"),
        (UNSURE, {"A": AGREES, "B": AGREES}, (), "inconclusive", "agrees"),  # a term may be missing
        (REFUTED, {"A": AGREES, "B": AGREES}, (), "disagrees", "disagrees"),
        (AGREES, {"A": REFUTED, "B": AGREES}, (), "inconclusive", "agrees"),  # a path that is too short refutes nothing
        (UNSURE, {"A": REFUTED}, (), "inconclusive", "inconclusive"),
    ],
)
def test_several_terms_need_every_path_and_a_single_one_any(joint, paths, missing, several, one):
    assert combine(joint, paths, several=True, missing=missing).verdict == several
    assert combine(joint, paths, several=False, missing=missing).verdict == one


def test_the_slopes_of_a_row_are_those_of_its_paths():
    path = Judgement("agrees", "", {"M": interval(0.4, 0.6)})
    found = combine(Judgement("agrees", "", {"M": AROUND, "N": AROUND}), {"A": path}, several=True)
    assert found.slopes == {"M": interval(0.4, 0.6), "N": AROUND}
    said = combine(AGREES, {"A": UNSURE}, several=True)
    assert said.settle == "where A leads, the slope is wide: about 3 times as many seeds."


@pytest.mark.parametrize("tolerance", [0, -0.1, math.nan])
def test_a_tolerance_is_positive(tolerance):
    with pytest.raises(InputError, match="must be positive"):
        judge(measured(-0.02, 0.02), [ONE], tolerance)


def test_judging_needs_no_numpy():
    words = "import sys, scalecalc.verdict; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
    proof = "import sys, scalecalc.measure.slopes; sys.exit('numpy' in sys.modules)"  # the check can fail
    assert subprocess.run([sys.executable, "-c", proof], check=False).returncode == 1
