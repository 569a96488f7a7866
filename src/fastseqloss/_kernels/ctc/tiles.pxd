"""Frames of few classes, opened and closed in tiles: scores in, emissions; posteriors, gradient out."""

from cython cimport floating
from libc.math cimport NAN, isnan
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.codes cimport LOGITS
from fastseqloss._kernels.ctc.sequence cimport Sequence
from fastseqloss._kernels.lattice.extended_range cimport BUDGET
from fastseqloss._kernels.parallel.workspace cimport size_product, take
from fastseqloss._kernels.simd.softmax cimport add_exactly, log64


cdef extern from "ctc/stripes.h" nogil:
    enum:
        FRAMES "FSL_FRAMES"
        MOST_CLASSES "FSL_TILE_CLASSES"
    const double LOG2E "FSL_LOG2E"
    void open_tile_f32 "fsl_open_tile_f32"(const float *x, Py_ssize_t stride, int n, Py_ssize_t n_classes, float *tile,
                                           double *y, double *sum, double *range) noexcept
    void open_tile_f64 "fsl_open_tile_f64"(const double *x, Py_ssize_t stride, int n, Py_ssize_t n_classes,
                                           double *tile, double *y, double *sum, double *range) noexcept
    void open_classes_f32 "fsl_open_classes_f32"(const float *x, Py_ssize_t stride, int n, Py_ssize_t n_classes,
                                                 const int64_t *classes, Py_ssize_t n_used, float *tile, double *y,
                                                 double *sum, double *range, double *m) noexcept
    void open_classes_f64 "fsl_open_classes_f64"(const double *x, Py_ssize_t stride, int n, Py_ssize_t n_classes,
                                                 const int64_t *classes, Py_ssize_t n_used, double *tile, double *y,
                                                 double *sum, double *range, double *m) noexcept
    void close_classes_f32 "fsl_close_classes_f32"(const double *post, double scale, Py_ssize_t stride, int n,
                                                   Py_ssize_t n_classes, float *tile, float *x) noexcept
    void close_classes_f64 "fsl_close_classes_f64"(const double *post, double scale, Py_ssize_t stride, int n,
                                                   Py_ssize_t n_classes, double *tile, double *x) noexcept
    void close_tile_f32 "fsl_close_tile_f32"(const double *y, const double *sum, const double *post, double scale,
                                             Py_ssize_t stride, int n, Py_ssize_t n_classes, float *tile,
                                             float *x) noexcept
    void close_tile_f64 "fsl_close_tile_f64"(const double *y, const double *sum, const double *post, double scale,
                                             Py_ssize_t stride, int n, Py_ssize_t n_classes, double *tile,
                                             double *x) noexcept

cdef enum:
    KEPT_TILES = 1 << 22  # bytes of emissions that are kept as a whole


cdef struct Tiles:
    Py_ssize_t n, kept     # tiles of the sequence; tiles whose emissions are kept, the latest ones
    Py_ssize_t opened      # tiles opened so far
    double *y              # [kept, V + 1, FRAMES] emissions, exp(x - max); the last row is 0, for padding states
    double *sum            # [n, FRAMES] sums of the emissions of a frame
    double *cost           # [n, FRAMES] range of the emissions in binary orders of magnitude
    double *post           # [V + 1, FRAMES] posteriors of the classes
    void *scratch          # [V, FRAMES]
    double *product        # [FRAMES] sums whose log remains to be added
    double log_norm, log_rest


