"""One call of every public function that computes something, on inputs that many may share."""

import inspect
from collections.abc import Callable
from functools import partial

import numpy as np

import fastseqloss as fsl
from fastseqloss.steps.registry import COUNTS, LOSSES, SHARES, SIGNS

Call = Callable[..., tuple[np.ndarray, ...]]

# What computes nothing of its own on arrays.
OTHERS = {"get_num_threads", "set_num_threads", "show_config", "plot", "read_arpa"}
OF_TEXT = {"spans_from_tags", "tag_constraints", "tags_from_spans"}  # not of arrays


def flat(result) -> tuple[np.ndarray, ...]:
    """The arrays of a result, which may be nested, some of them None."""
    if isinstance(result, tuple):
        return tuple(array for part in result for array in flat(part))
    return () if result is None else (np.asarray(result),)


def _predict(labels, states):
    """A predictor without a state, one number for the last label."""
    return labels[:, None] % 3 - 1.0, states


def _join(frames, predictions):
    return frames * predictions


def _spans(labels, log_probs):
    """A span of one frame for each label."""
    rows = zip(labels.tolist(), log_probs.tolist(), strict=False)
    return [fsl.TokenSpan(label, t, t + 1, log_prob) for t, (label, log_prob) in enumerate(rows)]


def public_arguments(batch: int = 12, steps: int = 40, classes: int = 11) -> dict[str, tuple]:
    """Arguments by the name of the function; a dictionary at their end is of keywords."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, steps, classes)).astype(np.float32)
    log_p = x - np.log(np.exp(x).sum(-1, keepdims=True))
    y, shares = rng.normal(size=(2, batch, steps))
    shares = 1 / (1 + np.exp(-shares))
    classes_of = rng.integers(0, classes, (batch, steps))
    lengths = rng.integers(steps // 2, steps + 1, batch)
    labels = rng.integers(1, classes, (batch, steps // 4))
    between = rng.normal(size=(classes, classes)).astype(np.float32)
    taken = np.take_along_axis(log_p, classes_of[..., None], -1)[..., 0]
    columns = min(4, labels.shape[1])
    nodes = rng.normal(size=(batch, steps, columns + 1, classes)).astype(np.float32)
    of_columns = rng.normal(size=(batch, columns + 1, classes)).astype(np.float32)
    of_durations = rng.normal(size=(*nodes.shape[:3], 3)).astype(np.float32)
    gradient = {"return_grad": True, "reduction": "none"}
    pairs = {"return_grad": True, "reduction": "per_sequence"}
    pairs_of_sequences = (log_p[:, 0, 0], log_p[:, 1, 1])
    ranked = (y, classes_of % 4, lengths)
    scored = (x, classes_of, between, lengths, gradient)
    soft = np.exp(np.roll(log_p, 1, axis=-1))
    arcs = np.random.default_rng(1).normal(size=(batch, steps, 4, 4)).astype(np.float32)
    ring = {"predecessors": (np.arange(4)[:, None] + np.arange(4)) % 4}
    around = (classes_of[:, :1] + np.arange(max(2, steps // 4))) % 4
    targets = {SIGNS: np.where(y > 0, 1.0, -1.0), SHARES: shares, COUNTS: np.abs(y)}
    step_losses = {
        row.function: (log_p if row.scores == "log_probs" else x, classes_of, lengths, gradient)
        if row.of_classes
        else (x[..., 0].copy(), targets.get(row.targets, y).astype(np.float32), lengths, gradient)
        for row in LOSSES.values()
    }
    return {
        **step_losses,
        "bpr_max_loss": (y, classes_of[:, 0] % 2, lengths, {**gradient, "regularization": 0.1}),
        "list_mle_loss": (*ranked, gradient),
        "list_softmax_loss": (*ranked, {**gradient, "item_weight": shares}),
        "pairwise_hinge_loss": (*ranked, {**pairs, "item_weight": shares, "margin": 0.7}),
        "pairwise_logistic_loss": (*ranked, {**pairs, "lambda_weight": "ndcg"}),
        "top1_max_loss": (y, classes_of[:, 0] % 2, lengths, gradient),
        "softmax_cross_entropy": (x, classes_of, lengths, {**gradient, "label_smoothing": 0.1}),
        "clipped_policy_loss": (x, classes_of, taken + 0.1, y, lengths, {**gradient, "entropy_coef": 0.1}),
        "cosine_distance_loss": (x, log_p, lengths, gradient),
        "crf_decode": (x, between, lengths),
        "crf_log_partition": (x, between, lengths),
        "crf_loss": scored,
        "crf_marginals": (x, between, lengths, {"pairwise": True}),
        "crf_score": (x, classes_of, between, lengths),
        "ctc_align": (x, labels, lengths),
        "ctc_align_windows": (x[0], labels[0], {"window": 7}),
        "ctc_alignment_log_prob": (log_p[0], classes_of[:, :steps]),
        "ctc_beam_search": (x, lengths, {"beam": 8, "n_best": 3, "align": True}),
        "ctc_collapse": (list(classes_of[0]), 0),
        "ctc_confidences": (x, labels, lengths),
        "ctc_crf_decode": (arcs[..., :3].copy(), lengths),
        "ctc_crf_log_partition": (arcs, lengths, ring),
        "ctc_crf_loss": (arcs, around, lengths, {**gradient, **ring}),
        "ctc_crf_posteriors": (arcs, lengths, ring),
        "ctc_entropy": (x, labels, lengths, gradient),
        "ctc_feasible": (labels, lengths, np.full(batch, labels.shape[1])),
        "ctc_greedy_decode": (x, lengths),
        "ctc_loss": (x, labels, lengths, gradient),
        "ctc_posteriors": (x, labels, lengths),
        "ctc_risk_loss": (
            *(x, np.stack([labels, labels[::-1], 1 + labels % (classes - 1)], axis=1), np.abs(y[:, :3]), lengths),
            gradient,
        ),
        "discounted_returns": (y, lengths, {"discount": 0.9}),
        "dpo_loss": (*pairs_of_sequences, y[:, 0], y[:, 1], {**gradient, "label_smoothing": 0.1}),
        "expected_risk_loss": (log_p[:, 0], np.abs(y[:, :classes]), gradient),
        "gaussian_nll_loss": (x[..., 0].copy(), y.astype(np.float32), np.abs(x[..., 1]) + 0.1, lengths, gradient),
        "generalized_advantages": (y, shares, lengths, {"discount": 0.9, "decay": 0.9}),
        "kl_divergence": (x, soft, lengths, {**gradient, "temperature": 1.5}),
        "group_advantages": (y, classes_of % 3),
        "kto_loss": (log_p[:, 0, 0], y[:, 0] > 0, y[:, 1], {**gradient, "kl": 0.3}),
        "linear_cross_entropy": (x, between, classes_of, lengths, {**gradient, "bias": between[0], "chunk": 100}),
        "linear_ctc_loss": (x, between, labels, lengths, {**gradient, "bias": between[0], "chunk": 100}),
        "linear_policy_loss": (
            *(x, between, classes_of, y, lengths),
            {**gradient, "old_log_probs": taken + 0.1, "bias": between[0], "entropy_coef": 0.1, "chunk": 100},
        ),
        "linear_sequence_log_prob": (
            *(x, between, classes_of, lengths),
            {"slopes": y[:, 0], "bias": between[0], "chunk": 100},
        ),
        "merge_tokens": (classes_of[0], taken[0]),
        "n_step_returns": (y, shares, lengths, {"n": 5, "discount": 0.9}),
        "orpo_loss": (*pairs_of_sequences, gradient),
        "multilabel_margin_loss": (x, np.asarray(log_p > log_p.mean()), lengths, {**gradient, "margin": 0.7}),
        "policy_gradient_loss": (x, classes_of, y, lengths, {**gradient, "entropy_coef": 0.1}),
        "retrace_returns": (y, shares, shares[::-1], taken, lengths, {"discount": 0.9}),
        "rnnt_align": (nodes, labels[:, :columns], lengths),
        "rnnt_greedy_decode": (x, _predict, _join, lengths),
        "rnnt_loss": (nodes, labels[:, :columns], lengths, {**gradient, "fastemit": 0.1}),
        "rnnt_posteriors": (nodes, labels[:, :columns], lengths),
        "rnnt_prune_ranges": ((np.exp(nodes[..., 0]), np.exp(nodes[..., 1])), 3, lengths),
        "rnnt_simple_loss": (x, of_columns, labels[:, :columns], lengths, gradient),
        "rnnt_simple_posteriors": (x, of_columns, labels[:, :columns], lengths),
        "sequence_log_prob": (x, classes_of, lengths, {"slopes": y[:, 0], "average": True}),
        "simpo_loss": (*pairs_of_sequences, gradient),
        "soft_dtw_cost": (x**2, np.full(batch, steps), np.full(batch, classes), gradient),
        "soft_dtw_loss": (x, log_p[:, ::-1], lengths, lengths, {**gradient, "divergence": True, "band": 9}),
        "soft_dtw_posteriors": (x, log_p[:, ::-1], lengths, lengths),
        "sparsemax_loss": (x, classes_of, lengths, gradient),
        "structured_hinge_loss": scored,
        "vtrace_returns": (y, shares, taken, lengths, {"discount": 0.9, "decay": shares}),
        "words_from_spans": (
            _spans(labels[0], taken[0]),
            {"separator": 3, "confidences": shares[0, : labels.shape[1]]},
        ),
        "tdt_loss": (nodes, of_durations, labels[:, :columns], lengths, {**gradient, "durations": [0, 1, 2]}),
    }


def _bind(function: Callable, arguments: tuple) -> Call:
    """A call with everything given but the number of threads, which not every function has."""
    keywords = arguments[-1] if isinstance(arguments[-1], dict) else {}
    given = arguments[: len(arguments) - bool(keywords)]
    for array in given:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    threaded = "num_threads" in inspect.signature(function).parameters

    def call(num_threads=None):
        return flat(function(*given, **keywords, **({"num_threads": num_threads} if threaded else {})))

    return call


def public_calls(batch: int = 12, steps: int = 40, classes: int = 11) -> dict[str, Call]:
    """Calls by name, all on the same read-only arrays; each takes the number of threads."""
    calls = {
        name: _bind(getattr(fsl, name), arguments)
        for name, arguments in public_arguments(batch, steps, classes).items()
    }
    x = np.random.default_rng(1).normal(size=(batch, steps))
    x.flags.writeable = False

    squares = partial(fsl.mse_loss, targets=np.zeros_like(x))
    calls["weighted_sum"] = lambda num_threads=None: flat(
        fsl.weighted_sum([(2.0, squares), (0.5, squares)])(x, return_grad=True)
    )
    few = partial(fsl.mse_loss, targets=np.zeros((2, 3)), return_grad=True)
    calls["check_grad"] = lambda num_threads=None: flat(fsl.check_grad(few, x[:2, :3]))
    return calls


def public_names() -> set[str]:
    """Functions that `public_calls` has to have."""
    return {name for name in fsl.__all__ if inspect.isfunction(getattr(fsl, name))} - OTHERS - OF_TEXT
