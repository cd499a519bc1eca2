"""The command line: what it calls, what it prints, how it exits, and what it must not import."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scalecalc import cli, rule
from scalecalc.errors import InputError, ScalecalcError
from scalecalc.scale import Scale
from scalecalc.table import Grounds, Row, Table


class Interrupted(ScalecalcError):
    """Stands for the measuring side's own."""

    def __init__(self, table: Table):
        self.table = table


@pytest.fixture
def engine(derived: Table, verified: Table, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for the engine: ``result`` is returned (or raised), ``calls`` holds what it was called with."""
    made: dict[str, Any] = {"calls": [], "derive": derived, "verify": verified}

    def stand_in(name: str):
        def call(model: str, **options: Any) -> Table:
            made["calls"].append((name, model, options))
            if isinstance(made[name], BaseException):
                raise made[name]
            return made[name]

        return call

    derive, verify = ModuleType("derive"), ModuleType("verify")
    derive.derive, verify.verify, verify.Interrupted = stand_in("derive"), stand_in("verify"), Interrupted
    monkeypatch.setitem(sys.modules, "scalecalc.derive", derive)
    monkeypatch.setitem(sys.modules, "scalecalc.measure.verify", verify)
    entries = {
        "architecture": ["s6"],
        "optimizer": ["sgd", "adam"],
        "parameterization": ["mup_ssm", "mup"],
        "rule": ["matmul"],
    }
    known = {
        kind: {name: rule.Entry(name, print, f"source of {name}", f"words of {name}", {}) for name in names}
        for kind, names in entries.items()
    }
    monkeypatch.setattr(rule, "_REGISTRY", known)
    monkeypatch.setattr("scalecalc.rulebook.load", lambda folder=None: made["calls"].append(("load", folder, {})))
    monkeypatch.setenv("COLUMNS", "80")
    return made


def asked(engine: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """The one call of the engine."""
    (call,) = [call for call in engine["calls"] if call[0] != "load"]
    return call


# ---------------------------------------------------------------- derive, verify


def test_derive(engine, capsys, snapshot) -> None:
    assert cli.main(["derive", "s6:discretization=euler", "--quiet"]) == 0
    assert asked(engine) == (
        "derive",
        "s6:discretization=euler",
        {
            "parameterization": None, "optimizer": None, "steps": 1, "regime": "free", "loss": "linear",
            "alignment": "derived",
        },
    )  # fmt: skip
    out = capsys.readouterr()
    assert out.err == ""
    snapshot(out.out, "terminal_derived.txt")


def test_derive_passes_its_options_on(engine) -> None:
    given = {"parameterization": "mup", "optimizer": "sgd", "steps": 3, "regime": "N_u>N_x", "loss": "mse"}
    given["alignment"] = "none"
    options = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    assert cli.main(["derive", "s6", "--seed", "7", *options]) == 0
    assert asked(engine)[2] == given


def test_verify(engine, capsys, snapshot) -> None:
    assert (
        cli.main(["verify", "s6", "--dims", "N_u=64:256", "--dims", "N_x=8,16", "--seeds", "5", "--resume", "x"]) == 1
    )
    assert asked(engine) == (
        "verify",
        "s6",
        {
            "parameterization": None,
            "optimizer": None,
            "steps": 1,
            "regime": "free",
            "dims": {"N_u": [64, 128, 256], "N_x": [8, 16]},
            "seeds": 5,
            "budget": 120.0,
            "tolerance": None,
            "loss": "linear",
            "device": "cpu",
            "dtype": "float64",
            "seed": 0,
            "resume": Path("x"),
            "progress": True,
        },
    )
    snapshot(capsys.readouterr().out, "terminal_80.txt")


def table_of(verified: Table, *verdicts: str | None) -> Table:
    row = Row("y", "init", 0, (Scale.one(),))
    return replace(verified, rows=tuple(replace(row, row=f"y{i}", verdict=v) for i, v in enumerate(verdicts)))


@pytest.mark.parametrize(
    ("verdicts", "status", "strict"),
    [
        (["agrees", "agrees"], 0, 0),
        (["agrees", "inconclusive"], 0, 3),
        (["agrees", None], 0, 3),
        (["inconclusive", "disagrees"], 1, 1),
        ([], 0, 0),
    ],
)
def test_exit_status(engine, verified: Table, verdicts: list[str], status: int, strict: int) -> None:
    engine["verify"] = table_of(verified, *verdicts)
    assert cli.main(["verify", "s6", "--quiet"]) == status
    assert cli.main(["verify", "s6", "--quiet", "--strict"]) == strict


def test_an_interrupted_measurement_is_printed(engine, verified: Table, capsys, tmp_path: Path) -> None:
    engine["verify"] = Interrupted(table_of(verified, "agrees", None, None))
    assert cli.main(["verify", "s6", "--format", "json"]) == 130
    out = capsys.readouterr()
    assert [row["verdict"] for row in json.loads(out.out)["rows"]] == ["agrees", None, None]
    assert out.err == "scalecalc: interrupted; 1 of 3 rows have a verdict.\n"
    assert cli.main(["verify", "s6", "-o", str(tmp_path / "t.json")]) == 130
    assert len(json.loads((tmp_path / "t.json").read_text())["rows"]) == 3


@pytest.mark.parametrize("command", ["derive", "verify"])
def test_interrupted_before_anything_was_measured(engine, capsys, command: str) -> None:
    engine[command] = KeyboardInterrupt()
    assert cli.main([command, "s6"]) == 130
    assert capsys.readouterr().err.strip() == "scalecalc: interrupted."


def test_an_error_of_the_engine(engine, capsys) -> None:
    engine["derive"] = InputError("the model has no dim N_z.")
    assert cli.main(["derive", "s6"]) == 2
    assert capsys.readouterr().err == "scalecalc: the model has no dim N_z.\n"


def test_a_bug_keeps_its_traceback_and_is_no_disagreement(engine, capsys) -> None:
    engine["derive"] = ZeroDivisionError("ours")
    assert cli.main(["derive", "s6"]) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError: ours" in err
    assert "scalecalc: this is an error of scalecalc's own" in err


# ---------------------------------------------------------------- output


@pytest.mark.parametrize(("name", "start"), [("t.csv", "index,row"), ("t.json", "{"), ("t.MD", "s6:"), ("t", "s6:")])
def test_the_suffix_decides_the_format(engine, capsys, tmp_path: Path, name: str, start: str) -> None:
    assert cli.main(["derive", "s6", "-o", str(tmp_path / name)]) == 0
    out = capsys.readouterr()
    assert (tmp_path / name).read_text().startswith(start)
    assert out.out == ""
    assert out.err.startswith(f"scalecalc: wrote {tmp_path / name}. 10 rows: ")


def test_format_overrules_the_suffix(engine, capsys, tmp_path: Path) -> None:
    assert cli.main(["derive", "s6", "-o", str(tmp_path / "t.json"), "--format", "csv", "--quiet"]) == 0
    assert (tmp_path / "t.json").read_text().startswith("index,row")
    assert capsys.readouterr().err == ""
    assert cli.main(["derive", "s6", "-o", "-", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("index,row")


def test_an_unwritable_file_is_refused_before_computing(engine, capsys, tmp_path: Path) -> None:
    for name, words in ((str(tmp_path), "it is a folder"), (str(tmp_path / "no" / "t.csv"), "there is no folder")):
        for command in (["derive", "s6"], ["verify", "s6"], ["list", "rules"]):
            assert cli.main([*command, "-o", name]) == 2
            assert words in capsys.readouterr().err
        assert cli.main(["verify", "s6", "--resume", name]) == 2
        assert words in capsys.readouterr().err
    assert [call for call in engine["calls"] if call[0] != "load"] == []


def test_what_cannot_be_written_after_all_is_printed(engine, capsys, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert cli.main(["derive", "s6", "-o", str(tmp_path / "t.csv")]) == 2
    out = capsys.readouterr()
    assert out.out.startswith("index,row")
    assert "No space left on device" in out.err


def test_rule_folders_are_loaded_before_names_are_looked_up(engine) -> None:
    assert cli.main(["derive", "s6", "--rules", "a", "--rules", "b"]) == 0
    assert [call[1] for call in engine["calls"] if call[0] == "load" and call[1]] == ["a", "b"]


# ---------------------------------------------------------------- list


def test_list(engine, capsys) -> None:
    assert cli.main(["list", "optimizers"]) == 0
    assert capsys.readouterr().out == (
        "adam\n    words of adam\n    source: source of adam\nsgd\n    words of sgd\n    source: source of sgd\n"
    )
    assert cli.main(["list", "models", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "s6", "words": "words of s6", "source": "source of s6"}]


def test_a_new_kind_of_registered_thing_is_listed(engine, capsys, monkeypatch) -> None:
    monkeypatch.setattr(rule, "KINDS", (*rule.KINDS, "discretisation"))
    rule._REGISTRY["discretisation"] = {"zoh": rule.Entry("zoh", print, "a book", "held", {})}
    assert cli.main(["list", "discretisations"]) == 0
    assert capsys.readouterr().out == "zoh\n    held\n    source: a book\n"


# ---------------------------------------------------------------- explain, compare, new


def test_explain(engine, derived: Table, capsys) -> None:
    row = replace(derived["y", "update", "W_B"], derivation=Grounds((), ("N_u",)))
    engine["derive"] = replace(derived, rows=(*derived.rows, row))
    assert cli.main(["explain", "s6", "y", "--tag", "W_B", "--step", "2", "--optimizer", "sgd"]) == 2
    assert asked(engine)[2]["steps"] == 2
    assert "carries no derivation" in capsys.readouterr().err
    engine["derive"] = replace(derived, rows=(row,))
    assert cli.main(["explain", "s6", "y", "--kind", "update"]) == 0
    assert capsys.readouterr().out.startswith("y, update by W_B, step 1: Θ(log N_x), rms, exploding\ns6: parameterization")
    assert cli.main(["explain", "s6", "y", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["row"]["tag"] == ["W_B"]
    assert cli.main(["explain", "s6", "z"]) == 2
    assert capsys.readouterr().err == "scalecalc: there is no row 'z'; names: y.\n"


def test_compare(engine, capsys, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("")
    mine = str(tmp_path / "mine.toml")
    assert cli.main(["compare", "s6", "mup", mine, "--optimizer", "sgd", "--quiet"]) == 0
    calls = [call[2] for call in engine["calls"] if call[0] == "derive"]
    assert [call["parameterization"] for call in calls] == ["mup", mine]
    assert all(call["optimizer"] == "sgd" and call["regime"] == "free" for call in calls)
    out = capsys.readouterr().out
    assert "s6: parameterizations mup, mine, optimizer adam" in out
    assert "mine: y explodes, by W_B and W_C; no feature learns; at initialisation" not in out
    assert cli.main(["compare", "s6", "mup", "-o", str(tmp_path / "t.tex")]) == 0
    assert capsys.readouterr().err == f"scalecalc: wrote {tmp_path / 't.tex'}.\n"
    assert "\\toprule" in (tmp_path / "t.tex").read_text()
    assert cli.main(["compare", "s6", "mup", "mup"]) == 2
    assert "is given twice" in capsys.readouterr().err


def test_new(engine, capsys, tmp_path: Path) -> None:
    assert cli.main(["new", "rule", "fold", "-o", str(tmp_path / "mine")]) == 0
    out = capsys.readouterr()
    assert out.out == f"wrote {tmp_path / 'mine' / 'fold.py'}\nwrote {tmp_path / 'mine' / 'test_fold.py'}\n"
    assert f"--rules {tmp_path / 'mine'} uses it" in out.err
    assert cli.main(["new", "rule", "fold", "-o", str(tmp_path / "mine")]) == 2
    assert "is there already and is not overwritten" in capsys.readouterr().err


# ---------------------------------------------------------------- bad input

BAD = [
    ["derve", "s6"],
    ["derive"],
    ["derive", "s7"],
    ["derive", "s6:euler"],
    ["derive", "missing.py:block"],
    ["derive", "block.py"],
    ["derive", "s6", "--regime", "N_u"],
    ["derive", "s6", "--optimizer", "adm"],
    ["derive", "s6", "--parameterization", "mupp"],
    ["derive", "s6", "--parameterization", "missing.toml"],
    ["derive", "s6", "--steps", "0"],
    ["derive", "s6", "--format", "latax"],
    ["derive", "s6", "--wrong"],
    ["derive", "s6", "s6"],
    ["verify", "s6", "--dims", "N_u=0:64"],
    ["verify", "s6", "--budget", "nan"],
    ["verify", "s6", "--budget", "-1"],
    ["verify", "s6", "--tolerance", "small"],
    ["verify", "s6", "--seeds", "1"],
    ["verify", "s6", "--loss", "hinge"],
    ["list", "rule"],
    ["list", "rules", "--format", "latex"],
    ["explain", "s6"],
    ["explain", "s7", "y"],
    ["explain", "s6", "y", "--kind", "size"],
    ["explain", "s6", "y", "--format", "csv"],
    ["explain", "s6", "y", "-o", "y.tex"],
    ["compare", "s6"],
    ["compare", "s6", "mup", "mupp"],
    ["compare", "s6", "missing.toml"],
    ["new", "rul", "fold"],
    ["new", "rule", "1st"],
    ["new", "rule", "matmul"],
]


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_bad_input_is_one_message(engine, capsys, arguments: list[str]) -> None:
    assert cli.main(arguments) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith("scalecalc: ")
    assert out.err.count("\n") == 1
    assert "Traceback" not in out.err
    assert [call for call in engine["calls"] if call[0] != "load"] == []


def test_messages_of_ours(engine, capsys, snapshot) -> None:
    for arguments in BAD:
        cli.main(arguments)
    ours = [line for line in capsys.readouterr().err.splitlines(keepends=True) if "--help" not in line]  # click's
    snapshot("".join(ours), "cli_errors.txt")


def test_completion_knows_commands_and_names(engine, monkeypatch, capsys) -> None:
    assert cli.main(["completion", "bash"]) == 0
    assert "_SCALECALC_COMPLETE=bash_complete" in capsys.readouterr().out
    for words, position, expected in (
        ("scalecalc der", 1, "derive"),
        ("scalecalc derive s6 --optimizer ad", 4, "adam"),
    ):
        monkeypatch.setenv("_SCALECALC_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(position))
        with pytest.raises(SystemExit):
            cli.main([])
        assert expected in capsys.readouterr().out
