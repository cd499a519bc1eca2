r"""A Table as LaTeX: booktabs tables in floats, a fragment to ``\input`` or a whole document.

A table longer than a page is cut into several, with its caption repeated; one with too many columns as well, with the
columns repeated that say what a row is.  What is wider than a column of a two-column paper goes across both (``table*``,
in a one-column paper the same as ``table``).  longtable would break pages by itself, but refuses two columns.
Names become mathematics where they read as such (``W_in``, ``dB·W_B``) and typewriter otherwise (``layers.0.norm``).

>>> print(name("W_in"), name("dDelta"), name("⟨W_B, tanh(u)⟩"), name("layers.0_x"))
$W_{\mathrm{in}}$ $\mathrm{d}\Delta$ $\langle W_{B},\,\mathrm{tanh}(u)\rangle$ \texttt{layers.0\_x}
>>> print(slope(Slope(-0.494, -0.52, -0.47)), slope(Slope(0.5, 0.499, 0.501)), slope(Slope(float("nan"), 0.0, 0.0)))
$-0.49 \pm 0.03$ $0.50 \pm {<}0.01$ nan
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from scalecalc._version import __version__
from scalecalc.beside import Beside
from scalecalc.compare import Comparison
from scalecalc.numbers import Numbers
from scalecalc.report import layout
from scalecalc.report.layout import Section, Writer, heading, sections
from scalecalc.report.summary import details, summary
from scalecalc.scale import Scale
from scalecalc.solution import Solution
from scalecalc.table import Slope, Table

MOST_LINES = 44  # of one table on a page
COLUMN, PAGE, LARGE_PAGE = 215, 345, 480  # widths in points: of two-column papers, of LaTeX's article, of our own page
CHARACTER, GAP = 5.0, 12.0  # in points, of text in 9 points; between two columns
_RAISED = re.compile(r"\^\(([^)]*)\)|\^(\d+)|_(\w+)")  # small, and above one another
GREEK = {
    word: f"\\{word}"
    for word in (
        *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi", "pi"),
        *("rho", "sigma", "tau", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma"),
        *("Phi", "Psi", "Omega"),
    )
}
_NAMES = (
    "Alpha Beta Gamma Delta Epsilon Zeta Eta Theta Iota Kappa Lambda Mu Nu Xi Omicron Pi Rho Sigma Tau Upsilon Phi Chi Psi "
    "Omega"
)
_CODES = (*range(0x391, 0x3A2), *range(0x3A3, 0x3AA))  # there is no capital final sigma
_GREEK = {word: chr(code) for word, code in zip(_NAMES.split(), _CODES, strict=True)}
_GREEK |= {word.lower(): letter.lower() for word, letter in _GREEK.items()}
GREEK_LETTERS = {word: letter for word, letter in _GREEK.items() if word in GREEK}
_LOWER = ("alpha", "epsilon", "eta", "theta", "lambda", "rho", "sigma", "omega")
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "·": r"$\cdot$",
    "√": r"$\surd$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "‖": r"$\|$",
    "Θ": r"$\Theta$",
    "Δ": r"$\Delta$",
    "Σ": r"$\Sigma$",
    **{c: rf"$\{word}$" for c, word in zip("αεηθλρσω", _LOWER, strict=True)},
    "₀": "$_0$",
    "²": "$^2$",
    "→": r"$\to$",
    "“": "``",
    "”": "''",
    "′": "$'$",
    "″": "$''$",
    "ᵀ": r"$^\top$",
    "φ": r"$\varphi$",
    "⊗": r"$\otimes$",
    "∘": r"$\circ$",
    "≪": r"$\ll$",
    "≫": r"$\gg$",
    "∞": r"$\infty$",
    "∂": r"$\partial$",
    "∈": r"$\in$",
    "⁻": "$^-$",
    "¹": "$^1$",
    "³": "$^3$",
    "Π": r"$\Pi$",
    "∏": r"$\prod$",
    "Φ": r"$\Phi$",
    "π": r"$\pi$",
    "μ": r"$\mu$",
    "ν": r"$\nu$",
    "₁": "$_1$",
    "₂": "$_2$",
    "ₖ": "$_k$",
    "ₜ": "$_t$",
    "\N{COMBINING CIRCUMFLEX ACCENT}": r"\^{}",
    "\N{COMBINING MACRON}": r"\={}",
    "Ā": r"$\bar A$",
} | {c: f"\\{c}" for c in "&%$#_{}"}
_TOKEN = re.compile(r"(?P<word>Δ?[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9Δ]+)*)|(?P<mark>[⟨⟩(),·+′ ])|(?P<number>\d+)")
_FORMULA = re.compile(  # a dim or θ to a power, or a name with one letter before an index
    r"(?<![\w.])(?:(?P<base>[A-Z](?:_[A-Za-z0-9]+)?|θ|n)\^(?P<power>\([-−+/\d .a-z]*\)|-?\d+(?:[./]\d+)?)"
    r"|(?P<name>[A-Za-z]_[A-Za-z0-9]+)(?![\w^]))"
)
_MARKS = {"⟨": r"\langle ", "⟩": r"\rangle", ",": r",\,", "·": r"\,", "′": "'", " ": ""}


def text(words: str) -> str:
    """Words in text mode; a character that LaTeX does not know as its number, and two hyphens (``--budget``) as two.

    >>> print(text("--budget 50%"))
    -{}-budget 50\\%
    """
    out = "".join(_SPECIAL.get(c, c if ord(c) < 256 else f"[U+{ord(c):04X}]") for c in words.replace("--", "-\0-"))
    return out.replace("\0", "{}")


def sentence(words: str) -> str:
    """Words in which the sizes and the weights are set as mathematics.

    >>> print(sentence("W_in, rate: N_u^(-1/2) below N^2; θ^(-1) for mup_ssm"))
    $W_{\\mathrm{in}}$, rate: $N_{u}^{-1/2}$ below $N^{2}$; $\\theta^{-1}$ for mup\\_ssm
    """
    out, place = "", 0
    for start, end, inner in formulas(words):
        out += f"{text(words[place:start])}${inner}$"
        place = end
    return out + text(words[place:])


def formulas(words: str) -> Iterator[tuple[int, int, str]]:
    """Where the sizes and the weights stand in a sentence, and what each is in LaTeX's mathematics."""
    for found in _FORMULA.finditer(words):
        base = found["base"] or found["name"]
        inner = text(base).strip("$") if base in _SPECIAL else (_word(base) or text(base))
        power = f"^{{{found['power'].strip('()').replace('−', '-')}}}" if found["power"] else ""
        yield found.start(), found.end(), inner + power


