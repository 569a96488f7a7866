"""Returns with discounts of each step and episodes that are cut off, n-step returns, V-trace, Retrace, and groups."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastseqloss as fsl
from reference import policy as reference

UNIT = st.sampled_from((0.0, 0.5, 0.9, 1.0, None))  # None for a number for each step


class Rollouts:
    """Random sequences of random episodes, some of them cut off; NaN where nothing is read."""

    def __init__(self, seed: int, batch: int, n: int, discount: float | None, decay: float | None):
        rng = np.random.default_rng(seed)
        self.rewards, self.values, self.taken, self.bootstrap = rng.normal(size=(4, batch, n))
        self.log_ratios = rng.normal(size=(batch, n))
        self.log_ratios[rng.random((batch, n)) < 0.1] = -np.inf
        self.log_ratios[rng.random((batch, n)) < 0.05] = 90.0  # a ratio of 1e39
        self.lengths = rng.integers(0, n, batch, endpoint=True)
        self.done, self.truncated = rng.random((2, batch, n)) < 0.2
        self.final = rng.normal(size=batch)
        self.discount, self.decay = (rng.random((batch, n)) if x is None else x for x in (discount, decay))
        inside = np.arange(n) < self.lengths[:, None]
        for array in (self.rewards, self.values, self.taken, self.log_ratios, self.discount, self.decay):
            if np.ndim(array):
                array[~inside] = np.nan
        self.bootstrap[~(inside & self.truncated & ~self.done)] = np.nan

    @property
    def options(self) -> dict:
        return {
            "lengths": self.lengths,
            "discount": self.discount,
            "done": self.done,
            "truncated": self.truncated,
            "bootstrap_values": self.bootstrap,
            "final_values": self.final,
        }

    def sequence(self, b: int) -> dict:
        """Arguments of the references for one sequence."""
        n = self.lengths[b]
        done, cut = self.done[b, :n], (self.truncated & ~self.done)[b, :n]
        after = np.where(cut, self.bootstrap[b, :n], 0.0)
        if n and not (done | cut)[-1]:
            after[-1] = self.final[b]
        discounts = np.broadcast_to(self.discount, self.rewards.shape)[b, :n]
        return {"rewards": self.rewards[b, :n], "discounts": discounts, "ends": done | cut, "after": after}

    def of(self, array, b: int) -> np.ndarray:
        return np.broadcast_to(array, self.rewards.shape)[b, : self.lengths[b]]


def check(found, rollouts, reference_of) -> None:
    assert found.shape == rollouts.rewards.shape
    for b, n in enumerate(rollouts.lengths):
        np.testing.assert_allclose(found[b, :n], reference_of(b), rtol=1e-12, atol=1e-12)
        assert not found[b, n:].any()


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 8), UNIT, UNIT, st.integers(1, 9))
def test_against_the_definitions(level, seed, batch, n, discount, decay, steps):
    x = Rollouts(seed, batch, n, discount, decay)
    gains = fsl.generalized_advantages(x.rewards, x.values, decay=x.decay, **x.options)
    with np.errstate(over="ignore"):
        ratios = np.exp(x.log_ratios)
    check(
        gains,
        x,
        lambda b: reference.advantages_of_states(**x.sequence(b), values=x.of(x.values, b), decays=x.of(x.decay, b)),
    )
    for count in (steps, 99):
        found = fsl.n_step_returns(x.rewards, x.values, n=count, **x.options)
        check(
            found,
            x,
            lambda b, count=count: reference.returns_of_states(**x.sequence(b), values=x.of(x.values, b), n=count),
        )
    np.testing.assert_array_equal(fsl.discounted_returns(x.rewards, **x.options), found)
    found = fsl.retrace_returns(x.rewards, x.taken, x.values, x.log_ratios, decay=x.decay, **x.options)
    check(
        found,
        x,
        lambda b: reference.retrace(
            **x.sequence(b),
            action_values=x.of(x.taken, b),
            values=x.of(x.values, b),
            ratios=x.of(ratios, b),
            decays=x.of(x.decay, b),
        ),
    )


@given(st.integers(0, 2**32 - 1), st.integers(0, 8), UNIT, UNIT, st.sampled_from((0.0, 0.7, 1.0, 5.0)))
def test_vtrace(level, seed, n, discount, decay, bound):
    x = Rollouts(seed, 3, n, discount, decay)
    clips = {"clip_ratio": bound, "clip_trace": min(bound, 1.0)}
    found = fsl.vtrace_returns(x.rewards, x.values, x.log_ratios, decay=x.decay, **clips, **x.options)
    with np.errstate(over="ignore"):
        ratios = np.exp(x.log_ratios)
    for k, array in enumerate(found):
        check(
            array,
            x,
            lambda b, k=k: reference.vtrace(
                **x.sequence(b),
                values=x.of(x.values, b),
                ratios=x.of(ratios, b),
                decays=x.of(x.decay, b),
                bounds=(bound, min(bound, 1.0)),
            )[k],
        )


def test_relations():
    """For actions of the policy itself, V-trace and Retrace equal the returns without correction."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 3, 6))
    options = {"discount": 0.9, "decay": 0.7, "final_values": rng.normal(size=3)}
    gains = fsl.generalized_advantages(rewards, values, **options)
    found = fsl.vtrace_returns(rewards, values, np.zeros((3, 6)), **options)
    np.testing.assert_allclose(found.returns, values + gains, rtol=1e-14)
    found = fsl.retrace_returns(rewards, values, values, np.zeros((3, 6)), **options)
    np.testing.assert_allclose(found, values + gains, rtol=1e-14)
    same = fsl.generalized_advantages(rewards, values, **options | {"discount": np.full((3, 6), 0.9)})
    np.testing.assert_array_equal(same, gains)


