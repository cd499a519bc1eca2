"""The scan compiled by numba: for machines without a C compiler, three to six times as slow as the C kernel.

It serves real transitions whose B and C are per token or the same for all; the reference does the rest.  What varies by
position alone is expanded, and its gradient summed.  As in kernel/, a task is a tile of channels, states are the outer loop,
time is the next and channels the inner one, which LLVM makes vectors of; a tile adds up its own sums, and they are added in
order.  numba's own threads are not used: a second call of its pool from another thread would end the process.

The exponential is kernel/vector.h's, since numba has had no vector one since SVML left it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic, overload

from scalecalc.measure.scan.cpu import ALONE, SPARE, TASKS, Sums
from scalecalc.measure.scan.inputs import SCHEMES, Inputs

ZOH, EULER, BILINEAR, MAMBA = range(len(SCHEMES))
WIDE, BLOCK = 64, 16  # channels of a tile, and states whose transposed A is at hand
# no reassociation where an exponential adds and subtracts a large number; not-a-numbers are always kept
EXACT: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}
SUMMED: dict[str, Any] = {**EXACT, "fastmath": {"contract", "reassoc", "nsz"}}


# ------------------------------------------------------------------ the exponential


@intrinsic
def _same_bits(typing: Any, x: Any) -> Any:  # type: ignore[no-untyped-def]
    """A float's bits as an integer, an integer's as a float."""
    pairs = {types.float32: types.int32, types.float64: types.int64}
    to = {**pairs, **{v: k for k, v in pairs.items()}}[x]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(to))

    return to(x), code


def _constants(real: type, mantissa: int, bias: int, q: Sequence[str]) -> tuple[Any, ...]:
    return real(3 * 2.0 ** (mantissa - 1) + bias), real(-bias), real(bias + 1), real(1), *(real(c) for c in q)


SINGLE = _constants(
    np.float32, 23, 127,
    ("0.693147188026228781", "0.240226507605681269", "0.0555035711421907782", "0.00961808255727785149",
     "0.00133908633646712344", "0.000154531629451206902"),
)  # fmt: skip
DOUBLE = _constants(
    np.float64, 52, 1023,
    ("0.693147180559945309", "0.240226506959100712", "0.055504108664821627", "0.00961812910762847949",
     "0.00133335581464064707", "0.000154035303933707334", "1.52527338415567726e-5", "1.32154868087055628e-6",
     "1.01780570877339411e-7", "7.05489730415549928e-9", "4.45581790833606449e-10", "2.57293241773623042e-11"),
)  # fmt: skip


def _power(x: Any) -> Any:
    """2^x and 2^x − 1: see kernel/vector.h."""
    raise NotImplementedError


@overload(_power, jit_options={"fastmath": {"contract"}})
def _(x: Any) -> Any:
    if x == types.float32:

        def single(x: Any) -> Any:
            shift, low, high, one, q0, q1, q2, q3, q4, q5 = SINGLE
            x = low if x < low else x
            x = high if x > high else x
            shifted = x + shift
            r = x - (shifted - shift)
            s = _same_bits(np.int32(_same_bits(shifted) << 23))
            less = r * (q0 + r * (q1 + r * (q2 + r * (q3 + r * (q4 + r * q5)))))
            up = s * (less + one)
            return up, less if s == one else up - one

        return single

    def double(x: Any) -> Any:
        shift, low, high, one, q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, q10, q11 = DOUBLE
        x = low if x < low else x
        x = high if x > high else x
        shifted = x + shift
        r = x - (shifted - shift)
        s = _same_bits(_same_bits(shifted) << 52)
        q = q6 + r * (q7 + r * (q8 + r * (q9 + r * (q10 + r * q11))))
        less = r * (q0 + r * (q1 + r * (q2 + r * (q3 + r * (q4 + r * (q5 + r * q))))))
        up = s * (less + one)
        return up, less if s == one else up - one

    return double


def _slope(z: Any) -> Any:
    """((z − 1) e^z + 1)/z² for |z| < 1/2, by its series Σ (k+1)/(k+2)! z^k."""
    raise NotImplementedError


SLOPE = tuple((k + 1) / float(np.prod(np.arange(1.0, k + 3))) for k in range(16))
SLOPE_SINGLE = tuple(np.float32(c) for c in SLOPE[:10])


@overload(_slope, jit_options={"fastmath": {"contract"}})
def _(z: Any) -> Any:
    if z == types.float32:

        def single(z: Any) -> Any:
            c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 = SLOPE_SINGLE
            high = c5 + z * (c6 + z * (c7 + z * (c8 + z * c9)))
            return c0 + z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * high))))

        return single

    def double(z: Any) -> Any:
        c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15 = SLOPE
        high = c10 + z * (c11 + z * (c12 + z * (c13 + z * (c14 + z * c15))))
        high = c5 + z * (c6 + z * (c7 + z * (c8 + z * (c9 + z * high))))
        return c0 + z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * high))))

    return double


# ------------------------------------------------------------------ one row of a tile
# What a row (one time step) and a state have lies in one piece each, at these places, so that LLVM can see at compile time
# that nothing overlaps; of separate arrays it cannot, and makes no vectors.
# r[t] is the row after step t, p[i] a state.
# ``unit`` is 0, 1, 1/2, 1/log 2 and the A that stands for 0, in the precision of the rest.

X, DELTA, OUT, DECAY, WEIGHT, H, TO_X, TO_DELTA, SQUARE, ROW = (WIDE * k for k in range(10))
POLE, RATE, INVERSE, ADJOINT, TO_POLE, STATE = (WIDE * k for k in range(6))
OWN, MOST = (WIDE * k for k in range(2))


@njit(**EXACT)
def _discretize(scheme, unit, r, t, p, i):
    """a and w as in kernel/scheme.h; w stays what it is where it is 1."""
    one, half = unit[1], unit[2]
    if scheme == ZOH:
        for c in range(WIDE):
            up, less = _power(r[t, DELTA + c] * p[i, RATE + c])
            r[t, DECAY + c] = up
            r[t, WEIGHT + c] = less * p[i, INVERSE + c]
    elif scheme == MAMBA:
        for c in range(WIDE):
            up, _less = _power(r[t, DELTA + c] * p[i, RATE + c])
            r[t, DECAY + c] = up
    elif scheme == EULER:
        for c in range(WIDE):
            r[t, DECAY + c] = one + r[t, DELTA + c] * p[i, POLE + c]
    else:
        for c in range(WIDE):
            z = r[t, DELTA + c] * p[i, POLE + c] * half
            w = one / (one - z)
            r[t, WEIGHT + c] = w
            r[t, DECAY + c] = (one + z) * w


@njit(**EXACT)
def _advance(B, r, t):
    """h of a row from that of the row before."""
    for c in range(WIDE):
        r[t, H + c] = r[t, DECAY + c] * r[t - 1, H + c] + B * r[t, X + c] * r[t, WEIGHT + c]


@njit(**EXACT)
def _read(C, r, t):
    for c in range(WIDE):
        r[t, OUT + c] += C * r[t, H + c]


@njit(**EXACT)
def _square(r, t, own):
    for c in range(WIDE):
        g = r[t, H + c] * r[t, H + c]
        r[t, SQUARE + c] += g
        own[OWN + c] += g
        own[MOST + c] = g if g > own[MOST + c] else own[MOST + c]


@njit(**SUMMED)
def _retreat(scheme, unit, B, C, r, t, p, i):
    """One step back: cotangents of x, Δ and A, and what B and C get from the row.  OUT holds that of y."""
    half, to_B, to_C = unit[2], unit[0], unit[0]
    if scheme == ZOH:
        for c in range(WIDE):
            a, w, x, d = r[t, DECAY + c], r[t, WEIGHT + c], r[t, X + c], r[t, DELTA + c]
            back = p[i, ADJOINT + c] + C * r[t, OUT + c]
            to_C += r[t, OUT + c] * r[t, H + c]
            to_B += back * x * w
            r[t, TO_X + c] += back * B * w
            of_w = back * B * x
            slope = back * r[t - 1, H + c] * a
            z = d * p[i, POLE + c]
            by_A = _slope(z) * d * d if abs(z) < half else (d * a - w) * p[i, INVERSE + c]
            r[t, TO_DELTA + c] += slope * p[i, POLE + c] + of_w * a
            p[i, TO_POLE + c] += slope * d + of_w * by_A
            p[i, ADJOINT + c] = back * a
    elif scheme == BILINEAR:
        for c in range(WIDE):
            a, w, x, d = r[t, DECAY + c], r[t, WEIGHT + c], r[t, X + c], r[t, DELTA + c]
            back = p[i, ADJOINT + c] + C * r[t, OUT + c]
            to_C += r[t, OUT + c] * r[t, H + c]
            to_B += back * x * w
            r[t, TO_X + c] += back * B * w
            slope = (back * r[t - 1, H + c] + back * B * x * half) * w * w
            r[t, TO_DELTA + c] += slope * p[i, POLE + c]
            p[i, TO_POLE + c] += slope * d
            p[i, ADJOINT + c] = back * a
    else:
        for c in range(WIDE):
            a, x, d = r[t, DECAY + c], r[t, X + c], r[t, DELTA + c]
            back = p[i, ADJOINT + c] + C * r[t, OUT + c]
            to_C += r[t, OUT + c] * r[t, H + c]
            to_B += back * x
            r[t, TO_X + c] += back * B
            slope = back * r[t - 1, H + c]
            slope = slope if scheme == EULER else slope * a
            r[t, TO_DELTA + c] += slope * p[i, POLE + c]
            p[i, TO_POLE + c] += slope * d
            p[i, ADJOINT + c] = back * a
    return to_B, to_C


# ------------------------------------------------------------------ tiles


@njit(**EXACT)
def _rows(scheme, u, delta, first, count, r):
    """A tile's input (u for zero-order hold, else Δu) and step at every time; all else is set to zero, w to 1."""
    r[:] = 0
    for t in range(1, len(r)):
        for c in range(WIDE):
            r[t, WEIGHT + c] = 1
        for c in range(count):
            x, d = u[t - 1, first + c], delta[t - 1, first + c]
            r[t, DELTA + c] = d
            r[t, X + c] = x if scheme == ZOH else x * d


