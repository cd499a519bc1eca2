"""The forward pass as a picture: SVG, and as text for graphviz (DOT) and Mermaid.

Every arrow has the size of what it carries.  A tensor that has rows in the table has a heavy frame and, in a page, a link to
its first row.  The parts of a state space layer are told apart by a tint, a frame where the layout keeps them together, and
their name on every box.  Names are the user's: they are escaped for each language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from scalecalc.flow import Flow, Node
from scalecalc.report.latex import GREEK_LETTERS
from scalecalc.report.layered import Box, Placed, place
from scalecalc.scale import Scale

LETTER, SMALL = 6.6, 0.74  # mean width of a letter at 11 points; an index is so much smaller
TINTS = ("blue", "orange", "purple", "green", "gold", "red")
_PART = re.compile(r"\^\(([^)]*)\)|\^(\d+)|_([^\W_]+)|([^\W\d_]+)|(.)", re.DOTALL)
# A diagram alone: the page's own colours, on paper and in the dark. In a page the sheet of the page has them.
ALONE = """
  svg { --ink: #1d232b; --soft: #55606d; --line: #dcdfe3; --panel: #ffffff; --wash: #f1f3f5; --blue: #0072b2;
    --orange: #b85c00; --green: #00785a; --red: #a83a00; --purple: #97477c; --gold: #6f5a00;
    --blue-wash: #e3f0f8; --orange-wash: #fbeedd;
    --green-wash: #e1f3ed; --red-wash: #fbe7dd; --purple-wash: #f6e8f1; --gold-wash: #f7f1d8; background: #ffffff; }
"""
STYLE = """
  .flow text { font: 11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); text-anchor: middle; }
  .flow .rule { font-size: 9px; fill: var(--soft); }
  .flow .box { fill: var(--panel); stroke: var(--soft); stroke-width: 1; }
  .flow .weight { stroke-dasharray: none; fill: var(--wash); } .flow .index { fill: var(--wash); stroke-dasharray: 3 2; }
  .flow .feature { stroke: var(--ink); stroke-width: 2; }
  .flow .edge { fill: none; stroke: var(--soft); stroke-width: 1.1; }
  .flow .size { font-size: 9.5px; paint-order: stroke; stroke: var(--panel); stroke-width: 4px; stroke-linejoin: round; }
  .flow .frame { fill-opacity: .45; stroke-width: 1; stroke-dasharray: 6 3; }
  .flow .title { font-size: 11px; font-weight: 600; text-anchor: start; }
  .flow a:hover .box, .flow a:focus .box { stroke: var(--blue); stroke-width: 3; }
