"""Prefix beam search for CTC, one sequence at a time. Built for the baseline instruction set."""

from cython.parallel cimport parallel, threadid
from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free

from fastseqloss._kernels.codes cimport FLOAT64, LOGITS, PROBS
from fastseqloss._kernels.parallel.threads cimport (
    NO_MEMORY, Loop, Status, begin, check, enter, is_over, next_items, pause_item, resume,
)
from fastseqloss._kernels.simd.elements cimport Array, Held, hold_all, let_go


cdef extern from "ctc/beam.h" nogil:
    ctypedef enum BeamStatus "fsl_beam_status":
        PAUSED "FSL_BEAM_PAUSED"
        OUT_OF_MEMORY "FSL_BEAM_NO_MEMORY"
    ctypedef struct Language "fsl_beam_language":
        const double *bigram
        const double *best
        double bonus
        Py_ssize_t n_classes
        int n_automata
    ctypedef struct Options "fsl_beam_options":
        Py_ssize_t n_classes, blank, stride
        bint is_logits, is_probs, is_wide
        int32_t beam, n_out
        double class_threshold, beam_threshold
        bint has_lm, has_rows, by_logarithms, is_unread
        Language language
    ctypedef struct Beam "fsl_beam":
        bint is_begun
        const double *rows
        Py_ssize_t t
    void read_language "fsl_beam_read_language"(Language *l, const int64_t *edges, Py_ssize_t size,
                                                const double *levels) noexcept
    bint beam_allocate "fsl_beam_allocate"(Beam *s, const Options *o) noexcept
    void beam_free "fsl_beam_free"(Beam *s) noexcept
    BeamStatus beam_search "fsl_beam_search"(Beam *s, const void *x, Py_ssize_t frames, Py_ssize_t most,
                                             int64_t *table, double *scores, int64_t *found) noexcept
    Py_ssize_t beam_ask "fsl_beam_ask"(Beam *s, Py_ssize_t sequence, int64_t *asked) noexcept


cdef extern from "ctc/beam_rescore.h" nogil:
    ctypedef struct RescoreTask "fsl_rescore_task":
        const char *x
        Py_ssize_t frames, n_classes, blank, stride
        bint is_logits, is_probs, is_wide
        const int64_t *counts
        const int64_t *labels
        Py_ssize_t n, row
    bint rescore "fsl_rescore"(const RescoreTask *task, double *out) noexcept


cdef struct Task:
    Beam beam
    bint is_ready           # 1 if the memory of the beam is allocated
    bint is_open            # 1 if the sequence of this number is searched, with a model of the caller
    Py_ssize_t first, last  # sequences left to a worker; the first one may be paused


cdef struct Batch:
    Options options
    Py_ssize_t n, n_frames, x_step  # sequences, frames; bytes from one sequence to the next
    const char *x
    int64_t *table   # [3, n]
    int64_t *labels  # [n, n_out * (4 + n_frames)]
    double *scores   # [n, 1 + 2 n_out]
    const double *rows  # [n, beam, V + 1] or NULL
    int64_t *asked   # [n * beam, 4] or NULL
    Task *tasks
    bint no_memory


cdef bint make_ready(Batch *batch, Task *task) noexcept nogil:
    """Allocate the memory of a beam, unless it has been; returns False if memory is exhausted."""
    if not task.is_ready:
        task.is_ready = beam_allocate(&task.beam, &batch.options)
    if not task.is_ready:
        batch.no_memory = True
    return task.is_ready


cdef BeamStatus advance(Batch *batch, Beam *beam, Py_ssize_t b) noexcept nogil:
    """Search some frames of sequence b."""
    cdef Py_ssize_t n_out = batch.options.n_out
    cdef BeamStatus status = beam_search(
        beam, batch.x + b * batch.x_step, batch.table[b], batch.n_frames,
        batch.labels + b * n_out * (batch.n_frames + 4), batch.scores + b * (2 * n_out + 1),
        batch.table + 2 * batch.n + b)
    if status == OUT_OF_MEMORY:
        batch.no_memory = True
    return status


cdef bint is_excluded(Batch *batch, Py_ssize_t b) noexcept nogil:
    return isnan(batch.scores[b * (2 * batch.options.n_out + 1)])


cdef bint run_task(Batch *batch, Task *task, const Loop *loop) noexcept nogil:
    """Search a sequence, or what is left of it; returns False if it is paused because the region is over."""
    cdef Py_ssize_t b = batch.table[batch.n + task.first]
    if is_excluded(batch, b) or not make_ready(batch, task):
        return True
    while advance(batch, &task.beam, b) == PAUSED:
        if is_over(loop):
            return False
    return True


cdef void search_worker(Batch *batch, Loop *loop, int worker) noexcept nogil:
    cdef Task *task = batch.tasks + worker
    cdef Py_ssize_t first, last = 0
    cdef bint paused = task.beam.is_begun
    if paused and not resume(loop, worker):
        return
    while paused or next_items(loop, worker, &first, &last):
        if not paused:
            task.first, task.last = first, last
        last, paused = task.last, False
        while task.first < task.last:
            if not run_task(batch, task, loop):
                pause_item(loop, worker)
                return
            task.first += 1


