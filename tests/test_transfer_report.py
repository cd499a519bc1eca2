"""The report of a sweep: every file of the folder, the terminal, and the page in a browser."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scalecalc.dossier import Made
from scalecalc.errors import InputError, UnknownName
from scalecalc.transfer import frame, plots, report
from scalecalc.transfer.analysis import NOT, TRANSFERS, Summary, verdicts
from scalecalc.transfer.synthetic import MUP, SP, Surface, jobs

RATES = list(np.arange(-9.0, -1.0))
WIDTHS = [{"N_u": n, "N_x": 16} for n in (64, 256)] + [{"N_u": 64, "N_x": 64}]
MADE = Made("scalecalc transfer s6 sp mup", seed=3, measured="2026-01-01")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def found() -> Summary:
    """One that transfers, one that does not, one whose best rate is next to divergence; one group swept alone."""
    calm = replace(MUP, noise=2e-4)
    made = jobs({"mup": calm, "sp": SP, "cliff": Surface(edge=0.6)}, WIDTHS, RATES, dominated=1.08)
    made += jobs({"mup": calm}, WIDTHS[:2], RATES, group="W_B")
    return verdicts(made, 0.25, draws=1000)


def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "PLOTS", {kind: plots.PLOTS[kind] for kind in ("divergence", "loss")})
    found = verdicts(jobs({"mup": MUP}, WIDTHS[:2], RATES), draws=200)
    files = report.write(tmp_path / "new" / "r", found, made=MADE)
    assert files[0].name == "report.html"
    names = {path.relative_to(tmp_path / "new" / "r").as_posix() for path in files}
    assert names == {
        "report.html", "summary.csv", "runs.csv", "transfer.json", "transfer.md", "transfer.tex",
        *(f"plots/{kind}.{end}" for kind in plots.PLOTS for end in ("pdf", "svg", "png")),
    }  # fmt: skip
    for path in files:
        data = path.read_bytes() if path.parent.name == "plots" else path.read_bytes()[:700]
        for said in (b"scalecalc transfer s6 sp mup", MADE.version.encode()):
            assert said in data, path.name
        assert b"seed 3" in data or b'"seed": 3' in data, path.name
    page = files[0].read_text(encoding="utf-8")
    assert found.words() in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page
    assert len(page) < 1_000_000


def test_the_terminal(found: Summary, snapshot: Callable[[str, str], None]) -> None:
    text = report.to_terminal(found, width=80)
    assert max(map(len, text.splitlines())) <= 80
    snapshot(text, "transfer.txt")
    assert "\x1b[32m" in report.to_terminal(found, color=True)


def test_every_format(found: Summary) -> None:
    assert report.render(found, "table") == found.to_text()
    assert report.render(found, "markdown").count("|---") + report.render(found, "markdown").count("|:--") > 10
    tex = report.render(found, "latex")
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") > 3
    assert r"$-$" in tex
    with pytest.raises(UnknownName):
        report.render(found, "pdf")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
@pytest.mark.slow
def test_latex_compiles(found: Summary, tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "t.tex").write_text(report.to_latex(found, standalone=True), encoding="utf-8")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_json_has_all_and_no_number_that_is_none(found: Summary) -> None:
    data = json.loads(frame.to_json(found, MADE), parse_constant=lambda text: pytest.fail(text))
    assert data["made"]["seed"] == 3
    assert {n: p["verdict"] for n, p in data["parameterizations"].items()} == {
        fate.parameterization: fate.verdict for fate in found.fates
    }
    axis = data["parameterizations"]["sp"]["axes"][0]
    assert axis["drift"]["slope"] == found["sp"].axes[0].drift.slope
    assert len(data["runs"]) == len(found.jobs)
    assert data["runs"][0]["curve"][0] == list(found.jobs[0].curve[0])
    bound = verdicts([job for job in found.jobs if job.log2_rate < -6], draws=100)
    assert json.loads(frame.to_json(bound))["parameterizations"]["mup"]["widths"][0]["best"]["high"] is None


def test_tidy_data(found: Summary) -> None:
    data = found.to_frame()
    drifts = data[(data.kind == "drift") & (data.quantity == "best rate")]
    assert list(drifts.value) == [axis.drift.slope for axis in found.axes]
    assert list(data[data.kind == "verdict"].verdict) == [fate.verdict for fate in found.fates]
    assert data.low.dtype == float
    lines = list(csv.DictReader(io.StringIO(frame.to_csv(found, MADE))))
    assert [line["note"] for line in lines[:3]] == ["scalecalc transfer s6 sp mup", MADE.version, "seed 3"]
    assert len(lines) == len(data) + 4
    runs = frame.runs_frame(found)
    assert len(runs) == len(found.jobs)
    assert set(runs.status) == {"done", "diverged", "dominated"}
    kept = list(csv.DictReader(io.StringIO(frame.runs_csv(found))))
    assert [float(line["loss"] or "nan") for line in kept] == pytest.approx(
        [math.nan if job.loss is None else job.loss for job in found.jobs], nan_ok=True
    )


def test_the_runs_come_back_from_the_csv(found: Summary) -> None:
    """All but the training curves; so that what was trained elsewhere is judged again."""
    jobs, about = frame.read_runs(frame.runs_csv(found, MADE))
    assert about["command"] == "scalecalc transfer s6 sp mup"
    assert about["packages"] == "torch none"
    assert jobs == [replace(job, curve=(), versions={}) for job in found.jobs]
    assert verdicts(jobs, 0.25, draws=1000).words() == found.words()
    for text in ("", "a,b\n1,2\n", frame.to_csv(found), frame.runs_csv(found).replace("diverged", "gone")):
        with pytest.raises(InputError, match=r"no runs\.csv"):
            frame.read_runs(text)


def test_the_sentences_say_who_is_best(found: Summary) -> None:
    assert (found["mup"].verdict, found["sp"].verdict) == (TRANSFERS, NOT)
    said = report.closing(found)
    assert said[0] == "The best rate transfers under mup; it does not under sp; cliff is undecided."
    assert any(line.startswith("undecided: cliff, N_u at N_x = 16: finer rates at N_u = 64, 256") for line in said)
    assert any("the lowest loss is mup's" in line or "the lowest loss is cliff's" in line for line in said)
    assert any("times under mup" in line and "times under cliff" in line for line in said)


@pytest.mark.parametrize(
    ("require", "strict", "names", "status"),
    [
        (None, False, {"mup", "sp", "cliff"}, 0), ("transfer", False, {"mup", "sp", "cliff"}, 1), (None, True, {"mup"}, 0),
        ("transfer", False, {"mup", "cliff"}, 0), (None, True, {"mup", "cliff"}, 3), ("transfer", True, {"sp", "cliff"}, 1),
    ],
)  # fmt: skip
def test_the_exit_status(
    found: Summary, capsys: pytest.CaptureFixture[str], require: str | None, strict: bool, names: set[str], status: int
) -> None:
    from scalecalc.transfer.command import conclude

    given = {"output": None, "quiet": True, "tolerance": 0.25, "require": require, "strict": strict}
    assert conclude([job for job in found.jobs if job.parameterization in names], given) == status
    assert "Drift with the width" in capsys.readouterr().out


EVIL = '<img src=x onerror="window.evil=1">--> $x_{y}\\input{z}%'


def test_hostile_names_stay_names() -> None:
    made = jobs({EVIL: MUP}, [{"N": 64}, {"N": 256}], RATES)
    summary = verdicts([replace(job, why=EVIL, group=EVIL) for job in made], draws=100)
    rates = plots.rates(summary)
    assert rates is not None
    files = report.texts(summary, Made(EVIL, seed=0), {"rates": rates})
    assert "<img" not in files["report.html"].replace("&lt;img", "")
    assert files["transfer.md"].partition("\n")[0].count("-->") == 1
    assert r"\input{z}" not in "".join(line for line in files["transfer.tex"].splitlines() if not line.startswith("%"))
    assert json.loads(files["transfer.json"])["runs"][0]["why"] == EVIL


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (apt-get install chromium)")
@pytest.mark.slow
def test_the_page_in_a_browser(found: Summary, tmp_path: Path) -> None:
    """Quiet, without network, narrow enough for a telephone, in both themes, and accessible."""
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    drawn = {"divergence": plots.divergence(found), "loss": plots.loss(found)}  # the auditor takes long over plots
    (tmp_path / "p.html").write_text(report.page(found, MADE, drawn=drawn), encoding="utf-8")  # type: ignore[arg-type]
    heard: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(color_scheme="dark", viewport={"width": 390, "height": 844})
        page.on("console", lambda message: heard.append(message.text))
        page.on("request", lambda request: None if request.url.startswith("file:") else heard.append(request.url))
        page.goto((tmp_path / "p.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        ramp = "getComputedStyle(document.documentElement).getPropertyValue('--ramp-0').trim()"
        assert page.evaluate(ramp) == report.RAMP_DARK[0]
        violations = Axe().run(page).response["violations"]
        assert [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in violations] == []
        page.focus("#theme")
        page.keyboard.press("Enter")
        assert page.evaluate(ramp) == "#440154"
        browser.close()
    assert heard == []
