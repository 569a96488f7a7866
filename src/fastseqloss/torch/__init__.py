"""Losses of PyTorch CPU tensors, with gradients for autograd. Needs PyTorch 2.4 or later.

The losses of this package as functions of tensors. Scores and gradients in float32 and float64 are not copied.
`ctc_loss` and `CTCLoss` have the signatures of `torch.nn.functional.ctc_loss` and `torch.nn.CTCLoss`, so a training
script needs only a different import:

>>> from fastseqloss.torch import ctc_loss  # instead of: from torch.nn.functional import ctc_loss

Loss and gradient are computed together in one pass; under ``torch.no_grad()``, or if no tensor requires grad, only the
loss is computed. Half precision (float16, and bfloat16 with the package ml_dtypes) gives losses in float32 and
gradients in its own dtype, rounded after scaling. The number of threads is limited by ``torch.get_num_threads()`` and
``fastseqloss.get_num_threads()``.
"""

from __future__ import annotations

from typing import Any, Literal

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    needs = f"fastseqloss.torch needs {error.name}, of the extra `torch`; pytorch.org has builds for CPUs alone"
    raise ModuleNotFoundError(needs, name=error.name) from error
from .._core.labels import Names
from .._core.options import choice, flag
from .._core.types import Input
from ..ctc.loss import named_ctc_loss
from . import losses
from .alignment import TokenSpan, forced_align, merge_tokens
from .arguments import check_tensor
from .autograd import Lengths, Loss, apply, check_scores, threads
from .classification import CrossEntropyLoss, cross_entropy
from .crf import CRF
from .losses import *  # noqa: F403
from .scripting import Unscriptable
from .tracing import traceable

__all__ = [
    "CRF",
    "CTCLoss",
    "CrossEntropyLoss",
    "TokenSpan",
    "cross_entropy",
    "ctc_loss",
    "ctc_loss_from_logits",
    "forced_align",
    "merge_tokens",
]
__all__ += losses.__all__


_NAMES = {input: Names(input, "targets", "input_lengths", "target_lengths") for input in ("log_probs", "logits")}
_REDUCTIONS = {"none": "none", "mean": "sequence_mean", "sum": "sum"}  # PyTorch's names and ours


@traceable
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: Literal["none", "mean", "sum"] = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    r"""Connectionist temporal classification loss, with the signature of ``torch.nn.functional.ctc_loss``.

    Parameters
    ----------
    log_probs : Tensor [T, B, V], or [T, V] for one sequence
        Log-probabilities, time first, on the CPU: float32, float64, float16 or bfloat16, of any strides.
        Padding is never read.
    targets : Tensor of int [B, S], or [sum(target_lengths)]; [S] for one sequence
        Labels, padded or concatenated, of any integer dtype.
    input_lengths, target_lengths : Tensor or sequence of int [B]; an int, too, for one sequence
        Lengths of each sequence.
    blank : int
        Class of the blank; negative counts from the end.
    reduction : {"mean", "sum", "none"}
        "mean" divides each loss by the number of its labels, at least 1, and averages over the batch.
    zero_infinity : bool
        If True, infinite losses are replaced by 0. Their gradients are always 0.

    Returns
    -------
    Tensor [B] with ``reduction="none"`` (scalar for one sequence), else scalar
        The loss in nats, in the dtype of `log_probs`, or float32 for half precision.

    Raises
    ------
    ValueError, TypeError
        If a tensor is not on the CPU, or shapes, dtypes, lengths or labels are not as above (a label out of
        range, or equal to the blank). The message names the argument, the position, the value and what is allowed.
    RuntimeError
        If a second derivative with respect to the scores is requested.

    See Also
    --------
    ctc_loss_from_logits : takes logits, and includes the softmax.
    fastseqloss.ctc_loss : the same for NumPy arrays, and the equation.

    Notes
    -----
    The gradient is the derivative with respect to `log_probs`, the negative posterior of each class, so
    ``torch.autograd.gradcheck`` passes. PyTorch's gradient is larger by ``exp(log_probs)``, which is correct only after
    a ``log_softmax``. After a ``log_softmax``, the usual case, both give the same gradient of the logits, because the
    backward pass of ``log_softmax`` subtracts the softmax times the sum over classes, which is -1 here and 0 in
    PyTorch.

    The gradient of an infinite loss is 0; in PyTorch it is NaN unless `zero_infinity` is set. An empty batch has loss
    0. Losses in float32 are accurate for recordings of any length, and half precision is accepted.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import ctc_loss
    >>> x = torch.zeros(3, 1, 2, requires_grad=True)
    >>> loss = ctc_loss(x.log_softmax(-1), torch.tensor([[1]]), [3], [1])
    >>> loss.backward()
    >>> round(loss.exp().item(), 4), x.grad[:, 0, 1]
    (1.3333, tensor([ 0.0000, -0.1667,  0.0000]))
    """
    return _ctc(
        log_probs,
        "log_probs",
        targets=targets,
        input_lengths=input_lengths,
        target_lengths=target_lengths,
        blank=blank,
        reduction=reduction,
        zero_infinity=zero_infinity,
    )


