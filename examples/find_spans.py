"""Find the words of spoken Cantonese in a row of characters, with an estimator in the manner of scikit-learn.

    python examples/find_spans.py [--quick] [--epochs N] [--seed N]

A word and its part of speech are a span of characters, written with tags of the scheme BIO: "B-n" begins a noun, "I-n"
continues it. `CRFTagger` has `fit`, `predict`, `predict_marginals`, `get_params` and `set_params`. It adds up a weight
for each feature of a character and each tag, and learns the transitions between tags; `fastseqloss.tag_constraints`
forbids what is no row of words, so that every sequence that it predicts can be read as spans. The same features without
a CRF predict each tag alone, and the baseline gives each character its most frequent tag.

The sentences are a part of the Hong Kong Cantonese Corpus (tests/data/README.md gives origin and licence).
"""

import argparse
import inspect
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Literal

try:
    import numpy as np

    import fastseqloss as fsl
    from fastseqloss.recurrent import Adam
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[demo]" in the folder of the source'
    raise SystemExit(needs) from None

DATA = Path(__file__).resolve().parents[1] / "tests" / "data" / "tagged_hkcancor.npz"
HELD_OUT = 600
Features = list[list[str]]  # of the characters of a sentence
Scheme = Literal["BIO", "BIOES", "BIOUL"]
Tags = list[str]


