"""The zoo: every architecture, derived and measured, model by model, and what came out of it as a table.

    python tests/benchmarks/zoo.py --budget 60 --jobs 2 --optimizers sgd,adam,muon --parameterizations default,solved

Every model under every optimizer, with its own parameterization and with the one that is solved for, is verified and its
rows are counted.  Each table is measured by a process of its own, which is ended when it takes longer than ``--limit``;
``--jobs`` of them run at once, and share the cores.  With ``--more`` those tables of which fewer than nine rows in ten are
decided are measured once more, for so many seconds.  With ``--cpu`` seconds are those of the processor: a machine that does
other things beside gives a table as many seeds as one that does not.  What is found is kept in a file beside the report
(every row with its slopes), so that a run that was stopped (Ctrl-C) goes on where it was, with what failed at the end; the
report is written anew after every table.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scalecalc.errors import ScalecalcError
from scalecalc.measure.verify import verify
from scalecalc.solve import solve

DECIDED = 0.9  # of a table's rows: what it is to have
VERDICTS = ("agrees", "disagrees", "inconclusive")
# The slower ones last.  Of mamba's block the one without a residual is measured, at steps of order one: beside the residual
# and the norm behind it, and with the reference's small steps, the states do not lead yet at widths that can be measured.
MODELS = (
    "mlp", "mlp:dropout=yes", "residual:depth=1", "residual:depth=1,norm=layer,gain=yes", "residual:depth=1,norm=group",
    "residual:norm=none", "embedding", "embedding:tied=no", "conv", "conv:depthwise=yes,residual=yes",
    "conv:norm=group,pooling=max", "moe", "moe:routing=top1", "transformer", "transformer:scale=1/sqrt(d)",
    "transformer:growing=heads", "transformer:qk_norm=yes,glu=yes", "transformer:kv=grouped,rotary=yes",
    "transformer:growing=heads,kv=one", "linear_attention:decay=fixed,norm=no", "linear_attention:decay=fixed",
    "linear_attention", "deltanet", "deltanet:gated=yes", "rglru", "gru:bias=no", "lti", "dense_ssm", "s6",
    "s6:discretization=mamba", "s4d", "s4d:transition=s4d_real", "s4d:transition=s4d_inv", "ssd:norm=no,residual=no", "ssd",
    "lru", "lru:normalised=no", "s5", "s5:step=trained", "moe:growing=experts",
    "mamba:step=low_rank,residual=no", "lstm:bias=no",
)  # fmt: skip
# what each row shows, under Adam with the model's own parameterization; the numbers are those measured
FINDINGS = (
    ("What people know", (
        ("transformer", "logits, update by W_q, step 1", "with logits of 1/d, q moves them by order one"),
        ("transformer:scale=1/sqrt(d)", "logits, update by W_q, step 1", "with 1/√d by more"),
        ("transformer", "f, init", "a readout of size 1/N"),
        ("transformer", "f, update by W_out, step 1", "and what it learns"),
        ("embedding", "f, update by E, step 1", "a tied embedding at an embedding's rate, behind 1/N"),
        ("conv", "f, update by W_2, step 1", "mup for channels"),
        ("ssd:norm=no,residual=no", "y, init", "C·B is q·k without a scale, initially"),
        ("ssd:norm=no,residual=no", "y, update by W_C, step 1", "and once C has learned"),
        ("lru", "h, init", "states behind γ"),
        ("lru:normalised=no", "h, init", "and without"),
    )),
    ("What we have not seen stated", (
        ("linear_attention:decay=fixed", "o, init", "linear attention with 1/d before its norm, initially"),
        ("linear_attention:decay=fixed", "o, update by W_q, step 1", "and its update, N^(1/2) times as large"),
        ("linear_attention:decay=fixed", "u1, update by W_q, step 1", "which the norm hands on, at any scale"),
        ("deltanet", "o, init", "a DeltaNet head initially"),
        ("deltanet", "o, update by W_q, step 1", "and its update"),
        ("deltanet", "y, update by W_q, step 1", "which the norm hands on likewise"),
        ("ssd", "y, init", "Mamba-2's states, beside a skip of order one"),
        ("s4d", "y, init", "C of mup's size for a fan-in of N_x: S4D's own is one"),
        ("s4d", "y, update by C, step 1", "and of mup's rate"),
        ("s5:step=trained", "f, update by log_Delta, step 1", "a step per state"),
        ("s5:step=trained", "y, update by log_Delta+log_Delta, step 1", "second order: state n turns n times as far"),
        ("moe:routing=top1", "logits, init", "logits of a top-1 router initially"),
        ("moe:routing=top1", "logits, update by W_r, step 1", "and their update: most tokens move elsewhere"),
        ("moe:growing=experts", "m, init", "the soft mixture of E experts initially"),
        ("moe:growing=experts", "m, update by W_1, step 1", "and once they learn"),
    )),
)  # fmt: skip
Key = tuple[str, str, str]


def one(model: str, optimizer: str, scaled: str, budget: float, seed: int) -> dict[str, Any]:
    """Counts of one model's rows by verdict, the rows with their slopes, and seconds; or what went wrong."""
    start = time.perf_counter()
    try:
        p = solve(model, optimizer=optimizer, steps=1) if scaled == "solved" else None
        table = verify(model, optimizer=optimizer, parameterization=p, budget=budget, seed=seed)
    except ScalecalcError as error:
        return {"error": f"{type(error).__name__}: {error}", "seconds": time.perf_counter() - start}
    found: dict[str, Any] = {verdict: table.counts()[verdict] for verdict in VERDICTS}
    found["rows"] = [
        {
            "row": row.label,
            "derived": row.formula(),
            "measured": {d: [round(x, 3) for x in (s.slope, s.low, s.high)] for d, s in (row.measured or {}).items()},
            "verdict": row.verdict,
            "settle": row.settle,
        }
        for row in table.rows
    ]
    return found | {"budget": budget, "seconds": time.perf_counter() - start}


