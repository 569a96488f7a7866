"""The ONNX example reads, scores and aligns the texts that it has drawn."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.onnx
pytest.importorskip("onnxruntime", reason="the extra `onnx` installs it")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "score_onnx.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture(scope="module")
def model(example):
    return example["Recogniser"](example["model_file"]())


def test_reads_what_was_drawn_and_prefers_it(example, tmp_path, capsys):
    readings = example["main"](["--output", str(tmp_path)])
    assert readings == list(example["LINES"])
    printed = capsys.readouterr().out
    losses = [float(line.split()[1]) for line in printed.splitlines() if line.startswith("  loss")]
    losses = np.array(losses).reshape(len(readings), -1)
    assert losses.shape[1] == 4
    assert np.all(losses[:, 1:] > losses[:, :1] + 5)  # each other text is e^5 times less probable
    assert (tmp_path / "score_onnx.png").read_bytes().startswith(b"\x89PNG")


def test_letters_are_where_they_were_drawn(example, model):
    lines = [example["draw_line"](text, face) for text in example["LINES"] for face in ("DejaVuSans", "DejaVuSerif")]
    probs, frames = model(lines)
    alignment = example["fsl"].ctc_align(probs, [model.encode(x.text) for x in lines], frames, input="probs")
    mean = example["report_places"](lines, frames.tolist(), alignment.spans())
    assert mean < 0.5 * lines[0].picture.shape[1] / frames[0]


def test_a_picture_of_ones_own(example, tmp_path, capsys):
    text = "Sequence losses"
    drawn = example["draw_line"](text, "DejaVuSerif").picture
    picture = example["Image"].fromarray(np.kron(drawn, np.ones((2, 2), np.uint8)))
    picture.convert("RGB").save(tmp_path / "line.png")
    arguments = ["--output", str(tmp_path), "--image", str(tmp_path / "line.png"), "--text", text]
    assert [reading.strip() for reading in example["main"](arguments)] == [text]
    assert "pixels away" not in capsys.readouterr().out


def test_what_it_refuses(example, model, monkeypatch):
    with pytest.raises(SystemExit, match=r"does not know \['🦀'\]"):
        model.encode("crab 🦀")
    with pytest.raises(SystemExit):
        example["main"](["--image", "line.png"])

    def no_files(name):
        raise example["metadata"].PackageNotFoundError(name)

    monkeypatch.setattr(example["metadata"], "files", no_files)
    with pytest.raises(SystemExit, match="--no-deps rapidocr"):
        example["model_file"]()
