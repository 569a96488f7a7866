"""Functions and modules that replace those of other libraries, and the arguments of the NumPy functions."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

import fastseqloss as fsl
import fastseqloss.torch as fst
import fuzz_adapters
from fuzz_adapters import Problem
from fuzz_tensors import as_array

PARAMETERS = ("transitions", "start_transitions", "end_transitions")

# ---- modules as functions of all of their arguments ------------------------------------------------------------------


def _ctc_loss_module(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    return fst.CTCLoss(blank, reduction, zero_infinity)(log_probs, targets, input_lengths, target_lengths)


def _cross_entropy_module(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None,
                          reduction="mean", label_smoothing=0.0):  # fmt: skip
    module = fst.CrossEntropyLoss(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
    return module(input, target)


def _crf_module(emissions, tags, mask=None, reduction="sum", *, transitions, start_transitions, end_transitions,
                num_tags, batch_first=False):  # fmt: skip
    own = dict(zip(PARAMETERS, (transitions, start_transitions, end_transitions), strict=True))
    return torch.func.functional_call(fst.CRF(num_tags, batch_first), own, (emissions, tags, mask, reduction))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ctc_loss": fst.ctc_loss,
    "ctc_loss_from_logits": fst.ctc_loss_from_logits,
    "CTCLoss": _ctc_loss_module,
    "cross_entropy": fst.cross_entropy,
    "CrossEntropyLoss": _cross_entropy_module,
    "CRF": _crf_module,
}


# ---- their arguments -------------------------------------------------------------------------------------------------


class Terms:
    """A valid problem, and the arguments of the call that poses it: here, the NumPy function's own."""

    sign = 1
    tensors: tuple[str, ...] = ()  # arguments without a gradient that must be tensors
    names: Mapping[str, str] = MappingProxyType({})  # of the arguments of the NumPy function that have others here

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def name(self, name: str) -> str:
        return self.names.get(name, name)

    def options(self) -> dict[str, Any]:
        return self.problem.options

    def turned(self, name: str, x: Any) -> Any:
        """An array with the axes that it has in the call."""
        return x

    def takes(self, name: str, value: Any) -> bool:
        """Return True if the invalid value can be passed at all."""
        return True

    def as_numpy(self, given: dict[str, Any]) -> Any:
        """The loss of the NumPy function for the arguments of a call, as arrays; they were accepted, if not valid."""
        return getattr(fsl, self.problem.function)(**given)

    def check_peer(self, arguments: dict[str, Any], loss: torch.Tensor) -> None:
        """Compare loss and gradients of a valid call with the function that is replaced."""


class CTC(Terms):
    """The losses with the arguments of PyTorch's, time first."""

    def __init__(self, random, first: str) -> None:
        self.reductions = {"none": "none", "sum": "sum", "sequence_mean": "mean"}
        wanted = {"input": (first,), "reduction": (*self.reductions,), "sample_weight": (None,), "normalizer": (None,)}
        super().__init__(fuzz_adapters.problem(random, "ctc_loss", **wanted))
        self.names = {
            "logits": first,
            "labels": "targets",
            "logit_lengths": "input_lengths",
            "label_lengths": "target_lengths",
        }
        if "label_lengths" not in self.problem.constants:  # one sequence
            self.problem.constants["label_lengths"] = self.problem.constants["labels"].size
        self.first = first

    def options(self) -> dict[str, Any]:
        given = {self.name(key): value for key, value in self.problem.options.items() if key != "input"}
        given["zero_infinity"] = given.pop("infeasible", "inf") == "zero"
        return given | {"reduction": self.reductions[given["reduction"]]}

    def turned(self, name: str, x: Any) -> Any:
        return x.swapaxes(0, 1) if name == "logits" and x.ndim == 3 else x

    def as_numpy(self, given: dict[str, Any]) -> Any:
        scores = given.pop(self.first)
        back = {v: k for k, v in self.names.items()}
        given = {back.get(key, key): value for key, value in given.items()}
        given["infeasible"] = "zero" if given.pop("zero_infinity") else "inf"
        given["reduction"] = {v: k for k, v in self.reductions.items()}[given["reduction"]]
        if scores.ndim == 2 and np.ndim(given["labels"]) == 2:
            given["labels"] = given["labels"][0]
        return fsl.ctc_loss(self.turned("logits", scores), **given, input=self.first)

    def check_peer(self, arguments: dict[str, Any], loss: torch.Tensor) -> None:
        """The loss alone: the gradient by log-probabilities differs, unless they come from a softmax."""
        x = arguments[self.first].detach().double()
        if not x.numel() or arguments["blank"] < 0:  # which PyTorch refuses
            return
        x = x.log_softmax(-1) if self.first == "logits" else x
        rest = {key: value for key, value in arguments.items() if key != self.first}
        for name in ("targets", "input_lengths", "target_lengths"):
            rest[name] = torch.as_tensor(np.array(plain(rest[name]), np.int64))
        assert_near(loss, torch.nn.functional.ctc_loss(x, **rest), "the loss of PyTorch")


