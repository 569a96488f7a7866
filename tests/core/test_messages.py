"""Messages are short, however large what they show."""

from fractions import Fraction

import numpy as np
import pytest

import fastseqloss as fsl
from every_loss import TAGS, X


@pytest.mark.parametrize(
    "call",
    [
        lambda: fsl.mse_loss(X, X, reduction="x" * 10**6),
        lambda: fsl.mse_loss(X, X, reduction=list(range(10**6))),
        lambda: fsl.ctc_loss(X, [[1], [2]], input=np.arange(900)),
        lambda: fsl.structured_hinge_loss(X, TAGS, np.eye(4), cost="x" * 10**6),
        lambda: fsl.mse_loss(X, np.zeros(X.shape, [(f"f{i}", "i1") for i in range(2000)])),
        lambda: fsl.ctc_loss(np.zeros((30000, 1, 2)), np.ones((30000, 2), int), infeasible="raise"),
        lambda: fsl.ctc_align(np.zeros((30000, 1, 2)), np.ones((30000, 2), int), infeasible="raise"),
        lambda: fsl.weighted_sum([list(range(10**6))]),
        lambda: fsl.weighted_sum([(1, "x" * 10**6)]),
        lambda: fsl.weighted_sum([(1, lambda x: ("x" * 10**6, x))])(X),
        lambda: fsl.weighted_sum([(1, lambda x: (np.inf, x)), (-1, lambda x: (np.inf, x))] * 10000)(X),
        lambda: fsl.mse_loss(X, X, sample_weight=["x" * 10**6, "y"]),
        lambda: fsl.hinge_loss(X, X + 1, margin=-Fraction(10**5000 + 1, 10**5000)),
    ],
)
def test_messages_are_short(call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert len(str(caught.value)) < 1500


def test_infeasible_sequences_are_counted():
    with pytest.raises(ValueError, match=r"sequences: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\. \(12 in all\)$"):
        fsl.ctc_loss(np.zeros((12, 1, 2)), np.ones((12, 2), int), infeasible="raise")
    with pytest.raises(ValueError, match=r"sequences: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$"):
        fsl.ctc_loss(np.zeros((10, 1, 2)), np.ones((10, 2), int), infeasible="raise")


@pytest.mark.parametrize("labels", [["hello", "world"], np.array([["a", "b"], ["c", "d"]])])
def test_text_as_labels(labels):
    with pytest.raises(TypeError, match=r"labels has dtype <U\d; allowed: any integer dtype; it holds text"):
        fsl.ctc_loss(np.zeros((2, 5, 28)), labels)
