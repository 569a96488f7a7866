"""Measure and plot the growth of time, memory and errors of the CTC loss with the size of the problem.

    python bench/scaling.py measure [--output DIR] [--axes NAME ...] [--quick] [--cpu-time]
    python bench/scaling.py draw [--output DIR]

`measure` writes scaling.json to the folder, and `draw` makes the plots of the documentation from it. All sides are
timed in random order in one process; memory is measured in a separate process for each side.
"""

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from bench import contest, peers, resident, sides_ctc
from bench.compare import SHORT, machine
from bench.contest import OPTAX, OURS, TORCH

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "performance"
SIDES = {OURS: sides_ctc.our_calls, TORCH: sides_ctc.torch_calls, OPTAX: sides_ctc.optax_calls}
Shape = tuple[int, int, int, int]
CPUS = os.cpu_count() or 1
AXES: dict[str, list[tuple[Shape, int]]] = {  # (B, T, V, S), threads
    "frames": [((16, t, 64, 40), 1) for t in (100, 200, 400, 800, 1600, 3200, 6400)],
    "classes": [((16, 400, v, 40), 1) for v in (8, 32, 128, 512, 2048, 8192)],
    "labels": [((16, 400, 64, s), 1) for s in (5, 10, 20, 40, 80, 160, 320)],
    "batch": [((b, 400, 64, 40), 1) for b in (1, 2, 4, 8, 16, 32, 64, 128)],
    "threads": [((64, 400, 64, 40), n) for n in sorted({2**k for k in range(CPUS.bit_length())} | {CPUS})],
}
LENGTHS = (100, 200, 400, 800, 1600, 3200, 6400, 12800)  # of recordings whose gradients are compared
TITLES = {"frames": "T, frames", "classes": "V, classes", "labels": "S, labels", "batch": "B, sequences"}


def sides() -> list[str]:
    """Return the names of the installed sides."""
    return [OURS, TORCH] + ([OPTAX] if importlib.util.find_spec("optax") else [])


def times(shape: Shape, threads: int, options: argparse.Namespace) -> Iterator[dict]:
    """Time loss and gradient of all sides, with the gradient in a given array and in a fresh one."""
    batch = sides_ctc.random_batch(shape)
    of = {side: SIDES[side](batch, threads) for side in sides()}
    wanted = {(side, mode): of[side][mode] for mode in ("grad_out", "fresh") for side in of if mode in of[side]}
    clock = argparse.Namespace(**vars(options) | {"cpu_time": options.cpu_time and threads == 1})
    for (side, mode), timing in contest.alternate(wanted, clock, threads).items():
        yield {"side": side, "mode": mode, "milliseconds": significant(timing.best * 1e3), "rounds": timing.rounds}


def memory(shape: Shape) -> Iterator[dict]:
    """Measure the memory that loss and gradient need, with a fresh array for the gradient."""
    for side in sides():
        # Without this, malloc keeps freed blocks of up to 32 MB, and the next call reuses them.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
        command = [sys.executable, __file__, "grow", side, *map(str, shape)]
        grown = int(resident.printed_by(command, environment).split()[-1])
        yield {"side": side, "megabytes": significant(grown / 1e6)}


def grow(side: str, shape: Shape) -> int:
    """Measure one side in this process: the increase of the resident memory during a call."""
    batch = sides_ctc.random_batch(shape)
    if side == OPTAX:
        return reserved(batch)
    SIDES[side](sides_ctc.random_batch(SHORT), 1)["fresh"]()
    return resident.growth(SIDES[side](batch, 1)["fresh"])


def reserved(batch: sides_ctc.Batch) -> int:
    """Return the bytes that optax's compiled program reserves: the pages that XLA keeps resident vary."""
    _, gradient, logits = sides_ctc.optax_ctc(batch)
    sizes = gradient.lower(logits).compile().memory_analysis()
    return sizes.temp_size_in_bytes + sizes.output_size_in_bytes


