"""Invalid arguments raise an exception with the position, the value and the allowed values; nothing is written."""

import re

import numpy as np
import pytest

import fastseqloss as fsl

B, T, U, V, R = 3, 6, 3, 5, 2
SCORES = np.random.default_rng(0).normal(size=(B, T, U + 1, V))
LABELS = np.array([[1, 2, 3], [4, 4, 0], [2, 0, 0]])
VALID = {
    "logits": SCORES,
    "labels": LABELS,
    "logit_lengths": np.array([6, 5, 4]),
    "label_lengths": np.array([3, 2, 1]),
}
RANGES = np.array([[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 9], [0, 0, 0, 0, 9, 9]])
FUNCTIONS = [fsl.rnnt_loss, fsl.rnnt_posteriors, fsl.rnnt_align]


def changed(array, position, value):
    array = array.copy()
    array[position] = value
    return array


def assert_raises(kind, *said, functions=FUNCTIONS, **wrong):
    """Every function raises `kind` with all of `said` in that order; the loss leaves its output alone."""
    arguments = VALID | wrong
    pattern = "(?s)" + ".*".join(re.escape(str(word)) for word in said)
    logits = arguments["logits"]
    for function in functions:
        with pytest.raises(kind, match=pattern):
            function(**arguments)
    if isinstance(logits, np.ndarray) and logits.dtype == np.float64:
        out = np.full(logits.shape, 7.0)
        with pytest.raises(kind, match=pattern):
            fsl.rnnt_loss(**arguments, grad_out=out)
        assert np.all(out == 7)


def test_valid_calls():
    assert np.isfinite(fsl.rnnt_loss(**VALID))
    assert np.isfinite(fsl.rnnt_loss(**VALID | {"logits": SCORES[:, :, :R], "ranges": RANGES}))


# ---- labels and columns -------------------------------------------------------------------


@pytest.mark.parametrize("value", [5, -1, 2**40, 0])
def test_label_out_of_range_or_blank(value):
    labels = changed(LABELS, (1, 1), value)
    assert_raises(ValueError, "labels[1, 1]", value, "allowed", "0", "4", "0", labels=labels)


def test_labels_of_a_wrong_form():
    assert_raises(TypeError, "labels", "float64", "integer", labels=LABELS.astype(float))
    assert_raises(ValueError, "labels", (B + 1, U), labels=np.ones((B + 1, U), int))
    assert_raises(ValueError, "label_lengths", "None", labels=np.ones(6, int), label_lengths=None)
    assert_raises(ValueError, "labels[1][0]", "9", labels=[[1], [9], [2]], label_lengths=None)


@pytest.mark.parametrize("labels", [LABELS, LABELS.tolist(), np.concatenate([LABELS[0], [4, 4, 2]])], ids=repr)
def test_columns_for_u_instead_of_one_more(labels):
    """The usual mistake: U where U+1 is meant."""
    said = "logits", (B, T, U, V), "3 on axis 2, U+1", "allowed: 4", "U = 3", "from 0 to U"
    wrong = {"logits": SCORES[:, :, :U], "labels": labels}
    assert_raises(ValueError, *said, **wrong)


def test_columns_of_a_single_sequence():
    one = {"labels": [1, 2, 3], "logit_lengths": None, "label_lengths": None}
    assert_raises(ValueError, "logits", (T, U, V), "3 on axis 1, U+1", "allowed: 4", logits=SCORES[0, :, :U], **one)
    one["labels"] = [1, 2]
    assert_raises(ValueError, "4 on axis 1", "allowed: 3", "pass label_lengths", logits=SCORES[0], **one)


def test_more_columns_than_padded_labels():
    wrong = {"labels": LABELS[:, :2] + 1, "label_lengths": None, "blank": -1}
    wrong["labels"][0] = 1
    wrong["labels"] = np.minimum(wrong["labels"], 3)
    assert_raises(ValueError, "logits", (B, T, 4, V), "allowed: 3", "U = 2", "pass label_lengths", **wrong)


def test_columns_beyond_the_labels_are_padding():
    """With lengths of their own, or in a list, labels may be shorter than the lattice is wide."""
    expected = fsl.rnnt_loss(SCORES[:, :, :3], [[1, 2], [4], [2]])
    assert fsl.rnnt_loss(SCORES, [[1, 2], [4], [2]]) == expected
    assert fsl.rnnt_loss(SCORES, LABELS, label_lengths=[2, 1, 1]) == expected


