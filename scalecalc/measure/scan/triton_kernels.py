"""The scan's kernels for the GPU, in Triton.  Imported by gpu.py alone and when needed, since Triton is no dependency.

As on the CPU, channels are what lanes are made of: a program holds BN states of BD channels in its registers, all states of a
channel in one thread, goes through time, and takes the next BN states.  So sums over the states need no exchange between
threads, no shared memory bounds the number of states, and no tensor of them is written.  A program adds to rows of
its own (in split, part or group), so that nothing is atomic and results do not depend on the order of programs.

Forward has a leading axis of M members side by side, a power of two, for the norms of differences.  Backward keeps h at every
``chunk``-th step and computes the steps between anew.

Masked entries must not make a sum not a number: there A is −1, B and C are 0.  A mask that is made of a loop's variable alone
does not work in Triton's interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl

ZOH: tl.constexpr = tl.constexpr(0)
EULER: tl.constexpr = tl.constexpr(1)
BILINEAR: tl.constexpr = tl.constexpr(2)


@triton.jit
def series(z, ORDER: tl.constexpr, TERMS: tl.constexpr):
    """Σ z^k/(k+1)!, or of order 1 its derivative Σ (k+1)/(k+2)! z^k, each coefficient from the one before it."""
    out = z * 0 + 1
    for i in tl.static_range(TERMS):
        if ORDER == 0:
            out = 1 + out * (z * (1 / (TERMS - i + 1)))
        else:
            out = 1 + out * (z * ((TERMS - i + 1) / ((TERMS - i) * (TERMS - i + 2))))
    if ORDER == 1:
        out = out * 0.5
    return out


@triton.jit
def discretize(d, A, inverse, SCHEME: tl.constexpr, TERMS: tl.constexpr):
    """a and w as in kernel/scheme.h."""
    z = d * A
    w = z * 0 + 1
    if SCHEME == EULER:
        a = 1 + z
    elif SCHEME == BILINEAR:
        w = 1 / (1 - z * 0.5)
        a = (1 + z * 0.5) * w
    else:
        a = tl.exp(z)
        if SCHEME == ZOH:
            w = tl.where(tl.abs(z) < 0.5, d * series(z, 0, TERMS), (a - 1) * inverse)
    return a, w


@triton.jit
def driven(d, x, B, A, inverse, SCHEME: tl.constexpr, TERMS: tl.constexpr):
    """a, and what a step adds to a h."""
    if SCHEME != ZOH:
        x = x * d
    a, w = discretize(d, A, inverse, SCHEME, TERMS)
    drive = B * x
    if SCHEME == ZOH or SCHEME == BILINEAR:
        drive = drive * w
    return a, drive


@triton.jit
def forward(
    u_p, d_p, A_p, B_p, C_p, h0_p, y_p, last_p, square_p, state_p, most_p, factor_p,
    batch, time, channels, states, members, per_split,
    d_m, d_b, d_t, A_m, A_c, B_m, B_b, B_t, B_c, C_m, C_b, C_t, C_c,
    SCHEME: tl.constexpr, TERMS: tl.constexpr, B_CHANNEL: tl.constexpr, C_CHANNEL: tl.constexpr,
    H0: tl.constexpr, LAST: tl.constexpr, NORMS: tl.constexpr, M: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A tile of channels of one sequence, and one split's states: grid (tiles, batch, splits)."""
    tile, b, split = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    m = tl.arange(0, M)[:, None, None].to(tl.int64)
    c = (tile * BD + tl.arange(0, BD))[None, None, :].to(tl.int64)
    there = (m < members) & (c < channels)  # (M, 1, BD)
    row = ((m * batch + b) * time) * channels + c
    u_at, y_at = u_p + row, y_p + split * members * batch * time * channels + row
    d_at = d_p + m * d_m + b * d_b + c
    if NORMS > 0:
        kinds = members + (M > 1)
        size = batch * time * channels
        square_at = square_p + split * kinds * size + row
        factor = tl.load(factor_p + m, mask=m < members, other=0)
        mixed_p = square_p + split * kinds * size + (members * batch + b) * time * channels
        n1 = tl.arange(0, BN)[:, None]
        c1 = (tile * BD + tl.arange(0, BD))[None, :].to(tl.int64)
    for n0 in range(split * per_split, tl.minimum(states, (split + 1) * per_split), BN):
        n = n0 + tl.arange(0, BN)[None, :, None]
        full = there & (n < states)
        A = tl.load(A_p + m * A_m + c * A_c + n, mask=full, other=-1)
        inverse = 1 / A
        b_in, c_in = (m < members) & (n < states), (m < members) & (n < states)
        B_at, C_at = B_p + m * B_m + b * B_b + n, C_p + m * C_m + b * C_b + n
        if B_CHANNEL:
            b_in, B_at = full, B_at + c * B_c
        if C_CHANNEL:
            c_in, C_at = full, C_at + c * C_c
        h = A * 0
        h_at = ((m * batch + b) * channels + c) * states + n
        if H0:
            h = tl.load(h0_p + h_at, mask=full, other=0)
        if NORMS > 0:
            own = h * 0
            most = h * 0
            both = tl.sum(h * 0, axis=0)
            widest = both
        for t in range(time):
            d = tl.load(d_at + t * d_t, mask=there, other=0)
            x = tl.load(u_at + t * channels, mask=there, other=0)
            a, drive = driven(d, x, tl.load(B_at + t * B_t, mask=b_in, other=0), A, inverse, SCHEME, TERMS)
            h = a * h + drive
            y = tl.sum(tl.load(C_at + t * C_t, mask=c_in, other=0) * h, axis=1)[:, None, :]
            y += tl.load(y_at + t * channels, mask=there, other=0)
            tl.store(y_at + t * channels, y, mask=there)
            if NORMS > 0:
                g = tl.where(full, h * h, 0)
                row_sum = tl.sum(g, axis=1)[:, None, :] + tl.load(square_at + t * channels, mask=there, other=0)
                tl.store(square_at + t * channels, row_sum, mask=there)
                if NORMS > 1:
                    own += g
                    most = tl.maximum(most, g)
                if M > 1:
                    mixed = tl.sum(h * factor, axis=0)  # (BN, BD)
                    g1 = tl.where((n0 + n1 < states) & (c1 < channels), mixed * mixed, 0)
                    mixed_at = mixed_p + t * channels + c1
                    line = tl.sum(g1, axis=0)[None, :] + tl.load(mixed_at, mask=c1 < channels, other=0)
                    tl.store(mixed_at, line, mask=c1 < channels)
                    if NORMS > 1:
                        both += g1
                        widest = tl.maximum(widest, g1)
        if LAST:
            tl.store(last_p + h_at, h, mask=full)
        if NORMS > 1:
            # (tiles, batch, kinds, states): sums over time and the tile's channels, and maxima
            place = (tile * batch + b) * kinds
            k2, n2 = tl.arange(0, M)[:, None], n0 + tl.arange(0, BN)[None, :]
            at = (place + k2) * states + n2
            ok = (k2 < members) & (n2 < states)
            tl.store(state_p + at, tl.sum(own, axis=2), mask=ok)
            tl.store(most_p + at, tl.max(most, axis=2), mask=ok)
            if M > 1:
                n3 = n0 + tl.arange(0, BN)
                at = (place + members) * states + n3
                tl.store(state_p + at, tl.sum(both, axis=1), mask=n3 < states)
                tl.store(most_p + at, tl.max(widest, axis=1), mask=n3 < states)


