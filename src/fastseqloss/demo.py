"""The demo: a recurrent reader of strings of handwritten digits, trained with `ctc_loss`.

The digits of scikit-learn, 8x8 pixels each, are glued side by side at random spacing into strings
such as "123". The reader sees a string column by column and is told which digits it holds, never
where they are: that is what connectionist temporal classification (CTC) finds out. A fifth of the
images is held out, and the strings that test the reader are made of those alone.

Everything is NumPy: the network is `fastseqloss.recurrent`, the gradient of the loss is ours.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from tqdm import tqdm

from . import ctc_loss
from .recurrent import GRU, Adam, Linear, clip_grad_norm

Array = NDArray[Any]

SIZE = 8  # pixels, both ways
CLASSES = 10
BLANK = CLASSES
HIDDEN = 64
BATCH = 32
STEPS_PER_EPOCH = 100
HELD_OUT_STRINGS = 1000
PEAK_RATE = 0.008
MAX_NORM = 1.0


class Digits(NamedTuple):
    """Images ``[N, 8, 8]`` of ink from 0 to 1, and the digit that each one shows, ``[N]``."""

    images: Array
    labels: Array


@dataclass
class History:
    """What happened in training: loss of each batch, held-out accuracy after each epoch, time."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    loss_seconds: float = 0.0


class Strings(NamedTuple):
    """Padded strings: columns of ink ``[B, T, 8]``, number of columns ``[B]``, digits."""

    columns: Array
    lengths: Array
    labels: list[Array]


def split_digits(rng: np.random.Generator) -> tuple[Digits, Digits]:
    """Return the digits for training and the held-out fifth."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)
    order = rng.permutation(len(images))
    held_out, training = np.split(order, [len(order) // 5])
    return (
        Digits(images[training], data.target[training]),
        Digits(images[held_out], data.target[held_out]),
    )


def distort(images: Array, rng: np.random.Generator) -> Array:
    """Return the images slightly scaled, sheared, turned, moved and with other pressure."""
    count = len(images)
    centre = (SIZE - 1) / 2
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")) - centre
    matrices = np.eye(2) + rng.normal(0, 0.1, (count, 2, 2))
    source = np.einsum("nij,jyx->niyx", matrices, grid)
    source += centre + rng.normal(0, 0.6, (count, 2, 1, 1))

    # Bilinear interpolation; ink outside the image is 0.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    source = np.clip(source + 1, 0, SIZE + 0.999)
    row, column = source.astype(np.intp).swapaxes(0, 1)
    down, right = np.moveaxis(source % 1, 1, 0)
    image = np.arange(count)[:, None, None]
    moved = (1 - down) * (
        (1 - right) * padded[image, row, column] + right * padded[image, row, column + 1]
    ) + down * (
        (1 - right) * padded[image, row + 1, column] + right * padded[image, row + 1, column + 1]
    )
    pressure = np.exp(rng.normal(0, 0.3, (count, 1, 1)))
    return (moved**pressure).astype(np.float32)


def make_strings(
    digits: Digits, count: int, rng: np.random.Generator, *, distorted: bool = False
) -> Strings:
    """Glue 3 to 5 random digits together, `count` times, 0 to 3 empty columns between them."""
    sizes = rng.integers(3, 6, count)
    picks = rng.integers(len(digits.labels), size=sizes.sum())
    images = digits.images[picks]
    if distorted:
        images = distort(images, rng)
    ends = np.cumsum(sizes)
    gaps = [rng.integers(0, 4, size + 1) for size in sizes]
    lengths = np.array([SIZE * (len(gap) - 1) + gap.sum() for gap in gaps])
    columns = np.zeros((count, lengths.max(), SIZE), np.float32)
    for row, gap, string in zip(columns, gaps, np.split(images, ends[:-1]), strict=True):
        for start, image in zip(np.cumsum(gap + SIZE) - SIZE, string, strict=False):
            row[start : start + SIZE] = image.T
    return Strings(columns, lengths, np.split(digits.labels[picks], ends[:-1]))


class Reader:
    """Two bidirectional GRU layers and a linear layer, from columns to logits of digits and blank.

    Each column comes with its two neighbours on either side.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.dropout = 0.5
        sizes = [5 * SIZE, 2 * HIDDEN]
        self.recurrent = [
            [GRU(size, HIDDEN, reverse=reverse, rng=rng) for reverse in (False, True)]
            for size in sizes
        ]
        self.linear = Linear(2 * HIDDEN, CLASSES + 1, rng=rng)

    @property
    def parameters(self) -> dict[str, Array]:
        layers = {"linear": self.linear.parameters}
        for depth, pair in enumerate(self.recurrent):
            layers |= {f"ahead{depth}": pair[0].parameters, f"back{depth}": pair[1].parameters}
        return _flat(layers)

    def forward(
        self, columns: Array, lengths: Array, rng: np.random.Generator | None = None
    ) -> Array:
        """Return logits ``[B, T, 11]``; a generator `rng` drops half of the hidden units."""
        padded = np.pad(columns, ((0, 0), (2, 2), (0, 0)))
        steps = columns.shape[1]
        hidden = np.concatenate([padded[:, shift : shift + steps] for shift in range(5)], axis=2)
        self._kept = []
        for pair in self.recurrent:
            hidden = np.concatenate([layer.forward(hidden, lengths) for layer in pair], axis=2)
            if rng is not None:
                kept = rng.random(hidden.shape, np.float32) >= self.dropout
                self._kept.append(kept / np.float32(1 - self.dropout))
                hidden *= self._kept[-1]
        return self.linear.forward(hidden)

    def backward(self, grad: Array) -> dict[str, Array]:
        """Return the gradients of all parameters, given that of the logits."""
        layers = {}
        layers["linear"], grad = self.linear.backward(grad)
        for depth, pair in reversed(list(enumerate(self.recurrent))):
            grad = grad * self._kept[depth]
            layers[f"ahead{depth}"], ahead = pair[0].backward(grad[..., :HIDDEN])
            layers[f"back{depth}"], back = pair[1].backward(grad[..., HIDDEN:])
            grad = ahead + back
        return _flat(layers)


