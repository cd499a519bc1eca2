"""The zoo: every architecture, derived and measured, model by model, and what came out of it as a table.

    python tests/benchmarks/zoo.py --budget 20 --optimizers sgd,adam -o reports/zoo.md

Every model under every optimizer, with its own parameterization and with the one that is solved for, is verified and its
rows are counted.  The counts are kept in a file beside the report as they come, so that a run that was stopped goes on where
it was; the report is written anew after every model.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scalecalc.errors import ScalecalcError
from scalecalc.measure.verify import verify
from scalecalc.solve import solve

VERDICTS = ("agrees", "disagrees", "inconclusive")
MODELS = (
    "mlp", "residual:depth=1", "embedding", "embedding:tied=no", "conv", "conv:depthwise=yes,residual=yes",
    "linear_attention:decay=fixed,norm=no", "lru", "ssd:norm=no,residual=no", "s4d", "rglru", "gru:bias=no", "moe",
    "deltanet", "transformer", "residual:depth=1,norm=layer,gain=yes", "residual:norm=none",
    "linear_attention", "ssd",
    "s4d:transition=s4d_real", "s4d:transition=s4d_inv", "s6", "s6:discretization=mamba", "lti",
    "transformer:scale=1/sqrt(d)", "transformer:growing=heads", "transformer:qk_norm=yes,glu=yes,groups=yes",
    "mamba",
)  # fmt: skip
Key = tuple[str, str, str]


def one(model: str, optimizer: str, scaled: str, budget: float, seed: int) -> dict[str, Any]:
    """Counts of one model's rows by verdict, the rows that disagree, and seconds; or what went wrong."""
    start = time.perf_counter()
    try:
        p = solve(model, optimizer=optimizer, steps=1) if scaled == "solved" else None
        table = verify(model, optimizer=optimizer, parameterization=p, budget=budget, seed=seed)
    except ScalecalcError as error:
        return {"error": f"{type(error).__name__}: {error}", "seconds": time.perf_counter() - start}
    found: dict[str, Any] = {verdict: table.counts()[verdict] for verdict in VERDICTS}
    found["rows"] = [row.label for row in table.rows if row.verdict == "disagrees"]
    return found | {"seconds": time.perf_counter() - start}


def wanted(asked: argparse.Namespace) -> Iterator[Key]:
    """All models once before any of them again: a run that is stopped has seen as many of them as it could."""
    for scaled in asked.parameterizations.split(","):
        for optimizer in asked.optimizers.split(","):
            for model in asked.models.split(";") if asked.models else MODELS:
                yield model, optimizer, scaled


def report(found: Mapping[Key, Mapping[str, Any]], missing: int, asked: argparse.Namespace) -> str:
    """The table in Markdown: first what it was made with."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, one used; torch {torch.__version__}"
    command = (
        f"python tests/benchmarks/zoo.py --budget {asked.budget:g} --optimizers {asked.optimizers} "
        f"--parameterizations {asked.parameterizations} --seed {asked.seed}"
    )
    total = {v: sum(r.get(v, 0) for r in found.values()) for v in VERDICTS}
    rows = sum(total.values())
    share = f"{100 * (total['agrees'] + total['disagrees']) / rows:.0f} %" if rows else "none"
    lines = [
        "# The zoo",
        "",
        f"Budget {asked.budget:g} s a model, seed {asked.seed}; {machine}.",
        "",
        f"`{command}`",
        "",
        f"{len(found)} of {len(found) + missing} tables measured: {rows} rows, of which {total['agrees']} agree, "
        f"{total['disagrees']} disagree and {total['inconclusive']} are inconclusive at this budget ({share} conclusive).",
        "",
        "| model | optimizer | parameterization | agree | disagree | inconclusive | seconds |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for (model, optimizer, scaled), r in found.items():
        counts = " | ".join(str(r[v]) for v in VERDICTS) if "error" not in r else "— | — | —"
        lines.append(f"| {model} | {optimizer} | {scaled} | {counts} | {r['seconds']:.0f} |")
    wrong = [f"- {' '.join(key)}: {row}" for key, r in found.items() for row in r.get("rows", ())]
    open_ = [f"- {' '.join(key)}: {r['error']}" for key, r in found.items() if "error" in r]
    lines += ["", "Rows that disagree:", "", *wrong] if wrong else []
    lines += ["", "Not measured:", "", *open_] if open_ else []
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", default="", help="separated by semicolons; all of them unless given")
    parser.add_argument("--optimizers", default="sgd,adam,muon")
    parser.add_argument("--parameterizations", default="default,solved")
    parser.add_argument("--budget", type=float, default=60, help="seconds to measure one model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no model later than this")
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/zoo.md"))
    asked = parser.parse_args()
    store = asked.output.with_suffix(".json")
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    made_with = {"budget": asked.budget, "seed": asked.seed}
    known = json.loads(store.read_text()) if store.exists() else {}
    found: dict[Key, dict[str, Any]] = {}
    if known.get("with") == made_with:
        found = {tuple(r.pop("key")): r for r in known["tables"]}
    todo = [key for key in wanted(asked) if "error" in found.get(key, {"error": ""})]
    begin = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("zoo", total=len(todo))
        for k, key in enumerate(todo):
            if time.perf_counter() - begin > asked.seconds:
                break
            bar.update(task, description=" ".join(key))
            found[key] = one(*key, asked.budget, asked.seed)
            r = found[key]
            told = r.get("error") or ", ".join(f"{r[v]} {v}" for v in VERDICTS)
            bar.console.print(f"{' '.join(key)}: {told} ({r['seconds']:.0f} s)", highlight=False)
            for row in r.get("rows", ()):
                bar.console.print(f"    disagrees: {row}", highlight=False)
            store.write_text(
                json.dumps({"with": made_with, "tables": [{"key": key, **r} for key, r in found.items()]}, indent=1)
            )
            asked.output.write_text(report(found, len(todo) - k - 1, asked))
            bar.advance(task)


if __name__ == "__main__":
    main()
