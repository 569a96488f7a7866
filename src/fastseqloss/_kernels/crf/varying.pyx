"""Linear-chain CRF with transitions of every step: sums over all paths with gradients, and best paths.

One sequence at a time, in logarithms. Each sweep reads the transitions once; as in general.pxd, the log-alphas of a
frame are relative to the greatest, and what is removed is added up with compensation. A sum of exponentials keeps them:
the posterior of a pair is that of its first tag times the share of the pair in the sum over all next tags, so that the
gradient takes no exponentials of its own. Built for the baseline instruction set, and for float32 and float64 at once.
"""

from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.codes cimport FLOAT64
from fastseqloss._kernels.crf.ranked cimport rank_paths
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, size_product, take
from fastseqloss._kernels.simd.elements cimport Array, Held, hold_all, let_go, row_of
from fastseqloss._kernels.simd.softmax cimport add_exactly


cdef extern from "crf/varying.h" nogil:
    double at "fsl_crf_at"(const char *x, bint doubles, Py_ssize_t j) noexcept
    void put "fsl_crf_put"(double value, bint doubles, Py_ssize_t j, char *out) noexcept
    double load_scores "fsl_crf_load_scores"(const char *x, bint doubles, Py_ssize_t n, double bound, double *out,
                                             Py_ssize_t stride) noexcept
    double greatest_sum "fsl_crf_greatest_sum"(const double *a, const double *b, Py_ssize_t n) noexcept
    double log_row "fsl_crf_log_row"(const double *a, const double *b, Py_ssize_t n, double *e, double *sum) noexcept
    const double HUGE "FSL_CRF_HUGE"
    Py_ssize_t first_best "fsl_crf_first_best"(const double *a, const double *b, Py_ssize_t n) noexcept


cdef enum:
    LARGE = 1 << 29  # a sum of positive terms whose rounding errors may exceed differences of scores

cdef enum:  # arguments of `run` that are arrays; the results are from LOSS on
    EMISSIONS, TRANSITIONS, TAGS, LENGTHS, ORDER, SCALE, ENDS, COST, LOSS, PATHS, FOUND, GRAD, PAIRS, GRAD_ENDS, ARRAYS


cdef struct Call:
    Array arrays[ARRAYS]
    bint doubles
    Py_ssize_t n_frames, n_tags, n_best, longest
    const int64_t *tags             # [B, T], or NULL
    const int64_t *lengths          # [B]
    const int64_t *order
    const double *scale             # [B]
    const double *start             # [n_tags] each
    const double *end
    const double *cost              # [n_tags, n_tags], or NULL
    double *loss                    # [B], or [B, n_best]
    int64_t *paths                  # [B, n_best, T], or NULL for sums
    int64_t *found                  # [B] numbers of paths
    double *grad_ends               # [2, B, n_tags], or NULL
    bint no_memory
    Workspace workspace


# A sequence, and the memory of a worker.
cdef struct Chain:
    int64_t b
    Py_ssize_t last                 # its last frame
    const int64_t *tags
    double scale
    double bound                    # of scores that need no check
    double *alpha                   # [T, n_tags]
    double *shift                   # [T]
    double *score                   # [n_tags] each: scores of the tags of a frame,
    double *beta
    double *weight
    double *sum                     # sums of rows of shares,
    double *posterior
    double *zero
    double *pair                    # [n_tags, n_tags] transitions of a step
    double *share                   # [n_tags, n_tags] exponentials, relative to the greatest of the row
    double *into                    # [T, n_tags, n_tags] transitions, to and from, for best paths


