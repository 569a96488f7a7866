"""Cross-entropy with the signature of PyTorch's: classes on axis 1."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .._core.messages import brief, indexed
from .._core.options import as_integer, choice
from .._core.steps import as_class_weight
from ..steps.classification import softmax_cross_entropy
from .arguments import as_option, check_tensor, is_differentiated
from .autograd import Loss, apply, check_scores, threads
from .scripting import Unscriptable
from .tracing import traceable

_REDUCTIONS = ("none", "mean", "sum")


@traceable
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: Literal["none", "mean", "sum"] = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits, with the signature of ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    input : Tensor [N, C, d1, ..., dK], [N, C], or [C] for one item
        Logits of C classes, on the CPU: float32, float64, float16 or bfloat16, of any strides.
    target : Tensor of int, shape of `input` without C; or of float, shape of `input`
        Classes, of any integer dtype; or distributions over classes, finite numbers of 0 or more, which have a
        gradient, too.
    weight : Tensor [C], optional
        Weight of each class, 0 or from 1e-150 to 1e150, of any dtype of numbers.
    size_average, reduce : None
        PyTorch has deprecated these; pass `reduction`.
    ignore_index : int
        Items with this target do not count. It must be negative, as by default, for distributions.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum of the losses by the sum of the weights of the targets, or by the number of items for
        distributions.
    label_smoothing : float
        From 0 to 1: this share of each target is divided equally among all classes.

    Returns
    -------
    Tensor, shape of `input` without C with ``reduction="none"``, else scalar
        The loss in nats, in the dtype of `input`, or float32 for half precision.

    Raises
    ------
    ValueError, TypeError
        If a tensor is not on the CPU, if shapes, dtypes, targets, weights or options are not as above, if
        `size_average` or `reduce` is given, or if `weight` requires grad. The message names the argument, the position,
        the value and what is allowed.
    RuntimeError
        If a second derivative is requested, or if traced by ``torch.jit.trace``.

    See Also
    --------
    softmax_cross_entropy : classes last, with lengths and masks.

    Notes
    -----
    Differences from PyTorch:

    - If no item counts (all are ignored, all have weight 0, or there are none), the mean is 0 and so is its gradient.
      In PyTorch the mean is NaN.
    - A logit of -inf masks a class out. Distributions that give 0 to such classes have a finite loss; in PyTorch it is
      NaN. An item whose logits are all -inf has loss inf and gradient 0; in PyTorch both are NaN.
    - Negative weights and negative numbers in distributions are errors. In both, distributions need not add up to 1.
    - Weights that require grad raise an error, because they have no gradient.
    - float16 and bfloat16 give a loss in float32.
    - Targets may have any integer dtype, weights any dtype of numbers.
    - ``torch.jit.trace`` and second derivatives raise errors. Targets out of range are a ValueError, not an IndexError.

    Scores share memory with the kernel if the classes are adjacent in memory, as in [N, C], in images of the memory
    format ``channels_last``, and in ``logits.transpose(1, 2)`` of logits [N, T, C]. Other logits are copied once, and
    their gradient is written over the copy, so that in both cases memory is needed only for the gradient; autograd
    receives it with the strides of [N, d1, ..., C]. Loss and gradient of float32 logits on one thread take the
    following times, in milliseconds of CPU time on an AVX2 processor with PyTorch 2.13:

    ==================  =======  ====  ======================
    [N, C, d1, ...]     PyTorch  here  here, classes adjacent
    ==================  =======  ====  ======================
    [64, 28, 150]       0.9      0.9   0.7
    [64, 1000, 150]     119      26    13
    [8, 21, 256, 256]   121      41    24
    [16, 5000, 400]     383      85    37
    ==================  =======  ====  ======================

    If `input` is a leaf, PyTorch copies the gradient of the third column once more, into the strides of the leaf.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import cross_entropy  # instead of: from torch.nn.functional import cross_entropy
    >>> x = torch.zeros(2, 4, 3, requires_grad=True)  # [N, C, d1]
    >>> loss = cross_entropy(x, torch.tensor([[0, 1, 3], [2, -100, -100]]))
    >>> loss.backward()
    >>> loss, x.grad[1, :, 0]
    (tensor(1.3863, grad_fn=<_LossBackward>), tensor([ 0.0625,  0.0625, -0.1875,  0.0625]))
    """
    _refuse_deprecated(size_average, reduce)
    check_scores("input", input)
    choice("reduction", reduction, _REDUCTIONS)
    distributions = _is_distribution(target, tuple(input.shape))
    if distributions and as_integer("ignore_index", as_option("ignore_index", ignore_index)) >= 0:
        raise ValueError(
            f"ignore_index is {ignore_index}, but it does not apply to a target of distributions; allowed: negative "
            "integers, which have no effect"
        )
    if input.ndim > 2:
        input, target = input.movedim(1, -1), target.movedim(1, -1) if distributions else target
    options: dict[str, Any] = {
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "reduction": reduction,
        "num_threads": threads(None),
    }
    scores: dict[str, Tensor] = {"input": input}
    constants = {"target": target, "weight": weight}
    if is_differentiated(target):
        check_scores("target", target)
        scores["target"] = target
        del constants["target"]
        options["with_respect_to"] = ("logits", "targets") if is_differentiated(input) else ("targets",)
    return apply(Loss(_cross_entropy, tuple(scores), constants, options, core_ndim=1), *scores.values())


