"""The scale interpreter: the value of every operation of a program, by the rules' laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scalecalc import backward, duration
from scalecalc.errors import UnsupportedScale
from scalecalc.model import Model
from scalecalc.program import LEAVES, Op, Program
from scalecalc.repeat import Verdicts, inside, left_out, settle
from scalecalc.rule import Rule
from scalecalc.scale import Scale
from scalecalc.term import Term, atom, dim_of, pattern
from scalecalc.value import Algebra, Value, exact_value

if TYPE_CHECKING:
    from scalecalc.cuts import Cuts

ONE = Scale.one()


def run(
    program: Program,
    algebra: Algebra,
    weights: Mapping[str, Value],
    wanted: Sequence[int],
    cuts: Cuts | None = None,
    verdicts: Verdicts | None = None,
) -> list[Value | None]:
    """The scale interpreter: the value of every operation that the wanted ones need, in order.

    What depends on something that is no power of the widths has none; ``verdicts`` says why.

    Args:
        cuts: where what is carried on is a summary of the value (which is returned as it is).
    """
    live = program.live(wanted)
    limits = replace(algebra.limits, centred=_centred(program, live), harmonics=harmonics(program))
    passed = _Pass(program, replace(algebra, limits=limits), weights, cuts, verdicts or Verdicts())
    for i in range(len(program.ops)):
        if live[i] and i not in passed.done:
            passed.evaluate(i)
    return [passed.found(i) for i in range(len(program.ops))]


class _Pass:
    """One run under way: the values found so far, ``whole`` where they are carried on as a summary."""

    def __init__(
        self, program: Program, algebra: Algebra, weights: Mapping[str, Value], cuts: Cuts | None, verdicts: Verdicts
    ):
        self.program, self.algebra, self.weights, self.cuts, self.verdicts = program, algebra, weights, cuts, verdicts
        self.out: list[Value | None] = [None] * len(program.ops)
        self.whole: dict[int, Value] = {}
        self.done = set[int]()

    def found(self, i: int) -> Value | None:
        """The value of an operation, all of it."""
        value = self.whole.get(i, self.out[i])
        return replace(self.algebra, at=self.program.ops[i].name).whole(value) if value and value.multiples else value

    def evaluate(self, i: int) -> None:
        self.done.add(i)
        here = replace(self.algebra, rule=self.program.ops[i].rule, at=self.program.ops[i].name, place=i)
        value = self._value(i, here)
        self._put(i, value)
        if value is not None and i in self.program.loops:
            self._repeat(i, value, here)

    def _value(self, i: int, here: Algebra) -> Value | None:
        program, op = self.program, self.program.ops[i]
        labels = program.growing(op.axes)
        if op.rule == "weight":
            return replace(self.weights[op.name], labels=labels)
        if op.rule == "input":
            odd = [atom(f"input {i}", labels)] if labels else []
            odd += duration.own_noise(program) if op.name == duration.NOISE else ()
            return Value(labels, (Term(ONE, pattern((), odd), (), here.step("independent standard normal entries")),))
        if op.rule == "index":
            value = _exact(program, op, op.params.get("expression"), here)
            return here.scale(value, op.params["scale"], f"times {op.params['scale']}") if "scale" in op.params else value
        if left_out(program, i):
            return Value(labels, ())
        inputs: list[Value] = []
        for j in op.inputs:
            if (known := self.out[j]) is None:
                return None
            inputs.append(known)
        rule = backward.rule_of(program, i)
        if here.alike is None or not rule.nameless or here.limits.centred:
            return _applied(rule, here, op, labels, inputs)
        told = (op.rule, op.axes, op.complex, tuple(op.params.items()), labels, here.limits, here.margin)
        return here.alike.once(told, inputs, lambda: rule.law(here, op, labels, *inputs))  # at a point nothing decays

    def _put(self, i: int, value: Value | None) -> None:
        if value is None:
            self.out[i] = None
            return
        op = self.program.ops[i]
        if not op.complex and any(imaginary(t) for t in value.terms):
            value = value.only(lambda t: not imaginary(t))  # cancelled by its conjugate, which is there, too
        own = frozenset((i, label) for label in self.program.growing(op.axes))
        value = replace(value, ray=value.ray | own)
        if value.multiples and (self.program.loops or all(t.tag for t in value.terms)):  # of nothing they are nothing
            value = replace(self.algebra, at=op.name).whole(value)
        if self.cuts is not None and i in self.cuts.at:
            self.whole[i], value = value, self.cuts.cut(i, value)
        self.out[i] = value

    def _repeat(self, start: int, entering: Value, here: Algebra) -> None:
        """Repeated blocks: what enters them, and with it all that is made of it."""
        program, block = self.program, inside(self.program, start)
        end = program.loops[start].increment
        needed = program.before(end)
        for i in range(start + 1, end):  # weights, and what is made of them alone
            if i in needed and i not in block and i not in self.done:
                self.evaluate(i)

        def added(value: Value) -> Value | None:
            self._put(start, value)
            for i in block:
                self.evaluate(i)
            return self.out[end]

        found = settle(program, start, entering, here, added, self.verdicts)
        if found is None:
            for i in (start, *block):
                self._put(i, None)


def _applied(rule: Rule, algebra: Algebra, op: Op, labels: tuple[str, ...], values: Sequence[Value]) -> Value:
    """The value of an operation's result, whose inputs may have shrunk by weight decay.

    No more than all of it decays (:meth:`scalecalc.optimizer.Optimizer.update`), so that what a decay and another update do
    together is no larger than what that other does alone.
    """
    degrees = rule.degrees(op, *values) if any(value.multiples for value in values) else None
    if degrees is None:
        return _told(rule, algebra, op, labels, [algebra.whole(value) for value in values])
    kept = {(m.tag, m.size): m for value, degree in zip(values, degrees, strict=True) if degree for m in value.multiples}
    out = _told(rule, algebra, op, labels, [replace(value, multiples=()) for value in values])
    return replace(out, multiples=tuple(kept.values()))


def _told(rule: Rule, algebra: Algebra, op: Op, labels: tuple[str, ...], values: Sequence[Value]) -> Value:
    """A rule's law; where it has none, the error says of which operation."""
    try:
        return rule.law(algebra, op, labels, *values)
    except UnsupportedScale as error:
        if not op.where or op.where in str(error):
            raise
        raise UnsupportedScale(f"{op.name or op.rule}, at {op.where}: {error}") from error


