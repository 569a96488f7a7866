"""Sequence losses with gradients for NumPy arrays: fast, exact, on the CPU."""

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
    crf_decode,
    crf_log_partition,
    crf_loss,
    crf_marginals,
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
    clipped_policy_loss,
    discounted_returns,
    expected_risk_loss,
    generalized_advantages,
    policy_gradient_loss,
)
from .soft_dtw import SoftDTWGradient, soft_dtw_cost, soft_dtw_loss, soft_dtw_posteriors
from .steps.classification import binary_cross_entropy, nll_loss, softmax_cross_entropy
from .steps.focal import binary_focal_loss, softmax_focal_loss
from .steps.likelihood import gaussian_nll_loss, poisson_nll_loss, tweedie_loss
from .steps.log_prob import sequence_log_prob
from .steps.margin import hinge_loss, multiclass_hinge_loss
from .steps.regression import huber_loss, log_cosh_loss, mae_loss, mse_loss, quantile_loss
from .text import NGram, Vocabulary, Words, WordSpan, read_arpa, words_from_spans
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
    "CTCConfidences",
    "CrossEntropyGradient",
    "GaussianGradient",
    "GreedyDecoding",
    "LinearGradient",
    "NGram",
    "RNNTAlignment",
    "RNNTDecoding",
    "RNNTPosteriors",
    "RNNTSimpleGradient",
    "RegressionGradient",
    "SoftDTWGradient",
    "TDTGradient",
    "TokenSpan",
    "Vocabulary",
    "WordSpan",
    "Words",
    "binary_cross_entropy",
    "binary_focal_loss",
    "bpr_max_loss",
    "check_grad",
    "clipped_policy_loss",
    "crf_decode",
    "crf_log_partition",
    "crf_loss",
    "crf_marginals",
    "ctc_align",
    "ctc_align_windows",
    "ctc_alignment_log_prob",
    "ctc_beam_search",
    "ctc_collapse",
    "ctc_confidences",
    "ctc_entropy",
    "ctc_feasible",
    "ctc_greedy_decode",
    "ctc_loss",
    "ctc_posteriors",
    "ctc_risk_loss",
    "discounted_returns",
    "expected_risk_loss",
    "gaussian_nll_loss",
    "generalized_advantages",
    "get_num_threads",
    "hinge_loss",
    "huber_loss",
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
    "nll_loss",
    "pairwise_hinge_loss",
    "pairwise_logistic_loss",
    "plot",
    "poisson_nll_loss",
    "policy_gradient_loss",
    "quantile_loss",
    "read_arpa",
    "recurrent",
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
    "soft_dtw_cost",
    "soft_dtw_loss",
    "soft_dtw_posteriors",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "structured_hinge_loss",
    "tdt_loss",
    "top1_max_loss",
    "tweedie_loss",
    "weighted_sum",
    "words_from_spans",
]


def __getattr__(name: str) -> _NoReturn:
    from ._core.keywords import unknown_name

    raise unknown_name(name, __all__)