def test_named_targets():
    """The other rows of the table of targets in the documentation, step by step."""
    rng = np.random.default_rng(0)
    rewards, values, taken = rng.normal(size=(3, 7))
    probs, final, discount, decay = rng.random(7), 0.7, 0.9, 0.6
    after = np.append(values[1:], final)
    options = {"discount": discount, "final_values": final}
    one = fsl.n_step_returns(rewards, values, n=1, **options)
    np.testing.assert_allclose(one, rewards + discount * after, rtol=1e-14)
    expected, tree = np.zeros((2, 7))
    for t in range(6, -1, -1):
        mixed = final if t == 6 else (1 - decay) * values[t + 1] + decay * expected[t + 1]
        expected[t] = rewards[t] + discount * mixed
        # The value of the state, with the expected return of the action taken in place of its value.
        backed = final if t == 6 else values[t + 1] + probs[t + 1] * (tree[t + 1] - taken[t + 1])
        tree[t] = rewards[t] + discount * backed
    found = values + fsl.generalized_advantages(rewards, values, decay=decay, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    found = fsl.retrace_returns(rewards, taken, values, np.zeros_like(rewards), decay=probs, **options)
    np.testing.assert_allclose(found, tree, rtol=1e-13)


def test_cut_off_is_not_the_end():
    """A time limit in the middle of a rollout counts as two sequences, the first of them with a final value."""
    rewards, values, bootstrap = [1.0, 2.0, 3.0], [0.5, 0.25, 0.75], [9.0, 4.0, 9.0]
    cut = {"truncated": [False, True, False], "bootstrap_values": bootstrap, "discount": 0.5}
    for call in (fsl.discounted_returns, fsl.generalized_advantages):
        more = () if call is fsl.discounted_returns else (values,)
        first = call(rewards[:2], *(v[:2] for v in more), discount=0.5, final_values=4.0)
        second = call(rewards[2:], *(v[2:] for v in more), discount=0.5)
        np.testing.assert_array_equal(call(rewards, *more, **cut), [*first, *second])
        ended = call(rewards, *more, **cut, done=[0, 1, 0])
        np.testing.assert_array_equal(ended, call(rewards, *more, discount=0.5, done=[0, 1, 0]))


@pytest.mark.parametrize("large", [1.0, 1e250, 1.7e308])
def test_large_numbers(level, large):
    """Exact up to rounding, or infinite of the right sign; no NaN."""
    rng = np.random.default_rng(0)
    rewards, values, taken = rng.choice([0, large, -large, large / 4], (3, 4, 5))
    ratios = rng.choice([-np.inf, -1e300, 0.0, 90.0, 1.7e308], (4, 5))
    options = {"final_values": rng.choice([0, large, -large], 4), "discount": 0.5}
    small = {name: value * (2.0**-300 if name == "final_values" else 1) for name, value in options.items()}
    scale = 2.0**-300

    def each(rewards, values, taken, options):
        yield fsl.n_step_returns(rewards, values, n=2, **options)
        yield from fsl.vtrace_returns(rewards, values, ratios, **options)
        yield fsl.retrace_returns(rewards, taken, values, ratios, **options)

    exact = each(rewards * scale, values * scale, taken * scale, small)
    for found, other in zip(each(rewards, values, taken, options), exact, strict=True):
        assert not np.isnan(found).any()
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(found, other / scale, rtol=1e-13, atol=large * 1e-14)


ONE = [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("error", "said", "call"),
    [
        (ValueError, r"discount\[0, 1\] is 1.5; allowed: from 0 to 1", {"discount": [[0.5, 1.5]]}),
        (ValueError, r"discount has shape \(2,\); allowed: \(1, 2\)", {"discount": [0.5, 0.5]}),
        (ValueError, r"decay\[0, 0\] is nan; allowed: finite", {"decay": [[np.nan, 0.5]]}),
        (TypeError, "decay must be a number, got NoneType", {"decay": None}),
        (TypeError, "discount must be a number, got bool", {"discount": True}),
        (ValueError, "bootstrap_values is None, but truncated is given", {"truncated": [[0, 1]]}),
        (ValueError, "bootstrap_values is given, but truncated is not", {"bootstrap_values": ONE}),
        (ValueError, r"truncated\[0, 1\] is 2", {"truncated": [[0, 2]], "bootstrap_values": ONE}),
        (
            ValueError,
            r"bootstrap_values\[0, 1\] is inf; allowed: finite",
            {"truncated": [[0, 1]], "bootstrap_values": [[np.nan, np.inf]]},
        ),
    ],
)
def test_errors(error, said, call):
    with pytest.raises(error, match=said):
        fsl.generalized_advantages(ONE, ONE, **call)


@pytest.mark.parametrize(
    ("error", "said", "call"),
    [
        (ValueError, "n is 0; allowed: 1 or more", lambda: fsl.n_step_returns(ONE, ONE, n=0)),
        (TypeError, "n must be an integer, got float", lambda: fsl.n_step_returns(ONE, ONE, n=1.0)),
        (
            ValueError,
            r"log_ratios\[0, 0\] is nan; allowed: finite, or -inf",
            lambda: fsl.vtrace_returns(ONE, ONE, [[np.nan, 0]]),
        ),
        (
            ValueError,
            r"log_ratios\[0, 0\] is inf; allowed: finite, or -inf",
            lambda: fsl.vtrace_returns(ONE, ONE, [[np.inf, 0]]),
        ),
        (ValueError, "clip_trace is 2; allowed: from 0 to 1", lambda: fsl.vtrace_returns(ONE, ONE, ONE, clip_trace=2)),
        (ValueError, "clip_ratio is -1", lambda: fsl.vtrace_returns(ONE, ONE, ONE, clip_ratio=-1)),
        (ValueError, r"action_values has shape \(1,\)", lambda: fsl.retrace_returns(ONE, [1], ONE, ONE)),
    ],
)
def test_errors_of_each(error, said, call):
    with pytest.raises(error, match=said):
        call()


# ---- groups ------------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(("mean", "leave_one_out")),
    st.sampled_from(("group", "batch", "none")),
    st.sampled_from((0, 1)),
    st.sampled_from((0.0, 1e-4)),
)
def test_groups(seed, baseline, scale, ddof, eps):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat([7, -3, 2**40], [2, 3, 5]))
    rewards = rng.choice([0.0, 0.1, 1.0], 10)
    found = fsl.group_advantages(rewards, groups, baseline=baseline, scale=scale, ddof=ddof, eps=eps)
    for i, group in enumerate(groups):
        own = rewards[groups == group]
        others = rewards[(groups == group) & (np.arange(10) != i)]
        expected = rewards[i] - (own if baseline == "mean" else others).mean()
        if scale != "none":
            expected /= max((own if scale == "group" else rewards).std(ddof=ddof) + eps, 1e-300)
        if (own == own[0]).all():
            assert found[i] == 0
        else:
            np.testing.assert_allclose(found[i], expected, rtol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 2.0**-1030, 1e-4, 1.0, 1e30])
