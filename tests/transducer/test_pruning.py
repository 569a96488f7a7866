"""Ranges of pruned transducers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl


def chosen(occupancy, width, frames, count):
    """The definition for one sequence, frame by frame: the best windows, moved until a path fits."""
    last = max(count + 1 - width, 0)
    first = [
        max(range(max(occupancy.shape[1] - width, 0) + 1), key=lambda s: occupancy[t, s : s + width].sum())
        for t in range(frames)
    ]
    if frames:
        first[-1] = last
    for t in range(frames - 2, -1, -1):  # not beyond the next frame
        first[t] = min(first[t], first[t + 1])
    for t in range(frames - 2, -1, -1):  # near enough to the next frame
        first[t] = max(first[t], first[t + 1] - (width - 1))
    return [min(s, (width - 1) * t) for t, s in enumerate(first)]  # near enough to the beginning


@st.composite
def problems(draw):
    batch, frames, nodes = (draw(st.integers(low, high)) for low, high in ((0, 4), (0, 9), (1, 7)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = rng.integers(0, frames, batch, endpoint=True)
    counts = rng.integers(0, nodes - 1, batch, endpoint=True)
    width = draw(st.integers(1, nodes + 2))
    for b in range(batch):
        counts[b] = min(counts[b], (width - 1) * lengths[b]) if lengths[b] else counts[b]
    # Multiples of 1/64, whose sums are exact: ties are ties.
    posteriors = rng.integers(0, 64, (2, batch, frames, nodes)) / 64
    outside = (np.arange(frames)[:, None] >= lengths[:, None, None]) | (np.arange(nodes) > counts[:, None, None])
    posteriors[:, outside] = np.nan
    return posteriors, width, lengths, counts


@given(problems())
def test_ranges_are_the_best_windows_that_a_path_fits_in(problem):
    (blank, label), width, lengths, counts = problem
    ranges = fsl.rnnt_prune_ranges((blank, label), width, lengths, counts)
    batch, frames, nodes = blank.shape
    assert (ranges.dtype, ranges.shape) == (np.int64, (batch, frames))
    width = min(width, nodes)
    for b in range(batch):
        used, n, last = ranges[b, : lengths[b]], lengths[b], max(counts[b] + 1 - width, 0)
        occupancy = np.nan_to_num(blank[b] + label[b])
        assert used.tolist() == chosen(occupancy, width, n, counts[b])
        if n:
            assert (used[0], used[-1]) == (0, last)
            assert (np.diff(used) >= 0).all()
            assert (np.diff(used) < width).all()
            assert (ranges[b, n:] == last).all()


def test_a_sequence_alone_and_in_a_batch():
    rng = np.random.default_rng(1)
    posteriors = rng.random((2, 3, 8, 5))
    ranges = fsl.rnnt_prune_ranges(tuple(posteriors), 2, [8, 6, 7], [4, 2, 3])
    for b, (n, count) in enumerate(((8, 4), (6, 2), (7, 3))):
        alone = fsl.rnnt_prune_ranges(tuple(posteriors[:, b, :n, : count + 1]), 2)
        np.testing.assert_array_equal(ranges[b, :n], alone)
        np.testing.assert_array_equal(fsl.rnnt_prune_ranges(tuple(posteriors[:, b]), 2, n, count)[:n], alone)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8])
def test_layouts_and_dtypes(dtype):
    posteriors = np.random.default_rng(2).integers(0, 9, (2, 5, 3, 4))
    expected = fsl.rnnt_prune_ranges(tuple(posteriors.swapaxes(1, 2).astype(float)), 2)
    given_ = posteriors.astype(dtype)
    given_.flags.writeable = False
    np.testing.assert_array_equal(fsl.rnnt_prune_ranges(tuple(given_.swapaxes(1, 2)), 2), expected)


def test_ranges_lead_to_a_loss_close_to_the_full_one():
    rng = np.random.default_rng(3)
    am, lm = 6 * rng.normal(size=(2, 30, 12)), 6 * rng.normal(size=(2, 11, 12))
    labels, frames, counts = rng.integers(1, 12, (2, 10)), [30, 24], [10, 7]
    posteriors = fsl.rnnt_simple_posteriors(am, lm, labels, frames, counts)
    full = fsl.rnnt_simple_loss(am, lm, labels, frames, counts)
    losses = []
    for width in (2, 4, 8, 11, 20):
        ranges = fsl.rnnt_prune_ranges(posteriors, width, frames, counts)
        nodes = ranges[:, :, None] + np.arange(min(width, 11))
        logits = am[:, :, None] + lm[np.arange(2)[:, None, None], np.minimum(nodes, 10)]
        losses.append(fsl.rnnt_loss(logits, labels, frames, counts, ranges=ranges))
    assert (np.diff(losses) <= 1e-12).all()
    assert losses[2] == pytest.approx(full, rel=1e-3)
    assert losses[3:] == pytest.approx([full, full], rel=1e-13)


ONE = (np.zeros((3, 4)), np.zeros((3, 4)))
TWO = (np.zeros((2, 3, 4)), np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("posteriors", "width", "more", "error", "message"),
    [
        (ONE[0], 2, {}, TypeError, "posteriors is of type ndarray; allowed: a tuple of two arrays"),
        ((ONE[0],), 2, {}, TypeError, "posteriors is a tuple of 1; allowed: a tuple of two arrays"),
        ((np.zeros(3), np.zeros(3)), 2, {}, ValueError, r"posteriors.blank has shape \(3,\); allowed: \[B, T, U\+1\]"),
        ((ONE[0], np.zeros((3, 5))), 2, {}, ValueError, r"posteriors.label has shape \(3, 5\); allowed: \(3, 4\)"),
        ((np.zeros((3, 0)),) * 2, 2, {}, ValueError, "no nodes; allowed: U"),
        ((ONE[0] + 0j, ONE[1]), 2, {}, TypeError, "posteriors.blank has dtype complex128; allowed: real numbers"),
        (ONE, 0, {}, ValueError, "width is 0; allowed: 1 or more"),
        (ONE, 2.0, {}, TypeError, "width must be an integer, got float"),
        (ONE, 2, {"logit_lengths": 4}, ValueError, "logit_lengths is 4; allowed: 0 to 3"),
        (TWO, 2, {"label_lengths": [3, 4]}, ValueError, r"label_lengths\[1\] is 4; allowed: 0 to 3"),
        (ONE, 1, {}, ValueError, "width is 1; allowed: 2 or more for the 3 labels of sequence 0 in 3 frames"),
        (
            TWO,
            2,
            {"logit_lengths": [3, 1]},
            ValueError,
            "width is 2; allowed: 4 or more for the 3 labels of sequence 1 in 1 frames, at most width - 1 labels a "
            "frame; sequences that need more: 1",
        ),
    ],
)
def test_errors(posteriors, width, more, error, message):
    with pytest.raises(error, match=message):
        fsl.rnnt_prune_ranges(posteriors, width, **more)
