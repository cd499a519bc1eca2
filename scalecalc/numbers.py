"""From exponents to numbers: only ratios count, (N_target/N_base)^exponent, times what the user has at base.

A parameterization says how things scale, never how large they are: the prefactors are the user's, found by tuning one
model.  So every number at the target is the number at base times the monomial's ratio between the two widths, and at base
everything is as it was.  A power of a logarithm is the same power of the ratio of the logarithms, log N_target / log N_base.

>>> from scalecalc.scale import Scale
>>> growth = Growth({"N": 256}, {"N": 4096})
>>> growth.factor(Scale.of("N", "-1/2")), growth.factor(Scale.log("N")), growth.factor(Scale.one())
(0.25, 1.5, 1.0)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from scalecalc import globs
from scalecalc.errors import InputError
from scalecalc.parameterization import Parameterization
from scalecalc.scale import Scale
from scalecalc.solution import Solution
from scalecalc.table import WeightScaling

if TYPE_CHECKING:
    import pandas

QUANTITIES = {"std": "init", "multiplier": "multiplier", "lr": "lr", "weight_decay": "weight_decay", "epsilon": "epsilon"}
"""What a weight has a number of → the field of its scaling that says how it scales."""
WORDS = {"weight_decay": "weight decay", "epsilon": "ε"}
OPTION = {"weight_decay": "weight_decay", "epsilon": "eps"}
Given = float | Mapping[str, float]
ALIKE = 0.05  # by how much the powers by which dims grow may differ: widths are whole numbers


@dataclass(frozen=True)
class Growth:
    """How much wider the target is than the base, dim by dim.

    Args:
        base: widths at base; of the dims in ``ratios`` only where logarithms need them.
        target: widths at the target.
        ratios: target over base, where they are not those of the widths.
    """

    base: Mapping[str, int]
    target: Mapping[str, int]
    ratios: Mapping[str, Fraction] = field(default_factory=dict[str, Fraction])

    def ratio(self, dim: str) -> Fraction:
        """Target over base; 1 for a dim of which nothing is said."""
        if dim in self.ratios:
            return self.ratios[dim]
        return Fraction(self.target[dim], self.base[dim]) if dim in self.base else Fraction(1)

    def factor(self, scale: Scale) -> float:
        """What a monomial is multiplied with between base and target; exactly 1 where none of its dims changes.

        Raises:
            InputError: a logarithm needs a width that is unknown, or is taken of 1.
        """
        value = 1.0
        for dim, e in scale.powers:
            value *= float(self.ratio(dim)) ** float(e)
        for dim, e in scale.logs:
            if self.ratio(dim) == 1:
                continue
            if dim not in self.base or dim not in self.target:
                raise InputError(
                    f"a size goes with log {dim}, so that the width itself is needed, not its ratio alone: give both as "
                    f"numbers, base={{{dim!r}: …}} and widths={{{dim!r}: …}}."
                )
            low, high = self.base[dim], self.target[dim]
            if min(low, high) < 2:
                raise InputError(f"a size goes with log {dim}, and log 1 is 0: no width of {dim} can be 1.")
            value *= (math.log(high) / math.log(low)) ** float(e)
        return value


@dataclass(frozen=True)
class Values:
    """The numbers of one weight at one width.

    Args:
        std: of its initial entries; None where they are exact (a gain of one).
        multiplier: what the network multiplies the weight with.
        lr: the learning rate.
        weight_decay: as the optimizer takes it; None if none was given.
        epsilon: the optimizer's ε; None if none was given.
    """

    std: float | None
    multiplier: float
    lr: float
    weight_decay: float | None = None
    epsilon: float | None = None


@dataclass(frozen=True, eq=False)
class Numbers(Mapping[str, Values]):
    """Per weight its numbers at base and at the target; as a mapping, those at the target.

    Args:
        growth: widths at base and at the target.
        base: weight → its numbers at base.
        target: weight → its numbers at the target.
        notes: what a reader must know.
    """

    parameterization: Parameterization
    growth: Growth
    base: Mapping[str, Values]
    target: Mapping[str, Values]
    notes: tuple[str, ...] = ()

    def __getitem__(self, weight: str) -> Values:
        return self.target[weight]

    def __iter__(self) -> Iterator[str]:
        return iter(self.target)

    def __len__(self) -> int:
        return len(self.target)

    def __str__(self) -> str:
        from scalecalc.report.numbers import render

        return render(self, "table", width=120)

    def to_pandas(self) -> pandas.DataFrame:
        """One line per weight and quantity: its exponents, its number at base and at the target."""
        import pandas

        from scalecalc.report.numbers import records

        return pandas.DataFrame(list(records(self)))


def numbers(
    parameterization: Parameterization,
    *,
    base: Mapping[str, int],
    target: Mapping[str, int],
    lr: Given,
    std: Given | None = None,
    weight_decay: Given | None = None,
    eps: Given | None = None,
) -> Numbers:
    """Initial standard deviation, multiplier, rate, weight decay and ε of every weight, at base and at the target.

    >>> scaling = WeightScaling(init=Scale.of("N", "-1/2"), multiplier=Scale.one(), lr=Scale.of("N", -1))
    >>> p = Parameterization("mine", "adam", ("N",), {"W": scaling}, {"W": ("N", "N")})
    >>> wide = numbers(p, base={"N": 256}, target={"N": 4096}, lr=3e-4)
    >>> wide.base["W"].std, wide["W"].std, wide["W"].lr
    (0.0625, 0.015625, 1.875e-05)

    Args:
        base: widths at which the user's numbers hold.
        target: widths to go to; a dim that is left out stays as it is at base.
        lr: the rate at base: one number, or one per weight (``{"*": 3e-4, "W_out": 1e-3}``; names or shell patterns).
        std: of the initial weights at base, likewise; of weights left out it is fan-in^(−1/2).  A fan-in that does not
            grow is not known here and counts as 1; a note says so.
        weight_decay: at base, as the optimizer takes it.
        eps: the optimizer's ε at base.

    Raises:
        InputError: a dim that the parameterization does not have or a width that is none; a number that is none; weight
            decay or ε that the parameterization does not scale.
    """
    growth = Growth(*widths(parameterization.dims, base, target))
    known: dict[str, dict[str, float | None]] = {
        "lr": number_of(parameterization, "lr", lr),
        "std": number_of(parameterization, "std", std, some=True),
        "weight_decay": number_of(parameterization, "weight_decay", weight_decay),
        "epsilon": number_of(parameterization, "epsilon", eps),
    }
    before: dict[str, Values] = {}
    after: dict[str, Values] = {}
    unknown_fans: list[str] = []
    for name, scaling in parameterization.items():
        given = known["std"][name]
        if name in parameterization.exact:
            given = None
        elif given is None:
            given, whole = _default_std(parameterization, name, growth)
            unknown_fans += [] if whole else [name]
        lr_here = known["lr"][name]
        assert lr_here is not None
        before[name] = Values(given, 1.0, lr_here, known["weight_decay"][name], known["epsilon"][name])
        after[name] = scaled(before[name], scaling, growth)
    notes = list(off_path(parameterization, growth))
    if unknown_fans:
        notes.append(
            f"The fan-in of {', '.join(unknown_fans)} does not grow and is not known here: the std of 1 at base stands for "
            "fan-in^(-1/2), or for whatever it is in your code; give it by --std (std= in Python)."
        )
    return Numbers(parameterization, growth, before, after, tuple(notes))


def scaled(base: Values, scaling: WeightScaling, growth: Growth) -> Values:
    """The numbers at the target that belong to those at base.

    Raises:
        InputError: weight decay or ε that the parameterization does not scale.
    """
    out: dict[str, float | None] = {}
    for quantity, of in QUANTITIES.items():
        number: float | None = getattr(base, quantity)
        scale: Scale | None = getattr(scaling, of)
        if number is not None and number != 0 and scale is None:
            raise InputError(
                f"the parameterization does not say how {WORDS[quantity]} scales. Solve for an optimizer that has it "
                f"(scalecalc list optimizers); or leave it out here and give it to the optimizer itself, the same at every "
                f"width: {OPTION[quantity]}={number:g}."
            )
        out[quantity] = number if number is None or scale is None else number * growth.factor(scale)
    lr, multiplier = out["lr"], out["multiplier"]
    assert lr is not None and multiplier is not None
    return Values(out["std"], multiplier, lr, out["weight_decay"], out["epsilon"])


def widths(
    dims: Sequence[str], base: Mapping[str, int], target: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Base and target widths, checked; a dim that is not given at the target stays.

    Raises:
        InputError: no such dim, a width that is no whole number above zero, or a dim given at the target only.
    """
    for where, given in (("base", base), ("target", target)):
        for dim, width in given.items():
            if dim not in dims:
                raise InputError(f"{where}: there is no growing dim {dim!r}; the dims: {', '.join(dims) or 'none'}.")
            if isinstance(width, bool) or not isinstance(width, int) or width < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InputError(f"{where}: {dim} is a whole number above zero, not {width!r}.")
    if missing := [dim for dim in target if dim not in base]:
        raise InputError(f"{', '.join(missing)}: given at the target but not at base; say there, too, how wide it is.")
    return dict(base), {**base, **target}


