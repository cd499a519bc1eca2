"""From a torch module to a program: what it computes, how its parameters start, how they are trained.

>>> from torch import nn, randn
>>> def factory(N=16):
...     return nn.Sequential(nn.Linear(8, N), nn.ReLU(), nn.Linear(N, 1))
>>> found = trace(factory, lambda N: (randn(4, 8),))
>>> {name: (w.role, str(found.scalings[name].init)) for name, w in found.program.weights.items() if "weight" in name}
{'0.weight': ('embedding', '1'), '2.weight': ('readout', 'N^(-1/2)')}

The steps, each a module of its own: the graph at several widths (:mod:`~scalecalc.trace.graph`), sizes as products of the
growing dims (:mod:`~scalecalc.trace.sizes`), what is computed from numbers alone (:mod:`~scalecalc.trace.constants`), torch's
operations as a program's (:mod:`~scalecalc.trace.operations` and its neighbours, by the :mod:`~scalecalc.trace.recorder`),
parameters (:mod:`~scalecalc.trace.initial`).  Before anything is derived the program is
run on the module's own numbers, and has to reproduce its output and its gradients (:mod:`~scalecalc.trace.check`).
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from scalecalc.errors import InputError
from scalecalc.program import Program
from scalecalc.table import WeightScaling
from scalecalc.trace.check import check
from scalecalc.trace.graph import Graph, at, export, lay_over, set_up
from scalecalc.trace.initial import Initials
from scalecalc.trace.network import record
from scalecalc.trace.optimizers import read
from scalecalc.trace.sizes import Settings

BASE = 32  # the width of a dim whose default the factory does not give
WIDTHS = (2, 4, 8)  # times the base: what is measured, unless told otherwise
QUICK = 6  # matrices between products of growing dims, with which deriving takes seconds


@dataclass(frozen=True)
class Found:
    """A traced module: its program, the scaling of every weight as it was built, and widths to measure it at."""

    program: Program
    scalings: Mapping[str, WeightScaling]
    widths: Mapping[str, Sequence[int]]
    optimizer: str | None = None


def dims_of(factory: Callable[..., Any], options: Mapping[str, Any], fix: Mapping[str, int]) -> dict[str, int]:
    """The growing dims of a factory, its positional arguments, with a width each to begin at.

    Raises:
        InputError: it has none, or takes an option or a dim that it does not name.
    """
    known = inspect.signature(factory).parameters
    for key in (*options, *fix):
        if key not in known:
            what = f"--fix {key}" if key in fix else f"the option {key}"
            raise InputError(f"{what}: the factory has no argument {key!r}; it takes {', '.join(known) or 'none'}.")
    dims: dict[str, int] = {}
    for name, parameter in known.items():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or name in options or name in fix:
            continue
        default = parameter.default
        if default is not parameter.empty and (not isinstance(default, int) or isinstance(default, bool)):
            raise InputError(
                f"the argument {name}={default!r} of the factory is no width; make it keyword-only (after a *), which marks "
                "options, or give it a whole number."
            )
        dims[name] = BASE if default is parameter.empty else default
    if not dims:
        raise InputError("the factory has no growing dim: name the widths as its positional arguments, factory(N, M).")
    return dims


def trace(
    factory: Callable[..., Any],
    example_inputs: Callable[..., Any],
    options: Mapping[str, Any] | None = None,
    fix: Mapping[str, int] | None = None,
    name: str = "",
    stated: Collection[str] = (),
) -> Found:
    """Trace ``factory(**dims)`` on ``example_inputs(**dims)``.

    Args:
        factory: returns a module, or a module and its optimizer.  Its positional arguments are the growing dims, their
            defaults the widths to trace at; keyword-only arguments are options.
        example_inputs: a tuple of tensors; it takes those of the factory's arguments that it names.
        options: values of further arguments.
        fix: widths of dims that are held fixed.
        stated: names or patterns of weights whose init a parameterization file says: what they start as is then no error.

    Raises:
        InputError: the module cannot be traced; the message has everything that is in the way.
    """
    fix = fix or {}
    options = {**(options or {}), **fix}
    base = dims_of(factory, {k: v for k, v in options.items() if k not in fix}, fix)
    graph = graph_of(factory, example_inputs, base, options)
    training = read(factory, graph.settings, options)
    trained = {name for name, p in graph.modules[0].named_parameters() if p.requires_grad}
    if training is not None:
        trained &= set(training.rates)
    frozen = {name for name, _ in graph.modules[0].named_parameters()} - trained
    initials, title = Initials(factory, base, options), name or getattr(factory, "__name__", "module")
    network, scalings = record(graph, initials, title, frozen, stated)
    idle = check(graph, network)
    if idle:
        network, scalings = record(graph, initials, title, frozen | idle, stated)
        check(graph, network)
        network.program.remarks.append(
            f"no effect on the output, whatever they are, so never trained: {', '.join(sorted(idle))}."
        )
    if graph.taken_down:
        network.program.remarks.append("torch.export does not take this module; its operations were taken down by make_fx.")
    if frozen:
        network.program.remarks.append(f"not trained: {', '.join(sorted(frozen))}.")
    without_epsilon(network.program)
    _announce(network.program)
    if training is not None:
        rates = {w: training.rates[network.origin[w]] for w in scalings}
        scalings = {
            w: replace(s, lr=rates[w].lr, weight_decay=rates[w].weight_decay, epsilon=rates[w].epsilon)
            for w, s in scalings.items()
        }
    widths = {dim: [k * width for k in WIDTHS] for dim, width in base.items()}
    return Found(network.program, scalings, widths, training.optimizer if training is not None else None)


class Slow(UserWarning):
    """A derivation that takes long, with what makes it quick."""


def _announce(program: Program) -> None:
    """Many matrices from one product of growing dims to another: adaptive optimizers take minutes to derive.

    One layer of a transformer has six, and takes ten seconds.
    """
    large = [name for name, w in program.weights.items() if len(program.growing(w.axes)) > 3]
    if len(large) > QUICK:
        hold = " or ".join(f"--fix {dim}=…" for dim in program.dims)
        some = f"{', '.join(large[:2])} and {len(large) - 2} more"
        text = f"{some} have several growing dims on either side, which takes minutes to derive for Adam"
        warnings.warn(f"{text}; {hold} is quick.", Slow, stacklevel=4)


def graph_of(
    factory: Callable[..., Any], example_inputs: Callable[..., Any], base: Mapping[str, int], options: Mapping[str, Any]
) -> Graph:
    """The module's graph, at the base widths and with each dim doubled."""
    settings = Settings.around(base)
    modules: list[nn.Module] = []
    inputs: list[tuple[torch.Tensor, ...]] = []
    for widths in settings.all:
        module, _ = set_up(factory, widths, options)
        modules.append(module.double())
        inputs.append(_inputs(example_inputs, {**options, **widths}))
    exported = [export(copy.deepcopy(m), x, widths) for m, x, widths in zip(modules, inputs, settings.all, strict=True)]
    return lay_over(exported, settings, modules, inputs)


