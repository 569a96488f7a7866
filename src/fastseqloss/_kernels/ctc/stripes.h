/* The CTC lattice in stripes, of frames that are opened and closed in tiles (simd/tile.h).
 *
 * A group i is blank i and label i; both share an exponent (lattice/extended_range.h), so that a single factor
 * 2^(E[i-1] - E[i]) connects neighbours. Groups lie in blocks of n vectors of FSL_X lanes. Group i of a block is lane
 * i / n of vector i % n: its neighbour i - 1 is the same lane of the vector before, and only vector 0 needs the last
 * vector moved by a lane. A row of alphas holds for each block the labels before vector 0, the labels, the blanks.
 *
 * Beta is kept in posterior units, as in ctc/lattice.h: the posterior is alpha * beta. */
#ifndef FASTSEQLOSS_CTC_STRIPES_H
#define FASTSEQLOSS_CTC_STRIPES_H

#include "lattice/extended_range.h"
#include "simd/tile.h"

#define FSL_CTC_STRIPE_MOST 12       /* vectors of the only block of a short sequence */
#define FSL_CTC_STRIPE_VECTORS 8     /* vectors of a block otherwise */
#define FSL_CTC_STRIPE_WINDOW 32     /* largest number of frames between two refreshes */
#define FSL_CTC_STRIPE_FLOOR 390.0   /* largest distance of an exponent below those that flow in: mantissas < 2^450 */
#define FSL_CTC_STRIPE_LEAST 550.0   /* mantissas below 2^-550 are raised to this at a refresh, */
#define FSL_CTC_STRIPE_LEAST_0 320.0 /* or below 2^-320 if alphas may be 0 at states that are reachable */
#define FSL_CTC_STRIPE_WEIGHT 0x1p-100 /* raised mantissas weigh less than this */
#define FSL_CTC_STRIPE_APART 1000.0  /* largest exponent of a factor */
#define FSL_CTC_STRIPE_REFILL 700.0  /* 2^-320 at a refresh may become so much smaller and stays normal */
#define FSL_CTC_STRIPE_NEGLIGIBLE 0x1p-120 /* blocks whose posteriors are all below are omitted from beta */

typedef struct {
    ptrdiff_t n, blocks;   /* vectors of a block, blocks */
    ptrdiff_t block, size; /* groups of a block, of all blocks */
    ptrdiff_t row;         /* elements of a row of alphas */
    int32_t *place;        /* [size] index in stripes of a group */
    int32_t *u;            /* [size] class of a label times FSL_FRAMES; padding has a class of its own */
    double *skip;          /* [size] 1 where l[i-1] may be followed by l[i], else 0 */
    double *factor;        /* [size] from l[i-1] to b[i] */
    double *skip_factor;   /* [size] from l[i-1] to l[i] */
    double *change;        /* [size] of the mantissas of alpha at the refresh, of beta on the way back */
    double *e;             /* [blocks, FSL_FRAMES, block] emissions of the labels in a tile */
    double *post;          /* [blocks, FSL_FRAMES, block] posteriors of the labels */
    double *post_b;        /* [FSL_FRAMES, FSL_X] sums of the posteriors of the blanks */
    double *q_label;       /* [size] beta times emission */
    double *q_blank;
    double *own;           /* [size] each, in the order of the labels, with FSL_CTC_STRIPE_WINDOW elements before */
    double *behind;
    double *scratch;
} fsl_ctc_stripes;

/* Calls a function with n as a constant: its loops are unrolled. */
#define FSL_CTC_STRIPE_CASE(k, call) case k: { enum { n = k }; call; } break;
#define FSL_CTC_STRIPE_SWITCH(vectors, call)                                                                       \
    switch (vectors) {                                                                                             \
        FSL_CTC_STRIPE_CASE(1, call) FSL_CTC_STRIPE_CASE(2, call) FSL_CTC_STRIPE_CASE(3, call)                     \
        FSL_CTC_STRIPE_CASE(4, call) FSL_CTC_STRIPE_CASE(5, call) FSL_CTC_STRIPE_CASE(6, call)                     \
        FSL_CTC_STRIPE_CASE(7, call) FSL_CTC_STRIPE_CASE(8, call) FSL_CTC_STRIPE_CASE(9, call)                     \
        FSL_CTC_STRIPE_CASE(10, call) FSL_CTC_STRIPE_CASE(11, call) FSL_CTC_STRIPE_CASE(12, call)                  \
    }

