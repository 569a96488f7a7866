"""Values for the fuzzer: the same array in other layouts, and invalid values."""

import array
import atexit
import datetime
import decimal
import fractions
import shutil
import tempfile
from functools import cache
from itertools import cycle
from pathlib import Path

import ml_dtypes
import numpy as np

from step_cases import LAYOUTS, Capsule, Foreign

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [*"?bBhHiIlLqQefdgFD", BFLOAT16, ">f2", ">f4", ">f8", ">i4", ">u8", "S3", "U2", "O", "M8[s]", "m8[s]", "V4",
          [("a", "i4"), ("b", "f8")]]  # fmt: skip
SPECIAL = (np.nan, np.inf, -np.inf, 1e308, -1e308, 1e200, 1e38, -1e38, 1e30, 65504.0, 5e-324, 1e-310, 1e-40, -0.0)
EXTREME = (2**63 - 1, -(2**63), 2**31, -(2**31), 2**53, -1, 0, 1, 2, 3, 127, 255, -100, -77)
HUGE = (2**31, 2**33, 2**40, 2**52, 2**59, 2**60, 2**61, 2**62)


class Subclass(np.ndarray):
    """A class of arrays that is not NumPy's own."""


class Sized:
    """Neither array nor sequence, though it has a length."""

    def __len__(self):
        return 3


def _recursive():
    items = [1]
    items.append(items)
    return items


# One object for each kind of what is no array at all, or hardly.
OBJECTS = (
    None, "", "mean", "hamming", b"ab", 0, 1, -1, 3, 0.5, 1j, True, (), [], {}, {1, 2}, {"a": 1}, object(), ..., int,
    np.mean, [[1, 2], [3]], [[[1], [2, 3]], [[1]]], [None], ["a", "b"], [1, "a"], [[], []], [[], [1]], [1.5, None],
    [np.zeros(2), np.zeros(3)], [np.zeros((2, 1)), np.zeros((1, 2))], range(3), range(2**70), array.array("d", [1.0]),
    array.array("i", [1, 2]), memoryview(b"abcd"), bytearray(b"ab"), decimal.Decimal("0.5"), fractions.Fraction(1, 3),
    datetime.date(2020, 1, 1), [2**63], [2**64], [2**70], [-(2**70)], 10**400, [10**400], [[2**63, -1]], [1e400], ["1"],
    [[1], 2], [decimal.Decimal(1)], [[True, False]], np.float32(1), np.int8(1), np.bool_(True), np.datetime64("2020"),
    np.str_("sum"), np.array(1), np.array(1.5), np.array("a"), np.array([None]), np.ma.masked,
    np.ma.array([1], mask=[1]), Sized(), _recursive(), iter([1, 2]), slice(None), NotImplemented,
    np.zeros((1,) * 33), np.zeros((0,) * 5), np.zeros((1,) * 64), np.dtype("f8"), np.float64, np.ndarray,
    np.errstate(), Foreign(np.zeros((2, 2))), Foreign(np.zeros(2, "S2")), Capsule(np.zeros((2, 3))),
    Capsule(np.zeros(3, np.int64)),
)  # fmt: skip
SCALARS = (
    None, True, False, -1, 0, 1, 2, 3, 7, -100, 2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30,
    10**400, -(10**400), 0.0, -0.0, 0.5, 1.0, 1.5, -0.5, np.nan, np.inf, -np.inf, 1e-3, 1e10, 1e154, 1e300, 1e308,
    -1e308, 5e-324, 1e-310, np.float16(0.5), np.float32(0.3), np.float32(np.inf), np.float64(0.25),
    np.longdouble(0.3), np.longdouble("1e4000"), ml_dtypes.bfloat16(0.5), np.int8(1), np.uint64(2**64 - 1),
    np.bool_(True), np.array(1), np.array(0.5), np.array([1]), np.array([0.1, 0.2]), np.array([]), [0.1], (0.1, 0.2),
    (0.1, 0.2, 0.3), [[0.1], [0.2, 1]], "", "mean", "none", "sum", "per_sequence", "step_mean", "sequence_mean",
    "batch_mean",
    "logits", "log_probs", "probs", "inf", "zero", "raise", "hamming", "image", "curves", "MEAN", "sum\0",
    np.str_("mean"), b"mean", ["mean"], ("sum", "none"), {}, {"mean"}, object(), ..., int, np.mean, 1j,
    fractions.Fraction(1, 3), fractions.Fraction(10**400), decimal.Decimal("0.1"), np.array(["mean", "sum"]),
    np.array("mean"), np.ma.masked, np.datetime64("2020"), [None, None], (None, 1), "12",
)  # fmt: skip


