"""The examples run and say what their pages promise."""

import runpy
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fastseqloss as fsl

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name, *arguments):
    """Run an example as from the command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


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


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("align")
    return folder, run("align_speech.py", "--output", folder)


def test_align_speech_prints_and_writes(aligned, capsys):
    folder, _ = aligned
    run("align_speech.py", "--output", folder)
    printed = capsys.readouterr().out
    assert "mean difference of 25 onsets from the reference: 74 ms" in printed
    assert len(printed.split("\n\n")[0].splitlines()) == 33  # a head and 32 tokens
    assert (folder / "speech.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split("\t") for line in (folder / "speech.tsv").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["start", "end", "token"]
    assert len(rows) == 33


def test_align_speech_textgrid(aligned):
    folder, _ = aligned
    tiers = intervals((folder / "speech.TextGrid").read_text(encoding="utf-8").splitlines())
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
    _, names = aligned
    recording = names["read"](names["DATA"])
    spans = fsl.ctc_align(
        recording.log_probs, recording.labels, blank=recording.blank, input="log_probs"
    ).spans()[0]
    onsets = np.array([s.start for s in spans if recording.names[s.label] != "<wb>"]) * recording.frame_seconds
    delays = onsets - [phone.start for phone in recording.reference]
    assert np.all((delays > 0) & (delays < 0.15))
    assert np.abs(delays - np.median(delays)).mean() < 0.03


def test_priors_reduce_the_delay(aligned, tmp_path):
    _, names = aligned
    plain = names["main"](["--output", str(tmp_path)])
    with_priors = names["main"](["--output", str(tmp_path), "--prior-scale", "1"])
    assert with_priors < plain