def number_of(
    parameterization: Parameterization, quantity: str, given: Given | None, *, some: bool = False
) -> dict[str, float | None]:
    """The number given for every weight; ``some``: not all need have one.

    Raises:
        InputError: no number in range, a pattern that matches no weight, a weight that none matches.
    """
    name = OPTION.get(quantity, quantity)
    if given is None:
        return dict.fromkeys(parameterization)
    if not isinstance(given, Mapping):
        return dict.fromkeys(parameterization, checked(name, given))
    if without := globs.idle(given, parameterization):
        raise InputError(f"{name}: {', '.join(without)} matches no weight; the weights: {', '.join(parameterization)}.")
    out: dict[str, float | None] = {}
    for weight in parameterization:
        key = globs.chosen(given, weight)
        if key is None and not some:
            raise InputError(f"{name}: nothing is given for {weight}; add it, or '*' for all others.")
        out[weight] = checked(name, given[key]) if key is not None else None
    return out


def checked(name: str, value: float) -> float:
    """A finite number: above zero; weight decay and ε may be zero.

    Raises:
        InputError: it is none.
    """
    lowest = name in OPTION.values()
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"{name} is a finite number, not {value!r}.")
    if value < 0 or value == 0 and not lowest:
        raise InputError(f"{name} is a number {'not below' if lowest else 'above'} zero, not {value!r}.")
    return float(value)


