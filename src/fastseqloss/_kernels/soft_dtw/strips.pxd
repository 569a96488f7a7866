"""The grid of one alignment, in strips of rows: values down, posteriors up.

A strip hands its last row of values down, and the posteriors of the arcs that leave it up. Shares of as many strips as
fit the cache are kept; those of the others are computed again on the way back, which costs less than memory does.
Diagonal n of a strip has the cells (r, n - r), with r counted from the first row of the strip.
"""

from cython cimport floating
from libc.math cimport INFINITY, NAN, isfinite
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from fastseqloss._kernels.lattice.extended_range cimport DEAD
from fastseqloss._kernels.lattice.diagonals cimport (
    LANES, LOG2E, cost_range, diagonal_best, diagonal_posteriors, diagonal_share, diagonal_share_wide, diagonal_sum,
    fetch, fetch_to_write,
)
from fastseqloss._kernels.parallel.workspace cimport size_product, take
from fastseqloss._kernels.simd.softmax cimport log64


cdef extern from "soft_dtw/costs.h" nogil:
    void squared_distances "fsl_dtw_costs"(const double *x, Py_ssize_t x_pitch, const double *y, Py_ssize_t y_pitch,
                                           Py_ssize_t features, double *cost, Py_ssize_t lo, Py_ssize_t hi) noexcept
    void scatter "fsl_dtw_scatter"(const double *posterior, double factor, const double *x, Py_ssize_t x_pitch,
                                   const double *y, Py_ssize_t y_pitch, Py_ssize_t features, double *grad_x,
                                   double *grad_y, Py_ssize_t lo, Py_ssize_t hi) noexcept


cdef enum:
    ROWS = 64               # of a strip
    TILE = 32               # diagonals whose costs or posteriors are held
    WIDTH = ROWS + LANES    # of a diagonal in a tile
    LINE = ROWS + 3 * LANES
    LINES = 11
    AHEAD = 4               # diagonals whose shares are fetched early
    KEEP = 1 << 21          # bytes of shares to keep


# Arithmetic of the values.
cdef enum Mode:
    SUM     # soft minimum
    WIDE    # the same, with exponents of twice as many bits
    BEST    # minimum


# Purpose of the next strip.
cdef enum Phase:
    DOWN
    UP
    FINISHED


# Series as the diagonals read them; costs come from an array if there are no features.
cdef struct Series:
    Py_ssize_t features
    const double *x         # [features, x_pitch]
    const double *y         # [features, y_pitch], in reverse order
    Py_ssize_t x_pitch, y_pitch
    double *grad_x          # as x and y, to be added to, or NULL
    double *grad_y
    double factor           # of the gradient


cdef struct CostGrid:
    # the problem
    Py_ssize_t rows, columns
    Py_ssize_t band                 # largest |i - j|
    double gamma
    bint with_grad
    Series series
    Py_ssize_t cost_stride          # elements from row to row of an array of costs
    Py_ssize_t out_stride           # and of an array for posteriors
    double scale                    # of posteriors that are written
    # the recursion
    Mode mode
    double rate                     # of costs: binary orders of magnitude for each unit
    double limit                    # largest cost that a path may cross, in binary orders of magnitude
    double least, most              # range of the costs seen
    Phase phase
    Py_ssize_t strip                # to come next
    double total                    # soft minimum: INFINITY without a path, NAN if a cost is NaN or -inf
    Py_ssize_t n_strips, n_kept     # strips, and those whose shares are kept, the last ones
    Py_ssize_t span, edge           # most diagonals of a strip, most columns of a row
    # workspace
    double *tile                    # [TILE, WIDTH]
    double *lines                   # [LINES, LINE] of recent diagonals
    double *edges                   # [n_strips or 2, 3, edge] last rows of the strips: v, e, f
    double *shares                  # [n_kept, span, 2, ROWS]
    double *handed                  # [2, 2, columns + 2] posteriors of arcs that leave a strip, above and to the corner


# Rows of a strip at a diagonal.
cdef struct Diagonal:
    Py_ssize_t lo, hi               # cells
    Py_ssize_t start, stop          # blocks of lanes around them


# ---- layout ---------------------------------------------------------------------------------

cdef inline Py_ssize_t first_column(const CostGrid *g, Py_ssize_t row) noexcept nogil:
    return max(0, row - g.band)


cdef inline Py_ssize_t last_column(const CostGrid *g, Py_ssize_t row) noexcept nogil:
    return min(g.columns - 1, row + g.band)


