"""What a scan is given, checked once: shapes, precision, and of what kind each tensor is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from scalecalc.errors import InputError, UnknownName

SCHEMES = ("zoh", "euler", "bilinear", "mamba")
NAMES = ("u", "delta", "A", "B", "C", "D", "h0")
Tensors = tuple[
    torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None
]


@dataclass(frozen=True)
class Inputs:
    """The tensors of one scan, of one precision, contiguous shapes as :func:`of` leaves them.

    Args:
        tensors: u, delta, A, B, C, D, h0 as in :func:`scalecalc.measure.scan.selective_scan`; delta has one or three axes.
        discretization: one of :data:`SCHEMES`.
    """

    tensors: Tensors
    discretization: str

    @property
    def batch(self) -> int:
        return self.tensors[0].shape[0]

    @property
    def time(self) -> int:
        return self.tensors[0].shape[1]

    @property
    def channels(self) -> int:
        return self.tensors[0].shape[2]

    @property
    def states(self) -> int:
        return self.tensors[3].shape[-1]

    @property
    def alike(self) -> bool:
        """Have all states of a channel the same transition?"""
        return self.tensors[2].shape[-1] < self.states

    @property
    def complex(self) -> bool:
        return self.tensors[2].is_complex()

    @property
    def double(self) -> bool:
        return self.tensors[0].dtype == torch.float64

    def apart(self) -> Inputs:
        """The same with a transition for every state, for kernels that know no other."""
        u, delta, A, *rest = self.tensors
        A = A.expand(*A.shape[:-1], self.states).contiguous() if self.alike else A
        return Inputs((u, delta, A, *rest), self.discretization)  # type: ignore[arg-type]


def checked(discretization: str, *tensors: torch.Tensor | None) -> Inputs:
    """Tensors that :func:`of` has seen before they went into torch's operation, which may hand on views."""
    return Inputs(tuple([None if t is None else _ready(t) for t in tensors]), discretization)  # type: ignore[arg-type]


def _ready(x: torch.Tensor) -> torch.Tensor:
    return (x.resolve_conj() if x.is_complex() else x).resolve_neg().contiguous()


def of(discretization: str, *tensors: torch.Tensor | None) -> Inputs:
    """Check tensors and bring them to one precision, complex where any of A, B, C and h0 is.

    Raises:
        UnknownName: no such discretization.
        InputError: a shape that does not fit the others, a precision other than float32 and float64, several devices.
    """
    if discretization not in SCHEMES:
        raise UnknownName("discretization", discretization, SCHEMES)
    given = dict(zip(NAMES, tensors, strict=True))
    present = {name: t for name, t in given.items() if t is not None}
    u, A, B = present["u"], present["A"], present["B"]
    if u.dim() != 3 or A.dim() not in (1, 2) or B.dim() == 0:
        raise InputError(
            f"selective_scan takes u of shape (batch, time, channels), A of shape (channels, states) or (states,) and B with "
            f"the states last; got u {tuple(u.shape)}, A {tuple(A.shape)} and B {tuple(B.shape)}."
        )
    batch, time, channels = u.shape
    states = B.shape[-1] if A.shape[-1] == 1 else A.shape[-1]
    if min(batch, time, channels, states) < 1:
        raise InputError(f"selective_scan needs at least one sequence, step, channel and state; u is {tuple(u.shape)}.")
    token, own, shared = (batch, time, states), (channels, states), (states,)
    factors: Sequence[tuple[int, ...]] = (token, own, shared)
    steps = (batch, time, channels), (channels,), ()
    fits = (steps[:1], steps, (own, shared, (channels, 1)), factors, factors, steps[1:2], ((batch, channels, states),))
    device = u.device
    for (name, t), shapes in zip(given.items(), fits, strict=True):
        if t is None:
            continue
        if t.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            raise InputError(
                f"{name} of selective_scan has shape {tuple(t.shape)}; with u {tuple(u.shape)} and A {tuple(A.shape)} it "
                f"must have {wanted}."
            )
        if t.device != device:
            raise InputError(f"{name} of selective_scan is on {t.device}, u on {u.device}; move them to one device.")
    complex_ = [name for name, t in present.items() if t.is_complex()]
    if wrong := [name for name in ("u", "delta", "D") if name in complex_]:
        raise InputError(
            f"{wrong[0]} of selective_scan is complex; A, B, C and h0 alone may be. By linearity, scan the real and the "
            "imaginary part of a complex u one by one."
        )
    dtype = u.dtype
    for t in present.values():
        if t.dtype != dtype:
            dtype = torch.promote_types(dtype, t.real.dtype if t.is_complex() else t.dtype)
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"selective_scan computes in float32 or float64, not in {dtype}; convert with .float().")
    if present["delta"].dim() == 0:
        present["delta"] = present["delta"].expand(channels)
    if complex_:
        kind = {name: dtype.to_complex() if name in ("A", "B", "C", "h0") else dtype for name in present}
        ready = {name: _ready(t.to(kind[name])) for name, t in present.items()}
    else:
        ready = {name: (t if t.dtype == dtype else t.to(dtype)).resolve_neg().contiguous() for name, t in present.items()}
    return Inputs(tuple([ready.get(name) for name in NAMES]), discretization)  # type: ignore[arg-type]