@pytest.mark.parametrize("scale", ["group", "batch"])
def test_small_rewards(scale, eps):
    """Rewards near the least numbers, whose deviations are far below eps."""
    found = fsl.group_advantages([0.0, 2.0**-1030], scale=scale, eps=eps)
    half = 2.0**-1031
    np.testing.assert_allclose(found, [-half / (half + eps), half / (half + eps)], rtol=1e-12)


def test_forms_of_groups():
    rewards = np.random.default_rng(0).normal(size=(3, 4))
    rows = fsl.group_advantages(rewards)
    np.testing.assert_array_equal(fsl.group_advantages(rewards, np.repeat([[5], [1], [3]], 4, 1)), rows)
    np.testing.assert_array_equal(fsl.group_advantages(rewards[1]), rows[1])
    large = fsl.group_advantages(rewards[0], np.array([2**64 - 1, 2**63, 2**64 - 1, 2**63], np.uint64), scale="none")
    np.testing.assert_allclose(large, (rewards[0] - rewards[0, [2, 3, 0, 1]]) / 2, rtol=1e-14)
    assert fsl.group_advantages(np.zeros((0, 4))).shape == (0, 4)
    assert fsl.group_advantages(np.zeros((4, 0))).shape == (4, 0)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e160, 1.7e308])
