"""The pages: a report of one model, its derivation, and parameterizations side by side.

Here is put together what the templates in ``page/`` show; how a size or a name is written is in :mod:`scalecalc.report.html`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from scalecalc.dossier import Collection, Dossier
from scalecalc.explain import Stage
from scalecalc.proof import Corollary, Proof
from scalecalc.report import diagram, groups, html, latex, layout, plots
from scalecalc.report.comparison import notes
from scalecalc.report.explanation import said
from scalecalc.report.inline import inline
from scalecalc.report.summary import details, judged, summary
from scalecalc.scale import Regime, Scale
from scalecalc.table import KINDS, Row, Table

SYMBOLS = {
    "agrees": "✓", "disagrees": "✗", "inconclusive": "?", "exploding": "▲", "explodes": "▲", "vanishing": "▽", "lazy": "▽",
    "stable": "●", "learning": "●", "learns": "●", "aligned": "●", "incoherent": "○", "unsettled": "?",
}  # fmt: skip
ONE = Scale.one()
# A page stays below three megabytes: of more steps than it holds, each row has those that its derivation ends with; of more
# plots, those that do not agree come first. A plot takes the room of thirty steps.
MANY, FEW, PLOTS, ROOM = 4000, 8, 120, 30
CAPTIONS = {
    "heat": "By how much each measured slope misses the derived exponent. ✗ the row disagrees, ? it is not settled.",
    "drift": "Local slopes between neighbouring widths, minus the derived exponent, a line per row. What comes nearer to "
    "zero with the width is a correction to scaling. Solid: agrees. Dotted: not settled. Dashed: disagrees.",
    "alignment": "The cosine of every sum: flat where the summands add up, falling where they cancel.",
}


@dataclass(frozen=True)
class Verdict:
    """The sentence at the top: how it looks, what it says, what it says beside, and what is open."""

    klass: str
    symbol: str
    main: str
    also: str
    open: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One row as the table shows it.  ``order``: what its Θ is sorted by; ``text``: what a filter looks in."""

    id: str
    row: Row
    order: float
    text: str
    plot: Markup | None
    corollary: Corollary | None


@dataclass(frozen=True)
class Group:
    """The rows of one kind."""

    kind: str
    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Shown:
    """A plot of the whole table."""

    svg: Markup
    caption: str


def verdict(table: Table) -> Verdict:
    """Of a measured table how many rows agree; of a derived one what the updates do to the features."""
    from scalecalc.compare import Fate

    fate = Fate.of(table).words() if any(row.kind == "update" for row in table) else summary(table)
    if not judged(table):
        classes = summary(table).partition(": ")[2]
        said_of = f"By class: {classes or summary(table)}. Nothing was measured."
        return Verdict("derived", "Θ", f"Derived: {fate}.", said_of, ())
    counts, of = table.counts(), len(table)
    klass = "disagrees" if counts["disagrees"] else "agrees" if 2 * counts["agrees"] > of else "inconclusive"
    missing = of - sum(counts.values())
    parts = [f"{counts['agrees']} of {of} derived rows agree with the measurement"]
    parts.append(f"{counts['disagrees'] or 'none'} disagree" + ("s" if counts["disagrees"] < 2 else ""))
    if counts["inconclusive"]:
        parts.append(f"{counts['inconclusive']} " + ("is" if counts["inconclusive"] == 1 else "are") + " not settled")
    if missing:
        parts.append(f"{missing} " + ("was" if missing == 1 else "were") + " not measured")
    main = ", ".join(parts[:-1]) + " and " + parts[-1] + "."
    return Verdict(klass, SYMBOLS[klass], main, f"{fate[:1].upper()}{fate[1:]}.", tuple(details(table)))


def report_page(found: Dossier, *, links: Sequence[tuple[str, str]] = ()) -> str:
    """The report of one model as one HTML file.

    Args:
        links: files beside it and what they are.
    """
    table, proof = found.table, found.proof
    entries = _entries(table, proof)
    dims = layout.measured_dims(table)
    tagged, stepped = any(r.tag for r in table), len({r.step for r in table} - {0}) > 1
    is_judged = judged(table)
    columns = ["row", "kind", *(["by"] * tagged), *(["step"] * stepped), html.name("Theta")]
    columns += [*(map(html.name, dims) if is_judged else ()), "class", *(["verdict"] * is_judged)]
    ids = {(e.row.row, e.row.kind): e.id for e in reversed(entries)}
    return html.draw(
        "report.html",
        title=f"{table.model}: how its sizes scale",
        heading=layout.heading(table),
        made=found.made,
        table=table,
        verdict=verdict(table),
        judged=is_judged,
        dims=dims,
        tagged=tagged,
        stepped=stepped,
        columns=columns,
        kinds=[k for k in KINDS if any(r.kind == k for r in table)],
        classes=list(dict.fromkeys(r.klass for r in table if r.klass)),
        symbols=SYMBOLS,
        groups=_groups(table, entries),
        more=layout.more_of(table),
        snippet=groups.to_torch(table),
        latex_parameterization=latex.parameterization(table),
        latex_sizes=latex.to_latex(table),
        diagram=_diagram(found, ids),
        figures=_figures(table),
        proof=proof,
        stages=_stages(proof),
        most=FEW if _steps(proof) + ROOM * sum(e.plot is not None for e in entries) > MANY else None,
        leaves={leaf.at: leaf for leaf in proof.leaves} if proof else {},
        links=links,
    )


