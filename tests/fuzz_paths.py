"""Calls of `fastseqloss.torch` that return paths: alignment, the frames of tokens, decoding."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch

import fastseqloss as fsl
import fastseqloss.torch as fst
import fuzz_adapters
from fuzz_adapters import EXPECTED
from fuzz_calls import FLOATS, STRATEGIES, Judged, numbers
from fuzz_judge import judge_error
from fuzz_replacements import CRF, PARAMETERS
from fuzz_tensors import as_array, as_tensor, layout, tensor_alone

INTEGERS = (np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint16, np.uint64)


def _decode(emissions, mask=None, *, transitions, start_transitions, end_transitions, num_tags, batch_first=False):
    module = fst.CRF(num_tags, batch_first)
    for name, x in zip(PARAMETERS, (transitions, start_transitions, end_transitions), strict=True):
        setattr(module, name, torch.nn.Parameter(x.detach(), requires_grad=False))
    return module.decode(emissions, mask)


@dataclass
class PathCall(Judged):
    """A call, and a check of its result for the arguments as arrays."""

    function: Callable[..., Any] = lambda: None
    check: Callable[[Any, "PathCall", dict[str, Any], Any], None] = lambda *_: None

    def takes(self, name: str, value: Any) -> bool:
        """Return True if the value can be passed at all."""
        return isinstance(value, torch.Tensor) or name not in PARAMETERS

    def judge(self, random: Any) -> str:
        try:
            result = self.function(**self.arguments)
        except EXPECTED as error:
            judge_error(self, error, tuple(inspect.signature(self.function).parameters))
            return type(error).__name__
        given = {key: as_array(value) if isinstance(value, torch.Tensor) and key != "num_tags" else value
                 for key, value in self.arguments.items()}  # fmt: skip
        self.check(random, self, given, result)
        return "right"


# ---- forced alignment -----------------------------------------------------------------------------------------------


def _forced_align(random, name: str) -> PathCall:
    """A call with scores that have a path; calls without a path count as wrong."""
    while True:
        call = STRATEGIES["ctc_align"](random)
        given = call.arguments
        if given["input"] == "log_probs" and given["logits"].ndim == 3 and getattr(given["labels"], "ndim", 0) == 2:
            break
    x, labels = given["logits"], given["labels"]
    lengths = {"input_lengths": given["logit_lengths"], "target_lengths": given["label_lengths"]}
    best = fsl.ctc_align(x, labels, *lengths.values(), blank=given["blank"], input="log_probs").log_prob
    scores = layout(random, as_tensor(x)).requires_grad_(random.random() < 0.7)
    arguments = {"log_probs": scores, "targets": layout(random, as_tensor(labels.astype(random.choice(INTEGERS))))}
    if (lengths["input_lengths"] == x.shape[1]).all() and random.random() < 0.5:
        del lengths["input_lengths"]
    if (given["label_lengths"] == labels.shape[1]).all() and random.random() < 0.5:
        del lengths["target_lengths"]
    arguments |= {key: tensor_alone(random, value) for key, value in lengths.items()} | {"blank": given["blank"]}
    wrongs = [] if np.isfinite(best).all() else ["log_probs"]
    return PathCall(name, arguments, wrongs=wrongs, function=fst.forced_align, check=_check_alignment)


def _check_alignment(random, call: PathCall, given: dict[str, Any], result: Any) -> None:
    """Path and scores are those of the NumPy function, and the gradient goes to the scores on the path."""
    x, targets = given["log_probs"], given["targets"]
    lengths = [given.get(name) for name in ("input_lengths", "target_lengths")]
    wanted = fsl.ctc_align(x, targets, *lengths, blank=given["blank"], input="log_probs")
    blank, (paths, scores) = int(given["blank"]) % x.shape[2], result
    inside = wanted.path >= 0
    path = np.where(inside, wanted.path, blank)
    assert paths.dtype == call.arguments["targets"].dtype
    np.testing.assert_array_equal(as_array(paths), path)
    along = np.take_along_axis(x, path[..., None], -1)[..., 0]
    assert as_array(scores).dtype == x.dtype
    np.testing.assert_array_equal(as_array(scores), np.where(inside, along, np.zeros((), x.dtype)))
    for b, row in enumerate(path):
        n_labels = targets.shape[1] if lengths[1] is None else int(np.atleast_1d(lengths[1])[b])
        assert [key for key, _ in groupby(row[inside[b]]) if key != blank] == targets[b, :n_labels].tolist()
    leaf = call.arguments["log_probs"]
    assert scores.requires_grad == leaf.requires_grad
    if scores.requires_grad:
        slope = as_tensor(fuzz_adapters.slopes(random, path.shape), scores)
        (gradient,) = torch.autograd.grad(scores, leaf, slope)
        one_hot = np.arange(x.shape[2]) == path[..., None]
        expected = one_hot * np.where(inside, as_array(slope).astype(np.float64), 0)[..., None]
        np.testing.assert_array_equal(as_array(gradient).astype(np.float64), expected)


# ---- the frames of tokens -------------------------------------------------------------------------------------------


def _merge_tokens(random, name: str) -> PathCall:
    rng, frames = numbers(random), random.randint(0, 12)
    arguments = {
        "tokens": layout(random, as_tensor(rng.integers(0, 4, frames).astype(random.choice(INTEGERS)))),
        "scores": layout(random, as_tensor(rng.normal(size=frames).astype(random.choice(FLOATS)))),
        "blank": random.randint(0, 4),
    }
    arguments["scores"].requires_grad_(random.random() < 0.3)
    return PathCall(name, arguments, function=fst.merge_tokens, check=_check_spans)


def _check_spans(random, call: PathCall, given: dict[str, Any], spans: Any) -> None:
    """Run by run."""
    scores, wanted, start = given["scores"].astype(np.float64), [], 0
    for token, run in groupby(given["tokens"].tolist()):
        end = start + len([*run])
        with np.errstate(invalid="ignore"):
            mean = scores[start:end].mean()
        if token != int(given["blank"]):
            wanted.append((token, start, end, mean))
        start = end
    assert [(s.token, s.start, s.end, len(s)) for s in spans] == [(*s[:3], s[2] - s[1]) for s in wanted]
    np.testing.assert_allclose([s.score for s in spans], [s[3] for s in wanted], rtol=1e-12, atol=1e-14)


# ---- decoding -------------------------------------------------------------------------------------------------------


def _crf_decode(random, name: str) -> PathCall:
    terms = CRF(random)
    given = {terms.name(key): terms.turned(key, x) for key, x in terms.problem.scores.items()}
    if "mask" in terms.problem.constants:
        given["mask"] = terms.turned("mask", terms.problem.constants["mask"])
    options = {name: value for name, value in terms.options().items() if name != "reduction"}
    arguments = {key: tensor_alone(random, x) for key, x in given.items()}
    return PathCall(name, arguments | options, function=_decode, check=_check_paths)


def _check_paths(random, call: PathCall, given: dict[str, Any], paths: Any) -> None:
    arrays = {name: given.get(name) for name in ("emissions", "mask")}
    if not given["batch_first"]:
        arrays = {name: None if x is None else x.swapaxes(0, 1) for name, x in arrays.items()}
    own = {name.removesuffix("_transitions"): given[name] for name in PARAMETERS}
    wanted = fsl.crf_decode(**arrays, **own).tags
    mask = np.ones(wanted.shape, bool) if arrays["mask"] is None else arrays["mask"].astype(bool)
    assert paths == [row[counts].tolist() for row, counts in zip(wanted, mask, strict=True)]


PATHS: dict[str, Callable[[Any, str], PathCall]] = {
    "forced_align": _forced_align,
    "merge_tokens": _merge_tokens,
    "CRF.decode": _crf_decode,
}
