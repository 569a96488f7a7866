"""Policy losses without the array of logits: those of `policy_gradient_loss` and `clipped_policy_loss`."""

import re
from functools import partial

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from full_logits import HEADS, answer, check
from reference import ctc as reference
from step_cases import LAYOUTS, REDUCTIONS, assert_same, reducings
from thoroughness import spread

B, T, D, V = 3, 5, 4, 7
RNG = np.random.default_rng(0)
HIDDEN, WEIGHT = RNG.normal(size=(B, T, D)), 0.5 * RNG.normal(size=(V, D))
ACTIONS = RNG.integers(0, V, (B, T))
BY_STEP, BY_SEQUENCE = RNG.normal(size=(B, T)), np.array([1.0, -2.0, 0.0])
OLD, REF = -2 + 0.5 * RNG.normal(size=(2, B, T))
LENGTHS = np.array([5, 0, 3])
MASK = RNG.random((B, T)) > 0.3
COUNTING = {"every": {}, "lengths": {"lengths": LENGTHS}, "both": {"lengths": LENGTHS, "mask": MASK}}
TERMS = {
    "plain": {},
    "entropy": {"entropy_coef": 0.3},
    "divergence": {"ref_log_probs": REF, "kl_coef": 0.2},
    "clipped": {"old_log_probs": OLD},
    "narrow": {"old_log_probs": OLD, "clip": (0.01, 0.02), "entropy_coef": 0.1},
    "everything": {"old_log_probs": OLD, "clip": 0.1, "entropy_coef": 0.1, "ref_log_probs": REF, "kl_coef": 0.2},
    "gspo": {"old_log_probs": OLD, "kind": "gspo", "clip": 0.1, "ref_log_probs": REF, "kl_coef": 0.2},
    "cispo": {"old_log_probs": OLD, "kind": "cispo", "ref_log_probs": REF, "kl_coef": 0.2, "kl_kind": "k1"},
    "bounded": {
        "old_log_probs": OLD,
        "dual_clip": 1.1,
        "max_log_ratio": 0.3,
        "entropy_coef": 0.1,
        "entropy_mask": MASK,
    },
}


def with_logits(terms):
    """The loss of logits that has these terms."""
    if "old_log_probs" in terms:
        rest = {name: value for name, value in terms.items() if name != "old_log_probs"}
        return partial(_clipped, old_log_probs=terms["old_log_probs"], **rest)
    return partial(fsl.policy_gradient_loss, **terms)


def _clipped(logits, actions, advantages, *, old_log_probs, **options):
    return fsl.clipped_policy_loss(logits, actions, old_log_probs, advantages, **options)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("head", "counting", "terms", "advantages", "reduction"),
    spread(HEADS.values(), COUNTING.values(), TERMS.values(), (BY_STEP, BY_SEQUENCE), REDUCTIONS, every=6),
)
def test_as_with_logits(level, head, counting, terms, advantages, reduction):
    chunk = 4 if head is HEADS["all"] or terms is TERMS["entropy"] else None
    options = counting | {"reduction": reduction, "sample_weight": [1.0, 0.5, 2.0] if chunk else None}
    found = fsl.linear_policy_loss(
        HIDDEN, WEIGHT, ACTIONS, advantages, **options, **head, **terms, chunk=chunk, return_grad=True
    )
    expected = answer(with_logits(terms), HIDDEN, WEIGHT, ACTIONS, advantages, head=head, **options)
    check(found, expected)
    alone = fsl.linear_policy_loss(HIDDEN, WEIGHT, ACTIONS, advantages, **options, **head, **terms, chunk=chunk)
    np.testing.assert_allclose(alone, expected[0], rtol=1e-12, atol=1e-12)
    assert isinstance(alone, np.ndarray if reduction in ("none", "per_sequence", "step_mean") else float)


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_random_batches(level, seed, data):
    """Also without sequences, steps or features; numbers of steps that do not count are NaN or junk."""
    rng = np.random.default_rng(seed)
    steps = tuple(data.draw(st.integers(0, most)) for most in (4, 5, 2)[: data.draw(st.integers(1, 3))])
    features, classes = data.draw(st.integers(0, 9)), data.draw(st.sampled_from((1, 2, 7, 40, 3000)))
    hidden, weight = rng.normal(size=(*steps, features)), rng.normal(size=(classes, features))
    actions, mask, advantages, old = (
        rng.integers(0, classes, steps),
        rng.random(steps) > 0.3,
        *rng.normal(size=(2, *steps)),
    )
    for array in (hidden, advantages, old):
        array[~mask] = np.nan
    actions[~mask] = -5
    terms = data.draw(st.sampled_from(({}, {"old_log_probs": old, "entropy_coef": 0.1})))
    head = data.draw(st.sampled_from(({}, {"scale": 0.5}, {"softcap": 3.0})))
    options = {"mask": mask} | data.draw(reducings(mask, (mask.ndim,) if mask.ndim > 1 else ()))
    found = fsl.linear_policy_loss(
        hidden, weight, actions, advantages, **options, **head, **terms, return_grad=True,
        chunk=data.draw(st.sampled_from((None, 1, 2, 5))),
    )  # fmt: skip
    expected = answer(with_logits(terms), hidden, weight, actions, advantages, head=head, **options)
    expected[1][0] = np.where(mask[..., None], expected[1][0], 0)
    check(found, expected)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("terms", [TERMS["divergence"], TERMS["everything"], TERMS["gspo"]])
