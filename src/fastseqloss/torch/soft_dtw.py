"""Soft-DTW of tensors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .._core.types import SequenceReduction
from ..soft_dtw.loss import soft_dtw_loss as _soft_dtw_loss
from .autograd import Lengths, sequence_loss


def soft_dtw_loss(
    x: Tensor,
    y: Tensor,
    lengths_x: Lengths | None = None,
    lengths_y: Lengths | None = None,
    *,
    gamma: float = 1.0,
    divergence: bool = False,
    band: int | None = None,
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: Tensor | Sequence[float] | None = None,
    num_threads: int | None = None,
) -> Tensor:
    """Soft dynamic time warping of two series, differentiable in both.

    Parameters
    ----------
    x : Tensor [B, N, D], or [N, D] for one pair
        Series of vectors, on the CPU: float32, float64, float16 or bfloat16.
    y : Tensor [B, M, D], or [M, D]
        Series to compare with; the dtype may differ.
    lengths_x, lengths_y, gamma, divergence, band
        As of `fastseqloss.soft_dtw_loss`.
    reduction, normalizer, sample_weight, num_threads
        As of `fastseqloss.soft_dtw_loss`.

    Returns
    -------
    Tensor [B] with ``reduction="none"`` (scalar for one pair), else scalar
        The loss, in the dtype of `x`, or float32 for half precision.

    Raises
    ------
    ValueError, TypeError
        As `fastseqloss.soft_dtw_loss`; or if a tensor is not on the CPU, or `sample_weight` requires grad.
    RuntimeError
        If a second derivative by the scores is requested.

    See Also
    --------
    fastseqloss.soft_dtw_loss : the same for NumPy arrays, and the equation.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import soft_dtw_loss
    >>> x = torch.tensor([[0.0], [1.0]], requires_grad=True)
    >>> soft_dtw_loss(x, torch.tensor([[0.0], [1.0], [1.0]]), gamma=0.0).backward()
    >>> x.grad.flatten()
    tensor([0., 0.])
    """
    return sequence_loss(
        _soft_dtw_loss,
        {"x": x, "y": y},
        {"lengths_x": lengths_x, "lengths_y": lengths_y, "sample_weight": sample_weight},
        num_threads,
        core_ndim=2,
        gamma=gamma,
        divergence=divergence,
        band=band,
        reduction=reduction,
        normalizer=normalizer,
    )
