"""Calls of `fastseqloss.torch`: answers of the NumPy functions, gradients of every order or an error."""

import inspect
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

import fastseqloss.torch as fst
import fuzz_adapters
from fastseqloss._adapters.table import LOSSES
from fuzz_adapters import EXPECTED, Problem, assert_gradient, assert_loss
from fuzz_calls import Judged, numbers
from fuzz_judge import judge_error
from fuzz_paths import PATHS
from fuzz_replacements import FUNCTIONS as REPLACEMENTS
from fuzz_replacements import TERMS, Terms
from fuzz_tensors import as_array, as_tensor, constant, is_dense, layout, tensor_alone, wrong_tensor

FUNCTIONS = REPLACEMENTS | {name: getattr(fst, name) for name in LOSSES}


@dataclass
class TorchCall(Judged):
    """A call, and the problem that it poses, in its own terms."""

    terms: Terms | None = None

    @property
    def function(self) -> Any:
        return FUNCTIONS[self.name.split(".")[1]]

    @property
    def problem(self) -> Problem:
        return self.terms.problem

    def takes(self, name: str, value: Any) -> bool:
        """Return True if the value can be passed at all."""
        return self.terms.takes(name, value)

    def scores(self) -> dict[str, torch.Tensor]:
        """Tensors that have a gradient, by the names of the NumPy function."""
        given = {name: self.arguments[self.terms.name(name)] for name in self.problem.scores}
        return {name: x for name, x in given.items() if x.requires_grad}

    def judge(self, random: Any) -> str:
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)  # of PyTorch's own forward mode
        try:
            loss = self.function(**self.arguments)
        except EXPECTED as error:
            judge_error(self, error, tuple(inspect.signature(self.function).parameters), EXPECTED)
            if random.random() < 0.2 and not re.search("requires grad|conjugate bit", str(error)):
                self._judge_transformed_error()
            return type(error).__name__
        if self.wrongs:
            self._judge_wrong(loss)
            return "right"
        self._assert_loss(loss)
        assert loss.requires_grad == bool(self.scores())
        with torch.no_grad():
            self._assert_loss(self.function(**self.arguments))
        self.terms.check_peer(self.arguments, loss)
        if loss.requires_grad:
            self._judge_gradients(random, loss)
        return "right"

    def _judge_transformed_error(self) -> None:
        """There is an error within a transform, too, which names an argument."""
        own = {self.terms.name(name): self.arguments[self.terms.name(name)] for name in self.problem.scores}
        if not all(isinstance(x, torch.Tensor) and x.is_floating_point() and is_dense(x) for x in own.values()):
            return  # which PyTorch cannot transform
        own = {name: x.detach() for name, x in own.items()}
        try:
            torch.func.vjp(lambda own: self.function(**self.arguments | own), own)
        except EXPECTED as error:
            judge_error(self, error, tuple(inspect.signature(self.function).parameters), EXPECTED)
        else:
            raise AssertionError("no error within a transform")

    def _assert_loss(self, loss: torch.Tensor, wanted: Any = None) -> None:
        """To the bit; but half precision becomes float32 for a gradient, and softmax has kernels for float32 alone."""
        wanted = self.terms.sign * self.problem.loss() if wanted is None else wanted
        half = self.first.dtype in (torch.float16, torch.bfloat16)
        rounding = max(self.problem.rounding, torch.finfo(torch.float32).eps if half and loss.requires_grad else 0.0)
        assert_loss(as_array(loss), wanted, self.first.dtype != torch.float64, rounding)

    def _judge_wrong(self, loss: torch.Tensor) -> None:
        """It is answered: then as the NumPy function answers it."""
        assert loss.dtype in (torch.float32, torch.float64)
        given = {key: as_array(value) if isinstance(value, torch.Tensor) and key != "num_threads" else value
                 for key, value in self.arguments.items()}  # fmt: skip
        wanted = self.terms.as_numpy(given)
        if np.size(wanted) < 10**6:
            self._assert_loss(loss, wanted)
        if loss.requires_grad and loss.numel():
            try:
                torch.autograd.grad(loss.sum(), [x for x in self.arguments.values() if getattr(x, "requires_grad", 0)])
            except EXPECTED as error:
                if "numpy" in str(error):
                    raise AssertionError(f"backward: {error}") from error

    def _judge_gradients(self, random: Any, loss: torch.Tensor) -> None:
        slope = fuzz_adapters.slopes(random, tuple(loss.shape))
        wanted = self._gradients(slope)
        way = random.random()
        if way < 0.2:
            return self._judge_double(random, slope)
        if way < 0.4 and self._judge_forward(random):
            return None
        if way > 0.9:
            own = {self.terms.name(name): x.detach() for name, x in self.scores().items()}
            again, pullback = torch.func.vjp(lambda own: self.function(**self.arguments | own), own)
            found = pullback(as_tensor(slope, again))[0]
            return self._compare([*found.values()], wanted, slope, "within a transform")
        changed = random.random() < 0.4 and self._change(random)
        for again in range(random.choice((1, 2, 3))):
            try:
                found = torch.autograd.grad(loss, [*self.scores().values()], as_tensor(slope, loss), retain_graph=True)
            except RuntimeError as error:
                if changed and "modified by an inplace operation" in str(error):
                    return None
                raise AssertionError(f"backward pass {again}: {error}") from error
            self._compare(found, wanted, slope, f"backward pass {again}" + (", arguments changed" if changed else ""))
        return None

    def _gradients(self, slope: np.ndarray) -> dict[str, np.ndarray]:
        """The gradients of the losses times their slopes, by the names of the NumPy function."""
        found = self.problem.gradients(self.terms.sign * slope)
        return {name: self.terms.turned(name, gradient) for name, gradient in found.items()}

    def _compare(self, found: Any, wanted: dict[str, np.ndarray], slope: np.ndarray, which: str) -> None:
        for (name, x), gradient in zip(self.scores().items(), found, strict=True):
            size = self.problem.size(wanted[name], slope)
            assert_gradient(as_array(gradient), wanted[name], as_array(x).dtype, size, f"{which}, {name}")

    def _change(self, random: Any) -> bool:
        """Write over an argument that has no gradient, as its owner may."""
        for name, value in self.arguments.items():
            value = getattr(value, "array", value)
            if random.random() < 0.3:
                continue
            if type(value) is list:
                value[:] = value[::-1] if random.random() < 0.5 else []
            elif isinstance(value, np.ndarray) and value.flags.writeable:
                value[...] = np.zeros((), value.dtype)
            elif isinstance(value, torch.Tensor) and not value.requires_grad and name != next(iter(self.arguments)):
                value.zero_()
            elif isinstance(value, torch.Tensor) and random.random() < 0.1:
                with torch.no_grad():
                    value.zero_()
        return True

    def _judge_forward(self, random: Any) -> bool:
        """A derivative along tangents: right, or an error; whether it is known to be right."""
        rng, scores = numbers(random), self.scores()
        tangents = {name: as_tensor(rng.normal(size=x.shape), x) for name, x in scores.items()}
        rest = {name: value for name, value in self.arguments.items() if not any(value is x for x in scores.values())}
        named = {key: name for key, value in self.arguments.items() for name, x in scores.items() if value is x}
        with forward_ad.dual_level():
            duals = {key: forward_ad.make_dual(scores[name].detach(), tangents[name]) for key, name in named.items()}
            try:
                found = forward_ad.unpack_dual(self.function(**rest | duals)).tangent
            except (RuntimeError, NotImplementedError, TypeError):
                return True
        assert found is not None, "the tangent is lost"
        for b in range(found.numel()):  # a row of the Jacobian each
            slope = np.zeros(found.numel())
            slope[b] = 1
            gradients = self._gradients(slope.reshape(tuple(found.shape)))
            exact, size = 0.0, 1.0
            for name, tangent in tangents.items():
                along = as_array(tangent).astype(np.float64)
                with np.errstate(invalid="ignore"):  # infinite ones
                    product = gradients[name] * along
                    exact, size = exact + product.sum(), size + np.abs(product).sum()
            got = float(found.reshape(-1)[b])
            kinds = [torch.promote_types(x.dtype, torch.float32) for x in (*scores.values(), found)]  # of the gradients
            rtol = 100 * max(torch.finfo(kind).eps for kind in kinds)
            assert not np.isfinite(size) or abs(got - exact) <= rtol * size, f"tangent {got}, not {exact}"
        return True

    def _judge_double(self, random: Any, slopes: np.ndarray) -> None:
        """A derivative of the gradient, by the slope or by the scores: right, or an error."""
        loss, rng = self.function(**self.arguments), numbers(random)
        slope = as_tensor(slopes, loss).requires_grad_()
        scores = [*self.scores().values()]
        found = torch.autograd.grad(loss, scores, slope, create_graph=True)
        self._compare(found, self._gradients(slopes), slopes, "gradient with a graph")
        ways = [as_tensor(rng.normal(size=x.shape), x) for x in scores]
        total = sum((gradient.double() * way.double()).sum() for gradient, way in zip(found, ways, strict=True))
        try:
            torch.autograd.grad(total, scores, retain_graph=True)
        except RuntimeError:
            pass
        else:
            raise AssertionError("a second derivative is answered")
        try:
            (by_slope,) = torch.autograd.grad(total, slope)
        except RuntimeError:
            return
        change = rng.normal(size=slopes.shape)
        gradients = self._gradients(change)
        exact, size = 0.0, 1.0
        for name, way in zip(self.scores(), ways, strict=True):
            along = as_array(way).astype(np.float64)
            with np.errstate(invalid="ignore"):
                product = gradients[name] * along
                exact, size = exact + product.sum(), size + np.abs(product).sum()
        with np.errstate(invalid="ignore"):
            got = float((as_array(by_slope).astype(np.float64) * change).sum())
        rtol = max(10 * torch.finfo(x.dtype).eps for x in (*scores, loss)) * 10
        assert not np.isfinite(size) or abs(got - exact) <= rtol * size, f"derivative by the slope {got}, not {exact}"


