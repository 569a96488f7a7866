"""Learn to write like the Python documentation, character by character.

    python examples/model_characters.py [--quick] [--seed N] [--output DIR]

An LSTM reads the help texts that come with Python (`pydoc_data.topics`) and predicts each next character; it learns
with `fastseqloss.softmax_cross_entropy`. The last tenth of the text is held out. The perplexity on it, the number of
equally likely characters that would be as hard to predict, is compared with the perplexities of counted unigrams,
bigrams and trigrams.

Many paragraphs occur in several topics. Each is kept once, so the held-out text does not repeat the training text.
The figure is model_characters.png.
"""

import argparse
import pydoc_data.topics
import time
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    from matplotlib.figure import Figure
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import fastseqloss as fsl
    from fastseqloss.recurrent import LSTM, Adam, Embedding, Linear, clip_grad_norm
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[demo]" in the folder of the source'
    raise SystemExit(needs) from None

VECTOR, HIDDEN = 32, 192
BATCH, WINDOW = 32, 80
CONTEXT = 16  # characters of a window that are read before the first counted prediction
RARE = 10  # less frequent characters are replaced by "¤"


class Text(NamedTuple):
    """Text as numbers, and the character of each number."""

    training: np.ndarray
    held_out: np.ndarray
    alphabet: str


def load() -> Text:
    """Return the help texts, each paragraph once."""
    topics = pydoc_data.topics.topics
    paragraphs = (part.strip("\n") for name in sorted(topics) for part in topics[name].split("\n\n"))
    text = "\n\n".join(dict.fromkeys(part for part in paragraphs if part))
    common, counts = np.unique(list(text), return_counts=True)
    alphabet = "¤" + "".join(common[counts >= RARE])
    number = {character: i for i, character in enumerate(alphabet)}
    numbers = np.array([number.get(character, 0) for character in text])
    cut = len(numbers) * 9 // 10
    return Text(numbers[:cut], numbers[cut:], alphabet)


def count_perplexity(text: Text, order: int) -> float:
    """Return the held-out perplexity of counts given the `order - 1` previous characters.

    A character that occurs n times after a context with c successors, d of them different, has the probability
    (n + d p) / (c + d), where p is its probability in the next shorter context (Witten and Bell), finally uniform.
    """
    size = len(text.alphabet)
    probability = np.full(len(text.held_out) - 2, 1 / size)
    for length in range(order):
        seen: list[Any] = [
            sum(part[length - i : len(part) - i] * size**i for i in range(length + 1)) for part in text[:2]
        ]
        n = np.bincount(seen[0], minlength=size ** (length + 1)).reshape(-1, size)
        total, different = n.sum(axis=1), (n > 0).sum(axis=1)
        context, character = np.divmod(seen[1][2 - length :], size)
        c, d = total[context], different[context]
        known = c > 0
        estimate = (n[context, character] + d * probability) / np.maximum(c + d, 1)
        probability = np.where(known, estimate, probability)
    return float(np.exp(-np.log(probability).mean()))


class Model:
    """An embedding of characters, an LSTM, and scores of the next character."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.embedding = Embedding(size, VECTOR, rng=rng)
        self.recurrent = LSTM(VECTOR, HIDDEN, rng=rng)
        self.linear = Linear(HIDDEN, size, rng=rng)
        self.recurrent.parameters["input_bias"][HIDDEN : 2 * HIDDEN] = 1  # the initial forget gates are open
        layers: dict[str, Any] = {"embedding": self.embedding, "recurrent": self.recurrent, "linear": self.linear}
        self.parameters = {f"{k}.{name}": a for k, layer in layers.items() for name, a in layer.parameters.items()}

    def forward(self, numbers: np.ndarray) -> np.ndarray:
        """Return the scores [B, T, V] of the character after each."""
        return self.linear.forward(self.recurrent.forward(self.embedding.forward(numbers)))

    def backward(self, gradient: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of all parameters, given that of the scores."""
        linear, slope = self.linear.backward(gradient)
        recurrent, slope = self.recurrent.backward(slope)
        found = {"embedding": self.embedding.backward(slope)[0], "recurrent": recurrent, "linear": linear}
        return {f"{layer}.{name}": array for layer, arrays in found.items() for name, array in arrays.items()}


def counted(rows: int) -> np.ndarray:
    """Return the mask [B, T] of counted predictions, which excludes the first `CONTEXT` of a window."""
    return np.broadcast_to(np.arange(WINDOW) >= CONTEXT, (rows, WINDOW))


