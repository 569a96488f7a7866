"""Soft-DTW by each side: fastseqloss, soft-dtw, pysdtw and tslearn."""

import argparse
import importlib.util
from collections.abc import Callable

import numpy as np

import fastseqloss as fsl
from bench import contest
from bench.contest import OURS, Call

SOFT_DTW, PYSDTW, TSLEARN = "soft-dtw", "pysdtw", "tslearn"
MODULES = {SOFT_DTW: "sdtw", PYSDTW: "pysdtw", TSLEARN: "tslearn"}
WORKLOADS = {  # B, N, M, gamma
    "short": (32, 100, 100, 1.0),
    "medium": (16, 300, 280, 0.01),
    "long": (4, 1000, 1000, 1.0),
    "long, nearly DTW": (4, 1000, 1000, 1e-4),
    "recording": (1, 3000, 3000, 0.01),
}
BAND = 50  # of the call with a band, which the peers lack
LIMIT = 1e-11  # of the posteriors

Posteriors = Callable[[np.ndarray, float], np.ndarray]


def costs_of(shape: tuple[int, int, int, float]) -> np.ndarray:
    """Squared distances [B, N, M] of univariate series of N(0, 1), in float64."""
    batch, rows, columns, _ = shape
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(batch, rows, 1)), rng.normal(size=(batch, 1, columns))
    return (x - y) ** 2