def _centred(program: Program, live: Sequence[bool]) -> frozenset[str]:
    """The growing dims along which an operation removes a mean."""
    inner = [(i, op) for i, op in enumerate(program.ops) if live[i] and op.rule not in LEAVES]
    over = {label for i, op in inner for label in backward.rule_of(program, i).centred(op)}
    return frozenset(dim_of(label) for label in over if program.grows(label))


def harmonics(program: Program) -> int:
    """The highest phase of what a function may be multiplied with: an input factor's own, and one per lag of a recurrence.

    What is passed back through time is multiplied with powers of the same factors over the same steps, never more of them.
    """
    inner = [(i, op) for i, op in enumerate(program.ops) if op.rule not in LEAVES and not op.backward]
    return 1 + sum(backward.rule_of(program, i).lags(op) for i, op in inner)


def imaginary(term: Term) -> bool:
    """Is it i times something real?"""
    profiles = [p for _, p in term.pattern.profiles]
    return bool(profiles) and all(p.straight for p in profiles) and sum(p.imaginary for p in profiles) % 2 == 1


def exact_leaf(labels: Sequence[str], expression: Any, algebra: Algebra) -> Value:
    """The value of a leaf that is an exact sympy expression in the index along its last growing axis."""
    from scalecalc.indexed import profiles_of

    step = algebra.step(f"exact: {expression}")
    if expression == 0:
        return Value(tuple(labels), (), expression)
    if not labels:
        return exact_value(labels, {}, expression, step)
    terms = (Term(ONE, pattern([(labels[-1], profile)]), (), step) for profile in profiles_of(expression))
    return Value(tuple(labels), tuple(terms), expression)


def _exact(program: Program, op: Op, expression: Any, algebra: Algebra) -> Value:
    """The value of an exact leaf: its index runs along its last axis, and where that is fixed it is a generic constant."""
    from scalecalc.asymptotics import n

    labels = program.growing(op.axes)
    if expression is None:
        return algebra.flat(labels, law="a table of numbers along axes that do not grow")
    if labels and labels[-1] != op.axes[-1] and expression.has(n):
        return algebra.flat(labels, law=f"exact: {expression}, along an axis that does not grow")
    return exact_leaf(labels, expression, algebra)


def initial_weights(model: Model, algebra: Algebra) -> dict[str, Value]:
    """The effective weights m·w at initialisation: one atom each, free in every growing axis."""
    out: dict[str, Value] = {}
    for op in model.program.ops:
        if op.rule != "weight":
            continue
        labels = model.program.growing(op.axes)
        scaling = model.scalings[op.name]
        here = replace(algebra, rule="weight", at=op.name)
        if op.params["init"] is not None or "values" in op.params:
            out[op.name] = _exact(model.program, op, op.params["init"], here)
            if "scale" in op.params:
                out[op.name] = here.scale(out[op.name], op.params["scale"], f"times {op.params['scale']}")
            continue
        size = scaling.init * scaling.multiplier
        law = f"independent centred entries of size {scaling.init}, multiplier {scaling.multiplier}"
        odd = [atom(op.name, labels)] if labels else []
        out[op.name] = Value(labels, (Term(size, pattern((), odd), (), here.step(law)),))
    return out
