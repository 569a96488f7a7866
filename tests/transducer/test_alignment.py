"""rnnt_align: the best path, its frames, its log-probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from reference import transducer as reference
from transducer_cases import HALF, VARIANTS, cases, random_case

SMALL = {"largest": (3, 4, 3, 4), "scales": (0.1, 1.0, 10.0), "fastemit": (0.0,)}


def run(case, **options):
    return fsl.rnnt_align(*case.arguments, **case.lattice_options, **{"ranges": case.ranges} | options)


def weights_of(case, b):
    scores = case.own(b).astype(np.float64)
    if case.ranges is not None:
        scores = reference.unpruned(scores, case.own_ranges(b), len(case.tokens[b]) + 1)
    return reference.rnnt_weights(
        scores, case.tokens[b], blank=case.blank, kind=case.kind, blank_model=case.blank_model
    )


@given(cases(**SMALL, widths=(None, None, 2)), st.sampled_from((1, 2, 4)))
def test_matches_enumeration(level, case, threads):
    found = run(case, num_threads=threads)
    small = 1e-12 if case.scores.dtype == np.float64 else 1e-5
    for b, y in enumerate(case.tokens):
        weights = weights_of(case, b)
        best, paths = reference.best_path(weights, reference.TOPOLOGIES[case.topology])
        assert (found.frames[b, len(y) :] == -1).all()
        assert (found.labels[b, len(y) :] == -1).all()
        if not paths:
            assert found.log_prob[b] == -np.inf
            assert (found.frames[b] == -1).all()
            continue
        assert found.log_prob[b] == pytest.approx(best, rel=small, abs=small)
        np.testing.assert_array_equal(found.labels[b, : len(y)], y)
        frames = found.frames[b, : len(y)]
        if case.scores.dtype == np.float64:
            assert tuple(frames) in {tuple(arc.t for arc in path if arc.kind == reference.LABEL) for path in paths}
        own = [float(weights.label[0, t, u]) for u, t in enumerate(frames)]
        np.testing.assert_allclose(found.label_log_probs[b, : len(y)], own, rtol=small, atol=small)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("classes", [5, 28, 300])
def test_larger_shapes(level, variant, classes):
    case = random_case(np.random.default_rng(classes), (3, 40, 12, classes), variant=variant, scale=3.0)
    found = run(case, num_threads=2)
    for b in range(3):
        best = reference.best_score(weights_of(case, b), reference.TOPOLOGIES[case.topology])
        assert found.log_prob[b] == pytest.approx(best, rel=1e-12)


def test_log_prob_is_that_of_the_path():
    case = random_case(np.random.default_rng(1), (1, 30, 8, 6), full=True)
    found = run(case)
    log_probs = reference.rnnt_weights(case.scores[0], case.tokens[0])
    labels = np.bincount(found.frames[0], minlength=30).cumsum()  # after the frame, where the blank is
    total = sum(float(log_probs.blank[0, t, u]) for t, u in enumerate(labels))
    assert found.log_prob[0] == pytest.approx(total + found.label_log_probs[0].sum(), rel=1e-12)
    assert found.log_prob[0] < -fsl.rnnt_loss(*case.arguments)


@pytest.mark.parametrize("topology", ["regular", "modified"])
def test_of_equal_paths_labels_come_early(level, topology):
    found = fsl.rnnt_align(np.zeros((2, 7, 4, 5)), [[1, 2, 3], [4]], [7, 3], topology=topology)
    assert found.frames.tolist() == [[0, 0, 0] if topology == "regular" else [0, 1, 2], [0, -1, -1]]


def test_spans():
    case = random_case(np.random.default_rng(2), (2, 9, 3, 5), full=True)
    found = run(case)
    for b, spans in enumerate(found.spans()):
        assert [span.label for span in spans] == list(case.tokens[b])
        assert [span.start for span in spans] == list(found.frames[b])
        assert all(span.end == span.start + 1 and span.mean_log_prob == span.log_prob for span in spans)
        assert [span.log_prob for span in spans] == list(found.label_log_probs[b])
    one = fsl.rnnt_align(case.scores[0], case.tokens[0], blank=case.blank)
    assert isinstance(one.log_prob, float)
    assert one.spans() == found.spans()[0]
    assert fsl.rnnt_align(np.full((3, 2, 4), -np.inf), [1]).spans() == []
    assert fsl.rnnt_align(np.zeros((3, 1, 4)), []).spans() == []


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision(dtype):
    x = np.random.default_rng(3).normal(size=(2, 9, 4, 6)).astype(dtype)
    found, expected = (fsl.rnnt_align(s, [[1, 2, 3], [4, 5, 1]]) for s in (x, x.astype(np.float32)))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_threads_and_batch_do_not_change_a_bit(level, threads):
    case = random_case(np.random.default_rng(4), (7, 40, 9, 130), dtype=np.float32)
    expected = run(case, num_threads=1)
    for a, b in zip(run(case, num_threads=threads), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    for b, y in enumerate(case.tokens):
        alone = run(case.sequence(b))
        assert alone.log_prob[0] == expected.log_prob[b]
        np.testing.assert_array_equal(alone.frames[0], expected.frames[b, : len(y)])
