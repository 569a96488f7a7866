"""rnnt_loss: right values and gradients of every variant, whatever the scores, the threads and the batch."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastseqloss as fsl
from cases import assert_same_loss
from reference import ctc as reference_ctc
from reference import transducer as reference
from thoroughness import spread
from transducer_cases import HALF, VARIANTS, Case, cases, random_case

THREADS = st.sampled_from((1, 2, 4))
REDUCTIONS = ("none", "sum", "mean", "sequence_mean")
PRUNED = {"widths": (1, 2, 3, 4), "fastemit": (0.0, 0.25)}
SMALL = {"smallest": 1, "largest": (3, 4, 3, 4), "dtypes": (np.float64,), "scales": (0.1, 1.0, 10.0)}


def run(case, **options):
    options = {"reduction": "none", "return_grad": True} | options
    return fsl.rnnt_loss(*case.arguments, **case.options, **options)


def assert_same(actual, expected):
    """Bitwise: the same numbers, not merely close ones."""
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64))


# ---- values -------------------------------------------------------------------------------


@given(cases(), THREADS)
def test_matches_reference(level, case, threads):
    loss, gradient = run(case, num_threads=threads)
    case.check(loss, gradient)
    assert_same_loss(run(case, return_grad=False), loss)


@given(cases(**PRUNED), THREADS)
def test_pruned_matches_reference(level, case, threads):
    loss, gradient = run(case, num_threads=threads)
    case.check(loss, gradient)
    assert_same_loss(run(case, return_grad=False), loss)


@given(cases(dtypes=HALF, scales=(0.1, 1.0, 10.0), widths=(None, 2)))
def test_half_precision(level, case):
    case.check(*run(case))


@given(cases(**SMALL, widths=(None, None, 2)))
def test_matches_enumeration(level, case):
    losses, gradient = run(case)
    for b, loss in enumerate(losses):
        by_definition, slope = case.solve(b, solver=reference.by_enumeration)
        assert loss == pytest.approx(by_definition, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(gradient[b][case.inside(b)], slope, rtol=1e-12, atol=1e-12)


@given(
    cases(
        smallest=1,
        largest=(2, 4, 3, 4),
        dtypes=(np.float64,),
        scales=(0.1, 1.0),
        forbidden=(0.0,),
        fastemit=(0.0,),
        widths=(None, None, 2),
    )
)
def test_gradient_is_the_central_difference(case):
    def total(scores):
        return fsl.rnnt_loss(scores, *case.arguments[1:], **case.options, reduction="sum")

    loss, gradient = run(case, reduction="sum")
    assume(np.isfinite(loss))
    if case.kind == "probs":
        assume(case.scores[~np.isnan(case.scores)].min(initial=1) > 1e-3)
    case.scores[np.isnan(case.scores)] = 0.0
    numeric = reference_ctc.central_differences(total, case.scores, 1e-6)
    np.testing.assert_allclose(numeric, gradient, rtol=1e-6, atol=1e-6)


@given(cases(variants=VARIANTS[:4], scales=(0.1, 1.0, 10.0), fastemit=(0.1, 0.5, 2.0), dtypes=(np.float64,)))
def test_formula_of_fastemit(level, case):
    """The occupancies of the labels' arcs are multiplied; the loss is not."""
    loss, gradient = run(case)
    blank, label = fsl.rnnt_posteriors(*case.arguments, **case.lattice_options)
    case.fastemit, factor = 0.0, 1 + case.fastemit
    plain, _ = run(case)
    assert_same([loss], [plain])
    for b, own in enumerate(loss):
        if not np.isfinite(own):
            continue
        by_blank, by_label = blank[b][case.inside(b)], factor * label[b][case.inside(b)]
        classes = case.scores.shape[3]
        expected = reference._of_arcs(
            (*by_blank.shape, classes), case.tokens[b], case.blank % classes, by_blank, by_label
        )
        expected += reference._of_normalizers(case.own(b), case.blank % classes, case.blank_model, by_blank, by_label)
        np.testing.assert_allclose(gradient[b][case.inside(b)], expected.astype(float), atol=1e-11)


