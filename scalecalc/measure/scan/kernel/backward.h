/* Backward: a and h are computed anew, kept for one tile's few states, and gone through from the last step to the first.
 *
 * With g the cotangent of y and l_t = conj(C_t) g_t + conj(a_{t+1}) l_{t+1} that of h_t: dC += g conj(h), dB += l conj(w) x,
 * x gets Re sum_n l conj(B w), a gets l conj(h_{t-1}), w gets l conj(B) x.  Sums over states stay in the rows' buffers.  Those
 * over channels are added up lane by lane in the registers, all states of a step at once: kept as vectors per row and state,
 * which saves the exchanges, they push a and h out of the first cache, and the pass takes half as long again.  A sequence of
 * several chunks is run forward first, keeping h at the chunks' beginnings.
 */
typedef struct {
    Forward forward;
    V *g, *x_sum, *d_sum;     /* rows: cotangents of y, of x, and of Delta through a and w */
    Z *dA, *dB, *dC;          /* sums of a block of states */
    V *sums;                  /* for the rows' B and C, where all channels share them: (row, B or C, state, part) */
    Z *a, *w, *h;             /* of the steps and states under way; h begins with the one before the first step */
    Z *start, *adjoint;       /* h at the beginning of each chunk, l behind the end of the present one */
} Backward;

enum { BS = 4, SHARED = !B_CHANNEL + !C_CHANNEL }; /* states at a time; gradients that all channels add to */

/* Of so many states, the sums for one row: numbers, and the vectors that they are kept in, several lanes each if there is room. */
#define COUNT(states) ((states) * SHARED * PARTS)
#define VECTORS(states) ((COUNT(states) + LANES - 1) / LANES)

