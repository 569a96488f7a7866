"""policy_gradient_loss, clipped_policy_loss and expected_risk_loss."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from cases import HALF
from reference import policy as reference_policy
from reference import steps as reference_steps
from step_cases import (
    DTYPES,
    FLOATS,
    LAYOUTS,
    REDUCTIONS,
    THREADS,
    assert_gradient,
    assert_same,
    assert_within,
    reducings,
)
from thoroughness import spread


class Problem:
    """A batch with everything that both losses take. What does not count is NaN or junk."""

    def __init__(
        self, seed, shape=(3, 5, 7), dtype=np.float64, scale=1.0, per_sequence=False, holes=0.3, old=True, **kw
    ):
        rng = np.random.default_rng(seed)
        steps = shape[:-1]
        self.logits = rng.normal(scale=scale, size=shape).astype(dtype)
        self.actions = rng.integers(0, shape[-1], steps)
        self.lengths = rng.integers(0, shape[1], shape[0], endpoint=True)
        self.mask = rng.random(steps) >= holes
        self.advantages = rng.normal(size=shape[:1] if per_sequence else steps)
        log_p = self.logits.astype(np.float64)
        log_p = log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
        taken = np.take_along_axis(log_p, self.actions[..., None], -1)[..., 0]
        self.options = {}
        self.old = taken + rng.normal(scale=0.3, size=steps) if old else None
        if "kl_coef" in kw:
            self.options["ref_log_probs"] = taken + rng.normal(scale=0.5, size=steps)
        self.options |= kw
        self.counts = reference_steps.counting(steps, self.lengths, self.mask)
        by_step = None if per_sequence else self.advantages
        for array in (self.logits, self.old, self.options.get("ref_log_probs"), by_step):
            if array is not None:
                array[~self.counts] = np.nan
        self.actions[~self.counts] = -77

    def run(self, logits=None, **options):
        logits = self.logits if logits is None else logits
        options = {"return_grad": True, "mask": self.mask} | self.options | options
        if self.old is None:
            return fsl.policy_gradient_loss(logits, self.actions, self.advantages, self.lengths, **options)
        return fsl.clipped_policy_loss(logits, self.actions, self.old, self.advantages, self.lengths, **options)

    def check(self, **reducing):
        mask, weight = self.mask, reducing.get("sample_weight")
        if self.options.get("kind") == "gspo" and np.ndim(weight) > 1:  # such steps have no part in the ratio either
            mask = mask & (weight != 0)
        found = reference_policy.policy_steps(
            self.logits, self.actions, self.advantages, self.lengths, mask, old_log_probs=self.old, **self.options
        )
        loss, gradient = self.run(**reducing)
        expected, slope = reference_steps.reduce(found, **reducing)
        assert np.shape(loss) == expected.shape
        assert (gradient.dtype, gradient.shape) == (self.logits.dtype, self.logits.shape)
        assert not gradient[~self.counts].any()
        relative, absolute = (1e-12, 1e-12) if self.logits.dtype == np.float64 else (2e-6, 4e-7)
        # Weights of steps that do not count may be negative.
        sizes = np.where(self.counts, np.abs(found.loss) + found.size.max(axis=-1), 0)
        found.loss, found.gradient = relative * sizes, found.size
        allowed, per_gradient = reference_steps.reduce(found, **reducing)
        assert_within(loss, expected, allowed, "loss")
        assert_gradient(gradient, slope, absolute * per_gradient)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={"entropy_coef": st.sampled_from((0.0, 0.01, 1.0)), "kl_coef": st.sampled_from((0.0, 0.04, 1.0))},
)


@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 70)),
    st.sampled_from(FLOATS), st.sampled_from((0.1, 1.0, 5.0)), st.booleans(), st.booleans(), OPTIONS, st.data(),
)  # fmt: skip
def test_random_batches(level, seed, shape, dtype, scale, per_sequence, old, options, data):
    if old:
        options = options | {"clip": data.draw(st.sampled_from(((0.2, 0.2), (0.1, 0.4), (0.0, 0.0), (1.0, 5.0))))}
    problem = Problem(seed, shape, dtype, scale, per_sequence, old=old, **options)
    problem.check(**data.draw(reducings(problem.counts, (2,))))


@pytest.mark.parametrize(
    ("width", "dtype", "old"),
    spread([1, 2, 15, 16, 17, 64, 255, 256, 257, 1025, 4097], FLOATS, [False, True], every=2),
)
def test_rows_of_every_kind_of_width(level, width, dtype, old):
    Problem(width, (2, 9, width), dtype, old=old, entropy_coef=0.1, kl_coef=0.1).check(reduction="none")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_central_differences(level, old, reduction):
    problem = Problem(3, (3, 4, 5), old=old, entropy_coef=0.3, kl_coef=0.7)
    gradient = problem.run(reduction=reduction)[1]
    for i in zip(*np.nonzero(np.repeat(problem.counts[..., None], 5, -1)), strict=True):
        ends = []
        for step in (1e-6, -1e-6):
            moved = problem.logits.copy()
            moved[i] += step
            ends.append(np.sum(problem.run(moved, reduction=reduction, return_grad=False)))
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_threads_and_batch_mates_change_nothing(level, old, dtype):
    problem = Problem(5, (7, 90, 33), dtype, old=old, entropy_coef=0.1, kl_coef=0.1)
    alone = problem.run(reduction="none", num_threads=1)
    for threads in THREADS:
        assert_same(problem.run(reduction="none", num_threads=threads), alone)
    b = slice(2, 3)
    one = Problem(5, (7, 90, 33), dtype, old=old, entropy_coef=0.1, kl_coef=0.1)
    for name in ("logits", "actions", "lengths", "mask", "advantages", "old"):
        setattr(one, name, getattr(one, name)[b] if getattr(one, name) is not None else None)
    one.options["ref_log_probs"] = one.options["ref_log_probs"][b]
    assert_same(one.run(reduction="none"), [alone[0][b], alone[1][b]])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts_read_only_and_in_place(layout, dtype):
    problem = Problem(6, (4, 6, 9), dtype, entropy_coef=0.1, kl_coef=0.1)
    expected = problem.run()
    laid = layout(problem.logits)
    laid.flags.writeable = False
    assert_same(problem.run(laid), expected)
    work = layout(problem.logits)
    loss, gradient = problem.run(work, grad_out=work)
    assert gradient is work
    assert_same((loss, gradient), expected)


def test_sequence_advantages_are_those_of_all_its_steps():
    problem = Problem(7, per_sequence=True)
    expected = problem.run()
    problem.advantages = np.repeat(problem.advantages[:, None], 5, axis=1)
    assert_same(problem.run(), expected)


def test_the_clipped_loss_begins_as_the_plain_one(level):
    """While the policy has not moved, the ratio is 1 and the gradients are the same."""
    problem = Problem(8, old=False, holes=0)
    plain = problem.run()[1]
    problem.old = -fsl.softmax_cross_entropy(
        np.nan_to_num(problem.logits), np.maximum(problem.actions, 0), reduction="none"
    )
    np.testing.assert_allclose(problem.run()[1], plain, atol=1e-14)


def test_outside_the_clip_there_is_no_gradient(level):
    old = np.log([[0.5, 0.5, 0.5, 0.5]])
    logits = np.log([[[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.2, 0.8]]])
    loss, gradient = fsl.clipped_policy_loss(
        logits, [[0, 0, 0, 0]], old, [[1, -1, 1, -1]], clip=(0.2, 0.3), reduction="none", return_grad=True
    )
    np.testing.assert_allclose(loss, [[-1.3, 1.6, -0.4, 0.8]])
    np.testing.assert_array_equal(gradient.any(axis=-1), [[False, True, True, False]])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
@pytest.mark.parametrize("gain", [-1.0, 0.0, 1.0])
def test_masked_actions_give_no_nan(level, dtype, old, kl_coef, gain):
    logits = np.zeros((1, 3, 20), dtype)
    logits[0, 0, ::2] = -np.inf
    logits[0, 1] = -np.inf
    options = {"entropy_coef": 0.1, "kl_coef": kl_coef, "ref_log_probs": [[-1.0] * 3], "return_grad": True}
    arguments = ([[2, 0, 1]], [[-1.0] * 3], [gain]) if old else ([[2, 0, 1]], [gain])
    function = fsl.clipped_policy_loss if old else fsl.policy_gradient_loss
    loss, gradient = function(logits, *arguments, reduction="none", **options)
    assert not np.isnan(loss).any()
    assert not np.isnan(gradient.astype(float)).any()
    assert not gradient[0, 1].any()
    assert np.isfinite(loss[0, 2])
    if kl_coef:
        assert np.all(loss[0, :2] == np.inf)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ratios_beyond_all_bounds_give_no_nan(level, dtype):
    logits = np.array([[[0, 800.0, -800.0]]], dtype).repeat(4, 1)
    loss, gradient = fsl.clipped_policy_loss(
        logits, [[0, 2, 1, 2]], [[-1e5, -1e5, -1e5, -1e-3]], [[-1e9, 1, -3, -1]], ref_log_probs=[[-1.0] * 4],
        kl_coef=1e9, reduction="none", return_grad=True, sample_weight=[1e9],
    )  # fmt: skip
    assert not np.isnan(loss).any()
    assert not np.isnan(gradient).any()


def test_nan_stays_in_its_step(level):
    problem = Problem(9, holes=0, entropy_coef=0.1)
    b, t = np.argwhere(problem.counts)[0]
    clean = problem.run(reduction="none")
    problem.logits[b, t, 3] = np.nan
    loss, gradient = problem.run(reduction="none")
    assert np.isnan(loss[b, t])
    others = np.arange(problem.counts.size).reshape(problem.counts.shape) != b * 5 + t
    assert_same([loss[others], gradient[others]], [clean[0][others], clean[1][others]])


def test_nothing_that_counts():
    logits, actions = np.zeros((2, 3, 4)), np.zeros((2, 3), int)
    loss, gradient = fsl.policy_gradient_loss(logits, actions, [1, 2], [0, 0], return_grad=True)
    assert loss == 0
    assert not gradient.any()
    empty = fsl.clipped_policy_loss(
        np.zeros((0, 3, 4)), np.zeros((0, 3), int), np.zeros((0, 3)), np.zeros((0, 3)), return_grad=True
    )
    assert empty[0] == 0
    assert empty[1].shape == (0, 3, 4)


# ---- other ratios, bounds and estimators ------------------------------------------------------


@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 40)),
    st.sampled_from(FLOATS), st.booleans(), st.sampled_from(("ppo", "gspo", "cispo")),
    st.sampled_from((None, 1.0, 1.2)), st.sampled_from((None, 0.0, 0.3, 50.0)), st.sampled_from(("k1", "k2", "k3")),
    st.data(),
)  # fmt: skip
def test_kinds_bounds_and_estimators(level, seed, shape, dtype, per_sequence, kind, dual, most, estimator, data):
    options = {"kind": kind, "max_log_ratio": most, "clip": data.draw(st.sampled_from(((0.2, 0.2), (0.1, 0.0))))}
    options |= {"kl_kind": estimator, "kl_coef": 0.3, "entropy_coef": 0.1} | (
        {"dual_clip": dual} if kind != "cispo" else {}
    )
    problem = Problem(seed, shape, dtype, 1.0, per_sequence, **options)
    problem.options["entropy_mask"] = np.random.default_rng(seed).random(shape[:-1]) < 0.6
    problem.check(**data.draw(reducings(problem.counts, (2,))))


@pytest.mark.parametrize("options", [{"kind": "gspo"}, {"dual_clip": 1.1}, {"max_log_ratio": 0.4, "kl_kind": "k2"}])
def test_central_differences_of_each(options):
    """Also for ratios of sequences, if all steps of a sequence have the same advantage and weight."""
    problem = Problem(4, (3, 3, 3), per_sequence=True, holes=0, entropy_coef=0.3, kl_coef=0.7, clip=0.3, **options)
    problem.logits = np.nan_to_num(problem.logits)
    problem.lengths, problem.mask = np.array([3, 3, 2]), np.ones((3, 3), bool)
    problem.actions, problem.old = np.maximum(problem.actions, 0), np.nan_to_num(problem.old, nan=-1.5)
    problem.options["ref_log_probs"] = np.nan_to_num(problem.options["ref_log_probs"], nan=-1.5)
    for reduction in ("mean", "sequence_mean"):
        call = lambda x, way=reduction: problem.run(x, reduction=way)  # noqa: E731
        assert fsl.check_grad(call, problem.logits) < 1e-7


def test_weights_are_constants():
    """The gradient for "cispo" is that of the logarithm with the weights as they are."""
    problem = Problem(5, (3, 4, 5), kind="cispo", clip=(0.1, 0.3))
    taken = -fsl.softmax_cross_entropy(np.nan_to_num(problem.logits), np.maximum(problem.actions, 0), reduction="none")
    weights = np.clip(np.exp(taken - problem.old), 0.9, 1.3) * problem.advantages
    expected = fsl.policy_gradient_loss(
        problem.logits, problem.actions, weights, problem.lengths, mask=problem.mask, return_grad=True
    )
    loss, gradient = problem.run()
    assert loss == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["ppo", "gspo", "cispo"])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_extremes_of_each_kind(dtype, kind, estimator):
    """Ratios of 1e39 and more, and probabilities of 0: no NaN, and finite gradients with a bound of the ratios."""
    logits = np.array([[[0, 90.0, -800.0], [0, -np.inf, 1], [-np.inf] * 3, [0, 0, 0]]], dtype).repeat(2, 0)
    arguments = [[0, 1, 0, 2], [2, 1, 1, 1]], [[-180.0, -1e5, -1, -91], [-1, -1, -1, -1]], [3, -3]
    options = {"kl_coef": 0.5, "kl_kind": estimator, "ref_log_probs": [[-1e5, -1, -1, -1]] * 2, "entropy_coef": 0.1}
    for more in ({}, {"max_log_ratio": 20.0}, {} if kind == "cispo" else {"dual_clip": 3.0}):
        found = fsl.PolicyDiagnostics()
        loss, gradient = fsl.clipped_policy_loss(
            logits, *arguments, kind=kind, return_grad=True, reduction="none", diagnostics=found, **options, **more
        )
        assert not np.isnan(loss).any()
        assert not np.isnan(gradient).any()
        if "max_log_ratio" in more:
            assert np.isfinite(gradient).all()
        assert 0 <= found.clip_fraction <= 1
        assert not np.isnan([found.entropy, found.old_divergence, found.ref_divergence]).any()


@pytest.mark.parametrize("kind", ["ppo", "gspo", "cispo"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("most", [None, 0.05, 0.15])
def test_diagnostics(level, kind, weighted, most):
    problem = Problem(6, (4, 6, 5), kind=kind, kl_coef=0.1, kl_kind="k2", clip=(0.1, 0.2), max_log_ratio=most)
    most = np.inf if most is None else most
    weight = {"sample_weight": np.array([1.0, 0.0, 2.0, 0.5])} if weighted else {}
    found = fsl.PolicyDiagnostics()
    assert_same(problem.run(diagnostics=found, **weight), problem.run(**weight))
    counts = problem.counts & (np.array([[1], [0], [1], [1]]) > 0) if weighted else problem.counts
    logits = np.nan_to_num(problem.logits)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    taken = np.take_along_axis(log_p, np.maximum(problem.actions, 0)[..., None], -1)[..., 0]
    np.testing.assert_allclose(found.log_probs, np.where(counts, taken, 0), rtol=1e-12)
    entropies = np.where(counts, -(np.exp(log_p) * log_p).sum(-1), 0)
    np.testing.assert_allclose(found.entropies, entropies, rtol=1e-12)
    assert found.entropy == pytest.approx(entropies.sum() / counts.sum(), rel=1e-12)
    apart = np.where(counts, taken - problem.old, 0)
    bounded = np.clip(apart, -most, most)
    assert found.old_divergence == pytest.approx((np.expm1(bounded) - bounded).sum() / counts.sum(), rel=1e-12)
    r = np.clip(np.where(counts, problem.options["ref_log_probs"] - taken, 0), -most, most)
    assert found.ref_divergence == pytest.approx((r**2 / 2).sum() / counts.sum(), rel=1e-12)
    if kind == "gspo":
        apart = np.where(counts, (apart.sum(1) / np.maximum(counts.sum(1), 1))[:, None], 0)
    ratio, gains = np.exp(apart), np.nan_to_num(problem.advantages)
    clipped = np.where(gains > 0, ratio > 1.2, ratio < 0.9)
    if kind == "cispo":
        clipped = (ratio < 0.9) | (ratio > 1.2)
    clipped = counts & (clipped | (np.abs(apart) > most))
    np.testing.assert_array_equal(found.clipped, clipped)
    assert found.clip_fraction == pytest.approx(clipped.sum() / counts.sum())


def test_diagnostics_of_the_plain_loss():
    found = fsl.PolicyDiagnostics(clip_fraction=7.0, old_divergence=7.0)
    fsl.policy_gradient_loss([[0.0, 0.0], [9.0, 9.0]], [0, 1], [1.0, 1.0], mask=[True, False], diagnostics=found)
    assert (found.clip_fraction, found.old_divergence, found.ref_divergence) == (0, 0, 0)
    np.testing.assert_allclose(found.entropies, [np.log(2), 0])
    fsl.policy_gradient_loss(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0), diagnostics=found)
    assert found.entropy == 0
    assert found.log_probs.shape == (0,)


@pytest.mark.parametrize(
    ("error", "said", "options"),
    [
        (ValueError, "kind is 'vpo'; allowed: 'ppo', 'gspo', 'cispo'", {"kind": "vpo"}),
        (ValueError, "kl_kind is 'k4'; allowed: 'k1', 'k2', 'k3'", {"kl_kind": "k4"}),
        (ValueError, "dual_clip is 0.5; allowed: finite, 1 or more", {"dual_clip": 0.5}),
        (ValueError, "dual_clip is 2.0; allowed: None with kind='cispo'", {"dual_clip": 2.0, "kind": "cispo"}),
        (ValueError, "max_log_ratio is -1; allowed: finite, 0 or more", {"max_log_ratio": -1}),
        (ValueError, r"entropy_mask has shape \(2,\); allowed: \(1, 2\)", {"entropy_mask": [True, False]}),
        (ValueError, r"entropy_mask\[0, 1\] is 2", {"entropy_mask": [[0, 2]]}),
        (TypeError, "diagnostics must be a PolicyDiagnostics, got dict", {"diagnostics": {}}),
    ],
)
def test_errors_of_options(error, said, options):
    with pytest.raises(error, match=said):
        fsl.clipped_policy_loss(np.zeros((1, 2, 3)), [[0, 1]], [[-1.0, -1.0]], [1.0], **options)


# ---- expected risk ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weight", [None, np.array([1.0, 0.0, 2.5])])
def test_expected_risk(dtype, reduction, weight):
    rng = np.random.default_rng(0)
    x, risks, lengths = rng.normal(-20, 3, (3, 6)).astype(dtype), rng.random((3, 6)), np.array([6, 2, 4])
    scale = np.ones(3) if weight is None else weight
    scale = scale / scale.sum() if reduction == "mean" else scale
    expected, slope = np.zeros(3), np.zeros((3, 6))
    for b, n in enumerate(lengths):
        risk, d = reference_policy.expected_risk(x[b, :n].astype(float), risks[b, :n], 0.7)
        expected[b], slope[b, :n] = scale[b] * risk, scale[b] * d
        x[b, n:], risks[b, n:] = np.nan, np.nan
    options = {"sharpness": 0.7, "reduction": reduction, "sample_weight": weight}
    loss, gradient = fsl.expected_risk_loss(x, risks, lengths, return_grad=True, **options)
    np.testing.assert_allclose(loss, expected if reduction == "none" else expected.sum(), rtol=1e-13)
    assert gradient.dtype == dtype
    assert_gradient(gradient, slope, 1e-13 if dtype not in (np.float32, *HALF) else 1e-7)
    mask = np.arange(6) < lengths[:, None]
    assert_same(fsl.expected_risk_loss(x, risks, mask=mask, return_grad=True, **options), (loss, gradient))
    assert fsl.expected_risk_loss(x, risks, lengths, grad_out=x, **options)[1] is x
    assert_same([x], [gradient])


def test_expected_risk_where_nothing_is_possible():
    loss, gradient = fsl.expected_risk_loss(
        [[-np.inf, -np.inf], [-np.inf, 0]], [[1, 2], [1, 2]], reduction="none", return_grad=True
    )
    assert_same([loss, gradient], [[0, 2], np.zeros((2, 2))])
    assert fsl.expected_risk_loss(np.log([0.5, 0.5]), [1, 2], reduction="none") == 1.5


# ---- errors -----------------------------------------------------------------------------------

GOOD = {
    "logits": np.zeros((2, 3, 4)), "actions": np.zeros((2, 3), int), "old_log_probs": np.full((2, 3), -1.0),
    "advantages": np.ones((2, 3)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "said", "changes"),
    [
        (ValueError, r"actions\[1, 2\] is 4; allowed: 0 to 3", {"actions": [[0, 0, 0], [0, 0, 4]]}),
        (ValueError, r"actions\[0, 1\] is -1; allowed: 0 to 3", {"actions": [[0, -1, 0], [0, 0, 4]]}),
        (ValueError, r"actions has shape \(2,\)", {"actions": [0, 0]}),
        (TypeError, "actions has dtype float64", {"actions": np.zeros((2, 3))}),
        (ValueError, r"advantages\[0, 2\] is nan; allowed: finite", {"advantages": [[0, 0, np.nan], [0, 0, 0]]}),
        (ValueError, r"advantages\[1\] is inf; allowed: finite", {"advantages": [0, np.inf]}),
        (ValueError, r"advantages has shape \(3,\); allowed: \(2, 3\), .* or \(2,\)", {"advantages": [0, 1, 2]}),
        (TypeError, "advantages has dtype complex", {"advantages": np.zeros((2, 3), complex)}),
        (ValueError, r"old_log_probs\[1, 0\] is -inf", {"old_log_probs": [[0, 0, 0], [-np.inf, 0, 0]]}),
        (ValueError, r"old_log_probs has shape \(2,\)", {"old_log_probs": [0, 0]}),
        (TypeError, "old_log_probs is None", {"old_log_probs": None}),
        (ValueError, r"ref_log_probs\[0, 0\] is nan", {"ref_log_probs": np.full((2, 3), np.nan)}),
        (ValueError, "kl_coef is 0.1; allowed: 0 without ref_log_probs", {"kl_coef": 0.1}),
        (ValueError, "entropy_coef is -1; allowed: finite, 0 or more", {"entropy_coef": -1}),
        (ValueError, r"clip\[0\] is 1.5; allowed: from 0 to 1", {"clip": (1.5, 0.2)}),
        (ValueError, r"clip\[1\] is nan; allowed", {"clip": (0.2, np.nan)}),
        (ValueError, r"clip has shape \(3,\)", {"clip": (1, 2, 3)}),
        (ValueError, r"lengths\[0\] is 4; allowed: 0 to 3", {"lengths": [4, 0]}),
        (ValueError, "reduction is 'all'", {"reduction": "all"}),
        (ValueError, "grad_out has shape", {"grad_out": np.zeros(3)}),
    ],
)
def test_errors_come_before_anything_is_written(error, said, changes):
    arguments = GOOD | changes
    logits = arguments.pop("logits").copy()
    arguments.setdefault("grad_out", logits)
    with pytest.raises(error, match=said):
        fsl.clipped_policy_loss(logits, **arguments)
    assert not logits.any()


@pytest.mark.parametrize(
    ("said", "arguments", "options"),
    [
        (r"risks\[0, 1\] is nan", (np.zeros((1, 2)), [[0, np.nan]]), {}),
        (r"risks has shape \(2,\); allowed: \(1, 2\)", (np.zeros((1, 2)), [0, 1]), {}),
        ("sharpness is 0; allowed: finite, above 0", (np.zeros((1, 2)), np.zeros((1, 2))), {"sharpness": 0}),
        ("log_probs has shape", (np.zeros((1, 2, 3)), np.zeros((1, 2, 3))), {}),
        ("reduction is 'sequence_mean'", (np.zeros((1, 2)), np.zeros((1, 2))), {"reduction": "sequence_mean"}),
    ],
)
def test_errors_of_expected_risk(said, arguments, options):
    with pytest.raises(ValueError, match=said):
        fsl.expected_risk_loss(*arguments, **options)
