"""Plots of a sweep: what they show, in every format, the same from the same runs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from scalecalc.report.plots import draw
from scalecalc.transfer import plots
from scalecalc.transfer.analysis import Summary, verdicts
from scalecalc.transfer.synthetic import MUP, SP, jobs

RATES = list(np.arange(-10.0, -1.0))
HEADS = {"pdf": b"%PDF-", "svg": b"<?xml", "png": b"\x89PNG"}


@pytest.fixture(scope="module")
def found() -> Summary:
    return verdicts(jobs({"mup": MUP, "sp": SP}, [{"N": n} for n in (64, 256, 1024)], RATES), draws=500)


def test_loss_against_rate(found: Summary) -> None:
    figure = plots.rates(found)
    assert figure is not None
    left, right = figure.axes
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["mup", "sp"]
    assert left.get_ylim() == right.get_ylim()
    assert left.get_xlim() == right.get_xlim()
    for ax, axis in zip(figure.axes, found.axes, strict=True):
        minima = [line for line in ax.lines if line.get_markeredgecolor() == plots.INK and len(line.get_xdata()) == 1]
        centres = [line.get_xdata()[0] for line in minima if line.get_marker() not in "|<>"]
        assert centres == [point.best.rate for point in axis.points]
        ends = sorted(line.get_xdata()[0] for line in minima if line.get_marker() == "|")
        assert ends == sorted(end for p in axis.points for end in (p.best.low, p.best.high))
        crosses = [line for line in ax.lines if line.get_marker() == "x"]
        assert len(crosses) == sum(cell.diverged > 0 for p in axis.points for cell in p.curve.cells) > 2
        colors = [line.get_color() for line in ax.lines if len(line.get_xdata()) > 2]
        assert colors == [plots.RAMP[k] for k in plots.ramp(3)]  # ordered as the widths are


def test_against_the_width(found: Summary) -> None:
    best, loss = plots.best(found), plots.loss(found)
    assert best is not None
    assert loss is not None
    lines = [line for line in best.axes[0].lines if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in lines] == [[p.best.rate for p in a.points] for a in found.axes]
    assert [a.get_ylabel() for a in best.axes] == ["best rate", "largest stable rate"]
    drawn = [list(c.lines[0].get_ydata()) for c in loss.axes[0].containers]  # type: ignore[attr-defined]
    assert drawn == [[p.loss.value for p in a.points] for a in found.axes]


def test_the_map_of_divergence(found: Summary) -> None:
    figure = plots.divergence(found)
    assert figure is not None
    shares = np.array(figure.axes[1].images[0].get_array())
    expected = [[c.diverged / 2 for c in p.curve.cells] for p in found.axes[1].points]
    assert shares.tolist() == expected
    assert 0 < shares.sum() < shares.size


def test_training_curves_are_those_of_the_best_rate(found: Summary) -> None:
    figure = plots.training(found)
    assert figure is not None
    line, point = figure.axes[0].lines[-1], found.axes[0].points[-1]
    own = [j for j in found.jobs if j.parameterization == "mup" and j.dims["N"] == 1024 and j.log2_rate == point.loss.rate]
    last = max(dict(own[0].curve))
    assert line.get_xdata()[-1] == last
    assert line.get_ydata()[-1] == pytest.approx(sum(dict(j.curve)[last] for j in own) / 2)
    assert plots.training(verdicts([replace(j, curve=()) for j in found.jobs], draws=100)) is None


def test_files_of_every_format_are_the_same_from_the_same_runs(found: Summary) -> None:
    for format, head in HEADS.items():
        figure, again = plots.loss(found), plots.loss(found)
        assert figure is not None
        assert again is not None
        data = draw(figure, format, how="scalecalc transfer x")
        assert data.startswith(head)
        assert b"scalecalc transfer x" in data
        if format == "svg":
            assert draw(again, format, how="scalecalc transfer x") == data


def test_bounds_and_strange_runs_are_drawn(found: Summary) -> None:
    one = [j for j in found.jobs if j.parameterization == "mup"]
    edge = [j for j in one if j.log2_rate < -6 or j.dims["N"] == 64]  # a bound above
    edge += [replace(j, status="failed", loss=None) for j in one if j.log2_rate >= -6 and j.dims["N"] == 256]
    strange = [replace(j, loss=1e30 if j.log2_rate == -10 else j.loss, parameterization="a$b_{x} <y>") for j in edge]
    strange = [replace(j, loss=math.nan) if j.log2_rate == -9 and j.seed else j for j in strange]
    summary = verdicts(strange, draws=200)
    assert {p.best.kind for p in summary.axes[0].points} == {"inside", "above"}
    figure = plots.rates(summary)
    assert figure is not None
    assert any(line.get_marker() == ">" and line.get_markeredgecolor() == plots.INK for line in figure.axes[0].lines)
    for make in (plots.rates, plots.best):
        made = make(summary)
        assert made is not None
        assert draw(made, "svg").startswith(b"<?xml")


def test_one_width_has_no_plots() -> None:
    alone = verdicts(jobs({"mup": MUP}, [{"N": 64}], RATES), draws=100)
    assert [make(alone) for make, _ in plots.PLOTS.values()] == [None] * 5
