"""The scan as one operation of torch, so that torch.compile and torch.export see one node and autograd one backward.

``scalecalc::selective_scan`` gives y and, as far as asked for, the last state and the norms of h.  Its gradient is
``scalecalc::selective_scan_backward``, which has none itself: second derivatives are the reference's business
(``backend="reference"``, which autograd goes through step by step).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from scalecalc.errors import MeasureError, UnknownName
from scalecalc.measure.scan import cpu, inputs, reference
from scalecalc.measure.scan.build import NoCompiler, compiler

BACKENDS = ("auto", "c", "numba", "triton", "reference")
OLDEST = (8, 0)  # compute capability that the GPU's kernels have been compiled for


class Slow(UserWarning):
    """A slower backend is used than the one that was wanted."""


STEPWISE = "the scan runs step by step in torch, many times slower than compiled"
BY_NUMBA = "the scan is compiled by numba, which takes ten seconds once and runs up to twice as long as C"


@cache  # once
def announce(what: str, reason: str) -> None:
    warnings.warn(f"{what}: {reason}", Slow, stacklevel=6)


def backend_of(name: str, x: inputs.Inputs, members: int = 1, norms: int = 0) -> str:
    """The backend that a name means for a scan.

    Raises:
        UnknownName: no such backend.
        MeasureError: it does not work on this device, not here, or not for this kind of scan.
    """
    return _backend(name, str(x.tensors[0].device), x.complex, _by_channel(x), cpu.kind(x, members, norms))


def _by_channel(x: inputs.Inputs) -> bool:
    """Have the channels input or output factors of their own?"""
    return any(t.dim() == 2 for t in x.tensors[3:5])  # type: ignore[union-attr]


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@torch.compiler.assume_constant_result  # what torch.compile cannot follow: it asks the system for a compiler
def _backend(name: str, device: str, complex_: bool, by_channel: bool, kind: tuple[int, ...]) -> str:
    if name not in BACKENDS:
        raise UnknownName("scan backend", name, BACKENDS)
    if name == "reference":
        return name
    on = torch.device(device)
    if name == "triton" or name == "auto" and on.type == "cuda":
        missing = without_triton(on)
        if missing and name == "triton":
            raise MeasureError(f"the scan's backend 'triton' does not work here: {missing} Use 'auto' or 'reference'.")
        if missing:
            announce(STEPWISE, missing)
        return "reference" if missing else "triton"
    if on.type != "cpu":
        if name != "auto":
            raise MeasureError(f"the scan's backend {name!r} works on the CPU, the tensors are on {device}; use 'reference'.")
        announce(STEPWISE, f"there is no kernel for {device}.")
        return "reference"
    served = not complex_ and not by_channel
    if name == "numba":
        if not has("numba"):
            raise MeasureError("numba is not installed; pip install 'scalecalc[numba]', or use another backend.")
        if not served:
            raise MeasureError(f"the scan's backend 'numba' serves {SERVED}; use 'c' or 'reference'.")
        return name
    try:
        cpu.kernel(kind)
    except NoCompiler as error:
        if name == "c":
            raise
        if served and has("numba"):
            announce(BY_NUMBA, str(error))
            return "numba"
        more = f" numba serves {SERVED}." if has("numba") else " Or pip install 'scalecalc[numba]'."
        announce(STEPWISE, str(error) + more)
        return "reference"
    return "c"


SERVED = "real transitions with B and C per token or the same for all channels"


def without_triton(device: torch.device) -> str:
    """Why the GPU's kernels do not work on a device for a scan; empty where they do.

    Triton's interpreter (``TRITON_INTERPRET=1``) takes tensors on the CPU.
    """
    if not has("triton"):
        return "Triton is not installed; pip install 'scalecalc[gpu]'."
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    if device.type != "cuda" or torch.version.hip:
        return f"its kernels are for CUDA's GPUs, and the tensors are on {device}{' of ROCm' if torch.version.hip else ''}."
    found = torch.cuda.get_device_capability(device)
    if found < OLDEST:
        return f"the GPU's compute capability is {found[0]}.{found[1]}, and {OLDEST[0]}.{OLDEST[1]} is needed."
    try:
        compiler()
    except NoCompiler as error:
        return f"Triton needs a C compiler to start its kernels: {error}"
    return ""


@cache
def kernel(backend: str) -> Any:
    """The module with a backend's ``forward`` and ``backward``."""
    module = {"c": "cpu", "numba": "jit", "triton": "gpu"}[backend]
    return importlib.import_module(f"scalecalc.measure.scan.{module}")


