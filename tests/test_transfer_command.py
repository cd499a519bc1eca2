"""``scalecalc transfer``: what is refused, with one message; a sweep from the command line to its report."""

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from scalecalc.cli import main
from scalecalc.transfer.store import Store

BAD = {
    "no such model": (["s5"], "there is no model to train 's5'"),
    "no such option": (["mlp:width=3"], "no option of mlp that can be trained 'width'"),
    "an option that is no number": (["mlp:depth=0"], "no whole number from 1 to 100"),
    "no such dim": (["mlp", "--dims", "M=8:16"], "no growing dim of the model 'M'"),
    "widths that are none": (["mlp", "--dims", "N=eight"], "no whole number"),
    "rates that are none": (["mlp", "--rates", "fast"], "--rates 'fast' is malformed"),
    "rates too large": (["mlp", "--rates", "0,100"], "between -64 and 64"),
    "rates of what is not swept": (
        ["mlp", "--parameterization", "sp", "--rates", "mup=-4:-2"], "no swept parameterization 'mup'"
    ),
    "rates twice": (["mlp", "--rates", "-4:-2", "--rates", "-8:-2"], "--rates for all is given twice"),
    "no such activation": (["mlp:activation=sine"], "no activation that can be trained with 'sine'"),
    "no such readout": (["mlp:readout=one"], "readout=one is neither random nor zero"),
    "no such data": (["s6", "--data", "/nowhere"], "there is no file or folder '/nowhere'"),
    "no such arrays": (["mlp", "--data", "/nowhere.npz"], "there is no file '/nowhere.npz'"),
    "no such parameterization": (["mlp", "--parameterization", "mip"], "there is no parameterization 'mip'"),
    "a file that is not there": (["mlp", "--parameterization", "mine.toml"], "there is no file 'mine.toml'"),
    "no such optimizer": (["mlp", "--optimizer", "adan"], "'adan' is not one of"),
    "a group without weights": (["mlp", "--group", "ssm"], "--group 'ssm' is malformed"),
    "no folder for the database": (["mlp", "--db", "/nowhere/runs.sqlite"], "there is no folder '/nowhere'"),
    "a file that is no model": (["nothing.py:factory"], "there is no file 'nothing.py'"),
    "decay that is not taken": (["mlp", "--weight-decay", "0.1"], "does not say how"),
}  # fmt: skip


@pytest.mark.parametrize("arguments", BAD.values(), ids=list(BAD))
def test_bad_input_is_one_message_and_status_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given, words = arguments
    assert main(["transfer", *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("scalecalc: ") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "transfer.sqlite").exists() or not sqlite3.connect("transfer.sqlite").execute(
        "select * from sweeps"
    ).fetchall()


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from scalecalc.cli import main; main(['transfer', '--help']); import json;"
        "print(json.dumps([m for m in ('torch', 'joblib', 'dask', 'distributed', 'sympy', 'pandas') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out.splitlines()[-1]) == []


@pytest.mark.slow
def test_from_the_command_line_to_the_report(capsys, tmp_path):
    db, folder = tmp_path / "runs.sqlite", tmp_path / "report"
    ask = [
        "transfer", "mlp", "--data", "teacher", "--dims", "N=8,16", "--rates=-8:-3:2.5", "--seeds", "2", "--steps", "20",
        "--parameterization", "mup", "--group", "out=W_out", "--workers", "1", "--db", str(db),
    ]  # fmt: skip
    assert main([*ask, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    rows = sqlite3.connect(db).execute('select "group", count(*) from jobs group by 1').fetchall()
    assert rows == [("", 12), ("out", 12)]
    assert main(ask) == 2
    assert "24 runs of this sweep already; --resume goes on" in capsys.readouterr().err
    store = Store(db)
    old = next(job for job in store.jobs() if job.group)
    store.write(replace(old, key="of another best rate of the others"))
    assert main([*ask, "--resume", "-o", str(folder)]) == 0
    assert (folder / "runs.csv").read_text().count("done,") == 24
    with sqlite3.connect(db) as rows:
        rows.execute("delete from jobs where key = 'of another best rate of the others'")
    assert (folder / "report.html").is_file()
    assert "mup" in capsys.readouterr().out
    assert main([*ask, "--steps", "21", "--budget", "1e-9"]) == 0  # another sweep, of which there is nothing yet
    assert sqlite3.connect(db).execute("select count(*) from jobs").fetchone() == (24,)
    assert sqlite3.connect(db).execute("select count(*) from sweeps").fetchone() == (2,)
    (tmp_path / "notes.txt").write_text("no database " * 1000)
    assert main([*ask, "--db", str(tmp_path / "notes.txt")]) == 2
    assert "is no SQLite database" in capsys.readouterr().err
