"""ctc_entropy: the entropy of the alignments given the labels, and its gradient."""

from functools import partial
from itertools import product
from math import comb, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import real_data
from cases import HALF, cases, random_case, scores_like
from reference import ctc as reference
from thoroughness import examples, thorough

THREADS = st.sampled_from((1, 2, 4))


def run(case, **options):
    return fsl.ctc_entropy(*case.arguments, **case.options, **{"reduction": "none", "return_grad": True} | options)


@examples(2)
@given(cases(), THREADS)
def test_matches_reference(case, threads):
    case.check_entropy(*run(case, num_threads=threads))
    np.testing.assert_array_equal(run(case, return_grad=False), run(case)[0])


@given(cases(dtypes=HALF, scales=(0.1, 1.0, 10.0), kinds=("logits", "log_probs")))
def test_half_precision(case):
    entropy, gradient = run(case)
    wide = run_wide(case)
    np.testing.assert_array_equal(entropy, wide[0])
    np.testing.assert_array_equal(gradient, wide[1].astype(gradient.dtype))


def run_wide(case):
    scores = case.scores.astype(np.float32)
    return fsl.ctc_entropy(scores, *case.arguments[1:], **case.options, reduction="none", return_grad=True)


def entropy_by_enumeration(log_probs, labels, blank):
    """From the probabilities of all sequences of classes that spell the labels."""
    frames, classes = log_probs.shape
    paths = [path for path in product(range(classes), repeat=frames) if reference.collapse(path, blank) == [*labels]]
    if not (paths and frames):
        return 0.0
    weights = np.exp(log_probs[np.arange(frames), np.array(paths, int).reshape(-1, frames)].sum(axis=1))
    weights = weights[weights > 0]
    q = weights / weights.sum()
    return -(q * np.log(q)).sum()


@given(cases(smallest=1, largest=(2, 6, 4, 3), dtypes=(np.float64,), scales=(0.1, 1.0, 10.0)))
def test_matches_enumeration(case):
    entropy = run(case, return_grad=False)
    for b, (labels, n) in enumerate(zip(case.tokens, case.lengths, strict=True)):
        log_probs = reference.log_emissions(case.scores[b, :n], case.kind).astype(np.float64)
        by_definition = entropy_by_enumeration(log_probs, labels, case.blank % case.scores.shape[2])
        np.testing.assert_allclose(entropy[b], by_definition, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", ["logits", "log_probs", "probs"])
@pytest.mark.parametrize("labels", [[1, 2], [1, 1, 2], [3], []])
def test_central_differences(kind, labels):
    """Also for log-probabilities and probabilities that are not normalised."""
    x = np.random.default_rng(len(labels)).normal(size=(2, 7, 5))
    x = np.exp(x) if kind == "probs" else x
    entropy = partial(fsl.ctc_entropy, labels=[labels, labels[:1]], logit_lengths=[7, 5], input=kind, reduction="sum")
    _, gradient = entropy(x, return_grad=True)
    np.testing.assert_allclose(gradient, reference.central_differences(entropy, x), atol=1e-8)


@pytest.mark.parametrize(("frames", "labels"), [(1, 1), (9, 4), (40, 11)])
def test_equally_probable_alignments(frames, labels):
    """Each label and each blank between them has one frame or more, in comb(T + S, 2 S) ways."""
    x = np.zeros((frames, 12))
    entropy, gradient = fsl.ctc_entropy(x, np.arange(labels) + 1, return_grad=True)
    np.testing.assert_allclose(entropy, log(comb(frames + labels, 2 * labels)), rtol=1e-13)
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "scale", "shape"),
    [
        ("logits", 30.0, (2, 150, 28, 40)),
        thorough("probs", 1.0, (2, 150, 28, 40)),
        thorough("logits", 1.0, (1, 5000, 20, 100)),
        thorough("probs", 30.0, (1, 900, 50, 880)),
        thorough("logits", 30.0, (2, 1500, 9, 400)),
    ],
)
def test_larger_shapes(kind, scale, shape):
    """With and without checkpoints, tight and loose."""
    case = random_case(np.random.default_rng(2), shape, kind=kind, scale=scale, full=True, repeats=0)
    case.check_entropy(*run(case), tolerance=1e-10)


