"""Random valid calls of each public function, and the invalid arguments that may replace theirs."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import cases
import crf_cases
import fastseqloss as fsl
import fuzz_values
import linear_cases
import ranking_cases
import soft_dtw_cases
import step_cases
import transducer_cases
from fastseqloss._core.arrays import overlaps_itself
from fastseqloss.steps.registry import INDICATORS, LOSSES, NUMBERS, SIGNS, VECTORS, StepLoss
from step_cases import CLASSIFICATION, FIRST, REDUCTIONS, TARGETS, Capsule, Foreign

FLOATS = (np.float32, np.float64, np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
DATA = Path(__file__).parent / "data"
SEQUENCE_REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
OPTIONS = {
    "blank", "input", "infeasible", "reduction", "normalizer", "return_grad", "num_threads", "ignore_index",
    "squared", "average", "label_smoothing", "z_loss", "entropy_coef", "kl_coef", "clip", "discount", "decay",
    "sharpness", "star", "star_log_prob", "prior_scale", "pairwise", "frame_seconds", "frames", "smooth", "kind",
    "blank_model", "topology", "fastemit", "sigma", "width", "max_symbols",
    "scale", "softcap", "chunk", "alpha", "full", "eps",
    "unit", "gamma", "band", "divergence", "ax", "loss_fn", "rng", "file", "terms", "spans", "names",
    "separator", "vocabulary", "window", "regularization", "lambda_weight",
    "kl_kind", "max_log_ratio", "dual_clip",
    "n", "ddof", "baseline", "clip_ratio", "clip_trace", "beta", "nll_coef", "kl", "desirable_weight",
    "undesirable_weight",
    "target_input", "direction", "temperature",
}  # fmt: skip
VOCABULARIES = (
    fsl.Vocabulary("-ab|", separator="|"), fsl.Vocabulary(["", "▁a", "▁", "b"], mark="▁"),
    fsl.Vocabulary(["", "a", "##a", "b"], mark="##"), fsl.Vocabulary(["", "a@@", "a", "b"], mark="@@"),
)  # fmt: skip
OPTIONS |= {row.parameter.name for row in LOSSES.values() if row.parameter and not row.parameter.broadcasts}
FREE = {
    "ax",
    "file",
    "names",
    "unit",
    "loss_fn",
    "rng",
    "predict",
    "join",
    "path",
}  # anything goes there, or it is not ours to judge


@dataclass
class Call:
    """A public function and its arguments, by name."""

    name: str
    arguments: dict[str, Any]
    case: Any = None  # computes the correct answer, as long as the arguments are unchanged
    wrongs: list[str] = field(default_factory=list)
    errstate: str = "warn"

    @property
    def function(self) -> Callable[..., Any]:
        return functions()[self.name]

    @property
    def first(self) -> Any:
        return next(iter(self.arguments.values()), None)

    def run(self, **options: Any) -> Any:
        with np.errstate(all=self.errstate, under="ignore" if self.errstate == "warn" else "raise"):
            return self.function(**self.arguments | options)

    def __str__(self) -> str:
        lines = [f"{name}={_shown(value)}" for name, value in self.arguments.items()]
        return f"{self.name}({', '.join(lines)})  # wrong: {', '.join(self.wrongs) or 'nothing'}; {self.errstate}"


class Judged(Call):
    """A call with its own checks of the result."""

    def judge(self, random: Any) -> str:
        """Return "right" or the name of the exception; raise AssertionError if the outcome is not allowed."""
        raise NotImplementedError


def _shown(value: Any) -> str:
    if isinstance(value, (Foreign, Capsule)):
        return f"{type(value).__name__}({_shown(value.array)})"
    if not isinstance(value, np.ndarray):
        return repr(value)[:300]
    kind = "" if type(value) is np.ndarray else f"{type(value).__name__} "
    numbers = repr(value.tolist())[:600] if fuzz_values.is_small(value) else "..."
    return f"<{kind}{value.dtype.str} {value.dtype.name} {value.shape} strides {value.strides} {numbers}>"


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Public callables that are not classes."""
    found = {name: getattr(fsl, name) for name in (*fsl.__all__, *dir(fsl)) if not name.startswith("_")}
    found |= {f"plot.{name}": value for name, value in vars(fsl.plot).items() if _is_defined_in_plot(name, value)}
    return {
        name: value
        for name, value in found.items()
        if callable(value) and not inspect.isclass(value) and value.__module__.startswith("fastseqloss")
    }


def _is_defined_in_plot(name: str, value: Any) -> bool:
    return not name.startswith("_") and getattr(value, "__module__", "") == fsl.plot.__name__


@cache
def parameters(name: str) -> tuple[str, ...]:
    return tuple(inspect.signature(functions()[name]).parameters)


# ---- valid calls ------------------------------------------------------------------------------


def numbers(random) -> np.random.Generator:
    return np.random.default_rng(random.getrandbits(64))


def _maybe(random, options, name, make, share=0.3) -> None:
    if random.random() < share:
        options[name] = make()


def _reducing(random, batch, reductions, shapes=()) -> dict[str, Any]:
    """Reduction and weights, those of sequences or of one of the other shapes."""
    reducing: dict[str, Any] = {"reduction": random.choice(reductions)}
    if reducing["reduction"] == "sum":
        _maybe(random, reducing, "normalizer", lambda: random.choice((0.5, 7, 1e3, np.float32(2))))
    shape = random.choice(((batch,), *shapes))
    _maybe(random, reducing, "sample_weight", lambda: numbers(random).choice((0.0, 0.25, 1.0, 3.0), shape))
    return reducing


def _outputs(random, call: Call) -> Call:
    """With a gradient, into an array or not."""
    if random.random() < 0.6:
        call.arguments["return_grad"] = True
    if random.random() < 0.35:
        call.arguments["grad_out"] = grad_out_for(random, call)
    _maybe(random, call.arguments, "num_threads", lambda: random.choice((1, 2, 3, np.int64(2), None)), 0.2)
    return call


def grad_out_for(random, call: Call) -> Any:
    """An array for the gradient: the input, or one apart, of any layout."""
    x = call.first
    if random.random() < 0.3 and type(x) is np.ndarray and x.flags.writeable and not overlaps_itself(x):
        return x
    x = np.asarray(x.array if isinstance(x, (Foreign, Capsule)) else x)
    room = np.full(x.shape, 7).astype(x.dtype)
    layout = random.choice((*step_cases.LAYOUTS, fuzz_values.subclassed, fuzz_values.offset_fields, np.copy, np.copy))
    return layout(room)


