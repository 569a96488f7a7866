"""dpo_loss, simpo_loss, orpo_loss and kto_loss: beside their definitions, at the ends, and after sequence_log_prob."""

from functools import partial
from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from reference import preference as reference
from step_cases import assert_same

KINDS = ("sigmoid", "ipo", "hinge")
SMOOTHING = st.sampled_from((0.0, 0.1, 0.5))
PAIRS = {
    "sigmoid": partial(fsl.dpo_loss, kind="sigmoid"),
    "ipo": partial(fsl.dpo_loss, kind="ipo"),
    "hinge": partial(fsl.dpo_loss, kind="hinge"),
    "smoothed": partial(fsl.dpo_loss, label_smoothing=0.2),
    "simpo": fsl.simpo_loss,
    "orpo": fsl.orpo_loss,
    "likelihood": partial(fsl.orpo_loss, beta=0),
    "odds": partial(fsl.orpo_loss, nll_coef=0),
    "nothing": partial(fsl.orpo_loss, beta=0, nll_coef=0),
}
every_pair = pytest.mark.parametrize("loss", PAIRS.values(), ids=PAIRS)
EVERY = PAIRS | {
    "desirable": lambda x, _, **more: fsl.kto_loss(x, np.ones(np.shape(x), bool), kl=0.1, **more),
    "undesirable": lambda x, _, **more: fsl.kto_loss(x, np.zeros(np.shape(x), bool), kl=0.1, **more),
}
every_loss = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY)
ENDS = (-np.inf, -1.7e308, -1e39, -800.0, -1.0, -1e-17, -1e-300, 0.0)


def slopes(loss, chosen, rejected, step=1e-5) -> np.ndarray:
    """Derivatives of the losses [B] by both arguments, by differences of the fourth order."""
    found = []
    for k in range(2):
        at = [
            loss(*(x + (step * h if k == i else 0) for i, x in enumerate((chosen, rejected)))) for h in (-2, -1, 1, 2)
        ]
        found.append((at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * step))
    return np.array(found)


def check(loss, of_one, chosen, rejected, rtol=1e-12, kink=None) -> None:
    """Losses beside a reference of one pair, and gradients beside differences of the losses."""
    losses, gradients = loss(chosen, rejected, reduction="none", return_grad=True)
    expected = [of_one(*pair) for pair in zip(chosen, rejected, strict=True)]
    np.testing.assert_allclose(losses, expected, rtol=rtol, atol=1e-13)
    gradients = np.array(gradients if isinstance(gradients, tuple) else (gradients, 0 * chosen))
    smooth = np.ones(len(chosen), bool) if kink is None else ~kink(chosen - rejected)
    expected = slopes(partial(loss, reduction="none"), chosen, rejected)
    np.testing.assert_allclose(gradients[:, smooth], expected[:, smooth], rtol=1e-6, atol=1e-8)


@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.sampled_from((0.1, 1.0, 3.0)), SMOOTHING, st.booleans())
def test_dpo(seed, kind, beta, share, free):
    rng = np.random.default_rng(seed)
    chosen, rejected, *ref = rng.normal(-5, 2, (4, 3))
    ref = [np.zeros(3)] * 2 if free else ref
    options = {"beta": beta, "kind": kind, "label_smoothing": share}
    given = [None, None] if free else ref
    apart = ref[0] - ref[1]
    b = {tuple(pair): i for i, pair in enumerate(zip(chosen, rejected, strict=True))}

    def one(x, y):
        return reference.dpo(x, y, ref[0][b[x, y]], ref[1][b[x, y]], **options)

    def near(d):  # the kinks of the hinge, and of the one for swapped pairs
        return (np.abs(np.abs(beta * (d - apart)) - 1) < 1e-3) & (kind == "hinge")

    check(lambda x, y, **more: fsl.dpo_loss(x, y, *given, **options, **more), one, chosen, rejected, kink=near)


