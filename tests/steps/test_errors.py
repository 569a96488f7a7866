"""Wrong arguments of the per-step losses: where, what and what is allowed; nothing written."""

import re

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl
from fastseqloss.steps.registry import LOSSES, SHARES, SIGNS
from reference.steps import CLASSIFICATION, ELEMENTWISE, NAMES
from step_cases import FIRST, REDUCTIONS, TARGETS, Capsule, Foreign

B, T, V = 3, 6, 5
SCORES = np.random.default_rng(0).uniform(0.1, 0.9, (B, T, V))
CLASSES = np.random.default_rng(1).integers(0, V, (B, T))
NUMBERS = np.ones((B, T, V))
LENGTHS = np.array([6, 5, 4])
MASK = np.ones((B, T), bool)

every_loss = pytest.mark.parametrize("name", NAMES)
classification = pytest.mark.parametrize("name", CLASSIFICATION)
elementwise = pytest.mark.parametrize("name", ELEMENTWISE)
LIMITED = [name for name in ELEMENTWISE if TARGETS[name] in (SIGNS, SHARES)]
PARAMETERS = sorted({(row.function, row.parameter) for row in LOSSES.values() if row.parameter})
SCALARS = [(name, parameter.name) for name, parameter in PARAMETERS if not parameter.broadcasts]


def valid(name):
    targets = CLASSES if name in CLASSIFICATION else NUMBERS
    return {FIRST[name]: SCORES, "targets": targets, "lengths": LENGTHS, "mask": MASK}


def changed(array, *changes):
    array = np.array(array)
    for position, value in changes:
        array[position] = value
    return array


def assert_raises(name, kind, *said, **wrong):
    """The loss raises `kind` with all of `said` in that order, and leaves grad_out alone."""
    arguments = valid(name) | wrong
    pattern = ".*".join(re.escape(str(word)) for word in said)
    scores = arguments[FIRST[name]]
    run = getattr(fsl, name)
    with pytest.raises(kind, match=f"(?s){pattern}"):
        run(**arguments)
    if type(scores) is not np.ndarray or "grad_out" in wrong:
        return
    out = np.full_like(scores, 7) if scores.dtype.kind == "f" else np.full(scores.shape, 7.0)
    with pytest.raises(kind, match=f"(?s){pattern}"):
        run(**arguments, grad_out=out)
    assert np.all(out == 7)
    if scores.flags.writeable and scores.dtype.kind == "f":
        over = scores.copy()
        with pytest.raises(kind):
            run(**arguments | {FIRST[name]: over, "grad_out": over})
        np.testing.assert_array_equal(over, scores)


@every_loss
def test_the_valid_call_is_valid(name):
    assert np.isfinite(getattr(fsl, name)(**valid(name)))


# ---- targets: classes -----------------------------------------------------------------------


@classification
@pytest.mark.parametrize("value", [5, 6, -1, -99, 2**40])
def test_class_out_of_range(name, value):
    targets = changed(CLASSES, ((1, 2), value))
    assert_raises(name, ValueError, "targets[1, 2]", f"is {value}", "allowed", "0", "4", targets=targets)


@classification
def test_first_class_out_of_range_is_named(name):
    targets = changed(CLASSES, ((2, 1), 8), ((1, 3), 9), ((1, 4), 7))
    assert_raises(name, ValueError, "targets[1, 3]", "9", targets=targets)


@classification
def test_class_out_of_range_at_the_end(name):
    targets = changed(CLASSES, ((2, 5), 5))
    assert_raises(name, ValueError, "targets[2, 5]", "5", lengths=None, mask=None, targets=targets)


@classification
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64, ">i4"])
def test_class_out_of_range_in_other_dtypes(name, dtype):
    targets = changed(CLASSES, ((2, 0), 100)).astype(dtype)
    assert_raises(name, ValueError, "targets[2, 0]", "100", targets=targets)


@classification
def test_class_beyond_int64(name):
    targets = changed(CLASSES.astype(np.uint64), ((1, 0), 2**64 - 100))
    assert_raises(name, ValueError, "targets[1, 0]", 2**64 - 100, targets=targets)


