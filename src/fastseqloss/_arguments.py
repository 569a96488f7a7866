"""User arrays in, checked kernel arguments out: the only place that validates."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._kernels import arguments

_NATIVE = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_FLOATS = "float16, bfloat16, float32 or float64"


def choice(name: str, value: str, allowed: tuple[str, ...]) -> int:
    """Return the index of `value` among the allowed ones."""
    try:
        return allowed.index(value)
    except ValueError:
        raise ValueError(
            f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}"
        ) from None


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array, without a copy wherever NumPy can see its memory."""
    if type(value) is np.ndarray:
        return value
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; pass lengths instead of a mask")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not an array: {error}") from None


class Scores(NamedTuple):
    """Scores [B, T, V] as a kernel takes them: float32 or float64, class axis contiguous."""

    values: NDArray[Any]
    given: NDArray[Any]  # the same as they were passed, with a batch axis
    type_name: str  # "float" or "double", the specialisation of the kernel
    single: bool


def as_scores(name: str, value: Any) -> Scores:
    """Check an array of scores [B, T, V], or [T, V] of a single sequence."""
    given = as_array(name, value)
    dtype = given.dtype
    single = given.ndim == 2
    if not single and given.ndim != 3:
        raise ValueError(
            f"{name} has shape {given.shape}; allowed: [B, T, V], or [T, V] for one sequence"
        )
    if given.shape[-1] == 0:
        raise ValueError(f"{name} has shape {given.shape}: no classes; allowed: 1 or more")
    if single:
        given = given[None]
    values = given
    type_name = _NATIVE.get(dtype)
    if type_name is None:
        if dtype.kind == "f" and dtype.itemsize in (2, 4, 8):
            values = given.astype(np.float64 if dtype.itemsize == 8 else np.float32)
        elif dtype.name == "bfloat16":
            values = given.astype(np.float32)
        else:
            raise TypeError(f"{name} has dtype {dtype}; allowed: {_FLOATS}")
        type_name = _NATIVE[values.dtype]
    return Scores(_kernel_ready(values), given, type_name, single)


def _is_kernel_ready(array: NDArray[Any]) -> bool:
    size = array.itemsize
    strides = array.strides
    return (
        (strides[-1] == size or array.shape[-1] == 1)
        and array.flags.aligned
        and strides[0] % size == 0
        and strides[1] % size == 0
    )


def _kernel_ready(array: NDArray[Any]) -> NDArray[Any]:
    return array if _is_kernel_ready(array) else array.copy(order="C")


class Gradient(NamedTuple):
    """Where a kernel writes the gradient, and where the user wants it."""

    values: NDArray[Any] | None
    given: NDArray[Any] | None
    direct: bool  # the kernel writes to `given` itself
    in_place: bool  # which is the input

    def deliver(self, scores: Scores) -> NDArray[Any]:
        """Copy the gradient to where it was asked for, and return it."""
        values = self.values
        assert values is not None
        if self.given is not None:
            target = self.given[None] if scores.single else self.given
            if not self.direct:
                with np.errstate(over="ignore"):
                    np.copyto(target, values, casting="same_kind")
            return self.given
        if values.dtype != scores.given.dtype:
            with np.errstate(over="ignore"):
                values = values.astype(scores.given.dtype)
        return values[0] if scores.single else values


