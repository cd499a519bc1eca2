/* Forward: h_t = a_t h_{t-1} + w_t B_t x_t and y_t = Re sum_n C_t h_t, for MEMBERS networks side by side.
 *
 * With several members, their combination sum_k coefficient_k h_k is formed in the registers too, so that the norm of a
 * difference of hidden states costs no memory.  NORMS: 0 none, 1 by position, 2 by position, channel, state, and the largest.
 */
enum { KINDS = MEMBERS == 1 ? 1 : MEMBERS + 1, NS = 4 };

typedef struct {
    V *u[MEMBERS], *d[MEMBERS], *x[MEMBERS], *y[MEMBERS]; /* rows; x is what enters the state */
    Pole *pole[MEMBERS];
    Z *raw, *b[MEMBERS], *c[MEMBERS];                     /* a block of states; b and c where they differ by channel */
    real *bt[MEMBERS], *ct[MEMBERS];                      /* else B and C of the block, a row each */
    Z *h[MEMBERS];                                        /* the state between two chunks */
    V *square[KINDS];                                     /* |h|^2 by row */
    V largest[KINDS];
} Forward;

INLINE V *at_row(V *rows, Tile tile, int64_t row) { return rows + row * tile.wide; }

/* u, Delta and what enters the state, for the rows of a span. */
static void load_rows(const Job *j, const Member *m, Tile tile, Span s, V *u, V *d, V *x) {
    if (DELTA_FIXED) load(m->delta, tile, d);
    for (int64_t b = 0; b < s.many; b++)
        for (int64_t t = 0; t < s.steps; t++) {
            const int64_t r = b * s.steps + t, from = row_at(j, s, b, t) * j->channels;
            soon(m->u + from, j->channels, tile, 0);
            if (!DELTA_FIXED) soon(m->delta + from, j->channels, tile, 0);
            load(m->u + from, tile, at_row(u, tile, r));
            if (!DELTA_FIXED) load(m->delta + from, tile, at_row(d, tile, r));
            const V *step = at_row(d, tile, DELTA_FIXED ? 0 : r);
            if (SCHEME != ZOH)
                for (int v = 0; v < tile.wide; v++) at_row(x, tile, r)[v] = step[v] * at_row(u, tile, r)[v];
        }
}

/* B or C of a block of states for the rows of a span, where all channels share it. */
static void load_tokens(const Job *j, const real *from, int64_t batch, int64_t time, Span s, int64_t n, real *to) {
    const int64_t states = j->states - n < BLOCK ? j->states - n : BLOCK;
    for (int64_t b = 0; b < s.many; b++)
        for (int64_t t = 0; t < s.steps; t++) {
            const real *at = from + ((s.b + b) * batch + (s.t + t) * time + n) * PARTS;
            real *row = to + (b * s.steps + t) * BLOCK * PARTS;
            if (states == BLOCK) memcpy(row, at, BLOCK * PARTS * sizeof(real));
            else memcpy(row, at, states * PARTS * sizeof(real));
        }
}

/* The poles, and B and C, of a block of states. */
static void load_states(const Job *j, const Member *m, Tile tile, Span s, int64_t n, Z *raw, Pole *poles, Z *b, Z *c,
                        real *bt, real *ct) {
    if (A_ALIKE) load_alike(m->A, tile, raw);
    else load_block(m->A, j->a_channel * PARTS, n, j->states, tile, raw);
    const int64_t states = j->states - n < BLOCK ? j->states - n : BLOCK;
    for (int64_t i = 0; i < states * tile.wide; i++) poles[i] = pole(raw[i]);
    if (B_CHANNEL) load_block(m->B, j->states * PARTS, n, j->states, tile, b);
    else load_tokens(j, m->B, j->b_batch, j->b_time, s, n, bt);
    if (C_CHANNEL) load_block(m->C, j->states * PARTS, n, j->states, tile, c);
    else load_tokens(j, m->C, j->c_batch, j->c_time, s, n, ct);
}