INLINE void steps_backward(const Job *j, Backward *w, Tile tile, Span s, int64_t b, int64_t n, int i, int v0, const int states) {
    const Forward *f = &w->forward;
    const int64_t chunk = s.t / j->chunk;
    Z h[BS], adjoint[BS], dA[BS], dB[BS], dC[BS];
    Pole poles[BS];
    Step fixed[BS];
#pragma GCC unroll 16
    for (int i1 = 0; i1 < states; i1++) {
        const int64_t at = (n + i + i1) * tile.wide + v0;
        const real *h0 = j->member[0].h0;
        if (s.t) h[i1] = w->start[chunk * j->states * WIDE + at];
        else h[i1] = h0 ? gather(h0, j, tile, s.b + b, n + i + i1, v0) : z_of((V){});
        if (s.t + s.steps < j->time) adjoint[i1] = w->adjoint[at];
        else adjoint[i1] = j->glast ? gather(j->glast, j, tile, s.b + b, n + i + i1, v0) : z_of((V){});
        poles[i1] = f->pole[0][(i + i1) * tile.wide + v0];
        if (DELTA_FIXED) fixed[i1] = discretize(poles[i1], f->d[0][v0]);
        w->h[i1] = h[i1];
        dA[i1] = dB[i1] = dC[i1] = z_of((V){});
    }
    for (int64_t t = 0; t < s.steps; t++) {
        const int64_t r = b * s.steps + t;
        const V x = at_row(SCHEME == ZOH ? f->u[0] : f->x[0], tile, r)[v0];
        const V d = at_row(f->d[0], tile, DELTA_FIXED ? 0 : r)[v0];
        const real *token = f->bt[0] + (r * BLOCK + i) * PARTS;
        Step step;
#pragma GCC unroll 16
        for (int i1 = 0; i1 < states; i1++) {
            if (DELTA_FIXED) step = fixed[i1];
            else if (!A_ALIKE || i1 == 0) step = discretize(poles[i1], d);
            Z drive = z_times(B_CHANNEL ? f->b[0][(i + i1) * tile.wide + v0] : z_spread(token + i1 * PARTS), x);
            if (WEIGHTED) drive = z_mul(drive, step.w);
            h[i1] = z_fma(step.a, h[i1], drive);
            if (!DELTA_FIXED && (!A_ALIKE || i1 == 0)) {
                w->a[t * states + i1] = step.a;
                if (WEIGHTED) w->w[t * states + i1] = step.w;
            }
            w->h[(t + 1) * states + i1] = h[i1];
        }
    }
    for (int64_t t = s.steps - 1; t >= 0; t--) {
        const int64_t r = b * s.steps + t;
        const V u = at_row(f->u[0], tile, r)[v0], x = SCHEME == ZOH ? u : at_row(f->x[0], tile, r)[v0];
        const V d = at_row(f->d[0], tile, DELTA_FIXED ? 0 : r)[v0];
        const V g = at_row(w->g, tile, r)[v0];
        V x_sum = at_row(w->x_sum, tile, r)[v0], d_sum = at_row(w->d_sum, tile, r)[v0];
        V shared[BS * 2 * PARTS];
        const real *bt = f->bt[0] + (r * BLOCK + i) * PARTS, *ct = f->ct[0] + (r * BLOCK + i) * PARTS;
#pragma GCC unroll 16
        for (int i1 = 0; i1 < states; i1++) {
            const int at = (i + i1) * tile.wide + v0;
            Step step;
            if (DELTA_FIXED) step = fixed[i1];
            else {
                step.a = w->a[t * states + (A_ALIKE ? 0 : i1)];
                if (WEIGHTED) step.w = w->w[t * states + (A_ALIKE ? 0 : i1)];
            }
            const Z B = z_conj(B_CHANNEL ? f->b[0][at] : z_spread(bt + i1 * PARTS));
            const Z C = z_conj(C_CHANNEL ? f->c[0][at] : z_spread(ct + i1 * PARTS));
            const Z before = w->h[t * states + i1];
            const Z l = z_add(adjoint[i1], z_times(C, g));
            const Z into = z_mul(l, B), to_C = z_times(z_conj(h[i1]), g);
            Z to_B = z_times(l, x);
            if (WEIGHTED) to_B = z_mul(to_B, z_conj(step.w));
            x_sum += WEIGHTED ? z_re_mul(into, z_conj(step.w)) : z_re(into);
            undiscretize(poles[i1], d, u, x, step, z_mul(l, z_conj(before)), into, &d_sum, &dA[i1]);
            adjoint[i1] = z_mul(l, z_conj(step.a));
            h[i1] = before;
            if (B_CHANNEL) dB[i1] = z_add(dB[i1], to_B);
            else z_put(to_B, shared + i1 * PARTS);
            if (C_CHANNEL) dC[i1] = z_add(dC[i1], to_C);
            else z_put(to_C, shared + (!B_CHANNEL * states + i1) * PARTS);
        }
#pragma GCC unroll 16
        for (int k = 0; k < VECTORS(states); k++)
            w->sums[r * VECTORS(states) + k] += lane_sums(shared + k * LANES, COUNT(states) < LANES ? COUNT(states) : LANES);
        at_row(w->x_sum, tile, r)[v0] = x_sum;
        at_row(w->d_sum, tile, r)[v0] = d_sum;
    }
#pragma GCC unroll 16
    for (int i1 = 0; i1 < states; i1++) {
        const int at = (i + i1) * tile.wide + v0;
        if (s.t) w->adjoint[(n + i + i1) * tile.wide + v0] = adjoint[i1];
        else if (j->dh0) scatter(adjoint[i1], j, tile, s.b + b, n + i + i1, v0, j->dh0);
        w->dA[at] = z_add(w->dA[at], dA[i1]);
        if (B_CHANNEL) w->dB[at] = z_add(w->dB[at], dB[i1]);
        if (C_CHANNEL) w->dC[at] = z_add(w->dC[at], dC[i1]);
    }
}