@classification
def test_class_out_of_range_on_other_axes(name):
    run = {FIRST[name]: SCORES[0, :, :], "lengths": None, "mask": None}
    assert_raises(name, ValueError, "targets[4]", "5", targets=np.array([0, 1, 2, 3, 5, 9]), **run)
    run[FIRST[name]] = SCORES[:, :, None, :]
    targets = changed(CLASSES[..., None], ((1, 2, 0), -5))
    assert_raises(name, ValueError, "targets[1, 2, 0]", "-5", targets=targets, **run)
    run[FIRST[name]] = SCORES[0, 0]
    assert_raises(name, ValueError, "targets", "5", "4", targets=5, **run)


@classification
def test_only_ignore_index_is_ignored(name):
    targets = changed(CLASSES, ((0, 0), -100), ((1, 1), -1))
    assert_raises(name, ValueError, "targets[1, 1]", "-1", targets=targets)
    assert_raises(name, ValueError, "targets[0, 0]", "-100", targets=targets, ignore_index=-1)


@classification
def test_what_does_not_count_is_not_checked(name):
    targets = changed(CLASSES, ((1, 5), 99), ((0, 0), -3))
    mask = changed(MASK, ((0, 0), False))
    assert np.isfinite(getattr(fsl, name)(**valid(name) | {"targets": targets, "mask": mask}))


@classification
@pytest.mark.parametrize("dtype", [bool, complex, "U1", object, "M8[s]"])
def test_classes_of_a_wrong_dtype(name, dtype):
    targets = CLASSES.astype(dtype)
    assert_raises(name, TypeError, "targets", targets.dtype, "allowed", "integer", targets=targets)


@pytest.mark.parametrize("name", ["nll_loss", "multiclass_hinge_loss"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_distributions_are_for_the_cross_entropy(name, dtype):
    targets = np.full((B, T, V), 0.2, dtype)
    assert_raises(name, TypeError, "targets", targets.dtype, "allowed", "integer", targets=targets)


@classification
@pytest.mark.parametrize("shape", [(B,), (B, T - 1), (B, T, 1), (T, B), (B * T,), (1, B, T), (B, T, V), ()])
def test_classes_of_a_wrong_shape(name, shape):
    targets = np.zeros(shape, int)
    assert_raises(name, ValueError, "targets", "shape", shape, "allowed", (B, T), targets=targets)


@pytest.mark.parametrize("shape", [(B, T), (B, T, V - 1), (B * T, V), (B, T, V, 1), (T, B, V), (V,)])
def test_distributions_of_a_wrong_shape(shape):
    targets = np.zeros(shape)
    assert_raises("softmax_cross_entropy", ValueError, "targets", "shape", shape, "allowed", targets=targets)


@every_loss
def test_targets_none_ragged_or_masked(name):
    assert_raises(name, (TypeError, ValueError), "targets", targets=None)
    assert_raises(name, (TypeError, ValueError), "targets", targets=[[1, 2], [1]])
    targets = valid(name)["targets"]
    assert_raises(name, TypeError, "targets", "masked array", targets=np.ma.masked_array(targets, targets > 1))


# ---- targets: numbers -----------------------------------------------------------------------


@elementwise
@pytest.mark.parametrize("shape", [(B,), (B, T), (B, T, V - 1), (B, T, 1), (T, B, V), (B * T, V), ()])
def test_numbers_of_a_wrong_shape(name, shape):
    targets = np.ones(shape)
    assert_raises(name, ValueError, "targets", "shape", shape, "allowed", (B, T, V), targets=targets)


@elementwise
@pytest.mark.parametrize("dtype", [complex, np.complex64, "U1", object, "M8[s]"])
def test_numbers_of_a_wrong_dtype(name, dtype):
    targets = NUMBERS.astype(int).astype(dtype)
    assert_raises(name, TypeError, "targets", targets.dtype, "allowed", targets=targets)


@pytest.mark.parametrize("value", [-0.5, 1.5, -1e-300, 1 + 1e-12, np.nan, np.inf])
def test_binary_target_out_of_range(value):
    targets = changed(NUMBERS, ((1, 2, 3), value), ((2, 0, 0), 9.0))
    said = "targets[1, 2, 3]", f"is {value}", "allowed", "0", "1"
    assert_raises("binary_cross_entropy", ValueError, *said, targets=targets)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64, np.float16, np.float32, ml_dtypes.bfloat16])
