"""Sums over many steps and sequences: their error does not grow with the count."""

from fractions import Fraction

import numpy as np
import pytest

import fastseqloss as fsl
from long_sums import STEPS, assert_total


@pytest.mark.parametrize("loss", [fsl.softmax_cross_entropy, fsl.nll_loss, fsl.multiclass_hinge_loss])
@pytest.mark.parametrize("shape", [(STEPS,), (1, STEPS), (STEPS, 1)])
def test_class_weights(loss, shape):
    # The weight of a class that all targets have cancels out of the mean.
    x, targets = np.tile([-1.0, -0.3], (*shape, 1)), np.zeros(shape, int)
    assert_total(loss(x, targets, class_weight=[0.1, 1.0]), Fraction(loss(x, targets)), 1)


@pytest.mark.parametrize("reduction", ["sum", "per_sequence"])
def test_reductions(reduction):
    # The steps of one sequence, or many sequences.
    shape = (1, STEPS, 1) if reduction == "per_sequence" else (STEPS, 1, 1)
    loss = fsl.mse_loss(np.full(shape, 0.3), np.zeros(shape), reduction=reduction)
    assert_total(np.sum(loss), Fraction(0.3 * 0.3))
