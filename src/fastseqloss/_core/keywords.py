"""Names of other libraries, and ours: for the messages of calls and of imports that use them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import wraps
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

F = TypeVar("F", bound=Callable[..., Any])

# Keyword of another library: ours, of which the first one that the function has counts. docs/migration.md lists them.
KEYWORDS = {
    "input_lengths": ("logit_lengths", "lengths"),
    "target_lengths": ("label_lengths",),
    "sequence_lengths": ("lengths", "logit_lengths"),
    "seq_lens": ("lengths", "logit_lengths"),
    "logit_paddings": ("logit_lengths",),
    "label_paddings": ("label_lengths",),
    "boundary": ("logit_lengths",),
    "zero_infinity": ('infeasible="zero"',),
    "blank_id": ("blank",),
    "blank_index": ("blank",),
    "blank_idx": ("blank",),
    "mask_index": ("blank",),
    "log_probs": ('input="log_probs"',),
    "fused_log_softmax": ('input="log_probs"',),
    "from_logits": ('input="probs"',),
    "fastemit_lambda": ("fastemit",),
    "y_true": ("targets", "labels", "tags", "relevance"),
    "y_pred": ("logits", "predictions", "scores"),
    "target": ("targets", "labels", "tags", "relevance"),
    "targets": ("labels", "tags", "relevance"),
    "weight": ("class_weight", "sample_weight"),
    "weights": ("item_weight", "sample_weight"),
    "where": ("mask",),
    "size_average": ("reduction",),
    "reduce": ("reduction",),
    "var": ("variance",),
    "inputs": ("emissions", "logits", "predictions"),
    "potentials": ("emissions",),
    "tag_indices": ("tags",),
    "transition_params": ("transitions",),
    "start_transitions": ("start",),
    "end_transitions": ("end",),
    "nbest": ("n_best",),
    "top_paths": ("n_best",),
    "beam_width": ("beam",),
    "beam_size": ("beam",),
    "lm": ("language_model",),
    "alpha": ("lm_weight",),
    "beta": ("length_bonus", "kl_coef"),
    "hotwords": ("boost",),
    "token_min_logp": ("class_threshold",),
    "beam_prune_logp": ("beam_threshold",),
    "clip_eps": ("clip",),
    "clip_range": ("clip",),
    "cliprange": ("clip",),
    "epsilon": ("clip",),
    "advantage": ("advantages",),
    "old_logprobs": ("old_log_probs",),
    "old_logp": ("old_log_probs",),
    "ref_logprobs": ("ref_log_probs",),
    "ent_coef": ("entropy_coef",),
    "gamma": ("discount",),
    "lam": ("decay",),
    "lambda_": ("decay",),
    "gae_lambda": ("decay",),
    "dones": ("done",),
    "bootstrap_value": ("final_values",),
    "sakoe_chiba_radius": ("band",),
    "bandwidth": ("band",),
    "normalize": ("divergence=True",),
    "n_jobs": ("num_threads",),
    "num_workers": ("num_threads",),
    "return_gradient": ("return_grad",),
    "out": ("grad_out",),
}
BATCH_FIRST = ("batch_first", "logits_time_major", "time_major")  # arrays of all functions are batch first

# Function of another library: ours, unless it is ours without capitals and underscores.
FUNCTIONS = {
    "bce_with_logits": "binary_cross_entropy",
    "binary_cross_entropy_with_logits": "binary_cross_entropy",
    "bce_loss": "binary_cross_entropy",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy",
    "cross_entropy": "softmax_cross_entropy",
    "CrossEntropyLoss": "softmax_cross_entropy",
    "cosine_embedding_loss": "cosine_distance_loss",
    "cosine_similarity": "cosine_distance_loss",
    "CosineEmbeddingLoss": "cosine_distance_loss",
    "CRF": "crf_loss",
    "CTC_CRF": "ctc_crf_loss",
    "ctc_decode": "ctc_greedy_decode",
    "edit_distance": "ctc_risk_loss",
    "forced_align": "ctc_align",
    "gae": "generalized_advantages",
    "kl_div": "kl_divergence",
    "KLDivLoss": "kl_divergence",
    "l1_loss": "mae_loss",
    "L1Loss": "mae_loss",
    "multi_margin_loss": "multiclass_hinge_loss",
    "MultiMarginLoss": "multiclass_hinge_loss",
    "ppo_loss": "clipped_policy_loss",
    "reinforce_loss": "policy_gradient_loss",
    "sigmoid_focal_loss": "binary_focal_loss",
    "smooth_l1_loss": "huber_loss",
    "SmoothL1Loss": "huber_loss",
    "SoftDTW": "soft_dtw_loss",
    "viterbi_decode": "crf_decode",
}
LIKENESS = 0.82  # of two names, from 0 to 1, from which on one counts as a misspelling of the other


def known_keywords(function: F) -> F:
    """Decorate a public function: a call with an unknown keyword raises TypeError that names the known one."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            traceback = error.__traceback__
            if traceback is not None and traceback.tb_next is None:  # raised by the call, not within it
                known = inspect.signature(function, eval_str=True).parameters
                explain_keywords(function.__name__, known, kwargs)
            raise

    return cast(F, call)


def explain_keywords(name: str, known: Mapping[str, Any], given: Iterable[str]) -> None:
    """Raise TypeError for the first keyword that a function lacks, with the one that is meant.

    `known` are the function's parameters, with annotations that are no strings.
    """
    for keyword in given:
        if keyword not in known:
            raise TypeError(f"{name} has no argument {keyword!r}; {_meant(keyword, known)}") from None


def _meant(keyword: str, known: Mapping[str, Any]) -> str:
    if keyword in BATCH_FIRST:
        return "arrays are batch first, [B, T, ...]; array.swapaxes(0, 1) is a view"
    ours = [argument for argument in KEYWORDS.get(keyword, ()) if _takes(known, argument)]
    ours = ours or get_close_matches(keyword, known, n=1, cutoff=LIKENESS)
    return f"here it is {ours[0]}" if ours else f"allowed: {', '.join(known)}"


def _takes(known: Mapping[str, Any], argument: str) -> bool:
    """Return True if a function has an argument, and allows its value if it is one of several strings."""
    name, _, value = argument.partition("=")
    kind = getattr(known.get(name), "annotation", None)
    return name in known and (get_origin(kind) is not Literal or not value or value.strip('"') in get_args(kind))


def unknown_name(name: str, names: list[str]) -> AttributeError:
    """Return an error for a name that the package lacks, with the one that is meant."""
    plain = {ours.replace("_", "").lower(): ours for ours in names}
    bare = name.lower().replace("_", "")
    close = get_close_matches(name, names, n=1, cutoff=LIKENESS)
    ours = FUNCTIONS.get(name) or plain.get(bare) or plain.get(f"{bare}loss") or (close[0] if close else "")
    text = f"module 'fastseqloss' has no attribute {name!r}"
    if ours:
        text += f"; here it is fastseqloss.{ours}"
    if name in ("CTCLoss", "CrossEntropyLoss", "CRF"):
        text += f", and fastseqloss.torch.{name} is a module of PyTorch"
    return AttributeError(text, name=name)
