"""The solver: what it maximises, what binds, what each weight does, and that its answer holds when it is derived again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest
from cases import S

from scalecalc import cli
from scalecalc.beside import beside
from scalecalc.compare import Fate
from scalecalc.derive import derive
from scalecalc.errors import InputError, UnknownName
from scalecalc.report.beside import render as render_beside
from scalecalc.report.solution import render
from scalecalc.scale import Regime, Scale
from scalecalc.solution import Solution
from scalecalc.solve import solve

ONE = Scale.one()


@cache
def mlp(optimizer: str = "adam", depth: int = 2) -> Solution:
    return solve(f"mlp:depth={depth}", optimizer=optimizer)


@cache
def layer() -> Solution:
    return solve("s6:step=fixed", optimizer="sgd", require=["rms h = 1", "y = 1", "f = N_u^-1/2"])


# ---------------------------------------------------------------------- the answer


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lion", "muon", "adafactor"])
def test_the_derived_table_at_the_solution_is_stable_and_learns(optimizer: str) -> None:
    """Nothing explodes, in two steps, every feature learns, and the hidden ones have size one: derived anew."""
    found = mlp(optimizer)
    table = derive("mlp:depth=2", parameterization=found, steps=2)
    assert not [row.label for row in table if row.klass == "exploding" and row.kind in ("init", "update")]
    fate = Fate.of(table)
    assert (fate.lazy, fate.explodes) == ((), ())
    assert set(fate.learns) == {"h1", "h2", "f"}
    assert {name: table[name].theta for name in ("h1", "h2")} == {"h1": ONE, "h2": ONE}
    assert set(found.fates.values()) == {"learning"}


@pytest.mark.parametrize("weight", ["W_in", "W_2", "W_out"])
@pytest.mark.parametrize("quantity", ["lr", "init"])
def test_no_init_and_no_rate_could_be_larger(weight: str, quantity: str) -> None:
    """Each of them, larger by N^(1/100), makes the row that is said to bind it explode."""
    found = mlp("sgd")
    grown = getattr(found[weight], quantity) * Scale.of("N", Fraction(1, 100))
    larger = {**found.scalings, weight: replace(found[weight], **{quantity: grown})}
    table = derive("mlp:depth=2", parameterization=replace(found, scalings=larger), steps=2)
    rows = [row for row in table if row.kind in ("init", "update") and any(not t <= ONE for t in row.terms)]
    over = {row.label.removesuffix(", step 1") for row in rows}
    assert set(found.bounds[weight, quantity].rows) & over


def test_a_deep_chain_is_solved_layer_by_layer_alike() -> None:
    found = mlp("adam", 4)
    hidden = {(found[f"W_{k}"].init, found[f"W_{k}"].lr) for k in range(2, 5)}
    assert hidden == {(S("N^-1/2"), S("N^-1"))}
    assert found["W_out"].init is S("N^-1")


def test_stable_asks_for_no_weight_to_learn() -> None:
    """Then the readout may be as large as its fan-in allows, as in NTK, and hidden updates pay for it."""
    found = solve("mlp", optimizer="sgd", require=["stable"])
    assert found["W_out"].init is S("N^-1/2")
    assert found.fates["W_2"] == "learning further on"
    assert found.bounds["W_2", "lr"].rows == ("f, update by W_2",)


def test_a_fixed_dim_has_no_exponent() -> None:
    found = solve("s6:step=fixed", optimizer="sgd", fix={"N_x": 16}, steps=1)
    assert found.dims == ("N_u",)
    assert all("N_x" not in s.init.dims | s.lr.dims for s in found.scalings.values())


def test_a_solution_is_a_parameterization_like_any_other(tmp_path: Path) -> None:
    """What JSON has is what --parameterization FILE reads: the same table comes out."""
    found = mlp("sgd")
    (file := tmp_path / "p.json").write_text(render(found, "json"))
    ours, read = (derive("mlp", parameterization=p, optimizer="sgd") for p in (found, str(file)))
    assert [(r.key, r.terms) for r in ours] == [(r.key, r.terms) for r in read]


def test_the_free_regime_bounds_every_dim_by_itself() -> None:
    found = solve("s6:step=fixed", optimizer="sgd", regime="free", steps=1)
    table = derive("s6:step=fixed", parameterization=found, regime="free")
    assert not [row.label for row in table if row.klass == "exploding" and row.kind in ("init", "update")]


def test_bad_requests_are_one_clear_error() -> None:
    for error, message, asked in (
        (UnknownName, "no feature of mlp 'q'", {"require": ["rms q = 1"]}),
        (InputError, "W_out does not change h1; it is changed by W_in", {"require": ["update h1 by W_out = 1"]}),
        (InputError, "is no regime", {"regime": "N~M"}),
        (UnknownName, "no optimizer 'adm'; did you mean 'adam'", {"optimizer": "adm"}),
    ):
        with pytest.raises(error) as caught:
            solve("mlp", **asked)  # type: ignore[arg-type]
        assert message in str(caught.value)


# ---------------------------------------------------------------------- reports


@pytest.mark.parametrize("format", ["table", "markdown", "latex"])
def test_reports(format: str, snapshot: Callable[[str, str], None]) -> None:
    found = layer()
    suffix = {"table": "txt", "markdown": "md", "latex": "tex"}[format]
    snapshot(render(found, format, width=100), f"solution.{suffix}")


def test_json_has_what_the_interface_says() -> None:
    found = json.loads(render(solve("mlp", optimizer="sgd", gauge="like mup_table8"), "json"))
    assert (found["schema"], found["command"], found["model"], found["optimizer"]) == (1, "solve", "mlp", "sgd")
    assert found["parameterization"]["W_out"]["multiplier"] == {"N": "-1"}
    assert found["parameterization"]["W_2"]["init"] == {"N": "-1/2"}
    assert found["weights"]["W_out"]["bound_by"]["lr"] == ["f, update by W_out"]
    assert found["weights"]["W_in"]["does"] == "learning"
    assert found["is"][0] == {"name": "mup_table8", "multipliers": {}, "shifts": [], "differs": {}, "along": ""}
    assert {"name": "mup", "multipliers": {"W_out": {"N": "1"}}, "shifts": [], "differs": {}, "along": ""} in found["is"]
    assert found["rows"]


def test_csv_has_a_line_per_quantity_and_dim() -> None:
    lines = render(mlp("sgd"), "csv").splitlines()
    assert lines[0].startswith("weight,role,quantity,step")
    assert any(line.startswith("W_out,readout,init,,,,N,-1,0,learning,") for line in lines)


# ---------------------------------------------------------------------- the command line


def test_what_is_printed_is_the_solution(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["solve", "mlp", "--optimizer", "sgd", "--format", "json", "--quiet"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    assert json.loads(out.out)["parameterization"]["W_in"]["lr"] == {"N": "1"}


def test_a_contradiction_exits_with_one_in_words_and_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["solve", "mlp", "--require", "f = 1, update h2 = 1"]
    assert cli.main(command) == 1
    out = capsys.readouterr()
    assert out.out == ""
    assert "These contradict each other, and no fewer do:" in out.err
    assert "Traceback" not in out.err
    assert cli.main([*command, "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {row["row"]: row["is"] for row in found["contradiction"]} == {
        "f, init": "= 1, required", "h2, update by W_2": "= 1, required",
        "h2, init": "at most 1", "f, update by W_2": "at most 1",
    }  # fmt: skip
    assert found["product"] == "N^(1/2)"
    assert "rate of W_2" in found["clash"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gauge", "like nothing"], "no parameterization 'nothing'"),
        (["--require", "h = 1"], "no feature of mlp 'h'; did you mean"),
        (["--alignment", "some"], "neither a name nor a file"),
        (["--beside", "mup_tabel8"], "no parameterization 'mup_tabel8'; did you mean 'mup_table8'"),
        (["--rates", "adm"], "no optimizer 'adm'; did you mean 'adam'"),
        (["--beside", "mup,mup"], "the parameterization 'mup' is given twice"),
        (["--beside", "mup", "--base", "N=64", "--target", "N=128", "--lr", "1e-3"], "leave out --beside and --rates"),
        (["--regime", "N>"], "is no regime"),
    ],
)
def test_bad_input_exits_with_two(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["solve", "mlp", *options]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert message in out.err
    assert "Traceback" not in out.err


@pytest.mark.parametrize("format", ["table", "markdown", "latex", "csv", "json"])
def test_side_by_side(format: str, snapshot: Callable[[str, str], None]) -> None:
    """Tensor Programs V's three tables as that paper prints them: variance, multiplier, SGD rate, Adam rate."""
    solved = {optimizer: mlp(optimizer, 4) for optimizer in ("sgd", "adam")}
    out = render_beside(beside("mlp:depth=4", solved, ["mup", "mup_table8", "mup_table9"]), format, width=100)
    if format in ("table", "markdown", "latex"):
        snapshot(out, f"beside.{ {'table': 'txt', 'markdown': 'md', 'latex': 'tex'}[format] }")
    elif format == "json":
        found = json.loads(out)["parameterizations"]
        assert found["solved"]["sgd"]["W_3"]["init"] == found["mup"]["sgd"]["W_3"]["init"] == {"N": "-1/2"}
        assert found["mup_table9"]["adam"]["W_in"]["lr"] == {"N": "-1/2"}
    else:
        assert "mup_table9,adam,W_in,embedding,lr,N,-1/2,0,mlp:depth=4" in out.splitlines()