@pytest.mark.thorough
@pytest.mark.parametrize(("frames", "labels"), [(560, 400), (5000, 60), (12000, 20)])
def test_large_entropies(frames, labels):
    """Entropies of many frames, with checkpoints."""
    case = random_case(np.random.default_rng(7), (1, frames, 6, labels), full=True, scale=0.3)
    entropy, gradient = run(case)
    assert entropy[0] > 60
    case.check_entropy(entropy, gradient)


def test_confident_models_have_small_entropies():
    """Log Z and the mean score of an alignment are 10^5, and their difference is 1e-28: nothing cancels."""
    frames, gap = 2000, 70.0
    x = np.zeros((frames, 3))
    x[:, 0] = -50.0
    x[:, 2] = -1e3
    x[frames // 2, 1] = gap - 50.0
    x[np.arange(frames) != frames // 2, 1] = -50.0 - gap
    # The best alignment has label 1 at one frame; two others have it at a neighbour, too.
    entropy, gradient = fsl.ctc_entropy(x, [1], input="log_probs", return_grad=True)
    assert fsl.ctc_loss(x, [1], input="log_probs") > 9e4
    q = np.exp(-gap)
    np.testing.assert_allclose(entropy, 2 * q * (1 + gap), rtol=1e-12)
    np.testing.assert_allclose(gradient[frames // 2 + 1, 1], q * gap, rtol=1e-12)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("size", [1e6, 1e12, 1e200])
def test_huge_scores_keep_small_differences(size):
    """Each alignment crosses huge scores that differ by little, at frames of its own: those with one label remain."""
    x = np.zeros((6, 2))
    x[:, 1] = -size, -np.inf, -size, -np.inf, -size, -np.inf
    entropy, gradient = fsl.ctc_entropy(x, [1], input="log_probs", return_grad=True)
    np.testing.assert_allclose(entropy, log(3), rtol=1e-14)
    np.testing.assert_allclose(gradient, 0, atol=1e-15)
    masked = np.zeros((6, 3), np.float32)
    masked[:, 1:] = max(-size, float(np.finfo(np.float32).min))  # of float32: labels are unavoidable
    np.testing.assert_allclose(fsl.ctc_entropy(masked, [1, 2, 1]), log(comb(6, 3)), rtol=1e-14)


@given(st.integers(0, 2**32 - 1), st.sampled_from((1e6, 1e9)))
def test_sums_of_huge_scores(seed, size):
    """Against long double, whose digits are as many as these sums have."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(40, 4)) * size / 64) * 64 + rng.integers(0, 3, (40, 4))
    x[:, 1:] = x[:, :1] + rng.normal(size=(40, 3))  # any alignment, whose scores are huge together
    expected, slope = reference.ctc_entropy(x, [1, 2, 3, 3], 0, "log_probs")
    entropy, gradient = fsl.ctc_entropy(x, [1, 2, 3, 3], input="log_probs", return_grad=True)
    np.testing.assert_allclose(entropy, expected, rtol=1e-9)
    np.testing.assert_allclose(gradient, slope, atol=1e-9)


def test_impossible_sequences_have_no_entropy():
    x = np.random.default_rng(0).normal(size=(4, 3, 4))
    x[2, 1, :3] = -np.inf
    labels = [[1, 1, 2], [1, 2, 3], [1], []]
    for policy in ("inf", "zero"):
        entropy, gradient = fsl.ctc_entropy(x, labels, infeasible=policy, reduction="none", return_grad=True)
        assert not entropy.any()
        assert not gradient.any()
    with pytest.raises(ValueError, match=r"infeasible sequences: 0$"):
        fsl.ctc_entropy(x, labels, infeasible="raise")
    terms = [
        (weight, partial(function, labels=labels)) for weight, function in ((1, fsl.ctc_loss), (-1, fsl.ctc_entropy))
    ]
    assert fsl.weighted_sum(terms)(x, return_grad=True)[0] == np.inf


@given(cases(smallest=1, largest=(3, 8, 5, 3), kinds=("logits", "log_probs"), scales=(1.0,)), st.integers(0, 2**32 - 1))
def test_forbidden_classes(case, seed):
    rng = np.random.default_rng(seed)
    case.scores[(rng.random(case.scores.shape) < 0.2) & ~np.isnan(case.scores)] = -np.inf
    entropy, gradient = run(case)
    case.check_entropy(entropy, gradient)
    assert np.isfinite(gradient).all()


def test_probabilities_of_zero():
    p = np.array([[0.5, 0.5, 0.0], [0.0, 0.4, 0.6], [1.0, 0.0, 0.0]])
    entropy, gradient = fsl.ctc_entropy(p, [1], input="probs", return_grad=True)
    with np.errstate(divide="ignore"):
        expected, slope = fsl.ctc_entropy(np.log(p), [1], input="log_probs", return_grad=True)
    np.testing.assert_allclose(entropy, expected)
    np.testing.assert_allclose(gradient[p > 0], slope[p > 0] / p[p > 0])
    assert not gradient[p == 0].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_stays_in_its_sequence(value):
    x = np.random.default_rng(0).normal(size=(3, 9, 5))
    expected = run_plain(x)
    x[1, 4, 3] = value  # a class that does not occur
    np.testing.assert_array_equal(run_plain(x)[0], expected[0])
    x[1, 4, 2] = value
    entropy, gradient = run_plain(x)
    assert np.isnan(entropy).tolist() == [False, True, False]
    assert np.isnan(gradient).all(axis=(1, 2)).tolist() == [False, True, False]
    np.testing.assert_array_equal(gradient[::2], expected[1][::2])
    entropy, _ = fsl.ctc_entropy(np.full((1, 2, 2), -0.5), [[1]], input="probs", reduction="none", return_grad=True)
    assert np.isnan(entropy).all()


def run_plain(x):
    return fsl.ctc_entropy(x, [[1, 2]] * len(x), reduction="none", return_grad=True)


@pytest.mark.parametrize("threads", [2, 3, None])
def test_threads_and_batch_mates_do_not_change_a_bit(threads):
    case = random_case(np.random.default_rng(5), (12, 120, 40, 30), dtype=np.float32, scale=3.0)
    expected = run(case, num_threads=1)
    for found, wanted in zip(run(case, num_threads=threads), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    for b, n in enumerate(case.lengths):
        entropy, gradient = run(case.sequence(b))
        assert entropy[0] == expected[0][b]
        np.testing.assert_array_equal(expected[1][b, :n], gradient[0])


@given(cases(smallest=1, largest=(1, 9, 6, 4)))
def test_single_sequence_read_only_strides_and_in_place(case):
    expected = run(case)
    arguments = case.scores[0], case.labels[0], int(case.lengths[0]), int(case.label_lengths[0])
    single = fsl.ctc_entropy(*arguments, **case.options, return_grad=True)
    assert single[0] == expected[0][0]
    np.testing.assert_array_equal(single[1], expected[1][0])
    plain, strided = case.scores, np.ascontiguousarray(case.scores.swapaxes(0, 1)).swapaxes(0, 1)
    for layout in (strided, np.repeat(plain, 2, axis=2)[:, :, ::2], plain[:, ::-1].copy()[:, ::-1]):
        layout.flags.writeable = False
        case.scores = layout
        for found, wanted in zip(run(case), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    case.scores = plain.copy()
    entropy, gradient = run(case, grad_out=case.scores)
    assert gradient is case.scores
    np.testing.assert_array_equal(entropy, expected[0])
    np.testing.assert_array_equal(gradient, expected[1])


@pytest.mark.parametrize("frames", [900, thorough(3000)])
def test_derivative_with_checkpoints(frames):
    """In a random direction."""
    case = random_case(np.random.default_rng(8), (2, frames, 30, 250), full=True)
    direction = np.random.default_rng(9).normal(size=case.scores.shape)
    _, gradient = run(case, reduction="sum")

    def slope(step):
        """The central difference, whose error is a multiple of the square of the step."""
        moved = (case.scores + way * step * direction for way in (1, -1))
        after, before = (fsl.ctc_entropy(scores, *case.arguments[1:], reduction="sum") for scores in moved)
        return (after - before) / (2 * step)

    expected = (4 * slope(1e-4) - slope(2e-4)) / 3
    np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=1e-6)


@pytest.mark.parametrize("frames", [900, thorough(3000)])
def test_in_place_with_checkpoints(frames):
    case = random_case(np.random.default_rng(3), (2, frames, 30, 250), dtype=np.float32, kind="probs", full=True)
    entropy, gradient = run(case)
    kept = case.scores.copy()
    found = run(case, grad_out=case.scores)
    np.testing.assert_array_equal(found[0], entropy)
    np.testing.assert_array_equal(found[1], gradient)
    case.scores = kept
    np.testing.assert_array_equal(run(case, return_grad=False), entropy)


@pytest.mark.parametrize("reduction", ["mean", "sequence_mean", "sum", "none"])
def test_reductions(reduction):
    case = random_case(np.random.default_rng(4), (5, 12, 6, 3))
    weight = np.array([1.0, 0.0, 0.5, 2.0, 1.0])
    options = {"reduction": reduction, "sample_weight": weight}
    each = reference.entropy_batch(case.scores, case.tokens, case.lengths, case.blank)
    expected = reference.reduce(*each, case.label_lengths, reduction, weight)
    for found, wanted in zip(run(case, **options), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13)
    if reduction == "sum":
        np.testing.assert_allclose(run(case, normalizer=4.0, **options)[0], expected[0] / 4)


def test_no_frames_no_sequences():
    assert fsl.ctc_entropy(np.zeros((0, 3)), []) == 0
    entropy, gradient = fsl.ctc_entropy(np.zeros((2, 0, 3)), [[], [1]], reduction="none", return_grad=True)
    assert (entropy.tolist(), gradient.shape) == ([0, 0], (2, 0, 3))
    assert fsl.ctc_entropy(np.zeros((0, 4, 3)), np.zeros((0, 2), int)) == 0


@pytest.mark.parametrize("name", [thorough(name) if name.endswith("long") else name for name in real_data.NAMES])
def test_real_emissions(name):
    data = real_data.load(name, padding=np.nan)
    arguments = data.emissions, data.labels, data.lengths, data.label_lengths
    options = {"blank": data.blank, "input": data.kind, "reduction": "none"}
    entropy, gradient = fsl.ctc_entropy(*arguments, **options, return_grad=True)
    assert (entropy >= 0).all()
    assert np.isfinite(gradient).all()
    for b in np.flatnonzero(data.lengths < 1000)[:2]:
        n, count = data.lengths[b], data.label_lengths[b]
        single = data.emissions[b, :n], data.labels[b, :count], data.blank, data.kind
        expected, slope = reference.ctc_entropy(*single)
        np.testing.assert_allclose(entropy[b], expected, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(gradient[b, :n], slope, rtol=1e-6, atol=1e-9)


def test_gradient_raises_the_entropy():
    """Ascent makes alignments equally probable: each is then one of comb(T + S, 2 S)."""
    x = np.random.default_rng(0).normal(size=(6, 3))
    for _ in range(1000):
        entropy, gradient = fsl.ctc_entropy(x, [1, 2], return_grad=True)
        x += 2 * gradient
    np.testing.assert_allclose(entropy, log(comb(8, 4)), rtol=1e-3)


def test_kinds_agree():
    logits = np.random.default_rng(6).normal(size=(3, 10, 5))
    entropies = [
        fsl.ctc_entropy(scores_like(logits, kind), [[1, 2], [3, 3], [4]], input=kind, reduction="none")
        for kind in ("logits", "log_probs", "probs")
    ]
    np.testing.assert_allclose(entropies[1:], entropies[:1] * 2, rtol=1e-12)
