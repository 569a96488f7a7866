"""Correct answers for the fuzzer: the slow references, for calls with unchanged arguments."""

from typing import Any

import numpy as np

import cases
import crf_cases
import fastseqloss as fsl
import linear_cases
import ranking_cases
import soft_dtw_cases
import step_cases
import transducer_cases
from reference import crf as reference_crf
from reference import ctc as reference
from reference import soft_dtw as reference_soft_dtw
from reference.steps import counting

CRF = ("crf_loss", "structured_hinge_loss")
SCORES = {  # of transducers
    "rnnt_loss": ("logits",),
    "tdt_loss": ("logits", "duration_logits"),
    "rnnt_simple_loss": ("am", "lm"),
}
SOFT_DTW = ("soft_dtw_loss", "soft_dtw_cost")


def frames_that_count(clean: dict[str, Any]) -> np.ndarray | None:
    """Frames of an array [B, T, V] or [T, V] that count, by lengths or a mask."""
    shape = np.shape(next(iter(clean.values())))[:-1]
    lengths, mask = clean.get("logit_lengths", clean.get("lengths")), clean.get("mask")
    mask = None if "risks" in clean else mask  # of candidates
    if np.prod(shape, dtype=float) > 10**6:
        return None
    inside = np.ones(shape, bool)
    if lengths is not None:
        inside &= np.arange(shape[-1]) < np.reshape(_integers(lengths), (-1, 1)[: len(shape)])
    if mask is not None:
        inside &= _truths(mask, shape)
    return _weighed(inside, clean) if len(shape) > 1 else inside


def items_that_count(clean: dict[str, Any]) -> np.ndarray | None:
    """Items of lists [B, N], or of a list [N], that count."""
    shape = np.shape(clean["scores"])
    if np.prod(shape, dtype=float) > 10**6:
        return None
    batched = {"scores": np.zeros((*shape, 1))} | {name: value for name, value in clean.items() if name != "scores"}
    return frames_that_count(batched)


def nodes_that_count(clean: dict[str, Any]) -> dict[str, np.ndarray]:
    """Nodes of each gradient of a transducer that count: within the lengths and the number of labels."""
    names = [name for name in ("logits", "duration_logits", "am", "lm") if name in clean]
    shapes = {name: np.shape(clean[name])[:-1] for name in names}
    if any(np.prod(shape, dtype=float) > 10**6 for shape in shapes.values()):
        return {}
    single = len(shapes[names[0]]) == (1 if "am" in clean else 2)
    counts = clean.get("label_lengths")
    if counts is None:
        labels = clean["labels"]
        counts = len(labels) if single else [len(row) for row in labels]
    counts = np.reshape(_integers(counts), (-1, 1))
    frames = np.reshape(_integers(clean.get("logit_lengths", 2**62)), (-1, 1))
    found = {}
    for name, shape in shapes.items():
        axes = (1, *shape) if single else shape
        counted = np.ones(axes, bool)
        if name != "lm":
            counted &= np.expand_dims(np.arange(axes[1]) < frames, tuple(range(2, len(axes))))
        if name != "am":
            counted &= np.expand_dims(np.arange(axes[-1]) <= counts, tuple(range(1, len(axes) - 1)))
        found[name] = counted[0] if single else _weighed(counted, clean)
    return found


def _integers(value: Any) -> np.ndarray:
    """As int64; an array without elements may be of any type."""
    array = np.asarray(value)
    return array.astype(np.int64) if array.size else np.zeros(array.shape, np.int64)


