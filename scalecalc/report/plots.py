"""Plots of what was measured, by matplotlib: each a Figure, to be saved as PDF, SVG or PNG, or to stand inside a page.

Colours are Okabe & Ito's, and what colour tells apart, markers and dashes do, too.  matplotlib is told nothing about the
machine it runs on (no time, no version, ids from the content), so that one table gives one file.  Inside a page the colours
are the page's own variables, and with them a plot follows the page into the dark.

To see one alone: ``plots.save(plots.row(table, table["y", "init"]), "y.png")``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from scalecalc.report.latex import GREEK
from scalecalc.report.latex import name as latex_name
from scalecalc.report.output import write_bytes
from scalecalc.scale import Scale
from scalecalc.table import Point, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
FORMATS = ("pdf", "svg", "png")
# On paper; in a page they are variables of its sheet (inline.py).
INK, SOFT, LINE, GROUND = "#1d232b", "#55606d", "#dcdfe3", "#ffffff"
COLORS = ("#0072b2", "#b85c00", "#00785a", "#97477c", "#6f5a00", "#a83a00")  # Okabe & Ito's, dark enough for thin lines
MARKERS = "osD^vP"
LARGEST = 200.0  # of a log that is drawn: what is larger has overflowed, or is zero
STYLE: dict[str, Any] = {
    "font.family": "sans-serif", "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5, "legend.fontsize": 7.5,
    "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.linewidth": 0.7, "axes.grid": True, "grid.color": LINE,
    "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlelocation": "left", "legend.frameon": False, "figure.facecolor": GROUND, "axes.facecolor": "none",
    "savefig.facecolor": GROUND, "svg.fonttype": "path", "pdf.fonttype": 42, "path.simplify": True, "lines.linewidth": 1.4,
    "lines.markersize": 4.5, "mathtext.fontset": "dejavusans", "axes.formatter.use_mathtext": True, "figure.dpi": 150,
    "xtick.minor.visible": False, "ytick.minor.visible": False, "legend.handlelength": 2.4,
}  # fmt: skip


def figure(
    columns: int, rows: int = 1, *, size: tuple[float, float] = (2.5, 2.1), share: bool = True, layout: str = "constrained"
) -> tuple[Figure, Any]:
    """A figure of panels, ``size`` inches each, and the panels as an array of rows × columns."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(size[0] * columns, size[1] * rows), layout=layout)  # pyright: ignore[reportArgumentType]
    return made, made.subplots(rows, columns, squeeze=False, sharey="row" if share else False)


def styled(plot: Callable[P, Figure | None]) -> Callable[P, Figure | None]:
    """A plot that is drawn in our style, whatever the user's is."""

    @wraps(plot)
    def drawn(*args: P.args, **more: P.kwargs) -> Figure | None:
        import matplotlib as mpl

        with mpl.rc_context(STYLE):
            return plot(*args, **more)

    return drawn


# ------------------------------------------------------------------ one row


@styled
def row(table: Table, one: Row) -> Figure | None:
    """Log size against the log of each dim, a line per setting of the others, with the fitted and the derived slope.

    None where the row has no points.
    """
    one = replace(one, points=tuple(p for p in one.points if math.isfinite(p.error) and abs(p.log) < LARGEST))
    dims = [dim for dim in _dims(table, one) if len({p.widths[dim] for p in one.points}) > 1]
    if not dims:
        return None
    # Without a layout engine, which takes a third of the time: all labels here are as long as they ever are.
    made, axes = figure(len(dims), size=(3.0, 2.2), layout="none")
    wide, high = made.get_size_inches()
    made.subplots_adjust(left=0.55 / wide, right=1 - 0.08 / wide, bottom=0.42 / high, top=1 - 0.24 / high, wspace=0.08)
    for ax, dim in zip(axes[0], dims, strict=True):
        lines(ax, one, dim)
    axes[0][0].set_ylabel("cosine" if one.statistic == "cosine" else f"{one.statistic} of {_math(one.row)}")
    return made


