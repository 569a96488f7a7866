"""The demo learns, draws and answers on the command line."""

import subprocess
import sys

import numpy as np
import pytest

from fastseqloss import demo
from thoroughness import thorough


@pytest.fixture(scope="module")
def picture_and_history(tmp_path_factory):
    picture = tmp_path_factory.mktemp("demo") / "demo.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "STEPS_PER_EPOCH", 25)
        patch.setattr(demo, "HELD_OUT_STRINGS", 20)
        patch.setattr(demo, "HIDDEN", 16)
        history = demo.run(seed=0, epochs=1, output=str(picture))
    return picture, history


def test_loss_falls(picture_and_history):
    _, history = picture_and_history
    assert len(history.losses) == 25
    assert np.mean(history.losses[-5:]) < 0.5 * np.mean(history.losses[:5])
    assert 0 < history.loss_seconds < history.seconds


def test_picture_is_written(picture_and_history):
    picture, _ = picture_and_history
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_posteriors_add_up_to_one():
    rng = np.random.default_rng(0)
    _, held_out = demo.split_digits(rng)
    strings = demo.make_strings(held_out, 1, rng)
    image, posterior = demo.alignment(demo.Reader(rng), strings)
    assert image.shape == (demo.SIZE, len(posterior))
    np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-5)


def test_no_image_is_in_both_parts():
    training, held_out = demo.split_digits(np.random.default_rng(0))
    seen = {image.tobytes() for image in training.images}
    assert len(training.labels) + len(held_out.labels) == 1797
    assert sum(image.tobytes() in seen for image in held_out.images) == 0


def test_greedy_decoding_merges_repeats_and_drops_blanks():
    path = [1, 1, demo.BLANK, 1, 2, 2, demo.BLANK, 3]
    logits = np.eye(demo.CLASSES + 1)[None, path]
    assert demo.greedy_decode(logits, np.array([7])) == [[1, 1, 2]]


@pytest.mark.parametrize("arguments", [["demo", "--epochs", "0"], thorough(["demo", "--seed", "-1"]), thorough([])])
def test_bad_command_lines(arguments):
    command = [sys.executable, "-m", "fastseqloss", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