def _steps_loss(name: str, random) -> Call:
    classes = name in CLASSIFICATION
    axes = random.choice((2, 2, 3, 3, 1, 4))
    sizes = [random.randint(0, most) for most in (3, 4, 3, 2)[:axes]]
    if classes:
        shape = (*sizes[: axes - 1], random.choice((1, 2, 3, 5, 9, 17, 40)))
    else:
        shape = (*sizes[:2], *(max(n, 1) for n in sizes[2:]))
    width, options, rng = shape[-1] if shape else 1, {}, numbers(random)
    row = random.choice(step_cases.rows_of(name))
    options.update(row.options)
    if name == "softmax_cross_entropy":
        options["input"] = random.choice(cases.KINDS)
        _maybe(random, options, "label_smoothing", lambda: random.choice((0.0, 0.1, 1.0)))
        if options["input"] == "logits":
            _maybe(random, options, "z_loss", lambda: random.choice((0.0, 1e-4, 0.3)))
    for key, values in step_cases.MORE.get(name, {}).items():
        _maybe(random, options, key, partial(random.choice, values))
    if row.parameter is not None:
        values = step_cases.parameter_values(row, rng, shape)
        _maybe(random, options, row.parameter.name, lambda: random.choice(values))
    target_dtype = random.choice(step_cases.target_dtypes(name, width))
    integer = np.dtype(target_dtype).kind in "iu"
    if classes:
        _maybe(random, options, "class_weight", lambda: rng.choice([0.0, 0.25, 1.0, 3.0], width))
        if integer:
            least, most = np.iinfo(target_dtype).min, np.iinfo(target_dtype).max
            fitting = [i for i in (-100, -1, 0, width - 1, 2**40) if least <= i <= most]
            if fitting:
                options["ignore_index"] = random.choice(fitting)
    if TARGETS[name] == SIGNS and not np.any(shape):
        target_dtype = np.int64
    dtype = random.choice(FLOATS)
    case = step_cases.random_case(
        rng, name, shape, dtype=dtype, scale=random.choice((0.1, 1.0, 10.0)), target_dtype=target_dtype,
        impossible=random.choice((0, 0, 0.1)), lengths=random.random() < 0.5, holes=random.choice((0, 0, 0.3)),
        of_features=not classes and random.random() < 0.5,
        ignored=0.3 if "ignore_index" in options and random.random() < 0.5 else 0.0, **options,
    )  # fmt: skip
    batch = shape[0] if len(shape) > classes else 1
    case.reducing = _reducing(random, batch, REDUCTIONS, [shape[:ndim] for ndim in step_cases.weight_ndims(case)])
    arguments = {FIRST[name]: case.scores, "targets": case.targets}
    if case.lengths is not None:
        arguments["lengths"] = case.lengths
    if case.mask is not None:
        arguments["mask"] = case.mask
    return _outputs(random, Call(name, arguments | case.options | case.reducing, case))


def _gaussian(random) -> Call:
    call = _steps_loss("mse_loss", random)
    given, rng = call.arguments, numbers(random)
    targets = given.pop("targets")
    kind, shape, dtype = random.choice(("variance", "log_variance")), given["predictions"].shape, random.choice(FLOATS)
    variance = rng.normal(size=shape) if kind == "log_variance" else rng.choice([0, 0.1, 1.0, 30.0], shape)
    given = {"predictions": given.pop("predictions"), "targets": targets, "variance": variance.astype(dtype)} | given
    given["input"] = kind
    _maybe(random, given, "full", lambda: random.choice((True, False)))
    _maybe(random, given, "eps", lambda: random.choice((1e-6, 1e-3, 1, 1e-300)))
    call = Call("gaussian_nll_loss", given)
    if "grad_out" in given:
        kind = fsl.GaussianGradient
        outs = _grad_out_tuple(random, given, kind, kind._fields)[:2]
        given["grad_out"] = random.choice((kind._make, tuple))((*outs, None))
    return call


def _vectors(row: StepLoss, random) -> Call:
    sizes = [random.randint(0, most) for most in (3, 4, 2)[: random.choice((0, 1, 2, 2, 3))]]
    shape, rng = (*sizes, random.choice((1, 2, 3, 5, 9, 17, 40, 150))), numbers(random)
    x, y = random.choice((0.1, 1.0, 10.0)) * rng.normal(size=(2, *shape))
    given: dict[str, Any] = {}
    if row.name == "kl_divergence":
        kinds = random.choice(cases.KINDS), random.choice(cases.KINDS)
        x, y = map(cases.scores_like, (x, y), kinds)
        given = {"input": kinds[0], "target_input": kinds[1], "direction": random.choice(("forward", "reverse"))}
        if "logits" in kinds:
            _maybe(random, given, "temperature", lambda: random.choice((0.5, 2, 1e3)))
    if row.name == "sparsemax":
        y = cases.scores_like(y, "probs")
    if row.targets == INDICATORS:
        y = np.asarray(rng.random(shape) < random.choice((0.0, 0.1, 0.5)), random.choice((bool, np.int64, np.float32)))
        _maybe(random, given, "margin", lambda: random.choice((0, 0.5, 3.0)))
    elif row.targets != NUMBERS or random.random() < 0.7:
        y = y.astype(random.choice(FLOATS))
    if row.name == "sparsemax" and random.random() < 0.6:
        y = rng.integers(0, shape[-1], shape[:-1])
        _maybe(random, given, "ignore_index", lambda: random.choice((-1, 0, shape[-1])))
    given = {row.scores: x.astype(random.choice(FLOATS)), "targets": y} | given
    if len(sizes) > 1:
        _maybe(random, given, "lengths", lambda: rng.integers(0, sizes[1], sizes[0], endpoint=True))
    _maybe(random, given, "mask", lambda: np.asarray(rng.random(shape[:-1]) > 0.3))
    shapes = [shape[:-1]] if len(sizes) > 1 else []
    return _outputs(random, Call(row.function, given | _reducing(random, (sizes or [1])[0], REDUCTIONS, shapes)))


def _log_prob(random) -> Call:
    sizes = [random.randint(0, most) for most in (3, 4, 2)[: random.choice((0, 1, 2, 2, 3))]]
    shape = (*sizes, random.choice((1, 2, 3, 5, 9, 17, 40)))
    options = {"input": random.choice(cases.KINDS), "ignore_index": random.choice((-100, -1, 0, shape[-1] - 1, 2**40))}
    case = step_cases.random_case(
        numbers(random), "softmax_cross_entropy", shape, dtype=random.choice(FLOATS), lengths=random.random() < 0.5,
        impossible=random.choice((0, 0, 0.1)), holes=random.choice((0, 0, 0.3)), ignored=random.choice((0, 0.3)),
        **options,
    )  # fmt: skip
    reducing: dict[str, Any] = {}
    _maybe(random, reducing, "average", lambda: random.choice((False, True)), 0.5)
    slopes = np.array(random.choices((0.0, 1.0, -0.5, 3.0), k=max([1, *sizes[:1]])))
    _maybe(random, reducing, "slopes", lambda: np.resize(slopes, sizes[:1]))
    given = {"logits": case.scores, "targets": case.targets, "lengths": case.lengths, "mask": case.mask}
    of = step_cases.LogProbCase("sequence_log_prob", *given.values(), options, reducing)
    given = {name: value for name, value in given.items() if value is not None}
    return _outputs(random, Call("sequence_log_prob", given | options | reducing, of))


def _ctc_case(random) -> cases.Case:
    shape = tuple(random.randint(*ends) for ends in ((0, 3), (0, 9), (1, 7), (0, 4)))
    return cases.random_case(
        numbers(random), shape, blank=random.randint(-shape[2], shape[2] - 1), kind=random.choice(cases.KINDS),
        dtype=random.choice(FLOATS), scale=random.choice((0.1, 1.0, 10.0)), repeats=random.choice((0, 0.3)),
        full=random.random() < 0.5,
    )  # fmt: skip


def _ctc_labels(random, case) -> dict[str, Any]:
    """The labels in one of their forms."""
    form = random.choice(("padded", "padded", "concatenated", "listed"))
    if form == "padded":
        return {"labels": case.labels, "label_lengths": case.label_lengths}
    joined = np.concatenate([np.zeros(0, np.int64), *case.tokens])
    if form == "concatenated":
        return {"labels": joined, "label_lengths": case.label_lengths}
    return {"labels": [random.choice((np.array, list, tuple))(row) for row in case.tokens]}