# ---- calls --------------------------------------------------------------------------------------


def make(random, name: str) -> Judged:
    """A call of that function: half of them are valid."""
    kind = name.split(".")[1]
    if kind == "CRF" and random.random() < 0.3:
        kind = "CRF.decode"
    call = PATHS[kind](random, name) if kind in PATHS else _loss(random, name)
    if random.random() < 0.5:
        names = [*inspect.signature(call.function).parameters]
        for _ in range(random.choice((1, 1, 2))):
            key = random.choice(names)
            value = wrong_tensor(random, call.arguments.get(key))
            if call.takes(key, value):
                call.arguments[key] = value
                call.wrongs.append(key)
    return call


def _loss(random, name: str) -> TorchCall:
    kind = name.split(".")[1]
    problem = None if kind in TERMS else fuzz_adapters.problem(random, LOSSES[kind].function.__name__)
    terms = TERMS[kind](random) if problem is None else Terms(problem)
    arguments, given = {}, terms.problem.scores
    grads = {key for key in given if random.random() < 0.7} or {next(iter(given))}
    for key, x in given.items():
        tensor = layout(random, as_tensor(terms.turned(key, x)))
        arguments[terms.name(key)] = tensor.requires_grad_() if key in grads else tensor
    for key, x in terms.problem.constants.items():
        fitting = tensor_alone if terms.name(key) in terms.tensors else constant
        arguments[terms.name(key)] = fitting(random, terms.turned(key, x))
    arguments |= terms.options()
    order = [*inspect.signature(FUNCTIONS[kind]).parameters]
    arguments = {key: arguments[key] for key in sorted(arguments, key=order.index)}
    return TorchCall(name, arguments, terms=terms)