def name(words: str) -> str:
    """The name of a tensor, of a sum, of weights with plus signs between them."""
    out, place = "", 0
    while place < len(words):
        found = _TOKEN.match(words, place)
        if found is None or (found["word"] and _word(found["word"]) is None):
            return rf"\texttt{{{text(words)}}}"
        between = found[0] == " " and words[place - 1 : place].isalnum() and words[place + 1 : place + 2].isalpha()
        mark = r"\ " if between else _MARKS.get(found[0], found[0])  # two words stay two
        out += (_word(found["word"]) if found["word"] else mark) or ""
        place = found.end()
    return f"${out}$" if out else ""


def _word(word: str) -> str | None:
    """``W_in``, ``h1``, ``Delta``, ``dB``, ``ΔW_B``, ``tanh``; None if it does not read as mathematics."""
    if word[0] == "Δ":
        inner = _word(word[1:])
        return None if inner is None else rf"\Delta {inner}"
    head, _, tail = word.partition("_")
    below = rf"_{{{_below(tail)}}}" if tail else ""
    if head in GREEK:
        return GREEK[head] + below
    if re.fullmatch(r"[A-Za-z]\d*", head):
        index = head[1:]
        if index and tail:
            return None
        return head[0] + (f"_{{{index}}}" if index else below)
    if head[0] == "d" and (head[1:] in GREEK or re.fullmatch(r"[A-Za-z]\d*", head[1:])):
        return rf"\mathrm{{d}}{_word(word[1:])}"
    return rf"\mathrm{{{head}}}{below}" if head.isalpha() else None