@njit(**EXACT)
def _states(scheme, unit, A, B, C, first, count, n, p, tokens):
    """Of a block of states: A, its rate in powers of two, and 1/A; B and C at every time, and zeros for their gradients."""
    tiny, many = unit[4], min(BLOCK, A.shape[1] - n)
    p[:] = 0
    for c in range(count):
        for i in range(many):
            z = A[first + c, n + i]
            if scheme == ZOH and abs(z) < tiny:
                z = tiny
            p[i, POLE + c] = A[first + c, n + i]
            p[i, RATE + c] = z * unit[3]
            p[i, INVERSE + c] = unit[1] / z
    for t in range(len(B)):
        for i in range(many):
            tokens[0, t, i], tokens[1, t, i] = B[t, n + i], C[t, n + i]


@njit(**EXACT)
def _forward(tiles, scheme, unit, tensors, D, h0, factor, norms, y, last, position, channel, state, largest):
    """Some tiles of all members; D, h0 and last have no entries where they are not wanted."""
    u, delta, A, B, C = tensors
    members, batch, time, channels = u.shape
    states, kinds = A.shape[2], len(position)
    rows, poles = np.zeros((kinds, time + 1, ROW), u.dtype), np.zeros((members, BLOCK, STATE), u.dtype)
    tokens, own = np.zeros((members, 2, time, BLOCK), u.dtype), np.zeros((kinds, 2 * WIDE), u.dtype)
    for tile in range(tiles[0], tiles[1]):
        first = tile * WIDE
        count = min(WIDE, channels - first)
        for b in range(batch):
            for k in range(kinds):
                m = min(k, members - 1)
                _rows(scheme, u[m, b], delta[m, b], first, count, rows[k])
            for n in range(states):
                i = n % BLOCK
                for k in range(members):
                    r, p, token = rows[k], poles[k], tokens[k]
                    if i == 0:
                        _states(scheme, unit, A[k], B[k, b], C[k, b], first, count, n, p, token)
                    r[0, H : H + WIDE] = 0
                    if h0.size:
                        r[0, H : H + count] = h0[k, b, first : first + count, n]
                    for t in range(1, time + 1):
                        _discretize(scheme, unit, r, t, p, i)
                        _advance(token[0, t - 1, i], r, t)
                        _read(token[1, t - 1, i], r, t)
                    if last.size:
                        last[k, b, first : first + count, n] = r[time, H : H + count]
                if norms:
                    own[:, OWN : OWN + WIDE] = 0
                    _norms(members, factor, rows, own)
                    for k in range(kinds):
                        for c in range(count):
                            channel[k, first + c] += own[k, OWN + c]
                            state[k, n] += own[k, OWN + c]
            for t in range(time):
                for k in range(members):
                    for c in range(count):
                        skip = D[k, first + c] * u[k, b, t, first + c] if D.size else unit[0]
                        y[k, b, t, first + c] = rows[k, t + 1, OUT + c] + skip
                for k in range(kinds if norms else 0):
                    for c in range(count):
                        position[k, b, t] += rows[k, t + 1, SQUARE + c]
    for k in range(kinds if norms else 0):
        largest[k] = own[k, MOST:].max()


