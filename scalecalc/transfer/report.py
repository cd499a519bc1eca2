"""A sweep as a report: text for the terminal, Markdown, LaTeX, CSV, JSON, and a folder with all of it, a page and plots.

==================  =============================================================================
``report.html``     everything on one page, which needs no network
``summary.csv``     tidy: verdicts, drifts, and what was found at every width
``runs.csv``        a line per run
``transfer.json``   all of it, with the training curves
``transfer.md``     for a pull request or a wiki
``transfer.tex``    booktabs tables to ``\\input``
``plots/``          PDF, SVG and PNG
==================  =============================================================================

Every file opens with the command, the version and the seeds that made it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scalecalc.dossier import Made
from scalecalc.report.formats import choose
from scalecalc.report.layout import Section
from scalecalc.transfer import frame
from scalecalc.transfer.analysis import (
    NOT,
    TOLERANCE,
    TRANSFERS,
    UNDECIDED,
    Axis,
    Summary,
    Width,
    number,
    slope_words,
    verdicts,
)
from scalecalc.transfer.optimum import Best
from scalecalc.transfer.records import Job

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

PAGE = "report.html"
SHOWN = {TRANSFERS: "✓ transfers", NOT: "✗ does not", UNDECIDED: "? undecided"}
CLASSES = {SHOWN[TRANSFERS]: "agrees", SHOWN[NOT]: "disagrees", SHOWN[UNDECIDED]: "inconclusive"}
LINKS = {"summary.csv": "CSV", "runs.csv": "Runs", "transfer.json": "JSON", "transfer.tex": "LaTeX"}
TITLES = {
    "rates": "Loss against rate", "best": "Rates against width", "loss": "Loss against width",
    "divergence": "Divergence", "training": "Training",
}  # fmt: skip
SCALE = 1.4
RAMP_DARK = ("#9b7fd4", "#7f95e0", "#5fa8e0", "#3fbcc9", "#46d3a4", "#86e07a", "#c4e64f", "#fdee68")


# ------------------------------------------------------------------ what every printer shows


def heading(found: Summary) -> str:
    """What was run."""
    names = ", ".join(fate.parameterization for fate in found.fates)
    counts = ", ".join(f"{count} {status}" for status, count in found.counts().items())
    return f"learning rate transfer: parameterizations {names}; {len(found.jobs)} runs: {counts}"


def sections(found: Summary, stacked: bool = False) -> list[Section]:
    """The drifts, then width by width."""
    return [*([drifts(found, stacked)] if found.axes else []), *widths(found)]


def drifts(found: Summary, stacked: bool = False) -> Section:
    """A row per parameterization and line of settings; ``stacked``: both in one column."""
    rows: list[tuple[str, ...]] = []
    breaks: set[int] = set()
    for fate in found.fates:
        breaks.add(len(rows))
        for axis in fate.axes:
            name, verdict = fate.parameterization, SHOWN[axis.verdict]
            named = (f"{name}\n{axis.words}",) if stacked else (name, axis.words)
            rows.append((*named, slope_words(axis.drift), verdict, _stable(axis), axis.trend.words()))
    columns = (*(("under",) if stacked else ("under", "growing")), "best rate", "verdict", "largest stable rate", "loss")
    title = "Drift with the width, in octaves per doubling"
    return Section(title, columns, tuple(rows), frozenset(breaks - {0}), frozenset({"verdict", "best rate"}), 2 - stacked)


def _stable(axis: Axis) -> str:
    """The drift of the edge of stability; of rates none of which diverged there is none."""
    seen = any(cell.diverged for point in axis.points for cell in point.curve.cells)
    return slope_words(axis.stable_drift) if seen else "no rate diverged"


def widths(found: Summary) -> list[Section]:
    """A section per parameterization and group: the best rate and its loss, the largest stable rate, at every width."""
    out: list[Section] = []
    columns = ("width", "best rate", "loss", "stable", "diverges", "room")
    for fate in found.fates:
        for group in dict.fromkeys(point.curve.group for point in fate.points):
            rows = tuple(_width(point) for point in fate.points if point.curve.group == group)
            title = fate.parameterization + (f", rate of {group} alone" if group else "") + ": rates as log2"
            out.append(Section(title, columns, rows, tight=frozenset({"width", "best rate"})))
    return out


def _width(point: Width) -> tuple[str, ...]:
    best, edge = point.best, point.stable
    return (
        " ".join(f"{dim}={n}" for dim, n in point.curve.widths.items()),
        _best(best),
        point.loss.words(),
        number(edge.low, 1).removesuffix(".0") if math.isfinite(edge.low) else "none",
        number(edge.high, 1).removesuffix(".0") if math.isfinite(edge.high) else "none",
        f"{number(point.headroom, 1)}" if math.isfinite(point.headroom) else "",
    )


def _best(best: Best) -> str:
    """``−6.03 [−6.23, −5.87]``; of a bound what is known: ``over −6.00``."""
    if best.kind == "above":
        return f"over {number(best.low)}"
    if best.kind == "below":
        return f"under {number(best.high)}"
    if best.kind == "none":
        return "unknown"
    near = "near " if best.kind == "cliff" else ""
    low, high = (number(end) if math.isfinite(end) else "…" for end in (best.low, best.high))
    return f"{near}{number(best.rate)} [{low}, {high}]"


def closing(found: Summary) -> list[str]:
    """The verdict in one sentence, what would settle the rest, who is best, and notes."""
    compared = [] if found.comparison is None else [found.comparison.words()]
    return [found.words(), *unsettled(found), *compared, *stability(found), *found.notes]


def unsettled(found: Summary) -> list[str]:
    """A line per undecided line of settings: what would settle it."""
    out = [f"undecided: {a.parameterization}, {a.words}: {a.settle}." for a in found.axes if a.verdict == UNDECIDED]
    alone = [f.parameterization for f in found.fates if not f.axes]
    return out + [f"undecided: {name}: a second width." for name in alone]


def stability(found: Summary) -> list[str]:
    """Whose largest stable rate, at the largest width that all have, is how far above its best one.

    Base rates of two parameterizations mean different things, the ratio of a parameterization's own rates does not.
    """
    rooms: list[tuple[str, float]] = []
    if found.comparison is None:
        return []
    for fate in found.fates:
        at = [p for p in fate.points if not p.curve.group and tuple(p.curve.widths.items()) == found.comparison.widths]
        if at and math.isfinite(at[0].headroom) and at[0].best.kind in ("inside", "cliff"):
            rooms.append((fate.parameterization, at[0].headroom))
    if len(rooms) < 2:
        return []
    rooms.sort(key=lambda room: -room[1])
    said = ", ".join(f"{number(2**room, 1)} times under {name}" for name, room in rooms)
    return [f"The largest stable rate there is above the best one by: {said}."]


def method(found: Summary) -> list[str]:
    """What the page says of how all this was found."""
    level = f"{100 * (1 - found.alpha):g} %"
    return [
        "Best rate: the minimum of a cubic through the mean log losses around the lowest, over log₂ of the rate; by its "
        "distance from the minimum of the parabola the error of the fit is judged. Its noise is what is left of the losses "
        "after the mean of each rate and of each seed; curves of one parameterization lend each other some precision.",
        "Where the lowest loss is at the smallest or largest rate that was tried, the best rate is a bound and no value; "
        "next to a rate at which runs diverged, or were stopped as dominated, it is anywhere between the rates beside it.",
        "Drift: the slope of a line through the best rates over log₂ of the width. A parameterization transfers if each "
        f"whole interval lies within ±{found.tolerance:g}, and does not if one lies wholly outside; its intervals are made "
        f"to hold together with probability {level}, so that a wrong one of these two verdicts is rarer than "
        f"{100 * found.alpha:g} %.",
        "Largest stable rate: that up to which no run diverged; its room is log₂ of it over the best rate. The interval of "
        "its drift is the range over all edges between it and the rate from which on every run diverged.",
        "Loss: the mean over seeds at the best rate that was tried; it rises or falls where the simultaneous interval of the "
        "difference of neighbouring widths leaves zero out.",
    ]


# ------------------------------------------------------------------ printers


def render(found: Summary, format: str, *, width: int = 80, color: bool = False) -> str:
    """The summary in one of :data:`scalecalc.report.formats.FORMATS`.

    Raises:
        UnknownName: no such format.
    """
    return choose(format, {
        "table": lambda: to_terminal(found, width=width, color=color),
        "csv": lambda: frame.to_csv(found),
        "markdown": lambda: to_markdown(found),
        "json": lambda: frame.to_json(found),
        "latex": lambda: to_latex(found),
    })  # fmt: skip


def to_terminal(found: Summary, *, width: int = 80, color: bool = False) -> str:
    """For a person, at most ``width`` columns wide."""
    from scalecalc.report.terminal import draw

    pairs = zip(sections(found), sections(found, stacked=True), strict=True)
    return draw(heading(found), pairs, closing(found), width=width, color=color)


def to_markdown(found: Summary) -> str:
    """As GitHub-flavoured Markdown."""
    from scalecalc.report.markdown import document

    return document(heading(found), sections(found), closing(found))


def to_latex(found: Summary, *, standalone: bool = False) -> str:
    """As booktabs tables, to ``\\input`` or as a document."""
    from dataclasses import replace

    from scalecalc.report import latex

    plain = sections(found)
    written = [
        replace(one, columns=tuple(map(latex.text, one.columns)),
                rows=tuple(tuple(_tex_cell(cell) for cell in row) for row in one.rows))
        for one in plain
    ]  # fmt: skip
    pairs = zip(written, plain, strict=True)
    return latex._document("Learning rate transfer", heading(found), pairs, closing(found), standalone)


def _tex_cell(cell: str) -> str:
    import re

    from scalecalc.report import latex

    marks = {SHOWN[TRANSFERS]: "transfers", SHOWN[NOT]: r"\textbf{does not}", SHOWN[UNDECIDED]: "undecided"}
    if cell in marks:
        return marks[cell]
    parts = re.split(r"(2\^−?[\d.]+)", cell)
    return "".join(
        f"$2^{{{part[2:].replace('−', '-')}}}$" if i % 2 else latex.sentence(part) for i, part in enumerate(parts)
    )


def page(
    found: Summary, made: Made, *, links: Sequence[tuple[str, str]] = (), drawn: Mapping[str, Figure] | None = None
) -> str:
    """The report as one HTML file.

    Args:
        links: files beside it and what they are.
        drawn: its plots, if they have been drawn already.
    """
    from scalecalc.report import html
    from scalecalc.transfer.plots import figures

    klass = {NOT: "disagrees", TRANSFERS: "agrees"}.get(_worst(found), "inconclusive")
    names = ", ".join(fate.parameterization for fate in found.fates)
    compared = [] if found.comparison is None else [found.comparison.words()]
    counts = [f"{count} {status}" for status, count in found.counts().items()]
    facts = [f"{len(found.jobs)} runs", *counts, f"tolerance ±{found.tolerance:g} per doubling"]
    environment = html.environment()
    environment.filters.setdefault("rate", rate)
    return html.draw(
        "transfer.html",
        title=f"Learning rate transfer: {names}",
        heading=heading(found),
        made=made,
        facts=facts,
        links=links,
        ramp=_ramp(),
        ramp_dark=RAMP_DARK,
        klass=klass,
        symbol={"agrees": "✓", "disagrees": "✗"}.get(klass, "?"),
        words=found.words(),
        also=" ".join([*compared, *stability(found)]) or "One parameterization, so that nothing is compared.",
        open=[line.removeprefix("undecided: ") for line in unsettled(found)],
        notes=found.notes,
        tolerance=f"{found.tolerance:g}",
        level=f"{100 * (1 - found.alpha):g} %",
        drift=drifts(found),
        widths=widths(found),
        classes=CLASSES,
        figures=_figures(figures(found) if drawn is None else drawn),
        method=method(found),
    )


def _worst(found: Summary) -> str:
    """What colours the sentence at the top: red if none transfers, blue if one does."""
    every = {fate.verdict for fate in found.fates}
    return next((v for v in (TRANSFERS, UNDECIDED, NOT) if v in every), UNDECIDED)


def _ramp() -> tuple[str, ...]:
    from scalecalc.transfer.plots import RAMP

    return RAMP


def _figures(drawn: Mapping[str, Figure]) -> list[dict[str, object]]:
    """Each plot as SVG in the colours of the page."""
    from markupsafe import Markup

    from scalecalc.report.inline import inline
    from scalecalc.transfer.plots import PLOTS, RAMP

    out: list[dict[str, object]] = []
    for name, made in drawn.items():
        svg = _larger(inline(made, name, TITLES[name]))
        for i, color in enumerate(RAMP):
            svg = svg.replace(color, f"var(--ramp-{i})")
        out.append({"id": name, "title": TITLES[name], "svg": Markup(svg), "caption": PLOTS[name][1]})
    return out


def _larger(svg: str) -> str:
    """A plot drawn for paper at the size of a page on a screen."""
    import re

    head, rest = svg.split(">", 1)
    head = re.sub(r'\b(width|height)="([\d.]+)pt"', lambda m: f'{m[1]}="{SCALE * float(m[2]):.0f}pt"', head)
    return f"{head}>{rest}"


def rate(words: str) -> Markup:
    """Text in which powers of two, and what else is mathematics, are set as such."""
    import re

    from markupsafe import Markup

    from scalecalc.report.html import sentence

    parts = re.split(r"2\^(−?[\d.]*\d)", words)
    out = Markup()
    for i, part in enumerate(parts):
        out += Markup("2<sup>{}</sup>").format(part) if i % 2 else sentence(part)
    return out


# ------------------------------------------------------------------ the folder


def texts(
    found: Summary, made: Made, drawn: Mapping[str, Figure] | None = None, links: Mapping[str, str] = LINKS
) -> dict[str, str]:
    """The text files of a report by name, the page among them.  ``drawn``, ``links``: see :func:`page`."""
    from scalecalc.report.folder import _comment, _tex

    line = made.line()
    out = {
        "summary.csv": frame.to_csv(found, made),
        "runs.csv": frame.runs_csv(found, made),
        "transfer.json": frame.to_json(found, made),
        "transfer.md": f"<!-- {_comment(line)} -->\n\n{to_markdown(found)}",
        "transfer.tex": _tex(line) + to_latex(found),
    }
    return {PAGE: page(found, made, links=list(links.items()), drawn=drawn), **out}


def write(
    folder: str | Path, jobs: Iterable[Job] | Summary, *, made: Made | None = None, tolerance: float = TOLERANCE
) -> list[Path]:
    """Judge the runs of a sweep, and write the report; returns the files, the page first.

    Args:
        jobs: the runs, or what :func:`scalecalc.transfer.analysis.verdicts` said of them.
        made: how they were made, for the head of every file.

    Raises:
        InputError: a file cannot be written, or see :func:`scalecalc.transfer.analysis.verdicts`.
    """
    from scalecalc.report import output, plots
    from scalecalc.report.folder import made_folder
    from scalecalc.transfer.plots import figures

    found = jobs if isinstance(jobs, Summary) else verdicts(jobs, tolerance)
    made = made or Made("scalecalc transfer", seed=min((job.seed for job in found.jobs), default=0))
    target = made_folder(folder)
    done: list[Path] = []
    drawn = figures(found)
    for name, text in texts(found, made, drawn).items():
        output.write(text, target / name)
        done.append(target / name)
    for name, figure in drawn.items():
        for format in plots.FORMATS:
            path = made_folder(target / "plots") / f"{name}.{format}"
            plots.save(figure, path, how=made.line())
            done.append(path)
    return done


__all__ = ["page", "render", "to_latex", "to_markdown", "to_terminal", "write"]
