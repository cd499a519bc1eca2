"""What the user typed, made exact: a MODEL, its growing dims, the file or name of a parameterization.

Nothing here knows which models or dims exist; that is checked where they are looked up.  Every function either returns
a value that needs no further checking of its form, or raises an :class:`InputError` that shows the form it wants.

>>> parse_model("s6:discretization=mamba,step=fixed")
ModelRequest(name='s6', options={'discretization': 'mamba', 'step': 'fixed'}, file=None)
>>> parse_dims(["N_u=64:512", "N_x=8,24"])
{'N_u': [64, 128, 256, 512], 'N_x': [8, 24]}
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scalecalc.errors import InputError

LARGEST_WIDTH = 2**20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_DIM = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_WIDTH = re.compile(r"[+-]?[0-9]+")
_MODEL_FORMS = (
    "write a name (s6), a name with options (s6:discretization=mamba,step=fixed) or path/to/file.py:name"
)
_OPTIMIZER_FORMS = (
    "write a name (adam; scalecalc list optimizers), or one with options (sgd:clip=yes, sgd:decay=coupled)"
)
_DIMS_FORMS = "write --dims N_u=64:1024 (the powers of two between the bounds) or --dims N_u=64,96,128"


@dataclass(frozen=True)
class ModelRequest:
    """A MODEL as typed: a registered name or a name in a file, with options."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    file: Path | None = None


def parse_model(text: str) -> ModelRequest:
    """``s6``, ``s6:discretization=mamba,step=fixed`` or ``path/to/file.py:name``, the last with options too.

    >>> parse_model("nets/mine.py:block:heads=4").name
    'block'

    Raises:
        InputError: the text has none of these forms.
    """
    head, found, rest = text.strip().rpartition(".py:")
    file = Path(head + ".py") if found else None
    if file is None and text.strip().endswith(".py"):
        raise InputError(f"{text!r} names a file but nothing in it; write {text.strip()}:name.")
    name, colon, tail = rest.partition(":")
    name = name.strip()
    if not _NAME.fullmatch(name) or (colon and not tail.strip()):
        raise InputError(f"{text!r} is no model; {_MODEL_FORMS}.")
    return ModelRequest(name, parse_options(tail, text) if colon else {}, file)


def parse_optimizer(text: str) -> tuple[str, dict[str, str]]:
    """``adam`` or ``sgd:clip=yes``.

    >>> parse_optimizer("sgd:clip=yes")
    ('sgd', {'clip': 'yes'})

    Raises:
        InputError: the text has none of these forms.
    """
    name, colon, tail = text.strip().partition(":")
    if not _NAME.fullmatch(name.strip()) or (colon and not tail.strip()):
        raise InputError(f"{text!r} is no optimizer; {_OPTIMIZER_FORMS}.")
    return name.strip(), parse_options(tail, text, _OPTIMIZER_FORMS) if colon else {}


def parse_options(tail: str, text: str, forms: str = _MODEL_FORMS) -> dict[str, str]:
    """``discretization=mamba,step=fixed`` as a dict; ``text`` is the whole of what was typed, for messages.

    Raises:
        InputError: a part is no ``key=value``, or a key is given twice.
    """
    options: dict[str, str] = {}
    for part in tail.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or not _NAME.fullmatch(key):
            raise InputError(f"in {text!r}, {part!r} is no option of the form key=value; {forms}.")
        if key in options:
            raise InputError(f"in {text!r}, the option {key!r} is given twice.")
        options[key] = value
    return options


def parse_dims(texts: Iterable[str]) -> dict[str, list[int]]:
    """``["N_u=64:1024", "N_x=8,16"]`` as widths per dim, rising.

    Raises:
        InputError: malformed text, a width that is no whole number from 1 to 2^20, a width or a dim given twice, or a
            dim with fewer than two widths, from which no slope can be had.
    """
    dims: dict[str, list[int]] = {}
    for text in map(_short, texts):
        dim, tail = _dim_of(text, text)
        if dim in dims:
            raise InputError(f"--dims gives {dim} twice; {_DIMS_FORMS}.")
        dims[dim] = _widths(tail, text)
        if len(dims[dim]) < 2:
            only = f"only the width {dims[dim][0]}" if dims[dim] else "no power of two"
            raise InputError(
                f"--dims {text!r} gives {dim} {only}, and a slope needs at least two; {_DIMS_FORMS}. "
                f"(To hold a dim at one width: --fix {dim}={dims[dim][0] if dims[dim] else 16}.)"
            )
    return dims


def parse_product(text: str) -> dict[str, list[int]]:
    """``N_u=64:256 N_x=16``: widths of several dims, all of each with all of the others.

    >>> parse_product("N_u=64:256 N_x=16")
    {'N_u': [64, 128, 256], 'N_x': [16]}

    Raises:
        InputError: malformed text, a width that is no whole number from 1 to 2^20, a width or a dim given twice.
    """
    out: dict[str, list[int]] = {}
    for part in _short(text).split():
        dim, tail = _dim_of(part, text)
        if dim in out:
            raise InputError(f"--dims {text!r} gives {dim} twice; {_DIMS_FORMS}.")
        out[dim] = _widths(tail, part)
        if not out[dim]:
            raise InputError(f"--dims {text!r} gives {dim} no power of two; {_DIMS_FORMS}.")
    if not out:
        raise InputError(f"--dims {text!r} is malformed; {_DIMS_FORMS}.")
    return out


