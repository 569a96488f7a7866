"""Read strings of handwritten digits from left to right with a transducer, beside a CTC reader.

    python examples/transduce_digits.py [--quick] [--epochs N] [--seed N] [--output DIR]

The strings are those of ``python -m fastseqloss demo``, read as a stream: an encoder of unidirectional GRUs sees the
columns up to the present one. The baseline adds a linear layer and trains with `fastseqloss.ctc_loss`. The transducer
starts from the encoder of the baseline, as is usual, and adds a predictor, here an embedding of the last digit that was
read, and a joiner that scores every class for every pair of column and number of digits. It trains with
`fastseqloss.rnnt_loss`, in the topology of one label a frame at most, and reads with `fastseqloss.rnnt_greedy_decode`.
"""

import argparse
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

try:
    import numpy as np
    from matplotlib.figure import Figure
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import fastseqloss as fsl
    from fastseqloss import demo
    from fastseqloss.demo import BLANK, SIZE, Digits, Strings
    from fastseqloss.recurrent import GRU, Adam, Embedding, Linear, clip_grad_norm
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[demo]" in the folder of the source'
    raise SystemExit(needs) from None

CLASSES = demo.CLASSES + 1  # the digits and the blank
WINDOW = 10  # columns that the encoder sees at a time: the present one and those before it
HIDDEN, JOINT = 96, 64
STEPS = 100  # in an epoch
DROPOUT = 0.2
TOPOLOGY: Literal["modified"] = "modified"  # one label a frame at most


class Labels(NamedTuple):
    """Digits [B, U], padded with the blank, and their number."""

    values: np.ndarray
    lengths: np.ndarray


def padded(labels: list[np.ndarray]) -> Labels:
    """Return the digits of each string in one array."""
    lengths = np.array([len(row) for row in labels])
    values = np.full((len(labels), lengths.max()), BLANK)
    for row, digits in zip(values, labels, strict=True):
        row[: len(digits)] = digits
    return Labels(values, lengths)


