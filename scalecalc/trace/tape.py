"""How a factory draws its parameters, as torch's operations on memory, so that one can be drawn again by itself.

To know the size of a bias of two entries takes hundreds of draws, and the module about it takes a thousand times as long to
build.  So the operations of one build are taken down, with what memory each reads and writes; those that a parameter's memory
depends on are done again, as often as it takes, from a generator that is seeded once.

A parameter is drawn so only if the tape, run whole from other seeds, gives what the factory gives from them, bit by bit.
What torch does not see (numbers from NumPy, memory that is not initialised) fails that.  Where Python looks at random
numbers (torch draws truncated normals until none is beyond) it must see the same every time, for all that comes after it;
and tensors whose sizes depend on them, and generators of the factory's own, are too much for a tape.  Then the factory itself
has to be run.

Tensors are known by their memory, not as objects: a parameter is another object than what was drawn, and a slice that is
written to writes to its whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from scalecalc.trace.graph import seeded

State = dict[str, torch.Tensor]
Memory = dict[int, torch.Tensor]  # by number: a tensor that has all of it


@dataclass(frozen=True)
class _View:
    """A tensor as a part of some memory; ``whole``: laid out as the tensor that the memory was first seen by."""

    memory: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    whole: bool

    def of(self, memory: Memory) -> torch.Tensor:
        base = memory[self.memory]
        if self.whole:
            return base
        if base.dtype is self.dtype:
            return base.as_strided(self.size, self.stride, self.offset)
        return _at(base.untyped_storage(), self)


def _at(storage: torch.UntypedStorage, where: _View) -> torch.Tensor:
    empty = torch.empty(0, dtype=where.dtype, device=storage.device)
    return empty.set_(storage, where.offset, where.size, where.stride)  # pyright: ignore[reportArgumentType]


def _view(tensor: torch.Tensor, number: int, first: _View | None = None) -> _View:
    own = _View(number, tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.dtype, True)
    return own if first in (own, None) else replace(own, whole=False)


@dataclass(frozen=True)
class _Call:
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    reads: frozenset[int]
    writes: frozenset[int]
    made: tuple[tuple[int, int], ...]  # which of the tensors that it returns has memory of its own, and its number
    seen: tuple[Any, ...] | None  # what Python was told of random numbers

    def run(self, memory: Memory) -> None:
        """Raises:
        ValueError: Python would see another number.
        """
        out = self.func(*_given(self.args, memory), **_given(self.kwargs, memory))
        if self.seen is not None and _numbers(out) != self.seen:
            raise ValueError("another number")
        if self.made:
            tensors = (out,) if isinstance(out, torch.Tensor) else _tensors(out)
            for position, number in self.made:
                memory[number] = tensors[position]


def _given(value: Any, memory: Memory) -> Any:
    if isinstance(value, _View):
        return value.of(memory)
    if isinstance(value, (list, tuple)):
        return type(value)(_given(v, memory) for v in value)
    if isinstance(value, dict):
        return {k: _given(v, memory) for k, v in value.items()}
    return value


def _tensors(value: Any) -> list[torch.Tensor]:
    return [x for x in tree_leaves(value) if isinstance(x, torch.Tensor)]


def _numbers(value: Any) -> tuple[Any, ...]:
    return tuple(x for x in tree_leaves(value) if not isinstance(x, torch.Tensor))


class Recording(TorchDispatchMode):
    """Takes down the operations on tensors while it is active; :meth:`tape` is what they come to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.known: dict[int, int] = {}  # the number of a storage
        self.storages: list[torch.UntypedStorage] = []  # by number, kept alive so that no other takes its place
        self.first: list[_View] = []  # by number: the tensor that it was first seen by
        self.given: Memory = {}  # what was there before, as it was when it was first seen
        self.random = set[int]()
        self.broken = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        own, named = self._views(args), self._views(kwargs)
        before = tree_leaves((own, named))
        reads = frozenset(x.memory for x in before if isinstance(x, _View))
        writes = {x.memory for x in self._written(func, own, named)}
        out = func(*args, **kwargs)
        tensors = _tensors(out)
        made = [(k, self._number(x)) for k, x in enumerate(tensors) if self._key(x) not in self.known]
        writes.update(number for _, number in made)
        if torch.Tag.nondeterministic_seeded in func.tags or reads & self.random:
            self.random |= writes
        drawn = bool(reads & self.random)
        sized = drawn and torch.Tag.dynamic_output_shape in func.tags
        self.broken = self.broken or sized or any(isinstance(x, torch.Generator) for x in before)
        seen = (_numbers(out) or None) if drawn else None
        self.calls.append(_Call(func, own, named, reads, frozenset(writes), tuple(made), seen))
        return out

    def tape(self, state: Mapping[str, torch.Tensor]) -> Tape:
        """What was taken down, with what memory the parameters are."""
        views = self._views(dict(state))
        return Tape([], {}, {}) if self.broken else Tape(self.calls, views, self.given)

    def _views(self, value: Any) -> Any:
        return tree_map(lambda x: self._view(x) if isinstance(x, torch.Tensor) else x, value)

    def _view(self, tensor: torch.Tensor) -> _View:
        number = self.known.get(self._key(tensor))
        if number is None:
            number = self._number(tensor)
            self.given[number] = _at(tensor.untyped_storage().clone(), self.first[number])
        self.broken = self.broken or tensor.is_conj() or tensor.is_neg()  # which its memory does not say
        return _view(tensor, number, self.first[number])

    def _number(self, tensor: torch.Tensor) -> int:
        number = self.known[self._key(tensor)] = len(self.first)
        self.storages.append(tensor.untyped_storage())
        self.first.append(_view(tensor, number))
        return number

    @staticmethod
    def _key(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage()._cdata

    @staticmethod
    def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[_View]:
        """What an operation says that it writes into."""
        for k, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[k] if k < len(args) else kwargs.get(argument.name)
                yield from (x for x in tree_leaves(value) if isinstance(x, _View))


@dataclass
class Tape:
    """Operations, what memory parameters are, and the memory that was there before; ``trusted``: of those that were checked
    the parameters that the tape has as the factory has them."""

    calls: Sequence[_Call]
    state: Mapping[str, _View]
    given: Memory
    trusted: set[str] | None = None
    _parts: dict[int, tuple[list[_Call], Memory]] = field(default_factory=dict[int, Any])

    def check(self, seed: int, state: Mapping[str, torch.Tensor]) -> None:
        """Trust what comes out as it came from the factory, from this seed and from those before."""
        found = self._run(seed)
        same = {name for name, value in found.items() if name in state and torch.equal(value, state[name])}
        self.trusted = same if self.trusted is None else self.trusted & same

    def _run(self, seed: int) -> State:
        memory = {number: _copy(value) for number, value in self.given.items()}
        try:
            with seeded(seed), torch.no_grad():
                for call in self.calls:
                    call.run(memory)
                return {name: view.of(memory) for name, view in self.state.items()}
        except Exception:  # whatever it is, the factory has to be asked
            return {}

    def draw(self, name: str, count: int, seed: int) -> torch.Tensor | None:
        """So many independent draws of a parameter, beside each other; None if the factory has to make them."""
        if self.trusted is None or name not in self.trusted:
            return None
        view, out = self.state[name], list[torch.Tensor]()
        if view.memory not in self._parts:
            self._parts[view.memory] = self._needed(view.memory)
        calls, given = self._parts[view.memory]
        written = frozenset[int]().union(*(call.writes for call in calls))
        with seeded(seed), torch.no_grad():
            for _ in range(count):
                memory = {number: _copy(value) if number in written else value for number, value in given.items()}
                try:
                    for call in calls:
                        call.run(memory)
                except ValueError:
                    self.trusted.remove(name)
                    return None
                out.append(view.of(memory))
            return torch.stack(out)

    def _needed(self, number: int) -> tuple[list[_Call], Memory]:
        """The operations that some memory depends on, what Python saw before them, and the memory that they begin with."""
        wanted, kept = {number}, list[_Call]()
        for call in reversed(self.calls):
            if call.writes & wanted or (kept and call.seen is not None):
                kept.append(call)
                wanted |= call.reads
        return kept[::-1], {k: v for k, v in self.given.items() if k in wanted}


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return _at(tensor.untyped_storage().clone(), _view(tensor, 0))
