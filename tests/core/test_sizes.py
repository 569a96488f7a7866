"""Arrays of absurd length: errors that tell a true size, at once; and long loops that a signal ends."""

import os
import re

import numpy as np
import pytest

import fastseqloss as fsl
from fastseqloss.steps.registry import LOSSES
from processes import python
from public_calls import OTHERS

# F and N: arrays of zeros of that shape that are one element in memory. K and D have classes of their own. Some systems
# promise memory that they do not have: the address space is limited to 256 GiB more.
GIVEN = """
import sys
import numpy as np
import fastseqloss as fsl
if sys.platform == "linux":
    import resource
    with open("/proc/self/statm") as sizes:
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**38, resource.RLIM_INFINITY))
def F(*shape, dtype=np.float32):
    return np.broadcast_to(dtype(0), shape)
def N(*shape, dtype=np.int8):
    return F(*shape, dtype=dtype)
def K(batch, steps, classes):
    return np.broadcast_to(np.zeros(classes, np.float32), (batch, steps, classes))
def D(batch, steps, columns, classes):
    return np.broadcast_to(np.zeros(classes, np.float32), (batch, steps, columns, classes))
"""

# Calls of every function that fail, and how: "M" MemoryError, "V" ValueError, "?" either.
FAIL = {
    "binary_cross_entropy": [
        "M (F(1, 2**61 - 1), F(1, 2**61 - 1))",
        "M (F(1, 2**59, 1), F(1, 2**59, 1), pos_weight=F(2**61 - 1))",
    ],
    "check_grad": ["M (lambda x: (0.0, x), F(2**60))", "M (lambda x: (0.0, x), F(2**50))"],
    "clipped_policy_loss": [
        "M (F(1, 2**60, 1), N(1, 2**60), F(1, 2**60), F(1, 2**60))",
        "M (K(1, 2**58, 3), N(1, 2**58), F(1, 2**58), F(1, 2**58))",
        "M (F(1, 1, 2**60), N(1, 1), F(1, 1), F(1, 1))",
    ],
    "cosine_distance_loss": ["M (F(1, 1, 2**60), F(1, 1, 2**60))", "M (K(1, 2**58, 3), K(1, 2**58, 3), [3])"],
    "crf_decode": [
        "M (F(1, 2**61 - 1, 1), F(1, 1))",
        "M (F(1, 2**60 - 1, 1), F(1, 1))",
        "M (K(1, 2**58, 3), F(3, 3), [3])",
        "M (F(2**59, 1, 1), F(1, 1))",
        "M (F(1, 1, 2**21), F(2**21, 2**21))",
    ],
    "crf_log_partition": [
        "M (F(1, 2**61 - 1, 1), F(1, 1))",
        "M (F(1, 2**60 - 1, 1), F(1, 1))",
        "M (F(8, 2**57 - 1, 1), F(1, 1))",
        "M (F(64, 2**53 - 1, 1), F(1, 1))",
        "M (K(1, 2**58, 3), F(3, 3))",
        "M (F(2**59, 1, 1), F(1, 1))",
        "M (F(1, 1, 2**21), F(2**21, 2**21))",
        "V (F(1, 4, 4), F(4, 4), mask=N(1, 2**58, dtype=np.bool_))",
    ],
    "crf_loss": [
        "M (F(1, 2**60, 1), N(1, 2**60), F(1, 1))",
        "M (K(1, 2**58, 3), N(1, 2**58), F(3, 3), [3], return_grad=True)",
        "M (F(2**57, 4, 1), N(2**57, 4), F(1, 1), return_grad=True)",
        "M (F(1, 4, 2**21), N(1, 4), F(2**21, 2**21))",
    ],
    "crf_marginals": [
        "M (F(1, 2**61 - 1, 1), F(1, 1))",
        "M (K(1, 2**58, 3), F(3, 3), [3])",
        "M (K(1, 2**50, 512), F(512, 512), [3], pairwise=True)",
        "M (K(2**44, 2, 1024), F(1024, 1024), pairwise=True)",
    ],
    "ctc_align": [
        "M (F(1, 2**61 - 1, 1), [[]])",
        "M (F(1, 2**60 - 1, 1), [[]])",
        "M (K(1, 2**58, 2), [[1]], [2])",
        "M (F(1, 1, 2**60), [[0]], blank=1)",
        "M (F(1, 1, 2**60), [[1]], label_prior=F(2**60))",
    ],
    "ctc_align_windows": [
        "M (F(2**61 - 1, 1), [])",
        "M (K(1, 2**58, 2)[0], [1])",
        "M (F(1, 2**60), [0], blank=1)",
        "M (lambda start, stop: F(stop - start, 2), [1], 2**58)",
    ],
    "ctc_alignment_log_prob": ["M (K(1, 2**59, 2)[0], N(2**59))", "M (K(1, 2**58, 2)[0], [N(2**58)])"],
    "ctc_beam_search": [
        "M (F(1, 2**61 - 1, 1),)",
        "M (K(1, 2**58, 2), [3])",
        "M (F(2**59, 1, 1),)",
        "M (F(1, 1, 2**60),)",
    ],
    "ctc_collapse": ["M (N(2**62),)", "M (N(2**58),)"],
    "ctc_confidences": [
        "M (K(1, 2**59, 2), [[1]])",
        "M (K(1, 2**58, 2), [[1]])",
        "M (F(1, 1, 2**60), [[1]])",
        "M (F(1, 4, 4), [[1]], frames=N(1, 2**60, 2))",
    ],
    "ctc_crf_decode": [
        "M (F(2**59, 1, 1, 2))",
        "M (D(1, 2**50, 4, 3))",
        "V (D(1, 2**50, 4, 4))",
        "V (F(1, 2, 2**20, 1))",
        "M (D(1, 2**50, 4, 2), [3], predecessors=[[0, 1], [1, 2], [2, 3], [3, 0]])",
    ],
    "ctc_crf_log_partition": ["M (F(1, 2**59, 1, 2))", "M (D(1, 2**50, 4, 3), [3])", "V (F(1, 2, 3 * 2**40, 3))"],
    "ctc_crf_loss": [
        "M (F(2**59, 1, 1, 2), N(2**59, 1))",
        "M (D(1, 2**50, 4, 3), [[1, 2]], [3], return_grad=True)",
        "M (F(1, 1, 2**50, 1), [[0]], predecessors=F(2**50, 1, dtype=np.int8))",
    ],
    "ctc_crf_posteriors": ["M (F(1, 2**59, 1, 2))", "M (D(1, 2**50, 4, 3), [3])"],
    "ctc_entropy": [
        "M (K(1, 2**59 + 99991, 2), [[1]])",
        "M (F(1, 2**60, 1), [[]])",
        "M (F(1, 2**60 - 1, 1), [[]], [3], return_grad=True)",
        "M (K(1, 2**58, 2), [[1]])",
        "M (K(1, 2**58, 2), [[1]], [3], return_grad=True)",
        "M (K(2**58, 1, 2), N(2**58, 0))",
        "M (F(1, 1, 2**61 - 1), [[1]])",
    ],
    "ctc_feasible": [
        "M (N(1, 2**62), [3])",
        "M (N(1, 2**58), [3])",
        "M ([[1]], N(2**60 - 1, dtype=np.int64))",
        "M (N(2**62, 0), [3])",
    ],
    "ctc_greedy_decode": [
        "M (F(1, 2**61 - 1, 1),)",
        "M (K(1, 2**58, 2), [3])",
        "M (F(2**59, 1, 1),)",
        "M (F(1, 1, 2**60),)",
    ],
    "ctc_loss": [
        "M (K(1, 2**59 + 99991, 2), [[1]])",
        "M (F(1, 2**60, 1), [[]])",
        "M (F(1, 2**60 - 1, 1), [[]])",
        "M (K(1, 2**58, 2), [[1]])",
        "M (K(1, 2**58, 2), [[1]], [3], return_grad=True)",
        "M (K(2**58, 1, 2), N(2**58, 0))",
        "M (F(1, 1, 2**61 - 1), [[1]])",
        "M (F(1, 4, 4), N(1, 2**62))",
        "M (F(1, 4, 4), N(2**62), [4], [2**62])",
        "V (F(1, 4, 4), [[1]], label_lengths=[2**62])",
    ],
    "ctc_posteriors": [
        "M (K(1, 2**59, 2), [[1]])",
        "M (K(1, 2**58, 2), [[1]], [3])",
        "M (K(1, 2**58, 2), [[1] * 40], [3])",
        "M (F(2**58, 2, 1), N(2**58, 0))",
    ],
    "ctc_risk_loss": [
        "M (F(1, 2**60, 1), N(1, 2, 0), N(1, 2))",
        "M (K(1, 2**58, 3), [[[1], [2]]], [[0, 1]])",
        "M (K(1, 2**58, 3), [[[1], [2]]], [[0, 1]], [3], return_grad=True)",
        "M (K(2**58, 1, 3), N(2**58, 1, 0), N(2**58, 1))",
        "M (F(1, 1, 2**61 - 1), [[[1], [2]]], [[0, 1]])",
        "M (F(1, 4, 4), N(1, 2, 2**61), N(1, 2))",
        "M (F(1, 4, 4), N(1, 2**61, 2), N(1, 2**61))",
        "V (F(1, 4, 4), [[[1], [2]]], [[0, 1]], label_lengths=[[2**62, 1]])",
    ],
    "discounted_returns": [
        "M (F(2**60),)",
        "M (F(1, 2**60 - 1),)",
        "M (F(2**59, 1),)",
        "M (N(1, 2**63 - 1), [2])",
        "M (F(1, 2**58), done=N(1, 2**58, dtype=np.bool_))",
    ],
    "dpo_loss": ["M (F(2**60), F(2**60))", "M (F(2**58), F(2**58))", "M (F(2**50), F(2**50), F(2**50), F(2**50))"],
    "expected_risk_loss": [
        "M (F(1, 2**60), F(1, 2**60))",
        "M (F(2**58, 1), F(2**58, 1))",
        "M (F(1, 2**50), F(1, 2**50), [2])",
    ],
    "gaussian_nll_loss": [
        "M (F(1, 2**60), F(1, 2**60), F(1, 2**60))",
        "M (F(1, 2**58), F(1, 2**58), F(1, 2**58), [3], return_grad=True)",
    ],
    "generalized_advantages": ["M (F(1, 2**60), F(1, 2**60))", "M (F(1, 2**58), F(1, 2**58), [2])"],
    "group_advantages": ["M (F(1, 2**60),)", "M (F(1, 2**50),)", "M (F(2**50), N(2**50))"],
    "hinge_loss": ["M (F(1, 2**60), N(1, 2**60) + np.int8(1))", "M (F(2**58, 1), F(2**58, 1))"],
    "huber_loss": ["M (F(1, 2**61 - 1), F(1, 2**61 - 1))"],
    "kto_loss": ["M (F(2**60), N(2**60))", "M (F(2**50), N(2**50), return_grad=True)"],
    "orpo_loss": ["M (F(2**60), F(2**60))", "M (F(2**50), F(2**50), return_grad=True)"],
    "simpo_loss": ["M (F(2**60), F(2**60))", "M (F(2**50), F(2**50))"],
    "bpr_max_loss": ["M (F(1, 2**60), [0])", "M (F(1, 2**50), [0], return_grad=True)", "M (F(2**59, 1), N(2**59))"],
    "kl_divergence": ["M (F(1, 1, 2**60), F(1, 1, 2**60))", "M (F(2**59, 1), F(2**59, 1), return_grad=True)"],
    "multilabel_margin_loss": ["M (F(1, 1, 2**60), N(1, 1, 2**60))", "M (K(1, 2**58, 3), K(1, 2**58, 3), [3])"],
    "list_mle_loss": ["M (F(1, 2**60), F(1, 2**60))", "M (F(1, 2**50), F(1, 2**50), [2])"],
    "list_softmax_loss": ["M (F(1, 2**60), F(1, 2**60))", "M (F(2**59, 1), F(2**59, 1))"],
    "pairwise_hinge_loss": ["M (F(1, 2**60), F(1, 2**60))", "M (F(1, 2**50), F(1, 2**50), [2])"],
    "pairwise_logistic_loss": [
        "M (F(1, 2**60), F(1, 2**60))",
        "M (F(1, 2**50), F(1, 2**50), [2])",
        "M (F(1, 2**50), F(1, 2**50), lambda_weight='dcg')",
    ],
    "top1_max_loss": ["M (F(1, 2**60), [0])", "M (F(1, 2**50), [0], return_grad=True)", "M (F(2**59, 1), N(2**59))"],
    "linear_cross_entropy": [
        "M (F(2**60, 1), F(1, 1), N(2**60))",
        "M (F(2**50, 3), F(2, 3), N(2**50))",
        "M (F(1, 1), F(2**60, 1), [0])",
        "M (F(1, 1), F(2**50, 1), [0], return_grad=True)",
        "M (F(1, 2**58), F(1, 2**58), [0])",
    ],
    "linear_ctc_loss": [
        "M (F(1, 2**60, 1), F(2, 1), [[1]])",
        "M (K(1, 2**58, 2), F(2, 2), [[1]], return_grad=True)",
        "M (F(1, 1, 1), F(2**60, 1), [[1]])",
        "M (F(2**58, 1, 2), F(2, 2), N(2**58, 0))",
        "V (F(1, 4, 4), F(2, 4), [[1]], label_lengths=[2**62])",
    ],
    "linear_policy_loss": [
        "M (F(2**60, 1), F(1, 1), N(2**60), F(2**60))",
        "M (F(2**50, 3), F(2, 3), N(2**50), F(2**50))",
        "M (F(1, 1), F(2**60, 1), [0], [1.0])",
        "M (F(1, 1), F(2**50, 1), [0], [1.0], return_grad=True)",
        "M (F(1, 2**58), F(1, 2**58), [0], [1.0])",
    ],
    "linear_sequence_log_prob": [
        "M (F(2**60, 1), F(1, 1), N(2**60))",
        "M (F(2**50, 3), F(2, 3), N(2**50))",
        "M (F(1, 1), F(2**60, 1), [0])",
        "M (F(1, 1), F(2**50, 1), [0], slopes=[1])",
        "M (F(1, 2**58), F(1, 2**58), [0])",
    ],
    "n_step_returns": ["M (F(1, 2**60), F(1, 2**60), n=2)", "M (F(1, 2**50), F(1, 2**50), n=2)"],
    "retrace_returns": ["M (F(1, 2**60), *[F(1, 2**60)] * 3)", "M (F(1, 2**50), *[F(1, 2**50)] * 3)"],
    "vtrace_returns": ["M (F(1, 2**60), *[F(1, 2**60)] * 2)", "M (F(1, 2**50), *[F(1, 2**50)] * 2)"],
    "mae_loss": ["M (F(1, 2**30, 2**30), F(1, 2**30, 2**30))", "M (F(1, 1, 2**60 - 1), F(1, 1, 2**60 - 1))"],
    "merge_tokens": [
        "M (N(2**62), F(2**60))",
        "M (N(1, 2**58), F(1, 2**58), [3])",
        "M (N(2**58, 0), F(2**58, 0))",
    ],
    "mse_loss": [
        "M (F(1, 2**61 - 1), F(1, 2**61 - 1), [3], return_grad=True)",
        "M (F(1, 2**58), F(1, 2**58), [3], return_grad=True)",
        "M (F(1, 2**59), F(1, 2**59), reduction='none')",
        "M (F(1, 2**59), F(1, 2**59), mask=N(1, 2**59, dtype=np.bool_))",
        "M (F(2**59, 1), F(2**59, 1))",
        "? (F(1, 3), F(1, 3), lengths=N(2**60))",
        "? (F(1, 3), F(1, 3), sample_weight=F(2**60))",
        "V (F(1, 3), F(1, 3), mask=N(1, 2**58, dtype=np.bool_))",
    ],
    "multiclass_hinge_loss": [
        "M (F(1, 1, 2**60), N(1, 1))",
        "M (F(1, 1, 2**62 - 1, dtype=np.float16), N(1, 1))",
        "M (K(1, 2**58, 3), N(1, 2**58))",
        "M (F(1, 1, 2**58), N(1, 1), return_grad=True)",
    ],
    "nll_loss": ["M (F(1, 1, 2**60), N(1, 1), return_grad=True)", "M (K(1, 2**58, 3), N(1, 2**58), [3])"],
    "policy_gradient_loss": [
        "M (F(1, 1, 2**61 - 1), N(1, 1), F(1, 1), return_grad=True)",
        "M (K(1, 2**58, 3), N(1, 2**58), F(1, 2**58), [3])",
        "M (F(2**59, 1, 1), N(2**59, 1), F(2**59))",
    ],
    "quantile_loss": ["M (F(1, 2**59), F(1, 2**59), q=F(2**61 - 1))", "M (F(1, 1, 2**58), F(1, 1, 2**58), q=F(2**58))"],
    "rnnt_align": ["M (F(1, 2**60, 1, 1), [[]])", "M (D(1, 2**58, 2, 2), [[1]])", "M (F(1, 1, 1, 2**60), [[]])"],
    "rnnt_loss": [
        "M (F(1, 2**60, 1, 1), [[]])",
        "M (D(1, 2**58, 2, 2), [[1]])",
        "M (D(1, 2**58, 2, 2), [[1]], [3], return_grad=True)",
        "M (D(1, 2**40, 2, 2), [[1]], return_grad=True)",
        "M (F(1, 1, 1, 2**61 - 1), [[]])",
        "M (F(1, 1, 1, 2**60, dtype=np.float16), [[]])",
        "M (D(2**58, 1, 1, 2), N(2**58, 0))",
        "M (F(1, 4, 4, 4), N(1, 2**62))",
        "M (D(1, 2**58, 2, 2), [[1]], ranges=N(1, 2**58))",
        "V (D(1, 2, 2**50, 2), N(1, 1) + np.int8(1))",
        "V (F(1, 4, 4, 4), [[1]], label_lengths=[2**62])",
    ],
    "rnnt_posteriors": ["M (D(1, 2**56, 2, 2), [[1]])", "M (D(1, 2**58, 2, 2), [[1]], [3])"],
    "rnnt_greedy_decode": ["M (F(1, 2**60, 1), print, print)", "V (F(1, 2, 1), print, print, [2**62])"],
    "rnnt_prune_ranges": ["M ((F(1, 2**56, 2), F(1, 2**56, 2)), 2)", "V ((F(1, 2, 2), F(1, 2, 2)), 2, [2**62])"],
    "rnnt_simple_loss": [
        "M (F(1, 2**60, 1), F(1, 1, 1), [[]])",
        "M (K(1, 2**50, 2), K(1, 2, 2), [[1]])",
        "M (K(1, 2**50, 2), K(1, 2, 2), [[1]], [3], return_grad=True)",
        "M (F(1, 1, 2**60), F(1, 1, 2**60), [[]])",
        "V (K(1, 2, 2), K(1, 2**50, 2), N(1, 1) + np.int8(1))",
    ],
    "rnnt_simple_posteriors": ["M (K(1, 2**56, 2), K(1, 2, 2), [[1]])", "M (K(1, 2**58, 2), K(1, 2, 2), [[1]], [3])"],
    "tdt_loss": [
        "M (F(1, 2**60, 1, 1), F(1, 2**60, 1, 1), [[]], durations=[1])",
        "M (D(1, 2**56, 2, 2), D(1, 2**56, 2, 1), [[1]], durations=[1])",
        "M (D(1, 2**56, 2, 2), D(1, 2**56, 2, 1), [[1]], [3], durations=[1], return_grad=True)",
        "M (D(1, 2**40, 2, 2), D(1, 2**40, 2, 2), [[1]], durations=[1, 2], return_grad=True)",
        "M (D(1, 2, 2, 2), D(1, 2, 2, 2**58), [[1]], durations=np.broadcast_to(np.int8(1), 2**58))",
        "V (D(1, 4, 2, 2), D(1, 4, 2, 1), [[1]], label_lengths=[2**62], durations=[1])",
    ],
    "sequence_log_prob": [
        "M (K(1, 2**58, 3), N(1, 2**58))",
        "M (K(1, 2**58, 3), N(1, 2**58), [2])",
        "M (F(2**60, 1, 1), N(2**60, 1))",
        "M (F(1, 1, 2**60), N(1, 1), slopes=[1])",
        "M (F(1, 1, 2**61 - 1, dtype=np.float16), N(1, 1), return_grad=True)",
        "? (F(1, 1, 4), N(1, 1), slopes=F(2**60))",
    ],
    "soft_dtw_cost": [
        "M (F(1, 2**60, 1),)",
        "M (F(1, 1, 2**60), return_grad=True)",
        "M (F(1, 2**58, 3), [2**57], [3], band=2**62)",
        "M (F(2**59, 1, 1),)",
        "M (F(1, 2**29, 2**29), return_grad=True)",
    ],
    "soft_dtw_loss": [
        "M (F(1, 2**60, 1), F(1, 1, 1))",
        "M (K(1, 2**57, 3), K(1, 2**57, 3))",
        "M (F(1, 1, 2**58), F(1, 1, 2**58))",
        "M (F(1, 2**57, 1), F(1, 1, 1), [3], divergence=True, return_grad=True)",
        "M (F(1, 3, 1), F(1, 2**57, 1), divergence=True)",
        "M (F(2**59, 1, 1), F(2**59, 1, 1))",
    ],
    "soft_dtw_posteriors": [
        "M (F(1, 2**40, 1), F(1, 2**40, 1), [3], [3])",
        "M (F(1, 2**60, 1), F(1, 1, 1))",
        "M (F(2**20, 2**20, 1), F(2**20, 2**20, 1), band=0)",
    ],
    "softmax_cross_entropy": [
        "M (K(1, 2**58, 3), N(1, 2**58))",
        "M (K(1, 2**58, 3), N(1, 2**58), [2])",
        "M (F(2**60, 1, 1), N(2**60, 1))",
        "M (F(1, 1, 2**60), N(1, 1), label_smoothing=0.1)",
        "M (F(1, 1, 2**58), F(1, 1, 2**58))",
        "M (F(1, 1, 2**61 - 1, dtype=np.float16), N(1, 1), return_grad=True)",
        "M (F(2**20, 2**20, 2**19), F(2**20, 2**20, 2**19))",
        "? (F(1, 1, 4), N(1, 1), class_weight=F(2**60))",
    ],
    "sparsemax_loss": ["M (F(1, 1, 2**60), N(1, 1), return_grad=True)", "M (K(1, 2**58, 3), N(1, 2**58), [3])"],
    "softmax_focal_loss": ["M (F(1, 1, 2**60), N(1, 1), return_grad=True)", "M (K(1, 2**58, 3), N(1, 2**58), [3])"],
    "crf_score": [
        "M (F(1, 2**60, 1), N(1, 2**60), F(1, 1))",
        "M (F(1, 1, 2**21), N(1, 1), F(2**21, 2**21))",
    ],
    "spans_from_tags": ["V (['O'] * 2**10 + ['I-x'])"],
    "tag_constraints": ["M ([f'B-{k}' for k in range(2**19)])"],
    "tags_from_spans": ["M ([], 2**60)"],
    "structured_hinge_loss": [
        "M (F(1, 2**60, 1), N(1, 2**60), F(1, 1))",
        "M (K(1, 2**58, 3), N(1, 2**58), F(3, 3), [2])",
        "M (F(1, 1, 2**21), N(1, 1), F(2**21, 2**21))",
        "V (F(1, 1, 3), N(1, 1), F(3, 3), cost=F(2**21, 2**21))",
    ],
    "words_from_spans": [
        "M ([fsl.TokenSpan(1, 0, 1, -0.1)], word_lengths=N(2**62))",
        "M ([fsl.TokenSpan(1, 0, 1, -0.1)], separator=0, confidences=F(2**60))",
    ],
    "weighted_sum": ["M ([(1.0, lambda x, **options: fsl.mse_loss(x, x, [3], **options))])(F(1, 2**58))"],
}
FAIL = {row.function: ["M (F(1, 2**61 - 1), F(1, 2**61 - 1))"] for row in LOSSES.values() if not row.of_classes} | FAIL
ERRORS = {"M": ["MemoryError"], "V": ["ValueError"], "?": ["MemoryError", "ValueError"]}

