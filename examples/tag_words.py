"""Tag the words of spoken Cantonese with their parts of speech, with and without a CRF.

    python examples/tag_words.py [--quick] [--model gru|word] [--epochs N] [--seed N]

Two taggers learn from the same sentences. Both score every tag at every word: the logarithm of its share among the tags
of this word in the training sentences, plus the output of a small network, which is 0 at first. The network is an
embedding of the word and a bidirectional GRU, or with ``--model word`` the embedding only. The first tagger takes the
best tag of each word. The second adds a linear-chain CRF, which learns the transitions between tags and finds the best
path for the whole sentence. Both train through `fastseqloss.crf_loss`: with transitions of 0 a CRF is one softmax per
word. The baseline gives every word its most frequent tag, as the taggers do before training.

The sentences are a part of the Hong Kong Cantonese Corpus (tests/data/README.md gives origin and licence).
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import fastseqloss as fsl
    from fastseqloss.recurrent import GRU, Adam, Embedding, Linear, clip_grad_norm
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[demo]" in the folder of the source'
    raise SystemExit(needs) from None

DATA = Path(__file__).resolve().parents[1] / "tests" / "data" / "tagged_hkcancor.npz"
HELD_OUT = 600
UNKNOWN = 0  # for words that occur once in the training data or not at all
WORD, HIDDEN = 64, 64
SMOOTHING = 2.0  # is added to the counts of a word, spread over the tags


class Sentences(NamedTuple):
    """Words and tags, padded with 0, and their lengths."""

    words: np.ndarray  # [B, T]
    tags: np.ndarray  # [B, T]
    lengths: np.ndarray  # [B]

    def take(self, chosen: np.ndarray) -> "Sentences":
        """Return the selected sentences, padded to the longest of them."""
        width = self.lengths[chosen].max()
        return Sentences(self.words[chosen, :width], self.tags[chosen, :width], self.lengths[chosen])


def load(rng: np.random.Generator) -> tuple[Sentences, Sentences, np.ndarray, np.ndarray]:
    """Return training and held-out sentences, the vocabulary and the names of the tags."""
    with np.load(DATA) as archive:
        words, tags, lengths = (archive[name].astype(np.int64) for name in ("words", "tags", "lengths"))
        vocabulary, names = archive["vocab"], archive["tagset"]
    valid = np.arange(lengths.max()) < lengths[:, None]
    padded = Sentences(np.zeros(valid.shape, np.int64), np.zeros(valid.shape, np.int64), lengths)
    padded.words[valid], padded.tags[valid] = words + 1, tags
    held_out, training = np.split(rng.permutation(len(lengths)), [HELD_OUT])
    seen = np.bincount(padded.words[training].ravel(), minlength=len(vocabulary) + 1)
    padded.words[seen[padded.words] < 2] = UNKNOWN
    return padded.take(training), padded.take(held_out), vocabulary, names


def count_tags(training: Sentences, n_words: int, n_tags: int) -> np.ndarray:
    """Return how often each word has each tag [V, K]."""
    valid = np.arange(training.words.shape[1]) < training.lengths[:, None]
    pairs = training.words[valid] * n_tags + training.tags[valid]
    return np.bincount(pairs, minlength=n_words * n_tags).reshape(n_words, n_tags)


class Network:
    """Scores of all tags at every word, given the counts of the tags of each word."""

    def __init__(self, counts: np.ndarray, model: str, rng: np.random.Generator) -> None:
        n_words, n_tags = counts.shape
        share = counts.sum(axis=0) / counts.sum()
        self.initial = np.log(counts + SMOOTHING * (share + 1 / n_tags) / 2).astype(np.float32)
        self.embedding = Embedding(n_words, WORD, rng=rng)
        self.recurrent = [GRU(WORD, HIDDEN, reverse=r, rng=rng) for r in (False, True)] if model == "gru" else []
        self.output = Linear(WORD + HIDDEN * len(self.recurrent), n_tags, rng=rng)
        for array in self.output.parameters.values():
            array[...] = 0
        self.layers = {"embedding": self.embedding, "output": self.output}
        self.layers |= {f"gru{i}": layer for i, layer in enumerate(self.recurrent)}
        self.rng = rng

    def forward(self, batch: Sentences, dropout: float = 0.0) -> np.ndarray:
        """Return emissions [B, T, K]."""
        vectors = self.embedding.forward(batch.words, batch.lengths)
        features = [vectors] + [layer.forward(vectors, batch.lengths) for layer in self.recurrent]
        kept = np.concatenate(features, axis=2)
        self.kept = (self.rng.random(kept.shape, np.float32) >= dropout) / np.float32(1 - dropout)
        return self.initial[batch.words] + self.output.forward(kept * self.kept)

    def backward(self, gradient: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of all parameters, given that of the emissions."""
        found = {}
        found["output"], inner = self.output.backward(gradient)
        inner = inner * self.kept
        vectors = inner[..., :WORD].copy()
        for i, layer in enumerate(self.recurrent):
            start = WORD + i * HIDDEN
            found[f"gru{i}"], slope = layer.backward(inner[..., start : start + HIDDEN])
            vectors += slope
        found["embedding"], _ = self.embedding.backward(vectors)
        return {f"{layer}.{name}": array for layer, arrays in found.items() for name, array in arrays.items()}

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """All parameters, under the names of their gradients."""
        layers: Iterable[tuple[str, Any]] = self.layers.items()
        return {f"{layer}.{name}": array for layer, made in layers for name, array in made.parameters.items()}