def _ctc(name: str, random) -> Call:
    case = _ctc_case(random)
    tokens, lengths = case.tokens, case.lengths
    arguments: dict[str, Any] = {"logits": case.scores}
    if name not in DECODERS:
        arguments |= _ctc_labels(random, case)
    arguments["logit_lengths"] = case.lengths
    arguments |= case.options
    if name not in DECODERS:
        _maybe(random, arguments, "infeasible", lambda: random.choice(("inf", "zero")))
    if len(case.tokens) == 1 and random.random() < 0.5:  # one sequence without a batch axis
        arguments |= {"logits": case.scores[0], "logit_lengths": int(case.lengths[0])}
        if name not in DECODERS:
            arguments["labels"] = case.tokens[0]
            arguments.pop("label_lengths", None)
        case = None
    if name in ("ctc_loss", "ctc_entropy"):
        reducing = _reducing(random, len(arguments["logits"]) if case else 1, SEQUENCE_REDUCTIONS)
        return _outputs(random, Call(name, arguments | reducing, case))
    if name == "ctc_align":
        _align_options(random, arguments)
    if name == "ctc_confidences":
        single = arguments["logits"].ndim == 2
        _maybe(random, arguments, "frames", lambda: _spans_of(random, tokens, lengths, single=single))
    if name == "ctc_beam_search":
        _beam_options(random, arguments)
    _maybe(random, arguments, "num_threads", lambda: random.choice((1, 2, None)), 0.2)
    return Call(name, arguments)


def _spans_of(random, tokens, lengths, *, single: bool) -> np.ndarray:
    """Spans in any order, some of them missing; padding of any values."""
    spans = numbers(random).integers(-9, 99, (len(tokens), max([0, *map(len, tokens)]) + random.randint(0, 2), 2))
    for row, labels, n in zip(spans, tokens, lengths.tolist(), strict=True):
        for i in range(len(labels)):
            row[i] = sorted(random.sample(range(n + 1), 2)) if n and random.random() < 0.8 else (-1, -1)
    return spans[0] if single else spans


def _align_options(random, arguments: dict[str, Any]) -> None:
    *shape, width = arguments["logits"].shape
    each = -numbers(random).random(shape)
    _maybe(random, arguments, "star", lambda: random.choice((-1, width, 2**40)))
    _maybe(random, arguments, "star_log_prob", lambda: random.choice((0.0, -1, -5.5, each)))
    _maybe(random, arguments, "label_prior", lambda: numbers(random).normal(size=width))
    _maybe(random, arguments, "prior_scale", lambda: random.choice((0, 0.3, 1)))


def _windows(random) -> Call:
    """A call with an array; calls with functions are checked in the same way."""
    case = _ctc_case(random)
    while not len(case.tokens):
        case = _ctc_case(random)
    arguments: dict[str, Any] = {"logits": case.scores[0], "labels": case.tokens[0]}
    arguments |= {"logit_lengths": int(case.lengths[0]), "window": random.choice((1, 2, 5, 3000))}
    arguments |= case.options
    if case.lengths[0] == len(case.scores[0]) and random.random() < 0.5:
        del arguments["logit_lengths"]
    _maybe(random, arguments, "infeasible", lambda: random.choice(("inf", "zero")))
    _align_options(random, arguments)
    return Call("ctc_align_windows", arguments)


def _beam_options(random, arguments: dict[str, Any]) -> None:
    width = arguments["logits"].shape[-1]
    labels = [c for c in range(width) if c != arguments["blank"] % width]
    _maybe(random, arguments, "beam", lambda: random.choice((4, 30, 1000)))
    _maybe(random, arguments, "n_best", lambda: random.choice((1, 2, 4)))
    _maybe(random, arguments, "rescore", lambda: random.choice((0, 1, 100)))
    _maybe(random, arguments, "class_threshold", lambda: random.choice((-5, -0.5)))
    _maybe(random, arguments, "beam_threshold", lambda: random.choice((0, 3.5)))
    _maybe(random, arguments, "bigram", lambda: numbers(random).normal(size=(width + 1, width)))
    _maybe(random, arguments, "language_model", lambda: _language_model(random, width, labels))
    _maybe(random, arguments, "lm_weight", lambda: random.choice((0, 0.5)))
    _maybe(random, arguments, "length_bonus", lambda: random.choice((-1, 0.5)))
    _maybe(random, arguments, "align", lambda: random.random() < 0.5)
    if labels:
        words = [[random.choice(labels) for _ in range(random.randint(1, 3))] for _ in range(random.randint(0, 4))]
        _maybe(random, arguments, "boost", lambda: [(word, random.choice((-1, 2.5))) for word in words])
        _maybe(random, arguments, "lexicon", lambda: words)


def _language_model(random, width: int, labels: list[int]) -> Any:
    if len(labels) < 3 or random.random() < 0.5:
        return _prefix_model(random, width)
    a, b, separator = random.sample(labels, 3)
    if random.random() < 0.5:
        return fsl.read_arpa(DATA / "letters.arpa", {"a": a, "b": b}, end=random.random() < 0.5)
    spelt = {"ab": [a, b], "b": [b], "ba": [b, a]}
    unknown = random.choice((None, -3.5, -np.inf))
    return fsl.read_arpa(DATA / "words.arpa", spelt, unit="words", separator=separator, unknown=unknown)


def _prefix_model(random, width: int) -> Callable[..., Any]:
    """A model that counts labels in its states."""
    table, with_states = numbers(random).normal(size=(5, width + random.randint(0, 1))), random.random() < 0.5

    def model(prefixes, states):
        scores = table[[len(prefix) % 5 for prefix in prefixes]]
        return (scores, [(state or 0) + 1 for state in states]) if with_states else scores

    return model


def _read_arpa(random) -> Call:
    arguments = random.choice((
        {"path": DATA / "letters.arpa", "vocabulary": fsl.Vocabulary("-abc")},
        {"path": str(DATA / "letters.arpa"), "vocabulary": {"a": 1, "b": 0}},
        {"path": DATA / "words.arpa", "vocabulary": fsl.Vocabulary("-ab|", separator="|"), "unit": "words"},
        {"path": DATA / "words.arpa", "vocabulary": {"ab": [1, 2]}, "unit": "words", "separator": 0},
    ))  # fmt: skip
    for name in ("start", "end"):
        _maybe(random, arguments, name, lambda: random.random() < 0.5)
    _maybe(random, arguments, "unknown", lambda: random.choice((0, -2.5, -np.inf)))
    return Call("read_arpa", arguments)


def _ctc_feasible(random) -> Call:
    case = _ctc_case(random)
    arguments = _ctc_labels(random, case)
    return Call("ctc_feasible", {"labels": arguments.pop("labels"), "logit_lengths": case.lengths} | arguments)


def _ctc_collapse(random) -> Call:
    alignment = numbers(random).integers(0, 4, random.randint(0, 9))
    return Call("ctc_collapse", {"alignment": alignment, "blank": random.randint(0, 4)})


def _merge_tokens(random) -> Call:
    rng, shape = numbers(random), (random.randint(0, 3), random.randint(0, 9))
    path, scores = rng.integers(0, 4, shape), rng.normal(size=shape).astype(random.choice(FLOATS))
    lengths = rng.integers(0, shape[1], shape[0], endpoint=True)
    arguments: dict[str, Any] = {"path": path, "frame_log_probs": scores}
    if shape[0] == 1 and random.random() < 0.5:
        arguments, lengths = {"path": path[0], "frame_log_probs": scores[0]}, int(lengths[0])
    _maybe(random, arguments, "logit_lengths", lambda: lengths, 0.5)
    return Call("merge_tokens", arguments | {"blank": random.randint(0, 4)})


