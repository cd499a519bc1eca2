"""The scan's kernels for the GPU, in Triton.  Imported by gpu.py alone and when needed, since Triton is no dependency.

As on the CPU, channels are what lanes are made of: a program holds BN states of BD channels in its registers, all states of a
channel in one thread, goes through time, and takes the next BN states.  So sums over the states need no exchange between
threads, no shared memory bounds the number of states, and no tensor of them is written.  A program adds to rows of
its own (in split, part or group), so that nothing is atomic and results do not depend on the order of programs.

Numbers that may be complex are tuples (triton_numbers.py), PARTS reals each; distances in memory count reals.  What every
channel has of its own and every state, too, is packed tile by tile, (…, tile, state, part, BD), so that threads read side by
side and a state's place is at a constant distance from its tile's: else addresses would take more registers than numbers.
A Δ that is the same at all times is FIXED: its exponential is taken before the loop.

Forward has a leading axis of M members side by side, a power of two, for the norms of differences.  Backward keeps h at every
``chunk``-th step and computes the steps between anew.

What is not there must not make a sum not a number: of masked states A is −1, B and C are 0; of channels that fill up a tile
Δ and u are 0, and all that is packed is 1.  A mask that is made of a loop's variable alone does not work in Triton's
interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scalecalc.measure.scan.triton_numbers import (
    BILINEAR,
    ZOH,
    accumulate,
    add,
    blank,
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
)


@triton.jit
def forward(
    u_p, d_p, A_p, B_p, C_p, h0_p, y_p, last_p, square_p, state_p, most_p, factor_p,
    batch, time, channels, states, members, per_split,
    d_m, d_b, d_t, A_m, B_m, B_b, B_t, C_m, C_b, C_t,
    SCHEME: tl.constexpr, TERMS: tl.constexpr, PARTS: tl.constexpr, FIXED: tl.constexpr, A_CHANNEL: tl.constexpr,
    B_CHANNEL: tl.constexpr, C_CHANNEL: tl.constexpr, H0: tl.constexpr, LAST: tl.constexpr, NORMS: tl.constexpr,
    M: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A tile of channels of one sequence, and one split's states: grid (tiles, batch, splits)."""
    tile, b, split = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    m = tl.arange(0, M)[:, None, None].to(tl.int64)
    c = (tile * BD + tl.arange(0, BD))[None, None, :]
    EACH: tl.constexpr = PARTS * BD
    i = tl.arange(0, BN)[None, :, None]
    packed = i * EACH + tl.arange(0, BD)[None, None, :]
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
        c1 = (tile * BD + tl.arange(0, BD))[None, :]
    for n0 in range(split * per_split, tl.minimum(states, (split + 1) * per_split), BN):
        some = (m < members) & (i < states - n0)
        at = (tile * states + n0) * EACH + packed
        h = blank(tl.zeros((M, BN, BD), dtype=u_p.dtype.element_ty), PARTS)
        h_at = (((m * batch + b) * tl.num_programs(0) + tile) * states + n0) * EACH + packed
        if A_CHANNEL:
            A = load(A_p + m * A_m + at, BD, some, -1, PARTS)
        else:
            A = add(load(A_p + m * A_m + n0 * PARTS + i * PARTS, 1, some, -1, PARTS), h)
        inverse = invert(A)
        if H0:
            h = load(h0_p + h_at, BD, some, 0, PARTS)
        B_at, C_at = B_p + m * B_m, C_p + m * C_m
        B_at = B_at + at if B_CHANNEL else B_at + b * B_b + n0 * PARTS + i * PARTS
        C_at = C_at + at if C_CHANNEL else C_at + b * C_b + n0 * PARTS + i * PARTS
        B_IM: tl.constexpr = BD if B_CHANNEL else 1
        C_IM: tl.constexpr = BD if C_CHANNEL else 1
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
            h = add(mul(a, h), driven(d, u, load(B_at + t * B_t, B_IM, some, 0, PARTS), w, SCHEME))
            y = tl.sum(real_mul(load(C_at + t * C_t, C_IM, some, 0, PARTS), h), axis=1)[:, None, :]
            y += tl.load(y_at + t * channels, mask=there, other=0)
            tl.store(y_at + t * channels, y, mask=there)
            if NORMS > 0:
                g = tl.where(there & some, square(h), 0)
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
            store(last_p + h_at, BD, h, some)
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
    batch, time, channels, states, chunk, tiles, d_b, d_t, B_b, B_t, C_b, C_t,
    SCHEME: tl.constexpr, TERMS: tl.constexpr, PARTS: tl.constexpr, FIXED: tl.constexpr, A_CHANNEL: tl.constexpr,
    B_CHANNEL: tl.constexpr, C_CHANNEL: tl.constexpr, H0: tl.constexpr, LAST: tl.constexpr,
    BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """A part of the tiles and a group of the sequences: grid (parts, groups)."""
    part, group = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    parts, groups = tl.num_programs(0), tl.num_programs(1)
    chunks = (time + chunk - 1) // chunk
    program = group * parts + part
    EACH: tl.constexpr = PARTS * BD
    i = tl.arange(0, BN)[:, None]
    packed = i * EACH + tl.arange(0, BD)[None, :]
    marks_at, kept_at = marks_p + program * chunks * (BN * EACH) + packed, kept_p + program * chunk * (BN * EACH) + packed
    B_IM: tl.constexpr = BD if B_CHANNEL else 1
    C_IM: tl.constexpr = BD if C_CHANNEL else 1
    for tile in range(tiles * part // parts, tiles * (part + 1) // parts):
        c = (tile * BD + tl.arange(0, BD))[None, :]
        there = c < channels
        for b in range(batch * group // groups, batch * (group + 1) // groups):
            row = b * time * channels + c
            d_at = d_p + b * d_b + c
            for n0 in range(0, states, BN):
                some = i < states - n0
                at = (tile * states + n0) * EACH + packed
                h = blank(tl.zeros((BN, BD), dtype=u_p.dtype.element_ty), PARTS)
                h_at = ((b * tiles + tile) * states + n0) * EACH + packed
                if A_CHANNEL:
                    A = load(A_p + at, BD, some, -1, PARTS)
                else:
                    A = add(load(A_p + n0 * PARTS + i * PARTS, 1, some, -1, PARTS), h)
                inverse = invert(A)
                to_A, to_B, to_C, adjoint = h, h, h, h
                if H0:
                    h = load(h0_p + h_at, BD, some, 0, PARTS)
                if LAST:
                    adjoint = load(last_p + h_at, BD, some, 0, PARTS)
                B_at = B_p + at if B_CHANNEL else B_p + b * B_b + n0 * PARTS + i * PARTS
                C_at = C_p + at if C_CHANNEL else C_p + b * C_b + n0 * PARTS + i * PARTS
                if FIXED:
                    d = tl.load(d_at, mask=there, other=0)
                    a, w = discretize(d, A, inverse, SCHEME, TERMS)
                for k in range(chunks - 1):
                    store(marks_at + k * (BN * EACH), BD, h, None)
                    for t in range(k * chunk, (k + 1) * chunk):
                        if not FIXED:
                            d = tl.load(d_at + t * d_t, mask=there, other=0)
                            a, w = discretize(d, A, inverse, SCHEME, TERMS)
                        u = tl.load(u_p + row + t * channels, mask=there, other=0)
                        h = add(mul(a, h), driven(d, u, load(B_at + t * B_t, B_IM, some, 0, PARTS), w, SCHEME))
                store(marks_at + (chunks - 1) * (BN * EACH), BD, h, None)
                for back in range(chunks):
                    k = chunks - 1 - back
                    first, end = k * chunk, tl.minimum(time, (k + 1) * chunk)
                    tl.debug_barrier()
                    h = load(marks_at + k * (BN * EACH), BD, None, None, PARTS)
                    for t in range(first, end):
                        store(kept_at + (t - first) * (BN * EACH), BD, h, None)
                        if not FIXED:
                            d = tl.load(d_at + t * d_t, mask=there, other=0)
                            a, w = discretize(d, A, inverse, SCHEME, TERMS)
                        u = tl.load(u_p + row + t * channels, mask=there, other=0)
                        h = add(mul(a, h), driven(d, u, load(B_at + t * B_t, B_IM, some, 0, PARTS), w, SCHEME))
                    tl.debug_barrier()
                    for behind in range(end - first):
                        t = end - 1 - behind
                        before = load(kept_at + (t - first) * (BN * EACH), BD, None, None, PARTS)
                        if not FIXED:
                            d = tl.load(d_at + t * d_t, mask=there, other=0)
                            a, w = discretize(d, A, inverse, SCHEME, TERMS)
                        u = tl.load(u_p + row + t * channels, mask=there, other=0)
                        g = tl.load(g_p + row + t * channels, mask=there, other=0)
                        x = u if SCHEME == ZOH else u * d
                        back_h = add(adjoint, scale(conj(load(C_at + t * C_t, C_IM, some, 0, PARTS)), g))
                        into = mul(back_h, conj(load(B_at + t * B_t, B_IM, some, 0, PARTS)))
                        of_B, of_C = scale(back_h, x), scale(conj(h), g)
                        of_x = into[0]
                        if SCHEME == ZOH or SCHEME == BILINEAR:
                            of_B, of_x = mul(of_B, conj(w)), real_mul(into, conj(w))
                        of_d, of_A = slopes(
                            mul(back_h, conj(before)), into, u, d, A, inverse, a, w, SCHEME, TERMS
                        )  # fmt: skip
                        to_A = add(to_A, of_A)
                        adjoint = mul(back_h, conj(a))
                        h = before
                        sum_x = tl.sum(tl.where(some, of_x, 0), axis=0)[None, :]
                        sum_d = tl.sum(tl.where(some, of_d, 0), axis=0)[None, :]
                        if SCHEME != ZOH and SCHEME != BILINEAR:  # x = Δu
                            sum_d += u * sum_x
                        if SCHEME != ZOH:
                            sum_x *= d
                        accumulate(du_p + row + t * channels, 0, (sum_x,), there)
                        accumulate(dd_p + row + t * channels, 0, (sum_d,), there)
                        token = (((part * batch + b) * time + t) * states + n0) * PARTS + i * PARTS
                        if B_CHANNEL:
                            to_B = add(to_B, of_B)
                        else:
                            accumulate(dB_p + token, 1, expand(total(of_B, 1), 1), some)
                        if C_CHANNEL:
                            to_C = add(to_C, of_C)
                        else:
                            accumulate(dC_p + token, 1, expand(total(of_C, 1), 1), some)
                if H0:
                    store(dh0_p + h_at, BD, adjoint, some)
                own = group * tiles * states * EACH + at
                accumulate(dA_p + own, BD, to_A, some)
                if B_CHANNEL:
                    accumulate(dB_p + own, BD, to_B, some)
                if C_CHANNEL:
                    accumulate(dC_p + own, BD, to_C, some)
                tl.debug_barrier()  # the sums over channels are added to by different threads' copies