def test_binary_target_out_of_range_in_other_dtypes(dtype):
    targets = changed(NUMBERS, ((2, 3, 0), 2)).astype(dtype)
    assert_raises("binary_cross_entropy", ValueError, "targets[2, 3, 0]", "2", "allowed", targets=targets)


@pytest.mark.parametrize("value", [0, 2, -2, 0.5, 1 + 1e-12, np.nan, np.inf])
def test_hinge_target_is_no_sign(value):
    targets = changed(NUMBERS, ((1, 2, 3), value), ((2, 0, 0), 9.0))
    said = "targets[1, 2, 3]", f"is {value}", "allowed", "-1", "1"
    assert_raises("hinge_loss", ValueError, *said, targets=targets)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint8, np.float16, np.float32, ml_dtypes.bfloat16])
def test_hinge_target_is_no_sign_in_other_dtypes(dtype):
    targets = changed(NUMBERS, ((2, 3, 0), 0)).astype(dtype)
    assert_raises("hinge_loss", ValueError, "targets[2, 3, 0]", "allowed", targets=targets)


@pytest.mark.parametrize("name", LIMITED)
def test_number_out_of_range_on_other_axes(name):
    run = {FIRST[name]: SCORES[0], "lengths": None, "mask": None}
    assert_raises(name, ValueError, "targets[4, 1]", "7", targets=changed(NUMBERS[0], ((4, 1), 7)), **run)
    run[FIRST[name]] = SCORES[0, 0]
    assert_raises(name, ValueError, "targets[4]", "7", targets=changed(NUMBERS[0, 0], (4, 7)), **run)
    run[FIRST[name]] = SCORES[..., None]
    targets = changed(NUMBERS[..., None], ((1, 2, 3, 0), 7))
    assert_raises(name, ValueError, "targets[1, 2, 3, 0]", "7", targets=targets, **run)


@pytest.mark.parametrize("name", LIMITED)
def test_numbers_that_do_not_count_are_not_checked(name):
    targets = changed(NUMBERS, ((1, 5, 2), 99), ((0, 0, 1), np.nan))
    mask = changed(MASK, ((0, 0), False))
    assert np.isfinite(getattr(fsl, name)(**valid(name) | {"targets": targets, "mask": mask}))


@pytest.mark.parametrize("name", [*CLASSIFICATION, *LIMITED])
@pytest.mark.parametrize("kind", [Foreign, Capsule, memoryview, np.ndarray.tolist])
def test_wrong_arguments_that_are_no_arrays(name, kind):
    targets = changed(valid(name)["targets"], ((1, 2), 7))
    assert_raises(name, ValueError, "targets[1, 2", "7", "allowed", targets=kind(targets))
    assert_raises(name, ValueError, "lengths[1]", "7", "0 to 6", lengths=kind(np.array([6, 7, 8])))
    weight = np.array([1, -2.0, 3])
    assert_raises(name, ValueError, "sample_weight[1]", "-2", "allowed", sample_weight=kind(weight))


# ---- lengths and mask -----------------------------------------------------------------------


