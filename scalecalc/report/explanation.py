"""An explanation as text, Markdown or JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable

from scalecalc._version import __version__
from scalecalc.explain import Explanation, Line, Source, Stage
from scalecalc.report.json import SCHEMA, row_object
from scalecalc.scale import Scale

ONE = Scale.one()
PRODUCT = "sizes multiply, profiles add"  # of most lines; it goes without saying
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LEGEND = (
    "Sizes are those of an entry at small index. Odd in W[N,·]: it changes sign with row N of W (a dot is an axis that has "
    "been summed). A sum over N is one of the central limit theorem if the summand is odd in something with an N, else of "
    "the law of large numbers."
)


def to_text(found: Explanation, width: int = 100) -> str:
    """For a terminal, at most ``width`` columns wide."""
    out = [_title(found), found.heading, ""]
    if found.leaves:
        out.append("Given")
        names = max(len(leaf.at) for leaf in found.leaves)
        sizes = max(len(str(leaf.lines[0].size)) for leaf in found.leaves)
        for leaf in found.leaves:
            head = f"  {leaf.at:<{names}}  {leaf.lines[0].size!s:<{sizes}}  "
            out += _wrap(_given(leaf), head, " " * len(head), width)
        out.append("")
    if found.stages:
        out.append("Steps")
    for stage in found.stages:
        out += _wrap(_of(stage), f"{f'[{stage.number}]':>5} ", " " * 8, width)
        for line in stage.lines:
            for text in _said(line, found):
                out += _wrap(text, " " * 8, " " * 10, width)
    out += ["", "Result"] if found.stages else ["Result"]
    for text in found.result:
        out += _wrap(text, "  ", "    ", width)
    if found.assumptions:
        out += ["", "Assumptions"]
    for letter, text in _lettered(found):
        out += _wrap(text, f"  ({letter}) ", "      ", width)
    if found.sources:
        out += ["", "Rules"]
    for source in found.sources:
        out += _wrap(_cited(source), "  ", "    ", width)
    out += ["", *_wrap(LEGEND, "", "", width)] if found.stages else []
    return "\n".join(line.rstrip().replace("\N{NO-BREAK SPACE}", " ") for line in out) + "\n"


def to_markdown(found: Explanation) -> str:
    """As GitHub-flavoured Markdown: sizes as code, stages as a numbered list."""
    out = [f"### {_escape(_title(found))}", "", _escape(found.heading), ""]
    sections = {
        "Given": [f"- `{leaf.at}` `{leaf.lines[0].size}`: {_escape(_given(leaf))}" for leaf in found.leaves],
        "Steps": [line for stage in found.stages for line in _item(stage, found)],
        "Result": [f"- {_escape(text)}" for text in found.result],
        "Assumptions": [f"- ({letter}) {_escape(text)}" for letter, text in _lettered(found)],
        "Rules": [f"- {_escape(_cited(source))}" for source in found.sources],
    }
    for title, lines in sections.items():
        out += [f"**{title}**", "", *lines, ""] if lines else []
    return "\n".join([*out, _escape(LEGEND)]).replace("\N{NO-BREAK SPACE}", " ") + "\n"


def _item(stage: Stage, found: Explanation) -> list[str]:
    """A stage as an item of a Markdown list, its lines below it."""
    lines = [text for line in stage.lines for text in _said(line, found)]
    return [f"{stage.number}. {_escape(_of(stage))}", *(f"    - {_escape(text)}" for text in lines)]


def to_json(found: Explanation) -> str:
    """As one JSON object; a stage's ``uses`` are names of leaves and numbers of stages."""

    def stage(one: Stage) -> dict[str, object]:
        return {
            "number": one.number,
            "at": one.at,
            "rule": one.rule,
            "uses": [f.name if f.stage is None else f.stage for f in one.uses],
            "lines": [
                {
                    "law": line.law,
                    "factors": [
                        {"name": f.name or None, "stage": f.stage, "theta": _scale(f.size)} for f in line.factors
                    ],
                    "size": _scale(line.size),
                    "pattern": list(line.parts),
                    "remarks": list(line.remarks),
                    "assumption": line.assumption or None,
                }
                for line in one.lines
            ],
        }

    data = {
        "schema": SCHEMA,
        "command": "explain",
        "version": __version__,
        "heading": found.heading,
        "row": row_object(found.row),
        "leaves": [stage(leaf) for leaf in found.leaves],
        "stages": [stage(one) for one in found.stages],
        "result": list(found.result),
        "assumptions": list(found.assumptions),
        "rules": [{"name": s.name, "words": s.words, "source": s.source} for s in found.sources],
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _scale(size: Scale) -> dict[str, dict[str, str]]:
    powers, logs = size.strings()
    return {"theta": powers, "log": logs}


def _title(found: Explanation) -> str:
    row = found.row
    return f"{row.label}: Θ({row.formula()}), {row.statistic}" + (f", {row.klass}" if row.klass else "")


def _given(leaf: Stage) -> str:
    (line,) = leaf.lines
    law = line.law.removesuffix(", multiplier 1").removesuffix(f" of size {line.size}")
    exact = f"; {line.parts[0].partition('; ')[2]}" if "; " in line.parts[0] else ""
    return f"{leaf.rule}, {law}{exact}"


def _of(stage: Stage) -> str:
    uses = [str(f) for f in stage.uses]
    return f"{stage.at}: {stage.rule}" + (f" of {_and(uses)}" if uses else "")


def _cited(source: Source) -> str:
    return f"{source.name}: {source.words}" + (f" ({source.source})" if source.source else "")


def _and(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def said(line: Line) -> list[str]:
    """A line in words: the law, the sizes before and after, the symmetry that comes out."""
    parts = " | ".join(line.parts)
    return [f"{_law(line)}; {parts}" if parts else _law(line), *line.remarks]


def _said(line: Line, found: Explanation) -> list[str]:
    """The same with the letter of what was assumed."""
    out = said(line)
    if line.assumption:
        out[-1] += f"  (assumption {LETTERS[found.assumptions.index(line.assumption) % 26]})"
    return out


def _law(line: Line) -> str:
    sizes = [f.size for f in line.factors]
    rest = line.size
    for size in sizes:
        rest = rest / size
    law = line.law.removesuffix(f", {rest}")
    product = "multipl" in law or "times" in law if len(sizes) > 1 else rest != ONE or law != line.law
    if sizes and product:
        factors = [*sizes, *([rest] if rest != ONE or len(sizes) == 1 else [])]
        change = f"{' × '.join(map(_unbroken, factors))} = {_unbroken(line.size)}"
    else:
        change = f"{', '.join(map(_unbroken, sizes))} → {_unbroken(line.size)}" if sizes else _unbroken(line.size)
    return change if law == PRODUCT else f"{law}: {change}"


def _unbroken(size: Scale) -> str:
    """A size whose factors no line break parts."""
    return str(size).replace(" ", "\N{NO-BREAK SPACE}")


def _lettered(found: Explanation) -> Iterable[tuple[str, str]]:
    return ((LETTERS[i % 26], text) for i, text in enumerate(found.assumptions))


def _wrap(text: str, first: str, later: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 40), initial_indent=first, subsequent_indent=later, break_long_words=False)


def _escape(text: str) -> str:
    from scalecalc.report.markdown import escape

    return escape(text)
