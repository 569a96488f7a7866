"""Log-probabilities of sequences without the array of logits: those of `sequence_log_prob`."""

import re
import tracemalloc

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from full_logits import HEADS, answer, check
from reference import ctc as reference
from step_cases import LAYOUTS, assert_same
from thoroughness import spread

B, T, D, V = 4, 5, 3, 7
RNG = np.random.default_rng(0)
HIDDEN, WEIGHT = RNG.normal(size=(B, T, D)), RNG.normal(size=(V, D))
TARGETS = RNG.integers(0, V, (B, T))
LENGTHS = np.array([5, 0, 3, 4])
MASK = RNG.random((B, T)) > 0.3
SLOPES = np.array([2.0, -1.0, 0.0, -0.3])
COUNTING = {
    "every": {},
    "lengths": {"lengths": LENGTHS},
    "mask": {"mask": MASK},
    "both": {"lengths": LENGTHS, "mask": MASK, "ignore_index": 3},
}
heads = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


@pytest.mark.parametrize(
    ("head", "counting", "average", "slopes", "chunk"),
    spread(HEADS.values(), COUNTING.values(), (False, True), (None, SLOPES), (None, 1, 4), every=3),
)
def test_as_with_logits(level, head, counting, average, slopes, chunk):
    options = counting | {"average": average}
    found = fsl.linear_sequence_log_prob(
        HIDDEN, WEIGHT, TARGETS, **options, **head, slopes=slopes, return_grad=True, chunk=chunk
    )
    expected = answer(fsl.sequence_log_prob, HIDDEN, WEIGHT, TARGETS, head=head, slopes=slopes, **options)
    check(found, expected)
    assert not np.signbit(found[0][found[0] == 0]).any()
    alone = fsl.linear_sequence_log_prob(HIDDEN, WEIGHT, TARGETS, **options, **head, chunk=chunk)
    np.testing.assert_allclose(alone, expected[0], rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_random_batches(level, seed, data):
    rng = np.random.default_rng(seed)
    steps = tuple(data.draw(st.integers(0, most)) for most in (4, 5, 2)[: data.draw(st.integers(0, 3))])
    features, classes = data.draw(st.integers(0, 9)), data.draw(st.sampled_from((1, 2, 7, 40, 3000)))
    hidden, weight = rng.normal(size=(*steps, features)), rng.normal(size=(classes, features))
    targets, mask = rng.integers(0, classes, steps), rng.random(steps) > 0.3
    hidden[~mask] = np.nan
    head = data.draw(st.sampled_from(({}, {"scale": 0.5}, {"softcap": 3.0}, {"bias": rng.normal(size=classes)})))
    options = {"mask": mask, "average": data.draw(st.booleans())}
    slopes = rng.choice([0.0, 1.0, -0.5], steps[:1])
    found = fsl.linear_sequence_log_prob(
        hidden, weight, targets, **options, **head, slopes=slopes, chunk=data.draw(st.sampled_from((None, 1, 2, 5)))
    )
    expected = answer(fsl.sequence_log_prob, hidden, weight, targets, head=head, slopes=slopes, **options)
    expected[1][0] = np.where(mask[..., None], expected[1][0], 0)
    check(found, expected)


@heads
def test_gradients_are_central_differences(head):
    found = fsl.linear_sequence_log_prob(HIDDEN, WEIGHT, TARGETS, LENGTHS, **head, slopes=SLOPES, average=True)[1]

    given = {"hidden": HIDDEN, "weight": WEIGHT, "targets": TARGETS, "lengths": LENGTHS, "average": True} | head
    for name in ("hidden", "weight", "bias"):
        if name in given:

            def objective(x, name=name):
                return float(fsl.linear_sequence_log_prob(**given | {name: x}) @ SLOPES)

            numeric = reference.central_differences(objective, given[name].copy(), 1e-6)
            np.testing.assert_allclose(numeric, getattr(found, name), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("head", [HEADS["plain"], HEADS["all"]])
def test_dtypes(level, dtype, head):
    hidden, weight = HIDDEN.astype(dtype), WEIGHT.astype(dtype)
    head = head | ({"bias": head["bias"].astype(dtype)} if "bias" in head else {})
    log_prob, grad = fsl.linear_sequence_log_prob(hidden, weight, TARGETS, LENGTHS, **head, slopes=SLOPES)
    assert log_prob.dtype == np.float64
    expected = answer(fsl.sequence_log_prob, hidden, weight, TARGETS, LENGTHS, head=head, slopes=SLOPES)
    assert all(g.dtype == dtype for g in grad if g is not None)
    eps = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(log_prob, expected[0], rtol=1e-5)
    check((expected[0], grad), expected, 1e-5 + eps)


def test_what_is_multiplied(monkeypatch):
    """A sequence of slope 0 needs one product, others three; steps that do not count need none."""
    from fastseqloss.linear import chunks

    rows = []
    real = chunks._Products.score

    def score(self, chunk):
        rows.append((self.gradients.wanted, sorted(set(chunk.rows // T))))
        return real(self, chunk)

    monkeypatch.setattr(chunks._Products, "score", score)
    fsl.linear_sequence_log_prob(HIDDEN, WEIGHT, TARGETS, LENGTHS, slopes=SLOPES)
    assert rows == [(False, [2]), (True, [0, 3])]
    rows.clear()
    fsl.linear_sequence_log_prob(HIDDEN, WEIGHT, TARGETS, LENGTHS)
    assert rows == [(False, [0, 2, 3])]


def test_infinite_and_missing_numbers():
    """A sequence without steps that count, or with slope 0, has gradient 0 for any hidden states."""
    hidden = HIDDEN.copy()
    hidden[1] = np.nan
    hidden[2, 3:] = np.inf
    expected = fsl.linear_sequence_log_prob(np.where(np.isfinite(hidden), hidden, 0), WEIGHT, TARGETS, LENGTHS,
                                            slopes=SLOPES)  # fmt: skip
    found = fsl.linear_sequence_log_prob(hidden, WEIGHT, TARGETS, LENGTHS, slopes=SLOPES)
    assert_same([found[0], *found[1][:2]], [expected[0], *expected[1][:2]])
    hidden[2] = np.nan  # of slope 0
    log_prob, grad = fsl.linear_sequence_log_prob(hidden, WEIGHT, TARGETS, LENGTHS, slopes=SLOPES)
    assert np.isnan(log_prob).tolist() == [False, False, True, False]
    assert_same(grad[:2], expected[1][:2])
    bias = np.array([-np.inf, *[0.0] * (V - 1)])
    log_prob = fsl.linear_sequence_log_prob(HIDDEN[0], WEIGHT, [0, 1, 2, 3, 4], bias=bias)
    assert np.isneginf(log_prob).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    expected = fsl.linear_sequence_log_prob(HIDDEN, WEIGHT, TARGETS, LENGTHS, slopes=SLOPES)
    out = fsl.LinearGradient(layout(np.full_like(HIDDEN, 7)), layout(np.full_like(WEIGHT, 7)), None)
    found = fsl.linear_sequence_log_prob(
        layout(HIDDEN), layout(WEIGHT), layout(TARGETS), layout(LENGTHS), slopes=layout(SLOPES), grad_out=out
    )
    check(found, (expected[0], list(expected[1])))
    assert found[1].hidden is out.hidden
    assert found[1].weight is out.weight
    frozen = fsl.linear_sequence_log_prob(
        HIDDEN, WEIGHT, TARGETS, LENGTHS, slopes=SLOPES, grad_out=(np.empty_like(HIDDEN), None, None)
    )
    check((frozen[0], [frozen[1].hidden, expected[1].weight, None]), (expected[0], list(expected[1])))
    assert frozen[1].weight is None


def test_gradients_over_the_arguments():
    """Also if sequences of slope 0 are read in a pass of their own."""
    expected = fsl.linear_sequence_log_prob(HIDDEN, WEIGHT, TARGETS, slopes=SLOPES, chunk=2)
    hidden, weight = HIDDEN.copy(), WEIGHT.copy()
    found = fsl.linear_sequence_log_prob(hidden, weight, TARGETS, slopes=SLOPES, chunk=2,
                                         grad_out=(hidden, weight, None))  # fmt: skip
    assert found[1].hidden is hidden
    assert_same([found[0], hidden, weight], [expected[0], *expected[1][:2]])


def test_threads_do_not_change_a_bit(level):
    rng = np.random.default_rng(1)
    hidden, weight = rng.normal(size=(6, 90, 8)).astype(np.float32), rng.normal(size=(900, 8)).astype(np.float32)
    targets, slopes = rng.integers(0, 900, (6, 90)), rng.normal(size=6)
    one, four = (fsl.linear_sequence_log_prob(hidden, weight, targets, slopes=slopes, num_threads=n) for n in (1, 4))
    assert_same([one[0], *one[1][:2]], [four[0], *four[1][:2]])


@pytest.mark.thorough
def test_memory():
    """A chunk of logits, not all of them."""
    hidden, weight = np.zeros((8, 512, 4), np.float32), np.zeros((5000, 4), np.float32)
    targets = np.zeros((8, 512), np.int64)
    for options in ({}, {"slopes": np.ones(8)}):
        tracemalloc.start()
        fsl.linear_sequence_log_prob(hidden, weight, targets, **options, chunk=256)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 256 * 5000 * 4 + 3e6


WRONG = {
    "hidden has shape (); allowed: [..., D]": {"hidden": 1.0},
    "hidden has dtype int64; allowed: float16": {"hidden": np.ones((B, T, D), int)},
    "weight has shape (7, 2); allowed: [V, 3]": {"weight": WEIGHT[:, :2]},
    "weight has shape (0, 3): no classes": {"weight": WEIGHT[:0]},
    "bias has shape (6,); allowed: (7,)": {"bias": np.zeros(6)},
    "targets[0, 1] is 9; allowed: 0 to 6, or -100": {"targets": np.where(np.arange(T) == 1, 9, TARGETS)},
    "targets has dtype float64; allowed: any integer dtype": {"targets": TARGETS + 0.0},
    "targets has shape (4, 4); allowed: (4, 5)": {"targets": TARGETS[:, :4]},
    "lengths[1] is 6; allowed: 0 to 5": {"lengths": [5, 6, 1, 1]},
    "mask has shape (4, 4); allowed: (4, 5)": {"mask": MASK[:, :4]},
    "ignore_index must be an integer": {"ignore_index": 1.5},
    "average must be a bool, got int": {"average": 1},
    "scale is 0.0; allowed": {"scale": 0.0},
    "softcap is -1.0; allowed": {"softcap": -1.0},
    "chunk is 0; allowed: 1 or more": {"chunk": 0},
    "slopes has shape (3,); allowed: (4,)": {"slopes": [1, 2, 3]},
    "slopes[1] is nan; allowed: finite": {"slopes": [1, np.nan, 2, 3]},
    "return_grad must be a bool, got int": {"return_grad": 1},
    "grad_out.hidden has shape (4, 5); allowed: (4, 5, 3)": {"grad_out": (np.zeros((B, T)), None, None)},
    "grad_out.bias is given, but bias is not; allowed: None": {"grad_out": (None, None, np.zeros(V))},
    "grad_out must be a LinearGradient": {"grad_out": np.zeros((B, T, D))},
    "num_threads is 0; allowed": {"num_threads": 0},
}


@pytest.mark.parametrize("said", WRONG)
def test_errors(said):
    given = {"hidden": HIDDEN, "weight": WEIGHT, "targets": TARGETS, "slopes": SLOPES} | WRONG[said]
    out = (np.full(HIDDEN.shape, 7.0), np.full(WEIGHT.shape, 7.0), None)
    for options in ({}, {"grad_out": out}):
        with pytest.raises((TypeError, ValueError), match=re.escape(said)):
            fsl.linear_sequence_log_prob(**options | given)
    assert (out[0] == 7).all()
    assert (out[1] == 7).all()
