# Written by tests/package_stub.py.

from collections.abc import Sequence
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import plot as plot
from . import recurrent as recurrent
from ._core.config import show_config as show_config
from ._core.threads import get_num_threads as get_num_threads
from ._core.threads import set_num_threads as set_num_threads
from ._core.types import CrossEntropyGradient as CrossEntropyGradient
from ._core.types import GaussianGradient as GaussianGradient
from ._core.types import RegressionGradient as RegressionGradient
from .compose import check_grad as check_grad
from .compose import weighted_sum as weighted_sum
from .crf import CRFGradient as CRFGradient
from .crf import CRFMarginals as CRFMarginals
from .crf import CRFPath as CRFPath
from .crf import CTCCRFPath as CTCCRFPath
from .crf import crf_decode as crf_decode
from .crf import crf_log_partition as crf_log_partition
from .crf import crf_marginals as crf_marginals
from .crf import crf_score as crf_score
from .crf import ctc_crf_decode as ctc_crf_decode
from .crf import ctc_crf_log_partition as ctc_crf_log_partition
from .crf import ctc_crf_posteriors as ctc_crf_posteriors
from .ctc import CTCAlignment as CTCAlignment
from .ctc import CTCBeams as CTCBeams
from .ctc import CTCConfidences as CTCConfidences
from .ctc import GreedyDecoding as GreedyDecoding
from .ctc import TokenSpan as TokenSpan
from .ctc import ctc_align as ctc_align
from .ctc import ctc_align_windows as ctc_align_windows
from .ctc import ctc_alignment_log_prob as ctc_alignment_log_prob
from .ctc import ctc_beam_search as ctc_beam_search
from .ctc import ctc_collapse as ctc_collapse
from .ctc import ctc_confidences as ctc_confidences
from .ctc import ctc_feasible as ctc_feasible
from .ctc import ctc_greedy_decode as ctc_greedy_decode
from .ctc import ctc_posteriors as ctc_posteriors
from .ctc import merge_tokens as merge_tokens
from .linear import LinearGradient as LinearGradient
from .rewards import PolicyDiagnostics as PolicyDiagnostics
from .rewards import PreferenceGradient as PreferenceGradient
from .rewards import VTraceReturns as VTraceReturns
from .rewards import discounted_returns as discounted_returns
from .rewards import generalized_advantages as generalized_advantages
from .rewards import group_advantages as group_advantages
from .rewards import n_step_returns as n_step_returns
from .rewards import retrace_returns as retrace_returns
from .rewards import vtrace_returns as vtrace_returns
from .soft_dtw import SoftDTWGradient as SoftDTWGradient
from .soft_dtw import soft_dtw_posteriors as soft_dtw_posteriors
from .text import NGram as NGram
from .text import TagConstraints as TagConstraints
from .text import TagSpan as TagSpan
from .text import TagViolation as TagViolation
from .text import Vocabulary as Vocabulary
from .text import Words as Words
from .text import WordSpan as WordSpan
from .text import read_arpa as read_arpa
from .text import spans_from_tags as spans_from_tags
from .text import tag_constraints as tag_constraints
from .text import tags_from_spans as tags_from_spans
from .text import words_from_spans as words_from_spans
from .transducer import RNNTAlignment as RNNTAlignment
from .transducer import RNNTDecoding as RNNTDecoding
from .transducer import RNNTPosteriors as RNNTPosteriors
from .transducer import RNNTSimpleGradient as RNNTSimpleGradient
from .transducer import TDTGradient as TDTGradient
from .transducer import rnnt_align as rnnt_align
from .transducer import rnnt_greedy_decode as rnnt_greedy_decode
from .transducer import rnnt_posteriors as rnnt_posteriors
from .transducer import rnnt_prune_ranges as rnnt_prune_ranges
from .transducer import rnnt_simple_posteriors as rnnt_simple_posteriors

__all__ = [
    "CRFGradient",
    "CRFMarginals",
    "CRFPath",
    "CTCAlignment",
    "CTCBeams",
    "CTCCRFPath",
    "CTCConfidences",
    "CrossEntropyGradient",
    "GaussianGradient",
    "GreedyDecoding",
    "LinearGradient",
    "NGram",
    "PolicyDiagnostics",
    "PreferenceGradient",
    "RNNTAlignment",
    "RNNTDecoding",
    "RNNTPosteriors",
    "RNNTSimpleGradient",
    "RegressionGradient",
    "SoftDTWGradient",
    "TDTGradient",
    "TagConstraints",
    "TagSpan",
    "TagViolation",
    "TokenSpan",
    "VTraceReturns",
    "Vocabulary",
    "WordSpan",
    "Words",
    "binary_cross_entropy",
    "binary_focal_loss",
    "bpr_max_loss",
    "check_grad",
    "clipped_policy_loss",
    "cosine_distance_loss",
    "crf_decode",
    "crf_log_partition",
    "crf_loss",
    "crf_marginals",
    "crf_score",
    "ctc_align",
    "ctc_align_windows",
    "ctc_alignment_log_prob",
    "ctc_beam_search",
    "ctc_collapse",
    "ctc_confidences",
    "ctc_crf_decode",
    "ctc_crf_log_partition",
    "ctc_crf_loss",
    "ctc_crf_posteriors",
    "ctc_entropy",
    "ctc_feasible",
    "ctc_greedy_decode",
    "ctc_loss",
    "ctc_posteriors",
    "ctc_risk_loss",
    "discounted_returns",
    "dpo_loss",
    "expected_risk_loss",
    "gaussian_nll_loss",
    "generalized_advantages",
    "get_num_threads",
    "group_advantages",
    "hinge_loss",
    "huber_loss",
    "kl_divergence",
    "kto_loss",
    "linear_cross_entropy",
    "linear_ctc_loss",
    "linear_policy_loss",
    "linear_sequence_log_prob",
    "list_mle_loss",
    "list_softmax_loss",
    "log_cosh_loss",
    "mae_loss",
    "merge_tokens",
    "mse_loss",
    "multiclass_hinge_loss",
    "multilabel_margin_loss",
    "n_step_returns",
    "nll_loss",
    "orpo_loss",
    "pairwise_hinge_loss",
    "pairwise_logistic_loss",
    "plot",
    "poisson_nll_loss",
    "policy_gradient_loss",
    "quantile_loss",
    "read_arpa",
    "recurrent",
    "retrace_returns",
    "rnnt_align",
    "rnnt_greedy_decode",
    "rnnt_loss",
    "rnnt_posteriors",
    "rnnt_prune_ranges",
    "rnnt_simple_loss",
    "rnnt_simple_posteriors",
    "sequence_log_prob",
    "set_num_threads",
    "show_config",
    "simpo_loss",
    "soft_dtw_cost",
    "soft_dtw_loss",
    "soft_dtw_posteriors",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "spans_from_tags",
    "sparsemax_loss",
    "structured_hinge_loss",
    "tag_constraints",
    "tags_from_spans",
    "tdt_loss",
    "top1_max_loss",
    "tweedie_loss",
    "vtrace_returns",
    "weighted_sum",
    "words_from_spans",
]

