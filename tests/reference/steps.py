"""Slow, readable oracles for the per-step losses and for the reduction table, in long double.

Each loss is written from its definition, for a table of steps: [N, V] scores of classes, or [N] numbers and targets.
`steps` selects the steps that count, so that nothing else is ever touched, and `reduce` sums them up.
"""

from dataclasses import dataclass

import numpy as np

from fastseqloss.steps.registry import LOSSES, VECTORS

WIDE = np.longdouble


def times(coefficient: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Their product, in which 0 times infinity (or NaN) is 0."""
    coefficient, value = np.broadcast_arrays(np.asarray(coefficient, WIDE), np.asarray(value, WIDE))
    return np.multiply(coefficient, value, where=coefficient != 0, out=np.zeros(value.shape, WIDE))


def widened(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).astype(WIDE)


# ---- classification: x [N, V] ---------------------------------------------------------------


def log_softmax(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-softmax of each row, and the log of its sum of exponentials [N, 1], which is -inf for a row of -inf."""
    largest = x.max(axis=1, keepdims=True)
    shift = np.where(largest == -np.inf, 0, largest)
    log_sum = np.log(np.exp(x - shift).sum(axis=1, keepdims=True))
    return (x - shift) - log_sum, shift + log_sum


def coefficients(targets, classes, class_weight=None, label_smoothing=0.0) -> np.ndarray:
    """q [N, V], of which the cross-entropy is -sum_c q_c log p_c."""
    targets = np.asarray(targets)
    integer = targets.dtype.kind in "iu"
    y = targets[:, None] == np.arange(classes) if integer else targets
    weight = np.ones(classes) if class_weight is None else class_weight
    smoothing = WIDE(label_smoothing)
    return widened(weight) * ((1 - smoothing) * widened(y) + smoothing / classes)


def cross_entropy(x, targets, kind="logits", z_loss=0.0, **options) -> tuple[np.ndarray, ...]:
    q = coefficients(targets, x.shape[1], **options)
    if kind == "probs":
        slope = times(q, -1 / x)
        return times(q, -np.log(x)).sum(axis=1), slope, np.abs(slope)
    if kind == "log_probs":
        return times(q, -x).sum(axis=1), -q, q
    log_probs, lse = log_softmax(x)
    impossible = lse[:, 0] == -np.inf
    softmax = np.exp(log_probs)
    slope = softmax * q.sum(axis=1, keepdims=True) - q
    loss = times(q, -log_probs).sum(axis=1)
    size = np.broadcast_to(q.sum(axis=1, keepdims=True), x.shape)
    if z_loss:
        loss = loss + z_loss * lse[:, 0] ** 2
        slope = slope + 2 * z_loss * lse * softmax
        size = size + np.abs(2 * z_loss * lse)
    return np.where(impossible, np.inf, loss), np.where(impossible[:, None], 0, slope), size


def softmax_cross_entropy(x, targets, input="logits", **options) -> tuple[np.ndarray, ...]:
    return cross_entropy(x, targets, input, **options)


def nll_loss(x, targets, **options) -> tuple[np.ndarray, ...]:
    return cross_entropy(x, targets, "log_probs", **options)


def multiclass_hinge_loss(x, targets, margin=1.0, class_weight=None) -> tuple[np.ndarray, ...]:
    """Crammer and Singer: the margin to the best wrong class, one step at a time."""
    loss, slope = np.zeros(len(x), WIDE), np.zeros(x.shape, WIDE)
    for i, (row, t) in enumerate(zip(x, targets, strict=True)):
        weight = 1 if class_weight is None else class_weight[t]
        others = [c for c in range(len(row)) if c != t]
        if not others:
            continue
        best = max(others, key=lambda c: row[c])  # the first of equals
        violation = margin + row[best] - row[t]
        if np.isnan(row).any():
            violation = np.nan
        loss[i] = times(weight, np.maximum(0, violation))
        if violation > 0:
            slope[i, best], slope[i, t] = weight, -weight
    return loss, slope, np.abs(slope)


def softmax_focal_loss(x, targets, gamma=2.0, class_weight=None) -> tuple[np.ndarray, ...]:
    log_probs, lse = log_softmax(x)
    own = widened(targets[:, None] == np.arange(x.shape[1]))
    weight = (np.ones(len(x)) if class_weight is None else widened(class_weight)[targets]).astype(WIDE)
    log_p = (np.where(own > 0, log_probs, 0)).sum(axis=1)
    rest = -np.expm1(log_p)
    factor = rest ** WIDE(gamma)
    ratio = np.divide(-log_p, rest, where=rest > 0, out=np.ones_like(rest))
    steep = (weight * factor * (1 + gamma * times(np.exp(log_p), ratio)))[:, None]
    impossible = lse[:, 0] == -np.inf
    loss = np.where(impossible, np.inf, times(weight * factor, -log_p))
    slope = np.where(impossible[:, None], 0, steep * (np.exp(log_probs) - own))
    return loss, slope, np.broadcast_to(steep, x.shape)


# ---- elementwise: x and y of one shape ------------------------------------------------------


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-softplus(-x))


