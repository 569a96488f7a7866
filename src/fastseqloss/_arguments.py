"""User arrays in, checked kernel arguments out: the only place that validates."""

from __future__ import annotations

import math
import numbers
import operator
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _foreign
from ._kernels import arguments
from ._messages import brief, indexed, shortened, wrong_dtype

_NATIVE = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_MOST_ELEMENTS = sys.maxsize // 9  # of 8 bytes; NumPy counts to lengths near the very limit in float64
FLOATS = "float16, bfloat16, float32 or float64"
# Names of the types that kernels read as they are stored, in the order of their kinds there.
_STORED = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64")
_KINDS = {np.dtype(name): kind for kind, name in enumerate(_STORED) if name != "bfloat16"}


def choice(name: str, value: object, allowed: tuple[str, ...]) -> int:
    """Return the index of `value` among the allowed ones."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} is {brief(value)}; allowed: {', '.join(map(repr, allowed))}")
    return allowed.index(value)


def flag(name: str, value: Any) -> bool:
    """Return a bool."""
    if value is False or value is True:
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")
    return bool(value)


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array, without a copy wherever NumPy can see its memory."""
    array = value if type(value) is np.ndarray else _foreign.as_numpy(name, value)
    if array.size > _MOST_ELEMENTS or not array.size:
        _check_size(name, array)
    return array


def _check_size(name: str, array: NDArray[Any]) -> None:
    # Calls make arrays of 8 bytes for each element, or for each sequence or step of empty ones.
    elements = math.prod(length for length in array.shape if length)
    if elements > _MOST_ELEMENTS:
        raise MemoryError(f"{name} has shape {array.shape}: no memory holds {8 * elements} bytes, 8 for each element")


