"""Functions of several arguments, some of them exact expressions in the index n along one axis.

A discretization at a given transition is one: f(Δ, A_n) with a random step Δ and an exact A_n.  Its profile along n is
sympy's leading behaviour of the composed expression; nothing is looked up.

Complex transitions turn: exp(kΔA_n) has the phase k Im(A_n)Δ.  The expression is split into its powers of exp(ΔA), each
with its own profile and the phase label k, and into real and imaginary parts of what stands beside them (hard case W7).
The angles may be

- proportional to the index: a sum of what turns is bounded by its ends;
- scattered: random (an expression with the uniform V), or curved in the index, so that a sum over N of them is √N large
  (random phases; the stationary points of van der Corput's lemma, Graham & Kolesnik 1991, theorem 2.2).

To debug: ``Indexed.parts`` lists what an expression was split into.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property

import sympy as sp

from scalecalc.asymptotics import INFINITE, N, U, V, growth, is_zero, n, profile_of
from scalecalc.errors import UnsupportedScale
from scalecalc.expand import Local
from scalecalc.profile import FLAT, Profile

_Z = sp.Symbol("Z")
ORDERS = 3  # of a Taylor series in a small argument
GENERIC = sp.Rational(731, 1000)  # a step of no special value, where a mean is asked for


@dataclass(frozen=True)
class Part:
    """One part of a complex expression: a real one in n (its modulus), times i or not, times a phase."""

    expression: sp.Expr
    turn: Profile = FLAT


@cache
def localized(expression: sp.Expr) -> sp.Expr:
    """An exact expression in n without the width N: as N → ∞, at small index or about its smallest entries.

    >>> lin, inv = -sp.Rational(1, 2) + sp.I * sp.pi * n, -sp.Rational(1, 2) + sp.I * N / sp.pi * (N / (2 * n + 1) - 1)
    >>> localized(lin) == lin, sp.expand(localized(inv))
    (True, -2*I*n/pi - 1/2 - I/pi)

    Raises:
        UnsupportedScale: its entries depend on the width at every index.
    """
    if not expression.has(N):
        return expression
    fixed = sp.limit(expression, N, sp.oo)
    if fixed.is_finite and not is_zero(fixed):
        return fixed
    # the smallest entries, if not at the start, are where the leading term in N vanishes: at n = x·N
    at = sp.Symbol("at", positive=True)
    inside = sp.simplify(expression.subs(n, at * N))
    d = growth(inside, N)
    if isinstance(d, Fraction):
        lead = sp.limit(inside / N ** sp.Rational(d.numerator, d.denominator), N, sp.oo)
        for root in sp.solve(lead, at):
            if root.is_number and 0 < root < 1:
                near = sp.limit(sp.simplify(expression.subs(n, root * N + n)), N, sp.oo)
                if near.is_finite:
                    return near
    raise UnsupportedScale(
        f"the entries of {expression} depend on the width at every index; write a transition that has a limit as N grows."
    )


@cache
def angle(expression: sp.Expr) -> tuple[str, sp.Expr]:
    """How the imaginary part runs with the index: ``none``, ``even`` (with its slope) or ``scattered``.

    Raises:
        UnsupportedScale: it runs slower than the index; sums are then neither.
    """
    imaginary = sp.im(sp.expand_complex(expression)) if expression.has(sp.I) else sp.Integer(0)
    if imaginary.has(V) or imaginary.has(U):
        return "scattered", sp.Integer(0)
    if imaginary.has(N):
        at = sp.Symbol("at", positive=True)
        bend = sp.limit(sp.simplify(N * sp.diff(imaginary, n, 2).subs(n, at * N)), N, sp.oo)
        return ("none" if is_zero(bend) else "scattered"), sp.Integer(0)
    d = growth(imaginary, n) if not is_zero(imaginary) else Fraction(0)
    if isinstance(d, Fraction) and d <= 0:
        return "none", sp.Integer(0)
    if d == 1:
        return "even", sp.limit(imaginary / n, n, sp.oo)
    if isinstance(d, Fraction) and d < 1:
        raise UnsupportedScale(f"the phases of {expression} turn ever slower along the index: their sums have no law here.")
    return "scattered", sp.Integer(0)


def real_and_imaginary(expression: sp.Expr) -> list[tuple[bool, sp.Expr]]:
    """The non-zero ones among the real and the imaginary part (its flag is True)."""
    if not expression.has(sp.I):
        return [(False, expression)]
    halves = sp.expand_complex(sp.together(expression)).as_real_imag()
    return [(flag, sp.simplify(half)) for flag, half in enumerate(halves) if not is_zero(half)]


@cache
def profiles_of(expression: sp.Expr) -> tuple[Profile, ...]:
    """The profiles of an exact vector, real and imaginary part apart (it must not turn along the index)."""
    parts = real_and_imaginary(localized(expression))
    return tuple(replace(profile_of(part), imaginary=bool(flag)) for flag, part in parts)


@cache
def _derivative(expression: sp.Expr, symbol: sp.Symbol) -> sp.Expr:
    return sp.simplify(sp.diff(expression, symbol))


@dataclass(frozen=True)
class Indexed:
    """A function of several arguments, some of them exact expressions in the index n along one axis.

    ``arguments`` are the symbols (positive); ``exact`` gives an expression in n for each exact one, None for a random
    one.  What comes out has a profile along ``label``, found by sympy, and is generic in the random arguments.
    """

    expression: sp.Expr
    arguments: tuple[sp.Symbol, ...]
    exact: tuple[sp.Expr | None, ...]
    label: str

    @property
    def zero(self) -> bool:
        return is_zero(self.expression)

    @property
    def homogeneous(self) -> Fraction | None:
        return None

    half = vanishes = breaks = False  # smooth, and of order one at 0

    @property
    def taylor(self) -> tuple[int, ...]:
        """The orders that there are in a small argument, where the exact ones are the same at every index."""
        known = [e for e in self.exact if e is not None and self.label and e.has(n, N)]
        if known or len(self.random) != 1:
            raise UnsupportedScale(
                f"{self.expression} with an argument that vanishes as the widths grow: this function's index and its "
                "argument do not separate then. Choose a parameterization in which the step size stays of order one, or hold "
                "the axis that the index runs along (--fix N_x=16)."
            )
        return _orders(self.expression, self.random[0])

    def partial(self, argument: int) -> Indexed:
        return Indexed(_derivative(self.expression, self.arguments[argument]), self.arguments, self.exact, self.label)

    @property
    def random(self) -> tuple[sp.Symbol, ...]:
        return tuple(s for s, e in zip(self.arguments, self.exact, strict=True) if e is None)

    def at_index(self, expression: sp.Expr) -> sp.Expr:
        known = [(s, localized(e)) for s, e in zip(self.arguments, self.exact, strict=True) if e is not None]
        return expression.subs(known, simultaneous=True)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        return _parts(self)

    def local(self, size: str) -> tuple[Local, ...]:
        """Per part: its profile, and that of what varies with a random argument (a smaller one, often)."""
        out: list[Local] = []
        if not self.label:  # the index is one of finitely many
            at = self.at_index(self.expression).subs({n: 3, N: 7, U: sp.Rational(1, 3), V: sp.Rational(2, 7)})
            halves = [self._profile(half, size) for _, half in real_and_imaginary(at)]
            degrees = [found[0] for found in halves if found is not None]
            return (Local(max(degrees), "none", None if self.random else 0),) if degrees else ()
        for part in self.parts:
            out += self._constant(part, size)
            for symbol in self.random:
                out += self._varying(part, symbol, size)
        return tuple(out)

    def _constant(self, part: Part, size: str) -> list[Local]:
        found = self._profile(part.expression, size)
        return [] if found is None else [Local(found[0], "none", 0, self._own(found[1], part))]

    def _varying(self, part: Part, symbol: sp.Symbol, size: str) -> list[Local]:
        # The limit at large index may not depend on the argument, so that its variation falls faster than it does.
        # What turns varies as much as it is large.
        change = part.expression if part.turn.phase else _derivative(part.expression, symbol) * symbol
        if is_zero(change):
            return []
        found = self._profile(change, size)
        return [] if found is None else [Local(found[0], "none", None, self._own(found[1], part), least=1)]

    def _own(self, profile: Profile, part: Part) -> tuple[tuple[str, Profile], ...]:
        turned = profile * part.turn
        return ((self.label, turned),) if turned != FLAT else ()

    def _profile(self, expression: sp.Expr, size: str) -> tuple[Fraction, Profile] | None:
        degree = Fraction(0)
        for symbol in self.random if size == "large" else ():
            d = growth(expression, symbol)
            if d == INFINITE:
                raise UnsupportedScale(f"{self.expression} of an argument that grows with width overflows.")
            if isinstance(d, str):
                return None
            degree += d
            expression = sp.limit(expression / symbol ** sp.Rational(d.numerator, d.denominator), symbol, sp.oo)
        return degree, profile_of(expression)


@cache
def _orders(expression: sp.Expr, symbol: sp.Symbol) -> tuple[int, ...]:
    """The orders of an expression's Taylor series in a symbol whose coefficients are not zero."""
    found: list[int] = []
    for k in range(ORDERS):
        at_zero = sp.limit(expression, symbol, 0, "+")
        found += [] if is_zero(at_zero) else [k]
        expression = sp.diff(expression, symbol)
    return tuple(found)


