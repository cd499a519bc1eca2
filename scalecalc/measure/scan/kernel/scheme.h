/* Discretizations: the decay a and the input factor of one step, and their derivatives.
 *
 * With z = Delta A, the drive of the state is w B x, and
 *
 *              a                    w                   x
 *   zoh        exp z                (exp z - 1) / A     u
 *   euler      1 + z                1                   Delta u
 *   bilinear   (2 + z) / (2 - z)    2 / (2 - z)         Delta u
 *   mamba      exp z                1                   Delta u
 *
 * Differences that cancel are never formed: at small z, w of zero-order hold comes from exp z - 1, and its derivative, like w
 * itself where A is complex, from the series below |z| = 1/2; at large z, the bilinear rule's d(w Delta)/dDelta is w^2, of
 * which w + Delta dw/dDelta = w + z w^2 / 2 would leave no digits.
 */
#define ZOH 0
#define EULER 1
#define BILINEAR 2
#define MAMBA 3
#define EXPONENTIAL (SCHEME == ZOH || SCHEME == MAMBA)
#define WEIGHTED (SCHEME == ZOH || SCHEME == BILINEAR) /* is w other than 1? */

typedef struct { Z A, inverse; V rate; } Pole; /* A, 1/A and Re A / log 2 of LANES channels */

INLINE Pole pole(Z A) {
    Pole p = {.A = A};
    if (EXPONENTIAL) p.rate = A.re * (real)1.4426950408889634074;
    if (SCHEME == ZOH && !COMPLEX) { /* a tiny A in place of 0: the input factor is then Delta to the last digit */
        const V tiny = all(DOUBLE ? 1e-100 : 1e-18f);
        V safe = choose((A.re < tiny) & (A.re > -tiny), tiny, A.re);
        p.rate = safe * (real)1.4426950408889634074;
        p.inverse.re = 1 / safe;
    }
    if (SCHEME == ZOH && COMPLEX) p.inverse = z_inverse(A);
    return p;
}

#if DOUBLE
enum { TERMS = 15 };
#else
enum { TERMS = 9 };
#endif
/* Sum of c_k z^k with c_k = 1/(k+1)! (order 0: (e^z - 1)/z) or (k+1)/(k+2)! (order 1: its derivative), for |z| < 1/2. */
INLINE Z series(Z z, const int order) {
    real c[TERMS + 1];
    double factorial = 1;
#pragma GCC unroll 16
    for (int k = 0; k <= TERMS; k++) {
        factorial *= k + 1;
        c[k] = order ? (k + 1) / (factorial * (k + 2)) : 1 / factorial;
    }
    Z sum = z_of(all(c[TERMS]));
#pragma GCC unroll 16
    for (int k = TERMS - 1; k >= 0; k--) {
        sum = z_mul(sum, z);
        sum.re += c[k];
    }
    return sum;
}
INLINE I is_small(Z z) { return z_square(z) < (real)0.25; }

#if COMPLEX
/* cos and sin of d w.  The product is split so that its leading part is exact, and reduced by quarter turns in three parts:
 * a phase of a thousand radians keeps the digits that d and w have.  Polynomials: Cephes. */
#if DOUBLE
#define HALF_DIGITS ((whole)0xfffffffff8000000)
static const real QUARTER[] = {1.57079632673412561417e0, 6.07710050630396597660e-11, 2.02226624879595063154e-21};
static const real SIN[] = {1.58962301576546568060e-10, -2.50507477628578072866e-8, 2.75573136213857245213e-6,
                           -1.98412698295895385996e-4, 8.33333333332211858878e-3, -1.66666666666666307295e-1};
static const real COS[] = {-1.13585365213876817300e-11, 2.08757008419747316778e-9, -2.75573141792967388112e-7,
                           2.48015872888517045348e-5, -1.38888888888730564116e-3, 4.16666666666665929218e-2};
