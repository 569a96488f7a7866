"""rnnt_align and rnnt_posteriors against the enumeration of all paths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from reference import transducer as reference
from transducer_cases import HALF, VARIANTS, Case, cases, random_case

SMALL = {"largest": (3, 5, 4, 5), "fastemit": (0.0,)}
THREADS = st.sampled_from((1, 2, 4))


def options_of(case):
    return case.lattice_options | {"ranges": case.ranges}


def whole(case, b):
    """The scores of sequence b on the whole lattice; NaN outside of its ranges."""
    own = case.own(b)
    return own if case.ranges is None else reference.unpruned(own, case.own_ranges(b), len(case.tokens[b]) + 1)


def weights_of(case, b):
    options = case.reference_options
    topology = reference.TOPOLOGIES[options.pop("topology")]
    return reference.rnnt_weights(whole(case, b), case.tokens[b], **options), topology


def frames_of(path):
    return [arc.t for arc in path if arc.kind == reference.LABEL]


@given(cases(**SMALL, widths=(None, None, 2, 3)), THREADS)
def test_best_paths(level, case, threads):
    found = fsl.rnnt_align(*case.arguments, **options_of(case), num_threads=threads)
    assert found.frames.dtype == found.labels.dtype == np.int64
    assert found.log_prob.dtype == found.label_log_probs.dtype == np.float64
    single = case.scores.dtype == np.float32 and case.kind == "logits"
    for b, (n, y) in enumerate(zip(case.lengths, case.tokens, strict=True)):
        count = len(y)
        assert (found.frames[b, count:] == -1).all()
        assert (found.labels[b, count:] == -1).all()
        assert not found.label_log_probs[b, count:].any()
        weights, topology = weights_of(case, b) if n else (None, None)
        best, paths = reference.best_path(weights, topology) if n else (-np.inf, [])
        if not paths:
            assert found.log_prob[b] == -np.inf
            assert (found.frames[b] == -1).all()
            assert (found.labels[b] == -1).all()
            continue
        assert found.log_prob[b] == pytest.approx(best, rel=1e-6 if single else 1e-12, abs=1e-6 if single else 1e-12)
        np.testing.assert_array_equal(found.labels[b, :count], y)
        frames = found.frames[b, :count].tolist()
        assert single or frames in [frames_of(path) for path in paths]
        emitted = weights.label[0][frames, np.arange(count)].astype(float)
        np.testing.assert_allclose(found.label_log_probs[b, :count], emitted, rtol=1e-6, atol=1e-6)


@given(cases(**SMALL, dtypes=HALF, scales=(0.1, 1.0)))
def test_best_paths_of_half_precision(level, case):
    found = fsl.rnnt_align(*case.arguments, **options_of(case))
    for b, n in enumerate(case.lengths):
        best = reference.best_path(*weights_of(case, b))[0] if n else -np.inf
        assert found.log_prob[b] == pytest.approx(best, rel=1e-5, abs=1e-5)


def test_ties_go_to_the_earliest_labels(level):
    """Among equal paths, the one with the earliest last label, then the earliest label before it, and so on."""
    for topology, expected in (("regular", [0, 0, 0]), ("modified", [0, 1, 2])):
        aligned = fsl.rnnt_align(np.zeros((5, 4, 3)), [1, 2, 1], topology=topology)
        assert aligned.frames.tolist() == expected
    probs = np.full((4, 3, 2), 0.5)
    probs[:2, 0, 1] = 0.25  # the first label costs twice as much in the first two frames
    assert fsl.rnnt_align(probs, [1, 1], input="probs").frames.tolist() == [2, 2]


@pytest.mark.parametrize("topology", ["regular", "modified"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_larger_shapes(level, topology, dtype):
    rng = np.random.default_rng(0)
    variant = ("logits", "softmax", topology)
    case = random_case(rng, (3, 70, 25, 30), dtype=dtype, scale=3.0, variant=variant)
    found = fsl.rnnt_align(*case.arguments, **options_of(case), num_threads=3)
    for b, y in enumerate(case.tokens):
        weights, kind = weights_of(case, b)
        best = reference.best_score(weights, kind)
        assert found.log_prob[b] == pytest.approx(best, rel=1e-6 if dtype == np.float32 else 1e-13)
        if best > -np.inf:
            moved = np.diff(found.frames[b, : len(y)])
            assert (moved >= (topology == "modified")).all()
    alone = fsl.rnnt_align(*case.sequence(1).arguments, **options_of(case))
    assert alone.log_prob[0] == found.log_prob[1]


def test_spans():
    case = random_case(np.random.default_rng(0), (3, 6, 4, 5))
    found = fsl.rnnt_align(*case.arguments)
    for b, spans in enumerate(found.spans()):
        assert [span.label for span in spans] == case.tokens[b].tolist()
        assert [span.start for span in spans] == found.frames[b, : len(spans)].tolist()
        assert all(span.end == span.start + 1 for span in spans)
    one = case.sequence(0)
    assert fsl.rnnt_align(one.scores[0], one.tokens[0]).spans() == found.spans()[0]


# ---- posteriors ---------------------------------------------------------------------------


@given(cases(fastemit=(0.0,), widths=(None, None, 2, 3)), THREADS)
def test_posteriors_match_reference(level, case, threads):
    found = fsl.rnnt_posteriors(*case.arguments, **options_of(case), num_threads=threads)
    wide = case.scores.astype(float)
    largest = np.abs(wide[np.isfinite(wide)]).max(initial=0) if case.kind != "probs" else 0
    allowed = np.finfo(float).eps * largest * (sum(case.scores.shape[1:3]) + 4)
    allowed += 1e-12 if case.scores.dtype == np.float64 else 1e-6
    for b, n in enumerate(case.lengths):
        expected = [np.zeros(x.shape[1:]) for x in found]
        if n:
            options = case.reference_options
            by_arc = reference.posteriors(whole(case, b), case.tokens[b], **options)
            frames, columns = case.inside(b)
            for side, slot in zip(by_arc, expected, strict=True):
                own = side if case.ranges is None else reference.pruned(side, case.own_ranges(b), case.scores.shape[2])
                slot[frames, columns] = own[:, columns]
        for actual, wanted in zip(found, expected, strict=True):
            assert actual.dtype == case.scores.dtype
            np.testing.assert_allclose(actual[b], wanted, rtol=0, atol=allowed)


@given(cases(variants=VARIANTS[:2], fastemit=(0.0,), scales=(0.1, 1.0, 10.0)))
def test_posteriors_add_up(level, case):
    blank, label = fsl.rnnt_posteriors(*case.arguments, **options_of(case))
    losses = fsl.rnnt_loss(*case.arguments, **options_of(case), reduction="none")
    size = 1e-12 if case.scores.dtype == np.float64 else 1e-5
    for b, (n, y) in enumerate(zip(case.lengths, case.tokens, strict=True)):
        if np.isfinite(losses[b]):
            arcs = blank[b].sum(axis=1) + (label[b].sum(axis=1) if case.topology == "modified" else 0)
            np.testing.assert_allclose(arcs[:n], 1, atol=size)
            np.testing.assert_allclose(label[b].sum(axis=0)[: len(y)], 1, atol=size)


def test_nan_and_infinity_stay_in_their_sequence(level):
    for bad in (np.nan, np.inf):
        case = random_case(np.random.default_rng(0), (3, 5, 3, 4), full=True)
        expected = [fsl.rnnt_loss(*case.arguments, reduction="none", return_grad=True)]
        case.scores[1, 2, 1, 3] = bad
        loss, gradient = fsl.rnnt_loss(*case.arguments, reduction="none", return_grad=True)
        assert np.isnan(loss[1])
        assert np.isnan(gradient[1]).all()
        for b in (0, 2):
            assert loss[b] == expected[0][0][b]
            np.testing.assert_array_equal(gradient[b], expected[0][1][b])
        assert np.isnan(fsl.rnnt_align(*case.arguments).log_prob).tolist() == [False, True, False]
        assert np.isnan(fsl.rnnt_posteriors(*case.arguments).blank[1]).all()


def test_rows_of_minus_infinity(level):
    """A node whose logits are all -inf has probability 0: the paths go around it, or there is none."""
    scores = np.random.default_rng(0).normal(size=(1, 4, 3, 5))
    scores[0, 1, 1] = -np.inf
    case = Case(scores, [np.array([1, 2])], np.array([4]), 0)
    case.check(*fsl.rnnt_loss(*case.arguments, reduction="none", return_grad=True))
    scores[0, 3, 2] = -np.inf
    case = Case(scores, [np.array([1, 2])], np.array([4]), 0)
    loss, gradient = fsl.rnnt_loss(*case.arguments, reduction="none", return_grad=True)
    assert loss == np.inf
    assert not gradient.any()
