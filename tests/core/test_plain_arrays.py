"""Plain arrays, which compiled code reads, and the same numbers in other forms: equal copies, equal messages."""

import numpy as np
import pytest

from fastseqloss._core.arrays import as_finite, as_lengths, as_weights
from fastseqloss._core.gradient import check_grad_out
from fastseqloss._core.labels import as_sequences
from fastseqloss._core.scores import as_scores
from fastseqloss._kernels import arguments
from fastseqloss.crf.arguments import as_potentials, as_tags

INTEGERS = [np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]
B, T, V, S = 3, 7, 6, 4


class Other(np.ndarray):
    """A class of arrays that compiled code leaves to NumPy."""


def other(value):
    return value.view(Other) if isinstance(value, np.ndarray) else value


def outcome(call, *given):
    """The arrays that a call returns, or its error."""
    try:
        return [np.asarray(part).tolist() for part in call(*given)]
    except (TypeError, ValueError) as error:
        return type(error).__name__, str(error)


def laid_out(rng, array):
    """The same numbers somewhere else in memory."""
    way = rng.integers(6)
    if way == 0:
        return array[::-1].copy()[::-1]
    if way == 1:
        return np.repeat(array, 2, axis=-1)[..., ::2]
    if way == 2:
        return np.asfortranarray(array)
    if way == 3:
        room = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
        room[...] = array
        return room
    if way == 4 and array.dtype.itemsize > 1:
        return array.astype(array.dtype.newbyteorder())
    return array


def spoilt(rng, array):
    """Integers of any dtype and layout; now and then with a number out of range, or of another shape."""
    dtype = INTEGERS[rng.integers(len(INTEGERS))] if rng.random() < 0.95 else np.dtype(rng.choice(["f4", "?", "M8[s]"]))
    array = array.copy()
    if rng.random() < 0.3:
        array.reshape(-1)[rng.integers(array.size)] = rng.choice([0, -1, 5, 6, 7, 8, 100])
    if rng.random() < 0.1:
        array = array[..., :-1] if rng.random() < 0.5 else array[None]
    return laid_out(rng, array.astype(dtype))


def sequences(rng):
    """Arguments of a batch: labels padded, concatenated or of one sequence; most are valid."""
    form = rng.choice(["padded", "concatenated", "single"])
    scores = as_scores("logits", rng.normal(size=(T, V) if form == "single" else (B, T, V)))
    frames, counts = rng.integers(0, T + 1, B), rng.integers(0, S + 1, B)
    counts[rng.integers(B)] = S
    labels = rng.integers(1, V, (B, S))
    if form == "single":
        return scores, None, spoilt(rng, labels[0]), None if rng.random() < 0.5 else int(rng.integers(S + 2))
    if form == "concatenated":
        labels = np.concatenate([row[:n] for row, n in zip(labels, counts, strict=True)])
    if rng.random() < 0.2 and form == "padded":
        return scores, None, spoilt(rng, labels), None
    return scores, spoilt(rng, frames), spoilt(rng, labels), spoilt(rng, counts)


def test_sequences_of_plain_arrays():
    rng = np.random.default_rng(0)
    found, refused = 0, 0
    for _ in range(3000):
        scores, frames, labels, counts = sequences(rng)

        def read(*given, scores=scores):
            table = as_sequences(scores, *given, 0)
            return table.frames, table.starts, table.lengths, table.frames_needed, table.values

        expected = outcome(read, other(frames), other(labels), other(counts))
        assert outcome(read, frames, labels, counts) == expected
        found, refused = found + isinstance(expected, list), refused + isinstance(expected, tuple)
    assert min(found, refused) > 500


def test_usual_forms_are_read_in_one_pass():
    """Compiled code reads these forms alone, and returns False for all others."""
    labels = np.array([[1, 2, 2, 3], [4, 4, 4, 0]])
    frames, counts, table = np.array([7, 5]), np.array([4, 3]), np.empty(16, np.int64)
    for dtype in INTEGERS:
        given = labels.astype(dtype), frames.astype(dtype), counts.astype(dtype)
        plain = dtype != np.uint64
        assert arguments.read_sequences(table, 2, *given, 7, 5, 0, False) == plain
        if plain:
            assert table.tolist() == [7, 5, 0, 4, 4, 3, 5, 5, *labels.reshape(-1)]
    assert arguments.read_sequences(table[:15], 2, labels.reshape(-1)[:7], frames, counts, 7, 5, 0, False)
    assert table[:8].tolist() == [7, 5, 0, 4, 4, 3, 5, 5]
    assert arguments.read_sequences(table[:8], 1, labels[0], None, None, 7, 5, 0, True)
    assert table[:8].tolist() == [7, 0, 4, 5, 1, 2, 2, 3]
    for wrong in (labels.tolist(), labels.astype(float), labels.T, labels[0], labels[None]):
        assert not arguments.read_sequences(table, 2, wrong, frames, counts, 7, 5, 0, False)


