"""asv benchmarks of CTC alignment, posteriors, decoding and words, most of them on the extracts of real emissions."""

import pathlib
import tempfile

import numpy as np

import fastseqloss as fsl
from bench import sides_align


class Align:
    """Best paths, occupation probabilities, greedy decoding and beam search, on one thread."""

    params = (list(sides_align.NAMES), list(sides_align.MODES))
    param_names = ("emissions", "input")

    def setup(self, name, kind):
        self.batch = sides_align.emissions(name, None, kind)
        self.options = {"blank": self.batch.blank, "input": kind, "num_threads": 1}

    def time_align(self, name, kind):
        sides_align.our_align(self.batch, kind, num_threads=1)

    def time_spans(self, name, kind):
        sides_align.our_align(self.batch, kind, num_threads=1).spans()

    def time_words(self, name, kind):
        decoded = fsl.ctc_greedy_decode(self.batch.logits, self.batch.lengths, **self.options)
        for spans in decoded.spans():
            fsl.words_from_spans(spans, word_lengths=[1] * len(spans), frame_seconds=0.02)

    def time_posteriors(self, name, kind):
        batch = self.batch
        fsl.ctc_posteriors(batch.logits, batch.labels, batch.lengths, batch.label_lengths, **self.options)

    def time_confidences(self, name, kind):
        batch = self.batch
        fsl.ctc_confidences(batch.logits, batch.labels, batch.lengths, batch.label_lengths, **self.options)

    def time_greedy(self, name, kind):
        fsl.ctc_greedy_decode(self.batch.logits, self.batch.lengths, **self.options)

    def time_beam_search(self, name, kind):
        fsl.ctc_beam_search(self.batch.logits, self.batch.lengths, **self.options)

    def time_wide_beam_search_alone(self, name, kind):
        fsl.ctc_beam_search(self.batch.logits, self.batch.lengths, beam=100, rescore=0, **self.options)

    def track_score_difference(self, name, kind):
        return sides_align.score_difference(self.batch, kind)

    track_score_difference.unit = "nats"


class LanguageModel:
    """Beam search of 200 frames with a language model: pairs of 20000 words, or a function."""

    def setup(self):
        rng = np.random.default_rng(0)
        self.vocabulary = fsl.Vocabulary("-abcdefghijklmnopqrstuvwxyz|", separator="|")
        words = sorted({"".join(rng.choice([*self.vocabulary.tokens[1:-1]], rng.integers(1, 9))) for _ in range(20000)})
        pairs = sorted({tuple(pair) for pair in rng.choice(words, (100000, 2)).tolist()})
        lines = ["\\data\\", f"ngram 1={len(words) + 1}", f"ngram 2={len(pairs)}", "\\1-grams:", "-5 <unk>"]
        lines += [f"{-3 - rng.random()} {word} {-rng.random()}" for word in words]
        lines += ["\\2-grams:", *(f"{-2 * rng.random()} {a} {b}" for a, b in pairs), "\\end\\"]
        self.path = pathlib.Path(tempfile.mkdtemp(), "words.arpa")
        self.path.write_text("\n".join(lines))
        self.model = self.read()
        self.logits = 3 * rng.normal(size=(200, 28))
        fsl.ctc_beam_search(self.logits, language_model=self.model)

    def read(self):
        return fsl.read_arpa(self.path, self.vocabulary, unit="words")

    def time_read(self):
        self.read()

    def time_words(self):
        fsl.ctc_beam_search(self.logits, language_model=self.model)

    def time_function(self):
        fsl.ctc_beam_search(self.logits, language_model=lambda prefixes, states: np.zeros((len(prefixes), 28)))


class Hour:
    """An hour of speech: 180000 frames, 20000 labels."""

    timeout = 120
    number = repeat = 1
    rounds = 1

    def setup(self):
        self.batch = sides_align.hour()

    def time_align(self):
        sides_align.our_align(self.batch, "logits")

    def time_align_windows(self):
        sides_align.our_windows(self.batch, "logits")

    def peakmem_align(self):
        sides_align.our_align(self.batch, "logits")

    def time_confidences(self):
        sides_align.our_confidences(self.batch)

    def peakmem_confidences(self):
        sides_align.our_confidences(self.batch)

    def peakmem_align_windows(self):
        sides_align.our_windows(self.batch, "logits")
