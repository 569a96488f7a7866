"""Recommend the next word of a sentence, as a keyboard does, with the losses of session-based recommenders.

    python examples/recommend_next.py [--quick] [--seed N] [--output DIR]

A sentence of spoken Cantonese is a session, and its words are the items. A GRU reads the items and scores all of them
as the next one. Three networks learn from the same sessions:

- BPR-max, `fastseqloss.bpr_max_loss`, and TOP1-max, `fastseqloss.top1_max_loss`, compare the next item with sampled
  negatives: the next items of the other steps of the batch, and a random sample;
- cross-entropy, `fastseqloss.softmax_cross_entropy`, compares it with all items.

The measures on held-out sessions are the share of next items among the 20 best (recall) and the mean of 1 / rank, 0
beyond rank 20 (mean reciprocal rank, MRR). The baselines are popularity, and counts of the items that follow each item.
A short training (`--quick`) beats popularity only; the whole one beats both.

The sentences are those of the Hong Kong Cantonese Corpus (tests/data/README.md gives origin and licence), without
punctuation. The figure is recommend_next.png.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    from matplotlib.figure import Figure
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import fastseqloss as fsl
    from fastseqloss.recurrent import GRU, Adam, Embedding, clip_grad_norm
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[demo]" in the folder of the source'
    raise SystemExit(needs) from None

DATA = Path(__file__).resolve().parents[1] / "tests" / "data" / "sessions_hkcancor.npz"
HELD_OUT, QUICK = 600, 2500  # sessions; the latter to learn from with --quick
UNKNOWN = 0  # the number of all rare items, which are neither recommended nor counted
SHOWN = 20  # recommendations that recall and MRR look at
BATCH, HIDDEN, NEGATIVES, DROPOUT = 32, 128, 256, 0.3


class Objective(NamedTuple):
    """A loss of scores [S, N] and targets [S], and whether the N items are a sample or all."""

    loss: Callable[..., Any]
    sampled: bool


OBJECTIVES = {
    "BPR-max": Objective(partial(fsl.bpr_max_loss, regularization=0.1), True),
    "TOP1-max": Objective(fsl.top1_max_loss, True),
    "cross-entropy": Objective(fsl.softmax_cross_entropy, False),
}


class Sessions(NamedTuple):
    """Items, padded with `UNKNOWN`, and the lengths of the sessions."""

    items: np.ndarray  # [B, T]
    lengths: np.ndarray  # [B]

    def take(self, chosen: np.ndarray) -> "Sessions":
        """Return the selected sessions, padded to the longest of them."""
        return Sessions(self.items[chosen, : self.lengths[chosen].max()], self.lengths[chosen])

    def steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mask [B, T - 1] of steps before an item that counts, and those items [S]."""
        following = self.items[:, 1:]
        return following != UNKNOWN, following[following != UNKNOWN]


def load(rng: np.random.Generator) -> tuple[Sessions, Sessions, list[str]]:
    """Return training and held-out sessions, without overlap, and the names of the items."""
    with np.load(DATA) as archive:
        items, lengths, names = archive["items"], archive["lengths"].astype(np.int64), archive["names"].tolist()
    sessions = Sessions(np.full((len(lengths), lengths.max()), UNKNOWN), lengths)
    sessions.items[np.arange(lengths.max()) < lengths[:, None]] = items
    held_out, training = np.split(rng.permutation(len(lengths)), [HELD_OUT])
    return sessions.take(training), sessions.take(held_out), names


