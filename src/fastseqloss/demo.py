"""The demo: a recurrent reader of strings of handwritten digits, trained with `ctc_loss`.

The digits of scikit-learn, 8x8 pixels each, are placed side by side at random spacing to form strings
such as "123". The network reads a string column by column. Training gives it the digits of a string
without their positions, which connectionist temporal classification (CTC) infers. A fifth of the
images is held out, and only these are used in the test strings.

Everything is NumPy: the network is from `fastseqloss.recurrent`, and the loss from this package.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
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
PICTURE = "fastseqloss-demo.png"


class Digits(NamedTuple):
    """Images ``[N, 8, 8]`` of ink from 0 to 1, and their digits ``[N]``."""

    images: Array
    labels: Array


@dataclass
class History:
    """Record of a training: loss of each batch, held-out accuracy after each epoch, time."""

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
    """Scale, shear, turn and move about a third of the images, and change their pressure.

    The others are unchanged, because interpolation blurs and the held-out images are sharp.
    """
    chosen = rng.random(len(images)) < 0.3
    images, result = images[chosen], images.copy()
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
    moved = (1 - down) * ((1 - right) * padded[image, row, column] + right * padded[image, row, column + 1]) + down * (
        (1 - right) * padded[image, row + 1, column] + right * padded[image, row + 1, column + 1]
    )
    pressure = np.exp(rng.normal(0, 0.3, (count, 1, 1)))
    result[chosen] = moved**pressure
    return result


def make_strings(digits: Digits, count: int, rng: np.random.Generator, *, distorted: bool = False) -> Strings:
    """Return `count` strings of 3 to 5 random digits with 0 to 3 empty columns between them."""
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

    The input at each column includes two neighbours on either side.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.dropout = 0.5
        sizes = [5 * SIZE, 2 * HIDDEN]
        self.recurrent = [[GRU(size, HIDDEN, reverse=reverse, rng=rng) for reverse in (False, True)] for size in sizes]
        self.linear = Linear(2 * HIDDEN, CLASSES + 1, rng=rng)

    @property
    def parameters(self) -> dict[str, Array]:
        """All parameters, by layer and name."""
        layers = {"linear": self.linear.parameters}
        for depth, pair in enumerate(self.recurrent):
            layers |= {f"ahead{depth}": pair[0].parameters, f"back{depth}": pair[1].parameters}
        return _flat(layers)

    def forward(self, columns: Array, lengths: Array, rng: np.random.Generator | None = None) -> Array:
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
    """Return the best class of every column, with repeats merged and blanks removed."""
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
    """Return the share of strings read without a mistake."""
    return float(np.mean([a == b.tolist() for a, b in zip(decoded, labels, strict=True)]))


def learning_rate(progress: float) -> float:
    """Return a rate that rises over the first twentieth of the training, and falls to 0 over the last two thirds."""
    return PEAK_RATE * min(1, 0.02 + 20 * progress, 1.5 * (1 - progress))


def train(reader: Reader, digits: Digits, tests: Strings, epochs: int, rng: np.random.Generator) -> History:
    """Train the reader, and test it after every epoch."""
    parameters = reader.parameters
    optimizer = Adam(parameters)
    history = History()
    every = 0.1 if sys.stderr.isatty() else 1.0  # seconds between updates, each of which is a line of a log
    with tqdm(total=epochs * STEPS_PER_EPOCH, unit="batch", desc="training", mininterval=every) as bar:
        for step in range(epochs * STEPS_PER_EPOCH):
            started = time.perf_counter()
            strings = make_strings(digits, BATCH, rng, distorted=True)
            logits = reader.forward(strings.columns, strings.lengths, rng)

            before_loss = time.perf_counter()
            loss, grad = ctc_loss(logits, strings.labels, strings.lengths, blank=BLANK, return_grad=True)
            loss = float(loss)
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
                bar.set_postfix(loss=f"{loss:.2f}", accuracy=f"{history.accuracies[-1]:.1%}", refresh=False)
    return history


def alignment(reader: Reader, strings: Strings) -> tuple[Array, Array]:
    """Return the image of the first string ``[8, T]`` and its posteriors ``[T, 11]``.

    The gradient of the loss with respect to the logits is softmax less posterior.
    """
    steps = int(strings.lengths[0])
    columns = strings.columns[:1, :steps]
    logits = reader.forward(columns, strings.lengths[:1])[0]
    _, grad = ctc_loss(logits, strings.labels[0], blank=BLANK, return_grad=True)
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    return columns[0].T, softmax - grad


def draw(history: History, image: Array, posterior: Array, labels: Array, title: str) -> Figure:
    """Draw the loss curve, and below it a string with its alignment posterior."""
    ink, blank_colour = "#1b2a41", "#c3cad6"
    figure = Figure(figsize=(10, 6), layout="constrained", facecolor="white")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1, 1.35])
    top, bottom = parts
    figure.suptitle(title, fontsize=13, color=ink)

    axes = top.subplots()
    losses = np.array(history.losses)
    smooth = np.convolve(losses, np.ones(20) / 20, mode="valid") if len(losses) > 40 else losses
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color=blank_colour, linewidth=0.7)
    axes.plot(steps[len(losses) - len(smooth) :], smooth, color="#d1495b", linewidth=1.8)
    axes.set(yscale="log", xlabel="batch", ylabel="CTC loss, nats", xlim=(0, len(losses)))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="#eceff4")
    _plain(axes)

    picture, chart = bottom.subplots(2, 1, sharex=True, height_ratios=[1, 1.5])
    extent = (-0.5, image.shape[1] - 0.5, SIZE - 0.5, -0.5)
    picture.imshow(image, cmap="Greys", aspect="auto", extent=extent, interpolation="nearest")
    picture.set_yticks([])
    picture.tick_params(bottom=False)
    picture.spines[:].set_visible(False)
    columns = np.arange(len(posterior))
    chart.fill_between(columns, posterior[:, BLANK], color=blank_colour, alpha=0.5, linewidth=0)
    chart.plot(columns, posterior[:, BLANK], color="#8d99ae", linewidth=1, label="blank")
    palette = ["#d1495b", "#00798c", "#edae49", "#30638e", "#5f0f40"]
    for rank, digit in enumerate(dict.fromkeys(labels.tolist())):
        colour = palette[rank % len(palette)]
        curve = posterior[:, digit]
        chart.fill_between(columns, curve, color=colour, alpha=0.35, linewidth=0)
        chart.plot(columns, curve, color=colour, linewidth=1.6, label=str(digit))
    chart.set(xlabel="column", ylabel="alignment posterior", ylim=(0, 1.05))
    chart.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    _plain(chart)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors="#4a5568")


def run(seed: int = 0, epochs: int = 12, output: Path = Path()) -> History:
    """Train, test, print the results and save the picture in the folder `output`."""
    rng = np.random.default_rng(seed)
    training, held_out = split_digits(rng)
    tests = make_strings(held_out, HELD_OUT_STRINGS, rng)
    reader = Reader(rng)
    # The matrices are small, so further BLAS threads would spend their time waiting.
    with threadpool_limits(1, user_api="blas"):
        history = train(reader, training, tests, epochs, rng)

    accuracy = history.accuracies[-1]
    chance = float(np.mean([0.1 ** len(string) for string in tests.labels]))
    share = history.loss_seconds / history.seconds
    print(f"held-out strings read without a mistake: {accuracy:.1%} of {HELD_OUT_STRINGS}")
    print(f"  (guessing the digits, their number known: {chance:.2%})")
    print(f"training took {history.seconds:.0f} s, {share:.1%} of it in the loss")

    image, posterior = alignment(reader, tests)
    digits = "".join(map(str, tests.labels[0]))
    title = f"{accuracy:.1%} of held-out strings read right; where “{digits}” was found"
    picture = output / PICTURE
    output.mkdir(parents=True, exist_ok=True)
    draw(history, image, posterior, tests.labels[0], title).savefig(picture, dpi=120)
    print(f"picture: {picture}")
    return history
