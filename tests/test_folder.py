"""A report as a folder: what the command writes, what it refuses, and that the folder ``reports`` is what it would write."""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from measurements import measured

import scalecalc as sc
from scalecalc import cli
from scalecalc.dossier import Dossier, Made, dossier
from scalecalc.errors import InputError
from scalecalc.report import groups, site
from scalecalc.report.folder import texts, write_report
from scalecalc.report.frame import read_csv
from scalecalc.report.json import read_json
from scalecalc.scale import Scale
from scalecalc.table import Table, WeightScaling

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "report.html", "derivation.html", "derivation.tex", "table.csv", "table.json", "table.md", "table.tex", "paper.tex",
    "groups.py", "diagram.svg", "diagram.dot", "diagram.mmd",
}  # fmt: skip


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out, shown = tmp_path / "new" / "folder", list[str]()
    monkeypatch.setattr("click.launch", shown.append)
    assert run("report", "mlp", "--optimizer", "adam", "-o", str(out), "--open") == 0
    assert shown == [str(out / "report.html")]
    assert {path.name for path in out.iterdir()} == FILES
    assert str(out / "report.html") in capsys.readouterr().err
    command = "scalecalc report mlp --optimizer adam"
    for path in out.iterdir():
        head = path.read_text(encoding="utf-8")[:600].replace("&quot;", '"')
        assert command in head, path.name
        assert f"{sc.__version__}" in head, path.name
        assert "nothing random" in head or '"seed": null' in head or ",seed,table," in head, path.name
    derived = sc.derive("mlp", optimizer="adam")
    for back in (read_csv((out / "table.csv").read_text()), read_json((out / "table.json").read_text())):
        assert replace(back, seconds=0.0, command="derive") == replace(derived, seconds=0.0)


