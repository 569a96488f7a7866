"""Errors of losses of tensors."""

import numpy as np
import pytest

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")

import fastseqloss.torch as fst  # noqa: E402
from torch_cases import B, T, V, logits, problem  # noqa: E402


def ctc_arguments(**changed):
    targets, lengths, target_lengths = problem()
    given = {"log_probs": logits(), "targets": targets, "input_lengths": lengths, "target_lengths": target_lengths}
    return given | changed


@pytest.mark.parametrize(("error", "message", "changed"), [
    (TypeError, r"log_probs has dtype torch\.int64; allowed: torch", {"log_probs": torch.ones(T, B, V).long()}),
    (TypeError, "log_probs must be a tensor, got ndarray", {"log_probs": np.zeros((T, B, V))}),
    (TypeError, "log_probs is on device 'meta'", {"log_probs": torch.ones(T, B, V, device="meta")}),
    (TypeError, "log_probs is not a tensor that NumPy can see", {"log_probs": torch.ones(T, B, V).to_sparse()}),
    (ValueError, r"log_probs has shape \(1, 12, 4, 6\); allowed: \[T, B, V\]", {"log_probs": logits((1, T, B, V))}),
    (ValueError, r"input_lengths\[0\] is 13; allowed: 0 to 12", {"input_lengths": [13, 1, 1, 1]}),
    (ValueError, r"input_lengths\[1\] is -1; allowed: 0 to 12", {"input_lengths": [1, -1, 1, 1]}),
    (TypeError, "input_lengths has dtype float32; allowed: any integer", {"input_lengths": torch.ones(4)}),
    (ValueError, r"input_lengths has shape \(3,\); allowed: \(4,\)", {"input_lengths": [1, 1, 1]}),
    (ValueError, r"target_lengths\[0\] is 6; allowed: 0 to 5", {"target_lengths": [6, 1, 1, 1]}),
    (ValueError, r"target_lengths\[0\] is -1; allowed: 0 to 5", {"target_lengths": [-1, 1, 1, 1]}),
    (ValueError, r"target_lengths add up to 7; allowed: 8, as in targets",
     {"targets": torch.ones(8).long(), "target_lengths": [7, 0, 0, 0]}),
    (ValueError, r"targets\[0, 1\] is 6; allowed: 0 to 5, except 0, which is the blank",
     {"targets": torch.tensor([[1, 6, 1, 1, 1]] * 4)}),
    (ValueError, r"targets\[0, 1\] is 0; allowed: 0 to 5, except 0, which is the blank",
     {"targets": torch.tensor([[1, 0, 1, 1, 1]] * 4)}),
    (TypeError, "targets has dtype float32; allowed: any integer dtype", {"targets": torch.ones(4, 5)}),
    (TypeError, "targets is on device 'meta'", {"targets": torch.ones(4, 5, device="meta").long()}),
    (ValueError, r"targets has shape \(3, 5\); allowed: \[B, S\] with B = 4", {"targets": torch.ones(3, 5).long()}),
    (ValueError, "blank is 6; allowed: -6 to 5", {"blank": 6}),
    (ValueError, "reduction is 'batch'; allowed: 'none', 'mean', 'sum'", {"reduction": "batch"}),
])  # fmt: skip
def test_ctc_errors(error, message, changed):
    with pytest.raises(error, match=message):
        fst.ctc_loss(**ctc_arguments(**changed))


def test_errors_name_logits():
    with pytest.raises(ValueError, match=r"logits has shape \(12,\)"):
        fst.ctc_loss_from_logits(torch.zeros(T), *problem())


def test_constants_have_no_gradient():
    x, y = logits((3, 4, 5)), torch.rand(3, 4, 5).double().requires_grad_()
    message = r"targets requires grad, and this loss has no gradient of it; pass targets\.detach\(\)"
    with pytest.raises(TypeError, match=message):
        fst.softmax_cross_entropy(x, y)
    with torch.no_grad():
        assert fst.softmax_cross_entropy(x, y) == fst.softmax_cross_entropy(x, y.detach())
    weight = torch.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match="sample_weight requires grad"):
        fst.crf_loss(x, torch.zeros(3, 4).long(), torch.zeros(5, 5), sample_weight=weight)
    with pytest.raises(TypeError, match="transitions must be a tensor, got NoneType"):
        fst.crf_loss(x, torch.zeros(3, 4).long(), None)