def as_gradient(scores: Scores, return_grad: bool, grad_out: Any) -> Gradient:
    """Allocate the gradient, or check the array given for it."""
    if grad_out is None:
        return Gradient(_empty_gradient(scores.values) if return_grad else None, None, False, False)
    wanted = scores.given[0] if scores.single else scores.given
    if not isinstance(grad_out, np.ndarray):
        raise TypeError(f"grad_out must be a NumPy array, got {type(grad_out).__name__}")
    if grad_out.shape != wanted.shape:
        raise ValueError(f"grad_out has shape {grad_out.shape}; allowed: {wanted.shape}")
    if grad_out.dtype != wanted.dtype:
        raise TypeError(f"grad_out has dtype {grad_out.dtype}; allowed: {wanted.dtype}")
    if not grad_out.flags.writeable:
        raise ValueError("grad_out is read-only")
    if _overlaps_itself(grad_out):
        raise ValueError(
            f"grad_out has strides {grad_out.strides} for shape {grad_out.shape}: "
            "its elements must not share memory"
        )
    target = grad_out[None] if scores.single else grad_out
    same = False
    if np.may_share_memory(grad_out, wanted) and wanted.size:
        same = (
            grad_out.__array_interface__["data"][0] == wanted.__array_interface__["data"][0]
            and grad_out.strides == wanted.strides
        )
        if not same and _shares_memory(grad_out, wanted):
            raise ValueError("grad_out overlaps the input; allowed: the input itself or apart")
    direct = scores.type_name == _NATIVE.get(grad_out.dtype) and _is_kernel_ready(target)
    if not direct:
        return Gradient(_empty_gradient(scores.values), grad_out, False, False)
    return Gradient(target, grad_out, True, same and scores.values is scores.given)


def _empty_gradient(values: NDArray[Any]) -> NDArray[Any]:
    # Keeps the order of the axes in memory, time-major say, where the class axis comes last.
    gradient = np.empty_like(values, subok=False)
    return gradient if _is_kernel_ready(gradient) else np.empty(values.shape, values.dtype)


def _overlaps_itself(array: NDArray[Any]) -> bool:
    extent = array.itemsize
    if array.flags.c_contiguous or array.size == 0:
        return False
    for stride, length in sorted(
        (abs(stride), length)
        for stride, length in zip(array.strides, array.shape, strict=True)
        if length > 1
    ):
        if stride < extent:
            return True
        extent += stride * (length - 1)
    return False


