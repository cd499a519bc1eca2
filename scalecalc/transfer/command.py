"""``scalecalc transfer``: what is asked for, checked before anything is trained; then the engine, then the report.

Nothing heavy is imported before it is needed: ``--help`` and what is refused must answer at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from scalecalc import request
from scalecalc.delivery import paper, typed
from scalecalc.errors import InputError

if TYPE_CHECKING:
    from scalecalc.transfer.config import Setup
    from scalecalc.transfer.cost import Estimate
    from scalecalc.transfer.records import Job
    from scalecalc.transfer.store import Store

INTERRUPTED, UNDECIDED = 130, 3
RATES = {"sgd": "-6:3", "momentum": "-8:1", "nesterov": "-8:1"}  # by optimizer; others move entries by the rate itself
DEFAULT_RATES = "-12:-4"
TEXT_BATCH, BATCH = 16, 64


def transfer(given: dict[str, Any]) -> int:
    """What the command does; returns the exit status."""
    setups, store, sweep = prepare(given)
    groups = {name: members for name, _, members in (text.partition("=") for text in given["groups"])}
    from scalecalc.transfer.engine import Engine
    from scalecalc.transfer.interrupt import noticed
    from scalecalc.transfer.progress import Progress

    stopped, complete, apart = False, True, set[str]()
    with Progress(not given["quiet"]) as progress, noticed() as unless_interrupted:

        def said(job: Job, left: Estimate) -> None:
            progress.said(job, left)
            unless_interrupted()

        engine = Engine(store, given["workers"], given["scheduler"], given["budget"], given["dominated"], said=said)
        try:
            for wanted in stages(setups, store, sweep, groups):
                apart |= {setup.key for setup in wanted if setup.group}
                progress.begin(len(wanted), len({s.key for s in wanted} & store.done()))
                complete = engine(wanted) and complete
        except KeyboardInterrupt:
            stopped = True
    asked = list(dict.fromkeys(setup.scheme.name for setup in setups))
    # with the others' best rate, which more runs may have moved, a group's runs are others
    ended = [job for job in store.jobs(sweep) if not job.group or job.key in apart]
    jobs = sorted(ended, key=lambda job: [*asked, job.parameterization].index(job.parameterization))
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
    from scalecalc.transfer.plan import base_of, parse_rates, parse_widths, rates_of

    asked = request.parse_model(given["model"])
    if asked.file is not None:
        request.check_file(asked.file, "the model")
    for text in given["rates"]:
        parse_rates(text.rpartition("=")[2])
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
    rates = rates_of(given["rates"], names, RATES.get(given["optimizer"], DEFAULT_RATES))
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