@given(st.integers(0, 2**32 - 1), st.sampled_from((0.0, 0.1, 2.0)), st.sampled_from((0.0, 0.5, 3.0)), SMOOTHING)
def test_simpo_and_orpo(seed, weight, margin, share):
    chosen, rejected = -np.random.default_rng(seed).exponential(1.0, (2, 3)) - 1e-3
    options = {"beta": weight + 0.5, "margin": margin, "label_smoothing": share}
    check(partial(fsl.simpo_loss, **options), partial(reference.simpo, **options), chosen, rejected)
    options = {"beta": weight, "nll_coef": margin}
    check(partial(fsl.orpo_loss, **options), partial(reference.orpo, **options), chosen, rejected)


@given(st.integers(0, 2**32 - 1), st.sampled_from((0.1, 2.0)), st.sampled_from((0.0, 1.5)), st.booleans())
def test_kto(seed, beta, kl, free):
    rng = np.random.default_rng(seed)
    log_probs, ref = rng.normal(-5, 2, (2, 4))
    ref, desirable = (np.zeros(4) if free else ref), rng.random(4) < 0.5
    options = {"kl": kl, "beta": beta, "desirable_weight": 1.5, "undesirable_weight": 0.25}

    def loss(x, _, **more):
        return fsl.kto_loss(x, desirable, None if free else ref, **options, **more)

    b = {x: i for i, x in enumerate(log_probs)}
    check(loss, lambda x, _: reference.kto(x, desirable[b[x]], ref[b[x]], **options), log_probs, log_probs)


@every_loss
def test_the_ends(loss):
    """Neither NaN nor gradients that are infinite."""
    chosen, rejected = np.array([*product(ENDS, ENDS)]).T
    losses, gradients = loss(chosen, rejected, reduction="none", return_grad=True)
    assert not np.isnan(losses).any()
    for gradient in gradients if isinstance(gradients, tuple) else (gradients,):
        assert np.isfinite(gradient).all()
    for reduction in ("sum", "mean"):
        total, gradients = loss(chosen, rejected, reduction=reduction, return_grad=True)
        assert not np.isnan(total)
        for gradient in gradients if isinstance(gradients, tuple) else (gradients,):
            assert np.isfinite(gradient).all()


def test_what_the_ends_are():
    none = {"reduction": "none", "return_grad": True, "beta": 1.0}
    loss, gradient = fsl.dpo_loss([-np.inf, -1.0, -np.inf], [-1.0, -np.inf, -np.inf], **none)
    np.testing.assert_allclose(loss, [np.inf, 0, np.log(2)])
    np.testing.assert_array_equal(gradient.chosen, [-1, 0, -0.5])
    np.testing.assert_array_equal(gradient.rejected, [1, 0, 0.5])
    loss, gradient = fsl.orpo_loss([0.0, -1.0, 0.0, -np.inf], [-1.0, 0.0, 0.0, -np.inf], **none)
    odds = 1 / (np.e - 1)
    np.testing.assert_allclose(loss, [0, np.inf, np.log(2), np.inf])
    # The derivative of log(1 + odds of the rejected / odds of the chosen) where the chosen one is certain.
    np.testing.assert_allclose(gradient.chosen[[0, 1, 3]], [-1 - odds, -1 - 1 / (1 - np.exp(-1)), -1.5])
    np.testing.assert_allclose(gradient.rejected[3], 0.5)
    loss, gradient = fsl.kto_loss([-np.inf, -np.inf], [True, False], **none)
    np.testing.assert_array_equal((loss, gradient), [[1, 0], [0, 0]])
    four = [[-1.7e308], [-1.0], [-1.0], [-1.7e308]]
    loss, gradient = fsl.dpo_loss(*four, **none)
    np.testing.assert_array_equal((loss, gradient.chosen), [[np.inf], [-1]])


