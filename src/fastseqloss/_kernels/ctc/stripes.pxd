"""A sequence in tiles and stripes (ctc/stripes.h): its arrays, and their layout."""

from libc.math cimport sqrt
from libc.stdint cimport int32_t, uintptr_t

from fastseqloss._kernels.ctc.labels cimport PAD
from fastseqloss._kernels.ctc.sequence cimport (
    KEEP, OCCUPATION, OCCUPATION_ROWS, SPAN_END, SPAN_START, Sequence, fill,
)
from fastseqloss._kernels.ctc.tiles cimport FRAMES, Tiles, lay_out_tiles
from fastseqloss._kernels.lattice.extended_range cimport DEAD
from fastseqloss._kernels.parallel.workspace cimport size_product, take


cdef extern from "ctc/stripes.h" nogil:
    enum:
        LANES "FSL_X"
        STRIPE_WINDOW "FSL_CTC_STRIPE_WINDOW"
    ctypedef struct Stripes "fsl_ctc_stripes":
        Py_ssize_t n, blocks, block, size, row
        int32_t *place
        int32_t *u
        double *skip
        double *factor
        double *skip_factor
        double *change
        double *e
        double *post
        double *post_b
        double *q_label
        double *q_blank
        double *own
        double *behind
        double *scratch
    void stripe_sizes "fsl_ctc_stripe_sizes"(Stripes *s, Py_ssize_t n_labels) noexcept
    void set_places "fsl_ctc_stripe_places"(const Stripes *s) noexcept
    double *label_in "fsl_ctc_stripe_label"(const Stripes *s, double *row, Py_ssize_t i) noexcept


cdef enum:
    ROLLING = 9       # rows of alphas where they are not kept: those of a tile, and the one before
    LEAST_STEPS = 64  # of a block
    LARGE = 1 << 25   # bytes of checkpoints from which not all are kept


cdef struct Segment:
    Py_ssize_t stop    # last frame
    Py_ssize_t lo, hi  # blocks of states


cdef struct History:
    Py_ssize_t segments  # of a block of steps
    bint raised          # a refresh has raised a state that can reach the end
    bint connected       # exponents depend on more than a window of groups


cdef struct Striped:
    Stripes stripes
    Tiles tiles
    Py_ssize_t period                             # steps from one frame at which a segment ends to the next
    Py_ssize_t least                              # steps after which a block ends with a segment
    Py_ssize_t n_blocks                           # number of blocks, each with a checkpoint; at most, before the sweep
    Py_ssize_t *starts                            # [n_blocks + 1] first frame of each block, and the last frame of all
    bint keep                                     # keep the rows of the latest block, or the last ones only
    double *rows                                  # [steps + 1, row] alphas of a block of so many steps, at most
    double *exponents                             # [steps + 2, size] of each segment
    Segment *segment                              # [steps + 2]
    Py_ssize_t group, n_groups                    # blocks from one checkpoint that is kept to the next; their number
    Py_ssize_t held                               # the group whose other checkpoints are there
    double *checkpoints                           # [n_groups + group - 1, row + size]
    History *history                              # [n_blocks]
    double *occupation                            # [OCCUPATION_ROWS, size] sums of each label, on request
    bint raised                                   # a refresh has raised a state that can reach the end
    bint checks                                   # the backward sweep checks that beta is bounded, and writes nothing
    Py_ssize_t spread_tile, spread_lo, spread_hi  # tile and blocks that e holds
    Py_ssize_t lo, hi                             # blocks of beta that are not 0
    Py_ssize_t tile_lo, tile_hi                   # blocks with posteriors in the tile
    Py_ssize_t label, blank                       # latest states that are still reachable, of betas
    # a half of a sequence
    bint reversed                                 # the last frames, reversed
    const Striped *other                          # the other half, or NULL
    double *last_alphas                           # [row + size] alphas of the last frame and their exponents
    Py_ssize_t last_lo, last_hi                   # blocks of the last segment
    double total, unit                            # sum over all paths as total * 2^unit


