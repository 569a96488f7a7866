"""CTC-CRF: by enumeration of all paths, a slow reference, central differences, and a form in PyTorch."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
from reference import ctc_crf as reference

DTYPES = (np.float64, np.float32)


@dataclass
class Problem:
    """A batch with NaN in the padding of the scores, and labels without meaning in theirs."""

    scores: np.ndarray  # [B, T, K, P]
    labels: np.ndarray  # [B, S]
    lengths: np.ndarray
    label_lengths: np.ndarray
    table: np.ndarray  # [K, P]
    word: int  # labels of a state, 0 for labels that are states

    @property
    def options(self):
        return {} if self.word else {"predecessors": self.table}

    @property
    def arguments(self):
        return self.scores, self.labels, self.lengths, self.label_lengths

    def sequence(self, b):
        return self.scores[b, : self.lengths[b]]

    def states(self, b):
        labels = self.labels[b, : self.label_lengths[b]].tolist()
        return reference.word_states(labels, self.scores.shape[3] - 1, self.word) if self.word else labels


def random_table(rng, n_states, n_arcs):
    """Table of transitions without a rule: moves from different states, some of which do not exist."""
    n_moves = min(n_arcs - 1, n_states)
    table = np.full((n_states, n_arcs), -1)
    table[:, 0] = np.arange(n_states)
    for k in range(n_states):
        table[k, 1 : 1 + n_moves] = rng.permutation(n_states)[:n_moves]
    table[:, 1:][rng.random((n_states, n_arcs - 1)) < 0.2] = -1
    return table


def random_problem(seed, batch=2, n_frames=4, n_labels=3, n_bases=2, word=1, dtype=np.float64, scale=1.0, forbidden=0):
    rng = np.random.default_rng(seed)
    word = min(word, 1) if n_bases == 1 else word  # states of one label have any number of them
    if word:
        table, low, high = reference.word_table(n_bases, word), 1, n_bases + 1
    else:
        table = random_table(rng, n_bases + 1, n_bases + 1)
        low, high = 0, len(table)
    scores = rng.normal(scale=scale, size=(batch, n_frames, *table.shape))
    scores[rng.random(scores.shape) < forbidden] = -np.inf
    lengths, label_lengths = rng.integers(0, n_frames + 1, batch), rng.integers(0, n_labels + 1, batch)
    scores[np.arange(n_frames) >= lengths[:, None]] = np.nan
    labels = rng.integers(low, high, (batch, n_labels))
    labels[np.arange(n_labels) >= label_lengths[:, None]] = rng.choice((-77, 2**62))
    return Problem(scores.astype(dtype), labels, lengths, label_lengths, table, word)


@st.composite
def problems(draw, words=(0, 1, 2), forbidden=(0, 0, 0.2)):
    return random_problem(
        draw(st.integers(0, 2**32 - 1)),
        *(draw(st.integers(*bounds)) for bounds in ((1, 3), (0, 4), (0, 5), (1, 2))),
        draw(st.sampled_from(words)),
        draw(st.sampled_from(DTYPES)),
        draw(st.sampled_from((0.1, 1.0, 10.0))),
        draw(st.sampled_from(forbidden)),
    )


def assert_close(actual, expected, dtype):
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(actual, np.asarray(expected, np.float64), rtol=50 * eps, atol=50 * eps)


@given(problems(), st.sampled_from((1, 2)))
def test_matches_enumeration(problem, threads):
    options = problem.options | {"num_threads": threads}
    given_scores = problem.scores, problem.lengths
    losses = fsl.ctc_crf_loss(*problem.arguments, **options, reduction="none")
    partition = fsl.ctc_crf_log_partition(*given_scores, **options)
    posteriors = fsl.ctc_crf_posteriors(*given_scores, **options)
    found = fsl.ctc_crf_decode(*given_scores, **options)
    for b, length in enumerate(problem.lengths):
        paths = list(reference.all_paths(problem.sequence(b), problem.table))
        scores = [score for _, score, _ in paths]
        total = reference.log_sum(scores)
        spelled = reference.log_sum([score for _, score, visited in paths if visited == problem.states(b)])
        expected = np.inf if spelled == -np.inf else total - spelled
        assert_close(losses[b], expected, np.float64)
        assert_close(partition[b], total, np.float64)
        counts = np.zeros(problem.scores.shape[1:])
        for path, score, _ in paths:
            for t, (k, p) in enumerate(path):
                counts[t, k, p] += np.exp(score - total) if total > -np.inf else 0
        assert_close(posteriors[b], counts, problem.scores.dtype)
        if length and total > -np.inf:
            path, best, visited = max(paths, key=lambda found: found[1])
            assert_close(found.score[b], best, np.float64)
            assert [*zip(found.states[b, :length], found.arcs[b, :length], strict=True)] == path
            labels = found.labels[b, : found.label_lengths[b]].tolist()
            word = problem.word
            assert (reference.word_states(labels, problem.scores.shape[3] - 1, word) if word else labels) == visited
        else:
            assert found.score[b] == (-np.inf if length else 0)
            assert found.label_lengths[b] == 0
            assert (found.arcs[b] == -1).all()
        assert (found.states[b, length:] == -1).all()
        assert (found.labels[b, found.label_lengths[b] :] == -1).all()


def rounding(problem):
    """Bound of the rounding of sums along a path: that of the largest score, at every frame."""
    finite = np.abs(problem.scores[np.isfinite(problem.scores)])
    return np.finfo(np.float64).eps * (50 + problem.scores.shape[1] * float(finite.max(initial=0)))


def check_reference(problem, **options):
    losses, gradient = fsl.ctc_crf_loss(
        *problem.arguments, **problem.options, reduction="none", return_grad=True, **options
    )
    assert gradient.dtype == problem.scores.dtype
    for b, length in enumerate(problem.lengths):
        loss, slopes = reference.loss(problem.sequence(b), problem.table, problem.states(b))
        np.testing.assert_allclose(losses[b], float(loss), rtol=1e-14, atol=rounding(problem))
        allowed = rounding(problem) + np.finfo(gradient.dtype).eps
        np.testing.assert_allclose(gradient[b, :length], slopes, rtol=0, atol=allowed)
        assert not gradient[b, length:].any()


@given(problems(words=(0, 1, 2, 3)), st.sampled_from((1, 2)))
def test_matches_the_reference(problem, threads):
    check_reference(problem, num_threads=threads)


@pytest.mark.parametrize(("word", "n_bases"), [(0, 4), (1, 5), (2, 4), (3, 3)])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_matches_the_reference_for_more_labels_and_frames(word, n_bases, scale):
    check_reference(random_problem(word, 3, 24, 18, n_bases, word, scale=scale))


@given(problems(forbidden=(0,)))
def test_gradient_is_the_derivative(problem):
    problem.scores = np.nan_to_num(problem.scores.astype(np.float64))
    weight = np.linspace(0.5, 1.0, len(problem.lengths))
    call = partial(fsl.ctc_crf_loss, **problem.options, infeasible="zero", reduction="sum", sample_weight=weight)
    fsl.check_grad(lambda x: call(x, *problem.arguments[1:], return_grad=True), problem.scores)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "sequence_mean"])
def test_reductions(reduction):
    problem = random_problem(3, 4, 6, 4, 2, 1)
    problem.label_lengths[:], problem.lengths[:] = (1, 2, 3, 4), (6, 3, 5, 4)
    problem.scores = np.nan_to_num(problem.scores)
    problem.labels = np.abs(problem.labels) % 2 + 1
    weight = np.array([1.0, 0.0, 2.0, 0.5])
    each, slopes = fsl.ctc_crf_loss(*problem.arguments, reduction="none", return_grad=True)
    loss, gradient = fsl.ctc_crf_loss(*problem.arguments, reduction=reduction, sample_weight=weight, return_grad=True)
    factor = weight / (1 if reduction in ("none", "sum") else weight.sum())
    if reduction == "sequence_mean":
        factor = factor / problem.label_lengths
    np.testing.assert_allclose(loss, each * factor if reduction == "none" else (each * factor).sum())
    np.testing.assert_allclose(gradient, slopes * factor[:, None, None, None])


def test_bits_are_the_same_for_any_threads_batch_memory_and_output():
    problem = random_problem(5, 5, 40, 30, 3, 2, dtype=np.float32)
    call = partial(fsl.ctc_crf_loss, reduction="none")
    losses, gradient = call(*problem.arguments, return_grad=True, num_threads=1)
    again, more = call(*problem.arguments, return_grad=True, num_threads=4)
    assert (again == losses).all()
    assert (more == gradient).all()
    assert (call(*problem.arguments) == losses).all()
    for b in range(5):
        n, s = problem.lengths[b], problem.label_lengths[b]
        single, slope = call(problem.scores[b, :n], problem.labels[b, :s], return_grad=True)
        assert isinstance(single, float)
        assert single == losses[b]
        assert (slope == gradient[b, :n]).all()
    time_major = np.ascontiguousarray(problem.scores.swapaxes(0, 1)).swapaxes(0, 1)
    backwards = problem.scores[..., ::-1].copy()[..., ::-1]
    for scores in (time_major, backwards, np.asfortranarray(problem.scores)):
        scores.flags.writeable = False
        out = np.full_like(problem.scores, 7)
        again, more = call(scores, *problem.arguments[1:], grad_out=out)
        assert more is out
        assert (again == losses).all()
        assert (out == gradient).all()
    for scores in (problem.scores.copy(), time_major.copy(order="K")):
        again, more = call(scores, *problem.arguments[1:], grad_out=scores)
        assert more is scores
        assert (again == losses).all()
        assert (scores == gradient).all()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    problem = random_problem(6, 2, 6, 3, 2, 2)
    scores = problem.scores.astype(dtype)
    losses, gradient = fsl.ctc_crf_loss(scores, *problem.arguments[1:], reduction="none", return_grad=True)
    again, more = fsl.ctc_crf_loss(
        scores.astype(np.float32), *problem.arguments[1:], reduction="none", return_grad=True
    )
    assert gradient.dtype == dtype
    assert (losses == again).all()
    assert (gradient == more.astype(dtype)).all()


def test_labels_in_every_form():
    scores = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    rows = [[1, 2, 2], [2, 1]]
    expected = [fsl.ctc_crf_loss(x, row) for x, row in zip(scores, rows, strict=True)]
    for labels in (rows, ([1, 2, 2, 2, 1], None, [3, 2]), ([[1, 2, 2], [2, 1, 0]], None, [3, 2])):
        given_labels = labels if isinstance(labels, tuple) else (labels,)
        assert fsl.ctc_crf_loss(scores, *given_labels, reduction="none").tolist() == expected


def test_scores_far_apart():
    """Sums of exponentials beyond float64, scores beyond float32, and offsets that cancel."""
    problem = random_problem(7, 2, 8, 5, 2, 2)
    problem.lengths[:], problem.label_lengths[:] = (8, 6), (5, 3)
    problem.scores, problem.labels = np.nan_to_num(problem.scores), np.abs(problem.labels) % 2 + 1
    expected, slopes = fsl.ctc_crf_loss(*problem.arguments, reduction="none", return_grad=True)
    shifted = problem.scores + 2.0**20 * np.random.default_rng(0).integers(-9, 9, (2, 8, 1, 1))
    loss, gradient = fsl.ctc_crf_loss(shifted, *problem.arguments[1:], reduction="none", return_grad=True)
    np.testing.assert_allclose(loss, expected, rtol=1e-7)
    np.testing.assert_allclose(gradient, slopes, atol=1e-8)
    huge = np.where(problem.scores > 0, 1e308, -1e308)
    loss, gradient = fsl.ctc_crf_loss(huge, *problem.arguments[1:], reduction="none", return_grad=True)
    assert not np.isnan(loss).any()
    assert np.isfinite(gradient).all()
    constant = np.full((2, 8, 4, 3), -1.7e308)
    loss = fsl.ctc_crf_loss(constant, *problem.arguments[1:], reduction="none")
    np.testing.assert_allclose(loss, fsl.ctc_crf_loss(0 * constant, *problem.arguments[1:], reduction="none"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite(value):
    scores = np.zeros((2, 3, 4, 3))
    scores[1, 1, 2, 1] = value
    loss, gradient = fsl.ctc_crf_loss(scores, [[1, 2], [1, 1]], reduction="none", return_grad=True)
    assert np.isfinite(loss[0])
    assert np.isnan(loss[1])
    assert np.isfinite(gradient[0]).all()
    assert np.isnan(gradient[1]).all()
    assert np.isnan(fsl.ctc_crf_log_partition(scores)).tolist() == [False, True]
    assert np.isnan(fsl.ctc_crf_posteriors(scores)).all(axis=(1, 2, 3)).tolist() == [False, True]
    path = fsl.ctc_crf_decode(scores)
    assert np.isnan(path.score[1])
    assert (path.arcs[1] == -1).all()
    assert path.label_lengths[1] == 0


def test_frames_without_arcs():
    scores = np.zeros((1, 3, 4, 3))
    scores[0, 1] = -np.inf
    loss, gradient = fsl.ctc_crf_loss(scores, [[1, 2]], return_grad=True)
    assert loss == np.inf
    assert not gradient.any()
    assert fsl.ctc_crf_log_partition(scores) == [-np.inf]
    assert not fsl.ctc_crf_posteriors(scores).any()
    assert fsl.ctc_crf_decode(scores).score == [-np.inf]


def test_infeasible_sequences():
    scores = np.zeros((4, 2, 4, 3))
    labels, lengths = [[1], [1, 2, 1, 2, 2], [], [1, 2, 2]], [2, 2, 2, 2]
    loss, gradient = fsl.ctc_crf_loss(scores, labels, lengths, reduction="none", return_grad=True)
    assert np.isinf(loss).tolist() == [True, True, True, False]
    assert not gradient[:3].any()
    assert gradient[3].any()
    assert fsl.ctc_crf_loss(scores, labels, infeasible="zero", reduction="none")[:3].tolist() == [0, 0, 0]
    with pytest.raises(
        ValueError, match=r"^label_lengths\[0\] is 1; allowed: 2 or more, the labels of a state; .*: 0, 1, 2"
    ):
        fsl.ctc_crf_loss(scores, labels, infeasible="raise")
    with pytest.raises(ValueError, match=r"^lengths\[0\] is 2; allowed: 3 or more, one for each move of its labels"):
        fsl.ctc_crf_loss(scores[:1], labels[1:2], infeasible="raise")


def test_no_frames():
    """The labels of the first state alone are spelled without a frame."""
    scores = np.zeros((2, 0, 4, 3))
    np.testing.assert_allclose(fsl.ctc_crf_loss(scores, [[1, 2], [2, 1]]), np.log(4))
    assert fsl.ctc_crf_loss(scores, [[1, 2, 1], [2, 1, 1]]) == np.inf
    np.testing.assert_allclose(fsl.ctc_crf_log_partition(scores), np.log([4, 4]))
    path = fsl.ctc_crf_decode(scores)
    assert path.arcs.shape == (2, 0)
    assert path.labels.shape == (2, 0)
    assert path.score.tolist() == [0, 0]
    assert fsl.ctc_crf_loss(np.zeros((0, 3, 4, 3)), np.zeros((0, 2), int), reduction="none").shape == (0,)


def test_ties_go_to_the_smallest_last_state_and_arcs():
    path = fsl.ctc_crf_decode(np.zeros((3, 4, 3)))
    assert path.states.tolist() == [0, 0, 0]
    assert path.arcs.tolist() == [0, 0, 0]
    assert path.labels.tolist() == [1, 1]


def test_decoded_labels_have_the_loss_of_their_best_path():
    """Scores of one path far above all others: its labels have probability 1."""
    rng = np.random.default_rng(0)
    table = reference.word_table(4, 3)
    state, scores = 17, rng.normal(size=(30, 64, 5))
    for t in range(30):
        arcs = np.argwhere(table == state)
        k, p = arcs[rng.integers(len(arcs))]
        scores[t, k, p] += 100
        state = k
    path = fsl.ctc_crf_decode(scores)
    assert fsl.ctc_crf_loss(scores, path.labels) < 1e-6
    np.testing.assert_allclose(fsl.ctc_crf_log_partition(scores), path.score)


ERRORS = {
    r"scores has shape \(4, 3\); allowed: \[B, T, K, P\]": (np.zeros((4, 3)), [1]),
    r"scores has shape \(2, 0, 3\): no states or no arcs": (np.zeros((2, 0, 3)), [1]),
    r"scores has shape \(2, 6, 3\): 6 states with 3 arcs; allowed without predecessors: a power of 2": (
        *(np.zeros((2, 6, 3)), [1]),
    ),
    r"scores has shape \(2, 6, 1\): 6 states with 1 arcs": (np.zeros((2, 6, 1)), [1]),
    r"scores has dtype int64": (np.zeros((2, 4, 3), int), [1]),
    r"labels\[1\] is 3; allowed: 0 to 2, except 0, which is the blank": (np.zeros((2, 4, 3)), [1, 3]),
    r"labels\[1\]\[2\] is 0; allowed: .*if it is padding, pass label_lengths": (
        *(np.zeros((2, 2, 4, 3)), [[1, 1, 2], [1, 1, 0]]),
    ),
    r"lengths\[1\] is 3; allowed: 0 to 2": (np.zeros((2, 2, 4, 3)), [[1, 1], [1, 1]], [2, 3]),
}
TABLE_ERRORS = {
    r"predecessors has shape \(2, 3\); allowed: \(3, 2\)": [[0, 1, 2]] * 2,
    r"predecessors has dtype float64": [[0.0, 1.0]] * 3,
    r"predecessors\[1, 0\] is 0; allowed: 1: arc 0 of a state stays in it": [[0, 1], [0, 1], [2, 0]],
    r"predecessors\[2, 1\] is 3; allowed: 0 to 2, or -1 for no arc": [[0, 1], [1, 1], [2, 3]],
    r"predecessors\[0, 1\] is -2; allowed": [[0, -2], [1, 1], [2, 0]],
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    with pytest.raises((ValueError, TypeError), match=message):
        fsl.ctc_crf_loss(*ERRORS[message])


@pytest.mark.parametrize("message", TABLE_ERRORS)
def test_errors_of_tables(message):
    for call in (partial(fsl.ctc_crf_loss, labels=[0]), fsl.ctc_crf_decode, fsl.ctc_crf_posteriors):
        with pytest.raises((ValueError, TypeError), match=message):
            call(np.zeros((2, 3, 2)), predecessors=TABLE_ERRORS[message])


def test_errors_of_tables_with_moves_twice_and_of_labels_that_are_not_states():
    with pytest.raises(ValueError, match=r"predecessors\[1\] is 0 in two moves; allowed: each state once from p = 1"):
        fsl.ctc_crf_log_partition(np.zeros((2, 2, 3)), predecessors=[[0, -1, -1], [1, 0, 0]])
    with pytest.raises(ValueError, match=r"labels\[1\] is 2; allowed: 0 to 1$"):
        fsl.ctc_crf_loss(np.zeros((2, 2, 2)), [0, 2], predecessors=[[0, 1], [1, 0]])


def torch_loss(torch, problem, scores):
    """Losses [B] of equal lengths by logsumexp over gathered predecessors, and over pairs of stays and moves."""
    batch, n_frames, n_states, n_arcs = scores.shape
    table = torch.tensor(problem.table)
    alpha = scores.new_zeros(batch, n_states)
    states = torch.tensor([problem.states(b) for b in range(batch)])
    moves = [[1 + int(np.flatnonzero(problem.table[k, 1:] == j)[0]) for j, k in pairwise(row)]
             for row in states.tolist()]  # fmt: skip
    flat = scores.reshape(batch, n_frames, -1)
    stay = flat.gather(2, (states * n_arcs)[:, None].expand(-1, n_frames, -1))
    move = flat.gather(2, (states[:, 1:] * n_arcs + torch.tensor(moves))[:, None].expand(-1, n_frames, -1))
    spelled = scores.new_full(states.shape, -1e30)
    spelled[:, 0] = 0
    for t in range(n_frames):
        alpha = torch.logsumexp(scores[:, t] + alpha[:, table], 2)
        stays = spelled + stay[:, t]
        spelled = torch.cat([stays[:, :1], torch.logaddexp(stays[:, 1:], spelled[:, :-1] + move[:, t])], 1)
    return torch.logsumexp(alpha, 1) - spelled[:, -1]


@pytest.mark.peers
def test_matches_the_form_in_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    problem = random_problem(1, 3, 12, 8, 3, 2)
    problem.scores = rng.normal(scale=3, size=problem.scores.shape)
    problem.labels = rng.integers(1, 4, problem.labels.shape)
    problem.lengths[:], problem.label_lengths[:] = 12, 8
    scores = torch.tensor(problem.scores, requires_grad=True)
    losses = torch_loss(torch, problem, scores)
    losses.mean().backward()
    loss, gradient = fsl.ctc_crf_loss(*problem.arguments, return_grad=True)
    np.testing.assert_allclose(loss, losses.mean().item(), rtol=1e-12)
    np.testing.assert_allclose(gradient, scores.grad.numpy(), atol=1e-13)


def test_matches_the_dense_form():
    """Chains of arcs as tags: the tag is the state, with transitions of every step that are -inf elsewhere."""
    rng = np.random.default_rng(2)
    table = reference.word_table(3, 2)
    own = np.array([[p == list(row).index(before) for p, before in enumerate(row)] for row in table])
    scores = np.where(own, rng.normal(size=(2, 9, 9, 4)), -np.inf)  # one arc for each pair of states
    dense = np.full((2, 10, 9, 9), -np.inf)
    for k, p in np.argwhere(own):
        dense[:, 1:, table[k, p], k] = scores[..., k, p]
    expected = fsl.crf_log_partition(np.zeros((2, 10, 9)), dense)
    np.testing.assert_allclose(fsl.ctc_crf_log_partition(scores), expected, rtol=1e-13)
