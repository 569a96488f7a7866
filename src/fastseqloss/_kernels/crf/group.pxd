"""A few sequences on their way through a CRF together: the problem, their rows, their frames."""

from cython cimport floating
from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t, uintptr_t

from fastseqloss._kernels.parallel.workspace cimport size_product, take
from fastseqloss._kernels.simd.softmax cimport add_exactly


cdef extern from "crf/lattice.h" nogil:
    enum:
        TAGS "FSL_CRF_TAGS"
    const double CLAMP "FSL_CRF_CLAMP"
    void load_row_f32 "fsl_crf_load_row_f32"(const float *x, Py_ssize_t n, Py_ssize_t ahead, double *out) noexcept
    void load_row_f64 "fsl_crf_load_row_f64"(const double *x, Py_ssize_t n, Py_ssize_t ahead, double *out) noexcept
    void add_row "fsl_crf_add_row"(double *x, const double *y, Py_ssize_t n) noexcept
    bint score_extent "fsl_crf_score_extent"(const double *s, Py_ssize_t width, double *least, double *most) noexcept
    void exp_row "fsl_crf_exp_row"(const double *s, double shift, Py_ssize_t width, double *x) noexcept


cdef enum:
    MOST = 8        # sequences of a group, at most
    PAIRS = 64      # pairs of rows whose outer products are added up at once


cdef enum State:
    FAST            # all well on the fast path
    GENERAL         # to be redone on the general path
    EXACT           # to be redone without rounding
    IMPOSSIBLE      # no path, or one of probability 0
    NOT_A_NUMBER


cdef struct Problem:
    Py_ssize_t n_tags, width, step         # tags; padded; elements between rows
    Py_ssize_t x_batch, x_frame            # elements between sequences and frames of the emissions,
    Py_ssize_t g_batch, g_frame            # of the gradient,
    Py_ssize_t p_batch, p_frame            # of the pairwise marginals
    const int64_t *tags                    # [B, T], or NULL
    Py_ssize_t n_frames                    # T
    const int64_t *lengths                 # [B]
    const double *scale                    # [B]
    const double *start                    # [n_tags] each
    const double *end
    const double *cost                     # [n_tags, n_tags] to add to the emissions, or NULL
    const double *transitions              # [n_tags, n_tags]
    const double *scores                   # [n_tags, n_tags] transitions, less `shift`
    const double *scores_t                 # the same, transposed
    const double *factors                  # exp(scores)
    const double *forward                  # packed exp(scores), clamped; or packed scores
    const double *backward                 # packed transpose of it
    double shift
    bint clamped                           # a score was
    bint overflows                         # a score is -inf though the transition is not
    double greatest                        # of the transitions, and 0
    bint *no_memory                        # set where the exact path had none


cdef struct Group:
    const Problem *problem
    Py_ssize_t capacity                    # the most sequences
    Py_ssize_t rows                        # sequences, longest first
    int64_t b[MOST]
    Py_ssize_t frames[MOST]
    State state[MOST]
    bint clamped[MOST]                     # an emission was
    double above[MOST]                     # no path scores more than this, of best paths
    double exponent[MOST]                  # binary exponents taken out of the alphas
    double offset[MOST]                    # sum of what the scores were shifted by; with tags, how far the tagged
    double rest[MOST]                      # path lies below that; and the rounding error of that sum
    # workspace
    double *alpha                          # [T, capacity, step]
    double *shift                          # [T, capacity]
    double *x                              # [T, capacity, step] exp(scores)
    double *beta                           # [capacity, step]
    double *score                          # [step] scores of one frame, -inf in the padding
    double *spare                          # [6, step]
    double *packed                         # [width, width] sum of outer products
    double *weight                         # [n_slots + 1, capacity, step]
    const double **left                    # [n_slots * capacity] rows of alphas,
    const double **right                   # of weights, and
    Py_ssize_t *owner                      # whose they are
    Py_ssize_t n_slots, n_pairs


cdef inline void take_slots(Group *g, Py_ssize_t n_slots, uintptr_t *cursor) noexcept nogil:
    cdef Py_ssize_t n_pairs = n_slots * g.capacity
    g.n_slots = n_slots
    g.weight = <double *> take(cursor, (n_slots + 1) * g.capacity, g.problem.step * sizeof(double))
    g.left = <const double **> take(cursor, n_pairs, sizeof(void *))
    g.right = <const double **> take(cursor, n_pairs, sizeof(void *))
    g.owner = <Py_ssize_t *> take(cursor, n_pairs, sizeof(Py_ssize_t))