@every_loss
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("second", [False, True])
def test_nan_and_inf_stay_in_their_pair(loss, bad, second):
    pairs = [bad, -1.0, -2.0], [-1.0, -2.0, -1.0]
    if second and loss not in PAIRS.values():
        loss, pairs = partial(fsl.kto_loss, beta=1e30, desirable_weight=0), (pairs[0], [1, 1, 0])
    elif second:
        pairs = pairs[::-1]
    losses, gradients = loss(*pairs, reduction="none", return_grad=True)
    np.testing.assert_array_equal(np.isnan(losses), [True, False, False])
    for gradient in gradients if isinstance(gradients, tuple) else (gradients,):
        np.testing.assert_array_equal(np.isnan(gradient), [True, False, False])
    weight = {"sample_weight": [0.0, 1.0, 2.0]}
    total, gradients = loss(*pairs, return_grad=True, **weight)
    assert np.isfinite(total)
    for gradient in gradients if isinstance(gradients, tuple) else (gradients,):
        assert gradient[0] == 0
        assert np.isfinite(gradient).all()


@every_loss
def test_reductions(loss):
    chosen, rejected = -np.random.default_rng(0).exponential(1.0, (2, 5))
    each, slopes = loss(chosen, rejected, reduction="none", return_grad=True)
    slopes = np.array(slopes)
    weight = np.array([0.0, 1.0, 0.5, 2.0, 3.0])
    for options, factor in (
        ({"reduction": "sum"}, np.ones(5)),
        ({}, np.full(5, 0.2)),
        ({"reduction": "sum", "normalizer": 4.0}, np.full(5, 0.25)),
        ({"sample_weight": weight}, weight / weight.sum()),
        ({"sample_weight": weight, "reduction": "sum"}, weight),
    ):
        total, gradients = loss(chosen, rejected, return_grad=True, **options)
        assert total == pytest.approx((each * factor).sum(), rel=1e-14)
        assert total == loss(chosen, rejected, **options)
        np.testing.assert_allclose(gradients, slopes * factor, rtol=1e-14)
    weighted = loss(chosen, rejected, reduction="none", sample_weight=weight)
    np.testing.assert_allclose(weighted, each * weight, rtol=1e-15)


@every_pair
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_gradients_given(loss, dtype):
    chosen, rejected = (-np.random.default_rng(0).exponential(1.0, (2, 5))).astype(dtype)
    value, gradients = loss(chosen, rejected, return_grad=True)
    wide = loss(chosen.astype(float), rejected.astype(float), return_grad=True)
    assert value == wide[0]
    assert gradients._fields == ("chosen", "rejected")
    for gradient, exact in zip(gradients, wide[1], strict=True):
        np.testing.assert_array_equal(gradient, exact.astype(dtype))
    outs = np.empty(10, dtype)[::2], None
    found = loss(chosen, rejected, grad_out=outs)[1]
    assert found.chosen is outs[0]
    assert found.rejected is None
    np.testing.assert_array_equal(outs[0], gradients.chosen)
    in_place = fsl.PreferenceGradient(chosen, rejected)
    assert loss(chosen, rejected, grad_out=in_place)[0] == value
    assert_same((chosen, rejected), tuple(gradients))


@every_loss
def test_one_pair(loss):
    value, gradients = loss(-1.0, -2.0, return_grad=True)
    many, expected = loss([-1.0], [-2.0], return_grad=True)
    assert isinstance(value, float)
    assert value == many == loss(-1.0, -2.0, reduction="none")
    for one, of_many in zip(np.atleast_1d(gradients), np.atleast_1d(expected), strict=True):
        assert one == of_many
    assert loss([], []) == 0
    assert loss([], [], reduction="none").shape == (0,)


def test_swapped_labels():
    rng = np.random.default_rng(0)
    pairs, refs = rng.normal(-5, 2, (2, 2, 4))
    for kind in KINDS:
        call = partial(fsl.dpo_loss, kind=kind, beta=0.3)
        half = call(*pairs, *refs, label_smoothing=0.5)
        assert half == pytest.approx(0.5 * call(*pairs, *refs) + 0.5 * call(*pairs[::-1], *refs[::-1]), rel=1e-14)


