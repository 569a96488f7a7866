"""The demo learns, draws and answers on the command line."""

import contextlib
import io

import numpy as np
import pytest

from fastseqloss import demo
from fastseqloss.__main__ import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of the picture, the history, and the log, which is no terminal."""
    folder = tmp_path_factory.mktemp("demo") / "pictures"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "STEPS_PER_EPOCH", 25)
        patch.setattr(demo, "HELD_OUT_STRINGS", 20)
        patch.setattr(demo, "HIDDEN", 16)
        with contextlib.redirect_stderr(io.StringIO()) as log:
            history = demo.run(seed=0, epochs=1, output=folder)
    return folder, history, log.getvalue()


def test_loss_falls(trained):
    _, history, _ = trained
    assert len(history.losses) == 25
    assert np.mean(history.losses[-5:]) < 0.5 * np.mean(history.losses[:5])
    assert 0 < history.loss_seconds < history.seconds


def test_picture_is_written(trained):
    folder, _, _ = trained
    assert (folder / demo.PICTURE).read_bytes().startswith(b"\x89PNG")


def test_log_has_one_line_a_second(trained):
    _, history, log = trained
    assert "25/25" in log
    assert log.count("\r") <= history.seconds + 3  # one at the start, one at the end, and a test after the epoch


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


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (["demo", "--epochs", "0"], "fastseqloss demo"),
        (["demo", "--epoch-count", "3"], "fastseqloss demo"),
        (["info", "--verbose"], "fastseqloss info"),
        (["demo", "--seed", "-1"], "fastseqloss demo"),
        ([], "fastseqloss"),
    ],
)
def test_bad_command_lines(arguments, usage, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"usage: python -m {usage} [-h]")