def binary_cross_entropy(x, y, input="logits", pos_weight=1.0, label_smoothing=0.0) -> tuple[np.ndarray, ...]:
    y = (1 - WIDE(label_smoothing)) * y + WIDE(label_smoothing) / 2
    positive, negative = widened(pos_weight) * y, 1 - y
    if input == "logits":
        loss = times(positive, softplus(-x)) + times(negative, softplus(x))
        slopes = times(positive, -sigmoid(-x)), times(negative, sigmoid(x))
    else:
        loss = times(positive, -np.log(x)) + times(negative, -np.log1p(-x))
        slopes = times(positive, -1 / x), times(negative, 1 / (1 - x))
    return loss, slopes[0] + slopes[1], np.abs(slopes[0]) + np.abs(slopes[1])


def binary_focal_loss(x, y, gamma=2.0, alpha=None) -> tuple[np.ndarray, ...]:
    p, q = sigmoid(x), sigmoid(-x)
    wrong, gamma = y * q + (1 - y) * p, WIDE(gamma)
    weight = 1 if alpha is None else WIDE(alpha) * y + (1 - WIDE(alpha)) * (1 - y)
    entropy = times(y, softplus(-x)) + times(1 - y, softplus(x))
    ratio = np.divide(p * q, wrong, where=wrong > 0, out=np.zeros_like(x))
    slopes = (1 - y) * p - y * q, times(gamma * (1 - 2 * y) * ratio, entropy)
    factor = weight * wrong**gamma
    return times(factor, entropy), factor * (slopes[0] + slopes[1]), factor * (np.abs(slopes[0]) + np.abs(slopes[1]))


def mse_loss(x, y) -> tuple[np.ndarray, ...]:
    return (x - y) ** 2, 2 * (x - y), np.abs(2 * (x - y))


def mae_loss(x, y) -> tuple[np.ndarray, ...]:
    return np.abs(x - y), np.sign(x - y), np.ones_like(x)


def huber_loss(x, y, delta=1.0) -> tuple[np.ndarray, ...]:
    d, delta = x - y, WIDE(delta)
    inside = np.abs(d) <= delta
    loss = np.where(inside, d**2 / 2, delta * (np.abs(d) - delta / 2))
    slope = np.where(inside, d, delta * np.sign(d))
    return loss, slope, np.abs(slope)


def log_cosh_loss(x, y) -> tuple[np.ndarray, ...]:
    d = np.abs(x - y)
    near, far = np.log1p(2 * np.sinh(np.minimum(d, 1) / 2) ** 2), d + np.log1p(np.exp(-2 * d)) - np.log(WIDE(2))
    return np.where(d < 1, near, far), np.tanh(x - y), np.ones_like(x)


