"""The command line: parse, call, print.  Nothing is decided here that a Python user would have to decide again.

Imports are part of the interface: ``--help``, ``list`` and whatever is refused must answer at once, so everything heavy
(torch, sympy, pandas, rich) is imported inside the function that needs it, after the input has been checked.

Exit status: 0 every row agrees, 1 some row disagrees, 2 bad input, 3 inconclusive rows under ``--strict``, 130
interrupted; 70 for an error of scalecalc's own, so that it cannot be taken for a row that disagrees.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scalecalc import request
from scalecalc._version import __version__
from scalecalc.delivery import check_output, columns, complain, deliver, emit, format_of, paper, typed
from scalecalc.errors import InputError, ScalecalcError
from scalecalc.garbage import seldom
from scalecalc.options import (
    MODEL_HELP,
    Number,
    Plural,
    Registered,
    alignment_option,
    deriving_options,
    measuring_options,
    model_argument,
    model_options,
    number_options,
    output_options,
    reporting_options,
    rules_option,
    seed_option,
    solving_options,
)
from scalecalc.report.formats import format_for
from scalecalc.starter import STARTERS
from scalecalc.sweep_options import TRANSFER_HELP, transfer_options

if TYPE_CHECKING:
    from scalecalc.dossier import Dossier

EXPLAINED = ("table", "markdown", "json")
KINDS = ("weight", "init", "gradient", "update", "alignment")
BUG, INTERRUPTED, INCONCLUSIVE = 70, 130, 3
OURS = ("model", "rules", "format", "output", "quiet", "fix")
DERIVING = ("derive", "explain", "annotate", "compare", "solve")  # where no tensors wait for the garbage collector
LISTED = ("table", "csv", "markdown", "json")


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
@alignment_option
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Steps, till sizes repeat.")
@seed_option
def derive(steps: int, seed: int, **given: Any) -> int:
    model = prepare(given)  # a derivation has nothing random; --seed is taken so that scripts can pass it everywhere
    from scalecalc.derive import derive as derive_table

    emit(derive_table(model, steps=steps, **asked(given)), given)
    return 0


@cli.command(
    help=f"""The derivation of one entry of the table: each rule in order, what was assumed, the sources.

{MODEL_HELP}

ROW is a name from the table: a feature (y), a weight (W_B) or a sum (C,h for ⟨C, h⟩)."""
)
@model_options
@alignment_option
@click.argument("row", metavar="ROW")
@click.option("--kind", type=click.Choice(KINDS), help="[default: update with --tag, else the first that there is]")
@click.option("--tag", metavar="W_B", help="The weight whose update it is; W_in+W_in for a second order.")
@click.option("--step", type=click.IntRange(0), metavar="K", help="0 initialisation, K after the K-th step.")
def explain(row: str, kind: str | None, tag: str | None, step: int | None, **given: Any) -> int:
    format = format_of(given, EXPLAINED, "an explanation")
    model = prepare(given)
    from scalecalc.derive import derive as derive_table
    from scalecalc.report.explanation import to_json, to_markdown, to_text

    found = derive_table(model, steps=max(step or 1, 1), **asked(given)).explain(row, kind, tag, step)
    if format == "table":
        text = to_text(found, paper(given)["width"])
    else:
        text = to_markdown(found) if format == "markdown" else to_json(found)
    deliver(text, given)
    return 0


@cli.command(
    help=f"""Parameterizations side by side: which features learn, which are lazy, which explode.

{MODEL_HELP}

Each PARAMETERIZATION is a registered name, or a TOML or JSON file."""
)
@model_argument
@click.argument(
    "parameterizations", type=Registered("parameterization"), metavar="PARAMETERIZATION…", nargs=-1, required=True
)
@deriving_options
@alignment_option
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Optimizer steps.")
def compare(parameterizations: tuple[str, ...], steps: int, **given: Any) -> int:
    model = prepare(given, parameterizations)
    from scalecalc.compare import compare as compare_tables
    from scalecalc.report.comparison import render

    found = compare_tables(model, *parameterizations, steps=steps, **asked(given))
    deliver(render(found, given["format"] or format_for(given["output"]), **paper(given)), given)
    return 0


@cli.command(
    help=f"""The parameterization that keeps every layer stable and learning: inits and rates, and what binds each.

{MODEL_HELP}

