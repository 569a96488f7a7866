"""Sums over many frames: their error does not grow with the count."""

from fractions import Fraction

import numpy as np
import pytest

import fastseqloss as fsl
from long_sums import STEPS, assert_total


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
