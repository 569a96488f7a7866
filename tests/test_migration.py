"""The table of docs/migration.md, row by row, where the other library is installed."""

import numpy as np
import pytest

import fastseqloss as fsl

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
functional = torch.nn.functional

import fastseqloss.torch as fst  # noqa: E402

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(3, 9, 5)))  # [B, T, V]
Y = torch.from_numpy(RNG.integers(1, 5, (3, 4)))
N, M = torch.tensor([9, 7, 8]), torch.tensor([4, 2, 3])
STEPS = torch.from_numpy(RNG.integers(0, 5, (3, 9)))


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-10, atol=1e-12)


def test_ctc():
    time_major = X.transpose(0, 1)
    expected = functional.ctc_loss(time_major.log_softmax(-1), Y, N, M)
    close(fst.ctc_loss(time_major.log_softmax(-1), Y, N, M), expected)
    close(fst.ctc_loss_from_logits(time_major, Y, N, M), expected)
    close(fsl.ctc_loss(time_major.numpy().swapaxes(0, 1), Y, N, M, reduction="sequence_mean"), expected)


def test_cross_entropy():
    weight = torch.rand(5).double()
    options = {"weight": weight, "label_smoothing": 0.1, "ignore_index": 3}
    expected = functional.cross_entropy(X.mT, STEPS, **options)
    close(fst.cross_entropy(X.mT, STEPS, **options), expected)
    close(fst.CrossEntropyLoss(**options)(X.mT, STEPS), expected)
    close(fst.softmax_cross_entropy(X, STEPS), functional.cross_entropy(X.mT, STEPS))
    close(
        fst.softmax_cross_entropy(X, STEPS, class_weight=weight, label_smoothing=0.1),
        functional.cross_entropy(X.mT, STEPS, weight=weight, label_smoothing=0.1),
    )
    log_probs = X.log_softmax(-1)
    close(fst.sequence_log_prob(X, STEPS), log_probs.gather(-1, STEPS[..., None]).squeeze(-1).sum(-1))
    close(fst.nll_loss(log_probs, STEPS), functional.nll_loss(log_probs.mT, STEPS))
    shares = X.sigmoid()
    close(
        fst.binary_cross_entropy(X, shares, pos_weight=weight),
        functional.binary_cross_entropy_with_logits(X, shares, pos_weight=weight),
    )
    tokens = torch.rand(3, 9).double()
    close(
        fst.softmax_cross_entropy(X, STEPS, sample_weight=tokens),
        (tokens * functional.cross_entropy(X.mT, STEPS, reduction="none")).sum() / tokens.sum(),
    )
    elements = torch.rand(3, 9, 5).double()
    close(
        fst.binary_cross_entropy(X, shares, sample_weight=elements, reduction="sum") * 5,
        functional.binary_cross_entropy_with_logits(X, shares, weight=elements, reduction="sum"),
    )
    for ours, theirs in ((fst.mse_loss, functional.mse_loss), (fst.mae_loss, functional.l1_loss),
                         (fst.huber_loss, functional.huber_loss)):  # fmt: skip
        close(ours(X, shares), theirs(X, shares))


def test_ranking():
    scores, relevance = X[..., 0], torch.from_numpy(RNG.integers(0, 3, (3, 9)))
    b, i, j = np.nonzero(relevance.numpy()[:, :, None] > relevance.numpy()[:, None, :])
    expected = functional.margin_ranking_loss(scores[b, i], scores[b, j], torch.ones(len(b)), margin=0.7)
    close(fst.pairwise_hinge_loss(scores, relevance, margin=0.7), expected)
    close(fst.pairwise_logistic_loss(scores, relevance), functional.softplus(scores[b, j] - scores[b, i]).mean())
    for name, ours in (
        ("pairwise_hinge_loss", fsl.pairwise_hinge_loss),
        ("pairwise_logistic_loss", fsl.pairwise_logistic_loss),
        ("softmax_loss", fsl.list_softmax_loss),
    ):
        rax = pytest.importorskip("rax", reason="rax is not among the extras")
        theirs = getattr(rax, name)(scores.float().numpy(), relevance.float().numpy())
        np.testing.assert_allclose(ours(scores.numpy(), relevance.numpy()), theirs, rtol=1e-5)


