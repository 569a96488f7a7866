"""Learn to split Cantonese into words from a score for each sentence.

    python examples/learn_from_reward.py [--quick] [--seed N] [--output DIR]

Chinese is written without spaces. A bidirectional GRU reads the characters of a sentence of spoken Cantonese and
decides at each character whether a word ends. The training data do not contain the ends of the words. The only signal
is a reward for the whole sentence: the F1 score of the words, where a word is correct if both of its ends are. The
score has no gradient, so the network is trained as a policy.

Several segmentations of each sentence are drawn, and the reward of each is compared with the mean reward of the
others (the baseline). Three learners start from the same weights and read the same sentences:

- REINFORCE, `fastseqloss.policy_gradient_loss`: one update for each draw;
- clipped, `fastseqloss.clipped_policy_loss`: four updates with the same draws, limited by the clip;
- told, `fastseqloss.softmax_cross_entropy`, for comparison: trained with the ends of the words.

Most words have one character, so a policy that always ends a word has a good score, and REINFORCE alone settles there.
A small bonus for the entropy of the policy (`entropy_coef`) lets the learners try other segmentations for longer.

The sentences are a part of the Hong Kong Cantonese Corpus (tests/data/README.md gives origin and licence), without
punctuation. The figure is learn_from_reward.png.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    from matplotlib.figure import Figure
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import fastseqloss as fsl
    from fastseqloss.recurrent import GRU, Adam, Embedding, Linear, clip_grad_norm
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[demo]" in the folder of the source'
    raise SystemExit(needs) from None

DATA = Path(__file__).resolve().parents[1] / "tests" / "data" / "tagged_hkcancor.npz"
HELD_OUT, LONGEST = 500, 40
UNKNOWN = 0  # for characters that occur once in the training data or not at all
VECTOR, HIDDEN = 48, 48
BATCH, DRAWS, UPDATES = 64, 4, 4
ENTROPY = 0.03
RATES = {"REINFORCE": 1e-2, "clipped": 5e-3, "told": 5e-3}  # of Adam


class Sentences(NamedTuple):
    """Characters, ends of words (0 or 1) and lengths; padded with 0."""

    characters: np.ndarray  # [B, T]
    ends: np.ndarray  # [B, T]
    lengths: np.ndarray  # [B]

    def take(self, chosen: np.ndarray) -> "Sentences":
        """Return the selected sentences, padded to the longest of them."""
        width = self.lengths[chosen].max()
        return Sentences(self.characters[chosen, :width], self.ends[chosen, :width], self.lengths[chosen])


def load(rng: np.random.Generator) -> tuple[Sentences, Sentences, str]:
    """Return training and held-out sentences, without overlap, and the alphabet."""
    with np.load(DATA) as archive:
        spoken = np.split(archive["vocab"][archive["words"]], np.cumsum(archive["lengths"].astype(int))[:-1])
    split = [tuple(word for word in words if word[-1].isalnum()) for words in spoken]
    chosen = [words for words in dict.fromkeys(split) if 1 < len("".join(words)) <= LONGEST]
    alphabet = "¤" + "".join(sorted(set("".join(map("".join, chosen)))))
    lengths = np.array([len("".join(words)) for words in chosen])
    characters, ends = np.zeros((2, len(chosen), lengths.max()), np.int64)
    sentences = Sentences(characters, ends, lengths)
    for row, words in enumerate(chosen):
        sentences.characters[row, : lengths[row]] = [alphabet.index(c) for c in "".join(words)]
        sentences.ends[row, np.cumsum([len(word) for word in words]) - 1] = 1
    held_out, training = np.split(rng.permutation(len(chosen)), [HELD_OUT])
    seen = np.bincount(sentences.characters[training].ravel(), minlength=len(alphabet))
    sentences.characters[seen[sentences.characters] < 2] = UNKNOWN
    return sentences.take(training), sentences.take(held_out), alphabet


def f1_score(cuts: np.ndarray, ends: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the F1 score [...] of the words that `cuts` [..., T] make; the last character always ends one."""
    steps = np.arange(ends.shape[-1])
    inside, last = steps < lengths[..., None], steps == lengths[..., None] - 1
    made, true = (((array > 0) | last) & inside for array in (cuts, ends))
    both = made & true
    # A word is correct if both segmentations have its end and the same previous end.
    before = [np.maximum.accumulate(np.where(array, steps, -1), axis=-1) for array in (made, true)]
    same = np.ones(both.shape, bool)
    same[..., 1:] = before[0][..., :-1] == before[1][..., :-1]
    return 2 * (both & same).sum(axis=-1) / (made.sum(axis=-1) + true.sum(axis=-1))


