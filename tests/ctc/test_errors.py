"""Invalid arguments raise an exception with the position, the value and the allowed values; nothing is written."""

import re

import numpy as np
import pytest

import fastseqloss as fsl

B, T, V = 3, 6, 5
SCORES = np.random.default_rng(0).normal(size=(B, T, V))
LABELS = np.array([[1, 2, 3], [4, 4, 0], [2, 0, 0]])
LENGTHS = np.array([6, 5, 4])
LABEL_LENGTHS = np.array([3, 2, 1])
VALID = {
    "logits": SCORES,
    "labels": LABELS,
    "logit_lengths": LENGTHS,
    "label_lengths": LABEL_LENGTHS,
}


def changed(array, position, value):
    array = array.copy()
    array[position] = value
    return array


def assert_raises(kind, *said, **wrong):
    """ctc_loss raises `kind` with all of `said` in that order, and leaves the output alone."""
    arguments = VALID | wrong
    pattern = ".*".join(re.escape(str(word)) for word in said)
    logits = arguments["logits"]
    out = np.full(np.shape(logits) if isinstance(logits, np.ndarray) else (), 7.0)
    if out.dtype == getattr(logits, "dtype", None):
        arguments["grad_out"] = out
    with pytest.raises(kind, match=f"(?s){pattern}"):
        fsl.ctc_loss(**arguments)
    assert np.all(out == 7)


def test_the_valid_call_is_valid():
    assert np.isfinite(fsl.ctc_loss(**VALID))


# ---- labels -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [5, 6, -1, -5, 2**40, 0])
def test_label_out_of_range_or_blank(value):
    labels = changed(LABELS, (1, 1), value)
    assert_raises(ValueError, "labels[1, 1]", value, "allowed", "0", "4", "0", labels=labels)


def test_label_equal_to_a_negative_blank():
    assert_raises(ValueError, "labels[0, 2]", "3", "0", "4", "3", blank=-2, labels=LABELS)


def test_first_offending_label_is_named():
    labels = changed(changed(LABELS, (0, 2), 9), (1, 0), 8)
    assert_raises(ValueError, "labels[0, 2]", "9", labels=labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
def test_label_out_of_range_in_other_dtypes(dtype):
    labels = changed(LABELS, (2, 0), 200).astype(dtype)
    assert_raises(ValueError, "labels[2, 0]", "200", labels=labels)


def test_label_beyond_int64():
    labels = changed(LABELS.astype(np.uint64), (1, 0), 2**64 - 1)
    assert_raises(ValueError, "labels[1, 0]", 2**64 - 1, labels=labels)


def test_concatenated_label_out_of_range():
    labels = np.array([1, 2, 3, 4, 7, 2])
    assert_raises(ValueError, "labels[4]", "7", "0", "4", labels=labels)


def test_listed_label_out_of_range():
    assert_raises(ValueError, "labels[1][0]", "9", labels=[[1], [9], [2]], label_lengths=None)


def test_label_of_a_single_sequence_out_of_range():
    arguments = {"logits": SCORES[0], "logit_lengths": None, "label_lengths": None}
    assert_raises(ValueError, "labels[1]", "5", "0", "4", labels=[1, 5], **arguments)


@pytest.mark.parametrize("dtype", [float, bool, complex, "U1", object, "M8[s]"])
def test_labels_of_a_wrong_dtype(dtype):
    labels = LABELS.astype(np.int64).astype(dtype)
    assert_raises(TypeError, "labels", labels.dtype, "integer", labels=labels)


def test_listed_labels_of_a_wrong_dtype():
    labels = [[1, 2], [1.5], [2]]
    assert_raises(TypeError, "labels[1]", "float64", labels=labels, label_lengths=None)


@pytest.mark.parametrize(
    "labels",
    [
        np.ones((B + 1, 3), int),
        np.ones((B - 1, 3), int),
        np.ones((B, 1, 3), int),
        np.array(1),
        1,
        [[1], [2]],
        [[1], [2], [3], [4]],
        [[[1]], [[2]], [[3]]],
        [[1], 2, [3]],
    ],
    ids=str,
)
def test_labels_of_a_wrong_shape(labels):
    assert_raises(ValueError, "labels", labels=labels, label_lengths=None)


def test_concatenated_labels_need_lengths():
    labels = np.array([1, 2, 3])
    assert_raises(ValueError, "label_lengths", labels=labels, label_lengths=None)


@pytest.mark.parametrize("count", [5, 7])
def test_concatenated_labels_of_a_wrong_total(count):
    assert_raises(ValueError, "label_lengths", "6", count, labels=np.ones(count, int))


def test_labels_none():
    assert_raises(TypeError, "labels", labels=None)


# ---- lengths ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "longest", "valid"),
    [("logit_lengths", T, LENGTHS), ("label_lengths", 3, LABEL_LENGTHS)],
)
class TestLengths:
    @pytest.mark.parametrize("excess", [1, 100, 2**40])
    def test_too_long(self, name, longest, valid, excess):
        lengths = changed(valid, 2, longest + excess)
        assert_raises(ValueError, f"{name}[2]", longest + excess, longest, **{name: lengths})

    def test_negative(self, name, longest, valid):
        lengths = changed(valid, 1, -1)
        assert_raises(ValueError, f"{name}[1]", "-1", "0", longest, **{name: lengths})

    def test_first_is_named(self, name, longest, valid):
        lengths = changed(changed(valid, 1, 77), 2, -1)
        assert_raises(ValueError, f"{name}[1]", "77", **{name: lengths})

    def test_beyond_int64(self, name, longest, valid):
        lengths = changed(valid.astype(np.uint64), 1, 2**64 - 1)
        assert_raises(ValueError, f"{name}[1]", 2**64 - 1, **{name: lengths})

    @pytest.mark.parametrize("dtype", [float, bool, "U1", object])
    def test_dtype(self, name, longest, valid, dtype):
        lengths = valid.astype(dtype)
        assert_raises(TypeError, name, lengths.dtype, "integer", **{name: lengths})

    @pytest.mark.parametrize("shape", [(B + 1,), (B - 1,), (B, 1), (1,), ()])
    def test_shape(self, name, longest, valid, shape):
        lengths = np.ones(shape, int)
        assert_raises(ValueError, name, f"({B},)", **{name: lengths})


