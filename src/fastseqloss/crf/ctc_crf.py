"""CTC-CRF, a linear chain on a sparse table of transitions: loss, log-partition, posteriors, best paths."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_weights, filled, stored
from .._core.gradient import as_gradient
from .._core.keywords import known_keywords
from .._core.messages import outline
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.threads import threads_for
from .._core.types import (
    Infeasible,
    Loss,
    LossAndGradient,
    SequenceReduction,
)
from .._kernels.crf import sparse as _kernel
from .sparse_arguments import Chain, Integers, Spelling, as_chain, spell


@known_keywords
def ctc_crf_loss(
    scores: ArrayLike,
    labels: ArrayLike,
    lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    predecessors: ArrayLike | None = None,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""CTC-CRF loss of nanopore basecallers, and its gradient.

    The states of this conditional random field are words of k labels [1]_, [2]_. At each frame, a path stays in its
    state or moves to another one: the first label of the word is dropped, and a new label is appended. A state
    therefore has P incoming arcs instead of one from each of the K states. The loss, in nats and never negative, is the
    negative logarithm of the probability of the paths that spell the labels, normalised over all paths:

    .. math::
        L_b = \log \sum_{\pi} e^{s_b(\pi)} - \log \sum_{\pi \text{ spells } l_b} e^{s_b(\pi)}, \quad
        s_b(\pi) = \sum_{t=1}^{T_b} x_{b,t,k_t,p_t}

    with the arc :math:`p_t` into state :math:`k_t` at frame t. Any state may precede the first frame. A
    path that spells S labels begins in the state of the first k labels, moves S - k times, first to the
    state of labels 2 to k + 1, and stays at all other frames.

    Parameters
    ----------
    scores : array_like [B, T, K, P], or [T, K, P] for one sequence
        Scores of the P arcs into each of K states at T frames: ``scores[b, t, k, p]`` is the score of
        reaching state k at frame t from state ``predecessors[k, p]``. float32 and float64 are
        native, float16 and bfloat16 are computed in float32. Any strides; last axes that are
        not contiguous are copied. Padding (frames from a sequence's length on) is never read. -inf
        forbids an arc.
    labels : array_like of int
        Labels 1 to P - 1. A state is a word of k labels, so K = (P - 1)^k: the state of the labels
        (c_1, ..., c_k) is the number with the digits c_1 - 1, ..., c_k - 1 to the base P - 1. With
        `predecessors`, the states that a path visits, 0 to K - 1. Padded [B, S] with any values in the
        padding, or concatenated in one dimension with `label_lengths`, or a list of B one-dimensional
        sequences; [S] for one sequence.
    lengths, label_lengths : array_like of int [B], optional
        Numbers of frames and of labels of each sequence; the full ones by default. An int for one
        sequence.
    predecessors : array_like of int [K, P], optional
        Table of the transitions. ``predecessors[k, 0]`` is k, for the arc that stays. The other arcs are moves, each
        from a different state. This may be state k itself, for example for a word of equal labels. -1 stands for an arc
        that does not exist; no path reads its scores. By default, ``predecessors[k, c]`` is the word with c in front of
        all but the last label of word k.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence with fewer labels than a state has, or with fewer frames than moves: loss
        inf, loss 0, or ValueError. "inf" and "zero" also apply to a sequence whose labels have
        probability 0, because of scores of -inf or of moves that are not in `predecessors`. The
        gradient of such a sequence is 0.
    reduction : {"mean", "sequence_mean", "sum", "none"}
        "mean" divides the sum of the losses by B; "sequence_mean" divides each loss by its
        number of labels (at least 1) first; "none" gives [B]. With `sample_weight`, averages divide
        by the sum of the weights instead of B.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each sequence, finite and not negative. A sequence of weight 0 is ignored.
    return_grad : bool
        If True, return the gradient as well.
    grad_out : ndarray, optional
        Array of shape and dtype of `scores` to write the gradient to; may be `scores` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use, at most one per sequence; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss in nats.
    grad : ndarray, shape and dtype of `scores`
        Gradient of the reduced loss (of the sum of the losses, with "none"): posteriors of the arcs
        among all paths, minus those among the paths of the labels. Exactly 0 in the padding. Only with
        `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels, the table, weights or options are not as above. The message names the
        argument, the position, the value and what is allowed. In that case, nothing has been written. If
        ``infeasible="raise"`` and sequences are infeasible; the message names them.

    See Also
    --------
    ctc_crf_decode : the best path.
    ctc_crf_posteriors : posterior probabilities of the arcs.
    ctc_crf_log_partition : the first term of the loss.
    crf_loss : the loss with a dense matrix of transitions and a tag at each step.

    Notes
    -----
    The result has the same bits with any number of threads and in any batch. NaN or +inf among the scores of a valid
    frame makes loss and gradient of that sequence NaN. A sequence without frames has the loss log K for the k labels of
    a state.

    Replaces ``CTC_CRF.ctc_loss(scores, targets, target_lengths)`` of bonito, whose scores [T, B, K P]
    are ``scores.swapaxes(0, 1).reshape(B, T, K, P)`` here, and which averages as
    ``reduction="sequence_mean"``.

    References
    ----------
    .. [1] H. Xiang, Z. Ou, "CRF-based single-stage acoustic modeling with CTC topology", ICASSP 2019.
    .. [2] Oxford Nanopore Technologies, "Bonito", https://github.com/nanoporetech/bonito.

    Examples
    --------
    Two of the 18 paths of two frames spell the labels 1 and 2: one that moves at the first frame, one at the second.

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.ctc_crf_loss(np.zeros((2, 2, 3)), [1, 2], return_grad=True)
    >>> round(float(np.exp(-loss)), 6), grad.shape
    (0.111111, (2, 2, 3))
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    chain = as_chain(scores, lengths, predecessors)
    spelling = spell(chain, labels, label_lengths, infeasible)
    weight = as_weights("sample_weight", sample_weight, len(chain.lengths))
    gradient = as_gradient(chain.scores, return_grad, grad_out)
    scale = length_scale(reduction, spelling.lengths, normalizer, weight)
    loss = _run(
        chain,
        num_threads,
        counted=spelling.feasible if weight is None else spelling.feasible & (scale != 0),
        scale=scale,
        spelling=spelling,
        grad=gradient.values,
        in_place=gradient.in_place,
        outside=np.inf,
    )
    reduced = finish_sequences(reduction, loss, scale, single=chain.scores.single, infeasible=infeasible)
    if gradient.values is None:
        return reduced
    return reduced, gradient.finish()


@known_keywords
def ctc_crf_log_partition(
    scores: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    predecessors: ArrayLike | None = None,
    num_threads: int | None = None,
) -> Loss:
    r"""Logarithm of the sum of the exponentiated scores of all paths of a CTC-CRF.

    .. math:: \log Z_b = \log \sum_{\pi} e^{s_b(\pi)}

    with the scores s of `ctc_crf_loss`. Its derivatives are the posteriors. After subtracting
    ``log_partition / T``, the scores are normalised: the sum over all paths is 1.

    Parameters
    ----------
    scores, lengths, predecessors, num_threads
        As for `ctc_crf_loss`.

    Returns
    -------
    ndarray of float64 [B], or float for one sequence
        In nats; log K for a sequence without frames, -inf if every path is forbidden, NaN if a valid
        frame has NaN or +inf.

    Raises
    ------
    ValueError, TypeError
        As `ctc_crf_loss`.

    Examples
    --------
    With four states of two labels each and three arcs into each state, the number of paths of two frames is

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> round(float(np.exp(fsl.ctc_crf_log_partition(np.zeros((2, 4, 3))))), 6)
    36.0
    """
    chain = as_chain(scores, lengths, predecessors)
    values = _run(chain, num_threads)
    return float(values[0]) if chain.scores.single else values


@known_keywords
def ctc_crf_posteriors(
    scores: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    predecessors: ArrayLike | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    r"""Posterior probabilities of the arcs of a CTC-CRF at each frame.

    .. math:: p_{b,t,k,p} = \sum_{\pi: k_t = k, p_t = p} e^{s_b(\pi)} / Z_b

    with the scores s of `ctc_crf_loss`, by the forward-backward algorithm.

    Parameters
    ----------
    scores, lengths, predecessors, num_threads
        As for `ctc_crf_loss`.

    Returns
    -------
    ndarray, shape and dtype of `scores`
        The probabilities. Those of a frame add up to 1, except for 0 in the padding and in a sequence
        whose paths are all forbidden. NaN in a sequence with NaN or +inf in a valid frame.

    Raises
    ------
    ValueError, TypeError
        As `ctc_crf_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> scores = np.log(np.array([[[2.0, 1.0, 1.0], [2.0, 1.0, 1.0]]]))
    >>> fsl.ctc_crf_posteriors(scores)
    array([[[0.25 , 0.125, 0.125],
            [0.25 , 0.125, 0.125]]])
    """
    chain = as_chain(scores, lengths, predecessors)
    gradient = as_gradient(chain.scores, True, None)
    _run(chain, num_threads, grad=gradient.values)
    return gradient.finish()


class CTCCRFPath(NamedTuple):
    """Best path of a CTC-CRF; without B for a single sequence.

    Attributes
    ----------
    labels : ndarray of int64 [B, S]
        Labels that the path spells, including those of its first state; -1 in the padding. With a table of
        predecessors, the states that it visits.
    label_lengths : ndarray of int64 [B], or int for one sequence
        Number of labels.
    arcs : ndarray of int64 [B, T]
        Arc into the state of each frame, 0 to stay; -1 in the padding.
    states : ndarray of int64 [B, T]
        State of each frame; -1 in the padding.
    score : ndarray of float64 [B], or float for one sequence
        Score of the path; -inf if every path is forbidden.
    """

    labels: Integers
    label_lengths: Any
    arcs: Integers
    states: Integers
    score: Any

    def __repr__(self) -> str:
        return outline(self)


@known_keywords
def ctc_crf_decode(
    scores: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    predecessors: ArrayLike | None = None,
    num_threads: int | None = None,
) -> CTCCRFPath:
    r"""Path of the highest score of a CTC-CRF, by the Viterbi algorithm, and its labels.

    .. math:: \hat\pi_b = \arg\max_\pi s_b(\pi)

    with the scores s of `ctc_crf_loss`. Among paths with equal scores, the one with the smallest last state is
    returned; further ties are resolved by the last arc, the arc before it, and so on.

    Parameters
    ----------
    scores, lengths, predecessors, num_threads
        As for `ctc_crf_loss`.

    Returns
    -------
    CTCCRFPath
        Named tuple ``(labels, label_lengths, arcs, states, score)``. A sequence without frames has
        score 0, a sequence whose paths are all forbidden has score -inf, and a sequence with NaN or +inf
        in a valid frame has score NaN. The arrays of these sequences contain only padding.

    Raises
    ------
    ValueError, TypeError
        As `ctc_crf_loss`.

    Examples
    --------
    The path begins in state 0, which is label 1, stays there and moves to state 1 with label 2:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> scores = np.zeros((2, 2, 3))
    >>> scores[0, 0, 0] = scores[1, 1, 1] = 1.0
    >>> path = fsl.ctc_crf_decode(scores)
    >>> path.labels, path.arcs, path.states, path.score
    (array([1, 2]), array([0, 1]), array([0, 1]), 2.0)
    """
    chain = as_chain(scores, lengths, predecessors)
    batch, n_frames, _ = chain.scores.values.shape
    paths = filled((batch, n_frames), -1, np.int64)
    score = _run(chain, num_threads, paths=paths, counted=chain.lengths > 0)
    inside = paths >= 0
    states, arcs = np.where(inside, paths // chain.n_arcs, -1), np.where(inside, paths % chain.n_arcs, -1)
    labels, counts = _read_labels(chain, arcs, states)
    if chain.scores.single:
        return CTCCRFPath(labels[0], int(counts[0]), arcs[0], states[0], float(score[0]))
    return CTCCRFPath(labels, counts, arcs, states, score)


def _read_labels(chain: Chain, arcs: Integers, states: Integers) -> tuple[Integers, Integers]:
    """Return the labels [B, S] of paths, -1 in the padding, and their numbers [B]."""
    batch, n_frames = arcs.shape
    n_bases, word = chain.n_arcs - 1, chain.word
    found = np.any(arcs >= 0, axis=1)
    first = np.zeros(batch, np.int64)
    if n_frames:
        first = chain.table[arcs[:, 0], states[:, 0]]
    if word:
        powers = n_bases ** np.arange(word - 1, -1, -1, dtype=np.int64)
        start, spelled = first[:, None] // powers % n_bases + 1, states % n_bases + 1
    else:
        start, spelled = first[:, None], states
    every = np.concatenate((start, spelled), axis=1)
    moved = np.concatenate((np.repeat(found[:, None], start.shape[1], axis=1), arcs > 0), axis=1)
    counts = moved.sum(axis=1, dtype=np.int64)
    labels = filled((batch, int(counts.max(initial=0))), -1, np.int64)
    labels[np.arange(labels.shape[1]) < counts[:, None]] = every[moved]
    return labels, counts


def _run(
    chain: Chain,
    num_threads: int | None,
    *,
    counted: NDArray[np.bool_] | None = None,
    scale: NDArray[np.float64] | None = None,
    spelling: Spelling | None = None,
    paths: Integers | None = None,
    grad: NDArray[Any] | None = None,
    in_place: bool = False,
    outside: float = 0.0,
) -> NDArray[np.float64]:
    """Return the results of the kernel [B], `outside` for sequences that are not `counted`."""
    batch, lengths = len(chain.lengths), chain.lengths
    values = chain.scores.values.copy() if in_place else chain.scores.values
    order = np.arange(batch) if counted is None else np.flatnonzero(counted)
    order = order[np.argsort(-lengths[order], kind="stable")].astype(np.int64, copy=False)
    # Nanoseconds, roughly, of an arc and of a label, in each direction.
    cost = chain.table.size * 5.0 + (0 if spelling is None else 20.0 * float(spelling.counts.max(initial=0)))
    work = float(lengths[order].sum()) * cost * (1 if grad is None else 2)
    threads = threads_for(num_threads, work, len(order))
    loss = filled(batch, outside)
    if grad is not None:
        grad[...] = 0
    if len(order):
        labels: tuple[Integers | None, ...] = (None,) * 4
        if spelling is not None:
            labels = spelling.stays, spelling.moves, spelling.starts, spelling.counts
        scale = filled(batch, 1.0) if scale is None else scale
        _, kind = stored(values)
        _kernel.run(kind, (values, chain.table, lengths, order, scale, *labels, loss, paths, grad), threads)
    return loss
