"""The graph of states of the labels of a sequence: the classes it uses, and the transitions between states.

Blank states 0 to S and label states 0 to S - 1 lie in two rows of `width` elements, whose index 0 follows PAD elements;
states beyond the last label are padding.
"""

from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.parallel.workspace cimport round_up, take


cdef extern from "ctc/lattice.h" nogil:
    enum:
        STATES "FSL_CTC_STATES"

# Elements before index 0 of every row of states: refresh reads WINDOW states back.
cdef enum:
    PAD = 16


cdef struct LabelGraph:
    Py_ssize_t n_labels                    # S
    Py_ssize_t used                        # classes used, the blank first
    Py_ssize_t size, width                 # padded number of states of a kind; with PAD, elements of a row
    int32_t *position                      # [V] index of a class in `classes`, with which it forms a sparse set
    int64_t *classes                       # [used]
    int32_t *u                             # [width] class of a label state, as an index into `classes`
    float *skip                            # [width] 1 where l[i-1] may be followed by l[i], else 0
    int64_t *need                          # [S] number of frames before a label is reachable


cdef inline void lay_out_labels(LabelGraph *graph, Py_ssize_t most, uintptr_t *cursor) noexcept nogil:
    """Set the sizes of a graph of n_labels labels and at most `most` classes, and lay out its arrays at the cursor."""
    graph.size = round_up(graph.n_labels + 1, STATES)
    graph.width = PAD + graph.size + STATES
    graph.classes = <int64_t *> take(cursor, most, sizeof(int64_t))
    graph.u = <int32_t *> take(cursor, graph.width, sizeof(int32_t))
    graph.skip = <float *> take(cursor, graph.width, sizeof(float))
    graph.need = <int64_t *> take(cursor, graph.n_labels, sizeof(int64_t))


cdef inline void set_labels(LabelGraph *graph, const int64_t *labels, int64_t blank) noexcept nogil:
    """Number the classes that occur, blank first, and find the labels that may follow another without a blank."""
    cdef Py_ssize_t i, k
    cdef int64_t frame = 0
    graph.classes[0] = blank
    graph.used = 1
    for i in range(graph.n_labels):
        k = graph.position[labels[i]]
        if not (0 < k < graph.used and graph.classes[k] == labels[i]):
            k = graph.used
            graph.classes[k] = labels[i]
            graph.position[labels[i]] = <int32_t> k
            graph.used += 1
        graph.u[PAD + i] = <int32_t> k
    memset(graph.skip, 0, graph.width * sizeof(float))
    for i in range(graph.n_labels):
        if i > 0:
            frame += 1
            if labels[i] == labels[i - 1]:
                frame += 1
            else:
                graph.skip[PAD + i] = 1
        graph.need[i] = frame
    for i in range(PAD):
        graph.u[i] = <int32_t> graph.used
    for i in range(PAD + graph.n_labels, graph.width):
        graph.u[i] = <int32_t> graph.used


cdef inline void reverse_labels(LabelGraph *back, const LabelGraph *graph) noexcept nogil:
    """Set the labels of a graph in reversed order, in another of the same sizes."""
    cdef Py_ssize_t i, n = graph.n_labels
    cdef int64_t frame = 0
    back.classes, back.used = graph.classes, graph.used
    memset(back.skip, 0, back.width * sizeof(float))
    for i in range(back.width):
        back.u[i] = <int32_t> graph.used
    for i in range(n):
        back.u[PAD + i] = graph.u[PAD + n - 1 - i]
        if i > 0:
            back.skip[PAD + i] = graph.skip[PAD + n - i]
            frame += 1 if back.skip[PAD + i] > 0 else 2
        back.need[i] = frame


cdef inline Py_ssize_t first_alive(const LabelGraph *graph, Py_ssize_t frames_left) noexcept nogil:
    """First label from which the end is reachable in frames_left frames."""
    cdef Py_ssize_t lo = 0, hi = graph.n_labels, mid
    if graph.n_labels == 0:
        return 0
    cdef int64_t least = graph.need[graph.n_labels - 1] - frames_left
    while lo < hi:
        mid = (lo + hi) // 2
        if graph.need[mid] < least:
            lo = mid + 1
        else:
            hi = mid
    return lo


cdef inline Py_ssize_t first_unreached(const LabelGraph *graph, Py_ssize_t t) noexcept nogil:
    """First label that is not reachable by frame t."""
    cdef Py_ssize_t lo = 0, hi = graph.n_labels, mid
    while lo < hi:
        mid = (lo + hi) // 2
        if graph.need[mid] <= t:
            lo = mid + 1
        else:
            hi = mid
    return lo
