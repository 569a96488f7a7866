"""Table of the losses that `fastseqloss.torch` and `fastseqloss.jax` offer with the arguments of the NumPy functions.

Losses at every step come from their own registry; a loss of another kind requires a row here, and nothing else. Its
functions, their signatures and docstrings, tests and fuzzers are derived from the row and from the NumPy function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, KeysView, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

from .._core import types
from .._core.keywords import explain_keywords
from .._core.options import choice
from ..crf import crf_loss, ctc_crf_loss, structured_hinge_loss
from ..ctc.entropy import ctc_entropy
from ..ctc.loss import ctc_loss
from ..ctc.risk import ctc_risk_loss
from ..linear import linear_cross_entropy, linear_ctc_loss, linear_policy_loss, linear_sequence_log_prob
from ..ranking import (
    bpr_max_loss,
    list_mle_loss,
    list_softmax_loss,
    pairwise_hinge_loss,
    pairwise_logistic_loss,
    top1_max_loss,
)
from ..rewards import (
    clipped_policy_loss,
    dpo_loss,
    expected_risk_loss,
    kto_loss,
    orpo_loss,
    policy_gradient_loss,
    simpo_loss,
)
from ..soft_dtw import soft_dtw_cost, soft_dtw_loss
from ..steps import classification, cosine, divergence, focal, likelihood, margin, regression
from ..steps.log_prob import sequence_log_prob
from ..steps.registry import COUNTS, DISTRIBUTIONS, NUMBERS, SHARES, SIGNS, VECTORS, StepLoss
from ..steps.registry import LOSSES as STEP_LOSSES
from ..transducer import rnnt_loss, rnnt_simple_loss, tdt_loss

_OF_NUMPY = (
    "return_grad",
    "grad_out",
    "with_respect_to",
    "slopes",
    "diagnostics",
)  # arguments that a framework's own gradients replace
_PER_SEQUENCE = ("lengths", "logit_lengths", "label_lengths", "lengths_x", "lengths_y", "sample_weight")


class Given(NamedTuple):
    """The arguments of a call, by what an adapter does with them."""

    scores: dict[str, Any]  # that have a gradient, in the order of the table; optional ones may be None
    constants: dict[str, Any]  # arrays without a gradient
    options: dict[str, Any]


@dataclass(eq=False)
class Loss:
    """A loss: its NumPy function, and the meaning of its arguments."""

    function: Callable[..., Any]
    scores: tuple[str, ...]  # arguments with a gradient; the first one has the axes of the batch
    shapes: str  # of the first argument, as messages name them
    axes: int | None = None  # of the first argument for a single sequence; None for losses at every step
    of_numbers: bool = False  # a step has a score and a target for each feature, rather than a score for each class
    by_targets: bool = False  # the loss has a gradient by targets of a float dtype
    of_candidates: bool = False  # a sequence has several label sequences, with lengths of their own
    shared: tuple[str, ...] = ()  # arguments that the sequences of a batch share
    static: tuple[str, ...] = ()  # sequences of numbers that are options
    name: str = ""  # if not that of the function
    example: Mapping[str, Any] = field(default_factory=dict)  # arguments of the example in the docstring, as lists

    # Derived from the signature of the function, which has them in this order.
    parameters: dict[str, inspect.Parameter] = field(init=False)  # of the adapters' functions
    required: frozenset[str] = field(init=False)  # arguments without a default
    arrays: KeysView[str] = field(init=False)  # without a gradient, or with one by targets alone
    options: KeysView[str] = field(init=False)  # neither scores nor arrays
    per_sequence: frozenset[str] = field(init=False)  # arrays with one number for each sequence
    reductions: tuple[str, ...] = field(init=False)  # "per_sequence" alone for a function without that option

    def __post_init__(self) -> None:
        """Derive the rest from the signature of the function."""
        self.name = self.name or self.function.__name__
        every = inspect.signature(self.function).parameters
        self.parameters = {name: parameter for name, parameter in every.items() if name not in _OF_NUMPY}
        empty = inspect.Parameter.empty
        self.required = frozenset(name for name, given in self.parameters.items() if given.default is empty)
        others = {name: given.annotation for name, given in self.parameters.items() if name not in self.scores}
        arrays = {name for name, kind in others.items() if "ArrayLike" in kind and name not in self.static}
        self.arrays = {name: None for name in others if name in arrays}.keys()
        self.options = {name: None for name in others if name not in arrays}.keys()
        per_candidate = {"label_lengths"} if self.of_candidates else set()
        self.per_sequence = frozenset(arrays.intersection(_PER_SEQUENCE) - per_candidate)
        reduction = self.parameters.get("reduction")
        self.reductions = ("per_sequence",) if reduction is None else get_args(getattr(types, reduction.annotation))
        self._named = [name for name in arrays if "Literal" in others[name]]

    @property
    def of_labels(self) -> bool:
        """Return True if the losses of sequences are independent, and their average may depend on label lengths."""
        return "labels" in self.parameters and not self.of_candidates

    @property
    def shares_scores(self) -> bool:
        """Return True if the sequences of a batch share arguments that have a gradient."""
        return not set(self.shared).isdisjoint(self.scores)

    def reduction_of(self, options: dict[str, Any]) -> str:
        """Return the reduction of a call; raise ValueError for one that this loss does not have."""
        reduction = options.get("reduction", self.reductions[0])
        return self.reductions[choice("reduction", reduction, self.reductions)]

    def signature(self, array: str, result: str) -> inspect.Signature:
        """Return the signature for a framework, given its names for an array and for the result."""
        parameters = []
        for name, parameter in self.parameters.items():
            kind = array if name in self.scores else f"{array} | ArrayLike"
            annotation = parameter.annotation.replace("ArrayLike", kind)
            parameters.append(parameter.replace(annotation=annotation))
        return inspect.Signature(parameters, return_annotation=result)

    def split(self, given: dict[str, Any]) -> Given:
        """Return the arguments of a call, by kind; an array for which a name is given counts as an option."""
        scores, constants, options = [
            {name: given[name] for name in names} for names in (self.scores, self.arrays, self.options)
        ]
        for name in self._named:
            if isinstance(constants[name], str):
                options[name] = constants.pop(name)
        return Given(scores, constants, options)

    def binder(self) -> Callable[[tuple[Any, ...], dict[str, Any]], Given]:
        """Return a function of the arguments of a call, which takes a fraction of the time of `Signature.bind`."""
        signature = inspect.Signature([*self.parameters.values()])
        positional = [
            name for name, parameter in self.parameters.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        defaults = {name: parameter.default for name, parameter in self.parameters.items()}
        every = self.parameters.keys()

        def bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
            leading = dict(zip(positional, args, strict=False))
            passed = leading | kwargs
            if len(passed) != len(args) + len(kwargs) or not self.required <= passed.keys() <= every:
                try:
                    signature.bind(*args, **kwargs)
                except TypeError as error:
                    kinds = inspect.signature(self.function, eval_str=True).parameters
                    explain_keywords(self.name, {name: kinds[name] for name in every}, passed)
                    raise TypeError(f"{self.name}: {error}") from None
            return self.split(defaults | passed)

        return bound


_EXAMPLES = {  # of losses at every step, by the kind of their targets
    NUMBERS: {"predictions": [[1.0, 2.0, 9.0]], "targets": [[1.5, 1.0, 0.0]], "lengths": [2]},
    SIGNS: {"scores": [[0.5, -2.0, 9.0]], "targets": [[1, -1, 1]], "lengths": [2]},
    SHARES: {"logits": [[0.0, 0.0, 9.0]], "targets": [[1.0, 0.0, 0.0]], "lengths": [2]},
    COUNTS: {"predictions": [[1.0, 2.0, 9.0]], "targets": [[1.5, 1.0, 0.0]], "lengths": [2]},
}
_OF_CLASSES = {"targets": [[0, 1, 0]], "lengths": [2]}
_SCORES = [[[0.0, 0.5], [1.0, 0.0], [9.0, 9.0]]]
_OF_VECTORS = {"targets": [[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]], "lengths": [2]}


_RANKED = {"scores": [[0.5, 2.0, -1.0, 1.0]]}
_OF_RELEVANCE = {**_RANKED, "relevance": [[2, 0, 1, 1]]}
_OF_TARGETS = {**_RANKED, "targets": [0]}


def _of_lists(function: Callable[..., Any], example: Mapping[str, Any]) -> Loss:
    """Return a loss over lists."""
    return Loss(function, ("scores",), "[B, N], or [N] for one list", 1, example=example)


def _of_pairs(function: Callable[..., Any], **options: Any) -> Loss:
    """Return a loss of chosen and rejected sequences."""
    example = {"chosen": [-0.5, -1.0], "rejected": [-0.75, -2.0], **options}
    return Loss(function, ("chosen", "rejected"), "[B], or a number for one pair", 0, example=example)


def _function_of(row: StepLoss) -> Callable[..., Any]:
    modules = (classification, cosine, divergence, focal, likelihood, margin, regression)
    function: Callable[..., Any] = next(getattr(m, row.function) for m in modules if hasattr(m, row.function))
    return function


def _of_steps(row: StepLoss) -> Loss:
    """Return a loss of the registry of the losses at every step."""
    features = (row.parameter.name,) if row.parameter is not None and row.parameter.broadcasts else ()
    return Loss(
        _function_of(row),
        (row.scores,),
        "[..., V]" if row.of_classes else "[B], [B, T] or [B, T, D]",
        of_numbers=not row.of_classes,
        by_targets=row.targets in (NUMBERS, SHARES, COUNTS, DISTRIBUTIONS),
        shared=("class_weight",) if row.of_classes else features,
        example={row.scores: _SCORES} | _OF_CLASSES if row.of_classes else _EXAMPLES[row.targets],
    )


def _of_vectors(row: StepLoss) -> Loss:
    """Return a loss of a vector of scores and a vector of targets at each step."""
    return Loss(
        _function_of(row),
        (row.scores,),
        "[..., D]" if row.targets == NUMBERS else "[..., V]",
        by_targets=row.targets in (NUMBERS, DISTRIBUTIONS),
        example={row.scores: _SCORES} | _OF_VECTORS,
    )


_TAGS = {"tags": [0, 1], "transitions": [[0.0, 0.5], [0.0, 0.0]]}
_PARAMETERS = ("transitions", "start", "end")
_NODES = [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]  # two frames, one label, two classes
_HEAD = ("weight", "bias")
_WEIGHT = {"weight": [[1.0, 0.0], [0.0, 1.0]]}
_ACTIONS = {"logits": [[0.0, 0.0]], "actions": [0], "advantages": [2.0]}

_ROWS = (
    *map(_of_steps, STEP_LOSSES.values()),
    *map(_of_vectors, VECTORS.values()),
    Loss(
        likelihood.gaussian_nll_loss,
        ("predictions", "variance"),
        "[B], [B, T] or [B, T, D]",
        of_numbers=True,
        by_targets=True,
        example={**_EXAMPLES[NUMBERS], "variance": [[1.0, 4.0, 1.0]]},
    ),
    Loss(sequence_log_prob, ("logits",), "[..., V]", example={"logits": _SCORES} | _OF_CLASSES),
    Loss(policy_gradient_loss, ("logits",), "[..., A]", example=_ACTIONS),
    Loss(
        clipped_policy_loss,
        ("logits",),
        "[..., A]",
        static=("clip",),
        example={**_ACTIONS, "old_log_probs": [-0.7], "clip": [0.1, 0.3]},
    ),
    Loss(
        expected_risk_loss,
        ("log_probs",),
        "[B, N], or [N] for one sequence",
        1,
        example={"log_probs": [[-1.0, -2.0]], "risks": [[0.0, 1.0]]},
    ),
    _of_pairs(dpo_loss, ref_chosen=[-0.5, -0.5], ref_rejected=[-0.5, -0.5]),
    _of_pairs(simpo_loss),
    _of_pairs(orpo_loss),
    Loss(
        kto_loss,
        ("log_probs",),
        "[B], or a number for one sequence",
        0,
        shared=("kl",),
        example={"log_probs": [-1.0, -2.0], "desirable": [True, False]},
    ),
    _of_lists(pairwise_hinge_loss, _OF_RELEVANCE),
    _of_lists(pairwise_logistic_loss, _OF_RELEVANCE),
    _of_lists(list_softmax_loss, _OF_RELEVANCE),
    _of_lists(list_mle_loss, _OF_RELEVANCE),
    _of_lists(bpr_max_loss, _OF_TARGETS),
    _of_lists(top1_max_loss, _OF_TARGETS),
    Loss(
        ctc_loss,
        ("logits",),
        "[B, T, V], or [T, V] for one sequence",
        2,
        name="ctc_loss_with_lengths",  # beside one with the arguments of the framework's own
        example={"logits": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], "labels": [1]},
    ),
    Loss(
        ctc_risk_loss,
        ("logits",),
        "[B, T, V], or [T, V] for one sequence",
        2,
        of_candidates=True,
        example={"logits": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "labels": [[1], [2]], "risks": [0.0, 1.0]},
    ),
    Loss(
        ctc_entropy,
        ("logits",),
        "[B, T, V], or [T, V] for one sequence",
        2,
        example={"logits": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], "labels": [1]},
    ),
    Loss(
        linear_cross_entropy,
        ("hidden", *_HEAD),
        "[..., D]",
        shared=(*_HEAD, "class_weight"),
        example={"hidden": _SCORES, **_WEIGHT} | _OF_CLASSES,
    ),
    Loss(
        linear_sequence_log_prob,
        ("hidden", *_HEAD),
        "[..., D]",
        shared=_HEAD,
        example={"hidden": _SCORES, **_WEIGHT} | _OF_CLASSES,
    ),
    Loss(
        linear_policy_loss,
        ("hidden", *_HEAD),
        "[..., D]",
        shared=_HEAD,
        static=("clip",),
        example={"hidden": [[0.0, 0.5]], **_WEIGHT, "actions": [0], "advantages": [2.0]},
    ),
    Loss(
        linear_ctc_loss,
        ("hidden", *_HEAD),
        "[B, T, D], or [T, D] for one sequence",
        2,
        shared=_HEAD,
        example={"hidden": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], **_WEIGHT, "labels": [1]},
    ),
    Loss(
        crf_loss,
        ("emissions", *_PARAMETERS),
        "[B, T, K], or [T, K] for one sequence",
        2,
        shared=_PARAMETERS,
        example={"emissions": [[0.0, 0.0], [0.0, 0.0]], **_TAGS},
    ),
    Loss(
        structured_hinge_loss,
        ("emissions", *_PARAMETERS),
        "[B, T, K], or [T, K] for one sequence",
        2,
        shared=(*_PARAMETERS, "cost"),
        example={"emissions": [[1.0, 0.5], [0.0, 2.0]], **_TAGS},
    ),
    Loss(
        ctc_crf_loss,
        ("scores",),
        "[B, T, K, P], or [T, K, P] for one sequence",
        3,
        shared=("predecessors",),
        example={"scores": [[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]], "labels": [1, 2]},
    ),
    Loss(
        rnnt_loss,
        ("logits",),
        "[B, T, U + 1, V], or [T, U + 1, V] for one sequence",
        3,
        example={"logits": _NODES, "labels": [1]},
    ),
    Loss(
        tdt_loss,
        ("logits", "duration_logits"),
        "[B, T, U + 1, V], or [T, U + 1, V] for one sequence",
        3,
        static=("durations",),
        example={"logits": _NODES, "duration_logits": _NODES, "labels": [1], "durations": [0, 1]},
    ),
    Loss(
        rnnt_simple_loss,
        ("am", "lm"),
        "[B, T, V], or [T, V] for one sequence",
        2,
        example={"am": [[0.0, 0.0], [0.0, 0.0]], "lm": [[0.0, 0.0], [0.0, 0.0]], "labels": [1]},
    ),
    Loss(
        soft_dtw_loss,
        ("x", "y"),
        "[B, N, D], or [N, D] for one pair",
        2,
        example={"x": [[0.0], [1.0]], "y": [[0.0], [1.0], [3.0]]},
    ),
    Loss(
        soft_dtw_cost,
        ("costs",),
        "[B, N, M], or [N, M] for one pair",
        2,
        example={"costs": [[0.0, 1.0, 4.0], [1.0, 0.0, 1.0]]},
    ),
)

LOSSES = {row.name: row for row in reversed(_ROWS)}  # of rows with one function, the first
