"""How long a solve takes as networks grow deeper, beside HiGHS in floating point on the linear programs of the same chain.

    python tests/benchmarks/solve.py --depths 3,10,30,100 --optimizers sgd,adam

Per depth: seconds to solve after imports; of these to derive the formal sizes, and to solve the linear programs exactly; and
what scipy.optimize.linprog(method="highs") takes for the same goals, one after the other, each kept as an equality, on the
float matrix of the same claims (of the last derivation of each solve; a goal that HiGHS calls unbounded is not kept).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linprog

import scalecalc.problem as problem
from scalecalc.linear import System
from scalecalc.solve import solve


class Watch:
    """Seconds spent within functions, and the systems that were solved."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.asked: dict[int, tuple[System, list[Any]]] = {}

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **more)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        return run


def highs(system: System, goals: list[Any]) -> float:
    """Seconds that HiGHS takes for the goals of a system, in floating point."""
    names = list(system.unknowns)
    place = {name: j for j, name in enumerate(names)}
    a, b = np.zeros((len(system.given), len(names))), np.zeros(len(system.given))
    for i, c in enumerate(system.given):
        b[i] = -float(system.regime.key(c.size / _unknown(c.size, place))[0])
        for name, e in c.size.powers:
            if name in place:
                a[i, place[name]] = float(e)
    kept, values = np.zeros((0, len(names))), np.zeros(0)
    start = time.perf_counter()
    for goal in goals:
        row = np.zeros(len(names))
        for name, e in goal.powers:
            if name in place:
                row[place[name]] = float(e)
        more = {"A_eq": kept, "b_eq": values} if len(kept) else {}
        found = linprog(-row, A_ub=a, b_ub=b, bounds=(None, None), method="highs", **more)
        if found.status == 0:
            kept, values = np.vstack([kept, row]), np.append(values, -found.fun)
    return time.perf_counter() - start


def _unknown(size: Any, place: dict[str, int]) -> Any:
    return type(size)(tuple((d, e) for d, e in size.powers if d in place))


def one(depth: int, optimizer: str, beside: bool) -> str:
    watch, derive_at, maximize = Watch(), problem.derive_at, System.maximize
    problem.derive_at = watch.timed("derive", derive_at)

    def maximized(self: System, goal: Any) -> Any:
        watch.asked.setdefault(id(self), (self, []))[1].append(goal)
        return maximize(self, goal)

    System.maximize = watch.timed("exact", maximized)  # type: ignore[method-assign]
    try:
        start = time.perf_counter()
        solve(f"mlp:depth={depth}", optimizer=optimizer)
        total = time.perf_counter() - start
    finally:
        problem.derive_at, System.maximize = derive_at, maximize  # type: ignore[method-assign]
    floats = sum(highs(*asked) for asked in watch.asked.values()) if beside else float("nan")
    derived, exact = watch.seconds["derive"], watch.seconds["exact"]
    return f"{depth:5d}  {optimizer:9s}{total:9.2f}{derived:9.2f}{exact:9.2f}{floats:9.2f}{exact / floats:9.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--depths", default="3,10,30,100")
    parser.add_argument("--optimizers", default="sgd,adam")
    parser.add_argument("--alone", action="store_true", help="without HiGHS")
    asked = parser.parse_args()
    solve("mlp", optimizer="sgd")  # imports
    print("depth  optimizer  solve   derive    exact    HiGHS  exact/HiGHS   (seconds)")
    for depth in map(int, asked.depths.split(",")):
        for optimizer in asked.optimizers.split(","):
            print(one(depth, optimizer, not asked.alone), flush=True)


if __name__ == "__main__":
    main()
