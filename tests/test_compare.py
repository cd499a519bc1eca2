"""Parameterizations side by side: what becomes of each feature, and that every format says the same."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

import scalecalc as sc
from scalecalc.compare import Comparison, Fate, compare
from scalecalc.errors import InputError, UnknownName
from scalecalc.report.comparison import render, sections, to_terminal
from scalecalc.scale import Scale
from scalecalc.table import Row, Table

ONE = Scale.one()


@pytest.fixture(scope="module")
def s6() -> Comparison:
    return compare("s6", "sp", "mup", "spectral", "mup_ssm", optimizer="sgd")


def test_at_80_columns(s6: Comparison, snapshot) -> None:
    text = to_terminal(s6)
    assert max(map(len, text.splitlines())) <= 80
    snapshot(text, "compare_80.txt")


def test_at_120_columns(s6: Comparison, snapshot) -> None:
    text = to_terminal(s6, width=120)
    assert max(map(len, text.splitlines())) <= 120
    snapshot(text, "compare_120.txt")


def test_markdown_and_latex(snapshot) -> None:
    found = compare("mlp", "sp", "ntp", "mup", optimizer="sgd")
    snapshot(found.to_markdown(), "compare.md")
    snapshot(found.to_latex(), "compare.tex")


def test_fates_of_the_multilayer_perceptron() -> None:
    """What everybody knows of it: standard explodes, neural tangent is lazy, maximal update learns."""
    fates = compare("mlp", "sp", "ntp", "mup", optimizer="sgd").fates
    assert fates["mup"] == Fate(("h1", "h2", "f"), (), (), (), (), ("f",))
    assert (fates["ntp"].lazy, fates["ntp"].learns, fates["ntp"].explodes) == (("h1", "h2"), ("f",), ())
    assert fates["sp"].explodes
    assert "f" in fates["sp"].explodes


def test_fates_are_the_classes_of_the_rows(s6: Comparison) -> None:
    for name, fate in s6.fates.items():
        classes: dict[str, set[str]] = {}
        for row in s6.tables[name]:
            if row.kind == "update":
                classes.setdefault(row.row, set()).add(row.klass)
        assert set(fate.explodes) == {row for row, found in classes.items() if "exploding" in found}
        assert set(fate.lazy) == {row for row, found in classes.items() if found == {"lazy"}}
        assert [fate.word(row) for row in fate.learns] == ["learns"] * len(fate.learns)
        assert fate.word("no such") == ""


def table(*rows: Row) -> Table:
    return Table("hand", rows, ("N",))


def update(name: str, tag: str, klass: str) -> Row:
    return Row(name, "update", 1, (ONE,), tag=tuple(tag.split("+")), klass=klass)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([update("y", "W", "learning")], "every feature learns"),
        ([update("y", "W", "lazy"), update("z", "W", "lazy")], "y and z are lazy; no feature learns"),
        ([update("y", "W", "lazy"), update("y", "V", "learning")], "every feature learns"),
        (
            [update("y", "W", "exploding"), update("y", "W+W", "exploding"), update("z", "W", "learning")],
            "y explodes, by W; z learns",
        ),
        (
            [update("y", "W", "learning"), update("y", "W+W", "exploding"), update("z", "V", "exploding")],
            "y and z explode, by V and W+W; no feature learns",
        ),
        (
            [update("y", "W", "exploding"), *(update(name, "W", "learning") for name in "abc")],
            "y explodes, by W; every other feature learns",
        ),
        (
            [Row("B", "init", 0, (Scale.of("N"),), klass="exploding"), update("B", "W", "learning")],
            "every feature learns; at initialisation B grows",
        ),
        ([], "no feature learns"),
    ],
)
def test_verdicts_in_words(rows: list[Row], words: str) -> None:
    assert Fate.of(table(*rows)).words() == words


def test_second_orders_are_listed_where_they_say_more(s6: Comparison) -> None:
    listed = {key[0] for key in s6.keys("update") if key[3] == ("W_in", "W_in")}
    assert listed == {"f"}  # y explodes by W_in already
    everything = {row.row for one in s6.tables.values() for row in one if row.tag == ("W_in", "W_in")}
    assert "y" in everything
    (cells,) = [row for row in sections(s6)[2].rows if row[:2] == ("f", "W_in+W_in")]
    assert cells[2] == "–"


def test_rows_keep_the_order_of_the_program() -> None:
    a, b, c = (update(name, "W", "learning") for name in "abc")
    found = Comparison("hand", {"one": table(a, c), "two": table(a, b, c), "three": table(c)})
    assert [key[0] for key in found.keys("update")] == ["a", "b", "c"]


def test_csv_and_json_hold_every_row(s6: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(s6.to_csv())))
    data = json.loads(s6.to_json())
    assert data["command"] == "compare"
    assert list(data["parameterizations"]) == ["sp", "mup", "spectral", "mup_ssm"]
    for name, one in s6.tables.items():
        rows = {line["index"] for line in lines if line["parameterization"] == name and line["index"]}
        assert len(rows) == len(one)
        found = data["parameterizations"][name]
        assert len(found["table"]["rows"]) == len(one)
        assert found["explodes"] == list(s6.fates[name].explodes)
        assert found["verdict"] == s6.fates[name].words()


def test_pandas_and_files(s6: Comparison, tmp_path) -> None:
    frame = s6.to_pandas()
    assert set(frame["parameterization"]) == {"sp", "mup", "spectral", "mup_ssm"}
    s6.to_json(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())["model"] == "s6"
    assert str(s6) == repr(s6) == to_terminal(s6, width=100)


def test_a_file_is_called_by_its_name(tmp_path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('["*"]\nlr = {N = "-1"}\n["W_in"]\ninit = {}\n')
    found = compare("mlp", "mup", str(file))
    assert list(found.tables) == ["mup", "mine"]
    with pytest.raises(InputError, match="'mine' is given twice"):
        compare("mlp", str(file), str(tmp_path / "other" / "mine.toml"))


def test_refusals() -> None:
    with pytest.raises(InputError, match="name the parameterizations"):
        sc.compare("mlp")
    with pytest.raises(UnknownName, match="did you mean 'mup'"):
        sc.compare("mlp", "mp")
    with pytest.raises(UnknownName, match="no format 'xml'"):
        render(Comparison("hand", {"one": table()}), "xml")


def test_what_must_be_known_of_the_tables_is_said() -> None:
    """Once if it is true of all; a class that changes after the first step with the parameterization that it is true of."""
    text = to_terminal(compare("s6:step=fixed", "mup", "mup_ssm", optimizer="sgd", fix={"N_x": 64}, steps=2), width=200)
    assert text.count("N_x is held at 64") == 1
    assert "mup_ssm: From step 2 on exploding: " in text


def test_a_weight_that_only_one_model_has(s6: Comparison) -> None:
    fewer = replace(s6.tables["mup"], parameterization={})
    found = Comparison("s6", {"sp": s6.tables["sp"], "none": fewer})
    assert {row[2] for row in sections(found)[0].rows} == {"–"}


def test_what_later_steps_leave_unsettled_is_said() -> None:
    """A class of its own: neither learning nor lazy is all that is known of such a feature."""
    row = Row("y", "update", 1, (Scale.one(),), klass="learning", tag=("W",))
    later = Row("y", "update", 3, (Scale.one(),), klass="unsettled", tag=("V", "W", "W"))
    for rows, unsettled in (((row,), ()), ((row, later), ("y",))):
        fate = Fate.of(Table("net", rows, ("N",)))
        assert (fate.learns, fate.unsettled) == (("y",), unsettled)
        assert ("y is unsettled in later steps" in fate.words()) == bool(unsettled)
