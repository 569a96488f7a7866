"""Sums over many frames, steps and sequences: their error does not grow with the count.

All terms are alike, so that without compensation each addition rounds in the same direction.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

import fastseqloss as fsl

STEPS = 300_000
ROW = np.array([[0.0, -50.0, 0.1]])
LOG_SUM = Fraction(math.log(math.fsum(math.exp(x) for x in ROW[0])))


def assert_total(found, each, count=STEPS):
    assert abs(float(Fraction(float(found)) / (each * count) - 1)) < 3e-14


@pytest.mark.parametrize(
    ("row", "kind", "each"),
    [
        (ROW, "logits", LOG_SUM),
        (np.array([[-0.1, -50.0]]), "log_probs", Fraction(0.1)),
        (np.array([[0.9, 1e-3]]), "probs", Fraction(-math.log(0.9))),
        # An alternative that is too far down for the fast path, though it is never taken.
        (np.array([[-0.1, -1e30]]), "log_probs", Fraction(0.1)),
    ],
)
def test_ctc_loss(row, kind, each):
    assert_total(fsl.ctc_loss(np.tile(row, (STEPS, 1)), [], input=kind), each)


@pytest.mark.parametrize("topology", ["regular", "modified"])
def test_transducer(topology):
    for row, kind, each in (
        (ROW, "logits", LOG_SUM),
        (np.array([[-0.1, -50.0]]), "log_probs", Fraction(0.1)),
        (np.array([[-0.1, -1e30]]), "log_probs", Fraction(0.1)),
    ):
        x = np.tile(row, (STEPS, 1, 1))
        assert_total(fsl.rnnt_loss(x, [], input=kind, topology=topology), each)
        assert_total(-fsl.rnnt_align(x, [], input=kind, topology=topology).log_prob, each)


def test_ctc_align_and_greedy_decode():
    x = np.tile([[-0.1, -50.0]], (STEPS, 1))
    assert_total(fsl.ctc_align(x, [], input="log_probs").log_prob, Fraction(-0.1))
    assert_total(fsl.ctc_greedy_decode(x, input="log_probs").log_prob, Fraction(-0.1))
    assert_total(fsl.ctc_alignment_log_prob(x, [np.zeros(STEPS, int)])[0], Fraction(-0.1))


def test_crf_log_partition():
    x = np.full((STEPS, 1), 0.1)
    assert_total(fsl.crf_log_partition(x, np.zeros((1, 1))), Fraction(0.1))


def test_crf_decode():
    x = np.tile([[0.0, 0.1]], (STEPS, 1))
    path = fsl.crf_decode(x, np.full((2, 2), 0.3), start=[0.0, 0.7], end=[0.0, 0.9])
    assert_total(path.score, Fraction(0.1) + Fraction(0.3) + (Fraction(0.7 + 0.9) - Fraction(0.3)) / STEPS)


@pytest.mark.parametrize("cost", [np.array([[0, 0.7], [0.7, 0]]), "hamming"])
def test_structured_hinge_loss(cost):
    x, tags = np.tile([[0.0, 0.1]], (STEPS, 1)), np.zeros(STEPS, int)
    loss = fsl.structured_hinge_loss(x, tags, np.zeros((2, 2)), cost=cost, reduction="sum")
    assert_total(loss, Fraction(0.1) + (1 if isinstance(cost, str) else Fraction(0.7)))


@pytest.mark.parametrize("loss", [fsl.softmax_cross_entropy, fsl.nll_loss, fsl.multiclass_hinge_loss])
@pytest.mark.parametrize("shape", [(STEPS,), (1, STEPS), (STEPS, 1)])
def test_class_weights(loss, shape):
    # The weight of a class that all targets have cancels out of the mean.
    x, targets = np.tile([-1.0, -0.3], (*shape, 1)), np.zeros(shape, int)
    assert_total(loss(x, targets, class_weight=[0.1, 1.0]), Fraction(loss(x, targets)), 1)


def test_returns():
    assert_total(fsl.discounted_returns(np.full(STEPS, 0.1), discount=1.0)[0], Fraction(0.1))
    done = np.zeros(STEPS, bool)
    done[STEPS // 2 - 1] = True
    sums = fsl.discounted_returns(np.full(STEPS, 0.1), discount=1.0, done=done)
    assert_total(sums[0], Fraction(0.1), STEPS // 2)
    assert sums[STEPS // 2 - 1] == 0.1


def test_returns_of_one_huge_reward():
    assert list(fsl.discounted_returns(np.array([1e30, 1.0, -1e30]), discount=1.0)) == [1.0, -1e30, -1e30]


@pytest.mark.parametrize("reduction", ["sum", "per_sequence"])
def test_reductions(reduction):
    # The steps of one sequence, or many sequences.
    shape = (1, STEPS, 1) if reduction == "per_sequence" else (STEPS, 1, 1)
    loss = fsl.mse_loss(np.full(shape, 0.3), np.zeros(shape), reduction=reduction)
    assert_total(np.sum(loss), Fraction(0.3 * 0.3))