class Encoder:
    """A unidirectional GRU: the state after a column depends on the columns up to it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.layer = GRU(WINDOW * SIZE, HIDDEN, rng=rng)

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """All parameters, by layer and name."""
        return flat({"gru": self.layer.parameters})

    def forward(self, columns: np.ndarray, lengths: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return states [B, T, HIDDEN]; a generator drops some of them."""
        before = np.pad(columns, ((0, 0), (WINDOW - 1, 0), (0, 0)))
        n = columns.shape[1]
        hidden = np.concatenate([before[:, shift : shift + n] for shift in range(WINDOW)], axis=2)
        hidden = self.layer.forward(hidden, lengths)
        self.kept = 1 if rng is None else (rng.random(hidden.shape, np.float32) >= DROPOUT) / np.float32(1 - DROPOUT)
        return hidden * self.kept

    def backward(self, grad: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of all parameters, given that of the states."""
        return flat({"gru": self.layer.backward(grad * self.kept)[0]})


def flat(layers: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return arrays by layer and name."""
    return {f"{layer}.{name}": array for layer, arrays in layers.items() for name, array in arrays.items()}


class Transducer:
    """Encoder, predictor and joiner; logits [B, T, U + 1, V] are a linear layer of tanh(encoder + predictor)."""

    def __init__(self, encoder: Encoder, rng: np.random.Generator) -> None:
        self.encoder = encoder
        self.projection = Linear(HIDDEN, JOINT, rng=rng)
        self.predictor = Embedding(CLASSES, JOINT, rng=rng)
        self.predictor.parameters["weight"] *= 0.3  # which leaves room in the tanh for the frames
        self.output = Linear(JOINT, CLASSES, rng=rng)

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """All parameters, by layer and name."""
        layers: dict[str, Any] = {"projection": self.projection, "predictor": self.predictor, "output": self.output}
        return self.encoder.parameters | flat({name: layer.parameters for name, layer in layers.items()})

    def join(self, frames: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return logits; the joiner of the loss, and of decoding."""
        self.inner = np.tanh(frames + predictions)
        return self.output.forward(self.inner)

    def forward(self, strings: Strings, labels: Labels, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the logits of all pairs of a column and a number of digits."""
        frames = self.projection.forward(self.encoder.forward(strings.columns, strings.lengths, rng))
        last = np.pad(labels.values, ((0, 0), (1, 0)), constant_values=BLANK)  # the digit before each node
        predictions = self.predictor.forward(last, labels.lengths + 1)
        return self.join(frames[:, :, None], predictions[:, None])

    def learn(self, strings: Strings, rng: np.random.Generator) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and the gradients of all parameters."""
        labels = padded(strings.labels)
        logits = self.forward(strings, labels, rng)
        loss, grad = fsl.rnnt_loss(
            logits,
            labels.values,
            strings.lengths,
            labels.lengths,
            blank=BLANK,
            topology=TOPOLOGY,
            grad_out=logits,
        )
        found = {}
        found["output"], inner = self.output.backward(grad)
        inner *= 1 - self.inner * self.inner
        found["projection"], hidden = self.projection.backward(inner.sum(axis=2))
        found["predictor"], _ = self.predictor.backward(inner.sum(axis=1))
        return loss, self.encoder.backward(hidden) | flat(found)

    def decode(self, strings: Strings) -> fsl.RNNTDecoding:
        """Read strings column by column."""
        encoded = self.projection.forward(self.encoder.forward(strings.columns, strings.lengths))
        table = self.predictor.parameters["weight"]
        return fsl.rnnt_greedy_decode(
            encoded,
            predict=lambda last, states: (table[last], states),
            join=self.join,
            logit_lengths=strings.lengths,
            blank=BLANK,
            max_symbols=1,
        )

    def read(self, strings: Strings) -> list[list[int]]:
        """Return the digits of each string."""
        decoded = self.decode(strings)
        return [row[:n].tolist() for row, n in zip(decoded.labels, decoded.label_lengths, strict=True)]


class CTCReader:
    """The same encoder, and logits [B, T, V] of a linear layer."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.encoder = Encoder(rng)
        self.output = Linear(HIDDEN, CLASSES, rng=rng)

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """All parameters, by layer and name."""
        return self.encoder.parameters | flat({"output": self.output.parameters})

    def learn(self, strings: Strings, rng: np.random.Generator) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss and the gradients of all parameters."""
        logits = self.output.forward(self.encoder.forward(strings.columns, strings.lengths, rng))
        loss, grad = fsl.ctc_loss(logits, strings.labels, strings.lengths, blank=BLANK, grad_out=logits)
        found, hidden = self.output.backward(grad)
        return loss, self.encoder.backward(hidden) | flat({"output": found})

    def read(self, strings: Strings) -> list[list[int]]:
        """Return the digits of each string."""
        logits = self.output.forward(self.encoder.forward(strings.columns, strings.lengths))
        return demo.greedy_decode(logits, strings.lengths)


def train(
    model: Transducer | CTCReader,
    digits: Digits,
    tests: Strings,
    epochs: int,
    rate: float,
    rng: np.random.Generator,
) -> float:
    """Train a model; print and return the share of test strings that it reads without a mistake."""
    optimizer = Adam(model.parameters)
    began, name = time.perf_counter(), type(model).__name__
    losses = []
    for step in tqdm(range(epochs * STEPS), name, unit="batch", leave=False, disable=None):
        loss, gradients = model.learn(demo.make_strings(digits, demo.BATCH, rng, distorted=True), rng)
        clip_grad_norm(gradients, demo.MAX_NORM)
        optimizer.learning_rate = rate * demo.learning_rate(step / (epochs * STEPS))
        optimizer.step(gradients)
        losses.append(loss)
    seconds = time.perf_counter() - began
    accuracy = demo.sequence_accuracy(model.read(tests), tests.labels)
    print(f"{name}: {accuracy:.1%} of {len(tests.labels)} held-out strings read without a mistake; ", end="")
    print(f"loss {np.mean(losses[-50:]):.3f}; trained in {seconds:.0f} s", flush=True)
    return accuracy


def first(strings: Strings, b: int) -> Strings:
    """Return one of the strings, without its padding."""
    n = int(strings.lengths[b])
    return Strings(strings.columns[b : b + 1, :n], strings.lengths[b : b + 1], strings.labels[b : b + 1])


def draw(image: np.ndarray, visits: np.ndarray, frames: np.ndarray, labels: np.ndarray, title: str) -> Figure:
    """Draw a string, and below it the probability that a path visits each node, with the best path."""
    ink, accent = "#1b2a41", "#d1495b"
    n_columns, n_nodes = visits.shape
    figure = Figure(figsize=(10, 4.6), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13, color=ink)
    picture, grid = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.6])
    picture.imshow(image, cmap="Greys", aspect="auto", extent=(0, n_columns, SIZE, 0), interpolation="nearest")
    picture.set_yticks([])
    picture.tick_params(bottom=False)
    picture.spines[:].set_visible(False)
    grid.imshow(
        visits.T,
        cmap="Blues",
        aspect="auto",
        origin="lower",
        extent=(0, n_columns, -0.5, n_nodes - 0.5),
        vmin=0,
        vmax=1,
    )
    edges = np.concatenate([[0], frames + 0.5, [n_columns]])
    grid.hlines(np.arange(n_nodes), edges[:-1], edges[1:], color=accent, linewidth=1.8)
    grid.vlines(frames + 0.5, np.arange(n_nodes - 1), np.arange(1, n_nodes), color=accent, linewidth=1.8)
    for u, (frame, digit) in enumerate(zip(frames, labels, strict=True)):
        grid.annotate(
            str(digit), (frame + 0.5, u + 0.5), xytext=(-6, 0), textcoords="offset points", color=accent,
            fontsize=12, fontweight="bold", ha="right", va="center",
        )  # fmt: skip
    grid.set(xlabel="column", ylabel="digits read", yticks=range(n_nodes))
    grid.spines[["top", "right"]].set_visible(False)
    grid.tick_params(colors="#4a5568")
    return figure


def draw_alignment(model: Transducer, strings: Strings, accuracy: float) -> Figure:
    """Align the first string with its digits, and draw that."""
    string = first(strings, 0)
    labels = padded(string.labels)
    logits = model.forward(string, labels)[0]
    digits = labels.values[0]
    aligned = fsl.rnnt_align(logits, digits, blank=BLANK, topology=TOPOLOGY)
    blank, label = fsl.rnnt_posteriors(logits, digits, blank=BLANK, topology=TOPOLOGY)
    title = f"{accuracy:.1%} of held-out strings read right; the digits, and the columns at which they are emitted"
    return draw(string.columns[0].T, blank + label, aligned.frames, digits, title)


def main() -> None:
    """Train the transducer and the CTC reader; print their accuracies; draw an alignment."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--epochs", type=int, default=8, help="of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args()
    epochs = 3 if options.quick else options.epochs
    rng = np.random.default_rng(options.seed)
    training, held_out = demo.split_digits(rng)
    tests = demo.make_strings(held_out, demo.HELD_OUT_STRINGS, rng)
    chance = float(np.mean([0.1 ** len(string) for string in tests.labels]))
    print(f"guessing the digits, their number known: {chance:.2%}")
    # The matrices are small: several BLAS threads would be slower.
    with threadpool_limits(1, user_api="blas"):
        reader = CTCReader(np.random.default_rng(options.seed + 1))
        baseline = train(reader, training, tests, epochs, 1.0, rng)
        model = Transducer(reader.encoder, np.random.default_rng(options.seed + 2))
        accuracy = train(model, training, tests, epochs, 0.5, rng)
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / "transduce_digits.png"
        draw_alignment(model, tests, accuracy).savefig(path, dpi=120)
    print(f"picture: {path}")
    if options.quick and min(baseline, accuracy) < 10 * chance:
        raise SystemExit("a reader has not learnt enough")


if __name__ == "__main__":
    main()