@every_pair
def test_after_sequence_log_prob(loss):
    """The gradient of the whole step by the logits."""
    rng = np.random.default_rng(1)
    logits, tokens = rng.normal(size=(4, 3, 3)), rng.integers(0, 3, (4, 3))
    lengths = np.array([3, 1, 3, 2])

    def step(x):
        log_probs = fsl.sequence_log_prob(x, tokens, lengths, average=True)
        value, by = loss(log_probs[:2], log_probs[2:], return_grad=True)
        slopes = np.concatenate(by)
        return value, fsl.sequence_log_prob(x, tokens, lengths, average=True, slopes=slopes)[1]

    assert fsl.check_grad(step, logits) < 1e-8


ONE = np.array([-1.0])


@pytest.mark.parametrize(
    ("error", "said", "call"),
    [
        (ValueError, r"chosen has shape \(1, 1\); allowed: \[B\], or a number", lambda: fsl.dpo_loss([[-1.0]], ONE)),
        (ValueError, r"rejected has shape \(\); allowed: \(1,\)", lambda: fsl.dpo_loss(ONE, -1.0)),
        (TypeError, "chosen has dtype int64; allowed: float", lambda: fsl.dpo_loss([-1], ONE)),
        (ValueError, "ref_rejected is None, but ref_chosen is given", lambda: fsl.dpo_loss(ONE, ONE, ONE)),
        (ValueError, "ref_chosen is None, but ref_rejected", lambda: fsl.dpo_loss(ONE, ONE, ref_rejected=ONE)),
        (ValueError, r"ref_chosen\[0\] is -inf; allowed: finite", lambda: fsl.dpo_loss(ONE, ONE, [-np.inf], ONE)),
        (ValueError, r"ref_chosen has shape \(2,\)", lambda: fsl.dpo_loss(ONE, ONE, [0, 0], ONE)),
        (ValueError, "kind is 'dpo'; allowed: 'sigmoid', 'ipo', 'hinge'", lambda: fsl.dpo_loss(ONE, ONE, kind="dpo")),
        (ValueError, "beta is 0; allowed: from 1e-30", lambda: fsl.dpo_loss(ONE, ONE, beta=0)),
        (ValueError, "label_smoothing is 0.6; allowed: ", lambda: fsl.dpo_loss(ONE, ONE, label_smoothing=0.6)),
        (ValueError, "reduction is 'batch_mean'", lambda: fsl.dpo_loss(ONE, ONE, reduction="batch_mean")),
        (TypeError, "grad_out must be a PreferenceGradient", lambda: fsl.dpo_loss(ONE, ONE, grad_out=ONE)),
        (ValueError, r"grad_out.chosen shares memory with rejected", lambda: fsl.dpo_loss(ONE, X, grad_out=(X, None))),
        (ValueError, "sample_weight has shape", lambda: fsl.simpo_loss(ONE, ONE, sample_weight=[1, 2])),
        (ValueError, "margin is -1; allowed: from 0", lambda: fsl.simpo_loss(ONE, ONE, margin=-1)),
        (ValueError, r"rejected\[0\] is 0.5; allowed: log-prob", lambda: fsl.orpo_loss(ONE, [0.5])),
        (ValueError, "chosen is 0.5; allowed: log-prob", lambda: fsl.orpo_loss(0.5, -1.0)),
        (ValueError, "nll_coef is -1", lambda: fsl.orpo_loss(ONE, ONE, nll_coef=-1)),
        (ValueError, r"desirable\[0\] is 2; allowed: 0 and 1", lambda: fsl.kto_loss(ONE, [2])),
        (ValueError, r"desirable has shape \(2,\); allowed: \(1,\)", lambda: fsl.kto_loss(ONE, [1, 0])),
        (ValueError, "kl is -1", lambda: fsl.kto_loss(ONE, [1], kl=-1)),
        (TypeError, "kl must be a", lambda: fsl.kto_loss(ONE, [1], kl=[1.0, 2.0])),
        (ValueError, r"ref_log_probs\[0\] is nan", lambda: fsl.kto_loss(ONE, [1], [np.nan])),
        (ValueError, "num_threads is 0", lambda: fsl.kto_loss(ONE, [1], num_threads=0)),
    ],
)
def test_errors(error, said, call):
    with pytest.raises(error, match=said):
        call()


X = np.array([-2.0])
