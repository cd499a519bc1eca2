"""The derivation of a whole table as one modular proof: lemmas, steps that apply them, rows that follow.

A lemma is a rule that the model uses: its law in words, its equation, what was assumed where it was applied, its source.  A
step is one application at one place of the program, with the sizes before and after; the steps of all rows are listed
together, each once (:mod:`scalecalc.explain` lists those of one row).  A row is then a corollary: the chain of steps that
leads to it.  What the lemmas take from probability and from the theory of state spaces is stated once, before them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scalecalc.explain import Explanation, Factor, Stage, explain
from scalecalc.notation import Definition, definitions
from scalecalc.report.layout import heading
from scalecalc.table import Row, Table

OPTIMIZER, RULE = "optimizer", "rule"


@dataclass(frozen=True)
class Lemma:
    """One rule.

    Args:
        number: from 1, in the order of first use.
        name: of the rule.
        kind: ``rule`` or ``optimizer``.
        statement: its law in words.
        remark: how it comes about and what to watch, if the rule says so.
        equation: in LaTeX, of the place where it is first used; empty where the rule writes none.
        assumptions: what was assumed where it was applied.
        source: a paper with its equation, or "definition".
    """

    number: int
    name: str
    kind: str
    statement: str
    remark: str
    equation: str
    assumptions: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Corollary:
    """A row of the table: the steps that lead to it, in order, how its size is read off the last, what was assumed."""

    row: Row
    leaves: tuple[str, ...]
    steps: tuple[int, ...]
    result: tuple[str, ...]
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """The document.

    Args:
        model, heading: of the table.
        definitions: what the lemmas use.
        lemmas: one per rule.
        leaves: the weights and inputs that everything starts from.
        steps: every application of a lemma, numbered from 1; each uses leaves and earlier steps.
        corollaries: one per row, in the order of the table.
    """

    model: str
    heading: str
    definitions: tuple[Definition, ...]
    lemmas: tuple[Lemma, ...]
    leaves: tuple[Stage, ...]
    steps: tuple[Stage, ...]
    corollaries: tuple[Corollary, ...]

    def lemma(self, rule: str) -> Lemma:
        """The lemma of a rule."""
        return next(lemma for lemma in self.lemmas if lemma.name == rule)


def proof_of(table: Table, equations: Mapping[str, str] | None = None) -> Proof:
    """Every row explained, what they share said once.

    Args:
        equations: per rule, in LaTeX, of the place where it is first used.

    Raises:
        InputError: the table was read from a file, which keeps no derivation.
    """
    steps: dict[Any, Stage] = {}
    leaves: dict[str, Stage] = {}
    corollaries: list[Corollary] = []
    for row in table:
        found = explain(table, row)
        leaves.update((leaf.at, leaf) for leaf in found.leaves)
        own: dict[int, int] = {}
        for stage in found.stages:
            lines = tuple(replace(line, factors=tuple(_known(f, own) for f in line.factors)) for line in stage.lines)
            key = (stage.at, stage.rule, lines)
            one = steps.setdefault(key, Stage(len(steps) + 1, stage.at, stage.rule, lines))
            assert stage.number is not None and one.number is not None
            own[stage.number] = one.number
        given = tuple(leaf.at for leaf in found.leaves)
        chain = tuple(sorted(own.values()))  # each after those that it uses
        corollaries.append(Corollary(row, given, chain, _result(found, own), found.assumptions))
    stages = tuple(steps.values())
    return Proof(
        table.model, heading(table), definitions(stages), _lemmas(stages, equations or {}),
        tuple(leaves.values()), stages, tuple(corollaries),
    )  # fmt: skip


def equations_of(program: Any) -> dict[str, str]:
    """Per rule of a program, backward pass included, its equation where it is first used: where it sums, if it does."""
    from scalecalc.flow import equation

    out: dict[str, str] = {}
    for op in sorted(program.ops, key=lambda op: not program.growing(op.params.get("over", ()))):
        if op.rule not in out and (found := equation(program, op)):
            out[op.rule] = found
    return out


def _known(factor: Factor, own: Mapping[int, int]) -> Factor:
    return factor if factor.stage is None else replace(factor, stage=own[factor.stage])


def _result(found: Explanation, own: Mapping[int, int]) -> tuple[str, ...]:
    """The explanation's last lines, with the steps by their numbers in the document."""
    import re

    return tuple(re.sub(r"\[(\d+)\]", lambda m: f"[{own[int(m[1])]}]", text) for text in found.result)


def _lemmas(steps: Sequence[Stage], equations: Mapping[str, str]) -> tuple[Lemma, ...]:
    from scalecalc.rule import registry

    out: list[Lemma] = []
    for name in dict.fromkeys(stage.rule for stage in steps):
        kind = RULE if name in registry(RULE) else OPTIMIZER
        thing = registry(kind).get(name) or registry(kind).get(name.partition(":")[0])
        made = (line.assumption for stage in steps if stage.rule == name for line in stage.lines if line.assumption)
        # the place is said in the steps; here it is what is assumed at all of them
        assumed = dict.fromkeys(text.partition(" (")[0] for text in made)
        about: Any = thing if kind == RULE else getattr(thing, "make", None)
        documented: Any = about.__class__ if kind == RULE else about
        doc = inspect.getdoc(documented) or "" if about is not None else ""
        said = thing.words if thing is not None else ""
        remark = " ".join(doc.partition("\n\n")[2].partition("\n\nOptions")[0].split())
        source = thing.source if thing is not None else ""
        out.append(Lemma(len(out) + 1, name, kind, said, remark, equations.get(name, ""), tuple(assumed), source))
    return tuple(out)


__all__ = ["Corollary", "Definition", "Lemma", "Proof", "equations_of", "proof_of"]
