"""What every public function makes of arguments that are hardly arguments: nothing but what its docstring says."""

import re
from decimal import Decimal
from fractions import Fraction
from functools import partial

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl
from cases import JUNK
from fastseqloss import recurrent
from public_calls import flat, public_arguments
from step_cases import Capsule, Foreign

X = np.zeros((2, 3, 4))
CLASSES = np.ones((2, 3), np.int64)
TAGS = np.array([[0, 1, 0], [2, 2, 3]])
LOSSES = {
    "softmax_cross_entropy": partial(fsl.softmax_cross_entropy, X, CLASSES),
    "mse_loss": partial(fsl.mse_loss, X, X + 1),
    "ctc_loss": partial(fsl.ctc_loss, X, [[1], [2]]),
    "crf_loss": partial(fsl.crf_loss, X, TAGS, np.zeros((4, 4))),
    "structured_hinge_loss": partial(fsl.structured_hinge_loss, X, TAGS, np.zeros((4, 4))),
    "policy_gradient_loss": partial(fsl.policy_gradient_loss, X, CLASSES, np.ones(2)),
    "expected_risk_loss": partial(fsl.expected_risk_loss, X[0], np.ones((3, 4))),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
RECURSIVE: list = [1]
RECURSIVE.append(RECURSIVE)


# ---- options ----------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("value", [1, 0, None, "yes", np.array([True, False]), np.array([]), [True]])
def test_return_grad_is_a_bool(loss, value):
    with pytest.raises(TypeError, match="return_grad must be a bool, got"):
        loss(return_grad=value)


@every_loss
def test_return_grad_of_numpy(loss):
    assert isinstance(loss(return_grad=np.bool_(True)), tuple)
    assert not isinstance(loss(return_grad=np.bool_(False)), tuple)


@every_loss
@pytest.mark.parametrize("value", [np.array(["mean", "sum"]), np.array([]), ["mean"], {"mean"}, None, b"mean", 1j])
def test_reduction_that_is_no_string(loss, value):
    with pytest.raises(ValueError, match=r"^reduction is .*; allowed: 'none'"):
        loss(reduction=value)


def test_reduction_of_numpy():
    assert LOSSES["mse_loss"](reduction=np.str_("sum")) == LOSSES["mse_loss"](reduction="sum")


@pytest.mark.parametrize("value", [np.array(["logits", "probs"]), np.array([]), ["logits"], {}, None])
def test_input_that_is_no_string(value):
    with pytest.raises(ValueError, match=r"^input is "):
        LOSSES["ctc_loss"](input=value)


@every_loss
@pytest.mark.parametrize("value", [10**400, Fraction(10**400)])
def test_normalizer_beyond_floats(loss, value):
    with pytest.raises(ValueError, match="normalizer is beyond all floats; allowed: finite and above 0"):
        loss(reduction="sum", normalizer=value)


@every_loss
@pytest.mark.parametrize("value", [5e-324, 1e-310, np.longdouble("1e-4000")])
def test_normalizer_without_a_reciprocal(loss, value):
    """A loss of 0 divided by it would be 0, but 0 times its reciprocal is NaN."""
    with pytest.raises(ValueError, match="normalizer is "):
        loss(reduction="sum", normalizer=value)


@pytest.mark.parametrize("value", [10**400, -(10**400), Fraction(10**400), pytest.param(10**5000, id="5001 digits")])
def test_numbers_beyond_floats(value):
    with pytest.raises(ValueError, match="margin is beyond all floats"):
        fsl.hinge_loss([1.0], [1], margin=value)
    with pytest.raises(ValueError, match=r"clip\[0\] is beyond all floats"):
        fsl.clipped_policy_loss(X, CLASSES, np.zeros((2, 3)), np.ones(2), clip=value)


def test_integers_that_python_does_not_print():
    with pytest.raises(ValueError, match="blank is an integer of 16610 bits"):
        fsl.ctc_loss(X, [[1], [2]], blank=10**5000)


@pytest.mark.parametrize("value", [1, "yes", None, np.array([True, False])])
def test_pairwise_is_a_bool(value):
    with pytest.raises(TypeError, match="pairwise must be a bool"):
        fsl.crf_marginals(X, np.zeros((4, 4)), pairwise=value)


@pytest.mark.parametrize("value", [[[0.1], [0.2, 1]], [1, [2]]])
def test_ragged_bounds(value):
    with pytest.raises(ValueError, match="clip is not an array"):
        fsl.clipped_policy_loss(X, CLASSES, np.zeros((2, 3)), np.ones(2), clip=value)


# ---- arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [[[1], [2, 3]], RECURSIVE])
def test_ragged_arrays(value):
    with pytest.raises(ValueError, match="final_values is not an array"):
        fsl.discounted_returns(np.zeros((2, 3)), final_values=value)
    with pytest.raises(ValueError, match="q is not an array"):
        fsl.quantile_loss(X, X, q=value)
    with pytest.raises(ValueError, match="pos_weight is not an array"):
        fsl.binary_cross_entropy(X, X, pos_weight=value)


def test_ragged_labels():
    with pytest.raises(ValueError, match=r"labels\[0\] is not an array"):
        fsl.ctc_loss(X, [[[1], [2, 3]], [1]])


def test_parameters_of_another_library():
    """What shows itself through DLPack alone has no `ndim`."""
    q = np.array([0.1, 0.2, 0.5, 0.9])
    assert fsl.quantile_loss(X, X + 1, q=Capsule(q)) == fsl.quantile_loss(X, X + 1, q=q)
    final = np.array([1.0, 2.0])
    expected = fsl.discounted_returns(np.zeros((2, 3)), final_values=final)
    np.testing.assert_array_equal(fsl.discounted_returns(np.zeros((2, 3)), final_values=Capsule(final)), expected)
    old, gain = np.zeros((2, 3)), np.ones(2)
    expected = fsl.clipped_policy_loss(X, CLASSES, old, gain, clip=(0.1, 0.3))
    assert fsl.clipped_policy_loss(X, CLASSES, old, gain, clip=Capsule(np.array([0.1, 0.3]))) == expected


@pytest.mark.parametrize("dtype", [complex, "U1", "M8[s]", object, [("a", "i4")]])
def test_nothing_of_any_dtype(dtype):
    """An empty array says nothing of what it would hold; nor does a complex one warn."""
    assert fsl.ctc_collapse(np.zeros(0, dtype)).shape == (0,)
    assert fsl.softmax_cross_entropy(np.zeros((0, 3, 4)), np.zeros((0, 3), dtype)) == 0


def test_numbers_beyond_float64():
    with pytest.raises(ValueError, match=r"sample_weight\[1\] is inf"):
        LOSSES["mse_loss"](sample_weight=np.array(["1", "1e4000"], np.longdouble))
    with pytest.raises(ValueError, match=r"advantages\[0\] is inf"):
        fsl.policy_gradient_loss(X, CLASSES, np.array(["1e4000", "1"], np.longdouble))
    assert fsl.mse_loss([0.0], np.array(["1e4000"], np.longdouble)) == np.inf


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_nan_that_signals(dtype):
    bits = {np.float16: np.uint16(0x7D01), np.float32: np.uint32(0x7FA00001)}[dtype]
    signalling = np.array([bits, bits]).view(dtype)
    with pytest.raises(ValueError, match=r"sample_weight\[0\] is nan"):
        LOSSES["mse_loss"](sample_weight=signalling)
    assert np.isnan(fsl.expected_risk_loss(signalling, [0.0, 1.0]))


def test_more_rows_than_memory():
    with pytest.raises(ValueError, match="alignments has more rows"):
        fsl.ctc_alignment_log_prob(np.zeros(3), range(2**70))


# ---- what was read, and what a message says of it ------------------------------------------------


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
@pytest.mark.parametrize("function", [fsl.ctc_loss, fsl.ctc_align, fsl.ctc_posteriors])
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
    """What shows a masked array, as files in NetCDF do."""

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
    ids=str,
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


# ---- one number, with or without axes -------------------------------------------------------------


@pytest.mark.parametrize("kind", [int, np.int32, np.array, Foreign, Capsule])
def test_one_length(kind):
    """Of one sequence, with a batch axis or without."""
    two = kind(np.array(2)) if kind in (Foreign, Capsule) else kind(2)
    x, y, between = X[:1] + np.arange(4), [[1, 2, 3]], np.zeros((4, 4))
    calls = {
        "ctc_loss": lambda n: fsl.ctc_loss(x, y, n, n),
        "ctc_align": lambda n: fsl.ctc_align(x, y, n, n).path,
        "ctc_posteriors": lambda n: fsl.ctc_posteriors(x, y, n, n),
        "ctc_greedy_decode": lambda n: fsl.ctc_greedy_decode(x, n).labels,
        "ctc_feasible": lambda n: fsl.ctc_feasible(y, n, n),
        "crf_loss": lambda n: fsl.crf_loss(x, y, between, n),
        "structured_hinge_loss": lambda n: fsl.structured_hinge_loss(x, y, between, n),
        "crf_decode": lambda n: fsl.crf_decode(x, between, n).tags,
        "crf_marginals": lambda n: fsl.crf_marginals(x, between, n),
        "crf_log_partition": lambda n: fsl.crf_log_partition(x, between, n),
        "mse_loss": lambda n: fsl.mse_loss(x, x + 1, n),
        "softmax_cross_entropy": lambda n: fsl.softmax_cross_entropy(x, y, n),
        "multiclass_hinge_loss": lambda n: fsl.multiclass_hinge_loss(x, y, n),
        "policy_gradient_loss": lambda n: fsl.policy_gradient_loss(x, y, [1.0], n),
        "expected_risk_loss": lambda n: fsl.expected_risk_loss(x[0, :1], [[1, 2, 3, 4]], n),
        "discounted_returns": lambda n: fsl.discounted_returns(y, n),
        "generalized_advantages": lambda n: fsl.generalized_advantages(y, y, n),
    }
    for name, call in calls.items():
        np.testing.assert_array_equal(call(two), call([2]), err_msg=name)
        if name != "ctc_feasible":  # for which no length of a sequence is too long
            with pytest.raises(ValueError, match="lengths is 99; allowed: 0 to"):
                call(99)


@pytest.mark.parametrize("kind", [np.array, np.float32, Foreign, Capsule])
def test_one_number(kind):
    def number(value):
        return kind(np.array(value)) if kind in (Foreign, Capsule) else kind(value)

    x = X + np.arange(4.0)
    calls = [
        lambda n: fsl.huber_loss(x, X, delta=n),
        lambda n: fsl.hinge_loss(x, X + 1, margin=n),
        lambda n: fsl.quantile_loss(x, X, q=n),
        lambda n: fsl.binary_cross_entropy(x, X, pos_weight=n),
        lambda n: fsl.multiclass_hinge_loss(x, CLASSES, margin=n),
        lambda n: fsl.softmax_cross_entropy(x, CLASSES, label_smoothing=n, z_loss=n),
        lambda n: fsl.policy_gradient_loss(x, CLASSES, [1.0, 1.0], entropy_coef=n),
        lambda n: fsl.policy_gradient_loss(x[:1], CLASSES[:1], n),
        lambda n: fsl.clipped_policy_loss(x, CLASSES, x[..., 0], [1.0, 1.0], clip=n),
        lambda n: fsl.expected_risk_loss(x[0], x[0], sharpness=n),
        lambda n: fsl.discounted_returns([[1, 2]], discount=n, final_values=n),
        lambda n: fsl.generalized_advantages([1, 2], [1, 2], decay=n, final_values=n),
        lambda n: fsl.mse_loss(x, X, reduction="sum", normalizer=n),
        lambda n: fsl.ctc_loss(x[:1], [[1]], sample_weight=n),
        lambda n: fsl.ctc_align(x, [[1], [2]], label_prior=x[0, 0], prior_scale=n).path,
        lambda n: fsl.weighted_sum([(n, lambda x: (1.0, x))])(x),
    ]
    for call in calls:
        np.testing.assert_array_equal(call(number(0.25)), call(0.25))


@pytest.mark.parametrize("value", [np.True_, np.array(True)])
def test_truth_is_no_number(value):
    with pytest.raises(TypeError, match="num_threads must be an integer, got bool"):
        fsl.mse_loss(X, X, num_threads=value)
    with pytest.raises(TypeError, match="blank must be an integer, got bool"):
        fsl.ctc_loss(X, [[1], [2]], blank=value)
    with pytest.raises(TypeError, match="margin must be a number, got bool"):
        fsl.hinge_loss(X, X + 1, margin=value)


def test_threads_that_python_does_not_print():
    with pytest.raises(ValueError, match="num_threads is an integer of 16610 bits"):
        fsl.mse_loss(X, X, num_threads=-(10**5000))


# ---- masks of integers ------------------------------------------------------------------------------

MASK = np.array([[1, 1, 0], [1, 0, 0]])
MASKED = {
    "crf_loss": lambda mask: fsl.crf_loss(X + MASK[..., None], TAGS, np.zeros((4, 4)), mask=mask),
    "crf_decode": lambda mask: fsl.crf_decode(X, np.zeros((4, 4)), mask=mask).tags,
    "structured_hinge_loss": lambda mask: fsl.structured_hinge_loss(X, TAGS, np.eye(4), mask=mask),
    "softmax_cross_entropy": lambda mask: fsl.softmax_cross_entropy(X, CLASSES, mask=mask, reduction="none"),
    "nll_loss": lambda mask: fsl.nll_loss(X - 1, CLASSES, mask=mask, reduction="none"),
    "mse_loss": lambda mask: fsl.mse_loss(X, X + 1, mask=mask, reduction="none"),
    "policy_gradient_loss": lambda mask: fsl.policy_gradient_loss(X, CLASSES, [1.0, 2.0], mask=mask, reduction="none"),
    "expected_risk_loss": lambda mask: fsl.expected_risk_loss(X[:, :, 0] + MASK, MASK * 2, mask=mask),
    "discounted_returns": lambda mask: fsl.discounted_returns(MASK, done=mask),
    "generalized_advantages": lambda mask: fsl.generalized_advantages(MASK, MASK, done=mask),
}
every_mask = pytest.mark.parametrize("name", MASKED)


@every_mask
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u4", "i8", "u8", ">i4"])
def test_masks_of_integers(name, dtype):
    expected = MASKED[name](MASK.astype(bool))
    for mask in (MASK.astype(dtype), np.asfortranarray(MASK.astype(dtype)), MASK.tolist(), Foreign(MASK.astype(dtype))):
        np.testing.assert_array_equal(MASKED[name](mask), expected)


@every_mask
@pytest.mark.parametrize("value", [2, -1, 255, 2**63])
def test_masks_of_other_integers(name, value):
    dtype = np.uint64 if value >= 2**63 else np.int64
    mask = MASK.astype(dtype)
    mask[1, 2] = value
    argument = "done" if name in ("discounted_returns", "generalized_advantages") else "mask"
    with pytest.raises(ValueError, match=rf"{argument}\[1, 2\] is {value}; allowed: 0 and 1, or bool"):
        MASKED[name](mask)


@every_mask
@pytest.mark.parametrize("dtype", ["f4", "f8", ml_dtypes.bfloat16, object, "U1"])
def test_masks_of_no_integers(name, dtype):
    with pytest.raises(TypeError, match=r"(mask|done) has dtype .*; allowed: bool, or integers 0 and 1"):
        MASKED[name](MASK.astype(dtype))


def test_masks_in_the_padding_are_not_read():
    mask = np.array([[1, 0, 7], [1, 9, 9]])
    clean, lengths = mask == 1, [2, 1]
    for call in (
        lambda mask: fsl.mse_loss(X, X + 1, lengths, mask=mask),
        lambda mask: fsl.expected_risk_loss(X[..., 0], MASK, lengths, mask=mask),
        lambda mask: fsl.discounted_returns(MASK, lengths, done=mask),
    ):
        np.testing.assert_array_equal(call(mask), call(clean))


# ---- messages are short -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: fsl.mse_loss(X, X, reduction="x" * 10**6),
        lambda: fsl.mse_loss(X, X, reduction=list(range(10**6))),
        lambda: fsl.ctc_loss(X, [[1], [2]], input=np.arange(900)),
        lambda: fsl.structured_hinge_loss(X, TAGS, np.eye(4), cost="x" * 10**6),
        lambda: fsl.mse_loss(X, np.zeros(X.shape, [(f"f{i}", "i1") for i in range(2000)])),
        lambda: fsl.ctc_loss(np.zeros((30000, 1, 2)), np.ones((30000, 2), int), infeasible="raise"),
        lambda: fsl.ctc_align(np.zeros((30000, 1, 2)), np.ones((30000, 2), int), infeasible="raise"),
        lambda: fsl.weighted_sum([list(range(10**6))]),
        lambda: fsl.weighted_sum([(1, "x" * 10**6)]),
        lambda: fsl.weighted_sum([(1, lambda x: ("x" * 10**6, x))])(X),
        lambda: fsl.weighted_sum([(1, lambda x: (np.inf, x)), (-1, lambda x: (np.inf, x))] * 10000)(X),
        lambda: fsl.mse_loss(X, X, sample_weight=["x" * 10**6, "y"]),
        lambda: fsl.hinge_loss(X, X + 1, margin=-Fraction(10**5000 + 1, 10**5000)),
    ],
)
def test_messages_are_short(call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert len(str(caught.value)) < 1500


def test_infeasible_sequences_are_counted():
    with pytest.raises(ValueError, match=r"sequences: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\. \(12 in all\)$"):
        fsl.ctc_loss(np.zeros((12, 1, 2)), np.ones((12, 2), int), infeasible="raise")
    with pytest.raises(ValueError, match=r"sequences: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$"):
        fsl.ctc_loss(np.zeros((10, 1, 2)), np.ones((10, 2), int), infeasible="raise")


# ---- integers beyond 64 bits ------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, 2**64 - 100])
@pytest.mark.parametrize("ignored", [2**63 - 1, -1, -100, -(2**63)])
def test_no_target_is_ignored_because_it_wraps(value, ignored):
    targets = np.full((2, 3), value, np.uint64)
    for call in (fsl.nll_loss, fsl.softmax_cross_entropy, fsl.multiclass_hinge_loss):
        with pytest.raises(ValueError, match=rf"targets\[0, 0\] is {value}; allowed"):
            call(X, targets, ignore_index=ignored)


def test_the_largest_index_is_ignored():
    targets = np.full((2, 3), 2**63 - 1, np.uint64)
    assert fsl.nll_loss(X, targets, ignore_index=2**63 - 1) == 0


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**30])
def test_integers_beyond_int64(value):
    for call, name in (
        (lambda: fsl.ctc_loss(X, [[value], [1]]), r"labels\[0\]"),
        (lambda: fsl.ctc_loss(X, np.array([[value], [1]])), "labels"),
        (lambda: fsl.ctc_feasible([[value], [1]], [3, 3]), r"labels\[0\]"),
        (lambda: fsl.nll_loss(X, [[value] * 3] * 2), "targets"),
        (lambda: fsl.crf_loss(X, [[value] * 3] * 2, np.zeros((4, 4))), "tags"),
        (lambda: fsl.mse_loss(X, X, [1, value]), "lengths"),
        (lambda: fsl.policy_gradient_loss(X, [[value] * 3] * 2, [1.0, 1.0]), "actions"),
        (lambda: fsl.ctc_loss(X, [[1], [2]], blank=value), "blank"),
        (lambda: fsl.nll_loss(X, CLASSES, ignore_index=value), "ignore_index"),
        (lambda: fsl.ctc_align(X, [[1], [2]], star=value), "star"),
        (lambda: fsl.ctc_collapse([1, value]), "alignment"),
    ):
        with pytest.raises((ValueError, TypeError), match=rf"^{name}.*(is {value};|beyond 64 bits|beyond int64)"):
            call()