def _ctc_alignment_log_prob(random) -> Call:
    rng, count, frames, width = numbers(random), random.randint(0, 3), random.randint(0, 5), random.randint(1, 5)
    shape = random.choice(((width,), (frames, width), (count, frames, width)))
    scores = rng.normal(size=shape).astype(random.choice(FLOATS))
    alignments = rng.integers(0, width, (count, frames))
    if random.random() < 0.5:
        alignments = [list(row[: random.randint(0, frames)]) for row in alignments]
    return Call("ctc_alignment_log_prob", {"log_probs": scores, "alignments": alignments})


def _crf(name: str, random) -> Call:
    case = crf_cases.random_case(
        numbers(random), (random.randint(0, 3), random.randint(0, 6), random.randint(1, 5)),
        dtype=random.choice(FLOATS), parameter_dtype=random.choice((None, np.float32, np.float64)),
        scale=random.choice((0.1, 1.0, 10.0)),
        forbidden=random.choice((0, 0, 0.1)), full=random.random() < 0.3,
    )  # fmt: skip
    x, tags, lengths, ends = case.emissions, case.tags, case.lengths, case.ends
    batch, single = len(x), len(x) == 1 and random.random() < 0.5
    arguments: dict[str, Any] = {"emissions": x[0] if single else x}
    if name in ("crf_loss", "structured_hinge_loss", "crf_score"):
        arguments["tags"] = tags[0] if single else tags
    arguments["transitions"] = case.transitions
    if random.random() < 0.2:
        every = numbers(random).normal(size=(*x.shape, x.shape[2])).astype(random.choice(FLOATS))
        arguments["transitions"], case = every[0] if single else every, None
    if random.random() < 0.3:
        mask = np.arange(x.shape[1]) < lengths[:, None]
        if random.random() < 0.5:
            mask, case = mask & (numbers(random).random(mask.shape) < 0.7), None
        arguments["mask"] = mask[0] if single else mask
    else:
        arguments["lengths"] = int(lengths[0]) if single else lengths
    arguments |= ends
    for key in ("start", "end"):
        if random.random() < 0.3:
            del arguments[key]
            case = None if case is None else replace(case, **{key: np.zeros_like(getattr(case, key))})
    if name == "crf_marginals":
        _maybe(random, arguments, "pairwise", lambda: random.choice((True, False)), 0.6)
    if name == "crf_decode":
        _maybe(random, arguments, "n_best", lambda: random.choice((None, 1, 2, 5)), 0.6)
    if name == "crf_score":
        _maybe(random, arguments, "normalize", lambda: random.choice((True, False)), 0.6)
    if name == "structured_hinge_loss":
        _maybe(random, arguments, "cost", lambda: random.choice(("hamming", 1.0 - np.eye(x.shape[2]))))
    if name in ("crf_loss", "structured_hinge_loss"):
        arguments |= _reducing(random, batch, SEQUENCE_REDUCTIONS)
        call = _outputs(random, Call(name, arguments, None if single else case))
        if "grad_out" in call.arguments and random.random() < 0.3:
            call.arguments["grad_out"] = _grad_out_tuple(
                random, call.arguments, fsl.CRFGradient, fsl.CRFGradient._fields
            )
        return call
    _maybe(random, arguments, "num_threads", lambda: random.choice((1, 2, None)), 0.2)
    return Call(name, arguments)


def _ctc_crf(name: str, random) -> Call:
    rng, word = numbers(random), random.choice((0, 1, 2))
    batch, n_frames, n_bases, n_labels = (random.randint(low, high) for low, high in ((0, 3), (0, 6), (1, 3), (0, 4)))
    n_states = n_bases**word if word else random.randint(1, 5)
    x = rng.normal(size=(batch, n_frames, n_states, n_bases + 1), scale=random.choice((0.1, 1.0, 10.0)))
    x = np.where(rng.random(x.shape) < random.choice((0, 0, 0.1)), -np.inf, x).astype(random.choice(FLOATS))
    lengths = rng.integers(0, n_frames + 1, batch)
    x[np.arange(n_frames) >= lengths[:, None]] = np.nan
    single = batch == 1 and random.random() < 0.5
    arguments: dict[str, Any] = {"scores": x[0] if single else x}
    if name == "ctc_crf_loss":
        low, high = (1, n_bases + 1) if word else (0, n_states)
        labels = rng.integers(low, high, (batch, n_labels))
        arguments["labels"] = labels[0] if single else labels
    arguments["lengths"] = int(lengths[0]) if single else lengths
    if not word:
        moves = rng.permuted(np.tile(np.arange(max(n_states, n_bases)), (n_states, 1)), axis=1)[:, :n_bases]
        moves = np.where(moves < n_states, moves, -1)
        arguments["predecessors"] = np.concatenate((np.arange(n_states)[:, None], moves), axis=1)
    if name == "ctc_crf_loss":
        _maybe(random, arguments, "infeasible", lambda: random.choice(("inf", "zero")))
        return _outputs(random, Call(name, arguments | _reducing(random, batch, SEQUENCE_REDUCTIONS)))
    _maybe(random, arguments, "num_threads", lambda: random.choice((1, 2, None)), 0.2)
    return Call(name, arguments)


def _tags(name: str, random) -> Call:
    scheme = random.choice(("BIO", "BIOES", "BIOUL"))
    spans, step = [], 0
    for _ in range(random.randint(0, 3)):
        start = step + random.randint(0, 2)
        step = start + random.randint(1, 3)
        spans.append((random.choice("xy"), start, step))
    length = step + random.randint(0, 2)
    if name == "tags_from_spans":
        return Call(name, {"spans": spans, "length": length, "scheme": scheme})
    arguments: dict[str, Any] = {"tags": fsl.tags_from_spans(spans, length, scheme), "scheme": scheme}
    if name == "tag_constraints":
        arguments["tags"] = sorted(set(arguments["tags"]))
    else:
        _maybe(random, arguments, "strict", lambda: random.choice((True, False)))
    return Call(name, arguments)


def _grad_out_tuple(random, arguments, kind, names) -> tuple[Any, ...]:
    """Arrays for the gradients of the arguments of these names, or None, as a named tuple or not."""
    outs = []
    for name in names:
        given = arguments.get(name)
        if given is None or random.random() < 0.3:
            outs.append(None)
        else:
            outs.append(random.choice((np.copy, step_cases.strided, fuzz_values.subclassed))(np.full_like(given, 7)))
    return random.choice((kind._make, tuple))(outs)


def _rnnt(name: str, random) -> Call:
    classes = random.choice((1, 2, 3, 5, 9, 17))
    case = transducer_cases.random_case(
        numbers(random), (random.randint(0, 3), random.randint(0, 5), random.randint(0, 4), classes),
        blank=random.randint(-classes, classes - 1), variant=random.choice(transducer_cases.VARIANTS),
        dtype=random.choice(FLOATS), scale=random.choice((0.1, 1.0, 10.0)), forbidden=random.choice((0, 0, 0.1)),
        width=random.choice((None, None, 1, 2, 3)), full=random.random() < 0.5,
    )  # fmt: skip
    single = len(case.tokens) == 1 and random.random() < 0.5
    if single:  # without a batch axis
        case = case.sequence(0)
        arguments = {"logits": case.scores[0], "labels": case.tokens[0], "logit_lengths": int(case.lengths[0])}
    else:
        arguments = {"logits": case.scores} | _ctc_labels(random, case) | {"logit_lengths": case.lengths}
    arguments |= case.lattice_options
    if case.ranges is not None:
        arguments["ranges"] = case.ranges[0] if single else case.ranges
    _maybe(random, arguments, "infeasible", lambda: random.choice(("inf", "zero")))
    if name == "rnnt_loss":
        case.fastemit = random.choice((0.0, 0.5, 1))
        arguments["fastemit"] = case.fastemit
        reducing = _reducing(random, len(case.tokens), SEQUENCE_REDUCTIONS)
        return _outputs(random, Call(name, arguments | reducing, None if single else case))
    _maybe(random, arguments, "num_threads", lambda: random.choice((1, 2, None)), 0.2)
    return Call(name, arguments)


