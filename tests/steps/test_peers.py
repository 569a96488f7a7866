"""The per-step losses, and their oracles, against PyTorch in float64."""

import numpy as np
import pytest

import fastseqloss as fsl
from reference import steps as reference_steps

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch", reason="the extra `peers` installs it")
F = torch.nn.functional

N, C = 40, 7
IGNORED = 3
WEIGHTS = (None, np.random.default_rng(9).uniform(0.1, 3.0, C))
SMOOTHING = (0.0, 0.1, 0.7)
REDUCTIONS = ("none", "sum", "mean")


def library(name, *arguments, **options):
    return getattr(fsl, name)(*arguments, **options, return_grad=True)


def oracle(name, scores, targets, *, reduction, **options):
    return reference_steps.reduce(reference_steps.steps(name, scores, targets, **options), reduction)


@pytest.fixture(params=[library, oracle], ids=["library", "oracle"])
def ours(request):
    return request.param


def tensor(x, **options):
    return None if x is None else torch.tensor(np.asarray(x), **options)


def peer(function, scores, *arguments, **options):
    """Loss and gradient of its sum by PyTorch."""
    x = tensor(scores, requires_grad=True)
    loss = function(x, *map(tensor, arguments), **options)
    loss.sum().backward()
    return loss.detach().numpy(), x.grad.numpy()


def assert_equal(actual, expected, tolerance=1e-12):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a, float), b, rtol=tolerance, atol=tolerance)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def integer_targets(rng, shape=(N,)):
    targets = rng.integers(0, C, shape)
    targets[rng.random(shape) < 0.2] = IGNORED
    return targets


def distributions(rng, shape=(N, C)):
    y = rng.random(shape)
    y[rng.random(shape) < 0.3] = 0
    return y


# ---- classification -----------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("label_smoothing", SMOOTHING)
@pytest.mark.parametrize("ignore_index", [-100, IGNORED])
@pytest.mark.parametrize("weight", WEIGHTS, ids=["unweighted", "weighted"])
@pytest.mark.parametrize("kind", ["logits", "log_probs", "probs"])
def test_cross_entropy(ours, rng, kind, weight, ignore_index, label_smoothing, reduction):
    scores, targets = rng.normal(scale=3, size=(N, C)), integer_targets(rng)
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
    # log_softmax leaves normalised log-probabilities alone, but its derivative is another.
    function = F.cross_entropy if kind == "logits" else _unfused(kind)
    if kind != "logits":
        scores, _ = reference_steps.log_softmax(reference_steps.widened(scores))
        scores = (np.exp(scores) if kind == "probs" else scores).astype(float)
    expected = peer(function, scores, targets, weight=tensor(weight), **options)
    assert_equal(ours("softmax_cross_entropy", scores, targets, class_weight=weight, input=kind, **options), expected)


