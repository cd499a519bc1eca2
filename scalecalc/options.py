"""The options that several commands share, and the types of what they take.

Nothing heavy is imported before a value has to be looked up: ``--help`` must answer at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from scalecalc.report.formats import FORMATS

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
            self.fail(f"{value!r} is no finite number above zero.", param, ctx)
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


class Plural(click.ParamType):
    """A kind of registered thing, in the plural; a new kind needs no edit here."""

    name = "kind"

    @staticmethod
    def kinds() -> dict[str, str]:
        from scalecalc.rule import KINDS

        return {"models" if kind == "architecture" else f"{kind}s": kind for kind in KINDS}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        kinds = self.kinds()
        if value not in kinds:
            self.fail(f"{value!r} is none of {', '.join(kinds)}.", param, ctx)
        return kinds[value]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(kind) for kind in self.kinds() if kind.startswith(incomplete)]


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
model_argument = click.argument("model", type=Registered("architecture"), metavar="MODEL")
parameterization_option = click.option(
    "--parameterization",
    type=Registered("parameterization"),
    metavar="NAME|FILE",
    help="A registered name, or a TOML or JSON file.  [default: the one the model names]",
)


def _deriving(regime: str, output: Callable[[Any], Any] = output_options) -> Callable[[Any], Any]:
    return options(
        click.option(
            "--optimizer",
            type=Registered("optimizer"),
            metavar="NAME",
            help="With :clip=yes behind it, gradients clipped.  [default: the one the model names, else adam]",
        ),
        click.option(
            "--regime",
            default=regime,
            show_default=True,
            metavar="REGIME",
            help="How the dims grow against each other: free, proportional, N_u>N_x, N_x=N_u^1/2, or, of more dims, "
            "'N=s^2, L=s, batch=s^3'.",
        ),
        click.option(
            "--loss",
            type=click.Choice(["linear", "mse", "logistic", "cross_entropy", "noisy"]),
            default="linear",
            show_default=True,
        ),
        click.option("--fix", multiple=True, metavar="DIM=N", help="Hold a dim at one width: N_x=16. Repeatable."),
        rules_option,
        output,
        click.option("--quiet", is_flag=True, help="No progress and no remarks on standard error."),
    )


alignment_option = click.option(
    "--alignment",
    default="derived",
    show_default=True,
    metavar="HOW",
    help="Of sums: derived; full or none as Everett et al. assume; or the JSON file of a verify run, as measured there.",
)
deriving_options = _deriving("free")
folder_option = click.option(
    "-o", "--output", type=click.Path(), default="report", show_default=True, metavar="DIR", help="Made if need be."
)
reporting_options = _deriving("free", folder_option)
measuring_options = options(
    click.option("--dims", multiple=True, metavar="DIM=A:B", help="Widths: N_u=64:1024 or N_u=64,96,128. Repeatable."),
    click.option("--seeds", type=click.IntRange(2), metavar="N", help="Random seeds per width.  [default: chosen]"),
    click.option("--budget", type=Number(), default=120.0, show_default=True, metavar="SECONDS", help="Time to measure."),
    click.option("--tolerance", type=Number(), metavar="X", help="How far a slope may be off.  [default: chosen]"),
    click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda or cuda:1."),
    click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float64", show_default=True),
)
solving_options = _deriving("proportional")
model_options = options(model_argument, parameterization_option, deriving_options)
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")


def _number(option: str, words: str) -> Callable[[Any], Any]:
    return click.option(option, multiple=True, metavar="X", help=f"{words}; W_in=X for one weight. Repeatable.")


number_options = options(
    click.option("--base", multiple=True, metavar="DIM=N", help="Print numbers: the width that yours are for. Repeatable."),
    click.option("--target", multiple=True, metavar="DIM=N", help="The width to go to; a dim not given stays. Repeatable."),
    _number("--lr", "The rate at base"),
    _number("--std", "Initial standard deviations at base, where they are not fan-in^(-1/2)"),
    _number("--weight-decay", "Weight decay at base"),
    _number("--eps", "The optimizer's ε at base"),
)