def _tdt(random) -> Call:
    shape = (random.randint(0, 3), random.randint(0, 5), random.randint(0, 4), random.choice((1, 2, 3, 5, 9)))
    case = transducer_cases.random_tdt(
        numbers(random), shape, random.choice(transducer_cases.DURATIONS), dtype=random.choice(FLOATS),
        scale=random.choice((0.1, 1.0, 10.0)), sigma=random.choice((0.0, 0.05)), full=random.random() < 0.5,
        blank=random.randint(-shape[3], shape[3] - 1),
    )  # fmt: skip
    arguments = {"logits": case.logits, "duration_logits": case.duration_logits}
    arguments |= _ctc_labels(random, case) | {"logit_lengths": case.lengths} | case.options
    _maybe(random, arguments, "infeasible", lambda: random.choice(("inf", "zero")))
    return _paired_outputs(random, Call("tdt_loss", arguments | _reducing(random, shape[0], SEQUENCE_REDUCTIONS), case))


def _simple(name: str, random) -> Call:
    rng, classes = numbers(random), random.choice((1, 2, 3, 5, 9, 17))
    shape = (random.randint(0, 3), random.randint(0, 5), random.randint(0, 4), classes)
    case = transducer_cases.random_case(rng, shape, full=random.random() < 0.5, blank=random.randint(0, classes - 1))
    am, lm = transducer_cases.additive(rng, case, random.choice(FLOATS), random.choice((0.1, 1.0, 10.0)))
    if random.random() < 0.2:
        lm = lm.astype(random.choice(FLOATS))
    arguments = {"am": am, "lm": lm} | _ctc_labels(random, case) | {"logit_lengths": case.lengths, "blank": case.blank}
    _maybe(random, arguments, "topology", lambda: random.choice(("regular", "modified")))
    _maybe(random, arguments, "infeasible", lambda: random.choice(("inf", "zero")))
    if name == "rnnt_simple_loss":
        _maybe(random, arguments, "fastemit", lambda: random.choice((0.0, 0.5, 1)))
        reducing = _reducing(random, shape[0], SEQUENCE_REDUCTIONS)
        return _paired_outputs(random, Call(name, arguments | reducing))
    _maybe(random, arguments, "num_threads", lambda: random.choice((1, 2, None)), 0.2)
    return Call(name, arguments)


def _paired_outputs(random, call: Call) -> Call:
    """With gradients of two arguments, into arrays or not."""
    kind = {"tdt_loss": fsl.TDTGradient, "rnnt_simple_loss": fsl.RNNTSimpleGradient}[call.name]
    call = _outputs(random, call)
    if "grad_out" in call.arguments:
        call.arguments["grad_out"] = _grad_out_tuple(random, call.arguments, kind, [*call.arguments][:2])
    return call


def _words(random) -> Call:
    rng, labels = numbers(random), [random.randint(1, 3) for _ in range(random.randint(0, 6))]
    spans = [fsl.TokenSpan(label, 2 * i, 2 * i + random.randint(1, 2), -rng.random()) for i, label in enumerate(labels)]
    arguments: dict[str, Any] = {"spans": random.choice((list, tuple))(spans)}
    rule = random.choice(("separator", "word_lengths", "vocabulary"))
    if rule == "vocabulary" or random.random() < 0.3:
        arguments["vocabulary"] = random.choice(VOCABULARIES)
    if rule == "separator":
        arguments["separator"] = random.randint(0, 4)
    elif rule == "word_lengths":
        cuts = sorted(random.sample(range(1, len(labels)), random.randint(0, len(labels) - 1))) if labels else []
        arguments["word_lengths"] = np.diff([0, *cuts, len(labels)]) if labels else np.zeros(0, np.int64)
    _maybe(random, arguments, "confidences", lambda: rng.random(len(labels)).astype(random.choice(FLOATS)))
    _maybe(random, arguments, "frame_seconds", lambda: random.choice((0.02, 1)))
    return Call("words_from_spans", arguments)


def _prune_ranges(random) -> Call:
    rng, shape = numbers(random), (random.randint(0, 3), random.randint(0, 6), random.randint(1, 5))
    lengths = rng.integers(0, shape[1], shape[0], endpoint=True)
    width = random.randint(2, 4)
    most = np.minimum(shape[2] - 1, np.maximum(lengths, 1) * (width - 1))
    arguments = {
        "posteriors": (rng.random(shape).astype(random.choice(FLOATS)), rng.random(shape)),
        "width": width,
        "logit_lengths": lengths,
        "label_lengths": rng.integers(0, most, endpoint=True),
    }
    return Call("rnnt_prune_ranges", arguments)


def _rnnt_greedy(random) -> Call:
    rng, classes, frames = numbers(random), random.randint(1, 5), (random.randint(0, 3), random.randint(0, 5))
    table, blank = rng.normal(size=(classes, classes)), random.randint(0, classes - 1)

    def predict(labels, states):
        """Scores that allow only the blank after three labels, so that decoding ends for any `max_symbols`."""
        counts = [0 if state is None else state + 1 for state in states]
        full = 99 * (np.array(counts)[:, None] >= 3) * (np.arange(classes) == blank)
        return table[labels % classes] + full, counts

    def join(rows, predictions):
        """Scores for rows of any width and values, because invalid arrays may have other shapes."""
        with np.errstate(all="ignore"):
            return np.array([np.resize(row, classes) for row in rows]) + predictions

    arguments = {
        "encoded": rng.normal(size=(*frames, classes)).astype(random.choice(FLOATS)),
        "predict": predict,
        "join": join,
        "blank": blank,
    }
    _maybe(random, arguments, "logit_lengths", lambda: rng.integers(0, frames[1], frames[0], endpoint=True))
    _maybe(random, arguments, "max_symbols", lambda: random.choice((0, 1, 3)))
    return Call("rnnt_greedy_decode", arguments)


def _soft_dtw(name: str, random) -> Call:
    case = soft_dtw_cases.random_case(
        numbers(random), (random.randint(0, 3), random.randint(1, 9), random.randint(1, 9), random.randint(1, 4)),
        dtype=random.choice(FLOATS), scale=random.choice((0.1, 1.0, 5.0)), gamma=random.choice((0.1, 1.0, 10.0)),
        band=random.choice((None, None, 0, 2, 4)), full=random.random() < 0.3,
    )  # fmt: skip
    if random.random() < 0.3:
        case.y = case.y.astype(random.choice(FLOATS))
    arguments: dict[str, Any] = {"x": case.x, "y": case.y}
    if name == "soft_dtw_cost":
        arguments = {"costs": case.costs.astype(case.x.dtype)}
    lengths = {"lengths_x": case.lengths_x, "lengths_y": case.lengths_y}
    batch, single = len(case.x), len(case.x) == 1 and random.random() < 0.5
    if single:
        arguments = {key: value[0] for key, value in arguments.items()}
        lengths = {key: int(value[0]) for key, value in lengths.items()}
    arguments |= lengths | {"gamma": case.gamma}
    _maybe(random, arguments, "band", lambda: case.band, 1.0 if case.band is not None else 0.3)
    if name == "soft_dtw_posteriors":
        _maybe(random, arguments, "num_threads", lambda: random.choice((1, 2, None)), 0.2)
        return Call(name, arguments)
    arguments |= _reducing(random, batch, SEQUENCE_REDUCTIONS)
    if name == "soft_dtw_cost":
        return _outputs(random, Call(name, arguments))
    _maybe(random, arguments, "divergence", lambda: random.choice((True, False)), 0.4)
    call = _outputs(random, Call(name, arguments, None if single else case))
    if "grad_out" in call.arguments:
        kind = fsl.SoftDTWGradient
        call.arguments["grad_out"] = _grad_out_tuple(random, call.arguments, kind, kind._fields)
    return call


