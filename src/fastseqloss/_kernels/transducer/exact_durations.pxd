"""The exact path of a transducer with durations, as in exact.pxd: arcs come from several rows of the grid."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastseqloss._kernels.lattice.exact_sums cimport Levels, add_digits, add_sums, balance, note, rows_of, settle
from fastseqloss._kernels.simd.elements cimport load
from fastseqloss._kernels.simd.softmax cimport exp64, log64
from fastseqloss._kernels.transducer.durations cimport DurationLattice, Durations, node_of
from fastseqloss._kernels.transducer.exact cimport Score, add_terms, note_terms, score_of, split
from fastseqloss._kernels.transducer.nodes cimport Problem, Sequence


cdef struct ExactDurations:
    Levels levels
    Py_ssize_t arcs, n_candidates
    double *memory
    double *best    # [arcs + 1, levels] scores of the best path to each node; the end comes last
    double *value   # [arcs + 1] log of the sum over all paths, relative to it; then occupancies
    double *share   # [2 D, arcs] shares of the arcs in their targets: blank and label of each duration
    double *sums    # [2 D, levels] scores of the paths into a node
    double *rest    # [2 D] their logarithms, relative to these
    double *place   # [2 D] their positions among the shares
    double *zero    # [levels]
    double *logits  # [D]


# ---- arcs -----------------------------------------------------------------------------------

cdef inline void read_logits(ExactDurations *e, const Durations *d, const Sequence *s, Py_ssize_t n, Py_ssize_t u,
                             Score *score) noexcept nogil:
    """Logits of the durations of a node, and the part of their scores that all have in common."""
    cdef Py_ssize_t k
    cdef double most = -INFINITY, total = 0
    load(d.x.kind, node_of(&d.x, s.b, n - u, u), d.size, d.n, e.logits)
    for k in range(d.n):
        most = max(most, e.logits[k])
    for k in range(d.n if most > -INFINITY else 0):
        total += exp64(e.logits[k] - most)
    memset(score, 0, sizeof(Score))
    score.n, score.terms[0], score.terms[1] = 2, -most, -d.sigma
    score.rest = -log64(total)
    if most == -INFINITY:
        score.n, score.rest = 0, -INFINITY


cdef inline void read_levels(ExactDurations *e, const Durations *d, const Problem *p, const Sequence *s) noexcept nogil:
    """Note the scores of all arcs."""
    cdef Py_ssize_t n, u, k
    cdef int kind
    cdef Score score
    memset(&e.levels, 0, sizeof(Levels))
    for n in range(s.grid.rows):
        for u in range(s.grid.first[n], s.grid.last[n] + 1):
            for kind in range(2):
                score = score_of(p, s, s.grid.at[n] + u, kind)
                note_terms(&e.levels, &score)
            read_logits(e, d, s, n, u, &score)
            note_terms(&e.levels, &score)
            for k in range(d.n):
                note(&e.levels, e.logits[k])
    settle(&e.levels)


cdef inline bint reserve(ExactDurations *e, const Durations *d, Py_ssize_t arcs, double *logits) noexcept nogil:
    cdef Py_ssize_t levels = e.levels.n, most = 2 * d.n
    cdef Py_ssize_t numbers = (arcs + 1) * (levels + 1) + most * (arcs + levels + 2) + levels
    if <double> arcs * <double> (levels + most + 1) > 1e17:
        return False
    e.memory = rows_of(numbers, 1)
    if e.memory == NULL:
        return False
    memset(e.memory, 0, numbers * sizeof(double))
    e.arcs, e.logits, e.best = arcs, logits, e.memory
    e.value = e.best + (arcs + 1) * levels
    e.share = e.value + arcs + 1
    e.sums = e.share + most * arcs
    e.rest = e.sums + most * levels
    e.place = e.rest + most
    e.zero = e.place + most
    return True


# ---- forward --------------------------------------------------------------------------------

cdef inline void arrive(ExactDurations *e, const Durations *d, const Problem *p, const Sequence *s, Py_ssize_t n,
                        Py_ssize_t u, bint label, Py_ssize_t k) noexcept nogil:
    """Append the paths into a node by an arc from node u of row n."""
    cdef Py_ssize_t at = s.grid.at[n] + u, levels = e.levels.n
    cdef double *sums = e.sums + e.n_candidates * levels
    cdef Score token = score_of(p, s, at, label), common
    read_logits(e, d, s, n, u, &common)
    if not e.value[at] + token.rest + common.rest + e.logits[k] > -INFINITY:
        return
    split(&e.levels, &token, sums, e.rest + e.n_candidates)
    add_terms(&e.levels, &common, sums)
    add_digits(&e.levels, e.logits[k], 1, sums)
    add_sums(&e.levels, sums, e.best + at * levels, sums)
    e.rest[e.n_candidates] += common.rest + e.value[at]
    e.place[e.n_candidates] = <double> ((2 * k + label) * e.arcs + at)
    e.n_candidates += 1


cdef inline void join(ExactDurations *e, Py_ssize_t to) noexcept nogil:
    """Value of a node from the paths into it, and their shares; without a path, -inf."""
    cdef Py_ssize_t c, first = 0, levels = e.levels.n
    cdef double most = -INFINITY, total = 0
    e.value[to] = -INFINITY
    if e.n_candidates == 0:
        return
    for c in range(1, e.n_candidates):
        if balance(&e.levels, e.sums + c * levels, e.zero, e.sums + first * levels) > 0:
            first = c
    for c in range(e.n_candidates):
        e.rest[c] += balance(&e.levels, e.sums + c * levels, e.zero, e.sums + first * levels)
        most = max(most, e.rest[c])
    for c in range(e.n_candidates):
        total += exp64(e.rest[c] - most)
    memcpy(e.best + to * levels, e.sums + first * levels, levels * sizeof(double))
    e.value[to] = most + log64(total)
    for c in range(e.n_candidates):
        e.share[<Py_ssize_t> e.place[c]] = exp64(e.rest[c] - e.value[to])
    e.n_candidates = 0


cdef inline void arrive_at(ExactDurations *e, const Durations *d, const Problem *p, const Sequence *s, Py_ssize_t n,
                           Py_ssize_t u) noexcept nogil:
    """Append the paths into node u of row n, or into the end if n is the last row."""
    cdef Py_ssize_t k, start
    cdef int label
    for k in range(d.n):
        for label in range(d.values[k] == 0, 2 if n < s.grid.rows else 1):
            if d.values[k] > n - label:
                continue
            start = n - <Py_ssize_t> d.values[k] - label
            if s.grid.first[start] <= u - label <= s.grid.last[start]:
                arrive(e, d, p, s, start, u - label, label, k)


# ---- backward -------------------------------------------------------------------------------

cdef inline void depart_from(ExactDurations *e, const Durations *d, const DurationLattice *lattice, Sequence *s,
                             Py_ssize_t n, Py_ssize_t u) noexcept nogil:
    """Occupancies of the arcs from node u of row n, and the gradient of its durations."""
    cdef Py_ssize_t at = s.grid.at[n] + u, k, to
    cdef double kinds[2]
    cdef double x
    cdef int label
    cdef Score common
    kinds[0] = kinds[1] = 0
    for k in range(d.n):
        lattice.q[k * e.arcs + at] = 0
        for label in range(2):
            x = e.share[(2 * k + label) * e.arcs + at]
            if x > 0:
                to = n + <Py_ssize_t> d.values[k] + label
                x *= e.value[s.grid.at[to] + u + label if to < s.grid.rows else e.arcs]
                kinds[label] += x
                lattice.q[k * e.arcs + at] -= x
    read_logits(e, d, s, n, u, &common)
    for k in range(d.n if common.n else 0):
        lattice.q[k * e.arcs + at] += (kinds[0] + kinds[1]) * exp64(e.logits[k] + common.terms[0] + common.rest)
    e.value[at] = kinds[0] + kinds[1]
    s.grid.blank[at], s.grid.label[at] = kinds[0], kinds[1]


cdef inline bint solve_durations_exactly(const Durations *d, const DurationLattice *lattice, const Problem *p,
                                         Sequence *s, bint backward, double *total) noexcept nogil:
    """Logarithm of the sum over all paths, and whether there is one; on request, occupancies and gradients.

    Returns False if memory is exhausted.
    """
    cdef ExactDurations e
    cdef Py_ssize_t n, u, end = lattice.arcs
    memset(&e, 0, sizeof(ExactDurations))
    e.logits = lattice.scratch
    read_levels(&e, d, p, s)
    if not reserve(&e, d, lattice.arcs, lattice.scratch):
        return False
    for n in range(1, s.grid.rows):
        for u in range(s.grid.first[n], s.grid.last[n] + 1):
            arrive_at(&e, d, p, s, n, u)
            join(&e, s.grid.at[n] + u)
    arrive_at(&e, d, p, s, s.grid.rows, s.grid.end)
    join(&e, end)
    s.has_path = e.value[end] > -INFINITY
    total[0] = e.value[end]
    if s.has_path:
        total[0] += balance(&e.levels, e.best + end * e.levels.n, e.zero, e.zero)
    if s.has_path and backward:
        e.value[end] = 1
        for n in range(s.grid.rows - 1, -1, -1):
            for u in range(s.grid.first[n], s.grid.last[n] + 1):
                depart_from(&e, d, lattice, s, n, u)
    free(e.memory)
    return True