def perplexity(model: Model, numbers: np.ndarray) -> float:
    """Return the perplexity of all characters after the first `CONTEXT`, in windows that overlap by `CONTEXT`."""
    starts = np.arange(0, len(numbers) - WINDOW, WINDOW - CONTEXT)
    losses = []
    for rows in np.array_split(starts, -(-len(starts) // 64)):
        windows = numbers[rows[:, None] + np.arange(WINDOW + 1)]
        scores = model.forward(windows[:, :-1])
        losses.append(fsl.softmax_cross_entropy(scores, windows[:, 1:], mask=counted(len(rows)), reduction="sum"))
    return float(np.exp(np.sum(losses) / (len(starts) * (WINDOW - CONTEXT))))


class History(NamedTuple):
    """Losses of all batches, and some held-out perplexities."""

    losses: list[float]
    tested: list[int]
    perplexities: list[float]


def train(model: Model, text: Text, steps: int, tests: int, rng: np.random.Generator) -> History:
    """Train on random windows, and test `tests` times."""
    optimizer = Adam(model.parameters)
    history = History([], [], [])
    with tqdm(total=steps, unit="batch", disable=None) as bar:
        for step in range(steps):
            starts = rng.integers(len(text.training) - WINDOW, size=BATCH)
            windows = text.training[starts[:, None] + np.arange(WINDOW + 1)]
            scores = model.forward(windows[:, :-1])
            loss, gradient = fsl.softmax_cross_entropy(scores, windows[:, 1:], mask=counted(BATCH), grad_out=scores)
            gradients = model.backward(gradient)
            clip_grad_norm(gradients, 1.0)
            optimizer.learning_rate = 6e-3 * min(1, 0.1 + 10 * step / steps, 1.2 * (1 - step / steps))
            optimizer.step(gradients)
            history.losses.append(float(loss))
            bar.update()
            if (step + 1) % (steps // tests) == 0:
                history.tested.append(step + 1)
                history.perplexities.append(perplexity(model, text.held_out))
                bar.set_postfix(perplexity=f"{history.perplexities[-1]:.2f}")
    return history


def write(model: Model, text: Text, starts: list[str], length: int, rng: np.random.Generator) -> list[str]:
    """Continue each start; draw characters from softmax(scores / 0.7), which favours likely ones."""
    number = {character: i for i, character in enumerate(text.alphabet)}
    width = max(map(len, starts))
    written = np.array([[number[c] for c in start.rjust(width)] for start in starts])
    for _ in range(length):
        scores = model.forward(written[:, -WINDOW:])[:, -1] / 0.7
        drawn = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
        written = np.column_stack([written, drawn])
    return ["".join(text.alphabet[i] for i in row).lstrip() for row in written]


def draw(path: Path, history: History, baselines: dict[str, float]) -> None:
    """Draw the perplexities."""
    figure = Figure(figsize=(9, 5), layout="constrained", facecolor="white")
    axes = figure.subplots()
    steps = 1 + np.arange(len(history.losses))
    axes.plot(steps, np.exp(history.losses), color="#c3cad6", linewidth=0.8, label="LSTM, each batch of the training")
    axes.plot(history.tested, history.perplexities, "o-", color="#d1495b", markersize=4,
              label=f"LSTM, held out: {history.perplexities[-1]:.2f}")  # fmt: skip
    for name, value in baselines.items():
        axes.axhline(value, color="#00798c", linestyle="--", linewidth=1)
        axes.annotate(f"{name}, held out: {value:.1f}", (0.99, value), (0, 3), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", color="#00798c")  # fmt: skip
    axes.set(yscale="log", xlabel=f"batches of {BATCH} x {WINDOW} characters", ylabel="perplexity, characters")
    axes.set(xlim=(0, 1.03 * len(steps)), ylim=(3, 60), yticks=(3, 5, 10, 20, 50))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_title("Guessing the next character of the Python documentation", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.02), frameon=False)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> tuple[float, dict[str, float]]:
    """Train, print and draw; return the held-out perplexities of the LSTM and of the counts."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="an eighth of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args(arguments)
    rng, began = np.random.default_rng(options.seed), time.perf_counter()
    text = load()
    sizes = len(text.training), len(text.held_out), len(text.alphabet)
    print("{} characters to learn from, {} held out, {} different ones".format(*sizes))
    model = Model(len(text.alphabet), rng)
    # The matrices are small: several BLAS threads would be slower.
    with threadpool_limits(1, user_api="blas"):
        history = train(model, text, *((100, 2) if options.quick else (750, 15)), rng)
        samples = write(model, text, ["The statement ", "   >>> ", "A class "], 60 if options.quick else 300, rng)
    baselines = {name: count_perplexity(text, i) for i, name in enumerate(("unigrams", "bigrams", "trigrams"), 1)}
    for sample in samples:
        print("\n----", sample, sep="\n")
    print("\n----\nperplexity of held-out characters")
    for name, value in {**baselines, "LSTM": history.perplexities[-1]}.items():
        print(f"  {name:<9}{value:>6.2f}, {np.log2(value):.2f} bits")

    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "model_characters.png"
    draw(picture, history, baselines)
    print(f"in {time.perf_counter() - began:.0f} s; picture: {picture}")
    goal = (1.0 if options.quick else 0.6) * baselines["bigrams"]
    if history.perplexities[-1] > goal:
        raise SystemExit(f"the LSTM has not learnt enough for a perplexity of {goal:.2f}")
    return history.perplexities[-1], baselines


if __name__ == "__main__":
    main()
