/* Vectors of channels, and their exponential.
 *
 * A V holds LANES neighbouring channels.  GCC's and Clang's vector extensions are all that is used, so that one source
 * serves every instruction set; -march=native chooses it.  A Z is a V of numbers of the transition's kind: real, or pairs of
 * real and imaginary parts (COMPLEX).  No -ffast-math: not-a-numbers and infinities must come out as such.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if DOUBLE
typedef double real;
typedef int64_t whole;
#else
typedef float real;
typedef int32_t whole;
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

typedef real V __attribute__((vector_size(BYTES)));
typedef whole I __attribute__((vector_size(BYTES)));
enum { LANES = BYTES / sizeof(real), PARTS = 1 + COMPLEX };

#define INLINE static inline __attribute__((always_inline))

INLINE V all(real x) { return x - (V){}; } /* x - 0 is x, also for -0 */
#ifdef __clang__ /* has no shuffle by a vector of places; the loop below is made one when it is unrolled */
INLINE V SHUFFLE(V a, V b, I places) {
    V out;
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) out[j] = places[j] < LANES ? a[places[j] % LANES] : b[places[j] % LANES];
    return out;
}
#else
#define SHUFFLE __builtin_shuffle
#endif
INLINE V choose(I where, V yes, V no) { return (V)((where & (I)yes) | (~where & (I)no)); }

/* The larger and the smaller of two; a not-a-number in the second one is kept. */
#if defined(__AVX512F__)
#include <immintrin.h>
#if DOUBLE
INLINE V largest(V a, V x) { return (V)_mm512_max_pd((__m512d)a, (__m512d)x); }
INLINE V least(V a, V x) { return (V)_mm512_min_pd((__m512d)a, (__m512d)x); }
#else
INLINE V largest(V a, V x) { return (V)_mm512_max_ps((__m512)a, (__m512)x); }
INLINE V least(V a, V x) { return (V)_mm512_min_ps((__m512)a, (__m512)x); }
#endif
#else
INLINE V largest(V a, V x) { return choose(a > x, a, x); }
INLINE V least(V a, V x) { return choose(a < x, a, x); }
#endif

/* Two rounds of exchanges, over and over at half the distance, on LANES vectors in registers.  With ``adding`` each round
 * makes one vector of two, and the sums over the lanes of all are left, in order; else the square is transposed.
 */
INLINE void exchange(V *y, const int width, const int adding) {
    I first, second;
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) {
        int upper = j / width % 2;
        first[j] = upper ? LANES + j - width : j;
        second[j] = first[j] + width;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        if (i / width % 2 || (adding && i >= width)) continue;
        V a = SHUFFLE(y[i], y[i + width], first), b = SHUFFLE(y[i], y[i + width], second);
        y[i] = adding ? a + b : a;
        if (!adding) y[i + width] = b;
    }
}
INLINE void exchanges(V *y, const int count, const int adding) {
    if (count > 8) exchange(y, 8 % LANES, adding);
    if (count > 4) exchange(y, 4 % LANES, adding);
    if (count > 2) exchange(y, 2 % LANES, adding);
    if (count > 1) exchange(y, 1, adding);
}
INLINE void transpose(V *y) { exchanges(y, LANES, 0); }
/* Of so many vectors, a power of two and no more than lanes: the sum of vector i is that of the lanes i, i + count, ... */
INLINE V lane_sums(V *y, const int count) {
    exchanges(y, count, 1);
    return y[0];
}

