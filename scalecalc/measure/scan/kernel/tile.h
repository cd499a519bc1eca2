/* Tiles: what a task works on, and how it gets in and out of memory.
 *
 * A tile is up to WIDE vectors of channels.  Its rows (one per sequence and time step) are copied into buffers that stay in
 * the cache while all states go by, BLOCK at a time: the states are the outer loop, time the inner one, and h never leaves
 * the registers.  What memory holds states-fastest (A, and B or C of every channel) is transposed on the way.
 */
enum { WIDE = 8, BLOCK = 16, MOST = 4 };

typedef struct {
    const real *u, *delta, *A, *B, *C, *D, *h0;
    real *y, *last;
} Member;

typedef struct {
    int64_t batch, time, channels, states;
    int64_t groups, parts;            /* tasks: groups of sequences times parts of the channels */
    int64_t chunk, together;          /* time steps, and sequences, whose rows are in the buffers at once */
    int64_t a_channel, b_batch, b_time, c_batch, c_time; /* distances in memory, in numbers; 0: the same for all */
    Member member[MOST];
    double coefficient[MOST];
    double *position, *channel, *state, *largest;
    const real *gy, *glast;
    real *du, *ddelta, *dA, *dB, *dC, *dD, *dh0;
    int64_t dA_group, dA_part, dB_group, dB_part, dC_group, dC_part; /* between the partial sums of the tasks */
    int64_t threads;                  /* at most so many */
} Job;

typedef struct { int64_t first, count; int wide; } Tile; /* channels, and vectors of them */
typedef struct { int64_t b, many, t, steps; } Span;      /* sequences, and time steps, of the rows */

/* The channels are split into tiles; the tiles, and the sequences, into as many contiguous parts as there are tasks. */
INLINE int64_t tiles(const Job *j) { return (j->channels + WIDE * LANES - 1) / (WIDE * LANES); }
INLINE int64_t first_of(int64_t all, int64_t part, int64_t parts) { return all * part / parts; }
INLINE Tile tile_at(const Job *j, int64_t at) {
    const int64_t first = at * WIDE * LANES, left = j->channels - first;
    const int64_t count = left < WIDE * LANES ? left : WIDE * LANES;
    return (Tile){first, count, (count + LANES - 1) / LANES};
}

INLINE int64_t row_at(const Job *j, Span s, int64_t b, int64_t t) { return (s.b + b) * j->time + s.t + t; }

/* One row of channels: from memory into vectors (zero past the end), and back.  A whole row's size is known to the compiler,
 * which then calls no function; where there are few states that makes a fifth of the time. */
INLINE void load(const real *from, Tile tile, V *to) {
    if (tile.count == WIDE * LANES) memcpy(to, from + tile.first, WIDE * sizeof(V));
    else {
        memset(to, 0, tile.wide * sizeof(V));
        memcpy(to, from + tile.first, tile.count * sizeof(real));
    }
}
/* A row some rows further on is asked for: rows are too far apart in memory for the processor to foresee them. */
INLINE void soon(const real *row, int64_t channels, Tile tile, const int write) {
    enum { FURTHER = 6 };
    const char *at = (const char *)(row + FURTHER * channels + tile.first);
    for (int v = 0; v < tile.wide; v++)
        if (write) __builtin_prefetch(at + v * sizeof(V), 1);
        else __builtin_prefetch(at + v * sizeof(V), 0);
}
INLINE void store(const V *from, Tile tile, real *to) {
    if (tile.count == WIDE * LANES) memcpy(to + tile.first, from, WIDE * sizeof(V));
    else memcpy(to + tile.first, from, tile.count * sizeof(real));
}

