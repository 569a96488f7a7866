"""Forecast sunspots and the movements of a wrist with a recurrent network, with quantiles and with variances.

    python examples/forecast_series.py [--quick] [--seed N] [--output DIR]

A GRU reads a series step by step and forecasts the next values at every step. Three networks learn the mean, with
`fastseqloss.mse_loss`; nine quantiles, with `fastseqloss.quantile_loss`; or mean and variance of a normal distribution,
with `fastseqloss.gaussian_nll_loss`. They are tested on time steps after the training data.

The baseline is a linear regression on the last few values, with the variance or the quantiles of its errors in the
training data. Each network starts as this baseline, and learns to correct it: its forecasts are the sum of the linear
ones and of an output of the GRU, which is 0 at first. Persistence, the last value, is the simplest forecast.

The series are the yearly sunspot number since 1700, and 80 recordings by a smart watch, of six channels and ten
seconds each (tests/data/README.md gives origin and licence). The figure is forecast_series.png.
"""

import argparse
import time
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

try:
    import numpy as np
    from matplotlib.figure import Figure
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    import fastseqloss as fsl
    from fastseqloss.recurrent import GRU, Adam, Linear, clip_grad_norm
except ModuleNotFoundError as error:
    needs = f'this example needs {error.name}: python -m pip install ".[demo]" in the folder of the source'
    raise SystemExit(needs) from None

DATA = Path(__file__).resolve().parents[1] / "tests" / "data" / "time_series.npz"
QUANTILES = np.array([0.025, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.975], np.float32)
SHARES = {0.5: 2, 0.8: 1, 0.95: 0}  # of the values within central intervals, and the quantile that each begins with
KINDS = ("mean", "quantiles", "normal")
INK = "#1b2a41"


class Series(NamedTuple):
    """Recordings of the same length, divided by the standard deviations before the cut."""

    name: str
    values: np.ndarray  # [B, T, D]
    cut: int  # first step after the training data
    horizon: int  # number of steps ahead to forecast
    window: int  # steps of a training window
    scale: np.ndarray  # the standard deviations [D]
    past: int  # number of values in the linear regression
    hidden: int  # size of the networks
    rate: float  # of learning, at first
    unit: str  # of the horizon
    row: int  # recording in the figure

    def targets(self) -> np.ndarray:
        """Return the values after each step, for each horizon: [B, T - H, H, D]."""
        return np.stack([self.values[:, h : h - self.horizon or None] for h in range(1, self.horizon + 1)], axis=2)


def load() -> tuple[Series, Series, np.ndarray]:
    """Return the sunspots, the movements, and the year of each sunspot number."""
    with np.load(DATA) as file:
        sunspots = (file["sunspots"] * file["sunspots_unit"])[None, :, None]
        movements = file["motion"] * file["motion_unit"]
        years = int(file["first_year"]) + np.arange(sunspots.shape[1])
        running = int(np.flatnonzero(file["activities"][file["activity"]] == "running")[0])
    cut = int(np.searchsorted(years, 1920))
    scale = sunspots[:, :cut].std(axis=(0, 1))
    first = Series("sunspots", sunspots / scale, cut, 11, 30, scale, 9, 24, 5e-4, "years", 0)
    scale = movements[:, :70].std(axis=(0, 1))
    # The windows, the rates and the number of updates were selected on the last 60 years, or two seconds, before the
    # cut. A single series of 220 years permits small corrections of the linear regression only.
    second = Series("movements", movements / scale, 70, 5, 20, scale, 5, 48, 5e-3, "tenths of a second", running)
    return first, second, years


class Line(NamedTuple):
    """A linear regression on the last values, by least squares before the cut."""

    forecasts: np.ndarray  # [B, T - H, H, D]
    errors: np.ndarray  # [B, N, H, D], before the cut

    def spread(self, kind: str) -> np.ndarray:
        """Return what is added to the forecasts [H, D, Q]: 0, quantiles of the errors, or 0 and their log-variance."""
        if kind == "quantiles":
            return np.moveaxis(np.quantile(self.errors, QUANTILES, axis=(0, 1)), 0, -1).astype(np.float32)
        zero = np.zeros(self.errors.shape[2:], np.float32)
        variance = (self.errors**2).mean(axis=(0, 1))
        return np.stack([zero, np.log(variance)] if kind == "normal" else [zero], axis=-1).astype(np.float32)

    def outputs(self, kind: str) -> np.ndarray:
        """Return the forecasts of that kind [B, T - H, H, D, Q], with the same spread at every step."""
        located = np.array([1, 0] if kind == "normal" else [1], np.float32)  # the log-variance does not move with it
        return self.forecasts[..., None] * located + self.spread(kind)


