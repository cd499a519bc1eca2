"""The command as a process: what it must not import, and how it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from scalecalc import cli

HEAVY = ("torch", "sympy", "pandas", "rich")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "scalecalc", *arguments], capture_output=True, text=True, timeout=120)


# ---------------------------------------------------------------- what is imported

PROBE = """
import sys
from scalecalc import cli
status = cli.main(sys.argv[1:])
print(status, [m for m in {heavy} if m in sys.modules], file=sys.stderr)
"""


def imported(*arguments: str, heavy: tuple[str, ...] = HEAVY) -> str:
    """The last line of standard error: exit status and which of the heavy modules were imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=heavy), *arguments], capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        ["list", "--help"],
        ["derive", "--help"],
        ["verify", "--help"],
        ["completion", "zsh"],
    ],
    ids=" ".join,
)
def test_help_is_light(arguments: list[str]) -> None:
    assert imported(*arguments) == "0 []"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["list", "nonsense"],
        ["derive", "s6:euler"],
        ["derive", "s6", "--regime", "N_u"],
        ["derive", "no.py:s6"],
        ["derive", "s6", "-o", "/nowhere/at/all"],
        ["verify", "s6", "--dims", "N_u=64"],
        ["verify", "s6", "--budget", "nan"],
        ["verify", "s6", "--parameterization", "no.toml"],
    ],
    ids=" ".join,
)
def test_refusing_is_light(arguments: list[str]) -> None:
    assert imported(*arguments) == "2 []"


def test_unknown_names_are_refused_without_torch() -> None:
    assert imported("verify", "no_such_model", heavy=("torch", "pandas", "rich")) == "2 []"


def test_the_probe_sees_what_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import rich\n" + PROBE.format(heavy=HEAVY), "--version"], capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1] == "0 ['rich']"


def test_derive_never_imports_torch() -> None:
    models = json.loads(run("list", "models", "--format", "json").stdout)
    if not models:
        pytest.skip("no model is registered yet")
    name = min((m["name"] for m in models), key=lambda name: (name != "mlp", name))
    assert imported("derive", name, heavy=("torch", "pandas")) == "0 []"


# ---------------------------------------------------------------- the process


def test_version_and_help() -> None:
    from scalecalc._version import __version__

    assert run("--version").stdout == f"scalecalc {__version__}\n"
    assert "derive" in run("-h").stdout
    assert run().returncode == 0


def test_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m scalecalc list rules | true",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_ascii_output_still_prints() -> None:
    code = """
        from scalecalc.report.output import show
        show("Θ ±\\n")
    """
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "? ?\n"


def test_control_c_exits_130(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "scalecalc", "list", "rules", "--rules", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "scalecalc: interrupted."


def test_list_of_what_is_really_there() -> None:
    for what in cli.LISTS:
        done = run("list", what)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_broken_rule_file_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\ny = x + undefined\n")
    done = run("list", "rules", "--rules", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        f"scalecalc: the rule file {tmp_path / 'mine.py'}, line 2: NameError: name 'undefined' is not defined\n"
    )