def _dim_of(part: str, text: str) -> tuple[str, str]:
    """``N_u=64:1024`` as a dim and what is said of its widths; ``text`` is the whole that was given."""
    dim, equals, tail = (piece.strip() for piece in part.partition("="))
    if not equals or not tail or not _DIM.fullmatch(dim):
        raise InputError(f"--dims {text!r} is malformed; {_DIMS_FORMS}.")
    return dim, tail


def _widths(tail: str, text: str) -> list[int]:
    return _range(tail, text) if ":" in tail else _list(tail, text)


def parse_fix(texts: Iterable[str], option: str = "--fix") -> dict[str, int]:
    """``["N_x=16"]`` as one width per dim, of ``--fix`` and of other options like it.

    >>> parse_fix(["N_x=16"])
    {'N_x': 16}

    Raises:
        InputError: malformed text, a width that is no whole number from 1 to 2^20, or a dim given twice.
    """
    out: dict[str, int] = {}
    for text in map(_short, texts):
        dim, equals, width = (piece.strip() for piece in text.partition("="))
        if not equals or not _DIM.fullmatch(dim) or not _WIDTH.fullmatch(width):
            raise InputError(f"{option} {text!r} is malformed; write {option} N_x=16, and repeat the option for another dim.")
        if dim in out:
            raise InputError(f"{option} gives {dim} twice; one width each.")
        if not 1 <= int(width) <= LARGEST_WIDTH:
            raise InputError(f"in {option} {text!r}, the width is not between 1 and {LARGEST_WIDTH} (2^20).")
        out[dim] = int(width)
    return out


def parse_numbers(texts: Iterable[str], option: str) -> float | dict[str, float] | None:
    """``["3e-4"]`` as a number for all weights, ``["W_in=0.1", "W_*=0.02"]`` as one per weight or pattern.

    >>> parse_numbers(["W_in=0.1", "*=2e-2"], "--std"), parse_numbers(["3e-4"], "--lr"), parse_numbers([], "--eps")
    ({'W_in': 0.1, '*': 0.02}, 0.0003, None)

    Raises:
        InputError: no number above zero, a weight given twice, or one number for all beside one for some.
    """
    out: dict[str, float] = {}
    for text in map(_short, texts):
        name, equals, value = (piece.strip() for piece in text.rpartition("="))
        key = name if equals else "*"
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0) or not key:
            raise InputError(f"{option} {text!r} is malformed; write {option} 0.02, or {option} W_in=0.02 for one weight.")
        if key in out:
            raise InputError(f"{option} gives {'all weights' if key == '*' else key} twice; one number each.")
        out[key] = number
    return out.get("*") if set(out) == {"*"} else out or None


def _short(text: str) -> str:
    """What is too long to be meant is cut, and then refused, so that messages stay readable."""
    return text if len(text) <= 400 else text[:60] + "…"


def _width(text: str, whole: str) -> int:
    text = text.strip()
    if "=" in text:
        raise InputError(
            f"--dims {whole!r} names more than one dim; repeat the option: --dims N_u=64:1024 --dims N_x=8:128."
        )
    if not _WIDTH.fullmatch(text):
        raise InputError(f"in --dims {whole!r}, {text!r} is no whole number; {_DIMS_FORMS}.")
    width = int(text)
    if not 1 <= width <= LARGEST_WIDTH:
        raise InputError(f"in --dims {whole!r}, the width {width} is not between 1 and {LARGEST_WIDTH} (2^20).")
    return width


def _range(tail: str, text: str) -> list[int]:
    bounds = [_width(part, text) for part in tail.split(":")]
    if len(bounds) != 2:
        raise InputError(f"--dims {text!r} is malformed; {_DIMS_FORMS}.")
    low, high = bounds
    if low > high:
        raise InputError(f"in --dims {text!r} the lower bound exceeds the upper one; write {high}:{low}.")
    return [2**k for k in range(LARGEST_WIDTH.bit_length()) if low <= 2**k <= high]


def _list(tail: str, text: str) -> list[int]:
    widths = [_width(part, text) for part in tail.split(",")]
    if len(set(widths)) < len(widths):
        twice = next(w for w in widths if widths.count(w) > 1)
        raise InputError(f"--dims {text!r} gives the width {twice} twice.")
    return sorted(widths)


def is_file(text: str) -> bool:
    """Does ``--parameterization TEXT`` mean a file rather than a registered name?

    >>> is_file("mup"), is_file("mine.toml"), is_file("./mup")
    (False, True, True)
    """
    return text.endswith((".toml", ".json")) or "/" in text or "\\" in text


def check_file(path: str | Path, what: str) -> None:
    """Refuse early what could not be read later.

    Raises:
        InputError: there is no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{what} {str(path)!r} is a folder; name a file.")
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r} (of {what}).")
