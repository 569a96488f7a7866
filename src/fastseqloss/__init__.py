"""Sequence losses with gradients for NumPy arrays on the CPU: compiled, vectorised and multi-threaded.

Scores are batch first, ``[B, T, V]``; padding beyond the lengths is never read::

    loss, grad = fsl.ctc_loss(logits, labels, logit_lengths, return_grad=True)

CTC
    `ctc_loss`, `ctc_align`, `ctc_posteriors`, `ctc_confidences`, `ctc_greedy_decode`, `ctc_beam_search`, `ctc_entropy`,
    `ctc_risk_loss`; `Vocabulary` and `words_from_spans` for text
Transducers
    `rnnt_loss`, `tdt_loss`, `rnnt_simple_loss`, `rnnt_align`, `rnnt_posteriors`, `rnnt_greedy_decode`
CRF
    `crf_loss`, `crf_decode`, `crf_marginals`, `crf_score`, `structured_hinge_loss`, `tag_constraints`; `ctc_crf_loss`
Soft-DTW
    `soft_dtw_loss`, `soft_dtw_cost`, `soft_dtw_posteriors`
Per-step losses
    `softmax_cross_entropy`, `binary_cross_entropy`, `nll_loss`, `kl_divergence`, `mse_loss`, `mae_loss`, `huber_loss`,
    `quantile_loss`, `gaussian_nll_loss`, `poisson_nll_loss`, `hinge_loss`, `multiclass_hinge_loss` and others
Linear layers
    `linear_cross_entropy`, `linear_ctc_loss`, `linear_policy_loss`, `sequence_log_prob`
Rewards and preferences
    `policy_gradient_loss`, `clipped_policy_loss`, `generalized_advantages`, `group_advantages`, `dpo_loss` and others
Ranking
    `pairwise_hinge_loss`, `pairwise_logistic_loss`, `list_softmax_loss`, `list_mle_loss`, `bpr_max_loss`
Other functions and modules
    `weighted_sum` and `check_grad`; `fastseqloss.plot`, `fastseqloss.recurrent`, `fastseqloss.torch`, `fastseqloss.jax`
"""

from typing import NoReturn as _NoReturn

from . import plot, recurrent
from ._core.config import show_config
from ._core.threads import get_num_threads, set_num_threads
from ._core.types import CrossEntropyGradient, GaussianGradient, RegressionGradient
from .compose import check_grad, weighted_sum
from .crf import (
    CRFGradient,
    CRFMarginals,
    CRFPath,
    CTCCRFPath,
    crf_decode,
    crf_log_partition,
    crf_loss,
    crf_marginals,
    crf_score,
    ctc_crf_decode,
    ctc_crf_log_partition,
    ctc_crf_loss,
    ctc_crf_posteriors,
    structured_hinge_loss,
)
from .ctc import (
    CTCAlignment,
    CTCBeams,
    CTCConfidences,
    GreedyDecoding,
    TokenSpan,
    ctc_align,
    ctc_align_windows,
    ctc_alignment_log_prob,
    ctc_beam_search,
    ctc_collapse,
    ctc_confidences,
    ctc_entropy,
    ctc_feasible,
    ctc_greedy_decode,
    ctc_loss,
    ctc_posteriors,
    ctc_risk_loss,
    merge_tokens,
)
from .linear import (
    LinearGradient,
    linear_cross_entropy,
    linear_ctc_loss,
    linear_policy_loss,
    linear_sequence_log_prob,
)
from .ranking import (
    bpr_max_loss,
    list_mle_loss,
    list_softmax_loss,
    pairwise_hinge_loss,
    pairwise_logistic_loss,
    top1_max_loss,
)
from .rewards import (
    PolicyDiagnostics,
    PreferenceGradient,
    VTraceReturns,
    clipped_policy_loss,
    discounted_returns,
    dpo_loss,
    expected_risk_loss,
    generalized_advantages,
    group_advantages,
    kto_loss,
    n_step_returns,
    orpo_loss,
    policy_gradient_loss,
    retrace_returns,
    simpo_loss,
    vtrace_returns,
)
from .soft_dtw import SoftDTWGradient, soft_dtw_cost, soft_dtw_loss, soft_dtw_posteriors
from .steps.classification import binary_cross_entropy, nll_loss, softmax_cross_entropy
from .steps.cosine import cosine_distance_loss
from .steps.divergence import kl_divergence, sparsemax_loss
from .steps.focal import binary_focal_loss, softmax_focal_loss
from .steps.likelihood import gaussian_nll_loss, poisson_nll_loss, tweedie_loss
from .steps.log_prob import sequence_log_prob
from .steps.margin import hinge_loss, multiclass_hinge_loss, multilabel_margin_loss
from .steps.regression import huber_loss, log_cosh_loss, mae_loss, mse_loss, quantile_loss
from .text import (
    NGram,
    TagConstraints,
    TagSpan,
    TagViolation,
    Vocabulary,
    Words,
    WordSpan,
    read_arpa,
    spans_from_tags,
    tag_constraints,
    tags_from_spans,
    words_from_spans,
)
from .transducer import (
    RNNTAlignment,
    RNNTDecoding,
    RNNTPosteriors,
    RNNTSimpleGradient,
    TDTGradient,
    rnnt_align,
    rnnt_greedy_decode,
    rnnt_loss,
    rnnt_posteriors,
    rnnt_prune_ranges,
    rnnt_simple_loss,
    rnnt_simple_posteriors,
    tdt_loss,
)

__version__ = "0.1.0"
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


def __getattr__(name: str) -> _NoReturn:
    from ._core.keywords import unknown_name

    raise unknown_name(name, __all__)