def _shares_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    try:
        return bool(np.shares_memory(a, b, max_work=10_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def as_integers(name: str, value: Any) -> NDArray[np.int64]:
    """Return a copy of `value` as C-contiguous int64; TypeError unless its dtype is an integer one.

    A copy, so that nothing changes it once it has been checked: not another thread, nor the
    gradient written over it.
    """
    array = as_array(name, value)
    if array.dtype.kind not in "iu":
        if array.size:
            raise TypeError(f"{name} has dtype {array.dtype}; allowed: any integer dtype")
        array = array.astype(np.int64)
    # Values of uint64 beyond int64 turn negative here, and no range allows those.
    return np.array(array, dtype=np.int64, order="C")


def as_index(name: str, value: Any, n: int) -> int:
    """Return an index into an axis of length `n`, counted from its start."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got bool")
    try:
        index = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if not -n <= index < n:
        raise ValueError(f"{name} is {index}; allowed: {-n} to {n - 1}")
    return index + n if index < 0 else index


def as_lengths(name: str, value: Any, batch: int, longest: int, single: bool) -> NDArray[np.int64]:
    """Return lengths [B] within 0 to `longest`; None means all of that length."""
    if value is None:
        return np.full(batch, longest, np.int64)
    lengths = as_integers(name, value)
    if single and lengths.ndim == 0:
        lengths = lengths.reshape(1)
    if lengths.shape != (batch,):
        allowed = "an integer" if single else f"({batch},)"
        raise ValueError(f"{name} has shape {lengths.shape}; allowed: {allowed}")
    first = arguments.first_outside(lengths, 0, longest)
    if first >= 0:
        shown = np.asarray(value).reshape(-1)[first]
        raise ValueError(f"{name}[{first}] is {shown}; allowed: 0 to {longest}")
    return lengths


def as_weights(name: str, value: Any, batch: int) -> NDArray[np.float64] | None:
    """Return weights [B], finite and not negative, or None."""
    if value is None:
        return None
    array = as_array(name, value)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} has dtype {array.dtype}; allowed: real numbers")
    weights = array.astype(np.float64)
    if weights.ndim == 0 and batch == 1:
        weights = weights.reshape(1)
    if weights.shape != (batch,):
        raise ValueError(f"{name} has shape {weights.shape}; allowed: ({batch},)")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {weights[bad[0]]}; allowed: finite, 0 or more")
    return weights


class Labels(NamedTuple):
    """Labels of a batch: those of sequence b are values[starts[b] : starts[b] + lengths[b]]."""

    values: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    frames_needed: NDArray[np.int64]


def as_labels(
    labels: Any,
    label_lengths: Any,
    *,
    batch: int,
    n_classes: int,
    blank: int,
    single: bool,
    star: int | None = None,
) -> Labels:
    """Check labels in any of their forms: padded [B, S], concatenated, or a list of sequences.

    A `star` is allowed as a label besides the classes, and becomes class `n_classes`.
    """
    if isinstance(labels, (list, tuple)) and not single and _is_nested(labels):
        values, starts, lengths = _listed(labels, label_lengths, batch)
        form = "listed"
    else:
        values = as_integers("labels", labels)
        if single or values.ndim == 2:
            form = "single" if single else "padded"
            starts, lengths = _padded(values, label_lengths, batch, single)
            values = values.reshape(-1)
        else:
            form = "concatenated"
            starts, lengths = _concatenated(values, label_lengths, batch)
    if star is not None:
        others = np.where(values == n_classes, -1, values)
        values = np.where(values == star, n_classes, others)
    frames_needed = np.empty(batch, np.int64)
    allowed = n_classes + (star is not None)
    bad = arguments.find_bad_label(values, starts, lengths, allowed, blank, frames_needed)
    if bad is not None:
        _raise_bad_label(labels, values, form, starts, bad, n_classes, blank, star)
    return Labels(values, starts, lengths, frames_needed)


def _is_nested(labels: Sequence[Any]) -> bool:
    return all(np.ndim(row) > 0 for row in labels)


def _padded(
    values: NDArray[np.int64], label_lengths: Any, batch: int, single: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if single and values.ndim != 1:
        raise ValueError(f"labels has shape {values.shape}; allowed: [S] for one sequence")
    if not single and len(values) != batch:
        raise ValueError(f"labels has shape {values.shape}; allowed: [B, S] with B = {batch}")
    width = values.shape[-1]
    lengths = as_lengths("label_lengths", label_lengths, batch, width, single)
    starts = np.zeros(1, np.int64) if batch == 1 else np.arange(batch, dtype=np.int64) * width
    return starts, lengths


def _concatenated(
    values: NDArray[np.int64], label_lengths: Any, batch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if values.ndim != 1:
        raise ValueError(
            f"labels has shape {values.shape}; allowed: [B, S] padded, [sum of label_lengths] "
            "concatenated, or a list of B sequences"
        )
    if label_lengths is None:
        raise ValueError("label_lengths is None; labels in one dimension need label_lengths")
    lengths = as_lengths("label_lengths", label_lengths, batch, len(values), False)
    total = int(lengths.sum())
    if total != len(values):
        raise ValueError(f"label_lengths add up to {total}; allowed: {len(values)}, as in labels")
    return np.cumsum(lengths) - lengths, lengths


def _listed(
    labels: Sequence[Any], label_lengths: Any, batch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if len(labels) != batch:
        raise ValueError(f"labels has {len(labels)} sequences; allowed: {batch}, as in logits")
    rows = [as_integers(f"labels[{b}]", row) for b, row in enumerate(labels)]
    for b, row in enumerate(rows):
        if row.ndim != 1:
            raise ValueError(f"labels[{b}] has shape {row.shape}; allowed: one dimension")
    sizes = np.array([len(row) for row in rows], np.int64)
    values = np.concatenate(rows) if rows else np.empty(0, np.int64)
    starts = np.cumsum(sizes) - sizes
    if label_lengths is None:
        return values, starts, sizes
    lengths = as_lengths("label_lengths", label_lengths, batch, int(sizes.max(initial=0)), False)
    bad = np.flatnonzero(lengths > sizes)
    if bad.size:
        b = int(bad[0])
        raise ValueError(f"label_lengths[{b}] is {lengths[b]}; allowed: 0 to {sizes[b]}")
    return values, starts, lengths


def _raise_bad_label(
    labels: Any,
    values: NDArray[np.int64],
    form: str,
    starts: NDArray[np.int64],
    bad: tuple[int, int],
    n_classes: int,
    blank: int,
    star: int | None,
) -> None:
    b, i = bad
    flat = int(starts[b]) + i
    if form == "listed":
        where, value = f"labels[{b}][{i}]", labels[b][i]
    else:
        where = f"labels[{b}, {i}]" if form == "padded" else f"labels[{flat}]"
        value = np.asarray(labels).reshape(-1)[flat]
    if form == "concatenated":
        where += f" (sequence {b}, position {i})"
    also = "" if star is None else f", or {star}, which is the star"
    raise ValueError(
        f"{where} is {value}; allowed: 0 to {n_classes - 1}, except {blank}, which is the blank{also}"
    )


def require_feasible(frames: NDArray[np.int64], targets: Labels) -> None:
    """Raise ValueError if sequences are too short for their labels, naming them."""
    bad = np.flatnonzero(frames < targets.frames_needed)
    if bad.size:
        first = bad[0]
        raise ValueError(
            f"logit_lengths[{first}] is {frames[first]}; allowed: {targets.frames_needed[first]} "
            f"or more for its labels; infeasible sequences: {', '.join(map(str, bad))}"
        )


def as_star(star: Any, n_classes: int) -> int | None:
    """Return the label that stands for anything, which no class may have, or None."""
    if star is None:
        return None
    if isinstance(star, bool):
        raise TypeError("star must be an integer or None, got bool")
    try:
        value = operator.index(star)
    except TypeError:
        raise TypeError(f"star must be an integer or None, got {type(star).__name__}") from None
    if 0 <= value < n_classes or not -(2**63) <= value < 2**63:
        raise ValueError(f"star is {value}; allowed: an int64 other than 0 to {n_classes - 1}, the classes")
    return value


def as_log_prior(name: str, value: Any, n_classes: int) -> NDArray[np.float64] | None:
    """Return logarithms of priors [V], finite, or None."""
    if value is None:
        return None
    array = as_array(name, value)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} has dtype {array.dtype}; allowed: real numbers")
    prior = array.astype(np.float64)
    if prior.shape != (n_classes,):
        raise ValueError(f"{name} has shape {prior.shape}; allowed: ({n_classes},)")
    bad = np.flatnonzero(~np.isfinite(prior))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {prior[bad[0]]}; allowed: finite numbers")
    return prior


def as_number(name: str, value: Any, least: float, most: float) -> float:
    """Return a real number from `least` to `most`, both finite or not allowed themselves."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}; allowed: a number")
    number = float(value)
    if not (math.isfinite(number) and least <= number <= most):
        bounds = [f"{least:g} or more"] * (least > -math.inf) + [f"{most:g} or less"] * (most < math.inf)
        raise ValueError(f"{name} is {number}; allowed: {', '.join(['finite', *bounds])}")
    return number


def as_classes(name: str, value: Any, n_classes: int) -> NDArray[np.int64]:
    """Return classes [T], one for each frame."""
    classes = as_integers(name, value)
    if classes.ndim != 1:
        raise ValueError(f"{name} has shape {classes.shape}; allowed: one dimension")
    first = arguments.first_outside(classes, 0, n_classes - 1)
    if first >= 0:
        shown = np.asarray(value).reshape(-1)[first]
        raise ValueError(f"{name}[{first}] is {shown}; allowed: 0 to {n_classes - 1}")
    return classes
