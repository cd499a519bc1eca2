"""Plots of a sweep, drawn as the papers draw them.

Widths go from dark to light (:data:`RAMP`, viridis with a darker end, so that every line stands out of a white page); in a
page the colours are variables, and in the dark run from light to lighter.  Widths are told apart by markers, too.  A run that
diverged is a cross at the top; a best rate is a bar over its interval, with an arrow where it is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from scalecalc.report.plots import COLORS, GROUND, INK, LINE, MARKERS, SOFT, STYLE, figure, styled
from scalecalc.report.plots import _math as mathematics
from scalecalc.transfer.analysis import Axis, Summary, Width
from scalecalc.transfer.curves import Curve, Setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RAMP = ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#8fce2f", "#c8c020")  # viridis, darker at its end
SIGNS = "osD^vP<>"
LONGEST = 30  # characters of a name
Key = tuple[str, str, Setting]  # a panel's row: dim, group, the other dims


def _rows(found: Summary) -> list[Key]:
    """One for each line of settings, over all parameterizations."""
    return list(dict.fromkeys((axis.dim, axis.group, axis.others) for axis in found.axes))


def _axis(found: Summary, name: str, key: Key) -> Axis | None:
    own = [a for a in found.axes if a.parameterization == name and (a.dim, a.group, a.others) == key]
    return own[0] if own else None


def _titles(key: Key) -> str:
    dim, group, others = key
    at = f" at {', '.join(f'{mathematics(d)} = {n}' for d, n in others)}" if others else ""
    return f"{mathematics(dim)} grows{at}" + (f"; rate of {_name(group)} alone" if group else "")


def _name(words: str) -> str:
    """A name for a title, its end where it is long: the end of a file's path says more than its beginning."""
    return (words if len(words) <= LONGEST else f"…{words[1 - LONGEST :]}").replace("$", r"\$")


def ramp(count: int) -> list[int]:
    """Places on the ramp of so many widths, spread over all of it."""
    last = len(RAMP) - 1
    return [round(i * last / (count - 1)) if count > 1 else 2 for i in range(count)]


# ------------------------------------------------------------------ loss against rate


@styled
def rates(found: Summary) -> Figure | None:
    """Loss against learning rate: a line per width, a panel per parameterization, all on the same axes."""
    if not found.axes:
        return None
    made, rows = _panels(found, (2.6, 2.35))
    for key, shown in rows:
        limits = _limits([one for _, one in shown])
        widths = sorted({n for _, one in shown for n in one.widths})
        for ax, one in shown:
            _rate_axis(ax, [one for _, one in shown])
            _panel(ax, one, widths, limits)
        _loss_axis(shown[0][0], limits)
        shown[0][0].set_ylabel("loss")
        _beside(shown[-1][0], key, *_legend(widths))
    return made


def _panels(found: Summary, size: tuple[float, float]) -> tuple[Figure, list[tuple[Key, list[tuple[Axes, Axis]]]]]:
    """A panel per parameterization and line of settings: rows by what grows; what has no such line leaves no gap."""
    keys, names = _rows(found), [fate.parameterization for fate in found.fates]
    made, axes = figure(len(names), len(keys), size=size)
    out: list[tuple[Key, list[tuple[Axes, Axis]]]] = []
    for panels, key in zip(axes, keys, strict=True):
        own = [one for name in names if (one := _axis(found, name, key)) is not None]
        shown = list(zip(panels, own, strict=False))
        said = len(keys) > 1 or bool(key[1] or key[2])
        for ax, one in shown:
            ax.set_title((" \n" if said else "") + _name(one.parameterization))  # room for a line above
        for ax in panels[len(own) :]:
            ax.set_visible(False)
        if said:
            above = shown[0][0].annotate(_titles(key), (0, 1), (0, 18), xycoords="axes fraction",
                                         textcoords="offset points", color=SOFT, fontsize=8.5)  # fmt: skip
            above.set_in_layout(False)  # it may be wider than its panel
        out.append((key, shown))
    return made, out