def _truths(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A mask of integers, or of one number where there is one step, as a mask of bool; of steps or of features."""
    array = np.asarray(mask).astype(bool)
    return (
        array.reshape(array.shape + (1,) * (len(shape) - array.ndim))
        if array.size != np.prod(shape)
        else array.reshape(shape)
    )


def steps_that_count(clean: dict[str, Any], classes: bool) -> np.ndarray | None:
    """Steps of an array [B, T, ..., V], or [B, T, D...] unless `classes`, that count."""
    shape = np.shape(next(iter(clean.values())))
    of_features = not classes and shape in (np.shape(clean.get("mask")), np.shape(clean.get("sample_weight")))
    shape = shape[:-1] if classes else shape if of_features else shape[:2]
    if np.prod(shape, dtype=float) > 10**6:
        return None
    lengths, mask = clean.get("lengths"), clean.get("mask")
    given = None if mask is None else _truths(mask, shape)
    counts = counting(shape, None if lengths is None else np.atleast_1d(_integers(lengths)), given)
    return _weighed(counts, clean)


def _weighed(counts: np.ndarray, clean: dict[str, Any]) -> np.ndarray:
    weight = clean.get("sample_weight", clean.get("slopes"))
    if weight is not None and counts.ndim:
        weighed = np.asarray(weight).astype(np.float64) != 0
        weighed = weighed.reshape(-1) if weighed.ndim < 2 else weighed
        counts &= weighed.reshape(weighed.shape + (1,) * (counts.ndim - weighed.ndim))
    return counts


def check_padding_of_pairs(gradients: dict[str, Any], clean: dict[str, Any]) -> None:
    """Gradients of series [B, N, D] or of costs [B, N, M], or of a pair without B, are 0 in the padding."""
    weight = clean.get("sample_weight")
    for name, gradient in gradients.items():
        if gradient is None or gradient.size > 10**6:
            continue
        found = np.asarray(gradient).astype(np.float64)
        found = found[None] if found.ndim == 2 else found
        for axis, key in ((1, "lengths_y" if name == "y" else "lengths_x"), (2, "lengths_y")):
            if clean.get(key) is not None and (axis == 1 or name == "costs"):
                padding = np.arange(found.shape[axis]) >= np.reshape(_integers(clean[key]), (-1, 1))
                padding = np.broadcast_to(padding, (len(found), found.shape[axis]))
                assert not np.moveaxis(found, axis, 1)[padding].any(), f"gradient of {name} in the padding"
        if weight is not None:
            left_out = np.reshape(np.asarray(weight), -1).astype(np.float64) == 0
            assert not found[left_out].any(), f"gradient of {name} for a weight of 0"


def _check_soft_dtw(case: Any, clean: dict[str, Any], reducing: dict[str, Any]) -> None:
    function = reference_soft_dtw.divergence if clean.get("divergence") else reference_soft_dtw.series_loss
    case.check(*fsl.soft_dtw_loss(**clean | reducing), function)


def check(call: Any, case: Any, result: Any, clean: dict[str, Any]) -> None:
    """Compare with the reference; the loss of each sequence first, then its reduction."""
    if isinstance(case, step_cases.Case):
        if isinstance(result, tuple):
            gradient = np.asarray(result[1])
            case.check(result[0], gradient.astype(gradient.dtype.newbyteorder("=")))
        return
    if isinstance(case, ranking_cases.Case):
        if isinstance(result, tuple):
            gradient = np.asarray(result[1])
            case.check(result[0], gradient.astype(gradient.dtype.newbyteorder("=")))
        return
    if isinstance(case, linear_cases.Case):
        loss, gradients = result if isinstance(result, tuple) else (result, (None, None, None))
        case.check(loss, gradients)
        return
    reducing = {"reduction": "none", "sample_weight": None, "normalizer": None, "grad_out": None, "return_grad": True}
    if isinstance(case, soft_dtw_cases.Case):
        _check_soft_dtw(case, clean, reducing)
        return
    if isinstance(case, cases.Case):
        losses, gradient = call.function(**clean | reducing | {"infeasible": "inf"})
        (case.check_entropy if call.name == "ctc_entropy" else case.check)(losses, gradient)
        if clean.get("infeasible") == "zero":
            losses = np.where(losses == np.inf, 0, losses)
        lengths = case.label_lengths
    elif isinstance(case, (transducer_cases.Case, transducer_cases.TDTCase)):
        losses, gradient = call.function(**clean | reducing | {"infeasible": "inf"})
        case.check(losses, gradient)
        if clean.get("infeasible") == "zero":
            losses = np.where(losses == np.inf, 0, losses)
        gradient = gradient[0] if isinstance(gradient, tuple) else gradient
        lengths = case.label_lengths
    else:
        assert isinstance(case, crf_cases.Case)
        losses, gradients = call.function(**clean | reducing)
        zeros = (np.zeros_like(case.start), np.zeros_like(case.end))
        left_out = [found is None for found in gradients[2:]]
        known = [z if out else found for out, z, found in zip(left_out, zeros, gradients[2:], strict=True)]
        function, more = reference_crf.loss, ()
        if call.name == "structured_hinge_loss":
            cost = clean.get("cost", "hamming")
            function, more = reference_crf.hinge, (1 - np.eye(len(case.start)) if isinstance(cost, str) else cost,)
        if not any(left_out):
            case.check(losses, replace_gradient(gradients, known), function, *more)
        gradient, lengths = gradients.emissions, case.lengths
    weight, normalizer = clean.get("sample_weight"), clean.get("normalizer")
    wide = gradient.astype(np.float64)
    expected, slope = reference.reduce(losses, wide, lengths, clean["reduction"], weight, normalizer)
    loss = result[0] if isinstance(result, tuple) else result
    np.testing.assert_allclose(loss, expected, rtol=1e-12, atol=1e-12)
    if isinstance(result, tuple):
        found = result[1][0] if isinstance(result[1], tuple) else result[1]
        if found is None:  # not wanted
            return
        allowed = crf_cases.tolerance(gradient.dtype)
        size = np.maximum(1, np.abs(slope))
        with np.errstate(invalid="ignore"):
            good = np.isclose(np.asarray(found).astype(np.float64) / size, slope / size, rtol=0, atol=4 * allowed)
        assert (good | ~np.isfinite(slope)).all(), f"gradient {found}, expected {slope}"


def replace_gradient(gradients: fsl.CRFGradient, ends: list[np.ndarray]) -> fsl.CRFGradient:
    return gradients._replace(start=ends[0], end=ends[1])
