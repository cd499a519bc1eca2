"""The scan on the GPU: the Triton kernels of triton_kernels.py, how large their tiles are, and how many programs run them.

More programs than there are tiles of channels come from splitting the states (forward) or grouping the sequences (backward);
each adds up its own sums, which are added in order.  What that takes is bounded by ``SPARE``.

The kernels have been compiled for compute capabilities 8.0 and 9.0 and run in Triton's interpreter (``TRITON_INTERPRET=1``,
which takes tensors on the CPU).  Their speed on a GPU has not been measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scalecalc.measure.scan import triton_kernels as kernels
from scalecalc.measure.scan.cpu import Sums
from scalecalc.measure.scan.inputs import SCHEMES, Inputs

SPARE = 256 * 2**20  # bytes for partial sums
PROGRAMS = 6  # per multiprocessor, which has registers for two or three of them at a time
TERMS = {torch.float32: 9, torch.float64: 15}


@dataclass(frozen=True)
class Tile:
    """How many states and channels a program has in its registers: compile-time constants of the kernels.

    ``registers``, per thread, are said because ptxas else spills a few for one more program at a time.
    """

    states: int
    channels: int
    registers: int

    @property
    def warps(self) -> int:
        return self.channels // 32


def tile_of(
    double: bool, channels: int, *, complex_: bool = False, members: int = 1, norms: int = 0, backward: bool = False
) -> Tile:
    """As many states as leave no register to be spilled: fewer of them where more is kept of each.

    A multiprocessor has 65536 registers: three programs of 128 threads fit with 168 each, two with 255.  One network's
    forward kernel does with 168.
    """
    kept = (1 + double) * (1 + complex_) * members * (1 + (norms > 1)) * (1 + backward) * (1 + (double and backward))
    states = max(1 if members > 2 and (double or complex_) else 2, 16 // kept)
    return Tile(states, 128 if channels > 64 else 32, 255 if backward or members > 1 else 168)


def forward(
    members: Sequence[Inputs], coefficients: Sequence[float], *, last: bool, norms: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], Sums | None]:
    """As :func:`scalecalc.measure.scan.cpu.forward`."""
    x, count = members[0], len(members)
    u, delta, A, B, C, D, h0 = (_stacked([m.tensors[k] for m in members]) for k in range(7))
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    side = 1 << (count - 1).bit_length()
    tile = tile_of(x.double, x.channels, complex_=x.complex, members=side, norms=norms)
    tiles, kinds = -(-x.channels // tile.channels), 1 if count == 1 else count + 1
    rows = u.numel() * u.element_size()
    splits = _programs(u.device) // (tiles * x.batch)
    splits = max(1, min(splits, -(-x.states // tile.states), SPARE // (rows * (1 + (norms > 0)))))
    per_split = -(-x.states // (splits * tile.states)) * tile.states
    y = u.new_zeros(splits, *u.shape)
    own = (tiles, x.states, *((2,) if x.complex else ()), tile.channels)
    h = u.new_empty(count, x.batch, *own) if last else None
    square = u.new_zeros(splits, kinds, *u.shape[1:]) if norms else None
    state, most = (u.new_zeros(tiles, x.batch, kinds, x.states) if norms > 1 else None for _ in range(2))
    factor = torch.tensor(list(coefficients), dtype=u.dtype, device=u.device)
    scheme = SCHEMES.index(x.discretization)
    given = (_pack(A, 3, tile), _pack(B, 3, tile), _pack(C, 3, tile), None if h0 is None else _pack(h0, 4, tile))
    with _on(u):
        kernels.forward[(tiles, x.batch, splits)](
            u, delta, *(y if t is None else t for t in (*given, y, h, square, state, most)), factor,
            x.batch, x.time, x.channels, x.states, count, per_split,
            *_along(delta), given[0].stride(0), *_along(B, given[1]), *_along(C, given[2]),
            SCHEME=scheme, TERMS=TERMS[u.dtype], PARTS=1 + x.complex, FIXED=delta.dim() == 2, A_CHANNEL=A.dim() == 3,
            B_CHANNEL=B.dim() == 3, C_CHANNEL=C.dim() == 3, H0=h0 is not None, LAST=last, NORMS=norms,
            M=side, BN=tile.states, BD=tile.channels, num_warps=tile.warps, maxnreg=tile.registers,
        )  # fmt: skip
    y = y.sum(0) if splits > 1 else y[0]
    y = y if D is None else y + D[:, None, None] * u
    sums = None
    if square is not None:
        found = square.sum(0, dtype=torch.float64)
        position = found.sum(3)
        empty = position.new_empty(0)
        sums = Sums(position, empty, empty, empty)
        if state is not None and most is not None:
            largest = most.amax((0, 1, 3)).double()
            largest = torch.where(position.flatten(1).sum(1).isnan(), torch.nan, largest)
            sums = Sums(position, found.sum((1, 2)), state.sum((0, 1), dtype=torch.float64), largest)
    return list(y.unbind(0)), [] if h is None else list(_unpack(h, x).unbind(0)), sums


def backward(x: Inputs, gy: torch.Tensor, glast: torch.Tensor | None) -> list[torch.Tensor | None]:
    """As :func:`scalecalc.measure.scan.cpu.backward`."""
    u, delta, A, B, C, D, h0 = (None if t is None else t.detach() for t in x.tensors)
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    tile = tile_of(x.double, x.channels, complex_=x.complex, backward=True)
    tiles, item = -(-x.channels // tile.channels), u.element_size()
    two = (2,) if x.complex else ()
    token, own = (x.batch, x.time, x.states, *two), (tiles, x.states, *two, tile.channels)
    parts = max(1, min(tiles, SPARE // (2 * item * math.prod(token))))
    groups = max(1, min(x.batch, -(-_programs(u.device) // parts), SPARE // (item * math.prod(own))))
    chunk = math.isqrt(x.time - 1) + 1
    block = tile.states * tile.channels * (1 + x.complex)
    marks, kept = (u.new_empty(parts * groups, k, block) for k in (-(-x.time // chunk), chunk))
    du, dd = torch.zeros_like(u), torch.zeros_like(u)
    dA = u.new_zeros(groups, *own)
    dB, dC = (u.new_zeros((groups, *own) if t.dim() == 2 else (parts, *token)) for t in (B, C))
    dh0 = None if h0 is None else u.new_empty(x.batch, *own)
    by_state = [None if t is None else _pack(t.resolve_conj(), 3, tile) for t in (h0, glast)]
    given = [_pack(t, 2, tile) for t in (A, B, C)]
    scheme = SCHEMES.index(x.discretization)
    with _on(u):
        kernels.backward[(parts, groups)](
            u, delta, *given, *(u if t is None else t for t in (by_state[0], gy.contiguous(), by_state[1])), marks, kept,
            du, dd, dA, dB, dC, u if dh0 is None else dh0, x.batch, x.time, x.channels, x.states, chunk, tiles,
            *_along(delta[None])[1:], *_along(B[None], given[1][None])[1:], *_along(C[None], given[2][None])[1:],
            SCHEME=scheme, TERMS=TERMS[u.dtype], PARTS=1 + x.complex, FIXED=delta.dim() == 1, A_CHANNEL=A.dim() == 2,
            B_CHANNEL=B.dim() == 2, C_CHANNEL=C.dim() == 2, H0=h0 is not None, LAST=glast is not None,
            BN=tile.states, BD=tile.channels, num_warps=tile.warps, maxnreg=tile.registers,
        )  # fmt: skip
    dD = None
    if D is not None:
        du, dD = du + D * gy, (u * gy).sum((0, 1))
    dA = _unpack(dA.sum(0), x)
    dB, dC = (_unpack(g.sum(0), x) if t.dim() == 2 else _numbers(g.sum(0), x) for g, t in ((dB, B), (dC, C)))
    gradients = [g.sum_to_size(t.shape) for g, t in zip((du, dd, dA, dB, dC), (u, delta, A, B, C), strict=True)]
    return [*gradients, dD, None if dh0 is None else _unpack(dh0, x)]


def _stacked(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """The members' tensors with a leading axis of members, without a copy where there is one."""
    given = [t.detach() for t in tensors if t is not None]
    return None if not given else given[0][None] if len(given) == 1 else torch.stack(given)


