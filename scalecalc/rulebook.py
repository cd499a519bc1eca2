"""Finds and loads rule folders: ours, a user's, an entry point's, all alike.

A rule file registers what it declares when it is imported (:mod:`scalecalc.rule` has the decorators); this module only
finds the files and imports each exactly once, in an order that depends on their names alone.  Files and folders whose
names start with ``_`` or ``.`` are left out; a rule file may import them as helpers.  So are pytest's (``test_*.py``,
``conftest.py``), which may stand beside what they test.

Our own folder stands at the top of a checkout (``rules/``) and inside the package of a wheel (``scalecalc/rules``).  In
both cases its files are the modules ``scalecalc.rules.matmul``, ``scalecalc.rules.architectures.s6``, and so on.  A
plain import cannot do that for a checkout, and a package called ``rules`` at the top would take a name that is not ours
to take; so the folder is *mounted*: a module that has it as its ``__path__`` is put in ``sys.modules``.  A user's folder
is mounted in the same way under a name made from its path.

To see what was loaded: ``[m for m in sys.modules if m.startswith("scalecalc.rules.")]``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from scalecalc.errors import InputError

BUILT_IN = "scalecalc.rules"
ENTRY_POINTS = "scalecalc.rules"
_loaded: set[Path] = set()
_entry_points_loaded = False


@cache
def built_in_folder() -> Path:
    """Our own rule folder: the one inside the package, as a wheel has it, else the one beside it, as a checkout has it.

    Raises:
        RuntimeError: neither is there; the installation is broken.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "rules", package.parent / "rules"):
        if folder.is_dir():
            return folder
    raise RuntimeError(f"scalecalc's rules are neither in {package} nor beside it; install the package again.")


def rule_files(folder: Path) -> Iterator[Path]:
    """The rule files of a folder, a folder's own files before those of its subfolders, each by name."""
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith(("_", ".", "test_")) and p.name != "conftest.py")
    yield from (p for p in entries if p.suffix == ".py" and p.is_file())
    for sub in entries:
        if sub.is_dir():
            yield from rule_files(sub)


def load(folder: str | Path | None = None) -> None:
    """Import every built-in rule file and every installed entry point; with ``folder``, that folder's files as well.

    What is loaded already is not loaded again, so this may be called freely.

    Raises:
        InputError: the folder is missing or holds no rule file, or one of its files fails (the message names file and
            line).  An error in a built-in file is a bug of ours and keeps its traceback.
    """
    ours = built_in_folder()
    _load_folder(ours, BUILT_IN)
    _load_entry_points()
    if folder is None:
        return
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(
            f"the rule folder {str(folder)!r} is {'a file' if path.exists() else 'not there'}; name a folder."
        )
    path = path.resolve()
    if next(rule_files(path), None) is None:
        raise InputError(f"the rule folder {str(folder)!r} holds no rule file (*.py whose name does not start with _).")
    if path != ours:
        _load_folder(path, f"scalecalc_rules_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}")


def mount(folder: Path, name: str) -> None:
    """Make ``folder`` importable as the package ``name``, without running anything."""
    if name not in sys.modules:
        module = ModuleType(name, f"The rule folder {folder}.")
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__path__ = module.__spec__.submodule_search_locations = [str(folder)]
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def _load_folder(folder: Path, name: str) -> None:
    if folder in _loaded:
        return
    mount(folder, name)
    for file in rule_files(folder):
        module, path = name, folder
        *between, _ = file.relative_to(folder).parts
        for part in between:
            path, module = path / part, f"{module}.{_identifier(part)}"
            mount(path, module)
        _load_file(file, f"{module}.{_identifier(file.stem)}", ours=name == BUILT_IN, root=folder)
    _loaded.add(folder)


def _load_file(file: Path, name: str, *, ours: bool, root: Path) -> None:
    known = sys.modules.get(name)
    if known is not None:
        if known.__file__ != str(file):
            raise InputError(f"the rule files {known.__file__} and {file} would be one module; rename one of them.")
        return  # another rule file has imported it
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"no loader for {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if ours or not isinstance(error, (Exception, SystemExit)):
            raise
        raise _failure(error, file, root) from error
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, module)


def _failure(error: BaseException, file: Path, root: Path) -> InputError:
    """The error in a user's rule file as a message: the deepest line of theirs, and what went wrong there."""
    if isinstance(error, SyntaxError) and error.filename:
        where, line, what = error.filename, error.lineno, error.msg
    else:
        theirs = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(root)]
        where, line = (theirs[-1].filename, theirs[-1].lineno) if theirs else (str(file), None)
        what = str(error)
    place = f"{where}, line {line}" if line else where
    return InputError(f"the rule file {place}: {type(error).__name__}: {what}")


def _load_entry_points() -> None:
    """Load what installed packages announce in the group ``scalecalc.rules``: a module, or a package of rule files."""
    global _entry_points_loaded
    if _entry_points_loaded:
        return
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: (e.name, e.value)):
        try:
            module = importlib.import_module(entry.module)
            for folder in map(Path, getattr(module, "__path__", ())):
                for file in rule_files(folder):
                    importlib.import_module(".".join((entry.module, *file.relative_to(folder).with_suffix("").parts)))
        except Exception as error:
            package = entry.dist.name if entry.dist else "an installed package"
            raise InputError(
                f"the rules of {package} (entry point {entry.name} = {entry.value}) fail: {type(error).__name__}: {error}"
            ) from error
    _entry_points_loaded = True


def _identifier(text: str) -> str:
    return re.sub(r"\W", "_", text)