def test_side_by_side_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Names divided by commas or one by one; inits that differ between optimizers are said for each."""
    command = ["solve", "mlp", "--optimizer", "sgd", "--rates", "adam", "--beside", "mup,mup_table8", "--beside", "sp"]
    assert cli.main([*command, "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {tuple(line.split(",")[:2]) for line in lines[1:]} == {
        (name, optimizer) for name in ("solved", "mup", "mup_table8", "sp") for optimizer in ("sgd", "adam")
    }
    other = {**mlp("adam").scalings, "W_2": replace(mlp("adam")["W_2"], init=ONE)}
    apart = beside("mlp", {"sgd": mlp("sgd"), "adam": replace(mlp("adam"), scalings=other)}, [])
    text = render_beside(apart, "table")
    assert "init variance, sgd" in text
    assert "init variance, adam" in text


def test_what_depends_on_the_growth_ratio_is_noted() -> None:
    model = "s6:step=fixed,discretization=mamba"
    found = solve(model, optimizer="adam", steps=1, require=["rms h = 1", "update h by W_B = 1"])
    assert found.pieces
    assert any("by how the dims grow against each other: " in note for note in beside(model, {"adam": found}, []).notes)


def test_a_file_is_written_in_the_format_of_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["solve", "mlp", "--beside", "mup", "-o", str(tmp_path / "t.tex")]) == 0
    assert r"\toprule" in (tmp_path / "t.tex").read_text()
    assert cli.main(["solve", "mlp", "-o", str(tmp_path / "s.md")]) == 0
    assert "### What binds it" in (tmp_path / "s.md").read_text()
    assert capsys.readouterr().out == ""


def test_of_parameterizations_that_are_alike_the_models_own_is_named_first() -> None:
    """Without a depth that grows CompleteP is mup, and comes before it by name alone."""
    names = [match.name for match in solve("mlp", optimizer="adam").matches if not match.found.own]
    assert names[0] == "mup"
    assert "completep" in names


def test_regimes_along_which_a_solution_is_recognised() -> None:
    """Along N_u ∝ N_x only the powers together count, and the report says that it was so compared."""
    found = layer()
    (match,) = found.first_matches
    assert (match.name, match.along, found.regime) == ("mup_ssm", "proportional", Regime.parse("proportional"))
    assert {w: set(own) for w, own in match.found.differs.items()} == {"W_in": {"lr"}}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_rows_that_tie_are_said_and_each_of_them_binds(optimizer: str) -> None:
    """A quarter more of what is bound, and every row of the first step that is named for it is above its bound."""
    found, seen = solve("mlp", optimizer=optimizer), 0
    for (weight, quantity), bound in found.bounds.items():
        if quantity not in ("init", "lr"):
            continue
        more = replace(found[weight], **{quantity: getattr(found[weight], quantity) * Scale.of("N", Fraction(1, 4))})
        larger = replace(found, scalings={**found.scalings, weight: more})
        table = derive("mlp", parameterization=larger, optimizer=optimizer)
        for label in (*bound.rows, *bound.ties):
            row, _, rest = label.partition(", ")
            by = rest.removeprefix("update by ")
            if "step" in rest or "+" in rest or row.startswith("argument"):
                continue
            terms = table[(row, "init") if rest == "init" else (row, "update", by)].terms
            assert any(t.power("N") > 0 for t in terms), (weight, quantity, label)
            seen += 1
    assert seen > len(found.bounds)
    assert found.bounds["W_out", "init"].rows == ("f, update by W_2",)
    assert "f, update by W_in" in found.bounds["W_out", "init"].ties


@pytest.mark.slow
def test_of_rows_that_tie_the_first_is_named() -> None:
    """s6 under gradient descent: y by W_B once W_Delta has moved, or once W_out has; by the order of the names."""
    found = solve("s6", optimizer="sgd")
    for weight in ("W_B", "W_C"):
        bound = found.bounds[weight, "lr"]
        assert bound.rows == (f"y, update by {weight}+W_Delta, step 2",)
        assert bound.ties == (f"y, update by {weight}+W_out, step 2",)
    printed = str(found)
    assert "y, update by W_B+W_Delta, step 2" in printed
    assert "or y, update by W_B+W_out, step 2" in printed


@pytest.mark.parametrize(
    ("model", "optimizer", "weight", "bound"),
    [
        # W_o is hidden beside the residual stream while it is small: it is raised until it is seen.
        ("linear_attention:decay=fixed,norm=no", "adam", "W_o", "u1, init"),
        ("linear_attention:decay=fixed,norm=no", "sgd", "W_o", "u1, init"),
        # Two matrices with no feature between them: only their product is bounded.
        ("linear_attention", "sgd", "W_down", "l, init"),
        # A weight that stands before another in the program and behind it in the network.
        pytest.param("dense_ssm", "adam", "A", "h2, init", marks=pytest.mark.slow),
    ],
)
def test_inits_that_are_hard_to_bound(model: str, optimizer: str, weight: str, bound: str) -> None:
    p = solve(model, optimizer=optimizer, steps=1)
    assert not p.notes
    assert p.bounds[weight, "init"].rows[0].startswith(bound)
    assert not [row.label for row in p.table().rows if row.klass == "exploding"]


NORMED = """
from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.matmul import matmul
from scalecalc.rules.norm import rmsnorm


@architecture("normed", "a test", parameterization="mup", optimizer="adam", widths={"N": [64, 128]})
def normed() -> Program:
    "A matrix before a norm."
    p = Program("normed", dims=("N",), fixed={"batch": 4, "in": 8, "out": 8})
    u = p.feature("u", matmul(p.weight("W_in", "N in"), p.input("x", "batch in")))
    q = p.feature("q", rmsnorm(matmul(p.weight("W_q", "N N'"), u), "N"))
    p.end(p.feature("f", matmul(p.weight("W_out", "out N"), q)))
    return p
"""


def test_a_matrix_before_a_norm_has_a_rate(tmp_path: Path) -> None:
    """No size grows with its init: that is held, and the rate is as large against it as against any other's."""
    (tmp_path / "normed.py").write_text(NORMED)
    for optimizer, rate in (("adam", "N^(-1)"), ("sgd", "1")):
        p = solve(f"{tmp_path / 'normed.py'}:normed", optimizer=optimizer, steps=1)
        assert not p.notes
        assert str(p["W_q"].init) == "N^(-1/2)"
        assert str(p["W_q"].lr) == rate
        assert not [row.label for row in p.table().rows if row.klass == "exploding"]