__version__: str

class _Array(Protocol):  # of NumPy or of another library
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

@overload
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits", pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits", pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits", pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits", pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, CrossEntropyGradient]: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits", pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits", pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits", pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits", pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], CrossEntropyGradient]: ...
@overload
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "probs"] = "logits", pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (CrossEntropyGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, CrossEntropyGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]] | tuple[NDArray[np.float64], CrossEntropyGradient]: ...
@overload
def binary_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, alpha: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def binary_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, alpha: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def binary_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, alpha: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def binary_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, alpha: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, CrossEntropyGradient]: ...
@overload
def binary_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, alpha: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def binary_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, alpha: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def binary_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, alpha: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def binary_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, alpha: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], CrossEntropyGradient]: ...
@overload
def binary_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, alpha: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (CrossEntropyGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, CrossEntropyGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]] | tuple[NDArray[np.float64], CrossEntropyGradient]: ...
@overload
def bpr_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    regularization: float = 0.0, reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def bpr_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    regularization: float = 0.0, reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def bpr_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    regularization: float = 0.0, reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def bpr_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    regularization: float = 0.0, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> Any: ...
@overload
def bpr_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    regularization: float = 0.0, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def bpr_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    regularization: float = 0.0, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def bpr_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    regularization: float = 0.0, reduction: Literal["none", "sum", "mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def clipped_policy_loss(
    logits: ArrayLike, actions: ArrayLike, old_log_probs: ArrayLike, advantages: ArrayLike,
    lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, clip: float | tuple[float, float] = (0.2, 0.2),
    kind: Literal["ppo", "gspo", "cispo"] = "ppo", dual_clip: float | None = None, entropy_coef: float = 0.0,
    entropy_mask: ArrayLike | None = None, ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0,
    kl_kind: Literal["k1", "k2", "k3"] = "k3", max_log_ratio: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> float: ...
@overload
def clipped_policy_loss(
    logits: ArrayLike, actions: ArrayLike, old_log_probs: ArrayLike, advantages: ArrayLike,
    lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, clip: float | tuple[float, float] = (0.2, 0.2),
    kind: Literal["ppo", "gspo", "cispo"] = "ppo", dual_clip: float | None = None, entropy_coef: float = 0.0,
    entropy_mask: ArrayLike | None = None, ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0,
    kl_kind: Literal["k1", "k2", "k3"] = "k3", max_log_ratio: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def clipped_policy_loss(
    logits: ArrayLike, actions: ArrayLike, old_log_probs: ArrayLike, advantages: ArrayLike,
    lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, clip: float | tuple[float, float] = (0.2, 0.2),
    kind: Literal["ppo", "gspo", "cispo"] = "ppo", dual_clip: float | None = None, entropy_coef: float = 0.0,
    entropy_mask: ArrayLike | None = None, ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0,
    kl_kind: Literal["k1", "k2", "k3"] = "k3", max_log_ratio: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def clipped_policy_loss(
    logits: ArrayLike, actions: ArrayLike, old_log_probs: ArrayLike, advantages: ArrayLike,
    lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, clip: float | tuple[float, float] = (0.2, 0.2),
    kind: Literal["ppo", "gspo", "cispo"] = "ppo", dual_clip: float | None = None, entropy_coef: float = 0.0,
    entropy_mask: ArrayLike | None = None, ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0,
    kl_kind: Literal["k1", "k2", "k3"] = "k3", max_log_ratio: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def clipped_policy_loss(
    logits: ArrayLike, actions: ArrayLike, old_log_probs: ArrayLike, advantages: ArrayLike,
    lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, clip: float | tuple[float, float] = (0.2, 0.2),
    kind: Literal["ppo", "gspo", "cispo"] = "ppo", dual_clip: float | None = None, entropy_coef: float = 0.0,
    entropy_mask: ArrayLike | None = None, ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0,
    kl_kind: Literal["k1", "k2", "k3"] = "k3", max_log_ratio: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def clipped_policy_loss(
    logits: ArrayLike, actions: ArrayLike, old_log_probs: ArrayLike, advantages: ArrayLike,
    lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, clip: float | tuple[float, float] = (0.2, 0.2),
    kind: Literal["ppo", "gspo", "cispo"] = "ppo", dual_clip: float | None = None, entropy_coef: float = 0.0,
    entropy_mask: ArrayLike | None = None, ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0,
    kl_kind: Literal["k1", "k2", "k3"] = "k3", max_log_ratio: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def clipped_policy_loss(
    logits: ArrayLike, actions: ArrayLike, old_log_probs: ArrayLike, advantages: ArrayLike,
    lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, clip: float | tuple[float, float] = (0.2, 0.2),
    kind: Literal["ppo", "gspo", "cispo"] = "ppo", dual_clip: float | None = None, entropy_coef: float = 0.0,
    entropy_mask: ArrayLike | None = None, ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0,
    kl_kind: Literal["k1", "k2", "k3"] = "k3", max_log_ratio: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | None = None, diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def cosine_distance_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def cosine_distance_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def cosine_distance_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def cosine_distance_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, RegressionGradient]: ...
@overload
def cosine_distance_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def cosine_distance_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def cosine_distance_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def cosine_distance_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, RegressionGradient]: ...
@overload
def cosine_distance_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (RegressionGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, RegressionGradient] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]] | tuple[NDArray[np.float64] | Any, RegressionGradient]: ...
@overload
def crf_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def crf_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | CRFGradient | None = ...,
    num_threads: int | None = None,
) -> tuple[float, CRFGradient]: ...
@overload
def crf_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array | CRFGradient,
    num_threads: int | None = None,
) -> tuple[float, CRFGradient]: ...
@overload
def crf_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def crf_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | CRFGradient | None = ..., num_threads: int | None = None,
) -> tuple[Any, CRFGradient]: ...
@overload
def crf_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array | CRFGradient, num_threads: int | None = None,
) -> tuple[Any, CRFGradient]: ...
@overload
def crf_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | CRFGradient | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def ctc_crf_loss(
    scores: ArrayLike, labels: ArrayLike, lengths: ArrayLike | None = None, label_lengths: ArrayLike | None = None, *,
    predecessors: ArrayLike | None = None, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def ctc_crf_loss(
    scores: ArrayLike, labels: ArrayLike, lengths: ArrayLike | None = None, label_lengths: ArrayLike | None = None, *,
    predecessors: ArrayLike | None = None, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def ctc_crf_loss(
    scores: ArrayLike, labels: ArrayLike, lengths: ArrayLike | None = None, label_lengths: ArrayLike | None = None, *,
    predecessors: ArrayLike | None = None, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def ctc_crf_loss(
    scores: ArrayLike, labels: ArrayLike, lengths: ArrayLike | None = None, label_lengths: ArrayLike | None = None, *,
    predecessors: ArrayLike | None = None, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def ctc_crf_loss(
    scores: ArrayLike, labels: ArrayLike, lengths: ArrayLike | None = None, label_lengths: ArrayLike | None = None, *,
    predecessors: ArrayLike | None = None, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def ctc_crf_loss(
    scores: ArrayLike, labels: ArrayLike, lengths: ArrayLike | None = None, label_lengths: ArrayLike | None = None, *,
    predecessors: ArrayLike | None = None, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def ctc_crf_loss(
    scores: ArrayLike, labels: ArrayLike, lengths: ArrayLike | None = None, label_lengths: ArrayLike | None = None, *,
    predecessors: ArrayLike | None = None, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def ctc_entropy(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def ctc_entropy(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def ctc_entropy(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def ctc_entropy(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def ctc_entropy(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def ctc_entropy(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def ctc_entropy(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def ctc_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def ctc_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def ctc_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def ctc_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def ctc_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def ctc_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def ctc_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def ctc_risk_loss(
    logits: ArrayLike, labels: ArrayLike, risks: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", sharpness: float = 1.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def ctc_risk_loss(
    logits: ArrayLike, labels: ArrayLike, risks: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", sharpness: float = 1.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def ctc_risk_loss(
    logits: ArrayLike, labels: ArrayLike, risks: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", sharpness: float = 1.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def ctc_risk_loss(
    logits: ArrayLike, labels: ArrayLike, risks: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", sharpness: float = 1.0, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def ctc_risk_loss(
    logits: ArrayLike, labels: ArrayLike, risks: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", sharpness: float = 1.0, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def ctc_risk_loss(
    logits: ArrayLike, labels: ArrayLike, risks: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", sharpness: float = 1.0, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def ctc_risk_loss(
    logits: ArrayLike, labels: ArrayLike, risks: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", sharpness: float = 1.0,
    reduction: Literal["none", "sum", "mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def dpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, ref_chosen: ArrayLike | None = None, ref_rejected: ArrayLike | None = None,
    *, beta: float = 0.1, kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid", label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def dpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, ref_chosen: ArrayLike | None = None, ref_rejected: ArrayLike | None = None,
    *, beta: float = 0.1, kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid", label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: PreferenceGradient | tuple[_Array | None, _Array | None] | None = ...,
    num_threads: int | None = None,
) -> tuple[float, PreferenceGradient]: ...
@overload
def dpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, ref_chosen: ArrayLike | None = None, ref_rejected: ArrayLike | None = None,
    *, beta: float = 0.1, kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid", label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: PreferenceGradient | tuple[_Array | None, _Array | None],
    num_threads: int | None = None,
) -> tuple[float, PreferenceGradient]: ...
@overload
def dpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, ref_chosen: ArrayLike | None = None, ref_rejected: ArrayLike | None = None,
    *, beta: float = 0.1, kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid", label_smoothing: float = 0.0,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def dpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, ref_chosen: ArrayLike | None = None, ref_rejected: ArrayLike | None = None,
    *, beta: float = 0.1, kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid", label_smoothing: float = 0.0,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: PreferenceGradient | tuple[_Array | None, _Array | None] | None = ...,
    num_threads: int | None = None,
) -> tuple[Any, PreferenceGradient]: ...
@overload
def dpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, ref_chosen: ArrayLike | None = None, ref_rejected: ArrayLike | None = None,
    *, beta: float = 0.1, kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid", label_smoothing: float = 0.0,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: PreferenceGradient | tuple[_Array | None, _Array | None],
    num_threads: int | None = None,
) -> tuple[Any, PreferenceGradient]: ...
@overload
def dpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, ref_chosen: ArrayLike | None = None, ref_rejected: ArrayLike | None = None,
    *, beta: float = 0.1, kind: Literal["sigmoid", "ipo", "hinge"] = "sigmoid", label_smoothing: float = 0.0,
    reduction: Literal["none", "sum", "mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: PreferenceGradient | tuple[_Array | None, _Array | None] | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def expected_risk_loss(
    log_probs: ArrayLike, risks: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    sharpness: float = 1.0, reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def expected_risk_loss(
    log_probs: ArrayLike, risks: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    sharpness: float = 1.0, reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def expected_risk_loss(
    log_probs: ArrayLike, risks: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    sharpness: float = 1.0, reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def expected_risk_loss(
    log_probs: ArrayLike, risks: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    sharpness: float = 1.0, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> Any: ...
@overload
def expected_risk_loss(
    log_probs: ArrayLike, risks: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    sharpness: float = 1.0, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def expected_risk_loss(
    log_probs: ArrayLike, risks: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    sharpness: float = 1.0, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def expected_risk_loss(
    log_probs: ArrayLike, risks: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    sharpness: float = 1.0, reduction: Literal["none", "sum", "mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def gaussian_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, variance: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, input: Literal["variance", "log_variance"] = "variance", full: bool = False,
    eps: float = 1e-06, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def gaussian_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, variance: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, input: Literal["variance", "log_variance"] = "variance", full: bool = False,
    eps: float = 1e-06, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: GaussianGradient | tuple[_Array | None, _Array | None] | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, GaussianGradient]: ...
@overload
def gaussian_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, variance: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, input: Literal["variance", "log_variance"] = "variance", full: bool = False,
    eps: float = 1e-06, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: GaussianGradient | tuple[_Array | None, _Array | None] | tuple[_Array | None, _Array | None, _Array | None],
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, GaussianGradient]: ...
@overload
def gaussian_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, variance: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, input: Literal["variance", "log_variance"] = "variance", full: bool = False,
    eps: float = 1e-06, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: GaussianGradient | tuple[_Array | None, _Array | None] | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    with_respect_to: Sequence[str], num_threads: int | None = None,
) -> tuple[float, GaussianGradient]: ...
@overload
def gaussian_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, variance: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, input: Literal["variance", "log_variance"] = "variance", full: bool = False,
    eps: float = 1e-06, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def gaussian_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, variance: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, input: Literal["variance", "log_variance"] = "variance", full: bool = False,
    eps: float = 1e-06, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: GaussianGradient | tuple[_Array | None, _Array | None] | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], GaussianGradient]: ...
@overload
def gaussian_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, variance: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, input: Literal["variance", "log_variance"] = "variance", full: bool = False,
    eps: float = 1e-06, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: GaussianGradient | tuple[_Array | None, _Array | None] | tuple[_Array | None, _Array | None, _Array | None],
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], GaussianGradient]: ...
@overload
def gaussian_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, variance: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, input: Literal["variance", "log_variance"] = "variance", full: bool = False,
    eps: float = 1e-06, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: GaussianGradient | tuple[_Array | None, _Array | None] | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    with_respect_to: Sequence[str], num_threads: int | None = None,
) -> tuple[NDArray[np.float64], GaussianGradient]: ...
@overload
def gaussian_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, variance: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, input: Literal["variance", "log_variance"] = "variance", full: bool = False,
    eps: float = 1e-06,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: GaussianGradient | tuple[_Array | None, _Array | None] | tuple[_Array | None, _Array | None, _Array | None] | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, GaussianGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], GaussianGradient]: ...
@overload
def hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, squared: bool = False, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, squared: bool = False, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, squared: bool = False, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, squared: bool = False, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, squared: bool = False, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, squared: bool = False, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, squared: bool = False,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    delta: float = 1.0, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    delta: float = 1.0, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    delta: float = 1.0, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    delta: float = 1.0, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, RegressionGradient]: ...
@overload
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    delta: float = 1.0, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    delta: float = 1.0, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    delta: float = 1.0, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    delta: float = 1.0, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    delta: float = 1.0,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (RegressionGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, RegressionGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]] | tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits",
    target_input: Literal["logits", "log_probs", "probs"] = "probs",
    direction: Literal["forward", "reverse"] = "forward", temperature: float = 1.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits",
    target_input: Literal["logits", "log_probs", "probs"] = "probs",
    direction: Literal["forward", "reverse"] = "forward", temperature: float = 1.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits",
    target_input: Literal["logits", "log_probs", "probs"] = "probs",
    direction: Literal["forward", "reverse"] = "forward", temperature: float = 1.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits",
    target_input: Literal["logits", "log_probs", "probs"] = "probs",
    direction: Literal["forward", "reverse"] = "forward", temperature: float = 1.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, CrossEntropyGradient]: ...
@overload
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits",
    target_input: Literal["logits", "log_probs", "probs"] = "probs",
    direction: Literal["forward", "reverse"] = "forward", temperature: float = 1.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits",
    target_input: Literal["logits", "log_probs", "probs"] = "probs",
    direction: Literal["forward", "reverse"] = "forward", temperature: float = 1.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits",
    target_input: Literal["logits", "log_probs", "probs"] = "probs",
    direction: Literal["forward", "reverse"] = "forward", temperature: float = 1.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits",
    target_input: Literal["logits", "log_probs", "probs"] = "probs",
    direction: Literal["forward", "reverse"] = "forward", temperature: float = 1.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, CrossEntropyGradient]: ...
@overload
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits",
    target_input: Literal["logits", "log_probs", "probs"] = "probs",
    direction: Literal["forward", "reverse"] = "forward", temperature: float = 1.0,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (CrossEntropyGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, CrossEntropyGradient] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]] | tuple[NDArray[np.float64] | Any, CrossEntropyGradient]: ...
@overload
def kto_loss(
    log_probs: ArrayLike, desirable: ArrayLike, ref_log_probs: ArrayLike | None = None, *, kl: ArrayLike = 0.0,
    beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def kto_loss(
    log_probs: ArrayLike, desirable: ArrayLike, ref_log_probs: ArrayLike | None = None, *, kl: ArrayLike = 0.0,
    beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def kto_loss(
    log_probs: ArrayLike, desirable: ArrayLike, ref_log_probs: ArrayLike | None = None, *, kl: ArrayLike = 0.0,
    beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def kto_loss(
    log_probs: ArrayLike, desirable: ArrayLike, ref_log_probs: ArrayLike | None = None, *, kl: ArrayLike = 0.0,
    beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def kto_loss(
    log_probs: ArrayLike, desirable: ArrayLike, ref_log_probs: ArrayLike | None = None, *, kl: ArrayLike = 0.0,
    beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def kto_loss(
    log_probs: ArrayLike, desirable: ArrayLike, ref_log_probs: ArrayLike | None = None, *, kl: ArrayLike = 0.0,
    beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def kto_loss(
    log_probs: ArrayLike, desirable: ArrayLike, ref_log_probs: ArrayLike | None = None, *, kl: ArrayLike = 0.0,
    beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0,
    reduction: Literal["none", "sum", "mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0, scale: float = 1.0,
    softcap: float | None = None, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., chunk: int | None = None, num_threads: int | None = None,
) -> float: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0, scale: float = 1.0,
    softcap: float | None = None, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    chunk: int | None = None, num_threads: int | None = None,
) -> tuple[float, LinearGradient]: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0, scale: float = 1.0,
    softcap: float | None = None, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None], chunk: int | None = None,
    num_threads: int | None = None,
) -> tuple[float, LinearGradient]: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0, scale: float = 1.0,
    softcap: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., chunk: int | None = None, num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0, scale: float = 1.0,
    softcap: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    chunk: int | None = None, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, LinearGradient]: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0, scale: float = 1.0,
    softcap: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None], chunk: int | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, LinearGradient]: ...
@overload
def linear_cross_entropy(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0, scale: float = 1.0,
    softcap: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = None,
    chunk: int | None = None, num_threads: int | None = None,
) -> float | tuple[float, LinearGradient] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, LinearGradient]: ...
@overload
def linear_ctc_loss(
    hidden: ArrayLike, weight: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, bias: ArrayLike | None = None, blank: int = 0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    chunk: int | None = None, num_threads: int | None = None,
) -> float: ...
@overload
def linear_ctc_loss(
    hidden: ArrayLike, weight: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, bias: ArrayLike | None = None, blank: int = 0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    chunk: int | None = None, num_threads: int | None = None,
) -> tuple[float, LinearGradient]: ...
@overload
def linear_ctc_loss(
    hidden: ArrayLike, weight: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, bias: ArrayLike | None = None, blank: int = 0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None], chunk: int | None = None,
    num_threads: int | None = None,
) -> tuple[float, LinearGradient]: ...
@overload
def linear_ctc_loss(
    hidden: ArrayLike, weight: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, bias: ArrayLike | None = None, blank: int = 0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., chunk: int | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def linear_ctc_loss(
    hidden: ArrayLike, weight: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, bias: ArrayLike | None = None, blank: int = 0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True],
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    chunk: int | None = None, num_threads: int | None = None,
) -> tuple[Any, LinearGradient]: ...
@overload
def linear_ctc_loss(
    hidden: ArrayLike, weight: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, bias: ArrayLike | None = None, blank: int = 0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None],
    chunk: int | None = None, num_threads: int | None = None,
) -> tuple[Any, LinearGradient]: ...
@overload
def linear_ctc_loss(
    hidden: ArrayLike, weight: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, bias: ArrayLike | None = None, blank: int = 0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = None,
    chunk: int | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def linear_policy_loss(
    hidden: ArrayLike, weight: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None,
    *, bias: ArrayLike | None = None, mask: ArrayLike | None = None, old_log_probs: ArrayLike | None = None,
    clip: float | tuple[float, float] | None = None, kind: Literal["ppo", "gspo", "cispo"] = "ppo",
    dual_clip: float | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    diagnostics: PolicyDiagnostics | None = None, chunk: int | None = None, num_threads: int | None = None,
) -> float: ...
@overload
def linear_policy_loss(
    hidden: ArrayLike, weight: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None,
    *, bias: ArrayLike | None = None, mask: ArrayLike | None = None, old_log_probs: ArrayLike | None = None,
    clip: float | tuple[float, float] | None = None, kind: Literal["ppo", "gspo", "cispo"] = "ppo",
    dual_clip: float | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    diagnostics: PolicyDiagnostics | None = None, chunk: int | None = None, num_threads: int | None = None,
) -> tuple[float, LinearGradient]: ...
@overload
def linear_policy_loss(
    hidden: ArrayLike, weight: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None,
    *, bias: ArrayLike | None = None, mask: ArrayLike | None = None, old_log_probs: ArrayLike | None = None,
    clip: float | tuple[float, float] | None = None, kind: Literal["ppo", "gspo", "cispo"] = "ppo",
    dual_clip: float | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None],
    diagnostics: PolicyDiagnostics | None = None, chunk: int | None = None, num_threads: int | None = None,
) -> tuple[float, LinearGradient]: ...
@overload
def linear_policy_loss(
    hidden: ArrayLike, weight: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None,
    *, bias: ArrayLike | None = None, mask: ArrayLike | None = None, old_log_probs: ArrayLike | None = None,
    clip: float | tuple[float, float] | None = None, kind: Literal["ppo", "gspo", "cispo"] = "ppo",
    dual_clip: float | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    diagnostics: PolicyDiagnostics | None = None, chunk: int | None = None, num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def linear_policy_loss(
    hidden: ArrayLike, weight: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None,
    *, bias: ArrayLike | None = None, mask: ArrayLike | None = None, old_log_probs: ArrayLike | None = None,
    clip: float | tuple[float, float] | None = None, kind: Literal["ppo", "gspo", "cispo"] = "ppo",
    dual_clip: float | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    diagnostics: PolicyDiagnostics | None = None, chunk: int | None = None, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, LinearGradient]: ...
@overload
def linear_policy_loss(
    hidden: ArrayLike, weight: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None,
    *, bias: ArrayLike | None = None, mask: ArrayLike | None = None, old_log_probs: ArrayLike | None = None,
    clip: float | tuple[float, float] | None = None, kind: Literal["ppo", "gspo", "cispo"] = "ppo",
    dual_clip: float | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None],
    diagnostics: PolicyDiagnostics | None = None, chunk: int | None = None, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, LinearGradient]: ...
@overload
def linear_policy_loss(
    hidden: ArrayLike, weight: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None,
    *, bias: ArrayLike | None = None, mask: ArrayLike | None = None, old_log_probs: ArrayLike | None = None,
    clip: float | tuple[float, float] | None = None, kind: Literal["ppo", "gspo", "cispo"] = "ppo",
    dual_clip: float | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, scale: float = 1.0, softcap: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = None,
    diagnostics: PolicyDiagnostics | None = None, chunk: int | None = None, num_threads: int | None = None,
) -> float | tuple[float, LinearGradient] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, LinearGradient]: ...
@overload
def linear_sequence_log_prob(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100, average: bool = False,
    scale: float = 1.0, softcap: float | None = None, slopes: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., chunk: int | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def linear_sequence_log_prob(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100, average: bool = False,
    scale: float = 1.0, softcap: float | None = None, slopes: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = ...,
    chunk: int | None = None, num_threads: int | None = None,
) -> tuple[Any, LinearGradient]: ...
@overload
def linear_sequence_log_prob(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100, average: bool = False,
    scale: float = 1.0, softcap: float | None = None, slopes: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None], chunk: int | None = None,
    num_threads: int | None = None,
) -> tuple[Any, LinearGradient]: ...
@overload
def linear_sequence_log_prob(
    hidden: ArrayLike, weight: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *,
    bias: ArrayLike | None = None, mask: ArrayLike | None = None, ignore_index: int = -100, average: bool = False,
    scale: float = 1.0, softcap: float | None = None, slopes: ArrayLike | None = None, return_grad: bool,
    grad_out: LinearGradient | tuple[_Array | None, _Array | None, _Array | None] | None = None,
    chunk: int | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def list_mle_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def list_mle_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def list_mle_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def list_mle_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def list_mle_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def list_mle_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def list_mle_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "sum", "mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def list_softmax_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def list_softmax_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def list_softmax_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def list_softmax_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> Any: ...
@overload
def list_softmax_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def list_softmax_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def list_softmax_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, reduction: Literal["none", "sum", "mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def log_cosh_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def log_cosh_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def log_cosh_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def log_cosh_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, RegressionGradient]: ...
@overload
def log_cosh_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def log_cosh_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def log_cosh_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def log_cosh_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def log_cosh_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (RegressionGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, RegressionGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]] | tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def mae_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def mae_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def mae_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def mae_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, RegressionGradient]: ...
@overload
def mae_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def mae_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def mae_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def mae_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def mae_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (RegressionGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, RegressionGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]] | tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, RegressionGradient]: ...
@overload
def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (RegressionGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, RegressionGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]] | tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def multiclass_hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def multiclass_hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def multiclass_hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def multiclass_hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def multiclass_hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def multiclass_hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def multiclass_hinge_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def multilabel_margin_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def multilabel_margin_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def multilabel_margin_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def multilabel_margin_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def multilabel_margin_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def multilabel_margin_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def multilabel_margin_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def nll_loss(
    log_probs: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def nll_loss(
    log_probs: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def nll_loss(
    log_probs: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def nll_loss(
    log_probs: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def nll_loss(
    log_probs: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def nll_loss(
    log_probs: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def nll_loss(
    log_probs: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def orpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 0.1, nll_coef: float = 1.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def orpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 0.1, nll_coef: float = 1.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: PreferenceGradient | tuple[_Array | None, _Array | None] | None = ...,
    num_threads: int | None = None,
) -> tuple[float, PreferenceGradient]: ...
@overload
def orpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 0.1, nll_coef: float = 1.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: PreferenceGradient | tuple[_Array | None, _Array | None],
    num_threads: int | None = None,
) -> tuple[float, PreferenceGradient]: ...
@overload
def orpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 0.1, nll_coef: float = 1.0, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def orpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 0.1, nll_coef: float = 1.0, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: PreferenceGradient | tuple[_Array | None, _Array | None] | None = ..., num_threads: int | None = None,
) -> tuple[Any, PreferenceGradient]: ...
@overload
def orpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 0.1, nll_coef: float = 1.0, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: PreferenceGradient | tuple[_Array | None, _Array | None], num_threads: int | None = None,
) -> tuple[Any, PreferenceGradient]: ...
@overload
def orpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 0.1, nll_coef: float = 1.0,
    reduction: Literal["none", "sum", "mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: PreferenceGradient | tuple[_Array | None, _Array | None] | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def pairwise_hinge_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, item_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def pairwise_hinge_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, item_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def pairwise_hinge_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, item_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def pairwise_hinge_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, item_weight: ArrayLike | None = None, reduction: Literal["per_sequence"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def pairwise_hinge_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, item_weight: ArrayLike | None = None, reduction: Literal["per_sequence"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def pairwise_hinge_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, item_weight: ArrayLike | None = None, reduction: Literal["per_sequence"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def pairwise_hinge_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    margin: float = 1.0, item_weight: ArrayLike | None = None,
    reduction: Literal["per_sequence", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def pairwise_logistic_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, lambda_weight: Literal["dcg", "ndcg"] | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def pairwise_logistic_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, lambda_weight: Literal["dcg", "ndcg"] | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def pairwise_logistic_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, lambda_weight: Literal["dcg", "ndcg"] | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def pairwise_logistic_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, lambda_weight: Literal["dcg", "ndcg"] | None = None,
    reduction: Literal["per_sequence"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def pairwise_logistic_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, lambda_weight: Literal["dcg", "ndcg"] | None = None,
    reduction: Literal["per_sequence"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def pairwise_logistic_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, lambda_weight: Literal["dcg", "ndcg"] | None = None,
    reduction: Literal["per_sequence"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def pairwise_logistic_loss(
    scores: ArrayLike, relevance: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    item_weight: ArrayLike | None = None, lambda_weight: Literal["dcg", "ndcg"] | None = None,
    reduction: Literal["per_sequence", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def poisson_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates", full: bool = False,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def poisson_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates", full: bool = False,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def poisson_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates", full: bool = False,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def poisson_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates", full: bool = False,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, RegressionGradient]: ...
@overload
def poisson_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates", full: bool = False,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def poisson_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates", full: bool = False,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def poisson_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates", full: bool = False,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def poisson_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates", full: bool = False,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def poisson_nll_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["log_rates", "rates"] = "log_rates", full: bool = False,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (RegressionGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, RegressionGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]] | tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def policy_gradient_loss(
    logits: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> float: ...
@overload
def policy_gradient_loss(
    logits: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def policy_gradient_loss(
    logits: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def policy_gradient_loss(
    logits: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def policy_gradient_loss(
    logits: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def policy_gradient_loss(
    logits: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None, reduction: Literal["none", "per_sequence", "step_mean"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def policy_gradient_loss(
    logits: ArrayLike, actions: ArrayLike, advantages: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, entropy_coef: float = 0.0, entropy_mask: ArrayLike | None = None,
    ref_log_probs: ArrayLike | None = None, kl_coef: float = 0.0, kl_kind: Literal["k1", "k2", "k3"] = "k3",
    max_log_ratio: float | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | None = None, diagnostics: PolicyDiagnostics | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    q: ArrayLike = 0.5, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    q: ArrayLike = 0.5, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    q: ArrayLike = 0.5, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    q: ArrayLike = 0.5, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, RegressionGradient]: ...
@overload
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    q: ArrayLike = 0.5, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    q: ArrayLike = 0.5, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    q: ArrayLike = 0.5, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    q: ArrayLike = 0.5, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    q: ArrayLike = 0.5,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (RegressionGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, RegressionGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]] | tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def rnnt_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", blank_model: Literal["softmax", "hat"] = "softmax",
    topology: Literal["regular", "modified"] = "regular", fastemit: float = 0.0, ranges: ArrayLike | None = None,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["sum", "mean", "sequence_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def rnnt_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", blank_model: Literal["softmax", "hat"] = "softmax",
    topology: Literal["regular", "modified"] = "regular", fastemit: float = 0.0, ranges: ArrayLike | None = None,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["sum", "mean", "sequence_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def rnnt_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", blank_model: Literal["softmax", "hat"] = "softmax",
    topology: Literal["regular", "modified"] = "regular", fastemit: float = 0.0, ranges: ArrayLike | None = None,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["sum", "mean", "sequence_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def rnnt_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", blank_model: Literal["softmax", "hat"] = "softmax",
    topology: Literal["regular", "modified"] = "regular", fastemit: float = 0.0, ranges: ArrayLike | None = None,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> Any: ...
@overload
def rnnt_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", blank_model: Literal["softmax", "hat"] = "softmax",
    topology: Literal["regular", "modified"] = "regular", fastemit: float = 0.0, ranges: ArrayLike | None = None,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def rnnt_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", blank_model: Literal["softmax", "hat"] = "softmax",
    topology: Literal["regular", "modified"] = "regular", fastemit: float = 0.0, ranges: ArrayLike | None = None,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def rnnt_loss(
    logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0,
    input: Literal["logits", "log_probs", "probs"] = "logits", blank_model: Literal["softmax", "hat"] = "softmax",
    topology: Literal["regular", "modified"] = "regular", fastemit: float = 0.0, ranges: ArrayLike | None = None,
    infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def rnnt_simple_loss(
    am: ArrayLike, lm: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0, topology: Literal["regular", "modified"] = "regular",
    fastemit: float = 0.0, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def rnnt_simple_loss(
    am: ArrayLike, lm: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0, topology: Literal["regular", "modified"] = "regular",
    fastemit: float = 0.0, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: RNNTSimpleGradient | tuple[_Array | None, _Array | None] | None = ..., num_threads: int | None = None,
) -> tuple[float, RNNTSimpleGradient]: ...
@overload
def rnnt_simple_loss(
    am: ArrayLike, lm: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0, topology: Literal["regular", "modified"] = "regular",
    fastemit: float = 0.0, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RNNTSimpleGradient | tuple[_Array | None, _Array | None], num_threads: int | None = None,
) -> tuple[float, RNNTSimpleGradient]: ...
@overload
def rnnt_simple_loss(
    am: ArrayLike, lm: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0, topology: Literal["regular", "modified"] = "regular",
    fastemit: float = 0.0, infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def rnnt_simple_loss(
    am: ArrayLike, lm: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0, topology: Literal["regular", "modified"] = "regular",
    fastemit: float = 0.0, infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: RNNTSimpleGradient | tuple[_Array | None, _Array | None] | None = ..., num_threads: int | None = None,
) -> tuple[Any, RNNTSimpleGradient]: ...
@overload
def rnnt_simple_loss(
    am: ArrayLike, lm: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0, topology: Literal["regular", "modified"] = "regular",
    fastemit: float = 0.0, infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RNNTSimpleGradient | tuple[_Array | None, _Array | None], num_threads: int | None = None,
) -> tuple[Any, RNNTSimpleGradient]: ...
@overload
def rnnt_simple_loss(
    am: ArrayLike, lm: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, blank: int = 0, topology: Literal["regular", "modified"] = "regular",
    fastemit: float = 0.0, infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: RNNTSimpleGradient | tuple[_Array | None, _Array | None] | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def sequence_log_prob(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100, average: bool = False,
    slopes: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> Any: ...
@overload
def sequence_log_prob(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100, average: bool = False,
    slopes: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def sequence_log_prob(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100, average: bool = False,
    slopes: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def sequence_log_prob(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100, average: bool = False,
    slopes: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def simpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 2.0, margin: float = 0.5, label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def simpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 2.0, margin: float = 0.5, label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: PreferenceGradient | tuple[_Array | None, _Array | None] | None = ...,
    num_threads: int | None = None,
) -> tuple[float, PreferenceGradient]: ...
@overload
def simpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 2.0, margin: float = 0.5, label_smoothing: float = 0.0,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: PreferenceGradient | tuple[_Array | None, _Array | None],
    num_threads: int | None = None,
) -> tuple[float, PreferenceGradient]: ...
@overload
def simpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 2.0, margin: float = 0.5, label_smoothing: float = 0.0,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def simpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 2.0, margin: float = 0.5, label_smoothing: float = 0.0,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: PreferenceGradient | tuple[_Array | None, _Array | None] | None = ...,
    num_threads: int | None = None,
) -> tuple[Any, PreferenceGradient]: ...
@overload
def simpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 2.0, margin: float = 0.5, label_smoothing: float = 0.0,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: PreferenceGradient | tuple[_Array | None, _Array | None],
    num_threads: int | None = None,
) -> tuple[Any, PreferenceGradient]: ...
@overload
def simpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: float = 2.0, margin: float = 0.5, label_smoothing: float = 0.0,
    reduction: Literal["none", "sum", "mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: PreferenceGradient | tuple[_Array | None, _Array | None] | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def soft_dtw_cost(
    costs: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *, gamma: float = 1.0,
    band: int | None = None, reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def soft_dtw_cost(
    costs: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *, gamma: float = 1.0,
    band: int | None = None, reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def soft_dtw_cost(
    costs: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *, gamma: float = 1.0,
    band: int | None = None, reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def soft_dtw_cost(
    costs: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *, gamma: float = 1.0,
    band: int | None = None, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> Any: ...
@overload
def soft_dtw_cost(
    costs: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *, gamma: float = 1.0,
    band: int | None = None, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def soft_dtw_cost(
    costs: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *, gamma: float = 1.0,
    band: int | None = None, reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def soft_dtw_cost(
    costs: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *, gamma: float = 1.0,
    band: int | None = None, reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def soft_dtw_loss(
    x: ArrayLike, y: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *,
    gamma: float = 1.0, divergence: bool = False, band: int | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def soft_dtw_loss(
    x: ArrayLike, y: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *,
    gamma: float = 1.0, divergence: bool = False, band: int | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: SoftDTWGradient | tuple[_Array | None, _Array | None] | None = ..., num_threads: int | None = None,
) -> tuple[float, SoftDTWGradient]: ...
@overload
def soft_dtw_loss(
    x: ArrayLike, y: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *,
    gamma: float = 1.0, divergence: bool = False, band: int | None = None,
    reduction: Literal["sum", "mean", "sequence_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: SoftDTWGradient | tuple[_Array | None, _Array | None], num_threads: int | None = None,
) -> tuple[float, SoftDTWGradient]: ...
@overload
def soft_dtw_loss(
    x: ArrayLike, y: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *,
    gamma: float = 1.0, divergence: bool = False, band: int | None = None, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def soft_dtw_loss(
    x: ArrayLike, y: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *,
    gamma: float = 1.0, divergence: bool = False, band: int | None = None, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: SoftDTWGradient | tuple[_Array | None, _Array | None] | None = ..., num_threads: int | None = None,
) -> tuple[Any, SoftDTWGradient]: ...
@overload
def soft_dtw_loss(
    x: ArrayLike, y: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *,
    gamma: float = 1.0, divergence: bool = False, band: int | None = None, reduction: Literal["none"],
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: SoftDTWGradient | tuple[_Array | None, _Array | None], num_threads: int | None = None,
) -> tuple[Any, SoftDTWGradient]: ...
@overload
def soft_dtw_loss(
    x: ArrayLike, y: ArrayLike, lengths_x: ArrayLike | None = None, lengths_y: ArrayLike | None = None, *,
    gamma: float = 1.0, divergence: bool = False, band: int | None = None,
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: SoftDTWGradient | tuple[_Array | None, _Array | None] | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, CrossEntropyGradient]: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, CrossEntropyGradient]: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    input: Literal["logits", "log_probs", "probs"] = "logits", ignore_index: int = -100,
    class_weight: ArrayLike | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (CrossEntropyGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, CrossEntropyGradient] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]] | tuple[NDArray[np.float64] | Any, CrossEntropyGradient]: ...
@overload
def softmax_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> float: ...
@overload
def softmax_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def softmax_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ..., normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def softmax_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def softmax_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def softmax_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def softmax_focal_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    gamma: float = 2.0, ignore_index: int = -100, class_weight: ArrayLike | None = None,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def sparsemax_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def sparsemax_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def sparsemax_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def sparsemax_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, CrossEntropyGradient]: ...
@overload
def sparsemax_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64] | Any: ...
@overload
def sparsemax_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def sparsemax_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, NDArray[Any]]: ...
@overload
def sparsemax_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: CrossEntropyGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64] | Any, CrossEntropyGradient]: ...
@overload
def sparsemax_loss(
    logits: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (CrossEntropyGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, CrossEntropyGradient] | NDArray[np.float64] | Any | tuple[NDArray[np.float64] | Any, NDArray[Any]] | tuple[NDArray[np.float64] | Any, CrossEntropyGradient]: ...
@overload
def structured_hinge_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    cost: Literal["hamming"] | ArrayLike = "hamming", reduction: Literal["sum", "mean", "sequence_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def structured_hinge_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    cost: Literal["hamming"] | ArrayLike = "hamming", reduction: Literal["sum", "mean", "sequence_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | CRFGradient | None = ..., num_threads: int | None = None,
) -> tuple[float, CRFGradient]: ...
@overload
def structured_hinge_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    cost: Literal["hamming"] | ArrayLike = "hamming", reduction: Literal["sum", "mean", "sequence_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: _Array | CRFGradient, num_threads: int | None = None,
) -> tuple[float, CRFGradient]: ...
@overload
def structured_hinge_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    cost: Literal["hamming"] | ArrayLike = "hamming", reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> Any: ...
@overload
def structured_hinge_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    cost: Literal["hamming"] | ArrayLike = "hamming", reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | CRFGradient | None = ...,
    num_threads: int | None = None,
) -> tuple[Any, CRFGradient]: ...
@overload
def structured_hinge_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    cost: Literal["hamming"] | ArrayLike = "hamming", reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array | CRFGradient,
    num_threads: int | None = None,
) -> tuple[Any, CRFGradient]: ...
@overload
def structured_hinge_loss(
    emissions: ArrayLike, tags: ArrayLike, transitions: ArrayLike, lengths: ArrayLike | None = None, *,
    mask: ArrayLike | None = None, start: ArrayLike | None = None, end: ArrayLike | None = None,
    cost: Literal["hamming"] | ArrayLike = "hamming",
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | CRFGradient | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def tdt_loss(
    logits: ArrayLike, duration_logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, durations: ArrayLike, blank: int = 0, sigma: float = 0.0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["sum", "mean", "sequence_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def tdt_loss(
    logits: ArrayLike, duration_logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, durations: ArrayLike, blank: int = 0, sigma: float = 0.0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["sum", "mean", "sequence_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: TDTGradient | tuple[_Array | None, _Array | None] | None = ..., num_threads: int | None = None,
) -> tuple[float, TDTGradient]: ...
@overload
def tdt_loss(
    logits: ArrayLike, duration_logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, durations: ArrayLike, blank: int = 0, sigma: float = 0.0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["sum", "mean", "sequence_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: TDTGradient | tuple[_Array | None, _Array | None], num_threads: int | None = None,
) -> tuple[float, TDTGradient]: ...
@overload
def tdt_loss(
    logits: ArrayLike, duration_logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, durations: ArrayLike, blank: int = 0, sigma: float = 0.0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    num_threads: int | None = None,
) -> Any: ...
@overload
def tdt_loss(
    logits: ArrayLike, duration_logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, durations: ArrayLike, blank: int = 0, sigma: float = 0.0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: TDTGradient | tuple[_Array | None, _Array | None] | None = ..., num_threads: int | None = None,
) -> tuple[Any, TDTGradient]: ...
@overload
def tdt_loss(
    logits: ArrayLike, duration_logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, durations: ArrayLike, blank: int = 0, sigma: float = 0.0,
    infeasible: Literal["inf", "zero", "raise"] = "inf", reduction: Literal["none"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: TDTGradient | tuple[_Array | None, _Array | None], num_threads: int | None = None,
) -> tuple[Any, TDTGradient]: ...
@overload
def tdt_loss(
    logits: ArrayLike, duration_logits: ArrayLike, labels: ArrayLike, logit_lengths: ArrayLike | None = None,
    label_lengths: ArrayLike | None = None, *, durations: ArrayLike, blank: int = 0, sigma: float = 0.0,
    infeasible: Literal["inf", "zero", "raise"] = "inf",
    reduction: Literal["none", "sum", "mean", "sequence_mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: TDTGradient | tuple[_Array | None, _Array | None] | None = None, num_threads: int | None = None,
) -> Any: ...
@overload
def top1_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def top1_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def top1_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["sum", "mean"] = ..., normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def top1_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[False] = ..., grad_out: None = ..., num_threads: int | None = None,
) -> Any: ...
@overload
def top1_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: Literal[True], grad_out: _Array | None = ..., num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def top1_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none"], normalizer: float | None = None, sample_weight: ArrayLike | None = None,
    return_grad: bool = ..., grad_out: _Array, num_threads: int | None = None,
) -> tuple[Any, NDArray[Any]]: ...
@overload
def top1_max_loss(
    scores: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    reduction: Literal["none", "sum", "mean"] = "mean", normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool, grad_out: _Array | None = None,
    num_threads: int | None = None,
) -> Any: ...
@overload
def tweedie_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    power: float = 1.5, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ...,
    grad_out: None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> float: ...
@overload
def tweedie_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    power: float = 1.5, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: Literal[True],
    grad_out: _Array | None = ..., with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def tweedie_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    power: float = 1.5, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[float, NDArray[Any]]: ...
@overload
def tweedie_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    power: float = 1.5, reduction: Literal["sum", "mean", "sequence_mean", "batch_mean"] = ...,
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[float, RegressionGradient]: ...
@overload
def tweedie_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    power: float = 1.5, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[False] = ..., grad_out: None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> NDArray[np.float64]: ...
@overload
def tweedie_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    power: float = 1.5, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: Literal[True], grad_out: _Array | None = ...,
    with_respect_to: None = ..., num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def tweedie_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    power: float = 1.5, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ..., grad_out: _Array, with_respect_to: None = ...,
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
@overload
def tweedie_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    power: float = 1.5, reduction: Literal["none", "per_sequence", "step_mean"], normalizer: float | None = None,
    sample_weight: ArrayLike | None = None, return_grad: bool = ...,
    grad_out: RegressionGradient | tuple[_Array | None, _Array | None] | None = ..., with_respect_to: Sequence[str],
    num_threads: int | None = None,
) -> tuple[NDArray[np.float64], RegressionGradient]: ...
@overload
def tweedie_loss(
    predictions: ArrayLike, targets: ArrayLike, lengths: ArrayLike | None = None, *, mask: ArrayLike | None = None,
    power: float = 1.5,
    reduction: Literal["none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean"] = "mean",
    normalizer: float | None = None, sample_weight: ArrayLike | None = None, return_grad: bool,
    grad_out: _Array | (RegressionGradient | tuple[_Array | None, _Array | None]) | None = None,
    with_respect_to: Sequence[str] | None = None, num_threads: int | None = None,
) -> float | tuple[float, NDArray[Any]] | tuple[float, RegressionGradient] | NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[Any]] | tuple[NDArray[np.float64], RegressionGradient]: ...