@given(cases(variants=VARIANTS[:4], scales=(0.1, 1.0, 10.0), fastemit=(0.0,), forbidden=(0.0, 0.1)))
def test_rows_of_the_gradient_add_up_to_nothing(level, case):
    assume(case.blank_model == "softmax")
    _, gradient = run(case)
    size = 1e-12 if case.scores.dtype == np.float64 else 2e-6
    np.testing.assert_allclose(gradient.sum(axis=-1), 0, atol=size * case.scores.shape[3])


@pytest.mark.parametrize(
    ("shape", "variant", "scale", "dtype"),
    spread(
        [(2, 50, 20, 28), (2, 12, 5, 700), (2, 120, 40, 5)],
        VARIANTS[:4],
        [1.0, 10.0],
        [np.float32, np.float64],
        every=2,
    ),
)
def test_larger_shapes(level, shape, variant, scale, dtype):
    case = random_case(np.random.default_rng(shape[1]), shape, dtype=dtype, scale=scale, variant=variant)
    case.check(*run(case, num_threads=2))


@pytest.mark.thorough
@pytest.mark.parametrize("classes", range(1, 70))
def test_every_number_of_classes(level, classes):
    """Rows shorter than a vector, and every tail of longer ones."""
    rng = np.random.default_rng(classes)
    for dtype in (np.float32, np.float64):
        for variant in VARIANTS[:4:2]:
            case = random_case(rng, (2, 5, 3, classes), dtype=dtype, scale=3.0, variant=variant, blank=-1)
            case.check(*run(case))


@pytest.mark.parametrize("probability", [0.0, 1e-300, 1e-200])
def test_derivative_with_respect_to_a_vanishing_probability(level, probability):
    """The arc of such a probability is not taken, yet opening it would change P most."""
    probs = reference_ctc.softmax(np.random.default_rng(3).normal(size=(1, 6, 4, 5))).astype(np.float64)
    probs[0, 1:4, :2, 1:3] = probability
    probs[0, 3, 2, 0] = probability
    case = Case(probs, [np.array([1, 2, 2])], np.array([6]), 0, "probs")
    case.check(*run(case))


def test_one_column_and_one_row():
    """Without labels there is one path of blanks; with one frame, one of labels and a blank."""
    rng = np.random.default_rng(0)
    for shape, tokens in (((1, 7, 1, 4), []), ((1, 1, 4, 4), [1, 2, 3])):
        scores = rng.normal(size=shape)
        log_probs = reference_ctc.log_softmax(scores)[0]
        path = log_probs[..., 0].sum() if not tokens else sum(log_probs[0, u, c] for u, c in enumerate([*tokens, 0]))
        loss = fsl.rnnt_loss(scores, [tokens], reduction="none")
        np.testing.assert_allclose(loss, -float(path), rtol=1e-14)


def test_no_frames(level):
    case = random_case(np.random.default_rng(0), (3, 0, 2, 4), full=True)
    loss, gradient = run(case)
    assert (loss == np.inf).all()
    assert gradient.shape == case.scores.shape
    assert not run(case, return_grad=False, infeasible="zero").any()


@pytest.mark.parametrize("topology", ["regular", "modified"])
def test_more_labels_than_frames(level, topology):
    """The modified topology has one label a frame at most."""
    case = random_case(np.random.default_rng(1), (2, 3, 4, 5), variant=("logits", "softmax", topology), full=True)
    loss, gradient = run(case)
    assert np.isinf(loss).all() == (topology == "modified")
    case.check(loss, gradient)


# ---- independence -------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[np.float32, np.float64], ids=["float32", "float64"])
def large(request):
    """Work enough for several threads, of every length."""
    rng = np.random.default_rng(5)
    case = random_case(rng, (9, 40, 12, 130), dtype=request.param, scale=3.0)
    case.scores[::3] *= 40
    return case