RUN = """
for call in {calls!r}:
    try:
        result = eval(call)
    except Exception as error:
        result = f"{{type(error).__name__}} {{error}}"
    print(result, flush=True)
"""


def results(calls):
    """Result or exception of each call, in a separate process, which is restarted after a crash."""
    found = []
    while len(found) < len(calls):
        process = python(GIVEN + RUN.format(calls=calls[len(found) :]), timeout=60)
        found += process.stdout.splitlines()
        if process.returncode:
            found.append(f"crash {process.returncode} {process.stderr}")
    return dict(zip(calls, found, strict=True))


def full(function, call):
    return f"fsl.{function}{call[2:]}"


@pytest.fixture(scope="module")
def errors():
    return results([full(function, call) for function, calls in FAIL.items() for call in calls])


def test_every_function_is_tried():
    computing = {name for name in fsl.__all__ if not isinstance(getattr(fsl, name), type)} - OTHERS
    assert {name for name in computing if callable(getattr(fsl, name))} == set(FAIL)


@pytest.mark.parametrize("function", FAIL)
def test_absurd_lengths_are_errors(function, errors):
    """At once, whatever overflows; sizes are told as they are."""
    for call in FAIL[function]:
        found = errors[full(function, call)]
        assert found.split()[0] in ERRORS[call[0]], (call, found)
        assert re.search(r"\d", found), (call, found)
        assert not re.search(r"(?<![\w*])-\d", found), (call, found)