/* The rows' sums, added to the gradients of B and C. */
INLINE void add_sums(const Job *j, Span s, const V *sums, int64_t n, const int states, real *dB, real *dC) {
    for (int64_t b = 0; b < s.many; b++)
        for (int64_t t = 0; t < s.steps; t++, sums += VECTORS(states)) {
            const real *from = (const real *)sums;
            real all[BS * 2 * PARTS];
            for (int i = 0; i < COUNT(states); i++) {
                all[i] = from[i];
                for (int k = COUNT(states); k < LANES; k += COUNT(states)) all[i] += from[k + i];
            }
            real *to_B = dB + ((s.b + b) * j->b_batch + (s.t + t) * j->b_time + n) * PARTS;
            real *to_C = dC + ((s.b + b) * j->c_batch + (s.t + t) * j->c_time + n) * PARTS;
            for (int i = 0; i < states * PARTS; i++) {
                if (!B_CHANNEL) to_B[i] += all[i];
                if (!C_CHANNEL) to_C[i] += all[!B_CHANNEL * states * PARTS + i];
            }
        }
}

INLINE void states_backward(const Job *j, Backward *w, Tile tile, Span s, int64_t n, int i, const int states,
                            real *dB, real *dC) {
    if (SHARED) memset(w->sums, 0, s.many * s.steps * VECTORS(states) * sizeof(V));
    for (int v = 0; v < tile.wide; v++)
        for (int64_t b = 0; b < s.many; b++) steps_backward(j, w, tile, s, b, n, i, v, states);
    if (SHARED) add_sums(j, s, w->sums, n + i, states, dB, dC);
}

static void add_shared(const Z *from, int64_t n, int64_t states, Tile tile, real *to) {
    for (int64_t i = 0; i < BLOCK && n + i < states; i++)
        for (int v = 0; v < tile.wide; v++)
            for (int p = 0; p < PARTS; p++) to[(n + i) * PARTS + p] += lane_sum(((const V *)(from + i * tile.wide + v))[p]);
}

static void span_backward(const Job *j, Backward *w, Tile tile, Span s, int64_t group, int64_t part) {
    const Member *m = j->member;
    const int64_t rows = s.many * s.steps, block = BLOCK * tile.wide * sizeof(Z);
    Forward *f = &w->forward;
    real *dA = j->dA + group * j->dA_group + part * j->dA_part, *dB = j->dB + group * j->dB_group + part * j->dB_part,
         *dC = j->dC + group * j->dC_group + part * j->dC_part;
    load_rows(j, m, tile, s, f->u[0], f->d[0], f->x[0]);
    for (int64_t b = 0; b < s.many; b++)
        for (int64_t t = 0; t < s.steps; t++) {
            soon(j->gy + row_at(j, s, b, t) * j->channels, j->channels, tile, 0);
            load(j->gy + row_at(j, s, b, t) * j->channels, tile, at_row(w->g, tile, b * s.steps + t));
        }
    memset(w->x_sum, 0, rows * tile.wide * sizeof(V));
    memset(w->d_sum, 0, rows * tile.wide * sizeof(V));
    for (int64_t n = 0; n < j->states; n += BLOCK) {
        const int states = j->states - n < BLOCK ? j->states - n : BLOCK;
        load_states(j, m, tile, s, n, f->raw, f->pole[0], f->b[0], f->c[0], f->bt[0], f->ct[0]);
        memset(w->dA, 0, block);
        if (B_CHANNEL) memset(w->dB, 0, block);
        if (C_CHANNEL) memset(w->dC, 0, block);
        int i = 0;
        for (; i + BS <= states; i += BS) states_backward(j, w, tile, s, n, i, BS, dB, dC);
        for (; i < states; i++) states_backward(j, w, tile, s, n, i, 1, dB, dC);
        if (A_ALIKE) add_alike(w->dA, states, tile, dA);
        else if (j->a_channel) add_block(w->dA, j->states * PARTS, n, j->states, tile, dA);
        else add_shared(w->dA, n, j->states, tile, dA);
        if (B_CHANNEL) add_block(w->dB, j->states * PARTS, n, j->states, tile, dB);
        if (C_CHANNEL) add_block(w->dC, j->states * PARTS, n, j->states, tile, dC);
    }
    V skip[WIDE] = {}, to_D[WIDE] = {}, to_d[WIDE] = {};
    if (m->D) load(m->D, tile, skip);
    for (int64_t b = 0; b < s.many; b++)
        for (int64_t t = 0; t < s.steps; t++) {
            const int64_t r = b * s.steps + t, at = row_at(j, s, b, t) * j->channels;
            V *g = at_row(w->g, tile, r), *x_sum = at_row(w->x_sum, tile, r), *d_sum = at_row(w->d_sum, tile, r);
            const V *u = at_row(f->u[0], tile, r), *d = at_row(f->d[0], tile, DELTA_FIXED ? 0 : r);
            for (int v = 0; v < tile.wide; v++) {
                if (SCHEME != ZOH) { /* x = Delta u */
                    if (SCHEME != BILINEAR) d_sum[v] += u[v] * x_sum[v];
                    x_sum[v] *= d[v];
                }
                x_sum[v] += skip[v] * g[v];
                to_D[v] += g[v] * u[v];
                to_d[v] += d_sum[v];
            }
            soon(j->du + at, j->channels, tile, 1);
            if (!DELTA_FIXED) soon(j->ddelta + at, j->channels, tile, 1);
            store(x_sum, tile, j->du + at);
            if (!DELTA_FIXED) store(d_sum, tile, j->ddelta + at);
        }
    const int64_t own = group * j->channels + tile.first;
    for (int64_t c = 0; c < tile.count; c++) {
        if (DELTA_FIXED) j->ddelta[own + c] += to_d[c / LANES][c % LANES];
        if (m->D) j->dD[own + c] += to_D[c / LANES][c % LANES];
    }
}