def test_groups_of_any_size(size):
    unit = np.array([1.0, -1.0, 0.5, 0.0])
    np.testing.assert_allclose(fsl.group_advantages(size * unit, eps=0), fsl.group_advantages(unit, eps=0), rtol=1e-14)
    apart = fsl.group_advantages(size * unit, scale="none", baseline="leave_one_out")
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(apart, size * fsl.group_advantages(unit, scale="none", baseline="leave_one_out"))


@pytest.mark.parametrize(
    ("error", "said", "call"),
    [
        (ValueError, r"rewards has shape \(\)", {"rewards": 1.0}),
        (ValueError, r"rewards\[1\] is nan", {"rewards": [0, np.nan]}),
        (ValueError, r"groups has shape \(2,\); allowed: \(3,\)", {"groups": [0, 1]}),
        (TypeError, "groups has dtype float64", {"groups": [0.0, 1.0, 2.0]}),
        (ValueError, r"rewards\[2\] is alone in its group", {"groups": [0, 0, 1], "baseline": "leave_one_out"}),
        (ValueError, "baseline is 'median'; allowed: 'mean', 'leave_one_out'", {"baseline": "median"}),
        (ValueError, "scale is None; allowed: 'group', 'batch', 'none'", {"scale": None}),
        (ValueError, "ddof is 2; allowed: 0 and 1", {"ddof": 2}),
        (ValueError, "eps is -1", {"eps": -1}),
    ],
)
def test_errors_of_groups(error, said, call):
    with pytest.raises(error, match=said):
        fsl.group_advantages(**{"rewards": [0.0, 1.0, 2.0]} | call)