def errors(frames: int) -> Iterator[dict]:
    """Compare float32 gradients of one recording of many labels with PyTorch's in float64."""
    batch = sides_ctc.random_batch((1, frames, 32, frames // 8))
    losses, gradient = sides_ctc.torch_result(batch, "float64")
    found = {OURS: sides_ctc.our_ctc(batch, reduction="none", return_grad=True)}
    found[TORCH] = sides_ctc.torch_result(batch, "float32")
    if OPTAX in sides():
        found[OPTAX] = sides_ctc.optax_result(batch)
    found[f"{OURS}, float64"] = sides_ctc.our_ctc(batch.astype(np.float64), reduction="none", return_grad=True)
    for side, (loss, slope) in found.items():
        error, of_loss = np.abs(slope - gradient).max(), abs(loss[0] - losses[0])
        of_recording = {"side": side, "loss": round(float(losses[0]), 1)}
        yield of_recording | {"error": f"{error:.1e}", "loss_error": f"{of_loss:.1e}"}


def processor() -> str:
    """Return the name of the processor (on Linux), or its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()


def significant(x: float) -> float:
    """Round to three digits."""
    return float(f"{x:.3g}")


def measure(options: argparse.Namespace) -> None:
    """Measure all axes, or update some, and write the results."""
    path = options.output / "scaling.json"
    rows: list[dict] = []
    if options.axes and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))["rows"]
        rows = [row for row in before if row["axis"] not in options.axes]
    for axis in options.axes or [*AXES, "errors"]:
        if axis == "errors":
            rows += [{"axis": axis, "T": n} | row for n in LENGTHS[:: options.stride] for row in errors(n)]
            continue
        for shape, threads in AXES[axis][:: options.stride]:
            point = {"axis": axis, **dict(zip("BTVS", shape, strict=True)), "threads": threads}
            rows += [point | row for row in times(shape, threads, options)]
            if axis != "threads":
                rows += [point | row for row in memory(shape)]
        print(f"{axis} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    head = {
        "machine": f"{processor()}; {machine()}",
        "date": datetime.date.today().isoformat(),
        "clock": "CPU time on one thread, wall time on several" if options.cpu_time else "wall time",
    }
    options.output.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    text = f'{json.dumps(head)[:-1]}, "rows": [\n{lines}\n]}}\n'
    path.write_text(text, encoding="utf-8")


# ---- plots -----------------------------------------------------------------------------------

THEMES = {
    "light": {"ink": "#1b2a41", "grid": "#e3e7ee", OURS: "#d1495b", TORCH: "#00798c", OPTAX: "#c98a1b"},
    "dark": {"ink": "#cdd3dc", "grid": "#33383f", OURS: "#ff7d8c", TORCH: "#56c0d0", OPTAX: "#e9b44c"},
}


def error_lines(rows: list[dict]) -> list[dict[str, str]]:
    """Return a table of the errors, with a line for each length."""
    lines: dict[int, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(row["T"], {"frames": str(row["T"]), "loss": f"{row['loss']:.0f}"})
        line[row["side"] if "float64" in row["side"] else f"{row['side']}, float32"] = row["error"]
    return list(lines.values())


INKED = ("axes.labelcolor", "axes.edgecolor", "text.color", "xtick.color", "ytick.color")
STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
}


def draw(options: argparse.Namespace) -> None:
    """Draw every axis, for light and dark pages, and write the tables that the pages include."""
    import matplotlib as mpl

    found = json.loads((options.output / "scaling.json").read_text(encoding="utf-8"))
    of_axis = {axis: [row for row in found["rows"] if row["axis"] == axis] for axis in (*AXES, "errors")}
    (options.output / "machine.md").write_text(f"{found['machine']}; {found['clock']}; {found['date']}.\n")
    if of_axis["errors"]:
        with open(options.output / "errors.md", "w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
            contest.print_table(error_lines(of_axis["errors"]))
    pictures = dict.fromkeys(TITLES, draw_growth) | {"threads": draw_threads, "errors": draw_errors}
    for theme, colours in THEMES.items():
        style = dict.fromkeys(INKED, colours["ink"]) | {"svg.hashsalt": theme, "grid.color": colours["grid"]}
        with mpl.rc_context(STYLE | style):
            for axis in filter(of_axis.get, pictures):
                picture = pictures[axis]
                save(picture(axis, of_axis[axis], colours), options.output / f"{axis}-{theme}.svg")


def save(figure, path: Path) -> None:
    """Write a figure without a date, so that the file changes only with its contents."""
    figure.savefig(path, transparent=True, metadata={"Date": None})
    text = path.read_text(encoding="utf-8")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")


def figure_of(panels: int, height: float):
    """Return an empty figure and its panels, one above the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, height), layout="constrained")
    return figure, figure.subplots(panels, 1, squeeze=False)[:, 0]


