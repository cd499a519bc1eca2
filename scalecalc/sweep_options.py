"""The options of ``scalecalc transfer``.  As in :mod:`scalecalc.options`, nothing heavy is imported."""

from __future__ import annotations

import click

from scalecalc.options import Number, Registered, options, rules_option

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "muon", "muon_rms")
TRANSFER_HELP = """Does the learning rate transfer? Trains at a grid of widths, rates and seeds, and says where the best is.

MODEL is mlp, or s6 or transformer as a language model of bytes, with options after a colon (s6:gate=yes,depth=2), or
path/to/file.py:factory. Every finished run is kept in the database; what is there already is not run again.

At the base width every parameterization is the same network. The rates are those at base, as powers of two."""
# fmt: off
transfer_options = options(
    click.argument("model", metavar="MODEL"),
    click.option("--data", default="", metavar="FILE|FOLDER", help="Text; for mlp digits, teacher or an .npz of x and y."),
    click.option(
        "--dims", multiple=True, metavar="DIM=A:B", help="Widths: N_u=64:512, 'N_x=8,16 N_u=128'. Repeatable; others at base."
    ),
    click.option("--base", multiple=True, metavar="DIM=N", help="The width at base.  [default: the least of each dim]"),
    click.option(
        "--rates", multiple=True, metavar="[NAME=]A:B[:STEP]",
        help="As log2: -12:-4, -12:-4:0.5 or -12,-10; of one parameterization sp=-12:-6.  [default: by optimizer]",
    ),
    click.option("--seeds", type=click.IntRange(1), default=2, show_default=True, metavar="N", help="Random seeds."),
    click.option(
        "--parameterization", "parameterizations", multiple=True, type=Registered("parameterization"), metavar="NAME|FILE",
        help="A registered name, a TOML or JSON file, or solved. Repeatable.  [default: sp and the model's own]",
    ),
    click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adam", show_default=True),
    click.option("--steps", type=click.IntRange(1), default=500, show_default=True, metavar="K", help="Steps of a run."),
    click.option("--batch", type=click.IntRange(1), metavar="N", help="Examples per step.  [default: 64; of text 16]"),
    click.option("--length", type=click.IntRange(1), default=128, show_default=True, metavar="N", help="Bytes of a text."),
    click.option("--schedule", type=click.Choice(["constant", "cosine"]), default="constant", show_default=True),
    click.option("--weight-decay", type=Number(), metavar="X", help="At base; of optimizers that have it."),
    click.option(
        "--final", type=click.Choice(["train", "valid"]), default="train", show_default=True,
        help="A run's loss: of training, over the last tenth of the steps; or on what was held out.",
    ),
    click.option(
        "--group", "groups", multiple=True, metavar="NAME=W,…",
        help="Then sweep the rate of these weights alone, the others at their best one: ssm=W_B,W_C,W_Delta. Repeatable.",
    ),
    click.option(
        "--dominated", type=Number(), metavar="X",
        help="Stop a run whose loss, past the half, is by X above that of a finished one of the same width and seed.",
    ),
    click.option("--budget", type=Number(), metavar="SECONDS", help="Begin no run that would not end within them."),
    click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes of one thread.  [default: one per core]"),
    click.option("--scheduler", metavar="ADDRESS", help="Of a dask scheduler, whose workers are used: tcp://host:8786."),
    click.option("--db", default="transfer.sqlite", show_default=True, metavar="FILE", help="Where finished runs are kept."),
    click.option("--resume", is_flag=True, help="Go on with a sweep that the database has runs of."),
    click.option("-o", "--output", type=click.Path(), metavar="DIR", help="Write report and plots; made if need be."),
    click.option(
        "--tolerance", type=Number(), default="0.1", show_default=True, metavar="X",
        help="How far the best rate may move per doubling of a width and still transfer, in powers of two.",
    ),
    click.option("--require", type=click.Choice(["transfer"]), help="Exit status 1 where the best rate does not transfer."),
    click.option("--strict", is_flag=True, help="What is undecided counts: exit status 3."),
    rules_option,
    click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error."),
)
# fmt: on
