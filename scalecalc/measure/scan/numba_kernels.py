"""The scan's kernels for numba.  Imported by jit.py alone and when needed, since numba is no dependency.

As in kernel/, a task is some tiles of channels, states are the outer loop and time is the inner one.  Two states of one
vector of channels go through time together, in registers: what all states share (x, Δ, y and its cotangent, the sums over
states) is fetched once for both.  An odd one's companion has its transition, and zeros for B and C.  A tile is some vectors
wide, which take turns with a block of as many states as a vector has lanes.  Its rows are copied first: in memory they lie a
power of two apart often enough to fall upon each other in the cache.

Discretizations are told apart when a kernel is compiled: one of them takes seconds, and few programs use two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit

from scalecalc.measure.scan.inputs import SCHEMES
from scalecalc.measure.scan.numba_vectors import BYTES, INLINE, OPTIONS, if_less, load, power, slope, store, total

ZOH, EULER, BILINEAR, MAMBA = range(len(SCHEMES))
TILE = 4  # vectors of channels
# of a vector of channels and a block of states: A, its rate in powers of two, 1/A, the gradient of A, the cotangents of h
POLE, RATE, INVERSE, TO_POLE, ADJOINT, POLES = range(6)


@njit(**INLINE)
def _discretize(scheme, d, A, rate, inverse):
    """a and w as in kernel/scheme.h; w is of no use where it is 1."""
    if scheme == ZOH:
        up, less = power(d * rate)
        return up, less * inverse
    if scheme == MAMBA:
        return power(d * rate)
    z = d * A
    if scheme == EULER:
        return 1 + z, z
    w = 1 / (1 - 0.5 * z)
    return (1 + 0.5 * z) * w, w


@njit(**INLINE)
def _drive(scheme, u, d):
    """What enters the state: u for zero-order hold, else Δu.  Only the bilinear rule's derivatives need both at hand."""
    return u * d if scheme == BILINEAR else u


@njit(**INLINE)
def _advance(scheme, a, w, h, B, x):
    drive = B * x
    if scheme == ZOH or scheme == BILINEAR:
        drive = drive * w
    return a * h + drive


@njit(**INLINE)
def _retreat(scheme, A, inverse, B, C, d, u, x, g, a, w, before, h, adjoint, to_A, to_x, to_d):
    """One state's step back: l a, the sums with what it adds to them, and the cotangents of B and C."""
    back = adjoint + C * g
    into, of_B = back * B, back * x
    if scheme == EULER:
        slopes, adjoint = back * before, back * a
    elif scheme == BILINEAR:
        slopes, adjoint = back * before * (w * w), back * a
        to_d = to_d + into * u * (w * w)  # not w + Δ dw/dΔ, which cancels
        to_A = to_A + into * x * (0.5 * d) * (w * w)
    else:
        adjoint = back * a
        slopes = adjoint * before
    if scheme == ZOH or scheme == BILINEAR:
        of_B = of_B * w
        to_x = to_x + into * w
    else:
        to_x = to_x + into
    to_d = to_d + slopes * A
    to_A = to_A + slopes * d
    if scheme == ZOH:
        z, of_w = d * A, into * x
        by_A = if_less(z * z, 0.25, slope(z) * (d * d), (d * a - w) * inverse)
        to_d = to_d + of_w * a
        to_A = to_A + of_w * by_A
    return adjoint, to_A, to_x, to_d, total(of_B), total(g * h)


# ------------------------------------------------------------------ in and out of memory


@njit(**OPTIONS)
def _rows(scheme, u, delta, first, vectors, x, d):
    """A tile's input (what :func:`_drive` takes) and step at every time."""
    for t in range(len(u)):
        for v in range(vectors):
            xt, dt = load(u[t], first + v), load(delta[t], first + v)
            store(dt, d[v], t)
            store(xt if scheme == ZOH or scheme == BILINEAR else xt * dt, x[v], t)


@njit(**OPTIONS)
def _tokens(B, C, block, tokens):
    """B and C of a block of states at every time, and zeros for what else is there (their gradients)."""
    tokens[2:] = 0
    for t in range(len(B)):
        store(load(B[t], block), tokens[0, t], 0)
        store(load(C[t], block), tokens[1, t], 0)


