"""Arrays are read once, and messages show what was read; missing entries, masks, columns of sequences."""

import re

import numpy as np
import pytest

import fastseqloss as fsl
from every_loss import CLASSES, X
from fastseqloss import recurrent
from public_calls import flat, public_arguments


class Once:
    """An array that can be read once, and has other things under its positions."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        array, self.array = self.array, None
        assert array is not None, "read again"
        return array

    def __getitem__(self, position):
        raise KeyError(position)

    def __len__(self):
        return 3


def once(value):
    return Once(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", sorted(public_arguments()))
def test_arrays_are_read_once(name):
    given = public_arguments()[name]
    keywords = given[-1] if isinstance(given[-1], dict) else {}
    positional = given[: len(given) - bool(keywords)]
    run = getattr(fsl, name)
    expected = flat(run(*positional, **keywords))
    for found, wanted in zip(flat(run(*map(once, positional), **keywords)), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


BAD_TAGS = np.array([[0, 1, 0], [2, 9, 3]])
WRONG = {
    "labels[1][1] is 9": [
        lambda f: f(X, [Once(np.array([1, 2])), Once(np.array([1, 9, 3]))]),
        lambda f: f(X, Once(column([1, 2], [1, 9, 3]))),
        lambda f: f(X, (np.array([1, 2]), Once(np.array([1, 9])))),
    ],
    "labels[1, 1] is 9": [lambda f: f(X, Once(np.array([[1, 2], [3, 9]])))],
    "labels[2] (sequence 1, position 0) is 9": [
        lambda f: f(X, Once(np.array([1, 2, 9])), None, Once(np.array([2, 1])))
    ],
    "logit_lengths[1] is 9": [lambda f: f(X, [[1], [2]], Once(np.array([1, 9])))],
    "label_lengths[1] is 9": [lambda f: f(X, [[1], [2]], None, Once(np.array([1, 9])))],
}


def column(*rows):
    """An array of lists, as a table has them."""
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


@pytest.mark.parametrize(("said", "call"), [(said, call) for said, calls in WRONG.items() for call in calls])
@pytest.mark.parametrize("function", [fsl.ctc_loss, fsl.ctc_align, fsl.ctc_posteriors, fsl.ctc_confidences])
def test_messages_of_labels_say_what_was_read(function, said, call):
    with pytest.raises(ValueError, match=re.escape(said)):
        call(function)


@pytest.mark.parametrize(
    ("said", "call"),
    [
        ("tags[1, 1] is 9", lambda: fsl.crf_loss(X, Once(BAD_TAGS), np.zeros((4, 4)))),
        ("tags[1, 1] is 9", lambda: fsl.structured_hinge_loss(X, Once(BAD_TAGS), np.zeros((4, 4)))),
        ("targets[1, 1] is 9", lambda: fsl.softmax_cross_entropy(X, Once(BAD_TAGS))),
        ("targets[1, 1] is 9", lambda: fsl.nll_loss(X, Once(BAD_TAGS))),
        ("targets[1, 1] is 9", lambda: fsl.sequence_log_prob(X, Once(BAD_TAGS))),
        ("slopes[1] is inf", lambda: fsl.sequence_log_prob(X, CLASSES, slopes=Once(np.array([1, np.inf])))),
        ("targets[1, 1] is 9", lambda: fsl.multiclass_hinge_loss(X, Once(BAD_TAGS))),
        ("targets[0, 1] is 9", lambda: fsl.hinge_loss(X[0], Once(np.array([[1, 9, 1, 1]] * 3)))),
        ("targets[0, 1] is 9", lambda: fsl.binary_cross_entropy(X[0], Once(np.array([[1, 9.0, 1, 1]] * 3)))),
        ("actions[1, 1] is 9", lambda: fsl.policy_gradient_loss(X, Once(BAD_TAGS), np.ones(2))),
        ("advantages[1] is inf", lambda: fsl.policy_gradient_loss(X, CLASSES, Once(np.array([1, np.inf])))),
        ("rewards[1] is nan", lambda: fsl.discounted_returns(Once(np.array([1, np.nan])))),
        ("done[1] is 2", lambda: fsl.discounted_returns(np.ones(2), done=Once(np.array([0, 2])))),
        ("mask[0, 1] is 3", lambda: fsl.mse_loss(X, X, mask=Once(np.array([[1, 3, 1], [1, 1, 1]])))),
        ("lengths[1] is 9", lambda: fsl.mse_loss(X, X, Once(np.array([1, 9])))),
        ("sample_weight[1] is -9", lambda: fsl.mse_loss(X, X, sample_weight=Once(np.array([1, -9])))),
        ("class_weight[1] is -9", lambda: fsl.nll_loss(X, CLASSES, class_weight=Once(np.array([1.0, -9, 1, 1])))),
        ("q[1] is 9", lambda: fsl.quantile_loss(X, X, q=Once(np.array([0.5, 9, 0.5, 0.5])))),
        (
            "clip[1] is -9",
            lambda: fsl.clipped_policy_loss(X, CLASSES, X[..., 0], np.ones(2), clip=Once(np.array([0.1, -9]))),
        ),
        ("alignment[1] is -9", lambda: fsl.ctc_collapse(Once(np.array([1, -9])))),
        ("alignments[1][1] is 9", lambda: fsl.ctc_alignment_log_prob(X[0], Once(np.array([[1, 2], [1, 9]])))),
        ("tokens[1, 1] is 9", lambda: recurrent.Embedding(4, 2).forward(Once(BAD_TAGS))),
    ],
)
def test_messages_say_what_was_read(said, call):
    with pytest.raises(ValueError, match=re.escape(said)):
        call()


class Missing:
    """As a table has it."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


