"""The fast path, for few and for many classes, against the general path.

Classes of -inf without label do not change loss and gradient; with enough of them, a batch takes the tiles of many
classes. A first frame of which all paths take the blank does not change loss and gradient either. If the blank is
further above the others than the fast path accepts, the batch takes the general path.
"""

import numpy as np
import pytest

import fastseqloss as fsl
from cases import random_tokens
from thoroughness import spread

MANY = 65  # classes from which a tile holds those that occur in the labels
APART = 1e8  # distance of scores that the fast path does not accept, and no path crosses
SCALES = (0.1, 1.0, 3.0, 10.0, 20.0, 30.0, 60.0, 100.0, 200.0)
LN2 = np.log(2)
KINDS = ("logits", "log_probs")
EVERY_KIND = (*KINDS, "probs")


def run(scores, *arguments, **options):
    return fsl.ctc_loss(scores, *arguments, reduction="none", **{"return_grad": True} | options)


def by_general_path(scores, labels, logit_lengths=None, **options):
    """Loss and gradient in float64."""
    batch, frames, classes = scores.shape
    longer = np.full((batch, frames + 1, classes), -APART)
    longer[:, 0, 0], longer[:, 1:] = 0, scores
    lengths = np.full(batch, frames) if logit_lengths is None else np.asarray(logit_lengths)
    kind = options.pop("input", "logits")
    if kind == "probs":
        with np.errstate(divide="ignore"):
            longer[:, 1:] = np.log(scores.astype(np.float64))
    loss, gradient = run(longer, labels, lengths + 1, input="logits" if kind == "logits" else "log_probs", **options)
    gradient = gradient[:, 1:]
    crosses = loss > APART / 2  # the only path takes a label in the first frame
    loss[crosses], gradient[crosses] = np.inf, 0
    if kind == "probs":
        gradient = np.divide(gradient, scores, out=np.zeros_like(gradient), where=gradient != 0)
    return loss, gradient


def with_many_classes(scores, kind):
    """Add classes without label, far below the others or -inf."""
    nothing = 0 if kind == "probs" else -np.inf
    wide = np.full((*scores.shape[:-1], MANY), nothing, scores.dtype)
    wide[..., : scores.shape[-1]] = scores
    return wide


def check(scores, *arguments, **options):
    """Loss and gradient are right with few classes and with many, and the same for all ways to call."""
    expected = by_general_path(scores, *arguments, **options)
    finite = scores if options.get("input") != "probs" else np.log(scores, out=np.zeros_like(scores), where=scores > 0)
    finite = np.abs(finite[np.isfinite(finite)]).max(initial=0)
    rounding = np.finfo(np.float64).eps * finite * (scores.shape[-2] + 4)
    check_one(scores, expected, (rounding, rounding), *arguments, **options)
    wide = with_many_classes(scores, options.get("input"))
    slope = np.zeros(wide.shape)
    slope[..., : scores.shape[-1]] = expected[1]
    # The exponentials of many classes of float32 logits have an error of 2e-7.
    dense = 2e-7 if scores.dtype == np.float32 and options.get("input", "logits") == "logits" else 0
    more = (rounding + dense * scores.shape[-2], rounding + dense)
    check_one(wide, (expected[0], slope), more, *arguments, **options)


def check_one(scores, expected, rounding, *arguments, **options):
    """Loss and gradient are right; `rounding` is the error of each beyond that of the lattice."""
    loss, gradient = run(scores, *arguments, **options)
    np.testing.assert_array_equal(run(scores, *arguments, **options, return_grad=False), loss)
    over = scores.copy()
    run(over, *arguments, **options, grad_out=over, num_threads=3)
    np.testing.assert_array_equal(over, gradient)
    exact, slope = expected
    single = scores.dtype == np.float32
    size = np.where(np.isfinite(exact), np.maximum(1, np.abs(exact)), 1)
    np.testing.assert_allclose(loss / size, exact / size, rtol=0, atol=(1e-7 if single else 1e-12) + rounding[0])
    relative = np.maximum(1, np.abs(slope)) if options.get("input") == "probs" else 1.0
    limit = (2e-7 if single else 1e-12) + rounding[1]
    np.testing.assert_allclose(gradient / relative, slope / relative, rtol=0, atol=limit)


# ---- random batches -------------------------------------------------------------------------


def alignment(rng, kind, tokens, frames, classes):
    """The class that a confident model takes for best, at each frame."""
    best = np.zeros(frames, int)
    best[np.sort(rng.choice(frames, len(tokens), replace=False))] = tokens
    if kind == "drifting":
        best = np.roll(best, rng.integers(-len(tokens), len(tokens), endpoint=True))
    elif kind == "wrong":
        best = rng.permutation(best)
    elif kind == "in part":
        best[rng.random(frames) < 0.3] = rng.integers(classes)
    elif kind == "silent":
        best[:] = 0
    return best


