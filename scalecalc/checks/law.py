"""The law of a rule against Monte Carlo: derived and measured slopes of everything that is claimed of its sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scalecalc.checks.sample import DIMS, ONE, Claim, RuleError, Sample, values_of
from scalecalc.derive import CORRECTIONS, exact_leaf, run
from scalecalc.errors import ScalecalcError
from scalecalc.program import Program
from scalecalc.rows import assumptions, subleading
from scalecalc.rule import Rule
from scalecalc.scale import FREE, Scale
from scalecalc.table import Row, Table
from scalecalc.term import Term, atom, dim_of, pattern
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

    from scalecalc.measure.slopes import Cell
    from scalecalc.verdict import Judgement

WIDTHS = {1: (128, 512, 2048), 2: (24, 96, 384)}  # by the number of dims that the sample uses
LOOKS = 3  # each raises the number of seeds to four times that of the one before
ERROR = 1e-5  # of blaming a rule that is right
CHUNK = 1_000_000  # numbers in the largest tensor of one batch of seeds


def check_law(
    rule: Rule,
    sample: Sample,
    widths: Mapping[str, Sequence[int]],
    seeds: int,
    seed: int,
    tolerance: float,
    generic: bool,
) -> Table:
    claims = sample.claims()
    rows = _derived(rule, sample, claims)
    axes = {a for c in claims for j in c.factors for a in sample.program.growing(sample.program.ops[j].axes)}
    used = [d for d in DIMS if d in map(dim_of, axes)]
    grid = {d: widths.get(d, WIDTHS[len(used)]) for d in used}
    done: list[Row] = []
    wrong: list[Row] = []
    for row, (found, below) in zip(rows, _measured(sample, claims, rows, grid, seeds, seed, tolerance), strict=True):
        verdict, settle = found.verdict, found.settle
        bound = below and bool(row.assumptions)
        if bound and verdict != "agrees":
            verdict = verdict if generic else "inconclusive"
            settle += " It is smaller than derived; the derived size is a bound, assuming that "
            settle += f"{'; '.join(row.assumptions)}."
        done.append(row.with_measurement(found.slopes, verdict, settle))
        if verdict != "agrees" and (generic or not bound):
            wrong.append(done[-1])
    if wrong:
        raise RuleError(rule, "law", "law", [problem(row) for row in wrong], wrong)
    program = sample.program
    return Table(program.name, tuple(done), program.dims, command="check_rule", options={"seed": seed, "seeds": seeds})


def problem(row: Row) -> str:
    slopes = ", ".join(f"{d}^{s.slope:.2f} ({s.low:.2f} to {s.high:.2f})" for d, s in (row.measured or {}).items())
    what = "measured" if row.verdict == "disagrees" else "measured, without a verdict:"
    return f"{row.row}: derived {row.formula()}; {what} {slopes or 'no slope'}. {row.settle} Derived by {row.why}."


def _derived(rule: Rule, sample: Sample, claims: Sequence[Claim]) -> list[Row]:
    program = sample.program
    margin = Scale(dict.fromkeys(program.dims, CORRECTIONS))
    algebra = Algebra(margin=margin, rule="sum", at="the check")
    weights = _weights(program, algebra)
    try:
        values = run(program, algebra, weights, [i for c in claims for i in c.factors])
    except ScalecalcError as error:
        raise RuleError(rule, "law", "law", [f"the engine stops at the rule's own sample: {error}"]) from error
    for i, op in enumerate(program.ops):
        value, labels = values[i], program.growing(op.axes)
        if op.rule == rule.name and value is not None and value.labels != labels:
            text = f"a value on the axes {value.labels} for {op.name}, which has {labels}."
            raise RuleError(rule, "law", "law", [text])
    return [_row(c, _claimed(algebra, values, c)) for c in claims]


def _weights(program: Program, algebra: Algebra) -> dict[str, Value]:
    """Every weight of size one: an atom, or its exact initial value."""
    out: dict[str, Value] = {}
    for op in program.ops:
        labels = program.growing(op.axes)
        if op.rule == "weight" and op.params["init"] is not None:
            out[op.name] = exact_leaf(labels, op.params["init"], algebra)
        elif op.rule == "weight":
            odd = [atom(op.name, labels)] if labels else []
            out[op.name] = Value(labels, (Term(ONE, pattern((), odd), (), algebra.step("independent entries")),))
    return out


def _row(claim: Claim, value: Value) -> Row:
    terms = FREE.leading(value.sizes())
    lead = next((t for t in value.terms if t.rms(value.labels) in terms), None)
    return Row(
        claim.name,
        claim.kind,
        0,
        terms,
        subleading=subleading(FREE, terms, value.sizes()),
        why=f"{lead.why.rule}: {lead.why.law}" if lead is not None and lead.why is not None else "exactly zero",
        assumptions=assumptions(lead),
        derivation=lead,
    )


def _claimed(algebra: Algebra, values: Sequence[Value | None], claim: Claim) -> Value:
    first, *rest = (v for i in claim.factors if (v := values[i]) is not None)
    out = first
    for value in rest:
        labels = tuple(dict.fromkeys([*out.labels, *value.labels]))
        if value is rest[-1]:
            return algebra.contract([a for a in labels if a not in claim.over], out, value, claim.over)
        out = algebra.multiply(labels, out, value)
    for label in claim.over:
        out = algebra.sum(out, label)
    return out


def _measured(
    sample: Sample,
    claims: Sequence[Claim],
    rows: Sequence[Row],
    widths: Mapping[str, Sequence[int]],
    seeds: int,
    seed: int,
    tolerance: float,
) -> list[tuple[Judgement, bool]]:
    """Per row a verdict, and whether it is surely not larger than derived; rows without a verdict get more seeds."""
    from scalecalc.measure.paths import grid
    from scalecalc.measure.slopes import Cell, fit
    from scalecalc.verdict import judge

    cells = grid(widths)
    alpha = ERROR / (2 * len(claims) * max(1, len(widths)) * LOOKS)  # 2: with and without corrections
    samples: list[list[Cell]] = [[] for _ in rows]
    out: dict[int, tuple[Judgement, bool]] = {}
    for look in range(LOOKS):
        undecided = [r for r in range(len(rows)) if r not in out or out[r][0].verdict == "inconclusive"]
        more = seeds * (4**look - 4 ** (look - 1)) if look else seeds
        for k, cell in enumerate(cells):
            found = _logs(sample, [claims[r] for r in undecided], cell, more, (seed, look, k))
            for r, logs in zip(undecided, found, strict=True):
                samples[r].append(Cell(cell, logs))
        for r in undecided:
            terms, below = rows[r].terms, False
            for corrections in ((), rows[r].subleading):  # they widen the interval: only where they are needed
                found = fit(samples[r], terms, alpha, corrections=corrections, zero_level=math.log(1e-9))
                below = below or bool(terms) and all(e.high <= tolerance for e in found.excess.values())
                out[r] = judge(found, terms, tolerance), below
                if out[r][0].verdict == "agrees":
                    break
    return [out[r] for r in range(len(rows))]


def _logs(
    sample: Sample, claims: Sequence[Claim], cell: Mapping[str, int], seeds: int, entropy: Sequence[int]
) -> list[Any]:
    """Per claim, the natural logarithm of its root-mean-square, one per seed."""
    import numpy as np
    import torch

    from scalecalc.measure.interpret import elements, rms

    if not claims:
        return []
    wanted = sorted({i for c in claims for i in c.factors})
    size = max(1, min(seeds, CHUNK // max(1, elements(sample.program, cell) // 4)))
    parts: list[list[torch.Tensor]] = [[] for _ in claims]
    for batch, start in enumerate(range(0, seeds, size)):
        state = np.random.SeedSequence([*entropy, batch]).generate_state(1, np.uint64)[0]
        values = values_of(sample, cell, min(size, seeds - start), int(state >> 1), wanted)
        for claim, logs in zip(claims, parts, strict=True):
            logs.append(rms(_statistic(sample.program, values, claim)).log())
    return [torch.cat(logs).numpy() for logs in parts]


def _statistic(program: Program, values: Mapping[int, torch.Tensor], claim: Claim) -> torch.Tensor:
    import torch

    axes = [program.ops[i].axes for i in claim.factors]
    letter = {label: chr(ord("b") + k) for k, label in enumerate(dict.fromkeys(a for own in axes for a in own))}
    sides = ",".join("a" + "".join(letter[a] for a in own) for own in axes)
    kept = "".join(letter[a] for a in letter if a not in claim.over)
    dtype = max((values[i].dtype for i in claim.factors), key=lambda t: t.is_complex)
    return torch.einsum(f"{sides}->a{kept}", *(values[i].to(dtype) for i in claim.factors))