def _beside(ax: Axes, key: Key, handles: list[Any], labels: list[str]) -> None:
    """The legend of a row, to the right of its last panel."""
    made = ax.legend(handles, labels, title=mathematics(key[0]), loc="upper left", bbox_to_anchor=(1.0, 1.03))
    made.set_in_layout(ax.get_subplotspec().is_last_col())  # pyright: ignore[reportOptionalMemberAccess]


def _panel(ax: Axes, one: Axis, widths: Sequence[int], limits: tuple[float, float, bool]) -> None:
    places = dict(zip(widths, ramp(len(widths)), strict=True))
    marks = {n: SIGNS[i % len(SIGNS)] for i, n in enumerate(widths)}
    for n, point in zip(one.widths, one.points, strict=True):
        color, cells = RAMP[places[n]], point.curve.fitting
        x, y = [cell.rate for cell in cells], [cell.mean for cell in cells]
        low, high = [min(cell.losses.values()) for cell in cells], [max(cell.losses.values()) for cell in cells]
        ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        ax.plot(x, y, color=color, marker=marks[n], markersize=3, linewidth=1.2, clip_on=True)
        _minimum(ax, point, color, marks[n])
        _lost(ax, point.curve, color, list(widths).index(n), len(widths))
    ax.set_ylim(*limits[:2])
    if limits[2]:
        ax.set_yscale("log")


def _minimum(ax: Axes, point: Width, color: str, mark: str) -> None:
    """The best rate with its interval, at the lowest loss; an arrow where one end is open."""
    best, y = point.best, point.loss.value
    if best.kind == "none" or not math.isfinite(y):
        return
    left, right = ax.get_xlim()
    low = max(best.low if math.isfinite(best.low) else best.tried - 1.2, left + 0.2)
    high = min(best.high if math.isfinite(best.high) else best.tried + 1.2, right - 0.2)
    x = best.rate
    ax.plot([low, high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt", zorder=4)
    for end, open_, sign in ((low, math.isinf(best.low), "<"), (high, math.isinf(best.high), ">")):
        cut = not open_ and end not in (best.low, best.high)  # the bar goes on
        ax.plot([end], [y], marker=sign if open_ or cut else "|", color=INK, markersize=3.5 if open_ or cut else 5, zorder=4)
    ax.plot([x], [y], marker=mark, markersize=4.6, color=color, markeredgecolor=INK, markeredgewidth=0.8, zorder=5)


def _lost(ax: Axes, curve: Curve, color: str, place: int, of: int) -> None:
    """Crosses at the top for rates at which runs diverged, a height per width; thin where only some did."""
    height = 0.985 - 0.12 * place / max(1, of - 1) if of > 1 else 0.985
    for cell in curve.cells:
        if cell.diverged:
            whole = not cell.losses
            ax.plot([cell.rate], [height], marker="x", color=color, markersize=4, markeredgewidth=1.4 if whole else 0.6,
                    transform=ax.get_xaxis_transform(), clip_on=False, zorder=4)  # fmt: skip


def _limits(axes: Sequence[Axis]) -> tuple[float, float, bool]:
    """Of the losses of one row of panels: what is far above where most runs end is cut off; log where they span decades."""
    best = [p.loss.value for one in axes for p in one.points if math.isfinite(p.loss.value)]
    every = sorted(cell.mean for one in axes for p in one.points for cell in p.curve.fitting)
    if not every:
        return 0.0, 1.0, False
    low, most = min(best), every[-1]
    log = low > 0 and every[int(0.8 * (len(every) - 1))] / low > 6
    if log:
        top = min(most, low * (every[int(0.9 * (len(every) - 1))] / low) ** 1.3)
        span = max(math.log(top / low), 0.1)
        return low * math.exp(-0.06 * span), low * math.exp(1.25 * span), True
    near = every[int(0.75 * (len(every) - 1))]
    top = min(most, max(near, max(best)) + 0.6 * (max(near, max(best)) - low))
    span = max(top - low, 1e-3 * abs(low), 1e-9)
    return low - 0.06 * span, low + 1.22 * span, False  # above what is drawn, room for the crosses


def _legend(widths: Sequence[int]) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=RAMP[k], marker=SIGNS[i % len(SIGNS)], markersize=3.5, label=str(n))
        for i, (n, k) in enumerate(zip(widths, ramp(len(widths)), strict=True))
    ]
    more = [
        Line2D([], [], color=INK, marker="o", markersize=4.6, markerfacecolor=GROUND, markeredgewidth=0.8, linewidth=1.1),
        Line2D([], [], color=SOFT, marker="x", markersize=4, linestyle="none", markeredgewidth=1.4),
    ]
    return [*handles, *more], [*map(str, widths), "best, interval", "diverged"]


