"""State of the search for the best path of a sequence: arrays, frames, and the path."""

from cython cimport floating
from libc.math cimport INFINITY, cbrt, fabs, isnan
from libc.stdint cimport int32_t, int64_t, uintptr_t

from fastseqloss._kernels.codes cimport LOGITS, PROBS, Input
from fastseqloss._kernels.ctc.labels cimport PAD, STATES, LabelGraph, lay_out_labels, set_labels
from fastseqloss._kernels.lattice.exact_sums cimport exact_from
from fastseqloss._kernels.parallel.workspace cimport round_up, size_product, take
from fastseqloss._kernels.simd.softmax cimport add_exactly, log64, softmax_row


cdef extern from "ctc/viterbi.h" nogil:
    bint viterbi_emissions "fsl_ctc_viterbi_emissions"(const double *score, Py_ssize_t used, Py_ssize_t n,
                                                       double *y) noexcept


# Largest size of q in bytes for which all frames are kept.
cdef enum:
    KEEP = 1 << 20


cdef struct Search:
    # the problem
    Input input
    LabelGraph graph
    Py_ssize_t n_classes, blank, frames
    Py_ssize_t x_stride                    # elements between frames
    Py_ssize_t first                       # frame of the first scores in memory
    bint in_windows                        # the scores are in memory a window at a time
    const double *class_prior              # [V] number subtracted from the score of a class, or NULL
    const double *star_log_prob            # of the star at frame t: element t * star_step
    Py_ssize_t star_step                   # 1, or 0 if it is the same at all frames
    # sizes
    Py_ssize_t emission_width              # classes used, padded
    Py_ssize_t block, n_blocks             # steps of a block, and blocks
    Py_ssize_t cone                        # number of labels that a path can reach within a block, in whole vectors
    # workspace
    Py_ssize_t star                        # index of the star among the classes used, or -1
    double *prior                          # [used] numbers subtracted from the scores of the classes used
    double *row_max                        # [frames] greatest of the logits,
    double *log_norm                       # [frames] and logarithm of the sum of exp(logits - row_max)
    double *score                          # [emission_width] scores of one frame
    double *y                              # [emission_width] emissions of one frame
    double *q                              # [2, width] of one frame: blank states, label states
    double *checkpoints                    # [n_blocks, 2, width] q at the last frames of blocks
    double *rows                           # [block + 1, 2, cone + STATES] q of the frames of a block
    Py_ssize_t origin                      # first label of the kept rows
    double floor                           # least score of the paths searched
    Py_ssize_t lo, hi                      # range of labels with a q at the current frame, in whole vectors
    Py_ssize_t opened                      # first frame that has been normalised
    bint is_nan
    bint is_rounded                        # scores are so large that sums may have lost smaller terms
    bint *no_memory                        # set if memory is exhausted for exact sums


# State of a path: label i, or the blank before it.
cdef struct Place:
    Py_ssize_t i
    bint is_label


cdef struct Path:
    int64_t *labels                        # [frames] each: class, index among the labels, log-probability
    int64_t *tokens
    double *log_probs
    double total, lost                     # sum of the log-probabilities, and its rounding error


# ---- layout ---------------------------------------------------------------------------------

