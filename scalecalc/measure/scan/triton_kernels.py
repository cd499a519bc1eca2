"""The scan's kernels for the GPU, in Triton.  Imported by gpu.py alone and when needed, since Triton is no dependency.

As on the CPU, channels are what lanes are made of: a program holds BN states of BD channels in its registers, all states of a
channel in one thread, goes through time, and takes the next BN states.  So sums over the states need no exchange between
threads, no shared memory bounds the number of states, and no tensor of them is written.  A program adds to rows of
its own (in split, part or group), so that nothing is atomic and results do not depend on the order of programs.

Numbers that may be complex are tuples (triton_numbers.py), in memory PARTS reals each; distances count reals.  A Δ that is
the same at all times is FIXED: its exponential is taken before the loop.

Forward has a leading axis of M members side by side, a power of two, for the norms of differences.  Backward keeps h at every
``chunk``-th step and computes the steps between anew.

Masked entries must not make a sum not a number: there A is −1, B and C are 0.  A mask that is made of a loop's variable alone
does not work in Triton's interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scalecalc.measure.scan.triton_numbers import (
    BILINEAR,
    ZOH,
    accumulate,
    add,
    conj,
    discretize,
    driven,
    expand,
    invert,
    load,
    mul,
    real_mul,
    scale,
    slopes,
    square,
    store,
    total,
    zeros,
)


@triton.jit
def forward(
    u_p, d_p, A_p, B_p, C_p, h0_p, y_p, last_p, square_p, state_p, most_p, factor_p,
    batch, time, channels, states, members, per_split,
    d_m, d_b, d_t, A_m, A_c, B_m, B_b, B_t, B_c, C_m, C_b, C_t, C_c,
    SCHEME: tl.constexpr, TERMS: tl.constexpr, PARTS: tl.constexpr, FIXED: tl.constexpr,
    B_CHANNEL: tl.constexpr, C_CHANNEL: tl.constexpr, H0: tl.constexpr, LAST: tl.constexpr, NORMS: tl.constexpr,
    M: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
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
        A = load(A_p + m * A_m + c * A_c + n * PARTS, 1, full, -1, PARTS)
        inverse = invert(A)
        b_in, c_in = (m < members) & (n < states), (m < members) & (n < states)
        B_at, C_at = B_p + m * B_m + b * B_b + n * PARTS, C_p + m * C_m + b * C_b + n * PARTS
        if B_CHANNEL:
            b_in, B_at = full, B_at + c * B_c
        if C_CHANNEL:
            c_in, C_at = full, C_at + c * C_c
        h = zeros(A)
        h_at = (((m * batch + b) * channels + c) * states + n) * PARTS
        if H0:
            h = load(h0_p + h_at, 1, full, 0, PARTS)
        if FIXED:
            d = tl.load(d_at, mask=there, other=0)
            a, w = discretize(d, A, inverse, SCHEME, TERMS)
        if NORMS > 0:
            own = tl.zeros_like(h[0])
            most = tl.zeros_like(h[0])
            both = tl.sum(own, axis=0)
            widest = both
        for t in range(time):
            if not FIXED:
                d = tl.load(d_at + t * d_t, mask=there, other=0)
                a, w = discretize(d, A, inverse, SCHEME, TERMS)
            u = tl.load(u_at + t * channels, mask=there, other=0)
            h = add(mul(a, h), driven(d, u, load(B_at + t * B_t, 1, b_in, 0, PARTS), w, SCHEME))
            y = tl.sum(real_mul(load(C_at + t * C_t, 1, c_in, 0, PARTS), h), axis=1)[:, None, :]
            y += tl.load(y_at + t * channels, mask=there, other=0)
            tl.store(y_at + t * channels, y, mask=there)
            if NORMS > 0:
                g = tl.where(full, square(h), 0)
                row_sum = tl.sum(g, axis=1)[:, None, :] + tl.load(square_at + t * channels, mask=there, other=0)
                tl.store(square_at + t * channels, row_sum, mask=there)
                if NORMS > 1:
                    own += g
                    most = tl.maximum(most, g)
                if M > 1:
                    mixed = square(total(scale(h, factor), 0))  # (BN, BD)
                    g1 = tl.where((n0 + n1 < states) & (c1 < channels), mixed, 0)
                    mixed_at = mixed_p + t * channels + c1
                    line = tl.sum(g1, axis=0)[None, :] + tl.load(mixed_at, mask=c1 < channels, other=0)
                    tl.store(mixed_at, line, mask=c1 < channels)
                    if NORMS > 1:
                        both += g1
                        widest = tl.maximum(widest, g1)
        if LAST:
            store(last_p + h_at, 1, h, full)
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
    SCHEME: tl.constexpr, TERMS: tl.constexpr, PARTS: tl.constexpr, FIXED: tl.constexpr,
    B_CHANNEL: tl.constexpr, C_CHANNEL: tl.constexpr, H0: tl.constexpr, LAST: tl.constexpr,
    BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A part of the tiles and a group of the sequences: grid (parts, groups)."""
    part, group = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    parts, groups = tl.num_programs(0), tl.num_programs(1)
    chunks = (time + chunk - 1) // chunk
    program = group * parts + part
    BLOCK: tl.constexpr = BN * BD
    place = tl.arange(0, BN)[:, None] * BD + tl.arange(0, BD)[None, :]
    marks_at = marks_p + program * chunks * (PARTS * BLOCK) + place
    kept_at = kept_p + program * chunk * (PARTS * BLOCK) + place
    for tile in range(tiles * part // parts, tiles * (part + 1) // parts):
        c = (tile * BD + tl.arange(0, BD))[None, :].to(tl.int64)
        there = c < channels
        for b in range(batch * group // groups, batch * (group + 1) // groups):
            row = b * time * channels + c
            d_at = d_p + b * d_b + c
            for n0 in range(0, states, BN):
                n = n0 + tl.arange(0, BN)[:, None]
                full = there & (n < states)
                A = load(A_p + c * A_c + n * PARTS, 1, full, -1, PARTS)
                inverse = invert(A)
                b_in, c_in = n < states, n < states
                B_at, C_at = B_p + b * B_b + n * PARTS, C_p + b * C_b + n * PARTS
                if B_CHANNEL:
                    b_in, B_at = full, B_at + c * B_c
                if C_CHANNEL:
                    c_in, C_at = full, C_at + c * C_c
                h_at = ((b * channels + c) * states + n) * PARTS
                h = zeros(A)
                if H0:
                    h = load(h0_p + h_at, 1, full, 0, PARTS)
                if FIXED:
                    d = tl.load(d_at, mask=there, other=0)
                    a, w = discretize(d, A, inverse, SCHEME, TERMS)
                for k in range(chunks - 1):
                    store(marks_at + k * (PARTS * BLOCK), BLOCK, h, None)
                    for t in range(k * chunk, (k + 1) * chunk):
                        if not FIXED:
                            d = tl.load(d_at + t * d_t, mask=there, other=0)
                            a, w = discretize(d, A, inverse, SCHEME, TERMS)
                        u = tl.load(u_p + row + t * channels, mask=there, other=0)
                        h = add(mul(a, h), driven(d, u, load(B_at + t * B_t, 1, b_in, 0, PARTS), w, SCHEME))
                store(marks_at + (chunks - 1) * (PARTS * BLOCK), BLOCK, h, None)
                adjoint = zeros(A)
                if LAST:
                    adjoint = load(last_p + h_at, 1, full, 0, PARTS)
                to_A, to_B, to_C = zeros(A), zeros(A), zeros(A)
                for back in range(chunks):
                    k = chunks - 1 - back
                    first, end = k * chunk, tl.minimum(time, (k + 1) * chunk)
                    tl.debug_barrier()
                    h = load(marks_at + k * (PARTS * BLOCK), BLOCK, None, None, PARTS)
                    for t in range(first, end):
                        store(kept_at + (t - first) * (PARTS * BLOCK), BLOCK, h, None)
                        if not FIXED:
                            d = tl.load(d_at + t * d_t, mask=there, other=0)
                            a, w = discretize(d, A, inverse, SCHEME, TERMS)
                        u = tl.load(u_p + row + t * channels, mask=there, other=0)
                        h = add(mul(a, h), driven(d, u, load(B_at + t * B_t, 1, b_in, 0, PARTS), w, SCHEME))
                    tl.debug_barrier()
                    for i in range(end - first):
                        t = end - 1 - i
                        before = load(kept_at + (t - first) * (PARTS * BLOCK), BLOCK, None, None, PARTS)
                        if not FIXED:
                            d = tl.load(d_at + t * d_t, mask=there, other=0)
                            a, w = discretize(d, A, inverse, SCHEME, TERMS)
                        u = tl.load(u_p + row + t * channels, mask=there, other=0)
                        g = tl.load(g_p + row + t * channels, mask=there, other=0)
                        x = u if SCHEME == ZOH else u * d
                        back_h = add(adjoint, scale(conj(load(C_at + t * C_t, 1, c_in, 0, PARTS)), g))
                        into = mul(back_h, conj(load(B_at + t * B_t, 1, b_in, 0, PARTS)))
                        of_B, of_C = scale(back_h, x), scale(conj(h), g)
                        of_x = into[0]
                        if SCHEME == ZOH or SCHEME == BILINEAR:
                            of_B, of_x = mul(of_B, conj(w)), real_mul(into, conj(w))
                        of_d, of_A = slopes(
                            mul(back_h, conj(before)), scale(into, x), d, A, inverse, a, w, SCHEME, TERMS
                        )  # fmt: skip
                        to_A = add(to_A, of_A)
                        adjoint = mul(back_h, conj(a))
                        h = before
                        sum_x = tl.sum(tl.where(full, of_x, 0), axis=0)[None, :]
                        sum_d = tl.sum(tl.where(full, of_d, 0), axis=0)[None, :]
                        if SCHEME != ZOH:  # x = Δu
                            sum_d += u * sum_x
                            sum_x *= d
                        at = row + t * channels
                        tl.store(du_p + at, sum_x + tl.load(du_p + at, mask=there, other=0), mask=there)
                        tl.store(dd_p + at, sum_d + tl.load(dd_p + at, mask=there, other=0), mask=there)
                        token = (((part * batch + b) * time + t) * states + n) * PARTS
                        if B_CHANNEL:
                            to_B = add(to_B, of_B)
                        else:
                            accumulate(dB_p + token, expand(total(of_B, 1), 1), n < states)
                        if C_CHANNEL:
                            to_C = add(to_C, of_C)
                        else:
                            accumulate(dC_p + token, expand(total(of_C, 1), 1), n < states)
                if H0:
                    store(dh0_p + h_at, 1, adjoint, full)
                own = ((group * channels + c) * states + n) * PARTS
                accumulate(dA_p + own, to_A, full)
                if B_CHANNEL:
                    accumulate(dB_p + own, to_B, full)
                if C_CHANNEL:
                    accumulate(dC_p + own, to_C, full)
                tl.debug_barrier()  # the sums over channels are added to by different threads' copies