# ---- layout ---------------------------------------------------------------------------------

cdef inline double *checkpoint_of(const Striped *z, Py_ssize_t j) noexcept nogil:
    """Alphas of the first frame of block j, and their exponents."""
    cdef Py_ssize_t i = j // z.group if j % z.group == 0 else z.n_groups + j % z.group - 1
    return z.checkpoints + i * (z.stripes.row + z.stripes.size)


cdef inline void lay_out_blocks(Striped *z, Py_ssize_t steps, Py_ssize_t row, Py_ssize_t checkpoint) noexcept nogil:
    """Set the sizes of blocks, for rows and checkpoints of so many bytes.

    If the checkpoints would be large, blocks are shorter, and the first block of a group alone keeps its checkpoint.
    Segments are the same in any case, and so are the results.
    """
    z.period = steps
    if size_product(steps, row) > <size_t> KEEP:
        z.period = max(LEAST_STEPS, <Py_ssize_t> sqrt(<double> steps) // FRAMES * FRAMES)
        while z.period * z.period < steps:
            z.period += FRAMES
    z.n_blocks = (steps + z.period - 1) // z.period
    z.least, z.group, z.n_groups = z.period, z.n_blocks, 1
    if size_product(z.n_blocks, checkpoint) > <size_t> LARGE:
        z.least = LEAST_STEPS
        z.n_blocks *= (z.period + LEAST_STEPS - 1) // LEAST_STEPS
        z.group = <Py_ssize_t> sqrt(<double> z.n_blocks) + 1
        while z.group + 1 + z.n_blocks // (z.group + 1) < LARGE // checkpoint:  # the last group is not run again
            z.group += 1
        z.n_groups = (z.n_blocks + z.group - 1) // z.group


cdef inline uintptr_t lay_out_striped(Striped *z, const Sequence *s, Py_ssize_t frames, uintptr_t base) noexcept nogil:
    """Set the sizes of a sequence and lay out its arrays from `base` on; returns the end address.

    `frames` is the number of frames of the sequence, or of its half.
    """
    cdef uintptr_t cursor = base
    cdef Py_ssize_t steps = max(frames - 1, 1), size, row, most
    cdef Stripes *stripes = &z.stripes
    stripe_sizes(stripes, s.graph.n_labels)
    size, row = stripes.size * sizeof(double), stripes.row * sizeof(double)
    lay_out_blocks(z, steps, row, row + size)
    most = min(z.period, z.least + 2 * STRIPE_WINDOW)
    z.keep = s.with_grad
    z.other, z.reversed, z.checks, z.tiles.frames = NULL, False, False, frames
    lay_out_tiles(&z.tiles, s, most, &cursor)
    z.rows = <double *> take(&cursor, most + 1, row)
    z.exponents = <double *> take(&cursor, most + 2, size)
    z.segment = <Segment *> take(&cursor, most + 2, sizeof(Segment))
    z.checkpoints = <double *> take(&cursor, z.n_groups + z.group - 1, row + size)
    z.last_alphas = <double *> take(&cursor, 1 if frames < s.frames else 0, row + size)
    z.starts = <Py_ssize_t *> take(&cursor, z.n_blocks + 1, sizeof(Py_ssize_t))
    z.history = <History *> take(&cursor, z.n_blocks, sizeof(History))
    z.occupation = <double *> take(&cursor, OCCUPATION_ROWS if s.output == OCCUPATION else 0, size)
    stripes.place = <int32_t *> take(&cursor, stripes.size, sizeof(int32_t))
    stripes.u = <int32_t *> take(&cursor, stripes.size, sizeof(int32_t))
    stripes.skip = <double *> take(&cursor, 1, size)
    stripes.factor = <double *> take(&cursor, 1, size)
    stripes.skip_factor = <double *> take(&cursor, 1, size)
    stripes.change = <double *> take(&cursor, 1, size)
    stripes.e = <double *> take(&cursor, FRAMES, size)
    stripes.post = <double *> take(&cursor, FRAMES, size)
    stripes.post_b = <double *> take(&cursor, FRAMES * LANES, sizeof(double))
    stripes.q_label = <double *> take(&cursor, 1, size)
    stripes.q_blank = <double *> take(&cursor, 1, size)
    stripes.own = <double *> take(&cursor, STRIPE_WINDOW + stripes.size, sizeof(double)) + STRIPE_WINDOW
    stripes.behind = <double *> take(&cursor, STRIPE_WINDOW + stripes.size, sizeof(double)) + STRIPE_WINDOW
    stripes.scratch = <double *> take(&cursor, STRIPE_WINDOW + stripes.size, sizeof(double)) + STRIPE_WINDOW
    return cursor


cdef inline void set_stripes(Striped *z, const Sequence *s) noexcept nogil:
    """Set classes and transitions of the states."""
    cdef Py_ssize_t i, k, u
    cdef Stripes *stripes = &z.stripes
    set_places(stripes)
    for i in range(stripes.size):
        k = stripes.place[i]
        stripes.u[k] = <int32_t> ((z.tiles.width - 1) * FRAMES)
        stripes.skip[k] = 0
        if i < s.graph.n_labels:
            u = s.graph.u[PAD + i]
            stripes.u[k] = <int32_t> ((u if z.tiles.gathered else s.graph.classes[u]) * FRAMES)
            stripes.skip[k] = s.graph.skip[PAD + i]
    if s.output == OCCUPATION:
        set_spans(z, s)


cdef inline Py_ssize_t label_of(const Striped *z, const Sequence *s, Py_ssize_t i) noexcept nogil:
    """Number of label i of a sequence or a half, counted from the start of the sequence."""
    return s.graph.n_labels - 1 - i if z.reversed else i


cdef inline void set_spans(Striped *z, const Sequence *s) noexcept nogil:
    """Copy the spans of the labels, and set their sums to 0."""
    cdef Py_ssize_t i, row, size = z.stripes.size
    fill(z.occupation, size * OCCUPATION_ROWS, 0)
    for row in range(SPAN_START, SPAN_END + 1):
        for i in range(s.graph.n_labels):
            z.occupation[row * size + z.stripes.place[i]] = s.occupation[row * s.occupation_width + label_of(z, s, i)]


cdef inline double *alphas_of(const Striped *z, Py_ssize_t r) noexcept nogil:
    return z.rows + (r if z.keep else r % ROLLING) * z.stripes.row


cdef inline double *exponents_of(const Striped *z, Py_ssize_t k) noexcept nogil:
    return z.exponents + k * z.stripes.size


cdef inline Py_ssize_t width_of(const Striped *z) noexcept nogil:
    """Elements of a block of a row of alphas."""
    return (2 * z.stripes.n + 1) * LANES


cdef inline void clear(Striped *z, Py_ssize_t r, Py_ssize_t k, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    """Set the blocks [lo, hi) of row r to 0 with the exponents k."""
    if lo < hi:
        fill(alphas_of(z, r) + lo * width_of(z), (hi - lo) * width_of(z), 0)
        fill(exponents_of(z, k) + lo * z.stripes.block, (hi - lo) * z.stripes.block, DEAD)


cdef inline const double *to_spread(Striped *z, double *y, Py_ssize_t tile, Py_ssize_t lo,
                                    Py_ssize_t hi) noexcept nogil:
    """Return NULL if the emissions of the states in the blocks [lo, hi) of the tile have been set, else y."""
    if tile == z.spread_tile and lo >= z.spread_lo and hi <= z.spread_hi:
        return NULL
    z.spread_tile, z.spread_lo, z.spread_hi = tile, lo, hi
    return y
