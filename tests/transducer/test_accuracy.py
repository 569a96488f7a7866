"""rnnt_loss on long sequences and on scores of any size: the errors of float32 are those of rounding alone.

In each case of this file a lattice with one exponent for each diagonal, or one of float32 logarithms, is wrong.
"""

import gc
from functools import lru_cache

import numpy as np
import pytest

import fastseqloss as fsl
from reference import transducer as reference
from thoroughness import thorough

GRADIENT = 2e-6
LOSS = 2e-7


@lru_cache(2)
def problem(frames, count, classes, scale, on_blank):
    rng = np.random.default_rng(frames)
    scores = rng.standard_normal((frames, count + 1, classes), dtype=np.float32)
    scores *= np.float32(scale)
    scores[..., 0] += np.float32(on_blank)
    return scores, rng.integers(1, classes, count)


def check(frames, count, classes, scale=1.0, on_blank=0.0, topology="regular"):
    scores, labels = problem(frames, count, classes, scale, on_blank)
    exact = reference.solve_long(scores, labels, topology=topology)
    loss, gradient = fsl.rnnt_loss(scores, labels, topology=topology, return_grad=True)
    assert loss == pytest.approx(exact.loss, rel=LOSS)
    assert fsl.rnnt_loss(scores, labels, topology=topology) == pytest.approx(loss, rel=1e-12)
    for rows in reference.in_blocks(frames):
        assert np.abs(gradient[rows] - exact.gradient(scores, labels, rows)).max() <= GRADIENT
    blank, label = fsl.rnnt_posteriors(scores, labels, topology=topology)
    assert np.abs(blank - exact.by_blank).max() <= 1e-6
    assert np.abs(label - exact.by_label).max() <= 1e-6
    assert blank.sum() == pytest.approx(float(exact.by_blank.sum()), rel=1e-6)
    assert label.sum() == pytest.approx(count, rel=1e-6)  # no mass is lost on the way
    gc.collect()


@pytest.mark.parametrize(
    ("frames", "count", "scale", "on_blank", "topology"),
    [
        (500, 80, 1, 20, "regular"),
        (500, 80, 1, 20, "modified"),
        thorough(1000, 150, 10, 0, "regular"),
        (400, 60, 1e6, 0, "modified"),
        (3000, 30, 1, 0, "regular"),
        thorough(1000, 150, 1, 20, "regular"),
        thorough(1000, 150, 1, 20, "modified"),
        thorough(1500, 150, 1, 8, "regular"),
        thorough(1500, 150, 1, 8, "modified"),
        thorough(1000, 150, 10, 0, "modified"),
        thorough(400, 60, 1e6, 0, "regular"),
        thorough(3000, 30, 1, 0, "modified"),
    ],
)
def test_diagonals_of_a_huge_range(level, frames, count, scale, on_blank, topology):
    check(frames, count, 8, scale, on_blank, topology)


@pytest.mark.thorough
@pytest.mark.parametrize(("scale", "on_blank", "topology"), [(1e6, 0, "regular"), (1, 20, "modified")])
def test_long(scale, on_blank, topology):
    check(4000, 400, 4, scale, on_blank, topology)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lost", [1e3, 1e5, 1e30, 1e300])
def test_confident_and_wrong(level, dtype, lost):
    """The paths of the largest partial sums cannot end; the sums of the paths that end are far smaller."""
    frames, count = 300, 40
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(frames, count + 1, 6)).astype(dtype)
    scores[:, :-1, 0] += min(lost, 1e3) / 10
    if lost > 1e5:
        lost = min(lost, float(np.finfo(dtype).max) / 1e3)
        scores[::7, ::3, 1:] -= lost
    labels = rng.integers(1, 6, count)
    exact = reference.solve_long(scores, labels)
    loss, gradient = fsl.rnnt_loss(scores, labels, return_grad=True)
    assert loss == pytest.approx(exact.loss, rel=LOSS)
    wide = np.concatenate([exact.gradient(scores, labels, rows) for rows in reference.in_blocks(frames)])
    assert np.abs(gradient - wide).max() <= (GRADIENT if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize("classes", [1000, thorough(5000)])
def test_loss_near_zero(level, classes):
    """A confident model that is right: the sum of many tiny exponentials onto one near 1 must not be lost."""
    frames, count = 40, 10
    rng = np.random.default_rng(1)
    labels = rng.integers(1, classes, count)
    scores = rng.standard_normal((frames, count + 1, classes), dtype=np.float32)
    scores[:, :, 0] += 25
    for u, label in enumerate(labels):
        t = 4 * (u + 1) - 1
        scores[t, u, 0] -= 25
        scores[t, u, label] += 25
    exact = reference.solve_long(scores, labels)
    loss, gradient = fsl.rnnt_loss(scores, labels, return_grad=True)
    assert loss == pytest.approx(exact.loss, rel=1e-6, abs=1e-12)
    assert np.abs(gradient - exact.gradient(scores, labels, slice(None))).max() <= GRADIENT
