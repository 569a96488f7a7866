"""Against PyTorch in float64: real emissions, and padded batches of random ones."""

import numpy as np
import pytest

import fastseqloss as fsl
import real_data
from cases import random_case

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")


def peer(scores, labels, lengths, label_lengths, blank, kind, reduction="none"):
    """Loss, and the gradient of its sum with respect to the scores, by PyTorch in float64.

    PyTorch's own gradient for log-probabilities is that of the logits behind them, so they are left
    without one here: exp(log p) summed over classes is 1, and normalising again adds softmax back.
    """
    x = torch.tensor(scores.astype(np.float64), requires_grad=True)
    log_probs = x.log_softmax(-1) if kind == "logits" else x
    loss = torch.nn.functional.ctc_loss(
        log_probs.swapaxes(0, 1),
        torch.tensor(labels.astype(np.int64)),
        torch.tensor(np.asarray(lengths, np.int64)),
        torch.tensor(np.asarray(label_lengths, np.int64)),
        blank=blank,
        reduction=reduction,
        zero_infinity=True,
    )
    loss.sum().backward()
    gradient = x.grad.numpy()
    if kind == "log_probs":
        valid = np.arange(scores.shape[1]) < np.asarray(lengths)[:, None]
        gradient = gradient - np.exp(scores.astype(np.float64)) * valid[..., None]
    return loss.detach().numpy(), gradient


@pytest.mark.parametrize("name", real_data.NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_emissions(level, name, dtype):
    scores, lengths, labels, label_lengths, blank, kind = real_data.load(name)
    expected, slope = peer(scores, labels, lengths, label_lengths, blank, kind)
    arguments = scores.astype(dtype), labels, lengths, label_lengths
    options = {"blank": blank, "input": kind, "reduction": "none"}
    loss, gradient = fsl.ctc_loss(*arguments, **options, return_grad=True)
    # PyTorch's float64 lattice loses digits with T, so 1e-12 would be too strict.
    tolerance = 1e-9 if dtype == np.float64 else 1e-6
    np.testing.assert_allclose(loss, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient, slope, atol=1e-9 if dtype == np.float64 else 2e-6, rtol=0)


@pytest.mark.parametrize("scale", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(4))
def test_padded_batches(level, scale, seed):
    rng = np.random.default_rng(seed)
    blank = int(rng.integers(0, 12))
    case = random_case(rng, (6, 50, 12, 15), blank=blank, scale=scale)
    case.scores[np.isnan(case.scores)] = 0
    labels = np.maximum(case.labels, 0)
    expected, slope = peer(case.scores, labels, case.lengths, case.label_lengths, blank, "logits")
    loss, gradient = fsl.ctc_loss(*case.arguments, blank=blank, reduction="none", infeasible="zero", return_grad=True)
    np.testing.assert_allclose(loss, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(gradient, slope, atol=1e-10)


@pytest.mark.parametrize(("ours", "theirs"), [("sum", "sum"), ("sequence_mean", "mean")])
def test_reductions(ours, theirs):
    """PyTorch's mean divides each loss by its label length first."""
    case = random_case(np.random.default_rng(1), (5, 40, 8, 12))
    case.scores[np.isnan(case.scores)] = 0
    expected, slope = peer(
        case.scores,
        np.maximum(case.labels, 0),
        case.lengths,
        case.label_lengths,
        0,
        "logits",
        theirs,
    )
    loss, gradient = fsl.ctc_loss(*case.arguments, reduction=ours, infeasible="zero", return_grad=True)
    assert loss == pytest.approx(float(expected), rel=1e-12)
    np.testing.assert_allclose(gradient, slope, atol=1e-12)


def test_tensors_are_taken_as_they_are():
    """A CPU tensor is an array: no copy, and its gradient may go over it."""
    case = random_case(np.random.default_rng(2), (3, 20, 6, 5), dtype=np.float32, full=True)
    expected = fsl.ctc_loss(*case.arguments, return_grad=True)
    tensors = [torch.from_numpy(x.copy()) for x in case.arguments]
    loss, gradient = fsl.ctc_loss(*tensors, return_grad=True)
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    over = tensors[0].numpy()
    fsl.ctc_loss(*tensors, grad_out=over)
    np.testing.assert_array_equal(tensors[0].numpy(), expected[1])


@pytest.mark.parametrize("name", ["speech_hama_real", "nanopore_chiron_seg"])
@pytest.mark.parametrize("sharpness", [1.0, 0.2])
def test_risk_of_beams(name, sharpness):
    """The candidates of real emissions, by PyTorch's autograd through a softmax of one loss for each."""
    scores, lengths, *_, blank, kind = real_data.load(name)
    scores, lengths = scores[:4].astype(np.float64), lengths[:4]
    beams = fsl.ctc_beam_search(scores, lengths, blank=blank, input=kind, n_best=5)
    risks = np.random.default_rng(0).integers(0, 9, beams.label_lengths.shape).astype(float)
    x = torch.tensor(scores, requires_grad=True)
    log_probs = x.log_softmax(-1).swapaxes(0, 1)
    losses = [
        torch.nn.functional.ctc_loss(
            log_probs, *map(torch.tensor, (beams.labels[:, i].clip(0), lengths.astype(int), beams.label_lengths[:, i])),
            blank=blank, reduction="none",
        )
        for i in range(5)
    ]  # fmt: skip
    expected = (torch.softmax(-sharpness * torch.stack(losses, 1), 1) * torch.tensor(risks)).sum(1).mean()
    expected.backward()
    loss, gradient = fsl.ctc_risk_loss(
        scores, beams.labels, risks, lengths, beams.label_lengths, blank=blank, sharpness=sharpness, return_grad=True
    )
    assert loss == pytest.approx(float(expected.detach()), rel=1e-9)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-9, rtol=0)


def entropy_by_semiring(x, labels, kind):
    """Entropy of the alignments in PyTorch: the expectation semiring over pairs of a sum and a mean score."""
    log_probs = {"logits": x.log_softmax(-1), "log_probs": x, "probs": x.log()}[kind]
    states = [0] + [c for label in labels for c in (label, 0)]
    skip = [u > 1 and c not in (0, states[u - 2]) for u, c in enumerate(states)]
    alpha = {u: (log_probs[0, c], log_probs[0, c]) for u, c in enumerate(states[:2])}
    for scores in log_probs[1:]:
        before, alpha = alpha, {}
        for u, c in enumerate(states):
            pairs = [before[v] for v in range(u - 1 - skip[u], u + 1) if v in before]
            if pairs:
                total, mean = _add(pairs)
                alpha[u] = total + scores[c], mean + scores[c]
    total, mean = _add([alpha[u] for u in (len(states) - 2, len(states) - 1) if u in alpha])
    return total - mean


def _add(pairs):
    """The sum of weights and their mean score, of pairs of a logarithm and a mean score."""
    logs, means = (torch.stack(values) for values in zip(*pairs, strict=True))
    return logs.logsumexp(0), (logs.softmax(0) * means).sum()


@pytest.mark.parametrize("kind", ["logits", "log_probs", "probs"])
@pytest.mark.parametrize("labels", [[1, 2, 3, 3, 1], [4], []])
def test_entropy_by_the_expectation_semiring(kind, labels):
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x.exp() if kind == "probs" else x).requires_grad_()
    expected = entropy_by_semiring(x, labels, kind)
    expected.backward()
    entropy, gradient = fsl.ctc_entropy(x.detach().numpy(), np.array(labels, int), input=kind, return_grad=True)
    np.testing.assert_allclose(entropy, expected.item(), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(gradient, x.grad, rtol=1e-9, atol=1e-11)
