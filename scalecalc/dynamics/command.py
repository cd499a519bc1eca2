"""What ``scalecalc dynamics`` does: check, derive, train, print; or write a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scalecalc.dossier import made
from scalecalc.errors import InputError
from scalecalc.request import parse_dims
from scalecalc.table import Table


def states_of(text: str) -> list[int]:
    """``N=4:256`` or ``4:256``, powers of two between the bounds, or ``4,6,8``.

    Raises:
        InputError: none of these, or another dim than N.
    """
    found = parse_dims([text if "=" in text else f"N={text}"])
    if set(found) != {"N"}:
        raise InputError(f"--states {text!r}: the number of states is called N; write --states N=4:256.")
    return found["N"]


def is_folder(output: str | None) -> bool:
    """Does ``-o`` name a folder: one that is there, or a name without a suffix?"""
    return (
        output not in (None, "-") and (Path(output).is_dir() or not Path(output).suffix) and not Path(output).is_file()
    )


def run(file: str | None, given: Mapping[str, Any], say: Callable[[str], None], typed: str) -> tuple[Table, list[Path]]:
    """The table, and the files of a folder where one was asked for.

    Args:
        given: the options.
        say: for progress.
        typed: the command, for the heads of files.

    Raises:
        ScalecalcError: something is not as it must be.
    """
    from scalecalc import dynamics
    from scalecalc.dynamics.settings import setting

    states = states_of(given["states"])
    names = list(given["settings"]) or None
    for name in names or ():
        setting(name)
    folder = is_folder(given["output"])
    if folder:
        from scalecalc.report.folder import check_folder

        check_folder(given["output"])
    if not given["measure"]:
        if file is not None:
            raise InputError("without measuring no data are needed; leave out FILE, or --no-measure.")
        if folder:
            raise InputError(
                "a folder of curves needs a measurement; leave out --no-measure, or write to a file: -o table.csv."
            )
        return dynamics.derive(names), []
    if file is not None and (given["color"] or given["noise"]):
        raise InputError(
            "--color and --noise are of the teacher that stands in for a file; leave them out, or leave out FILE."
        )
    options = {key: given[key] for key in ("pole", "seeds", "seed", "tolerance", "step", "color", "noise", "beyond")}
    found = dynamics.measure(file, settings=names, states=states, curves=folder, progress=say, **options)
    if not folder:
        return found.table, []
    from scalecalc.dynamics.report import write

    return found.table, write(found, given["output"], made(typed, given["seed"]))


def progress(words: str) -> None:
    """What is going on, on standard error, where somebody looks."""
    import sys

    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{words}…")
        sys.stderr.flush()


def explained(topic: str, format: str, width: int) -> str:
    """A derivation, as text, Markdown or JSON.

    Raises:
        UnknownName: there is no such topic.
    """
    from scalecalc.dynamics import theory

    return theory.show(topic, format, width)
