"""asv benchmarks of CTC alignment, posteriors, decoding and words, on the extracts of real emissions."""

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


class Hour:
    """An hour of speech: 180000 frames, 20000 labels."""

    timeout = 120
    number = repeat = 1
    rounds = 1

    def setup(self):
        self.batch = sides_align.hour()

    def time_align(self):
        sides_align.our_align(self.batch, "logits")

    def peakmem_align(self):
        sides_align.our_align(self.batch, "logits")

    def time_confidences(self):
        sides_align.our_confidences(self.batch)

    def peakmem_confidences(self):
        sides_align.our_confidences(self.batch)
