"""Arguments of the reward-weighted losses and of returns, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array, as_finite, as_mask, read_integers
from .._core.messages import swapped_axes
from .._core.steps import Steps
from .._kernels.arguments import first_outside


def as_advantages(value: Any, steps: Steps, counts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return advantages [B, R], one for each step or one for each sequence."""
    value = as_array("advantages", value)
    if value.ndim == 0 and steps.batch == 1 and len(steps.shape) > 1:
        value = value.reshape(1)
    shape = value.shape
    if shape == (steps.batch,) and len(steps.shape) > 1:
        any_step: NDArray[np.bool_] = np.logical_or.reduce(counts, axis=1)
        rows = as_finite("advantages", value, shape, any_step)
        return np.repeat(rows, steps.rows)
    if shape != steps.shape:
        each = f", one for each step, or {(steps.batch,)}, one for each sequence" if len(steps.shape) > 1 else ""
        each += "; pass advantages[:, 0]" if shape == (steps.batch, 1) else swapped_axes(shape, steps.shape)
        raise ValueError(f"advantages has shape {shape}; allowed: {steps.shape}{each}")
    return as_finite("advantages", value, shape, counts).reshape(-1)


def as_actions(value: Any, steps: Steps, counts: NDArray[np.bool_], n_actions: int) -> NDArray[np.int64]:
    """Return actions [B R], with -1 for steps that do not count."""
    read = read_integers("actions", value)
    actions = read.values
    if actions.shape != steps.shape:
        hint = swapped_axes(actions.shape, steps.shape)
        raise ValueError(f"actions has shape {actions.shape}; allowed: {steps.shape}, an action for each step{hint}")
    flat = np.where(counts.reshape(-1), actions.reshape(-1), 0)
    bad = first_outside(flat, 0, n_actions - 1)
    if bad >= 0:
        where = f"actions[{steps.position(bad)}]"
        raise ValueError(f"{where} is {read.shown(bad)}; allowed: 0 to {n_actions - 1}")
    flat[~counts.reshape(-1)] = -1
    return flat


@dataclass(slots=True)
class Taken:
    """The actions taken, and the numbers of each step, in the order of the kernel."""

    actions: NDArray[np.int64]  # [B R], -1 where a step does not count
    numbers: tuple[NDArray[np.float64] | None, ...]  # [B R]: advantages, old and reference log-probabilities

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64] | None, ...]:
        """Return the numbers of some steps."""
        return tuple([None if each is None else each[rows] for each in self.numbers])

    def plain(self) -> Taken:
        """Return the same without old and reference log-probabilities."""
        return Taken(self.actions, (self.numbers[0], None, None))

    def with_ratios(self, steps: Steps, log_probs: NDArray[np.float64]) -> Taken:
        """Return the same with the logarithm of the ratio of its sequence for each step, instead of the old one.

        It is the mean over all steps of the sequence that count, given their log-probabilities [B R].
        """
        advantages, old, reference = self.numbers
        assert old is not None
        counts = steps.counting()
        with np.errstate(all="ignore"):
            apart = np.where(counts, (log_probs - old).reshape(counts.shape), 0.0)
            means = apart.sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
        return Taken(self.actions, (advantages, np.repeat(means, steps.rows), reference))


def as_taken(
    steps: Steps, n_actions: int, actions: Any, advantages: Any, old_log_probs: Any, ref_log_probs: Any
) -> Taken:
    """Check the actions of steps, and the numbers that belong to them; log-probabilities may be None."""
    counts = steps.counting()
    taken = as_actions(actions, steps, counts, n_actions)
    gains = as_advantages(advantages, steps, counts)
    named = (("old_log_probs", old_log_probs), ("ref_log_probs", ref_log_probs))
    constants = [
        None if value is None else as_finite(name, value, steps.shape, counts).reshape(-1) for name, value in named
    ]
    return Taken(taken, (gains, *constants))


def as_entropy_mask(value: Any, steps: Steps) -> NDArray[np.uint8] | None:
    """Return the mask [B R] of the steps whose entropy counts, or None for all."""
    if value is None:
        return None
    return as_mask("entropy_mask", value, steps.shape, steps.counting()).view(np.uint8).reshape(-1)
