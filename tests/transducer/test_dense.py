"""The dense passes over rows of any number of classes, in pieces that workers share: sums, maxima, bits."""

import numpy as np
import pytest

import fastseqloss as fsl
from reference import transducer as reference
from thoroughness import spread
from transducer_cases import random_case

# Around the bounds of tiles, vectors, short rows and blocks of sums.
CLASSES = (2, 15, 16, 17, 28, 31, 32, 33, 250, 255, 256, 257, 272, 500, 511, 512, 513, 528, 1024, 1031)
VARIANTS = [("logits", "softmax", "regular"), ("logits", "softmax", "modified"), ("logits", "hat", "regular")]


def rows(rng, classes, kind):
    """Logits [T, U + 1, V] whose rows have sums of very different sizes."""
    x = rng.normal(size=(3, 3, classes))
    if kind == "peaked":  # sums near 1, at every class in turn
        for t in range(3):
            for u in range(3):
                x[t, u, (t * 3 + u) * (classes - 1) // 8] += 25
    elif kind == "equal":
        x[...] = np.float32(0.3)
        x[..., classes // 2] += 1
    elif kind == "last":
        x[..., -1] += 40
    elif kind == "rare":
        x[rng.uniform(size=x.shape) < 0.7] = -np.inf
        x[..., 0] = 0
        x[..., 1] = 1
    return x


@pytest.mark.parametrize("kind", ["normal", "peaked", "equal", "last", "rare"])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_any_length(level, dtype, classes, kind):
    x = rows(np.random.default_rng(classes), classes, kind).astype(dtype)
    loss, slope = reference.rnnt(x.astype(np.float64), np.array([1, 1]))
    found, gradient = fsl.rnnt_loss(x, [1, 1], return_grad=True)
    few = 2e-7 if dtype == np.float32 else 1e-14
    assert found == pytest.approx(loss, rel=few, abs=few)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=5e-7 if dtype == np.float32 else 1e-14)
    assert fsl.rnnt_loss(x, [1, 1]) == found


@pytest.mark.parametrize("classes", [28, 300])
def test_rows_are_read_once_and_never_beside(level, classes):
    """Rows of a view, with NaN between them, which is neither read nor written."""
    rng = np.random.default_rng(0)
    wide = np.full((2, 6, 4, classes + 5), np.nan, np.float32)
    x = wide[:, ::2, :3, 2 : 2 + classes]
    x[...] = rng.normal(size=x.shape)
    labels = rng.integers(1, classes, (2, 2))
    expected = fsl.rnnt_loss(x.copy(), labels, reduction="none", return_grad=True)
    loss, _ = fsl.rnnt_loss(x, labels, reduction="none", grad_out=x)
    np.testing.assert_array_equal(loss, expected[0])
    np.testing.assert_array_equal(x, expected[1])
    x[...] = np.nan
    assert np.isnan(wide).all()


@pytest.mark.parametrize(
    ("threads", "dtype", "variant"), spread([2, 3, 5], [np.float32, np.float64, np.float16], VARIANTS, every=3)
)
def test_pieces_of_sequences_do_not_change_a_bit(level, variant, dtype, threads):
    """More sequences than are in progress at once, each of several pieces, some of no frames or without a path."""
    rng = np.random.default_rng(7)
    case = random_case(rng, (9, 30, 6, 700), variant=variant, dtype=dtype)
    case.lengths[2:4] = 0, 1
    options = case.options | {"reduction": "none"}
    for more in ({"return_grad": True}, {}):
        one, several = (fsl.rnnt_loss(*case.arguments, **options, **more, num_threads=n) for n in (1, threads))
        for a, b in zip(np.atleast_1d(one[0]), np.atleast_1d(several[0]), strict=True):
            np.testing.assert_array_equal(a, b)
        if more:
            np.testing.assert_array_equal(one[1], several[1])


@pytest.mark.parametrize("threads", [2, 3])
def test_pieces_of_other_functions(level, threads):
    rng = np.random.default_rng(8)
    case = random_case(rng, (5, 40, 5, 600), dtype=np.float32)
    for function in (fsl.rnnt_posteriors, fsl.rnnt_align):
        one, several = (function(*case.arguments, num_threads=n) for n in (1, threads))
        for a, b in zip(one, several, strict=True):
            np.testing.assert_array_equal(a, b)
    ways = rng.normal(size=(*case.scores.shape[:3], 3)).astype(np.float32)
    one, several = (
        fsl.tdt_loss(case.scores, ways, *case.arguments[1:], durations=[0, 1, 2], return_grad=True, num_threads=n)
        for n in (1, threads)
    )
    assert one[0] == several[0]
    for a, b in zip(one[1], several[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.thorough
def test_one_large_sequence_in_pieces(level):
    """Pieces on one thread, beside the same frames in float64."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=(24, 9, 20000)).astype(np.float32)
    labels = rng.integers(1, 20000, 8)
    loss, gradient = fsl.rnnt_loss(x, labels, return_grad=True, num_threads=1)
    exact, slope = fsl.rnnt_loss(x.astype(np.float64), labels, return_grad=True, num_threads=2)
    assert loss == pytest.approx(exact, rel=2e-7)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=2e-6)
    fsl.rnnt_loss(x, labels, grad_out=x, num_threads=3)
    np.testing.assert_array_equal(x, gradient)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 500, 200, 40), np.float32), ((2, 150, 60, 1031), np.float32), ((2, 300, 60, 1031), np.float16)],
)
def test_gradients_larger_than_caches(level, shape, dtype):
    """Rows of zeros, of padding and of nodes that no path takes, are stored in another way: the same bits as alone."""
    batch, frames, nodes, classes = shape
    rng = np.random.default_rng(10)
    wide = np.full((batch, frames, nodes, classes + 3), np.nan, dtype)
    scores = wide[..., 1:-2]
    scores[...] = 4 * rng.standard_normal(shape, np.float32)
    assert scores.size * scores.itemsize > 1 << 26
    labels = rng.integers(1, classes, (batch, nodes - 1))
    lengths = np.linspace(frames // 2, frames, batch).astype(int)
    label_lengths = np.linspace(nodes - 1, nodes // 2, batch).astype(int)
    options = {"reduction": "none", "logit_lengths": lengths, "label_lengths": label_lengths}
    loss, gradient = fsl.rnnt_loss(scores, labels, **options, return_grad=True, num_threads=1)
    for b in range(batch):
        of_one = {"logit_lengths": lengths[b], "label_lengths": label_lengths[b]}
        alone, slope = fsl.rnnt_loss(scores[b], labels[b], **of_one, return_grad=True)
        assert loss[b] == alone
        np.testing.assert_array_equal(gradient[b], slope)
    assert (gradient == 0).all(axis=-1)[0, : lengths[0], : label_lengths[0]].any()
    fsl.rnnt_loss(scores, labels, **options, grad_out=scores, num_threads=2)
    np.testing.assert_array_equal(scores, gradient)
    assert np.isnan(wide[..., 0]).all()
    assert np.isnan(wide[..., -2:]).all()


def test_frames_of_a_piece_depend_on_threads(level):
    """Eight frames a piece on one and two threads, fewer on more; the batch has more frames than the sequences."""
    rng = np.random.default_rng(11)
    scores = rng.normal(size=(2, 70, 9, 1000)).astype(np.float32)
    labels = rng.integers(1, 1000, (2, 8))
    lengths = {"logit_lengths": [65, 3], "label_lengths": [8, 5]}
    loss, gradient = fsl.rnnt_loss(scores, labels, **lengths, reduction="none", return_grad=True, num_threads=1)
    for threads in (2, 3, 16):
        others = fsl.rnnt_loss(scores, labels, **lengths, reduction="none", return_grad=True, num_threads=threads)
        np.testing.assert_array_equal(others[0], loss)
        np.testing.assert_array_equal(others[1], gradient)
