"""The oracles of the transducers agree: the recursion with the enumeration and with the goldens, the gradients with
central differences."""

import numpy as np
import pytest

import transducer_goldens as goldens
from reference import transducer as reference
from reference.ctc import central_differences
from thoroughness import spread

SOLVERS = (reference.by_enumeration, reference.by_recursion)


def random_problem(seed, frames=4, count=3, classes=5):
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=2, size=(frames, count + 1, classes))
    return scores, rng.integers(1, classes, count).tolist()


@pytest.mark.parametrize("solver", SOLVERS)
def test_golden_by_hand(solver):
    loss, gradient = reference.rnnt(goldens.A, goldens.A_LABELS, solver=solver)
    assert loss == pytest.approx(goldens.A_LOSS, rel=1e-15)
    assert np.exp(-loss) == pytest.approx(17 / 160, rel=1e-15)
    np.testing.assert_allclose(gradient, goldens.A_GRADIENT, atol=1e-15)


@pytest.mark.parametrize("name", goldens.GOLDENS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_goldens(name, solver):
    golden = goldens.GOLDENS[name]
    loss, gradient = reference.rnnt(goldens.scores(golden.options), goldens.B_LABELS, **golden.options, solver=solver)
    assert loss == pytest.approx(golden.loss, rel=1e-15)
    if golden.first:
        np.testing.assert_allclose(gradient[0, 0], golden.first, atol=5.1e-9)
    if golden.size:
        assert np.abs(gradient).sum() == pytest.approx(golden.size, rel=1e-15)


def test_numbers_of_paths():
    regular = reference.TOPOLOGIES["regular"]
    for name in ("plain", "modified"):
        topology = reference.TOPOLOGIES[goldens.GOLDENS[name].options.get("topology", "regular")]
        assert sum(1 for _ in reference.paths(4, 4, topology)) == goldens.GOLDENS[name].paths
    assert sum(1 for _ in reference.paths(4, 4, reference.tdt_topology(goldens.DURATIONS))) == goldens.TDT_PATHS
    rows = reference.unpruned(goldens.scores({"ranges": goldens.RANGES}), goldens.RANGES, 4)
    inside = [p for p in reference.paths(4, 4, regular) if not any(np.isnan(rows[arc.t, arc.u, 0]) for arc in p)]
    assert len(inside) == goldens.GOLDENS["pruned"].paths


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("golden", goldens.TDT)
def test_goldens_of_tdt(golden, solver):
    found = reference.tdt(
        goldens.B,
        goldens.DURATION_LOGITS,
        goldens.B_LABELS,
        goldens.DURATIONS,
        sigma=golden.sigma,
        solver=solver,
    )
    assert found.loss == pytest.approx(golden.loss, rel=1e-15)
    np.testing.assert_allclose(found.logits[0, 0][: len(golden.first)], golden.first, atol=5.1e-9)
    assert np.abs(found.logits).sum() == pytest.approx(golden.size, rel=1e-15)
    if golden.first_durations:
        np.testing.assert_allclose(found.duration_logits[0, 0], golden.first_durations, atol=5.1e-9)
        assert np.abs(found.duration_logits).sum() == pytest.approx(golden.size_durations, rel=1e-15)


def test_golden_of_the_additive_joiner():
    loss, am, lm = reference.simple(goldens.AM, goldens.LM, goldens.B_LABELS)
    assert loss == pytest.approx(goldens.SIMPLE_LOSS, rel=1e-15)
    np.testing.assert_allclose(am[0], goldens.SIMPLE_FIRST, atol=5.1e-9)
    assert (np.abs(am).sum(), np.abs(lm).sum()) == pytest.approx(goldens.SIMPLE_SIZES, rel=1e-15)


def test_golden_posteriors():
    blank, label = reference.posteriors(goldens.B, goldens.B_LABELS)
    np.testing.assert_allclose(blank[0], goldens.B_BLANK_0, atol=5.1e-9)
    np.testing.assert_allclose(label[0], goldens.B_LABEL_0, atol=5.1e-9)
    assert reference.posteriors(goldens.A, goldens.A_LABELS)[1][0, 0] == pytest.approx(goldens.A_LABEL_AT_ONCE)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("topology", reference.TOPOLOGIES)
@pytest.mark.parametrize("blank_model", ["softmax", "hat"])
def test_recursion_matches_enumeration(seed, topology, blank_model):
    scores, labels = random_problem(seed)
    scores[1, 1, 0] = scores[2, 0, labels[0]] = -np.inf
    options = {"topology": topology, "blank_model": blank_model, "fastemit": 0.25}
    found, expected = (reference.rnnt(scores, labels, **options, solver=solver) for solver in SOLVERS)
    assert found[0] == pytest.approx(expected[0], rel=1e-14)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-14)


@pytest.mark.parametrize("topology", reference.TOPOLOGIES)
@pytest.mark.parametrize(
    ("kind", "blank_model"), [("logits", "softmax"), ("logits", "hat"), ("log_probs", "softmax"), ("probs", "softmax")]
)
def test_gradient_is_the_central_difference(topology, kind, blank_model):
    scores, labels = random_problem(5, frames=3, count=2, classes=4)
    scores = {"probs": np.exp(scores), "log_probs": scores - 3}.get(kind, scores)
    options = {"topology": topology, "kind": kind, "blank_model": blank_model}
    _, gradient = reference.rnnt(scores, labels, **options)
    numeric = central_differences(lambda x: reference.rnnt(x, labels, **options)[0], scores)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("durations", spread([(0, 1, 2), (1, 2), (0, 3), (2, 1, 0), (0, 1)], every=2))
def test_gradients_of_tdt(durations):
    rng = np.random.default_rng(2)
    scores, labels = random_problem(6, frames=6, count=2, classes=3)
    duration_logits = rng.normal(size=(6, 3, len(durations)))
    arguments = (labels, durations)
    found = reference.tdt(scores, duration_logits, *arguments, sigma=0.1)
    for a, b in zip(
        found, reference.tdt(scores, duration_logits, *arguments, sigma=0.1, solver=SOLVERS[0]), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-14)
    for name, numeric in (
        ("logits", central_differences(lambda x: reference.tdt(x, duration_logits, *arguments, sigma=0.1)[0], scores)),
        (
            "duration_logits",
            central_differences(lambda x: reference.tdt(scores, x, *arguments, sigma=0.1)[0], duration_logits),
        ),
    ):
        np.testing.assert_allclose(getattr(found, name), numeric, rtol=1e-8, atol=1e-8)


def test_derivative_of_a_zero_probability():
    """P = p00 p10 of one frame and no label; of one label y p01: a zero weight has a slope nevertheless."""
    probs = np.array([[[0.5, 0.0], [0.25, 0.25]]])
    loss, gradient = reference.rnnt(probs, [1], kind="probs")
    assert (loss, np.abs(gradient).max()) == (np.inf, 0)
    two = np.concatenate([probs, [[[0.5, 0.5], [0.5, 0.5]]]])  # the label in the second frame alone
    loss, gradient = reference.rnnt(two, [1], kind="probs")
    assert loss == pytest.approx(-np.log(0.5 * 0.5 * 0.5))
    assert gradient[0, 0, 1] == pytest.approx(-0.25 * 0.5 / 0.125)


def test_best_path():
    scores, labels = random_problem(9)
    for topology in reference.TOPOLOGIES.values():
        weights = reference.rnnt_weights(scores, labels)
        score, found = reference.best_path(weights, topology)
        assert len(found) == 1
        assert score == pytest.approx(reference.best_score(weights, topology), rel=1e-15)
