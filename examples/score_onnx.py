"""Read lines of text with an ONNX model, score the readings, and find each letter in the image.

    python examples/score_onnx.py [--output DIR] [--model FILE] [--image FILE --text TEXT] [--quick]

The model is the text recogniser PP-OCRv6 from the package rapidocr (Apache-2.0). ONNX Runtime applies it to lines
drawn by this script, or to an image of your own. `ctc_greedy_decode` reads its output, `ctc_loss` compares the
correct text with similar texts, and `ctc_align` finds the letters. For lines drawn by this script the alignment is
compared with the known positions of the letters. The figure is score_onnx.png.

The script needs the extra `onnx` and the model; other dependencies of rapidocr are not needed:

    python -m pip install ".[onnx]" && python -m pip install --no-deps rapidocr==3.10.0
"""

import argparse
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    import onnxruntime
    from matplotlib import get_data_path
    from matplotlib.figure import Figure
    from PIL import Image, ImageDraw, ImageFont

    import fastseqloss as fsl
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[onnx]" in the folder of the source'
    raise SystemExit(needs) from None

HEIGHT = 48  # of the input images of the model
MARGIN = 12
# Texts, each with similar ones.
LINES = {
    "Where is each letter?": ["Where is each 1etter?", "Where is each better?", "Where is such letter?"],
    "committee: 1,234.50": ["comittee: 1,234.50", "committee: 1.234,50", "committee: 1,284.50"],
    "Mississippi bookkeeper": ["Missisippi bookkeeper", "Mississippi bookeeper", "Mississippi bookkeepers"],
}


class Line(NamedTuple):
    """An image of a line of text."""

    picture: np.ndarray  # uint8 [48, W], dark on white
    text: str
    centres: np.ndarray  # of the characters, in pixels; empty for other images


class Recogniser:
    """The model in ONNX Runtime, and the names of its classes."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        characters = self.session.get_modelmeta().custom_metadata_map["character"].split("\n")
        self.names = ["", *characters]  # class 0 is the blank
        n_classes = self.session.get_outputs()[0].shape[-1]
        self.names += [" "] * (n_classes - len(self.names))  # the last class is the space
        self.classes = {name: number for number, name in enumerate(self.names)}

    def __call__(self, lines: list[Line]) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities [B, T, V] and the number of frames of each line, which span its width."""
        widths = np.array([line.picture.shape[1] for line in lines])
        batch = np.zeros((len(lines), 3, HEIGHT, widths.max()), np.float32)
        for row, line in zip(batch, lines, strict=True):
            row[:, :, : line.picture.shape[1]] = line.picture / np.float32(127.5) - 1
        probs: Any
        [probs] = self.session.run(None, {self.session.get_inputs()[0].name: batch})
        return probs, np.ceil(widths * (probs.shape[1] / widths.max())).astype(np.int64)

    def encode(self, text: str) -> list[int]:
        """Return the classes of the characters of a text."""
        unknown = sorted({character for character in text if character not in self.classes})
        if unknown:
            raise SystemExit(f"the model does not know {unknown}")
        return [self.classes[character] for character in text]

    def decode(self, labels: np.ndarray) -> str:
        """Return the text of the classes."""
        return "".join(self.names[label] for label in labels.tolist())


def model_file() -> Path:
    """Return the recogniser among the files of rapidocr, which need not be importable."""
    try:
        files = metadata.files("rapidocr") or []
    except metadata.PackageNotFoundError:
        raise SystemExit("no model: python -m pip install --no-deps rapidocr==3.10.0, or give --model") from None
    found = [file for file in files if file.match("models/*_rec_*.onnx")]
    if not found:
        raise SystemExit(f"rapidocr {metadata.version('rapidocr')} ships no recogniser; 3.10.0 does")
    return Path(str(found[0].locate()))


