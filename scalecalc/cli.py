"""The command line: parse, call, print.  Nothing is decided here that a Python user would have to decide again.

Imports are part of the interface: ``--help``, ``list`` and whatever is refused must answer at once, so everything heavy
(torch, sympy, pandas, rich) is imported inside the function that needs it, after the input has been checked.

Exit status: 0 every row agrees, 1 some row disagrees, 2 bad input, 3 inconclusive rows under ``--strict``, 130
interrupted; 70 for an error of scalecalc's own, so that it cannot be taken for a row that disagrees.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scalecalc import request
from scalecalc._version import __version__
from scalecalc.errors import ScalecalcError
from scalecalc.report.formats import FORMATS, format_for

if TYPE_CHECKING:
    from scalecalc.table import Table

BUG, INTERRUPTED, INCONCLUSIVE = 70, 130, 3
OURS = ("model", "rules", "format", "output", "quiet")
LISTS = {"rules": "rule", "models": "architecture", "optimizers": "optimizer", "parameterizations": "parameterization"}
MODEL_HELP = """MODEL is a registered name (`scalecalc list models`), with options after a colon
(s6:discretization=mamba,step=fixed), or path/to/file.py:name."""


class Number(click.ParamType):
    """A finite number above zero (click's FloatRange lets nan through)."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            self.fail(f"{value!r} is no finite number above zero", param, ctx)
        return number


class Registered(click.ParamType):
    """A registered name, or a form that names something else; only its completion needs the registry."""

    name = "name"

    def __init__(self, kind: str):
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from scalecalc.rule import registry

        names = [name for name in sorted(registry(self.kind)) if name.startswith(incomplete)]
        files = [CompletionItem(incomplete, type="file")] if self.kind != "optimizer" else []
        return [CompletionItem(name) for name in names] or files


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several option decorators as one, shown in the order given."""

    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


rules_option = click.option(
    "--rules", type=click.Path(), multiple=True, metavar="DIR", help="A folder with rule files of your own. Repeatable."
)
output_options = options(
    click.option("--format", type=click.Choice(FORMATS), help="[default: by the suffix of -o FILE, else table]"),
    click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write to FILE instead of standard output."),
)
model_options = options(
    click.argument("model", type=Registered("architecture"), metavar="MODEL"),
    click.option(
        "--parameterization",
        type=Registered("parameterization"),
        metavar="NAME|FILE",
        help="A registered name, or a TOML or JSON file.  [default: the one the model names]",
    ),
    click.option(
        "--optimizer",
        type=Registered("optimizer"),
        metavar="NAME",
        help="[default: the one the model names, else adam]",
    ),
    click.option(
        "--regime",
        default="free",
        show_default=True,
        metavar="REGIME",
        help="How the dims grow against each other: free, proportional, N_u>N_x or N_x=N_u^1/2.",
    ),
    click.option("--loss", type=click.Choice(["linear", "mse", "logistic"]), default="linear", show_default=True),
    rules_option,
    output_options,
    click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error."),
)
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="scalecalc", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """How every size in a network depends on its growing dims: derived, and measured.

    Shell completion: scalecalc completion --help
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command(help=f"The table of derived exponents; nothing is measured.\n\n{MODEL_HELP}")
@model_options
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Optimizer steps.")
@seed_option
def derive(steps: int, seed: int, **given: Any) -> int:
    model = prepare(given)  # a derivation has nothing random; --seed is taken so that scripts can pass it everywhere
    from scalecalc.derive import derive as derive_table

    emit(derive_table(model, steps=steps, **asked(given)), given)
    return 0


@cli.command(help=f"Derive, measure, and give every row a verdict.\n\n{MODEL_HELP}")
@model_options
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Optimizer steps.")
@click.option("--dims", multiple=True, metavar="DIM=A:B", help="Widths: N_u=64:1024 or N_u=64,96,128. Repeatable.")
@click.option("--seeds", type=click.IntRange(2), metavar="N", help="Random seeds per width.  [default: chosen]")
@click.option("--budget", type=Number(), default=120.0, show_default=True, metavar="SECONDS", help="Time to measure.")
@click.option("--tolerance", type=Number(), metavar="X", help="How far a slope may be off.  [default: chosen]")
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda or cuda:1.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float64", show_default=True)
@click.option("--resume", type=click.Path(), metavar="FILE", help="Keep measurements in FILE and go on from there.")
@click.option("--strict", is_flag=True, help="Inconclusive rows count: exit status 3.")
@seed_option
def verify(dims: tuple[str, ...], strict: bool, resume: str | None, **given: Any) -> int:
    widths = request.parse_dims(dims) or None
    if resume is not None:
        from scalecalc.report.output import check_writable

        check_writable(resume)
    model = prepare(given)
    from scalecalc.measure.verify import Interrupted
    from scalecalc.measure.verify import verify as verify_table

    try:
        table = verify_table(
            model,
            dims=widths,
            resume=Path(resume) if resume is not None else None,
            progress=not given["quiet"],
            **asked(given),
        )
    except Interrupted as stop:
        emit(stop.table, given)
        judged = sum(row.verdict is not None for row in stop.table)
        complain(f"interrupted; {judged} of {len(stop.table)} rows have a verdict.")
        return INTERRUPTED
    emit(table, given)
    if table.exit_status:
        return table.exit_status
    return INCONCLUSIVE if strict and any(row.verdict != "agrees" for row in table) else 0


@cli.command(name="list")
@click.argument("what", type=click.Choice(list(LISTS)))
@rules_option
@output_options
def list_(what: str, rules: tuple[str, ...], format: str | None, output: str | None) -> int:
    """What is known, with what it says of itself and where it is from."""
    from scalecalc import rulebook
    from scalecalc.report.listing import listing
    from scalecalc.report.output import put
    from scalecalc.rule import registry

    check_output(output)
    for folder in rules:
        rulebook.load(folder)
    things = sorted(registry(LISTS[what]).values(), key=lambda thing: thing.name)
    records = [{"name": thing.name, "words": thing.words, "source": thing.source} for thing in things]
    put(listing(records, format or format_for(output), width=columns()), output)
    return 0


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the shell's completion script: eval "$(scalecalc completion bash)"."""
    from click.shell_completion import get_completion_class

    make = get_completion_class(shell)
    assert make is not None
    click.echo(make(cli, {}, "scalecalc", "_SCALECALC_COMPLETE").source())
    return 0


def prepare(given: dict[str, Any]) -> str:
    """Check all that can be checked before computing, cheapest first; load the user's rules.  Returns the MODEL.

    Raises:
        ScalecalcError: something is not as it must be.
    """
    from scalecalc import rulebook
    from scalecalc.scale import Regime

    model, parameterization = request.parse_model(given["model"]), given["parameterization"]
    Regime.parse(given["regime"])
    if model.file is not None:
        request.check_file(model.file, "of the model")
    by_file = parameterization is not None and request.is_file(parameterization)
    if by_file:
        request.check_file(parameterization, "of the parameterization")
    check_output(given["output"])
    for folder in given["rules"]:
        rulebook.load(folder)
    from scalecalc.rule import find

    if model.file is None:
        find("architecture", model.name)
    if parameterization is not None and not by_file:
        find("parameterization", parameterization)
    if given["optimizer"] is not None:
        find("optimizer", given["optimizer"])
    return given["model"]


def asked(given: dict[str, Any]) -> dict[str, Any]:
    """The options that are the engine's business; the others are about reading and printing."""
    return {key: value for key, value in given.items() if key not in OURS}


def check_output(output: str | None) -> None:
    if output not in (None, "-"):
        from scalecalc.report.output import check_writable

        check_writable(output)


def emit(table: Table, given: dict[str, Any]) -> None:
    """Print the table or write it to the file asked for; with a file, the verdict goes to standard error."""
    from scalecalc.report.formats import render
    from scalecalc.report.output import put

    output = None if given["output"] == "-" else given["output"]
    color = output is None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    format = given["format"] or format_for(output)
    put(render(table, format, width=columns() if output is None else 120, color=color), output)
    if output is not None and not given["quiet"]:
        from scalecalc.report.summary import summary

        complain(f"wrote {output}. {summary(table)}")


def columns() -> int:
    return max(shutil.get_terminal_size().columns, 40)


def complain(message: str) -> None:
    # click's echo also copes with a standard error that cannot show every character.
    click.echo(f"scalecalc: {message}", err=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        return cli.main(args=arguments, prog_name="scalecalc", standalone_mode=False) or 0
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        complain(error.format_message() + (f" (See {context.command_path} --help.)" if context else ""))
        return 2
    except ScalecalcError as error:
        complain(str(error))
        return error.exit_status
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # scalecalc --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        traceback.print_exc()
        complain("this is an error of scalecalc's own, not of your input; please report it with the lines above.")
        return BUG
