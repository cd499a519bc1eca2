"""The scan on the CPU: the C kernel of kernel/, its tasks and its threads.

A job is split into tasks (groups of sequences times ranges of channels) by its shapes alone, and what a task adds up for the
gradients of shared tensors is added to the other tasks' in order.  So results do not depend, to the bit, on how many threads
there are or which was faster.  The kernel starts threads per call: at most :func:`torch.get_num_threads`, none where there
is little to do.  Python's own would wait for one another at its lock before they run; a standing pool would not survive a
fork, and OpenMP would bring a second set of threads beside torch's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_double, c_int, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from scalecalc.errors import MeasureError
from scalecalc.measure.scan.build import library
from scalecalc.measure.scan.inputs import SCHEMES, Inputs

MACROS = ("DOUBLE", "COMPLEX", "SCHEME", "DELTA_FIXED", "A_ALIKE", "B_CHANNEL", "C_CHANNEL", "MEMBERS", "NORMS")
MOST = 4  # members side by side
ROWS = 128  # of a tile that are in the cache at once
TASKS = 64
SPARE = 64 * 2**20  # bytes that the tasks' partial sums, or the marks along a long sequence, may take
ALONE = 200_000  # entries of h below which one thread is faster than starting another


class Member(Structure):
    _fields_ = [(name, c_void_p) for name in ("u", "delta", "A", "B", "C", "D", "h0", "y", "last")]


# the fields of Job in kernel/tile.h, in its order
SIZES = ("batch", "time", "channels", "states", "groups", "parts", "chunk", "together")
DISTANCES = ("a_channel", "b_batch", "b_time", "c_batch", "c_time")
SUMS = ("position", "channel", "state", "largest")
GRADIENTS = ("gy", "glast", "du", "ddelta", "dA", "dB", "dC", "dD", "dh0")
BETWEEN = ("dA_group", "dA_part", "dB_group", "dB_part", "dC_group", "dC_part")


class Job(Structure):
    _fields_ = [
        *((name, c_int64) for name in (*SIZES, *DISTANCES)),
        ("member", Member * MOST),
        ("coefficient", c_double * MOST),
        *((name, c_void_p) for name in (*SUMS, *GRADIENTS)),
        *((name, c_int64) for name in (*BETWEEN, "threads")),
    ]


@dataclass(frozen=True)
class Sums:
    """Σ|h|² in float64 by position, channel and state, and max |h|², of every member and of their combination."""

    position: torch.Tensor
    channel: torch.Tensor
    state: torch.Tensor
    largest: torch.Tensor


def kind(x: Inputs, members: int, norms: int) -> tuple[int, ...]:
    """The numbers of :func:`macros`, in its order."""
    _, delta, _, B, C, _, _ = x.tensors
    axes = B.dim() == 2, C.dim() == 2
    return x.double, x.complex, SCHEMES.index(x.discretization), delta.dim() == 1, x.alike, *axes, members, norms


def macros(kind: tuple[int, ...]) -> dict[str, int]:
    """What tells the kinds of scans apart that there is one library each for."""
    return {name: int(number) for name, number in zip(MACROS, kind, strict=True)}


@dataclass(frozen=True)
class Kernel:
    """A library's functions, and how many bytes its vectors have."""

    forward: Any
    backward: Any  # None if it has none
    bytes: int


@cache  # a small scan takes little longer than to find its library and to tell its types
def kernel(kind: tuple[int, ...]) -> Kernel:
    """The library of a kind of scan, compiled if it is not there yet.

    Raises:
        NoCompiler: it cannot be compiled here.
    """
    lib = library(macros(kind))
    lib.job_bytes.restype = lib.vector_bytes.restype = c_int64
    assert lib.job_bytes() == ctypes.sizeof(Job)
    functions = [getattr(lib, name, None) for name in ("scan_forward", "scan_backward")]
    for function in filter(None, functions):
        function.argtypes, function.restype = [POINTER(Job)], c_int
    return Kernel(*functions, lib.vector_bytes())


