"""The fused scan beside other ways to compute it: time, memory, and the share of what the processor could do.

    python tests/benchmarks/scan.py --sizes S1,S2,S3 --peers numba,mambapy,loop,associative
    python -m pytest tests/benchmarks/scan.py -n 0 --benchmark-columns=median,min,rounds

Sizes (batch, time, channels, states): S1 (2, 128, 1024, 16), S2 (1, 64, 2048, 256), S3 (1, 32, 4096, 1024); float32, mamba's
discretization.  The first command runs each implementation in a process of its own: once to warm up, then ``--repeat`` times
or until BUDGET seconds are over, of which the median counts.  Columns: milliseconds forward and forward + backward, how many
times as long as the fused scan, megabytes beyond what there was before the first call, and for the fused scan the share of an
arithmetic limit: 13 and 33 vector operations per vector of states, at the rate of fused multiply-adds on as many threads
measured in the same run.  The second one is pytest-benchmark's: all in one process, a group per size and pass, and the bytes
and the share of the limit in what ``--benchmark-json`` writes.

Peers: ``numba``, the fused scan's other backend; ``loop``, the recurrence step by step in torch; ``mambapy``, its parallel
scan; ``associative``, torch's associative_scan; ``compiled``, the loop under torch.compile, which takes minutes to compile
(``--peers compiled``, or ``SCALECALC_COMPILED=1`` with pytest; torch keeps what it compiled, so that a second run with as
many threads takes seconds).  ``--limits`` instead shows the scan at sizes whose states would take gigabytes.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

SIZES = {"S1": (2, 128, 1024, 16), "S2": (1, 64, 2048, 256), "S3": (1, 32, 4096, 1024)}
LARGE = {"wide": (1, 64, 8192, 4096), "wider": (1, 128, 32768, 256)}
BUDGET = 3.0
OPERATIONS = {"forward": 13, "both": 33}  # vector operations per vector of states
PEAK = """
#include <stdint.h>
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#if defined(__aarch64__)
#define KEEP "+w"
#else
#define KEEP "+v"
#endif
typedef float V __attribute__((vector_size(BYTES)));
int lanes(void) { return BYTES / 4; }
float peak(int64_t n) { /* twelve chains, so that none waits for itself */
    const V m = (V){} + 0.999f, c = (V){} + 1e-3f;
    V a = c, b = c, d = c, e = c, f = c, g = c, h = c, i = c, j = c, k = c, l = c, o = c;
    while (n--) {
        a = a * m + c, b = b * m + c, d = d * m + c, e = e * m + c, f = f * m + c, g = g * m + c;
        h = h * m + c, i = i * m + c, j = j * m + c, k = k * m + c, l = l * m + c, o = o * m + c;
        __asm__ volatile("" : KEEP(a), KEEP(b), KEEP(d), KEEP(e), KEEP(f), KEEP(g));
        __asm__ volatile("" : KEEP(h), KEEP(i), KEEP(j), KEEP(k), KEEP(l), KEEP(o));
    }
    return (a + b + d + e + f + g + h + i + j + k + l + o)[0];
}
"""
Tensors = tuple[torch.Tensor, ...]


def tensors(size: tuple[int, int, int, int]) -> Tensors:
    b, t, c, n = size
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    delta = 1e-3 + 0.099 * torch.rand(b, t, c, generator=generator)
    A = -0.5 - n * torch.rand(c, n, generator=generator)
    return tuple(x.requires_grad_() for x in (normal(b, t, c), delta, A, normal(b, t, n), normal(b, t, n)))


def fused(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    from scalecalc.measure.scan import selective_scan

    return selective_scan(u, delta, A, B, C, discretization="mamba", backend="c")


def numba(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    from scalecalc.measure.scan import selective_scan

    return selective_scan(u, delta, A, B, C, discretization="mamba", backend="numba")


def loop(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    h, y = u.new_zeros(u.shape[0], *A.shape), []
    for x, d, b, c in zip(u.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        h = torch.exp(d[..., None] * A) * h + (d * x)[..., None] * b[:, None]
        y.append((h * c[:, None]).sum(-1))
    return torch.stack(y, 1)


def _whole(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.exp(delta[..., None] * A), (delta * u)[..., None] * B[:, :, None]


def mambapy(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    from mambapy.pscan import pscan

    return (pscan(*_whole(u, delta, A, B)) @ C[..., None]).squeeze(-1)


def associative(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    from torch._higher_order_ops.associative_scan import associative_scan

    def combine(x: tuple[torch.Tensor, torch.Tensor], y: tuple[torch.Tensor, torch.Tensor]) -> Any:
        return x[0] * y[0], y[0] * x[1] + y[1]

    _, h = associative_scan(combine, _whole(u, delta, A, B), dim=1, combine_mode="generic")
    return (h @ C[..., None]).squeeze(-1)


def compiled(*x: torch.Tensor) -> torch.Tensor:
    return _compiled_loop()(*x)


def _compiled_loop(made: list[Any] = []) -> Any:  # noqa: B006  the one compiled function
    if not made:
        made.append(torch.compile(loop, fullgraph=True))
    return made[0]


IMPLEMENTATIONS: dict[str, Callable[..., torch.Tensor]] = {
    f.__name__: f for f in (fused, numba, loop, mambapy, associative, compiled)
}


def clock(threads: int, cpu: bool) -> Callable[[], float]:
    """Seconds: of the clock, or of processor time over the threads."""
    return (lambda: time.process_time() / threads) if cpu else time.perf_counter


def measured(call: Callable[[], Any], repeat: int, now: Callable[[], float]) -> float:
    """Milliseconds, the median of so many calls, of fewer if they take long."""
    times, begin = list[float](), time.monotonic()
    while len(times) < repeat and (not times or time.monotonic() - begin < BUDGET):
        start = now()
        call()
        times.append(now() - start)
    return 1e3 * statistics.median(times)


def resident() -> float:
    """The largest number of megabytes this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def one(name: str, size: tuple[int, int, int, int], repeat: int, threads: int, cpu: bool) -> dict[str, float]:
    """One implementation at one size, in this process."""
    torch.set_num_threads(threads)
    function = IMPLEMENTATIONS[name]
    small = tensors((1, 2, 64, 16))
    if name != "compiled":  # libraries loaded, kernels compiled
        torch.autograd.grad(function(*small).sum(), small)
    x = tensors(size)
    weight = torch.randn(size[:3])

    def forward() -> None:
        with torch.no_grad():
            function(*x)

    def both() -> Tensors:
        return torch.autograd.grad(function(*x), x, weight)

    before = resident()
    gradients = both()
    extra = resident() - before
    results = sum(g.numel() * g.element_size() for g in gradients) / 2**20
    del gradients
    forward()
    now = clock(threads, cpu)
    times = {"forward": measured(forward, repeat, now), "both": measured(both, repeat, now)}
    return {**times, "extra": extra, "gradients": results}


