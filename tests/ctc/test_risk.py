"""ctc_risk_loss: the definition, its gradient, candidates that are missing, and memory."""

import tracemalloc
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import JUNK, KINDS, random_tokens, scores_like
from fastseqloss.ctc import risk as module
from reference import ctc as reference
from reference.ctc import collapse
from step_cases import FLOATS, assert_same
from thoroughness import spread


def problem(rng, shape=(3, 9, 5, 4, 3), kind="logits", dtype=np.float64, scale=2.0):
    """Arguments of a batch of at most B, T, V, N, S, by name, with NaN and junk where nothing counts."""
    batch, frames, classes, count, width = shape
    scores = scores_like(rng.normal(scale=scale, size=(batch, frames, classes)), kind, dtype)
    lengths = rng.integers(frames // 2, frames, batch, endpoint=True)
    scores[np.arange(frames) >= lengths[:, None]] = np.nan
    sizes = rng.integers(0, width if classes > 1 else 0, (batch, count), endpoint=True)
    blank = int(rng.integers(classes))
    labels = np.full((batch, count, width), JUNK)
    for at in np.ndindex(batch, count):
        labels[at][: sizes[at]] = random_tokens(rng, sizes[at], classes, blank, 0.3)
    counted = rng.random((batch, count)) < 0.8
    risks = np.where(counted, rng.normal(scale=3, size=(batch, count)), np.nan)
    return {
        "logits": scores, "labels": labels, "risks": risks, "logit_lengths": lengths,
        "label_lengths": np.where(counted, sizes, -5), "mask": counted, "blank": blank, "input": kind,
    }  # fmt: skip


def expected(given, sharpness=1.0):
    """Risks [B], the gradient of their sum, and the size of its terms, by the slow reference."""
    risks, gradient = np.zeros(len(given["logits"])), np.zeros(given["logits"].shape)
    size = np.zeros(gradient.shape)
    for b, n in enumerate(given["logit_lengths"]):
        some = np.flatnonzero(given["mask"][b])
        rows = [given["labels"][b, i, : given["label_lengths"][b, i]] for i in some]
        risks[b], gradient[b, :n], size[b, :n] = reference.ctc_risk(
            given["logits"][b, :n], rows, given["risks"][b, some], given["blank"], given["input"], sharpness
        )
    return risks, gradient, size


def same_as_expected(given, found, sharpness=1.0):
    risks, gradient, size = expected(given, sharpness)
    allowed = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 1e-6}.get(given["logits"].dtype.name, 1e-12)
    np.testing.assert_allclose(found[0], risks, rtol=0, atol=1e-11)
    assert found[1].dtype == given["logits"].dtype
    size = np.maximum(1, size)
    np.testing.assert_allclose(found[1].astype(float) / size, gradient / size, rtol=0, atol=allowed)


@pytest.mark.parametrize(("dtype", "kind", "sharpness"), spread(FLOATS, KINDS, [1.0, 0.3, 4.0], every=3))
def test_definition(dtype, kind, sharpness):
    rng = np.random.default_rng(0)
    for _ in range(5):
        made = problem(rng, kind=kind, dtype=dtype)
        found = fsl.ctc_risk_loss(**made, sharpness=sharpness, reduction="none", return_grad=True)
        same_as_expected(made, found, sharpness)


@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.sampled_from([0.1, 1.0, 10.0, 1e3]))
def test_random_problems(seed, kind, scale):
    rng = np.random.default_rng(seed)
    shape = rng.integers((0, 0, 1, 0, 0), (4, 12, 7, 6, 5))
    made = problem(rng, tuple(int(n) for n in shape), kind, scale=scale)
    found = fsl.ctc_risk_loss(**made, reduction="none", return_grad=True)
    if scale < 1e3:  # digits of the reference
        same_as_expected(made, found)
    assert np.isfinite(found[0]).all()
    assert (fsl.ctc_risk_loss(**made, reduction="none") == found[0]).all()


