"""``./dev`` with a stand-in for Python that notes what it is asked for: what is installed when, and what is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="dev is a bash script")

# A Python that knows only what ./dev asks of one. Its log has a line for each venv made and each installation.
PYTHON = r"""#!/usr/bin/env bash
version=${FAKE_VERSION:-3.11.9}
[ ! -f "$0.version" ] || version=$(cat "$0.version") # the python of a venv: what it was made with
case "$*" in
    *version_info*) echo "$version"; [ "$version" != 3.9.1 ] ;;
    *_base_executable*) echo "$FAKE/python" ;;
    *ensurepip*) [ -z "${FAKE_NO_VENV:-}" ] ;;
    "-m venv -- "*)
        echo venv >> "$FAKE/log"
        mkdir -p "$4/bin"
        cp "$0" "$4/bin/python"
        echo "$version" > "$4/bin/python.version"
        echo "VIRTUAL_ENV=$4" > "$4/bin/activate"
        printf '#!/bin/sh\nprintf "<%%s>" "$@"; pwd\n' > "$4/bin/scalecalc"
        chmod +x "$4/bin/scalecalc"
        ;;
    "-m pip --version") true ;;
    *"-m pip"*install*)
        sleep "${FAKE_SECONDS:-0}"
        [ -z "${FAKE_FAIL:-}" ] || exit 1
        echo "install ${*: -1}" >> "$FAKE/log"
        echo "pip says so"
        ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


class Checkout:
    """A copy of what ./dev reads, with the stand-in beside it."""

    def __init__(self, folder: Path):
        self.fake, self.root = folder / "fake", folder / "check out"
        self.fake.mkdir()
        self.root.mkdir()
        (self.fake / "python").write_text(PYTHON)
        (self.fake / "python").chmod(0o755)
        for name in ("dev", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        given = {"PYTHON": str(self.fake / "python"), **environment}
        return subprocess.Popen(
            ["bash", str(self.root / "dev"), *arguments],
            env={**os.environ, "FAKE": str(self.fake), **given},
            cwd=self.fake,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def log(self) -> list[str]:
        """What was done since the last look."""
        file = self.fake / "log"
        lines = [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_alone_it_tells_and_does_nothing(checkout: Checkout) -> None:
    status, out, err = checkout.run()
    assert (status, err) == (0, "")
    assert "./dev test" in out
    assert "./dev verify s6" in out
    assert not (checkout.root / ".venv").exists()


def test_the_first_run_installs_and_the_second_does_not(checkout: Checkout) -> None:
    status, out, err = checkout.run("derive", "s6", "--regime", "N_u>N_x", "a b")
    assert status == 0, err
    # Arguments and folder are the caller's, and standard output is the command's alone.
    assert out == f"<derive><s6><--regime><N_u>N_x><a b>{checkout.fake}\n"
    assert "pip says so" in err
    assert checkout.log() == ["venv", "install"]
    assert checkout.run("derive")[2] == ""
    assert checkout.run("derive", PYTHON="")[2] == ""  # none asked for: the one in .venv will do
    assert checkout.log() == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_is_installed(checkout: Checkout, name: str) -> None:
    checkout.run("x")
    checkout.log()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    assert checkout.run("x")[0] == 0
    assert checkout.log() == ["install"]


def test_a_venv_that_will_not_do_is_made_anew(checkout: Checkout) -> None:
    venv = checkout.root / ".venv"
    checkout.run("x")
    checkout.log()
    assert checkout.run("x", FAKE_VERSION="3.12.1")[0] == 0  # another Python
    assert checkout.log() == ["venv", "install"]
    assert checkout.run("x")[0] == 0
    checkout.log()
    (venv / "bin" / "python").unlink()  # its Python is gone
    assert checkout.run("x")[0] == 0
    assert checkout.log() == ["venv", "install"]
    (venv / ".dev-making").touch()  # half made
    assert checkout.run("x")[0] == 0
    assert checkout.log() == ["venv", "install"]
    assert not (venv / ".dev-making").exists()
    checkout.root = checkout.root.rename(checkout.root.parent / "moved")
    status, _, err = checkout.run("x")
    assert status == 0
    assert "was moved" in err
    assert checkout.log() == ["venv", "install"]


def test_a_failed_installation_is_taken_up_again(checkout: Checkout) -> None:
    status, _, err = checkout.run("x", FAKE_FAIL="1")
    assert status == 2
    assert "the installation failed" in err
    assert checkout.log() == ["venv"]
    assert checkout.run("x")[0] == 0
    assert checkout.log() == ["install"]


@pytest.mark.parametrize("flock", [True, False])
def test_two_at_once_install_once(checkout: Checkout, flock: bool) -> None:
    environment = {"FAKE_SECONDS": "1"}
    if not flock:  # as on a machine that has none
        tools = checkout.fake / "tools"
        tools.mkdir()
        for name in ("bash", "cat", "chmod", "cp", "dirname", "env", "grep", "mkdir", "mv", "pwd", "rm", "sh", "sleep"):
            (tools / name).symlink_to(shutil.which(name) or name)
        environment["PATH"] = str(tools)
    processes = [checkout.start("x", **environment)]
    time.sleep(0.3)
    processes += [checkout.start("x", **environment) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert checkout.log() == ["venv", "install"]
    assert "waiting for another ./dev" in errors[1]
    assert not (checkout.root / ".scalecalc" / "dev.lock.d").exists()
    if not flock:  # a lock whose holder died is taken over
        process = subprocess.Popen(["true"])
        process.wait()
        (checkout.root / ".scalecalc" / "dev.lock.d").mkdir()
        (checkout.root / ".scalecalc" / "dev.lock.d" / "pid").write_text(str(process.pid))
        (checkout.root / ".venv" / ".dev-stamp").unlink()
        assert checkout.run("x", **environment)[0] == 0
        assert checkout.log() == ["install"]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"FAKE_VERSION": "3.9.1"}, "is Python 3.9.1, and 3.11 or newer is needed"),
        ({"PYTHON": "no-such-python"}, "there is no no-such-python"),
        ({"FAKE_NO_VENV": "1"}, "apt install python3-venv"),
    ],
)
def test_what_is_missing_is_explained(checkout: Checkout, environment: dict[str, str], words: str) -> None:
    status, out, err = checkout.run("x", **environment)
    assert (status, out) == (2, "")
    assert words in err
    assert checkout.log() == []