/* A block of states of every channel, (channels, states) in memory: out[state * wide + vector] and back (added to). */
static void load_block(const real *from, int64_t row, int64_t n, int64_t states, Tile tile, Z *out) {
    const int64_t reals = (states - n < BLOCK ? states - n : BLOCK) * PARTS;
    for (int v = 0; v < tile.wide; v++)
        for (int64_t i = 0; i < reals; i += LANES) {
            V x[LANES] = {};
            const int64_t here = reals - i < LANES ? reals - i : LANES;
            for (int c = 0; c < LANES && v * LANES + c < tile.count; c++) {
                const real *at = from + (tile.first + v * LANES + c) * row + n * PARTS + i;
                if (here == LANES) memcpy(x + c, at, sizeof(V));
                else memcpy(x + c, at, here * sizeof(real));
            }
            transpose(x);
            for (int k = 0; k < here; k++) ((V *)(out + (i + k) / PARTS * tile.wide + v))[(i + k) % PARTS] = x[k];
        }
}
/* The same where all states have the channel's one number. */
static void load_alike(const real *from, Tile tile, Z *out) {
    for (int v = 0; v < tile.wide; v++)
        for (int64_t i = 0; i < BLOCK; i++)
            for (int c = 0; c < LANES; c++)
                for (int p = 0; p < PARTS; p++)
                    ((V *)(out + i * tile.wide + v))[p][c] =
                        v * LANES + c < tile.count ? from[(tile.first + v * LANES + c) * PARTS + p] : 0;
}
static void add_alike(const Z *from, int64_t states, Tile tile, real *to) {
    for (int v = 0; v < tile.wide; v++) {
        Z sum = from[v];
        for (int64_t i = 1; i < states; i++) sum = z_add(sum, from[i * tile.wide + v]);
        for (int c = 0; c < LANES && v * LANES + c < tile.count; c++)
            for (int p = 0; p < PARTS; p++) to[(tile.first + v * LANES + c) * PARTS + p] += ((V *)&sum)[p][c];
    }
}
static void add_block(const Z *from, int64_t row, int64_t n, int64_t states, Tile tile, real *to) {
    const int64_t reals = (states - n < BLOCK ? states - n : BLOCK) * PARTS;
    for (int v = 0; v < tile.wide; v++)
        for (int64_t i = 0; i < reals; i += LANES) {
            V x[LANES] = {};
            const int64_t here = reals - i < LANES ? reals - i : LANES;
            for (int k = 0; k < here; k++) x[k] = ((const V *)(from + (i + k) / PARTS * tile.wide + v))[(i + k) % PARTS];
            transpose(x);
            for (int c = 0; c < LANES && v * LANES + c < tile.count; c++) {
                real *at = to + (tile.first + v * LANES + c) * row + n * PARTS + i;
                if (here == LANES) {
                    V sum;
                    memcpy(&sum, at, sizeof sum);
                    sum += x[c];
                    memcpy(at, &sum, sizeof sum);
                } else for (int k = 0; k < here; k++) at[k] += x[c][k];
            }
        }
}
/* One state of one vector of channels, in (batch, channels, states): h0, the last state, their gradients. */
static Z gather(const real *from, const Job *j, Tile tile, int64_t b, int64_t n, int v) {
    real out[PARTS][LANES] = {};
    for (int64_t c = 0; c < LANES && v * LANES + c < tile.count; c++)
        for (int p = 0; p < PARTS; p++)
            out[p][c] = from[((b * j->channels + tile.first + v * LANES + c) * j->states + n) * PARTS + p];
    Z z;
    memcpy(&z, out, sizeof z);
    return z;
}
static void scatter(Z z, const Job *j, Tile tile, int64_t b, int64_t n, int v, real *to) {
    real in[PARTS][LANES];
    memcpy(in, &z, sizeof z);
    for (int64_t c = 0; c < LANES && v * LANES + c < tile.count; c++)
        for (int p = 0; p < PARTS; p++)
            to[((b * j->channels + tile.first + v * LANES + c) * j->states + n) * PARTS + p] = in[p][c];
}

/* Buffers: one piece of memory, handed out in order. */
typedef struct { char *at; } Arena;
static void *take(Arena *arena, int64_t bytes) {
    char *at = arena->at;
    arena->at += (bytes + 63) / 64 * 64;
    return at;
}