def test_several_parameterizations(tmp_path: Path) -> None:
    assert run("report", "mlp", "sp", "solved", "--optimizer", "sgd", "-o", str(tmp_path), "--quiet") == 0
    assert {"report.html", "comparison.csv", "comparison.json", "comparison.md", "comparison.tex"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert {path.name for path in (tmp_path / "solved").iterdir()} == FILES
    page = (tmp_path / "report.html").read_text()
    assert 'href="solved/report.html"' in page
    assert "every feature learns" in page


def test_what_verify_measured_is_printed_again(tmp_path: Path) -> None:
    old = measured(sc.derive("mlp", optimizer="sgd"))
    few = [row if row.row in ("h1", "⟨W_2, relu(h1)⟩") else replace(row, points=()) for row in old]
    old = replace(old, rows=tuple(few))  # a plot takes a third of a second
    file = tmp_path / "old.json"
    file.write_text(old.to_json())
    assert run("report", "mlp", "--optimizer", "sgd", "--measured", str(file), "-o", str(tmp_path / "r"), "--quiet") == 0
    names = {path.name for path in (tmp_path / "r" / "plots").iterdir()}
    assert names == {f"{name}.{end}" for name in ("heat", "drift", "alignment") for end in ("pdf", "png", "svg")}
    back = read_json((tmp_path / "r" / "table.json").read_text())
    assert [row.points for row in back] == [row.points for row in old]
    assert back.counts()["agrees"] == len(old)
    page = (tmp_path / "r" / "report.html").read_text()
    assert f"{len(old)} of {len(old)} derived rows agree with the measurement and none disagrees." in page
    assert page.count('aria-label="h1, init: size against width"') == 1


def test_an_interruption_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scalecalc.measure import verify as measuring

    asked: list[str] = []

    def stopped(model: str, *, parameterization: str, **_: object) -> Table:
        asked.append(parameterization)
        table = sc.derive(model, parameterization=parameterization, optimizer="sgd")
        whole = measured(table)
        raise measuring.Interrupted(replace(table, rows=(replace(whole.rows[0], points=(), measured={}), *table.rows[1:])))

    monkeypatch.setattr(measuring, "verify", stopped)
    assert run("report", "mlp", "sp", "mup", "--optimizer", "sgd", "--measure", "-o", str(tmp_path), "--quiet") == 130
    assert asked == ["sp"]
    verdicts = [read_json((tmp_path / name / "table.json").read_text()).rows[0].verdict for name in ("sp", "mup")]
    assert verdicts == ["agrees", None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "mlp", "no_such"], "there is no parameterization 'no_such'"),
        (["report", "mlp", "mup", "mup"], "given twice"),
        (["report", "mlp", "--measured", "missing.json"], "there is no file 'missing.json'"),
        (["report", "mlp", "--measured", "{file}", "-o", "{dir}/x"], "no table that scalecalc wrote"),
        (["report", "mlp", "--measure", "--measured", "{file}"], "leave out --measure"),
        (["report", "mlp", "-o", "{file}"], "cannot write into the folder"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file.json"
    file.write_text("{}")
    given = [one.format(file=file, dir=tmp_path) for one in arguments]
    assert run(*given) == 2
    assert message in capsys.readouterr().err


def test_measurements_of_another_table_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    old = measured(sc.derive("mlp", optimizer="sgd"))
    file.write_text(old.to_json())
    with pytest.raises(InputError, match="its optimizer is 'sgd', here it is 'adam'"):
        dossier("mlp", optimizer="adam", measured=file)
    changed = replace(old.rows[3], terms=(Scale.of("N", 7),))
    file.write_text(replace(old, rows=(*old.rows[:3], changed, *old.rows[4:])).to_json())
    with pytest.raises(InputError, match="measure again"):
        dossier("mlp", optimizer="sgd", measured=file)


def test_importing_the_command_imports_nothing_heavy() -> None:
    code = "import sys, scalecalc.cli; print([m for m in ('matplotlib', 'pandas', 'torch', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- what stands in the files


def test_groups_are_those_of_the_library(derived: Table) -> None:
    import torch

    p = sc.parameterize("mlp", "mup", optimizer="adam")
    text = groups.to_torch(sc.derive("mlp", parameterization="mup", optimizer="adam"))

    def network(width: int) -> torch.nn.Module:
        sizes = {"W_in": (width, 8), "W_2": (width, width), "W_out": (8, width)}
        return torch.nn.ParameterDict({name: torch.nn.Parameter(torch.zeros(size)) for name, size in sizes.items()})

    model = network(4096)
    found: dict[str, Any] = {"model": model}
    exec(compile(text, "groups.py", "exec"), found)
    ours = {id(group["params"][0]): group["lr"] for group in found["groups"]}
    theirs = sc.torch.param_groups(model, p, base=network(256), lr=1e-3)
    assert len(ours) == 3
    for group in theirs:
        for weight in group["params"]:
            assert ours[id(weight)] == pytest.approx(group["lr"])
    assert found["init"] == pytest.approx({"W_in": 1.0, "W_2": 16**-0.5, "W_out": 1 / 16})


HOSTILE = '"]; import os; os.abort() #</script><b onload=alert(1)>&$\\input{x}%\n--> =1+1'


def test_hostile_names_stay_names(derived: Table) -> None:
    weight = WeightScaling(Scale.one(), Scale.one(), Scale.of("N_u", -1), role=HOSTILE)
    rows = tuple(replace(row, row=HOSTILE, tag=(HOSTILE,), klass="stable", settle=HOSTILE) for row in derived.rows[:2])
    table = replace(derived, model=HOSTILE, rows=rows, parameterization={HOSTILE: weight}, parameterization_name=HOSTILE,
                    optimizer=HOSTILE, notes=(HOSTILE,))  # fmt: skip
    files = texts(Dossier(table, Made(HOSTILE)))
    assert "<b onload" not in files["report.html"] + site.fragment(table)
    head = files["report.html"].partition("<style>")[0]
    assert head.count("<!--") == head.count("-->") == 1
    assert files["table.md"].partition("\n")[0].count("-->") == 1
    for name in ("table.tex", "paper.tex"):
        lines = files[name].splitlines()
        assert all(line.startswith("%") for line in lines[:3])
        assert not any(r"\input{x}" in line for line in lines if not line.startswith("%"))
    found: dict[str, object] = {"model": type("M", (), {"named_parameters": lambda self: [(HOSTILE, 0)]})()}
    source = files["groups.py"].replace("import torch", "").partition("# give")[0].partition("optimizer =")[0]
    exec(compile(source, "groups.py", "exec"), found)
    assert json.loads(files["table.json"])["rows"][0]["row"] == HOSTILE


def test_a_notebook_shows_a_table(derived: Table) -> None:
    text = derived._repr_html_()
    assert text.count("<tr>") == len(derived) + len(derived.parameterization) + 5 + 1
    assert "<math" in text
    assert "✓ agrees" in measured(derived)._repr_html_()


def test_every_rows_plot_on_request(tmp_path: Path, derived: Table) -> None:
    table = replace(derived, rows=(replace(measured(derived).rows[1], measured={}),))
    files = write_report(Dossier(table, Made("scalecalc report x")), tmp_path, rows=True)
    assert {"u-init.pdf", "u-init.svg", "u-init.png"} <= {path.name for path in files}
    for ending in ("pdf", "svg", "png"):
        assert b"scalecalc report x" in (tmp_path / "plots" / f"u-init.{ending}").read_bytes()


# ---------------------------------------------------------------- the folder reports


@pytest.fixture(scope="module")
def make() -> ModuleType:
    if not (ROOT / "reports").is_dir():
        pytest.skip("there is no folder reports here: a source distribution has none")
    spec = importlib.util.spec_from_file_location("make_reports", ROOT / "reports" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


QUICK = ("s6-zoh-sgd", "mlp-adam")
OTHERS = (
    "s6-zoh-adam", "s6-euler-sgd", "s6-euler-adam", "mlp-sgd", "transformer-adam", "mamba-adam", "s4d-adam", "lru-adam",
)  # fmt: skip


def test_every_report_is_checked_for_drift(make: ModuleType) -> None:
    assert {*QUICK, *OTHERS} == {*make.REPORTS}


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_what_is_derived_has_not_drifted(make: ModuleType, name: str) -> None:
    files, _ = make.compared(name)
    for file, text in files.items():
        kept = (ROOT / "reports" / name / file).read_text(encoding="utf-8")
        assert text == kept, f"reports/{name}/{file} has drifted: run python reports/make.py, and read the difference"


def test_the_report_with_measurements_has_not_drifted(make: ModuleType) -> None:
    files = texts(make.whole(), page=False)
    for file in ("table.csv", "table.json", "table.md", "paper.tex", "derivation.tex", "diagram.dot", "groups.py"):
        assert files[file] == (ROOT / "reports" / "s6" / file).read_text(encoding="utf-8"), file
    assert re.search(r"measured \d{4}-\d\d-\d\d by scalecalc report s6 --measure", files["table.md"])


SWEEPS = ("transfer-mlp", "transfer-s6", "transfer-s6-ssm")


@pytest.mark.parametrize("name", SWEEPS)
def test_what_was_trained_still_says_the_same(make: ModuleType, name: str) -> None:
    """The runs are kept, and judged again: a change of the statistics shows here."""
    from scalecalc.transfer.report import to_markdown

    said, how = make.trained(name)
    kept = (ROOT / "reports" / name / "transfer.md").read_text(encoding="utf-8")
    fresh = f"<!-- {how.line()} -->\n\n{to_markdown(said)}"
    assert kept == fresh, f"run python reports/make.py {name}, and read the difference"
    assert {job.status for job in said.jobs} <= {"done", "diverged"}
    assert len({job.key for job in said.jobs}) == len(said.jobs)
    assert "/tmp" not in how.command


@pytest.mark.parametrize("name", SWEEPS)
def test_the_command_that_is_recorded_makes_the_runs_that_are_kept(make: ModuleType, name: str, tmp_path: Path) -> None:
    """Every one by its key, a hash of settings, data and exponents."""
    from scalecalc.transfer import command

    assert {*SWEEPS} == {*make.SWEEPS}
    kept = make.trained(name)[0].jobs
    if "s6" in name and kept[0].versions["python"] != platform.python_version():
        pytest.skip("the text that it was trained on comes with another Python")
    ask = [*make.SWEEPS[name].arguments, "--db", str(tmp_path / "runs.sqlite")]
    setups, _, sweep = command.prepare(cli.transfer.make_context("transfer", ask).params)
    assert {job.sweep for job in kept} == {sweep}
    assert {job.key for job in kept if not job.group} == {setup.key for setup in setups}


def test_every_report_is_listed_and_small(make: ModuleType) -> None:
    folder = ROOT / "reports"
    assert {path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"} == {
        *make.REPORTS, *make.SWEEPS, "s6",
    }  # fmt: skip
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"({name}/comparison.md)" in index for name in make.REPORTS)
    assert all(f"({name}/transfer.md)" in index for name in make.SWEEPS)
    assert (folder / "s6" / "report.html").stat().st_size < 3_000_000
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8_000_000
