"""The verdict in one sentence, and what is left to settle: the last lines of every printed report."""

from __future__ import annotations

from collections import Counter

from scalecalc.table import Table

_CLASSES = ("stable", "learning", "lazy", "vanishing", "exploding", "unsettled")


def judged(table: Table) -> bool:
    """Has any row been measured or judged?"""
    return any(row.verdict is not None or row.measured is not None for row in table)


def unjudged(table: Table) -> int:
    """How many rows have no verdict."""
    return sum(row.verdict is None for row in table)


def summary(table: Table) -> str:
    """``51 rows: 49 agree, 0 disagree, 2 inconclusive``; for a derived table, the rows by class."""
    rows = f"{len(table)} row{'' if len(table) == 1 else 's'}"
    if judged(table):
        counts = table.counts()
        text = (
            f"{rows}: {counts['agrees']} agree, {counts['disagrees']} disagree, {counts['inconclusive']} inconclusive"
        )
        return text + (f", {unjudged(table)} not judged" if unjudged(table) else "")
    classes = Counter(row.klass for row in table if row.klass)
    order = [*_CLASSES, *sorted(set(classes) - set(_CLASSES))]
    parts = ", ".join(f"{classes[c]} {c}" for c in order if classes[c])
    return f"{rows}: {parts}" if parts else rows


def details(table: Table) -> list[str]:
    """A line for each row that does not agree, the disagreeing first: by what it misses, or what would settle it."""
    out: list[str] = []
    for verdict in ("disagrees", "inconclusive"):
        for row in table:
            if row.verdict == verdict:
                out.append(f"{verdict}: {row.label}" + (f" — {row.settle}" if row.settle else ""))
    return out