def decided(table: Mapping[str, Any]) -> float:
    """Share of a table's rows that have a verdict other than inconclusive."""
    counts = [table.get(v, 0) for v in VERDICTS]
    return sum(counts[:2]) / max(1, sum(counts))


def _child(out: Connection, cores: Sequence[int], cpu: bool, *asked: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    if cpu:
        time.perf_counter = time.process_time  # the clock that verify reads
    if cores:
        os.sched_setaffinity(0, cores)  # verify takes a worker per core that it may use
    try:
        out.send(one(*asked))
    except Exception as error:
        traceback.print_exc()
        out.send({"error": f"a bug: {type(error).__name__}: {error}", "seconds": 0.0})


@dataclass(frozen=True)
class Job:
    """One table being measured, by a process on a share of the cores."""

    key: Key
    slot: int
    process: BaseProcess
    into: Connection
    began: float

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def result(self, limit: float) -> dict[str, Any] | None:
        """What the process sent, or why it sent nothing; None while it may still do."""
        try:
            if self.into.poll():
                return self.into.recv()
        except EOFError:
            return {"error": "its process ended (out of memory?)", "seconds": self.seconds}
        return {"error": f"took longer than {limit:.0f} s", "seconds": self.seconds} if self.seconds > limit else None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.into.close()


def _start(key: Key, slot: int, asked: argparse.Namespace, budget: float) -> Job:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scalecalc.measure.verify", "scalecalc.solve"])
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    into, out = context.Pipe(duplex=False)
    mine = (out, cores[slot :: asked.jobs], asked.cpu, *key, budget, asked.seed)
    process = context.Process(target=_child, args=mine, daemon=True)
    process.start()
    out.close()
    return Job(key, slot, process, into, time.perf_counter())


def all_of(
    todo: Sequence[Key], budget: float, until: float, asked: argparse.Namespace, told: Callable[[Key, dict[str, Any]], None]
) -> None:
    """:func:`one` of every key, so many at once, each in a process of its own; ``told`` hears of each that is done."""
    waiting, running, free = list(todo), list[Job](), list(range(asked.jobs))
    try:
        while True:
            while waiting and free and time.perf_counter() <= until:
                running.append(_start(waiting.pop(0), free.pop(0), asked, budget))
            if not running:
                return
            wait([job.into for job in running], timeout=1)
            for job in list(running):
                found = job.result(asked.limit + budget - asked.budget)
                if found is not None:
                    job.end()
                    running.remove(job)
                    free.append(job.slot)
                    told(job.key, found)
    finally:
        for job in running:
            job.end()


def wanted(asked: argparse.Namespace) -> Iterator[Key]:
    """All models once before any of them again: a run that is stopped has seen as many of them as it could."""
    for scaled in asked.parameterizations.split(","):
        for optimizer in asked.optimizers.split(","):
            for model in asked.models.split(";") if asked.models else MODELS:
                yield model, optimizer, scaled


def _tables(found: Mapping[Key, Mapping[str, Any]]) -> list[str]:
    lines = [
        "| model | optimizer | parameterization | agree | disagree | inconclusive | seconds |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for (model, optimizer, scaled), r in found.items():
        counts = " | ".join(str(r[v]) for v in VERDICTS) if "error" not in r else "— | — | —"
        lines.append(f"| {model} | {optimizer} | {scaled} | {counts} | {r['seconds']:.0f} |")
    return lines


def _findings(found: Mapping[Key, Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for title, rows in FINDINGS:
        lines += ["", f"## {title}", "", "| model | row | derived | measured | verdict | |", "|---|---|---|---|---|---|"]
        for model, name, words in rows:
            table = found.get((model, "adam", "default"), {})
            row = next((r for r in table.get("rows", ()) if r["row"] == name), None)
            if row is None:
                lines.append(f"| {model} | {name} | — | — | not measured | {words} |")
                continue
            slopes = "; ".join(f"{d} {s:.2f} ({low:.2f} to {high:.2f})" for d, (s, low, high) in row["measured"].items())
            lines.append(f"| {model} | {name} | {row['derived']} | {slopes} | {row['verdict']} | {words} |")
    return lines


def report(found: Mapping[Key, Mapping[str, Any]], missing: int, asked: argparse.Namespace) -> str:
    """The table in Markdown: first what it was made with."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores; torch {torch.__version__}"
    command = (
        f"python tests/benchmarks/zoo.py --budget {asked.budget:g} --optimizers {asked.optimizers} "
        f"--parameterizations {asked.parameterizations} --seed {asked.seed} --jobs {asked.jobs}"
        + (f" --more {asked.more:g}" if asked.more else "")
        + (" --cpu" if asked.cpu else "")
    )
    longer = sum(r.get("budget", 0) > asked.budget for r in found.values())
    more = f" ({asked.more:g} s for {longer} tables that had decided less than nine rows in ten)" if longer else ""
    total = {v: sum(r.get(v, 0) for r in found.values()) for v in VERDICTS}
    rows = sum(total.values())
    share = f"{100 * (total['agrees'] + total['disagrees']) / rows:.0f} %" if rows else "none"
    measured = sum("error" not in r for r in found.values())
    lines = [
        "# The zoo",
        "",
        f"Budget {asked.budget:g} s {'of the processor ' if asked.cpu else ''}a table{more}, {asked.jobs} at once, "
        f"seed {asked.seed}; {machine}.",
        "",
        f"`{command}`",
        "",
        f"{measured} of {len(found) + missing} tables measured: {rows} rows, of which {total['agrees']} agree, "
        f"{total['disagrees']} disagree and {total['inconclusive']} are inconclusive at this budget ({share} conclusive).",
        "",
        *_tables(found),
    ]
    lines += _findings(found)
    wrong = [
        f"- {' '.join(key)}: {row['row']}: derived {row['derived']}, {row['settle']}"
        for key, r in found.items()
        for row in r.get("rows", ())
        if row["verdict"] == "disagrees"
    ]
    open_ = [f"- {' '.join(key)}: {r['error']}" for key, r in found.items() if "error" in r]
    lines += ["", "## Rows that disagree", "", *wrong] if wrong else []
    lines += ["", "## Not measured", "", *open_] if open_ else []
    return "\n".join(lines) + "\n"


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", default="", help="separated by semicolons; all of them unless given")
    parser.add_argument("--optimizers", default="sgd,adam,muon")
    parser.add_argument("--parameterizations", default="default,solved")
    parser.add_argument("--budget", type=float, default=60, help="seconds to measure one model")
    parser.add_argument("--more", type=float, default=0, help="seconds for the tables that have decided too few rows by then")
    parser.add_argument("--limit", type=float, help="seconds until one table is given up, deriving included (20 budgets)")
    parser.add_argument("--jobs", type=int, default=1, help="tables measured at once")
    parser.add_argument("--cpu", action="store_true", help="budgets are seconds of the processor, one core a table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no model later than this")
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/zoo.md"))
    asked = parser.parse_args()
    asked.limit = asked.limit or 20 * asked.budget
    return asked


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    asked = _asked()
    signal.signal(signal.SIGTERM, _stop)  # so that the process that measures is ended, too
    store = asked.output.with_suffix(".json")
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    made_with = {"seed": asked.seed}
    known = json.loads(store.read_text()) if store.exists() else {}
    kept: dict[Key, dict[str, Any]] = {}
    if known.get("with") == made_with:
        kept = {tuple(r.pop("key")): r for r in known["tables"] if r.get("budget", asked.budget) >= asked.budget}
    keys = list(wanted(asked))
    todo = [key for key in keys if key not in kept] + [key for key in keys if "error" in kept.get(key, {})]

    def write() -> None:
        found = {key: kept[key] for key in keys if key in kept}
        asked.output.write_text(report(found, len(keys) - len(found), asked))

    write()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("zoo", total=len(keys), completed=len(keys) - len(todo))

        def told(key: Key, r: dict[str, Any]) -> None:
            if "error" in r and "error" not in kept.get(key, {"error": ""}):
                return  # the shorter measurement stands
            kept[key] = r
            words = r.get("error") or ", ".join(f"{r[v]} {v}" for v in VERDICTS)
            bar.console.print(f"{' '.join(key)}: {words} ({r['seconds']:.0f} s)", highlight=False)
            for row in r.get("rows", ()):
                if row["verdict"] == "disagrees":
                    bar.console.print(f"    disagrees: {row['row']}: {row['derived']}; {row['settle']}", highlight=False)
            tables = [{"key": k, **found} for k, found in kept.items()]
            part = store.with_suffix(".part")
            part.write_text(json.dumps({"with": made_with, "tables": tables}, indent=1))
            part.replace(store)  # the old file stays until the new one is whole
            write()
            bar.advance(task)

        until = time.perf_counter() + asked.seconds
        try:
            all_of(todo, asked.budget, until, asked, told)
            few = [k for k in keys if "error" not in (r := kept.get(k, {"error": ""})) and decided(r) < DECIDED]
            few = [k for k in few if kept[k]["budget"] < asked.more]
            bar.update(task, total=len(keys) + len(few))
            all_of(few, asked.more, until, asked, told)
        except KeyboardInterrupt:
            bar.console.print("stopped; the same command goes on from here")


if __name__ == "__main__":
    main()
