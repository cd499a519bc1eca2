"""Θ monomials: how a size depends on the growing dims.

A :class:`Scale` is Θ(∏ N_i^{a_i} · ∏ (log N_i)^{b_i}) with exact rational exponents.  It knows nothing about tensors.
A :class:`Regime` says how the dims grow against each other, and with that which of two scales is the larger one:

- free: all dims grow independently.  s = O(t) only if s/t stays bounded however they grow; many pairs are incomparable.
- ordered ``N_u>N_x``: N_u → ∞ first, then N_x; scales compare lexicographically.
- path ``N_x=N_u^1/2`` or ``proportional``: every dim is a power of one of them, or, ``N=s^2, L=s, batch=s^3``, of a number
  that grows; scales compare by their total power.

All dims are ≥ 1, logs are natural and only their order matters.

>>> s = Scale.of("N_u", "-1/2") * Scale.of("N_x", 1) * Scale.log("N_x")
>>> print(s)
N_u^(-1/2) N_x log N_x
>>> s <= Scale.of("N_x", 2)
True
>>> s <= Scale.of("N_x", 1)
False
>>> Regime.parse("proportional").order(s, Scale.one())
1
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, lru_cache
from itertools import permutations

from scalecalc.errors import InputError

Exponents = tuple[tuple[str, Fraction], ...]
_INTERNED: dict[tuple[object, ...], Scale] = {}
ZERO = Fraction(0)
_FRACTION = re.compile(r"([+-]?\d{1,6})(?:\s*/\s*(\d{1,6}))?")
_GREEK = ("alpha", "beta", "gamma", "eta", "kappa", "lambda", "rho", "sigma", "tau")  # dims that LaTeX has as letters


def fraction(text: str | int | Fraction) -> Fraction:
    """An exact rational from ``"p/q"``, an int or a Fraction.  Floats are refused: an exponent is exact or measured.

    >>> fraction("-1/2")
    Fraction(-1, 2)

    Raises:
        InputError: the text is no rational number.
    """
    if isinstance(text, (int, Fraction)):
        return Fraction(text)
    clean = text.strip() if isinstance(text, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance]
    match = _FRACTION.fullmatch(clean[1:-1] if clean[:1] + clean[-1:] == "()" else clean)
    if match is None or match[2] and int(match[2]) == 0:
        raise InputError(f"{text!r} is no exponent; write a whole number or a fraction such as -1/2.")
    return Fraction(int(match[1]), int(match[2] or 1))


def _clean(exponents: Mapping[str, Fraction]) -> Exponents:
    return tuple(sorted((dim, e) for dim, e in exponents.items() if e))


def _combine(a: Exponents, b: Exponents, sign: int) -> Exponents:
    if not b:
        return a
    if not a and sign > 0:
        return b
    total = dict(a)
    for dim, e in b:
        mine = total.get(dim)
        if mine is None:
            total[dim] = e if sign > 0 else -e
        else:
            total[dim] = mine + e if sign > 0 else mine - e
    return _clean(total)


class Scale:
    """Θ(∏ N_i^{a_i} ∏ (log N_i)^{b_i}), immutable and hashable.

    ``s <= t`` is s = O(t) in the free regime, a partial order; use :meth:`Regime.order` for the others.
    """

    __slots__ = ("logs", "powers")
    powers: Exponents
    logs: Exponents

    def __new__(
        cls, powers: Mapping[str, Fraction] | Exponents = (), logs: Mapping[str, Fraction] | Exponents = ()
    ) -> Scale:
        # Interned: equal scales are one object, so that comparing them, and caching what is done with them, is cheap.
        # By pairs of integers, which are hashed ten times as fast as a Fraction.
        powers = powers if isinstance(powers, tuple) else _clean(powers)
        logs = logs if isinstance(logs, tuple) else _clean(logs)
        key = *[(d, e.as_integer_ratio()) for d, e in powers], None, *[(d, e.as_integer_ratio()) for d, e in logs]
        found = _INTERNED.get(key)
        if found is None:
            found = _INTERNED[key] = object.__new__(cls)
            found.powers, found.logs = powers, logs
        return found

    def __reduce__(self) -> tuple[type[Scale], tuple[Exponents, Exponents]]:
        return Scale, (self.powers, self.logs)

    @staticmethod
    def one() -> Scale:
        return _ONE

    @staticmethod
    @lru_cache(maxsize=None, typed=True)  # a float stays an error, even where an equal int was asked for
    def of(dim: str, power: int | str | Fraction = 1) -> Scale:
        return Scale({dim: fraction(power)})

    @staticmethod
    def log(dim: str, power: int | str | Fraction = 1) -> Scale:
        return Scale((), {dim: fraction(power)})

    @staticmethod
    def from_strings(powers: Mapping[str, str], logs: Mapping[str, str] | None = None) -> Scale:
        """The inverse of :meth:`strings`: ``{"N_u": "-1/2"}`` and, for the logs, the same."""
        return Scale({d: fraction(e) for d, e in powers.items()}, {d: fraction(e) for d, e in (logs or {}).items()})

    def strings(self) -> tuple[dict[str, str], dict[str, str]]:
        """Powers and log powers as JSON wants them; absent dims have exponent 0."""
        return {d: str(e) for d, e in self.powers}, {d: str(e) for d, e in self.logs}

    def power(self, dim: str) -> Fraction:
        return next((e for d, e in self.powers if d == dim), ZERO)

    def log_power(self, dim: str) -> Fraction:
        return next((e for d, e in self.logs if d == dim), ZERO)

    @property
    def dims(self) -> frozenset[str]:
        return frozenset(d for d, _ in self.powers + self.logs)

    def __mul__(self, other: Scale) -> Scale:
        return self if other is _ONE else other if self is _ONE else _product(self, other)

    def __truediv__(self, other: Scale) -> Scale:
        return self if other is _ONE else _quotient(self, other)

    def __pow__(self, power: int | Fraction) -> Scale:
        if power == 1:
            return self
        return _power(self, power.numerator, power.denominator)

    def __le__(self, other: Scale) -> bool:
        """s = O(t) however the dims grow."""
        return _bounded(_quotient(self, other))

    def __lt__(self, other: Scale) -> bool:
        return self is not other and self <= other

    def __ge__(self, other: Scale) -> bool:
        return other <= self

    def __gt__(self, other: Scale) -> bool:
        return other < self

    def at(self, widths: Mapping[str, float]) -> float:
        """The monomial's value at given widths (for fits and plots; logs of widths above 1 only)."""
        import math

        value = 1.0
        for dim, e in self.powers:
            value *= float(widths[dim]) ** float(e)
        for dim, e in self.logs:
            value *= math.log(widths[dim]) ** float(e)
        return value

    def __str__(self) -> str:
        def factor(base: str, e: Fraction, power: str) -> str:
            return base if e == 1 else f"{base}^{power}"

        parts = [factor(d, e, str(e) if e.denominator == 1 and e > 0 else f"({e})") for d, e in self.powers]
        parts += [f"log {d}" if e == 1 else f"(log {d})^({e})" for d, e in self.logs]
        return " ".join(parts) or "1"

    def __repr__(self) -> str:
        return f"Θ({self})"

    def latex(self) -> str:
        r"""LaTeX, with N_u as ``N_{u}``.

        >>> print(Scale.of("N_u", "-1/2").latex(), Scale.of("sigma", -1).latex())
        N_{u}^{-1/2} \sigma^{-1}
        """

        def name(dim: str) -> str:
            head, _, tail = dim.partition("_")
            head = f"\\{head}" if head in _GREEK else head
            return f"{head}_{{{tail}}}" if tail else head

        parts = [name(d) if e == 1 else f"{name(d)}^{{{e}}}" for d, e in self.powers]
        parts += [rf"\log {name(d)}" if e == 1 else rf"(\log {name(d)})^{{{e}}}" for d, e in self.logs]
        return r"\,".join(parts) or "1"


