"""Learning curves and times, drawn: gradient descent, closed form and flow together, mode by mode and for growing N."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from scalecalc.dynamics import flow
from scalecalc.dynamics.experiments import Lengths, Stages
from scalecalc.dynamics.spectra import Spectra
from scalecalc.report.plots import COLORS, INK, MARKERS, SOFT, figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scalecalc.dynamics.convergence import Learned
    from scalecalc.dynamics.study import Study

MOST_CURVES = 5
FLOW_STATES = 64  # the flow is integrated up to so many states; beyond, gradient descent and the closed form are drawn


def _shown(states: tuple[int, ...]) -> list[int]:
    picked = np.unique(np.linspace(0, len(states) - 1, min(len(states), MOST_CURVES)).round().astype(int))
    return [int(i) for i in picked]


@styled
def curves(study: Study, spectra: Spectra) -> Figure | None:
    """A panel per setting: gain over its final value; lines gradient descent, dashes the closed form, crosses the flow."""
    columns = min(3, len(study.learned))
    rows = math.ceil(len(study.learned) / columns)
    made, axes = figure(columns, rows, size=(2.9, 2.2), share=False)
    for ax, one in zip(axes.ravel(), study.learned, strict=False):
        for k, i in enumerate(_shown(one.states)):
            color = COLORS[k % len(COLORS)]
            inside = one.time[i] > one.time[i, -1] / 3000
            t, w = one.time[i][inside], one.gain[i][inside] / one.final
            ax.plot(t, w, color=color, linewidth=2.4, alpha=0.45, label=f"{one.states[i]}")
            ax.plot(t, one.predicted[i][inside] / one.final, color=INK, linestyle=(0, (3, 2)), linewidth=0.9)
            crosses = _flow(one, i, spectra, study.statistics.pole)
            if crosses is not None:
                ax.plot(*crosses, color=color, marker="x", linestyle="none", markersize=4)
        ax.set_xscale("log")
        ax.set_ylim(-0.04, 1.08)
        ax.set_title(one.setting.name, color=INK)
    for ax in axes.ravel()[len(study.learned) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("W / (σ/η)")
    for ax in axes[-1]:
        ax.set_xlabel("time = steps × rate")
    handles, labels = axes[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=len(labels), title="N")
    return made


def _flow(one: Learned, i: int, spectra: Spectra, pole: float) -> tuple[list[float], list[float]] | None:
    """Some points of the flow that scipy integrates from the same start; None for settings it has no system for."""
    setting, n = one.setting, one.states[i]
    if setting.layers > 1 or n > FLOW_STATES:
        return None
    start = float(one.gain[i, 0])
    # Tied states move as one state does whose b and c are √N times as large, in N times the time.
    count, faster = (1, n) if setting.tied else (n, 1)
    if setting.frozen:
        b, c = (
            np.full((count, 1), start / n * (math.sqrt(n) if setting.tied else 1)),
            np.full((1, count), math.sqrt(n) if setting.tied else 1.0),
        )
    else:
        b = np.full((count, 1), math.sqrt(start / count))
        c = b.T.copy()
    low, high = one.time[i, -1] / 300, one.time[i, -1]
    at = np.concatenate([[0.0], np.geomspace(low, high, 12)])
    found = flow.integrate(
        spectra, flow.System(np.full(count, pole), b, c), at * faster, learn="b" if setting.frozen else "bc"
    )
    return list(at[1:]), list(found.gain[1:, 0, 0].real / one.final)


@styled
def times(study: Study) -> Figure | None:
    """Time constant and half-rise against N, with the derived size through them."""
    made, axes = figure(2, size=(3.4, 2.7), share=False)
    for ax, kind, title in zip(axes[0], ("time constant", "half-rise"), ("time constant", "half-rise"), strict=True):
        for k, one in enumerate(study.learned):
            row = next(r for r in one.rows if r.kind == kind)

            first: dict[int, float] = {}
            for p in row.points:  # the first at each N: G as the setting has it
                if p.widths["sigma"] == p.widths["eta"] == 1:
                    first.setdefault(p.widths["N"], math.exp(p.log))
            n = sorted(first)
            ax.plot(n, [first[v] for v in n], color=COLORS[k % len(COLORS)], marker=MARKERS[k % len(MARKERS)],
                    linestyle=("-", "--")[k // len(COLORS) % 2], linewidth=1, label=one.setting.name)  # fmt: skip

        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(n, [str(v) for v in n])
        ax.xaxis.set_minor_locator(_none())
        ax.set_xlabel("N")
        ax.set_title(title, color=INK)
    axes[0][0].set_ylabel("steps × rate")
    handles, labels = axes[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside right center", fontsize=6.5)
    return made


def _none() -> object:
    from matplotlib.ticker import NullLocator

    return NullLocator()


@styled
def statistics(study: Study, spectra: Spectra) -> Figure | None:
    """σ and η per frequency, averaged over bands."""
    pole = study.statistics.pole
    made, axes = figure(2, size=(3.2, 2.1), share=False)
    names = ("σ", "η")
    for ax, values, name in zip(
        axes[0], (spectra.sigma_k(pole)[:, 0, 0], spectra.eta_k(pole)[:, 0, 0]), names, strict=True
    ):
        bands = np.array_split(np.arange(len(values)), min(len(values), 96))
        middle = [float(spectra.omega[band].mean()) for band in bands]
        width = [float(spectra.weight[band].sum()) for band in bands]
        total = float(spectra.weight.sum())
        density = [float(values[band].sum()) / w * total for band, w in zip(bands, width, strict=True)]
        ax.plot(middle, density, color=COLORS[0])
        ax.axhline(0, color=SOFT, linewidth=0.6)
        ax.set_xlabel("ω, radians per sample")
        ax.set_title(f"{name} by frequency (mean: {name} = {values.sum():.3g})", color=INK)
    return made


@styled
def stages(found: Stages) -> Figure | None:
    """Modes in the order of their σ, and the loss that falls in stages."""
    made, axes = figure(2, size=(3.6, 2.5), share=False)
    left, right = axes[0]
    for k in range(len(found.poles)):
        color = COLORS[k % len(COLORS)]
        label = f"ω = {abs(np.angle(found.poles[k])):.2f}: σ = {found.sigma[k]:.2g}"
        left.plot(found.time, found.descent[:, k], color=color, linewidth=2.4, alpha=0.45, label=label)
        left.plot(found.time, found.flow[:, k], color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
        left.plot(found.time, found.alone[:, k], color=color, linewidth=0.9, linestyle=":")
    left.set_xscale("symlog", linthresh=float(found.time[-1]) / 100)
    left.set_xlim(0, float(found.time[-1]))
    left.set_title("|w| of each resonant mode", color=INK)
    left.legend(loc="upper left", fontsize=6.3)
    right.plot(found.time, found.loss, color=COLORS[0])
    right.set_xscale("symlog", linthresh=float(found.time[-1]) / 100)
    right.set_xlim(0, float(found.time[-1]))
    right.set_title("loss per sample", color=INK)
    for ax in (left, right):
        ax.set_xlabel("time = steps × rate")
    return made


@styled
def lengths(found: Lengths) -> Figure | None:
    """The error of the circular convolution against the zeros at the end, with its bound."""
    made, axes = figure(1, size=(3.4, 2.3))
    ax = axes[0][0]
    ax.plot(found.zeros, found.worst.max(1), color=COLORS[0], marker="o", label="largest of all seeds")
    ax.plot(found.zeros, found.bound, color=INK, linestyle=(0, (4, 2)), linewidth=1, label="bound")
    ax.set_yscale("log")
    ax.set_xlabel("P, zeros at the end of the inputs")
    ax.set_ylabel("largest error of the output")
    ax.legend(loc="upper right")
    return made
