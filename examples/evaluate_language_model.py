"""Train a small language model and measure its bits per byte, without the scores of its vocabulary in memory.

    python examples/evaluate_language_model.py [--quick] [--seed N]

An LSTM reads the help texts that come with Python (`pydoc_data.topics`, of the Python Software Foundation and under
its licence) word by word. It learns with `fastseqloss.linear_cross_entropy`, which takes the LSTM's states and the
matrix of its last layer instead of scores for every word of the vocabulary.

Texts that the model has not seen are scored with `fastseqloss.linear_sequence_log_prob`. Two figures result. The
perplexity per token depends on the division into tokens, so models with different vocabularies cannot be compared by
it. The bits per byte, the negative log-probability of a text in bits over its length in UTF-8, can be compared with
those of any model. Every text has a probability, because a word that is not in the vocabulary is spelled as its bytes.

The last table compares time and memory of this evaluation with plain ways, which store all scores.
"""

import argparse
import pydoc_data.topics
import re
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

try:
    import numpy as np
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import fastseqloss as fsl
    from fastseqloss.recurrent import LSTM, Adam, Embedding, clip_grad_norm
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[demo]" in the folder of the source'
    raise SystemExit(needs) from None

START = 256  # the token before each document; tokens 0 to 255 are bytes
PIECES = re.compile(r" ?\w+|\s+|[^\w\s]")
VECTOR, HIDDEN = 96, 128
BATCH, WINDOW = 32, 48
HELD_OUT = 7  # one document of so many


class Documents(NamedTuple):
    """Texts as tokens."""

    names: list[str]
    tokens: list[np.ndarray]
    n_bytes: np.ndarray


class Passages(NamedTuple):
    """Pieces of documents, of one length but for the last ones, which are padded."""

    inputs: np.ndarray  # [B, T], the token before each target
    targets: np.ndarray  # [B, T]
    lengths: np.ndarray  # [B]
    document: np.ndarray  # [B], to which each belongs


def texts() -> dict[str, str]:
    """Return the help texts by topic, each paragraph once."""
    topics, seen, found = pydoc_data.topics.topics, set(), {}
    for name in sorted(topics):
        paragraphs = dict.fromkeys(part.strip("\n") for part in topics[name].split("\n\n"))
        new = [part for part in paragraphs if part and part not in seen]
        seen.update(new)
        if new:
            found[name] = "\n\n".join(new)
    return found


