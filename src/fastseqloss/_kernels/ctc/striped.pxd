"""The fast path: frames in tiles, states in stripes (ctc/stripes.h).

The path refuses a sequence whose scores are too far apart, before anything is written in place. A refresh may raise
states that are far below their neighbours. Posteriors are then too large rather than too small, and a state whose
posterior is negligible may still be omitted. The backward sweep demands that beta is bounded wherever a state may have
been raised, so that what was added is negligible.
"""

from cython cimport floating
from libc.math cimport INFINITY, floor, isnan
from libc.string cimport memcpy, memset

from fastseqloss._kernels.codes cimport PROBS
from fastseqloss._kernels.ctc.labels cimport LabelGraph, first_alive, first_unreached
from fastseqloss._kernels.ctc.sequence cimport (
    GRADIENT, LARGEST, OCCUPATION, OCCUPATION_ROWS, POSTERIORS, Sequence, add_occupation, fill,
)
from fastseqloss._kernels.ctc.stripes cimport (
    LANES, STRIPE_WINDOW, History, Segment, Striped, Stripes, alphas_of, checkpoint_of, clear, exponents_of, label_in,
    label_of, lay_out_striped, set_stripes, to_spread,
)
from fastseqloss._kernels.ctc.tiles cimport (
    FRAMES, add_logs, begin_tiles, blank_of, blanks_of, emissions_of, frames_of, keep_tile, open_again,
    open_tiles, put_back_tile, write_tile,
)
from fastseqloss._kernels.lattice.extended_range cimport BUDGET, DEAD, larger_exponent, log_total, pow2
from fastseqloss._kernels.simd.softmax cimport add_exactly


cdef extern from "ctc/stripes.h" nogil:
    const double APART "FSL_CTC_STRIPE_APART"
    const double LEAST "FSL_CTC_STRIPE_LEAST"
    const double LEAST_0 "FSL_CTC_STRIPE_LEAST_0"
    const double REFILL "FSL_CTC_STRIPE_REFILL"
    const double WEIGHT "FSL_CTC_STRIPE_WEIGHT"
    const double LEAST_PROBABILITY "FSL_CTC_LEAST_PROBABILITY"
    double *posterior_of "fsl_ctc_stripe_posterior"(const Stripes *s, int t, Py_ssize_t i) noexcept
    void collect "fsl_ctc_stripe_collect"(const Stripes *s, Py_ssize_t blank, Py_ssize_t n_rows, double *sums,
                                          Py_ssize_t lo, Py_ssize_t hi) noexcept
    void forward "fsl_ctc_stripe_forward"(const Stripes *s, double **rows, int first, int stop, const double *y,
                                          const double *blank, Py_ssize_t lo, Py_ssize_t hi) noexcept
    void backward "fsl_ctc_stripe_backward"(const Stripes *s, double **rows, int first, int stop, const double *y,
                                            const double *blank, Py_ssize_t lo, Py_ssize_t hi, bint zeros) noexcept
    bint flows "fsl_ctc_stripe_flows"(const Stripes *s, Py_ssize_t k) noexcept
    bint beta_bounded "fsl_ctc_stripe_beta_bounded"(const Stripes *s, int t, double blank, double bound,
                                                    Py_ssize_t lo, Py_ssize_t hi) noexcept
    bint negligible "fsl_ctc_stripe_negligible"(const Stripes *s, const double *alphas, int t, double blank,
                                                Py_ssize_t k) noexcept
    bint set_exponents "fsl_ctc_stripe_exponents"(const Stripes *s, const double *row, const double *old, double *out,
                                                  Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t window,
                                                  double least, double step) noexcept
    int set_factors "fsl_ctc_stripe_factors"(const Stripes *s, const double *old, const double *out, Py_ssize_t lo,
                                             Py_ssize_t hi) noexcept
    Py_ssize_t refresh "fsl_ctc_stripe_refresh"(const Stripes *s, double *row, Py_ssize_t lo, Py_ssize_t hi,
                                                Py_ssize_t label, Py_ssize_t blank, double least) noexcept
    void change_beta "fsl_ctc_stripe_change"(const Stripes *s, Py_ssize_t lo, Py_ssize_t hi) noexcept

