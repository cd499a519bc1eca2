"""How long a linear recurrence remembers, told from its decay alone: 1/(1 − |a|) steps.

h_t = a h_(t−1) + v_t is Σ_k a^k v_(t−k).  Over T steps, T growing, that is a sum of min(T, 1/(1 − |a|)) terms of like size,
so that the spectral gap 1 − |a| decides: of order one, a few lags say everything; 1/T or less, the whole sequence is
summed.  The gap is no size that a law could carry: a = 1 − 1/T and a = 1/2 are both of order one.  So it is read off the
program, from the decay back to what it is made of, by bounds: a sigmoid lies between 0 and 1 and is spread over them,
zero-order hold over a step Δ = T^(−1) is e^(ΔA) = 1 − Θ(T^(−1)).

What turns, a = |a| e^(iω), turns by the same angle at every step (``even``), or by angles that are random from state to state
(``scattered``); what it adds up from equal summands is then of order one, or, in the root-mean-square over the angles, of
the size of independent ones (Parseval).

A rule tells what it knows by ``Rule.entries``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from scalecalc.errors import UnsupportedScale
from scalecalc.program import LEAVES
from scalecalc.scale import FREE, Scale

if TYPE_CHECKING:
    from scalecalc.program import Program

ONE = Scale.one()
FAR = 60.0  # as good as infinity to every function that has a limit there
GRID = 241
STATES = 64  # of an exact vector, that are looked at
UNIFORM = (0.0, 1 / 3, 2 / 7, 0.9, 1.0)  # values of its random symbols
ROUNDING = 1e-12
TURNS = ("", "even", "scattered")


@dataclass(frozen=True)
class Entries:
    """Bounds on the initial entries of a tensor, of complex ones on their moduli.

    Args:
        low, high: they lie between these, times ``scale``.
        gap: 1 − |entry| is Θ of this, where no entry exceeds one; None: no distance from one is known.
        turn: see :mod:`scalecalc.memory`.
        values: of an exact vector, its first states.
        uneven: these states differ along an axis that grows.
    """

    low: float
    high: float
    scale: Scale = ONE
    gap: Scale | None = None
    turn: str = ""
    values: tuple[complex, ...] = ()
    uneven: bool = False

    @property
    def most(self) -> float:
        return max(abs(self.low), abs(self.high))

    def __mul__(self, other: Entries) -> Entries:
        ends = [a * b if a and b else 0.0 for a, b in product((self.low, self.high), (other.low, other.high))]
        gaps = [e.gap for e in (self, other) if e.gap is not None]
        gap = gaps[0] if gaps else None
        if len(gaps) == 2:  # 1 − ab = (1 − a) + a (1 − b)
            gap = gaps[1] if FREE.order(gaps[0], gaps[1]) in (-1, 0) else gaps[0]
        turn = max(self.turn, other.turn, key=TURNS.index)
        bounded = max(self.most, other.most) <= 1
        return replace(between(ends, turn), scale=self.scale * other.scale, **({"gap": gap} if bounded else {}))

    def __add__(self, other: Entries) -> Entries | None:
        if self.scale != other.scale or self.turn or other.turn:
            return None
        return replace(between([self.low + other.low, self.high + other.high]), scale=self.scale)


def between(values: Iterable[float], turn: str = "", spread: bool = False) -> Entries:
    """Entries that have these bounds; ``spread``: the bounds themselves are limits, which they stay away from."""
    known = list(values)
    low, high = min(known), max(known)
    most = max(abs(low), abs(high))
    inside = most < 1 - ROUNDING or (spread and most <= 1 + ROUNDING and low < high)
    return Entries(low, high, gap=ONE if inside else None, turn=turn)


def image(f: Callable[[float], float], of: Entries) -> Entries | None:
    """Bounds on a function of each entry; None where it is told from no bounds."""
    ends = [min(max(end, -FAR), FAR) for end in (of.low, of.high)]
    if of.turn:
        return None
    if of.scale == ONE:
        at = [ends[0] + (ends[1] - ends[0]) * k / (GRID - 1) for k in range(GRID)]
        try:
            return between([f(v) for v in at], spread=ends[0] < ends[1])
        except (ValueError, ArithmeticError):
            return None
    if FREE.order(of.scale, ONE) != -1 or not math.isfinite(of.most):
        return None
    try:  # a small argument: f(0) + f′(0) x
        value, slope = f(0.0), (f(1e-6) - f(-1e-6)) / 2e-6
    except (ValueError, ArithmeticError):
        return None
    if abs(value) < ROUNDING:
        return replace(between([slope * of.low, slope * of.high]), scale=of.scale, gap=ONE)
    falls = max(value * slope * of.low, value * slope * of.high) < 0
    near = between([value])
    return replace(near, gap=of.scale) if abs(abs(value) - 1) < ROUNDING and falls else near


def exact(expression: Any, scale: Scale = ONE, grows: bool = False) -> Entries:
    """Bounds on an exact vector (a sympy expression in the index), by its first states; along an axis that ``grows``."""
    import sympy as sp

    from scalecalc.asymptotics import V, n

    given = cast("Any", sp.sympify(expression, strict=True))
    values = states(expression)
    turn = ("scattered" if given.has(V) else "even") if given.has(sp.I) else ""
    found = between([abs(v) for v in values] if turn else [v.real for v in values], turn)
    return replace(found, scale=scale, values=tuple(values), uneven=grows and given.has(n))


def states(expression: Any) -> list[complex]:
    """The first entries of an exact vector, at several values of its random symbols."""
    import sympy as sp

    from scalecalc.asymptotics import N, U, V, n

    given = cast("Any", sp.sympify(expression, strict=True))
    at = cast("Callable[..., complex]", sp.lambdify((n, N, U, V), given, "cmath"))
    index = range(STATES) if given.has(n) else (0,)
    uniform = [UNIFORM if given.has(s) else (0.5,) for s in (U, V)]
    return [complex(at(k, STATES, u, v)) for k in index for u in uniform[0] for v in uniform[1]]


def entries(program: Program, position: int) -> Entries | None:
    """What is known of the initial entries of an operation's result; None: nothing, not even that they are real."""
    from scalecalc.backward import rule_of

    op = program.ops[position]
    given = op.params.get("expression", op.params.get("init"))
    found = None
    if given is not None:
        found = exact(given, op.params.get("scale", ONE), bool(op.axes) and program.grows(op.axes[-1]))
    elif op.rule not in LEAVES:
        found = rule_of(program, position).entries(op, *(entries(program, i) for i in op.inputs))
    return found or (None if op.complex else Entries(-math.inf, math.inf))


def pole(program: Program, position: int, over: str) -> Entries:
    """What is known of the decay of a recurrence along a growing axis.

    Raises:
        UnsupportedScale: nothing is, or it may exceed one; the message says what to do.
    """
    found = entries(program, position)
    op = program.ops[position]
    if found is None or not found.most <= 1 + ROUNDING or found.scale != ONE:
        what = "nothing is known of it" if found is None else "it may exceed one, and over a growing number of steps explodes"
        raise UnsupportedScale(
            f"the recurrence along {over} in {program.name} multiplies by {op.name} ({op.where}) at every step, and {over} "
            f"grows: {what}. Write it as a discretization of a transition, a constant or a sigmoid, or give {over} a fixed "
            "size."
        )
    return found


__all__ = ["Entries", "between", "entries", "exact", "image", "pole", "states"]