@pytest.mark.parametrize("value", [1.0, np.array(1, object), np.timedelta64(1, "s")])
def test_the_cause_of_a_wrong_dtype_is_not_searched_for_in_all_elements(value):
    lengths = np.broadcast_to(value, (2**40, 1))
    with pytest.raises(TypeError, match=r"lengths has dtype .*; allowed: any integer dtype"):
        fsl.discounted_returns(np.zeros((0, 1)), lengths=lengths)
    with pytest.raises(TypeError, match=r"lengths has dtype .*; allowed: any integer dtype"):
        fsl.discounted_returns(np.zeros((0, 1)), lengths=np.full((1,) * 64, value))


def test_sizes_that_no_array_needs():
    """Padding alone, of which nothing is kept, and no sequences at all."""
    calls = {
        "fsl.ctc_loss(K(1, 2**55, 2), [[1]], [0], reduction='sum')": "inf",
        "round(fsl.ctc_loss(K(1, 2**55, 2), [[]], [3], reduction='sum'), 4)": "2.0794",
        "fsl.crf_log_partition(K(1, 2**55, 2), F(2, 2), [3]).round(4)": "[2.0794]",
        "fsl.ctc_loss(F(0, 2**40, 2**10), np.zeros((0, 3), int), reduction='none')": "[]",
    }
    assert results(list(calls)) == calls


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("target", [0, 65_535, 65_536, 150_000, 199_999])
def test_rival_among_many_classes(target, dtype):
    """Rows are searched by pieces for the class that competes."""
    for rival in (1, 65_534, 65_537, 131_072, 199_998):
        scores = np.zeros((1, 200_000), dtype)
        scores[0, [target, rival]] = 2, 3
        loss, grad = fsl.multiclass_hinge_loss(scores, [target], return_grad=True)
        assert loss == 2
        assert {int(i): float(grad[0, i]) for i in np.flatnonzero(grad)} == {target: -1.0, rival: 1.0}