def test_label_length_beyond_a_listed_sequence():
    labels = [[1, 2], [3], [4]]
    assert_raises(ValueError, "label_lengths[1]", "2", "1", labels=labels, label_lengths=[2, 2, 1])


def test_concatenated_label_lengths_that_wrap():
    """Lengths whose sum overflows must not pass for the right total."""
    lengths = np.array([2**63 - 1, 2**63 - 1, 4], np.uint64)
    assert_raises(ValueError, "label_lengths[0]", 2**63 - 1, labels=[1, 2], label_lengths=lengths)


def test_single_sequence_takes_one_length():
    arguments = {"logits": SCORES[0], "labels": [1, 2], "label_lengths": None}
    assert_raises(ValueError, "logit_lengths", logit_lengths=[3, 3], **arguments)
    assert_raises(ValueError, "logit_lengths", "7", "0", "6", logit_lengths=7, **arguments)


# ---- scores -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (), (1, 2, 3, 4)])
def test_scores_of_a_wrong_rank(shape):
    assert_raises(ValueError, "logits", shape, logits=np.zeros(shape))


@pytest.mark.parametrize("shape", [(B, T, 0), (T, 0), (0, 0, 0)])
def test_no_classes(shape):
    assert_raises(ValueError, "logits", shape, "1", logits=np.zeros(shape))


@pytest.mark.parametrize("dtype", [int, complex, np.complex64, object, "U3", bool, "M8[s]"])
def test_scores_of_a_wrong_dtype(dtype):
    logits = np.ones((B, T, V), np.int64).astype(dtype)
    assert_raises(TypeError, "logits", logits.dtype, "float32", logits=logits)


def test_scores_none_and_ragged():
    assert_raises((TypeError, ValueError), "logits", logits=None)
    assert_raises(ValueError, "logits", logits=[[[0.0, 1.0]], [[0.0], [1.0]]])


def test_masked_array():
    """Its mask would be ignored."""
    assert_raises(TypeError, "logits", logits=np.ma.masked_array(SCORES, SCORES > 1))


# ---- options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("reduction", "average", "sequence_mean"),
        ("reduction", "batch_mean", "sequence_mean"),
        ("reduction", "per_sequence", "sequence_mean"),
        ("reduction", None, "sequence_mean"),
        ("input", "logit", "log_probs"),
        ("input", None, "log_probs"),
        ("input", 0, "log_probs"),
        ("infeasible", True, "raise"),
        ("infeasible", "ignore", "raise"),
        ("infeasible", ["inf"], "raise"),
    ],
    ids=str,
)
def test_unknown_option(name, value, allowed):
    assert_raises((ValueError, TypeError), name, "allowed", allowed, **{name: value})


@pytest.mark.parametrize("blank", [5, -6, 2**70])
def test_blank_out_of_range(blank):
    assert_raises(ValueError, "blank", blank, "-5", "4", blank=blank)