def _below(tail: str) -> str:
    if tail in GREEK:
        return GREEK[tail]
    return text(tail).replace("$", "") if len(tail) == 1 or tail.isdigit() else rf"\mathrm{{{text(tail)}}}".replace("$", "")


def slope(value: Slope) -> str:
    """A slope with the wider half of its interval."""
    number, plus, half = layout.slope(value).partition(" ±")
    if number in ("nan", "inf", "-inf"):
        return number
    return f"${number} \\pm {half.replace('<', '{<}').replace('inf', chr(92) + 'infty')}$" if plus else f"${number}$"


def _size(one: Scale) -> str:
    return f"${one.latex()}$"


def _most(sizes: Sequence[str]) -> str:
    return rf"$\max({', '.join(size.strip('$') for size in sizes)})$"


WRITER = Writer(
    text=sentence,
    name=name,
    size=_size,
    most=_most,
    slope=slope,
    theta=r"$\Theta$",
    verdicts={"agrees": "agrees", "disagrees": r"\textbf{disagrees}", "inconclusive": r"\emph{inconclusive}"},
)


def to_latex(table: Table, *, standalone: bool = False) -> str:
    """The parameterization, the rows by kind, and the verdict in one sentence."""
    page = LARGE_PAGE if standalone else PAGE
    wide, stacked = (
        list(zip(sections(table, write=WRITER, stacked=s), sections(table, stacked=s), strict=True)) for s in (False, True)
    )
    pairs = [a if sum(_widths(a[1])) <= page else b for a, b in zip(wide, stacked, strict=True)]
    closing = [summary(table), *details(table), *table.notes]
    return _document(table.model, heading(table), pairs, closing, standalone)


def parameterization(table: Table) -> str:
    """The weights alone: inits, multipliers and rates."""
    pairs = [(sections(table, write=WRITER)[0], sections(table)[0])] if table.parameterization else []
    return _document(table.model, heading(table), pairs, (), False)


def comparison(found: Comparison, *, standalone: bool = False) -> str:
    """The sections of a comparison and its sentences."""
    from scalecalc.report import comparison as report

    pairs = zip(report.sections(found, write=WRITER), report.sections(found), strict=True)
    return _document(found.model, report.heading(found), pairs, report.closing(found), standalone)


def solution(found: Solution, *, standalone: bool = False) -> str:
    """A solved parameterization and what binds it."""
    from scalecalc.report import solution as report

    pairs = zip(report.sections(found, write=WRITER), report.sections(found), strict=True)
    return _document(found.model, report.heading(found), pairs, report.closing(found), standalone)


def beside(found: Beside, *, standalone: bool = False) -> str:
    """Parameterizations side by side."""
    from scalecalc.report import beside as report

    pairs = [(report.section(found, write=WRITER), report.section(found))]
    return _document(found.model, report.heading(found), pairs, found.notes, standalone)


def numbers(found: Numbers, *, standalone: bool = False) -> str:
    """The numbers of a parameterization at base and at the target."""
    from scalecalc.report import numbers as report

    pairs = [(report.section(found, write=WRITER), report.section(found))]
    return _document(found.parameterization.name, report.heading(found), pairs, found.notes, standalone)