def lines(ax: Axes, one: Row, dim: str) -> None:
    """One panel: the points, the fitted slope through them with its interval, the derived size beside it."""
    groups = _groups(one.points, dim)
    for k, (others, points) in enumerate(groups):
        color, marker = COLORS[k % len(COLORS)], MARKERS[k % len(MARKERS)]
        x = [p.widths[dim] for p in points]
        y = [math.exp(p.log) for p in points]
        low, high = ([abs(math.exp(p.log + s * 2 * p.error) - math.exp(p.log)) for p in points] for s in (-1, 1))
        label = ", ".join(f"{_math(d)} = {n}" for d, n in others) or None
        ax.errorbar(x, y, yerr=[low, high], color=color, marker=marker, linestyle="none", label=label, elinewidth=1)
        middle = sum(p.log for p in points) / len(points)
        centre = sum(math.log(v) for v in x) / len(x)
        found = (one.measured or {}).get(dim)
        if found is not None and all(map(math.isfinite, (found.slope, found.low, found.high))):
            ends = [min(x), max(x)]
            ax.plot(ends, [math.exp(middle + found.slope * (math.log(e) - centre)) for e in ends], color=color)
            if k == 0:
                grid = [ends[0], math.exp(centre), ends[1]]
                low, high = ([math.exp(middle + s * (math.log(g) - centre)) for g in grid] for s in (found.low, found.high))
                ax.fill_between(grid, low, high, color=color, alpha=0.18, linewidth=0)
        derived = _curve(one.terms, dim, dict(others), x, middle)
        if derived:
            last = k == len(groups) - 1
            ax.plot(*derived, color=INK, linestyle=(0, (4, 2)), linewidth=1, label="derived" if last else None)
    _log_axes(ax, dim, one.points)
    _readable(ax, one.points)
    ax.set_title(_caption(one, dim), color=INK)
    if any(handle for handle in ax.get_legend_handles_labels()[1]):
        ax.legend(loc="best", labelspacing=0.25)


def _curve(
    terms: Sequence[Scale], dim: str, others: Mapping[str, int], x: Sequence[int], middle: float
) -> tuple[list[float], list[float]] | None:
    """The derived size along a dim, moved to where the points are on average."""
    pieces = 32 if len(terms) > 1 or any(t.log_power(dim) for t in terms) else 1  # a power alone is a straight line
    grid = [math.exp(math.log(min(x)) + i / pieces * math.log(max(x) / min(x))) for i in range(pieces + 1)]

    def log(width: float) -> float:
        widths = {**others, dim: width}
        known = [t.at({d: widths.get(d, 2) for d in t.dims}) for t in terms]
        return math.log(max(known))

    try:
        offset = middle - sum(map(log, x)) / len(x)
        return grid, [math.exp(log(g) + offset) for g in grid]
    except (ValueError, OverflowError):  # an exact zero, or a width of one under a logarithm
        return None


def _caption(one: Row, dim: str) -> str:
    found = (one.measured or {}).get(dim)
    said = ""
    if found is not None:
        from scalecalc.report.layout import slope

        said = f"{slope(found).replace('-', '−')}"
    if one.theta is None:
        return f"measured {said}" if said else ""
    power, log = one.theta.power(dim), one.theta.log_power(dim)
    derived = str(power).replace("-", "−") + (" and log" + ("" if log == 1 else f"^({log})") if log else "")
    return f"{said}, derived {derived}" if said else f"derived {derived}"


# ------------------------------------------------------------------ the whole table


@styled
def heat(table: Table) -> Figure | None:
    """Per row and dim, how far the measured slope is from the derived one; a cross where a row disagrees."""
    from matplotlib.colors import LinearSegmentedColormap

    rows = [r for r in table if r.measured and r.theta is not None]
    dims = [dim for dim in table.dims if any(dim in (r.measured or {}) for r in rows)]
    if not rows or not dims:
        return None
    columns = max(1, math.ceil(len(rows) / 40))
    per = math.ceil(len(rows) / columns)
    longest = max(len(_label(r)) for r in rows)
    width = 0.45 * len(dims) + 0.075 * longest + 0.35
    made, axes = figure(columns, size=(max(width, 2.3), 0.17 * per + 0.9), share=False)
    shades = LinearSegmentedColormap.from_list("error", ["#0072b2", "#f1f3f5", "#d55e00"]).with_extremes(bad="#ffffff")
    bound, image = 0.25, None
    for k, ax in enumerate(axes[0]):
        part = rows[k * per : (k + 1) * per]
        errors = [[_error(r, dim) for dim in dims] for r in part]
        image = ax.imshow(errors, cmap=shades, vmin=-bound, vmax=bound, aspect="auto", interpolation="nearest")
        ax.set_xticks(range(len(dims)), [_math(d) for d in dims])
        ax.set_yticks(range(len(part)), [_label(r) for r in part], fontsize=6.5)
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.set_ylim(per - 0.5, -0.5)
        for spine in ax.spines.values():
            spine.set_visible(False)
        for i, r in enumerate(part):
            for j, value in enumerate(errors[i]):
                if math.isfinite(value):
                    mark = {"disagrees": " ✗", "inconclusive": " ?"}.get(r.verdict or "", "")
                    ink = "#fffffe" if abs(value) > 0.19 else "#1d232c"  # not the page's: the cells keep theirs
                    ax.text(j, i, f"{value:+.2f}{mark}".replace("-", "−"), ha="center", va="center", fontsize=5.6, color=ink)
    assert image is not None
    bar = made.colorbar(image, ax=list(axes[0]), orientation="horizontal", fraction=0.03, pad=0.01, aspect=40, extend="both")
    bar.set_label("measured slope minus derived exponent")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return made