class Policy:
    """Scores of continuing and of ending a word, at every character."""

    def __init__(self, characters: int, rng: np.random.Generator) -> None:
        self.embedding = Embedding(characters, VECTOR, rng=rng)
        self.ahead, self.back = (GRU(VECTOR, HIDDEN, reverse=reverse, rng=rng) for reverse in (False, True))
        self.linear = Linear(2 * HIDDEN, 2, rng=rng)
        layers: dict[str, Any] = {
            "embedding": self.embedding,
            "ahead": self.ahead,
            "back": self.back,
            "linear": self.linear,
        }
        self.parameters = {f"{k}.{name}": a for k, layer in layers.items() for name, a in layer.parameters.items()}

    def forward(self, batch: Sentences) -> np.ndarray:
        """Return the scores [B, T, 2]."""
        vectors = self.embedding.forward(batch.characters, batch.lengths)
        hidden = [layer.forward(vectors, batch.lengths) for layer in (self.ahead, self.back)]
        return self.linear.forward(np.concatenate(hidden, axis=2))

    def backward(self, gradient: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of all parameters, given that of the scores."""
        found = {}
        found["linear"], slope = self.linear.backward(gradient)
        found["ahead"], ahead = self.ahead.backward(slope[..., :HIDDEN])
        found["back"], back = self.back.backward(slope[..., HIDDEN:])
        found["embedding"], _ = self.embedding.backward(ahead + back)
        return {f"{layer}.{name}": array for layer, arrays in found.items() for name, array in arrays.items()}


class Draws(NamedTuple):
    """Segmentations of sentences, `DRAWS` of each in consecutive rows, and their rewards."""

    cuts: np.ndarray  # [B * DRAWS, T]
    log_probs: np.ndarray  # [B * DRAWS, T]
    advantages: np.ndarray  # [B * DRAWS]
    lengths: np.ndarray  # [B * DRAWS]
    reward: float  # the mean


def repeat(array: np.ndarray) -> np.ndarray:
    """Return every row `DRAWS` times."""
    return np.repeat(array, DRAWS, axis=0)


def draw_cuts(scores: np.ndarray, batch: Sentences, rng: np.random.Generator) -> Draws:
    """Draw from the policy; compare each reward with the mean of the other draws of the sentence."""
    many = repeat(scores)
    cuts = (many + rng.gumbel(size=many.shape)).argmax(axis=2)
    lengths = repeat(batch.lengths)
    rewards = f1_score(cuts, repeat(batch.ends), lengths).reshape(-1, DRAWS)
    others = (rewards.sum(axis=1, keepdims=True) - rewards) / (DRAWS - 1)
    log_probs = -fsl.softmax_cross_entropy(many, cuts, lengths, reduction="none")
    return Draws(cuts, log_probs, (rewards - others).ravel(), lengths, float(rewards.mean()))


class Learner:
    """A policy and its method of learning: "REINFORCE", "clipped" or "told"."""

    def __init__(self, method: str, characters: int, seed: int) -> None:
        self.method, self.rng = method, np.random.default_rng(seed)
        self.policy = Policy(characters, self.rng)
        self.optimizer = Adam(self.policy.parameters, learning_rate=RATES[method])
        self.rewards: list[float] = []  # mean of each batch's draws

    def update(self, gradient: np.ndarray) -> None:
        """Update the parameters, given the gradient of the scores."""
        gradients = self.policy.backward(gradient)
        clip_grad_norm(gradients, 1.0)
        self.optimizer.step(gradients)

    def learn(self, batch: Sentences) -> None:
        """Learn from a batch of sentences."""
        scores = self.policy.forward(batch)
        if self.method == "told":
            self.update(fsl.softmax_cross_entropy(scores, batch.ends, batch.lengths, return_grad=True)[1])
            return
        drawn = draw_cuts(scores, batch, self.rng)
        self.rewards.append(drawn.reward)
        for update in range(UPDATES if self.method == "clipped" else 1):
            if update:
                scores = self.policy.forward(batch)
            many = repeat(scores)
            options: dict[str, Any] = {"entropy_coef": ENTROPY, "grad_out": many}
            if self.method == "clipped":
                _, gradient = fsl.clipped_policy_loss(
                    many, drawn.cuts, drawn.log_probs, drawn.advantages, drawn.lengths, clip=(0.2, 0.2), **options
                )
            else:
                _, gradient = fsl.policy_gradient_loss(many, drawn.cuts, drawn.advantages, drawn.lengths, **options)
            self.update(gradient.reshape(-1, DRAWS, *scores.shape[1:]).sum(axis=1))

    def score(self, sentences: Sentences) -> float:
        """Return the mean F1 score of the most probable cuts."""
        cuts = self.policy.forward(sentences).argmax(axis=2)
        return float(f1_score(cuts, sentences.ends, sentences.lengths).mean())


def train(learner: Learner, training: Sentences, held_out: Sentences, steps: int, bar: tqdm) -> dict[int, float]:
    """Train on `steps` batches; return held-out scores by the number of sentences read."""
    tests = 15 if steps >= 150 else 3
    rng = np.random.default_rng(0)  # all learners read the same sentences
    scores = {0: learner.score(held_out)}
    for step in range(1, steps + 1):
        learner.learn(training.take(rng.choice(len(training.lengths), BATCH, replace=False)))
        bar.update()
        if step % (steps // tests) == 0:
            scores[step * BATCH] = learner.score(held_out)
            bar.set_postfix_str(f"{learner.method}: F1 {scores[step * BATCH]:.3f}")
    return scores


def constant_scores(sentences: Sentences, rng: np.random.Generator) -> dict[str, float]:
    """Return the rewards of constant policies: ends with probability 1/2, and with the best probability."""
    shares = np.linspace(0, 1, 11)[:, None, None]
    scores = f1_score(rng.random(sentences.ends.shape) < shares, sentences.ends, sentences.lengths).mean(axis=1)
    best = int(scores.argmax())
    constant = f"an end at {shares[best].item():.0%} of the characters"
    return {"at random": float(scores[5]), constant: float(scores[best])}


def show(learners: list[Learner], sentences: Sentences, alphabet: str) -> None:
    """Print sentences with the reference segmentation and those of the learners."""
    made = [("as it is", sentences.ends)]
    made += [(learner.method, learner.policy.forward(sentences).argmax(axis=2)) for learner in learners]
    for row, length in enumerate(sentences.lengths):
        print()
        for name, ends in made:
            marks = [alphabet[c] + " " * int(end) for c, end in zip(sentences.characters[row], ends[row], strict=True)]
            print(f"{name:<10}", "".join(marks[:length]))


def draw(path: Path, curves: dict[str, dict[int, float]], constants: dict[str, float]) -> None:
    """Draw the learning curves."""
    figure = Figure(figsize=(9, 5), layout="constrained", facecolor="white")
    axes = figure.subplots()
    styles = {
        "told": ("told every end (cross-entropy)", "#8d99ae"),
        "clipped": (f"reward, clipped, {UPDATES} updates for each draw", "#d1495b"),
        "REINFORCE": ("reward, REINFORCE", "#30638e"),
    }
    for method, (label, colour) in styles.items():
        seen, scores = list(curves[method]), list(curves[method].values())
        axes.plot(seen, scores, "o-", color=colour, markersize=3.5, label=f"{label}: {scores[-1]:.2f}")
    for name, score in constants.items():
        axes.axhline(score, color="#00798c", linestyle="--", linewidth=1)
        axes.annotate(f"{name}: {score:.2f}", (0.99, score), (0, -12), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", color="#00798c")  # fmt: skip
    axes.set(xlabel="sentences seen", ylabel="F1 score of the words, held-out sentences", ylim=(0, 1), xlim=(0, None))
    axes.set_title("Cutting Cantonese into words, for a mark at the end of the sentence", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.02), frameon=False)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train, print and draw; return the final score of each learner."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a sixth of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args(arguments)
    rng, began = np.random.default_rng(options.seed), time.perf_counter()
    training, held_out, alphabet = load(rng)
    print(f"{len(training.lengths)} sentences to learn from, {len(held_out.lengths)} held out")
    steps, curves = 48 if options.quick else 300, {}
    learners = [Learner(method, len(alphabet), options.seed + 1) for method in RATES]
    # The matrices are small: several BLAS threads would be slower.
    with threadpool_limits(1, user_api="blas"), tqdm(total=steps * len(learners), unit="batch", disable=None) as bar:
        for learner in learners:
            curves[learner.method] = train(learner, training, held_out, steps, bar)
        show(learners, held_out.take(np.arange(5)), alphabet)
    final = {method: list(curve.values())[-1] for method, curve in curves.items()}
    constants = constant_scores(held_out, rng)
    print("\nF1 score of the words of held-out sentences")
    for name, score in (constants | final).items():
        print(f"  {name:<34}{score:.3f}")

    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "learn_from_reward.png"
    draw(picture, curves, constants)
    print(f"in {time.perf_counter() - began:.0f} s; picture: {picture}")
    for learner in learners[:2]:
        first, last = learner.rewards[0], np.mean(learner.rewards[-5:])
        print(f"mean reward of the draws, {learner.method}: {first:.3f} at first, {last:.3f} at last")
        if final[learner.method] < max(constants.values()) + 0.05:
            raise SystemExit(f"{learner.method} has not learnt enough")
    return final


if __name__ == "__main__":
    main()