cdef inline uintptr_t lay_out(Group *g, Py_ssize_t capacity, Py_ssize_t longest, bint linear, bint with_sums,
                              uintptr_t base) noexcept nogil:
    """Arrays of a group, from `base` on; returns where they end."""
    cdef uintptr_t cursor = base
    cdef size_t row = size_product(g.problem.step, sizeof(double)), n_rows = size_product(longest, capacity)
    g.capacity = capacity
    g.alpha = <double *> take(&cursor, n_rows, row)
    g.shift = <double *> take(&cursor, n_rows, sizeof(double))
    g.x = <double *> take(&cursor, n_rows if linear else 0, row)
    g.beta = <double *> take(&cursor, capacity, row)
    g.score = <double *> take(&cursor, 1, row)
    g.spare = <double *> take(&cursor, 6, row)
    g.packed = <double *> take(&cursor, g.problem.width if linear and with_sums else 0, row)
    take_slots(g, PAIRS // capacity, &cursor)
    return cursor


cdef inline void fill(double *x, Py_ssize_t n, double value) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = value


cdef inline double *alpha_row(Group *g, Py_ssize_t t, Py_ssize_t r) noexcept nogil:
    return g.alpha + (t * g.capacity + r) * g.problem.step


cdef inline double *x_row(Group *g, Py_ssize_t t, Py_ssize_t r) noexcept nogil:
    return g.x + (t * g.capacity + r) * g.problem.step


cdef inline void set_group(Group *g, const int64_t *order, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t r
    g.rows = n
    fill(g.score, g.problem.step, -INFINITY)
    for r in range(n):
        g.b[r], g.frames[r] = order[r], g.problem.lengths[order[r]]
        g.state[r], g.clamped[r] = FAST, False
        g.exponent[r] = g.offset[r] = g.rest[r] = g.above[r] = 0


cdef inline void load_scores(Group *g, Py_ssize_t r, Py_ssize_t t, const floating *x) noexcept nogil:
    """score = emissions, and what else the tag of this frame alone is scored by."""
    cdef const Problem *p = g.problem
    cdef const floating *emission = x + g.b[r] * p.x_batch + t * p.x_frame
    if floating is float:
        load_row_f32(emission, p.n_tags, p.x_frame, g.score)
    else:
        load_row_f64(emission, p.n_tags, p.x_frame, g.score)
    if t == 0:
        add_row(g.score, p.start, p.n_tags)
    if t == g.frames[r] - 1:
        add_row(g.score, p.end, p.n_tags)
    if p.cost != NULL:
        add_row(g.score, p.cost + tag_of(g, r, t) * p.n_tags, p.n_tags)


cdef inline int64_t tag_of(Group *g, Py_ssize_t r, Py_ssize_t t) noexcept nogil:
    return g.problem.tags[g.b[r] * g.problem.n_frames + t]


cdef inline void refuse_scores(Group *g, Py_ssize_t r, Py_ssize_t t, const floating *x) noexcept nogil:
    """Give up scores with NaN or +inf among them: given so, or because their sums are beyond float64."""
    cdef const Problem *p = g.problem
    cdef const floating *emission = x + g.b[r] * p.x_batch + t * p.x_frame
    cdef Py_ssize_t j
    if g.state[r] != NOT_A_NUMBER:
        g.state[r] = EXACT
    for j in range(p.n_tags):
        if not emission[j] < INFINITY:
            g.state[r] = NOT_A_NUMBER


cdef inline bint is_rounded(Group *g, Py_ssize_t r, Py_ssize_t t, const floating *x, double most) noexcept nogil:
    """Return True if adding starts and ends to emissions rounded a score that counts too much, or to no number."""
    cdef const Problem *p = g.problem
    cdef const floating *emission = x + g.b[r] * p.x_batch + t * p.x_frame
    cdef double score, rest
    cdef Py_ssize_t j
    for j in range(p.n_tags):
        score, rest = emission[j], 0
        if t == 0:
            add_exactly(&score, &rest, p.start[j])
        if t == g.frames[r] - 1:
            add_exactly(&score, &rest, p.end[j])
        if score == -INFINITY and emission[j] > score and not (t == 0 and p.start[j] == score) and not (
                t == g.frames[r] - 1 and p.end[j] == score):
            return True
        if fabs(rest) > 2.0 ** -31 and score >= most - CLAMP:
            return True
    return False


cdef inline void open_frame(Group *g, Py_ssize_t r, Py_ssize_t t, const floating *x) noexcept nogil:
    """The row of x = exp(scores of the frame, less the greatest); where the tagged path goes is noted."""
    cdef const Problem *p = g.problem
    cdef double least, most, below, pair = 0
    load_scores(g, r, t, x)
    if not score_extent(g.score, p.width, &least, &most):
        refuse_scores(g, r, t, x)
        fill(x_row(g, t, r), p.width, 0)
        return
    if g.state[r] != NOT_A_NUMBER and (t > 0 and p.overflows or (
            (t == 0 or t == g.frames[r] - 1) and is_rounded(g, r, t, x, most))):
        g.state[r] = EXACT
    if most == -INFINITY:
        most = 0
    g.shift[t * g.capacity + r] = most
    if least < most - CLAMP:
        g.clamped[r] = True
    exp_row(g.score, most, p.width, x_row(g, t, r))
    if p.tags == NULL:
        add_exactly(&g.offset[r], &g.rest[r], most)
        if t > 0:
            add_exactly(&g.offset[r], &g.rest[r], p.shift)
        return
    below = most - g.score[tag_of(g, r, t)]
    if t > 0:
        pair = -p.scores[tag_of(g, r, t - 1) * p.n_tags + tag_of(g, r, t)]
    # Infinite, though no score is: by a difference, or by the sum.
    if g.state[r] != NOT_A_NUMBER and g.score[tag_of(g, r, t)] > -INFINITY and (
            below == INFINITY or g.offset[r] < INFINITY and pair < INFINITY and g.offset[r] + below + pair == INFINITY):
        g.state[r] = EXACT
    add_exactly(&g.offset[r], &g.rest[r], below)
    add_exactly(&g.offset[r], &g.rest[r], pair)
