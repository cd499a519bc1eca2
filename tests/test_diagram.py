"""The diagram: every tensor and every size is there, by either layout, and names cannot break out of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scalecalc.dossier import dossier
from scalecalc.flow import Flow
from scalecalc.report.diagram import to_dot, to_mermaid, to_svg
from scalecalc.report.layered import Box, place

DOT = shutil.which("dot")
layouts = [None, pytest.param("dot", marks=pytest.mark.skipif(DOT is None, reason="graphviz's dot is not installed"))]
HOSTILE = '"]; evil --> x <script>alert(1)</script> \\ & \n%% #'


@pytest.fixture(scope="module")
def flow() -> Flow:
    found = dossier("s6").flow
    assert found is not None
    return found


def test_the_layer_has_its_three_parts(flow: Flow) -> None:
    assert flow.sections == ("selection", "discretization", "recurrence")
    by_name = {node.name: node for node in flow.nodes}
    parts = {section: {n.name for n in flow.nodes if n.section == section and n.kind == "op"} for section in flow.sections}
    assert {"Delta", "B", "C"} <= parts["selection"]
    assert parts["discretization"] == {"decay", "factor", "factor·B"}
    assert parts["recurrence"] == {"factor·B·u", "h", "y"}
    assert by_name["u"].section == by_name["f"].section == ""
    assert by_name["h"].equation.startswith("h_t")
    assert all(node.feature for node in flow.nodes if node.kind == "weight")


def test_parts_of_other_layers_are_told_by_their_rules() -> None:
    lru, mlp = dossier("lru").flow, dossier("mlp").flow
    assert lru is not None
    assert mlp is not None
    assert {"discretization", "recurrence"} <= set(lru.sections)
    assert mlp.sections == ()


def test_a_feature_that_only_renames_an_axis_names_what_it_renames() -> None:
    flow = dossier("transformer").flow
    assert flow is not None
    k = next(node for node in flow.nodes if node.name == "k")
    assert (k.rule, k.feature) == ("matmul", True)
    assert "rename" not in {node.rule for node in flow.nodes}


def test_edges_carry_the_size_of_their_source(flow: Flow) -> None:
    nodes = {node.id: node for node in flow.nodes}
    assert len(flow.edges) == 26
    assert all(edge.terms == nodes[edge.source].terms for edge in flow.edges)
    assert str(nodes[next(e.target for e in flow.edges if nodes[e.source].name == "C")].name) == "y"


@pytest.mark.parametrize("dot", layouts)
def test_svg(flow: Flow, dot: str | None) -> None:
    root = ElementTree.fromstring(to_svg(flow, dot=dot, link=lambda node: f"#{node.name}" if node.feature else None))
    text = ["".join(part.itertext()) for part in root.iter("{http://www.w3.org/2000/svg}text")]
    for name in ("Δ", "WB", "factor·B·u", "Nu−1/2 Nx1/2", "selection", "discretization", "recurrence"):
        assert name in text
    links = [part.get("href") for part in root.iter("{http://www.w3.org/2000/svg}a")]
    assert {"#u", "#W_B", "#y"} <= set(links)
    assert "#decay" not in links


@pytest.mark.parametrize("dot", layouts)
def test_boxes_do_not_overlap_and_edges_lead_down(flow: Flow, dot: str | None) -> None:
    boxes = {node.id: Box(60.0, 30.0, node.section) for node in flow.nodes}
    edges = [(e.source, e.target, 20.0) for e in flow.edges]
    placed = place(boxes, edges, dot=dot)
    centres = list(placed.centres.values())
    for i, (x, y) in enumerate(centres):
        assert 30 <= x <= placed.width - 29
        assert 15 <= y <= placed.height - 14
        assert all(abs(x - a) >= 60 or abs(y - b) >= 30 for a, b in centres[:i])
    assert all(placed.centres[a][1] < placed.centres[b][1] for a, b, _ in edges)
    assert len(placed.curves) == len(placed.labels) == len(edges)
    assert all(len(curve) % 3 == 1 for curve in placed.curves)
    assert set(placed.frames) == (set(flow.sections) if dot else set())


def test_it_is_drawn_without_graphviz(flow: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ours = to_svg(flow)
    assert ours == to_svg(flow, dot=None)
    broken = tmp_path / "dot"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert to_svg(flow) == ours


def test_hostile_names_are_escaped(flow: Flow) -> None:
    nodes = tuple(replace(node, name=HOSTILE) for node in flow.nodes)
    evil = replace(flow, model=HOSTILE, nodes=nodes)
    root = ElementTree.fromstring(to_svg(evil, dot=None, link=lambda node: HOSTILE, made=HOSTILE))
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    assert "<script" not in to_mermaid(evil)
    assert all(re.fullmatch(r'[^"]*("[^"]*"[^"]*)*', line) for line in to_mermaid(evil).splitlines())
    assert len(to_dot(evil).splitlines()) == len(to_dot(flow).splitlines())
    if DOT:
        done = subprocess.run([DOT, "-Tplain"], input=to_dot(evil), capture_output=True, text=True, check=True)
        assert done.stdout.count("node ") >= len(nodes)


def test_texts(flow: Flow) -> None:
    mermaid = to_mermaid(flow)
    assert mermaid.startswith("flowchart TD\n")
    assert 'subgraph part_selection ["selection"]' in mermaid
    assert re.search(r'n\d+ -->\|"N_u\^\(-1/2\) N_x\^\(1/2\)"\| n\d+', mermaid)
    assert 'label="selection"' in to_dot(flow)