cdef uintptr_t lay_out(const Call *c, Chain *s, uintptr_t base) noexcept nogil:
    """Lay out the memory of a worker from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef size_t n = c.n_tags, row = n * sizeof(double), pairs = size_product(n, row)
    s.alpha = <double *> take(&cursor, c.longest, row)
    s.shift = <double *> take(&cursor, c.longest, sizeof(double))
    s.score = <double *> take(&cursor, 6, row)
    s.beta, s.weight, s.sum = s.score + n, s.score + 2 * n, s.score + 3 * n
    s.posterior, s.zero = s.score + 4 * n, s.score + 5 * n
    s.pair = <double *> take(&cursor, 2, pairs)
    s.share = s.pair + n * n
    s.into = <double *> take(&cursor, c.longest if c.paths != NULL else 0, pairs)
    return cursor


cdef double load_tags(const Call *c, Chain *s, Py_ssize_t t) noexcept nogil:
    """Set the emissions of the tags of a frame; returns the greatest if above the bound, or +inf for NaN, else 0."""
    return load_scores(row_of(&c.arrays[EMISSIONS], s.b, t), c.doubles, c.n_tags, s.bound, s.score, 1)


cdef double load_pairs(const Call *c, Chain *s, Py_ssize_t t, double *out, bint transposed) noexcept nogil:
    """Set the transitions to a frame; returns the greatest if above the bound, or +inf for NaN, else 0."""
    cdef Py_ssize_t i, n = c.n_tags
    cdef double most = 0
    for i in range(n):
        most = max(most, load_scores(row_of(&c.arrays[TRANSITIONS], s.b, t) + i * c.arrays[TRANSITIONS].strides[2],
                                     c.doubles, n, s.bound, out + (i if transposed else i * n),
                                     n if transposed else 1))
    return most


# ---- sums over all paths --------------------------------------------------------------------

cdef double forward(const Call *c, Chain *s) noexcept nogil:
    """Log of the sum over all paths, less the score of the tagged path if there are tags; sets the log-alphas.

    NaN for a frame with NaN or +inf; without a path -inf, or with tags, without the tagged path, inf.
    """
    cdef Py_ssize_t t, j, n = c.n_tags
    cdef double most, total = 0, rest = 0, step = 0
    cdef double *a = s.alpha
    cdef bint possible = True
    for t in range(s.last + 1):
        if load_tags(c, s, t) > 0 or t > 0 and load_pairs(c, s, t, s.pair, True) > 0:
            return NAN
        s.shift[t] = max(greatest_sum(s.score, s.zero, n), -1e308)
        for j in range(n):
            a[j] = log_row(s.pair + j * n, a - n, n, s.share, s.sum) if t > 0 else c.start[j]
            a[j] += s.score[j] - s.shift[t]
        most = greatest_sum(a, s.zero, n)
        possible = possible and most > -INFINITY
        if s.tags != NULL:
            step = s.pair[s.tags[t] * n + s.tags[t - 1]] if t > 0 else c.start[s.tags[0]]
            possible = possible and s.score[s.tags[t]] > -INFINITY and step > -INFINITY
        if possible:
            add_exactly(&total, &rest, most)
            add_exactly(&total, &rest, s.shift[t] - (s.score[s.tags[t]] if s.tags != NULL else 0))
            add_exactly(&total, &rest, -step)
        for j in range(n):
            a[j] -= most if most > -INFINITY else 0
        a += n
    most = log_row(a - n, c.end, n, s.share, s.sum)
    step = c.end[s.tags[s.last]] if s.tags != NULL else 0
    if not (possible and most > -INFINITY and step > -INFINITY):
        return -INFINITY if s.tags == NULL else INFINITY
    add_exactly(&total, &rest, -step)
    total += rest + most
    return total if s.tags == NULL else max(total, 0)  # negative by rounding only


cdef void store_pairs(const Call *c, Chain *s, Py_ssize_t t) noexcept nogil:
    """Posteriors of the pairs of frames t and t + 1, or with tags, their gradient."""
    cdef Py_ssize_t i, j, n = c.n_tags
    cdef char *out = row_of(&c.arrays[PAIRS], s.b, t)
    cdef double factor
    for i in range(n):
        factor = s.scale * (s.posterior[i] / s.sum[i]) if s.sum[i] > 0 else 0
        for j in range(n):
            put(factor * s.share[i * n + j], c.doubles, i * n + j, out)
    if s.tags != NULL:
        i, j = s.tags[t], s.tags[t + 1]
        factor = s.posterior[i] / s.sum[i] * s.share[i * n + j] - 1
        put(s.scale * factor, c.doubles, i * n + j, out)


cdef void backward(const Call *c, Chain *s) noexcept nogil:
    """Gradients of a sequence after its forward sweep; that of the transitions to frame t is at t - 1 of PAIRS."""
    cdef Py_ssize_t t, j, n = c.n_tags
    cdef double total, sum, value
    for j in range(n):
        s.beta[j] = c.end[j]
    for t in range(s.last, -1, -1):
        if t < s.last:
            load_pairs(c, s, t + 1, s.pair, False)
            for j in range(n):
                s.beta[j] = log_row(s.pair + j * n, s.weight, n, s.share + j * n, s.sum + j)
        total = log_row(s.alpha + t * n, s.beta, n, s.posterior, &sum)
        load_tags(c, s, t)
        for j in range(n):
            s.posterior[j] /= sum
            s.weight[j] = (s.score[j] - s.shift[t]) + (s.beta[j] - total)
            value = s.scale * (s.posterior[j] - (s.tags != NULL and j == s.tags[t]))
            put(value, c.doubles, j, row_of(&c.arrays[GRAD], s.b, t))
            if c.grad_ends != NULL and t == 0:
                c.grad_ends[s.b * n + j] = value
            if c.grad_ends != NULL and t == s.last:
                c.grad_ends[(c.arrays[LENGTHS].shape[0] + s.b) * n + j] = value
        if t < s.last and c.arrays[PAIRS].data != NULL:
            store_pairs(c, s, t)


cdef void spread_nan(const Call *c, Chain *s) noexcept nogil:
    """Set the gradients of a sequence to NaN."""
    cdef Py_ssize_t t, j, n = c.n_tags
    for t in range(s.last + 1):
        for j in range(n * n):
            if j < n:
                put(NAN, c.doubles, j, row_of(&c.arrays[GRAD], s.b, t))
            if t > 0 and c.arrays[PAIRS].data != NULL:
                put(NAN, c.doubles, j, row_of(&c.arrays[PAIRS], s.b, t - 1))
    if c.grad_ends != NULL:
        for j in range(n):
            c.grad_ends[s.b * n + j] = c.grad_ends[(c.arrays[LENGTHS].shape[0] + s.b) * n + j] = NAN


# ---- best paths -----------------------------------------------------------------------------

cdef Py_ssize_t list_paths(const double *alpha, Py_ssize_t stride, Py_ssize_t n_frames, Py_ssize_t n_tags,
                           const double *into, Py_ssize_t between, Py_ssize_t n_best, Py_ssize_t path_size,
                           int64_t *paths) noexcept nogil:
    """See `rank_paths`, which is compiled here once for the kernels of every level."""
    return rank_paths(alpha, stride, n_frames, n_tags, into, between, n_best, path_size, paths)


cdef double advance_best(const Call *c, Chain *s, Py_ssize_t t, double *own) noexcept nogil:
    """Set the scores of the best paths to the tags of a frame; returns the most that large terms add, or +inf for NaN.

    With tags, scores include the cost, and `own`, the score of the tagged path, is added up as that of the best one is,
    so that the two are equal if they are the same path.
    """
    cdef Py_ssize_t i, j, n = c.n_tags
    cdef double *a = s.alpha + t * n
    cdef double *into = s.into + t * n * n
    cdef const double *cost = c.cost + s.tags[t] * n if s.tags != NULL else s.zero
    cdef double most = load_tags(c, s, t), step = load_pairs(c, s, t, into, True) if t > 0 else 0
    for j in range(n):
        s.score[j] += cost[j]
        a[j] = s.score[j] + (c.start[j] if t == 0 else 0) + (c.end[j] if t == s.last else 0)
        if s.tags != NULL and j == s.tags[t]:
            own[0] = a[j] + (own[0] + into[j * n + s.tags[t - 1]] if t > 0 else 0)
        if t > 0:
            i = first_best(a - n, into + j * n, n)
            a[j] += (a - n)[i] + into[j * n + i]
    return most + step + min(greatest_sum(cost, s.zero, n), HUGE)


cdef void search(Call *c, Chain *s) noexcept nogil:
    """List the best paths of a sequence and their scores, or with tags the best path and its margin.

    A path whose partial score falls low enough for rounding to matter cannot become the best, since its remaining terms
    add at most `above`, and terms below the bound as much as LARGE; `found` is -1 if that is much.
    """
    cdef Py_ssize_t t, i, n = c.n_tags, found
    cdef int64_t *paths = c.paths + s.b * c.n_best * c.n_frames
    cdef double *scores = c.loss + s.b * c.n_best
    cdef double above = max(greatest_sum(c.start, s.zero, n), 0) + max(greatest_sum(c.end, s.zero, n), 0)
    cdef double best, more, own = 0
    for t in range(s.last + 1):
        more = advance_best(c, s, t, &own)
        above += more
        if more == INFINITY:
            for i in range(c.n_best):
                scores[i] = NAN
            return
    best = greatest_sum(s.alpha + s.last * n, s.zero, n)
    if own == -INFINITY:
        scores[0] = INFINITY
    if own == -INFINITY or best == -INFINITY:
        return
    if not (above < LARGE and best > -LARGE):
        c.found[s.b] = -1
        return
    found = list_paths(s.alpha, n, s.last + 1, n, s.into, n * n, c.n_best, c.n_frames, paths)
    c.found[s.b], c.no_memory = found, c.no_memory or found < 0
    if s.tags != NULL:
        scores[0] = 0 if best == own else max(score_of(c, s, paths, s.tags), 0)
        return
    for i in range(found):
        scores[i] = score_of(c, s, paths + i * c.n_frames, NULL)


cdef double score_of(const Call *c, const Chain *s, const int64_t *path, const int64_t *other) noexcept nogil:
    """Score of a path, less that of another one if given, added up with compensation."""
    cdef double total = 0, rest = 0
    add_path(c, s, path, 1, &total, &rest)
    if other != NULL:
        add_path(c, s, other, -1, &total, &rest)
    return total + rest


cdef void add_path(const Call *c, const Chain *s, const int64_t *path, double sign, double *total,
                   double *rest) noexcept nogil:
    """total + rest += sign * score of a path, and its cost if there are tags."""
    cdef Py_ssize_t t, n = c.n_tags
    add_exactly(total, rest, sign * c.start[path[0]])
    for t in range(s.last + 1):
        add_exactly(total, rest, sign * at(row_of(&c.arrays[EMISSIONS], s.b, t), c.doubles, path[t]))
        if t > 0:
            add_exactly(total, rest, sign * s.into[(t * n + path[t]) * n + path[t - 1]])
        if s.tags != NULL:
            add_exactly(total, rest, sign * c.cost[s.tags[t] * n + path[t]])
    add_exactly(total, rest, sign * c.end[path[s.last]])


# ---- calls ----------------------------------------------------------------------------------

cdef void run_sequence(Call *c, Chain *s, int64_t b) noexcept nogil:
    cdef double loss
    s.b, s.last, s.scale = b, c.lengths[b] - 1, c.scale[b]
    s.bound = LARGE / (2. * c.lengths[b]) if c.paths != NULL else INFINITY
    s.tags = c.tags + b * c.n_frames if c.tags != NULL else NULL
    if c.paths != NULL:
        search(c, s)
        return
    loss = forward(c, s)
    c.loss[b] = loss
    if c.arrays[GRAD].data != NULL and loss != loss:
        spread_nan(c, s)
    elif c.arrays[GRAD].data != NULL and -INFINITY < loss < INFINITY:
        backward(c, s)


cdef void run_worker(Call *c, Loop *loop, int worker) noexcept nogil:
    cdef Chain s
    cdef Py_ssize_t first, last = 0, k
    lay_out(c, &s, part_of(&c.workspace, worker))
    memset(s.zero, 0, c.n_tags * sizeof(double))
    while next_items(loop, worker, &first, &last):
        for k in range(first, last):
            run_sequence(c, &s, c.order[k])


cdef Status run_batch(Call *c, int num_threads) noexcept nogil:
    cdef Loop loop
    cdef Chain s
    if not allocate(&c.workspace, 0, lay_out(c, &s, 0), num_threads, False):
        return NO_MEMORY
    begin(&loop, c.arrays[ORDER].shape[0], num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(c, &loop, threadid())
    release(&c.workspace)
    return NO_MEMORY if c.no_memory else loop.status


cdef void set_up(Call *c) noexcept:
    cdef Py_ssize_t batch = c.arrays[EMISSIONS].shape[0]
    c.n_frames, c.n_tags = c.arrays[EMISSIONS].shape[1], c.arrays[EMISSIONS].shape[2]
    c.n_best = c.arrays[LOSS].shape[0] // batch
    c.tags, c.lengths = <const int64_t *> c.arrays[TAGS].data, <const int64_t *> c.arrays[LENGTHS].data
    c.order, c.scale = <const int64_t *> c.arrays[ORDER].data, <const double *> c.arrays[SCALE].data
    c.start, c.loss = <const double *> c.arrays[ENDS].data, <double *> c.arrays[LOSS].data
    c.cost = <const double *> c.arrays[COST].data
    c.end, c.paths, c.found = c.start + c.n_tags, <int64_t *> c.arrays[PATHS].data, <int64_t *> c.arrays[FOUND].data
    c.grad_ends, c.longest = <double *> c.arrays[GRAD_ENDS].data, c.lengths[c.order[0]]


def run(int kind, tuple arrays, int num_threads):
    """Log of the sum over all paths, or the best paths; with tags, less the score of the tagged path.

    `arrays` are, in this order, with those of `kind`, float32 or float64, marked by *:

    IN   emissions* [B, T, K], not overlapped by grad; transitions* [B, T, K, K], to step t at t, of which those to the
         first step are not read, both with contiguous rows; tags [B, T] or None; lengths [B]; order: the sequences that
         count, one or more, of at least one step, longest first; scale [B]; starts and ends [2, K]; cost [K, K], to be
         added to the emissions, row tags[b, t], or None: required for the best paths with tags.
    OUT  loss [B]; paths [B, N T], -1 before, or None: if given, the N best paths, and loss [B N], -inf before, their
         scores, or with tags, for which N is 1, margins; found [B], zeros before: their numbers, or -1 for a sequence
         whose sums may be so large that rounding hides the best path, which is not searched then; grad* [B, T, K] or
         None; pairs* [B, T - 1, K, K] or None, with contiguous matrices: gradients of sums times scale, or pairwise
         marginals, zeros before; grad_ends [2, B, K], zeros before, or None.
    """
    cdef Call c
    cdef Held held
    cdef Status status
    memset(&c, 0, sizeof(Call))
    c.doubles = kind == FLOAT64
    try:
        hold_all(&held, arrays, kind, LOSS, c.arrays)
        set_up(&c)
        with nogil:
            status = run_batch(&c, num_threads)
        check(status, c.workspace.size)
    finally:
        let_go(&held)