_ONE = Scale()


@cache
def _product(a: Scale, b: Scale) -> Scale:
    return Scale(_combine(a.powers, b.powers, 1), _combine(a.logs, b.logs, 1))


@cache
def _quotient(a: Scale, b: Scale) -> Scale:
    return Scale(_combine(a.powers, b.powers, -1), _combine(a.logs, b.logs, -1))


@cache
def _power(a: Scale, numerator: int, denominator: int) -> Scale:
    power = Fraction(numerator, denominator)
    return Scale({d: e * power for d, e in a.powers}, {d: e * power for d, e in a.logs})


@cache
def _bounded(ratio: Scale) -> bool:
    growing = dict(ratio.powers)
    return all(e < 0 for _, e in ratio.powers) and all(e < 0 or growing.get(d, ZERO) < 0 for d, e in ratio.logs)


@cache
def _free_order(a: Scale, b: Scale) -> int | None:
    return -1 if a <= b else 1 if b <= a else None


class Point:
    """Where the unknowns of a formal scale stand: a scale in the dims for each.

    A formal scale has unknowns beside the dims, such as ``N_u^(1/2) "init W_B"``.  It is affine in their exponents, and is
    compared with others by what it comes to at the point.

    >>> Point({"init W": Scale.of("N", -1)})(Scale.of("N", 2) * Scale.of("init W"))
    Θ(N)
    """

    __slots__ = ("_known", "_parts", "unknowns")

    def __init__(self, unknowns: Mapping[str, Scale]):
        self.unknowns = dict(unknowns)
        self._known: dict[Scale, Scale] = {}
        self._parts: dict[Scale, Scale] = {}

    def __call__(self, scale: Scale) -> Scale:
        found = self._known.get(scale)
        if found is None:
            found = Scale(tuple((d, e) for d, e in scale.powers if d not in self.unknowns), scale.logs)
            for dim, e in scale.powers:
                if dim in self.unknowns:
                    found = found * self.unknowns[dim] ** e
            self._known[scale] = found
        return found

    def tell(self, scale: Scale, value: Scale) -> None:
        """What a formal scale comes to, where that is known without looking."""
        self._known[scale] = value

    def part(self, scale: Scale) -> Scale:
        """The unknowns in it, to their powers."""
        found = self._parts.get(scale)
        if found is None:
            found = self._parts[scale] = Scale(tuple((d, e) for d, e in scale.powers if d in self.unknowns))
        return found

    def known(self, scale: Scale) -> bool:
        """Is it free of unknowns?"""
        return not any(dim in self.unknowns for dim, _ in scale.powers)


