"""Calls of `fastseqloss.torch`: answers of the NumPy functions, gradients of every order or an error."""

import inspect
import warnings
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.autograd import forward_ad

import fastseqloss as fsl
import fastseqloss.torch as fst
import fuzz_adapters
import fuzz_values
from fastseqloss._adapters.table import LOSSES
from fuzz_adapters import EXPECTED, Problem, assert_gradient, assert_loss
from fuzz_calls import Judged, numbers
from fuzz_judge import judge_error
from fuzz_values import SCALARS, guise, wrong

REDUCTIONS = {"none": "none", "sum": "sum", "sequence_mean": "mean"}
CTC_NAMES = {"labels": "targets", "logit_lengths": "input_lengths", "label_lengths": "target_lengths"}


def _module(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    return fst.CTCLoss(blank, reduction, zero_infinity)(log_probs, targets, input_lengths, target_lengths)


PYTORCHS = ("CTCLoss", "ctc_loss", "ctc_loss_from_logits")  # with the arguments of PyTorch's own
FUNCTIONS = {name: getattr(fst, name) for name in (*PYTORCHS, *LOSSES)} | {"CTCLoss": _module}


@dataclass
class TorchCall(Judged):
    """A call, and the problem that it poses; `named` says what a gradient's tensor is called there."""

    problem: Problem | None = None

    @property
    def function(self) -> Any:
        return FUNCTIONS[self.name.split(".")[1]]

    @property
    def swapped(self) -> bool:
        return self.name.split(".")[1] in PYTORCHS and self.first.ndim == 3

    def scores(self) -> dict[str, torch.Tensor]:
        """Tensors that have a gradient, by the names of the NumPy function."""
        tensors = [x for x in self.arguments.values() if isinstance(x, torch.Tensor) and x.requires_grad]
        assert self.problem is not None
        names = {id(self.arguments.get(name)): name for name in self.problem.scores} | {id(self.first): self._first()}
        return {names[id(x)]: x for x in tensors}

    def _first(self) -> str:
        assert self.problem is not None
        return next(iter(self.problem.scores))

    def judge(self, random: Any) -> str:
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)  # of PyTorch's own forward mode
        try:
            loss = self.function(**self.arguments)
        except EXPECTED as error:
            judge_error(self, error, tuple(inspect.signature(self.function).parameters), EXPECTED)
            return type(error).__name__
        if self.wrongs:
            self._judge_wrong(loss)
            return "right"
        wanted, half = self.problem.loss(), self.first.dtype != torch.float64
        assert_loss(as_array(loss), wanted, half, self.problem.rounding)
        assert loss.requires_grad == bool(self.scores())
        with torch.no_grad():
            assert_loss(as_array(self.function(**self.arguments)), wanted, half, self.problem.rounding)
        if loss.requires_grad:
            self._judge_gradients(random, loss)
        return "right"

    def _judge_wrong(self, loss: torch.Tensor) -> None:
        """It is answered: then as the NumPy function answers it."""
        assert loss.dtype in (torch.float32, torch.float64)
        wanted = self._as_numpy()
        if np.size(wanted) < 10**6:
            assert_loss(as_array(loss), wanted, self.first.dtype != torch.float64, self.problem.rounding)
        if loss.requires_grad and loss.numel():
            try:
                torch.autograd.grad(loss.sum(), [x for x in self.arguments.values() if getattr(x, "requires_grad", 0)])
            except EXPECTED as error:
                if "numpy" in str(error):
                    raise AssertionError(f"backward: {error}") from error

    def _as_numpy(self) -> Any:
        """What the NumPy function makes of these arguments."""
        given = {key: as_array(value) if isinstance(value, torch.Tensor) and key != "num_threads" else value
                 for key, value in self.arguments.items()}  # fmt: skip
        if self.name.split(".")[1] not in PYTORCHS:
            return getattr(fsl, self.problem.function)(**given)
        scores = given.pop("logits" if "logits" in given else "log_probs")
        given = {{v: k for k, v in CTC_NAMES.items()}.get(key, key): value for key, value in given.items()}
        given["infeasible"] = "zero" if given.pop("zero_infinity") else "inf"
        given["reduction"] = {v: k for k, v in REDUCTIONS.items()}[given["reduction"]]
        if scores.ndim == 2 and np.ndim(given["labels"]) == 2:
            given["labels"] = given["labels"][0]
        kind = self.problem.options["input"]
        return fsl.ctc_loss(scores.swapaxes(0, 1) if scores.ndim == 3 else scores, **given, input=kind)

    def _judge_gradients(self, random: Any, loss: torch.Tensor) -> None:
        slope = fuzz_adapters.slopes(random, tuple(loss.shape))
        wanted = self.problem.gradients(slope)
        way = random.random()
        if way < 0.2:
            return self._judge_double(random, slope)
        if way < 0.4 and self._judge_forward(random):
            return None
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

    def _compare(self, found: Any, wanted: dict[str, np.ndarray], slope: np.ndarray, which: str) -> None:
        for (name, x), gradient in zip(self.scores().items(), found, strict=True):
            expected = wanted[name].swapaxes(0, 1) if self.swapped else wanted[name]
            size = np.abs(slope).max(initial=0) * (1 + np.abs(wanted[name]).max(initial=0) if "probs" in
                   (self.problem.options.get("input") or "") else max(1, slope.size))  # fmt: skip
            assert_gradient(as_array(gradient), expected, as_array(x).dtype, float(size), f"{which}, {name}")

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
            gradients = self.problem.gradients(slope.reshape(tuple(found.shape)))
            exact, size = 0.0, 1.0
            for name, tangent in tangents.items():
                along = as_array(tangent).astype(np.float64)
                along = along.swapaxes(0, 1) if self.swapped else along
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
        self._compare(found, self.problem.gradients(slopes), slopes, "gradient with a graph")
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
        gradients = self.problem.gradients(change)
        exact, size = 0.0, 1.0
        for name, way in zip(self.scores(), ways, strict=True):
            along = as_array(way).astype(np.float64)
            with np.errstate(invalid="ignore"):
                product = gradients[name] * (along.swapaxes(0, 1) if self.swapped else along)
                exact, size = exact + product.sum(), size + np.abs(product).sum()
        got = float((as_array(by_slope).astype(np.float64) * change).sum())
        rtol = max(10 * torch.finfo(x.dtype).eps for x in (*scores, loss)) * 10
        assert not np.isfinite(size) or abs(got - exact) <= rtol * size, f"derivative by the slope {got}, not {exact}"


