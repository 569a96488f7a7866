"""Frames opened and closed in tiles: scores in, emissions; posteriors, gradient out.

A tile of few classes is read and written as a whole. Of many classes, and of probabilities, a tile holds the classes
that occur in the labels; its frames take the dense pass one by one.
"""

from cython cimport floating
from libc.math cimport INFINITY, NAN, isnan
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy, memset

from fastseqloss._kernels.codes cimport LOGITS, PROBS
from fastseqloss._kernels.ctc.sequence cimport (
    Sequence, dense_pass, emit_frame, keep_scores, normalise, open_frame,
)
from fastseqloss._kernels.lattice.extended_range cimport BUDGET
from fastseqloss._kernels.parallel.workspace cimport size_product, take
from fastseqloss._kernels.simd.softmax cimport add_exactly, log64


cdef extern from "ctc/stripes.h" nogil:
    enum:
        FRAMES "FSL_FRAMES"
        MOST_CLASSES "FSL_TILE_CLASSES"
    void open_tile_f32 "fsl_open_tile_f32"(const float *x, Py_ssize_t stride, int n, Py_ssize_t n_classes, float *tile,
                                           double *y, double *sum, double *range) noexcept
    void open_tile_f64 "fsl_open_tile_f64"(const double *x, Py_ssize_t stride, int n, Py_ssize_t n_classes,
                                           double *tile, double *y, double *sum, double *range) noexcept
    bint open_classes_f32 "fsl_open_classes_f32"(const float *x, Py_ssize_t stride, int n, Py_ssize_t n_classes,
                                                 const int64_t *classes, Py_ssize_t n_used, float *tile, double *y,
                                                 double *sum, double *range, double *m) noexcept
    bint open_classes_f64 "fsl_open_classes_f64"(const double *x, Py_ssize_t stride, int n, Py_ssize_t n_classes,
                                                 const int64_t *classes, Py_ssize_t n_used, double *tile, double *y,
                                                 double *sum, double *range, double *m) noexcept
    bint narrow_range_f32 "fsl_narrow_range_f32"(const float *tile, Py_ssize_t n_classes, const int64_t *classes,
                                                 Py_ssize_t n_used, double most, double *range) noexcept
    bint narrow_range_f64 "fsl_narrow_range_f64"(const double *tile, Py_ssize_t n_classes, const int64_t *classes,
                                                 Py_ssize_t n_used, double most, double *range) noexcept
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
    void transpose_frames "fsl_transpose_frames"(const double *rows, Py_ssize_t width, double *tile) noexcept
    void gather_column_f32 "fsl_gather_column_f32"(const float *x, const int64_t *classes, Py_ssize_t n_used,
                                                   int frame, float *tile) noexcept
    void gather_column_f64 "fsl_gather_column_f64"(const double *x, const int64_t *classes, Py_ssize_t n_used,
                                                   int frame, double *tile) noexcept
    bint open_columns_f32 "fsl_open_columns_f32"(float *tile, int n, Py_ssize_t n_used, double *y, double *sum,
                                                 double *range, double *m) noexcept
    bint open_columns_f64 "fsl_open_columns_f64"(double *tile, int n, Py_ssize_t n_used, double *y, double *sum,
                                                 double *range, double *m) noexcept
    void scatter_columns_f32 "fsl_scatter_columns_f32"(const double *y, const double *factor, const double *post,
                                                       double scale, Py_ssize_t stride, int n, const int64_t *classes,
                                                       Py_ssize_t n_used, float *tile, float *x) noexcept
    void scatter_columns_f64 "fsl_scatter_columns_f64"(const double *y, const double *factor, const double *post,
                                                       double scale, Py_ssize_t stride, int n, const int64_t *classes,
                                                       Py_ssize_t n_used, double *tile, double *x) noexcept

cdef enum:
    KEPT_TILES = 1 << 22  # bytes of emissions that are kept as a whole


cdef struct Tiles:
    Py_ssize_t frames      # frames in tiles: all of the sequence, or a half
    Py_ssize_t n, kept     # their number; tiles whose emissions are kept, the latest ones
    Py_ssize_t opened      # tiles opened so far
    bint gathered          # a tile holds the classes that occur in the labels, and not all classes
    Py_ssize_t width       # classes of a tile, one of them, whose emissions are 0, for padding states
    Py_ssize_t blank       # the blank among them
    double *y              # [kept, width, FRAMES] emissions, exp(x - max)
    double *sum            # [n, FRAMES] sums of the emissions of a frame
    double *cost           # [n, FRAMES] range of the emissions other than 0 in binary orders of magnitude
    Py_ssize_t first_zero  # first tile with a score of -inf among the classes that occur, or more than there are
    double *post           # [width, FRAMES] posteriors of the classes
    void *scratch          # [width, FRAMES]
    double *product        # [FRAMES] sums whose log remains to be added
    double log_norm, log_rest


