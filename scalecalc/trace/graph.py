"""The operations of a module as torch records them: exported at several width settings, and laid over one another.

``torch.export`` unrolls Python, refuses control flow that depends on data, and makes in-place writes functional; its
operations are kept whole as far as it keeps them (linear, softmax, layer norm, attention).  A marking operation behind every
submodule tells which tensor is whose output, also where the submodule computes nothing.

The graphs of all settings must be the same but for numbers.  A number that is not the same everywhere is a
:class:`Varying`.
"""

from __future__ import annotations

import logging
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scalecalc.errors import InputError, ScalecalcError
from scalecalc.trace.fallback import Taken, pieces, plain, take_down, write_out
from scalecalc.trace.handlers import TABLE
from scalecalc.trace.sizes import Settings, Sizes

MARK = "scalecalc.feature.default"
IGNORED = ("aten._assert_tensor_metadata.default", "aten.sym_size.int", "aten._assert_async.msg")
_FRAME = re.compile(r'File "(?P<file>.*)", line (?P<line>\d+), in (?P<function>.*)')
_TORCH = Path(torch.__file__).parent


class Varying(tuple[float, ...]):
    """A number in the code that is not the same at all settings."""

    __slots__ = ()


@dataclass(frozen=True)
class Ref:
    """The result of another node."""

    name: str


