"""ctc_align_windows: the bits of ctc_align for the whole array, each frame read at most twice, in bounded memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastseqloss as fsl
import huge_scores
import real_data
from cases import HALF, KINDS, cases, random_case, scores_like
from thoroughness import examples, thorough

FLOATS = (np.float32, np.float64, *HALF)
LOG_PROBS = st.sampled_from((0.0, -0.3, -2.0, -7.5, -np.inf))


class Reader:
    """A function that returns the frames of an array, and notes which."""

    def __init__(self, scores):
        self.scores, self.calls = scores, []

    def __call__(self, start, stop):
        self.calls.append((start, stop))
        return self.scores[start:stop]

    def check(self, window):
        """Windows begin at multiples of their size, and no frame has been read more than twice."""
        counts = np.zeros(len(self.scores) + 1, int)
        for start, stop in self.calls:
            assert stop == min(start + window, len(self.scores))
            assert start % window == 0
            counts[start:stop] += 1
        assert counts.max() <= 2


def assert_same(actual, expected):
    """Bitwise: the same numbers, not merely close ones."""
    assert isinstance(actual, fsl.CTCAlignment)
    assert type(actual.log_prob) is float
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def check(scores, labels, window, **options):
    reader = Reader(scores)
    found = fsl.ctc_align_windows(reader, labels, len(scores), window=window, **options)
    reader.check(window)
    expected = fsl.ctc_align(scores, labels, **options)
    assert_same(found, expected)
    assert found.spans() == expected.spans()
    return found


# ---- the same bits ------------------------------------------------------------------------


@examples(3)
@given(
    cases(smallest=1, largest=(1, 14, 6, 5), dtypes=FLOATS),
    st.integers(1, 20),
    st.sampled_from((None, -1, 99)),
    st.booleans(),
    st.data(),
)
def test_any_window(level, case, window, star, with_prior, data):
    n, classes = int(case.lengths[0]), case.scores.shape[2]
    labels, options = case.tokens[0].tolist(), dict(case.options)
    if star is not None:
        for _ in range(data.draw(st.integers(0, 2))):
            labels.insert(data.draw(st.integers(0, len(labels))), star)
        each = data.draw(st.lists(LOG_PROBS, min_size=n, max_size=n))
        options |= {"star": star, "star_log_prob": data.draw(st.sampled_from((-0.5, each))) if n else -0.5}
    if with_prior:
        options |= {"label_prior": np.linspace(-2, 1, classes), "prior_scale": 0.7}
    check(case.scores[0, :n], labels, window, **options)


@pytest.mark.parametrize("window", [1, 50, thorough(64), thorough(65), 100, thorough(128), 699, 5000])
@pytest.mark.parametrize("kind", ["logits", thorough("log_probs"), thorough("probs")])
@pytest.mark.parametrize("dtype", [np.float32, thorough(np.float64)])
def test_blocks(level, window, kind, dtype):
    """Many checkpoints; windows that are parts of a block, and several blocks."""
    rng = np.random.default_rng(window)
    case = random_case(rng, (1, 700, 20, 150), kind=kind, dtype=dtype, full=True, repeats=0.1)
    labels = case.tokens[0].copy()
    labels[::20] = -1
    star = np.log(rng.random(700))
    check(case.scores[0], labels, window, **case.options, star=-1, star_log_prob=star)


@given(st.integers(1, 40), st.integers(60, 400), st.integers(0, 90), st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_ties(level, count, frames, spare, window, seed):
    """Small integers: many paths have the same score, and blocks join at the same one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 4, min(count + 30, frames // 2))
    log_probs = -rng.integers(0, 2, (frames + spare, 4)).astype(np.float32)
    check(log_probs, labels, window, input="log_probs")


@given(st.data(), st.sampled_from((np.float32, np.float64)), st.integers(1, 6), st.sampled_from(KINDS[:2]))
def test_huge_scores(level, data, dtype, window, kind):
    """Exact sums, at most two readings."""
    scores = huge_scores.scores(data.draw, (5, 4), dtype)
    labels = data.draw(st.lists(st.integers(1, 3), max_size=3))
    check(scores, labels, window, input=kind)
    padded = np.append(scores, np.full((2, 4), np.nan, dtype), axis=0)
    found = fsl.ctc_align_windows(padded, labels, 5, window=window, input=kind)
    assert_same(found, fsl.ctc_align(padded, labels, 5, input=kind))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("where", ["logits", "prior", "star"])
def test_sums_beyond_float64(level, where, dtype):
    """All paths have sums of -inf in float64, though some are better than others."""
    scores, options = np.zeros((12, 4), dtype), {}
    if where == "logits":
        scores[:, :3] = np.finfo(dtype).min
        scores[7, 1] /= 2
    elif where == "prior":
        options = {"label_prior": [1.7e308, 1.7e308, 1.7e308, 0]}
    else:
        scores[:, :3] = -np.inf
        options = {"star": -1, "star_log_prob": np.full(12, -1.7e308)}
    labels = [-1] if where == "star" else [1, 2]
    for kind in ("logits", "log_probs"):
        check(scores, labels, 5, input=kind, **options)


@pytest.mark.parametrize("name", real_data.NAMES)
def test_real_emissions(level, name):
    data = real_data.load(name, padding=np.nan)
    n, count = int(data.lengths[0]), int(data.label_lengths[0])
    check(data.emissions[0, :n], data.labels[0, :count], 37, blank=data.blank, input=data.kind)


@pytest.mark.parametrize("policy", ["inf", "zero"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_a_path(level, policy, dtype):
    scores = np.zeros((9, 3), dtype)
    check(scores, [1] * 6, 4, infeasible=policy)  # too short: read for the number of classes alone
    scores[5] = -np.inf
    for kind in ("logits", "log_probs"):
        assert check(scores, [1], 4, infeasible=policy, input=kind).log_prob == (-np.inf if policy == "inf" else 0)
    with pytest.raises(ValueError, match=r"logit_lengths\[0\] is 9; allowed: 11 or more"):
        fsl.ctc_align_windows(scores, [1] * 6, window=4, infeasible="raise")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_scores(level, value, kind):
    scores = scores_like(np.random.default_rng(0).normal(size=(9, 4)), kind)
    scores[6, 2] = value
    assert np.isnan(check(scores, [1, 2], 4, input=kind).log_prob)
    assert np.isnan(check(scores, [1, 3], 4, input=kind).log_prob) == (kind == "logits")


@pytest.mark.parametrize("labels", [[], [1]])
def test_no_frames(labels):
    reader = Reader(np.zeros((0, 3)))
    found = fsl.ctc_align_windows(reader, labels, 0)
    assert reader.calls == [(0, 0)]
    assert_same(found, fsl.ctc_align(np.zeros((0, 3)), labels))


# ---- sources ------------------------------------------------------------------------------


class Dataset:
    """The part of the interface that datasets of HDF5 and Zarr share."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, frames):
        return self.array[frames]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8"])
def test_files(tmp_path, dtype):
    scores = np.random.default_rng(0).normal(size=(90, 6)).astype(dtype)
    np.save(tmp_path / "scores.npy", scores)
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
    expected = fsl.ctc_align(scores, [1, 2, 3])
    for source in (mapped, Dataset(scores), scores.tolist() if dtype == ">f8" else scores):
        assert_same(fsl.ctc_align_windows(source, [1, 2, 3], window=7), expected)
    first = fsl.ctc_align_windows(mapped, [1, 2, 3], 50, window=7)
    assert_same(first, fsl.ctc_align(scores, [1, 2, 3], 50))


def test_layouts_and_buffers():
    """Views of any strides; a function may return the same buffer each time."""
    scores = np.random.default_rng(0).normal(size=(90, 12))
    expected = fsl.ctc_align(scores[::-1, ::2].copy(), [1, 2, 3])
    assert_same(fsl.ctc_align_windows(scores[::-1, ::2], [1, 2, 3], window=11), expected)
    buffer = np.empty((11, 6))

    def read(start, stop):
        buffer[: stop - start] = scores[::-1, ::2][start:stop]
        return buffer[: stop - start]

    assert_same(fsl.ctc_align_windows(read, [1, 2, 3], 90, window=11), expected)


def peak(call):
    """The peak of traced memory during a call, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory(tmp_path):
    """32 MB of scores: a window in memory at a time, and no copy of a memory map that `ctc_align` can use."""
    mapped = np.lib.format.open_memmap(tmp_path / "scores.npy", "w+", np.float32, (4000, 2000))
    labels = np.arange(1, 100)

    def read(start, stop):
        return np.random.default_rng(start).standard_normal((stop - start, 2000), np.float32)

    assert peak(lambda: fsl.ctc_align_windows(read, labels, 4000, window=100)) < 6e6
    assert peak(lambda: fsl.ctc_align_windows(mapped, labels, window=100)) < 6e6
    assert peak(lambda: fsl.ctc_align(mapped, labels)) < 1e6


# ---- errors -------------------------------------------------------------------------------


def test_errors_of_the_function_are_passed_on():
    def read(start, stop):
        raise LookupError("tape torn")

    with pytest.raises(LookupError, match="tape torn"):
        fsl.ctc_align_windows(read, [1], 9)


def changing(start, stop):
    """Other scores at each call."""
    changing.calls += 1
    return np.full((stop - start, 3), 0.25 * changing.calls)


changing.calls = 0
SCORES = np.zeros((9, 3))


@pytest.mark.parametrize(
    ("kind", "said", "wrong"),
    [
        (ValueError, r"logits\[8:9\] has shape \(3, 3\); allowed: \(1, V\)", {"logits": lambda i, j: np.zeros((3, 3))}),
        (ValueError, r"logits\[8:9\] has shape \(1, 1, 3\)", {"logits": lambda i, j: SCORES[None, i:j]}),
        (ValueError, r"logits\[8:9\] has shape \(1, 0\): no classes", {"logits": lambda i, j: SCORES[i:j, :0]}),
        (
            ValueError,
            r"logits\[4:8\] has shape \(4, 2\); allowed: \(4, 3\)",
            {"logits": lambda i, j: np.zeros((j - i, 3 if i == 8 else 2))},
        ),
        (TypeError, r"logits\[8:9\] has dtype int64; allowed: float16", {"logits": lambda i, j: np.ones((1, 3), int)}),
        (
            TypeError,
            r"logits\[4:8\] has dtype float32; allowed: float64, as in the other windows",
            {"logits": lambda i, j: SCORES[i:j].astype(np.float64 if i == 8 else np.float32)},
        ),
        (TypeError, r"logits\[8:9\] has dtype object", {"logits": lambda i, j: None}),
        (ValueError, r"logits\[4:8\] has other scores than before", {"logits": changing}),
        (TypeError, "logit_lengths is None; allowed: an integer, since", {"logit_lengths": None}),
        (TypeError, "logit_lengths must be an integer, got float", {"logit_lengths": 9.0}),
        (ValueError, "logit_lengths is -1; allowed: 0 to", {"logit_lengths": -1}),
        (ValueError, "logit_lengths is 10; allowed: 0 to 9", {"logits": SCORES, "logit_lengths": 10}),
        (ValueError, r"logits has shape \(2, 9, 3\); allowed: \[T, V\]", {"logits": np.zeros((2, 9, 3))}),
        (TypeError, r"logits is the class ndarray; allowed: \[T, V\], or a function, such as", {"logits": np.ndarray}),
        (ValueError, r"logits has shape \(3,\)", {"logits": [1.0, 2, 3]}),
        (TypeError, r"logits\[8:9\] is a masked array", {"logits": np.ma.MaskedArray(SCORES), "logit_lengths": 9}),
        (ValueError, "window is 0; allowed: 1 or more", {"window": 0}),
        (TypeError, "window must be an integer", {"window": 2.5}),
        (ValueError, r"labels\[1\] is 3; allowed: 0 to 2, except 0", {"labels": [1, 3]}),
        (ValueError, r"labels has shape \(1, 1\)", {"labels": [[1]]}),
        (ValueError, "star is 2", {"star": 2}),
        (ValueError, r"star_log_prob has shape \(4,\); allowed: \(9,\)", {"star": -1, "star_log_prob": np.zeros(4)}),
        (ValueError, r"star_log_prob\[8\] is nan", {"star": -1, "star_log_prob": [0] * 8 + [np.nan]}),
        (ValueError, r"label_prior has shape \(4,\)", {"label_prior": np.zeros(4)}),
        (ValueError, "prior_scale is -1", {"prior_scale": -1}),
        (ValueError, "blank is 3", {"blank": 3}),
        (ValueError, "input is 'scores'", {"input": "scores"}),
        (ValueError, "infeasible is 'ignore'", {"infeasible": "ignore"}),
    ],
)  # fmt: skip
def test_errors(kind, said, wrong):
    arguments = {"logits": lambda i, j: SCORES[i:j], "labels": [1, 2], "logit_lengths": 9, "window": 4} | wrong
    with pytest.raises(kind, match=said):
        fsl.ctc_align_windows(**arguments)


def test_memory_that_no_machine_has():
    with pytest.raises(MemoryError):
        fsl.ctc_align_windows(lambda i, j: np.zeros((j - i, 3)), [1], 2**58, window=2**10)
