"""The oracles agree: the lattice with the enumeration, both with central differences."""

import numpy as np
import pytest
from hypothesis import assume, given

from cases import cases
from reference import ctc as reference

SMALL = {
    "dtypes": (np.float64,),
    "scales": (0.1, 1.0, 10.0),
    "smallest": 1,
    "largest": (1, 5, 4, 3),
}


@given(cases(**SMALL))
def test_lattice_matches_enumeration(case):
    case = case.sequence(0)
    loss, gradient = reference.ctc(case.scores[0], case.tokens[0], case.blank, case.kind)
    by_definition, slope = reference.ctc_brute_force(case.scores[0], case.tokens[0], case.blank, case.kind)
    np.testing.assert_allclose(loss, by_definition, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(gradient, slope, rtol=1e-13, atol=1e-13)


@given(cases(**SMALL | {"scales": (0.1, 1.0)}))
def test_gradient_matches_central_differences(case):
    case = case.sequence(0)
    loss, gradient = reference.ctc(case.scores[0], case.tokens[0], case.blank, case.kind)
    assume(np.isfinite(loss))
    numeric = reference.central_differences(
        lambda x: reference.ctc(x, case.tokens[0], case.blank, case.kind)[0], case.scores[0], 1e-6
    )
    np.testing.assert_allclose(numeric, gradient, rtol=1e-6, atol=1e-6)


def test_derivative_of_a_zero_probability():
    """P = p0 q1 + q0 p1 + q0 q1 for one label in two frames: dP/dq0 = p1 + q1, though q0 is 0."""
    blank, label = [0.25, 0.5], [0.0, 0.5]
    loss, gradient = reference.ctc(np.stack([blank, label], axis=1), [1], 0, "probs")
    assert loss == pytest.approx(-np.log(0.125))
    np.testing.assert_allclose(gradient, [[-0.5 / 0.125, -1.0 / 0.125], [0, -0.25 / 0.125]])


def test_collapse():
    assert reference.collapse([0, 1, 1, 0, 1, 2, 2, 0], 0) == [1, 1, 2]
