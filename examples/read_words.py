"""Words with times and confidences, from the scores of a speech recogniser and of a text recogniser.

    python examples/read_words.py [--output DIR] [--quick]

The scores are part of the tests of this library: phonemes of "he was not an ill disposed young man", 20 ms a frame, and
characters of a line of print, "Alice was beginning to get very tired". This script decodes both greedily and by a beam
search, compares the numbers of wrong labels and words, groups the labels into words, and prints a table of each. For
the speech it aligns the correct phonemes, too, so that the words of the text have times, and compares these with
another aligner. The figure is read_words.png, the table read_words.csv. `--quick` searches with narrow beams only.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    from matplotlib.figure import Figure

    import fastseqloss as fsl
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[plot]" in the folder of the source'
    raise SystemExit(needs) from None

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
DOUBTFUL = 0.6  # a word with a label of less confidence is marked
BEAMS = 1, 2, 3, 5, 10, 30, 100
QUICK_BEAMS = 1, 10


class Scores(NamedTuple):
    """Log-probabilities of a model for one input, and what is known of it."""

    log_probs: np.ndarray  # [T, V]
    vocabulary: fsl.Vocabulary
    labels: np.ndarray  # [S], the correct ones
    text: str
    frame_seconds: float | None = None
    audio: np.ndarray | None = None
    onsets: np.ndarray | None = None  # of phonemes, in seconds, as another aligner found them


def read_speech() -> Scores:
    """Read the phonemes."""
    with np.load(DATA / "speech_austen.npz") as file:
        vocabulary = fsl.Vocabulary(file["names"], blank=int(file["blank"]), separator="<wb>")
        spoken = file["reference_phones"] != "SIL"
        return Scores(
            file["emissions"] * file["unit"],
            vocabulary,
            file["labels"],
            str(file["text"]),
            round(float(file["frame_seconds"]), 6),
            file["audio"],
            file["reference_starts"][spoken],
        )


def read_print() -> Scores:
    """Read the characters."""
    with np.load(DATA / "ocr_alice.npz") as file:
        vocabulary = fsl.Vocabulary(file["names"], blank=int(file["blank"]), separator=" ")
        return Scores(file["emissions"] * file["unit"], vocabulary, file["labels"], str(file["text"]))


class Decoded(NamedTuple):
    """Labels that were found, and the words that they spell."""

    labels: list[int]
    words: fsl.Words
    log_prob: float  # of the labels, by all of their alignments


def decode(scores: Scores) -> Decoded:
    """Return the labels and the words of the best path."""
    blank = scores.vocabulary.blank
    decoded = fsl.ctc_greedy_decode(scores.log_probs, blank=blank, input="log_probs")
    words = fsl.words_from_spans(decoded.spans(), scores.vocabulary, frame_seconds=scores.frame_seconds)
    loss = fsl.ctc_loss(scores.log_probs, decoded.labels, blank=blank, input="log_probs")
    return Decoded(decoded.labels.tolist(), words, -loss)


def search(scores: Scores, beam: int) -> Decoded:
    """Return the most probable labels, and their words, whose confidences are posteriors of the labels."""
    blank = scores.vocabulary.blank
    beams = fsl.ctc_beam_search(scores.log_probs, blank=blank, input="log_probs", beam=beam, align=True)
    labels, confidences = (found[0, : beams.label_lengths[0]] for found in (beams.labels, beams.confidences))
    spans = fsl.ctc_align(scores.log_probs, labels, blank=blank, input="log_probs").spans()
    seconds = scores.frame_seconds
    words = fsl.words_from_spans(spans, scores.vocabulary, frame_seconds=seconds, confidences=confidences)
    return Decoded(labels.tolist(), words, float(beams.log_prob[0]))


def edit_distance(found: Sequence[Any], correct: Sequence[Any]) -> int:
    """Return the number of insertions, deletions and substitutions between two sequences."""
    row = list(range(len(correct) + 1))
    for i, one in enumerate(found, 1):
        above, row = row, [i]
        for j, other in enumerate(correct, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (one != other)))
    return row[-1]


def compare(name: str, scores: Scores, ways: dict[str, Decoded]) -> dict[str, float]:
    """Print the errors of each way to decode; return the shares of wrong labels."""
    correct = scores.vocabulary.decode(scores.labels).split()
    print(f"\n{name}: {len(scores.labels)} labels, {len(correct)} words")
    print(f"{'decoded by':<14}{'wrong labels':>14}{'wrong words':>14}{'log p':>10}")
    shares = {}
    for way, found in ways.items():
        of_labels = edit_distance(found.labels, scores.labels.tolist())
        of_words = edit_distance([word.text for word in found.words], correct)
        print(f"{way:<14}{of_labels:>14}{of_words:>14}{found.log_prob:>10.3f}")
        shares[way] = of_labels / len(scores.labels)
    return shares


def align(scores: Scores) -> fsl.Words:
    """Return the words of the correct labels, with the words of the text."""
    blank = scores.vocabulary.blank
    aligned = fsl.ctc_align(scores.log_probs, scores.labels, blank=blank, input="log_probs")
    words = fsl.words_from_spans(aligned.spans(), scores.vocabulary, frame_seconds=scores.frame_seconds)
    texts = scores.text.split()
    return fsl.Words(word._replace(text=text) for word, text in zip(words, texts, strict=True))


def print_words(title: str, words: fsl.Words) -> None:
    """Print a line for each word; its times, or its frames if the length of a frame is unknown."""
    in_seconds = not np.isnan(words[0].start_seconds)
    print(f"\n{title}\n{'word':<14}{'start':>8}{'end':>8}{'mean':>8}{'least':>8}")
    for word in words:
        times = (word.start_seconds, word.end_seconds) if in_seconds else (word.start, word.end)
        shown = "".join(f"{time:>8.2f}" if in_seconds else f"{time:>8}" for time in times)
        mark = "  ?" if word.least_confidence < DOUBTFUL else ""
        print(f"{word.text:<14}{shown}{word.mean_confidence:>8.2f}{word.least_confidence:>8.2f}{mark}")


def report_onsets(scores: Scores, words: fsl.Words) -> float:
    """Print how far the words begin from those of the other aligner; return the mean distance in seconds."""
    spans = [word.span_end - word.span_start for word in words]
    assert scores.onsets is not None
    first = np.cumsum([0, *spans[:-1]])  # the phoneme that begins each word, separators left out
    late = np.array([word.start_seconds for word in words]) - scores.onsets[first]
    mean, deviation = late.mean() * 1e3, late.std() * 1e3
    print(f"\nwords begin {mean:.0f} ms after those of another aligner, give or take {deviation:.0f} ms")
    return float(np.abs(late).mean())


def write_table(path: Path, tables: dict[str, fsl.Words]) -> None:
    """Write the columns of all words, as pandas.DataFrame(words.to_dict()) has them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", *fsl.WordSpan._fields])
        for source, words in tables.items():
            writer.writerows([source, *row] for row in zip(*words.to_dict().values(), strict=True))