INLINE double lane_sum(V x) {
    double sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

/* ---------------------------------------------------------------- 2^x
 *
 * x = k + r with a whole k and |r| <= 1/2, by adding a number so large that only whole ones are left about it, with the
 * exponent's bias in its last bits.  2^r - 1 = r q(r), q by Chebyshev interpolation: relative error 1e-8 (float) and 3e-19
 * (double), below rounding.  2^x - 1 is r q where k = 0, so that it keeps its digits at small x.  Below the smallest normal
 * number 2^x is 0, from 2^(max + 1/2) on it is infinite; a not-a-number stays one.
 */
#if DOUBLE
#define MANTISSA 52
#define BIAS 1023
static const real Q[] = {0.693147180559945309,   0.240226506959100712,   0.055504108664821627,   0.00961812910762847949,
                         0.00133335581464064707, 0.000154035303933707334, 1.52527338415567726e-5, 1.32154868087055628e-6,
                         1.01780570877339411e-7, 7.05489730415549928e-9, 4.45581790833606449e-10, 2.57293241773623042e-11};
#else
#define MANTISSA 23
#define BIAS 127
static const real Q[] = {0.693147188026228781,   0.240226507605681269,   0.0555035711421907782,
                         0.00961808255727785149, 0.00133908633646712344, 0.000154531629451206902};
#endif
#define SHIFT ((real)(3ull << (MANTISSA - 1)) + BIAS)

INLINE V quotient(V r) { /* (2^r - 1) / r */
    V q = all(Q[sizeof Q / sizeof *Q - 1]);
#pragma GCC unroll 16
    for (int i = sizeof Q / sizeof *Q - 2; i >= 0; i--) q = q * r + Q[i];
    return q;
}
#if defined(__AVX512DQ__) /* instructions for the fraction and the power, right at both ends by themselves */
#if DOUBLE
INLINE V fraction(V x) { return (V)_mm512_reduce_pd((__m512d)x, 8); }
INLINE V times_power(V x, V k) { return (V)_mm512_scalef_pd((__m512d)x, (__m512d)k); }
#else
INLINE V fraction(V x) { return (V)_mm512_reduce_ps((__m512)x, 8); }
INLINE V times_power(V x, V k) { return (V)_mm512_scalef_ps((__m512)x, (__m512)k); }
#endif
INLINE void power(V x, V *up, V *less) { /* 2^x and 2^x - 1 */
    V r = fraction(x), k = x - r, q = quotient(r);
    *up = times_power(r * q + 1, k);
    *less = choose(k == 0, r * q, *up - 1);
}
#else
INLINE void power(V x, V *up, V *less) {
    const V low = all(-BIAS), high = all(BIAS + 1);
    x = least(high, largest(low, x));
    V shifted = x + SHIFT;
    V r = x - (shifted - SHIFT);
    V s = (V)((I)shifted << MANTISSA);
    V q = quotient(r);
    *up = s * (r * q + 1);
    *less = choose(s == 1, r * q, *up - 1);
}
#endif

/* ---------------------------------------------------------------- numbers of the transition's kind */
#if COMPLEX
typedef struct { V re, im; } Z;
INLINE Z z_of(V re) { return (Z){re, (V){}}; }
INLINE Z z_add(Z a, Z b) { return (Z){a.re + b.re, a.im + b.im}; }
INLINE Z z_mul(Z a, Z b) { return (Z){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
INLINE Z z_times(Z a, V b) { return (Z){a.re * b, a.im * b}; }
INLINE Z z_conj(Z a) { return (Z){a.re, -a.im}; }
INLINE V z_re(Z a) { return a.re; }
INLINE V z_re_mul(Z a, Z b) { return a.re * b.re - a.im * b.im; }
INLINE V z_square(Z a) { return a.re * a.re + a.im * a.im; }
INLINE Z z_choose(I where, Z yes, Z no) { return (Z){choose(where, yes.re, no.re), choose(where, yes.im, no.im)}; }
INLINE Z z_inverse(Z a) { V d = 1 / z_square(a); return (Z){a.re * d, -a.im * d}; }
INLINE Z z_spread(const real *x) { return (Z){all(x[0]), all(x[1])}; }
INLINE void z_put(Z a, V *to) { to[0] = a.re, to[1] = a.im; }
#else
typedef struct { V re; } Z;
INLINE Z z_of(V re) { return (Z){re}; }
INLINE Z z_add(Z a, Z b) { return (Z){a.re + b.re}; }
INLINE Z z_mul(Z a, Z b) { return (Z){a.re * b.re}; }
INLINE Z z_times(Z a, V b) { return (Z){a.re * b}; }
INLINE Z z_conj(Z a) { return a; }
INLINE V z_re(Z a) { return a.re; }
INLINE V z_re_mul(Z a, Z b) { return a.re * b.re; }
INLINE V z_square(Z a) { return a.re * a.re; }
INLINE Z z_choose(I where, Z yes, Z no) { return (Z){choose(where, yes.re, no.re)}; }
INLINE Z z_inverse(Z a) { return (Z){1 / a.re}; }
INLINE Z z_spread(const real *x) { return (Z){all(x[0])}; }
INLINE void z_put(Z a, V *to) { to[0] = a.re; }
#endif
INLINE Z z_fma(Z a, Z b, Z c) { return z_add(z_mul(a, b), c); }
