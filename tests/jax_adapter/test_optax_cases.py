"""The cases of optax's tests of its losses, restated, also within jit."""

from functools import partial

import numpy as np
import pytest

pytestmark = pytest.mark.peers
jax = pytest.importorskip("jax", reason="the extra `peers` installs it")
optax = pytest.importorskip("optax", reason="the extra `peers` installs it")
jnp = jax.numpy

import fastseqloss.jax as fsj  # noqa: E402
from jax_cases import paddings, test_util  # noqa: E402

RNG = np.random.default_rng(0)


def loss_of(name, **options):
    """Return the compiled loss with this name, without a reduction."""
    return jax.jit(partial(getattr(fsj, name), reduction="none", **options))


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=tolerance, atol=tolerance)


def log_probs_along(scores, classes):
    """Return the log-probability of one class at each frame."""
    log_probs = np.asarray(jax.nn.log_softmax(scores))
    return log_probs[np.arange(len(classes)), classes].sum()


# ---- CTC ----------------------------------------------------------------------------------------------------------


def test_ctc_with_a_frame_for_each_label():
    """One path is left, which has no blank."""
    scores = RNG.normal(size=(6, 30, 20)).astype(np.float32)
    labels = RNG.integers(1, 19, (6, 30)).cumsum(axis=1) % 19 + 1  # unequal neighbours
    losses = jax.jit(fsj.ctc_loss)(scores, np.zeros((6, 30)), labels, np.zeros((6, 30)))
    close(losses, [-log_probs_along(row, classes) for row, classes in zip(scores, labels, strict=True)])


def test_ctc_with_a_frame_for_each_label_and_paddings():
    """The gradient is the softmax less the labels, and 0 in the padding."""
    scores = RNG.normal(size=(5, 7, 13)).astype(np.float32)
    labels = np.stack([RNG.permutation(np.arange(1, 13))[:7] for _ in range(5)])
    lengths = RNG.integers(3, 6, 5)
    padding = paddings(lengths, 7)
    losses, gradient = jax.jit(
        lambda x: (
            fsj.ctc_loss(x, padding, labels, padding),
            jax.grad(lambda x: fsj.ctc_loss(x, padding, labels, padding).mean())(x),
        )
    )(scores)
    for b, n in enumerate(lengths):
        close(losses[b], -log_probs_along(scores[b, :n], labels[b, :n]))
        expected = np.array(jax.nn.softmax(scores[b]))
        expected[np.arange(n), labels[b, :n]] -= 1
        expected[n:] = 0
        close(gradient[b], expected / 5)


@pytest.mark.parametrize(("labels", "path"), [
    ([1, 2, 2, 3], [1, 2, 0, 2, 3]),
    ([2, 3, 4, 4], [2, 3, 4, 0, 4]),
    ([1, 1, 1, 1], [1, 0, 1, 0, 1, 0, 1]),
    ([1, 1, 2, 3], [1, 0, 1, 2, 3]),
    ([1, 1, 1, 2], [1, 0, 1, 0, 1, 2]),
])  # fmt: skip
def test_ctc_with_the_fewest_frames(labels, path):
    """Equal neighbours need a blank between them; labels and frames have padding."""
    scores = RNG.normal(size=(1, 9, 5)).astype(np.float32)
    given = np.array([[*labels, 0, 0]])
    loss = jax.jit(fsj.ctc_loss)(scores, paddings([len(path)], 9), given, paddings([4], 6))
    close(loss, [-log_probs_along(scores[0, : len(path)], path)])
    close(loss, optax.losses.ctc_loss(scores, paddings([len(path)], 9), given, paddings([4], 6)))


def test_ctc_without_log_epsilon():
    """There is no `log_epsilon`: paths of probability 0 are exact."""
    with pytest.raises(TypeError, match="log_epsilon"):
        fsj.ctc_loss(np.zeros((1, 2, 3)), np.zeros((1, 2)), np.ones((1, 1), int), np.zeros((1, 1)), log_epsilon=-1e5)


# ---- softmax cross-entropy ----------------------------------------------------------------------------------------

SCORES = np.array([[8.0, 2.0, -1.0], [0.5, 3.0, 0.25]], np.float32)
cross_entropy = partial(fsj.softmax_cross_entropy, reduction="none")