cdef inline uintptr_t lay_out(CostGrid *g, uintptr_t base) noexcept nogil:
    """Set the sizes of a grid and lay out its arrays from `base` on; returns the end address."""
    cdef uintptr_t cursor = base
    cdef size_t strip
    g.band = min(g.band, max(g.rows, g.columns))
    g.n_strips = (g.rows + ROWS - 1) // ROWS
    g.span = ROWS + min(g.columns, 2 * g.band + ROWS)
    g.edge = min(g.columns, 2 * g.band + 1)
    strip = size_product(g.span, 2 * ROWS * sizeof(double))
    g.n_kept = min(g.n_strips, max(1, <Py_ssize_t> (KEEP // strip))) if g.with_grad else 0
    g.tile = <double *> take(&cursor, TILE, WIDTH * sizeof(double))
    g.lines = <double *> take(&cursor, LINES, LINE * sizeof(double))
    g.edges = <double *> take(&cursor, 3 * (g.n_strips if g.with_grad else min(g.n_strips, 2)),
                              size_product(g.edge, sizeof(double)))
    g.shares = <double *> take(&cursor, g.n_kept, strip)
    g.handed = <double *> take(&cursor, 4 if g.with_grad else 0, size_product(g.columns + 2, sizeof(double)))
    return cursor


cdef inline void fill(double *x, Py_ssize_t n, double value) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = value


cdef inline double *line(CostGrid *g, Py_ssize_t k) noexcept nogil:
    return g.lines + k * LINE + LANES


cdef inline double *edge_of(CostGrid *g, Py_ssize_t strip) noexcept nogil:
    return g.edges + (strip if g.with_grad else strip % 2) * 3 * g.edge


cdef inline Diagonal diagonal_at(const CostGrid *g, Py_ssize_t top, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """Rows of diagonal n that lie in the grid and in the band; there may be none."""
    cdef Diagonal d
    d.lo = max(max(0, n - (g.columns - 1)), (n - top - g.band + 1) >> 1)
    d.hi = min(min(rows, n + 1), ((n - top + g.band) >> 1) + 1)
    d.start = d.lo // LANES * LANES
    d.stop = max((d.hi + LANES - 1) // LANES, d.start // LANES + 1) * LANES
    return d


# ---- costs ----------------------------------------------------------------------------------

cdef inline void read_tile(CostGrid *g, const floating *costs, Py_ssize_t top, Py_ssize_t rows, Py_ssize_t start,
                           Py_ssize_t stop) noexcept nogil:
    """Costs of the diagonals from `start` to `stop`, from an array."""
    cdef Py_ssize_t r, j, end
    cdef const floating *row
    cdef double *out
    for r in range(rows):
        j = max(first_column(g, top + r), start - r)
        end = min(last_column(g, top + r) + 1, stop - r)
        row = costs + (top + r) * g.cost_stride
        out = g.tile + (r - start) * WIDTH + r
        fetch(row + end, TILE * sizeof(floating))
        for j in range(j, end):
            out[j * WIDTH] = row[j]


cdef inline void set_costs(CostGrid *g, const Diagonal *d, Py_ssize_t top, Py_ssize_t n, double *cost) noexcept nogil:
    """Costs of a diagonal, infinite outside the grid and the band."""
    cdef const Series *s = &g.series
    cdef Py_ssize_t r
    if s.features:
        squared_distances(s.x + top, s.x_pitch, s.y + g.columns - 1 - n, s.y_pitch, s.features, cost, d.start, d.stop)
    for r in range(d.start, min(d.lo, d.stop)):
        cost[r] = INFINITY
    for r in range(max(d.hi, d.start), d.stop):
        cost[r] = INFINITY


# ---- down -----------------------------------------------------------------------------------

# v * 2^(e + f); the cost of the best path instead, v, in mode BEST.
cdef struct Value:
    double v, e, f


cdef inline Value value_above(CostGrid *g, Py_ssize_t strip, Py_ssize_t column) noexcept nogil:
    """Value in the row above a strip; the origin is above and left of the grid."""
    cdef Py_ssize_t row = min(strip * ROWS, g.rows) - 1
    cdef double *edge
    cdef Value value
    value.v, value.e, value.f = INFINITY if g.mode == BEST else 0, DEAD, 0
    if strip == 0:
        if column == -1:
            value.v, value.e = 0 if g.mode == BEST else 1, 0
    elif first_column(g, row) <= column <= last_column(g, row):
        edge = edge_of(g, strip - 1) + column - first_column(g, row)
        value.v, value.e, value.f = edge[0], edge[g.edge], edge[2 * g.edge]
    return value


# The last three diagonals of a strip, latest first.
cdef struct Recent:
    double *v[3]
    double *e[3]
    double *f[3]


cdef inline void set_value(Recent *recent, Py_ssize_t k, Py_ssize_t r, Value value) noexcept nogil:
    recent.v[k][r], recent.e[k][r], recent.f[k][r] = value.v, value.e, value.f


cdef inline void begin_strip(CostGrid *g, Recent *recent) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(3):
        recent.v[k], recent.e[k], recent.f[k] = line(g, 3 * k), line(g, 3 * k + 1), line(g, 3 * k + 2)
        fill(recent.v[k] - LANES, LINE, INFINITY if g.mode == BEST else 0)
        fill(recent.e[k] - LANES, LINE, DEAD)
        fill(recent.f[k] - LANES, LINE, 0)


cdef inline void next_diagonal(CostGrid *g, Recent *recent, const Diagonal *d, const double *cost,
                               double *shares) noexcept nogil:
    """Values of a diagonal, and its shares unless they are NULL; cells beside it have no value."""
    cdef double *v = recent.v[2]
    cdef double *e = recent.e[2]
    cdef double *f = recent.f[2]
    cdef double *corners = line(g, 9) if shares == NULL else shares
    cdef double *ups = line(g, 10) if shares == NULL else shares + ROWS
    cdef double nothing = INFINITY if g.mode == BEST else 0
    if g.mode == BEST:
        diagonal_best(cost, g.rate, recent.v[0], recent.v[1], v, corners, ups, d.start, d.stop)
    elif g.mode == WIDE:
        diagonal_share_wide(cost, g.rate, g.limit, recent.v[0], recent.e[0], recent.f[0], recent.v[1], recent.e[1],
                            recent.f[1], v, e, f, corners, ups, d.start, d.stop)
    elif shares != NULL:
        diagonal_share(cost, g.rate, g.limit, recent.v[0], recent.e[0], recent.v[1], recent.e[1], v, e, corners, ups,
                       d.start, d.stop)
    else:
        diagonal_sum(cost, g.rate, g.limit, recent.v[0], recent.e[0], recent.v[1], recent.e[1], v, e, d.start, d.stop)
    v[d.start - 1], e[d.start - 1], f[d.start - 1] = nothing, DEAD, 0
    fill(v + d.stop, LANES, nothing)
    fill(e + d.stop, LANES, DEAD)
    recent.v[0], recent.v[1], recent.v[2] = v, recent.v[0], recent.v[1]
    recent.e[0], recent.e[1], recent.e[2] = e, recent.e[0], recent.e[1]
    recent.f[0], recent.f[1], recent.f[2] = f, recent.f[0], recent.f[1]


cdef inline void forward_strip(CostGrid *g, const floating *costs, Py_ssize_t strip, double *shares,
                               bint first_time) noexcept nogil:
    """Values of a strip: its last row to `edges`, the shares of all cells to `shares` unless it is NULL.

    The range of the costs is extended the first time.
    """
    cdef Py_ssize_t top = strip * ROWS, rows = min(ROWS, g.rows - top), n
    cdef Py_ssize_t first = first_column(g, top), last = rows - 1 + last_column(g, top + rows - 1)
    cdef Py_ssize_t base = rows - 1 + first_column(g, top + rows - 1), tile_stop = first
    cdef double *edge = edge_of(g, strip)
    cdef double *cost
    cdef Recent recent
    cdef Diagonal d
    begin_strip(g, &recent)
    set_value(&recent, 1, -1, value_above(g, strip, first - 1))
    for n in range(first, last + 1):
        d = diagonal_at(g, top, rows, n)
        if n == tile_stop:
            tile_stop = min(n + TILE, last + 1)
            if g.series.features == 0:
                read_tile(g, costs, top, rows, n, tile_stop)
        cost = g.tile + (n - first) % TILE * WIDTH
        set_costs(g, &d, top, n, cost)
        if first_time:
            cost_range(cost, d.start, d.stop, &g.least, &g.most)
        set_value(&recent, 0, -1, value_above(g, strip, n))
        next_diagonal(g, &recent, &d, cost, shares + (n - first) * 2 * ROWS if shares != NULL else NULL)
        if n >= base:
            edge[n - base], edge[g.edge + n - base] = recent.v[0][rows - 1], recent.e[0][rows - 1]
            edge[2 * g.edge + n - base] = recent.f[0][rows - 1]


cdef inline double *shares_of(CostGrid *g, Py_ssize_t strip) noexcept nogil:
    """Array for the shares of a strip; NULL if they are not kept on the way down."""
    cdef Py_ssize_t k = strip - (g.n_strips - g.n_kept)
    return g.shares + k * g.span * 2 * ROWS if k >= 0 else NULL


cdef inline void begin_down(CostGrid *g, Mode mode, double rate, double limit) noexcept nogil:
    """Begin with the values of the first strip."""
    g.least, g.most = INFINITY, 0
    g.mode, g.rate, g.limit = mode, rate, limit
    g.phase, g.strip = DOWN, 0


cdef inline bint is_exact(const CostGrid *g, Value total) noexcept nogil:
    """Return True if exponents were exact, and no cell beyond the limit can matter.

    A path through such a cell costs more than all others together if they cost 1100 binary orders of magnitude less,
    and two more for each step, since the number of paths grows by less than 4.
    """
    cdef double steps = <double> g.rows + g.columns, negative = max(0, -g.least * g.rate)
    if negative > g.limit:
        return False
    return g.most * g.rate <= g.limit or (
        total.v > 0 and -(total.e + total.f) < g.limit - negative * steps - 2 * steps - 1100)


cdef inline double steps_of(const CostGrid *g) noexcept nogil:
    return <double> g.rows + g.columns


cdef inline void begin_grid(CostGrid *g) noexcept nogil:
    """Begin with a grid; `next_strip` is to follow until the phase is FINISHED."""
    g.total = 0
    if g.rows == 0:
        g.phase = FINISHED
    elif g.gamma > 0:
        begin_down(g, SUM, LOG2E / g.gamma, 2.0 ** 50 / steps_of(g))
    else:
        begin_down(g, BEST, 1, INFINITY)


cdef inline void end_down(CostGrid *g) noexcept nogil:
    """Set the soft minimum of the costs of all paths, or begin again with another arithmetic.

    Exponents are sums of integers, exact up to 2^53, or up to 2^106 in mode WIDE. Beyond that, or if sums could
    overflow, the best path alone counts.
    """
    cdef Value total = value_above(g, g.n_strips, g.columns - 1)
    if g.mode == SUM and g.least > -INFINITY and not is_exact(g, total):
        begin_down(g, WIDE, g.rate, 2.0 ** 94 / steps_of(g))
        return
    if g.least > -INFINITY and (not is_exact(g, total) if g.mode == WIDE else
                                g.mode == BEST and g.rate == 1 and max(g.most, -g.least) > 2.0 ** 950):
        begin_down(g, BEST, 2.0 ** -64, INFINITY)
        return
    if g.least == -INFINITY:
        g.total = NAN
    elif g.mode == BEST:
        g.total = total.v / g.rate
    else:
        g.total = -((log64(total.v) * LOG2E + total.f) + total.e) / g.rate if total.v > 0 else INFINITY
    g.phase = FINISHED
    if g.with_grad and isfinite(g.total):
        begin_up(g)


# ---- up -------------------------------------------------------------------------------------

cdef inline void write_tile(CostGrid *g, floating *out, Py_ssize_t top, Py_ssize_t rows, Py_ssize_t start,
                            Py_ssize_t stop) noexcept nogil:
    """Posteriors of the diagonals from `start` to `stop`, to an array."""
    cdef Py_ssize_t r, j, end
    cdef floating *row
    cdef const double *tile
    for r in range(rows):
        j = max(first_column(g, top + r), start - r)
        end = min(last_column(g, top + r) + 1, stop - r)
        row = out + (top + r) * g.out_stride
        tile = g.tile + (r - start) * WIDTH + r
        fetch_to_write(row + j - TILE, TILE * sizeof(floating))
        for j in range(j, end):
            row[j] = <floating> (tile[j * WIDTH] * g.scale)


cdef inline double *handed_by(CostGrid *g, Py_ssize_t strip, Py_ssize_t kind) noexcept nogil:
    return g.handed + (strip % 2 * 2 + kind) * (g.columns + 2)


cdef inline void clear_handed(CostGrid *g, Py_ssize_t strip) noexcept nogil:
    """Zeros where the strip above reads what this one hands up."""
    cdef Py_ssize_t row = strip * ROWS - 1 if strip < g.n_strips else g.rows - 1, k
    cdef Py_ssize_t column = first_column(g, row), n = last_column(g, row) + 2 - column
    for k in range(2):
        memset(handed_by(g, strip, k) + column, 0, n * sizeof(double))


cdef inline void backward_strip(CostGrid *g, floating *out, Py_ssize_t strip, const double *shares) noexcept nogil:
    """Posteriors of a strip: to `out` unless it is NULL, and to the gradients of the series."""
    cdef Py_ssize_t top = strip * ROWS, rows = min(ROWS, g.rows - top), n, k, j
    cdef Py_ssize_t first = first_column(g, top), last = rows - 1 + last_column(g, top + rows - 1)
    cdef const double *above = handed_by(g, strip + 1, 0)
    cdef const double *corner = handed_by(g, strip + 1, 1)
    cdef const double *share
    cdef const Series *s = &g.series
    cdef double *ups[2]
    cdef double *lefts[2]
    cdef double *corners[3]
    cdef double *p
    cdef Diagonal d
    for k in range(7):
        fill(line(g, k) - LANES, LINE, 0)
    ups[0], ups[1], lefts[0], lefts[1] = line(g, 0), line(g, 1), line(g, 2), line(g, 3)
    corners[0], corners[1], corners[2] = line(g, 4), line(g, 5), line(g, 6)
    if strip:
        clear_handed(g, strip)
    for n in range(last, first - 1, -1):
        d = diagonal_at(g, top, rows, n)
        j = n - (rows - 1)
        if d.hi == rows and d.lo < d.hi:
            # The next diagonal and the one after it: [0] and [1].
            ups[0][rows], corners[1][rows] = above[j], corner[j + 1]
        share = shares + (n - first) * 2 * ROWS
        fetch(share - AHEAD * 2 * ROWS, 2 * ROWS * sizeof(double))
        p = g.tile + (n - first) % TILE * WIDTH
        diagonal_posteriors(lefts[0], ups[0], corners[1], share, share + ROWS, p, lefts[1], ups[1], corners[2],
                            d.start, d.stop)
        for k in range(d.start - LANES, d.start):
            lefts[1][k] = ups[1][k] = corners[2][k] = 0
        lefts[1][d.stop] = ups[1][d.stop] = corners[2][d.stop] = 0
        if strip and d.lo == 0 and d.hi > 0:
            handed_by(g, strip, 0)[n], handed_by(g, strip, 1)[n] = ups[1][0], corners[2][0]
        if s.features:
            scatter(p, s.factor, s.x + top, s.x_pitch, s.y + g.columns - 1 - n, s.y_pitch, s.features,
                    s.grad_x + top if s.grad_x != NULL else NULL,
                    s.grad_y + g.columns - 1 - n if s.grad_y != NULL else NULL, d.start, d.stop)
        if out != NULL and (n - first) % TILE == 0:
            write_tile(g, out, top, rows, n, min(n + TILE, last + 1))
        ups[0], ups[1], lefts[0], lefts[1] = ups[1], ups[0], lefts[1], lefts[0]
        corners[0], corners[1], corners[2] = corners[2], corners[0], corners[1]


cdef inline void begin_up(CostGrid *g) noexcept nogil:
    """Begin with the posteriors of the last strip."""
    clear_handed(g, g.n_strips)
    handed_by(g, g.n_strips, 0)[g.columns - 1] = 1
    g.phase, g.strip = UP, g.n_strips - 1


cdef inline void strip_up(CostGrid *g, const floating *costs, floating *out, Py_ssize_t strip) noexcept nogil:
    """Posteriors of a strip, and zeros beside the band."""
    cdef Py_ssize_t row, j
    cdef double *shares = shares_of(g, strip)
    if shares == NULL:
        shares = g.shares
        forward_strip(g, costs, strip, shares, False)
    backward_strip(g, out, strip, shares)
    if out == NULL:
        return
    for row in range(strip * ROWS, min(g.rows, (strip + 1) * ROWS)):
        for j in range(first_column(g, row)):
            out[row * g.out_stride + j] = 0
        for j in range(last_column(g, row) + 1, g.columns):
            out[row * g.out_stride + j] = 0


# ---- both -----------------------------------------------------------------------------------

cdef inline void next_strip(CostGrid *g, const floating *costs, floating *out) noexcept nogil:
    """Values of a strip on the way down, or posteriors of one on the way up. `out` may be `costs`."""
    if g.phase == DOWN:
        forward_strip(g, costs, g.strip, shares_of(g, g.strip), True)
        g.strip += 1
        if g.strip == g.n_strips:
            end_down(g)
    else:
        strip_up(g, costs, out, g.strip)
        g.strip -= 1
        if g.strip < 0:
            g.phase = FINISHED