def split() -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts to learn from, and the others."""
    found = list(texts().items())
    return (
        dict(item for i, item in enumerate(found) if i % HELD_OUT != 2),
        dict(item for i, item in enumerate(found) if i % HELD_OUT == 2),
    )


def vocabulary(training: dict[str, str]) -> dict[str, int]:
    """Return the tokens of the words that occur twice or more."""
    counts = Counter(piece for text in training.values() for piece in PIECES.findall(text))
    common = [piece for piece, count in counts.most_common() if count > 1]
    return {piece: START + 1 + i for i, piece in enumerate(common)}


def tokenize(documents: dict[str, str], words: dict[str, int]) -> Documents:
    """Return the documents as tokens; other words are spelled as bytes."""
    tokens = []
    for text in documents.values():
        numbers: list[int] = []
        for piece in PIECES.findall(text):
            numbers += [words[piece]] if piece in words else piece.encode()
        tokens.append(np.array(numbers))
    return Documents(list(documents), tokens, np.array([len(text.encode()) for text in documents.values()]))


def passages(documents: Documents) -> Passages:
    """Cut documents into passages; what precedes the first token of each document is `START`."""
    rows, document = [], []
    for i, tokens in enumerate(documents.tokens):
        context = np.concatenate([[START], tokens])
        for first in range(0, len(tokens), WINDOW):
            rows.append(context[first : first + WINDOW + 1])
            document.append(i)
    lengths = np.array([len(row) - 1 for row in rows])
    padded = np.full((len(rows), WINDOW + 1), START)
    for row, numbers in zip(padded, rows, strict=True):
        row[: len(numbers)] = numbers
    return Passages(padded[:, :-1], padded[:, 1:], lengths, np.array(document))


class Model:
    """An embedding of tokens, an LSTM, and the matrix of the scores of the next token."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.embedding = Embedding(size, VECTOR, rng=rng)
        self.recurrent = LSTM(VECTOR, HIDDEN, rng=rng)
        self.recurrent.parameters["input_bias"][HIDDEN : 2 * HIDDEN] = 1  # the initial forget gates are open
        weight = (rng.normal(size=(size, HIDDEN)) / np.sqrt(HIDDEN)).astype(np.float32)
        self.head = {"weight": weight, "bias": np.zeros(size, np.float32)}
        layers = {"embedding": self.embedding.parameters, "recurrent": self.recurrent.parameters, "head": self.head}
        self.parameters = {f"{layer}.{name}": array for layer, of in layers.items() for name, array in of.items()}

    def states(self, inputs: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Return the states [B, T, D] after each token."""
        return self.recurrent.forward(self.embedding.forward(inputs), lengths)

    def learn(self, tokens: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss of windows [B, T + 1] and the gradients of all parameters."""
        hidden = self.states(tokens[:, :-1])
        loss, grad = fsl.linear_cross_entropy(
            hidden, self.head["weight"], tokens[:, 1:], bias=self.head["bias"], ignore_index=START, return_grad=True
        )
        recurrent, slope = self.recurrent.backward(grad.hidden)
        found = {"embedding": self.embedding.backward(slope)[0], "recurrent": recurrent,
                 "head": {"weight": grad.weight, "bias": grad.bias}}  # fmt: skip
        return loss, {f"{layer}.{name}": array for layer, of in found.items() for name, array in of.items()}


def train(model: Model, documents: Documents, steps: int, rng: np.random.Generator) -> list[float]:
    """Train on random windows of all documents, one after the other; return the losses."""
    stream = np.concatenate([numbers for tokens in documents.tokens for numbers in ([START], tokens)])
    optimizer, losses = Adam(model.parameters), []
    with tqdm(total=steps, unit="batch", disable=None) as bar:
        for step in range(steps):
            starts = rng.integers(len(stream) - WINDOW, size=BATCH)
            loss, gradients = model.learn(stream[starts[:, None] + np.arange(WINDOW + 1)])
            clip_grad_norm(gradients, 1.0)
            optimizer.learning_rate = 8e-3 * min(1, 0.1 + 10 * step / steps, 1.1 * (1 - step / steps))
            optimizer.step(gradients)
            losses.append(loss)
            bar.update()
            bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
    return losses


class Report(NamedTuple):
    """Figures of a model on some documents."""

    bits_per_byte: float
    perplexity: float  # per token
    each: np.ndarray  # bits per byte of each document


def evaluate(model: Model, documents: Documents) -> Report:
    """Score documents without the scores of their tokens in memory."""
    cut = passages(documents)
    hidden = model.states(cut.inputs, cut.lengths)
    log_prob = fsl.linear_sequence_log_prob(hidden, targets=cut.targets, lengths=cut.lengths, **model.head)
    return report(np.bincount(cut.document, log_prob), documents)


def report(log_prob: np.ndarray, documents: Documents) -> Report:
    """Return the figures that follow from the log-probabilities of documents."""
    bits = -log_prob / np.log(2)
    n_tokens = sum(map(len, documents.tokens))
    perplexity = np.exp(-log_prob.sum() / n_tokens)
    return Report(float(bits.sum() / documents.n_bytes.sum()), float(perplexity), bits / documents.n_bytes)


def count_tokens(training: Documents, documents: Documents, size: int) -> Report:
    """Return the figures of a model that knows the frequencies of tokens alone, each counted once more."""
    counts = 1 + np.bincount(np.concatenate(training.tokens), minlength=size)
    log_prob = np.log(counts / counts.sum())
    return report(np.array([log_prob[tokens].sum() for tokens in documents.tokens]), documents)


def in_numpy(hidden: np.ndarray, weight: np.ndarray, bias: np.ndarray, cut: Passages) -> np.ndarray:
    """Return the log-probabilities of passages by NumPy alone."""
    scores = hidden @ weight.T
    scores += bias
    scores -= scores.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(scores, cut.targets[..., None], -1)[..., 0] - np.log(np.exp(scores).sum(axis=-1))
    return np.where(np.arange(WINDOW) < cut.lengths[:, None], chosen, 0).sum(axis=-1, dtype=np.float64)


def with_scores(hidden: np.ndarray, weight: np.ndarray, bias: np.ndarray, cut: Passages) -> np.ndarray:
    """Return the log-probabilities of passages by the array of all scores."""
    scores = hidden @ weight.T
    scores += bias
    return fsl.sequence_log_prob(scores, cut.targets, cut.lengths)


def without_scores(hidden: np.ndarray, weight: np.ndarray, bias: np.ndarray, cut: Passages) -> np.ndarray:
    """Return the log-probabilities of passages without the array of scores."""
    return fsl.linear_sequence_log_prob(hidden, weight, cut.targets, cut.lengths, bias=bias)


def measure(call: Callable[[], np.ndarray]) -> tuple[np.ndarray, float, float]:
    """Return a result, the least seconds of three calls, and the MB that one allocates at most at a time."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, min(seconds), peak / 1e6


def compare(model: Model, documents: Documents) -> dict[str, tuple[np.ndarray, float, float]]:
    """Measure three ways to score documents, given the states of the LSTM."""
    cut = passages(documents)
    hidden = model.states(cut.inputs, cut.lengths)
    ways = {"NumPy, all scores": in_numpy, "sequence_log_prob, all scores": with_scores,
            "linear_sequence_log_prob": without_scores}  # fmt: skip
    return {name: measure(partial(way, hidden, **model.head, cut=cut)) for name, way in ways.items()}


def main(arguments: list[str] | None = None) -> Report:
    """Train, evaluate and compare; return the figures of the held-out texts."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    parts = split()
    words = vocabulary(parts[0])
    training, held_out = (tokenize(part, words) for part in parts)
    size = START + 1 + len(words)
    n_tokens = [sum(map(len, part.tokens)) for part in (training, held_out)]
    print(f"{n_tokens[0]} tokens to learn from; {n_tokens[1]} tokens, {held_out.n_bytes.sum()} bytes in "
          f"{len(held_out.names)} texts held out; a vocabulary of {size}")  # fmt: skip

    model = Model(size, rng)
    # The matrices of a step of the LSTM are small: several BLAS threads would be slower.
    with threadpool_limits(1, user_api="blas"):
        train(model, training, 60 if options.quick else 600, rng)
        found = evaluate(model, held_out)
        ways = compare(model, held_out)
    counted = count_tokens(training, held_out, size)
    print("\n                          bits per byte   perplexity per token")
    print(f"  frequencies of tokens{counted.bits_per_byte:>16.3f}{counted.perplexity:>23.1f}")
    print(f"  LSTM{found.bits_per_byte:>33.3f}{found.perplexity:>23.1f}")
    order = np.argsort(found.each)
    for label, i in (("easiest", order[0]), ("hardest", order[-1])):
        print(f"\nthe {label} text is {held_out.names[i]!r} with {found.each[i]:.3f} bits per byte", end="")
    print(f"\n\n{'scoring the held-out texts':<32}{'seconds':>10}{'MB':>8}")
    for name, (_, seconds, megabytes) in ways.items():
        print(f"  {name:<30}{seconds:>10.3f}{megabytes:>8.1f}")
    goal = (1.0 if options.quick else 0.8) * counted.bits_per_byte
    if found.bits_per_byte > goal:
        raise SystemExit(f"the LSTM has not learnt enough for {goal:.3f} bits per byte")
    return found


if __name__ == "__main__":
    main()
