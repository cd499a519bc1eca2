"""Which jobs a sweep has: parameterizations × widths × rates × seeds, each parameterization resolved to its exponents.

Exponents are derived from the program that belongs to the network, for the optimizer that trains it: a published
parameterization by its rule, ``solved`` by the solver along the proportional path, a file as it stands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scalecalc.errors import InputError, UnknownName
from scalecalc.parameterization import Parameterization
from scalecalc.transfer.config import Setup, Sweep
from scalecalc.transfer.records import Job

LOSS = "cross_entropy"


def schemes(program: str, names: Sequence[str], optimizer: str) -> list[Parameterization]:
    """The parameterizations of a program by name; ``solved`` is the one that the solver finds.

    Raises:
        UnknownName, InputError: see :func:`scalecalc.model.parameterize`.
        Contradiction: nothing keeps this model stable and learning.
    """
    from scalecalc.model import parameterize
    from scalecalc.torch import without_multipliers

    out: list[Parameterization] = []
    for name in names:
        if name == "solved":
            from scalecalc.solve import solve

            found = solve(program, optimizer=optimizer, loss=LOSS)
        else:
            found = parameterize(program, name, optimizer=optimizer)
        free = without_multipliers(found)
        # a plain one: a solution carries its derivation, which no worker needs
        out.append(Parameterization(name, free.optimizer, free.dims, dict(free.scalings), dict(free.axes), free.exact))
    return out


def grid(
    sweep: Sweep,
    schemes: Sequence[Parameterization],
    dims: Sequence[Mapping[str, int]],
    log2_rates: Sequence[float] | Mapping[str, Sequence[float]],
    seeds: int,
) -> list[Setup]:
    """One job per parameterization, widths, rate and seed: all weights at one rate.

    Args:
        log2_rates: for all parameterizations, or by the name of each.
    """
    of = log2_rates if isinstance(log2_rates, Mapping) else dict.fromkeys((s.name for s in schemes), log2_rates)
    return [
        Setup(sweep, scheme, dict(at), rate, seed)
        for scheme in schemes for at, rate, seed in itertools.product(dims, of[scheme.name], range(seeds))
    ]  # fmt: skip


def decoupled(first: Sequence[Setup], ended: Sequence[Job], group: str, members: Sequence[str]) -> list[Setup]:
    """The same jobs with one group's rate swept, the others at the rate that was best for all (per parameterization, widths).

    Raises:
        UnknownName: the group names a weight that there is not.
    """
    for weight in members:
        if weight not in first[0].scheme:
            raise UnknownName(f"weight of the group {group}", weight, first[0].scheme)
    best = tuned(ended)
    out: list[Setup] = []
    for one in first:
        others = best.get((one.scheme.name, tuple(sorted(one.dims.items()))))
        if others is not None:
            out.append(replace(one, group=group, members=tuple(sorted(members)), log2_others=others))
    return out


def tuned(jobs: Sequence[Job]) -> dict[tuple[str, tuple[tuple[str, int], ...]], float]:
    """Per parameterization and widths, the swept rate with the least mean loss; one at which a seed diverged has none."""
    losses: dict[tuple[str, tuple[tuple[str, int], ...]], dict[float, list[float]]] = {}
    for job in jobs:
        if not job.group:
            own = losses.setdefault((job.parameterization, tuple(sorted(job.dims.items()))), {})
            own.setdefault(job.log2_rate, []).append(job.loss if job.loss is not None else math.inf)
    means = {where: {rate: sum(all_) / len(all_) for rate, all_ in own.items()} for where, own in losses.items()}
    return {where: min(own, key=own.__getitem__) for where, own in means.items() if min(own.values()) < math.inf}


def parse_widths(texts: Sequence[str], base: Mapping[str, int], known: Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """``["N_u=64:256", "N_x=8,16 N_u=128"]``: each text is a product of widths, and dims that it does not name stay at base.

    >>> parse_widths(["N_u=64:128", "N_x=8,16 N_u=128"], {"N_x": 8}, {"N_u": (64,), "N_x": (16,)})
    [{'N_u': 64, 'N_x': 8}, {'N_u': 128, 'N_x': 8}, {'N_u': 128, 'N_x': 16}]

    Args:
        base: widths at base, of some dims; others have the least of their widths.
        known: the dims of the model, with the widths to train at where nothing is said.

    Raises:
        InputError: malformed text, a dim that the model does not have or that is named twice in one text.
    """
    from scalecalc.request import parse_product

    lines = [parse_product(text) for text in texts] or [{dim: list(widths)} for dim, widths in known.items()]
    for dim in (*base, *(dim for line in lines for dim in line)):
        if dim not in known:
            raise UnknownName("growing dim of the model", dim, known)
    at = base_of(lines, base, known)
    out: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}
    for line in lines:
        full = {dim: line.get(dim, [at[dim]]) for dim in known}
        for widths in itertools.product(*full.values()):
            one = dict(zip(full, widths, strict=True))
            out[tuple(one.items())] = one
    return list(out.values())


def base_of(
    lines: Sequence[Mapping[str, Sequence[int]]], base: Mapping[str, int], known: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """The width of every dim at base: the one given, or the least."""
    least = {dim: min((w for line in lines for w in line.get(dim, ())), default=known[dim][0]) for dim in known}
    return {**least, **base}


def rates_of(texts: Sequence[str], names: Sequence[str], usual: str) -> dict[str, list[float]]:
    """The rates of each parameterization: its own, ``sp=-10:-4``, else those for all, else the ``usual``.

    >>> rates_of(["-3:-1", "sp=-5,-4"], ["sp", "mup"], "-9:-1")
    {'sp': [-5.0, -4.0], 'mup': [-3.0, -2.0, -1.0]}

    Raises:
        InputError: rates are malformed, are given twice, or are those of a parameterization that is not swept.
    """
    given: dict[str, list[float]] = {}
    for text in texts:
        name, _, rates = text.rpartition("=")
        if name in given:
            raise InputError(f"--rates gives those of {name} twice." if name else "--rates for all is given twice.")
        if name and name not in names:
            raise UnknownName("swept parameterization", name, names)
        given[name] = parse_rates(rates)
    return {name: given.get(name) or given.get("") or parse_rates(usual) for name in names}


def parse_rates(text: str) -> list[float]:
    """``-12:-4`` (every whole power of two between them), ``-12:-4:0.5`` (with that step) or ``-12,-10.5``, in log2.

    >>> parse_rates("-3:-1"), parse_rates("-2:-1:0.5"), parse_rates("-3,-1.5")
    ([-3.0, -2.0, -1.0], [-2.0, -1.5, -1.0], [-3.0, -1.5])

    Raises:
        InputError: the text has none of these forms.
    """
    forms = "write --rates -12:-4 for the rates 2^-12 to 2^-4, --rates -12:-4:0.5 for half steps, or --rates -12,-10"
    try:
        if ":" in text:
            low, high, *step = map(float, text.split(":"))
            (by,) = step or (1.0,)
            if not (low <= high and by > 0 and (high - low) / by <= 1000):
                raise ValueError
            found = [low + i * by for i in range(round((high - low) / by + 1e-9) + 1) if low + i * by <= high + 1e-9]
        else:
            found = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--rates {text!r} is malformed; {forms}.") from None
    if not all(math.isfinite(rate) and abs(rate) <= 64 for rate in found):
        raise InputError(f"--rates {text!r}: a power of two between -64 and 64 is wanted; {forms}.")
    if len(set(found)) < len(found):
        raise InputError(f"--rates {text!r} gives a rate twice.")
    return sorted(found)
