"""Who imports whom; that rules are found from every kind of installation; that versions and pins agree."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent

# ---------------------------------------------------------------- who imports whom

TORCH_SIDE = ("scalecalc.measure", "scalecalc.torch", "scalecalc.trace", "scalecalc.transfer", "scalecalc.dynamics")
ABOVE = (
    "scalecalc", "scalecalc.checks.law", "scalecalc.checks.sample", "scalecalc.cli", "scalecalc.dossier", "scalecalc.model",
    "scalecalc.testing",
)  # may call the torch side, inside functions
LAYERS = ("errors", "scale", "pattern", "term", "value", "program", "rule", "derive", "solve", "cli")
RANK = {f"scalecalc.{name}": rank for rank, name in enumerate(LAYERS)}
PRINTED = ("table", "compare", "explain", "solution", "beside", "pieces", "numbers", "flow", "notation", "proof", "dossier")
RECORDS = tuple(f"scalecalc.{name}" for name in PRINTED)
REPORT_SEES = ("scalecalc.report", *RECORDS, "scalecalc.scale", "scalecalc.errors", "scalecalc._version")


@dataclass(frozen=True)
class Import:
    """One import: of what, on which line, and whether it runs when the module is imported."""

    name: str
    line: int
    runs: bool


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def imports(module: str, source: str, *, package: bool = False) -> Iterator[Import]:
    """Every import of a module, except those only for the type checker."""

    def visit(node: ast.AST, runs: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            children, inside = node.orelse, runs
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            children, inside = ast.iter_child_nodes(node), False
        else:
            children, inside = ast.iter_child_nodes(node), runs
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, runs) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[: len(parts) - node.level + package]
                base = ".".join([*kept, base] if base else kept)
            yield from (Import(f"{base}.{alias.name}", node.lineno, runs) for alias in node.names)
        for child in children:
            yield from visit(child, inside)

    yield from visit(ast.parse(source), True)


def offences(sources: Mapping[str, str]) -> list[str]:
    """Every import that house rules forbid, among modules given by name."""
    packages = {name.rpartition(".")[0] for name in sources}
    found = {name: list(imports(name, source, package=name in packages)) for name, source in sources.items()}
    out: list[str] = []
    for name, its in found.items():
        for one in its:
            where = f"{name}, line {one.line}, imports {one.name}"
            if one.runs and within(one.name, ("torch",)) and not within(name, TORCH_SIDE):
                out.append(f"{where} when it is imported")
            if within(one.name, TORCH_SIDE) and not within(name, TORCH_SIDE):
                if name not in ABOVE:
                    out.append(f"{where} from below the command line")
                elif one.runs:
                    out.append(f"{where} when it is imported")
            if (
                within(name, ("scalecalc.report",))
                and within(one.name, ("scalecalc",))
                and not within(one.name, REPORT_SEES)
            ):
                out.append(f"{where}, but a report sees what it prints only")
    for name, rank in RANK.items():
        for reached, path in _reached(name, found).items():
            if RANK.get(reached, -1) >= rank and reached != name:
                out.append(f"{name} imports {reached}, a higher layer, by {' → '.join(path)}")
    return out


def _reached(start: str, found: Mapping[str, list[Import]]) -> dict[str, list[str]]:
    """Every module that importing ``start`` runs, with the way there."""
    paths = {start: [start]}
    for name in (queue := [start]):
        for one in found.get(name, ()):
            target = next((n for n in (one.name, one.name.rpartition(".")[0]) if n in found and n != "scalecalc"), None)
            if one.runs and target is not None and target not in paths:
                paths[target] = [*paths[name], target]
                queue.append(target)
    return paths


def package_sources() -> dict[str, str]:
    files = {file: file.relative_to(ROOT) for file in (ROOT / "scalecalc").rglob("*.py")}
    files |= {file: Path("scalecalc") / file.relative_to(ROOT) for file in (ROOT / "rules").rglob("*.py")}
    names = {file: ".".join(path.with_suffix("").parts).removesuffix(".__init__") for file, path in files.items()}
    return {name: file.read_text(encoding="utf-8") for file, name in names.items()}


def test_imports_point_the_right_way() -> None:
    sources = package_sources()
    assert {"scalecalc", "scalecalc.scale", "scalecalc.cli", "scalecalc.report.json"} <= set(sources)
    assert offences(sources) == []


@pytest.mark.parametrize(
    ("module", "source", "offence"),
    [
        ("scalecalc.rule", "import torch.nn", "scalecalc.rule, line 1, imports torch.nn when it is imported"),
        ("scalecalc.rules.norm", "if True:\n  from torch import nn", "line 2, imports torch.nn when it is imported"),
        ("scalecalc.table", "class A:\n  import torch", "line 2, imports torch when it is imported"),
        ("scalecalc.derive", "def f():\n  from scalecalc.measure import verify", "from below the command line"),
        ("scalecalc.derive", "def f():\n  from . import measure", "imports scalecalc.measure from below"),
        ("scalecalc.cli", "from scalecalc.measure.verify import verify", "when it is imported"),
        ("scalecalc.report.json", "def f():\n  from scalecalc.derive import derive", "a report sees what it prints only"),
        ("scalecalc.report.json", "from ..rule import find", "imports scalecalc.rule.find, but a report sees"),
        (
            "scalecalc.scale",
            "from scalecalc.term import Term",
            "scalecalc.scale imports scalecalc.term, a higher layer",
        ),
        ("scalecalc.term", "import scalecalc.helper", "by scalecalc.term → scalecalc.helper → scalecalc.rule"),
    ],
)
def test_the_import_check_can_fail(module: str, source: str, offence: str) -> None:
    others = {
        "scalecalc": "",
        "scalecalc.helper": "from scalecalc import rule",
        "scalecalc.rule": "",
        "scalecalc.term": "",
    }
    found = offences({**others, "scalecalc.report": "", module: source})
    assert len(found) == 1
    assert offence in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("scalecalc.measure.interpret", "import torch"),
        ("scalecalc.rules.norm", "def f():\n  import torch"),
        ("scalecalc.rule", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import torch"),
        ("scalecalc.cli", "def f():\n  from scalecalc.measure.verify import verify"),
        ("scalecalc.report.json", "from . import layout\nfrom scalecalc.table import Row"),
        ("scalecalc.scale", "def f():\n  from scalecalc import rule"),
        ("scalecalc.torchlike", "import torchlike"),
    ],
)
def test_the_import_check_lets_pass(module: str, source: str) -> None:
    assert offences({"scalecalc": "", "scalecalc.report": "", "scalecalc.rule": "", module: source}) == []


# ---------------------------------------------------------------- installations

REPORT = """
import json, scalecalc
from scalecalc import rulebook
from scalecalc.rule import KINDS, registry
found = {kind: sorted(registry(kind)) for kind in KINDS}
print(json.dumps([scalecalc.__file__, str(rulebook.built_in_folder()), found]))
"""


def rules_found(site: Path, cwd: Path) -> tuple[Path, Path, dict[str, list[str]]]:
    """Where a package on ``site`` is imported from, where it finds its rules, and what they register."""
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    package, folder, found = json.loads(done.stdout)
    return Path(package).parent, Path(folder), found


def built(root: Path, target: Path, to: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", str(target), "-d", str(to)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = to.iterdir()
    return file


def test_rules_are_found_from_a_bare_checkout(tmp_path: Path) -> None:
    package, folder, found = rules_found(ROOT, tmp_path)
    assert package == ROOT / "scalecalc"
    assert folder == ROOT / "rules"
    assert found["rule"]


@pytest.mark.slow
def test_rules_are_found_from_a_wheel_and_an_sdist(tmp_path: Path) -> None:
    expected = rules_found(ROOT, tmp_path)[2]
    wheel = built(ROOT, Path("wheel"), tmp_path / "wheel")
    names = zipfile.ZipFile(wheel).namelist()
    kernel = {f"scalecalc/measure/scan/kernel/{f.name}" for f in (ROOT / "scalecalc/measure/scan/kernel").iterdir()}
    assert {Path(name).suffix for name in kernel} == {".c", ".h"}
    assert kernel <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"scalecalc"}  # no package called rules
    assert "scalecalc/py.typed" in names
    assert {f"scalecalc/starters/{file.name}" for file in (ROOT / "scalecalc" / "starters").iterdir()} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    assert rules_found(site, tmp_path) == (site / "scalecalc", site / "scalecalc" / "rules", expected)

    sdist = built(ROOT, Path("sdist"), tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert rules_found(unpacked, tmp_path) == (unpacked / "scalecalc", unpacked / "rules", expected)
    again = built(unpacked, Path("wheel"), tmp_path / "again")
    assert set(zipfile.ZipFile(again).namelist()) == set(names)


@pytest.mark.slow
def test_an_editable_install_points_here_and_copies_nothing(tmp_path: Path) -> None:
    code = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    archive = zipfile.ZipFile(tmp_path / done.stdout.split()[-1])
    files = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert [name for name in files if not name.endswith(".pth")] == []
    assert archive.read(files[0]).decode().splitlines() == [str(ROOT)]
    # A .pth line is a folder on sys.path, which is what test_rules_are_found_from_a_bare_checkout runs with.


# ---------------------------------------------------------------- versions and pins

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_one_version() -> None:
    from scalecalc._version import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE).group(1) == __version__  # type: ignore[union-attr]


def test_every_requirement_is_pinned_within_its_range() -> None:
    pins = {canonical(name): version for name, version in PINS.items()}
    extras = [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
    todo, seen = [Requirement(text) for text in (*PROJECT["dependencies"], *extras)], set[str]()
    for requirement in todo:
        name = canonical(requirement.name)
        assert name in pins, f"{requirement} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement}, but {name}=={pins[name]}"
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # not installed here (the lint extra may be missing)
        for text in needs:
            need = Requirement(text)
            if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
                todo.append(need)


def test_constraints_fit_a_cuda_build_too() -> None:
    assert PINS["torch"] == "2.13.0"
    assert PINS["triton"] == "3.7.1"
    assert not [name for name in PINS if name.startswith(("nvidia", "cuda"))]