"""


def to_svg(
    flow: Flow,
    *,
    link: Callable[[Node], str | None] = lambda node: None,
    alone: bool = True,
    dot: str | None = "dot",
    made: str = "",
) -> str:
    """The diagram, laid out by graphviz where it is installed.

    Args:
        link: where a box leads, if anywhere.
        alone: with its own colours, for a file; a page has them already.
        dot: the program that lays out; None for our own layout.
        made: how, to stand in the file.
    """
    nodes = {node.id: node for node in flow.nodes}
    boxes = {node.id: Box(*_box(node), node.section) for node in flow.nodes}
    placed = place(boxes, [(e.source, e.target, width_of(theta(e.terms)) * 0.86) for e in flow.edges], dot=dot)
    tint = {section: TINTS[i % len(TINTS)] for i, section in enumerate(flow.sections)}
    title = f"Forward pass of {flow.model}"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flow" role="group" aria-label={quoteattr(title)} '
        f'width="{placed.width + 16:.0f}" height="{placed.height + 16:.0f}" '
        f'viewBox="-8 -8 {placed.width + 16:.0f} {placed.height + 16:.0f}">',
        f"<desc>{escape(made)}</desc>" if made else "",
        f"<title>{escape(title)}</title><style>{ALONE if alone else ''}{STYLE}</style>",
        '<defs><marker id="flow-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0.8 L7.5,4 L0,7.2 z" style="fill: var(--soft)"/></marker></defs>',
    ]
    out += _frames(placed, tint)
    for edge, curve in zip(flow.edges, placed.curves, strict=True):
        said = f"{nodes[edge.source].name} to {nodes[edge.target].name}: Θ({theta(edge.terms)})"
        out.append(f'<path class="edge" marker-end="url(#flow-tip)" d="{_path(curve)}"><title>{escape(said)}</title></path>')
    for node in flow.nodes:
        out.append(_drawn(node, boxes[node.id], placed.centres[node.id], link(node), tint.get(node.section)))
    for edge, (x, y) in zip(flow.edges, placed.labels, strict=True):
        out.append(f'<text class="size" x="{x:.1f}" y="{y + 3:.1f}">{_rich(theta(edge.terms))}</text>')
    if not placed.frames:
        out += _legend(tint)
    return "\n".join(filter(None, [*out, "</svg>"])) + "\n"


def _frames(placed: Placed, tint: dict[str, str]) -> Iterator[str]:
    for section, (left, top, right, bottom) in placed.frames.items():
        yield (
            f'<rect class="frame" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" rx="8" '
            f'style="fill: var(--{tint[section]}-wash); stroke: var(--{tint[section]})"/>'
            f'<text class="title" x="{left + 9:.1f}" y="{top + 15:.1f}" style="fill: var(--{tint[section]})">'
            f"{escape(section)}</text>"
        )


def _legend(tint: dict[str, str]) -> Iterator[str]:
    for i, (section, color) in enumerate(tint.items()):
        yield (
            f'<rect x="8" y="{8 + 18 * i}" width="12" height="12" style="fill: var(--{color}-wash); stroke: var(--{color})"/>'
            f'<text class="title" x="26" y="{18 + 18 * i}">{escape(section)}</text>'
        )


def _drawn(node: Node, box: Box, at: tuple[float, float], href: str | None, tint: str | None) -> str:
    x, y = at
    shape = {"weight": box.height / 2, "input": 3, "index": 3}.get(node.kind, 6)
    kind = f"box {node.kind}" + (" feature" if node.feature else "")
    style = f' style="fill: var(--{tint}-wash); stroke: var(--{tint})"' if tint and node.kind == "op" else ""
    about = node.rule or {"index": "exact"}.get(node.kind, node.kind)
    said = f"{node.name}: {about}, Θ({theta(node.terms)})" + (f", {node.section}" if node.section else "")
    inside = (
        f'<rect class="{kind}" x="{x - box.width / 2:.1f}" y="{y - box.height / 2:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="{shape:.0f}"{style}/>'
        f'<text x="{x:.1f}" y="{y - 1:.1f}">{_rich(node.name)}</text>'
        f'<text class="rule" x="{x:.1f}" y="{y + 11:.1f}">{escape(about)}</text>'
    )
    if href:
        return f'<a href={quoteattr(href)} aria-label={quoteattr(said)}>{inside}</a>'
    return f"<g><title>{escape(said)}</title>{inside}</g>"


def _box(node: Node) -> tuple[float, float]:
    about = node.rule or node.kind
    return max(width_of(node.name), len(about) * LETTER * 0.82, 26.0) + 18, 32.0


def _path(curve: Sequence[tuple[float, float]]) -> str:
    (x, y), *rest = curve
    return f"M{x:.1f},{y:.1f} C" + " ".join(f"{a:.1f},{b:.1f}" for a, b in rest)


def theta(terms: Sequence[Scale]) -> str:
    """A size as plain text."""
    if not terms:
        return "0"
    return str(terms[0]) if len(terms) == 1 else f"max({', '.join(map(str, terms))})"


def _parts(words: str) -> Iterator[tuple[str, int]]:
    """A name or a size in pieces, each with its level: −1 an index, 1 an exponent, 0 the line."""
    for found in _PART.finditer(words):
        up, number, below, word, other = found.groups()
        if up is not None or number is not None:
            yield (up or number).replace("-", "−"), 1
        elif below is not None:
            yield GREEK_LETTERS.get(below, below), -1
        else:
            yield GREEK_LETTERS.get(word, word) if word else other, 0


def width_of(words: str) -> float:
    """About how wide, in points, at 11 points."""
    return sum(LETTER * len(text) * (SMALL if level else 1) for text, level in _parts(words))


def _rich(words: str) -> str:
    """Text with indices below and exponents above the line; without baseline-shift, which not every browser knows."""
    out, at = "", 0
    for text, level in _parts(words):
        if level == at == 0:
            out += escape(text)
            continue
        dy = {-1: 2.5, 0: 0.0, 1: -4.0}
        small = f' font-size="{SMALL * 100:.0f}%"' if level else ""
        out += f'<tspan dy="{dy[level] - dy[at]:g}"{small}>{escape(text)}</tspan>'
        at = level
    return out


# ------------------------------------------------------------------ text


def to_dot(flow: Flow) -> str:
    """For graphviz: ``dot -Tpdf``."""
    out = ["digraph forward {", "  node [shape=box style=rounded fontname=sans];", "  edge [fontname=sans fontsize=10];"]
    shapes = {"weight": "shape=ellipse", "index": "style=dashed", "input": "style=solid"}
    for i, section in enumerate(("", *flow.sections)):
        inside = [node for node in flow.nodes if node.section == section]
        indent = "    " if section else "  "
        out += [f"  subgraph cluster_{i} {{", f"    label={_dot(section)};", "    style=dashed;"] if section else []
        for node in inside:
            more = f" {shapes[node.kind]}" if node.kind in shapes else ""
            heavy = " penwidth=2" if node.feature else ""
            about = f"{node.name}\n{node.rule}" if node.rule else node.name
            out.append(f"{indent}{node.id} [label={_dot(about)}{more}{heavy}];")
        out += ["  }"] if section else []
    out += [f"  {e.source} -> {e.target} [label={_dot(theta(e.terms))}];" for e in flow.edges]
    return "\n".join([*out, "}"]) + "\n"


def _dot(words: str) -> str:
    inside = words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{inside}"'


def to_mermaid(flow: Flow) -> str:
    """For Markdown that draws Mermaid, as GitHub's does."""
    out = ["flowchart TD"]
    shapes = {"weight": ("([", "])"), "index": ("[/", "/]"), "input": ("[", "]")}
    for section in ("", *flow.sections):
        out += [f"  subgraph {_mermaid_id(section)} [{_mermaid(section)}]"] if section else []
        for node in flow.nodes:
            if node.section == section:
                left, right = shapes.get(node.kind, ("(", ")"))
                about = f"{node.name} — {node.rule}" if node.rule else node.name
                out.append(f"    {node.id}{left}{_mermaid(about)}{right}")
        out += ["  end"] if section else []
    out += [f"  {e.source} -->|{_mermaid(theta(e.terms))}| {e.target}" for e in flow.edges]
    return "\n".join(out) + "\n"


def _mermaid(words: str) -> str:
    """In quotes, everything that Mermaid or the page could take for markup as an entity."""
    safe = "".join(c if c.isalnum() or c in " .,·+()/^=-_" else f"#{ord(c)};" for c in words)
    return f'"{safe}"'


def _mermaid_id(section: str) -> str:
    return "part_" + re.sub(r"\W", "_", section)
