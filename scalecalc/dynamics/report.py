"""The folder: a page, the table in every format, the curves as CSV, the derivations, and the plots.

====================  ==========================================================================
``report.html``       everything on one page
``table.*``           csv, json, md, tex: the verdicts
``curves.csv``        setting, N, time, gain measured and predicted, loss left out of it
``statistics.csv``    σ and η per frequency
``derivation.md``     every derivation, line by line
``plots/``            PDF, SVG and PNG
====================  ==========================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scalecalc.dossier import Made
from scalecalc.report import html, latex, layout
from scalecalc.report import json as to_json
from scalecalc.report.formats import to_csv
from scalecalc.report.frame import to_csv as table_csv
from scalecalc.report.inline import inline
from scalecalc.report.markdown import to_markdown
from scalecalc.report.output import write as put
from scalecalc.report.plots import FORMATS, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scalecalc.dynamics.study import Study

VERDICTS = {v: f'<span class="is {v}">{word}</span>' for v, word in layout.SYMBOLS.items()}
MOST_RECORDS = 200  # of a curve, in the file
CAPTIONS = {
    "curves": "The gain of the mode over its final value. Broad: gradient descent by autograd, in the time domain. Dashed: "
    "the closed form. Crosses: the gradient flow, integrated in the frequency domain.",
    "times": "Both times against the number of states. Time is the number of steps times the rate.",
    "statistics": "What the loss sees of the data, frequency by frequency, averaged over bands.",
    "stages": "Resonators at four frequencies, trained together. Broad: gradient descent. Dashed: the flow. Dotted: the "
    "sigmoid of each mode if it overlapped with no other; where they overlap there is no closed form.",
    "lengths": "Circular instead of linear convolution: the error falls like |a|^P, below its bound.",
}


def figures(study: Study) -> dict[str, Figure]:
    """Every plot that there is something for, by name."""
    from scalecalc.dynamics import plots

    one = study.projected
    found = {
        "curves": plots.curves(study, one), "times": plots.times(study), "statistics": plots.statistics(study, one),
        "stages": plots.stages(study.stages) if study.stages is not None else None,
        "lengths": plots.lengths(study.lengths) if study.lengths is not None else None,
    }  # fmt: skip
    return {name: made for name, made in found.items() if made is not None}


def texts(study: Study, made: Made) -> dict[str, str]:
    """The text files by name, without the page."""
    from scalecalc.dynamics.theory import show

    table, line = study.table, " ".join(made.line().split())
    return {
        "table.csv": table_csv(table, made),
        "table.json": to_json.to_json(table, made),
        "table.md": f"<!-- {line.replace('--', '- -')} -->\n\n{to_markdown(table)}",
        "table.tex": f"% {line}\n{latex.to_latex(table)}",
        "curves.csv": f"# {line}\n{_curves(study)}",
        "statistics.csv": f"# {line}\n{_statistics(study)}",
        "derivation.md": f"<!-- {line.replace('--', '- -')} -->\n\n{show('all', 'markdown')}",
    }


def _curves(study: Study) -> str:
    records = [
        {
            "setting": one.setting.name, "N": n, "time": f"{one.time[i, j]:.6g}", "gain": f"{one.gain[i, j]:.6g}",
            "predicted": f"{one.predicted[i, j]:.6g}",
        }
        for one in study.learned
        for i, n in enumerate(one.states)
        for j in range(0, one.time.shape[1], max(one.time.shape[1] // MOST_RECORDS, 1))
    ]  # fmt: skip
    return to_csv(("setting", "N", "time", "gain", "predicted"), records)


def _statistics(study: Study) -> str:
    one, pole = study.projected, study.statistics.pole
    sigma, eta = one.sigma_k(pole)[:, 0, 0], one.eta_k(pole)[:, 0, 0]
    records = [
        {"omega": f"{w:.6g}", "sigma": f"{s:.6g}", "eta": f"{e:.6g}"}
        for w, s, e in zip(one.omega, sigma, eta, strict=True)
    ]
    return to_csv(("omega", "sigma", "eta"), records)


def _escaped(words: str) -> str:
    from markupsafe import escape

    return str(escape(words))


def page(study: Study, made: Made, drawn: dict[str, Figure]) -> str:
    """The page."""
    from markupsafe import Markup

    from scalecalc.dynamics.theory import TOPICS, derivation
    from scalecalc.report.site import verdict

    derived = [derivation(topic) for topic in TOPICS]
    shown = [(name, Markup(inline(figure, name, CAPTIONS[name])), CAPTIONS[name]) for name, figure in drawn.items()]
    write = layout.Writer(size=lambda one: str(html.size(one)), text=_escaped, name=_escaped, verdicts=VERDICTS)
    sections = [
        (part, [[Markup(cell.replace("\n", "<br>")) for cell in row] for row in part.rows])
        for part in layout.sections(study.table, write=write)
    ]
    return html.draw(
        "dynamics.html", title="How fast a linear state space model learns", heading=layout.heading(study.table), made=made,
        table=study.table, verdict=verdict(study.table), sections=sections, figures=shown, derivations=derived,
    )  # fmt: skip


def write(study: Study, folder: str | Path, made: Made) -> list[Path]:
    """Write it all; the page first.

    Raises:
        InputError: a file cannot be written.
    """
    from scalecalc.report.folder import made_folder

    target = made_folder(folder)
    drawn = figures(study)
    files = {"report.html": page(study, made, drawn), **texts(study, made)}
    done: list[Path] = []
    for name, text in files.items():
        put(text, target / name)
        done.append(target / name)
    beneath = made_folder(target / "plots")
    for name, figure in drawn.items():
        for format in FORMATS:
            done.append(beneath / f"{name}.{format}")
            save(figure, done[-1], how=made.line())
    return done
