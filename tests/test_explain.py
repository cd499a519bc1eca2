"""Explanations: complete, in order, each step once, and true to the derivation that they are made from."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scalecalc.derive import derive
from scalecalc.errors import InputError, UnknownName
from scalecalc.explain import Explanation, explain
from scalecalc.report.explanation import to_text
from scalecalc.report.frame import from_csv, to_csv
from scalecalc.scale import Scale
from scalecalc.table import Grounds, Row, Table
from scalecalc.term import Step, Term, dim_of

ONE = Scale.one()


@pytest.fixture(scope="module")
def s6() -> Table:
    return derive("s6")


@pytest.fixture(scope="module")
def mlp() -> Table:
    return derive("mlp", optimizer="adam")


def test_text(s6: Table, snapshot) -> None:
    """Reads like a derivation, and fits two screens."""
    text = str(s6.explain("y", tag="W_B"))
    assert max(map(len, text.splitlines())) <= 100
    snapshot(text, "explain.txt")
    narrow = to_text(s6.explain("y", tag="W_B"), 80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert narrow.split() == text.split()


def test_markdown(s6: Table, snapshot) -> None:
    snapshot(s6.explain("C,h").to_markdown(), "explain.md")


def test_every_row_is_explained_from_what_comes_before(s6: Table, mlp: Table) -> None:
    for table in (s6, mlp):
        for row in table:
            found = explain(table, row)
            sizes = {leaf.at: leaf.lines[0].size for leaf in found.leaves}
            for count, stage in enumerate(found.stages, 1):
                assert stage.number == count
                inside: list[Scale] = []
                for line in stage.lines:
                    for factor in line.factors:
                        if factor.stage is not None:
                            assert factor.stage < count
                            assert found.stages[factor.stage - 1].lines[-1].size == factor.size
                        elif factor.name:
                            assert sizes[factor.name] == factor.size
                        else:
                            assert factor.size in inside
                    inside.append(line.size)
            stages = [(stage.at, stage.rule, stage.lines) for stage in found.stages]
            assert len(set(stages)) == len(stages), f"{row.label}: a step is listed twice"
            assert set(row.assumptions) <= set(found.assumptions)
            used = {f.name for stage in found.stages for f in stage.uses}
            assert all(leaf.at in used or f"led by {leaf.at}:" in found.result[0] for leaf in found.leaves)


def test_what_is_explained_is_what_the_row_says(s6: Table, mlp: Table) -> None:
    for table in (s6, mlp):
        for row in table:
            grounds = row.derivation
            assert grounds is not None
            sizes = [t.rms(grounds.labels) for t in grounds.terms]
            if row.kind == "alignment":
                count = ONE
                for label in grounds.over:
                    count = count * Scale.of(dim_of(label))
                (a,), (b,) = ([t.rms(side.labels) for t in side.terms] for _, side in grounds.sides)
                sizes = [size / (a * b * count) for size in sizes]
            assert set(sizes) == set(row.terms), row.label


def test_leading_terms_that_are_incomparable_are_all_explained(s6: Table) -> None:
    found = s6.explain("B", tag="W_in")
    assert len(found.row.terms) == 2
    assert [line.startswith("led by B ") for line in found.result] == [True, True, False]
    assert found.result[2].endswith(found.row.formula())
    assert all(str(size) in line for size, line in zip(found.row.terms, found.result, strict=False))


def test_a_matrix_that_meets_itself_is_remarked(s6: Table) -> None:
    assert "W_B[N_x,N_u] meets W_B[·,N_u]" in str(s6.explain("y", tag="W_in"))
    own = str(s6.explain("y", tag="W_B"))
    assert "meets" not in own
    assert "W_C[N_x,·] twice: even in it" in own


def test_where_a_mask_is_is_said_in_words() -> None:
    text = str(derive("mlp:activation=relu").explain("h2"))
    assert "vanish outside a share Θ(1) of them" in " ".join(text.split())
    assert "live where" not in text


def test_size_of_an_entry_becomes_the_root_mean_square(s6: Table) -> None:
    (line,) = s6.explain("h").result
    assert line.endswith("entries go like n^(-1) along N_x, rms N_x^(1/2) × N_x^(-1/2) = 1")


def test_sources_are_those_of_the_rules(s6: Table) -> None:
    sources = {source.name: source for source in s6.explain("y", tag="W_B").sources}
    assert set(sources) == {"matmul", "tanh", "softplus", "zoh", "contraction", "sgd"}
    assert "2009.10685" in sources["matmul"].source
    assert "2312.00752" in sources["zoh"].source


def test_json(s6: Table) -> None:
    data = json.loads(s6.explain("y", tag="W_in+W_in").to_json())
    assert (data["schema"], data["command"], data["row"]["tag"]) == (1, "explain", ["W_in", "W_in"])
    names = {leaf["at"] for leaf in data["leaves"]}
    for stage in data["stages"]:
        assert all(use in names if isinstance(use, str) else use < stage["number"] for use in stage["uses"])
    last = data["stages"][-1]["lines"][-1]
    assert last["size"] == {"theta": {"N_u": "1"}, "log": {}}
    assert last["law"].startswith("sum over N_x: central limit")
    assert {rule["name"] for rule in data["rules"]} >= {"matmul", "sgd"}


def test_a_function_and_its_derivative_are_two_steps(mlp: Table) -> None:
    stages = {stage.at: stage for stage in mlp.explain("h2", tag="W_in").stages}
    assert {"relu(h1)", "relu′(h1)"} <= set(stages)
    assert "relu′(h1)" in {use.name for use in stages["dh1"].uses}


# ---------------------------------------------------------------- which row


def test_the_row_that_is_meant(s6: Table) -> None:
    assert s6.explain("y").row.key == ("y", "init", 0, ())
    assert s6.explain("W_B").row.kind == "weight"
    assert s6.explain("W_B", "gradient").row.kind == "gradient"
    assert s6.explain("⟨dB,W_B⟩").row.step == 1
    assert s6.explain("<dB, W_B>").row == s6.explain("dB,W_B").row
    assert s6.explain("y", tag="W_in + W_in").row.tag == ("W_in", "W_in")
    assert s6.explain("y", "gradient", step=1).row.kind == "gradient"


def test_a_row_that_is_not_there(s6: Table) -> None:
    with pytest.raises(UnknownName, match=r"no row 'W_Bx'; similar names: W_B, W_C"):
        s6.explain("W_Bx")
    with pytest.raises(UnknownName, match=r"no row 'y, update by W_b'; rows of that name: y, update by W_B, step 1; "):
        s6.explain("y", tag="W_b")
    with pytest.raises(UnknownName, match=r"no row 'qqq'; names: W_in, W_Delta") as caught:
        s6.explain("qqq")
    assert len(str(caught.value)) < 120
    with pytest.raises(InputError, match=r"say which tag \(W_in, W_in\+W_in, W_Delta, W_B, W_C\)"):
        s6.explain("y", "update")
    with pytest.raises(UnknownName, match="step 7"):
        s6.explain("y", tag="W_B", step=7)


def test_a_row_from_a_file_has_no_derivation(s6: Table) -> None:
    (row,) = [row for row in from_csv(to_csv(s6)) if row.key == ("y", "init", 0, ())]
    with pytest.raises(InputError, match="carries no derivation"):
        explain(s6, row)


# ---------------------------------------------------------------- made by hand


def explained(*terms: Term, labels: tuple[str, ...] = ("N",)) -> Explanation:
    row = Row("y", "init", 0, tuple(t.rms(labels) for t in terms), derivation=Grounds(terms, labels))
    return explain(Table("hand", (row,), ("N",)), row)


def test_an_exact_zero() -> None:
    assert explained().result == ("exactly zero: no term is left",)
    assert "exactly zero" in str(explained())


def test_shared_steps_are_listed_once_and_idle_ones_not_at_all() -> None:
    def weight() -> Term:  # made anew each time, as two runs of a network make it
        return Term(ONE, why=Step("weight", "independent centred entries of size 1, multiplier 1", "W"))

    idle = Term(ONE, why=Step("matmul", "times 1", "a", (weight(),)))
    a = Term(Scale.of("N"), why=Step("matmul", "times N", "a", (idle,)))
    b = Term(Scale.of("N", 2), why=Step("contraction", "sizes multiply, profiles add", "b", (a, replace(a))))
    found = explained(b)
    assert [leaf.at for leaf in found.leaves] == ["W"]
    assert [(stage.at, len(stage.lines)) for stage in found.stages] == [("a", 1), ("b", 1)]
    assert [str(use) for use in found.stages[0].uses] == ["W"]
    assert [str(use) for use in found.stages[1].uses] == ["a [1]"]


def test_a_step_that_others_use_is_no_part_of_their_stage() -> None:
    """Else a stage would use, and be used by, another."""
    leaf = Term(ONE, why=Step("input", "independent standard normal entries", "x"))
    a = Term(ONE, why=Step("tanh", "entry by entry", "u", (leaf,)))
    between = Term(Scale.of("N"), why=Step("matmul", "times N", "W·u", (a,)))
    last = Term(Scale.of("N"), why=Step("tanh", "times the smaller term", "u", (a, between)))
    assert [stage.at for stage in explained(last).stages] == ["u", "W·u", "u"]


def test_the_same_step_with_another_assumption_or_tag_is_another() -> None:
    leaf = Term(ONE, why=Step("input", "independent standard normal entries", "x"))
    plain = Term(ONE, why=Step("sum", "sum over N", "a", (leaf,)))
    assumed = Term(ONE, why=Step("sum", "sum over N", "a", (leaf,), "a mean"))
    both = Term(ONE, why=Step("add", "added", "b", (plain, assumed)))
    found = explained(both)
    assert [stage.at for stage in found.stages] == ["a", "a", "b"]
    assert found.assumptions == ("a mean",)
    assert "(assumption a)" in str(found)
