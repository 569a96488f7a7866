"""Token-and-duration transducer: loss and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_weights, filled, stored, stored_or_none
from .._core.gradient import as_gradients_of, finished
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.messages import listed, outline
from .._core.options import as_number, choice
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.scores import Scores, as_grid_scores
from .._core.types import Infeasible, Loss, SequenceReduction
from .arguments import Lattice, as_lattice, schedule_frames
from .durations import as_durations

if TYPE_CHECKING:
    from .._kernels.transducer import loss as _kernel
else:
    _kernel = load("transducer.loss")


class TDTGradient(NamedTuple):
    """Gradients of the loss of a token-and-duration transducer, each of the shape and dtype of its argument.

    Attributes
    ----------
    logits : ndarray [B, T, U+1, V], or None if `grad_out` was given without it
    duration_logits : ndarray [B, T, U+1, D], or None if `grad_out` was given without it
    """

    logits: NDArray[Any] | Any
    duration_logits: NDArray[Any] | Any

    def __repr__(self) -> str:
        return outline(self)


GradOut = TDTGradient | tuple[NDArray[Any] | None, NDArray[Any] | None]
LossAndGradients = tuple[Loss, TDTGradient]


@known_keywords
def tdt_loss(
    logits: ArrayLike,
    duration_logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    durations: ArrayLike,
    blank: int = 0,
    sigma: float = 0.0,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: GradOut | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradients:
    r"""Loss of a token-and-duration transducer (TDT), and its gradients.

    At each node (t, u) a TDT predicts a token and, independently, a duration: the number of frames to
    advance [1]_. The loss is the negative log-likelihood of the labels, in nats, summed over all
    alignments and durations. With the probabilities :math:`\phi` of the blank, y of the next label and
    :math:`q_d` of the durations d, all of the node,

    .. math::
        \alpha(t,u) &= \sum_{d>0} \alpha(t-d,u)\,\phi(t-d,u)\,q_d(t-d,u)
                     + \sum_{d} \alpha(t-d,u-1)\,y(t-d,u-1)\,q_d(t-d,u-1) \\
        L &= -\log \sum_{d>0} \alpha(T-d,U)\,\phi(T-d,U)\,q_d(T-d,U)

    from :math:`\alpha(0,0) = 1`, over the nodes t < T. Only labels may have duration 0. A path ends with a
    blank whose duration reaches frame T. The weight of every arc is multiplied by :math:`e^{-\sigma}`.

    Parameters
    ----------
    logits : array_like [B, T, U+1, V], or [T, U+1, V] for one sequence
        Scores of V classes at T frames after 0 to U labels; a softmax is applied. float32 and float64 are
        native, float16 and bfloat16 are computed in float32. Any strides; a class axis that is not
        contiguous is copied. Padding (frames and nodes from a sequence's lengths on) is never read.
    duration_logits : array_like [B, T, U+1, D], or [T, U+1, D]
        Scores of D durations; a softmax is applied. Of any of these dtypes, computed in float64.
    labels : array_like of int
        Padded [B, U] with any values in the padding, or concatenated in one dimension with
        `label_lengths`, or a list or column of B one-dimensional sequences; [U] for one sequence.
    logit_lengths, label_lengths : array_like of int [B], optional
        Frames and labels of each sequence; the full ones by default. An int for one sequence.
    durations : array_like of int [D]
        Frames of each duration, in the order of `duration_logits`: distinct, 0 or more, at least one
        above 0. ``[0, 1, 2, 3, 4]`` is usual.
    blank : int
        Class of the blank; negative counts from the end.
    sigma : float
        Number subtracted from the log-probability of every arc, 0 or more; 0.05 is usual. It makes paths with few, long
        arcs more probable ("logit under-normalisation").
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence whose number of frames is not a sum of durations: loss inf, loss 0, or ValueError. "inf"
        and "zero" also apply to a sequence of probability 0 because of scores of -inf. The gradient of such a sequence
        is 0.
    reduction : {"mean", "sequence_mean", "sum", "none"}
        "mean" divides the sum of the losses by B; "sequence_mean" divides each loss by its number of
        labels (at least 1) first; "none" gives [B]. With `sample_weight`, averages divide by the sum of
        the weights instead of B.
    normalizer : float, optional
        Divisor of the sum with ``reduction="sum"``.
    sample_weight : array_like [B], optional
        Weight of each sequence, finite and not negative. A sequence of weight 0 is ignored.
    return_grad : bool
        If True, return the gradients as well.
    grad_out : TDTGradient, optional
        Arrays of the shapes and dtypes of `logits` and `duration_logits` to write the gradients to; each may be the
        argument itself. None in place of an array means that this gradient is not needed. Both are computed; a gradient
        that is not wanted takes temporary memory. Implies `return_grad`.
    num_threads : int, optional
        Threads to use, also for a single sequence; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss in nats.
    grad : TDTGradient
        Named tuple ``(logits, duration_logits)`` of the gradients of the reduced loss (of the sum of the losses, with
        "none") with respect to `logits` and `duration_logits`, each of the shape and dtype of its argument, or None if
        it is not needed; exactly 0 in the padding. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels, durations, weights or options are not as above. The message names the
        argument, the position, the value and what is allowed. In that case, nothing has been written. If
        ``infeasible="raise"`` and sequences are infeasible; the message names them.

    See Also
    --------
    rnnt_loss : the transducer without durations.
    rnnt_greedy_decode : decoding, by its argument `durations`.

    Notes
    -----
    The gradients at a node with the occupancy :math:`\gamma`, the occupancies b and l of its arcs and
    those of each duration, :math:`o_d`, are

    .. math::
        \frac{\partial L}{\partial z_v} = \gamma\,p_v - [v = \mathrm{blank}]\,b - [v = y_{u+1}]\,l, \qquad
        \frac{\partial L}{\partial d_k} = \gamma\,q_k - o_k.

    The result has the same bits with any number of threads and in any batch. NaN or +inf among the scores of a valid
    node makes loss and gradients of that sequence NaN.

    The working memory is 52 + 16 D bytes for each node of the sequences in progress, as for `rnnt_loss`.

    Replaces ``nemo.collections.asr.losses.rnnt_pytorch.TDTLossPytorch(blank, durations, reduction, sigma)``, whose
    logits and duration logits are one array: pass ``x[..., :-D]`` and ``x[..., -D:]``. With probability ``omega``,
    NeMo's ``TDTLossNumba`` trains a batch with the loss without durations; with this library, the caller makes this
    choice: ``rnnt_loss(x[..., :-D], ...)``.

    References
    ----------
    .. [1] H. Xu, F. Jia, S. Majumdar, H. Huang, S. Watanabe, B. Ginsburg, "Efficient sequence transduction
       by jointly predicting tokens and durations", ICML 2023, arXiv:2304.06795.

    Examples
    --------
    With two frames and no label, there are two paths: two blanks of duration 1, or one blank of
    duration 2.

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> logits, of_durations = np.zeros((2, 1, 2)), np.log([[[1.0, 1, 2]], [[1, 2, 1]]])
    >>> loss, grad = fsl.tdt_loss(logits, of_durations, [], durations=[0, 1, 2], return_grad=True)
    >>> round(float(np.exp(-loss)), 6)  # 1/2 1/4 1/2 1/2 + 1/2 1/2
    0.28125
    >>> grad.duration_logits[:, 0].round(4)
    array([[ 0.25  ,  0.1389, -0.3889],
           [ 0.0278, -0.0556,  0.0278]])
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    choice("infeasible", infeasible, get_args(Infeasible))
    lattice = as_lattice(
        logits,
        labels,
        logit_lengths,
        label_lengths,
        blank=blank,
        input="logits",
        blank_model="softmax",
        topology="regular",
        ranges=None,
        infeasible="inf" if infeasible == "raise" else infeasible,
    )
    steps = as_durations(durations)
    of_durations = _as_duration_scores(duration_logits, lattice, len(steps))
    sigma = as_number("sigma", sigma, 0.0, np.inf)
    weight = as_weights("sample_weight", sample_weight, len(lattice.frames))
    if infeasible == "raise":
        _require_feasible(lattice, steps)
    gradients = as_gradients_of(
        {"logits": lattice.scores, "duration_logits": of_durations}, return_grad, grad_out, TDTGradient
    )
    scale = length_scale(reduction, lattice.labels.lengths, normalizer, weight)
    order, threads = schedule_frames(lattice, num_threads)
    loss = filled(len(lattice.frames), np.inf)
    grads = [gradient.values for gradient in gradients]
    if any(grad is not None for grad in grads):  # the kernel computes both
        both = zip(grads, (lattice.scores, of_durations), strict=True)
        grads = [scores.empty() if grad is None else grad for grad, scores in both]
    if not lattice.empty:
        _kernel.tdt_loss(
            *stored(lattice.scores.values),
            lattice.labels.values,
            lattice.labels.starts,
            lattice.frames,
            lattice.labels.lengths,
            order,
            scale,
            lattice.blank,
            *stored(of_durations.values),
            durations=steps,
            sigma=sigma,
            loss=loss,
            grad=stored_or_none(grads[0])[0],
            duration_grad=stored_or_none(grads[1])[0],
            num_threads=threads,
        )
    reduced = finish_sequences(reduction, loss, scale, single=lattice.scores.single, infeasible=infeasible)
    if grad_out is None and not return_grad:
        return reduced
    return reduced, TDTGradient(*finished(gradients))


def _as_duration_scores(duration_logits: Any, lattice: Lattice, n_durations: int) -> Scores:
    """Check the logits of the durations [B, T, U+1, D], of which there is one for each node."""
    scores = as_grid_scores("duration_logits", duration_logits, classes="D")
    shape = (*lattice.scores.given.shape[:-1], n_durations)
    given = scores.given.shape
    if given != shape:
        why = ", D numbers for each row of logits"
        if given[:-1] == shape[:-1]:
            why = f", as durations has {n_durations} numbers"
        raise ValueError(f"duration_logits has shape {given}; allowed: {shape}{why}")
    return scores


def _require_feasible(lattice: Lattice, durations: NDArray[np.int64]) -> None:
    """Raise ValueError if the durations cannot add up to the frames of sequences, naming them."""
    longest = int(lattice.frames.max(initial=0))
    most = np.full(longest + 1, -1, np.int64)  # arcs above 0 that add up to a number of frames
    most[0] = 0
    steps = durations[durations > 0]
    for t in range(1, longest + 1):
        before = most[t - steps[steps <= t]]
        most[t] = 1 + before.max(initial=-1) if before.max(initial=-1) >= 0 else -1
    # Unless a label may take no frame, each needs an arc beside that of the last blank.
    needed = np.ones_like(lattice.frames) if (durations == 0).any() else lattice.labels.lengths + 1
    bad = np.flatnonzero((lattice.frames == 0) | (most[lattice.frames] < needed))
    if bad.size:
        b = bad[0]
        why = f", as sequence {b} has {lattice.labels.lengths[b]} labels" if needed[b] > 1 else ""
        raise ValueError(
            f"logit_lengths[{b}] is {lattice.frames[b]}; allowed: a sum of {needed[b]} or more positive durations"
            f"{why}; infeasible sequences: {listed(bad)}"
        )
