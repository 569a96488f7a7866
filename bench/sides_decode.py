"""Beam search of CTC by each side: fastseqloss, fast-ctc-decode and ctc-beam-decoder."""

import argparse
import importlib.util
from collections.abc import Callable

import numpy as np

import fastseqloss as fsl
from bench import contest, sides_align
from bench.contest import OURS
from bench.sides_ctc import Batch

FAST, DECODER = "fast-ctc-decode", "ctc-beam-decoder"
MODULES = {FAST: "fast_ctc_decode", DECODER: "ctc_beam_decoder"}
WIDTHS = (10, 30, 100)
FIRST_CHARACTER = 0x3400  # of the classes, one for each; none is a space
MANY_CLASSES = 500  # of these, fast-ctc-decode takes those above CUT alone: memory and time grow with all of them
CUT = 1e-4

Labels = list[list[int]]
Side = Callable[[Batch, np.ndarray, int], Callable[[], Labels]]


def characters(n_classes: int) -> list[str]:
    """Return a character for each class."""
    return [chr(FIRST_CHARACTER + c) for c in range(n_classes)]


def classes_of(text: str) -> list[int]:
    """Return the classes of a text."""
    return [ord(character) - FIRST_CHARACTER for character in text]


def our_search(rescore: int) -> Side:
    """Return the side of fastseqloss with a number of results to score again."""

    def side(batch: Batch, log_probs: np.ndarray, beam: int) -> Callable[[], Labels]:
        def call() -> Labels:
            found = fsl.ctc_beam_search(
                log_probs,
                batch.lengths,
                blank=batch.blank,
                input="log_probs",
                beam=beam,
                rescore=rescore,
                num_threads=1,
            )
            return [row[0, :n].tolist() for row, (n,) in zip(found.labels, found.label_lengths, strict=True)]

        return call

    return side


def fast_ctc_decode(batch: Batch, log_probs: np.ndarray, beam: int) -> Callable[[], Labels]:
    """Return the call of fast-ctc-decode, which wants probabilities with the blank first."""
    import fast_ctc_decode

    classes = characters(log_probs.shape[2])
    alphabet = "".join([classes[batch.blank], *classes[: batch.blank], *classes[batch.blank + 1 :]])
    order = [ord(character) - FIRST_CHARACTER for character in alphabet]
    probs = np.exp(log_probs.astype(np.float64)).astype(np.float32)[:, :, order]
    rows = [np.ascontiguousarray(row[:n]) for row, n in zip(probs, batch.lengths, strict=True)]
    cut = CUT if len(classes) > MANY_CLASSES else 0.0

    def call() -> Labels:
        return [classes_of(fast_ctc_decode.beam_search(row, alphabet, beam, cut)[0]) for row in rows]

    return call


def ctc_beam_decoder(batch: Batch, log_probs: np.ndarray, beam: int) -> Callable[[], Labels]:
    """Return the call of ctc-beam-decoder with its default pruning."""
    import ctc_beam_decoder

    classes = characters(log_probs.shape[2])
    classes[batch.blank] = ""
    decoder = ctc_beam_decoder.build_ctcdecoder(classes)
    rows = [np.ascontiguousarray(row[:n]) for row, n in zip(log_probs, batch.lengths, strict=True)]

    def call() -> Labels:
        return [classes_of(decoder.decode_beams(row, beam_width=beam)[0][0]) for row in rows]

    return call


def sides() -> dict[str, Side]:
    """Return the sides that are installed."""
    every: dict[str, Side] = {
        OURS: our_search(0),
        f"{OURS}, rescored": our_search(10),
        FAST: fast_ctc_decode,
        DECODER: ctc_beam_decoder,
    }
    return {side: call for side, call in every.items() if importlib.util.find_spec(MODULES.get(side, "fastseqloss"))}


def total_log_prob(batch: Batch, log_probs: np.ndarray, labels: Labels) -> float:
    """Return the sum of the exact log-probabilities of label sequences."""
    options = {"blank": batch.blank, "input": "log_probs", "reduction": "sum"}
    return -fsl.ctc_loss(log_probs, labels, batch.lengths, **options)


def compare(options: argparse.Namespace) -> int:
    """Print milliseconds of an utterance and log-probabilities, one thread; 1 if ours, rescored, are lower."""
    lines, status = [], 0
    for name in sides_align.NAMES:
        if options.only and name not in options.only:
            continue
        batch = sides_align.emissions(name, options.data, "log_probs")
        log_probs = np.asarray(batch.logits, np.float32)
        for beam in WIDTHS:
            calls = {(side, ""): make(batch, log_probs, beam) for side, make in sides().items()}
            timings = contest.alternate(calls, options, 1)
            found = {side: total_log_prob(batch, log_probs, call()) for (side, _), call in calls.items()}
            ours = timings[OURS, ""].best
            cells = {}
            for side, _ in calls:
                best = timings[side, ""].best
                ratio = "" if side == OURS else f", {contest.times(best / ours)}"
                cells[side] = f"{contest.milliseconds(best / len(batch.lengths))}{ratio} ({found[side]:.2f})"
            lines.append({"emissions": name, "beam": str(beam)} | cells)
            status |= found[f"{OURS}, rescored"] < max(found.values()) - 1e-6 * abs(found[OURS])
    print(f"\n### Beam search from log-probabilities, float32, 1 thread, {contest.unit(options)} an utterance\n")
    contest.print_table(lines)
    return int(status)