@njit(**EXACT)
def _norms(members, factor, rows, own):
    """Squares of one state of all members, and of their combination, at all times."""
    for k in range(len(rows)):
        r, mine = rows[k], own[k]
        for t in range(1, len(r)):
            if k == members:
                for c in range(WIDE):
                    r[t, H + c] = 0
                for m in range(members):
                    for c in range(WIDE):
                        r[t, H + c] += factor[m] * rows[m, t, H + c]
            _square(r, t, mine)


@njit(**EXACT)
def _backward(tiles, scheme, unit, tensors, D, h0, gy, glast, du, ddelta, dA, dB, dC, dD, dh0):
    """Some tiles: a, w and h of one state are computed anew and kept, then gone through from the last step."""
    u, delta, A, B, C = tensors
    batch, time, channels = u.shape
    states = A.shape[1]
    r, p = np.zeros((time + 1, ROW), u.dtype), np.zeros((BLOCK, STATE), u.dtype)
    tokens = np.zeros((4, time, BLOCK), u.dtype)
    for tile in range(tiles[0], tiles[1]):
        first = tile * WIDE
        count = min(WIDE, channels - first)
        for b in range(batch):
            _rows(scheme, u[b], delta[b], first, count, r)
            for t in range(time):
                r[t + 1, OUT : OUT + count] = gy[b, t, first : first + count]
            for n in range(states):
                i = n % BLOCK
                if i == 0:
                    _states(scheme, unit, A, B[b], C[b], first, count, n, p, tokens)
                r[0, H : H + WIDE] = 0
                if h0.size:
                    r[0, H : H + count] = h0[b, first : first + count, n]
                if glast.size:
                    p[i, ADJOINT : ADJOINT + count] = glast[b, first : first + count, n]
                for t in range(1, time + 1):
                    _discretize(scheme, unit, r, t, p, i)
                    _advance(tokens[0, t - 1, i], r, t)
                for t in range(time, 0, -1):
                    sums = _retreat(scheme, unit, tokens[0, t - 1, i], tokens[1, t - 1, i], r, t, p, i)
                    tokens[2, t - 1, i], tokens[3, t - 1, i] = sums
                if dh0.size:
                    dh0[b, first : first + count, n] = p[i, ADJOINT : ADJOINT + count]
                if i == BLOCK - 1 or n == states - 1:
                    for c in range(count):
                        for s in range(i + 1):
                            dA[first + c, n - i + s] += p[s, TO_POLE + c]
                    for t in range(time):
                        for s in range(i + 1):
                            dB[b, t, n - i + s] += tokens[2, t, s]
                            dC[b, t, n - i + s] += tokens[3, t, s]
            for t in range(time):
                for c in range(count):
                    at = first + c
                    to_x, to_d = r[t + 1, TO_X + c], r[t + 1, TO_DELTA + c]
                    if scheme != ZOH:  # x = Δu
                        to_d += u[b, t, at] * to_x
                        to_x *= delta[b, t, at]
                    if D.size:
                        to_x += D[at] * gy[b, t, at]
                        dD[at] += u[b, t, at] * gy[b, t, at]
                    du[b, t, at] = to_x
                    ddelta[b, t, at] = to_d


