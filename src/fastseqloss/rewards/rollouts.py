"""Steps of episodes: their rewards, the values that follow them, and sums from the last step to the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, as_finite, as_lengths, as_mask
from .._core.levels import load
from .._core.messages import indexed
from .._core.options import as_number
from .._core.steps import Steps

if TYPE_CHECKING:
    from .._kernels.rewards import returns as _kernel
else:
    _kernel = load("rewards.returns")

Doubles = NDArray[np.float64]

_LARGE, _SHIFT = 1e250, 128  # sums of numbers below _LARGE are finite, and so are sums of finite numbers over 2^_SHIFT


@dataclass(slots=True)
class Rollout:
    """Steps [B, T] of episodes, their rewards, and the values of the states that no other step of a sequence follows.

    Numbers of steps that do not count are 0.
    """

    steps: Steps
    counts: NDArray[np.bool_]  # [B, T], steps that count
    rewards: Doubles  # [B, T]
    discount: float | Doubles  # of all steps, or [B, T]
    ends: NDArray[np.uint8] | None  # [B, T], steps that the next one does not continue; None if all are continued
    final: Doubles  # [B], values after the last steps
    cut: NDArray[np.bool_] | None  # [B, T], ends of episodes that were cut off
    bootstrap: Doubles  # [B, T], values after steps that were cut off, 0 elsewhere; else empty
    unit: int = 0  # rewards and values have been divided by 2 to this power

    def shrink(self, *values: Doubles) -> None:
        """Divide rewards and values in place by a power of 2 if their sums might overflow."""
        self.unit = shrink(self.rewards, self.final, self.bootstrap, *values)

    def grown(self, sums: Doubles) -> Doubles:
        """Undo `shrink`, and return the shape of the rewards as passed; sums out of range become infinite."""
        return grow(sums, self.unit).reshape(self.steps.shape)

    def after(self, values: Doubles) -> Doubles:
        """Return the values [B, T] of the states after each step, given those before: 0 after the end of an episode."""
        lengths = self.steps.lengths()
        after = np.zeros(self.counts.shape)
        after[:, :-1] = values[:, 1:]
        at_end = np.flatnonzero(lengths)
        after[at_end, lengths[at_end] - 1] = self.final[at_end]
        if self.ends is not None:
            after[self.ends.view(np.bool_)] = 0
        if self.cut is not None:
            np.copyto(after, self.bootstrap, where=self.cut)
        return after

    def accumulate(self, terms: Doubles, factor: float | Doubles, final: Doubles | None = None) -> None:
        """Add to each term [B, T], in place, the sum that follows it times the factor, until its episode ends."""
        decays = np.ascontiguousarray(factor) if isinstance(factor, np.ndarray) else None
        decay = 0.0 if isinstance(factor, np.ndarray) else factor
        final = np.zeros(len(terms)) if final is None else final
        _kernel.sums_backwards(terms, final, self.steps.lengths(), self.ends, decay, decays)


def shrink(*arrays: Doubles) -> int:
    """Divide finite numbers in place by a power of 2 if their sums might overflow; return its exponent."""
    if all(max(array.max(initial=0), -array.min(initial=0)) < _LARGE for array in arrays):
        return 0
    with np.errstate(under="ignore"):
        for array in arrays:
            np.ldexp(array, -_SHIFT, out=array)
    return _SHIFT


def grow(sums: Doubles, exponent: int) -> Doubles:
    """Undo `shrink` in place; sums out of range become infinite, of their sign."""
    if exponent:
        with np.errstate(over="ignore"):
            np.ldexp(sums, exponent, out=sums)
    return sums


def as_rollout(
    rewards: Any,
    lengths: Any,
    discount: Any,
    done: Any,
    truncated: Any,
    bootstrap_values: Any,
    final_values: Any,
) -> Rollout:
    """Check rewards [B, T] or [T], and the arguments on the ends of episodes."""
    given = as_array("rewards", rewards)
    if given.ndim not in (1, 2):
        raise ValueError(f"rewards has shape {given.shape}; allowed: [B, T], or [T] for one sequence")
    single = given.ndim == 1
    shape = (1, len(given)) if single else given.shape
    first = as_lengths("lengths", lengths, shape[0], shape[1], single)
    counts = Steps.of(shape, first, None).counting()
    steps = Steps.of(given.shape, first, None)
    ends = None if done is None else as_mask("done", done, given.shape, counts).reshape(shape)
    factor = as_factor("discount", discount, steps, counts)
    numbers = as_finite("rewards", given, steps.shape, counts).reshape(shape)
    cut, bootstrap = _as_cut(truncated, bootstrap_values, steps, counts, ends)
    if cut is not None:
        ends = cut if ends is None else ends | cut
    final = _as_final(final_values, steps)
    return Rollout(steps, counts, numbers, factor, None if ends is None else ends.view(np.uint8), final, cut, bootstrap)


def as_factor(name: str, value: Any, steps: Steps, counts: NDArray[np.bool_]) -> float | Doubles:
    """Return a number from 0 to 1, or one for each step, [B, T]."""
    if isinstance(value, (list, tuple)) or hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        given = as_array(name, value)
        if given.ndim:
            factors = as_finite(name, given, steps.shape, counts)
            bad = np.argwhere((factors < 0) | (factors > 1))
            if len(bad):
                where = tuple(bad[0].tolist())
                raise ValueError(f"{indexed(name, where)} is {factors[where]}; allowed: from 0 to 1")
            return factors.reshape(counts.shape)
        value = given
    return as_number(name, value, 0.0, 1.0)


def as_numbers(name: str, value: Any, rollout: Rollout, allowed: str = "finite") -> Doubles:
    """Return finite numbers [B, T], one for each step; an error names the allowed values."""
    numbers = as_finite(name, value, rollout.steps.shape, rollout.counts, allowed=allowed)
    return numbers.reshape(rollout.counts.shape)


def _as_cut(
    truncated: Any,
    bootstrap_values: Any,
    steps: Steps,
    counts: NDArray[np.bool_],
    ends: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.bool_] | None, Doubles]:
    """Return the steps whose episode was cut off rather than ended, and the values after them."""
    if truncated is None:
        if bootstrap_values is not None:
            raise ValueError("bootstrap_values is given, but truncated is not; allowed: None")
        return None, np.zeros(0)
    cut = as_mask("truncated", truncated, steps.shape, counts).reshape(counts.shape) & counts
    if ends is not None:
        cut &= ~ends
    if bootstrap_values is None:
        raise ValueError(
            "bootstrap_values is None, but truncated is given; allowed: the values after truncated steps, of the shape "
            "of rewards"
        )
    return cut, as_finite("bootstrap_values", bootstrap_values, steps.shape, cut).reshape(counts.shape)


def _as_final(final_values: Any, steps: Steps) -> Doubles:
    if final_values is None:
        return np.zeros(len(steps.lengths()))
    final_values = as_array("final_values", final_values)
    batch = len(steps.lengths())
    shape = () if batch == 1 and final_values.ndim == 0 else (batch,)
    return as_finite("final_values", final_values, shape).reshape(-1)
