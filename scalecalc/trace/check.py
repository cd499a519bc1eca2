"""The traced program on the module's own numbers: it has to reproduce the output, and the gradient of every parameter.

Checked every time, at every width that was traced, before anything is derived.  So a mistake of the tracer's is an error
and never a wrong exponent.  The parameters are moved off their initial values, where much may be zero or alike.

A parameter whose gradient is zero to rounding even there has no effect on the output whatever it is (the bias of attention's
keys adds the same to all scores of a softmax).  It is reported, and recorded as what is never trained: else its rows would
be about rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import torch
from torch.utils._pytree import tree_leaves

from scalecalc.backward import record_backward
from scalecalc.errors import InputError, ScalecalcError
from scalecalc.measure.interpret import Setting, draw_leaves, run
from scalecalc.program import Program
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling
from scalecalc.trace.graph import Graph, Leaf, Node, at, refs
from scalecalc.trace.network import Network
from scalecalc.trace.traced import ONES, Placed

MOVE = 0.2  # of the parameters, relative to their size
NOTHING = 1e-13  # a gradient that is rounding, relative to the largest of all
TOLERANCE = 1e-9  # of double precision, relative to the largest entry
SINGLE = 1e-4  # where the module itself computes in single precision
ONE = Scale.one()


class TraceError(ScalecalcError):
    """The traced program is not the module: an error of scalecalc's own."""

    exit_status = 70


def check(graph: Graph, network: Network) -> set[str]:
    """The weights that have no effect.

    Raises:
        TraceError: output or a gradient differs, with where and by how much.
        InputError: a norm of what is zero at initialisation, or the module's own numbers are not finite.
    """
    idle: set[str] | None = None
    moved = [_moved(module, k) for k, module in enumerate(graph.modules)]
    program = network.program.copy()
    assert program.loss is not None
    start = import_module("scalecalc.rules.loss").start
    cotangent = start(program.tensor(program.loss), "linear")
    record_backward(program, cotangent)
    cotangent = program.gradients[program.loss]
    single = any(_in_single(node) for node in graph.nodes)
    tolerance = SINGLE if single or network.single else TOLERANCE
    leaves = {leaf.node: leaf for leaf in graph.leaves}
    _check_norms(program, network, graph, leaves)
    for k, widths in enumerate(graph.settings.all):
        module = moved[k]
        found = module(*(x.clone() for x in graph.inputs[k]))
        output = next(x for x in tree_leaves(found) if isinstance(x, torch.Tensor))
        c = torch.randn(output.shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        (output * c).sum().backward()

        weights = {p.index: p for p in network.placed if program.ops[p.index].rule == "weight"}
        wanted = [program.loss, *(program.gradients[i] for i in weights if i in program.gradients)]
        state = _state(module)
        given = _own(program, network, leaves, state, k, widths, wanted)
        given[cotangent] = network.laid(c, widths)[None]
        values = run(program, given, wanted)
        _compare(values[program.loss][0], network.laid(output.detach(), widths), tolerance, "the output", widths)
        largest = max((float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None), default=1.0)
        none: set[str] = set()
        for i, placed in weights.items():
            grad = state[leaves[placed.leaf].name].grad
            if i in program.gradients and grad is not None:
                own = values[program.gradients[i]][0]
                other = _part(placed, grad, k).reshape(own.shape)
                theirs = NOTHING * tolerance / TOLERANCE * largest
                if float(other.abs().max()) < theirs and float(own.abs().max()) < NOTHING * largest:
                    none.add(program.ops[i].name)
                    continue
                _compare(own, other, tolerance, f"the gradient of {program.ops[i].name}", widths)
        idle = none if idle is None else idle & none
    return idle or set()


def _in_single(node: Node) -> bool:
    """Does it compute in single precision, whatever it is given?"""
    made = any(part in node.target for part in ("_like.", "new_"))  # zeros and ones
    return "float32" in str((node.args, node.kwargs)) and not made and any(refs((node.args, node.kwargs)))


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}