/* Sets the sizes for n_labels labels. */
FSL_UNUSED static void fsl_ctc_stripe_sizes(fsl_ctc_stripes *s, ptrdiff_t n_labels)
{
    const ptrdiff_t vectors = (n_labels + FSL_X) / FSL_X; /* n_labels + 1 groups */
    s->n = vectors <= FSL_CTC_STRIPE_MOST ? vectors : FSL_CTC_STRIPE_VECTORS;
    s->blocks = (vectors + s->n - 1) / s->n;
    s->block = s->n * FSL_X;
    s->size = s->blocks * s->block;
    s->row = s->blocks * (2 * s->n + 1) * FSL_X;
}

/* Sets the place of every group. */
FSL_UNUSED static void fsl_ctc_stripe_places(const fsl_ctc_stripes *s)
{
    for (ptrdiff_t k = 0; k < s->size; k += s->block)
        for (ptrdiff_t lane = 0; lane < FSL_X; lane++)
            for (ptrdiff_t v = 0; v < s->n; v++) s->place[k + lane * s->n + v] = (int32_t)(k + v * FSL_X + lane);
}

/* Address in a row of alphas of a label; that of the blank lies `block` elements further. */
FSL_INLINE double *fsl_ctc_stripe_label(const fsl_ctc_stripes *s, double *row, ptrdiff_t i)
{
    return row + i / s->block * (s->block + FSL_X) + FSL_X + s->place[i];
}

/* Address of the posterior of a label at frame `t` of the tile. */
FSL_INLINE double *fsl_ctc_stripe_posterior(const fsl_ctc_stripes *s, int t, ptrdiff_t i)
{
    const ptrdiff_t k = i / s->block;
    return s->post + (k * FSL_FRAMES + t) * s->block + s->place[i] - k * s->block;
}

/* Copies the groups of blocks [lo, hi) from the order of the labels into stripes, and back. */
FSL_INLINE void fsl_ctc_to_stripes(const fsl_ctc_stripes *s, const double *restrict from, double *restrict to,
                                   ptrdiff_t lo, ptrdiff_t hi)
{
    const ptrdiff_t n = s->n, whole = n - n % FSL_X;
    for (ptrdiff_t k = lo * s->block; k < hi * s->block; k += s->block) {
        for (ptrdiff_t v = 0; v < whole; v += FSL_X) {
            const double *lanes[FSL_X];
            fsl_x r[FSL_X];
            for (int i = 0; i < FSL_X; i++) lanes[i] = from + k + i * n + v;
            fsl_load_transposed_x(lanes, r);
            for (int i = 0; i < FSL_X; i++) fsl_store_x(to + k + (v + i) * FSL_X, r[i]);
        }
        for (ptrdiff_t v = whole; v < n; v++)
            for (int i = 0; i < FSL_X; i++) to[k + v * FSL_X + i] = from[k + i * n + v];
    }
}

FSL_INLINE void fsl_ctc_from_stripes(const fsl_ctc_stripes *s, const double *restrict from, double *restrict to,
                                     ptrdiff_t lo, ptrdiff_t hi)
{
    const ptrdiff_t n = s->n, whole = n - n % FSL_X;
    for (ptrdiff_t k = lo * s->block; k < hi * s->block; k += s->block) {
        for (ptrdiff_t v = 0; v < whole; v += FSL_X) {
            const double *vectors[FSL_X];
            fsl_x r[FSL_X];
            for (int i = 0; i < FSL_X; i++) vectors[i] = from + k + (v + i) * FSL_X;
            fsl_load_transposed_x(vectors, r);
            for (int i = 0; i < FSL_X; i++) fsl_store_x(to + k + i * n + v, r[i]);
        }
        for (ptrdiff_t v = whole; v < n; v++)
            for (int i = 0; i < FSL_X; i++) to[k + i * n + v] = from[k + v * FSL_X + i];
    }
}

/* ---- a tile: emissions in, posteriors out ------------------------------------------------- */

