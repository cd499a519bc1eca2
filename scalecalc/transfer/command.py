"""``scalecalc transfer``: what is asked for, checked before anything is trained; then the engine, then the report.

Nothing heavy is imported before it is needed: ``--help`` and what is refused must answer at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from scalecalc import request
from scalecalc.errors import InputError
from scalecalc.options import Number, Registered, rules_option

if TYPE_CHECKING:
    from scalecalc.transfer.config import Setup
    from scalecalc.transfer.records import Job
    from scalecalc.transfer.store import Store

INTERRUPTED, UNDECIDED = 130, 3
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "muon", "muon_rms")
RATES = {"sgd": "-6:3", "momentum": "-8:1", "nesterov": "-8:1"}  # by optimizer; others move entries by the rate itself
DEFAULT_RATES = "-12:-4"
LENGTH, TEXT_BATCH, BATCH = 128, 16, 64


@click.command(
    help="""Does the learning rate transfer? Trains at a grid of widths, rates and seeds, and says where the best rate lies.

MODEL is mlp, or s6 or transformer as a language model of bytes, with options after a colon (s6:gate=yes,depth=2), or
path/to/file.py:factory. Every finished run is kept in the database; what is there already is not run again.

At the base width every parameterization is the same network. The rates are those at base, as powers of two."""
)
@click.argument("model", metavar="MODEL")
@click.option("--data", default="", metavar="FILE|FOLDER", help="Text; for mlp digits, teacher or a .npz file with x and y.")
@click.option(
    "--dims", multiple=True, metavar="DIM=A:B", help="Widths: N_u=64:512, or 'N_x=8,16 N_u=128'. Repeatable; others at base."
)
@click.option("--base", multiple=True, metavar="DIM=N", help="The width at base.  [default: the least of each dim]")
@click.option("--rates", metavar="A:B[:STEP]", help="Powers of two: -12:-4, -12:-4:0.5 or -12,-10.  [default: by optimizer]")
@click.option("--seeds", type=click.IntRange(1), default=2, show_default=True, metavar="N", help="Random seeds per width.")
@click.option(
    "--parameterization", "parameterizations", multiple=True, type=Registered("parameterization"), metavar="NAME|FILE",
    help="A registered name, a TOML or JSON file, or solved. Repeatable.  [default: sp and the model's own]",
)  # fmt: skip
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adam", show_default=True)
@click.option("--steps", type=click.IntRange(1), default=500, show_default=True, metavar="K", help="Steps of a run.")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Examples per step.  [default: 64; of text 16]")
@click.option("--length", type=click.IntRange(1), default=LENGTH, show_default=True, metavar="N", help="Bytes of an example.")
@click.option("--schedule", type=click.Choice(["constant", "cosine"]), default="constant", show_default=True)
@click.option("--weight-decay", type=Number(), metavar="X", help="At base; of optimizers that have it.")
@click.option(
    "--final", type=click.Choice(["train", "valid"]), default="train", show_default=True,
    help="A run's loss: of training, over the last tenth of the steps; or on what was held out.",
)  # fmt: skip
@click.option(
    "--group", "groups", multiple=True, metavar="NAME=W,…",
    help="Then sweep the rate of these weights alone, the others at their best one: ssm=W_B,W_C,W_Delta. Repeatable.",
)  # fmt: skip
@click.option(
    "--dominated", type=Number(), metavar="X",
    help="Stop a run whose loss, past the half, is by X above that of a finished one of the same width and seed.",
)  # fmt: skip
@click.option("--budget", type=Number(), metavar="SECONDS", help="Begin no run that would not end within them.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes of one thread.  [default: one per core]")
@click.option("--scheduler", metavar="ADDRESS", help="Of a dask scheduler, whose workers are used: tcp://host:8786.")
@click.option("--db", default="transfer.sqlite", show_default=True, metavar="FILE", help="Where finished runs are kept.")
@click.option("--resume", is_flag=True, help="Go on with a sweep that the database has runs of.")
@click.option("-o", "--output", type=click.Path(), metavar="DIR", help="Write report and plots; made if need be.")
@click.option(
    "--tolerance", type=Number(), default="0.1", show_default=True, metavar="X",
    help="How far the best rate may move per doubling of a width and still transfer, in powers of two.",
)  # fmt: skip
@click.option("--require", type=click.Choice(["transfer"]), help="Exit status 1 where the best rate does not transfer.")
@click.option("--strict", is_flag=True, help="What is undecided counts: exit status 3.")
@rules_option
@click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error.")
def transfer(**given: Any) -> int:
    setups, store, sweep = prepare(given)
    groups = {name: members for name, _, members in (text.partition("=") for text in given["groups"])}
    from scalecalc.transfer.engine import Engine
    from scalecalc.transfer.progress import Progress

    stopped, complete = False, True
    with Progress(not given["quiet"]) as progress:
        engine = Engine(
            store, given["workers"], given["scheduler"], given["budget"], given["dominated"], said=progress.said
        )  # fmt: skip
        try:
            for wanted in stages(setups, store, sweep, groups):
                progress.begin(len(wanted), len({s.key for s in wanted} & store.done()))
                complete = engine(wanted) and complete
        except KeyboardInterrupt:
            stopped = True
    jobs = store.jobs(sweep)
    status = conclude(jobs, given)
    if stopped or not complete:
        why = "interrupted" if stopped else "the budget is spent"
        click.echo(f"scalecalc: {why}; {len(jobs)} runs are in {given['db']}, and --resume goes on from there.", err=True)
    return INTERRUPTED if stopped else status


def stages(setups: Sequence[Setup], store: Store, sweep: str, groups: dict[str, str]) -> Any:
    """All weights at one rate first; then, with the best rates known, each group by itself."""
    from scalecalc.transfer.plan import decoupled

    yield setups
    for name, members in groups.items():
        yield decoupled(setups, store.jobs(sweep), name, members.split(","))


def prepare(given: dict[str, Any]) -> tuple[list[Setup], Store, str]:
    """Check everything, cheapest first; the jobs, the database, and the hash of the sweep.

    Raises:
        InputError: something is not as it must be.
    """
    from scalecalc.transfer.plan import base_of, parse_rates, parse_widths

    asked = request.parse_model(given["model"])
    if asked.file is not None:
        request.check_file(asked.file, "the model")
    rates = parse_rates(given["rates"] or RATES.get(given["optimizer"], DEFAULT_RATES))
    lines = [request.parse_product(text) for text in given["dims"]]
    base = request.parse_fix(given["base"], "--base")
    for text in given["groups"]:
        name, equals, members = text.partition("=")
        if not (name and equals and all(part.strip() for part in members.split(","))):
            raise InputError(f"--group {text!r} is malformed; write --group ssm=W_B,W_C.")
    for scheme in filter(request.is_file, given["parameterizations"]):
        request.check_file(scheme, "the parameterization")
    if given["output"] is not None:
        from scalecalc.report.folder import check_folder

        check_folder(given["output"])
    from scalecalc import rulebook

    for folder in given["rules"]:
        rulebook.load(folder)
    from scalecalc.model import default_parameterization
    from scalecalc.transfer.config import Sweep
    from scalecalc.transfer.networks import network
    from scalecalc.transfer.plan import grid, schemes
    from scalecalc.transfer.store import Store

    net = network(given["model"])
    widths = parse_widths(given["dims"], base, net.dims)
    from scalecalc.transfer.data import read

    found = read(given["data"], net.reads)[1] if net.batches is None else "the model's own"
    text = net.reads == "text"
    sweep = Sweep(
        given["model"], base_of(lines or [{d: list(w)} for d, w in net.dims.items()], base, net.dims), given["data"], found,
        given["optimizer"], given["steps"], given["batch"] or (TEXT_BATCH if text else BATCH), given["length"] if text else 0,
        given["schedule"], given["weight_decay"], given["final"], net.digest,
    )  # fmt: skip
    store = Store(given["db"])
    if not given["resume"] and (there := len(store.jobs(sweep.hash))):
        raise InputError(f"{given['db']} has {there} runs of this sweep already; --resume goes on, or name another --db.")
    names = list(dict.fromkeys(given["parameterizations"])) or ["sp", default_parameterization(net.program)]
    setups = grid(sweep, schemes(net.program, names, given["optimizer"]), widths, rates, given["seeds"])
    trial(setups[0])
    store.begin(sweep.hash, sweep.config)
    return setups, store, sweep.hash


def trial(setup: Setup) -> None:
    """Set up a job as a worker will: what is wrong with all of them is said before any is run.

    Raises:
        InputError: the network, its data, names or optimizer do not go together.
    """
    from scalecalc.transfer.networks import network
    from scalecalc.transfer.train import batches, built, optimizers_of, source

    net = network(setup.sweep.model)
    data = source(setup, net)
    optimizers_of(setup, net, *built(setup, net, data))
    next(batches(setup, net, data))


def conclude(jobs: Sequence[Job], given: dict[str, Any]) -> int:
    """Print what was found, and write the report if one is asked for; the exit status."""
    if not any(job.loss is not None for job in jobs):
        click.echo("scalecalc: no run has come to a loss; there is nothing to judge.", err=True)
        return UNDECIDED if given["strict"] else 0
    from scalecalc.cli import paper, typed
    from scalecalc.dossier import made
    from scalecalc.transfer.analysis import verdicts
    from scalecalc.transfer.report import to_terminal, write

    found = verdicts(jobs, given["tolerance"])
    click.echo(to_terminal(found, **paper({"output": None})))
    if given["output"] is not None:
        files = write(given["output"], found, made=made(typed(click.get_current_context()), 0))
        if not given["quiet"]:
            click.echo(f"scalecalc: wrote {len(files)} files into {given['output']}; open {files[0]}.", err=True)
    return found.exit_status(require=given["require"] is not None, strict=given["strict"])