def _document(
    model: str, title: str, pairs: Iterable[tuple[Section, Section]], closing: Sequence[str], standalone: bool
) -> str:
    """``pairs``: each section in LaTeX, and as plain text to measure its columns by."""
    out = [f"% {title}".replace("\n", " "), f"% Made by scalecalc {__version__}."]
    if standalone:
        out += [
            r"\documentclass[10pt]{article}",
            r"\usepackage[margin=2cm]{geometry}",
            r"\usepackage{booktabs}",
            r"\begin{document}",
            rf"\noindent {sentence(title)}.",
            "",
        ]
    else:
        out.append(r"% Needs \usepackage{booktabs} in the preamble.")
    for section, plain in pairs:
        for part, parts, piece, width in _pages(section, plain, LARGE_PAGE if standalone else PAGE):
            float_ = "table*" if width > COLUMN else "table"
            caption = text(f"{model}: {section.title}" + (f" ({part} of {parts})" if parts > 1 else ""))
            out += [rf"\begin{{{float_}}}[htbp]", r"\centering\small", rf"\caption{{{caption}}}\smallskip"]
            out += [*_tabular(piece), rf"\end{{{float_}}}"]
    out += ["", *(f"{sentence(line)}\n" for line in closing if line)]
    if standalone:
        out.append(r"\end{document}")
    return "\n".join(out).rstrip("\n") + "\n"


def _tabular(section: Section) -> Iterator[str]:
    yield rf"\begin{{tabular}}{{{'l' * len(section.columns)}}}"
    yield r"\toprule"
    yield " & ".join(section.columns) + r" \\"
    yield r"\midrule"
    for index, row in enumerate(section.rows):
        if index in section.breaks:
            yield r"\addlinespace"
        for lines in _lines(row):
            yield " & ".join(lines).rstrip() + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _lines(row: Sequence[str]) -> list[tuple[str, ...]]:
    """The lines of a row: a cell of several goes on below, beside empty ones."""
    cells = [cell.split("\n") for cell in row]
    height = max(map(len, cells))
    return list(zip(*(cell + [""] * (height - len(cell)) for cell in cells), strict=True))


def _pages(section: Section, plain: Section, page: float) -> Iterator[tuple[int, int, Section, float]]:
    """The section cut to what fits on a page: columns first, then rows.  Number, of how many, the piece, its width."""
    widths = _widths(plain)
    pieces = [(piece, rows) for piece in _columns(section.lead, widths, page) for rows in _rows(section)]
    for number, (columns, rows) in enumerate(pieces, 1):
        cells = tuple(tuple(section.rows[i][c] for c in columns) for i in rows)
        breaks = frozenset(k for k, i in enumerate(rows) if i in section.breaks and k)
        headings = tuple(section.columns[c] for c in columns)
        piece = replace(section, columns=headings, rows=cells, breaks=breaks)
        yield number, len(pieces), piece, sum(widths[c] for c in columns)


def _columns(lead: int, widths: Sequence[float], page: float) -> list[list[int]]:
    """Groups of columns that fit side by side, the leading ones in each."""
    first = list(range(lead))
    out = [first]
    for c in range(lead, len(widths)):
        if len(out[-1]) > lead and sum(widths[k] for k in (*out[-1], c)) > page:
            out.append(first)
        out[-1] = [*out[-1], c]
    return out


def _rows(section: Section) -> list[list[int]]:
    """Rows that fit onto one page."""
    out: list[list[int]] = [[]]
    used = 0
    for i, row in enumerate(section.rows):
        height = len(_lines(row))
        if out[-1] and used + height > MOST_LINES:
            out.append([])
            used = 0
        out[-1].append(i)
        used += height
    return out


def _widths(plain: Section) -> list[float]:
    """About how wide the columns are, in points, going by the plain text: exponents and indices stand small."""

    def width(line: str) -> float:
        raised = [m[1] or m[2] or m[3] for m in _RAISED.finditer(line)]
        return len(_RAISED.sub("", line)) + 0.6 * sum(map(len, raised))

    columns = [[plain.columns[c], *(row[c] for row in plain.rows)] for c in range(len(plain.columns))]
    return [GAP + CHARACTER * max(width(line) for cell in cells for line in cell.split("\n")) for cells in columns]
