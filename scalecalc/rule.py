"""A rule: everything scalecalc knows about one kind of operation, in one place; and the registries.

A rule states local facts; composing them is the engine's.  It is a final subclass of :class:`Rule` with

- ``law``: values in, value out (the scale interpreter);
- ``backward``: the vector-Jacobian product, recorded as further operations (so gradients obey the same rules);
- ``torch``: the same operation on numbers (the torch interpreter);
- ``latex``: the same operation on the page;
- ``sample``: a small program that uses it, on which every rule is tested: the law against Monte Carlo, the backward
  against autograd.

Its docstring's first line is the law in words, which derivations print.  :func:`register` puts it, an architecture, an
optimizer or a parameterization where every command finds it; that is the whole extension interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from scalecalc.errors import ProgramError, UnknownName
from scalecalc.program import Op, Program, Tensor
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

    from scalecalc.memory import Entries

KINDS = ("rule", "architecture", "optimizer", "parameterization", "transition")
_REGISTRY: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
T = TypeVar("T")


def words(thing: object) -> str:
    """The first line of a docstring: what a thing says of itself in one sentence."""
    lines = (thing.__doc__ or "").strip().splitlines()
    return lines[0].strip() if lines else ""


class Rule(ABC):
    """One kind of operation.  Subclasses are final; families (elementwise functions) are instances of one subclass."""

    name: str = ""
    source: str = ""
    nameless: bool = False  # the law uses its values and the operation's parameters alone, no names or places in the program

    @property
    def words(self) -> str:
        return words(self)

    def saturates(self, op: Op) -> bool:
        """Does it lose its gradient, or overflow, where an argument is large?  A solver then keeps the arguments bounded."""
        return False

    def centred(self, op: Op) -> Sequence[str]:
        """The labels along which it removes a mean; the engine then follows fluctuations about it there (hard case W4)."""
        return ()

    def lags(self, op: Op) -> int:
        """How many powers of one factor it multiplies together, over time: 0 but for a recurrence (hard case W7)."""
        return 0

    def degrees(self, op: Op, *values: Value) -> Sequence[float] | None:
        """Its degree in each input: 1 where the result is proportional to it, 0 where a factor is without effect.

        None: it is not homogeneous in all of them.
        """
        return None

    def entries(self, op: Op, *inputs: Entries | None) -> Entries | None:
        """Bounds on the initial entries of the result, from bounds on those of the inputs; None: none are known.

        It is what tells how long a recurrence remembers whose decay this is (:mod:`scalecalc.memory`).
        """
        return None

    @abstractmethod
    def law(self, algebra: Algebra, op: Op, labels: tuple[str, ...], *values: Value) -> Value:
        """The value of the result.  ``labels`` are the growing axes of the result, in order."""

    @abstractmethod
    def backward(self, inputs: Sequence[Tensor], output: Tensor, g: Tensor) -> Sequence[Tensor | None]:
        """Record the vector-Jacobian product: per input its gradient (broadcast axes still in place), or None."""

    @abstractmethod
    def torch(self, op: Op, axes: Sequence[tuple[str, ...]], *tensors: torch.Tensor) -> torch.Tensor:
        """The operation on numbers.  Every tensor has a leading axis of independent seeds, then its ``axes``."""

    @abstractmethod
    def latex(self, op: Op, *names: str) -> str:
        """The right-hand side of the operation's equation."""

    @abstractmethod
    def sample(self, program: Program) -> Tensor:
        """Record a small use of the rule in a program with the growing dims N and M; return its result."""


@dataclass(frozen=True)
class Entry:
    """What is registered that is no rule: an architecture, an optimizer or a parameterization."""

    name: str
    make: Callable[..., Any]
    source: str
    words: str
    defaults: Mapping[str, Any]


def register(kind: str, name: str, thing: Any) -> None:
    """Put a thing into a registry.

    Raises:
        ProgramError: the name is taken by something else (a second definition would silently win).
    """
    known = _REGISTRY[kind]
    if name in known and known[name] is not thing:
        raise ProgramError(f"the {kind} {name!r} is registered twice; give the second one a name of its own.")
    known[name] = thing


def registered() -> set[tuple[str, str]]:
    """Kind and name of everything that is registered now."""
    return {(kind, name) for kind, known in _REGISTRY.items() for name in known}


def withdraw(things: Iterable[tuple[str, str]]) -> None:
    """Forget what was registered, so that the file that did so can be run anew after an edit."""
    for kind, name in things:
        _REGISTRY[kind].pop(name, None)


def rule(name: str, source: str) -> Callable[[type[Rule]], type[Rule]]:
    """Class decorator: register the one instance of a rule."""

    def decorate(cls: type[Rule]) -> type[Rule]:
        instance = cls()
        instance.name, instance.source = name, source
        register("rule", name, instance)
        return cls

    return decorate


def _entry(kind: str, name: str, source: str, defaults: Mapping[str, Any]) -> Callable[[T], T]:
    def decorate(function: T) -> T:
        assert callable(function)
        register(kind, name, Entry(name, function, source, words(function), dict(defaults)))
        return function

    return decorate


def architecture(name: str, source: str = "", **defaults: Any) -> Callable[[T], T]:
    """Register an architecture: ``f(options…) -> Program``.

    ``defaults``: ``parameterization`` and ``optimizer`` that the model uses unless told otherwise, ``widths`` (dim → list)
    for the verifier; ``along_paths``: it is derived only where a regime says how the dims grow against each other.
    """
    return _entry("architecture", name, source, defaults)


def parameterization(name: str, source: str, keeps: Sequence[str] = ()) -> Callable[[T], T]:
    """Register a parameterization: ``f(weight: Weight, optimizer: str) -> WeightScaling``.

    ``keeps``: the features that its source says it keeps of order one in training; a table that contradicts it says so.
    """
    return _entry("parameterization", name, source, {"keeps": tuple(keeps)})


def optimizer(name: str, source: str, **defaults: Any) -> Callable[[T], T]:
    """Register an optimizer: an instance-making function of an :class:`~scalecalc.parameterization.Optimizer`."""
    return _entry("optimizer", name, source, defaults)


def registry(kind: str) -> dict[str, Any]:
    """Everything registered under a kind, by name, with the built-in rules loaded."""
    from scalecalc import rulebook

    rulebook.load()
    return _REGISTRY[kind]


def find(kind: str, name: str) -> Any:
    """One registered thing.

    Raises:
        UnknownName: nothing of that name, with the names that there are.
    """
    known = registry(kind)
    if name not in known:
        raise UnknownName(kind if kind != "architecture" else "model", name, known)
    return known[name]


def spread(axes: Sequence[tuple[str, ...]], out: Sequence[str], *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Permute and unsqueeze tensors so that they broadcast over the axes ``out`` (a leading seed axis stays first)."""
    result: list[torch.Tensor] = []
    for own, tensor in zip(axes, tensors, strict=True):
        order = [label for label in out if label in own]
        moved = tensor.permute(0, *(1 + own.index(label) for label in order))
        for position, label in enumerate(out):
            if label not in own:
                moved = moved.unsqueeze(1 + position)
        result.append(moved)
    return result
