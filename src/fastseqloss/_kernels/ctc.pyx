"""CTC, loss and gradient, one sequence at a time.

A sequence goes through two sweeps. Forward: each frame's row of logits takes the dense pass, which leaves
scale * softmax in the gradient; the scores of the classes that occur in the labels are gathered and become
emissions; alphas advance. Backward: betas, posteriors, and the gradient of those few classes, in float64.

Alphas are kept at checkpoints and recomputed block by block on the way back; short sequences are one block.
Frames c_j to c_j+1 bound block j, and block j owns the steps between them.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, NAN, isnan
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset

from fastseqloss._kernels.softmax cimport log64, softmax_row


cdef extern from "ctc_lattice.h" nogil:
    enum:
        STATES "FSL_STATES"
        WINDOW "FSL_WINDOW"
    const double BUDGET "FSL_BUDGET"
    const double DEAD "FSL_DEAD"
    double pow2 "fsl_pow2"(double n) noexcept
    double exponent "fsl_exponent"(double x) noexcept
    double mantissa "fsl_mantissa"(double x) noexcept
    double exp64 "fsl_exp64"(double x) noexcept
    double emissions "fsl_emissions"(const double *x, Py_ssize_t used, Py_ssize_t n, bint probs, double *y,
                                     double *shift) noexcept
    int refresh "fsl_refresh"(double *b, double *l, const double *eb, const double *el, double *eb_new,
                              double *el_new, Py_ssize_t lo, Py_ssize_t hi, int window, double *scratch0,
                              double *scratch1) noexcept
    int factors "fsl_factors"(const double *eb, double *el, const double *skip, double *lb, double *bl, double *ll,
                              Py_ssize_t lo, Py_ssize_t hi) noexcept
    void spread "fsl_spread"(const int32_t *u, const double *y, double *e, Py_ssize_t lo, Py_ssize_t hi) noexcept
    void forward "fsl_forward"(const double *b, const double *l, double *b_out, double *l_out, const double *lb,
                               const double *bl, const double *ll, const double *e, double blank,
                               Py_ssize_t lo, Py_ssize_t hi) noexcept
    double backward "fsl_backward"(double *qb, double *ql, const double *b, const double *l, const double *lb,
                                   const double *bl, const double *ll, const double *e, double blank,
                                   double *post, Py_ssize_t lo, Py_ssize_t hi) noexcept
    void convert "fsl_convert"(double *q, const double *source, const double *to, Py_ssize_t lo,
                               Py_ssize_t hi) noexcept
    void split_exp "fsl_split_exp"(const double *x, Py_ssize_t n, double shift, double *m, double *e) noexcept
    double split_ratio "fsl_split_ratio"(const double *p, Py_ssize_t n, double shift, double *m, double *e,
                                         double *shift_m) noexcept
    void emit "fsl_emit"(const double *v, const double *e, const int32_t *u, const double *m, const double *n,
                         double *v_out, double *e_out, Py_ssize_t size) noexcept
    void general_forward "fsl_general_forward"(
        const double *b, const double *eb, const double *l, const double *el, const double *skip, double *b_out,
        double *eb_out, double *l_out, double *el_out, Py_ssize_t size) noexcept
    void general_backward "fsl_general_backward"(
        const double *b, const double *eb, const double *l, const double *el, const double *skip, double *b_out,
        double *eb_out, double *l_out, double *el_out, Py_ssize_t size) noexcept
    double product_exponent "fsl_product_exponent"(
        const double *v, const double *ev, const double *w, const double *ew, Py_ssize_t size,
        double largest) noexcept
    void product "fsl_product"(const double *v, const double *ev, const double *w, const double *ew, double unit,
                               double *out, Py_ssize_t size) noexcept


cdef enum Input:
    LOGITS = 0
    LOG_PROBS = 1
    PROBS = 2

cdef double LN2 = 0.693147180559945309417
# Entries before index 0 of every row of states: refresh looks WINDOW states back.
cdef enum:
    PAD = 16
# Alphas of a sequence up to this size (bytes) are all kept; longer ones are checkpointed.
cdef Py_ssize_t KEEP = 1 << 20


cdef struct Sequence:
    # the problem
    Input input
    bint with_grad, in_place
    Py_ssize_t n_classes, blank, frames, n_labels
    Py_ssize_t x_stride, g_stride          # elements between frames
    double scale
    # sizes
    Py_ssize_t used, emission_width        # classes used (blank first), padded
    Py_ssize_t size, width                 # states, padded; with the padding of a row
    Py_ssize_t block, n_blocks             # steps in a block, blocks
    # labels
    int32_t *position                      # [V] of a class among those used: a sparse set with `classes`
    int32_t *classes                       # [used]
    int32_t *u                             # [width] the class of a label state, as an index into `classes`
    int32_t *blank_u                       # [width] the same for the blank states: 0
    double *skip                           # [width] 1 where l[i-1] may be followed by l[i]
    int64_t *need                          # [n_labels] frames before a label can be reached
    # per frame
    double *coefficient                    # [frames] softmax = coefficient * y for logits; p = coefficient * y
    double *cost                           # [frames] binary orders of magnitude spanned by the emissions
    void *stash                            # [frames, used] the scores gathered, when x is overwritten
    # workspace
    double *score                          # [emission_width] scores of one frame
    double *y                              # [block + 1, emission_width]
    double *em                             # [emission_width] emissions of one frame as em * 2^ee
    double *ee
    double *class_post                     # [emission_width] posterior by class
    double *rows                           # [block + 1, 2, width] alphas
    double *spread                         # [block + 1, width] emissions of the label states
    double *exponents                      # [block + 1, 2, width] their exponents, a pair per segment
    Py_ssize_t *segment                    # [block + 1, 3] of a segment: last frame, lo, hi
    double *checkpoints                    # [n_blocks, 4, width]
    double *lb                             # [width] each
    double *bl
    double *ll
    double *qb
    double *ql
    double *post
    double *scratch                        # [12, width]
    # results
    double log_norm, norm_product          # sum of the logs of what emissions were divided by
    bint is_nan


# ---- layout ---------------------------------------------------------------------------------

cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef inline void *take(uintptr_t *cursor, Py_ssize_t n_bytes) noexcept nogil:
    cdef uintptr_t start = cursor[0]
    cursor[0] = start + <uintptr_t> round_up(n_bytes, 64)
    return <void *> start


cdef uintptr_t lay_out(Sequence *s, Py_ssize_t itemsize, uintptr_t base) noexcept nogil:
    """Sizes of a sequence and, from `base` on, its arrays; returns where they end."""
    cdef uintptr_t cursor = base
    cdef Py_ssize_t most = min(s.n_labels + 1, s.n_classes)
    cdef Py_ssize_t steps = max(s.frames - 1, 1)
    s.size = round_up(s.n_labels + 1, STATES)
    s.width = PAD + s.size + STATES
    s.emission_width = round_up(most + 1, STATES)
    s.block = steps
    if steps * s.width * 24 > KEEP:
        s.block = 2 * WINDOW
        while s.block * s.block < steps:
            s.block += WINDOW
    s.n_blocks = (steps + s.block - 1) // s.block
    cdef Py_ssize_t kept = s.block + 1 if s.with_grad else 2
    cdef Py_ssize_t row = s.width * sizeof(double)
    s.classes = <int32_t *> take(&cursor, most * sizeof(int32_t))
    s.u = <int32_t *> take(&cursor, s.width * sizeof(int32_t))
    s.blank_u = <int32_t *> take(&cursor, s.width * sizeof(int32_t))
    s.skip = <double *> take(&cursor, row)
    s.need = <int64_t *> take(&cursor, s.n_labels * sizeof(int64_t))
    s.coefficient = <double *> take(&cursor, s.frames * sizeof(double))
    s.cost = <double *> take(&cursor, s.frames * sizeof(double))
    s.stash = take(&cursor, s.frames * most * itemsize if s.in_place else 0)
    s.score = <double *> take(&cursor, s.emission_width * sizeof(double))
    s.y = <double *> take(&cursor, (s.block + 1) * s.emission_width * sizeof(double))
    s.em = <double *> take(&cursor, s.emission_width * sizeof(double))
    s.ee = <double *> take(&cursor, s.emission_width * sizeof(double))
    s.class_post = <double *> take(&cursor, s.emission_width * sizeof(double))
    s.rows = <double *> take(&cursor, 2 * kept * row)
    s.spread = <double *> take(&cursor, kept * row)
    s.exponents = <double *> take(&cursor, 2 * (s.block + 1) * row)
    s.segment = <Py_ssize_t *> take(&cursor, 3 * (s.block + 1) * sizeof(Py_ssize_t))
    s.checkpoints = <double *> take(&cursor, 4 * (s.n_blocks if s.with_grad else 0) * row)
    s.lb = <double *> take(&cursor, row)
    s.bl = <double *> take(&cursor, row)
    s.ll = <double *> take(&cursor, row)
    s.qb = <double *> take(&cursor, row)
    s.ql = <double *> take(&cursor, row)
    s.post = <double *> take(&cursor, row)
    s.scratch = <double *> take(&cursor, 12 * row)
    return cursor


cdef inline double *row(Sequence *s, double *rows, Py_ssize_t r, Py_ssize_t which) noexcept nogil:
    return rows + (2 * r + which) * s.width + PAD


cdef void fill(double *x, Py_ssize_t n, double value) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = value


cdef void set_labels(Sequence *s, const int64_t *labels) noexcept nogil:
    """Number the classes that occur, the blank first, and find which labels may follow without a blank."""
    cdef Py_ssize_t i, k
    cdef int64_t frame = 0
    s.classes[0] = <int32_t> s.blank
    s.used = 1
    for i in range(s.n_labels):
        k = s.position[labels[i]]
        if not (0 < k < s.used and s.classes[k] == labels[i]):
            k = s.used
            s.classes[k] = <int32_t> labels[i]
            s.position[labels[i]] = <int32_t> k
            s.used += 1
        s.u[PAD + i] = <int32_t> k
    memset(s.skip, 0, s.width * sizeof(double))
    for i in range(s.n_labels):
        if i > 0:
            frame += 1
            if labels[i] == labels[i - 1]:
                frame += 1
            else:
                s.skip[PAD + i] = 1
        s.need[i] = frame
    for i in range(PAD):
        s.u[i] = <int32_t> s.used
    for i in range(PAD + s.n_labels, s.width):
        s.u[i] = <int32_t> s.used
    memset(s.blank_u, 0, s.width * sizeof(int32_t))


# ---- frames: scores in, gradient out --------------------------------------------------------

cdef inline void divide_by(Sequence *s, double norm) noexcept nogil:
    """log_norm += log(norm), by way of a product: one log for many frames."""
    s.norm_product *= norm
    if s.norm_product > 1e200:
        s.log_norm += log64(s.norm_product)
        s.norm_product = 1


cdef inline double emit_frame(Sequence *s, const floating *x, Py_ssize_t t, bint first, double *y,
                              double *shift) noexcept nogil:
    """Scores of the classes used at frame t and their emissions; what `emissions` returns."""
    cdef floating *kept = (<floating *> s.stash) + t * s.used
    cdef const floating *frame = x + t * s.x_stride
    cdef Py_ssize_t k
    if s.in_place and not first:
        for k in range(s.used):
            s.score[k] = kept[k]
    else:
        for k in range(s.used):
            s.score[k] = frame[s.classes[k]]
        if s.in_place:
            for k in range(s.used):
                kept[k] = <floating> s.score[k]
    for k in range(s.used, s.emission_width):
        s.score[k] = s.score[0]
    return emissions(s.score, s.used, s.emission_width, s.input == PROBS, y, shift)


cdef void open_frame(Sequence *s, const floating *x, floating *g, Py_ssize_t t, double *y) noexcept nogil:
    """Dense pass and emissions of a frame, met for the first time."""
    cdef double shift, row_max, row_sum
    cdef floating *out = g + t * s.g_stride if s.with_grad else NULL
    s.cost[t] = emit_frame(s, x, t, True, y, &shift)
    s.is_nan |= isnan(s.cost[t])
    if s.input == LOGITS:
        softmax_row(x + t * s.x_stride, s.n_classes, out, s.scale, &row_max, &row_sum)
        s.is_nan |= isnan(row_sum)
        if shift > -INFINITY:
            s.log_norm += row_max - shift
            divide_by(s, row_sum)
            s.coefficient[t] = exp64(shift - row_max) / row_sum
        else:
            s.coefficient[t] = 0
    else:
        if s.with_grad:
            memset(out, 0, s.n_classes * sizeof(floating))
        if s.input == LOG_PROBS:
            s.log_norm -= shift if shift > -INFINITY else 0
        elif shift > 0:
            s.log_norm -= log64(shift)
            s.coefficient[t] = shift
        else:
            s.coefficient[t] = 1


cdef void close_frame(Sequence *s, floating *g, Py_ssize_t t, const double *y) noexcept nogil:
    """Gradient of the classes used, from their posteriors (for probabilities: posterior / y)."""
    cdef floating *out = g + t * s.g_stride
    cdef double coefficient = s.coefficient[t]
    cdef Py_ssize_t k
    if s.input == LOGITS:
        for k in range(s.used):
            out[s.classes[k]] = <floating> (s.scale * (coefficient * y[k] - s.class_post[k]))
    elif s.input == LOG_PROBS:
        for k in range(s.used):
            out[s.classes[k]] = <floating> (-s.scale * s.class_post[k])
    else:
        for k in range(s.used):
            out[s.classes[k]] = <floating> (-s.scale * s.class_post[k] / coefficient)


cdef void fill_frames(Sequence *s, floating *g, Py_ssize_t start, Py_ssize_t stop, double value) noexcept nogil:
    cdef Py_ssize_t t, i
    cdef floating *out
    if s.with_grad:
        for t in range(start, stop):
            out = g + t * s.g_stride
            for i in range(s.n_classes):
                out[i] = <floating> value


# ---- fast path ------------------------------------------------------------------------------

cdef Py_ssize_t first_alive(Sequence *s, Py_ssize_t t) noexcept nogil:
    """The first label from which the end can still be reached after frame t."""
    cdef Py_ssize_t lo = 0, hi = s.n_labels, mid
    if s.n_labels == 0:
        return 0
    cdef int64_t least = s.need[s.n_labels - 1] - (s.frames - 1 - t)
    while lo < hi:
        mid = (lo + hi) // 2
        if s.need[mid] < least:
            lo = mid + 1
        else:
            hi = mid
    return lo


cdef Py_ssize_t first_unreached(Sequence *s, Py_ssize_t t) noexcept nogil:
    """The first label that cannot be reached by frame t."""
    cdef Py_ssize_t lo = 0, hi = s.n_labels, mid
    while lo < hi:
        mid = (lo + hi) // 2
        if s.need[mid] <= t:
            lo = mid + 1
        else:
            hi = mid
    return lo


cdef Py_ssize_t window_from(Sequence *s, Py_ssize_t t, Py_ssize_t stop) noexcept nogil:
    """How many steps from frame t the emissions allow without a refresh; 0 if not one."""
    cdef double spent = 0
    cdef Py_ssize_t steps = 0
    while steps < WINDOW and t + steps < stop:
        spent += s.cost[t + steps + 1]
        if spent > BUDGET:
            break
        steps += 1
    return steps


cdef Py_ssize_t forward_block(Sequence *s, Py_ssize_t start, Py_ssize_t stop, bint keep, Py_ssize_t cone_lo,
                              Py_ssize_t cone_hi) noexcept nogil:
    """Steps from frame `start`, whose alphas are row 0, to frame `stop`.

    All rows are kept, or just the last two. Only states are computed that can reach the labels from
    `cone_lo` to `cone_hi` by frame `stop`. Returns the number of segments, each with its exponents, or -1
    where the sequence belongs to the general path.
    """
    cdef Py_ssize_t t = start, k = 0, r = 0, lo, hi, filled = s.size, steps, _step
    cdef double *b
    cdef double *l
    cdef double *eb
    cdef double *el
    cdef double *e
    cdef double *y
    while t < stop:
        steps = window_from(s, t, stop)
        if steps == 0:
            return -1
        lo = max(first_alive(s, t), cone_lo - (stop - t), 0) // STATES * STATES
        hi = min(round_up(first_unreached(s, t + steps) + 1, STATES), cone_hi)
        lo = min(lo, hi - STATES)
        b, l = row(s, s.rows, r, 0), row(s, s.rows, r, 1)
        eb, el = row(s, s.exponents, k, 0), row(s, s.exponents, k, 1)
        if filled < hi:
            fill(b + filled, hi - filled, 0)
            fill(l + filled, hi - filled, 0)
            fill(eb + filled, hi - filled, DEAD)
            fill(el + filled, hi - filled, DEAD)
        filled = hi
        k += 1
        if refresh(b, l, eb, el, row(s, s.exponents, k, 0), row(s, s.exponents, k, 1), lo, hi, <int> steps,
                   s.scratch + PAD, s.scratch + s.width + PAD):
            return -1
        if factors(row(s, s.exponents, k, 0), row(s, s.exponents, k, 1), s.skip + PAD, s.lb + PAD, s.bl + PAD,
                   s.ll + PAD, lo, hi):
            return -1
        for _step in range(steps):
            l[lo - 1] = 0
            r = r + 1 if keep else 1 - r
            e = s.spread + r * s.width + PAD
            y = s.y + (t + 1 - start) * s.emission_width
            spread(s.u + PAD, y, e, lo, hi)
            forward(b, l, row(s, s.rows, r, 0), row(s, s.rows, r, 1), s.lb + PAD, s.bl + PAD, s.ll + PAD, e, y[0],
                    lo, hi)
            b, l = row(s, s.rows, r, 0), row(s, s.rows, r, 1)
            t += 1
        s.segment[3 * k] = t
        s.segment[3 * k + 1] = lo
        s.segment[3 * k + 2] = hi
    fill(row(s, s.rows, r, 0) + filled, s.size - filled, 0)
    fill(row(s, s.rows, r, 1) + filled, s.size - filled, 0)
    fill(row(s, s.exponents, k, 0) + filled, s.size - filled, DEAD)
    fill(row(s, s.exponents, k, 1) + filled, s.size - filled, DEAD)
    return k


cdef void copy_state(Sequence *s, double *v_out, double *e_out, const double *v, const double *e) noexcept nogil:
    """Copies a row and its exponents (pointers to the starts of pairs, padding included)."""
    memmove(v_out, v, 2 * s.width * sizeof(double))
    memmove(e_out, e, 2 * s.width * sizeof(double))


cdef void first_alphas(Sequence *s, double b, double l) noexcept nogil:
    """Row 0: nothing but the first blank and the first label."""
    fill(s.rows, 2 * s.width, 0)
    fill(s.exponents, 2 * s.width, DEAD)
    row(s, s.rows, 0, 0)[0] = b
    row(s, s.exponents, 0, 0)[0] = 0
    if s.n_labels:
        row(s, s.rows, 0, 1)[0] = l
        row(s, s.exponents, 0, 1)[0] = 0


cdef Py_ssize_t forward_sweep(Sequence *s, const floating *x, floating *g) noexcept nogil:
    """Opens every frame and carries the alphas to the last one.

    Returns the segments of the last block, whose rows are kept, or -1 for the general path.
    """
    cdef Py_ssize_t j, t, start, stop, k = 0, r = 0
    cdef bint keep
    cdef double *e0
    open_frame(s, x, g, 0, s.y)
    first_alphas(s, s.y[0], s.y[s.u[PAD]])
    if s.cost[0] > BUDGET:
        k = -1
    for j in range(s.n_blocks):
        start, stop = j * s.block, min((j + 1) * s.block, s.frames - 1)
        keep = s.with_grad and j == s.n_blocks - 1
        if j > 0:
            memcpy(s.y, s.y + s.block * s.emission_width, s.emission_width * sizeof(double))
        for t in range(start + 1, stop + 1):
            open_frame(s, x, g, t, s.y + (t - start) * s.emission_width)
        if k < 0 or s.is_nan:
            continue
        if j > 0:
            copy_state(s, s.rows, s.exponents, row(s, s.rows, r, 0) - PAD, row(s, s.exponents, k, 0) - PAD)
        if s.with_grad:
            e0 = s.checkpoints + 4 * j * s.width
            copy_state(s, e0, e0 + 2 * s.width, s.rows, s.exponents)
        k = forward_block(s, start, stop, keep, 0, s.size)
        r = stop - start if keep else (stop - start) % 2
    return k


cdef double log_total(double b, double eb, double l, double el) noexcept nogil:
    """log(b 2^eb + l 2^el), of numbers not both 0."""
    cdef double unit = max(eb if b > 0 else DEAD, el if l > 0 else DEAD)
    return unit * LN2 + log64(b * pow2(eb - unit) + l * pow2(el - unit))


cdef struct Band:
    Py_ssize_t lo, hi


cdef inline bint is_zero(const double *qb, const double *ql, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t k
    cdef double total = 0
    for k in range(i, i + STATES):
        total += qb[k] + ql[k]
    return total == 0


cdef inline void trim(Sequence *s, Band *band) noexcept nogil:
    """Drop whole vectors of states whose beta was cut off."""
    while band.lo < band.hi and is_zero(s.qb + PAD, s.ql + PAD, band.lo):
        band.lo += STATES
    while band.lo < band.hi and is_zero(s.qb + PAD, s.ql + PAD, band.hi - STATES):
        band.hi -= STATES


cdef void collect(Sequence *s, double blank_post, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    """class_post from the posteriors of the states in [lo, hi)."""
    cdef Py_ssize_t i
    cdef const int32_t *u = s.u + PAD
    cdef const double *post = s.post + PAD
    memset(s.class_post, 0, s.emission_width * sizeof(double))
    for i in range(lo, hi):
        s.class_post[u[i]] += post[i]
    s.class_post[0] = blank_post


cdef void close_fast(Sequence *s, floating *g, Py_ssize_t t, double blank_post, Band band,
                     const double *y) noexcept nogil:
    cdef Py_ssize_t k
    collect(s, blank_post, band.lo, band.hi)
    if s.input == PROBS:
        for k in range(s.used):
            s.class_post[k] /= y[k]
    close_frame(s, g, t, y)


cdef Band last_betas(Sequence *s, floating *g, Py_ssize_t r, Py_ssize_t k, const double *y) noexcept nogil:
    """Posteriors of the last frame, where only the last label and the last blank count."""
    cdef Py_ssize_t n = s.n_labels, last = s.n_labels - 1
    cdef double b = row(s, s.rows, r, 0)[n], eb = row(s, s.exponents, k, 0)[n], l = 0, el = DEAD, unit, total
    cdef Band band
    if n:
        l, el = row(s, s.rows, r, 1)[last], row(s, s.exponents, k, 1)[last]
    unit = max(eb if b > 0 else DEAD, el if l > 0 else DEAD)
    total = b * pow2(eb - unit) + l * pow2(el - unit)
    fill(s.qb, s.width, 0)
    fill(s.ql, s.width, 0)
    band.lo, band.hi = max(last, 0) // STATES * STATES, round_up(n + 1, STATES)
    fill(s.post + PAD + band.lo, band.hi - band.lo, 0)
    if n and l > 0:
        s.ql[PAD + last] = pow2(el - unit) / total
        s.post[PAD + last] = l * s.ql[PAD + last]
        s.ql[PAD + last] *= y[s.u[PAD + last]]
    if b > 0:
        s.qb[PAD + n] = pow2(eb - unit) / total
        b *= s.qb[PAD + n]
        s.qb[PAD + n] *= y[0]
    close_fast(s, g, s.frames - 1, b, band, y)
    return band


cdef Band backward_block(Sequence *s, floating *g, Py_ssize_t start, Py_ssize_t k, Band band) noexcept nogil:
    """Closes the frames of a block, last to first, given its rows and `k` segments."""
    cdef Py_ssize_t t = s.segment[3 * k], first, seg_lo, seg_hi
    cdef double *y
    cdef double *e
    cdef double blank_post
    while k > 0:
        first = start if k == 1 else s.segment[3 * k - 3]
        seg_lo, seg_hi = s.segment[3 * k + 1], s.segment[3 * k + 2]
        factors(row(s, s.exponents, k, 0), row(s, s.exponents, k, 1), s.skip + PAD, s.lb + PAD, s.bl + PAD,
                s.ll + PAD, seg_lo, seg_hi)
        while t > first:
            t -= 1
            y = s.y + (t - start) * s.emission_width
            if band.lo > seg_lo and s.qb[PAD + band.lo] + s.ql[PAD + band.lo] != 0:
                band.lo -= STATES
            e = s.spread + (t - start) * s.width + PAD
            if t == start:
                spread(s.u + PAD, y, e, band.lo, band.hi)
            blank_post = backward(s.qb + PAD, s.ql + PAD, row(s, s.rows, t - start, 0), row(s, s.rows, t - start, 1),
                                  s.lb + PAD, s.bl + PAD, s.ll + PAD, e, y[0], s.post + PAD, band.lo, band.hi)
            trim(s, &band)
            close_fast(s, g, t, blank_post, band, y)
        convert_band(s, k, k - 1, band)
        k -= 1
    return band


cdef void convert_band(Sequence *s, Py_ssize_t source, Py_ssize_t to, Band band) noexcept nogil:
    convert(s.qb + PAD, row(s, s.exponents, source, 0), row(s, s.exponents, to, 0), band.lo, band.hi)
    convert(s.ql + PAD, row(s, s.exponents, source, 1), row(s, s.exponents, to, 1), band.lo, band.hi)


cdef bint backward_sweep(Sequence *s, const floating *x, floating *g, Py_ssize_t k) noexcept nogil:
    """Closes every frame; k is what forward_sweep returned. False for the general path."""
    cdef Py_ssize_t j, t, start = (s.n_blocks - 1) * s.block, stop
    cdef double *checkpoint
    cdef double shift
    cdef Band band = last_betas(s, g, s.frames - 1 - start, k, s.y + (s.frames - 1 - start) * s.emission_width)
    if s.frames == 1:
        return True
    band = backward_block(s, g, start, k, band)
    for j in range(s.n_blocks - 2, -1, -1):
        start, stop = j * s.block, (j + 1) * s.block
        for t in range(start, stop + 1):
            emit_frame(s, x, t, False, s.y + (t - start) * s.emission_width, &shift)
        checkpoint = s.checkpoints + 4 * j * s.width
        copy_state(s, s.rows, s.exponents, checkpoint, checkpoint + 2 * s.width)
        k = forward_block(s, start, stop, True, band.lo, band.hi)
        if k < 0:
            return False
        checkpoint = s.checkpoints + 4 * (j + 1) * s.width
        convert(s.qb + PAD, checkpoint + 2 * s.width + PAD, row(s, s.exponents, k, 0), band.lo, band.hi)
        convert(s.ql + PAD, checkpoint + 3 * s.width + PAD, row(s, s.exponents, k, 1), band.lo, band.hi)
        band = backward_block(s, g, start, k, band)
    return True


# ---- general path ---------------------------------------------------------------------------

cdef double split_emissions(Sequence *s, const floating *x, Py_ssize_t t) noexcept nogil:
    """Emissions of frame t as em * 2^ee, and in row 0 of y as they are.

    Of probabilities, the coefficient becomes the mantissa of what they were divided by; returns its exponent.
    """
    cdef double shift, shift_exponent = 0
    emit_frame(s, x, t, False, s.y, &shift)
    if s.input == PROBS:
        shift_exponent = split_ratio(s.score, s.used, shift, s.em, s.ee, &s.coefficient[t])
    else:
        split_exp(s.score, s.used, shift, s.em, s.ee)
    s.em[s.used] = s.ee[s.used] = 0  # the class of the padding states
    return shift_exponent


cdef void emit_states(Sequence *s, const double *v, const double *e, double *v_out, double *e_out) noexcept nogil:
    """Multiply a pair of rows (blank, label; pointers to index 0) by the emissions of the frame."""
    emit(v, e, s.blank_u + PAD, s.em, s.ee, v_out, e_out, s.size)
    emit(v + s.width, e + s.width, s.u + PAD, s.em, s.ee, v_out + s.width, e_out + s.width, s.size)


cdef Py_ssize_t general_steps(Sequence *s, const floating *x, Py_ssize_t start, Py_ssize_t stop, bint keep,
                              double *v, double *e) noexcept nogil:
    """As forward_block, but rows hold alphas before emission, each with exponents of its own."""
    cdef Py_ssize_t t, r = 0, next_r
    cdef double *v_next
    cdef double *e_next
    for t in range(start, stop):
        split_emissions(s, x, t)
        emit_states(s, row(s, s.rows, r, 0), row(s, s.exponents, r, 0), v, e)
        next_r = r + 1 if keep else 1 - r
        v_next, e_next = row(s, s.rows, next_r, 0), row(s, s.exponents, next_r, 0)
        general_forward(v, e, v + s.width, e + s.width, s.skip + PAD, v_next, e_next, v_next + s.width,
                        e_next + s.width, s.size)
        r = next_r
    return r


cdef void general_close(Sequence *s, const floating *x, floating *g, Py_ssize_t t, Py_ssize_t r, double *beta,
                        double *e_beta, double *v, double *e) noexcept nogil:
    """Gradient at frame t from alphas in row r and betas; leaves betas times emissions in v, e.

    Posteriors are made to add up to one. Probabilities need posterior / y instead, which is alpha before
    emission times beta, and finite where y is 0.
    """
    cdef double *a = row(s, s.rows, r, 0)
    cdef double *ea = row(s, s.exponents, r, 0)
    cdef double unit, total = 0, blank_post = 0, shift_exponent = split_emissions(s, x, t)
    cdef Py_ssize_t i, w = s.width
    emit_states(s, beta, e_beta, v, e)
    unit = product_exponent(a + w, ea + w, v + w, e + w, s.size, product_exponent(a, ea, v, e, s.size, DEAD))
    for i in range(2):
        product(a + i * w, ea + i * w, v + i * w, e + i * w, unit, s.post + PAD, s.size)
        total += sum_of(s.post + PAD, s.size)
    if s.input == PROBS:
        unit += shift_exponent
        product(a, ea, beta, e_beta, unit, s.post + PAD, s.size)
        blank_post = sum_of(s.post + PAD, s.size)
        product(a + w, ea + w, beta + w, e_beta + w, unit, s.post + PAD, s.size)
    else:
        product(a, ea, v, e, unit, s.post + PAD, s.size)
        blank_post = sum_of(s.post + PAD, s.size)
        product(a + w, ea + w, v + w, e + w, unit, s.post + PAD, s.size)
    collect(s, blank_post, 0, s.size)
    for i in range(s.used):
        s.class_post[i] /= total if total > 0 else 1
    close_frame(s, g, t, s.y)


cdef double sum_of(const double *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(n):
        total += x[i]
    return total


cdef double general(Sequence *s, const floating *x, floating *g) noexcept nogil:
    """Log-likelihood of the lattice, and the gradient, by the general path. Frames have been opened."""
    cdef Py_ssize_t j, t, r = 0, start, stop, n = s.n_labels, w = s.width
    cdef double *v = s.scratch + PAD                # pairs of rows: emitted betas, betas, emitted alphas
    cdef double *e = v + 2 * w
    cdef double *beta = v + 4 * w
    cdef double *e_beta = v + 6 * w
    cdef double *tv = v + 8 * w
    cdef double *te = v + 10 * w
    cdef double *checkpoint
    cdef double total
    for j in range(0, 12, 4):
        fill(s.scratch + j * w, 2 * w, 0)
        fill(s.scratch + (j + 2) * w, 2 * w, DEAD)
    first_alphas(s, 1, 1)
    for j in range(s.n_blocks):
        start, stop = j * s.block, min((j + 1) * s.block, s.frames - 1)
        if j > 0:
            copy_state(s, s.rows, s.exponents, row(s, s.rows, r, 0) - PAD, row(s, s.exponents, r, 0) - PAD)
        if s.with_grad:
            checkpoint = s.checkpoints + 4 * j * w
            copy_state(s, checkpoint, checkpoint + 2 * w, s.rows, s.exponents)
        r = general_steps(s, x, start, stop, s.with_grad and j == s.n_blocks - 1, tv, te)
    split_emissions(s, x, s.frames - 1)
    emit_states(s, row(s, s.rows, r, 0), row(s, s.exponents, r, 0), v, e)
    if not (v[n] > 0 or (n > 0 and v[w + n - 1] > 0)):
        return -INFINITY
    total = log_total(v[n], e[n], v[w + n - 1] if n else 0, e[w + n - 1] if n else DEAD)
    if total < 0.5 * DEAD:
        return -INFINITY  # or nearly: exponents have reached the end of their range
    if not s.with_grad:
        return total
    beta[n], e_beta[n] = 1, 0
    if n:
        beta[w + n - 1], e_beta[w + n - 1] = 1, 0
    general_close(s, x, g, s.frames - 1, r, beta, e_beta, v, e)
    for j in range(s.n_blocks - 1, -1, -1):
        start, stop = j * s.block, min((j + 1) * s.block, s.frames - 1)
        if j < s.n_blocks - 1:
            checkpoint = s.checkpoints + 4 * j * w
            copy_state(s, s.rows, s.exponents, checkpoint, checkpoint + 2 * w)
            general_steps(s, x, start, stop, True, tv, te)
        for t in range(stop - 1, start - 1, -1):
            general_backward(v, e, v + w, e + w, s.skip + PAD, beta, e_beta, beta + w, e_beta + w, s.size)
            general_close(s, x, g, t, t - start, beta, e_beta, v, e)
    return total


# ---- a sequence, a batch --------------------------------------------------------------------

cdef double lattice(Sequence *s, const floating *x, floating *g) noexcept nogil:
    """Log-likelihood of the lattice and the gradient: fast path, else general path."""
    cdef Py_ssize_t k = forward_sweep(s, x, g), r, n = s.n_labels
    cdef double b, l = 0, el = DEAD, total
    if s.is_nan:
        return NAN
    if k < 0:
        return general(s, x, g)
    r = s.frames - 1 - (s.n_blocks - 1) * s.block
    r = r if s.with_grad else r % 2
    b = row(s, s.rows, r, 0)[n]
    if n:
        l, el = row(s, s.rows, r, 1)[n - 1], row(s, s.exponents, k, 1)[n - 1]
    if not (b > 0 or l > 0):
        return -INFINITY
    total = log_total(b, row(s, s.exponents, k, 0)[n], l, el)
    if s.with_grad and not backward_sweep(s, x, g, k):
        general(s, x, g)
    return total


cdef double run_sequence(Sequence *s, const floating *x, floating *g, const int64_t *labels, Py_ssize_t n_frames,
                         bint feasible) noexcept nogil:
    """Loss of one sequence; its gradient, padding included, goes to g."""
    cdef double total
    fill_frames(s, g, s.frames, n_frames, 0)
    if s.scale == 0 or not feasible:
        fill_frames(s, g, 0, s.frames, 0)
        return INFINITY if not feasible else 0
    if s.frames == 0:
        return 0
    set_labels(s, labels)
    total = lattice(s, x, g)
    total = s.log_norm + log64(s.norm_product) - total
    if isnan(total) or total == INFINITY:
        fill_frames(s, g, 0, s.frames, 0 if total == INFINITY else NAN)
    elif s.input == LOGITS and total < 0:
        total = 0  # by rounding alone
    return total


def ctc_loss(const floating[:, :, :] logits, const int64_t[::1] labels, const int64_t[::1] starts,
             const int64_t[::1] logit_lengths, const int64_t[::1] label_lengths, const int64_t[::1] frames_needed,
             const double[::1] scale, const int64_t[::1] order, int input_kind, Py_ssize_t blank,
             double[::1] loss, floating[:, :, :] grad, bint in_place, int num_threads):
    """Losses and, unless grad is None, gradients times scale, of a checked batch.

    IN   logits [B, T, V], labels of sequence b from starts[b] on, order: sequences, longest first.
    OUT  loss [B], inf where logit_lengths < frames_needed; grad [B, T, V], which is logits if in_place.
    """
    cdef Py_ssize_t n = logits.shape[0], n_frames = logits.shape[1], n_classes = logits.shape[2], i, b, used
    cdef bint with_grad = grad is not None, empty = n_frames == 0
    cdef const floating *x = NULL if empty else &logits[0, 0, 0]
    cdef floating *g = NULL if empty or not with_grad else &grad[0, 0, 0]
    cdef Py_ssize_t x_step = logits.strides[0] // <Py_ssize_t> sizeof(floating)
    cdef Py_ssize_t g_step = grad.strides[0] // <Py_ssize_t> sizeof(floating) if with_grad else 0
    cdef const int64_t *label = &labels[0] if labels.shape[0] else NULL
    cdef Sequence common
    cdef Py_ssize_t room = 0
    memset(&common, 0, sizeof(Sequence))
    common.input = <Input> input_kind
    common.with_grad, common.in_place = with_grad, in_place
    common.n_classes, common.blank = n_classes, blank
    common.x_stride = logits.strides[1] // <Py_ssize_t> sizeof(floating)
    common.g_stride = grad.strides[1] // <Py_ssize_t> sizeof(floating) if with_grad else 0
    common.norm_product = 1
    for b in range(n):
        common.frames, common.n_labels = logit_lengths[b], label_lengths[b]
        room = max(room, <Py_ssize_t> lay_out(&common, sizeof(floating), 0))
    # Classes are looked up in an array of zeros per thread, before the workspace.
    used = round_up(n_classes * sizeof(int32_t), 64)
    cdef char *workspace = <char *> calloc(num_threads, used)
    cdef char *arrays = <char *> malloc(num_threads * room + 64)
    if workspace == NULL or arrays == NULL:
        free(workspace)
        free(arrays)
        raise MemoryError(f"no memory for a workspace of {num_threads * (room + used)} bytes")
    cdef uintptr_t base = (<uintptr_t> arrays + 63) // 64 * 64
    with nogil:
        if num_threads == 1:
            for i in range(n):
                b = order[i]
                loss[b] = start_sequence(common, b, x + b * x_step, g + b * g_step, label, &starts[0],
                                         &logit_lengths[0], &label_lengths[0], &frames_needed[0], scale[b],
                                         n_frames, <int32_t *> workspace, base, sizeof(floating))
        else:
            for i in prange(n, schedule="dynamic", chunksize=1, num_threads=num_threads):
                b = order[i]
                loss[b] = start_sequence(common, b, x + b * x_step, g + b * g_step, label, &starts[0],
                                         &logit_lengths[0], &label_lengths[0], &frames_needed[0], scale[b],
                                         n_frames, <int32_t *> (workspace + threadid() * used),
                                         base + threadid() * room, sizeof(floating))
    free(workspace)
    free(arrays)


cdef double start_sequence(Sequence common, Py_ssize_t b, const floating *x, floating *g, const int64_t *labels,
                           const int64_t *starts, const int64_t *logit_lengths, const int64_t *label_lengths,
                           const int64_t *frames_needed, double scale, Py_ssize_t n_frames, int32_t *position,
                           uintptr_t workspace, Py_ssize_t itemsize) noexcept nogil:
    cdef Sequence s = common
    s.frames, s.n_labels, s.scale, s.position = logit_lengths[b], label_lengths[b], scale, position
    lay_out(&s, itemsize, workspace)
    return run_sequence(&s, x, g, labels + starts[b], n_frames, logit_lengths[b] >= frames_needed[b])
