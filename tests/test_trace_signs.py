"""What the tracer knows of signs, bounds and logarithms: each is traced, and tracing checks output and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from modules import Net, refused, traced
from torch import nn

from scalecalc import TorchModule, derive
from scalecalc.report.json import read_json, to_json
from scalecalc.report.terminal import to_terminal
from scalecalc.trace import Found

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def build(forward: Callable[..., Any], **more: Any) -> Callable[..., nn.Module]:
    def make(N: int = 8) -> nn.Module:
        parts = {name: part(N) for name, part in more.items()}
        return Net(forward, a=nn.Linear(8, N), o=nn.Linear(N, 2, bias=False), d=nn.Linear(N, 1), **parts)

    return make


def rules_of(found: Found) -> set[str]:
    return {op.rule for op in found.program.ops}


def states(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.a(x).unsqueeze(1) * torch.arange(1.0, 5.0, dtype=x.dtype).reshape(1, 4, 1)


def decays(m: Any, h: torch.Tensor) -> torch.Tensor:
    """Δ A over time, never positive."""
    return F.softplus(m.d(h))[..., 0] * -torch.exp(torch.ones((), dtype=h.dtype))


def differences(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Mamba-2's decays as differences of one cumulative sum, between all times and to the last."""
    h = states(m, x)
    s = decays(m, h).cumsum(-1)
    between = (s[..., :, None] - s[..., None, :]).masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf).exp()
    return m.o(between @ h + (s[:, -1:] - s).exp().unsqueeze(-1) * h)


def segments(m: Any, x: torch.Tensor) -> torch.Tensor:
    """The same as sums of what a mask leaves."""
    h = states(m, x)
    lower = torch.ones(4, 4, dtype=torch.bool)
    wide = decays(m, h)[..., None].expand(-1, 4, 4).masked_fill(~lower.tril(-1), 0)
    return m.o(wide.cumsum(-2).masked_fill(~lower.tril(), -torch.inf).exp() @ h)


def running_maximum(m: Any, x: torch.Tensor) -> torch.Tensor:
    """RWKV's weighted mean, whose exponents are less their running maximum, which begins at −1e38."""
    h = states(m, x)
    above = below = torch.zeros_like(h[:, 0])
    most, out = torch.zeros_like(h[:, 0]) - 1e38, []
    for t in range(2):
        larger = torch.maximum(most - 0.5, h[:, t])
        kept, new = torch.exp(most - 0.5 - larger), torch.exp(h[:, t] - larger)
        above, below, most = kept * above + new * h[:, t].tanh(), kept * below + new, larger
        out.append(above / below)
    return m.o(torch.stack(out, 1))


