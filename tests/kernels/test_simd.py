"""exp, log and the dense row pass, on every instruction set."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from c_compiler import shared_library
from fastseqloss._core import levels
from reference import ctc as reference
from thoroughness import spread, thorough

WIDE = np.longdouble
FLOATS = [np.float32, np.float64]


class Primitives:
    """The functions of primitives.c; the type of the arrays chooses between float32 and float64."""

    def __init__(self, library):
        self.library = ctypes.CDLL(str(library))

    def exp(self, x, out):
        self._function("exp", x)(_address(x), _address(out), ctypes.c_ssize_t(x.size))

    def exp_normal(self, x, out):
        self._function("exp_normal", x)(_address(x), _address(out), ctypes.c_ssize_t(x.size))

    def log(self, x, out):
        self._function("log", x)(_address(x), _address(out), ctypes.c_ssize_t(x.size))

    def softmax_rows(self, logits, out, row_max, row_sum, scale):
        shape = map(ctypes.c_ssize_t, logits.shape)
        arrays = map(_address, (row_max, row_sum))
        self._function("softmax_rows", logits)(_address(logits), _address(out), *shape, ctypes.c_double(scale), *arrays)

    def exp_vector(self, x, out):
        self._function("exp_vector", x)(_address(x), _address(out), ctypes.c_ssize_t(x.size))

    def exp_pair(self, x, out):
        self._function("exp_pair", x)(_address(x), _address(out), ctypes.c_ssize_t(x.size))

    def short_rows(self, logits, out, row_max, row_sum):
        shape = map(ctypes.c_ssize_t, logits.shape)
        arrays = map(_address, (row_max, row_sum))
        self._function("short_rows", logits)(_address(logits), _address(out), *shape, *arrays)

    def _function(self, name, x):
        return self.library[f"{name}_{x.dtype.name}"]


def _address(array):
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


@pytest.fixture(scope="module", params=levels.available_levels())
def kernel(request, tmp_path_factory):
    names = ("exp_normal", "log", "softmax_rows")
    exports = ["exp_float64", "exp_vector_float32", "exp_pair_float32", "short_rows_float32"]
    exports += [f"{name}_{dtype}" for name in names for dtype in ("float32", "float64")]
    source = Path(__file__).parent / "primitives.c"
    return Primitives(shared_library(source, tmp_path_factory.mktemp(request.param), request.param, exports))


def evaluate(function, x):
    out = np.empty_like(x)
    function(x, out)
    return out


def errors_in_ulps(actual, exact):
    """|actual - exact| in units of the spacing of floats at the exact value."""
    limits = np.finfo(actual.dtype)
    largest = float(limits.max)
    size = np.clip(np.abs(exact), float(limits.smallest_normal), largest).astype(np.float64)
    spacing = np.ldexp(1.0, np.frexp(size)[1] - 1 - limits.nmant)
    # Rounding to inf is right beyond the largest number, and within the allowance just below.
    overflow = (actual == np.inf) & (exact > largest - spacing)
    exact = np.minimum(exact, largest)
    with np.errstate(invalid="ignore"):
        error = np.abs(actual.astype(exact.dtype) - exact) / spacing
    return np.where(overflow, 0, error)


def assert_ulps(function, x, exact, allowed):
    errors = errors_in_ulps(evaluate(function, x), exact)
    worst = errors.argmax()
    assert errors[worst] <= allowed, f"{errors[worst]:.4f} ulps at {x[worst]!r}"


def float32s(low, high, step):
    """Every step-th float32 from `low` to `high`, not negative: their bits count up."""
    low, high = np.array([low, high], np.float32).view(np.uint32)
    return np.arange(low, high, step, dtype=np.uint32).view(np.float32)


# ---- exp ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exp_normal", "exp_vector"])
@pytest.mark.parametrize("step", [4099, thorough(251)])
def test_exp_normal_float32(kernel, step, name):
    """One in `step` of the floats that scores relative to their maximum may be; the error is relative to exp(0)."""
    function = getattr(kernel, name)
    for low, high in ((2.0**-30, 2.0**-6), (2.0**-6, 1.0), (1.0, 88.0)):
        x = -float32s(low, high, step)
        x = x[: len(x) // 16 * 16]
        exact = np.exp(x.astype(np.float64))
        error = np.abs(evaluate(function, x) - exact)
        assert error.max() <= 8e-8
        assert (error <= exact * (2.0**-23 - x * 1.25 * 2.0**-24) + np.finfo(np.float32).smallest_normal).all()
    np.testing.assert_array_equal(evaluate(function, np.zeros(48, np.float32)), 1)


def test_exp_of_two_vectors(kernel):
    """The same bits as one vector at a time."""
    x = np.r_[-np.geomspace(1e-30, 88, 50_000), np.linspace(-88, 0, 49_982), -0.0, 0.0, np.nan, np.zeros(11)]
    x = x.astype(np.float32)[: len(x) // 16 * 16]
    np.testing.assert_array_equal(evaluate(kernel.exp_pair, x), evaluate(kernel.exp_vector, x))
    for floor in (-88, -87.99):
        np.testing.assert_array_equal(evaluate(kernel.exp_vector, np.full(16, floor, np.float32)), 0)


def test_exp_normal_float64(kernel):
    rng = np.random.default_rng(0)
    for low, high in ((-708, 709), (-1, 1)):
        x = rng.uniform(low, high, 200_000)
        assert_ulps(kernel.exp_normal, x, np.exp(x.astype(WIDE)), 2)


def test_exp_float64(kernel):
    rng = np.random.default_rng(0)
    n = 200_000
    samples = [
        rng.uniform(-746, 710, n),
        rng.uniform(-1, 1, n),
        rng.uniform(-746, -708, n),
        rng.uniform(709, 710, n),
        rng.choice([-1, 1], n) * np.exp2(rng.uniform(-60, 9.5, n)),
        np.arange(-1074, 1024) * np.log(2),
        (np.arange(-1074, 1024) + 0.5) * np.log(2),
    ]
    for x in samples:
        assert_ulps(kernel.exp, x, np.exp(x.astype(WIDE)), 2)


def test_exp_special_values(kernel):
    limits = np.finfo(np.float64)
    tiny = limits.smallest_subnormal
    x = np.array([0.0, -0.0, tiny, -tiny, -np.inf, limits.min, np.inf, limits.max, np.nan])
    expected = np.array([1, 1, 1, 1, 0, 0, np.inf, np.inf, np.nan])
    for padding in range(20):  # in every place of a vector, and in the rest of a loop
        padded = np.concatenate([np.ones(padding), x])
        np.testing.assert_array_equal(evaluate(kernel.exp, padded)[padding:], expected)


def test_exp_never_decreases(kernel):
    """Neighbouring floats, across the borders at which the reduced argument jumps."""
    for k in (-100, -17, -1, 0, 1, 5, 80):
        start = np.float64((k + 0.5) * np.log(2))
        x = np.sort(start + np.arange(-2000, 2000) * np.spacing(start))
        assert np.diff(evaluate(kernel.exp, x)).min() >= -np.spacing(np.exp(start))


# ---- log ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("near", "any_size"), [(241, 2039), thorough(61, 509)])
def test_log_float32(kernel, near, any_size):
    """One in `near` around 1, where the result is small; one in `any_size` of all, subnormals included."""
    for x in (float32s(0.4, 2.5, near), float32s(1e-45, np.inf, any_size)):
        assert_ulps(kernel.log, x, np.log(x.astype(np.float64)), 2)


def test_log_float64(kernel):
    rng = np.random.default_rng(0)
    n = 200_000
    near_one = 1 + np.arange(-20_000, 20_000) * 2.0**-53
    samples = [
        rng.uniform(0.5, 2, n),
        1 + rng.choice([-1, 1], n) * np.exp2(rng.uniform(-52, -1, n)),
        np.exp2(rng.uniform(-1074, 1024, n)),
        np.exp2(np.arange(-1074, 1024.0)),
        near_one,
    ]
    for x in samples:
        x = x[x > 0]
        assert_ulps(kernel.log, x, np.log(x.astype(WIDE)), 2)


@pytest.mark.parametrize("dtype", FLOATS)
def test_log_special_values(kernel, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0, -0.0, 1, np.inf, -tiny, -1, -np.inf, np.nan], dtype)
    expected = np.array([-np.inf, -np.inf, 0, np.inf, np.nan, np.nan, np.nan, np.nan], dtype)
    for padding in range(20):
        padded = np.concatenate([np.ones(padding, dtype), x])
        np.testing.assert_array_equal(evaluate(kernel.log, padded)[padding:], expected)


# ---- the row pass -------------------------------------------------------------------------


def rows(kernel, logits, scale=1.0, out=None):
    out = np.empty_like(logits) if out is None else out
    largest, total = np.empty(len(logits)), np.empty(len(logits))
    kernel.softmax_rows(logits, out, largest, total, scale)
    return out, largest, total


def assert_rows(kernel, logits, scale=1.0):
    """softmax, row maximum and row sum, each as exact as the dtype allows; the same in place."""
    out, largest, total = rows(kernel, logits, scale)
    eps = np.finfo(logits.dtype).eps
    np.testing.assert_array_equal(largest, logits.max(axis=1))
    exact = np.exp(logits.astype(WIDE) - logits.max(axis=1, keepdims=True).astype(WIDE))
    # A lane of a float64 row takes a 16th of a block's additions, each right to half an eps of 1 or a little more.
    few = 10 if logits.dtype == np.float64 else 2
    np.testing.assert_allclose(total, exact.sum(axis=1).astype(float), rtol=few * eps)
    wanted = (scale * reference.softmax(logits)).astype(float)
    smallest = np.finfo(logits.dtype).smallest_normal  # smaller values become 0
    # x - max rounds to eps |x - max|, which is at most 104 (746) where exp is not 0.
    np.testing.assert_allclose(out, wanted, rtol=110 * eps, atol=smallest)
    np.testing.assert_allclose(out, wanted, atol=(few + 1) * eps * scale, rtol=0)
    assert not out[logits == -np.inf].any()
    same, _, _ = rows(kernel, logits, scale, logits)
    np.testing.assert_array_equal(same, out)


@pytest.mark.parametrize(("dtype", "scale"), spread(FLOATS, [1.0, 0.01], every=2))
def test_rows_of_every_width(kernel, dtype, scale):
    rng = np.random.default_rng(0)
    for classes in [*range(1, 301), 5000, 6625]:
        assert_rows(kernel, rng.normal(scale=5, size=(3, classes)).astype(dtype), scale)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("spread", [0.0, 0.1, 30.0, 1e4, 1e30])
def test_rows_of_any_spread(kernel, dtype, spread):
    rng = np.random.default_rng(0)
    for classes in (1, 7, 64, 301):
        assert_rows(kernel, rng.normal(scale=spread, size=(20, classes)).astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_masked_classes(kernel, dtype):
    rng = np.random.default_rng(0)
    for classes in (1, 5, 16, 33, 200):
        logits = rng.normal(size=(50, classes)).astype(dtype)
        logits[rng.random(logits.shape) < 0.7] = -np.inf
        logits[:, rng.integers(classes)] = 0
        assert_rows(kernel, logits)


@pytest.mark.parametrize("dtype", FLOATS)
def test_largest_anywhere(kernel, dtype):
    """In each place of a row, vector remainders included."""
    for classes in (1, 9, 40, 67):
        logits = np.full((classes, classes), -3, dtype)
        np.fill_diagonal(logits, 2)
        assert_rows(kernel, logits)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [6625, 100_000])
def test_many_tiny_exponentials_beside_one(kernel, dtype, classes):
    """Each under half an ulp of 1, but not together: log(sum) is the loss of a sure model."""
    logits = np.full((2, classes), -17.5, dtype)
    logits[0, 0] = logits[1, classes // 2] = 0
    _, _, total = rows(kernel, logits)
    exact = 1 + (classes - 1) * float(np.exp(WIDE(-17.5)))
    tolerance = 1e-7 if dtype == np.float32 else 1e-15
    np.testing.assert_allclose(np.log(total), np.log(exact), rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_poison_stays_visible(kernel, dtype, poison):
    for classes in (1, 8, 37):
        for place in {0, classes // 2, classes - 1}:
            logits = np.zeros((3, classes), dtype)
            logits[1, place] = poison
            out, _, total = rows(kernel, logits)
            assert np.isnan(total[1])
            assert np.isnan(out[1]).any()
            np.testing.assert_array_equal(total[[0, 2]], classes)


# ---- several short rows -------------------------------------------------------------------


def short(kernel, logits, out=None):
    out = np.empty_like(logits) if out is None else out
    largest, total = np.empty(len(logits), np.float32), np.empty(len(logits))
    kernel.short_rows(logits, out, largest, total)
    return out, largest, total


def test_short_rows_of_every_width(kernel):
    """Maxima and exponentials of any number of rows, and their sums; the same in place, and for each row alone."""
    rng = np.random.default_rng(0)
    for classes in range(16, 257):
        count = int(rng.integers(1, 1 + min(64, 4096 // classes)))
        logits = rng.normal(scale=5, size=(count, classes)).astype(np.float32)
        logits[rng.random(logits.shape) < 0.1] = -np.inf
        logits[0] = -np.inf if classes % 7 == 0 else logits[0]
        out, largest, total = short(kernel, logits)
        expected = np.maximum(logits.max(axis=1), np.where(np.isneginf(logits).all(axis=1), 0, -np.inf))
        np.testing.assert_array_equal(largest, expected)
        exact = np.exp(logits.astype(WIDE) - expected[:, None].astype(WIDE))
        np.testing.assert_allclose(out, exact.astype(float), rtol=0, atol=8e-8)
        np.testing.assert_allclose(total, exact.sum(axis=1).astype(float), rtol=3e-7)
        assert not out[logits == -np.inf].any()
        alone = short(kernel, logits[-1:])
        np.testing.assert_array_equal(alone[0][0], out[-1])
        np.testing.assert_array_equal(alone[2][0], total[-1])
        np.testing.assert_array_equal(short(kernel, logits, logits)[0], out)


def test_short_rows_keep_poison(kernel):
    for classes in (16, 23, 64, 100):
        for place in (0, 9, classes - 1):
            for poison in (np.nan, np.inf):
                logits = np.zeros((11, classes), np.float32)
                logits[4, place] = poison
                _, _, total = short(kernel, logits)
                np.testing.assert_array_equal(np.isnan(total), np.arange(11) == 4)
