"""`forced_align` and `merge_tokens`: torchaudio's rules restated, differences from them, errors."""

import dataclasses
import math

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from reference.alignment import viterbi  # noqa: E402
from torch_cases import FLOATS, assert_close, compiling  # noqa: E402

PROBS = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])


def log_probs_of(seed, frames=12, classes=5, batch=1, dtype=torch.float64):
    made = torch.from_numpy(np.random.default_rng(seed).normal(scale=3, size=(batch, frames, classes)))
    return made.log_softmax(-1).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("tokens", [torch.int32, torch.int64, torch.int16, torch.uint8])
def test_one_sequence(dtype, tokens):
    log_probs = log_probs_of(0, dtype=dtype).requires_grad_()
    targets = torch.tensor([[1, 1, 3]], dtype=tokens)
    paths, scores = fst.forced_align(log_probs, targets)
    assert (paths.dtype, scores.dtype) == (tokens, dtype)
    total, path = viterbi(log_probs[0].detach().double().numpy(), [1, 1, 3], 0)
    assert paths.tolist() == [path.tolist()]
    assert torch.equal(scores, log_probs.gather(2, paths.long()[..., None])[..., 0])
    assert scores.double().sum().item() == pytest.approx(total, rel=1e-6)


def test_gradient_of_scores():
    """1 for the class of each frame, and 0 in the padding."""
    log_probs = log_probs_of(1, batch=2).requires_grad_()
    paths, scores = fst.forced_align(log_probs, torch.tensor([[1, 2], [3, 4]]), torch.tensor([12, 7]))
    (gradient,) = torch.autograd.grad(scores.sum(), log_probs)
    expected = torch.nn.functional.one_hot(paths, 5).double()
    expected[1, 7:] = 0
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("blank", [0, 2, 4, -1])
@pytest.mark.parametrize("time_major", [False, True])
def test_batches(blank, time_major):
    """A batch is its sequences, with the blank and 0 in the padding; torchaudio takes one sequence."""
    log_probs = log_probs_of(2, batch=3)
    if time_major:
        log_probs = log_probs.transpose(0, 1).contiguous().transpose(0, 1)
    labels = [c for c in range(5) if c != blank % 5]
    targets = torch.from_numpy(np.random.default_rng(3).choice(labels, (3, 4)))
    lengths, target_lengths = [12, 9, 8], [4, 0, 3]
    for kind in (torch.tensor, list):
        paths, scores = fst.forced_align(log_probs, targets, kind(lengths), kind(target_lengths), blank)
        for b, (n, m) in enumerate(zip(lengths, target_lengths, strict=True)):
            path, score = fst.forced_align(log_probs[b : b + 1, :n], targets[b : b + 1, :m], blank=blank)
            assert torch.equal(paths[b, :n], path[0])
            assert torch.equal(scores[b, :n], score[0])
            assert paths[b, n:].eq(blank % 5).all()
            assert not scores[b, n:].any()


def test_no_sequence():
    paths, scores = fst.forced_align(torch.zeros(0, 4, 3), torch.zeros(0, 2, dtype=torch.int32))
    assert paths.shape == scores.shape == (0, 4)
    assert paths.dtype == torch.int32


def test_ties_and_sums():
    """Among equal paths, the one that advances latest; sums of float32 scores are those of float64."""
    paths, _ = fst.forced_align(torch.zeros(1, 6, 3), torch.tensor([[1, 2]]))
    assert paths.tolist() == [[0, 0, 0, 0, 1, 2]]
    log_probs = torch.zeros(1, 3, 2)
    log_probs[0, :, 0] = torch.tensor([-(2.0**24), -1.0, -1.0])
    log_probs[0, :, 1] = torch.tensor([-(2.0**24), -0.5, -2.0])  # which float32 cannot add to the first
    assert fst.forced_align(log_probs, torch.tensor([[1]]))[0].tolist() == [[0, 1, 0]]


TARGETS = torch.tensor([[1, 2]])


