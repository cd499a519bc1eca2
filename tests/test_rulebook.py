"""Rule folders: found, loaded once and in order, and blamed by file and line when they fail."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalecalc import rulebook
from scalecalc.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A rule folder of a user's; what it put into ``sys.modules`` is taken out again."""
    before = set(sys.modules)
    folder = tmp_path / "my rules"
    folder.mkdir()
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("scalecalc_rules_"):
            del sys.modules[name]
    rulebook._loaded.discard(folder.resolve())


def log(folder: Path) -> list[str]:
    """What the files of the folder wrote when they were run."""
    file = folder / "log.txt"
    return file.read_text().split() if file.exists() else []


WRITE = (
    "from pathlib import Path\n"
    "with (Path({root!r}) / 'log.txt').open('a') as f: f.write(__name__.split('.', 1)[1] + '\\n')\n"
)


def write(folder: Path, name: str, text: str = "") -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(WRITE.format(root=str(folder)) + text)


def test_files_run_once_in_the_order_of_their_names(folder: Path) -> None:
    for name in ("b.py", "a.py", "sub/z.py", "my-rule.py", "_helper.py", "_off/c.py", ".hidden/d.py", "sub/deep/e.py"):
        write(folder, name)
    (folder / "notes.txt").write_text("no rule")
    rulebook.load(folder)
    rulebook.load(str(folder) + "/.")
    assert log(folder) == ["a", "b", "my_rule", "sub.z", "sub.deep.e"]


def test_files_may_import_each_other_and_helpers(folder: Path) -> None:
    write(folder, "_helper.py", "value = 1\n")
    write(folder, "a.py", "from .b import value\nfrom .sub.c import value as same\nassert value is same\n")
    write(folder, "b.py", "from ._helper import value\n")
    write(folder, "sub/c.py", "from .._helper import value\n")
    rulebook.load(folder)
    assert log(folder) == ["a", "b", "_helper", "sub.c"]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("\nundefined\n", 4, "NameError: name 'undefined' is not defined"),
        ("def f(:\n", 3, "SyntaxError: invalid syntax"),
        ("import no_such_module\n", 3, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(0)\n", 3, "SystemExit: 0"),
        ("from ._helper import check\ncheck()\n", None, "ValueError: from the helper"),
        ("from scalecalc.scale import fraction\nfraction('x')\n", 4, "InputError: 'x' is no exponent"),
    ],
)
def test_an_error_names_file_and_line(folder: Path, text: str, line: int | None, what: str) -> None:
    (folder / "_helper.py").write_text("def check():\n    raise ValueError('from the helper')\n")
    write(folder, "mine.py", text)
    with pytest.raises(InputError) as caught:
        rulebook.load(folder)
    place = f"{folder / '_helper.py'}, line 2" if line is None else f"{folder / 'mine.py'}, line {line}"
    assert str(caught.value).startswith(f"the rule file {place}: {what}")


def test_a_mended_file_is_loaded_at_the_next_call(folder: Path) -> None:
    write(folder, "a.py")
    write(folder, "b.py", "undefined\n")
    with pytest.raises(InputError):
        rulebook.load(folder)
    (folder / "b.py").write_text("# mended, and of another length\n")
    rulebook.load(folder)
    assert log(folder) == ["a", "b"]


def test_control_c_is_not_swallowed(folder: Path) -> None:
    write(folder, "a.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        rulebook.load(folder)


def test_folders_that_are_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no rule file"):
        rulebook.load(folder)
    with pytest.raises(InputError, match="is not there"):
        rulebook.load(tmp_path / "no")
    (tmp_path / "file.py").touch()
    with pytest.raises(InputError, match="is a file"):
        rulebook.load(tmp_path / "file.py")
    for name in ("a-b.py", "a_b.py"):
        (folder / name).touch()
    with pytest.raises(InputError, match="would be one module"):
        rulebook.load(folder)


def test_the_built_in_folder_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(sys.modules)
    rulebook.load()
    after = set(sys.modules)
    rulebook.load(rulebook.built_in_folder())
    assert set(sys.modules) == after
    assert {f"scalecalc.rules.{f.stem}" for f in rulebook.built_in_folder().glob("[!_]*.py")} <= after | before


def test_an_error_of_ours_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("undefined\n")
    monkeypatch.setattr(rulebook, "built_in_folder", lambda: tmp_path)
    with pytest.raises(NameError):
        rulebook.load()


def test_no_rule_file_imports_torch() -> None:
    code = "import sys; from scalecalc import rulebook; rulebook.load(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


ENTRY = """
import sys
sys.path.insert(0, sys.argv[1])
from scalecalc import rulebook
rulebook.load(); rulebook.load()
"""


def plugin(tmp_path: Path, value: str) -> subprocess.CompletedProcess[str]:
    """An installed distribution ``plug`` with the entry point ``value``, and rulebook.load() in its presence."""
    info = tmp_path / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[scalecalc.rules]\nmine = {value}\n")
    package = tmp_path / "plug"
    package.mkdir()
    (package / "__init__.py").write_text("print('package')\n")
    (package / "one.py").write_text("print('one')\n")
    (package / "_two.py").write_text("print('two')\n")
    (package / "sub").mkdir()
    (package / "sub" / "three.py").write_text("print('three')\n")
    return subprocess.run([sys.executable, "-c", ENTRY, str(tmp_path)], capture_output=True, text=True)


def test_entry_points(tmp_path: Path) -> None:
    assert plugin(tmp_path, "plug").stdout.split() == ["package", "one", "three"]


def test_an_entry_point_may_be_one_module(tmp_path: Path) -> None:
    assert plugin(tmp_path, "plug.one").stdout.split() == ["package", "one"]


def test_a_failing_entry_point_names_its_package(tmp_path: Path) -> None:
    err = plugin(tmp_path, "plug.missing").stderr
    assert "InputError: the rules of plug (entry point mine = plug.missing) fail: ModuleNotFoundError" in err


def test_examples_in_rule_files() -> None:
    rulebook.load()
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for name in sorted(name for name in sys.modules if name.startswith("scalecalc.rules.")):
        assert doctest.testmod(sys.modules[name], optionflags=flags).failed == 0, name
