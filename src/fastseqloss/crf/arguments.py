"""Arguments of the linear-chain CRF, checked, and what its entry points make of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import (
    FLOATS,
    as_array,
    as_doubles,
    as_lengths,
    as_mask,
    as_real,
    overlaps_itself,
    read_integers,
    shares_memory,
)
from .._core.foreign import as_output
from .._core.gradient import as_gradient
from .._core.messages import brief, shortened, wrong_dtype
from .._core.options import flag
from .._core.scores import Scores, as_scores
from .._core.threads import threads_for
from .._kernels import arguments

# Of transitions, starts and ends.
Sums = tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, NDArray[np.float64] | None]


class CRFGradient(NamedTuple):
    """Gradients of a CRF's loss, each of the shape and dtype of the argument of its name.

    Attributes
    ----------
    emissions : ndarray [B, T, K]
    transitions : ndarray [K, K]
    start, end : ndarray [K], or None where there was no such argument
    """

    emissions: NDArray[Any]
    transitions: NDArray[Any]
    start: NDArray[Any] | None
    end: NDArray[Any] | None


class Parameter(NamedTuple):
    """A parameter all sequences share: float64 for the kernel, and as it was passed."""

    name: str
    values: NDArray[np.float64]
    dtype: np.dtype[Any] | None  # None for a parameter that was left out


class Potentials(NamedTuple):
    """What scores a path."""

    scores: Scores
    lengths: NDArray[np.int64]
    transitions: Parameter
    start: Parameter
    end: Parameter

    @property
    def single(self) -> bool:
        """Whether there was no batch axis."""
        return self.scores.single

    @property
    def parameters(self) -> tuple[Parameter, Parameter, Parameter]:
        """What all sequences share."""
        return self.transitions, self.start, self.end

    @property
    def kernel_parameters(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Transitions, starts and ends as a kernel takes them."""
        return self.transitions.values, self.start.values, self.end.values


def as_potentials(
    emissions: ArrayLike,
    transitions: ArrayLike,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    start: ArrayLike | None,
    end: ArrayLike | None,
) -> Potentials:
    """Check everything that scores a path."""
    array = as_array("emissions", emissions)
    if array.ndim not in (2, 3):
        raise ValueError(f"emissions has shape {array.shape}; allowed: [B, T, K], or [T, K] for one sequence")
    if array.shape[-1] == 0:
        raise ValueError(f"emissions has shape {array.shape}: no tags; allowed: 1 or more")
    scores = as_scores("emissions", array)
    batch, n_frames, n_tags = scores.values.shape
    if mask is None:
        steps = as_lengths("lengths", lengths, batch, n_frames, scores.single)
    elif lengths is None:
        steps = _lengths_of_mask(mask, batch, n_frames, scores.single)
    else:
        raise ValueError("lengths and mask are both given; allowed: one of them")
    return Potentials(
        scores,
        steps,
        _as_parameter("transitions", transitions, (n_tags, n_tags)),
        _as_parameter("start", start, (n_tags,)),
        _as_parameter("end", end, (n_tags,)),
    )


def _as_parameter(name: str, value: Any, shape: tuple[int, ...]) -> Parameter:
    if value is None and name != "transitions":
        return Parameter(name, np.zeros(shape), None)
    array = as_array(name, value)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise wrong_dtype(name, array, FLOATS)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {shape}")
    # A copy, so that the gradient may be written over the argument.
    values = as_doubles(array)
    first = arguments.first_not_a_score(values.reshape(-1))
    if first >= 0:
        where = ", ".join(map(str, np.unravel_index(first, shape)))
        raise ValueError(f"{name}[{where}] is {values.flat[first]}; allowed: finite, or -inf to forbid")
    return Parameter(name, values, array.dtype)


def _lengths_of_mask(mask: Any, batch: int, n_frames: int, single: bool) -> NDArray[np.int64]:
    shape = (n_frames,) if single else (batch, n_frames)
    array = as_mask("mask", mask, shape).reshape(batch, n_frames)
    holes = np.argwhere(array[:, 1:] & ~array[:, :-1])
    if len(holes):
        b, t = holes[0].tolist()
        where = f"mask[{t + 1}]" if single else f"mask[{b}, {t + 1}]"
        raise ValueError(f"{where} is True after False; allowed: True up to where the sequence ends, then False")
    lengths: NDArray[np.int64] = array.sum(axis=1, dtype=np.int64)
    return lengths


def as_tags(tags: ArrayLike, potentials: Potentials) -> NDArray[np.int64]:
    """Check tags [B, T], or [T] of one sequence, up to the length of each."""
    read = read_integers("tags", tags)
    values = read.values
    batch, n_frames, n_tags = potentials.scores.values.shape
    shape = (n_frames,) if potentials.single else (batch, n_frames)
    if values.shape != shape:
        raise ValueError(f"tags has shape {values.shape}; allowed: {shape}")
    values = values.reshape(batch, n_frames)
    bad = arguments.find_bad_tag(values, potentials.lengths, n_tags)
    if bad is not None:
        b, t = bad
        where = f"tags[{t}]" if potentials.single else f"tags[{b}, {t}]"
        shown = read.shown(b * n_frames + t)
        padding = "; if it is padding, pass lengths or mask" if shown < 0 else ""
        raise ValueError(f"{where} is {shown}; allowed: 0 to {n_tags - 1}{padding}")
    return values