def test_lengths_of_plain_arrays():
    rng = np.random.default_rng(1)
    for _ in range(1000):
        lengths = spoilt(rng, rng.integers(0, T + 1, B))

        def read(value):
            return (as_lengths("lengths", value, B, T, False),)

        assert outcome(read, lengths) == outcome(read, other(lengths))
    assert as_lengths("lengths", None, 0, T, False).shape == (0,)
    assert as_lengths("lengths", None, 2, T, False).tolist() == [T, T]


def test_tags_of_plain_arrays():
    rng = np.random.default_rng(2)
    for _ in range(1000):
        single = rng.random() < 0.3
        x = rng.normal(size=(T, V) if single else (B, T, V))
        options = {"mask": None, "start": None, "end": None}
        lengths = None if single else rng.integers(0, T + 1, B)
        potentials = as_potentials(x, np.zeros((V, V)), lengths=lengths, **options)
        tags = spoilt(rng, rng.integers(0, V, x.shape[:-1]))

        def read(value, potentials=potentials):
            return (as_tags(value, potentials),)

        assert outcome(read, tags) == outcome(read, other(tags))


def test_parameters_of_plain_arrays():
    rng = np.random.default_rng(3)
    for _ in range(500):
        transitions, start = rng.normal(size=(V, V)), rng.normal(size=V)
        if rng.random() < 0.5:
            odd = rng.choice([-np.inf, np.inf, np.nan, 1e300, 1e-310])
            if rng.random() < 0.5:
                start[rng.integers(V)] = odd
            else:
                transitions[rng.integers(V), rng.integers(V)] = odd
        dtype = rng.choice(["f2", "f4", "f8", ">f4", ">f8", "i4"])
        with np.errstate(all="ignore"):
            given = [laid_out(rng, array.astype(dtype)) for array in (transitions, start)]

        def read(transitions, start):
            potentials = as_potentials(np.zeros((2, V)), transitions, lengths=None, mask=None, start=start, end=None)
            return [parameter.values for parameter in potentials.parameters]

        assert str(outcome(read, *given)) == str(outcome(read, *map(other, given)))  # NaN is not equal to itself


def test_constants_of_plain_arrays():
    """Weights of sequences, and numbers of steps, some of which do not count."""
    rng = np.random.default_rng(4)
    for _ in range(1000):
        numbers = rng.normal(size=(B, T))
        if rng.random() < 0.5:
            numbers[rng.integers(B), rng.integers(T)] = rng.choice([-np.inf, np.inf, np.nan, 1e300, -1e-310, -0.0])
        with np.errstate(all="ignore"):
            numbers = laid_out(rng, numbers.astype(rng.choice(["f2", "f4", "f8", ">f4", "i4", "?"])))
        counts = rng.random((B, T)) < 0.8

        def finite(value, counts=counts):
            return (as_finite("risks", value, (B, T), counts),)

        def weights(value):
            return (as_weights("sample_weight", value, B),)

        assert str(outcome(finite, numbers)) == str(outcome(finite, other(numbers)))
        column = np.abs(numbers[:, 0]) if rng.random() < 0.5 else numbers[:, 0]
        assert str(outcome(weights, column)) == str(outcome(weights, other(column)))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_arrays_for_gradients(dtype):
    room = np.zeros((4, 8, 6), dtype)
    wanted = room[:2]
    locked = room[2:].copy()
    locked.flags.writeable = False
    outs = {
        "apart": room[2:],
        "same": room[:2],
        "overlapping": room[1:3],
        "other shape": room[2:, :7],
        "strided": np.zeros((2, 8, 12), dtype)[..., ::2],
        "Fortran": np.zeros((6, 8, 2), dtype).T,
        "broadcast": np.broadcast_to(room[2], (2, 8, 6)),
        "other dtype": np.zeros((2, 8, 6), "i4"),
        "other float": np.zeros((2, 8, 6), "f8" if dtype != "f8" else "f4"),
        "read-only": locked,
        "list": [1.0],
    }
    for out in outs.values():

        def check(out):
            return (check_grad_out(out, wanted),)

        assert outcome(check, out) == outcome(check, other(out))
    native = np.dtype(dtype).isnative
    assert arguments.is_same(outs["apart"], wanted) is (False if native else None)
    assert arguments.is_same(outs["same"], wanted) is (True if native else None)
    assert all(arguments.is_same(out, wanted) is None for out in list(outs.values())[2:])
    empty = room[:0]
    assert not check_grad_out(empty, empty)
