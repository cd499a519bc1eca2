"""A user's own network: ``path/to/file.py:factory``, traced for its exponents.

    def factory(N=64):                      # positional arguments are the growing dims, their defaults the widths at base
        return nn.Sequential(nn.Linear(8, N), nn.ReLU(), nn.Linear(N, 3))

    def example_inputs(N):                  # what the tracer runs it on
        return (torch.randn(4, 8),)

    def batches(seed, batch):               # optional: the data, pairs of inputs and targets without end
        ...

Without ``batches`` the network is a language model of bytes: it takes integers (batch, length) and returns logits (batch,
length, 256).  Targets that are integers are classes, others are regressed on.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from scalecalc.errors import InputError
from scalecalc.request import parse_model
from scalecalc.transfer.networks import Network


def own(text: str) -> Network:
    """The network of a factory in a file.

    Raises:
        InputError: no such file, nothing of that name in it, no example_inputs beside it, or no module comes out of it.
    """
    from scalecalc.model import _architecture, _example_inputs, _module, _options
    from scalecalc.trace import dims_of

    request = parse_model(text)
    assert request.file is not None
    make, _ = _architecture(request.name, request.file)
    if _example_inputs(request, make) is None:
        raise InputError(
            f"{request.file} has no function example_inputs(**dims) beside {request.name}, on whose inputs it is traced."
        )
    plain = inspect.unwrap(make)
    options = _options(request.name, plain, request.options)
    module = _module(request.file, (request.file.resolve(), request.file.stat().st_mtime_ns))
    found = getattr(module, f"{request.name}_batches", None) or getattr(module, "batches", None)

    def build(dims: Mapping[str, int], inputs: int, outputs: int) -> nn.Module:
        made: Any = make(**dims, **options)
        made = made[0] if isinstance(made, tuple) else made
        if not isinstance(made, nn.Module):
            raise InputError(f"{text} returns a {type(made).__name__}, no torch module; only a module can be trained.")
        return made

    starts = dims_of(plain, options, {})
    return Network(
        text, build, "text", None, dims={dim: tuple(width * 2**k for k in range(4)) for dim, width in starts.items()},
        batches=found, digest=hashlib.sha256(request.file.read_bytes()).hexdigest()[:20],
    )  # fmt: skip
