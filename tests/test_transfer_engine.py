"""Every job once, whatever happens: workers that die, clients that are killed, two at once, a budget, a full disk."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scalecalc.errors import InputError
from scalecalc.parameterization import Parameterization
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling
from scalecalc.transfer.config import Setup, Sweep
from scalecalc.transfer.engine import Engine
from scalecalc.transfer.interrupt import noticed
from scalecalc.transfer.records import Job
from scalecalc.transfer.store import Store

ONE = Scale.one()
SWEEP = Sweep("mlp", {"N": 8}, "teacher", "teacher", "sgd", 4, 8, 0)
SCHEME = Parameterization("plain", "sgd", ("N",), {"W_in": WeightScaling(ONE, ONE, ONE)}, {"W_in": ("N", "")})
POISON = 3.0  # the rate of the job that kills its worker


def setups(widths=(8, 16), rates=(-2.0, -1.0, 0.0), seeds=1) -> list[Setup]:
    return [Setup(SWEEP, SCHEME, {"N": n}, rate, seed) for n in widths for rate in rates for seed in range(seeds)]


def ended(setup: Setup, status="done", loss: float | None = 1.0) -> Job:
    return Job(
        setup.key, setup.sweep.hash, setup.scheme.name, dict(setup.dims), setup.group, setup.log2_rate, setup.seed, status,
        loss,
    )


def lethal(setup: Setup) -> Job:
    """What a worker does in these tests: one job is an out-of-memory killer's victim."""
    if setup.log2_rate == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return ended(setup)


def once(store: Store, wanted: list[Setup]) -> None:
    rows = sqlite3.connect(store.path).execute("select key from jobs").fetchall()
    assert sorted(key for (key,) in rows) == sorted({s.key for s in wanted})


def test_longest_first_each_once_and_nothing_again(tmp_path):
    store, order = Store(tmp_path / "runs.sqlite"), []

    def run(setup: Setup) -> Job:
        order.append(setup.dims["N"])
        return ended(setup)

    wanted = setups(widths=(8, 1024, 64))
    assert Engine(store, workers=1, run=run)(wanted + wanted)
    assert order == [1024] * 3 + [64] * 3 + [8] * 3
    assert Engine(store, workers=1, run=run)(wanted)
    assert len(order) == 9
    once(store, wanted)


def test_what_failed_is_run_again_and_its_row_replaced(tmp_path):
    store, wanted = Store(tmp_path / "runs.sqlite"), setups()
    Engine(store, workers=1, run=lambda s: ended(s, "failed", None))(wanted)
    assert {job.status for job in store.jobs()} == {"failed"}
    assert not store.done()
    Engine(store, workers=1, run=ended)(wanted)
    assert {job.status for job in store.jobs()} == {"done"}
    once(store, wanted)


def test_nothing_is_begun_that_would_not_end_within_the_budget(tmp_path):
    store, wanted = Store(tmp_path / "runs.sqlite"), setups(widths=(64,), rates=tuple(float(r) for r in range(9)))
    slow = Engine(store, workers=1, budget=3.0, run=lambda s: replace(ended(s), seconds=4.0))
    assert not slow(wanted)
    assert len(store.jobs()) == 1  # of the first nobody knew how long it takes
    assert Engine(store, workers=1, run=ended)(wanted)


def test_what_another_run_ends_meanwhile_is_not_run_here(tmp_path):
    store, wanted, here = Store(tmp_path / "runs.sqlite"), setups(), []

    def run(setup: Setup) -> Job:
        if not here:
            for other in wanted[:-1]:
                Store(store.path).write(ended(other, loss=2.0))
        here.append(setup.key)
        return ended(setup)

    Engine(store, workers=1, run=run)(wanted)
    assert len(here) <= 2
    once(store, wanted)


def test_a_dominated_run_is_told_where_the_finished_ones_were(tmp_path):
    bars = []

    def run(setup: Setup) -> Job:
        bars.append(setup.bar)
        return replace(ended(setup), curve=((1, 3.0), (2, setup.log2_rate)))

    store, wanted = Store(tmp_path / "runs.sqlite"), setups(widths=(8,))
    Engine(store, workers=1, dominated=0.5, run=run)(wanted)
    assert bars[0] == ()
    assert dict(bars[2])[2] == min(s.log2_rate for s in wanted if not s.bar and (2, s.log2_rate + 0.5) in bars[2]) + 0.5
    assert {s.key for s in wanted} == {job.key for job in store.jobs()}  # the bar is no part of what a job is


