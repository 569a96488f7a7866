"""Sequence losses with gradients for NumPy arrays: fast, exact, on the CPU."""

from . import plot, recurrent
from ._core.config import show_config
from ._core.threads import get_num_threads, set_num_threads
from ._core.types import CrossEntropyGradient, RegressionGradient
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
    GreedyDecoding,
    TokenSpan,
    ctc_align,
    ctc_alignment_log_prob,
    ctc_collapse,
    ctc_feasible,
    ctc_greedy_decode,
    ctc_loss,
    ctc_posteriors,
    merge_tokens,
)
from .linear import (
    LinearGradient,
    linear_cross_entropy,
    linear_ctc_loss,
    linear_policy_loss,
    linear_sequence_log_prob,
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
from .steps.log_prob import sequence_log_prob
from .steps.margin import hinge_loss, multiclass_hinge_loss
from .steps.regression import huber_loss, mae_loss, mse_loss, quantile_loss
from .text import Vocabulary, Words, WordSpan, words_from_spans
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
    "CrossEntropyGradient",
    "GreedyDecoding",
    "LinearGradient",
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
    "check_grad",
    "clipped_policy_loss",
    "crf_decode",
    "crf_log_partition",
    "crf_loss",
    "crf_marginals",
    "ctc_align",
    "ctc_alignment_log_prob",
    "ctc_collapse",
    "ctc_feasible",
    "ctc_greedy_decode",
    "ctc_loss",
    "ctc_posteriors",
    "discounted_returns",
    "expected_risk_loss",
    "generalized_advantages",
    "get_num_threads",
    "hinge_loss",
    "huber_loss",
    "linear_cross_entropy",
    "linear_ctc_loss",
    "linear_policy_loss",
    "linear_sequence_log_prob",
    "mae_loss",
    "merge_tokens",
    "mse_loss",
    "multiclass_hinge_loss",
    "nll_loss",
    "plot",
    "policy_gradient_loss",
    "quantile_loss",
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
    "structured_hinge_loss",
    "tdt_loss",
    "weighted_sum",
    "words_from_spans",
]
