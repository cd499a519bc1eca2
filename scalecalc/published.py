"""What a parameterization is published to keep bounded, held against the table that it gives.

A parameterization says which features it keeps of order one (``keeps``).  If a row of one of these explodes, the table says
so in a note, with what was measured of that row: a user who knows the publication must not have to find it out.
"""

from __future__ import annotations

from scalecalc.table import Row, Table

MOST = 4  # rows that a note lists


def contradicted(table: Table) -> tuple[str, ...]:
    """A note on the rows that contradict what the table's parameterization is published for; none if there are none."""
    from scalecalc.rule import registry

    entry = registry("parameterization").get(table.parameterization_name)
    keeps = entry.defaults["keeps"] if entry is not None else ()
    rows = [r for r in table if r.row in keeps and r.klass == "exploding" and r.kind in ("init", "update")]
    if not rows:
        return ()
    listed = "; ".join(f"{r.label}: {r.formula()}{_measured(r)}" for r in rows[:MOST])
    more = f"; and {len(rows) - MOST} more" if len(rows) > MOST else ""
    return (
        f"{entry.name} is published to keep {' and '.join(keeps)} of order one in training ({entry.source}). "
        f"Derived here, that fails for {listed}{more}.",
    )


def _measured(row: Row) -> str:
    if not row.measured:
        return ""
    slopes = ", ".join(f"{dim}^{s.slope:.2f}" for dim, s in row.measured.items())
    return f" (measured {slopes}: {row.verdict})"
