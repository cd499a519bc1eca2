"""LaTeX tables: escaped, cut to the page, and compiled where there is a LaTeX."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from scalecalc.compare import Comparison
from scalecalc.derive import derive
from scalecalc.dossier import dossier
from scalecalc.report import derivation
from scalecalc.report.latex import LARGE_PAGE, MOST_LINES, PAGE, comparison, name, solution, text, to_latex
from scalecalc.scale import Scale
from scalecalc.solve import solve
from scalecalc.table import Row, Table

NASTY = 'a_b & 50% of $x$ #1 {y} \\z ~^<>|" ⟨ᵀ√≤ – — … ± ∂'


def test_derived(derived: Table, snapshot) -> None:
    snapshot(to_latex(derived), "derived.tex")


def test_decay_and_epsilon_are_typeset_too() -> None:
    """In headings and in cells: pdflatex knows no letters but those of ASCII."""
    solved = solve("mlp", optimizer="adamw")
    table = solved.table()
    other = derive("mlp", parameterization="mup", optimizer="adamw")
    for source in (to_latex(table), solution(solved), comparison(Comparison("mlp", {"solved": table, "mup": other}))):
        assert r"\epsilon" in source
        code = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
        assert code.isascii()


def test_measured(verified: Table, snapshot) -> None:
    source = to_latex(verified, standalone=True)
    assert r"$-0.50 \pm {<}0.01$" in source
    assert r"\textbf{disagrees}" in source
    snapshot(source, "verified.tex")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("y", "$y$"),
        ("h2", "$h_{2}$"),
        ("N_u", "$N_{u}$"),
        ("W_Delta", r"$W_{\Delta}$"),
        ("W_in+W_in", r"$W_{\mathrm{in}}+W_{\mathrm{in}}$"),
        ("dW_B·u", r"$\mathrm{d}W_{B}\,u$"),
        ("delta", r"$\delta$"),
        ("tanh″(u)", r"\texttt{tanh$''$(u)}"),
        ("tanh′(u)", r"$\mathrm{tanh}'(u)$"),
        ("⟨C, h⟩ 2", r"$\langle C,\,h\rangle2$"),
        ("step shift", r"$\mathrm{step}\ \mathrm{shift}$"),
        ("layers.0.norm_1", r"\texttt{layers.0.norm\_1}"),
        ("conv2d", r"\texttt{conv2d}"),
        ("a|b*c", r"\texttt{a\textbar{}b*c}"),
        ("", ""),
    ],
)
def test_names(words: str, expected: str) -> None:
    assert name(words) == expected


def test_text_leaves_nothing_special(tmp_path: Path) -> None:
    assert text("50% of a_b & $c") == r"50\% of a\_b \& \$c"
    assert text("⌘") == "[U+2318]"
    assert text("é") == "é"


def bodies(source: str) -> list[list[str]]:
    """The lines of each tabular below its heading."""
    return [found.strip().splitlines() for found in re.findall(r"\\midrule\n(.*?)\\bottomrule", source, re.DOTALL)]


def test_long_tables_are_cut_and_lose_no_row(derived: Table) -> None:
    rows = tuple(Row(f"x_{i}", "init", 0, (Scale.of("N_u"),), entry=(Scale.one(),), klass="stable") for i in range(100))
    source = to_latex(replace(derived, rows=rows, parameterization={}))
    assert "(1 of 5)" in source
    assert all(len(body) <= MOST_LINES for body in bodies(source))
    lines = [line for body in bodies(source) for line in body]
    assert [line for line in lines if line.startswith("$x")] == [
        f"$x_{{{i}}}$ & $N_{{u}}$ & stable \\\\" for i in range(100)
    ]


def test_wide_tables_are_cut_and_repeat_what_a_row_is(derived: Table) -> None:
    names = [f"parameterization {i}" for i in range(9)]
    found = Comparison("s6", dict.fromkeys(names, derived))
    for standalone in (False, True):
        source = comparison(found, standalone=standalone)
        heads = re.findall(r"\\toprule\n(row & by.*?) \\\\", source)
        assert len(heads) > 2
        shown = [cell for head in heads for cell in head.split(" & ") if cell.startswith("param")]
        assert shown == names
        assert all(head.startswith("row & by & step & ") for head in heads)
    assert PAGE < LARGE_PAGE


def compiled(folder: Path, source: str) -> str:
    """What LaTeX says of a document."""
    (folder / "t.tex").write_text(source, encoding="utf-8")
    program = shutil.which("pdflatex")
    assert program is not None
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="latin-1", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "t.pdf").stat().st_size > 1000
    return done.stdout


needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")


@needs_latex
@pytest.mark.slow
def test_a_document_compiles(verified: Table, tmp_path: Path) -> None:
    row = Row(NASTY, "init", 0, (Scale.of("N_u"), Scale.log("N_x", "-1/2")), klass="stable")
    table = replace(verified, rows=(*verified.rows, row), notes=(NASTY,), model=NASTY)
    log = compiled(tmp_path, to_latex(table, standalone=True))
    assert "Missing character" not in log
    log = compiled(tmp_path, to_latex(verified, standalone=True))
    assert "Overfull" not in log


@needs_latex
@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "[twocolumn]"])
def test_a_fragment_compiles_in_a_paper(verified: Table, derived: Table, tmp_path: Path, options: str) -> None:
    (tmp_path / "one.tex").write_text(to_latex(verified), encoding="utf-8")
    (tmp_path / "two.tex").write_text(comparison(Comparison("s6", {"a_b": derived, "c": derived})), encoding="utf-8")
    paper = rf"\documentclass{options}{{article}}\usepackage{{booktabs}}\begin{{document}}"
    log = compiled(tmp_path, paper + r"\input{one}\input{two}\end{document}")
    assert "Overfull" not in log


@needs_latex
@pytest.mark.slow
def test_a_derivation_compiles(tmp_path: Path) -> None:
    found = dossier("s6").proof
    assert found is not None
    log = compiled(tmp_path, derivation.to_latex(found))
    assert "Overfull" not in log
    assert "Missing character" not in log
    last = found.corollaries[-1]
    odd = replace(found, model=NASTY, corollaries=(replace(last, row=replace(last.row, row=NASTY, tag=(NASTY,))),))
    assert "Missing character" not in compiled(tmp_path, derivation.to_latex(odd, f"{NASTY}\n{NASTY}"))


@needs_latex
@pytest.mark.slow
def test_a_broken_document_would_be_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Undefined control sequence"):
        compiled(tmp_path, r"\documentclass{article}\begin{document}\toprule\end{document}")
