"""Where the asymptotics along the states begin (hard case W8).

A profile such as 1/n or an exponential decay is the behaviour at large index.  With a small step Δ it sets in late:
zero-order hold's (1 − e^(−nΔ))/n is flat up to n ≈ 1/Δ.  Here the index is found from the exact expression of a
discretization at the step's typical value: where its local power comes, and stays, within :data:`NEAR` of the asymptotic
one.  An exponential decay has set in where it falls faster than 1/n.

The typical step is the median at initialisation: products with random matrices have the median 0, functions of one
variable carry a median along, and a random exact vector (a bias with the uniform U) is taken at the ends and in the middle
of its range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scalecalc.profile import dim_of
from scalecalc.words import NO_POWER

if TYPE_CHECKING:
    from scalecalc.program import Program
    from scalecalc.table import Row

NAMES = {"A": "the decay", "B": "the input factor"}
NEAR = 0.1
FARTHEST, FARTHEST_TURNING = 10**7, 10**6
SPREAD = (0.0, 0.5, 1.0)  # of a uniform that the step depends on


@dataclass(frozen=True)
class Crossover:
    """One discretized quantity along one dim: from which index its profile holds, at which steps.

    ``position``: of its operation; ``index``: at the typical step, the least and the largest of the random ones;
    ``slopes``: width → local power in that width of (Σ_n |f|²)^(1/2) at the typical step; ``limit``: the power that it
    tends to.
    """

    dim: str
    name: str
    position: int
    step: float
    index: tuple[int, int]
    slopes: Mapping[int, float]
    limit: float

    def note(self, widths: Sequence[int]) -> str:
        """A sentence for a table, empty if the widths are beyond the crossover, or the local power there is the limit's."""
        below = [w for w in widths if w < self.index[1] and self._off(w) > NEAR]
        if not below:
            return ""
        where = " to ".join(dict.fromkeys(map(str, self.index)))
        local = ", ".join(f"{self.slopes[w]:.2f} at {w}" for w in below)
        return (
            f"{self.dim} = {', '.join(map(str, below))} is below the crossover of {self.name}, {self.dim} ≈ {where} (step "
            f"Δ ≈ {self.step:.3g}, 1/Δ ≈ {1 / self.step:.3g}): its exponent in {self.dim} does not describe this range. "
            f"Local power of its sum of squares' root: {local}; in the limit {self.limit:.2f}."
        )

    def excused(self, widths: Sequence[int]) -> float:
        """By how much a slope may be off at these widths: the quantity's own power is, and a row may hold its square."""
        return 2 * max(map(self._off, widths)) if self.note(widths) else 0.0

    def _off(self, width: int) -> float:
        off = abs(self.slopes[width] - self.limit)
        return off if off == off else 0.0  # an input factor that is exactly zero has no power


def crossovers(program: Program, widths: Mapping[str, Sequence[int]]) -> list[Crossover]:
    """One per discretized quantity whose profile along a dim (also one held fixed) is not there from the start."""
    from scalecalc.rule import registry

    out: list[Crossover] = []
    for position, op in enumerate(program.ops[: program.forward_length or None]):
        rule = registry("rule").get(op.rule)
        if "part" not in op.params or op.params.get("order") != (0, 0) or not hasattr(rule, "parts"):
            continue
        step, transition = op.inputs
        axes = program.ops[transition].axes
        eigenvalues = composed(program, transition)
        if eigenvalues is None or not axes or dim_of(axes[-1]) not in widths:
            continue
        steps = [value for u in SPREAD if (value := typical(program, step, u)) is not None]
        if steps:
            dim = dim_of(axes[-1])
            found = _crossover(rule.parts[op.params["part"]], eigenvalues, steps, widths[dim])
            out.append(Crossover(dim, NAMES[op.params["part"]], position, *found))
    return out


def unless_too_narrow(row: Row, note: str, excused: float) -> Row:
    """A row that depends on asymptotics which begin beyond the widths measured is not refuted there by what they explain.

    In no dim: that a sum over the states converges, say, also decides how a size depends on the channels.  But a slope that
    is off by more than ``excused`` is.
    """
    if row.verdict != "disagrees" or not note or not row.terms:
        return row
    if _farthest(row) > excused:
        return row
    return replace(row, verdict="inconclusive", settle=f"{row.settle} But {note}")


def _farthest(row: Row) -> float:
    """By how much the worst of a row's slopes is off."""
    off = (min(abs(s.slope - float(t.power(dim))) for t in row.terms) for dim, s in (row.measured or {}).items())
    return max(off, default=0.0)


def unless_a_minimum(row: Row) -> Row:
    """A row that takes one of two sizes for the smaller of them is not refuted where the other one is the smaller.

    The derivation says so itself (``words.NO_POWER``): of two ranks, whose square root each update has, so that a slope may
    be off by 1/2 per update.  A regime in which one of the two bounds the other takes that one.
    """
    bounds = [a for a in row.assumptions if NO_POWER in a]
    if row.verdict != "disagrees" or not bounds or not row.terms:
        return row
    if _farthest(row) > len(row.tag) / 2 + NEAR:
        return row
    said = f"{row.settle} But {bounds[0]}; a --regime that orders the two has the exponent of either side."
    return replace(row, verdict="inconclusive", settle=said)


