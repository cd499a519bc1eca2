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

from scalecalc.options import Plural

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
        ["explain", "--help"],
        ["compare", "--help"],
        ["new", "--help"],
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
        ["explain", "s6", "y", "--format", "csv"],
        ["compare", "s6", "no.toml"],
        ["new", "rule", "1st"],
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
    assert imported("derive", "mlp", heavy=("torch", "pandas")) == "0 []"


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
        # a shell starts jobs in the background with the signal ignored, and a test runner there hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.strip() == "scalecalc: interrupted."


def test_list_of_what_is_really_there() -> None:
    for what in Plural.kinds():
        done = run("list", what)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_broken_rule_file_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\ny = x + undefined\n")
    done = run("list", "rules", "--rules", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        f"scalecalc: the rule file {tmp_path / 'mine.py'}, line 2: NameError: name 'undefined' is not defined\n"
    )


# ---------------------------------------------------------------- rules of one's own, end to end

MINE = {
    "_shared.py": "POWER = -1\n",
    "op.py": """
from collections.abc import Sequence
from scalecalc.program import Op, Program, Tensor
from scalecalc.rule import Rule, rule
from scalecalc.scale import Scale
from ._shared import POWER


def shrink(x: Tensor) -> Tensor:
    return x.program.record("shrink", (x,), x.axes)


@rule("shrink", "a source of mine")
class Shrink(Rule):
    '''Divided by the width.'''

    def law(self, algebra, op, labels, *values):
        return algebra.scale(values[0], Scale.of("N", POWER), "times 1/N")

    def backward(self, inputs, output, g):
        return [shrink(g)]

    def torch(self, op, axes, *tensors):
        return tensors[0] / tensors[0].shape[1 + axes[0].index("N")]

    def latex(self, op, *names):
        return names[0] + "/N"

    def sample(self, program: Program) -> Tensor:
        return shrink(program.input("x", "batch N"))
""",
    "training.py": """
from scalecalc.optimizer import Optimizer
from scalecalc.parameterization import scaling
from scalecalc.rule import optimizer, parameterization
from scalecalc.scale import Scale


class Plain(Optimizer):
    family = "plain"

    def law(self, algebra, gradient, weight):
        return gradient

    def torch(self, gradients, weight):
        return gradients[-1]


@optimizer("plain", "me")
def plain():
    '''Gradient descent, again.'''
    return Plain()


@parameterization("flat", "me")
def flat(weight, optimizer):
    '''Everything of order one.'''
    assert optimizer == "plain"
    return scaling(Scale.one(), Scale.one())
""",
    "nets/net.py": """
from scalecalc.program import Program
from scalecalc.rule import architecture
from scalecalc.rules.matmul import matmul
from ..op import shrink


@architecture("net", "me", parameterization="flat", optimizer="plain", widths={"N": [16, 32, 64]})
def net() -> Program:
    '''A net of mine.'''
    p = Program("net", dims=("N",), fixed={"batch": 2, "in": 4, "out": 2})
    h = p.feature("h", shrink(matmul(p.weight("W_in", "N in"), p.input("x", "batch in"))))
    p.end(p.feature("f", matmul(p.weight("W_out", "out N"), h)))
    return p
""",
}


def write_rules(folder: Path) -> None:
    for name, text in MINE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def check_mine(*options: str, cwd: Path | None = None, **environment: str) -> None:
    """All four kinds, used by each other, through every command that takes a model."""

    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", "scalecalc", *arguments, *options]
        path = os.pathsep.join([environment.get("PYTHONPATH", ""), str(Path(__file__).parent.parent)]).strip(os.pathsep)
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100"}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert {entry["name"] for entry in json.loads(call("list", "models", "--format", "json"))} > {"net", "s6"}
    rows = json.loads(call("derive", "net", "--format", "json"))
    assert (rows["optimizer"], rows["parameterization_name"]) == ("plain", "flat")
    (h,) = [row for row in rows["rows"] if (row["row"], row["kind"]) == ("h", "init")]
    assert h["theta"] == {"N": "-1"}
    assert "shrink: Divided by the width. (a source of mine)" in call("explain", "net", "h")
    assert call("compare", "net", "flat").endswith("\nflat: h and f are lazy; no feature learns.\n")


@pytest.mark.slow
def test_a_folder_of_rules_by_option(tmp_path: Path) -> None:
    write_rules(tmp_path / "my rules")
    check_mine("--rules", "my rules", cwd=tmp_path)


@pytest.mark.slow
def test_a_package_of_rules_by_entry_point(tmp_path: Path) -> None:
    write_rules(tmp_path / "my_scaling")
    (tmp_path / "my_scaling" / "__init__.py").touch()
    (tmp_path / "my_scaling" / "nets" / "__init__.py").touch()
    info = tmp_path / "my_scaling-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-scaling\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scalecalc.rules]\nmine = my_scaling\n")
    check_mine(PYTHONPATH=str(tmp_path))


def test_an_operation_without_a_rule_says_what_to_do(tmp_path: Path) -> None:
    """The operation, the place in the program, what to write, and where."""
    (tmp_path / "net.py").write_text(
        """
from scalecalc.program import Program


def net():
    p = Program("net", dims=("N",), fixed={"batch": 2})
    x = p.input("x", "batch N")
    p.end(p.feature("y", p.record("fold", (x,), x.axes)))
    return p
"""
    )
    done = run("derive", f"{tmp_path / 'net.py'}:net")
    assert done.returncode == 2
    assert done.stderr.startswith("scalecalc: no rule for the operation 'fold' (at y (net.py:8)). Write one: ")
    for words in ("scalecalc new rule fold -o my_rules", "its law, its backward and its torch code", "--rules my_rules"):
        assert words in done.stderr
    assert done.stderr.count("\n") == 1
