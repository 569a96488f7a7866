"""Transducer losses of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._core.types import BlankModel, Infeasible, Input, SequenceReduction, Topology
from ..transducer.loss import rnnt_loss as _rnnt_loss
from ..transducer.simple import rnnt_simple_loss as _rnnt_simple_loss
from ..transducer.tdt import tdt_loss as _tdt_loss
from .autograd import Lengths, sequence_loss


def rnnt_loss(
    logits: Tensor,
    labels: Tensor | Sequence[Any],
    logit_lengths: Lengths | None = None,
    label_lengths: Lengths | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    blank_model: BlankModel = "softmax",
    topology: Topology = "regular",
    fastemit: float = 0.0,
    ranges: Tensor | None = None,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Tensor | Sequence[float] | None = None,
    num_threads: int | None = None,
) -> Tensor:
    """Transducer loss (RNN-T), softmax included.

    Parameters
    ----------
    logits : Tensor [B, T, U + 1, V], or [T, U + 1, V] for one sequence; [B, T, R, V] with `ranges`
        Scores of V classes for every frame and every number of labels before it, on the CPU: float32, float64,
        float16 or bfloat16.
    labels : Tensor of int [B, U], or in another form that `fastseqloss.rnnt_loss` takes
        Labels, with any values in the padding.
    logit_lengths, label_lengths : Tensor or sequence of int [B], optional
        Lengths of each sequence; the full ones by default.
    blank, input, blank_model, topology, fastemit, ranges, infeasible
        As of `fastseqloss.rnnt_loss`.
    reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.rnnt_loss`.

    Returns
    -------
    Tensor [B] with ``reduction="none"`` (scalar for one sequence), else scalar
        The loss in nats, in the dtype of `logits`, or float32 for half precision.

    Raises
    ------
    ValueError, TypeError
        As `fastseqloss.rnnt_loss`; or if a tensor is not on the CPU, or one other than `logits` requires grad.
    RuntimeError
        If a second derivative by the scores is requested.

    See Also
    --------
    fastseqloss.rnnt_loss : the same for NumPy arrays, and the equation.

    Notes
    -----
    With `fastemit`, the gradient is that of FastEmit, which is not the derivative of the loss, in forward mode, too.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import rnnt_loss
    >>> x = torch.zeros(1, 2, 2, 2, requires_grad=True)  # two frames, one label, two classes
    >>> loss = rnnt_loss(x, torch.tensor([[1]]))
    >>> loss.backward()
    >>> round(loss.neg().exp().item(), 4), x.grad[0, :, 0, 1]
    (0.25, tensor([ 0.0000, -0.2500]))
    """
    return sequence_loss(
        _rnnt_loss,
        {"logits": logits},
        {
            "labels": labels,
            "logit_lengths": logit_lengths,
            "label_lengths": label_lengths,
            "ranges": ranges,
            "sample_weight": sample_weight,
        },
        num_threads,
        core_ndim=3,
        blank=blank,
        input=input,
        blank_model=blank_model,
        topology=topology,
        fastemit=fastemit,
        infeasible=infeasible,
        reduction=reduction,
        normalizer=normalizer,
    )


def tdt_loss(
    logits: Tensor,
    duration_logits: Tensor,
    labels: Tensor | Sequence[Any],
    logit_lengths: Lengths | None = None,
    label_lengths: Lengths | None = None,
    *,
    durations: Sequence[int],
    blank: int = 0,
    sigma: float = 0.0,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Tensor | Sequence[float] | None = None,
    num_threads: int | None = None,
) -> Tensor:
    """Token-and-duration transducer loss (TDT), differentiable in both scores.

    Parameters
    ----------
    logits : Tensor [B, T, U + 1, V], or [T, U + 1, V] for one sequence
        As of `rnnt_loss`.
    duration_logits : Tensor [B, T, U + 1, D]
        Scores of the durations, of the dtype of `logits`.
    labels, logit_lengths, label_lengths, durations, blank, sigma, infeasible
        As of `fastseqloss.tdt_loss`.
    reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.tdt_loss`.

    Returns
    -------
    Tensor [B] with ``reduction="none"`` (scalar for one sequence), else scalar
        The loss in nats, in the dtype of `logits`, or float32 for half precision.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `rnnt_loss`.

    See Also
    --------
    fastseqloss.tdt_loss : the same for NumPy arrays, and the equation.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import tdt_loss
    >>> x, d = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2, requires_grad=True)
    >>> tdt_loss(x, d, torch.tensor([[1]]), durations=[0, 1]).backward()
    >>> d.grad[0, 1, 1]
    tensor([ 0.5000, -0.5000])
    """
    return sequence_loss(
        _tdt_loss,
        {"logits": logits, "duration_logits": duration_logits},
        {
            "labels": labels,
            "logit_lengths": logit_lengths,
            "label_lengths": label_lengths,
            "sample_weight": sample_weight,
        },
        num_threads,
        core_ndim=3,
        durations=durations,
        blank=blank,
        sigma=sigma,
        infeasible=infeasible,
        reduction=reduction,
        normalizer=normalizer,
    )


def rnnt_simple_loss(
    am: Tensor,
    lm: Tensor,
    labels: Tensor | Sequence[Any],
    logit_lengths: Lengths | None = None,
    label_lengths: Lengths | None = None,
    *,
    blank: int = 0,
    topology: Topology = "regular",
    fastemit: float = 0.0,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Tensor | Sequence[float] | None = None,
    num_threads: int | None = None,
) -> Tensor:
    """Transducer loss of an additive joiner, whose logits ``am[:, :, None] + lm[:, None]`` are never stored.

    Parameters
    ----------
    am : Tensor [B, T, V], or [T, V] for one sequence
        Scores of V classes at every frame, on the CPU: float32, float64, float16 or bfloat16.
    lm : Tensor [B, U + 1, V]
        Scores after every number of labels, of the dtype of `am`.
    labels, logit_lengths, label_lengths, blank, topology, fastemit, infeasible
        As of `fastseqloss.rnnt_simple_loss`.
    reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.rnnt_simple_loss`.

    Returns
    -------
    Tensor [B] with ``reduction="none"`` (scalar for one sequence), else scalar
        The loss in nats, in the dtype of `am`, or float32 for half precision.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `rnnt_loss`.

    See Also
    --------
    fastseqloss.rnnt_simple_loss : the same for NumPy arrays.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import rnnt_simple_loss
    >>> am, lm = torch.zeros(1, 2, 2, requires_grad=True), torch.zeros(1, 2, 2, requires_grad=True)
    >>> rnnt_simple_loss(am, lm, torch.tensor([[1]])).backward()
    >>> lm.grad[0]
    tensor([[ 0.2500, -0.2500],
            [-0.7500,  0.7500]])
    """
    return sequence_loss(
        _rnnt_simple_loss,
        {"am": am, "lm": lm},
        {
            "labels": labels,
            "logit_lengths": logit_lengths,
            "label_lengths": label_lengths,
            "sample_weight": sample_weight,
        },
        num_threads,
        core_ndim=2,
        blank=blank,
        topology=topology,
        fastemit=fastemit,
        infeasible=infeasible,
        reduction=reduction,
        normalizer=normalizer,
    )