@every_loss
class TestLengths:
    @pytest.mark.parametrize("excess", [1, 100, 2**40])
    def test_too_long(self, name, excess):
        lengths = changed(LENGTHS, (2, T + excess))
        assert_raises(name, ValueError, "lengths[2]", T + excess, "allowed", "0", T, lengths=lengths)

    def test_negative(self, name):
        assert_raises(name, ValueError, "lengths[1]", "-1", "0", T, lengths=changed(LENGTHS, (1, -1)))

    def test_first_is_named(self, name):
        assert_raises(name, ValueError, "lengths[1]", "77", lengths=changed(LENGTHS, (1, 77), (2, -1)))

    @pytest.mark.parametrize("dtype", [float, bool, "U1", object])
    def test_dtype(self, name, dtype):
        lengths = LENGTHS.astype(dtype)
        assert_raises(name, TypeError, "lengths", lengths.dtype, "integer", lengths=lengths)

    @pytest.mark.parametrize("shape", [(B + 1,), (B - 1,), (B, 1), (1,), ()])
    def test_shape(self, name, shape):
        lengths = np.ones(shape, int)
        assert_raises(name, ValueError, "lengths", "shape", shape, f"({B},)", lengths=lengths)

    def test_without_a_time_axis(self, name):
        flat = SCORES[0] if name in CLASSIFICATION else SCORES[0, 0]
        targets = valid(name)["targets"][0] if name in CLASSIFICATION else NUMBERS[0, 0]
        wrong = {FIRST[name]: flat, "targets": targets, "lengths": np.ones(len(flat), int), "mask": None}
        assert_raises(name, ValueError, "lengths", **wrong)


@every_loss
class TestMask:
    @pytest.mark.parametrize("shape", [(B,), (B, T - 1), (B, T, V + 1), (T, B), (B, T, 1), (B, 1), (), (V, T, B)])
    def test_shape(self, name, shape):
        of_features = () if name in CLASSIFICATION else ((B, T, V),)
        said = "mask", "shape", shape, "allowed", (B, T), *of_features
        assert_raises(name, ValueError, *said, mask=np.ones(shape, bool))

    def test_features_belong_to_numbers(self, name):
        mask = np.ones((B, T, V), bool)
        if name in CLASSIFICATION:
            assert_raises(name, ValueError, "mask", "shape", (B, T, V), "allowed", (B, T), mask=mask)
        else:
            assert np.isfinite(getattr(fsl, name)(**valid(name) | {"mask": mask}))

    @pytest.mark.parametrize("dtype", [float, np.float16, complex, "U1", object])
    def test_dtype(self, name, dtype):
        mask = MASK.astype(dtype)
        assert_raises(name, TypeError, "mask", mask.dtype, "allowed", "bool", mask=mask)

    def test_masked(self, name):
        assert_raises(name, TypeError, "mask", "masked array", mask=np.ma.masked_array(MASK))


# ---- scores -----------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("dtype", [int, complex, np.complex64, object, "U3", bool, "M8[s]", np.longdouble])
def test_scores_of_a_wrong_dtype(name, dtype):
    scores = np.ones((B, T, V), np.int64).astype(dtype)
    assert_raises(name, TypeError, FIRST[name], scores.dtype, "allowed", "float32", **{FIRST[name]: scores})


@every_loss
def test_scores_without_axes(name):
    wrong = {FIRST[name]: np.array(0.5), "targets": 1, "lengths": None, "mask": None}
    assert_raises(name, ValueError, FIRST[name], "shape", "()", "allowed", **wrong)


@classification
@pytest.mark.parametrize("shape", [(B, T, 0), (T, 0), (0, 0, 0), (0,)])
def test_no_classes(name, shape):
    wrong = {FIRST[name]: np.zeros(shape), "targets": np.zeros(shape[:-1], int), "lengths": None, "mask": None}
    assert_raises(name, ValueError, FIRST[name], "shape", shape, **wrong)


@every_loss
def test_scores_none_ragged_or_masked(name):
    assert_raises(name, (TypeError, ValueError), FIRST[name], **{FIRST[name]: None})
    assert_raises(name, ValueError, FIRST[name], **{FIRST[name]: [[[0.0, 1.0]], [[0.0], [1.0]]]})
    masked = np.ma.masked_array(SCORES, SCORES > 0.5)
    assert_raises(name, TypeError, FIRST[name], "masked array", **{FIRST[name]: masked})


# ---- options of single losses -------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, np.inf])
def test_label_smoothing_out_of_range(value):
    said = "label_smoothing", value, "allowed", "0", "1"
    assert_raises("softmax_cross_entropy", ValueError, *said, label_smoothing=value)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_z_loss_out_of_range(value):
    assert_raises("softmax_cross_entropy", ValueError, "z_loss", value, "allowed", z_loss=value)


