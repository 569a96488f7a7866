"""Nodes of a transducer's lattice: rows of scores in, weights of the arcs out.

The dense pass takes the rows of frame t, one for each column u, in blocks that stay in cache: maximum, exponentials,
their sum. Scores of blank and label are gathered before exponentials overwrite them.
"""

from cython cimport floating
from libc.math cimport INFINITY, fabs, isnan, signbit
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.codes cimport LOGITS, LOG_PROBS, PROBS, Input
from fastseqloss._kernels.lattice.grid cimport Grid, Use, grid_rows, lay_out_grid
from fastseqloss._kernels.parallel.workspace cimport size_product, take
from fastseqloss._kernels.simd.elements cimport FLOAT32, FLOAT64, Array, load
from fastseqloss._kernels.simd.softmax cimport log64
from fastseqloss._kernels.simd.rows cimport (
    LANES, MOST_ROWS, SHORT, load_max, tile_exp, tile_in, tile_max, tile_out,
)
from fastseqloss._kernels.transducer.dense cimport dense_exp, dense_short


cdef extern from "transducer/arcs.h" nogil:
    enum:
        HAS_LARGE "FSL_RNNT_LARGE"
        HAS_NAN "FSL_RNNT_NAN"
    const double HUGE "FSL_RNNT_MOST"  # least size of a logarithm for the exact path
    int arcs_f32 "fsl_rnnt_arcs_f32"(int n, const double *blank, const double *label, const double *m,
                                     const double *sums, double *blank_w, double *blank_e, double *label_w,
                                     double *label_e) noexcept
    int arcs_f64 "fsl_rnnt_arcs_f64"(int n, const double *blank, const double *label, const double *m,
                                     const double *sums, double *blank_w, double *blank_e, double *label_w,
                                     double *label_e) noexcept
    void softmax_weights "fsl_rnnt_softmax_weights"(int n, const double *z, const double *m, const double *sums,
                                                    double *w, double *e) noexcept
    void sigmoid_weights "fsl_rnnt_sigmoid_weights"(int n, const double *z, double *w, double *e, double *label,
                                                    double *label_e) noexcept
    void log_weights "fsl_rnnt_log_weights"(int n, const double *z, double *w, double *e) noexcept
    void plain_weights "fsl_rnnt_plain_weights"(int n, const double *p, double *w, double *e) noexcept

cdef enum:
    BLOCK = 2048    # elements of a block of rows, unless a single row has more
    LONG_ROWS = 16  # rows of a block of long rows, which are processed one by one


# Arguments of a call that all its sequences share.
cdef struct Problem:
    Array x, g                             # scores and gradient [B, T, U+1, V]; g.data may be NULL
    Input input
    bint hat, modified
    bint native                            # float32 or float64: scores are read and written in place
    bint keep                              # exponentials of logits are kept in g
    bint streams                           # the gradient is larger than the caches
    Py_ssize_t size                        # bytes of a score
    size_t real                            # bytes of a number of the arithmetic: float32 for half precision
    Py_ssize_t n_frames, width, n_classes  # frames, columns of a frame and classes, padding included
    Py_ssize_t blank, block                # rows in a block
    Py_ssize_t ahead                       # bytes from a row of the gradient to the one that is prefetched
    const int64_t *labels
    const int64_t *starts
    const int64_t *logit_lengths
    const int64_t *label_lengths
    const int64_t *ranges                  # [B, T] first column of each frame, or NULL


cdef struct Sequence:
    Grid grid
    Py_ssize_t b, frames, n_labels
    const int64_t *labels
    const int64_t *first                   # [T] first column of each frame, or NULL
    # [arcs] sum of the exponentials of a row, less 1 for the maximum; negated if the arcs of the node hold scores for
    # the exact path
    void *rest
    bint has_path, is_nan, is_huge         # is_huge: some do


# Rows of a block.
cdef struct Rows:
    int n
    const char *x[MOST_ROWS]
    char *g[MOST_ROWS]
    Py_ssize_t at[MOST_ROWS]               # position of the node among the arcs
    int64_t label[MOST_ROWS]               # -1 in the last column
    const char *next                       # row after the block, which the same worker processes next, or NULL
    bint is_plain                          # no arc has a logarithm that may be large
    bint knows_max                         # of the first row, which `next_max` is then
    double next_max
    double m[MOST_ROWS]
    double sum[MOST_ROWS]
    double blank_score[MOST_ROWS]
    double label_score[MOST_ROWS]
    double blank_weight[MOST_ROWS]         # as weight * 2^e
    double blank_e[MOST_ROWS]
    double label_weight[MOST_ROWS]
    double label_e[MOST_ROWS]


