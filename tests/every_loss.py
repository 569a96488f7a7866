"""A call of a loss of every family, for tests of arguments that all losses have."""

from functools import partial

import numpy as np
import pytest

import fastseqloss as fsl

X = np.zeros((2, 3, 4))
CLASSES = np.ones((2, 3), np.int64)
TAGS = np.array([[0, 1, 0], [2, 2, 3]])
LOSSES = {
    "softmax_cross_entropy": partial(fsl.softmax_cross_entropy, X, CLASSES),
    "mse_loss": partial(fsl.mse_loss, X, X + 1),
    "ctc_loss": partial(fsl.ctc_loss, X, [[1], [2]]),
    "ctc_risk_loss": partial(fsl.ctc_risk_loss, X, [[[1], [2]], [[2], [3]]], [[0.0, 1.0], [2.0, 1.0]]),
    "crf_loss": partial(fsl.crf_loss, X, TAGS, np.zeros((4, 4))),
    "structured_hinge_loss": partial(fsl.structured_hinge_loss, X, TAGS, np.zeros((4, 4))),
    "policy_gradient_loss": partial(fsl.policy_gradient_loss, X, CLASSES, np.ones(2)),
    "expected_risk_loss": partial(fsl.expected_risk_loss, X[0], np.ones((3, 4))),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