def series_of(shape: tuple[int, int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Univariate series of N(0, 1), in float32."""
    batch, rows, columns, _ = shape
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((batch, n, 1), dtype=np.float32) for n in (rows, columns))


def our_calls(shape: tuple[int, int, int, float], threads: int) -> dict[str, Call]:
    """List the timed calls of fastseqloss."""
    costs, gamma = costs_of(shape), shape[3]
    x, y = series_of(shape)
    out = np.empty_like(costs)
    options = {"gamma": gamma, "reduction": "sum", "num_threads": threads}
    return {
        "gradient": lambda: fsl.soft_dtw_cost(costs, grad_out=out, **options),
        "loss": lambda: fsl.soft_dtw_cost(costs, **options),
        "band": lambda: fsl.soft_dtw_cost(costs, grad_out=out, band=BAND, **options),
        "series": lambda: fsl.soft_dtw_loss(x, y, return_grad=True, **options),
        "divergence": lambda: fsl.soft_dtw_loss(x, y, return_grad=True, divergence=True, **options),
    }


def our_posteriors(costs: np.ndarray, gamma: float) -> np.ndarray:
    """Posteriors [B, N, M] of fastseqloss."""
    return fsl.soft_dtw_cost(costs, gamma=gamma, reduction="sum", return_grad=True)[1]


def _one_by_one(solver: Callable) -> Posteriors:
    """Posteriors of a class that takes one array of costs, as soft-dtw's and tslearn's do."""

    def posteriors(costs: np.ndarray, gamma: float) -> np.ndarray:
        found = np.empty_like(costs)
        for one, out in zip(costs, found, strict=True):
            problem = solver(one, gamma=gamma)
            problem.compute()
            out[...] = problem.grad()
        return found

    return posteriors


def soft_dtw_posteriors(threads: int) -> Posteriors:
    """Posteriors of soft-dtw, which has no threads."""
    from sdtw import SoftDTW

    return _one_by_one(SoftDTW)


def tslearn_posteriors(threads: int) -> Posteriors:
    """Posteriors of tslearn."""
    import numba
    from tslearn.metrics.softdtw_variants import SoftDTW

    numba.set_num_threads(threads)
    return _one_by_one(SoftDTW)


def pysdtw_posteriors(threads: int) -> Posteriors:
    """Posteriors of pysdtw, as the gradient of its loss in PyTorch."""
    import numba
    import torch
    from pysdtw.sdtw_cpu import SoftDTWcpu

    numba.set_num_threads(threads)
    torch.set_num_threads(threads)

    def posteriors(costs: np.ndarray, gamma: float) -> np.ndarray:
        distances = torch.from_numpy(costs).requires_grad_(True)
        lengths = torch.tensor([costs.shape[1:]] * len(costs))
        SoftDTWcpu.apply(distances, lengths, gamma, 0).sum().backward()
        return distances.grad.numpy()

    return posteriors


PEERS = {SOFT_DTW: soft_dtw_posteriors, PYSDTW: pysdtw_posteriors, TSLEARN: tslearn_posteriors}


def installed() -> list[str]:
    """Return the peers that are there; soft-dtw is built from source, by a pip without build isolation."""
    return [side for side, module in MODULES.items() if importlib.util.find_spec(module)]


def exact_posteriors(costs: np.ndarray, gamma: float) -> np.ndarray:
    """Posteriors in log space in long double, diagonal by diagonal."""
    first, second = _exact_totals(costs, gamma), _exact_totals(costs[:, ::-1, ::-1], gamma)[:, ::-1, ::-1]
    with np.errstate(under="ignore"):
        return np.exp(first + second + costs / np.longdouble(gamma) - first[:, -1:, -1:]).astype(float)


def _exact_totals(costs: np.ndarray, gamma: float) -> np.ndarray:
    """Logarithms of the sums over all paths from the first cell to each other one."""
    batch, rows, columns = costs.shape
    totals = np.full((batch, rows + 1, columns + 1), -np.inf, np.longdouble)
    totals[:, 0, 0] = 0
    for n in range(rows + columns - 1):
        i = np.arange(max(0, n - columns + 1), min(rows, n + 1))
        j = n - i
        before = np.stack([totals[:, i, j + 1], totals[:, i + 1, j], totals[:, i, j]])
        largest = before.max(axis=0)
        with np.errstate(under="ignore"):
            sums = np.log(np.exp(before - largest).sum(axis=0))
        totals[:, i + 1, j + 1] = largest + sums - costs[:, i, j] / np.longdouble(gamma)
    return totals[:, 1:, 1:]


def compare(options: argparse.Namespace) -> int:
    """Print the tables; return 1 if our errors exceed the limit."""
    chosen = {name: shape for name, shape in WORKLOADS.items() if not options.only or name in options.only}
    if not chosen:
        raise SystemExit(f"no workload is named {' or '.join(options.only)}")
    if not options.accuracy_only:
        for threads in options.threads:
            _timing_table(chosen, threads, options)
        print("- gradient: loss and posteriors of float64 costs, in a preallocated array (others: a new array)")
        print(f"- loss: without posteriors; band: posteriors with a band of {BAND}")
        print("- series, divergence: gradients of float32 series, in newly allocated arrays")
        print(f"- {contest.RATIO}; each time is the minimum over the rounds")
    return _error_table(chosen, [] if options.quick else installed())


def _timing_table(chosen: dict[str, tuple], threads: int, options: argparse.Namespace) -> None:
    lines, least = [], []
    for name, shape in chosen.items():
        costs, gamma = costs_of(shape), shape[3]
        calls = {(OURS, mode): call for mode, call in our_calls(shape, threads).items()}
        for side in installed():
            posteriors = PEERS[side](threads)
            calls[side, "gradient"] = lambda posteriors=posteriors, c=costs, g=gamma: posteriors(c, g)
        timings = contest.alternate(calls, options, threads)
        ours = timings[OURS, "gradient"].best
        line = {"workload": name, "B, N, M, gamma": ", ".join(f"{n:g}" for n in shape)}
        for mode in ("gradient", "loss", "band", "series", "divergence"):
            line[mode] = contest.milliseconds(timings[OURS, mode].best)
        ratios = {side: timings[side, "gradient"].best / ours for side in installed()}
        for side, ratio in ratios.items():
            line |= {side: contest.milliseconds(timings[side, "gradient"].best), f"{side}: ratio": f"{ratio:.1f}x"}
        if ratios:
            least.append(min(ratios.values()))
        lines.append(line)
    print(f"\n### Soft-DTW, {threads} thread{'s' if threads > 1 else ''}, {contest.unit(options)}\n")
    contest.print_table(lines)
    if least:
        mean = contest.geometric_mean(least)
        print(f"\nratio of the fastest other library: {mean:.1f}x in the geometric mean, {min(least):.1f}x at least\n")


def _error_table(chosen: dict[str, tuple], peers: list[str]) -> int:
    lines, passed = [], 0
    sides = {OURS: our_posteriors} | {side: PEERS[side](1) for side in peers}
    for name, shape in chosen.items():
        costs, gamma = costs_of(shape)[:1], shape[3]
        exact = exact_posteriors(costs, gamma)
        errors = {side: float(np.abs(found(costs, gamma) - exact).max()) for side, found in sides.items()}
        passed += errors[OURS] <= LIMIT  # false for NaN
        lines.append({"workload": name} | {side: f"{error:.0e}" for side, error in errors.items()})
    print("\n### Soft-DTW: largest errors of the posteriors, against log space in long double\n")
    contest.print_table(lines)
    print(f"\naccuracy: {passed} passed, {len(chosen) - passed} failed; limit {LIMIT:g}")
    return int(passed < len(chosen))