def curve(ax, rows: list[dict], key: str, value: str, colour: str, label: str, **style) -> None:
    """Draw one line over the values of `key`."""
    if rows:
        points = sorted((row[key], float(row[value])) for row in rows)
        style = {"marker": "o", "markersize": 3.5, "linewidth": 1.6} | style
        ax.plot(*zip(*points, strict=True), color=colour, label=label, **style)


def finish(ax, xlabel: str, ylabel: str) -> None:
    """Label the axes and make them logarithmic."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    ax.set_xticks(sorted({x for line in ax.lines for x in line.get_xdata()}))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())
    low, high = ax.get_ylim()
    if high < 1e3 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if high < 1e6 * low:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.grid(True)
    ax.set_axisbelow(True)


def best(rows: list[dict], side: str) -> list[dict]:
    """Return the faster of a peer's calls at each point."""
    of_side = [row for row in rows if row["side"] == side and "milliseconds" in row]
    fastest: dict[tuple, dict] = {}
    for row in sorted(of_side, key=lambda row: -row["milliseconds"]):
        fastest[tuple(row[name] for name in ("B", "T", "V", "S", "threads"))] = row
    return list(fastest.values())


def draw_times(ax, rows: list[dict], key: str, colours: dict[str, str]) -> None:
    """Draw the times of all sides."""
    ours = [row for row in rows if row["side"] == OURS and "milliseconds" in row]
    for mode, label, style in (("grad_out", OURS, "-"), ("fresh", f"{OURS}, fresh gradient", ":")):
        chosen = [row for row in ours if row["mode"] == mode]
        curve(ax, chosen, key, "milliseconds", colours[OURS], label, linestyle=style)
    for side in (TORCH, OPTAX):
        curve(ax, best(rows, side), key, "milliseconds", colours[side], side)


def draw_growth(axis: str, rows: list[dict], colours: dict[str, str]):
    """Draw time and memory against one size."""
    key = TITLES[axis][0]
    figure, (above, below) = figure_of(2, 6.0)
    draw_times(above, rows, key, colours)
    finish(above, TITLES[axis], "time, ms")
    for side in (OURS, TORCH, OPTAX):
        grown = [row for row in rows if row["side"] == side and "megabytes" in row]
        curve(below, grown, key, "megabytes", colours[side], side)
    sizes = [{key: row[key], "size": row["B"] * row["T"] * row["V"] * 4e-6} for row in rows if row["side"] == OURS]
    curve(below, sizes, key, "size", colours["ink"], "the gradient itself", alpha=0.4, linestyle="--", marker="")
    finish(below, TITLES[axis], "memory, MB")
    figure.legend(*merged(above, below), loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def merged(*panels) -> tuple[list, list]:
    """Return the handles and labels of several panels, each label once."""
    found: dict = {}
    for ax in panels:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def draw_threads(_: str, rows: list[dict], colours: dict[str, str]):
    """Draw the time against the number of threads."""
    figure, (ax,) = figure_of(1, 3.4)
    draw_times(ax, rows, "threads", colours)
    finish(ax, "threads", "time, ms")
    figure.legend(*merged(ax), loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def draw_errors(_: str, rows: list[dict], colours: dict[str, str]):
    """Draw the errors of gradients against the length of the recording."""
    figure, (ax,) = figure_of(1, 3.8)
    for side in (OURS, TORCH, OPTAX):
        curve(ax, [row for row in rows if row["side"] == side], "T", "error", colours[side], f"{side}, float32")
    finish(ax, "T, frames", "largest error of the gradient")
    ax.set_ylim(1e-9, 2)
    figure.legend(*merged(ax), loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and run the command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["grow"]:
        with peers.extras_named():
            print(grow(arguments[1], tuple(map(int, arguments[2:6]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("measure", "draw"))
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="default: docs/performance")
    parser.add_argument("--axes", nargs="+", choices=[*AXES, "errors"], metavar="NAME", help="default: all")
    parser.add_argument("--quick", action="store_true", help="every third point, fewer rounds")
    parser.add_argument("--cpu-time", action="store_true", help="CPU time where one thread is measured")
    options = parser.parse_args(arguments)
    options.seconds, options.least, options.stride = (0.1, 1, 3) if options.quick else (1.0, 3, 1)
    with peers.extras_named():
        {"measure": measure, "draw": draw}[options.command](options)


if __name__ == "__main__":
    main()
