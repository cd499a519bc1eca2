"""The whole run over many base seeds with the true rules: how often does verify say "disagrees", how much is conclusive?

    python tests/benchmarks/false_alarms.py --seeds 20 --budget 60 s6 s6@adam mlp@sgd mlp
    python tests/benchmarks/false_alarms.py --seeds 5 --budget 60 --regime all s6
    python tests/benchmarks/false_alarms.py --seeds 5 --budget 30 --dims N_u=32,64 --dims N_x=16,128 s6:step=fixed@adam
    python tests/benchmarks/false_alarms.py --seeds 3 --budget 60 --regime all variants

A MODEL may carry an optimizer after an @; ``variants`` stands for every built-in architecture with every discretization
that derives, fixed and selective steps, and every optimizer.  A regime is left out where the model has one dim only.
Prints one line per run and a summary; exit status 1 if a row disagreed.  The false-alarm rate of one run is at most 10⁻⁴
by construction, so a single one in twenty runs is a wrong rule.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product

from scalecalc.derive import derive, resolve
from scalecalc.errors import ScalecalcError
from scalecalc.measure.verify import verify
from scalecalc.request import parse_dims
from scalecalc.rule import registry

REGIMES = ("free", "proportional", "N_x=N_u^1/2", "N_u>N_x", "N_x>N_u")


def variants() -> Iterator[str]:
    """Every built-in model with every option that the table depends on, as far as it derives."""
    resolve("mlp")  # loads the rules
    from scalecalc.rules.discretization import SCHEMES

    s6 = [f"s6:discretization={scheme},step={step}" for scheme, step in product(SCHEMES, ("selective", "fixed"))]
    others = [name for name in registry("architecture") if name != "s6"]
    for model, optimizer in product([*others, *s6], registry("optimizer")):
        try:
            derive(model, optimizer=optimizer)
        except ScalecalcError as error:
            print(f"{model}@{optimizer} does not derive: {error}", flush=True)
        else:
            yield f"{model}@{optimizer}"


def runs(models: Sequence[str], regimes: Sequence[str]) -> Iterator[tuple[str, str]]:
    for text in (v for m in models for v in (variants() if m == "variants" else [m])):
        dims = resolve(text.partition("@")[0]).program.dims
        for regime in regimes:
            if regime == "free" or {"N_u", "N_x"} <= set(dims):
                yield text, regime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="s6, s6@adam, …, or variants")
    parser.add_argument("--seeds", type=int, default=20, help="base seeds 1, 2, …")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of measuring per run")
    parser.add_argument("--regime", action="append", help="repeatable; all for " + ", ".join(REGIMES))
    parser.add_argument("--dims", action="append", default=[], metavar="DIM=A,B", help="widths, as scalecalc takes them")
    asked = parser.parse_args()
    regimes = REGIMES if asked.regime == ["all"] else asked.regime or ["free"]
    dims = parse_dims(asked.dims) or None
    total, alarms, open_rows = Counter[str](), list[str](), Counter[str]()
    todo = list(runs(asked.models, regimes))
    for seed in range(1, asked.seeds + 1):
        for text, regime in todo:
            model, _, optimizer = text.partition("@")
            name = text if regime == "free" else f"{text} {regime}"
            began = time.perf_counter()
            table = verify(model, optimizer=optimizer or None, regime=regime, dims=dims, seed=seed, budget=asked.budget)
            counts = table.counts()
            total.update(counts)
            alarms += [f"{name}, seed {seed}: {r.label}: {r.settle}" for r in table if r.verdict == "disagrees"]
            open_rows.update(f"{name}: {r.label}" for r in table if r.verdict == "inconclusive")
            print(f"{name} seed {seed}: {counts}, {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{asked.seeds} seeds, {asked.budget:g} s each: {dict(total)}")
    print(*alarms or ["no row disagreed"], sep="\n")
    print("inconclusive, and in how many runs:", *(f"  {n:3d} {label}" for label, n in open_rows.most_common()), sep="\n")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