@njit(**OPTIONS)
def _poles(scheme, tiny, A, at, block, p):
    """Of a vector of channels and a block of states: A, its rate in powers of two, and 1/A."""
    wide = BYTES // A.itemsize
    count, many = min(wide, len(A) - at * wide), min(wide, A.shape[1] - block * wide)
    if count < wide:
        p[POLE] = -1
    for c in range(count):
        row = A[at * wide + c]
        for i in range(many):
            p[POLE, i * wide + c] = row[block * wide + i]
        if many % 2:
            p[POLE, many * wide + c] = row[block * wide + many - 1]
    for i in range(many + many % 2):
        z = load(p[POLE], i)
        if scheme == ZOH:
            z = if_less(z * z, tiny * tiny, tiny, z)
            store(1 / z, p[INVERSE], i)
        store(z * 1.4426950408889634074, p[RATE], i)


@njit(**OPTIONS)
def _starts(h, m, b, at, n, rows):
    """Two states of a vector of channels from an array of (members, batch, channels, states); zeros if it has no entries."""
    wide = BYTES // h.itemsize
    rows[: 2 * wide] = 0
    for i in range(min(2, h.shape[3] - n)):
        for c in range(min(wide, h.shape[2] - at * wide)):
            rows[i * wide + c] = h[m, b, at * wide + c, n + i]


@njit(**OPTIONS)
def _ends(h, m, b, at, n, rows):
    """The other way."""
    wide = BYTES // h.itemsize
    for i in range(min(2, h.shape[3] - n)):
        for c in range(min(wide, h.shape[2] - at * wide)):
            h[m, b, at * wide + c, n + i] = rows[i * wide + c]


# ------------------------------------------------------------------ forward


@njit(**INLINE)
def _two_forward(scheme, keep, i, p, tokens, x, d, out, h):
    """Two states through time: h begins with theirs, and ends with them; with ``keep`` the ones between follow."""
    A0, r0, v0 = load(p[POLE], i), load(p[RATE], i), load(p[INVERSE], i)
    A1, r1, v1 = load(p[POLE], i + 1), load(p[RATE], i + 1), load(p[INVERSE], i + 1)
    h0, h1, B, C = load(h, 0), load(h, 1), tokens[0], tokens[1]
    for t in range(len(B)):
        dt = load(d, t)
        xt = _drive(scheme, load(x, t), dt)
        a0, w0 = _discretize(scheme, dt, A0, r0, v0)
        a1, w1 = _discretize(scheme, dt, A1, r1, v1)
        h0 = _advance(scheme, a0, w0, h0, B[t, i], xt)
        h1 = _advance(scheme, a1, w1, h1, B[t, i + 1], xt)
        store(load(out, t) + C[t, i] * h0 + C[t, i + 1] * h1, out, t)
        if keep:
            store(h0, h, 2 * t + 2)
            store(h1, h, 2 * t + 3)
    store(h0, h, 0)
    store(h1, h, 1)


@njit(**OPTIONS)
def _norms(factor, time, h, squares, own, most):
    """Squares of two states of all members and, if there are several, of their combination, at all times."""
    members = len(h)
    for k in range(len(squares)):
        for i in range(2):
            sums, largest = load(own[k], i), load(most[k], 0)
            for t in range(time):
                at = 2 * t + 2 + i
                if k < members:
                    g = load(h[k], at)
                else:
                    g = factor[0] * load(h[0], at)
                    for m in range(1, members):
                        g = g + factor[m] * load(h[m], at)
                g = g * g
                store(load(squares[k], t) + g, squares[k], t)
                sums = sums + g
                largest = if_less(largest, g, g, largest)
            store(sums, own[k], i)
            store(largest, most[k], 0)


@njit(**OPTIONS)
def _add_norms(at, n, own, channel, state):
    """The sums of two states to those of a vector's channels, and of the states."""
    wide = own.shape[1] // 2
    for k in range(len(own)):
        for i in range(min(2, state.shape[1] - n)):
            for c in range(min(wide, channel.shape[1] - at * wide)):
                channel[k, at * wide + c] += own[k, i * wide + c]
                state[k, n + i] += own[k, i * wide + c]
    own[:] = 0


