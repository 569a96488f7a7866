"""Transducer with an additive joiner, whose logits are never formed: loss, gradients, posteriors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import as_weights, check_output, kernel_ready
from .._core.gradient import Gradient, as_gradients_of, finished
from .._core.keywords import known_keywords
from .._core.labels import Names, Sequences, as_sequences
from .._core.levels import load
from .._core.messages import outline
from .._core.options import as_index, as_number, choice
from .._core.reduction import SEQUENCE_REDUCTIONS, check_reduction, finish_sequences, length_scale
from .._core.scores import Scores, as_scores
from .._core.threads import check_num_threads, threads_for
from .._core.types import (
    Infeasible,
    Loss,
    SequenceReduction,
    Topology,
)
from .arguments import check_columns, require_feasible
from .loss import RNNTPosteriors

if TYPE_CHECKING:
    from .._kernels.transducer import simple as _kernel
else:
    _kernel = load("transducer.simple")

# Normalisers that are smaller lack digits: below the normal numbers, products count as 0.
_LEAST = {np.dtype(np.float32): 1e-25, np.dtype(np.float64): 1e-250}

_MOST_TERMS = 1 << 29  # of a product of matrices: some hundredths of a second between checks for signals
_FEW = 64  # classes: float64 takes little longer than float32, and its errors cannot be seen

_NAMES = Names(logits="lm")


class RNNTSimpleGradient(NamedTuple):
    """Gradients of the loss of an additive joiner, each of the shape and dtype of the argument of its name.

    Attributes
    ----------
    am : ndarray [B, T, V], or None if `grad_out` was given without it
    lm : ndarray [B, U+1, V], or None if `grad_out` was given without it
    """

    am: NDArray[Any] | Any
    lm: NDArray[Any] | Any

    def __repr__(self) -> str:
        return outline(self)


GradOut = RNNTSimpleGradient | tuple[NDArray[Any] | None, NDArray[Any] | None]
LossAndGradients = tuple[Loss, RNNTSimpleGradient]


class _Joiner(NamedTuple):
    """Checked scores and labels of a batch."""

    am: Scores
    lm: Scores
    labels: Sequences
    blank: int
    modified: bool

    @property
    def frames(self) -> NDArray[np.int64]:
        """Number of frames of each sequence."""
        return self.labels.frames


@known_keywords
def rnnt_simple_loss(
    am: ArrayLike,
    lm: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    topology: Topology = "regular",
    fastemit: float = 0.0,
    infeasible: Infeasible = "inf",
    reduction: SequenceReduction = "mean",
    normalizer: float | None = None,
    sample_weight: ArrayLike | None = None,
    return_grad: bool = False,
    grad_out: GradOut | None = None,
    num_threads: int | None = None,
) -> Loss | LossAndGradients:
    r"""Transducer loss of an additive joiner, and its gradients.

    The loss of `rnnt_loss` for logits that are sums of a score of the frame and a score of the node,

    .. math:: z_{b,t,u,v} = \mathrm{am}_{b,t,v} + \mathrm{lm}_{b,u,v},

    without an array of logits [1]_: the softmax normalisers are one matrix product,
    :math:`\sum_v e^{\mathrm{am}_{t,v}} e^{\mathrm{lm}_{u,v}}`, and the gradients are two more. It trains the
    projections whose posteriors select the nodes of a pruned transducer (`rnnt_prune_ranges`).

    Parameters
    ----------
    am : array_like [B, T, V], or [T, V] for one sequence
        Scores of V classes at T frames, from the encoder. float32 and float64 are native, float16 and
        bfloat16 are computed in float32. Any strides; a class axis that is not contiguous is copied.
        Padding (frames from a sequence's length on) is never read.
    lm : array_like [B, U+1, V], or [U+1, V]
        Scores of V classes after 0 to U labels, from the predictor. The computation is in float64 if one
        of `am` and `lm` is, or if there are at most 64 classes.
    labels : array_like of int
        Padded [B, U] with any values in the padding, or concatenated in one dimension with
        `label_lengths`, or a list or column of B one-dimensional sequences; [U] for one sequence.
    logit_lengths, label_lengths : array_like of int [B], optional
        Frames and labels of each sequence; the full ones by default. An int for one sequence.
    blank : int
        Class of the blank; negative counts from the end.
    topology : {"regular", "modified"}
        With "modified", a label advances to the next frame, so that a frame emits at most one label:
        :math:`\alpha(t,u) = \alpha(t-1,u)\,\phi(t-1,u) + \alpha(t-1,u-1)\,y(t-1,u-1)` and
        :math:`L = -\log \alpha(T,U)`, with the probabilities :math:`\phi` of the blank and y of the next label, as for
        `rnnt_loss`.
    fastemit : float
        Factor 1 + `fastemit` of the gradients of the labels' arcs, as for `rnnt_loss`; 0 or more. The loss stays the
        same.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence that has no path because it has too few frames: loss inf, loss 0, or
        ValueError. "inf" and "zero" also apply to a sequence of probability 0 because of scores of
        -inf. The gradient of such a sequence is 0.
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
    grad_out : RNNTSimpleGradient, optional
        Arrays of the shapes and dtypes of `am` and `lm` to write the gradients to; each may be the argument itself.
        None in place of an array means that this gradient is not needed. Implies `return_grad`.
    num_threads : int, optional
        Threads to use; see `set_num_threads` for the default. The number of threads of NumPy's matrix products is set
        by its BLAS.

    Returns
    -------
    loss : float, or ndarray of float64 [B] with ``reduction="none"``
        The loss in nats.
    grad : RNNTSimpleGradient
        Named tuple ``(am, lm)`` of the gradients of the reduced loss (of the sum of the losses, with "none"), each of
        the shape and dtype of its argument, or None if it is not needed; exactly 0 in the padding. Only with
        `return_grad` or `grad_out`.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels, weights or options are not as above. The message names the argument, the
        position, the value and what is allowed. In that case, nothing has been written. If ``infeasible="raise"`` and
        sequences have no path; the message names them.

    See Also
    --------
    rnnt_simple_posteriors : the occupancies, for `rnnt_prune_ranges`.
    rnnt_loss : the loss of any joiner.

    Notes
    -----
    The result has the same bits with any `num_threads` and in any batch. The classes of the blank and the labels are
    computed separately, in float64, so that gradients near 0 are accurate. If the normaliser of a node is below 1e-25
    times the value that the maxima of its am and lm would give, it is computed directly, in float64. The scores of the
    arcs are sums in float64: if every path crosses a score of -1e12, for instance, differences below 1e-4 between paths
    are lost. NaN or +inf among the scores of a valid frame or node makes loss and gradients of that sequence NaN.

    The working memory is that of one sequence: two to three arrays of the size of its scores, and 60 bytes
    for each node.

    Replaces ``k2.rnnt_loss_simple(lm, am, symbols, 0, boundary)``.

    References
    ----------
    .. [1] F. Kuang, L. Guo, W. Kang, L. Lin, M. Luo, Z. Yao, D. Povey, "Pruned RNN-T for fast,
       memory-efficient ASR training", Interspeech 2022.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> am, lm = np.log([[1.0, 3], [2, 1]]), np.log([[1.0, 1], [2, 1]])
    >>> loss, grad = fsl.rnnt_simple_loss(am, lm, [1], return_grad=True)
    >>> round(loss, 6)
    1.181994
    >>> grad.am.round(4)
    array([[-0.437 ,  0.437 ],
           [-0.0551,  0.0551]])

    `rnnt_loss` of the sums gives the same loss:

    >>> round(fsl.rnnt_loss(am[:, None] + lm, [1]), 6)
    1.181994
    """
    normalizer = check_reduction(reduction, SEQUENCE_REDUCTIONS, normalizer)
    joiner = _as_joiner(am, lm, labels, logit_lengths, label_lengths, blank, topology, infeasible)
    label_factor = 1.0 + as_number("fastemit", fastemit, 0.0, np.inf)
    weight = as_weights("sample_weight", sample_weight, len(joiner.frames))
    check_num_threads(num_threads)
    gradients = as_gradients_of({"am": joiner.am, "lm": joiner.lm}, return_grad, grad_out, RNNTSimpleGradient)
    scale = length_scale(reduction, joiner.labels.lengths, normalizer, weight)
    loss = np.empty(len(joiner.frames))
    for b in range(len(loss)):
        loss[b] = _Sequence(joiner, b, num_threads).run(gradients, scale[b], label_factor)
    reduced = finish_sequences(reduction, loss, scale, single=joiner.am.single, infeasible=infeasible)
    if grad_out is None and not return_grad:
        return reduced
    return reduced, RNNTSimpleGradient(*finished(gradients))


@known_keywords
def rnnt_simple_posteriors(
    am: ArrayLike,
    lm: ArrayLike,
    labels: ArrayLike,
    logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None,
    *,
    blank: int = 0,
    topology: Topology = "regular",
    infeasible: Infeasible = "inf",
    num_threads: int | None = None,
) -> RNNTPosteriors:
    r"""Compute the posteriors of the arcs of a transducer with an additive joiner.

    They are the probabilities, given scores and labels, that an alignment takes the blank or the next
    label at frame t after u labels:

    .. math:: b(t,u) = \frac{\alpha(t,u)\,\phi(t,u)\,\beta(t+1,u)}{P}, \qquad
              l(t,u) = \frac{\alpha(t,u)\,y(t,u)\,\beta(t,u+1)}{P}

    with the sums and probabilities of `rnnt_posteriors` for the logits :math:`\mathrm{am}_t + \mathrm{lm}_u`, which are
    not formed. `rnnt_prune_ranges` selects the nodes of a pruned transducer by these posteriors [1]_.

    Parameters
    ----------
    am, lm, labels, logit_lengths, label_lengths, blank, topology
        As for `rnnt_simple_loss`.
    infeasible : {"inf", "zero", "raise"}
        Result for a sequence without a path: posteriors of 0, or ValueError with "raise". A sequence of
        probability 0 has posteriors of 0, too.
    num_threads : int, optional
        As for `rnnt_simple_loss`.

    Returns
    -------
    RNNTPosteriors
        Named tuple ``(blank, label)`` of arrays [B, T, U+1], without B for one sequence, of the dtype of `am`:
        probability that a path leaves node u of frame t by the blank, and by label u + 1; 0 in the
        padding, NaN in a sequence with NaN or +inf.

    Raises
    ------
    ValueError, TypeError
        As `rnnt_simple_loss`.

    See Also
    --------
    rnnt_prune_ranges : the nodes of a pruned transducer, with an example.

    References
    ----------
    .. [1] F. Kuang, L. Guo, W. Kang, L. Lin, M. Luo, Z. Yao, D. Povey, "Pruned RNN-T for fast,
       memory-efficient ASR training", Interspeech 2022.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> fsl.rnnt_simple_posteriors(np.zeros((2, 2)), np.zeros((2, 2)), [1]).blank
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    joiner = _as_joiner(am, lm, labels, logit_lengths, label_lengths, blank, topology, infeasible)
    check_num_threads(num_threads)
    batch, n_frames, _ = joiner.am.values.shape
    shape = (batch, n_frames, joiner.lm.values.shape[1])
    check_output("the posteriors", shape, 8)
    posteriors = RNNTPosteriors(np.zeros(shape), np.zeros(shape))
    for b in range(batch):
        frames, nodes = joiner.frames[b], joiner.labels.lengths[b] + 1
        sequence = _Sequence(joiner, b, num_threads)
        log_p = sequence.solve(posteriors=True) if frames else -np.inf
        if log_p > -np.inf:
            posteriors.blank[b, :frames, :nodes] = sequence.blank_out
            posteriors.label[b, :frames, :nodes] = sequence.label_out
        elif np.isnan(log_p):
            posteriors.blank[b, :frames, :nodes] = posteriors.label[b, :frames, :nodes] = np.nan
    first = 0 if joiner.am.single else slice(None)
    with np.errstate(all="ignore"):
        return RNNTPosteriors(*(x[first].astype(joiner.am.given.dtype, copy=False) for x in posteriors))


def _as_joiner(
    am: Any,
    lm: Any,
    labels: Any,
    logit_lengths: Any,
    label_lengths: Any,
    blank: Any,
    topology: Any,
    infeasible: Any,
) -> _Joiner:
    """Check the arguments that the loss and the posteriors have in common."""
    modified = bool(choice("topology", topology, get_args(Topology)))
    choice("infeasible", infeasible, get_args(Infeasible))
    of_frames, of_nodes = as_scores("am", am), as_scores("lm", lm, "U+1")
    _check_shapes(of_frames, of_nodes)
    n_classes = of_frames.values.shape[2]
    blank = as_index("blank", blank, n_classes)
    checked = as_sequences(of_frames, logit_lengths, labels, label_lengths, blank, names=_NAMES)
    check_columns("lm", of_nodes, checked, full=label_lengths is None)
    if infeasible == "raise":
        require_feasible(checked.frames, checked.lengths, modified)
    wide = np.result_type(of_frames.values, of_nodes.values, np.float64 if n_classes <= _FEW else np.float32)
    of_frames, of_nodes = (_widened(x, wide) for x in (of_frames, of_nodes))
    return _Joiner(of_frames, of_nodes, checked, blank, modified)


def _widened(scores: Scores, dtype: np.dtype[Any]) -> Scores:
    """Return the scores in the type of the arithmetic."""
    if scores.values.dtype == dtype:
        return scores
    with np.errstate(all="ignore"):
        return Scores(kernel_ready(scores.values.astype(dtype)), scores.given)


def _check_shapes(am: Scores, lm: Scores) -> None:
    """Check that am [B, T, V] and lm [B, U+1, V] have the same axes B and V, and lm one node or more."""
    shape, of_nodes = am.given.shape, lm.given.shape
    allowed = ", ".join([*map(str, shape[:-2]), "U+1", str(shape[-1])])
    if len(of_nodes) != len(shape) or of_nodes[:-2] != shape[:-2] or of_nodes[-1] != shape[-1]:
        raise ValueError(f"lm has shape {of_nodes}; allowed: [{allowed}], as am has shape {shape}")
    if of_nodes[-2] == 0:
        raise ValueError(f"lm has shape {of_nodes}: no nodes; allowed: [{allowed}], one more than labels")


class _Sequence:
    """One sequence of an additive joiner, computed by NumPy's products of matrices and the kernel."""

    def __init__(self, joiner: _Joiner, b: int, num_threads: int | None) -> None:
        frames, n_labels = int(joiner.frames[b]), int(joiner.labels.lengths[b])
        start = int(joiner.labels.starts[b])
        self.am, self.lm = joiner.am.values[b, :frames], joiner.lm.values[b, : n_labels + 1]
        self.labels = joiner.labels.values[start : start + n_labels]
        self.b, self.blank, self.modified = b, joiner.blank, joiner.modified
        self.type_name, self.num_threads = joiner.am.type_name, num_threads

    def run(self, gradients: tuple[Gradient, ...], scale: float, label_factor: float) -> float:
        """Return the loss; write the gradients, including the padding."""
        outs = [None if gradient.values is None else gradient.values[self.b] for gradient in gradients]
        wanted = [(out, len(scores)) for out, scores in zip(outs, (self.am, self.lm), strict=True) if out is not None]
        for out, count in wanted:
            out[count:] = 0.0
        log_p = self.solve(label_factor, gradient=bool(wanted)) if scale and len(self.am) else -np.inf
        if np.isfinite(log_p) and wanted:
            self._write(outs[0], outs[1], scale)
        for out, count in wanted:
            if not np.isfinite(log_p):
                out[:count] = 0.0 if log_p == -np.inf else np.nan
        return max(-log_p, 0.0) if scale else 0.0  # negative by rounding only

    def solve(self, label_factor: float = 1.0, *, gradient: bool = False, posteriors: bool = False) -> float:
        """Return the log-probability of the labels, NaN for scores of NaN or +inf; keep the arrays for the gradient."""
        self.am_exps, self.am_most = self._exponentials(self.am)
        self.lm_exps, self.lm_most = self._exponentials(self.lm)
        if np.isnan(self.am_most).any() or np.isnan(self.lm_most).any():
            return np.nan
        self.lm_exps[:, self.blank] = 0.0
        self.lm_exps[np.arange(len(self.labels)), self.labels] = 0.0
        self.norms = self._product(self.am_exps, self.lm_exps.T)
        wanted = gradient or posteriors
        self.blank_out, self.label_out = (np.empty(self.norms.shape) if wanted else None for _ in range(2))
        log_p: float = _kernel.lattice[self.type_name](
            self.am,
            self.lm,
            self.am_most,
            self.lm_most,
            self.norms,
            np.empty_like(self.norms) if gradient else None,
            labels=self.labels,
            blank=self.blank,
            least=_LEAST[self.norms.dtype],
            modified=self.modified,
            label_factor=label_factor,
            blank_out=self.blank_out,
            label_out=self.label_out,
        )
        return log_p

    def _exponentials(self, scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        exps, most = np.empty(scores.shape, scores.dtype), np.empty(len(scores))
        _kernel.exponentials[self.type_name](scores, exps, most, self._threads(scores))
        return exps, most

    def _threads(self, array: NDArray[Any]) -> int:
        return threads_for(self.num_threads, float(array.size), len(array))

    @staticmethod
    def _product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        product = np.empty((len(a), b.shape[1]), a.dtype)
        rows = max(1, _MOST_TERMS // max(1, b.size))
        with np.errstate(all="ignore"):
            for start in range(0, len(a), rows):
                np.matmul(a[start : start + rows], b, out=product[start : start + rows])
        return product

    def _write(self, am_out: NDArray[Any] | None, lm_out: NDArray[Any] | None, scale: float) -> None:
        """Write the gradients of am and lm, unless None, after `solve`."""
        assert self.blank_out is not None
        assert self.label_out is not None
        more_am, more_lm = self._cells() if (self.norms < 0).any() else (None, None)
        if am_out is not None:
            classes, slots = np.unique(self.labels, return_inverse=True)
            _kernel.gradient[self.type_name](
                self._product(self.norms, self.lm_exps),
                self.am_exps,
                more_am,
                label_slopes=self.label_out,
                slot=slots.astype(np.int64, copy=False),
                classes=classes,
                blank_slopes=self.blank_out.sum(axis=1),
                blank=self.blank,
                scale=scale,
                grad=am_out,
                num_threads=self._threads(self.am),
            )
        if lm_out is not None:
            _kernel.gradient[self.type_name](
                self._product(self.norms.T, self.am_exps),
                self.lm_exps,
                more_lm,
                label_slopes=self.label_out.sum(axis=0)[:, None],
                slot=None,
                classes=self.labels,
                blank_slopes=self.blank_out.sum(axis=0),
                blank=self.blank,
                scale=scale,
                grad=lm_out,
                num_threads=self._threads(self.lm),
            )

    def _cells(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the parts of the gradients from cells that were computed by themselves."""
        more_am, more_lm = np.zeros(self.am.shape), np.zeros(self.lm.shape)
        _kernel.cell_gradients[self.type_name](
            self.am,
            self.lm,
            self.am_most,
            self.lm_most,
            self.labels,
            self.blank,
            ratios=self.norms,
            more_am=more_am,
            more_lm=more_lm,
        )
        return more_am, more_lm
