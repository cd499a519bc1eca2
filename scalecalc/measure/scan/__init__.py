"""The selective scan: h_t = Ā_t h_{t−1} + B̄_t u_t, y_t = Re Σ_n C_t h_t + D u_t, without ever storing h.

>>> import torch
>>> from scalecalc.measure.scan import selective_scan
>>> u, delta = torch.ones(1, 3, 2), torch.full((1, 3, 2), 0.5)
>>> A, B, C = -torch.ones(2, 4), torch.ones(1, 3, 4), torch.ones(1, 3, 4)
>>> selective_scan(u, delta, A, B, C, backend="reference")[0, :, 0]
tensor([1.5739, 2.5285, 3.1075])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from scalecalc.errors import InputError, UnknownName
from scalecalc.measure.scan import cpu, inputs, operator, reference

NORMS = ("position", "channel", "state", "max")


@dataclass(frozen=True)
class Norms:
    """Root-mean-squares of h by position (batch, time), channel and state, and max |h|: float64, None if not asked for."""

    position: torch.Tensor | None = None
    channel: torch.Tensor | None = None
    state: torch.Tensor | None = None
    max: torch.Tensor | None = None


@dataclass(frozen=True)
class PairNorms:
    """Norms of h in two networks, and of the difference of their h."""

    old: Norms
    new: Norms
    difference: Norms


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    *,
    D: torch.Tensor | None = None,
    discretization: str = "zoh",
    h0: torch.Tensor | None = None,
    return_last: bool = False,
    norms: Sequence[str] = (),
    backend: str = "auto",
):
    """Discretize, run a diagonal recurrence over time and read it out, in one pass and without a tensor of states.

    h_t = Ā_t h_{t−1} + B̄_t u_t and y_t = Re Σ_n C_{t,n} h_{t,n} + D u_t for every channel, where Ā = exp(ΔA) and
    B̄ = (exp(ΔA) − 1)/A · B for zero-order hold (Gu & Dao 2023, arXiv 2312.00752, eq. 2-4).

    Args:
        u: input, (batch, time, channels), real.
        delta: step Δ, in units of 1/A: (batch, time, channels); (channels,) or () if it is the same at all times, which
            takes the exponential out of the loop.
        A: transition, (channels, states); (states,) if all channels have the same, (channels, 1) if all states of a channel
            have (Mamba-2); real, or complex (S4D, LRU).
        B, C: input and output factors: (batch, time, states) per token; (states,) or (channels, states) if fixed.
        D: skip, (channels,).
        discretization: ``zoh``; ``euler`` (Ā = 1 + ΔA, B̄ = ΔB); ``bilinear`` (Ā = (1 + ΔA/2)/(1 − ΔA/2),
            B̄ = ΔB/(1 − ΔA/2)); ``mamba`` (Ā of zero-order hold, B̄ of Euler, as mamba's reference code has it).
        h0: state before the first step, (batch, channels, states); zero unless given.
        return_last: also return the state after the last step, (batch, channels, states).
        norms: any of ``position``, ``channel``, ``state`` and ``max``: also return these :class:`Norms` of h, over
            everything but what they are named after.  They are not differentiable.
        backend: ``c``, compiled when first needed; ``numba``, up to twice as slow, for real A with B and C per token
            or shared; ``triton``, on CUDA's GPUs; ``reference``, a loop in float64; ``auto``, the first of these that works
            on the tensors' device, and a warning where it is not that device's first.  What a GPU has no memory for is
            scanned on the CPU, with a warning.

    All tensors have one precision, float32 or float64 (the higher one is used if they differ).  If any of A, B, C and h0
    is complex so are the states; y is the real part of the sum, without the factor 2 for conjugate pairs that some codes
    put there.  A real one's gradient is real.  Within the kernel, numbers below the smallest normal one count as zero.
    Squares for norms are in the tensors' precision, their sums in float64: |h| beyond 10^19 overflows in float32.

    Returns:
        y (batch, time, channels); or a tuple of y and, in this order, the last state and the norms, as far as asked for.

    Raises:
        InputError: shapes that do not fit each other, a precision that is not supported, an unknown norm.
        UnknownName: an unknown discretization or backend.
        MeasureError: a backend that does not work here, or too little memory.
    """
    level = _level(norms)
    x = inputs.of(discretization, u, delta, A, B, C, D, h0)
    chosen = operator.backend_of(backend, x, norms=level)
    scanned = None
    if chosen == "reference":
        try:
            scanned = reference.scan(x)
        except torch.OutOfMemoryError as error:
            (x,), chosen = operator.at_home(error, [x])
    if scanned is None:
        out = operator.back(operator.scan_op(*x.tensors, discretization, return_last, level, chosen), u.device)
    else:
        out = [scanned.y, scanned.h[:, -1]] if return_last else [scanned.y]
        if level:
            sums = operator.reference_sums([scanned.h.detach()], [1.0])
            out += [t[0] for t in operator.norms_of(sums, x.batch, x.time, x.channels, x.states)]
    if level:
        found = 1 + return_last
        return (*out[:found], _named(out[found:], norms))
    return tuple(out) if return_last else out[0]


def selective_scan_pair(
    old: Sequence[torch.Tensor | None],
    new: Sequence[torch.Tensor | None],
    *,
    discretization: str = "zoh",
    norms: Sequence[str] = NORMS,
    backend: str = "auto",
) -> PairNorms:
    """The norms of h in two networks and of their difference, in one pass that stores no h.

    Args:
        old, new: u, delta, A, B, C and, if there are any, D and h0, as in :func:`selective_scan`, of the same shapes.

    Raises:
        As :func:`selective_scan`; also InputError where the two have different shapes.
    """
    _, (first, second, difference) = combination([old, new], [-1.0, 1.0], discretization, norms, backend)
    return PairNorms(first, second, difference)


def combination(
    members: Sequence[Sequence[torch.Tensor | None]],
    coefficients: Sequence[float],
    discretization: str = "zoh",
    norms: Sequence[str] = ("position",),
    backend: str = "auto",
) -> tuple[list[torch.Tensor], list[Norms]]:
    """y of up to four networks side by side; the norms of h of each and, last, of Σ c_k h_k.  Not differentiable.

    The coefficients are those of a finite difference: (−1, 1) of a first, (1, −2, 1) of a second one.

    Raises:
        As :func:`selective_scan`; also InputError for different shapes, or fewer than two or more than four networks.
    """
    level = max(1, _level(norms))
    if not 2 <= len(members) <= cpu.MOST or len(members) != len(coefficients):
        raise InputError(f"from 2 to {cpu.MOST} networks are scanned side by side, one coefficient each; got {len(members)}.")
    with torch.no_grad():
        found = [inputs.of(discretization, *m, *(None,) * (len(inputs.NAMES) - len(m))) for m in members]
        x = found[0]
        if any(_kinds(m) != _kinds(x) for m in found):
            raise InputError("the networks that are scanned side by side differ in the shapes or the kind of their tensors.")
        chosen = operator.backend_of(backend, x, len(found), level)
        scanned = None
        if chosen == "reference":
            try:
                scanned = [reference.scan(m) for m in found]
            except torch.OutOfMemoryError as error:
                found, chosen = operator.at_home(error, found)
        if scanned is None:
            y, _, sums = operator.back(operator.forward(chosen, found, coefficients, False, level), x.tensors[0].device)
            assert sums is not None
        else:
            y, sums = [s.y for s in scanned], operator.reference_sums([s.h for s in scanned], coefficients)
        by_kind = zip(*operator.norms_of(sums, x.batch, x.time, x.channels, x.states), strict=False)
        if level == 1:
            position = operator.norms_of(sums, x.batch, x.time, x.channels, x.states)[0]
            return y, [Norms(position=p) for p in position]
        return y, [_named(kind, norms) for kind in by_kind]


def _kinds(x: inputs.Inputs) -> list[tuple[tuple[int, ...], torch.dtype] | None]:
    kinds = [None if t is None else (tuple(t.shape), t.dtype) for t in x.tensors]
    return kinds[:5]


def _level(norms: Sequence[str]) -> int:
    """What the kernel has to add up: nothing, squares by position alone, or all there is."""
    names = [norms] if isinstance(norms, str) else list(norms)
    for name in names:
        if name not in NORMS:
            raise UnknownName("norm", name, NORMS)
    return 2 if set(names) - {"position"} else len(set(names))


def _named(found: Sequence[torch.Tensor], norms: Sequence[str]) -> Norms:
    names = [norms] if isinstance(norms, str) else norms
    return Norms(**{name: found[NORMS.index(name)] for name in names})