@pytest.mark.parametrize("blank", [0.0, "0", None, True, [0], np.float64(0)])
def test_blank_of_a_wrong_type(blank):
    assert_raises(TypeError, "blank", "integer", blank=blank)


@pytest.mark.parametrize("blank", [np.int8(-1), np.uint64(4), np.array(4)])
def test_blank_of_any_integer_type(blank):
    labels = [[1], [2], [3]]
    loss = fsl.ctc_loss(SCORES, labels, blank=blank)
    assert loss == fsl.ctc_loss(SCORES, labels, blank=4)


@pytest.mark.parametrize("reduction", ["none", "mean", "sequence_mean"])
def test_normalizer_needs_the_sum(reduction):
    assert_raises(ValueError, "normalizer", "sum", normalizer=2.0, reduction=reduction)


@pytest.mark.parametrize("normalizer", [0.0, -1.0, np.nan, np.inf])
def test_normalizer_out_of_range(normalizer):
    said = "normalizer", normalizer, "allowed"
    assert_raises(ValueError, *said, normalizer=normalizer, reduction="sum")


@pytest.mark.parametrize("normalizer", ["2", [1.0, 2.0], 1j])
def test_normalizer_of_a_wrong_type(normalizer):
    assert_raises(TypeError, "normalizer", normalizer=normalizer, reduction="sum")


@pytest.mark.parametrize("value", [np.nan, -0.5, -1e-300, np.inf, -np.inf])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "sequence_mean"])
def test_weight_out_of_range(value, reduction):
    weight = np.array([1.0, value, np.nan])
    said = "sample_weight[1]", value, "allowed"
    assert_raises(ValueError, *said, sample_weight=weight, reduction=reduction)


@pytest.mark.parametrize("shape", [(B + 1,), (B, 1), (1,), ()])
def test_weight_of_a_wrong_shape(shape):
    assert_raises(ValueError, "sample_weight", f"({B},)", sample_weight=np.ones(shape))


@pytest.mark.parametrize("dtype", [complex, "U1", object])
def test_weight_of_a_wrong_dtype(dtype):
    weight = np.ones(B, np.int64).astype(dtype)
    assert_raises(TypeError, "sample_weight", weight.dtype, sample_weight=weight)


@pytest.mark.parametrize("threads", [0, -1, -(2**70)])
def test_threads_out_of_range(threads):
    assert_raises(ValueError, "num_threads", threads, "1", num_threads=threads)


@pytest.mark.parametrize("threads", [1.0, "2", True, [1]])
def test_threads_of_a_wrong_type(threads):
    assert_raises(TypeError, "num_threads", "integer", num_threads=threads)


def test_no_threads_is_an_error_for_an_empty_batch_too():
    empty = {"logits": np.zeros((0, 3, 4)), "labels": [], "num_threads": 0}
    assert_raises(ValueError, "num_threads", logit_lengths=None, label_lengths=None, **empty)


# ---- grad_out -----------------------------------------------------------------------------


def rejected(kind, out, *said, scores=SCORES):
    """grad_out=out is refused, and neither it nor the scores change."""
    before = np.array(out, copy=True), scores.copy()
    pattern = ".*".join(["grad_out", *(re.escape(str(word)) for word in said)])
    with pytest.raises(kind, match=f"(?s){pattern}"):
        fsl.ctc_loss(scores, LABELS, LENGTHS, LABEL_LENGTHS, grad_out=out)
    np.testing.assert_array_equal(out, before[0])
    np.testing.assert_array_equal(scores, before[1])


@pytest.mark.parametrize("shape", [(B, T, V + 1), (B, T), (T, B, V), (B * T, V), (1, B, T, V)])
def test_grad_out_of_a_wrong_shape(shape):
    rejected(ValueError, np.zeros(shape), shape, SCORES.shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, complex, ">f8"])
def test_grad_out_of_a_wrong_dtype(dtype):
    rejected(TypeError, np.zeros(SCORES.shape, dtype), np.dtype(dtype), "float64")


def test_grad_out_read_only():
    out = np.zeros(SCORES.shape)
    out.flags.writeable = False
    rejected(ValueError, out, "read-only")


def test_grad_out_not_an_array():
    rejected(TypeError, SCORES.tolist(), "list")


def test_read_only_scores_as_grad_out():
    scores = SCORES.copy()
    scores.flags.writeable = False
    rejected(ValueError, scores, "read-only", scores=scores)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grad_out_whose_elements_share_memory(axis):
    narrow = np.zeros([1 if i == axis else n for i, n in enumerate(SCORES.shape)])
    strides = [0 if i == axis else s for i, s in enumerate(narrow.strides)]
    rejected(ValueError, np.lib.stride_tricks.as_strided(narrow, SCORES.shape, strides))


