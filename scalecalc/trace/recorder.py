"""From positions to labels: torch's tensors have axes in order, a program's have labels.

A traced tensor (:class:`Traced`) knows its axes by position and size at every setting, and holds one program tensor, or
several:

- *labels*: an axis of size c · N gets a label of the dim N, an axis of fixed size a label named after the size; an axis of
  size one, or one along which the tensor is merely repeated, has none.  Labels of one size are interchangeable, so operands
  are renamed until axes that meet share a label.
- *blocks*: where a tensor is sliced along a growing axis, the pieces have nothing to do with each other (the two halves of
  mamba's in_proj are two independent matrices).  The cut is carried back to where the axis comes from, a parameter or an
  input (:class:`Origin`), which is then recorded as several; recording starts again with the new cuts (:class:`Restart`)
  until there are none.  Everything between works block by block.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import sympy as sp

from scalecalc.program import Program, Tensor
from scalecalc.scale import Scale
from scalecalc.trace.sizes import Settings, Sizes, minus, plus, times

Labels = tuple[str | None, ...]
MOST_PIECES = 64


class Refusal(Exception):
    """One operation cannot be traced; collected, and told with all the others."""


class Restart(Exception):
    """A leaf is to be recorded in more pieces than before."""


@dataclass(frozen=True)
class Origin:
    """Position p on an axis is position p · stride + offset on an axis of a leaf."""

    leaf: str
    axis: int
    stride: tuple[Fraction, ...]
    offset: Sizes


@dataclass(frozen=True)
class Axis:
    """One axis: the sizes of its pieces in order, and the leaves' axes that it comes from."""

    pieces: tuple[Sizes, ...]
    origins: frozenset[Origin] = frozenset()

    @property
    def size(self) -> Sizes:
        total = self.pieces[0]
        for piece in self.pieces[1:]:
            total = plus(total, piece)
        return total

    @property
    def one(self) -> bool:
        return all(s == 1 for s in self.size)

    @property
    def cuts(self) -> tuple[Sizes, ...]:
        """Where its pieces begin, but for the first."""
        return tuple(itertools.accumulate(self.pieces[:-1], plus))

    def moved(self, by: Sizes, pieces: tuple[Sizes, ...]) -> Axis:
        """The axis of a slice that begins at a position."""
        shift = [
            Origin(o.leaf, o.axis, o.stride, tuple(int(f + s * b) for f, s, b in zip(o.offset, o.stride, by, strict=True)))
            for o in self.origins
        ]
        return Axis(pieces, frozenset(shift))

    def scaled(self, by: Sizes, pieces: tuple[Sizes, ...], up: bool) -> Axis:
        """The outer axis of a view (one step is ``by`` here); with ``up`` False the axis that it is the outer one of."""
        shift = [
            replace(o, stride=tuple(s * b if up else s / b for s, b in zip(o.stride, by, strict=True))) for o in self.origins
        ]
        return Axis(pieces, frozenset(shift))


@dataclass(frozen=True)
class Block:
    """One piece of a tensor: a program tensor (None: zero) and, per axis, its label there."""

    tensor: Tensor | None
    labels: Labels


@dataclass(frozen=True)
class Traced:
    """A tensor of the module: axes by position, and its blocks by the numbers of their pieces.

    ``norm``: it is 1/(mean of y² over an axis + ε)^(1/2), which has a law only as a factor of y: (y, axis, ε).
    """

    axes: tuple[Axis, ...]
    blocks: Mapping[tuple[int, ...], Block]
    norm: tuple[Tensor, str, float] | None = None

    @property
    def sizes(self) -> tuple[Sizes, ...]:
        return tuple(a.size for a in self.axes)

    @property
    def only(self) -> Block:
        """The single block."""
        (block,) = self.blocks.values()
        return block


@dataclass
class Placed:
    """A leaf of the program, and which part of which of the module's leaves it stands for, per axis (start, stop)."""

    index: int
    leaf: str
    parts: tuple[tuple[Sizes, Sizes], ...]
    order: tuple[int, ...]  # of the leaf's axes that have labels, in the program's order