Exit status 1, and the rows that contradict each other, if what is required cannot be had."""
)
@model_argument
@click.option(
    "--parameterization",
    type=Registered("parameterization"),
    metavar="NAME|FILE",
    help="Keep its inits and multipliers, and solve for rates only.",
)
@solving_options
@alignment_option
@click.option("--steps", type=click.IntRange(1), default=2, show_default=True, metavar="K", help="1: the first step alone.")
@click.option(
    "--require",
    multiple=True,
    metavar="WHAT",
    help="'rms h = 1', 'update h by W_B = 1', 'y = N_x^(1/2)', or stable: no weight need learn. Repeatable.",
)
@click.option(
    "--gauge",
    default="",
    metavar="WHICH",
    help="Of equivalent solutions that with 'init = 1', 'rate = 1', 'multiplier of W_out = N^(-1)', 'like mup_table8' or, "
    "for a feature, 'h = 1'; several divided by commas.  [default: multiplier = 1]",
)
@click.option(
    "--beside",
    multiple=True,
    type=Registered("parameterization"),
    metavar="NAME|FILE",
    help="A table as papers print it: the solution beside this parameterization. Repeatable, or divided by commas.",
)
@click.option(
    "--rates",
    multiple=True,
    type=Registered("optimizer"),
    metavar="OPTIMIZER",
    help="A table as papers print it, with this optimizer's rates, too. Repeatable.",
)
@number_options
@seed_option
def solve(
    steps: int, require: tuple[str, ...], gauge: str, seed: int, beside: tuple[str, ...], rates: tuple[str, ...], **given: Any
) -> int:
    wanted = numbers_asked(given)
    schemes = [name.strip() for text in beside for name in text.split(",") if name.strip()]
    if wanted and (schemes or rates):
        raise InputError("numbers at widths are of one solution; leave out --beside and --rates, or --base and --target.")
    model = prepare(given, schemes, rates)  # as in derive, nothing is random
    from scalecalc.errors import Contradiction
    from scalecalc.report.solution import contradiction_json, render
    from scalecalc.solve import solve as solve_for

    format = given["format"] or format_for(given["output"])
    try:
        found = solve_for(model, steps=steps, require=require, gauge=gauge, **asked(given))
        more = [asked(given) | {"optimizer": name} for name in rates if name != found.optimizer]
        others = [solve_for(model, steps=steps, require=require, gauge=gauge, **one) for one in more]
    except Contradiction as error:
        if format == "json":
            deliver(contradiction_json(error), given)
        raise
    if wanted:
        from scalecalc.numbers import numbers
        from scalecalc.report.numbers import render as render_numbers

        deliver(render_numbers(numbers(found, **wanted), format, **paper(given)), given)
        return 0
    if schemes or rates:
        from scalecalc.beside import beside as put_beside
        from scalecalc.report.beside import render as render_beside

        solved = {one.optimizer: one for one in (found, *others)}
        table = put_beside(model, solved, schemes, fix=request.parse_fix(given["fix"]), regime=given["regime"])
        deliver(render_beside(table, format, **paper(given)), given)
        return 0
    deliver(render(found, format, **paper(given)), given)
    return 0


@cli.command(help=f"Derive, measure, and give every row a verdict.\n\n{MODEL_HELP}")
@model_options
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Optimizer steps.")
@measuring_options
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


@cli.command(
    help=f"""Everything about one model, as a folder: page, tables, plots, diagram, derivation.

{MODEL_HELP}

