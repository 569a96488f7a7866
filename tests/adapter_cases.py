"""Arguments of every loss that the adapters of PyTorch and JAX make from their table, as NumPy arrays."""

import doctest
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from fastseqloss._adapters.table import _OF_NUMPY, LOSSES, Loss
from public_calls import public_arguments
from thoroughness import thorough

B, T, V = 3, 5, 4
WEIGHT = np.array([1.0, 0.5, 2.0])
every_loss = pytest.mark.parametrize("row", LOSSES.values(), ids=LOSSES)


def in_turn(argument: str, choices: Callable[[int, Loss], Sequence[Any]]) -> pytest.MarkDecorator:
    """Every loss with one of its choices, the next one for each loss; with the others in thorough runs.

    All losses share the code that the choices differ in.
    """
    sets = []
    for i, (name, row) in enumerate(LOSSES.items()):
        given = choices(i, row)
        for j, choice in enumerate(given):
            kind = pytest.param if j == i % len(given) else thorough
            sets.append(kind(row, choice, id=f"{name}-{choice}"))
    return pytest.mark.parametrize(("row", argument), sets)


# A third of the losses, for code that does not depend on the loss; the others in thorough runs.
some_losses = pytest.mark.parametrize(
    "row", [(thorough if i % 3 else pytest.param)(row, id=name) for i, (name, row) in enumerate(LOSSES.items())]
)
# The first reduction of a loss, and in turn a third of the others.
every_reduction = in_turn(
    "reduction", lambda i, row: [way for j, way in enumerate(row.reductions) if j == 0 or (i + j) % 3 == 0]
)
# The ways in which losses are added up: those of steps, of sequences, of a batch.
every_way = in_turn(
    "reduction", lambda _, row: [way for way in row.reductions if way in ("none", "per_sequence", "mean")]
)


@cache
def _public() -> dict[str, tuple]:
    return public_arguments(B, T, V)


def arguments(row: Loss, dtype: str | None = "float64", **changed) -> dict:
    """Valid arguments of a loss by their names, with scores and other floats of this dtype."""
    *given, options = _public()[row.function.__name__]
    every = inspect.signature(row.function).bind(*given, **options).arguments
    named = {name: value for name, value in every.items() if name in row.parameters and name != "reduction"}
    for name, value in named.items():
        if dtype is not None and name not in row.static and np.asarray(value).dtype.kind == "f" and np.ndim(value):
            named[name] = np.array(value, dtype)
    return named | changed


def reducing(row: Loss, reduction: str, **more) -> dict:
    """The reduction, and other options of losses that are reduced, as arguments, if the function has them."""
    return {"reduction": reduction, **more} if "reduction" in row.parameters else {}


def differentiable(row: Loss) -> dict:
    """The same, without options whose gradient differs from the derivative."""
    return {name: value for name, value in arguments(row).items() if name != "fastemit"}


def variants(row: Loss) -> Iterator[dict]:
    """Arguments of a loss: as they are, with weights, with a mask, for one sequence, with each of its shared arrays."""
    given = arguments(row)
    yield given
    if "sample_weight" in row.parameters:
        yield given | {"sample_weight": WEIGHT}
        if row.axes is None:
            yield from _of_steps(row, given)
    if "mask" in row.parameters:
        shape = given.get("risks", next(iter(given.values()))).shape  # of candidates, or of steps
        lengths = given.get("lengths", np.array([1, shape[1], 2]))
        yield {name: value for name, value in given.items() if name != "lengths"} | {
            "mask": np.arange(shape[1]) < lengths[:, None]
        }
    for name in row.shared:
        if name not in given:
            width = given[row.scores[0]].shape[-1]
            values = np.linspace(0.3, 0.7, width)
            yield given | {name: (1 - np.eye(width)) * values if name == "cost" else values}


def _of_steps(row: Loss, given: dict) -> Iterator[dict]:
    """Arguments with weights of steps, and masks and weights of features; NaN where no step counts."""
    rng, shape = np.random.default_rng(0), given[row.scores[0]].shape
    weight = rng.uniform(0.1, 1, (B, T))
    if "lengths" in given:
        weight[np.arange(T) >= given["lengths"][:, None]] = np.nan
    yield given | {"sample_weight": weight}
    if row.of_numbers:
        for name in row.shared:
            yield given | {name: rng.uniform(0.3, 0.7, (B, 1))}
        given = given | {name: np.stack([given[name]] * 2, -1) for name in (*row.scores, "targets")}
        shape = (*shape, 2)
        yield given | {"sample_weight": weight, "mask": rng.random(shape) < 0.6}
        yield given | {"sample_weight": rng.uniform(0.1, 1, shape)}
        for name in row.shared:
            yield given | {name: rng.uniform(0.3, 0.7, shape[1:])}


def batch_of_one(row: Loss) -> dict:
    """Arguments of a loss, of the first sequence alone."""
    given = arguments(row)
    return {name: value[:1] if name not in (*row.shared, *row.static) and np.ndim(value) else value
            for name, value in given.items()}  # fmt: skip


def assert_described(row: Loss, function) -> None:
    """The function of an adapter has the signature, and a docstring, of the NumPy function; its example runs."""
    numpys = inspect.signature(row.function).parameters
    ours = inspect.signature(function).parameters
    assert [name for name in numpys if name not in _OF_NUMPY] == list(ours)
    for name, parameter in ours.items():
        assert (parameter.kind, parameter.default) == (numpys[name].kind, numpys[name].default)
    text = function.__doc__
    for word in ("return_grad", "grad_out", "with_respect_to", "ndarray", "array_like"):
        assert word not in text
    assert all(name in text for name in ours)
    differentiated = next(line for line in text.splitlines() if "Differentiable with respect to" in line)
    named = [*row.scores, "targets"] if row.by_targets else row.scores
    assert re.findall("`(.*?)`", differentiated) == [*named]
    assert "`set_num_threads`" not in text  # which PyTorch has, too
    test = doctest.DocTestParser().get_doctest(text, {}, row.name, None, None)
    assert test.examples
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


def numpy_answer(row: Loss, given: dict, **options):
    """The loss, and gradients by the scores that are not left out, by names."""
    if row.by_targets and np.asarray(given["targets"]).dtype.kind == "f":
        options["with_respect_to"] = (*row.scores, "targets")
    loss, gradients = row.function(**given, **options, return_grad=True)
    if not isinstance(gradients, tuple):
        return loss, {row.scores[0]: gradients}
    return loss, {name: gradient for name, gradient in gradients._asdict().items() if gradient is not None}


def with_distributions(row: Loss, given: dict) -> dict:
    """The arguments with targets that are floats."""
    if given["targets"].dtype.kind == "f":
        return given
    return given | {"targets": np.random.default_rng(0).dirichlet(np.ones(V), (B, T))}


BY_TARGETS = {name: row for name, row in LOSSES.items() if row.by_targets}
every_loss_by_targets = pytest.mark.parametrize("row", BY_TARGETS.values(), ids=BY_TARGETS)