@styled
def drift(table: Table) -> Figure | None:
    """Local slopes between neighbouring widths, minus the derived exponent: what tends to zero is a correction to scaling."""
    rows = [r for r in table if r.points and r.theta is not None]
    dims = [d for d in table.dims if any(len({p.widths.get(d) for p in r.points}) > 2 for r in rows)]
    kinds = [k for k in ("init", "gradient", "update", "alignment") if any(r.kind == k for r in rows)]
    if not dims or not kinds:
        return None
    made, axes = figure(len(dims), len(kinds), size=(3.2, 1.8))
    for ax_row, kind in zip(axes, kinds, strict=True):
        for ax, dim in zip(ax_row, dims, strict=True):
            own = [r for r in rows if r.kind == kind]
            for r in own:
                found = [s for s in _local(r, dim) if math.isfinite(s[1])]
                if len(found) < 2:
                    continue
                color = {"agrees": COLORS[0], "disagrees": COLORS[5]}.get(r.verdict or "", COLORS[4])
                dash = {"agrees": "-", "disagrees": "--"}.get(r.verdict or "", ":")
                ax.plot([s[0] for s in found], [s[1] for s in found], color=color, linestyle=dash, linewidth=1, alpha=0.75,
                        marker="o", markersize=2.5)  # fmt: skip
            ax.axhline(0, color=INK, linewidth=0.8)
            ax.set_ylim(-0.6, 0.6)
            _log_axes(ax, dim, [p for r in own for p in r.points])
            ax.set_yscale("linear")
            ax.set_title({"init": "activations"}.get(kind, kind + "s"))
        ax_row[0].set_ylabel("local slope − derived")
    return made