@pytest.mark.parametrize("kind", ["log_probs", "probs"])
def test_z_loss_needs_logits(kind):
    assert_raises("softmax_cross_entropy", ValueError, "z_loss", "logits", z_loss=0.1, input=kind)


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=[name for name, _ in PARAMETERS])
def test_parameter_out_of_range(name, parameter):
    least, most = parameter.least, parameter.most
    ends = [least, most] if parameter.open_ends else [np.nextafter(least, -np.inf), np.inf]
    for value in (*ends, least - 0.5, most + 0.5, np.nan, np.inf, -np.inf):
        said = parameter.name, value, "allowed", f"{least:g}"
        assert_raises(name, ValueError, *said, **{parameter.name: value})
        if parameter.broadcasts:
            each = np.full((T, V), 0.5 * (least + min(most, least + 1)))
            each[2, 3:] = value
            assert_raises(name, ValueError, f"{parameter.name}[2, 3]", *said[1:], **{parameter.name: each})
            middle = 0.5 * (least + min(most, least + 1))
            each = np.array([middle, middle, value, middle, most + 7])
            said = f"{parameter.name}[2]", *said[1:]
            assert_raises(name, ValueError, *said, **{parameter.name: each})


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("softmax_cross_entropy", "label_smoothing"),
        ("softmax_cross_entropy", "z_loss"),
        *SCALARS,
    ],
)
@pytest.mark.parametrize("value", ["1", None, [0.5], 1j])
def test_number_of_a_wrong_type(name, option, value):
    assert_raises(name, TypeError, option, **{option: value})


WEIGHTS = [*((name, "class_weight") for name in CLASSIFICATION), ("binary_cross_entropy", "pos_weight")]


@pytest.mark.parametrize(("name", "option"), WEIGHTS)
class TestWeights:
    @pytest.mark.parametrize("value", [np.nan, -0.5, -1e-300, np.inf])
    def test_value(self, name, option, value):
        weight = changed(np.ones(V), (3, value), (4, np.nan))
        assert_raises(name, ValueError, f"{option}[3]", value, "allowed", **{option: weight})

    @pytest.mark.parametrize("shape", [(V + 1,), (V - 1,), (V, 1), (B, V), (1, B, T, V)])
    def test_shape(self, name, option, shape):
        assert_raises(name, ValueError, option, "shape", shape, "allowed", f"({V},)", **{option: np.ones(shape)})

    @pytest.mark.parametrize("dtype", [complex, "U1", object])
    def test_dtype(self, name, option, dtype):
        weight = np.ones(V, int).astype(dtype)
        assert_raises(name, TypeError, option, weight.dtype, "allowed", **{option: weight})

    def test_masked(self, name, option):
        assert_raises(name, TypeError, option, "masked array", **{option: np.ma.masked_array(np.ones(V))})


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_pos_weight_out_of_range(value):
    assert_raises("binary_cross_entropy", ValueError, "pos_weight", value, "allowed", pos_weight=value)


@pytest.mark.parametrize("shape", [(V + 1,), (V, 1), (B, V), (1, B, T, V), (1,) * 64])
def test_q_of_a_wrong_shape(shape):
    assert_raises("quantile_loss", ValueError, "q", "shape", shape, "allowed", f"({V},)", q=np.full(shape, 0.5))


@classification
@pytest.mark.parametrize("value", [-100.0, "0", None, True, [0]])
def test_ignore_index_of_a_wrong_type(name, value):
    assert_raises(name, TypeError, "ignore_index", "integer", ignore_index=value)


@pytest.mark.parametrize("value", [0, V - 1, 2**70, np.uint8(3)])
def test_ignore_index_beside_distributions(value):
    """There are no classes that it could mark; below 0, as by default, it says nothing."""
    name, mixed = "softmax_cross_entropy", np.full((B, T, V), 1 / V)
    assert_raises(name, ValueError, f"ignore_index is {value}", "distributions", targets=mixed, ignore_index=value)
    given = valid(name) | {"targets": mixed}
    assert fsl.softmax_cross_entropy(**given, ignore_index=-1) == fsl.softmax_cross_entropy(**given)
    for wrong in (-100.0, "0", None):
        assert_raises(name, TypeError, "ignore_index", "integer", targets=mixed, ignore_index=wrong)