class Recommender:
    """An embedding of items, a GRU, and a vector and a bias of each item as the next one."""

    def __init__(self, n_items: int, rng: np.random.Generator) -> None:
        self.embedding = Embedding(n_items, HIDDEN, rng=rng)
        self.recurrent = GRU(HIDDEN, HIDDEN, rng=rng)
        vectors = rng.normal(0, HIDDEN**-0.5, (n_items, HIDDEN)).astype(np.float32)
        self.items = {"vectors": vectors, "bias": np.zeros(n_items, np.float32)}
        self.rng = rng
        layers = {"embedding": self.embedding.parameters, "recurrent": self.recurrent.parameters, "items": self.items}
        self.parameters = self.named(layers)

    @staticmethod
    def named(layers: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the arrays of all layers in one dict."""
        return {f"{layer}.{name}": array for layer, arrays in layers.items() for name, array in arrays.items()}

    def states(self, sessions: Sessions, dropout: float = 0.0) -> np.ndarray:
        """Return the states [B, T - 1, H] after all items but the last."""
        before = sessions.lengths - 1
        vectors = self.embedding.forward(sessions.items[:, :-1], before)
        shape = (2, *vectors.shape)
        self.kept = (self.rng.random(shape, np.float32) >= dropout) / np.float32(1 - dropout)
        return self.recurrent.forward(vectors * self.kept[0], before) * self.kept[1]

    def learn(
        self, sessions: Sessions, loss: Callable[..., Any], columns: np.ndarray
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Return the loss of the next items among the items `columns` [N], sorted, and the gradients."""
        states = self.states(sessions, DROPOUT)
        counted, targets = sessions.steps()
        rows, vectors = states[counted], self.items["vectors"][columns]
        scores = rows @ vectors.T + self.items["bias"][columns]
        value, gradient = loss(scores, np.searchsorted(columns, targets), grad_out=scores)
        of_items = {name: np.zeros_like(array) for name, array in self.items.items()}
        of_items["vectors"][columns], of_items["bias"][columns] = gradient.T @ rows, gradient.sum(axis=0)
        slope = np.zeros_like(states)
        slope[counted] = gradient @ vectors
        recurrent, slope = self.recurrent.backward(slope * self.kept[1])
        embedding, _ = self.embedding.backward(slope * self.kept[0])
        return value, self.named({"embedding": embedding, "recurrent": recurrent, "items": of_items})

    def scores(self, sessions: Sessions) -> np.ndarray:
        """Return the scores [S, V] of all items at the steps that count."""
        states = self.states(sessions)[sessions.steps()[0]]
        return states @ self.items["vectors"].T + self.items["bias"]


def sample(targets: np.ndarray, n_items: int, rng: np.random.Generator) -> np.ndarray:
    """Return the targets of a batch and a random sample of other items, sorted: each is a negative of the others."""
    return np.union1d(targets, rng.integers(UNKNOWN + 1, n_items, NEGATIVES))


def train(name: str, training: Sessions, n_items: int, epochs: int, seed: int, bar: tqdm) -> Recommender:
    """Train with one of the `OBJECTIVES`, in batches of similar lengths."""
    rng = np.random.default_rng(seed)
    model, (loss, sampled) = Recommender(n_items, rng), OBJECTIVES[name]
    optimizer = Adam(model.parameters)
    for epoch in range(epochs):
        optimizer.learning_rate = 5e-3 * (1 - epoch / epochs)
        order = np.argsort(training.lengths + rng.uniform(0, 4, len(training.lengths)))
        batches = np.array_split(order, len(order) // BATCH)
        for i in rng.permutation(len(batches)):
            batch = training.take(batches[i])
            columns = sample(batch.steps()[1], n_items, rng) if sampled else np.arange(UNKNOWN + 1, n_items)
            value, gradients = model.learn(batch, loss, columns)
            clip_grad_norm(gradients, 1.0)
            optimizer.step(gradients)
            bar.update()
        bar.set_postfix_str(f"{name}, loss {value:.3f}")
    return model


def count_scores(training: Sessions, held_out: Sessions, n_items: int) -> dict[str, np.ndarray]:
    """Return the scores [S, V] of all items by their counts, and by their counts after the last item.

    An item that occurs n times after an item with c successors, d of them different, has the score
    (n + d p) / (c + d), where p is its share of all items (Witten and Bell).
    """
    counted, targets = training.steps()
    p = np.bincount(targets, minlength=n_items) / len(targets)
    n = np.zeros((n_items, n_items))
    np.add.at(n, (training.items[:, :-1][counted], targets), 1)
    different = (n > 0).sum(axis=1, keepdims=True)
    after = (n + different * p) / np.maximum(n.sum(axis=1, keepdims=True) + different, 1)
    last = held_out.items[:, :-1][held_out.steps()[0]]
    return {"popularity": np.tile(p, (len(last), 1)), "pairs": after[last]}


def ranks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the rank of each target [S] among the items that can be recommended; equal scores share a mean rank."""
    own = scores[np.arange(len(targets)), targets][:, None]
    others = scores[:, UNKNOWN + 1 :]
    return ((others > own).sum(axis=1) + (others >= own).sum(axis=1) + 1) / 2


class Result(NamedTuple):
    """Ranks of the held-out next items, and their measures."""

    ranks: np.ndarray

    def recall(self, shown: int = SHOWN) -> float:
        """Return the share of items within the first `shown`."""
        return float((self.ranks <= shown).mean())

    def reciprocal(self) -> float:
        """Return the mean of 1 / rank, 0 beyond `SHOWN`."""
        return float(((self.ranks <= SHOWN) / self.ranks).mean())


def show(scores: dict[str, np.ndarray], held_out: Sessions, names: list[str]) -> None:
    """Print the five best items after the beginnings of some sessions."""
    counted, _ = held_out.steps()
    place = np.cumsum(counted).reshape(counted.shape) - 1
    long = np.flatnonzero((held_out.items[:, :5] != UNKNOWN).all(axis=1))[:4]
    for row in long:
        words = [names[i] for i in held_out.items[row, :5]]
        print(f"\n{' '.join(words[:4])} [{words[4]}]")
        for method, array in scores.items():
            best = np.argsort(-array[place[row, 3], 1:], kind="stable")[:5] + 1
            print(f"  {method:<14}{'  '.join(names[i] for i in best)}")


def draw(path: Path, results: dict[str, Result]) -> None:
    """Draw recall by the number of recommendations."""
    figure = Figure(figsize=(8, 4.5), layout="constrained", facecolor="white")
    axes = figure.subplots()
    styles = {"popularity": ("#8d99ae", ":"), "pairs": ("#8d99ae", "--"), "BPR-max": ("#d1495b", "-"),
              "TOP1-max": ("#edae49", "-"), "cross-entropy": ("#00798c", "-")}  # fmt: skip
    shown = np.arange(1, 51)
    for name, result in results.items():
        colour, line = styles[name]
        shares = [100 * result.recall(int(n)) for n in shown]
        label = f"{name}: {shares[SHOWN - 1]:.1f} % within {SHOWN}"
        axes.plot(shown, shares, line, color=colour, linewidth=1.6, label=label)
    axes.axvline(SHOWN, color="#c3cad6", linewidth=0.8)
    axes.set(xlabel="recommendations", ylabel="% of next items among them", xlim=(1, 50), ylim=(0, None))
    axes.set_title("Recommending the next word, held-out sentences", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=90)


def main(arguments: list[str] | None = None) -> dict[str, Result]:
    """Train, test, print, draw; return the result of each method."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the sessions, and fewer epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    training, held_out, names = load(np.random.default_rng(options.seed))
    if options.quick:
        training = training.take(np.arange(QUICK))
    _, targets = held_out.steps()
    print(f"{len(training.lengths)} sessions to learn from, {len(held_out.lengths)} held out, {len(names) - 1} items")
    scores = count_scores(training, held_out, len(names))
    epochs = 2 if options.quick else 5
    batches = len(OBJECTIVES) * epochs * (len(training.lengths) // BATCH)
    # The matrices are small: several BLAS threads would be slower.
    with threadpool_limits(1, user_api="blas"), tqdm(total=batches, unit="batch", disable=None) as bar:
        for name in OBJECTIVES:
            scores[name] = train(name, training, len(names), epochs, options.seed + 1, bar).scores(held_out)
    show(scores, held_out, names)
    results = {name: Result(ranks(array, targets)) for name, array in scores.items()}
    print(f"\n{len(targets)} held-out items{'':<6}recall at {SHOWN}   MRR at {SHOWN}")
    for name, result in results.items():
        print(f"  {name:<20}{result.recall():>12.1%}{result.reciprocal():>12.3f}")

    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "recommend_next.png"
    draw(picture, results)
    print(f"in {time.perf_counter() - began:.0f} s; picture: {picture}")
    goal = results["popularity"].recall() + (0.05 if options.quick else 0.15)
    if min(results[name].recall() for name in OBJECTIVES) < goal:
        raise SystemExit(f"a network has not learnt enough for a recall of {goal:.3f}")
    return results


if __name__ == "__main__":
    main()