cdef inline uintptr_t lay_out_search(Search *a, uintptr_t base) noexcept nogil:
    """Set the sizes of a search and lay out its arrays from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef Py_ssize_t most = min(a.graph.n_labels + 1, a.n_classes + 1), steps = max(a.frames - 1, 1), width, row
    lay_out_labels(&a.graph, most, &cursor)
    width = a.graph.width
    a.emission_width = round_up(most + 1, STATES)
    a.block = steps
    if a.in_windows or size_product(steps, width * 16) > KEEP:
        # Checkpoints take T / block rows of all states, a cone takes block rows of block states.
        a.block = max(64, (<Py_ssize_t> cbrt(<double> steps * width / 8) // 32 - 1) * 32)
        while 8.0 * a.block * a.block * a.block < <double> steps * width:
            a.block += 32
        a.block = min(a.block, steps)
    a.n_blocks = (steps + a.block - 1) // a.block
    a.cone = min(a.graph.size, round_up(a.block + 2, STATES) + STATES)
    row = width * sizeof(double)
    a.row_max = <double *> take(&cursor, a.frames, sizeof(double))
    a.log_norm = <double *> take(&cursor, a.frames, sizeof(double))
    a.prior = <double *> take(&cursor, a.emission_width, sizeof(double))
    a.score = <double *> take(&cursor, a.emission_width, sizeof(double))
    a.y = <double *> take(&cursor, a.emission_width, sizeof(double))
    a.q = <double *> take(&cursor, 2, row)
    a.checkpoints = <double *> take(&cursor, 2 * a.n_blocks, row)
    a.rows = <double *> take(&cursor, 2 * (a.block + 1), (a.cone + STATES) * sizeof(double))
    return cursor


cdef inline void set_search(Search *a, const int64_t *labels) noexcept nogil:
    """Number the classes that occur; the star, class V, has no score in the array."""
    cdef LabelGraph *graph = &a.graph
    cdef Py_ssize_t k
    set_labels(graph, labels, a.blank)
    a.star = -1
    for k in range(graph.used):
        if graph.classes[k] == a.n_classes:
            a.star, graph.classes[k] = k, a.blank
        a.prior[k] = a.class_prior[graph.classes[k]] if a.class_prior != NULL else 0
    if a.star >= 0:
        a.prior[a.star] = 0


# ---- frames ---------------------------------------------------------------------------------

cdef inline const floating *frame_at(Search *a, const floating *x, Py_ssize_t t) noexcept nogil:
    """Scores of frame t."""
    return x + (t - a.first) * a.x_stride


cdef inline bint normalise(Search *a, const floating *x, Py_ssize_t t) noexcept nogil:
    """Dense pass over a row of logits; returns True if its sum is NaN.

    A row of -inf alone, in which only a star is possible, stays unnormalised.
    """
    cdef double row_sum
    if a.input != LOGITS:
        return False
    softmax_row(frame_at(a, x, t), a.n_classes, <floating *> NULL, 1, -a.x_stride, &a.row_max[t], &row_sum)
    a.log_norm[t] = log64(row_sum) if row_sum != 0 else 0
    return isnan(row_sum)


cdef inline double log_prob_at(Search *a, const floating *x, Py_ssize_t t, Py_ssize_t k) noexcept nogil:
    """Log-probability of the k-th class used at frame t."""
    cdef double score = frame_at(a, x, t)[a.graph.classes[k]]
    if k == a.star:
        return a.star_log_prob[t * a.star_step]
    if a.input == LOGITS:
        return (score - a.row_max[t]) - a.log_norm[t]
    return log64(score) if a.input == PROBS else score


cdef inline bint emit(Search *a, const floating *x, Py_ssize_t t) noexcept nogil:
    """Emissions of the classes used at frame t; returns True if one of them is NaN or +inf."""
    cdef const floating *frame = frame_at(a, x, t)
    cdef Py_ssize_t k
    cdef double most = -INFINITY
    for k in range(a.graph.used):
        a.score[k] = frame[a.graph.classes[k]]
    if a.input == PROBS:
        for k in range(a.graph.used):
            a.score[k] = log64(a.score[k])
    if a.star >= 0:
        a.score[a.star] = a.star_log_prob[t * a.star_step] + (
            a.row_max[t] + a.log_norm[t] if a.input == LOGITS else 0)
    if a.class_prior != NULL:
        for k in range(a.graph.used):
            a.score[k] -= a.prior[k]
    if a.class_prior != NULL or a.star >= 0:
        for k in range(a.graph.used):
            most = max(most, a.score[k])
        a.is_rounded |= most > -INFINITY and fabs(most) > exact_from(0)
    return viterbi_emissions(a.score, a.graph.used, a.emission_width, a.y)


cdef inline void read_frame(Search *a, const floating *x, Py_ssize_t t) noexcept nogil:
    """Emissions of a frame, after the dense pass on the first visit."""
    if t < a.opened:
        a.is_nan |= normalise(a, x, t)
        a.opened = t
    a.is_nan |= emit(a, x, t)


# ---- the path -------------------------------------------------------------------------------

cdef inline void record(Search *a, const floating *x, Py_ssize_t t, Place at, const int64_t *labels,
                        Path *path) noexcept nogil:
    """Record a frame of the path and add its log-probability with compensation."""
    cdef double p = log_prob_at(a, x, t, a.graph.u[PAD + at.i] if at.is_label else 0)
    path.labels[t] = labels[at.i] if at.is_label else a.blank
    path.tokens[t] = at.i if at.is_label else -1
    path.log_probs[t] = p
    add_exactly(&path.total, &path.lost, p)


cdef inline double path_total(Search *a, Path *path) noexcept nogil:
    """Log-probability of a recorded path."""
    cdef Py_ssize_t t
    if path.total == -INFINITY:
        # Out of the range of float64 although a path exists: for scores near 1e308 only.
        for t in range(a.frames):
            path.labels[t], path.tokens[t], path.log_probs[t] = -1, -1, 0
        return -INFINITY
    return path.total + path.lost
