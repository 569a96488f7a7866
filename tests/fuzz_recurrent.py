"""Calls of `fastseqloss.recurrent`: layers forward and backward, clipping and Adam, beside plain arrays."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import fastseqloss.recurrent as fsr
import fuzz_values
import step_cases
from fuzz_calls import Judged, numbers
from fuzz_judge import judge_error
from fuzz_values import SCALARS, guise, wrong

CELLS = ("RNN", "GRU", "LSTM")
GRADIENTS = (np.copy, step_cases.time_major, step_cases.strided, step_cases.reversed_memory, step_cases.fortran,
             step_cases.unaligned, fuzz_values.read_only, fuzz_values.subclassed)  # fmt: skip
WRITEABLE = (np.copy, step_cases.strided, step_cases.reversed_memory, step_cases.fortran, fuzz_values.subclassed)
INPUTS = ("x", "tokens", "lengths", "grad")
SIZES = ("input_size", "hidden_size", "output_size", "count", "size")
EXPECTED = (ValueError, TypeError, RuntimeError, MemoryError)


def make(random, name: str) -> Judged:
    return {"Adam": _adam, "clip_grad_norm": _clip}.get(name.split(".")[1], partial(_layer, name))(random)


def _tolerance(array: np.ndarray) -> float:
    return 1e-11 if array.dtype == np.float64 else 2e-4


def assert_near(found: Any, wanted: Any, which: str, rtol: float) -> None:
    """The same, but for the order in which the products of a matrix are added."""
    assert found.shape == wanted.shape, f"{which}: shape {found.shape}, not {wanted.shape}"
    assert found.dtype == wanted.dtype, f"{which}: dtype {found.dtype}, not {wanted.dtype}"
    size = np.maximum(1, np.abs(wanted).max(initial=0, where=np.isfinite(wanted)))
    near = np.isclose(found, wanted, rtol=rtol, atol=rtol * size, equal_nan=True)
    assert near.all(), f"{which}: {found[~near][:3]}, not {wanted[~near][:3]}"


def memory(values: Any) -> list[tuple[np.ndarray, bytes]]:
    """Arrays and their contents."""
    arrays = [value.view(np.ndarray) for value in values if isinstance(value, np.ndarray)]
    return [(array, array.tobytes()) for array in arrays if array.nbytes < 10**6]


def assert_unchanged(before: list[tuple[np.ndarray, bytes]], when: str) -> None:
    assert all(array.tobytes() == was for array, was in before), f"arguments are changed {when}"


def spoil(values: Any) -> None:
    """Write over arrays and lists, as their owner may after a call."""
    for value in values:
        value = getattr(value, "array", value)
        if isinstance(value, np.ndarray) and value.flags.writeable and value.dtype.kind in "iufb":
            value[...] = 1
        elif type(value) is list:
            value.clear()


# ---- layers ------------------------------------------------------------------------------------


@dataclass
class LayerCall(Judged):
    """`forward` and `backward` of a layer: valid calls, and the errors of invalid ones."""

    clean: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    def new(self, **options: Any) -> Any:
        given = {key: value for key, value in self.clean.items() if key not in INPUTS} | options
        return getattr(fsr, self.name.split(".")[1])(**given)

    def judge(self, random: Any) -> str:
        with np.errstate(all="ignore"):
            return self._judge(random)

    def _judge(self, random: Any) -> str:
        inputs = {key: value for key, value in self.clean.items() if key in INPUTS and key != "grad"}
        layer, found, plain = None, None, self.new()
        output = plain.forward(**inputs)
        expected = plain.backward(self.clean["grad"])
        before = memory((*self.arguments.values(), *self.parameters.values()))
        try:
            layer = self.new(**{key: value for key, value in self.arguments.items() if key not in INPUTS})
            if self.wrongs:
                layer.forward(**inputs)  # the state that it keeps must survive a call that fails
            layer.parameters.update(self.parameters)
            found = layer.forward(**{key: value for key, value in self.arguments.items() if key in inputs})
            assert_unchanged(before, "by forward")
            if not self.wrongs:
                assert_near(found, output, "forward", _tolerance(output))
                if random.random() < 0.5:
                    spoil((*self.arguments.values(), found)[: -1 if random.random() < 0.5 else None])
                    self.arguments["grad"] = guise(random, np.copy(self.clean["grad"]))
                if random.random() < 0.3:
                    spoil(layer.parameters.values())
            gradients = layer.backward(self.arguments["grad"])
        except EXPECTED as error:
            judge_error(self, error, (*self.clean, *self.arguments, "parameters"), EXPECTED)
            assert_unchanged(before, f"before {type(error).__name__}: {error}")
            if found is None and not {*self.wrongs} & {"dtype", "rng", *SIZES}:
                self._compare(layer.backward(self.clean["grad"]), expected, "after a call that failed")
            return type(error).__name__
        if not self.wrongs:
            self._compare(gradients, expected, "backward")
            if output.dtype == np.float64 and random.random() < 0.3:
                self._differences(random, *expected)
        return "right"

    def _compare(self, found: Any, expected: Any, which: str) -> None:
        assert found[0].keys() == expected[0].keys()
        for name, gradient in expected[0].items():
            assert_near(found[0][name], gradient, f"{which}: gradient of {name}", _tolerance(gradient))
        if expected[1] is None:
            assert found[1] is None
            return
        assert_near(found[1], expected[1], f"{which}: gradient of x", _tolerance(expected[1]))
        lengths = self.clean.get("lengths")
        if lengths is not None:
            assert not found[1][np.arange(found[1].shape[1]) >= lengths[:, None]].any(), "gradient in padding"

    def _differences(self, random: Any, gradients: Any, grad_input: Any) -> None:
        """The slope along one direction in parameters and input, by central differences."""
        rng, step, total = numbers(random), 1e-5, 0.0
        ways = {name: rng.normal(size=gradient.shape) for name, gradient in gradients.items()}
        inputs = {key: value for key, value in self.clean.items() if key in INPUTS and key != "grad"}
        along_x = None if grad_input is None else rng.normal(size=grad_input.shape)
        exact = sum((gradients[name] * way).sum() for name, way in ways.items())
        exact += 0.0 if grad_input is None else (grad_input * along_x).sum()
        grad = self._counted_grad()
        for sign in (1, -1):
            layer = self.new()
            for name, way in ways.items():
                layer.parameters[name] += sign * step * way
            moved = inputs if along_x is None else inputs | {"x": inputs["x"].astype(float) + sign * step * along_x}
            total += sign * (layer.forward(**moved) * grad).sum()
        size = max(1.0, abs(exact), np.abs(grad).sum())
        assert abs(total / (2 * step) - exact) < 1e-6 * size, f"slope {total / (2 * step)}, gradients say {exact}"

    def _counted_grad(self) -> Any:
        grad, lengths = self.clean["grad"].astype(float), self.clean.get("lengths")
        if lengths is None:
            return grad
        return np.where((np.arange(grad.shape[1]) < lengths[:, None])[..., None], grad, 0)


def _layer(name: str, random) -> LayerCall:
    rng, kind = numbers(random), name.split(".")[1]
    batch, steps, size, width = (random.randint(0, 3), random.randint(0, 5), random.randint(1, 4), random.randint(1, 4))
    dtype = random.choice((np.float32, np.float64, np.float64))
    clean: dict[str, Any] = {"rng": random.randint(0, 9), "dtype": dtype}
    if kind in CELLS:
        clean |= {"input_size": size, "hidden_size": width, "reverse": random.choice((False, True))}
        clean["x"] = rng.normal(size=(batch, steps, size)).astype(random.choice((np.float32, np.float64, dtype)))
    elif kind == "Linear":
        clean |= {"input_size": size, "output_size": width}
        axes = (batch, steps)[: random.randint(0, 2)]
        clean["x"] = rng.normal(size=(*axes, size)).astype(random.choice((np.float32, np.float64, dtype)))
    else:
        clean |= {"count": size, "size": width, "tokens": rng.integers(0, size, (batch, steps))}
    if kind != "Linear" and random.random() < 0.6:
        clean["lengths"] = rng.integers(0, steps, batch, endpoint=True)
        inside = np.arange(steps) < clean["lengths"][:, None]
        first = "x" if kind in CELLS else "tokens"
        clean[first][~inside] = np.nan if kind in CELLS else 99
    clean["grad"] = rng.normal(size=(*clean.get("x", clean.get("tokens")).shape[: None if kind == "Embedding" else -1],
                                     width)).astype(random.choice((np.float32, np.float64)))  # fmt: skip
    arguments = {key: np.copy(value) if isinstance(value, np.ndarray) else value for key, value in clean.items()}
    call = LayerCall(name, arguments, clean=clean)
    for key in ("x", "tokens", "lengths", "grad"):
        if key in arguments and random.random() < 0.4:
            arguments[key] = guise(random, arguments[key])
    if random.random() < 0.3:
        own = call.new().parameters
        call.parameters = {key: random.choice(GRADIENTS)(value) for key, value in own.items()}
    if random.random() < 0.5:
        _spoil_layer(random, call)
    return call


def _spoil_layer(random, call: LayerCall) -> None:
    name = random.choice([*call.arguments, "parameters"])
    if name == "parameters":
        own = call.new().parameters
        key = random.choice([*own])
        call.parameters = {key: wrong(random, own[key])}
    elif isinstance(call.arguments[name], (np.ndarray, list, tuple)) or name in ("x", "grad", "lengths", "tokens"):
        call.arguments[name] = wrong(random, call.clean[name])
    elif name == "reverse":
        return
    else:
        value = random.choice(SCALARS)
        if isinstance(value, (int, np.integer)) and abs(int(value)) > 100:  # sizes that NumPy may allocate, slowly
            value = -3
        call.arguments[name] = value
    call.wrongs.append(name)


# ---- training ----------------------------------------------------------------------------------


@dataclass
class TrainingCall(Judged):
    """A function that changes arrays in place: all of them as it should, or none."""

    def judge(self, random: Any) -> str:
        with np.errstate(all="ignore"):
            return self._judge(random)

    def kept(self) -> list[tuple[np.ndarray, bytes]]:
        given = self.arguments.values()
        return memory(array for value in given for array in (value.values() if isinstance(value, dict) else (value,)))

    def failed(self, error: Exception, before: list[tuple[np.ndarray, bytes]], names: tuple[str, ...]) -> str:
        judge_error(self, error, names, EXPECTED)
        assert_unchanged(before, f"before {type(error).__name__}: {error}")
        return type(error).__name__

    def _judge(self, random: Any) -> str:
        raise NotImplementedError


class ClipCall(TrainingCall):
    def _judge(self, random: Any) -> str:
        before = self.kept()
        gradients = self.arguments["gradients"]
        wide = None
        if not self.wrongs:
            wide = {key: np.array(value, np.longdouble, subok=False) for key, value in gradients.items()}
        try:
            norm = fsr.clip_grad_norm(**self.arguments)
        except EXPECTED as error:
            return self.failed(error, before, ("gradients", "max_norm"))
        if wide is not None:
            exact = float(np.sqrt(sum(((g / 1e150) ** 2).sum() for g in wide.values()), dtype=np.longdouble) * 1e150)
            assert isinstance(norm, float)
            assert math.isclose(norm, exact, rel_tol=1e-6, abs_tol=1e-300), f"norm {norm}, not {exact}"
            factor = min(1.0, self.arguments["max_norm"] / exact) if exact else 1.0
            for key, value in gradients.items():
                tiny = float(np.finfo(value.dtype).tiny)
                good = np.isclose(np.asarray(value), np.asarray(wide[key] * factor, float), rtol=1e-5, atol=tiny)
                assert good.all(), f"{key}: {value}, not {wide[key] * factor}"
        return "right"


class AdamCall(TrainingCall):
    def _judge(self, random: Any) -> str:
        before = self.kept()
        parameters, steps = self.arguments["parameters"], self.arguments["steps"]
        options = {k: v for k, v in self.arguments.items() if k not in ("parameters", "steps", "gradients")}
        names = ("parameters", "gradients", "learning_rate", "betas", "epsilon", "betas[0]")
        exact = None
        if not self.wrongs:
            exact = {key: np.array(value, np.longdouble, subok=False) for key, value in parameters.items()}
            means = {key: np.zeros(value.shape, np.longdouble) for key, value in exact.items()}
            squares = {key: np.zeros(value.shape, np.longdouble) for key, value in exact.items()}
        try:
            optimizer = fsr.Adam(parameters, **options)
        except EXPECTED as error:
            return self.failed(error, before, names)
        for k in range(1, steps + 1):
            gradients = self._gradients(random, k)
            wide = {} if exact is None else {key: np.array(g, np.longdouble) for key, g in gradients.items()}
            before, was = self.kept(), optimizer.steps
            try:
                optimizer.step(gradients)
            except EXPECTED as error:
                assert optimizer.steps == was, "a step that failed counts"
                return self.failed(error, before, names)
            if not self.wrongs:
                spoil(gradients.values())
            for key, gradient in wide.items():
                self._reference_step(k, exact[key], means[key], squares[key], gradient)
        if exact is not None:
            for key, value in parameters.items():
                eps = float(np.finfo(value.dtype).eps)
                size = np.maximum(1, np.abs(exact[key]).astype(float))
                wanted = exact[key].astype(float)
                good = np.abs(np.asarray(value) - wanted) <= 500 * eps * size
                assert good.all(), f"{key}: {value}, not {wanted}"
        return "right"

    def _gradients(self, random: Any, k: int) -> dict[str, Any]:
        given = self.arguments["gradients"]
        if not isinstance(given, dict):
            return given
        return {key: value if "gradients" in self.wrongs else random.choice(GRADIENTS)(
                np.asarray(value * (1 + 0.1 * k))) for key, value in given.items()}  # fmt: skip

    def _reference_step(self, k: int, parameter: Any, mean: Any, square: Any, gradient: Any) -> None:
        first, second = self.arguments.get("betas", (0.9, 0.999))
        rate, epsilon = self.arguments.get("learning_rate", 1e-3), self.arguments.get("epsilon", 1e-8)
        mean += (1 - np.longdouble(first)) * (gradient - mean)
        square += (1 - np.longdouble(second)) * (gradient * gradient - square)
        root = np.sqrt(square / (1 - np.longdouble(second) ** k))
        parameter -= np.longdouble(rate) * mean / (1 - np.longdouble(first) ** k) / (root + np.longdouble(epsilon))


def _named_arrays(random, layouts=WRITEABLE, scales=(1.0,)) -> dict[str, np.ndarray]:
    rng, found = numbers(random), {}
    for key in ("a", "b", "c")[: random.randint(0, 3)]:
        shape = [random.randint(0, 3) for _ in range(random.randint(0, 3))]
        array = (rng.normal(size=shape) * random.choice(scales)).astype(random.choice((np.float32, np.float64)))
        found[key] = random.choice(layouts)(np.asarray(array))
    return found


def _clip(random) -> ClipCall:
    gradients = _named_arrays(random, scales=(1.0, 1e-3, 1e10, 1e25, 0.0))
    call = ClipCall("recurrent.clip_grad_norm", {"gradients": gradients, "max_norm": random.choice((0, 0.5, 3, 1e9))})
    if random.random() < 0.5:
        call.arguments["max_norm"], call.wrongs = random.choice(SCALARS), ["max_norm"]
    if random.random() < 0.4:
        _spoil_arrays(random, call, "gradients")
    return call


def _adam(random) -> AdamCall:
    parameters, rng = _named_arrays(random), numbers(random)
    # A gradient of order epsilon would have to be known to more than its dtype holds.
    gradients = {key: np.asarray(rng.choice((-1, 1), value.shape) * rng.uniform(0.1, 2, value.shape), value.dtype)
                 for key, value in parameters.items()}  # fmt: skip
    arguments: dict[str, Any] = {"parameters": parameters, "gradients": gradients, "steps": random.randint(1, 4)}
    if random.random() < 0.5:
        arguments["learning_rate"] = random.choice((0, 0.1, 1))
    if random.random() < 0.5:
        arguments["betas"] = random.choice(((0, 0), (0.5, 0.9), [0.9, 0.99]))
    call = AdamCall("recurrent.Adam", arguments)
    if random.random() < 0.2:
        name = random.choice(("learning_rate", "betas", "epsilon"))
        value = random.choice(SCALARS)
        arguments[name] = (value, random.choice(SCALARS)) if name == "betas" and random.random() < 0.7 else value
        call.wrongs.append(name)
    if random.random() < 0.4:
        _spoil_arrays(random, call, random.choice(("parameters", "gradients")))
    return call


def _spoil_arrays(random, call: TrainingCall, argument: str) -> None:
    """One array read-only, shared, of another kind or shape; a name too many or too few."""
    arrays = dict(call.arguments[argument])
    if not arrays:
        return
    key = random.choice([*arrays])
    array = np.array(arrays[key])
    room = np.zeros(array.size + 1, array.dtype)
    other = random.choice((
        lambda: {key: wrong(random, array)}, lambda: {key: fuzz_values.read_only(array)}, lambda: {"d": array},
        lambda: {key: fuzz_values.matrix(array)}, lambda: {key: np.ma.array(array)},
        lambda: {key: fuzz_values.swapped(array)}, lambda: {key: np.broadcast_to(array, (2, *array.shape))},
        lambda: {key: room[1:].reshape(array.shape), "d": room[:-1].reshape(array.shape)},
        lambda: {key: array, "d": array}, lambda: {key: array[..., None][..., 0], "d": array.T},
        lambda: {key: np.lib.stride_tricks.as_strided(room, array.shape, (0,) * array.ndim)},
        lambda: {key: fuzz_values.other_values(random, array)}, lambda: {3: array},
    ))()  # fmt: skip
    if argument == "gradients" and isinstance(call, AdamCall) and random.random() < 0.3:
        call.arguments["gradients"] = dict(call.arguments["parameters"])  # the parameters themselves
    else:
        call.arguments[argument] = arrays | other
    call.wrongs.append(argument)
