"""How the time of a derivation grows with depth: per layer, at depths 10, 30 and 100, as a ratio to the first.

    python tests/benchmarks/derive.py --optimizers sgd,adam --depths 10,30,100

Linear is a ratio of one.  Two derivations per depth, both as ``solve`` makes them: at a point, with formal sizes and updates
summed up at every feature; of the first step, and of two.  Processor time, after imports.
"""

from __future__ import annotations

import argparse
import time

from scalecalc.claims import derive_at, formal, guess
from scalecalc.model import Model, resolve
from scalecalc.scale import Regime
from scalecalc.solve import unscaled


def seconds(model: Model, steps: int) -> float:
    """Processor seconds of one derivation."""
    regime = Regime.parse("proportional", model.program.dims)
    start = time.process_time()
    derive_at(model, guess(model), regime, steps)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--depths", default="10,30,100")
    parser.add_argument("--optimizers", default="sgd,adam")
    asked = parser.parse_args()
    seconds(formal(resolve("mlp", optimizer="sgd", parameterization=unscaled)), 2)  # imports
    print("optimizer  steps  depth  ms per layer  ratio")
    for optimizer in asked.optimizers.split(","):
        for steps in (1, 2):
            first = 0.0
            for depth in map(int, asked.depths.split(",")):
                model = formal(resolve(f"mlp:depth={depth}", optimizer=optimizer, parameterization=unscaled))
                per_layer = seconds(model, steps) / depth
                first = first or per_layer
                print(f"{optimizer:9s}{steps:7d}{depth:7d}{1000 * per_layer:14.1f}{per_layer / first:7.2f}", flush=True)


if __name__ == "__main__":
    main()
