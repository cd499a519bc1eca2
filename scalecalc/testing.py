"""The checkers, for our rules and a user's: a rule says the same thing four times, and here the four are compared.

A rule's ``sample`` records a small program with the growing dims N and M.  Its torch code, run on random numbers, is what
the other three are held against:

- *law*: the scale engine derives the size of the result and of every gradient; the slopes measured at growing widths
  must agree.  A size alone says nothing about parity, profile and sources, so that sums over each growing axis are
  measured as well, plain (law of large numbers or central limit?) and against each input and all of them (is the result
  aligned with what it was made from?);
- *backward*: the recorded vector-Jacobian products equal torch's own, to rounding, at small and odd sizes;
- *torch*: the result has the declared axes, and a seed's result does not depend on the other seeds;
- *declarations*: words, source, LaTeX.

>>> table = check_rule("relu")
>>> print(table["relu(x+z)"].formula(), "|", table["Σ_N relu(x+z)"].formula(), "|", table["Σ_N dx+z", "gradient"].formula())
1 | N | N^(1/2)

The Monte-Carlo part takes a fixed seed, so that it passes always or never; over seeds, a rule that is right is said to
disagree with probability below :data:`ERROR`.  A row that stays open is an error, too, with what would settle it.

To debug a row that disagrees: record the sample in a :class:`~scalecalc.program.Program`, run ``scalecalc.derive.run`` and
print the terms.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalecalc.backward import fitted
from scalecalc.derive import CORRECTIONS, derive, exact_leaf, run
from scalecalc.errors import InputError, ProgramError, ScalecalcError
from scalecalc.program import LEAVES, Op, Program, Tensor
from scalecalc.rows import assumptions, subleading
from scalecalc.rule import Rule, find, registry, spread
from scalecalc.scale import FREE, Scale
from scalecalc.table import Row, Table, WeightScaling
from scalecalc.term import Term, atom, dim_of, pattern
from scalecalc.value import Algebra, Value

if TYPE_CHECKING:
    import torch

    from scalecalc.measure.slopes import Cell
    from scalecalc.parameterization import Parameterization
    from scalecalc.verdict import Judgement

__all__ = ["RuleError", "assert_agrees", "assert_scaling", "check_rule"]

DIMS = ("N", "M")
WIDTHS = {1: (128, 512, 2048), 2: (24, 96, 384)}  # by the number of dims that the sample uses
FIXED = {"batch": 4, "time": 2}
SIZES = ({"N": 5, "M": 3}, {"N": 2, "M": 7}, {"N": 1, "M": 1})  # of the backward check
SEEDS = 128
LOOKS = 3  # each raises the number of seeds to four times that of the one before
ERROR = 1e-5  # of blaming a rule that is right
TOLERANCE = 0.12  # exponents are multiples of 1/4 or so: less than half way to the next
ROUNDING = 1e-10  # of float64 results, relative to the largest entry
CHUNK = 1_000_000  # numbers in the largest tensor of one batch of seeds
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


# ------------------------------------------------------------------ the sample, and what is claimed of it


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


def _sample(rule: Rule) -> Sample:
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


@contextmanager
def _known(rule: Rule) -> Generator[None, None, None]:
    """A rule that is not registered yet (or a variant of one that is) under its name, for as long as it is checked."""
    rules = registry("rule")
    before = rules.get(rule.name)
    rules[rule.name] = rule
    try:
        yield
    finally:
        if before is None:
            del rules[rule.name]
        else:
            rules[rule.name] = before


# ------------------------------------------------------------------ the check


def check_rule(
    rule: str | Rule,
    *,
    widths: Mapping[str, Sequence[int]] | None = None,
    seeds: int = SEEDS,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    generic: bool = True,
) -> Table:
    """Check one rule against its own torch code; returns what was derived and measured.

    Args:
        rule: a registered name, or an instance (which need not be registered).
        widths: of the dims N and M, at least three each.
        seeds: per width at the first look; rows that it leaves open get up to sixteen times as many.
        seed: of the random numbers.
        tolerance: how far a measured exponent may lie from the derived one.
        generic: the sample is generic.  Where a law of large numbers was taken, the derived size is an upper bound that
            rests on a mean not being zero; a smaller measured value then means that the law loses a parity (or that the
            sample has a symmetry of its own, which the engine cannot know of).  If False it is no error: the row
            stands in the table as inconclusive and says so.  A larger value always is an error.

    Raises:
        RuleError: the rule fails; the message says in what, with which numbers, and where to look.
        UnknownName: no rule of that name.
    """
    chosen: Rule = find("rule", rule) if isinstance(rule, str) else rule
    with _known(chosen):
        sample = _sample(chosen)
        _check_declarations(chosen, sample)
        _check_torch(chosen, sample, seed)
        _check_backward(chosen, sample, seed)
        return _check_law(chosen, sample, widths or {}, seeds, seed, tolerance, generic)


def _check_declarations(rule: Rule, sample: Sample) -> None:
    problems: list[str] = []
    if not rule.words.strip():
        problems.append("no words: the first line of the docstring is the law in words, which derivations print.")
    if not rule.source.strip():
        problems.append("no source: a paper with equation number, or 'definition'.")
    for op in sample.program.ops:
        if op.rule == rule.name:
            page: object = rule.latex(op, *(f"x_{{{k}}}" for k in range(len(op.inputs))))
            if not (isinstance(page, str) and page.strip()):
                problems.append(f"latex() of {op.name} gives {page!r}, no text.")
    if problems:
        raise RuleError(rule, "declarations", "latex" if "latex()" in problems[0] else "__doc__", problems)


def _values(sample: Sample, widths: Mapping[str, int], seeds: int, seed: int, wanted: Sequence[int]) -> Any:
    from scalecalc.measure.interpret import Setting, draw_leaves
    from scalecalc.measure.interpret import run as evaluate

    live = sample.program.live(wanted)
    leaves = draw_leaves(sample.program, Setting(widths, seeds, seed), sample.scalings, live)
    return evaluate(sample.program, leaves, wanted)


def _check_torch(rule: Rule, sample: Sample, seed: int) -> None:
    """The declared axes, and seeds that do not see each other."""
    from scalecalc.measure.interpret import Setting

    problems: list[str] = []
    for _i, op in _uses(rule, sample):
        axes = [sample.program.ops[j].axes for j in op.inputs]
        for widths in SIZES:
            inputs = _inputs(sample, op, _values(sample, widths, 3, seed, op.inputs))
            found = rule.torch(op, axes, *inputs)
            wanted = (3, *Setting(widths, 3, seed).shape(sample.program, op.axes))
            if tuple(found.shape) != wanted:
                problems.append(f"{op.name}: shape {tuple(found.shape)}, not {wanted} (seeds, {', '.join(op.axes)}).")
                break
            alone = rule.torch(op, axes, *(x[1:2] for x in inputs))
            if _distance(alone, found[1:2]) > ROUNDING:
                problems.append(f"{op.name}: the result of one seed depends on the others; axis 0 is the seeds.")
                break
    if problems:
        raise RuleError(rule, "torch", "torch", problems)


def _uses(rule: Rule, sample: Sample) -> list[tuple[int, Op]]:
    """The uses of the rule that the sample itself records, not those that its backward does."""
    return [(i, op) for i, op in enumerate(sample.program.ops[: sample.output.index + 1]) if op.rule == rule.name]


def _inputs(sample: Sample, op: Op, values: Mapping[int, torch.Tensor]) -> list[torch.Tensor]:
    return [values[j].detach() for j in op.inputs]


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference relative to the largest entry (at least 1); infinite where one is not finite."""
    if a.numel() == 0:
        return 0.0
    found = float((a - b).abs().max() / b.abs().max().clamp(min=1.0))
    return found if math.isfinite(found) else math.inf