#else
#define HALF_DIGITS ((whole)0xfffff000)
static const real QUARTER[] = {1.5703125, 4.837512969970703e-4, 7.54978995489e-8};
static const real SIN[] = {-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1};
static const real COS[] = {2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2};
#endif
INLINE V polynomial(V x, const real *c, const int n) {
    V sum = all(c[0]);
#pragma GCC unroll 16
    for (int i = 1; i < n; i++) sum = sum * x + c[i];
    return sum;
}
INLINE Z turn(V d, V w) {
    V d0 = (V)((I)d & HALF_DIGITS), w0 = (V)((I)w & HALF_DIGITS);
    V lead = d0 * w0, rest = d0 * (w - w0) + (d - d0) * w;
    const real round = (real)(3ull << (MANTISSA - 1));
    V shifted = (lead + rest) * (real)0.63661977236758134308 + round, k = shifted - round;
    V r = lead - k * QUARTER[0];
    r = r - k * QUARTER[1];
    r = r + (rest - k * QUARTER[2]);
    V q = r * r;
    enum { N = sizeof SIN / sizeof *SIN };
    V s = r + r * q * polynomial(q, SIN, N), c = 1 - q / 2 + q * q * polynomial(q, COS, N);
    I odd = ((I)shifted & 1) != 0, lower = ((I)shifted & 2) != 0, left = (((I)shifted + 1) & 2) != 0;
    Z out = {choose(odd, s, c), choose(odd, c, s)};
    return (Z){choose(left, -out.re, out.re), choose(lower, -out.im, out.im)};
}
#endif

typedef struct { Z a, w; } Step;

INLINE Step discretize(Pole p, V d) {
    Step out = {z_of((V){}), z_of((V){})};
    Z z = z_times(p.A, d);
#if SCHEME == EULER
    out.a = z;
    out.a.re += 1;
#elif SCHEME == BILINEAR
    Z below = z_times(z, all((real)-0.5)), above = z_times(z, all((real)0.5));
    below.re += 1;
    above.re += 1;
    out.w = z_inverse(below);
    out.a = z_mul(above, out.w);
#elif COMPLEX
    V less;
    power(d * p.rate, &out.a.re, &less);
    V size = out.a.re;
    out.a = z_times(turn(d, p.A.im), size);
#if SCHEME == ZOH
    Z direct = out.a;
    direct.re -= 1;
    out.w = z_choose(is_small(z), z_times(series(z, 0), d), z_mul(direct, p.inverse));
#endif
#else
    power(d * p.rate, &out.a.re, &out.w.re);
    out.w = z_mul(out.w, p.inverse);
#endif
    return out;
}

/* Cotangents of Delta and A from those of a and of w x (the conjugates are of holomorphic derivatives, as torch has it).
 * What Delta gets through x = Delta u is left to the caller, but for the bilinear rule. */
INLINE void undiscretize(Pole p, V d, V u, V x, Step step, Z of_a, Z of_wx, V *to_d, Z *to_A) {
    Z slope, of_w = z_times(of_wx, x);
#if SCHEME == EULER
    slope = of_a;
#elif SCHEME == BILINEAR /* da/dz = w^2, dw/dz = w^2 / 2 */
    const Z w = z_conj(step.w), square = z_mul(w, w);
    slope = z_mul(of_a, square);
    *to_d += u * z_re_mul(of_wx, square);
    *to_A = z_fma(z_times(of_w, (real)0.5 * d), square, *to_A);
#else
    slope = z_mul(of_a, z_conj(step.a));
#endif
    *to_A = z_fma(slope, z_of(d), *to_A);
    *to_d += z_re_mul(slope, z_conj(p.A));
#if SCHEME == ZOH /* dw/dDelta = a; dw/dA = (Delta a - w) / A = Delta^2 (1/2 + z/3 + z^2/8 + ...) */
    *to_d += z_re_mul(of_w, z_conj(step.a));
    Z z = z_times(p.A, d), minus = z_times(step.w, all(-1));
    Z direct = z_mul(z_add(z_times(step.a, d), minus), p.inverse);
    Z by_A = z_choose(is_small(z), z_times(series(z, 1), d * d), direct);
    *to_A = z_fma(of_w, z_conj(by_A), *to_A);
#endif
}