# Scans with their arguments. `map` sees the result of one that was not interrupted before a signal's handler does.
INTERRUPTED = """
import signal
import numpy as np
from fastseqloss._core import levels
from fastseqloss._kernels import arguments
n = 1 << 25
one, none = np.array([n]), np.zeros(1, np.int64)
def stop(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, stop)
def interrupt(scan, *given):
    found = []
    given = [[argument] for argument in given]
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        found.extend(map(scan, *given))
    except KeyboardInterrupt:
        print("stopped" if not found else "too late", flush=True)
"""

SCANS = {
    "labels": "arguments.find_bad_label, np.zeros(n, int), none, one, 3, 1, np.zeros(1, int)",
    "lengths": "arguments.first_outside, np.zeros(n, int), 0, 5",
    "many sequences": "arguments.find_bad_label, none, np.zeros(n, int), np.zeros(n, int), 3, 1, np.zeros(n, int)",
    "plain labels": (
        "arguments.read_sequences, np.empty(n + 4, int), 1, np.ones((1, n), np.int8), one, one, n, 3, 0, False"
    ),
    "plain lengths": "arguments.read_lengths, np.zeros(n, np.int8), 5, np.zeros(n, int)",
    "plain tags": "arguments.read_tags, np.zeros((1, n), np.int8), one, 3, np.zeros((1, n), int)",
    "potentials": "arguments.first_not_a_score, np.zeros(n)",
    "returns": "levels.load('rewards.returns').sums_backwards, np.zeros((1, n)), np.zeros(1), one, None, 0.5, None",
    "sums": "arguments.sequence_sums, np.zeros((1, n)), np.zeros(1)",
    "tags": "arguments.find_bad_tag, np.zeros((1, n), int), one, 3",
    "targets": "arguments.count_targets, np.zeros(n, int), one, None, 0, 3, None, np.zeros(1)",
    "weights": "arguments.weigh, np.zeros(n), np.zeros(n), np.zeros(n)",
}


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_signal_ends_a_long_scan():
    """Before the scan of one long sequence, or of a long argument, is through."""
    code = INTERRUPTED + "\n".join(f"interrupt({scan})" for scan in SCANS.values())
    process = python(code)
    assert dict(zip(SCANS, process.stdout.split("\n"), strict=False)) == dict.fromkeys(SCANS, "stopped"), process.stderr


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_signal_ends_a_loss_of_hours():
    code = """
import signal
def stop(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    fsl.mse_loss(F(1, 2**36), F(1, 2**36))
except KeyboardInterrupt:
    print("stopped")
"""
    assert python(GIVEN + code).stdout.strip() == "stopped"
