"""What to do where ``torch.export`` does not give a plain list of operations.

- *Regions*: ``torch.no_grad`` and a disabled autocast come as calls of graphs of their own.  They are written out in place;
  what comes out of the first is cut off from gradients (``detach``).
- *Pieces*: an operation that no function here knows is written as smaller ones, where torch has a way (``view_as`` as a view,
  ``lerp`` as sums and products).  Those that are known stay whole, however they could be decomposed.
- *make_fx*: where the export fails, or leaves transformations of functions in the graph (``torch.func.vmap``), the module is
  run once more and its operations are taken down below autograd.  They are smaller pieces then (a linear map is a transpose
  and a product), and nothing is made functional, so that writes in place are refused.
"""

from __future__ import annotations

import operator
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}  # where the graph stands among the arguments


@dataclass(frozen=True)
class Signature:
    """What the inputs of a graph are, as ``torch.export`` calls it."""

    inputs_to_parameters: Mapping[str, str]
    inputs_to_buffers: Mapping[str, str]
    inputs_to_lifted_tensor_constants: Mapping[str, str]
    user_inputs: Sequence[str]
    user_outputs: Sequence[str]


@dataclass(frozen=True)
class Taken:
    """A graph that was taken down otherwise, with what an exported program has that is needed of it."""

    graph: torch.fx.Graph
    graph_signature: Signature
    state_dict: Mapping[str, torch.Tensor]
    constants: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])


def write_out(exported: torch.export.ExportedProgram) -> None:
    """The regions of an exported graph, in place of their calls."""
    graph, module = exported.graph, exported.graph_module
    for node in list(graph.nodes):
        name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
        if name not in REGIONS:
            continue
        at = REGIONS[name]
        if name == "wrap_with_autocast" and node.args[2]:
            continue  # in a lower precision: it is refused by its name
        known = dict[torch.fx.Node, torch.fx.Node]()
        operands, results = iter(node.args[at + 1 :]), list[Any]()
        with graph.inserting_before(node):
            for inner in getattr(module, node.args[at].target).graph.nodes:
                if inner.op == "placeholder":
                    known[inner] = next(operands)
                elif inner.op == "output":
                    results = [known[r] for r in inner.args[0]]
                else:
                    known[inner] = graph.node_copy(inner, known.__getitem__)
            if name == "wrap_with_set_grad_enabled" and not node.args[0]:
                results = [_detached(graph, r) for r in results]
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(node)
    for node in list(graph.nodes):
        if node.op == "get_attr" and not node.users:
            graph.erase_node(node)


def _detached(graph: torch.fx.Graph, node: torch.fx.Node) -> torch.fx.Node:
    made = graph.call_function(torch.ops.aten.detach.default, (node,))
    made.meta = dict(node.meta)
    return made


def pieces(exported: torch.export.ExportedProgram, known: Container[str]) -> torch.export.ExportedProgram:
    """The same with operations that are not known in smaller ones that are, and without writes in place.

    What could only be written with others that are not known stays whole, so that it is refused by the name it has in the
    module.  What is computed from numbers alone (``arange``) has to be known to nobody: looking for smaller ones took half a
    second each time, most of what tracing a transformer took.
    """
    own, moving = _targets(exported)
    unknown = {t for t in moving if str(t) not in known}
    if not unknown and not any(t._opname.endswith("_") for t in own):
        return exported
    numbers = {t for t in own - unknown if str(t) not in known}
    ways = {t: way for t, way in torch.export.default_decompositions().items() if str(t) not in known and t not in numbers}

    def left(whole: set[Any]) -> tuple[torch.export.ExportedProgram, set[Any]]:
        found = exported.run_decompositions({t: way for t, way in ways.items() if t not in whole})
        return found, {t for t in _targets(found)[1] if str(t) not in known} - whole

    found, rest = left(set())
    return left({t for t in unknown if left(unknown - {t})[1]})[0] if rest else found


def _targets(exported: torch.export.ExportedProgram) -> tuple[set[Any], set[Any]]:
    """Torch's own operations in a graph: all, and those of what depends on an input, a parameter or a buffer."""
    every, moving, still = set[Any](), set[Any](), set[torch.fx.Node]()
    for node in exported.graph.nodes:
        if node.op != "call_function":
            continue
        fixed = still.issuperset(node.all_input_nodes)
        if fixed:
            still.add(node)
        if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "aten":
            every.add(node.target)
            if not fixed:
                moving.add(node.target)
    return every, moving


def plain(graph: torch.fx.Graph) -> bool:
    """Is it a list of torch's operations, with nothing else in between?"""
    calls = [n.target for n in graph.nodes if n.op in ("call_function", "call_module", "get_attr")]
    return all(isinstance(t, torch._ops.OpOverload) or t is operator.getitem for t in calls)


def take_down(module: nn.Module, inputs: Sequence[torch.Tensor]) -> Taken:
    """The operations of a module below autograd.  Raises what torch does, where it cannot."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def call(values: dict[str, torch.Tensor], *given: torch.Tensor) -> Any:
        found = torch.func.functional_call(module, values, given)
        return [x for x in tree_leaves(found) if isinstance(x, torch.Tensor)]

    mode: Any = {"tracing_mode": "fake", "_allow_non_fake_inputs": True, "record_stack_traces": True}
    found = make_fx(call, **mode)(state, *inputs)
    graph = found.graph
    names = [n.name for n in graph.nodes if n.op == "placeholder"]
    parameters = {name for name, _ in module.named_parameters()}
    own = dict(zip(names, state, strict=False))
    lifted = {n.name: str(n.target) for n in graph.nodes if n.op == "get_attr"}
    (output,) = (n for n in graph.nodes if n.op == "output")
    signature = Signature(
        {node: full for node, full in own.items() if full in parameters},
        {node: full for node, full in own.items() if full not in parameters},
        lifted,
        names[len(state) :],
        [n.name for n in tree_leaves(output.args) if isinstance(n, torch.fx.Node)],
    )
    return Taken(graph, signature, state, {target: getattr(found, target) for target in lifted.values()})