def _linear(name: str, random) -> Call:
    rng, dtype = numbers(random), random.choice(FLOATS)
    shape, classes = (*(random.randint(0, 4) for _ in range(2)), random.randint(1, 5)), random.choice((1, 2, 5, 9, 40))
    options: dict[str, Any] = {}
    _maybe(random, options, "scale", lambda: random.choice((0.3, 1, np.float32(2))))
    _maybe(random, options, "softcap", lambda: random.choice((None, 0.5, 30)))
    _maybe(random, options, "chunk", lambda: random.choice((1, 2, 5, 100, None)))
    given = {"dtype": dtype, "bias": random.random() < 0.5, "size": random.choice((0.1, 1.0, 10.0))}
    given["weight_dtype"] = random.choice(FLOATS) if random.random() < 0.2 else dtype
    if name == "linear_ctc_loss":
        options["blank"] = random.randint(-classes, classes - 1)
        _maybe(random, options, "infeasible", lambda: random.choice(("inf", "zero")))
        options |= _reducing(random, shape[0], SEQUENCE_REDUCTIONS)
        case = linear_cases.ctc(rng, shape, classes, random.randint(0, 3), given=given, **options)
    else:
        case = _linear_steps(name, random, shape[random.choice((0, 0, 1, 2)) :], classes, given, options)
    first = {name: case.arguments[name] for name in ("hidden", "weight")}
    call = _outputs(random, Call(name, first | case.arguments, case))
    if "grad_out" in call.arguments:
        call.arguments["grad_out"] = _grad_out_tuple(random, call.arguments, fsl.LinearGradient, linear_cases.OF_LAYER)
    return call


def _linear_steps(name: str, random, shape, classes, given, options) -> linear_cases.Case:
    """A problem of a loss at every step of a linear layer, of hidden states of this shape."""
    rng, batch = numbers(random), shape[0] if len(shape) > 1 else 1
    if name != "linear_sequence_log_prob":
        options |= _reducing(random, batch, REDUCTIONS, [shape[:-1]] if len(shape) > 2 else [])
    if name == "linear_cross_entropy":
        _maybe(random, options, "label_smoothing", lambda: random.choice((0.0, 0.1, 1.0)))
        _maybe(random, options, "z_loss", lambda: random.choice((0.0, 1e-4, 0.3)))
        _maybe(random, options, "class_weight", lambda: rng.choice([0.0, 0.25, 1.0, 3.0], classes))
    case = linear_cases.cross_entropy(
        rng, shape, classes, lengths=random.random() < 0.5, mask=random.random() < 0.3,
        ignored=random.choice((0, 0.3)) if name != "linear_policy_loss" else 0.0, given=given, **options,
    )  # fmt: skip
    more: dict[str, Any] = {}
    if name == "linear_sequence_log_prob":
        _maybe(random, more, "average", lambda: random.choice((False, True)))
        _maybe(random, more, "slopes", lambda: np.resize(random.choices((0.0, 1.0, -0.5, 3.0), k=max(1, batch)),
                                                         shape[:-1][:1]))  # fmt: skip
        return linear_cases.log_prob(case, **more)
    if name == "linear_policy_loss":
        _maybe(random, more, "entropy_coef", lambda: random.choice((0.0, 0.1, 1)))
        clipped, divergence = random.random() < 0.5, given["size"] < 1 and random.random() < 0.3  # it grows as exp
        if clipped:
            _maybe(random, more, "clip", lambda: random.choice((0.2, (0.1, 0.3), np.array([0.2, 0.2]), None)))
        return linear_cases.policy(rng, case, clipped=clipped, divergence=divergence, **more)
    return case


def _policy(name: str, random) -> Call:
    rng = numbers(random)
    steps = tuple(random.randint(0, 3) for _ in range(random.choice((2, 2, 1, 3))))
    width = random.choice((1, 2, 3, 5, 9, 17))
    logits = rng.normal(scale=random.choice((0.1, 1.0, 10.0)), size=(*steps, width)).astype(random.choice(FLOATS))
    arguments = {"logits": logits, "actions": rng.integers(0, width, steps)}
    if name == "clipped_policy_loss":
        arguments["old_log_probs"] = -rng.random(steps)
        bounds = (0.2, (0.1, 0.3), (0, 0), np.array([0.2, 0.2]), [1, 9])
        _maybe(random, arguments, "clip", lambda: random.choice(bounds))
        _maybe(random, arguments, "kind", lambda: random.choice(("ppo", "gspo", "cispo")))
        if arguments.get("kind") != "cispo":
            _maybe(random, arguments, "dual_clip", lambda: random.choice((1, 3.0)))
    arguments["advantages"] = rng.normal(size=steps if random.random() < 0.7 else steps[:1])
    if len(steps) > 1:
        _maybe(random, arguments, "lengths", lambda: rng.integers(0, steps[1], steps[0], endpoint=True))
    _maybe(random, arguments, "mask", lambda: np.asarray(rng.random(steps) > 0.3))
    _maybe(random, arguments, "entropy_coef", lambda: random.choice((0.0, 0.1, 1)))
    if random.random() < 0.3:
        arguments |= {"ref_log_probs": -rng.random(steps), "kl_coef": random.choice((0, 0.1, 1.0))}
        _maybe(random, arguments, "kl_kind", lambda: random.choice(("k1", "k2", "k3")))
    _maybe(random, arguments, "entropy_mask", lambda: np.asarray(rng.random(steps) > 0.3))
    _maybe(random, arguments, "max_log_ratio", lambda: random.choice((0, 0.1, 20)))
    _maybe(random, arguments, "diagnostics", fsl.PolicyDiagnostics)
    reducing = _reducing(random, steps[0], REDUCTIONS, [steps] if len(steps) > 1 else [])
    return _outputs(random, Call(name, arguments | reducing))


def _risk(random) -> Call:
    rng, shape = numbers(random), (random.randint(0, 3), random.randint(1, 4))[random.choice((0, 0, 1)) :]
    arguments = {"log_probs": -rng.random(shape).astype(random.choice(FLOATS)), "risks": rng.random(shape)}
    width, batch = shape[-1], shape[0] if len(shape) > 1 else 1
    lengths = rng.integers(0, width, shape[:-1], endpoint=True)
    _maybe(random, arguments, "lengths", lambda: lengths)
    _maybe(random, arguments, "mask", lambda: np.asarray(rng.random(shape) > 0.3))
    _maybe(random, arguments, "sharpness", lambda: random.choice((0.1, 1, 5.0)))
    return _outputs(random, Call("expected_risk_loss", arguments | _reducing(random, batch, ("none", "sum", "mean"))))


