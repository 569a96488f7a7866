"""Greedy decoding for CTC, the best class of every frame, one sequence at a time."""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN, isnan
from libc.stdint cimport int64_t

from fastseqloss._kernels.codes cimport LOGITS, LOG_PROBS, PROBS, Input
from fastseqloss._kernels.parallel.threads cimport Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.simd.softmax cimport add_exactly, log64, softmax_row


cdef extern from "ctc/decoding.h" nogil:
    Py_ssize_t find_f32 "fsl_ctc_find_f32"(const float *x, Py_ssize_t n, double value) noexcept
    Py_ssize_t find_f64 "fsl_ctc_find_f64"(const double *x, Py_ssize_t n, double value) noexcept
    double greatest_f32 "fsl_ctc_greatest_f32"(const float *x, Py_ssize_t n, bint probs) noexcept
    double greatest_f64 "fsl_ctc_greatest_f64"(const double *x, Py_ssize_t n, bint probs) noexcept


cdef inline double best_class(const floating *x, Py_ssize_t n, Input kind, Py_ssize_t ahead,
                              Py_ssize_t *best) noexcept nogil:
    """First class with the greatest score, and its log-probability."""
    cdef double most, total = 1
    if kind == LOGITS:
        softmax_row(x, n, <floating *> NULL, 1, ahead, &most, &total)
        most = most if total != 0 else -INFINITY
    elif floating is float:
        most = greatest_f32(x, n, kind == PROBS)
    else:
        most = greatest_f64(x, n, kind == PROBS)
    if isnan(most) or isnan(total):
        best[0] = 0
        return NAN
    if floating is float:
        best[0] = find_f32(x, n, most)
    else:
        best[0] = find_f64(x, n, most)
    if kind == LOGITS:
        return -log64(total) if total > 0 else -INFINITY
    return most if kind == LOG_PROBS else log64(most)


cdef struct Found:
    int64_t *labels
    int64_t *starts
    int64_t *ends
    double *log_probs


cdef double decode_sequence(const floating *x, Py_ssize_t frames, Py_ssize_t n_classes, Py_ssize_t stride,
                            Input kind, Py_ssize_t blank, const Found *found, int64_t *count) noexcept nogil:
    """Labels of the best class of every frame, and the log-probability of this path; no labels if scores are NaN.

    A label has its first frame, the frame after its last, and the sum of its log-probabilities.
    """
    cdef Py_ssize_t t, best, before = blank, n = -1
    cdef double total = 0, rest = 0, of_label = 0, rest_of_label = 0, value
    for t in range(frames):
        value = best_class(x + t * stride, n_classes, kind, stride, &best)
        add_exactly(&total, &rest, value)
        if best != blank:
            if best != before:
                n += 1
                found.labels[n], found.starts[n] = best, t
                of_label = rest_of_label = 0
            add_exactly(&of_label, &rest_of_label, value)
            found.ends[n], found.log_probs[n] = t + 1, of_label + rest_of_label
        before = best
    if isnan(total):
        for t in range(n + 1):
            found.labels[t] = found.starts[t] = found.ends[t] = -1
            found.log_probs[t] = 0
        n = -1
    count[0] = n + 1
    return total + rest


cdef struct Decoding:
    Py_ssize_t x_step, stride, n, n_frames, n_classes, blank  # steps of sequences, of frames
    Input kind
    const int64_t *logit_lengths
    Found found  # of the first sequence
    int64_t *label_lengths
    double *log_prob


cdef void decode_worker(const Decoding *batch, const floating *x, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, b
    cdef Found found
    while next_items(loop, worker, &first, &last):
        for b in range(first, last):
            found.labels = batch.found.labels + b * batch.n_frames
            found.starts = batch.found.starts + b * batch.n_frames
            found.ends = batch.found.ends + b * batch.n_frames
            found.log_probs = batch.found.log_probs + b * batch.n_frames
            batch.log_prob[b] = decode_sequence(
                x + b * batch.x_step, batch.logit_lengths[b], batch.n_classes, batch.stride, batch.kind,
                batch.blank, &found, batch.label_lengths + b)


cdef Status decode_batch(const Decoding *batch, const floating *x, int num_threads) noexcept nogil:
    """Run all sequences; x is the first one's. Does not need the GIL."""
    cdef Loop loop
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            decode_worker(batch, x, &loop, threadid())
    return loop.status


def ctc_greedy_decode(const floating[:, :, :] logits, const int64_t[::1] logit_lengths, int input_kind,
                      Py_ssize_t blank, int64_t[:, :, ::1] found, double[:, ::1] label_log_probs,
                      int64_t[::1] label_lengths, double[::1] log_prob, int num_threads):
    """Greedy decoding of a checked batch with one or more frames.

    `found` [3, B, T], filled with -1, receives labels, first frames, and frames after the last, up to
    label_lengths [B]; `label_log_probs` [B, T] is filled with 0.
    """
    cdef Decoding batch
    cdef Status status
    cdef const floating *x = &logits[0, 0, 0]
    batch.kind, batch.blank = <Input> input_kind, blank
    batch.x_step = logits.strides[0] // <Py_ssize_t> sizeof(floating)
    batch.stride = logits.strides[1] // <Py_ssize_t> sizeof(floating)
    batch.n, batch.n_frames, batch.n_classes = logits.shape[0], logits.shape[1], logits.shape[2]
    batch.logit_lengths, batch.found.log_probs = &logit_lengths[0], &label_log_probs[0, 0]
    batch.found.labels, batch.found.starts, batch.found.ends = &found[0, 0, 0], &found[1, 0, 0], &found[2, 0, 0]
    batch.label_lengths, batch.log_prob = &label_lengths[0], &log_prob[0]
    with nogil:
        status = decode_batch(&batch, x, num_threads)
    check(status, 0)
