"""The whole run over many base seeds with the true rules: how often does verify say "disagrees", how much is conclusive?

    python tests/benchmarks/false_alarms.py --seeds 20 --budget 60 s6 s6@adam mlp@sgd mlp

A MODEL may carry an optimizer after an @.  Prints one line per run and a summary; exit status 1 if a row disagreed.
The false-alarm rate of one run is at most 10⁻⁴ by construction, so a single one in twenty runs is a wrong rule.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from scalecalc.measure.verify import verify


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--seeds", type=int, default=20, help="base seeds 1, 2, …")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of measuring per run")
    asked = parser.parse_args()
    total, alarms, open_rows = Counter[str](), list[str](), Counter[str]()
    for seed in range(1, asked.seeds + 1):
        for text in asked.models:
            model, _, optimizer = text.partition("@")
            began = time.perf_counter()
            table = verify(model, optimizer=optimizer or None, seed=seed, budget=asked.budget)
            counts = table.counts()
            total.update(counts)
            alarms += [f"{text}, seed {seed}: {r.label}: {r.settle}" for r in table if r.verdict == "disagrees"]
            open_rows.update(f"{text}: {r.label}" for r in table if r.verdict == "inconclusive")
            print(f"{text} seed {seed}: {counts}, {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{asked.seeds} seeds, {asked.budget:g} s each: {dict(total)}")
    print(*alarms or ["no row disagreed"], sep="\n")
    print("inconclusive, and in how many runs:", *(f"  {n:3d} {label}" for label, n in open_rows.most_common()), sep="\n")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