class CrossEntropyLoss(Unscriptable, torch.nn.CrossEntropyLoss):
    """``torch.nn.CrossEntropyLoss``, computed by `cross_entropy`.

    Parameters
    ----------
    weight, size_average, ignore_index, reduce, reduction, label_smoothing
        As for `cross_entropy`.

    Raises
    ------
    TypeError
        If scripted by ``torch.jit.script``, which ``torch.nn.CrossEntropyLoss`` supports; and as `cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import CrossEntropyLoss  # instead of: from torch.nn import CrossEntropyLoss
    >>> CrossEntropyLoss(label_smoothing=0.1)(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.3863)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: Literal["none", "mean", "sum"] = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        _refuse_deprecated(size_average, reduce)
        if weight is not None:
            check_tensor("weight", weight)
        super().__init__(weight, None, ignore_index, None, reduction, label_smoothing)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        reduction: Any = self.reduction
        return cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )


def _refuse_deprecated(size_average: Any, reduce: Any) -> None:
    """Raise TypeError for arguments that PyTorch has replaced by `reduction`."""
    for name, value in (("size_average", size_average), ("reduce", reduce)):
        if value is not None:
            meant = "none" if reduce is False else "sum" if size_average is False else "mean"
            raise TypeError(
                f"{name} is {brief(value)}; allowed: None, since PyTorch has deprecated it; pass reduction={meant!r}"
            )


def _is_distribution(target: Any, shape: tuple[int, ...]) -> bool:
    """Return True for distributions, False for classes; check shape and dtype beside logits of this shape."""
    if not shape or shape[min(1, len(shape) - 1)] == 0:
        raise ValueError(f"input has shape {shape}; allowed: [C], [N, C] or [N, C, d1, ...], C at least 1")
    check_tensor("target", target)
    if target.dtype == torch.bool or target.is_complex():
        raise TypeError(f"target has dtype {target.dtype}; allowed: integers for classes, floats for distributions")
    distributions = target.is_floating_point()
    classes = shape[:1] + shape[2:] if len(shape) > 1 else ()
    if tuple(target.shape) != (shape if distributions else classes):
        raise ValueError(
            f"target has shape {tuple(target.shape)} and dtype {target.dtype}; allowed: integers of shape {classes} "
            f"for classes, or floats of shape {shape} for distributions"
        )
    return distributions


def _cross_entropy(logits: Any, *, target: Any, weight: Any, ignore_index: int, **options: Any) -> Any:
    """Return the loss of arrays with classes last, with the names and axes of the tensors in errors."""
    try:
        return softmax_cross_entropy(logits, target, ignore_index=ignore_index, class_weight=weight, **options)
    except (ValueError, TypeError):
        n_classes = logits.shape[-1]
        if weight is not None:
            as_class_weight(weight, n_classes, "weight")
        _check_target(target, n_classes, as_integer("ignore_index", ignore_index))
        raise


def _check_target(target: Any, n_classes: int, ignore_index: int) -> None:
    """Raise the error of a target that `softmax_cross_entropy` has refused."""
    if target.dtype.kind in "iu":
        bad = (target != ignore_index) & ((target < 0) | (target >= n_classes))
        allowed = f"0 to {n_classes - 1}, or {ignore_index}, which is ignore_index"
    else:
        target = np.moveaxis(target, -1, min(1, target.ndim - 1))
        with np.errstate(invalid="ignore"):  # of NaN
            numbers = target.astype(np.float64)
        bad, allowed = np.isinf(numbers) | (numbers < 0), "finite, 0 or more"
    if bad.any():
        first = tuple(np.argwhere(bad)[0].tolist())
        raise ValueError(f"{indexed('target', first)} is {target[first]}; allowed: {allowed}")