def derivation_page(found: Dossier) -> str:
    """The modular proof as one HTML file."""
    assert found.proof is not None
    return html.draw(
        "derivation.html",
        title=f"{found.table.model}: the derivation",
        heading=found.proof.heading,
        made=found.made,
        proof=found.proof,
        stages=_stages(found.proof),
        corollaries=[(f"row-{i}", c) for i, c in enumerate(found.proof.corollaries)],
    )


def comparison_page(found: Collection, links: Mapping[str, str]) -> str:
    """Parameterizations side by side.  ``links``: the folder's report of each."""
    comparison = found.comparison
    figure = plots.coordinates(comparison.tables)
    updates = comparison.keys("update")
    features = dict.fromkeys(key[0] for key in updates)
    first = next(iter(comparison.tables.values()))
    weights = dict.fromkeys(w for t in comparison.tables.values() for w in t.parameterization)
    return html.draw(
        "comparison.html",
        title=f"{comparison.model}: {len(comparison.tables)} parameterizations",
        heading=f"{comparison.model}: {', '.join(comparison.tables)}",
        made=found.made,
        tables=comparison.tables,
        first=first,
        fates=comparison.fates,
        features=list(features),
        weights=list(weights),
        quantities=_quantities(comparison.tables),
        notes=notes(comparison),
        initial=comparison.keys("init"),
        updates=updates,
        row=comparison.row,
        symbols=SYMBOLS,
        links=links,
        counts={name: summary(table) for name, table in comparison.tables.items() if judged(table)},
        figure=Markup(inline(figure, "coordinates", "Size of the updates against the widths")) if figure else None,
    )


def _quantities(tables: Mapping[str, Table]) -> dict[str, str]:
    """Inits and rates; and what else is not the same for every weight."""
    scalings = [s.given() for t in tables.values() for s in t.parameterization.values()]
    differs = {q for s in scalings for q, scale in s.items() if scale != ONE}
    return {q: title for q, title in layout.QUANTITIES.items() if q in ("init", "lr") or q in differs}


def fragment(table: Table) -> str:
    """A table for a notebook, in the notebook's own style."""
    entries = [_entry(i, row) for i, row in enumerate(table)]
    return html.draw(
        "notebook.html", table=table, verdict=verdict(table), groups=_groups(table, entries), heading=layout.heading(table),
        symbols=SYMBOLS, dims=layout.measured_dims(table), judged=judged(table), more=layout.more_of(table),
    )  # fmt: skip


def _entry(i: int, row: Row, plot: Markup | None = None, corollary: Corollary | None = None) -> Entry:
    along = Regime.parse("proportional")
    power = max((tuple(map(float, along.key(t))) for t in row.terms), default=(-99.0, 0.0))
    text = " ".join((row.row, row.kind, "+".join(row.tag), row.klass, row.verdict or "", row.formula())).lower()
    return Entry(f"row-{i}", row, power[0] + 0.01 * power[1], text, plot, corollary)


def _entries(table: Table, proof: Proof | None) -> list[Entry]:
    by_key = {c.row.key: c for c in proof.corollaries} if proof else {}
    out: list[Entry] = []
    urgent = sorted((row for row in table if row.points), key=lambda row: row.verdict == "agrees")
    drawn = {row.key for row in urgent[:PLOTS]}
    for i, row in enumerate(table):
        made = plots.row(table, row) if row.key in drawn else None
        plot = Markup(inline(made, f"p{i}", f"{row.label}: size against width")) if made else None
        out.append(_entry(i, row, plot, by_key.get(row.key)))
    return out


def _groups(table: Table, entries: Sequence[Entry]) -> list[Group]:
    by_key = {e.row.key: e for e in entries}
    return [
        Group(kind, layout.TITLES.get(kind, kind), tuple(by_key[row.key] for row in rows))
        for kind, rows in layout.by_kind(table)
    ]


def _diagram(found: Dossier, ids: Mapping[tuple[str, str], str]) -> Markup | None:
    if found.flow is None:
        return None

    def link(node: Any) -> str | None:
        there = ids.get((node.name, "weight" if node.kind == "weight" else "init"))
        return f"#{there}" if there else None

    return Markup(diagram.to_svg(found.flow, link=link, alone=False))


def _figures(table: Table) -> list[Shown]:
    drawn = {"heat": plots.heat(table), "drift": plots.drift(table), "alignment": plots.alignments(table)}
    return [
        Shown(Markup(inline(made, name, CAPTIONS[name])), CAPTIONS[name]) for name, made in drawn.items() if made
    ]


def _steps(proof: Proof | None) -> int:
    """How many steps stand in a page that has every row's whole derivation."""
    return sum(len(one.steps) for one in proof.corollaries) if proof else 0


def _stages(proof: Proof | None) -> dict[int | None, Markup]:
    """Every step as HTML, once."""
    if proof is None:
        return {}
    macros: Any = html.environment().get_template("macros.html").make_module({"said": _said})
    return {stage.number: Markup(macros.stage(stage, proof.lemma(stage.rule))) for stage in proof.steps}


def _said(stage: Stage) -> list[str]:
    return [text for line in stage.lines for text in said(line)]
