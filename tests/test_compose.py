"""weighted_sum and check_grad."""

from decimal import Decimal
from functools import partial

import numpy as np
import pytest

import fastseqloss as fsl
from cases import HALF
from every_loss import X
from step_cases import DTYPES, FLOATS, assert_same

SHAPE = (2, 6, 5)
LABELS = [[1, 2], [3, 3]]


def scores(dtype=np.float64):
    return np.random.default_rng(0).normal(size=SHAPE).astype(dtype)


def squares(x):
    """A term of the user's."""
    wide = x.astype(np.float64)
    return float((wide**2).mean()), 2 * wide / wide.size


def terms():
    targets = np.random.default_rng(1).integers(0, 5, SHAPE[:2])
    return [
        (0.3, partial(fsl.ctc_loss, labels=LABELS)),
        (0.7, partial(fsl.softmax_cross_entropy, targets=targets, label_smoothing=0.1)),
        (1.0, squares),
        (-0.2, partial(fsl.mse_loss, targets=np.zeros(SHAPE))),
    ]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0], [2], [1]])
def test_it_is_the_sum(dtype, order):
    x, chosen = scores(dtype), [terms()[i] for i in order]
    expected, gradient = 0.0, np.zeros(SHAPE)
    for weight, term in chosen:
        loss, part = term(x) if term is squares else term(x, return_grad=True)
        expected, gradient = expected + weight * loss, gradient + weight * part.astype(np.float64)
    total = fsl.weighted_sum(chosen)
    loss, found = total(x, return_grad=True)
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert total(x) == loss
    assert found.dtype == dtype
    tolerance = {np.float64: 1e-15, np.float32: 1e-7}.get(dtype, 4e-3)
    np.testing.assert_allclose(found.astype(float), gradient, rtol=tolerance, atol=tolerance)
    out = np.empty(SHAPE, dtype)
    assert total(x, grad_out=out)[1] is out
    assert_same([out], [found])
    assert total(x, grad_out=x)[1] is x
    assert_same([x], [found])


def test_of_sums():
    inner = fsl.weighted_sum(terms()[:2])
    outer = fsl.weighted_sum([(2.0, inner), (0.5, squares)])
    flat = fsl.weighted_sum([(2 * weight, term) for weight, term in terms()[:2]] + [(0.5, squares)])
    loss, gradient = outer(scores(), return_grad=True)
    expected, slope = flat(scores(), return_grad=True)
    assert loss == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, slope, atol=1e-15)
    assert repr(inner) == "weighted_sum([(0.3, 'terms[0] (ctc_loss)'), (0.7, 'terms[1] (softmax_cross_entropy)')])"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_terms_own_arrays_are_left_alone(dtype):
    kept = np.ones(SHAPE, dtype)
    loss = fsl.weighted_sum([(3.0, lambda x: (1.0, kept)), (2.0, lambda x: (1.0, kept))])
    assert loss(scores(dtype)) == 5
    np.testing.assert_array_equal(loss(scores(dtype), return_grad=True)[1], 5)
    assert np.all(kept == 1)


def test_few_arrays_however_many_terms():
    """Losses of the package share one array besides the result."""
    seen = []

    def spy(x, *, return_grad=False, grad_out=None):
        seen.append(grad_out)
        return fsl.mse_loss(x, x + 1, return_grad=return_grad, grad_out=grad_out)

    out = np.empty(SHAPE)
    fsl.weighted_sum([(0.5, spy)] * 4)(scores(), grad_out=out)
    assert seen[0] is out
    assert seen[1] is not out
    assert all(array is seen[1] for array in seen[2:])


def test_weight_zero_is_not_called():
    def never(x):
        raise AssertionError

    loss, gradient = fsl.weighted_sum([(0, never), (0.0, never)])(scores(), return_grad=True)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    ("error", "said", "bad"),
    [
        (ValueError, "empty", []),
        (TypeError, r"terms\[0\] is 1; allowed: \(weight, loss\)", [1]),
        (TypeError, r"terms\[1\]\[1\] is 3; allowed: a callable", [(1, squares), (1, 3)]),
        (ValueError, r"terms\[0\]\[0\] is nan", [(np.nan, squares)]),
        (TypeError, r"terms\[0\]\[0\] must be a number, got str", [("1", squares)]),
    ],
)
def test_terms_that_are_none(error, said, bad):
    with pytest.raises(error, match=said):
        fsl.weighted_sum(bad)


