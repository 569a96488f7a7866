"""Against soft-dtw, pysdtw and tslearn, in float64."""

import numpy as np
import pytest

import fastseqloss as fsl

SHAPES = [(2, 9, 12, 1), (3, 70, 66, 2), (1, 200, 210, 1)]


def problem(shape):
    batch, rows, columns, features = shape
    rng = np.random.default_rng(rows)
    return rng.normal(size=(batch, rows, features)), rng.normal(size=(batch, columns, features))


@pytest.mark.peers
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.1, 1.0])
@pytest.mark.parametrize("name", ["sdtw", "tslearn.metrics.softdtw_variants"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_classes_of_costs(level, shape, gamma, name):
    """soft-dtw and tslearn: value, posteriors, and the gradient of the first series."""
    module = pytest.importorskip(name, reason="the extra `peers` installs tslearn; soft-dtw is built from source")
    x, y = problem(shape)
    costs = ((x[:, :, None] - y[:, None]) ** 2).sum(-1)
    loss, grad = fsl.soft_dtw_loss(x, y, gamma=gamma, reduction="none", return_grad=True)
    total, posteriors = fsl.soft_dtw_cost(costs, gamma=gamma, reduction="sum", return_grad=True)
    assert total == pytest.approx(loss.sum(), rel=1e-12)
    for b in range(len(x)):
        solver = module.SoftDTW(costs[b], gamma=gamma)
        assert solver.compute() == pytest.approx(loss[b], rel=1e-11)
        found = np.asarray(solver.grad())
        np.testing.assert_allclose(posteriors[b], found, atol=1e-9)
        distances = module if name.startswith("tslearn") else pytest.importorskip("sdtw.distance")
        slope = distances.SquaredEuclidean(x[b], y[b]).jacobian_product(found)
        np.testing.assert_allclose(grad.x[b], slope, atol=1e-8)


@pytest.mark.peers
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.1, 1.0])
@pytest.mark.parametrize("band", [None, 12])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_pysdtw(level, shape, gamma, band):
    """Its band is the same for series of equal lengths; it takes gamma in float32."""
    torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
    cpu = pytest.importorskip("pysdtw.sdtw_cpu", reason="the extra `peers` installs it")
    x, y = problem(shape if band is None else (shape[0], shape[1], shape[1], shape[3]))
    gamma = float(np.float32(gamma))
    costs = ((x[:, :, None] - y[:, None]) ** 2).sum(-1)
    distances = torch.from_numpy(costs).requires_grad_(True)
    lengths = torch.tensor([costs.shape[1:]] * len(costs))
    expected = cpu.SoftDTWcpu.apply(distances, lengths, gamma, band or 0)
    loss, posteriors = fsl.soft_dtw_cost(costs, gamma=gamma, band=band, reduction="none", return_grad=True)
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-6)  # rounded to float32 on the way
    expected.sum().backward()
    np.testing.assert_allclose(posteriors, distances.grad.numpy(), atol=1e-3)


@pytest.mark.peers
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_dtw_of_tslearn(level, shape):
    """The square root of the loss at gamma 0; with a band for equal lengths, too."""
    metrics = pytest.importorskip("tslearn.metrics", reason="the extra `peers` installs it")
    x, y = problem(shape)
    loss = fsl.soft_dtw_loss(x, y, gamma=0, reduction="none")
    banded = fsl.soft_dtw_loss(x, x[::-1], gamma=0, band=3, reduction="none")
    for b in range(len(x)):
        assert metrics.dtw(x[b], y[b]) == pytest.approx(np.sqrt(loss[b]), rel=1e-12)
        found = metrics.dtw(x[b], x[::-1][b], global_constraint="sakoe_chiba", sakoe_chiba_radius=3)
        assert found == pytest.approx(np.sqrt(banded[b]), rel=1e-12)
