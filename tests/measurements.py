"""Measurements that were never made: for what is printed and drawn of them."""

from __future__ import annotations

import math
from dataclasses import replace

from scalecalc.table import Point, Row, Slope, Table


def measured(table: Table, *, verdict: str = "agrees") -> Table:
    """A table as if it had been measured at three widths of every dim, each row as it was derived, with a little noise."""
    rows: list[Row] = []
    for i, row in enumerate(table):
        points: list[Point] = []
        for k in range(3 ** len(table.dims)):
            widths = {dim: 16 * 4 ** (k // 3**j % 3) for j, dim in enumerate(table.dims)}
            size = max((scale.at(widths) for scale in row.terms), default=1e-9)
            points.append(Point(widths, math.log(size) + 0.01 * math.sin(7 * i + k), 0.02, 64))
        slopes = {}
        for dim in table.dims:
            power = float(row.terms[0].power(dim)) if row.terms else 0.0
            slopes[dim] = Slope(power + 0.004, power - 0.02, power + 0.03)
        rows.append(row.with_measurement(slopes, verdict, points=points))
    return replace(table, rows=tuple(rows))