@styled
def alignments(table: Table) -> Figure | None:
    """The cosines of all sums against each width: flat where the summands add up, falling where they cancel."""
    rows = [r for r in table if r.kind == "alignment" and r.points]
    dims = [d for d in table.dims if any(len({p.widths.get(d) for p in r.points}) > 1 for r in rows)]
    if not rows or not dims:
        return None
    made, axes = figure(len(dims), size=(3.6, 3.0))
    for ax, dim in zip(axes[0], dims, strict=True):
        for k, r in enumerate(rows):
            mean = _averaged(r.points, dim)
            color, marker = COLORS[k % len(COLORS)], MARKERS[k // len(COLORS) % len(MARKERS)]
            ax.plot(list(mean), [math.exp(v) for v in mean.values()], label=_label(r), linewidth=1, color=color,
                    marker=marker, linestyle="-" if r.klass == "aligned" else "--")  # fmt: skip
        _log_axes(ax, dim, [p for r in rows for p in r.points])
        ax.set_title(f"against {_math(dim)}; dashed: incoherent")
    axes[0][0].set_ylabel("cosine")
    handles, labels = axes[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=6.5)
    return made


@styled
def coordinates(tables: Mapping[str, Table]) -> Figure | None:
    """Parameterizations side by side, in the style of a coordinate check: by how much each feature moves, against a width.

    Of a feature the largest of its updates, by whichever weight; None where nothing was measured.
    """
    measured = {k: t for k, t in tables.items() if any(r.points for r in t if r.kind == "update")}
    if not measured:
        return None
    first = next(iter(measured.values()))
    dims = [d for d in first.dims if any(len({p.widths[d] for p in r.points}) > 1 for r in first if r.points)]
    features = dict.fromkeys(r.row for t in measured.values() for r in t if r.kind == "update")
    made, axes = figure(len(measured), len(dims), size=(2.3, 2.1))
    for ax_row, dim in zip(axes, dims, strict=True):
        for ax, (title, table) in zip(ax_row, measured.items(), strict=True):
            for k, feature in enumerate(features):
                own = [_averaged(r.points, dim) for r in table if r.kind == "update" and r.row == feature and r.points]
                widths = sorted({w for mean in own for w in mean})
                top = [max(mean[w] for mean in own if w in mean) for w in widths]
                ax.plot(widths, [math.exp(v) for v in top], color=COLORS[k % len(COLORS)], marker=MARKERS[k % len(MARKERS)],
                        linestyle=("-", "--", ":")[k // len(COLORS) % 3], linewidth=1.1, label=_math(feature))  # fmt: skip
            _log_axes(ax, dim, [p for r in table for p in r.points])
            if dim == dims[0]:
                ax.set_title(title)
        ax_row[0].set_ylabel("size of the update")
    handles, labels = axes[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)))
    return made


# ------------------------------------------------------------------ numbers


def _dims(table: Table, one: Row) -> list[str]:
    return [d for d in table.dims if all(d in p.widths for p in one.points)] if one.points else []


def _groups(points: Iterable[Point], dim: str) -> list[tuple[tuple[tuple[str, int], ...], list[Point]]]:
    """Points that differ in one dim only, by what the others are; settings of one point alone say nothing."""
    found: dict[tuple[tuple[str, int], ...], list[Point]] = {}
    for p in points:
        found.setdefault(tuple(sorted((d, n) for d, n in p.widths.items() if d != dim)), []).append(p)
    kept = [(k, sorted(v, key=lambda p: p.widths[dim])) for k, v in sorted(found.items()) if len(v) > 1]
    return kept[: len(COLORS)] or [(k, v) for k, v in sorted(found.items())][: len(COLORS)]


def _averaged(points: Sequence[Point], dim: str) -> dict[int, float]:
    """Per width of a dim, the mean of the logs over the settings of the others that have every width."""
    groups = [v for _, v in _groups(points, dim)]
    most = max(map(len, groups), default=0)
    whole = [v for v in groups if len(v) == most]
    widths = sorted({p.widths[dim] for v in whole for p in v})
    out: dict[int, float] = {}
    for w in widths:
        logs = [p.log for v in whole for p in v if p.widths[dim] == w]
        out[w] = sum(logs) / len(logs)
    return out


def _local(one: Row, dim: str) -> list[tuple[float, float]]:
    """Between neighbouring widths (at their geometric mean): the slope there, minus what is derived."""
    assert one.theta is not None
    mean, power = _averaged(one.points, dim), float(one.theta.power(dim))
    widths = list(mean)
    out: list[tuple[float, float]] = []
    for a, b in pairwise(widths):
        log = one.theta.log_power(dim)
        part = float(log) * math.log(math.log(b) / math.log(a)) if log and a > 1 else 0.0
        out.append((math.sqrt(a * b), (mean[b] - mean[a] - part) / math.log(b / a) - power))
    return out


def _error(one: Row, dim: str) -> float:
    found = (one.measured or {}).get(dim)
    assert one.theta is not None
    return math.nan if found is None else found.slope - float(one.theta.power(dim))


def _math(words: str) -> str:
    """A name as matplotlib's own mathematics sets it; as text where it reads as none, or needs none."""
    if words.isascii() and words.isalnum() and words not in GREEK:
        return words
    found = latex_name(words)
    return found if found.startswith("$") else words.replace("$", r"\$")


def _label(one: Row) -> str:
    by = f" by {_math('+'.join(one.tag))}" if one.tag else ""
    kind = {"gradient": "∇ ", "update": "Δ "}.get(one.kind, "")
    return f"{kind}{_math(one.row)}{by}" + (f", step {one.step}" if one.step > 1 else "")


def _log_axes(ax: Axes, dim: str, points: Sequence[Point]) -> None:
    from matplotlib.ticker import NullLocator

    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    widths = sorted({p.widths[dim] for p in points if dim in p.widths})
    shown = widths if len(widths) <= 5 else widths[:: math.ceil(len(widths) / 5)]
    ax.set_xticks(shown, [str(w) for w in shown])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(_math(dim))


def _readable(ax: Axes, points: Sequence[Point]) -> None:
    """At least a factor of four on the axis, so that noise about a constant does not fill it."""
    low, high = min(p.log - 2 * p.error for p in points), max(p.log + 2 * p.error for p in points)
    more = max(0.15 * (high - low), (math.log(4) - (high - low)) / 2)
    ax.set_ylim(math.exp(low - more), math.exp(high + more))
    if high - low < math.log(8):
        from matplotlib.ticker import LogLocator, StrMethodFormatter

        ax.yaxis.set_major_locator(LogLocator(base=2))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))


# ------------------------------------------------------------------ files


def draw(made: Figure, format: str, *, text: bool = False, how: str = "") -> bytes:
    """A figure in one of :data:`FORMATS`; letters of an SVG as outlines, or as ``text`` in the font of the page.

    ``how``: it was made, to stand in the file (its description; of a PDF the subject).
    """
    import matplotlib as mpl

    nothing = {"pdf": {"CreationDate": None, "Creator": None, "Producer": None}, "svg": {"Date": None, "Creator": None}}
    about = {"Subject" if format == "pdf" else "Description": how} if how else {}
    buffer = BytesIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": "scalecalc", "svg.fonttype": "none" if text else "path"}):
        made.savefig(buffer, format=format, dpi=200, metadata={**nothing.get(format, {}), **about})
    return buffer.getvalue()


def save(made: Figure, path: str | Path, *, how: str = "") -> None:
    """Write a figure; the format goes by the suffix.  ``how``: see :func:`draw`.

    Raises:
        InputError: the file cannot be written.
    """
    write_bytes(draw(made, Path(path).suffix[1:], how=how), path)
