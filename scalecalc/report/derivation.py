r"""The derivation of a whole table as a LaTeX document: notation, lemmas, steps, corollaries.

It is a document of its own; its body, between ``\begin{document}`` and ``\end{document}``, goes into a paper whose preamble
has what :data:`PREAMBLE` has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scalecalc.explain import Stage
from scalecalc.proof import Definition, Lemma, Proof
from scalecalc.report.explanation import said
from scalecalc.report.latex import name, sentence, text
from scalecalc.table import Row

PREAMBLE = r"""\usepackage[margin=2.2cm]{geometry}
\usepackage{amsmath,amsthm}
\usepackage[colorlinks,allcolors=blue]{hyperref}
\theoremstyle{definition}
\newtheorem{lemma}{Lemma}
\newtheorem{corollary}{Corollary}
\newcommand{\step}[1]{\hyperref[step:#1]{[#1]}}
\raggedright\setlength{\parindent}{0pt}\setlength{\parskip}{3pt plus 1pt}\emergencystretch=3em"""
_STEP = re.compile(r"\[(\d+)\]")


def to_latex(proof: Proof, made: str = "") -> str:
    """The document.  ``made``: how, for its first line."""
    return "\n".join(_lines(proof, made)).rstrip("\n") + "\n"


def _lines(proof: Proof, made: str) -> Iterator[str]:
    yield "% " + " ".join((made or proof.heading).split())
    yield r"\documentclass[10pt]{article}"
    yield PREAMBLE
    yield r"\begin{document}"
    yield rf"\section*{{The derivation of the sizes of {text(proof.model)}}}"
    yield f"{sentence(proof.heading)}.\n"
    yield (
        "Each lemma says how one kind of operation acts on sizes, on symmetries and on profiles. A step applies one lemma "
        "at one place of the program, forward or backward. A row of the table is a corollary: the chain of the steps that "
        "lead to it.\n"
    )
    yield r"\subsection*{Notation and results used}"
    for one in proof.definitions:
        yield _definition(one)
    yield r"\subsection*{Lemmas}"
    for lemma in proof.lemmas:
        yield from _lemma(lemma)
    yield r"\subsection*{Given}"
    yield r"\begin{tabular}{lll}"
    for leaf in proof.leaves:
        line = leaf.lines[0]
        yield rf"{name(leaf.at)} & ${line.size.latex()}$ & {text(leaf.rule)}, {sentence(line.law)} \\"
    yield r"\end{tabular}"
    yield r"\subsection*{Steps}"
    for stage in proof.steps:
        yield from _step(stage, proof)
    yield r"\subsection*{Sizes}"
    for corollary in proof.corollaries:
        yield r"\begin{corollary}" + _claim(corollary.row)
        if corollary.steps:
            yield "By " + ", ".join(rf"\step{{{n}}}" for n in corollary.steps) + "."
        yield from (f"{_linked(one)}." for one in corollary.result)
        yield from (f"Assumed: {sentence(one)}." for one in corollary.assumptions)
        yield r"\end{corollary}"
    yield r"\end{document}"


def _definition(one: Definition) -> str:
    source = f" ({sentence(one.source)})" if one.source else ""
    return rf"\textbf{{{text(one.name)}:}} {one.text}{source}" + "\n"


def _lemma(one: Lemma) -> Iterator[str]:
    yield rf"\begin{{lemma}}[{text(one.name)}]\label{{lemma:{one.number}}}"
    yield f"{sentence(one.statement)}"
    if one.equation:
        yield rf"As in \({one.equation}\)."
    if one.remark:
        yield rf"\emph{{{sentence(one.remark)}}}"
    yield from (f"Assumed: {sentence(words)}." for words in one.assumptions)
    if one.source:
        yield f"Source: {sentence(one.source)}."
    yield r"\end{lemma}"


def _step(stage: Stage, proof: Proof) -> Iterator[str]:
    uses = ", ".join(
        name(f.name) + (rf"~\step{{{f.stage}}}" if f.stage is not None else "") for f in stage.uses
    )
    number = proof.lemma(stage.rule).number
    yield (
        rf"\phantomsection\label{{step:{stage.number}}}\textbf{{[{stage.number}]}} {name(stage.at)}, by "
        rf"Lemma~\ref{{lemma:{number}}} ({text(stage.rule)})" + (f" from {uses}: " if uses else ": ")
        + "; then ".join(_linked(words) for line in stage.lines for words in said(line)) + ".\n"
    )  # fmt: skip


def _claim(row: Row) -> str:
    by = f" by {name('+'.join(row.tag))}" if row.tag else ""
    step = f", step {row.step}" if row.step else ""
    size = r",\ ".join(t.latex() for t in row.terms) or "0"
    size = rf"\max({size})" if len(row.terms) > 1 else size
    return rf"[{{{name(row.row)}, {row.kind}{by}{step}}}] $\Theta({size})$. "


def _linked(words: str) -> str:
    """A sentence whose numbers of steps lead there."""
    out, place = "", 0
    for found in _STEP.finditer(words):
        out += sentence(words[place : found.start()]) + rf"\step{{{found[1]}}}"
        place = found.end()
    return out + sentence(words[place:])
