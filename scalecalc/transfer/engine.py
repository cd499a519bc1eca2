"""Run jobs that do not depend on each other, here or on a cluster, and keep what each comes to.

Jobs go through joblib: its loky processes on this machine, its dask backend on a cluster.  The longest go first, so that
none is left running alone at the end.  The process that the user started writes every job to the database when it ends;
workers write nothing.

A worker that dies (killed, out of memory) takes its job's result along, and joblib cannot say whose job it was.  So those
that were running are run again, one at a time, each in a process of its own; the one under which a process dies again is
written as failed, and the others go on together.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from scalecalc.errors import InputError
from scalecalc.measure.effort import free_memory
from scalecalc.transfer.config import Setup
from scalecalc.transfer.cost import Estimate, workers
from scalecalc.transfer.records import Job
from scalecalc.transfer.store import Store
from scalecalc.transfer.train import run, versions

DIED = "the process died (killed, or out of memory)"


def _quiet(job: Job, left: Estimate) -> None:
    pass


@dataclass
class Engine:
    """How jobs are run.

    Args:
        workers: processes on this machine; 1 trains in this one, so that nothing has to be started.  None: as many as there
            are cores.  Never more than fit into memory.
        scheduler: the address of a dask scheduler, whose workers are used instead.
        budget: seconds after which no job is begun; nor is one that is not expected to end within them.
        dominated: how much a run's loss may be above that of a finished one of the same width, halfway; None: whatever.
        said: called with every job that has ended, and with what is left.
        run: what a worker does with a job.
    """

    store: Store
    workers: int | None = None
    scheduler: str | None = None
    budget: float | None = None
    dominated: float | None = None
    said: Callable[[Job, Estimate], None] = _quiet
    run: Callable[[Setup], Job] = run
    begun: float = field(default_factory=time.monotonic)

    def __call__(self, setups: Sequence[Setup]) -> bool:
        """Run what has not ended yet, longest first.  False if the budget did not suffice for all.

        Raises:
            InputError: a job that does not fit into memory; no scheduler at the address.
            StoreError: a result cannot be written.
        """
        done = self.store.done()
        left = {s.key: s for s in setups if s.key not in done}
        if not left:
            return True
        with self._pool(list(left.values())) as (count, pool):
            estimate = Estimate(list(left.values()), count)
            # equals in an order of this run's own: two runs on one database hardly ever train the same job side by side
            waiting = sorted(random.SystemRandom().sample([*left.values()], len(left)), key=lambda s: -estimate.seconds(s))
            while waiting:
                flying: dict[str, Setup] = {}
                if not self._together(waiting, count, pool, flying, estimate):
                    break
                done = self.store.done()
                suspects = [s for s in flying.values() if s.key not in done]
                for one in suspects:
                    self._alone(one, pool, estimate)
                gone = done | {s.key for s in suspects}
                waiting = [s for s in waiting if s.key not in gone]
        done = self.store.done()
        return all(key in done or key in estimate.ended for key in left)

    @contextmanager
    def _pool(self, setups: Sequence[Setup]) -> Iterator[tuple[int, Any]]:
        """How many workers there are, and joblib's backend; None: this process."""
        if self.scheduler is None:
            count = workers(setups, self.workers, len(os.sched_getaffinity(0)), free_memory())
            yield count, ("loky" if count > 1 else None)
            return
        try:
            from distributed import Client
        except ImportError as error:
            raise InputError("--scheduler needs dask: pip install scalecalc[cluster].") from error
        from joblib._dask import DaskDistributedBackend

        try:
            client = Client(self.scheduler, timeout=10)
        except (OSError, ValueError, TypeError) as error:
            why = str(error) or type(error).__name__
            raise InputError(f"there is no dask scheduler at {self.scheduler!r} ({why}).") from error
        with client:
            count = sum(client.nthreads().values())
            if not count:
                raise InputError(f"the dask scheduler at {self.scheduler} has no workers; start some first.")
            yield count, DaskDistributedBackend(client=client, pure=False)

    def _together(
        self, waiting: Sequence[Setup], count: int, pool: Any, flying: dict[str, Setup], estimate: Estimate
    ) -> bool:
        """Run jobs side by side; True if a worker died, with the jobs that it may have been at left in ``flying``."""
        if pool is None:
            for setup in self._offered(waiting, flying, estimate):
                self._end(self.run(setup), flying, estimate)
            return False
        import joblib

        parallel = joblib.Parallel(
            n_jobs=count, backend=pool, batch_size=1, pre_dispatch=count, return_as="generator_unordered"
        )
        try:
            with closing(parallel(joblib.delayed(self.run)(s) for s in self._offered(waiting, flying, estimate))) as results:
                for job in results:
                    self._end(job, flying, estimate)
        except (BrokenProcessPool, CancelledError, *_killed(pool)):
            return True
        return False

    def _alone(self, setup: Setup, pool: Any, estimate: Estimate) -> None:
        """Run one job in a process of its own; if that dies, too, the job has failed."""
        begun, flying = time.monotonic(), dict[str, Setup]()
        # of two workers one stays idle: with a single one joblib would train in this process
        if self._together([setup], 2, pool, flying, estimate):
            job = Job(
                setup.key, setup.sweep.hash, setup.scheme.name, dict(setup.dims), setup.group, setup.log2_rate, setup.seed,
                "failed", None, (), time.monotonic() - begun, f"{DIED}, twice", versions(),
            )  # fmt: skip
            self._end(job, flying, estimate)

    def _offered(self, waiting: Sequence[Setup], flying: dict[str, Setup], estimate: Estimate) -> Iterator[Setup]:
        """The jobs one by one as workers are free: without what has ended since, here or in another run on this file."""
        for setup in waiting:
            if self.budget is not None:
                spent = time.monotonic() - self.begun
                if spent >= self.budget or (estimate.ended and spent + estimate.seconds(setup) > self.budget):
                    continue
            if setup.key in self.store.done():
                continue
            flying[setup.key] = setup
            yield replace(setup, bar=self._bar(setup, estimate)) if self.dominated is not None else setup

    def _bar(self, setup: Setup, estimate: Estimate) -> tuple[tuple[int, float], ...]:
        """Per step of the curves, the least loss of the finished runs that differ in the rate alone, and what is allowed."""
        assert self.dominated is not None
        least: dict[int, float] = {}
        for job in estimate.ended.values():
            same = job.dims == dict(setup.dims) and (job.parameterization, job.group, job.seed) == (
                setup.scheme.name, setup.group, setup.seed,
            )  # fmt: skip
            for step, loss in job.curve if same and job.status == "done" else ():
                least[step] = min(loss + self.dominated, least.get(step, loss + self.dominated))
        return tuple(sorted(least.items()))

    def _end(self, job: Job, flying: dict[str, Setup], estimate: Estimate) -> None:
        self.store.write(job, estimate.setups[job.key].config)
        flying.pop(job.key, None)
        estimate.add(job)
        self.said(job, estimate)


def _killed(pool: Any) -> tuple[type[Exception], ...]:
    if pool in (None, "loky"):
        return ()
    from distributed.scheduler import KilledWorker

    return (KilledWorker,)