def check_output(name: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Raise MemoryError if no memory could hold an output of that shape."""
    n_bytes = math.prod(length for length in shape if length) * itemsize
    if n_bytes > sys.maxsize:
        raise MemoryError(f"{name} would have shape {shape}: no memory holds {n_bytes} bytes")


class Scores(NamedTuple):
    """Scores [B, T, V] as a kernel takes them: class axis contiguous, a dtype it knows."""

    values: NDArray[Any]
    given: NDArray[Any]  # the same as they were passed

    @property
    def type_name(self) -> str:
        """The specialisation of a kernel for float32 or float64."""
        return _NATIVE[self.values.dtype]

    @property
    def single(self) -> bool:
        """Whether there was no batch axis."""
        return self.given.ndim == 2

    def fold(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """View an array of the shape that was passed as the kernel sees it; None if it would be a copy."""
        if array.shape == self.values.shape:
            return array
        folded = array.reshape(self.values.shape)
        return folded if array.size == 0 or np.may_share_memory(folded, array) else None


def as_scores(name: str, value: Any) -> Scores:
    """Check an array of scores [B, T, V], or [T, V] of a single sequence; half precision is converted."""
    given = as_array(name, value)
    if given.ndim not in (2, 3):
        raise ValueError(f"{name} has shape {given.shape}; allowed: [B, T, V], or [T, V] for one sequence")
    _check_classes(name, given)
    values = as_floats(name, given)
    if values.itemsize == 2:
        values = values.astype(np.float32)
    return Scores(kernel_ready(values[None] if given.ndim == 2 else values), given)


def as_step_scores(name: str, value: Any) -> Scores:
    """Check an array of scores [..., V]: batch, time and further axes of steps, as many as there are."""
    given = as_array(name, value)
    if given.ndim == 0:
        raise ValueError(f"{name} has shape (); allowed: [..., V]")
    _check_classes(name, given)
    batch = given.shape[0] if given.ndim > 1 else 1
    values = as_floats(name, given)
    rows = math.prod(given.shape[1:-1])
    return Scores(kernel_ready(values.reshape(batch, rows, given.shape[-1])), given)


def _check_classes(name: str, given: NDArray[Any]) -> None:
    if given.shape[-1] == 0:
        raise ValueError(f"{name} has shape {given.shape}: no classes; allowed: 1 or more")


def as_floats(name: str, given: NDArray[Any]) -> NDArray[Any]:
    """Return the array in float16, bfloat16, float32 or float64 of this machine's byte order."""
    dtype = given.dtype
    if dtype in _NATIVE or is_bfloat16(dtype):
        return given
    if dtype.kind == "f" and dtype.itemsize in (2, 4, 8):
        return given.astype(native(dtype), copy=False)
    raise wrong_dtype(name, given, FLOATS)


def stored_kind(dtype: np.dtype[Any]) -> int | None:
    """Return the kind that kernels know a type by, None if they do not; byte order included."""
    return _STORED.index("bfloat16") if is_bfloat16(dtype) else _KINDS.get(dtype)


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether this is the type of ml_dtypes, which need not be installed."""
    return dtype.kind == "V" and dtype.name == "bfloat16"  # names take microseconds


def as_real(name: str, value: Any) -> NDArray[Any]:
    """Return `value` as an array of real numbers, of any dtype."""
    array = as_array(name, value)
    if array.dtype.kind not in "fiub" and not is_bfloat16(array.dtype):
        raise wrong_dtype(name, array, "real numbers")
    return array


def as_doubles(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return a copy in float64, C-contiguous, whatever the caller has told NumPy to do about overflow and NaN."""
    with np.errstate(all="ignore"):
        return np.array(array, dtype=np.float64, order="C")


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in this machine's byte order."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def stored(array: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return an array in a form whose memory kernels can see, and the kind of its elements."""
    kind = stored_kind(array.dtype)
    assert kind is not None
    return (array.view(np.uint16) if array.dtype.itemsize == 2 else array), kind


def _is_kernel_ready(array: NDArray[Any]) -> bool:
    size = array.itemsize
    strides = array.strides
    return (
        (strides[-1] == size or array.shape[-1] == 1)
        and array.flags.aligned
        and strides[0] % size == 0
        and strides[1] % size == 0
    )


def kernel_ready(array: NDArray[Any]) -> NDArray[Any]:
    return array if _is_kernel_ready(array) else array.copy(order="C")


class Gradient(NamedTuple):
    """Where a kernel writes the gradient, and where the user wants it."""

    values: NDArray[Any] | None
    given: NDArray[Any] | None
    direct: bool  # the kernel writes to `given` itself
    in_place: bool  # which is the input

    def deliver(self, given: NDArray[Any]) -> NDArray[Any]:
        """Copy the gradient to where it was asked for, in shape and dtype of the input, and return it."""
        values = self.values
        assert values is not None
        if self.given is not None:
            if not self.direct:
                with np.errstate(over="ignore", under="ignore"):
                    np.copyto(self.given, values.reshape(given.shape), casting="same_kind")
            return self.given
        if values.dtype != given.dtype:
            with np.errstate(over="ignore", under="ignore"):
                values = values.astype(given.dtype)
        return values.reshape(given.shape)


def as_gradient(scores: Scores, return_grad: bool, grad_out: Any) -> Gradient:
    """Allocate the gradient, or check the array given for it."""
    wanted = flag("return_grad", return_grad)
    if grad_out is None:
        return Gradient(_empty_gradient(scores.values) if wanted else None, None, False, False)
    grad_out = _foreign.as_output(grad_out)
    same = check_grad_out(grad_out, scores.given)
    target = scores.fold(grad_out.view(np.ndarray))
    if target is None or target.dtype != scores.values.dtype or not _is_kernel_ready(target):
        return Gradient(_empty_gradient(scores.values), grad_out, False, False)
    return Gradient(target, grad_out, True, same and np.may_share_memory(target, scores.values))


def check_grad_out(grad_out: Any, wanted: NDArray[Any]) -> bool:
    """Check the array given for a gradient; return whether it is the input itself."""
    if not isinstance(grad_out, np.ndarray):
        raise TypeError(f"grad_out must be a NumPy array, got {type(grad_out).__name__}")
    if isinstance(grad_out, np.ma.MaskedArray):
        raise TypeError("grad_out is a masked array; allowed: an array without a mask")
    if grad_out.shape != wanted.shape:
        raise ValueError(f"grad_out has shape {grad_out.shape}; allowed: {wanted.shape}")
    if grad_out.dtype != wanted.dtype:
        raise TypeError(f"grad_out has dtype {shortened(grad_out.dtype)}; allowed: {wanted.dtype}")
    if not grad_out.flags.writeable:
        raise ValueError("grad_out is read-only")
    if overlaps_itself(grad_out):
        raise ValueError(
            f"grad_out has strides {grad_out.strides} for shape {grad_out.shape}: its elements must not share memory"
        )
    if not wanted.size or not np.may_share_memory(grad_out, wanted):
        return False
    same = (
        grad_out.__array_interface__["data"][0] == wanted.__array_interface__["data"][0]
        and grad_out.strides == wanted.strides
    )
    if not same and shares_memory(grad_out, wanted):
        raise ValueError("grad_out overlaps the input; allowed: the input itself or apart")
    return same


def _empty_gradient(values: NDArray[Any]) -> NDArray[Any]:
    # Keeps the order of the axes in memory, time-major say, where the class axis comes last.
    gradient = np.empty_like(values, subok=False)
    return gradient if _is_kernel_ready(gradient) else np.empty(values.shape, values.dtype)


def overlaps_itself(array: NDArray[Any]) -> bool:
    """Whether elements of an array share memory with one another."""
    extent = array.itemsize
    if array.flags.c_contiguous or array.size == 0:
        return False
    for stride, length in sorted(
        (abs(stride), length) for stride, length in zip(array.strides, array.shape, strict=True) if length > 1
    ):
        if stride < extent:
            return True
        extent += stride * (length - 1)
    return False


def shares_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays share memory, or cannot be told apart in reasonable time."""
    try:
        return bool(np.shares_memory(a, b, max_work=10_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def as_integers(name: str, value: Any) -> NDArray[np.int64]:
    """Return a copy of `value` as C-contiguous int64; TypeError unless its dtype is an integer one."""
    return read_integers(name, value).values


class Integers(NamedTuple):
    """Integers as they are computed with, and as they are shown in messages. Neither is memory of the caller."""

    values: NDArray[np.int64]  # C-contiguous; 2**63 - 1 for what is beyond int64
    exact: NDArray[Any]

    def shown(self, flat: int) -> Any:
        """Return the number at a position of the flat array as it was read."""
        return self.exact.reshape(-1)[flat]


def read_integers(name: str, value: Any) -> Integers:
    """Return a copy of `value`; TypeError unless its dtype is an integer one.

    A copy, so that nothing changes it once it has been checked: not another thread, nor the
    gradient written over it, nor the caller's own object, which messages do not look into again.
    """
    array = as_array(name, value)
    if array.dtype.kind not in "iu":
        if array.size:
            raise wrong_dtype(name, array, "any integer dtype")
        array = np.empty(array.shape, np.int64)
    if array.dtype.itemsize == 8 and array.dtype.kind == "u":
        exact = np.array(array, dtype=np.uint64, order="C")
        return Integers(np.minimum(exact, np.iinfo(np.int64).max).astype(np.int64), exact)
    values = np.array(array, dtype=np.int64, order="C")
    return Integers(values, values)


def as_index(name: str, value: Any, n: int) -> int:
    """Return an index into an axis of length `n`, counted from its start."""
    index = as_integer(name, value)
    if not -n <= index < n:
        raise ValueError(f"{name} is {index}; allowed: {-n} to {n - 1}")
    return index + n if index < 0 else index


def as_lengths(name: str, value: Any, batch: int, longest: int, single: bool) -> NDArray[np.int64]:
    """Return lengths [B] within 0 to `longest`; None means all of that length. One number will do for one sequence."""
    if value is None:
        return np.full(batch, longest, np.int64)
    read = read_integers(name, value)
    lengths = read.values
    if lengths.ndim == 0 and (single or batch == 1):
        lengths = lengths.reshape(1)
    if lengths.shape != (batch,):
        allowed = "an integer" if single else f"({batch},)"
        raise ValueError(f"{name} has shape {lengths.shape}; allowed: {allowed}")
    first = arguments.first_outside(lengths, 0, longest)
    if first >= 0:
        where = f"{name}[{first}]" if read.exact.ndim else name
        raise ValueError(f"{where} is {read.shown(first)}; allowed: 0 to {longest}")
    return lengths


def as_mask(
    name: str, value: Any, shape: tuple[int, ...], inside: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return a C-contiguous copy of a mask of that shape: bool, or integers 0 and 1.

    Integers that are not `inside`, which is of as many elements, may be anything.
    """
    array = as_array(name, value)
    if array.dtype.kind not in "biu":
        raise wrong_dtype(name, array, "bool, or integers 0 and 1")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {shape}")
    array = np.array(array, order="C")
    if array.dtype.kind != "b":
        bad = (array != 0) & (array != 1)
        if inside is not None:
            bad &= inside.reshape(shape)
        if bad.any():
            at = tuple(np.argwhere(bad)[0].tolist())
            raise ValueError(f"{indexed(name, at)} is {array[at]}; allowed: 0 and 1, or bool")
    return array.astype(np.bool_, copy=False)


def as_weights(name: str, value: Any, batch: int) -> NDArray[np.float64] | None:
    """Return weights [B], finite and not negative, or None."""
    if value is None:
        return None
    array = as_real(name, value)
    weights = as_doubles(array)
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
    read = read_integers("labels", labels) if single else read_labels(labels)
    return check_labels(read, label_lengths, batch=batch, n_classes=n_classes, blank=blank, single=single, star=star)


def read_labels(labels: Any) -> Integers | list[Integers]:
    """Return the labels of each sequence if there is a list or a column of sequences, else those of one array."""
    if not isinstance(labels, (list, tuple)):
        labels = as_array("labels", labels)
        if labels.ndim != 1 or labels.dtype != object:
            return read_integers("labels", labels)
    if len(labels) and all(issubclass(kind, (int, float, np.generic)) for kind in set(map(type, labels))):
        return read_integers("labels", labels)
    rows = [as_array(f"labels[{b}]", row) for b, row in enumerate(labels)]
    if rows and all(row.ndim == 0 for row in rows):
        return read_integers("labels", rows if isinstance(labels, (list, tuple)) else labels)
    return [read_integers(f"labels[{b}]", row) for b, row in enumerate(rows)]


def check_labels(
    exact: Integers | list[Integers],
    label_lengths: Any,
    *,
    batch: int,
    n_classes: int,
    blank: int,
    single: bool,
    star: int | None = None,
) -> Labels:
    """Check labels as `read_labels` returns them; see `as_labels`."""
    if isinstance(exact, list):
        values, starts, lengths = _listed(exact, label_lengths, batch)
        form = "listed"
    else:
        values = exact.values
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
        rest = values[starts[bad[0]] + bad[1] : starts[bad[0]] + lengths[bad[0]]]
        at_end = label_lengths is None and bool((rest == rest[0]).all())
        raise _bad_label(exact, form, bad, int(starts[bad[0]]), n_classes, blank, star, at_end)
    return Labels(values, starts, lengths, frames_needed)


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
    rows: list[Integers], label_lengths: Any, batch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if len(rows) != batch:
        raise ValueError(f"labels has {len(rows)} sequences; allowed: {batch}, as in logits")
    for b, row in enumerate(rows):
        if row.values.ndim != 1:
            raise ValueError(f"labels[{b}] has shape {row.values.shape}; allowed: one dimension")
    sizes = np.array([len(row.values) for row in rows], np.int64)
    values = np.concatenate([row.values for row in rows]) if rows else np.empty(0, np.int64)
    starts = np.cumsum(sizes) - sizes
    if label_lengths is None:
        return values, starts, sizes
    lengths = as_lengths("label_lengths", label_lengths, batch, int(sizes.max(initial=0)), False)
    bad = np.flatnonzero(lengths > sizes)
    if bad.size:
        b = int(bad[0])
        raise ValueError(f"label_lengths[{b}] is {lengths[b]}; allowed: 0 to {sizes[b]}")
    return values, starts, lengths


def _bad_label(
    exact: Integers | list[Integers],
    form: str,
    bad: tuple[int, int],
    start: int,
    n_classes: int,
    blank: int,
    star: int | None,
    at_end: bool,
) -> ValueError:
    """Return an error for label i of sequence b; `start` is where that begins, `at_end` if it may be padding."""
    b, i = bad
    if isinstance(exact, list):
        where, value = f"labels[{b}][{i}]", exact[b].shown(i)
    else:
        where, value = f"labels[{b}, {i}]" if form == "padded" else f"labels[{start + i}]", exact.shown(start + i)
    if form == "concatenated":
        where += f" (sequence {b}, position {i})"
    said = f"{where} is {value}; allowed: 0 to {n_classes - 1}"
    if blank >= 0:
        said += f", except {blank}, which is the blank"
    if star is not None:
        said += f", or {star}, which is the star"
    if at_end and (value < 0 or value == blank):
        said += "; if it is padding, pass label_lengths"
    return ValueError(said)


def as_integer(name: str, value: Any) -> int:
    """Return an integer: a number, or an array without axes."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool"):
        raise TypeError(f"{name} must be an integer, got bool")
    try:
        if getattr(value, "ndim", 0):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if number.bit_length() > 1000:  # some of which Python does not print
        raise ValueError(f"{name} is an integer of {number.bit_length()} bits; allowed: integers of 64 bits")
    return number


def as_number(
    name: str, value: Any, least: float, most: float, *, open_ends: bool = False, allowed: str | None = None
) -> float:
    """Return a finite number from `least` to `most`, without these two if `open_ends`.

    An array without axes is a number too.
    """
    if not isinstance(value, (int, float)) and (hasattr(value, "__array__") or hasattr(value, "__dlpack__")):
        array = as_array(name, value)
        if array.ndim == 0:
            value = float(array) if is_bfloat16(array.dtype) else array[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Real, np.floating, np.integer)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    allowed = allowed or _range(least, most, open_ends)
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} is beyond all floats; allowed: {allowed}") from None
    inside = least < number < most if open_ends else least <= number <= most
    if not (inside and math.isfinite(number)):
        shown = value if isinstance(value, (int, float, np.generic)) else number  # some numbers Python does not print
        raise ValueError(f"{name} is {shown}; allowed: {allowed}")
    return number


def _range(least: float, most: float, open_ends: bool) -> str:
    if least == -math.inf:
        return "finite" if most == math.inf else f"finite, {most:g} or less"
    if most == math.inf:
        return f"finite, above {least:g}" if open_ends else f"finite, {least:g} or more"
    return f"{'between' if open_ends else 'from'} {least:g} {'and' if open_ends else 'to'} {most:g}"