def draw_line(text: str, face: str = "DejaVuSans") -> Line:
    """Draw a line of text, and record the positions of its characters."""
    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{face}.ttf", 32)
    edges = np.array([font.getlength(text[:i]) for i in range(len(text) + 1)]) + MARGIN
    picture = Image.new("L", (int(edges[-1]) + MARGIN, HEIGHT), 255)
    ImageDraw.Draw(picture).text((MARGIN, HEIGHT // 2), text, font=font, fill=20, anchor="lm")
    return Line(np.asarray(picture), text, (edges[1:] + edges[:-1]) / 2)


def read_line(path: Path, text: str) -> Line:
    """Read an image of a line and scale it to the input height of the model."""
    with Image.open(path) as picture:
        grey = picture.convert("L")
    width = max(1, round(grey.width * HEIGHT / grey.height))
    return Line(np.asarray(grey.resize((width, HEIGHT), Image.Resampling.BICUBIC)), text, np.zeros(0))


def report(line: Line, probs: np.ndarray, others: list[str], model: Recogniser) -> tuple[str, np.ndarray]:
    """Print the reading and the losses of the text and similar ones; return both."""
    greedy = fsl.ctc_greedy_decode(probs, input="probs")
    reading = model.decode(greedy.labels)
    print(f"\nread: {reading!r}, log-probability of that path: {greedy.log_prob:.3f}")
    texts = [line.text, *others]
    # A batch of several texts, whose rows are the scores of one line.
    same = np.broadcast_to(probs, (len(texts), *probs.shape))
    labels = [model.encode(text) for text in texts]
    losses = np.atleast_1d(fsl.ctc_loss(same, labels, input="probs", reduction="none"))
    for text, loss in zip(texts, losses, strict=True):
        print(f"  loss {loss:8.3f} nats  {text!r}")
    return reading, losses


def draw(path: Path, lines: list[Line], frames: np.ndarray, alignment: fsl.CTCAlignment, model: Recogniser) -> None:
    """Draw the frames of each character over its line."""
    figure = Figure(figsize=(11, 1.6 * len(lines)), layout="constrained", facecolor="white")
    names = dict(enumerate(model.names)) | {model.classes[" "]: "␣"}
    axes = figure.subplots(len(lines), 1, squeeze=False)[:, 0]
    for ax, line, length, spans in zip(axes, lines, frames.tolist(), alignment.spans(), strict=True):
        fsl.plot.plot_alignment(spans, names=names, frames=length, image=255 - line.picture, ax=ax)
    figure.savefig(path, dpi=110)


def report_places(lines: list[Line], frames: list[int], spans: list[list[fsl.TokenSpan]]) -> float:
    """Print the distances of the characters' frames from the drawn positions; return the mean in pixels."""
    shifts = []
    for line, length, own in zip(lines, frames, spans, strict=True):
        pixels = line.picture.shape[1] / length
        shifts.append(np.array([(span.start + span.end) / 2 * pixels for span in own]) - line.centres)
    shift = np.abs(np.concatenate(shifts))
    print(f"\n{len(shift)} characters, some {pixels:.0f} pixels a frame; from where they were drawn")
    print(f"their frames are {shift.mean():.1f} pixels away on average, {shift.max():.1f} at most")
    return float(shift.mean())


def main(arguments: list[str] | None = None) -> list[str]:
    """Read, score, align and draw; return the readings."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the picture")
    parser.add_argument("--model", type=Path, help="another recogniser in PaddleOCR's ONNX format")
    parser.add_argument("--image", type=Path, help="image of a line of text")
    parser.add_argument("--text", help="text of the image; required with --image")
    parser.add_argument("--quick", action="store_true", help="one line only")
    options = parser.parse_args(arguments)
    if (options.image is None) != (options.text is None):
        parser.error("--image and --text are given together or not at all")

    if options.image:
        texts: dict[str, list[str]] = {options.text: []}
        lines = [read_line(options.image, options.text)]
    else:
        texts = dict(list(LINES.items())[: 1 if options.quick else None])
        lines = [draw_line(text) for text in texts]
    model = Recogniser(options.model or model_file())
    probs, frames = model(lines)
    readings = []
    for line, row, length, others in zip(lines, probs, frames.tolist(), texts.values(), strict=True):
        reading, losses = report(line, row[:length], others, model)
        readings.append(reading)
        if not options.image and (reading.strip() != line.text or losses.argmin() != 0):
            raise SystemExit(f"misread: {line.text!r}")

    alignment = fsl.ctc_align(probs, [model.encode(text) for text in texts], frames, input="probs")
    if not options.image:
        report_places(lines, frames.tolist(), alignment.spans())
    options.output.mkdir(parents=True, exist_ok=True)
    draw(options.output / "score_onnx.png", lines, frames, alignment, model)
    print(f"written: {options.output / 'score_onnx.png'}")
    return readings


if __name__ == "__main__":
    main()
