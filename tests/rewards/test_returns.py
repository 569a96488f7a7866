"""discounted_returns and generalized_advantages, beside their definitions."""

from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from long_sums import STEPS, assert_total
from reference import policy as reference_policy

UNIT = st.sampled_from((0.0, 0.5, 0.9, 1.0))


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 6), UNIT, UNIT, st.booleans(), st.booleans())
def test_against_the_definitions(level, seed, batch, n, discount, decay, ends, cut):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, batch, n))
    lengths = rng.integers(0, n, batch, endpoint=True)
    done = rng.random((batch, n)) < (0.3 if ends else 0)
    final = rng.normal(size=batch) if cut else np.zeros(batch)
    for b, m in enumerate(lengths):
        rewards[b, m:] = values[b, m:] = np.nan
    options = {"discount": discount, "done": done if ends else None, "final_values": final if cut else None}
    returns = fsl.discounted_returns(rewards, lengths, **options)
    gains = fsl.generalized_advantages(rewards, values, lengths, decay=decay, **options)
    assert returns.shape == gains.shape == (batch, n)
    for b, m in enumerate(lengths):
        one = rewards[b, :m]
        expected = reference_policy.discounted_returns(one, discount, done[b, :m], final[b])
        np.testing.assert_allclose(returns[b, :m], expected, atol=1e-13)
        rest = values[b, :m], discount, decay, done[b, :m], final[b]
        expected = reference_policy.generalized_advantages(one, *rest)
        np.testing.assert_allclose(gains[b, :m], expected, atol=1e-13)
        assert not returns[b, m:].any()
        assert not gains[b, m:].any()


def test_without_decay_advantages_are_returns_less_values():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 3, 8))
    options = {"discount": 0.9, "final_values": rng.normal(size=3)}
    expected = fsl.discounted_returns(rewards, **options) - values
    np.testing.assert_allclose(fsl.generalized_advantages(rewards, values, decay=1, **options), expected, atol=1e-13)


def test_one_sequence():
    rewards, values, done = [1, 2, 3], [0.5, 0.5, 0.5], [False, True, False]
    many = fsl.discounted_returns([rewards], discount=0.5, done=[done], final_values=[8])
    np.testing.assert_array_equal(many, [[2, 2, 7]])
    for final in (8, [8]):
        one = fsl.discounted_returns(rewards, discount=0.5, done=done, final_values=final)
        np.testing.assert_array_equal(one, many[0])
    np.testing.assert_array_equal(fsl.generalized_advantages(rewards, values, 2, done=done, decay=0), [1, 1.5, 0])


@pytest.mark.parametrize(
    ("error", "said", "changes"),
    [
        (ValueError, r"rewards\[0, 1\] is nan; allowed: finite", {"rewards": [[0, np.nan]]}),
        (ValueError, r"values has shape \(2,\); allowed: \(1, 2\)", {"values": [0, 1]}),
        (ValueError, "rewards has shape", {"rewards": 1.0}),
        (TypeError, "done has dtype float64; allowed: bool", {"done": [[0, 1.0]]}),
        (ValueError, r"done\[0, 1\] is 2; allowed: 0 and 1, or bool", {"done": [[0, 2]]}),
        (ValueError, r"done has shape \(2,\)", {"done": [True, False]}),
        (ValueError, r"lengths\[0\] is 3; allowed: 0 to 2", {"lengths": [3]}),
        (ValueError, "discount is 1.5; allowed: from 0 to 1", {"discount": 1.5}),
        (ValueError, "decay is -1; allowed: from 0 to 1", {"decay": -1}),
        (ValueError, r"final_values\[0\] is inf; allowed: finite", {"final_values": [np.inf]}),
    ],
)
def test_errors(error, said, changes):
    with pytest.raises(error, match=said):
        fsl.generalized_advantages(**({"rewards": [[0, 1]], "values": [[0, 1]]} | changes))


def test_returns_of_many_steps():
    assert_total(fsl.discounted_returns(np.full(STEPS, 0.1), discount=1.0)[0], Fraction(0.1))
    done = np.zeros(STEPS, bool)
    done[STEPS // 2 - 1] = True
    sums = fsl.discounted_returns(np.full(STEPS, 0.1), discount=1.0, done=done)
    assert_total(sums[0], Fraction(0.1), STEPS // 2)
    assert sums[STEPS // 2 - 1] == 0.1


def test_returns_of_one_huge_reward():
    assert list(fsl.discounted_returns(np.array([1e30, 1.0, -1e30]), discount=1.0)) == [1.0, -1e30, -1e30]