/* e[frame][state] = y[class of the state][frame] for block k. */
FSL_INLINE void fsl_ctc_stripe_spread(const fsl_ctc_stripes *s, const double *restrict y, ptrdiff_t k)
{
    const ptrdiff_t size = s->block;
    const int32_t *restrict u = s->u + k * size;
    double *restrict e = s->e + k * FSL_FRAMES * size;
    for (ptrdiff_t i = 0; i < size; i += FSL_X)
        FSL_UNROLL
        for (int t = 0; t < FSL_FRAMES; t += FSL_X) {
            const double *from[FSL_X];
            fsl_x r[FSL_X];
            FSL_UNROLL
            for (int lane = 0; lane < FSL_X; lane++) from[lane] = y + u[i + lane] + t;
            fsl_load_transposed_x(from, r);
            FSL_UNROLL
            for (int lane = 0; lane < FSL_X; lane++) fsl_store_x(e + (t + lane) * size + i, r[lane]);
        }
}

/* sums[class][frame] += the posteriors of the labels of block k. */
FSL_INLINE void fsl_ctc_stripe_collect_block(const fsl_ctc_stripes *s, double *restrict sums, ptrdiff_t k)
{
    const ptrdiff_t size = s->block;
    const int32_t *restrict u = s->u + k * size;
    const double *restrict post = s->post + k * FSL_FRAMES * size;
    for (ptrdiff_t i = 0; i < size; i += FSL_X)
        FSL_UNROLL
        for (int t = 0; t < FSL_FRAMES; t += FSL_X) {
            const double *from[FSL_X];
            fsl_x r[FSL_X];
            FSL_UNROLL
            for (int lane = 0; lane < FSL_X; lane++) from[lane] = post + (t + lane) * size + i;
            fsl_load_transposed_x(from, r);
            FSL_UNROLL
            for (int lane = 0; lane < FSL_X; lane++) {
                double *sum = sums + u[i + lane] + t;
                fsl_store_x(sum, fsl_add_x(fsl_load_x(sum), r[lane]));
            }
        }
}

/* sums[class][frame] of the posteriors of the blocks [lo, hi), for n_rows classes, the last of which is that of
 * padding. */
FSL_UNUSED static void fsl_ctc_stripe_collect(const fsl_ctc_stripes *s, ptrdiff_t blank, ptrdiff_t n_rows,
                                              double *sums, ptrdiff_t lo, ptrdiff_t hi)
{
    memset(sums, 0, (size_t)n_rows * FSL_FRAMES * sizeof(double));
    for (int t = 0; t < FSL_FRAMES; t += FSL_X) {
        const double *from[FSL_X];
        fsl_x r[FSL_X];
        for (int k = 0; k < FSL_X; k++) from[k] = s->post_b + (t + k) * FSL_X;
        fsl_load_transposed_x(from, r);
        for (int k = 1; k < FSL_X; k++) r[0] = fsl_add_x(r[0], r[k]);
        fsl_store_x(sums + blank * FSL_FRAMES + t, r[0]);
    }
    for (ptrdiff_t k = lo; k < hi; k++) fsl_ctc_stripe_collect_block(s, sums, k);
}

/* ---- a frame ------------------------------------------------------------------------------- */

/* Alphas of the next frame, of one block; `before` is the last label of the block before. */
FSL_INLINE double fsl_ctc_stripe_forward_block(const int n, const double *restrict in, double *restrict out,
                                               const double *restrict factor, const double *restrict skip_factor,
                                               const double *restrict e, fsl_x blank, double before)
{
    const double *l = in + FSL_X, *b = l + n * FSL_X;
    double *l_out = out + FSL_X, *b_out = l_out + n * FSL_X;
    fsl_x neighbour = fsl_load_x(in), last = neighbour;
    FSL_UNROLL
    for (int v = 0; v < n; v++) {
        const fsl_x label = fsl_load_x(l + v * FSL_X), at_blank = fsl_load_x(b + v * FSL_X);
        const fsl_x to_blank = fsl_mul_add_x(neighbour, fsl_load_x(factor + v * FSL_X), at_blank);
        const fsl_x to_label =
            fsl_mul_add_x(neighbour, fsl_load_x(skip_factor + v * FSL_X), fsl_add_x(label, at_blank));
        last = fsl_mul_x(to_label, fsl_load_x(e + v * FSL_X));
        fsl_store_x(b_out + v * FSL_X, fsl_mul_x(to_blank, blank));
        fsl_store_x(l_out + v * FSL_X, last);
        neighbour = label;
    }
    fsl_store_x(out, fsl_shift_up_x(last, before));
    return fsl_last_x(last);
}

