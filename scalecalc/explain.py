"""The derivation of one row as numbered stages, for a person who checks it by hand.

The engine records one :class:`~scalecalc.term.Step` per term.  Here they become *stages*: all that one rule did at one
place in the program, in an order in which every stage comes after those that it used.

- A step that was derived twice (the network runs once before and once after the update) is listed once.
- Parts of one function that differ in their symmetry alone are listed together.
- A step that changes nothing within its stage (a multiplier of 1) is left out; renaming and repeating axes leave no step.

To see the steps as recorded: follow ``row.derivation.terms[0].why.parents``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scalecalc.errors import InputError
from scalecalc.profile import HALF, count
from scalecalc.program import LEAVES
from scalecalc.report.layout import heading
from scalecalc.scale import Scale
from scalecalc.table import Grounds, Row, Table
from scalecalc.words import back_reaction, pattern_words, profile_words

if TYPE_CHECKING:
    from scalecalc.term import Term

_PRIMES = re.compile(r"(?<=\w)'+")


@dataclass(frozen=True)
class Factor:
    """What a line uses: a leaf or an earlier stage, with its size; an unnamed one is the line before."""

    name: str
    stage: int | None
    size: Scale

    def __str__(self) -> str:
        return self.name if self.stage is None else f"{self.name} [{self.stage}]"


@dataclass(frozen=True)
class Line:
    """One step: the law in words, what it used, the size that comes out, its symmetry and profile.

    Args:
        law: as the rule says it.
        factors: terms used, those of the same stage without a name.
        size: of an entry at small index.
        parts: symmetry and profile, of each part if there are several.
        remarks: where a matrix met itself.
        assumption: what was assumed; empty if nothing was.
    """

    law: str
    factors: tuple[Factor, ...]
    size: Scale
    parts: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    assumption: str = ""


@dataclass(frozen=True)
class Stage:
    """What one rule did at one place; ``number`` is None for a leaf (a weight, the input)."""

    number: int | None
    at: str
    rule: str
    lines: tuple[Line, ...]

    @property
    def uses(self) -> tuple[Factor, ...]:
        """The leaves and earlier stages that it used, each once."""
        named = [f for line in self.lines for f in line.factors if f.name]
        return tuple({(f.name, f.stage): f for f in named}.values())


@dataclass(frozen=True)
class Source:
    """A rule that was used: its law in words, where it is from."""

    name: str
    words: str
    source: str


@dataclass(frozen=True)
class Explanation:
    """The derivation of one row.  ``str`` of it is the text for a terminal.

    Args:
        row: the row explained.
        heading: model, parameterization, optimizer, regime.
        leaves: the weights and inputs that it starts from.
        stages: in order; each uses leaves and earlier stages.
        result: how the row's Θ is read off the last stages, a line each.
        assumptions: all that were made, in order of first use.
        sources: the rules that were used, in order of first use.
    """

    row: Row
    heading: str
    leaves: tuple[Stage, ...]
    stages: tuple[Stage, ...]
    result: tuple[str, ...]
    assumptions: tuple[str, ...]
    sources: tuple[Source, ...]

    def __str__(self) -> str:
        from scalecalc.report.explanation import to_text

        return to_text(self)

    __repr__ = __str__

    def to_markdown(self, path: Any = None) -> str:
        from scalecalc.report.explanation import to_markdown
        from scalecalc.report.output import write

        return write(to_markdown(self), path)

    def to_json(self, path: Any = None) -> str:
        from scalecalc.report.explanation import to_json
        from scalecalc.report.output import write

        return write(to_json(self), path)


@dataclass(eq=False)
class _Node:
    """A step that was found, with all terms that differ from it in their symmetry alone."""

    term: Term
    parents: tuple[_Node, ...]
    parts: dict[str, str] = field(default_factory=dict[str, str])  # by their words without primes
    users: list[_Node] = field(default_factory=list["_Node"])
    root: _Node | None = None  # the last step of its stage

    @property
    def place(self) -> tuple[str, str]:
        assert self.term.why is not None
        return self.term.why.rule, self.term.why.at

    @property
    def idle(self) -> bool:
        """Does it change nothing on the way to another step of its stage?"""
        if self.root is self or len(self.parents) != 1 or self.term.why is None or self.term.why.assumption:
            return False
        (parent,) = self.parents
        return parent.term.size == self.term.size and parent.parts.keys() == self.parts.keys()


def explain(table: Table, row: Row) -> Explanation:
    """The derivation of one row of a table.

    Raises:
        InputError: the row carries none, because it was read from a file.
    """
    grounds = row.derivation
    if grounds is None:
        raise InputError(f"{row.label} carries no derivation, as a row that was read from a file; derive it again.")
    nodes, found = _nodes([*grounds.terms, *(t for _, side in grounds.sides for t in side.terms)])
    _group(nodes)
    roots = [node for node in nodes if node.root is node]
    numbers: dict[int, int] = {}
    for node in roots:
        if node.place[0] not in LEAVES:
            numbers[id(node)] = len(numbers) + 1
    stages = [_stage(node, [n for n in nodes if n.root is node and not n.idle], numbers) for node in roots]
    shown = tuple(stage for stage in stages if stage.number is not None)
    refer = {key: _factor(node, numbers) for key, node in found.items()}
    made = (line.assumption for stage in shown for line in stage.lines if line.assumption)
    return Explanation(
        row=row,
        heading=heading(table),
        leaves=tuple(stage for stage in stages if stage.number is None),
        stages=shown,
        result=tuple(_cosine(row, grounds, refer) if grounds.sides else _result(row, grounds, refer)),
        assumptions=tuple(dict.fromkeys(made)),
        sources=tuple(_sources(shown)),
    )


def _nodes(terms: Sequence[Term]) -> tuple[list[_Node], dict[int, _Node]]:
    """Every step behind the terms, each once and after those that it used; and the node of each term by its id."""
    known: dict[Any, _Node] = {}
    found: dict[int, _Node] = {}
    stack = [(t, False) for t in reversed(terms)]
    while stack:
        t, ready = stack.pop()
        if id(t) in found or t.why is None:
            continue
        if not ready:
            stack.append((t, True))
            stack += [(p, False) for p in reversed(t.why.parents)]
            continue
        parents = tuple(found[id(p)] for p in t.why.parents if id(p) in found)
        key = (t.why.rule, t.why.at, t.why.law, t.size, t.tag, t.why.assumption, *map(id, parents))
        if key not in known:
            known[key] = _Node(t, parents)
            for p in dict.fromkeys(parents):
                p.users.append(known[key])
        found[id(t)] = known[key]
        words = pattern_words(t.pattern)
        known[key].parts.setdefault(_PRIMES.sub("", words), words)
    return list(known.values()), found


def _group(nodes: list[_Node]) -> None:
    """Put a step into the stage of its users, if all of them are in one, of the same rule at the same place."""
    for node in reversed(nodes):
        roots = {id(user.root): user.root for user in node.users}
        (root,) = roots.values() if len(roots) == 1 else (None,)
        node.root = root if root is not None and root.place == node.place and node.parents else node


def _factor(node: _Node, numbers: dict[int, int]) -> Factor:
    assert node.root is not None
    return Factor(_name(node), numbers.get(id(node.root)), node.term.size)


def _name(node: _Node) -> str:
    rule, at = node.place
    return at if rule in LEAVES or not _is_optimizer(rule) else "Δ" + at.removeprefix("d")


def _is_optimizer(name: str) -> bool:
    from scalecalc.rule import registry

    return name in registry("optimizer")


def _stage(root: _Node, nodes: list[_Node], numbers: dict[int, int]) -> Stage:
    lines = [_line(node, nodes, numbers) for node in nodes]
    return Stage(numbers.get(id(root)), _name(root), root.place[0], tuple(lines))


def _line(node: _Node, own: list[_Node], numbers: dict[int, int]) -> Line:
    why = node.term.why
    assert why is not None
    factors: list[Factor] = []
    for parent in node.parents:
        while parent.idle:
            (parent,) = parent.parents
        inside = any(parent is n for n in own)
        factors.append(Factor("", None, parent.term.size) if inside else _factor(parent, numbers))
    remarks = back_reaction([p.term.pattern for p in node.parents], node.term.pattern) if len(node.parents) == 2 else []
    parts = tuple(node.parts.values())
    return Line(why.law, tuple(dict.fromkeys(factors)), node.term.size, parts, tuple(remarks), why.assumption)


def _result(row: Row, grounds: Grounds, refer: dict[int, Factor]) -> Iterator[str]:
    """How each leading size follows from the term that has it."""
    if not grounds.terms:
        yield "exactly zero: no term is left"
    for t in grounds.terms:
        yield f"led by {refer[id(t)]}: {_rms(t, grounds.labels)}"
    if len(grounds.terms) > 1:
        yield f"none of these exceeds the others however the widths grow: {row.formula()}"


def _rms(t: Term, labels: Sequence[str]) -> str:
    """The root-mean-square over all entries, and how it comes about where it is not the size of an entry."""
    size = t.rms(labels)
    return str(size) if size == t.size else f"{profile_words(t.pattern)}, rms {t.size} × {size / t.size} = {size}"


def _cosine(row: Row, grounds: Grounds, refer: dict[int, Factor]) -> Iterator[str]:
    """The sum against the norms of what is summed."""
    for t in grounds.terms:
        yield f"the sum, led by {refer[id(t)]}: {_rms(t, grounds.labels)}"
    root = count(grounds.over) ** HALF
    for name, side in grounds.sides:
        for t in side.terms:
            norm = t.rms(side.labels) * root
            yield f"‖{name}‖, led by {refer[id(t)]}: {_rms(t, side.labels)}, times {root} gives {norm}"
    yield f"cosine, the sum divided by both norms: {row.formula()}"


def _sources(stages: Sequence[Stage]) -> Iterator[Source]:
    from scalecalc.rule import registry

    for name in dict.fromkeys(stage.rule for stage in stages):
        for kind in ("rule", "optimizer"):
            if name in registry(kind):
                thing = registry(kind)[name]
                yield Source(name, thing.words, thing.source)
                break
