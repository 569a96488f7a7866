"""Linear-chain CRF as a module with the interface of pytorch-crf's."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .._core.foreign import as_numpy
from .._core.options import as_integer, choice, flag
from ..crf.decoding import crf_decode
from ..crf.loss import crf_loss
from .arguments import check_tensor
from .autograd import Loss, apply, check_scores, threads
from .scripting import Unscriptable
from .tracing import outside_graphs, traceable

_REDUCTIONS = ("none", "sum", "mean", "token_mean")
_PARAMETERS = ("transitions", "start_transitions", "end_transitions")


class CRF(Unscriptable, torch.nn.Module):
    """Conditional random field with the interface of ``torchcrf.CRF`` of pytorch-crf.

    Parameters
    ----------
    num_tags : int
        Number of tags, at least 1.
    batch_first : bool
        If True, emissions are [B, T, K] instead of [T, B, K]; likewise tags and masks.

    Attributes
    ----------
    start_transitions, end_transitions : Parameter [K]
        Scores of the first and the last tag of a path; -inf forbids a tag there.
    transitions : Parameter [K, K]
        ``transitions[i, j]`` is the score of the transition from tag i to tag j; -inf forbids it.

    Raises
    ------
    ValueError, TypeError
        If `num_tags` is less than 1 or not an integer, if `batch_first` is not a bool, or if scripted by
        ``torch.jit.script``.

    See Also
    --------
    crf_loss : the negative log-likelihood as a function.
    fastseqloss.crf_marginals : posterior probabilities of the tags.

    Notes
    -----
    A state dict of ``torchcrf.CRF`` can be loaded, and vice versa. Differences from pytorch-crf:

    - A mask may exclude all steps of a sequence. Its log-likelihood is then 0, and its best path is ``[]``; pytorch-crf
      raises an error.
    - A mask may have holes, such as subword tokens: the steps before and after a hole become neighbours. pytorch-crf
      uses a wrong step as the last one.
    - Steps outside the mask are never read: they may contain NaN and any tag.
    - Tags out of range, masks of numbers other than 0 and 1, and NaN or +inf in parameters raise an error.
    - Tags of probability 0 have log-likelihood -inf and gradient 0; in pytorch-crf the gradient is not 0.
    - float16 and bfloat16 emissions give a log-likelihood in float32.
    - If several paths have the best score, `decode` returns the one with the smallest last tag; further ties are
      resolved by the tag before it, and so on.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import CRF  # instead of: from torchcrf import CRF
    >>> model = CRF(5, batch_first=True)
    >>> emissions, tags = torch.randn(2, 3, 5), torch.tensor([[0, 2, 3], [1, 4, 0]])
    >>> mask = torch.tensor([[1, 1, 1], [1, 1, 0]], dtype=torch.uint8)
    >>> loss = -model(emissions, tags, mask, reduction="token_mean")
    >>> loss.backward()
    >>> model.transitions.grad.shape, [len(path) for path in model.decode(emissions, mask)]
    (torch.Size([5, 5]), [3, 2])
    """

    def __init__(self, num_tags: int, batch_first: bool = False) -> None:
        if as_integer("num_tags", num_tags) < 1:
            raise ValueError(f"num_tags is {num_tags}; allowed: 1 or more")
        super().__init__()
        self.num_tags = as_integer("num_tags", num_tags)
        self.batch_first = flag("batch_first", batch_first)
        try:
            self.start_transitions = torch.nn.Parameter(torch.empty(self.num_tags))
            self.end_transitions = torch.nn.Parameter(torch.empty(self.num_tags))
            self.transitions = torch.nn.Parameter(torch.empty(self.num_tags, self.num_tags))
        except (RuntimeError, TypeError) as error:  # of more elements than PyTorch can count
            raise MemoryError(f"num_tags is {num_tags}: no memory holds their transitions") from error
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters from the uniform distribution between -0.1 and 0.1."""
        for parameter in (self.start_transitions, self.end_transitions, self.transitions):
            torch.nn.init.uniform_(parameter, -0.1, 0.1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_tags={self.num_tags})"

    def forward(
        self,
        emissions: Tensor,
        tags: Tensor,
        mask: Tensor | None = None,
        reduction: Literal["none", "sum", "mean", "token_mean"] = "sum",
    ) -> Tensor:
        """Return the log-likelihood of tags, which is never positive.

        Parameters
        ----------
        emissions : Tensor [T, B, K], or [B, T, K] with `batch_first`
            Scores of K tags, on the CPU: float32, float64, float16 or bfloat16.
        tags : Tensor of int [T, B], or [B, T]
            The true tags.
        mask : Tensor of bool, or of int 0 and 1, [T, B], or [B, T], optional
            Steps of each sequence; all by default.
        reduction : {"sum", "mean", "token_mean", "none"}
            "mean" divides the sum by B, "token_mean" by the number of steps.

        Returns
        -------
        Tensor [B] with ``reduction="none"``, else scalar
            In nats, in the dtype of `emissions`, or float32 for half precision.

        Raises
        ------
        ValueError, TypeError
            If a tensor is not on the CPU, or shapes, dtypes, tags, mask or parameters are not as above. The message
            names the argument, the position, the value and what is allowed.
        RuntimeError
            If a second derivative is requested, or if traced by ``torch.jit.trace``.
        """
        choice("reduction", reduction, _REDUCTIONS)
        self._check_shapes(emissions, tags=tags, mask=mask)
        return -self._loss(emissions, tags, mask, reduction)

    @traceable
    def _loss(self, emissions: Tensor, tags: Tensor, mask: Tensor | None, reduction: str) -> Tensor:
        parameters = [getattr(self, name) for name in _PARAMETERS]
        for name, parameter in zip(_PARAMETERS, parameters, strict=True):
            check_scores(name, parameter)
        loss = Loss(
            _crf_loss,
            ("emissions", *_PARAMETERS),
            {"tags": self._batched(tags), "mask": self._batched(mask)},
            {"batch_first": self.batch_first, "reduction": reduction, "num_threads": threads(None)},
            late=reduction == "none",
            core_ndim=2,
        )
        return apply(loss, self._batched(emissions), *parameters)

    @outside_graphs
    def decode(self, emissions: Tensor, mask: Tensor | None = None) -> list[list[int]]:
        """Return the best path of each sequence, by the Viterbi algorithm.

        Parameters
        ----------
        emissions, mask
            As for `forward`.

        Returns
        -------
        list of list of int
            The tags of each sequence, as many as it has steps within the mask; all -1 for a sequence whose paths are
            all forbidden, or that has NaN or +inf.

        Raises
        ------
        ValueError, TypeError
            As `forward`.
        RuntimeError
            If traced by ``torch.jit.trace``.
        """
        self._check_shapes(emissions, mask=mask)
        mask = self._batched(mask)
        try:
            paths = crf_decode(
                as_numpy("emissions", self._batched(emissions).detach()),
                as_numpy("transitions", self.transitions.detach()),
                mask=mask,
                start=as_numpy("start_transitions", self.start_transitions.detach()),
                end=as_numpy("end_transitions", self.end_transitions.detach()),
                num_threads=threads(None),
            )
        except (ValueError, TypeError) as error:
            raise _in_own_terms(error, self.batch_first) from None
        if mask is None:
            rows: list[list[int]] = paths.tags.tolist()
            return rows
        inside = as_numpy("mask", mask).astype(np.bool_)
        return [row[kept].tolist() for row, kept in zip(paths.tags, inside, strict=True)]

    def _check_shapes(self, emissions: Any, **others: Any) -> None:
        """Check the shapes of emissions, tags and mask, in the order of axes of the caller."""
        check_scores("emissions", emissions)
        shape = tuple(emissions.shape)
        order = "B, T" if self.batch_first else "T, B"
        if len(shape) != 3 or shape[2] != self.num_tags:
            raise ValueError(f"emissions has shape {shape}; allowed: [{order}, {self.num_tags}]")
        for name, value in others.items():
            if value is None and name == "mask":
                continue
            check_tensor(name, value)
            if tuple(value.shape) != shape[:2]:
                raise ValueError(f"{name} has shape {tuple(value.shape)}; allowed: {shape[:2]}, as in emissions")

    def _batched(self, tensor: Any) -> Any:
        """Return a tensor with the batch axis first."""
        return tensor if tensor is None or self.batch_first else tensor.transpose(0, 1)


def _crf_loss(
    emissions: Any,
    *,
    tags: Any,
    mask: Any,
    start_transitions: Any,
    end_transitions: Any,
    batch_first: bool,
    reduction: Any,
    **arguments: Any,
) -> Any:
    """Return the loss of arrays, batch first, with the names and positions of the tensors in errors."""
    if reduction == "token_mean":
        reduction, arguments["normalizer"] = "sum", max(np.size(tags) if mask is None else np.count_nonzero(mask), 1)
    arguments |= {"start": start_transitions, "end": end_transitions, "reduction": reduction}
    try:
        return crf_loss(emissions, tags, mask=mask, **arguments)
    except (ValueError, TypeError) as error:
        raise _in_own_terms(error, batch_first) from None


def _in_own_terms(error: ValueError | TypeError, batch_first: bool) -> Exception:
    """Return an error of a function of arrays with the names of parameters, and the positions, of the module."""
    message = re.sub(r"^(start|end)\b", r"\1_transitions", str(error))
    if not batch_first:
        message = re.sub(r"^(tags|mask)\[(\d+), (\d+)\]", r"\1[\3, \2]", message)
    return type(error)(message)