def _check_backward(rule: Rule, sample: Sample, seed: int) -> None:
    """The recorded vector-Jacobian products against torch's own."""
    import torch

    worst: dict[str, tuple[float, str]] = {}
    for i, parts in sample.gradients.items():
        op, g = sample.program.ops[i], sample.cotangents[i][0]
        axes = [sample.program.ops[j].axes for j in op.inputs]
        for widths in SIZES:
            values = _values(sample, widths, 2, seed, [*op.inputs, g.index, *(part.index for part in parts.values())])
            inputs = [x.clone().requires_grad_() for x in _inputs(sample, op, values)]
            # torch's convention for complex numbers, which is the inner product's: Re Σ conj(g) f
            result = (rule.torch(op, axes, *inputs) * spread([g.axes], op.axes, values[g.index])[0].conj()).sum().real
            if result.requires_grad:
                expected = torch.autograd.grad(result, inputs, allow_unused=True)
            else:
                expected = [None] * len(inputs)
            for slot, part in parts.items():
                (found,) = spread([part.axes], axes[slot], values[part.index])
                known = expected[slot]
                known = torch.zeros_like(inputs[slot]) if known is None else known
                off = _distance(found, known)
                name = f"the gradient of {op.name} for its input {slot} ({sample.program.ops[op.inputs[slot]].name})"
                if off > max(ROUNDING, worst.get(name, (0.0, ""))[0]):
                    ratio = float((found * known).sum() / known.square().sum().clamp(min=1e-300))
                    text = f"differs from autograd by {off:.2g} of its size at {_cell(widths)}"
                    worst[name] = (off, f"{text}; recorded / autograd is {ratio:.4g} on average.")
    if worst:
        raise RuleError(rule, "backward", "backward", [f"{name} {text}" for name, (_, text) in worst.items()])


