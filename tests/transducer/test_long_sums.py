"""Sums over many frames: their error does not grow with the count."""

import math
from fractions import Fraction

import numpy as np
import pytest

import fastseqloss as fsl
from long_sums import STEPS, assert_total

ROW = np.array([[0.0, -50.0, 0.1]])
LOG_SUM = Fraction(math.log(math.fsum(math.exp(x) for x in ROW[0])))


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