@cache
def _parts(f: Indexed) -> tuple[Part, ...]:
    """Split into powers of the exponentials that turn, and these into real and imaginary parts."""
    if not f.at_index(f.expression).has(sp.I):
        return (Part(f.at_index(f.expression)),)
    kind, slope = _angle(f)
    zero = sp.Integer(0)
    powers = _powers(f.expression) if kind != "none" else {zero: (zero, f.expression)}
    turns = _period(f, slope) if kind == "even" else 0
    out: list[Part] = []
    for k, (exponent, coefficient) in powers.items():
        decay = sp.exp(sp.re(sp.expand_complex(f.at_index(exponent))))
        label = Fraction(int(k.p), int(k.q))
        turn = Profile(phase=label, scattered=kind == "scattered", period=turns) * FLAT
        halves = real_and_imaginary(f.at_index(coefficient))
        if not turn.straight:  # then its real and its imaginary part are both there, whatever stands beside it
            largest = min((half for _, half in halves), key=lambda half: profile_of(half).power)
            out.append(Part(largest * decay, turn))
            if turn.scattered and _has_mean(f, coefficient * sp.exp(exponent)):
                out.append(Part(largest * decay))
        else:
            out += [Part(half * decay, replace(turn, imaginary=bool(flag))) for flag, half in halves]
    return tuple(out)


