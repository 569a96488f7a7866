"""State of a CTC sequence in a kernel: arrays, labels and frames."""

from cython cimport floating
from libc.math cimport INFINITY, isnan, sqrt
from libc.stdint cimport int32_t, uintptr_t
from libc.string cimport memmove, memset

from fastseqloss._kernels.codes cimport LOGITS, LOG_PROBS, PROBS, Input
from fastseqloss._kernels.ctc.labels cimport PAD, STATES, LabelGraph, lay_out_labels
from fastseqloss._kernels.lattice.extended_range cimport DEAD, WINDOW
from fastseqloss._kernels.parallel.workspace cimport round_up, size_product, take
from fastseqloss._kernels.simd.softmax cimport add_exactly, exp64, log64, softmax_row


cdef extern from "ctc/lattice.h" nogil:
    Py_ssize_t KEEP "FSL_CTC_KEEP"
    double emissions "fsl_ctc_emissions"(const double *x, Py_ssize_t used, Py_ssize_t n, bint probs, double *y,
                                         double *shift) noexcept

cdef extern from "ctc/occupation.h" nogil:
    enum:
        SPAN_START "FSL_CTC_SPAN_START"
        SPAN_END "FSL_CTC_SPAN_END"
        LARGEST "FSL_CTC_LARGEST"
        MASS "FSL_CTC_MASS"
        SPAN_MASS "FSL_CTC_SPAN_MASS"
        OCCUPATION_ROWS "FSL_CTC_OCCUPATION_ROWS"
    void add_occupation "fsl_ctc_add_occupation"(double *sums, Py_ssize_t width, const double *post, double factor,
                                                 double t, Py_ssize_t n) noexcept


cdef enum Output:
    GRADIENT
    POSTERIORS      # of the states, instead of the gradient
    OCCUPATION      # sums of the posteriors of each label


cdef struct Sequence:
    # the problem
    Input input
    bint with_grad, in_place
    Output output                          # of the backward sweep
    LabelGraph graph
    Py_ssize_t n_classes, blank, frames
    Py_ssize_t x_stride, g_stride          # elements between frames
    Py_ssize_t g_width                     # elements of a frame of the gradient, or of posteriors
    double *occupation                     # [OCCUPATION_ROWS, occupation_width] sums of each label, on request
    Py_ssize_t occupation_width
    double scale
    # sizes
    uintptr_t after_frames                 # address of the arrays of a path
    Py_ssize_t emission_width              # classes used, padded
    Py_ssize_t block, n_blocks             # steps of a block, and blocks
    int32_t *blank_u                       # [width] as graph.u, of the blank states: 0
    # per frame
    Py_ssize_t opened                      # frames opened so far
    double *coefficient                    # [frames] softmax = coefficient * y for logits; p = coefficient * y
    double *cost                           # [frames] range of the emissions in binary orders of magnitude
    void *stash                            # [frames, used] gathered scores, if x is overwritten
    # workspace
    double *score                          # [emission_width] scores of one frame
    double *y                              # [block + 1, emission_width]
    double *em                             # [emission_width] emissions of one frame as em * 2^ee
    double *ee
    double *class_post                     # [emission_width] posteriors of the classes
    double *rows                           # [block + 1, 2, width] alphas
    double *spread                         # [block + 1, width] emissions of the label states
    double *exponents                      # [block + 1, 2, width] exponents of the alphas, a pair for each segment
    Py_ssize_t *segment                    # [block + 1, 3] last frame, lo and hi of each segment
    double *checkpoints                    # [n_blocks, 4, width]
    double *lb                             # [width] each
    double *bl
    double *ll
    double *qb
    double *ql
    double *post                           # posteriors of label states, and of blank states on request
    double *post_b
    double *scratch                        # [12, width]
    # results
    double log_norm, log_rest              # sum of the logs of the divisors of the emissions, its rounding error,
    double norm_product                    # and a factor whose log remains to be added
    bint is_nan
    bint *no_memory                        # set if memory is exhausted on the exact path


# ---- layout ---------------------------------------------------------------------------------

