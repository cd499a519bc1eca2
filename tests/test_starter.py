"""Starting files: they load, they are right as they stand, and nothing is overwritten."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalecalc import rule, rulebook
from scalecalc.derive import derive
from scalecalc.errors import InputError
from scalecalc.rule import KINDS, registry
from scalecalc.starter import FOLDER, STARTERS, start

ROOT = Path(__file__).resolve().parent.parent
REGISTERED = {kind: kind if kind in KINDS else "rule" for kind in STARTERS}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for rules; what is registered from it is forgotten afterwards."""
    rulebook.load()
    monkeypatch.setattr(rule, "_REGISTRY", {kind: dict(known) for kind, known in rule._REGISTRY.items()})
    monkeypatch.setattr(rulebook, "_loaded", set(rulebook._loaded))
    before = set(sys.modules)
    yield tmp_path / "my_rules"
    for name in set(sys.modules) - before:
        if name.startswith("scalecalc_rules_"):
            del sys.modules[name]


def test_every_starter_has_a_test() -> None:
    kinds = "rule function architecture optimizer parameterization discretization transition"
    assert set(kinds.split()) <= set(STARTERS)
    for kind in STARTERS:
        assert "EDIT" in (FOLDER / f"{kind}.txt").read_text()
        assert (FOLDER / f"test_{kind}.txt").exists()


def test_all_of_them_load_side_by_side(folder: Path) -> None:
    for kind in STARTERS:
        files = start(kind, f"my-{kind[:5]}.2", folder)
        for file in files:
            ast.parse(file.read_text())
            assert not re.search(r"\bNAME\b|\bFUNCTION\b|\bCLASS\b|\bFILE\b|test_NAME", file.read_text())
            assert max(map(len, file.read_text().splitlines())) <= 126
    rulebook.load(folder)  # the tests beside them are no rules
    for kind in STARTERS:
        thing = registry(REGISTERED[kind])[f"my-{kind[:5]}.2"]
        assert thing.words
        assert thing.source
    table = derive("my-archi.2", parameterization="my-param.2", optimizer="my-optim.2")
    assert table["h"].klass == "stable"
    assert derive("mlp", activation="my-funct.2")["f"].klass == "vanishing"


@pytest.mark.parametrize("name", ["rule", "Op", "class", "Scale", "x", "total", "Fraction"])
def test_names_that_the_starter_uses_itself(folder: Path, name: str) -> None:
    for kind in STARTERS:
        start(kind, name, folder / kind)
        rulebook.load(folder / kind)
        del rule._REGISTRY[REGISTERED[kind]][name]


@pytest.mark.slow
@pytest.mark.parametrize("kind", STARTERS)
def test_the_test_beside_it_passes(tmp_path: Path, kind: str) -> None:
    _, test = start(kind, "mine", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, str(test)], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_test_beside_it_can_fail(tmp_path: Path) -> None:
    file, test = start("rule", "mine", tmp_path)
    text = file.read_text()
    wrong = text.replace('-op.params["power"])\n        return', '-op.params["power"] - 1)\n        return')
    assert wrong != text
    file.write_text(wrong)
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, str(test)], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert "the rule 'mine' fails its law check" in done.stdout


def test_nothing_is_overwritten(folder: Path) -> None:
    file, test = start("rule", "fold", folder)
    file.write_text("mine now")
    for kind in ("rule", "optimizer"):
        with pytest.raises(InputError, match=r"fold\.py' is there already and is not overwritten"):
            start(kind, "fold", folder)
    file.unlink()
    with pytest.raises(InputError, match=r"test_fold\.py' is there already"):
        start("rule", "fold", folder)
    assert not file.exists()
    assert test.exists()


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("norm", "x", "no starter for a 'norm'; there are architecture, "),
        ("rule", "1st", "'1st' cannot be a name"),
        ("rule", "a b", "'a b' cannot be a name"),
        ("rule", "../x", "cannot be a name"),
        ("rule", "matmul", "the rule 'matmul' is there already"),
        ("function", "tanh", "the rule 'tanh' is there already"),
        ("optimizer", "sgd", "the optimizer 'sgd' is there already"),
    ],
)
def test_refusals(folder: Path, kind: str, name: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        start(kind, name, folder)
    assert not folder.exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write to"):
        start("rule", "fold", tmp_path / "file")