@dataclass(frozen=True)
class Place:
    """A line of the user's code."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}" + (f" `{self.text}`" if self.text else "")


@dataclass(frozen=True)
class Node:
    """One operation.  ``shapes``: per tensor that it returns, the sizes of its axes."""

    name: str
    target: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[tuple[Sizes, ...], ...]
    place: Place | None
    module: str = ""


@dataclass(frozen=True)
class Leaf:
    """What a graph starts from: ``kind`` parameter, buffer or input; its values at every setting."""

    node: str
    name: str
    kind: str
    shape: tuple[Sizes, ...]
    values: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Graph:
    """The common graph of all settings, with the modules it was taken from."""

    settings: Settings
    leaves: tuple[Leaf, ...]
    nodes: tuple[Node, ...]
    output: tuple[Ref, ...]
    modules: tuple[nn.Module, ...]
    inputs: tuple[tuple[torch.Tensor, ...], ...]
    taken_down: bool = False  # by make_fx


# ------------------------------------------------------------------ exporting


@cache
def _library() -> torch.library.Library:
    """The marking operation: its argument, copied."""
    library = torch.library.Library("scalecalc", "DEF")
    library.define("feature(Tensor x, str name) -> Tensor")
    library.impl("feature", lambda x, name: x.clone(), "CompositeExplicitAutograd")
    library.impl("feature", lambda x, name: torch.empty_like(x), "Meta")
    return library


def _marking(name: str) -> Callable[..., Any]:
    def mark(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return torch.ops.scalecalc.feature(output, name)
        if isinstance(output, tuple) and output and isinstance(output[0], torch.Tensor):
            return (torch.ops.scalecalc.feature(output[0], name), *output[1:])
        return output

    return mark


def at(widths: Mapping[str, int]) -> str:
    return " ".join(f"{dim}={width}" for dim, width in widths.items())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from this seed on, and what they were again afterwards."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed keeps a stack trace for devices that may come later; that took longer than to draw a small module.
        (torch if torch.cuda.is_available() else torch.default_generator).manual_seed(seed)
        yield


def built(factory: Callable[..., Any], widths: Mapping[str, int], options: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """The module at one setting, from one seed.

    Raises:
        InputError: the factory fails, or returns something else.
    """
    return set_up(factory, widths, options, seed)[0]


def set_up(
    factory: Callable[..., Any], widths: Mapping[str, int], options: Mapping[str, Any], seed: int = 0
) -> tuple[nn.Module, torch.optim.Optimizer | None]:
    """The module and its optimizer, if the factory returns one."""
    with seeded(seed):
        try:
            made = factory(**widths, **options)
        except ScalecalcError:
            raise
        except Exception as error:
            raise InputError(f"{_named(factory)}({at(widths)}) fails: {_where(error)}.") from error
    module, optimizer = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise InputError(f"{_named(factory)}({at(widths)}) returns {type(made).__name__}, no torch.nn.Module.")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"{_named(factory)} returns {type(optimizer).__name__} beside the module, no torch optimizer.")
    return module, optimizer


def _named(factory: Callable[..., Any]) -> str:
    return getattr(factory, "__name__", "the factory")


def _where(error: BaseException | None) -> str:
    """The deepest line of the user's own in an error's traceback, and what it says."""
    import traceback

    assert error is not None
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _theirs(f.filename)]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: " if frames else ""
    return f"{place}{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def _theirs(file: str) -> bool:
    path = Path(file)
    return _TORCH not in path.parents and Path(__file__).parent.parent not in path.parents and path.is_file()


Exported = torch.export.ExportedProgram | Taken


def export(module: nn.Module, inputs: Sequence[torch.Tensor], widths: Mapping[str, int]) -> Exported:
    """One exported graph, in-place writes made functional; taken down by ``make_fx`` where torch cannot export the module.

    Raises:
        InputError: neither can be done, with torch's reason and the line.
    """
    _library()
    log = logging.getLogger("torch.__trace")  # tells a file of torch's own every tensor, and whoever collects all logs
    before, log.disabled = log.disabled, True
    hooks = [m.register_forward_hook(_marking(name or "output")) for name, m in module.named_modules()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _exported(module, inputs, widths)
    finally:
        log.disabled = before
        for hook in hooks:
            hook.remove()


def _exported(module: nn.Module, inputs: Sequence[torch.Tensor], widths: Mapping[str, int]) -> Exported:
    failed: Exception | None = None
    try:
        found = pieces(torch.export.export(module, tuple(inputs), strict=False), {*TABLE, *IGNORED})
        write_out(found)
        if plain(found.graph):
            return found
    except Exception as error:
        failed = error
    text = str(failed or "")
    if "data-dependent" in text or "GuardOnDataDependent" in type(failed).__name__:
        raise InputError(
            f"the module branches on its data at {at(widths)}: {_where(failed)}. The sizes of such a network have no one "
            "law; trace it on a branch that does not depend on the data."
        ) from failed
    try:
        return take_down(module, inputs)
    except Exception as error:
        failed = failed or error
        raise InputError(f"the module fails at {at(widths)}: {_where(failed)}.") from failed


# ------------------------------------------------------------------ laying graphs over one another


def merged(values: Sequence[Any]) -> Any:
    """One argument at all settings as one."""
    first = values[0]
    if isinstance(first, torch.fx.Node):
        return Ref(first.name)
    if isinstance(first, (list, tuple)):
        return [merged(parts) for parts in zip(*values, strict=True)]
    if isinstance(first, (int, float)) and any(v != first for v in values):
        return Varying(values)
    return first


def _shapes(nodes: Sequence[torch.fx.Node]) -> tuple[tuple[Sizes, ...], ...]:
    found = [n.meta.get("val") for n in nodes]
    lists = [v if isinstance(v, (list, tuple)) else (v,) for v in found]
    return tuple(
        tuple(tuple(int(s) for s in sizes) for sizes in zip(*(t.shape for t in tensors), strict=True))
        for tensors in zip(*lists, strict=True)
        if isinstance(tensors[0], torch.Tensor)
    )


def _place(node: torch.fx.Node) -> Place | None:
    """The deepest line of the user's code behind an operation."""
    lines = (node.meta.get("stack_trace") or "").splitlines()
    found: Place | None = None
    for i, text in enumerate(lines):
        match = _FRAME.search(text)
        if match and (_theirs(match["file"]) or found is None):
            found = Place(match["file"], int(match["line"]), lines[i + 1].strip() if i + 1 < len(lines) else "")
    return found


def _key(node: torch.fx.Node) -> tuple[Any, ...]:
    return node.op, str(node.target), len(node.args), tuple(a.name for a in node.all_input_nodes)