/* Steps forward of the blocks [lo, hi) to the frames [first, stop) of the tile: rows[f + 1] from rows[f]. The emissions
 * of the states are set from y, unless it is NULL. The loop over blocks is the outer one: a block stays in cache. */
FSL_UNUSED static void fsl_ctc_stripe_forward(const fsl_ctc_stripes *s, double *const *rows, int first, int stop,
                                              const double *y, const double *blank, ptrdiff_t lo, ptrdiff_t hi)
{
    const ptrdiff_t width = (2 * s->n + 1) * FSL_X, size = s->block;
    double before[FSL_FRAMES] = {0};
    for (ptrdiff_t k = lo; k < hi; k++) {
        const double *factor = s->factor + k * size, *skip_factor = s->skip_factor + k * size;
        const double *e = s->e + k * FSL_FRAMES * size;
        if (y) fsl_ctc_stripe_spread(s, y, k);
        FSL_CTC_STRIPE_SWITCH(s->n, for (int f = first; f < stop; f++)
            before[f] = fsl_ctc_stripe_forward_block(n, rows[f] + k * width, rows[f + 1] + k * width, factor,
                                                     skip_factor, e + f * size, fsl_all_x(blank[f]), before[f]))
    }
}

/* Betas of the frame before, of one block, and its posteriors; `after` is what flows from the block after. Returns
 * what flows into the block before. On request, beta is 0 where alpha is 0, since 1 / alpha does not bound it. */
FSL_INLINE double fsl_ctc_stripe_backward_block(const int n, const int zeros, double *restrict ql, double *restrict qb,
                                                const double *restrict alphas, const double *restrict factor,
                                                const double *restrict skip_factor, const double *restrict e,
                                                fsl_x blank, double after, double *restrict post,
                                                double *restrict post_b)
{
    const double *l = alphas + FSL_X, *b = l + n * FSL_X;
    const fsl_x first = fsl_mul_add_x(fsl_load_x(factor), fsl_load_x(qb),
                                      fsl_mul_x(fsl_load_x(skip_factor), fsl_load_x(ql)));
    fsl_x flow = fsl_shift_down_x(first, after), sum = fsl_load_x(post_b);
    FSL_UNROLL
    for (int v = n - 1; v >= 0; v--) {
        const fsl_x label = fsl_load_x(ql + v * FSL_X), at_blank = fsl_load_x(qb + v * FSL_X);
        const fsl_x alpha_b = fsl_load_x(b + v * FSL_X), alpha_l = fsl_load_x(l + v * FSL_X);
        fsl_x beta_b = fsl_add_x(at_blank, label), beta_l = fsl_add_x(label, flow);
        if (zeros) beta_b = fsl_where_positive_x(beta_b, alpha_b), beta_l = fsl_where_positive_x(beta_l, alpha_l);
        flow = fsl_mul_add_x(fsl_load_x(factor + v * FSL_X), at_blank,
                             fsl_mul_x(fsl_load_x(skip_factor + v * FSL_X), label));
        sum = fsl_mul_add_x(alpha_b, beta_b, sum);
        fsl_store_x(post + v * FSL_X, fsl_mul_x(alpha_l, beta_l));
        fsl_store_x(qb + v * FSL_X, fsl_mul_x(beta_b, blank));
        fsl_store_x(ql + v * FSL_X, fsl_mul_x(beta_l, fsl_load_x(e + v * FSL_X)));
    }
    fsl_store_x(post_b, sum);
    return fsl_first_x(first);
}

/* Steps backward of the blocks [lo, hi) to the frames [first, stop) of the tile, whose alphas are rows[f + 1] and may,
 * with `zeros`, be 0 at states that are reachable. */