def scores_for(rng, tokens, frames, classes):
    """Scores of a model that is right or is not, float32 or float64."""
    scores = rng.normal(size=(len(tokens), frames, classes))
    scale, kind = rng.choice(SCALES), rng.choice(["noise", "right", "drifting", "wrong", "in part", "silent"])
    if kind == "noise":
        scores *= scale
    else:
        for x, y in zip(scores, tokens, strict=True):
            x[np.arange(frames), alignment(rng, kind, y, frames, classes)] += scale
            x *= rng.choice([1.0, rng.uniform(1, 4)])
    if rng.random() < 0.2:
        scores[:, :, rng.integers(classes)] -= scale
    return scores.astype(rng.choice([np.float32, np.float64]))


def frames_needed(tokens):
    return tokens.shape[1] + np.count_nonzero(tokens[:, 1:] == tokens[:, :-1], axis=1)


def random_batch(seed):
    """Sequences of 5 to 32 classes and up to 89 labels, of few or many frames."""
    rng = np.random.default_rng(seed)
    batch, classes, count = 8, int(rng.integers(5, 33)), int(rng.integers(1, 90))
    repeats = rng.choice([0.0, 0.2, 0.5, 1.0])
    tokens = np.stack([random_tokens(rng, count, classes, 0, repeats) for _ in range(batch)])
    shortest = frames_needed(tokens)
    frames = int(shortest.max() + rng.choice([0, 1, 2, 5, 20, count, 4 * count]))
    return scores_for(rng, tokens, frames, classes), tokens, rng.integers(shortest, frames, endpoint=True)


def long_batch(seed):
    """Two sequences, long enough for halves: with more than 2^22 bytes of alphas."""
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(2, 20)), int(rng.integers(60, 700))
    repeats = rng.choice([0.0, 0.2, 1.0]) if classes > 2 else 1.0
    tokens = np.stack([random_tokens(rng, count, classes, 0, repeats) for _ in range(2)])
    shortest = np.maximum(frames_needed(tokens), 2**18 // (count + 1) + 1)
    frames = int(shortest.max() + rng.choice([0, 1, 7, 50, count]))
    return scores_for(rng, tokens, frames, classes), tokens, rng.integers(shortest, frames, endpoint=True)


def as_kind(scores, kind):
    """Scores as they are, or probabilities of at least 1e-12, whose gradients are in the range of float32."""
    if kind != "probs":
        return scores
    wide = scores.astype(np.float64)
    wide = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.maximum(wide / wide.sum(axis=-1, keepdims=True), 1e-12).astype(scores.dtype)


def check_random(batch_of, seeds, kinds):
    """Check the random batch of each seed, with the kinds of input in turn."""
    for seed in seeds:
        scores, *arguments = batch_of(seed)
        kind = kinds[seed % len(kinds)]
        check(as_kind(scores, kind), *arguments, input=kind)


@pytest.mark.parametrize(("kind", "seed"), spread(EVERY_KIND, [*range(0, 400, 50), 3300, 3350], every=8))
def test_random_batches(level, kind, seed):
    check_random(random_batch, range(seed, seed + 50), [kind])


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(1000, 2600, 200))
def test_very_many_random_batches(seed):
    check_random(random_batch, range(seed, seed + 100), EVERY_KIND)


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "seed"), spread(EVERY_KIND, range(0, 60, 3), every=20))
def test_random_long_batches(level, kind, seed):
    check_random(long_batch, range(seed, seed + 3), [kind])


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(1000, 1320, 40))
def test_very_many_random_long_batches(seed):
    check_random(long_batch, range(seed, seed + 20), EVERY_KIND)


# ---- frames that allow one class ------------------------------------------------------------


def one_class_a_frame(seed, shape=(16, 14)):
    """Every frame favours one class, by a number of bits that is nearly the same for all frames; few frames to spare.

    Paths that seem lost catch up with others later. What is dropped on the way may be all that reaches the end.
    """
    batch, most = shape
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(2, 5)), int(rng.integers(2, most))
    tokens = random_tokens(rng, count, classes, 0, rng.choice([0.0, 0.5, 1.0]))
    frames = count + np.count_nonzero(tokens[1:] == tokens[:-1]) + int(rng.integers(0, 6))
    bits = rng.choice([60.0, 130.0, 180.0, 220.0, 280.0, 340.0, 390.0])
    scores = -bits - rng.uniform(0, 8, (batch, frames, classes))
    best = rng.choice(classes, (batch, frames), p=np.r_[0.6, np.full(classes - 1, 0.4 / (classes - 1))])
    np.put_along_axis(scores, best[..., None], 0.0, axis=2)
    return LN2 * scores, np.tile(tokens, (batch, 1))