@pytest.mark.parametrize("compiled", [False, True])
def test_classes_are_distributions_with_a_one(compiled):
    loss = jax.jit(cross_entropy) if compiled else cross_entropy
    classes = np.array([1, 0])
    expected = np.log(np.exp(SCORES.astype(float)).sum(axis=1)) - SCORES[[0, 1], classes]
    for given in (classes, np.eye(3, dtype=np.float32)[classes]):
        close(loss(SCORES, given), expected)
        close(loss(SCORES[0], given[0]), expected[0])
    close(loss(SCORES, classes), optax.losses.softmax_cross_entropy_with_integer_labels(SCORES, classes))


@pytest.mark.parametrize("targets", [np.array([1, 0]), np.array([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]], np.float32)])
def test_gradients(targets):
    test_util.check_grads(lambda x: cross_entropy(x, targets), (SCORES,), order=1, modes=["rev"], rtol=1e-2)


@pytest.mark.parametrize("size", [5, 10])
def test_classes_that_are_masked_out(size):
    """`where` of optax is a score of -inf here: the classes that are left are all there are."""
    scores, targets = RNG.normal(size=size).astype(np.float32), RNG.dirichlet(np.ones(size)).astype(np.float32)
    chosen = np.arange(size) % 2 == 0
    masked, rest = np.where(chosen, scores, -np.inf).astype(np.float32), np.where(chosen, targets, 0)
    loss, gradient = jax.value_and_grad(cross_entropy)(masked, rest)
    close(loss, cross_entropy(scores[chosen], targets[chosen]))
    close(loss, optax.losses.softmax_cross_entropy(scores, targets, where=chosen))
    assert np.isfinite(gradient).all()
    assert not gradient[~chosen].any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axis_of_classes(axis):
    """`axis` of optax is the last one here, where `jnp.moveaxis` puts any."""
    scores, targets = (RNG.uniform(size=(4, 5, 6)).astype(np.float32) for _ in range(2))
    ours = cross_entropy(jnp.moveaxis(scores, axis, -1), jnp.moveaxis(targets, axis, -1))
    close(ours, optax.losses.softmax_cross_entropy(scores, targets, axis=axis))


@pytest.mark.parametrize("argument", [{"axis": 0}, {"where": np.ones(3, bool)}])
def test_arguments_that_are_not_taken(argument):
    with pytest.raises(TypeError, match=next(iter(argument))):
        cross_entropy(SCORES, np.array([1, 0]), **argument)


# ---- binary, regression and hinge losses --------------------------------------------------------------------------


@pytest.mark.parametrize("score", [-1e9, -1.0, 0.0, 1.0, 1e9])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_binary_cross_entropy(score, target):
    """From one end of the scores to the other."""
    expected = max(score, 0) - score * target + np.log1p(np.exp(-abs(score)))
    ours = loss_of("binary_cross_entropy")(np.float32([score]), np.float32([target]))
    close(ours, [expected])
    close(ours, optax.losses.sigmoid_binary_cross_entropy(np.float32([score]), np.float32([target])))


X, Y = (np.float32(rows) for rows in ([[-2.0, 0.5], [0.25, 3.0]], [[-1.5, 0.0], [0.25, -1.0]]))


@pytest.mark.parametrize(("name", "options", "theirs"), [
    ("mse_loss", {}, optax.losses.squared_error),
    ("mae_loss", {}, lambda x, y: abs(x - y)),
    ("huber_loss", {"delta": 0.75}, partial(optax.losses.huber_loss, delta=0.75)),
])  # fmt: skip
def test_regression(name, options, theirs):
    close(loss_of(name, **options)(X, Y), theirs(X, Y))
    close(loss_of(name, **options)(X[0], Y[0]), theirs(X[0], Y[0]))


def test_hinge_losses():
    signs = np.sign(Y + 0.1)
    close(loss_of("hinge_loss")(X, signs), optax.losses.hinge_loss(X, signs))
    classes = np.array([1, 0])
    close(loss_of("multiclass_hinge_loss")(SCORES, classes), optax.losses.multiclass_hinge_loss(SCORES, classes))