def test_grad_out_of_overlapping_windows():
    windows = np.lib.stride_tricks.sliding_window_view(np.zeros(V + T - 1), V, writeable=True)
    out = np.lib.stride_tricks.as_strided(np.zeros((B, V + T)), SCORES.shape, (88, 8, 8))
    assert windows.shape == (T, V)
    rejected(ValueError, out)


@pytest.mark.parametrize("shift", [1, V, T * V])
def test_grad_out_that_overlaps_the_scores(shift):
    room = np.random.default_rng(0).normal(size=SCORES.size + shift)
    scores, out = room[: SCORES.size].reshape(SCORES.shape), room[shift:].reshape(SCORES.shape)
    rejected(ValueError, out, "overlap", scores=scores)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::-1],
        lambda x: x[:, ::-1],
        lambda x: x[:, :, ::-1],
        lambda x: x.swapaxes(0, 1),
        lambda x: x.transpose(2, 1, 0),
    ],
)
def test_grad_out_is_another_view_of_the_scores(view):
    scores = np.random.default_rng(0).normal(size=(4, 4, 4))
    before = scores.copy()
    with pytest.raises(ValueError, match=r"grad_out.*overlap"):
        fsl.ctc_loss(scores, [[1]] * 4, grad_out=view(scores))
    np.testing.assert_array_equal(scores, before)


def test_grad_out_interleaved_with_the_scores():
    """They share a buffer but no element: allowed."""
    room = np.random.default_rng(0).normal(size=(B, T, 2 * V))
    expected = fsl.ctc_loss(room[..., :V].copy(), LABELS, LENGTHS, LABEL_LENGTHS, return_grad=True)
    out = room[..., V:]
    loss, _ = fsl.ctc_loss(room[..., :V], LABELS, LENGTHS, LABEL_LENGTHS, grad_out=out)
    assert loss == expected[0]
    np.testing.assert_array_equal(out, expected[1])


@pytest.mark.parametrize("name", ["labels", "logit_lengths", "sample_weight"])
def test_grad_out_over_another_argument(name):
    """The gradient must not overwrite an argument that is still to be read."""
    room = np.zeros(SCORES.size)
    out = room.reshape(SCORES.shape)
    arguments = dict(VALID, sample_weight=np.ones(B), return_grad=True)
    expected = fsl.ctc_loss(**arguments)
    given = np.asarray(arguments[name])
    view = room.view(given.dtype)[: given.size].reshape(given.shape)
    view[...] = given
    loss, gradient = fsl.ctc_loss(**arguments | {name: view}, grad_out=out)
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])


# ---- ctc_feasible -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said", "arguments"),
    [
        (TypeError, "labels", ([[1.0, 2.0]], [3])),
        (TypeError, "logit_lengths", ([[1, 2]], [3.0])),
        (TypeError, "label_lengths", ([[1, 2]], [3], [1.0])),
        (ValueError, "logit_lengths[0] is -1", ([[1, 2]], [-1])),
        (ValueError, "label_lengths[0] is 3", ([[1, 2]], [3], [3])),
        (ValueError, "label_lengths[0] is -1", ([[1, 2]], [3], [-1])),
        (ValueError, "labels", ([[1, 2]], [3, 4])),
        (ValueError, "label_lengths", ([[1, 2]], [3], [1, 2])),
        (ValueError, "logit_lengths", ([[1, 2]], [[3]])),
    ],
)
def test_ctc_feasible(kind, said, arguments):
    with pytest.raises(kind, match=re.escape(said)):
        fsl.ctc_feasible(*arguments)


@pytest.mark.parametrize(
    ("kind", "said", "arguments"),
    [
        (ValueError, "logit_lengths is -1; allowed: 0 to", ([1, 2], -1)),
        (ValueError, "label_lengths is 3; allowed: 0 to 2", ([1, 2], 3, 3)),
        (ValueError, "labels[1] is -1; allowed: 0 to 9223372036854775806; if it is padding, pass", ([1, -1], 3)),
        (ValueError, "labels has 2 sequences; allowed: 1", ([[1], [2]], 3)),
        (ValueError, "label_lengths has shape (2,)", ([1, 2], 3, [1, 1])),
        (TypeError, "logit_lengths has dtype float64", ([1, 2], 3.0)),
        (ValueError, "label_lengths is None; labels in one dimension need label_lengths", ([1, 2], [3])),
    ],
)
def test_ctc_feasible_of_one_sequence(kind, said, arguments):
    with pytest.raises(kind, match=re.escape(said)):
        fsl.ctc_feasible(*arguments)