cdef inline void lay_out_tiles(Tiles *z, const Sequence *s, Py_ssize_t block, uintptr_t *cursor) noexcept nogil:
    cdef Py_ssize_t tile = (s.n_classes + 1) * FRAMES * sizeof(double)
    z.n = (s.frames + FRAMES - 1) // FRAMES
    z.kept = z.n
    if size_product(z.n, tile) > <size_t> KEPT_TILES:
        z.kept = min(z.n, block // FRAMES + 6)  # a block, and the frames of a window ahead
    z.y = <double *> take(cursor, z.kept, tile)
    z.sum = <double *> take(cursor, z.n, FRAMES * sizeof(double))
    z.cost = <double *> take(cursor, z.n, FRAMES * sizeof(double))
    z.post = <double *> take(cursor, 1, tile)
    z.scratch = take(cursor, 1, tile)
    z.product = <double *> take(cursor, FRAMES, sizeof(double))


cdef inline double *emissions_of(const Tiles *z, const Sequence *s, Py_ssize_t tile) noexcept nogil:
    return z.y + (tile if z.kept == z.n else tile % z.kept) * (s.n_classes + 1) * FRAMES


cdef inline double blank_of(const Tiles *z, const Sequence *s, Py_ssize_t t) noexcept nogil:
    """Emission of the blank at frame t."""
    return emissions_of(z, s, t // FRAMES)[s.blank * FRAMES + t % FRAMES]


cdef inline void begin_tiles(Tiles *z, const Sequence *s) noexcept nogil:
    cdef Py_ssize_t i
    z.opened, z.log_norm, z.log_rest = 0, 0, 0
    for i in range(z.kept):
        memset(z.y + (i * (s.n_classes + 1) + s.n_classes) * FRAMES, 0, FRAMES * sizeof(double))
    for i in range(FRAMES):
        z.product[i] = 1


cdef inline void add_logs(Tiles *z) noexcept nogil:
    """Add the logs of the sums of the frames so far."""
    cdef Py_ssize_t i
    for i in range(FRAMES):
        add_exactly(&z.log_norm, &z.log_rest, log64(z.product[i]))
        z.product[i] = 1


cdef inline int frames_of(const Sequence *s, Py_ssize_t tile) noexcept nogil:
    return <int> min(<Py_ssize_t> FRAMES, s.frames - tile * FRAMES)


cdef inline void read_tile(Tiles *z, const Sequence *s, const floating *x, Py_ssize_t tile, double *spans,
                           double *most) noexcept nogil:
    """Set the emissions of a tile, their sums, and the distance of the least emission of each frame below 1.

    The distance is in binary orders of magnitude. Log-probabilities are relative to the greatest of the classes that
    occur, which is set; other classes do not matter.
    """
    cdef const floating *first = x + tile * FRAMES * s.x_stride
    cdef double *y = emissions_of(z, s, tile)
    cdef double *sum = z.sum + tile * FRAMES
    cdef int n = frames_of(s, tile)
    if s.input == LOGITS:
        if floating is float:
            open_tile_f32(first, s.x_stride, n, s.n_classes, <float *> z.scratch, y, sum, spans)
        else:
            open_tile_f64(first, s.x_stride, n, s.n_classes, <double *> z.scratch, y, sum, spans)
    elif floating is float:
        open_classes_f32(first, s.x_stride, n, s.n_classes, s.graph.classes, s.graph.used, <float *> z.scratch, y,
                         sum, spans, most)
    else:
        open_classes_f64(first, s.x_stride, n, s.n_classes, s.graph.classes, s.graph.used, <double *> z.scratch, y,
                         sum, spans, most)


cdef inline void narrow_range(Tiles *z, const Sequence *s, const floating *x, Py_ssize_t t) noexcept nogil:
    """Take the range of a frame over the classes that occur in the labels, and the greatest logit, only."""
    cdef const floating *frame = x + t * s.x_stride
    cdef floating most = frame[0], least
    cdef Py_ssize_t k
    least = frame[s.blank]
    for k in range(s.n_classes):
        most = max(most, frame[k])
    for k in range(s.graph.used):
        least = min(least, frame[s.graph.classes[k]])
    z.cost[t] = (<double> most - <double> least) * LOG2E


cdef inline void open_tiles(Tiles *z, const Sequence *s, const floating *x, Py_ssize_t stop) noexcept nogil:
    """Open the tiles before `stop` on the first visit."""
    cdef double most[FRAMES]
    cdef double *cost
    cdef double *sum
    cdef Py_ssize_t i
    while z.opened < stop:
        cost, sum = z.cost + z.opened * FRAMES, z.sum + z.opened * FRAMES
        read_tile(z, s, x, z.opened, cost, most)
        for i in range(frames_of(s, z.opened)):
            if s.input == LOGITS:
                z.product[i] *= sum[i]
                if not cost[i] <= BUDGET:
                    narrow_range(z, s, x, z.opened * FRAMES + i)
            else:
                add_exactly(&z.log_norm, &z.log_rest, NAN if isnan(sum[i]) else -most[i])
        z.opened += 1
        if z.opened % 64 == 0:  # a product is at most MOST_CLASSES^64
            add_logs(z)


cdef inline void open_again(Tiles *z, const Sequence *s, const floating *x, Py_ssize_t start,
                            Py_ssize_t stop) noexcept nogil:
    """Compute the emissions of the tiles [start, stop) again if not all are kept."""
    cdef double spans[FRAMES]
    cdef double most[FRAMES]
    cdef Py_ssize_t tile
    if z.kept < z.n:
        for tile in range(start, stop):
            read_tile(z, s, x, tile, spans, most)


cdef inline void write_tile(Tiles *z, const Sequence *s, floating *g, Py_ssize_t tile) noexcept nogil:
    """Write the gradient of a tile from the posteriors of its classes."""
    cdef floating *first = g + tile * FRAMES * s.g_stride
    cdef double *y = emissions_of(z, s, tile)
    cdef double *sum = z.sum + tile * FRAMES
    cdef int n = frames_of(s, tile)
    if s.input == LOGITS:
        if floating is float:
            close_tile_f32(y, sum, z.post, s.scale, s.g_stride, n, s.n_classes, <float *> z.scratch, first)
        else:
            close_tile_f64(y, sum, z.post, s.scale, s.g_stride, n, s.n_classes, <double *> z.scratch, first)
    elif floating is float:
        close_classes_f32(z.post, s.scale, s.g_stride, n, s.n_classes, <float *> z.scratch, first)
    else:
        close_classes_f64(z.post, s.scale, s.g_stride, n, s.n_classes, <double *> z.scratch, first)
