"""Problems for the losses of a linear layer, and the same losses of logits in memory, in float64."""

from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np

import fastseqloss as fsl

NAMES = ("linear_cross_entropy", "linear_ctc_loss")
OF_LAYER = ("hidden", "weight", "bias")
HALF = (np.float16, ml_dtypes.bfloat16)
OF_STEPS = ("linear_cross_entropy", "linear_sequence_log_prob", "linear_policy_loss")
EVERY = ("linear_ctc_loss", *OF_STEPS)
_OF_HEAD = {"weight", "bias", "scale", "softcap", "chunk"}


def _policy(logits, *, old_log_probs=None, clip=None, **options):
    if old_log_probs is None:
        return fsl.policy_gradient_loss(logits, **options)
    options |= {} if clip is None else {"clip": clip}
    return fsl.clipped_policy_loss(logits, old_log_probs=old_log_probs, **options)


_MEMORY = {
    "linear_cross_entropy": fsl.softmax_cross_entropy,
    "linear_ctc_loss": fsl.ctc_loss,
    "linear_sequence_log_prob": fsl.sequence_log_prob,
    "linear_policy_loss": _policy,
}


@dataclass
class Case:
    """A batch and its options, by name. Hidden states in the padding are NaN: they may never be read."""

    name: str
    arguments: dict[str, Any]
    counts: np.ndarray = field(repr=False)  # steps of the hidden states that count

    def run(self, **options):
        options = {"return_grad": True} | self.arguments | options
        return getattr(fsl, self.name)(**options)

    def changed(self, **arguments) -> "Case":
        return replace(self, arguments=self.arguments | arguments)

    @property
    def hidden(self) -> np.ndarray:
        return self.arguments["hidden"]

    def wide(self, name: str) -> np.ndarray | None:
        """A parameter of the layer in float64; hidden states that do not count are 0."""
        value = self.arguments.get(name)
        if value is None:
            return None
        value = np.asarray(value).astype(np.float64)
        return np.where(self.counts[..., None], value, 0) if name == "hidden" else value

    def expected(self, **options) -> tuple[Any, tuple[np.ndarray, ...]]:
        """Loss and gradients by hidden states, weight and bias, by the logits in memory."""
        hidden, weight, bias = map(self.wide, OF_LAYER)
        arguments = {"scale": 1.0, "softcap": None} | self.arguments | options
        scale, cap = arguments["scale"], arguments["softcap"]
        logits = scale * (hidden @ weight.T + (0 if bias is None else bias))
        if cap is not None:
            logits, slope = cap * np.tanh(logits / cap), scale / np.cosh(logits / cap) ** 2
        else:
            slope = scale
        rest = {name: value for name, value in arguments.items() if name not in _OF_HEAD | {"hidden"}}
        loss, gradient = _MEMORY[self.name](logits, **rest | {"return_grad": True})
        gradient = slope * gradient
        flat = gradient.reshape(-1, len(weight))
        by_bias = None if bias is None else flat.sum(axis=0)
        return loss, (gradient @ weight, flat.T @ hidden.reshape(-1, hidden.shape[-1]), by_bias)

    def check(self, loss, gradients, **options) -> None:
        """Compare with the loss in memory: float64 to 1e-12, others to the rounding of their products."""
        expected, slopes = self.expected(**options)
        dtypes = {np.asarray(self.arguments[name]).dtype for name in ("hidden", "weight")}
        tolerance = 1e-12 if np.dtype(np.float64) in dtypes else 3e-6
        largest = max(1.0, self._largest_logit())
        assert_near(loss, expected, tolerance * largest)
        for name, gradient, slope in zip(OF_LAYER, gradients, slopes, strict=True):
            if gradient is None:
                continue
            given = np.asarray(self.arguments[name])
            assert (gradient.shape, gradient.dtype.newbyteorder("=")) == (given.shape, given.dtype.newbyteorder("="))
            own = tolerance * largest + 2 * float(ml_dtypes.finfo(given.dtype).eps)
            own *= max(1.0, np.abs(slope).max(initial=0))
            assert_near(gradient.astype(np.float64), within_range(slope, given.dtype), own)
        if gradients[0] is not None:
            assert not gradients[0][~self.counts].astype(np.float64).any()

    def _largest_logit(self) -> float:
        """A bound of the terms of a product, whose rounding the logits have."""
        hidden, weight, bias = map(self.wide, OF_LAYER)
        sizes = np.abs(hidden).max(initial=0) * np.abs(weight).sum(axis=1).max(initial=0)
        if bias is not None:
            sizes += np.abs(bias[np.isfinite(bias)]).max(initial=0)
        return float(sizes * self.arguments.get("scale", 1.0))


