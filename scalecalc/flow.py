r"""The forward pass as nodes and edges with their sizes: what a diagram shows.

A node is an operation, an input, a weight or an exact vector, with its equation and the size (root-mean-square) that it has
at initialisation; an edge is a use of one by another.  Operations that only rename, repeat or cut axes are left out: what
they were made from stands in their place.  The parts of a state space layer (selection, discretization, recurrence) are what
the architecture says they are (:meth:`scalecalc.program.Program.within`), else what the rule says: a file's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scalecalc.scale import Scale

if TYPE_CHECKING:
    from scalecalc.derive import Derivation
    from scalecalc.program import Op, Program

MARKED = ("discretization", "recurrence")  # rule files whose operations are a part of the layer of that name


@dataclass(frozen=True)
class Node:
    """One box of the diagram.

    Args:
        id: unique, a valid identifier.
        name: of the tensor, as in the table.
        kind: ``input``, ``weight``, ``index`` (an exact vector) or ``op``.
        rule: what made it; empty for a leaf.
        equation: in LaTeX, of the right-hand side; empty for a leaf.
        axes: the labels of its axes.
        terms: its size at initialisation, as a row has it; none where nothing was derived.
        section: the part of the layer that it is in.
        feature: whether the table has rows of this name.
    """

    id: str
    name: str
    kind: str
    rule: str
    equation: str
    axes: tuple[str, ...]
    terms: tuple[Scale, ...]
    section: str
    feature: bool


@dataclass(frozen=True)
class Edge:
    """A tensor on its way into an operation, with its size at initialisation."""

    source: str
    target: str
    terms: tuple[Scale, ...]


@dataclass(frozen=True)
class Flow:
    """The forward pass of a model.  ``sections``: the parts that are marked, in the order of the program."""

    model: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @property
    def sections(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node.section for node in self.nodes if node.section))


def flow_of(found: Derivation) -> Flow:
    """The diagram's record, read off a derivation."""
    from scalecalc.program import LEAVES, SAME

    program, regime = found.model.program, found.algebra.regime
    assert program.loss is not None
    live = program.live([program.loss, *program.features.values()])
    shown: dict[int, int] = {}  # position → the position of what is drawn for it
    nodes: dict[str, Node] = {}
    features = frozenset(program.features.values())
    edges: list[Edge] = []
    for i, op in enumerate(program.ops):
        if not live[i] or op.backward:
            continue
        if op.rule in SAME and op.inputs:
            place = shown[i] = shown[op.inputs[0]]
            same = nodes[f"n{place}"]
            if i in features and not same.feature:  # of what has no name the feature is one
                nodes[same.id] = replace(same, name=op.name, feature=True)
            continue
        shown[i] = i
        value = found.values[i]
        terms = regime.leading(value.sizes()) if value is not None else ()
        kind = op.rule if op.rule in LEAVES else "op"
        own = Node(
            id=f"n{i}", name=op.name, kind=kind, rule="" if kind != "op" else op.rule, equation=equation(program, op),
            axes=op.axes, terms=terms, section=_section(program, op), feature=i in features or kind == "weight",
        )  # fmt: skip
        nodes[own.id] = own
        sources = (nodes[f"n{shown[j]}"] for j in op.inputs)
        edges += dict.fromkeys(Edge(source.id, own.id, source.terms) for source in sources)
    return Flow(found.model.name, tuple(nodes.values()), tuple(edges))


def equation(program: Program, op: Op) -> str:
    """The right-hand side as the rule writes it; its operands by their names, which a printer sets."""
    from scalecalc.rule import registry

    known: Mapping[str, object] = registry("rule")
    if op.rule not in known or not op.inputs:
        return ""
    return registry("rule")[op.rule].latex(op, *(_operand(program.ops[j].name) for j in op.inputs))


def _operand(name: str) -> str:
    """A name inside an equation: what reads as mathematics does so, the rest is upright."""
    from scalecalc.report.latex import name as latex_name

    found = latex_name(name)
    if found.startswith("$"):
        return found.strip("$")
    return "\\mathtt" + found.removeprefix("\\texttt")


def _section(program: Program, op: Op) -> str:
    from scalecalc.rule import registry

    if op.section or op.rule not in registry("rule"):
        return op.section
    home = type(registry("rule")[op.rule]).__module__.rpartition(".")[2]
    return home if home in MARKED else ""
