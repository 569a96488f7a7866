"""The examples that align and read real recordings and print: what they say and write."""

import contextlib
import csv
import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastseqloss as fsl
from example_names import names_of


def intervals(lines):
    """The intervals of each tier of a TextGrid, by name."""
    tiers = {}
    values = [line.split("=", 1)[1].strip() for line in lines if "=" in line]
    names = [line.split("=")[0].strip() for line in lines if "=" in line]
    for i, name in enumerate(names):
        if name == "name":
            current = tiers.setdefault(values[i].strip('"'), [])
        if name == "text":
            current.append((float(values[i - 2]), float(values[i - 1]), values[i].strip('"')))
    return tiers


class Aligned(NamedTuple):
    """The names that the example defines, its output folder, its output, and the delay that it has found."""

    names: dict[str, Any]
    folder: Path
    printed: str
    delay: float


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    names, folder = names_of("align_speech.py"), tmp_path_factory.mktemp("align")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        delay = names["main"](["--output", str(folder)])
    return Aligned(names, folder, printed.getvalue(), delay)


def test_align_speech_prints_and_writes(aligned):
    folder, printed = aligned.folder, aligned.printed
    assert "mean difference of 25 onsets from the reference: 74 ms" in printed
    assert len(printed.split("\n\n")[0].splitlines()) == 33  # a head and 32 tokens
    assert (folder / "speech.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split("\t") for line in (folder / "speech.tsv").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["start", "end", "token"]
    assert len(rows) == 33


def test_align_speech_textgrid(aligned):
    tiers = intervals((aligned.folder / "speech.TextGrid").read_text(encoding="utf-8").splitlines())
    assert list(tiers) == ["words", "phones"]
    for tier in tiers.values():
        assert tier[0][0] == 0
        assert tier[-1][1] == 3.0
        assert all(a[1] == b[0] and a[0] < a[1] for a, b in pairwise(tier))
    words = [text for _, _, text in tiers["words"] if text]
    assert " ".join(words) == "he was not an ill disposed young man"
    assert len([text for _, _, text in tiers["phones"] if text]) == 25


def test_align_speech_boundaries(aligned):
    """The model is late by a constant; less that it agrees with the other aligner to about a frame."""
    names = aligned.names
    recording = names["read"](names["DATA"])
    spans = fsl.ctc_align(recording.log_probs, recording.labels, blank=recording.blank, input="log_probs").spans()
    onsets = np.array([s.start for s in spans if recording.names[s.label] != "<wb>"]) * recording.frame_seconds
    delays = onsets - [phone.start for phone in recording.reference]
    assert np.all((delays > 0) & (delays < 0.15))
    assert np.abs(delays - np.median(delays)).mean() < 0.03


def test_priors_reduce_the_delay(aligned, tmp_path):
    with_priors = aligned.names["main"](["--output", str(tmp_path), "--prior-scale", "1"])
    assert with_priors < aligned.delay


def test_read_words(tmp_path, capsys):
    names = names_of("read_words.py")
    tables = names["main"](["--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert [word.text for word in tables["print"]] == ["Alice", "was", "beginning", "to", "get", "very", "tired"]
    assert [word.text for word in tables["text"]] == ["he", "was", "not", "an", "ill", "disposed", "young", "man"]
    assert [word.text for word in tables["speech"]][-2:] == ["jʌŋ", "mæn"]
    assert re.search(r"words begin \d+ ms after those of another aligner, give or take \d+ ms", printed)
    assert len(re.findall(r"^\S+ +[\d.]+ +[\d.]+ +[01]\.\d\d +[01]\.\d\d", printed, re.MULTILINE)) == 22
    for title, path, widest in (("speech: 32 labels, 8 words", 5, 4), ("print: 37 labels, 7 words", 1, 0)):
        found = re.search(rf"{title}\n.*\nbest path +(\d+) +(\d+) .*\n(beam .*\n)*beam 100 +(\d+) +(\d+) ", printed)
        assert [int(found[1]), int(found[4])] == [path, widest]
    with (tmp_path / "read_words.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["source", *fsl.WordSpan._fields]
    assert [row[1] for row in rows[1:]] == [word.text for words in tables.values() for word in words]
    assert (tmp_path / "read_words.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("found", "correct", "distance"),
    [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("kitten", "sitting", 3), ("abc", "abc", 0), ("flaw", "lawn", 2)],
)
def test_edit_distance(found, correct, distance):
    assert names_of("read_words.py")["edit_distance"](found, correct) == distance


def test_searched_words_are_greedy_ones_or_better():
    """A beam finds labels at least as probable as the best path's, and the confidences are those of the beam."""
    names = names_of("read_words.py")
    for scores in (names["read_speech"](), names["read_print"]()):
        greedy, found = names["decode"](scores), names["search"](scores, 100)
        assert found.log_prob > greedy.log_prob
        assert all(0 < word.least_confidence <= word.mean_confidence <= 1 for word in found.words)
    assert "getvery" in [word.text for word in greedy.words]
    assert names["search"](scores, 1).log_prob <= found.log_prob


def test_words_begin_with_their_phonemes():
    """Beside the spans of the phonemes, counted by hand."""
    names = names_of("read_words.py")
    speech = names["read_speech"]()
    words = names["align"](speech)
    starts = np.array([word.start_seconds for word in words])
    first = [0, 2, 5, 8, 10, 12, 19, 22]  # of h, w, n, ʌ, ɪ, d, j, m among the phonemes
    expected = float(np.abs(starts - speech.onsets[first]).mean())
    assert names["report_onsets"](speech, words) == pytest.approx(expected, rel=1e-12)
