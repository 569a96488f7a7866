"""Average and classify recordings that differ in time, by soft-DTW and by Euclidean distance.

    python examples/compare_series.py [--quick] [--output DIR]

Recordings of the same event have the same shape, but not at the same time: the arithmetic mean of a class blurs it, and
Euclidean distances compare what does not belong together. An average under `fastseqloss.soft_dtw_loss` is found by
gradient descent instead: the loss of the average and all recordings of its class, whose gradient with respect to the
average comes with it. Test recordings are classified by the nearest average of a class, and by the nearest training
recording (`gamma=0`, dynamic time warping).

The series are "Trace", 200 simulated failures of instruments in four classes (tests/data/README.md gives origin and
licence). The figure is compare_series.png.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    from matplotlib.figure import Figure
    from tqdm import tqdm

    import fastseqloss as fsl
    from fastseqloss.recurrent import Adam
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[demo]" in the folder of the source'
    raise SystemExit(needs) from None

DATA = Path(__file__).resolve().parents[1] / "tests" / "data" / "trace.npz"
GAMMA = 0.1  # for series of variance 1: a tenth of the squared distance of a standard deviation
BAND = 50  # steps that two recordings may be apart
INK, FAINT, MEAN, SOFT = "#1b2a41", "#c3cad6", "#d1495b", "#00798c"


class Recordings(NamedTuple):
    """Series [B, T, 1] and the class of each."""

    series: np.ndarray
    classes: np.ndarray


def load() -> tuple[Recordings, Recordings]:
    """Return the recordings for training and for testing."""
    with np.load(DATA) as file:
        series, classes = (file["series"] * file["unit"])[:, :, None], file["classes"]
        cut = int(file["training"])
    return Recordings(series[:cut], classes[:cut]), Recordings(series[cut:], classes[cut:])


def soft_dtw_average(series: np.ndarray, steps: int, bar: tqdm) -> np.ndarray:
    """Return the series [T, 1] with the least mean soft-DTW loss, by descent from the arithmetic mean."""
    average = series.mean(axis=0)
    optimizer = Adam({"average": average})
    repeated = np.broadcast_to(average, series.shape)  # a view, which follows the average
    slopes = np.empty_like(series)
    for step in range(steps):
        # None: the gradient with respect to the recordings is not wanted.
        loss, _ = fsl.soft_dtw_loss(repeated, series, gamma=GAMMA, band=BAND, grad_out=(slopes, None))
        optimizer.learning_rate = 0.1 * (1 - step / steps)
        optimizer.step({"average": slopes.sum(axis=0)})
        bar.update()
        bar.set_postfix_str(f"loss {loss:.3f}")
    return average


def distances(a: np.ndarray, b: np.ndarray, warped: bool) -> np.ndarray:
    """Return the distances [A, B] of all pairs: by dynamic time warping, or squared Euclidean."""
    first, second = a[:, None], b[None]
    if not warped:
        return ((first - second) ** 2).sum(axis=(2, 3))
    shape = (len(a) * len(b), *a.shape[1:])
    x, y = (np.broadcast_to(s, (len(a), len(b), *a.shape[1:])).reshape(shape) for s in (first, second))
    return fsl.soft_dtw_loss(x, y, gamma=0, band=BAND, reduction="none").reshape(len(a), len(b))


def accuracy(test: Recordings, known: Recordings, warped: bool) -> float:
    """Return the share of recordings whose nearest known series has their class."""
    nearest = distances(test.series, known.series, warped).argmin(axis=1)
    return float((known.classes[nearest] == test.classes).mean())


def draw(path: Path, training: Recordings, averages: dict[str, Recordings], results: dict[str, list[float]]) -> None:
    """Draw the averages over their recordings, an alignment, and the accuracies."""
    figure = Figure(figsize=(12, 6.2), layout="constrained", facecolor="white")
    axes = figure.subplot_mosaic([["1", "2", "path"], ["3", "4", "bars"]], width_ratios=[1, 1, 1.15])
    for k, label in enumerate(averages["mean"].classes):
        panel = axes[str(label)]
        panel.plot(training.series[training.classes == label, :, 0].T, color=FAINT, linewidth=0.5)
        panel.plot(averages["mean"].series[k], color=MEAN, linewidth=1.6, label="arithmetic mean")
        panel.plot(averages["soft-DTW"].series[k], color=SOFT, linewidth=1.6, label="soft-DTW average")
        panel.set_title(f"Class {label}", loc="left")
        panel.set_xlabel("step")
    axes["1"].legend(frameon=False, fontsize=9)
    first = averages["mean"].classes[0]
    group = training.series[training.classes == first]
    pair = group[0], group[distances(group[:1], group, False).argmax()]
    best = fsl.soft_dtw_posteriors(*pair, gamma=0, band=BAND)
    fsl.plot.plot_alignment_path(
        fsl.soft_dtw_posteriors(*pair, gamma=GAMMA, band=BAND), np.argwhere(best), ax=axes["path"]
    )
    axes["path"].set_title(f"Two recordings of class {first}, aligned", loc="left")
    draw_bars(axes["bars"], results)
    for panel in axes.values():
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors="#4a5568")
        panel.set_title(panel.get_title(loc="left"), loc="left", fontsize=10.5, color=INK)
    figure.savefig(path, dpi=100)


def draw_bars(axes: Any, results: dict[str, list[float]]) -> None:
    """Draw the accuracies of both distances side by side."""
    places = np.arange(len(results))
    for k, (name, colour) in enumerate((("Euclidean", MEAN), ("soft-DTW", SOFT))):
        shares = [100 * pair[k] for pair in results.values()]
        axes.bar_label(axes.bar(places + 0.38 * k, shares, 0.36, color=colour, label=name), fmt="%.0f", color=INK)
    axes.set(ylim=(0, 118), ylabel="% of test recordings", yticks=range(0, 101, 25))
    axes.set_xticks(places + 0.19, list(results))
    axes.set_title("Classified correctly", loc="left")
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper left")


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Average, classify, print, draw; return the accuracies of both distances by method."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the steps of each average")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args(arguments)
    (training, test), began = load(), time.perf_counter()
    classes, steps = np.unique(training.classes), 20 if options.quick else 60
    groups = [training.series[training.classes == label] for label in classes]
    with tqdm(total=len(groups) * steps, unit="step", disable=None) as bar:
        warped = np.stack([soft_dtw_average(group, steps, bar) for group in groups])
    averages = {
        "mean": Recordings(np.stack([group.mean(axis=0) for group in groups]), classes),
        "soft-DTW": Recordings(warped, classes),
    }
    results = {
        "nearest average": [accuracy(test, averages["mean"], False), accuracy(test, averages["soft-DTW"], True)],
        "nearest recording": [accuracy(test, training, False), accuracy(test, training, True)],
    }
    print(f"classified correctly of {len(test.series)} recordings, of {len(training.series)} to learn from:")
    for method, (plain, soft) in results.items():
        print(f"  {method:<18} Euclidean {plain:.0%}, soft-DTW {soft:.0%}")
    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "compare_series.png"
    draw(picture, training, averages, results)
    print(f"in {time.perf_counter() - began:.0f} s; picture: {picture}")
    if any(soft < plain + 0.1 for plain, soft in results.values()):
        raise SystemExit("soft-DTW is not a tenth better than the Euclidean distance")
    return results


if __name__ == "__main__":
    main()
