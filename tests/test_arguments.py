"""What every public function makes of arguments that are hardly arguments: nothing but what its docstring says."""

from decimal import Decimal
from fractions import Fraction
from functools import partial

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl
from cases import JUNK
from step_cases import Capsule

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