cdef inline void lay_out_tiles(Tiles *z, const Sequence *s, Py_ssize_t block, uintptr_t *cursor) noexcept nogil:
    cdef Py_ssize_t tile
    z.gathered = s.n_classes > MOST_CLASSES or s.input == PROBS
    z.width = s.emission_width if z.gathered else s.n_classes + 1
    z.blank = 0 if z.gathered else s.blank
    tile = z.width * FRAMES * sizeof(double)
    z.n = (z.frames + FRAMES - 1) // FRAMES
    z.kept = z.n
    if size_product(z.n, tile) > <size_t> KEPT_TILES:
        z.kept = min(z.n, block // FRAMES + 6)  # a block, and the frames of a window ahead
    z.y = <double *> take(cursor, z.kept, tile)
    z.sum = <double *> take(cursor, z.n, FRAMES * sizeof(double))
    z.cost = <double *> take(cursor, z.n, FRAMES * sizeof(double))
    z.post = <double *> take(cursor, 1, tile)
    z.scratch = take(cursor, 1, tile)
    z.product = <double *> take(cursor, FRAMES, sizeof(double))


cdef inline double *emissions_of(const Tiles *z, Py_ssize_t tile) noexcept nogil:
    return z.y + (tile if z.kept == z.n else tile % z.kept) * z.width * FRAMES


cdef inline double *blanks_of(const Tiles *z, Py_ssize_t tile) noexcept nogil:
    """Emissions of the blank in a tile."""
    return emissions_of(z, tile) + z.blank * FRAMES


cdef inline double blank_of(const Tiles *z, Py_ssize_t t) noexcept nogil:
    """Emission of the blank at frame t."""
    return blanks_of(z, t // FRAMES)[t % FRAMES]


cdef inline void begin_tiles(Tiles *z) noexcept nogil:
    cdef Py_ssize_t i
    z.opened, z.log_norm, z.log_rest, z.first_zero = 0, 0, 0, z.frames
    for i in range(z.kept):
        memset(z.y + (i * z.width + z.width - 1) * FRAMES, 0, FRAMES * sizeof(double))
    for i in range(FRAMES):
        z.product[i] = 1


cdef inline void add_logs(Tiles *z) noexcept nogil:
    """Add the logs of the sums of the frames so far."""
    cdef Py_ssize_t i
    for i in range(FRAMES):
        add_exactly(&z.log_norm, &z.log_rest, log64(z.product[i]))
        z.product[i] = 1


cdef inline int frames_of(const Tiles *z, Py_ssize_t tile) noexcept nogil:
    return <int> min(<Py_ssize_t> FRAMES, z.frames - tile * FRAMES)


cdef inline bint read_tile(Tiles *z, const Sequence *s, const floating *x, Py_ssize_t tile, double *spans,
                           double *most) noexcept nogil:
    """Set the emissions of a tile, their sums, and the distance of the least emission of each frame below 1.

    The distance, in binary orders of magnitude, omits emissions of 0, and classes without label where it would be too
    large. Log-probabilities are relative to the greatest of the classes that occur, which is set; other classes do not
    matter. Returns True if a score of the classes that occur is -inf.
    """
    cdef const floating *first = x + tile * FRAMES * s.x_stride
    cdef double *y = emissions_of(z, tile)
    cdef double *sum = z.sum + tile * FRAMES
    cdef int n = frames_of(z, tile)
    cdef bint zeros
    if s.input == LOGITS:
        if floating is float:
            open_tile_f32(first, s.x_stride, n, s.n_classes, <float *> z.scratch, y, sum, spans)
            zeros = narrow_range_f32(<float *> z.scratch, s.n_classes, s.graph.classes, s.graph.used, BUDGET, spans)
        else:
            open_tile_f64(first, s.x_stride, n, s.n_classes, <double *> z.scratch, y, sum, spans)
            zeros = narrow_range_f64(<double *> z.scratch, s.n_classes, s.graph.classes, s.graph.used, BUDGET, spans)
    elif floating is float:
        zeros = open_classes_f32(first, s.x_stride, n, s.n_classes, s.graph.classes, s.graph.used, <float *> z.scratch,
                                 y, sum, spans, most)
    else:
        zeros = open_classes_f64(first, s.x_stride, n, s.n_classes, s.graph.classes, s.graph.used, <double *> z.scratch,
                                 y, sum, spans, most)
    return zeros


cdef inline void open_tile(Tiles *z, const Sequence *s, const floating *x, Py_ssize_t tile) noexcept nogil:
    """Open a tile of all classes."""
    cdef double most[FRAMES]
    cdef double *cost = z.cost + tile * FRAMES
    cdef double *sum = z.sum + tile * FRAMES
    cdef Py_ssize_t i
    if read_tile(z, s, x, tile, cost, most):
        z.first_zero = min(z.first_zero, tile)
    for i in range(frames_of(z, tile)):
        if s.input == LOGITS:
            z.product[i] *= sum[i]
        else:
            add_exactly(&z.log_norm, &z.log_rest, NAN if isnan(sum[i]) else -most[i])
    if tile % 64 == 63:  # a product is at most MOST_CLASSES^64
        add_logs(z)


cdef inline void gather(Tiles *z, const Sequence *s, const floating *x, Py_ssize_t t) noexcept nogil:
    """Scores of the classes that occur at frame t, as a column of the scratch of a tile."""
    cdef floating *tile = <floating *> z.scratch
    cdef floating *kept = (<floating *> s.stash) + t * s.graph.used
    cdef int i = <int> (t % FRAMES)
    cdef Py_ssize_t k
    if s.in_place:
        for k in range(s.graph.used):
            tile[k * FRAMES + i] = kept[k]
    elif floating is float:
        gather_column_f32(x + t * s.x_stride, s.graph.classes, s.graph.used, i, tile)
    else:
        gather_column_f64(x + t * s.x_stride, s.graph.classes, s.graph.used, i, tile)


cdef inline bint emit_gathered(Tiles *z, const Sequence *s, const floating *x, Py_ssize_t tile, double *sum,
                               double *spans, double *most) noexcept nogil:
    """Emissions of a tile whose scores have been gathered; sets and returns the same as read_tile."""
    cdef double *y = emissions_of(z, tile)
    cdef bint zeros
    if floating is float:
        zeros = open_columns_f32(<float *> z.scratch, frames_of(z, tile), s.graph.used, y, sum, spans, most)
    else:
        zeros = open_columns_f64(<double *> z.scratch, frames_of(z, tile), s.graph.used, y, sum, spans, most)
    return zeros


cdef inline void open_gathered(Tiles *z, Sequence *s, const floating *x, floating *g, Py_ssize_t tile) noexcept nogil:
    """Open the frames of a tile of the classes that occur."""
    cdef double most[FRAMES]
    cdef double row_max[FRAMES]
    cdef double row_sum[FRAMES]
    cdef double *cost = z.cost + tile * FRAMES
    cdef double *sum = z.sum + tile * FRAMES
    cdef Py_ssize_t i, t
    cdef bint zeros
    for i in range(frames_of(z, tile)):
        t = tile * FRAMES + i
        if s.in_place:
            keep_scores(s, x, t)
        dense_pass(s, x, g, t, &row_max[i], &row_sum[i])
        gather(z, s, x, t)
    zeros = emit_gathered(z, s, x, tile, sum, cost, most)
    if zeros:
        z.first_zero = min(z.first_zero, tile)
    for i in range(frames_of(z, tile)):
        t = tile * FRAMES + i
        s.cost[t] = INFINITY if zeros else cost[i]  # the fast path does not accept zeros
        if isnan(sum[i]) or not cost[i] <= BUDGET:  # the general path accepts a frame of -inf
            s.cost[t] = emit_frame(s, x, t, <double *> z.scratch, &most[i])
        s.is_nan |= isnan(s.cost[t]) or isnan(row_sum[i])
        normalise(s, t, most[i], row_max[i], row_sum[i])
    s.opened = tile * FRAMES + frames_of(z, tile)


cdef inline void open_probabilities(Tiles *z, Sequence *s, const floating *x, floating *g,
                                    Py_ssize_t tile) noexcept nogil:
    """Open the frames of a tile of probabilities."""
    cdef double *y = <double *> z.scratch
    cdef Py_ssize_t i, t
    for i in range(frames_of(z, tile)):
        t = tile * FRAMES + i
        open_frame(s, x, g, t, y + i * z.width)
        z.cost[t] = s.cost[t]
    transpose_frames(y, z.width, emissions_of(z, tile))


cdef inline void open_tiles(Tiles *z, Sequence *s, const floating *x, floating *g, Py_ssize_t stop) noexcept nogil:
    """Open the tiles before `stop` on the first visit."""
    while z.opened < stop:
        if s.input == PROBS:
            open_probabilities(z, s, x, g, z.opened)
        elif z.gathered:
            open_gathered(z, s, x, g, z.opened)
        else:
            open_tile(z, s, x, z.opened)
        z.opened += 1


cdef inline void open_again(Tiles *z, Sequence *s, const floating *x, Py_ssize_t start,
                            Py_ssize_t stop) noexcept nogil:
    """Compute the emissions of the tiles [start, stop) again if not all are kept."""
    cdef double sum[FRAMES]
    cdef double spans[FRAMES]
    cdef double most[FRAMES]
    cdef double *y = <double *> z.scratch
    cdef Py_ssize_t tile, i
    if z.kept == z.n:
        return
    for tile in range(start, stop):
        if not z.gathered:
            read_tile(z, s, x, tile, spans, most)
            continue
        for i in range(frames_of(z, tile)):
            if s.input == PROBS:
                emit_frame(s, x, tile * FRAMES + i, y + i * z.width, &most[i])
            else:
                gather(z, s, x, tile * FRAMES + i)
        if s.input == PROBS:
            transpose_frames(y, z.width, emissions_of(z, tile))
        else:
            emit_gathered(z, s, x, tile, sum, spans, most)


cdef inline void keep_tile(Tiles *z, Py_ssize_t tile) noexcept nogil:
    """Copy the emissions of a tile that cannot be computed again to where the posteriors of a tile will be."""
    memcpy(z.post, emissions_of(z, tile), z.width * FRAMES * sizeof(double))


cdef inline void put_back_tile(Tiles *z, Py_ssize_t tile) noexcept nogil:
    memcpy(emissions_of(z, tile), z.post, z.width * FRAMES * sizeof(double))


cdef inline void write_gathered(Tiles *z, Sequence *s, floating *g, Py_ssize_t tile) noexcept nogil:
    """Write the gradient of a tile of the classes that occur."""
    cdef double factor[FRAMES]
    cdef double *y = emissions_of(z, tile)
    cdef int n = frames_of(z, tile)
    cdef floating *first = g + tile * FRAMES * s.g_stride
    cdef Py_ssize_t i, k
    for i in range(FRAMES):
        factor[i] = s.scale * s.coefficient[min(tile * FRAMES + i, z.frames - 1)] if s.input == LOGITS else 0
    if s.input == PROBS:
        for k in range(s.graph.used):
            for i in range(n):
                z.post[k * FRAMES + i] /= y[k * FRAMES + i] * s.coefficient[tile * FRAMES + i]
    if floating is float:
        scatter_columns_f32(y, factor, z.post, s.scale, s.g_stride, n, s.graph.classes, s.graph.used,
                            <float *> z.scratch, first)
    else:
        scatter_columns_f64(y, factor, z.post, s.scale, s.g_stride, n, s.graph.classes, s.graph.used,
                            <double *> z.scratch, first)


cdef inline void write_tile(Tiles *z, Sequence *s, floating *g, Py_ssize_t tile) noexcept nogil:
    """Write the gradient of a tile from the posteriors of its classes."""
    cdef floating *first = g + tile * FRAMES * s.g_stride
    cdef double *y = emissions_of(z, tile)
    cdef double *sum = z.sum + tile * FRAMES
    cdef int n = frames_of(z, tile)
    if z.gathered:
        write_gathered(z, s, g, tile)
    elif s.input == LOGITS:
        if floating is float:
            close_tile_f32(y, sum, z.post, s.scale, s.g_stride, n, s.n_classes, <float *> z.scratch, first)
        else:
            close_tile_f64(y, sum, z.post, s.scale, s.g_stride, n, s.n_classes, <double *> z.scratch, first)
    elif floating is float:
        close_classes_f32(z.post, s.scale, s.g_stride, n, s.n_classes, <float *> z.scratch, first)
    else:
        close_classes_f64(z.post, s.scale, s.g_stride, n, s.n_classes, <double *> z.scratch, first)
