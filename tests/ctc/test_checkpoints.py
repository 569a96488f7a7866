"""Long sequences of many labels: not all checkpoints are kept, and the others are computed again on the way back."""

import numpy as np
import pytest

import fastseqloss as fsl

FRAMES, CLASSES, LABELS = 26000, 8, 12000  # the checkpoints of half of the frames have 34 MB


def in_zones(kind, dtype, scale, least):
    """Scores of which only two frames each admit a label, its posteriors at these frames, and the labels.

    Label i can only be at frames 2 i and 2 i + 1: its neighbours are of other classes, and of its class are labels that
    are 7 places away. The posteriors are those of three alignments of two frames.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(LABELS) % (CLASSES - 1) + 1
    scores = np.full((FRAMES, CLASSES), least)
    scores[2 * LABELS :] = 2 * least  # many frames, at which no label can be
    scores[:, 0] = scale * rng.normal(size=FRAMES)
    zones = np.arange(2 * LABELS)
    scores[zones, labels[zones // 2]] = scale * rng.normal(size=2 * LABELS)
    if kind == "log_probs":
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    scores = scores.astype(dtype)
    relative = scores[zones, labels[zones // 2]].astype(np.float64) - scores[zones, 0]
    first, second = np.exp(relative.reshape(-1, 2).T)
    total = first + second + first * second
    posteriors = np.stack([first + first * second, second + first * second], axis=1) / total[:, None]
    return scores, labels, posteriors


# Scores of -inf forbid; others are far below, and the posteriors the same but for 1e-9.
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "dtype", "scale", "least"),
    [
        ("logits", np.float32, 1.0, -30.0),
        ("log_probs", np.float64, 3.0, -60.0),
        ("log_probs", np.float32, 10.0, -np.inf),
    ],
)
def test_closed_form(level, kind, dtype, scale, least):
    scores, labels, posteriors = in_zones(kind, dtype, scale, least)
    loss, gradient = fsl.ctc_loss(scores, labels, input=kind, return_grad=True, num_threads=1)
    softmax = np.exp(scores - scores.max(axis=1, keepdims=True, initial=0).astype(np.float64))
    right = softmax / softmax.sum(axis=1, keepdims=True) if kind == "logits" else np.zeros(scores.shape)
    zones = np.arange(2 * LABELS)
    right[zones, labels[zones // 2]] -= posteriors.ravel()
    right[:, 0] -= 1
    right[zones, 0] += posteriors.ravel()
    np.testing.assert_allclose(gradient, right, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-10)
    over = scores.copy()
    assert fsl.ctc_loss(over, labels, input=kind, grad_out=over, num_threads=2)[0] == loss
    np.testing.assert_array_equal(over, gradient)
    frames = zones.reshape(-1, 2)
    options = {"input": kind, "frames": frames + np.array([0, 1])}
    found = fsl.ctc_confidences(scores, labels, **options, num_threads=1)
    for a, b in zip(found, fsl.ctc_confidences(scores, labels, **options, num_threads=2), strict=True):
        np.testing.assert_array_equal(a, b)
    bound = 1e-7 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(found.confidences, posteriors.max(axis=1), rtol=0, atol=bound)
    np.testing.assert_allclose(found.occupancies, posteriors.sum(axis=1), rtol=bound)
    np.testing.assert_allclose(found.span_masses, found.occupancies, rtol=bound)
    mean = (frames * posteriors).sum(axis=1) / posteriors.sum(axis=1)
    np.testing.assert_allclose(found.mean_frames, mean, rtol=0, atol=bound)


@pytest.mark.thorough
@pytest.mark.parametrize("scale", [3.0, 20.0])
def test_general_path(scale):
    """The fast path, with states that a refresh raised and without, against the general path."""
    rng = np.random.default_rng(1)
    scores, labels = scale * rng.normal(size=(FRAMES, 12)), rng.integers(1, 12, LABELS)
    loss, gradient = fsl.ctc_loss(scores, labels, return_grad=True)
    longer = np.full((FRAMES + 1, 12), -1e8)
    longer[0, 0], longer[1:] = 0, scores
    loss_of_longer, gradient_of_longer = fsl.ctc_loss(longer, labels, return_grad=True)
    assert loss == pytest.approx(loss_of_longer, rel=1e-12)
    np.testing.assert_allclose(gradient, gradient_of_longer[1:], rtol=0, atol=1e-9)