@dataclass
class Recorder:
    """Records a program; the operations of torch (``operations.py``, ``axes.py``) are written in its methods."""

    settings: Settings
    program: Program
    cuts: dict[tuple[str, int], set[Sizes]] = field(default_factory=dict[tuple[str, int], set[Sizes]])
    sizes: dict[str, Sizes] = field(default_factory=dict[str, Sizes])
    kinds: dict[Any, list[str]] = field(default_factory=dict[Any, list[str]])
    unfit: dict[str, Sizes] = field(default_factory=dict[str, Sizes])
    placed: list[Placed] = field(default_factory=list[Placed])
    constants: dict[Any, Tensor] = field(default_factory=dict[Any, Tensor])
    remarks: list[str] = field(default_factory=list[str])

    # ------------------------------------------------------------------ labels

    def label(self, size: Sizes, used: Sequence[str | None] = ()) -> str | None:
        """A label for an axis of this size that is not in use; None for an axis of size one."""
        if all(s == 1 for s in size):
            return None
        form = self.settings.form(size)
        fits = form is not None and (not form.powers or form.dim is not None)
        key = (form.dim, form.coefficient) if fits and form is not None else size
        known = self.kinds.setdefault(key, [])
        free = next((name for name in known if name not in used), None)
        return free or self._new(key, size, fits)

    def _new(self, key: Any, size: Sizes, fits: bool) -> str:
        if not fits or key[0] is None:
            stem = f"{size[0]}" if fits else f"?{len(self.unfit)}"
            label = stem if stem not in self.sizes else f"{stem}.{len(self.kinds[key]) + 1}"
            self.program.fixed[label] = size[0]
            if not fits:
                self.unfit[label] = size
        else:
            dim, coefficient = key
            label = dim + "'" * sum(k[0] == dim for k, names in self.kinds.items() if isinstance(k[0], str) for _ in names)
            if coefficient != 1:
                self.program.multiples[label] = coefficient
        self.kinds[key].append(label)
        self.sizes[label] = size
        return label

    def grows(self, size: Sizes) -> bool:
        return any(s != size[0] for s in size)

    def renamed(self, block: Block, labels: Labels) -> Block:
        """The same block under other labels; None stays None."""
        if block.tensor is None or block.labels == labels:
            return replace(block, labels=tuple(w if own else None for own, w in zip(block.labels, labels, strict=True)))
        names = {o: w for o, w in zip(block.labels, labels, strict=True) if o is not None and w is not None and o != w}
        kept = tuple(names.get(o, o) if o is not None else None for o in block.labels)
        if not names:
            return replace(block, labels=kept)
        axes = tuple(names.get(label, label) for label in block.tensor.axes)
        return Block(self.program.record("rename", (block.tensor,), axes, names=names), kept)

    # ------------------------------------------------------------------ pieces

    def refined(self, x: Traced, axis: int, cuts: Sequence[Sizes]) -> Traced:
        """The tensor cut at (at least) these positions of an axis.

        Raises:
            Restart: the axis grows, or is a parameter's: where it comes from has to be cut.
            Refusal: it comes from nowhere that could be.
        """
        own = x.axes[axis]
        new = sorted({c for c in cuts if c not in own.cuts and any(c) and c != own.size})
        if not new:
            return x
        ends = sorted({*own.cuts, *new})
        for a, b in itertools.pairwise(ends):
            if any(x >= y for x, y in zip(a, b, strict=True)):
                raise Refusal("pieces that overlap in one order at some widths and in another at others")
        if len(ends) > MOST_PIECES:
            raise Refusal(f"an axis in more than {MOST_PIECES} pieces")
        plain = all(b.tensor is None or b.labels[axis] is None for b in x.blocks.values())
        if not plain and (self.grows(own.size) or any(o.leaf in self._parameters for o in own.origins)):
            self._request(own, new)
        bounds = [tuple(0 for _ in own.size), *ends, own.size]
        pieces = tuple(minus(b, a) for a, b in itertools.pairwise(bounds))
        blocks: dict[tuple[int, ...], Block] = {}
        starts = [bounds[0], *own.cuts]
        for index, block in x.blocks.items():
            for k, (start, stop) in enumerate(itertools.pairwise(bounds)):
                first, piece = starts[index[axis]], own.pieces[index[axis]]
                if all(f <= s and e <= f + p for f, s, e, p in zip(first, start, stop, piece, strict=True)):
                    place = (*index[:axis], k, *index[axis + 1 :])
                    blocks[place] = self.part(block, axis, minus(start, first), minus(stop, first))
        axes = (*x.axes[:axis], Axis(pieces, own.origins), *x.axes[axis + 1 :])
        return Traced(axes, blocks)

    @property
    def _parameters(self) -> set[str]:
        return self.parameters

    parameters: set[str] = field(default_factory=set[str])

    def _request(self, axis: Axis, cuts: Sequence[Sizes]) -> None:
        asked = False
        for o in axis.origins:
            for cut in cuts:
                place = tuple(s * c + f for s, c, f in zip(o.stride, cut, o.offset, strict=True))
                if any(p.denominator != 1 for p in map(Fraction, place)):
                    raise Refusal("a slice across an axis that was reshaped")
                position = tuple(map(int, place))
                known = self.cuts.setdefault((o.leaf, o.axis), set())
                asked |= position not in known
                known.add(position)
        if asked:
            raise Restart
        raise Refusal("a slice along a growing axis that comes from no parameter or input, so that its pieces cannot be told")

    def part(self, block: Block, axis: int, start: Sizes, stop: Sizes) -> Block:
        """A piece along one axis of fixed size, or along which the block is the same everywhere."""
        label = block.labels[axis]
        if block.tensor is None or label is None or (not any(start) and stop == self.sizes[label]):
            return block
        used = [name for name in block.labels if name is not None]
        new = self.label(minus(stop, start), used)
        axes = tuple(name for own in block.tensor.axes if (name := new if own == label else own) is not None)
        tensor = self.program.record(
            "part", (block.tensor,), axes, axis=label, to=new or "", start=start[0], stop=stop[0], of=self.sizes[label][0]
        )
        return Block(tensor, (*block.labels[:axis], new, *block.labels[axis + 1 :]))

    # ------------------------------------------------------------------ constants

    def constant(self, values: Sequence[float] | float) -> Block:
        """A number: the same at all settings, or a product of powers of the dims.

        Raises:
            Refusal: it is neither.
        """
        values = tuple(values) if isinstance(values, tuple) else (float(values),) * len(self.settings.all)
        form = self.settings.form(values)
        if form is None:
            raise Refusal(
                f"a number that is no product of powers of the growing dims ({self.settings.words(values)})"
            )
        if form.coefficient == 0:
            return Block(None, ())
        key = (form.coefficient, form.powers)
        if key not in self.constants:
            c = sp.Rational(form.coefficient.numerator, form.coefficient.denominator)
            scale = form.scale
            name = f"{float(form.coefficient):.6g}" + (f" {scale}" if form.powers else "")
            name = name if not any(op.name == name for op in self.program.ops) else f"constant {len(self.program.ops)}"
            self.constants[key] = self.program.index(name, "", c, scale if form.powers else None)
        return Block(self.constants[key], ())

    def ones(self, label: str) -> Tensor:
        """1 along an axis, to make a repeated axis one of the tensor's own."""
        if ("ones", label) not in self.constants:
            self.constants["ones", label] = self.program.index(f"1 along {label}", label, sp.Integer(1))
        return self.constants["ones", label]

    # ------------------------------------------------------------------ operations block by block

    def broadcast(self, *xs: Traced) -> tuple[list[Traced], tuple[Axis, ...]]:
        """Operands with as many axes each and the same pieces, and the axes of what they make together."""
        most = max(len(x.axes) for x in xs)
        one = Axis((tuple(1 for _ in self.settings.all),))
        out: list[Axis] = []
        wide = [
            Traced(
                (one,) * (most - len(x.axes)) + x.axes,
                {(0,) * (most - len(x.axes)) + i: Block(b.tensor, (None,) * (most - len(x.axes)) + b.labels)
                 for i, b in x.blocks.items()},
            )
            for x in xs
        ]  # fmt: skip
        for k in range(most):
            here = [x.axes[k] for x in wide if not x.axes[k].one]
            cuts = sorted({c for a in here for c in a.cuts})
            if cuts:
                wide = [x if x.axes[k].one else self.refined(x, k, cuts) for x in wide]
            here = [x.axes[k] for x in wide if not x.axes[k].one] or [wide[0].axes[k]]
            labelled = [
                x.axes[k] for x in wide
                if not x.axes[k].one and any(b.tensor is not None and b.labels[k] for b in x.blocks.values())
            ]  # fmt: skip
            out.append(Axis(here[0].pieces, frozenset(o for a in labelled for o in a.origins)))
        return wide, tuple(out)

    def join(self, blocks: Sequence[Block], sizes: Sequence[Sizes]) -> tuple[list[Block], Labels]:
        """Blocks with as many axes each under common labels, and those of what they make together."""
        labels: list[str | None] = []
        for k, size in enumerate(sizes):
            own = next((b.labels[k] for b in blocks if b.tensor is not None and b.labels[k] is not None), None)
            labels.append(own if own is None or own not in labels else self.label(size, labels))
        return [self.renamed(b, tuple(labels)) for b in blocks], tuple(labels)

    def each(self, xs: Sequence[Traced], make: Callable[[Sequence[Block], Labels], Block]) -> Traced:
        """A function of aligned blocks, for each set of blocks that meet."""
        xs, axes = self.broadcast(*xs)
        out: dict[tuple[int, ...], Block] = {}
        for index in itertools.product(*(range(len(a.pieces)) for a in axes)):
            blocks = [x.blocks[tuple(i if len(a.pieces) > 1 else 0 for i, a in zip(index, x.axes, strict=True))] for x in xs]
            sizes = [a.pieces[i] for i, a in zip(index, axes, strict=True)]
            aligned, labels = self.join(blocks, sizes)
            out[index] = make(aligned, labels)
        return Traced(axes, out)

    def contract(self, xs: tuple[Traced, Traced], letters: tuple[str, str], out: str) -> Traced:
        """Σ over the letters that are not in ``out`` of the product, as einsum writes it."""
        a, b = xs
        pieces: dict[str, Axis] = {}
        for letter in dict.fromkeys(letters[0] + letters[1]):
            both = [(x, own.index(letter)) for x, own in ((a, letters[0]), (b, letters[1])) if letter in own]
            cuts = sorted({c for x, k in both for c in x.axes[k].cuts if not x.axes[k].one})
            if cuts and letter in letters[0]:
                a = self.refined(a, letters[0].index(letter), cuts)
            if cuts and letter in letters[1]:
                b = self.refined(b, letters[1].index(letter), cuts)
            axes = [x.axes[own.index(letter)] for x, own in ((a, letters[0]), (b, letters[1])) if letter in own]
            wide = [x for x in axes if not x.one] or axes[:1]
            pieces[letter] = Axis(wide[0].pieces, frozenset(o for x in wide for o in x.origins))
        summed = [letter for letter in pieces if letter not in out]
        blocks: dict[tuple[int, ...], Block] = {}
        for index in itertools.product(*(range(len(pieces[letter].pieces)) for letter in out)):
            at = dict(zip(out, index, strict=True))
            parts = [
                self._product(a, b, letters, out, {**at, **dict(zip(summed, inner, strict=True))}, pieces)
                for inner in itertools.product(*(range(len(pieces[letter].pieces)) for letter in summed))
            ]
            blocks[index] = self.added(parts, [pieces[c].pieces[at[c]] for c in out])
        return Traced(tuple(pieces[letter] for letter in out), blocks)

    def _product(
        self, a: Traced, b: Traced, letters: tuple[str, str], out: str, at: Mapping[str, int], pieces: Mapping[str, Axis]
    ) -> Block:
        every = out + "".join(c for c in at if c not in out)
        sizes = [pieces[c].pieces[at[c]] for c in every]
        laid: list[Block] = []
        for x, own in ((a, letters[0]), (b, letters[1])):
            block = x.blocks[tuple(at[c] if len(x.axes[k].pieces) > 1 else 0 for k, c in enumerate(own))]
            laid.append(Block(block.tensor, tuple(block.labels[own.index(c)] if c in own else None for c in every)))
        (left, right), labels = self.join(laid, sizes)
        if left.tensor is None or right.tensor is None:
            return Block(None, (None,) * len(out))
        over = tuple(label for label in labels[len(out) :] if label is not None)
        union = self.program.union(left.tensor, right.tensor)
        axes = tuple(label for label in union if label not in over)
        matrix = any(t.op.rule == "weight" or _renamed_weight(self.program, t) for t in (left.tensor, right.tensor))
        rule = "matmul" if matrix and over else "contraction"
        pair = (left.tensor, right.tensor)
        if matrix and not (left.tensor.op.rule == "weight" or _renamed_weight(self.program, left.tensor)):
            pair = (right.tensor, left.tensor)
        found = Block(self.program.record(rule, pair, axes, over=over), labels[: len(out)])
        alike = [s for s, label in zip(sizes[len(out) :], labels[len(out) :], strict=True) if label is None]
        for size in alike:  # summed over what both are the same along
            if any(s != 1 for s in size):
                found = self.scaled(found, size)
        return found

    def scaled(self, block: Block, by: Sequence[float] | float) -> Block:
        factor = self.constant(by)
        if block.tensor is None or factor.tensor is None:
            return Block(None, block.labels)
        if all(v == 1 for v in (by if isinstance(by, tuple) else (by,))):
            return block
        return Block(block.tensor * factor.tensor, block.labels)

    def added(self, blocks: Sequence[Block], sizes: Sequence[Sizes]) -> Block:
        """The sum of blocks with as many axes each."""
        blocks = [b for b in blocks if b.tensor is not None] or [blocks[0]]
        aligned, labels = self.join(blocks, sizes)
        total = aligned[0].tensor
        for other in aligned[1:]:
            assert total is not None and other.tensor is not None
            total = total + other.tensor
        return Block(total, labels)

    def summed(self, x: Traced, over: Sequence[int]) -> Traced:
        """The sum over some axes, which are gone."""
        kept = [k for k in range(len(x.axes)) if k not in over]
        axes = tuple(x.axes[k] for k in kept)
        parts: dict[tuple[int, ...], list[Block]] = {}
        for index, block in x.blocks.items():
            labels = tuple(block.labels[k] for k in kept)
            gone = tuple(label for k in over if (label := block.labels[k]) is not None)
            tensor = block.tensor
            if tensor is not None and gone:
                tensor = self.program.record("sum", (tensor,), tuple(a for a in tensor.axes if a not in gone), over=gone)
            found = Block(tensor, labels)
            for k in over:
                size = x.axes[k].pieces[index[k]]
                if block.labels[k] is None and any(s != 1 for s in size):
                    found = self.scaled(found, size)
            parts.setdefault(tuple(index[k] for k in kept), []).append(found)
        return Traced(
            axes, {i: self.added(own, [a.pieces[j] for a, j in zip(axes, i, strict=True)]) for i, own in parts.items()}
        )

    def own(self, block: Block, axis: int, size: Sizes) -> Block:
        """The block with a label on an axis along which it was the same everywhere."""
        if block.labels[axis] is not None or all(s == 1 for s in size):
            return block
        label = self.label(size, block.labels)
        labels = (*block.labels[:axis], label, *block.labels[axis + 1 :])
        if block.tensor is None or label is None:
            return Block(None, labels)
        ones = self.ones(label)
        return Block(block.tensor * ones, labels)

    def walk(self, x: Traced) -> Iterator[tuple[tuple[int, ...], Block, list[Sizes]]]:
        """Every block with its place and the sizes of its axes."""
        for index, block in x.blocks.items():
            yield index, block, [a.pieces[i] for a, i in zip(x.axes, index, strict=True)]


def _renamed_weight(program: Program, tensor: Tensor) -> bool:
    op = tensor.op
    return op.rule == "rename" and program.ops[op.inputs[0]].rule == "weight"


def shape_of(axes: Sequence[Axis]) -> tuple[Sizes, ...]:
    return tuple(a.size for a in axes)


def number(sizes: Sequence[Sizes], settings: Settings) -> Sizes:
    """How many entries there are."""
    return times(tuple(1 for _ in settings.all), *sizes)


__all__ = [
    "Axis", "Block", "Labels", "Origin", "Placed", "Recorder", "Refusal", "Restart", "Scale", "Traced", "number", "shape_of",
]  # fmt: skip