def forward(backend: str, members: Sequence[inputs.Inputs], coefficients: Sequence[float], last: bool, norms: int) -> Any:
    """A backend's; where the GPU's memory does not do, on the CPU, which is said once."""
    members = members if backend == "c" else [m.apart() for m in members]
    try:
        return kernel(backend).forward(members, coefficients, last=last, norms=norms)
    except torch.OutOfMemoryError as error:
        home, chosen = at_home(error, members)
        found = kernel(chosen).forward(home, coefficients, last=last, norms=norms)
        return back(found, members[0].tensors[0].device)


def backward(backend: str, x: inputs.Inputs, gy: torch.Tensor, glast: torch.Tensor | None) -> list[torch.Tensor | None]:
    """As :func:`forward`."""
    if x.alike and backend != "c":
        du, ddelta, dA, *more = backward(backend, x.apart(), gy, glast)
        assert dA is not None
        return [du, ddelta, dA.sum(-1, keepdim=True), *more]
    try:
        return kernel(backend).backward(x, gy, glast)
    except torch.OutOfMemoryError as error:
        (home,), chosen = at_home(error, [x])
        g = None if glast is None else glast.to("cpu")
        return back(kernel(chosen).backward(home, gy.to("cpu"), g), gy.device)


def at_home(error: Exception, members: Sequence[inputs.Inputs]) -> tuple[list[inputs.Inputs], str]:
    """Scans that the GPU's memory does not do for, on the CPU, and the backend that takes them there; said once.

    Raises:
        MeasureError: there is none but the loop, which would take as much memory.
    """
    home = [_moved(m, "cpu") for m in members]
    chosen = backend_of("auto", home[0])
    if chosen == "reference":
        raise MeasureError(f"too little memory on the GPU for a scan ({str(error).splitlines()[0]}); use shorter sequences.")
    announce("the scan runs on the CPU", f"it does not fit into the GPU's memory ({str(error).splitlines()[0]}).")
    return home, chosen


def _moved(x: inputs.Inputs, device: torch.device | str) -> inputs.Inputs:
    return inputs.Inputs(tuple(None if t is None else t.to(device) for t in x.tensors), x.discretization)  # type: ignore[arg-type]


def back(found: Any, device: torch.device) -> Any:
    """Whatever there is of tensors in it, on a device."""
    if isinstance(found, torch.Tensor):
        return found if found.device == device else found.to(device)
    if isinstance(found, cpu.Sums):
        return cpu.Sums(*(t.to(device) for t in (found.position, found.channel, found.state, found.largest)))
    return type(found)(back(t, device) for t in found) if isinstance(found, list | tuple) else found


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


LIBRARY = torch.library.Library("scalecalc", "FRAGMENT")
INPUTS = "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? h0, str discretization"
SCHEMAS = (
    f"selective_scan({INPUTS}, bool return_last, int norms, str backend) -> Tensor[]",
    f"selective_scan_backward(Tensor gy, Tensor? glast, {INPUTS}, str backend) -> Tensor[]",
)
for _schema in SCHEMAS:
    LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
scan_op = torch.ops.scalecalc.selective_scan.default
backward_op = torch.ops.scalecalc.selective_scan_backward.default


@torch.library.impl(LIBRARY, "selective_scan", "CompositeExplicitAutograd")
def _scan(
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
    backend: str,
) -> list[torch.Tensor]:
    """y, the last state if asked for, and norms: none, those by position, or by position, channel, state and the largest."""
    x = inputs.checked(discretization, u, delta, A, B, C, D, h0)
    y, last, sums = forward(backend, [x], [1.0], return_last, norms)
    found = [*y, *last]
    if sums is not None:
        one = cpu.Sums(*(t[0] if t.numel() else t for t in (sums.position, sums.channel, sums.state, sums.largest)))
        found += norms_of(one, x.batch, x.time, x.channels, x.states)[: 4 if norms > 1 else 1]
    return found