@cache
def forward(scheme: int) -> Callable[..., None]:
    """A discretization's kernel: some tiles of all members; D, h0 and last have no entries where they are not wanted.

    Zeros fill up whole vectors: of channels in u, Δ, D and y, of states in B and C.
    """

    @njit(cache=True, **OPTIONS)
    def kernel(tiles, tiny, tensors, D, h0, factor, norms, y, last, position, channel, state, largest):
        u, delta, A, B, C = tensors
        members, batch, time, channels = u.shape
        states, kinds, wide = A.shape[2], len(position), BYTES // u.itemsize
        rows = np.zeros((3, members, TILE, time * wide), u.dtype)
        x, d, out = rows[0], rows[1], rows[2]
        h = np.zeros((members, (2 * time + 2 if norms else 2) * wide), u.dtype)
        p, tokens = np.zeros((members, POLES, wide * wide), u.dtype), np.zeros((members, 2, time, wide), u.dtype)
        squares = np.zeros((kinds, TILE, time * wide), u.dtype)
        own, most = np.zeros((kinds, 2 * wide), u.dtype), np.zeros((kinds, wide), u.dtype)
        for tile in range(tiles[0], tiles[1]):
            first, vectors = tile * TILE, min(TILE, channels // wide - tile * TILE)
            for b in range(batch):
                out[:], squares[:] = 0, 0
                for k in range(members):
                    _rows(scheme, u[k, b], delta[k, b], first, vectors, x[k], d[k])
                for n in range(0, states, wide):
                    for k in range(members):
                        _tokens(B[k, b], C[k, b], n // wide, tokens[k])
                    for v in range(vectors):
                        for k in range(members):
                            _poles(scheme, tiny, A[k], first + v, n // wide, p[k])
                        for i in range(0, min(wide, states - n), 2):
                            for k in range(members):
                                _starts(h0, k, b, first + v, n + i, h[k])
                                _two_forward(scheme, norms, i, p[k], tokens[k], x[k, v], d[k, v], out[k, v], h[k])
                                _ends(last, k, b, first + v, n + i, h[k])
                            if norms:
                                _norms(factor, time, h, squares[:, v], own, most)
                                _add_norms(first + v, n + i, own, channel, state)
                for t in range(time):
                    for v in range(vectors):
                        for k in range(members):
                            yt = load(out[k, v], t)
                            if D.size:
                                yt = yt + load(D[k], first + v) * load(u[k, b, t], first + v)
                            store(yt, y[k, b, t], first + v)
                        for k in range(kinds if norms else 0):
                            for c in range(min(wide, A.shape[1] - (first + v) * wide)):
                                position[k, b, t] += squares[k, v, t * wide + c]
        for k in range(kinds if norms else 0):
            largest[k] = most[k].max()

    return kernel


# ------------------------------------------------------------------ backward


@njit(**INLINE)
def _two_backward(scheme, i, p, tokens, x, d, g, to_x, to_d, h, a, w):
    """Two states: a, w and h at all times are computed anew and kept, then gone through from the last step."""
    A0, r0, v0 = load(p[POLE], i), load(p[RATE], i), load(p[INVERSE], i)
    A1, r1, v1 = load(p[POLE], i + 1), load(p[RATE], i + 1), load(p[INVERSE], i + 1)
    h0, h1, B, C = load(h, 0), load(h, 1), tokens[0], tokens[1]
    for t in range(len(B)):
        dt = load(d, t)
        xt = _drive(scheme, load(x, t), dt)
        a0, w0 = _discretize(scheme, dt, A0, r0, v0)
        a1, w1 = _discretize(scheme, dt, A1, r1, v1)
        h0 = _advance(scheme, a0, w0, h0, B[t, i], xt)
        h1 = _advance(scheme, a1, w1, h1, B[t, i + 1], xt)
        store(a0, a, 2 * t)
        store(a1, a, 2 * t + 1)
        if scheme == ZOH or scheme == BILINEAR:
            store(w0, w, 2 * t)
            store(w1, w, 2 * t + 1)
        store(h0, h, 2 * t + 2)
        store(h1, h, 2 * t + 3)
    q0, q1 = load(p[TO_POLE], i), load(p[TO_POLE], i + 1)
    l0, l1 = load(p[ADJOINT], i), load(p[ADJOINT], i + 1)
    for t in range(len(B) - 1, -1, -1):
        ut, dt, gt, sx, sd = load(x, t), load(d, t), load(g, t), load(to_x, t), load(to_d, t)
        xt = _drive(scheme, ut, dt)
        a0, a1, b0, b1 = load(a, 2 * t), load(a, 2 * t + 1), load(h, 2 * t), load(h, 2 * t + 1)
        if scheme == ZOH or scheme == BILINEAR:
            w0, w1 = load(w, 2 * t), load(w, 2 * t + 1)
        else:
            w0, w1 = a0, a1
        B0, C0, B1, C1 = B[t, i], C[t, i], B[t, i + 1], C[t, i + 1]
        l0, q0, sx, sd, to_B0, to_C0 = _retreat(scheme, A0, v0, B0, C0, dt, ut, xt, gt, a0, w0, b0, h0, l0, q0, sx, sd)
        l1, q1, sx, sd, to_B1, to_C1 = _retreat(scheme, A1, v1, B1, C1, dt, ut, xt, gt, a1, w1, b1, h1, l1, q1, sx, sd)
        tokens[2, t, i] += to_B0
        tokens[2, t, i + 1] += to_B1
        tokens[3, t, i] += to_C0
        tokens[3, t, i + 1] += to_C1
        h0, h1 = b0, b1
        store(sx, to_x, t)
        store(sd, to_d, t)
    store(q0, p[TO_POLE], i)
    store(q1, p[TO_POLE], i + 1)
    store(l0, p[ADJOINT], i)
    store(l1, p[ADJOINT], i + 1)


@njit(**OPTIONS)
def _add_poles(at, n, p, dA, wide):
    """A block's gradients of A to those of all states."""
    for c in range(min(wide, len(dA) - at * wide)):
        row = dA[at * wide + c]
        for i in range(min(wide, row.size - n)):
            row[n + i] += p[TO_POLE, i * wide + c]


@cache
def backward(scheme: int) -> Callable[..., None]:
    """A discretization's kernel for the gradients of one member; D, h0, glast and their gradients may have no entries.

    What is filled up in :func:`forward` is, and so are the gradients of it.
    """

    @njit(cache=True, **OPTIONS)
    def kernel(tiles, tiny, tensors, D, h0, gy, glast, du, ddelta, dA, dB, dC, dD, dh0):
        u, delta, A, B, C = tensors
        batch, time, channels = u.shape
        states, wide = A.shape[1], BYTES // u.itemsize
        rows = np.zeros((5, TILE, time * wide), u.dtype)
        x, d, g, to_x, to_d = rows[0], rows[1], rows[2], rows[3], rows[4]
        h, a = np.zeros((2 * time + 2) * wide, u.dtype), np.zeros(2 * time * wide, u.dtype)
        w = np.zeros(2 * time * wide if scheme == ZOH or scheme == BILINEAR else 0, u.dtype)
        p, tokens = np.zeros((POLES, wide * wide), u.dtype), np.zeros((4, time, wide), u.dtype)
        for tile in range(tiles[0], tiles[1]):
            first, vectors = tile * TILE, min(TILE, channels // wide - tile * TILE)
            for b in range(batch):
                rows[3:] = 0
                _rows(scheme, u[b], delta[b], first, vectors, x, d)
                for t in range(time):
                    for v in range(vectors):
                        store(load(gy[b, t], first + v), g[v], t)
                for n in range(0, states, wide):
                    _tokens(B[b], C[b], n // wide, tokens)
                    for v in range(vectors):
                        _poles(scheme, tiny, A, first + v, n // wide, p)
                        p[TO_POLE:] = 0
                        for i in range(0, min(wide, states - n), 2):
                            adjoint = p[ADJOINT, i * wide :]
                            _starts(h0, 0, b, first + v, n + i, h)
                            _starts(glast, 0, b, first + v, n + i, adjoint)
                            _two_backward(scheme, i, p, tokens, x[v], d[v], g[v], to_x[v], to_d[v], h, a, w)
                            _ends(dh0, 0, b, first + v, n + i, adjoint)
                        _add_poles(first + v, n, p, dA, wide)
                    for t in range(time):
                        store(load(dB[b, t], n // wide) + load(tokens[2, t], 0), dB[b, t], n // wide)
                        store(load(dC[b, t], n // wide) + load(tokens[3, t], 0), dC[b, t], n // wide)
                for t in range(time):
                    for v in range(vectors):
                        at = first + v
                        of_x, of_d, ut = load(to_x[v], t), load(to_d[v], t), load(u[b, t], at)
                        if scheme == EULER or scheme == MAMBA:  # x = Δu
                            of_d = of_d + ut * of_x
                        if scheme != ZOH:
                            of_x = of_x * load(d[v], t)
                        if D.size:
                            of_x = of_x + load(D, at) * load(g[v], t)
                            store(load(dD, at) + ut * load(g[v], t), dD, at)
                        store(of_x, du[b, t], at)
                        store(of_d, ddelta[b, t], at)

    return kernel
