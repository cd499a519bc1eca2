"""Numbers of the GPU's kernels, which Triton has no complex ones of: tuples of one tile, or of two, the imaginary part last.

So that one text serves real and complex transitions, as kernel/vector.h does it in C; what a tuple's length decides is
decided when a kernel is compiled.  The discretizations and their series are those of kernel/scheme.h.
"""

from __future__ import annotations

import triton
import triton.language as tl

ZOH: tl.constexpr = tl.constexpr(0)
EULER: tl.constexpr = tl.constexpr(1)
BILINEAR: tl.constexpr = tl.constexpr(2)


@triton.jit
def load(p, im, mask, other, PARTS: tl.constexpr):
    """Real parts at p and imaginary ones at a distance from there; ``other``, both of them, where masked."""
    if PARTS == 1:
        return (tl.load(p, mask=mask, other=other),)
    else:
        return tl.load(p, mask=mask, other=other), tl.load(p + im, mask=mask, other=other)


@triton.jit
def store(p, im, x, mask):
    tl.store(p, x[0], mask=mask)
    if len(x) == 2:
        tl.store(p + im, x[1], mask=mask)


@triton.jit
def accumulate(p, im, x, mask):
    """Add x to what is there."""
    store(p, im, add(x, load(p, im, mask, 0, len(x))), mask)


@triton.jit
def blank(real, PARTS: tl.constexpr):
    return (real,) if PARTS == 1 else (real, real)


@triton.jit
def zeros(x):
    """As many as there are in x, whatever they are: 0 x would not be 0 where x is infinite."""
    return (tl.zeros_like(x[0]),) if len(x) == 1 else (tl.zeros_like(x[0]), tl.zeros_like(x[0]))


@triton.jit
def plus(x, real):
    return (x[0] + real,) if len(x) == 1 else (x[0] + real, x[1])


@triton.jit
def add(x, y):
    return (x[0] + y[0],) if len(x) == 1 else (x[0] + y[0], x[1] + y[1])


@triton.jit
def scale(x, real):
    return (x[0] * real,) if len(x) == 1 else (x[0] * real, x[1] * real)


@triton.jit
def conj(x):
    return (x[0],) if len(x) == 1 else (x[0], -x[1])


@triton.jit
def real_mul(x, y):
    """Re xy."""
    return x[0] * y[0] if len(x) == 1 else x[0] * y[0] - x[1] * y[1]


@triton.jit
def mul(x, y):
    return (x[0] * y[0],) if len(x) == 1 else (x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0])


@triton.jit
def square(x):
    """|x|²."""
    return real_mul(x, conj(x))


@triton.jit
def invert(x):
    return (1 / x[0],) if len(x) == 1 else scale(conj(x), 1 / square(x))


@triton.jit
def choose(where, x, y):
    first = tl.where(where, x[0], y[0])
    return (first,) if len(x) == 1 else (first, tl.where(where, x[1], y[1]))


@triton.jit
def total(x, axis: tl.constexpr):
    return (tl.sum(x[0], axis=axis),) if len(x) == 1 else (tl.sum(x[0], axis=axis), tl.sum(x[1], axis=axis))


@triton.jit
def expand(x, axis: tl.constexpr):
    first = tl.expand_dims(x[0], axis)
    return (first,) if len(x) == 1 else (first, tl.expand_dims(x[1], axis))


@triton.jit
def series(z, ORDER: tl.constexpr, TERMS: tl.constexpr):
    """Σ z^k/(k+1)!, or of order 1 its derivative Σ (k+1)/(k+2)! z^k, each coefficient from the one before it."""
    out = plus(zeros(z), 1)
    for i in tl.static_range(TERMS):
        if ORDER == 0:
            out = plus(mul(out, scale(z, 1 / (TERMS - i + 1))), 1)
        else:
            out = plus(mul(out, scale(z, (TERMS - i + 1) / ((TERMS - i) * (TERMS - i + 2)))), 1)
    return out if ORDER == 0 else scale(out, 0.5)


@triton.jit
def leading(x):
    """The upper half of a number's digits: the product of two such is exact."""
    if x.dtype == tl.float64:
        return (x.to(tl.int64, bitcast=True) & -134217728).to(tl.float64, bitcast=True)
    else:
        return (x.to(tl.int32, bitcast=True) & -4096).to(tl.float32, bitcast=True)