@pytest.mark.parametrize(
    ("error", "said", "bad"),
    [
        (TypeError, r"terms\[1\] \(<lambda>\) returned float; allowed: \(loss, gradient\)", lambda x: 1.0),
        (ValueError, r"gradient of terms\[1\] \(<lambda>\) has shape \(3,\)", lambda x: (1.0, np.zeros(3))),
        (ValueError, r"loss of terms\[1\] \(<lambda>\) has shape \(2,\)", lambda x: (np.zeros(2), x)),
        (ValueError, r"loss of terms\[1\] \(<lambda>\) is None", lambda x: (None, x)),
        (
            ValueError,
            r"loss of terms\[1\] \(softmax_cross_entropy\) has shape \(2, 6\)",
            partial(fsl.softmax_cross_entropy, targets=np.zeros((2, 6), int), reduction="none"),
        ),
        (
            TypeError,
            r"terms\[1\] \(<lambda>\) returned gradients of several arguments",
            lambda x: fsl.crf_loss(x, np.zeros((2, 6), int), np.zeros((5, 5)), return_grad=True),
        ),
    ],
)
def test_errors_name_the_term(error, said, bad):
    with pytest.raises(error, match=said):
        fsl.weighted_sum([(1, squares), (1, bad)])(scores(), return_grad=True)


@pytest.mark.parametrize("return_grad", [False, True])
def test_what_a_term_raises_names_it(return_grad):
    bad = partial(fsl.softmax_cross_entropy, targets=[[9]])
    with pytest.raises(ValueError, match="targets has shape") as caught:
        fsl.weighted_sum([(1, squares), (1, bad)])(scores(), return_grad=return_grad)
    assert caught.value.__notes__ == ["in terms[1] (softmax_cross_entropy)"]


def test_bad_grad_out():
    with pytest.raises(ValueError, match="grad_out has shape"):
        fsl.weighted_sum(terms())(scores(), grad_out=np.zeros(3))


def gives(loss):
    """A term with that loss."""
    return lambda x: (loss, np.zeros(x.shape))


@pytest.mark.parametrize("options", [{}, {"return_grad": True}, {"grad_out": np.empty(SHAPE)}])
def test_losses_of_both_infinities_name_their_terms(options):
    impossible = partial(fsl.ctc_loss, labels=[[1] * 4, [1]])
    chosen = [(1.0, squares), (2.0, impossible), (0.5, gives(np.inf)), (-1.0, impossible)]
    said = r"terms\[1\] \(ctc_loss\), terms\[2\] \(<lambda>\) is inf and terms\[3\] \(ctc_loss\) is -inf"
    with pytest.raises(ValueError, match=said):
        fsl.weighted_sum(chosen)(scores(), **options)


@pytest.mark.parametrize("return_grad", [False, True])
@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([np.inf, 1.0, np.inf], np.inf),
        ([-np.inf, 1.0], -np.inf),
        ([np.nan, np.inf, -np.inf], np.nan),
        ([1e308, 1.7e308], np.inf),
        ([-1e308, -1.7e308], -np.inf),
        ([1e308, 1e308, -1e308], 1e308),
        ([1e16, 1.0, -1e16], 1.0),
    ],
)
def test_sums_at_the_ends_of_floats(losses, expected, return_grad):
    with np.errstate(all="raise"):
        total = fsl.weighted_sum([(1, gives(loss)) for loss in losses])(scores(), return_grad=return_grad)
    np.testing.assert_equal(total[0] if return_grad else total, expected)


# ---- check_grad -------------------------------------------------------------------------------


def test_right_gradients():
    for _, term in terms():
        assert fsl.check_grad(term, scores()) < 1e-8
    assert fsl.check_grad(fsl.weighted_sum(terms()), scores()) < 1e-8
    assert fsl.check_grad(fsl.weighted_sum(terms()), scores(HALF[0])) < 1e-8


def test_the_sum_of_an_array_of_losses():
    assert fsl.check_grad(partial(fsl.ctc_loss, labels=LABELS, reduction="none"), scores()) < 1e-8