def _unfused(kind):
    """PyTorch has label smoothing only behind its own log_softmax: take that out again."""

    def function(x, targets, weight, ignore_index, label_smoothing, reduction):
        log_probs = x.log() if kind == "probs" else x
        options = {"weight": weight, "ignore_index": ignore_index, "reduction": "none"}
        loss = (1 - label_smoothing) * F.nll_loss(log_probs, targets, **options)
        w = torch.ones(C, dtype=x.dtype) if weight is None else weight
        counts = targets != ignore_index
        loss = loss - counts.double() * label_smoothing / C * (w * log_probs).sum(-1)
        if reduction == "none":
            return loss
        return loss.sum() / (w[targets][counts].sum() if reduction == "mean" else 1)

    return function


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("label_smoothing", SMOOTHING)
@pytest.mark.parametrize("weight", WEIGHTS, ids=["unweighted", "weighted"])
def test_cross_entropy_of_distributions(ours, rng, weight, label_smoothing, reduction):
    scores, targets = rng.normal(scale=3, size=(N, C)), distributions(rng)
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    expected = peer(F.cross_entropy, scores, targets, weight=tensor(weight), **options)
    assert_equal(ours("softmax_cross_entropy", scores, targets, class_weight=weight, **options), expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("distribution", [False, True])
@pytest.mark.parametrize("weight", WEIGHTS, ids=["unweighted", "weighted"])
def test_cross_entropy_over_more_axes(ours, rng, weight, distribution, reduction):
    """PyTorch has the classes second: [B, V, T, ...]."""
    shape = (4, 5, 3, C)
    scores = rng.normal(size=shape)
    targets = distributions(rng, shape) if distribution else integer_targets(rng, shape[:-1])

    def function(x, y, **options):
        y = y.movedim(-1, 1) if distribution else y
        return F.cross_entropy(x.movedim(-1, 1), y, label_smoothing=0.2, **options)

    ignoring = {} if distribution else {"ignore_index": IGNORED}
    expected = peer(function, scores, targets, weight=tensor(weight), reduction=reduction, **ignoring)
    options = ignoring | {"label_smoothing": 0.2, "class_weight": weight, "reduction": reduction}
    assert_equal(ours("softmax_cross_entropy", scores, targets, **options), expected)


@pytest.mark.parametrize("label_smoothing", SMOOTHING)
def test_micro_batches(rng, label_smoothing):
    """The global token count, as frameworks on PyTorch divide by it, given as the normalizer."""
    scores, targets = rng.normal(size=(6, 9, C)), integer_targets(rng, (6, 9))
    options = {"ignore_index": IGNORED, "label_smoothing": label_smoothing}
    expected = peer(F.cross_entropy, scores.reshape(-1, C), targets.ravel(), **options)
    total, parts = 0.0, []
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        options |= {"reduction": "sum", "normalizer": np.count_nonzero(targets != IGNORED)}
        loss, gradient = fsl.softmax_cross_entropy(scores[part], targets[part], return_grad=True, **options)
        total += loss
        parts.append(gradient.reshape(-1, C))
    assert_equal((total, np.concatenate(parts)), expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignore_index", [-100, IGNORED])
@pytest.mark.parametrize("weight", WEIGHTS, ids=["unweighted", "weighted"])
def test_nll(ours, rng, weight, ignore_index, reduction):
    scores, targets = rng.normal(scale=3, size=(N, C)), integer_targets(rng)
    options = {"ignore_index": ignore_index, "reduction": reduction}
    expected = peer(F.nll_loss, scores, targets, weight=tensor(weight), **options)
    assert_equal(ours("nll_loss", scores, targets, class_weight=weight, **options), expected)


def test_z_loss(ours, rng):
    scores, targets = rng.normal(scale=3, size=(N, C)), integer_targets(rng)

    def function(x, y):
        return (F.cross_entropy(x, y, reduction="none") + 0.02 * x.logsumexp(-1) ** 2).mean()

    options = {"z_loss": 0.02, "reduction": "mean"}
    assert_equal(ours("softmax_cross_entropy", scores, targets, **options), peer(function, scores, targets))


@pytest.mark.parametrize("weight", WEIGHTS, ids=["unweighted", "weighted"])
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_multiclass_hinge(ours, rng, weight, margin):
    scores, targets = rng.normal(size=(N, C)), rng.integers(0, C, N)
    w = np.ones(C) if weight is None else weight

    def function(x, y, w):
        others = x.masked_fill(F.one_hot(y, C).bool(), -torch.inf).amax(-1)
        violation = (margin + others - x.gather(-1, y[:, None])[:, 0]).clamp(min=0)
        return (w[y] * violation).sum() / w[y].sum()

    expected = peer(function, scores, targets, w)
    options = {"margin": margin, "class_weight": weight, "reduction": "mean"}
    assert_equal(ours("multiclass_hinge_loss", scores, targets, **options), expected)


# ---- elementwise --------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("pos_weight", [None, 2.5])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_binary_cross_entropy(ours, rng, scale, pos_weight, reduction):
    scores, targets = rng.normal(scale=scale, size=(N, 6)), rng.choice([0, 1, 0.3], (N, 6))
    expected = peer(
        F.binary_cross_entropy_with_logits, scores, targets, pos_weight=tensor(pos_weight), reduction=reduction
    )
    weighting = {} if pos_weight is None else {"pos_weight": pos_weight}
    assert_equal(ours("binary_cross_entropy", scores, targets, reduction=reduction, **weighting), expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy_of_probabilities(ours, rng, reduction):
    scores, targets = rng.uniform(0.01, 0.99, (N, 6)), rng.choice([0, 1, 0.3], (N, 6))
    expected = peer(F.binary_cross_entropy, scores, targets, reduction=reduction)
    assert_equal(ours("binary_cross_entropy", scores, targets, input="probs", reduction=reduction), expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_several_labels_per_step(ours, rng, weighted):
    scores, targets = rng.normal(size=(4, 5, C)), rng.integers(0, 2, (4, 5, C)).astype(float)
    if weighted:
        weight = rng.uniform(0.5, 3, C)
        expected = peer(F.binary_cross_entropy_with_logits, scores, targets, pos_weight=tensor(weight))
        options = {"pos_weight": weight}
    else:
        expected = peer(lambda x, y: F.multilabel_soft_margin_loss(x.reshape(-1, C), y.reshape(-1, C)), scores, targets)
        options = {}
    assert_equal(ours("binary_cross_entropy", scores, targets, reduction="mean", **options), expected)


def hinge(x, y, reduction, margin=1.0, squared=False):
    violation = (margin - y * x).clamp(min=0)
    return getattr(violation**2 if squared else violation, reduction)()


@pytest.mark.parametrize("shape", [(N,), (N, 5), (4, 5, 3), (4, 5, 3, 2)])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(
    ("name", "function", "options"),
    [
        ("mse_loss", F.mse_loss, {}),
        ("mae_loss", F.l1_loss, {}),
        ("huber_loss", F.huber_loss, {}),
        ("huber_loss", F.huber_loss, {"delta": 0.4}),
        ("hinge_loss", hinge, {}),
        ("hinge_loss", hinge, {"margin": 0.3}),
        ("hinge_loss", hinge, {"squared": True}),
    ],
)
def test_elementwise(ours, rng, name, function, options, reduction, shape):
    scores = rng.normal(size=shape)
    targets = rng.choice([-1.0, 1.0], shape) if name == "hinge_loss" else rng.normal(size=shape)
    loss, slope = peer(function, scores, targets, reduction=reduction, **options)
    features = np.prod(shape[2:]) if reduction == "sum" else 1  # a step is the mean over its features
    assert_equal(ours(name, scores, targets, reduction=reduction, **options), (loss / features, slope / features))


@pytest.mark.parametrize("q", [0.1, 0.5, 0.95])
def test_quantile(ours, rng, q):
    scores, targets = rng.normal(size=(2, N))

    def function(x, y):
        return torch.maximum(q * (y - x), (q - 1) * (y - x)).mean()

    expected = peer(function, scores, targets)
    assert_equal(ours("quantile_loss", scores, targets, q=q, reduction="mean"), expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
def test_gaussian(rng, full, reduction):
    """Its derivatives by small variances, too, which PyTorch replaces by eps."""
    x, y, v = rng.normal(size=(3, N))
    v = np.where(rng.random(N) < 0.2, 1e-9, np.exp(v))
    x[:5] = y[:5]
    tensors = [tensor(array, requires_grad=True) for array in (x, v, y)]
    mean, variance, targets = tensors
    loss = F.gaussian_nll_loss(mean, targets, variance, full=full, reduction=reduction)
    loss.sum().backward()
    options = {"full": full, "reduction": reduction}
    value, gradient = fsl.gaussian_nll_loss(x, y, v, **options, with_respect_to=("predictions", "variance", "targets"))
    assert_equal((value, *gradient), (loss.detach().numpy(), *(t.grad.numpy() for t in tensors)))
    logs = tensor(np.log(v), requires_grad=True)
    F.gaussian_nll_loss(tensor(x), tensor(y), logs.exp(), full=full, reduction=reduction).sum().backward()
    large = v > 1e-6
    value, gradient = fsl.gaussian_nll_loss(x, y, np.log(v), input="log_variance", **options, return_grad=True)
    assert_equal((value, gradient.variance[large]), (loss.detach().numpy(), logs.grad.numpy()[large]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("input", ["log_rates", "rates"])
def test_poisson(ours, rng, input, full, reduction):
    scores, targets = rng.normal(scale=2, size=N), rng.poisson(2.0, N).astype(float)
    scores = np.exp(scores) if input == "rates" else scores
    options = {"full": full, "reduction": reduction}
    expected = peer(F.poisson_nll_loss, scores, targets, log_input=input == "log_rates", eps=0.0, **options)
    assert_equal(ours("poisson_nll_loss", scores, targets, input=input, **options), expected)


@pytest.mark.parametrize("power", [1.1, 1.5, 1.9])
def test_tweedie(ours, rng, power):
    """The expression of pytorch-forecasting."""
    scores, targets = rng.normal(size=N), rng.poisson(0.7, N) * rng.gamma(2.0, size=N)

    def function(x, y):
        return (-y * torch.exp(x * (1 - power)) / (1 - power) + torch.exp(x * (2 - power)) / (2 - power)).mean()

    expected = peer(function, scores, targets)
    assert_equal(ours("tweedie_loss", scores, targets, power=power, reduction="mean"), expected)


def test_log_cosh(ours, rng):
    scores, targets = rng.normal(scale=3, size=(2, N))

    def function(x, y):
        return torch.log(torch.cosh(x - y)).mean()

    assert_equal(ours("log_cosh_loss", scores, targets, reduction="mean"), peer(function, scores, targets))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_binary_focal(ours, rng, alpha, gamma):
    """The expression of torchvision."""
    scores, targets = rng.normal(scale=3, size=(N, 4)), rng.choice([0, 1, 0.3], (N, 4))

    def function(x, y):
        p = torch.sigmoid(x)
        entropy = F.binary_cross_entropy_with_logits(x, y, reduction="none")
        loss = entropy * (1 - (p * y + (1 - p) * (1 - y))) ** gamma
        return (loss if alpha is None else (alpha * y + (1 - alpha) * (1 - y)) * loss).mean()

    expected = peer(function, scores, targets)
    assert_equal(ours("binary_focal_loss", scores, targets, alpha=alpha, gamma=gamma, reduction="mean"), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weight", WEIGHTS, ids=["unweighted", "weighted"])
def test_softmax_focal(ours, rng, weight, gamma):
    scores, targets = rng.normal(scale=3, size=(N, C)), rng.integers(0, C, N)
    w = np.ones(C) if weight is None else weight

    def function(x, y, w):
        log_p = x.log_softmax(-1).gather(-1, y[:, None])[:, 0]
        return (-w[y] * (1 - log_p.exp()) ** gamma * log_p).sum() / w[y].sum()

    expected = peer(function, scores, targets, w)
    options = {"gamma": gamma, "class_weight": weight, "reduction": "mean"}
    assert_equal(ours("softmax_focal_loss", scores, targets, **options), expected, 1e-10)


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
@pytest.mark.parametrize("input", ["logits", "probs"])
def test_smoothing_of_binary_targets(ours, rng, input, smoothing):
    """The definition of Keras."""
    scores, targets = rng.uniform(0.1, 0.9, N), rng.integers(0, 2, N).astype(float)
    function = F.binary_cross_entropy if input == "probs" else F.binary_cross_entropy_with_logits
    expected = peer(function, scores, targets * (1 - smoothing) + 0.5 * smoothing)
    options = {"input": input, "label_smoothing": smoothing, "reduction": "mean"}
    assert_equal(ours("binary_cross_entropy", scores, targets, **options), expected)


# ---- where PyTorch differs ----------------------------------------------------------------


def test_everything_ignored_is_nan_there_and_0_here(ours):
    scores, targets = np.zeros((3, C)), np.full(3, -100)
    assert np.isnan(peer(F.cross_entropy, scores, targets)[0])
    loss, gradient = ours("softmax_cross_entropy", scores, targets, reduction="mean")
    assert loss == 0
    assert not np.any(gradient)


def test_no_clamp_of_probabilities(ours):
    """PyTorch cuts each logarithm off at -100."""
    scores, targets = np.array([1e-60, 0.0]), np.array([1.0, 1.0])
    np.testing.assert_allclose(peer(F.binary_cross_entropy, scores, targets, reduction="none")[0], [100, 100])
    loss, gradient = ours("binary_cross_entropy", scores, targets, input="probs", reduction="none")
    np.testing.assert_allclose(np.asarray(loss, float), [-np.log(1e-60), np.inf])
    np.testing.assert_allclose(np.asarray(gradient, float), [-1e60, -np.inf])


# ---- tensors as arguments -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "mse_loss"])
def test_tensors_are_taken_as_they_are(rng, name):
    """A CPU tensor is an array: no copy, and its gradient may go over it."""
    scores = rng.normal(size=(4, 6, C)).astype(np.float32)
    targets = integer_targets(rng, (4, 6)) if name == "softmax_cross_entropy" else rng.normal(size=(4, 6, C))
    lengths, mask = np.array([6, 3, 0, 5]), rng.random((4, 6)) < 0.8
    weight = rng.random(4)
    run = getattr(fsl, name)
    options = {"mask": mask, "sample_weight": weight}
    expected = run(scores, targets, lengths, **options, return_grad=True)
    options = {key: torch.tensor(value) for key, value in options.items()}
    x, y, n = (torch.tensor(a) for a in (scores, targets, lengths))
    loss, gradient = run(x, y, n, **options, return_grad=True)
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    run(x, y, n, **options, grad_out=x.numpy())
    np.testing.assert_array_equal(x.numpy(), expected[1])


# ---- weights of steps, missing features -----------------------------------------------------


def average(losses, weight, reduction):
    """Sum, mean by weights, or the mean over sequences of their means, of losses [B, T] or [B, T, D] of PyTorch."""
    axes = tuple(range(1, losses.ndim))
    weighted, each = (weight * losses).sum(axes), weight.sum(axes)
    if reduction == "sequence_mean":
        return (weighted / each).mean()
    if reduction == "step_mean":
        axes = (0, *axes[1:])
        return (weight * losses).sum(axes) / weight.sum(axes)
    return weighted.sum() / (each.sum() if reduction == "mean" else 1)


MEANS = ("sum", "mean", "sequence_mean", "step_mean")


@pytest.mark.parametrize("reduction", MEANS)
def test_weights_of_steps(rng, reduction):
    x, y, weight = rng.normal(size=(4, 9, C)), rng.integers(0, C, (4, 9)), rng.uniform(0.1, 2, (4, 9))

    def theirs(x, y):
        return average(F.cross_entropy(x.mT, y, reduction="none"), tensor(weight), reduction)

    found = fsl.softmax_cross_entropy(x, y, reduction=reduction, sample_weight=weight, return_grad=True)
    assert_equal(found, peer(theirs, x, y))
    advantages = rng.normal(size=(4, 9))

    def policy(x, y):
        return average(F.cross_entropy(x.mT, y, reduction="none") * tensor(advantages), tensor(weight), reduction)

    options = {"reduction": reduction, "sample_weight": weight, "return_grad": True}
    assert_equal(fsl.policy_gradient_loss(x, y, advantages, **options), peer(policy, x, y))
    hidden, layer = rng.normal(size=(4, 9, 3)), rng.normal(size=(C, 3))
    loss, gradients = fsl.linear_cross_entropy(hidden, layer, y, **options)
    assert_equal((loss, gradients.hidden), peer(lambda h, w, y: theirs(h @ w.T, y), hidden, layer, y))


@pytest.mark.parametrize("reduction", MEANS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits"])
def test_missing_features(rng, name, reduction):
    x, y, weight = rng.normal(size=(4, 9, 3)), rng.random((4, 9, 3)), rng.uniform(0.1, 2, (4, 9))
    mask = rng.random((4, 9, 3)) < 0.6
    own = {"l1_loss": "mae_loss", "binary_cross_entropy_with_logits": "binary_cross_entropy"}.get(name, name)
    given = np.where(mask, x, np.nan)

    def theirs(x, y):
        kept = tensor(weight)[..., None] * tensor(mask)
        losses = getattr(F, name)(x, y, reduction="none") / (3 if reduction == "sum" else 1)
        return average(losses, kept, reduction)

    options = {"mask": mask, "sample_weight": weight, "reduction": reduction, "return_grad": True}
    assert_equal(getattr(fsl, own)(given, y, **options), peer(theirs, x, y))


@pytest.mark.parametrize("shape", [(3,), (1,), (9, 3), (9, 1), (1, 1, 3), (4, 1, 1), (4, 9, 3)])
def test_weights_of_positive_targets_of_several_axes(rng, shape):
    x, y, pos_weight, weight = (*rng.random((2, 4, 9, 3)), rng.random(shape) * 3, rng.random((4, 9, 3)))

    def theirs(x, y):
        return F.binary_cross_entropy_with_logits(x, y, tensor(weight), pos_weight=tensor(pos_weight), reduction="sum")

    found = fsl.binary_cross_entropy(
        x, y, pos_weight=pos_weight, sample_weight=weight, reduction="sum", return_grad=True
    )
    assert_equal((found[0] * 3, found[1] * 3), peer(theirs, x, y))
