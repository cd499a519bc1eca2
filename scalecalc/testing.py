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
disagree with probability below ``scalecalc.checks.law.ERROR``.  A row that stays open is an error, too, with what would
settle it.

To debug a row that disagrees: record the sample in a :class:`~scalecalc.program.Program`, run ``scalecalc.derive.run`` and
print the terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scalecalc.checks.law import check_law, problem
from scalecalc.checks.sample import RuleError, Sample, sample_of, values_of
from scalecalc.errors import InputError
from scalecalc.program import Op
from scalecalc.rule import Rule, find, registry, spread
from scalecalc.table import Table

if TYPE_CHECKING:
    import torch

    from scalecalc.model import TorchModule
    from scalecalc.parameterization import Parameterization

__all__ = ["RuleError", "assert_agrees", "assert_scaling", "check_rule"]

SIZES = ({"N": 5, "M": 3}, {"N": 2, "M": 7}, {"N": 1, "M": 1})  # of the backward check
SEEDS = 128
TOLERANCE = 0.12  # exponents are multiples of 1/4 or so: less than half way to the next
FACTOR = 2.0  # by which inputs are multiplied, of which the rule says that it is homogeneous in them
ROUNDING = 1e-10  # of float64 results, relative to the largest entry


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
        sample = sample_of(chosen)
        _check_declarations(chosen, sample)
        _check_torch(chosen, sample, seed)
        _check_degrees(chosen, sample, seed)
        _check_backward(chosen, sample, seed)
        return check_law(chosen, sample, widths or {}, seeds, seed, tolerance, generic)


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


def _check_torch(rule: Rule, sample: Sample, seed: int) -> None:
    """The declared axes, and seeds that do not see each other."""
    from scalecalc.measure.interpret import Setting

    problems: list[str] = []
    for _i, op in _uses(rule, sample):
        axes = [sample.program.ops[j].axes for j in op.inputs]
        for widths in SIZES:
            inputs = _inputs(sample, op, values_of(sample, widths, 3, seed, op.inputs))
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


def _check_degrees(rule: Rule, sample: Sample, seed: int) -> None:
    """An input that is multiplied by a number: the result is, by its power."""
    problems: list[str] = []
    for _i, op in _uses(rule, sample):
        axes = [sample.program.ops[j].axes for j in op.inputs]
        inputs = _inputs(sample, op, values_of(sample, SIZES[0], 3, seed, op.inputs))
        found = rule.torch(op, axes, *inputs)
        for slot, degree in enumerate(rule.degrees(op) or ()):
            larger = [FACTOR * x if k == slot else x for k, x in enumerate(inputs)]
            if (off := _distance(rule.torch(op, axes, *larger), FACTOR**degree * found)) > ROUNDING:
                text = f"differs by {off:.2g} of its size from {FACTOR:g}^{degree:g} times what it was"
                problems.append(f"{op.name}: where input {slot} is {FACTOR:g} times as large the result {text}.")
    if problems:
        raise RuleError(rule, "degrees", "degrees", problems)


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
            values = values_of(sample, widths, 2, seed, [*op.inputs, g.index, *(part.index for part in parts.values())])
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
    __tracebackhide__ = True  # pytest shows the user's own line
    judged = [row for row in table if row.verdict is not None]
    if not judged:
        raise AssertionError(f"no row of {table.model} was measured; derive only claims, verify measures.")
    refused = ("disagrees",) if inconclusive else ("disagrees", "inconclusive")
    bad = [row for row in judged if row.verdict in refused]
    if bad:
        lines = "\n".join(f"  {row.verdict}: {row.label}: {problem(row)}" for row in bad)
        raise AssertionError(f"{len(bad)} of {len(judged)} rows of {table.model}:\n{lines}")


def assert_scaling(
    model: str | TorchModule | Callable[..., Any],
    example_inputs: Callable[..., Any] | None = None,
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
        model: a factory of modules beside its ``example_inputs``, as ``path/to/file.py:factory`` has them; or that text, or
            any other model.
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

    __tracebackhide__ = True
    if require not in ("stable", ""):
        raise InputError(f"require={require!r} is neither 'stable' nor ''.")
    if callable(model):
        if example_inputs is None:
            raise InputError("a factory needs its example_inputs beside it: assert_scaling(factory, example_inputs).")
        model = TorchModule(model, example_inputs)
    more |= {"parameterization": parameterization, "optimizer": optimizer, "dims": dims, "budget": budget}
    __tracebackhide__ = True  # the message says it all; our own lines above it say nothing to a user
    try:
        table = verify(model, derived=_assert_stable if require else None, **more)
    except _Explodes as error:
        raise AssertionError(*error.args) from None
    assert_agrees(table, inconclusive=inconclusive)
    return table


class _Explodes(AssertionError):
    """A derived row explodes."""


def _assert_stable(table: Table) -> None:
    """No feature explodes, before anything is measured.

    Raises:
        AssertionError: one does.
    """
    explode = [r for r in table if r.klass == "exploding" and r.kind in ("init", "update")]
    if explode:
        lines = "".join(f"\n  {r.label}: {r.formula()}" for r in explode)
        raise _Explodes(f"{len(explode)} of {len(table.rows)} rows of {table.model} explode with the widths:{lines}")