def poisson_nll_loss(x, y, input="log_rates", full=False) -> tuple[np.ndarray, ...]:
    if input == "log_rates":
        loss, slopes = np.exp(x) - times(y, x), (np.exp(x), -y)
    else:
        loss, slopes = x - times(y, np.log(x)), (np.ones_like(x), -times(y, 1 / x))
    if full:
        loss = loss + np.where(y > 1, y * np.log(np.maximum(y, 1)) - y + np.log(2 * WIDE(np.pi) * y) / 2, 0)
    return loss, slopes[0] + slopes[1], np.abs(slopes[0]) + np.abs(slopes[1])


def tweedie_loss(x, y, power=1.5) -> tuple[np.ndarray, ...]:
    a, b = 1 - WIDE(power), 2 - WIDE(power)
    first, second = np.exp(b * x), times(y, np.exp(a * x))
    return first / b - second / a, first - second, first + second


def gaussian_nll_loss(x, y, variance, input="variance", full=False, eps=1e-6) -> tuple[np.ndarray, ...]:
    """The loss of each number, and its derivatives by the mean, the variance and the target."""
    d, least = x - y, WIDE(eps)
    v = np.maximum(np.exp(variance), least) if input == "log_variance" else np.maximum(variance, least)
    loss = (np.log(v) + d**2 / v + (np.log(2 * WIDE(np.pi)) if full else 0)) / 2
    by_variance = (1 - d**2 / v) / 2
    return loss, d / v, by_variance if input == "log_variance" else by_variance / v, -d / v


def quantile_loss(x, y, q=0.5) -> tuple[np.ndarray, ...]:
    d, q = y - x, np.broadcast_to(widened(q), x.shape)
    slope = np.where(d > 0, -q, np.where(d < 0, 1 - q, 0))
    return np.maximum(q * d, (q - 1) * d), slope, np.abs(slope)


def hinge_loss(x, y, margin=1.0, squared=False) -> tuple[np.ndarray, ...]:
    violation = np.maximum(0, margin - y * x)
    if squared:
        return violation**2, -2 * y * violation, np.abs(2 * violation)
    slope = np.where(violation > 0, -y, 0)
    return violation, slope, np.abs(slope)


# ---- vectors: x and y [N, V]; the loss, and the slopes by both ---------------------------------