def _preference(name: str, random) -> Call:
    rng, shape = numbers(random), ((random.randint(0, 3),), ())[random.choice((0, 0, 1))]
    first, second = -rng.exponential(random.choice((0.1, 1.0, 100.0)), (2, *shape, 1))[..., 0]
    first = np.array(first, random.choice(FLOATS))
    ref = {f"ref_{which}": -rng.exponential(10.0, (*shape, 1))[..., 0] for which in ("chosen", "rejected", "log_probs")}
    options: dict[str, Any] = {}
    _maybe(random, options, "beta", lambda: random.choice((0.1, 1, np.float32(2))))
    if name == "kto_loss":
        arguments: dict[str, Any] = {"log_probs": first, "desirable": np.asarray(rng.random((*shape, 1))[..., 0] > 0.5)}
        _maybe(random, arguments, "ref_log_probs", lambda: np.asarray(ref["ref_log_probs"]))
        for key in ("kl", "desirable_weight", "undesirable_weight"):
            _maybe(random, options, key, lambda: random.choice((0, 0.5, np.float64(3))))
    else:
        arguments = {"chosen": first, "rejected": np.array(second, random.choice((first.dtype, np.float64)))}
    if name in ("dpo_loss", "simpo_loss"):
        _maybe(random, options, "label_smoothing", lambda: random.choice((0, 0.1, 0.5)))
    if name == "dpo_loss":
        _maybe(random, options, "kind", lambda: random.choice(("sigmoid", "ipo", "hinge")))
        if random.random() < 0.5:
            arguments |= {key: np.asarray(ref[key]) for key in ("ref_chosen", "ref_rejected")}
    elif name != "kto_loss":
        _maybe(
            random, options, {"simpo_loss": "margin", "orpo_loss": "nll_coef"}[name], lambda: random.choice((0, 1.5))
        )
    reducing = _reducing(random, math.prod(shape), ("none", "sum", "mean"))
    call = _outputs(random, Call(name, arguments | options | reducing))
    if "grad_out" in call.arguments and name != "kto_loss":
        kind = fsl.PreferenceGradient
        call.arguments["grad_out"] = _grad_out_tuple(random, call.arguments, kind, kind._fields)
    return call


def _ctc_risk(random) -> Call:
    case = _ctc_case(random)
    rng, batch, (*_, classes) = numbers(random), len(case.tokens), case.scores.shape
    shape, width = (batch, random.randint(0, 4)), case.labels.shape[1]
    sizes = rng.integers(0, width if classes > 1 else 0, shape, endpoint=True)
    labels = np.full((*shape, width), cases.JUNK)
    for at in np.ndindex(shape):
        labels[at][: sizes[at]] = cases.random_tokens(rng, sizes[at], classes, case.blank % classes, 0.3)
    risks, counted = rng.normal(size=shape), np.asarray(rng.random(shape) > 0.3)
    arguments: dict[str, Any] = {"logits": case.scores, "labels": labels, "risks": risks}
    arguments |= {"logit_lengths": case.lengths, "label_lengths": sizes} | case.options
    if ((sizes == 0).sum(axis=1) > 1).any() or random.random() < 0.3:
        arguments["mask"] = counted
    if batch == 1 and random.random() < 0.5:
        names = ("logits", "labels", "risks", "label_lengths", "mask")
        arguments |= {name: arguments[name][0] for name in names if name in arguments}
        arguments["logit_lengths"] = int(case.lengths[0])
    _maybe(random, arguments, "sharpness", lambda: random.choice((0.1, 1, 5.0)))
    return _outputs(random, Call("ctc_risk_loss", arguments | _reducing(random, batch, ("none", "sum", "mean"))))


def _ranked(name: str, random) -> Call:
    rng, shape = numbers(random), (random.randint(0, 3), random.choice((0, 1, 2, 4, 9, 40)))
    weighted = name in ranking_cases.WEIGHTED and random.random() < 0.3
    case = ranking_cases.random_case(
        rng, name, shape, dtype=random.choice(FLOATS), scale=random.choice((0.1, 1.0, 10.0)),
        levels=random.choice((0, 1, 3, 20)), lengths=random.random() < 0.5, holes=random.choice((0, 0, 0.3)),
        weighted=weighted, **random.choice(ranking_cases.OPTIONS.get(name, [{}])),
    )  # fmt: skip
    if name not in ranking_cases.TARGETS and random.random() < 0.5 and case.counting().all():
        case.truth = case.truth.astype(random.choice((np.float32, np.int64, np.uint8)))
    case.reducing = _reducing(random, shape[0], ranking_cases.REDUCTIONS[name])
    return _outputs(random, Call(name, case.arguments, case))


def _returns(name: str, random) -> Call:
    rng, shape = numbers(random), (random.randint(0, 3), random.randint(0, 5))[random.choice((0, 0, 1)) :]
    arguments: dict[str, Any] = {"rewards": rng.normal(size=shape).astype(random.choice(FLOATS))}
    if name == "retrace_returns":
        arguments["action_values"] = rng.normal(size=shape)
    if name != "discounted_returns":
        arguments["values"] = rng.normal(size=shape)
    if name in ("vtrace_returns", "retrace_returns"):
        arguments["log_ratios"] = np.where(rng.random(shape) < 0.1, -np.inf, rng.normal(size=shape))
    if name == "vtrace_returns":
        _maybe(random, arguments, "clip_ratio", lambda: random.choice((0, 1, 3.5)))
        _maybe(random, arguments, "clip_trace", lambda: random.choice((0, 0.5, 1)))
    if name == "n_step_returns":
        arguments["n"] = random.choice((1, 2, 3, np.int64(9)))
    elif name != "discounted_returns":
        _maybe(random, arguments, "decay", lambda: random.choice((0, 0.5, 1.0, rng.random(shape))))
    _maybe(random, arguments, "lengths", lambda: rng.integers(0, shape[-1], shape[:-1], endpoint=True))
    _maybe(random, arguments, "discount", lambda: random.choice((0, 0.9, 1.0, rng.random(shape))))
    _maybe(random, arguments, "done", lambda: np.asarray(rng.random(shape) > 0.7))
    if random.random() < 0.3:
        arguments |= {"truncated": np.asarray(rng.random(shape) > 0.7), "bootstrap_values": rng.normal(size=shape)}
    _maybe(random, arguments, "final_values", lambda: rng.normal(size=shape[:-1]))
    return Call(name, arguments)


def _group_advantages(random) -> Call:
    rng, shape = numbers(random), (random.randint(0, 3), random.randint(2, 5))[random.choice((0, 0, 1)) :]
    arguments: dict[str, Any] = {"rewards": rng.choice([0, 0.5, 1.0], shape).astype(random.choice(FLOATS))}
    _maybe(random, arguments, "scale", lambda: random.choice(("group", "batch", "none")))
    _maybe(random, arguments, "ddof", lambda: random.choice((0, 1)))
    _maybe(random, arguments, "eps", lambda: random.choice((0, 1e-4)))
    if random.random() < 0.4:
        arguments["baseline"] = random.choice(("mean", "leave_one_out"))
    elif random.random() < 0.5:
        arguments["groups"] = rng.integers(-1, 2, shape)
    return Call("group_advantages", arguments)


# ---- functions of functions, settings, pictures -------------------------------------------------


def _penalty(x):
    with np.errstate(all="ignore"):
        return float((np.asarray(x, np.float64) ** 2).sum()), 2 * x