FSL_UNUSED static void fsl_ctc_stripe_backward(const fsl_ctc_stripes *s, double *const *rows, int first, int stop,
                                               const double *y, const double *blank, ptrdiff_t lo, ptrdiff_t hi,
                                               int zeros)
{
    const ptrdiff_t width = (2 * s->n + 1) * FSL_X, size = s->block;
    double after[FSL_FRAMES] = {0};
    memset(s->post_b + first * FSL_X, 0, (size_t)(stop - first) * FSL_X * sizeof(double));
    for (ptrdiff_t k = hi - 1; k >= lo; k--) {
        const double *factor = s->factor + k * size, *skip_factor = s->skip_factor + k * size;
        const double *e = s->e + k * FSL_FRAMES * size;
        double *ql = s->q_label + k * size, *qb = s->q_blank + k * size, *post = s->post + k * FSL_FRAMES * size;
        if (y) fsl_ctc_stripe_spread(s, y, k);
#define FSL_CTC_STRIPE_BACKWARD(n, zeros)                                                                          \
    for (int f = stop - 1; f >= first; f--)                                                                        \
        after[f] = fsl_ctc_stripe_backward_block(n, zeros, ql, qb, rows[f + 1] + k * width, factor, skip_factor,   \
                                                 e + f * size, fsl_all_x(blank[f]), after[f], post + f * size,     \
                                                 s->post_b + f * FSL_X);
        if (zeros) {
            FSL_CTC_STRIPE_BACKWARD((int)s->n, 1)
        } else {
            FSL_CTC_STRIPE_SWITCH(s->n, FSL_CTC_STRIPE_BACKWARD(n, 0))
        }
    }
}

/* Returns 1 if beta may flow from block k into the block before it within FSL_FRAMES frames. */
FSL_UNUSED static int fsl_ctc_stripe_flows(const fsl_ctc_stripes *s, ptrdiff_t k)
{
    double sum = 0.0;
    for (ptrdiff_t i = k * s->block; i < (k + 1) * s->block; i += FSL_X) sum += s->q_label[i] + s->q_blank[i];
    return sum != 0;
}

/* Returns 1 if beta, before emission at frame `t` of the tile, is at most `bound` everywhere in the blocks
 * [lo, hi); 0 if it is greater or NaN. */
FSL_UNUSED static int fsl_ctc_stripe_beta_bounded(const fsl_ctc_stripes *s, int t, double blank, double bound,
                                                  ptrdiff_t lo, ptrdiff_t hi)
{
    int good = 1;
    for (ptrdiff_t k = lo; k < hi; k++) {
        const double *e = s->e + (k * FSL_FRAMES + t) * s->block;
        const double *ql = s->q_label + k * s->block, *qb = s->q_blank + k * s->block;
        FSL_SIMD(reduction(& : good))
        for (ptrdiff_t i = 0; i < s->block; i++)
            good &= (ql[i] <= bound * e[i]) & (qb[i] <= bound * blank);
    }
    return good;
}

/* Returns 1 if all posteriors of block k at frame `t` of the tile are negligible. */
FSL_UNUSED static int fsl_ctc_stripe_negligible(const fsl_ctc_stripes *s, const double *restrict alphas, int t,
                                                double blank, ptrdiff_t k)
{
    const double *b = alphas + k * (2 * s->n + 1) * FSL_X + FSL_X + s->block, *qb = s->q_blank + k * s->block;
    const double *post = s->post + (k * FSL_FRAMES + t) * s->block;
    int negligible = 1;
    FSL_SIMD(reduction(& : negligible))
    for (ptrdiff_t i = 0; i < s->block; i++)
        negligible &= (post[i] <= FSL_CTC_STRIPE_NEGLIGIBLE) & (b[i] * qb[i] <= FSL_CTC_STRIPE_NEGLIGIBLE * blank);
    return negligible;
}

/* ---- refreshes ------------------------------------------------------------------------------ */

/* Largest of the `window` exponents before each group of [start, stop); those before `start` are dead. The arrays hold
 * FSL_CTC_STRIPE_WINDOW elements before `start`. */
static void fsl_ctc_stripe_behind(const double *own, double *behind, double *scratch, ptrdiff_t start, ptrdiff_t stop,
                                  ptrdiff_t window)
{
    double *from = behind, *to = scratch;
    ptrdiff_t width = 1;
    for (ptrdiff_t i = start - FSL_CTC_STRIPE_WINDOW; i <= start; i++) from[i] = to[i] = FSL_DEAD;
    for (ptrdiff_t i = start + 1; i < stop; i++) from[i] = own[i - 1];
    while (width < window) {
        const ptrdiff_t by = 2 * width <= window ? width : window - width;
        FSL_SIMD()
        for (ptrdiff_t i = start; i < stop; i++) to[i] = fsl_max64(from[i], from[i - by]);
        double *swap = from; from = to; to = swap;
        width += by;
    }
    if (from != behind) memcpy(behind + start, from + start, (size_t)(stop - start) * sizeof(double));
}