def test_gradients_are_central_differences(head, terms):
    advantages = BY_SEQUENCE if terms is TERMS["gspo"] else BY_STEP  # the derivative for one advantage of all steps
    given = {"hidden": HIDDEN, "weight": WEIGHT, "actions": ACTIONS, "advantages": advantages, "mask": MASK}
    given |= head | terms
    _, found = fsl.linear_policy_loss(**given, return_grad=True)
    for name in ("hidden", "weight", "bias"):
        if name in given:

            def objective(x, name=name):
                return fsl.linear_policy_loss(**given | {name: x})

            numeric = reference.central_differences(objective, given[name].copy(), 1e-6)
            np.testing.assert_allclose(numeric, getattr(found, name), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("terms", [TERMS["plain"], TERMS["everything"]])
def test_dtypes(level, dtype, terms):
    hidden, weight, bias = (x.astype(dtype) for x in (HIDDEN, WEIGHT, HEADS["bias"]["bias"]))
    head = {"bias": bias, "scale": 0.5}
    loss, grad = fsl.linear_policy_loss(hidden, weight, ACTIONS, BY_STEP, **head, **terms, return_grad=True)
    expected = answer(with_logits(terms), hidden, weight, ACTIONS, BY_STEP, head=head)
    assert all(g.dtype == dtype for g in grad)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    check((expected[0], grad), expected, 1e-5 + float(ml_dtypes.finfo(dtype).eps))


@pytest.mark.parametrize("kind", ["ppo", "gspo", "cispo"])
@pytest.mark.parametrize("weight", [None, np.array([1.0, 0.0, 2.0]), np.where(RNG.random((B, T)) > 0.4, 1.5, 0.0)])
def test_diagnostics(level, kind, weight):
    """Those of the loss with logits, which count steps with a weight."""
    ours, theirs = fsl.PolicyDiagnostics(clip_fraction=7.0), fsl.PolicyDiagnostics()
    options = {"old_log_probs": OLD, "kind": kind, "clip": (0.1, 0.3), "ref_log_probs": REF, "max_log_ratio": 0.9}
    options |= COUNTING["both"] | {"sample_weight": weight}
    given = (HIDDEN, WEIGHT, ACTIONS, BY_STEP)
    alone = fsl.linear_policy_loss(*given, **options, chunk=4, return_grad=True)
    found = fsl.linear_policy_loss(*given, **options, chunk=4, return_grad=True, diagnostics=ours)
    assert_same([found[0], *found[1][:2]], [alone[0], *alone[1][:2]])
    with_logits(options)(HIDDEN @ WEIGHT.T, ACTIONS, BY_STEP, diagnostics=theirs)
    np.testing.assert_array_equal(ours.clipped, theirs.clipped)
    for name in ("log_probs", "entropies", "clip_fraction", "entropy", "old_divergence", "ref_divergence"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-12, atol=1e-15, err_msg=name)
    assert 0 < ours.clip_fraction <= 1


def test_diagnostics_of_the_plain_loss():
    found = fsl.PolicyDiagnostics(clip_fraction=7.0, old_divergence=7.0)
    fsl.linear_policy_loss(HIDDEN, WEIGHT, ACTIONS, BY_STEP, LENGTHS, diagnostics=found)
    assert (found.clip_fraction, found.old_divergence, found.ref_divergence) == (0, 0, 0)
    steps = np.arange(T) < LENGTHS[:, None]
    expected = -fsl.linear_cross_entropy(HIDDEN, WEIGHT, ACTIONS, LENGTHS, reduction="none")
    np.testing.assert_allclose(found.log_probs, expected, rtol=1e-12)
    assert (found.entropies > 0).tolist() == steps.tolist()


def test_weights_do_not_change_ratios_of_sequences():
    """A step of weight 0 has no loss, but a part in the ratio of its sequence."""
    weight = np.array([[1.0, 0.0, 0.5, 2.0, 0.0], [0.0] * 5, [0.0, 3.0, 1.0, 0.0, 1.0]])
    options = TERMS["gspo"] | {"reduction": "none", "lengths": LENGTHS}
    for call in (
        partial(fsl.linear_policy_loss, HIDDEN, WEIGHT, ACTIONS, BY_STEP, **options),
        partial(with_logits(options), HIDDEN @ WEIGHT.T, ACTIONS, BY_STEP),
    ):
        np.testing.assert_allclose(call(sample_weight=weight), weight * call(), rtol=1e-14)


def test_in_place_with_ratios_of_sequences():
    call = partial(fsl.linear_policy_loss, actions=ACTIONS, advantages=BY_STEP, lengths=LENGTHS, **TERMS["gspo"])
    loss, grad = call(HIDDEN, WEIGHT, return_grad=True, chunk=3)
    hidden, weight = HIDDEN.copy(), WEIGHT.copy()
    assert call(hidden, weight, grad_out=(hidden, weight, None), chunk=3)[0] == loss
    assert_same([hidden, weight], grad[:2])


@pytest.mark.parametrize("kind", ["ppo", "gspo"])
def test_padded_completions_are_never_multiplied(monkeypatch, kind):
    from fastseqloss.linear import chunks

    rows = []
    real = chunks._Products.score

    def score(self, chunk):
        rows.extend(chunk.rows.tolist())
        return real(self, chunk)

    monkeypatch.setattr(chunks._Products, "score", score)
    weights = {"lengths": LENGTHS, "mask": MASK, "sample_weight": [0.0, 1.0, 1.0]}
    terms = {"old_log_probs": OLD, "kind": kind, "return_grad": True}
    fsl.linear_policy_loss(HIDDEN, WEIGHT, ACTIONS, BY_STEP, **weights, **terms, chunk=2)
    assert rows == [2 * T + t for t in range(3) if MASK[2, t]] * (2 if kind == "gspo" else 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    given = {"actions": ACTIONS, "advantages": BY_STEP, "old_log_probs": OLD, "ref_log_probs": REF, "mask": MASK}
    expected = fsl.linear_policy_loss(HIDDEN, WEIGHT, **given, kl_coef=0.1, return_grad=True)
    out = fsl.LinearGradient(layout(np.full_like(HIDDEN, 7)), layout(np.full_like(WEIGHT, 7)), None)
    laid = {name: layout(array) for name, array in given.items()}
    found = fsl.linear_policy_loss(layout(HIDDEN), layout(WEIGHT), **laid, kl_coef=0.1, grad_out=out)
    check(found, (expected[0], list(expected[1])))
    assert found[1].hidden is out.hidden
    assert found[1].weight is out.weight
    hidden, weight = HIDDEN.copy(), WEIGHT.copy()
    fsl.linear_policy_loss(hidden, weight, **given, kl_coef=0.1, grad_out=(hidden, weight, None))
    check((expected[0], [hidden, weight, None]), (expected[0], list(expected[1])))


def test_threads_do_not_change_a_bit(level):
    rng = np.random.default_rng(1)
    hidden, weight = rng.normal(size=(6, 90, 8)).astype(np.float32), rng.normal(size=(900, 8)).astype(np.float32)
    actions, gains = rng.integers(0, 900, (6, 90)), rng.normal(size=6)
    call = partial(fsl.linear_policy_loss, hidden, weight, actions, gains, entropy_coef=0.1, return_grad=True)
    one, four = (call(num_threads=n) for n in (1, 4))
    assert_same([one[0], *one[1][:2]], [four[0], *four[1][:2]])


WRONG = {
    "hidden has shape (); allowed: [..., D]": {"hidden": 1.0},
    "weight has shape (7, 2); allowed: [V, 4]": {"weight": WEIGHT[:, :2]},
    "actions[0, 1] is 9; allowed: 0 to 6": {"actions": np.where(np.arange(T) == 1, 9, ACTIONS)},
    "actions has shape (3, 4); allowed: (3, 5)": {"actions": ACTIONS[:, :4]},
    "actions has dtype float64; allowed: any integer dtype": {"actions": ACTIONS + 0.0},
    "advantages has shape (2,); allowed: (3, 5), one for each step, or (3,)": {"advantages": [1.0, 2.0]},
    "advantages[1, 2] is inf; allowed: finite": {
        "advantages": np.where(np.arange(15).reshape(B, T) == 7, np.inf, BY_STEP)
    },
    "old_log_probs has shape (3,); allowed: (3, 5)": {"old_log_probs": np.zeros(B)},
    "old_log_probs[0, 0] is nan; allowed: finite": {"old_log_probs": np.full((B, T), np.nan)},
    "clip is 0.1, but old_log_probs is not given; allowed: None": {"clip": 0.1},
    "kind is 'gspo', but old_log_probs is not given; allowed: 'ppo'": {"kind": "gspo"},
    "kind is 'vpo'; allowed: 'ppo', 'gspo', 'cispo'": {"kind": "vpo", "old_log_probs": OLD},
    "dual_clip is 2.0; allowed: None with kind='cispo'": {"kind": "cispo", "dual_clip": 2.0, "old_log_probs": OLD},
    "diagnostics must be a PolicyDiagnostics, got dict": {"diagnostics": {}},
    "clip has shape (3,); allowed: a number, or two": {"clip": (1, 2, 3), "old_log_probs": OLD},
    "clip[0] is 2.0; allowed: from 0 to 1": {"clip": 2.0, "old_log_probs": OLD},
    "entropy_coef is -1; allowed": {"entropy_coef": -1},
    "kl_coef is 0.1; allowed: 0 without ref_log_probs": {"kl_coef": 0.1},
    "ref_log_probs has shape (3, 4); allowed: (3, 5)": {"ref_log_probs": REF[:, :4], "kl_coef": 1},
    "lengths[1] is 6; allowed: 0 to 5": {"lengths": [5, 6, 1]},
    "mask has dtype float64; allowed: bool": {"mask": MASK + 0.0},
    "reduction is 'avg'; allowed: 'none'": {"reduction": "avg"},
    "normalizer needs reduction='sum'": {"normalizer": 2.0},
    "sample_weight[1] is -1.0; allowed": {"sample_weight": [1.0, -1.0, 0.0]},
    "scale is nan; allowed": {"scale": np.nan},
    "softcap is 0.0; allowed": {"softcap": 0.0},
    "chunk must be an integer, got float": {"chunk": 2.0},
    "return_grad must be a bool, got int": {"return_grad": 1},
    "grad_out.weight has shape (7,); allowed: (7, 4)": {"grad_out": (None, np.zeros(V), None)},
    "num_threads is 0; allowed": {"num_threads": 0},
}


@pytest.mark.parametrize("said", WRONG)
def test_errors(said):
    given = {"hidden": HIDDEN, "weight": WEIGHT, "actions": ACTIONS, "advantages": BY_STEP} | WRONG[said]
    out = (np.full(HIDDEN.shape, 7.0), np.full(WEIGHT.shape, 7.0), None)
    for options in ({}, {"grad_out": out}):
        with pytest.raises((TypeError, ValueError), match=re.escape(said)):
            fsl.linear_policy_loss(**options | given)
    assert (out[0] == 7).all()
    assert (out[1] == 7).all()