def _job(lib: Kernel, members: Sequence[Inputs]) -> Job:
    """Sizes, distances in memory and inputs."""
    x = members[0]
    u, _, A, B, C, _, _ = x.tensors
    (batch, time, channels), states = u.shape, x.states
    chunk = time if time <= 3 * ROWS // 2 else -(-time // -(-time // ROWS))
    mark = 8 * lib.bytes * states * (1 + x.complex)  # h of a tile
    while chunk < time and -(-time // chunk) * mark > SPARE:
        chunk = min(time, 2 * chunk)
    token, fixed = (time * states, states), (0, 0)
    distances = A.shape[-1] if A.dim() == 2 else 0, *(token if B.dim() == 3 else fixed), *(token if C.dim() == 3 else fixed)
    pointers = (Member * MOST)(*[Member(*[None if t is None else t.data_ptr() for t in m.tensors]) for m in members])
    return Job(batch, time, channels, states, 1, 1, chunk, 1, *distances, pointers)


def _split(job: Job, lib: Kernel, x: Inputs, parts: int, groups: int) -> None:
    """How many tasks: no more than there are tiles and full loads of rows."""
    tiles = -(-x.channels // (8 * lib.bytes // (8 if x.double else 4)))
    job.parts = max(1, min(tiles, TASKS, parts))
    loads = -(-x.batch * x.time // ROWS)
    job.groups = max(1, min(x.batch, loads, -(-TASKS // job.parts), groups))
    job.together = max(1, min(ROWS // x.time, -(-x.batch // job.groups))) if job.chunk == x.time else 1


def _run(function: Any, job: Job) -> None:
    entries = job.batch * job.time * job.channels * job.states
    job.threads = min(torch.get_num_threads(), job.groups * job.parts) if entries > ALONE else 1
    if function(byref(job)):
        raise MeasureError("not enough memory for the buffers of a scan; use fewer states or shorter sequences.")


def forward(
    members: Sequence[Inputs], coefficients: Sequence[float], *, last: bool, norms: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], Sums | None]:
    """y and (if asked for) the last state of every member, and sums of squares: 0 none, 1 by position alone, 2 all."""
    x, count = members[0], len(members)
    lib = kernel(kind(x, count, norms))
    job = _job(lib, members)
    kinds = 1 if count == 1 else count + 1
    _split(job, lib, x, SPARE // (8 * kinds * x.batch * x.time) if norms else TASKS, TASKS)
    y = [torch.empty_like(m.tensors[0]) for m in members]
    h = [x.tensors[2].new_empty(x.batch, x.channels, x.states) for _ in members] if last else []
    for k in range(count):
        job.member[k].y = y[k].data_ptr()
        job.coefficient[k] = coefficients[k]
        if last:
            job.member[k].last = h[k].data_ptr()
    sums = None
    if norms:
        found = [zeros(torch.float64, kinds, job.parts, x.batch, x.time)]
        if norms > 1:
            tasks = job.parts * job.groups
            shapes = [(kinds, job.groups, x.channels), (tasks, kinds, x.states), (tasks, kinds)]
            found += [zeros(torch.float64, *shape) for shape in shapes]
        for name, tensor in zip(SUMS, found, strict=False):
            setattr(job, name, tensor.data_ptr())
    _run(lib.forward, job)
    if norms:
        position = total(found[0].transpose(0, 1))
        empty = position.new_empty(0)
        sums = Sums(position, empty, empty, empty)
        if norms > 1:
            largest = torch.where(position.flatten(1).sum(1).isnan(), torch.nan, found[3].amax(0))
            sums = Sums(position, total(found[1].transpose(0, 1)), total(found[2]), largest)
    return y, h, sums


def backward(x: Inputs, gy: torch.Tensor, glast: torch.Tensor | None) -> list[torch.Tensor | None]:
    """Gradients of u, delta, A, B, C, D and h0 from those of y and the last state."""
    u, delta, A, B, C, D, h0 = x.tensors
    lib = kernel(kind(x, 1, 0))
    job = _job(lib, [x])
    item = A.element_size()
    by_part = [t.numel() for t in (B, C) if t.dim() == 3]
    by_group = [t.numel() for t in (A, B, C) if t.dim() == 2]
    _split(job, lib, x, SPARE // (item * max(1, sum(by_part))), SPARE // (item * max(1, sum(by_group))))
    tasks = job.groups * job.parts

    def partial(t: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        """As many copies of a gradient as tasks add to it, and how far a task has to go to its group's and its part's."""
        reals = t.numel() * (1 + t.is_complex())
        if t.dim() == 3:
            return zeros(t.dtype, job.parts, *t.shape), 0, reals
        if t.dim() == 2:
            return zeros(t.dtype, job.groups, *t.shape), reals, 0
        return zeros(t.dtype, tasks, *t.shape), job.parts * reals, reals

    dA, job.dA_group, job.dA_part = partial(A)
    dB, job.dB_group, job.dB_part = partial(B)
    dC, job.dC_group, job.dC_part = partial(C)
    ddelta = zeros(delta.dtype, job.groups, x.channels) if delta.dim() == 1 else torch.empty_like(delta)
    dD = None if D is None else zeros(D.dtype, job.groups, x.channels)
    du, dh0 = torch.empty_like(u), None if h0 is None else torch.empty_like(h0)
    gy = gy.contiguous()
    glast = None if glast is None else glast.resolve_conj().contiguous()
    for name, tensor in zip(GRADIENTS, (gy, glast, du, ddelta, dA, dB, dC, dD, dh0), strict=True):
        setattr(job, name, None if tensor is None else tensor.data_ptr())
    _run(lib.backward, job)
    ddelta = total(ddelta) if delta.dim() == 1 else ddelta
    return [du, ddelta, total(dA), total(dB), total(dC), None if dD is None else total(dD), dh0]


NUMPY = {torch.float32: "f4", torch.float64: "f8", torch.complex64: "c8", torch.complex128: "c16"}


def zeros(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """By numpy: torch would wake its own threads, which go on spinning for a while on the cores that the kernel needs."""
    return torch.from_numpy(np.zeros(shape, NUMPY[dtype]))


def total(parts: torch.Tensor) -> torch.Tensor:
    """Their sum along the first axis, in order; the first one's memory is used.  By numpy, see above."""
    if len(parts) > 1:
        first, *others = parts.numpy()
        for more in others:
            first += more
    return parts[0]