@dataclass(frozen=True)
class Regime:
    """How the dims grow against each other: ``free``, ``ordered`` (lexicographic) or ``path`` (one-parameter).

    ``order_of`` lists the dims of an ordered regime, first to infinity first.  ``rates`` maps a dim of a path to its
    power of the path's parameter; dims that are not mentioned have rate 1.  At a ``point`` formal scales are compared by
    what they come to there; those that tie are still told apart.
    """

    kind: str = "free"
    order_of: tuple[str, ...] = ()
    rates: Exponents = ()
    text: str = "free"
    point: Point | None = None
    _signs: dict[Scale, int] = field(default_factory=dict[Scale, int], init=False, repr=False, compare=False)  # as asked

    @staticmethod
    def parse(text: str, dims: Iterable[str] = ()) -> Regime:
        """``free``, ``proportional``, ``N_u>N_x``, ``N_x=N_u^1/2``, or a path of more dims: ``N=s^2, L=s, batch=s^3``.

        Raises:
            InputError: none of these, or a dim that the model does not have, or a path that leaves one out (checked when
                ``dims`` are given).
        """
        from scalecalc.regimes import parse  # which needs this class

        return parse(text, dims)

    def key(self, scale: Scale) -> tuple[Fraction, ...]:
        """What two scales are compared by, largest first, in an ordered regime or on a path."""
        if self.kind == "ordered":
            rest = sorted(scale.dims - set(self.order_of))
            # Dims that the order does not mention come last, together: they cannot change what comes before.
            out: list[Fraction] = []
            for dim in self.order_of:
                out += [scale.power(dim), scale.log_power(dim)]
            return (*out, sum((scale.power(d) for d in rest), ZERO), sum((scale.log_power(d) for d in rest), ZERO))
        rates = dict(self.rates)
        one = Fraction(1)
        return (
            sum((e * rates.get(d, one) for d, e in scale.powers), ZERO),
            sum((e for _, e in scale.logs), ZERO),
        )

    def order(self, a: Scale, b: Scale) -> int | None:
        """−1, 0, 1 as a is smaller than, of the order of, or larger than b; None if neither bounds the other."""
        if a is b:
            return 0
        if self.point is not None:
            a, b = self.point(a), self.point(b)
        return self.compare(a, b)

    def compare(self, a: Scale, b: Scale) -> int | None:
        """The same for two scales without unknowns, as they are at a point."""
        if a is b:
            return 0
        if self.kind == "free":
            return _free_order(a, b)
        ratio = a / b
        sign = self._signs.get(ratio)
        if sign is None:
            key = self.key(ratio)
            zero = tuple(ZERO for _ in key)
            sign = self._signs[ratio] = 0 if key == zero else (1 if key > zero else -1)
        return sign

    def always(self, a: Scale, b: Scale) -> bool:
        """Do a and b compare alike for every value of the unknowns, since they depend on them in the same way?"""
        return self.point is None or self.point.known(a / b)

    def bounded(self, scale: Scale) -> bool:
        """Does the scale stay O(1)?"""
        return self.order(scale, _ONE) in (-1, 0)

    def leading(self, scales: Iterable[Scale]) -> tuple[Scale, ...]:
        """The scales that no other exceeds, without repetition; one, unless the regime leaves several incomparable."""
        unique = list(dict.fromkeys(scales))
        if len(unique) < 2:
            return tuple(unique)
        kept = [s for s in unique if not any(self.order(s, t) == -1 for t in unique)]
        if self.kind != "free" and self.point is None:  # ties along a path are one size
            kept = kept[:1]
        return tuple(sorted(kept, key=lambda s: (s.powers, s.logs)))


def commuting(scales: Iterable[Scale], dims: Iterable[str]) -> bool:
    """Do the limits of the dims commute: does every order in which they go to infinity leave the same leading scale?

    >>> U, X = Scale.of("N_u"), Scale.of("N_x")
    >>> commuting([U, X], ["N_u", "N_x"]), commuting([U * X, X], ["N_u", "N_x"])
    (False, True)
    """
    unique = tuple(dict.fromkeys(scales))
    if len(unique) < 2:
        return True
    orders = (Regime("ordered", order_of=order) for order in permutations(dims))
    return len({order.leading(unique) for order in orders}) == 1


FREE = Regime()
