"""Terms of the policy losses, and the numbers that describe an update of the policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._core.arrays import as_array
from .._core.levels import load
from .._core.options import as_number, choice

if TYPE_CHECKING:
    from .._kernels.rewards import policy as _kernel
else:
    _kernel = load("rewards.policy")

Doubles = NDArray[np.float64]

KINDS = tuple(_kernel.FORMS.values())
ESTIMATORS = tuple(_kernel.ESTIMATORS.values())


class Terms(NamedTuple):
    """Coefficients, bounds and codes, in the order of the kernel."""

    entropy: float
    kl: float
    least: float  # ratio
    most: float
    most_of_losses: float  # ratio of a step with a negative advantage
    most_log: float  # absolute value of the logarithm of a ratio
    form: int
    estimator: int


NO_TERMS = Terms(0.0, 0.0, 1.0, 1.0, math.inf, math.inf, 0, 0)


def as_terms(
    entropy_coef: Any,
    ref_log_probs: Any,
    kl_coef: Any,
    kl_kind: Any,
    max_log_ratio: Any,
    clip: tuple[float, float] = (0.0, 0.0),
    dual_clip: Any = None,
    kind: Any = "ppo",
    kinds: tuple[str, ...] = KINDS,
) -> Terms:
    """Check the options that determine the terms of a policy loss."""
    entropy = as_number("entropy_coef", entropy_coef, 0.0, np.inf)
    kl = as_number("kl_coef", kl_coef, 0.0, np.inf)
    if kl and ref_log_probs is None:
        raise ValueError(f"kl_coef is {kl_coef}; allowed: 0 without ref_log_probs")
    estimator = choice("kl_kind", kl_kind, ESTIMATORS)
    bound = math.inf if max_log_ratio is None else as_number("max_log_ratio", max_log_ratio, 0.0, np.inf)
    most_of_losses = math.inf if dual_clip is None else as_number("dual_clip", dual_clip, 1.0, np.inf)
    form = KINDS.index(kinds[choice("kind", kind, kinds)])
    if dual_clip is not None and KINDS[form] == "cispo":
        raise ValueError(f"dual_clip is {dual_clip}; allowed: None with kind='cispo', whose ratios clip bounds")
    return Terms(entropy, kl, 1 - clip[0], 1 + clip[1], most_of_losses, bound, form, estimator)


def as_clip(clip: Any) -> tuple[float, float]:
    """Return the largest distances of a ratio below and above 1."""
    bounds = as_array("clip", clip)
    if bounds.ndim == 0:
        low = high = bounds
    elif bounds.shape == (2,):
        low, high = bounds[0], bounds[1]
    else:
        raise ValueError(f"clip has shape {bounds.shape}; allowed: a number, or two, (low, high)")
    return as_number("clip[0]", low, 0.0, 1.0), as_number("clip[1]", high, 0.0, np.inf)


@dataclass(slots=True)
class PolicyDiagnostics:
    r"""Statistics of a policy update, which a policy loss computes in the same pass.

    Pass an instance as `diagnostics`; the call fills it. Averages give equal weight to all steps that count.

    Attributes
    ----------
    log_probs, entropies : ndarray of float64, shape of the steps
        Log-probability of each action, and entropy of each step; 0 for steps that do not count.
    clipped : ndarray of bool, shape of the steps
        Steps whose ratio is replaced by a bound. Their surrogate term has gradient 0 or, for ``kind="cispo"``, a
        bounded weight.
    clip_fraction : float
        Share of the steps that are clipped.
    entropy : float
        Mean entropy.
    old_divergence : float
        Mean of :math:`\rho - \log \rho - 1` with the ratios :math:`\rho` of steps, which estimates the divergence
        from the policy that took the actions; 0 without old log-probabilities.
    ref_divergence : float
        Mean estimate of the divergence from the reference policy, by the estimator of the loss; 0 without one.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> found = fsl.PolicyDiagnostics()
    >>> logits, old = np.log([[[0.5, 0.5], [0.2, 0.8]]]), np.log([[0.5, 0.5]])  # the second ratio is 1.6
    >>> loss = fsl.clipped_policy_loss(logits, [[0, 1]], old, [1.0], diagnostics=found)
    >>> found.clip_fraction, round(found.entropy, 4)
    (0.5, 0.5968)
    """

    log_probs: Doubles = field(default_factory=lambda: np.zeros(0))
    entropies: Doubles = field(default_factory=lambda: np.zeros(0))
    clipped: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    clip_fraction: float = 0.0
    entropy: float = 0.0
    old_divergence: float = 0.0
    ref_divergence: float = 0.0


def check_diagnostics(diagnostics: Any) -> None:
    """Raise TypeError for an object that a call cannot fill."""
    if diagnostics is not None and not isinstance(diagnostics, PolicyDiagnostics):
        raise TypeError(f"diagnostics must be a PolicyDiagnostics, got {type(diagnostics).__name__}")


def log_ratios_of_sequences(log_ratios: Doubles, counts: NDArray[np.bool_]) -> Doubles:
    """Return the mean of the logarithms of ratios [B, R] of each sequence, for each of its steps."""
    total = np.where(counts, log_ratios, 0.0).sum(axis=1)
    means = total / np.maximum(counts.sum(axis=1), 1)
    return np.repeat(means, counts.shape[1])


def fill(
    diagnostics: PolicyDiagnostics,
    shape: tuple[int, ...],
    counts: NDArray[np.bool_],
    numbers: tuple[Doubles | None, ...],
    terms: Terms,
    log_probs: Doubles,
    entropies: Doubles,
) -> None:
    """Fill the diagnostics of steps of this shape, given those that count [B, R], and flat arrays.

    The numbers are advantages, old and reference log-probabilities.
    """
    advantages, old, reference = numbers
    flat, n = counts.reshape(-1), max(int(counts.sum()), 1)

    def mean(values: Doubles) -> float:
        return float(np.where(flat, values, 0.0).sum() / n)

    taken, of_steps = np.where(flat, log_probs, 0.0), np.where(flat, entropies, 0.0)
    diagnostics.log_probs, diagnostics.entropies = taken.reshape(shape), of_steps.reshape(shape)
    clipped = np.zeros(len(flat), np.bool_)
    with np.errstate(all="ignore"):
        diagnostics.entropy = mean(of_steps)
        diagnostics.old_divergence = diagnostics.ref_divergence = 0.0
        if old is not None and advantages is not None:
            apart = taken - old
            bounded = np.clip(apart, -terms.most_log, terms.most_log)
            diagnostics.old_divergence = mean(_k3(bounded))
            if KINDS[terms.form] == "gspo":
                apart = log_ratios_of_sequences(apart.reshape(counts.shape), counts)
            clipped = flat & (advantages != 0) & _is_clipped(apart, advantages, terms)
        if reference is not None:
            diagnostics.ref_divergence = mean(_estimates(reference - taken, terms))
    diagnostics.clipped = clipped.reshape(shape)
    diagnostics.clip_fraction = float(clipped.sum() / n)


def _is_clipped(apart: Doubles, advantages: Doubles, terms: Terms) -> NDArray[np.bool_]:
    """Return True for each step whose ratio a bound replaces."""
    ratio = np.exp(np.clip(apart, -terms.most_log, terms.most_log))
    if KINDS[terms.form] == "cispo":
        outside = (ratio < terms.least) | (ratio > terms.most)
    else:
        outside = np.where(advantages > 0, ratio > terms.most, (ratio < terms.least) | (ratio > terms.most_of_losses))
    return np.asarray(outside | (np.abs(apart) > terms.most_log))


def _estimates(r: Doubles, terms: Terms) -> Doubles:
    """Return the estimates of a divergence, given log q - log p."""
    bounded = np.clip(r, -terms.most_log, terms.most_log)
    name = ESTIMATORS[terms.estimator]
    if name == "k3":
        return _k3(bounded)
    return bounded**2 / 2 if name == "k2" else -bounded


def _k3(r: Doubles) -> Doubles:
    """Return exp(r) - 1 - r."""
    return np.where(r > 1e300, np.inf, np.expm1(r) - r)
