"""Tiles of frames: logits to emissions, posteriors to the gradient, on every instruction set, and in plain C."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from c_compiler import STANDARD_C, shared_library
from fastseqloss._core import levels
from thoroughness import spread, thorough

FRAMES = 8
TILES = ("open_tile", "close_tile", "open_classes", "close_classes", "narrow_range")
COLUMNS = ("gather_column", "open_columns", "scatter_columns")
TYPED = [f"{name}_{bits}" for name in TILES + COLUMNS for bits in ("f32", "f64")]
EXPORTS = [*TYPED, "shift", "transpose", "transpose_frames", "where_positive"]
CLASSES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 28, 32, 63, 64)
FLOATS = [np.float32, np.float64]


@pytest.fixture(scope="module", params=[pytest.param([], id="extensions"), thorough(STANDARD_C, id="standard")])
def flags(request):
    return request.param


@pytest.fixture(scope="module", params=levels.available_levels())
def kernel(request, flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return ctypes.CDLL(str(shared_library(Path(__file__).parent / "tiles.c", folder, request.param, EXPORTS, flags)))


def address(array):
    return ctypes.c_void_p(array.ctypes.data)


def size(n):
    return ctypes.c_ssize_t(n)


def suffix(array):
    return f"f{8 * array.itemsize}"


def open_tile(kernel, x):
    """Emissions [V, FRAMES], their sums and their ranges of rows x [n, V] of a larger array."""
    frames, classes = x.shape
    y, total, span = np.empty((classes, FRAMES)), np.empty(FRAMES), np.empty(FRAMES)
    scratch = np.empty((classes, FRAMES), x.dtype)
    stride = size(x.strides[0] // x.itemsize)
    function = kernel[f"open_tile_{suffix(x)}"]
    function(address(x), stride, frames, size(classes), *map(address, (scratch, y, total, span)))
    return y, total, span


def rows_of(rng, frames, classes, dtype):
    """Rows within an array of NaN."""
    around = np.full((frames, classes + 3), np.nan, dtype)
    x = around[:, :classes]
    x[:] = rng.normal(size=x.shape) * rng.choice([1.0, 10.0, 100.0], (frames, 1))
    return x


@pytest.mark.parametrize(("dtype", "classes"), spread(FLOATS, CLASSES, every=4))
def test_open(kernel, dtype, classes):
    rng = np.random.default_rng(classes)
    for frames in range(1, FRAMES + 1):
        x = rows_of(rng, frames, classes, dtype)
        y, total, span = open_tile(kernel, x)
        wide = x.astype(np.float64)[np.minimum(np.arange(FRAMES), frames - 1)].T
        expected = np.exp((wide - wide.max(axis=0)).astype(np.longdouble))
        error = 5e-11 if dtype == np.float32 else 1e-15
        np.testing.assert_allclose(y, expected.astype(float), rtol=error, atol=1e-307)
        np.testing.assert_allclose(total, expected.sum(axis=0).astype(float), rtol=error)
        bits = (wide.max(axis=0) - wide.min(axis=0)) / np.log(2)
        np.testing.assert_allclose(span, bits, rtol=1e-7)
        assert (y[wide == wide.max(axis=0)] == 1).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_open_special(kernel, dtype):
    x = np.zeros((4, 9), dtype)
    x[0, 3], x[1, 8], x[2], x[3, 1] = np.nan, np.inf, -np.inf, -np.inf
    y, total, _ = open_tile(kernel, x)
    assert np.isnan(total[:3]).all()
    assert (total[3:] == 8).all()
    assert (y[1, 3:] == 0).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_exponential_of_distances_large_and_small(kernel, dtype):
    d = -np.geomspace(1e-30, 2000, 20_000).astype(dtype)
    x = np.stack([np.zeros_like(d), d], axis=1)
    y = np.concatenate([open_tile(kernel, x[i : i + FRAMES])[0][1] for i in range(0, len(x), FRAMES)])
    expected = np.exp(d.astype(np.longdouble)).astype(float)
    np.testing.assert_allclose(y, expected, rtol=5e-11 if dtype == np.float32 else 1e-15, atol=3e-308)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", CLASSES)
def test_close(kernel, dtype, classes):
    rng = np.random.default_rng(classes)
    for frames in range(1, FRAMES + 1):
        y, post = rng.random((2, classes, FRAMES))
        total, scale = y.sum(axis=0), rng.normal()
        around = np.full((FRAMES + 1, classes + 2), -7, dtype)
        x, scratch = around[:, :classes], np.empty((classes, FRAMES), dtype)
        stride = size(around.strides[0] // around.itemsize)
        function = kernel[f"close_tile_{suffix(x)}"]
        function(
            *map(address, (y, total, post)),
            ctypes.c_double(scale),
            stride,
            frames,
            size(classes),
            *map(address, (scratch, x)),
        )
        expected = scale * (y / total - post).T
        np.testing.assert_allclose(x[:frames], expected[:frames], rtol=0, atol=np.finfo(dtype).eps * 2)
        assert (around[frames:] == -7).all()
        assert (around[:, classes:] == -7).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_some_of_the_classes(kernel, dtype):
    rng = np.random.default_rng(6)
    for classes in CLASSES[2:]:
        x, used = rows_of(rng, 6, classes, dtype), rng.permutation(classes)[: classes // 2 + 1]
        x[:, np.setdiff1d(np.arange(classes), used)] = np.nan
        y, scratch = np.full((classes, FRAMES), -7.0), np.empty((classes, FRAMES), dtype)
        total, span, most = np.empty((3, FRAMES))
        stride = size(x.strides[0] // x.itemsize)
        function = kernel[f"open_classes_{suffix(x)}"]
        chosen = (address(used), size(len(used)))
        function(address(x), stride, 6, size(classes), *chosen, *map(address, (scratch, y, total, span, most)))
        apart = np.ascontiguousarray(x[:, used])
        expected = open_tile(kernel, apart)
        np.testing.assert_array_equal(y[used], expected[0])
        np.testing.assert_array_equal(total, expected[1])
        np.testing.assert_array_equal(span, expected[2])
        np.testing.assert_array_equal(most[:6], apart.max(axis=1))
        assert (np.delete(y, used, axis=0) == -7).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("classes", "lost"), [(3, [1]), (12, [4, 7]), (64, [0, 5, 63]), (9, [])])
def test_range_of_finite_scores(kernel, dtype, classes, lost):
    """Range over the classes in use; a frame without -inf has the range of all classes unless it is too large."""
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(FRAMES, classes)).astype(dtype)
    x[2, -1] = -500
    x[1::3, lost] = -np.inf
    for used in (np.arange(classes), np.arange(0, classes, 2)):
        y, scratch = np.empty((2, classes, FRAMES))
        total, span, most = np.empty((3, FRAMES))
        chosen = (address(used), size(len(used)))
        wide = np.where(np.isneginf(x), np.nan, x).astype(np.float64)
        expected = (np.nanmax(wide[:, used], axis=1) - np.nanmin(wide[:, used], axis=1)) / np.log(2)
        found = kernel[f"open_classes_{suffix(x)}"](
            address(x), size(classes), FRAMES, size(classes), *chosen, *map(address, (scratch, y, total, span, most))
        )
        assert found == bool(set(lost) & set(used.tolist()))
        np.testing.assert_allclose(span, expected, rtol=1e-6)
        assert not y[used].T[np.isneginf(x[:, used])].any()
        span = open_tile(kernel, x)[2]
        over = ~(span <= 400)
        tile = np.ascontiguousarray(x.T)
        function = kernel[f"narrow_range_{suffix(x)}"]
        found_here = function(address(tile), size(classes), *chosen, ctypes.c_double(400), address(span))
        assert found_here == found
        narrow = (np.nanmax(wide, axis=1) - np.nanmin(wide[:, used], axis=1)) / np.log(2)
        every = (np.nanmax(wide, axis=1) - np.nanmin(wide, axis=1)) / np.log(2)
        np.testing.assert_allclose(span, np.where(over, narrow, every), rtol=1e-6)


def test_where_positive(kernel):
    a, b = np.array([1, np.inf, np.nan, -2.0, 3, np.inf]), np.array([2.0, 0, 0, 1e-300, 0, 4])
    for i in range(3):
        out = np.empty(4)
        kernel.where_positive(*map(address, (np.roll(a, i), np.roll(b, i), out)))
        expected = np.where(np.roll(b, i) > 0, np.roll(a, i), 0)[:4]
        np.testing.assert_array_equal(out[:2], expected[:2])


@pytest.mark.parametrize("dtype", FLOATS)
def test_close_without_softmax(kernel, dtype):
    rng = np.random.default_rng(7)
    for classes in CLASSES:
        post = rng.random((classes, FRAMES)) * rng.integers(0, 2, (classes, FRAMES))
        x, scratch = np.full((FRAMES, classes), -7, dtype), np.empty((classes, FRAMES), dtype)
        function = kernel[f"close_classes_{suffix(x)}"]
        arguments = (size(classes), 5, size(classes), address(scratch), address(x))
        function(address(post), ctypes.c_double(0.25), *arguments)
        np.testing.assert_array_equal(x[:5], (-0.25 * post.T[:5]).astype(dtype))
        assert not np.signbit(x[:5][x[:5] == 0]).any()
        assert (x[5:] == -7).all()


def test_vectors(kernel):
    a, up, down = np.arange(1.0, 9), np.empty(8), np.empty(8)
    lanes = kernel.shift(address(a), ctypes.c_double(-1.0), address(up), address(down))
    np.testing.assert_array_equal(up[:lanes], [-1, *a[: lanes - 1]])
    np.testing.assert_array_equal(down[:lanes], [*a[1:lanes], -1])
    matrix = np.arange(float(lanes**2)).reshape(lanes, lanes)
    out = np.empty_like(matrix)
    kernel.transpose(address(matrix), address(out))
    np.testing.assert_array_equal(out, matrix.T)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("frames", [1, 5, 8])
def test_some_of_many_classes(kernel, dtype, frames):
    """Rows are gathered one by one, opened as if they were a tile, and written class by class."""
    rng = np.random.default_rng(frames)
    for classes, count in ((1, 1), (70, 9), (3000, 64), (3000, 201)):
        x, used = rows_of(rng, frames, classes, dtype), rng.permutation(classes)[:count]
        tile, y = np.full((count, FRAMES), np.nan, dtype), np.empty((count, FRAMES))
        total, span, most = np.empty((3, FRAMES))
        gather, scatter = kernel[f"gather_column_{suffix(x)}"], kernel[f"scatter_columns_{suffix(x)}"]
        for i in range(frames):
            gather(address(x[i]), address(used), size(count), i, address(tile))
        np.testing.assert_array_equal(tile[:, :frames], x[:, used].T)
        kernel[f"open_columns_{suffix(x)}"](address(tile), frames, size(count), *map(address, (y, total, span, most)))
        expected = open_tile(kernel, np.ascontiguousarray(x[:, used]))
        for values, ours in zip(expected, (y, total, span), strict=True):
            np.testing.assert_array_equal(values, ours)
        np.testing.assert_array_equal(most[:frames], x[:, used].max(axis=1))
        factor, post, out = (
            rng.normal(size=FRAMES),
            rng.random((count, FRAMES)),
            np.full((frames + 1, classes), -7, dtype),
        )
        arguments = (size(classes), frames, address(used), size(count), address(tile), address(out))
        scatter(*map(address, (y, factor, post)), ctypes.c_double(0.5), *arguments)
        np.testing.assert_allclose(out[:frames, used], (factor * y - 0.5 * post).T[:frames], atol=np.finfo(dtype).eps)
        assert (np.delete(out, used, axis=1) == -7).all()
        assert (out[frames:] == -7).all()


def test_transpose_frames(kernel):
    for width in (8, 16, 64):
        rows = np.random.default_rng(width).random((FRAMES, width))
        tile = np.empty((width, FRAMES))
        kernel.transpose_frames(address(rows), size(width), address(tile))
        np.testing.assert_array_equal(tile, rows.T)