def _default_std(parameterization: Parameterization, name: str, growth: Growth) -> tuple[float, bool]:
    """Fan-in^(−1/2) at base, and whether all of the fan-in is known."""
    axes = parameterization.axes.get(name, ())
    inner = axes[-1] if len(axes) > 1 else ""
    if not inner:
        return 1.0, False
    if inner not in growth.base:
        raise InputError(f"the initial std of {name} is {inner}^(-1/2) unless given: say at base how wide {inner} is.")
    return float(growth.base[inner]) ** -0.5, True


def off_path(parameterization: Parameterization, growth: Growth) -> Iterator[str]:
    """A note if the dims grow in another way than the exponents were solved for."""
    if not isinstance(parameterization, Solution) or parameterization.regime.kind != "path":
        return
    regime, dims = parameterization.regime, parameterization.dims
    logs = {dim: math.log(growth.ratio(dim)) for dim in dims}
    if len(dims) < 2 or not any(logs.values()):
        return
    rates = {**dict.fromkeys(dims, Fraction(1)), **dict(regime.rates)}
    per = [logs[dim] / float(rates[dim]) for dim in dims]
    if max(per) - min(per) <= ALIKE * max(map(abs, per)):
        return
    grown = ", ".join(f"{dim} {float(growth.ratio(dim)):g}-fold" for dim in dims)
    still = [dim for dim in dims if not logs[dim]]
    how = " ".join(f"--fix {dim}={growth.base.get(dim, '…')}" for dim in still) or "another --regime"
    base = dims[0]
    if not still and all(logs[dim] * logs[base] > 0 for dim in dims):
        powers = {dim: Fraction(logs[dim] / logs[base]).limit_denominator(12) for dim in dims[1:]}
        text = ", ".join(f"{dim}={base}^{power}" for dim, power in powers.items())
        how = f"--regime {text}" if len(powers) == 1 else f'--regime "{text}"'
    yield (
        f"The exponents hold as {' and '.join(dims)} grow in the regime {regime.text}, but from base to target it is {grown}"
        f": solve with {how} for such widths."
    )