def regression(series: Series) -> Line:
    """Return forecasts that are linear in the last values; the first value is repeated before the beginning."""
    targets = series.targets()
    before = np.pad(series.values, ((0, 0), (series.past - 1, 0), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(before, series.past, axis=1)[:, : targets.shape[1]]
    inputs = np.concatenate([windows.reshape(*windows.shape[:2], -1), np.ones_like(windows[..., :1, 0])], axis=2)
    learnt = slice(series.past - 1, series.cut - series.horizon)
    rows, wanted = inputs[:, learnt], targets[:, learnt]
    weights = np.linalg.lstsq(rows.reshape(-1, rows.shape[2]), wanted.reshape(len(rows) * rows.shape[1], -1))[0]
    forecasts = (inputs @ weights).reshape(targets.shape).astype(np.float32)
    return Line(forecasts, (wanted - forecasts[:, learnt]).astype(np.float32))


class Forecaster:
    """A GRU and a linear layer, whose output is a correction of the baseline; it is 0 at first."""

    def __init__(self, series: Series, kind: str, rng: np.random.Generator) -> None:
        features = series.values.shape[2]
        outputs = {"mean": 1, "quantiles": len(QUANTILES), "normal": 2}[kind] * series.horizon * features
        self.recurrent = GRU(features, series.hidden, rng=rng)
        self.linear = Linear(series.hidden, outputs, rng=rng)
        for array in self.linear.parameters.values():
            array[...] = 0
        self.parameters = self.named(self.recurrent.parameters, self.linear.parameters)

    @staticmethod
    def named(recurrent: dict[str, np.ndarray], linear: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays of both layers in one dict."""
        return {f"recurrent.{k}": a for k, a in recurrent.items()} | {f"linear.{k}": a for k, a in linear.items()}

    def forward(self, values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
        """Return forecasts [B, T, H, D, Q], given those of the baseline."""
        return baseline + self.linear.forward(self.recurrent.forward(values)).reshape(baseline.shape)

    def backward(self, gradient: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of all parameters, given that of the forecasts."""
        linear, slope = self.linear.backward(gradient.reshape(*gradient.shape[:2], -1))
        return self.named(self.recurrent.backward(slope)[0], linear)


def loss_and_gradient(kind: str, forecasts: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the loss of forecasts [B, T, H, D, Q], a mean over all horizons and channels, and its gradient."""
    rows = (*targets.shape[:2], -1)
    wanted = targets.reshape(rows)
    if kind == "mean":
        loss, gradient = fsl.mse_loss(forecasts.reshape(rows), wanted, return_grad=True)
    elif kind == "quantiles":
        wanted = np.repeat(wanted, len(QUANTILES), axis=2)
        q = np.tile(QUANTILES, wanted.shape[2] // len(QUANTILES))
        loss, gradient = fsl.quantile_loss(forecasts.reshape(rows), wanted, q=q, return_grad=True)
    else:
        mean, log_variance = (forecasts[..., i].reshape(rows) for i in (0, 1))
        loss, slopes = fsl.gaussian_nll_loss(
            mean, wanted, log_variance, input="log_variance", full=True, return_grad=True
        )
        gradient = np.stack([slopes.predictions, slopes.variance], axis=-1)
    return float(loss), gradient.reshape(forecasts.shape)


def train(series: Series, kind: str, steps: int, rng: np.random.Generator, bar: tqdm) -> Forecaster:
    """Train on random windows before the cut."""
    model = Forecaster(series, kind, rng)
    optimizer = Adam(model.parameters)
    baseline = regression(series).outputs(kind)
    targets = series.targets()[:, : series.cut - series.horizon]
    inside = np.arange(series.window)
    for step in range(steps):
        rows = rng.integers(len(targets), size=(32, 1))
        columns = rng.integers(targets.shape[1] - series.window + 1, size=(32, 1)) + inside
        forecasts = model.forward(series.values[rows, columns], baseline[rows, columns])
        loss, gradient = loss_and_gradient(kind, forecasts, targets[rows, columns])
        gradients = model.backward(gradient)
        clip_grad_norm(gradients, 0.5)
        optimizer.learning_rate = series.rate * (1 - step / steps)
        optimizer.step(gradients)
        bar.update()
        if step % 20 == 0:
            bar.set_postfix_str(f"{series.name}, {kind}, loss {loss:.3f}")
    return model


class Report(NamedTuple):
    """Results for one series, on the values after the cut."""

    fans: dict[str, np.ndarray]  # quantiles [B, N, H, D, Q] by kind, of N steps, the first one the last before the cut
    errors: dict[str, np.ndarray]  # root mean squared error for each horizon, by forecast
    losses: dict[str, dict[str, float]]  # by kind, then by forecast
    coverage: dict[str, dict[str, list[float]]]  # shares of values within the intervals of `SHARES`, likewise

    def skill(self, forecast: str = "GRU", baseline: str = "persistence") -> float:
        """Return the relative reduction of the mean squared error from that of a baseline."""
        return float(1 - (self.errors[forecast] ** 2).mean() / (self.errors[baseline] ** 2).mean())


def as_quantiles(kind: str, forecasts: np.ndarray) -> np.ndarray:
    """Return the `QUANTILES` of forecasts with a spread."""
    if kind == "normal":
        places = np.array([NormalDist().inv_cdf(float(q)) for q in QUANTILES], np.float32)
        return forecasts[..., :1] + np.exp(forecasts[..., 1:] / 2) * places
    # Quantiles that are learnt separately may cross; sorting prevents this and does not increase the loss.
    return np.sort(forecasts, axis=-1)


def covered(fan: np.ndarray, targets: np.ndarray) -> list[float]:
    """Return the shares of values within the central intervals of `SHARES`."""
    return [float(((fan[..., i] <= targets) & (targets <= fan[..., -1 - i])).mean()) for i in SHARES.values()]


def evaluate(series: Series, models: dict[str, Forecaster]) -> Report:
    """Compare the forecasts on all steps whose targets are after the cut."""
    line, tested = regression(series), slice(series.cut - 1, series.values.shape[1] - series.horizon)
    read, targets = series.values[:, : -series.horizon], series.targets()[:, tested]
    found, fans = {}, {}
    for kind, model in models.items():
        linear = line.outputs(kind)
        found[kind] = {"GRU": model.forward(read, linear)[:, tested], "linear": linear[:, tested]}
    means = {name: forecasts[..., 0] for name, forecasts in found.pop("mean").items()}
    means["persistence"] = np.broadcast_to(read[:, tested, None], targets.shape)
    for kind, both in found.items():
        fans[kind] = {name: as_quantiles(kind, forecasts) for name, forecasts in both.items()}
    found["quantiles"] = fans["quantiles"]
    return Report(
        {kind: both["GRU"] for kind, both in fans.items()},
        {name: np.sqrt(((mean - targets) ** 2).mean(axis=(0, 1, 3))) for name, mean in means.items()},
        {k: {name: loss_and_gradient(k, f, targets)[0] for name, f in both.items()} for k, both in found.items()},
        {k: {name: covered(fan, targets) for name, fan in both.items()} for k, both in fans.items()},
    )


def print_report(series: Series, report: Report) -> None:
    """Print errors by horizon, and losses and coverage of the forecasts with a spread."""
    print(f"\n{series.name}, root mean squared error in standard deviations, by {series.unit} ahead:")
    horizons = [h for h in (1, 2, 3, 5, 8, 11) if h <= series.horizon]
    print(f"{'':<14}" + "".join(f"{h:>8}" for h in horizons))
    for name, errors in report.errors.items():
        print(f"  {name:<12}" + "".join(f"{errors[h - 1]:>8.3f}" for h in horizons))
    for baseline in ("linear", "persistence"):
        print(f"  mean squared error of the GRU, less than that of {baseline}: {report.skill('GRU', baseline):.1%}")
    print("with a spread, and the shares of held-out values within central intervals:")
    print(f"{'':<34}{'loss':>8}" + "".join(f"{share:>8.0%}" for share in SHARES))
    titles = {"quantiles": "quantile loss", "normal": "negative log-likelihood"}
    for kind, losses in report.losses.items():
        for name, loss in losses.items():
            shares = "".join(f"{share:>8.1%}" for share in report.coverage[kind][name])
            print(f"  {titles[kind] + ', ' + name:<32}{loss:>8.3f}{shares}")


def plain(axes: Any) -> None:
    """Hide two spines and set the colours."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors="#4a5568")
    axes.set_title(axes.get_title(loc="left"), loc="left", fontsize=10.5, color=INK)


def draw_fan(axes: Any, at: np.ndarray, fan: np.ndarray, labels: bool = True) -> None:
    """Draw quantiles [N, Q] as nested bands, and the median."""
    for i, shade in ((0, "#cfe5e8"), (1, "#a9d1d6"), (2, "#78b6be")):
        name = f"{100 * QUANTILES[i]:.3g} % to {100 * QUANTILES[-1 - i]:.3g} %" if labels else None
        axes.fill_between(at, fan[:, i], fan[:, -1 - i], color=shade, linewidth=0, label=name)
    axes.plot(at, fan[:, len(QUANTILES) // 2], color="#00798c", linewidth=1.3, label="median" if labels else None)


def draw(path: Path, sunspots: Series, movements: Series, years: np.ndarray, reports: list[Report]) -> None:
    """Draw forecasts with a spread one step ahead and many steps ahead, and the errors by horizon."""
    figure = Figure(figsize=(12, 7), layout="constrained", facecolor="white")
    (near, far), (wrist, errors) = figure.subplots(2, 2, width_ratios=[1.9, 1])
    seen = {"color": "#d1495b", "marker": "o", "markersize": 2.8, "linestyle": "none", "label": "what came"}

    fan, number = reports[0].fans["quantiles"][0, :, :, 0] * sunspots.scale, sunspots.values[0, :, 0] * sunspots.scale
    after = slice(sunspots.cut, sunspots.cut + len(fan))
    draw_fan(near, years[after], fan[:, 0])
    near.plot(years[after], number[after], **seen)
    near.set(xlabel="year", ylabel="sunspot number", xlim=(years[after][0], years[after][-1]), ylim=(-15, 280))
    near.set_title("Sunspots, quantiles one year ahead", loc="left")
    near.legend(loc="upper left", ncols=5, frameon=False, fontsize=9, columnspacing=1.2)

    for first in (1986, 1997):
        origin = int(np.searchsorted(years, first))
        ahead = np.vstack([np.full(len(QUANTILES), number[origin]), fan[origin - sunspots.cut + 1]])
        draw_fan(far, np.arange(first, first + 12), ahead)
        far.axvline(first, color="#8d99ae", linewidth=0.8, linestyle=":")
    far.plot(years[-30:], number[-30:], **seen)
    far.set(xlabel="year", ylabel="sunspot number", xlim=(1979, 2008.5), ylim=(-15, 280))
    far.set_title("All at once, made in 1986 and in 1997", loc="left")

    row, unit = movements.row, movements.scale[0]
    fan, course = reports[1].fans["normal"][row, :, 0, 0] * unit, movements.values[row, :, 0] * unit
    seconds = np.arange(len(course)) / 10
    after = slice(movements.cut, movements.cut + len(fan))
    draw_fan(wrist, seconds[after], fan)
    wrist.plot(seconds[after], course[after], **seen)
    wrist.set(xlabel="time, s", ylabel="acceleration, x (as recorded)", xlim=(seconds[after][0], seconds[after][-1]))
    wrist.set_title("The wrist of a runner, mean and variance a tenth of a second ahead", loc="left")

    for series, report, colour in zip((sunspots, movements), reports, ("#d1495b", "#30638e"), strict=True):
        ratio = report.errors["GRU"] / report.errors["linear"]
        label = f"{series.name} ({series.unit})"
        errors.plot(np.arange(1, series.horizon + 1), ratio, "o-", color=colour, markersize=3.5, label=label)
    errors.axhline(1, color="#8d99ae", linewidth=1)
    errors.set(xlabel="steps ahead", ylabel="GRU / linear regression", ylim=(0.9, 1.05), xticks=range(1, 12))
    errors.set_title("Held-out root mean squared error", loc="left")
    errors.legend(loc="upper left", frameon=False, fontsize=8.5)
    for axes in (near, far, wrist, errors):
        plain(axes)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> list[Report]:
    """Train, test, print, draw; return the reports."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args(arguments)
    sunspots, movements, years = load()
    steps, began = 100 if options.quick else 300, time.perf_counter()
    reports = []
    # The matrices are small: several BLAS threads would be slower.
    with threadpool_limits(1, user_api="blas"), tqdm(total=6 * steps, unit="batch", disable=None) as bar:
        for series in (sunspots, movements):
            rng = np.random.default_rng(options.seed)
            models = {kind: train(series, kind, steps, rng, bar) for kind in KINDS}
            reports.append(evaluate(series, models))
    for series, report in zip((sunspots, movements), reports, strict=True):
        print_report(series, report)
    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "forecast_series.png"
    draw(picture, sunspots, movements, years, reports)
    print(f"\nin {time.perf_counter() - began:.0f} s; picture: {picture}")
    for series, report in zip((sunspots, movements), reports, strict=True):
        worse = [kind for kind, losses in report.losses.items() if losses["GRU"] >= losses["linear"]]
        if report.skill("GRU", "linear") <= 0 or worse:
            raise SystemExit(f"{series.name}: the networks have not learnt enough to beat the linear regression")
    return reports


if __name__ == "__main__":
    main()
