"""How sums and products of powers, exponentials and their logarithms behave at infinity, without taking a limit.

    f ~ c x^d e^(k x)

is carried through sums, products, powers, exp, log and tanh.  Where it does not say (what leads cancels, a logarithm of a
power, an exponent that is not linear), nothing is answered, and sympy's limits are asked, which take a tenth of a second.
"""

from __future__ import annotations

from typing import NamedTuple

import sympy as sp


class Lead(NamedTuple):
    """c x^d e^(k x); c is not zero."""

    c: sp.Expr
    d: sp.Rational
    k: sp.Expr


def lead(f: sp.Expr, x: sp.Symbol) -> Lead | None:
    """The leading behaviour of f as x → ∞; None if it is not found.

    >>> x = sp.Symbol("x", positive=True)
    >>> lead(x / (1 + sp.exp(-x)) - x**2, x), lead(sp.log(1 + sp.exp(-x)), x), lead(sp.sin(x), x)
    (Lead(c=-1, d=2, k=0), Lead(c=1, d=0, k=-1), None)
    """
    if not f.has(x):
        return Lead(f, sp.Integer(0), sp.Integer(0)) if f.is_nonzero else None
    if f == x:
        return Lead(sp.Integer(1), sp.Integer(1), sp.Integer(0))
    if f.is_Add:
        return _sum([lead(part, x) for part in f.args])
    if f.is_Mul:
        return _product([lead(part, x) for part in f.args])
    if isinstance(f, sp.exp):
        return _exp(f.args[0], x)
    if f.is_Pow and f.exp.is_Rational:
        return _power(lead(f.base, x), f.exp)
    if isinstance(f, sp.log):
        return _log(f.args[0], x)
    if isinstance(f, sp.tanh):
        end = _end(lead(f.args[0], x))
        return Lead(sp.Integer(end), sp.Integer(0), sp.Integer(0)) if end else None
    return None


def _sum(parts: list[Lead | None]) -> Lead | None:
    best: Lead | None = None
    for one in parts:
        if one is None:
            return None
        if best is None:
            best = one
            continue
        order = _order(one, best)
        if order is None:
            return None
        if order > 0:
            best = one
        elif order == 0:
            c = best.c + one.c
            if not c.is_nonzero:  # what leads cancels; later parts might exceed what is left, or not
                return None
            best = Lead(c, best.d, best.k)
    return best


def _order(a: Lead, b: Lead) -> int | None:
    for step in (a.k - b.k, a.d - b.d):
        if not step.is_zero:
            return 1 if step.is_positive else -1 if step.is_negative else None
    return 0


def _product(parts: list[Lead | None]) -> Lead | None:
    c, d, k = sp.Integer(1), sp.Integer(0), sp.Integer(0)
    for one in parts:
        if one is None:
            return None
        c, d, k = c * one.c, d + one.d, k + one.k
    return Lead(c, d, k)


def _power(base: Lead | None, power: sp.Rational) -> Lead | None:
    if base is None or (not power.is_Integer and not base.c.is_positive):
        return None
    return Lead(base.c**power, base.d * power, base.k * power)


def _exp(argument: sp.Expr, x: sp.Symbol) -> Lead | None:
    k = sp.diff(argument, x)
    if k.has(x):
        return None
    return Lead(sp.exp(argument.subs(x, 0)), sp.Integer(0), k)


def _log(argument: sp.Expr, x: sp.Symbol) -> Lead | None:
    inside = lead(argument, x)
    if inside is None or not inside.c.is_positive:
        return None
    if inside.k.is_nonzero:
        return Lead(inside.k, sp.Integer(1), sp.Integer(0))
    if not (inside.d.is_zero and inside.k.is_zero):
        return None
    if inside.c != 1:
        return Lead(sp.log(inside.c), sp.Integer(0), sp.Integer(0)) if (inside.c - 1).is_nonzero else None
    rest = lead(argument - 1, x) if argument.is_Add else None
    return rest if rest is not None and (rest.k.is_negative or (rest.k.is_zero and rest.d.is_negative)) else None


def _end(one: Lead | None) -> int:
    """The sign of what it tends to, if that is infinite; else 0."""
    if one is None or not (one.k.is_positive or (one.k.is_zero and one.d.is_positive)):
        return 0
    return 1 if one.c.is_positive else -1 if one.c.is_negative else 0


__all__ = ["Lead", "lead"]
