"""Starting files for rules of one's own: ``scalecalc new rule NAME``.

A starter is a file that works as it stands, with a test beside it; the places to edit say so.  They lie in ``starters/``
as text (as modules they would be loaded, and checked, under a name that is none): in them NAME is the registered name,
FUNCTION and CLASS are identifiers made from it, FILE is the test beside it.  A kind is whatever has a file there.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from scalecalc.errors import InputError

FOLDER = Path(__file__).parent / "starters"
STARTERS = tuple(sorted(file.stem for file in FOLDER.glob("*.txt") if not file.name.startswith("test_")))
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def start(kind: str, name: str, folder: str | Path) -> tuple[Path, Path]:
    """Write a starting file and its test; returns their paths.

    Args:
        kind: one of :data:`STARTERS`.
        name: what it will be registered under.
        folder: made if need be; given by ``--rules`` later.

    Raises:
        InputError: no such kind, a name that cannot be one or is taken, a file that is there already or cannot be written.
    """
    if kind not in STARTERS:
        raise InputError(f"there is no starter for a {kind!r}; there are {', '.join(STARTERS)}.")
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be a name; write letters, digits, _, - and ., a letter first.")
    stem = re.sub(r"\W", "_", name)
    target = Path(folder).expanduser()
    files = target / f"{stem}.py", target / f"test_{stem}.py"
    for file in files:
        if file.exists():
            raise InputError(f"{str(file)!r} is there already and is not overwritten; choose another name, or remove it.")
    _check_free(kind, name)
    texts = [(FOLDER / f"{prefix}{kind}.txt").read_text(encoding="utf-8") for prefix in ("", "test_")]
    filled = [_fill(text, name, stem, files[1]) for text in texts]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file, text in zip(files, filled, strict=True):
            with file.open("x", encoding="utf-8") as out:
                out.write(text)
    except OSError as error:
        raise InputError(f"cannot write to {str(target)!r}: {error.strerror or error}.") from error
    return files


def _check_free(kind: str, name: str) -> None:
    from scalecalc.rule import KINDS, registry

    registered = kind if kind in KINDS else "rule"  # functions and discretizations are rules
    if name in registry(registered):
        raise InputError(f"the {registered} {name!r} is there already; choose another name.")


def _fill(text: str, name: str, stem: str, test: Path) -> str:
    def own(identifier: str) -> str:
        """An identifier that the starter does not use already."""
        taken = keyword.iskeyword(identifier) or re.search(rf"\b{re.escape(identifier)}\b", text)
        return f"{identifier}_" if taken else identifier

    words = {
        "FUNCTION": own(stem),
        "CLASS": own("".join(part[:1].upper() + part[1:] for part in stem.split("_"))),
        "test_NAME_": f"test_{stem}",
        "NAME": name,
        "FILE": test.name,
    }
    return re.sub("|".join(words), lambda found: words[found[0]], text)
