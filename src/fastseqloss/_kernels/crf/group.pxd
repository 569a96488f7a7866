"""Groups of sequences that a CRF kernel processes together: the problem, rows and frames."""

from cython cimport floating
from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t, uintptr_t

from fastseqloss._kernels.parallel.workspace cimport size_product, take
from fastseqloss._kernels.simd.softmax cimport add_exactly


cdef extern from "crf/lattice.h" nogil:
    enum:
        TAGS "FSL_CRF_TAGS"
    const double CLAMP "FSL_CRF_CLAMP"
    const double SMALL "FSL_CRF_SMALL"
    void load_row_f32 "fsl_crf_load_row_f32"(const float *x, Py_ssize_t n, Py_ssize_t ahead, double *out) noexcept
    void load_row_f64 "fsl_crf_load_row_f64"(const double *x, Py_ssize_t n, Py_ssize_t ahead, double *out) noexcept
    void add_row "fsl_crf_add_row"(double *x, const double *y, Py_ssize_t n) noexcept
    bint score_extent "fsl_crf_score_extent"(const double *s, Py_ssize_t width, double *least, double *most) noexcept
    bint factor_row "fsl_crf_factor_row"(const double *s, Py_ssize_t n, double *factors, double *clamped) noexcept
    void exp_row "fsl_crf_exp_row"(const double *s, double shift, Py_ssize_t width, double *x) noexcept


cdef enum:
    MOST = 8        # largest number of sequences of a group
    PAIRS = 64      # pairs of rows whose outer products are added in one call


cdef enum State:
    FAST            # completed on the fast path
    GENERAL         # requires the general path
    EXACT           # requires the exact path
    IMPOSSIBLE      # no path exists, or the tagged path has probability 0
    NOT_A_NUMBER


cdef struct Problem:
    Py_ssize_t n_tags, width, step         # number of tags; the same, padded; elements between rows
    Py_ssize_t x_batch, x_frame            # elements between sequences, between frames: of the emissions,
    Py_ssize_t g_batch, g_frame            # of the gradient,
    Py_ssize_t p_batch, p_frame            # of the pairwise marginals
    const int64_t *tags                    # [B, T], or NULL
    Py_ssize_t n_frames                    # T
    const int64_t *lengths                 # [B]
    const double *scale                    # [B]
    const double *start                    # [n_tags] each
    const double *end
    const double *cost                     # [n_tags, n_tags] to be added to the emissions, or NULL
    const double *transitions              # [n_tags, n_tags]
    const double *scores                   # [n_tags, n_tags] transitions less `shift`
    const double *scores_t                 # the same, transposed
    const double *factors                  # exp(scores)
    const double *forward                  # packed clamped exp(scores), or packed scores
    const double *backward                 # packed transpose of `forward`
    double shift
    bint clamped                           # a score was clamped
    bint overflows                         # a score is -inf although its transition is finite
    double greatest                        # maximum of the transitions and 0
    bint small_ends                        # finite starts and ends are within SMALL
    bint *no_memory                        # set if memory is exhausted on the exact path


cdef struct Group:
    const Problem *problem
    Py_ssize_t capacity                    # largest number of sequences
    Py_ssize_t rows                        # sequences, longest first
    int64_t b[MOST]
    Py_ssize_t frames[MOST]
    State state[MOST]
    bint clamped[MOST]                     # an emission was clamped
    double above[MOST]                     # upper bound of the scores of all paths, for best paths
    double exponent[MOST]                  # sum of the binary exponents removed from the alphas
    double offset[MOST]                    # sum of the shifts of the scores; with tags, distance of the tagged
    double rest[MOST]                      # path below that sum; and the rounding error of `offset`
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
    Py_ssize_t *owner                      # and the sequences they belong to
    Py_ssize_t n_slots, n_pairs


cdef inline void take_slots(Group *g, Py_ssize_t n_slots, uintptr_t *cursor) noexcept nogil:
    cdef Py_ssize_t n_pairs = n_slots * g.capacity
    g.n_slots = n_slots
    g.weight = <double *> take(cursor, (n_slots + 1) * g.capacity, g.problem.step * sizeof(double))
    g.left = <const double **> take(cursor, n_pairs, sizeof(void *))
    g.right = <const double **> take(cursor, n_pairs, sizeof(void *))
    g.owner = <Py_ssize_t *> take(cursor, n_pairs, sizeof(Py_ssize_t))


cdef inline uintptr_t lay_out_group(Group *g, Py_ssize_t capacity, Py_ssize_t longest, bint linear, bint with_sums,
                                    uintptr_t base) noexcept nogil:
    """Lay out the arrays of a group from `base` on; returns the end address."""
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
    """score = emissions, plus all other terms that depend on the tag of this frame only."""
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
    """Reject scores with NaN or +inf, from the input or from sums out of the range of float64."""
    cdef const Problem *p = g.problem
    cdef const floating *emission = x + g.b[r] * p.x_batch + t * p.x_frame
    cdef Py_ssize_t j
    if g.state[r] != NOT_A_NUMBER:
        g.state[r] = EXACT
    for j in range(p.n_tags):
        if not emission[j] < INFINITY:
            g.state[r] = NOT_A_NUMBER


cdef inline bint is_rounded(Group *g, Py_ssize_t r, Py_ssize_t t, const floating *x, double most) noexcept nogil:
    """Return True if the sum of an emission and a start or end overflows, or rounds a score that counts too much."""
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


cdef inline void score_frame(Group *g, Py_ssize_t r, Py_ssize_t t, const floating *x) noexcept nogil:
    """Set the row of x = exp(scores of the frame less the greatest), and record the score of the tagged path."""
    cdef const Problem *p = g.problem
    cdef double least, most, below, pair = 0
    cdef bint small
    load_scores(g, r, t, x)
    if not score_extent(g.score, p.width, &least, &most):
        refuse_scores(g, r, t, x)
        fill(x_row(g, t, r), p.width, 0)
        return
    small = p.small_ends and -SMALL <= least and most <= SMALL
    if g.state[r] != NOT_A_NUMBER and (t > 0 and p.overflows or (
            not small and (t == 0 or t == g.frames[r] - 1) and is_rounded(g, r, t, x, most))):
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
    # Infinite by a difference or by the sum, with finite scores.
    if g.state[r] != NOT_A_NUMBER and g.score[tag_of(g, r, t)] > -INFINITY and (
            below == INFINITY or g.offset[r] < INFINITY and pair < INFINITY and g.offset[r] + below + pair == INFINITY):
        g.state[r] = EXACT
    add_exactly(&g.offset[r], &g.rest[r], below)
    add_exactly(&g.offset[r], &g.rest[r], pair)