cdef inline uintptr_t lay_out_sequence(Sequence *s, Py_ssize_t itemsize, uintptr_t base) noexcept nogil:
    """Set the sizes of a sequence and lay out its arrays from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef Py_ssize_t most = min(s.graph.n_labels + 1, s.n_classes)
    cdef Py_ssize_t steps = max(s.frames - 1, 1)
    lay_out_labels(&s.graph, most, &cursor)
    s.emission_width = round_up(most + 1, STATES)
    s.coefficient = <double *> take(&cursor, s.frames, sizeof(double))
    s.cost = <double *> take(&cursor, s.frames, sizeof(double))
    s.stash = take(&cursor, s.frames if s.in_place else 0, most * itemsize)
    s.score = <double *> take(&cursor, s.emission_width, sizeof(double))
    s.after_frames = cursor
    s.block = steps
    if size_product(steps, s.graph.width * 24) > <size_t> KEEP:
        s.block = max(2 * WINDOW, <Py_ssize_t> sqrt(<double> steps) // WINDOW * WINDOW)
        while s.block * s.block < steps:
            s.block += WINDOW
    s.n_blocks = (steps + s.block - 1) // s.block
    cdef Py_ssize_t kept = s.block + 1 if s.with_grad else 2
    cdef Py_ssize_t row = s.graph.width * sizeof(double)
    s.blank_u = <int32_t *> take(&cursor, s.graph.width, sizeof(int32_t))
    s.y = <double *> take(&cursor, s.block + 1, s.emission_width * sizeof(double))
    s.em = <double *> take(&cursor, s.emission_width, sizeof(double))
    s.ee = <double *> take(&cursor, s.emission_width, sizeof(double))
    s.class_post = <double *> take(&cursor, s.emission_width, sizeof(double))
    s.rows = <double *> take(&cursor, 2 * kept, row)
    s.spread = <double *> take(&cursor, kept, row)
    s.exponents = <double *> take(&cursor, 2 * (s.block + 1), row)
    s.segment = <Py_ssize_t *> take(&cursor, 3 * (s.block + 1), sizeof(Py_ssize_t))
    s.checkpoints = <double *> take(&cursor, 4 * (s.n_blocks if s.with_grad else 0), row)
    s.lb = <double *> take(&cursor, 1, row)
    s.bl = <double *> take(&cursor, 1, row)
    s.ll = <double *> take(&cursor, 1, row)
    s.qb = <double *> take(&cursor, 1, row)
    s.ql = <double *> take(&cursor, 1, row)
    s.post = <double *> take(&cursor, 1, row)
    s.post_b = <double *> take(&cursor, 1, row)
    s.scratch = <double *> take(&cursor, 12, row)
    return cursor


cdef inline double *row(Sequence *s, double *rows, Py_ssize_t r, Py_ssize_t which) noexcept nogil:
    return rows + (2 * r + which) * s.graph.width + PAD


cdef inline void fill(double *x, Py_ssize_t n, double value) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = value


# ---- frames: scores in, gradient out --------------------------------------------------------

cdef inline void divide_by(Sequence *s, double norm) noexcept nogil:
    """log_norm += log(norm), by a product: one log for many frames."""
    s.norm_product *= norm
    if s.norm_product > 1e200:
        add_exactly(&s.log_norm, &s.log_rest, log64(s.norm_product))
        s.norm_product = 1


cdef inline void keep_scores(Sequence *s, const floating *x, Py_ssize_t t) noexcept nogil:
    """Keep the scores of the classes used at frame t, which the gradient will overwrite."""
    cdef floating *kept = (<floating *> s.stash) + t * s.graph.used
    cdef Py_ssize_t k
    for k in range(s.graph.used):
        kept[k] = x[t * s.x_stride + s.graph.classes[k]]


cdef inline double emit_frame(Sequence *s, const floating *x, Py_ssize_t t, double *y, double *shift) noexcept nogil:
    """Scores of the classes used at frame t and their emissions; returns the result of `emissions`."""
    cdef floating *kept = (<floating *> s.stash) + t * s.graph.used
    cdef const floating *frame = x + t * s.x_stride
    cdef Py_ssize_t k
    if s.in_place:
        for k in range(s.graph.used):
            s.score[k] = kept[k]
    else:
        for k in range(s.graph.used):
            s.score[k] = frame[s.graph.classes[k]]
    for k in range(s.graph.used, s.emission_width):
        s.score[k] = s.score[0]
    return emissions(s.score, s.graph.used, s.emission_width, s.input == PROBS, y, shift)


cdef inline void normalise(Sequence *s, Py_ssize_t t, double shift, double row_max, double row_sum) noexcept nogil:
    """Set the coefficient of a frame whose emissions are relative to `shift`, and add to the logs of the divisors."""
    s.coefficient[t] = 1
    if s.input == LOGITS:
        if shift > -INFINITY:
            add_exactly(&s.log_norm, &s.log_rest, row_max - shift)
            divide_by(s, row_sum)
            s.coefficient[t] = exp64(shift - row_max) / row_sum
    elif s.input == LOG_PROBS:
        add_exactly(&s.log_norm, &s.log_rest, -shift if shift > -INFINITY else 0)
    elif shift > 0:
        add_exactly(&s.log_norm, &s.log_rest, -log64(shift))
        s.coefficient[t] = shift


cdef inline void dense_pass(Sequence *s, const floating *x, floating *g, Py_ssize_t t, double *row_max,
                            double *row_sum) noexcept nogil:
    """Maximum and sum of a frame of logits; the part of the gradient that does not depend on the lattice."""
    cdef floating *out = g + t * s.g_stride if s.with_grad and s.output == GRADIENT else NULL
    row_max[0], row_sum[0] = 0, 1
    if s.input == LOGITS:
        softmax_row(x + t * s.x_stride, s.n_classes, out, s.scale, s.x_stride, row_max, row_sum)
    elif out != NULL:
        memset(out, 0, s.n_classes * sizeof(floating))


cdef inline void open_frame(Sequence *s, const floating *x, floating *g, Py_ssize_t t, double *y) noexcept nogil:
    """Dense pass and emissions of a frame; emissions alone if the frame has been opened by another path."""
    cdef double shift, row_max, row_sum
    if t < s.opened:
        emit_frame(s, x, t, y, &shift)
        return
    s.opened = t + 1
    if s.in_place:
        keep_scores(s, x, t)
    dense_pass(s, x, g, t, &row_max, &row_sum)
    s.cost[t] = emit_frame(s, x, t, y, &shift)
    s.is_nan |= isnan(s.cost[t]) or isnan(row_sum)
    normalise(s, t, shift, row_max, row_sum)


cdef inline void close_frame(Sequence *s, floating *g, Py_ssize_t t, const double *y) noexcept nogil:
    """Gradient of the classes used, from their posteriors (posterior / y for probabilities)."""
    cdef floating *out = g + t * s.g_stride
    cdef double coefficient = s.coefficient[t]
    cdef Py_ssize_t k
    if s.input == LOGITS:
        for k in range(s.graph.used):
            out[s.graph.classes[k]] = <floating> (s.scale * (coefficient * y[k] - s.class_post[k]))
    elif s.input == LOG_PROBS:
        for k in range(s.graph.used):
            out[s.graph.classes[k]] = <floating> (-s.scale * s.class_post[k])
    else:
        for k in range(s.graph.used):
            out[s.graph.classes[k]] = <floating> (-s.scale * s.class_post[k] / coefficient)


cdef inline void close_states(Sequence *s, floating *g, Py_ssize_t t, double unit, Py_ssize_t lo,
                              Py_ssize_t hi) noexcept nogil:
    """Posteriors of the states in [lo, hi), divided by `unit`, in the order blank, label, ..., blank; or their sums.

    The last frame is closed first.
    """
    cdef floating *out = g + t * s.g_stride
    cdef Py_ssize_t i, last = min(hi, s.graph.n_labels)
    if s.output == OCCUPATION:
        if t == s.frames - 1:
            fill_occupation(s.occupation, s.occupation_width, s.graph.n_labels, 0)
        add_occupation(s.occupation + lo, s.occupation_width, s.post + PAD + lo, 1 / unit, t, last - lo)
        return
    memset(out, 0, s.g_width * sizeof(floating))
    for i in range(lo, last):
        out[2 * i] = <floating> (s.post_b[PAD + i] / unit)
        out[2 * i + 1] = <floating> (s.post[PAD + i] / unit)
    if hi > s.graph.n_labels:
        out[2 * s.graph.n_labels] = <floating> (s.post_b[PAD + s.graph.n_labels] / unit)


cdef inline void fill_occupation(double *sums, Py_ssize_t width, Py_ssize_t n, double value) noexcept nogil:
    """Set the sums of n labels to a value."""
    cdef Py_ssize_t i
    for i in range(LARGEST, OCCUPATION_ROWS):
        fill(sums + i * width, n, value)


cdef inline void fill_frames(Sequence *s, floating *g, Py_ssize_t start, Py_ssize_t stop, double value) noexcept nogil:
    cdef Py_ssize_t t, i
    cdef floating *out
    if s.with_grad:
        for t in range(start, stop):
            out = g + t * s.g_stride
            for i in range(s.g_width):
                out[i] = <floating> value


cdef inline void fill_sequence(Sequence *s, floating *g, double value) noexcept nogil:
    """Set the gradient of all frames, or what is returned instead."""
    fill_frames(s, g, 0, s.frames, value)
    if s.output == OCCUPATION:
        fill_occupation(s.occupation, s.occupation_width, s.graph.n_labels, value)


# ---- rows of states -------------------------------------------------------------------------

cdef inline void first_alphas(Sequence *s, double b, double l) noexcept nogil:
    """Set row 0, in which only the first blank and the first label are nonzero."""
    fill(s.rows, 2 * s.graph.width, 0)
    fill(s.exponents, 2 * s.graph.width, DEAD)
    row(s, s.rows, 0, 0)[0] = b
    row(s, s.exponents, 0, 0)[0] = 0
    if s.graph.n_labels:
        row(s, s.rows, 0, 1)[0] = l
        row(s, s.exponents, 0, 1)[0] = 0


cdef inline void copy_state(Sequence *s, double *v_out, double *e_out, const double *v, const double *e) noexcept nogil:
    """Copy a row and its exponents (pointers to the starts of pairs, including padding)."""
    memmove(v_out, v, 2 * s.graph.width * sizeof(double))
    memmove(e_out, e, 2 * s.graph.width * sizeof(double))


cdef inline void collect(Sequence *s, double blank_post, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    """Set class_post to the sums of the posteriors of the states in [lo, hi) by class."""
    cdef Py_ssize_t i
    cdef const int32_t *u = s.graph.u + PAD
    cdef const double *post = s.post + PAD
    memset(s.class_post, 0, s.emission_width * sizeof(double))
    for i in range(lo, hi):
        s.class_post[u[i]] += post[i]
    s.class_post[0] = blank_post