Missing.__name__ = "NAType"


AXES = r"(, |\]\[)"  # of an array, or of a list of sequences


@pytest.mark.parametrize("missing", [None, np.nan, Missing(), np.datetime64("NaT", "ns")])
@pytest.mark.parametrize(
    ("where", "instead", "call"),
    [
        ("labels[1, 1]", "pass label_lengths", lambda rows: fsl.ctc_loss(X, rows)),
        ("labels[1, 1]", "pass label_lengths", lambda rows: fsl.ctc_feasible(rows, [3, 3])),
        ("labels[1][1]", "pass label_lengths", lambda rows: fsl.ctc_loss(X, [[1, 2], rows[1]])),
        ("targets[1, 1]", "lengths or mask", lambda rows: fsl.nll_loss(X[:, :2], rows)),
        ("targets[1, 1]", "lengths or mask", lambda rows: fsl.softmax_cross_entropy(X[:, :2], rows)),
        ("targets[1, 1]", "lengths or mask", lambda rows: fsl.sequence_log_prob(X[:, :2], rows)),
        ("tags[1, 1]", "lengths or mask", lambda rows: fsl.crf_loss(X[:, :2], rows, np.zeros((4, 4)))),
        ("actions[1, 1]", "lengths or mask", lambda rows: fsl.policy_gradient_loss(X[:, :2], rows, [1.0, 1.0])),
        ("lengths[1]", "fill it", lambda rows: fsl.mse_loss(X, X, rows[1])),
        ("mask[1, 1]", "fill it", lambda rows: fsl.mse_loss(X[:, :2], X[:, :2], mask=rows)),
        ("tokens[1, 1]", "fill it", lambda rows: recurrent.Embedding(4, 2).forward(rows)),
    ],
)
def test_missing_entries(missing, where, instead, call):
    rows = np.array([[1, 2], [3, missing]], object)
    versions = [rows, rows.tolist()]
    if isinstance(missing, float):
        versions.append(rows.astype(float))
    for version in versions:
        position = re.escape(where).replace(r",\ ", AXES)
        said = f"{position} is .*, a missing entry: .*{instead}"
        with pytest.raises((TypeError, ValueError), match=said):
            call(version)


def test_a_missing_sequence():
    for labels in ([[1], None], column([1], None), [[1], np.nan]):
        with pytest.raises(TypeError, match=r"labels\[1\] is .*, a missing entry: an empty list stands for no labels"):
            fsl.ctc_loss(X, labels)