# ---- sums ---------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-200, 1e200, 1.7e308])
def test_averages_by_extreme_weights(loss, size):
    """Weights all alike are no weights, however small or large: neither their sum nor its reciprocal overflows."""
    batch = 3 if loss is LOSSES["expected_risk_loss"] else 2
    weights = np.full(batch, size)
    np.testing.assert_allclose(loss(sample_weight=weights), loss(), rtol=1e-13)
    value, gradient = loss(sample_weight=weights, return_grad=True)
    expected = loss(return_grad=True)[1]
    for found, wanted in zip(*([g] if isinstance(g, np.ndarray) else g[:2] for g in (gradient, expected)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)
    assert np.isfinite(value)


@every_loss
def test_weights_that_underflow(loss):
    """Whatever NumPy is told to do about it."""
    batch = 3 if loss is LOSSES["expected_risk_loss"] else 2
    weights = np.array([3.0, 1e-310, 65504.0])[:batch]
    expected = loss(sample_weight=weights)
    with np.errstate(all="raise"):
        assert loss(sample_weight=weights, return_grad=True)[0] == expected


@every_loss
def test_losses_that_overflow_do_not_warn(loss):
    batch = 3 if loss is LOSSES["expected_risk_loss"] else 2
    weighted = loss(sample_weight=np.full(batch, 1e308), reduction="none")
    assert not np.isnan(weighted).any()
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(loss(sample_weight=np.full(batch, 1e308), reduction="none"), weighted)


@pytest.mark.parametrize("loss", [fsl.crf_loss, fsl.structured_hinge_loss])
def test_one_impossible_sequence_of_weight_zero(loss):
    transitions = np.full((2, 2), -np.inf)
    emissions, tags = np.zeros((3, 2)), [0, 1, 0]
    assert loss(emissions, tags, transitions, reduction="none") == np.inf
    assert loss(emissions, tags, transitions, reduction="none", sample_weight=[0.0]) == 0.0


@pytest.mark.parametrize("value", [5e-324, 1e-310, 1e-200, 1e200, 1.7e308])
def test_extreme_weights_of_classes(value):
    """Whose sum would have no reciprocal, or overflow: the mean would be NaN, or 0."""
    with pytest.raises(ValueError, match=r"class_weight\[2\] is .*; allowed: 0, or from 1e-150 to 1e\+150"):
        LOSSES["softmax_cross_entropy"](class_weight=np.array([1, 0, value, 1]))


def test_advantages_that_underflow():
    """Whatever NumPy is told to do about it."""
    rewards, values = np.ones((2, 5)), np.full((2, 5), 0.3)
    expected = fsl.generalized_advantages(rewards, values, discount=5e-324)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(fsl.generalized_advantages(rewards, values, discount=5e-324), expected)


# ---- the array for the gradient -----------------------------------------------------------------


@every_loss
def test_gradient_into_a_masked_array(loss):
    shape = (3, 4) if loss is LOSSES["expected_risk_loss"] else X.shape
    out = np.ma.MaskedArray(np.full(shape, 7.0))
    with pytest.raises(TypeError, match="grad_out is a masked array"):
        loss(grad_out=out)
    assert (np.asarray(out) == 7).all()


def test_gradients_of_parameters_into_a_masked_array():
    outs = (None, np.ma.MaskedArray(np.zeros((4, 4))), None, None)
    with pytest.raises(TypeError, match=r"grad_out\.transitions is a masked array"):
        LOSSES["crf_loss"](grad_out=outs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_gradient_into_a_matrix(dtype):
    """A class of arrays that has two axes whatever is asked of it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4)).astype(dtype)
    calls = [
        partial(fsl.mse_loss, x, rng.normal(size=(3, 4))),
        partial(fsl.quantile_loss, x, rng.normal(size=(3, 4))),
        partial(fsl.softmax_cross_entropy, x, [1, 2, 3]),
        partial(fsl.ctc_loss, x, [1]),
        partial(fsl.expected_risk_loss, x, np.ones((3, 4))),
    ]
    for call in calls:
        out = np.full((3, 4), 7, dtype).view(np.matrix)
        loss, gradient = call(grad_out=out)
        assert gradient is out
        expected = call(return_grad=True)
        assert loss == expected[0]
        np.testing.assert_array_equal(np.asarray(out), expected[1])


# ---- losses of losses -----------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [1, None, np.array(1), 0.5, ...])
def test_terms_that_are_none(terms):
    with pytest.raises(TypeError, match=r"^terms is a "):
        fsl.weighted_sum(terms)


@pytest.mark.parametrize("loss", [1j, "a", None, np.datetime64("2020"), Decimal(1), 10**400, [1, [2]]])
def test_losses_that_are_no_numbers(loss):
    def term(x):
        return loss, np.zeros(x.shape)

    for call in (partial(fsl.weighted_sum([(1, term)]), X, return_grad=True), partial(fsl.check_grad, term, X)):
        with pytest.raises((ValueError, TypeError), match=r"the loss of (terms\[0\]|loss_fn) \(term\) is "):
            call()


def test_a_loss_that_returns_nothing():
    with pytest.raises(ValueError, match=r"the loss of terms\[0\] \(<lambda>\) "):
        fsl.weighted_sum([(1, lambda x: ())])(X)


def test_posteriors_that_underflow_half_precision():
    x = np.array([[0, 15, 0], [26, 0, 0], [0, 0, 17]], np.float16)
    expected = fsl.ctc_posteriors(x, [1])
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(fsl.ctc_posteriors(x, [1]), expected)


@pytest.mark.parametrize("dtype", [complex, "U1", object, "M8[s]"])
def test_gradients_that_are_no_numbers(dtype):
    def term(x):
        return 1.0, np.zeros(x.shape, dtype)

    for call in (partial(fsl.weighted_sum([(1, term)]), X, return_grad=True), partial(fsl.check_grad, term, X)):
        with pytest.raises(TypeError, match=r"the gradient of (terms\[0\]|loss_fn) \(term\) has dtype"):
            call()


@pytest.mark.parametrize("x", ["abc", [1j, 2], np.array([None]), np.array(["2020"], "M8[s]")])
def test_points_that_are_no_numbers(x):
    with pytest.raises(TypeError, match="x has dtype"):
        fsl.check_grad(lambda x: (0.0, x), x)


@pytest.mark.parametrize("rng", ["abc", 0.5, [1, 2]])
def test_sources_of_chance(rng):
    with pytest.raises(TypeError, match="rng is a "):
        fsl.check_grad(lambda x: (0.0, 0 * x), np.zeros(3), rng=rng)


def test_sums_of_half_precision_overflow_quietly():
    def term(x):
        return 1.0, np.full(x.shape, 1e300)

    with np.errstate(all="raise"):
        _, gradient = fsl.weighted_sum([(1, term)])(X.astype(np.float16), return_grad=True)
    assert np.isinf(gradient).all()


def test_gradients_of_integers():
    with pytest.raises(TypeError, match="scores has dtype int64"):
        fsl.weighted_sum([(1, lambda x: (0.0, x))])(np.zeros(3, np.int64), return_grad=True)


# ---- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["abc", [[1], [2, 3]], [1j], [None]])
def test_pictures_of_what_is_no_number(value):
    with pytest.raises((ValueError, TypeError), match=r"^losses (has dtype|is not an array)"):
        fsl.plot.plot_loss(value)
    with pytest.raises((ValueError, TypeError), match=r"^posteriors (has dtype|is not an array)"):
        fsl.plot.plot_posteriors(value, [1])
    with pytest.raises((ValueError, TypeError), match=r"^waveform (has dtype|is not an array)"):
        fsl.plot.plot_alignment([], waveform=value)


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, np.inf, 1e308])
def test_pictures_of_what_is_no_probability(value):
    posteriors = np.zeros((2, 3))
    posteriors[1, 2] = value
    with pytest.raises(ValueError, match=r"posteriors\[1, 2\] is .*; allowed: probabilities"):
        fsl.plot.plot_posteriors(posteriors, [1])


def test_frames_longer_than_axes():
    with pytest.raises(ValueError, match=r"frame_seconds is 1e\+300; allowed: finite, above 0, 1e\+09 or less"):
        fsl.plot.plot_alignment([], frame_seconds=1e300)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e308])
def test_waveforms_beyond_axes(value):
    with pytest.raises(ValueError, match=r"waveform\[1\] is .*; allowed: finite numbers"):
        fsl.plot.plot_alignment([], waveform=[0.0, value])


def test_picture_of_objects():
    with pytest.raises(TypeError, match="image has dtype object"):
        fsl.plot.plot_alignment([], image=np.full((2, 2), None))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 4, 3)])
def test_picture_without_pixels(shape):
    with pytest.raises(ValueError, match=r"image has shape .*; allowed: a pixel or more"):
        fsl.plot.plot_alignment([], image=np.zeros(shape))


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ((1, 2, 2, 0.0), r"spans\[0\] is from 2 to 2"),
        ((1, -1, 2, 0.0), r"spans\[0\] is from -1 to 2"),
        ((1, "a", 2, 0.0), r"spans\[0\]\.start must be an integer"),
        ((1, 0, 2.5, 0.0), r"spans\[0\]\.end must be an integer"),
        (("a", 0, 2, 0.0), r"spans\[0\]\.label must be an integer"),
        ((1, 0, 2, np.nan), r"spans\[0\]\.log_prob is nan"),
    ],
)
def test_pictures_of_spans_that_are_none(span, said):
    with pytest.raises((ValueError, TypeError), match=said):
        fsl.plot.plot_alignment([fsl.TokenSpan(*span)])


@pytest.mark.parametrize("spans", [None, 0.5, JUNK, np.zeros(2)])
def test_pictures_of_no_spans(spans):
    with pytest.raises(TypeError, match="spans is a "):
        fsl.plot.plot_alignment(spans)


@pytest.mark.parametrize("losses", [[1e308, 1e308], [1e-310, 1.0], [np.nan, 1.0], [ml_dtypes.bfloat16(1)]])
def test_pictures_of_extreme_losses(losses):
    from matplotlib.figure import Figure

    fsl.plot.plot_loss(losses, ax=Figure().subplots())
