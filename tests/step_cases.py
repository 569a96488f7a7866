"""Batches for the per-step losses, and how closely an answer must agree with the reference."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import hypothesis.strategies as st
import ml_dtypes
import numpy as np

import fastseqloss as fsl
from cases import HALF, KINDS, scores_like
from fastseqloss.steps.registry import COUNTS, DISTRIBUTIONS, LOSSES, SHARES, SIGNS, StepLoss
from reference import steps as reference_steps
from reference.steps import CLASSIFICATION, NAMES

DTYPES = (np.float32, np.float64)
FLOATS = (*DTYPES, *HALF)
SCALES = (0.1, 1.0, 10.0, 1e2, 1e4)
THREADS = (1, 2, 4)
REDUCTIONS = ("none", "per_sequence", "step_mean", "sum", "mean", "sequence_mean", "batch_mean")
INTEGERS = [np.dtype(c) for c in "bBhHiIlLqQ"]
FIRST = {row.function: row.scores for row in LOSSES.values()}
TARGETS = {row.function: row.targets for row in LOSSES.values()}
LOG_LINK = ("poisson_nll_loss", "tweedie_loss")  # exponentials of the predictions
BY_PRECISION = ("log_cosh_loss", *LOG_LINK, "binary_focal_loss")  # computed in float32 only if targets fit

MORE = {  # options that are no parameters of the registry, and their values
    "binary_cross_entropy": {"label_smoothing": (0.0, 0.1, 1.0)},
    "binary_focal_loss": {"alpha": (None, 0.0, 0.25, 1.0)},
    "poisson_nll_loss": {"full": (False, True)},
}


def rows_of(name: str) -> list[StepLoss]:
    """The losses that a public function computes, the one without options first."""
    return [row for row in LOSSES.values() if row.function == name]


def parameter_values(row: StepLoss, rng: np.random.Generator, shape: tuple[int, ...]) -> list:
    """Values of the parameter of a loss for scores of this shape: small, large, arrays; empty without a parameter."""
    if row.parameter is None:
        return []
    _, least, most, open_ends, broadcasts = row.parameter
    values = [least + 0.01, least + 0.7, least + 5.0] if np.isinf(most) else [0.9 * least + 0.1 * most, most - 0.1]
    values += [] if open_ends else [least]
    span = min(most - least, 3.0)
    if not broadcasts:
        return values
    shapes = {shape[-1:], shape[1:], shape, (*shape[:-1], 1), (1,)}
    return values + [rng.uniform(least + 0.05 * span, least + 0.95 * span, each) for each in sorted(shapes)]


@dataclass
class Case:
    """A batch and its options. Whatever does not count is NaN or junk: it may never be read."""

    name: str
    scores: np.ndarray  # [..., V] or [B, T, D...]
    targets: np.ndarray
    lengths: np.ndarray | None = None
    mask: np.ndarray | None = None
    options: dict = field(default_factory=dict)
    reducing: dict = field(default_factory=lambda: {"reduction": "none"})

    def run(self, **options):
        options = {"return_grad": True} | self.options | self.reducing | options
        return getattr(fsl, self.name)(self.scores, self.targets, self.lengths, mask=self.mask, **options)

    def reduced(self, **reducing) -> "Case":
        return replace(self, reducing=reducing)

    def sequence(self, b: int) -> "Case":
        """Sequence b as a batch of one."""
        lengths, mask = (None if a is None else a[b : b + 1] for a in (self.lengths, self.mask))
        targets, scores = self.targets[b : b + 1], self.scores[b : b + 1]
        weight = self.reducing.get("sample_weight")
        reducing = self.reducing | ({} if weight is None else {"sample_weight": weight[b : b + 1]})
        options = {name: self._of_sequence(value, b) for name, value in self.options.items()}
        return Case(self.name, scores, targets, lengths, mask, options, reducing)

    def _of_sequence(self, option, b: int):
        """Value of an option for sequence b: its part if it has an axis of sequences."""
        own = self.name not in CLASSIFICATION and np.ndim(option) == self.scores.ndim > 1
        return option[b : b + 1] if own and len(option) > 1 else option

    @property
    def of_features(self) -> bool:
        """True if the mask or the weights have an axis of features."""
        weight = self.reducing.get("sample_weight")
        return self.name not in CLASSIFICATION and max(np.ndim(self.mask), np.ndim(weight)) > 2

    @property
    def steps_shape(self) -> tuple[int, ...]:
        """Shape of the steps, or of the features if they count separately."""
        if self.name in CLASSIFICATION:
            return self.scores.shape[:-1]
        return self.scores.shape if self.of_features else self.scores.shape[:2]

    @cached_property
    def counts(self) -> np.ndarray:
        counts = reference_steps.counting(self.steps_shape, self.lengths, self.mask)
        if self.name in CLASSIFICATION and self.targets.dtype.kind in "iu":
            counts &= self.targets != self.options.get("ignore_index", -100)
        return counts

    @cached_property
    def steps(self) -> reference_steps.Steps:
        given = {"of_features": True} if self.of_features else {}
        return reference_steps.steps(
            self.name, self.scores, self.targets, self.lengths, self.mask, **given, **self.options
        )

    def check(self, loss, gradient) -> None:
        """The answer is correct within the accuracy of the dtype of the scores, and 0 where nothing counts.

        float32: loss within 1e-6 of it, gradient within 2e-7 of the terms that it is the sum of. float64: 1e-12, plus
        what no float64 arithmetic avoids: x - max rounds to eps |x|. Half precision: as float32, then rounded.
        """
        steps, dtype = self.steps, self.scores.dtype
        expected, slope = reference_steps.reduce(steps, **self.reducing)
        assert np.shape(loss) == expected.shape
        assert loss.dtype == np.float64 if expected.ndim else isinstance(loss, float)
        assert (gradient.dtype, gradient.shape) == (dtype, self.scores.shape)
        assert not gradient[~self.counts].any()

        largest = np.abs(self.scores[self.counts].astype(np.float64))
        rounding = np.finfo(np.float64).eps * largest[np.isfinite(largest)].max(initial=0)
        relative, absolute = (1e-12, 1e-12) if dtype == np.float64 else (1e-6, 2e-7)
        size = np.maximum(1, np.where(np.isfinite(steps.size), steps.size, 1))
        per_step = size.reshape(*steps.loss.shape, -1).max(axis=-1) if size.size else np.ones(steps.loss.shape)
        share = 1 / np.prod(self.scores.shape[2:]) if steps.of_features else 1.0
        tolerance = relative * (np.abs(steps.loss) + self.constant() + 0.3 * share) + 8 * rounding * per_step
        tolerance = np.where(self.counts.reshape(tolerance.shape), tolerance, 0)  # weights are anything elsewhere
        allowed = replace(steps, loss=np.where(np.isfinite(tolerance), tolerance, 0), gradient=size)
        loss_tolerance, gradient_tolerance = reference_steps.reduce(allowed, **self.reducing)
        assert_within(loss, expected, loss_tolerance, "loss")
        assert_gradient(gradient, slope, (absolute + 8 * rounding) * gradient_tolerance)

    def constant(self) -> np.ndarray | float:
        """The size of a term that depends on the targets alone and that the rest of a loss may cancel."""
        if self.name != "poisson_nll_loss" or not self.options.get("full"):
            return 0.0
        targets = np.array(self.targets, np.float64)
        targets[~self.counts] = 0
        terms = targets * np.log(np.maximum(targets, 1))
        return terms.reshape(*self.steps.loss.shape, -1).mean(axis=-1) if terms.size else 0.0


@dataclass
class LogProbCase(Case):
    """The same for `sequence_log_prob`; `reducing` has `average` and `slopes`."""

    def check(self, log_prob, gradient) -> None:
        """The answer is correct within the accuracy of the dtype of the scores, and 0 where nothing counts."""
        expected, slope = reference_steps.sequence_log_prob(
            self.scores, self.targets, self.lengths, self.mask, **self.options, **self.reducing
        )
        assert np.shape(log_prob) == expected.shape
        assert isinstance(log_prob, np.ndarray if expected.ndim else float)
        assert (gradient.dtype, gradient.shape) == (self.scores.dtype, self.scores.shape)
        assert not gradient[~self.counts].any()
        assert not np.signbit(np.asarray(log_prob)[expected == 0]).any()
        largest = np.abs(self.scores[self.counts].astype(np.float64))
        rounding = np.finfo(np.float64).eps * largest[np.isfinite(largest)].max(initial=0)
        relative, absolute = (1e-12, 1e-12) if self.scores.dtype == np.float64 else (1e-6, 4e-7)
        counts = self.counts.sum(axis=tuple(range(1, self.counts.ndim)))
        size = np.where(np.isfinite(expected), np.abs(expected), 0)
        assert_within(log_prob, expected, relative * (size + 0.3) + (relative + 8 * rounding) * counts, "log_prob")
        slopes = np.abs(self.reducing.get("slopes", 1.0))
        size = np.reshape(slopes, np.shape(slopes) + (1,) * (slope.ndim - 1)) if np.ndim(slopes) else slopes
        # The derivative by a probability is 1 / p.
        size = size + np.where(np.isfinite(slope), np.abs(slope), 0)
        assert_gradient(gradient, slope, (absolute + 8 * rounding) * size)


def assert_gradient(gradient, expected, tolerance) -> None:
    """Within `tolerance`, and the rounding to the dtype of the gradient; beyond its range, infinite."""
    info = ml_dtypes.finfo(gradient.dtype)
    if gradient.dtype in HALF:
        tolerance = tolerance + np.abs(expected) * float(info.eps) * 0.51 + float(info.smallest_subnormal)
    gradient = gradient.astype(np.float64)
    beyond = np.abs(expected) > 0.99 * float(info.max)
    assert np.all(np.abs(gradient[beyond]) > 0.98 * float(info.max))
    assert np.all(np.sign(gradient[beyond]) == np.sign(expected[beyond]))
    gradient, expected, tolerance = (np.where(beyond, 0, a) for a in (gradient, expected, tolerance))
    assert_within(gradient, expected, tolerance, "gradient")


def assert_within(actual, expected, tolerance, name) -> None:
    actual, expected, tolerance = np.broadcast_arrays(actual, expected, tolerance)
    with np.errstate(invalid="ignore"):
        good = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        good |= np.abs(actual - expected) <= tolerance
    if not good.all():
        i = tuple(int(k) for k in np.argwhere(~good)[0])
        raise AssertionError(
            f"{name}{list(i)} is {actual[i]}, expected {expected[i]} within {tolerance[i]}; "
            f"{np.count_nonzero(~good)} of {good.size} are wrong"
        )


def assert_same(actual, expected) -> None:
    """Bitwise: the same numbers, not merely close ones."""
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64))


# ---- the ends of the range ----------------------------------------------------------------

REDUCING = [
    {"reduction": "sum", "normalizer": 1e-39},
    {"reduction": "sum", "normalizer": 1e-300, "sample_weight": [1e308, 1.0]},
    {"reduction": "sum", "sample_weight": [1e39, 1e-320]},
    {"reduction": "none", "sample_weight": [1e308, 5e-324]},
    {"reduction": "per_sequence", "sample_weight": [1e39, 1e39]},
    {"reduction": "mean", "sample_weight": [1e308, 1e308]},
    {"reduction": "sequence_mean", "sample_weight": [1e-320, 1e300]},
]


def ends(rng, dtype, shape):
    """Numbers of a dtype, mostly the largest and smallest it has."""
    info = ml_dtypes.finfo(dtype)
    most, least = float(info.max), float(info.smallest_subnormal)
    return rng.choice([0, 1, -1, most, -most, most / 2, least, 100, -100], shape).astype(dtype)


# ---- layouts ------------------------------------------------------------------------------


def time_major(x):
    return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1) if x.ndim > 1 else x.copy()


def strided(x):
    """Every axis a slice of something larger, the last axis too."""
    if x.ndim == 0:
        return x.copy()
    larger = np.full([2 * n + 1 for n in x.shape], np.array(np.nan).astype(x.dtype) if x.dtype.kind in "fV" else 0)
    view = larger.astype(x.dtype)[(slice(1, None, 2),) * x.ndim]
    view[...] = x
    return view


def reversed_memory(x):
    flip = (..., *(slice(None, None, -1),) * x.ndim)  # the ellipsis keeps an array of no axes one
    return x[flip].copy()[flip]


def fortran(x):
    return x.copy(order="F")


def unaligned(x):
    room = np.zeros(x.nbytes + 1, np.uint8)
    view = room[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


LAYOUTS = (np.copy, time_major, strided, reversed_memory, fortran, unaligned)


class Foreign:
    """An object that is not an array but can be converted to one."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        assert not copy
        return self.array if dtype is None else self.array.astype(dtype)