def _rate_axis(ax: Axes, axes: Sequence[Axis]) -> None:
    rates = sorted({cell.rate for one in axes for point in one.points for cell in point.curve.cells})
    whole = [r for r in rates if r == round(r)] or rates
    step = max(1, math.ceil(len(whole) / 5))
    ax.set_xticks(whole[::step], [_power(r) for r in whole[::step]])
    ax.set_xlim(rates[0] - 0.5, rates[-1] + 0.5)
    ax.set_xlabel("learning rate")


def _power(log2: float) -> str:
    return f"$2^{{{log2:g}}}$"


def _loss_axis(ax: Axes, limits: tuple[float, float, bool]) -> None:
    if not limits[2]:
        return
    from matplotlib.ticker import LogFormatterMathtext, LogLocator, NullFormatter, StrMethodFormatter

    decades = math.log10(limits[1] / limits[0])
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(LogFormatterMathtext() if decades > 2 else StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


# ------------------------------------------------------------------ against the width


def _against_width(
    found: Summary, rows: Sequence[tuple[str, Callable[[Axes, Axis, str, str, float], None]]]
) -> Figure | None:
    """A column per line of settings, a row per quantity, a line per parameterization."""
    from matplotlib.ticker import NullLocator

    keys = _rows(found)
    if not keys:
        return None
    made, axes = figure(len(keys), len(rows), size=(3.4, 2.3))
    names = [fate.parameterization for fate in found.fates]
    for (label, plot), panels in zip(rows, axes, strict=True):
        for ax, key in zip(panels, keys, strict=True):
            widths: set[int] = set()
            for i, name in enumerate(names):
                one = _axis(found, name, key)
                if one is not None:
                    aside = 2 ** (0.09 * (i - (len(names) - 1) / 2))  # bars beside each other, not on top
                    plot(ax, one, COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], aside)
                    widths |= set(one.widths)
            ax.set_xscale("log", base=2)
            shown = sorted(widths)
            ax.set_xticks(shown, [str(n) for n in shown])
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_xlabel(mathematics(key[0]))
            if label == rows[0][0] and (len(keys) > 1 or key[1] or key[2]):
                ax.set_title(_titles(key), color=SOFT)
        panels[0].set_ylabel(label)
    handles = _names(names)
    made.legend(*handles, loc="outside lower center", ncols=min(5, len(names)))
    return made


def _names(names: Sequence[str]) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=COLORS[i % len(COLORS)], marker=MARKERS[i % len(MARKERS)]) for i in range(len(names))
    ]
    return handles, [_name(name) for name in names]


@styled
def best(found: Summary) -> Figure | None:
    """The best rate, and the largest stable one, against the width: level where it transfers."""
    made = _against_width(found, [("best rate", _best), ("largest stable rate", _stable)])
    if made is not None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        for ax in made.axes:
            ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            ax.yaxis.set_major_formatter(FuncFormatter(_tick))
    return made


def _tick(value: float, _: object) -> str:
    return _power(value)