# ---- layout ---------------------------------------------------------------------------------

cdef inline uintptr_t lay_out(const Problem *p, Sequence *s, Py_ssize_t b, Use use, uintptr_t base) noexcept nogil:
    """Set sequence b and lay out its arrays from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    s.b, s.frames, s.n_labels = b, p.logit_lengths[b], p.label_lengths[b]
    s.labels = p.labels + p.starts[b]
    s.first = p.ranges + b * p.n_frames if p.ranges != NULL else NULL
    s.is_nan = s.is_huge = False
    s.has_path = s.frames > 0 and (not p.modified or s.n_labels <= s.frames)
    if s.has_path:
        lay_out_grid(&s.grid, s.frames, s.n_labels, p.modified, p.width, use, &cursor)
        s.rest = take(&cursor, size_product(s.frames, min(p.width, s.n_labels + 1)), p.real)
    return cursor


cdef inline void set_rows(const Problem *p, Sequence *s) noexcept nogil:
    """Set the rows of the lattice of a sequence, unless it has no path."""
    if s.has_path:
        s.has_path = grid_rows(&s.grid, s.frames, s.n_labels, p.modified, s.first, p.width) >= 0


cdef inline bint is_copied(const Problem *p) noexcept nogil:
    """Return True if rows are copied to a buffer before exponentials are taken."""
    return not p.native or p.hat and p.input == LOGITS


cdef inline Py_ssize_t rows_of_block(const Problem *p) noexcept nogil:
    if p.n_classes < LANES:
        return LANES
    if p.n_classes > SHORT and not is_copied(p):
        return LONG_ROWS
    return min(MOST_ROWS, max(1, BLOCK // p.n_classes))


cdef inline uintptr_t lay_out_rows(const Problem *p, uintptr_t *cursor) noexcept nogil:
    """Lay out the buffer of a block of rows, or of one if rows follow each other, and a tile, at the cursor."""
    cdef Py_ssize_t rows = 1 if p.n_classes > SHORT and not is_copied(p) else p.block
    return <uintptr_t> take(cursor, rows + (LANES if p.n_classes < LANES else 0), size_product(p.n_classes, p.real))


# ---- columns of a frame ---------------------------------------------------------------------

cdef inline Py_ssize_t first_scored_column(const Sequence *s, Py_ssize_t t) noexcept nogil:
    """Column of the first row of scores of a frame."""
    return s.first[t] if s.first != NULL else 0


cdef inline Py_ssize_t first_lattice_column(const Problem *p, const Sequence *s, Py_ssize_t t) noexcept nogil:
    """First column of a frame in the lattice."""
    return s.grid.first[t] if p.modified else first_scored_column(s, t)


cdef inline Py_ssize_t last_lattice_column(const Problem *p, const Sequence *s, Py_ssize_t t) noexcept nogil:
    """Last column of a frame in the lattice."""
    return s.grid.last[t] if p.modified else min(s.n_labels, first_scored_column(s, t) + p.width - 1)


cdef inline char *row_of(const Array *array, const Sequence *s, Py_ssize_t t, Py_ssize_t u) noexcept nogil:
    """Address of the row of a node, or NULL."""
    if array.data == NULL:
        return NULL
    u -= first_scored_column(s, t)
    return array.data + s.b * array.strides[0] + t * array.strides[1] + u * array.strides[2]


cdef inline Py_ssize_t position(const Problem *p, const Sequence *s, Py_ssize_t t, Py_ssize_t u) noexcept nogil:
    """Position of a node among the arcs."""
    return s.grid.at[t if p.modified else t + u] + u


# ---- the dense pass -------------------------------------------------------------------------

cdef inline void pick_scores(const Problem *p, Rows *rows, const floating *x, int k) noexcept nogil:
    """Gather the scores of the blank and of the label of a row."""
    rows.blank_score[k] = x[p.blank]
    rows.label_score[k] = x[rows.label[k]] if rows.label[k] >= 0 else -INFINITY


cdef inline void read_rows(const Problem *p, Rows *rows, const floating **x, floating *buffer) noexcept nogil:
    """Set x to the rows of logits, without the blank in a HAT, whose score is gathered."""
    cdef int k
    cdef Py_ssize_t v = p.n_classes
    cdef floating *own
    for k in range(rows.n):
        x[k] = <const floating *> rows.x[k]
        if is_copied(p):
            own = buffer + k * v
            load(p.x.kind, rows.x[k], p.size, v, own)
            x[k] = own
    if v <= SHORT or p.hat or p.input != LOGITS:
        for k in range(rows.n):
            pick_scores(p, rows, x[k], k)
    if p.hat:
        for k in range(rows.n):
            (buffer + k * v)[p.blank] = -INFINITY


cdef inline void long_exponentials(const Problem *p, Rows *rows, const floating **x, floating **e) noexcept nogil:
    """Maxima, sums and exponentials of rows of more than SHORT classes; gathers their scores, too.

    The maximum of a row is found in the pass over the row before it.
    """
    cdef int k
    cdef bint known = rows.knows_max, in_place = not is_copied(p)
    cdef floating m, most = <floating> rows.next_max
    cdef const floating *next_row
    cdef Py_ssize_t ahead = p.x.strides[2] // <Py_ssize_t> sizeof(floating) if in_place else 0
    for k in range(rows.n):
        m = most if known else load_max(FLOAT32 if floating is float else FLOAT64, <const char *> x[k], p.n_classes,
                                        <floating *> x[k])
        next_row = x[k + 1] if k + 1 < rows.n else <const floating *> rows.next if in_place else NULL
        known = next_row != NULL
        if not p.hat:
            pick_scores(p, rows, x[k], k)
        rows.m[k] = m
        next_row = next_row if known else x[k]
        rows.sum[k] = dense_exp(x[k], p.n_classes, m, e[k], next_row, &most, next_row + ahead)
    rows.knows_max, rows.next_max = known, most


cdef inline void short_exponentials(const Problem *p, Rows *rows, const floating **x, floating **e,
                                    floating *tile) noexcept nogil:
    """Maxima, sums and exponentials of rows of at most SHORT classes."""
    cdef int k
    cdef Py_ssize_t v = p.n_classes
    cdef floating m[MOST_ROWS]
    if v < LANES:
        tile_in(x, rows.n, v, tile)
        tile_max(tile, v, m)
        tile_exp(tile, v, m, rows.sum)
        if p.keep:
            tile_out(tile, rows.n, v, e)
    else:
        dense_short(x, rows.n, v, m, e, (x[1] - x[0]) * rows.n if rows.n > 1 else 0, rows.sum)
    for k in range(rows.n):
        rows.m[k] = m[k]


cdef inline void dense_pass(const Problem *p, Rows *rows, floating *buffer) noexcept nogil:
    """Scores of the arcs of a block of rows, maxima and sums; exponentials are stored in g if they are kept."""
    cdef const floating *x[MOST_ROWS]
    cdef floating *e[MOST_ROWS]
    cdef int k
    cdef Py_ssize_t v = p.n_classes
    read_rows(p, rows, x, buffer)
    if p.input != LOGITS:
        memset(rows.m, 0, rows.n * sizeof(double))
        return
    for k in range(rows.n):
        e[k] = <floating *> rows.g[k] if p.keep else buffer + (k * v if v <= SHORT or is_copied(p) else 0)
    if v > SHORT:
        long_exponentials(p, rows, x, e)
    else:
        short_exponentials(p, rows, x, e, buffer + p.block * v)
    if p.keep and p.hat:
        for k in range(rows.n):
            e[k][p.blank] = <floating> rows.blank_score[k]


cdef inline bint weigh(const Problem *p, Rows *rows) noexcept nogil:
    """Weights of the arcs of a block of rows; returns True if scores are not valid."""
    cdef int k, state
    cdef bint bad = False
    rows.is_plain = False
    if p.input == LOGITS and not p.hat:
        state = (arcs_f64 if p.real == sizeof(double) else arcs_f32)(
            rows.n, rows.blank_score, rows.label_score, rows.m, rows.sum, rows.blank_weight, rows.blank_e,
            rows.label_weight, rows.label_e)
        rows.is_plain = not state
        return state & HAS_NAN
    if p.input == LOGITS:
        softmax_weights(rows.n, rows.label_score, rows.m, rows.sum, rows.label_weight, rows.label_e)
        sigmoid_weights(rows.n, rows.blank_score, rows.blank_weight, rows.blank_e, rows.label_weight, rows.label_e)
        for k in range(rows.n):
            bad |= isnan(rows.sum[k]) or not rows.blank_score[k] < INFINITY
        return bad
    if p.input == LOG_PROBS:
        log_weights(rows.n, rows.blank_score, rows.blank_weight, rows.blank_e)
        log_weights(rows.n, rows.label_score, rows.label_weight, rows.label_e)
    else:
        plain_weights(rows.n, rows.blank_score, rows.blank_weight, rows.blank_e)
        plain_weights(rows.n, rows.label_score, rows.label_weight, rows.label_e)
    for k in range(rows.n):
        bad |= not rows.blank_score[k] < INFINITY or not rows.label_score[k] < INFINITY
        if p.input != LOG_PROBS:
            bad |= rows.blank_score[k] < 0 or rows.label[k] >= 0 and rows.label_score[k] < 0
    return bad


cdef inline bint is_huge(const Problem *p, const Rows *rows, int k) noexcept nogil:
    """Return True if the logarithm of a weight is too large for the reduction of exponentials to be exact."""
    cdef double b = rows.blank_score[k], l = rows.label_score[k], m = rows.m[k]
    if fabs(rows.blank_e[k]) <= HUGE and fabs(rows.label_e[k]) <= HUGE or p.input == PROBS:
        return False
    if p.input == LOGITS and not p.hat:
        return b > -INFINITY and b - m < -HUGE or l > -INFINITY and l - m < -HUGE
    return b > -INFINITY and fabs(b) > HUGE or l > -INFINITY and fabs(l - m) > HUGE


cdef inline bint is_exact(const Problem *p, const Sequence *s, Py_ssize_t at) noexcept nogil:
    """Return True if the arcs of a node hold scores for the exact path.

    `blank` is the score of the blank, `label` that of the label, `blank_e` the maximum m of the row, and `label_e` the
    logarithm of the sum of exp(x - m); 0 both if the scores are log-probabilities.
    """
    if p.real == sizeof(double):
        return signbit((<double *> s.rest)[at])
    return signbit((<float *> s.rest)[at])


cdef inline void put_weights(Sequence *s, const Rows *rows, int k) noexcept nogil:
    cdef Py_ssize_t at = rows.at[k]
    s.grid.blank[at], s.grid.blank_e[at] = rows.blank_weight[k], rows.blank_e[k]
    s.grid.label[at], s.grid.label_e[at] = rows.label_weight[k], rows.label_e[k]


cdef inline void open_rows(const Problem *p, Sequence *s, Rows *rows, floating *buffer) noexcept nogil:
    """Dense pass over a block of rows, whose weights are put into the lattice."""
    cdef int k
    cdef bint exact
    cdef Py_ssize_t at
    cdef double sums
    dense_pass(p, rows, buffer)
    if weigh(p, rows):
        s.is_nan = True
        return
    if rows.is_plain:
        for k in range(rows.n):
            put_weights(s, rows, k)
            (<floating *> s.rest)[rows.at[k]] = <floating> (max(rows.sum[k], 1) - 1)
        return
    for k in range(rows.n):
        at, exact = rows.at[k], is_huge(p, rows, k)
        sums = max(rows.sum[k], 1) if p.input == LOGITS else 1
        (<floating *> s.rest)[at] = <floating> (1 - sums if exact else sums - 1)
        if exact:
            if sums == 1:
                (<floating *> s.rest)[at] = <floating> -0.0
            s.is_huge = True
            rows.blank_weight[k], rows.label_weight[k] = rows.blank_score[k], rows.label_score[k]
            rows.blank_e[k], rows.label_e[k] = rows.m[k], log64(sums)
        put_weights(s, rows, k)


cdef inline void open_frames(const Problem *p, Sequence *s, Py_ssize_t start, Py_ssize_t stop, Rows *rows,
                             floating *buffer) noexcept nogil:
    """Set the weights of the arcs of frames `start` to `stop` - 1 of a sequence with a path."""
    cdef Py_ssize_t t, u, k, x_step = p.x.strides[2], g_step = p.g.strides[2], by_row = 0 if p.modified else 1
    cdef const char *x
    cdef char *g
    cdef const Py_ssize_t *at
    rows.n, rows.knows_max = 0, False
    for t in range(start, min(stop, s.frames)):
        u = first_lattice_column(p, s, t)
        x = row_of(&p.x, s, t, u)
        g = row_of(&p.g, s, t, u)
        at = s.grid.at + (t if p.modified else t + u)
        for u in range(u, last_lattice_column(p, s, t) + 1):
            if rows.n == p.block:
                rows.next = x
                open_rows(p, s, rows, buffer)
                rows.n = 0
            k = rows.n
            rows.x[k], rows.g[k], rows.at[k] = x, g, at[0] + u
            rows.label[k] = s.labels[u] if u < s.n_labels else -1
            x, g, at = x + x_step, g + g_step, at + by_row
            rows.n = <int> k + 1
    rows.next = NULL
    if rows.n:
        open_rows(p, s, rows, buffer)