Each PARAMETERIZATION is a registered name, a TOML or JSON file, or `solved` for the one that solve finds; of several there is
a page that compares them. Nothing is measured without --measure."""
)
@model_argument
@click.argument("parameterizations", type=Registered("parameterization"), metavar="[PARAMETERIZATION]…", nargs=-1)
@reporting_options
@alignment_option
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Optimizer steps.")
@click.option("--measure", is_flag=True, help="Measure, too, as verify does, for --budget seconds each.")
@click.option("--measured", type=click.Path(), metavar="FILE", help="What a verify or a report with -o FILE.json measured.")
@measuring_options
@seed_option
@click.option("--row-plots", "rows", is_flag=True, help="Every row's plot as PDF, SVG and PNG, too; about a second each.")
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
@click.pass_context
def report(
    ctx: click.Context, parameterizations: tuple[str, ...], measured: str | None, rows: bool, show: bool, **given: Any
) -> int:
    schemes = [name for name in parameterizations if name != "solved"]
    widths = request.parse_dims(given.pop("dims")) or None
    if measured is not None:
        request.check_file(measured, "the measurement")
        if given["measure"] or len(parameterizations) > 1:
            raise InputError("--measured is of one table that was measured before; leave out --measure, and name one scheme.")
    from scalecalc.report.folder import check_folder, write_collection, write_report

    model = prepare({**given, "output": None}, schemes)
    check_folder(given["output"])
    from scalecalc.dossier import MEASURING, collection, dossier, made, names

    options = asked(given)
    measuring = {**{key: options.pop(key) for key in MEASURING}, "dims": widths, "progress": not given["quiet"]}
    how = made(typed(ctx), given["seed"] if given["measure"] else None)
    wanted = [*parameterizations] or [None]
    titles = names([name for name in wanted if name]) or [""]
    found: dict[str, Dossier] = {}
    for title, name in zip(titles, wanted, strict=True):
        if any(each.stopped for each in found.values()):
            options["measure"] = False  # after Ctrl-C the others are derived only
        found[title] = dossier(model, parameterization=name, measuring=measuring, measured=measured, made=how, **options)
    one = next(iter(found.values()))
    several = len(found) > 1
    to = given["output"]
    files = write_collection(collection(found, how), to, rows=rows) if several else write_report(one, to, rows=rows)
    if not given["quiet"]:
        from scalecalc.report.summary import summary

        said = {title: summary(each.table) for title, each in found.items()}
        complain(f"wrote {len(files)} files into {given['output']}; open {files[0]}. " + "; ".join(
            f"{title}: {text}" if several else text for title, text in said.items()))  # fmt: skip
    if show:
        click.launch(str(files[0]))
    if any(each.stopped for each in found.values()):
        return INTERRUPTED
    return max(each.table.exit_status for each in found.values())


@cli.command(
    help="""How fast a linear state space model learns: time constants in N, σ and η, derived and measured.

FILE: input and output sequences, as CSV (columns u and y), .npy (time, 2) or .npz (u, y), or their covariances by
lag; without one a teacher's. -o DIR writes a page with the learning curves, -o FILE the table alone."""
)
@click.argument("file", type=click.Path(), required=False, metavar="[FILE]")
@click.option("--states", default="N=4:256", show_default=True, metavar="N=A:B", help="Numbers of states, as --dims.")
@click.option("--setting", "settings", multiple=True, metavar="NAME", help="tied_balanced, … Repeatable.  [default: all]")
@click.option("--pole", type=float, metavar="A", help="Of all states.  [default: the one that explains most]")
@click.option("--step", type=Number(), metavar="X", help="Of gradient descent, over 1/(rate at the end).  [default: 0.04]")
@click.option("--seeds", type=click.IntRange(2), default=4, show_default=True, metavar="N", help="Runs per N.")
@click.option("--tolerance", type=Number(), default=0.05, show_default=True, metavar="X", help="Of a slope.")
@click.option("--color", type=float, default=0.0, metavar="R", help="Without FILE: correlation of neighbouring inputs.")
@click.option("--noise", type=float, default=0.0, metavar="S", help="Without FILE: standard deviation of output noise.")
@click.option("--measure/--no-measure", default=True, help="Whether to train; deriving alone needs no torch.")
@click.option("--beyond", is_flag=True, help="Also finite steps, finite length and learned poles: a minute more.")
@click.option("--explain", "topic", metavar="TOPIC", help="Print a derivation instead; `--explain list` has the topics.")
@click.option("--strict", is_flag=True, help="Inconclusive rows count: exit status 3.")
@output_options
@click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error.")
@seed_option
@click.pass_context
def dynamics(ctx: click.Context, file: str | None, topic: str | None, strict: bool, **given: Any) -> int:
    from scalecalc.dynamics import command

    if topic is not None:
        format = format_of(given, EXPLAINED, "a derivation")
        check_output(given["output"])
        deliver(command.explained(topic, format, paper(given)["width"]), given)
        return 0
    if not (folder := command.is_folder(given["output"])):
        check_output(given["output"])
    table, files = command.run(file, given, (lambda _: None) if given["quiet"] else command.progress, typed(ctx))
    if not folder:
        emit(table, given)
    elif not given["quiet"]:
        from scalecalc.report.summary import summary

        complain(f"wrote {len(files)} files into {given['output']}; open {files[0]}. {summary(table)}")
    if table.exit_status:
        return table.exit_status
    return INCONCLUSIVE if strict and any(row.verdict == "inconclusive" for row in table) else 0