def composed(program: Program, position: int) -> Any:
    """The expression in the index of what is made of one exact leaf entry by entry; None of anything else."""
    from scalecalc.asymptotics import X
    from scalecalc.rule import registry

    op = program.ops[position]
    if not op.inputs:
        return op.params.get("expression", op.params.get("init"))
    if len(op.inputs) != 1:
        return None
    inner = composed(program, op.inputs[0])
    if inner is None or op.rule in ("rename", "view"):
        return inner
    rule = registry("rule").get(op.rule)
    if not hasattr(rule, "derivative") or op.params.get("order"):
        return None
    import sympy as sp

    from scalecalc.asymptotics import n

    f = rule.derivative(0)
    negative = sp.limit(inner, n, sp.oo) < 0
    return sp.simplify(f.minus.subs(X, -inner) if negative else f.plus.subs(X, inner))


def typical(program: Program, position: int, u: float) -> float | None:
    """The median of a tensor's entries at initialisation, its uniform random numbers at u; None where it is not known."""
    import math

    import sympy as sp

    from scalecalc.asymptotics import N, U, V, n
    from scalecalc.rule import registry

    op = program.ops[position]
    expression = op.params.get("expression", op.params.get("init"))
    if expression is not None:
        value = complex(sp.N(expression.subs({U: u, V: u, n: 0, N: 1})))
        return value.real if value.imag == 0 and math.isfinite(value.real) else None
    if op.rule in ("input", "weight", "matmul"):
        return 0.0
    inner = [typical(program, j, u) for j in op.inputs]
    known = [value for value in inner if value is not None]
    if len(known) < len(inner):
        return None
    if op.rule == "add":
        return sum(known)
    if op.rule in ("rename", "broadcast", "delay", "view", "part", "windows"):
        return known[0]
    if op.rule == "contraction" and any(program.ops[j].rule == "index" for j in op.inputs):
        return math.prod(known)  # by a constant; of two random factors the medians say nothing
    rule = registry("rule").get(op.rule)
    if hasattr(rule, "derivative"):
        from scalecalc.asymptotics import X

        f = rule.derivative(op.params["order"])
        half = f.plus if known[0] > 0 else f.minus
        return float(half.subs(X, abs(known[0])) if known[0] else sp.limit(half, X, 0))
    return None


def _crossover(
    expression: Any, transition: Any, steps: Sequence[float], widths: Sequence[int]
) -> tuple[float, tuple[int, int], dict[int, float], float]:
    import numpy as np
    import sympy as sp

    from scalecalc.asymptotics import U, V, n
    from scalecalc.indexed import Indexed, localized
    from scalecalc.rules.discretization import A, Delta

    turns = any(part.turn.phase for part in Indexed(expression, (Delta, A), (None, transition), "n").parts)
    local = localized(transition).subs({U: sp.Rational(1, 2), V: sp.Rational(1, 3)})
    f = sp.lambdify((Delta, n), expression.subs(A, local), "numpy")
    far_index, many = (FARTHEST_TURNING, 40) if turns else (FARTHEST, 4000)  # a slope over what turns needs longer steps
    index = np.unique(np.geomspace(1, far_index, many).astype(np.int64))

    def size(step: float, at: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.abs(f(step, at) + 0 * at)

    def onset(step: float) -> tuple[int, float]:
        """The index from which the local power of the modulus stays near its limit, and that limit."""
        with np.errstate(all="ignore"):
            log = np.log(_smooth(size, step, index) if turns else size(step, index.astype(float)))
        log, seen = np.where(np.isfinite(log), log, -1e6), np.isfinite(log)
        power = -np.gradient(log, np.log(index))
        if not seen[-1] or power[-1] > 20:  # falls exponentially
            far = power < 1
            far[~seen] = False
            limit = np.inf
        else:
            limit = round(float(np.median(power[-max(5, len(power) // 80) :])) * 4) / 4
            far = np.abs(power - limit) > NEAR * max(1.0, abs(limit))
        last = int(np.flatnonzero(far)[-1]) + 1 if far.any() else 0
        return int(index[min(last, len(index) - 1)]), limit

    ends = [onset(step) for step in steps]
    middle = steps[len(steps) // 2]
    limit = max(0.0, 0.5 - ends[len(steps) // 2][1])
    slopes: dict[int, float] = {}
    for width in widths:
        at = np.arange(2 * width, dtype=float)
        squares = np.cumsum(size(middle, at) ** 2)
        # over the factor 2 about the width, ends included
        low, high = max(1, round(width / 2**0.5)), round(width * 2**0.5)
        slopes[width] = float(np.log(squares[high - 1] / squares[low - 1]) / 2 / np.log(high / low)) if high > low else 0.0
    indices = [i for i, _ in ends]
    return middle, (min(indices), max(indices)), slopes, limit


def _smooth(size: Any, step: float, index: Any) -> Any:
    """The root-mean-square over the indices from n to 2n: what turns has a modulus that goes up and down."""
    import numpy as np

    squares = np.concatenate([[0.0], np.cumsum(size(step, np.arange(2 * index[-1] + 1, dtype=float)) ** 2)])
    return np.sqrt((squares[2 * index + 1] - squares[index]) / (index + 1))
