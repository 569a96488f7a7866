"""Plots of posteriors, alignments and losses; needs matplotlib, which the extra `plot` installs.

Each function draws into `ax`, or into a new figure, and returns the Axes for further changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.arrays import as_doubles, as_real, is_bfloat16, read_integers
from ._core.options import as_integer, choice
from ._core.spans import TokenSpan, as_frame_seconds, check_spans

if TYPE_CHECKING:
    from matplotlib.axes import Axes


__all__ = [
    "plot_alignment",
    "plot_alignment_path",
    "plot_loss",
    "plot_posteriors",
]

Names = Sequence[str] | dict[int, str]

_INK = "#1b2a41"
_FAINT = "#c3cad6"
_GREY = "#8d99ae"
_WAVE = "#a9b4c4"
_PALETTE = ("#d1495b", "#00798c", "#c98a1b", "#30638e", "#6a4c93", "#2a7f4f")

_LARGEST = 1e100  # number that can be drawn


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is None:
        try:
            from matplotlib import pyplot
        except ModuleNotFoundError as error:
            needs = "fastseqloss.plot needs matplotlib, of the extra `plot`: python -m pip install matplotlib"
            raise ModuleNotFoundError(needs, name=error.name) from error
        _, ax = pyplot.subplots(figsize=size, layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_GREY)
    ax.tick_params(colors=_INK, labelsize=9)
    return ax


def _numbers(name: str, value: ArrayLike) -> NDArray[np.float64]:
    return as_doubles(as_real(name, value))


def _unit(frame_seconds: float | None) -> float:
    """Return the width of a frame on the horizontal axis."""
    return 1.0 if frame_seconds is None else as_frame_seconds(frame_seconds)


def _time_axis(ax: Axes, width: float, in_seconds: bool) -> None:
    """Label the horizontal axis."""
    ax.set_xlabel("time, s" if in_seconds else "frame", color=_INK)
    ax.set_xlim(0, width)
    if not in_seconds:
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def _name(names: Names | None, label: int) -> str:
    if names is None:
        return str(label)
    if isinstance(names, dict):
        return names.get(label, str(label))
    return names[label] if 0 <= label < len(names) else str(label)


def _write(ax: Axes, places: Sequence[float], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Write texts above the axes at their places, in two rows if they are too close for one."""
    points = 72 * ax.bbox.width / ax.figure.dpi / (ax.get_xlim()[1] - ax.get_xlim()[0])  # per unit of the axis
    row, before, room = 0, -np.inf, 0.0
    for place, text, colour in zip(places, texts, colours, strict=True):
        half = 3.5 * len(text) + 1.5
        row = 1 - row if (place - before) * points < room + half else 0
        before, room = place, half
        ax.annotate(
            text,
            (place, 1),
            (0, 3 + 12 * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=10,
            color=colour,
        )


def _colours(labels: Sequence[int]) -> list[str]:
    """Return a colour for each label, the same for equal labels, in the order of first occurrence."""
    ranks = {label: rank for rank, label in enumerate(dict.fromkeys(labels))}
    return [_PALETTE[ranks[label] % len(_PALETTE)] for label in labels]


def plot_posteriors(
    posteriors: ArrayLike,
    labels: ArrayLike,
    *,
    names: Names | None = None,
    frame_seconds: float | None = None,
    kind: Literal["auto", "curves", "image"] = "auto",
    ax: Axes | None = None,
) -> Axes:
    """Draw the posteriors of `ctc_posteriors` over time, for one sequence.

    Parameters
    ----------
    posteriors : array_like [T, U]
        Occupation probabilities, 0 to 1, of blank, first label, blank, ...; U at least 2 S + 1.
    labels : array_like of int [S]
        The labels.
    names : sequence or dict of str, optional
        Text for each label; its number by default.
    frame_seconds : float, optional
        Duration of a frame; the axis is then in seconds.
    kind : {"auto", "curves", "image"}
        "curves" draws a curve for each label, and one grey curve for all blanks; "image" draws
        labels against time; "auto" draws curves for up to 48 labels.
    ax : matplotlib Axes, optional
        Axes to draw into; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit or an option is unknown.
    ModuleNotFoundError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> posteriors = fsl.ctc_posteriors(np.zeros((9, 3)), [1, 2])
    >>> fsl.plot.plot_posteriors(posteriors, [1, 2], names="-ab").get_xlabel()
    'frame'
    """
    chosen = choice("kind", kind, ("auto", "curves", "image"))
    tokens = read_integers("labels", labels).exact
    shares = _numbers("posteriors", posteriors)
    if tokens.ndim != 1:
        raise ValueError(f"labels has shape {tokens.shape}; allowed: [S]")
    if shares.ndim != 2 or shares.shape[1] < 2 * len(tokens) + 1:
        raise ValueError(f"posteriors has shape {shares.shape}; allowed: [T, {2 * len(tokens) + 1}] or wider")
    shares = shares[:, : 2 * len(tokens) + 1]
    bad = np.argwhere(~((shares >= 0) & (shares <= 1.01)))  # above 1 for rounding in half precision
    if len(bad):
        t, u = bad[0].tolist()
        raise ValueError(f"posteriors[{t}, {u}] is {shares[t, u]}; allowed: probabilities, 0 to 1")
    unit = _unit(frame_seconds)
    ax = _axes(ax, (10, 3))
    _time_axis(ax, max(len(shares), 1) * unit, frame_seconds is not None)
    texts = [_name(names, label) for label in tokens.tolist()]
    if chosen == 1 or (chosen == 0 and len(tokens) <= 48):
        _draw_curves(ax, shares, tokens.tolist(), texts, unit)
    else:
        _draw_image(ax, shares[:, 1::2], texts, unit)
    return ax


def _draw_curves(ax: Axes, shares: NDArray[np.float64], labels: list[int], texts: list[str], unit: float) -> None:
    # Steps, because a probability belongs to a whole frame.
    edges = np.arange(len(shares) + 1) * unit
    blank = shares[:, ::2].sum(axis=1)
    ax.stairs(blank, edges, fill=True, color=_FAINT, alpha=0.45, linewidth=0)
    colours = _colours(labels)
    for share, colour in zip(shares[:, 1::2].T, colours, strict=True):
        inside = np.flatnonzero(share > 1e-3)
        if inside.size:
            part = slice(inside[0], inside[-1] + 1)
            own = edges[inside[0] : inside[-1] + 2]
            ax.stairs(share[part], own, fill=True, color=colour, alpha=0.35, linewidth=0)
            ax.stairs(share[part], own, color=colour, linewidth=1.4)
    ax.set_ylim(0, 1.02)
    ax.set_ylabel("posterior", color=_INK)
    total = shares[:, 1::2].sum(axis=0)
    centres = (np.arange(len(shares)) + 0.5) @ shares[:, 1::2] / np.where(total > 0, total, 1) * unit
    shown = np.flatnonzero(total > 0).tolist()
    _write(ax, [float(centres[i]) for i in shown], [texts[i] for i in shown], [colours[i] for i in shown])


def _draw_image(ax: Axes, shares: NDArray[np.float64], texts: list[str], unit: float) -> None:
    frames, count = shares.shape
    # Each of about 400 columns shows the largest of its frames, so that a label of a single frame stays visible.
    step = max(1, frames // 400)
    starts = np.arange(0, frames, step)
    extent = (0.0, max(len(starts), 1) * step * unit, max(float(count), 1.0), 0.0)
    image = np.maximum.reduceat(shares, starts, axis=0).T if shares.size else np.zeros((1, 1))
    _show(ax, image, extent)
    ticks = np.unique(np.linspace(0, max(count - 1, 0), min(count, 12)).astype(int))
    ax.set_yticks(ticks + 0.5, [texts[i] for i in ticks])
    ax.set_ylabel("label", color=_INK)


def _show(ax: Axes, image: NDArray[np.float64], extent: tuple[float, float, float, float]) -> None:
    """Draw posteriors as an image."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("posterior", ["white", "#9cc5d3", _PALETTE[1], _INK])
    # The square root makes small probabilities visible.
    ax.imshow(np.sqrt(image), cmap=shades, vmin=0, vmax=1, aspect="auto", extent=extent, interpolation="nearest")


def plot_alignment(
    spans: Sequence[TokenSpan],
    *,
    names: Names | None = None,
    frames: int | None = None,
    frame_seconds: float | None = None,
    waveform: ArrayLike | None = None,
    image: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the frames of each label, over a waveform or an image if one is given.

    The opacity of a span grows with its probability, the exponential of its mean log-probability.

    Parameters
    ----------
    spans : list or tuple of TokenSpan
        Spans of one sequence: ``ctc_align(...).spans()``, or ``spans()[b]`` of a batch.
    names : sequence or dict of str, optional
        Text for each label; its number by default.
    frames : int, optional
        Number of frames of the sequence; the end of the last span by default.
    frame_seconds : float, optional
        Duration of a frame; the axis is then in seconds.
    waveform : array_like [N], optional
        Samples that cover all frames.
    image : array_like [H, W], [H, W, 3] or [H, W, 4], optional
        A picture whose width covers all frames, such as a line of text or a spectrogram.
    ax : matplotlib Axes, optional
        Axes to draw into; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, samples are not finite, or both `waveform` and `image` are given.
    ModuleNotFoundError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastseqloss as fsl
    >>> spans = [fsl.TokenSpan(1, 2, 4, -0.1), fsl.TokenSpan(2, 6, 7, -0.5)]
    >>> fsl.plot.plot_alignment(spans, names="-ab", frame_seconds=0.02).get_xlabel()
    'time, s'
    """
    if waveform is not None and image is not None:
        raise ValueError("waveform and image are both given; allowed: one of them")
    samples = None if waveform is None else _as_samples(waveform)
    picture = None if image is None else _as_picture(image)
    frames, unit = _frames_of(spans, frames), _unit(frame_seconds)
    ax = _axes(ax, (10, 2.4))
    _time_axis(ax, max(frames, 1) * unit, frame_seconds is not None)
    if samples is not None and len(samples):
        _draw_waveform(ax, samples, frames * unit)
    elif picture is not None:
        extent = (0.0, frames * unit, 0.0, float(picture.shape[0]))
        ax.imshow(picture, cmap="Greys", aspect="auto", extent=extent, interpolation="nearest")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    colours = _colours([span.label for span in spans])
    for span, colour in zip(spans, colours, strict=True):
        strength = 0.2 + 0.5 * float(np.exp(min(span.mean_log_prob, 0.0)))
        ax.axvspan(span.start * unit, span.end * unit, color=colour, alpha=strength, linewidth=0)
    centres = [(span.start + span.end) / 2 * unit for span in spans]
    _write(ax, centres, [_name(names, span.label) for span in spans], colours)
    return ax


def _frames_of(spans: Sequence[TokenSpan], frames: int | None) -> int:
    """Return the number of frames to draw, those of the spans by default."""
    check_spans(spans)
    last = max((span.end for span in spans), default=0)
    frames = last if frames is None else as_integer("frames", frames)
    if frames < last:
        raise ValueError(f"frames is {frames}; allowed: {last} or more, where the last span ends")
    return frames


def _as_samples(waveform: ArrayLike) -> NDArray[np.float64]:
    samples = _numbers("waveform", waveform)
    if samples.ndim != 1:
        raise ValueError(f"waveform has shape {samples.shape}; allowed: [N]")
    bad = np.flatnonzero(~(np.abs(samples) < _LARGEST))
    if bad.size:
        raise ValueError(f"waveform[{bad[0]}] is {samples[bad[0]]}; allowed: finite numbers, below {_LARGEST:g}")
    return samples


def _as_picture(image: ArrayLike) -> NDArray[Any]:
    picture = as_real("image", image)
    if picture.ndim != 2 and not (picture.ndim == 3 and picture.shape[2] in (3, 4)):
        raise ValueError(f"image has shape {picture.shape}; allowed: [H, W], [H, W, 3] or [H, W, 4]")
    if not picture.size:
        raise ValueError(f"image has shape {picture.shape}; allowed: a pixel or more")
    return picture.astype(np.float32) if is_bfloat16(picture.dtype) else picture


def _draw_waveform(ax: Axes, samples: NDArray[np.float64], width: float) -> None:
    # Each of about 2000 columns spans its smallest and largest sample, so peaks stay visible.
    starts = np.arange(0, len(samples), max(1, len(samples) // 2000))
    times = starts * (width / len(samples))
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    ax.fill_between(times, low, high, color=_WAVE, linewidth=0.6, edgecolor=_WAVE)
    loudest = float(np.abs(samples).max()) or 1.0
    ax.set_ylim(-1.05 * loudest, 1.05 * loudest)


def plot_alignment_path(
    posteriors: ArrayLike,
    path: ArrayLike | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the alignment of two series: the posteriors of their pairs of steps, and a path.

    Parameters
    ----------
    posteriors : array_like [N, M]
        Probabilities of the pairs, 0 to 1: those of `soft_dtw_posteriors` for one pair of series, the gradient of
        `soft_dtw_cost`, or the probabilities of the cells of any other grid that a path crosses.
    path : array_like of int [K, 2], optional
        Pairs (i, j) to be joined by a line: ``np.argwhere(posteriors)`` of posteriors with `gamma` 0.
    ax : matplotlib Axes, optional
        Axes to draw into; a new figure by default.

    Returns
    -------
    matplotlib Axes
        The vertical axis is the first series, and the horizontal axis is the second one.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit, or if posteriors or a pair are out of range.
    ModuleNotFoundError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> x, y = np.sin(np.arange(30) / 5)[:, None], np.sin(np.arange(40) / 7)[:, None]
    >>> best = fsl.soft_dtw_posteriors(x, y, gamma=0)
    >>> ax = fsl.plot.plot_alignment_path(fsl.soft_dtw_posteriors(x, y, gamma=0.1), np.argwhere(best))
    >>> ax.get_xlabel()
    'step of the second series'
    """
    shares = _numbers("posteriors", posteriors)
    if shares.ndim != 2:
        raise ValueError(f"posteriors has shape {shares.shape}; allowed: [N, M]")
    bad = np.argwhere(~((shares >= 0) & (shares <= 1.01)))
    if len(bad):
        i, j = bad[0].tolist()
        raise ValueError(f"posteriors[{i}, {j}] is {shares[i, j]}; allowed: probabilities, 0 to 1")
    cells = None if path is None else _as_cells(path, shares.shape)
    ax = _axes(ax, (5, 4.5))
    _draw_grid(ax, shares)
    if cells is not None:
        ax.plot(cells[:, 1] + 0.5, cells[:, 0] + 0.5, color=_PALETTE[0], linewidth=1.2)
    return ax


def _as_cells(path: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    cells = read_integers("path", path).values
    if cells.ndim != 2 or cells.shape[1] != 2:
        raise ValueError(f"path has shape {cells.shape}; allowed: [K, 2]")
    bad = np.argwhere((cells < 0) | (cells >= shape))
    if len(bad):
        k, axis = bad[0].tolist()
        raise ValueError(f"path[{k}, {axis}] is {cells[k, axis]}; allowed: 0 to {shape[axis] - 1}")
    return cells


def _draw_grid(ax: Axes, shares: NDArray[np.float64]) -> None:
    """Draw posteriors as an image of at most about 400 pixels a side, each the largest of its cells."""
    rows, columns = shares.shape
    image = shares if shares.size else np.zeros((1, 1))
    for axis, length in enumerate(image.shape):
        image = np.maximum.reduceat(image, np.arange(0, length, max(1, length // 400)), axis=axis)
    extent = (0.0, max(float(columns), 1.0), 0.0, max(float(rows), 1.0))
    _show(ax, image[::-1], extent)
    ax.set_xlabel("step of the second series", color=_INK)
    ax.set_ylabel("step of the first series", color=_INK)


def plot_loss(
    losses: ArrayLike,
    *,
    validation: ArrayLike | None = None,
    smooth: int | None = None,
    unit: str = "loss, nats",
    ax: Axes | None = None,
) -> Axes:
    """Draw the losses of a training run, and their running mean.

    Parameters
    ----------
    losses : array_like [N]
        Loss of each step. Losses that are not finite, or beyond 1e100, leave a gap.
    validation : array_like [M], optional
        Validation losses at M equally spaced steps; the last one is at the end of the training.
    smooth : int, optional
        Number of steps in the running mean; by default a fiftieth of all, at least one.
    unit : str
        Label of the vertical axis, which is logarithmic if all losses are above 0.
    ax : matplotlib Axes, optional
        Axes to draw into; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError, TypeError
        If shapes or `smooth` are not as above.
    ModuleNotFoundError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import fastseqloss as fsl
    >>> fsl.plot.plot_loss(1 / np.arange(1, 500)).get_yscale()
    'log'
    """
    values = _drawable(_numbers("losses", losses))
    if values.ndim != 1:
        raise ValueError(f"losses has shape {values.shape}; allowed: [N]")
    count = len(values)
    held_out = None if validation is None else _drawable(_numbers("validation", validation))
    if held_out is not None and held_out.ndim != 1:
        raise ValueError(f"validation has shape {held_out.shape}; allowed: [M]")
    width = max(1, count // 50) if smooth is None else as_integer("smooth", smooth)
    if width < 1:
        raise ValueError(f"smooth is {smooth}; allowed: 1 or more")
    width = min(width, max(count, 1))
    ax = _axes(ax, (8, 3.2))
    steps = np.arange(1, count + 1)
    ax.plot(steps, values, color=_FAINT, linewidth=0.8, label="each step" if width > 1 else None)
    mean = np.convolve(values, np.ones(width) / width, mode="valid") if count else values
    strong: dict[str, Any] = {"color": _PALETTE[0], "linewidth": 1.8, "marker": "o" if len(mean) == 1 else ""}
    ax.plot(steps[width - 1 :], mean, label=f"mean of {width}" if width > 1 else None, **strong)
    drawn = values
    if held_out is not None:
        at = count * np.arange(1, len(held_out) + 1) / max(len(held_out), 1)
        ax.plot(at, held_out, "o-", color=_PALETTE[1], markersize=4, linewidth=1.4, label="validation")
        drawn = np.concatenate([values, held_out])
    _finish_loss(ax, drawn[np.isfinite(drawn)], count, unit)
    return ax


def _drawable(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the losses, with NaN in place of those that cannot be drawn."""
    return np.where(np.abs(losses) < _LARGEST, losses, np.nan)


def _finish_loss(ax: Axes, drawn: NDArray[np.float64], count: int, unit: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    if drawn.size and drawn.min() > 0:
        ax.set_yscale("log")
        decades = np.log10(drawn.max()) - np.log10(drawn.min())
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlim(0, max(count, 1))
    ax.set_xlabel("step", color=_INK)
    ax.set_ylabel(unit, color=_INK)
    ax.grid(axis="y", color="#eceff4")
    ax.set_axisbelow(True)
    if len(ax.get_legend_handles_labels()[0]) > 1:
        ax.legend(frameon=False, fontsize=9, labelcolor=_INK)