# ---- lengths, scores ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "longest"), [("logit_lengths", T), ("label_lengths", U)])
def test_lengths(name, longest):
    valid = VALID[name]
    assert_raises(ValueError, f"{name}[2]", longest + 1, longest, **{name: changed(valid, 2, longest + 1)})
    assert_raises(ValueError, f"{name}[1]", "-1", "0", longest, **{name: changed(valid, 1, -1)})
    assert_raises(TypeError, name, "float64", "integer", **{name: valid.astype(float)})
    assert_raises(ValueError, name, f"({B},)", **{name: valid[:2]})


@pytest.mark.parametrize("shape", [(5,), (), (4, 5), (1, 2, 3, 4, 5)])
def test_scores_of_a_wrong_rank(shape):
    assert_raises(ValueError, "logits", shape, "[B, T, U+1, V]", "[T, U+1, V]", logits=np.zeros(shape))


def test_scores_of_a_wrong_form():
    assert_raises(ValueError, "logits", "no classes", logits=np.zeros((B, T, U + 1, 0)))
    assert_raises(ValueError, "logits", "0 on axis 2", "4", logits=np.zeros((B, T, 0, V)))
    for dtype in (int, complex, object, bool):
        assert_raises(TypeError, "logits", np.dtype(dtype), "float32", logits=np.ones(SCORES.shape).astype(dtype))
    assert_raises(TypeError, "logits", logits=np.ma.masked_array(SCORES, SCORES > 1))


# ---- options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("input", "logit", "log_probs"),
        ("blank_model", "sigmoid", "hat"),
        ("blank_model", None, "hat"),
        ("topology", "one", "modified"),
        ("topology", 1, "modified"),
        ("infeasible", "ignore", "raise"),
        ("blank", V, "4"),
    ],
)
def test_unknown_option(name, value, allowed):
    assert_raises(ValueError, name, "allowed", allowed, **{name: value})


def test_options_of_the_loss_alone():
    only = {"functions": [fsl.rnnt_loss]}
    assert_raises(ValueError, "reduction", "allowed", "sequence_mean", reduction="batch_mean", **only)
    assert_raises(ValueError, "normalizer", "sum", normalizer=2.0, **only)
    for value in (-0.1, np.nan, np.inf):
        assert_raises(ValueError, "fastemit", value, "0 or more", fastemit=value, **only)
    for value in ("1", True, [0.5]):
        assert_raises(TypeError, "fastemit", "number", fastemit=value, **only)
    assert_raises(ValueError, "sample_weight[1]", "-1", sample_weight=[1.0, -1.0, 1.0], **only)


@pytest.mark.parametrize("kind", ["log_probs", "probs"])
def test_a_model_of_logits_for_probabilities(kind):
    assert_raises(ValueError, "blank_model", "hat", "logits", kind, blank_model="hat", input=kind)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_out_of_range(threads):
    assert_raises(ValueError, "num_threads", threads, "1", num_threads=threads)


# ---- ranges -------------------------------------------------------------------------------


def ranged(*said, kind=ValueError, **wrong):
    assert_raises(kind, *said, **{"logits": SCORES[:, :, :R], "ranges": RANGES} | wrong)


def test_ranges_out_of_range():
    ranged("ranges[0, 0]", "1", "allowed: 0", "first frame", ranges=changed(RANGES, (0, 0), 1))
    ranged("ranges[1, 3]", "2", "allowed: 0 to 1", "R - 1", ranges=changed(RANGES, (1, 3), 2))
    ranged("ranges[0, 4]", "0", "allowed: 1 to 2", "R - 1", ranges=changed(RANGES, (0, 4), 0))
    ranged("ranges[0, 5]", "3", "allowed: 2", "last frame", "U = 3", ranges=changed(RANGES, (0, 5), 3))
    ranged("ranges[2, 3]", "1", "allowed: 0", "last frame", "U = 1", ranges=changed(RANGES, (2, 3), 1))
    ranged("ranges[0, 2]", "-1", "allowed: 0 to 1", ranges=changed(RANGES, (0, 2), -1))
    big = RANGES.astype(np.uint64)
    big[0, 2] = 2**64 - 1
    ranged("ranges[0, 2]", 2**64 - 1, ranges=big)


