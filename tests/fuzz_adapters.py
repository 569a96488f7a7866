"""Code shared by calls of the adapters: a problem, and the results of the NumPy functions."""

import inspect
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

import fastseqloss as fsl
import linear_cases
from fastseqloss._adapters.table import LOSSES
from fuzz_calls import STRATEGIES

HALF = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
ROWS = {row.function.__name__: row for row in LOSSES.values()}
EXPECTED = (ValueError, TypeError, RuntimeError, NotImplementedError, MemoryError)
SLOPES = (1.0, 0.0, -0.5, 3.0, 1024.0)
OURS = ("num_threads", "return_grad", "grad_out", "slopes", "diagnostics")


@dataclass
class Problem:
    """A loss of `fastseqloss` and its arguments as plain arrays; `scores` are those that have a gradient."""

    function: str
    scores: dict[str, np.ndarray]
    constants: dict[str, Any]
    options: dict[str, Any]

    def run(self, scores: dict[str, np.ndarray] | None = None, **more: Any) -> Any:
        return getattr(fsl, self.function)(**(scores or self.scores), **self.constants | self.options | more)

    @property
    def rounding(self) -> float:
        """Tolerance for BLAS, whose rounding may depend on the memory order of a weight."""
        return 1e-5 if self.function in linear_cases.EVERY else 0.0

    def loss(self) -> Any:
        return self.run()

    def gradients(self, slope: np.ndarray) -> dict[str, np.ndarray]:
        """The gradient of the losses times their slopes, in float64, not rounded to half precision."""
        wide = {name: x.astype(np.float32) if x.dtype in HALF else x for name, x in self.scores.items()}
        if not ROWS[self.function].shares_scores:
            by = {"with_respect_to": tuple(self.scores)} if "targets" in self.scores else {}
            found = self.run(wide, return_grad=True, **by)[1]
            found = found[: len(self.scores)] if isinstance(found, tuple) else (found,)  # the last one is by targets
            if slope.ndim and self.options.get("reduction") == "step_mean":
                slope = slope[None]
            with np.errstate(invalid="ignore"):  # infinite gradients times slopes of 0
                return {
                    name: gradient.astype(np.float64) * slope.reshape(slope.shape + (1,) * (gradient.ndim - slope.ndim))
                    for name, gradient in zip(self.scores, found, strict=True)
                }
        totals = {name: np.zeros(x.shape) for name, x in wide.items()}
        for at in np.ndindex(slope.shape):  # one by one: slopes may be of either sign
            found = self.run(wide, return_grad=True, **self._alone(at, slope.shape))[1]._asdict()
            for name, total in totals.items():
                total += found[name].astype(np.float64) * slope[at]
        return totals

    def size(self, wanted: np.ndarray, slope: np.ndarray) -> float:
        """Size of the terms that a gradient adds up, which may contain NaN."""
        largest = np.abs(slope).max(initial=0)
        if "probs" in (self.options.get("input") or ""):
            return float(largest * (1 + np.nanmax(np.abs(wanted), initial=0)))
        return float(largest * max(1, slope.size))

    def _alone(self, at: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, Any]:
        """Arguments for the loss of one sequence, or of one step, among losses of that shape."""
        if not shape:
            return {}
        if "slopes" in inspect.signature(ROWS[self.function].function).parameters:
            slopes = np.zeros(shape)
            slopes[at] = 1
            return {"slopes": slopes}
        if self.options.get("reduction") == "step_mean":
            alone = np.zeros(next(iter(self.scores.values())).shape[:-1], bool)
            alone[(slice(None), *at)] = True
            return {"mask": alone & self.constants.get("mask", True)}
        given = self.constants.get("sample_weight", np.ones(shape[0]))
        if given.ndim > 1:
            alone = np.zeros(given.shape, bool)
            alone[at] = True
            return {"reduction": "sum", "sample_weight": np.where(alone, given, 0.0)}
        weight, alone = np.zeros(shape[0]), np.zeros(shape, bool)
        weight[at[0]] = given[at[0]]
        alone[at] = True
        mask = {"mask": alone & self.constants.get("mask", True)} if len(shape) > 1 else {}
        return {"reduction": "sum", "sample_weight": weight} | mask


def problem(random: Any, function: str, **wanted: Any) -> Problem:
    """Random valid problem. `wanted` gives tuples of allowed values of options; labels have lengths."""
    while True:
        call = STRATEGIES[function](random)
        given = {name: value for name, value in call.arguments.items() if name not in OURS}
        if isinstance(given.get("labels"), list):
            continue
        if all(any(given.get(name) is value or str(given.get(name)) == value for value in allowed)
               for name, allowed in wanted.items()):  # fmt: skip
            break
    row = ROWS[function]
    scores = {name: given.pop(name) for name in row.scores if name in given}
    targets = given.get("targets")
    if row.by_targets and targets.dtype.kind in "fV" and random.random() < 0.6:
        scores["targets"] = given.pop("targets")
    constants = {name: given.pop(name) for name in row.arrays if isinstance(given.get(name), np.ndarray)}
    return Problem(function, scores, constants, given)


def slopes(random: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Slopes of losses of that shape, equal or different."""
    if random.random() < 0.3:
        return np.full(shape, random.choice(SLOPES))
    return np.array(random.choices(SLOPES, k=int(np.prod(shape)))).reshape(shape)


def assert_loss(found: np.ndarray, wanted: Any, half: bool, rtol: float = 0.0) -> None:
    """To the bit, in the dtype of losses."""
    dtype = np.dtype(np.float32 if half else np.float64)
    assert found.dtype == dtype, f"loss of dtype {found.dtype}, not {dtype}"
    assert found.shape == np.shape(wanted), f"loss of shape {found.shape}, not {np.shape(wanted)}"
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = np.asarray(wanted).astype(dtype)
        good = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        good |= np.abs(found - wanted) <= rtol * np.maximum(1, np.abs(wanted))
    assert good.all(), f"loss {found[~good][:3]}, not {wanted[~good][:3]}"


def assert_gradient(found: np.ndarray, wanted: np.ndarray, dtype: Any, size: float, which: str) -> None:
    """Equal within rounding to the dtype; `size` is that of the summed terms."""
    assert found.dtype == dtype, f"{which}: dtype {found.dtype}, not {dtype}"
    assert found.shape == wanted.shape, f"{which}: shape {found.shape}, not {wanted.shape}"
    info = ml_dtypes.finfo(dtype)
    single = float(np.finfo(np.float32).eps) if dtype != np.float64 else 1e-14
    allowed = 3 * float(info.eps) * np.abs(wanted) + 16 * single * size + float(info.smallest_subnormal)
    found = found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        good = (found == wanted) | (np.isnan(found) & np.isnan(wanted)) | (np.abs(found - wanted) <= allowed)
        good |= (np.abs(wanted) > 0.99 * float(info.max)) & (np.abs(found) > 0.98 * float(info.max))
    assert good.all(), f"{which}: {found[~good][:3]}, not {wanted[~good][:3]}"
