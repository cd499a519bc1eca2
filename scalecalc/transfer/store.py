"""Finished training runs in one SQLite file: one row per job, in write-ahead mode, each written in a transaction of its own.

What is in the file is whole at every moment: a process that is killed loses the jobs that it had not finished, and nothing
else.  The key, a hash of a job's whole config, is the primary key, so that two runs on one file write each job once,
whichever of them finishes it first.  A sweep whose config differs in anything has other keys; its rows lie beside the old
ones and are never mixed with them.

A failed job (out of memory, a worker that died) keeps its row, for people to read, until a later run finishes the job.

Only the process that was started by the user writes; workers hand their jobs to it.  SQLite's write-ahead log needs shared
memory, which network file systems do not have: on a cluster the file lies on a disk of the machine that the sweep was
started on.

    sqlite3 FILE "select dims, log2_rate, status, loss from jobs"
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from scalecalc.errors import InputError, ScalecalcError
from scalecalc.transfer.records import Job

FORMAT = 1  # of the tables; another one is refused
PATIENCE = 60.0  # seconds to wait for another process that writes
TABLES = """
create table if not exists sweeps (sweep text primary key, config text not null, begun text not null);
create table if not exists jobs (
    key text primary key, sweep text not null references sweeps (sweep), parameterization text not null,
    dims text not null, "group" text not null, log2_rate real not null, seed integer not null,
    status text not null check (status in ('done', 'diverged', 'dominated', 'failed')),
    loss real, curve text not null, seconds real not null, why text not null, versions text not null,
    config text not null, ended text not null);
create index if not exists jobs_of on jobs (sweep);
"""
COLUMNS = (
    "key", "sweep", "parameterization", "dims", "group", "log2_rate", "seed", "status", "loss", "curve", "seconds", "why",
    "versions",
)  # fmt: skip
NAMED = ", ".join(f'"{name}"' for name in COLUMNS)


class StoreError(ScalecalcError):
    """The database cannot be written: a full disk, a file that was taken away.  What was finished before is in it."""

    exit_status = 1


class Store:
    """The database of one or several sweeps.

    >>> import tempfile
    >>> from scalecalc.transfer.records import Job
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(Path(folder) / "runs.sqlite")
    ...     store.begin("a sweep", {"steps": 10})
    ...     store.write(Job("k", "a sweep", "mup", {"N": 64}, "", -8.0, 0, "done", 0.5))
    ...     store.done(), store.jobs("a sweep")[0].loss
    ({'k'}, 0.5)

    Raises:
        InputError: the file is no database, or one of another format.
        StoreError: it cannot be written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.is_dir():
            raise InputError(f"the database {str(self.path)!r} is a folder; name a file.")
        if not self.path.parent.is_dir():
            raise InputError(f"there is no folder {str(self.path.parent)!r} for the database; make it first.")
        with self._guarded("opened"), closing(self._connect()) as db:
            found = db.execute("pragma user_version").fetchone()[0]
            tables = {name for (name,) in db.execute("select name from sqlite_master where type = 'table'")}
            if found not in (0, FORMAT) or (tables and not found):
                raise InputError(f"{self.path} is a database of something else, or of another version; name another file.")
            if not found:
                db.execute("pragma journal_mode = wal")
                db.executescript(f"begin immediate; {TABLES} pragma user_version = {FORMAT}; commit;")

    def _connect(self) -> sqlite3.Connection:
        # A connection per transaction: it survives forks, threads, and a file system that was full for a while.
        db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        db.execute("pragma synchronous = full")
        return db

    @contextmanager
    def _guarded(self, what: str) -> Generator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(f"the database {self.path} cannot be {what}: {error}. What it had before is in it.") from error
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path} is no SQLite database ({error}); name another file.") from error

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._guarded("written"), closing(self._connect()) as db:
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
            except BaseException:
                if db.in_transaction:
                    db.execute("rollback")
                raise

    def begin(self, sweep: str, config: Mapping[str, Any]) -> None:
        """Note the config of a sweep, once."""
        row = (sweep, json.dumps(config, sort_keys=True), _now())
        with self._transaction() as db:
            db.execute("insert into sweeps values (?, ?, ?) on conflict do nothing", row)

    def write(self, job: Job, config: Mapping[str, Any] | None = None) -> None:
        """Write a job that has ended.  One that is there already stays as it is, unless it failed."""
        values = {name: getattr(job, name) for name in COLUMNS}
        for name in ("dims", "curve", "versions"):
            values[name] = json.dumps(values[name])
        row = (*values.values(), json.dumps(config or {}, sort_keys=True), _now())
        with self._transaction() as db:
            db.execute("insert into sweeps values (?, '{}', ?) on conflict do nothing", (job.sweep, _now()))
            db.execute("delete from jobs where key = ? and status = 'failed'", (job.key,))
            db.execute(
                f"insert into jobs ({NAMED}, config, ended) values ({', '.join('?' * len(row))}) on conflict do nothing", row
            )

    def jobs(self, sweep: str | None = None) -> list[Job]:
        """The jobs that have ended, of one sweep or of all, in an order that does not depend on when they did."""
        where, given = ("where sweep = ?", (sweep,)) if sweep is not None else ("", ())
        with self._guarded("read"), closing(self._connect()) as db:
            rows = db.execute(f"select {NAMED} from jobs {where} order by key", given).fetchall()
        return [_job(dict(zip(COLUMNS, row, strict=True))) for row in rows]

    def done(self) -> set[str]:
        """The keys of the jobs that need not be run again: all that have ended but those that failed."""
        with self._guarded("read"), closing(self._connect()) as db:
            return {key for (key,) in db.execute("select key from jobs where status <> 'failed'")}

    def configs(self) -> dict[str, dict[str, Any]]:
        """Per sweep, by its hash, its config."""
        with self._guarded("read"), closing(self._connect()) as db:
            return {sweep: json.loads(config) for sweep, config in db.execute("select sweep, config from sweeps")}


def _job(row: dict[str, Any]) -> Job:
    curve = tuple((int(step), float(loss)) for step, loss in json.loads(row["curve"]))
    whole: dict[str, Any] = {
        **row, "dims": json.loads(row["dims"]), "curve": curve, "versions": json.loads(row["versions"]),
    }  # fmt: skip
    return Job(**whole)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) + f" {os.getpid()}"
