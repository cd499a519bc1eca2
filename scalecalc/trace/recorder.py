"""From positions to labels: torch's tensors have axes in order, a program's have labels.

A traced tensor (:class:`Traced`) knows its axes by position and size at every setting, and holds one program tensor, or
several:

- *labels*: an axis of size c · N gets a label of the dim N, an axis of fixed size a label named after the size; an axis of
  size one, or one along which the tensor is merely repeated, has none.  Labels of one size are interchangeable, so operands
  are renamed until axes that meet share a label.
- *products*: an axis whose size is a product of two growing dims (heads × size of a head) is two axes of the program, the
  outer one first, under one label here.  Which factor is the outer one is said where the axis is split or merged
  (:meth:`Recorder.refactor`); until then it is guessed.
- *blocks*: where a tensor is sliced along a growing axis, the pieces have nothing to do with each other (the two halves of
  mamba's in_proj are two independent matrices).  The cut is carried back to where the axis comes from, a parameter or an
  input (``Origin`` in :mod:`~scalecalc.trace.traced`), which is then recorded as several; recording starts again with the
  new cuts (``Restart``) until there are none.  Everything between works block by block.  The halves that a rotary
  embedding makes of every head are pieces of the matrix as well, each a part of all heads.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import sympy as sp

from scalecalc.program import Program, Tensor
from scalecalc.trace.sizes import Settings, Sizes, minus, plus, times
from scalecalc.trace.traced import MOST_PIECES, Axis, Block, Cut, Labels, Placed, Refusal, Restart, Traced


@dataclass
class Recorder:
    """Records a program; the operations of torch (``operations.py``, ``axes.py``) are written in its methods."""

    settings: Settings
    program: Program
    cuts: dict[tuple[str, int], set[Cut]] = field(default_factory=dict[tuple[str, int], set[Cut]])
    whole: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])  # axes of leaves that are not to be cut
    lengths: dict[str, tuple[Sizes, ...]] = field(default_factory=dict[str, tuple[Sizes, ...]])
    parameters: set[str] = field(default_factory=set[str])
    factors: dict[Sizes, tuple[Sizes, ...]] = field(default_factory=dict[Sizes, tuple[Sizes, ...]])
    sizes: dict[str, Sizes] = field(default_factory=dict[str, Sizes])
    products: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    kinds: dict[Any, list[str]] = field(default_factory=dict[Any, list[str]])
    unfit: dict[str, Sizes] = field(default_factory=dict[str, Sizes])
    placed: list[Placed] = field(default_factory=list[Placed])
    constants: dict[Any, Tensor] = field(default_factory=dict[Any, Tensor])
    kept: dict[Any, Any] = field(default_factory=dict[Any, Any])
    single: bool = False  # is anything a function of an index in single precision, and so known to no more?

    # ------------------------------------------------------------------ labels

    def label(self, size: Sizes, used: Sequence[str | None] = ()) -> str | None:
        """A label for an axis of this size that is not in use; None for an axis of size one."""
        if all(s == 1 for s in size):
            return None
        used = self.flat(used)
        factors = self.factored(size)
        if len(factors) > 1:
            labels = list[str]()
            for factor in factors:
                label = self.label(factor, [*used, *labels])
                assert label is not None
                labels.append(label)
            return self.composed(labels)
        form = self.settings.form(size)
        fits = form is not None and (not form.powers or form.dim is not None)
        key = (form.dim, form.coefficient) if fits and form is not None else size
        known = self.kinds.setdefault(key, [])
        free = next((name for name in known if name not in used), None)
        return free or self._new(key, size, fits)

    def factored(self, size: Sizes) -> tuple[Sizes, ...]:
        """The sizes, each of one growing dim, that an axis' size is the product of: itself alone, if it is of one."""
        return self.factors[size] if size in self.factors else self.settings.factors(size)

    def refactor(self, size: Sizes, factors: Sequence[Sizes]) -> None:
        """Have an axis of this size be the product of these, outermost first, and begin anew.

        Raises:
            Refusal: it is another product elsewhere.
        """
        if size in self.factors or any(len(self.factored(f)) > 1 for f in factors):
            raise Refusal(
                f"an axis of size {self.settings.words(size)}, a product of growing dims, is split in two different ways "
                "(heads × size here, and otherwise elsewhere); hold one of the dims with --fix"
            )
        self.factors[size] = tuple(factors)
        raise Restart

    def composed(self, labels: Sequence[str]) -> str:
        """One label for an axis that is several of the program's, outermost first."""
        if len(labels) == 1:
            return labels[0]
        name = "*".join(labels)
        self.products[name] = tuple(labels)
        self.sizes[name] = times(*(self.sizes[label] for label in labels))
        return name

    def flat(self, labels: Iterable[str | None]) -> list[str]:
        """The program's labels of some axes, in order."""
        return [own for label in labels if label is not None for own in self.products.get(label, (label,))]

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

    def leafs(self, axis: Axis) -> bool:
        """Is it the axis of a parameter, which is recorded in pieces if it is used in pieces?"""
        own = [o for o in axis.origins if (o.leaf, o.axis) not in self.whole]
        return any(o.leaf in self.parameters for o in own)

    def keep_whole(self, axis: Axis) -> None:
        """Have a fixed axis in one piece, if it is in several only because parameters along it were cut: begin anew."""
        own = {(o.leaf, o.axis) for o in axis.origins if self.cuts.get((o.leaf, o.axis))}
        if own and not self.grows(axis.size):
            for key in own:
                del self.cuts[key]
            self.whole |= own
            raise Restart

    def renamed(self, block: Block, labels: Labels) -> Block:
        """The same block under other labels; None stays None."""
        if block.tensor is None or block.labels == labels:
            return replace(block, labels=tuple(w if own else None for own, w in zip(block.labels, labels, strict=True)))
        pairs = [(o, w) for o, w in zip(block.labels, labels, strict=True) if o is not None and w is not None and o != w]
        kept = tuple(w if o is not None and w is not None else o for o, w in zip(block.labels, labels, strict=True))
        own, wanted = self.flat(o for o, _ in pairs), self.flat(w for _, w in pairs)
        names = {o: w for o, w in zip(own, wanted, strict=True) if o != w}
        if not names:
            return replace(block, labels=kept)
        axes = tuple(names.get(label, label) for label in block.tensor.axes)
        return Block(self.program.record("rename", (block.tensor,), axes, names=names), kept)

    # ------------------------------------------------------------------ pieces

    def common(self, axes: Sequence[Axis]) -> list[Cut]:
        """The cuts that any of some axes has."""
        return sorted({c for a in axes for c in a.cuts})

    def refined(self, x: Traced, axis: int, cuts: Sequence[Cut]) -> Traced:
        """The tensor cut at (at least) these positions of an axis.

        Raises:
            Restart: the axis grows, or is a parameter's: where it comes from has to be cut.
            Refusal: it comes from nowhere that could be, or the cuts do not fit into those that there are.
        """
        own, known = x.axes[axis], set(x.axes[axis].cuts)
        new = {c for c in cuts if c not in known and any(c.at) and (any(c.length) or c.at != own.size)}
        if not new:
            return x
        made = Axis.cut(own.size, known | new, own.origins)
        if len(made.pieces) > MOST_PIECES:
            raise Refusal(f"an axis in more than {MOST_PIECES} pieces")
        plain = all(b.tensor is None or b.labels[axis] is None for b in x.blocks.values())
        if not plain and (self.grows(own.size) or self.leafs(own) or made.runs):
            self._request(own, sorted(new))
        blocks: dict[tuple[int, ...], Block] = {}
        before = own.places
        for index, block in x.blocks.items():
            old = before[index[axis]]
            for k, part in enumerate(made.places):
                if part.within(old):
                    place = (*index[:axis], k, *index[axis + 1 :])
                    blocks[place] = (
                        block if plain else self.part(block, axis, minus(part.first, old.first), minus(part.last, old.first))
                    )
        return Traced((*x.axes[:axis], made, *x.axes[axis + 1 :]), blocks)

    def _request(self, axis: Axis, cuts: Sequence[Cut]) -> None:
        """Have the leaves cut that an axis comes from, and begin anew."""
        asked = False
        for o in axis.origins:
            known = self.cuts.setdefault((o.leaf, o.axis), set())
            for cut in cuts:
                place = tuple(s * c + f for s, c, f in zip(o.stride, cut.at, o.offset, strict=True))
                if any(cut.length):
                    if o.nested or any(s != 1 for s in o.stride):
                        raise Refusal("a slice across an axis that was reshaped")
                    found = cut._replace(start=plus(o.offset, cut.start))
                elif any(p.denominator != 1 for p in map(Fraction, place)):
                    raise Refusal("a slice across an axis that was reshaped")
                elif o.nested:
                    found = Cut(o.outer, tuple(map(int, place)), o.start, o.length)
                else:
                    found = Cut.plain(tuple(map(int, place)))
                asked |= found not in known
                known.add(found)
            Axis.cut(self.lengths[o.leaf][o.axis], known, frozenset())
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
        if label in self.products:
            first, *rest = (self.ones(own) for own in self.products[label])
            return functools.reduce(lambda a, b: a * b, rest, first)
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
            cuts = self.common(here)
            if cuts:
                wide = [x if x.axes[k].one else self.refined(x, k, cuts) for x in wide]
            here = [x.axes[k] for x in wide if not x.axes[k].one] or [wide[0].axes[k]]
            labelled = [
                x.axes[k] for x in wide
                if not x.axes[k].one and any(b.tensor is not None and b.labels[k] for b in x.blocks.values())
            ]  # fmt: skip
            out.append(replace(here[0], origins=frozenset(o for a in labelled for o in a.origins)))
        return wide, tuple(out)

    def join(self, blocks: Sequence[Block], sizes: Sequence[Sizes]) -> tuple[list[Block], Labels]:
        """Blocks with as many axes each under common labels, and those of what they make together."""
        labels: list[str | None] = []
        for k, size in enumerate(sizes):
            own = next((b.labels[k] for b in blocks if b.tensor is not None and b.labels[k] is not None), None)
            taken = own is not None and set(self.flat([own])) & set(self.flat(labels))
            labels.append(self.label(size, labels) if taken else own)
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
            cuts = self.common([x.axes[k] for x, k in both if not x.axes[k].one])
            if cuts and letter in letters[0]:
                a = self.refined(a, letters[0].index(letter), cuts)
            if cuts and letter in letters[1]:
                b = self.refined(b, letters[1].index(letter), cuts)
            axes = [x.axes[own.index(letter)] for x, own in ((a, letters[0]), (b, letters[1])) if letter in own]
            wide = [x for x in axes if not x.one] or axes[:1]
            pieces[letter] = replace(wide[0], origins=frozenset(o for x in wide for o in x.origins))
        summed = [letter for letter in pieces if letter not in out]
        blocks: dict[tuple[int, ...], Block] = {}
        for index in itertools.product(*(range(len(pieces[letter].pieces)) for letter in out)):
            at = dict(zip(out, index, strict=True))
            parts = [
                self._product(a, b, letters, out, {**at, **dict(zip(summed, inner, strict=True))}, pieces)
                for inner in itertools.product(*(range(len(pieces[letter].pieces)) for letter in summed))
            ]
            blocks[index] = self.added(parts, [pieces[c].parts[at[c]] for c in out])
        return Traced(tuple(pieces[letter] for letter in out), blocks)

    def _product(
        self, a: Traced, b: Traced, letters: tuple[str, str], out: str, at: Mapping[str, int], pieces: Mapping[str, Axis]
    ) -> Block:
        every = out + "".join(c for c in at if c not in out)
        sizes = [pieces[c].parts[at[c]] for c in every]
        laid: list[Block] = []
        for x, own in ((a, letters[0]), (b, letters[1])):
            block = x.blocks[tuple(at[c] if len(x.axes[k].pieces) > 1 else 0 for k, c in enumerate(own))]
            laid.append(Block(block.tensor, tuple(block.labels[own.index(c)] if c in own else None for c in every)))
        (left, right), labels = self.join(laid, sizes)
        if left.tensor is None or right.tensor is None:
            return Block(None, (None,) * len(out))
        over = tuple(self.flat(labels[len(out) :]))
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
            gone = tuple(self.flat(block.labels[k] for k in over))
            tensor = block.tensor
            if tensor is not None and gone:
                tensor = self.program.record("sum", (tensor,), tuple(a for a in tensor.axes if a not in gone), over=gone)
            found = Block(tensor, labels)
            for k in over:
                size = x.axes[k].parts[index[k]]
                if block.labels[k] is None and any(s != 1 for s in size):
                    found = self.scaled(found, size)
            parts.setdefault(tuple(index[k] for k in kept), []).append(found)
        return Traced(
            axes, {i: self.added(own, [a.parts[j] for a, j in zip(axes, i, strict=True)]) for i, own in parts.items()}
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
            yield index, block, [a.parts[i] for a, i in zip(x.axes, index, strict=True)]


def _renamed_weight(program: Program, tensor: Tensor) -> bool:
    op = tensor.op
    return op.rule == "rename" and program.ops[op.inputs[0]].rule == "weight"