/* Some states of some vectors of channels through the time steps of one sequence: the inner loop. */
INLINE void steps_forward(const Job *j, Forward *f, Tile tile, Span s, int64_t b, int64_t n, int i, int v0, const int states,
                          double *by_state, double *by_channel) {
    Z h[MEMBERS][NS];
    Step fixed[MEMBERS][NS];
    V own[KINDS][NS];
    for (int k = 0; k < MEMBERS; k++)
        for (int i1 = 0; i1 < states; i1++) {
            const int64_t at = (n + i + i1) * tile.wide + v0;
            if (s.t) h[k][i1] = f->h[k][at];
            else if (j->member[k].h0) h[k][i1] = gather(j->member[k].h0, j, tile, s.b + b, n + i + i1, v0);
            else h[k][i1] = z_of((V){});
            if (DELTA_FIXED) fixed[k][i1] = discretize(f->pole[k][(i + i1) * tile.wide + v0], f->d[k][v0]);
        }
    if (NORMS > 1)
        for (int k = 0; k < KINDS; k++)
            for (int i1 = 0; i1 < states; i1++) own[k][i1] = (V){};
    for (int64_t t = 0; t < s.steps; t++) {
        const int64_t r = b * s.steps + t;
#pragma GCC unroll 8
        for (int k = 0; k < MEMBERS; k++) {
            const V x = at_row(SCHEME == ZOH ? f->u[k] : f->x[k], tile, r)[v0];
            const V d = at_row(f->d[k], tile, DELTA_FIXED ? 0 : r)[v0];
            V y = at_row(f->y[k], tile, r)[v0];
            Step step;
#pragma GCC unroll 16
            for (int i1 = 0; i1 < states; i1++) {
                const int at = (i + i1) * tile.wide + v0, token = (r * BLOCK + i + i1) * PARTS;
                if (DELTA_FIXED) step = fixed[k][i1];
                else if (!A_ALIKE || i1 == 0) step = discretize(f->pole[k][at], d);
                Z drive = z_times(B_CHANNEL ? f->b[k][at] : z_spread(f->bt[k] + token), x);
                if (WEIGHTED) drive = z_mul(drive, step.w);
                h[k][i1] = z_fma(step.a, h[k][i1], drive);
                y += z_re_mul(C_CHANNEL ? f->c[k][at] : z_spread(f->ct[k] + token), h[k][i1]);
            }
            at_row(f->y[k], tile, r)[v0] = y;
        }
        if (NORMS)
#pragma GCC unroll 8
            for (int k = 0; k < KINDS; k++) {
                V sum = f->square[k][r];
#pragma GCC unroll 16
                for (int i1 = 0; i1 < states; i1++) {
                    Z g = h[k < MEMBERS ? k : 0][i1];
                    if (k == MEMBERS) {
                        g = z_times(g, all(j->coefficient[0]));
#pragma GCC unroll 8
                        for (int l = 1; l < MEMBERS; l++) g = z_add(g, z_times(h[l][i1], all(j->coefficient[l])));
                    }
                    V square = z_square(g);
                    sum += square;
                    if (NORMS > 1) {
                        own[k][i1] += square;
                        f->largest[k] = largest(f->largest[k], square);
                    }
                }
                f->square[k][r] = sum;
            }
    }
    if (NORMS > 1)
        for (int k = 0; k < KINDS; k++)
            for (int i1 = 0; i1 < states; i1++) {
                by_state[k * j->states + n + i + i1] += lane_sum(own[k][i1]);
                for (int lane = 0; lane < LANES; lane++) by_channel[(k * WIDE + v0) * LANES + lane] += own[k][i1][lane];
            }
    for (int k = 0; k < MEMBERS; k++)
        for (int i1 = 0; i1 < states; i1++) {
            const int64_t at = (n + i + i1) * tile.wide + v0;
            if (s.t + s.steps < j->time) f->h[k][at] = h[k][i1];
            else if (j->member[k].last) scatter(h[k][i1], j, tile, s.b + b, n + i + i1, v0, j->member[k].last);
        }
}

/* The states of a block for all rows of a span: NS at a time, then what is left one by one. */
static void block_forward(const Job *j, Forward *f, Tile tile, Span s, int64_t n, double *by_state, double *by_channel) {
    const int states = j->states - n < BLOCK ? j->states - n : BLOCK;
    for (int k = 0; k < MEMBERS; k++)
        load_states(j, j->member + k, tile, s, n, f->raw, f->pole[k], f->b[k], f->c[k], f->bt[k], f->ct[k]);
    int i = 0;
    for (; i + NS <= states; i += NS)
        for (int v = 0; v < tile.wide; v++)
            for (int64_t b = 0; b < s.many; b++) steps_forward(j, f, tile, s, b, n, i, v, NS, by_state, by_channel);
    for (; i < states; i++)
        for (int v = 0; v < tile.wide; v++)
            for (int64_t b = 0; b < s.many; b++) steps_forward(j, f, tile, s, b, n, i, v, 1, by_state, by_channel);
}