/* Changes the exponents of groups whose states will all be raised to those of the raised states. Returns 1 if there are
 * any. */
static int fsl_ctc_stripe_raised(double *restrict own, const double *restrict behind, ptrdiff_t start, ptrdiff_t stop,
                                 double least)
{
    double count = 0.0;
    FSL_SIMD(reduction(+ : count))
    for (ptrdiff_t i = start; i < stop; i++) {
        const double raised = FSL_ALIVE(own[i]) ? behind[i] - FSL_CTC_STRIPE_FLOOR - least : FSL_DEAD;
        count += raised > own[i] ? 1.0 : 0.0;
        own[i] = fsl_max64(own[i], raised);
    }
    return count > 0;
}

/* Raises exponents to `step` below that of the right neighbour. */
static void fsl_ctc_stripe_approach(double *e, ptrdiff_t start, ptrdiff_t stop, double step)
{
    for (ptrdiff_t i = stop - 2; i >= start; i--) e[i] = fsl_max64(e[i], e[i + 1] - step);
}

/* Exponents of the groups of blocks [lo, hi) for the next `window` frames: the larger of the own one and of
 * FSL_CTC_STRIPE_FLOOR below the largest within the window behind, since whatever flows in must fit, states that are
 * raised included. It is at most `step` above that of the left neighbour. Returns 1 if the exponents depend on more
 * than a window of groups. */
FSL_UNUSED static int fsl_ctc_stripe_exponents(const fsl_ctc_stripes *s, const double *row, const double *restrict old,
                                               double *restrict new, ptrdiff_t lo, ptrdiff_t hi, ptrdiff_t window,
                                               double least, double step)
{
    const ptrdiff_t start = lo * s->block, stop = hi * s->block;
    double *restrict own = s->own, *restrict behind = s->behind;
    double apart = 0.0;
    int further = 0;
    for (ptrdiff_t k = lo; k < hi; k++) {
        const double *l = row + k * (2 * s->n + 1) * FSL_X + FSL_X, *b = l + s->block;
        const ptrdiff_t at = k * s->block;
        FSL_SIMD()
        for (ptrdiff_t i = 0; i < s->block; i++) {
            const double most = fsl_max64(b[i], l[i]);
            new[at + i] = fsl_own_exponent(most, old[at + i]);
        }
    }
    fsl_ctc_from_stripes(s, new, own, lo, hi);
    fsl_ctc_stripe_behind(own, behind, s->scratch, start, stop, window);
    while (fsl_ctc_stripe_raised(own, behind, start, stop, least)) {
        fsl_ctc_stripe_behind(own, behind, s->scratch, start, stop, window);
        further = 1;
    }
    FSL_SIMD()
    for (ptrdiff_t i = start; i < stop; i++) own[i] = fsl_max64(own[i], behind[i] - FSL_CTC_STRIPE_FLOOR);
    own[start - 1] = own[start];
    FSL_SIMD(reduction(FSL_MAX : apart))
    for (ptrdiff_t i = start; i < stop; i++) {
        const double above = own[i] - own[i - 1];
        apart = above > apart ? above : apart;
    }
    if (apart > step) fsl_ctc_stripe_approach(own, start, stop, step);
    fsl_ctc_to_stripes(s, own, new, lo, hi);
    return further | (apart > step);
}

/* from - to, and 0 if one of the two is dead. */
FSL_INLINE double fsl_ctc_stripe_power(double from, double to)
{
    return (FSL_ALIVE(from) & FSL_ALIVE(to)) ? from - to : 0.0;
}

/* Sets the factors 2^power of n groups from k on; `from` holds the exponents of the neighbours. Factors below
 * 2^-FSL_CTC_STRIPE_APART become that, and not 0, so that beta cannot become too small for its bound. Returns the
 * greatest power. */
