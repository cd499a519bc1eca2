"""A rule's sample: the small program that it is tested on, with the gradients of every use, and what is claimed of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scalecalc.backward import fitted
from scalecalc.errors import ProgramError, ScalecalcError
from scalecalc.program import LEAVES, Program, Tensor
from scalecalc.rule import Rule
from scalecalc.scale import Scale
from scalecalc.table import Row, WeightScaling

DIMS = ("N", "M")
FIXED = {"batch": 4, "time": 2}
ONE = Scale.one()


class RuleError(ScalecalcError):
    """A rule does not do what it says.

    ``check``: declarations, torch, backward or law; ``problems`` in words; ``rows``: what the law fails by.
    """

    def __init__(self, rule: Rule, check: str, method: str, problems: Sequence[str], rows: Sequence[Row] = ()):
        self.rule, self.check, self.problems, self.rows = rule.name, check, tuple(problems), tuple(rows)
        lines = "\n".join(f"  {p}" for p in problems)
        super().__init__(f"the rule {rule.name!r} fails its {check} check:\n{lines}\nLook at {_place(rule, method)}.")


def _place(rule: Rule, method: str) -> str:
    """Where to look: the method, with file and line, or the class."""
    thing = getattr(type(rule), method) if method != "__doc__" else type(rule)
    try:
        file, line = inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return f"{type(rule).__name__}.{method}"
    return f"{thing.__qualname__} ({Path(file or '?').name}:{line})"


@dataclass(frozen=True)
class Claim:
    """A product of tensors, by position, summed over some growing axes; its root-mean-square has a derived size."""

    name: str
    kind: str
    factors: tuple[int, ...]
    over: tuple[str, ...] = ()


@dataclass
class Sample:
    """A rule's sample with, for each use of the rule, a random cotangent and the recorded gradients by input slot."""

    program: Program
    output: Tensor
    leaves: list[int]
    gradients: dict[int, dict[int, Tensor]] = field(default_factory=dict[int, dict[int, Tensor]])
    cotangents: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict[int, tuple[Tensor, Tensor]])

    @property
    def scalings(self) -> dict[str, WeightScaling]:
        return {name: WeightScaling(ONE, ONE, ONE, w.role) for name, w in self.program.weights.items()}

    def claims(self) -> list[Claim]:
        out = self._of(self.output, "init", self.leaves)
        for i, parts in self.gradients.items():
            common = self.cotangents[i][1].index
            for slot, part in parts.items():
                if self.program.ops[self.program.ops[i].inputs[slot]].rule != "index":  # exact vectors are not trained
                    out += self._of(part, "gradient", [common])
        return list({(c.factors, c.over): c for c in reversed(out)}.values())[::-1]

    def _of(self, tensor: Tensor, kind: str, others: Sequence[int]) -> list[Claim]:
        ops, grows, i, name = self.program.ops, self.program.growing, tensor.index, tensor.name
        own = grows(tensor.axes)
        out = [Claim(name, kind, (i,))]
        out += [Claim(f"Σ_{label} {name}", kind, (i,), (label,)) for label in own]
        out += [Claim(f"Σ_{','.join(own)} {name}", kind, (i,), own)] if len(own) > 1 else []
        for j in others:
            common = tuple(label for label in own if label in ops[j].axes)
            if common and j != i:
                out.append(Claim(f"Σ_{','.join(common)} {name}·{ops[j].name}", kind, (i, j), common))
        every = [j for j in others if j != i and grows(ops[j].axes)]
        over = grows(tuple(dict.fromkeys(label for j in (i, *every) for label in ops[j].axes)))
        if len(every) > 1:
            names = "·".join(ops[j].name for j in (i, *every))
            out.append(Claim(f"Σ_{','.join(over)} {names}", kind, (i, *every), over))
        return out


def sample_of(rule: Rule) -> Sample:
    program = Program(f"sample of {rule.name}", dims=DIMS, fixed=dict(FIXED))
    output = rule.sample(program)
    uses = [i for i, op in enumerate(program.ops) if op.rule == rule.name]
    if not uses:
        raise RuleError(rule, "declarations", "sample", [f"the sample records no operation {rule.name!r}."])
    live = program.live([output.index])
    sample = Sample(program, output, [i for i, op in enumerate(program.ops) if op.rule in LEAVES and live[i]])
    for i in uses:
        op = program.ops[i]
        name = f"g({op.name})" if len(uses) == 1 else f"g{i}({op.name})"
        common = program.input(name, " ".join(program.growing(op.axes)))  # data are alike along fixed axes
        g = common + program.input(f"noise of {name}", " ".join(op.axes))
        inputs = [program.tensor(j) for j in op.inputs]
        try:
            parts = rule.backward(inputs, program.tensor(i), g)
        except ProgramError:
            continue  # deliberate: it has no backward, and says so
        if len(parts) != len(inputs):
            raise RuleError(rule, "backward", "backward", [f"{len(inputs)} inputs, {len(parts)} gradients; one each."])
        sample.cotangents[i] = g, common
        sample.gradients[i] = {}
        of = "" if len(uses) == 1 else f" of {op.name}"
        for slot, (part, tensor) in enumerate(zip(parts, inputs, strict=True)):
            if part is not None:
                own = fitted(part, tensor)
                program.ops[own.index] = replace(program.ops[own.index], name=f"d{tensor.name}" + of)
                sample.gradients[i][slot] = own
    return sample


def values_of(sample: Sample, widths: Mapping[str, int], seeds: int, seed: int, wanted: Sequence[int]) -> Any:
    from scalecalc.measure.interpret import Setting, draw_leaves
    from scalecalc.measure.interpret import run as evaluate

    live = sample.program.live(wanted)
    leaves = draw_leaves(sample.program, Setting(widths, seeds, seed), sample.scalings, live)
    return evaluate(sample.program, leaves, wanted)