def within_range(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values, inf where they are beyond the range of the dtype, such as those divided by tiny weights."""
    with np.errstate(over="ignore"):
        rounded = values.astype(dtype).astype(np.float64)
    return np.where(np.isinf(rounded), rounded, values)


def assert_near(found, expected, tolerance) -> None:
    """Within a tolerance relative to the expected number, or to 1."""
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def layer(rng, shape, n_classes, dtype=np.float64, *, weight_dtype=None, bias=True, size=1.0) -> dict[str, np.ndarray]:
    """Hidden states of this shape, weight and bias."""
    made = {
        "hidden": rng.normal(scale=size, size=shape).astype(dtype),
        "weight": rng.normal(size=(n_classes, shape[-1])).astype(weight_dtype or dtype),
    }
    if bias:
        made["bias"] = rng.normal(size=n_classes).astype(weight_dtype or dtype)
    return made


def cross_entropy(rng, shape, n_classes, *, lengths=False, mask=False, ignored=0.0, given=None, **options) -> Case:
    """A random problem of `linear_cross_entropy`, of hidden states of this shape."""
    steps = shape[:-1]
    arguments = layer(rng, shape, n_classes, **(given or {})) | options
    targets = rng.integers(0, n_classes, steps)
    counts = np.ones(steps, bool)
    if lengths and len(steps) > 1:
        arguments["lengths"] = rng.integers(0, steps[1], steps[0], endpoint=True)
        inside = np.arange(steps[1]) < arguments["lengths"][:, None]
        counts &= inside.reshape(*inside.shape, *(1,) * (len(steps) - 2))
    if mask:
        arguments["mask"] = np.asarray(rng.random(steps) > 0.3)
        counts &= arguments["mask"]
    targets[~counts] = n_classes + 7
    if ignored:
        left_out = np.asarray(rng.random(steps) < ignored)
        targets[left_out] = options.get("ignore_index", -100)
        counts &= ~left_out
    arguments["targets"] = targets
    return _with_padding("linear_cross_entropy", arguments, counts)


def log_prob(case: Case, **options) -> Case:
    """The problem of `linear_sequence_log_prob` for the classes of a problem of `linear_cross_entropy`."""
    return Case("linear_sequence_log_prob", case.arguments | options, case.counts)


def policy(rng, case: Case, *, clipped=False, divergence=False, **options) -> Case:
    """The problem of `linear_policy_loss` for the classes of a problem of `linear_cross_entropy`."""
    arguments = {"actions" if name == "targets" else name: value for name, value in case.arguments.items()}
    inside = arguments["actions"] < len(arguments["weight"])
    given = {"advantages": rng.normal(size=inside.shape)}
    if clipped:
        given["old_log_probs"] = -rng.random(inside.shape)
    if divergence:
        given["ref_log_probs"], options["kl_coef"] = -rng.random(inside.shape), 0.3
    given = {name: np.where(inside, value, np.nan) for name, value in given.items()}
    return Case("linear_policy_loss", arguments | given | options, case.counts)


def ctc(rng, shape, n_classes, n_labels, *, lengths=True, given=None, **options) -> Case:
    """A random problem of `linear_ctc_loss`, of hidden states [B, T, D]."""
    batch, frames, _ = shape
    arguments = layer(rng, shape, n_classes, **(given or {})) | options
    blank = options.get("blank", 0) % n_classes
    allowed = np.delete(np.arange(n_classes), blank)
    width = n_labels if len(allowed) else 0
    arguments["labels"] = rng.choice(allowed, (batch, width)) if width else np.zeros((batch, 0), np.int64)
    counts = np.ones((batch, frames), bool)
    if lengths:
        arguments["logit_lengths"] = rng.integers(0, frames, batch, endpoint=True)
        arguments["label_lengths"] = rng.integers(0, width, batch, endpoint=True)
        counts &= np.arange(frames) < arguments["logit_lengths"][:, None]
    return _with_padding("linear_ctc_loss", arguments, counts)


def _with_padding(name, arguments, counts) -> Case:
    if arguments.get("sample_weight") is not None and counts.ndim:
        weighed = np.asarray(arguments["sample_weight"]) != 0
        counts = counts & weighed.reshape(*weighed.shape, *(1,) * (counts.ndim - weighed.ndim))
    arguments["hidden"][~counts] = np.nan
    return Case(name, arguments, counts)
