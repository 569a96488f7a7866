"""Calls of `fastseqloss.jax`: the answers of the NumPy functions, compiled, mapped and differentiated, and errors."""

import inspect
import re
import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fastseqloss.jax as fsj
import fuzz_adapters
import fuzz_values
from fastseqloss._adapters.table import LOSSES
from fuzz_adapters import EXPECTED, HALF, Problem, assert_gradient, assert_loss
from fuzz_calls import Judged, numbers
from fuzz_judge import Violation, names_argument
from fuzz_values import SCALARS, as_list, memmapped, read_only, wrong
from step_cases import LAYOUTS

FUNCTIONS = {name: getattr(fsj, name) for name in ("ctc_loss", *LOSSES)}
GUISES = (*LAYOUTS, read_only, as_list, memmapped, jnp.asarray, jnp.asarray, jnp.asarray)
REDUCED = [name for name, row in LOSSES.items() if row.of_labels]  # by JAX
_made = 0


@dataclass
class JaxCall(Judged):
    """A call, compiled or not, and the problem that it poses."""

    problem: Problem | None = None
    compiled: bool = False

    @property
    def function(self) -> Any:
        return FUNCTIONS[self.name.split(".")[1]]

    def bound(self) -> Any:
        """The loss of a dictionary of scores."""
        rest = {name: value for name, value in self.arguments.items() if name not in self.scores()}
        function = lambda scores: self.function(**scores, **rest)  # noqa: E731
        return jax.jit(function) if self.compiled else function

    def scores(self) -> dict[str, Any]:
        """Arrays of JAX that have a gradient."""
        return {name: value for name, value in self.arguments.items()
                if name in self.problem.scores and isinstance(value, jax.Array)}  # fmt: skip

    def judge(self, random: Any) -> str:
        warnings.filterwarnings("ignore", "Data type alias|A large amount of constants")  # of JAX's own
        half = next(iter(self.problem.scores.values())).dtype != np.float64
        try:
            loss = np.array(self.bound()(self.scores()))
        except EXPECTED as error:
            self._judge_error(error)
            return type(error).__name__
        if self.wrongs:
            assert loss.dtype in (np.float32, np.float64)
            return "right"
        reduced = self.name.split(".")[1] in REDUCED and loss.ndim == 0  # by JAX
        assert_loss(
            loss, self.problem.loss(), half, max(self.problem.rounding, 1e-14 if not half else 2e-6 if reduced else 0.0)
        )
        self._judge_gradients(random, loss)
        return "right"

    def _judge_error(self, error: Exception) -> None:
        if isinstance(error, MemoryError) or re.search("MemoryError|RESOURCE_EXHAUSTED", str(error)):
            return
        names = tuple(inspect.signature(self.function).parameters)
        message = str(error)
        if "CpuCallback error" in message or "Traceback" in message:  # which quotes our source, too
            message = message.strip().split("\n")[-1]
        if not names_argument(message, names):
            raise Violation(f"{type(error).__name__} names no argument: {error}") from error
        if not self.wrongs:
            raise Violation(f"{type(error).__name__} for a valid call: {error}") from error

    def _judge_gradients(self, random: Any, loss: np.ndarray) -> None:
        slope = fuzz_adapters.slopes(random, loss.shape)
        wanted = self.problem.gradients(slope)
        way = random.random()
        scores = {name: jnp.asarray(x) for name, x in self.scores().items()}
        if way < 0.15:
            return self._judge_forward(random, scores)
        if way < 0.3:
            return self._judge_double(random, scores, jnp.asarray(slope, loss.dtype))
        if way < 0.4:
            return self._judge_mapped(scores, loss)
        _, pullback = jax.vjp(self.bound(), scores)
        changed = random.random() < 0.4
        if changed:
            self._change(random)
        for again in range(random.choice((1, 2))):
            (found,) = pullback(jnp.asarray(slope, loss.dtype))
            self._compare(found, wanted, slope, f"backward pass {again}" + (", arguments changed" if changed else ""))
        return None

    def _compare(self, found: dict[str, Any], wanted: dict[str, np.ndarray], slope: np.ndarray, which: str) -> None:
        for name, gradient in found.items():
            size = self.problem.size(wanted[name], slope)
            dtype = self.problem.scores[name].dtype
            assert_gradient(np.asarray(gradient), wanted[name], dtype, size, f"{which}, {name}")

    def _change(self, random: Any) -> None:
        for value in self.arguments.values():
            if type(value) is list:
                value.clear()
            elif isinstance(value, np.ndarray) and value.flags.writeable and random.random() < 0.7:
                value[...] = np.zeros((), value.dtype)

    def _judge_forward(self, random: Any, scores: dict[str, Any]) -> None:
        """In forward mode: an error, or right."""
        rng = numbers(random)
        tangents = {name: jnp.asarray(rng.normal(size=x.shape), x.dtype) for name, x in scores.items()}
        try:
            _, found = jax.jvp(self.bound(), (scores,), (tangents,))
        except (TypeError, ValueError, NotImplementedError):
            return
        raise AssertionError(f"a derivative in forward mode is answered: {found}")

    def _judge_double(self, random: Any, scores: dict[str, Any], slope: Any) -> None:
        """A derivative of the gradient, by the slope or by the scores: right, or an error."""
        rng = numbers(random)
        ways = {name: jnp.asarray(rng.normal(size=x.shape)) for name, x in scores.items()}

        def along(scores: Any, slope: Any) -> Any:
            _, pullback = jax.vjp(self.bound(), scores)
            return sum((ways[name] * g).sum() for name, g in pullback(slope)[0].items())

        try:
            found = jax.grad(along)(scores, slope)
        except (TypeError, ValueError, NotImplementedError):
            pass
        else:
            raise AssertionError(f"a second derivative is answered: {found}")
        try:
            found = np.asarray(jax.grad(along, 1)(scores, slope), np.float64)
        except (TypeError, ValueError, NotImplementedError):
            return
        change = rng.normal(size=slope.shape)
        gradients, exact, size = self.problem.gradients(change), 0.0, 1.0
        for name, way in ways.items():
            with np.errstate(invalid="ignore"):
                product = gradients[name] * np.asarray(way)
                exact, size = exact + product.sum(), size + np.abs(product).sum()
        half = any(x.dtype in HALF for x in self.problem.scores.values())
        rtol = 0.05 if half else 1e-4 if any(x.dtype == np.float32 for x in scores.values()) else 1e-11
        got = float((found * change).sum())
        assert not np.isfinite(size) or abs(got - exact) <= rtol * size, f"derivative by the slope {got}, not {exact}"

    def _judge_mapped(self, scores: dict[str, Any], loss: np.ndarray) -> None:
        """The results for two copies are equal."""
        twice = {name: jnp.stack([x, x]) for name, x in scores.items()}
        found = np.asarray(jax.vmap(self.bound())(twice))
        assert found.shape == (2, *loss.shape), f"mapped: shape {found.shape}, not {(2, *loss.shape)}"
        np.testing.assert_allclose(found, np.stack([loss, loss]), rtol=1e-6, atol=1e-6, err_msg="mapped")


