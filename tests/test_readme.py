"""The examples of README.md and CONTRIBUTING.md, run as they stand.

Every fenced block is one of these; anything else is an error, so that no example goes unchecked.

- ``python`` that begins with ``# my_rules/NAME.py``: written to that file in an empty folder, where all else is run.
- ``python`` with ``>>>``: a doctest; the blocks of one document share their names.
- ``python`` that begins with ``# needs NAME``: run, with these names, where the package NAME is installed; else compiled.
- ``console``: commands after ``$``, each with its output, in which a line ``…`` stands for any number of lines.
  ``derive`` and ``list`` are run.  ``verify`` is parsed only: what it measures depends on the machine and on the time it
  is given, and so is ``report``.  What it is shown to have *derived* is compared with ``derive``.
- ``sh``: installation and development; ``./dev`` commands must be known to the script, nothing is run.

The examples in docstrings are collected by pytest itself (``--doctest-modules``) and, for rule files, by
``tests/test_rulebook.py``.
"""

from __future__ import annotations

import doctest
import importlib.util
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import scalecalc
from scalecalc import cli, rule, rulebook

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (my_rules/\w+\.py)\n")
MEASURED = re.compile(r"(N\w* )?-?\d+\.\d\d ±<?\d+\.\d\d$|[✓✗?] \w+$")
NEEDS = re.compile(r"# needs (\w+)\n")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WIDTH = "100"


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the line of the document that it begins on."""

    language: str
    text: str
    line: int


def blocks(text: str) -> list[Block]:
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in FENCE.finditer(text)]


def commands(block: Block) -> Iterator[tuple[list[str], list[str]]]:
    """The commands of a ``console`` block as arguments of scalecalc, each with the lines shown below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, *shown = part.rstrip("\n").split("\n")
        program, *arguments = shlex.split(line)
        assert program in ("scalecalc", "./dev"), line
        yield arguments, shown


def matches(shown: list[str], printed: list[str]) -> bool:
    """Are these the printed lines, if every ``…`` may stand for some of them?"""
    pattern = "".join(r"(.*\n)*" if line.strip() == "…" else re.escape(line.rstrip() + "\n") for line in shown)
    return re.fullmatch(pattern, "".join(line.rstrip() + "\n" for line in printed)) is not None