@pytest.mark.parametrize("sharpness", [1.0, 0.5])
def test_enumeration(sharpness):
    """Over all label sequences, the risk is the expectation over all alignments, for sharpness 1."""
    rng = np.random.default_rng(0)
    frames, classes = 4, 3
    every = sorted({tuple(collapse(path, 0)) for path in product(range(classes), repeat=frames)})
    labels = np.array([[*row, *[JUNK] * (frames - len(row))] for row in every])
    sizes, risks, x = np.array([*map(len, every)]), rng.normal(size=len(every)), rng.normal(size=(frames, classes))

    def by_hand(x):
        log_p = reference.log_softmax(x).astype(float)
        odds = dict.fromkeys(every, 0.0)
        for path in product(range(classes), repeat=frames):
            odds[tuple(collapse(path, 0))] += np.exp(log_p[np.arange(frames), path].sum())
        share = np.array([odds[row] for row in every]) ** sharpness
        return float((share * risks).sum() / share.sum())

    loss, gradient = fsl.ctc_risk_loss(
        x, labels, risks, label_lengths=sizes, sharpness=sharpness, return_grad=True
    )  # fmt: skip
    assert loss == pytest.approx(by_hand(x), rel=1e-12)
    np.testing.assert_allclose(gradient, reference.central_differences(by_hand, x), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_central_differences(kind, reduction):
    made = problem(np.random.default_rng(1), (3, 6, 4, 4, 3), kind=kind, scale=0.5)  # smooth at the scale of a step
    x = np.where(np.isnan(made["logits"]), 0.2, made.pop("logits"))
    weight = {"sample_weight": [1.0, 0.0, 2.5], "reduction": reduction, "sharpness": 0.7}
    assert fsl.check_grad(partial(fsl.ctc_risk_loss, **made, **weight), x) < 1e-8


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weight", [None, np.array([1.0, 0.0, 2.5])])
def test_reductions(reduction, weight):
    made = problem(np.random.default_rng(2))
    risks, gradient = fsl.ctc_risk_loss(**made, reduction="none", return_grad=True)
    share = np.ones(3) if weight is None else weight
    share = share / share.sum() if reduction == "mean" else share
    loss, found = fsl.ctc_risk_loss(**made, reduction=reduction, sample_weight=weight, return_grad=True)
    np.testing.assert_allclose(loss, share * risks if reduction == "none" else (share * risks).sum(), rtol=1e-12)
    np.testing.assert_allclose(found, gradient * share[:, None, None], rtol=1e-12, atol=1e-16)
    halves = fsl.ctc_risk_loss(**made, reduction="sum", normalizer=2)
    assert halves == pytest.approx(risks.sum() / 2, rel=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_over_the_scores(dtype):
    made = problem(np.random.default_rng(3), dtype=dtype)
    expected = fsl.ctc_risk_loss(**made, return_grad=True)
    for layout in (np.copy, lambda x: x.swapaxes(0, 1).copy().swapaxes(0, 1), np.asfortranarray):
        scores = layout(made["logits"])
        loss, gradient = fsl.ctc_risk_loss(**made | {"logits": scores}, grad_out=scores)
        assert gradient is scores
        assert_same((loss, gradient), expected)


def test_same_bits_in_any_batch_and_on_any_number_of_threads(monkeypatch):
    rng = np.random.default_rng(4)
    made = problem(rng, (7, 60, 40, 5, 12), dtype=np.float32)
    every = fsl.ctc_risk_loss(**made, reduction="none", return_grad=True, num_threads=1)
    for threads in (2, 3, 8):
        assert_same(fsl.ctc_risk_loss(**made, reduction="none", return_grad=True, num_threads=threads), every)
    for b in range(7):
        one = {name: value[b] if isinstance(value, np.ndarray) else value for name, value in made.items()}
        assert_same(fsl.ctc_risk_loss(**one, return_grad=True), (every[0][b], every[1][b]))
    for most in (1, 500, 5000):
        monkeypatch.setattr(module, "_MOST_NUMBERS", most)
        assert_same(fsl.ctc_risk_loss(**made, reduction="none", return_grad=True), every)
    monkeypatch.setattr(module, "_MOST_SLOPES", 2000)
    few = fsl.ctc_risk_loss(**made, reduction="none", return_grad=True)
    assert_same(few[0], every[0])
    np.testing.assert_allclose(few[1], every[1], atol=1e-6)


def test_order_of_candidates():
    made = problem(np.random.default_rng(5))
    turned = made | {name: made[name][:, ::-1] for name in ("labels", "risks", "label_lengths", "mask")}
    for a, b in zip(fsl.ctc_risk_loss(**made, return_grad=True), fsl.ctc_risk_loss(**turned, return_grad=True),
                    strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_risks_of_a_beam():
    """With a beam wide enough, the loss is the expectation of the risk; fewer candidates than asked for are masked."""
    rng = np.random.default_rng(6)
    x, lengths = rng.normal(scale=2, size=(3, 3, 3)), [3, 1, 2]
    beams = fsl.ctc_beam_search(x, lengths, beam=100, n_best=100)
    found = beams.log_prob != -np.inf
    assert (found.sum(axis=1) == beams.n_found).all()
    risks = np.abs(beams.label_lengths - 1.0)
    risk = fsl.ctc_risk_loss(x, beams.labels, risks, lengths, beams.label_lengths, mask=found, reduction="none")
    np.testing.assert_allclose(risk, (np.exp(beams.log_prob) * risks).sum(axis=1), rtol=1e-12)
    with pytest.raises(ValueError, match=r"label_lengths\[0, \d+\] and \[0, \d+\] are 0; .* pass mask"):
        fsl.ctc_risk_loss(x, beams.labels, risks, lengths, beams.label_lengths)


def test_candidates_far_less_probable():
    """The gradient is small, and right to its own digits."""
    rng = np.random.default_rng(12)
    x = rng.normal(size=(8, 4))
    x[:, 3] -= 30
    labels = [[1, 2], [1, 3]]
    posteriors = [fsl.ctc_posteriors(x, row) for row in labels]
    odds = np.exp(fsl.ctc_loss(x, labels[0]) - fsl.ctc_loss(x, labels[1]))
    expected = np.zeros(x.shape)
    for sign, row, states in zip((-1, 1), labels, posteriors, strict=True):
        for c, state in zip([0, row[0], 0, row[1], 0], states.T, strict=True):
            expected[:, c] += sign * 5 * odds / (1 + odds) ** 2 * state
    for risks in ([2, 7], [-1e4, 5 - 1e4]):
        loss, gradient = fsl.ctc_risk_loss(x, labels, risks, return_grad=True)
        assert loss == pytest.approx(risks[0] + 5 * odds / (1 + odds), rel=1e-15)
        np.testing.assert_allclose(gradient[:, 1:], expected[:, 1:], rtol=1e-10, atol=1e-15 * odds)


def test_gradient_is_that_of_the_losses():
    """A descent step lowers the risk: the right candidate becomes more likely."""
    rng = np.random.default_rng(7)
    x, labels, risks = rng.normal(size=(20, 6)), [[1, 2, 3], [1, 2, 4], [1, 5, 3]], [0, 1, 1]
    risk, gradient = fsl.ctc_risk_loss(x, labels, risks, return_grad=True)
    assert fsl.ctc_risk_loss(x - gradient, labels, risks) < risk
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-15)


# ---- nothing to choose from, and scores that are not finite --------------------------------------


def test_candidates_of_probability_zero():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(4, 5))
    alone = fsl.ctc_risk_loss(x, [[1, 2], [2, 3]], [0.0, 1.0], return_grad=True)
    labels = [[1, 2, 0, 0, 0], [2, 3, 0, 0, 0], [1, 2, 3, 4, 1], [1, 1, 1, 0, 0]]
    more = fsl.ctc_risk_loss(x, labels, [0.0, 1.0, 99.0, -99.0], label_lengths=[2, 2, 5, 3], return_grad=True)
    np.testing.assert_allclose(more[0], alone[0], rtol=1e-14)
    np.testing.assert_allclose(more[1], alone[1], atol=1e-15)
    x[:, 4] = -np.inf
    np.testing.assert_allclose(fsl.ctc_risk_loss(x, [[1, 2], [4, 3], [2, 3]], [0, 9, 1]), alone[0], rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_no_candidates(kind):
    scores = scores_like(np.zeros((2, 3, 4)), kind)
    call = partial(fsl.ctc_risk_loss, scores, input=kind, reduction="none", return_grad=True)
    none = np.zeros((2, 0)), None, np.zeros((2, 0), int)
    for loss, gradient in (
        call(np.zeros((2, 0, 3), int), *none),
        call(np.full((2, 3, 2), JUNK), np.full((2, 3), np.nan), mask=np.zeros((2, 3), bool)),
        call([[[1, 1, 1]]] * 2, np.ones((2, 1))),  # too many labels for three frames
    ):
        assert not loss.any()
        assert not gradient.any()
        assert gradient.shape == scores.shape
    loss, gradient = fsl.ctc_risk_loss(scores[:0], np.ones((0, 2, 3), int), np.ones((0, 2)), return_grad=True)
    assert (loss, gradient.shape) == (0, (0, 3, 4))
    loss, gradient = fsl.ctc_risk_loss(scores[0, :0], [[1], [2]], [3, 5], label_lengths=[0, 1], return_grad=True)
    assert (loss, gradient.shape) == (3, (0, 4))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_are_not_finite(kind, bad):
    """Only log-probabilities and probabilities of classes that occur have an effect."""
    scores = scores_like(np.random.default_rng(9).normal(size=(2, 4, 5)), kind)
    call = partial(fsl.ctc_risk_loss, labels=[[[1], [2]]] * 2, risks=[[0, 1]] * 2, logit_lengths=[4, 3], input=kind)
    clean = call(scores, reduction="none", return_grad=True)
    for place, matters in (((1, 1, 2), True), ((1, 1, 4), kind == "logits"), ((1, 3, 2), False)):
        wrong = scores.copy()
        wrong[place] = bad
        loss, gradient = call(wrong, reduction="none", return_grad=True)
        if not matters:
            assert_same((loss, gradient), clean)
            continue
        assert np.isnan(loss).tolist() == [False, True]
        assert_same(gradient[0], clean[1][0])
        assert np.isnan(gradient[1, :3]).all()
        assert not gradient[1, 3].any()
        assert call(wrong, sample_weight=[1, 0], reduction="sum") == pytest.approx(clean[0][0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores(dtype):
    """An offset of all classes, and classes that do not occur, have no effect."""
    rng = np.random.default_rng(10)
    x = rng.integers(-4, 4, (1, 30, 6)).astype(dtype)
    labels, risks = [[[1, 2], [2, 1], [1, 1]]], [[0.0, 1.0, 2.0]]
    expected = fsl.ctc_risk_loss(x, labels, risks, return_grad=True)
    for shift in (2.0**20, -(2.0**20)):
        assert_same(fsl.ctc_risk_loss(x + dtype(shift), labels, risks, return_grad=True), expected)
    x[..., 5] = np.finfo(dtype).max
    assert_same(fsl.ctc_risk_loss(x, labels, risks, return_grad=True), expected)
    x[..., :3] = rng.choice([np.finfo(dtype).max, -np.finfo(dtype).max, 0], (1, 30, 3))
    loss, gradient = fsl.ctc_risk_loss(x, labels, risks, sharpness=1e300, return_grad=True)
    assert np.isfinite(loss)
    assert not np.isnan(gradient).any()


def test_probabilities_of_zero():
    """The derivative by a probability of 0 is that of the others' product."""
    probs = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.1, 0.6, 0.3]])
    call = partial(fsl.ctc_risk_loss, labels=[[1], [2]], risks=[0, 1], input="probs")
    gradient, step = call(probs, return_grad=True)[1], 1e-6
    for c in range(3):
        above = probs.copy()
        above[1, c] += step
        assert (call(above) - call(probs)) / step == pytest.approx(gradient[1, c], abs=1e-5)


def test_memory_does_not_grow_with_the_candidates():
    rng = np.random.default_rng(11)
    x = rng.normal(size=(1, 3000, 100)).astype(np.float32)
    out, peaks = np.empty_like(x), []
    for count in (1, 100):
        labels = rng.integers(1, 100, (1, count, 2))
        tracemalloc.start()
        fsl.ctc_risk_loss(x, labels, rng.random((1, count)), grad_out=out)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 25e6 < 100 * x.nbytes / 4  # bytes


# ---- errors ---------------------------------------------------------------------------------------

X = np.zeros((2, 4, 5))
GOOD = {"logits": X, "labels": [[[1, 2], [2, 1]]] * 2, "risks": [[0, 1]] * 2}


@pytest.mark.parametrize(
    ("error", "said", "changes"),
    [
        (ValueError, r"labels has shape \(2, 2\); allowed: \[B, N, S\] with B = 2", {"labels": [[1, 2], [2, 1]]}),
        (ValueError, r"labels has shape \(1, 2, 2\); allowed", {"labels": [[[1, 2], [2, 1]]]}),
        (ValueError, r"labels has shape \(2,\); allowed: \[N, S\] for one", {"logits": X[0], "labels": [1, 2]}),
        (ValueError, r"labels\[1, 0, 1\] is 5; allowed: 0 to 4, except 0", {"labels": [[[1, 1]], [[1, 5]]]}),
        (ValueError, r"labels\[0, 0, 1\] is -1; .* if it is padding, pass label_lengths", {"labels": [[[1, -1]]] * 2}),
        (ValueError, r"labels\[1, 1, 0\] is 2; .* except 2", {"blank": -3, "labels": [[[1, 1]] * 2, [[1, 1], [2, 1]]]}),
        (ValueError, r"labels\[1, 0\] is 2; allowed", {"logits": X[0], "labels": [[1, 1], [2, 1]], "blank": 2}),
        (TypeError, "labels has dtype float64; allowed: any integer dtype", {"labels": np.ones((2, 2, 2))}),
        (ValueError, "labels is not an array", {"labels": [[[1, 2], [1]], [[1, 2], [1]]]}),
        (ValueError, r"label_lengths has shape \(2,\); allowed: \(2, 2\)", {"label_lengths": [1, 1]}),
        (ValueError, r"label_lengths\[1, 0\] is 3; allowed: 0 to 2", {"label_lengths": [[1, 1], [3, 1]]}),
        (ValueError, r"label_lengths\[0, 1\] is -1; allowed: 0 to 2", {"label_lengths": [[1, -1], [2, 1]]}),
        (ValueError, r"label_lengths\[1, 0\] and \[1, 1\] are 0; .* mask", {"label_lengths": [[0, 1], [0, 0]]}),
        (ValueError, r"risks has shape \(2,\); allowed: \(2, 2\)", {"risks": [0, 1]}),
        (ValueError, r"risks\[1, 0\] is inf; allowed: finite", {"risks": [[0, 1], [np.inf, 1]]}),
        (TypeError, "risks has dtype", {"risks": [["a", "b"]] * 2}),
        (ValueError, r"mask has shape \(2,\); allowed: \(2, 2\)", {"mask": [1, 1]}),
        (ValueError, r"logit_lengths\[1\] is 5; allowed: 0 to 4", {"logit_lengths": [4, 5]}),
        (ValueError, "sharpness is 0; allowed: finite, above 0", {"sharpness": 0}),
        (ValueError, "reduction is 'sequence_mean'", {"reduction": "sequence_mean"}),
        (ValueError, "input is 'x'", {"input": "x"}),
        (ValueError, "blank is 5; allowed: -5 to 4", {"blank": 5}),
        (ValueError, r"sample_weight\[0\] is -1.0", {"sample_weight": [-1, 1]}),
        (ValueError, "num_threads is 0", {"num_threads": 0}),
        (ValueError, "grad_out has shape", {"grad_out": np.zeros(3)}),
    ],
)  # fmt: skip
def test_errors_come_before_anything_is_written(error, said, changes):
    given = GOOD | changes
    given["logits"] = given["logits"].copy()
    with pytest.raises(error, match=said):
        fsl.ctc_risk_loss(**{"grad_out": given["logits"]} | given)
    assert not given["logits"].any()
