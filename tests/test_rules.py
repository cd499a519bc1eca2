"""Every rule against its own torch code, and the checker against rules that are wrong on purpose."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sympy as sp

from scalecalc import rule as rules
from scalecalc import rulebook
from scalecalc.asymptotics import n, x
from scalecalc.errors import UnknownName
from scalecalc.program import Program
from scalecalc.rule import Rule, registry
from scalecalc.scale import Scale
from scalecalc.table import Table
from scalecalc.term import Term, atom, pattern
from scalecalc.testing import RuleError, assert_agrees, check_rule

registry("rule")  # so that rule files can be imported
from scalecalc.rules.elementwise import Elementwise  # noqa: E402
from scalecalc.rules.matmul import Matmul  # noqa: E402
from scalecalc.rules.recurrence import Delay, Recurrence, recurrence  # noqa: E402
from scalecalc.rules.reduction import Sum  # noqa: E402
from scalecalc.rules.softmax import Softmax  # noqa: E402

ONE = Scale.one()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry("rule")))
def test_rule(name: str) -> None:
    assert_agrees(check_rule(name), inconclusive=False)


# ------------------------------------------------------------------ rules that are wrong


def changed(cls: type[Rule], *arguments: Any, name: str, **methods: Any) -> Rule:
    """An instance of a rule with some methods replaced."""
    doc = methods.pop("doc", "Wrong on purpose.")
    made = type("Wrong", (cls,), {"__doc__": doc, **methods})(*arguments)
    made.name, made.source = name, methods.get("source", "definition")
    return made


def function(expression: sp.Expr, **methods: Any) -> Rule:
    return changed(Elementwise, "wrong", expression, "definition", name="wrong", **methods)


def quarter(self: Any, algebra: Any, op: Any, labels: Any, *values: Any) -> Any:
    return algebra.scale(Elementwise.law(self, algebra, op, labels, *values), Scale.of("N", "1/4"), "wrong")


def with_parity(odd: Callable[[Term], Any]) -> Callable[..., Any]:
    def law(self: Any, algebra: Any, op: Any, labels: Any, *values: Any) -> Any:
        base = next(k for k in type(self).__mro__ if k.__name__ != "Wrong")
        out = base.law(self, algebra, op, labels, *values)  # type: ignore[attr-defined]
        terms = tuple(replace(t, pattern=pattern(t.pattern.profiles, odd(t))) for t in out.terms)
        return algebra.value(labels, terms)

    return law


def doubled(self: Any, inputs: Any, output: Any, g: Any) -> Any:
    (part,) = Elementwise.backward(self, inputs, output, g)
    assert part is not None
    return [part + part]


WRONG = {
    "size times N^(1/4)": (lambda: function(sp.tanh(x), law=quarter), "law", ["derived N^(1/4)", "0.25"]),
    "parity lost": (lambda: function(sp.tanh(x), law=with_parity(lambda t: ())), "law", ["less than", "assuming that"]),
    "parity kept": (
        lambda: function(x**2, law=with_parity(lambda t: [atom("input 0", ["N"])])),
        "law",
        ["derived N^(1/2)", "more than derived"],
    ),
    "source lost": (
        lambda: changed(Matmul, name="matmul", law=with_parity(lambda t: [atom("another", ["N"])])),
        "law",
        ["Σ_N W·x·W: derived M^(1/2) N^(1/2)", "more than derived"],
    ),
    "law of the wrong sum": (
        lambda: changed(Sum, name="sum", law=lambda self, algebra, op, labels, v: algebra.flat(labels)),
        "law",
        ["derived 1", "N^0.5"],
    ),
    "value on other axes": (
        lambda: changed(Delay, name="delay", law=lambda self, algebra, op, labels, v: algebra.flat(("M",))),
        "law",
        ["('M',)", "('N',)"],
    ),
    "backward doubled": (lambda: function(sp.tanh(x), backward=doubled), "backward", ["recorded / autograd is 2"]),
    "one gradient short": (
        lambda: changed(Matmul, name="matmul", backward=lambda self, inputs, output, g: [g]),
        "backward",
        ["2 inputs, 1 gradients"],
    ),
    "seeds mixed": (
        lambda: function(x, torch=lambda self, op, axes, t: t - t.mean(dim=0)),
        "torch",
        ["one seed depends on the others"],
    ),
    "axes dropped": (lambda: function(x, torch=lambda self, op, axes, t: t.sum(dim=-1)), "torch", ["shape (3, 4)"]),
    "another degree": (
        lambda: function(x**2, degrees=lambda self, op, *values: (1,)),
        "degrees",
        ["where input 0 is 2 times as large", "2^1 times"],
    ),
    "no degree": (lambda: changed(Softmax, name="softmax", degrees=lambda self, op, *values: (0,)), "degrees", ["2^0"]),
    "no words": (lambda: changed(Delay, name="delay", doc=None), "declarations", ["no words"]),
    "no source": (lambda: changed(Delay, name="delay", source=""), "declarations", ["no source"]),
    "no LaTeX": (lambda: changed(Delay, name="delay", latex=lambda self, op, *names: None), "declarations", ["None"]),
    "unused": (lambda: changed(Delay, name="late"), "declarations", ["records no operation 'late'"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_caught(case: str) -> None:
    make, check, words = WRONG[case]
    known = dict(registry("rule"))
    rule = make()
    with pytest.raises(RuleError) as caught:
        check_rule(rule)
    assert caught.value.check == check
    text = str(caught.value)
    assert f"the rule {rule.name!r} fails its {check} check" in text
    assert "Look at " in text
    assert all(word in text for word in words), text
    assert registry("rule") == known, "a rule under test stays in the registry"


def test_the_right_rule_under_another_name_passes() -> None:
    table = check_rule(function(sp.tanh(x)))
    assert table["Σ_N wrong(x+z)"].formula() == "N^(1/2)"
    assert table["Σ_N wrong(x+z)·x"].formula() == "N"


@pytest.mark.parametrize(
    ("decay", "drive"), [("batch time N", "batch N M"), ("N", "batch time N"), ("time", "time N M")]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrence_may_have_its_time_in_either_input(decay: str, drive: str, reverse: bool) -> None:
    def sample(self: Any, program: Program) -> Any:
        return recurrence(program.input("x", decay), program.input("z", drive), reverse=reverse)

    # a backward that is wrong, or torch code that drops an axis, is found before the law is measured
    check_rule(changed(Recurrence, name="recurrence", sample=sample), seeds=16, tolerance=10.0, generic=False)


def even_part_kept(self: Any, algebra: Any, op: Any, labels: Any, *values: Any) -> Any:
    """As if the even part of a sigmoid were no constant: what a rule that does not know so would derive."""
    out = Elementwise.law(self, algebra, op, labels, *values)
    odd = frozenset(a for t in values[0].terms for a in t.pattern.odd)
    return algebra.value(labels, (*out.terms, Term(ONE, pattern((), odd))))


def test_an_upper_bound_is_let_through_only_if_asked_for_and_is_reported() -> None:
    bound = function(1 / (1 + sp.exp(-x)), law=even_part_kept)
    with pytest.raises(RuleError, match="It is smaller than derived; the derived size is a bound, assuming that"):
        check_rule(bound)
    table = check_rule(bound, generic=False)
    row = table["Σ_N wrong(x+z)·x·z"]
    assert row.verdict == "inconclusive"
    assert "assuming that the summand has a mean" in row.settle
    with pytest.raises(AssertionError, match="inconclusive: Σ_N wrong"):
        assert_agrees(table, inconclusive=False)
    with pytest.raises(RuleError, match="more than derived"):  # a larger value is an error whatever was asked for
        check_rule(function(x**2, law=with_parity(lambda t: [atom("input 0", ["N"])])), generic=False)


def test_a_check_is_reproducible_and_depends_on_its_seed() -> None:
    first, again, other = (check_rule("tanh", seed=seed) for seed in (1, 1, 2))
    assert first.rows == again.rows != other.rows


def test_names_and_refusals() -> None:
    with pytest.raises(UnknownName, match="did you mean 'tanh'"):
        check_rule("tahn")

    def explodes(self: Any, program: Program) -> Any:
        growing = program.index("a", "N", -(n + 1))
        return recurrence(growing, program.input("x", "batch time N"))

    with pytest.raises(RuleError, match=r"the engine stops at the rule's own sample: .* it explodes"):
        check_rule(changed(Recurrence, name="recurrence", sample=explodes))


# ------------------------------------------------------------------ a user's rule

FILE = '''
from scalecalc.asymptotics import n, x
from scalecalc.rule import Rule, rule
from scalecalc.rules.elementwise import elementwise

cube = elementwise("my_cube", x**3)


@rule("my_twice", "definition")
class Twice(Rule):
    """Twice a tensor is as large as the tensor."""

    def law(self, algebra, op, labels, *values):
        return values[0]

    def backward(self, inputs, output, g):
        return [g + g]

    def torch(self, op, axes, *tensors):
        return 2 * tensors[0]

    def latex(self, op, *names):
        return "2" + names[0]

    def sample(self, program):
        x = program.input("x", "batch N")
        return program.record("my_twice", (x,), x.axes)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    modules, known = set(sys.modules), {kind: dict(registry(kind)) for kind in rules.KINDS}
    (tmp_path / "mine.py").write_text(FILE)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if name.startswith("scalecalc_rules_"):
            del sys.modules[name]
    rulebook._loaded.discard(tmp_path.resolve())
    for kind, entries in known.items():
        rules._REGISTRY[kind].clear()
        rules._REGISTRY[kind].update(entries)


def test_a_rule_of_a_users_passes(folder: Path) -> None:
    rulebook.load(folder)
    for name in ("my_cube", "my_twice"):
        assert_agrees(check_rule(name), inconclusive=False)


# ------------------------------------------------------------------ tables


def test_assert_agrees(derived: Table, verified: Table) -> None:
    with pytest.raises(AssertionError, match="no row of s6 was measured"):
        assert_agrees(derived)
    with pytest.raises(AssertionError, match=r"1 of 8 rows of s6:\n  disagrees: y, init: .*0.47"):
        assert_agrees(verified)
    rows = tuple(r for r in verified if r.verdict != "disagrees")
    assert_agrees(replace(verified, rows=rows))
    with pytest.raises(AssertionError, match="inconclusive: u, gradient"):
        assert_agrees(replace(verified, rows=rows), inconclusive=False)
