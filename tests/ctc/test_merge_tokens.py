"""merge_tokens: spans of paths from elsewhere, beside a loop over frames and those of paths of the library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import cases


def spans_of(path, scores, blank):
    """Label, start, end and scores of each run."""
    found, before = [], blank
    for t, (label, score) in enumerate(zip(path, scores, strict=True)):
        if label != blank:
            if label != before:
                found.append((label, t, []))
            found[-1][2].append(score)
        before = label
    return [(label, start, start + len(values), values) for label, start, values in found]


def assert_spans(found, expected):
    assert [span[:3] for span in found] == [span[:3] for span in expected]
    for span, (*_, values) in zip(found, expected, strict=True):
        assert span.log_prob == pytest.approx(sum(values), rel=1e-12, abs=1e-12)
        assert span.mean_log_prob == span.log_prob / len(values)
        assert {type(x) for x in span} == {int, float}


@given(
    st.integers(0, 4),
    st.integers(0, 12),
    st.sampled_from((np.float64, np.float32, np.float16)),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_runs(batch, frames, dtype, blank, seed):
    rng = np.random.default_rng(seed)
    path, scores = rng.integers(0, 4, (batch, frames)), rng.normal(size=(batch, frames)).astype(dtype)
    lengths = rng.integers(0, frames, batch, endpoint=True)
    padded = np.where(np.arange(frames) < lengths[:, None], path, -1)
    found = fsl.merge_tokens(padded, scores, lengths, blank=blank)
    assert len(found) == batch
    for b, n in enumerate(lengths):
        expected = spans_of(path[b, :n].tolist(), scores[b, :n].astype(np.float64).tolist(), blank)
        assert_spans(found[b], expected)
        assert fsl.merge_tokens(path[b].astype(np.int8), scores[b], int(n), blank=blank) == found[b]
        assert [span.label for span in found[b]] == fsl.ctc_collapse(path[b, :n], blank).tolist()


@given(cases(smallest=1))
def test_paths_of_the_library(case):
    """Spans of alignments, from their arrays."""
    blank = case.blank % case.scores.shape[2]
    aligned = fsl.ctc_align(case.scores, case.labels, case.lengths, case.label_lengths, **case.options)
    counted = np.where(aligned.log_prob == -np.inf, 0, case.lengths)
    assert fsl.merge_tokens(aligned.path, aligned.frame_log_probs, counted, blank=blank) == aligned.spans()


def test_nothing_to_merge():
    assert fsl.merge_tokens([], []) == []
    assert fsl.merge_tokens(np.zeros((2, 0), int), np.zeros((2, 0))) == [[], []]
    assert fsl.merge_tokens([0, 0], [0.0, 0.0]) == []


def test_scores_that_are_not_finite():
    with np.errstate(all="raise"):
        first, second = fsl.merge_tokens([1, 1, 0, 2], [np.inf, -np.inf, 0.0, -np.inf])
    assert np.isnan(first.log_prob)
    assert second.mean_log_prob == -np.inf


@pytest.mark.parametrize(
    ("error", "said", "given"),
    [
        (ValueError, r"path\[1\] is -1; allowed: .*; if it is padding, pass logit_lengths", {"path": [1, -1]}),
        (ValueError, r"path\[1\] is -1; allowed: 0 to \d+$", {"path": [1, -1], "logit_lengths": 2}),
        (
            ValueError,
            r"path\[1, 0\] is -5; allowed: 0 to",
            {"path": [[-1, 2], [-5, 0]], "frame_log_probs": np.zeros((2, 2)), "logit_lengths": [0, 2]},
        ),
        (ValueError, r"path\[0\] is 18446744073709551615; allowed", {"path": np.array([2**64 - 1, 1], np.uint64)}),
        (ValueError, r"path has shape \(1, 1, 2\); allowed: \[B, T\], or \[T\]", {"path": [[[1, 2]]]}),
        (ValueError, r"path has shape \(\); allowed", {"path": 1}),
        (TypeError, r"path has dtype float64; allowed: any integer dtype", {"path": [0.5, 1.0]}),
        (ValueError, r"frame_log_probs has shape \(3,\); allowed: \(2,\), as of path", {"frame_log_probs": [0.0] * 3}),
        (TypeError, r"frame_log_probs has dtype complex128", {"frame_log_probs": [1j, 0]}),
        (ValueError, r"logit_lengths is 3; allowed: 0 to 2", {"logit_lengths": 3}),
        (ValueError, r"blank is -1; allowed: 0 or more", {"blank": -1}),
        (TypeError, r"blank must be an integer, got str", {"blank": "-"}),
    ],
)
def test_errors(error, said, given):
    with pytest.raises(error, match=said):
        fsl.merge_tokens(**{"path": [1, 2], "frame_log_probs": [-0.1, -0.2]} | given)
