"""Linear-chain CRF on a sparse table of transitions: sums over all paths and over those of labels, and best paths.

One sequence at a time, in logarithms relative to the greatest of a frame. The backward sweep differentiates the forward
one: the posterior of a state is shared among the arcs into it in proportion to their exponentials, and the share of an
arc is added to the posterior of the state that it comes from. So the sum over a frame stays 1, without a beta. Built
for the baseline instruction set, and for float32 and float64 at once; see `run` for the arrays.
"""

from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.codes cimport FLOAT64
from fastseqloss._kernels.parallel.threads cimport NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.parallel.workspace cimport Workspace, allocate, part_of, release, take
from fastseqloss._kernels.simd.elements cimport Array, Held, hold_all, let_go, row_of
from fastseqloss._kernels.simd.softmax cimport add_exactly, exp64, log64


cdef extern from "crf/sparse.h" nogil:
    double at "fsl_crf_at"(const char *x, bint doubles, Py_ssize_t j) noexcept
    double find_shift "fsl_sparse_shift"(const char *x, bint doubles, Py_ssize_t n) noexcept
    void gather "fsl_sparse_gather"(const char *scores, bint doubles, double shift, const int64_t *come_from,
                                    const double *alpha, Py_ssize_t n, Py_ssize_t n_arcs, double *x) noexcept
    void find_most "fsl_sparse_most"(const double *x, Py_ssize_t n, Py_ssize_t n_arcs, double *most) noexcept
    void exponentials "fsl_sparse_exponentials"(double *x, Py_ssize_t n, Py_ssize_t n_arcs, const double *most,
                                                double *sum) noexcept
    void add_log "fsl_sparse_log"(const double *sum, Py_ssize_t n, double *most) noexcept
    double normalize "fsl_sparse_normalize"(double *a, Py_ssize_t n) noexcept
    void spread "fsl_sparse_spread"(const double *x, const double *sum, const int64_t *come_from, Py_ssize_t n,
                                    Py_ssize_t n_arcs, double *gamma, double *before, double *out) noexcept
    void label_arcs "fsl_sparse_label_arcs"(const char *scores, bint doubles, double shift, const double *a,
                                            const int64_t *stays, const int64_t *moves, Py_ssize_t n, double *stay,
                                            double *move) noexcept
    void pair "fsl_sparse_pair"(Py_ssize_t n, double *stay, double *move, double *most) noexcept
    void store "fsl_sparse_store"(const double *x, double scale, bint doubles, Py_ssize_t n, char *out) noexcept


cdef enum:  # arguments of `run` that are arrays; the results are from LOSS on
    SCORES, TABLE, LENGTHS, ORDER, SCALE, STAYS, MOVES, STARTS, COUNTS, LOSS, PATHS, GRAD, ARRAYS


cdef struct Call:
    Array arrays[ARRAYS]
    bint doubles
    Py_ssize_t n_frames, n_states, n_arcs, longest, most_labels
    const int64_t *table            # [n_arcs, n_states]
    const int64_t *lengths          # [B]
    const int64_t *order
    const double *scale             # [B]
    const int64_t *stays            # [N] each, or NULL
    const int64_t *moves
    const int64_t *starts           # [B] each
    const int64_t *counts
    double *loss                    # [B]
    int64_t *paths                  # [B, T], or NULL for sums
    Workspace workspace


# A sequence, and the memory of a worker.
cdef struct Chain:
    int64_t b
    Py_ssize_t n_frames
    Py_ssize_t n_labels             # 0 without labels
    const int64_t *stays
    const int64_t *moves
    double *alpha                   # [T + 1, n_states + 1]; the last one is -inf, of arcs that do not exist
    double *shift                   # [T]
    double *x                       # [n_arcs, n_states]
    double *row                     # [n_states, n_arcs]
    double *sum                     # [n_states]
    double *gamma                   # [n_states + 1] each
    double *before
    double *spelled                 # [T + 1, n_labels] log-alphas of the paths of the labels
    double *stay                    # [n_labels] each
    double *move
    double *most
    double *delta                   # posteriors of the paths of the labels