def _powers(expression: sp.Expr) -> dict[sp.Expr, tuple[sp.Expr, sp.Expr]]:
    """Coefficient of every power of the turning exponential: power → (its exponent, coefficient)."""
    base: sp.Expr | None = None
    by: dict[sp.Expr, sp.Expr] = {}
    for e in expression.atoms(sp.exp):
        c, rest = e.args[0].as_coeff_Mul()
        if base is not None and not is_zero(rest - base) or not c.is_Rational:
            raise UnsupportedScale(f"{expression} turns by two different angles along the index: its sums have no law here.")
        base, by[e] = rest, _Z**c
    found: dict[sp.Expr, sp.Expr] = {}
    for term in sp.Add.make_args(sp.expand(expression.subs(by))):
        coefficient, k = term.as_coeff_exponent(_Z)
        if coefficient.has(_Z):
            raise UnsupportedScale(f"{expression} is no sum of powers of what turns along the index.")
        found[k] = found.get(k, sp.Integer(0)) + coefficient
    return {k: (k * base if base is not None else sp.Integer(0), c) for k, c in found.items()}


def _angle(f: Indexed) -> tuple[str, sp.Expr]:
    kinds = [angle(e) for e in f.exact if e is not None]
    return next((k for k in kinds if k[0] != "none"), ("none", sp.Integer(0)))


def period(f: Indexed) -> int:
    """The power at which its exponential of an exact argument ceases to turn along the index, 0 if none does."""
    if not f.at_index(f.expression).has(sp.I):
        return 0
    kind, slope = _angle(f)
    return _period(f, slope) if kind == "even" else 0


def _period(f: Indexed, slope: sp.Expr) -> int:
    """The power at which the exponential ceases to turn (resonance), 0 if none does: needs an exact, rational angle."""
    angle_ = slope
    for s, e in zip(f.arguments, f.exact, strict=True):
        if s.is_positive:
            if e is None or e.free_symbols:
                return 0
            angle_ *= e
    turns = sp.simplify(angle_ / (2 * sp.pi))
    return int(turns.q) if turns.is_Rational else 0


def _has_mean(f: Indexed, expression: sp.Expr) -> bool:
    """Does a random vector's part have a mean?  By numbers: the trapezoidal rule, exact where the phase is periodic."""
    import numpy as np

    at = f.at_index(expression).subs(dict.fromkeys(f.random, GENERIC))
    if not at.has(V) or at.has(n):
        return False
    points = 64
    u, v = (np.arange(points) + 0.5) / points, np.arange(points) / points
    values = sp.lambdify((U, V), at, "numpy")(u[:, None] + 0 * v, v[None, :] + 0 * u[:, None])
    values = np.broadcast_to(np.asarray(values, complex), (points, points))
    return bool(abs(values.mean()) > 1e-9 * abs(values).mean())