def _inputs(example_inputs: Callable[..., Any], arguments: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    known = inspect.signature(example_inputs).parameters
    every = any(p.kind is p.VAR_KEYWORD for p in known.values())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            found = example_inputs(**{k: v for k, v in arguments.items() if every or k in known})
        except Exception as error:
            raise InputError(f"example_inputs({at(arguments)}) fails: {type(error).__name__}: {error}.") from error
    found = (found,) if isinstance(found, torch.Tensor) else found
    if not isinstance(found, tuple) or not all(isinstance(x, torch.Tensor) for x in found):
        raise InputError("example_inputs returns no tuple of tensors; return (x,).")
    return tuple(x.double() if x.is_floating_point() else x for x in found)


def without_epsilon(program: Program) -> None:
    """The ε of norms set to zero from here on, with a remark: the law takes it to be small, and so is it measured."""
    found = {op.params["eps"] for op in program.ops if op.params.get("eps")}
    for i, op in enumerate(program.ops):
        if op.params.get("eps"):
            program.ops[i] = replace(op, params={**op.params, "eps": 0.0})
    if found:
        program.remarks.append(
            f"the norms' ε ({', '.join(f'{e:g}' for e in sorted(found))}) is taken to be negligible, as long as what is "
            "normalised does not vanish."
        )

