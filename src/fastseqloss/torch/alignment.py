"""Forced alignment with the signatures of torchaudio's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._core.foreign import as_numpy
from .._core.labels import Names
from .._core.messages import listed
from .._core.options import as_integer
from .._core.spans import list_runs
from ..ctc.alignment import named_ctc_align
from .arguments import check_scores, check_tensor, threads
from .tracing import outside_graphs

_NAMES = Names("log_probs", "targets", "input_lengths", "target_lengths")


@dataclass
class TokenSpan:
    """The frames of one token, with the fields of ``torchaudio.functional.TokenSpan``.

    Attributes
    ----------
    token : int
        The class.
    start, end : int
        First frame of the label, and the frame after its last one. ``len()`` is their number.
    score : float
        Mean of the scores of those frames.
    """

    token: int
    start: int
    end: int
    score: float

    def __len__(self) -> int:
        return self.end - self.start


@outside_graphs
def forced_align(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | None = None,
    target_lengths: Tensor | None = None,
    blank: int = 0,
) -> tuple[Tensor, Tensor]:
    """Forced alignment, with the signature of ``torchaudio.functional.forced_align``.

    Parameters
    ----------
    log_probs : Tensor [B, T, C]
        Log-probabilities, on the CPU: float32, float64, float16 or bfloat16, of any strides.
    targets : Tensor of int [B, L]
        Labels, of any integer dtype, without the blank.
    input_lengths, target_lengths : Tensor of int [B], optional
        Lengths of each sequence; T and L by default.
    blank : int
        Class of the blank; negative counts from the end.

    Returns
    -------
    paths : Tensor [B, T], dtype of `targets`
        Class of each frame on the best path; the blank in the padding.
    scores : Tensor [B, T], dtype of `log_probs`
        Log-probabilities of those classes, 0 in the padding. Differentiable in `log_probs`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths or labels are not as above, if a sequence is too short for its labels (equal
        neighbours need a blank between them), or if all of its paths have probability 0 or its scores are NaN or +inf.
        The message names the argument, the position, the value and what is allowed.
    RuntimeError
        If traced by ``torch.jit.trace``.

    See Also
    --------
    merge_tokens : the frames of each token.
    fastseqloss.ctc_align : logits and probabilities, stars, priors of labels.

    Notes
    -----
    Differences from torchaudio:

    - Batches of any size, lengths below T and L, and any strides are allowed. torchaudio allows one sequence.
    - Scores of paths are added up in float64 instead of the dtype of `log_probs`, so paths whose scores differ by less
      than the rounding error of that dtype are distinguished. Among paths with equal scores, torchaudio returns the one
      that advances earliest, and this function the one that advances latest, as does `fastseqloss.ctc_align`.
    - Errors are ValueError or TypeError. In torchaudio, some are RuntimeError, and paths of probability 0 raise none.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import forced_align  # instead of: from torchaudio.functional import forced_align
    >>> probs = torch.tensor([[[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]])
    >>> paths, scores = forced_align(probs.log(), torch.tensor([[1, 2]]))
    >>> paths, scores.exp()
    (tensor([[0, 1, 1, 2]]), tensor([[0.8000, 0.6000, 0.7000, 0.8000]]))
    """
    array = _as_scores("log_probs", log_probs)
    labels = _as_tokens("targets", targets)
    if array.ndim != 3:
        raise ValueError(f"log_probs has shape {array.shape}; allowed: [B, T, C]")
    if labels.ndim != 2 or len(labels) != len(array):
        raise ValueError(f"targets has shape {labels.shape}; allowed: [B, L] with B = {len(array)}")
    n_classes = array.shape[-1]
    aligned = named_ctc_align(
        _NAMES,
        array,
        labels,
        input_lengths,
        target_lengths,
        blank=blank,
        input="log_probs",
        infeasible="raise",
        num_threads=threads(None),
    )
    log_prob = np.asarray(aligned.log_prob)
    bad = np.flatnonzero(~np.isfinite(log_prob))
    if bad.size:
        raise ValueError(
            f"log_probs[{bad[0]}] has best paths of log-probability {log_prob[bad[0]]}; allowed: finite; sequences "
            f"without a path: {listed(bad)}"
        )
    inside = torch.from_numpy(aligned.path >= 0)
    path = torch.from_numpy(aligned.path).where(inside, as_integer("blank", blank) % max(n_classes, 1))
    scores = log_probs.gather(-1, path[..., None])[..., 0].where(inside, 0.0)
    return path.to(targets.dtype), scores


@outside_graphs
def merge_tokens(tokens: Tensor, scores: Tensor, blank: int = 0) -> list[TokenSpan]:
    """Return the frames of each token of a path, with the signature of ``torchaudio.functional.merge_tokens``.

    Parameters
    ----------
    tokens : Tensor of int [T]
        A path that `forced_align` returns: the class of each frame.
    scores : Tensor [T]
        The score of each frame: float32, float64, float16 or bfloat16.
    blank : int
        Class of the blank, 0 or more.

    Returns
    -------
    list of TokenSpan
        One for each run of equal classes other than the blank, in order.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes are not as above.
    RuntimeError
        If traced by ``torch.jit.trace``.

    See Also
    --------
    fastseqloss.merge_tokens : the same for NumPy arrays, of batches, with the sums of the scores.

    Notes
    -----
    The mean scores are computed in float64; in torchaudio, in the dtype of `scores`.

    Examples
    --------
    >>> import torch
    >>> from fastseqloss.torch import merge_tokens  # instead of: from torchaudio.functional import merge_tokens
    >>> merge_tokens(torch.tensor([0, 1, 1, 0, 2]), torch.tensor([0.5, 0.25, 0.75, 0.5, 1.0]))
    [TokenSpan(token=1, start=1, end=3, score=0.5), TokenSpan(token=2, start=4, end=5, score=1.0)]
    """
    values, path = _as_scores("scores", scores), _as_tokens("tokens", tokens)
    if path.ndim != 1 or values.shape != path.shape:
        raise ValueError(f"tokens has shape {path.shape}, and scores {values.shape}; allowed: [T] for both")
    silent = as_integer("blank", blank)
    if silent < 0:
        raise ValueError(f"blank is {silent}; allowed: 0 or more, since tokens do not tell the number of classes")
    with np.errstate(invalid="ignore"):  # of NaN and inf
        spans = list_runs(path, path, values.astype(np.float64), silent)
    return [TokenSpan(span.label, span.start, span.end, span.mean_log_prob) for span in spans]


def _as_scores(name: str, scores: Tensor) -> Any:
    """Return the memory of scores."""
    check_scores(name, scores)
    return as_numpy(name, scores.detach())


def _as_tokens(name: str, tokens: Any) -> Any:
    """Return the memory of a tensor of integers."""
    check_tensor(name, tokens)
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {tokens.dtype}; allowed: any integer dtype")
    return as_numpy(name, tokens)
