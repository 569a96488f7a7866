"""Short calls, which the handler of custom calls computes without Python.

JAX lowers a program for certain shapes, dtypes and options. If these are the usual ones and the call is too short for
several threads, the custom call has a plan: the fields of `Plan` in `_kernels/xla/short_calls.pxd`. The handler then
checks values alone, and calls the Python function if one is invalid. Results are the same with and without a plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from .._core.levels import load
from .._core.options import as_input_kind
from .._core.threads import is_short
from .._core.types import Input
from ..ctc.arguments import lattice_work
from ..ctc.loss import COSTS
from ..steps.registry import LOSSES
from ..steps.rows import ROW_COST

if TYPE_CHECKING:
    from .callback import HostLoss

# Entries of the kernels, in the order of the values of `Plan.loss`.
KERNELS = tuple(load(name).entry for name in ("ctc.loss", "steps.classification"))
_CTC, _CROSS_ENTROPY = range(len(KERNELS))
_INTEGERS = ("int32", "int64")
_LEAST, _MOST = -(2**63), 2**63 - 1


class _Plan(NamedTuple):
    """Fields as in `_kernels/xla/short_calls.pxd`; positions of operands are 0 for those left out."""

    loss: int
    labels: int  # position; targets of cross-entropy
    lengths: int = 0  # position
    label_lengths: int = 0  # position
    blank: int = 0
    input: int = 0
    infeasible_is_zero: int = 0
    mask: int = 0  # position
    ignore_index: int = 0
    reduces: int = 0
    averages: int = 0


class _Operand(NamedTuple):
    position: int
    shape: tuple[int, ...]
    dtype: str


_Operands = Mapping[str, _Operand]
_Form = tuple[tuple[int, ...], tuple[str, ...]]  # shape and dtypes


def plan_of(host: HostLoss, operands: Sequence[Any]) -> NDArray[np.int64] | None:
    """Return the plan of a call whose operands have these shapes and dtypes, or None."""
    make = _MAKERS.get(host.loss)
    axes = {x.ndim - own for x, own in zip(operands, host.own_ndims, strict=True)}  # over which JAX maps
    if make is None or len(axes) > 1 or host.wanted not in ((), ("logits",)) or not all(map(_is_known, operands)):
        return None
    named = zip(host.given, operands, strict=True)
    given = {name: _Operand(k, operand.shape, operand.dtype.name) for k, (name, operand) in enumerate(named)}
    options = dict(host.options)
    threads = options.pop("num_threads")
    if given["logits"].dtype not in ("float32", "float64") or not (threads is None or _is_integer(threads, 1, _MOST)):
        return None
    plan = make(given, options, axes.pop())
    return None if plan is None else np.array(plan, np.int64)


def _is_known(operand: Any) -> bool:
    """Return True for a shape that is not symbolic and has elements."""
    return all(isinstance(n, int) and n > 0 for n in operand.shape)


def _is_integer(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _have_forms(given: _Operands, forms: Mapping[str, _Form]) -> bool:
    """Return True if all operands but the logits have one of these names, and its shape and dtype."""
    others = {name: operand for name, operand in given.items() if name != "logits"}
    if not others.keys() <= forms.keys():
        return False
    return all(x.shape == forms[name][0] and x.dtype in forms[name][1] for name, x in others.items())


def _are(options: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Return True for the expected values, none of which may be a bool."""
    return options == expected and not any(type(value) is bool for value in options.values())


def _position(given: _Operands, *names: str) -> int:
    """Return the position of the operand that has one of these names, or 0."""
    return sum(given[name].position for name in names if name in given)


def _ctc(given: _Operands, options: dict[str, Any], _: int) -> _Plan | None:
    *batch, n_frames, n_classes = given["logits"].shape
    labels = given["labels"].shape
    width = labels[-1] if labels else 0
    forms: dict[str, _Form] = {"labels": ((*batch, width), _INTEGERS)}
    for name, most in (("logit", n_frames), ("label", width)):
        forms[f"{name}_lengths"] = tuple(batch), _INTEGERS
        forms[f"{name}_paddings"] = (*batch, most), ("float32",)
    blank, kind, infeasible = options.pop("blank"), options.pop("input", "logits"), options.pop("infeasible", "inf")
    usual = (
        _have_forms(given, forms)
        and _is_integer(blank, -n_classes, n_classes - 1)
        and kind in get_args(Input)
        and infeasible in ("inf", "zero")
        and _are({"reduction": "none", "normalizer": None} | options, {"reduction": "none", "normalizer": None})
        and is_short(lattice_work(math.prod(batch), n_frames, n_classes, math.prod(labels), *COSTS))
    )
    if not usual:
        return None
    return _Plan(
        _CTC,
        labels=given["labels"].position,
        lengths=_position(given, "logit_lengths", "logit_paddings"),
        label_lengths=_position(given, "label_lengths", "label_paddings"),
        blank=blank % n_classes,
        input=as_input_kind(kind),
        infeasible_is_zero=infeasible == "zero",
    )


def _cross_entropy(given: _Operands, options: dict[str, Any], mapped: int) -> _Plan | None:
    *steps, n_classes = given["logits"].shape
    forms: dict[str, _Form] = {"targets": (tuple(steps), _INTEGERS), "mask": (tuple(steps), ("bool",))}
    if len(steps) - mapped > 1:
        forms["lengths"] = tuple(steps[: mapped + 1]), _INTEGERS
    reduction, ignore_index = options.pop("reduction"), options.pop("ignore_index")
    work = math.prod(steps) * (n_classes * LOSSES["softmax_cross_entropy"].nanoseconds + ROW_COST)
    usual = (
        _have_forms(given, forms)
        and reduction in ("none", "sum", "mean")
        and (reduction == "none" or mapped == 0)
        and _is_integer(ignore_index, _LEAST, _MOST)
        and _are(options, {"input": "logits", "label_smoothing": 0, "z_loss": 0, "normalizer": None})
        and is_short(work)
    )
    if not usual:
        return None
    return _Plan(
        _CROSS_ENTROPY,
        labels=given["targets"].position,
        lengths=_position(given, "lengths"),
        mask=_position(given, "mask"),
        ignore_index=ignore_index,
        reduces=reduction != "none",
        averages=reduction == "mean",
    )


_MAKERS: dict[str, Callable[[_Operands, dict[str, Any], int], _Plan | None]] = {
    "fastseqloss.ctc.loss.ctc_loss": _ctc,
    "fastseqloss.jax._padded_ctc": _ctc,
    "fastseqloss.steps.classification.softmax_cross_entropy": _cross_entropy,
}
