"""The printers: exact texts, and that nothing of a table is lost on the way to a file."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalecalc.dossier import Made
from scalecalc.errors import InputError, UnknownName
from scalecalc.report.formats import FORMATS, render
from scalecalc.report.frame import COLUMNS, from_csv, read_csv, to_csv, to_frame
from scalecalc.report.json import read_json, to_json
from scalecalc.report.listing import listing
from scalecalc.report.markdown import to_markdown
from scalecalc.report.output import check_writable, write
from scalecalc.report.summary import details, summary
from scalecalc.report.terminal import to_terminal
from scalecalc.scale import Scale
from scalecalc.table import Point, Row, Slope, Table, WeightScaling

# ---------------------------------------------------------------- words


def test_terminal_at_80_columns(verified: Table, snapshot) -> None:
    text = to_terminal(verified)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    snapshot(text, "terminal_80.txt")


def test_terminal_at_120_columns(verified: Table, snapshot) -> None:
    snapshot(to_terminal(verified, width=120), "terminal_120.txt")


def test_terminal_without_measurements(derived: Table, snapshot) -> None:
    text = to_terminal(derived)
    assert "verdict" not in text
    assert "measured" not in text
    snapshot(text, "terminal_derived.txt")


def test_terminal_in_colour(verified: Table) -> None:
    text = to_terminal(verified, color=True)
    assert "\x1b[31m" in text or "\x1b[1;31m" in text
    assert "✗ disagrees" in text


def test_narrow_terminals_fold_and_keep_every_verdict(verified: Table) -> None:
    text = to_terminal(verified, width=60)
    assert text.count("✓ agrees") == 5
    assert text.count("? inconclusive") == 2


def test_names_with_brackets_are_no_markup(derived: Table) -> None:
    row = Row("layers[0].[red]x", "init", 0, (Scale.one(),))
    text = to_terminal(replace(derived, rows=(row,)), color=False)
    assert "layers[0].[red]x" in text


def test_markdown(verified: Table, snapshot) -> None:
    snapshot(to_markdown(verified), "table.md")


def test_markdown_escapes(derived: Table) -> None:
    row = Row("a|b*c", "init", 0, (Scale.one(),), klass="x|y*z")
    text = to_markdown(replace(derived, rows=(row,), notes=("1 < 2 * 3",)))
    assert r"`a\|b*c`" in text
    assert r"x\|y\*z" in text
    assert r"1 \< 2 \* 3" in text


def test_json(verified: Table, snapshot) -> None:
    snapshot(to_json(verified), "table.json")


def test_summary(derived: Table, verified: Table) -> None:
    assert summary(verified) == "10 rows: 5 agree, 1 disagree, 2 inconclusive, 2 not judged"
    assert summary(derived).startswith("10 rows: 2 stable, 1 learning, 1 lazy, 4 vanishing, 2 exploding")
    assert details(verified)[0] == "disagrees: y, init — N_x: 0.47 ±0.03 where 0 is derived"
    assert summary(replace(derived, rows=())) == "0 rows"


def test_listing_is_the_same_in_every_format() -> None:
    records = [{"name": "tanh", "words": "odd | saturating", "source": "by definition"}]
    assert json.loads(listing(records, "json")) == records
    assert list(csv.DictReader(io.StringIO(listing(records, "csv")))) == records
    assert r"| tanh | odd \| saturating | by definition |" in listing(records, "markdown")
    assert listing(records, "table") == "tanh\n    odd | saturating\n    source: by definition\n"
    assert listing([], "table") == ""


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_takes_every_table(format: str, derived: Table, verified: Table) -> None:
    empty = replace(derived, rows=(), parameterization={}, dims=())
    flat = replace(derived, rows=(Row("y", "init", 0, (Scale.one(),)),), parameterization={}, dims=())
    for table in (derived, verified, empty, flat):
        assert render(table, format).endswith("\n")


def test_an_unknown_format_is_an_input_error(derived: Table) -> None:
    with pytest.raises(UnknownName, match="did you mean 'json'"):
        render(derived, "jsn")


# ---------------------------------------------------------------- nothing is lost


def same(a: Row, b: Row) -> bool:
    """Equal, with nan equal to nan."""
    return repr(replace(a, derivation=None)) == repr(replace(b, derivation=None))


names = st.text(
    st.characters(codec="utf-8", exclude_characters="+", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=20)
exponents = st.fractions(-3, 3, max_denominator=6)
dims = st.sampled_from(["N_u", "N_x", "H"])
scales = st.builds(Scale, st.dictionaries(dims, exponents, max_size=3), st.dictionaries(dims, exponents, max_size=1))
slopes = st.builds(Slope, st.floats(), st.floats(), st.floats())
rows = st.builds(
    Row,
    row=names,
    kind=st.sampled_from(["weight", "init", "gradient", "update", "alignment"]),
    step=st.integers(0, 4),
    terms=st.lists(scales, max_size=3).map(tuple),
    tag=st.lists(names, max_size=2).map(tuple),
    klass=texts,
    entry=st.lists(scales, max_size=2).map(tuple),
    profile=texts,
    why=texts,
    assumptions=st.lists(texts, max_size=2).map(tuple),
    measured=st.none() | st.dictionaries(dims, slopes, min_size=1),
    subleading=st.lists(scales, max_size=2).map(tuple),
    commutes=st.none() | st.booleans(),
    verdict=st.none() | st.sampled_from(["agrees", "disagrees", "inconclusive"]),
    settle=texts,
)


@given(st.lists(rows, max_size=4), st.lists(dims, unique=True, max_size=2))
def test_csv_reads_back(rows: list[Row], dims: list[str]) -> None:
    # What was judged was measured: {} and None are one to CSV otherwise.
    rows = [replace(row, measured={}) if row.verdict and row.measured is None else row for row in rows]
    back = from_csv(to_csv(Table("m", tuple(rows), tuple(dims))))
    assert len(back) == len(rows)
    for a, b in zip(back, rows, strict=True):
        measured = None if b.measured is None else {d: b.measured[d] for d in (a.measured or {})}
        assert set(a.measured or {}) == set(b.measured or {})
        assert same(a, replace(b, measured=measured))


names_of_weights = names.filter(lambda name: name != "role")
scalings = st.builds(WeightScaling, scales, scales, scales, role=names, weight_decay=st.none() | scales)
points = st.builds(Point, st.dictionaries(dims, st.integers(1, 999)), st.floats(), st.floats(), st.integers(2, 99))
tables = st.builds(
    Table,
    model=names,
    rows=st.lists(rows, max_size=2).map(tuple),
    dims=st.lists(dims, unique=True, max_size=2).map(tuple),
    parameterization=st.dictionaries(names_of_weights, scalings, max_size=2),
    parameterization_name=names,
    optimizer=names,
    options=st.dictionaries(names, texts, max_size=2),
    notes=st.lists(texts, max_size=2).map(tuple),
    seconds=st.floats(0, 1e6),
)


@settings(max_examples=30)
@given(tables, st.lists(points, max_size=2))
def test_a_report_reads_back_into_the_same_table(table: Table, points: list[Point]) -> None:
    # what was judged was measured; in CSV a dim of the table alone can have a slope, and the points are in JSON only
    rows = [replace(row, measured={}) if row.verdict and row.measured is None else row for row in table]
    table = replace(table, rows=tuple(rows))
    made = Made("scalecalc report x", seed=3, measured="2026-01-01")
    back = read_csv(to_csv(table, made))
    kept = [None if row.measured is None else {d: row.measured[d] for d in own.measured or {}}
            for row, own in zip(rows, back.rows, strict=True)]  # fmt: skip
    for row, own in zip(rows, back.rows, strict=True):
        assert set(own.measured or {}) == set(row.measured or {})
    in_order = [replace(row, measured=one) for row, one in zip(rows, kept, strict=True)]
    assert repr(replace(back, rows=())) == repr(replace(table, rows=()))
    assert all(map(same, back.rows, in_order))

    table = replace(table, rows=tuple(replace(row, points=tuple(points)) for row in rows))
    assert repr(read_json(to_json(table, made))) == repr(table)
    assert repr(read_json(to_json(table))) == repr(table)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 2}'])
def test_a_json_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_json(text)


def test_no_spreadsheet_takes_a_name_for_a_formula(derived: Table) -> None:
    evil = ["=cmd|' /C calc'!A0", "@SUM(1)", "+1+cmd", "-2+3", "'quoted", "\tx"]
    rows = tuple(replace(derived.rows[1], row=name, settle=name, profile=name) for name in evil)
    text = to_csv(replace(derived, rows=rows, model=evil[0], parameterization={evil[1]: derived.parameterization["W_B"]}))
    cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
    bad = [cell for cell in cells if cell[:1] in "=+-@\t" and cell and not cell.lstrip("+-").replace("/", "").isdigit()]
    assert bad == []
    back = read_csv(text)
    assert [row.row for row in back] == evil
    assert back.model == evil[0]
    assert list(back.parameterization) == [evil[1]]


@given(st.lists(rows, max_size=3))
def test_json_is_always_valid(rows: list[Row]) -> None:
    text = to_json(Table("m", tuple(rows), ("N_u",)))
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    for row, read in zip(rows, found["rows"], strict=True):
        assert set(read["measured"] or {}) == set(row.measured or {})
        for dim, value in (row.measured or {}).items():
            assert repr(float(read["measured"][dim]["slope"])) == repr(float(value.slope))
        assert [Scale.from_strings(t["theta"], t["log"]) for t in read["terms"]] == list(row.terms)
        assert (read["theta"] is None) == (len(row.terms) != 1)


def test_json_takes_any_option(derived: Table) -> None:
    import numpy

    values = {
        "path": Path("a"),
        "inf": float("inf"),
        "half": Fraction(1, 2),
        "set": {"b", "a"},
        "i": numpy.int64(3),
        "f": numpy.float32("nan"),
        "flag": numpy.bool_(True),
        7: None,
    }
    options = json.loads(to_json(replace(derived, options=values)))["options"]
    assert options["path"] == "a"
    assert options["inf"] == "inf"
    assert options["half"] == "1/2"
    assert options["set"] == ["a", "b"]
    assert options["i"] == 3
    assert options["f"] == "nan"
    assert options["7"] is None


def test_csv_has_a_line_for_every_dim_of_every_term(verified: Table) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(verified))))
    assert tuple(lines[0]) == COLUMNS
    two = [line for line in lines if line["tag"] == "W_C"]
    assert [(line["term"], line["dim"], line["power"]) for line in two] == [
        ("0", "N_u", "1"),
        ("0", "N_x", "-1"),
        ("1", "N_u", "0"),
        ("1", "N_x", "1"),
    ]
    zero = [line for line in lines if line["tag"] == "W_B+W_C"]
    assert [(line["term"], line["dim"], line["power"]) for line in zero] == [("", "N_u", ""), ("", "N_x", "")]
    rates = [line for line in lines if line["kind"] == "parameterization" and line["of"] == "lr"]
    assert [(line["row"], line["dim"], line["power"], line["log_power"]) for line in rates] == [
        ("W_B", "N_u", "-1", "0"),
        ("W_B", "N_x", "0", "0"),
        ("W_out", "N_u", "-1", "0"),
        ("W_out", "N_x", "0", "-1"),
    ]


@pytest.mark.parametrize("change", [("-1/2", "-1/0"), ("verdict", "verdikt"), (",1,", ",one,")])
def test_a_csv_that_is_not_ours_is_refused(change: tuple[str, str], verified: Table) -> None:
    with pytest.raises(InputError):
        from_csv(to_csv(verified).replace(*change))


def test_the_frame_is_exact_and_numeric(verified: Table) -> None:
    frame = to_frame(verified)
    assert list(frame.columns) == list(COLUMNS)
    h = frame[(frame.row == "h") & (frame.of == "theta") & (frame.dim == "N_x")].iloc[0]
    assert h.power == Fraction(-1, 2)
    assert h.slope == pytest.approx(-0.49)
    assert frame["slope"].dtype == float
    kept = frame.dropna(subset=["power"])
    assert kept["power"].astype(float).min() == -1.0
    assert verified.to_pandas().equals(frame)


# ---------------------------------------------------------------- files


def test_write_replaces_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.csv"
    assert write("a") == "a"
    assert write("old é", file) == "old é"
    file.chmod(0o640)
    write("new", str(file))
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write("lost", file)
    assert file.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_write_follows_links_and_takes_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write("new", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    check_writable(os.devnull)
    write("gone", os.devnull)


def test_text_that_is_no_utf8_is_written_as_an_escape(tmp_path: Path) -> None:
    write('"\udcff"', tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == "\udcff"


def test_unwritable_places_are_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new.csv")
    (tmp_path / "old.csv").write_text("kept")
    check_writable(tmp_path / "old.csv")
    assert (tmp_path / "old.csv").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        check_writable(tmp_path / "no" / "t.csv")
    with pytest.raises(InputError, match="no folder"):
        check_writable(tmp_path / "old.csv" / "t.csv")
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(InputError, match="Permission denied"):
        check_writable(tmp_path / "new.csv")


def test_printing_imports_pandas_only_for_a_frame() -> None:
    code = (
        "import sys; from scalecalc.report.formats import FORMATS, render; from scalecalc.table import Table\n"
        "for f in FORMATS: render(Table('m', (), ()), f)\n"
        "print([m for m in ('pandas', 'sympy', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
