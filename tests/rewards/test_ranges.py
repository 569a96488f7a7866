"""Finite numbers at the ends of their ranges: losses and gradients are right, or infinite of the right sign; no NaN."""

import numpy as np
import pytest

import fastseqloss as fsl
from step_cases import FLOATS, REDUCING, ends
from thoroughness import spread


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_returns_and_advantages_of_large_rewards(level, discount):
    """Exact up to a unit: the same as of rewards 2^-30 as large, infinite where that is beyond the range."""
    rng = np.random.default_rng(0)
    most = np.finfo(np.float64).max
    for _ in range(50):
        rewards, values = rng.choice([0, most, -most, most / 4, 1.0], (2, 3, 5))
        final = rng.choice([0, most, -most], 3)
        options = {"discount": discount}
        for large, small in (
            (
                fsl.discounted_returns(rewards, final_values=final, **options),
                fsl.discounted_returns(rewards * 2.0**-30, final_values=final * 2.0**-30, **options),
            ),
            (
                fsl.generalized_advantages(rewards, values, final_values=final, **options),
                fsl.generalized_advantages(
                    rewards * 2.0**-30, values * 2.0**-30, final_values=final * 2.0**-30, **options
                ),
            ),
        ):
            with np.errstate(over="ignore"):
                np.testing.assert_allclose(large, small * 2.0**30, rtol=1e-14, atol=1)


@pytest.mark.parametrize(("dtype", "reducing", "sharpness"), spread(FLOATS, REDUCING, [1e-308, 1.0, 1e308], every=3))
def test_expected_risk_at_the_ends(dtype, reducing, sharpness):
    rng = np.random.default_rng(0)
    if reducing["reduction"] not in ("none", "sum", "mean"):
        reducing = reducing | {"reduction": "mean"}
    for _ in range(20):
        risks = rng.choice([0, 1, -1, 1.7e308, -1.7e308, 1e-300], (2, 6))
        scores = ends(rng, dtype, (2, 6))
        loss, gradient = fsl.expected_risk_loss(scores, risks, sharpness=sharpness, return_grad=True, **reducing)
        assert not np.isnan(loss).any()
        assert not np.isnan(gradient.astype(np.float64)).any()


def test_expected_risk_of_scores_as_far_apart_as_can_be():
    most = np.finfo(np.float64).max
    loss, gradient = fsl.expected_risk_loss([[most, -most]], [[0.0, 1.0]], sharpness=1 / most, return_grad=True)
    assert loss == pytest.approx(1 / (1 + np.exp(2)), rel=1e-12)
    loss, gradient = fsl.expected_risk_loss([[0.0, -2000.0, 0.0]], [[most, -most, most]], return_grad=True)
    assert loss == most
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_divergence_of_policies_far_apart(level, dtype):
    """At a log-ratio of 100 the gradient is that of the expression: beyond float32, infinite, of the right sign."""
    logits = np.array([[[0.0, 100.0, 100.0, -100.0]]], dtype)
    ref = [[-np.log(2.0)]]
    options = {"ref_log_probs": ref, "kl_coef": 1.0, "return_grad": True}
    loss, gradient = fsl.policy_gradient_loss(logits, [[0]], [0.0], **options)
    assert loss == pytest.approx(np.exp(100.0), rel=1e-5)
    exact = np.exp(100.0) * np.array([-1, 0.5, 0.5, 0.5 * np.exp(-200.0)])
    if dtype == np.float64:
        np.testing.assert_allclose(gradient[0, 0], exact, rtol=1e-12)
    else:
        np.testing.assert_array_equal(gradient[0, 0].astype(float), [-np.inf, np.inf, np.inf, 0.0])
    bounded = np.minimum(ref, -fsl.softmax_cross_entropy(logits, [[0]], reduction="none") + 5)
    _, gradient = fsl.policy_gradient_loss(logits, [[0]], [0.0], **(options | {"ref_log_probs": bounded}))
    slope = np.exp(5.0) - 1
    np.testing.assert_allclose(gradient[0, 0, :2].astype(float), [-slope, slope / 2], rtol=1e-2)
