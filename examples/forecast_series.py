"""Forecast sunspots and the movements of a wrist with a recurrent network, with quantiles.

    python examples/forecast_series.py [--quick] [--seed N] [--output DIR]

A GRU reads a series step by step and forecasts the next values at every step. One network learns the mean, with the
squared error; another learns nine quantiles with `fastseqloss.quantile_loss`. Both are tested on time steps after the
training data. The baselines are persistence (the last value, plus the quantiles of past changes) and a linear
regression on the last few values, which is about as accurate as a network for series as short as these.

The series are the yearly sunspot number since 1700, and 80 recordings by a smart watch, of six channels and ten
seconds each (tests/data/README.md gives origin and licence). The figure is forecast_series.png.
"""

import argparse
import time
from pathlib import Path
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
QUANTILES = np.array([0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95], np.float32)
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
    first = Series("sunspots", sunspots / scale, cut, 11, 30, scale, 9, "years", 0)
    scale = movements[:, :70].std(axis=(0, 1))
    # The windows and the number of updates were selected on the last 60 years, or two seconds, before the cut; longer
    # windows and more updates were less accurate there.
    return first, Series("movements", movements / scale, 70, 5, 20, scale, 5, "tenths of a second", running), years


class Forecaster:
    """A GRU, and a linear layer that forecasts the differences of the next values from the present one."""

    def __init__(self, series: Series, hidden: int, quantiles: int, rng: np.random.Generator) -> None:
        features = series.values.shape[2]
        self.shape = (series.horizon, features, quantiles)
        self.recurrent = GRU(features, hidden, rng=rng)
        self.linear = Linear(hidden, int(np.prod(self.shape)), rng=rng)
        self.parameters = self.named(self.recurrent.parameters, self.linear.parameters)

    @staticmethod
    def named(recurrent: dict[str, np.ndarray], linear: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays of both layers in one dict."""
        return {f"recurrent.{k}": a for k, a in recurrent.items()} | {f"linear.{k}": a for k, a in linear.items()}

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Return forecasts [B, T, H, D, Q]."""
        changes = self.linear.forward(self.recurrent.forward(values))
        return changes.reshape(*values.shape[:2], *self.shape) + values[:, :, None, :, None]

    def backward(self, gradient: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of all parameters, given that of the forecasts."""
        linear, slope = self.linear.backward(gradient.reshape(*gradient.shape[:2], -1))
        return self.named(self.recurrent.backward(slope)[0], linear)


def loss_and_gradient(forecasts: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the squared error of one forecast or the quantile loss of several, over all horizons and channels."""
    flat = forecasts.reshape(*forecasts.shape[:2], -1)
    wanted = np.broadcast_to(targets[..., None], forecasts.shape).reshape(flat.shape)
    if forecasts.shape[-1] == 1:
        loss, gradient = fsl.mse_loss(flat, wanted, return_grad=True)
    else:
        q = np.tile(QUANTILES, flat.shape[2] // len(QUANTILES))
        loss, gradient = fsl.quantile_loss(flat, wanted, q=q, return_grad=True)
    return float(loss), gradient.reshape(forecasts.shape)


def train(series: Series, hidden: int, quantiles: int, steps: int, rng: np.random.Generator, bar: tqdm) -> Forecaster:
    """Train on random windows before the cut."""
    model = Forecaster(series, hidden, quantiles, rng)
    optimizer = Adam(model.parameters)
    past = series.values[:, : series.cut]
    targets = series.targets()[:, : series.cut - series.horizon]
    inside = np.arange(series.window)
    for step in range(steps):
        rows = rng.integers(len(past), size=(32, 1))
        columns = rng.integers(targets.shape[1] - series.window + 1, size=(32, 1)) + inside
        forecasts = model.forward(past[rows, columns])
        loss, gradient = loss_and_gradient(forecasts, targets[rows, columns])
        gradients = model.backward(gradient)
        clip_grad_norm(gradients, 0.5)
        optimizer.learning_rate = 5e-3 * (1 - step / steps)
        optimizer.step(gradients)
        bar.update()
        if step % 20 == 0:
            bar.set_postfix_str(f"{series.name}, {'quantiles' if quantiles > 1 else 'mean'}, loss {loss:.3f}")
    return model


def regression(series: Series) -> np.ndarray:
    """Return forecasts [B, T - H, H, D] that are linear in the last values, by least squares before the cut."""
    values, last = series.values, series.values.shape[1] - series.horizon
    shifted = [np.roll(values, shift, axis=1)[:, :last] for shift in range(series.past)]
    inputs = np.concatenate([*shifted, np.ones_like(shifted[0][..., :1])], axis=2)
    targets = series.targets()
    learnt = slice(series.past - 1, series.cut - series.horizon)
    rows, wanted = inputs[:, learnt], targets[:, learnt]
    weights = np.linalg.lstsq(rows.reshape(-1, rows.shape[2]), wanted.reshape(len(rows) * rows.shape[1], -1))[0]
    return (inputs @ weights).reshape(targets.shape)


class Report(NamedTuple):
    """Results for one series, on the values after the cut."""

    quantiles: np.ndarray  # [B, N, H, D, Q], forecasts of N steps, the first one the last before the cut
    errors: dict[str, np.ndarray]  # root mean squared error for each horizon, by forecast
    quantile_losses: dict[str, float]
    coverage: dict[str, float]  # shares of values within the central 50 and 90 per cent

    def skill(self, forecast: str = "GRU") -> float:
        """Return the relative reduction of the mean squared error from that of persistence."""
        return float(1 - (self.errors[forecast] ** 2).mean() / (self.errors["persistence"] ** 2).mean())

    def quantile_skill(self) -> float:
        """Return the relative reduction of the quantile loss from that of persistence with past changes."""
        return 1 - self.quantile_losses["GRU"] / self.quantile_losses["persistence"]


def evaluate(series: Series, mean: Forecaster, quantile: Forecaster) -> Report:
    """Compare the forecasts on all steps whose targets are after the cut."""
    targets, tested = series.targets(), slice(series.cut - 1, series.values.shape[1] - series.horizon)
    present = series.values[:, :, None]
    changes = (targets - present[:, : -series.horizon])[:, : series.cut - series.horizon]
    past = np.moveaxis(np.quantile(changes, QUANTILES, axis=(0, 1)), 0, -1).astype(np.float32)
    wanted = targets[:, tested]
    forecasts = {
        "GRU": mean.forward(series.values)[:, tested, ..., 0],
        "linear": regression(series)[:, tested],
        "persistence": np.broadcast_to(present[:, tested], wanted.shape),
    }
    # Quantiles that are learnt separately may cross; sorting prevents this and does not increase the loss.
    fans = {
        "GRU": np.sort(quantile.forward(series.values)[:, tested], axis=-1),
        "persistence": forecasts["persistence"][..., None] + past,
    }
    fan = fans["GRU"]
    inside = {
        f"{QUANTILES[-1 - i] - QUANTILES[i]:.0%}": (fan[..., i] <= wanted) & (wanted <= fan[..., -1 - i])
        for i in (0, 2)
    }
    return Report(
        fan,
        {name: np.sqrt(((f - wanted) ** 2).mean(axis=(0, 1, 3))) for name, f in forecasts.items()},
        {name: loss_and_gradient(f, wanted)[0] for name, f in fans.items()},
        {name: float(held.mean()) for name, held in inside.items()},
    )


def print_report(series: Series, report: Report) -> None:
    """Print errors by horizon, and the summary."""
    print(f"\n{series.name}, root mean squared error in standard deviations, by {series.unit} ahead:")
    horizons = [h for h in (1, 2, 3, 5, 8, 11) if h <= series.horizon]
    print(f"{'':<14}" + "".join(f"{h:>8}" for h in horizons))
    for name, errors in report.errors.items():
        print(f"  {name:<12}" + "".join(f"{errors[h - 1]:>8.2f}" for h in horizons))
    skills = f"{report.skill():.0%} (linear: {report.skill('linear'):.0%})"
    print(f"mean squared error less than that of persistence by {skills}")
    print(f"quantile loss less than that of persistence by {report.quantile_skill():.0%}")
    covered = ", ".join(f"{share:.0%} within the central {name}" for name, share in report.coverage.items())
    print(f"held-out values: {covered}")


def plain(axes: Any) -> None:
    """Hide two spines and set the colours."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors="#4a5568")
    axes.set_title(axes.get_title(loc="left"), loc="left", fontsize=10.5, color=INK)


def draw_fan(axes: Any, at: np.ndarray, fan: np.ndarray, labels: bool = True) -> None:
    """Draw quantiles [N, Q] as nested bands, and the median."""
    for i, shade in ((0, "#cfe5e8"), (1, "#a9d1d6"), (2, "#78b6be")):
        name = f"{QUANTILES[i]:.0%} to {QUANTILES[-1 - i]:.0%}" if labels else None
        axes.fill_between(at, fan[:, i], fan[:, -1 - i], color=shade, linewidth=0, label=name)
    axes.plot(at, fan[:, len(QUANTILES) // 2], color="#00798c", linewidth=1.3, label="median" if labels else None)


def draw(path: Path, sunspots: Series, movements: Series, years: np.ndarray, reports: list[Report]) -> None:
    """Draw quantiles one step ahead and many steps ahead, and the errors by horizon."""
    figure = Figure(figsize=(12, 7), layout="constrained", facecolor="white")
    (near, far), (wrist, errors) = figure.subplots(2, 2, width_ratios=[1.9, 1])
    seen = {"color": "#d1495b", "marker": "o", "markersize": 2.8, "linestyle": "none", "label": "what came"}

    fan, number = reports[0].quantiles[0, :, :, 0] * sunspots.scale, sunspots.values[0, :, 0] * sunspots.scale
    after = slice(sunspots.cut, sunspots.cut + len(fan))
    draw_fan(near, years[after], fan[:, 0])
    near.plot(years[after], number[after], **seen)
    near.set(xlabel="year", ylabel="sunspot number", xlim=(years[after][0], years[after][-1]), ylim=(-15, 280))
    near.set_title("Sunspots, forecast one year ahead", loc="left")
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
    fan, course = reports[1].quantiles[row, :, 0, 0] * unit, movements.values[row, :, 0] * unit
    seconds = np.arange(len(course)) / 10
    after = slice(movements.cut, movements.cut + len(fan))
    draw_fan(wrist, seconds[after], fan)
    wrist.plot(seconds[after], course[after], **seen)
    wrist.set(xlabel="time, s", ylabel="acceleration, x (as recorded)", xlim=(seconds[after][0], seconds[after][-1]))
    wrist.set_title("The wrist of a runner, forecast a tenth of a second ahead", loc="left")

    for series, report, colour in zip((sunspots, movements), reports, ("#d1495b", "#30638e"), strict=True):
        horizon = np.arange(1, series.horizon + 1)
        for name, style in (("GRU", "o-"), ("linear", ":")):
            ratio = report.errors[name] / report.errors["persistence"]
            label = f"{series.name} ({series.unit}), {name}"
            errors.plot(horizon, ratio, style, color=colour, markersize=3.5, label=label)
    errors.axhline(1, color="#8d99ae", linewidth=1)
    errors.set(xlabel="steps ahead", ylabel="error / error of persistence", ylim=(0, 1.9), xticks=range(1, 12))
    errors.set_title("Held-out root mean squared error", loc="left")
    errors.legend(loc="upper left", frameon=False, fontsize=8.5)
    for axes in (near, far, wrist, errors):
        plain(axes)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> list[Report]:
    """Train, test, print, draw; return the reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the picture")
    options = parser.parse_args(arguments)
    sunspots, movements, years = load()
    steps, began = 100 if options.quick else 300, time.perf_counter()
    reports = []
    # The matrices are small: several BLAS threads would be slower.
    with threadpool_limits(1, user_api="blas"), tqdm(total=4 * steps, unit="batch", disable=None) as bar:
        for series, hidden in ((sunspots, 24), (movements, 48)):
            rng = np.random.default_rng(options.seed)
            models = [train(series, hidden, quantiles, steps, rng, bar) for quantiles in (1, len(QUANTILES))]
            reports.append(evaluate(series, *models))
    for series, report in zip((sunspots, movements), reports, strict=True):
        print_report(series, report)
    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "forecast_series.png"
    draw(picture, sunspots, movements, years, reports)
    print(f"\nin {time.perf_counter() - began:.0f} s; picture: {picture}")
    if min(min(r.skill(), r.quantile_skill()) for r in reports) < 0.1:
        raise SystemExit("the networks have not learnt enough to beat persistence by a tenth")
    return reports


if __name__ == "__main__":
    main()
