"""Scores of any size, mixed: paths that cross finfo.min, 1e30 and 0.3 are told apart by the 0.3."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st

SIZES = (0.0, 1e6, 1e9, 1e12, 1e15, 1e30)
MASKS = (-1e9, -1e12, -1e15, -1e30, float(np.finfo(np.float32).min))


def scores(draw, shape, dtype):
    """Sums of a few numbers of very different sizes; -inf, and the ends of the range."""
    low = float(np.finfo(dtype).min)
    small = st.floats(-3, 3, width=16)
    one = st.one_of(
        small,
        st.builds(lambda a, b, c: a * b + c, st.sampled_from(SIZES), st.sampled_from([-2, -1, -1, -1, 1]), small),
        st.sampled_from([low, low / 2, low / 4, -np.inf]),
    )
    # Few different numbers, so that paths meet that differ by little.
    pool = draw(st.lists(one, min_size=1, max_size=5))
    picks = draw(st.lists(st.sampled_from(pool), min_size=math.prod(shape), max_size=math.prod(shape)))
    extra = draw(st.lists(small, min_size=math.prod(shape), max_size=math.prod(shape)))
    small_ones = np.array([e if abs(x) < 1e12 else 0 for x, e in zip(picks, extra, strict=True)])
    return (np.array(picks) + small_ones).reshape(shape).astype(dtype)


def tolerance(dtype):
    return 2e-6 if dtype == np.float32 else 2e-8


def assert_loss(found, right, absolute=1e-8):
    assert found == pytest.approx(right, rel=1e-11, abs=absolute)