def _distribution(x, kind, temperature) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and their logarithms."""
    if kind == "probs":
        return x, np.log(x)
    log_probs = log_softmax(x / WIDE(temperature))[0] if kind == "logits" else x
    return np.exp(log_probs), log_probs


def kl_divergence(
    x, y, input="logits", target_input="probs", direction="forward", temperature=1.0
) -> tuple[np.ndarray, ...]:
    kinds = (input, target_input) if direction == "reverse" else (target_input, input)
    given = (x, y) if direction == "reverse" else (y, x)
    (p, log_p), (q, log_q) = (_distribution(a, kind, temperature) for a, kind in zip(given, kinds, strict=True))
    ratio = np.where((p == 0) & (q == 0), np.inf, log_p - log_q)
    loss = times(p, ratio).sum(axis=1, keepdims=True)
    by_p = {
        "probs": ratio + 1,
        "log_probs": times(p, ratio + 1),
        "logits": np.where(np.isinf(loss), 0, times(p, ratio - loss)) / WIDE(temperature),
    }[kinds[0]]
    by_q = {
        "probs": times(p, -1 / q),
        "log_probs": -p,
        "logits": (q * p.sum(axis=1, keepdims=True) - p) / WIDE(temperature),
    }[kinds[1]]
    return loss[:, 0], *((by_p, by_q) if direction == "reverse" else (by_q, by_p))


def sparsemax(x) -> np.ndarray:
    """Sparsemax, by bisection for the threshold above which the scores add up to 1."""
    low, high = x.max(axis=1, keepdims=True) - 1, x.max(axis=1, keepdims=True)
    for _ in range(70):
        middle = (low + high) / 2
        above = np.maximum(x - middle, 0).sum(axis=1, keepdims=True) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.maximum(x - low, 0)


def sparsemax_loss(x, y) -> tuple[np.ndarray, ...]:
    q = widened(y[:, None] == np.arange(x.shape[1])) if y.ndim == 1 else y
    p = sparsemax(x)
    loss = (times(p - q, x) - p**2 / 2 + q**2 / 2).sum(axis=1)
    return loss, p - q, q - x


def cosine_distance_loss(x, y) -> tuple[np.ndarray, ...]:
    norms = [np.sqrt((a**2).sum(axis=1, keepdims=True)) for a in (x, y)]
    a, b = (times(1, v / np.where(norm == 0, 1, norm)) for v, norm in zip((x, y), norms, strict=True))
    cos = (a * b).sum(axis=1, keepdims=True)
    sides = (a, b, norms[0]), (b, a, norms[1])
    slopes = [times(norms[0] * norms[1] > 0, (cos * u - v) / norm) for u, v, norm in sides]
    return 1 - cos[:, 0], *slopes


def multilabel_margin_loss(x, y, margin=1.0) -> tuple[np.ndarray, ...]:
    pairs = (y[:, :, None] != 0) & (y[:, None, :] == 0)
    violation = np.where(pairs, np.maximum(0, WIDE(margin) - (x[:, :, None] - x[:, None, :])), 0)
    count = widened(violation > 0)
    slope = (count.sum(axis=1) - count.sum(axis=2)) / x.shape[1]
    return violation.sum(axis=(1, 2)) / x.shape[1], slope, np.zeros(x.shape, WIDE)


# ---- steps that count, and reductions -------------------------------------------------------


def definition(function: str):
    """The definition of a loss of the registry, above, under the name of its public function."""
    if function not in globals():
        raise LookupError(f"{function} is in the registry of the step losses, but has no reference in {__file__}")
    return globals()[function]


CLASSIFICATION = {row.function: definition(row.function) for row in LOSSES.values() if row.of_classes}
ELEMENTWISE = {row.function: definition(row.function) for row in LOSSES.values() if not row.of_classes}
NAMES = (*CLASSIFICATION, *ELEMENTWISE)
OF_VECTORS = {row.function: definition(row.function) for row in VECTORS.values()}


@dataclass
class Steps:
    """Every step of a batch, or every feature: its loss, gradient, and what it adds to the number of steps."""

    loss: np.ndarray  # [B, T, ...], or the shape of the scores; 0 where a step does not count
    gradient: np.ndarray  # of the sum of the losses, shape of the scores
    weight: np.ndarray  # [B, T, ...]
    size: np.ndarray  # of the terms that a gradient is the sum of, shape of the scores
    of_features: bool = False  # features of one step belong to a loss


def counting(shape, lengths=None, mask=None) -> np.ndarray:
    """True for steps of this shape, or features of steps, that both the lengths and the mask include."""
    counts = np.ones(shape, bool)
    if mask is not None:
        counts &= np.reshape(mask, np.shape(mask) + (1,) * (len(shape) - np.ndim(mask)))
    if lengths is not None:
        for b, n in enumerate(lengths):
            counts[b, n:] = False
    return counts


def steps(name, scores, targets, lengths=None, mask=None, *, of_features=False, ignore_index=-100, **options) -> Steps:
    """The loss `name` of each step that counts, or of each feature; NaN and junk anywhere else do not matter."""
    scores, targets = np.asarray(scores), np.asarray(targets)
    classification = name in CLASSIFICATION
    shape = scores.shape[:-1] if classification else scores.shape if of_features else scores.shape[:2]
    counts = counting(shape, lengths, mask)
    integer = classification and targets.dtype.kind in "iu"
    if integer:
        counts &= targets != ignore_index
    result = Steps(
        np.zeros(shape, WIDE), np.zeros(scores.shape, WIDE), counts.astype(WIDE), np.zeros(scores.shape, WIDE)
    )
    with np.errstate(all="ignore"):
        if classification:
            x, y = scores[counts], targets[counts]
            loss, gradient, size = CLASSIFICATION[name](widened(x), y, **options)
            if integer and options.get("class_weight") is not None:
                result.weight[counts] = widened(options["class_weight"])[y]
        else:
            options = {key: _rows(value, counts, scores.shape) for key, value in options.items()}
            loss, gradient, size = ELEMENTWISE[name](widened(scores[counts]), widened(targets[counts]), **options)
            features = int(np.prod(scores.shape[2:]))
            if of_features:
                loss, result.weight = loss / features, result.weight / features
            else:
                loss = loss.reshape(len(loss), features).sum(axis=1) / features
            gradient, size = gradient / features, size / features
            result.of_features = of_features
    result.loss[counts], result.gradient[counts], result.size[counts] = loss, gradient, size
    return result


def sequence_log_prob(scores, targets, lengths=None, mask=None, *, average=False, slopes=None, **options):
    """Log-probabilities [B], and the gradient of their sum, or of their products with slopes, written as a loop."""
    found = steps("softmax_cross_entropy", scores, targets, lengths, mask, **options)
    if not found.loss.ndim:
        return -found.loss, times(-WIDE(1 if slopes is None else slopes), found.gradient)
    log_probs, gradient = np.zeros(len(found.loss), WIDE), np.zeros(found.gradient.shape, WIDE)
    for b in range(len(log_probs)):
        share = 1 / max(found.weight[b].sum(), WIDE(1)) if average else WIDE(1)
        log_probs[b] = -found.loss[b].sum() * share
        gradient[b] = times(-share * (1 if slopes is None else slopes[b]), found.gradient[b])
    return log_probs, gradient


def _rows(option, counts, shape):
    """An option given for the last axis, at the steps that count."""
    return np.broadcast_to(option, shape)[counts] if np.ndim(option) else option


def reduce(found: Steps, reduction="mean", normalizer=None, sample_weight=None):
    """The reduced loss and its gradient; a sequence or step of weight 0 does not count, whatever its loss."""
    shape = found.loss.shape
    batch, n_steps = shape[0] if shape else 1, int(np.prod(shape[1:2] if found.of_features else shape[1:]))
    rows = batch, n_steps, int(np.prod(shape[2:])) if found.of_features else 1
    loss, count = found.loss.reshape(rows), found.weight.reshape(rows)
    given = widened(1.0 if sample_weight is None else sample_weight)
    of_sequences = given.ndim < 2
    whole = rows if given.shape == shape else (*rows[:2], 1)
    weight = given.reshape(*given.shape[:1], 1, 1) if of_sequences else given.reshape(whole)
    weight = np.where(np.isfinite(weight), np.broadcast_to(weight, rows), 0)  # else of steps that do not count
    of_sequence = widened(np.ones(batch)) if sample_weight is None or not of_sequences else given.reshape(batch)
    divisor: np.ndarray = np.full((1, 1, 1), widened(normalizer or 1.0))
    if reduction == "mean":
        divisor = (weight * count).sum(keepdims=True)
    elif reduction == "step_mean":
        divisor = (weight * count).sum(axis=(0, 2), keepdims=True)
    elif reduction == "batch_mean":
        divisor = of_sequence.sum().reshape(1, 1, 1)
    elif reduction == "sequence_mean":
        own = (count if of_sequences else weight * count).sum(axis=(1, 2), keepdims=True)
        divisor = own * of_sequence.sum()
    share = np.divide(weight, divisor, where=np.broadcast_to(divisor > 0, rows), out=np.zeros(rows, WIDE))
    scaled = times(share, loss)
    if reduction == "none":
        total = scaled.sum(axis=2).reshape(shape[:2] if found.of_features else shape)
    elif reduction == "per_sequence":
        total = scaled.sum(axis=(1, 2)).reshape(shape[:1])
    elif reduction == "step_mean":
        total = scaled.sum(axis=(0, 2)).reshape(shape[1:2] if found.of_features else shape[1:])
    else:
        total = scaled.sum()
    return total, times(share.reshape(shape + (1,) * (found.gradient.ndim - len(shape))), found.gradient)