@torch.library.register_fake("scalecalc::selective_scan", lib=LIBRARY)
def _(u, delta, A, B, C, D, h0, discretization, return_last, norms, backend):  # type: ignore[no-untyped-def]
    batch, time, channels = u.shape
    states = B.shape[-1]
    shapes = ((batch, time), (channels,), (states,), ())[: (0, 1, 4)[norms]]
    y, last = torch.empty_like(u, memory_format=torch.contiguous_format), (batch, channels, states)
    return [y, *([A.new_empty(last)] if return_last else []), *(u.new_empty(shape, dtype=torch.float64) for shape in shapes)]


@torch.library.impl(LIBRARY, "selective_scan_backward", "CompositeExplicitAutograd")
def _gradients(
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
    backend: str,
) -> list[torch.Tensor]:
    """Gradients of u, delta, A, B, C, and of D and h0 where they are given."""
    x = inputs.checked(discretization, u, delta, A, B, C, D, h0)
    return [g for g in backward(backend, x, gy, glast) if g is not None]


@torch.library.register_fake("scalecalc::selective_scan_backward", lib=LIBRARY)
def _(gy, glast, u, delta, A, B, C, D, h0, discretization, backend):  # type: ignore[no-untyped-def]
    given = [t for t in (u, delta, A, B, C, D, h0) if t is not None]
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in given]


class _Differentiable(torch.autograd.Function):
    """What :func:`torch.library.register_autograd` makes, without its bookkeeping: half of a small scan's time."""

    @staticmethod
    def forward(ctx: Any, keys: torch._C.DispatchKeySet, *given: Any) -> tuple[torch.Tensor, ...]:
        out = tuple(_below(scan_op, keys, *given))
        ctx.save_for_backward(*given[:7])
        ctx.discretization, ctx.return_last, _, ctx.backend = given[7:]
        ctx.mark_non_differentiable(*out[1 + ctx.return_last :])
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx: Any, gy: torch.Tensor | None, *more: torch.Tensor | None) -> tuple[Any, ...]:
        tensors = ctx.saved_tensors
        gy = torch.zeros_like(tensors[0]) if gy is None else gy
        glast = more[0] if ctx.return_last else None
        found = iter(backward_op(gy, glast, *tensors, ctx.discretization, ctx.backend))
        return (None, *(None if t is None else next(found) for t in tensors), *(None,) * 4)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, keys: torch._C.DispatchKeySet, *given: Any) -> tuple[torch.Tensor, ...]:
        return tuple(_below(backward_op, keys, *given))

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise MeasureError("the compiled scan has first derivatives alone; for second ones take backend='reference'.")


def _below(op: Any, keys: torch._C.DispatchKeySet, *given: Any) -> Any:
    """An operation without its gradient."""
    with torch._C._AutoDispatchBelowAutograd():
        return op.redispatch(keys & torch._C._after_autograd_keyset, *given)


def _recorded(tensors: tuple[torch.Tensor | None, ...]) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _scan_recorded(keys: torch._C.DispatchKeySet, *given: Any) -> list[torch.Tensor]:
    return list(_Differentiable.apply(keys, *given)) if _recorded(given[:7]) else _below(scan_op, keys, *given)  # type: ignore[arg-type]


def _gradients_recorded(keys: torch._C.DispatchKeySet, *given: Any) -> list[torch.Tensor]:
    return list(_Once.apply(keys, *given)) if _recorded(given[:9]) else _below(backward_op, keys, *given)  # type: ignore[arg-type]


LIBRARY.impl("selective_scan", _scan_recorded, "Autograd", with_keyset=True)
LIBRARY.impl("selective_scan_backward", _gradients_recorded, "Autograd", with_keyset=True)