@pytest.mark.parametrize(("error", "message", "given"), [
    (ValueError, r"^targets\[0, 1\] is 0; allowed: 0 to 2, except 0, which is the blank",
     {"targets": torch.tensor([[1, 0]])}),
    (ValueError, r"^targets\[0, 0\] is 3; allowed: 0 to 2", {"targets": torch.tensor([[3, 1]])}),
    (ValueError, r"^targets\[0, 0\] is -1; allowed: 0 to 2", {"targets": torch.tensor([[-1, 1]])}),
    (ValueError, r"^input_lengths\[0\] is 4; allowed: 5 or more for its targets",
     {"targets": torch.tensor([[1, 1, 2, 1]])}),
    (ValueError, r"^input_lengths\[0\] is 5; allowed: 0 to 4", {"input_lengths": torch.tensor([5])}),
    (ValueError, r"^input_lengths\[0\] is 1; allowed: 2 or more", {"input_lengths": torch.tensor([1])}),
    (ValueError, r"^target_lengths\[0\] is 3; allowed: 0 to 2", {"target_lengths": torch.tensor([3])}),
    (ValueError, r"^input_lengths has shape \(2,\); allowed: \(1,\)", {"input_lengths": torch.tensor([4, 4])}),
    (ValueError, r"^log_probs has shape \(4, 3\); allowed: \[B, T, C\]", {"log_probs": PROBS}),
    (ValueError, r"^log_probs has shape \(1, 4, 0\): no classes", {"log_probs": torch.zeros(1, 4, 0)}),
    (ValueError, r"^targets has shape \(2,\); allowed: \[B, L\] with B = 1", {"targets": torch.tensor([1, 2])}),
    (ValueError, r"^targets has shape \(2, 1\); allowed: \[B, L\] with B = 1", {"targets": torch.tensor([[1], [2]])}),
    (ValueError, "^blank is 3; allowed: -3 to 2", {"blank": 3}),
    (ValueError, r"^log_probs\[0\] has best paths of log-probability -inf; allowed: finite; .* without a path: 0",
     {"log_probs": torch.tensor([[[0.0, -math.inf, 0.0]] * 4])}),
    (ValueError, r"^log_probs\[1\] has best paths of log-probability nan; allowed: finite; .* without a path: 1",
     {"log_probs": torch.stack([PROBS, PROBS * math.nan]), "targets": TARGETS.expand(2, 2)}),
    (TypeError, r"^targets has dtype torch\.float32; allowed: any integer dtype", {"targets": TARGETS.float()}),
    (TypeError, r"^targets has dtype torch\.bool", {"targets": TARGETS > 1}),
    (TypeError, "^targets must be a tensor, got list", {"targets": [[1, 2]]}),
    (TypeError, "^targets is on device 'meta'", {"targets": TARGETS.to("meta")}),
    (TypeError, "^log_probs is on device 'meta'", {"log_probs": PROBS[None].to("meta")}),
    (TypeError, "^log_probs must be a tensor, got ndarray", {"log_probs": PROBS[None].numpy()}),
    (TypeError, r"^log_probs has dtype torch\.int64", {"log_probs": PROBS[None].long()}),
])  # fmt: skip
def test_errors(error, message, given):
    with pytest.raises(error, match=message):
        fst.forced_align(**{"log_probs": PROBS[None].log(), "targets": TARGETS} | given)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_traces():
    with pytest.raises(RuntimeError, match=r"cannot be traced by torch\.jit"):
        torch.jit.trace(lambda x: fst.forced_align(x, TARGETS), (PROBS[None].log(),))


@compiling
def test_compiled():
    """It runs between two graphs."""

    def score(x):
        paths, scores = fst.forced_align(x.log_softmax(-1), TARGETS)
        return scores.sum() * 2 + len(fst.merge_tokens(paths[0], scores[0]))

    torch.compiler.reset()
    results = []
    for function in (score, torch.compile(score, backend="aot_eager")):
        x = log_probs_of(0, classes=3).requires_grad_()
        value = function(x)
        results.append((value, *torch.autograd.grad(value, x)))
    for ours, expected in zip(*results, strict=True):
        assert_close(ours, expected)


def spans_of(tokens, scores, blank):
    """Return token, start, end and mean score of each run of equal tokens."""
    spans, start = [], 0
    for t in range(1, len(tokens) + 1):
        if t == len(tokens) or tokens[t] != tokens[start]:
            if tokens[start] != blank:
                spans.append((tokens[start], start, t, float(np.mean(scores[start:t]))))
            start = t
    return spans


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("blank", [0, 2])
def test_merge_tokens(seed, blank):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 20))
    tokens, scores = rng.integers(0, 3, n), rng.random(n)
    spans = fst.merge_tokens(torch.from_numpy(tokens), torch.from_numpy(scores), blank)
    expected = spans_of(tokens.tolist(), scores, blank)
    assert [dataclasses.astuple(span)[:3] for span in spans] == [span[:3] for span in expected]
    np.testing.assert_allclose([span.score for span in spans], [span[3] for span in expected], rtol=1e-14)
    assert [len(span) for span in spans] == [span[2] - span[1] for span in expected]


def test_merge_tokens_of_a_path():
    paths, scores = fst.forced_align(PROBS[None].log().requires_grad_(), TARGETS)
    spans = fst.merge_tokens(paths[0], scores[0])
    assert [(span.token, span.start, span.end) for span in spans] == [(1, 1, 3), (2, 3, 4)]
    assert_close(torch.tensor([span.score for span in spans]), torch.tensor([math.log(0.42) / 2, math.log(0.8)]), 1e-6)
    assert spans[0] == fst.TokenSpan(token=1, start=1, end=3, score=spans[0].score)


@pytest.mark.parametrize(("error", "message", "given"), [
    (ValueError, r"^tokens has shape \(1, 2\), and scores \(2,\); allowed: \[T\] for both",
     {"tokens": torch.tensor([[1, 2]])}),
    (ValueError, r"^tokens has shape \(2,\), and scores \(3,\); allowed: \[T\] for both", {"scores": torch.zeros(3)}),
    (ValueError, "^blank is -1; allowed: 0 or more", {"blank": -1}),
    (TypeError, "^blank must be an integer, got float", {"blank": 0.5}),
    (TypeError, r"^tokens has dtype torch\.float32; allowed: any integer", {"tokens": torch.zeros(2)}),
    (TypeError, r"^scores has dtype torch\.int64; allowed: torch", {"scores": torch.zeros(2).long()}),
    (TypeError, "^tokens must be a tensor, got list", {"tokens": [1, 2]}),
])  # fmt: skip
def test_errors_of_merge_tokens(error, message, given):
    with pytest.raises(error, match=message):
        fst.merge_tokens(**{"tokens": torch.tensor([1, 2]), "scores": torch.zeros(2)} | given)