class CrossEntropy(Terms):
    """Cross-entropy with classes on axis 1."""

    names = MappingProxyType({"logits": "input", "targets": "target", "class_weight": "weight"})
    tensors = ("target", "weight")

    def __init__(self, random) -> None:
        absent = dict.fromkeys(("lengths", "mask", "z_loss", "sample_weight", "normalizer"), (None,))
        wanted = {"input": ("logits",), "reduction": ("none", "sum", "mean")} | absent
        super().__init__(fuzz_adapters.problem(random, "softmax_cross_entropy", **wanted))

    def options(self) -> dict[str, Any]:
        return {key: value for key, value in self.problem.options.items() if key != "input"}

    def turned(self, name: str, x: Any) -> Any:
        classes = name == "logits" or (name == "targets" and x.dtype.kind in "fV")
        return np.moveaxis(x, -1, 1) if classes and x.ndim > 2 else x

    def as_numpy(self, given: dict[str, Any]) -> Any:
        arrays = {"logits": given.pop("input"), "targets": given.pop("target")}
        for name, x in arrays.items():
            if x.ndim > 2 and (name == "logits" or x.dtype.kind in "fV"):
                arrays[name] = np.moveaxis(x, 1, -1)
        unused = ("size_average", "reduce")
        weight = {"class_weight": given.pop("weight", None)}
        return fsl.softmax_cross_entropy(**arrays, **weight, **{k: v for k, v in given.items() if k not in unused})

    def check_peer(self, arguments: dict[str, Any], loss: torch.Tensor) -> None:
        scores = {"input": arguments["input"], "target": arguments["target"]}
        leaves = {name: x.detach().double().requires_grad_() for name, x in scores.items() if x.requires_grad}
        rest = {}
        for name, x in arguments.items():
            if isinstance(x, torch.Tensor) and name not in leaves:
                rest[name] = x.detach().double() if x.is_floating_point() or name == "weight" else x.long()
            elif name not in leaves:
                rest[name] = x
        wanted = torch.nn.functional.cross_entropy(**leaves, **rest)
        assert_near(loss, wanted, "the loss of PyTorch")
        if leaves:
            ours = torch.autograd.grad(loss.sum(), [scores[name] for name in leaves], retain_graph=True)
            theirs = torch.autograd.grad(wanted.sum(), [*leaves.values()])
            for name, found, gradient in zip(leaves, ours, theirs, strict=True):
                assert_near(found, gradient, f"the gradient of PyTorch by {name}")


class CRF(Terms):
    """The module of a CRF, whose value is a log-likelihood."""

    sign = -1
    names = MappingProxyType({"start": "start_transitions", "end": "end_transitions"})
    tensors = ("tags", "mask")

    def __init__(self, random) -> None:
        absent = dict.fromkeys(("lengths", "sample_weight", "normalizer"), (None,))
        while True:
            self.problem = fuzz_adapters.problem(random, "crf_loss", reduction=("none", "sum", "mean"), **absent)
            if self.problem.scores["emissions"].ndim == 3 and self.problem.scores["transitions"].ndim == 2:
                break
        scores, constants, options = self.problem.scores, self.problem.constants, self.problem.options
        for name in ("start", "end"):
            scores.setdefault(name, np.zeros_like(scores["transitions"][0]))
        mask = constants["mask"]
        if mask.all() and random.random() < 0.5:
            del constants["mask"]
        else:
            constants["mask"] = mask.astype(random.choice((np.bool_, np.uint8, np.int64)))
        self.reduction, self.batch_first = options["reduction"], random.random() < 0.5
        if self.reduction == "sum" and random.random() < 0.5:
            self.reduction, options["normalizer"] = "token_mean", max(int(mask.sum()), 1)

    def options(self) -> dict[str, Any]:
        num_tags = self.problem.scores["emissions"].shape[2]
        return {"reduction": self.reduction, "num_tags": num_tags, "batch_first": self.batch_first}

    def turned(self, name: str, x: Any) -> Any:
        return x.swapaxes(0, 1) if name in ("emissions", "tags", "mask") and not self.batch_first else x

    def takes(self, name: str, value: Any) -> bool:
        return isinstance(value, torch.Tensor) or name not in PARAMETERS

    def as_numpy(self, given: dict[str, Any]) -> Any:
        arrays = {name: given.get(name) for name in ("emissions", "tags", "mask")}
        if not given["batch_first"]:
            arrays = {name: None if x is None else x.swapaxes(0, 1) for name, x in arrays.items()}
        own = {name.removesuffix("_transitions"): given[name] for name in PARAMETERS}
        reduction = given.get("reduction", "sum")
        token_mean = reduction == "token_mean"
        if not token_mean:
            return -fsl.crf_loss(**arrays, **own, reduction=reduction)
        mask = np.ones(arrays["tags"].shape, bool) if arrays["mask"] is None else arrays["mask"]
        return -fsl.crf_loss(**arrays, **own, reduction="sum", normalizer=max(int(mask.sum()), 1))


TERMS: dict[str, Callable[[Any], Terms]] = {
    "ctc_loss": lambda random: CTC(random, "log_probs"),
    "ctc_loss_from_logits": lambda random: CTC(random, "logits"),
    "CTCLoss": lambda random: CTC(random, "log_probs"),
    "cross_entropy": CrossEntropy,
    "CrossEntropyLoss": CrossEntropy,
    "CRF": CRF,
}


def plain(value: Any) -> Any:
    """Integers of a tensor, an array of any layout, or a list."""
    value = getattr(value, "array", value)
    return as_array(value) if isinstance(value, torch.Tensor) else value


def assert_near(found: torch.Tensor, wanted: torch.Tensor, what: str) -> None:
    """Within rounding, except where it is NaN there."""
    info, wanted = torch.finfo(found.dtype), wanted.detach()
    found, eps = found.detach().double(), max(info.eps, 1e-11)
    size = max(1.0, float(wanted.nan_to_num(0, 0, 0).abs().max())) if wanted.numel() else 1.0
    near = (found - wanted).abs() <= 16 * max(eps, 1e-6 if eps > 1e-11 else 0) * size + info.smallest_normal
    good = wanted.isnan() | (found == wanted) | near | (wanted.abs() > 0.98 * info.max)
    assert good.all(), f"{what}: {found[~good][:3]}, not {wanted[~good][:3]}"
