"""Measuring on another device: every tensor is made there and stays there until it is a number of the result.

There need be no GPU: torch's fake tensors have a device and no numbers, and an operation on two devices is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from test_scan import Case
from torch._subclasses.fake_tensor import FakeTensorMode

from scalecalc.backward import rule_of
from scalecalc.derive import interpret, resolve, table_of
from scalecalc.measure import contributions, verify
from scalecalc.measure import interpret as interpreter
from scalecalc.measure.contributions import Plan, measure
from scalecalc.measure.interpret import Setting
from scalecalc.measure.scan import operator
from scalecalc.scale import FREE
from scalecalc.transfer.networks import network

# not what indexes tensors: without CUDA torch cannot do that to fake ones
MODELS = (("mlp", "muon", 1), ("mlp", "adam", 2), ("s6", "adam", 1), ("lru", "sgd", 1), ("moe", "adam", 1))
NETWORKS = (("mlp", {"N": 8}), ("s6:skip=yes,gate=yes", {"N_u": 6, "N_x": 3}), ("transformer", {"N": 8}))


class Undrawn:
    """In place of torch.Generator, which there is none of for a device that is not there."""

    def __init__(self, device: str) -> None:
        assert device == "cuda"

    def manual_seed(self, _: int) -> None:
        return None


MADE = torch.as_tensor


def placed(values: Any, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> torch.Tensor:
    """In place of torch.tensor and torch.as_tensor, which would put their numbers on the device."""
    found = MADE(values, dtype=dtype)
    return found if isinstance(values, torch.Tensor) else torch.empty(found.shape, dtype=found.dtype, device=device)


def measured(monkeypatch: pytest.MonkeyPatch, model: str, optimizer: str, steps: int = 1) -> Mapping[Any, torch.Tensor]:
    """All rows of a model's table, measured on a GPU that is not there."""
    resolved = resolve(model, optimizer=optimizer)
    rows = table_of(interpret(resolved, FREE, corrections=True, steps=steps)).rows
    plan = Plan(resolved, tuple(row for row in rows if len(row.tag) <= 2))
    monkeypatch.setattr(interpreter.torch, "Generator", Undrawn)
    monkeypatch.setattr(contributions, "works_here", lambda *_: False)  # whose numbers decide how they are put together
    monkeypatch.setattr(torch, "tensor", placed)
    monkeypatch.setattr(torch, "as_tensor", placed)
    with FakeTensorMode():
        return measure(plan, Setting(dict.fromkeys(resolved.program.dims, 8), 2, 0, "cuda"))


@pytest.mark.parametrize(("model", "optimizer", "steps"), MODELS)
def test_every_tensor_stays_on_its_device(monkeypatch: pytest.MonkeyPatch, model: str, optimizer: str, steps: int) -> None:
    found = measured(monkeypatch, model, optimizer, steps)
    assert found
    assert all(x.device.type == "cpu" and x.dtype == torch.float64 for x in found.values())


def test_a_tensor_that_leaves_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rule that returns its result on the CPU."""

    class Leaving:
        def __init__(self, rule: Any) -> None:
            self.rule = rule

        def torch(self, *given: Any) -> torch.Tensor:
            return self.rule.torch(*given).cpu()

    monkeypatch.setattr(interpreter, "rule_of", lambda *where: Leaving(rule_of(*where)))
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        measured(monkeypatch, "mlp", "sgd")


def test_the_scan_keeps_its_device() -> None:
    """The operation's fake kernels, forward and backward, for a GPU."""
    with FakeTensorMode():
        x = [torch.empty(t.shape, device="cuda") for t in Case().tensors() if t is not None]
        y, last, *norms = operator.scan_op(*x, "zoh", True, 2, "triton")
        found = operator.backward_op(y, last, *x, "zoh", "triton")
    assert {t.device.type for t in (y, last, *norms, *found)} == {"cuda"}


@pytest.mark.parametrize(("name", "dims"), NETWORKS)
def test_networks_that_are_trained_keep_theirs(monkeypatch: pytest.MonkeyPatch, name: str, dims: dict[str, int]) -> None:
    """The sweep's own networks, forward and backward, on torch's meta device: autograd has no fake ones without CUDA."""
    monkeypatch.setattr(operator, "_backend", lambda *_: "triton")
    net = network(name)
    with torch.device("meta"):
        model = net.build(dims, 5, 5)
        x = torch.zeros(2, 3, dtype=torch.long) if net.reads == "text" else torch.zeros(2, 5)
    y = model(x)
    y.square().sum().backward()
    assert y.is_meta
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, x: forward(self, x).cpu())
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        model(x)


def test_full_precision_on_the_gpu_for_as_long_as_it_is_measured() -> None:
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [s.allow_tf32 for s in switches]
    try:
        for s in switches:
            s.allow_tf32 = True
        with verify.full_precision():
            assert not any(s.allow_tf32 for s in switches)
        assert all(s.allow_tf32 for s in switches)
    finally:
        for s, was in zip(switches, before, strict=True):
            s.allow_tf32 = was