# ------------------------------------------------------------------ the law


def _check_law(
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
        raise RuleError(rule, "law", "law", [_problem(row) for row in wrong], wrong)
    program = sample.program
    return Table(program.name, tuple(done), program.dims, command="check_rule", options={"seed": seed, "seeds": seeds})


def _problem(row: Row) -> str:
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
        values = _values(sample, cell, min(size, seeds - start), int(state >> 1), wanted)
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


def _cell(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{d}={n}" for d, n in widths.items())


# ------------------------------------------------------------------ tables


def assert_agrees(table: Table, *, inconclusive: bool = True) -> None:
    """Assert that what was derived is what was measured, for a test of a model: ``assert_agrees(verify("s6"))``.

    Args:
        inconclusive: whether rows without a verdict either way are let through.

    Raises:
        AssertionError: rows that disagree (or are inconclusive), each with its numbers; or no row was measured.
    """
    judged = [row for row in table if row.verdict is not None]
    if not judged:
        raise AssertionError(f"no row of {table.model} was measured; derive only claims, verify measures.")
    refused = ("disagrees",) if inconclusive else ("disagrees", "inconclusive")
    bad = [row for row in judged if row.verdict in refused]
    if bad:
        lines = "\n".join(f"  {row.verdict}: {row.label}: {_problem(row)}" for row in bad)
        raise AssertionError(f"{len(bad)} of {len(judged)} rows of {table.model}:\n{lines}")


def assert_scaling(
    factory: Callable[..., Any],
    example_inputs: Callable[..., Any],
    *,
    dims: Mapping[str, Sequence[int]] | None = None,
    parameterization: str | Parameterization | None = None,
    optimizer: str | None = None,
    require: str = "stable",
    budget: float = 20.0,
    inconclusive: bool = True,
    **more: Any,
) -> Table:
    """Assert that a torch module scales as it should, in a test suite of one's own; returns the table.

    The module is traced, its sizes are derived and measured.  Nothing may be measured otherwise than derived, and no feature
    may explode with the widths, at initialisation or by the first updates.

    Args:
        factory, example_inputs: as ``path/to/file.py:factory`` has them.
        dims: widths to measure at, per growing dim.
        parameterization: a name, a file or a solution; what the module and its optimizer do, if not given.
        require: ``stable``, or ``""`` where only the measured sizes count.
        budget: seconds to measure.
        inconclusive: let rows pass that are still inconclusive after that.
        more: further arguments of :func:`scalecalc.verify`.

    Raises:
        AssertionError: with the rows.
        InputError: the module cannot be traced.
    """
    from scalecalc.measure.verify import verify
    from scalecalc.model import TorchModule

    if require not in ("stable", ""):
        raise InputError(f"require={require!r} is neither 'stable' nor ''.")
    model, scheme = TorchModule(factory, example_inputs), {"parameterization": parameterization, "optimizer": optimizer}
    measuring = ("seeds", "tolerance", "device", "dtype", "seed", "resume", "progress")
    table = derive(model, **scheme, **{k: v for k, v in more.items() if k not in measuring})
    explode = [r for r in table if r.klass == "exploding" and r.kind in ("init", "update")] if require else []
    if explode:
        lines = "".join(f"\n  {r.label}: {r.formula()}" for r in explode)
        raise AssertionError(f"{len(explode)} of {len(table.rows)} rows of {table.model} explode with the widths:{lines}")
    table = verify(model, dims=dims, budget=budget, **scheme, **more)
    assert_agrees(table, inconclusive=inconclusive)
    return table