def test_too_large_for_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("scalecalc.transfer.engine.free_memory", lambda: 1e9)
    with pytest.raises(InputError, match="free; leave out the largest"):
        Engine(Store(tmp_path / "runs.sqlite"), run=ended)(setups(widths=(2**16,)))


@pytest.mark.slow
def test_a_job_under_which_workers_die_fails_and_the_others_end(tmp_path):
    store, wanted = Store(tmp_path / "runs.sqlite"), setups(widths=(8,), rates=(-2.0, POISON, 0.0))
    assert Engine(store, workers=2, run=lethal)(wanted)
    once(store, wanted)
    found = store.jobs()
    assert {job.log2_rate for job in found if job.status == "failed"} == {POISON}
    assert all("died" in job.why for job in found if job.status == "failed")
    assert all(job.status == "done" for job in found if job.log2_rate != POISON)


CLIENT = """
import sys
from scalecalc.cli import main
sys.exit(main([
    "transfer", "mlp", "--data", "teacher", "--dims", "N=8,16", "--rates=-4:-1", "--seeds", "2", "--steps", "1000",
    "--parameterization", "mup", "--workers", sys.argv[2], "--resume", "--db", sys.argv[1],
]))
"""


def client(db: Path, workers: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(db), str(workers)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def rows(db: Path) -> int:
    if not db.exists():
        return 0
    try:
        return sqlite3.connect(db).execute("select count(*) from jobs").fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # not set up yet


def until(condition, seconds=120.0) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_client_goes_on_where_it_was_ctrl_c_keeps_everything_and_two_share_the_rest(tmp_path):
    db = tmp_path / "runs.sqlite"
    killed = client(db, 1)
    until(lambda: rows(db) >= 2)
    killed.kill()
    killed.communicate()
    assert sqlite3.connect(db).execute("pragma integrity_check").fetchone() == ("ok",)
    between = rows(db)
    interrupted = client(db, 1)
    until(lambda: rows(db) >= between + 2)
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert "--resume goes on from there" in said
    last = [client(db, 1), client(db, 1)]  # two at once on what is left
    said = [one.communicate(timeout=120) for one in last]
    assert [one.returncode for one in last] == [0, 0], said
    judged = [out[out.index("best rate") :] for out, _ in said]
    assert judged[0] == judged[1]
    assert sqlite3.connect(db).execute("pragma integrity_check").fetchone() == ("ok",)
    found = sqlite3.connect(db).execute("select key, status, ended from jobs").fetchall()
    assert len(found) == len({key for key, _, _ in found}) == 2 * 4 * 2
    assert {status for _, status, _ in found} <= {"done", "diverged"}
    every = {one.pid for one in (killed, interrupted, *last)}
    assert {int(ended.split()[-1]) for _, _, ended in found} <= every  # who wrote it


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_was_lost_is_raised_at_the_next_look():
    """Raised within a destructor it is printed and forgotten."""

    class Torn:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with noticed() as unless_interrupted:
        unless_interrupted()
        Torn()
        with pytest.raises(KeyboardInterrupt):
            unless_interrupted()
    assert signal.getsignal(signal.SIGINT) is before


FULL = """
import resource, signal, sys
from scalecalc.transfer.records import Job
from scalecalc.transfer.store import Store, StoreError
store = Store(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    for i in range(100):
        store.write(Job(f"job {i}", "sweep", "mup", {"N": 8}, "", -3.0, i, "failed", None, why="x" * 20_000))
except StoreError as error:
    print(error)
    sys.exit(error.exit_status)
"""


def test_a_full_disk_keeps_what_was_written(tmp_path):
    db = tmp_path / "runs.sqlite"
    run = subprocess.run([sys.executable, "-c", FULL, str(db)], capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert "cannot be written" in run.stdout
    assert sqlite3.connect(db).execute("pragma integrity_check").fetchone() == ("ok",)
    kept = Store(db).jobs()
    assert 0 < len(kept) < 100
    Store(db).write(ended(setups()[0]))  # with room again it goes on
    assert len(Store(db).jobs()) == len(kept) + 1
