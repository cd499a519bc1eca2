"""The pytest plugin: what a user's own test suite sees of it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

SUITE = """
from torch import nn, randn

def factory(N=16):
    return nn.Sequential(nn.Linear(8, N, bias=False), nn.Linear(N, 1, bias=False))

def example_inputs():
    return (randn(4, 8),)

def test_scales(assert_scaling):
    assert_scaling(factory, example_inputs, parameterization="mup", optimizer="adam")

def test_explodes(assert_scaling):
    assert_scaling(factory, example_inputs, optimizer="adam")

def test_of_something_else():
    pass
"""
ROOT = Path(__file__).parents[1]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Pytest on a suite of a user's, in a process of its own."""
    named = any(e.value == "scalecalc.pytest_plugin" for e in entry_points(group="pytest11"))
    load = [] if named else ["-p", "scalecalc.pytest_plugin"]  # a checkout that was never installed announces nothing
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *load, *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "test_mine.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nscaling_budget = 2\n")
    return tmp_path


@pytest.mark.slow
def test_a_suite_of_a_users_own(suite: Path) -> None:
    found = run(suite)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "1 failed, 2 passed" in found.stdout
    assert "2 of 12 rows of factory explode with the widths" in found.stdout
    assert "test_mine.py::test_scales: 12 rows, 12 agree, 0 inconclusive" in found.stdout


def test_markers_and_bad_settings(suite: Path) -> None:
    found = run(suite, "-m", "not scaling")
    assert "1 passed, 2 deselected" in found.stdout, found.stdout + found.stderr
    found = run(suite, "--scaling-budget", "-1")
    assert (found.returncode, "a number of seconds above zero, not -1" in found.stderr) == (4, True)


def test_it_costs_a_suite_nothing() -> None:
    """Neither torch nor sympy nor pandas is imported when pytest loads it."""
    code = "import sys, scalecalc.pytest_plugin; print(sorted({'torch', 'sympy', 'pandas', 'numpy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