# ---- the same numbers in another guise --------------------------------------------------------


@cache
def _room() -> Path:
    room = Path(tempfile.mkdtemp(prefix="fuzz"))
    atexit.register(shutil.rmtree, room, ignore_errors=True)
    return room


_files = cycle(range(100))


def memmapped(x):
    """The array in a file, mapped into memory."""
    if not x.size:
        return x.copy()
    kind = np.uint16 if x.dtype == BFLOAT16 else x.dtype
    mapped = np.memmap(_room() / f"array{next(_files)}", kind, "w+", shape=x.shape)
    mapped[...] = x.view(kind)
    return mapped.view(x.dtype)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def swapped(x):
    """In the other byte order."""
    return x if x.dtype == BFLOAT16 else x.astype(x.dtype.newbyteorder("S"))


def subclassed(x):
    return x.copy().view(Subclass)


def matrix(x):
    return x.copy().view(np.matrix) if x.ndim == 2 else subclassed(x)


def offset_fields(x):
    """A field of records: strides that need not be multiples of the element, nor aligned."""
    if x.dtype == BFLOAT16:
        return x.copy()
    records = np.zeros(x.shape, np.dtype([("pad", "i1"), ("x", x.dtype), ("more", "i2")]))
    records["x"] = x
    return records["x"]


def aligned_fields(x):
    if x.dtype == BFLOAT16:
        return x.copy()
    records = np.zeros(x.shape, np.dtype([("pad", "i1"), ("x", x.dtype), ("more", "i4")], align=True))
    records["x"] = x
    return records["x"]


def as_list(x):
    return x.tolist() if x.dtype.char in "dlq?" and x.size else x.copy()


def as_tuple(x):
    return tuple(as_list(x)) if x.ndim and x.size else x.copy()


def foreign(x):
    return Foreign(x.copy())


def capsule(x):
    return Capsule(x.copy()) if x.dtype.isnative and x.dtype != BFLOAT16 else x.copy()


ARRAYS = (*LAYOUTS, memmapped, read_only, swapped, subclassed, matrix, offset_fields, aligned_fields)
GUISES = (*ARRAYS, as_list, as_tuple, foreign, capsule)


def guise(random, x, kinds=GUISES):
    """The same array otherwise."""
    changed = random.choice(kinds)
    if changed is memmapped and random.random() < 0.9:  # which takes long
        changed = swapped
    return changed(x)


def plain(value):
    """`value` as a native, contiguous array of NumPy; `value` itself if that is not possible."""
    if isinstance(value, (Foreign, Capsule)):
        value = value.array
    if type(value) is not np.ndarray:
        if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
            return value
        value = np.asarray(value)
    if value.nbytes > 10**8:
        return value
    if value.size == 0 and max(value.shape, default=0) > 10**6:
        return value
    return np.array(value, dtype=value.dtype.newbyteorder("="), order="C", copy=True, subok=False)


# ---- something wrong --------------------------------------------------------------------------


def other_dtype(random, x):
    if x.dtype == BFLOAT16 and random.random() < 0.5:
        x = x.astype(np.float32)
    dtype = np.dtype(random.choice(DTYPES))
    with np.errstate(all="ignore"):
        try:
            return x.astype(dtype)
        except (TypeError, ValueError, OverflowError, Warning):
            return np.zeros(x.shape, dtype)


def other_shape(random, x):
    axis = random.randrange(x.ndim) if x.ndim else None
    choices = [x[None], x[..., None], x.reshape(-1), x[(None,) * random.randrange(1, 6)], np.stack([np.asarray(x)] * 2),
               np.zeros(random.choices((0, 1, 2, 3), k=random.randrange(5)), x.dtype)]  # fmt: skip
    if axis is not None:
        choices += [x.swapaxes(axis, -1), x.take(0, axis) if x.shape[axis] else x, np.repeat(x, 2, axis),
                    x[(slice(None),) * axis + (slice(1, None),)], x[(slice(None),) * axis + (slice(0, 0),)],
                    x.T]  # fmt: skip
    return random.choice(choices)