def by_largest(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = states(m, x)
    gated = torch.sqrt(1 - torch.exp(-F.softplus(h)))
    return m.o(F.log_softmax(h, 1) + (h - h.detach().amax(1, keepdim=True)).exp() + gated)


@pytest.mark.parametrize("forward", [differences, segments, running_maximum, by_largest])
def test_exponentials_of_what_is_never_positive(forward: Callable[..., Any]) -> None:
    """None is left that could overflow: exp of a number (A itself) is none of them."""
    found = traced(build(forward))
    assert "decay" in rules_of(found)
    assert not [op for op in found.program.ops if op.rule == "exp" and op.axes]


def test_a_sum_of_either_sign_is_no_decay() -> None:
    """The other triangle of the differences is positive, and so is what is left if nothing is masked."""

    def upper(m: Any, x: torch.Tensor) -> torch.Tensor:
        h = states(m, x)
        s = decays(m, h).cumsum(-1)
        return m.o((s[..., :, None] - s[..., None, :]).masked_fill(torch.ones(4, 4).tril(-1).bool(), -torch.inf).exp() @ h)

    found = traced(build(upper))
    assert "decay" not in rules_of(found)
    assert [op for op in found.program.ops if op.rule == "exp" and op.axes]


def bounded(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = m.a(x)
    sums = h.clamp(-1, 1) + F.hardtanh(h, -0.5, 2) + F.relu6(h) + F.hardswish(h) + torch.clip(h, 0.1, 0.2) + F.hardsigmoid(h)
    units = F.selu(h) + F.celu(h, 2.0) + F.softplus(h, 2.0) + F.rrelu(h) + torch.nan_to_num(h)
    logs = torch.log1p(h.square()) + torch.log(h.sigmoid()) + torch.log2(1 + h.abs()) + torch.exp2(-h.abs()) + h.abs() ** 1.5
    return m.o(sums + units + logs + F.cosine_similarity(h, h.tanh(), -1).unsqueeze(-1))


def indexed(m: Any, x: torch.Tensor) -> torch.Tensor:
    """A bias for every distance, from one list or from two, and positions that are gathered."""
    h, at = states(m, x), torch.arange(4)[:, None] - torch.arange(4)[None] + 3
    bias = m.b[at] + m.c[at.flatten(), at.T.flatten()].view(4, 4)
    own = torch.gather(h, 1, torch.tensor([3, 1]).view(1, 2, 1).expand(3, 2, h.shape[-1]))
    return m.o((h @ h.mT / h.shape[-1] + bias).softmax(-1) @ h + own.sum(1, keepdim=True)) + m.e(h, h)


def test_functions() -> None:
    traced(build(bounded))


def test_indices_by_tables() -> None:
    biases: dict[str, Any] = {"b": lambda N: nn.Parameter(torch.randn(7)), "c": lambda N: nn.Parameter(torch.randn(7, 7))}
    traced(build(indexed, e=lambda N: nn.Bilinear(N, N, 2), **biases))


def test_a_division_by_a_parameter() -> None:
    """By a temperature that starts at a positive number, and not by one that starts at any."""

    def divided(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.o(m.a(x)) / m.t

    found = traced(build(divided, t=lambda N: nn.Parameter(2 * torch.ones(1))))
    assert "t, which something is divided by, is taken to stay positive." in found.program.remarks
    assert "may be zero or negative" in refused(build(divided, t=lambda N: nn.Parameter(torch.randn(1))))


def test_a_logarithm_of_a_growing_sum_is_refused() -> None:
    assert "grows as the logarithm" in refused(build(lambda m, x: m.o(F.log_softmax(m.a(x), -1))))


# ------------------------------------------------------------------ parameters of few entries


def test_few_entries_have_their_size_from_the_same_random_numbers() -> None:
    """One entry or two per seed, and a law with heavy tails: no number of seeds that is affordable would tell ±0.03."""

    def make(N: int = 8) -> nn.Module:
        own = {
            "scale": torch.randn(1) * N**-0.5, "heads": torch.empty(2).uniform_(0, 16).log(),
            "gain": 1 + torch.randn(()) / 10, "steps": torch.rand(2) * N**0.25,
        }  # fmt: skip
        parameters = {name: nn.Parameter(value) for name, value in own.items()}
        return Net(
            lambda m, x: m.o(m.a(x)) * m.scale * m.gain * m.heads.exp().sum() * m.steps.sum(),
            a=nn.Linear(8, N), o=nn.Linear(N, 1), **parameters,
        )  # fmt: skip

    found = traced(make)
    leaves = {op.name: op.params for op in found.program.ops}
    assert [str(found.scalings[name].init) for name in ("scale", "o.bias")] == 2 * ["N^(-1/2)"]
    assert str(leaves["spread of heads"]["scale"]) == "1"
    assert float(leaves["heads"]["init"]) == pytest.approx(math.log(16) - 1, abs=0.2)
    assert str(leaves["steps"]["scale"]) == str(leaves["spread of steps"]["scale"]) == "N^(1/4)"


def test_exact_numbers_along_a_fixed_axis() -> None:
    """One per head, in no order that is a function of the index, and a table of them that shrinks with the width."""

    def make(N: int = 8) -> nn.Module:
        heads, table = torch.tensor([1.0, 7.0, 2.0]).log(), torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]])
        parameters = {"heads": nn.Parameter(heads), "table": nn.Parameter(table * N**-0.5)}
        return Net(
            lambda m, x: m.o(m.a(x)) * (m.heads.exp() @ m.table).sum(), a=nn.Linear(8, N), o=nn.Linear(N, 1), **parameters
        )

    found = traced(make)
    leaves = {op.name: op.params for op in found.program.ops}
    assert leaves["heads"]["values"] == pytest.approx((0, math.log(7), math.log(2)))
    assert (str(leaves["table"]["scale"]), len(leaves["table"]["values"])) == ("N^(-1/2)", 3)


def test_what_starts_at_zero_is_shown_as_zero() -> None:
    """The second matrix of a low-rank adapter, and a gain of N^(-1/2), which is an exact number of that size."""

    def make(N: int = 8) -> nn.Module:
        zero = nn.Linear(2, N, bias=False)
        nn.init.zeros_(zero.weight)
        return Net(
            lambda m, x: m.o((m.a(x) + m.up(m.down(m.a(x)))) * m.gain),
            a=nn.Linear(8, N), down=nn.Linear(N, 2), up=zero, o=nn.Linear(N, 2), gain=nn.Parameter(torch.ones(N) * N**-0.5),
        )  # fmt: skip

    table = derive(TorchModule(make, lambda: (torch.randn(3, 8),)))
    shown = {name: (str(s.init), s.zero) for name, s in table.parameterization.items()}
    assert (shown["up.weight"][1], shown["down.weight"], shown["gain"]) == (True, ("N^(-1/2)", False), ("N^(-1/2)", False))
    line = next(line for line in to_terminal(table).splitlines() if line.startswith("up.weight"))
    assert line.split()[1:3] == ["embedding", "0"]
    assert read_json(to_json(table)).parameterization == table.parameterization
