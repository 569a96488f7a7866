"""Forced alignment of scores that are read a window at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._core.arrays import FLOATS, MOST_ELEMENTS, as_array, as_lengths, check_output, filled
from .._core.keywords import known_keywords
from .._core.levels import load
from .._core.messages import wrong_dtype
from .._core.options import as_input_kind, as_integer, as_number, choice, no_class
from .._core.scores import Scores, as_batch
from .._core.types import Infeasible, Input
from .alignment import CTCAlignment, finish_alignment
from .arguments import as_lattice_of, as_log_prior, as_star_log_prob

if TYPE_CHECKING:
    from .._kernels.ctc import alignment as _kernel
else:
    _kernel = load("ctc.alignment")

Read = Callable[[int, int], ArrayLike]

_LARGE = 1e290


@known_keywords
def ctc_align_windows(
    logits: Read | ArrayLike,
    labels: ArrayLike,
    logit_lengths: int | None = None,
    *,
    window: int = 3000,
    blank: int = 0,
    input: Input = "logits",
    star: int | None = None,
    star_log_prob: float | ArrayLike = 0.0,
    label_prior: ArrayLike | None = None,
    prior_scale: float = 1.0,
    infeasible: Infeasible = "inf",
) -> CTCAlignment:
    r"""Forced alignment of one sequence whose scores are read one window at a time.

    .. math:: \pi^* = \arg\max_{\pi \in \mathcal{B}^{-1}(l)}
              \sum_{t=1}^{T} \left(\log p_{t,\pi_t} - \alpha \log q_{\pi_t}\right)

    The result has the same bits as that of `ctc_align` for the whole array, for any `window`. The
    windows are read from the last to the first, and then from the first to the last, so each frame
    is read at most twice [1]_.

    Parameters
    ----------
    logits : callable, or array_like [T, V]
        Function ``logits(start, stop)`` that returns the scores of the frames from `start` to `stop`, an array
        [stop - start, V]. It must return the same numbers each time it is called for the same frames. An array, such as
        a ``numpy.memmap`` or a dataset of HDF5 or Zarr, is sliced, and only the slices are read. float16, bfloat16,
        float32 or float64.
    labels : array_like of int [S]
        Labels of the sequence.
    logit_lengths : int, optional
        Number of frames; T by default. Required if `logits` is a function, where it is T.
    window : int
        Largest number of frames to read at once, 1 or more. The windows begin at its multiples.
    blank, input, star, star_log_prob, label_prior, prior_scale, infeasible
        As for `ctc_align`, for one sequence.

    Returns
    -------
    CTCAlignment
        As for `ctc_align`, for one sequence.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, lengths, labels or options are not as above, or if the scores of a window are not the same
        the second time. The message names the argument and, for scores, the frames: ``logits[3000:6000]``. Exceptions
        of the function are passed on.

    See Also
    --------
    ctc_align : alignment of batches, with scores in memory.

    Notes
    -----
    The function may run a model, which then computes each frame twice; to compute it once, write its
    scores to a file and pass a memory map. Sequences with NaN or +inf among the scores have a
    ``log_prob`` of NaN and no path.

    The function stores two windows of scores, the frames between two checkpoints, 40 bytes for each frame and about
    :math:`36 (T S)^{2/3}` bytes of checkpoints: 90 MB for an hour of speech, 180000 frames and 20000 labels, besides
    the windows. If the best path crosses scores so low that sums in float64 lose digits (-4e6 - 64 T in total, relative
    to the best classes; only masks have such scores), the second reading reads all frames into memory.

    References
    ----------
    .. [1] J. A. Grice, R. Hughey, D. Speck, "Reduced space sequence alignment", Computer
       Applications in the Biosciences 13(1), 1997.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> probs = np.array([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
    >>> def read(start, stop):
    ...     print("frames", start, "to", stop)
    ...     return probs[start:stop]
    >>> aligned = fsl.ctc_align_windows(read, [1, 2], 4, window=2, input="probs")
    frames 2 to 4
    frames 0 to 2
    frames 2 to 4
    >>> aligned.path
    array([0, 1, 1, 2])
    """
    kind = as_input_kind(input)
    choice("infeasible", infeasible, get_args(Infeasible))
    windows = _Windows(logits, logit_lengths, window)
    last = windows.read(windows.count - 1)
    shape = (1, windows.rows, last.shape[1])
    values = np.broadcast_to(last.dtype.type(0), shape)
    lattice = as_lattice_of(Scores(values, values[0]), labels, windows.frames, None, blank, kind, infeasible, star)
    sequences = lattice.sequences
    scale = as_number("prior_scale", prior_scale, 0.0, np.inf)
    prior = as_log_prior("label_prior", label_prior, shape[2], scale)
    stars = as_star_log_prob("star_log_prob", star_log_prob, sequences.frames, windows.rows, True)
    check_output("the path", shape[:2], 8)
    path = filled(shape[:2], -1, np.int64)
    outputs = path, path.copy(), np.zeros(shape[:2])
    log_prob = 0.0 if windows.frames >= sequences.frames_needed[0] else -np.inf
    if windows.frames and log_prob == 0.0:
        log_prob = _align(windows, last, sequences.table, (lattice.input, lattice.blank, prior, *stars), outputs)
    path, token_index, frame_log_probs = outputs
    return finish_alignment(lattice, path, token_index, np.array([log_prob]), frame_log_probs)


def _align(
    windows: _Windows,
    scores: NDArray[Any],
    table: NDArray[np.int64],
    terms: tuple[int, int, NDArray[np.float64] | None, float, NDArray[np.float64] | None],
    outputs: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
) -> float:
    """Write the best path to the outputs, and return its log-probability.

    `scores` are those of the last window, the table is that of `Sequences`, and the terms are the kind of the scores,
    the blank, the prior and the log-probabilities of the star.
    """
    options = windows.frames, table[4:], scores.shape[1], *terms, *outputs
    memory = np.zeros(_kernel.open_windows(*options, None), np.uint8)
    block = _kernel.open_windows(*options, memory)
    doubles, best = scores.itemsize == 8, 0.0
    for i in reversed(range(windows.count)):
        scores = scores if i == windows.count - 1 else windows.read(i)
        best = _kernel.align_window(memory, scores, doubles, i * windows.size, 0, 0)
    is_large = windows.is_large or any(map(_is_large, (terms[2], terms[4])))
    if best > 0 or (best == -np.inf and doubles and is_large):  # sums need to be exact
        whole, log_prob = np.concatenate([windows.read(i) for i in range(windows.count)]), np.empty(1)
        _kernel.ctc_align(whole[None], doubles, table, None, *terms, log_prob, *outputs, 1)
        return float(log_prob[0])
    if not best > -np.inf:
        return best
    held, first, done = [scores], 0, 0  # the frames from `first` on, which is the first one of block `done`
    n_blocks = max(1, -(-(windows.frames - 1) // block))
    for i in range(windows.count):
        if i:
            held.append(windows.read(i))
        stop = min((i + 1) * windows.size, windows.frames)
        ready = n_blocks if stop == windows.frames else min(stop // block, n_blocks - 1)
        if ready > done:
            scores = np.concatenate(held) if len(held) > 1 else held[0]
            best = _kernel.align_window(memory, scores, doubles, first, done, ready)
            held, first, done = [scores[ready * block - first :].copy()], ready * block, ready
    return best


def _is_large(scores: NDArray[Any] | None) -> bool:
    """Return True for float64 scores that may add up to inf."""
    if scores is None or scores.itemsize < 8:
        return False
    return bool(((np.abs(scores) > _LARGE) & np.isfinite(scores)).any())


class _Windows:
    """Scores of a sequence in windows of `size` frames, each of which may be read twice."""

    def __init__(self, source: Any, frames: Any, size: Any) -> None:
        self.size = as_integer("window", size)
        if self.size < 1:
            raise ValueError(f"window is {self.size}; allowed: 1 or more")
        self.source = source
        no_class("logits", source, "[T, V], or a function")
        if callable(source):
            if frames is None:
                raise TypeError("logit_lengths is None; allowed: an integer, since logits is a function")
            self.rows = self.frames = as_integer("logit_lengths", frames)
            if not 0 <= self.frames <= MOST_ELEMENTS:
                raise ValueError(f"logit_lengths is {self.frames}; allowed: 0 to {MOST_ELEMENTS}")
        else:
            if not (isinstance(getattr(source, "shape", None), tuple) and hasattr(source, "__getitem__")):
                self.source = as_array("logits", source)
            if len(self.source.shape) != 2:
                raise ValueError(f"logits has shape {tuple(self.source.shape)}; allowed: [T, V], or a function")
            self.rows = int(self.source.shape[0])
            self.frames = int(as_lengths("logit_lengths", frames, 1, self.rows, True)[0])
        self.count = max(1, -(-self.frames // self.size))
        self.is_large = False
        self._form: tuple[int, Any] | None = None  # number of classes, and dtype
        self._sums: dict[int, int] = {}  # of the windows that have been read

    def read(self, i: int) -> NDArray[Any]:
        """Return the scores of window i in float32 or float64, C-contiguous."""
        start, stop = i * self.size, min((i + 1) * self.size, self.frames)
        name = f"logits[{start}:{stop}]"
        given = as_array(name, self.source(start, stop) if callable(self.source) else self.source[start:stop])
        self._check(name, given, stop - start)
        scores = np.ascontiguousarray(as_batch(name, given).values[0])
        if callable(self.source) and np.may_share_memory(scores, given):
            scores = scores.copy()  # a function may return the same memory for the next window
        checksum = zlib.crc32(scores.data)
        if self._sums.setdefault(i, checksum) != checksum:
            raise ValueError(f"{name} has other scores than before; allowed: the same, since every frame is read twice")
        self.is_large |= _is_large(scores)
        return scores

    def _check(self, name: str, given: NDArray[Any], frames: int) -> None:
        if given.dtype == object:
            raise wrong_dtype(name, given, FLOATS)
        n_classes = self._form[0] if self._form else "V"
        if given.ndim != 2 or len(given) != frames or (self._form and given.shape[1] != n_classes):
            raise ValueError(f"{name} has shape {given.shape}; allowed: ({frames}, {n_classes})")
        if given.shape[1] == 0:
            raise ValueError(f"{name} has shape {given.shape}: no classes; allowed: 1 or more")
        if self._form and given.dtype != self._form[1]:
            raise TypeError(f"{name} has dtype {given.dtype}; allowed: {self._form[1]}, as in the other windows")
        self._form = given.shape[1], given.dtype