def as_cost(cost: Any, n_tags: int) -> NDArray[np.float64]:
    """Return the cost [K, K] of tag y' (column) where the tag is y (row)."""
    if isinstance(cost, str):
        if cost != "hamming":
            raise ValueError(f"cost is {brief(cost)}; allowed: 'hamming' or an array ({n_tags}, {n_tags})")
        return 1.0 - np.eye(n_tags)
    array = as_real("cost", cost)
    if array.shape != (n_tags, n_tags):
        raise ValueError(f"cost has shape {array.shape}; allowed: ({n_tags}, {n_tags})")
    values = as_doubles(array)
    for bad, allowed in (
        (~(np.isfinite(values) & (values >= 0)), "finite, 0 or more"),
        ((values != 0) & np.eye(n_tags, dtype=bool), "0 on the diagonal, which is where the tag is right"),
    ):
        if bad.any():
            i, j = np.argwhere(bad)[0].tolist()
            raise ValueError(f"cost[{i}, {j}] is {values[i, j]}; allowed: {allowed}")
    return values


class Gradient:
    """Where a kernel writes the gradients, and where the user wants them."""

    def __init__(self, potentials: Potentials, return_grad: bool, grad_out: Any) -> None:
        self.potentials = potentials
        return_grad = flag("return_grad", return_grad)
        wanted: tuple[Any, ...] = (None,) * 4
        if grad_out is not None:
            return_grad = True
            wanted = grad_out if isinstance(grad_out, tuple) else (grad_out, None, None, None)
            if len(wanted) != 4:
                raise ValueError(f"grad_out has {len(wanted)} arrays; allowed: an array, or a CRFGradient of 4")
            wanted = tuple([as_output(array) for array in wanted])
        self.given = wanted
        self.emissions = as_gradient(potentials.scores, return_grad, wanted[0])
        self.sums: Sums = (None, None, None)
        if return_grad:
            if grad_out is not None:
                _check_parameter_outs(potentials, wanted)
            transitions, first, last = (np.zeros(parameter.values.shape) for parameter in potentials.parameters)
            self.sums = transitions, first, last

    @property
    def read_from(self) -> NDArray[Any]:
        """The emissions, apart from where their gradient goes."""
        values = self.potentials.scores.values
        return values.copy() if self.emissions.in_place else values

    @property
    def kernel_arrays(self) -> tuple[NDArray[Any] | None, *Sums]:
        """Emissions, transitions, starts and ends as a kernel takes them."""
        return self.emissions.values, *self.sums

    def deliver(self) -> CRFGradient:
        """Return the gradients, each where and of what dtype it was asked for."""
        delivered: list[Any] = [self.emissions.deliver(self.potentials.scores.given)]
        with np.errstate(over="ignore", under="ignore"):
            for parameter, total, out in zip(self.potentials.parameters, self.sums, self.given[1:], strict=True):
                if parameter.dtype is None or total is None:
                    delivered.append(None)
                elif out is None:
                    delivered.append(total.astype(parameter.dtype, copy=False))
                else:
                    out[...] = total
                    delivered.append(out)
        return CRFGradient(*delivered)


def _check_parameter_outs(potentials: Potentials, outs: tuple[Any, ...]) -> None:
    for k, parameter in enumerate(potentials.parameters, 1):
        if outs[k] is None:
            continue
        _check_parameter_out(parameter, outs[k])
        for name, other in zip(CRFGradient._fields, outs[:k], strict=False):
            if other is not None and shares_memory(outs[k], other):
                raise ValueError(f"grad_out.{parameter.name} shares memory with grad_out.{name}; allowed: arrays apart")


def _check_parameter_out(parameter: Parameter, out: Any) -> None:
    name = f"grad_out.{parameter.name}"
    if parameter.dtype is None:
        raise ValueError(f"{name} is given, but {parameter.name} is not; allowed: None")
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(out).__name__}")
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; allowed: an array without a mask")
    if out.shape != parameter.values.shape:
        raise ValueError(f"{name} has shape {out.shape}; allowed: {parameter.values.shape}")
    if out.dtype != parameter.dtype:
        raise TypeError(f"{name} has dtype {shortened(out.dtype)}; allowed: {parameter.dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only")
    if overlaps_itself(out):
        raise ValueError(f"{name} has strides {out.strides} for shape {out.shape}: its elements must not share memory")


class Schedule(NamedTuple):
    """Which sequences count, longest first, and on how many threads."""

    order: NDArray[np.int64]
    threads: int


def schedule(
    potentials: Potentials, scale: NDArray[np.float64] | None, num_threads: int | None, sweeps: int
) -> Schedule:
    """Order the sequences that have frames and a scale other than 0, which None means too.

    `sweeps` is how many times each is gone through.
    """
    lengths = potentials.lengths
    batch, n_frames, n_tags = potentials.scores.values.shape
    steps = int(lengths.sum())
    if scale is None and steps == batch * n_frames > 0:
        order = np.arange(batch, dtype=np.int64)
    else:
        order = np.flatnonzero(lengths if scale is None else lengths * (scale != 0))
        order = order[np.argsort(-lengths[order], kind="stable")].astype(np.int64, copy=False)
    # Nanoseconds, roughly: a multiply-add for each pair of tags, an exponential for each tag.
    work = float(steps * sweeps) * (n_tags * (n_tags * 0.06 + 1.0) + 30.0)
    return Schedule(order, threads_for(num_threads, work, len(order)))