RESULTS = (
    (1.0, np.zeros((2, 3))), (1.0, np.zeros(2)), 1.0, None, (), (1.0,), ("a", np.zeros((2, 3))), (np.zeros(2), None),
    (np.nan, np.full((2, 3), np.nan)), (1, [[0, 0, 0]] * 2), (1.0, "abc"), (1j, np.zeros((2, 3), complex)),
    (1.0, np.zeros((2, 3), object)), (True, np.zeros((2, 3), bool)), (None, None), [1.0, np.zeros((2, 3))],
    (1.0, [[1], 2]),
    (np.array([1.0]), np.zeros((2, 3))), (10**400, np.zeros((2, 3))), (1.0, np.zeros((2, 3), "M8[s]")),
    ("", ""), (1.0, np.ma.ones((2, 3))), (1.0, np.full((2, 3), 1e300)), (-1.0, np.zeros((2, 3), np.float32)),
)  # fmt: skip


def loss_function(random) -> Any:
    """A loss of scores [2, 3], or an invalid function."""
    return random.choice((
        _penalty, partial(fsl.softmax_cross_entropy, targets=[0, 1]), partial(fsl.mse_loss, targets=np.ones((2, 3))),
        partial(fsl.ctc_loss, labels=[1]), fsl.weighted_sum([(2, _penalty)]),
    ))  # fmt: skip


def strange_function(random) -> Any:
    result = random.choice(RESULTS)
    return random.choice((
        lambda x: result, lambda x, return_grad=False, grad_out=None: result,
        partial(fsl.crf_loss, tags=[0, 1], transitions=np.zeros((3, 3))), partial(fsl.ctc_loss, labels=[3]),
        partial(fsl.mse_loss, targets=np.ones((2, 3)), reduction="none"),
    ))  # fmt: skip


def _weighted_sum(random) -> Call:
    terms = [(random.choice((0, 0.5, 1, -2.0)), loss_function(random)) for _ in range(random.randint(1, 3))]
    return Call("weighted_sum", {"terms": random.choice((list, tuple))(terms)})


def _check_grad(random) -> Call:
    x = numbers(random).normal(size=(2, 3)).astype(random.choice(FLOATS))
    call = Call("check_grad", {"loss_fn": loss_function(random), "x": x})
    _maybe(random, call.arguments, "rng", lambda: 0)
    return call


def _runtime(name: str, random) -> Call:
    return Call(name, {"num_threads": random.choice((None, 1, 2, np.int8(3)))} if name == "set_num_threads" else {})


@cache
def _axes():
    from matplotlib.figure import Figure

    return Figure(layout="constrained").subplots()


def _plot(name: str, random) -> Call:
    rng, frames, count = numbers(random), random.randint(0, 9), random.randint(0, 3)
    axes = _axes()
    axes.clear()
    arguments: dict[str, Any]
    if name == "plot.plot_posteriors":
        arguments = {"posteriors": rng.random((frames, 2 * count + 1)), "labels": rng.integers(0, 4, count)}
        _maybe(random, arguments, "kind", lambda: random.choice(("auto", "curves", "image")))
    elif name == "plot.plot_alignment":
        spans = [fsl.TokenSpan(random.randint(0, 3), 2 * i, 2 * i + random.randint(1, 2), -0.1) for i in range(count)]
        arguments = {"spans": spans}
        _maybe(random, arguments, "frames", lambda: random.choice((8, 20)))
        if random.random() < 0.3:
            arguments["waveform"] = rng.normal(size=random.randint(0, 9))
        elif random.random() < 0.3:
            arguments["image"] = rng.random((3, 4))
    elif name == "plot.plot_alignment_path":
        arguments = {"posteriors": rng.random((frames, count))}
        if frames and count:
            _maybe(random, arguments, "path", lambda: rng.integers(0, (frames, count), (random.randint(0, 4), 2)))
        return Call(name, arguments | {"ax": axes})
    else:
        arguments = {"losses": rng.random(frames)}
        _maybe(random, arguments, "validation", lambda: rng.random(count))
        _maybe(random, arguments, "smooth", lambda: random.choice((1, 2, 20)))
    if name != "plot.plot_loss":
        _maybe(random, arguments, "names", lambda: random.choice(("abcd", ["x", "y"], {0: "zero"})))
        _maybe(random, arguments, "frame_seconds", lambda: random.choice((0.02, 1)))
    return Call(name, arguments | {"ax": axes})


DECODERS = ("ctc_greedy_decode", "ctc_beam_search")
PREFERENCES = ("dpo_loss", "simpo_loss", "orpo_loss", "kto_loss")
RETURNS = ("discounted_returns", "generalized_advantages", "n_step_returns", "vtrace_returns", "retrace_returns")
OF_LATTICES = ("ctc_loss", "ctc_entropy", "ctc_posteriors", "ctc_confidences", "ctc_align")
CTC_CRF = ("ctc_crf_loss", "ctc_crf_log_partition", "ctc_crf_posteriors", "ctc_crf_decode")
PLOTS = ("plot.plot_posteriors", "plot.plot_alignment", "plot.plot_alignment_path", "plot.plot_loss")
STRATEGIES: dict[str, Callable[[Any], Call]] = {
    **{name: partial(_steps_loss, name) for name in step_cases.NAMES},
    "gaussian_nll_loss": _gaussian,
    **{row.function: partial(_vectors, row) for row in VECTORS.values()},
    "sequence_log_prob": _log_prob,
    **{name: partial(_ctc, name) for name in (*OF_LATTICES, *DECODERS)},
    "ctc_align_windows": _windows,
    "ctc_feasible": _ctc_feasible,
    **{name: partial(_rnnt, name) for name in ("rnnt_loss", "rnnt_posteriors", "rnnt_align")},
    **{name: partial(_simple, name) for name in ("rnnt_simple_loss", "rnnt_simple_posteriors")},
    "tdt_loss": _tdt,
    "rnnt_prune_ranges": _prune_ranges,
    "words_from_spans": _words,
    "read_arpa": _read_arpa,
    "rnnt_greedy_decode": _rnnt_greedy,
    "ctc_collapse": _ctc_collapse,
    "merge_tokens": _merge_tokens,
    "ctc_alignment_log_prob": _ctc_alignment_log_prob,
    **{
        name: partial(_crf, name)
        for name in (
            *("crf_loss", "structured_hinge_loss", "crf_log_partition", "crf_marginals", "crf_decode", "crf_score"),
        )
    },
    **{name: partial(_ctc_crf, name) for name in CTC_CRF},
    **{name: partial(_tags, name) for name in ("tag_constraints", "spans_from_tags", "tags_from_spans")},
    **{name: partial(_soft_dtw, name) for name in ("soft_dtw_loss", "soft_dtw_cost", "soft_dtw_posteriors")},
    **{name: partial(_linear, name) for name in linear_cases.EVERY},
    **{name: partial(_policy, name) for name in ("policy_gradient_loss", "clipped_policy_loss")},
    "expected_risk_loss": _risk,
    **{name: partial(_preference, name) for name in PREFERENCES},
    "ctc_risk_loss": _ctc_risk,
    **{name: partial(_ranked, name) for name in ranking_cases.NAMES},
    **{name: partial(_returns, name) for name in RETURNS},
    "group_advantages": _group_advantages,
    "weighted_sum": _weighted_sum,
    "check_grad": _check_grad,
    **{name: partial(_runtime, name) for name in ("get_num_threads", "set_num_threads", "show_config")},
    **{name: partial(_plot, name) for name in PLOTS},
}
SELDOM = {"show_config", "get_num_threads", *PLOTS}