# ---- calls --------------------------------------------------------------------------------------


def make(random, name: str) -> JaxCall:
    """A call of that function: half of them are valid."""
    global _made
    jax.config.update("jax_enable_x64", True)
    _made += 1
    if _made % 200 == 0:  # every shape is a program of its own
        jax.clear_caches()
    kind = name.split(".")[1]
    makers = {"ctc_loss": _optax} | dict.fromkeys(REDUCED, _labelled)
    problem = makers.get(kind, _same)(random, kind)
    arguments = problem.scores | {key: value for key, value in problem.constants.items() if value is not None}
    if kind == "ctc_loss":
        arguments = {"logits": arguments["logits"], "logit_paddings": _paddings(random, arguments["logit_lengths"],
                     arguments["logits"].shape[1]), "labels": arguments["labels"], "label_paddings": _paddings(
                     random, arguments["label_lengths"], arguments["labels"].shape[1])}  # fmt: skip
        arguments["blank_id"] = problem.options["blank"]
    else:
        arguments |= problem.options
    for key, value in arguments.items():
        if isinstance(value, np.ndarray):
            arguments[key] = (random.choice(GUISES) if key not in problem.scores else jnp.asarray)(value)
    call = JaxCall(name, arguments, problem=problem, compiled=random.random() < 0.5)
    if random.random() < 0.5:
        for _ in range(random.choice((1, 1, 2))):
            _go_wrong(random, call)
    return call


def _paddings(random, lengths: np.ndarray, width: int) -> np.ndarray:
    return (np.arange(width) >= lengths[:, None]).astype(random.choice((np.float32, np.float64, np.int32, bool)))


def _same(random, kind: str) -> Problem:
    problem = fuzz_adapters.problem(random, LOSSES[kind].function.__name__)
    targets = problem.constants.get("targets")
    if LOSSES[kind].by_targets and targets is not None and targets.dtype.kind in "fV":
        problem.scores["targets"] = problem.constants.pop("targets")  # JAX may differentiate by them in any case
    return problem


def _labelled(random, kind: str) -> Problem:
    while True:
        problem = _same(random, kind)
        batched = next(iter(problem.scores.values())).ndim - LOSSES[kind].axes
        if problem.constants["labels"].ndim == batched + 1:
            return problem


def _optax(random, kind: str) -> Problem:
    wanted = {"input": ("logits",), "reduction": ("none",), "infeasible": (None, "inf"), "sample_weight": (None,)}
    while True:
        problem = fuzz_adapters.problem(random, "ctc_loss", **wanted)
        if problem.scores["logits"].ndim == 3 and problem.constants["labels"].ndim == 2:
            return problem


def _go_wrong(random, call: JaxCall) -> None:
    name = random.choice([*inspect.signature(call.function).parameters])
    value = call.arguments.get(name)
    array = np.asarray(value) if isinstance(value, jax.Array) else value
    if not fuzz_values.is_small(array):
        array = np.zeros(random.choice(((), 2, (2, 3))))
    value = random.choice(SCALARS) if random.random() < 0.25 else wrong(random, array)
    if random.random() < 0.5 and isinstance(value, np.ndarray) and value.nbytes < 10**6:
        try:
            value = jnp.asarray(value)
        except (TypeError, ValueError):
            value = jnp.zeros(())
    call.arguments[name] = value
    call.wrongs.append(name)
