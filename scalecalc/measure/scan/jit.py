"""The scan compiled by numba: for machines without a C compiler.

It serves real transitions whose B and C are per token or the same for all; the reference does the rest.  What varies by
position alone is expanded, and its gradient summed.  A task is a part of the tiles; what it adds up is its own, and the
tasks' sums are added in order.  numba's own threads are not used: a second call of its pool from another thread would end
the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from scalecalc.measure.scan import numba_kernels
from scalecalc.measure.scan.cpu import ALONE, SPARE, TASKS, Sums, total, zeros
from scalecalc.measure.scan.inputs import SCHEMES, Inputs
from scalecalc.measure.scan.numba_vectors import BYTES


def _filled(x: torch.Tensor) -> torch.Tensor:
    """With zeros at the end of the last axis, so that it is made of whole vectors."""
    lanes = BYTES // x.element_size()
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % lanes)) if x.shape[-1] % lanes else x


def _expanded(x: Inputs) -> list[torch.Tensor]:
    """u, delta, A, B, C with all their axes; all but A filled up."""
    u, delta, A, B, C, _, _ = (t.detach() if t is not None else None for t in x.tensors)
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    token = (x.batch, x.time, -1)
    A = A.expand(x.channels, x.states)
    return [_filled(u), _filled(delta.expand_as(u)), A, _filled(B).expand(token), _filled(C).expand(token)]


def _array(x: torch.Tensor | None, axes: int, like: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor as an array; one without entries if it is missing."""
    return (like.new_empty((0,) * axes) if x is None else x.detach().contiguous()).numpy()


def _stacked(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """With an axis of members in front; one member's are not copied for it."""
    given = [t.detach() for t in tensors if t is not None]
    return torch.stack(given) if len(given) > 1 else given[0][None].contiguous() if given else None


def _tiny(x: Inputs) -> Any:
    """The A that stands for 0: zero-order hold's input factor is then Δ to the last digit."""
    return np.float64(1e-100) if x.double else np.float32(1e-18)


def _tiles(x: Inputs) -> int:
    return -(-x.channels * x.tensors[0].element_size() // (numba_kernels.TILE * BYTES))


def _run(x: Inputs, parts: int, work: Callable[[tuple[int, int], int], None]) -> None:
    """A contiguous range of tiles for each part; the parts are taken in turn by as many threads as torch has."""
    tiles = _tiles(x)
    todo = iter(range(parts))
    failed: list[BaseException] = []

    def take() -> None:
        flushed = np.float32(1e-40) * np.float32(1) == 0  # what the thread had
        torch.set_flush_denormal(True)
        try:
            for part in todo:
                work((tiles * part // parts, tiles * (part + 1) // parts), part)
        except BaseException as error:
            failed.append(error)
        finally:
            torch.set_flush_denormal(bool(flushed))

    many = x.batch * x.time * x.channels * x.states > ALONE
    threads = [threading.Thread(target=take) for _ in range(min(torch.get_num_threads(), parts) - 1 if many else 0)]
    for thread in threads:
        thread.start()
    take()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def forward(
    members: Sequence[Inputs], coefficients: Sequence[float], *, last: bool, norms: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], Sums | None]:
    """As :func:`scalecalc.measure.scan.cpu.forward`."""
    x, count = members[0], len(members)
    u = x.tensors[0].detach()
    kinds = 1 if count == 1 else count + 1
    tensors = tuple(_array(_stacked(t), 4, u) for t in zip(*map(_expanded, members), strict=True))
    D, h0 = (_stacked([m.tensors[k] for m in members]) for k in (5, 6))
    D = None if D is None else _filled(D)
    y = u.new_empty(tensors[0].shape)
    h = u.new_empty(count, x.batch, x.channels, x.states) if last else None
    most = min(TASKS, SPARE // (8 * kinds * x.batch * x.time) if norms else TASKS)
    parts = max(1, min(_tiles(x), most))
    position = np.zeros((parts, kinds, x.batch, x.time))
    channel, state, largest = np.zeros((kinds, x.channels)), np.zeros((parts, kinds, x.states)), np.zeros((parts, kinds))
    given = (_array(D, 2, u), _array(h0, 4, u), np.array(coefficients, dtype=tensors[0].dtype), norms > 0)
    out = (y.numpy(), _array(h, 4, u))
    kernel, tiny = numba_kernels.forward(SCHEMES.index(x.discretization)), _tiny(x)

    def work(tiles: tuple[int, int], k: int) -> None:
        kernel(tiles, tiny, tensors, *given, *out, position[k], channel, state[k], largest[k])

    _run(x, parts, work)
    sums = None
    if norms:
        where, by_channel, by_state, most = map(torch.from_numpy, (position.sum(0), channel, state.sum(0), largest.max(0)))
        sums = Sums(where, by_channel, by_state, torch.where(where.flatten(1).sum(1).isnan(), torch.nan, most))
    y = y[..., : x.channels].contiguous()
    return list(y.unbind(0)), [] if h is None else list(h.unbind(0)), sums


def backward(x: Inputs, gy: torch.Tensor, glast: torch.Tensor | None) -> list[torch.Tensor | None]:
    """As :func:`scalecalc.measure.scan.cpu.backward`."""
    u, delta, A, B, C, D, h0 = x.tensors
    given = _expanded(x)
    tensors = tuple(t.contiguous().numpy() for t in given)
    token = given[3].shape
    parts = max(1, min(_tiles(x), TASKS, SPARE // (2 * u.element_size() * given[3].numel())))
    du, ddelta, dA = *(u.new_empty(given[0].shape) for _ in range(2)), zeros(A.dtype, x.channels, x.states)
    dB, dC = (zeros(B.dtype, parts, *token) for _ in range(2))
    dD = None if D is None else zeros(D.dtype, given[0].shape[-1])
    dh0 = None if h0 is None else torch.empty_like(h0)
    filled = None if D is None else _filled(D.detach())
    ends = (_array(filled, 1, u), _array(_stacked([h0]), 4, u), _array(_filled(gy), 3, u), _array(_stacked([glast]), 4, u))
    own = (du.numpy(), ddelta.numpy(), dA.numpy())
    shared, rest = (dB.numpy(), dC.numpy()), (_array(dD, 1, u), _array(_stacked([dh0]), 4, u))
    kernel, tiny = numba_kernels.backward(SCHEMES.index(x.discretization)), _tiny(x)

    def work(tiles: tuple[int, int], k: int) -> None:
        kernel(tiles, tiny, tensors, *ends, *own, *(t[k] for t in shared), *rest)

    _run(x, parts, work)
    found = [du, ddelta, dA, total(dB), total(dC)]
    gradients = [_like(g, t) for g, t in zip(found, (u, delta, A, B, C), strict=True)]
    return [*gradients, None if D is None or dD is None else _like(dD, D), dh0]


def _like(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A gradient without what fills it up, summed over the axes that the tensor has not."""
    return g[..., : x.shape[-1]].sum_to_size(x.shape).contiguous()