@pytest.mark.parametrize("threads", [2, 3, 4, 64, None])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_threads_do_not_change_a_bit(level, large, threads, reduction):
    expected = run(large, reduction=reduction, num_threads=1)
    assert_same(run(large, reduction=reduction, num_threads=threads), expected)


@pytest.mark.parametrize(("classes", "threads"), spread([5, 28, 130, 500], [2, 3, 4, 64], every=2))
def test_threads_of_one_sequence(level, classes, threads):
    """The dense passes of one sequence are shared out, too."""
    for dtype in (np.float32, np.float64):
        for topology in ("regular", "modified"):
            variant = ("logits", "softmax", topology)
            case = random_case(
                np.random.default_rng(classes), (1, 90, 30, classes), dtype=dtype, variant=variant, full=True
            )
            expected = run(case, num_threads=1)
            assert_same(run(case, num_threads=threads), expected)
            assert_same(
                [run(case, return_grad=False, num_threads=threads)], [run(case, return_grad=False, num_threads=1)]
            )
            over = case.scores.copy()
            fsl.rnnt_loss(
                over, *case.arguments[1:], **case.options, reduction="none", grad_out=over, num_threads=threads
            )
            assert_same([over], expected[1:])


def test_batch_mates_do_not_change_a_bit(level, large):
    losses, gradient = run(large, num_threads=2)
    for b in range(len(losses)):
        alone, slope = run(large.sequence(b))
        assert_same([alone, slope[0]], [losses[b : b + 1], gradient[b][large.inside(b)]])
        assert_same(run(large.sequence(b), num_threads=3), [alone, slope])


@given(cases(widths=(None, None, 2)))
def test_negative_blank_counts_from_the_end(case):
    loss = run(case)
    classes = case.scores.shape[3]
    case.blank = case.blank - classes if case.blank >= 0 else case.blank + classes
    assert_same(run(case), loss)


@given(cases(widths=(None, None, 3)), THREADS)
def test_gradient_over_the_input(level, case, threads):
    """grad_out may be the scores: the scores of the arcs are saved before they are overwritten."""
    loss, gradient = run(case)
    returned = run(case, grad_out=case.scores, return_grad=False, num_threads=threads)
    assert returned[1] is case.scores
    assert_same(returned, [loss, gradient])


# ---- reductions ---------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@given(case=cases(variants=VARIANTS[:5], scales=(1.0, 10.0), widths=(None, None, 2)), seed=st.integers(0, 99))
def test_reductions(reduction, weighted, case, seed):
    rng = np.random.default_rng(seed)
    weight = rng.choice([0.0, 0.25, 1.0, 3.0], len(case.lengths)) if weighted else None
    options = {"reduction": reduction, "sample_weight": weight}
    loss, gradient = run(case, **options)
    expected, slope = reference_ctc.reduce(*case.expected, case.label_lengths, reduction, weight)
    tolerance = 1e-12 if case.scores.dtype == np.float64 else 3e-6
    np.testing.assert_allclose(loss, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient, slope, atol=20 * tolerance, rtol=0)
    assert_same_loss(run(case, return_grad=False, **options), loss)


@given(cases(smallest=2, variants=VARIANTS[:1], scales=(1.0,), forbidden=(0.0,)), st.floats(0.5, 1e3))
def test_micro_batches_add_up(case, normalizer):
    """Each part of a batch divided by the whole batch's normalizer, they sum to the whole."""
    assume((case.lengths > 0).all())
    options = {"reduction": "sum", "normalizer": normalizer}
    whole, gradient = run(case, **options)
    parts = [run(case.sequence(b), **options) for b in range(len(case.lengths))]
    assert whole == pytest.approx(sum(loss for loss, _ in parts), rel=1e-13, abs=1e-13)
    for b, (_, slope) in enumerate(parts):
        np.testing.assert_allclose(slope[0], gradient[b][case.inside(b)], rtol=1e-6, atol=1e-13)
