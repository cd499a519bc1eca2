"""The torch interpreter: drawing leaves, running a program, freeing what is used up."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import sympy as sp
import torch

from scalecalc.asymptotics import n
from scalecalc.errors import MeasureError, ProgramError
from scalecalc.measure import interpret
from scalecalc.measure.interpret import Setting, draw_leaves, elements, rms, run
from scalecalc.program import Program
from scalecalc.rule import registry
from scalecalc.scale import Scale
from scalecalc.table import WeightScaling

registry("rule")  # so that rule files can be imported
from scalecalc.rules.elementwise import square  # noqa: E402
from scalecalc.rules.matmul import matmul  # noqa: E402
from scalecalc.rules.reduction import total  # noqa: E402

ONE = Scale.one()
UNIT = {"W": WeightScaling(ONE, ONE, ONE)}


def small() -> Program:
    p = Program("small", dims=("N", "M"), fixed={"batch": 3, "in": 4})
    W, x = p.weight("W", "N in"), p.input("x", "batch in")
    h = p.feature("h", matmul(W, x))
    p.end(p.feature("f", square(h)))
    return p


def leaves(program: Program, seeds: int = 5, seed: int = 0, **more: Any) -> dict[int, torch.Tensor]:
    widths = {"N": more.pop("N", 6), "M": 7}
    scalings = more.pop("scalings", UNIT)
    return draw_leaves(program, Setting(widths, seeds, seed, **more), scalings, [True] * len(program.ops))


def test_leaves_are_reproducible_per_seed_and_differ_across_seeds_widths_and_copies() -> None:
    p = small()
    first, again, other, wider = (leaves(p, seed=s, N=width) for s, width in ((0, 6), (0, 6), (1, 6), (0, 8)))
    for i in (0, 1):
        assert torch.equal(first[i], again[i])
        assert not torch.equal(first[i], other[i])
        assert not torch.equal(first[i][0], first[i][1])
    assert (first[0].shape, wider[0].shape) == ((5, 6, 4), (5, 8, 4))
    assert not torch.equal(first[1], wider[1]), "x of two widths are the same numbers: no independent samples"


def test_only_live_leaves_are_drawn() -> None:
    p = small()
    p.input("unused", "batch N")
    live = p.live([p.features["f"]])
    assert set(draw_leaves(p, Setting({"N": 2}, 1, 0), UNIT, live)) == {0, 1}


def test_weights_have_the_size_that_the_parameterization_says_divided_by_the_fixed_fan_in() -> None:
    p = small()
    scalings = {"W": WeightScaling(Scale.of("N", "-1/2"), Scale.of("N", 2), ONE)}
    values = leaves(p, seeds=4000, N=9, scalings=scalings)
    assert float(rms(values[0]).mean()) == pytest.approx(9**1.5 / 2, rel=0.02)
    assert float(rms(values[1]).mean()) == pytest.approx(1.0, rel=0.05)
    assert float(values[1].mean()) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (-(n + 1), [-1, -2, -3]),
        (1 / (n + 1) ** 2, [1, 1 / 4, 1 / 9]),
        (sp.exp(-n) + sp.sqrt(n + 1), [2.0, 0.36787944117144233 + 2**0.5, 0.1353352832366127 + 3**0.5]),
        (sp.Integer(2), [2, 2, 2]),
    ],
)
def test_exact_vectors_are_the_same_for_all_seeds_and_along_all_but_the_last_axis(
    expression: Any, expected: Any
) -> None:
    p = Program("exact", dims=("N", "M"))
    p.index("A", "M", expression)
    p.weight("D", "N M", init=expression)
    values = draw_leaves(p, Setting({"N": 2, "M": 3}, 4, 0), {}, [True, True])
    wanted = torch.tensor(expected, dtype=torch.float64)
    assert torch.allclose(values[0], wanted.expand(4, 3), rtol=1e-15)
    assert torch.allclose(values[1], wanted.expand(4, 2, 3), rtol=1e-15)


def test_an_exact_constant_has_the_seed_axis_alone() -> None:
    p = Program("constant", dims=("N",))
    p.index("Delta", "", sp.Rational(1, 4))
    assert torch.equal(leaves(p, seeds=3)[0], torch.full((3,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_kept_throughout_and_changes_numbers_by_rounding_only(dtype: torch.dtype) -> None:
    p = small()
    p.index("A", "M", n + 1)
    values = leaves(p, dtype=dtype)
    assert {v.dtype for v in values.values()} == {dtype}
    (f,) = run(p, values, [p.features["f"]]).values()
    assert f.dtype == dtype
    (exact,) = run(p, leaves(p), [p.features["f"]]).values()
    assert torch.allclose(f.double(), exact, rtol=1e-5, atol=1e-5)


def test_run_computes_what_the_program_says() -> None:
    p = small()
    values = leaves(p)
    found = run(p, values, [p.features["h"], p.features["f"]])
    expected = torch.einsum("sni,sbi->snb", values[0], values[1])
    assert p.ops[p.features["h"]].axes == ("N", "batch")
    assert torch.allclose(found[p.features["h"]], expected)
    assert torch.allclose(found[p.features["f"]], expected**2)
    assert list(found) == [p.features["h"], p.features["f"]]


def test_given_results_are_used_and_nothing_before_them_is_run_or_needed() -> None:
    p = small()
    h = p.features["h"]
    seen: list[int] = []
    (f,) = run(p, {h: torch.full((1, 6, 3), 2.0)}, [p.features["f"]], lambda i, *_: seen.append(i)).values()
    assert torch.equal(f, torch.full((1, 6, 3), 4.0))
    assert seen == [p.features["f"]]


def test_what_is_not_wanted_is_freed_after_its_last_use() -> None:
    p = Program("chain", dims=("N",))
    t = p.input("x", "N")
    for _ in range(6):
        t = square(t)
    alive: dict[int, weakref.ref[torch.Tensor]] = {}
    most = 0

    def watch(i: int, result: torch.Tensor, inputs: Any) -> None:
        nonlocal most
        alive[i] = weakref.ref(result)
        most = max(most, sum(ref() is not None for ref in alive.values()))

    values = leaves(p)
    found = run(p, values, [3, t.index], watch)
    assert set(found) == {3, t.index}
    assert alive[3]() is found[3], "a wanted result is kept, although it has been used"
    assert most <= 3, "more than one result, its input and the wanted one at a time"
    assert torch.equal(values[0], leaves(p)[0]), "given tensors stay the caller's"


def test_memory_runs_out_with_advice_and_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    p = small()
    rule = registry("rule")["square"]

    def fail(text: str) -> Any:
        def torch_(*_: Any) -> Any:
            raise RuntimeError(text)

        return torch_

    monkeypatch.setattr(type(rule), "torch", fail("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(MeasureError, match=r"not enough memory for f \(N batch\); measure at smaller widths"):
        run(p, leaves(p), [p.features["f"]])
    monkeypatch.setattr(type(rule), "torch", fail("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(p, leaves(p), [p.features["f"]])


def test_axes_that_are_not_there() -> None:
    p = small()
    h = p.tensor(p.features["h"])
    with pytest.raises(ProgramError, match="axis 'time' in small is neither a growing dim"):
        p.input("y", "time N")
    with pytest.raises(ProgramError, match="two axes of one tensor share a label"):
        p.input("y", "N N")
    (summed,) = run(p, leaves(p), [total(h, ["batch"]).index]).values()
    assert summed.shape == (5, 6)
    with pytest.raises(ProgramError, match="no single axis of h matches M"):
        matmul(p.weight("V", "N M"), h)


def test_rms_is_per_seed() -> None:
    assert torch.equal(rms(torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]])), torch.tensor([12.5**0.5, 0.0]))
    assert torch.equal(rms(torch.tensor([2.0, -3.0])), torch.tensor([2.0, 3.0]))


def test_elements_counts_the_largest_tensors() -> None:
    p = small()  # W 24, x 12, h 18, f 18: none is four times smaller than the largest
    assert elements(p, {"N": 6, "M": 7}) == 24 + 12 + 18 + 18
    assert elements(p, {"N": 600, "M": 7}) == 2400 + 1800 + 1800
    assert interpret.Setting({"N": 2, "M": 3}, 1, 0).shape(p, ("N", "N'", "batch")) == (2, 2, 3)
