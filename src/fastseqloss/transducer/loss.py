"""Transducer loss and the occupancies of its lattice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_weights, check_output, filled, stored_or_none
from .._core.gradient import as_gradient
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.messages import outline
from .._core.options import as_number
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.types import (
    BlankModel,
    Infeasible,
    Input,
    Loss,
    LossAndGradient,
    SequenceReduction,
    Topology,
)
from .arguments import as_lattice, schedule_frames

if TYPE_CHECKING:
    from .._kernels.transducer import loss as _kernel
else:
    _kernel = load("transducer.loss")


class RNNTPosteriors(NamedTuple):
    """Occupancies of the arcs, as `rnnt_posteriors` computes them; without B for a single sequence.

    Attributes
    ----------
    blank : ndarray [B, T, U+1]
        Probability that the blank is emitted at frame t after u labels.
    label : ndarray [B, T, U+1]
        Probability that label u + 1 is emitted at frame t after u labels; 0 for u = U.
    """

    blank: NDArray[Any]
    label: NDArray[Any]

    def __repr__(self) -> str:
        return outline(self)


@known_keywords
def rnnt_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    blank_model: BlankModel = "softmax",
    topology: Topology = "regular",
    fastemit: float = 0.0,
    ranges: ArrayLike | None = None,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: NDArray[Any] | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradient:
    r"""Transducer loss (RNN-T), and its gradient.

    The negative log-likelihood, in nats, of label sequences given scores of every class at every
    pair of a frame t and a number u of labels emitted before, summed over all alignments. From node
    (t, u) an alignment either emits the blank and goes to the next frame, with probability
    :math:`\phi(t,u)`, or emits label u + 1 and stays, with probability :math:`y(t,u)` [1]_.

    .. math::
        \alpha(t,u) &= \alpha(t-1,u)\,\phi(t-1,u) + \alpha(t,u-1)\,y(t,u-1), \qquad \alpha(0,0) = 1

        L &= -\log\left(\alpha(T-1,U)\,\phi(T-1,U)\right)

    Parameters
    ----------
    logits : array_like [B, T, U+1, V], or [T, U+1, V] for one sequence
        Scores of V classes at T frames after 0 to U labels. float32 and float64 are native, float16
        and bfloat16 are computed in float32, row by row. Any strides; a class axis that is not
        contiguous is copied. Padding (frames from a sequence's length on, columns beyond its number
        of labels) is never read.
    labels : array_like of int
        Padded [B, U] with any values in the padding, or concatenated in one dimension with
        `label_lengths`, or a list or column of B one-dimensional sequences; [U] for one sequence.
    logit_lengths, label_lengths : array_like of int [B], optional
        Lengths of each sequence; the full ones by default. An int for one sequence.
    blank : int
        Class of the blank; negative counts from the end.
    input : {"logits", "log_probs", "probs"}
        Kind of the numbers in `logits`. A softmax is applied only to logits. Log-probabilities and
        probabilities are taken as they are, normalised or not, and the gradient is the derivative
        with respect to them.
    blank_model : {"softmax", "hat"}
        Probabilities from logits z. "softmax" is over all classes. "hat", the hybrid autoregressive
        transducer [2]_, takes the sigmoid of the blank's logit, and divides the remaining
        probability among the other classes by a softmax: :math:`\phi = \sigma(z_{blank})`,
        :math:`y = (1 - \phi)\,p_{label}`.
    topology : {"regular", "modified"}
        With "regular", a label stays at its frame. With "modified", it also advances to the next
        frame, so that a frame emits at most one label:
        :math:`\alpha(t,u) = \alpha(t-1,u)\,\phi(t-1,u) + \alpha(t-1,u-1)\,y(t-1,u-1)` and
        :math:`L = -\log \alpha(T,U)`.
    fastemit : float
        FastEmit's weight :math:`\lambda`, 0 or more: the gradient is computed with the occupancies
        of labels times :math:`1 + \lambda`, which makes a model emit labels earlier [3]_. It is not
        the gradient of a closed-form loss; the returned loss does not include the factor.
    ranges : array_like of int [B, T], or [T] for one sequence, optional
        For a pruned lattice [4]_: the number of labels s[t] of the first column of each frame of
        `logits`, which is then [B, T, R, V]. s[0] is 0, s[t] is at least s[t-1] and less than
        s[t-1] + R, and s at a sequence's last frame is U - R + 1, or 0 for fewer labels. Alignments
        outside the columns have probability 0.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence without frames, or with fewer frames than labels in the modified
        topology: loss inf, loss 0, or ValueError. "inf" and "zero" also apply to a sequence whose
        probability is 0 because of scores of -inf (probabilities of 0). The gradient of such
        a sequence is 0.
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
        Array of shape and dtype of `logits` to write the gradient to; may be `logits` itself.
        Implies `return_grad`.
    num_threads : int, optional
        Threads to use, also for a single sequence; see `set_num_threads` for the default.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss in nats.
    grad : ndarray, shape and dtype of `logits`
        Gradient of the reduced loss (of the sum of the losses, with "none"); exactly 0 in the
        padding. Only with `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels, weights or options are not as above. The message names
        the argument, the position, the value and what is allowed. In that case, nothing has been
        written. If ``infeasible="raise"`` and sequences are too short; the message names them.

    See Also
    --------
    rnnt_posteriors : the probability of each label at each frame.
    rnnt_align : the best alignment.
    ctc_loss : the loss for scores that do not depend on the labels before.

    Notes
    -----
    With the softmax p and the occupancies b and l of the two arcs out of a node, the probabilities
    that an alignment takes them, the gradient with respect to logits is
    :math:`(b + l)\,p_v - [v = blank]\,b - [v = label]\,l`. Rows whose occupancies are below
    :math:`2^{-120}` are 0.

    The result has the same bits with any number of threads and in any batch. NaN or +inf among the
    scores of a node that alignments pass makes loss and gradient of that sequence NaN, as does a
    negative probability; for log-probabilities and probabilities only the blank and the labels
    matter.

    The working memory is 36 bytes (40 for float64) for each node of the sequences in progress: one
    per thread, or at most three whose frames the threads share. With ``grad_out=logits`` the call
    needs no other large array. Replaces ``torchaudio.functional.rnnt_loss``, ``warp_rnnt`` and
    ``k2.rnnt_loss_pruned``.

    References
    ----------
    .. [1] A. Graves, "Sequence transduction with recurrent neural networks", 2012,
       arXiv:1211.3711.
    .. [2] E. Variani, D. Rybach, C. Allauzen, M. Riley, "Hybrid autoregressive transducer (HAT)",
       ICASSP 2020.
    .. [3] J. Yu et al., "FastEmit: low-latency streaming ASR with sequence-level emission
       regularization", ICASSP 2021.
    .. [4] F. Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training", Interspeech 2022.

    Examples
    --------
    Two frames, one label, and two equally likely classes. The label is emitted at the first or the
    second frame, and a blank ends each frame:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> loss, grad = fsl.rnnt_loss(np.zeros((2, 2, 2)), [1], return_grad=True)
    >>> round(float(np.exp(-loss)), 6)
    0.25
    >>> grad[:, 0]
    array([[ 0.  ,  0.  ],
           [ 0.25, -0.25]])

    A batch; the second sequence has three frames and one label:

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(2, 5, 3, 4)).astype(np.float32)
    >>> fsl.rnnt_loss(x, [[1, 2], [3, 0]], [5, 3], [2, 1], reduction="none").round(4)
    array([9.209 , 7.5672])
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    lattice = as_lattice(
        logits,
        labels,
        logit_lengths,
        label_lengths,
        blank=blank,
        input=input,
        blank_model=blank_model,
        topology=topology,
        ranges=ranges,
        infeasible=infeasible,
    )
    fastemit = as_number("fastemit", fastemit, 0.0, np.inf)
    scores = lattice.scores
    batch = len(scores.values)
    weight = as_weights("sample_weight", sample_weight, batch)
    gradient = as_gradient(scores, return_grad, grad_out)
    scale = length_scale(reduction, lattice.labels.lengths, normalizer, weight)
    order, threads = schedule_frames(lattice, num_threads)
    loss = filled(batch, np.inf)
    if not lattice.empty:
        _kernel.rnnt_loss(
            **lattice.kernel_arguments(order, scale),
            fastemit=fastemit,
            loss=loss,
            grad=stored_or_none(gradient.values)[0],
            blank_occupancy=None,
            label_occupancy=None,
            num_threads=threads,
        )
    reduced = finish_sequences(reduction, loss, scale, single=scores.single, infeasible=infeasible)
    if gradient.values is None:
        return reduced
    return reduced, gradient.finish()


@known_keywords
def rnnt_posteriors(
    logits: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    input: Input = "logits",
    blank_model: BlankModel = "softmax",
    topology: Topology = "regular",
    ranges: ArrayLike | None = None,
    infeasible: Infeasible = "inf",
    num_threads: int | None = None,
) -> RNNTPosteriors:
    r"""Occupancies of the arcs of a transducer's lattice: the position of each label in time.

    Two arcs leave a node, frame t after u labels: the blank and label u + 1. Their occupancies are
    the probabilities, given scores and labels, that an alignment takes them [1]_:

    .. math:: b(t,u) = \frac{\alpha(t,u)\,\phi(t,u)\,\beta(t+1,u)}{P}, \qquad
              l(t,u) = \frac{\alpha(t,u)\,y(t,u)\,\beta(t,u+1)}{P}

    where :math:`\beta(t,u)` is the sum over all paths from the node to the end, as :math:`\alpha(t,u)`
    of `rnnt_loss` is the sum over those from the beginning to the node.

    Parameters
    ----------
    logits, labels, logit_lengths, label_lengths, blank, input, blank_model, topology, ranges
        As for `rnnt_loss`.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence without frames, or with fewer frames than labels in the modified
        topology: occupancies of 0, or ValueError with "raise". A sequence of probability 0 has
        occupancies of 0, too.
    num_threads : int, optional
        Threads to use, also for a single sequence; see `set_num_threads` for the default.

    Returns
    -------
    RNNTPosteriors
        ``blank`` and ``label`` [B, T, U+1], or [B, T, R] with `ranges`, in the dtype of `logits`;
        without B for a single sequence. With the regular topology the blanks of a frame add up to 1;
        with the modified one, the blanks and labels of a frame together. Each label adds up to 1 over
        the frames. 0 in the padding.

    Raises
    ------
    ValueError, TypeError
        As `rnnt_loss`.

    See Also
    --------
    rnnt_align : the single best alignment.

    References
    ----------
    .. [1] A. Graves, "Sequence transduction with recurrent neural networks", 2012,
       arXiv:1211.3711, section 2.4.

    Examples
    --------
    With three frames and one label, the label is equally likely at each frame:

    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> blank, label = fsl.rnnt_posteriors(np.zeros((3, 2, 2)), [1])
    >>> label[:, 0].round(4)
    array([0.3333, 0.3333, 0.3333])
    >>> blank.sum(axis=1)
    array([1., 1., 1.])
    """
    lattice = as_lattice(
        logits,
        labels,
        logit_lengths,
        label_lengths,
        blank=blank,
        input=input,
        blank_model=blank_model,
        topology=topology,
        ranges=ranges,
        infeasible=infeasible,
    )
    scores = lattice.scores
    order, threads = schedule_frames(lattice, num_threads)
    shape = scores.values.shape[:3]
    check_output("the posteriors", shape, 16)
    occupancies = np.zeros(shape), np.zeros(shape)
    if not lattice.empty:
        _kernel.rnnt_loss(
            **lattice.kernel_arguments(order, filled(shape[0], 1.0)),
            fastemit=0.0,
            loss=np.empty(shape[0]),
            grad=None,
            blank_occupancy=occupancies[0],
            label_occupancy=occupancies[1],
            num_threads=threads,
        )
    with np.errstate(under="ignore"):
        blank_arcs, label_arcs = (x.astype(scores.given.dtype, copy=False) for x in occupancies)
    if scores.single:
        return RNNTPosteriors(blank_arcs[0], label_arcs[0])
    return RNNTPosteriors(blank_arcs, label_arcs)
