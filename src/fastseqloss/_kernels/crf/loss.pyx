"""Linear-chain CRF: sums over all paths with gradients, and best paths.

Sequences form groups of up to eight, longest first, and a group processes every frame together. The groups are
distributed over at most 32 buckets, which sum the gradients of shared parameters; the sums of the buckets are added in
the order of the buckets. For these sums, the distribution depends on the lengths only, not on the number of threads.
"""

from cython cimport floating
from cython.parallel cimport parallel, threadid
from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.crf.fast cimport forward, is_clamped, log_total, sweep_back
from fastseqloss._kernels.crf.exact cimport exact_best, exact_sum
from fastseqloss._kernels.crf.general cimport general
from fastseqloss._kernels.crf.group cimport (
    EXACT, FAST, GENERAL, IMPOSSIBLE, MOST, NOT_A_NUMBER, SMALL, TAGS, Group, Problem, State, alpha_row, factor_row,
    fill, lay_out_group, set_group,
)
from fastseqloss._kernels.lattice.exact_sums cimport exact_from
from fastseqloss._kernels.parallel.threads cimport DONE, NO_MEMORY, Loop, Status, begin, check, enter, next_items
from fastseqloss._kernels.crf.varying cimport list_paths
from fastseqloss._kernels.crf.viterbi cimport best_scores, is_rounded, margin, path_score, subtract_paths, trace
from fastseqloss._kernels.parallel.workspace cimport (
    Workspace, allocate, part_of, release, round_up, size_product, size_sum, take,
)
from fastseqloss._kernels.simd.matrix cimport pack, unpack


cdef enum:
    BUCKETS = 32
    MOST_BYTES = 1 << 28   # largest size of the sums of the buckets


# Arguments of a call: the problem, the distribution of the sequences, the results.
cdef struct Call:
    Problem problem
    const double *transitions  # [n_tags, n_tags]
    double *grad_transitions   # gradients to be added to, or NULL
    double *grad_start
    double *grad_end
    Py_ssize_t batch           # B
    Py_ssize_t n               # number of sequences that count,
    const int64_t *order       # longest first
    Py_ssize_t capacity, n_groups, n_buckets, longest
    double *sums               # [n_buckets, n_tags * n_tags + 2 * n_tags] of transitions, starts, ends; or NULL
    State *states              # [B]
    double *loss               # [B, n_best]
    int64_t *paths             # [B, n_best, T]
    int64_t *found             # [B] number of paths found, or NULL to search for the best one
    Py_ssize_t n_best
    double *forms              # the transitions in several forms
    Workspace workspace


cdef Py_ssize_t group_size(Py_ssize_t n) noexcept nogil:
    """Size of a group: large groups share reads of the transitions, small groups leave work for more threads."""
    return 8 if n >= 48 else 4 if n >= 8 else 2 if n >= 4 else 1