@classification
@pytest.mark.parametrize("value", [np.int8(2), np.uint64(2), np.array(2)])
def test_ignore_index_of_any_integer_type(name, value):
    loss = getattr(fsl, name)(**valid(name), ignore_index=value)
    assert loss == getattr(fsl, name)(**valid(name), ignore_index=2)


@pytest.mark.parametrize("value", ["logit", None, 0, True, ["logits"]])
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "binary_cross_entropy"])
def test_unknown_input(name, value):
    assert_raises(name, (ValueError, TypeError), "input", "allowed", "logits", "probs", input=value)


def test_binary_has_no_log_probabilities():
    assert_raises("binary_cross_entropy", ValueError, "input", "log_probs", "allowed", "probs", input="log_probs")


# ---- options of every loss ----------------------------------------------------------------------


@every_loss
class TestOptions:
    @pytest.mark.parametrize("reduction", ["average", None, 0, ["mean"], "Mean"])
    def test_reduction(self, name, reduction):
        said = "reduction", "allowed", "per_sequence"
        assert_raises(name, (ValueError, TypeError), *said, reduction=reduction)

    @pytest.mark.parametrize("reduction", [r for r in REDUCTIONS if r != "sum"])
    def test_normalizer_needs_the_sum(self, name, reduction):
        assert_raises(name, ValueError, "normalizer", "sum", normalizer=2.0, reduction=reduction)

    @pytest.mark.parametrize("normalizer", [0.0, -1.0, np.nan, np.inf])
    def test_normalizer(self, name, normalizer):
        said = "normalizer", normalizer, "allowed"
        assert_raises(name, ValueError, *said, normalizer=normalizer, reduction="sum")

    @pytest.mark.parametrize("normalizer", ["2", [1.0, 2.0], 1j, True])
    def test_normalizer_type(self, name, normalizer):
        assert_raises(name, TypeError, "normalizer", normalizer=normalizer, reduction="sum")

    @pytest.mark.parametrize("value", [np.nan, -0.5, np.inf])
    def test_sample_weight(self, name, value):
        weight = np.array([1.0, value, np.nan])
        assert_raises(name, ValueError, "sample_weight[1]", value, "allowed", sample_weight=weight)

    @pytest.mark.parametrize("shape", [(B + 1,), (B, 1), (1,), (), (T, B), (B, T - 1), (B, T, 1)])
    def test_sample_weight_shape(self, name, shape):
        assert_raises(name, ValueError, "sample_weight", "shape", shape, f"({B},)", sample_weight=np.ones(shape))

    @pytest.mark.parametrize("dtype", [complex, "U1", object])
    @pytest.mark.parametrize("shape", [(B,), (B, T)])
    def test_sample_weight_dtype(self, name, dtype, shape):
        weight = np.ones(shape, int).astype(dtype)
        assert_raises(name, TypeError, "sample_weight", weight.dtype, "allowed", sample_weight=weight)

    @pytest.mark.parametrize("value", [-0.5, -1e-300, np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", [np.float64, np.float16])
    def test_weight_of_a_step(self, name, value, dtype):
        """Only where the step counts: by lengths, mask and target."""
        weight = changed(np.ones((B, T)), ((1, 2), value), ((1, 3), -7), ((2, 0), np.nan)).astype(dtype)
        value = weight[1, 2]
        if value:  # -1e-300 is -0.0 in half precision
            said = "sample_weight[1, 2]", f"is {float(value)}", "allowed: finite, 0 or more"
            assert_raises(name, ValueError, *said, sample_weight=weight)
            assert_raises(name, ValueError, *said, sample_weight=weight.tolist(), reduction="step_mean")
        mask = changed(MASK, ((1, 2), False), ((1, 3), False), ((2, 0), False))
        given = valid(name) | {"mask": mask}
        assert np.isfinite(getattr(fsl, name)(**given, sample_weight=weight))
        if name in CLASSIFICATION:
            given["targets"], given["mask"] = np.where(mask, CLASSES, -100), None
            assert np.isfinite(getattr(fsl, name)(**given, sample_weight=weight))
        else:
            each = np.broadcast_to(weight[..., None], (B, T, V))
            assert np.isfinite(getattr(fsl, name)(**given, sample_weight=each))
            if value:
                assert_raises(name, ValueError, "sample_weight[1, 2, 0]", "allowed", sample_weight=each)

    @pytest.mark.parametrize("threads", [0, -1, -(2**70)])
    def test_num_threads(self, name, threads):
        assert_raises(name, ValueError, "num_threads", threads, "1", num_threads=threads)

    @pytest.mark.parametrize("threads", [1.0, "2", True, [1]])
    def test_num_threads_type(self, name, threads):
        assert_raises(name, TypeError, "num_threads", "integer", num_threads=threads)


@every_loss
def test_options_are_keywords(name):
    arguments = valid(name)
    with pytest.raises(TypeError):
        getattr(fsl, name)(arguments[FIRST[name]], arguments["targets"], LENGTHS, MASK)


# ---- grad_out -------------------------------------------------------------------------------------


@every_loss
class TestGradOut:
    def rejected(self, name, kind, out, *said, scores=SCORES):
        """grad_out=out is refused, and neither it nor the scores change."""
        before = np.array(out, copy=True), scores.copy()
        pattern = ".*".join(["grad_out", *(re.escape(str(word)) for word in said)])
        with pytest.raises(kind, match=f"(?s){pattern}"):
            getattr(fsl, name)(**valid(name) | {FIRST[name]: scores, "grad_out": out})
        np.testing.assert_array_equal(out, before[0])
        np.testing.assert_array_equal(scores, before[1])

    @pytest.mark.parametrize("shape", [(B, T, V + 1), (B, T), (T, B, V), (B * T, V), (1, B, T, V)])
    def test_shape(self, name, shape):
        self.rejected(name, ValueError, np.zeros(shape), shape, SCORES.shape)

    @pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, complex, ">f8"])
    def test_dtype(self, name, dtype):
        self.rejected(name, TypeError, np.zeros(SCORES.shape, dtype), np.dtype(dtype), "float64")

    def test_read_only(self, name):
        out = np.zeros(SCORES.shape)
        out.flags.writeable = False
        self.rejected(name, ValueError, out, "read-only")
        scores = SCORES.copy()
        scores.flags.writeable = False
        self.rejected(name, ValueError, scores, "read-only", scores=scores)

    def test_not_an_array(self, name):
        self.rejected(name, TypeError, SCORES.tolist(), "list")

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_elements_share_memory(self, name, axis):
        narrow = np.zeros([1 if i == axis else n for i, n in enumerate(SCORES.shape)])
        strides = [0 if i == axis else s for i, s in enumerate(narrow.strides)]
        self.rejected(name, ValueError, np.lib.stride_tricks.as_strided(narrow, SCORES.shape, strides))

    @pytest.mark.parametrize("shift", [1, V, T * V])
    def test_overlaps_the_scores(self, name, shift):
        room = np.random.default_rng(0).uniform(0.1, 0.9, SCORES.size + shift)
        scores, out = room[: SCORES.size].reshape(SCORES.shape), room[shift:].reshape(SCORES.shape)
        self.rejected(name, ValueError, out, "overlap", scores=scores)

    def test_another_view_of_the_scores(self, name):
        scores = SCORES.copy()
        for view in (scores[::-1], scores[:, ::-1], scores[:, :, ::-1]):
            self.rejected(name, ValueError, view, "overlap", scores=scores)

    def test_interleaved_with_the_scores(self, name):
        """They share a buffer but no element: allowed."""
        room = np.random.default_rng(0).uniform(0.1, 0.9, (B, T, 2 * V))
        arguments = valid(name)
        scores, out = room[..., :V], room[..., V:]
        expected = getattr(fsl, name)(**arguments | {FIRST[name]: scores.copy()}, return_grad=True)
        loss, _ = getattr(fsl, name)(**arguments | {FIRST[name]: scores}, grad_out=out)
        assert loss == expected[0]
        np.testing.assert_array_equal(out, expected[1])