def draw_words(ax: Any, words: fsl.Words, scores: Scores, **options: Any) -> None:
    """Draw the frames of each word, more opaque the more certain it is."""
    certain = [np.log(max(word.mean_confidence, 1e-9)) for word in words]
    spans = [
        fsl.TokenSpan(i, word.start, word.end, mean * (word.end - word.start))
        for i, (word, mean) in enumerate(zip(words, certain, strict=True))
    ]
    names = {i: f"{word.text} {word.least_confidence:.2f}" for i, word in enumerate(words)}
    frames = len(scores.log_probs)
    fsl.plot.plot_alignment(spans, names=names, frames=frames, frame_seconds=scores.frame_seconds, ax=ax, **options)


def draw_errors(ax: Any, shares: dict[str, dict[str, float]]) -> None:
    """Draw the shares of wrong labels, by the way of decoding."""
    for (name, by_way), color in zip(shares.items(), ("#2a6f97", "#c1632f"), strict=True):
        ax.plot(list(by_way), [100 * share for share in by_way.values()], "o-", color=color, label=name)
    ax.set_title("wrong labels, in percent, by the width of the beam", loc="left")
    ax.set_ylim(0, None)
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)


def draw(
    path: Path, speech: Scores, heard: fsl.Words, line: Scores, seen: fsl.Words, shares: dict[str, dict[str, float]]
) -> None:
    """Draw the words over the waveform, and over the probabilities of the characters; and the errors."""
    figure = Figure(figsize=(12, 8.2), layout="constrained", facecolor="white")
    above, below, last = figure.subplots(3, 1, height_ratios=[1, 1, 0.8])
    draw_words(above, heard, speech, waveform=speech.audio)
    above.set_title("words of speech, with the confidence of their least certain phoneme", loc="left", pad=32)
    order = list(dict.fromkeys(line.labels.tolist()))  # characters by first occurrence
    draw_words(below, seen, line, image=np.exp(line.log_probs[:, order]).T)
    below.set_title(f"words of print, “{line.text}”, and probabilities of its characters", loc="left", pad=32)
    draw_errors(last, shares)
    figure.savefig(path, dpi=90)


def main(arguments: list[str] | None = None) -> dict[str, fsl.Words]:
    """Decode, align, print, write and draw; return the words of each table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="search with narrow beams only")
    options = parser.parse_args(arguments)

    sources = {"speech": read_speech(), "print": read_print()}
    speech, line = sources.values()
    beams = QUICK_BEAMS if options.quick else BEAMS
    ways = {
        name: {"best path": decode(scores)} | {f"beam {beam}": search(scores, beam) for beam in beams}
        for name, scores in sources.items()
    }
    shares = {name: compare(name, sources[name], found) for name, found in ways.items()}
    heard, seen = (ways[name][f"beam {beams[-1]}"].words for name in sources)
    tables = {"speech": heard, "text": align(speech), "print": seen}
    print_words("speech, decoded: phonemes, seconds", tables["speech"])
    print_words("speech, aligned with its text: seconds", tables["text"])
    report_onsets(speech, tables["text"])
    print_words("print, decoded: frames", tables["print"])

    options.output.mkdir(parents=True, exist_ok=True)
    write_table(options.output / "read_words.csv", tables)
    draw(options.output / "read_words.png", speech, heard, line, seen, shares)
    print(f"\nwritten: {options.output / 'read_words.csv'}, {options.output / 'read_words.png'}")
    return tables


if __name__ == "__main__":
    main()