def test_columns_of_sequences():
    expected = fsl.ctc_loss(X, [[1, 2], [3]])
    assert fsl.ctc_loss(X, column([1, 2], [3])) == expected
    assert fsl.ctc_loss(X, column(np.array([1, 2]), (3,))) == expected
    assert fsl.ctc_loss(X, Once(column([1, 2], [3]))) == expected
    assert fsl.ctc_loss(X, column([1, 2], [3, 3]), None, [2, 1]) == expected
    assert fsl.ctc_feasible(column([1, 1], [3]), [2, 2]).tolist() == [False, True]
    with pytest.raises(TypeError, match=r"targets\[0\] is a list, so this is a column of sequences"):
        fsl.nll_loss(X, column([1, 2, 3], [1, 2, 3]))
    with pytest.raises(ValueError, match=r"targets is not an array: .*; pad its rows to one length"):
        fsl.nll_loss(X, [[1, 2, 3], [1]])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (([1] for _ in range(2)), r"labels is a generator, .*, as list\(labels\)"),
        ({"a": [1], "b": [2]}, r"labels is a dict, .*, as list\(labels.values\(\)\)"),
        ({"a": [1], "b": [2]}.values(), r"labels is a dict_values, .*, as list\(labels\)"),
        ({1, 2}, r"labels is a set, .*, as list\(labels\)"),
    ],
)
def test_collections_that_are_no_arrays(labels, said):
    with pytest.raises(TypeError, match=said):
        fsl.ctc_loss(X, labels)


@pytest.mark.parametrize(
    ("labels", "where"),
    [
        ([[1, 2, 3], [1, -1, -1]], "labels[1][1] is -1"),
        ([[1, 2, 3], [1, 0, 0]], "labels[1][1] is 0"),
        (np.array([[1, 2, 3], [1, 2, -100]]), "labels[1, 2] is -100"),
        (np.array([[1, 2, 0], [1, 2, 3]]), "labels[0, 2] is 0"),
    ],
)
def test_padded_labels_without_lengths(labels, where):
    with pytest.raises(ValueError, match=re.escape(where) + ".*; if it is padding, pass label_lengths"):
        fsl.ctc_loss(X, labels)
    with pytest.raises(ValueError, match=r"labels\[0\]\[1\] is 9; .*blank$"):
        fsl.ctc_loss(X, [[1, 9], [2]])


def test_padded_targets_without_lengths():
    for call in (fsl.nll_loss, fsl.softmax_cross_entropy):
        with pytest.raises(ValueError, match=r"targets\[0, 2\] is -1; .*if it is padding, pass .* ignore_index=-1"):
            call(X, [[1, 2, -1], [1, 2, 3]])
    with pytest.raises(ValueError, match=r"tags\[0, 2\] is -1; .*if it is padding, pass lengths or mask"):
        fsl.crf_loss(X, [[1, 2, -1], [1, 2, 3]], np.zeros((4, 4)))


class Covered:
    """An object that returns a masked array, as files in NetCDF do."""

    def __array__(self, dtype=None, copy=None):
        return np.ma.MaskedArray([[1, 2, 3], [1, 2, 3]], [[0, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize(
    "value",
    [
        np.ma.MaskedArray([[1, 2, 3], [1, 2, 3]], [[0, 0, 1], [0, 0, 1]]),
        [np.ma.MaskedArray([1, 2, 3], [0, 0, 1]), [1, 2, 3]],
        ([1, 2, 3], [1, 2, np.ma.masked]),
        [np.array([1, 2, 3]), (1, np.ma.MaskedArray(2), 3)],
        Covered(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_mask_is_read_through(value):
    calls = [
        lambda: fsl.ctc_loss(X, value),
        lambda: fsl.ctc_feasible(value, [3, 3]),
        lambda: fsl.nll_loss(X, value),
        lambda: fsl.softmax_cross_entropy(X, value),
        lambda: fsl.mse_loss(X[..., 0], value),
        lambda: fsl.mse_loss(X[..., 0], X[..., 0], mask=value),
        lambda: fsl.crf_loss(X, value, np.zeros((4, 4))),
        lambda: fsl.policy_gradient_loss(X, value, [1.0, 1.0]),
        lambda: fsl.discounted_returns(value),
        lambda: fsl.ctc_alignment_log_prob(X[0], value),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"is a masked array, or holds one"):
            call()