class Capsule:
    """A tensor of another library, which speaks DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


# ---- random batches -----------------------------------------------------------------------


def random_case(
    rng,
    name,
    shape,
    *,
    dtype=np.float64,
    scale=1.0,
    offset=0.0,
    impossible=0.0,
    target_dtype=None,
    lengths=True,
    holes=0.0,
    of_features=False,
    ignored=0.0,
    **options,
) -> Case:
    """A random batch of that shape.

    `lengths` may be given, too. `impossible` is the share of scores that are -inf (of probabilities, 0); `holes` that
    of steps outside a mask, or of features if they are `of_features`; `ignored` that of steps whose target is
    ignore_index. A floating `target_dtype` makes distributions of classes.
    """
    classification = name in CLASSIFICATION
    steps = shape[:-1] if classification else shape[:2]
    scores = _scores(rng, name, shape, options.get("input", "logits"), scale, offset, impossible, dtype)
    if classification:
        targets = _classes(rng, name, shape, target_dtype or np.int64)
    else:
        targets = _numbers(rng, name, shape, scale, offset, target_dtype or np.float64)
    case = Case(name, scores, targets, options=options)
    if lengths is True and len(steps) > 1:
        case.lengths = rng.integers(0, steps[1], steps[0], endpoint=True)
    elif lengths is not True and lengths is not False:
        case.lengths = np.array(lengths)
    if holes:
        case.mask = np.asarray(rng.random(shape if of_features else steps) >= holes)
    if ignored:
        targets[rng.random(steps) < ignored] = options.get("ignore_index", -100)
    _settle(name, case.scores, case.targets, impossible, options)
    case.scores[~case.counts] = np.nan
    if case.targets.shape == steps and classification:  # ignored steps stay ignored
        outside = ~reference_steps.counting(steps, case.lengths, case.mask)
    else:
        outside = ~case.counts
    target_dtype = case.targets.dtype
    junk = np.iinfo(target_dtype).max if target_dtype.kind in "iu" else np.nan
    case.targets[outside] = np.array(junk).astype(target_dtype)
    case.__dict__.pop("counts")
    return case


def _scores(rng, name, shape, kind, scale, offset, impossible, dtype):
    x = rng.normal(scale=scale, size=shape)
    if name == "binary_cross_entropy" and kind == "probs":
        x = rng.random(shape)
        x = np.where(x < 0.05, 0, np.where(x > 0.95, 1, x)) if impossible else x * 0.8 + 0.1
        return x.astype(dtype)
    if name == "nll_loss":
        kind = "log_probs"
    limit = min(float(ml_dtypes.finfo(dtype).max), 1e30)
    x = np.clip(x + offset, -limit, limit)
    if name in LOG_LINK:
        x = np.abs(x) + 0.1 if kind == "rates" else np.clip(x, -60, 60)
    if name in CLASSIFICATION:
        x[rng.random(shape) < impossible] = -np.inf
        x = scores_like(x, kind, np.float64)
    return x.astype(dtype)


def _classes(rng, name, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0, shape[-1], shape[:-1]).astype(dtype)
    y = rng.random(shape) ** 4
    y[rng.random(shape) < 0.3] = 0
    y[rng.random(shape[:-1]) < 0.2] = np.arange(shape[-1]) == 0
    return (y * rng.choice([0.3, 1.0, 2.0])).astype(dtype)


def _numbers(rng, name, shape, scale, offset, dtype):
    dtype = np.dtype(dtype)
    if TARGETS[name] == SIGNS:
        return np.ones(shape, bool) if dtype.kind == "b" else rng.choice([-1, 1], shape).astype(dtype)
    if TARGETS[name] == SHARES:
        y = rng.random(shape)
        y = np.where(y < 0.3, 0, np.where(y > 0.7, 1, y))
        return (y > 0.5).astype(dtype) if dtype.kind in "iub" else y.astype(dtype)
    y = np.clip(rng.normal(scale=scale, size=shape) + offset, -6e4, 6e4)
    if TARGETS[name] == COUNTS:
        y = np.where(rng.random(shape) < 0.3, 0, np.abs(y))
    if dtype.kind in "iu":
        y = np.clip(y, np.iinfo(dtype).min, np.iinfo(dtype).max)
    return y.astype(dtype)


def _settle(name, scores, targets, impossible, options):
    """Remove undefined cases: inf - inf in a hinge, and steps without any class."""
    if name not in CLASSIFICATION or not impossible:
        return
    nothing = ~np.isfinite(scores.astype(np.float64)).any(axis=-1)
    if name == "multiclass_hinge_loss" or options.get("class_weight") is not None or targets.shape == scores.shape:
        scores[nothing] = 0
    if name == "multiclass_hinge_loss":
        inside = (targets >= 0) & (targets < scores.shape[-1])
        position = np.where(inside, targets, 0).astype(np.int64)[..., None]
        chosen = np.take_along_axis(scores, position, -1)
        chosen[~np.isfinite(chosen.astype(np.float64))] = 0
        np.put_along_axis(scores, position, chosen, -1)


@st.composite
def shapes(draw, name, smallest=0, widest=2100):
    """1 to 4 axes; rows of every short width, and a few of long ones."""
    axes = draw(st.integers(1, 4))
    sizes = [draw(st.integers(smallest, most)) for most in (4, 5, 3, 3)[:axes]]
    if name not in CLASSIFICATION:
        return (*sizes[:2], *(max(n, 1) for n in sizes[2:]))
    width = draw(st.integers(1, min(widest, 70)))
    if widest > 300 and axes < 4 and draw(st.integers(0, 9)) == 9:
        width = draw(st.sampled_from((128, 300, 2100)))
    return (*sizes[: axes - 1], width)


def target_dtypes(name, width):
    if name in CLASSIFICATION:
        fitting = [t for t in INTEGERS if width - 1 <= np.iinfo(t).max]
        return [*fitting, *FLOATS] if TARGETS[name] == DISTRIBUTIONS else fitting
    signed = [t for t in INTEGERS if t.kind == "i"] if TARGETS[name] == SIGNS else INTEGERS
    return [*signed, np.dtype(bool), *FLOATS]


@st.composite
def loss_options(draw, name, shape, integer, kinds):
    """Every option that the loss has, given or not."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng, width, options = np.random.default_rng(seed), shape[-1], {}

    def maybe(key, values):
        if draw(st.booleans()):
            options[key] = draw(st.sampled_from(values))

    row = draw(st.sampled_from(rows_of(name)))
    options.update(row.options)
    if name in ("softmax_cross_entropy", "binary_cross_entropy"):
        options["input"] = draw(st.sampled_from(kinds))
    if name in CLASSIFICATION:
        maybe("class_weight", [rng.choice([0.0, 0.25, 1.0, 3.0], width), rng.random(width).astype(np.float32)])
        if integer:
            maybe("ignore_index", (-100, -1, 0, width - 1, 255, 2**40))
    if name == "softmax_cross_entropy":
        maybe("label_smoothing", (0.0, 0.1, 0.5, 1.0))
        if options["input"] == "logits":
            maybe("z_loss", (0.0, 1e-4, 0.3))
    for key, values in MORE.get(name, {}).items():
        maybe(key, values)
    if row.parameter is not None:
        maybe(row.parameter.name, parameter_values(row, rng, shape))
    return options


