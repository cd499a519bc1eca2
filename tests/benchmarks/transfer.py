"""How much the engine adds to jobs of one second: wall time over what the jobs alone take, here and by two workers.

    python tests/benchmarks/transfer.py

Jobs sleep, so that other work on the machine does not count.  Starting the workers (an import of torch each) is told apart.
Readings on two cores shared with four others, load about 6, 40 jobs:

                 added    to start
    in process   1.8 %    0.0 s
    two workers  1.7 %    2.1 s
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from scalecalc.parameterization import Parameterization
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling
from scalecalc.transfer.config import Setup, Sweep
from scalecalc.transfer.engine import Engine
from scalecalc.transfer.records import Job
from scalecalc.transfer.store import Store

JOBS, SECONDS = 40, 1.0
ONE = Scale.one()
SWEEP = Sweep("mlp", {"N": 8}, "teacher", "teacher", "sgd", 4, 8, 0)
SCHEME = Parameterization("plain", "sgd", ("N",), {"W_in": WeightScaling(ONE, ONE, ONE)}, {"W_in": ("N", "")})
CURVE = tuple((step, 1.0 / step) for step in range(1, 51))


def sleep(setup: Setup) -> Job:
    time.sleep(SECONDS)
    return Job(
        setup.key, setup.sweep.hash, "plain", dict(setup.dims), "", setup.log2_rate, setup.seed, "done", 1.0, CURVE, SECONDS
    )


def reading(workers: int) -> tuple[float, float]:
    """Share of time added between the first and the last end, and seconds until the first."""
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "runs.sqlite")
        engine = Engine(store, workers=workers, run=sleep, said=lambda job, left: ends.append(time.perf_counter()))
        begun = time.perf_counter()
        engine([Setup(SWEEP, SCHEME, {"N": 8}, 0.0, seed) for seed in range(JOBS)])
    alone = SECONDS * (JOBS - workers) / workers
    return (ends[-1] - ends[workers - 1]) / alone - 1, ends[0] - begun - SECONDS


if __name__ == "__main__":
    for workers in (1, 2):
        added, start = reading(workers)
        print(f"{workers} worker(s): {100 * added:.1f} % added, {start:.1f} s to start")