def test_ranges_of_a_wrong_form():
    ranged("ranges", "shape", (B, T - 1), (B, T), ranges=RANGES[:, 1:])
    ranged("ranges", "float64", "integer", kind=TypeError, ranges=RANGES.astype(float))
    one = {"labels": [1, 2], "logit_lengths": None, "label_lengths": None}
    ranged("ranges", (1, T), (T,), logits=SCORES[0, :, :R], ranges=np.zeros((1, T), int), **one)
    ranged("ranges[5]", "0", "allowed: 1", logits=SCORES[0, :, :R], ranges=np.zeros(T, int), **one)
    ranged("logits", "no columns", logits=SCORES[:, :, :0])
    ranged("logits", "[B, T, R, V]", logits=SCORES[0, 0])


def test_one_frame_that_no_range_fits():
    one = {"labels": [1, 2, 3], "logit_lengths": None, "label_lengths": None}
    ranged("ranges[0]", "0", "allowed: 2", "last frame", logits=SCORES[0, :1, :R], ranges=[0], **one)
    ranged("ranges[0]", "2", "allowed: 0", "first frame", logits=SCORES[0, :1, :R], ranges=[2], **one)


# ---- infeasible ---------------------------------------------------------------------------


def test_infeasible_sequences_are_named():
    wrong = {"infeasible": "raise"}
    assert_raises(ValueError, "logit_lengths[1]", "0", "1 or more", "1, 2", logit_lengths=[6, 0, 0], **wrong)
    said = "logit_lengths[0]", "2", "3 or more", "3 labels", "0, 2"
    assert_raises(ValueError, *said, topology="modified", logit_lengths=[2, 2, 0], **wrong)
    assert np.isfinite(fsl.rnnt_loss(**VALID | {"logit_lengths": [1, 1, 1]}, **wrong))


# ---- grad_out -----------------------------------------------------------------------------


def rejected(kind, out, *said, scores=SCORES):
    before = np.array(out, copy=True), scores.copy()
    pattern = "(?s)" + ".*".join(["grad_out", *(re.escape(str(word)) for word in said)])
    with pytest.raises(kind, match=pattern):
        fsl.rnnt_loss(**VALID | {"logits": scores}, grad_out=out)
    np.testing.assert_array_equal(out, before[0])
    np.testing.assert_array_equal(scores, before[1])


def test_grad_out_of_a_wrong_form():
    rejected(ValueError, np.zeros((B, T, U, V)), (B, T, U, V), SCORES.shape)
    rejected(TypeError, np.zeros(SCORES.shape, np.float32), "float32", "float64")
    rejected(TypeError, SCORES.tolist(), "list")
    out = np.zeros(SCORES.shape)
    out.flags.writeable = False
    rejected(ValueError, out, "read-only")


@pytest.mark.parametrize("axis", range(4))
def test_grad_out_whose_elements_share_memory(axis):
    narrow = np.zeros([1 if i == axis else n for i, n in enumerate(SCORES.shape)])
    strides = [0 if i == axis else s for i, s in enumerate(narrow.strides)]
    rejected(ValueError, np.lib.stride_tricks.as_strided(narrow, SCORES.shape, strides))


@pytest.mark.parametrize("shift", [1, V, (U + 1) * V])
def test_grad_out_that_overlaps_the_scores(shift):
    room = np.random.default_rng(0).normal(size=SCORES.size + shift)
    scores, out = room[: SCORES.size].reshape(SCORES.shape), room[shift:].reshape(SCORES.shape)
    rejected(ValueError, out, "overlap", scores=scores)


@pytest.mark.parametrize("name", ["labels", "logit_lengths", "sample_weight", "ranges"])
def test_grad_out_over_another_argument(name):
    """The gradient must not overwrite an argument that is still to be read."""
    room = np.zeros(SCORES[:, :, :R].size)
    out = room.reshape(B, T, R, V)
    arguments = VALID | {"logits": SCORES[:, :, :R], "ranges": RANGES, "sample_weight": np.ones(B)}
    expected = fsl.rnnt_loss(**arguments, return_grad=True)
    given = np.asarray(arguments[name])
    view = room.view(given.dtype)[: given.size].reshape(given.shape)
    view[...] = given
    loss, gradient = fsl.rnnt_loss(**arguments | {name: view}, grad_out=out)
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
