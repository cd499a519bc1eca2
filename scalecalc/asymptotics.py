"""What sympy knows about functions: leading behaviour in an index, parity, growth, Taylor orders.

A function of one variable is kept as its two half-lines, f(x) and f(−x) for x > 0, plus the order of a singularity at 0
(relu'' is a delta function).  On a half-line sympy's limits are reliable where Max, Heaviside and DiracDelta are not.
Everything is cached; sympy does not sit in the inner loop.

To debug: ``growth(expression, symbol)`` is the logarithmic derivative's limit; print that limit's argument first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property

import sympy as sp

from scalecalc.errors import UnsupportedScale
from scalecalc.expand import Local
from scalecalc.profile import DECAYING, FLAT, Profile

n = sp.Symbol("n", positive=True)
"""The index along a growing axis, counted from 0 in expressions; only its behaviour at infinity matters here."""
N = sp.Symbol("N", positive=True)
"""The width of that axis."""
U, V = sp.symbols("U V", positive=True)
"""Independent and uniform on [0, 1] for every index: an exact vector that has them is random, but fixed over training."""
x = sp.Symbol("x", real=True)
"""The argument of an elementwise function."""
X = sp.Symbol("X", positive=True)
"""The argument on a half-line."""

INFINITE = "overflow"  # grows faster than any power
NEGLIGIBLE = "negligible"  # falls faster than any power


@cache
def growth(expression: sp.Expr, symbol: sp.Symbol, to: sp.Expr = sp.oo) -> Fraction | str:
    """The power d in f ~ symbol^d (up to logs) as the symbol tends to ∞ or 0: lim symbol·f′/f.

    >>> growth(1 / (1 + n**2), n), growth(sp.exp(-n), n), growth(sp.log(n), n)
    (Fraction(-2, 1), 'negligible', Fraction(0, 1))
    """
    if not expression.has(symbol):
        return Fraction(0)
    if expression.is_Mul and (found := _of_factors(expression.args, symbol, to)) is not None:
        return found
    if to is sp.oo and (limit := _saturated(expression, symbol)) is not None:
        return growth(limit, symbol) if limit != 0 else NEGLIGIBLE
    ratio = sp.simplify(symbol * sp.diff(expression, symbol) / expression)
    power = sp.simplify(sp.limit(ratio, symbol, to, "+"))
    if power.is_Rational:
        return Fraction(int(power.p), int(power.q))
    if power.is_infinite:
        return INFINITE if power.is_extended_positive else NEGLIGIBLE
    raise UnsupportedScale(f"sympy finds no power law in {expression} as {symbol} → {to} (it says {power}).")


def _saturated(expression: sp.Expr, symbol: sp.Symbol) -> sp.Expr | None:
    """A rational function of the symbol and of tanh of polynomials, each ±1 but for what falls faster than any power.

    Zero if nothing else is left; None if it is no such function.  (Limits of gelu's derivatives by tanh took sympy minutes.)
    """
    found = sorted(expression.atoms(sp.tanh), key=str)
    if not found or any(not t.args[0].is_polynomial(symbol) for t in found):
        return None
    rest = [sp.Dummy(positive=True) for _ in found]
    signs = [sp.sign(sp.Poly(t.args[0], symbol).LC()) for t in found]
    whole = expression.subs({t: s * (1 - e) / (1 + e) for t, s, e in zip(found, signs, rest, strict=True)})
    if not whole.is_rational_function(symbol, *rest):
        return None
    left = whole.subs(dict.fromkeys(rest, 0))
    return sp.cancel(left) if left.is_finite is not False and not left.has(sp.nan, sp.zoo) else None


def _of_factors(factors: Sequence[sp.Expr], symbol: sp.Symbol, to: sp.Expr) -> Fraction | str | None:
    """That of a product: logarithmic derivatives add up, and each is found sooner than their sum; None if they do not say."""
    total, endless = Fraction(0), set[str]()
    for factor in factors:
        try:
            d = growth(factor, symbol, to)
        except (UnsupportedScale, NotImplementedError):
            return None
        if isinstance(d, str):
            endless.add(d)
        else:
            total += d
    if len(endless) > 1:
        return None  # ∞ − ∞
    return endless.pop() if endless else total


@cache
def profile_of(expression: sp.Expr) -> Profile:
    """The profile in n of an exact expression whose other symbols are positive constants of order one.

    >>> D = sp.Symbol("Delta", positive=True)
    >>> profile_of((sp.exp(-D * (n + 1)) - 1) / (-(n + 1))), profile_of(sp.exp(-D * n)).words()
    (Profile(power=Fraction(1, 1), log=Fraction(0, 1), decaying=False), 'falls exponentially')
    """
    d = growth(expression, n)
    if d == NEGLIGIBLE:
        return DECAYING
    if isinstance(d, str):
        raise UnsupportedScale(f"{expression} grows faster than any power of the index n.")
    log = Fraction(0)
    if expression.has(sp.log):
        # what is left after the power is a power of log n: the same question in the variable log n
        left = growth(sp.simplify(expression / n ** sp.Rational(d.numerator, d.denominator)).subs(n, sp.exp(n)), n)
        log = left if isinstance(left, Fraction) else log
    return Profile(-d, log)


@cache
def is_zero(expression: sp.Expr) -> bool:
    """Is the expression identically zero (its symbols positive, A negative)?  Numbers decide what is not; sympy the rest."""
    if expression == 0:
        return True
    symbols = sorted(expression.free_symbols, key=str)
    for k in (2, 3):
        at = {s: sp.Rational(k + 2 * i, 3) * (-1 if s.is_negative else 1) for i, s in enumerate(symbols)}
        value = expression.subs(at).evalf(20)
        if value.is_number and value.is_finite and abs(value) > 1e-10:
            return False
    return bool(sp.simplify(expression) == 0)


def _at_zero(half: sp.Expr) -> sp.Expr:
    value = half.subs(X, 0)
    return value if value.is_finite else sp.limit(half, X, 0, "+")


def _simple(half: sp.Expr) -> sp.Expr:
    """Simplified; a polynomial in X and hyperbolic tangents is so once it is expanded, and sympy would take minutes more."""
    tangents = half.atoms(sp.tanh)
    return sp.expand(half) if tangents and half.is_polynomial(X, *tangents) else sp.simplify(half)


def _at_infinity(half: sp.Expr) -> Fraction | str:
    """The growth of half a function; a sine's, which has no limit, is that of its bounds."""
    if is_zero(half):
        return NEGLIGIBLE
    if half.has(sp.sin, sp.cos):
        bounds = sp.limit(half, X, sp.oo)
        if isinstance(bounds, sp.AccumBounds) and bounds.min.is_finite and bounds.max.is_finite:
            return Fraction(0)
    return growth(half, X)


@dataclass(frozen=True)
class Function:
    """A function of one variable: f(x) and f(−x) for x > 0, and the order of its singularity at 0 (1 is δ, 2 is δ′)."""

    plus: sp.Expr
    minus: sp.Expr
    singular: int = 0

    @staticmethod
    def of(expression: sp.Expr) -> Function:
        return Function(sp.simplify(expression.subs(x, X)), sp.simplify(expression.subs(x, -X)))

    @cached_property
    def derivative(self) -> Function:
        plus, minus = sp.diff(self.plus, X), -sp.diff(self.minus, X)
        sides = _at_zero(self.plus), _at_zero(self.minus)
        jump = all(s.is_finite for s in sides) and not is_zero(sides[0] - sides[1])  # a pole is no jump
        return Function(plus, minus, self.singular + 1 if self.singular else int(jump))

    @cached_property
    def zero(self) -> bool:
        return not self.singular and is_zero(self.plus) and is_zero(self.minus)

    @cached_property
    def parity(self) -> str:
        """``odd``, ``even`` or ``none``."""
        if is_zero(self.plus - self.minus) and (not self.singular or self.singular % 2 == 1):
            return "even"
        if is_zero(self.plus + self.minus) and self.singular % 2 == 0:
            return "odd"
        return "none"

    @cached_property
    def degree(self) -> int | None:
        """The degree of a polynomial, else None."""
        if self.singular or not self.plus.is_polynomial(X) or not is_zero(self.minus - self.plus.subs(X, -X)):
            return None
        return 0 if self.zero else int(sp.degree(self.plus, X)) if self.plus.has(X) else 0

    @cached_property
    def homogeneous(self) -> Fraction | None:
        """d if f(λx) = λ^d f(x) for λ > 0 (relu: 1, sign: 0, its delta: −1), else None."""
        found: set[Fraction] = {Fraction(-self.singular)} if self.singular else set()
        for half in (self.plus, self.minus):
            if is_zero(half):
                continue
            d = X * sp.diff(half, X) / half
            if not is_zero(d.subs(X, 2) - d.subs(X, 3)):
                return None
            d = sp.simplify(d)
            if not d.is_Rational:
                return None
            found.add(Fraction(int(d.p), int(d.q)))
        return found.pop() if len(found) == 1 else None

    @cached_property
    def taylor(self) -> tuple[int, ...]:
        """Orders k ≤ 4 of the non-zero Taylor coefficients at 0 (f smooth there): 0, the next even and the lowest odd one."""
        found: list[int] = []
        plus, minus = self.plus, self.minus
        for k in range(5):
            here, there = _at_zero(plus), _at_zero(minus)
            if not is_zero(here - there) or not here.is_finite:
                raise UnsupportedScale(
                    f"the function with halves {self.plus}, {self.minus} is not smooth at 0; small arguments need a law."
                )
            if not is_zero(here):
                found.append(k)
            plus, minus = sp.diff(plus, X), -sp.diff(minus, X)
        even = [k for k in found if k % 2 == 0][:1 if 0 not in found else 2]
        return tuple(sorted(even + [k for k in found if k % 2][:1]))

    @cached_property
    def parts(self) -> tuple[tuple[str, Function], ...]:
        """The even and the odd part, those that are not zero."""
        out: list[tuple[str, Function]] = []
        for parity, sign in (("even", 1), ("odd", -1)):
            half = _simple((self.plus + sign * self.minus) / 2)
            singular = self.singular if self.singular and self.singular % 2 == (parity == "even") else 0
            part = Function(half, sign * half, singular)
            if not part.zero:
                out.append((parity, part))
        return tuple(out)

    @cached_property
    def large(self) -> tuple[tuple[str, Fraction | None], ...]:
        """Degree of the even and of the odd part for arguments λx, λ → ∞.

        None for a part that falls to 0 so fast that it has an integral (tanh′): it is of order one where the argument is,
        at a share 1/λ of the entries, and nothing elsewhere, so that its mean is 1/λ and its root-mean-square λ^(−1/2).

        Raises:
            UnsupportedScale: it grows faster than any power (exp of a growing argument overflows at some width).
        """
        if INFINITE in map(_at_infinity, (self.plus, self.minus)):
            raise UnsupportedScale(
                f"{self.plus} of an argument that grows with width overflows: no power of the width bounds it."
            )
        out: list[tuple[str, Fraction | None]] = []
        for parity, part in self.parts:
            d = _at_infinity(part.plus)
            out.append((parity, d if isinstance(d, Fraction) and d >= -1 else None))
        return tuple(out)

    @cached_property
    def half(self) -> bool:
        """Is it zero on one half-line (relu, its derivative)?"""
        return not self.singular and is_zero(self.plus) != is_zero(self.minus)

    @cached_property
    def vanishes(self) -> bool:
        """f(0) = 0."""
        return not self.singular and (self.parity == "odd" or all(is_zero(_at_zero(h)) for h in (self.plus, self.minus)))

    @cached_property
    def breaks(self) -> bool:
        """Has it a jump or a kink at 0 and no scale of its own (sign, relu, |·|)?"""
        return self.homogeneous is not None and self.homogeneous >= 0 and self.degree is None and not self.singular


@dataclass(frozen=True)
class OneVariable:
    """A :class:`Function` as an expansion reads it."""

    function: Function

    @property
    def zero(self) -> bool:
        return self.function.zero

    @property
    def taylor(self) -> tuple[int, ...]:
        return self.function.taylor

    @property
    def homogeneous(self) -> Fraction | None:
        return self.function.homogeneous

    def partial(self, argument: int) -> OneVariable:
        return OneVariable(self.function.derivative)

    def local(self, size: str) -> tuple[Local, ...]:
        f = self.function
        if f.homogeneous is not None:
            return tuple(Local(f.homogeneous, parity, part.degree) for parity, part in f.parts)
        degrees = dict(f.large) if size == "large" else {}
        parts = [(degrees.get(parity, Fraction(0)), parity, part.degree) for parity, part in f.parts]
        return tuple(Local(degree or Fraction(0), parity, most, local=degree is None) for degree, parity, most in parts)

    @property
    def half(self) -> bool:
        return self.function.half

    @property
    def vanishes(self) -> bool:
        return self.function.vanishes

    @property
    def breaks(self) -> bool:
        return self.function.breaks


class OneSided(OneVariable):
    """A function of a positive variable, as an expansion reads it: nothing is known, and nothing zero, at the other side.

    Were it taken for a function that is zero there, every norm and softmax would leave a mask on all that is divided by it.
    No sum forgets that, and what differs in it alone is neither merged nor dropped: behind two norms there were five times
    as many terms.
    """

    half = vanishes = False

    def partial(self, argument: int) -> OneSided:
        return OneSided(self.function.derivative)


__all__ = ["DECAYING", "FLAT", "Function", "N", "OneSided", "OneVariable", "U", "V", "X", "growth", "n", "profile_of", "x"]