def _best(ax: Axes, one: Axis, color: str, mark: str, aside: float) -> None:
    x = [n * aside for n in one.widths]
    known = [(at, p.best) for at, p in zip(x, one.points, strict=True) if p.best.kind != "none"]
    ax.plot([at for at, _ in known], [b.rate for _, b in known], color=color, linewidth=0.9, alpha=0.6)
    for at, b in known:
        low, high = max(b.low, b.rate - 1.5), min(b.high, b.rate + 1.5)
        ax.plot([at, at], [low, high], color=color, linewidth=1.6, solid_capstyle="butt")
        for end, open_, sign in ((low, math.isinf(b.low), "v"), (high, math.isinf(b.high), "^")):
            if open_:
                ax.plot([at], [end], marker=sign, color=color, markersize=4.5)
        ax.plot([at], [b.rate], marker=mark, color=color, markerfacecolor=color if b.kind == "inside" else "none")


def _stable(ax: Axes, one: Axis, color: str, mark: str, aside: float) -> None:
    x = [n * aside for n in one.widths]
    known = [(at, p.stable) for at, p in zip(x, one.points, strict=True) if math.isfinite(p.stable.low)]
    ax.plot([at for at, _ in known], [e.low for _, e in known], color=color, linewidth=0.9, alpha=0.6)
    for at, edge in known:
        ax.plot([at], [edge.low], marker=mark, color=color)
        if math.isfinite(edge.high):
            ax.plot([at], [edge.high], marker="_", color=color, markersize=7)
        high = edge.high if math.isfinite(edge.high) else edge.low + 0.6
        ax.plot([at, at], [edge.low, high], color=color, linewidth=1.2, linestyle=":")


@styled
def loss(found: Summary) -> Figure | None:
    """The loss at the best rate against the width: it should fall."""
    made = _against_width(found, [("loss at the best rate", _loss)])
    if made is not None:
        values = [p.loss.value for one in found.axes for p in one.points if math.isfinite(p.loss.value)]
        if values and min(values) > 0 and max(values) / min(values) > 6:
            for ax in made.axes:
                ax.set_yscale("log")
    return made


def _loss(ax: Axes, one: Axis, color: str, mark: str, aside: float) -> None:
    known = [(n, p.loss) for n, p in zip(one.widths, one.points, strict=True) if math.isfinite(p.loss.value)]
    ax.errorbar([n for n, _ in known], [v.value for _, v in known], color=color, marker=mark, elinewidth=1.2,
                yerr=[2 * v.error if v.degrees else 0.0 for _, v in known])  # fmt: skip


# ------------------------------------------------------------------ divergence, training curves


@styled
def divergence(found: Summary) -> Figure | None:
    """Which share of the seeds diverged, width × rate; empty where nothing was tried, a dot for runs stopped as dominated."""
    from matplotlib.colors import LinearSegmentedColormap

    if not found.axes:
        return None
    most = max(len(one.points) for one in found.axes)
    made, rows = _panels(found, (2.6, 0.24 * most + 0.95))
    shades = LinearSegmentedColormap.from_list("share", ["#e3f0f8", "#f0a95c", "#a83a00"]).with_extremes(bad="#ffffff00")
    for key, shown in rows:
        rates = sorted({c.rate for _, one in shown for p in one.points for c in p.curve.cells})
        for ax, one in shown:
            _map(ax, one, rates, shades)
        shown[0][0].set_ylabel(mathematics(key[0]))
    return made


