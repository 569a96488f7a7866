"""Prefix beam search for CTC, one sequence at a time. Built for the baseline instruction set."""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free

from fastseqloss._kernels.codes cimport LOGITS, PROBS
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items


cdef extern from "ctc/beam.h" nogil:
    ctypedef enum BeamStatus "fsl_beam_status":
        OUT_OF_MEMORY "FSL_BEAM_NO_MEMORY"
    ctypedef struct Options "fsl_beam_options":
        Py_ssize_t n_classes, blank, stride
        bint is_logits, is_probs, is_wide
        int32_t beam, n_out
        double class_threshold, beam_threshold
        const double *bigram
        const double *best_bigram
        double bonus, largest_lm
        bint has_lm, by_logarithms
    ctypedef struct Beam "fsl_beam":
        pass
    bint beam_allocate "fsl_beam_allocate"(Beam *s, const Options *o) noexcept
    void beam_free "fsl_beam_free"(Beam *s) noexcept
    BeamStatus beam_search "fsl_beam_search"(Beam *s, const void *x, Py_ssize_t frames, Py_ssize_t most,
                                             int64_t *labels, int64_t *lengths, double *scores,
                                             int64_t *found) noexcept


cdef struct Batch:
    Options options
    Py_ssize_t n, n_frames, x_step  # sequences, frames; bytes from one sequence to the next
    const char *x
    const int64_t *order
    const int64_t *logit_lengths
    const double *best
    int64_t *labels
    int64_t *lengths
    double *scores
    int64_t *found
    Beam *beams     # [workers]
    bint *is_ready  # [workers]
    bint no_memory


cdef void search_worker(Batch *batch, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, i, b, n_out = batch.options.n_out
    while next_items(loop, worker, &first, &last):
        if not batch.is_ready[worker]:
            batch.is_ready[worker] = beam_allocate(&batch.beams[worker], &batch.options)
        for i in range(first, last):
            b = batch.order[i]
            if isnan(batch.best[b]):
                continue
            if not batch.is_ready[worker] or beam_search(
                    &batch.beams[worker], batch.x + b * batch.x_step, batch.logit_lengths[b], batch.n_frames,
                    batch.labels + b * n_out * batch.n_frames, batch.lengths + b * n_out,
                    batch.scores + b * n_out, batch.found + b) == OUT_OF_MEMORY:
                batch.no_memory = True


cdef Status search_batch(Batch *batch, int num_threads) noexcept nogil:
    """Run all sequences; does not need the GIL."""
    cdef Loop loop
    cdef int worker
    batch.beams = <Beam *> calloc(num_threads, sizeof(Beam))
    batch.is_ready = <bint *> calloc(num_threads, sizeof(bint))
    if batch.beams == NULL or batch.is_ready == NULL:
        free(batch.beams)
        free(batch.is_ready)
        return NO_MEMORY
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            search_worker(batch, &loop, threadid())
    for worker in range(num_threads):
        beam_free(&batch.beams[worker])
    free(batch.beams)
    free(batch.is_ready)
    return loop.status


def ctc_beam_search(const floating[:, :, :] logits, const int64_t[::1] logit_lengths, const int64_t[::1] order,
                    const double[::1] best, int input_kind, Py_ssize_t blank, int beam, double class_threshold,
                    double beam_threshold, const double[:, ::1] bigram, const double[::1] best_bigram, double bonus,
                    bint by_logarithms, int64_t[:, :, ::1] labels, int64_t[:, ::1] lengths, double[:, ::1] scores,
                    int64_t[::1] found, int num_threads):
    """Search of a checked batch with one or more frames.

    IN   logits [B, T, V]; order: sequences, longest first; best [B]: log-probabilities of the best paths, NaN for
         sequences to be left out; bigram [V + 1, V], the bonus added, and the greatest of each column, or None.
    OUT  labels [B, N, T], lengths and scores [B, N] of the best label sequences, of which found [B] exist. Scores are
         relative to `best`.
    """
    cdef Batch batch
    cdef Options *o = &batch.options
    cdef Status status
    cdef Py_ssize_t c
    o.n_classes, o.blank, o.stride = logits.shape[2], blank, logits.strides[1] // <Py_ssize_t> sizeof(floating)
    o.is_logits, o.is_probs, o.is_wide = input_kind == LOGITS, input_kind == PROBS, floating is double
    o.beam, o.n_out = beam, <int32_t> labels.shape[1]
    o.class_threshold, o.beam_threshold = class_threshold, beam_threshold
    o.bigram = o.best_bigram = NULL
    o.bonus = o.largest_lm = bonus
    if bigram is not None:
        o.bigram, o.best_bigram, o.largest_lm = &bigram[0, 0], &best_bigram[0], best_bigram[0]
        for c in range(o.n_classes):
            o.largest_lm = max(o.largest_lm, best_bigram[c])
    o.has_lm, o.by_logarithms = bigram is not None or bonus != 0, by_logarithms
    batch.n, batch.n_frames, batch.x_step = logits.shape[0], logits.shape[1], logits.strides[0]
    batch.x, batch.order = <const char *> &logits[0, 0, 0], &order[0]
    batch.logit_lengths, batch.best = &logit_lengths[0], &best[0]
    batch.labels, batch.lengths, batch.scores = &labels[0, 0, 0], &lengths[0, 0], &scores[0, 0]
    batch.found, batch.no_memory = &found[0], False
    with nogil:
        status = search_batch(&batch, num_threads)
    check(status, 0)
    if batch.no_memory:
        raise MemoryError("no memory for the prefixes of a beam")
