"""The recorded backward pass of whole programs, run by the torch interpreter, against torch's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch

from scalecalc.backward import record_backward, rule_of
from scalecalc.derive import run as derive_run
from scalecalc.errors import MissingRule, ScalecalcError, UnknownName
from scalecalc.measure.interpret import Setting, draw_leaves, run
from scalecalc.model import Model, resolve
from scalecalc.program import Program
from scalecalc.rule import find, registry, spread
from scalecalc.value import Algebra, Value

registry("rule")  # so that rule files can be imported
from scalecalc.rules.elementwise import Elementwise, relu  # noqa: E402
from scalecalc.rules.loss import start  # noqa: E402
from scalecalc.rules.matmul import matmul  # noqa: E402

# signs and steps pass no gradient: a test of their own below; log1p is of what is never negative
FLAT = ("sign", "step")
OTHERS = (*FLAT, "log1p")
ACTIVATIONS = [name for name, rule in registry("rule").items() if isinstance(rule, Elementwise) and name not in OTHERS]
WIDTHS = {"N": 7, "N_u": 6, "N_x": 5}
LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "linear": lambda f, c: (c * f).sum(),
    "mse": lambda f, y: (f - y).square().sum() / 2,
    "logistic": lambda f, y: (torch.nn.functional.softplus(f) - y * f).sum(),
    # seeds first, then classes: the output of both models below
    "cross_entropy": lambda f, y: torch.nn.functional.cross_entropy(f, y.argmax(1), reduction="sum"),
}


def difference(model: Model, seed: int = 0, **more: int) -> dict[str, float]:
    """Per weight and feature, how far its recorded gradient is from autograd's, relative to its largest entry."""
    program = model.program
    widths = {dim: (WIDTHS | more)[dim] for dim in program.dims}
    named = dict(program.features)
    named |= {op.name: i for i, op in enumerate(program.ops) if op.rule == "weight" and i in program.gradients}
    recorded = {name: program.gradients[i] for name, i in named.items()}
    wanted = [*recorded.values(), *named.values()]
    leaves = draw_leaves(program, Setting(widths, 2, seed), model.scalings, [True] * len(program.ops))
    values = run(program, leaves, wanted)
    # Each tensor in turn is given, so that torch sees it as a leaf and has a gradient for it.
    out: dict[str, float] = {}
    assert program.loss is not None
    target = next((i for i, op in enumerate(program.ops) if op.name == "loss target"), program.gradients[program.loss])
    for name, i in named.items():
        leaf = values[i].detach().clone().requires_grad_()
        (f,) = run(program, {**leaves, i: leaf}, [program.loss]).values()
        (y,) = spread([program.ops[target].axes], program.ops[program.loss].axes, leaves[target])
        (expected,) = torch.autograd.grad(LOSSES[model.loss](f, y), leaf)
        (found,) = spread([program.ops[recorded[name]].axes], program.ops[i].axes, values[recorded[name]])
        assert found.shape == expected.shape, name
        out[name] = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-300))
    return out


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp(depth: int, activation: str) -> None:
    found = difference(resolve("mlp", options={"depth": depth, "activation": activation}))
    assert {"W_in", "W_out", "h1", "f", *(f"W_{k}" for k in range(2, depth + 1))} <= set(found)
    assert max(found.values()) < 1e-12, found


@pytest.mark.parametrize(
    ("scheme", "step", "skip"),
    list(product(["zoh", "euler", "bilinear", "mamba"], ["selective", "fixed"], [False, True])),
)
def test_s6(scheme: str, step: str, skip: bool) -> None:
    found = difference(resolve("s6", options={"discretization": scheme, "step": step, "skip": skip}))
    assert {"W_in", "W_B", "W_C", "W_out", "u", "B", "C", "h", "y", "f"} <= set(found)
    assert ("W_Delta" in found) == ("Delta" in found) == (step == "selective")
    assert ("D" in found) == skip
    assert max(found.values()) < 1e-11, found


@pytest.mark.parametrize(
    "model",
    [
        "residual:depth=1,norm=group", "conv:norm=group,pooling=max", "mlp:dropout=yes", "moe:routing=top1", "dense_ssm",
        "transformer:kv=grouped,rotary=yes,qk_norm=yes", "s5:step=trained", "deltanet:gated=yes",
    ],
)  # fmt: skip
def test_zoo(model: str) -> None:
    found = difference(resolve(model), N=8)  # which heads and groups divide
    assert max(found.values()) < 1e-10, found


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", ["mlp", "s6"])
def test_losses(model: str, loss: str) -> None:
    found = difference(resolve(model, loss=loss), seed=3)
    assert max(found.values()) < 1e-11, found


