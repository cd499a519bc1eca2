"""Plots: of what was measured, in every format, the same from the same table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from measurements import measured

from scalecalc.report import plots
from scalecalc.report.inline import inline
from scalecalc.scale import Scale
from scalecalc.table import Point, Row, Table

HEADS = {"pdf": b"%PDF-", "svg": b"<?xml", "png": b"\x89PNG"}


@pytest.fixture
def table(derived: Table) -> Table:
    return measured(derived)


def test_files_of_every_format_are_the_same_from_the_same_table(table: Table, tmp_path: Path) -> None:
    for format, head in HEADS.items():
        figure = plots.row(table, table["h", "init"])
        assert figure is not None
        data = plots.draw(figure, format)
        assert data.startswith(head)
        if format == "svg":
            again = plots.row(table, table["h", "init"])
            assert again is not None
            assert plots.draw(again, "svg") == data
    plots.save(figure, tmp_path / "h.svg")
    assert (tmp_path / "h.svg").stat().st_size > 5000


def test_a_row_shows_the_measured_and_the_derived_slope(table: Table) -> None:
    figure = plots.row(table, table["h", "init"])
    assert figure is not None
    left, right = figure.axes
    assert left.get_title(loc="left") == "0.00 ±0.03, derived 0"
    assert right.get_title(loc="left") == "−0.50 ±0.03, derived −1/2"
    x, y = (line for line in right.lines if line.get_linestyle() == "--").__next__().get_data()
    assert (y[-1] / y[0]) == pytest.approx((x[-1] / x[0]) ** -0.5)


def test_a_logarithm_and_a_maximum_are_curves(table: Table) -> None:
    for tag, several in (("W_B", False), ("W_C", True)):
        row = table["y", "update", tag]
        figure = plots.row(table, row)
        assert figure is not None
        assert (len(row.terms) > 1) == several
        assert any(len(line.get_xdata()) > 2 and line.get_linestyle() == "--" for ax in figure.axes for line in ax.lines)


def test_what_was_not_measured_has_no_plot(derived: Table) -> None:
    assert plots.row(derived, derived["h", "init"]) is None
    assert plots.heat(derived) is plots.drift(derived) is plots.alignments(derived) is None
    assert plots.coordinates({"mup": derived}) is None


def test_whole_tables(table: Table) -> None:
    heat, drift, cosines = plots.heat(table), plots.drift(table), plots.alignments(table)
    both = plots.coordinates({"sp": table, "mup": table})
    for figure in (heat, drift, cosines, both):
        assert figure is not None
        assert plots.draw(figure, "svg").startswith(b"<?xml")
    assert both is not None
    assert [ax.get_title(loc="left") for ax in both.axes] == ["sp", "mup", "", ""]
    assert drift is not None
    rows = [line for ax in drift.axes for line in ax.lines if line.get_marker() == "o"]
    ends = [line.get_ydata()[-1] for line in rows]
    assert ends
    assert max(map(abs, ends)) < 0.05


def test_strange_measurements_and_names_are_drawn(table: Table) -> None:
    nan = float("nan")
    odd = Row(r"a$b_{\x} <y>", "init", 0, (Scale.one(),)).with_measurement(
        {}, "inconclusive", points=[Point({"N_u": n, "N_x": 16}, 0.0, nan, 2) for n in (64, 128)]
    )
    zero = Row("z", "init", 0, ()).with_measurement({}, "agrees", points=[Point({"N_u": n}, -900.0, 0.0, 9) for n in (8, 16)])
    for row in (odd, zero):
        assert plots.row(replace(table, rows=(row,)), row) is None
    some = replace(odd, points=(*odd.points, *(Point({"N_u": n, "N_x": 16}, 0.1, 0.1, 9) for n in (64, 256))))
    figure = plots.row(replace(table, rows=(some,)), some)
    assert figure is not None
    plots.draw(figure, "svg")


def test_inside_a_page_a_plot_has_its_own_ids_and_the_pages_colours(table: Table) -> None:
    made = [plots.row(table, table[name, "init"]) for name in ("h", "y")]
    texts = [inline(figure, f"p{i}", "a <title>") for i, figure in enumerate(made) if figure is not None]
    ids = [{part.get("id") for part in ElementTree.fromstring(text).iter()} - {None} for text in texts]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, own in zip(texts, ids, strict=True):
        assert "var(--ink)" in text
        assert plots.INK not in text
        assert "DejaVu" not in text
        assert len(text) < 25_000
        used = {part.get("href", "#")[1:] for part in ElementTree.fromstring(text).iter()} - {""}
        assert used <= own