@triton.jit
def backward(
    u_p, d_p, A_p, B_p, C_p, h0_p, g_p, last_p, marks_p, kept_p, du_p, dd_p, dA_p, dB_p, dC_p, dh0_p,
    batch, time, channels, states, chunk, tiles, d_b, d_t, A_c, B_b, B_t, B_c, C_b, C_t, C_c,
    SCHEME: tl.constexpr, TERMS: tl.constexpr, B_CHANNEL: tl.constexpr, C_CHANNEL: tl.constexpr,
    H0: tl.constexpr, LAST: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A part of the tiles and a group of the sequences: grid (parts, groups)."""
    part, group = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    parts, groups = tl.num_programs(0), tl.num_programs(1)
    chunks = (time + chunk - 1) // chunk
    program = group * parts + part
    place = tl.arange(0, BN)[:, None] * BD + tl.arange(0, BD)[None, :]
    marks_at, kept_at = marks_p + program * chunks * (BN * BD) + place, kept_p + program * chunk * (BN * BD) + place
    for tile in range(tiles * part // parts, tiles * (part + 1) // parts):
        c = (tile * BD + tl.arange(0, BD))[None, :].to(tl.int64)
        there = c < channels
        for b in range(batch * group // groups, batch * (group + 1) // groups):
            row = b * time * channels + c
            d_at = d_p + b * d_b + c
            for n0 in range(0, states, BN):
                n = n0 + tl.arange(0, BN)[:, None]
                full = there & (n < states)
                A = tl.load(A_p + c * A_c + n, mask=full, other=-1)
                inverse = 1 / A
                b_in, c_in = n < states, n < states
                B_at, C_at = B_p + b * B_b + n, C_p + b * C_b + n
                if B_CHANNEL:
                    b_in, B_at = full, B_at + c * B_c
                if C_CHANNEL:
                    c_in, C_at = full, C_at + c * C_c
                h_at = (b * channels + c) * states + n
                h = A * 0
                if H0:
                    h = tl.load(h0_p + h_at, mask=full, other=0)
                for k in range(chunks - 1):
                    tl.store(marks_at + k * (BN * BD), h)
                    for t in range(k * chunk, (k + 1) * chunk):
                        d = tl.load(d_at + t * d_t, mask=there, other=0)
                        x = tl.load(u_p + row + t * channels, mask=there, other=0)
                        a, drive = driven(d, x, tl.load(B_at + t * B_t, mask=b_in, other=0), A, inverse, SCHEME, TERMS)
                        h = a * h + drive
                tl.store(marks_at + (chunks - 1) * (BN * BD), h)
                adjoint = A * 0
                if LAST:
                    adjoint = tl.load(last_p + h_at, mask=full, other=0)
                to_A, to_B, to_C = A * 0, A * 0, A * 0
                for back in range(chunks):
                    k = chunks - 1 - back
                    first, end = k * chunk, tl.minimum(time, (k + 1) * chunk)
                    tl.debug_barrier()
                    h = tl.load(marks_at + k * (BN * BD))
                    for t in range(first, end):
                        tl.store(kept_at + (t - first) * (BN * BD), h)
                        d = tl.load(d_at + t * d_t, mask=there, other=0)
                        x = tl.load(u_p + row + t * channels, mask=there, other=0)
                        a, drive = driven(d, x, tl.load(B_at + t * B_t, mask=b_in, other=0), A, inverse, SCHEME, TERMS)
                        h = a * h + drive
                    tl.debug_barrier()
                    for i in range(end - first):
                        t = end - 1 - i
                        before = tl.load(kept_at + (t - first) * (BN * BD))
                        d = tl.load(d_at + t * d_t, mask=there, other=0)
                        x = tl.load(u_p + row + t * channels, mask=there, other=0)
                        g = tl.load(g_p + row + t * channels, mask=there, other=0)
                        u = x
                        if SCHEME != ZOH:
                            x = x * d
                        a, w = discretize(d, A, inverse, SCHEME, TERMS)
                        bb = tl.load(B_at + t * B_t, mask=b_in, other=0)
                        cc = tl.load(C_at + t * C_t, mask=c_in, other=0)
                        back_h = adjoint + cc * g
                        into = back_h * bb
                        of_B, of_C = back_h * x, h * g
                        of_x = into
                        if SCHEME == ZOH:
                            of_B, of_x = of_B * w, of_x * w
                            z = d * A
                            slope = back_h * before * a
                            by_A = tl.where(tl.abs(z) < 0.5, d * d * series(z, 1, TERMS), (d * a - w) * inverse)
                            of_d = slope * A + into * x * a
                            to_A += slope * d + into * x * by_A
                        else:
                            slope = back_h * before
                            if SCHEME == BILINEAR:
                                of_B, of_x = of_B * w, of_x * w
                                slope = (slope + into * x * 0.5) * w * w
                            elif SCHEME != EULER:
                                slope = slope * a
                            of_d = slope * A
                            to_A += slope * d
                        adjoint = back_h * a
                        h = before
                        sum_x = tl.sum(tl.where(full, of_x, 0), axis=0)[None, :]
                        sum_d = tl.sum(tl.where(full, of_d, 0), axis=0)[None, :]
                        if SCHEME != ZOH:  # x = Δu
                            sum_d += u * sum_x
                            sum_x *= d
                        at = row + t * channels
                        tl.store(du_p + at, sum_x + tl.load(du_p + at, mask=there, other=0), mask=there)
                        tl.store(dd_p + at, sum_d + tl.load(dd_p + at, mask=there, other=0), mask=there)
                        token = ((part * batch + b) * time + t) * states + n
                        if B_CHANNEL:
                            to_B += of_B
                        else:
                            total = tl.sum(of_B, axis=1)[:, None] + tl.load(dB_p + token, mask=n < states, other=0)
                            tl.store(dB_p + token, total, mask=n < states)
                        if C_CHANNEL:
                            to_C += of_C
                        else:
                            total = tl.sum(of_C, axis=1)[:, None] + tl.load(dC_p + token, mask=n < states, other=0)
                            tl.store(dC_p + token, total, mask=n < states)
                if H0:
                    tl.store(dh0_p + h_at, adjoint, mask=full)
                own = (group * channels + c) * states + n
                tl.store(dA_p + own, to_A + tl.load(dA_p + own, mask=full, other=0), mask=full)
                if B_CHANNEL:
                    tl.store(dB_p + own, to_B + tl.load(dB_p + own, mask=full, other=0), mask=full)
                if C_CHANNEL:
                    tl.store(dC_p + own, to_C + tl.load(dC_p + own, mask=full, other=0), mask=full)
                tl.debug_barrier()  # the sums over channels are added to by different threads' copies