def other_values(random, x):
    """Some values replaced by such as nobody expects."""
    x = x.copy()
    for _ in range(random.choice((1, 1, 2, 5))):
        if not x.size:
            break
        place = np.unravel_index(random.randrange(x.size), x.shape)
        with np.errstate(all="ignore"):
            if x.dtype.kind in "iu":
                info = np.iinfo(x.dtype)
                x[place] = random.choice([v for v in (*EXTREME, info.max, info.min) if info.min <= v <= info.max])
            elif x.dtype.kind in "fV":
                x[place] = np.float64(random.choice(SPECIAL)).astype(x.dtype)
            elif x.dtype.kind == "b":
                x[place] ^= True
    return x


def all_values(random, x):
    """Every value the same, or bits at random: NaN that signal, numbers below the normal ones."""
    if x.dtype.kind not in "iufV":
        return x.copy()
    if random.random() < 0.5 and x.size:
        return np.frombuffer(random.randbytes(x.nbytes), x.dtype).reshape(x.shape)
    values = SPECIAL if x.dtype.kind in "fV" else (0, 1, 2, -1)
    with np.errstate(all="ignore"):
        return np.full(x.shape, np.float64(random.choice(values))).astype(x.dtype)


def repeated(random, x):
    """One row for all, in the same memory."""
    return np.broadcast_to(x[:1], x.shape) if x.ndim and x.shape[0] else x


def enormous(random, x):
    """An axis that is longer than any memory, of one element repeated; or without any."""
    shape = list(x.shape or (1,))
    axis = random.choice((0, 0, 0, -1, random.randrange(len(shape))))
    shape[axis] = random.choice(HUGE)
    if random.random() < 0.3:
        shape[random.randrange(len(shape))] = 0
    try:
        return np.broadcast_to(x.reshape(-1)[:1].reshape((1,) * len(shape)) if x.size else np.zeros((), x.dtype), shape)
    except ValueError:  # more than NumPy counts
        return x.copy()


def stretched(x, axes, size):
    """The array with axes of that length, along each of which its first element is repeated."""
    if not axes:
        return x
    if not x.size:
        x = np.zeros([max(n, 1) for n in x.shape], x.dtype)
    try:
        shape = [size if axis in axes else n for axis, n in enumerate(x.shape)]
        return np.broadcast_to(x[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(x.ndim))], shape)
    except ValueError:  # more than NumPy counts
        return x


def masked(random, x):
    if x.dtype == BFLOAT16 or not x.ndim:
        return np.ma.MaskedArray(x.copy())
    mask = np.zeros(x.shape, bool)
    mask[..., : random.randint(0, 1)] = True
    return np.ma.MaskedArray(x.copy(), mask)


def something(random, x):
    return random.choice(OBJECTS)


def scalar(random, x):
    return random.choice(SCALARS)


def ragged(random, x):
    rows = [[1], [2, 3]]
    if x.ndim and x.dtype != BFLOAT16:
        rows = [list(row) if np.ndim(row) else row for row in x.tolist()]
    if rows:
        odd = ([], [1], [1, 2, 3, 4, 5, 6, 7], [[1]], None, 1, "a", [None], [1.5])
        rows[random.randrange(len(rows))] = random.choice(odd)
    return rows


WRONGS = (other_dtype, other_shape, other_values, other_values, other_values, all_values, repeated, enormous, masked,
          something, scalar, ragged)  # fmt: skip


def is_small(value):
    """Return True if this is an array of moderate size and few axes."""
    if not isinstance(value, np.ndarray) or value.ndim > 20:
        return False
    return value.size < 10**4 and max(value.shape, default=0) < 10**4


def wrong(random, value):
    """The argument with something changed that may be wrong."""
    array = np.array(value, subok=False) if is_small(value) else np.zeros(random.choice(((), 2, (2, 3))))
    return random.choice(WRONGS)(random, array)