/* A tile for the rows of a span: all states. */
static void span_forward(const Job *j, Forward *f, Tile tile, Span s, int64_t group, int64_t part) {
    const int64_t rows = s.many * s.steps, task = group * j->parts + part;
    double *by_state = NORMS > 1 ? j->state + task * KINDS * j->states : NULL, by_channel[KINDS * WIDE * LANES] = {0};
    for (int k = 0; k < MEMBERS; k++) {
        const Member *m = j->member + k;
        load_rows(j, m, tile, s, f->u[k], f->d[k], f->x[k]);
        V skip[WIDE] = {};
        if (m->D) load(m->D, tile, skip);
        for (int64_t r = 0; r < rows; r++)
            for (int v = 0; v < tile.wide; v++) at_row(f->y[k], tile, r)[v] = skip[v] * at_row(f->u[k], tile, r)[v];
    }
    if (NORMS)
        for (int k = 0; k < KINDS; k++) memset(f->square[k], 0, rows * sizeof(V));
    for (int64_t n = 0; n < j->states; n += BLOCK) block_forward(j, f, tile, s, n, by_state, by_channel);
    for (int64_t b = 0; b < s.many; b++)
        for (int64_t t = 0; t < s.steps; t++) {
            const int64_t r = b * s.steps + t, at = row_at(j, s, b, t);
            for (int k = 0; k < MEMBERS; k++) {
                soon(j->member[k].y + at * j->channels, j->channels, tile, 1);
                store(at_row(f->y[k], tile, r), tile, j->member[k].y + at * j->channels);
            }
            if (NORMS)
                for (int k = 0; k < KINDS; k++)
                    j->position[(k * j->parts + part) * j->batch * j->time + at] += lane_sum(f->square[k][r]);
        }
    if (NORMS > 1)
        for (int k = 0; k < KINDS; k++)
            for (int64_t c = 0; c < tile.count; c++)
                j->channel[(k * j->groups + group) * j->channels + tile.first + c] += by_channel[k * WIDE * LANES + c];
}

static void lay_forward(const Job *j, Forward *f, Arena *a) {
    const int64_t rows = j->chunk * j->together, row = WIDE * sizeof(V), block = BLOCK * WIDE * sizeof(Z);
    f->raw = take(a, block);
    for (int k = 0; k < MEMBERS; k++) {
        f->u[k] = take(a, rows * row);
        f->d[k] = take(a, (DELTA_FIXED ? 1 : rows) * row);
        f->x[k] = SCHEME == ZOH ? f->u[k] : take(a, rows * row);
        f->y[k] = take(a, rows * row);
        f->pole[k] = take(a, BLOCK * WIDE * sizeof(Pole));
        f->b[k] = take(a, B_CHANNEL ? block : 0);
        f->c[k] = take(a, C_CHANNEL ? block : 0);
        f->bt[k] = take(a, B_CHANNEL ? 0 : rows * BLOCK * PARTS * sizeof(real));
        f->ct[k] = take(a, C_CHANNEL ? 0 : rows * BLOCK * PARTS * sizeof(real));
        f->h[k] = take(a, j->chunk < j->time ? j->states * WIDE * sizeof(Z) : 0);
    }
    for (int k = 0; k < KINDS; k++) f->square[k] = take(a, NORMS ? rows * sizeof(V) : 0);
}

static void task_forward(const Job *j, Forward *f, int64_t group, int64_t part) {
    for (int k = 0; k < KINDS; k++) f->largest[k] = (V){};
    for (int64_t at = first_of(tiles(j), part, j->parts); at < first_of(tiles(j), part + 1, j->parts); at++) {
        const Tile tile = tile_at(j, at);
        const int64_t end = first_of(j->batch, group + 1, j->groups);
        for (int64_t b = first_of(j->batch, group, j->groups); b < end; b += j->together)
            for (int64_t t = 0; t < j->time; t += j->chunk) {
                const Span s = {b, end - b < j->together ? end - b : j->together,
                                t, j->time - t < j->chunk ? j->time - t : j->chunk};
                span_forward(j, f, tile, s, group, part);
            }
    }
    if (NORMS > 1)
        for (int k = 0; k < KINDS; k++)
            for (int lane = 0; lane < LANES; lane++) {
                double *most = j->largest + (group * j->parts + part) * KINDS + k;
                *most = f->largest[k][lane] > *most ? f->largest[k][lane] : *most;
            }
}