cdef void order_tasks(Batch *batch, Py_ssize_t n) noexcept nogil:
    """Give paused sequences to the first workers of a region."""
    cdef Py_ssize_t k, at = 0
    cdef Task task
    for k in range(n):
        if batch.tasks[k].beam.is_begun:
            task = batch.tasks[at]
            batch.tasks[at] = batch.tasks[k]
            batch.tasks[k] = task
            at += 1


cdef Status search_batch(Batch *batch, int num_threads) noexcept nogil:
    """Run all sequences; does not need the GIL."""
    cdef Loop loop
    cdef int worker
    batch.tasks = <Task *> calloc(num_threads, sizeof(Task))
    if batch.tasks == NULL:
        return NO_MEMORY
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        order_tasks(batch, num_threads)
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            search_worker(batch, &loop, threadid())
    for worker in range(num_threads):
        beam_free(&batch.tasks[worker].beam)
    free(batch.tasks)
    return loop.status


# ---- with a model of the caller -------------------------------------------------------------


cdef void step_worker(Batch *batch, Loop *loop, int worker) noexcept nogil:
    """Search a frame of each sequence."""
    cdef Py_ssize_t first, last = 0
    while next_items(loop, worker, &first, &last):
        while first < last:
            if batch.tasks[first].is_open:
                batch.tasks[first].is_open = advance(batch, &batch.tasks[first].beam, first) == PAUSED
            first += 1


cdef Status step_batch(Batch *batch, int num_threads) noexcept nogil:
    cdef Loop loop
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            step_worker(batch, &loop, threadid())
    return loop.status


cdef Py_ssize_t open_tasks(Batch *batch) noexcept nogil:
    """Begin with the empty prefix of each sequence; returns the number of sequences."""
    cdef Py_ssize_t b, k, n = 0
    cdef Py_ssize_t length = batch.options.beam * (batch.options.n_classes + 1)
    for b in range(batch.n):
        if not is_excluded(batch, b) and make_ready(batch, batch.tasks + b):
            batch.tasks[b].is_open, batch.tasks[b].beam.rows = True, batch.rows + b * length
            for k in range(4):
                batch.asked[4 * n + k] = -1 if k == 3 else b if k == 0 else 0
            n += 1
    return n


cdef int search_asking(Batch *batch, ask, int num_threads) except -1:
    """Search frame by frame. Between frames `ask(n)` writes the rows of the first n entries of `asked`, and returns
    True if there are scores of the end among them."""
    cdef Py_ssize_t b, n, found, n_open
    cdef bint has_ends = False
    cdef Status status
    batch.tasks = <Task *> calloc(batch.n, sizeof(Task))
    if batch.tasks == NULL:
        return check(NO_MEMORY, batch.n * sizeof(Task))
    try:
        n = n_open = open_tasks(batch)
        while n_open and not batch.no_memory:
            if n:
                has_ends = ask(n)
            with nogil:
                status = step_batch(batch, num_threads)
            check(status, 0)
            n = n_open = 0
            for b in range(batch.n):
                if batch.tasks[b].is_open:
                    found = beam_ask(&batch.tasks[b].beam, b, batch.asked + 4 * n)
                    n += found if has_ends or batch.tasks[b].beam.t < batch.table[b] else 0
                    n_open += 1
    finally:
        for b in range(batch.n):
            beam_free(&batch.tasks[b].beam)
        free(batch.tasks)
    return 0