def lay_over(
    exported: Sequence[Exported],
    settings: Settings,
    modules: Sequence[nn.Module],
    inputs: Sequence[Sequence[torch.Tensor]],
) -> Graph:
    """The common graph.

    Raises:
        InputError: the graphs differ by more than numbers.
    """
    graphs = [[n for n in e.graph.nodes if str(n.target) not in IGNORED] for e in exported]
    for widths, other in zip(settings.all[1:], graphs[1:], strict=True):
        for a, b in zip(graphs[0], other, strict=False):
            if _key(a) != _key(b):
                raise _differ(settings, widths, a)
        if len(graphs[0]) != len(other):
            raise _differ(settings, widths, graphs[0][min(len(graphs[0]), len(other)) - 1])
    names = {id(p): name for name, p in modules[0].named_parameters()}
    first_names = {name: names[id(p)] for name, p in modules[0].named_parameters(remove_duplicate=False)}
    nodes: list[Node] = []
    leaves: list[Leaf] = []
    output: tuple[Ref, ...] = ()
    for own in zip(*graphs, strict=True):
        first = own[0]
        if first.op in ("placeholder", "get_attr"):
            leaves.append(_leaf(own, exported, inputs, first_names))
        elif first.op == "output":
            wanted = exported[0].graph_signature.user_outputs  # buffers that are written to come out as well
            known = {node.name for node in nodes} | {leaf.node for leaf in leaves}
            output = tuple(Ref(name) for name in wanted if isinstance(name, str) and name in known)
        else:
            try:
                args = tuple(merged([n.args[k] for n in own]) for k in range(len(first.args)))
                kwargs = {k: merged([n.kwargs[k] for n in own]) for k in first.kwargs}
            except ValueError as error:
                raise _differ(settings, settings.all[-1], first) from error
            target = "getitem" if first.target is operator.getitem else str(first.target)
            stack = list((first.meta.get("nn_module_stack") or {}).values())
            nodes.append(
                Node(first.name, target, args, kwargs, _shapes(own), _place(first), stack[-1][0] if stack else "")
            )
    needed, taken = _needed(nodes, output[:1]), any(isinstance(e, Taken) for e in exported)
    return Graph(settings, tuple(leaves), needed, output, tuple(modules), tuple(map(tuple, inputs)), taken)


def _needed(nodes: Sequence[Node], output: Sequence[Ref]) -> tuple[Node, ...]:
    """The operations that the (first) output or a submodule's output comes from."""
    wanted = {r.name for r in output}
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.name in wanted or node.target == MARK:
            kept.append(node)
            wanted.update(r.name for r in refs((node.args, node.kwargs)))
    return tuple(reversed(kept))


def refs(value: Any) -> Iterator[Ref]:
    """The nodes that nested arguments refer to."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, dict):
        yield from (r for v in value.values() for r in refs(v))
    elif isinstance(value, (list, tuple)):
        yield from (r for v in value for r in refs(v))


def _differ(settings: Settings, widths: Mapping[str, int], node: torch.fx.Node) -> InputError:
    dims = [dim for dim, width in widths.items() if width != settings.base[dim]]
    place = _place(node)
    where = f", from {place} on" if place else ""
    return InputError(
        f"the module does other operations at {at(widths)} than at {at(settings.base)}{where}. A growing dim is a width of "
        f"tensors: no number of layers or time steps, and no loop runs over it. If {' or '.join(dims)} is no width, hold it "
        f"with --fix {dims[0] if dims else 'DIM'}=…, or make it a keyword-only argument of the factory."
    )


def _leaf(
    own: Sequence[torch.fx.Node],
    exported: Sequence[Exported],
    inputs: Sequence[Sequence[torch.Tensor]],
    first_names: Mapping[str, str],
) -> Leaf:
    name = own[0].name
    signature = exported[0].graph_signature
    (shape,) = _shapes(own) or ((),)
    if name in signature.inputs_to_parameters:
        full = signature.inputs_to_parameters[name]
        values = [e.state_dict[full] for e in exported]
        return Leaf(name, first_names.get(full, full), "parameter", shape, tuple(v.detach() for v in values))
    for table in (signature.inputs_to_buffers, signature.inputs_to_lifted_tensor_constants):
        if name in table:
            full = table[name]
            values = [e.state_dict[full] if full in e.state_dict else e.constants[full] for e in exported]
            return Leaf(name, full, "buffer", shape, tuple(v.detach() for v in values))
    position = list(signature.user_inputs).index(name)
    return Leaf(name, name, "input", shape, tuple(given[position] for given in inputs))


@dataclass
class Problems:
    """Everything that cannot be traced, told at once."""

    found: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def add(self, node: Node, what: str) -> None:
        places = self.found.setdefault(what, [])
        text = str(node.place) if node.place else node.module or node.name
        if text not in places:
            places.append(text)

    def check(self) -> None:
        """Raises:
        InputError: there are any.
        """
        if self.found:
            lines = "".join(f"\n  {what}, at {'; '.join(places)}" for what, places in self.found.items())
            raise InputError(f"this module cannot be traced; nothing is guessed. What is in the way:{lines}")
