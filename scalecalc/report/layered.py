"""Where the boxes of a diagram go: by graphviz where its ``dot`` is installed, else by a small layered layout of our own.

Both answer with the same :class:`Placed`, so that a diagram is drawn by one piece of code and looks alike.  Ours is the
classic one of Sugiyama, Tagawa & Toda 1981: layers by longest path, an order within layers by barycentres, long edges led
through the layers that they pass.  Lengths are in points, y grows downwards.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Position = tuple[float, float]
Frame = tuple[float, float, float, float]
GAP_X, GAP_Y, MARGIN = 34.0, 46.0, 6.0
SECONDS = 20  # that dot may take


@dataclass(frozen=True)
class Box:
    """What is to be placed: width and height, and the group that it belongs to."""

    width: float
    height: float
    group: str = ""


@dataclass(frozen=True)
class Placed:
    """Centres of the boxes; per edge its curve (a start and cubic Bézier triples) and the centre of its label; frames.

    ``frames``: per group left, top, right and bottom; none where the layout does not keep groups together.
    """

    width: float
    height: float
    centres: Mapping[str, Position]
    curves: Sequence[Sequence[Position]]
    labels: Sequence[Position]
    frames: Mapping[str, Frame] = field(default_factory=dict[str, Frame])


def place(boxes: Mapping[str, Box], edges: Sequence[tuple[str, str, float]], *, dot: str | None = "dot") -> Placed:
    """Lay out boxes with edges between them (from, to, width of the label): every edge leads down.

    ``dot``: the program, None to do without.
    """
    program = shutil.which(dot) if dot else None
    if program is not None:
        try:
            return _by_dot(program, boxes, edges)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError):
            pass  # a broken installation is as good as none
    return _by_layers(boxes, edges)


# ------------------------------------------------------------------ graphviz


def _by_dot(program: str, boxes: Mapping[str, Box], edges: Sequence[tuple[str, str, float]]) -> Placed:
    lines = ["digraph { graph [nodesep=0.25 ranksep=0.45]; node [shape=box fixedsize=true label=\"\"]; edge [fontsize=9];"]
    groups = list(dict.fromkeys(box.group for box in boxes.values() if box.group))
    keys = {name: f"b{i}" for i, name in enumerate(boxes)}
    for i, group in enumerate(groups):
        inside = " ".join(f"{keys[name]};" for name, box in boxes.items() if box.group == group)
        lines.append(f'subgraph cluster_{i} {{ margin=14; label=" "; {inside} }}')
    lines += [f"{keys[n]} [width={b.width / 72:.4f} height={b.height / 72:.4f}];" for n, b in boxes.items()]
    room = '<<table border="0" cellborder="0" fixedsize="true" width="{:.0f}" height="13"><tr><td></td></tr></table>>'
    lines += [f"{keys[a]} -> {keys[b]} [label={room.format(w + 6)}];" for a, b, w in edges]
    command = [program, "-Tjson"]
    text = "\n".join([*lines, "}"])
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=SECONDS, check=True)
    found = json.loads(done.stdout)
    _, _, width, height = map(float, found["bb"].split(","))

    def at(text: str) -> Position:
        x, y = map(float, text.split(","))
        return x, height - y

    objects = found["objects"]
    names = {key: name for name, key in keys.items()}
    centres = {names[o["name"]]: at(o["pos"]) for o in objects if o["name"] in names}
    frames: dict[str, Frame] = {}
    for o in objects:
        if o["name"].startswith("cluster_"):
            left, low, right, high = map(float, o["bb"].split(","))
            frames[groups[int(o["name"].removeprefix("cluster_"))]] = (left, height - high, right, height - low)
    by_id = {o["_gvid"]: names.get(o["name"]) for o in objects}
    drawn: dict[tuple[str | None, str | None], tuple[list[Position], Position]] = {}
    for e in found["edges"]:
        end, *points = e["pos"].split(" ")
        curve = [at(p) for p in points]
        tip = at(end.removeprefix("e,"))
        drawn[by_id[e["tail"]], by_id[e["head"]]] = ([*curve[:-1], tip], at(e["lp"]))
    curves = [drawn[a, b] for a, b, _ in edges]
    return Placed(width, height, centres, [c for c, _ in curves], [label for _, label in curves], frames)


# ------------------------------------------------------------------ our own


def _by_layers(boxes: Mapping[str, Box], edges: Sequence[tuple[str, str, float]]) -> Placed:
    layer = _layers(boxes, edges)
    rows: list[list[object]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    size: dict[object, tuple[float, float]] = {}
    for name, box in boxes.items():
        rows[layer[name]].append(name)
        size[name] = (box.width, box.height)
    chains: list[list[object]] = []
    for k, (a, b, w) in enumerate(edges):  # an edge over several layers passes through a small box in each
        chain: list[object] = [a]
        for row in range(layer[a] + 1, layer[b]):
            rows[row].append((k, row))
            size[k, row] = (w, 4.0)
            chain.append((k, row))
        chains.append([*chain, b])
    links = [(c[i], c[i + 1]) for c in chains for i in range(len(c) - 1)]
    x = _order(rows, links, size)
    tops, y = [], MARGIN
    for row in rows:
        tall = max((size[n][1] for n in row), default=0)
        tops.append(y + tall / 2)
        y += tall + GAP_Y
    shift = MARGIN - min((x[n] - size[n][0] / 2 for n in x), default=0)
    centre = {n: (x[n] + shift, tops[r]) for r, row in enumerate(rows) for n in row}
    width = max((centre[n][0] + size[n][0] / 2 for n in x), default=0) + MARGIN
    curves: list[list[Position]] = []
    labels: list[Position] = []
    for chain in chains:
        points = [centre[n] for n in chain]
        (x0, y0), (x1, y1) = points[0], points[-1]
        points[0], points[-1] = (x0, y0 + size[chain[0]][1] / 2), (x1, y1 - size[chain[-1]][1] / 2)
        curve = [points[0]]
        for (a, b), (c, d) in pairwise(points):
            curve += [(a, (b + d) / 2), (c, (b + d) / 2), (c, d)]
        curves.append(curve)
        labels.append(_along(curve[:4], 0.36))  # near its source: what comes from one place has one size
    return Placed(width, y - GAP_Y + MARGIN, {n: centre[n] for n in boxes}, curves, labels)


def _along(curve: Sequence[Position], t: float) -> Position:
    """A point of a cubic Bézier curve."""
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    parts = list(zip(weights, curve, strict=True))
    return sum(k * x for k, (x, _) in parts), sum(k * y for k, (_, y) in parts)


def _layers(boxes: Mapping[str, Box], edges: Sequence[tuple[str, str, float]]) -> dict[str, int]:
    """The longest path to a box; one that nothing leads to goes right above the first that uses it."""
    sources: dict[str, list[str]] = {name: [] for name in boxes}
    targets: dict[str, list[str]] = {name: [] for name in boxes}
    for a, b, _ in edges:
        sources[b].append(a)
        targets[a].append(b)
    layer: dict[str, int] = {}
    for name in boxes:  # in the order of the program every source comes first
        layer[name] = max((layer[a] + 1 for a in sources[name]), default=0)
    for name in boxes:
        if not sources[name] and targets[name]:
            layer[name] = min(layer[b] for b in targets[name]) - 1
    return layer


def _order(
    rows: list[list[object]], links: Sequence[tuple[object, object]], size: Mapping[object, tuple[float, float]]
) -> dict[object, float]:
    """Horizontal places: boxes near those that they are linked with, side by side in each layer."""
    near: dict[object, list[object]] = {n: [] for row in rows for n in row}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    x: dict[object, float] = {}
    for row in rows:
        _spread(row, size, x, {n: float(i) for i, n in enumerate(row)})
    for sweep in range(12):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wish = {n: sum(x[m] for m in near[n]) / len(near[n]) if near[n] else x[n] for n in row}
            row.sort(key=lambda n, wish=wish: wish[n])
            _spread(row, size, x, wish)
    return x


def _spread(
    row: Sequence[object], size: Mapping[object, tuple[float, float]], x: dict[object, float], wish: Mapping[object, float]
) -> None:
    """As near to where each wants to be as the widths allow: pushed right, then the overlap shared to the left."""
    edge = float("-inf")
    for n in row:
        x[n] = max(wish[n], edge + size[n][0] / 2)
        edge = x[n] + size[n][0] / 2 + GAP_X
    if row:
        off = sum(x[n] - wish[n] for n in row) / len(row)
        for n in row:
            x[n] -= off