def test_a_wrong_gradient():
    x = scores()

    def wrong(x):
        loss, gradient = squares(x)
        gradient[1, 2, 3] += 0.125
        return loss, gradient

    assert fsl.check_grad(wrong, x) == pytest.approx(0.125, rel=1e-6)
    assert_same([x], [scores()])


def test_many_elements():
    x = np.random.default_rng(0).normal(size=3000)
    assert fsl.check_grad(lambda x: (float((x**2).sum()), 2 * x), x, rng=1) < 1e-6
    assert fsl.check_grad(lambda x: (float((x**2).sum()), x), x, rng=np.random.default_rng(2)) > 1


def test_padding_and_masked_classes():
    x = scores()
    x[0, 4:] = np.nan
    x[1, 0, 2] = -np.inf
    targets = np.zeros(SHAPE[:2], int)
    assert fsl.check_grad(partial(fsl.softmax_cross_entropy, targets=targets, lengths=[4, 6]), x) < 1e-8


def test_not_a_number():
    assert np.isnan(fsl.check_grad(lambda x: (np.nan, x), np.ones(3)))
    assert np.isnan(fsl.check_grad(lambda x: (float(x.sum()), x * np.nan), np.ones(3)))


def test_no_gradient_to_check():
    with pytest.raises(TypeError, match=r"loss_fn \(<lambda>\) returned float"):
        fsl.check_grad(lambda x: 1.0, np.ones(3))
    with pytest.raises(ValueError, match=r"gradient of loss_fn \(<lambda>\) has shape \(2,\)"):
        fsl.check_grad(lambda x: (1.0, x[:2]), np.ones(3))


@pytest.mark.parametrize("dtype", [np.float32, *HALF])
def test_weighted_sum_with_weights_beyond_float32(dtype):
    x = np.linspace(-1, 1, 6).astype(dtype).reshape(1, 2, 3)
    y = np.where(x > 0, x, x + 1)
    mse, mae = partial(fsl.mse_loss, targets=y), partial(fsl.mae_loss, targets=y)
    terms = [(1e39, mse), (-1e39, mse), (1.0, mae)]
    for weights in ((1e39, -1e39, 1.0), (1e-60, 1.0, 0.0)):
        terms = list(zip(weights, (mse, mse, mae), strict=True))
        loss, gradient = fsl.weighted_sum(terms)(x, return_grad=True)
        assert not np.isnan(gradient.astype(np.float64)).any()
        alone = weights[1] * mse(x) if weights[2] == 0 else mae(x)
        assert np.isfinite(loss)
        assert loss == pytest.approx(alone, rel=1e-6) or weights[2]


def test_weighted_sum_of_losses_whose_sum_is_beyond_the_range():
    terms = [(1.0, lambda x: (1e308, x)), (1.0, lambda x: (1e308, x)), (-1.0, lambda x: (1.5e308, x))]
    assert fsl.weighted_sum(terms[:2])(np.zeros(1)) == np.inf
    assert fsl.weighted_sum(terms)(np.zeros(1)) == pytest.approx(5e307)


def test_weighted_sum_into_what_a_later_term_reads():
    x, y = np.arange(6.0).reshape(1, 2, 3), np.ones((1, 2, 3))
    first = partial(fsl.mae_loss, targets=np.zeros((1, 2, 3)))

    def bound(s, *, return_grad=False, grad_out=None):
        return fsl.mse_loss(s, held[0], return_grad=return_grad, grad_out=grad_out)

    for make in (
        lambda g: partial(fsl.mse_loss, targets=g),
        lambda g: fsl.weighted_sum([(2.0, partial(fsl.mse_loss, targets=g[:, :]))]),
        lambda g: bound,
    ):
        held = [y.copy()]
        expected = fsl.weighted_sum([(1.0, first), (1.0, make(held[0]))])(x, return_grad=True)
        out = held[0] = y.copy()
        loss, gradient = fsl.weighted_sum([(1.0, first), (1.0, make(out))])(x, grad_out=out)
        assert gradient is out
        assert loss == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])


# ---- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [1, None, np.array(1), 0.5, ...])
def test_terms_that_cannot_be_iterated(terms):
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