@cli.command(
    help="""The source lines of a torch module with the derived sizes beside them.

MODEL is path/to/file.py:factory, where the file has factory(**dims), which returns the module, and example_inputs(**dims)."""
)
@model_options
def annotate(**given: Any) -> int:
    format_of(given, ("table",), "an annotated source")
    model = prepare(given)
    from scalecalc.annotate import annotate as annotated

    deliver(annotated(model, **asked(given)), given)
    return 0


@cli.command(name="list")
@click.argument("kind", type=Plural(), metavar="KIND")
@rules_option
@output_options
def list_(kind: str, **given: Any) -> int:
    """What is known, with what it says of itself and where it is from.

    KIND: rules, models, optimizers, parameterizations or another kind of registered thing, in the plural.
    """
    from scalecalc import rulebook
    from scalecalc.report.listing import listing
    from scalecalc.report.output import put
    from scalecalc.rule import registry

    format = format_of(given, LISTED, "a list")
    check_output(given["output"])
    for folder in given["rules"]:
        rulebook.load(folder)
    things = sorted(registry(kind).items())
    records = [{"name": name, "words": thing.words, "source": thing.source} for name, thing in things]
    put(listing(records, format, width=columns()), given["output"])
    return 0


@cli.command(
    help=f"""A starting file for something of your own, and a test beside it. KIND: {", ".join(STARTERS)}.

The file is complete: it holds a small example under the new NAME, and says where to change it. Use it with --rules DIR."""
)
@click.argument("kind", type=click.Choice(STARTERS), metavar="KIND")
@click.argument("name", metavar="NAME")
@click.option(
    "-o", "--output", type=click.Path(), default="my_rules", show_default=True, metavar="DIR", help="Made if need be."
)
def new(kind: str, name: str, output: str) -> int:
    from scalecalc.starter import start

    files = start(kind, name, output)
    for file in files:
        click.echo(f"wrote {file}")
    complain(f"edit what is marked EDIT; pytest {files[1]} checks it, --rules {output} uses it.")
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


@cli.command(help=TRANSFER_HELP)
@transfer_options
def transfer(**given: Any) -> int:
    from scalecalc.transfer.command import transfer as run

    return run(given)


def prepare(given: dict[str, Any], schemes: Sequence[str] = (), optimizers: Sequence[str] = ()) -> str:
    """Check all that can be checked before computing, cheapest first; load the user's rules.  Returns the MODEL.

    Args:
        given: what the command line gave.
        schemes, optimizers: those to check beside the ones of the options.

    Raises:
        ScalecalcError: something is not as it must be.
    """
    from scalecalc import rulebook
    from scalecalc.scale import Regime

    model = request.parse_model(given["model"])
    schemes = [*schemes, *([scheme] if (scheme := given.get("parameterization")) is not None else [])]
    Regime.parse(given["regime"])
    request.parse_fix(given["fix"])
    if model.file is not None:
        request.check_file(model.file, "the model")
    for scheme in filter(request.is_file, schemes):
        request.check_file(scheme, "the parameterization")
    check_output(given["output"])
    for folder in given["rules"]:
        rulebook.load(folder)
    from scalecalc.rule import find

    if model.file is None:
        find("architecture", model.name)
    for scheme in schemes:
        if not request.is_file(scheme):
            find("parameterization", scheme)
    for optimizer in filter(None, (given["optimizer"], *optimizers)):
        from scalecalc.model import optimizer_of

        optimizer_of(optimizer)
    return given["model"]


def asked(given: dict[str, Any]) -> dict[str, Any]:
    """The options that are the engine's business; the others are about reading and printing."""
    fix = request.parse_fix(given["fix"])
    return {key: value for key, value in given.items() if key not in OURS} | ({"fix": fix} if fix else {})


def numbers_asked(given: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of ``solve`` that ask for numbers out of all that was given; empty if none was.

    Raises:
        InputError: one is malformed, or some that are needed are missing.
    """
    widths = {key: request.parse_fix(given.pop(key), f"--{key}") for key in ("base", "target")}
    options = ("lr", "std", "weight_decay", "eps")
    wanted = {key: request.parse_numbers(given.pop(key), f"--{key.replace('_', '-')}") for key in options}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    if not wanted and not any(widths.values()):
        return {}
    if missing := [f"--{key}" for key, there in (*widths.items(), ("lr", "lr" in wanted)) if not there]:
        raise InputError(
            f"for numbers, {' and '.join(missing)} must be given, too: --base N_u=256 --target N_u=4096 --lr 3e-4."
        )
    return {**widths, **wanted}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        asked = sys.argv[1:] if arguments is None else arguments
        with seldom() if asked and asked[0] in DERIVING else nullcontext():
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