cdef void deal(Call *c, bint with_sums, int num_threads) noexcept nogil:
    """Distribute the sequences. Only sums depend on the distribution, by rounding."""
    cdef Py_ssize_t n_tags = c.problem.n_tags, bytes_each = n_tags * (n_tags + 2) * sizeof(double)
    c.longest = c.problem.lengths[c.order[0]] if c.n else 0
    c.capacity = group_size(c.n)
    if not with_sums:
        while c.capacity < MOST and c.capacity * num_threads < c.n:
            c.capacity *= 2
    c.n_groups = (c.n + c.capacity - 1) // c.capacity
    c.n_buckets = min(c.n_groups, BUCKETS)
    if with_sums:
        c.n_buckets = min(c.n_buckets, max(MOST_BYTES // bytes_each, 4))


cdef void set_transitions(Problem *p, const double *transitions, bint linear, double *cursor) noexcept nogil:
    """Set the transitions in all the forms that the fast and general paths use, from `cursor` on."""
    cdef Py_ssize_t n = p.n_tags, i, j
    cdef double *scores = cursor
    cdef double *scores_t = scores + n * n
    cdef double *factors = scores_t + n * n
    cdef double *clamped = factors + n * n
    cdef double *packed = clamped + n * n
    cdef double *packed_t = packed + p.width * p.width
    p.scores, p.scores_t, p.factors, p.forward, p.backward = scores, scores_t, factors, packed, packed_t
    p.shift, p.overflows, p.transitions = -INFINITY, False, transitions
    for i in range(n * n):
        p.shift = max(p.shift, transitions[i])
    p.greatest = max(p.shift, 0)
    if not linear or p.shift == -INFINITY:
        p.shift = 0
    for i in range(n):
        for j in range(n):
            scores[i * n + j] = scores_t[j * n + i] = transitions[i * n + j] - p.shift
    if not linear:
        pack(scores, n, 1, n, p.width, -INFINITY, packed)
        return
    p.clamped = factor_row(scores, n * n, factors, clamped)
    for i in range(n * n):
        p.overflows |= scores[i] == -INFINITY and transitions[i] > -INFINITY
    p.small_ends = True
    for i in range(n):
        p.small_ends &= (p.start[i] == -INFINITY or fabs(p.start[i]) <= SMALL) and (
            p.end[i] == -INFINITY or fabs(p.end[i]) <= SMALL)
    pack(clamped, n, 1, n, p.width, 0, packed)
    pack(clamped, 1, n, n, p.width, 0, packed_t)


cdef size_t group_bytes(Call *c, bint linear, bint with_sums) noexcept nogil:
    cdef Group g
    memset(&g, 0, sizeof(Group))
    g.problem = &c.problem
    return lay_out_group(&g, c.capacity, c.longest, linear, with_sums, 0)


cdef uintptr_t lay_out_common(Call *c, bint with_sums, uintptr_t base) noexcept nogil:
    """Lay out the arrays that all workers share from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef size_t n = c.problem.n_tags, width = c.problem.width
    c.forms = <double *> take(&cursor, size_sum(size_product(4 * n, n), size_product(2 * width, width)),
                              sizeof(double))
    c.sums = <double *> take(&cursor, size_product(c.n_buckets, n) if with_sums else 0, (n + 2) * sizeof(double))
    c.states = <State *> take(&cursor, c.batch, sizeof(State))
    return cursor


cdef Status set_up(Call *c, bint linear, bint with_sums, int num_threads) noexcept nogil:
    """Allocate the memory of a call, to be released; set the transitions, and sums to zeros."""
    cdef Problem *p = &c.problem
    p.width = round_up(p.n_tags, TAGS)
    p.step = p.width + (TAGS if p.width % 64 == 0 else 0)  # rows a power of two apart would map to the same cache sets
    if not allocate(&c.workspace, lay_out_common(c, with_sums, 0), group_bytes(c, linear, with_sums), num_threads,
                    False):
        return NO_MEMORY
    lay_out_common(c, with_sums, c.workspace.common)
    set_transitions(p, c.transitions, linear, c.forms)
    if with_sums:
        memset(c.sums, 0, c.n_buckets * p.n_tags * (p.n_tags + 2) * sizeof(double))
    else:
        c.sums = NULL
    return DONE


cdef void set_layout(Problem *p, const floating[:, :, :] emissions, const int64_t[:, ::1] tags,
                     floating[:, :, :] grad) noexcept:
    cdef Py_ssize_t size = sizeof(floating)
    p.n_frames, p.n_tags = emissions.shape[1], emissions.shape[2]
    p.x_batch, p.x_frame = emissions.strides[0] // size, emissions.strides[1] // size
    if grad is not None:
        p.g_batch, p.g_frame = grad.strides[0] // size, grad.strides[1] // size
    p.p_frame = p.n_tags * p.n_tags
    if tags is not None and tags.shape[0] and tags.shape[1]:
        p.tags = &tags[0, 0]


cdef void fill_frames(const Problem *p, int64_t b, Py_ssize_t start, Py_ssize_t stop, floating *grad,
                      double value) noexcept nogil:
    cdef Py_ssize_t t, j
    cdef floating *out
    if grad != NULL:
        for t in range(start, stop):
            out = grad + b * p.g_batch + t * p.g_frame
            for j in range(p.n_tags):
                out[j] = <floating> value


cdef void fill_pairs(const Problem *p, int64_t b, Py_ssize_t start, Py_ssize_t stop, floating *pairwise,
                     double value) noexcept nogil:
    cdef Py_ssize_t k
    if pairwise != NULL:
        for k in range(start * p.p_frame, stop * p.p_frame):
            pairwise[b * p.p_batch + k] = <floating> value


cdef void add_up(Call *c) noexcept nogil:
    """Add the sums of all buckets, in their order."""
    cdef Py_ssize_t _bucket, k, n = c.problem.n_tags
    cdef const double *sums = c.sums
    for _bucket in range(c.n_buckets):
        for k in range(n * n):
            c.grad_transitions[k] += sums[k]
        for k in range(n):
            c.grad_start[k] += sums[n * n + k]
            c.grad_end[k] += sums[n * n + n + k]
        sums += n * (n + 2)


# ---- sums over all paths --------------------------------------------------------------------

cdef void run_group(Call *c, Group *g, const floating *x, floating *grad, floating *pairwise, double *start,
                    double *end) noexcept nogil:
    """Run the fast path of a group; sets losses and states of its sequences."""
    cdef double log_sum[MOST]
    cdef Py_ssize_t r
    forward(g, x)
    for r in range(g.rows):
        log_sum[r] = log_total(g, r)
    if grad != NULL or is_clamped(g):
        sweep_back(g, x, grad, pairwise, start, end)
    for r in range(g.rows):
        c.states[g.b[r]] = g.state[r]
        c.loss[g.b[r]] = g.offset[r] + (g.rest[r] + (log_sum[r] if g.state[r] == FAST else 0))


cdef void complete_sequence(Call *c, Group *g, int64_t b, const floating *x, floating *grad, floating *pairwise,
                            double *sums) noexcept nogil:
    """Complete a sequence: general path, tagged path in the sums, losses that are NaN or infinite."""
    cdef const Problem *p = &c.problem
    cdef Py_ssize_t n = p.n_tags, last = p.lengths[b] - 1, t
    cdef double *start = sums + n * n if sums != NULL else NULL
    cdef double *end = start + n if sums != NULL else NULL
    cdef double log_sum
    cdef const int64_t *tags = p.tags + b * p.n_frames
    if c.states[b] == GENERAL:
        log_sum = general(g, b, x, grad, pairwise, sums, start, end)
        c.loss[b] += log_sum
        if log_sum < -exact_from(p.lengths[b]):
            c.states[b] = EXACT
    if c.states[b] == EXACT:
        c.loss[b] = exact_sum(p, b, x, grad, pairwise, sums, start, end, &c.states[b], p.no_memory)
    if c.states[b] == IMPOSSIBLE:
        c.loss[b] = -INFINITY if p.tags == NULL else INFINITY
        fill_frames(p, b, 0, last + 1, grad, 0)
        fill_pairs(p, b, 0, last, pairwise, 0)
    elif c.states[b] == NOT_A_NUMBER:
        c.loss[b] = NAN
        fill_frames(p, b, 0, last + 1, grad, NAN)
        fill_pairs(p, b, 0, last, pairwise, NAN)
        if sums != NULL:
            fill(sums, n * (n + 2), NAN)
    elif p.tags != NULL:
        c.loss[b] = max(c.loss[b], 0)  # negative by rounding only
        if sums != NULL:
            for t in range(last):
                sums[tags[t] * n + tags[t + 1]] -= p.scale[b]
            start[tags[0]] -= p.scale[b]
            end[tags[last]] -= p.scale[b]


cdef void deal_group(Call *c, Group *g, Py_ssize_t k) noexcept nogil:
    """Set g to the kth group."""
    cdef Py_ssize_t first = k * c.capacity
    set_group(g, c.order + first, min(c.capacity, c.n - first))


cdef void run_bucket(Call *c, Py_ssize_t bucket, uintptr_t workspace, const floating *x, floating *grad,
                     floating *pairwise) noexcept nogil:
    cdef Group g
    cdef Py_ssize_t n = c.problem.n_tags, k, i, first
    cdef Py_ssize_t turns = (c.n_groups - bucket + c.n_buckets - 1) // c.n_buckets
    cdef double *sums = NULL
    cdef double *start = NULL
    cdef double *end = NULL
    memset(&g, 0, sizeof(Group))
    g.problem = &c.problem
    lay_out_group(&g, c.capacity, c.longest, True, c.sums != NULL, workspace)
    if c.sums != NULL:
        sums = c.sums + bucket * n * (n + 2)
        start, end = sums + n * n, sums + n * n + n
        fill(g.packed, c.problem.width * c.problem.width, 0)
    for i in range(turns):
        deal_group(c, &g, bucket + i * c.n_buckets)
        run_group(c, &g, x, grad, pairwise, start, end)
    if sums != NULL:
        unpack(g.packed, n, c.problem.width, sums)
        for i in range(n * n):
            sums[i] *= c.problem.factors[i]
    for i in range(turns):
        first = (bucket + i * c.n_buckets) * c.capacity
        for k in range(first, min(first + c.capacity, c.n)):
            complete_sequence(c, &g, c.order[k], x, grad, pairwise, sums)


cdef void run_worker(Call *c, const floating *x, floating *grad, floating *pairwise, Loop *loop,
                     int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, bucket
    while next_items(loop, worker, &first, &last):
        for bucket in range(first, last):
            run_bucket(c, bucket, part_of(&c.workspace, worker), x, grad, pairwise)


cdef Status run_batch(Call *c, const floating *x, floating *grad, floating *pairwise, int num_threads) noexcept nogil:
    """Run all sequences; x, grad, pairwise are the first one's. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    cdef bint with_sums = c.grad_transitions != NULL
    deal(c, with_sums, num_threads)
    if set_up(c, True, with_sums, num_threads) != DONE:
        return NO_MEMORY
    clear(c, grad, pairwise)
    begin(&loop, c.n_buckets, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_worker(c, x, grad, pairwise, &loop, threadid())
    if with_sums and loop.status == DONE:
        add_up(c)
    release(&c.workspace)
    return loop.status


cdef void set_parameters(Call *c, const int64_t[::1] lengths, const double[:, ::1] transitions,
                         const double[::1] start, const double[::1] end, const double[::1] scale,
                         const int64_t[::1] order, double[::1] loss, double[:, ::1] grad_transitions,
                         double[::1] grad_start, double[::1] grad_end) noexcept:
    c.problem.lengths, c.problem.scale, c.loss = &lengths[0], &scale[0], &loss[0]
    c.problem.start, c.problem.end, c.transitions = &start[0], &end[0], &transitions[0, 0]
    c.batch, c.n, c.order = lengths.shape[0], order.shape[0], &order[0] if order.shape[0] else NULL
    if grad_transitions is not None:
        c.grad_transitions, c.grad_start, c.grad_end = &grad_transitions[0, 0], &grad_start[0], &grad_end[0]


def partition(const floating[:, :, :] emissions, const int64_t[:, ::1] tags, const int64_t[::1] lengths,
              const double[:, ::1] transitions, const double[::1] start, const double[::1] end,
              const double[::1] scale, const int64_t[::1] order, double[::1] loss, floating[:, :, :] grad,
              double[:, ::1] grad_transitions, double[::1] grad_start, double[::1] grad_end,
              floating[:, :, :, ::1] pairwise, int num_threads):
    """Log of the sum over all paths, less the score of the tagged path if tags are given. Gradients times scale.

    IN   emissions [B, T, K], not overlapped by grad; tags [B, T] or None; order: the sequences that count, of at
         least one frame, longest first.
    OUT  loss [B], 0 of the others; grad [B, T, K] or None; pairwise [B, T - 1, K, K] or None, requires grad;
         grad_transitions [K, K], grad_start, grad_end [K], zeros to be added to, or None.
    """
    cdef Call c
    cdef Status status
    cdef bint no_memory = False
    cdef const floating *x = NULL
    cdef floating *g = NULL
    cdef floating *pairs = NULL
    memset(&c, 0, sizeof(Call))
    set_layout(&c.problem, emissions, tags, grad)
    if emissions.shape[0] == 0:
        return
    set_parameters(&c, lengths, transitions, start, end, scale, order, loss, grad_transitions, grad_start, grad_end)
    c.problem.no_memory = &no_memory
    if c.problem.n_frames:
        x = &emissions[0, 0, 0]
        g = &grad[0, 0, 0] if grad is not None else NULL
        if pairwise is not None and c.problem.n_frames > 1:
            pairs, c.problem.p_batch = &pairwise[0, 0, 0, 0], (c.problem.n_frames - 1) * c.problem.p_frame
    with nogil:
        status = run_batch(&c, x, g, pairs, num_threads)
    check(status, c.workspace.size)
    if no_memory:
        raise MemoryError("no memory for the exact sums of a sequence with very large scores")


cdef void clear(Call *c, floating *grad, floating *pairwise) noexcept nogil:
    """Set gradients to zero in the padding and for sequences that do not count."""
    cdef const Problem *p = &c.problem
    cdef Py_ssize_t b, k
    for b in range(c.batch):
        c.states[b] = IMPOSSIBLE
        c.loss[b] = 0
    for k in range(c.n):
        c.states[c.order[k]] = FAST
    for b in range(c.batch):
        k = p.lengths[b] if c.states[b] == FAST else 0
        fill_frames(p, b, k, p.n_frames, grad, 0)
        fill_pairs(p, b, max(k - 1, 0), max(p.n_frames - 1, 0), pairwise, 0)


# ---- best paths -----------------------------------------------------------------------------

cdef void rank_paths(Call *c, Group *g, Py_ssize_t r, const floating *x, int64_t *paths) noexcept nogil:
    """List the best paths of a sequence; `found` is -1 if there are some, but sums in the search may be rounded."""
    cdef const Problem *p = &c.problem
    cdef int64_t b = g.b[r]
    cdef Py_ssize_t i, n
    cdef double *scores = c.loss + b * c.n_best
    cdef double score = trace(g, r, paths)
    scores[0] = score
    if is_rounded(g, r, score):
        scores[0] = exact_best(p, b, x, paths, &g.state[r], p.no_memory)
        c.found[b] = -1 if paths[0] >= 0 else 0
    elif g.state[r] == NOT_A_NUMBER:
        fill(scores, c.n_best, NAN)
    elif score > -INFINITY:
        n = list_paths(alpha_row(g, 0, r), g.capacity * p.step, g.frames[r], p.n_tags, p.scores_t, 0,
                       c.n_best, p.n_frames, paths)
        if n < 0:
            p.no_memory[0] = True
            return
        c.found[b] = n
        for i in range(n):
            scores[i] = path_score(g, r, x, paths + i * p.n_frames, score)


cdef void run_best(Call *c, Py_ssize_t bucket, uintptr_t workspace, const floating *x, floating *grad) noexcept nogil:
    cdef Group g
    cdef const Problem *p = &c.problem
    cdef Py_ssize_t n = p.n_tags, i, r, turns = (c.n_groups - bucket + c.n_buckets - 1) // c.n_buckets
    cdef int64_t b
    cdef int64_t *path
    cdef double *sums = c.sums + bucket * n * (n + 2) if c.sums != NULL else NULL
    memset(&g, 0, sizeof(Group))
    g.problem = p
    lay_out_group(&g, c.capacity, c.longest, False, False, workspace)
    for i in range(turns):
        deal_group(c, &g, bucket + i * c.n_buckets)
        best_scores(&g, x)
        for r in range(g.rows):
            b = g.b[r]
            path = c.paths + b * c.n_best * p.n_frames
            if c.found != NULL:
                rank_paths(c, &g, r, x, path)
                continue
            c.loss[b] = trace(&g, r, path)
            if is_rounded(&g, r, c.loss[b]):
                c.loss[b] = exact_best(p, b, x, path, &g.state[r], p.no_memory)
            elif p.tags != NULL:
                c.loss[b] = margin(&g, r, x, path, c.loss[b])
            else:
                c.loss[b] = path_score(&g, r, x, path, c.loss[b])
            if p.tags == NULL:
                continue
            if g.state[r] == NOT_A_NUMBER:
                fill_frames(p, b, 0, g.frames[r], grad, NAN)
                if sums != NULL:
                    fill(sums, n * (n + 2), NAN)
            elif g.state[r] == FAST and c.loss[b] > 0 and sums != NULL:
                subtract_paths(&g, r, path, grad, sums, sums + n * n, sums + n * n + n)


cdef void run_best_worker(Call *c, const floating *x, floating *grad, Loop *loop, int worker) noexcept nogil:
    cdef Py_ssize_t first, last = 0, bucket
    while next_items(loop, worker, &first, &last):
        for bucket in range(first, last):
            run_best(c, bucket, part_of(&c.workspace, worker), x, grad)


cdef Status run_best_batch(Call *c, const floating *x, floating *grad, int num_threads) noexcept nogil:
    """Run all sequences; x and grad are the first one's. Allocates the workspace; does not need the GIL."""
    cdef Loop loop
    cdef bint with_sums = c.grad_transitions != NULL
    cdef Py_ssize_t b, k
    deal(c, with_sums, num_threads)
    if set_up(c, False, with_sums, num_threads) != DONE:
        return NO_MEMORY
    fill(c.loss, c.batch * c.n_best, -INFINITY)
    for b in range(c.batch):
        c.loss[b * c.n_best] = 0
        fill_frames(&c.problem, b, 0, c.problem.n_frames, grad, 0)
        if c.found != NULL:
            c.found[b] = 0
    for k in range(c.batch * c.n_best * c.problem.n_frames):
        c.paths[k] = -1
    begin(&loop, c.n_buckets, num_threads)
    while enter(&loop):
        with parallel(num_threads=loop.workers, use_threads_if=loop.workers > 1):
            run_best_worker(c, x, grad, &loop, threadid())
    if with_sums and loop.status == DONE:
        add_up(c)
    release(&c.workspace)
    return loop.status


def best_paths(const floating[:, :, :] emissions, const int64_t[:, ::1] tags, const int64_t[::1] lengths,
               const double[:, ::1] transitions, const double[::1] start, const double[::1] end, cost,
               const double[::1] scale, const int64_t[::1] order, int64_t[:, ::1] paths, int64_t[::1] found,
               double[::1] loss, floating[:, :, :] grad, double[:, ::1] grad_transitions, double[::1] grad_start,
               double[::1] grad_end, int num_threads):
    """Scores of the best paths, less that of the tagged path if tags are given. Subgradients times scale.

    IN   as for partition; cost: float64 [K, K] to be added to the emissions, row tags[b, t], or None.
    OUT  paths [B, T], -1 without a path; loss [B], 0 of sequences that do not count; grad [B, T, K] and
         grad_transitions [K, K], grad_start, grad_end [K], zeros to be added to, or all None.
         found: None, or the number of paths [B] of up to N = n_best, without tags: paths are [B, N T] then, and loss
         [B N], -inf without a path; -1 for sequences whose other paths may be in error by rounding.
    """
    cdef Call c
    cdef Status status
    cdef bint no_memory = False
    cdef const double[:, ::1] costs = cost
    cdef const floating *x = NULL
    cdef floating *g = NULL
    memset(&c, 0, sizeof(Call))
    set_layout(&c.problem, emissions, tags, grad)
    if emissions.shape[0] == 0 or c.problem.n_frames == 0:
        loss[:] = 0
        return
    set_parameters(&c, lengths, transitions, start, end, scale, order, loss, grad_transitions, grad_start, grad_end)
    c.paths, c.problem.no_memory = &paths[0, 0], &no_memory
    c.n_best = loss.shape[0] // c.batch
    c.found = &found[0] if found is not None else NULL
    c.problem.cost = &costs[0, 0] if costs is not None else NULL
    x = &emissions[0, 0, 0]
    g = &grad[0, 0, 0] if grad is not None else NULL
    with nogil:
        status = run_best_batch(&c, x, g, num_threads)
    check(status, c.workspace.size)
    if no_memory:
        raise MemoryError("no memory for the exact sums of a sequence with very large scores")