cdef int search(Batch *batch, const Array *views, ask, int num_threads) except -1:
    """Search of a batch whose arrays are, in order, logits, bigram, best, edges, levels, rows, asked, table, labels and
    scores."""
    cdef Options *o = &batch.options
    cdef Status status
    batch.n, batch.n_frames, batch.x_step = views[0].shape[0], views[0].shape[1], views[0].strides[0]
    batch.x, batch.rows, batch.asked = views[0].data, <const double *> views[5].data, <int64_t *> views[6].data
    batch.table, batch.labels = <int64_t *> views[7].data, <int64_t *> views[8].data
    batch.scores, batch.no_memory = <double *> views[9].data, False
    o.n_classes, o.stride, o.is_wide = views[0].shape[2], views[0].strides[1], views[0].kind == FLOAT64
    o.n_out, o.has_lm, o.has_rows = <int32_t> (views[9].shape[1] // 2), views[2].data != NULL, batch.rows != NULL
    o.language.n_classes, o.language.n_automata = o.n_classes, 0
    o.language.bigram, o.language.best = <const double *> views[1].data, <const double *> views[2].data
    read_language(&o.language, <const int64_t *> views[3].data, views[3].shape[0], <const double *> views[4].data)
    if o.has_rows:
        search_asking(batch, ask, num_threads)
    else:
        with nogil:
            status = search_batch(batch, num_threads)
        check(status, 0)
    if batch.no_memory:
        raise MemoryError("no memory for the prefixes of a beam")
    return 0


def ctc_beam_search(logits, int logits_kind, table, int input_kind, Py_ssize_t blank, int beam, double class_threshold,
                    double beam_threshold, bigram, best, edges, levels, double bonus, bint by_logarithms,
                    bint is_unread, ask, rows, asked, labels, scores, int num_threads):
    """Search of a checked batch. Arrays are contiguous, except for logits.

    IN   logits [B, T, V]; table [3, B]: lengths, and sequences in the order of the search; bigram [V + 1, V] or None:
         scores with the bonus added; best [V]: greatest score of each label by bigram and automata, or more, None
         without any scores of labels; edges and levels: automata as beam_language.h reads them; rows
         [B, beam, V + 1] or None: scores by `ask` of the next label after prefixes, and of the end; see
         `search_asking` for `ask` and `asked`, whose entries beam_ask describes.
    INOUT  scores [B, 1 + 2 N]: log-probability of the best path, NaN for a sequence to be left out; 0 if logits, which
         are no logits then, are unread, and set by the search. Then the scores of the best label sequences, relative to
         it, and the scores of labels in them.
    OUT  table: numbers of label sequences found; labels [B, N (4 + T)]: for each sequence, the table of the lattice of
         its N label sequences, as `read_sequences` fills it; asked [B beam, 4] or None.
    """
    cdef Batch batch
    cdef Held held
    cdef Array views[10]
    batch.options.blank, batch.options.beam = blank, beam
    batch.options.is_logits, batch.options.is_probs = input_kind == LOGITS, input_kind == PROBS
    batch.options.class_threshold, batch.options.beam_threshold = class_threshold, beam_threshold
    batch.options.language.bonus, batch.options.by_logarithms = bonus, by_logarithms
    batch.options.is_unread = is_unread
    try:
        hold_all(&held, (logits, bigram, best, edges, levels, rows, asked, table, labels, scores), logits_kind, 6,
                 views)
        search(&batch, views, ask, num_threads)
    finally:
        let_go(&held)


# ---- log-probabilities of what has been found -----------------------------------------------

cdef struct Rescoring:
    RescoreTask common
    Py_ssize_t n, n_out, x_step  # sequences, label sequences of each; bytes from one sequence to the next
    const char *x
    const int64_t *table         # [3, n]
    const int64_t *labels        # [n, n_out * (4 + n_frames)]
    double *log_probs            # [n, n_out]
    bint no_memory


cdef void rescore_worker(Rescoring *batch, Loop *loop, int worker) noexcept nogil:
    cdef RescoreTask task = batch.common
    cdef Py_ssize_t first, last = 0, i, b
    while next_items(loop, worker, &first, &last):
        for i in range(first, last):
            b = batch.table[batch.n + i]
            task.x, task.frames, task.n = batch.x + b * batch.x_step, batch.table[b], batch.table[2 * batch.n + b]
            task.counts = batch.labels + b * batch.n_out * (4 + task.row) + 2 * batch.n_out
            task.labels = task.counts + 2 * batch.n_out
            if not rescore(&task, batch.log_probs + b * batch.n_out):
                batch.no_memory = True


cdef Status rescore_batch(Rescoring *batch, int num_threads) noexcept nogil:
    cdef Loop loop
    begin(&loop, batch.n, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            rescore_worker(batch, &loop, threadid())
    return loop.status


cdef int rescore_arrays(const Array *logits, const Array *table, const Array *labels, const Array *log_probs,
                        int input_kind, Py_ssize_t blank, int num_threads) except -1:
    cdef Rescoring batch
    cdef RescoreTask *o = &batch.common
    cdef Status status
    batch.n, batch.n_out, batch.x_step = logits.shape[0], log_probs.shape[1], logits.strides[0]
    batch.x, batch.table, batch.labels = logits.data, <const int64_t *> table.data, <const int64_t *> labels.data
    batch.log_probs, batch.no_memory = <double *> log_probs.data, False
    o.row, o.n_classes, o.blank, o.stride = logits.shape[1], logits.shape[2], blank, logits.strides[1]
    o.is_logits, o.is_probs, o.is_wide = input_kind == LOGITS, input_kind == PROBS, logits.kind == FLOAT64
    with nogil:
        status = rescore_batch(&batch, num_threads)
    check(status, 0)
    if batch.no_memory:
        raise MemoryError("no memory for the prefixes of label sequences")
    return 0


def ctc_rescore(logits, int logits_kind, table, labels, int input_kind, Py_ssize_t blank, log_probs, int num_threads):
    """Log-probabilities of the label sequences that ctc_beam_search has found, by all their alignments.

    IN   logits, table, labels: as ctc_beam_search leaves them.
    OUT  log_probs [B, N]: of the label sequences found, NaN where masses leave the range of float64; those of logits
         lack a number for each sequence.
    """
    cdef Held held
    cdef Array views[4]
    try:
        hold_all(&held, (logits, table, labels, log_probs), logits_kind, 3, views)
        rescore_arrays(&views[0], &views[1], &views[2], &views[3], input_kind, blank, num_threads)
    finally:
        let_go(&held)
