"""Discounted sums of rewards, from the last step to the first."""

from libc.stdint cimport int64_t, uint8_t

from fastseqloss._kernels.parallel.signals cimport STRETCH, advance
from fastseqloss._kernels.simd.softmax cimport add_exactly


def sums_backwards(double[:, ::1] values, const double[::1] final, const int64_t[::1] lengths,
                   const uint8_t[:, ::1] done, double decay, const double[:, ::1] decays):
    """values[b, t] += decay * values[b, t + 1], from the last step to the first, unless done[b, t].

    IN      final [B], the values after the last steps; lengths [B]; done [B, T] or None; decays [B, T], those of each
            step, or None for the same `decay` of all.
    IN, OUT values [B, T]; unchanged beyond lengths.
    """
    cdef Py_ssize_t b, t, first, last, done_with = 0
    cdef double after, own, rest  # rest: rounding error of `after`
    with nogil:
        for b in range(values.shape[0]):
            after, rest, last = final[b], 0, lengths[b]
            while last > 0:
                first = max(0, last - STRETCH)
                for t in range(last - 1, first - 1, -1):
                    if decays is not None:
                        decay = decays[b, t]
                    own, rest = values[b, t], decay * rest
                    if done is None or not done[b, t]:
                        add_exactly(&own, &rest, decay * after)
                    else:
                        rest = 0
                    after, values[b, t] = own, own + rest
                advance(&done_with, last - first)
                last = first
            advance(&done_with, 1)