def _pack(x: torch.Tensor, axes: int, tile: Tile) -> torch.Tensor:
    """The reals of a tensor; packed by tiles where it has so many axes that the last two are channels and states."""
    real = torch.view_as_real(x) if x.is_complex() else x
    if x.dim() != axes:
        return real
    real = real if x.is_complex() else real[..., None]
    lacking = -x.shape[-2] % tile.channels
    real = torch.nn.functional.pad(real, (0, 0, 0, 0, 0, lacking), value=1.0)  # whose inverse exists
    return real.unflatten(-3, (-1, tile.channels)).movedim(-3, -1).contiguous()  # (…, tiles, states, parts, channels)


def _unpack(x: torch.Tensor, like: Inputs) -> torch.Tensor:
    """(…, channels, states) of what the kernels have packed."""
    x = x if like.complex else x.unsqueeze(-2)
    x = x.movedim(-1, -3).flatten(-4, -3)[..., : like.channels, :, :]
    return _numbers(x.contiguous() if like.complex else x[..., 0].contiguous(), like)


def _numbers(x: torch.Tensor, like: Inputs) -> torch.Tensor:
    return torch.view_as_complex(x) if like.complex else x


def _along(x: torch.Tensor, reals: torch.Tensor | None = None) -> tuple[int, int, int]:
    """Reals between members, sequences and steps of a tensor in memory, 0 where it is the same for all."""
    strides = (x if reals is None else reals).stride()
    return strides[:3] if x.dim() == 4 else (strides[0], 0, 0)


def _programs(device: torch.device) -> int:
    if device.type != "cuda":
        return 8
    return PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count


def _on(x: torch.Tensor) -> Any:
    return torch.cuda.device(x.device) if x.device.type == "cuda" else torch.no_grad()