class CRFTagger:
    """Linear-chain CRF on features, with the conventions of scikit-learn's estimators.

    Parameters
    ----------
    scheme : {"BIO", "BIOES", "BIOUL"}
        The tagging scheme, whose rules all predictions obey.
    with_crf : bool
        Whether to learn transitions; otherwise each tag is predicted alone, and rules are broken.
    min_count : int
        Features that occur less often in the training data are left out.
    epochs, batch_size, learning_rate, l2 : int or float
        Options of the training with Adam; `l2` is the weight of the squares of all weights.
    random_state : int
        Seed of the order of the sentences.

    Attributes
    ----------
    classes_ : list of str
        The tags.
    losses_ : list of float
        Mean loss of a character in each epoch.
    """

    def __init__(
        self,
        *,
        scheme: Scheme = "BIO",
        with_crf: bool = True,
        min_count: int = 2,
        epochs: int = 12,
        batch_size: int = 32,
        learning_rate: float = 0.05,
        l2: float = 2e-6,
        random_state: int = 0,
    ) -> None:
        self.scheme: Scheme = scheme
        self.with_crf, self.min_count = with_crf, min_count
        self.epochs, self.batch_size = epochs, batch_size
        self.learning_rate, self.l2, self.random_state = learning_rate, l2, random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the constructor by their names."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> "CRFTagger":
        """Set parameters of the constructor."""
        unknown = params.keys() - self.get_params().keys()
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]!r} is no parameter; allowed: {', '.join(self.get_params())}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: list[Features], y: list[Tags]) -> "CRFTagger":
        """Learn from sentences: lists of features of each character, all of one number, and tags."""
        counts = Counter(feature for sentence in X for features in sentence for feature in features)
        kept = [feature for feature, count in counts.items() if count >= self.min_count]
        self.features_ = {feature: k for k, feature in enumerate(kept, 1)}  # 0 for all others
        self.classes_ = sorted({tag for tags in y for tag in tags})
        k = len(self.classes_)
        self.limits_ = fsl.tag_constraints(self.classes_, self.scheme)
        shapes = {"weights": (len(kept) + 1, k), "transitions": (k, k), "start": (k,), "end": (k,)}
        self.coef_ = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        learnt = self.coef_ if self.with_crf else {"weights": self.coef_["weights"]}
        optimizer = Adam(learnt, learning_rate=self.learning_rate)
        rng, self.losses_ = np.random.default_rng(self.random_state), []
        lengths = np.array([len(tags) for tags in y])
        numbers = {tag: i for i, tag in enumerate(self.classes_)}
        encoded = [
            (self._encode(features), [numbers[tag] for tag in tags]) for features, tags in zip(X, y, strict=True)
        ]
        for epoch in range(self.epochs):
            optimizer.learning_rate = self.learning_rate * (1 - epoch / self.epochs)
            order = np.argsort(lengths + rng.uniform(0, 4, len(lengths)))
            batches = np.array_split(order, max(len(order) // self.batch_size, 1))
            losses = [self._learn([encoded[i] for i in batches[b]], optimizer) for b in rng.permutation(len(batches))]
            self.losses_.append(float(np.mean(losses)))
        return self

    def predict(self, X: list[Features]) -> list[Tags]:
        """Return the tags of sentences, those of the best path."""
        emissions, lengths = self._emissions([self._encode(features) for features in X])
        paths = fsl.crf_decode(emissions, lengths=lengths, **self._parameters()).tags
        return [[self.classes_[i] for i in path[:n]] for path, n in zip(paths, lengths, strict=True)]

    def predict_marginals(self, X: list[Features]) -> list[list[dict[str, float]]]:
        """Return the probability of each tag at each character, by its name."""
        emissions, lengths = self._emissions([self._encode(features) for features in X])
        shares = fsl.crf_marginals(emissions, lengths=lengths, **self._parameters())
        return [
            [dict(zip(self.classes_, row, strict=True)) for row in sentence[:n].tolist()]
            for sentence, n in zip(shares, lengths, strict=True)
        ]

    def score(self, X: list[Features], y: list[Tags]) -> float:
        """Return the F1 score of the spans."""
        return span_f1(self.predict(X), y, self.scheme)

    def _parameters(self) -> dict[str, Any]:
        """Return the transitions, starts and ends: with a CRF, those that the scheme allows."""
        scores = {name: self.coef_[name] for name in ("transitions", "start", "end")}
        return {name: x + getattr(self.limits_, name) for name, x in scores.items()} if self.with_crf else scores

    def _encode(self, sentence: Features) -> list[list[int]]:
        return [[self.features_.get(feature, 0) for feature in features] for features in sentence]

    def _emissions(self, encoded: list[list[list[int]]]) -> tuple[np.ndarray, np.ndarray]:
        """Return emissions [B, T, K], and the lengths; keeps the indices of the features."""
        lengths = np.array([len(sentence) for sentence in encoded])
        n_features = max((len(features) for sentence in encoded for features in sentence), default=0)
        self._inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
        self._indices = np.array([features for sentence in encoded for features in sentence]).reshape(-1, n_features)
        emissions = np.zeros((*self._inside.shape, len(self.classes_)), np.float32)
        emissions[self._inside] = self.coef_["weights"][self._indices].sum(axis=1)
        return emissions, lengths

    def _learn(self, batch: list[tuple[list[list[int]], list[int]]], optimizer: Adam) -> float:
        """Take one step; return the loss per character."""
        emissions, lengths = self._emissions([features for features, _ in batch])
        tags = np.full(self._inside.shape, -100)
        tags[self._inside] = [tag for _, sentence in batch for tag in sentence]
        size = float(lengths.sum())
        loss, slopes = fsl.crf_loss(
            emissions, tags, lengths=lengths, **self._parameters(), reduction="sum", normalizer=size, return_grad=True
        )
        gradients = {"weights": self.l2 * self.coef_["weights"]}
        rows = np.repeat(slopes.emissions[self._inside], self._indices.shape[1], axis=0)
        np.add.at(gradients["weights"], self._indices.ravel(), rows)
        gradients["weights"][0] = 0
        if self.with_crf:
            for name in ("transitions", "start", "end"):
                gradients[name] = getattr(slopes, name) + self.l2 * self.coef_[name]
        optimizer.step(gradients)
        return float(loss)


def span_f1(found: list[Tags], true: list[Tags], scheme: Scheme = "BIO") -> float:
    """Return the F1 score of spans, whose label, start and end must all be right."""
    both = ([fsl.spans_from_tags(tags, scheme, strict=False) for tags in part] for part in (found, true))
    a, b = ({(k, *span) for k, spans in enumerate(part) for span in spans} for part in both)
    return 2 * len(a & b) / max(len(a) + len(b), 1)


def load(rng: np.random.Generator) -> tuple[list[str], list[Tags]]:
    """Return sentences as rows of characters, in random order, and the tags of the characters."""
    with np.load(DATA) as archive:
        words, tags, lengths = archive["words"], archive["tags"], archive["lengths"]
        vocabulary, names = archive["vocab"], archive["tagset"]
    ends = np.cumsum(lengths)
    sentences, answers = [], []
    for start, end in zip(ends - lengths, ends, strict=True):
        texts = [str(vocabulary[w]) for w in words[start:end]]
        labels = [str(names[t])[:1].lower() for t in tags[start:end]]
        stops = np.cumsum([len(text) for text in texts]).tolist()
        spans = [
            (label, stop - len(text), stop)
            for label, text, stop in zip(labels, texts, stops, strict=True)
            if label.isalpha()  # not of punctuation
        ]
        sentences.append("".join(texts))
        answers.append(fsl.tags_from_spans(spans, stops[-1]))
    order = rng.permutation(len(sentences))
    return [sentences[i] for i in order], [answers[i] for i in order]


def features_of(sentence: str) -> Features:
    """Return the features of each character: itself and its neighbours, alone and in pairs and threes."""
    text = f"  {sentence}  "
    return [
        [
            f"0{text[i]}", f"-{text[i - 1]}", f"+{text[i + 1]}", f"<{text[i - 2]}", f">{text[i + 2]}",
            f"-0{text[i - 1 : i + 1]}", f"0+{text[i : i + 2]}", f"-+{text[i - 1]}{text[i + 1]}",
            f"<-{text[i - 2 : i]}", f"+>{text[i + 1 : i + 3]}", f"-0+{text[i - 1 : i + 2]}",
        ]
        for i in range(2, len(sentence) + 2)
    ]  # fmt: skip


def commonest_tags(sentences: list[str], y: list[Tags], held_out: list[str]) -> list[Tags]:
    """Return the most frequent tag of each character of the held-out sentences."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence, tags in zip(sentences, y, strict=True):
        for character, tag in zip(sentence, tags, strict=True):
            counts[character][tag] += 1
            counts[""][tag] += 1
    best = {character: found.most_common(1)[0][0] for character, found in counts.items()}
    return [[best.get(character, best[""]) for character in sentence] for sentence in held_out]


def report(name: str, found: list[Tags], true: list[Tags], limits: fsl.TagConstraints) -> tuple[float, int]:
    """Print and return the F1 score of the spans and the number of sentences with illegal tags."""
    illegal = sum(limits.first_violation(tags) is not None for tags in found)
    f1 = span_f1(found, true)
    print(f"{name:26} F1 of spans {f1:.2%}, {illegal:4} of {len(found)} sentences with illegal tags")
    return f1, illegal


def main() -> None:
    """Train with and without a CRF; print the scores of both and of the commonest tags."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the sentences, three epochs")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sentences, y = load(np.random.default_rng(options.seed))
    training = slice(HELD_OUT, HELD_OUT + 1000 if options.quick else None)
    X, held_out, true = [features_of(s) for s in sentences[training]], sentences[:HELD_OUT], y[:HELD_OUT]
    limits = fsl.tag_constraints(sorted({tag for tags in y for tag in tags}))
    print(f"{len(X)} sentences to learn from, {HELD_OUT} held out, {len(limits.tags)} tags")
    commonest, _ = report("commonest tags:", commonest_tags(sentences[training], y[training], held_out), true, limits)
    scores = {}
    for with_crf in (False, True):
        began = time.perf_counter()
        model = CRFTagger(with_crf=with_crf, epochs=3 if options.quick else options.epochs, random_state=options.seed)
        found = model.fit(X, y[training]).predict([features_of(s) for s in held_out])
        scores[with_crf], illegal = report("with the CRF:" if with_crf else "without the CRF:", found, true, limits)
        print(f"  in {time.perf_counter() - began:.0f} s")
    shares = model.predict_marginals([features_of(held_out[0])])[0]
    print("most probable tags of the first sentence:")
    for character, row in zip(held_out[0], shares, strict=True):
        tag = max(row, key=row.__getitem__)
        print(f"  {character} {tag} {row[tag]:.2f}")
    if illegal:
        raise SystemExit("a sequence of tags is illegal")
    if options.quick and not commonest < scores[False] < scores[True]:
        raise SystemExit("the CRF has not learnt enough")


if __name__ == "__main__":
    main()
