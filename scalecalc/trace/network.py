"""A graph recorded as a program: leaves, operations one by one, features, and what each weight is."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch

from scalecalc import globs
from scalecalc.errors import InputError
from scalecalc.program import Program
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling
from scalecalc.trace import along, choices, convolution, functions, pooling, scan  # noqa: F401  register their operations, as the others do
from scalecalc.trace.attention import masked_fill, softmax, where
from scalecalc.trace.constants import Constant, anywhere, foldable, folded, traced
from scalecalc.trace.graph import MARK, Graph, Leaf, Node, Problems, Ref, refs
from scalecalc.trace.handlers import RAW, TABLE
from scalecalc.trace.initial import Initial, Initials, PartForm
from scalecalc.trace.operations import add, exp, same
from scalecalc.trace.recorder import Recorder
from scalecalc.trace.roles import describe
from scalecalc.trace.sizes import Sizes, minus
from scalecalc.trace.traced import ONES, Axis, Block, Cut, Origin, Part, Placed, Refusal, Restart, Traced

MOST_STARTS = 100
EMBEDDING = "aten.embedding.default"
PASSES_MASKS = tuple(name for name, handler in TABLE.items() if handler in (add, exp, softmax, masked_fill, where, same))
ONE = Scale.one()
IN_REAL_NUMBERS = ": complex numbers have none; write them as two real ones, their real and imaginary parts"
BY_CHOICE = ": which entries are taken depends on data; hold the choice fixed, or mix all with a softmax"
ADVICE = {
    **dict.fromkeys(("complex", "as_real", "polar", "fft_", "angle"), IN_REAL_NUMBERS),
    **dict.fromkeys(("topk", "sort", "argmax", "nonzero"), BY_CHOICE),
}  # by a part of an operation's name


@dataclass
class Network:
    """A recorded program with what ties it to the module: the leaves' parts, and the output by position.

    ``origin``: per weight, the parameter that it is (a piece of).  ``products``: the labels of axes that are several of the
    program's.  ``single``: numbers that are functions of an index were computed in single precision.
    """

    program: Program
    placed: list[Placed]
    output: Block
    origin: dict[str, str]
    products: Mapping[str, Sequence[str]]
    single: bool

    def laid(self, value: torch.Tensor, widths: Mapping[str, int]) -> torch.Tensor:
        """The module's output on the axes of the program's; along others it is the same everywhere, and a mean is taken."""
        labels = list[str | None]()
        for k in range(value.dim() - 1, -1, -1):
            label = self.output.labels[k]
            own = [label] if label is None else list(self.products.get(label, (label,)))
            if len(own) > 1:
                value = value.unflatten(k, [self.program.width(o, widths) for o in own if o is not None])
            labels = [*own, *labels]
        assert self.program.loss is not None
        order = [labels.index(label) for label in self.program.ops[self.program.loss].axes]
        rest = [k for k in range(value.dim()) if k not in order]
        value = value.permute([*order, *rest])
        return value.reshape(*value.shape[: len(order)], -1).mean(-1) if rest else value


@dataclass(frozen=True, eq=False)
class Tokens(Constant):
    """An input that is not floating: indices into a table, which a program has as one-hot vectors; else plain numbers."""

    leaf: Leaf = field(kw_only=True)


def record(
    graph: Graph, initials: Initials, name: str, idle: Collection[str] = (), stated: Collection[str] = ()
) -> tuple[Network, dict[str, WeightScaling]]:
    """The program of a graph, and how its weights scale as they were built; the ``idle`` ones are recorded as constants.

    ``stated``: names or patterns of weights whose init is said elsewhere, so that one that is none that is known is not
    refused but taken for random, independent and centred.

    Raises:
        InputError: what cannot be traced, all at once, with the lines of the user's code.
    """
    problems, constants = Problems(), constants_of(graph)
    for node in graph.nodes:
        if node.name not in constants and node.target not in TABLE and node.target not in (MARK, EMBEDDING):
            advice = next((words for part, words in ADVICE.items() if part in node.target), "")
            problems.add(node, f"no rule for the operation {node.target.removesuffix('.default')}{advice}")
    problems.check()
    cuts: dict[tuple[str, int], set[Cut]] = {}
    whole, factors = set[tuple[str, int]](), dict[Sizes, tuple[Sizes, ...]]()
    for _ in range(MOST_STARTS):
        program = Program(name, dims=tuple(graph.settings.base))
        rec = Recorder(graph.settings, program, cuts=cuts, whole=whole, factors=factors)
        try:
            return _Attempt(graph, initials, rec, problems, idle, constants, stated).run()
        except Restart:
            problems = Problems()
    raise InputError(f"{name} is sliced in more than {MOST_STARTS} ways.")


@dataclass
class _Attempt:
    graph: Graph
    initials: Initials
    rec: Recorder
    problems: Problems
    idle: Collection[str]
    constants: Collection[str]
    stated: Collection[str]

    def run(self) -> tuple[Network, dict[str, WeightScaling]]:
        rec, graph = self.rec, self.graph
        self.scalings: dict[str, WeightScaling] = {}
        self.origin: dict[str, str] = {}
        self.named: set[str] = set()
        used = {r.name for node in graph.nodes for r in refs((node.args, node.kwargs))} | {r.name for r in graph.output[:1]}
        rec.parameters = {leaf.node for leaf in graph.leaves if leaf.kind == "parameter"}
        known: dict[str, Any] = {}
        for leaf in graph.leaves:
            if leaf.node in used:
                known[leaf.node] = self.leaf(leaf)
        idle = [leaf.name for leaf in graph.leaves if leaf.kind == "parameter" and leaf.node not in used]
        if idle:
            rec.program.remarks.append(f"never used, and left out: {', '.join(idle)}.")
        for node in graph.nodes:
            before = len(rec.program.ops)
            known[node.name] = self.operation(node, known)
            for i in range(before, len(rec.program.ops) if node.place else before):
                rec.program.ops[i] = replace(rec.program.ops[i], where=f"{node.place.file}:{node.place.line}")
        self.problems.check()
        self.check_sizes()
        block = self.output(known)
        return Network(rec.program, rec.placed, block, self.origin, rec.products, rec.single), self.scalings

    # ------------------------------------------------------------------ leaves

    def leaf(self, leaf: Leaf) -> Any:
        if leaf.values[0].is_complex():
            self.problems.found[f"the {leaf.kind} {leaf.name} is complex; write it as two real ones"] = ["its initialisation"]
            return None
        if leaf.node in self.constants:
            return Tokens(leaf.values, leaf=leaf) if leaf.kind == "input" else self.buffer(leaf)
        rec, settings = self.rec, self.rec.settings
        nothing, one = tuple(0 for _ in settings.all), tuple(1 for _ in settings.all)
        rec.lengths[leaf.node] = leaf.shape
        axes: list[Axis] = []
        for k, size in enumerate(leaf.shape):
            origin = Origin(leaf.node, k, tuple(map(Fraction, one)), nothing, one)
            axes.append(Axis.cut(size, rec.cuts.get((leaf.node, k), ()), frozenset({origin})))
        blocks: dict[tuple[int, ...], Block] = {}
        for index in itertools.product(*(range(len(a.pieces)) for a in axes)):
            sizes = [a.parts[i] for a, i in zip(axes, index, strict=True)]
            suffix = "".join(f".{i}" for a, i in zip(axes, index, strict=True) if len(a.pieces) > 1)
            try:
                blocks[index] = self.piece(leaf, leaf.name + suffix, sizes, axes, index)
            except Refusal as refusal:
                self.problems.found.setdefault(str(refusal), ["its initialisation"])
                blocks[index] = Block(None, (None,) * len(axes))
        return Traced(tuple(axes), blocks)

    def buffer(self, leaf: Leaf) -> Constant | None:
        """A buffer of fixed size; what it starts with has to be the same from every seed."""
        if not self.initials.alike(leaf.name):
            self.problems.found[f"the buffer {leaf.name} is random; only exact ones have a rule"] = ["its initialisation"]
            return None
        return Constant(leaf.values)

    def piece(self, leaf: Leaf, name: str, sizes: Sequence[Sizes], axes: Sequence[Axis], index: Sequence[int]) -> Block:
        rec, program = self.rec, self.rec.program
        parts = [a.places[i] for a, i in zip(axes, index, strict=True)]
        labels: list[str | None] = []
        for size in sizes:
            labels.append(rec.label(size, labels))
        order = [k for k, label in enumerate(labels) if label is not None]
        if leaf.kind == "input" and not leaf.values[0].is_floating_point():
            raise Refusal(f"the integer input {leaf.name}, whose size grows with the widths")
        if leaf.kind == "input":
            tensor = program.input(name, _text(rec, labels, order))
            rec.placed.append(Placed(tensor.index, leaf.node, tuple(parts), tuple(order)))
            return Block(tensor, tuple(labels))
        unfit = any(label in rec.unfit for label in rec.flat(labels))  # it will be cut, or refused
        if not self.initials.has(leaf.name):
            raise Refusal(f"a tensor that grows and is neither parameter nor buffer of the module ({leaf.name})")
        try:
            initial = Initial() if unfit else self.initial(leaf, sizes, axes, parts)
        except Refusal as refusal:
            if leaf.kind != "parameter" or globs.chosen(dict.fromkeys(self.stated), name) is None:
                raise
            initial = Initial()
            text = f"{name} is taken to start independent and centred, as the file says; as built: {refusal}."
            program.remarks.append(text)
        if initial.along is not None:
            if labels[initial.along] in rec.products:
                raise Refusal(f"the parameter {leaf.name} is exact and varies along a product of growing dims")
            order = [k for k in order if k != initial.along] + [initial.along]
        if initial.values is not None:
            order = [k for k in order if k not in initial.axes] + list(initial.axes)
        if leaf.kind == "buffer":
            if initial.values is not None:
                return self.table(name, labels, initial)
            if initial.exact is None:
                raise Refusal(f"the buffer {leaf.name} is random; only exact ones have a rule")
            level = initial.scale if initial.scale.dims else None
            tensor = program.index(name, _text(rec, labels, order), initial.exact, level)
            rec.placed.append(Placed(tensor.index, leaf.node, tuple(parts), tuple(order)))
            return Block(tensor, tuple(labels))
        mean = initial.exact if initial.exact is not None else initial.mean
        if name in self.idle or leaf.name in self.idle:
            return self.untrained(leaf, name, initial, labels, order, parts)
        level = initial.scale if initial.exact is not None or initial.values is not None else initial.mean_scale
        exact: dict[str, Any] = {"scale": level} if level.dims else {}
        exact |= {"values": initial.values} if initial.values is not None else {}
        tensor = program.weight(name, _text(rec, labels, order), init=mean, orthogonal=initial.orthogonal, **exact)
        if initial.orthogonal:
            rec.program.remarks.append(
                f"{name} starts orthogonal: it is measured so, and its law is that of independent entries of the same size, "
                "an upper bound where it meets its own transpose."
            )
        rec.placed.append(Placed(tensor.index, leaf.node, tuple(parts), tuple(order)))
        self.origin[name] = leaf.name
        known = mean is not None or initial.values is not None
        self.scalings[name] = WeightScaling(ONE if known else initial.scale, ONE, ONE)
        if initial.mean is not None:
            noise = program.input(f"{name} about its mean", _text(rec, labels, order))
            rec.placed.append(Placed(noise.index, "", (), ()))
            spread = program.index(f"spread of {name}", "", _float(initial.spread), initial.scale)
            tensor = tensor + noise * spread
            about = _amount(initial.mean, initial.mean_scale)
            rec.program.remarks.append(f"{name} starts at random about {about}: its mean is trained, what is random stays.")
        return Block(tensor, tuple(labels))

    def table(self, name: str, labels: Sequence[str | None], initial: Initial) -> Block:
        """Exact numbers that are not trained, the same along all axes but those that they vary along."""
        rec, widths = self.rec, self.rec.settings.all
        tensor = rec.program.table(name, _text(rec, labels, initial.axes), initial.values)
        own = tuple(label if k in initial.axes else None for k, label in enumerate(labels))
        return rec.scaled(Block(tensor, own), tuple(initial.scale.at(at) for at in widths))

    def untrained(
        self, leaf: Leaf, name: str, initial: Initial, labels: Sequence[str | None], order: Sequence[int],
        parts: Sequence[Part],
    ) -> Block:  # fmt: skip
        """A parameter without effect: exact, or random of its size."""
        program, text = self.rec.program, _text(self.rec, labels, order)
        if initial.exact is not None:
            tensor = program.index(name, text, initial.exact, initial.scale if initial.scale.dims else None)
            self.rec.placed.append(Placed(tensor.index, leaf.node, tuple(parts), tuple(order)))
            return Block(tensor, tuple(labels))
        if initial.values is not None:
            return self.table(name, labels, initial)
        if initial.mean is not None:
            raise Refusal(f"the parameter {leaf.name} has no effect and is random about a mean")
        noise = program.input(name, text)
        self.rec.placed.append(Placed(noise.index, leaf.node, tuple(parts), tuple(order)))
        size = program.index(f"size of {name}", "", _float(1.0), initial.scale)
        self.rec.placed.append(Placed(size.index, ONES, (), ()))  # the parameter's own values have their size
        return Block(noise * size, tuple(labels))

    def initial(self, leaf: Leaf, sizes: Sequence[Sizes], axes: Sequence[Axis], parts: Sequence[Part]) -> Initial:
        form = self.rec.settings.form
        forms: list[PartForm] = []
        for axis, part in zip(axes, parts, strict=True):
            beside = [p for p in axis.places if part.nested and p[:3] == part[:3]]
            above = [form(size) for p, size in zip(axis.places, axis.parts, strict=True) if p.first < part.first]
            before = [form(minus(p.stop, p.start)) for p in beside if p.start < part.start]
            length = form(part.length) if part.nested else form(minus(part.stop, part.start))
            forms.append(PartForm(above, length, form(part.outer), before, form(minus(part.stop, part.start))))
        if any(None in (*f.above, f.length, f.outer, *f.before, f.own) for f in forms):
            raise Refusal(f"a piece of the parameter {leaf.name} that begins at no constant multiples of growing dims")
        growing = [k for k, size in enumerate(sizes) if self.rec.grows(size)]
        return self.initials.classify(leaf.name, forms, growing)

    # ------------------------------------------------------------------ operations

    def operation(self, node: Node, known: Mapping[str, Any]) -> Any:
        if any(known.get(r.name) is None for r in refs((node.args, node.kwargs))):
            return None  # what it needs was refused already
        args, kwargs = _given(node.args, known), _given(dict(node.kwargs), known)
        try:
            if node.target == "getitem":
                return args[0][args[1]]
            if node.name in self.constants:
                return folded(node, args, kwargs, len(self.rec.settings.all))
            if node.target == EMBEDDING:
                return self.embedding(args[0], args[1])
            if node.target not in RAW:
                args, kwargs = traced(self.rec, args), traced(self.rec, kwargs)
            if node.target == MARK:
                return self.feature(node, args[0], args[1])
            self.check_pending(node, args)
            kwargs = {k: v for k, v in kwargs.items() if k not in ("device", "layout", "pin_memory", "memory_format")}
            return TABLE[node.target](self.rec, node, *args, **kwargs)
        except Refusal as refusal:
            self.problems.add(node, str(refusal))
            return None

    def check_pending(self, node: Node, args: Any) -> None:
        """What has a law only together with what follows must be followed by that."""
        masked = any(isinstance(a, Traced) and a.keep is not None for a in anywhere(args))
        if masked and node.target not in PASSES_MASKS:
            raise Refusal("masked scores (−∞) that do not go into a softmax as they are")

    def embedding(self, table: Traced, tokens: Any) -> Traced:
        """The rows of a table, as its product with one-hot vectors."""
        rec = self.rec
        if not isinstance(tokens, Constant):
            raise Refusal("an embedding of indices that depend on data")
        if rec.grows(table.axes[0].size):
            raise Refusal("an embedding whose vocabulary grows")
        shape = tokens.shape
        batch = "abcdefgh"[: len(shape)]
        if not isinstance(tokens, Tokens):  # positions, not data
            one_hot = torch.nn.functional.one_hot(tokens.one, table.axes[0].size[0]).double()
            hot = traced(rec, Constant(tuple(one_hot for _ in tokens.values)))
            return rec.contract((table, hot), ("vn", batch + "v"), batch + "n")
        sizes = [*shape, table.axes[0].size]
        labels: list[str | None] = []
        for size in sizes:
            labels.append(rec.label(size, labels))
        order = [k for k, label in enumerate(labels) if label is not None]
        tensor = rec.program.input(tokens.leaf.name, _text(rec, labels, order))
        rec.placed.append(Placed(tensor.index, tokens.leaf.node, (), tuple(order)))
        hot = Traced(tuple(Axis((s,)) for s in sizes), {(0,) * len(sizes): Block(tensor, tuple(labels))})
        return rec.contract((table, hot), ("vn", batch + "v"), batch + "n")

    def feature(self, node: Node, x: Traced, name: str) -> Traced:
        """A submodule's output as a feature; a tensor that is one already, or a leaf, is one once more under its new name."""
        program = self.rec.program
        if name == "output" and self._last_is_feature(x):
            return x
        taken = {op.name for op in program.ops}
        if name in self.named or name in taken:
            name = next(f"{name}:{k}" for k in itertools.count(2) if f"{name}:{k}" not in self.named | taken)
        self.named.add(name)
        blocks: dict[tuple[int, ...], Block] = {}
        for index, block in x.blocks.items():
            if block.tensor is None:
                blocks[index] = block
                continue
            tensor = block.tensor
            if tensor.index in program.features.values() or not tensor.op.inputs or tensor.index in self._ends:
                tensor = program.record("rename", (tensor,), tensor.axes, names={})
            suffix = "".join(f".{i}" for i, a in zip(index, x.axes, strict=True) if len(a.pieces) > 1)
            program.feature(name + suffix, tensor)
            blocks[index] = Block(tensor, block.labels)
        return replace(x, blocks=blocks)

    def _last_is_feature(self, x: Traced) -> bool:
        return all(b.tensor is not None and b.tensor.index in self.rec.program.features.values() for b in x.blocks.values())

    @property
    def _ends(self) -> set[int]:
        return {t.index for t in self.rec.constants.values()}

    # ------------------------------------------------------------------ at the end

    def output(self, known: Mapping[str, Any]) -> Block:
        rec, program = self.rec, self.rec.program
        found = [known.get(r.name) for r in self.graph.output[:1]]
        whole = [x for x in found if isinstance(x, Traced)]
        if not whole:
            raise InputError(f"{program.name} returns no tensor.")
        if len(whole[0].blocks) != 1:
            raise InputError(f"the output of {program.name} is put together from pieces along a growing axis; return one.")
        block = whole[0].only
        for k, axis in enumerate(whole[0].axes):  # what is repeated is seen, and pulled at, as often
            block = block if block.tensor is None or rec.grows(axis.size) else rec.own(block, k, axis.size)
        if block.tensor is None or not program.trainable()[block.tensor.index]:
            raise InputError(f"the output of {program.name} does not depend on any parameter.")
        program.end(block.tensor)
        describe(program, self.scalings)
        return block

    def check_sizes(self) -> None:
        rec = self.rec
        bad = {label for label in rec.unfit if any(label in op.axes for op in rec.program.ops)}
        if bad:
            lines = "".join(
                f"\n  an axis of size {rec.settings.words(rec.unfit[label])}"
                + next((f", of {op.name}" for op in rec.program.ops if label in op.axes), "")
                for label in sorted(bad)
            )
            raise InputError(
                f"{rec.program.name} has axes that are no constant times one growing dim:{lines}\nSlice such an axis into "
                "parts that are, or name the product of two dims as a dim of its own."
            )


def constants_of(graph: Graph) -> set[str]:
    """The nodes that can be computed from numbers alone: from no parameter, and no data but integers."""
    fixed = {leaf.node for leaf in graph.leaves if all(len(set(sizes)) == 1 for sizes in leaf.shape)}
    out = {
        leaf.node for leaf in graph.leaves
        if leaf.node in fixed and (leaf.kind == "buffer" or leaf.kind == "input" and not leaf.values[0].is_floating_point())
    }  # fmt: skip
    for node in graph.nodes:
        known = all(r.name in out for r in refs((node.args, node.kwargs)))
        if known and (node.target == "getitem" or foldable(node)):
            out.add(node.name)
    return out


def _given(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return known[value.name]
    if isinstance(value, dict):
        return {k: _given(v, known) for k, v in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return type(value)(_given(v, known) for v in value)
    return value


def _text(rec: Recorder, labels: Sequence[str | None], order: Sequence[int]) -> str:
    return " ".join(rec.flat(labels[k] for k in order))


def _amount(number: Any, scale: Scale) -> str:
    return f"{float(number):.3g}" + (f" {scale}" if scale.dims else "")


def _float(value: float) -> Any:
    import sympy as sp

    return sp.Float(value, 6)