def _own(
    program: Program, network: Network, leaves: Mapping[str, Leaf], state: Mapping[str, torch.Tensor], k: int,
    widths: Mapping[str, int], wanted: Sequence[int],
) -> dict[int, torch.Tensor]:  # fmt: skip
    """The module's own numbers at the k-th setting for the leaves that are needed for some operations."""
    scalings = {name: WeightScaling(ONE, ONE, ONE) for name in program.weights}
    given = draw_leaves(program, Setting(widths, 1, 0), scalings, program.live(wanted))
    for placed in network.placed:
        if placed.index in given:
            given[placed.index] = _value(placed, leaves, state, k, given[placed.index])
    return given


def _check_norms(program: Program, network: Network, graph: Graph, leaves: Mapping[str, Leaf]) -> None:
    """Raises:
    InputError: a norm of what is zero at initialisation, which no law of the widths says the size of.
    """
    norms = {op.inputs[0]: op for op in program.ops if op.rule == "rmsnorm"}
    if not norms:
        return
    state = _state(graph.modules[0])
    state = {name: v.detach().double() if v.is_floating_point() else v for name, v in state.items()}
    given = _own(program, network, leaves, state, 0, graph.settings.all[0], list(norms))
    values = run(program, given, list(norms))
    for i, op in norms.items():
        over = op.params["over"]
        axes = program.ops[i].axes
        places = [1 + axes.index(label) for label in ((over,) if isinstance(over, str) else over)]
        size = values[i].square().mean(places)
        if float(size.min()) <= NOTHING**2 * max(float(size.max()), 1e-30):
            raise InputError(
                f"the norm at {_short(op.where)} normalises what is zero at initialisation, in some entries or all (a first "
                "time step, what is behind a weight that starts at zero): it is divided by ε there, and its gradient by as "
                "much, which no law of the widths says the size of. Start from numbers that are not zero."
            )


def _short(where: str) -> str:
    file, _, line = where.rpartition(":")
    return f"{Path(file).name}:{line}"


def _moved(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A copy whose parameters are not at their initial values."""
    module = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.requires_grad_(True)
        p.grad = None
        size = float(p.detach().square().mean().sqrt()) or 1.0
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        p.data += MOVE * size * noise
    return module


def _value(
    placed: Placed, leaves: Mapping[str, Leaf], state: Mapping[str, torch.Tensor], k: int, drawn: torch.Tensor
) -> torch.Tensor:
    """A leaf's value at the k-th setting, with the axis of seeds."""
    if placed.values:
        return placed.values[k][None].to(drawn.dtype)
    if placed.leaf == ONES:
        return torch.ones_like(drawn)
    if not placed.leaf:
        return torch.zeros_like(drawn)  # what is random about a mean: the mean's place has all of it
    leaf = leaves[placed.leaf]
    value = state[leaf.name].detach() if leaf.kind == "parameter" else leaf.values[k]
    if not value.is_floating_point():
        hot = torch.nn.functional.one_hot(value, drawn.shape[-1]).double()
        return hot.permute(_first(placed.order, hot.dim())).reshape(drawn.shape)
    return _part(placed, value.double(), k).reshape(drawn.shape)


def _first(order: tuple[int, ...], dims: int) -> list[int]:
    return [*order, *(k for k in range(dims) if k not in order)]


def _part(placed: Placed, value: torch.Tensor, k: int) -> torch.Tensor:
    for axis, part in enumerate(placed.parts):
        value = part.of(value, axis, k)
    shape = [value.shape[j] for j in placed.order]
    return value.permute(_first(placed.order, value.dim())).reshape(shape)


def _compare(mine: torch.Tensor, theirs: torch.Tensor, tolerance: float, what: str, widths: Mapping[str, int]) -> None:
    if mine.shape != theirs.shape:
        raise TraceError(f"the traced program does not have the module's shapes ({what} at {at(widths)}); please report it.")
    if not bool(theirs.isfinite().all()):
        raise InputError(f"{what} is not finite at {at(widths)} on the example inputs; give others.")
    off = float((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)) if mine.numel() else 0.0
    if not off <= tolerance:
        raise TraceError(
            f"the traced program does not reproduce the module: {what} differs by {off:.2g} of its size at {at(widths)}. "
            "Nothing is derived from it. Does the module do something at random, or keep state between calls? If not, this "
            "is an error of scalecalc's own; please report it."
        )