def test_optax():
    jnp = pytest.importorskip("jax.numpy", reason="the extra `peers` installs it")
    losses = pytest.importorskip("optax", reason="the extra `peers` installs it").losses
    import fastseqloss.jax as fsj

    x, steps = jnp.asarray(X.float().numpy()), jnp.asarray(STEPS.numpy())
    paddings = [(np.arange(width) >= n.numpy()[:, None]).astype(np.float32) for width, n in ((9, N), (4, M))]
    theirs = losses.ctc_loss(x, paddings[0], Y.numpy(), paddings[1], blank_id=0)
    for ours in (
        fsj.ctc_loss(x, paddings[0], Y.numpy(), paddings[1], blank_id=0),
        fsj.ctc_loss_with_lengths(x, Y.numpy(), N.numpy(), M.numpy(), reduction="none"),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(fsj.ctc_loss_with_lengths(x, Y.numpy(), N.numpy(), M.numpy()), theirs.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        fsj.softmax_cross_entropy(x, steps, reduction="none"),
        losses.softmax_cross_entropy_with_integer_labels(x, steps),
        rtol=1e-5,
    )
    scores, numbers = x[..., 0], jnp.asarray(X[..., 1].sigmoid().float().numpy())
    for ours, theirs, y in (
        (fsj.binary_cross_entropy, losses.sigmoid_binary_cross_entropy, numbers),
        (fsj.mse_loss, losses.squared_error, numbers),
        (fsj.huber_loss, losses.huber_loss, numbers),
        (fsj.log_cosh_loss, losses.log_cosh, numbers),
        (fsj.binary_focal_loss, losses.sigmoid_focal_loss, numbers),
        (fsj.hinge_loss, losses.hinge_loss, jnp.sign(numbers - 0.5)),
    ):
        np.testing.assert_allclose(ours(scores, y, reduction="none"), theirs(scores, y), rtol=1e-5, atol=1e-7)
    mixed = jnp.asarray(X.softmax(-1).float().numpy())
    np.testing.assert_allclose(
        fsj.softmax_cross_entropy(x, mixed, reduction="none"), losses.softmax_cross_entropy(x, mixed), rtol=1e-5
    )


@pytest.mark.parametrize(("theirs", "ours"), [
    ("sum", {"reduction": "sum"}),
    ("mean", {"reduction": "mean"}),
    ("token_mean", {"reduction": "sum", "normalizer": N.sum().item()}),
])  # fmt: skip
def test_crf(theirs, ours):
    crf = pytest.importorskip("torchcrf", reason="the extra `peers` installs it").CRF(5, batch_first=True).double()
    mask = torch.arange(9) < N[:, None]
    module = fst.CRF(5, batch_first=True).double()
    module.load_state_dict(crf.state_dict())
    close(module(X, STEPS, mask, reduction=theirs).detach(), crf(X, STEPS, mask, reduction=theirs).detach())
    assert module.decode(X, mask) == crf.decode(X, mask)
    loss = fst.crf_loss(
        X, STEPS, crf.transitions, mask=mask, start=crf.start_transitions, end=crf.end_transitions, **ours
    )
    close(loss.detach(), -crf(X, STEPS, mask, reduction=theirs).detach())
    arrays = [p.detach() for p in (crf.transitions, crf.start_transitions, crf.end_transitions)]
    tags = fsl.crf_decode(X, arrays[0], N, start=arrays[1], end=arrays[2]).tags
    assert [row[:n].tolist() for row, n in zip(tags, N, strict=True)] == crf.decode(X, mask)


def test_regression_hinge_and_decisions_of_torch():
    x, y = X[..., 0], X[..., 1]
    decisions, weight = (X[..., 2:] > 0).double(), torch.rand(3).double()
    for ours, theirs in (
        (fsl.mse_loss(x, y), functional.mse_loss(x, y)),
        (fsl.mae_loss(x, y), functional.l1_loss(x, y)),
        (fsl.huber_loss(x, y, delta=0.7), functional.huber_loss(x, y, delta=0.7)),
        (fsl.gaussian_nll_loss(x, y, y**2), functional.gaussian_nll_loss(x, y, y**2)),
        (fsl.poisson_nll_loss(x, y.abs()), functional.poisson_nll_loss(x, y.abs())),
        (
            fsl.poisson_nll_loss(x.abs(), y.abs(), input="rates"),
            functional.poisson_nll_loss(x.abs(), y.abs(), log_input=False, eps=0.0),
        ),
        (fsl.huber_loss(x, y, delta=0.7) / 0.7, functional.smooth_l1_loss(x, y, beta=0.7)),
        (
            fsl.binary_cross_entropy(X[..., 2:], decisions, pos_weight=weight),
            functional.binary_cross_entropy_with_logits(X[..., 2:], decisions, pos_weight=weight),
        ),
        (
            fsl.binary_cross_entropy(X[..., 2:].sigmoid(), decisions, input="probs"),
            functional.binary_cross_entropy(X[..., 2:].sigmoid(), decisions),
        ),
    ):
        close(ours, theirs)


def test_steps_of_optax():
    optax = pytest.importorskip("optax", reason="the extra `peers` installs it")
    x, y = X[..., 0].float().numpy(), X[..., 1].float().numpy()
    signs = np.sign(y)
    for ours, theirs in (
        (fsl.binary_cross_entropy(x, signs > 0, reduction="none"), optax.sigmoid_binary_cross_entropy(x, signs > 0)),
        (fsl.mse_loss(x, y, reduction="none"), optax.squared_error(x, y)),
        (fsl.huber_loss(x, y, reduction="none"), optax.huber_loss(x, y)),
        (fsl.log_cosh_loss(x, y, reduction="none"), optax.log_cosh(x, y)),
        (
            fsl.binary_focal_loss(x, signs > 0, alpha=0.3, gamma=1.5, reduction="none"),
            optax.sigmoid_focal_loss(x, signs > 0, alpha=0.3, gamma=1.5),
        ),
        (fsl.hinge_loss(x, signs, reduction="none"), optax.hinge_loss(x, signs)),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_quantiles_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.metrics", reason="the extra `test` installs it").mean_pinball_loss
    x, y = X[..., 0].numpy().ravel(), X[..., 1].numpy().ravel()
    close(fsl.quantile_loss(x, y, q=0.3), theirs(y, x, alpha=0.3))


def keras_categorical_hinge(y, p):
    """Keras's formula, y as zeros and a one."""
    return np.maximum(0, 1 + ((1 - y) * p).max(-1) - (y * p).sum(-1))


@pytest.mark.parametrize("offset", [-5.0, 0.0, 5.0])
def test_formulas_of_keras(offset):
    """If all scores except the target's are negative, Keras takes 0 as the largest of them."""
    scores, classes = X.numpy() + offset, STEPS.numpy()
    theirs = keras_categorical_hinge(np.eye(5)[classes], scores)
    with_zero = np.concatenate([scores, np.zeros((3, 9, 1))], axis=-1)
    close(fsl.multiclass_hinge_loss(with_zero, classes, reduction="none"), theirs)
    others = np.where(np.eye(5)[classes] == 1, -np.inf, scores).max(-1)
    ours = fsl.multiclass_hinge_loss(scores, classes, reduction="none")
    np.testing.assert_allclose(ours[others >= 0], theirs[others >= 0], rtol=1e-12)
    assert not np.any(np.isclose(ours, theirs) & (others < 0) & (theirs > 0))
    signs = np.where(X.numpy() > 0, 1, -1)
    terms = np.maximum(0, 1 - signs * scores)
    close(fsl.hinge_loss(scores, signs), terms.mean())
    close(fsl.hinge_loss(scores, signs, squared=True), (terms**2).mean())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_soft_dtw_of_tslearn():
    metrics = pytest.importorskip("tslearn.metrics", reason="the extra `peers` installs it")
    x, y = X.numpy(), X.numpy()[::-1, :7]
    losses = fsl.soft_dtw_loss(x, y, gamma=0.5, reduction="none")
    close(losses, [metrics.soft_dtw(a, b, gamma=0.5) for a, b in zip(x, y, strict=True)])
    close(fsl.soft_dtw_loss(x[0], y[0], gamma=0) ** 0.5, metrics.dtw(x[0], y[0]))
    table = metrics.cdist_soft_dtw_normalized(x, y, gamma=0.5)
    close(fsl.soft_dtw_loss(x, y, gamma=0.5, divergence=True, reduction="none"), np.diag(table))
    theirs = metrics.SoftDTWLossPyTorch(gamma=0.5, normalize=True)(X, X[[2, 1, 0], :7])  # in float32
    ours = fsl.soft_dtw_loss(x, y, gamma=0.5, divergence=True, reduction="none")
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_soft_dtw_of_pysdtw():
    pysdtw = pytest.importorskip("pysdtw", reason="the extra `peers` installs it")
    y = X[[2, 1, 0], :7].contiguous()
    theirs = pysdtw.SoftDTW(gamma=0.5, use_cuda=False)(X, y)
    np.testing.assert_allclose(fsl.soft_dtw_loss(X, y, gamma=0.5, reduction="none"), theirs, rtol=1e-5)
    theirs = pysdtw.SoftDTW(gamma=0.5, use_cuda=False, bandwidth=3)(X[:, :7], y)
    np.testing.assert_allclose(fsl.soft_dtw_loss(X[:, :7], y, gamma=0.5, band=3, reduction="none"), theirs, rtol=1e-5)