@pytest.mark.parametrize(("kind", "seed"), spread(KINDS, range(0, 1000, 50), every=20))
def test_one_class_a_frame(level, kind, seed):
    for offset in range(50):
        check(*one_class_a_frame(seed + offset), input=kind)


@pytest.mark.parametrize("seed", spread(range(40), every=5))
def test_one_class_a_frame_and_many_labels(level, seed):
    check(*one_class_a_frame(seed, (16, 120)))


def between_checkpoints(seed):
    """Such frames in the middle of a long sequence of frames that name their label, around the edge of a block."""
    rng = np.random.default_rng(seed)
    core, tokens = one_class_a_frame(seed, (4, 14))
    batch, frames, classes = core.shape
    before = 320 - int(rng.integers(frames))
    after = 800 - before
    others = np.tile([1, 2], 400) + classes - 1  # two more classes by turns
    scores = np.full((batch, before + frames + after, classes + 2), -LN2 * rng.uniform(60, 340))
    scores[:, np.arange(before), others[:before]] = 0
    scores[:, before : before + frames, :classes] = core
    scores[:, before + frames + np.arange(after), others[:after]] = 0
    labels = np.concatenate([others[:before], tokens[0], others[:after]])
    return scores, np.tile(labels, (batch, 1))


@pytest.mark.parametrize("seed", spread(range(0, 60, 3), every=20))
def test_one_class_a_frame_between_checkpoints(level, seed):
    for offset in range(3):
        check(*between_checkpoints(seed + offset))