def _map(ax: Axes, one: Axis, rates: Sequence[float], shades: Any) -> None:
    values = [[math.nan] * len(rates) for _ in one.points]
    for i, point in enumerate(one.points):
        for cell in point.curve.cells:
            j = rates.index(cell.rate)
            if cell.informative:
                share = values[i][j] = cell.diverged / cell.informative
                text, ink = (f"{share:.2g}".removeprefix("0") or "0"), "#fffffe" if share > 0.7 else "#1d232c"
                if cell.diverged:
                    ax.text(j, i, text, ha="center", va="center", fontsize=6, color=ink)
            elif cell.dominated:
                values[i][j] = 0.0
                ax.text(j, i, "·", ha="center", va="center", fontsize=9, color="#1d232c")
            if cell.rate == point.best.tried:
                ax.plot([j], [i], marker="o", markersize=4, color="#1d232c", markerfacecolor="none", markeredgewidth=0.9)
    ax.imshow(values, cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    whole = [j for j, r in enumerate(rates) if r == round(r)] or list(range(len(rates)))
    step = max(1, math.ceil(len(whole) / 5))
    ax.set_xticks(whole[::step], [_power(rates[j]) for j in whole[::step]])
    ax.set_yticks(range(len(one.widths)), [str(n) for n in one.widths])
    ax.set_xticks([j - 0.5 for j in range(1, len(rates))], minor=True)
    ax.set_yticks([i - 0.5 for i in range(1, len(one.widths))], minor=True)
    ax.tick_params(length=0, which="both")
    ax.grid(visible=False, which="major")
    ax.grid(visible=True, which="minor", color=LINE, linewidth=1.2)
    ax.set_xlabel("learning rate")
    for spine in ax.spines.values():
        spine.set_visible(False)


@styled
def training(found: Summary) -> Figure | None:
    """Training curves at the best rate that was tried, a line per width: the mean over the seeds."""
    if not any(_curves(point) for one in found.axes for point in one.points):
        return None
    made, rows = _panels(found, (2.6, 2.2))
    for key, shown in rows:
        widths = sorted({n for _, one in shown for n in one.widths})
        places, ends = dict(zip(widths, ramp(len(widths)), strict=True)), list[float]()
        for ax, one in shown:
            ax.set_xlabel("step")
            ax.set_xscale("log")
            for n, point in zip(one.widths, one.points, strict=True):
                mean = _curves(point)
                ax.plot(list(mean), list(mean.values()), color=RAMP[places[n]], linewidth=1.1)
                ends += mean.values()
        first = shown[0][0]
        if ends and min(ends) > 0:
            first.set_yscale("log")
            _loss_axis(first, (min(ends), max(ends), True))
        first.set_ylabel("training loss")
        handles, labels = _legend(widths)
        for handle in handles:
            handle.set_marker("none")
        _beside(shown[-1][0], key, handles[:-2], labels[:-2])
    return made


def _curves(point: Width) -> dict[int, float]:
    """The mean curve over the seeds of the best tried rate, at the steps that all of them have."""
    cell = next((c for c in point.curve.cells if c.rate == point.loss.rate), None)
    found = [dict(job.curve) for job in cell.jobs if job.curve and job.status == "done"] if cell else []
    if not found:
        return {}
    steps = sorted(step for step in found[0] if all(step in one for one in found))
    means = {step: sum(one[step] for one in found) / len(found) for step in steps}
    return {step: value for step, value in means.items() if step > 0 and math.isfinite(value)}


PLOTS: dict[str, tuple[Callable[[Summary], Any], str]] = {
    "rates": (rates, "Loss against learning rate, a line per width; the band spans the seeds. The large marker is the best "
              "rate, the bar its interval, an arrow a bound. Crosses at the top: runs that diverged, thin where only some."),
    "best": (best, "The best and the largest stable rate against the width: level where they transfer. Open markers: the "
             "best lies between rates, or beyond those that were tried. Dotted: up to the first rate that always "
             "diverges, without a bar where none was seen."),
    "loss": (loss, "Loss at the best rate that was tried, against the width, with two standard errors."),
    "divergence": (divergence, "Share of the runs that diverged. A ring marks the best rate, a dot runs that were stopped "
                   "as dominated."),
    "training": (training, "Training curves at the best rate, the mean over the seeds."),
}  # fmt: skip



def figures(found: Summary) -> dict[str, Figure]:
    """All plots that there is something for, laid out once: to lay one out takes longer than to write it."""
    import matplotlib as mpl

    out: dict[str, Figure] = {}
    for name, (make, _) in PLOTS.items():
        made = make(found)
        if made is not None:
            with mpl.rc_context(STYLE):  # pyright: ignore[reportArgumentType]
                made.draw_without_rendering()
            made.set_layout_engine("none")
            out[name] = made
    return out