def weights_of(rng, counts, ndim) -> np.ndarray:
    """Weights of sequences, steps or features, of so many axes; NaN or negative where nothing of them counts."""
    shape = counts.shape[:ndim] if counts.ndim else (1,)
    weights = rng.choice([0.0, 0.25, 1.0, 3.0], shape)
    if ndim > 1:
        inside = counts.reshape(*shape, int(np.prod(counts.shape[ndim:]))).any(axis=-1)
        weights[~inside] = rng.choice([np.nan, np.inf, -1.0], shape)[~inside]
    return weights


@st.composite
def reducings(draw, counts, ndims=()):
    """`counts` are the steps that count, or the features; `ndims` the axes that weights may have besides one."""
    reducing = {"reduction": draw(st.sampled_from(REDUCTIONS))}
    if reducing["reduction"] == "sum" and draw(st.booleans()):
        reducing["normalizer"] = draw(st.sampled_from((0.5, 7, 1e3)))
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        reducing["sample_weight"] = weights_of(rng, counts, draw(st.sampled_from((1, *ndims))))
    return reducing


@st.composite
def cases(draw, name=None, *, dtypes=DTYPES, scales=SCALES, kinds=KINDS, smallest=0, smooth=False):
    """Random batches of one loss, or of any; `smooth` avoids points without a central difference.

    The numbers come from a seed, which shrinks well enough.
    """
    name = name or draw(st.sampled_from(NAMES))
    shape = draw(shapes(name, smallest, 12 if smooth else 2100))
    dtype, target_dtype = draw(st.sampled_from(dtypes)), draw(st.sampled_from(target_dtypes(name, shape[-1])))
    integer = np.dtype(target_dtype).kind in "iu"
    if name == "binary_cross_entropy":
        kinds = [k for k in kinds if k != "log_probs"]
    if (
        smooth and name in CLASSIFICATION and shape[-1] == 1
    ):  # of one class, whose probability is 1: the end of its range
        kinds = [k for k in kinds if k != "probs"]
    options = draw(loss_options(name, shape, integer, kinds))
    if TARGETS[name] == SIGNS and not np.any(shape):
        target_dtype = np.int64
    ignore_index = options.get("ignore_index", -100)
    can_ignore = name in CLASSIFICATION and integer
    can_ignore = can_ignore and np.iinfo(target_dtype).min <= ignore_index <= np.iinfo(target_dtype).max
    scale = draw(st.sampled_from(scales))
    if smooth or dtype in HALF:
        scale = min(scale, 0.3 if options.get("input") == "probs" and smooth else 10.0)
    if smooth and name in LOG_LINK:
        scale = min(scale, 1.0)
    case = random_case(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        name,
        shape,
        dtype=dtype,
        scale=scale,
        offset=0.0 if smooth else draw(st.sampled_from((0.0, 0.0, 100.0, -1000.0))),
        impossible=0.0 if smooth else draw(st.sampled_from((0.0, 0.0, 0.1, 0.7))),
        target_dtype=target_dtype,
        lengths=draw(st.booleans()),
        holes=draw(st.sampled_from((0.0, 0.3))),
        of_features=name not in CLASSIFICATION and draw(st.booleans()),
        ignored=draw(st.sampled_from((0.0, 0.3, 1.0))) if can_ignore else 0.0,
        **options,
    )
    counts = case.counts if name in CLASSIFICATION else reference_steps.counting(shape, case.lengths, case.mask)
    case.reducing = draw(reducings(counts, weight_ndims(case)))
    case.__dict__.pop("counts", None)
    return case


def weight_ndims(case) -> tuple[int, ...]:
    """The numbers of axes that the weights of steps, and of features, of a case may have."""
    ndim = case.scores.ndim
    found = (ndim - 1,) if case.name in CLASSIFICATION else (2, ndim)
    return tuple(n for n in found if 1 < n <= ndim)