/* Forward through all chunks but the last, keeping h at the beginning of each. */
static void mark(const Job *j, Backward *w, Tile tile, int64_t b) {
    Forward *f = &w->forward;
    for (int64_t t = 0; t + j->chunk < j->time; t += j->chunk) {
        const Span s = {b, 1, t, j->chunk};
        load_rows(j, j->member, tile, s, f->u[0], f->d[0], f->x[0]);
        for (int64_t n = 0; n < j->states; n += BLOCK) block_forward(j, f, tile, s, n, NULL, NULL);
        memcpy(w->start + (t / j->chunk + 1) * j->states * WIDE, f->h[0], j->states * tile.wide * sizeof(Z));
    }
}

static void lay_backward(const Job *j, Backward *w, Arena *a) {
    const int64_t rows = j->chunk * j->together, row = WIDE * sizeof(V), block = BLOCK * WIDE * sizeof(Z);
    const int64_t chunks = (j->time + j->chunk - 1) / j->chunk;
    lay_forward(j, &w->forward, a);
    w->g = take(a, rows * row);
    w->x_sum = take(a, rows * row);
    w->d_sum = take(a, rows * row);
    w->dA = take(a, block);
    w->dB = take(a, B_CHANNEL ? block : 0);
    w->dC = take(a, C_CHANNEL ? block : 0);
    w->sums = take(a, rows * VECTORS(BS) * sizeof(V));
    w->a = take(a, DELTA_FIXED ? 0 : j->chunk * BS * sizeof(Z));
    w->w = take(a, DELTA_FIXED || !WEIGHTED ? 0 : j->chunk * BS * sizeof(Z));
    w->h = take(a, (j->chunk + 1) * BS * sizeof(Z));
    w->start = take(a, chunks > 1 ? chunks * j->states * WIDE * sizeof(Z) : 0);
    w->adjoint = take(a, chunks > 1 ? j->states * WIDE * sizeof(Z) : 0);
}

static void task_backward(const Job *j, Backward *w, int64_t group, int64_t part) {
    for (int64_t at = first_of(tiles(j), part, j->parts); at < first_of(tiles(j), part + 1, j->parts); at++) {
        const Tile tile = tile_at(j, at);
        const int64_t end = first_of(j->batch, group + 1, j->groups);
        for (int64_t b = first_of(j->batch, group, j->groups); b < end; b += j->together) {
            if (j->chunk < j->time) mark(j, w, tile, b);
            for (int64_t t = (j->time - 1) / j->chunk * j->chunk; t >= 0; t -= j->chunk) {
                const Span s = {b, end - b < j->together ? end - b : j->together,
                                t, j->time - t < j->chunk ? j->time - t : j->chunk};
                span_backward(j, w, tile, s, group, part);
            }
        }
    }
}
