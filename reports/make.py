"""Writes what is in this folder: ``python reports/make.py``, or ``python reports/make.py s6-zoh-sgd`` for a part of it.

What is derived comes out the same every time, and a test compares it.  What was measured is kept in ``s6/table.json``, which
says when and how; it is printed again from there.  To measure anew: ``python reports/make.py --measure 600``.  What was
trained is kept in ``transfer-*/runs.csv``, a line per run, from which statistics and figures are made again.  To train anew,
or to go on: ``python reports/make.py --train runs.sqlite transfer-mlp``.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scalecalc.compare import Fate
from scalecalc.dossier import Dossier, Made, collection, dossier, made
from scalecalc.report import plots
from scalecalc.report.folder import collected, texts
from scalecalc.report.output import write

if TYPE_CHECKING:
    from scalecalc.transfer.analysis import Summary

HERE = Path(__file__).resolve().parent
MEASURED = "s6"  # the one with a page and with measurements
SCHEMES = ("sp", "mup", "spectral", "mup_ssm", "solved")
KEPT = ("comparison.md", "comparison.tex", "comparison.csv")
SEED = 0


@dataclass(frozen=True)
class Report:
    """One folder: a model under one parameterization or several, with one optimizer."""

    model: str
    schemes: tuple[str, ...]
    optimizer: str

    @property
    def command(self) -> str:
        return shlex.join(["scalecalc", "report", self.model, *self.schemes, "--optimizer", self.optimizer])


EULER = "s6:discretization=euler,transition=constant"  # Euler's method explodes where the transition grows with the state
REPORTS = {
    "s6-zoh-sgd": Report("s6", SCHEMES, "sgd"),
    "s6-zoh-adam": Report("s6", SCHEMES, "adam"),
    "s6-euler-sgd": Report(EULER, SCHEMES, "sgd"),
    "s6-euler-adam": Report(EULER, SCHEMES, "adam"),
    "mlp-sgd": Report("mlp", ("sp", "ntp", "mfp", "mup", "solved"), "sgd"),
    "mlp-adam": Report("mlp", ("sp", "ntp", "mup", "solved"), "adam"),
    "transformer-adam": Report("transformer", ("sp", "mup"), "adam"),
    "mamba-adam": Report("mamba", ("mup", "mup_ssm"), "adam"),
    "s4d-adam": Report("s4d", ("sp", "mup"), "adam"),
    "lru-adam": Report("lru", ("sp", "mup"), "adam"),
}


@dataclass(frozen=True)
class Trained:
    """One folder: a sweep of training runs."""

    arguments: tuple[str, ...]

    @property
    def command(self) -> str:
        return shlex.join(["scalecalc", "transfer", *self.arguments])


SWEEPS = {
    "transfer-mlp": Trained((
        "mlp:activation=tanh,readout=zero", "--data", "digits", "--dims", "N=64:1024", "--rates", "sp=-9.5:-3.5:0.5",
        "--rates", "mup=-6.5:-1.5:0.5", "--seeds", "8", "--schedule", "cosine", "--steps", "20", "--batch", "512",
        "--parameterization", "sp", "--parameterization", "mup",
    )),
    "transfer-s6": Trained((
        "s6", "--dims", "N_u=64:512", "--dims", "N_x=16:64 N_u=128", "--base", "N_u=64", "--rates", "sp=-10:-1",
        "--rates=-7:2", "--seeds", "2", "--schedule", "cosine", "--steps", "200", "--batch", "8", "--length", "64",
        "--parameterization", "sp", "--parameterization", "spectral", "--parameterization", "mup_ssm",
        "--parameterization", "solved",
    )),
    "transfer-s6-ssm": Trained((
        "s6", "--dims", "N_u=64:512", "--base", "N_u=64", "--rates=-7:0", "--seeds", "2", "--schedule", "cosine", "--steps",
        "200", "--batch", "8", "--length", "64", "--parameterization", "spectral", "--parameterization", "mup_ssm", "--group",
        "ssm=W_Delta,W_B,W_C",
    )),
}  # fmt: skip
TRAINED = ("transfer.md", "transfer.tex", "summary.csv", "runs.csv")


def trained(name: str) -> tuple[Summary, Made]:
    """What the runs that are kept say, and how they were made."""
    from scalecalc.transfer.analysis import verdicts
    from scalecalc.transfer.frame import read_runs

    jobs, about = read_runs((HERE / name / "runs.csv").read_text(encoding="utf-8"))
    packages = dict(part.split(" ", 1) for part in about["packages"].split(", "))
    jobs = [replace(job, versions=packages) for job in jobs]
    measured = about["when"].removeprefix("measured ")
    return verdicts(jobs), Made(SWEEPS[name].command, about["version"], 0, measured)


def train(name: str, database: str) -> None:
    """Run what the database lacks, and keep the runs."""
    from scalecalc import cli

    with tempfile.TemporaryDirectory() as folder:
        ask = ["transfer", *SWEEPS[name].arguments, "--db", database, "--resume", "-o", folder]
        if status := cli.main(ask):
            raise SystemExit(status)
        write((Path(folder) / "runs.csv").read_text(encoding="utf-8"), HERE / name / "runs.csv")


def compared(name: str) -> tuple[dict[str, str], dict[str, Dossier]]:
    """The files of one comparison by name, and what they were made from."""
    one = REPORTS[name]
    how = made(one.command)
    found = {s: dossier(one.model, parameterization=s, optimizer=one.optimizer, made=how) for s in one.schemes}
    kept = KEPT if name.startswith(("s6", "mlp")) else KEPT[:2]  # a line per exponent makes half a megabyte of a mamba
    files = {file: text for file, text in collected(collection(found, how)).items() if file in kept}
    first = next(iter(found.values()))
    files["diagram.mmd"] = texts(first, page=False)["diagram.mmd"]
    return files, found


def whole(measure: float | None = None) -> Dossier:
    """The report with measurements: those kept, or new ones within so many seconds."""
    kept = HERE / MEASURED / "table.json"
    if measure is not None:
        how = made(f"scalecalc report s6 --measure --budget {measure:g} --seed {SEED}", SEED)
        return dossier("s6", measure=True, measuring={"budget": measure, "seed": SEED, "progress": True}, made=how)
    return dossier("s6", measured=kept if kept.exists() else None, made=made("scalecalc report s6 --measured table.json"))


def index(found: dict[str, dict[str, Dossier]]) -> str:
    """README.md: a line for every table, with the verdict in words."""
    out = [f"<!-- {made('python reports/make.py').line()} -->", "", "# Reports", "", *INTRODUCTION, ""]
    out += ["| model | optimizer | parameterization | what the updates do |", "| --- | --- | --- | --- |"]
    for name, dossiers in found.items():
        for scheme, one in dossiers.items():
            model = REPORTS[name].model.replace("|", "\\|")
            link = f"[{model}]({name}/comparison.md)"
            out.append(f"| {link} | {one.table.optimizer} | {scheme} | {Fate.of(one.table).words()} |")
    out += ["", "## Trained", "", *TRAINING, "", "| sweep | what was seen |", "| --- | --- |"]
    for name in SWEEPS:
        said = trained(name)[0]
        about = [f"{fate.parameterization}: {fate.words()}" for fate in said.fates]
        out += [f"| [{name}]({name}/transfer.md) | {line} |" for line in (*about, *compared_words(said))]
    return "\n".join(out) + "\n"


INTRODUCTION = [
    "What scalecalc itself wrote: the derived sizes of the published architectures, a folder per model and optimizer, with",
    "the parameterizations side by side as Markdown, CSV and LaTeX, and the forward pass as Mermaid. The folder",
    f"[{MEASURED}]({MEASURED}/) is a whole report with measurements: a page (`report.html`, to be downloaded and opened),",
    "tables, plots, the diagram, the derivation as a LaTeX document. [zoo.md](zoo.md) lists how many rows of the other",
    "models have been measured.",
    "",
    "`python reports/make.py` writes all of it again; a test fails where what is derived has changed.",
]

def compared_words(said: Summary) -> list[str]:
    """Who is best, in a sentence."""
    return [] if said.comparison is None else [said.comparison.words()]


TRAINING = [
    "`scalecalc transfer` trained these: every run is a line of `runs.csv`, from which `python reports/make.py` makes a page",
    "(`report.html`), tables and plots again; the first line of each file is the command.",
    "",
    "![the best and the largest stable rates of the perceptron against its width](transfer-mlp/best.svg)",
    "![loss of the byte-level S6 against the rate, a line per width](transfer-s6/rates.svg)",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    every = [*REPORTS, MEASURED, *SWEEPS]
    parser.add_argument("names", nargs="*", help=f"folders: {', '.join(every)}; all, if none is given")
    parser.add_argument("--measure", type=float, metavar="SECONDS", help=f"measure {MEASURED} anew, for so long")
    parser.add_argument("--train", metavar="DATABASE", help=f"train those of {', '.join(SWEEPS)} that are named")
    asked = parser.parse_args()
    names = asked.names or every
    found: dict[str, dict[str, Dossier]] = {}
    for name in (n for n in names if n in REPORTS):
        files, found[name] = compared(name)
        _write(HERE / name, files)
    if MEASURED in names:
        one = whole(asked.measure)
        _write(HERE / MEASURED, texts(one))
        drawn = {"heat": plots.heat, "drift": plots.drift, "alignment": plots.alignments}
        for name, plot in drawn.items():
            if (figure := plot(one.table)) is not None:
                plots.save(figure, HERE / MEASURED / f"{name}.svg", how=one.made.line())
    for name in (n for n in names if n in SWEEPS):
        if asked.train and asked.names:
            train(name, asked.train)
        _write_sweep(name)
    if len(found) == len(REPORTS):
        write(index(found), HERE / "README.md")


def _write_sweep(name: str) -> None:
    from scalecalc.transfer.plots import figures
    from scalecalc.transfer.report import LINKS, PAGE
    from scalecalc.transfer.report import texts as printed

    said, how = trained(name)
    drawn = figures(said)
    files = printed(said, how, drawn, {file: what for file, what in LINKS.items() if file in TRAINED})
    _write(HERE / name, {file: files[file] for file in (PAGE, *TRAINED)})
    for kind, figure in drawn.items():
        plots.save(figure, HERE / name / f"{kind}.svg", how=how.line())


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        write(text, folder / name)
    print(f"{folder.name}: {', '.join(files)}")


if __name__ == "__main__":
    main()


