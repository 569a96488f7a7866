"""Chunks of rows: any number of them gives the same, for any number of threads; rows that do not count are left out."""

import numpy as np
import pytest

import fastseqloss as fsl
import linear_cases
from fastseqloss.linear import chunks
from fastseqloss.linear.head import as_head_gradients, as_step_head
from linear_cases import NAMES, assert_near
from processes import printed
from step_cases import assert_same

every_loss = pytest.mark.parametrize("name", NAMES)


def problem(name, **options):
    rng = np.random.default_rng(0)
    if name == "linear_ctc_loss":
        return linear_cases.ctc(rng, (6, 40, 16), 300, 8, given={"dtype": np.float32}, **options)
    return linear_cases.cross_entropy(
        rng, (6, 40, 16), 300, lengths=True, ignored=0.2, given={"dtype": np.float32}, **options
    )


@every_loss
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_threads(name, reduction):
    """The same bits with any number of threads, and again."""
    case = problem(name, reduction=reduction, chunk=100)
    loss, gradients = case.run(num_threads=1)
    for num_threads in (1, 2, 4):
        found, slopes = case.run(num_threads=num_threads)
        assert_same([found, *slopes], [loss, *gradients])


@every_loss
def test_sizes_of_chunks(name):
    case = problem(name)
    loss, gradients = case.run()
    for chunk in (1, 3, 41, 90, 10**6):
        found, slopes = case.run(chunk=chunk)
        assert_near(found, loss, 1e-6)
        for slope, gradient in zip(slopes, gradients, strict=True):
            assert_near(slope, gradient, 2e-6)


def test_more_classes_than_a_block():
    case = linear_cases.cross_entropy(np.random.default_rng(1), (30, 6), 5000, chunk=7, softcap=3.0)
    case.check(*case.run())


@pytest.mark.thorough
def test_many_features():
    """Several blocks of classes, whose number depends on the number of features."""
    case = linear_cases.cross_entropy(np.random.default_rng(3), (5, 9000), 700, chunk=2, softcap=3.0)
    case.check(*case.run())


def test_even_chunks():
    head = as_step_head(np.zeros((20, 2)), np.zeros((3, 2)), None, 1.0, None, 6)
    rows = np.arange(20)[::2]
    found = chunks.even_chunks(head, rows)
    assert [chunk.rows.tolist() for chunk in found] == [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18]]
    assert chunks.even_chunks(head, rows[:0]) == []


@pytest.mark.parametrize(("n_classes", "rows"), [(3, 512), (50257, 333), (128256, 256)])
def test_default_size(n_classes, rows):
    head = as_step_head(np.zeros((1, 1)), np.broadcast_to(np.float32(0), (n_classes, 1)), None, 1.0, None, None)
    assert chunks.rows_at_once(head) == rows


@every_loss
def test_rows_that_do_not_count_are_left_out(name, monkeypatch):
    """Products have the rows that count, no more."""
    case = problem(name, sample_weight=np.array([1.0, 0, 2, 1, 1, 0]))
    multiplied = []
    score = chunks._Products.score

    def counted(products, chunk):
        multiplied.append(len(chunk.rows))
        score(products, chunk)

    monkeypatch.setattr(chunks._Products, "score", counted)
    case.run()
    assert 0 < sum(multiplied) == case.counts.sum() < case.counts.size


def test_a_step_of_another_loss():
    """The engine calls any step: here, half the sum of the squared scores of some rows."""
    rng = np.random.default_rng(2)
    hidden, weight, bias = linear_cases.layer(rng, (9, 4), 7).values()
    head = as_step_head(hidden, weight, bias, 0.5, None, 2)
    gradients = as_head_gradients(head, True, None)
    rows, total = np.array([0, 1, 4, 7, 8]), []

    def step(chunk, scores):
        total.append((scores**2).sum() / 2)  # whose derivatives are the scores

    chunks.run_chunks(head, gradients, chunks.even_chunks(head, rows), step)
    loss, gradient = gradients.beside(sum(total))
    kept = np.zeros_like(hidden)
    kept[rows] = hidden[rows]
    scores = np.where(kept.any(axis=1, keepdims=True), 0.5 * (kept @ weight.T + bias), 0)
    assert loss == pytest.approx((scores**2).sum() / 2)
    assert_near(gradient.hidden, 0.5 * scores @ weight, 1e-12)
    assert_near(gradient.weight, 0.5 * scores.T @ kept, 1e-12)
    assert_near(gradient.bias, 0.5 * scores.sum(axis=0), 1e-12)


BLAS = """
import numpy as np
import fastseqloss as fsl
rng = np.random.default_rng(0)
hidden, weight = rng.normal(size=(64, 32)), rng.normal(size=(100, 32))
loss, gradient = fsl.linear_cross_entropy(hidden, weight, np.arange(64), return_grad=True)
print(loss.hex(), gradient.weight.tobytes().hex())
"""


@pytest.mark.thorough
def test_one_thread_of_blas():
    """With one thread of BLAS, processes give the same bits."""
    one = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
    assert printed(BLAS, **one) == printed(BLAS, **one)


def test_distributions_are_refused():
    with pytest.raises(TypeError, match="targets has dtype float64; allowed: any integer dtype"):
        fsl.linear_cross_entropy(np.zeros((2, 3)), np.zeros((4, 3)), np.full((2, 4), 0.25))
