"""Where a command's answer goes: to the terminal, or to the file asked for, in the format that was asked for."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from scalecalc.errors import InputError
from scalecalc.report.formats import format_for

if TYPE_CHECKING:
    from scalecalc.table import Table


def format_of(given: dict[str, Any], possible: Sequence[str], what: str) -> str:
    """The format asked for, by name or by the file's suffix, where not every command has every format.

    Raises:
        InputError: none of the possible ones.
    """
    format = given["format"] or format_for(given["output"])
    if format not in possible:
        raise InputError(f"{what} is not made as {format}; use --format {'|'.join(possible)}.")
    return format


def check_output(output: str | None) -> None:
    if output not in (None, "-"):
        from scalecalc.report.output import check_writable

        check_writable(output)


def emit(table: Table, given: dict[str, Any]) -> None:
    """Print the table or write it to the file asked for; with a file, the verdict goes to standard error."""
    from scalecalc.report.formats import render
    from scalecalc.report.summary import summary

    deliver(render(table, given["format"] or format_for(given["output"]), **paper(given)), given, summary(table))


def paper(given: dict[str, Any]) -> dict[str, Any]:
    """Width and colour for what will be read where the output goes."""
    if given["output"] not in (None, "-"):
        return {"width": 120, "color": False}
    color = given["output"] is None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return {"width": columns(), "color": color}


def deliver(text: str, given: dict[str, Any], remark: str = "") -> None:
    """Print the text or write it to the file asked for, with a remark on standard error."""
    from scalecalc.report.output import put

    put(text, given["output"])
    if given["output"] not in (None, "-") and not given["quiet"]:
        complain(f"wrote {given['output']}. {remark}".rstrip())


def typed(ctx: click.Context) -> str:
    """The command as one would type it, less where it writes to and what it says meanwhile."""
    words = ["scalecalc", ctx.info_name or ""]
    for parameter in ctx.command.params:
        name, value = parameter.name or "", ctx.params.get(parameter.name or "")
        if ctx.get_parameter_source(name) != click.core.ParameterSource.COMMANDLINE or name in ("output", "quiet", "show"):
            continue
        values = value if isinstance(value, tuple) else (value,)
        if isinstance(parameter, click.Argument):
            words += map(str, values)
        for one in values if isinstance(parameter, click.Option) else ():
            said = [] if one is True else [f"{one:g}" if isinstance(one, float) else str(one)]
            words += [parameter.opts[0], *said]
    return shlex.join(words)


def columns() -> int:
    return max(shutil.get_terminal_size().columns, 40)


def complain(message: str) -> None:
    # click's echo also copes with a standard error that cannot show every character.
    click.echo(f"scalecalc: {message}", err=True)