cdef extern from "ctc/halves.h" nogil:
    void betas_from "fsl_ctc_betas_from"(
        const Stripes *s, const double *exponents, const Stripes *other, double *row, Py_ssize_t lo, Py_ssize_t hi,
        Py_ssize_t n_labels, double unit, double total) noexcept


cdef enum:
    FAR = 40  # range of emissions from which a check of the bound is likely, which requires the rows


# ---- forward --------------------------------------------------------------------------------

cdef inline Py_ssize_t window_from(const Striped *z, Py_ssize_t t, Py_ssize_t stop) noexcept nogil:
    """Number of steps from frame t that the emissions allow without a refresh."""
    cdef double spent = 0
    cdef Py_ssize_t steps = 0
    while steps < STRIPE_WINDOW and t + steps < stop:
        spent += z.tiles.cost[t + steps + 1]
        if not spent <= BUDGET:
            break
        steps += 1
    return steps


cdef inline bint has_zeros(const Striped *z, Py_ssize_t stop) noexcept nogil:
    """Return True if alphas may be 0 at states that are reachable, in the steps to frame `stop`."""
    return stop // FRAMES >= z.tiles.first_zero


cdef inline double least_mantissa(const Striped *z, Py_ssize_t stop) noexcept nogil:
    """Binary exponent, negated, of the least mantissa at the refresh before the steps to frame `stop`."""
    return LEAST_0 if has_zeros(z, stop) else LEAST


cdef inline double largest_step(const Striped *z, Py_ssize_t t, Py_ssize_t stop, Py_ssize_t window) noexcept nogil:
    """Largest distance of an exponent above that of the left neighbour for the steps from frame t to frame `stop`.

    A state whose alpha is 0, as an emission was, may be reached again from the left. What flows in, at least the least
    mantissa of a refresh, must stay a normal number, for it may be all that reaches the end.
    """
    cdef double spent = 0
    cdef Py_ssize_t i
    if not has_zeros(z, stop):
        return APART
    for i in range(t + 1, stop + 1):
        spent += z.tiles.cost[i]
    return floor((REFILL - spent) / window)


cdef inline Py_ssize_t reachable_groups(const LabelGraph *graph, Py_ssize_t t) noexcept nogil:
    """Number of groups of which the blank or the label is reachable at frame t."""
    cdef Py_ssize_t labels = first_unreached(graph, t)
    return labels + 1 if labels == 0 or graph.need[labels - 1] < t else labels


cdef inline bint refresh_row(Striped *z, const Sequence *s, Py_ssize_t t, double *row, Py_ssize_t lo, Py_ssize_t hi,
                             double least) noexcept nogil:
    """Refresh the alphas of frame t; returns True if a state that can reach the end has been raised."""
    return refresh(&z.stripes, row, lo, hi, first_alive(&s.graph, s.frames - 1 - t),
                   first_alive(&s.graph, s.frames - 2 - t), pow2(-least)) > 0


cdef inline void frames_to(const Striped *z, Py_ssize_t start, Py_ssize_t tile, double **rows) noexcept nogil:
    """Set the rows of alphas of the frame before a tile and of its frames; row 0 is that of frame `start`."""
    cdef Py_ssize_t i
    for i in range(FRAMES + 1):
        rows[i] = alphas_of(z, max(tile * FRAMES + i - 1 - start, 0))