def _flat(layers: dict[str, dict[str, Array]]) -> dict[str, Array]:
    return {f"{layer}.{name}": a for layer, arrays in layers.items() for name, a in arrays.items()}


def greedy_decode(logits: Array, lengths: Array) -> list[list[int]]:
    """Take the best class of every column, merge repeats, drop blanks."""
    decoded = []
    for best, length in zip(logits.argmax(axis=2), lengths, strict=True):
        best = best[:length]
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        decoded.append([int(best[start]) for start in starts if best[start] != BLANK])
    return decoded


def read(reader: Reader, strings: Strings) -> list[list[int]]:
    """Return the digits that the reader finds in each string."""
    return greedy_decode(reader.forward(strings.columns, strings.lengths), strings.lengths)


def sequence_accuracy(decoded: list[list[int]], labels: list[Array]) -> float:
    """Return the share of strings read without any mistake."""
    return float(np.mean([a == b.tolist() for a, b in zip(decoded, labels, strict=True)]))


def learning_rate(progress: float) -> float:
    """Rise over the first twentieth of the training, fall to 0 over the last two thirds."""
    return PEAK_RATE * min(1, 0.02 + 20 * progress, 1.5 * (1 - progress))


def train(
    reader: Reader, digits: Digits, tests: Strings, epochs: int, rng: np.random.Generator
) -> History:
    """Train the reader, and test it after every epoch."""
    parameters = reader.parameters
    optimizer = Adam(parameters)
    history = History()
    with tqdm(total=epochs * STEPS_PER_EPOCH, unit="batch", desc="training") as bar:
        for step in range(epochs * STEPS_PER_EPOCH):
            started = time.perf_counter()
            strings = make_strings(digits, BATCH, rng, distorted=True)
            logits = reader.forward(strings.columns, strings.lengths, rng)

            before_loss = time.perf_counter()
            loss, grad = ctc_loss(
                logits, strings.labels, strings.lengths, blank=BLANK, return_grad=True
            )
            history.loss_seconds += time.perf_counter() - before_loss

            gradients = reader.backward(grad)
            clip_grad_norm(gradients, MAX_NORM)
            optimizer.learning_rate = learning_rate(step / bar.total)
            optimizer.step(gradients)
            history.losses.append(loss)
            history.seconds += time.perf_counter() - started

            bar.update()
            if (step + 1) % STEPS_PER_EPOCH == 0:
                history.accuracies.append(sequence_accuracy(read(reader, tests), tests.labels))
                bar.set_postfix(loss=f"{loss:.2f}", accuracy=f"{history.accuracies[-1]:.1%}")
    return history
