"""Numbers with or without axes, and integers beyond 64 bits."""

import numpy as np
import pytest

import fastseqloss as fsl
from every_loss import CLASSES, X
from step_cases import Capsule, Foreign


@pytest.mark.parametrize("kind", [int, np.int32, np.array, Foreign, Capsule])
def test_one_length(kind):
    """Lengths of one sequence, with a batch axis or without."""
    two = kind(np.array(2)) if kind in (Foreign, Capsule) else kind(2)
    x, y, between = X[:1] + np.arange(4), [[1, 2, 3]], np.zeros((4, 4))
    calls = {
        "ctc_loss": lambda n: fsl.ctc_loss(x, y, n, n),
        "ctc_align": lambda n: fsl.ctc_align(x, y, n, n).path,
        "ctc_posteriors": lambda n: fsl.ctc_posteriors(x, y, n, n),
        "ctc_confidences": lambda n: fsl.ctc_confidences(x, y, n, n).confidences,
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
        "ctc_risk_loss": lambda n: fsl.ctc_risk_loss(x, [[[1], [2]]], [[0, 1]], n),
        "expected_risk_loss": lambda n: fsl.expected_risk_loss(x[0, :1], [[1, 2, 3, 4]], n),
        "list_softmax_loss": lambda n: fsl.list_softmax_loss(x[0, :1], [[1, 2, 3, 4]], n),
        "top1_max_loss": lambda n: fsl.top1_max_loss(x[0, :1], [0], n),
        "discounted_returns": lambda n: fsl.discounted_returns(y, n),
        "generalized_advantages": lambda n: fsl.generalized_advantages(y, y, n),
        "n_step_returns": lambda n: fsl.n_step_returns(y, y, n, n=2),
        "vtrace_returns": lambda n: fsl.vtrace_returns(y, y, y, n).returns,
        "retrace_returns": lambda n: fsl.retrace_returns(y, y, y, y, n),
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
        lambda n: fsl.ctc_risk_loss(x[0], [[1], [2]], [0, 1], sharpness=n),
        lambda n: fsl.dpo_loss(-x[0, 0], -x[0, 0], beta=n, label_smoothing=n),
        lambda n: fsl.kto_loss(-x[0, 0], [0, 1, 1, 0], kl=n, desirable_weight=n),
        lambda n: fsl.pairwise_hinge_loss(x[0], x[0], margin=n),
        lambda n: fsl.bpr_max_loss(x[0], [0, 1, 2], regularization=n),
        lambda n: fsl.discounted_returns([[1, 2]], discount=n, final_values=n),
        lambda n: fsl.generalized_advantages([1, 2], [1, 2], decay=n, final_values=n),
        lambda n: fsl.vtrace_returns([1, 2], [1, 2], [0.1, -0.1], clip_ratio=n, clip_trace=n).advantages,
        lambda n: fsl.group_advantages([1, 2], eps=n),
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


@pytest.mark.parametrize("value", [np.timedelta64(1, "s"), np.array(1, "m8[s]")])
def test_a_duration_is_not_a_number(value):
    """NumPy counts it among its integers."""
    for option in ("pos_weight", "label_smoothing"):
        with pytest.raises(TypeError, match=f"{option} must be a number, got timedelta64"):
            fsl.binary_cross_entropy([[0.5]], [[1]], **{option: value})