cdef uintptr_t lay_out(const Call *c, Chain *s, uintptr_t base) noexcept nogil:
    """Lay out the memory of a worker from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef size_t row = (c.n_states + 1) * sizeof(double), labels = c.most_labels * sizeof(double)
    s.alpha = <double *> take(&cursor, c.longest + 1, row)
    s.shift = <double *> take(&cursor, c.longest, sizeof(double))
    s.x = <double *> take(&cursor, c.n_arcs, row)
    s.row = <double *> take(&cursor, c.n_arcs, row)
    s.sum = <double *> take(&cursor, 1, row)
    s.gamma = <double *> take(&cursor, 1, row)
    s.before = <double *> take(&cursor, 1, row)
    s.spelled = <double *> take(&cursor, c.longest + 1, labels)
    s.stay = <double *> take(&cursor, 4, labels)
    s.move, s.most, s.delta = s.stay + c.most_labels, s.stay + 2 * c.most_labels, s.stay + 3 * c.most_labels
    return cursor


cdef void gather_frame(const Call *c, Chain *s, Py_ssize_t t) noexcept nogil:
    """Set x to the scores of the paths that end in each arc of a frame, and the alphas that follow to the greatest."""
    cdef double *a = s.alpha + t * (c.n_states + 1)
    gather(row_of(&c.arrays[SCORES], s.b, t), c.doubles, s.shift[t], c.table, a, c.n_states, c.n_arcs, s.x)


# ---- sums over paths ------------------------------------------------------------------------

cdef double forward(const Call *c, Chain *s) noexcept nogil:
    """Log of the sum over all paths, or of the best path; with labels, less that of the sum over their paths.

    NaN for a frame with NaN or +inf. Without a path -inf, or with labels, without a path of theirs, inf.
    """
    cdef Py_ssize_t t, n = c.n_states, m = s.n_labels
    cdef double most, total = 0, rest = 0
    cdef double *a = s.alpha
    cdef double *spelled = s.spelled
    cdef bint possible = True
    memset(a, 0, n * sizeof(double))
    a[n] = -INFINITY
    for t in range(m):
        spelled[t] = 0 if t == 0 else -INFINITY
    for t in range(s.n_frames):
        s.shift[t] = find_shift(row_of(&c.arrays[SCORES], s.b, t), c.doubles, n * c.n_arcs)
        if s.shift[t] == INFINITY:
            return NAN
        gather_frame(c, s, t)
        a += n + 1
        a[n] = -INFINITY
        find_most(s.x, n, c.n_arcs, a)
        if c.paths == NULL:
            exponentials(s.x, n, c.n_arcs, a, s.sum)
            add_log(s.sum, n, a)
        most = normalize(a, n)
        possible = possible and most > -INFINITY
        if possible:
            add_exactly(&total, &rest, most)
            add_exactly(&total, &rest, 0 if m else s.shift[t])
        if m:
            spelled += m
            most = advance_labels(c, s, t)
            possible = possible and most > -INFINITY
            if possible:
                add_exactly(&total, &rest, -most)
    if not possible or m and spelled[m - 1] == -INFINITY:
        return INFINITY if m else -INFINITY
    if m:
        add_exactly(&total, &rest, -spelled[m - 1])
    if c.paths == NULL:
        total += rest + log64(share_out(s, a, n))
    return max(total, 0) if m else total  # negative by rounding only


cdef Py_ssize_t load_labels(const Call *c, Chain *s, Py_ssize_t t, Py_ssize_t *first) noexcept nogil:
    """Set the scores of stays and moves at a frame; returns the number of labels, from `first` on, that paths pass.

    Paths at the first label cannot get to the last one any more, unless it is label 0, so that its move is left out.
    """
    cdef Py_ssize_t lowest = max(s.n_labels - 1 - s.n_frames + t, 0), n = min(s.n_labels, t + 2) - lowest
    label_arcs(row_of(&c.arrays[SCORES], s.b, t), c.doubles, s.shift[t], s.spelled + t * s.n_labels + lowest,
               s.stays + lowest, s.moves + lowest, n, s.stay, s.move)
    first[0] = lowest
    return n


cdef double advance_labels(const Call *c, Chain *s, Py_ssize_t t) noexcept nogil:
    """Set the log-alphas of the paths of the labels after a frame, and return what is removed from them."""
    cdef Py_ssize_t i, first, n = load_labels(c, s, t, &first)
    cdef double *spelled = s.spelled + (t + 1) * s.n_labels + first
    pair(n, s.stay, s.move, spelled)
    for i in range(n):
        s.stay[i] += s.move[i]
    add_log(s.stay, n, spelled)
    if first + n < s.n_labels:
        spelled[n] = -INFINITY  # read at the next frame
    return normalize(spelled, n)


cdef double share_out(Chain *s, const double *a, Py_ssize_t n) noexcept nogil:
    """Set gamma to the exponentials of log-alphas, and return their sum."""
    cdef double sum = 0
    cdef Py_ssize_t k
    for k in range(n):
        s.gamma[k] = exp64(a[k]) if a[k] > -INFINITY else 0
        sum += s.gamma[k]
    return sum


cdef void backward(const Call *c, Chain *s) noexcept nogil:
    """Gradient of a sequence after its forward sweep."""
    cdef Py_ssize_t t, k, n = c.n_states, m = s.n_labels
    cdef double sum = share_out(s, s.alpha + s.n_frames * (n + 1), n)
    for k in range(n):
        s.gamma[k] /= sum
    memset(s.delta, 0, m * sizeof(double))
    if m:
        s.delta[m - 1] = 1
    for t in range(s.n_frames - 1, -1, -1):
        gather_frame(c, s, t)
        find_most(s.x, n, c.n_arcs, s.before)
        exponentials(s.x, n, c.n_arcs, s.before, s.sum)
        memset(s.before, 0, (n + 1) * sizeof(double))
        spread(s.x, s.sum, c.table, n, c.n_arcs, s.gamma, s.before, s.row)
        s.gamma, s.before = s.before, s.gamma
        if m:
            subtract_labels(c, s, t)
        store(s.row, c.scale[s.b], c.doubles, n * c.n_arcs, row_of(&c.arrays[GRAD], s.b, t))


cdef void subtract_labels(const Call *c, Chain *s, Py_ssize_t t) noexcept nogil:
    """Subtract the posteriors of the paths of the labels at a frame from the row."""
    cdef Py_ssize_t i, first, n = load_labels(c, s, t, &first)
    cdef double *delta = s.delta + first
    cdef double sum, share
    pair(n, s.stay, s.move, s.most)
    for i in range(n):  # label i - 1 has been shared out before label i moves posteriors to it
        sum = s.stay[i] + s.move[i]
        share = delta[i] / sum if sum > 0 else 0
        delta[i] = share * s.stay[i]
        s.row[s.stays[first + i]] -= delta[i]
        if s.move[i] > 0:
            s.row[s.moves[first + i]] -= share * s.move[i]
            delta[i - 1] += share * s.move[i]


# ---- best paths -----------------------------------------------------------------------------

cdef double trace(const Call *c, Chain *s) noexcept nogil:
    """List the arcs of the best path after a forward sweep; returns its score, added up with compensation."""
    cdef Py_ssize_t t, p, k, first = 0, n = c.n_states
    cdef double total = 0, rest = 0
    cdef const double *a = s.alpha + s.n_frames * (n + 1)
    cdef const char *scores
    cdef double value, most
    for k in range(1, n):
        first = k if a[k] > a[first] else first
    k = first
    for t in range(s.n_frames - 1, -1, -1):
        a -= n + 1
        scores = row_of(&c.arrays[SCORES], s.b, t)
        most, first = -INFINITY, 0
        for p in range(c.n_arcs):
            value = at(scores, c.doubles, k * c.n_arcs + p) - s.shift[t] + a[c.table[p * n + k]]
            if value > most:
                most, first = value, p
        c.paths[s.b * c.n_frames + t] = k * c.n_arcs + first
        add_exactly(&total, &rest, at(scores, c.doubles, k * c.n_arcs + first))
        k = c.table[first * n + k]
    return total + rest


# ---- calls ----------------------------------------------------------------------------------

cdef void run_sequence(const Call *c, Chain *s, int64_t b) noexcept nogil:
    cdef double loss
    cdef Py_ssize_t t, j, n = c.n_states * c.n_arcs
    s.b, s.n_frames, s.n_labels = b, c.lengths[b], 0
    if c.counts != NULL:
        s.n_labels = c.counts[b]
        s.stays, s.moves = c.stays + c.starts[b], c.moves + c.starts[b]
    loss = forward(c, s)
    if c.paths != NULL and loss > -INFINITY:
        loss = trace(c, s)
    c.loss[b] = loss
    if c.arrays[GRAD].data == NULL:
        return
    if loss != loss:
        for j in range(n):
            s.row[j] = NAN
        for t in range(s.n_frames):
            store(s.row, 1, c.doubles, n, row_of(&c.arrays[GRAD], b, t))
    elif -INFINITY < loss < INFINITY:
        backward(c, s)


cdef void run_worker(const Call *c, Loop *loop, int worker) noexcept nogil:
    cdef Chain s
    cdef Py_ssize_t first, last = 0, k
    lay_out(c, &s, part_of(&c.workspace, worker))
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
    return loop.status


cdef void set_up(Call *c) noexcept:
    cdef Py_ssize_t k
    c.n_frames, c.n_arcs, c.n_states = c.arrays[SCORES].shape[1], c.arrays[TABLE].shape[0], c.arrays[TABLE].shape[1]
    c.table, c.lengths = <const int64_t *> c.arrays[TABLE].data, <const int64_t *> c.arrays[LENGTHS].data
    c.order, c.scale = <const int64_t *> c.arrays[ORDER].data, <const double *> c.arrays[SCALE].data
    c.stays, c.moves = <const int64_t *> c.arrays[STAYS].data, <const int64_t *> c.arrays[MOVES].data
    c.starts, c.counts = <const int64_t *> c.arrays[STARTS].data, <const int64_t *> c.arrays[COUNTS].data
    c.loss, c.paths = <double *> c.arrays[LOSS].data, <int64_t *> c.arrays[PATHS].data
    for k in range(c.arrays[ORDER].shape[0]):
        c.longest = max(c.longest, c.lengths[c.order[k]])
        if c.counts != NULL:
            c.most_labels = max(c.most_labels, c.counts[c.order[k]])


def run(int kind, tuple arrays, int num_threads):
    """Log of the sum over all paths, less that over the paths of the labels if there are labels; or the best paths.

    `arrays` are, in this order, with those of `kind`, float32 or float64, marked by *:

    IN   scores* [B, T, K P] with contiguous rows, not overlapped by grad: those of arc p into state k at k P + p;
         table [P, K], the states that arcs come from, K for an arc that does not exist; lengths [B]; order: the
         sequences that count, one or more; scale [B]. For labels, else None: stays and moves [N], the arcs into the
         state of each label from itself and from the state before, -1 for one that does not exist; starts [B] of the
         labels of the sequences, and counts [B], 1 or more.
    OUT  loss [B]; paths [B, T], -1 before, or None: if given, the arcs of the best paths, and loss their scores;
         grad* [B, T, K P] or None, zeros before: gradients times scale, or posteriors of the arcs.
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
