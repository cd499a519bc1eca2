"""A report as a folder: every form of it, each file opening with the command, the version and the seeds that made it.

====================  =======================================================================================
``report.html``       everything on one page
``derivation.html``   the modular proof, and ``derivation.tex`` for LaTeX
``table.csv``         tidy, a line per exponent; reads back into the Table
``table.json``        exact and complete, with the points that the slopes were fitted to
``table.md``          for a pull request or a wiki
``table.tex``         booktabs tables to ``\\input``; ``paper.tex`` is a document of its own
``groups.py``         the parameterization as torch parameter groups
``diagram.*``         the forward pass as SVG, DOT and Mermaid
``plots/``            where something was measured: PDF, SVG and PNG
====================  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from scalecalc.dossier import Collection, Dossier, Made
from scalecalc.errors import InputError
from scalecalc.report import comparison, derivation, diagram, groups, latex, plots, site
from scalecalc.report import json as to_json
from scalecalc.report.frame import to_csv
from scalecalc.report.markdown import to_markdown
from scalecalc.report.output import write

PAGE = "report.html"


def texts(found: Dossier, *, page: bool = True) -> dict[str, str]:
    """The text files of one report by name.  ``page``: with the HTML, which takes most of the time and of the room."""
    table, made, line = found.table, found.made, found.made.line()
    out = {
        "table.csv": to_csv(table, made),
        "table.json": to_json.to_json(table, made),
        "table.md": f"<!-- {_comment(line)} -->\n\n{to_markdown(table)}",
        "table.tex": _tex(line) + latex.to_latex(table),
        "paper.tex": _tex(line) + latex.to_latex(table, standalone=True),
        "groups.py": f"# {_line(line)}\n{groups.to_torch(table)}\n",
    }
    if found.flow is not None:
        out["diagram.svg"] = diagram.to_svg(found.flow, made=line)
        out["diagram.dot"] = f"// {_line(line)}\n{diagram.to_dot(found.flow)}"
        out["diagram.mmd"] = f"%% {_line(line)}\n{diagram.to_mermaid(found.flow)}"
    if found.proof is not None:
        out["derivation.tex"] = derivation.to_latex(found.proof, line)
        if page:
            out["derivation.html"] = site.derivation_page(found)
    if page:
        links = [(name, title) for name, title in LINKS.items() if name in out]
        out[PAGE] = site.report_page(found, links=links)
    return out


LINKS = {"derivation.html": "Derivation", "table.csv": "CSV", "table.json": "JSON", "paper.tex": "LaTeX"}


def write_report(found: Dossier, folder: str | Path, *, rows: bool = False) -> list[Path]:
    """Write one report; returns the files, the page first.

    Args:
        rows: the plot of every row as a file, too (which takes about a second each); the page has them in any case.

    Raises:
        InputError: a file cannot be written.
    """
    target = made_folder(folder)
    done = _write(texts(found), target)
    done += _plots(found, target / "plots", rows)
    return sorted(done, key=lambda path: path.name != PAGE)


def write_collection(found: Collection, folder: str | Path, *, rows: bool = False) -> list[Path]:
    """Write the reports of several parameterizations, each in a folder of its name, and what compares them.

    Raises:
        InputError: a file cannot be written.
    """
    target = made_folder(folder)
    links = {name: f"{name}/{PAGE}" for name in found.dossiers}
    out = collected(found)
    out[PAGE] = site.comparison_page(found, links)
    done = _write(out, target)
    figure = plots.coordinates(found.comparison.tables)
    if figure is not None:
        done += _save(figure, made_folder(target / "plots") / "coordinates", found.made)
    for name, one in found.dossiers.items():
        done += write_report(one, target / name, rows=rows)
    return sorted(done, key=lambda path: path != target / PAGE)


def collected(found: Collection) -> dict[str, str]:
    """The text files that compare parameterizations, without the page."""
    line = found.made.line()
    return {
        "comparison.csv": comparison.to_csv(found.comparison, found.made),
        "comparison.json": comparison.to_json(found.comparison, found.made),
        "comparison.md": f"<!-- {_comment(line)} -->\n\n{comparison.to_markdown(found.comparison)}",
        "comparison.tex": _tex(line) + comparison.to_latex(found.comparison),
    }


def check_folder(folder: str | Path) -> None:
    """Refuse a folder that could not be written to, before anything is computed for it.

    Raises:
        InputError: it is a file, or neither it nor the folder above it can be written to.
    """
    made_folder(folder)


def made_folder(folder: str | Path) -> Path:
    """The folder, made if need be.

    Raises:
        InputError: it cannot be made.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        probe = target / ".scalecalc"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write into the folder {str(folder)!r}: {error.strerror or error}.") from error
    return target


def _write(files: Mapping[str, str], target: Path) -> list[Path]:
    for name, text in files.items():
        write(text, target / name)
    return [target / name for name in files]


def _plots(found: Dossier, folder: Path, rows: bool) -> list[Path]:
    table = found.table
    whole: Mapping[str, Callable[..., object]] = {"heat": plots.heat, "drift": plots.drift, "alignment": plots.alignments}
    drawn = {name: make(table) for name, make in whole.items()}
    drawn |= {_file(row.label): plots.row(table, row) for row in table if rows}
    done: list[Path] = []
    for name, figure in drawn.items():
        if figure is not None:
            done += _save(figure, made_folder(folder) / name, found.made)
    return done


def _save(figure: object, stem: Path, made: Made) -> Iterable[Path]:
    paths = [stem.with_name(f"{stem.name}.{format}") for format in plots.FORMATS]
    for path in paths:
        plots.save(figure, path, how=made.line())  # pyright: ignore[reportArgumentType]
    return paths


def _file(label: str) -> str:
    """A row's label as the name of a file: letters, digits and hyphens, and no two rows alike."""
    import hashlib
    import re

    plain = re.sub(r"[^A-Za-z0-9_.+]+", "-", label).strip("-.")[:60]
    same = re.sub(r"[ ,]+", "-", label) == plain
    return plain if same else f"{plain}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"


def _line(words: str) -> str:
    return " ".join(words.split())


def _comment(words: str) -> str:
    """What ends no HTML comment."""
    return _line(words).replace("-->", "-- >").replace("--!>", "--! >")


def _tex(words: str) -> str:
    return f"% {_line(words)}\n"


__all__ = ["check_folder", "collected", "texts", "write_collection", "write_report"]
