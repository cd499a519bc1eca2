"""The recorded architecture: a list of operations on tensors with named axes.  No numbers, no torch.

An architecture is a Python function that receives a :class:`Program` and records operations by calling recorders (small
functions that live beside each rule, such as ``matmul`` or ``relu``) on :class:`Tensor` handles.  Every interpreter
(scale, torch, equations) then reads the same list.

Axes are labels in order.  A label is the name of a growing dim with any number of primes (``N_u``, ``N_u'``: two axes of
one dim), or the name of a fixed axis, which the program declares with its size.  Operations match axes by label, never by
position.

>>> p = Program("demo", dims=("N",), fixed={"in": 4})
>>> x = p.input("x", "in")
>>> W = p.weight("W_in", "N in")
>>> W.axes, p.weights["W_in"].fan_out, p.weights["W_in"].role
(('N', 'in'), Θ(N), 'embedding')
"""

from __future__ import annotations

import sys
from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from scalecalc.errors import InputError, ProgramError
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.term import count, dim_of


@dataclass(frozen=True)
class Weight:
    """A trainable tensor.  ``axes``: output axes first, the input axis last (a vector has one axis, its output).

    ``role`` is what a parameterization goes by: embedding, hidden, readout or vector, read off the growing axes, unless
    the architecture gives a more special one (``selection_B``).  ``regime``: how the dims are taken to grow against each
    other, for a parameterization that compares two of them.  ``stacked``: axes along which there is a weight of its own each,
    one per block; ``copies``: their number, as far as it grows.
    """

    name: str
    axes: tuple[str, ...]
    fan_in: Scale
    fan_out: Scale
    role: str
    regime: Regime = FREE
    stacked: tuple[str, ...] = ()
    copies: Scale = field(default_factory=Scale.one)


@dataclass(frozen=True)
class Op:
    """One recorded operation; ``inputs`` are positions of earlier operations, ``section`` the part of the layer it is in."""

    rule: str
    inputs: tuple[int, ...]
    axes: tuple[str, ...]
    params: Mapping[str, Any]
    name: str
    where: str
    backward: bool = False
    complex: bool = False
    section: str = ""


@dataclass(frozen=True)
class Loop:
    """Blocks that are recorded once and repeated along a growing axis, h_(l+1) = h_l + f(h_l; W_l).

    Args:
        over: the label of the axis that counts them.
        increment: position of what each block adds.
        reverse: from the last block to the first, as gradients go.
    """

    over: str
    increment: int
    reverse: bool = False


class Tensor:
    """A handle on the result of one operation, with the arithmetic that every architecture needs."""

    __slots__ = ("index", "program")

    def __init__(self, program: Program, index: int):
        self.program, self.index = program, index

    @property
    def op(self) -> Op:
        return self.program.ops[self.index]

    @property
    def axes(self) -> tuple[str, ...]:
        return self.op.axes

    @property
    def name(self) -> str:
        return self.op.name

    @property
    def complex(self) -> bool:
        """Are its entries complex numbers?  They are where an exact vector's are, and in all that is made from it."""
        return self.op.complex

    def __add__(self, other: Tensor) -> Tensor:
        return self.program.record("add", (self, other), self.program.union(self, other))

    def __mul__(self, other: Tensor) -> Tensor:
        return self.program.record("contraction", (self, other), self.program.union(self, other), over=())

    def __repr__(self) -> str:
        return f"Tensor({self.name}: {' '.join(self.axes)})"


_GROWN: ContextVar[tuple[str, ...]] = ContextVar("axes that grow beside an architecture's own dims", default=())


@contextmanager
def growing(labels: Iterable[str]) -> Generator[None]:
    """Programs that are made in here take these of their fixed axes for growing dims (a batch, a sequence, a vocabulary)."""
    token = _GROWN.set(tuple(labels))
    try:
        yield
    finally:
        _GROWN.reset(token)


ROLES = {(False, True): "embedding", (True, True): "hidden", (True, False): "readout"}
"""By whether the input and the output axes grow; else a vector."""
LEAVES = ("input", "weight", "index")
SAME = ("rename", "broadcast", "view", "part", "padded", "windows")  # no other name is needed for the same entries


