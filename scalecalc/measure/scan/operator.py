"""The scan as one operation of torch, so that torch.compile and torch.export see one node and autograd one backward.

``scalecalc::selective_scan`` gives y, the last state and the norms of h; what was not asked for is empty.  Its gradient is
``scalecalc::selective_scan_backward``, which has none itself: second derivatives are the reference's business
(``backend="reference"``, which autograd goes through step by step).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from scalecalc.errors import MeasureError, UnknownName
from scalecalc.measure.scan import cpu, inputs, reference
from scalecalc.measure.scan.build import NoCompiler, compiler

BACKENDS = ("auto", "c", "reference")


class Slow(UserWarning):
    """The reference is used where the compiled kernel was wanted."""


STEPWISE = "the scan runs step by step in torch, many times slower than compiled"


@cache  # once
def announce(what: str, reason: str) -> None:
    warnings.warn(f"{what}: {reason}", Slow, stacklevel=5)


def backend_of(name: str, device: torch.device) -> str:
    """The backend that a name means on a device.

    Raises:
        UnknownName: no such backend.
        MeasureError: it does not work on this device, or not here.
    """
    return _backend(name, device.type)


@torch.compiler.assume_constant_result  # what torch.compile cannot follow: it asks the system for a compiler
def _backend(name: str, device: str) -> str:
    if name not in BACKENDS:
        raise UnknownName("scan backend", name, BACKENDS)
    if name == "reference":
        return name
    if device != "cpu":
        if name == "c":
            raise MeasureError(f"the scan's backend 'c' works on the CPU, and the tensors are on {device}; use 'reference'.")
        announce(STEPWISE, f"there is no kernel for {device}.")
        return "reference"
    try:
        compiler()
    except NoCompiler as error:
        if name == "c":
            raise
        announce(STEPWISE, str(error))
        return "reference"
    return "c"


def norms_of(
    sums: cpu.Sums, batch: int, time: int, channels: int, states: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Root-mean-squares by position, channel and state, and the largest modulus, from sums of squares."""
    return (
        (sums.position / (channels * states)).sqrt(),
        (sums.channel / (batch * time * states)).sqrt(),
        (sums.state / (batch * time * channels)).sqrt(),
        sums.largest.sqrt(),
    )


def reference_sums(h: Sequence[torch.Tensor], coefficients: Sequence[float]) -> cpu.Sums:
    found = reference.squares(h, coefficients)
    by = ((2, 3), (0, 1, 3), (0, 1, 2), ())
    position, channel, state = (torch.stack([s.sum(axes) for s in found]) for axes in by[:3])
    return cpu.Sums(position, channel, state, torch.stack([s.amax() for s in found]))


@torch.library.custom_op("scalecalc::selective_scan", mutates_args=())
def scan_op(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    h0: torch.Tensor | None,
    discretization: str,
    return_last: bool,
    norms: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """y, the last state, and the norms by position, channel, state and the largest; empty where not asked for."""
    x = inputs.of(discretization, u, delta, A, B, C, D, h0)
    y, last, sums = cpu.forward([x], [1.0], last=return_last, norms=norms)
    empty = u.new_empty(0, dtype=torch.float64)
    found = (empty,) * 4
    if sums is not None:
        one = cpu.Sums(*(t[0] if t.numel() else t for t in (sums.position, sums.channel, sums.state, sums.largest)))
        found = norms_of(one, x.batch, x.time, x.channels, x.states)
        found = (found[0], *(t if norms > 1 else torch.empty_like(empty) for t in found[1:]))
    found = tuple(t.clone() if t is empty else t for t in found)
    return (y[0], last[0] if last else A.new_empty(0), *found)  # type: ignore[return-value]


@scan_op.register_fake
def _(u, delta, A, B, C, D, h0, discretization, return_last, norms):  # type: ignore[no-untyped-def]
    batch, time, channels = u.shape
    states = A.shape[-1]

    def double(*shape: int) -> torch.Tensor:
        return u.new_empty(shape, dtype=torch.float64)

    return (
        torch.empty_like(u, memory_format=torch.contiguous_format),
        A.new_empty((batch, channels, states) if return_last else (0,)),
        double(batch, time) if norms else double(0),
        double(channels) if norms > 1 else double(0),
        double(states) if norms > 1 else double(0),
        double() if norms > 1 else double(0),
    )


@torch.library.custom_op("scalecalc::selective_scan_backward", mutates_args=())
def backward_op(
    gy: torch.Tensor,
    glast: torch.Tensor | None,
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    h0: torch.Tensor | None,
    discretization: str,
) -> list[torch.Tensor]:
    """Gradients of u, delta, A, B, C, and of D and h0 where they are given."""
    x = inputs.of(discretization, u, delta, A, B, C, D, h0)
    return [g for g in cpu.backward(x, gy, glast) if g is not None]


@backward_op.register_fake
def _(gy, glast, u, delta, A, B, C, D, h0, discretization):  # type: ignore[no-untyped-def]
    given = [t for t in (u, delta, A, B, C, D, h0) if t is not None]
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in given]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    tensors, (ctx.discretization, ctx.return_last, _) = inputs[:7], inputs[7:]
    ctx.save_for_backward(*tensors)
    ctx.mark_non_differentiable(*output[2:])


def _backward(ctx: Any, gy: torch.Tensor | None, glast: torch.Tensor | None, *_: Any) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors
    gy = torch.zeros_like(tensors[0]) if gy is None else gy
    found = iter(backward_op(gy, glast if ctx.return_last else None, *tensors, ctx.discretization))
    return (*(None if t is None else next(found) for t in tensors), None, None, None)


scan_op.register_autograd(_backward, setup_context=_setup)
