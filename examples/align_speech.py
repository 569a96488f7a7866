"""Forced alignment of the phonemes of real speech.

    python examples/align_speech.py [--output DIR] [--prior-scale X]

The log-probabilities of a phoneme recogniser for "he was not an ill disposed young man" are part of the tests of
this library, with the boundaries that another aligner found. This script aligns the phonemes, prints a
table, compares the boundaries, and writes three files: speech.TextGrid (for Praat), speech.tsv and speech.png.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

try:
    import numpy as np
    from matplotlib.figure import Figure

    import fastseqloss as fsl
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[plot]" in the folder of the source'
    raise SystemExit(needs) from None

DATA = Path(__file__).resolve().parents[1] / "tests" / "data" / "speech_austen.npz"
WORD_BOUNDARY = "<wb>"


class Interval(NamedTuple):
    """Interval of a tier, in seconds."""

    start: float
    end: float
    text: str


class Recording(NamedTuple):
    """Contents of the file."""

    log_probs: np.ndarray  # [T, V]
    labels: np.ndarray  # [S]
    blank: int
    names: list[str]  # of the classes
    text: str
    frame_seconds: float
    audio: np.ndarray
    reference: list[Interval]  # phones of the other aligner, without silences


def read(path: Path) -> Recording:
    """Read the recording."""
    with np.load(path) as file:
        starts, lengths = file["reference_starts"], file["reference_seconds"]
        phones = zip(starts.tolist(), (starts + lengths).tolist(), file["reference_phones"].tolist(), strict=True)
        return Recording(
            file["emissions"] * file["unit"],
            file["labels"],
            int(file["blank"]),
            file["names"].tolist(),
            str(file["text"]),
            float(file["frame_seconds"]),
            file["audio"],
            [Interval(*phone) for phone in phones if phone[2] != "SIL"],
        )


def words_of(spans: list[fsl.TokenSpan], recording: Recording) -> list[Interval]:
    """Group the spans by word boundaries, one group for each word of the text."""
    separator = recording.names.index(WORD_BOUNDARY)
    words = fsl.words_from_spans(spans, separator=separator, frame_seconds=recording.frame_seconds)
    texts = recording.text.split()
    return [Interval(word.start_seconds, word.end_seconds, text) for word, text in zip(words, texts, strict=True)]


def print_table(spans: Iterable[fsl.TokenSpan], recording: Recording) -> None:
    """Print a line for each token."""
    print(f"{'token':<6}{'start, s':>9}{'end, s':>9}{'confidence':>12}")
    for span in spans:
        start, end = span.start * recording.frame_seconds, span.end * recording.frame_seconds
        name, confidence = recording.names[span.label], np.exp(span.mean_log_prob)
        print(f"{name:<6}{start:>9.2f}{end:>9.2f}{confidence:>12.2f}")


def report(phones: list[Interval], reference: list[Interval]) -> float:
    """Print the differences of the onsets from the other aligner; return the mean difference in seconds."""
    delays = np.array([a.start - b.start for a, b in zip(phones, reference, strict=True)])
    difference = np.abs(delays).mean()
    rest = np.abs(delays - np.median(delays)).mean()
    print(f"\nmean difference of {len(delays)} onsets from the reference: {difference * 1e3:.0f} ms")
    print(f"the model is late by {np.median(delays) * 1e3:.0f} ms (median); without that: {rest * 1e3:.0f} ms")
    return float(difference)


def write_tsv(path: Path, phones: Iterable[Interval]) -> None:
    """Write start, end and token, one line each, separated by tabs."""
    lines = [f"{start:.3f}\t{end:.3f}\t{text}\n" for start, end, text in phones]
    path.write_text("start\tend\ttoken\n" + "".join(lines), encoding="utf-8")


def write_textgrid(path: Path, tiers: dict[str, list[Interval]], duration: float) -> None:
    """Write a TextGrid in the long format of Praat; gaps become empty intervals."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {duration:.3f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        filled, now = [], 0.0
        for interval in [*intervals, Interval(duration, duration, "")]:
            if interval.start > now:
                filled.append(Interval(now, interval.start, ""))
            if interval.end > interval.start:
                filled.append(interval)
            now = interval.end
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {duration:.3f}", f"        intervals: size = {len(filled)}"]
        for i, (start, end, text) in enumerate(filled, 1):
            lines += [f"        intervals [{i}]:", f"            xmin = {start:.3f}", f"            xmax = {end:.3f}"]
            lines += [f'            text = "{text}"']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(path: Path, recording: Recording, spans: list[fsl.TokenSpan], reference: list[Interval]) -> None:
    """Draw the spans over the waveform, the reference onsets below it, and the posteriors."""
    figure = Figure(figsize=(12, 5), layout="constrained", facecolor="white")
    above, below = figure.subplots(2, 1, sharex=True)
    names = ["|" if name == WORD_BOUNDARY else name for name in recording.names]
    fsl.plot.plot_alignment(
        spans,
        names=names,
        frames=len(recording.log_probs),
        frame_seconds=recording.frame_seconds,
        waveform=recording.audio,
        ax=above,
    )
    onsets = [phone.start for phone in reference]
    above.plot(onsets, [0.02] * len(onsets), "^", transform=above.get_xaxis_transform(), color="#1b2a41", markersize=5)
    above.set_title(f"“{recording.text}”: best path (triangles: onsets of the reference)", loc="left", pad=30)
    above.set_xlabel("")
    posteriors = fsl.ctc_posteriors(recording.log_probs, recording.labels, blank=recording.blank, input="log_probs")
    fsl.plot.plot_posteriors(posteriors, recording.labels, names=names, frame_seconds=recording.frame_seconds, ax=below)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> float:
    """Align, print and write; return the mean difference from the reference in seconds."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the files")
    parser.add_argument("--prior-scale", type=float, default=0.0, help="factor of the class priors to subtract")
    options = parser.parse_args(arguments)

    recording = read(DATA)
    prior = np.log(np.exp(recording.log_probs).mean(axis=0))
    alignment = fsl.ctc_align(
        recording.log_probs,
        recording.labels,
        blank=recording.blank,
        input="log_probs",
        label_prior=prior,
        prior_scale=options.prior_scale,
    )
    spans = alignment.spans()
    unit = recording.frame_seconds
    tokens = [Interval(s.start * unit, s.end * unit, recording.names[s.label]) for s in spans]
    phones = [token for token in tokens if token.text != WORD_BOUNDARY]
    print_table(spans, recording)
    difference = report(phones, recording.reference)

    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / "speech"
    tiers = {"words": words_of(spans, recording), "phones": phones}
    write_textgrid(target.with_suffix(".TextGrid"), tiers, len(recording.log_probs) * unit)
    write_tsv(target.with_suffix(".tsv"), tokens)
    draw(target.with_suffix(".png"), recording, spans, recording.reference)
    print(f"written: {', '.join(str(target.with_suffix(end)) for end in ('.TextGrid', '.tsv', '.png'))}")
    return difference


if __name__ == "__main__":
    main()
