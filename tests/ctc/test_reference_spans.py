"""Spans of real speech against the phones that another aligner found in the audio."""

import numpy as np
import pytest

import fastseqloss as fsl
import real_data


@pytest.fixture(scope="module")
def speech():
    with np.load(real_data.DATA / "speech_austen.npz") as file:
        return dict(file)


def test_onsets_and_durations(speech):
    """The model is late by a constant; less that, phones begin and last as in the reference, to a few frames."""
    log_probs, labels, blank = speech["emissions"] * speech["unit"], speech["labels"], int(speech["blank"])
    is_phone = labels != speech["names"].tolist().index("<wb>")
    is_speech = speech["reference_phones"] != "SIL"
    starts, lengths = (
        speech[name][is_speech] / speech["frame_seconds"] for name in ("reference_starts", "reference_seconds")
    )
    options = {"blank": blank, "input": "log_probs"}
    spans = np.array([(span.start, span.end) for span in fsl.ctc_align(log_probs, labels, **options).spans()])
    onsets = spans[is_phone, 0]
    assert len(onsets) == len(starts)
    delays = onsets - starts
    assert np.median(np.abs(delays - np.median(delays))) <= 1
    assert np.abs(delays - np.median(delays)).max() < 4
    durations = np.diff(onsets) - np.diff(starts)  # from one phone to the next, without the delay
    assert np.median(np.abs(durations)) <= 2
    assert np.abs(durations).max() < 5
    found = fsl.ctc_confidences(log_probs, labels, **options)
    np.testing.assert_array_equal(found.frames, spans)
    centres = found.mean_frames[is_phone] + 0.5 - np.median(delays)
    inside = (starts <= centres) & (centres <= starts + lengths)
    assert inside.mean() > 0.6  # of the mean frames; phones of the reference last 4 frames (median)