@triton.jit
def turn(d, w):
    """cos dw and sin dw by Cephes' polynomials, as in kernel/scheme.h: at a thousand radians, too, all digits are good.

    CUDA's own sine keeps a table for large arguments in local memory, which would count as a spill.
    """
    d0, w0 = leading(d), leading(w)
    lead, rest = d0 * w0, d0 * (w - w0) + (d - d0) * w
    if d.dtype == tl.float64:
        shifted = (lead + rest) * 0.63661977236758134308 + 6755399441055744.0
        k = shifted - 6755399441055744.0
        bits = shifted.to(tl.int64, bitcast=True)
        r = lead - k * 1.57079632673412561417e0
        r = r - k * 6.07710050630396597660e-11
        r = r + (rest - k * 2.02226624879595063154e-21)
        q = r * r
        s = (q * 1.58962301576546568060e-10 - 2.50507477628578072866e-8) * q + 2.75573136213857245213e-6
        s = (s * q - 1.98412698295895385996e-4) * q + 8.33333333332211858878e-3
        s = s * q - 1.66666666666666307295e-1
        c = (q * -1.13585365213876817300e-11 + 2.08757008419747316778e-9) * q - 2.75573141792967388112e-7
        c = (c * q + 2.48015872888517045348e-5) * q - 1.38888888888730564116e-3
        c = c * q + 4.16666666666665929218e-2
    else:
        shifted = (lead + rest) * 0.63661977236758134308 + 12582912.0
        k = shifted - 12582912.0
        bits = shifted.to(tl.int32, bitcast=True)
        r = lead - k * 1.5703125
        r = r - k * 4.837512969970703e-4
        r = r + (rest - k * 7.54978995489e-8)
        q = r * r
        s = (q * -1.9515295891e-4 + 8.3321608736e-3) * q - 1.6666654611e-1
        c = (q * 2.443315711809948e-5 - 1.388731625493765e-3) * q + 4.166664568298827e-2
    s = r + r * q * s
    c = 1 - q * 0.5 + q * q * c
    odd = (bits & 1) != 0
    re, im = tl.where(odd, s, c), tl.where(odd, c, s)
    return tl.where(((bits + 1) & 2) != 0, -re, re), tl.where((bits & 2) != 0, -im, im)


@triton.jit
def exponential(d, A):
    """exp(dA)."""
    size = tl.exp(d * A[0])
    return (size,) if len(A) == 1 else scale(turn(d, A[1]), size)


@triton.jit
def small(z):
    return tl.abs(z[0]) < 0.5 if len(z) == 1 else square(z) < 0.25


@triton.jit
def discretize(d, A, inverse, SCHEME: tl.constexpr, TERMS: tl.constexpr):
    """a and w as in kernel/scheme.h."""
    z = scale(A, d)
    w = plus(zeros(z), 1)
    if SCHEME == EULER:
        a = plus(z, 1)
    elif SCHEME == BILINEAR:
        w = invert(plus(scale(z, -0.5), 1))
        a = mul(plus(scale(z, 0.5), 1), w)
    else:
        a = exponential(d, A)
        if SCHEME == ZOH:
            w = choose(small(z), scale(series(z, 0, TERMS), d), mul(plus(a, -1), inverse))
    return a, w


@triton.jit
def driven(d, u, B, w, SCHEME: tl.constexpr):
    """What a step adds to a h."""
    drive = scale(B, u if SCHEME == ZOH else u * d)
    return mul(drive, w) if SCHEME == ZOH or SCHEME == BILINEAR else drive


@triton.jit
def slopes(of_a, of_wx, u, d, A, inverse, a, w, SCHEME: tl.constexpr, TERMS: tl.constexpr):
    """The cotangents of Δ and A from those of a and wx (conjugates of the holomorphic derivatives, as torch has it).

    What Δ gets through x = Δu is left to the caller, but for the bilinear rule: d(wΔ)/dΔ = w², where w + Δ dw/dΔ cancels.
    """
    of_w = scale(of_wx, u if SCHEME == ZOH else u * d)
    if SCHEME == EULER:
        slope = of_a
    elif SCHEME == BILINEAR:  # da/dz = w², dw/dz = w²/2
        slope = mul(of_a, conj(mul(w, w)))
    else:
        slope = mul(of_a, conj(a))
    of_d, of_A = real_mul(slope, conj(A)), scale(slope, d)
    if SCHEME == BILINEAR:
        square = conj(mul(w, w))
        of_d += u * real_mul(of_wx, square)
        of_A = add(of_A, mul(scale(of_w, 0.5 * d), square))
    if SCHEME == ZOH:  # dw/dΔ = a; dw/dA = (Δa − w)/A = Δ²(1/2 + z/3 + z²/8 + …)
        z = scale(A, d)
        by_A = mul(add(scale(a, d), scale(w, -1)), inverse)
        by_A = choose(small(z), scale(series(z, 1, TERMS), d * d), by_A)
        of_d += real_mul(of_w, conj(a))
        of_A = add(of_A, mul(of_w, conj(by_A)))
    return of_d, of_A