FSL_INLINE double fsl_ctc_stripe_set_factors(const fsl_ctc_stripes *s, const double *old, const double *new,
                                             const double *from, ptrdiff_t k, ptrdiff_t n)
{
    double *restrict change = s->change + k, *restrict factor = s->factor + k;
    double *restrict skip_factor = s->skip_factor + k;
    const double *restrict skip = s->skip + k;
    double most = 0.0;
    FSL_SIMD(reduction(FSL_MAX : most))
    for (ptrdiff_t i = 0; i < n; i++) {
        const double changed = fsl_ctc_stripe_power(old[k + i], new[k + i]);
        const double between = fsl_ctc_stripe_power(from[i], new[k + i]);
        const double more = fsl_max64(changed, between);
        change[i] = fsl_pow2(fsl_max64(changed, -FSL_CTC_STRIPE_APART));
        factor[i] = fsl_pow2(fsl_max64(between, -FSL_CTC_STRIPE_APART));
        skip_factor[i] = factor[i] * skip[i];
        most = more > most ? more : most;
    }
    return most;
}

/* Sets the factors between neighbours and those of the change from the old exponents to the new, in the blocks
 * [lo, hi). Returns nonzero if a factor is too large. */
FSL_UNUSED static int fsl_ctc_stripe_factors(const fsl_ctc_stripes *s, const double *old, const double *new,
                                             ptrdiff_t lo, ptrdiff_t hi)
{
    double before = FSL_DEAD, most = 0.0, from[FSL_X];
    for (ptrdiff_t k = lo * s->block; k < hi * s->block; k += s->block) {
        const fsl_x last = fsl_load_x(new + k + s->block - FSL_X);
        fsl_store_x(from, fsl_shift_up_x(last, before));
        before = fsl_last_x(last);
        most = fsl_max64(most, fsl_ctc_stripe_set_factors(s, old, new, from, k, FSL_X));
        most = fsl_max64(most, fsl_ctc_stripe_set_factors(s, old, new, new + k, k + FSL_X, s->block - FSL_X));
    }
    s->factor[lo * s->block] = s->skip_factor[lo * s->block] = 0.0; /* of the first group */
    return most > FSL_CTC_STRIPE_APART;
}

/* Changes the mantissas of a row of alphas to the new exponents, and raises those below `least`. States that are
 * not reachable are 0 and remain so; all others stay normal numbers until the next refresh. Returns the number of
 * raised states, of the labels from `label` on and the blanks from `blank` on, the states that can reach the end. */
FSL_UNUSED static ptrdiff_t fsl_ctc_stripe_refresh(const fsl_ctc_stripes *s, double *row, ptrdiff_t lo, ptrdiff_t hi,
                                                   ptrdiff_t label, ptrdiff_t blank, double least)
{
    ptrdiff_t raised = 0;
    double before = 0.0;
    for (ptrdiff_t k = lo; k < hi; k++) {
        const ptrdiff_t start = k * s->block, stop = start + s->block;
        double *first = row + k * (2 * s->n + 1) * FSL_X, *l = first + FSL_X, *b = l + s->block;
        const double *change = s->change + start;
        double count = 0.0;
        FSL_SIMD(reduction(+ : count))
        for (ptrdiff_t i = 0; i < s->block; i++) {
            const double least_b = b[i] > 0 ? least : 0.0, least_l = l[i] > 0 ? least : 0.0;
            b[i] = fsl_max64(b[i] * change[i], least_b);
            l[i] = fsl_max64(l[i] * change[i], least_l);
            count += (b[i] == least ? 1.0 : 0.0) + (l[i] == least ? 1.0 : 0.0);
        }
        raised += (ptrdiff_t)count;
        for (ptrdiff_t i = start; i < label && i < stop; i++) raised -= l[s->place[i] - start] == least;
        for (ptrdiff_t i = start; i < blank && i < stop; i++) raised -= b[s->place[i] - start] == least;
        const fsl_x last = fsl_load_x(l + s->block - FSL_X);
        fsl_store_x(first, fsl_shift_up_x(last, before));
        before = fsl_last_x(last);
    }
    return raised;
}

/* Changes beta from the new exponents to the old. */
FSL_UNUSED static void fsl_ctc_stripe_change(const fsl_ctc_stripes *s, ptrdiff_t lo, ptrdiff_t hi)
{
    FSL_SIMD()
    for (ptrdiff_t i = lo * s->block; i < hi * s->block; i++) {
        s->q_label[i] *= s->change[i];
        s->q_blank[i] *= s->change[i];
    }
}

#endif