@traceable
def ctc_loss_from_logits(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: Literal["none", "mean", "sum"] = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Connectionist temporal classification loss of logits, softmax included.

    Replaces ``ctc_loss(logits.log_softmax(-1), ...)`` and is several times as fast, since neither the log-probabilities
    nor their gradient are stored.

    Parameters
    ----------
    logits : Tensor [T, B, V], or [T, V] for one sequence
        Scores, time first; scores with the batch first are passed as ``logits.transpose(0, 1)``, at no cost.
    targets, input_lengths, target_lengths, blank, reduction, zero_infinity
        As for `ctc_loss`.

    Returns
    -------
    Tensor [B] with ``reduction="none"`` (scalar for one sequence), else scalar
        The loss in nats, in the dtype of `logits`, or float32 for half precision.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `ctc_loss`.

    See Also
    --------
    fastseqloss.ctc_loss : the same for NumPy arrays.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import ctc_loss_from_logits
    >>> x = torch.zeros(3, 1, 2, requires_grad=True)
    >>> ctc_loss_from_logits(x, torch.tensor([[1]]), [3], [1]).backward()
    >>> x.grad[:, 0, 1]
    tensor([ 0.0000, -0.1667,  0.0000])
    """
    return _ctc(
        logits,
        "logits",
        targets=targets,
        input_lengths=input_lengths,
        target_lengths=target_lengths,
        blank=blank,
        reduction=reduction,
        zero_infinity=zero_infinity,
    )


class CTCLoss(Unscriptable, torch.nn.CTCLoss):
    """``torch.nn.CTCLoss``, computed by `ctc_loss`.

    Parameters
    ----------
    blank : int
    reduction : {"mean", "sum", "none"}
    zero_infinity : bool
        As for `ctc_loss`.

    Raises
    ------
    TypeError
        If scripted by ``torch.jit.script``, which ``torch.nn.CTCLoss`` supports; and as `ctc_loss`.
    """

    def forward(self, log_probs: Tensor, targets: Tensor, input_lengths: Lengths, target_lengths: Lengths) -> Tensor:
        """Return the loss."""
        reduction: Any = self.reduction
        return ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            blank=self.blank,
            reduction=reduction,
            zero_infinity=self.zero_infinity,
        )


def _ctc(
    scores: Tensor,
    input: Literal["log_probs", "logits"],
    *,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int,
    reduction: str,
    zero_infinity: bool,
) -> Tensor:
    """Return the loss of scores, whose kind is also the name of their argument."""
    check_scores(input, scores)
    choice("reduction", reduction, tuple(_REDUCTIONS))
    if scores.ndim not in (2, 3):
        raise ValueError(f"{input} has shape {tuple(scores.shape)}; allowed: [T, B, V], or [T, V] for one sequence")
    if scores.ndim == 2 and isinstance(targets, Tensor):
        check_tensor("targets", targets)
        if targets.ndim == 2 and len(targets) == 1:
            targets = targets[0]
    loss = Loss(
        _ctc_loss,
        (input,),
        {"targets": targets, "input_lengths": input_lengths, "target_lengths": target_lengths},
        {
            "blank": blank,
            "input": input,
            "infeasible": "zero" if flag("zero_infinity", zero_infinity) else "inf",
            "reduction": _REDUCTIONS[reduction],
            "num_threads": threads(None),
        },
        swapped=scores.ndim == 3,
        core_ndim=2,
    )
    return apply(loss, scores)


def _ctc_loss(
    scores: Any, *, targets: Any, input_lengths: Any, target_lengths: Any, input: Input, **options: Any
) -> Any:
    """Return the loss of arrays, with the names of the tensors in errors."""
    return named_ctc_loss(_NAMES[input], scores, targets, input_lengths, target_lengths, input=input, **options)
