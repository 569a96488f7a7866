"""Sums over many frames: their error does not grow with the count."""

import math
from fractions import Fraction

import numpy as np
import pytest

import fastseqloss as fsl
from long_sums import STEPS, assert_total

ROW = np.array([[0.0, -50.0, 0.1]])
LOG_SUM = Fraction(math.log(math.fsum(math.exp(x) for x in ROW[0])))


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


def test_ctc_align_and_greedy_decode():
    x = np.tile([[-0.1, -50.0]], (STEPS, 1))
    assert_total(fsl.ctc_align(x, [], input="log_probs").log_prob, Fraction(-0.1))
    assert_total(fsl.ctc_greedy_decode(x, input="log_probs").log_prob, Fraction(-0.1))
    assert_total(fsl.ctc_alignment_log_prob(x, [np.zeros(STEPS, int)])[0], Fraction(-0.1))