# ---- sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 7, 8, 9, 17, 63, 64])
def test_number_of_classes(level, classes, dtype, kind):
    rng = np.random.default_rng(classes)
    for frames in (1, 7, 8, 9, 30):
        scores = rng.normal(size=(4, frames, classes)).astype(dtype)
        count = min(frames // 2, 6 if classes > 1 else 0)
        tokens = rng.integers(1, classes, (4, count)) if classes > 1 else np.zeros((4, 0), int)
        lengths = np.array([frames, frames, max(frames - 1, 2 * count), max(frames - 5, 2 * count)])
        check(scores, tokens, lengths, input=kind)


@pytest.mark.parametrize(("scale", "dtype"), spread([1.0, 15.0], [np.float32, np.float64], every=2))
def test_number_of_labels(level, scale, dtype):
    """One vector to many blocks, with frames to spare or not."""
    rng = np.random.default_rng(0)
    for count in (*range(18), 22, 23, 24, 31, 32, 46, 47, 48, 49, 63, 64, 65, 95, 96, 127, 128, 129, 200):
        for spare in (0, 1, 40, 2 * count):
            scores = (scale * rng.normal(size=(1, max(2 * count + spare, 1), 6))).astype(dtype)
            check(scores, rng.integers(1, 6, (1, count)))


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 34, 63, 64, 65, 97])
def test_windows_and_tiles_end_anywhere(level, length):
    rng = np.random.default_rng(length)
    for scale in (1.0, 8.0, 25.0):
        check(scale * rng.normal(size=(2, length, 7)), rng.integers(1, 7, (2, length // 3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_score_that_counts_for_the_softmax_alone(level, dtype):
    """Far below or above, or -inf, in a class without label."""
    rng = np.random.default_rng(2)
    for extreme in (-np.inf, np.finfo(dtype).min, -1e5, -600.0, 30.0, 250.0, 1e5):
        scores = rng.normal(size=(1, 40, 12)).astype(dtype)
        scores[0, ::3, 11] = extreme
        check(scores, rng.integers(1, 11, (1, 9)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("classes", "in_place"), [(9, False), (9, True), (90, False), (90, True)])
def test_special_scores_of_one_sequence(level, classes, in_place, value):
    def run(scores, tokens):
        over = scores.copy()
        loss = fsl.ctc_loss(over, tokens, reduction="none", return_grad=True, grad_out=over if in_place else None)[0]
        return loss, over if in_place else fsl.ctc_loss(scores, tokens, reduction="none", return_grad=True)[1]

    rng = np.random.default_rng(3)
    scores, tokens = rng.normal(size=(3, 50, classes)), rng.integers(1, 9, (3, 12))
    loss, gradient = run(scores, tokens)
    scores[1, 20:22] = value
    special, slope = run(scores, tokens)
    np.testing.assert_array_equal(special[::2], loss[::2])
    np.testing.assert_array_equal(slope[::2], gradient[::2])
    if value == -np.inf:
        assert special[1] == np.inf
        assert not slope[1].any()
    else:
        assert np.isnan(special[1])
        assert np.isnan(slope[1]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e5])
@pytest.mark.parametrize("classes", [5, 30])
def test_log_probabilities_of_classes_without_label(level, value, classes):
    """They do not matter, and their gradient is 0, not -0."""
    rng = np.random.default_rng(4)
    scores, tokens = rng.normal(size=(1, 50, classes)), rng.integers(1, classes - 1, (1, 12))
    loss, gradient = run(scores, tokens, input="log_probs")
    scores[..., classes - 1] = value
    other, slope = run(scores, tokens, input="log_probs")
    np.testing.assert_array_equal(other, loss)
    np.testing.assert_array_equal(slope, gradient)
    assert not np.signbit(slope[..., classes - 1]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_log_probability(level, value):
    rng = np.random.default_rng(5)
    scores, tokens = rng.normal(size=(2, 20, 6)), np.array([[1, 2, 3], [4, 5, 1]])
    scores[1, 7, 4] = value
    loss, gradient = run(scores, tokens, input="log_probs")
    np.testing.assert_array_equal(np.isnan(loss), [False, True])
    assert np.isnan(gradient[1]).all()
    assert not np.isnan(gradient[0]).any()


# ---- halves of long sequences on several threads --------------------------------------------


def mixed_batch(classes):
    """Long sequences among short ones, and such as are refused, infeasible, empty, of weight 0, or not finite."""
    rng = np.random.default_rng(8)
    scores = rng.normal(size=(9, 3000, classes)).astype(np.float32)
    scores[2] *= 300
    scores[4, 1500:1503] = np.nan
    scores[5, 2990] = -np.inf
    scores[8, 5:2800:7, 1] = -400
    frames = np.array([3000, 2500, 2000, 40, 2100, 3000, 0, 2600, 2999])
    counts = np.array([200, 900, 300, 12, 300, 150, 0, 700, 400])
    weight = np.array([1, 0, 1, 1, 1, 1, 1, 2, 1])
    return scores, rng.integers(1, 9, (9, 900)), frames, counts, weight


@pytest.mark.parametrize(
    ("chosen", "classes"),
    spread([[0], [2], [4], [5], [8], [0, 3, 1], [7, 6, 8], list(range(9))], [9, 66], every=8),
)
def test_threads_and_batch_mates_change_no_bit(level, chosen, classes):
    scores, tokens, frames, counts, weight = mixed_batch(classes)

    def run(index, threads, **options):
        arguments = (scores[index], tokens[index], frames[index], counts[index])
        return fsl.ctc_loss(*arguments, reduction="none", sample_weight=weight[index], num_threads=threads, **options)

    expected = [run([i], 1, return_grad=True) for i in chosen]
    for threads in (1, 2, 16):
        loss, gradient = run(chosen, threads, return_grad=True)
        np.testing.assert_array_equal(loss, np.concatenate([one[0] for one in expected]))
        np.testing.assert_array_equal(gradient, np.concatenate([one[1] for one in expected]))
        np.testing.assert_array_equal(run(chosen, threads), loss)
        over = scores[chosen]
        arguments = (over, tokens[chosen], frames[chosen], counts[chosen])
        fsl.ctc_loss(*arguments, reduction="none", sample_weight=weight[chosen], grad_out=over, num_threads=threads)
        np.testing.assert_array_equal(over, gradient)


# ---- checkpoints: alphas and emissions that are not kept as a whole ------------------------


@pytest.mark.parametrize(
    ("shape", "scale", "dtype"),
    spread(
        [(1, 2800, 8, 89), (1, 9000, 64, 60), (1, 3000, 12, 1100)],
        [1.0, 3.0, 12.0],
        [np.float32, np.float64],
        every=6,
    ),
)
def test_long_sequences(level, shape, scale, dtype):
    batch, frames, classes, count = shape
    rng = np.random.default_rng(frames)
    scores = (scale * rng.normal(size=(batch, frames, classes))).astype(dtype)
    for kind in KINDS:
        check(scores, rng.integers(1, classes, (batch, count)), input=kind)


@pytest.mark.parametrize("kind", ["right", "drifting", "wrong", "in part", "silent"])
def test_long_sequences_of_confident_models(level, kind):
    rng = np.random.default_rng(11)
    for count, frames in ((89, 2900), (400, 1500)):
        tokens = random_tokens(rng, count, 12, 0, 0.1)
        scores = rng.normal(size=(1, frames, 12))
        scores[0, np.arange(frames), alignment(rng, kind, tokens, frames, 12)] += 20
        check(scores, tokens[None])