def test_the_comparison_can_fail() -> None:
    found = difference(resolve("mlp", loss="linear"))
    model = resolve("mlp", loss="mse")
    wrong = difference(replace(model, loss="linear"))
    assert max(found.values()) < 1e-12 < 1e-2 < min(wrong.values())


def test_a_weight_used_twice_gets_both_gradients() -> None:
    model = resolve("mlp")
    p = Program("tied", dims=("N",), fixed={"batch": 3, "in": 4})
    W, x = p.weight("W", "N in"), p.input("x", "batch in")
    h = p.feature("h", relu(matmul(W, x)) * matmul(W, x))
    p.end(h)
    record_backward(p, start(h, "linear"))
    scalings = {"W": model.scalings["W_in"]}
    assert max(difference(replace(model, program=p, scalings=scalings)).values()) < 1e-12


def test_backward_is_recorded_once_and_only_where_a_weight_is() -> None:
    program = resolve("s6").program
    length, gradients = len(program.ops), dict(program.gradients)
    assert program.loss is not None
    record_backward(program, program.tensor(program.loss))
    assert (len(program.ops), program.gradients) == (length, gradients)
    trainable = program.trainable()
    assert all(trainable[i] and i < program.forward_length for i in gradients)
    assert not any(op.rule in ("input", "index") for i, op in enumerate(program.ops) if i in gradients)
    assert [op.backward for op in program.ops] == [i > program.forward_length - 1 for i in range(length)]


def test_an_output_that_no_weight_reaches_has_no_gradients() -> None:
    p = Program("fixed", dims=("N",))
    p.end(relu(p.input("x", "N")))
    assert p.loss is not None
    record_backward(p, start(p.tensor(p.loss), "linear"))
    assert p.gradients == {}


def test_a_resolved_program_without_its_backward_pass_still_runs() -> None:
    whole, bare = resolve("s6"), find("architecture", "s6").make()
    assert not bare.gradients
    f = bare.features["f"]
    results = []
    for program in (whole.program, bare):
        leaves = draw_leaves(program, Setting(WIDTHS, 2, 0), whole.scalings, program.live([f]))
        results.append(run(program, leaves, [f])[f])
    assert torch.equal(*results)


def without_rule() -> Program:
    p = Program("mine", dims=("N",), fixed={"batch": 2, "in": 3})
    h = matmul(p.weight("W", "N in"), p.input("x", "batch in"))
    p.end(p.feature("h", p.record("wavelet", (h,), h.axes)))
    return p


JOBS: dict[str, Callable[[Program, int], object]] = {
    "look up": rule_of,
    "backward": lambda p, i: record_backward(p, start(p.tensor(i), "linear")),
    "torch": lambda p, i: run(p, {j: torch.ones(1) for j in range(i)}, [i]),
    "scale": lambda p, i: derive_run(p, Algebra(), {"W": Value(("N",), ())}, [i]),
}


@pytest.mark.parametrize("job", JOBS)
def test_an_operation_without_a_rule_is_named_with_its_place(job: str) -> None:
    p = without_rule()
    place = r"no rule for the operation 'wavelet' \(at h \(test_backward.py:\d+\)\)"
    with pytest.raises(MissingRule, match=place) as caught:
        JOBS[job](p, p.features["h"])
    assert caught.value.operation == "wavelet"
    assert isinstance(caught.value, ScalecalcError)


def test_a_loss_that_is_not_there() -> None:
    with pytest.raises(UnknownName, match="there is no loss 'hinge'"):
        resolve("mlp", loss="hinge")
    with pytest.raises(UnknownName, match="there is no loss 'l1'"):
        start(without_rule().tensor(0), "l1")


@pytest.mark.parametrize("name", FLAT)
def test_a_function_that_is_flat_almost_everywhere_passes_no_gradient(name: str) -> None:
    p = Program("step", dims=("N",), fixed={"batch": 2, "in": 3})
    h = matmul(p.weight("W", "N in"), p.input("x", "batch in"))
    p.end(p.record(name, (h,), h.axes, order=0))
    assert p.loss is not None
    record_backward(p, start(p.tensor(p.loss), "linear"))
    assert list(p.gradients) == [p.loss]
