"""Against pytorch-crf and PyTorch's autograd in float64, on real and on random scores."""

import numpy as np
import pytest

import fastseqloss as fsl
import real_data
from crf_cases import random_case

REAL = real_data.crf()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_golden_likelihoods(level, dtype, threads):
    """Scores of a trained tagger; pytorch-crf 0.7.2 computed the log-likelihoods in float64."""
    options = {"reduction": "none", "num_threads": threads, "return_grad": True}
    loss, gradients = fsl.crf_loss(REAL.emissions.astype(dtype), REAL.tags, REAL.transitions, REAL.lengths, **options)
    np.testing.assert_allclose(loss, -REAL.log_likelihood, rtol=1e-12, atol=1e-12)
    assert gradients.transitions.sum() == pytest.approx(0, abs=1e-3)


def test_the_decoded_path_is_at_least_as_good():
    paths, score = fsl.crf_decode(REAL.emissions, REAL.transitions, REAL.lengths)
    for b, n in enumerate(REAL.lengths):
        own = fsl.crf_loss(REAL.emissions[b], REAL.tags[b], REAL.transitions, n)
        best = fsl.crf_loss(REAL.emissions[b], paths[b], REAL.transitions, n)
        total = fsl.crf_log_partition(REAL.emissions[b], REAL.transitions, n)
        assert best <= own
        assert total - score[b] == pytest.approx(best, rel=1e-9, abs=1e-12)
    valid = np.arange(paths.shape[1]) < REAL.lengths[:, None]
    assert (paths == REAL.tags)[valid].mean() > 0.85


def torch_module(transitions, start, end):
    torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
    torchcrf = pytest.importorskip("torchcrf", reason="the extra `peers` installs it")
    module = torchcrf.CRF(len(transitions), batch_first=True).double()
    with torch.no_grad():
        for name, value in (("transitions", transitions), ("start_transitions", start), ("end_transitions", end)):
            getattr(module, name).copy_(torch.tensor(value))
    return torch, module


def torch_result(emissions, tags, lengths, *parameters):
    torch, module = torch_module(*parameters)
    x = torch.tensor(emissions.astype(float), requires_grad=True)
    mask = torch.arange(x.shape[1]) < torch.tensor(lengths)[:, None]
    loss = -module(x, torch.tensor(tags), mask=mask, reduction="none")
    loss.sum().backward()
    gradients = x.grad, module.transitions.grad, module.start_transitions.grad, module.end_transitions.grad
    return loss.detach().numpy(), [g.numpy() for g in gradients], module.decode(x.detach(), mask=mask)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["real", "random", "scaled"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:where received a uint8 condition tensor:UserWarning")
def test_pytorch_crf(level, name, dtype):
    if name == "real":
        zeros = np.zeros(len(REAL.transitions))
        parameters, arrays = (REAL.transitions.astype(float), zeros, zeros), REAL[:3]
    else:
        case = random_case(np.random.default_rng(3), (13, 31, 17), scale=1.0 if name == "random" else 10.0)
        case.lengths = np.maximum(case.lengths, 1)  # pytorch-crf has no empty sequences
        case.emissions[np.isnan(case.emissions)] = 0
        parameters, arrays = case.parameters, (case.emissions, np.maximum(case.tags, 0), case.lengths)
    emissions, tags, lengths = arrays[0].astype(dtype), np.asarray(arrays[1], np.int64), np.asarray(arrays[2])
    expected, slopes, best = torch_result(emissions, tags, lengths, *parameters)
    transitions, start, end = parameters
    options = {"start": start, "end": end}
    loss, gradients = fsl.crf_loss(emissions, tags, transitions, lengths, **options, reduction="none", return_grad=True)
    np.testing.assert_allclose(loss, expected, rtol=1e-11, atol=1e-11)
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient, slope, atol=2e-6 if gradient.dtype == np.float32 else 1e-10)
    paths, _ = fsl.crf_decode(emissions, transitions, lengths, **options)
    assert [p[:n].tolist() for p, n in zip(paths, lengths, strict=True)] == best


@pytest.mark.peers
def test_hinge_against_autograd():
    """The maximum over all paths written out in PyTorch, differentiated by it."""
    torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
    case = random_case(np.random.default_rng(4), (6, 9, 5), full=True)
    inputs = [torch.tensor(x, requires_grad=True) for x in (case.emissions, *case.parameters)]
    x, transitions, start, end = inputs
    tags = torch.tensor(case.tags)
    cost = 1 - torch.eye(5, dtype=torch.float64)[tags]
    best = start + x[:, 0] + cost[:, 0]
    own = start[tags[:, 0]] + end[tags[:, -1]] + x.gather(2, tags[..., None]).sum((1, 2))
    for t in range(1, 9):
        best = (best[:, :, None] + transitions).amax(1) + x[:, t] + cost[:, t]
        own = own + transitions[tags[:, t - 1], tags[:, t]]
    expected = (best + end).amax(1) - own
    expected.sum().backward()
    loss, gradients = fsl.structured_hinge_loss(*case.arguments, **case.ends, reduction="none", return_grad=True)
    np.testing.assert_allclose(loss, expected.detach().numpy(), atol=1e-12)
    for gradient, given in zip(gradients, inputs, strict=True):
        np.testing.assert_allclose(gradient, given.grad.numpy(), atol=1e-12)