@dataclass
class Program:
    """What an architecture records.  ``dims`` grow; ``fixed`` maps every other axis to its size, ``held`` dims among them.

    ``multiples``: growing labels whose axes are not the dim's width long but a constant times that; ``loops``: repeated
    blocks, by the position of what enters them; ``remarks``: what a reader of its table must know.

    Raises (all methods):
        ProgramError: an axis that is neither a growing dim nor declared, a name used twice, tensors of two programs.
    """

    name: str
    dims: tuple[str, ...]
    fixed: dict[str, int] = field(default_factory=dict[str, int])
    held: dict[str, int] = field(default_factory=dict[str, int])
    multiples: dict[str, Fraction] = field(default_factory=dict[str, Fraction])
    loops: dict[int, Loop] = field(default_factory=dict[int, Loop])
    remarks: list[str] = field(default_factory=list[str])
    ops: list[Op] = field(default_factory=list[Op])
    weights: dict[str, Weight] = field(default_factory=dict[str, Weight])
    features: dict[str, int] = field(default_factory=dict[str, int])
    loss: int | None = None
    gradients: dict[int, int] = field(default_factory=dict[int, int])
    forward_length: int = 0
    recording_backward: bool = False
    section: str = ""

    def __post_init__(self) -> None:
        for label in _GROWN.get():
            if self.fixed.pop(label, None) is not None:
                self.dims = (*self.dims, label)

    def copy(self) -> Program:
        """A program of its own with the same operations."""
        return replace(
            self,
            fixed=self.fixed.copy(), held=self.held.copy(), multiples=self.multiples.copy(), loops=self.loops.copy(),
            remarks=self.remarks.copy(), ops=self.ops.copy(), weights=self.weights.copy(),
            features=self.features.copy(), gradients=self.gradients.copy(),
        )  # fmt: skip

    # ------------------------------------------------------------------ leaves

    def input(self, name: str, axes: str) -> Tensor:
        """Data: fixed over training, entries independent standard normal."""
        return self._leaf("input", name, axes)

    def index(self, name: str, axis: str, expression: Any, scale: Scale | None = None) -> Tensor:
        """An exact, untrained vector: a sympy expression in the symbol n = 0, 1, …, the index along the last axis.

        Without an axis (``""``) a constant.  It may have the axis' width N and the uniform random U and V of
        ``scalecalc.asymptotics`` in it, and be complex.  ``scale``: times so much, a product of powers of the widths.
        """
        more = {} if scale is None else {"scale": scale}
        return self._leaf("index", name, axis, expression=expression, **more)

    def table(self, name: str, axes: str, values: Any) -> Tensor:
        """Exact, untrained numbers along axes of fixed size, outermost first: nested sequences of them."""
        for label in self.growing(axes.split()):
            raise ProgramError(f"{name} of {self.name} is a table of numbers along {label}, which grows. Fix its size.")
        return self._leaf("index", name, axes, values=values)

    def weight(
        self, name: str, axes: str, role: str = "", init: Any = None, scale: Scale | None = None, orthogonal: bool = False,
        stacked: str = "", values: Any = None,
    ) -> Tensor:  # fmt: skip
        """A trainable tensor: independent centred entries scaled as the parameterization says, or exactly ``init``.

        ``init``: a sympy expression in n, the index along the last axis (1 for a gain or a skip); ``scale``: times so much.
        ``values``: exact numbers in its place along its last axes, of fixed size: nested sequences of them.
        ``orthogonal``: a matrix that is drawn with orthogonal rows or columns; its law is that of independent entries.
        ``stacked``: axes that count the copies of a repeated block's weight and belong to neither of its sides.
        """
        labels = tuple(axes.split())
        more: dict[str, Any] = {} if scale is None else {"scale": scale}
        more |= {"orthogonal": True} if orthogonal else {}
        more |= {"values": values} if values is not None else {}
        tensor = self._leaf("weight", name, axes, init=init, **more)
        self.weights[name] = self._weight(name, labels, role, tuple(stacked.split()))
        return tensor

    def _weight(self, name: str, labels: tuple[str, ...], role: str, stacked: tuple[str, ...]) -> Weight:
        own = tuple(label for label in labels if label not in stacked)
        out, inner = (own[:-1], own[-1:]) if len(own) > 1 else (own, ())
        fan_in, fan_out = self.count(inner), self.count(out)
        if not role or role in ROLES.values():
            grows = (bool(fan_in.dims), bool(fan_out.dims))
            found = ROLES.get(grows, "vector") if len(own) > 1 else "vector"
            role = found if not role or self.held else role
        return Weight(name, labels, fan_in, fan_out, role, stacked=stacked, copies=self.count(stacked))

    def hold(self, sizes: Mapping[str, int]) -> None:
        """Hold growing dims at one width each: they become fixed axes, and weights have the role that is left to them."""
        self.dims = tuple(dim for dim in self.dims if dim not in sizes)
        self.held.update(sizes)
        self.fixed.update(sizes)
        for name, weight in self.weights.items():
            self.weights[name] = self._weight(name, weight.axes, weight.role, weight.stacked)

    def _leaf(self, kind: str, name: str, axes: str, **params: Any) -> Tensor:
        labels = tuple(axes.split())
        if any(op.name == name for op in self.ops):
            raise ProgramError(f"the name {name!r} is used twice in {self.name}; every leaf needs a name of its own.")
        return self.record(kind, (), labels, name=name, complex=_is_complex(params.get("expression")), **params)

    # ------------------------------------------------------------------ operations

    def record(
        self,
        rule: str,
        inputs: Sequence[Tensor],
        axes: Sequence[str],
        *,
        name: str = "",
        complex: bool | None = None,
        **params: Any,
    ) -> Tensor:
        """Append one operation.  ``rule`` names the rule that every interpreter will ask; it need not be known yet.

        ``complex``: whether its result is, where that is not as its inputs are.
        """
        for label in axes:
            if not self.grows(label) and label not in self.fixed and dim_of(label) not in self.held:
                raise ProgramError(
                    f"axis {label!r} in {self.name} is neither a growing dim ({', '.join(self.dims)}) nor a fixed axis "
                    f"({', '.join(self.fixed) or 'none declared'})."
                )
        if len(set(axes)) < len(axes):
            raise ProgramError(
                f"two axes of one tensor share a label in {self.name}: {' '.join(axes)}; give one of them a prime."
            )
        if any(t.program is not self for t in inputs):
            raise ProgramError(f"a tensor of another program is used in {self.name}.")
        self.ops.append(
            Op(
                rule=rule,
                inputs=tuple(t.index for t in inputs),
                axes=tuple(axes),
                params=params,
                name=name or _name(rule, [t.name for t in inputs], len(self.ops)),
                where=_caller(),
                backward=self.recording_backward,
                complex=any(t.complex for t in inputs) if complex is None else complex,
                section=self.section,
            )
        )
        return Tensor(self, len(self.ops) - 1)

    @contextmanager
    def within(self, section: str) -> Generator[None]:
        """What is recorded in here belongs to one part of the layer (selection, recurrence), which a diagram marks."""
        before, self.section = self.section, section
        try:
            yield
        finally:
            self.section = before

    def feature(self, name: str, tensor: Tensor) -> Tensor:
        """Name a tensor: it gets rows of its own in every table."""
        if name in self.features or any(op.name == name for op in self.ops):
            raise ProgramError(f"the name {name!r} is used twice in {self.name}.")
        self.features[name] = tensor.index
        self.ops[tensor.index] = replace(self.ops[tensor.index], name=name)
        return tensor

    def end(self, output: Tensor) -> None:
        """Declare the network's output; the loss is recorded on it by the interpreter that needs one."""
        self.loss = output.index

    # ------------------------------------------------------------------ questions

    def grows(self, label: str) -> bool:
        return dim_of(label) in self.dims

    def size(self, label: str) -> int:
        """The size of an axis that does not grow.

        Raises:
            ProgramError: it grows.
        """
        if label in self.fixed:
            return self.fixed[label]
        if self.grows(label):
            raise ProgramError(
                f"{self.name} needs a size for the axis {label!r} ({_caller()}), which grows here; an architecture or a rule "
                "that is written for any size of it does not ask."
            )
        return int(self.multiples.get(label, 1) * self.held[dim_of(label)])

    def unrolled(self, label: str, why: str) -> int:
        """The number of steps over which a recurrence is written out.

        Raises:
            ProgramError: it grows; ``why`` there is no law for that, and what to do.
        """
        if self.grows(label):
            raise ProgramError(f"{self.name} is written out over a fixed number of steps, and {label} grows here: {why}.")
        return self.size(label)

    def width(self, label: str, widths: Mapping[str, int]) -> int:
        """The size of an axis where the growing dims have these widths.

        Raises:
            InputError: it would be no whole number.
        """
        if not self.grows(label):
            return self.size(label)
        size = self.multiples.get(label, 1) * widths[dim_of(label)]
        if size != int(size) or size < 1:
            raise InputError(
                f"{self.name} has an axis of size {self.multiples[label]} {dim_of(label)}; give {dim_of(label)} widths "
                f"(--dims) that are multiples of {Fraction(self.multiples[label]).denominator}, not {widths[dim_of(label)]}."
            )
        return int(size)

    def growing(self, axes: Sequence[str]) -> tuple[str, ...]:
        """The labels among these axes that grow."""
        return tuple(label for label in axes if self.grows(label))

    def union(self, *tensors: Tensor) -> tuple[str, ...]:
        """All labels of the tensors, in order of first appearance (broadcasting by label)."""
        return tuple(dict.fromkeys(label for t in tensors for label in t.axes))

    def leaves(self, kind: str) -> dict[str, int]:
        """Name → position of every leaf of one kind: ``input``, ``weight`` or ``index``."""
        return {op.name: i for i, op in enumerate(self.ops) if op.rule == kind}

    def tensor(self, index: int) -> Tensor:
        return Tensor(self, index)

    def count(self, labels: Sequence[str]) -> Scale:
        """The number of entries along those of some axes that grow."""
        return count(self.growing(labels))

    def live(self, wanted: Iterable[int], given: Container[int] = ()) -> list[bool]:
        """Per operation: is it needed for any of the wanted ones, where the given ones need nothing?"""
        out = [False] * len(self.ops)
        stack = list(wanted)
        while stack:
            i = stack.pop()
            if not out[i]:
                out[i] = True
                stack += () if i in given else self.needs(i)
        return out

    def needs(self, position: int) -> tuple[int, ...]:
        """What an operation is made of: its inputs; of what enters repeated blocks also what each of them adds."""
        loop = self.loops.get(position)
        return self.ops[position].inputs + ((loop.increment,) if loop is not None else ())

    def after(self, position: int) -> set[int]:
        """Positions of the operations that depend on this one, itself included."""
        return self._followed({position})

    def _followed(self, out: set[int]) -> set[int]:
        """All that depends on some operations, these included; what a repeated block makes enters it again."""
        for _ in range(2 if self.loops else 1):
            for i in range(len(self.ops)):
                if any(j in out for j in self.needs(i)):
                    out.add(i)
        return out

    def before(self, position: int) -> set[int]:
        """Positions of the operations that this one is made of, itself included."""
        return {i for i, needed in enumerate(self.live([position])) if needed}

    def reaches(self, name: str) -> set[int]:
        """Positions of the operations that depend on the leaf of this name."""
        return self._followed({i for i, op in enumerate(self.ops) if op.name == name and not op.inputs})

    def trainable(self) -> list[bool]:
        """Per operation: does it depend on a weight?"""
        out = self._followed({i for i, op in enumerate(self.ops) if op.rule == "weight"})
        return [i in out for i in range(len(self.ops))]


def _is_complex(expression: Any) -> bool:
    """Does a sympy expression have the imaginary unit in it?"""
    if not hasattr(expression, "has"):
        return False
    import sympy

    return bool(expression.has(sympy.I))


def _name(rule: str, inputs: Sequence[str], position: int) -> str:
    """A readable name for an unnamed operation, while it stays short."""
    if rule in ("contraction", "matmul"):
        name = "·".join(inputs)
    elif rule in (*SAME, "add") and inputs:
        name = "+".join(inputs[: 2 if rule == "add" else 1])
    else:
        name = f"{rule}({', '.join(inputs)})"
    return name if len(name) <= 24 else f"t{position}"


def _caller() -> str:
    """File and line of the architecture that records, past this file and the rules' recorders: for messages."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        file = Path(frame.f_code.co_filename)
        if frame.f_code.co_filename != __file__ and file.parent.name != "rules":
            break
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