# ---- tensors ------------------------------------------------------------------------------------


def as_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def as_tensor(x: Any, like: torch.Tensor | None = None) -> torch.Tensor:
    """A tensor of its own memory, in its dtype or that of another tensor."""
    x = np.ascontiguousarray(np.array(x, subok=False)).reshape(np.shape(x))
    if x.dtype == ml_dtypes.bfloat16:
        tensor = torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(x.astype(np.dtype(x.dtype.newbyteorder("=").str)))  # not ulonglong, but uint64
    return tensor if like is None else tensor.to(like.dtype)


def layout(random, tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, in other strides."""
    way = random.choice(("as it is", "transposed", "strided", "shifted"))
    if way == "transposed" and tensor.ndim > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if way == "strided" and tensor.ndim:
        larger = torch.ones([2 * n + 1 for n in tensor.shape], dtype=tensor.dtype)
        view = larger[(slice(1, None, 2),) * tensor.ndim]
        view.copy_(tensor)
        return view
    if way == "shifted":
        room = torch.ones(tensor.numel() + 1, dtype=tensor.dtype)
        view = room[1:].view(tensor.shape)
        view.copy_(tensor)
        return view
    return tensor


def constant(random, value: Any) -> Any:
    """An argument without a gradient: a tensor, an array of any layout, a list."""
    if not isinstance(value, np.ndarray):
        return value
    return layout(random, as_tensor(value)) if random.random() < 0.6 else guise(random, value)


def strange(random, x: np.ndarray) -> Any:
    """A tensor that is not as others, or something else instead."""
    tensor = as_tensor(x) if x.dtype.kind in "iufbV" else torch.zeros(2)
    return random.choice((
        lambda: tensor.to_sparse(), lambda: tensor.to("meta"), lambda: tensor.double().requires_grad_(),
        lambda: tensor.to(torch.complex64), lambda: torch._neg_view(tensor.double()),
        lambda: tensor.to(torch.float8_e5m2),
        lambda: torch.nn.Parameter(tensor.float()), lambda: tensor.float().to_mkldnn(), lambda: tensor[None],
        lambda: tensor.reshape(-1)[:1].expand(2**40, *tensor.shape), lambda: torch.zeros(1, dtype=tensor.dtype).expand(
            [random.choice((2**31, 2**40, n)) for n in tensor.shape]),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
        lambda: torch.nested.nested_tensor([tensor.float(), tensor.float()]), lambda: tensor.to(torch.complex64).conj(),
        lambda: tensor.to(random.choice((torch.int8, torch.uint8, torch.bool, torch.half, torch.bfloat16, torch.long))),
        lambda: tensor.numpy() if tensor.dtype != torch.bfloat16 else x, lambda: tensor.tolist(),
    ))()  # fmt: skip


# ---- calls --------------------------------------------------------------------------------------


def make(random, name: str) -> TorchCall:
    """A call of that function: half of them are valid."""
    kind = name.split(".")[1]
    problem = (_ctc if kind in PYTORCHS else _same)(random, kind)
    arguments = dict(problem.scores)
    swapped = kind in PYTORCHS and next(iter(arguments.values())).ndim == 3
    grads = {key for key in arguments if random.random() < 0.7} or {next(iter(arguments))}
    for key, x in arguments.items():
        tensor = layout(random, as_tensor(x.swapaxes(0, 1) if swapped else x))
        arguments[key] = tensor.requires_grad_() if key in grads else tensor
    arguments |= {key: constant(random, value) for key, value in problem.constants.items()} | problem.options
    if kind in PYTORCHS:
        arguments["log_probs" if kind != "ctc_loss_from_logits" else "logits"] = arguments.pop("logits")
        arguments["zero_infinity"] = arguments.pop("infeasible", "inf") == "zero"
        arguments["reduction"] = REDUCTIONS[arguments["reduction"]]
        del arguments["input"]
        arguments = {CTC_NAMES.get(key, key): value for key, value in arguments.items()}
    order = inspect.signature(FUNCTIONS[kind]).parameters
    arguments = {key: arguments[key] for key in sorted(arguments, key=[*order].index)}
    call = TorchCall(name, arguments, problem=problem)
    if random.random() < 0.5:
        for _ in range(random.choice((1, 1, 2))):
            _go_wrong(random, call, [*order])
    return call


def _same(random, kind: str) -> Problem:
    return fuzz_adapters.problem(random, LOSSES[kind].function.__name__)


def _ctc(random, kind: str) -> Problem:
    kinds = ("logits",) if kind == "ctc_loss_from_logits" else ("log_probs",)
    wanted = {"input": kinds, "reduction": (*REDUCTIONS,), "sample_weight": (None,), "normalizer": (None,)}
    problem = fuzz_adapters.problem(random, "ctc_loss", **wanted)
    if "label_lengths" not in problem.constants:  # one sequence
        problem.constants["label_lengths"] = problem.constants["labels"].size
    return problem


def _go_wrong(random, call: TorchCall, names: list[str]) -> None:
    name = random.choice(names)
    value = call.arguments.get(name)
    try:
        array = as_array(value) if isinstance(value, torch.Tensor) else value
    except (RuntimeError, TypeError):
        array = None
    if not fuzz_values.is_small(array):
        array = np.zeros(random.choice(((), 2, (2, 3))))
    way = random.random()
    if way < 0.35:
        try:
            with warnings.catch_warnings(action="ignore"):  # of prototypes and deprecations of PyTorch's
                value = strange(random, array)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):  # PyTorch has no such tensor
            value = torch.zeros(2)
    elif way < 0.5:
        value = random.choice(SCALARS)
    else:
        value = wrong(random, array)
        if isinstance(value, np.ndarray) and value.nbytes < 10**6 and random.random() < 0.7:
            try:
                value = as_tensor(value)
            except TypeError:
                value = torch.zeros(())
    call.arguments[name] = value
    call.wrongs.append(name)