def derived_cells(lines: list[str]) -> set[tuple[str, ...]]:
    """The cells of table lines, without what was measured."""
    cells = [tuple(c for c in re.split(r"\s{2,}", line.strip()) if not MEASURED.match(c)) for line in lines]
    return {c for c in cells if len(c) > 1 and c[0] != "row"}


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert cli.main(arguments) == 0
    return capsys.readouterr().out.rstrip("\n").split("\n")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder; what is registered from it is forgotten afterwards."""
    rulebook.load()
    monkeypatch.setattr(rule, "_REGISTRY", {kind: dict(known) for kind, known in rule._REGISTRY.items()})
    monkeypatch.setattr(rulebook, "_loaded", set(rulebook._loaded))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", WIDTH)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples(document: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = blocks((ROOT / document).read_text(encoding="utf-8"))
    for block in found:
        if file := FILE.match(block.text):
            (workplace / file[1]).parent.mkdir(exist_ok=True)
            (workplace / file[1]).write_text(block.text, encoding="utf-8")
    names: dict[str, object] = {}
    for block in found:
        where = f"{document}:{block.line}"
        if block.language == "python" and not FILE.match(block.text):
            python(block, names, where)
        elif block.language == "console":
            for arguments, shown in commands(block):
                console(arguments, shown, where, capsys)
        elif block.language == "sh":
            shell(block.text, where)
        else:
            assert FILE.match(block.text), f"{where}: a block of the language {block.language!r} that nothing checks"


def python(block: Block, names: dict[str, object], where: str) -> None:
    if needs := NEEDS.match(block.text):
        code = compile(block.text, where, "exec")
        if importlib.util.find_spec(needs[1]) is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what others' packages warn of is theirs
                exec(code, names)
        return
    test = doctest.DocTestParser().get_doctest(block.text + "\n", names, where, where, block.line - 1)
    assert test.examples, f"{where}: no >>> in it"
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append, clear_globs=False)
    assert result.failed == 0, "".join(said)
    names.update(test.globs)


def console(arguments: list[str], shown: list[str], where: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = arguments[0]
    if name == "test":
        return shell(f"./dev {name}", where)
    command = cli.cli.commands[name]
    command.make_context(name, arguments[1:])  # refuses what the command line would refuse
    if name == "report":  # what it writes is measured, or the business of its own tests
        return None
    if name == "verify":
        lines = printed(["derive", arguments[1]], capsys) if shown else []
        strange = derived_cells(shown) - derived_cells(lines)
        assert not strange, f"{where}: {strange} is not what is derived"
    elif "MODEL" not in arguments:
        output = printed(arguments, capsys)
        assert not shown or matches(shown, output), f"{where}: it prints\n" + "\n".join(output)
    return None


def shell(text: str, where: str) -> None:
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        while words and "=" in words[0]:
            words.pop(0)
        assert words[:2] == ["pip", "install"] or words[0] == "./dev", f"{where}: {line}"
        if words[0] == "./dev" and words[1] not in cli.cli.commands:
            assert f"\n    {words[1]}) " in (ROOT / "dev").read_text(encoding="utf-8"), f"{where}: {line}"


# ---------------------------------------------------------------- that these checks can fail


def test_lines_match_only_themselves() -> None:
    assert matches(["a", "…", "d"], ["a", "b", "c", "d"])
    assert matches(["…", "c", "…"], ["a", "b", "c"])
    assert not matches(["a", "d"], ["a", "b", "c", "d"])
    assert not matches(["…", "e", "…"], ["a", "b", "c", "d"])


def test_measured_cells_are_left_out_and_derived_ones_are_not() -> None:
    lines = ["y      W_in       N_u^(1/2)    N_u 0.48 ±0.08   ? inconclusive  exploding", "      N_x 0.04 ±<0.01"]
    assert derived_cells(lines) == {("y", "W_in", "N_u^(1/2)", "exploding")}
    assert derived_cells(["f  N_u^(-1)  -1.00 ±0.01  ✓ agrees  vanishing"]) == {("f", "N_u^(-1)", "vanishing")}


def test_a_wrong_example_fails(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match="Expected"):
        python(Block("python", ">>> 1 + 1\n3\n", 1), {}, "here")
    python(Block("python", "# needs no_such_package\n1 / 0\n", 1), {}, "here")
    with pytest.raises(SyntaxError):
        python(Block("python", "# needs no_such_package\n1 +\n", 1), {}, "here")
    with pytest.raises(ZeroDivisionError):
        python(Block("python", "# needs click\n1 / 0\n", 1), {}, "here")
    with pytest.raises(AssertionError, match="it prints\n"):
        console(["list", "models"], ["no such line"], "here", capsys)
    right, wrong = (f"f   {size}  -0.98 ±0.04  ✓ agrees  vanishing" for size in ("N^(-1/2)", "N^(-2)"))
    console(["verify", "mlp"], [right], "here", capsys)
    with pytest.raises(AssertionError, match="is not what is derived"):
        console(["verify", "mlp"], [right, wrong], "here", capsys)
    with pytest.raises(AssertionError, match="rm"):
        shell("rm -r build", "here")


def test_first_section_is_how_to_add_a_rule() -> None:
    """Errors about missing rules point there."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Add a rule"


# ---------------------------------------------------------------- import scalecalc

LIGHT = """
import sys, types
import scalecalc as sc
heavy = [m for m in ("numpy", "pandas", "sympy", "torch", "scalecalc.derive") if m in sys.modules]
import scalecalc.derive
from scalecalc.derive import resolve
assert isinstance(sc.derive, types.FunctionType) and sc.derive("mlp")["h1"].klass == "stable"
print(heavy, "torch" in sys.modules)
assert sc.verify.__module__ == "scalecalc.measure.verify"
print("torch" in sys.modules)
"""


def test_importing_and_deriving_are_light() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["[] False", "True", ""], done.stderr


def test_public_names() -> None:
    assert {*scalecalc.__all__, "dynamics", "torch"} == set(dir(scalecalc))
    assert all(getattr(scalecalc, name) is not None for name in scalecalc.__all__)
    with pytest.raises(AttributeError, match="module 'scalecalc' has no attribute 'nothing'"):
        _ = scalecalc.nothing
