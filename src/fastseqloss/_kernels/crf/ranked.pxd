"""The best paths of a sequence, best first.

The paths that have not been listed form sets: all paths that share their last frames with a listed path and have
another tag before these. The scores of a Viterbi search tell the best path of each set, and listing it splits the set
into new ones (E. L. Lawler, "A procedure for computing the k best solutions", Management Science 18, 1972). A frame of
a listed path takes one comparison for each tag, a frame of the search one for each pair of tags.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove


cdef extern from "crf/lattice.h" nogil:
    Py_ssize_t first_best "fsl_crf_first_best"(const double *a, const double *b, Py_ssize_t n) noexcept


cdef enum:
    UNKNOWN = -2


# The paths that have the frames of the path `parent` from `frame` on, and `tag` at the frame before.
cdef struct PathSet:
    double regret           # score of the best path, less that of the best path of the set
    Py_ssize_t parent, frame, tag


cdef struct Ranking:
    const double *alpha     # [T, stride] scores of the best paths to each tag
    const double *into      # [n_tags, n_tags] scores of transitions, to and from
    Py_ssize_t between      # elements between the transitions to a frame and to the next one, or 0
    Py_ssize_t stride, n_tags
    Py_ssize_t path_size    # elements between paths
    int64_t *paths          # the listed paths, best first
    Py_ssize_t rank         # of the path that is being listed
    PathSet *sets           # the best sets, best first
    Py_ssize_t n, most      # number of sets; number of paths to list after this one
    Py_ssize_t *apart       # [n_best] last frame at which the path of each rank and the one of `rank` differ


cdef inline Py_ssize_t last_difference(Ranking *r, Py_ssize_t other) noexcept nogil:
    """Last frame at which another path differs from the one that is being listed; -1 for that one itself."""
    cdef const int64_t *path = r.paths + r.rank * r.path_size
    cdef const int64_t *second = r.paths + other * r.path_size
    cdef Py_ssize_t t
    if other == r.rank:
        return -1
    t = r.apart[other]
    if t == UNKNOWN:
        t = r.path_size - 1
        while path[t] == second[t]:
            t -= 1
        r.apart[other] = t
    return t


cdef inline bint precedes(Ranking *r, const PathSet *a, const PathSet *b) noexcept nogil:
    """Return True if the best path of set a, of the path that is being listed, comes before that of set b.

    Of paths with equal scores, the one with the smaller tag at the last frame where they differ comes first.
    """
    cdef const int64_t *path = r.paths + a.parent * r.path_size
    cdef const int64_t *second = r.paths + b.parent * r.path_size
    cdef Py_ssize_t t
    if a.regret != b.regret:
        return a.regret < b.regret
    t = last_difference(r, b.parent)
    if t >= max(a.frame, b.frame):
        return path[t] < second[t]
    if a.frame == b.frame:
        return a.tag < b.tag
    return a.tag < second[a.frame - 1] if a.frame > b.frame else path[b.frame - 1] < b.tag


cdef inline void add_set(Ranking *r, const PathSet *new) noexcept nogil:
    """Add a set, unless there are enough that precede it."""
    cdef Py_ssize_t k = r.n
    if k == r.most:
        if not precedes(r, new, &r.sets[k - 1]):
            return
        k -= 1
    else:
        r.n += 1
    while k > 0 and precedes(r, new, &r.sets[k - 1]):
        r.sets[k] = r.sets[k - 1]
        k -= 1
    r.sets[k] = new[0]


cdef inline void add_sets(Ranking *r, const double *a, const double *into, Py_ssize_t frame, Py_ssize_t best,
                          double regret) noexcept nogil:
    """Add the sets of paths with another tag than `best` at the frame before `frame`."""
    cdef PathSet new
    cdef Py_ssize_t i
    cdef double score = a[best] + into[best]
    new.parent, new.frame = r.rank, frame
    for i in range(r.n_tags):
        new.regret = regret + (score - (a[i] + into[i]))
        if new.regret < INFINITY and i != best and (r.n < r.most or new.regret <= r.sets[r.n - 1].regret):
            new.tag = i
            add_set(r, &new)


cdef inline void complete_path(Ranking *r, Py_ssize_t frame, double regret) noexcept nogil:
    """Set the tags of the path before `frame`, and add the sets of paths that branch off there."""
    cdef int64_t *path = r.paths + r.rank * r.path_size
    cdef const double *a
    cdef const double *into
    cdef Py_ssize_t t
    for t in range(r.rank):
        r.apart[t] = UNKNOWN
    for t in range(frame, 0, -1):
        a, into = r.alpha + (t - 1) * r.stride, r.into + t * r.between + path[t] * r.n_tags
        path[t - 1] = first_best(a, into, r.n_tags)
        if r.most:
            add_sets(r, a, into, t, path[t - 1], regret)


cdef inline void add_last_sets(Ranking *r, const double *last, Py_ssize_t n_frames, Py_ssize_t best) noexcept nogil:
    """Add the sets of paths with another last tag than the best."""
    cdef PathSet new
    cdef Py_ssize_t j
    new.parent, new.frame = 0, n_frames
    for j in range(r.n_tags):
        new.regret, new.tag = last[best] - last[j], j
        if j != best and new.regret < INFINITY:
            add_set(r, &new)


cdef inline Py_ssize_t rank_paths(const double *alpha, Py_ssize_t stride, Py_ssize_t n_frames, Py_ssize_t n_tags,
                                  const double *into, Py_ssize_t between, Py_ssize_t n_best, Py_ssize_t path_size,
                                  int64_t *paths) noexcept nogil:
    """List the best paths, of which there is at least one; returns their number, or -1 without memory.

    IN   alpha [T, stride]: scores of the best paths to each tag; into [n_tags, n_tags]: transitions, to and from, those
         to a frame `between` elements after those to the frame before.
    OUT  paths [n_best, path_size], best first, up to n_frames each.
    """
    cdef Ranking r
    cdef PathSet best
    cdef const double *last = alpha + (n_frames - 1) * stride
    cdef Py_ssize_t j
    r.alpha, r.stride, r.into, r.between, r.n_tags = alpha, stride, into, between, n_tags
    r.paths, r.path_size, r.rank, r.n, r.most = paths, path_size, 0, 0, n_best - 1
    r.sets = <PathSet *> malloc(n_best * sizeof(PathSet))
    r.apart = <Py_ssize_t *> malloc(n_best * sizeof(Py_ssize_t))
    if r.sets == NULL or r.apart == NULL:
        free(r.sets)
        free(r.apart)
        return -1
    best.regret, best.parent, best.frame, best.tag = 0, 0, n_frames, 0
    for j in range(1, n_tags):
        if last[j] > last[best.tag]:
            best.tag = j
    paths[n_frames - 1] = best.tag
    if r.most:
        add_last_sets(&r, last, n_frames, best.tag)
    complete_path(&r, n_frames - 1, 0)
    while r.n:
        best = r.sets[0]
        r.n, r.rank, r.most = min(r.n - 1, r.most - 1), r.rank + 1, r.most - 1
        memmove(r.sets, r.sets + 1, r.n * sizeof(PathSet))
        memcpy(paths + r.rank * path_size + best.frame, paths + best.parent * path_size + best.frame,
               (n_frames - best.frame) * sizeof(int64_t))
        paths[r.rank * path_size + best.frame - 1] = best.tag
        complete_path(&r, best.frame - 1, best.regret)
    free(r.sets)
    free(r.apart)
    return r.rank + 1