def rate(threads: int, cpu: bool) -> float:
    """Operations on one number a second of so many threads together, from fused multiply-adds on vectors.

    By the clock the fastest of some runs, which is what the others would be without company; processor time is booked in
    pieces, of which a short run may get too few: there the median.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "peak.c", Path(folder) / "peak.so"
        source.write_text(PEAK)
        subprocess.run(["cc", "-O2", "-march=native", "-shared", "-fPIC", "-o", library, source], check=True)
        lib = ctypes.CDLL(str(library))
    lib.peak.argtypes, lib.peak.restype = [ctypes.c_int64], ctypes.c_float
    count, found, now = 5_000_000, list[float](), clock(threads, cpu)
    for _ in range(15):
        pool = [threading.Thread(target=lib.peak, args=(count,)) for _ in range(threads)]
        start = now()
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        found.append(12 * count * threads / (now() - start))
    return (statistics.median(found) if cpu else max(found)) * lib.lanes()


def child(name: str, size: str, repeat: int, threads: int, cpu: bool = False) -> dict[str, float]:
    """One implementation in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--sizes", size, "--repeat", str(repeat), "--threads", str(threads)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command += ["--cpu"] if cpu else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{name} at {size} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def limit() -> float:
    return rate(torch.get_num_threads(), False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_scan(benchmark: Any, limit: float, size: str, kind: str, name: str) -> None:
    if name == "compiled" and not os.environ.get("SCALECALC_COMPILED"):
        pytest.skip("compiles for minutes: set SCALECALC_COMPILED=1")
    function, x = IMPLEMENTATIONS[name], tensors(SIZES[size])
    weight = torch.randn(SIZES[size][:3])

    def call() -> None:
        with torch.set_grad_enabled(kind == "both"):
            y = function(*x)
        if kind == "both":
            torch.autograd.grad(y, x, weight)

    call()  # libraries loaded, kernels compiled
    start = time.monotonic()
    call()
    benchmark.group = f"{size} {kind}"
    benchmark.pedantic(call, rounds=max(1, min(9, int(BUDGET / (time.monotonic() - start)))))
    b, t, c, n = SIZES[size]
    if benchmark.stats:  # none with --benchmark-disable
        benchmark.extra_info["share_of_limit"] = b * t * c * n * OPERATIONS[kind] / limit / benchmark.stats.stats.median
    if kind == "both":
        benchmark.extra_info["bytes"] = 2**20 * child(name, size, 1, torch.get_num_threads())["extra"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="S1,S2,S3")
    parser.add_argument("--peers", default="numba,loop,mambapy,associative")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu", action="store_true", help="processor time instead of the clock's: on a shared machine")
    parser.add_argument("--limits", action="store_true", help="sizes whose states would not fit into the memory")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    every = {**SIZES, **LARGE}
    if asked.one:
        print(json.dumps(one(asked.one, every[asked.sizes], asked.repeat, asked.threads, asked.cpu)))
        return
    names = ["fused"] if asked.limits else ["fused", *filter(None, asked.peers.split(","))]
    print(f"{asked.threads} threads; ms and times the fused scan's, twice; MB beyond the inputs (gradients); % of limit")
    for size in LARGE if asked.limits else asked.sizes.split(","):
        limit = rate(asked.threads, asked.cpu)
        base: dict[str, float] = {}
        for name in names:
            found = child(name, size, asked.repeat, asked.threads, asked.cpu)
            base = base or found
            b, t, c, n = every[size]
            share = {k: b * t * c * n * OPERATIONS[k] / limit / found[k] * 1e5 for k in OPERATIONS}
            own = f"{share['forward']:6.0f}{share['both']:6.0f}" if name == "fused" else ""
            times = "".join(f"{found[k]:10.1f}{found[k] / base[k]:7.1f}" for k in OPERATIONS)
            print(f"{size:6s}{name:12s}{times}{found['extra']:8.0f} ({found['gradients']:.0f}){own}", flush=True)


if __name__ == "__main__":
    main()