# ------------------------------------------------------------------ from tensors and back


def _expanded(x: Inputs) -> list[torch.Tensor]:
    """u, delta, A, B, C with all their axes."""
    u, delta, A, B, C, _, _ = (t.detach() if t is not None else None for t in x.tensors)
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    token = (x.batch, x.time, x.states)
    return [u, delta.expand_as(u), A.expand(x.channels, x.states), B.expand(token), C.expand(token)]


def _array(x: torch.Tensor | None, axes: int, like: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor as an array; one without entries if it is missing."""
    return (like.new_empty((0,) * axes) if x is None else x.detach().contiguous()).numpy()


def _stacked(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    given = [t.detach() for t in tensors if t is not None]
    return torch.stack(given) if given else None


def _unit(x: Inputs) -> tuple[Any, ...]:
    real = np.float64 if x.double else np.float32
    return tuple(map(real, (0, 1, 0.5, 1 / np.log(2), 1e-100 if x.double else 1e-18)))


def _run(x: Inputs, parts: int, work: Callable[[tuple[int, int], int], None]) -> None:
    """A contiguous range of tiles for each part; the parts are taken in turn by as many threads as torch has."""
    tiles = -(-x.channels // WIDE)
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
    tensors = tuple(torch.stack(t).numpy() for t in zip(*map(_expanded, members), strict=True))
    D, h0 = (_stacked([m.tensors[k] for m in members]) for k in (5, 6))
    y = u.new_empty(count, *u.shape)
    h = u.new_empty(count, x.batch, x.channels, x.states) if last else None
    parts = max(1, min(-(-x.channels // WIDE), TASKS, SPARE // (8 * kinds * x.batch * x.time) if norms else TASKS))
    position = np.zeros((parts, kinds, x.batch, x.time))
    channel, state, largest = np.zeros((kinds, x.channels)), np.zeros((parts, kinds, x.states)), np.zeros((parts, kinds))
    given = (_array(D, 2, u), _array(h0, 4, u), np.array(coefficients, dtype=tensors[0].dtype), norms > 0)
    out = (y.numpy(), _array(h, 4, u))
    scheme, unit = SCHEMES.index(x.discretization), _unit(x)

    def work(tiles: tuple[int, int], k: int) -> None:
        _forward(tiles, scheme, unit, tensors, *given, *out, position[k], channel, state[k], largest[k])

    _run(x, parts, work)
    sums = None
    if norms:
        where, by_channel, by_state, most = map(torch.from_numpy, (position.sum(0), channel, state.sum(0), largest.max(0)))
        sums = Sums(where, by_channel, by_state, torch.where(where.flatten(1).sum(1).isnan(), torch.nan, most))
    return list(y.unbind(0)), [] if h is None else list(h.unbind(0)), sums


def backward(x: Inputs, gy: torch.Tensor, glast: torch.Tensor | None) -> list[torch.Tensor | None]:
    """As :func:`scalecalc.measure.scan.cpu.backward`."""
    u, delta, A, B, C, D, h0 = x.tensors
    given = _expanded(x)
    tensors = tuple(t.contiguous().numpy() for t in given)
    parts = max(1, min(-(-x.channels // WIDE), TASKS, SPARE // (2 * u.element_size() * given[3].numel())))
    du, ddelta, dA = torch.empty_like(u), torch.empty_like(u), A.new_zeros(x.channels, x.states)
    dB, dC = (B.new_zeros(parts, *given[3].shape) for _ in range(2))
    dD, dh0 = (None if t is None else torch.zeros_like(t) for t in (D, h0))
    ends = (_array(D, 1, u), _array(h0, 3, u), _array(gy, 3, u), _array(glast, 3, u))
    own = (du.numpy(), ddelta.numpy(), dA.numpy())
    shared, rest = (dB.numpy(), dC.numpy()), (_array(dD, 1, u), _array(dh0, 3, u))
    scheme, unit = SCHEMES.index(x.discretization), _unit(x)

    def work(tiles: tuple[int, int], k: int) -> None:
        _backward(tiles, scheme, unit, tensors, *ends, *own, *(t[k] for t in shared), *rest)

    _run(x, parts, work)
    gradients = (du, ddelta, dA, dB.sum(0), dC.sum(0))
    return [*(g.sum_to_size(t.shape) for g, t in zip(gradients, (u, delta, A, B, C), strict=True)), dD, dh0]