cdef inline Py_ssize_t forward_block(Striped *z, Sequence *s, const floating *x, floating *g, Py_ssize_t j,
                                     Py_ssize_t cone_lo, Py_ssize_t cone_hi) noexcept nogil:
    """Run the steps of block j from its first frame, whose alphas are row 0, for blocks [cone_lo, cone_hi) of states.

    Returns the number of segments, each with its own exponents, or -1 if the path refuses the sequence. A part of the
    blocks has been run as a whole before, so nothing that matters there is out of range.
    """
    cdef Py_ssize_t start = z.starts[j], stop = min((start // z.period + 1) * z.period, z.tiles.frames - 1)
    cdef Py_ssize_t t = start, k = 0, lo, hi, steps, window, filled = z.stripes.blocks, tile, last
    cdef double *rows[FRAMES + 1]
    cdef double *y
    cdef double least
    cdef bint whole = cone_lo == 0 and cone_hi == z.stripes.blocks, raised, connected, bad
    while t < stop and (t - start < z.least or stop - t < STRIPE_WINDOW):
        open_tiles(&z.tiles, s, x, g, min(t + STRIPE_WINDOW, stop) // FRAMES + 1)
        steps = window_from(z, t, stop)
        if steps == 0:
            return -1
        window = steps
        if z.other != NULL and t + steps == z.tiles.frames - 1:  # the exponents serve the step to the other half, too
            steps = min(steps, STRIPE_WINDOW - 1)
            window = steps + 1
        hi = min((reachable_groups(&s.graph, t + window) - 1) // z.stripes.block + 1, cone_hi)
        lo = min(max(first_alive(&s.graph, s.frames - 1 - t) // z.stripes.block, cone_lo), hi - 1)
        clear(z, t - start, k, filled, hi)
        filled = hi
        k += 1
        least = least_mantissa(z, t + steps)
        connected = set_exponents(&z.stripes, alphas_of(z, t - start), exponents_of(z, k - 1), exponents_of(z, k), lo,
                                  hi, window, least, largest_step(z, t, t + steps, window))
        bad = set_factors(&z.stripes, exponents_of(z, k - 1), exponents_of(z, k), lo, hi)
        raised = refresh_row(z, s, t, alphas_of(z, t - start), lo, hi, least)
        if whole:
            z.history[j].raised |= raised
            z.history[j].connected |= connected
            if bad:
                return -1
        steps += t
        while t < steps:
            tile = (t + 1) // FRAMES
            last = min(steps, tile * FRAMES + FRAMES - 1)
            y = emissions_of(&z.tiles, tile)
            frames_to(z, start, tile, rows)
            forward(&z.stripes, rows, <int> ((t + 1) % FRAMES), <int> (last % FRAMES) + 1,
                    to_spread(z, y, tile, lo, hi), blanks_of(&z.tiles, tile), lo, hi)
            t = last
        z.segment[k].stop, z.segment[k].lo, z.segment[k].hi = t, lo, hi
    clear(z, t - start, k, filled, z.stripes.blocks)
    return k


cdef inline void first_row(Striped *z, const Sequence *s) noexcept nogil:
    """Alphas of frame 0: only the first blank and the first label are not 0."""
    cdef double *label = label_in(&z.stripes, z.rows, 0)
    clear(z, 0, 0, 0, z.stripes.blocks)
    exponents_of(z, 0)[0] = 0
    label[z.stripes.block] = blank_of(&z.tiles, 0)
    label[0] = emissions_of(&z.tiles, 0)[z.stripes.u[0]]


cdef inline void set_checkpoint(Striped *z, Py_ssize_t j, const double *alphas,
                                const double *exponents) noexcept nogil:
    """Copy the alphas of the first frame of block j, and their exponents."""
    cdef double *checkpoint = checkpoint_of(z, j)
    memcpy(checkpoint, alphas, z.stripes.row * sizeof(double))
    memcpy(checkpoint + z.stripes.row, exponents, z.stripes.size * sizeof(double))


cdef inline Py_ssize_t forward_sweep(Striped *z, Sequence *s, const floating *x, floating *g) noexcept nogil:
    """Open all frames and run the alphas to the last one; returns the segments of the last block, or -1."""
    cdef Py_ssize_t j = 0, k = 0
    z.raised, z.spread_tile = False, -1
    begin_tiles(&z.tiles)
    open_tiles(&z.tiles, s, x, g, 1)
    if not z.tiles.cost[0] <= BUDGET:
        return -1
    if z.n_blocks == 1 and z.tiles.cost[0] > FAR:
        z.keep = True
    first_row(z, s)
    z.starts[0] = 0
    while True:
        if j > 0:
            memcpy(z.rows, last_row(z, j - 1), z.stripes.row * sizeof(double))
            memcpy(z.exponents, exponents_of(z, k), z.stripes.size * sizeof(double))
        if z.n_blocks > 1 or not z.keep:
            set_checkpoint(z, j, z.rows, z.exponents)
        z.history[j].raised = z.history[j].connected = False
        k = forward_block(z, s, x, g, j, 0, z.stripes.blocks)
        if k < 0:
            return -1
        z.history[j].segments = k
        z.raised |= z.history[j].raised
        j += 1
        z.starts[j] = z.segment[k].stop if k else 0
        if z.starts[j] == z.tiles.frames - 1:
            break
    z.n_blocks, z.held = j, (j - 1) // z.group
    return k


cdef inline double *last_row(const Striped *z, Py_ssize_t j) noexcept nogil:
    """Alphas of the last frame of block j."""
    return alphas_of(z, z.starts[j + 1] - z.starts[j])


cdef inline Py_ssize_t run_block_again(Striped *z, Sequence *s, const floating *x, floating *g, Py_ssize_t j,
                                       Py_ssize_t cone_lo, Py_ssize_t cone_hi) noexcept nogil:
    """Run block j from its checkpoint; the tile of the frame after its last one is there."""
    cdef Py_ssize_t start = z.starts[j], stop = z.starts[j + 1], row = z.stripes.row, size = z.stripes.size
    cdef double *checkpoint = checkpoint_of(z, j)
    open_again(&z.tiles, s, x, start // FRAMES, stop // FRAMES if stop < z.tiles.frames - 1 else z.tiles.n)
    z.spread_tile = -1
    memcpy(z.rows, checkpoint, row * sizeof(double))
    memcpy(z.exponents, checkpoint + row, size * sizeof(double))
    return forward_block(z, s, x, g, j, cone_lo, cone_hi)


cdef inline void hold_group(Striped *z, Sequence *s, const floating *x, floating *g, Py_ssize_t j, Py_ssize_t cone_lo,
                            Py_ssize_t cone_hi) noexcept nogil:
    """Make the checkpoints of the group of block j up to this block again, for the blocks of states of a cone.

    The frame after block j is open, and may have been overwritten.
    """
    cdef Py_ssize_t i, k, tile, next_tile = z.starts[j + 1] // FRAMES
    keep_tile(&z.tiles, next_tile)
    for i in range(j // z.group * z.group, j):
        tile = z.starts[i + 1] // FRAMES
        open_again(&z.tiles, s, x, tile, tile + 1)
        k = run_block_again(z, s, x, g, i, cone_lo, cone_hi)
        set_checkpoint(z, i + 1, last_row(z, i), exponents_of(z, k))
    put_back_tile(&z.tiles, next_tile)
    z.held = j // z.group


# ---- backward -------------------------------------------------------------------------------

cdef inline void clear_posteriors(Striped *z, Py_ssize_t n, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    """Set the posteriors of the first n frames of the tile to 0 in the blocks [lo, hi)."""
    cdef Py_ssize_t k
    for k in range(lo, hi):
        fill(z.stripes.post + k * FRAMES * z.stripes.block, n * z.stripes.block, 0)


cdef inline void add_tile(Striped *z, const Sequence *s, Py_ssize_t tile) noexcept nogil:
    """Add the posteriors of a tile to the sums of each label."""
    cdef Py_ssize_t i, k, t, block = z.stripes.block
    for k in range(z.tile_lo, z.tile_hi):
        for i in range(frames_of(&z.tiles, tile)):
            t = tile * FRAMES + i
            if z.reversed:
                t = s.frames - 1 - t
            add_occupation(z.occupation + k * block, z.stripes.size, z.stripes.post + (k * FRAMES + i) * block, 1, t,
                           block)


cdef inline void return_occupation(const Striped *z, Sequence *s) noexcept nogil:
    """Add the sums of a sequence, or a half, to those that are returned, which were 0."""
    cdef Py_ssize_t i, row
    cdef double *to
    cdef double value
    for row in range(LARGEST, OCCUPATION_ROWS):
        for i in range(s.graph.n_labels):
            value = z.occupation[row * z.stripes.size + z.stripes.place[i]]
            to = s.occupation + row * s.occupation_width + label_of(z, s, i)
            to[0] = max(to[0], value) if row == LARGEST else to[0] + value


cdef inline void close_tile(Striped *z, Sequence *s, floating *g, Py_ssize_t tile) noexcept nogil:
    if not z.checks and s.output == GRADIENT:
        collect(&z.stripes, z.tiles.blank, z.tiles.width, z.tiles.post, z.tile_lo, z.tile_hi)
        write_tile(&z.tiles, s, g, tile)
    elif not z.checks and s.output == OCCUPATION:
        add_tile(z, s, tile)
    z.tile_lo, z.tile_hi = z.lo, z.hi


cdef inline void close_states(Striped *z, const Sequence *s, floating *g, Py_ssize_t t,
                              const double *alphas) noexcept nogil:
    """Write the posteriors of the states at frame t from beta times emission of that frame."""
    cdef floating *out = g + t * s.g_stride
    cdef Py_ssize_t i, k, place, n = s.graph.n_labels, block = z.stripes.block
    cdef double blank = blank_of(&z.tiles, t), factor = 1 / blank if blank > 0 else 0
    cdef const double *b
    cdef const double *post
    memset(out, 0, s.g_width * sizeof(floating))
    for k in range(z.lo, z.hi):  # places count from the first block
        b = alphas + (k + 1) * (block + LANES)
        post = z.stripes.post + (k * (FRAMES - 1) + t % FRAMES) * block
        for i in range(k * block, min((k + 1) * block, n + 1)):
            place = z.stripes.place[i]
            out[2 * i] = <floating> (b[place] * z.stripes.q_blank[place] * factor)
            if i < n:
                out[2 * i + 1] = <floating> post[place]


cdef inline void clear_betas(Striped *z, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    """Set beta to 0 in the blocks [lo, hi)."""
    fill(z.stripes.q_label + lo * z.stripes.block, (hi - lo) * z.stripes.block, 0)
    fill(z.stripes.q_blank + lo * z.stripes.block, (hi - lo) * z.stripes.block, 0)


cdef inline void trim(Striped *z, const Sequence *s, const double *alphas, Py_ssize_t t) noexcept nogil:
    """Omit the outer blocks whose states are all negligible: a posterior is the weight of all paths through a state."""
    cdef double blank = blank_of(&z.tiles, t)
    cdef int i = <int> (t % FRAMES)
    while z.lo < z.hi - 1 and negligible(&z.stripes, alphas, i, blank, z.lo):
        clear_betas(z, z.lo, z.lo + 1)
        z.lo += 1
    while z.lo < z.hi - 1 and negligible(&z.stripes, alphas, i, blank, z.hi - 1):
        z.hi -= 1
        clear_betas(z, z.hi, z.hi + 1)


cdef inline bint may_overflow(const Striped *z, const LabelGraph *graph, Py_ssize_t t) noexcept nogil:
    """Return True if a state becomes unreachable in the frames from t on, whose beta 1 / alpha does not bound."""
    return (z.label >= 0 and graph.need[z.label] > t) or (z.blank >= 0 and graph.need[z.blank] + 1 > t)


cdef inline void forget_unreachable(Striped *z, const LabelGraph *graph, Py_ssize_t t) noexcept nogil:
    """Set beta to 0 at states that are not reachable by frame t, whose alpha is 0 and whose beta may overflow."""
    while z.label >= 0 and graph.need[z.label] > t:
        z.stripes.q_label[z.stripes.place[z.label]] = 0
        z.label -= 1
    while z.blank >= 0 and graph.need[z.blank] + 1 > t:
        z.stripes.q_blank[z.stripes.place[z.blank + 1]] = 0
        z.blank -= 1


cdef inline void last_betas(Striped *z, const Sequence *s, const double *alphas_in, const double *exponents,
                            double total) noexcept nogil:
    """Beta times emission, and posteriors, of the last frame: only the last label and the last blank are not 0.

    `total` is in the unit of the larger exponent of the two.
    """
    cdef Py_ssize_t n = s.graph.n_labels, block = z.stripes.block, t = s.frames - 1
    cdef double *alphas = <double *> alphas_in
    cdef double b = label_in(&z.stripes, alphas, n)[block], eb = exponents[z.stripes.place[n]], l = 0, el = DEAD
    cdef double unit, beta
    cdef double *y = emissions_of(&z.tiles, t // FRAMES)
    cdef Py_ssize_t place
    cdef int i = <int> (t % FRAMES)
    if n:
        l, el = label_in(&z.stripes, alphas, n - 1)[0], exponents[z.stripes.place[n - 1]]
    unit = larger_exponent(b, eb, l, el)
    clear_betas(z, 0, z.stripes.blocks)
    z.lo, z.hi = max(n - 1, 0) // block, n // block + 1
    z.tile_lo, z.tile_hi = z.lo, z.hi
    clear_posteriors(z, FRAMES, z.lo, z.hi)
    fill(z.stripes.post_b, FRAMES * LANES, 0)
    if b > 0:
        beta = pow2(eb - unit) / total
        z.stripes.post_b[i * LANES] = b * beta
        z.stripes.q_blank[z.stripes.place[n]] = beta * blank_of(&z.tiles, t)
    if l > 0:
        beta = pow2(el - unit) / total
        place = z.stripes.place[n - 1]
        posterior_of(&z.stripes, i, n - 1)[0] = l * beta
        z.stripes.q_label[place] = beta * y[z.stripes.u[place] + i]
    z.label = z.blank = n - 1
    forget_unreachable(z, &s.graph, t)


cdef inline void joined_betas(Striped *z, const Sequence *s, const Segment *segment,
                              const double *exponents) noexcept nogil:
    """Beta times emission of the first frame of the other half, from its alphas."""
    clear_betas(z, 0, z.stripes.blocks)
    z.lo, z.hi = segment.lo, segment.hi
    z.tile_lo, z.tile_hi = z.lo, z.hi
    clear_posteriors(z, FRAMES, z.lo, z.hi)
    fill(z.stripes.post_b, FRAMES * LANES, 0)
    betas_from(&z.stripes, exponents, &z.other.stripes, z.other.last_alphas, z.other.last_lo, z.other.last_hi,
               s.graph.n_labels, z.unit, z.total)
    z.label = z.blank = s.graph.n_labels - 1
    forget_unreachable(z, &s.graph, z.tiles.frames)


cdef inline void bound_blocks(Striped *z, const Segment *segment, Py_ssize_t stop) noexcept nogil:
    """Set the blocks of beta for the steps to frames of a tile before frame `stop`."""
    if z.lo > segment.lo and flows(&z.stripes, z.lo):
        z.lo -= 1
    z.lo, z.hi = max(z.lo, segment.lo), min(z.hi, segment.hi)
    clear_posteriors(z, FRAMES, z.lo, z.tile_lo)
    clear_posteriors(z, (stop - 1) % FRAMES + 1, z.hi, z.tile_hi)
    z.tile_lo, z.tile_hi = min(z.lo, z.tile_lo), max(z.hi, z.tile_hi)


cdef inline bint backward_block(Striped *z, Sequence *s, floating *g, Py_ssize_t start, Py_ssize_t k) noexcept nogil:
    """Close the frames of a block, last to first, from its rows and `k` segments.

    Returns False if beta is not bounded.
    """
    cdef Py_ssize_t t = z.segment[k].stop, first, next_t, tile = 0
    cdef double weight = WEIGHT * LEAST_PROBABILITY if s.input == PROBS else WEIGHT
    cdef bint zeros
    cdef double *rows[FRAMES + 1]
    cdef double *y
    while k > 0:
        first = start if k == 1 else z.segment[k - 1].stop
        zeros = has_zeros(z, t)
        set_factors(&z.stripes, exponents_of(z, k - 1), exponents_of(z, k), z.segment[k].lo, z.segment[k].hi)
        while t > first:
            tile = (t - 1) // FRAMES
            next_t = max(first, tile * FRAMES)
            if s.output == POSTERIORS or z.raised and may_overflow(z, &s.graph, next_t):
                next_t = t - 1
            bound_blocks(z, &z.segment[k], t)
            y = emissions_of(&z.tiles, tile)
            frames_to(z, start, tile, rows)
            backward(&z.stripes, rows, <int> (next_t % FRAMES), <int> ((t - 1) % FRAMES) + 1,
                     to_spread(z, y, tile, z.lo, z.hi), blanks_of(&z.tiles, tile), z.lo, z.hi, zeros)
            t = next_t
            forget_unreachable(z, &s.graph, t)
            if s.output == POSTERIORS and not z.checks:
                close_states(z, s, g, t, rows[t % FRAMES + 1])
            if t % FRAMES == 0:
                trim(z, s, rows[1], t)
                close_tile(z, s, g, tile)
        if z.raised and not beta_bounded(&z.stripes, <int> (t % FRAMES), blank_of(&z.tiles, t),
                                         weight * pow2(least_mantissa(z, z.segment[k].stop)), z.lo, z.hi):
            return False
        change_beta(&z.stripes, z.lo, z.hi)
        k -= 1
    return True


cdef inline void set_cone(const Striped *z, Py_ssize_t first, Py_ssize_t j, Py_ssize_t *lo,
                          Py_ssize_t *hi) noexcept nogil:
    """Blocks of states from which beta can be reached within the blocks of steps from `first` to j.

    A state that was raised must be raised again by the same amount. Its exponent depends on a window of groups to the
    left, and theirs, at the refresh before, on a window more; or on all groups.
    """
    cdef Py_ssize_t i, refreshes = 1, reach = z.starts[j + 1] - z.starts[first]
    cdef bint raised = False, connected = False
    for i in range(first, j + 1):
        refreshes += z.history[i].segments
        raised |= z.history[i].raised
        connected |= z.history[i].raised and z.history[i].connected
    if first < j:  # the blocks of beta may exceed what it has reached by two, and cones begin with a block
        reach += 3 * z.stripes.block
    if raised:
        reach += STRIPE_WINDOW * refreshes
    lo[0], hi[0] = max(z.lo * z.stripes.block - reach, 0) // z.stripes.block, z.hi
    if connected:
        lo[0], hi[0] = 0, z.stripes.blocks


cdef inline bint backward_sweep(Striped *z, Sequence *s, const floating *x, floating *g, Py_ssize_t k,
                                double total) noexcept nogil:
    """Close all frames, or only check that beta is bounded; returns False if it is not.

    k is the number of segments of the last block, or -1 if its rows are no longer there.
    """
    cdef Py_ssize_t j, last = z.n_blocks - 1, start, cone_lo, cone_hi
    cdef double *checkpoint
    for j in range(last, -1, -1):
        start = z.starts[j]
        if j < last:
            if j // z.group != z.held:
                set_cone(z, j // z.group * z.group, j, &cone_lo, &cone_hi)
                hold_group(z, s, x, g, j, cone_lo, cone_hi)
            set_cone(z, j, j, &cone_lo, &cone_hi)
            k = run_block_again(z, s, x, g, j, cone_lo, cone_hi)
            checkpoint = checkpoint_of(z, j + 1)
            set_factors(&z.stripes, exponents_of(z, k), checkpoint + z.stripes.row, z.lo, z.hi)
            change_beta(&z.stripes, z.lo, z.hi)
        else:
            if k < 0:
                if j // z.group != z.held:
                    hold_group(z, s, x, g, j, 0, z.stripes.blocks)
                k = run_block_again(z, s, x, g, j, 0, z.stripes.blocks)
            if z.other != NULL:
                z.segment[k].stop = z.tiles.frames
                joined_betas(z, s, &z.segment[k], exponents_of(z, k))
            else:
                last_betas(z, s, last_row(z, j), exponents_of(z, k), total)
                if s.output == POSTERIORS and not z.checks:
                    close_states(z, s, g, s.frames - 1, last_row(z, j))
                if (s.frames - 1) % FRAMES == 0:
                    close_tile(z, s, g, (s.frames - 1) // FRAMES)
        if not backward_block(z, s, g, start, k):
            return False
    return True


# ---- a sequence -----------------------------------------------------------------------------

cdef inline bint checks_first(const Striped *z, const Sequence *s) noexcept nogil:
    """Return True if a sweep must check the bound on beta before anything is overwritten, or without gradient."""
    return z.raised and (not s.with_grad or s.in_place and not z.tiles.gathered)


cdef inline Py_ssize_t again(const Striped *z, Py_ssize_t k) noexcept nogil:
    """Segments of the last block for a further backward sweep."""
    return -1 if z.n_blocks > 1 else k


cdef inline bint check_bound(Striped *z, Sequence *s, const floating *x, floating *g, Py_ssize_t k,
                             double total) noexcept nogil:
    """Run the backward sweep for its check alone; returns False if beta is not bounded.

    The sweep requires the rows, as with gradient: what it omits takes part in the decision.
    """
    cdef bint bounded
    if not z.keep:
        z.keep, k = True, -1
    z.checks = True
    bounded = backward_sweep(z, s, x, g, k, total)
    z.checks = False
    return bounded


cdef inline bint run_striped(Striped *z, Sequence *s, const floating *x, floating *g, double *total) noexcept nogil:
    """Log-likelihood of the lattice, and the gradient unless it is -inf; False if another path must compute them."""
    cdef Py_ssize_t k, n = s.graph.n_labels
    cdef double b, l = 0, eb, el = DEAD, unit, sum
    cdef double *alphas
    lay_out_striped(z, s, s.frames, s.after_frames)
    set_stripes(z, s)
    k = forward_sweep(z, s, x, g)
    if k < 0:
        return False
    add_logs(&z.tiles)
    alphas = last_row(z, z.n_blocks - 1)
    b, eb = label_in(&z.stripes, alphas, n)[z.stripes.block], exponents_of(z, k)[z.stripes.place[n]]
    if n:
        l, el = label_in(&z.stripes, alphas, n - 1)[0], exponents_of(z, k)[z.stripes.place[n - 1]]
    if s.is_nan or isnan(z.tiles.log_norm):
        return False
    if not (b > 0 or l > 0):  # alphas are 0 only where no path is
        total[0] = -INFINITY
        return True
    unit = larger_exponent(b, eb, l, el)
    sum = b * pow2(eb - unit) + l * pow2(el - unit)
    total[0] = log_total(b, eb, l, el)
    if checks_first(z, s):
        if not check_bound(z, s, x, g, k, sum):
            return False
        k = again(z, k)
    if s.with_grad and not backward_sweep(z, s, x, g, k, sum):
        return False
    if s.output == OCCUPATION:
        return_occupation(z, s)
    add_exactly(&s.log_norm, &s.log_rest, z.tiles.log_norm)
    add_exactly(&s.log_norm, &s.log_rest, z.tiles.log_rest)
    return True
