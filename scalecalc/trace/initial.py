"""What a parameter is at initialisation, from several seeds and widths.

A parameter (or, where the module slices it, a piece of one) is

- *exact* if it is the same from every seed: a constant, or a function of the index along one axis (n, log n, 1/n …), found
  among :data:`~scalecalc.trace.exact.PROFILES` and verified to rounding at every width;
- *random* if it is not: its entries have to be independent, alike along growing axes and centred about nothing or about a
  mean; the mean's size, and theirs about it, are powers of the widths, the second read off their standard deviations.  Where
  a parameter has as many entries at every width (a bias of one entry, one number per head) it is drawn at all of them from
  the same random numbers: entries that are then a constant multiple of each other say the power with no error at all.

Each of these is tested, and what fails a test is an error with the numbers.  A matrix with orthogonal rows or columns is
known as one; its law is that of independent entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from zlib import crc32

import sympy as sp
import torch

from scalecalc.scale import Scale
from scalecalc.trace.exact import PROFILES, ROUNDING, function_of_index, number, same_along
from scalecalc.trace.graph import at, set_up
from scalecalc.trace.sizes import Form
from scalecalc.trace.tape import Recording, Tape
from scalecalc.trace.traced import Refusal, stretch

SEEDS = 3
MOST_SEEDS = 512
GROWTH = ((1, 8, 64), (1, 4, 16), (1, 2, 8), (1, 2, 4))  # of one dim, the others at their base
LARGEST = 4e6  # entries of all parameters together: with more the widths grow less
SURE = 4.5  # standard errors: one test in 10⁵ is wrong
POWERS = sorted({Fraction(k, d) for d in (3, 4) for k in range(-3 * d, 3 * d + 1)})  # what exponents are
MARGIN = 0.035  # a fitted exponent is that near to one of them, which are 1/12 apart, and its error three times smaller
FEW = 200  # entries whose spread says nothing of a mean yet
ROUGH = 0.05  # the same where it says no exponent, but how far a mean is off zero
PRECISE = 0.011  # relative error of a standard deviation, where the last two widths have to say the exponent


@dataclass(frozen=True)
class Initial:
    """``exact``: an expression in n, the index along axis ``along`` (None: a constant); else ``scale`` and ``mean``.

    ``values``: exact numbers along some axes of fixed size, ``axes``, that are no function of an index.

    The mean is ``mean`` times ``mean_scale``.
    """

    exact: sp.Expr | None = None
    along: int | None = None
    scale: Scale = field(default_factory=Scale.one)
    mean: sp.Expr | None = None
    mean_scale: Scale = field(default_factory=Scale.one)
    spread: float = 1.0  # with a mean: the standard deviation at scale one
    orthogonal: bool = False
    values: Any = None
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class PartForm:
    """A piece of an axis at any width: what is above it, how long what it is a part of is, the number of stretches of that,
    and in each the pieces before it and its own size.  A plain piece is all of one stretch."""

    above: Sequence[Form]
    length: Form
    outer: Form
    before: Sequence[Form]
    own: Form

    def of(self, value: torch.Tensor, axis: int, widths: Mapping[str, int]) -> torch.Tensor:
        def size(form: Form) -> float:
            return float(form.coefficient) * form.scale.at(widths)

        value = value.narrow(axis, round(sum(map(size, self.above))), round(size(self.length)))
        start = round(sum(map(size, self.before)))
        return stretch(value, axis, round(size(self.outer)), start, start + round(size(self.own)))


Parts = Sequence[PartForm]


@dataclass
class Initials:
    """Parameters at several widths and from several seeds, drawn as they are needed.

    From the first seeds by the factory itself, from more by its operations where these can be repeated
    (:mod:`~scalecalc.trace.tape`).
    """

    factory: Callable[..., Any]
    base: Mapping[str, int]
    options: Mapping[str, Any]
    drawn: dict[tuple[int, int], dict[str, torch.Tensor]] = field(default_factory=dict[Any, Any])
    tapes: dict[int, Tape] = field(default_factory=dict[int, Any])
    known: dict[Any, Initial] = field(default_factory=dict[Any, Any])
    settings: list[dict[str, int]] = field(default_factory=list[dict[str, int]])

    def __post_init__(self) -> None:
        count, *doubled = (self._count(widths) for widths in (self.base, *self._doubled()))
        power = max(2.0, *(math.log2(max(more, 1) / max(count, 1)) for more in doubled))  # of a product of three widths, 3
        growth = next((g for g in GROWTH if count * g[-1] ** power <= LARGEST), GROWTH[-1])
        self.settings = [dict(self.base)]
        self.settings += [{**self.base, dim: g * width} for dim, width in self.base.items() for g in growth[1:]]

    def _doubled(self) -> list[dict[str, int]]:
        return [{**self.base, dim: 2 * width} for dim, width in self.base.items()]

    def _count(self, widths: Mapping[str, int]) -> int:
        """The numbers in a module of these widths."""
        return sum(p.numel() for p in self.of(widths, 0).values())

    def of(self, widths: Mapping[str, int], seed: int) -> dict[str, torch.Tensor]:
        module, _ = set_up(self.factory, widths, self.options, seed)
        state = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}
        return {name: value.detach() for name, value in state.items()}

    def has(self, name: str) -> bool:
        """Is it a parameter or a buffer of the module?"""
        return name in self._all(0, 0)

    def alike(self, name: str) -> bool:
        """Is a buffer the same from every seed?  (A tensor of the code's own is none of the module's, and is.)"""
        own = [self._all(0, seed) for seed in range(SEEDS)]
        return name not in own[0] or all(torch.equal(own[0][name], other[name]) for other in own[1:])

    def pieces(self, name: str, parts: Parts, setting: int, seeds: range) -> torch.Tensor:
        """One piece at one setting from several seeds, the first axis."""
        return self._piece(self._drawn(name, setting, seeds), parts, setting)

    def _piece(self, value: torch.Tensor, parts: Parts, setting: int) -> torch.Tensor:
        widths = self.settings[setting]
        for axis, part in enumerate(parts):
            value = part.of(value, 1 + axis, widths)
        return value.to(torch.float64)

    def _drawn(self, name: str, setting: int, seeds: range) -> torch.Tensor:
        """A parameter from several seeds: by itself, if there is a tape of how it is drawn."""
        if seeds.start >= SEEDS:
            # The seed is the parameter's own, so that no two of them, and no two settings, have random numbers in common.
            found = self._tape_at(setting).draw(name, len(seeds), crc32(f"{name} {setting} {seeds.start}".encode()))
            if found is not None:
                return found
        return torch.stack([self._all(setting, seed)[name] for seed in seeds])

    def _all(self, setting: int, seed: int) -> dict[str, torch.Tensor]:
        """Everything from one seed, drawn once."""
        if (setting, seed) not in self.drawn:
            self.drawn[setting, seed] = self.of(self.settings[setting], seed)
        return self.drawn[setting, seed]

    def _tape_at(self, setting: int) -> Tape:
        if setting not in self.tapes:
            self.tapes[setting] = self._tape(setting)
        return self.tapes[setting]

    def _tape(self, setting: int) -> Tape:
        """How the parameters are drawn at one setting, checked against what the factory draws."""
        recording = Recording()
        try:
            with recording:
                state = self.of(self.settings[setting], 0)
            tape = recording.tape(state)
        except Exception:  # some tensors that have no memory of the plain kind
            return Tape([], {}, {})
        for seed in range(SEEDS):
            tape.check(seed, self._all(setting, seed))
        return tape

    def classify(self, name: str, parts: Parts, growing: Sequence[int]) -> Initial:
        """What a piece of a parameter is; ``growing``: its axes that grow.

        Raises:
            Refusal: none of what there is.
        """
        key = name, repr(parts)
        if key not in self.known:
            self.known[key] = self._classify(name, parts, growing)
        return self.known[key]

    def _classify(self, name: str, parts: Parts, growing: Sequence[int]) -> Initial:
        every = range(len(self.settings))
        drawn = [self.pieces(name, parts, k, range(SEEDS)) for k in every]
        alike = [all(torch.equal(own[0], other) for other in own[1:]) for own in drawn]
        if all(alike):
            return self._exact(name, [own[0] for own in drawn], growing)
        if any(alike):
            raise Refusal(f"the parameter {name} is random at some widths and not at others")
        return self._random(name, parts, drawn, growing)

    # ------------------------------------------------------------------ exact

    def _exact(self, name: str, values: Sequence[torch.Tensor], growing: Sequence[int]) -> Initial:
        varying = {k for v in values for k in range(v.dim()) if v.shape[k] > 1 and not same_along(v, k)}
        if not varying:
            numbers = [float(v.reshape(-1)[0]) for v in values]
            scale = self._common(numbers)
            if scale is None:
                raise Refusal(
                    f"the parameter {name} is a constant that is no product of powers of the widths ({self._told(numbers)})"
                )
            return Initial(number(numbers[0] / scale.at(self.settings[0])), scale=scale)
        if len(varying) > 1 and varying & set(growing):
            raise Refusal(
                f"the parameter {name} is the same from every seed and varies along several axes, one of which grows; make "
                "it in forward, from what it is a function of, or start it at random"
            )
        if len(varying) > 1:
            return self._table(name, values, tuple(sorted(varying)))
        (axis,) = varying
        lines = [v.movedim(axis, -1).reshape(-1, v.shape[axis])[0] for v in values]
        if (found := function_of_index(lines)) is not None:
            return Initial(found, axis)
        if axis not in growing:
            return self._table(name, values, (axis,))
        head = ", ".join(f"{float(x):.4g}" for x in lines[0][:4])
        raise Refusal(
            f"the parameter {name} is the same from every seed ({head}, … along its axis {axis}) and no function of the "
            f"index that is known: a·f + b with f one of {', '.join(map(str, PROFILES))}, or a·exp(−b·n/N)"
        )

    def _table(self, name: str, values: Sequence[torch.Tensor], axes: tuple[int, ...]) -> Initial:
        """Numbers along axes of fixed size, times one power of the widths."""
        rest = [k for k in range(values[0].dim()) if k not in axes]
        tables = [v.permute(*axes, *rest).reshape(*(v.shape[k] for k in axes), -1)[..., 0] for v in values]
        place = int(tables[0].abs().argmax())
        numbers = [float(v.reshape(-1)[place]) for v in tables]
        scale = self._common(numbers)
        sizes = [n / numbers[0] for n in numbers]
        alike = all(torch.allclose(v, tables[0] * s, ROUNDING, ROUNDING) for v, s in zip(tables, sizes, strict=True))
        if scale is None or not alike:
            told = self._told(numbers)
            raise Refusal(f"the parameter {name} is the same from every seed, other numbers at other widths ({told})")
        found = tables[0] / scale.at(self.settings[0])
        return Initial(scale=scale, values=_tuples(found.tolist()), axes=axes)

    def _common(self, numbers: Sequence[float]) -> Scale | None:
        """The power of the widths that numbers, one per setting, are proportional to, exactly."""
        powers: dict[str, Fraction] = {}
        for j, dim in enumerate(self.base):
            last = 2 + 2 * j
            if numbers[0] * numbers[last] <= 0:
                continue
            slope = math.log(numbers[last] / numbers[0]) / math.log(self.settings[last][dim] / self.settings[0][dim])
            powers[dim] = Fraction(slope).limit_denominator(4)
        scale = Scale(powers)
        first = numbers[0] / scale.at(self.settings[0])
        found = (first * scale.at(widths) for widths in self.settings)
        return scale if all(abs(x - y) <= ROUNDING * abs(x) for x, y in zip(numbers, found, strict=True)) else None

    def _told(self, numbers: Sequence[float]) -> str:
        return ", ".join(f"{x:.4g} at {at(widths)}" for x, widths in zip(numbers, self.settings, strict=True))

    # ------------------------------------------------------------------ random

    def _random(
        self, name: str, parts: Parts, drawn: list[torch.Tensor], growing: Sequence[int]
    ) -> Initial:
        orthogonal = all(_orthogonal(v) for own in drawn for v in own[:SEEDS])
        self._check_alike(name, drawn, growing, independent=not orthogonal)
        first = next(iter(self.base))
        enough = MARGIN / 5 * math.log(self.settings[2][first] / self.settings[0][first])
        known = {dim: self._multiple(name, parts, drawn, dim, 1 + 2 * j) for j, dim in enumerate(self.base)}
        if None not in known.values():
            moments = self._moments(name, parts, drawn, ROUGH)
        else:
            moments = self._moments(name, parts, drawn, max(enough, PRECISE))
            if not all(self._agreed(moments, dim, 1 + 2 * j) for j, dim in enumerate(self.base)):
                moments = self._moments(name, parts, drawn, PRECISE)
        means = [m for m, _, _, _ in moments]
        centred = all(abs(m) < SURE * s / math.sqrt(count) for m, s, count, _ in moments)
        mean, level = None, Scale.one()
        if not centred:
            errors = [s / math.sqrt(count) for _, s, count, _ in moments]
            mean, level = self._mean(name, means, errors, {dim: p for dim, p in known.items() if p is not None})
        powers: dict[str, Fraction] = {}
        for j, dim in enumerate(self.base):
            power = known[dim]
            power = self._power(name, dim, moments, 1 + 2 * j) if power is None else power
            if power:
                powers[dim] = power
        scale = Scale(powers)
        spread = moments[0][1] / scale.at(self.settings[0])
        return Initial(scale=scale, mean=mean, mean_scale=level, spread=spread, orthogonal=orthogonal)

    def _multiple(
        self, name: str, parts: Parts, drawn: Sequence[torch.Tensor], dim: str, first: int
    ) -> Fraction | None:
        """The exponent of a dim if the same random numbers give the same entries times a number; None if they do not."""
        places = (0, first, first + 1)
        if len({drawn[k].shape[1:] for k in places}) > 1:
            return None
        found = [self._same_numbers(name, parts, k) for k in places]
        if any(v is None for v in found):
            return None
        one, *others = (v for v in found if v is not None)
        at, exponents = one.abs().argmax(), list[Fraction]()
        for k, other in zip(places[1:], others, strict=True):
            ratio = float(other.reshape(-1)[at] / one.reshape(-1)[at])
            if not ratio > 0 or not torch.allclose(other, one * ratio, ROUNDING, 0.0):
                return None
            slope = math.log(ratio) / math.log(self.settings[k][dim] / self.settings[0][dim])
            exponents.append(min(POWERS, key=lambda p, slope=slope: abs(slope - p)))
            if abs(slope - exponents[-1]) > ROUNDING:
                return None
        return exponents[0] if exponents[0] == exponents[1] else None

    def _same_numbers(self, name: str, parts: Parts, setting: int) -> torch.Tensor | None:
        """A piece drawn at one setting from random numbers that do not depend on the setting; None without a tape."""
        found = self._tape_at(setting).draw(name, SEEDS, crc32(name.encode()))
        return None if found is None else self._piece(found, parts, setting)

    def _mean(
        self, name: str, means: Sequence[float], errors: Sequence[float], known: Mapping[str, Fraction]
    ) -> tuple[sp.Expr, Scale]:
        """A mean as a number times a power of the widths, from what it is at each setting and its standard error there.

        ``known``: the powers of those dims that all entries are known to change by.
        """
        powers: dict[str, Fraction] = {}
        for j, dim in enumerate(self.base):
            last, least = 2 + 2 * j, SURE * math.hypot(errors[0], errors[2 + 2 * j])
            if dim in known:
                powers |= {dim: known[dim]} if known[dim] else {}
            elif abs(means[last] - means[0]) > least and means[0] * means[last] > 0:
                slope = math.log(means[last] / means[0]) / math.log(self.settings[last][dim] / self.settings[0][dim])
                powers[dim] = min(POWERS, key=lambda p: abs(slope - p))
        scale = Scale(powers)
        levels = [m / scale.at(widths) for m, widths in zip(means, self.settings, strict=True)]
        errors = [e / scale.at(widths) for e, widths in zip(errors, self.settings, strict=True)]
        weights = [1 / e**2 for e in errors]
        level = sum(w * m for w, m in zip(weights, levels, strict=True)) / sum(weights)
        if any(abs(m - level) > SURE * e for m, e in zip(levels, errors, strict=True)):
            raise Refusal(
                f"the parameter {name} is random about a mean that is no constant times a power of the widths "
                f"({self._told(means)})"
            )
        return sp.Float(level, 6), scale

    def _moments(
        self, name: str, parts: Parts, drawn: list[torch.Tensor], precise: float
    ) -> list[tuple[float, float, int, float]]:
        """Per setting: mean, standard deviation, number of entries, and the relative error of the deviation.

        Seeds are drawn until that is small; those that were are kept in ``drawn``.
        """
        out: list[tuple[float, float, int, float]] = []
        for k in range(len(drawn)):
            while True:
                entries, seeds = drawn[k].reshape(-1), len(drawn[k])
                spread = float(entries.std())
                fourth = float((entries - entries.mean()).pow(4).mean()) / max(spread, 1e-300) ** 4
                error = math.sqrt(max(fourth - 1, 0.1) / (4 * len(entries)))
                if (error < precise and len(entries) >= FEW) or seeds >= MOST_SEEDS:
                    break
                more = self.pieces(name, parts, k, range(seeds, min(2 * seeds, MOST_SEEDS)))
                drawn[k] = torch.cat([drawn[k], more])
            if not spread:
                raise Refusal(f"the parameter {name} has no spread at {at(self.settings[k])}")
            out.append((float(entries.mean()), spread, len(entries), error))
        return out

    def _agreed(self, moments: Sequence[tuple[float, float, int, float]], dim: str, first: int) -> bool:
        """Do all widths of a dim have one clear exponent, from each to the next and from the first to the last?"""
        places, found = (0, first, first + 1), list[tuple[float, float]]()
        for one, two in ((0, 2), (0, 1), (1, 2)):
            a, b = places[one], places[two]
            step = math.log(self.settings[b][dim] / self.settings[a][dim])
            slope = math.log(moments[b][1] / moments[a][1]) / step
            found.append((slope, math.hypot(moments[a][3], moments[b][3]) / step))
        power = min(POWERS, key=lambda p: abs(found[0][0] - p))
        clear = 3 * found[0][1] < MARGIN and abs(found[0][0] - power) < MARGIN
        return clear and all(abs(slope - power) < 3 * error for slope, error in found)

    def _power(self, name: str, dim: str, moments: Sequence[tuple[float, float, int, float]], first: int) -> Fraction:
        """The exponent of the deviation in one dim.

        Between its last two widths, where a fixed size beside it counts least; between the first and the last where there are
        too few entries for that.
        """
        for one, two in ((first, first + 1), (0, first + 1)):
            step = math.log(self.settings[two][dim] / self.settings[one][dim])
            slope = math.log(moments[two][1] / moments[one][1]) / step
            error = math.hypot(moments[one][3], moments[two][3]) / step
            if 3 * error < MARGIN:
                break
        power = min(POWERS, key=lambda p: abs(slope - p))
        if abs(slope - power) > MARGIN or 3 * error > MARGIN:
            raise Refusal(
                f"the size of the parameter {name} changes like {dim}^({slope:.2f} ± {2 * error:.2f}), which is no clear "
                "multiple of 1/4 or 1/3; start it from a power of the widths that is"
            )
        return power

    def _check_alike(
        self, name: str, drawn: Sequence[torch.Tensor], growing: Sequence[int], independent: bool
    ) -> None:
        """Entries independent of each other, and of one size along the growing axes."""
        last = [max((k for k, s in enumerate(self.settings)), key=lambda k: math.prod(drawn[k][0].shape))]
        for k in last:
            for axis in growing:
                squares = torch.stack([v.movedim(axis, 0).reshape(v.shape[axis], -1).square().mean(1) for v in drawn[k]])
                half = squares.shape[1] // 2
                if half < 4:
                    continue
                index = torch.arange(1, squares.shape[1] + 1, dtype=torch.float64).log()
                logs = squares.mean(0).clamp(min=1e-300).log()
                centred = index - index.mean()
                slope = float((centred * logs).sum() / centred.square().sum())
                residual = logs - logs.mean() - slope * centred
                error = float(residual.square().mean().sqrt() / centred.square().sum().sqrt())
                if abs(slope) > SURE * error + 0.02:
                    raise Refusal(
                        f"the entries of the parameter {name} are random and fall or grow along its axis {axis} "
                        f"(like index^{slope / 2:.2f}), which has no rule"
                    )
                if independent:
                    self._check_independent(name, [v.movedim(axis, 0).reshape(v.shape[axis], -1) for v in drawn[k]])

    def _check_independent(self, name: str, rows: Sequence[torch.Tensor]) -> None:
        """Squared cosines of rows are 1/length on average: less if they are orthogonal, more if they share something."""
        few = [r[:64] - r.mean() for r in rows]
        count, length = few[0].shape
        if count < 2 or length < 2:
            return
        found = []
        for r in few:
            unit = r / r.norm(dim=1, keepdim=True).clamp(min=1e-300)
            cosines = (unit @ unit.T).square()
            found.append(float((cosines.sum() - count) / (count * (count - 1))) * length)
        mean = sum(found) / len(found)
        allowed = 5 * math.sqrt(2 / (len(found) * count * (count - 1) / 2)) + 0.1
        if abs(mean - 1) > allowed:
            raise Refusal(
                f"the rows or columns of the parameter {name} are not independent at initialisation (squared cosines "
                f"{mean:.2f} times those of independent ones); only independent entries, and orthogonal matrices, have a rule"
            )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _orthogonal(v: torch.Tensor) -> bool:
    """Has a matrix orthogonal rows (or columns, where these are fewer), all of one length?"""
    if v.dim() != 2 or min(v.shape) < 2:
        return False
    v = v if v.shape[0] <= v.shape[1] else v.mT
    products = v @ v.mT
    size = float(products.diagonal().mean())
    return bool((products - size * torch.eye(len(products), dtype=v.dtype)).abs().max() <= 1e-4 * size)
