"""Tensors as arguments of NumPy's functions."""

import sys

import ml_dtypes
import numpy as np
import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

from torch_cases import FLOATS, logits  # noqa: E402


@pytest.mark.parametrize("dtype", FLOATS)
def test_numpy_functions_take_tensors(dtype):
    """Scores, integers, masks, weights; the gradient goes to a tensor's memory, the scores' own too."""
    x = logits((3, 5, 4), dtype=dtype).detach()
    targets, lengths, weight = torch.ones(3, 5, dtype=torch.int32), torch.tensor([5, 2, 4]), torch.rand(3)
    array = x.float().numpy().astype({torch.bfloat16: ml_dtypes.bfloat16}.get(dtype, str(dtype)[6:]))
    if dtype == torch.float64:
        array = x.numpy().copy()
    calls = {
        "ctc_loss": (fsl.ctc_loss, (targets, lengths), {"label_lengths": torch.tensor([2, 1, 0])}),
        "crf_loss": (fsl.crf_loss, (targets, torch.zeros(4, 4), lengths), {}),
        "softmax_cross_entropy": (fsl.softmax_cross_entropy, (targets, lengths), {}),
        "mse_loss": (fsl.mse_loss, (x + 1, lengths), {}),
        "multiclass_hinge_loss": (fsl.multiclass_hinge_loss, (targets, lengths), {}),
    }
    for name, (loss, constants, options) in calls.items():
        options = options | {"sample_weight": weight}
        expected = loss(array, *constants, **options, return_grad=True)
        expected = expected[0], getattr(expected[1], "emissions", expected[1])
        fresh = loss(x, *constants, **options, return_grad=True)
        assert fresh[0] == expected[0], name
        over = x.clone()
        for scores, out in ((x, torch.empty_like(x)), (over, over)):
            value, gradient = loss(scores, *constants, **options, grad_out=out)
            gradient = getattr(gradient, "emissions", gradient)
            assert value == expected[0], name
            assert gradient.ctypes.data == out.data_ptr(), name
            np.testing.assert_array_equal(gradient.astype(np.float64), expected[1].astype(np.float64), err_msg=name)
            np.testing.assert_array_equal(out.double().numpy(), expected[1].astype(np.float64), err_msg=name)
    total = fsl.weighted_sum([(1.0, lambda scores: (0.0, np.zeros_like(scores)))])
    out = torch.ones_like(x)
    assert total(x, grad_out=out)[0] == 0
    assert not out.any()


@pytest.mark.parametrize("dtype", FLOATS)
def test_words_from_tensors(dtype):
    """Decoding, paths of other programs, texts and words: the same results as for arrays."""
    x = logits((2, 12, 4), dtype=dtype).detach()
    lengths, vocabulary = torch.tensor([12, 7]), fsl.Vocabulary("-ab|", separator="|")
    decoded = fsl.ctc_greedy_decode(x, lengths)
    wide = fsl.ctc_greedy_decode(x.float().numpy() if dtype != torch.float64 else x.numpy(), lengths.numpy())
    assert decoded.spans() == wide.spans()
    counts = torch.from_numpy(decoded.label_lengths)
    texts = vocabulary.decode(torch.from_numpy(decoded.labels), counts)
    assert texts == vocabulary.decode(decoded.labels, decoded.label_lengths)
    best = x.log_softmax(-1).max(-1)
    merged = fsl.merge_tokens(best.indices, best.values, lengths)
    for spans, expected, text in zip(merged, wide.spans(), texts, strict=True):
        assert [span[:3] for span in spans] == [span[:3] for span in expected]
        options = {"confidences": torch.linspace(0, 1, len(spans)), "frame_seconds": torch.tensor(0.5)}
        assert [word.text for word in fsl.words_from_spans(spans, vocabulary, **options)] == text.split()
        ones = fsl.words_from_spans(spans, word_lengths=torch.ones(len(spans), dtype=torch.int32), **options)
        assert [word.mean_confidence for word in ones] == options["confidences"].tolist()
        assert [word.end_seconds for word in ones] == [span.end / 2 for span in spans]


@pytest.mark.parametrize("dtype", FLOATS)
def test_confidences_from_tensors(dtype):
    x, labels = logits((2, 12, 4), dtype=dtype).detach(), torch.tensor([[1, 2], [3, 0]])
    lengths, counts, spans = torch.tensor([12, 7]), torch.tensor([2, 1]), torch.tensor([[[0, 5], [5, 12]]] * 2) // 2
    array = x.numpy() if dtype == torch.float64 else x.float().numpy()
    found = fsl.ctc_confidences(x, labels, lengths, counts, frames=spans)
    wide = fsl.ctc_confidences(array, labels.numpy(), lengths.numpy(), counts.numpy(), frames=spans.numpy())
    for a, b in zip(found, wide, strict=True):
        np.testing.assert_array_equal(a, b)


def test_crf_gradients_into_tensors():
    x, tags = logits((3, 5, 4)).detach(), torch.zeros(3, 5, dtype=torch.int64)
    a, start = torch.zeros(4, 4), torch.zeros(4)
    outs = fsl.CRFGradient(torch.empty_like(x), torch.empty_like(a), torch.empty_like(start), None)
    fsl.crf_loss(x, tags, a, start=start, grad_out=outs)
    expected = fsl.crf_loss(x, tags, a, start=start, return_grad=True)[1]
    for ours, wanted in zip(outs[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(ours.numpy(), wanted)


def test_numpy_functions_say_what_is_wrong():
    x = logits((3, 5, 4))
    targets = torch.zeros(3, 5, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"logits requires grad, and NumPy cannot hand it on; pass logits\.detach\(\)"):
        fsl.softmax_cross_entropy(x, targets)
    with pytest.raises(TypeError, match="grad_out requires grad"):
        fsl.softmax_cross_entropy(x.detach(), targets, grad_out=x)
    with pytest.raises(TypeError, match=r"logits is on device 'meta'; allowed: 'cpu', so pass logits\.cpu\(\)"):
        fsl.softmax_cross_entropy(x.detach().to("meta"), targets)
    with pytest.raises(TypeError, match="targets is on device 'meta'"):
        fsl.softmax_cross_entropy(x.detach(), targets.to("meta"))
    with pytest.raises(TypeError, match="logits is not a tensor that NumPy can see"):
        fsl.softmax_cross_entropy(x.detach().to_sparse(), targets)
    with pytest.raises(TypeError, match="logits has dtype int64"):
        fsl.softmax_cross_entropy(x.detach().long(), targets)


def test_negated_views():
    """Imaginary parts of a conjugate are views that NumPy cannot express."""
    z = torch.complex(logits((3, 5, 4)).detach(), logits((3, 5, 4), seed=1).detach())
    x = z.conj().imag
    assert x.is_neg()
    targets = torch.zeros(3, 5, dtype=torch.int64)
    assert fsl.softmax_cross_entropy(x, targets) == fsl.softmax_cross_entropy(-z.imag, targets)


def test_bfloat16_needs_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match="logits has dtype bfloat16, for which NumPy needs the package ml_dtypes"):
        fsl.softmax_cross_entropy(torch.zeros(2, 3, dtype=torch.bfloat16), [0, 1])