class Tagger:
    """A network and transitions between tags, which are fixed at 0 without a CRF."""

    def __init__(self, network: Network, n_tags: int, with_crf: bool) -> None:
        self.network, self.with_crf = network, with_crf
        self.crf: dict[str, Any] = {
            "transitions": np.zeros((n_tags, n_tags), np.float32),
            "start": np.zeros(n_tags, np.float32),
            "end": np.zeros(n_tags, np.float32),
        }
        self.optimizer = Adam(network.parameters | (self.crf if with_crf else {}), learning_rate=5e-3)

    def learn(self, batch: Sentences) -> float:
        """Take one step on a batch; return the loss per word."""
        emissions = self.network.forward(batch, dropout=0.4)
        loss, gradient = fsl.crf_loss(
            emissions,
            batch.tags,
            lengths=batch.lengths,
            **self.crf,
            reduction="sum",
            normalizer=float(batch.lengths.sum()),
            grad_out=emissions,
        )
        gradients = self.network.backward(gradient.emissions)
        if self.with_crf:
            gradients |= {name: getattr(gradient, name) for name in self.crf}
        clip_grad_norm(gradients, 1.0)
        self.optimizer.step(gradients)
        return loss

    def tag(self, batch: Sentences) -> np.ndarray:
        """Return the tags [B, T] of the best paths."""
        return fsl.crf_decode(self.network.forward(batch), lengths=batch.lengths, **self.crf).tags


def accuracy(tags: np.ndarray, batch: Sentences) -> tuple[float, float]:
    """Return the shares of words and of whole sentences with correct tags."""
    valid = np.arange(tags.shape[1]) < batch.lengths[:, None]
    right = (tags == batch.tags) | ~valid
    return right[valid].mean(), right.all(axis=1).mean()


def train(tagger: Tagger, training: Sentences, held_out: Sentences, epochs: int, rng: np.random.Generator) -> float:
    """Train for `epochs` epochs, in batches of similar lengths; return the share of correct words."""
    for epoch in range(epochs):
        tagger.optimizer.learning_rate = 5e-3 * (1 - epoch / epochs)
        order = np.argsort(training.lengths + rng.uniform(0, 4, len(training.lengths)))
        batches = np.array_split(order, len(order) // 48)
        bar = tqdm(rng.permutation(len(batches)), f"epoch {epoch + 1}", unit="batch", leave=False, disable=None)
        losses = [tagger.learn(training.take(batches[i])) for i in bar]
        words, sentences = accuracy(tagger.tag(held_out), held_out)
        print(f"  epoch {epoch + 1:2}: loss {np.mean(losses):.3f}; held out: {words:.2%} of words right", flush=True)
    print(f"  {words:.2%} of the words, {sentences:.2%} of the sentences")
    return words


def main() -> None:
    """Train both taggers; print their accuracies and the transitions of the CRF."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two epochs")
    parser.add_argument("--model", choices=("gru", "word"), default="gru")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    training, held_out, vocabulary, names = load(np.random.default_rng(options.seed))
    print(f"{len(training.lengths)} sentences to learn from, {len(held_out.lengths)} held out, {len(names)} tags")
    counts = count_tags(training, len(vocabulary) + 1, len(names))
    commonest = np.full_like(held_out.tags, counts.sum(axis=0).argmax()), counts.argmax(axis=1)[held_out.words]
    always, by_word = (accuracy(tags, held_out) for tags in commonest)
    print(f"always the commonest tag: {always[0]:.2%} of the words")
    print("every word's commonest tag:\n  {:.2%} of the words, {:.2%} of the sentences".format(*by_word))
    found = []
    for with_crf in (False, True):
        print("with the CRF:" if with_crf else "without the CRF:")
        rng = np.random.default_rng(options.seed + 1)
        network = Network(counts, options.model, rng)
        tagger = Tagger(network, len(names), with_crf)
        began = time.perf_counter()
        # The matrices are small: several BLAS threads would be slower.
        with threadpool_limits(1, user_api="blas"):
            found.append(train(tagger, training, held_out, 2 if options.quick else options.epochs, rng))
        print(f"  in {time.perf_counter() - began:.0f} s")
    common = np.argsort(-np.bincount(training.tags.ravel()))[:12]
    best = sorted(((tagger.crf["transitions"][i, j], i, j) for i in common for j in common), reverse=True)
    print("likely:  ", ", ".join(f"{names[i]} {names[j]}" for _, i, j in best[:8]))
    print("unlikely:", ", ".join(f"{names[i]} {names[j]}" for _, i, j in best[-8:]))
    if min(found) < by_word[0] + 0.003:
        raise SystemExit("a tagger has not learnt enough to beat the commonest tag of each word")


if __name__ == "__main__":
    main()
