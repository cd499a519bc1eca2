"""Torch modules for the tests of the tracer, and how they are traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from scalecalc.errors import ScalecalcError
from scalecalc.rule import registry

registry("rule")
from scalecalc.trace import Found, trace  # noqa: E402  the rules have to be there


class Net(nn.Module):
    """A module made of its parts by name, with a forward function."""

    def __init__(self, forward: Callable[..., Any], **parts: Any):
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        self.call = forward

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.call(self, *inputs)


def traced(make: Callable[..., nn.Module], *shape: int | str, **more: Any) -> Found:
    """Trace a factory on standard normal inputs; a letter in their shape is a dim."""

    def example_inputs(**dims: int) -> tuple[torch.Tensor, ...]:
        return (torch.randn([dims[s] if isinstance(s, str) else s for s in shape or (3, 8)]),)

    return trace(make, example_inputs, **more)


def refused(make: Callable[..., Any], *shape: int | str, **more: Any) -> str:
    with pytest.raises(ScalecalcError) as caught:
        traced(make, *shape, **more)
    assert caught.value.exit_status == 2
    return str(caught.value)


def net(forward: Callable[..., Any], **parts: Callable[[int], Any]) -> Callable[..., nn.Module]:
    def make(N: int = 8) -> nn.Module:
        return Net(forward, a=nn.Linear(8, N), o=nn.Linear(N, 2, bias=False), **{k: part(N) for k, part in parts.items()})

    return make
